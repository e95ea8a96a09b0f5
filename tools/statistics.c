/* SPDX-License-Identifier: MIT
 *
 * What generated q and k are like, in the terms in which captures of real models were described. */
#include <math.h>
#include <stdlib.h>

#include "generate.h"
#include "parallel.h"
#include "program.h"
#include "random.h"

enum { BLOCK = 64, TOP = BLOCK / 8, MOST_DIM = 128 };

static const double DENSITY = 0.21; /* at which the published figures were taken */

/* Of first and last layers less is published: where nothing is said of them, it is the range over
 * all layers, or none; where one number is, 20 % to either side of it. */
#define NONE                                                                                       \
    {                                                                                              \
        -INFINITY, INFINITY                                                                        \
    }
const struct generate_published generate_published[] = {
    {"key variance within 64 tokens",
     ".20-.49, middle layers .45",
     offsetof(struct generate_statistics, key_variance),
     {{.20, .49}, {.20, .49}, {.20, .49}}},
    {"query variance within 64 tokens",
     ".16-.52",
     offsetof(struct generate_statistics, query_variance),
     {{.16, .52}, {.16, .52}, {.16, .52}}},
    {"mass missed at 21 %, mean scores",
     ".15-.25 (.04-.36)",
     offsetof(struct generate_statistics, missed),
     {{.15, .25}, {.04, .36}, {.04, .36}}},
    {"the same, 90th percentile",
     ".4-.8",
     offsetof(struct generate_statistics, missed_p90),
     {{.4, .8}, NONE, NONE}},
    {"the same, oracle",
     ".02-.09",
     offsetof(struct generate_statistics, missed_oracle),
     {{.02, .09}, {.02, .09}, NONE}},
    {"mass in a block's top eighth",
     ".89-.975 (first layer .55, last .67-.81)",
     offsetof(struct generate_statistics, top_eighth),
     {{.89, .975}, {.67, .81}, {.44, .66}}},
    {"tokens that hold 90 % of the mass",
     ".002-.009 (first layer .24)",
     offsetof(struct generate_statistics, tokens90),
     {{.0015, .0093}, NONE, {.19, .29}}},
    {NULL, NULL, 0, {{0, 0}, {0, 0}, {0, 0}}}};

enum generate_layer generate_layer(enum generate_regime regime)
{
    return regime == GENERATE_SMOOTH                                   ? GENERATE_LAST
           : regime == GENERATE_DIFFUSE || regime == GENERATE_OUTLIERS ? GENERATE_FIRST
                                                                       : GENERATE_MIDDLE;
}

/* Video tokens of one head: their q and k, and the means of blocks. */
struct view {
    uint32_t dim;
    uint64_t tokens, blocks;
    const float *q, *k;
    float *mean_q, *mean_k;
};

struct query {
    double missed, oracle, top, tokens90;
};

struct measure {
    const struct view *view;
    uint64_t stream;
    struct query *queries;
};

static uint64_t block_end(const struct view *view, uint64_t block)
{
    uint64_t end = (block + 1) * BLOCK;
    return end < view->tokens ? end : view->tokens;
}

/* Means of the blocks of x, and the share of its variance that lies within blocks. */
static double block_means(const struct view *view, const float *x, float *means)
{
    double mean[MOST_DIM] = {0}, within = 0, all = 0;
    for (uint64_t t = 0; t < view->tokens; t++)
        for (uint32_t d = 0; d < view->dim; d++)
            mean[d] += x[t * view->dim + d] / (double)view->tokens;
    for (uint64_t b = 0; b < view->blocks; b++) {
        uint64_t first = b * BLOCK, end = block_end(view, b);
        for (uint32_t d = 0; d < view->dim; d++) {
            double sum = 0, squares = 0;
            for (uint64_t t = first; t < end; t++) {
                double value = x[t * view->dim + d];
                sum += value;
                squares += value * value;
            }
            double n = (double)(end - first);
            means[b * view->dim + d] = (float)(sum / n);
            within += squares - sum * sum / n;
            all += squares - 2 * sum * mean[d] + n * mean[d] * mean[d];
        }
    }
    return all > 0 ? within / all : 0;
}

/* Eight sums, so that the compiler may use vectors. */
static float dot(const float *a, const float *b, uint32_t n)
{
    float sum[8] = {0};
    for (uint32_t i = 0; i < n; i += 8) /* dim is a multiple of 8 */
        for (uint32_t j = 0; j < 8; j++)
            sum[j] += a[i + j] * b[i + j];
    return ((sum[0] + sum[4]) + (sum[1] + sum[5])) + ((sum[2] + sum[6]) + (sum[3] + sum[7]));
}

static int descending(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x < y) - (x > y);
}

/* Weights of all keys for one query, their sum 1. */
static void weigh(const struct view *view, const float *q, float *weight)
{
    float scale = 1 / sqrtf((float)view->dim), most = -INFINITY;
    for (uint64_t t = 0; t < view->tokens; t++) {
        weight[t] = scale * dot(q, view->k + t * view->dim, view->dim);
        most = weight[t] > most ? weight[t] : most;
    }
    double sum = 0;
    for (uint64_t t = 0; t < view->tokens; t++)
        sum += weight[t] = expf(weight[t] - most);
    for (uint64_t t = 0; t < view->tokens; t++)
        weight[t] = (float)(weight[t] / sum);
}

/* Mass of each block, and over all blocks the mass of each one's largest tokens. */
static double block_masses(const struct view *view, const float *weight, float *mass)
{
    double top = 0;
    for (uint64_t b = 0; b < view->blocks; b++) {
        float largest[BLOCK];
        uint32_t n = 0;
        mass[b] = 0;
        for (uint64_t t = b * BLOCK; t < block_end(view, b); t++) {
            mass[b] += weight[t];
            largest[n++] = weight[t];
        }
        qsort(largest, n, sizeof *largest, descending);
        for (uint32_t i = 0; i < n / (BLOCK / TOP); i++)
            top += largest[i];
    }
    return top;
}

/* How much of the mass the best blocks by score do not hold. */
static double missed(const float *score, const float *mass, uint64_t blocks)
{
    float *sorted = program_calloc(blocks, sizeof *sorted);
    uint64_t keep = (uint64_t)(DENSITY * (double)blocks + 0.5);
    double sum = 0;
    for (uint64_t b = 0; b < blocks; b++)
        sorted[b] = score[b];
    qsort(sorted, blocks, sizeof *sorted, descending);
    float least = sorted[keep ? keep - 1 : 0];
    for (uint64_t b = 0; b < blocks; b++)
        if (score[b] < least)
            sum += mass[b];
    free(sorted);
    return sum;
}

static void measure_query(void *argument, uint64_t index)
{
    const struct measure *m = argument;
    const struct view *view = m->view;
    uint64_t token = random_bits(m->stream, index) % view->tokens;
    const float *mean = view->mean_q + token / BLOCK * view->dim;
    float *weight = program_calloc(view->tokens, sizeof *weight);
    float *mass = program_calloc(2 * view->blocks, sizeof *mass), *score = mass + view->blocks;
    struct query *query = &m->queries[index];
    weigh(view, view->q + token * view->dim, weight);
    query->top = block_masses(view, weight, mass);
    for (uint64_t b = 0; b < view->blocks; b++)
        score[b] = dot(mean, view->mean_k + b * view->dim, view->dim);
    query->missed = missed(score, mass, view->blocks);
    query->oracle = missed(mass, mass, view->blocks);
    qsort(weight, view->tokens, sizeof *weight, descending);
    uint64_t n = 0;
    for (double sum = 0; n < view->tokens && sum < 0.9; n++)
        sum += weight[n];
    query->tokens90 = (double)n / (double)view->tokens;
    free(weight);
    free(mass);
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The value at a part p of the way from the least to the largest. */
static double percentile(double *values, uint32_t n, double p)
{
    qsort(values, n, sizeof *values, ascending);
    return values[(uint32_t)(p * (n - 1) + 0.5)];
}

static void summarise(const struct query *queries, uint32_t n, struct generate_statistics *out)
{
    double *values = program_calloc(n, sizeof *values);
    for (uint32_t i = 0; i < n; i++) {
        out->missed += queries[i].missed / n;
        out->missed_oracle += queries[i].oracle / n;
        out->top_eighth += queries[i].top / n;
        values[i] = queries[i].missed;
    }
    out->missed_p90 = percentile(values, n, 0.9);
    for (uint32_t i = 0; i < n; i++)
        values[i] = queries[i].tokens90;
    out->tokens90 = percentile(values, n, 0.5);
    free(values);
}

void generate_measure_tensors(const struct draft_shape *s, const float *q, const float *k,
                              uint64_t number, uint32_t queries, struct generate_statistics *out)
{
    uint64_t tokens = (uint64_t)s->frames * s->height * s->width;
    struct view view = {
        .dim = s->dim, .tokens = tokens, .blocks = (tokens + BLOCK - 1) / BLOCK, .q = q, .k = k};
    view.mean_q = program_calloc(view.blocks * s->dim, sizeof *q);
    view.mean_k = program_calloc(view.blocks * s->dim, sizeof *k);
    *out = (struct generate_statistics){.query_variance = block_means(&view, view.q, view.mean_q),
                                        .key_variance = block_means(&view, view.k, view.mean_k)};
    struct measure measure = {&view, random_stream(number, 30), NULL};
    measure.queries = program_calloc(queries, sizeof *measure.queries);
    parallel_for(0, queries, measure_query, &measure);
    summarise(measure.queries, queries, out);
    free(view.mean_q);
    free(view.mean_k);
    free(measure.queries);
}

void generate_measure(const struct generate *generate, uint32_t head, uint32_t queries,
                      struct generate_statistics *out)
{
    const struct draft_shape *s = generate_shape(generate);
    uint64_t tokens = (uint64_t)s->prefix + (uint64_t)s->frames * s->height * s->width + s->suffix;
    float *q = program_calloc(tokens * s->dim, sizeof *q),
          *k = program_calloc(tokens * s->dim, sizeof *k);
    float *v = program_calloc(tokens * s->dim, sizeof *v);
    generate_head(generate, head, &(struct generate_target){q, k, v, DRAFT_F32, s->dim});
    free(v);
    size_t skip = (size_t)s->prefix * s->dim;
    generate_measure_tensors(s, q + skip, k + skip, head, queries, out);
    free(q);
    free(k);
}
