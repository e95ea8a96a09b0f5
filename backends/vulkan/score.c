/* SPDX-License-Identifier: MIT
 *
 * The passes of score: logits of the draft map and the bias of pooled keys, then the softmax. */
#include "passes.h"

#define SCORE_SHADERS_OF_TYPE(type)                                                                \
    SHADER(score_parts_##type)                                                                     \
    SHADER(score_parts_wide_##type)

SHADER(score)
SHADER(score_quarters)
SHADER(score_bias)
SHADER(softmax)
SHADER(softmax_parts)
SHADER(softmax_parts_cpu)
SHADER(score_parts_cpu_64)
SHADER(score_parts_cpu_128)
SCORE_SHADERS_OF_TYPE(f16)
SCORE_SHADERS_OF_TYPE(bf16)
SCORE_SHADERS_OF_TYPE(f32)
#define SCORE_SHADERS_OF_COOPMAT(shape)                                                            \
    SHADER(score_parts_coopmat_##shape##_64)                                                       \
    SHADER(score_parts_coopmat_##shape##_128)                                                      \
    SHADER(score_parts_coopmat_bf16_##shape##_64)                                                  \
    SHADER(score_parts_coopmat_bf16_##shape##_128)
SCORE_SHADERS_OF_COOPMAT(16x16x16)
SCORE_SHADERS_OF_COOPMAT(8x16x16)
SCORE_SHADERS_OF_COOPMAT(8x8x8)

enum { SCORE_ROWS = 32, SCORE_COLUMNS = 64 }; /* score.glsl: TILE_ROWS, TILE_COLUMNS */

static uint64_t score_tiles(const struct draft_geometry *g, uint64_t columns)
{
    return head_count(g) * div_up(g->video_blocks, SCORE_ROWS) * div_up(columns, SCORE_COLUMNS);
}

static uint64_t score_groups(const struct draft_geometry *g)
{
    return score_tiles(g, g->video_blocks);
}

static uint64_t quarters_groups(const struct draft_geometry *g)
{
    uint32_t columns = g->tail == DRAFT_ABI_TAIL_GAP ? g->bias_stride : g->video_blocks;
    return score_tiles(g, DRAFT_QUARTERS * (uint64_t)columns);
}

static uint64_t bias_groups(const struct draft_geometry *g)
{
    return score_tiles(g, g->bias_stride);
}

static double score_work(const struct draft_geometry *g)
{
    return 8.0 * SCORE_ROWS * SCORE_COLUMNS * g->dim;
}

/* Scorer EXCESS keeps x_bj in scratch, 4 x S x S numbers for each head of a portion. */
static uint64_t excess_bytes(const struct draft_geometry *g)
{
    return (uint64_t)g->video_blocks * g->video_blocks * DRAFT_QUARTERS * sizeof(float);
}

static uint64_t portion_heads(const struct draft_geometry *g)
{
    return draft_portion_heads(g, excess_bytes(g));
}

/* x_rows.glsl: WIDTH, and how many rows of it a head has. */
static uint32_t wide_width(const struct draft_geometry *g)
{
    return g->dim > 64 ? 128 : 64;
}

static uint64_t wide_rows(const struct draft_geometry *g)
{
    return (uint64_t)(DRAFT_QUARTERS + DRAFT_PARTS) * g->video_blocks;
}

uint64_t draft_vk_score_scratch(const struct draft_geometry *g)
{
    return has_excess(g) ? portion_heads(g) * excess_bytes(g) : 0;
}

uint64_t draft_vk_score_scratch_cpu(const struct draft_geometry *g)
{
    uint64_t wide = portion_heads(g) * wide_rows(g) * wide_width(g) * sizeof(float);
    return has_excess(g) ? draft_vk_score_scratch(g) + wide : 0;
}

enum { PARTS_Q_BLOCKS = 16, PARTS_K_BLOCKS = 8 };          /* score_parts.comp     */
enum { PARTS_CPU_Q_BLOCKS = 32, PARTS_CPU_K_BLOCKS = 64 }; /* score_parts_cpu.comp */

static uint64_t parts_groups(const struct draft_geometry *g)
{
    return portion_heads(g) * div_up(g->video_blocks, PARTS_Q_BLOCKS) *
           div_up(g->video_blocks, PARTS_K_BLOCKS);
}

static uint64_t parts_cpu_groups(const struct draft_geometry *g)
{
    return portion_heads(g) * div_up(g->video_blocks, PARTS_CPU_Q_BLOCKS) *
           div_up(g->video_blocks, PARTS_CPU_K_BLOCKS);
}

static double parts_work_of(const struct draft_geometry *g, uint32_t pairs)
{
    return 2.0 * DRAFT_QUARTERS * DRAFT_PARTS * pairs * g->dim;
}

static double parts_work(const struct draft_geometry *g)
{
    return parts_work_of(g, PARTS_Q_BLOCKS * PARTS_K_BLOCKS);
}

static double parts_cpu_work(const struct draft_geometry *g)
{
    return parts_work_of(g, PARTS_CPU_Q_BLOCKS * PARTS_CPU_K_BLOCKS);
}

enum { WIDE_CHUNKS = 1024, WIDE_CHUNK = 8 }; /* score_parts_wide.comp */

static uint64_t wide_groups(const struct draft_geometry *g)
{
    return portion_heads(g) * div_up(wide_rows(g) * wide_width(g) / WIDE_CHUNK, WIDE_CHUNKS);
}

static double wide_work(const struct draft_geometry *g)
{
    (void)g;
    return 8.0 * WIDE_CHUNKS * WIDE_CHUNK;
}

static uint64_t portion_rows(const struct draft_geometry *g)
{
    return portion_heads(g) * g->video_blocks;
}

static double quarter_rows_work(const struct draft_geometry *g)
{
    return DRAFT_QUARTERS * row_work(g);
}

enum { PORTION_PASSES = 3 };
_Static_assert(DRAFT_MOST_PORTIONS *PORTION_PASSES + 1 <= VK_MAX_PASSES, "and one for the bias");

/* For each portion the same passes; their step is its first head. */
static uint32_t portion_passes(const struct draft_geometry *g, const struct vk_pass *passes,
                               uint32_t count, struct vk_pass *out)
{
    uint32_t n = 0;
    for (uint64_t head = 0; head < head_count(g); head += portion_heads(g))
        for (uint32_t i = 0; i < count; i++) {
            out[n] = passes[i];
            out[n++].step = (uint32_t)head;
        }
    return n;
}

static uint32_t quarters_and_bias(const struct draft_geometry *g, bool quarters,
                                  struct vk_pass *out)
{
    bool gap = g->tail == DRAFT_ABI_TAIL_GAP;
    uint32_t n = 0;
    if (quarters || gap)
        out[n++] = (struct vk_pass){CODE(score_quarters), 0, quarters_groups, score_work};
    if (!gap && g->tail != DRAFT_ABI_TAIL_DROP)
        out[n++] = (struct vk_pass){CODE(score_bias), 0, bias_groups, score_work};
    return n;
}

/* Of all scorers but EXCESS. */
static uint32_t plain_passes(const struct draft_geometry *g, struct vk_pass *out)
{
    bool mean = g->scorer == DRAFT_ABI_SCORER_MEAN;
    uint32_t n = 0;
    if (mean)
        out[n++] = (struct vk_pass){CODE(score), 0, score_groups, score_work};
    n += quarters_and_bias(g, !mean, out + n);
    out[n++] = (struct vk_pass){CODE(softmax), 0, map_rows, row_work};
    return n;
}

uint32_t draft_vk_score_passes(const struct vk_caps *caps, const struct draft_geometry *g,
                               struct vk_pass *out)
{
    (void)caps;
    const struct vk_shader shaders[] = BY_TYPE(score_parts, );
    const struct vk_pass portion[] = {
        {shaders[g->type - 1], 0, parts_groups, parts_work},
        {CODE(softmax_parts), 0, portion_rows, quarter_rows_work},
    };
    if (!has_excess(g))
        return plain_passes(g, out);
    uint32_t n = portion_passes(g, portion, 2, out);
    return n + quarters_and_bias(g, false, out + n);
}

/* score_parts_matrix.comp: ROWS / DRAFT_QUARTERS, SPAN */
enum { PARTS_MATRIX_Q_BLOCKS = 32, PARTS_MATRIX_K_BLOCKS = 64 };

static uint64_t parts_matrix_groups(const struct draft_geometry *g)
{
    return portion_heads(g) * div_up(g->video_blocks, PARTS_MATRIX_Q_BLOCKS) *
           div_up(g->video_blocks, PARTS_MATRIX_K_BLOCKS);
}

static double parts_matrix_work(const struct draft_geometry *g)
{
    return parts_work_of(g, PARTS_MATRIX_Q_BLOCKS * PARTS_MATRIX_K_BLOCKS);
}

/* pairs: score_parts_matrix.comp, PAIRS. */
static uint32_t coopmat_passes(const struct vk_caps *caps, const struct draft_geometry *g,
                               const struct vk_shader shaders[2], uint32_t pairs,
                               struct vk_pass *out)
{
    struct vk_pass portion[] = {
        {shaders[g->dim > 64], 0, parts_matrix_groups, parts_matrix_work},
        {CODE(softmax_parts), 0, portion_rows, quarter_rows_work},
    };
    portion[0].shader.subgroup = draft_vk_coopmat_subgroup(caps, pairs);
    uint32_t n = portion_passes(g, portion, 2, out);
    return n + quarters_and_bias(g, false, out + n);
}

#define COOPMAT(shape, bit, pairs)                                                                 \
    uint32_t draft_vk_score_passes_##shape(const struct vk_caps *caps,                             \
                                           const struct draft_geometry *g, struct vk_pass *out)    \
    {                                                                                              \
        const struct vk_shader shaders[2][2] = {BY_DIM(score_parts_coopmat_##shape),               \
                                                BY_DIM(score_parts_coopmat_bf16_##shape)};         \
        return coopmat_passes(caps, g, shaders[g->type == DRAFT_ABI_BF16], pairs, out);            \
    }                                                                                              \
    const char *draft_vk_score_refuses_##shape(const struct vk_caps *caps,                         \
                                               const struct draft_geometry *g)                     \
    {                                                                                              \
        return has_excess(g) ? draft_vk_coopmat_refuses(caps, g, bit, pairs)                       \
                             : "it is for scorer EXCESS only";                                     \
    }
COOPMAT(16x16x16, VK_MATRIX_16X16X16, 32)
COOPMAT(8x16x16, VK_MATRIX_8X16X16, 16)
COOPMAT(8x8x8, VK_MATRIX_8X8X8, 8)

uint32_t draft_vk_score_passes_cpu(const struct vk_caps *caps, const struct draft_geometry *g,
                                   struct vk_pass *out)
{
    (void)caps;
    const struct vk_shader wide[] = BY_TYPE(score_parts_wide, ), parts[] = BY_DIM(score_parts_cpu);
    const struct vk_pass portion[PORTION_PASSES] = {
        {wide[g->type - 1], 0, wide_groups, wide_work},
        {parts[g->dim > 64], 0, parts_cpu_groups, parts_cpu_work},
        {CODE(softmax_parts_cpu), 0, portion_rows, quarter_rows_work},
    };
    if (!has_excess(g))
        return plain_passes(g, out);
    uint32_t n = portion_passes(g, portion, PORTION_PASSES, out);
    return n + quarters_and_bias(g, false, out + n);
}
