// SPDX-License-Identifier: MIT
//
// attend_sm90: a warp group that multiplies, 64 rows of the query block.
//
//   logits  64 x 128 in 64 registers of each thread: rows lane / 4 and 8 below of its warp's 16
//   p       the same as pairs of elements: the left operand of p v
//   out     64 x DIM
#pragma once
#include "attend_sm90_store.cuh"

// ---- Softmax ------------------------------------------------------------------------------------

// Slots that count, of a key block.
DEVICE u32 mask_word(const Signals &signals, u32 info, u32 word)
{
    u32 valid = info & 255, first = word * 32;
    if (info >> 8 != DRAFT_CLASS_TEXT)
        return signals.masks[(info >> 8) * MASK_WORDS + word];
    return valid >= first + 32 ? 0xffffffffu : valid > first ? (1u << (valid - first)) - 1 : 0;
}

DEVICE void mask_logits(f32 (&s)[LOGITS], const Signals &signals, u32 info)
{
    UNROLL for (u32 word = 0; word < MASK_WORDS; word++)
    {
        u32 mask = uniform(mask_word(signals, info, word));
        if (mask == 0xffffffffu)
            continue;
        mask >>= lane_id() % 4 * 2;
        UNROLL for (u32 i = 0; i < 4; i++)
            UNROLL for (u32 e = 0; e < 4; e++)
                if (!(mask >> (8 * i + e % 2) & 1))
                    s[word * 16 + i * 4 + e] = -INFINITE;
    }
}

// ---- Steps --------------------------------------------------------------------------------------

// The operands in shared memory, in uniform registers, which products take them from.
template <u32 DIM> DEVICE u64 k_matrix(const Tiles<DIM> &tiles, u32 n)
{
    return row_matrix(uniform(tiles.k(stage_of<DIM>(n))));
}

template <u32 DIM> DEVICE u64 v_matrix(const Tiles<DIM> &tiles, u32 n)
{
    return column_matrix(uniform(tiles.v(stage_of<DIM>(n))), PART_BYTES);
}

template <class T, u32 DIM> DEVICE void multiply_qk(f32 (&s)[LOGITS], u64 q, u64 k)
{
    UNROLL for (u32 d = 0; d < DIM / 16; d++)
    {
        u32 bytes = d / 4 * PART_BYTES + d % 4 * 32;
        multiply_rows<T>(s, matrix_at(q, bytes), matrix_at(k, bytes), d == 0);
    }
    products_commit();
}

template <class T, u32 DIM>
DEVICE void multiply_pv(f32 (&out)[DIM / 2], const u32 (&p)[ROWS / 16][4], u64 v)
{
    UNROLL for (u32 k = 0; k < ROWS / 16; k++)
        multiply_columns<T>(out, p[k], matrix_at(v, k * 16 * ROW_BYTES));
    products_commit();
}

template <class T> DEVICE void pack(u32 (&p)[ROWS / 16][4], const f32 (&s)[LOGITS])
{
    UNROLL for (u32 k = 0; k < ROWS / 16; k++)
        UNROLL for (u32 i = 0; i < 4; i++)
            p[k][i] = pack2<T>(s[8 * k + 2 * i], s[8 * k + 2 * i + 1]);
}

// Logits of step n are there: their k is released, they are masked and become p of the softmax.
template <bool BIASED, u32 DIM>
DEVICE void softmax_of(f32 (&s)[LOGITS], Rows &rows, f32 (&factor)[2], f32 scale, u32 full_slots,
                       const Signals &signals, u32 n)
{
    u32 info = uniform(signals.messages[SPANS + stage_of<DIM>(n)]);
    if (BIASED) {
        add_bias(s, scale, signals.biases + stage_of<DIM>(n) * BIAS_PAIRS);
        scale = 1;
    }
    release(signals, K_EMPTY + stage_of<DIM>(n));
    if (scale < 0)
        scale_logits(s, scale);
    if (!BIASED && info != full_slots)
        mask_logits(s, signals, info);
    softmax_step(s, rows, scale < 0 ? 1 : scale, factor);
}

// p v of the step before is there, multiplied by the factors of this one; most are 1 in all rows of
// a warp. Waiting in both branches, since ptxas moves a wait to the start of straight code: there,
// before the powers of the softmax, which shall run under the product.
template <u32 DIM> DEVICE void finish_pv(f32 (&out)[DIM / 2], const f32 (&factor)[2])
{
    if (warp_ballot(factor[0] != 1 || factor[1] != 1)) {
        products_wait<0>();
        keep(out);
        UNROLL for (u32 i = 0; i < DIM / 2; i++) out[i] *= factor[i / 2 % 2];
    } else {
        products_wait<0>();
        keep(out);
    }
}

// What the steps of one query block share.
template <u32 DIM> struct Steps {
    const Tiles<DIM> &tiles;
    const Signals &signals;
    f32 scale;
    u32 full_slots, group;
    u64 q; // matrix
};

// The first step: p, and the softmax begins.
template <class T, bool BIASED, u32 DIM>
DEVICE void first_step(u32 (&p)[ROWS / 16][4], Rows &rows, const Steps<DIM> &x, u32 n)
{
    f32 s[LOGITS], factor[2];
    u64 k = k_matrix(x.tiles, n);
    barrier_wait(x.signals.at(K_FULL + stage_of<DIM>(n)), parity_of<DIM>(n));
    products_begin();
    multiply_qk<T, DIM>(s, x.q, k);
    products_wait<0>();
    keep(s);
    softmax_of<BIASED, DIM>(s, rows, factor, x.scale, x.full_slots, x.signals, n);
    pack<T>(p, s);
}

// Steps n ... end - 1, each with the p v of the step before.
template <class T, bool BIASED, u32 DIM>
DEVICE void more_steps(f32 (&out)[DIM / 2], u32 (&p)[ROWS / 16][4], Rows &rows,
                       const Steps<DIM> &x, u32 n, u32 end)
{
    f32 s[LOGITS], factor[2];
    for (; n < end; n++) {
        u64 k = k_matrix(x.tiles, n), v = v_matrix(x.tiles, n - 1);
        barrier_wait(x.signals.at(K_FULL + stage_of<DIM>(n)), parity_of<DIM>(n));
        group_barrier(TURN + x.group, ALL_THREADS);
        keep(s);
        products_begin();
        multiply_qk<T, DIM>(s, x.q, k);
        barrier_wait(x.signals.at(V_FULL + stage_of<DIM>(n - 1)), parity_of<DIM>(n - 1));
        keep(out);
        products_begin();
        multiply_pv<T, DIM>(out, p, v);
        group_arrive(TURN + (x.group ^ 1), ALL_THREADS);
        products_wait<1>();
        keep(s);
        softmax_of<BIASED, DIM>(s, rows, factor, x.scale, x.full_slots, x.signals, n);
        keep(s);
        finish_pv<DIM>(out, factor);
        release(x.signals, V_EMPTY + stage_of<DIM>(n - 1));
        pack<T>(p, s);
    }
}

// The key blocks of one query block: steps first ... end - 1, at least one, and of those the first
// `pooled` ones of pooled keys.
template <class T, u32 DIM, bool TAIL>
DEVICE void multiply_steps(f32 (&out)[DIM / 2], Rows &rows, f32 scale, u32 full_slots,
                           const Tiles<DIM> &tiles, const Signals &signals, u32 q, u32 first,
                           u32 end, u32 pooled)
{
    u32 group = uniform(thread_id() / WARP_GROUP) - 1, n = first + 1;
    Steps<DIM> x = {tiles, signals, scale, full_slots, group,
                    row_matrix(uniform(q + group * GROUP_ROWS * ROW_BYTES))};
    u32 p[ROWS / 16][4];
    if (TAIL && pooled > 0) {
        first_step<T, true>(p, rows, x, first);
        more_steps<T, true>(out, p, rows, x, n, first + pooled);
        n = first + pooled;
    } else {
        first_step<T, false>(p, rows, x, first);
    }
    more_steps<T, false>(out, p, rows, x, n, end);
    u64 v = v_matrix(tiles, end - 1);
    barrier_wait(signals.at(V_FULL + stage_of<DIM>(end - 1)), parity_of<DIM>(end - 1));
    keep(out);
    products_begin();
    multiply_pv<T, DIM>(out, p, v);
    products_wait<0>();
    keep(out);
    release(signals, V_EMPTY + stage_of<DIM>(end - 1));
}

// ---- All query blocks ---------------------------------------------------------------------------

template <class T, u32 DIM, bool TAIL>
DEVICE void multiply(const draft_args &a, const Tiles<DIM> &tiles, const Signals &signals)
{
    Geometry g = geometry_of(a);
    f32 scale = g->scale * LOG2_E;
    u32 group = uniform(thread_id() / WARP_GROUP) - 1, step = 0;
    u32 full_slots = g->tile_t * g->tile_h * g->tile_w; // class 0, all slots: nothing to mask
    full_slots = full_slots == ROWS ? full_slots : NO_ITEM;
    if (group == 1)
        group_arrive(TURN, ALL_THREADS); // group 0 begins
    for (u32 turn = 0;; turn++) {
        u32 place = place_of(turn), q = tiles.q(place);
        Shared<u32> message = signals.messages + place * ITEM_WORDS;
        barrier_wait(signals.at(Q_FULL + place), place_parity(turn));
        u32 item = uniform(message[ITEM]), steps = uniform(message[STEPS]);
        u32 pooled = TAIL ? uniform(message[POOLED_STEPS]) : 0;
        if (item == NO_ITEM)
            break;
        Rows rows = NO_KEYS;
        f32 out[DIM / 2];
        UNROLL for (u32 i = 0; i < DIM / 2; i++) out[i] = 0;
        if (steps > 0)
            multiply_steps<T, DIM, TAIL>(out, rows, scale, full_slots, tiles, signals, q, step,
                                         step + steps, pooled);
        step += steps;
        finish<T, DIM>(a, work_of(a, item), rows, out, q, signals);
        release(signals, OUT_FULL + place);
    }
    if (group == 0)
        group_barrier(TURN, ALL_THREADS); // takes the turn that is left
}
