#version 460
// SPDX-License-Identifier: MIT
//
// score by quarters: s_a = scale x <mean q_i, mean of quarter a of k_j>. Logits of the draft map
// where the scorer is LSE or MAX, and the bias where the tail is GAP.
//
// Tiles as in score.glsl; the rows of k are quarters, 4 for each block, so that an invocation has
// all quarters of one key block. 8 x S^2 x dim flops for each head.
#extension GL_GOOGLE_include_directive : require
#include "score.glsl"
#include "quarter.glsl"

float largest(vec4 x)
{
    return max(max(x.x, x.y), max(x.z, x.w));
}

// ln sum w_a e^x_a = largest x + this; 0 where w_a is 0.
float log_sum(vec4 w, vec4 x, float most)
{
    float sum = 0.0;
    for (uint c = 0; c < DRAFT_QUARTERS; c++)
        sum += w[c] > 0.0 ? w[c] * exp(x[c] - most) : 0.0;
    return log(sum);
}

// n: tokens of each quarter.
float logit(vec4 n, vec4 s)
{
    if (G.scorer == DRAFT_ABI_SCORER_MAX) {
        for (uint c = 0; c < DRAFT_QUARTERS; c++)
            s[c] = n[c] > 0.0 ? s[c] + log(n[c]) : -INF;
        return largest(s);
    }
    float most = largest(mix(vec4(-INF), s, greaterThan(n, vec4(0))));
    return most + log_sum(n, s, most);
}

// ln n_j + b_ij
float gap_bias(vec4 n, vec4 s)
{
    float size = n.x + n.y + n.z + n.w, most_bias = log_size(uint(size));
    float most = largest(mix(vec4(-INF), s, greaterThan(n, vec4(0))));
    float gap = log_sum(n / size, s, most);
    for (uint c = 0; c < DRAFT_QUARTERS; c++)
        gap += n[c] > 0.0 ? n[c] / size * (most - s[c]) : 0.0;
    return most_bias + (is_nan(gap) || !(gap > 0.0) ? 0.0 : min(gap, most_bias));
}

void main()
{
    uint s = G.video_blocks;
    bool has_gap = G.tail == DRAFT_ABI_TAIL_GAP;
    bool maps = G.scorer == DRAFT_ABI_SCORER_LSE || G.scorer == DRAFT_ABI_SCORER_MAX;
    Tile t = tile_of(DRAFT_QUARTERS * (has_gap ? G.bias_stride : s));
    Floats q = Floats(at(part(G.pooled_q), t.head * s, G.dim, 2));
    Floats k = Floats(at(part(G.quarters), t.kv_head * s, DRAFT_QUARTERS * G.dim, 2));
    vec4 sum[4], n;
    multiply(t, q, k, DRAFT_QUARTERS * s, sum);
    uint j = (t.column + t.own_c) / DRAFT_QUARTERS;
    Block b = block_of(0, G.prefix_blocks + min(j, s - 1));
    for (uint c = 0; c < DRAFT_QUARTERS; c++)
        n[c] = float(quarter_of(b, c).valid);
    for (uint r = 0; r < 4; r++) {
        uint i = t.row + t.own_r + r;
        if (i >= s)
            continue;
        if (maps && j < s)
            map_row(t, i).v[j] = logit(n, sum[r] * G.scale);
        if (has_gap && j < G.bias_stride)
            bias_row(t, i).v[j] = j < s ? gap_bias(n, sum[r] * G.scale) : -INF;
    }
}
