#version 460
// SPDX-License-Identifier: MIT
//
// select: the list of each query block. One workgroup for each row; each invocation looks after a
// run of consecutive key blocks, so that lists come out ascending.
//
//   step 0   the cut of the head is known (select_head): read it, and the ties in the rows before
//   step 1   rules ROW and MASS: find the cut of the row here
#extension GL_GOOGLE_include_directive : require
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

// ---- Cut of one row --------------------------------------------------------------------------

uint mass_of(uint bits)
{
    if (bits > 0x7f800000u) // NaN or negative
        return 0;
    return bits >= 0x3f800000u ? DRAFT_MASS_ONE
                               : uint(uintBitsToFloat(bits) * 2147483648.0);
}

Search row_cut(uint head, uint i)
{
    Words row = map_row(head, i);
    Search s = Search(0, Geometry(a.geometry).budget[head % G.heads], false);
    for (uint pass = 0; pass < PASSES && !s.all_kept; pass++) {
        clear_digits();
        for (uint j = gl_LocalInvocationID.x; j < G.video_blocks; j += THREADS) {
            uint key = key_of(row, i, j);
            if (!matches(key, s, pass))
                continue;
            uint weight = G.rule == DRAFT_ABI_MASS ? mass_of(row.v[j]) : 1;
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

// ---- Cut of the head, as far as this row is concerned ------------------------------------------

Search head_cut(uint head, uint i)
{
    Words scratch = head_scratch(head);
    uint at_word = state_word(PASSES - 1), before = 0;
    Search s = Search(scratch.v[at_word], scratch.v[at_word + 1], scratch.v[at_word + 2] != 0);
    if (G.rule == DRAFT_ABI_PAPER) {
        s.wanted = G.video_blocks; // all ties
        return s;
    }
    for (uint r = gl_LocalInvocationID.x; r < i; r += THREADS)
        before += scratch.v[ties_word(r)];
    before = sum_all(before);
    s.wanted -= min(before, s.wanted);
    return s;
}

// ---- List ------------------------------------------------------------------------------------

struct Run {
    uint first, last;
};

// Writes consecutive entries of a list, whole words where both halves are at hand: only the first
// and the last entry may share a word with another invocation.
struct Writer {
    uvec2 list;
    uint next, low;
    bool pending; // low holds the entry before next
};

void write(inout Writer w, uint value)
{
    bool high = high_half(w.list, w.next);
    if (high && w.pending)
        put_pair(w.list, w.next, w.low, value);
    else if (high)
        put16(w.list, w.next, value);
    else
        w.low = value;
    w.pending = !high;
    w.next++;
}

void finish(Writer w)
{
    if (w.pending)
        put16(w.list, w.next - 1, w.low);
}

bool keeps(uint key, Search s, inout uint ties)
{
    bool tie = key == s.prefix && key != FORCED;
    bool keep = s.all_kept || key == FORCED || key > s.prefix || (tie && ties < s.wanted);
    ties += tie ? 1 : 0;
    return keep;
}

// ties: how many in the row before the run equal the cut.
uint count_run(uint head, uint i, Run run, Search s, uint ties)
{
    Words row = map_row(head, i);
    uint kept = 0;
    for (uint j = run.first; j < run.last; j++)
        kept += keeps(key_of(row, i, j), s, ties) ? 1 : 0;
    return kept;
}

void write_run(uint head, uint i, Run run, Search s, uint ties, uvec2 list, uint n)
{
    Words row = map_row(head, i);
    Writer w = Writer(list, n, 0, false);
    for (uint j = run.first; j < run.last; j++)
        if (keeps(key_of(row, i, j), s, ties))
            write(w, G.prefix_blocks + j);
    finish(w);
}

uint count_ties(uint head, uint i, Run run, uint cut)
{
    Words row = map_row(head, i);
    uint ties = 0;
    for (uint j = run.first; j < run.last; j++)
        ties += key_of(row, i, j) == cut ? 1 : 0;
    return ties;
}

// Text blocks before and after the video are in every list.
uint write_text(uvec2 list, uint kept)
{
    for (uint j = gl_LocalInvocationID.x; j < G.prefix_blocks; j += THREADS)
        put16(list, j, j);
    for (uint j = gl_LocalInvocationID.x; j < G.suffix_blocks; j += THREADS)
        put16(list, G.prefix_blocks + kept + j, G.prefix_blocks + G.video_blocks + j);
    return G.prefix_blocks + kept + G.suffix_blocks;
}

void main()
{
    uint head = workgroup() / G.blocks, block = workgroup() % G.blocks;
    uint id = gl_LocalInvocationID.x, i = block - G.prefix_blocks;
    uvec2 list = at(at(part(G.lists), head * G.blocks, G.blocks, 1), block, G.blocks, 1);
    uint kept = G.video_blocks, each = (G.video_blocks + THREADS - 1) / THREADS;
    Run run = Run(min(id * each, G.video_blocks), min((id + 1) * each, G.video_blocks));
    if (i < G.video_blocks) {
        Search s;
        if (a.step == 0)
            s = head_cut(head, i);
        else
            s = row_cut(head, i);
        uint ties = sum_before(count_ties(head, i, run, s.prefix));
        uint before = sum_before(count_run(head, i, run, s, ties));
        kept = scan[THREADS - 1];
        write_run(head, i, run, s, ties, list, G.prefix_blocks + before);
    } else {
        Writer w = Writer(list, G.prefix_blocks + run.first, 0, false);
        for (uint j = run.first; j < run.last; j++)
            write(w, G.prefix_blocks + j);
        finish(w);
    }
    uint count = write_text(list, kept);
    if (id == 0)
        Words(at(part(G.counts), head, G.blocks, 2)).v[block] = count;
}
