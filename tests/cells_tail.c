/* SPDX-License-Identifier: MIT */
#include "cells_tail.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct tail_inputs {
    size_t heads, kv_heads; /* of all samples   */
    size_t numbers;         /* S x dim          */
    float *quarters, *moment_q, *moment_k;
    uint8_t *parts_q, *parts_k; /* of the type             */
    uint8_t *k, *v;             /* pooled, of the type      */
    float *bias;                /* [heads, S, bias_stride]  */
    uint32_t stride;
    size_t biases; /* numbers in bias */
    bool pooled;   /* the plan has pooled keys */
};

/* All of one head, from the exact tensor. */
static void make_key_head(struct tail_inputs *in, const struct problem *p, const double *k,
                          const double *v, size_t head)
{
    const struct oracle_grid *g = &p->grid;
    size_t n = in->numbers;
    double *mean = test_alloc(4 * n, sizeof *mean), *rest = test_alloc(4 * n, sizeof *rest);
    uint32_t *counts = test_alloc(4 * (size_t)g->video_blocks, sizeof *counts);
    oracle_quarters(g, k, mean, rest, counts);
    for (size_t i = 0; i < 4 * n; i++)
        in->quarters[head * 4 * n + i] = (float)mean[i];
    oracle_moment(g, k, true, mean);
    for (size_t i = 0; i < n; i++)
        in->moment_k[head * n + i] = (float)mean[i];
    oracle_pool(g, k, mean, rest);
    for (size_t i = 0; i < n; i++)
        type_store(p->k.type, in->k, head * n + i, mean[i]);
    oracle_pool(g, v, mean, rest);
    for (size_t i = 0; i < n; i++)
        type_store(p->v.type, in->v, head * n + i, mean[i]);
    free(mean);
    free(rest);
    free(counts);
}

static void make_query_head(struct tail_inputs *in, const struct problem *p, const double *q,
                            size_t head)
{
    double *moment = test_alloc(in->numbers, sizeof *moment);
    oracle_moment(&p->grid, q, false, moment);
    for (size_t i = 0; i < in->numbers; i++)
        in->moment_q[head * in->numbers + i] = (float)moment[i];
    free(moment);
}

/* Means of 4 quarters or 16 parts of one head, from the exact tensor. */
static void make_parts(const struct problem *p, const double *x, uint32_t per, uint8_t *to,
                       size_t head)
{
    size_t rows = (size_t)p->grid.video_blocks * per, n = rows * p->dim;
    double *mean = test_alloc(n, sizeof *mean), *rest = test_alloc(n, sizeof *rest);
    uint32_t *counts = test_alloc(rows, sizeof *counts);
    (per == 4 ? oracle_quarters : oracle_parts)(&p->grid, x, mean, rest, counts);
    for (size_t i = 0; i < n; i++)
        type_store(p->k.type, to, head * n + i, mean[i]);
    free(mean);
    free(rest);
    free(counts);
}

/* From ln n to twice that; signs at random. */
static void make_bias(struct tail_inputs *in, const struct problem *p)
{
    const struct oracle_grid *g = &p->grid;
    struct rng r = rng_of(p->test->name, 'b');
    for (size_t at = 0; at < in->biases; at++) {
        size_t j = at % in->stride;
        double size = j < g->video_blocks ? log(g->size[g->prefix_blocks + j]) : INFINITY;
        float x = (float)(size * (1 + (j % 3 ? rng_unit(&r) : 0)));
        in->bias[at] = j >= g->video_blocks || rng_below(&r, 2) ? -x : x;
    }
}

struct tail_inputs *tail_inputs_new(const struct problem *p)
{
    const struct draft_plan_params *params = &p->test->params;
    if (params->scorer <= DRAFT_SCORER_MEAN && params->tail <= DRAFT_TAIL_DROP)
        return NULL;
    struct tail_inputs *in = test_alloc(1, sizeof *in);
    uint32_t s = p->grid.video_blocks, group = p->heads / p->kv_heads;
    *in = (struct tail_inputs){.heads = (size_t)p->batch * p->heads,
                               .kv_heads = (size_t)p->batch * p->kv_heads,
                               .numbers = (size_t)s * p->dim,
                               .stride = (s + 127) / 128 * 128,
                               .pooled = params->tail > DRAFT_TAIL_DROP};
    in->biases = in->heads * s * in->stride;
    in->quarters = test_alloc(in->kv_heads * in->numbers * 4, sizeof *in->quarters);
    in->moment_q = test_alloc(in->heads * in->numbers, sizeof *in->moment_q);
    in->moment_k = test_alloc(in->kv_heads * in->numbers, sizeof *in->moment_k);
    in->k = test_alloc(in->kv_heads * in->numbers, type_size(params->type));
    in->v = test_alloc(in->kv_heads * in->numbers, type_size(params->type));
    in->parts_q = test_alloc(in->heads * in->numbers * 4, type_size(params->type));
    in->parts_k = test_alloc(in->kv_heads * in->numbers * 16, type_size(params->type));
    in->bias = test_alloc(in->biases, sizeof *in->bias);
    bool parts = params->scorer == DRAFT_SCORER_EXCESS;
    for (uint32_t b = 0; b < p->batch; b++) {
        for (uint32_t h = 0; h < p->kv_heads; h++) {
            size_t head = (size_t)b * p->kv_heads + h;
            make_key_head(in, p, problem_k(p, b, h * group), problem_v(p, b, h * group), head);
            if (parts)
                make_parts(p, problem_k(p, b, h * group), 16, in->parts_k, head);
        }
        for (uint32_t h = 0; h < p->heads; h++) {
            size_t head = (size_t)b * p->heads + h;
            make_query_head(in, p, problem_q(p, b, h), head);
            if (parts)
                make_parts(p, problem_q(p, b, h), 4, in->parts_q, head);
        }
    }
    make_bias(in, p);
    return in;
}

void tail_inputs_free(struct tail_inputs *in)
{
    if (!in)
        return;
    free(in->quarters);
    free(in->parts_q);
    free(in->parts_k);
    free(in->moment_q);
    free(in->moment_k);
    free(in->k);
    free(in->v);
    free(in->bias);
    free(in);
}

void tail_inputs_mark(struct tail_inputs *in, const struct problem *p, const uint32_t *counts,
                      const uint16_t *lists)
{
    const struct oracle_grid *g = &p->grid;
    for (size_t row = 0; in && row < in->heads * g->video_blocks; row++) {
        size_t block = row / g->video_blocks * g->blocks + g->prefix_blocks + row % g->video_blocks;
        float *bias = in->bias + row * in->stride;
        for (uint32_t j = 0; j < g->video_blocks; j++)
            bias[j] = fabsf(bias[j]);
        for (uint32_t e = 0; e < counts[block]; e++) {
            uint32_t j = lists[block * g->blocks + e];
            if (j >= g->prefix_blocks && j < g->prefix_blocks + g->video_blocks)
                bias[j - g->prefix_blocks] = -bias[j - g->prefix_blocks];
        }
    }
}

struct tail tail_inputs_tail(const struct tail_inputs *in)
{
    return in && in->pooled ? (struct tail){in->k, in->v, in->bias, in->stride} : (struct tail){0};
}

static void put(struct rig *rig, uint64_t offset, const void *from, size_t size)
{
    if (offset)
        buffer_put(&rig->workspace, offset, from, size);
}

void tail_inputs_put(const struct tail_inputs *in, struct rig *rig, draft_stage stage)
{
    const struct draft_layout *l = &rig->layout;
    if (!in)
        return;
    size_t kv = in->kv_heads * in->numbers, type = type_size(rig->problem->k.type);
    if (stage == DRAFT_SCORE) {
        put(rig, l->quarters, in->quarters, kv * 4 * sizeof *in->quarters);
        put(rig, l->parts_q, in->parts_q, in->heads * in->numbers * 4 * type);
        put(rig, l->parts_k, in->parts_k, kv * 16 * type);
        put(rig, l->moment_q, in->moment_q, in->heads * in->numbers * sizeof *in->moment_q);
        put(rig, l->moment_k, in->moment_k, kv * sizeof *in->moment_k);
        return;
    }
    put(rig, l->bias, in->bias, in->biases * sizeof *in->bias);
    if (stage == DRAFT_ATTEND) {
        put(rig, l->tail_k, in->k, kv * type);
        put(rig, l->tail_v, in->v, kv * type);
    }
}

static size_t wrong(const char *cell, const char *what, size_t at)
{
    test_print("    %s: bias entry %zu: %s\n", cell, at, what);
    return 1;
}

size_t tail_inputs_kept(const struct tail_inputs *in, const struct rig *rig, const char *cell)
{
    if (!in || !rig->layout.bias)
        return 0;
    const float *now = rig_workspace(rig, rig->layout.bias);
    for (size_t at = 0; at < in->biases; at++)
        if (fabsf(now[at]) != fabsf(in->bias[at]))
            return wrong(cell, "select has changed more than the sign", at);
    return 0;
}

size_t tail_unmarked(const struct rig *rig, const char *cell)
{
    const struct problem *p = rig->problem;
    size_t stride = rig->layout.bias_stride, s = p->grid.video_blocks;
    if (!rig->layout.bias)
        return 0;
    const float *bias = rig_workspace(rig, rig->layout.bias);
    for (size_t at = 0; at < (size_t)p->batch * p->heads * s * stride; at++) {
        if (at % stride < s && signbit(bias[at]))
            return wrong(cell, "score has set the sign", at);
        if (at % stride >= s && bias[at] != -INFINITY)
            return wrong(cell, "not -inf behind the row", at);
    }
    return 0;
}
