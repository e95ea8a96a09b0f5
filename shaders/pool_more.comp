#version 460
// SPDX-License-Identifier: MIT
//
// pool for plans that want more than the mean of each video block: means of the quarters of k,
// second moments of q and k, means rounded to the type of the tensors.
//
//   workgroup   one block of one head of one tensor
//   invocation  4 elements (id % LANES) of the tokens of quarter id / LANES
//
// One pass over q, k and v, and for the moments another one over what the cache still has; bound by
// memory bandwidth.
#extension GL_GOOGLE_include_directive : require
#include "pool.glsl"
#include "quarter.glsl"

layout(local_size_x = LANES * DRAFT_QUARTERS) in;

shared vec4 sums[DRAFT_QUARTERS][LANES];

#define LANE (gl_LocalInvocationID.x % LANES)
#define QUARTER (gl_LocalInvocationID.x / LANES)
#define INSIDE (4 * LANE < G.dim)

// Over the tokens of a quarter: the sum of x, and of (x - center)^2, PART of each.
void add_up(Source s, Block quarter, vec4 center, out vec4 sum, out vec4 squares)
{
    uvec2 first = at(s.rows, quarter.first, s.token_stride, 4);
    sum = squares = vec4(0);
    for (uint i = 0; i < quarter.valid && INSIDE; i++) {
        uint slot = min(i, quarter.size - 1);
        Units row = Units(at(first, slot_token(quarter, slot), s.token_stride, 4));
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
#if TYPE != DRAFT_ABI_F32
    store4(at(part(offset), row, G.dim, 1), LANE, x);
#endif
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
    add_up(s, quarter, vec4(0), sum, squares);
    vec4 mean = mean_of(whole(sum), b.size);
    if (writes)
        put4(means_of(s), row, LANE, mean);
    if (writes && s.tensor != OF_Q && G.tail != DRAFT_ABI_TAIL_DROP)
        put_rounded(s.tensor == OF_K ? G.tail_k : G.tail_v, row, mean);
    if (INSIDE && s.tensor == OF_K && any2(G.quarters))
        put4(G.quarters, row * DRAFT_QUARTERS + QUARTER, LANE,
             quarter.valid > 0 ? mean_of(sum, quarter.valid) : vec4(0));
    if (s.tensor == OF_V || G.tail != DRAFT_ABI_TAIL_FITTED)
        return;
    if (s.tensor == OF_K)
        add_up(s, quarter, mean, sum, squares);
    vec4 moment = mean_of(whole(squares), b.size);
    if (writes)
        put4(s.tensor == OF_Q ? G.moment_q : G.moment_k, row, LANE, moment);
}
