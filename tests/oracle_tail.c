/* SPDX-License-Identifier: MIT
 *
 * What the plan parameters beyond the paper's method mean: quarters, moments, the bias of pooled
 * keys. */
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

void oracle_quarters(const struct oracle_grid *g, const double *x, double *mean, double *magnitude,
                     uint32_t *counts)
{
    uint32_t dim = g->shape.dim, parts = 4 * g->video_blocks;
    memset(mean, 0, sizeof *mean * parts * dim);
    memset(magnitude, 0, sizeof *magnitude * parts * dim);
    memset(counts, 0, sizeof *counts * parts);
    for (uint32_t token = 0; token < g->tokens; token++) {
        uint32_t block = g->block_of[token] - g->prefix_blocks; /* wraps for prefix blocks */
        if (block >= g->video_blocks)
            continue;
        uint32_t part = 4 * block + oracle_quarter(g, token);
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

/* [S][4] tokens of each quarter. */
static double *count_quarters(const struct oracle_grid *g)
{
    double *n = test_alloc((size_t)g->video_blocks * 4, sizeof *n);
    for (uint32_t j = 0; j < g->video_blocks; j++) {
        uint32_t block = g->prefix_blocks + j;
        for (uint32_t at = g->start[block]; at < g->start[block + 1]; at++)
            n[j * 4 + oracle_quarter(g, g->member[at])]++;
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
    double *counts = count_quarters(g);
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

/* ---- Bias ---- */

static double between(double x, double most)
{
    return fmin(fmax(x, 0), most);
}

void oracle_gap(const struct oracle_grid *g, double scale, const float *mean_q,
                const float *quarters, double *b, double *largest)
{
    uint32_t n = g->video_blocks;
    double *counts = count_quarters(g);
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
