/* SPDX-License-Identifier: MIT
 *
 * Which variant of a stage a plan takes: the first of the backend's table that neither the backend,
 * nor $DRAFT_KERNEL, nor its self-test rules out. */
#include <string.h>

#include "core.h"

static bool mask_holds(const char *mask, const char *name)
{
    size_t length = strlen(name);
    for (const char *at = mask; at; at = strchr(at, ',')) {
        at += *at == ',';
        if (strncmp(at, name, length) == 0 && (at[length] == ',' || at[length] == '\0'))
            return true;
    }
    return false;
}

/* No mask, or the mask holds it, or the mask holds none of the names of this table. */
static bool allowed(const char *mask, const char *name, const char *const *names)
{
    if (!mask || mask_holds(mask, name))
        return true;
    for (; *names; names++)
        if (mask_holds(mask, *names))
            return false;
    return true;
}

/* NULL where the plan may take it. */
static const char *why_not(const struct draft_plan *plan, draft_stage stage, uint32_t variant,
                           const struct draft_choice *choice)
{
    const struct draft_backend *backend = plan->context->backend;
    const char *const *names = backend->variants(stage);
    const char *why = backend->refuses(plan, stage, variant);
    if (why || (stage == DRAFT_ATTEND && choice->only))
        return why;
    if (!allowed(choice->mask, names[variant], names))
        return "DRAFT_KERNEL leaves it out";
    return stage == DRAFT_ATTEND ? choice->ruled_out[variant] : NULL;
}

static draft_status choose(struct draft_plan *plan, unsigned index,
                           const struct draft_choice *choice)
{
    const struct draft_backend *backend = plan->context->backend;
    const struct draft_log *log = &plan->context->log;
    draft_stage stage = (draft_stage)(1 << index);
    const char *const *names = backend->variants(stage);
    const char *only = stage == DRAFT_ATTEND ? choice->only : NULL;
    for (uint32_t i = 0; names[i]; i++) {
        if (only && strcmp(only, names[i]) != 0)
            continue;
        const char *why = why_not(plan, stage, i, choice);
        if (!why) {
            plan->variants[index] = i;
            plan->kernels[index] = names[i];
            return DRAFT_OK;
        }
        if (!choice->again || (stage == DRAFT_ATTEND && i + 1 == choice->again))
            draft_log(log, DRAFT_LOG_INFO, "%s %s: not %s: %s", backend->name,
                      draft_stage_name(stage), names[i], why);
    }
    if (only)
        return DRAFT_ERROR_UNSUPPORTED;
    bool wrong = stage == DRAFT_ATTEND && choice->wrong;
    draft_log(log, DRAFT_LOG_ERROR, "%s %s: no kernel is left%s", backend->name,
              draft_stage_name(stage), wrong ? " that computes rightly" : "");
    return wrong ? DRAFT_ERROR_DEVICE : DRAFT_ERROR_UNSUPPORTED;
}

draft_status draft_choose(struct draft_plan *plan, const struct draft_choice *choice)
{
    draft_status status = DRAFT_OK;
    for (unsigned s = 0; s < DRAFT_STAGES && !status; s++)
        status = choose(plan, s, choice);
    return status;
}
