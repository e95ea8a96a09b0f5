// SPDX-License-Identifier: MIT
//
// score_parts: which work a thread block has, what it needs to know of the parts, and how they and
// quarters of q come to shared memory. See score_parts.cu.
#pragma once
#include "matrices.cuh"

#include "launch.h"

constexpr u32 THREADS = CUDA_PARTS_THREADS;
constexpr u32 ROWS = CUDA_PARTS_ROWS, WARP_ROWS = ROWS / (THREADS / WARP);
constexpr u32 FRAGMENTS = WARP_ROWS / 16; // of rows, for each warp
constexpr u32 KEY_BLOCKS = CUDA_PARTS_KEY_BLOCKS, COLUMNS = KEY_BLOCKS * DRAFT_PARTS;
constexpr u32 STEPS = CUDA_PARTS_STEPS, STAGES = CUDA_PARTS_STAGES;
constexpr u32 CLASSES = DRAFT_CLASS_TEXT; // of video blocks
constexpr u32 ALL_PARTS = (1u << DRAFT_PARTS) - 1;
static_assert(CLASSES * DRAFT_PARTS == THREADS, "see fill_shares");

// ---- Shares of the parts ------------------------------------------------------------------------

// For each class of key blocks.
struct Shares {
    Shared<f32> of;    // its parts' shares of the tokens
    Shared<f32> size;  // log2 (tokens / tokens of a full block)
    Shared<u32> parts; // bit p: part p holds tokens
};

// A block of a class; of those that no block has, one that could be.
DEVICE Block class_block(Geometry g, u32 class_)
{
    Block b;
    b.frames = class_ & 1 ? g->frames - (g->tiles_t - 1) * g->tile_t : g->tile_t;
    b.height = class_ & 2 ? g->height - (g->tiles_h - 1) * g->tile_h : g->tile_h;
    b.width = class_ & 4 ? g->width - (g->tiles_w - 1) * g->tile_w : g->tile_w;
    b.size = b.frames * b.height * b.width;
    return b;
}

// One part of one class for each thread.
DEVICE void fill_shares(Geometry g, const Shares &shares)
{
    u32 id = thread_id(), class_ = id / DRAFT_PARTS, part = id % DRAFT_PARTS;
    Block b = class_block(g, class_);
    u32 size = part_size(part_of(g, b, part)), parts = warp_ballot(size > 0);
    shares.of[id] = (f32)size / (f32)b.size;
    if (part > 0)
        return;
    u32 full = g->tile_t * g->tile_h * g->tile_w;
    shares.size[class_] = b.size == full ? 0.0f : log2_fast((f32)b.size / (f32)full);
    shares.parts[class_] = parts >> lane_id() & ALL_PARTS;
}

// The class of a key block; any for those behind the last.
DEVICE u32 class_of(const draft_args &a, u32 j)
{
    Geometry g = geometry_of(a);
    return span_of(a, g->prefix_blocks + least(j, g->video_blocks - 1)).info >> 8;
}

// ---- Work ---------------------------------------------------------------------------------------

struct Work {
    u32 head, local; // of all samples' heads; within the portion
    u32 row;         // the first, of the 4 S of the head
    u32 block, end;  // key blocks block ... end - 1
};

DEVICE Work work_of(const draft_args &a)
{
    Geometry g = geometry_of(a);
    u32 tiles = div_up(g->video_blocks * DRAFT_QUARTERS, ROWS);
    u32 rest = block_id() / tiles, spans = div_up(g->video_blocks, STEPS * KEY_BLOCKS);
    Work w;
    w.local = rest / spans;
    w.head = a.first + w.local;
    w.row = block_id() % tiles * ROWS;
    w.block = rest % spans * STEPS * KEY_BLOCKS;
    w.end = least(w.block + STEPS * KEY_BLOCKS, g->video_blocks);
    return w;
}

// ---- Loads --------------------------------------------------------------------------------------

// Copies of ROWS quarters of q; zeros behind the last row and the last column. Each thread looks
// after one column of 16 bytes, as for k.
template <u32 DIM> DEVICE void load_queries(const draft_args &a, const Work &w, u32 tile)
{
    constexpr u32 UNITS = DIM / UNIT_COLUMNS, AT_ONCE = THREADS / UNITS;
    Geometry g = geometry_of(a);
    u32 rows = g->video_blocks * DRAFT_QUARTERS, units = g->dim / UNIT_COLUMNS;
    u32 unit = thread_id() % UNITS, row = thread_id() / UNITS;
    Global<const Unit> head = rows_at<const Unit>(a, g->parts_q, (addr)w.head * rows, units);
    UNROLL_BY_4 for (u32 i = row; i < ROWS; i += AT_ONCE)
    {
        bool inside = unit < units && w.row + i < rows;
        copy_async(tile + unit_place(ROWS, i, unit),
                   head + (inside ? (w.row + i) * units + unit : 0), inside);
    }
}

// Copies of the parts of KEY_BLOCKS key blocks from number `first` on; zeros behind the last.
template <u32 DIM>
DEVICE void load_keys(const draft_args &a, u32 kv_head, u32 first, u32 stage, Shared<u32> parts)
{
    constexpr u32 UNITS = DIM / UNIT_COLUMNS, AT_ONCE = THREADS / UNITS;
    static_assert(AT_ONCE % 8 == 0, "all rows of a thread are of one key block");
    Geometry g = geometry_of(a);
    u32 unit = thread_id() % UNITS, row = thread_id() / UNITS, s = g->video_blocks;
    u32 units = g->dim / UNIT_COLUMNS, j = first + row % 8 / 2, held = parts[class_of(a, j)];
    bool inside = unit < units && j < s;
    addr key = ((addr)kv_head * s + least(j, s - 1)) * DRAFT_PARTS;
    Global<const Unit> from = rows_at<const Unit>(a, g->parts_k, key, units) + (inside ? unit : 0);
    u32 to = stage + unit_place(COLUMNS, row, unit), part = row / 8 * 2 + row % 2;
    if (held == ALL_PARTS && g->dim == DIM) { // mostly; then all distances are constants
        from = from + part * UNITS;
        UNROLL for (u32 i = 0; i < COLUMNS; i += AT_ONCE)
            copy_async(to + i * ROW_BYTES, from + i / 8 * 2 * UNITS, inside);
        return;
    }
    UNROLL_BY_4 for (u32 i = 0; i < COLUMNS; i += AT_ONCE)
    {
        u32 mine = part + i / 8 * 2;
        copy_async(to + i * ROW_BYTES, from + (held >> mine & 1 ? mine * units : 0), inside);
    }
}
