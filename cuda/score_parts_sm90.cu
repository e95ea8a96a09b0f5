// SPDX-License-Identifier: MIT
//
// score_parts for sm_90a: as in score_parts.cu, multiplied by wgmma. The thread block is one warp
// group, whose rows of q stay in registers, 64 and 64; parts of k are taken from where they lie.
//
// Bound by powers of 2 and by issued instructions alike, with the matrix units close behind.
#include <ptx_sm90.cuh>

#include "score_parts.cuh"

// wgmma.m64n64k16.
struct GroupMatrices {
    static constexpr u32 FIRST = 16, BETWEEN = 64, ALIGNMENT = 8 * ROW_BYTES;
    static_assert(THREADS == WARP_GROUP && COLUMNS == 64, "one warp group, 64 columns");

    // What this thread has copied becomes visible to the matrix units.
    static DEVICE void arrived()
    {
        fence_async();
    }

    template <class T, u32 DIM>
    static DEVICE void multiply(Products &s, const Queries<DIM> &x, u32 stage)
    {
        u64 k = row_matrix(uniform(stage));
        products_begin();
        UNROLL for (u32 d = 0; d < DIM / 16; d++)
        {
            u32 bytes = d / 4 * COLUMNS * ROW_BYTES + d % 4 * 32;
            UNROLL for (u32 f = 0; f < FRAGMENTS; f++)
                multiply_rows<T>(s[f], x[d][f], matrix_at(k, bytes), d == 0);
        }
        products_commit();
        products_wait<0>();
        UNROLL for (u32 f = 0; f < FRAGMENTS; f++) keep(s[f]);
    }
};

KERNEL(draft_score_parts90_f16_64, CUDA_PARTS_THREADS, 4)
{
    score_parts<F16, 64, GroupMatrices>(a);
}

KERNEL(draft_score_parts90_f16_128, CUDA_PARTS_THREADS, 3)
{
    score_parts<F16, 128, GroupMatrices>(a);
}

KERNEL(draft_score_parts90_bf16_64, CUDA_PARTS_THREADS, 4)
{
    score_parts<BF16, 64, GroupMatrices>(a);
}

KERNEL(draft_score_parts90_bf16_128, CUDA_PARTS_THREADS, 3)
{
    score_parts<BF16, 128, GroupMatrices>(a);
}
