// SPDX-License-Identifier: MIT
//
// What the passes of select share. Pairs are compared by the bits of p (a float that is not
// negative orders like its bits); forced pairs stand above all others. The cut is the key of the
// smallest pair that is kept, found one digit at a time: a histogram of the digit, the value where
// the sum from above reaches what is still wanted, and on to the next digit below that value.
#pragma once
#include <tile.cuh>

#include "launch.h"

constexpr u32 THREADS = CUDA_SELECT_THREADS;
constexpr u32 WARPS = THREADS / WARP;
constexpr u32 FORCED = 0xffffffffu; // key of a forced pair
constexpr u32 NONE = 0xffffffffu;   // no column

// ---- Keys --------------------------------------------------------------------------------------

// The forced pairs of a query row: the first columns and three more, NONE or wrapped below 0 where
// there are none.
struct ForcedPairs {
    static constexpr bool MORE = false;
    u32 first, self, before, after;
};

DEVICE ForcedPairs forced_pairs(Geometry g, u32 i)
{
    u32 layer = g->tiles_h * g->tiles_w, flags = g->force;
    return {flags & DRAFT_FORCED_FIRST_FRAME ? layer : 0, flags & DRAFT_FORCED_SELF ? i : NONE,
            flags & DRAFT_FORCED_NEIGHBOURS ? i - layer : NONE,
            flags & DRAFT_FORCED_NEIGHBOURS ? i + layer : NONE};
}

DEVICE u32 key_of(const ForcedPairs &f, u32 j, u32 bits)
{
    bool forced = j < f.first || j == f.self || j == f.before || j == f.after;
    return forced ? FORCED : least(bits, FORCED - 1);
}

// Of a row with a floor also pairs that it keeps in any case: those above `key`, and those that
// equal it before column `end`: select_floor.cuh. Without a floor {FORCED, 0}. For plans beyond the
// paper's method.
struct CertainPairs {
    static constexpr bool MORE = true;
    ForcedPairs forced;
    u32 key, end;
};

DEVICE u32 key_of(const CertainPairs &c, u32 j, u32 bits)
{
    u32 key = key_of(c.forced, j, bits);
    return key > c.key || (key == c.key && j < c.end) ? FORCED : key;
}

// The bits of one row of the map.
DEVICE Global<const u32> map_row(const draft_args &a, Geometry g, u32 head, u32 i)
{
    u32 s = g->video_blocks;
    return rows_at<const u32>(a, g->map, (addr)head * s + i, s);
}

// ---- Search ------------------------------------------------------------------------------------

// Where the search for a cut stands.
struct Search {
    u32 prefix;   // the digits found, in their place; 0 below
    u32 wanted;   // of the pairs that begin so: pairs, or mass in units of 1 / DRAFT_MASS_ONE
    u32 all_kept; // 1: everything together is less than wanted
    u32 some;     // 1: fewer pairs are wanted than begin with prefix
};

// Digit `pass` of keys that are taken apart into digits of `bits` bits. The last may overlap.
template <u32 bits> DEVICE u32 shift_of(u32 pass)
{
    u32 below = bits * (pass + 1);
    return below < 32 ? 32 - below : 0;
}

// Keys whose digits before `pass` are known: those that equal the prefix under this mask.
template <u32 bits> DEVICE u32 mask_of(u32 pass)
{
    return pass == 0 ? 0 : 0xffffffffu << shift_of<bits>(pass - 1);
}

// Sum of x over the threads after this one.
template <class T> DEVICE T sum_after(T x)
{
    SHARED_ARRAY(T, totals, WARPS);
    u32 lane = lane_id();
    T sum = x; // of the lanes from this one on
    UNROLL for (u32 reach = 1; reach < WARP; reach *= 2)
    {
        T other = warp_shuffle(sum, lane + reach < WARP ? lane + reach : lane);
        sum += lane + reach < WARP ? other : 0;
    }
    if (lane == 0)
        totals[warp_id()] = sum;
    block_barrier();
    UNROLL for (u32 w = 1; w < WARPS; w++)
    {
        T other = totals[w];
        sum += w > warp_id() ? other : 0;
    }
    return sum - x;
}

// The next digit of the search. weigh(w) puts the weights of digits thread x each and following in
// w; it is called twice, so that they need not be kept. Between this and the next call there must
// be a barrier.
template <class T, u32 each, class Weigh>
DEVICE Search next_digit(const Search &s, u32 shift, Weigh weigh)
{
    SHARED_ARRAY(Search, found, 1);
    T weights[each], total = 0;
    weigh(weights);
    UNROLL for (u32 d = 0; d < each; d++) total += weights[d];
    T sum = sum_after(total);
    if (sum < s.wanted && sum + total >= s.wanted) {
        weigh(weights);
        UNROLL for (u32 d = each; d-- > 0;)
        {
            T before = sum;
            sum += weights[d];
            u32 digit = thread_id() * each + d;
            if (before < s.wanted && sum >= s.wanted)
                found[0] = Search{s.prefix | digit << shift, s.wanted - (u32)before, s.all_kept,
                                  sum > s.wanted};
        }
    } else if (thread_id() == 0 && s.wanted == 0) { // the cut lies above all but the forced
        found[0] = Search{s.prefix | (THREADS * each - 1) << shift, 0, s.all_kept, 1};
    } else if (thread_id() == 0 && sum + total < s.wanted) {
        found[0] = Search{0, 0, 1, 0};
    }
    block_barrier();
    return found[0];
}

// ---- State of a head's search, in the scratch part of the workspace ----------------------------

constexpr u32 PASSES = CUDA_SELECT_PASSES;
constexpr u32 DIGITS = CUDA_SELECT_DIGITS;
constexpr u32 DIGIT_BITS = 11;
static_assert(1u << DIGIT_BITS == DIGITS && PASSES * DIGIT_BITS >= 32, "digits make up a key");
static_assert(sizeof(Search) == CUDA_SELECT_STATE * sizeof(u32), "a state is a search");

// Of one head. In scratch lie those of all heads: histograms [PASSES][DIGITS] at multiples of 16
// bytes, then states [PASSES][CUDA_SELECT_STATE], then ties [S], then where heads have a floor key
// and end of CertainPairs [S][2].
struct Scratch {
    addr digits; // address
    Global<u32> states, ties, certain;
};

DEVICE Scratch scratch_of(const draft_args &a, Geometry g, u32 head)
{
    constexpr u32 HISTOGRAMS = PASSES * DIGITS, STATES = PASSES * CUDA_SELECT_STATE;
    addr heads = (addr)g->batch * g->heads, first = a.workspace + g->scratch;
    Global<u32> states = global<u32>(first) + heads * HISTOGRAMS, ties = states + heads * STATES;
    return {first + (addr)head * HISTOGRAMS * sizeof(u32), states + (addr)head * STATES,
            ties + (addr)head * g->video_blocks,
            ties + heads * g->video_blocks + (addr)head * g->video_blocks * 2};
}

DEVICE addr histogram_of(const Scratch &scratch, u32 pass)
{
    return scratch.digits + pass * DIGITS * sizeof(u32);
}

// The search as it stood before histogram `pass` was taken.
DEVICE Search load_state(const draft_args &a, Geometry g, const Scratch &scratch, u32 head,
                         u32 pass)
{
    if (pass == 0)
        return {0, budget_of(a, head % g->heads), 0, 1};
    Global<u32> p = scratch.states + (pass - 1) * CUDA_SELECT_STATE;
    return {p[0], p[1], p[2], p[3]};
}

// Which pairs of row i count as forced. Pairs: ForcedPairs where no head has a floor.
template <class Pairs> DEVICE Pairs pairs_of(const draft_args &a, Geometry g, u32 head, u32 i);
template <> DEVICE ForcedPairs pairs_of<ForcedPairs>(const draft_args &, Geometry g, u32, u32 i)
{
    return forced_pairs(g, i);
}

template <>
DEVICE CertainPairs pairs_of<CertainPairs>(const draft_args &a, Geometry g, u32 head, u32 i)
{
    if (!(g->force & DRAFT_FORCED_FLOOR))
        return {forced_pairs(g, i), FORCED, 0};
    Global<const u32> certain = scratch_of(a, g, head).certain;
    return {forced_pairs(g, i), certain[2 * i], certain[2 * i + 1]};
}
