// SPDX-License-Identifier: MIT
//
// pool, for plans beyond the paper's method: how threads share the rows of a block, and what they
// write. See pool_more.cuh.
#pragma once
#include <tile.cuh>

#include "launch.h"

constexpr u32 MORE_AHEAD = 4;

// A block of one head of a tensor, as the threads of a thread block share it.
template <u32 lanes> struct Rows {
    static constexpr u32 GROUPS = THREADS / lanes, PITCH = lanes + 4, PART = PER_UNIT * PITCH;
    Global<const Unit> first;
    Global<const u32> tokens;
    u32 stride, size;
    bool inside; // this thread's unit is part of the rows
    addr row;    // of the means
};

// Calls use(slot, elements) for the slots of this thread.
template <class T, u32 lanes, class Use> DEVICE void each_slot(const Rows<lanes> &rows, Use use)
{
    constexpr u32 GROUPS = Rows<lanes>::GROUPS;
    if (!rows.inside)
        return;
    for (u32 first = thread_id() / lanes; first < rows.size; first += GROUPS * MORE_AHEAD) {
        Unit x[MORE_AHEAD];
        UNROLL for (u32 k = 0; k < MORE_AHEAD; k++)
        {
            u32 slot = first + k * GROUPS;
            x[k] = Unit{{0, 0, 0, 0}};
            if (slot < rows.size)
                x[k] = load_unit(rows.first +
                                 (rows.tokens[slot] * rows.stride + thread_id() % lanes));
        }
        UNROLL for (u32 k = 0; k < MORE_AHEAD; k++)
        {
            f32 y[PER_UNIT];
            UNROLL for (u32 i = 0; i < PER_UNIT; i += 2)
            {
                y[i] = first_of<T>(x[k].v[i / 2]);
                y[i + 1] = second_of<T>(x[k].v[i / 2]);
            }
            if (first + k * GROUPS < rows.size)
                use(first + k * GROUPS, y);
        }
    }
}

// Sums of all threads: thread i gets that of element i, those behind the last get any. Between this
// and the next call with the same `parts` there must be a barrier.
template <u32 lanes> DEVICE f32 total_of(f32 (&sum)[PER_UNIT], Shared<f32> parts)
{
    constexpr u32 PITCH = Rows<lanes>::PITCH, PART = Rows<lanes>::PART;
    UNROLL for (u32 i = 0; i < PER_UNIT; i++)
    {
        UNROLL for (u32 mask = lanes; mask < WARP; mask *= 2) sum[i] +=
            warp_shuffle_xor(sum[i], mask);
        if (lane_id() < lanes)
            parts[warp_id() * PART + i * PITCH + lane_id()] = sum[i];
    }
    block_barrier();
    u32 id = thread_id() % (lanes * PER_UNIT);
    f32 all = 0;
    UNROLL for (u32 w = 0; w < WARPS; w++) all +=
        parts[w * PART + id % PER_UNIT * PITCH + id / PER_UNIT];
    return all;
}

// Element i of a row by thread i.
DEVICE void write_row(const draft_args &a, addr array, addr row, f32 x)
{
    u32 dim = geometry_of(a)->dim;
    if (thread_id() < dim)
        rows_at<f32>(a, array, row, dim)[thread_id()] = x;
}

// The same, in the type of the tensors; nothing where the plan has no such array. All threads come.
template <class T> DEVICE void write_rounded(const draft_args &a, addr array, addr row, f32 mean)
{
    u32 dim = geometry_of(a)->dim, id = thread_id();
    f32 next = warp_shuffle_xor(mean, 1);
    if (array && id < dim && id % 2 == 0)
        rows_at<u32>(a, array, row, dim / 2)[id / 2] = pack2<T>(mean, next);
}

template <class T> DEVICE void add_squares(f32 (&sum)[PER_UNIT], const Unit &x)
{
    UNROLL for (u32 i = 0; i < PER_UNIT / 2; i++)
    {
        f32 first = first_of<T>(x.v[i]), second = second_of<T>(x.v[i]);
        sum[2 * i] += first * PART_OF * first;
        sum[2 * i + 1] += second * PART_OF * second;
    }
}
