#version 460
// SPDX-License-Identifier: MIT
//
// score by parts: x_bj of scorer EXCESS, for the heads of a portion.
//
//   workgroup   the quarters of Q_BLOCKS query blocks by the parts of K_BLOCKS key blocks, 64 x 128
//               products of DEPTH elements at a time, staged as f32
//   invocation  4 x 16 products: all of one pair of blocks, 16 x 8 invocations:
//                 invocation  0: query block 0, key block 0   1: key block 1  ...  7: key block 7
//                             8: query block 1, key block 0   ...
//
// Bound by multiply-adds, 128 x S^2 x dim flops for each head; 5 loads of 16 bytes from shared
// memory for 64 of them.
#extension GL_GOOGLE_include_directive : require
#include "tile.glsl"
#include "elements.glsl"
#include "parts.glsl"

#define CPU 0
#include "x_rows.glsl"

#define Q_BLOCKS 16
#define K_BLOCKS 8
#define THREADS 128 /* Q_BLOCKS x K_BLOCKS */
#define DEPTH 16
#define STEP DRAFT_PARTS
#include "excess.glsl"

#define Q_ROWS (Q_BLOCKS * DRAFT_QUARTERS)
#define K_ROWS (K_BLOCKS * DRAFT_PARTS)
#define STEP_UNITS (DEPTH / PER_UNIT) /* of one row */

layout(local_size_x = THREADS) in;

#define ID gl_LocalInvocationID.x

// Of one element: all quarters of a block side by side, and 4 parts of a block.
shared vec4 q_stage[DEPTH][Q_BLOCKS], k_stage[DEPTH][DRAFT_PARTS / 4][K_BLOCKS];

// Some rows of a matrix: from the first on, `count` of them.
struct Rows {
    uvec2 first;
    uint count;
};

// Unit n of the STEP_UNITS units from `from` on of each row; 0 outside.
uvec4 unit_of(Rows rows, uint n, uint from)
{
    uint row = n / STEP_UNITS, unit = from + n % STEP_UNITS, width = G.dim / PER_UNIT;
    return row < rows.count && unit < width ? Units(rows.first).v[row * width + unit] : uvec4(0);
}

// Ends with a barrier.
void load_stages(Rows q, Rows k, uint from)
{
    [[unroll]] for (uint i = 0; i < Q_ROWS * STEP_UNITS / THREADS; i++) {
        uint n = i * THREADS + ID, row = n / STEP_UNITS, d = n % STEP_UNITS * PER_UNIT;
        uint block = row / DRAFT_QUARTERS, number = row % DRAFT_QUARTERS;
        uvec4 unit = unit_of(q, n, from);
        [[unroll]] for (uint e = 0; e < PER_UNIT; e++)
            q_stage[d + e][block][number] = unpack4(unit, e / 4)[e % 4];
    }
    [[unroll]] for (uint i = 0; i < K_ROWS * STEP_UNITS / THREADS; i++) {
        uint n = i * THREADS + ID, row = n / STEP_UNITS, d = n % STEP_UNITS * PER_UNIT;
        uint block = row / DRAFT_PARTS, number = row % DRAFT_PARTS;
        uvec4 unit = unit_of(k, n, from);
        [[unroll]] for (uint e = 0; e < PER_UNIT; e++)
            k_stage[d + e][number / 4][block][number % 4] = unpack4(unit, e / 4)[e % 4];
    }
    barrier();
}

void main()
{
    uint s = G.video_blocks, across = (s + K_BLOCKS - 1) / K_BLOCKS;
    uint tiles = (s + Q_BLOCKS - 1) / Q_BLOCKS * across;
    uint slot = workgroup() / tiles, tile = workgroup() % tiles, head = a.step + slot;
    if (head >= G.batch * G.heads) // the last portion may have fewer
        return;
    uint kv_head = head / G.heads * G.kv_heads + head % G.heads / G.group;
    uint i = tile / across * Q_BLOCKS, j = tile % across * K_BLOCKS, row_units = G.dim / PER_UNIT;
    Rows q = Rows(at(part(G.parts_q), (head * s + i) * DRAFT_QUARTERS, row_units, 4),
                  min(s - i, Q_BLOCKS) * DRAFT_QUARTERS);
    Rows k = Rows(at(part(G.parts_k), (kv_head * s + j) * DRAFT_PARTS, row_units, 4),
                  min(s - j, K_BLOCKS) * DRAFT_PARTS);
    vec4 sum[DRAFT_QUARTERS][DRAFT_PARTS / 4];
    [[unroll]] for (uint b = 0; b < DRAFT_QUARTERS; b++)
        [[unroll]] for (uint c = 0; c < DRAFT_PARTS / 4; c++)
            sum[b][c] = vec4(0);
    uint own_i = ID / K_BLOCKS, own_j = ID % K_BLOCKS;
    fill_shares();
    for (uint from = 0; from < row_units; from += STEP_UNITS) {
        load_stages(q, k, from);
        for (uint d = 0; d < DEPTH; d++) {
            vec4 x = q_stage[d][own_i];
            [[unroll]] for (uint c = 0; c < DRAFT_PARTS / 4; c++) {
                vec4 y = k_stage[d][c][own_j];
                [[unroll]] for (uint b = 0; b < DRAFT_QUARTERS; b++)
                    sum[b][c] = fma(vec4(x[b]), y, sum[b][c]);
            }
        }
        barrier();
    }
    i += own_i;
    j += own_j;
    if (i >= s || j >= s)
        return;
    uint info = span_info(j);
    float w[DRAFT_PARTS];
    shares_of(info, w);
    [[unroll]] for (uint b = 0; b < DRAFT_QUARTERS; b++)
        x_row(slot, i * DRAFT_QUARTERS + b).v[j] = excess_of(sum[b], w, info);
}
