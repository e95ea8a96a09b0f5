/* SPDX-License-Identifier: MIT
 *
 * The map of scorer EXCESS. A product has 128 parts of keys, those of 8 key blocks, as its rows,
 * and 128 quarters of queries, those of 32 query blocks, as its columns:
 *
 *                    b = 0: i = 0 .. 31    b = 1: i = 0 .. 31    ..
 *   j = 0:  a = 0            y                     y
 *           ..
 *           a = 15           y                     y
 *   j = 1:  a = 0            y                     y
 *           ..
 *
 * so that the parts of a key block are reduced column by column, in vectors, and empty parts are
 * rows to be left out. The scores of all key blocks, x [S][128], stay in scratch until the maximum
 * of each column is known. What limits it: the product. */
#include <math.h>

#include "cpu.h"

enum { QUERIES = DRAFT_BLOCK / DRAFT_QUARTERS, KEYS = DRAFT_BLOCK / DRAFT_PARTS };

struct excess_scratch {
    float rows[DRAFT_BLOCK * DRAFT_MAX_DIM]; /* means: of queries, then of keys */
    float q_panels[DRAFT_BLOCK * DRAFT_MAX_DIM];
    float product[DRAFT_BLOCK * DRAFT_BLOCK];
    float m[DRAFT_BLOCK], l[DRAFT_BLOCK];
    float x[]; /* [S][DRAFT_BLOCK] */
};

/* QUERIES query blocks of one sample and head, from `first` on; at the end of the head fewer. */
struct excess_rows {
    const struct draft_cpu_job *job;
    struct excess_scratch *x;
    uint64_t head, kv_head; /* samples x heads or kv heads counted in */
    uint32_t first, n;
};

uint64_t draft_cpu_excess_scratch(const struct draft_geometry *g)
{
    return sizeof(struct excess_scratch) + (uint64_t)g->video_blocks * DRAFT_BLOCK * sizeof(float);
}

static uint32_t least(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

static const char *mean_at(const struct draft_cpu_job *job, uint64_t means, uint64_t row)
{
    uint32_t size = job->g->type == DRAFT_ABI_F32 ? sizeof(float) : sizeof(uint16_t);
    return job->workspace + means + row * job->g->dim * size;
}

/* Columns of query blocks behind the last hold the last again. */
static void load_queries(const struct excess_rows *r)
{
    const struct draft_geometry *g = r->job->g;
    struct excess_scratch *x = r->x;
    const void *from[DRAFT_BLOCK];
    for (uint32_t b = 0; b < DRAFT_QUARTERS; b++)
        for (uint32_t i = 0; i < QUERIES; i++) {
            uint64_t block = r->head * g->video_blocks + r->first + least(i, r->n - 1);
            from[b * QUERIES + i] = mean_at(r->job, g->parts_q, block * DRAFT_QUARTERS + b);
        }
    r->job->ops->load(g->type, from, DRAFT_BLOCK, g->dim, DRAFT_MAX_DIM, x->rows);
    for (uint32_t at = 0; at < DRAFT_BLOCK * DRAFT_MAX_DIM; at++)
        x->rows[at] *= draft_cpu_query_scale(g);
    r->job->ops->pack_transposed(x->rows, DRAFT_BLOCK, DRAFT_MAX_DIM, x->q_panels);
}

/* Scores of n key blocks, at most KEYS. */
static void score_keys(const struct excess_rows *r, uint32_t first, uint32_t n)
{
    const struct draft_geometry *g = r->job->g;
    const struct draft_cpu_tile_ops *ops = r->job->ops;
    struct excess_scratch *x = r->x;
    uint64_t row = (r->kv_head * g->video_blocks + first) * DRAFT_PARTS;
    const void *from[DRAFT_BLOCK];
    for (uint32_t at = 0; at < n * DRAFT_PARTS; at++)
        from[at] = mean_at(r->job, g->parts_k, row + at);
    ops->load(g->type, from, n * DRAFT_PARTS, g->dim, DRAFT_MAX_DIM, x->rows);
    ops->multiply(x->rows, x->q_panels, n * DRAFT_PARTS, DRAFT_BLOCK / CPU_PANEL, g->dim,
                  DRAFT_MAX_DIM, NULL, x->product);
    draft_cpu_scale_products(g, n * DRAFT_PARTS, x->product);
    for (uint32_t j = 0; j < n; j++) {
        uint32_t tokens[DRAFT_PARTS];
        float sizes[DRAFT_PARTS];
        draft_part_sizes(g, first + j, tokens);
        for (uint32_t a = 0; a < DRAFT_PARTS; a++)
            sizes[a] = (float)tokens[a];
        ops->excess(x->product + (size_t)j * DRAFT_PARTS * DRAFT_BLOCK, sizes,
                    x->x + (uint64_t)(first + j) * DRAFT_BLOCK, x->m);
    }
}

/* The rows of the map: the mean of the quarters' rows, each with its share of the tokens. */
static void write_map(const struct excess_rows *r)
{
    const struct draft_geometry *g = r->job->g;
    uint64_t s = g->video_blocks, row = r->head * s + r->first;
    float *map = (float *)(r->job->workspace + g->map) + row * s;
    float factor[DRAFT_QUARTERS][QUERIES];
    for (uint32_t i = 0; i < r->n; i++) {
        uint32_t sizes[DRAFT_QUARTERS];
        float size = (float)draft_block_size(g, g->prefix_blocks + r->first + i);
        draft_quarter_sizes(g, r->first + i, sizes);
        for (uint32_t b = 0; b < DRAFT_QUARTERS; b++)
            factor[b][i] = (float)sizes[b] / size / r->x->l[b * QUERIES + i];
    }
    for (uint64_t j = 0; j < s; j++) {
        const float *x = r->x->x + j * DRAFT_BLOCK;
        for (uint32_t i = 0; i < r->n; i++) {
            float p = 0;
            for (uint32_t b = 0; b < DRAFT_QUARTERS; b++)
                p += factor[b][i] * x[b * QUERIES + i];
            map[i * s + j] = p;
        }
    }
}

static void excess_rows(void *argument, uint64_t item, uint32_t slot)
{
    const struct draft_cpu_job *job = argument;
    const struct draft_geometry *g = job->g;
    uint32_t s = g->video_blocks, groups = (s + QUERIES - 1) / QUERIES;
    uint64_t head = item / groups;
    uint32_t first = (uint32_t)(item % groups) * QUERIES;
    struct excess_rows r = {
        .job = job,
        .x = (void *)(job->scratch + slot * job->slot_size),
        .head = head,
        .kv_head = head / g->heads * g->kv_heads + head % g->heads / g->group,
        .first = first,
        .n = least(s - first, QUERIES),
    };
    load_queries(&r);
    for (uint32_t i = 0; i < DRAFT_BLOCK; i++)
        r.x->m[i] = -INFINITY;
    for (uint32_t j = 0; j < s; j += KEYS)
        score_keys(&r, j, least(s - j, KEYS));
    job->ops->exp_rows(r.x->x, s, r.x->m, r.x->l);
    write_map(&r);
}

void draft_cpu_excess(struct draft_cpu_job *job)
{
    const struct draft_geometry *g = job->g;
    uint64_t groups = (g->video_blocks + QUERIES - 1) / QUERIES;
    draft_cpu_parallel(job->pool, g->batch * (uint64_t)g->heads * groups, excess_rows, job);
}
