#version 460
// SPDX-License-Identifier: MIT
//
// score: logits of the draft map, scale x <mean q_i, mean k_j> + ln (n_j / n_full).
//
// Tiles as in score.glsl. 2 x S^2 x dim flops for each head: far below everything else.
#extension GL_GOOGLE_include_directive : require
#include "score.glsl"

void main()
{
    uint s = G.video_blocks;
    Tile t = tile_of(s);
    Floats q = Floats(at(part(G.pooled_q), t.head * s, G.dim, 2));
    Floats k = Floats(at(part(G.pooled_k), t.kv_head * s, G.dim, 2));
    vec4 sum[4];
    multiply(t, q, k, s, sum);
    float full = float(G.tile_t * G.tile_h * G.tile_w);
    for (uint c = 0; c < 4; c++) {
        uint j = t.column + t.own_c + c;
        if (j >= s)
            continue;
        float bias = log(float(block_of(0, G.prefix_blocks + j).size) / full);
        for (uint r = 0; r < 4; r++) {
            uint i = t.row + t.own_r + r;
            if (i < s)
                map_row(t, i).v[j] = fma(sum[r][c], G.scale, bias);
        }
    }
}
