// SPDX-License-Identifier: MIT
//
// attend_sm80: results of a query block leave through shared memory.
#pragma once
#include "attend_sm80_tiles.cuh"

// Divide by the sums, write log-sum-exp, and leave out as elements in the tile at `tile`, in rows
// that belong to this warp alone.
template <class T, u32 DIM>
DEVICE void finish(const draft_args &a, const Work &w, const Rows (&rows)[FRAGMENTS],
                   const f32 (&out)[FRAGMENTS][DIM / 2], u32 tile, Shared<u32> offsets)
{
    addr lse = a.lse + ((addr)w.row * geometry_of(a)->tokens + w.span.first) * sizeof(f32);
    UNROLL for (u32 f = 0; f < FRAGMENTS; f++)
        UNROLL for (u32 half = 0; half < 2; half++)
        {
            u32 row = warp_id() * WARP_ROWS + f * 16 + half * 8 + lane_id() / 4;
            f32 sum = rows[f].sum[half];
            sum += warp_shuffle_xor(sum, 1);
            sum += warp_shuffle_xor(sum, 2);
            sum = row < w.span.valid ? sum : 0;
            if (a.lse && row < w.span.size && lane_id() % 4 == 0)
                global<f32>(lse)[offsets[row]] = row_lse(rows[f].most[half], sum);
            f32 weight = sum != 0 ? 1 / sum : 0;
            UNROLL for (u32 n = 0; n < DIM / 8; n++)
            {
                f32 x = sum != 0 ? out[f][4 * n + 2 * half] * weight : 0;
                f32 y = sum != 0 ? out[f][4 * n + 2 * half + 1] * weight : 0;
                store_shared(tile + unit_place(ROWS, row, n) + lane_id() % 4 * 4, pack2<T>(x, y));
            }
        }
}

// From the tile to memory, 16 bytes at a time.
template <u32 DIM>
DEVICE void store_out(const draft_args &a, const Work &w, u32 tile, Shared<u32> offsets)
{
    constexpr u32 UNITS = DIM / UNIT_COLUMNS, AT_ONCE = WARP / UNITS;
    u32 unit = lane_id() % UNITS, dim = geometry_of(a)->dim;
    addr head = head_at(a.o, w.sample, a.out_batch, w.head, a.out_head);
    addr first = head + (addr)w.span.first * a.out_token * DRAFT_UNIT;
    UNROLL for (u32 i = 0; i < WARP_ROWS; i += AT_ONCE)
    {
        u32 row = warp_id() * WARP_ROWS + i + lane_id() / UNITS;
        if (row < w.span.size && unit * UNIT_COLUMNS < dim)
            global<Unit>(first + (addr)(offsets[row] * a.out_token) * DRAFT_UNIT)[unit] =
                load_shared_unit(tile + unit_place(ROWS, row, unit));
    }
}
