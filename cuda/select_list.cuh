// SPDX-License-Identifier: MIT
//
// What draft_select_list is made of: the cut that concerns one row, and its list. See select.cu.
#pragma once
#include "select_row.cuh"

// ---- Cut of the head, as far as one row is concerned -------------------------------------------

DEVICE u32 block_sum(u32 x)
{
    SHARED_ARRAY(u32, sums, WARPS);
    x = warp_sum(x);
    if (lane_id() == 0)
        sums[warp_id()] = x;
    block_barrier();
    x = 0;
    UNROLL for (u32 w = 0; w < WARPS; w++) x += sums[w];
    return x;
}

DEVICE Search head_cut(const draft_args &a, Geometry g, u32 head, u32 i)
{
    Scratch scratch = scratch_of(a, g, head);
    Search s = load_state(a, g, scratch, head, PASSES);
    if (!s.some || g->rule == DRAFT_ABI_PAPER) {
        s.wanted = g->video_blocks; // all ties
        return s;
    }
    u32 before = 0;
    for (u32 r = thread_id(); r < i; r += THREADS)
        before += scratch.ties[r];
    before = block_sum(before);
    s.wanted -= least(before, s.wanted);
    return s;
}

// ---- List --------------------------------------------------------------------------------------

// The columns of a row that a warp looks after: first ... last - 1.
template <class Pairs> struct Section {
    Global<const u32> row;
    Pairs pairs;
    u32 first, last;
};

template <class Pairs>
DEVICE Section<Pairs> section_of(const draft_args &a, Geometry g, u32 head, u32 i)
{
    u32 s = g->video_blocks, length = div_up(s, THREADS) * WARP;
    u32 first = least(warp_id() * length, s);
    return {map_row(a, g, head, i), pairs_of<Pairs>(a, g, head, i), first,
            least(first + length, s)};
}

// The bits of AHEAD x 32 columns from `at` on; 0 beyond the section.
template <class Pairs> DEVICE void load_bits(u32 bits[AHEAD], const Section<Pairs> &x, u32 at)
{
    UNROLL for (u32 k = 0; k < AHEAD; k++)
    {
        u32 j = at + k * WARP + lane_id();
        bits[k] = 0;
        if (j < x.last)
            bits[k] = x.row[j];
    }
}

// Kept pairs in a section and, in the high half-word, ties: both together are fewer than 65536.
// bits: of the first part of the section, and in the end of the last.
template <class Pairs>
DEVICE u32 count_section(const Section<Pairs> &x, const Cut &cut, u32 bits[AHEAD])
{
    u32 sum = 0;
    for (u32 at = x.first; at < x.last; at += AHEAD * WARP) {
        if (at > x.first)
            load_bits(bits, x, at);
        UNROLL for (u32 k = 0; k < AHEAD; k++)
        {
            u32 j = at + k * WARP + lane_id(), key = key_of(x.pairs, j, bits[k]);
            u32 one = key >= cut.floor ? 1 : key == cut.tie ? 0x10000u : 0;
            sum += j < x.last ? one : 0;
        }
    }
    return warp_sum(sum);
}

// attend takes a bias with the sign bit for -infinity: of pairs that are kept.
DEVICE void mark(addr bias, u32 j, bool kept)
{
    Global<u32> row = global<u32>(bias);
    row[j] = (row[j] & 0x7fffffffu) | (kept ? 0x80000000u : 0);
}

// Writes the list of a section to `list`. ties: those before the section; bits: of the section's
// last part; offset: number of the first video block; bias: the row's, or 0.
template <class Pairs>
DEVICE void write_section(const Section<Pairs> &x, const Cut &cut, u32 bits[AHEAD], u32 ties,
                          u32 offset, Global<uint16_t> list, addr bias)
{
    u32 below = (1u << lane_id()) - 1;
    for (u32 at = x.first; at < x.last; at += AHEAD * WARP) {
        if (x.last - x.first > AHEAD * WARP)
            load_bits(bits, x, at);
        UNROLL for (u32 k = 0; k < AHEAD; k++)
        {
            u32 j = at + k * WARP + lane_id(), key = key_of(x.pairs, j, bits[k]);
            bool above = j < x.last && key >= cut.floor;
            u32 equal = warp_ballot(j < x.last && !above && key == cut.tie);
            bool tie = (equal >> lane_id() & 1) && ties + count_ones(equal & below) < cut.wanted;
            u32 kept = warp_ballot(above || tie);
            if (above || tie)
                list[count_ones(kept & below)] = (uint16_t)(offset + j);
            if (Pairs::MORE && bias && j < x.last)
                mark(bias, j, above || tie);
            list = list + count_ones(kept);
            ties += count_ones(equal);
        }
    }
}

// Where the part of a section lies in the list: kept pairs and ties before it, and in all.
struct Totals {
    u32 kept, ties, all_kept, all_ties;
};

DEVICE Totals add_sections(u32 count)
{
    SHARED_ARRAY(u32, counts, WARPS);
    if (lane_id() == 0)
        counts[warp_id()] = count;
    block_barrier();
    Totals t = {0, 0, 0, 0};
    UNROLL for (u32 w = 0; w < WARPS; w++)
    {
        u32 other = counts[w];
        if (w == warp_id()) {
            t.kept = t.all_kept;
            t.ties = t.all_ties;
        }
        t.all_kept += other & 0xffffu;
        t.all_ties += other >> 16;
    }
    return t;
}

// The video part of the list of row i; returns its length.
template <class Pairs>
DEVICE u32 write_video(const draft_args &a, Geometry g, u32 head, u32 i, Global<uint16_t> list)
{
    Section<Pairs> x = section_of<Pairs>(a, g, head, i);
    u32 bits[AHEAD];
    Search found;
    if (a.step > 0)
        found = row_cut(a, g, head, i, budget_of(a, head % g->heads));
    load_bits(bits, x, x.first);
    if (a.step == 0) // while the bits are under way
        found = head_cut(a, g, head, i);
    Cut cut = cut_of(found);
    Totals t = add_sections(count_section(x, cut, bits));
    addr bias = 0;
    if (Pairs::MORE && g->tail != DRAFT_ABI_TAIL_DROP)
        bias = a.workspace + g->bias +
               ((addr)head * g->video_blocks + i) * g->bias_stride * sizeof(f32);
    write_section(x, cut, bits, t.ties, g->prefix_blocks,
                  list + (t.kept + least(t.ties, cut.wanted)), bias);
    return t.all_kept + least(t.all_ties, cut.wanted);
}

// The numbers first ... first + n - 1.
DEVICE void write_run(Global<uint16_t> list, u32 first, u32 n)
{
    for (u32 j = thread_id(); j < n; j += THREADS)
        list[j] = (uint16_t)(first + j);
}
