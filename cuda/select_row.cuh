// SPDX-License-Identifier: MIT
//
// What the passes of select that work on one row share: the cut of that row alone. See select.cu.
#pragma once
#include "select.cuh"

constexpr u32 AHEAD = 8; // columns of a lane under way

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

// wanted: pairs or mass in units of 1 / DRAFT_MASS_ONE to keep in row i.
DEVICE Search row_cut(const draft_args &a, Geometry g, u32 head, u32 i, u32 wanted)
{
    SHARED_ARRAY(u32, low, COPIES * VALUES);
    SHARED_ARRAY(u32, high, COPIES * VALUES);
    constexpr u32 EACH = VALUES / THREADS;
    Global<const u32> row = map_row(a, g, head, i);
    ForcedPairs forced = forced_pairs(g, i);
    bool mass = g->rule == DRAFT_ABI_MASS;
    u32 copy = mass ? lane_id() % COPIES * VALUES : 0, first = thread_id() * EACH;
    Search s = {0, wanted, 0, 1};
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
