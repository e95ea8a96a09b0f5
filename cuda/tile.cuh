// SPDX-License-Identifier: MIT
//
// What the stages share: addresses in the workspace and in tensors, and blocks of tokens.
#pragma once
#include <ptx.cuh>

typedef Global<const draft_geometry> Geometry;

#define INFINITE float_of(0x7f800000u)

DEVICE Geometry geometry_of(const draft_args &a)
{
    return global<const draft_geometry>(a.geometry);
}

// The numbers behind the geometry that belong to a head: see kernel_abi.h.
DEVICE u32 budget_of(const draft_args &a, u32 head)
{
    return global<const u32>(a.geometry + sizeof(draft_geometry))[head];
}

DEVICE u32 floor_of(const draft_args &a, u32 head)
{
    return budget_of(a, geometry_of(a)->heads + head);
}

// The tables behind the geometry: offsets[class][slot], and the span of a block.
DEVICE Global<const u32> offsets_of(const draft_args &a)
{
    return global<const u32>(a.geometry + geometry_of(a)->tables * (addr)DRAFT_UNIT);
}

DEVICE draft_span span_of(const draft_args &a, u32 block)
{
    addr tables = a.geometry + geometry_of(a)->tables * (addr)DRAFT_UNIT;
    return global<const draft_span>(tables + sizeof(draft_tables))[block];
}

// Row `row` of an array in the workspace, rows of `length` elements of type T. In 64 bits.
template <class T> DEVICE Global<T> rows_at(const draft_args &a, addr offset, addr row, u32 length)
{
    return global<T>(a.workspace + offset + row * length * sizeof(T));
}

// Token 0 of one sample and head of a tensor. Strides in units.
DEVICE addr head_at(addr tensor, u32 sample, u32 batch_stride, u32 head, u32 head_stride)
{
    return tensor + ((addr)sample * batch_stride + (addr)head * head_stride) * DRAFT_UNIT;
}

DEVICE constexpr u32 div_up(u32 x, u32 y)
{
    return (x + y - 1) / y;
}

DEVICE u32 least(u32 x, u32 y)
{
    return x < y ? x : y;
}

// The tokens of a block: a box of the grid, counted from `first`, w fastest. Text is one row.
// Slots are numbered within the part of the tile that lies inside the grid.
struct Block {
    u32 first;                 // token of the sample
    u32 frames, height, width; // extents inside the grid
    u32 size;                  // frames x height x width
    u32 valid;                 // slots whose tokens count: the first ones
};

DEVICE Block text_block(u32 first, u32 start, u32 length, u32 valid)
{
    u32 size = least(length - start, DRAFT_BLOCK);
    u32 n = valid > start ? least(valid - start, size) : 0;
    return {first + start, 1, 1, size, size, n};
}

// Valid tokens of the prefix (0) or suffix (1), `length` tokens long.
DEVICE u32 valid_text(const draft_args &a, u32 sample, u32 which, u32 length)
{
    return a.valid ? least(length, global<const u32>(a.valid)[2 * sample + which]) : length;
}

// Video block number j, counted from the first of them.
DEVICE Block video_block(Geometry g, u32 j)
{
    u32 w = j % g->tiles_w * g->tile_w, row = j / g->tiles_w;
    u32 h = row % g->tiles_h * g->tile_h, t = row / g->tiles_h * g->tile_t;
    Block b;
    b.first = g->prefix + (t * g->height + h) * g->width + w;
    b.frames = least(g->tile_t, g->frames - t);
    b.height = least(g->tile_h, g->height - h);
    b.width = least(g->tile_w, g->width - w);
    b.size = b.frames * b.height * b.width;
    b.valid = b.size;
    return b;
}

DEVICE Block block_of(const draft_args &a, u32 sample, u32 block)
{
    Geometry g = geometry_of(a);
    if (block < g->prefix_blocks)
        return text_block(0, block * DRAFT_BLOCK, g->prefix, valid_text(a, sample, 0, g->prefix));
    u32 j = block - g->prefix_blocks;
    if (j < g->video_blocks)
        return video_block(g, j);
    return text_block(g->tokens - g->suffix, (j - g->video_blocks) * DRAFT_BLOCK, g->suffix,
                      valid_text(a, sample, 1, g->suffix));
}

// Distance in tokens between slot 0 and slot i of a block.
DEVICE u32 slot_token(Geometry g, const Block &b, u32 i)
{
    u32 w = i % b.width, row = i / b.width;
    u32 h = row % b.height, t = row / b.height;
    return (t * g->height + h) * g->width + w;
}

// ---- Quarters -----------------------------------------------------------------------------------

// Slots of the quarter along one axis of a block. Takes the axis's bit off the quarter's number.
DEVICE u32 quarter_extent(u32 extent, u32 split, u32 &quarter)
{
    if (split == 0)
        return extent;
    u32 lower = least(extent, split), upper = quarter % 2;
    quarter /= 2;
    return upper ? extent - lower : lower;
}

// Tokens of a quarter of a video block; 0 where the tile has no such quarter.
DEVICE u32 quarter_size(Geometry g, const Block &b, u32 quarter)
{
    u32 size = quarter_extent(b.width, g->split_w, quarter);
    size *= quarter_extent(b.height, g->split_h, quarter);
    size *= quarter_extent(b.frames, g->split_t, quarter);
    return quarter == 0 ? size : 0;
}

// The quarter that part number `part` of a tile lies in.
DEVICE u32 quarter_of(Geometry g, u32 part)
{
    u32 w = part % g->cut_w, row = part / g->cut_w, bit = 1, quarter = 0;
    u32 h = row % g->cut_h, t = row / g->cut_h;
    if (g->split_w > 0) {
        quarter += 2 * w >= g->cut_w ? bit : 0;
        bit *= 2;
    }
    if (g->split_h > 0) {
        quarter += 2 * h >= g->cut_h ? bit : 0;
        bit *= 2;
    }
    return quarter + (g->split_t > 0 && 2 * t >= g->cut_t ? bit : 0);
}

// ---- Parts --------------------------------------------------------------------------------------

// A piece of an axis of a block: first slot, and how many there are.
struct Piece {
    u32 start, length;
};

// Piece `piece` of `cut` of an axis of a tile, of which `inside` slots lie in the grid; nothing is
// left for pieces from `cut` on.
DEVICE Piece piece_of(u32 piece, u32 extent, u32 cut, u32 inside)
{
    u32 start = least(div_up(piece * extent, cut), inside);
    return {start, least(div_up((piece + 1) * extent, cut), inside) - start};
}

struct Part {
    Piece t, h, w;
};

// Part number `part` of a video block; it holds no tokens where the block has no such part.
DEVICE Part part_of(Geometry g, const Block &b, u32 part)
{
    u32 row = part / g->cut_w;
    return {piece_of(row / g->cut_h, g->tile_t, g->cut_t, b.frames),
            piece_of(row % g->cut_h, g->tile_h, g->cut_h, b.height),
            piece_of(part % g->cut_w, g->tile_w, g->cut_w, b.width)};
}

DEVICE u32 part_size(const Part &part)
{
    return part.t.length * part.h.length * part.w.length;
}

// How many slots the parts before it hold.
DEVICE u32 part_start(const Block &b, const Part &part)
{
    u32 rows = part.t.start * b.height + part.t.length * part.h.start;
    return rows * b.width + part.t.length * part.h.length * part.w.start;
}

// The place of slot i of a video block when its slots are sorted by parts.
DEVICE u32 sorted_place(Geometry g, const Block &b, u32 i)
{
    u32 w = i % b.width, row = i / b.width;
    u32 h = row % b.height, t = row / b.height;
    u32 piece_t = t * g->cut_t / g->tile_t, piece_h = h * g->cut_h / g->tile_h;
    u32 number = (piece_t * g->cut_h + piece_h) * g->cut_w + w * g->cut_w / g->tile_w;
    Part part = part_of(g, b, number);
    u32 within = ((t - part.t.start) * part.h.length + h - part.h.start) * part.w.length;
    return part_start(b, part) + within + w - part.w.start;
}

// ---- Warps --------------------------------------------------------------------------------------

// Sum over the warp; every lane gets it.
template <class T> DEVICE T warp_sum(T x)
{
    UNROLL for (u32 mask = WARP / 2; mask > 0; mask /= 2) x += warp_shuffle_xor(x, mask);
    return x;
}

template <class T> DEVICE T warp_max(T x)
{
    UNROLL for (u32 mask = WARP / 2; mask > 0; mask /= 2)
    {
        T other = warp_shuffle_xor(x, mask);
        x = other > x ? other : x;
    }
    return x;
}
