// SPDX-License-Identifier: MIT
//
// attend, for plans with a tail: before the key blocks of its list, a query block of the video
// attends to the pooled keys of the video, which come as rows of tail_k and tail_v, with the bias
// of its own row added to their logits. Those of blocks in the list have the sign bit: -infinity.
#pragma once
#include "attend.cuh"

// Two neighbouring columns.
struct alignas(8) BiasPair {
    u32 v[2];
};

// bits: as score and select left them.
DEVICE f32 bias_of(u32 bits)
{
    return bits >> 31 ? -INFINITE : float_of(bits);
}

// Does a query block attend to pooled keys?
DEVICE bool has_pooled(const draft_args &a, const Work &w)
{
    return w.span.class_ != DRAFT_CLASS_TEXT && !(a.flags & DRAFT_ABI_KEPT_ONLY);
}

// The row of its bias, and the address of a row.
DEVICE u32 bias_row(const draft_args &a, const Work &w)
{
    Geometry g = geometry_of(a);
    return w.row * g->video_blocks + (w.block - g->prefix_blocks);
}

DEVICE addr bias_at(const draft_args &a, u32 row)
{
    Geometry g = geometry_of(a);
    return a.workspace + g->bias + (addr)row * g->bias_stride * sizeof(f32);
}
