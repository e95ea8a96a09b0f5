/* SPDX-License-Identifier: MIT
 *
 * What the tables of passes share. */
#ifndef DRAFT_VULKAN_PASSES_H
#define DRAFT_VULKAN_PASSES_H

#include "kernels.h"

#define SHADER(name)                                                                               \
    extern const uint32_t draft_spirv_##name[];                                                    \
    extern const size_t draft_spirv_##name##_size;
/* clang-format off */
#define CODE(name) {draft_spirv_##name, draft_spirv_##name##_size, 0}
/* One shader for each type, in the order of DRAFT_ABI_F16 ... */
#define BY_TYPE(stage, variant) {CODE(stage##_f16##variant), CODE(stage##_bf16##variant), \
                                 CODE(stage##_f32##variant)}
#define BY_DIM(name) {CODE(name##_64), CODE(name##_128)}
/* clang-format on */

static inline uint64_t div_up(uint64_t a, uint64_t b)
{
    return (a + b - 1) / b;
}

static inline uint64_t head_count(const struct draft_geometry *g)
{
    return (uint64_t)g->batch * g->heads;
}

static inline bool has_excess(const struct draft_geometry *g)
{
    return g->scorer == DRAFT_ABI_SCORER_EXCESS;
}

/* Of all heads. */
static inline uint64_t map_rows(const struct draft_geometry *g)
{
    return head_count(g) * g->video_blocks;
}

static inline double row_work(const struct draft_geometry *g)
{
    return 64.0 * g->video_blocks;
}

/* ---- score: score.c -------------------------------------------------------------------------- */

/* See vk_variant. Those with cpu are for software drivers. */
uint32_t draft_vk_score_passes(const struct vk_caps *caps, const struct draft_geometry *g,
                               struct vk_pass *out);
uint32_t draft_vk_score_passes_cpu(const struct vk_caps *caps, const struct draft_geometry *g,
                                   struct vk_pass *out);
uint64_t draft_vk_score_scratch(const struct draft_geometry *g);
uint64_t draft_vk_score_scratch_cpu(const struct draft_geometry *g);

#endif
