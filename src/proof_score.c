/* SPDX-License-Identifier: MIT
 *
 * What score has to write. Of each head every third row is looked at, of other heads other rows, so
 * that each tile of a kernel has some. */
#include "trial.h"

#include <float.h>
#include <math.h>
#include <string.h>

enum { ROWS = DRAFT_TRIAL_ROWS, STRIDE = 3 };

/* One head, and what a row of its map should be. */
struct score {
    const struct draft_maps *maps;
    uint32_t b, h;
    const float *pooled_q, *pooled_k, *quarters, *moment_q, *moment_k; /* NULL: none */
    float *parts_q, *parts_k;                                          /* unpacked   */
    double factor;                                                     /* of FITTED  */
    double sizes[ROWS], quarter_sizes[ROWS][DRAFT_QUARTERS], part_sizes[ROWS][DRAFT_PARTS];
    double longest_k[ROWS]; /* of the means that scores of each key block are made of */
    double want[ROWS], allowed[ROWS];
};

static double length_of(const float *x, uint32_t dim)
{
    return sqrt(draft_trial_product(x, x, dim));
}

/* The longest of n rows. */
static double longest_of(const float *rows, uint32_t n, uint32_t dim)
{
    double longest = 0;
    for (uint32_t i = 0; i < n; i++)
        longest = fmax(longest, length_of(rows + (size_t)i * dim, dim));
    return longest;
}

/* Of a logit: as a product of two rows, and by the type of what comes after. */
static double logit_error(const struct draft_geometry *g, double length_q, double length_k,
                          double logit)
{
    return SPREAD * sqrt(g->dim) * U32 * g->scale * length_q * length_k + 4 * U32 * fabs(logit);
}

/* ---- The map of MEAN, LSE and MAX ---- */

/* ln of the sum of n_a e^(s_a), or the largest ln n_a + s_a, over the quarters that hold tokens. */
static double combine(const struct score *s, uint32_t j, const double logits[DRAFT_QUARTERS])
{
    double most = -INFINITY, largest = -INFINITY, sum = 0;
    for (int a = 0; a < DRAFT_QUARTERS; a++)
        if (s->quarter_sizes[j][a] > 0) {
            most = fmax(most, logits[a]);
            largest = fmax(largest, logits[a] + log(s->quarter_sizes[j][a]));
        }
    for (int a = 0; a < DRAFT_QUARTERS; a++)
        sum += s->quarter_sizes[j][a] > 0 ? s->quarter_sizes[j][a] * exp(logits[a] - most) : 0;
    return s->maps->g->scorer == DRAFT_SCORER_MAX ? largest : most + log(sum);
}

/* Logits of query block i with the quarters of key block j; returns the largest magnitude. */
static double quarter_logits(const struct score *s, uint32_t i, uint32_t j,
                             double logits[DRAFT_QUARTERS])
{
    const struct draft_geometry *g = s->maps->g;
    const float *q = s->pooled_q + (size_t)i * g->dim, *k = s->quarters;
    double largest = 0;
    for (uint32_t a = 0; a < DRAFT_QUARTERS; a++) {
        const float *row = k + ((size_t)j * DRAFT_QUARTERS + a) * g->dim;
        logits[a] = g->scale * draft_trial_product(q, row, g->dim);
        largest = fmax(largest, fabs(logits[a]));
    }
    return largest;
}

static void expect_plain(struct score *s, uint32_t i)
{
    const struct draft_geometry *g = s->maps->g;
    bool mean = g->scorer == DRAFT_SCORER_MEAN;
    const float *q = s->pooled_q + (size_t)i * g->dim;
    double logits[ROWS], quarters[DRAFT_QUARTERS], most = -INFINITY, sum = 0, largest = 0;
    double longest = 0;
    for (uint32_t j = 0; j < ROWS; j++) {
        if (mean)
            logits[j] =
                g->scale * draft_trial_product(q, s->pooled_k + (size_t)j * g->dim, g->dim) +
                log(s->sizes[j]);
        largest = fmax(largest, mean ? fabs(logits[j]) : quarter_logits(s, i, j, quarters));
        if (!mean)
            logits[j] = combine(s, j, quarters);
        most = fmax(most, logits[j]);
        longest = fmax(longest, s->longest_k[j]);
    }
    double error = logit_error(g, length_of(q, g->dim), longest, largest) + LOG_ERROR;
    error += mean ? 0 : LOG_ERROR + FUNCTION * U32; /* of the sum of the quarters */
    for (uint32_t j = 0; j < ROWS; j++)
        sum += exp(logits[j] - most);
    for (uint32_t j = 0; j < ROWS; j++) {
        double relative = expm1(2 * error) + SPREAD * sqrt(ROWS) * U32 +
                          (FUNCTION + 2 * fmin(most - logits[j], 100)) * U32;
        s->want[j] = exp(logits[j] - most) / sum;
        s->allowed[j] = s->want[j] * relative + FLT_MIN;
    }
}

/* ---- The map of EXCESS ---- */

/* Of a quarter of a query block and a key block: its score, and what that error depends on. */
struct excess {
    double x, error;
    double gap;   /* g                                                     */
    double depth; /* sum of w_a (the largest y - y_a)                      */
    double tilt;  /* sum of |w_a e^(y_a) / the sum of those - w_a|: by how
                     much g moves when the y_a do                          */
    double reach; /* the largest |y_a|                                     */
};

/* How far ln (1 - (1 - LEAST) e^-g) moves when g does by `error`: up to 99 times as far. */
static double magnified(double g, double error)
{
    const double most = 1 - (double)DRAFT_EXCESS_LEAST;
    double at = log1p(-most * exp(-g)), up = log1p(-most * exp(-(g + error)));
    return fmax(up - at, at - log1p(-most * exp(-fmax(g - error, 0))));
}

/* logit: the error of the y_a. Errors of exp grow with its argument, by 2 u for each unit; those of
 * the terms of a sum of -y each come to no more than 2 u ln 128 = 10 u of it. */
static double excess_error(const struct excess *e, double logit, double tokens)
{
    double mass = fabs(e->gap - e->depth), many = SPREAD * sqrt(DRAFT_PARTS) * U32;
    double sum = LOG_ERROR + 6 * U32 * mass + (FUNCTION + 10) * U32 + many;
    double g = logit * fmin(2, e->tilt + expm1(2 * logit)) + sum + (many + 4 * U32) * e->depth +
               (FUNCTION + 2 * e->gap) * U32;
    double added = fabs(e->x) + e->reach + mass + log(tokens);
    return logit + sum + magnified(e->gap, g) + 2 * LOG_ERROR + 6 * U32 * added;
}

static struct excess score_excess(const struct score *s, const float *q, uint32_t j)
{
    const struct draft_geometry *g = s->maps->g;
    const float *k = s->parts_k + (size_t)j * DRAFT_PARTS * g->dim;
    struct excess e = {0};
    double y[DRAFT_PARTS], share[DRAFT_PARTS], most = -INFINITY, sum = 0;
    for (uint32_t a = 0; a < DRAFT_PARTS; a++) {
        share[a] = s->part_sizes[j][a] / s->sizes[j];
        y[a] = share[a] > 0 ? g->scale * draft_trial_product(q, k + (size_t)a * g->dim, g->dim)
                            : -INFINITY;
        most = fmax(most, y[a]);
    }
    for (uint32_t a = 0; a < DRAFT_PARTS; a++)
        if (share[a] > 0) {
            sum += share[a] * exp(y[a] - most);
            e.depth += share[a] * (most - y[a]);
            e.reach = fmax(e.reach, fabs(y[a]));
        }
    for (uint32_t a = 0; a < DRAFT_PARTS; a++)
        if (share[a] > 0)
            e.tilt += share[a] * fabs(exp(y[a] - most) / sum - 1);
    e.gap = fmax(log(sum) + e.depth, 0);
    e.x = log(s->sizes[j]) + most + log(sum) +
          log(1 - (1 - (double)DRAFT_EXCESS_LEAST) * exp(-e.gap));
    double length = length_of(q, g->dim);
    e.error = excess_error(&e, logit_error(g, length, s->longest_k[j], e.reach), s->sizes[j]);
    return e;
}

/* Adds what a quarter of query block i has to say: `part` of the block's tokens. */
static void expect_quarter(struct score *s, const float *q, double part)
{
    struct excess row[ROWS];
    double most = -INFINITY, sum = 0, least = 0;
    for (uint32_t j = 0; j < ROWS; j++) {
        row[j] = score_excess(s, q, j);
        most = fmax(most, row[j].x);
    }
    for (uint32_t j = 0; j < ROWS; j++) {
        sum += exp(row[j].x - most);
        least += exp(row[j].x - most - row[j].error);
    }
    for (uint32_t j = 0; j < ROWS; j++) {
        double p = part * exp(row[j].x - most) / sum;
        double relative = exp(row[j].error) * sum / least - 1 + SPREAD * sqrt(ROWS) * U32 +
                          (FUNCTION + 2 * fmin(most - row[j].x, 100)) * U32;
        s->want[j] += p;
        s->allowed[j] += p * (relative + 4 * U32) + part * 2 * FLT_MIN;
    }
}

static void expect_excess(struct score *s, uint32_t i)
{
    uint32_t dim = s->maps->g->dim;
    memset(s->want, 0, sizeof s->want);
    memset(s->allowed, 0, sizeof s->allowed);
    for (uint32_t b = 0; b < DRAFT_QUARTERS; b++)
        if (s->quarter_sizes[i][b] > 0)
            expect_quarter(s, s->parts_q + ((size_t)i * DRAFT_QUARTERS + b) * dim,
                           s->quarter_sizes[i][b] / s->sizes[i]);
}

/* ---- The bias ---- */

static double between(double x, double most)
{
    return fmin(fmax(x, 0), most);
}

/* b_ij of GAP; *error: of it. Two sums of logits are each wrong by what these are. */
static double gap_of(const struct score *s, uint32_t i, uint32_t j, double *error)
{
    const struct draft_geometry *g = s->maps->g;
    double logits[DRAFT_QUARTERS], mean = 0, most = -INFINITY, sum = 0;
    double largest = quarter_logits(s, i, j, logits);
    for (int a = 0; a < DRAFT_QUARTERS; a++) {
        mean += s->quarter_sizes[j][a] / s->sizes[j] * logits[a];
        most = s->quarter_sizes[j][a] > 0 ? fmax(most, logits[a]) : most;
    }
    for (int a = 0; a < DRAFT_QUARTERS; a++)
        sum += s->quarter_sizes[j][a] / s->sizes[j] * exp(logits[a] - most);
    double length = length_of(s->pooled_q + (size_t)i * g->dim, g->dim);
    double longest =
        longest_of(s->quarters + (size_t)j * DRAFT_QUARTERS * g->dim, DRAFT_QUARTERS, g->dim);
    *error = 2 * logit_error(g, length, longest, largest) + 2 * LOG_ERROR + (FUNCTION + 8) * U32;
    return between(most + log(sum) - mean, log(s->sizes[j]));
}

/* b_ij of FITTED. */
static double fitted_of(const struct score *s, uint32_t i, uint32_t j, double *error)
{
    const struct draft_geometry *g = s->maps->g;
    double most = log(s->sizes[j]), relative = (SPREAD * sqrt(g->dim) + 8) * U32;
    double w = 0.5 * g->scale * g->scale *
               draft_trial_product(s->moment_q + (size_t)i * g->dim,
                                   s->moment_k + (size_t)j * g->dim, g->dim);
    *error = s->factor * (2 * relative * fmin(w, most) + LOG_ERROR + FLT_MIN);
    return s->factor * between(w, most);
}

static void compare(const struct score *s, const char *what, double got, double want,
                    double allowed, uint32_t i)
{
    draft_trial_compare(s->maps->proof, got, want, allowed,
                        (struct draft_spot){what, s->b, s->h, "row", i});
}

static void check_bias(const struct score *s, uint32_t i)
{
    const struct draft_geometry *g = s->maps->g;
    uint64_t row = (uint64_t)(s->b * g->heads + s->h) * ROWS + i;
    const float *got = (const float *)(s->maps->got + g->bias) + row * g->bias_stride;
    for (uint32_t j = 0; j < g->bias_stride; j++) {
        double error = 0, more = 0;
        if (j < ROWS && g->tail == DRAFT_TAIL_GAP)
            more = gap_of(s, i, j, &error);
        if (j < ROWS && g->tail == DRAFT_TAIL_FITTED)
            more = fitted_of(s, i, j, &error);
        double want = j < ROWS ? log(s->sizes[j]) + more : -INFINITY;
        double x = j < ROWS && signbit(got[j]) ? -INFINITY : got[j]; /* as attend takes it */
        compare(s, "the bias", x, want, LOG_ERROR + 4 * U32 * fabs(want) + error, i);
    }
}

/* ---- All of it ---- */

static void check_map(struct score *s, uint32_t i)
{
    const struct draft_geometry *g = s->maps->g;
    uint64_t row = (uint64_t)(s->b * g->heads + s->h) * ROWS + i;
    const float *got = (const float *)(s->maps->got + g->map) + row * ROWS;
    if (g->scorer == DRAFT_SCORER_EXCESS)
        expect_excess(s, i);
    else
        expect_plain(s, i);
    for (uint32_t j = 0; j < ROWS; j++)
        compare(s, "the map", got[j], s->want[j], s->allowed[j], i);
}

/* Rows of a workspace's array of the tensors' type. */
static void unpack(const struct score *s, uint64_t offset, uint64_t first, uint64_t rows, float *to)
{
    const struct draft_geometry *g = s->maps->g;
    for (uint64_t i = 0; i < rows * g->dim; i++)
        to[i] =
            (float)draft_type_load((draft_type)g->type, s->maps->put + offset, first * g->dim + i);
}

/* The arrays of a head. */
static void take_head(struct score *s, uint32_t b, uint32_t h)
{
    const struct draft_geometry *g = s->maps->g;
    const uint8_t *put = s->maps->put;
    uint64_t head = b * g->heads + h, kv = b * g->kv_heads + h / g->group, size = ROWS * g->dim;
    s->b = b, s->h = h;
    s->pooled_q = (const float *)(put + g->pooled_q) + head * size;
    s->pooled_k = (const float *)(put + g->pooled_k) + kv * size;
    if (g->quarters)
        s->quarters = (const float *)(put + g->quarters) + kv * size * DRAFT_QUARTERS;
    if (g->moment_q) {
        s->moment_q = (const float *)(put + g->moment_q) + head * size;
        s->moment_k = (const float *)(put + g->moment_k) + kv * size;
        double factor = ((const float *)(put + g->factors))[head];
        s->factor = isnan(factor) ? 0 : between(factor, DRAFT_FACTOR_MOST);
    }
    if (g->parts_q) {
        unpack(s, g->parts_q, head * ROWS * DRAFT_QUARTERS, ROWS * DRAFT_QUARTERS, s->parts_q);
        unpack(s, g->parts_k, kv * ROWS * DRAFT_PARTS, ROWS * DRAFT_PARTS, s->parts_k);
    }
    bool excess = g->scorer == DRAFT_SCORER_EXCESS; /* MEAN may be made of quarters */
    uint32_t of_block = excess ? DRAFT_PARTS : g->quarters ? DRAFT_QUARTERS : 1;
    const float *k = excess ? s->parts_k : g->quarters ? s->quarters : s->pooled_k;
    for (uint32_t j = 0; j < ROWS; j++)
        s->longest_k[j] = longest_of(k + (size_t)j * of_block * g->dim, of_block, g->dim);
}

static void take_sizes(struct score *s)
{
    const struct draft_geometry *g = s->maps->g;
    for (uint32_t j = 0; j < ROWS; j++) {
        uint32_t quarters[DRAFT_QUARTERS], parts[DRAFT_PARTS];
        draft_quarter_sizes(g, j, quarters);
        draft_part_sizes(g, j, parts);
        s->sizes[j] = draft_block_size(g, g->prefix_blocks + j);
        for (uint32_t a = 0; a < DRAFT_QUARTERS; a++)
            s->quarter_sizes[j][a] = quarters[a];
        for (uint32_t a = 0; a < DRAFT_PARTS; a++)
            s->part_sizes[j][a] = parts[a];
    }
}

draft_status draft_trial_check_score(const struct draft_maps *maps)
{
    const struct draft_geometry *g = maps->g;
    const size_t numbers = (size_t)ROWS * (DRAFT_QUARTERS + DRAFT_PARTS) * g->dim;
    struct score *s = draft_calloc(1, sizeof *s);
    float *parts = draft_calloc(numbers, sizeof *parts);
    draft_status status = s && parts ? DRAFT_OK : DRAFT_ERROR_MEMORY;
    if (status)
        draft_log(&maps->plan->context->log, DRAFT_LOG_ERROR, "out of host memory for a self-test");
    for (uint32_t head = 0; head < g->batch * g->heads && !status; head++) {
        s->maps = maps;
        s->parts_q = parts;
        s->parts_k = parts + (size_t)ROWS * DRAFT_QUARTERS * g->dim;
        take_sizes(s);
        take_head(s, head / g->heads, head % g->heads);
        for (uint32_t i = head % STRIDE; i < ROWS; i += STRIDE) {
            check_map(s, i);
            if (g->bias)
                check_bias(s, i);
        }
    }
    draft_release(parts);
    draft_release(s);
    return status;
}
