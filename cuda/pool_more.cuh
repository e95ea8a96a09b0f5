// SPDX-License-Identifier: MIT
//
// pool, for plans beyond the paper's method: parts, quarters, moments, and means in the tensors'
// type, as the plan has them.
//
//   q   mean, mean of q^2; with EXCESS by way of the parts (pool_parts.cuh), of which the quarters
//       are made
//   k   sums of the parts, of which quarters and mean are made; then once more over the block,
//       which is still in the cache: mean of (k - mean)^2, where nothing cancels
//   v   mean
#pragma once
#include "pool_parts.cuh"

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

template <class T, u32 lanes> DEVICE void pool_more(const draft_args &a)
{
    static_assert(DRAFT_PARTS >= 2 * WARPS, "room for two sums of all warps");
    SHARED_ARRAY(f32, parts, DRAFT_PARTS * Rows<lanes>::PART);
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
    addr squares = is_q ? g->moment_q : 0;
    bool by_parts = is_k || (is_q && g->parts_q);
    f32 mean = by_parts ? pool_parts<T>(a, rows, video_block(g, block), is_k, squares, parts)
                        : pool_sums<T>(a, rows, squares, parts);
    write_row(a, source.means, rows.row, mean);
    write_rounded<T>(a, is_q ? 0 : is_k ? g->tail_k : g->tail_v, rows.row, mean);
    if (is_k && g->moment_k)
        write_row(a, g->moment_k, rows.row, pool_variance<T>(rows, mean, parts));
}
