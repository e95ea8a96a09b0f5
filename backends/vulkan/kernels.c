/* SPDX-License-Identifier: MIT */
#include "passes.h"

#define SHADERS_OF_CPU(name)                                                                       \
    SHADER(name##_64)                                                                              \
    SHADER(name##_128)                                                                             \
    SHADER(name##_64_padded)                                                                       \
    SHADER(name##_128_padded)
#define SHADERS_OF_TYPE(type)                                                                      \
    SHADER(pool_##type)                                                                            \
    SHADER(pool_more_##type)                                                                       \
    SHADER(attend_##type##_64)                                                                     \
    SHADER(attend_##type##_128)                                                                    \
    SHADERS_OF_CPU(attend_cpu_##type)                                                              \
    SHADERS_OF_CPU(attend_cpu_wide_##type)

SHADER(attend_f16_f16_64)
SHADER(attend_f16_f16_128)
SHADER(attend_coopmat_bf16_16x16x16_64)
SHADER(attend_coopmat_bf16_16x16x16_128)
SHADER(attend_coopmat_bf16_8x16x16_64)
SHADER(attend_coopmat_bf16_8x16x16_128)
SHADER(attend_coopmat_bf16_8x8x8_64)
SHADER(attend_coopmat_bf16_8x8x8_128)
SHADER(attend_coopmat_16x16x16_64)
SHADER(attend_coopmat_16x16x16_128)
SHADER(attend_coopmat_8x16x16_64)
SHADER(attend_coopmat_8x16x16_128)
SHADER(attend_coopmat_8x8x8_64)
SHADER(attend_coopmat_8x8x8_128)
#define SHADERS_OF_COOPMAT2(shape)                                                                 \
    SHADER(attend_coopmat2_f16_##shape##_64)                                                       \
    SHADER(attend_coopmat2_f16_##shape##_128)                                                      \
    SHADER(attend_coopmat2_bf16_##shape##_64)                                                      \
    SHADER(attend_coopmat2_bf16_##shape##_128)                                                     \
    SHADER(attend_coopmat2_ext_f16_##shape##_64)                                                   \
    SHADER(attend_coopmat2_ext_f16_##shape##_128)                                                  \
    SHADER(attend_coopmat2_ext_bf16_##shape##_64)                                                  \
    SHADER(attend_coopmat2_ext_bf16_##shape##_128)
SHADERS_OF_COOPMAT2(16x16x16)
SHADERS_OF_COOPMAT2(8x16x16)
SHADERS_OF_COOPMAT2(8x8x8)
SHADER(attend_workgroup_64)
SHADER(attend_workgroup_128)
SHADER(select_floor)
SHADER(select_head)
SHADER(select_head_floors)
SHADER(select_list)
SHADER(select_list_floors)
SHADER(select_order)
SHADERS_OF_TYPE(f16)
SHADERS_OF_TYPE(bf16)
SHADERS_OF_TYPE(f32)

static const char *fits_all(const struct vk_caps *caps, const struct draft_geometry *g)
{
    (void)caps, (void)g;
    return NULL;
}

static const char *not_processor(const struct vk_caps *caps, const struct draft_geometry *g)
{
    (void)g;
    return caps->cpu ? NULL : "the device is not a processor";
}

/* ---- pool ------------------------------------------------------------------------------------ */

static uint64_t pool_groups(const struct draft_geometry *g)
{
    return g->batch * ((uint64_t)g->heads + 2 * (uint64_t)g->kv_heads) * g->video_blocks;
}

static double pool_work(const struct draft_geometry *g)
{
    return 16.0 * DRAFT_BLOCK * g->dim; /* memory counts more than the additions */
}

static uint32_t pool_passes(const struct vk_caps *caps, const struct draft_geometry *g,
                            struct vk_pass *out)
{
    (void)caps;
    const struct vk_shader means[] = BY_TYPE(pool, ), more[] = BY_TYPE(pool_more, );
    bool wants_more = g->quarters || has_excess(g) || g->tail != DRAFT_ABI_TAIL_DROP;
    out[0] = (struct vk_pass){wants_more ? more[g->type - 1] : means[g->type - 1], 0, pool_groups,
                              pool_work};
    return 1;
}

/* ---- select ---------------------------------------------------------------------------------- */

enum {
    SELECT_THREADS = 128, /* select.glsl, select_order.comp: THREADS           */
    SELECT_ROWS = 4,      /* select_head.comp: ROWS                            */
    SELECT_BYTES = 4,     /* of a key, each a histogram: select.glsl, PASSES   */
    SELECT_DIGITS = 256,
    SELECT_STATE = 4, /* select.glsl: STATE_WORDS                          */
};

static bool row_budgets(const struct draft_geometry *g)
{
    return g->rule == DRAFT_ABI_ROW || g->rule == DRAFT_ABI_MASS;
}

static uint64_t select_scratch(const struct draft_geometry *g)
{
    uint64_t words = SELECT_BYTES * (SELECT_DIGITS + SELECT_STATE) + 3 * (uint64_t)g->video_blocks;
    return row_budgets(g) ? 0 : head_count(g) * words * sizeof(uint32_t);
}

static uint64_t clear_groups(const struct draft_geometry *g)
{
    return head_count(g);
}

static uint64_t head_groups(const struct draft_geometry *g)
{
    return head_count(g) * div_up(g->video_blocks, SELECT_ROWS);
}

static double head_work(const struct draft_geometry *g)
{
    return SELECT_ROWS * row_work(g);
}

static uint64_t list_groups(const struct draft_geometry *g)
{
    return head_count(g) * g->blocks;
}

static double list_work(const struct draft_geometry *g)
{
    return 256.0 * g->blocks;
}

static uint64_t order_groups(const struct draft_geometry *g)
{
    return head_count(g) * div_up(g->blocks, SELECT_THREADS);
}

static double order_work(const struct draft_geometry *g)
{
    return 4.0 * SELECT_THREADS * g->blocks;
}

static uint32_t select_passes(const struct vk_caps *caps, const struct draft_geometry *g,
                              struct vk_pass *out)
{
    (void)caps;
    const struct vk_shader heads[] = {CODE(select_head), CODE(select_head_floors)};
    const struct vk_shader lists[] = {CODE(select_list), CODE(select_list_floors)};
    bool floors = g->force & DRAFT_FORCED_FLOOR;
    uint32_t n = 0;
    if (floors)
        out[n++] = (struct vk_pass){CODE(select_floor), 0, map_rows, list_work};
    if (!row_budgets(g)) {
        out[n++] = (struct vk_pass){heads[floors], 0, clear_groups, row_work};
        for (uint32_t step = 1; step <= SELECT_BYTES + 1; step++)
            out[n++] = (struct vk_pass){heads[floors], step, head_groups, head_work};
    }
    out[n++] = (struct vk_pass){lists[floors], row_budgets(g), list_groups, list_work};
    out[n++] = (struct vk_pass){CODE(select_order), 0, order_groups, order_work};
    return n;
}

/* ---- attend ---------------------------------------------------------------------------------- */

enum { SCALAR_ROWS = 64 }; /* attend.comp, attend_f16.comp: ROWS; others take whole blocks */

static uint64_t query_blocks(const struct draft_geometry *g)
{
    return head_count(g) * g->blocks;
}

static uint64_t scalar_groups(const struct draft_geometry *g)
{
    return query_blocks(g) * (DRAFT_BLOCK / SCALAR_ROWS);
}

/* Keys of a full list: the lists are on the device, and the caller may bring denser ones than the
 * plan. Pooled keys come on top. */
static double most_keys(const struct draft_geometry *g)
{
    bool pools = g->tail != DRAFT_ABI_TAIL_DROP;
    return (double)g->tokens + (pools ? g->video_blocks : 0);
}

static double scalar_work(const struct draft_geometry *g)
{
    return 4.0 * SCALAR_ROWS * most_keys(g) * g->dim;
}

static double cpu_work(const struct draft_geometry *g)
{
    return 4.0 * DRAFT_BLOCK * most_keys(g) * g->dim;
}

static uint32_t scalar_passes(const struct vk_caps *caps, const struct draft_geometry *g,
                              struct vk_pass *out)
{
    (void)caps;
    const struct vk_shader shaders[2][3] = {BY_TYPE(attend, _64), BY_TYPE(attend, _128)};
    out[0] = (struct vk_pass){shaders[g->dim > 64][g->type - 1], 0, scalar_groups, scalar_work};
    return 1;
}

static uint32_t f16_passes(const struct vk_caps *caps, const struct draft_geometry *g,
                           struct vk_pass *out)
{
    (void)caps;
    const struct vk_shader shaders[2] = {CODE(attend_f16_f16_64), CODE(attend_f16_f16_128)};
    out[0] = (struct vk_pass){shaders[g->dim > 64], 0, scalar_groups, scalar_work};
    return 1;
}

static const char *f16_refuses(const struct vk_caps *caps, const struct draft_geometry *g)
{
    enum { SHARED = 30720 }; /* what attend_f16.comp takes */
    if (g->type != DRAFT_ABI_F16)
        return "it is for f16 only";
    if (!caps->f16)
        return "the device does not calculate with f16";
    return caps->max_shared < SHARED ? "workgroups share less than 30 KiB" : NULL;
}

/* Of shaders for dims of 64 and 128, exact and padded for those in between: [dim > 64][type]. */
static struct vk_shader fitting(const struct draft_geometry *g, const struct vk_shader exact[2][3],
                                const struct vk_shader padded[2][3])
{
    unsigned wide = g->dim > 64, type = g->type - 1;
    return g->dim == (wide ? 128 : 64) ? exact[wide][type] : padded[wide][type];
}

static uint32_t cpu_pass(const struct draft_geometry *g, const struct vk_shader exact[2][3],
                         const struct vk_shader padded[2][3], struct vk_pass *out)
{
    out[0] = (struct vk_pass){fitting(g, exact, padded), 0, query_blocks, cpu_work};
    return 1;
}

static uint32_t cpu_passes(const struct vk_caps *caps, const struct draft_geometry *g,
                           struct vk_pass *out)
{
    (void)caps;
    const struct vk_shader exact[2][3] = {BY_TYPE(attend_cpu, _64), BY_TYPE(attend_cpu, _128)};
    const struct vk_shader padded[2][3] = {BY_TYPE(attend_cpu, _64_padded),
                                           BY_TYPE(attend_cpu, _128_padded)};
    return cpu_pass(g, exact, padded, out);
}

static uint32_t cpu_wide_passes(const struct vk_caps *caps, const struct draft_geometry *g,
                                struct vk_pass *out)
{
    (void)caps;
    const struct vk_shader exact[2][3] = {BY_TYPE(attend_cpu_wide, _64),
                                          BY_TYPE(attend_cpu_wide, _128)};
    const struct vk_shader padded[2][3] = {BY_TYPE(attend_cpu_wide, _64_padded),
                                           BY_TYPE(attend_cpu_wide, _128_padded)};
    return cpu_pass(g, exact, padded, out);
}

static const char *cpu_refuses(const struct vk_caps *caps, const struct draft_geometry *g)
{
    const char *why = not_processor(caps, g);
    return !why && caps->lane_loads ? "the driver loads for each lane by itself" : why;
}

uint32_t draft_vk_coopmat_subgroup(const struct vk_caps *caps, uint32_t least)
{
    uint32_t found = 0;
    for (uint32_t size = caps->min_subgroup; size && size <= caps->max_subgroup; size *= 2)
        if (size >= least && size <= DRAFT_BLOCK && DRAFT_BLOCK / size <= caps->max_subgroups &&
            found != 32)
            found = size;
    return found;
}

static uint32_t coopmat_pass(const struct vk_caps *caps, const struct draft_geometry *g,
                             const struct vk_shader shaders[2], uint32_t rows, struct vk_pass *out)
{
    out[0] = (struct vk_pass){shaders[g->dim > 64], 0, query_blocks, cpu_work};
    out[0].shader.subgroup = draft_vk_coopmat_subgroup(caps, rows);
    return 1;
}

const char *draft_vk_coopmat_refuses(const struct vk_caps *caps, const struct draft_geometry *g,
                                     uint32_t shape, uint32_t least)
{
    enum { SHARED = 20480 }; /* attend_matrix.comp and score_parts_matrix.comp take a little less */
    if (g->type == DRAFT_ABI_F32)
        return "it multiplies f16 and bf16 only";
    if (!((g->type == DRAFT_ABI_F16 ? caps->matrix_shapes : caps->matrix_shapes_bf16) & shape))
        return "the device has no matrices of this shape";
    if (!draft_vk_coopmat_subgroup(caps, least) &&
        (caps->subgroup_size < least || DRAFT_BLOCK % caps->subgroup_size))
        return "no size of subgroups holds the rows of a matrix and divides the workgroup";
    return caps->max_shared < SHARED ? "workgroups share less than 20 KiB" : NULL;
}

#define COOPMAT(shape, bit, rows)                                                                  \
    static uint32_t coopmat_##shape##_passes(const struct vk_caps *caps,                           \
                                             const struct draft_geometry *g, struct vk_pass *out)  \
    {                                                                                              \
        const struct vk_shader shaders[2][2] = {                                                   \
            {CODE(attend_coopmat_##shape##_64), CODE(attend_coopmat_##shape##_128)},               \
            {CODE(attend_coopmat_bf16_##shape##_64), CODE(attend_coopmat_bf16_##shape##_128)}};    \
        return coopmat_pass(caps, g, shaders[g->type == DRAFT_ABI_BF16], rows, out);               \
    }                                                                                              \
    static const char *coopmat_##shape##_refuses(const struct vk_caps *caps,                       \
                                                 const struct draft_geometry *g)                   \
    {                                                                                              \
        return draft_vk_coopmat_refuses(caps, g, bit, rows);                                       \
    }
COOPMAT(16x16x16, VK_MATRIX_16X16X16, 16)
COOPMAT(8x16x16, VK_MATRIX_8X16X16, 8)
COOPMAT(8x8x8, VK_MATRIX_8X8X8, 8)

static const char *coopmat2_refuses(const struct vk_caps *caps, const struct draft_geometry *g,
                                    uint32_t shape, uint32_t rows)
{
    if (g->type != DRAFT_ABI_F16 && g->type != DRAFT_ABI_BF16)
        return "it multiplies f16 and bf16 only";
    if (!caps->matrix2 && !caps->matrix2_ext)
        return "the device does not reduce, convert and map matrices";
    if (!((g->type == DRAFT_ABI_F16 ? caps->matrix_shapes : caps->matrix_shapes_bf16) & shape))
        return "the device has no matrices of this shape and type";
    if (!draft_vk_coopmat_subgroup(caps, rows) &&
        (caps->subgroup_size < rows || DRAFT_BLOCK % caps->subgroup_size))
        return "no size of subgroups holds the rows of a matrix and divides the workgroup";
    return NULL;
}

/* One source for two extensions: [of EXT][bf16][dim > 64]. */
#define COOPMAT2(shape, bit, rows)                                                                 \
    static uint32_t coopmat2_##shape##_passes(const struct vk_caps *caps,                          \
                                              const struct draft_geometry *g, struct vk_pass *out) \
    {                                                                                              \
        const struct vk_shader shaders[2][2][2] = {                                                \
            {BY_DIM(attend_coopmat2_f16_##shape), BY_DIM(attend_coopmat2_bf16_##shape)},           \
            {BY_DIM(attend_coopmat2_ext_f16_##shape), BY_DIM(attend_coopmat2_ext_bf16_##shape)},   \
        };                                                                                         \
        return coopmat_pass(caps, g, shaders[!caps->matrix2][g->type == DRAFT_ABI_BF16], rows,     \
                            out);                                                                  \
    }                                                                                              \
    static const char *coopmat2_##shape##_refuses(const struct vk_caps *caps,                      \
                                                  const struct draft_geometry *g)                  \
    {                                                                                              \
        return coopmat2_refuses(caps, g, bit, rows);                                               \
    }
COOPMAT2(16x16x16, VK_MATRIX_16X16X16, 16)
COOPMAT2(8x16x16, VK_MATRIX_8X16X16, 8)
COOPMAT2(8x8x8, VK_MATRIX_8X8X8, 8)

static const char *workgroup_refuses(const struct vk_caps *caps, const struct draft_geometry *g)
{
    enum { THREADS = 256, SIDE = 128 }; /* attend_workgroup.comp */
    if (g->type != DRAFT_ABI_F16)
        return "it multiplies f16 only";
    if (!caps->matrix_workgroup)
        return "the device has no matrices of workgroups";
    if (!(caps->matrix_workgroups & THREADS) || caps->matrix_side < SIDE)
        return "the device has no matrices of 128 rows for workgroups of 256";
    return caps->matrix_shared > caps->max_shared ? "they take more than workgroups share" : NULL;
}

static uint32_t workgroup_passes(const struct vk_caps *caps, const struct draft_geometry *g,
                                 struct vk_pass *out)
{
    (void)caps;
    const struct vk_shader shaders[2] = BY_DIM(attend_workgroup);
    out[0] = (struct vk_pass){shaders[g->dim > 64], 0, query_blocks, cpu_work};
    return 1;
}

/* ---- Tables ---------------------------------------------------------------------------------- */

enum { MOST_VARIANTS = 11 };

#define SCORE_COOPMAT(shape)                                                                       \
    {                                                                                              \
        "coopmat_parts_" #shape, draft_vk_score_refuses_##shape, draft_vk_score_passes_##shape,    \
            draft_vk_score_scratch                                                                 \
    }

static const struct {
    size_t count;
    struct vk_variant variants[MOST_VARIANTS];
    const char *names[MOST_VARIANTS + 1];
} tables[DRAFT_STAGES] = {
    {1, {{"scalar", fits_all, pool_passes, NULL}}, {"scalar"}},
    {5,
     {{"cpu_wide", not_processor, draft_vk_score_passes_cpu, draft_vk_score_scratch_cpu},
      SCORE_COOPMAT(16x16x16),
      SCORE_COOPMAT(8x16x16),
      SCORE_COOPMAT(8x8x8),
      {"scalar", fits_all, draft_vk_score_passes, draft_vk_score_scratch}},
     {"cpu_wide", "coopmat_parts_16x16x16", "coopmat_parts_8x16x16", "coopmat_parts_8x8x8",
      "scalar"}},
    {1, {{"scalar", fits_all, select_passes, select_scratch}}, {"scalar"}},
    {11,
     {{"cpu", cpu_refuses, cpu_passes, NULL},
      {"cpu_wide", not_processor, cpu_wide_passes, NULL},
      {"workgroup", workgroup_refuses, workgroup_passes, NULL},
      {"coopmat2_16x16x16", coopmat2_16x16x16_refuses, coopmat2_16x16x16_passes, NULL},
      {"coopmat2_8x16x16", coopmat2_8x16x16_refuses, coopmat2_8x16x16_passes, NULL},
      {"coopmat2_8x8x8", coopmat2_8x8x8_refuses, coopmat2_8x8x8_passes, NULL},
      {"coopmat_16x16x16", coopmat_16x16x16_refuses, coopmat_16x16x16_passes, NULL},
      {"coopmat_8x16x16", coopmat_8x16x16_refuses, coopmat_8x16x16_passes, NULL},
      {"coopmat_8x8x8", coopmat_8x8x8_refuses, coopmat_8x8x8_passes, NULL},
      {"f16", f16_refuses, f16_passes, NULL},
      {"scalar", fits_all, scalar_passes, NULL}},
     {"cpu", "cpu_wide", "workgroup", "coopmat2_16x16x16", "coopmat2_8x16x16", "coopmat2_8x8x8",
      "coopmat_16x16x16", "coopmat_8x16x16", "coopmat_8x8x8", "f16", "scalar"}},
};

const struct vk_variant *draft_vk_variants(draft_stage stage, size_t *count)
{
    *count = tables[draft_stage_index(stage)].count;
    return tables[draft_stage_index(stage)].variants;
}

const char *const *draft_vk_variant_names(draft_stage stage)
{
    return tables[draft_stage_index(stage)].names;
}
