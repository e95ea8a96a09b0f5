#version 460
// SPDX-License-Identifier: MIT
//
// score, second pass: softmax of each row of the draft map, in place. One workgroup for each row.
#extension GL_GOOGLE_include_directive : require
#include "tile.glsl"

#define THREADS 128

layout(local_size_x = THREADS) in;

shared float partial[THREADS];

float reduce(float x, bool is_max)
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
    float result = partial[0];
    barrier();
    return result;
}

void main()
{
    uint s = G.video_blocks, id = gl_LocalInvocationID.x;
    Floats row = Floats(at(part(G.map), workgroup(), s, 2));
    float most = -INF;
    for (uint j = id; j < s; j += THREADS)
        most = max(most, row.v[j]);
    most = reduce(most, true);
    float sum = 0.0;
    for (uint j = id; j < s; j += THREADS)
        sum += exp(row.v[j] - most);
    sum = reduce(sum, false);
    for (uint j = id; j < s; j += THREADS)
        row.v[j] = exp(row.v[j] - most) / sum;
}
