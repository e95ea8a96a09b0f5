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

/* What rounding to nearest may leave beside the smallest numbers. */
static double least_error(const struct problem *p)
{
    return p->k.type == DRAFT_F16 ? F16_LEAST / 2 : 2 * FLT_MIN;
}

/* Means of `per` parts of a head, summed up in f32 and then rounded to the type. */
static size_t check_parts(const struct rig *rig, const char *cell, const char *name,
                          uint64_t offset, uint32_t per, size_t head, const double *x)
{
    const struct problem *p = rig->problem;
    size_t rows = (size_t)p->grid.video_blocks * per, numbers = rows * p->dim, bad = 0;
    const void *got = rig_workspace(rig, offset);
    double *mean = test_alloc(numbers, sizeof *mean), least = least_error(p);
    double *magnitude = test_alloc(numbers, sizeof *magnitude);
    uint32_t *counts = test_alloc(rows, sizeof *counts);
    (per == 4 ? oracle_quarters : oracle_parts)(&p->grid, x, mean, magnitude, counts);
    for (size_t i = 0; i < numbers; i++) {
        double n = counts[i / p->dim], u = type_roundoff(p->k.type);
        double sum = (sum_error(n) + 2 * U32) * magnitude[i] + FLT_MIN;
        double tolerance = n ? sum + u * (fabs(mean[i]) + sum) + least : 0;
        bad += check_number(cell, "pool", name, head, i / p->dim, i % p->dim,
                            type_load(p->k.type, got, head * numbers + i), mean[i], tolerance, bad);
    }
    free(mean);
    free(magnitude);
    free(counts);
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
    double least = least_error(p);
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
            bad += l->parts_k ? check_parts(rig, cell, "parts_k", l->parts_k, 16, head, k) : 0;
            bad +=
                l->moment_k ? check_moment(rig, cell, "moment_k", l->moment_k, head, k, true) : 0;
        }
        for (uint32_t h = 0; h < p->heads; h++) {
            const double *q = problem_q(p, b, h);
            size_t head = (size_t)b * p->heads + h;
            bad += l->parts_q ? check_parts(rig, cell, "parts_q", l->parts_q, 4, head, q) : 0;
            bad +=
                l->moment_q ? check_moment(rig, cell, "moment_q", l->moment_q, head, q, false) : 0;
        }
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

/* `rows` rows of a head of an array of the type, in double. */
static double *read_parts(const struct rig *rig, uint64_t offset, size_t head, size_t rows)
{
    const struct problem *p = rig->problem;
    double *out = test_alloc(rows * p->dim, sizeof *out);
    for (size_t i = 0; i < rows * p->dim; i++)
        out[i] = type_load(p->k.type, rig_workspace(rig, offset), head * rows * p->dim + i);
    return out;
}

/* |row| of the longest of n rows. */
static double longest_row(const double *rows, size_t n, uint32_t dim)
{
    double longest = 0;
    for (size_t i = 0; i < n; i++) {
        double sum = 0;
        for (uint32_t d = 0; d < dim; d++)
            sum += rows[i * dim + d] * rows[i * dim + d];
        longest = fmax(longest, sum);
    }
    return sqrt(longest);
}

/* How log (1 - 0.99 e^-g) moves when g does, by up to `error`: up to 99 times as far. */
static double magnify(double g, double error)
{
    double up = log1p(-0.99 * exp(-(g + error))), down = log1p(-0.99 * exp(-fmax(g - error, 0)));
    double at = log1p(-0.99 * exp(-g));
    return fmax(up - at, at - down);
}

/* Bound of the error of x, whose logits y are wrong by up to `error`. A change of the y moves g by
 * as much as weights and shares of the sum differ, which the change itself alters too. Errors of exp
 * grow with its argument: by 2 u for each unit. Those of the terms of the sum, -y each, come to no
 * more than 2 u ln 128 = 10 u in all. That of e^-g does to the result what an error of g would. */
static double excess_error(const struct oracle_excess *e, double error, double n)
{
    double mass = fabs(e->gap - e->depth); /* |ln sum w_a e^(y_a - most)| */
    double ratio = fabs(e->x) + e->reach + mass + log(n);
    double sum = LOG_ERROR + 6 * U32 * mass + (FUNCTION + 10) * U32 + sum_error(16);
    double g = error * fmin(2, e->tilt + expm1(2 * error)) + sum +
               (sum_error(16) + 4 * U32) * e->depth + (FUNCTION + 2 * e->gap) * U32;
    return error + sum + magnify(e->gap, g) + 2 * LOG_ERROR + 6 * U32 * ratio;
}

/* The row of a quarter: pairs [S], `reach` the length of the query's mean times |scale|. Adds the
 * quarter's part to want and tolerance [S]; error [S] is scratch. */
static void expect_quarter(const struct problem *p, const struct oracle_excess *pairs, double reach,
                           const double *longest, double *error, double *want, double *tolerance)
{
    const struct oracle_grid *g = &p->grid;
    size_t n = g->video_blocks;
    double most = -INFINITY, share = 0, least = 0;
    for (size_t j = 0; j < n; j++) {
        double logit = sum_error(p->dim) * reach * longest[j] + 4 * U32 * pairs[j].reach;
        error[j] = excess_error(&pairs[j], logit, g->size[g->prefix_blocks + j]);
        most = fmax(most, pairs[j].x);
        share += pairs[j].p;
        least += pairs[j].p * exp(-error[j]);
    }
    for (size_t j = 0; j < n && share > 0; j++) {
        double relative = exp(error[j]) * share / least - 1 + sum_error(n) +
                          (FUNCTION + 2 * fmin(most - pairs[j].x, 100)) * U32;
        want[j] += pairs[j].p;
        tolerance[j] += fmin(pairs[j].p * relative, share) + share * 2 * FLT_MIN;
    }
}

static size_t compare_map_row(const char *cell, size_t head, size_t row, size_t n, const float *got,
                              const double *want, const double *tolerance)
{
    double sum = 0;
    size_t bad = 0;
    for (size_t j = 0; j < n; j++) {
        sum += got[j];
        bad += check_number(cell, "score", "map", head, row, j, got[j], want[j],
                            got[j] >= 0 ? tolerance[j] + 4 * U32 * want[j] : 0, bad);
    }
    return bad + check_number(cell, "score", "sum of map", head, row, 0, sum, 1,
                              sum_error((double)n) + FUNCTION * U32, bad);
}

size_t check_part_map(const struct rig *rig, const char *cell, uint32_t b, uint32_t h)
{
    const struct problem *p = rig->problem;
    size_t n = p->grid.video_blocks, head = (size_t)b * p->heads + h, bad = 0;
    size_t kv = (size_t)b * p->kv_heads + h / (p->heads / p->kv_heads);
    double *q = read_parts(rig, rig->layout.parts_q, head, 4 * n);
    double *k = read_parts(rig, rig->layout.parts_k, kv, 16 * n);
    struct oracle_excess *pairs = test_alloc(4 * n * n, sizeof *pairs);
    double *longest = test_alloc(n, sizeof *longest), *error = test_alloc(n, sizeof *error);
    double *want = test_alloc(n * n, sizeof *want), *tolerance = test_alloc(n * n, sizeof *want);
    oracle_score_parts(&p->grid, p->scale, q, k, pairs);
    for (size_t j = 0; j < n; j++)
        longest[j] = longest_row(k + j * 16 * p->dim, 16, p->dim);
    for (size_t row = 0; row < 4 * n; row++) {
        double reach = fabs(p->scale) * longest_row(q + row * p->dim, 1, p->dim);
        expect_quarter(p, pairs + row * n, reach, longest, error, want + row / 4 * n,
                       tolerance + row / 4 * n);
    }
    const float *map = (const float *)rig_workspace(rig, rig->layout.map) + head * n * n;
    for (size_t i = 0; i < n; i++)
        bad += compare_map_row(cell, head, i, n, map + i * n, want + i * n, tolerance + i * n);
    free(q);
    free(k);
    free(pairs);
    free(longest);
    free(error);
    free(want);
    free(tolerance);
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
