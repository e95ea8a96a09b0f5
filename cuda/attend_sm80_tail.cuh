// SPDX-License-Identifier: MIT
//
// attend_sm80, for plans with a tail: the steps before the first key block, KEYS pooled keys each.
// Those whose blocks are all in the list are left out. As in attend_sm80.cu, but logits and bias of
// half of the keys at a time, since registers do not suffice for all.
//
//   k(0)     | v(0)            |                    k(1) |            v(1)
//            | qk of half 0    | softmax pv | qk of half 1 | softmax pv | qk ...
#pragma once
#include "attend_sm80_tiles.cuh"
#include "attend_tail.cuh"

// The first of the next pooled keys, from key `first` on; none: S or more.
DEVICE u32 next_pooled(const draft_args &a, addr bias, u32 first)
{
    static_assert(KEYS == 2 * WARP && DRAFT_BLOCK % KEYS == 0, "rows of bias hold whole steps");
    u32 s = geometry_of(a)->video_blocks;
    for (; first < s; first += KEYS) {
        Global<const u32> row = global<const u32>(bias) + (first + lane_id());
        if (warp_ballot(((row[0] & row[WARP]) >> 31) == 0))
            break;
    }
    return first;
}

// Copies of KEYS rows of tail_k or tail_v to a tile; zeros behind the last.
template <u32 DIM>
DEVICE void load_pooled(const draft_args &a, addr tail, u32 kv_row, u32 tile, u32 first)
{
    constexpr u32 UNITS = DIM / UNIT_COLUMNS, AT_ONCE = THREADS / UNITS;
    Geometry g = geometry_of(a);
    u32 unit = thread_id() % UNITS, row = thread_id() / UNITS, s = g->video_blocks;
    u32 stride = g->dim / UNIT_COLUMNS, to = tile + unit_place(KEYS, row, unit);
    Global<const Unit> rows =
        global<const Unit>(a.workspace + tail) + (addr)kv_row * s * stride;
    UNROLL_BY_4 for (u32 i = 0; i < KEYS; i += AT_ONCE)
    {
        bool inside = unit < stride && first + row + i < s;
        copy_async(to + i * ROW_BYTES,
                   rows + (inside ? (first + row + i) * stride + unit : 0), inside);
    }
}

// Products become logits in units of log2 (e), as scale says. What is masked stays so whatever its
// product is. bias: address of that of the first key.
template <u32 n> DEVICE void add_bias(f32 (&s)[FRAGMENTS][n], f32 scale, addr bias)
{
    UNROLL for (u32 i = 0; i < n / 4; i++)
    {
        BiasPair pair = global<const BiasPair>(bias)[4 * i + lane_id() % 4];
        UNROLL for (u32 f = 0; f < FRAGMENTS; f++)
            UNROLL for (u32 e = 0; e < 4; e++)
            {
                f32 x = bias_of(pair.v[e % 2]) * LOG2_E;
                s[f][4 * i + e] = x == -INFINITE ? x : fmaf(s[f][4 * i + e], scale, x);
            }
    }
}

// q is on its way to `tile`, which those of k and v follow.
template <class T, u32 DIM>
DEVICE void attend_pooled(const draft_args &a, f32 (&out)[FRAGMENTS][DIM / 2],
                          Rows (&rows)[FRAGMENTS], addr bias, u32 kv_row, u32 tile)
{
    constexpr u32 HALF = KEYS / 2;
    u32 k_tile = tile + ROWS * DIM * 2, v_tile = k_tile + KEYS * DIM * 2;
    u32 q = tile + warp_id() * WARP_ROWS * ROW_BYTES + fragment_place(lane_id(), true);
    u32 k = k_tile + fragment_place(lane_id(), false), v = v_tile + fragment_place(lane_id(), true);
    Geometry g = geometry_of(a);
    u32 first = next_pooled(a, bias, 0), half = 0;
    if (first < g->video_blocks)
        load_pooled<DIM>(a, g->tail_k, kv_row, k_tile, first);
    copy_commit();
    copy_wait<0>();
    block_barrier();
    while (first < g->video_blocks) {
        if (half == 0)
            load_pooled<DIM>(a, g->tail_v, kv_row, v_tile, first);
        copy_commit();
        f32 s[FRAGMENTS][HALF / 2];
        u32 part = half * HALF * ROW_BYTES;
        multiply_qk<T, DIM>(s, q, k + part);
        copy_wait<0>();
        block_barrier(); // v is there; after the second half, k is free
        add_bias(s, g->scale * LOG2_E, bias + (first + half * HALF) * sizeof(f32));
        half = 1 - half;
        if (half == 0) {
            first = next_pooled(a, bias, first + KEYS);
            if (first < g->video_blocks)
                load_pooled<DIM>(a, g->tail_k, kv_row, k_tile, first);
        }
        copy_commit();
        softmax_of<DIM>(s, out, rows, 1, HALF);
        multiply_pv<T, DIM>(out, s, v + part);
        copy_wait<0>();
        block_barrier(); // the next k is there; after the second half, v is free
    }
}
