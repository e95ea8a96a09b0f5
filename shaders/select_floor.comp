#version 460
// SPDX-License-Identifier: MIT
//
// select, rule HEAD with a floor: what each row keeps in any case, its best pairs, for the passes
// that follow. One workgroup for each row.
#extension GL_GOOGLE_include_directive : require
#include "select_row.glsl"

void main()
{
    uint head = workgroup() / G.video_blocks, i = workgroup() % G.video_blocks;
    if (floor_of(head) == 0)
        return;
    Row row = bare_row(head, i);
    Search s = row_cut(row, floor_of(head));
    Words scratch = head_scratch(head);
    Run run = own_run();
    uint own = count_ties(row, run, s.prefix), before = sum_before(own);
    if (gl_LocalInvocationID.x == 0)
        scratch.v[floor_word(i)] = s.prefix;
    if (before >= s.wanted || before + own < s.wanted)
        return;
    // The last tie that is kept is in this run.
    uint j = run.first;
    for (uint ties = before; j < run.last && ties < s.wanted; j++)
        ties += key_of(row, j) == s.prefix ? 1 : 0;
    scratch.v[floor_word(i) + 1] = j;
}
