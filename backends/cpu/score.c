/* SPDX-License-Identifier: MIT */
#include <math.h>
#include <string.h>

#include "cpu.h"

struct score_scratch {
    float q[DRAFT_BLOCK * DRAFT_MAX_DIM]; /* rows of means, times scale        */
    float k[DRAFT_BLOCK * DRAFT_MAX_DIM];
    float k_panels[DRAFT_BLOCK * DRAFT_MAX_DIM];
    float logits[DRAFT_BLOCK * DRAFT_BLOCK];
};

uint64_t draft_cpu_score_scratch(void)
{
    return sizeof(struct score_scratch);
}

static uint32_t least(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

static void load_means(const struct draft_cpu_job *job, uint64_t means, uint64_t first, uint32_t n,
                       float *rows)
{
    const void *from[DRAFT_BLOCK];
    for (uint32_t i = 0; i < n; i++)
        from[i] = (const float *)(job->workspace + means) + (first + i) * job->g->dim;
    job->ops->load(DRAFT_ABI_F32, from, n, job->g->dim, DRAFT_MAX_DIM, rows);
}

/* Logits of n rows with one chunk of key blocks, into the map. */
static void score_chunk(const struct draft_cpu_job *job, struct score_scratch *x, uint64_t k_first,
                        uint32_t chunk, uint32_t rows, float *map)
{
    const struct draft_geometry *g = job->g;
    uint32_t s = g->video_blocks, n = least(s - chunk, DRAFT_BLOCK);
    float full = (float)(g->tile_t * g->tile_h * g->tile_w);
    load_means(job, g->pooled_k, k_first + chunk, n, x->k);
    job->ops->pack_transposed(x->k, n, DRAFT_MAX_DIM, x->k_panels);
    job->ops->multiply(x->q, x->k_panels, draft_cpu_round_up(rows, CPU_ROWS),
                       (n + CPU_PANEL - 1) / CPU_PANEL, DRAFT_MAX_DIM, DRAFT_MAX_DIM, NULL,
                       x->logits);
    for (uint32_t j = 0; j < n; j++) {
        /* Edge tiles stand for fewer keys: ln (n_j / n_full). */
        float size = (float)draft_block_size(g, g->prefix_blocks + chunk + j);
        float bias = logf(size / full);
        for (uint32_t r = 0; r < rows; r++)
            map[(uint64_t)r * s + chunk + j] = x->logits[r * DRAFT_BLOCK + j] + bias;
    }
}

/* The map of up to DRAFT_BLOCK query blocks of one sample and head. */
static void score_rows(void *argument, uint64_t item, uint32_t slot)
{
    const struct draft_cpu_job *job = argument;
    const struct draft_geometry *g = job->g;
    struct score_scratch *x = (void *)(job->scratch + slot * job->slot_size);
    uint32_t s = g->video_blocks, chunks = (s + DRAFT_BLOCK - 1) / DRAFT_BLOCK;
    uint64_t head = item / chunks; /* sample x heads + head */
    uint64_t kv_head = head / g->heads * g->kv_heads + head % g->heads / g->group;
    uint32_t first = (uint32_t)(item % chunks) * DRAFT_BLOCK, rows = least(s - first, DRAFT_BLOCK);
    memset(x->q, 0, sizeof x->q);
    load_means(job, g->pooled_q, head * s + first, rows, x->q);
    for (uint32_t i = 0; i < rows * DRAFT_MAX_DIM; i++)
        x->q[i] *= g->scale;
    float *map = (float *)(job->workspace + g->map) + (head * s + first) * s;
    for (uint32_t chunk = 0; chunk < s; chunk += DRAFT_BLOCK)
        score_chunk(job, x, kv_head * s, chunk, rows, map);
    for (uint32_t r = 0; r < rows; r++)
        job->ops->softmax_row(map + (uint64_t)r * s, s);
}

void draft_cpu_score(struct draft_cpu_job *job)
{
    const struct draft_geometry *g = job->g;
    uint64_t chunks = (g->video_blocks + DRAFT_BLOCK - 1) / DRAFT_BLOCK;
    draft_cpu_parallel(job->pool, g->batch * (uint64_t)g->heads * chunks, score_rows, job);
}
