// SPDX-License-Identifier: MIT
//
// pool: the mean of each video block, for every head of q, k and v.
//
//                 LANES units of 16 bytes = one token of the head
//   slots 0 ...   | thread 0 | thread 1 | ... |        GROUPS tokens at a time, AHEAD such
//   slots 1 ...   | LANES    | LANES + 1| ... |        loads under way in each thread
//   thread block  one block of one head of one tensor: sums of each thread, then over the groups
//                 of a warp by shuffles, then over the warps in shared memory. Heads fastest: where
//                 they lie side by side, thread blocks of one time read whole pages of memory
//
// One pass over q, k and v, bound by memory bandwidth: 2.2 GB and 0.5 ms for HunyuanVideo at 720p.
// Two instructions an element (a sum takes its factor along) are far from what the multiprocessors
// can do in that time.
#include <tile.cuh>

#include "launch.h"

constexpr u32 THREADS = CUDA_POOL_THREADS;
constexpr u32 WARPS = THREADS / WARP;
constexpr u32 PER_UNIT = sizeof(Unit) / 2; // elements
constexpr u32 AHEAD = 8;

// What is added up is divided first, so that sums of the largest numbers stay finite; by a power of
// two, so that nothing is rounded.
constexpr f32 PART_OF = 1.0f / DRAFT_BLOCK;

// The mean of n numbers from the sum of PART_OF each. Infinity is but a rounding error, or a
// square.
DEVICE f32 mean_of(f32 sum, u32 n)
{
    f32 most = float_of(0x7f7fffffu), x = sum / ((f32)n * PART_OF);
    x = x > most ? most : x;
    return x < -most ? -most : x;
}

// One head of one tensor, and where its means go.
struct Source {
    addr rows, means; // token 0, means of block 0: address, offset in the workspace
    addr head;        // of all samples' heads: which
    u32 token_stride;
};

DEVICE Source source_of(const draft_args &a, Geometry g, u32 sample, u32 head)
{
    if (head < g->heads)
        return {head_at(a.q, sample, a.q_batch, head, a.q_head), g->pooled_q,
                (addr)sample * g->heads + head, a.q_token};
    head -= g->heads;
    if (head < g->kv_heads)
        return {head_at(a.k, sample, a.k_batch, head, a.k_head), g->pooled_k,
                (addr)sample * g->kv_heads + head, a.k_token};
    head -= g->kv_heads;
    return {head_at(a.v, sample, a.v_batch, head, a.v_head), g->pooled_v,
            (addr)sample * g->kv_heads + head, a.v_token};
}

template <class T> DEVICE void add_unit(f32 sum[PER_UNIT], const Unit &x)
{
    UNROLL for (u32 i = 0; i < PER_UNIT / 2; i++)
    {
        sum[2 * i] += first_of<T>(x.v[i]) * PART_OF;
        sum[2 * i + 1] += second_of<T>(x.v[i]) * PART_OF;
    }
}

// The slots group, group + groups, ... of a block: unit `lane` of each, added up.
template <class T, u32 groups>
DEVICE void add_slots(f32 sum[PER_UNIT], Global<const Unit> rows, u32 stride,
                      Global<const u32> tokens, u32 size, u32 group, u32 lane)
{
    for (u32 first = group; first < size; first += groups * AHEAD) {
        Unit x[AHEAD];
        UNROLL for (u32 k = 0; k < AHEAD; k++)
        {
            u32 slot = first + k * groups;
            x[k] = Unit{{0, 0, 0, 0}};
            if (slot < size) // a block spans fewer than 2^31 units
                x[k] = load_unit(rows + (tokens[slot] * stride + lane));
        }
        UNROLL for (u32 k = 0; k < AHEAD; k++) add_unit<T>(sum, x[k]);
    }
}

// lanes: units of the longest row.
template <class T, u32 lanes> DEVICE void pool(const draft_args &a)
{
    // Element i of unit l of a warp's sums: i x PITCH + l. Neither side has bank conflicts.
    constexpr u32 PITCH = lanes + 4, PART = PER_UNIT * PITCH;
    SHARED_ARRAY(f32, parts, WARPS * PART);
    Geometry g = geometry_of(a);
    u32 id = thread_id(), lane = id % lanes, tensor_heads = g->heads + 2 * g->kv_heads;
    u32 row = block_id() / tensor_heads, block = row % g->video_blocks;
    Source source = source_of(a, g, row / g->video_blocks, block_id() % tensor_heads);
    draft_span span = span_of(a, g->prefix_blocks + block);
    u32 size = span.info & 0xff;
    Global<const u32> tokens = offsets_of(a) + (span.info >> 8) * DRAFT_BLOCK;
    Global<const Unit> rows =
        global<const Unit>(source.rows) + (addr)span.first * source.token_stride;
    f32 sum[PER_UNIT] = {};
    if (lane * PER_UNIT < g->dim)
        add_slots<T, THREADS / lanes>(sum, rows, source.token_stride, tokens, size, id / lanes,
                                      lane);
    UNROLL for (u32 i = 0; i < PER_UNIT; i++)
    {
        UNROLL for (u32 mask = lanes; mask < WARP; mask *= 2) sum[i] +=
            warp_shuffle_xor(sum[i], mask);
        if (lane_id() < lanes)
            parts[warp_id() * PART + i * PITCH + lane] = sum[i];
    }
    block_barrier();
    if (id >= g->dim)
        return;
    f32 all = 0;
    UNROLL for (u32 w = 0; w < WARPS; w++) all +=
        parts[w * PART + id % PER_UNIT * PITCH + id / PER_UNIT];
    Global<f32> means =
        rows_at<f32>(a, source.means, source.head * g->video_blocks + block, g->dim);
    means[id] = mean_of(all, size);
}

#include "pool_more.cuh" // draft_pool_more_*: with what plans beyond the paper's method have

KERNEL(draft_pool_f16_64, CUDA_POOL_THREADS, 8)
{
    pool<F16, 64 / PER_UNIT>(a);
}

KERNEL(draft_pool_f16_128, CUDA_POOL_THREADS, 8)
{
    pool<F16, 128 / PER_UNIT>(a);
}

KERNEL(draft_pool_bf16_64, CUDA_POOL_THREADS, 8)
{
    pool<BF16, 64 / PER_UNIT>(a);
}

KERNEL(draft_pool_bf16_128, CUDA_POOL_THREADS, 8)
{
    pool<BF16, 128 / PER_UNIT>(a);
}

KERNEL(draft_pool_more_f16_64, CUDA_POOL_THREADS, 4)
{
    pool_more<F16, 64 / PER_UNIT>(a);
}

KERNEL(draft_pool_more_f16_128, CUDA_POOL_THREADS, 4)
{
    pool_more<F16, 128 / PER_UNIT>(a);
}

KERNEL(draft_pool_more_bf16_64, CUDA_POOL_THREADS, 4)
{
    pool_more<BF16, 64 / PER_UNIT>(a);
}

KERNEL(draft_pool_more_bf16_128, CUDA_POOL_THREADS, 4)
{
    pool_more<BF16, 128 / PER_UNIT>(a);
}
