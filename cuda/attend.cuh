// SPDX-License-Identifier: MIT
//
// What the kernels of attend share: which rows a thread block works on, and the softmax.
#pragma once
#include "matrices.cuh"

constexpr u32 ROWS = DRAFT_BLOCK;
constexpr f32 LOG2_E = 1.4426950408889634f;

// ---- Work ---------------------------------------------------------------------------------------

// A block: token of slot 0, class, tokens inside the grid, tokens that count.
struct Span {
    u32 first, class_, size, valid;
};

// The query block at one place of the work order of all heads.
struct Work {
    u32 row, sample, head; // row: of all samples and heads
    u32 block;             // of queries
    Span span;
};

DEVICE Span read_span(const draft_args &a, u32 sample, u32 block)
{
    draft_span entry = span_of(a, block);
    Span s = {entry.first, entry.info >> 8, entry.info & 255, entry.info & 255};
    if (a.valid && s.class_ == DRAFT_CLASS_TEXT)
        s.valid = block_of(a, sample, block).valid;
    return s;
}

DEVICE Work work_of(const draft_args &a, u32 item)
{
    Geometry g = geometry_of(a);
    Work w;
    w.row = item / g->blocks;
    w.sample = w.row / g->heads;
    w.head = w.row % g->heads;
    w.block = rows_at<const uint16_t>(a, g->order, w.row, g->blocks)[item % g->blocks];
    w.span = read_span(a, w.sample, w.block);
    return w;
}

// Entries of the list; none for queries that do not count.
DEVICE u32 count_of(const draft_args &a, const Work &w)
{
    Geometry g = geometry_of(a);
    return w.span.valid > 0 ? rows_at<const u32>(a, g->counts, w.row, g->blocks)[w.block] : 0;
}

DEVICE Global<const uint16_t> list_of(const draft_args &a, const Work &w)
{
    Geometry g = geometry_of(a);
    return rows_at<const uint16_t>(a, g->lists, (addr)w.row * g->blocks + w.block, g->blocks);
}

// ---- Softmax ------------------------------------------------------------------------------------

// Logits of 16 rows of a warp, as the matrix units leave them: s[4 i], s[4 i + 1] of a thread are
// row lane / 4, columns 8 i + 2 (lane % 4) and the next; s[4 i + 2], s[4 i + 3] 8 rows below.
// The two rows of a thread:
struct Rows {
    f32 most[2]; // the largest logit so far x log2 (e)
    f32 sum[2];  // of the thread's own columns
};

constexpr Rows NO_KEYS = {{-__builtin_inff(), -__builtin_inff()}, {0, 0}};

template <u32 n> DEVICE void scale_logits(f32 (&s)[n], f32 scale)
{
    UNROLL for (u32 i = 0; i < n; i++) s[i] = multiply(s[i], scale);
}

template <u32 n> DEVICE f32 row_max(const f32 (&s)[n], u32 half)
{
    f32 most = -INFINITE;
    UNROLL for (u32 i = 2 * half; i < n; i += 4) most = fmaxf(most, fmaxf(s[i], s[i + 1]));
    most = fmaxf(most, warp_shuffle_xor(most, 1));
    return fmaxf(most, warp_shuffle_xor(most, 2));
}

// One step of the running softmax over logits s x scale, scale >= 0 and in units of log2 (e): s
// becomes 2^(logit - most), factor what out is multiplied by.
//
// Product and difference are one instruction, so that the largest of a row becomes not 1, but 2^e
// with e the error of `most`. The division by the sum takes that out again; but beyond LARGE, e
// could take elements out of range, so there all logits are rounded before the difference.
constexpr f32 LARGE = 1 << 20;

// Infinities stay what they are either way: a row without keys, or of NaN, whose largest is
// -infinity, leaves the rounding of the warp's other rows alone.
DEVICE bool is_large(f32 most)
{
    return fabsf(most) > LARGE && fabsf(most) < INFINITE;
}

template <u32 n> DEVICE void softmax_step(f32 (&s)[n], Rows &rows, f32 scale, f32 (&factor)[2])
{
    f32 most[2] = {multiply(row_max(s, 0), scale), multiply(row_max(s, 1), scale)};
    if (warp_ballot(is_large(most[0]) || is_large(most[1]))) {
        scale_logits(s, scale);
        scale = 1;
    }
    UNROLL for (u32 half = 0; half < 2; half++)
    {
        f32 before = rows.most[half];
        f32 now = fmaxf(before, most[half]);
        f32 base = now == -INFINITE ? 0 : now; // nothing to subtract from -infinity
        f32 sum = 0;
        UNROLL for (u32 i = 2 * half; i < n; i += 4)
        {
            s[i] = exp2_fast(fmaf(s[i], scale, -base));
            s[i + 1] = exp2_fast(fmaf(s[i + 1], scale, -base));
            sum += s[i] + s[i + 1];
        }
        factor[half] = exp2_fast(before - base);
        rows.sum[half] = fmaf(rows.sum[half], factor[half], sum);
        rows.most[half] = now;
    }
}

// Natural logarithm of the sum; -infinity for an empty row.
DEVICE f32 row_lse(f32 most, f32 sum)
{
    return sum != 0 ? most / LOG2_E + logf(sum) : -INFINITE;
}
