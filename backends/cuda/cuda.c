/* SPDX-License-Identifier: MIT */
#include <string.h>

#include "device.h"

struct cuda_context {
    struct cuda_device device;
    struct cuda_modules modules;
    struct cuda_memory memory;
};

struct cuda_steps {
    uint32_t count;
    struct cuda_step steps[CUDA_MAX_PASSES];
};

struct cuda_plan {
    struct cuda_steps stages[DRAFT_STAGES];
    struct cuda_steps fallback; /* of attend, where tensor maps cannot be made; or none */
};

extern const struct draft_backend draft_backend_cuda;

/* ---- Device ---------------------------------------------------------------------------------- */

static draft_status devices(const struct draft_log *log, struct draft_device_info *out,
                            size_t capacity, size_t *count)
{
    struct cuda_driver driver;
    draft_status status = draft_cuda_driver_open(log, &driver);
    if (status) /* no CUDA is no failure */
        return status == DRAFT_ERROR_NO_DEVICE ? DRAFT_OK : status;
    struct cuda_physical physical = {.index = 0};
    int ordinal = 0;
    while (draft_cuda_next(log, &driver, &ordinal, &physical)) {
        if (*count < capacity)
            draft_cuda_describe(&driver, &physical, &out[*count]);
        ++*count;
        physical.index++;
    }
    if (physical.index == 0)
        draft_log(log, DRAFT_LOG_INFO, "cuda: no usable device among %d", driver.devices);
    draft_cuda_driver_close(&driver);
    return DRAFT_OK;
}

static draft_status open_device(draft_context *context, const struct draft_context_params *params)
{
    struct cuda_context *cuda = draft_cuda_calloc(&context->log, 1, sizeof *cuda, "a context");
    if (!cuda)
        return DRAFT_ERROR_MEMORY;
    draft_status status =
        draft_cuda_device_open(&context->log, params->native, params->device, &cuda->device);
    if (status) {
        draft_release(cuda);
        return status;
    }
    draft_cuda_modules_open(&cuda->modules);
    draft_cuda_memory_open(&cuda->memory);
    draft_cuda_describe(&cuda->device.driver, &cuda->device.physical, &context->device);
    context->state = cuda;
    return DRAFT_OK;
}

/* Also after a failure, when the driver refuses everything: then only host memory is given back. */
static void close_device(draft_context *context)
{
    struct cuda_context *cuda = context->state;
    const struct cuda_api *api = &cuda->device.driver.api;
    bool current = !api->cuCtxPushCurrent(cuda->device.context);
    if (current && !draft_cuda_not_capturing(&cuda->device, "draft_context_destroy"))
        api->cuStreamSynchronize(cuda->device.stream);
    draft_cuda_memory_close(&cuda->device, &cuda->memory, current);
    draft_cuda_modules_close(&cuda->device, &cuda->modules, current);
    if (current)
        draft_cuda_pop(&cuda->device);
    draft_cuda_device_close(&cuda->device);
    draft_release(cuda);
}

/* ---- Memory ---------------------------------------------------------------------------------- */

static draft_status alloc_memory(draft_context *context, size_t size, draft_address *out)
{
    struct cuda_context *cuda = context->state;
    draft_status status = draft_cuda_push(&cuda->device);
    if (status)
        return status;
    status = draft_cuda_not_capturing(&cuda->device, "draft_alloc");
    if (!status)
        status = draft_cuda_alloc(&cuda->device, &cuda->memory, size, out);
    draft_cuda_pop(&cuda->device);
    return status;
}

static void free_memory(draft_context *context, draft_address address)
{
    struct cuda_context *cuda = context->state;
    if (draft_cuda_push(&cuda->device))
        return; /* goes with the context */
    draft_cuda_free(&cuda->device, &cuda->memory, address);
    draft_cuda_pop(&cuda->device);
}

static draft_status write_memory(draft_context *context, draft_address to, const void *from,
                                 size_t size)
{
    struct cuda_context *cuda = context->state;
    draft_status status = draft_cuda_push(&cuda->device);
    if (status)
        return status;
    status = draft_cuda_write(&cuda->device, &cuda->memory, to, from, size);
    draft_cuda_pop(&cuda->device);
    return status;
}

static draft_status read_memory(draft_context *context, void *to, draft_address from, size_t size)
{
    struct cuda_context *cuda = context->state;
    draft_status status = draft_cuda_push(&cuda->device);
    if (status)
        return status;
    status = draft_cuda_read(&cuda->device, &cuda->memory, to, from, size);
    draft_cuda_pop(&cuda->device);
    return status;
}

/* ---- Plan ------------------------------------------------------------------------------------ */

static const char *refuses(const draft_plan *plan, draft_stage stage, uint32_t variant)
{
    const struct cuda_context *cuda = plan->context->state;
    size_t count;
    return draft_cuda_variants(stage, &count)[variant].refuses(&cuda->device.physical.caps,
                                                               &plan->geometry);
}

/* Each module once, whole: how often passes repeat depends on the shape. */
static uint64_t fingerprint(const draft_plan *plan, draft_stage stage)
{
    const struct cuda_context *cuda = plan->context->state;
    size_t count;
    const struct cuda_variant *variants = draft_cuda_variants(stage, &count);
    struct cuda_pass passes[CUDA_MAX_PASSES];
    uint32_t used =
        variants[plan->variants[draft_stage_index(stage)]].passes(&plan->geometry, passes);
    /* CUDA's version says less than the file that the driver was loaded from. */
    const void *function = (const void *)(uintptr_t)cuda->device.driver.api.cuInit;
    uint64_t hash = draft_library_hash(function, DRAFT_HASH);
    for (uint32_t i = 0; i < used; i++) {
        enum cuda_module module = passes[i].module;
        uint32_t first = 0;
        while (passes[first].module != module)
            first++;
        if (first == i)
            hash = draft_hash(hash, draft_cuda_image(module), draft_cuda_image_size(module));
    }
    return hash;
}

static bool has_queue(const draft_context *context)
{
    (void)context;
    return true;
}

static draft_status make_step(const struct draft_plan *plan, draft_stage stage,
                              const struct cuda_pass *pass, struct cuda_step *out)
{
    struct cuda_context *cuda = plan->context->state;
    if (pass->blocks > INT32_MAX) {
        draft_log(&plan->context->log, DRAFT_LOG_ERROR,
                  "cuda %s: the shape takes more than 2^31 - 1 thread blocks",
                  draft_stage_name(stage));
        return DRAFT_ERROR_UNSUPPORTED;
    }
    uint32_t most = cuda->device.physical.caps.multiprocessors;
    out->blocks = pass->persistent && pass->blocks > most ? most : (uint32_t)pass->blocks;
    return draft_cuda_modules_step(&cuda->device, &cuda->modules, pass, out);
}

static draft_status make_steps(struct draft_plan *plan, draft_stage stage,
                               const struct cuda_variant *variant, struct cuda_steps *out)
{
    const struct draft_geometry *g = &plan->geometry;
    struct cuda_pass passes[CUDA_MAX_PASSES];
    out->count = variant->passes(g, passes);
    for (uint32_t i = 0; i < out->count; i++) {
        draft_status status = make_step(plan, stage, &passes[i], &out->steps[i]);
        if (status)
            return status;
    }
    /* Stages run one after the other, so that they share their scratch. */
    uint64_t scratch = variant->scratch ? variant->scratch(g) : 0;
    if (scratch > plan->scratch_size)
        plan->scratch_size = scratch;
    return DRAFT_OK;
}

static const struct cuda_variant *find_variant(draft_stage stage, const char *name)
{
    size_t count;
    const struct cuda_variant *variants = draft_cuda_variants(stage, &count);
    while (strcmp(variants->name, name) != 0)
        variants++;
    return variants;
}

static draft_status make_stage(struct draft_plan *plan, struct cuda_plan *state, unsigned index)
{
    draft_stage stage = (draft_stage)(1 << index);
    size_t count;
    const struct cuda_variant *variant = &draft_cuda_variants(stage, &count)[plan->variants[index]];
    plan->making = index;
    draft_status status = make_steps(plan, stage, variant, &state->stages[index]);
    if (!status && variant->fallback)
        status = make_steps(plan, stage, find_variant(stage, variant->fallback), &state->fallback);
    return status;
}

static draft_status make_plan(draft_plan *plan)
{
    struct cuda_context *cuda = plan->context->state;
    struct cuda_plan *state = draft_cuda_calloc(&plan->context->log, 1, sizeof *state, "a plan");
    if (!state)
        return DRAFT_ERROR_MEMORY;
    plan->state = state;
    plan->scratch_size = 0;
    draft_status status = draft_cuda_push(&cuda->device);
    if (status)
        return status;
    /* First of all: to load a kernel would already break the capture. */
    status = draft_cuda_not_capturing(&cuda->device, "draft_plan_create");
    for (unsigned s = 0; s < DRAFT_STAGES && !status; s++)
        status = make_stage(plan, state, s);
    draft_cuda_pop(&cuda->device);
    return status;
}

static void drop_plan(draft_plan *plan)
{
    draft_release(plan->state);
    plan->state = NULL;
}

/* ---- Run ------------------------------------------------------------------------------------- */

/* The context stays pushed until end. Nothing here may wait, allocate or call back, as the
 * stream may be under capture. */
static draft_status begin(draft_context *context, void **queue)
{
    struct cuda_context *cuda = context->state;
    draft_status status = draft_cuda_push(&cuda->device);
    if (!status && !*queue)
        *queue = cuda->device.stream;
    return status;
}

/* The steps of a stage; maps are filled where they take any. */
static const struct cuda_steps *steps_of(const draft_plan *plan, draft_stage stage,
                                         const struct draft_args *args,
                                         struct cuda_tensor_maps *maps)
{
    const struct cuda_context *cuda = plan->context->state;
    const struct cuda_plan *state = plan->state;
    const struct cuda_steps *steps = &state->stages[draft_stage_index(stage)];
    if (!steps->steps[steps->count - 1].maps ||
        draft_cuda_maps(&cuda->device, &plan->geometry, args, maps))
        return steps;
    draft_log(&plan->context->log, DRAFT_LOG_WARN,
              "cuda attend: not sm90 for this run: no tensor map can hold the strides");
    return &state->fallback;
}

static draft_status launch(const draft_plan *plan, draft_stage stage, const struct draft_args *args,
                           void *queue)
{
    struct cuda_context *cuda = plan->context->state;
    struct cuda_tensor_maps maps;
    const struct cuda_steps *steps = steps_of(plan, stage, args, &maps);
    struct draft_args own = *args;
    void *parameters[] = {&own, &maps}; /* copied by the launch, as many as the kernel takes */
    draft_status status = DRAFT_OK;
    for (uint32_t i = 0; i < steps->count && !status; i++) {
        const struct cuda_step *s = &steps->steps[i];
        own.first = s->first;
        own.step = s->step;
        status = CUDA_CALL(&cuda->device, cuLaunchKernel, s->function, s->blocks, 1, 1, s->threads,
                           1, 1, s->shared, queue, parameters, NULL);
    }
    return status;
}

static draft_status end(draft_context *context, void *queue, bool ok)
{
    struct cuda_context *cuda = context->state;
    (void)queue, (void)ok; /* what was launched runs */
    draft_cuda_pop(&cuda->device);
    return DRAFT_OK;
}

static draft_status wait_for_work(draft_context *context)
{
    struct cuda_context *cuda = context->state;
    draft_status status = draft_cuda_push(&cuda->device);
    if (status)
        return status;
    status = draft_cuda_not_capturing(&cuda->device, "draft_wait");
    if (!status)
        status = draft_cuda_synchronise(&cuda->device);
    draft_cuda_pop(&cuda->device);
    return status;
}

const struct draft_backend draft_backend_cuda = {
    .name = "cuda",
    .adopts = true,
    .devices = devices,
    .open = open_device,
    .close = close_device,
    .alloc = alloc_memory,
    .free = free_memory,
    .write = write_memory,
    .read = read_memory,
    .variants = draft_cuda_variant_names,
    .refuses = refuses,
    .plan = make_plan,
    .unplan = drop_plan,
    .begin = begin,
    .launch = launch,
    .end = end,
    .wait = wait_for_work,
    .fingerprint = fingerprint,
    .has_queue = has_queue,
};
