// SPDX-License-Identifier: MIT
//
// What draft_select_list is made of: the cut of one row, and its list. See select.cu.
#pragma once
#include "select.cuh"

constexpr u32 AHEAD = 8; // columns of a lane under way

// ---- Cut of one row ----------------------------------------------------------------------------

constexpr u32 BYTES = 4, BYTE_BITS = 8, VALUES = 1u << BYTE_BITS;

// Histograms of a byte; a lane counts in number lane % COPIES, since lanes that add different
// weights to the same value would wait for each other.
constexpr u32 COPIES = 4;

DEVICE u32 mass_of(u32 bits)
{
    if (bits > 0x7f800000u) // NaN or negative
        return 0;
    return bits >= 0x3f800000u ? DRAFT_MASS_ONE : (u32)(float_of(bits) * 2147483648.0f);
}

// Adds up the weights of one byte: low and high half-words apart, so that 32 bits do.
DEVICE void weigh_row(Global<const u32> row, const ForcedPairs &forced, u32 s, bool mass, u32 pass,
                      u32 prefix, Shared<u32> low, Shared<u32> high)
{
    u32 shift = shift_of<BYTE_BITS>(pass), mask = mask_of<BYTE_BITS>(pass);
    for (u32 first = thread_id(); first < s; first += AHEAD * THREADS) {
        u32 x[AHEAD];
        UNROLL for (u32 k = 0; k < AHEAD; k++)
        {
            x[k] = 0;
            if (first + k * THREADS < s)
                x[k] = row[first + k * THREADS];
        }
        UNROLL for (u32 k = 0; k < AHEAD; k++)
        {
            u32 j = first + k * THREADS, key = key_of(forced, j, x[k]);
            if (j >= s || (key & mask) != prefix)
                continue;
            u32 value = key >> shift & (VALUES - 1);
            if (!mass) { // the hardware adds up ones of a warp first
                atomic_add(low + value, 1);
                continue;
            }
            u32 weight = mass_of(x[k]);
            atomic_add(low + value, weight & 0xffffu);
            atomic_add(high + value, weight >> 16);
        }
    }
}

// Pairs or mass in units of 1 / DRAFT_MASS_ONE to keep in row i.
DEVICE Search row_cut(const draft_args &a, Geometry g, u32 head, u32 i)
{
    SHARED_ARRAY(u32, low, COPIES * VALUES);
    SHARED_ARRAY(u32, high, COPIES * VALUES);
    constexpr u32 EACH = VALUES / THREADS;
    Global<const u32> row = map_row(a, g, head, i);
    ForcedPairs forced = forced_pairs(g, i);
    bool mass = g->rule == DRAFT_ABI_MASS;
    u32 copy = mass ? lane_id() % COPIES * VALUES : 0, first = thread_id() * EACH;
    Search s = {0, budget_of(a, head % g->heads), 0, 1};
    for (u32 pass = 0; pass < BYTES && !s.all_kept; pass++) {
        UNROLL for (u32 c = 0; c < COPIES; c++)
            UNROLL for (u32 d = c * VALUES + first; d < c * VALUES + first + EACH; d++)
            {
                low[d] = 0;
                high[d] = 0;
            }
        block_barrier();
        weigh_row(row, forced, g->video_blocks, mass, pass, s.prefix, low + copy, high + copy);
        block_barrier();
        s = next_digit<uint64_t, EACH>(s, shift_of<BYTE_BITS>(pass), [&](uint64_t weights[EACH]) {
            UNROLL for (u32 d = 0; d < EACH; d++) weights[d] = 0;
            UNROLL for (u32 c = 0; c < COPIES; c++)
                UNROLL for (u32 d = 0; d < EACH; d++) weights[d] +=
                    low[c * VALUES + first + d] + ((uint64_t)high[c * VALUES + first + d] << 16);
        });
    }
    if (mass && s.prefix != FORCED && !s.all_kept)
        s.wanted = div_up(s.wanted, mass_of(s.prefix)); // from mass to pairs
    return s;
}

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

// What a cut makes of a key.
struct Cut {
    u32 floor; // keys from here on are kept
    u32 tie;   // of those that equal this one `wanted` are; none where it is kept anyway
    u32 wanted;
};

DEVICE Cut cut_of(const Search &s)
{
    if (s.all_kept)
        return {0, FORCED, 0};
    if (s.prefix == FORCED)
        return {FORCED, FORCED, 0};
    return {s.prefix + 1, s.prefix, s.wanted};
}

// ---- List --------------------------------------------------------------------------------------

// The columns of a row that a warp looks after: first ... last - 1.
struct Section {
    Global<const u32> row;
    ForcedPairs forced;
    u32 first, last;
};

DEVICE Section section_of(const draft_args &a, Geometry g, u32 head, u32 i)
{
    u32 s = g->video_blocks, length = div_up(s, THREADS) * WARP;
    u32 first = least(warp_id() * length, s);
    return {map_row(a, g, head, i), forced_pairs(g, i), first, least(first + length, s)};
}

// The bits of AHEAD x 32 columns from `at` on; 0 beyond the section.
DEVICE void load_bits(u32 bits[AHEAD], const Section &x, u32 at)
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
DEVICE u32 count_section(const Section &x, const Cut &cut, u32 bits[AHEAD])
{
    u32 sum = 0;
    for (u32 at = x.first; at < x.last; at += AHEAD * WARP) {
        if (at > x.first)
            load_bits(bits, x, at);
        UNROLL for (u32 k = 0; k < AHEAD; k++)
        {
            u32 j = at + k * WARP + lane_id(), key = key_of(x.forced, j, bits[k]);
            u32 one = key >= cut.floor ? 1 : key == cut.tie ? 0x10000u : 0;
            sum += j < x.last ? one : 0;
        }
    }
    return warp_sum(sum);
}

// Writes the list of a section to `list`. ties: those before the section; bits: of the section's
// last part; offset: number of the first video block.
DEVICE void write_section(const Section &x, const Cut &cut, u32 bits[AHEAD], u32 ties, u32 offset,
                          Global<uint16_t> list)
{
    u32 below = (1u << lane_id()) - 1;
    for (u32 at = x.first; at < x.last; at += AHEAD * WARP) {
        if (x.last - x.first > AHEAD * WARP)
            load_bits(bits, x, at);
        UNROLL for (u32 k = 0; k < AHEAD; k++)
        {
            u32 j = at + k * WARP + lane_id(), key = key_of(x.forced, j, bits[k]);
            bool above = j < x.last && key >= cut.floor;
            u32 equal = warp_ballot(j < x.last && !above && key == cut.tie);
            bool tie = (equal >> lane_id() & 1) && ties + count_ones(equal & below) < cut.wanted;
            u32 kept = warp_ballot(above || tie);
            if (above || tie)
                list[count_ones(kept & below)] = (uint16_t)(offset + j);
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
DEVICE u32 write_video(const draft_args &a, Geometry g, u32 head, u32 i, Global<uint16_t> list)
{
    Section x = section_of(a, g, head, i);
    u32 bits[AHEAD];
    Search found;
    if (a.step > 0)
        found = row_cut(a, g, head, i);
    load_bits(bits, x, x.first);
    if (a.step == 0) // while the bits are under way
        found = head_cut(a, g, head, i);
    Cut cut = cut_of(found);
    Totals t = add_sections(count_section(x, cut, bits));
    write_section(x, cut, bits, t.ties, g->prefix_blocks,
                  list + (t.kept + least(t.ties, cut.wanted)));
    return t.all_kept + least(t.all_ties, cut.wanted);
}

// The numbers first ... first + n - 1.
DEVICE void write_run(Global<uint16_t> list, u32 first, u32 n)
{
    for (u32 j = thread_id(); j < n; j += THREADS)
        list[j] = (uint16_t)(first + j);
}
