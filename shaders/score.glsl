// SPDX-License-Identifier: MIT
//
// What the kernels of score share: a tile of the product of two matrices of f32, a head's rows of q
// with rows of k.
//
//   workgroup   TILE_ROWS x TILE_COLUMNS products, DEPTH elements at a time
//   invocation  4 x 4 products
#include "tile.glsl"

#define TILE_ROWS 32
#define TILE_COLUMNS 64
#define DEPTH 32
#define THREADS 128 /* (TILE_ROWS / 4) x (TILE_COLUMNS / 4) */

layout(local_size_x = THREADS) in;

shared float q_tile[TILE_ROWS][DEPTH + 1], k_tile[TILE_COLUMNS][DEPTH + 1];

struct Tile {
    uint head, kv_head;  // of all samples
    uint row, column;    // first ones of the workgroup
    uint own_r, own_c; // from there to the first ones of this invocation
};

// All rows of a head by `columns` columns are cut into tiles.
Tile tile_of(uint columns)
{
    uint id = gl_LocalInvocationID.x;
    uint across = (columns + TILE_COLUMNS - 1) / TILE_COLUMNS;
    uint down = (G.video_blocks + TILE_ROWS - 1) / TILE_ROWS;
    uint tile = workgroup() % (down * across), head = workgroup() / (down * across);
    return Tile(head, head / G.heads * G.kv_heads + head % G.heads / G.group,
                tile / across * TILE_ROWS, tile % across * TILE_COLUMNS,
                id / (TILE_COLUMNS / 4) * 4, id % (TILE_COLUMNS / 4) * 4);
}

// 0 outside.
float element(Floats matrix, uint row, uint rows, uint d)
{
    return row < rows && d < G.dim ? matrix.v[row * G.dim + d] : 0.0;
}

// The products of this invocation: sum[r] with the columns t.column + t.own_c ...
void multiply(Tile t, Floats q, Floats k, uint k_rows, out vec4 sum[4])
{
    uint id = gl_LocalInvocationID.x;
    for (uint r = 0; r < 4; r++)
        sum[r] = vec4(0);
    for (uint depth = 0; depth < G.dim; depth += DEPTH) {
        for (uint i = id; i < TILE_ROWS * DEPTH; i += THREADS)
            q_tile[i / DEPTH][i % DEPTH] =
                element(q, t.row + i / DEPTH, G.video_blocks, depth + i % DEPTH);
        for (uint i = id; i < TILE_COLUMNS * DEPTH; i += THREADS)
            k_tile[i / DEPTH][i % DEPTH] =
                element(k, t.column + i / DEPTH, k_rows, depth + i % DEPTH);
        barrier();
        for (uint d = 0; d < DEPTH; d++)
            for (uint r = 0; r < 4; r++)
                for (uint c = 0; c < 4; c++)
                    sum[r][c] = fma(q_tile[t.own_r + r][d], k_tile[t.own_c + c][d], sum[r][c]);
        barrier();
    }
}

// Row i of a head's map.
Floats map_row(Tile t, uint i)
{
    return Floats(at(at(part(G.map), t.head * G.video_blocks, G.video_blocks, 2), i,
                     G.video_blocks, 2));
}

Floats bias_row(Tile t, uint i)
{
    return Floats(at(at(part(G.bias), t.head * G.video_blocks, G.bias_stride, 2), i,
                     G.bias_stride, 2));
}

// ln n. The bias must not be below 0, and log (1) may be.
float log_size(uint n)
{
    return n > 1 ? log(float(n)) : 0.0;
}

bool is_nan(float x)
{
    return (floatBitsToUint(x) & 0x7fffffffu) > 0x7f800000u;
}
