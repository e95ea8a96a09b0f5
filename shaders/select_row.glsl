// SPDX-License-Identifier: MIT
//
// What the passes of select share that look at a row by itself: one workgroup for each row.
#include "select.glsl"

shared uint scan[THREADS];

// Sum of x over the invocations before this one.
uint sum_before(uint x)
{
    uint id = gl_LocalInvocationID.x;
    barrier();
    scan[id] = x;
    barrier();
    for (uint reach = 1; reach < THREADS; reach *= 2) {
        uint other = id >= reach ? scan[id - reach] : 0;
        barrier();
        scan[id] += other;
        barrier();
    }
    return scan[id] - x;
}

uint sum_all(uint x)
{
    sum_before(x);
    return scan[THREADS - 1];
}

// Columns in a row, those that one invocation looks after.
struct Run {
    uint first, last;
};

Run own_run()
{
    uint id = gl_LocalInvocationID.x, each = (G.video_blocks + THREADS - 1) / THREADS;
    return Run(min(id * each, G.video_blocks), min((id + 1) * each, G.video_blocks));
}

uint count_ties(Row row, Run run, uint cut)
{
    uint ties = 0;
    for (uint j = run.first; j < run.last; j++)
        ties += key_of(row, j) == cut ? 1 : 0;
    return ties;
}

uint mass_of(uint bits)
{
    if (bits > 0x7f800000u) // NaN or negative
        return 0;
    return bits >= 0x3f800000u ? DRAFT_MASS_ONE
                               : uint(uintBitsToFloat(bits) * 2147483648.0);
}

// The cut where the row keeps `wanted`.
Search row_cut(Row row, uint wanted)
{
    Search s = Search(0, wanted, false);
    for (uint pass = 0; pass < PASSES && !s.all_kept; pass++) {
        clear_digits();
        for (uint j = gl_LocalInvocationID.x; j < G.video_blocks; j += THREADS) {
            uint key = key_of(row, j);
            if (!matches(key, s, pass))
                continue;
            uint weight = G.rule == DRAFT_ABI_MASS ? mass_of(row.p.v[j]) : 1;
            atomicAdd(low_sum[digit_of(key, pass)], weight & 0xffffu);
            atomicAdd(high_sum[digit_of(key, pass)], weight >> 16);
        }
        s = next_digit(s);
    }
    if (G.rule == DRAFT_ABI_MASS && s.prefix != FORCED && !s.all_kept) {
        uint each = mass_of(s.prefix);
        s.wanted = (s.wanted + each - 1) / each; // from mass to pairs
    }
    return s;
}
