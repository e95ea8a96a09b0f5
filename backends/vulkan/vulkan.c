/* SPDX-License-Identifier: MIT */
#include "device.h"

struct vk_context {
    struct vk_instance instance;
    struct vk_device device;
    struct vk_queue queue;
    struct vk_memory memory;
    struct vk_cache cache;
};

struct vk_plan {
    struct {
        uint32_t count;
        struct vk_step steps[VK_MAX_PASSES];
    } stages[DRAFT_STAGES];
};

extern const struct draft_backend draft_backend_vulkan;

/* ---- Device ---------------------------------------------------------------------------------- */

static draft_status devices(const struct draft_log *log, struct draft_device_info *out,
                            size_t capacity, size_t *count)
{
    struct vk_instance instance;
    struct vk_physical *list;
    uint32_t found = 0;
    draft_status status = draft_vk_instance_open(log, &instance);
    if (status) /* no Vulkan is no failure */
        return status == DRAFT_ERROR_NO_DEVICE ? DRAFT_OK : status;
    status = draft_vk_physical_list(log, &instance, &list, &found);
    if (!status) {
        for (uint32_t i = 0; i < found && *count + i < capacity; i++)
            draft_vk_describe(&list[i], i, &out[*count + i]);
        *count += found;
        draft_release(list);
    }
    draft_vk_instance_close(&instance);
    return status;
}

/* Device number `index` of those that `devices` lists. */
static draft_status open_physical(const struct draft_log *log, struct vk_context *vulkan,
                                  uint32_t index)
{
    struct vk_physical *list;
    uint32_t count;
    draft_status status = draft_vk_physical_list(log, &vulkan->instance, &list, &count);
    if (status)
        return status;
    if (index < count) {
        status = draft_vk_device_open(log, &vulkan->instance, &list[index], &vulkan->device);
    } else {
        draft_log(log, DRAFT_LOG_ERROR, "vulkan: device %u is gone", index);
        status = DRAFT_ERROR_NO_DEVICE;
    }
    draft_release(list);
    return status;
}

static draft_status open_own(const struct draft_log *log, struct vk_context *vulkan, uint32_t index)
{
    draft_status status = draft_vk_instance_open(log, &vulkan->instance);
    if (status) {
        draft_log(log, DRAFT_LOG_ERROR, "vulkan: the driver is gone");
        return status;
    }
    status = open_physical(log, vulkan, index);
    if (status)
        draft_vk_instance_close(&vulkan->instance);
    return status;
}

static draft_status open_parts(struct vk_context *vulkan)
{
    struct vk_device *device = &vulkan->device;
    draft_status status = draft_vk_queue_open(device, &vulkan->queue);
    if (status)
        return status;
    status = draft_vk_cache_open(device, &vulkan->cache);
    if (status)
        draft_vk_queue_close(&vulkan->queue);
    else
        draft_vk_memory_open(&vulkan->memory);
    return status;
}

static draft_status open_device(draft_context *context, const struct draft_context_params *params)
{
    const struct draft_log *log = &context->log;
    struct vk_context *vulkan = draft_vk_calloc(log, 1, sizeof *vulkan, "a context");
    if (!vulkan)
        return DRAFT_ERROR_MEMORY;
    draft_status status =
        params->native ? draft_vk_adopt(log, params->native, &vulkan->instance, &vulkan->device)
                       : open_own(log, vulkan, params->device);
    if (status)
        goto no_device;
    status = open_parts(vulkan);
    if (status)
        goto no_parts;
    if (params->native)
        draft_vk_describe(&vulkan->device.physical, 0, &context->device);
    context->state = vulkan;
    return DRAFT_OK;

no_parts:
    draft_vk_device_close(&vulkan->device);
    draft_vk_instance_close(&vulkan->instance);
no_device:
    draft_release(vulkan);
    return status;
}

static void close_device(draft_context *context)
{
    struct vk_context *vulkan = context->state;
    draft_vk_queue_close(&vulkan->queue); /* first, as it waits for all work */
    draft_vk_memory_close(&vulkan->device, &vulkan->memory);
    draft_vk_cache_close(&vulkan->device, &vulkan->cache);
    draft_vk_device_close(&vulkan->device);
    draft_vk_instance_close(&vulkan->instance);
    draft_release(vulkan);
}

/* ---- Memory ---------------------------------------------------------------------------------- */

static draft_status alloc_memory(draft_context *context, size_t size, draft_address *out)
{
    struct vk_context *vulkan = context->state;
    return draft_vk_alloc(&vulkan->device, &vulkan->memory, size, out);
}

static void free_memory(draft_context *context, draft_address address)
{
    struct vk_context *vulkan = context->state;
    draft_vk_free(&vulkan->device, &vulkan->memory, address);
}

static draft_status write_memory(draft_context *context, draft_address to, const void *from,
                                 size_t size)
{
    struct vk_context *vulkan = context->state;
    return draft_vk_write(&vulkan->queue, &vulkan->memory, to, from, size);
}

static draft_status read_memory(draft_context *context, void *to, draft_address from, size_t size)
{
    struct vk_context *vulkan = context->state;
    return draft_vk_read(&vulkan->queue, &vulkan->memory, to, from, size);
}

/* ---- Plan ------------------------------------------------------------------------------------ */

static const char *refuses(const draft_plan *plan, draft_stage stage, uint32_t variant)
{
    const struct vk_context *vulkan = plan->context->state;
    size_t count;
    return draft_vk_variants(stage, &count)[variant].refuses(&vulkan->device.physical.caps,
                                                             &plan->geometry);
}

static uint32_t chosen_passes(const struct draft_plan *plan, draft_stage stage,
                              struct vk_pass passes[VK_MAX_PASSES])
{
    const struct vk_context *vulkan = plan->context->state;
    size_t count;
    const struct vk_variant *variants = draft_vk_variants(stage, &count);
    return variants[plan->variants[draft_stage_index(stage)]].passes(&vulkan->device.physical.caps,
                                                                     &plan->geometry, passes);
}

/* Each shader once: how often passes repeat depends on the shape. */
static uint64_t fingerprint(const draft_plan *plan, draft_stage stage)
{
    struct vk_pass passes[VK_MAX_PASSES];
    uint32_t count = chosen_passes(plan, stage, passes);
    uint64_t hash = DRAFT_HASH;
    for (uint32_t i = 0; i < count; i++) {
        const struct vk_shader *shader = &passes[i].shader;
        uint32_t first = 0;
        while (passes[first].shader.code != shader->code)
            first++;
        if (first < i)
            continue;
        hash = draft_hash(hash, &shader->subgroup, sizeof shader->subgroup);
        hash = draft_hash(hash, shader->code, shader->size);
    }
    return hash;
}

static bool has_queue(const draft_context *context)
{
    const struct vk_context *vulkan = context->state;
    return vulkan->device.queue;
}

static draft_status make_step(const struct draft_plan *plan, draft_stage stage,
                              const struct vk_pass *pass, struct vk_step *out)
{
    struct vk_context *vulkan = plan->context->state;
    uint64_t groups = pass->groups(&plan->geometry);
    if (groups > UINT32_MAX) {
        draft_log(&plan->context->log, DRAFT_LOG_ERROR,
                  "vulkan %s: the shape takes more than 2^32 workgroups", draft_stage_name(stage));
        return DRAFT_ERROR_UNSUPPORTED;
    }
    out->step = pass->step;
    out->groups = (uint32_t)groups;
    out->work = pass->work(&plan->geometry);
    draft_vk_meter_init(&vulkan->queue, &out->meter);
    return draft_vk_cache_pipeline(&vulkan->device, &vulkan->cache, &pass->shader, &out->pipeline);
}

static draft_status make_stage(struct draft_plan *plan, struct vk_plan *state, unsigned index)
{
    draft_stage stage = (draft_stage)(1 << index);
    size_t rows;
    const struct vk_variant *variant = &draft_vk_variants(stage, &rows)[plan->variants[index]];
    struct vk_pass passes[VK_MAX_PASSES];
    state->stages[index].count = chosen_passes(plan, stage, passes);
    plan->making = index;
    for (uint32_t i = 0; i < state->stages[index].count; i++) {
        draft_status status = make_step(plan, stage, &passes[i], &state->stages[index].steps[i]);
        if (status)
            return status;
    }
    /* Stages run one after the other, so that they share their scratch. */
    uint64_t scratch = variant->scratch ? variant->scratch(&plan->geometry) : 0;
    if (scratch > plan->scratch_size)
        plan->scratch_size = scratch;
    return DRAFT_OK;
}

static draft_status make_plan(draft_plan *plan)
{
    struct vk_context *vulkan = plan->context->state;
    draft_status status = draft_vk_alive(&vulkan->device);
    if (status)
        return status;
    struct vk_plan *state = draft_vk_calloc(&plan->context->log, 1, sizeof *state, "a plan");
    if (!state)
        return DRAFT_ERROR_MEMORY;
    plan->state = state;
    plan->scratch_size = 0;
    for (unsigned s = 0; s < DRAFT_STAGES && !status; s++)
        status = make_stage(plan, state, s);
    return status;
}

static void drop_plan(draft_plan *plan)
{
    struct vk_context *vulkan = plan->context->state;
    struct vk_plan *state = plan->state;
    if (!state)
        return;
    draft_vk_queue_forget(&vulkan->queue, state, state + 1);
    draft_release(state);
    plan->state = NULL;
}

/* ---- Run ------------------------------------------------------------------------------------- */

static draft_status begin(draft_context *context, void **queue)
{
    struct vk_context *vulkan = context->state;
    struct vk_run *run;
    draft_status status = draft_vk_run_begin(&vulkan->queue, &run);
    if (!status)
        *queue = run;
    return status;
}

static draft_status launch(const draft_plan *plan, draft_stage stage, const struct draft_args *args,
                           void *queue)
{
    struct vk_context *vulkan = plan->context->state;
    struct vk_plan *state = plan->state;
    unsigned index = draft_stage_index(stage);
    draft_status status = DRAFT_OK;
    for (uint32_t i = 0; i < state->stages[index].count && !status; i++)
        status = draft_vk_run_step(&vulkan->queue, queue, vulkan->cache.layout,
                                   &state->stages[index].steps[i], args);
    return status;
}

static draft_status end(draft_context *context, void *queue, bool ok)
{
    struct vk_context *vulkan = context->state;
    return draft_vk_run_end(&vulkan->queue, queue, ok);
}

static draft_status wait_for_work(draft_context *context)
{
    struct vk_context *vulkan = context->state;
    if (!vulkan->device.queue) {
        draft_log(&context->log, DRAFT_LOG_ERROR,
                  "vulkan: native.queue was NULL, so that the context has no queue to wait for");
        return DRAFT_ERROR_UNSUPPORTED;
    }
    return draft_vk_queue_wait(&vulkan->queue) ? DRAFT_ERROR_DEVICE : DRAFT_OK;
}

/* ---- The caller's command buffers ------------------------------------------------------------ */

static double sum_work(const struct draft_plan *plan, uint32_t stages, double *seconds)
{
    struct vk_plan *state = plan->state;
    double work = 0;
    for (unsigned s = 0; s < DRAFT_STAGES; s++)
        for (uint32_t i = 0; stages & 1u << s && i < state->stages[s].count; i++) {
            struct vk_step *step = &state->stages[s].steps[i];
            double part = step->groups * step->work;
            work += part;
            *seconds += part / atomic_load_explicit(&step->meter.rate, memory_order_relaxed);
        }
    return work;
}

static draft_status record(const draft_plan *plan, uint32_t stages, const struct draft_args *args,
                           void *commands, const struct draft_chunk *chunk)
{
    const struct vk_context *vulkan = plan->context->state;
    const struct vk_plan *state = plan->state;
    double seconds = 0, work = sum_work(plan, stages, &seconds);
    struct vk_recording recording = draft_vk_recording(commands, work, chunk);
    draft_status status = draft_vk_alive(&vulkan->device);
    for (unsigned s = 0; s < DRAFT_STAGES && !status; s++)
        for (uint32_t i = 0; stages & 1u << s && i < state->stages[s].count; i++)
            draft_vk_record_step(&vulkan->device, &recording, vulkan->cache.layout,
                                 &state->stages[s].steps[i], args);
    return status;
}

static void estimate(const draft_plan *plan, uint32_t stages, struct draft_vulkan_work *out)
{
    *out = (struct draft_vulkan_work){.chunks = 1};
    out->flops = sum_work(plan, stages, &out->seconds);
    double chunks = out->seconds / draft_vk_target + 1;
    out->chunks = chunks < UINT32_MAX ? (uint32_t)chunks : UINT32_MAX;
}

const struct draft_backend draft_backend_vulkan = {
    .name = "vulkan",
    .adopts = true,
    .devices = devices,
    .open = open_device,
    .close = close_device,
    .alloc = alloc_memory,
    .free = free_memory,
    .write = write_memory,
    .read = read_memory,
    .variants = draft_vk_variant_names,
    .refuses = refuses,
    .plan = make_plan,
    .unplan = drop_plan,
    .begin = begin,
    .launch = launch,
    .end = end,
    .wait = wait_for_work,
    .fingerprint = fingerprint,
    .has_queue = has_queue,
    .record = record,
    .requirements = draft_vk_requirements,
    .estimate = estimate,
};
