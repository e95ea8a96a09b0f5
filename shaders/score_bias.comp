#version 460
// SPDX-License-Identifier: MIT
//
// score: the bias where the tail is MEAN, ln n_j, or FITTED, with a product of second moments.
//
// Tiles as in score.glsl. With FITTED 2 x S^2 x dim flops for each head.
#extension GL_GOOGLE_include_directive : require
#include "score.glsl"

float second_order(float factor, float product, float most)
{
    float w = 0.5 * G.scale * G.scale * product;
    return is_nan(w) ? 0.0 : factor * min(w, most);
}

void main()
{
    uint s = G.video_blocks;
    bool fitted = G.tail == DRAFT_ABI_TAIL_FITTED;
    Tile t = tile_of(G.bias_stride);
    float factor = 0.0;
    vec4 sum[4] = vec4[4](vec4(0), vec4(0), vec4(0), vec4(0));
    if (fitted) {
        Floats q = Floats(at(part(G.moment_q), t.head * s, G.dim, 2));
        Floats k = Floats(at(part(G.moment_k), t.kv_head * s, G.dim, 2));
        multiply(t, q, k, s, sum);
        factor = Floats(part(G.factors)).v[t.head];
        factor = is_nan(factor) || !(factor > 0.0) ? 0.0 : min(factor, DRAFT_FACTOR_MOST);
    }
    for (uint c = 0; c < 4; c++) {
        uint j = t.column + t.own_c + c;
        if (j >= G.bias_stride)
            continue;
        float most = log_size(block_of(0, G.prefix_blocks + min(j, s - 1)).size);
        for (uint r = 0; r < 4; r++) {
            uint i = t.row + t.own_r + r;
            if (i < s)
                bias_row(t, i).v[j] = j < s ? most + second_order(factor, sum[r][c], most) : -INF;
        }
    }
}
