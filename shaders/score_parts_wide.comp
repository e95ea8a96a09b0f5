#version 460
// SPDX-License-Identifier: MIT
//
// score by parts on processors, before score_parts_cpu: the means of parts and quarters as f32, for
// the heads of a portion.
//
//   workgroup   CHUNKS times 8 elements of one head
//
// Bound by the loads of single lanes; each number is then read for S / 32 workgroups.
#extension GL_GOOGLE_include_directive : require
#include "tile.glsl"
#include "elements.glsl"

#define CPU 1
#include "x_rows.glsl"

#define CHUNKS 1024
#define THREADS 64
#define CHUNK 8 /* elements; divides every dim */

layout(local_size_x = THREADS) in;

void main()
{
    uint rows = G.video_blocks * DRAFT_QUARTERS, all = G.video_blocks * DRAFT_PARTS + rows;
    uint across = WIDTH / CHUNK, groups = (all * across + CHUNKS - 1) / CHUNKS;
    uint slot = workgroup() / groups, head = a.step + slot, row_units = G.dim / PER_UNIT;
    if (head >= G.batch * G.heads) // the last portion may have fewer
        return;
    uint kv_head = head / G.heads * G.kv_heads + head % G.heads / G.group;
    for (uint i = gl_LocalInvocationID.x; i < CHUNKS; i += THREADS) {
        uint n = workgroup() % groups * CHUNKS + i, row = n / across, chunk = n % across;
        if (row >= all)
            continue;
        bool is_q = row < rows;
        uvec2 from = is_q ? at(part(G.parts_q), head * rows + row, row_units, 4)
                          : at(part(G.parts_k), kv_head * (all - rows) + row - rows, row_units, 4);
        Units to = Units(wide_row(slot, row));
        [[unroll]] for (uint part4 = 0; part4 < CHUNK / 4; part4++) {
            uint vector = chunk * (CHUNK / 4) + part4;
            vec4 x = vec4(0);
            if (chunk * CHUNK < G.dim)
                x = unpack4(Units(from).v[vector / UNIT_VECTORS], vector % UNIT_VECTORS);
            to.v[vector] = floatBitsToUint(x);
        }
    }
}
