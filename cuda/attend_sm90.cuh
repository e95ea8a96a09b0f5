// SPDX-License-Identifier: MIT
//
// What the warp groups of attend_sm90 share: where tiles lie, and how they tell each other.
#pragma once
#include <ptx_sm90.cuh>

#include "attend_tail.cuh"

template <u32 DIM> constexpr u32 STAGES = CUDA_ATTEND90_STAGES(DIM);
constexpr u32 MOST_STAGES = STAGES<64>;
constexpr u32 GROUPS = 2; // warp groups that multiply
constexpr u32 BRING_REGISTERS = 72, MULTIPLY_REGISTERS = 216;

// ---- Shared memory ------------------------------------------------------------------------------

// Tiles of ROWS rows in parts of 64 columns.
constexpr u32 PART_BYTES = ROWS * ROW_BYTES;

template <u32 DIM> struct Tiles {
    static constexpr u32 TILE = DIM / 64 * PART_BYTES, BYTES = (2 + 2 * STAGES<DIM>) * TILE;
    u32 base; // 1024 bytes aligned

    // q of every other item, and what it becomes: out, each row where its q was.
    DEVICE u32 q(u32 place) const
    {
        return base + place * TILE;
    }
    DEVICE u32 k(u32 stage) const
    {
        return base + (2 + stage) * TILE;
    }
    DEVICE u32 v(u32 stage) const
    {
        return base + (2 + STAGES<DIM> + stage) * TILE;
    }
};

// ---- Signals ------------------------------------------------------------------------------------

constexpr u32 MASK_WORDS = ROWS / 32;
constexpr u32 BIAS_PAIRS = DRAFT_BLOCK / 2;

// Barriers: a tile is full (it has come), or empty (all warps that multiply are done with it). q of
// a place becomes out, and is empty when that has left. The next item is known, or may be looked
// for.
constexpr u32 PLACES = 2; // of q
constexpr u32 Q_FULL = 0, OUT_FULL = Q_FULL + PLACES, Q_EMPTY = OUT_FULL + PLACES,
              NEXT_FULL = Q_EMPTY + PLACES, NEXT_EMPTY = NEXT_FULL + 1, K_FULL = NEXT_EMPTY + 1,
              K_EMPTY = K_FULL + MOST_STAGES, V_FULL = K_EMPTY + MOST_STAGES,
              V_EMPTY = V_FULL + MOST_STAGES, BARRIERS = V_EMPTY + MOST_STAGES;

// Words that come with a tile: with q the item, its steps and how many of them are of pooled keys,
// with k the key block's class and tokens as in draft_span, or POOLED. NEXT: those of q, of the
// next item.
constexpr u32 POOLED = DRAFT_CLASSES << 8;
constexpr u32 ITEM = 0, STEPS = 1, POOLED_STEPS = 2, ITEM_WORDS = 3, NEXT = PLACES * ITEM_WORDS,
              SPANS = NEXT + ITEM_WORDS, MESSAGES = SPANS + MOST_STAGES;
constexpr u32 NO_ITEM = 0xffffffffu;

struct Signals {
    u32 barriers;
    Shared<u32> messages, masks; // masks: [class][MASK_WORDS]
    Shared<BiasPair> biases;     // of pooled keys, [stage][BIAS_PAIRS]

    DEVICE u32 at(u32 barrier) const
    {
        return barriers + barrier * 8;
    }

    DEVICE void init() const
    {
        u32 warps = GROUPS * WARP_GROUP / WARP;
        for (u32 i = 0; i < PLACES; i++) {
            barrier_init(at(Q_FULL + i), 1);
            barrier_init(at(OUT_FULL + i), warps);
            barrier_init(at(Q_EMPTY + i), 1);
        }
        barrier_init(at(NEXT_FULL), 1);
        barrier_init(at(NEXT_EMPTY), 1);
        for (u32 i = 0; i < MOST_STAGES; i++) {
            barrier_init(at(K_FULL + i), 1);
            barrier_init(at(K_EMPTY + i), warps);
            barrier_init(at(V_FULL + i), 1);
            barrier_init(at(V_EMPTY + i), warps);
        }
        barriers_ready();
    }
};

// All lanes of the warp are done with what the barrier stands for.
DEVICE void release(const Signals &signals, u32 barrier)
{
    warp_barrier();
    if (lane_id() == 0)
        barrier_arrive(signals.at(barrier));
}

// Which stage a step uses, and the parity of its barriers. Steps are counted from the first of the
// thread block on.
template <u32 DIM> DEVICE u32 stage_of(u32 step)
{
    return step % STAGES<DIM>;
}

template <u32 DIM> DEVICE u32 parity_of(u32 step)
{
    return step / STAGES<DIM> % 2;
}

// Of the items of a thread block, by their turn: where q lies, and the parity of its barriers.
DEVICE u32 place_of(u32 turn)
{
    return turn % PLACES;
}

DEVICE u32 place_parity(u32 turn)
{
    return turn / PLACES % 2;
}

DEVICE Global<u32> next_item(const draft_args &a)
{
    return global<u32>(a.workspace + geometry_of(a)->scratch);
}
