// SPDX-License-Identifier: MIT
//
// attend_sm90: results of a query block leave through shared memory, each row where its q was: text
// by the warps that multiply, video by tensor map, by a warp that waits for all of it.
#pragma once
#include "attend_sm90.cuh"

constexpr u32 GROUP_ROWS = ROWS / GROUPS;
constexpr u32 LOGITS = ROWS / 2; // of a thread: 2 rows, a quarter of the columns

// Named barriers: the turn of group 0 and of group 1; the own rows of group 0 and of group 1.
constexpr u32 TURN = 1, OWN_ROWS = TURN + GROUPS, ALL_THREADS = GROUPS * WARP_GROUP;

// Token of a row of the query block, counted from the sample's first; false where there is none.
DEVICE bool row_token(Geometry g, const Signals &signals, const Span &span, u32 row, u32 &token)
{
    if (span.class_ == DRAFT_CLASS_TEXT) {
        token = span.first + row;
        return row < span.size;
    }
    u32 w = row % g->tile_w, line = row / g->tile_w;
    u32 h = line % g->tile_h, t = line / g->tile_h;
    token = span.first + (t * g->height + h) * g->width + w;
    return signals.masks[span.class_ * MASK_WORDS + row / 32] >> row % 32 & 1;
}

// Divide by the sums, write log-sum-exp, and leave out as elements in its tile. Zeros in rows that
// have no query: a later q may lie around them.
template <class T, u32 DIM>
DEVICE void write_rows(const draft_args &a, const Work &w, const Rows &rows, f32 (&out)[DIM / 2],
                   u32 tile, const Signals &signals)
{
    Geometry g = geometry_of(a);
    u32 first = (thread_id() - WARP_GROUP) / WARP * 16 + lane_id() / 4;
    u32 slots = g->tile_t * g->tile_h * g->tile_w;
    u32 valid = w.span.class_ == DRAFT_CLASS_TEXT ? w.span.valid : slots;
    UNROLL for (u32 half = 0; half < 2; half++)
    {
        u32 row = first + half * 8, token;
        f32 sum = rows.sum[half];
        sum += warp_shuffle_xor(sum, 1);
        sum += warp_shuffle_xor(sum, 2);
        if (row >= valid)
            sum = 0;
        if (a.lse && lane_id() % 4 == 0 && row_token(g, signals, w.span, row, token))
            global<f32>(a.lse)[(addr)w.row * g->tokens + token] = row_lse(rows.most[half], sum);
        f32 weight = sum != 0 ? 1 / sum : 0;
        UNROLL for (u32 n = 0; n < DIM / 8; n++)
        {
            f32 x = sum != 0 ? out[4 * n + 2 * half] * weight : 0;
            f32 y = sum != 0 ? out[4 * n + 2 * half + 1] * weight : 0;
            store_shared(tile + unit_place(ROWS, row, n) + lane_id() % 4 * 4, pack2<T>(x, y));
        }
    }
}

// Text, 16 bytes at a time, the rows of the warp.
template <u32 DIM> DEVICE void store_text(const draft_args &a, const Work &w, u32 tile)
{
    constexpr u32 UNITS = DIM / UNIT_COLUMNS, AT_ONCE = WARP / UNITS;
    u32 unit = lane_id() % UNITS, first = (thread_id() - WARP_GROUP) / WARP * 16;
    addr head = head_at(a.o, w.sample, a.out_batch, w.head, a.out_head);
    if (unit * UNIT_COLUMNS >= geometry_of(a)->dim)
        return;
    for (u32 row = first + lane_id() / UNITS; row < least(first + 16, w.span.size); row += AT_ONCE)
        global<Unit>(head + ((addr)w.span.first + row) * a.out_token * DRAFT_UNIT)[unit] =
            load_shared_unit(tile + unit_place(ROWS, row, unit));
}

// The warp's rows of a query block, which leave. The group's other warps are done with q.
template <class T, u32 DIM>
DEVICE void finish(const draft_args &a, const Work &w, const Rows &rows, f32 (&out)[DIM / 2],
                   u32 tile, const Signals &signals)
{
    group_barrier(OWN_ROWS + (thread_id() / WARP_GROUP - 1), WARP_GROUP);
    write_rows<T, DIM>(a, w, rows, out, tile, signals);
    if (w.span.class_ == DRAFT_CLASS_TEXT) {
        warp_barrier();
        store_text<DIM>(a, w, tile);
    }
    fence_async();
}

// Video: one thread, by tensor map; what lies outside the grid is not written.
template <u32 DIM>
DEVICE void store_video(const draft_args &a, const cuda_tensor_maps &maps, const Work &w, u32 tile)
{
    Geometry g = geometry_of(a);
    u32 j = w.block - g->prefix_blocks, row = j / g->tiles_w;
    u32 head = w.sample * maps.out_index.batch + w.head * maps.out_index.head;
    for (u32 part = 0; part < DIM / 64; part++) {
        const int at[5] = {(int)part * 64, (int)(j % g->tiles_w * g->tile_w),
                           (int)(row % g->tiles_h * g->tile_h), (int)(row / g->tiles_h * g->tile_t),
                           (int)head};
        tensor_store(maps.out, tile + part * PART_BYTES, at);
    }
    tensor_store_commit();
}

// The warp that stores, one lane of it.
template <u32 DIM>
DEVICE void store_items(const draft_args &a, const cuda_tensor_maps &maps,
                        const Tiles<DIM> &tiles, const Signals &signals)
{
    if (lane_id() != 0)
        return;
    for (u32 turn = 0;; turn++) {
        u32 place = place_of(turn);
        barrier_wait(signals.at(Q_FULL + place), place_parity(turn));
        u32 item = signals.messages[place * ITEM_WORDS + ITEM];
        if (item == NO_ITEM)
            return;
        Work w = work_of(a, item);
        barrier_wait(signals.at(OUT_FULL + place), place_parity(turn));
        if (w.span.class_ != DRAFT_CLASS_TEXT) {
            store_video<DIM>(a, maps, w, tiles.q(place));
            tensor_store_wait_read();
        }
        barrier_arrive(signals.at(Q_EMPTY + place));
    }
}
