// SPDX-License-Identifier: MIT
//
// draft_select_floor: what each row keeps in any case, where heads have a floor. One row for each
// thread block, before the passes over heads, which take these pairs for forced ones.
//
// Rows come from memory here and once more in each of those passes: 0.05 ms more for HunyuanVideo
// at 720p.
#pragma once
#include "select_list.cuh"

// The column behind tie number `wanted` of the row, by the warp that has it: the lane that finds it
// writes it to end. ties: those before the section; bits: of the section's last part.
DEVICE void find_end(const Section<ForcedPairs> &x, const Cut &cut, u32 bits[AHEAD], u32 ties,
                     Global<u32> end)
{
    u32 upto = 0xffffffffu >> (WARP - 1 - lane_id());
    for (u32 at = x.first; at < x.last; at += AHEAD * WARP) {
        if (x.last - x.first > AHEAD * WARP)
            load_bits(bits, x, at);
        UNROLL for (u32 k = 0; k < AHEAD; k++)
        {
            u32 j = at + k * WARP + lane_id();
            bool tie = j < x.last && key_of(x.pairs, j, bits[k]) == cut.tie;
            u32 equal = warp_ballot(tie);
            if (tie && ties + count_ones(equal & upto) == cut.wanted)
                end[0] = j + 1;
            ties += count_ones(equal);
        }
    }
}

KERNEL(draft_select_floor, CUDA_SELECT_THREADS, 8)
{
    Geometry g = geometry_of(a);
    u32 s = g->video_blocks, head = block_id() / s, i = block_id() % s;
    Global<u32> certain = scratch_of(a, g, head).certain + 2 * i;
    u32 wanted = floor_of(a, head % g->heads);
    Search found = {FORCED, 0, 0, 0};
    if (wanted > 0)
        found = row_cut(a, g, head, i, wanted);
    bool some = found.some && found.prefix != FORCED; // of the ties: the first
    if (thread_id() == 0) {
        certain[0] = found.prefix;
        if (!some)
            certain[1] = s;
    }
    if (!some)
        return;
    Section<ForcedPairs> x = section_of<ForcedPairs>(a, g, head, i);
    Cut cut = cut_of(found);
    u32 bits[AHEAD];
    load_bits(bits, x, x.first);
    Totals t = add_sections(count_section(x, cut, bits));
    find_end(x, cut, bits, t.ties, certain + 1);
}
