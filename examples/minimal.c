/* SPDX-License-Identifier: MIT
 *
 * The whole method on a small video of random numbers: open a device, plan, give memory, run, read
 * the result. As an argument the name of a backend may be given: cpu, vulkan, cuda. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <draft/draft.h>

enum { HEADS = 2, DIM = 64, SKIPPED = 77 };

/* The library never prints. Who wants to know why a call failed listens to its log. */
static void print_log(void *user, draft_log_level level, const char *text)
{
    (void)user;
    (void)level;
    fprintf(stderr, "draft: %s\n", text);
}

/* bf16, which every backend takes, is the upper half of f32. */
static uint16_t to_bf16(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return (uint16_t)(bits >> 16);
}

static float from_bf16(uint16_t value)
{
    uint32_t bits = (uint32_t)value << 16;
    float result;
    memcpy(&result, &bits, sizeof result);
    return result;
}

/* Random q, k and v, one run, the mean of the output. q, k, v and out lie one after the other. */
static draft_status attend(draft_context *context, const draft_plan *plan,
                           const struct draft_layout *layout, draft_address tensors,
                           draft_address workspace, uint16_t *values)
{
    size_t count = layout->tokens * HEADS * DIM;
    size_t size = count * sizeof *values;
    for (size_t i = 0; i < 3 * count; i++)
        values[i] = to_bf16((float)(rand() / (double)RAND_MAX - 0.5));

    /* Strides are left at zero: each tensor is packed, [tokens, heads, dim]. */
    struct draft_run_params run = {.q = {.data = tensors},
                                   .k = {.data = tensors + size},
                                   .v = {.data = tensors + 2 * size},
                                   .out = {.data = tensors + 3 * size},
                                   .workspace = workspace};
    draft_status status = draft_write(context, tensors, values, 3 * size);
    if (status == DRAFT_OK)
        status = draft_run(plan, &run); /* only enqueues; draft_read waits */
    if (status == DRAFT_OK)
        status = draft_read(context, values, run.out.data, size);
    struct draft_density density;
    if (status == DRAFT_OK)
        status = draft_density_read(plan, workspace, &density);
    if (status != DRAFT_OK)
        return status;

    double sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += from_bf16(values[i]);
    printf("%.1f %% of the pairs of video blocks kept, %.1f %% of the work; mean of out %+.5f\n",
           100 * density.video, 100 * density.work, sum / (double)count);
    return DRAFT_OK;
}

/* The caller owns all memory, here in one allocation for the tensors and one for the workspace. */
static draft_status with_plan(draft_context *context, const draft_plan *plan)
{
    struct draft_layout layout;
    draft_plan_layout(plan, &layout);
    printf("%llu tokens in %u blocks, video tiles of %u x %u x %u, workspace %llu bytes\n",
           (unsigned long long)layout.tokens, layout.blocks, layout.tile.t, layout.tile.h,
           layout.tile.w, (unsigned long long)layout.size);

    size_t size = layout.tokens * HEADS * DIM * sizeof(uint16_t);
    draft_address tensors = 0, workspace = 0;
    uint16_t *values = malloc(3 * size);
    draft_status status = values ? DRAFT_OK : DRAFT_ERROR_MEMORY;
    if (status == DRAFT_OK)
        status = draft_alloc(context, 4 * size, &tensors);
    if (status == DRAFT_OK)
        status = draft_alloc(context, layout.size, &workspace);
    if (status == DRAFT_OK)
        status = attend(context, plan, &layout, tensors, workspace, values);
    draft_free(context, workspace);
    draft_free(context, tensors);
    free(values);
    return status;
}

int main(int argc, char **argv)
{
    struct draft_context_params device = {
        .backend = argc > 1 ? argv[1] : NULL, /* NULL: the best there is */
        .log = {.message = print_log, .level = DRAFT_LOG_WARN},
    };
    struct draft_plan_params params = {
        .shape =
            {.frames = 4, .height = 24, .width = 40, .suffix = 100, .heads = HEADS, .dim = DIM},
        .type = DRAFT_BF16,
        .sparsity = 0.75,
    };
    draft_context *context = NULL;
    draft_plan *plan = NULL;
    draft_status status = draft_context_create(&device, &context);
    if (status == DRAFT_OK)
        status = draft_plan_create(context, &params, &plan);
    if (status == DRAFT_OK)
        status = with_plan(context, plan);
    draft_plan_destroy(&plan);
    draft_context_destroy(&context);
    if (status != DRAFT_OK)
        fprintf(stderr, "%s\n", draft_status_name(status));
    return status == DRAFT_ERROR_NO_DEVICE ? SKIPPED : status != DRAFT_OK;
}
