/* SPDX-License-Identifier: MIT */
#include "checks.h"

#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tolerance.h"

double sum_error(double n)
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
        if (share > worst[i].worst && strcmp(worst[i].stage, stage) == 0)
            worst[i].worst = share;
}

bool close_to(const char *stage, double got, double want, double tolerance)
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

void report(size_t bad, const char *cell, const char *what, double got, double want,
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
    return bad + check_pool_tail(rig, cell);
}

/* ---- score ---- */

double length_of(const float *x, uint32_t dim)
{
    double sum = 0;
    for (uint32_t d = 0; d < dim; d++)
        sum += (double)x[d] * x[d];
    return sqrt(sum);
}

double logit_error(const struct problem *p, const float *mean_q, double longest_k,
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
    double at_most = expm1(2 * error) + sum_error(n);
    size_t bad = 0;
    for (uint32_t j = 0; j < n; j++)
        largest = fmax(largest, logits[j]);
    for (uint32_t j = 0; j < n; j++) {
        sum += got[j];
        double relative = at_most + (FUNCTION + 2 * fmin(largest - logits[j], 100)) * U32;
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

size_t check_map_rows(const struct rig *rig, const char *cell, uint32_t b, uint32_t h,
                      const double *want, const double *logits, const double *error,
                      const float *got)
{
    size_t n = rig->problem->grid.video_blocks, bad = 0;
    for (size_t i = 0; i < n; i++) {
        char row[96];
        snprintf(row, sizeof row, "map sample %u head %u row %zu", b, h, i);
        bad += check_map_row(rig, cell, row, error[i], want + i * n, logits + i * n, got + i * n);
    }
    return bad;
}

static size_t check_map(const struct rig *rig, const char *cell, uint32_t b, uint32_t h,
                        const float *mean_q, const float *mean_k, const float *got)
{
    const struct problem *p = rig->problem;
    size_t n = p->grid.video_blocks;
    double *want = test_alloc(n * n, sizeof *want), *logits = test_alloc(n * n, sizeof *logits);
    double *error = test_alloc(n, sizeof *error), longest = 0;
    oracle_score(&p->grid, p->scale, mean_q, mean_k, want, logits);
    for (size_t j = 0; j < n; j++)
        longest = fmax(longest, length_of(mean_k + j * p->dim, p->dim));
    for (size_t i = 0; i < n; i++) {
        double largest = 0;
        for (size_t j = 0; j < n; j++)
            largest = fmax(largest, fabs(logits[i * n + j]));
        error[i] = logit_error(p, mean_q + i * p->dim, longest, largest);
    }
    size_t bad = check_map_rows(rig, cell, b, h, want, logits, error, got);
    free(want);
    free(logits);
    free(error);
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
            draft_scorer scorer = p->test->params.scorer;
            if (scorer == DRAFT_SCORER_EXCESS)
                bad += check_part_map(rig, cell, b, h);
            else if (scorer == DRAFT_SCORER_LSE || scorer == DRAFT_SCORER_MAX)
                bad += check_quarter_map(rig, cell, b, h);
            else
                bad += check_map(rig, cell, b, h, q, k + kv * numbers, map);
        }
    return bad + check_bias(rig, cell);
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
        if (got[i] != counts[i]) {
            snprintf(what, sizeof what, "sample %u head %u q-block %zu count", b, h, i);
            report(bad++, cell, what, got[i], counts[i], 0);
            continue;
        }
        for (size_t e = 0; e < counts[i]; e++) {
            if (rows[i * blocks + e] == lists[i * blocks + e])
                continue;
            snprintf(what, sizeof what, "sample %u head %u q-block %zu entry %zu", b, h, i, e);
            report(bad++, cell, what, rows[i * blocks + e], lists[i * blocks + e], 0);
        }
    }
    for (size_t i = 0; i < blocks; i++) {
        char what[96];
        if (turns[i] == order[i])
            continue;
        snprintf(what, sizeof what, "sample %u head %u order entry %zu", b, h, i);
        report(bad++, cell, what, turns[i], order[i], 0);
    }
    return bad;
}

/* The signs of a head's bias: set where the pair is kept, clear elsewhere; -inf behind the row. */
static size_t check_marks(const struct rig *rig, const char *cell, size_t head, const uint8_t *kept)
{
    const struct oracle_grid *g = &rig->problem->grid;
    size_t stride = rig->layout.bias_stride, bad = 0;
    if (!rig->layout.bias)
        return 0;
    const float *bias = rig_workspace(rig, rig->layout.bias);
    bias += head * g->video_blocks * stride;
    for (uint32_t i = 0; i < g->video_blocks; i++)
        for (uint32_t j = 0; j < stride; j++) {
            float got = bias[i * stride + j];
            bool is = kept[(size_t)(g->prefix_blocks + i) * g->blocks + g->prefix_blocks +
                           j % g->video_blocks];
            if (j < g->video_blocks ? !signbit(got) == !is : got == -INFINITY)
                continue;
            char what[96];
            snprintf(what, sizeof what, "head %zu bias of row %u key block %u", head, i, j);
            report(bad++, cell, what, got, j < g->video_blocks && !is ? 1 : -INFINITY, 0);
        }
    return bad;
}

size_t check_kept(const struct rig *rig, const char *cell, const uint8_t *kept)
{
    const struct problem *p = rig->problem;
    size_t blocks = p->grid.blocks, bad = 0;
    uint32_t *counts = test_alloc(blocks, sizeof *counts);
    uint16_t *lists = test_alloc(blocks * blocks, sizeof *lists);
    uint16_t *order = test_alloc(blocks, sizeof *order);
    for (uint32_t b = 0; b < p->batch; b++)
        for (uint32_t h = 0; h < p->heads; h++, kept += blocks * blocks) {
            oracle_lists(&p->grid, kept, counts, lists, order);
            bad += check_lists(rig, cell, b, h, counts, lists, order);
            bad += check_marks(rig, cell, b * p->heads + h, kept);
        }
    free(counts);
    free(lists);
    free(order);
    return bad;
}

size_t check_select(const struct rig *rig, const char *cell)
{
    const struct problem *p = rig->problem;
    size_t n = p->grid.video_blocks, pairs = (size_t)p->grid.blocks * p->grid.blocks;
    uint8_t *kept = test_alloc(p->batch * p->heads * pairs, 1);
    const float *map = rig_workspace(rig, rig->layout.map);
    for (size_t head = 0; head < (size_t)p->batch * p->heads; head++) {
        struct oracle_rule rule = oracle_rule_of(&p->test->params, (uint32_t)head % p->heads);
        oracle_select(&p->grid, &rule, map + head * n * n, kept + head * pairs);
    }
    size_t bad = check_kept(rig, cell, kept);
    free(kept);
    return bad;
}

/* ---- attend ---- */

/* The pooled tensors of one head of k or v, in double. */
static double *read_tail(const struct problem *p, const void *tail, size_t kv_head)
{
    size_t numbers = (size_t)p->grid.video_blocks * p->dim;
    double *out = test_alloc(numbers, sizeof *out);
    for (size_t i = 0; i < numbers; i++)
        out[i] = type_load(p->out.type, tail, kv_head * numbers + i);
    return out;
}

static void expect_head(const struct problem *p, struct oracle_head *head, size_t at,
                        const struct tail *tail, struct oracle_result *result)
{
    double *k = NULL, *v = NULL;
    if (tail && tail->k) {
        size_t kv_head = at / p->heads * p->kv_heads + at % p->heads / (p->heads / p->kv_heads);
        head->tail_k = k = read_tail(p, tail->k, kv_head);
        head->tail_v = v = read_tail(p, tail->v, kv_head);
        head->bias = tail->bias + at * p->grid.video_blocks * tail->bias_stride;
        head->bias_stride = tail->bias_stride;
    }
    oracle_attend(&p->grid, head, result);
    free(k);
    free(v);
}

struct tail rig_tail(const struct rig *rig)
{
    const struct draft_layout *l = &rig->layout;
    if (!l->bias)
        return (struct tail){0};
    return (struct tail){rig_workspace(rig, l->tail_k), rig_workspace(rig, l->tail_v),
                         rig_workspace(rig, l->bias), (uint32_t)l->bias_stride};
}

void expected_init(struct expected *e, const struct problem *p, const uint32_t *counts,
                   const uint16_t *lists, const struct tail *tail)
{
    size_t blocks = p->grid.blocks;
    *e = (struct expected){p, test_alloc((size_t)p->batch * p->heads, sizeof *e->heads), NULL};
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
                expect_head(p, &head, at, tail, &e->heads[at]);
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
    static const char *const names[] = {"sm", "coopmat", "workgroup"}; /* how they begin */
    const char *kernel = draft_plan_kernel(rig->plan, DRAFT_ATTEND);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strncmp(kernel, names[i], strlen(names[i])) == 0)
            return true;
    return false;
}

/* E of a row's logits. Those of FILL_EXTREME have one term: equal ones are computed equal, but for
 * those of pooled keys, whose bias is lost in them. */
static double row_error(const struct problem *p, const struct oracle_result *want, uint32_t token)
{
    if (p->test->fill == FILL_EXTREME && want->bias[token] == 0)
        return 0;
    return (sum_error(p->dim) + 4 * U32) * fabs(p->scale) * want->reach[token] +
           4 * U32 * want->bias[token];
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
        if (p->test->fill == FILL_EXTREME && want->bias[token] > 0)
            magnitude = want->most[token]; /* equal logits but for a bias: any mixture is right */
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
                if (e->unknown && e->unknown[at * g->tokens + token])
                    continue;
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
