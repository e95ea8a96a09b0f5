// SPDX-License-Identifier: MIT
//
// score, for plans beyond the paper's method. Tiles as in score.cu.
//
//   draft_score_quarters  pooled q by the quarters of k: the four columns of a unit are those of
//                         one key block, so that each thread has all of a pair. Map (not of
//                         EXCESS), and bias of tail GAP. 4 times the work of draft_score
//   draft_score_moments   moments of q by those of k: bias of tail FITTED
//   draft_score_bias      bias of tail MEAN, the same for all rows; bound by memory bandwidth
//
// Bias is written for all columns up to bias_stride: -infinity from S on.
#pragma once
#include "launch.h"
#include "tile.cuh"

constexpr f32 LN_2 = 0.69314718055994531f;

// ---- Quarters ----------------------------------------------------------------------------------

// A key block: its tokens, and of its quarters the share of them, and the logarithm of the share to
// base 2, -infinity for quarters that hold none.
struct Shares {
    u32 size;
    f32 of[DRAFT_QUARTERS], log2_of[DRAFT_QUARTERS];
};

DEVICE Shares shares_of(Geometry g, u32 j)
{
    Block b = video_block(g, j);
    Shares x;
    x.size = b.size;
    UNROLL for (u32 i = 0; i < DRAFT_QUARTERS; i++)
    {
        x.of[i] = (f32)quarter_size(g, b, i) / (f32)b.size;
        x.log2_of[i] = log2_fast(x.of[i]);
    }
    return x;
}

// Of a pair, by the logits of the quarters, in units of ln 2.
struct Scores {
    f32 mean, lse, most, gap; // gap: lse - mean
};

DEVICE Scores scores_of(const Shares &shares, const f32 (&s)[DRAFT_QUARTERS])
{
    f32 weighed[DRAFT_QUARTERS], most = -INFINITE;
    UNROLL for (u32 i = 0; i < DRAFT_QUARTERS; i++)
    {
        weighed[i] = s[i] + shares.log2_of[i];
        most = weighed[i] > most ? weighed[i] : most;
    }
    f32 sum = 0, mean = 0; // from `most` on, where differences are small
    UNROLL for (u32 i = 0; i < DRAFT_QUARTERS; i++)
    {
        sum += exp2_fast(weighed[i] - most);
        mean += shares.of[i] * (s[i] - most);
    }
    f32 log = log2_fast(sum);
    return {most + mean, most + log, most, log - mean};
}

DEVICE void write_quarters(const draft_args &a, const f32 sum[8][8])
{
    Geometry g = geometry_of(a);
    Tile tile = tile_of(g, g->bias_stride * DRAFT_QUARTERS);
    Place at = place_of();
    u32 s = g->video_blocks, stride = g->bias_stride, scorer = g->scorer;
    Global<f32> map = rows_at<f32>(a, g->map, (addr)tile.head * s, s);
    Global<f32> bias = rows_at<f32>(a, g->bias, (addr)tile.head * s, stride);
    bool gap = g->tail == DRAFT_ABI_TAIL_GAP;
    f32 scale = g->scale * LOG2_E;
    UNROLL for (u32 half = 0; half < 2; half++)
    {
        u32 j = (tile.column + half * (COLUMNS / 2)) / DRAFT_QUARTERS + at.column;
        Shares shares = shares_of(g, least(j, s - 1));
        f32 offset = bias_of(g, j), tokens = logf((f32)shares.size);
        UNROLL for (u32 r = 0; r < 8; r++)
        {
            u32 row = tile.row + r / 4 * (ROWS / 2) + at.row * 4 + r % 4;
            if (row >= s)
                continue;
            f32 logits[DRAFT_QUARTERS];
            UNROLL for (u32 i = 0; i < DRAFT_QUARTERS; i++) logits[i] =
                sum[r][4 * half + i] * scale;
            Scores x = scores_of(shares, logits);
            if (j < s && scorer != DRAFT_ABI_SCORER_EXCESS)
                map[(addr)row * s + j] = offset + (scorer == DRAFT_ABI_SCORER_LSE   ? x.lse
                                                   : scorer == DRAFT_ABI_SCORER_MAX ? x.most
                                                                                    : x.mean);
            if (gap)
                bias[(addr)row * stride + j] =
                    j < s ? tokens + (x.gap > 0 ? fminf(x.gap * LN_2, tokens) : 0.0f) : -INFINITE;
        }
    }
}

KERNEL(draft_score_quarters, CUDA_SCORE_THREADS, 4)
{
    SHARED_ARRAY(Unit, parts, 2 * PART);
    Geometry g = geometry_of(a);
    f32 sum[8][8] = {};
    multiply_tile(a, sum, tile_of(g, g->bias_stride * DRAFT_QUARTERS), g->pooled_q, g->quarters,
                  g->video_blocks * DRAFT_QUARTERS, parts);
    write_quarters(a, sum);
}

// ---- Moments -----------------------------------------------------------------------------------

DEVICE void write_moments(const draft_args &a, const f32 sum[8][8])
{
    Geometry g = geometry_of(a);
    Tile tile = tile_of(g, g->bias_stride);
    Place at = place_of();
    u32 s = g->video_blocks, units = g->bias_stride / 4;
    Global<Unit> bias = rows_at<Unit>(a, g->bias, (addr)tile.head * s, units);
    f32 given = global<const f32>(a.workspace + g->factors)[tile.head];
    f32 factor = given > 0 ? fminf(given, DRAFT_FACTOR_MOST) : 0.0f;
    f32 scale = g->scale * g->scale / 2;
    UNROLL for (u32 half = 0; half < 2; half++)
    {
        u32 j = tile.column + half * (COLUMNS / 2) + at.column * 4;
        f32 tokens[4];
        UNROLL for (u32 c = 0; c < 4; c++) tokens[c] =
            logf((f32)video_block(g, least(j + c, s - 1)).size);
        UNROLL for (u32 r = 0; r < 8; r++)
        {
            u32 row = tile.row + r / 4 * (ROWS / 2) + at.row * 4 + r % 4;
            Unit x;
            UNROLL for (u32 c = 0; c < 4; c++)
            {
                f32 w = sum[r][4 * half + c] * scale;
                f32 b = factor * (w > 0 ? fminf(w, tokens[c]) : 0.0f);
                x.v[c] = bits_of(j + c < s ? tokens[c] + b : -INFINITE);
            }
            if (row < s)
                bias[(addr)row * units + j / 4] = x;
        }
    }
}

KERNEL(draft_score_moments, CUDA_SCORE_THREADS, 4)
{
    SHARED_ARRAY(Unit, parts, 2 * PART);
    Geometry g = geometry_of(a);
    f32 sum[8][8] = {};
    multiply_tile(a, sum, tile_of(g, g->bias_stride), g->moment_q, g->moment_k, g->video_blocks,
                  parts);
    write_moments(a, sum);
}

// ---- Sizes -------------------------------------------------------------------------------------

// A thread block: ROWS rows of COLUMNS columns, one for each thread.
KERNEL(draft_score_bias, CUDA_SCORE_THREADS, 8)
{
    Geometry g = geometry_of(a);
    Tile tile = tile_of(g, g->bias_stride);
    u32 s = g->video_blocks, j = tile.column + thread_id(), end = least(tile.row + ROWS, s);
    f32 x = j < s ? logf((f32)video_block(g, j).size) : -INFINITE;
    Global<f32> bias = rows_at<f32>(a, g->bias, (addr)tile.head * s, g->bias_stride);
    for (u32 row = tile.row; row < end; row++)
        bias[(addr)row * g->bias_stride + j] = x;
}
