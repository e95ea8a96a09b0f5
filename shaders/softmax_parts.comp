#version 460
// SPDX-License-Identifier: MIT
//
// score, after score_parts: the rows of the draft map for the heads of a portion. Row i is the mean
// of the softmax of the 4 rows x_b, each with its quarter's share of the tokens.
//
// One workgroup for each row of the map; bound by memory bandwidth.
#extension GL_GOOGLE_include_directive : require
#include "tile.glsl"
#include "quarter.glsl"
#include "x_rows.glsl"

#define THREADS 128

layout(local_size_x = THREADS) in;

shared vec4 partial[THREADS];

vec4 reduce(vec4 x, bool is_max)
{
    uint id = gl_LocalInvocationID.x;
    partial[id] = x;
    barrier();
    for (uint half_size = THREADS / 2; half_size > 0; half_size /= 2) {
        if (id < half_size)
            partial[id] = is_max ? max(partial[id], partial[id + half_size])
                                 : partial[id] + partial[id + half_size];
        barrier();
    }
    vec4 result = partial[0];
    barrier();
    return result;
}

void main()
{
    uint s = G.video_blocks, id = gl_LocalInvocationID.x;
    uint slot = workgroup() / s, i = workgroup() % s, head = a.step + slot;
    if (head >= G.batch * G.heads) // the last portion may have fewer
        return;
    Block b = block_of(0, G.prefix_blocks + i);
    vec4 share, most = vec4(-INF), sum = vec4(0);
    for (uint c = 0; c < DRAFT_QUARTERS; c++)
        share[c] = float(quarter_of(b, c).valid) / float(b.size);
    Floats x = x_row(slot, i * DRAFT_QUARTERS);
    for (uint j = id; j < s; j += THREADS)
        for (uint c = 0; c < DRAFT_QUARTERS; c++)
            most[c] = max(most[c], x.v[c * s + j]);
    most = reduce(most, true);
    for (uint j = id; j < s; j += THREADS)
        for (uint c = 0; c < DRAFT_QUARTERS; c++)
            sum[c] += exp(x.v[c * s + j] - most[c]);
    share /= reduce(sum, false);
    Floats row = Floats(at(part(G.map), head * s + i, s, 2));
    for (uint j = id; j < s; j += THREADS) {
        float p = 0.0;
        for (uint c = 0; c < DRAFT_QUARTERS; c++)
            p = fma(share[c], exp(x.v[c * s + j] - most[c]), p);
        row.v[j] = p;
    }
}
