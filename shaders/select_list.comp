#version 460
// SPDX-License-Identifier: MIT
//
// select: the list of each query block. One workgroup for each row; each invocation looks after a
// run of consecutive key blocks, so that lists come out ascending.
//
//   step 0   the cut of the head is known (select_head): read it, and the ties in the rows before
//   step 1   rules ROW and MASS: find the cut of the row here
#extension GL_GOOGLE_include_directive : require
#include "select_row.glsl"

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
uint count_run(Row row, Run run, Search s, uint ties)
{
    uint kept = 0;
    for (uint j = run.first; j < run.last; j++)
        kept += keeps(key_of(row, j), s, ties) ? 1 : 0;
    return kept;
}

// The list, and in the bias the signs that say the same, where the plan has one.
void write_run(uint head, Row row, Run run, Search s, uint ties, uvec2 list, uint n)
{
    Writer w = Writer(list, n, 0, false);
    uvec2 bias = at(part(G.bias), head * G.video_blocks, G.bias_stride, 2);
    Words signs = Words(at(bias, row.i, G.bias_stride, 2));
    bool has_bias = G.tail != DRAFT_ABI_TAIL_DROP;
    for (uint j = run.first; j < run.last; j++) {
        bool kept = keeps(key_of(row, j), s, ties);
        if (kept)
            write(w, G.prefix_blocks + j);
        if (has_bias)
            signs.v[j] = (signs.v[j] & 0x7fffffffu) | (kept ? 0x80000000u : 0);
    }
    finish(w);
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
    uint kept = G.video_blocks;
    Run run = own_run();
    if (i < G.video_blocks) {
        Row row = row_of(head, i);
        Search s;
        if (a.step == 0)
            s = head_cut(head, i);
        else
            s = row_cut(row, budget_of(head));
        uint ties = sum_before(count_ties(row, run, s.prefix));
        uint before = sum_before(count_run(row, run, s, ties));
        kept = scan[THREADS - 1];
        write_run(head, row, run, s, ties, list, G.prefix_blocks + before);
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
