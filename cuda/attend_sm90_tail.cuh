// SPDX-License-Identifier: MIT
//
// attend_sm90, for plans with a tail: DRAFT_BLOCK pooled keys a step, before the first key block.
// Those whose blocks are all in the list are left out. The warp that brings tiles leaves the bias
// of a step in shared memory, in units of log2 (e).
#pragma once
#include "attend_sm90.cuh"

// ---- Bringing: all lanes of the warp ------------------------------------------------------------

// The lane's part of the bias of keys first ... first + DRAFT_BLOCK - 1.
DEVICE Unit bias_unit(addr bias, u32 first)
{
    static_assert(DRAFT_BLOCK == 4 * WARP, "a unit for each lane");
    return load_unit(global<const Unit>(bias) + (first / 4 + lane_id()));
}

DEVICE bool any_left_out(addr bias, u32 first)
{
    Unit x = bias_unit(bias, first);
    return warp_ballot(((x.v[0] & x.v[1] & x.v[2] & x.v[3]) >> 31) == 0) != 0;
}

// Steps of a query block.
DEVICE u32 count_pooled(addr bias, u32 keys)
{
    u32 n = 0;
    for (u32 first = 0; first < keys; first += DRAFT_BLOCK)
        n += any_left_out(bias, first);
    return n;
}

// First key of the next step, from key `first` on. There is one.
DEVICE u32 next_pooled(addr bias, u32 first)
{
    while (!any_left_out(bias, first))
        first += DRAFT_BLOCK;
    return first;
}

DEVICE void write_bias(Shared<BiasPair> to, addr bias, u32 first)
{
    Unit x = bias_unit(bias, first);
    UNROLL for (u32 i = 0; i < 4; i++) x.v[i] = bits_of(bias_of(x.v[i]) * LOG2_E);
    to[2 * lane_id()] = BiasPair{{x.v[0], x.v[1]}};
    to[2 * lane_id() + 1] = BiasPair{{x.v[2], x.v[3]}};
    warp_barrier();
}

// ---- Multiplying --------------------------------------------------------------------------------

// Products become logits in units of log2 (e), as scale says. Where a masked product is infinite,
// so is one of the block's own keys, which are in the list.
template <u32 n> DEVICE void add_bias(f32 (&s)[n], f32 scale, Shared<BiasPair> bias)
{
    UNROLL for (u32 i = 0; i < n / 4; i++)
    {
        BiasPair pair = bias[4 * i + lane_id() % 4];
        UNROLL for (u32 e = 0; e < 4; e++)
            s[4 * i + e] = fmaf(s[4 * i + e], scale, float_of(pair.v[e % 2]));
    }
}
