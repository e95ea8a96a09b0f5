// SPDX-License-Identifier: MIT
//
// The vocabulary of the shaders: addresses, blocks, rows of elements. No descriptors, no optional
// features: 64-bit addresses are uvec2, f16 and bf16 are taken apart by integer arithmetic.
#extension GL_EXT_buffer_reference : require
#extension GL_EXT_buffer_reference_uvec2 : require
#extension GL_EXT_control_flow_attributes : require

#include "kernel_abi.h"

layout(push_constant) uniform Push
{
    draft_args a;
};

layout(buffer_reference, std430, buffer_reference_align = 8) readonly buffer Geometry
{
    draft_geometry g;
    uint budget[];
};
layout(buffer_reference, std430, buffer_reference_align = 4) buffer Floats
{
    float v[];
};
layout(buffer_reference, std430, buffer_reference_align = 4) buffer Words
{
    uint v[];
};

#define G Geometry(a.geometry).g

#define INF uintBitsToFloat(0x7f800000u)

// ---- Addresses --------------------------------------------------------------------------------

uvec2 add64(uvec2 x, uvec2 y)
{
    uint carry;
    uint low = uaddCarry(x.x, y.x, carry);
    return uvec2(low, x.y + y.y + carry);
}

uvec2 mul64(uint x, uint y)
{
    uint high, low;
    umulExtended(x, y, high, low);
    return uvec2(low, high);
}

// Address of byte x * y * size (size a power of two, given as its logarithm) from `base`.
uvec2 at(uvec2 base, uint x, uint y, int log_size)
{
    uvec2 p = mul64(x, y);
    if (log_size > 0)
        p = uvec2(p.x << log_size, p.y << log_size | p.x >> (32 - log_size));
    return add64(base, p);
}

// Part of the workspace.
uvec2 part(uvec2 offset)
{
    return add64(a.workspace, offset);
}

uint workgroup()
{
    return gl_WorkGroupID.x + a.first;
}

bool any2(uvec2 address)
{
    return (address.x | address.y) != 0;
}

// ---- Blocks -----------------------------------------------------------------------------------

// The tokens of a block: a box of the grid, counted from `first`, w fastest. Text is one row.
struct Block {
    uint first;                // token of the sample
    uint frames, height, width; // extents inside the grid
    uint valid;                // tokens that count
    uint size;                 // frames x height x width
};

Block text_block(uint first, uint start, uint length, uint valid)
{
    uint size = min(length - start, DRAFT_BLOCK);
    uint n = valid > start ? min(valid - start, size) : 0;
    return Block(first + start, 1, 1, size, n, size);
}

uint valid_text(uint sample_index, uint which, uint length)
{
    if (!any2(a.valid))
        return length;
    return min(length, Words(a.valid).v[2 * sample_index + which]);
}

Block block_of(uint sample_index, uint block)
{
    if (block < G.prefix_blocks)
        return text_block(0, block * DRAFT_BLOCK, G.prefix,
                          valid_text(sample_index, 0, G.prefix));
    uint j = block - G.prefix_blocks;
    if (j >= G.video_blocks)
        return text_block(G.tokens - G.suffix, (j - G.video_blocks) * DRAFT_BLOCK, G.suffix,
                          valid_text(sample_index, 1, G.suffix));
    uint w = j % G.tiles_w * G.tile_w, row = j / G.tiles_w;
    uint h = row % G.tiles_h * G.tile_h, t = row / G.tiles_h * G.tile_t;
    Block b;
    b.first = G.prefix + (t * G.height + h) * G.width + w;
    b.frames = min(G.tile_t, G.frames - t);
    b.height = min(G.tile_h, G.height - h);
    b.width = min(G.tile_w, G.width - w);
    b.size = b.frames * b.height * b.width;
    b.valid = b.size;
    return b;
}

// Distance in tokens between slot 0 and slot i of a block.
uint slot_token(Block b, uint i)
{
    uint w = i % b.width, row = i / b.width;
    uint h = row % b.height, t = row / b.height;
    return (t * G.height + h) * G.width + w;
}

// u16 arrays start at any even address: entries are reached through the aligned words around them.
uint get16(uvec2 array, uint i)
{
    i += array.x >> 1 & 1u;
    uint word = Words(uvec2(array.x & ~3u, array.y)).v[i >> 1];
    return (i & 1u) != 0 ? word >> 16 : word & 0xffffu;
}

// True where entry i lies in the high half of its word.
bool high_half(uvec2 array, uint i)
{
    return ((i ^ array.x >> 1) & 1u) != 0;
}

// Another workgroup may own the other half of the word.
void put16(uvec2 array, uint i, uint value)
{
    i += array.x >> 1 & 1u;
    uint shift = (i & 1u) * 16;
    Words words = Words(uvec2(array.x & ~3u, array.y));
    atomicAnd(words.v[i >> 1], ~(0xffffu << shift));
    atomicOr(words.v[i >> 1], value << shift);
}

// Entries i - 1 and i, of which i lies in the high half.
void put_pair(uvec2 array, uint i, uint low, uint high)
{
    i += array.x >> 1 & 1u;
    Words(uvec2(array.x & ~3u, array.y)).v[i >> 1] = low | high << 16;
}
