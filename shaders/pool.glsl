// SPDX-License-Identifier: MIT
//
// What the kernels of pool share: the rows of a head of q, k or v, and where its means go.
#include "tile.glsl"
#include "elements.glsl"

#define LANES 32 /* x 4 elements = DRAFT_MAX_DIM */

// What is added up is divided first, so that sums of the largest numbers stay finite; by a power of
// two, so that nothing is rounded.
#define PART (1.0 / DRAFT_BLOCK)

// The means of n numbers from the sums of PART of each. Infinity is but a rounding error, or a
// square.
vec4 mean_of(vec4 sum, uint n)
{
    float most = uintBitsToFloat(0x7f7fffffu);
    vec4 x = sum / (float(n) * PART);
    x = mix(x, vec4(most), greaterThan(x, vec4(most)));
    return mix(x, vec4(-most), lessThan(x, vec4(-most)));
}

#define OF_Q 0
#define OF_K 1
#define OF_V 2

struct Source {
    uint tensor; // OF_Q, OF_K or OF_V
    uint head;   // sample x heads of the tensor + head
    uvec2 rows;  // token 0 of the head
    uint token_stride;
};

// Heads of q, then of k, then of v.
Source source_of(uint sample_index, uint head)
{
    if (head < G.heads)
        return Source(OF_Q, sample_index * G.heads + head,
                      row_at(a.q, sample_index, a.q_batch, head, a.q_head, 0, 0), a.q_token);
    head -= G.heads;
    bool is_k = head < G.kv_heads;
    head -= is_k ? 0 : G.kv_heads;
    uint kv_head = sample_index * G.kv_heads + head;
    if (is_k)
        return Source(OF_K, kv_head, row_at(a.k, sample_index, a.k_batch, head, a.k_head, 0, 0),
                      a.k_token);
    return Source(OF_V, kv_head, row_at(a.v, sample_index, a.v_batch, head, a.v_head, 0, 0),
                  a.v_token);
}

uvec2 means_of(Source s)
{
    return s.tensor == OF_Q ? G.pooled_q : s.tensor == OF_K ? G.pooled_k : G.pooled_v;
}

// The 4 elements 4 lane ... of row `row`, DIM elements each, of a part of the workspace.
void put4(uvec2 offset, uint row, uint lane, vec4 x)
{
    Floats to = Floats(at(part(offset), row, G.dim, 2));
    for (uint i = 0; i < 4; i++)
        to.v[4 * lane + i] = x[i];
}
