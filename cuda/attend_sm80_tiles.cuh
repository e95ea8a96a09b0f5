// SPDX-License-Identifier: MIT
//
// attend_sm80: which tiles a thread block needs, and how they come to shared memory and leave it.
#pragma once
#include "attend.cuh"
#include "launch.h"

constexpr u32 KEYS = CUDA_ATTEND_KEYS;
constexpr u32 THREADS = CUDA_ATTEND_THREADS;
constexpr u32 WARP_ROWS = ROWS / (THREADS / WARP);
constexpr u32 FRAGMENTS = WARP_ROWS / 16; // of rows, for each warp

// ---- Key blocks ---------------------------------------------------------------------------------

// Slots start ... of a key block; info as in draft_span, with the tokens that count. No more steps:
// info is 0.
struct Step {
    u32 first, info, start;
};

DEVICE u32 valid_of(const Step &step)
{
    return step.info & 255;
}

// Walks through the list. Each warp keeps what it has read ahead in shared memory.
struct Cursor {
    u32 next, count;
};

// Entries next ... next + 31: [WARP][first, info].
DEVICE void read_entries(const draft_args &a, const Cursor &cursor, Shared<u32> entries)
{
    Work w = work_of(a, block_id());
    u32 block = list_of(a, w)[least(cursor.next + lane_id(), cursor.count - 1)];
    Span s = read_span(a, w.sample, block);
    warp_barrier();
    entries[2 * lane_id()] = s.first;
    entries[2 * lane_id() + 1] = s.class_ << 8 | s.valid;
    warp_barrier();
}

DEVICE Step next_step(const draft_args &a, Cursor &cursor, Shared<u32> entries, Step step)
{
    step.start += KEYS;
    while (step.start >= valid_of(step)) {
        if (cursor.next == cursor.count)
            return {0, 0, 0};
        if (cursor.next % WARP == 0)
            read_entries(a, cursor, entries);
        u32 entry = 2 * (cursor.next++ % WARP);
        step = {entries[entry], entries[entry + 1], 0};
    }
    return step;
}

// ---- Loads --------------------------------------------------------------------------------------

// Copies of `rows` slots of a block to a tile; slots that do not count, and columns beyond dim, are
// 0. Each thread looks after one column of 16 bytes.
template <u32 DIM, u32 rows>
DEVICE void load_tile(u32 tile, addr head, u32 token_stride, const Step &step, u32 dim,
                      Shared<u32> offsets)
{
    constexpr u32 UNITS = DIM / UNIT_COLUMNS, AT_ONCE = THREADS / UNITS;
    u32 unit = thread_id() % UNITS, row = thread_id() / UNITS;
    Shared<u32> offset = offsets + ((step.info >> 8) * DRAFT_BLOCK + step.start + row);
    addr first = head + (addr)step.first * token_stride * DRAFT_UNIT + unit * DRAFT_UNIT;
    bool column = unit * UNIT_COLUMNS < dim;
    u32 to = tile + unit_place(rows, row, unit);
    UNROLL_BY_4 for (u32 i = 0; i < rows; i += AT_ONCE)
    {
        bool inside = column && step.start + row + i < valid_of(step);
        u32 units = inside ? offset[i] * token_stride : 0;
        copy_async(to + i * ROW_BYTES, global<const Unit>(first + (addr)units * DRAFT_UNIT),
                   inside);
    }
}
