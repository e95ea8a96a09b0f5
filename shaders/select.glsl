// SPDX-License-Identifier: MIT
//
// What the passes of select share. Pairs are compared by the bits of p (a float that is not
// negative orders like its bits); forced pairs stand above all others. The cut is the key of the
// smallest pair that is kept, found one byte at a time: a histogram of the byte, the digit where
// the sum from above reaches what is still wanted, and on to the next byte below that digit.
#include "tile.glsl"

#define THREADS 128
#define DIGITS 256
#define FORCED 0xffffffffu

layout(local_size_x = THREADS) in;

// Where the search for a cut stands: the bytes found, and what is wanted of those that equal them.
struct Search {
    uint prefix;
    uint wanted;  // pairs, or mass in units of 1 / DRAFT_MASS_ONE
    bool all_kept; // everything together is less than wanted
};

bool forced(uint i, uint j)
{
    uint layer = G.tiles_h * G.tiles_w;
    return ((G.force & DRAFT_FORCED_SELF) != 0 && i == j) ||
           ((G.force & DRAFT_FORCED_FIRST_FRAME) != 0 && j < layer) ||
           ((G.force & DRAFT_FORCED_NEIGHBOURS) != 0 && (j == i + layer || i == j + layer));
}

// A row of the map as bits, and its floor: pairs above the key `sure`, and those that equal it in
// columns before `sure_end`, are kept like the forced ones.
struct Row {
    Words p;
    uint i;
    uint sure, sure_end;
};

uint key_of(Row row, uint j)
{
    uint key = min(row.p.v[j], FORCED - 1);
#if FLOORS
    if (key > row.sure || (key == row.sure && j < row.sure_end))
        return FORCED;
#endif
    return forced(row.i, j) ? FORCED : key;
}

uint budget_of(uint head)
{
    return Geometry(a.geometry).budget[head % G.heads];
}

uint floor_of(uint head)
{
    return Geometry(a.geometry).budget[G.heads + head % G.heads];
}

// Without its floor.
Row bare_row(uint head, uint i)
{
    uvec2 map = at(part(G.map), head * G.video_blocks, G.video_blocks, 2);
    return Row(Words(at(map, i, G.video_blocks, 2)), i, FORCED, 0);
}

bool matches(uint key, Search s, uint pass)
{
    return pass == 0 || key >> (32 - 8 * pass) == s.prefix;
}

uint digit_of(uint key, uint pass)
{
    return key >> (24 - 8 * pass) & 255;
}

// Weights of the digits, 64 bits each: low and high half-words of the weights are added up apart.
shared uint low_sum[DIGITS], high_sum[DIGITS];
shared uvec2 above[THREADS];
shared Search found;

bool less64(uvec2 x, uvec2 y)
{
    return x.y < y.y || (x.y == y.y && x.x < y.x);
}

uvec2 sum_of(uint digit)
{
    uint high = high_sum[digit];
    return add64(uvec2(low_sum[digit], 0), uvec2(high << 16, high >> 16));
}

// The next byte of the search, from the histogram in shared memory. Thread i looks after the digits
// 2 i and 2 i + 1; above[i] becomes the sum of all digits from 2 i on.
Search next_digit(Search s)
{
    uint id = gl_LocalInvocationID.x;
    barrier();
    uvec2 low = sum_of(2 * id), high = sum_of(2 * id + 1);
    above[id] = add64(low, high);
    barrier();
    for (uint reach = 1; reach < THREADS; reach *= 2) {
        uvec2 other = id + reach < THREADS ? above[id + reach] : uvec2(0);
        barrier();
        above[id] = add64(above[id], other);
        barrier();
    }
    uvec2 wanted = uvec2(s.wanted, 0);
    uvec2 before = id + 1 < THREADS ? above[id + 1] : uvec2(0);
    uvec2 before_low = add64(before, high);
    if (less64(before, wanted) && !less64(above[id], wanted)) {
        bool is_high = !less64(before_low, wanted);
        found.prefix = s.prefix << 8 | (2 * id + (is_high ? 1 : 0));
        found.wanted = s.wanted - (is_high ? before.x : before_low.x);
        found.all_kept = false;
    }
    if (id == 0 && less64(above[0], wanted))
        found = Search(0, 0, true);
    if (id == 0 && s.wanted == 0) // nothing is: the cut lies above all keys but the forced ones
        found = Search(s.prefix << 8 | (DIGITS - 1), 0, false);
    barrier();
    Search result = found;
    result.all_kept = result.all_kept || s.all_kept;
    barrier();
    return result;
}

void clear_digits()
{
    barrier();
    for (uint d = gl_LocalInvocationID.x; d < DIGITS; d += THREADS) {
        low_sum[d] = 0;
        high_sum[d] = 0;
    }
    barrier();
}

// ---- State of a head's search, in the scratch part of the workspace ----------------------------

#define PASSES 4
#define STATE_WORDS 4 /* prefix, wanted, all_kept, unused: one for each pass */

// Histograms [PASSES][DIGITS], states [PASSES][STATE_WORDS], ties [S], floors [S][2].
uint head_words()
{
    return PASSES * (DIGITS + STATE_WORDS) + 3 * G.video_blocks;
}

Words head_scratch(uint head)
{
    return Words(at(part(G.scratch), head, head_words(), 2));
}

uint state_word(uint pass)
{
    return PASSES * DIGITS + pass * STATE_WORDS;
}

uint ties_word(uint i)
{
    return PASSES * (DIGITS + STATE_WORDS) + i;
}

// Row.sure, Row.sure_end
uint floor_word(uint i)
{
    return ties_word(G.video_blocks) + 2 * i;
}

Row row_of(uint head, uint i)
{
    Row row = bare_row(head, i);
#if FLOORS
    if (floor_of(head) > 0) {
        Words scratch = head_scratch(head);
        row.sure = scratch.v[floor_word(i)];
        row.sure_end = scratch.v[floor_word(i) + 1];
    }
#endif
    return row;
}
