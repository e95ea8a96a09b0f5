// SPDX-License-Identifier: MIT
//
// score_parts: what its kernels share, whatever multiplies: scores of products, and the loop. See
// score_parts.cu.
#pragma once
#include "score_parts_bring.cuh"

constexpr f32 LOG2_E = 1.44269504088896341f;

// What multiplies is a class M: 16 rows of a warp begin at row M::FIRST x its number, the others
// M::BETWEEN rows further on. It takes stages at multiples of M::ALIGNMENT bytes.
template <u32 DIM> using Queries = u32[DIM / 16][FRAGMENTS][4];
typedef f32 Products[FRAGMENTS][COLUMNS / 2];

template <u32 DIM, class M> DEVICE void read_queries(Queries<DIM> &x, u32 tile)
{
    u32 q = tile + warp_id() * M::FIRST * ROW_BYTES + fragment_place(lane_id(), true);
    UNROLL for (u32 d = 0; d < DIM / 16; d++)
        UNROLL for (u32 f = 0; f < FRAGMENTS; f++)
            load_matrices(x[d][f], column_pair(q, ROWS, d) + f * M::BETWEEN * ROW_BYTES);
}

// ---- Scores -------------------------------------------------------------------------------------

// Product and difference are one instruction, so that all are counted from the rounded largest
// logit; beyond LARGE that could take a power out of range, and logits are rounded first.
constexpr f32 LARGE = 1 << 20;

// x of a row with a key block, but for the tokens of the block: with sum = sum_a w_a e^(y_a) and
// m = sum_a w_a y_a, both counted from the largest y on, e^-g is e^m / sum, so that x is
// ln (sum - (1 - DRAFT_EXCESS_LEAST) e^m).
DEVICE f32 excess_of(f32 (&y)[DRAFT_PARTS], const f32 (&shares)[DRAFT_PARTS], f32 scale)
{
    f32 most = y[0];
    UNROLL for (u32 i = 1; i < DRAFT_PARTS; i++) most = fmaxf(most, y[i]);
    if (!(scale >= 0 && fabsf(most * scale) <= LARGE)) {
        UNROLL for (u32 i = 0; i < DRAFT_PARTS; i++)
        {
            y[i] = multiply(y[i], scale);
            most = i == 0 ? y[i] : fmaxf(most, y[i]);
        }
        scale = 1;
    }
    f32 base = multiply(most, scale), sum = 0, mean = 0;
    UNROLL for (u32 i = 0; i < DRAFT_PARTS; i++)
    {
        f32 off = fmaf(y[i], scale, -base);
        sum = fmaf(shares[i], exp2_fast(off), sum);
        mean = fmaf(shares[i], off, mean);
    }
    f32 missed = fminf(exp2_fast(mean), sum);
    return base + log2_fast(fmaf(DRAFT_EXCESS_LEAST - 1, missed, sum));
}

// Where a thread writes x of its rows: the first of them, key block 0.
DEVICE Global<f32> scores_at(const draft_args &a, const Work &w, u32 row)
{
    Geometry g = geometry_of(a);
    addr rows = (addr)w.local * g->video_blocks * DRAFT_QUARTERS + row;
    return rows_at<f32>(a, g->scratch, rows, CUDA_PARTS_PITCH(g->video_blocks));
}

// Scores of the products of a step from key block `first` on. to: of scores_at for row `row`.
template <class M>
DEVICE void write_scores(const draft_args &a, Products &s, Global<f32> to, u32 row, u32 first,
                         const Shares &shares)
{
    Geometry g = geometry_of(a);
    u32 rows = g->video_blocks * DRAFT_QUARTERS, pitch = CUDA_PARTS_PITCH(g->video_blocks);
    u32 j = first + lane_id() % KEY_BLOCKS, class_ = class_of(a, j);
    f32 scale = g->scale * LOG2_E, size = shares.size[class_], share[DRAFT_PARTS];
    UNROLL for (u32 i = 0; i < DRAFT_PARTS; i += 4)
    {
        Unit x = load_shared_unit(shared_address(shares.of + (class_ * DRAFT_PARTS + i)));
        UNROLL for (u32 k = 0; k < 4; k++) share[i + k] = float_of(x.v[k]);
    }
    UNROLL for (u32 f = 0; f < FRAGMENTS; f++)
        UNROLL for (u32 half = 0; half < 2; half++)
        {
            f32 y[DRAFT_PARTS];
            UNROLL for (u32 i = 0; i < DRAFT_PARTS; i++)
                y[i] = s[f][i / 2 * 4 + 2 * half + i % 2];
            f32 x = excess_of(y, share, scale) + size;
            u32 below = M::BETWEEN * f + 8 * half;
            if (row + below < rows && j < g->video_blocks)
                to[below * pitch + j] = x;
        }
}

template <class T, u32 DIM, class M> DEVICE void score_parts(const draft_args &a)
{
    constexpr u32 STAGE = COLUMNS * DIM * 2;
    static_assert(ROWS * DIM * 2 <= (STAGES - 1) * STAGE, "q comes to all stages but the first");
    SHARED_ARRAY(f32, of, CLASSES * DRAFT_PARTS);
    SHARED_ARRAY(f32, size, CLASSES);
    SHARED_ARRAY(u32, parts, CLASSES);
    Shares shares = {of, size, parts};
    u32 stages = shared_address(dynamic_shared<Unit>());
    stages = div_up(stages, M::ALIGNMENT) * M::ALIGNMENT;
    Geometry g = geometry_of(a);
    Work w = work_of(a);
    u32 kv_head = w.head / g->heads * g->kv_heads + w.head % g->heads / g->group;

    load_queries<DIM>(a, w, stages + STAGE);
    fill_shares(g, shares);
    block_barrier();
    load_keys<DIM>(a, kv_head, w.block, stages, parts);
    copy_commit();
    copy_wait<0>();
    M::arrived();
    block_barrier();
    Queries<DIM> q;
    read_queries<DIM, M>(q, stages + STAGE);
    block_barrier(); // q is in registers, its place is free
    if (w.block + KEY_BLOCKS < w.end)
        load_keys<DIM>(a, kv_head, w.block + KEY_BLOCKS, stages + STAGE, parts);
    copy_commit();

    u32 row = w.row + warp_id() * M::FIRST + lane_id() / 4;
    Global<f32> to = scores_at(a, w, row);
    u32 here = 0;
    for (u32 j = w.block; j < w.end; j += KEY_BLOCKS) {
        u32 free = here == 0 ? (STAGES - 1) * STAGE : here - STAGE; // all have multiplied by it
        if (j + (STAGES - 1) * KEY_BLOCKS < w.end)
            load_keys<DIM>(a, kv_head, j + (STAGES - 1) * KEY_BLOCKS, stages + free, parts);
        copy_commit();
        Products s;
        M::template multiply<T, DIM>(s, q, stages + here);
        write_scores<M>(a, s, to, row, j, shares);
        copy_wait<STAGES - 2>();
        M::arrived();
        block_barrier(); // the next step is there
        here = here == (STAGES - 1) * STAGE ? 0 : here + STAGE;
    }
}
