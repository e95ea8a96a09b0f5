/* SPDX-License-Identifier: MIT
 *
 * draft/vulkan.h: checks, then the backend, which this build may lack. */
#include "core.h"

#define REQUIRE(condition, ...) DRAFT_REQUIRE(log, DRAFT_ERROR_ARGUMENT, condition, __VA_ARGS__)

draft_status draft_vulkan_requirements(const struct draft_log *log,
                                       const struct draft_vulkan_native *native, void *features,
                                       const char **extensions, uint32_t *count)
{
    REQUIRE(native, "native is NULL");
    REQUIRE(count, "count is NULL");
    REQUIRE(extensions || *count == 0, "extensions is NULL and *count is %u", *count);
    const struct draft_backend *backend = draft_backend_find("vulkan");
    DRAFT_REQUIRE(log, DRAFT_ERROR_UNSUPPORTED, backend && backend->requirements,
                  "this build has no backend called \"vulkan\"");
    return backend->requirements(log, native, features, extensions, count);
}

draft_status draft_vulkan_estimate(const draft_plan *plan, uint32_t stages,
                                   struct draft_vulkan_work *out)
{
    if (!plan)
        return DRAFT_ERROR_ARGUMENT;
    const struct draft_log *log = &plan->context->log;
    const struct draft_backend *backend = plan->context->backend;
    REQUIRE(out, "out is NULL");
    REQUIRE((stages & ~(uint32_t)DRAFT_ALL_STAGES) == 0, "stages is %#x, which has unknown bits",
            stages);
    DRAFT_REQUIRE(log, DRAFT_ERROR_UNSUPPORTED, backend->estimate,
                  "the plan is of backend \"%s\"; only \"vulkan\" estimates work", backend->name);
    backend->estimate(plan, stages ? stages : DRAFT_ALL_STAGES, out);
    return DRAFT_OK;
}
