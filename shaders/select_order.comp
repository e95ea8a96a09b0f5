#version 460
// SPDX-License-Identifier: MIT
//
// select, last pass: the work order of each head, query blocks by count (largest first), then by
// index. Each invocation counts how many blocks come before its own.
#extension GL_GOOGLE_include_directive : require
#include "tile.glsl"

#define THREADS 128

layout(local_size_x = THREADS) in;

shared uint chunk[THREADS];

void main()
{
    uint groups = (G.blocks + THREADS - 1) / THREADS, id = gl_LocalInvocationID.x;
    uint head = workgroup() / groups, block = workgroup() % groups * THREADS + id;
    Words counts = Words(at(part(G.counts), head, G.blocks, 2));
    uint mine = counts.v[min(block, G.blocks - 1)], place = 0;
    for (uint first = 0; first < G.blocks; first += THREADS) {
        barrier();
        chunk[id] = counts.v[min(first + id, G.blocks - 1)];
        barrier();
        for (uint j = 0; j < min(THREADS, G.blocks - first); j++)
            place += chunk[j] > mine || (chunk[j] == mine && first + j < block) ? 1 : 0;
    }
    if (block < G.blocks)
        put16(at(part(G.order), head, G.blocks, 1), place, block);
}
