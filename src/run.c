/* SPDX-License-Identifier: MIT */
#include "core.h"

#define REQUIRE(condition, ...) DRAFT_REQUIRE(log, DRAFT_ERROR_ARGUMENT, condition, __VA_ARGS__)

/* A tensor of the run with its strides resolved: in bytes, and in units for the kernels. */
struct view {
    const char *name;
    uint64_t first, end; /* addresses                                    */
    bool packed;
    uint32_t batch, token, head;
};

/* Largest distance in tokens between two tokens of one block: kernels address a block by its first
 * token and 31-bit offsets in units. */
static uint64_t block_reach(const struct draft_geometry *g)
{
    uint64_t video =
        ((uint64_t)(g->tile_t - 1) * g->height + g->tile_h - 1) * g->width + g->tile_w - 1;
    return video > DRAFT_BLOCK ? video : DRAFT_BLOCK;
}

static draft_status check_stride(const struct draft_log *log, const char *tensor, const char *axis,
                                 uint64_t length, uint64_t stride, const struct draft_geometry *g)
{
    if (length == 1)
        return DRAFT_OK;
    uint32_t size = draft_type_size((draft_type)g->type);
    REQUIRE(stride % (DRAFT_UNIT / size) == 0,
            "%s.%s_stride is %llu elements; it must be a multiple of %d bytes", tensor, axis,
            (unsigned long long)stride, DRAFT_UNIT);
    REQUIRE(stride >= g->dim, "%s.%s_stride is %llu elements, less than dim, which is %u", tensor,
            axis, (unsigned long long)stride, g->dim);
    DRAFT_REQUIRE(log, DRAFT_ERROR_UNSUPPORTED, stride / (DRAFT_UNIT / size) <= UINT32_MAX,
                  "%s.%s_stride is %llu elements, more than 2^32 - 1 times %d bytes", tensor, axis,
                  (unsigned long long)stride, DRAFT_UNIT);
    return DRAFT_OK;
}

static draft_status check_tensor(const struct draft_log *log, const char *name,
                                 const struct draft_tensor *t, uint32_t heads,
                                 const struct draft_geometry *g, struct view *view)
{
    uint32_t size = draft_type_size((draft_type)g->type), per_unit = DRAFT_UNIT / size;
    REQUIRE(t->data, "%s.data is 0", name);
    REQUIRE(t->data % DRAFT_UNIT == 0, "%s.data is %#llx; it must be a multiple of %d", name,
            (unsigned long long)t->data, DRAFT_UNIT);
    uint64_t head = t->head_stride ? t->head_stride : g->dim;
    uint64_t token = t->token_stride ? t->token_stride : (uint64_t)heads * g->dim;
    uint64_t batch = t->batch_stride ? t->batch_stride : g->tokens * (uint64_t)heads * g->dim;
    draft_status status = check_stride(log, name, "head", heads, head, g);
    if (!status)
        status = check_stride(log, name, "token", g->tokens, token, g);
    if (!status)
        status = check_stride(log, name, "batch", g->batch, batch, g);
    if (status)
        return status;
    DRAFT_REQUIRE(
        log, DRAFT_ERROR_UNSUPPORTED,
        g->tokens == 1 || token / per_unit <= INT32_MAX / block_reach(g),
        "%s.token_stride is %llu elements: a block would span more than 2^31 times %d bytes", name,
        (unsigned long long)token, DRAFT_UNIT);
    double end =
        (double)t->data + ((g->batch - 1.0) * (double)batch + (g->tokens - 1.0) * (double)token +
                           (heads - 1.0) * (double)head + g->dim) *
                              size;
    REQUIRE(end < 0x1p63, "%s ends beyond the address space", name);
    *view = (struct view){
        .name = name,
        .first = t->data,
        .end =
            t->data +
            ((g->batch - 1) * batch + (g->tokens - 1) * token + (heads - 1) * head + g->dim) * size,
        .packed = !t->head_stride && !t->token_stride && !t->batch_stride,
        .batch = g->batch > 1 ? (uint32_t)(batch / per_unit) : 0,
        .token = g->tokens > 1 ? (uint32_t)(token / per_unit) : 0,
        .head = heads > 1 ? (uint32_t)(head / per_unit) : 0,
    };
    return DRAFT_OK;
}

/* Interleaved tensors may share a range of addresses, so only packed ones are compared as ranges. */
static draft_status check_overlap(const struct draft_log *log, const struct view *out,
                                  const struct view *in)
{
    bool overlap = out->packed && in->packed ? out->first < in->end && in->first < out->end
                                             : out->first == in->first;
    REQUIRE(!overlap, "out overlaps %s", in->name);
    return DRAFT_OK;
}

static draft_status check_addresses(const struct draft_plan *plan,
                                    const struct draft_run_params *run)
{
    const struct draft_log *log = &plan->context->log;
    REQUIRE(run->workspace, "workspace is 0");
    REQUIRE(run->workspace % plan->layout.alignment == 0,
            "workspace is %#llx; it must be a multiple of %llu", (unsigned long long)run->workspace,
            (unsigned long long)plan->layout.alignment);
    REQUIRE(run->lse % 4 == 0, "lse is %#llx; it must be a multiple of 4",
            (unsigned long long)run->lse);
    REQUIRE(run->valid % 4 == 0, "valid is %#llx; it must be a multiple of 4",
            (unsigned long long)run->valid);
    return DRAFT_OK;
}

static draft_status check_queue(const struct draft_plan *plan, const struct draft_run_params *run)
{
    const struct draft_context *context = plan->context;
    const struct draft_backend *backend = context->backend;
    const struct draft_log *log = &context->log;
    DRAFT_REQUIRE(log, DRAFT_ERROR_UNSUPPORTED, !run->queue || backend->adopts,
                  "queue must be NULL: backend \"%s\" has only the context's own queue",
                  backend->name);
    DRAFT_REQUIRE(log, DRAFT_ERROR_UNSUPPORTED, !run->queue || !backend->record || context->adopted,
                  "queue must be NULL: the context has a device of its own, of which no command "
                  "buffer can be");
    uint32_t chunks = run->chunks ? run->chunks : 1;
    REQUIRE(run->chunk < chunks, "chunk is %u; it must be below chunks, which is %u", run->chunk,
            chunks);
    DRAFT_REQUIRE(log, DRAFT_ERROR_UNSUPPORTED, chunks == 1 || (run->queue && backend->record),
                  "chunks is %u; only what is recorded into a command buffer comes in chunks",
                  chunks);
    return DRAFT_OK;
}

static draft_status check_tensors(const struct draft_plan *plan, const struct draft_run_params *run,
                                  uint32_t stages, struct draft_args *args)
{
    const struct draft_log *log = &plan->context->log;
    const struct draft_geometry *g = &plan->geometry;
    struct view q = {0}, k = {0}, v = {0}, out = {0};
    draft_status status = check_tensor(log, "q", &run->q, g->heads, g, &q);
    if (!status)
        status = check_tensor(log, "k", &run->k, g->kv_heads, g, &k);
    if (!status)
        status = check_tensor(log, "v", &run->v, g->kv_heads, g, &v);
    if (!status && stages & DRAFT_ATTEND) {
        status = check_tensor(log, "out", &run->out, g->heads, g, &out);
        for (int i = 0; !status && i < 3; i++)
            status = check_overlap(log, &out, i == 0 ? &q : i == 1 ? &k : &v);
    }
    if (status)
        return status;
    args->q = q.first, args->k = k.first, args->v = v.first, args->o = out.first;
    args->q_batch = q.batch, args->q_token = q.token, args->q_head = q.head;
    args->k_batch = k.batch, args->k_token = k.token, args->k_head = k.head;
    args->v_batch = v.batch, args->v_token = v.token, args->v_head = v.head;
    args->out_batch = out.batch, args->out_token = out.token, args->out_head = out.head;
    return DRAFT_OK;
}

static draft_status enqueue(const struct draft_plan *plan, uint32_t stages,
                            const struct draft_args *args, const struct draft_run_params *run)
{
    const struct draft_backend *backend = plan->context->backend;
    void *queue = run->queue;
    if (queue && backend->record) {
        struct draft_chunk chunk = {run->chunk, run->chunks ? run->chunks : 1};
        return backend->record(plan, stages, args, queue, &chunk);
    }
    draft_status status = backend->begin(plan->context, &queue);
    if (status)
        return status;
    for (unsigned s = 0; s < DRAFT_STAGES && !status; s++)
        if (stages & 1u << s)
            status = backend->launch(plan, (draft_stage)(1 << s), args, queue);
    draft_status ended = backend->end(plan->context, queue, !status);
    return status ? status : ended;
}

draft_status draft_run(const draft_plan *plan, const struct draft_run_params *params)
{
    if (!plan)
        return DRAFT_ERROR_ARGUMENT;
    const struct draft_log *log = &plan->context->log;
    REQUIRE(params, "params is NULL");
    uint32_t stages = params->stages ? params->stages : DRAFT_ALL_STAGES;
    REQUIRE((stages & ~(uint32_t)DRAFT_ALL_STAGES) == 0, "stages is %#x, which has unknown bits",
            stages);
    REQUIRE((params->flags & ~(uint32_t)DRAFT_RUN_KEPT_ONLY) == 0,
            "flags is %#x, which has unknown bits", params->flags);
    draft_status status = check_addresses(plan, params);
    if (!status)
        status = check_queue(plan, params);
    if (status)
        return status;
    struct draft_args args = {
        .geometry = plan->device_geometry,
        .workspace = params->workspace,
        .lse = params->lse,
        .valid = params->valid,
        .flags = params->flags & DRAFT_RUN_KEPT_ONLY ? DRAFT_ABI_KEPT_ONLY : 0,
    };
    if (stages & (DRAFT_POOL | DRAFT_ATTEND)) {
        status = check_tensors(plan, params, stages, &args);
        if (status)
            return status;
    }
    return enqueue(plan, stages, &args, params);
}
