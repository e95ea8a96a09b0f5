/* SPDX-License-Identifier: MIT
 *
 * A driver that computes wrongly: the program `draft` is linked once more with this around
 * draft_run. $DRAFT_PLANT names a stage and a kernel, "attend avx2": where that kernel runs, one
 * number of its result is changed afterwards; "fail avx2": attend by that kernel fails instead, "crash avx2":
 * it crashes. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend.h"

draft_status __real_draft_run(const draft_plan *plan, const struct draft_run_params *params);
draft_status __wrap_draft_run(const draft_plan *plan, const struct draft_run_params *params);

/* Where the result of a stage has its first number: 0 for a stage that does not exist. */
static draft_address result_of(const draft_plan *plan, const struct draft_run_params *params,
                               draft_stage stage)
{
    switch (stage) {
    case DRAFT_POOL:
        return params->workspace + plan->layout.pooled_k;
    case DRAFT_SCORE:
        return params->workspace + plan->layout.map;
    case DRAFT_SELECT:
        return params->workspace + plan->layout.counts;
    case DRAFT_ATTEND:
        return params->out.data;
    }
    return 0;
}

static draft_status change(const draft_plan *plan, draft_address at)
{
    unsigned char bytes[4];
    draft_status status = draft_wait(plan->context);
    if (!status)
        status = draft_read(plan->context, bytes, at, sizeof bytes);
    bytes[1] ^= 0x7c; /* the exponent of f16, mantissa bits of the others */
    bytes[3] ^= 1;
    return status ? status : draft_write(plan->context, at, bytes, sizeof bytes);
}

draft_status __wrap_draft_run(const draft_plan *plan, const struct draft_run_params *params)
{
    const char *planted = getenv("DRAFT_PLANT");
    draft_status status = DRAFT_OK;
    const char *attend = draft_plan_kernel(plan, DRAFT_ATTEND);
    char name[64];
    snprintf(name, sizeof name, "fail %s", attend);
    if (planted && params->stages == DRAFT_ATTEND && strcmp(planted, name) == 0)
        return DRAFT_ERROR_DEVICE;
    snprintf(name, sizeof name, "crash %s", attend);
    if (planted && params->stages == DRAFT_ATTEND && strcmp(planted, name) == 0)
        abort();
    status = __real_draft_run(plan, params);
    for (unsigned s = 0; s < DRAFT_STAGES && planted && !status; s++) {
        draft_stage stage = (draft_stage)(1u << s);
        snprintf(name, sizeof name, "%s %s", draft_stage_name(stage),
                 draft_plan_kernel(plan, stage));
        if (params->stages == (uint32_t)stage && strcmp(planted, name) == 0)
            status = change(plan, result_of(plan, params, stage));
    }
    return status;
}
