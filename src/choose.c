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
static const char *why_not(const struct draft_plan *plan, unsigned index, uint32_t variant,
                           const struct draft_choice *choice)
{
    const struct draft_backend *backend = plan->context->backend;
    draft_stage stage = (draft_stage)(1 << index);
    const char *const *names = backend->variants(stage);
    const char *why = backend->refuses(plan, stage, variant);
    if (why || (choice->only && choice->only[index]))
        return why;
    if (!allowed(choice->mask, names[variant], names))
        return "DRAFT_KERNEL leaves it out";
    return choice->ruled_out[index][variant];
}

static void tell(const struct draft_plan *plan, unsigned index, uint32_t variant, const char *why)
{
    const struct draft_backend *backend = plan->context->backend;
    draft_stage stage = (draft_stage)(1 << index);
    draft_log(&plan->context->log, DRAFT_LOG_INFO, "%s %s: not %s: %s", backend->name,
              draft_stage_name(stage), backend->variants(stage)[variant], why);
}

void draft_rule_out(const struct draft_plan *plan, struct draft_choice *choice, unsigned index,
                    const char *why)
{
    choice->ruled_out[index][plan->variants[index]] = why;
    choice->changed = true;
    tell(plan, index, plan->variants[index], why);
}

static draft_status choose(struct draft_plan *plan, unsigned index,
                           const struct draft_choice *choice)
{
    const struct draft_backend *backend = plan->context->backend;
    draft_stage stage = (draft_stage)(1 << index);
    const char *const *names = backend->variants(stage);
    const char *only = choice->only ? choice->only[index] : NULL;
    for (uint32_t i = 0; names[i]; i++) {
        if (only && strcmp(only, names[i]) != 0)
            continue;
        const char *why = why_not(plan, index, i, choice);
        if (!why) {
            plan->variants[index] = i;
            plan->kernels[index] = names[i];
            return DRAFT_OK;
        }
        if (!choice->again)
            tell(plan, index, i, why);
    }
    if (only)
        return DRAFT_ERROR_UNSUPPORTED;
    draft_log(&plan->context->log, DRAFT_LOG_ERROR, "%s %s: no kernel is left%s", backend->name,
              draft_stage_name(stage), choice->wrong[index] ? " that computes rightly" : "");
    return choice->wrong[index] ? DRAFT_ERROR_DEVICE : DRAFT_ERROR_UNSUPPORTED;
}

draft_status draft_choose(struct draft_plan *plan, const struct draft_choice *choice)
{
    draft_status status = DRAFT_OK;
    for (unsigned s = 0; s < DRAFT_STAGES && !status; s++)
        status = choose(plan, s, choice);
    return status;
}
