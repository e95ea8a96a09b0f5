// SPDX-License-Identifier: MIT
//
// attend_sm90: the warp that looks for the next item while the last one's tiles are brought. What
// it reads hangs together, the answer of memory to one question being part of the next: some 10 000
// cycles with a tail, of which the tiles that are still to be multiplied would cover half.
#pragma once
#include "attend_sm90_tail.cuh"

// Steps before the end of an item at which the next is looked for. No sooner, so that the last
// items of all go to whoever is free. A step of dim 128 is 2048 cycles of the matrix units.
template <u32 DIM> constexpr u32 AHEAD = 1024 / DIM;

// Steps of pooled keys.
DEVICE u32 pooled_steps(const draft_args &a, const Work &w)
{
    if (!has_pooled(a, w))
        return 0;
    return count_pooled(bias_at(a, bias_row(a, w)), geometry_of(a)->video_blocks);
}

template <bool TAIL> DEVICE void find_items(const draft_args &a, const Signals &signals)
{
    Geometry g = geometry_of(a);
    u32 items = g->batch * g->heads * g->blocks;
    Shared<u32> next = signals.messages + NEXT;
    for (u32 turn = 0;; turn++) {
        barrier_wait(signals.at(NEXT_EMPTY), turn % 2 ^ 1);
        u32 item = lane_id() == 0 ? atomic_add(next_item(a), 1) : 0;
        item = warp_shuffle(item, 0);
        bool more = item < items;
        Work w = work_of(a, more ? item : 0);
        u32 pooled = TAIL && more ? pooled_steps(a, w) : 0;
        if (lane_id() == 0) {
            next[ITEM] = more ? item : NO_ITEM;
            next[STEPS] = more ? pooled + count_of(a, w) : 0;
            next[POOLED_STEPS] = pooled;
            barrier_arrive(signals.at(NEXT_FULL));
        }
        if (!more)
            return;
    }
}
