// SPDX-License-Identifier: MIT
//
// draft_softmax: logits of score, in units of ln 2, become the map. One row for each thread block,
// in registers as long as it fits; bound by memory bandwidth: read and written once, 0.05 ms for
// HunyuanVideo at 720p.
#pragma once
#include <tile.cuh>

#include "launch.h"

constexpr u32 WARPS = CUDA_SOFTMAX_THREADS / WARP;
constexpr u32 HELD = 8; // logits of a thread at a time
constexpr u32 SPAN = HELD * CUDA_SOFTMAX_THREADS;

// The part of a row from `first` on that this thread looks after.
DEVICE void load_part(f32 x[HELD], Global<const f32> row, u32 first, u32 s)
{
    UNROLL for (u32 i = 0; i < HELD; i++)
    {
        u32 j = first + i * CUDA_SOFTMAX_THREADS + thread_id();
        x[i] = -INFINITE;
        if (j < s)
            x[i] = row[j];
    }
}

DEVICE void store_part(Global<f32> row, const f32 x[HELD], u32 first, u32 s, f32 most, f32 scale)
{
    UNROLL for (u32 i = 0; i < HELD; i++)
    {
        u32 j = first + i * CUDA_SOFTMAX_THREADS + thread_id();
        if (j < s)
            row[j] = exp2_fast(x[i] - most) * scale;
    }
}

// Maximum and sum of powers of all threads from those of each.
DEVICE void reduce_all(f32 &most, f32 &sum)
{
    SHARED_ARRAY(f32, mosts, WARPS);
    SHARED_ARRAY(f32, sums, WARPS);
    f32 mine = most;
    most = warp_max(most);
    sum = warp_sum(mine > -INFINITE ? sum * exp2_fast(mine - most) : 0.0f);
    if (lane_id() == 0) {
        mosts[warp_id()] = most;
        sums[warp_id()] = sum;
    }
    block_barrier();
    UNROLL for (u32 w = 0; w < WARPS; w++)
    {
        f32 other = mosts[w];
        most = other > most ? other : most;
    }
    sum = 0;
    UNROLL for (u32 w = 0; w < WARPS; w++)
    {
        f32 other = mosts[w];
        sum += other > -INFINITE ? sums[w] * exp2_fast(other - most) : 0.0f;
    }
}

KERNEL(draft_softmax, CUDA_SOFTMAX_THREADS, 12)
{
    Geometry g = geometry_of(a);
    u32 s = g->video_blocks, rows = g->batch * g->heads * s;
    // Backwards: what was written last may still be in the cache.
    Global<f32> row = rows_at<f32>(a, g->map, rows - 1 - block_id(), s);
    f32 x[HELD], most = -INFINITE, sum = 0;
    u32 first = 0;
    for (;; first += SPAN) {
        load_part(x, row, first, s);
        f32 before = most;
        UNROLL for (u32 i = 0; i < HELD; i++) most = x[i] > most ? x[i] : most;
        if (most > -INFINITE) {
            sum *= exp2_fast(before - most);
            UNROLL for (u32 i = 0; i < HELD; i++) sum += exp2_fast(x[i] - most);
        }
        if (s - first <= SPAN)
            break;
    }
    reduce_all(most, sum);
    // Backwards: the last part is still here.
    for (;; first -= SPAN) {
        store_part(row, x, first, s, most, 1.0f / sum);
        if (first == 0)
            break;
        load_part(x, row, first - SPAN, s);
    }
}
