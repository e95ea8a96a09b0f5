/* SPDX-License-Identifier: MIT
 *
 * Built against an installed copy of the library: header, link flags and symbols are all there. */
#include <stdio.h>

#include <draft/draft.h>

int main(void)
{
    draft_context *context = NULL;
    draft_plan *plan = NULL;
    struct draft_plan_params params = {
        .shape = {.frames = 2, .height = 9, .width = 17, .heads = 1, .dim = 64},
        .type = DRAFT_F32,
        .sparsity = 0.5};
    struct draft_context_params cpu = {.backend = "cpu"};
    if (draft_context_create(&cpu, &context) || draft_plan_create(context, &params, &plan))
        return 1;
    struct draft_layout layout;
    draft_plan_layout(plan, &layout);
    draft_address memory, workspace;
    size_t size = layout.tokens * 64 * sizeof(float);
    if (draft_alloc(context, 4 * size, &memory) || draft_alloc(context, layout.size, &workspace))
        return 1;
    struct draft_run_params run = {.q = {.data = memory},
                                   .k = {.data = memory + size},
                                   .v = {.data = memory + 2 * size},
                                   .out = {.data = memory + 3 * size},
                                   .workspace = workspace};
    draft_status status = draft_run(plan, &run);
    printf("draft %x: %s\n", draft_version(), draft_status_name(status));
    draft_free(context, workspace);
    draft_free(context, memory);
    draft_plan_destroy(&plan);
    draft_context_destroy(&context);
    return status != DRAFT_OK;
}
