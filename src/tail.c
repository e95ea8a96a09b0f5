/* SPDX-License-Identifier: MIT
 *
 * What the host does about the blocks that are left out: signs of the bias for the caller's lists,
 * and factors. */
#include <math.h>

#include "core.h"

#define REQUIRE(condition, ...) DRAFT_REQUIRE(log, DRAFT_ERROR_ARGUMENT, condition, __VA_ARGS__)

void draft_tail_mark(const struct draft_geometry *g, const uint32_t *counts, const uint16_t *lists,
                     float *bias)
{
    for (uint32_t i = 0; i < g->video_blocks; i++) {
        uint32_t block = g->prefix_blocks + i;
        const uint16_t *list = lists + (size_t)block * g->blocks;
        float *row = bias + (size_t)i * g->bias_stride;
        for (uint32_t j = 0; j < g->video_blocks; j++)
            row[j] = g->tail == DRAFT_TAIL_MEAN
                         ? logf((float)draft_block_size(g, g->prefix_blocks + j))
                         : fabsf(row[j]);
        for (uint32_t n = 0; n < counts[block]; n++) {
            uint32_t j = list[n] - g->prefix_blocks; /* wraps for prefix blocks */
            if (j < g->video_blocks)
                row[j] = -row[j];
        }
        for (uint32_t j = g->video_blocks; j < g->bias_stride; j++)
            row[j] = -INFINITY;
    }
}

draft_status draft_factors_write(const draft_plan *plan, draft_address workspace,
                                 const float *factors)
{
    if (!plan)
        return DRAFT_ERROR_ARGUMENT;
    const struct draft_log *log = &plan->context->log;
    const struct draft_geometry *g = &plan->geometry;
    REQUIRE(workspace, "workspace is 0");
    REQUIRE(g->tail == DRAFT_TAIL_FITTED, "only tail FITTED has factors");
    size_t count = (size_t)g->batch * g->heads;
    if (factors)
        return draft_write(plan->context, workspace + g->factors, factors, count * sizeof *factors);
    float *zeros = draft_calloc(count, sizeof *zeros);
    DRAFT_REQUIRE(log, DRAFT_ERROR_MEMORY, zeros, "out of host memory for %zu factors", count);
    draft_status status =
        draft_write(plan->context, workspace + g->factors, zeros, count * sizeof *zeros);
    draft_release(zeros);
    return status;
}
