/* SPDX-License-Identifier: MIT */
#include <float.h>
#include <string.h>

#include "cpu.h"

/* What is added up is divided first, so that sums of the largest numbers stay finite; by a power of
 * two, so that nothing is rounded. */
static const float PART = 1.0f / DRAFT_BLOCK;

/* Rows of one block of one head, and means of its parts. */
struct pool_scratch {
    float rows[DRAFT_BLOCK * DRAFT_MAX_DIM];
    float parts[DRAFT_PARTS * DRAFT_MAX_DIM];
};

uint64_t draft_cpu_pool_scratch(void)
{
    return sizeof(struct pool_scratch);
}

/* One block of one sample. */
struct pool_block {
    const struct draft_cpu_job *job;
    float *rows, *parts;
    uint64_t sample;
    uint32_t block, n;            /* of video blocks; tokens          */
    uint32_t tokens[DRAFT_BLOCK]; /* in slot order                    */
    uint8_t quarter[DRAFT_BLOCK]; /* of each token, where it is asked */
    uint8_t part[DRAFT_BLOCK];
    uint32_t quarter_sizes[DRAFT_QUARTERS], part_sizes[DRAFT_PARTS];
};

/* A tensor of the run. */
struct source {
    draft_address data;
    uint32_t batch, token, head; /* strides */
    uint32_t heads;
};

static void load_block(const struct pool_block *b, const struct source *s, uint64_t head)
{
    const struct draft_geometry *g = b->job->g;
    const void *from[DRAFT_BLOCK];
    for (uint32_t i = 0; i < b->n; i++)
        from[i] = draft_cpu_at(s->data, b->sample * s->batch + head * s->head +
                                            (uint64_t)b->tokens[i] * s->token);
    b->job->ops->load(g->type, from, b->n, g->dim, g->dim, b->rows);
}

/* Row of the block in an array [batch, heads, S, ..]. */
static uint64_t row_of(const struct pool_block *b, const struct source *s, uint64_t head)
{
    return (b->sample * s->heads + head) * b->job->g->video_blocks + b->block;
}

static float *floats_at(const struct pool_block *b, uint64_t part, uint64_t row)
{
    return (float *)(b->job->workspace + part) + row * b->job->g->dim;
}

/* Sums of PART of n numbers become means. Infinity is but a rounding error, or a square. */
static void divide(float *sums, uint32_t dim, uint32_t n)
{
    for (uint32_t d = 0; d < dim; d++) {
        float x = sums[d] / ((float)n * PART);
        x = x > FLT_MAX ? FLT_MAX : x;
        sums[d] = x < -FLT_MAX ? -FLT_MAX : x;
    }
}

static void mean(const struct pool_block *b, float *out)
{
    uint32_t dim = b->job->g->dim;
    memset(out, 0, dim * sizeof *out);
    for (uint32_t i = 0; i < b->n; i++)
        for (uint32_t d = 0; d < dim; d++)
            out[d] += b->rows[(size_t)i * dim + d] * PART;
    divide(out, dim, b->n);
}

/* Mean of (x - about)^2; about NULL: 0. */
static void moment(const struct pool_block *b, const float *about, float *out)
{
    uint32_t dim = b->job->g->dim;
    memset(out, 0, dim * sizeof *out);
    for (uint32_t i = 0; i < b->n; i++)
        for (uint32_t d = 0; d < dim; d++) {
            float x = b->rows[(size_t)i * dim + d] - (about ? about[d] : 0);
            out[d] += x * PART * x;
        }
    divide(out, dim, b->n);
}

/* Means of what `part` tells apart; 0 where there is nothing. */
static void part_means(const struct pool_block *b, const uint8_t *part, const uint32_t *sizes,
                       uint32_t parts, float *out)
{
    uint32_t dim = b->job->g->dim;
    memset(out, 0, (size_t)parts * dim * sizeof *out);
    for (uint32_t i = 0; i < b->n; i++)
        for (uint32_t d = 0; d < dim; d++)
            out[part[i] * dim + d] += b->rows[(size_t)i * dim + d] * PART;
    for (uint32_t a = 0; a < parts; a++)
        if (sizes[a] > 0)
            divide(out + (size_t)a * dim, dim, sizes[a]);
}

static void *element_at(const struct pool_block *b, uint64_t part, uint64_t row)
{
    const struct draft_geometry *g = b->job->g;
    uint32_t size = g->type == DRAFT_ABI_F32 ? sizeof(float) : sizeof(uint16_t);
    return b->job->workspace + part + row * g->dim * size;
}

/* In the type of the tensors; those of f32 are the means themselves. */
static void store_tail(const struct pool_block *b, const float *means, uint64_t part, uint64_t row)
{
    const struct draft_geometry *g = b->job->g;
    if (g->tail != DRAFT_ABI_TAIL_DROP && g->type != DRAFT_ABI_F32)
        draft_cpu_store_row(g->type, means, g->dim, element_at(b, part, row));
}

static void pool_queries(const struct pool_block *b, const struct source *q)
{
    const struct draft_geometry *g = b->job->g;
    for (uint64_t h = 0; h < g->heads; h++) {
        uint64_t row = row_of(b, q, h);
        load_block(b, q, h);
        mean(b, floats_at(b, g->pooled_q, row));
        if (g->moment_q)
            moment(b, NULL, floats_at(b, g->moment_q, row));
        if (!g->parts_q)
            continue;
        part_means(b, b->quarter, b->quarter_sizes, DRAFT_QUARTERS, b->parts);
        draft_cpu_store_row(g->type, b->parts, DRAFT_QUARTERS * g->dim,
                            element_at(b, g->parts_q, row * DRAFT_QUARTERS));
    }
}

static void pool_keys(const struct pool_block *b, const struct source *k)
{
    const struct draft_geometry *g = b->job->g;
    for (uint64_t h = 0; h < g->kv_heads; h++) {
        uint64_t row = row_of(b, k, h);
        float *means = floats_at(b, g->pooled_k, row);
        load_block(b, k, h);
        mean(b, means);
        store_tail(b, means, g->tail_k, row);
        if (g->quarters)
            part_means(b, b->quarter, b->quarter_sizes, DRAFT_QUARTERS,
                       floats_at(b, g->quarters, row * DRAFT_QUARTERS));
        if (g->moment_k)
            moment(b, means, floats_at(b, g->moment_k, row));
        if (!g->parts_k)
            continue;
        part_means(b, b->part, b->part_sizes, DRAFT_PARTS, b->parts);
        draft_cpu_store_row(g->type, b->parts, DRAFT_PARTS * g->dim,
                            element_at(b, g->parts_k, row * DRAFT_PARTS));
    }
}

static void pool_values(const struct pool_block *b, const struct source *v)
{
    const struct draft_geometry *g = b->job->g;
    for (uint64_t h = 0; h < g->kv_heads; h++) {
        uint64_t row = row_of(b, v, h);
        float *means = floats_at(b, g->pooled_v, row);
        load_block(b, v, h);
        mean(b, means);
        store_tail(b, means, g->tail_v, row);
    }
}

static uint32_t least(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

/* The quarter and the part of each slot: slots count w fastest, then h, then t, inside the grid. */
static void find_parts(const struct draft_geometry *g, struct pool_block *b)
{
    uint32_t w0 = b->block % g->tiles_w * g->tile_w, row = b->block / g->tiles_w;
    uint32_t h0 = row % g->tiles_h * g->tile_h;
    uint32_t width = least(g->tile_w, g->width - w0), height = least(g->tile_h, g->height - h0);
    for (uint32_t i = 0; i < b->n; i++) {
        uint32_t at[3] = {i % width, i / width % height, i / width / height};
        uint32_t split[3] = {g->split_w, g->split_h, g->split_t}, bit = 1, quarter = 0;
        for (int axis = 0; axis < 3; axis++) {
            quarter |= split[axis] && at[axis] >= split[axis] ? bit : 0;
            bit <<= split[axis] != 0;
        }
        b->quarter[i] = (uint8_t)quarter;
        uint32_t part = at[2] * g->cut_t / g->tile_t;
        part = part * g->cut_h + at[1] * g->cut_h / g->tile_h;
        b->part[i] = (uint8_t)(part * g->cut_w + at[0] * g->cut_w / g->tile_w);
    }
    draft_quarter_sizes(g, b->block, b->quarter_sizes);
    draft_part_sizes(g, b->block, b->part_sizes);
}

static void pool_block(void *argument, uint64_t item, uint32_t slot)
{
    const struct draft_cpu_job *job = argument;
    const struct draft_geometry *g = job->g;
    const struct draft_args *a = job->args;
    struct pool_scratch *x = (void *)(job->scratch + slot * job->slot_size);
    struct pool_block b = {
        .job = job,
        .rows = x->rows,
        .parts = x->parts,
        .sample = item / g->video_blocks,
        .block = (uint32_t)(item % g->video_blocks),
    };
    b.n = draft_block_tokens(g, g->prefix_blocks + b.block, NULL, b.tokens);
    if (g->quarters || g->parts_q)
        find_parts(g, &b);
    pool_queries(&b, &(struct source){a->q, a->q_batch, a->q_token, a->q_head, g->heads});
    pool_keys(&b, &(struct source){a->k, a->k_batch, a->k_token, a->k_head, g->kv_heads});
    pool_values(&b, &(struct source){a->v, a->v_batch, a->v_token, a->v_head, g->kv_heads});
}

void draft_cpu_pool_blocks(struct draft_cpu_job *job)
{
    draft_cpu_parallel(job->pool, (uint64_t)job->g->batch * job->g->video_blocks, pool_block, job);
}
