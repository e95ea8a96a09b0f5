// SPDX-License-Identifier: MIT
//
// pool, for plans beyond the paper's method: quarters, moments, and means in the tensors' type, as
// the plan has them. Threads and sums as in pool.cu:
//
//   q   mean, mean of q^2
//   k   sums of the quarters, of which the mean is made; then once more over the block, which is
//       still in the cache: mean of (k - mean)^2, where nothing cancels
//   v   mean
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

// The mean of q or v, and where `squares` is an array that of the squares.
template <class T, u32 lanes>
DEVICE f32 pool_sums(const draft_args &a, const Rows<lanes> &rows, addr squares, Shared<f32> parts)
{
    f32 sum[PER_UNIT] = {}, square[PER_UNIT] = {};
    each_slot<T>(rows, [&](u32, const f32(&x)[PER_UNIT]) {
        UNROLL for (u32 i = 0; i < PER_UNIT; i++)
        {
            sum[i] += x[i] * PART_OF;
            square[i] += x[i] * PART_OF * x[i];
        }
    });
    f32 mean = mean_of(total_of<lanes>(sum, parts), rows.size);
    if (squares)
        write_row(a, squares, rows.row,
                  mean_of(total_of<lanes>(square, parts + WARPS * rows.PART), rows.size));
    return mean;
}

// The mean of k by way of the quarters, where the plan has them.
template <class T, u32 lanes>
DEVICE f32 pool_quarters(const draft_args &a, const Rows<lanes> &rows, const Block &b,
                         Shared<f32> parts)
{
    SHARED_ARRAY(u32, quarters, DRAFT_BLOCK); // of the slots
    Geometry g = geometry_of(a);
    for (u32 slot = thread_id(); slot < b.size; slot += THREADS)
        quarters[slot] = g->quarters ? quarter_of(g, b, slot) : 0;
    block_barrier();
    f32 sums[DRAFT_QUARTERS][PER_UNIT] = {}, all = 0;
    each_slot<T>(rows, [&](u32 slot, const f32(&x)[PER_UNIT]) {
        u32 mine = quarters[slot];
        UNROLL for (u32 quarter = 0; quarter < DRAFT_QUARTERS; quarter++)
            UNROLL for (u32 i = 0; i < PER_UNIT; i++)
                sums[quarter][i] += mine == quarter ? x[i] * PART_OF : 0.0f;
    });
    UNROLL for (u32 quarter = 0; quarter < DRAFT_QUARTERS; quarter++)
    {
        f32 sum = total_of<lanes>(sums[quarter], parts + quarter * WARPS * rows.PART);
        u32 size = quarter_size(g, b, quarter);
        all += sum;
        if (g->quarters)
            write_row(a, g->quarters, rows.row * DRAFT_QUARTERS + quarter,
                      size > 0 ? mean_of(sum, size) : 0.0f);
    }
    return mean_of(all, b.size);
}

// The mean of (k - mean)^2. mean: of element thread_id().
template <class T, u32 lanes>
DEVICE f32 pool_variance(const Rows<lanes> &rows, f32 mean, Shared<f32> parts)
{
    SHARED_ARRAY(f32, means, lanes * PER_UNIT);
    if (thread_id() < lanes * PER_UNIT)
        means[thread_id()] = mean;
    block_barrier();
    f32 middle[PER_UNIT], sum[PER_UNIT] = {};
    UNROLL for (u32 i = 0; i < PER_UNIT; i++) middle[i] =
        means[thread_id() % lanes * PER_UNIT + i];
    each_slot<T>(rows, [&](u32, const f32(&x)[PER_UNIT]) {
        UNROLL for (u32 i = 0; i < PER_UNIT; i++)
        {
            f32 off = x[i] - middle[i];
            sum[i] += off * PART_OF * off;
        }
    });
    return mean_of(total_of<lanes>(sum, parts), rows.size);
}

// The mean in the type of the tensors.
template <class T> DEVICE void write_tail(const draft_args &a, addr tail, addr row, f32 mean)
{
    u32 dim = geometry_of(a)->dim, id = thread_id();
    f32 next = warp_shuffle_xor(mean, 1);
    if (tail && id < dim && id % 2 == 0)
        rows_at<u32>(a, tail, row, dim / 2)[id / 2] = pack2<T>(mean, next);
}

template <class T, u32 lanes> DEVICE void pool_more(const draft_args &a)
{
    SHARED_ARRAY(f32, parts, DRAFT_QUARTERS * WARPS * Rows<lanes>::PART);
    Geometry g = geometry_of(a);
    u32 tensor_heads = g->heads + 2 * g->kv_heads, head = block_id() % tensor_heads;
    u32 block = block_id() / tensor_heads % g->video_blocks;
    Source source = source_of(a, g, block_id() / tensor_heads / g->video_blocks, head);
    bool is_q = head < g->heads, is_k = !is_q && head < g->heads + g->kv_heads;
    draft_span span = span_of(a, g->prefix_blocks + block);
    Rows<lanes> rows = {global<const Unit>(source.rows) + (addr)span.first * source.token_stride,
                        offsets_of(a) + (span.info >> 8) * DRAFT_BLOCK,
                        source.token_stride,
                        span.info & 0xff,
                        thread_id() % lanes * PER_UNIT < g->dim,
                        source.head * g->video_blocks + block};
    f32 mean = is_k ? pool_quarters<T>(a, rows, video_block(g, block), parts)
                    : pool_sums<T>(a, rows, is_q ? g->moment_q : 0, parts);
    write_row(a, source.means, rows.row, mean);
    write_tail<T>(a, is_q ? 0 : is_k ? g->tail_k : g->tail_v, rows.row, mean);
    if (is_k && g->moment_k)
        write_row(a, g->moment_k, rows.row, pool_variance<T>(rows, mean, parts));
}
