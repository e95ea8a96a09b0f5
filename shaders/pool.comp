#version 460
// SPDX-License-Identifier: MIT
//
// pool: the mean of each video block, for every head of q, k and v.
//
//   workgroup   one block of one head of one tensor
//   invocation  4 elements (id % LANES) of every GROUPS-th token, then a sum over the groups
//
// One pass over q, k and v; bound by memory bandwidth.
#extension GL_GOOGLE_include_directive : require
#include "pool.glsl"

#define GROUPS 4

layout(local_size_x = LANES * GROUPS) in;

shared vec4 sums[GROUPS][LANES];

void main()
{
    uint lane = gl_LocalInvocationID.x % LANES, group = gl_LocalInvocationID.x / LANES;
    uint block = workgroup() % G.video_blocks, row = workgroup() / G.video_blocks;
    uint tensor_heads = G.heads + 2 * G.kv_heads;
    Source s = source_of(row / tensor_heads, row % tensor_heads);
    Block b = block_of(0, G.prefix_blocks + block);
    uvec2 first = at(s.rows, b.first, s.token_stride, 4);
    bool inside = 4 * lane < G.dim;
    vec4 sum = vec4(0);
    for (uint i = group; i < b.size && inside; i += GROUPS) {
        Units row = Units(at(first, slot_token(b, i), s.token_stride, 4));
        sum += PART * unpack4(row.v[lane / UNIT_VECTORS], lane % UNIT_VECTORS);
    }
    sums[group][lane] = sum;
    barrier();
    if (group > 0 || !inside)
        return;
    for (uint i = 1; i < GROUPS; i++)
        sum += sums[i][lane];
    put4(means_of(s), s.head * G.video_blocks + block, lane, mean_of(sum, b.size));
}
