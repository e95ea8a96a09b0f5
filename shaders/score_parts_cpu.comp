#version 460
// SPDX-License-Identifier: MIT
//
// score by parts, as score_parts, for processors that run Vulkan in software.
//
//   workgroup   ROWS x INVOCATIONS quarters of query blocks by the parts of K_BLOCKS key blocks
//   invocation  ROWS quarters, in registers (that is: vectors over the lanes, on the stack)
//   step        STEP parts: products, then one step of the running sums of excess.glsl
//
// The parts are read at addresses that are the same for all invocations, see attend_cpu.comp.
//
// Bound by multiply-adds and the loads that feed them: 128 x S^2 x dim flops for each head.
#extension GL_GOOGLE_include_directive : require
#include "tile.glsl"
#include "elements.glsl"
#include "parts.glsl"

#define K_BLOCKS 64
#define INVOCATIONS (128 / ROWS)
#define THREADS INVOCATIONS
#include "excess.glsl"

#define VECTORS (DIM / 4)

layout(local_size_x = INVOCATIONS) in;

// Row r of an invocation is r * INVOCATIONS + its number.
vec4 q[ROWS][VECTORS];

// Elements 4 i ... 4 i + 3 of a row; beyond dim they are 0.
vec4 load4(uvec2 row, uint i)
{
#if EXACT
    return unpack4(Units(row).v[i / UNIT_VECTORS], i % UNIT_VECTORS);
#else
    uint last = (G.dim - 1) / PER_UNIT;
    vec4 x = unpack4(Units(row).v[min(i / UNIT_VECTORS, last)], i % UNIT_VECTORS);
    return 4 * i < G.dim ? x : vec4(0);
#endif
}

void multiply(uvec2 k[STEP], out float y[ROWS][STEP])
{
    [[unroll]] for (uint r = 0; r < ROWS; r++)
        [[unroll]] for (uint c = 0; c < STEP; c++)
            y[r][c] = 0.0;
    [[unroll]] for (uint i = 0; i < VECTORS; i++)
        [[unroll]] for (uint c = 0; c < STEP; c++) {
            vec4 x = load4(k[c], i);
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
        k[c] = at(rows, first + c, G.dim / PER_UNIT, 4);
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
    uint head = min(a.step + slot, heads - 1);
    uint kv_head = head / G.heads * G.kv_heads + head % G.heads / G.group;
    uint row = tile / across * ROWS * INVOCATIONS + gl_LocalInvocationID.x;
    uint first = tile % across * K_BLOCKS, row_units = G.dim / PER_UNIT;
    uint end = a.step + slot < heads ? min(first + K_BLOCKS, s) : 0; // see score_parts.comp
    uvec2 q_head = at(part(G.parts_q), head * rows, row_units, 4);
    [[unroll]] for (uint r = 0; r < ROWS; r++) {
        uvec2 own = at(q_head, min(row + r * INVOCATIONS, rows - 1), row_units, 4);
        [[unroll]] for (uint i = 0; i < VECTORS; i++)
            q[r][i] = load4(own, i);
    }
    fill_shares();
    for (uint n = first; n < end; n++) {
        uint j = min(n, s - 1), info = span_info(j);
        uvec2 k = at(part(G.parts_k), (kv_head * s + j) * DRAFT_PARTS, row_units, 4);
        Parts p[ROWS];
        [[unroll]] for (uint r = 0; r < ROWS; r++)
            p[r] = Parts(0.0, 0.0, 0.0, 0.0);
        for (uint i = 0; i < DRAFT_PARTS / STEP; i++)
            add_step(k, i, info >> 8, p);
        [[unroll]] for (uint r = 0; r < ROWS; r++)
            if (row + r * INVOCATIONS < rows)
                x_row(slot * rows + row + r * INVOCATIONS).v[j] =
                    excess(p[r], float(info & 0xffu));
    }
}
