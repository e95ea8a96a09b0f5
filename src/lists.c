/* SPDX-License-Identifier: MIT
 *
 * Lists from and to the host: the caller's own, and the report of what lists keep. */
#include <string.h>

#include "core.h"

void draft_order_rows(const uint32_t *counts, uint32_t blocks, uint32_t *starts, uint16_t *order)
{
    /* Counting sort. starts[c]: rows with more than c entries = where those with c begin. */
    memset(starts, 0, (blocks + 1) * sizeof *starts);
    for (uint32_t i = 0; i < blocks; i++)
        starts[counts[i]]++;
    uint32_t before = 0;
    for (uint32_t c = blocks + 1; c-- > 0;) {
        uint32_t rows = starts[c];
        starts[c] = before;
        before += rows;
    }
    for (uint32_t i = 0; i < blocks; i++)
        order[starts[counts[i]]++] = (uint16_t)i;
}

#define REQUIRE(condition, ...) DRAFT_REQUIRE(log, DRAFT_ERROR_ARGUMENT, condition, __VA_ARGS__)

static draft_status check_lists(const struct draft_plan *plan, const uint32_t *counts,
                                const uint16_t *lists)
{
    const struct draft_log *log = &plan->context->log;
    uint32_t blocks = plan->geometry.blocks;
    size_t rows = (size_t)plan->geometry.batch * plan->geometry.heads * blocks;
    for (size_t row = 0; row < rows; row++) {
        const uint16_t *list = lists + row * blocks;
        unsigned long long at = row / blocks, block = row % blocks;
        REQUIRE(counts[row] <= blocks, "head %llu, query block %llu: count %u, there are %u blocks",
                at, block, counts[row], blocks);
        for (uint32_t i = 0; i < counts[row]; i++) {
            REQUIRE(list[i] < blocks, "head %llu, query block %llu: key block %u, there are %u", at,
                    block, list[i], blocks);
            REQUIRE(i == 0 || list[i - 1] < list[i],
                    "head %llu, query block %llu: key block %u after %u; lists ascend", at, block,
                    list[i], list[i - 1]);
        }
    }
    return DRAFT_OK;
}

/* The work order of all heads, to the device. */
static draft_status write_order(const struct draft_plan *plan, draft_address workspace,
                                const uint32_t *counts)
{
    uint32_t blocks = plan->geometry.blocks;
    size_t heads = (size_t)plan->geometry.batch * plan->geometry.heads;
    draft_status status = DRAFT_ERROR_MEMORY;
    uint32_t *starts = draft_calloc(blocks + 1, sizeof *starts);
    uint16_t *order = draft_calloc(heads * blocks, sizeof *order);
    if (starts && order) {
        for (size_t h = 0; h < heads; h++)
            draft_order_rows(counts + h * blocks, blocks, starts, order + h * blocks);
        status = draft_write(plan->context, workspace + plan->layout.order, order,
                             heads * blocks * sizeof *order);
    } else {
        draft_log(&plan->context->log, DRAFT_LOG_ERROR, "out of host memory for a work order");
    }
    draft_release(order);
    draft_release(starts);
    return status;
}

/* The signs of the bias of all heads, one head at a time; its magnitudes are those of `score`. */
static draft_status write_bias(const struct draft_plan *plan, draft_address workspace,
                               const uint32_t *counts, const uint16_t *lists)
{
    const struct draft_geometry *g = &plan->geometry;
    size_t blocks = g->blocks, bytes = (size_t)g->video_blocks * g->bias_stride * sizeof(float);
    float *bias = draft_calloc(1, bytes);
    DRAFT_REQUIRE(&plan->context->log, DRAFT_ERROR_MEMORY, bias,
                  "out of host memory for the bias of one head");
    draft_status status = DRAFT_OK;
    for (size_t h = 0; h < (size_t)g->batch * g->heads && !status; h++) {
        draft_address at = workspace + g->bias + h * bytes;
        if (g->tail != DRAFT_TAIL_MEAN)
            status = draft_read(plan->context, bias, at, bytes);
        if (status)
            break;
        draft_tail_mark(g, counts + h * blocks, lists + h * blocks * blocks, bias);
        status = draft_write(plan->context, at, bias, bytes);
    }
    draft_release(bias);
    return status;
}

draft_status draft_lists_write(const draft_plan *plan, draft_address workspace,
                               const uint32_t *counts, const uint16_t *lists)
{
    if (!plan)
        return DRAFT_ERROR_ARGUMENT;
    const struct draft_log *log = &plan->context->log;
    REQUIRE(workspace && counts && lists, "workspace, counts or lists is 0");
    draft_status status = check_lists(plan, counts, lists);
    if (status)
        return status;
    size_t blocks = plan->geometry.blocks;
    size_t rows = (size_t)plan->geometry.batch * plan->geometry.heads * blocks;
    status = write_order(plan, workspace, counts);
    if (!status)
        status = draft_write(plan->context, workspace + plan->layout.counts, counts,
                             rows * sizeof *counts);
    if (!status)
        status = draft_write(plan->context, workspace + plan->layout.lists, lists,
                             rows * blocks * sizeof *lists);
    if (!status && plan->geometry.tail != DRAFT_TAIL_DROP)
        status = write_bias(plan, workspace, counts, lists);
    return status;
}

/* ---- Density ------------------------------------------------------------------------------- */

static bool is_video(const struct draft_geometry *g, uint32_t block)
{
    return block >= g->prefix_blocks && block < g->prefix_blocks + g->video_blocks;
}

/* Add one head's lists to the report; sizes: tokens of each block. token_pairs: kept so far. */
static draft_status add_head(const struct draft_plan *plan, const uint32_t *sizes,
                             const uint32_t *counts, const uint16_t *lists,
                             struct draft_density *density, double *token_pairs)
{
    const struct draft_geometry *g = &plan->geometry;
    for (uint32_t i = 0; i < g->blocks; i++) {
        DRAFT_REQUIRE(&plan->context->log, DRAFT_ERROR_ARGUMENT, counts[i] <= g->blocks,
                      "the workspace holds no lists: count %u of %u blocks", counts[i], g->blocks);
        uint64_t keys = 0;
        for (uint32_t n = 0; n < counts[i]; n++) {
            uint32_t j = lists[(size_t)i * g->blocks + n];
            DRAFT_REQUIRE(&plan->context->log, DRAFT_ERROR_ARGUMENT, j < g->blocks,
                          "the workspace holds no lists: key block %u of %u", j, g->blocks);
            keys += sizes[j];
            density->kept_pairs += is_video(g, i) && is_video(g, j);
        }
        density->empty_rows += counts[i] == 0;
        *token_pairs += (double)keys * sizes[i];
    }
    return DRAFT_OK;
}

/* One head at a time, so that host memory stays small whatever the number of heads. */
static draft_status add_heads(const struct draft_plan *plan, draft_address workspace,
                              uint32_t *sizes, uint32_t *counts, uint16_t *lists,
                              struct draft_density *density, double *token_pairs)
{
    const struct draft_geometry *g = &plan->geometry;
    uint64_t count_bytes = g->blocks * sizeof *counts;
    uint64_t list_bytes = (uint64_t)g->blocks * g->blocks * sizeof *lists;
    for (uint32_t i = 0; i < g->blocks; i++)
        sizes[i] = draft_block_size(g, i);
    for (uint64_t h = 0; h < (uint64_t)g->batch * g->heads; h++) {
        draft_status status =
            draft_read(plan->context, counts, workspace + g->counts + h * count_bytes, count_bytes);
        if (!status)
            status =
                draft_read(plan->context, lists, workspace + g->lists + h * list_bytes, list_bytes);
        if (!status)
            status = add_head(plan, sizes, counts, lists, density, token_pairs);
        if (status)
            return status;
    }
    return DRAFT_OK;
}

draft_status draft_density_read(const draft_plan *plan, draft_address workspace,
                                struct draft_density *out)
{
    if (!plan)
        return DRAFT_ERROR_ARGUMENT;
    const struct draft_log *log = &plan->context->log;
    REQUIRE(workspace && out, "workspace or out is 0");
    const struct draft_geometry *g = &plan->geometry;
    draft_status status = DRAFT_ERROR_MEMORY;
    uint32_t *sizes = draft_calloc(g->blocks, sizeof *sizes);
    uint32_t *counts = draft_calloc(g->blocks, sizeof *counts);
    uint16_t *lists = draft_calloc((size_t)g->blocks * g->blocks, sizeof *lists);
    struct draft_density density = {0};
    double token_pairs = 0;
    if (sizes && counts && lists)
        status = add_heads(plan, workspace, sizes, counts, lists, &density, &token_pairs);
    else
        draft_log(log, DRAFT_LOG_ERROR, "out of host memory for the lists of one head");
    draft_release(lists);
    draft_release(counts);
    draft_release(sizes);
    if (status)
        return status;
    double heads = (double)g->batch * g->heads, s = g->video_blocks, tokens = g->tokens;
    density.video = (double)density.kept_pairs / (heads * s * s);
    density.work = token_pairs / (heads * tokens * tokens);
    double pooled = g->tail == DRAFT_TAIL_DROP ? 0 : heads * (tokens - g->prefix - g->suffix) * s;
    density.tail = pooled / (heads * tokens * tokens);
    density.flops = 4.0 * g->dim * (token_pairs + pooled);
    *out = density;
    return DRAFT_OK;
}
