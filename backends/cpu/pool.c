/* SPDX-License-Identifier: MIT */
#include "cpu.h"

/* Mean of n rows of one head. */
static void mean(const struct draft_cpu_job *job, const void *const *rows, uint32_t n, float *out)
{
    float values[DRAFT_MAX_DIM];
    uint32_t dim = job->g->dim;
    for (uint32_t d = 0; d < dim; d++)
        out[d] = 0;
    for (uint32_t i = 0; i < n; i++) {
        job->ops->load(job->g->type, rows + i, 1, dim, dim, values);
        for (uint32_t d = 0; d < dim; d++)
            out[d] += values[d];
    }
    for (uint32_t d = 0; d < dim; d++)
        out[d] /= (float)n;
}

/* One tensor's means of one block: means is f32 [batch, heads, S, dim]. */
static void pool_tensor(const struct draft_cpu_job *job, draft_address data, uint32_t batch_stride,
                        uint32_t token_stride, uint32_t head_stride, uint32_t heads,
                        uint64_t sample, uint32_t block, const uint32_t *tokens, uint32_t n,
                        uint64_t means)
{
    const struct draft_geometry *g = job->g;
    for (uint64_t h = 0; h < heads; h++) {
        const void *rows[DRAFT_BLOCK];
        for (uint32_t i = 0; i < n; i++)
            rows[i] = draft_cpu_at(data, sample * batch_stride + h * head_stride +
                                             (uint64_t)tokens[i] * token_stride);
        uint64_t row = (sample * heads + h) * g->video_blocks + block;
        mean(job, rows, n, (float *)(job->workspace + means) + row * g->dim);
    }
}

static void pool_block(void *argument, uint64_t item, uint32_t slot)
{
    (void)slot;
    const struct draft_cpu_job *job = argument;
    const struct draft_geometry *g = job->g;
    const struct draft_args *a = job->args;
    uint64_t sample = item / g->video_blocks;
    uint32_t block = (uint32_t)(item % g->video_blocks);
    uint32_t tokens[DRAFT_BLOCK];
    uint32_t n = draft_block_tokens(g, g->prefix_blocks + block, NULL, tokens);
    pool_tensor(job, a->q, a->q_batch, a->q_token, a->q_head, g->heads, sample, block, tokens, n,
                g->pooled_q);
    pool_tensor(job, a->k, a->k_batch, a->k_token, a->k_head, g->kv_heads, sample, block, tokens, n,
                g->pooled_k);
    pool_tensor(job, a->v, a->v_batch, a->v_token, a->v_head, g->kv_heads, sample, block, tokens, n,
                g->pooled_v);
}

void draft_cpu_pool_blocks(struct draft_cpu_job *job)
{
    draft_cpu_parallel(job->pool, (uint64_t)job->g->batch * job->g->video_blocks, pool_block, job);
}
