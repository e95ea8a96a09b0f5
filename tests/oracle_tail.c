/* SPDX-License-Identifier: MIT
 *
 * What the plan parameters beyond the paper's method mean: quarters, parts, moments, the bias of
 * pooled keys. */
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "harness.h"
#include "oracle.h"

/* ---- Quarters ---- */

/* Where the tile is cut, for t, h, w: 0 where it is not. Of two axes of one length w is longer than
 * h, and h than t. */
static void find_cuts(const struct oracle_grid *g, uint32_t cut[3])
{
    const uint32_t extent[3] = {g->tile.t, g->tile.h, g->tile.w};
    for (int axis = 0; axis < 3; axis++) {
        int longer = 0;
        for (int other = 0; other < 3; other++)
            longer +=
                extent[other] > extent[axis] || (extent[other] == extent[axis] && other > axis);
        cut[axis] = longer < 2 && extent[axis] > 1 ? (extent[axis] + 1) / 2 : 0;
    }
}

uint32_t oracle_quarter(const struct oracle_grid *g, uint32_t token)
{
    const struct draft_shape *s = &g->shape;
    uint32_t cut[3], at = token - s->prefix;
    const uint32_t within[3] = {at / (s->height * s->width) % g->tile.t,
                                at / s->width % s->height % g->tile.h, at % s->width % g->tile.w};
    find_cuts(g, cut);
    uint32_t quarter = 0, bits = 0;
    for (int axis = 2; axis >= 0; axis--) {
        if (cut[axis] && within[axis] >= cut[axis])
            quarter |= 1u << bits;
        bits += cut[axis] != 0;
    }
    return quarter;
}

/* Until there are 16 parts the longest pieces are halved, those of quarters to begin with; of
 * equally long ones those along w, then h. */
static void find_pieces(const struct oracle_grid *g, uint32_t pieces[3])
{
    const uint32_t extent[3] = {g->tile.t, g->tile.h, g->tile.w};
    uint32_t cut[3];
    double length[3];
    find_cuts(g, cut);
    for (int axis = 0; axis < 3; axis++) {
        pieces[axis] = cut[axis] ? 2 : 1;
        length[axis] = (double)extent[axis] / pieces[axis];
    }
    for (;;) {
        int longest = 2;
        for (int axis = 1; axis >= 0; axis--)
            longest = length[axis] > length[longest] ? axis : longest;
        if (pieces[0] * pieces[1] * pieces[2] == 16 || length[longest] < 2)
            return;
        pieces[longest] *= 2;
        length[longest] /= 2;
    }
}

uint32_t oracle_part(const struct oracle_grid *g, uint32_t token)
{
    const struct draft_shape *s = &g->shape;
    const uint32_t extent[3] = {g->tile.t, g->tile.h, g->tile.w};
    uint32_t pieces[3], at = token - s->prefix, part = 0;
    const uint32_t within[3] = {at / (s->height * s->width) % g->tile.t,
                                at / s->width % s->height % g->tile.h, at % s->width % g->tile.w};
    find_pieces(g, pieces);
    for (int axis = 0; axis < 3; axis++)
        part = part * pieces[axis] + within[axis] * pieces[axis] / extent[axis];
    return part;
}

/* Means of what `number` tells apart, `per` in each block. */
static void means_of(const struct oracle_grid *g, uint32_t per,
                     uint32_t (*number)(const struct oracle_grid *, uint32_t), const double *x,
                     double *mean, double *magnitude, uint32_t *counts)
{
    uint32_t dim = g->shape.dim, parts = per * g->video_blocks;
    memset(mean, 0, sizeof *mean * parts * dim);
    memset(magnitude, 0, sizeof *magnitude * parts * dim);
    memset(counts, 0, sizeof *counts * parts);
    for (uint32_t token = 0; token < g->tokens; token++) {
        uint32_t block = g->block_of[token] - g->prefix_blocks; /* wraps for prefix blocks */
        if (block >= g->video_blocks)
            continue;
        uint32_t part = per * block + number(g, token);
        counts[part]++;
        for (uint32_t d = 0; d < dim; d++) {
            mean[(size_t)part * dim + d] += x[(size_t)token * dim + d];
            magnitude[(size_t)part * dim + d] += fabs(x[(size_t)token * dim + d]);
        }
    }
    for (size_t at = 0; at < (size_t)parts * dim; at++) {
        mean[at] /= fmax(counts[at / dim], 1);
        magnitude[at] /= fmax(counts[at / dim], 1);
    }
}

void oracle_quarters(const struct oracle_grid *g, const double *x, double *mean, double *magnitude,
                     uint32_t *counts)
{
    means_of(g, 4, oracle_quarter, x, mean, magnitude, counts);
}

void oracle_parts(const struct oracle_grid *g, const double *x, double *mean, double *magnitude,
                  uint32_t *counts)
{
    means_of(g, 16, oracle_part, x, mean, magnitude, counts);
}

void oracle_moment(const struct oracle_grid *g, const double *x, bool central, double *moment)
{
    uint32_t dim = g->shape.dim;
    double *mean = test_alloc((size_t)g->video_blocks * dim, sizeof *mean);
    double *rest = test_alloc((size_t)g->video_blocks * dim, sizeof *rest);
    oracle_pool(g, x, mean, rest);
    memset(moment, 0, sizeof *moment * g->video_blocks * dim);
    for (uint32_t token = 0; token < g->tokens; token++) {
        uint32_t block = g->block_of[token] - g->prefix_blocks;
        for (uint32_t d = 0; block < g->video_blocks && d < dim; d++) {
            double from = central ? mean[(size_t)block * dim + d] : 0;
            double away = x[(size_t)token * dim + d] - from;
            moment[(size_t)block * dim + d] += away * away / g->size[g->prefix_blocks + block];
        }
    }
    for (size_t at = 0; at < (size_t)g->video_blocks * dim; at++)
        moment[at] = fmin(moment[at], FLT_MAX);
    free(mean);
    free(rest);
}

/* ---- Scores ---- */

/* s_a of one pair, and the tokens of each quarter of block j. */
struct quarter_scores {
    double s[4], n[4], all;
};

/* [S][per] tokens of each quarter or part. */
static double *count_tokens(const struct oracle_grid *g, uint32_t per,
                            uint32_t (*number)(const struct oracle_grid *, uint32_t))
{
    double *n = test_alloc((size_t)g->video_blocks * per, sizeof *n);
    for (uint32_t j = 0; j < g->video_blocks; j++) {
        uint32_t block = g->prefix_blocks + j;
        for (uint32_t at = g->start[block]; at < g->start[block + 1]; at++)
            n[j * per + number(g, g->member[at])]++;
    }
    return n;
}

static struct quarter_scores score_pair(const struct oracle_grid *g, double scale,
                                        const float *mean_q, const float *quarters,
                                        const double *counts, uint32_t i, uint32_t j)
{
    uint32_t dim = g->shape.dim;
    struct quarter_scores r = {{0}, {0}, g->size[g->prefix_blocks + j]};
    memcpy(r.n, counts + (size_t)j * 4, sizeof r.n);
    for (uint32_t a = 0; a < 4; a++)
        for (uint32_t d = 0; d < dim; d++)
            r.s[a] += scale * mean_q[(size_t)i * dim + d] * quarters[((size_t)j * 4 + a) * dim + d];
    return r;
}

static double sum_quarters(const struct quarter_scores *r)
{
    double largest = -INFINITY, sum = 0;
    for (int a = 0; a < 4; a++)
        largest = r->n[a] > 0 ? fmax(largest, r->s[a]) : largest;
    for (int a = 0; a < 4; a++)
        sum += r->n[a] > 0 ? r->n[a] * exp(r->s[a] - largest) : 0;
    return largest + log(sum);
}

void oracle_score_quarters(const struct oracle_grid *g, draft_scorer scorer, double scale,
                           const float *mean_q, const float *quarters, double *p, double *logits,
                           double *largest)
{
    uint32_t n = g->video_blocks;
    double *counts = count_tokens(g, 4, oracle_quarter);
    for (uint32_t i = 0; i < n; i++) {
        double *row = logits + (size_t)i * n, most = -INFINITY, sum = 0;
        largest[i] = 0;
        for (uint32_t j = 0; j < n; j++) {
            struct quarter_scores r = score_pair(g, scale, mean_q, quarters, counts, i, j);
            row[j] = scorer == DRAFT_SCORER_LSE ? sum_quarters(&r) : -INFINITY;
            for (int a = 0; a < 4; a++) {
                largest[i] = fmax(largest[i], fabs(r.s[a]));
                if (r.n[a] > 0 && scorer == DRAFT_SCORER_MAX)
                    row[j] = fmax(row[j], r.s[a] + log(r.n[a]));
            }
            most = fmax(most, row[j]);
        }
        for (uint32_t j = 0; j < n; j++)
            sum += p[(size_t)i * n + j] = exp(row[j] - most);
        for (uint32_t j = 0; j < n; j++)
            p[(size_t)i * n + j] /= sum;
    }
    free(counts);
}

/* ---- Excess ---- */

/* One pair: q [dim] of a quarter, k [16][dim] and their tokens n. All but p. */
static struct oracle_excess excess_of(const struct oracle_grid *g, double scale, const double *q,
                                      const double *k, const double n[16])
{
    struct oracle_excess e = {0};
    double y[16] = {0}, all = 0, most = -INFINITY, sum = 0;
    for (int a = 0; a < 16; a++) {
        for (uint32_t d = 0; d < g->shape.dim; d++)
            y[a] += scale * q[d] * k[(size_t)a * g->shape.dim + d];
        all += n[a];
        if (n[a] == 0)
            continue;
        most = fmax(most, y[a]);
        e.reach = fmax(e.reach, fabs(y[a]));
    }
    for (int a = 0; a < 16; a++) {
        sum += n[a] > 0 ? n[a] / all * exp(y[a] - most) : 0;
        e.depth += n[a] > 0 ? n[a] / all * (most - y[a]) : 0;
    }
    for (int a = 0; a < 16; a++)
        e.tilt += n[a] > 0 ? n[a] / all * fabs(exp(y[a] - most) / sum - 1) : 0;
    e.gap = fmax(log(sum) + e.depth, 0);
    e.x = log(all) + most + log(sum) + log(1 - 0.99 * exp(-e.gap));
    return e;
}

void oracle_score_parts(const struct oracle_grid *g, double scale, const double *parts_q,
                        const double *parts_k, struct oracle_excess *pairs)
{
    uint32_t dim = g->shape.dim, s = g->video_blocks;
    double *keys = count_tokens(g, 16, oracle_part), *queries = count_tokens(g, 4, oracle_quarter);
    for (uint32_t row = 0; row < 4 * s; row++) {
        struct oracle_excess *to = pairs + (size_t)row * s;
        double most = -INFINITY, sum = 0;
        double share = queries[row] / g->size[g->prefix_blocks + row / 4];
        for (uint32_t j = 0; j < s; j++) {
            to[j] = excess_of(g, scale, parts_q + (size_t)row * dim, parts_k + (size_t)j * 16 * dim,
                              keys + (size_t)j * 16);
            most = fmax(most, to[j].x);
        }
        for (uint32_t j = 0; j < s; j++)
            sum += exp(to[j].x - most);
        for (uint32_t j = 0; j < s; j++)
            to[j].p = share * exp(to[j].x - most) / sum;
    }
    free(keys);
    free(queries);
}

/* ---- Bias ---- */

static double between(double x, double most)
{
    return fmin(fmax(x, 0), most);
}

void oracle_gap(const struct oracle_grid *g, double scale, const float *mean_q,
                const float *quarters, double *b, double *largest)
{
    uint32_t n = g->video_blocks;
    double *counts = count_tokens(g, 4, oracle_quarter);
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t j = 0; j < n; j++) {
            struct quarter_scores r = score_pair(g, scale, mean_q, quarters, counts, i, j);
            double mean = 0, most = 0;
            for (int a = 0; a < 4; a++) {
                mean += r.n[a] / r.all * r.s[a];
                most = fmax(most, fabs(r.s[a]));
            }
            b[(size_t)i * n + j] = between(sum_quarters(&r) - log(r.all) - mean, log(r.all));
            largest[(size_t)i * n + j] = most;
        }
    free(counts);
}

void oracle_second_order(const struct oracle_grid *g, double scale, const float *moment_q,
                         const float *moment_k, double *w)
{
    uint32_t dim = g->shape.dim, n = g->video_blocks;
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t j = 0; j < n; j++) {
            double sum = 0;
            for (uint32_t d = 0; d < dim; d++)
                sum += (double)moment_q[(size_t)i * dim + d] * moment_k[(size_t)j * dim + d];
            w[(size_t)i * n + j] = 0.5 * scale * scale * sum;
        }
}
