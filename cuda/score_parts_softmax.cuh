// SPDX-License-Identifier: MIT
//
// draft_softmax_parts: the four rows of x of a query block become one row of the map: softmax over
// the key blocks of each, and their mean, weighed by the tokens of the quarters.
//
// A thread block: one query block, in registers as long as it fits. Bound by memory bandwidth: four
// rows read, one written.
#pragma once
#include "matrices.cuh"

#include "launch.h"

constexpr u32 SOFTMAX_WARPS = CUDA_SOFTMAX_THREADS / WARP;
constexpr u32 HELD = 8; // of each row of a thread at a time
constexpr u32 SPAN = HELD * CUDA_SOFTMAX_THREADS;

typedef f32 Rows4[DRAFT_QUARTERS][HELD];

// What this thread looks after of the columns from `first` on.
DEVICE void load_rows(Rows4 &x, Global<const f32> rows, u32 first, u32 s)
{
    u32 pitch = CUDA_PARTS_PITCH(s);
    UNROLL for (u32 b = 0; b < DRAFT_QUARTERS; b++)
        UNROLL for (u32 i = 0; i < HELD; i++)
        {
            u32 j = first + i * CUDA_SOFTMAX_THREADS + thread_id();
            x[b][i] = -INFINITE;
            if (j < s)
                x[b][i] = rows[b * pitch + j];
        }
}

// Largest and sum of powers of each row.
struct Running {
    f32 most[DRAFT_QUARTERS], sum[DRAFT_QUARTERS];
};

DEVICE void add_rows(Running &r, const Rows4 &x)
{
    UNROLL for (u32 b = 0; b < DRAFT_QUARTERS; b++)
    {
        f32 before = r.most[b], most = before;
        UNROLL for (u32 i = 0; i < HELD; i++) most = fmaxf(most, x[b][i]);
        if (most > -INFINITE) {
            f32 sum = r.sum[b] * exp2_fast(before - most);
            UNROLL for (u32 i = 0; i < HELD; i++) sum += exp2_fast(x[b][i] - most);
            r.sum[b] = sum;
        }
        r.most[b] = most;
    }
}

// Those of all threads from those of each.
DEVICE void reduce_rows(Running &r)
{
    SHARED_ARRAY(f32, mosts, SOFTMAX_WARPS * DRAFT_QUARTERS);
    SHARED_ARRAY(f32, sums, SOFTMAX_WARPS * DRAFT_QUARTERS);
    UNROLL for (u32 b = 0; b < DRAFT_QUARTERS; b++)
    {
        f32 mine = r.most[b], most = warp_max(mine);
        f32 sum = warp_sum(mine > -INFINITE ? r.sum[b] * exp2_fast(mine - most) : 0.0f);
        if (lane_id() == 0) {
            mosts[warp_id() * DRAFT_QUARTERS + b] = most;
            sums[warp_id() * DRAFT_QUARTERS + b] = sum;
        }
        r.most[b] = most;
    }
    block_barrier();
    UNROLL for (u32 b = 0; b < DRAFT_QUARTERS; b++)
    {
        UNROLL for (u32 w = 0; w < SOFTMAX_WARPS; w++)
            r.most[b] = fmaxf(r.most[b], mosts[w * DRAFT_QUARTERS + b]);
        r.sum[b] = 0;
        UNROLL for (u32 w = 0; w < SOFTMAX_WARPS; w++)
        {
            f32 other = mosts[w * DRAFT_QUARTERS + b];
            r.sum[b] += other > -INFINITE
                            ? sums[w * DRAFT_QUARTERS + b] * exp2_fast(other - r.most[b])
                            : 0.0f;
        }
    }
}

// factors: share of the quarter / sum of its row.
DEVICE void store_row(Global<f32> map, const Rows4 &x, u32 first, u32 s, const Running &r,
                      const f32 (&factors)[DRAFT_QUARTERS])
{
    UNROLL for (u32 i = 0; i < HELD; i++)
    {
        u32 j = first + i * CUDA_SOFTMAX_THREADS + thread_id();
        f32 p = 0;
        UNROLL for (u32 b = 0; b < DRAFT_QUARTERS; b++)
            p += factors[b] > 0 ? exp2_fast(x[b][i] - r.most[b]) * factors[b] : 0.0f;
        if (j < s)
            map[j] = p;
    }
}

KERNEL(draft_softmax_parts, CUDA_SOFTMAX_THREADS, 6)
{
    Geometry g = geometry_of(a);
    u32 s = g->video_blocks;
    // Backwards: what was written last may still be in the cache.
    u32 row = a.step * s - 1 - block_id();
    Global<const f32> rows = rows_at<const f32>(a, g->scratch, (addr)row * DRAFT_QUARTERS,
                                                CUDA_PARTS_PITCH(s));
    Global<f32> map = rows_at<f32>(a, g->map, (addr)a.first * s + row, s);
    Rows4 x;
    Running r = {{-INFINITE, -INFINITE, -INFINITE, -INFINITE}, {}};
    u32 first = 0;
    for (;; first += SPAN) {
        load_rows(x, rows, first, s);
        add_rows(r, x);
        if (s - first <= SPAN)
            break;
    }
    reduce_rows(r);
    Block b = video_block(g, row % s);
    f32 factors[DRAFT_QUARTERS];
    UNROLL for (u32 i = 0; i < DRAFT_QUARTERS; i++)
        factors[i] = (f32)quarter_size(g, b, i) / ((f32)b.size * r.sum[i]);
    // Backwards: the last part is still here.
    for (;; first -= SPAN) {
        store_row(map, x, first, s, r, factors);
        if (first == 0)
            break;
        load_rows(x, rows, first - SPAN, s);
    }
}
