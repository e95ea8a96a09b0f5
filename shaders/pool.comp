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
#include "tile.glsl"
#include "elements.glsl"

#define LANES 32 /* x 4 elements = DRAFT_MAX_DIM */
#define GROUPS 4

layout(local_size_x = LANES * GROUPS) in;

shared vec4 sums[GROUPS][LANES];

struct Source {
    uvec2 rows, means; // token 0 of the head; means of the head
    uint token_stride;
};

Source source_of(uint sample_index, uint head)
{
    Source s;
    if (head < G.heads) {
        s.rows = row_at(a.q, sample_index, a.q_batch, head, a.q_head, 0, 0);
        s.means = at(part(G.pooled_q), (sample_index * G.heads + head) * G.video_blocks, G.dim, 2);
        s.token_stride = a.q_token;
        return s;
    }
    head -= G.heads;
    bool is_k = head < G.kv_heads;
    head -= is_k ? 0 : G.kv_heads;
    s.rows = is_k ? row_at(a.k, sample_index, a.k_batch, head, a.k_head, 0, 0)
                  : row_at(a.v, sample_index, a.v_batch, head, a.v_head, 0, 0);
    s.means = at(part(is_k ? G.pooled_k : G.pooled_v),
                 (sample_index * G.kv_heads + head) * G.video_blocks, G.dim, 2);
    s.token_stride = is_k ? a.k_token : a.v_token;
    return s;
}

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
        sum += unpack4(row.v[lane / UNIT_VECTORS], lane % UNIT_VECTORS);
    }
    sums[group][lane] = sum;
    barrier();
    if (group > 0 || !inside)
        return;
    for (uint i = 1; i < GROUPS; i++)
        sum += sums[i][lane];
    sum /= float(b.size);
    Floats means = Floats(at(s.means, block, G.dim, 2));
    for (uint i = 0; i < 4; i++)
        means.v[4 * lane + i] = sum[i];
}
