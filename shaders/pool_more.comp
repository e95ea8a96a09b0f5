#version 460
// SPDX-License-Identifier: MIT
//
// pool for plans that want more than the mean of each video block: means of the quarters of k, or
// of its parts and of the quarters of q; second moments of q and k; means rounded to the type of
// the tensors.
//
//   workgroup   one block of one head of one tensor
//   invocation  4 elements (id % LANES) of the tokens of quarter id / LANES
//
// One pass over q, k and v, and for the moments another one over what the cache still has; bound by
// memory bandwidth.
#extension GL_GOOGLE_include_directive : require
#include "pool.glsl"
#include "quarter.glsl"
#include "parts.glsl"

layout(local_size_x = LANES * DRAFT_QUARTERS) in;

shared vec4 sums[DRAFT_QUARTERS][LANES];

#define LANE (gl_LocalInvocationID.x % LANES)
#define QUARTER (gl_LocalInvocationID.x / LANES)
#define INSIDE (4 * LANE < G.dim)

// Over the tokens of a quarter or a part: the sum of x, and of (x - center)^2, PART of each.
void add_up(Source s, Block b, vec4 center, out vec4 sum, out vec4 squares)
{
    uvec2 first = at(s.rows, b.first, s.token_stride, 4);
    sum = squares = vec4(0);
    for (uint i = 0; i < b.valid && INSIDE; i++) {
        uint slot = min(i, b.size - 1);
        Units row = Units(at(first, slot_token(b, slot), s.token_stride, 4));
        vec4 x = unpack4(row.v[LANE / UNIT_VECTORS], LANE % UNIT_VECTORS);
        sum += PART * x;
        squares += PART * (x - center) * (x - center);
    }
}

// Of all quarters.
vec4 whole(vec4 sum)
{
    barrier();
    sums[QUARTER][LANE] = sum;
    barrier();
    return (sums[0][LANE] + sums[1][LANE]) + (sums[2][LANE] + sums[3][LANE]);
}

// Rows of the type of the tensors, packed.
void put_rounded(uvec2 offset, uint row, vec4 x)
{
    store4(at(part(offset), row, G.dim, TYPE == DRAFT_ABI_F32 ? 2 : 1), LANE, x);
}

// The mean of n numbers, 0 of none.
vec4 some_mean(vec4 sum, uint n)
{
    return n > 0 ? mean_of(sum, n) : vec4(0);
}

// The part of a block that consists of one piece of each axis.
Block part_of(Block b, uvec3 piece)
{
    uvec3 inside = uvec3(b.width, b.height, b.frames);
    Box box = piece_box(piece, inside);
    uint tokens = box_tokens(box);
    uvec3 from = min(box.first, inside - 1), size = max(box.size, uvec3(1)); // as in quarter_of
    return Block(b.first + (from.z * G.height + from.y) * G.width + from.x, size.z, size.y, size.x,
                 tokens, size.x * size.y * size.z);
}

// As add_up, over the parts of this invocation's quarter of block b, whose means are stored as
// those of block `row`.
vec4 add_up_parts(Source s, Block b, uint row)
{
    vec4 sum = vec4(0), more, squares;
    Box pieces = pieces_of_quarter(QUARTER);
    for (uint i = 0; i < box_tokens(pieces); i++) {
        uvec3 size = max(pieces.size, uvec3(1)); // as in part_of
        uvec3 piece = uvec3(i % size.x, i / size.x % size.y, i / (size.x * size.y));
        piece += pieces.first;
        Block some = part_of(b, piece);
        add_up(s, some, vec4(0), more, squares);
        sum += more;
        if (INSIDE)
            put_rounded(G.parts_k, row * DRAFT_PARTS + number_of(piece),
                        some_mean(more, some.valid));
    }
    uint there = G.cut_w * G.cut_h * G.cut_t;
    for (uint number = there + QUARTER; number < DRAFT_PARTS && INSIDE; number += DRAFT_QUARTERS)
        put_rounded(G.parts_k, row * DRAFT_PARTS + number, vec4(0));
    return sum;
}

// What is stored of this invocation's quarter.
void put_quarter(Source s, uint row, vec4 mean)
{
    row = row * DRAFT_QUARTERS + QUARTER;
    if (INSIDE && s.tensor == OF_K && any2(G.quarters))
        put4(G.quarters, row, LANE, mean);
    if (INSIDE && s.tensor == OF_Q && any2(G.parts_q))
        put_rounded(G.parts_q, row, mean);
}

void main()
{
    uint block = workgroup() % G.video_blocks, item = workgroup() / G.video_blocks;
    uint tensor_heads = G.heads + 2 * G.kv_heads;
    Source s = source_of(item / tensor_heads, item % tensor_heads);
    Block b = block_of(0, G.prefix_blocks + block), quarter = quarter_of(b, QUARTER);
    uint row = s.head * G.video_blocks + block;
    bool writes = QUARTER == 0 && INSIDE;
    vec4 sum, squares;
    if (s.tensor == OF_K && any2(G.parts_k))
        sum = add_up_parts(s, b, row);
    else
        add_up(s, quarter, vec4(0), sum, squares);
    vec4 mean = mean_of(whole(sum), b.size);
    if (writes)
        put4(means_of(s), row, LANE, mean);
    if (writes && TYPE != DRAFT_ABI_F32 && s.tensor != OF_Q && G.tail != DRAFT_ABI_TAIL_DROP)
        put_rounded(s.tensor == OF_K ? G.tail_k : G.tail_v, row, mean);
    put_quarter(s, row, some_mean(sum, quarter.valid));
    if (s.tensor == OF_V || G.tail != DRAFT_ABI_TAIL_FITTED)
        return;
    if (s.tensor == OF_K)
        add_up(s, quarter, mean, sum, squares);
    vec4 moment = mean_of(whole(squares), b.size);
    if (writes)
        put4(s.tensor == OF_Q ? G.moment_q : G.moment_k, row, LANE, moment);
}
