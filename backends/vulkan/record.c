/* SPDX-License-Identifier: MIT
 *
 * Recording into a command buffer of the caller. Nothing here depends on what was measured: all
 * parts of a run must agree about where they begin and end, whenever they are recorded. */
#include <math.h>

#include "device.h"

struct vk_recording draft_vk_recording(VkCommandBuffer commands, double work,
                                       const struct draft_chunk *chunk)
{
    bool last = chunk->index + 1 == chunk->count;
    return (struct vk_recording){
        .commands = commands,
        .first = work * chunk->index / chunk->count,
        .end = last ? INFINITY : work * (chunk->index + 1) / chunk->count,
    };
}

/* How many groups of the step begin before `limit`. The end of one part and the beginning of the
 * next come from the same numbers, so that no group is lost or done twice. */
static uint32_t groups_before(const struct vk_recording *recording, const struct vk_step *step,
                              double limit)
{
    double groups = ceil((limit - recording->at) / step->work);
    if (!(groups > 0))
        return 0;
    return groups < step->groups ? (uint32_t)groups : step->groups;
}

static void record_barrier(const struct vk_device *vk, VkCommandBuffer commands)
{
    VkMemoryBarrier barrier = {
        .sType = VK_STRUCTURE_TYPE_MEMORY_BARRIER,
        .srcAccessMask = VK_ACCESS_SHADER_WRITE_BIT,
        .dstAccessMask = VK_ACCESS_SHADER_READ_BIT | VK_ACCESS_SHADER_WRITE_BIT,
    };
    vk->api.vkCmdPipelineBarrier(commands, VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT,
                                 VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT, 0, 1, &barrier, 0, NULL, 0,
                                 NULL);
}

void draft_vk_record_step(const struct vk_device *vk, struct vk_recording *recording,
                          VkPipelineLayout layout, const struct vk_step *step,
                          const struct draft_args *args)
{
    const struct vk_api *api = &vk->api;
    VkCommandBuffer commands = recording->commands;
    struct draft_args part = *args;
    uint32_t end = groups_before(recording, step, recording->end);
    part.first = groups_before(recording, step, recording->first);
    part.step = step->step;
    recording->at += step->groups * step->work;
    if (part.first >= end)
        return;
    record_barrier(vk, commands);
    api->vkCmdBindPipeline(commands, VK_PIPELINE_BIND_POINT_COMPUTE, step->pipeline);
    while (part.first < end) { /* parts of one pass need no barrier between them */
        uint32_t groups = end - part.first;
        if (groups > vk->physical.max_groups)
            groups = vk->physical.max_groups;
        api->vkCmdPushConstants(commands, layout, VK_SHADER_STAGE_COMPUTE_BIT, 0, sizeof part,
                                &part);
        api->vkCmdDispatch(commands, groups, 1, 1);
        part.first += groups;
    }
}
