/* SPDX-License-Identifier: MIT
 *
 * For each query block: go through the pooled keys, if the plan has a tail, then through its list;
 * for each tile of keys compute the logits, one step of the running softmax, and add the weighted
 * values. */
#include <math.h>
#include <string.h>

#include "cpu.h"

/* Matrices of one tile: at most DRAFT_BLOCK rows of DRAFT_MAX_DIM columns. */
struct attend_scratch {
    float q[DRAFT_BLOCK * DRAFT_MAX_DIM]; /* times draft_cpu_query_scale          */
    float rows[DRAFT_BLOCK * DRAFT_MAX_DIM];
    float k_panels[DRAFT_BLOCK * DRAFT_MAX_DIM];
    float v_panels[DRAFT_BLOCK * DRAFT_MAX_DIM];
    float p[DRAFT_BLOCK * DRAFT_BLOCK]; /* logits, then exp(logit - m)          */
    float out[DRAFT_BLOCK * DRAFT_MAX_DIM];
    float bias[DRAFT_BLOCK]; /* one for each key                     */
    float m[DRAFT_BLOCK], l[DRAFT_BLOCK], keep[DRAFT_BLOCK];
};

/* One query block of one sample and head. */
struct query_block {
    const struct draft_cpu_job *job;
    struct attend_scratch *x;
    uint64_t sample, head;
    uint32_t width;        /* dim, rounded up to whole panels */
    uint32_t rows;         /* valid queries                   */
    const uint32_t *valid; /* text lengths of the sample, or NULL */
};

uint64_t draft_cpu_attend_scratch(void)
{
    return sizeof(struct attend_scratch);
}

static void load_queries(struct query_block *qb, const uint32_t *tokens)
{
    const struct draft_geometry *g = qb->job->g;
    const struct draft_args *a = qb->job->args;
    struct attend_scratch *x = qb->x;
    const void *from[DRAFT_BLOCK];
    for (uint32_t i = 0; i < qb->rows; i++)
        from[i] = draft_cpu_at(a->q, qb->sample * a->q_batch + qb->head * a->q_head +
                                         (uint64_t)tokens[i] * a->q_token);
    memset(x->q, 0, sizeof x->q);
    qb->job->ops->load(g->type, from, qb->rows, g->dim, DRAFT_MAX_DIM, x->q);
    for (uint32_t i = 0; i < qb->rows * DRAFT_MAX_DIM; i++)
        x->q[i] *= draft_cpu_query_scale(g);
    for (uint32_t i = 0; i < DRAFT_BLOCK; i++)
        x->m[i] = -INFINITY, x->l[i] = 0;
    memset(x->out, 0, sizeof x->out);
}

static void load_keys(const struct query_block *qb, const uint32_t *tokens, uint32_t n)
{
    const struct draft_geometry *g = qb->job->g;
    const struct draft_args *a = qb->job->args;
    const struct draft_cpu_tile_ops *ops = qb->job->ops;
    uint64_t head = qb->head / g->group;
    const void *from[DRAFT_BLOCK];
    for (uint32_t i = 0; i < n; i++)
        from[i] = draft_cpu_at(a->k, qb->sample * a->k_batch + head * a->k_head +
                                         (uint64_t)tokens[i] * a->k_token);
    ops->load(g->type, from, n, g->dim, qb->width, qb->x->rows);
    ops->pack_transposed(qb->x->rows, n, qb->width, qb->x->k_panels);
    for (uint32_t i = 0; i < n; i++)
        from[i] = draft_cpu_at(a->v, qb->sample * a->v_batch + head * a->v_head +
                                         (uint64_t)tokens[i] * a->v_token);
    ops->load(g->type, from, n, g->dim, qb->width, qb->x->rows);
    ops->pack(qb->x->rows, n, qb->width, qb->x->v_panels);
}

/* Add n keys, packed in k_panels and v_panels, each with its bias, to the running result. Exact keys
 * have bias 0; keys that stand for many (pooled ones) bring their own. */
static void add_keys(const struct query_block *qb, uint32_t n)
{
    const struct draft_cpu_tile_ops *ops = qb->job->ops;
    struct attend_scratch *x = qb->x;
    uint32_t rows = draft_cpu_round_up(qb->rows, CPU_ROWS), keys = draft_cpu_round_up(n, CPU_PANEL);
    for (uint32_t i = n; i < keys; i++)
        x->bias[i] = -INFINITY;
    ops->multiply(x->q, x->k_panels, rows, keys / CPU_PANEL, qb->width, qb->width, NULL, x->p);
    draft_cpu_scale_products(qb->job->g, rows, x->p);
    ops->softmax_step(x->p, x->bias, rows, keys, x->m, x->l, x->keep);
    ops->multiply(x->p, x->v_panels, rows, qb->width / CPU_PANEL, n, DRAFT_BLOCK, x->keep, x->out);
}

/* The bias of pooled keys `first` on for query block i: -inf where the block itself is kept. False
 * where all are: then there is nothing to add. */
static bool load_bias(const struct query_block *qb, uint32_t i, uint32_t first, uint32_t n)
{
    const struct draft_geometry *g = qb->job->g;
    uint64_t row = (qb->sample * g->heads + qb->head) * g->video_blocks + i;
    const float *from = (const float *)(qb->job->workspace + g->bias) + row * g->bias_stride;
    bool any = false;
    for (uint32_t j = 0; j < n; j++) {
        float bias = from[first + j];
        qb->x->bias[j] = signbit(bias) ? -INFINITY : bias;
        any = any || !signbit(bias);
    }
    return any;
}

static void load_pooled(const struct query_block *qb, uint64_t part, uint32_t first, uint32_t n)
{
    const struct draft_geometry *g = qb->job->g;
    uint64_t row = (qb->sample * g->kv_heads + qb->head / g->group) * g->video_blocks + first;
    uint64_t bytes = g->dim * (uint64_t)(g->type == DRAFT_ABI_F32 ? 4 : 2);
    const void *from[DRAFT_BLOCK];
    for (uint32_t j = 0; j < n; j++)
        from[j] = qb->job->workspace + part + (row + j) * bytes;
    qb->job->ops->load(g->type, from, n, g->dim, qb->width, qb->x->rows);
}

/* What is left out, as seen by the rows of video block i: pooled keys, 128 at a time. */
static void add_tail(const struct query_block *qb, uint32_t i)
{
    const struct draft_geometry *g = qb->job->g;
    const struct draft_cpu_tile_ops *ops = qb->job->ops;
    for (uint32_t first = 0; first < g->video_blocks; first += DRAFT_BLOCK) {
        uint32_t n = g->video_blocks - first < DRAFT_BLOCK ? g->video_blocks - first : DRAFT_BLOCK;
        if (!load_bias(qb, i, first, n))
            continue;
        load_pooled(qb, g->tail_k, first, n);
        ops->pack_transposed(qb->x->rows, n, qb->width, qb->x->k_panels);
        load_pooled(qb, g->tail_v, first, n);
        ops->pack(qb->x->rows, n, qb->width, qb->x->v_panels);
        add_keys(qb, n);
    }
}

/* ---- Output ---------------------------------------------------------------------------------- */

/* Rows without any key, and text rows beyond the valid length, are 0 with lse = -inf. */
static void store(const struct query_block *qb, const uint32_t *tokens, uint32_t size)
{
    const struct draft_geometry *g = qb->job->g;
    const struct draft_args *a = qb->job->args;
    float *lse = (float *)(uintptr_t)a->lse;
    for (uint32_t i = 0; i < size; i++) {
        float *row = qb->x->out + (size_t)i * DRAFT_MAX_DIM, l = i < qb->rows ? qb->x->l[i] : 0;
        for (uint32_t d = 0; d < g->dim; d++)
            row[d] = l == 0 ? 0 : row[d] / l;
        draft_cpu_store_row(g->type, row, g->dim,
                            draft_cpu_at(a->o, qb->sample * a->out_batch + qb->head * a->out_head +
                                                   (uint64_t)tokens[i] * a->out_token));
        if (lse)
            lse[(qb->sample * g->heads + qb->head) * g->tokens + tokens[i]] =
                l == 0 ? -INFINITY : qb->x->m[i] + logf(l);
    }
}

/* ---- The stage ------------------------------------------------------------------------------- */

static void attend_block(void *argument, uint64_t item, uint32_t slot)
{
    const struct draft_cpu_job *job = argument;
    const struct draft_geometry *g = job->g;
    uint64_t head = item / g->blocks; /* sample x heads + head */
    uint32_t block = ((const uint16_t *)(job->workspace + g->order))[item];
    uint64_t row = head * g->blocks + block;
    struct query_block qb = {
        .job = job,
        .x = (void *)(job->scratch + slot * job->slot_size),
        .sample = head / g->heads,
        .head = head % g->heads,
        .width = draft_cpu_round_up(g->dim, CPU_PANEL),
    };
    if (job->args->valid)
        qb.valid = (const uint32_t *)(uintptr_t)job->args->valid + 2 * qb.sample;
    uint32_t tokens[DRAFT_BLOCK], key_tokens[DRAFT_BLOCK];
    qb.rows = draft_block_tokens(g, block, qb.valid, tokens);
    load_queries(&qb, tokens);
    const uint16_t *list = (const uint16_t *)(job->workspace + g->lists) + row * g->blocks;
    uint32_t count = ((const uint32_t *)(job->workspace + g->counts))[row];
    uint32_t video = block - g->prefix_blocks; /* wraps for prefix blocks */
    if (g->tail != DRAFT_ABI_TAIL_DROP && video < g->video_blocks &&
        !(job->args->flags & DRAFT_ABI_KEPT_ONLY))
        add_tail(&qb, video);
    memset(qb.x->bias, 0, sizeof qb.x->bias);
    for (uint32_t i = 0; i < count && qb.rows > 0; i++) {
        uint32_t n = draft_block_tokens(g, list[i], qb.valid, key_tokens);
        if (n == 0)
            continue;
        load_keys(&qb, key_tokens, n);
        add_keys(&qb, n);
        memset(qb.x->bias, 0, sizeof qb.x->bias);
    }
    uint32_t size = draft_block_tokens(g, block, NULL, tokens);
    store(&qb, tokens, size);
}

void draft_cpu_attend(struct draft_cpu_job *job)
{
    uint64_t items = (uint64_t)job->g->batch * job->g->heads * job->g->blocks;
    draft_cpu_parallel(job->pool, items, attend_block, job);
}
