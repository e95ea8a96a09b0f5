/* SPDX-License-Identifier: MIT
 *
 * Recording and submitting. Drivers kill a submission that takes seconds, and dense attention may,
 * so a run becomes as many submissions as its expected time asks for. What to expect is learned
 * from the time stamps of earlier submissions; only the cuts depend on it, never the results.
 *
 * All submissions go to one queue and signal one timeline, each a value higher than the one before.
 * Every pass begins with a barrier against all that was submitted before. */
#include <string.h>

#include "device.h"

/* Seconds of one submission. A tenth of what the strictest drivers allow would do; where the first
 * sparse runs of a plan are followed by dense lists, it may be ten times as long once. */
const double draft_vk_target = 0.1;

/* Of the first submission of a pass that was never measured: the guess may be far off. */
static const double first_target = 0.02;

/* ---- Speed ----------------------------------------------------------------------------------- */

/* Before anything is known: slower than most devices of its kind in use. */
static float first_rate(VkPhysicalDeviceType type)
{
    switch (type) {
    case VK_PHYSICAL_DEVICE_TYPE_DISCRETE_GPU:
        return 1e12f;
    case VK_PHYSICAL_DEVICE_TYPE_CPU:
        return 5e9f;
    default:
        return 2e11f;
    }
}

/* Compare what a finished submission took with what was expected. With the mutex held, in the order
 * of submission. */
static void learn(struct vk_queue *queue, struct vk_slot *slot)
{
    struct vk_device *vk = queue->vk;
    struct vk_meter *meter = slot->meter;
    slot->meter = NULL;
    if (!queue->queries)
        return;
    uint64_t ticks[2], mask = vk->physical.tick_mask;
    if (vk->api.vkGetQueryPoolResults(vk->handle, queue->queries, slot->query, 2, sizeof ticks,
                                      ticks, sizeof *ticks, VK_QUERY_RESULT_64_BIT) != VK_SUCCESS)
        return;
    /* It may have been started while the one before was still running. */
    uint64_t taken = (ticks[1] - ticks[0]) & mask, since = (ticks[1] - queue->last_tick) & mask;
    queue->last_tick = ticks[1];
    double seconds = (double)(taken < since ? taken : since) * vk->physical.tick;
    if (!meter)
        return;
    if (seconds > 0) {
        /* Fast to become careful, slow to become bold: a sparse row says little about the next. */
        double rate = slot->rate * slot->seconds / seconds;
        double step = atomic_load_explicit(&meter->known, memory_order_relaxed) ? 2 : 16;
        double most = step * atomic_load_explicit(&meter->rate, memory_order_relaxed);
        atomic_store_explicit(&meter->rate, (float)(rate < most ? rate : most),
                              memory_order_relaxed);
    }
    atomic_store_explicit(&meter->known, true, memory_order_relaxed);
}

/* Learn from all that was done when the timeline had reached `done`. With the mutex held. */
static void learn_all(struct vk_queue *queue, uint64_t done)
{
    for (;;) {
        struct vk_slot *first = NULL;
        for (int i = 0; i < VK_SLOTS; i++) {
            struct vk_slot *slot = &queue->slots[i];
            if (slot->pending && slot->value <= done && (!first || slot->value < first->value))
                first = slot;
        }
        if (!first)
            return;
        first->pending = false;
        learn(queue, first);
    }
}

void draft_vk_meter_init(const struct vk_queue *queue, struct vk_meter *out)
{
    atomic_init(&out->rate, first_rate(queue->vk->physical.type));
    atomic_init(&out->known, !queue->queries); /* will not be, so there is no use in waiting */
}

void draft_vk_queue_forget(struct vk_queue *queue, const void *first, const void *end)
{
    pthread_mutex_lock(&queue->mutex);
    for (int i = 0; i < VK_SLOTS; i++) {
        const char *meter = (const char *)queue->slots[i].meter;
        if (meter >= (const char *)first && meter < (const char *)end)
            queue->slots[i].meter = NULL;
    }
    pthread_mutex_unlock(&queue->mutex);
}

/* ---- Slots ----------------------------------------------------------------------------------- */

static draft_status wait_value(struct vk_queue *queue, uint64_t value)
{
    struct vk_device *vk = queue->vk;
    VkSemaphoreWaitInfo info = {
        .sType = VK_STRUCTURE_TYPE_SEMAPHORE_WAIT_INFO,
        .semaphoreCount = 1,
        .pSemaphores = &queue->timeline,
        .pValues = &value,
    };
    draft_status status = draft_vk_alive(vk);
    if (status || value == 0)
        return status;
    return VK_CALL(vk, vkWaitSemaphores, vk->handle, &info, UINT64_MAX);
}

/* The one whose work was submitted first. There always is one: a run records into one slot at a
 * time, and there are no more runs than slots. */
static struct vk_slot *oldest_slot(struct vk_queue *queue)
{
    struct vk_slot *oldest = NULL;
    for (int i = 0; i < VK_SLOTS; i++) {
        struct vk_slot *slot = &queue->slots[i];
        if (!slot->taken && (!oldest || slot->value < oldest->value))
            oldest = slot;
    }
    return oldest;
}

static void release_slot(struct vk_queue *queue, struct vk_slot *slot)
{
    pthread_mutex_lock(&queue->mutex);
    slot->taken = false;
    pthread_mutex_unlock(&queue->mutex);
}

/* Take the oldest slot, after its work is done. */
static draft_status take_slot(struct vk_queue *queue, struct vk_slot **out)
{
    struct vk_device *vk = queue->vk;
    uint64_t done;
    draft_status status =
        VK_CALL(vk, vkGetSemaphoreCounterValue, vk->handle, queue->timeline, &done);
    pthread_mutex_lock(&queue->mutex);
    struct vk_slot *slot = oldest_slot(queue);
    while (!status && slot->value > done) {
        done = slot->value;
        pthread_mutex_unlock(&queue->mutex);
        status = wait_value(queue, done);
        pthread_mutex_lock(&queue->mutex);
        slot = oldest_slot(queue); /* another thread may have taken it meanwhile */
    }
    if (!status) {
        learn_all(queue, done);
        slot->taken = true;
        *out = slot;
    }
    pthread_mutex_unlock(&queue->mutex);
    return status;
}

static draft_status start_recording(struct vk_queue *queue, struct vk_slot *slot)
{
    struct vk_device *vk = queue->vk;
    VkCommandBufferBeginInfo info = {
        .sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO,
        .flags = VK_COMMAND_BUFFER_USAGE_ONE_TIME_SUBMIT_BIT,
    };
    draft_status status = VK_CALL(vk, vkResetCommandPool, vk->handle, slot->pool, 0);
    if (!status)
        status = VK_CALL(vk, vkBeginCommandBuffer, slot->commands, &info);
    if (!status && queue->queries) {
        vk->api.vkCmdResetQueryPool(slot->commands, queue->queries, slot->query, 2);
        vk->api.vkCmdWriteTimestamp(slot->commands, VK_PIPELINE_STAGE_TOP_OF_PIPE_BIT,
                                    queue->queries, slot->query);
    }
    return status;
}

static draft_status new_slot(struct vk_queue *queue, struct vk_run *run)
{
    struct vk_slot *slot;
    draft_status status = take_slot(queue, &slot);
    if (status)
        return status;
    status = start_recording(queue, slot);
    if (status) {
        release_slot(queue, slot);
        return status;
    }
    run->slot = slot;
    run->meter = NULL;
    run->seconds = run->most = 0;
    return DRAFT_OK;
}

/* With the mutex held: order of values is order of submission. */
static draft_status submit_locked(struct vk_queue *queue, struct vk_slot *slot)
{
    struct vk_device *vk = queue->vk;
    uint64_t value = queue->submitted + 1;
    VkTimelineSemaphoreSubmitInfo timeline = {
        .sType = VK_STRUCTURE_TYPE_TIMELINE_SEMAPHORE_SUBMIT_INFO,
        .signalSemaphoreValueCount = 1,
        .pSignalSemaphoreValues = &value,
    };
    VkSubmitInfo info = {
        .sType = VK_STRUCTURE_TYPE_SUBMIT_INFO,
        .pNext = &timeline,
        .commandBufferCount = 1,
        .pCommandBuffers = &slot->commands,
        .signalSemaphoreCount = 1,
        .pSignalSemaphores = &queue->timeline,
    };
    draft_status status = VK_CALL(vk, vkQueueSubmit, vk->queue, 1, &info, VK_NULL_HANDLE);
    if (status)
        return status;
    queue->submitted = slot->value = value;
    slot->pending = true;
    return DRAFT_OK;
}

/* Submit what the run has recorded; it has no slot afterwards. */
static draft_status submit(struct vk_queue *queue, struct vk_run *run)
{
    struct vk_device *vk = queue->vk;
    struct vk_slot *slot = run->slot;
    run->slot = NULL;
    if (queue->queries)
        vk->api.vkCmdWriteTimestamp(slot->commands, VK_PIPELINE_STAGE_BOTTOM_OF_PIPE_BIT,
                                    queue->queries, slot->query + 1);
    draft_status status = draft_vk_alive(vk);
    if (!status)
        status = VK_CALL(vk, vkEndCommandBuffer, slot->commands);
    pthread_mutex_lock(&queue->mutex);
    if (!status)
        status = submit_locked(queue, slot);
    if (!status && run->most * 2 > run->seconds) {
        slot->meter = run->meter;
        slot->seconds = run->seconds;
        slot->rate = run->rate;
    }
    slot->taken = false;
    pthread_mutex_unlock(&queue->mutex);
    return status;
}

/* ---- Runs ------------------------------------------------------------------------------------ */

static struct vk_run *free_run(struct vk_queue *queue)
{
    for (int i = 0; i < VK_SLOTS; i++)
        if (!queue->runs[i].taken)
            return &queue->runs[i];
    return NULL;
}

static void release_run(struct vk_queue *queue, struct vk_run *run)
{
    pthread_mutex_lock(&queue->mutex);
    run->taken = false;
    pthread_cond_signal(&queue->freed);
    pthread_mutex_unlock(&queue->mutex);
}

draft_status draft_vk_run_begin(struct vk_queue *queue, struct vk_run **out)
{
    draft_status status = draft_vk_alive(queue->vk);
    if (status)
        return status;
    if (!queue->vk->queue) {
        draft_log(queue->vk->log, DRAFT_LOG_ERROR,
                  "vulkan: native.queue was NULL, so that the context has no queue of its own; "
                  "give draft_run a command buffer");
        return DRAFT_ERROR_UNSUPPORTED;
    }
    struct vk_run *run;
    pthread_mutex_lock(&queue->mutex);
    while (!(run = free_run(queue)))
        pthread_cond_wait(&queue->freed, &queue->mutex);
    *run = (struct vk_run){.taken = true};
    pthread_mutex_unlock(&queue->mutex);
    status = new_slot(queue, run);
    if (status)
        release_run(queue, run);
    else
        *out = run;
    return status;
}

static void barrier(struct vk_queue *queue, const struct vk_run *run, VkPipelineStageFlags stages,
                    VkAccessFlags access)
{
    VkMemoryBarrier info = {
        .sType = VK_STRUCTURE_TYPE_MEMORY_BARRIER,
        .srcAccessMask = VK_ACCESS_SHADER_WRITE_BIT | VK_ACCESS_TRANSFER_WRITE_BIT,
        .dstAccessMask = access,
    };
    queue->vk->api.vkCmdPipelineBarrier(
        run->slot->commands, VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT | VK_PIPELINE_STAGE_TRANSFER_BIT,
        stages, 0, 1, &info, 0, NULL, 0, NULL);
}

draft_status draft_vk_run_end(struct vk_queue *queue, struct vk_run *run, bool ok)
{
    draft_status status = DRAFT_OK;
    if (run->slot && ok) {
        barrier(queue, run, VK_PIPELINE_STAGE_HOST_BIT,
                VK_ACCESS_HOST_READ_BIT | VK_ACCESS_HOST_WRITE_BIT);
        status = submit(queue, run);
    } else if (run->slot) {
        release_slot(queue, run->slot);
    }
    if (!ok || status)
        (void)draft_vk_queue_wait(queue); /* parts that are under way use the caller's memory */
    release_run(queue, run);
    return status;
}

void draft_vk_run_copy(struct vk_queue *queue, struct vk_run *run, VkBuffer to, uint64_t to_offset,
                       VkBuffer from, uint64_t from_offset, uint64_t size)
{
    VkBufferCopy region = {from_offset, to_offset, size};
    barrier(queue, run, VK_PIPELINE_STAGE_TRANSFER_BIT,
            VK_ACCESS_TRANSFER_READ_BIT | VK_ACCESS_TRANSFER_WRITE_BIT);
    queue->vk->api.vkCmdCopyBuffer(run->slot->commands, from, to, 1, &region);
}

/* How many of `left` groups still go into this submission, 0: none, begin another one. Never fewer
 * than `least`: the time of a few groups says nothing about the rate of a device that does many at
 * once, and one at a time would leave most of it idle for good. */
static uint32_t groups_now(const struct vk_run *run, uint32_t left, uint32_t least, uint32_t most,
                           double seconds, double limit)
{
    if (run->seconds + left * seconds <= limit)
        return left < most ? left : most;
    if (run->seconds > limit / 2)
        return 0;
    double fit = (limit - run->seconds) / seconds;
    if (fit < least) {
        if (run->seconds > 0)
            return 0;
        fit = least;
    }
    left = fit < left ? (uint32_t)fit : left;
    return left < most ? left : most;
}

/* Submit, and go on in another slot. Where the speed of the pass is a guess, the first part tells
 * it: to wait for that is better than to cut the rest by guessing. */
static draft_status cut(struct vk_queue *queue, struct vk_run *run, const struct vk_meter *meter)
{
    draft_status status = submit(queue, run);
    if (!status && !atomic_load_explicit(&meter->known, memory_order_relaxed))
        status = draft_vk_queue_wait(queue);
    return status ? status : new_slot(queue, run);
}

static void dispatch(struct vk_queue *queue, struct vk_run *run, VkPipelineLayout layout,
                     const struct vk_step *step, const struct draft_args *args, uint32_t groups)
{
    const struct vk_api *api = &queue->vk->api;
    VkCommandBuffer commands = run->slot->commands;
    api->vkCmdBindPipeline(commands, VK_PIPELINE_BIND_POINT_COMPUTE, step->pipeline);
    api->vkCmdPushConstants(commands, layout, VK_SHADER_STAGE_COMPUTE_BIT, 0, sizeof *args, args);
    api->vkCmdDispatch(commands, groups, 1, 1);
}

draft_status draft_vk_run_step(struct vk_queue *queue, struct vk_run *run, VkPipelineLayout layout,
                               struct vk_step *step, const struct draft_args *args)
{
    struct draft_args part = *args;
    part.step = step->step;
    uint32_t least = queue->vk->physical.caps.cpu ? 64 : 16; /* enough to keep the device busy */
    barrier(queue, run, VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT,
            VK_ACCESS_SHADER_READ_BIT | VK_ACCESS_SHADER_WRITE_BIT);
    for (part.first = 0; part.first < step->groups;) {
        float rate = atomic_load_explicit(&step->meter.rate, memory_order_relaxed);
        bool known = atomic_load_explicit(&step->meter.known, memory_order_relaxed);
        double seconds = step->work / rate;
        uint32_t groups =
            groups_now(run, step->groups - part.first, least, queue->vk->physical.max_groups,
                       seconds, known ? draft_vk_target : first_target);
        if (groups == 0) { /* parts of one pass need no barrier between them */
            draft_status status = cut(queue, run, &step->meter);
            if (status)
                return status;
            continue;
        }
        dispatch(queue, run, layout, step, &part, groups);
        part.first += groups;
        run->seconds += groups * seconds;
        if (groups * seconds > run->most) {
            run->most = groups * seconds;
            run->meter = &step->meter;
            run->rate = rate;
        }
    }
    return DRAFT_OK;
}

draft_status draft_vk_queue_wait(struct vk_queue *queue)
{
    pthread_mutex_lock(&queue->mutex);
    uint64_t value = queue->submitted;
    pthread_mutex_unlock(&queue->mutex);
    return wait_value(queue, value);
}

/* ---- Open and close -------------------------------------------------------------------------- */

static draft_status open_slot(struct vk_device *vk, struct vk_slot *slot)
{
    VkCommandPoolCreateInfo pool = {
        .sType = VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO,
        .flags = VK_COMMAND_POOL_CREATE_TRANSIENT_BIT,
        .queueFamilyIndex = vk->physical.family,
    };
    draft_status status =
        VK_CALL(vk, vkCreateCommandPool, vk->handle, &pool, vk->allocator, &slot->pool);
    if (status) {
        slot->pool = VK_NULL_HANDLE;
        return status;
    }
    VkCommandBufferAllocateInfo buffer = {
        .sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO,
        .commandPool = slot->pool,
        .level = VK_COMMAND_BUFFER_LEVEL_PRIMARY,
        .commandBufferCount = 1,
    };
    return VK_CALL(vk, vkAllocateCommandBuffers, vk->handle, &buffer, &slot->commands);
}

static draft_status open_timeline(struct vk_device *vk, VkSemaphore *out)
{
    VkSemaphoreTypeCreateInfo type = {
        .sType = VK_STRUCTURE_TYPE_SEMAPHORE_TYPE_CREATE_INFO,
        .semaphoreType = VK_SEMAPHORE_TYPE_TIMELINE,
    };
    VkSemaphoreCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_SEMAPHORE_CREATE_INFO,
        .pNext = &type,
    };
    draft_status status = VK_CALL(vk, vkCreateSemaphore, vk->handle, &info, vk->allocator, out);
    if (status)
        *out = VK_NULL_HANDLE;
    return status;
}

static draft_status open_queries(struct vk_device *vk, VkQueryPool *out)
{
    VkQueryPoolCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_QUERY_POOL_CREATE_INFO,
        .queryType = VK_QUERY_TYPE_TIMESTAMP,
        .queryCount = 2 * VK_SLOTS,
    };
    if (!vk->physical.tick_mask)
        return DRAFT_OK;
    draft_status status = VK_CALL(vk, vkCreateQueryPool, vk->handle, &info, vk->allocator, out);
    if (status)
        *out = VK_NULL_HANDLE;
    return status;
}

draft_status draft_vk_queue_open(struct vk_device *vk, struct vk_queue *out)
{
    out->vk = vk;
    pthread_mutex_init(&out->mutex, NULL);
    pthread_cond_init(&out->freed, NULL);
    if (!vk->queue)
        return DRAFT_OK;
    draft_status status = open_timeline(vk, &out->timeline);
    if (!status)
        status = open_queries(vk, &out->queries);
    for (uint32_t i = 0; i < VK_SLOTS && !status; i++) {
        out->slots[i].query = 2 * i;
        status = open_slot(vk, &out->slots[i]);
    }
    if (status)
        draft_vk_queue_close(out);
    return status;
}

void draft_vk_queue_close(struct vk_queue *queue)
{
    struct vk_device *vk = queue->vk;
    if (!vk->adopted)
        vk->api.vkDeviceWaitIdle(vk->handle);
    else if (queue->timeline) /* the caller's other queues are nobody's business */
        (void)draft_vk_queue_wait(queue);
    for (int i = 0; i < VK_SLOTS; i++)
        vk->api.vkDestroyCommandPool(vk->handle, queue->slots[i].pool, vk->allocator);
    vk->api.vkDestroyQueryPool(vk->handle, queue->queries, vk->allocator);
    vk->api.vkDestroySemaphore(vk->handle, queue->timeline, vk->allocator);
    pthread_cond_destroy(&queue->freed);
    pthread_mutex_destroy(&queue->mutex);
}
