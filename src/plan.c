/* SPDX-License-Identifier: MIT */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core.h"
#include "proof.h"

_Static_assert(DRAFT_ABI_F16 == DRAFT_F16 && DRAFT_ABI_BF16 == DRAFT_BF16 &&
                   DRAFT_ABI_F32 == DRAFT_F32,
               "types of kernel_abi.h");
_Static_assert(DRAFT_ABI_HEAD == DRAFT_RULE_HEAD && DRAFT_ABI_ROW == DRAFT_RULE_ROW &&
                   DRAFT_ABI_MASS == DRAFT_RULE_MASS && DRAFT_ABI_PAPER == DRAFT_RULE_PAPER,
               "rules of kernel_abi.h");
_Static_assert(DRAFT_ABI_SCORER_MEAN == DRAFT_SCORER_MEAN &&
                   DRAFT_ABI_SCORER_LSE == DRAFT_SCORER_LSE &&
                   DRAFT_ABI_SCORER_MAX == DRAFT_SCORER_MAX &&
                   DRAFT_ABI_SCORER_EXCESS == DRAFT_SCORER_EXCESS,
               "scorers of kernel_abi.h");
_Static_assert(DRAFT_ABI_TAIL_DROP == DRAFT_TAIL_DROP && DRAFT_ABI_TAIL_MEAN == DRAFT_TAIL_MEAN &&
                   DRAFT_ABI_TAIL_GAP == DRAFT_TAIL_GAP &&
                   DRAFT_ABI_TAIL_FITTED == DRAFT_TAIL_FITTED,
               "tails of kernel_abi.h");

/* ---- Checks -------------------------------------------------------------------------------- */

#define REQUIRE(condition, ...) DRAFT_REQUIRE(log, DRAFT_ERROR_ARGUMENT, condition, __VA_ARGS__)

static draft_status check_shape(const struct draft_log *log, const struct draft_shape *s)
{
    REQUIRE(s->frames && s->height && s->width,
            "shape: frames, height and width are %u, %u, %u; each must be at least 1", s->frames,
            s->height, s->width);
    REQUIRE(s->heads, "shape.heads is 0; it must be at least 1");
    REQUIRE(s->kv_heads == 0 || (s->kv_heads <= s->heads && s->heads % s->kv_heads == 0),
            "shape.kv_heads is %u; it must divide heads, which is %u", s->kv_heads, s->heads);
    REQUIRE(s->dim >= 8 && s->dim <= DRAFT_MAX_DIM && s->dim % 8 == 0,
            "shape.dim is %u; it must be a multiple of 8 from 8 to %d", s->dim, DRAFT_MAX_DIM);
    return DRAFT_OK;
}

static draft_status check_tile(const struct draft_log *log, const struct draft_plan_params *p)
{
    struct draft_tile t = p->tile;
    bool automatic = t.t == 0 && t.h == 0 && t.w == 0;
    REQUIRE(automatic || (t.t && t.h && t.w), "tile is %ux%ux%u; give all three extents or none",
            t.t, t.h, t.w);
    REQUIRE(automatic || (t.t <= DRAFT_BLOCK && t.h <= DRAFT_BLOCK && t.w <= DRAFT_BLOCK &&
                          t.t * t.h * t.w <= DRAFT_BLOCK),
            "tile is %ux%ux%u; it may hold at most %d tokens", t.t, t.h, t.w, DRAFT_BLOCK);
    REQUIRE(p->rule != DRAFT_RULE_PAPER || automatic || (t.t == 1 && t.h == 8 && t.w == 16),
            "tile is %ux%ux%u; rule PAPER has tile 1x8x16", t.t, t.h, t.w);
    return DRAFT_OK;
}

static draft_status check_sparsity(const struct draft_log *log, double sparsity, const char *name)
{
    REQUIRE(sparsity >= 0 && sparsity < 1, "%s is %g; it must be at least 0 and below 1", name,
            sparsity);
    return DRAFT_OK;
}

static draft_status check_rule(const struct draft_log *log, const struct draft_plan_params *p)
{
    REQUIRE((unsigned)p->rule <= DRAFT_RULE_PAPER,
            "rule is %d; it must be HEAD, ROW, MASS or PAPER", (int)p->rule);
    REQUIRE(p->force < DRAFT_FORCE_NEIGHBOURS << 1, "force is %#x, which has unknown bits",
            p->force);
    REQUIRE(p->rule != DRAFT_RULE_PAPER || p->force == 0, "force is %#x; rule PAPER forces nothing",
            p->force);
    if (p->rule == DRAFT_RULE_MASS) {
        REQUIRE(p->mass >= 0 && p->mass <= 1, "mass is %g; it must be above 0 and at most 1",
                p->mass);
        REQUIRE(p->sparsity == 0 && !p->head_sparsity,
                "sparsity is given; rule MASS takes mass in its place");
        return DRAFT_OK;
    }
    REQUIRE(p->mass == 0, "mass is %g; only rule MASS takes it", p->mass);
    if (!p->head_sparsity)
        return check_sparsity(log, p->sparsity, "sparsity");
    for (uint32_t h = 0; h < p->shape.heads; h++) {
        draft_status status = check_sparsity(log, p->head_sparsity[h], "an entry of head_sparsity");
        if (status)
            return status;
    }
    return DRAFT_OK;
}

/* Scorer, tail and floor. */
static draft_status check_tail(const struct draft_log *log, const struct draft_plan_params *p)
{
    REQUIRE((unsigned)p->scorer <= DRAFT_SCORER_EXCESS,
            "scorer is %d; it must be MEAN, LSE, MAX or EXCESS", (int)p->scorer);
    REQUIRE((unsigned)p->tail <= DRAFT_TAIL_FITTED,
            "tail is %d; it must be DROP, MEAN, GAP or FITTED", (int)p->tail);
    REQUIRE(p->row_floor >= 0 && p->row_floor <= 1, "row_floor is %g; it must be from 0 to 1",
            p->row_floor);
    REQUIRE(p->row_floor == 0 || p->rule == DRAFT_RULE_HEAD,
            "row_floor is %g; only rule HEAD takes it", p->row_floor);
    REQUIRE(p->rule != DRAFT_RULE_PAPER || p->scorer <= DRAFT_SCORER_MEAN,
            "scorer is %d; rule PAPER has MEAN", (int)p->scorer);
    REQUIRE(p->rule != DRAFT_RULE_PAPER || p->tail <= DRAFT_TAIL_DROP,
            "tail is %d; rule PAPER has DROP", (int)p->tail);
    return DRAFT_OK;
}

static draft_status check_params(const struct draft_log *log, const struct draft_plan_params *p)
{
    draft_status status = check_shape(log, &p->shape);
    if (status)
        return status;
    REQUIRE(p->type >= DRAFT_F16 && p->type <= DRAFT_F32, "type is %d; it must be F16, BF16 or F32",
            (int)p->type);
    REQUIRE(isfinite(p->scale), "scale is %g; it must be finite", (double)p->scale);
    status = check_tile(log, p);
    if (!status)
        status = check_rule(log, p);
    return status ? status : check_tail(log, p);
}

/* ---- Create and destroy -------------------------------------------------------------------- */

/* Geometry, budgets and tables, as the kernels read them. */
static draft_status upload_geometry(struct draft_plan *plan)
{
    const struct draft_backend *backend = plan->context->backend;
    struct draft_geometry *g = &plan->geometry;
    uint64_t size = draft_tables_size(g);
    char *block = draft_calloc(1, size);
    if (!block) {
        draft_log(&plan->context->log, DRAFT_LOG_ERROR, "out of host memory for a plan");
        return DRAFT_ERROR_MEMORY;
    }
    memcpy(block, g, sizeof *g);
    memcpy(block + sizeof *g, plan->budget, 2 * (size_t)g->heads * sizeof(uint32_t));
    draft_tables_fill(g, block);
    draft_status status = backend->alloc(plan->context, size, &plan->device_geometry);
    if (!status)
        status = backend->write(plan->context, plan->device_geometry, block, size);
    draft_release(block);
    return status;
}

/* The kernel that could not be made is ruled out, where there are others. */
static bool make_without(const struct draft_plan *plan, struct draft_choice *choice)
{
    if (plan->making == DRAFT_STAGES) /* it is no kernel that failed */
        return false;
    const char *const *names = plan->context->backend->variants((draft_stage)(1 << plan->making));
    if (!names[plan->variants[plan->making] + 1])
        return false;
    draft_rule_out(plan, choice, plan->making, "the driver cannot make it");
    return true;
}

/* Choose and make, again and again until all kernels may be kept. */
static draft_status make_kernels(struct draft_plan *plan, const char *const *only)
{
    draft_context *context = plan->context;
    struct draft_choice choice = {.mask = only ? NULL : getenv("DRAFT_KERNEL"), .only = only};
    bool tested = context->proofs && !context->trusting && !only;
    for (;; choice.again = true) {
        plan->making = DRAFT_STAGES;
        choice.changed = false;
        draft_status status = draft_choose(plan, &choice);
        if (status)
            return status;
        status = context->backend->plan(plan);
        if (!tested)
            return status;
        if (!status)
            status = draft_prove(plan, &choice);
        else if (status == DRAFT_ERROR_DEVICE && make_without(plan, &choice))
            status = DRAFT_OK;
        if (status || !choice.changed)
            return status;
        context->backend->unplan(plan);
        plan->state = NULL;
    }
}

static draft_status prepare(struct draft_plan *plan, const struct draft_plan_params *params,
                            const char *const *only)
{
    draft_context *context = plan->context;
    const struct draft_log *log = &context->log;
    draft_status status = draft_shape_geometry(log, params, &plan->geometry);
    if (status)
        return status;
    /* Once before the backend chooses, so that it sees the sizes, and again for its scratch. */
    status = draft_shape_layout(log, 0, &plan->geometry, &plan->layout);
    if (status)
        return status;
    uint32_t *budget = draft_calloc(plan->geometry.heads, 2 * sizeof *budget);
    DRAFT_REQUIRE(log, DRAFT_ERROR_MEMORY, budget, "out of host memory for %u heads",
                  plan->geometry.heads);
    plan->budget = budget;
    draft_shape_budgets(&plan->geometry, params, budget);
    status = make_kernels(plan, only);
    if (status)
        return status;
    status = draft_shape_layout(log, plan->scratch_size, &plan->geometry, &plan->layout);
    return status ? status : upload_geometry(plan);
}

draft_status draft_plan_make(draft_context *context, const struct draft_plan_params *params,
                             const char *const *only, draft_plan **out)
{
    struct draft_plan *plan = draft_calloc(1, sizeof *plan);
    DRAFT_REQUIRE(&context->log, DRAFT_ERROR_MEMORY, plan, "out of host memory for a plan");
    plan->context = context;
    draft_status status = prepare(plan, params, only);
    if (status)
        draft_plan_destroy(&plan);
    else
        *out = plan;
    return status;
}

draft_status draft_plan_create(draft_context *context, const struct draft_plan_params *params,
                               draft_plan **out)
{
    if (!context)
        return DRAFT_ERROR_ARGUMENT;
    const struct draft_log *log = &context->log;
    REQUIRE(params, "params is NULL");
    REQUIRE(out, "out is NULL");
    draft_status status = check_params(log, params);
    if (status)
        return status;
    DRAFT_REQUIRE(log, DRAFT_ERROR_UNSUPPORTED, context->device.types & 1u << params->type,
                  "type %d cannot be attended by %s", (int)params->type, context->device.name);
    struct draft_plan_params resolved = *params;
    draft_shape_defaults(&resolved);
    return draft_plan_make(context, &resolved, NULL, out);
}

void draft_plan_destroy(draft_plan **plan)
{
    if (!plan || !*plan)
        return;
    struct draft_plan *p = *plan;
    *plan = NULL;
    if (p->device_geometry)
        p->context->backend->free(p->context, p->device_geometry);
    p->context->backend->unplan(p);
    draft_release((void *)p->budget);
    draft_release(p);
}

void draft_plan_layout(const draft_plan *plan, struct draft_layout *out)
{
    *out = plan->layout;
}

const char *draft_plan_kernel(const draft_plan *plan, draft_stage stage)
{
    if (stage != DRAFT_POOL && stage != DRAFT_SCORE && stage != DRAFT_SELECT &&
        stage != DRAFT_ATTEND)
        return NULL;
    return plan->kernels[draft_stage_index(stage)];
}
