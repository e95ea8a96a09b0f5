/* SPDX-License-Identifier: MIT
 *
 * The logits of the map are products of means, 128 x 128 at a time. Scorers LSE and MAX, and the
 * tail's GAP, take four products, one for each quarter of the key blocks; FITTED one of moments.
 * The map of scorer EXCESS is in excess.c; its bias is written here. */
#include <math.h>
#include <string.h>

#include "cpu.h"

struct score_scratch {
    float q[DRAFT_BLOCK * DRAFT_MAX_DIM]; /* of means, times draft_cpu_query_scale */
    float moment_q[DRAFT_BLOCK * DRAFT_MAX_DIM];
    float k[DRAFT_BLOCK * DRAFT_MAX_DIM];
    float k_panels[DRAFT_BLOCK * DRAFT_MAX_DIM];
    float product[DRAFT_BLOCK * DRAFT_BLOCK];
    float quarters[DRAFT_QUARTERS][DRAFT_BLOCK * DRAFT_BLOCK];
};

/* The rows of up to DRAFT_BLOCK query blocks of one sample and head. */
struct score_rows {
    const struct draft_cpu_job *job;
    struct score_scratch *x;
    uint64_t k_first; /* row of the first key block in arrays [batch, kv_heads, S, ..] */
    uint32_t rows;
    float factor;      /* of FITTED */
    float *map, *bias; /* of the first row; bias NULL: the plan has none */
};

/* Key blocks `first` to first + n - 1. */
struct score_chunk {
    uint32_t first, n;
    float tokens[DRAFT_BLOCK], quarters[DRAFT_BLOCK][DRAFT_QUARTERS]; /* in each */
};

uint64_t draft_cpu_score_scratch(void)
{
    return sizeof(struct score_scratch);
}

static uint32_t least(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

/* n rows of a f32 array, of which every `step`-th is taken. */
static void load_means(const struct draft_cpu_job *job, uint64_t means, uint64_t first,
                       uint32_t step, uint32_t n, float *rows)
{
    const void *from[DRAFT_BLOCK];
    for (uint32_t i = 0; i < n; i++)
        from[i] =
            (const float *)(job->workspace + means) + (first + (uint64_t)i * step) * job->g->dim;
    job->ops->load(DRAFT_ABI_F32, from, n, job->g->dim, DRAFT_MAX_DIM, rows);
}

/* out[rows][DRAFT_BLOCK] = a x the transpose of n rows of an array. */
static void multiply(const struct score_rows *r, const float *a, uint64_t means, uint64_t first,
                     uint32_t step, uint32_t n, float *out)
{
    struct score_scratch *x = r->x;
    load_means(r->job, means, first, step, n, x->k);
    r->job->ops->pack_transposed(x->k, n, DRAFT_MAX_DIM, x->k_panels);
    r->job->ops->multiply(a, x->k_panels, draft_cpu_round_up(r->rows, CPU_ROWS),
                          (n + CPU_PANEL - 1) / CPU_PANEL, DRAFT_MAX_DIM, DRAFT_MAX_DIM, NULL, out);
}

/* The same of the means of q: logits. */
static void multiply_queries(const struct score_rows *r, uint64_t means, uint64_t first,
                             uint32_t step, uint32_t n, float *out)
{
    multiply(r, r->x->q, means, first, step, n, out);
    draft_cpu_scale_products(r->job->g, r->rows, out);
}

/* The sizes of the chunk's blocks. */
static void measure(const struct draft_geometry *g, struct score_chunk *c)
{
    for (uint32_t j = 0; j < c->n; j++) {
        uint32_t sizes[DRAFT_QUARTERS];
        c->tokens[j] = (float)draft_block_size(g, g->prefix_blocks + c->first + j);
        draft_quarter_sizes(g, c->first + j, sizes);
        for (int a = 0; a < DRAFT_QUARTERS; a++)
            c->quarters[j][a] = (float)sizes[a];
    }
}

/* ---- The map --------------------------------------------------------------------------------- */

/* Edge tiles stand for fewer keys: ln (n_j / n_full). */
static void score_means(const struct score_rows *r, const struct score_chunk *c, float full)
{
    uint32_t s = r->job->g->video_blocks;
    multiply_queries(r, r->job->g->pooled_k, r->k_first + c->first, 1, c->n, r->x->product);
    for (uint32_t j = 0; j < c->n; j++) {
        float share = logf(c->tokens[j] / full);
        for (uint32_t i = 0; i < r->rows; i++)
            r->map[(uint64_t)i * s + c->first + j] = r->x->product[i * DRAFT_BLOCK + j] + share;
    }
}

/* ln sum_a e^(x_a), or the largest x_a; -inf is an empty quarter. */
static float combine(const float x[DRAFT_QUARTERS], bool sum)
{
    float most = -INFINITY, total = 0;
    for (int a = 0; a < DRAFT_QUARTERS; a++)
        most = x[a] > most ? x[a] : most;
    for (int a = 0; a < DRAFT_QUARTERS && sum; a++)
        total += expf(x[a] - most);
    return sum ? most + logf(total) : most;
}

static void score_quarters(const struct score_rows *r, const struct score_chunk *c, float full)
{
    const struct draft_geometry *g = r->job->g;
    bool sum = g->scorer == DRAFT_ABI_SCORER_LSE;
    for (uint32_t j = 0; j < c->n; j++) {
        float share[DRAFT_QUARTERS], logit[DRAFT_QUARTERS];
        for (int a = 0; a < DRAFT_QUARTERS; a++)
            share[a] = logf(c->quarters[j][a] / full);
        for (uint32_t i = 0; i < r->rows; i++) {
            for (int a = 0; a < DRAFT_QUARTERS; a++)
                logit[a] = r->x->quarters[a][i * DRAFT_BLOCK + j] + share[a];
            r->map[(uint64_t)i * g->video_blocks + c->first + j] = combine(logit, sum);
        }
    }
}

/* ---- The bias -------------------------------------------------------------------------------- */

/* NaN becomes 0. */
static float between(float x, float most)
{
    return x > 0 ? (x < most ? x : most) : 0;
}

/* LSE score less mean score, of logits s_a whose weights sum to 1. */
static float gap(const float s[DRAFT_QUARTERS], const float weight[DRAFT_QUARTERS])
{
    float mean = 0, most = -INFINITY, total = 0;
    for (int a = 0; a < DRAFT_QUARTERS; a++) {
        mean += weight[a] * s[a];
        most = weight[a] > 0 && s[a] > most ? s[a] : most;
    }
    for (int a = 0; a < DRAFT_QUARTERS; a++)
        total += weight[a] > 0 ? weight[a] * expf(s[a] - most) : 0;
    return most - mean + logf(total);
}

static void bias_gap(const struct score_rows *r, const struct score_chunk *c)
{
    uint32_t stride = r->job->g->bias_stride;
    for (uint32_t j = 0; j < c->n; j++) {
        float weight[DRAFT_QUARTERS], s[DRAFT_QUARTERS], size = logf(c->tokens[j]);
        for (int a = 0; a < DRAFT_QUARTERS; a++)
            weight[a] = c->quarters[j][a] / c->tokens[j];
        for (uint32_t i = 0; i < r->rows; i++) {
            for (int a = 0; a < DRAFT_QUARTERS; a++)
                s[a] = r->x->quarters[a][i * DRAFT_BLOCK + j];
            r->bias[(uint64_t)i * stride + c->first + j] = size + between(gap(s, weight), size);
        }
    }
}

static void bias_fitted(const struct score_rows *r, const struct score_chunk *c)
{
    const struct draft_geometry *g = r->job->g;
    float half = 0.5f * g->scale * g->scale;
    multiply(r, r->x->moment_q, g->moment_k, r->k_first + c->first, 1, c->n, r->x->product);
    for (uint32_t j = 0; j < c->n; j++) {
        float size = logf(c->tokens[j]);
        for (uint32_t i = 0; i < r->rows; i++)
            r->bias[(uint64_t)i * g->bias_stride + c->first + j] =
                size + r->factor * between(half * r->x->product[i * DRAFT_BLOCK + j], size);
    }
}

static void bias_mean(const struct score_rows *r, const struct score_chunk *c)
{
    for (uint32_t j = 0; j < c->n; j++) {
        float size = logf(c->tokens[j]);
        for (uint32_t i = 0; i < r->rows; i++)
            r->bias[(uint64_t)i * r->job->g->bias_stride + c->first + j] = size;
    }
}

/* ---- The stage ------------------------------------------------------------------------------- */

static void score_chunk(const struct score_rows *r, struct score_chunk *c)
{
    const struct draft_geometry *g = r->job->g;
    float full = (float)(g->tile_t * g->tile_h * g->tile_w);
    measure(g, c);
    for (uint32_t a = 0; a < DRAFT_QUARTERS && g->quarters; a++)
        multiply_queries(r, g->quarters, (r->k_first + c->first) * DRAFT_QUARTERS + a,
                         DRAFT_QUARTERS, c->n, r->x->quarters[a]);
    if (g->scorer == DRAFT_ABI_SCORER_MEAN)
        score_means(r, c, full);
    else if (g->scorer != DRAFT_ABI_SCORER_EXCESS)
        score_quarters(r, c, full);
    if (g->tail == DRAFT_ABI_TAIL_MEAN)
        bias_mean(r, c);
    if (g->tail == DRAFT_ABI_TAIL_GAP)
        bias_gap(r, c);
    if (g->tail == DRAFT_ABI_TAIL_FITTED)
        bias_fitted(r, c);
}

/* All of some rows; `head` counts samples x heads. */
static void load_rows(struct score_rows *r, uint64_t head, uint32_t first)
{
    const struct draft_geometry *g = r->job->g;
    struct score_scratch *x = r->x;
    uint64_t row = head * g->video_blocks + first;
    memset(x->q, 0, sizeof x->q);
    load_means(r->job, g->pooled_q, row, 1, r->rows, x->q);
    for (uint32_t i = 0; i < r->rows * DRAFT_MAX_DIM; i++)
        x->q[i] *= draft_cpu_query_scale(g);
    r->map = (float *)(r->job->workspace + g->map) + row * g->video_blocks;
    if (g->bias)
        r->bias = (float *)(r->job->workspace + g->bias) + row * g->bias_stride;
    if (g->tail == DRAFT_ABI_TAIL_FITTED) {
        memset(x->moment_q, 0, sizeof x->moment_q);
        load_means(r->job, g->moment_q, row, 1, r->rows, x->moment_q);
        r->factor =
            between(((const float *)(r->job->workspace + g->factors))[head], DRAFT_FACTOR_MOST);
    }
}

static void score_rows(void *argument, uint64_t item, uint32_t slot)
{
    const struct draft_cpu_job *job = argument;
    const struct draft_geometry *g = job->g;
    uint32_t s = g->video_blocks, chunks = (s + DRAFT_BLOCK - 1) / DRAFT_BLOCK;
    uint64_t head = item / chunks; /* sample x heads + head */
    uint64_t kv_head = head / g->heads * g->kv_heads + head % g->heads / g->group;
    uint32_t first = (uint32_t)(item % chunks) * DRAFT_BLOCK;
    struct score_rows r = {
        .job = job,
        .x = (void *)(job->scratch + slot * job->slot_size),
        .k_first = kv_head * s,
        .rows = least(s - first, DRAFT_BLOCK),
    };
    load_rows(&r, head, first);
    for (uint32_t chunk = 0; chunk < s; chunk += DRAFT_BLOCK) {
        struct score_chunk c = {.first = chunk, .n = least(s - chunk, DRAFT_BLOCK)};
        score_chunk(&r, &c);
    }
    for (uint32_t i = 0; i < r.rows; i++) {
        if (g->scorer != DRAFT_ABI_SCORER_EXCESS)
            job->ops->softmax_row(r.map + (uint64_t)i * s, s);
        for (uint32_t j = s; j < g->bias_stride && r.bias; j++)
            r.bias[(uint64_t)i * g->bias_stride + j] = -INFINITY;
    }
}

void draft_cpu_score(struct draft_cpu_job *job)
{
    const struct draft_geometry *g = job->g;
    uint64_t chunks = (g->video_blocks + DRAFT_BLOCK - 1) / DRAFT_BLOCK;
    if (g->scorer == DRAFT_ABI_SCORER_EXCESS)
        draft_cpu_excess(job);
    if (g->scorer != DRAFT_ABI_SCORER_EXCESS || g->bias)
        draft_cpu_parallel(job->pool, g->batch * (uint64_t)g->heads * chunks, score_rows, job);
}
