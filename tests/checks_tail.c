/* SPDX-License-Identifier: MIT
 *
 * Checks of what plans have beyond the paper's method. */
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "checks.h"
#include "tolerance.h"

/* One number of an array [heads][S][..]; row: which of the S x .. rows of the head. */
static size_t check_number(const char *cell, const char *stage, const char *array, size_t head,
                           size_t row, size_t d, double got, double want, double tolerance,
                           size_t bad)
{
    if (close_to(stage, got, want, tolerance))
        return 0;
    char what[96];
    snprintf(what, sizeof what, "%s head %zu row %zu entry %zu", array, head, row, d);
    report(bad, cell, what, got, want, tolerance);
    return 1;
}

/* ---- pool ---- */

/* head counts samples x kv heads. */
static size_t check_quarters(const struct rig *rig, const char *cell, size_t head, const double *k)
{
    const struct problem *p = rig->problem;
    size_t rows = 4 * (size_t)p->grid.video_blocks, bad = 0;
    const float *got = rig_workspace(rig, rig->layout.quarters);
    double *mean = test_alloc(rows * p->dim, sizeof *mean);
    double *magnitude = test_alloc(rows * p->dim, sizeof *magnitude);
    uint32_t *counts = test_alloc(rows, sizeof *counts);
    oracle_quarters(&p->grid, k, mean, magnitude, counts);
    got += head * rows * p->dim;
    for (size_t i = 0; i < rows * p->dim; i++) {
        double n = counts[i / p->dim];
        double tolerance = n ? (sum_error(n) + 2 * U32) * magnitude[i] + FLT_MIN : 0;
        bad += check_number(cell, "pool", "quarters", head, i / p->dim, i % p->dim, got[i], mean[i],
                            tolerance, bad);
    }
    free(mean);
    free(magnitude);
    free(counts);
    return bad;
}

/* What an error of the mean makes of a variance: its square. */
static size_t check_moment(const struct rig *rig, const char *cell, const char *name,
                           uint64_t offset, size_t head, const double *x, bool central)
{
    const struct problem *p = rig->problem;
    const struct oracle_grid *g = &p->grid;
    size_t numbers = (size_t)g->video_blocks * p->dim, bad = 0;
    const float *got = (const float *)rig_workspace(rig, offset) + head * numbers;
    double *want = test_alloc(numbers, sizeof *want), *mean = test_alloc(numbers, sizeof *mean);
    double *magnitude = test_alloc(numbers, sizeof *magnitude);
    oracle_moment(g, x, central, want);
    oracle_pool(g, x, mean, magnitude);
    for (size_t i = 0; i < numbers; i++) {
        double error = sum_error(g->size[g->prefix_blocks + i / p->dim]);
        double shift = central ? (error + 2 * U32) * magnitude[i] : 0;
        double tolerance = (error + 6 * U32) * want[i] + 2 * shift * shift + FLT_MIN;
        bad += check_number(cell, "pool", name, head, i / p->dim, i % p->dim, got[i], want[i],
                            tolerance, bad);
    }
    free(want);
    free(mean);
    free(magnitude);
    return bad;
}

/* The means of the workspace, rounded to the nearest number of the type. */
static size_t check_rounded(const struct rig *rig, const char *cell, const char *name,
                            uint64_t means, uint64_t offset)
{
    const struct problem *p = rig->problem;
    size_t numbers = (size_t)p->grid.video_blocks * p->dim, bad = 0;
    const float *from = rig_workspace(rig, means);
    const void *got = rig_workspace(rig, offset);
    double least = p->k.type == DRAFT_F16 ? F16_LEAST / 2 : 2 * FLT_MIN;
    for (size_t i = 0; i < numbers * p->batch * p->kv_heads; i++)
        bad += check_number(cell, "pool", name, i / numbers, i % numbers / p->dim, i % p->dim,
                            type_load(p->k.type, got, i), from[i],
                            type_roundoff(p->k.type) * fabs(from[i]) + least, bad);
    return bad;
}

size_t check_pool_tail(const struct rig *rig, const char *cell)
{
    const struct problem *p = rig->problem;
    const struct draft_layout *l = &rig->layout;
    uint32_t group = p->heads / p->kv_heads;
    size_t bad = 0;
    for (uint32_t b = 0; b < p->batch; b++) {
        for (uint32_t h = 0; h < p->kv_heads; h++) {
            const double *k = problem_k(p, b, h * group);
            size_t head = (size_t)b * p->kv_heads + h;
            bad += l->quarters ? check_quarters(rig, cell, head, k) : 0;
            bad +=
                l->moment_k ? check_moment(rig, cell, "moment_k", l->moment_k, head, k, true) : 0;
        }
        for (uint32_t h = 0; h < p->heads && l->moment_q; h++)
            bad += check_moment(rig, cell, "moment_q", l->moment_q, (size_t)b * p->heads + h,
                                problem_q(p, b, h), false);
    }
    if (l->tail_k)
        bad += check_rounded(rig, cell, "tail_k", l->pooled_k, l->tail_k) +
               check_rounded(rig, cell, "tail_v", l->pooled_v, l->tail_v);
    return bad;
}

/* ---- score ---- */

/* The workspace's arrays of one query head. */
struct head_arrays {
    const float *q, *quarters, *moment_q, *moment_k, *bias;
    double factor; /* within its bounds */
};

static struct head_arrays arrays_of(const struct rig *rig, size_t head)
{
    const struct problem *p = rig->problem;
    const struct draft_layout *l = &rig->layout;
    size_t kv = head / p->heads * p->kv_heads + head % p->heads / (p->heads / p->kv_heads);
    size_t s = p->grid.video_blocks, numbers = s * p->dim;
    float factor = l->factors ? ((const float *)rig_workspace(rig, l->factors))[head] : 0;
    return (struct head_arrays){
        .q = (const float *)rig_workspace(rig, l->pooled_q) + head * numbers,
        .quarters = (const float *)rig_workspace(rig, l->quarters) + kv * 4 * numbers,
        .moment_q = (const float *)rig_workspace(rig, l->moment_q) + head * numbers,
        .moment_k = (const float *)rig_workspace(rig, l->moment_k) + kv * numbers,
        .bias = (const float *)rig_workspace(rig, l->bias) + head * s * l->bias_stride,
        .factor = fmin(fmax(factor, 0), 1.5),
    };
}

static double longest_of(const float *rows, size_t n, uint32_t dim)
{
    double longest = 0;
    for (size_t j = 0; j < n; j++)
        longest = fmax(longest, length_of(rows + j * dim, dim));
    return longest;
}

size_t check_quarter_map(const struct rig *rig, const char *cell, uint32_t b, uint32_t h)
{
    const struct problem *p = rig->problem;
    size_t n = p->grid.video_blocks, head = (size_t)b * p->heads + h;
    struct head_arrays x = arrays_of(rig, head);
    double *want = test_alloc(n * n, sizeof *want), *logits = test_alloc(n * n, sizeof *logits);
    double *error = test_alloc(n, sizeof *error);
    oracle_score_quarters(&p->grid, p->test->params.scorer, p->scale, x.q, x.quarters, want, logits,
                          error);
    double longest = longest_of(x.quarters, 4 * n, p->dim);
    for (size_t i = 0; i < n; i++) /* exp and log of the sum over quarters on top */
        error[i] = logit_error(p, x.q + i * p->dim, longest, error[i]) + LOG_ERROR + FUNCTION * U32;
    const float *map = rig_workspace(rig, rig->layout.map);
    size_t bad = check_map_rows(rig, cell, b, h, want, logits, error, map + head * n * n);
    free(want);
    free(logits);
    free(error);
    return bad;
}

static double between(double x, double most)
{
    return fmin(fmax(x, 0), most);
}

/* The bias's error is that of ln n, and what the second order adds: error [S][S]. */
static size_t compare_bias(const struct rig *rig, const char *cell, size_t head, const float *got,
                           const double *b, const double *error)
{
    const struct oracle_grid *g = &rig->problem->grid;
    size_t n = g->video_blocks, bad = 0;
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < n; j++) {
            double want = log(g->size[g->prefix_blocks + j]) + b[i * n + j];
            double tolerance = LOG_ERROR + 4 * U32 * want + error[i * n + j];
            bad += check_number(cell, "score", "bias", head, i, j,
                                fabsf(got[i * rig->layout.bias_stride + j]), want, tolerance, bad);
        }
    return bad;
}

/* Two logits and their sum are wrong by as much as the logits themselves are. */
static void expect_gap(const struct rig *rig, const struct head_arrays *x, double *b, double *error)
{
    const struct problem *p = rig->problem;
    size_t n = p->grid.video_blocks;
    oracle_gap(&p->grid, p->scale, x->q, x->quarters, b, error);
    double longest = longest_of(x->quarters, 4 * n, p->dim);
    for (size_t at = 0; at < n * n; at++)
        error[at] =
            2 * logit_error(p, x->q + at / n * p->dim, longest, error[at]) + (FUNCTION + 8) * U32;
}

static void expect_fitted(const struct rig *rig, const struct head_arrays *x, double *b,
                          double *error)
{
    const struct problem *p = rig->problem;
    const struct oracle_grid *g = &p->grid;
    size_t n = g->video_blocks;
    double relative = sum_error(p->dim) + 8 * U32;
    oracle_second_order(g, p->scale, x->moment_q, x->moment_k, b);
    for (size_t at = 0; at < n * n; at++) {
        double most = log(g->size[g->prefix_blocks + at % n]), w = b[at];
        double spread = between(w * (1 + relative), most) - between(w * (1 - relative), most);
        b[at] = x->factor * between(w, most);
        error[at] = x->factor * (spread + LOG_ERROR + FLT_MIN);
    }
}

size_t check_bias(const struct rig *rig, const char *cell)
{
    const struct problem *p = rig->problem;
    size_t n = p->grid.video_blocks, bad = 0;
    if (!rig->layout.bias)
        return 0;
    double *b = test_alloc(n * n, sizeof *b), *error = test_alloc(n * n, sizeof *error);
    for (size_t head = 0; head < (size_t)p->batch * p->heads; head++) {
        struct head_arrays x = arrays_of(rig, head);
        if (p->test->params.tail == DRAFT_TAIL_GAP)
            expect_gap(rig, &x, b, error);
        if (p->test->params.tail == DRAFT_TAIL_FITTED)
            expect_fitted(rig, &x, b, error);
        bad += compare_bias(rig, cell, head, x.bias, b, error);
    }
    free(b);
    free(error);
    return bad;
}
