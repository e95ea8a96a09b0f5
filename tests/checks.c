/* SPDX-License-Identifier: MIT */
#include "checks.h"

#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- Tolerances ----
 *
 * With u = 2^-24, the roundoff of f32, and U that of the type of out:
 *
 *   sum of n terms    SPREAD sqrt(n) u sum|terms|       rounding errors add like a random walk
 *   logit             E = SPREAD sqrt(dim) u scale |q||k|
 *   weight p          p (exp(2E) - 1)                   both logit and maximum may be off by E
 *   exp, divide       FUNCTION u                        what Vulkan asks of exp near 0, and divide
 *   log               LOG_ERROR                         what Vulkan asks of log near 1
 *   out               U |out|                           rounded once, to nearest
 *   smallest numbers  FLT_MIN; one denormal of f16      f32 denormals may be flushed
 *   p for matrix units  U sum p|v|                      only kernels that round p to the type */
static const double SPREAD = 4;
static const double FUNCTION = 16;
static const double U32 = 0x1p-24;
static const double LOG_ERROR = 0x1p-21;
static const double F16_LEAST = 0x1p-24;

/* Above this, exp(2E) says nothing; only bounds and sums are checked. */
static const double HOPELESS = 4;

static double sum_error(double n)
{
    return SPREAD * sqrt(n) * U32;
}

/* ---- Reports ---- */

enum { REPORTED = 6 };

static struct {
    const char *stage;
    double worst;
} worst[] = {{"pool", 0}, {"score", 0}, {"attend", 0}, {"lse", 0}};

static double latest;

double checks_take_worst(void)
{
    double share = latest;
    latest = 0;
    return share;
}

double checks_worst(const char *stage)
{
    for (size_t i = 0; i < sizeof worst / sizeof *worst; i++)
        if (strcmp(worst[i].stage, stage) == 0)
            return worst[i].worst;
    return 0;
}

static void note_error(const char *stage, double share)
{
    for (size_t i = 0; i < sizeof worst / sizeof *worst; i++)
        if (strcmp(worst[i].stage, stage) == 0 && share > worst[i].worst)
            worst[i].worst = share;
}

/* True where |got - want| <= tolerance; equal infinities are equal. */
static bool close_to(const char *stage, double got, double want, double tolerance)
{
    if (got == want)
        return true;
    double error = fabs(got - want), share = error / tolerance;
    latest = fmax(latest, isnan(share) ? INFINITY : share);
    if (!(error <= tolerance))
        return false;
    note_error(stage, share);
    return true;
}

/* Says where, unless enough has been said. */
static void report(size_t bad, const char *cell, const char *what, double got, double want,
                   double tolerance)
{
    if (bad < REPORTED)
        test_print("    %s: %s: got %.9g want %.9g +- %.2g\n", cell, what, got, want, tolerance);
    else if (bad == REPORTED)
        test_print("    %s: ...\n", cell);
}

/* ---- pool ---- */

static size_t check_means(const struct rig *rig, const char *cell, char tensor, uint32_t b,
                          uint32_t head, const double *exact, const float *got)
{
    const struct oracle_grid *g = &rig->problem->grid;
    size_t numbers = (size_t)g->video_blocks * g->shape.dim, bad = 0;
    double *mean = test_alloc(numbers, sizeof *mean);
    double *magnitude = test_alloc(numbers, sizeof *magnitude);
    oracle_pool(g, exact, mean, magnitude);
    for (size_t i = 0; i < numbers; i++) {
        uint32_t block = (uint32_t)(i / g->shape.dim);
        double n = g->size[g->prefix_blocks + block];
        double tolerance = (sum_error(n) + 2 * U32) * magnitude[i] + FLT_MIN;
        if (close_to("pool", got[i], mean[i], tolerance))
            continue;
        char what[96];
        snprintf(what, sizeof what, "mean %c sample %u head %u block %u dim %zu", tensor, b, head,
                 block, i % g->shape.dim);
        report(bad++, cell, what, got[i], mean[i], tolerance);
    }
    free(mean);
    free(magnitude);
    return bad;
}

size_t check_pool(const struct rig *rig, const char *cell)
{
    const struct problem *p = rig->problem;
    size_t numbers = (size_t)p->grid.video_blocks * p->dim, bad = 0;
    uint32_t group = p->heads / p->kv_heads;
    const float *q = rig_workspace(rig, rig->layout.pooled_q);
    const float *k = rig_workspace(rig, rig->layout.pooled_k);
    const float *v = rig_workspace(rig, rig->layout.pooled_v);
    for (uint32_t b = 0; b < p->batch; b++) {
        for (uint32_t h = 0; h < p->heads; h++, q += numbers)
            bad += check_means(rig, cell, 'q', b, h, problem_q(p, b, h), q);
        for (uint32_t h = 0; h < p->kv_heads; h++, k += numbers, v += numbers) {
            bad += check_means(rig, cell, 'k', b, h, problem_k(p, b, h * group), k);
            bad += check_means(rig, cell, 'v', b, h, problem_v(p, b, h * group), v);
        }
    }
    return bad;
}

/* ---- score ---- */

static double length_of(const float *x, uint32_t dim)
{
    double sum = 0;
    for (uint32_t d = 0; d < dim; d++)
        sum += (double)x[d] * x[d];
    return sqrt(sum);
}

/* Bound of the error of a logit in row i. */
static double logit_error(const struct problem *p, const float *mean_q, double longest_k,
                          double largest_logit)
{
    return sum_error(p->dim) * fabs(p->scale) * length_of(mean_q, p->dim) * longest_k + LOG_ERROR +
           4 * U32 * largest_logit;
}

static size_t check_map_row(const struct rig *rig, const char *cell, const char *row, double error,
                            const double *want, const double *logits, const float *got)
{
    uint32_t n = rig->problem->grid.video_blocks;
    double sum = 0, largest = -INFINITY;
    size_t bad = 0;
    for (uint32_t j = 0; j < n; j++)
        largest = fmax(largest, logits[j]);
    for (uint32_t j = 0; j < n; j++) {
        sum += got[j];
        double relative =
            expm1(2 * error) + sum_error(n) + (FUNCTION + 2 * fmin(largest - logits[j], 100)) * U32;
        double tolerance = error < HOPELESS ? want[j] * relative + FLT_MIN : 1 + 4 * U32;
        if (close_to("score", got[j], want[j], tolerance) && got[j] >= 0)
            continue;
        char what[128];
        snprintf(what, sizeof what, "%s key block %u", row, j);
        report(bad++, cell, what, got[j], want[j], tolerance);
    }
    double tolerance = sum_error(n) + FUNCTION * U32;
    if (!close_to("score", sum, 1, tolerance))
        report(bad++, cell, row, sum, 1, tolerance);
    return bad;
}

static size_t check_map(const struct rig *rig, const char *cell, uint32_t b, uint32_t h,
                        const float *mean_q, const float *mean_k, const float *got)
{
    const struct problem *p = rig->problem;
    size_t n = p->grid.video_blocks, bad = 0;
    double *want = test_alloc(n * n, sizeof *want), *logits = test_alloc(n * n, sizeof *logits);
    oracle_score(&p->grid, p->scale, mean_q, mean_k, want, logits);
    double longest = 0;
    for (size_t j = 0; j < n; j++)
        longest = fmax(longest, length_of(mean_k + j * p->dim, p->dim));
    for (size_t i = 0; i < n; i++) {
        double largest = 0;
        for (size_t j = 0; j < n; j++)
            largest = fmax(largest, fabs(logits[i * n + j]));
        double error = logit_error(p, mean_q + i * p->dim, longest, largest);
        char row[96];
        snprintf(row, sizeof row, "map sample %u head %u row %zu", b, h, i);
        bad += check_map_row(rig, cell, row, error, want + i * n, logits + i * n, got + i * n);
    }
    free(want);
    free(logits);
    return bad;
}

size_t check_score(const struct rig *rig, const char *cell)
{
    const struct problem *p = rig->problem;
    size_t n = p->grid.video_blocks, numbers = n * p->dim, bad = 0;
    const float *q = rig_workspace(rig, rig->layout.pooled_q);
    const float *k = rig_workspace(rig, rig->layout.pooled_k);
    const float *map = rig_workspace(rig, rig->layout.map);
    for (uint32_t b = 0; b < p->batch; b++)
        for (uint32_t h = 0; h < p->heads; h++, q += numbers, map += n * n) {
            uint32_t kv = b * p->kv_heads + h / (p->heads / p->kv_heads);
            bad += check_map(rig, cell, b, h, q, k + kv * numbers, map);
        }
    return bad;
}

/* ---- select ---- */

static size_t check_lists(const struct rig *rig, const char *cell, uint32_t b, uint32_t h,
                          const uint32_t *counts, const uint16_t *lists, const uint16_t *order)
{
    const struct problem *p = rig->problem;
    const struct oracle_grid *g = &p->grid;
    size_t blocks = g->blocks, at = (size_t)b * p->heads + h, bad = 0;
    const uint32_t *got = (const uint32_t *)rig_workspace(rig, rig->layout.counts) + at * blocks;
    const uint16_t *rows =
        (const uint16_t *)rig_workspace(rig, rig->layout.lists) + at * blocks * blocks;
    const uint16_t *turns = (const uint16_t *)rig_workspace(rig, rig->layout.order) + at * blocks;
    for (size_t i = 0; i < blocks; i++) {
        char what[96];
        snprintf(what, sizeof what, "sample %u head %u q-block %zu count", b, h, i);
        if (got[i] != counts[i]) {
            report(bad++, cell, what, got[i], counts[i], 0);
            continue;
        }
        for (size_t e = 0; e < counts[i]; e++) {
            snprintf(what, sizeof what, "sample %u head %u q-block %zu entry %zu", b, h, i, e);
            if (rows[i * blocks + e] != lists[i * blocks + e])
                report(bad++, cell, what, rows[i * blocks + e], lists[i * blocks + e], 0);
        }
    }
    for (size_t i = 0; i < blocks; i++) {
        char what[96];
        snprintf(what, sizeof what, "sample %u head %u order entry %zu", b, h, i);
        if (turns[i] != order[i])
            report(bad++, cell, what, turns[i], order[i], 0);
    }
    return bad;
}

size_t check_select(const struct rig *rig, const char *cell)
{
    const struct problem *p = rig->problem;
    size_t n = p->grid.video_blocks, blocks = p->grid.blocks, bad = 0;
    uint8_t *kept = test_alloc(blocks * blocks, 1);
    uint32_t *counts = test_alloc(blocks, sizeof *counts);
    uint16_t *lists = test_alloc(blocks * blocks, sizeof *lists);
    uint16_t *order = test_alloc(blocks, sizeof *order);
    const float *map = rig_workspace(rig, rig->layout.map);
    for (uint32_t b = 0; b < p->batch; b++)
        for (uint32_t h = 0; h < p->heads; h++, map += n * n) {
            struct oracle_rule rule = oracle_rule_of(&p->test->params, h);
            oracle_select(&p->grid, &rule, map, kept);
            oracle_lists(&p->grid, kept, counts, lists, order);
            bad += check_lists(rig, cell, b, h, counts, lists, order);
        }
    free(kept);
    free(counts);
    free(lists);
    free(order);
    return bad;
}

/* ---- attend ---- */

void expected_init(struct expected *e, const struct problem *p, const uint32_t *counts,
                   const uint16_t *lists)
{
    size_t blocks = p->grid.blocks;
    *e = (struct expected){p, test_alloc((size_t)p->batch * p->heads, sizeof *e->heads)};
    for (uint32_t b = 0; b < p->batch; b++)
        for (uint32_t h = 0; h < p->heads; h++) {
            size_t at = (size_t)b * p->heads + h;
            struct oracle_head head = {
                .q = problem_q(p, b, h),
                .k = problem_k(p, b, h),
                .v = problem_v(p, b, h),
                .valid = p->valid ? p->valid[b] : NULL,
                .scale = p->scale,
            };
            oracle_result_init(&e->heads[at], &p->grid);
            if (counts) {
                head.counts = counts + at * blocks;
                head.lists = lists + at * blocks * blocks;
                oracle_attend(&p->grid, &head, &e->heads[at]);
            } else {
                oracle_dense(&p->grid, &head, &e->heads[at]);
            }
        }
}

void expected_free(struct expected *e)
{
    for (size_t at = 0; at < (size_t)e->problem->batch * e->problem->heads; at++)
        oracle_result_free(&e->heads[at]);
    free(e->heads);
    *e = (struct expected){0};
}

/* Kernels that multiply p and v on matrix units, which take elements of the type. */
static bool rounds_weights(const struct rig *rig)
{
    static const char *const names[] = {"sm90", "sm80", "coopmat_16x16x16", "coopmat_8x16x16",
                                        "coopmat_8x8x8"};
    const char *kernel = draft_plan_kernel(rig->plan, DRAFT_ATTEND);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(kernel, names[i]) == 0)
            return true;
    return false;
}

/* E of a row's logits. Those of FILL_EXTREME have one term: equal ones are computed equal. */
static double row_error(const struct problem *p, const struct oracle_result *want, uint32_t token)
{
    if (p->test->fill == FILL_EXTREME)
        return 0;
    return (sum_error(p->dim) + 4 * U32) * fabs(p->scale) * want->reach[token];
}

static size_t check_row(const struct rig *rig, const char *cell, const char *row, uint64_t first,
                        const struct oracle_result *want, uint32_t token, size_t bad)
{
    const struct problem *p = rig->problem;
    draft_type type = p->out.type;
    const void *out = buffer_read(&rig->out);
    double error = row_error(p, want, token), n = want->keys[token];
    double relative = FUNCTION * U32 + sum_error(n);
    relative += error < HOPELESS ? expm1(2 * error) : 2;
    relative += rounds_weights(rig) ? type_roundoff(type) : 0;
    size_t before = bad;
    for (uint32_t d = 0; d < p->dim; d++) {
        double exact = want->out[(size_t)token * p->dim + d];
        double magnitude = want->magnitude[(size_t)token * p->dim + d];
        double least = type == DRAFT_F16 ? F16_LEAST : 2 * FLT_MIN;
        double tolerance = n ? relative * magnitude + type_roundoff(type) * fabs(exact) + least : 0;
        double got = type_load(type, out, first + d);
        if (close_to("attend", got, exact, tolerance))
            continue;
        char what[160];
        snprintf(what, sizeof what, "%s dim %u", row, d);
        report(bad++, cell, what, got, exact, tolerance);
    }
    return bad - before;
}

static size_t check_lse(const struct rig *rig, const char *cell, const char *row, size_t at,
                        const struct oracle_result *want, uint32_t token, size_t bad)
{
    const struct problem *p = rig->problem;
    double got = ((const float *)buffer_read(&rig->lse))[at];
    double exact = want->lse[token], n = want->keys[token];
    double error = row_error(p, want, token);
    double tolerance = error + sum_error(n) + LOG_ERROR + FUNCTION * U32 * (1 + fabs(exact));
    if (close_to("lse", got, exact, n ? tolerance : 0))
        return 0;
    report(bad, cell, row, got, exact, tolerance);
    return 1;
}

size_t check_attend(const struct rig *rig, const struct expected *e, const char *cell)
{
    const struct problem *p = rig->problem;
    const struct oracle_grid *g = &p->grid;
    size_t bad = 0;
    for (uint32_t b = 0; b < p->batch; b++)
        for (uint32_t h = 0; h < p->heads; h++) {
            size_t at = (size_t)b * p->heads + h;
            const struct oracle_result *want = &e->heads[at];
            for (uint32_t slot = 0; slot < g->tokens; slot++) {
                uint32_t token = g->member[slot], block = g->block_of[token];
                char row[128];
                snprintf(row, sizeof row, "sample %u head %u q-block %u row %u (token %u)", b, h,
                         block, slot - g->start[block], token);
                bad +=
                    check_row(rig, cell, row, tensor_row(&p->out, b, token, h), want, token, bad);
                if (rig->run.lse)
                    bad += check_lse(rig, cell, row, at * g->tokens + token, want, token, bad);
            }
        }
    return bad;
}
