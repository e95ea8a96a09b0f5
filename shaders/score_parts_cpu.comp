#version 460
// SPDX-License-Identifier: MIT
//
// score by parts, as score_parts, for processors that run Vulkan in software.
//
//   workgroup   ROWS x INVOCATIONS quarters of query blocks by the parts of K_BLOCKS key blocks
//   invocation  ROWS quarters, in registers (that is: vectors over the lanes, on the stack)
//   step        STEP parts: products, then one step of the running sums of excess.glsl
//
// The parts are read at addresses that are the same for all invocations, see attend_cpu.comp, and
// as f32, which score_parts_wide has made of them.
//
// Bound by multiply-adds and the loads that feed them: 128 x S^2 x dim flops for each head.
#extension GL_GOOGLE_include_directive : require
#include "tile.glsl"
#include "parts.glsl"

#define CPU 1
#include "x_rows.glsl"

#define K_BLOCKS 64
#define INVOCATIONS (128 / ROWS)
#define THREADS INVOCATIONS
#include "excess.glsl"

#define VECTORS (DIM / 4)

layout(local_size_x = INVOCATIONS) in;

// Row r of an invocation is r * INVOCATIONS + its number.
vec4 q[ROWS][VECTORS];

layout(buffer_reference, std430, buffer_reference_align = 16) readonly buffer Vectors
{
    vec4 v[];
};

void multiply(uvec2 k[STEP], out float y[ROWS][STEP])
{
    [[unroll]] for (uint r = 0; r < ROWS; r++)
        [[unroll]] for (uint c = 0; c < STEP; c++)
            y[r][c] = 0.0;
    [[unroll]] for (uint i = 0; i < VECTORS; i++)
        [[unroll]] for (uint c = 0; c < STEP; c++) {
            vec4 x = Vectors(k[c]).v[i];
            [[unroll]] for (uint r = 0; r < ROWS; r++)
                [[unroll]] for (uint e = 0; e < 4; e++)
                    y[r][c] = fma(q[r][i][e], x[e], y[r][c]);
        }
}

// Parts n * STEP ... of the key block with these rows.
void add_step(uvec2 rows, uint n, uint edges, inout Parts p[ROWS])
{
    float y[ROWS][STEP], w[STEP];
    uvec2 k[STEP];
    uint first = min(n * STEP, DRAFT_PARTS - STEP);
    [[unroll]] for (uint c = 0; c < STEP; c++) {
        k[c] = at(rows, first + c, DIM, 2);
        w[c] = shares[edges][first + c];
    }
    multiply(k, y);
    [[unroll]] for (uint r = 0; r < ROWS; r++) {
        [[unroll]] for (uint c = 0; c < STEP; c++)
            y[r][c] *= G.scale;
        add_parts(p[r], n == 0, y[r], w);
    }
}

// Such drivers run the body of a loop once more with all lanes off, so the addresses must be good.
void main()
{
    uint s = G.video_blocks, across = (s + K_BLOCKS - 1) / K_BLOCKS, rows = s * DRAFT_QUARTERS;
    uint tiles = (rows + ROWS * INVOCATIONS - 1) / (ROWS * INVOCATIONS) * across;
    uint slot = workgroup() / tiles, tile = workgroup() % tiles, heads = G.batch * G.heads;
    uint row = tile / across * ROWS * INVOCATIONS + gl_LocalInvocationID.x;
    uint first = tile % across * K_BLOCKS;
    uint end = a.step + slot < heads ? min(first + K_BLOCKS, s) : 0; // see score_parts.comp
    [[unroll]] for (uint r = 0; r < ROWS; r++) {
        Vectors own = Vectors(wide_row(slot, min(row + r * INVOCATIONS, rows - 1)));
        [[unroll]] for (uint i = 0; i < VECTORS; i++)
            q[r][i] = own.v[i];
    }
    fill_shares();
    for (uint n = first; n < end; n++) {
        uint j = min(n, s - 1), info = span_info(j);
        uvec2 k = wide_row(slot, rows + j * DRAFT_PARTS);
        Parts p[ROWS];
        [[unroll]] for (uint r = 0; r < ROWS; r++)
            p[r] = Parts(0.0, 0.0, 0.0, 0.0);
        for (uint i = 0; i < DRAFT_PARTS / STEP; i++)
            add_step(k, i, info >> 8, p);
        [[unroll]] for (uint r = 0; r < ROWS; r++)
            if (row + r * INVOCATIONS < rows)
                x_row(slot, row + r * INVOCATIONS).v[j] = excess(p[r], float(info & 0xffu));
    }
}
