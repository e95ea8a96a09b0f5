#version 460
// SPDX-License-Identifier: MIT
//
// score, first pass: logits of the draft map, scale x <mean q_i, mean k_j> + ln (n_j / n_full).
//
//   workgroup   TILE_ROWS x TILE_COLUMNS of one head's map, DEPTH elements of the means at a time
//   invocation  4 x 4 logits
//
// 2 x S^2 x dim flops for each head: far below everything else.
#extension GL_GOOGLE_include_directive : require
#include "tile.glsl"

#define TILE_ROWS 32
#define TILE_COLUMNS 64
#define DEPTH 32
#define THREADS 128 /* (TILE_ROWS / 4) x (TILE_COLUMNS / 4) */

layout(local_size_x = THREADS) in;

shared float q_tile[TILE_ROWS][DEPTH + 1], k_tile[TILE_COLUMNS][DEPTH + 1];

// Rows first ... of one head's means, elements depth ...; 0 outside.
float mean_at(Floats means, uint row, uint d)
{
    return row < G.video_blocks && d < G.dim ? means.v[row * G.dim + d] : 0.0;
}

void main()
{
    uint s = G.video_blocks, id = gl_LocalInvocationID.x;
    uint columns = (s + TILE_COLUMNS - 1) / TILE_COLUMNS, rows = (s + TILE_ROWS - 1) / TILE_ROWS;
    uint tile = workgroup() % (rows * columns), head = workgroup() / (rows * columns);
    uint first_row = tile / columns * TILE_ROWS, first_column = tile % columns * TILE_COLUMNS;
    uint kv_head = head / G.heads * G.kv_heads + head % G.heads / G.group;
    Floats q = Floats(at(part(G.pooled_q), head * s, G.dim, 2));
    Floats k = Floats(at(part(G.pooled_k), kv_head * s, G.dim, 2));
    uint r0 = id / (TILE_COLUMNS / 4) * 4, c0 = id % (TILE_COLUMNS / 4) * 4;
    float sum[4][4];
    for (uint r = 0; r < 4; r++)
        for (uint c = 0; c < 4; c++)
            sum[r][c] = 0.0;
    for (uint depth = 0; depth < G.dim; depth += DEPTH) {
        for (uint i = id; i < TILE_ROWS * DEPTH; i += THREADS)
            q_tile[i / DEPTH][i % DEPTH] = mean_at(q, first_row + i / DEPTH, depth + i % DEPTH);
        for (uint i = id; i < TILE_COLUMNS * DEPTH; i += THREADS)
            k_tile[i / DEPTH][i % DEPTH] = mean_at(k, first_column + i / DEPTH, depth + i % DEPTH);
        barrier();
        for (uint d = 0; d < DEPTH; d++)
            for (uint r = 0; r < 4; r++)
                for (uint c = 0; c < 4; c++)
                    sum[r][c] = fma(q_tile[r0 + r][d], k_tile[c0 + c][d], sum[r][c]);
        barrier();
    }
    float full = float(G.tile_t * G.tile_h * G.tile_w);
    uvec2 map = at(part(G.map), head * s, s, 2);
    for (uint c = 0; c < 4; c++) {
        uint j = first_column + c0 + c;
        if (j >= s)
            continue;
        float bias = log(float(block_of(0, G.prefix_blocks + j).size) / full);
        for (uint r = 0; r < 4; r++) {
            uint i = first_row + r0 + r;
            if (i < s)
                Floats(at(map, i, s, 2)).v[j] = fma(sum[r][c], G.scale, bias);
        }
    }
}
