// SPDX-License-Identifier: MIT
//
// score, for scorer EXCESS: what the parts of k say that their mean would miss; draft/draft.h and
// kernel_abi.h have the formula. Logits and scores are in units of ln 2.
//
// draft_score_parts, x of the quarters of query blocks with key blocks, to scratch:
//
//   thread block   ROWS quarters of q of one head, 4 warps of 32 each; STEPS steps
//   step           KEY_BLOCKS key blocks, which are COLUMNS parts of k
//   registers      q of the warp's rows, and the products of a step: 32 x COLUMNS, in f32
//   shared memory  STAGES steps of k: one in use, two on their way
//
// The parts of the four key blocks of a step lie interleaved, two at a time:
//
//   row 8 f + 2 n + c of a stage: part 2 f + c of key block n
//
// Of any 8 columns of a product thread n of a quad gets 2 n and 2 n + 1: so it has all that belongs
// to key block n, and the threads have nothing to exchange.
//
// A part that holds no tokens counts with weight 0, and has the mean of part 0, which always holds
// some: so it does not change which is the largest either.
//
// 128 x S^2 x dim flops a head, bound by the matrix units, and not far from that by the units of
// special functions: 64 x S^2 powers of 2. Heads come in portions, since x takes 16 S^2 bytes each.
#include "score_parts.cuh"
#include "score_parts_softmax.cuh"

// mma.m16n8k16.
struct WarpMatrices {
    static constexpr u32 FIRST = WARP_ROWS, BETWEEN = 16, ALIGNMENT = ROW_BYTES;

    static DEVICE void arrived() {}

    template <class T, u32 DIM>
    static DEVICE void multiply(Products &s, const Queries<DIM> &x, u32 stage)
    {
        u32 k = stage + fragment_place(lane_id(), false);
        UNROLL for (u32 f = 0; f < FRAGMENTS; f++)
            UNROLL for (u32 i = 0; i < COLUMNS / 2; i++) s[f][i] = 0;
        UNROLL for (u32 d = 0; d < DIM / 16; d++)
            UNROLL for (u32 i = 0; i < COLUMNS / 8; i += 2)
            {
                u32 y[4];
                load_matrices(y, column_pair(k, COLUMNS, d) + i * 8 * ROW_BYTES);
                multiply_add_pairs<T>(s, 4 * i, x[d], y);
            }
    }
};

KERNEL(draft_score_parts_f16_64, CUDA_PARTS_THREADS, 4)
{
    score_parts<F16, 64, WarpMatrices>(a);
}

KERNEL(draft_score_parts_f16_128, CUDA_PARTS_THREADS, 3)
{
    score_parts<F16, 128, WarpMatrices>(a);
}

KERNEL(draft_score_parts_bf16_64, CUDA_PARTS_THREADS, 4)
{
    score_parts<BF16, 64, WarpMatrices>(a);
}

KERNEL(draft_score_parts_bf16_128, CUDA_PARTS_THREADS, 3)
{
    score_parts<BF16, 128, WarpMatrices>(a);
}
