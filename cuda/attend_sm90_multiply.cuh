// SPDX-License-Identifier: MIT
//
// attend_sm90: a warp group that multiplies, 64 rows of the query block.
//
//   logits  64 x 128 in 64 registers of each thread: rows lane / 4 and 8 below of its warp's 16
//   p       the same as pairs of elements: the left operand of p v
//   out     64 x DIM
#pragma once
#include "attend_sm90.cuh"

constexpr u32 GROUP_ROWS = ROWS / GROUPS;
constexpr u32 LOGITS = ROWS / 2; // of a thread: 2 rows, a quarter of the columns

// Named barriers: the turn of group 0 and of group 1, and the tile of out.
constexpr u32 TURN = 1, OUT = 3, ALL_THREADS = GROUPS * WARP_GROUP;

struct Rows {
    f32 most[2]; // the largest logit so far x log2 (e)
    f32 sum[2];  // of the thread's own columns
};

// ---- Softmax ------------------------------------------------------------------------------------

// Slots that count, of a key block.
DEVICE u32 mask_word(const Signals &signals, u32 info, u32 word)
{
    u32 valid = info & 255, first = word * 32;
    if (info >> 8 != DRAFT_CLASS_TEXT)
        return signals.masks[(info >> 8) * MASK_WORDS + word];
    return valid >= first + 32 ? 0xffffffffu : valid > first ? (1u << (valid - first)) - 1 : 0;
}

// Products become logits times log2 (e), rounded before anything is subtracted: huge ones that are
// equal must stay so.
DEVICE void scale_logits(f32 (&s)[LOGITS], f32 scale)
{
    UNROLL for (u32 i = 0; i < LOGITS; i++) s[i] = multiply(s[i], scale);
}

DEVICE void mask_logits(f32 (&s)[LOGITS], const Signals &signals, u32 info)
{
    UNROLL for (u32 word = 0; word < MASK_WORDS; word++)
    {
        u32 mask = mask_word(signals, info, word) >> lane_id() % 4 * 2;
        UNROLL for (u32 i = 0; i < 4; i++)
            UNROLL for (u32 e = 0; e < 4; e++)
                if (!(mask >> (8 * i + e % 2) & 1))
                    s[word * 16 + i * 4 + e] = -INFINITE;
    }
}

// One step of the running softmax: s becomes 2^(logit - most), factor what out is multiplied by.
DEVICE void softmax_step(f32 (&s)[LOGITS], Rows &rows, f32 (&factor)[2])
{
    UNROLL for (u32 half = 0; half < 2; half++)
    {
        f32 most = -INFINITE;
        UNROLL for (u32 i = 0; i < LOGITS; i += 4)
            most = fmaxf(most, fmaxf(s[i + 2 * half], s[i + 2 * half + 1]));
        most = fmaxf(most, warp_shuffle_xor(most, 1));
        most = fmaxf(most, warp_shuffle_xor(most, 2));
        f32 before = rows.most[half];
        most = fmaxf(before, most);
        f32 base = most == -INFINITE ? 0 : most; // nothing to subtract from -infinity
        f32 sum = 0;
        UNROLL for (u32 i = 0; i < LOGITS; i++)
        {
            if (i / 2 % 2 != half)
                continue;
            s[i] = exp2_fast(s[i] - base);
            sum += s[i];
        }
        factor[half] = exp2_fast(before - base);
        rows.sum[half] = fmaf(rows.sum[half], factor[half], sum);
        rows.most[half] = most;
    }
}

// ---- Steps --------------------------------------------------------------------------------------

DEVICE void release(const Signals &signals, u32 barrier)
{
    warp_barrier();
    if (lane_id() == 0)
        barrier_arrive(signals.at(barrier));
}

template <class T, u32 DIM> DEVICE void multiply_qk(f32 (&s)[LOGITS], u32 q, u32 k)
{
    UNROLL for (u32 d = 0; d < DIM / 16; d++)
    {
        u32 at = d / 4 * PART_BYTES + d % 4 * 32;
        multiply_rows<T>(s, row_matrix(q + at), row_matrix(k + at), d == 0);
    }
    products_commit();
}

template <class T, u32 DIM>
DEVICE void multiply_pv(f32 (&out)[DIM / 2], const u32 (&p)[ROWS / 16][4], u32 v)
{
    UNROLL for (u32 k = 0; k < ROWS / 16; k++)
        multiply_columns<T>(out, p[k], column_matrix(v + k * 16 * ROW_BYTES, PART_BYTES));
    products_commit();
}

template <class T> DEVICE void pack(u32 (&p)[ROWS / 16][4], const f32 (&s)[LOGITS])
{
    UNROLL for (u32 k = 0; k < ROWS / 16; k++)
        UNROLL for (u32 i = 0; i < 4; i++)
            p[k][i] = pack2<T>(s[8 * k + 2 * i], s[8 * k + 2 * i + 1]);
}

// Logits of step n are there: their k is released, they are masked and become p of the softmax.
DEVICE void softmax_of(f32 (&s)[LOGITS], Rows &rows, f32 (&factor)[2], f32 scale, u32 full_slots,
                       const Signals &signals, u32 n)
{
    u32 info = uniform(signals.messages[SPANS + stage_of(n)]);
    release(signals, K_EMPTY + stage_of(n));
    scale_logits(s, scale);
    if (info != full_slots)
        mask_logits(s, signals, info);
    softmax_step(s, rows, factor);
}

// The key blocks of one query block: steps first ... end - 1, at least one.
template <class T, u32 DIM>
DEVICE void multiply_steps(f32 (&out)[DIM / 2], Rows &rows, f32 scale, u32 full_slots,
                           const Tiles<DIM> &tiles, const Signals &signals, u32 first, u32 end)
{
    u32 group = uniform(thread_id() / WARP_GROUP) - 1, q = tiles.q() + group * GROUP_ROWS * ROW_BYTES;
    f32 s[LOGITS], factor[2];
    u32 p[ROWS / 16][4];
    barrier_wait(signals.at(K_FULL + stage_of(first)), parity_of(first));
    products_begin();
    multiply_qk<T, DIM>(s, q, tiles.k(stage_of(first)));
    products_wait<0>();
    keep(s);
    softmax_of(s, rows, factor, scale, full_slots, signals, first);
    pack<T>(p, s);
    for (u32 n = first + 1; n < end; n++) {
        barrier_wait(signals.at(K_FULL + stage_of(n)), parity_of(n));
        group_barrier(TURN + group, ALL_THREADS);
        keep(s);
        products_begin();
        multiply_qk<T, DIM>(s, q, tiles.k(stage_of(n)));
        barrier_wait(signals.at(V_FULL + stage_of(n - 1)), parity_of(n - 1));
        keep(out);
        products_begin();
        multiply_pv<T, DIM>(out, p, tiles.v(stage_of(n - 1)));
        group_arrive(TURN + (group ^ 1), ALL_THREADS);
        products_wait<1>();
        keep(s);
        softmax_of(s, rows, factor, scale, full_slots, signals, n);
        products_wait<0>();
        keep(out);
        release(signals, V_EMPTY + stage_of(n - 1));
        UNROLL for (u32 i = 0; i < DIM / 2; i++) out[i] *= factor[i / 2 % 2];
        pack<T>(p, s);
    }
    release(signals, Q_EMPTY);
    barrier_wait(signals.at(V_FULL + stage_of(end - 1)), parity_of(end - 1));
    keep(out);
    products_begin();
    multiply_pv<T, DIM>(out, p, tiles.v(stage_of(end - 1)));
    products_wait<0>();
    keep(out);
    release(signals, V_EMPTY + stage_of(end - 1));
}

// ---- Results ------------------------------------------------------------------------------------

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

// Divide by the sums, write log-sum-exp, and leave out as elements in its tile.
template <class T, u32 DIM>
DEVICE void finish(const draft_args &a, const Work &w, const Rows &rows, f32 (&out)[DIM / 2],
                   u32 tile, const Signals &signals)
{
    Geometry g = geometry_of(a);
    u32 first = (thread_id() - WARP_GROUP) / WARP * 16 + lane_id() / 4;
    UNROLL for (u32 half = 0; half < 2; half++)
    {
        u32 row = first + half * 8, token;
        f32 sum = rows.sum[half];
        sum += warp_shuffle_xor(sum, 1);
        sum += warp_shuffle_xor(sum, 2);
        if (w.span.class_ == DRAFT_CLASS_TEXT && row >= w.span.valid)
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

template <class T, u32 DIM>
DEVICE void store(const draft_args &a, const cuda_tensor_maps &maps, const Work &w,
                  const Rows &rows, f32 (&out)[DIM / 2], const Tiles<DIM> &tiles,
                  const Signals &signals)
{
    bool first = thread_id() == WARP_GROUP; // the thread that stores
    if (first)
        tensor_store_wait_read();
    group_barrier(OUT, ALL_THREADS); // the last block's out has left
    finish<T, DIM>(a, w, rows, out, tiles.out(), signals);
    if (w.span.class_ == DRAFT_CLASS_TEXT) {
        warp_barrier();
        store_text<DIM>(a, w, tiles.out());
        return;
    }
    fence_async();
    group_barrier(OUT, ALL_THREADS);
    if (first)
        store_video<DIM>(a, maps, w, tiles.out());
}

// ---- All query blocks ---------------------------------------------------------------------------

template <class T, u32 DIM>
DEVICE void multiply(const draft_args &a, const cuda_tensor_maps &maps, const Tiles<DIM> &tiles,
                     const Signals &signals)
{
    Geometry g = geometry_of(a);
    f32 scale = g->scale * LOG2_E;
    u32 group = uniform(thread_id() / WARP_GROUP) - 1, step = 0;
    u32 full_slots = g->tile_t * g->tile_h * g->tile_w; // class 0, all slots: nothing to mask
    full_slots = full_slots == ROWS ? full_slots : NO_ITEM;
    if (group == 1)
        group_arrive(TURN, ALL_THREADS); // group 0 begins
    for (u32 turn = 0;; turn++) {
        barrier_wait(signals.at(Q_FULL), turn % 2);
        u32 item = uniform(signals.messages[ITEM]), steps = uniform(signals.messages[STEPS]);
        if (item == NO_ITEM)
            break;
        Rows rows = {{-INFINITE, -INFINITE}, {0, 0}};
        f32 out[DIM / 2];
        UNROLL for (u32 i = 0; i < DIM / 2; i++) out[i] = 0;
        if (steps > 0)
            multiply_steps<T, DIM>(out, rows, scale, full_slots, tiles, signals, step,
                                   step + steps);
        else
            release(signals, Q_EMPTY);
        step += steps;
        store<T, DIM>(a, maps, work_of(a, item), rows, out, tiles, signals);
    }
    if (group == 0)
        group_barrier(TURN, ALL_THREADS); // takes the turn that is left
}
