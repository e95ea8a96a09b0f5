/* SPDX-License-Identifier: MIT */
#include "kernels.h"

/* ---- Images ---------------------------------------------------------------------------------- */

extern const uint32_t draft_fatbin_pool[], draft_fatbin_score[], draft_fatbin_score_parts[],
    draft_fatbin_select[], draft_fatbin_attend_sm80[];
extern const size_t draft_fatbin_pool_size, draft_fatbin_score_size, draft_fatbin_score_parts_size,
    draft_fatbin_select_size, draft_fatbin_attend_sm80_size;
#ifdef DRAFT_CUDA_SM90
extern const uint32_t draft_fatbin_score_parts_sm90[], draft_fatbin_attend_sm90[];
extern const size_t draft_fatbin_score_parts_sm90_size, draft_fatbin_attend_sm90_size;
#else /* their variants refuse */
static const uint32_t draft_fatbin_score_parts_sm90[1], draft_fatbin_attend_sm90[1];
static const size_t draft_fatbin_score_parts_sm90_size, draft_fatbin_attend_sm90_size;
#endif

const void *draft_cuda_image(enum cuda_module module)
{
    static const uint32_t *const images[CUDA_MODULES] = {
        [CUDA_MODULE_POOL] = draft_fatbin_pool,
        [CUDA_MODULE_SCORE] = draft_fatbin_score,
        [CUDA_MODULE_SCORE_PARTS] = draft_fatbin_score_parts,
        [CUDA_MODULE_SCORE_PARTS_SM90] = draft_fatbin_score_parts_sm90,
        [CUDA_MODULE_SELECT] = draft_fatbin_select,
        [CUDA_MODULE_ATTEND_SM80] = draft_fatbin_attend_sm80,
        [CUDA_MODULE_ATTEND_SM90] = draft_fatbin_attend_sm90,
    };
    return images[module];
}

size_t draft_cuda_image_size(enum cuda_module module)
{
    static const size_t *const sizes[CUDA_MODULES] = {
        [CUDA_MODULE_POOL] = &draft_fatbin_pool_size,
        [CUDA_MODULE_SCORE] = &draft_fatbin_score_size,
        [CUDA_MODULE_SCORE_PARTS] = &draft_fatbin_score_parts_size,
        [CUDA_MODULE_SCORE_PARTS_SM90] = &draft_fatbin_score_parts_sm90_size,
        [CUDA_MODULE_SELECT] = &draft_fatbin_select_size,
        [CUDA_MODULE_ATTEND_SM80] = &draft_fatbin_attend_sm80_size,
        [CUDA_MODULE_ATTEND_SM90] = &draft_fatbin_attend_sm90_size,
    };
    return *sizes[module];
}

/* ---- Common ---------------------------------------------------------------------------------- */

static uint64_t div_up(uint64_t a, uint64_t b)
{
    return (a + b - 1) / b;
}

static uint64_t head_count(const struct draft_geometry *g)
{
    return (uint64_t)g->batch * g->heads;
}

static uint64_t row_blocks(const struct draft_geometry *g)
{
    return head_count(g) * g->video_blocks;
}

static bool has_tail(const struct draft_geometry *g)
{
    return g->tail != DRAFT_ABI_TAIL_DROP;
}

static const char *fits_all(const struct cuda_caps *caps, const struct draft_geometry *g)
{
    (void)caps, (void)g;
    return NULL;
}

/* Of the kernels of a stage, [type][dim above 64]: types in the order of DRAFT_ABI_F16 ... */
#define BY_TYPE_AND_DIM(stage)                                                                     \
    {                                                                                              \
        {"draft_" stage "_f16_64", "draft_" stage "_f16_128"},                                     \
        {                                                                                          \
            "draft_" stage "_bf16_64", "draft_" stage "_bf16_128"                                  \
        }                                                                                          \
    }
enum { TYPES = 2 };

/* ---- pool ------------------------------------------------------------------------------------ */

static uint64_t pool_blocks(const struct draft_geometry *g)
{
    return g->batch * ((uint64_t)g->heads + 2 * (uint64_t)g->kv_heads) * g->video_blocks;
}

static uint32_t pool_passes(const struct draft_geometry *g, struct cuda_pass *out)
{
    static const char *const kernels[TYPES][2] = BY_TYPE_AND_DIM("pool");
    static const char *const more[TYPES][2] = BY_TYPE_AND_DIM("pool_more");
    bool plain = g->scorer == DRAFT_ABI_SCORER_MEAN && !has_tail(g);
    out[0] = (struct cuda_pass){
        .module = CUDA_MODULE_POOL,
        .kernel = (plain ? kernels : more)[g->type - DRAFT_ABI_F16][g->dim > 64],
        .threads = CUDA_POOL_THREADS,
        .blocks = pool_blocks(g),
    };
    return 1;
}

/* ---- score ----------------------------------------------------------------------------------- */

/* Tiles of a product with S rows and `width` columns for each head. */
static uint64_t tile_blocks(const struct draft_geometry *g, uint64_t width)
{
    return head_count(g) * div_up(g->video_blocks, CUDA_SCORE_ROWS) *
           div_up(width, CUDA_SCORE_COLUMNS);
}

static uint64_t score_blocks(const struct draft_geometry *g)
{
    return tile_blocks(g, g->video_blocks);
}

static uint64_t quarter_blocks(const struct draft_geometry *g)
{
    return tile_blocks(g, (uint64_t)g->bias_stride * DRAFT_QUARTERS);
}

static uint64_t bias_blocks(const struct draft_geometry *g)
{
    return tile_blocks(g, g->bias_stride);
}

static struct cuda_pass score_pass(const char *kernel, uint32_t threads, uint64_t blocks)
{
    return (struct cuda_pass){
        .module = CUDA_MODULE_SCORE, .kernel = kernel, .threads = threads, .blocks = blocks};
}

/* What the tail adds. */
static uint32_t tail_passes(const struct draft_geometry *g, uint32_t n, struct cuda_pass *out)
{
    if (g->tail == DRAFT_ABI_TAIL_MEAN)
        out[n++] = score_pass("draft_score_bias", CUDA_SCORE_THREADS, bias_blocks(g));
    if (g->tail == DRAFT_ABI_TAIL_FITTED)
        out[n++] = score_pass("draft_score_moments", CUDA_SCORE_THREADS, bias_blocks(g));
    return n;
}

static uint32_t plain_passes(const struct draft_geometry *g, struct cuda_pass *out)
{
    uint32_t n = 0;
    out[n++] = g->quarters
                   ? score_pass("draft_score_quarters", CUDA_SCORE_THREADS, quarter_blocks(g))
                   : score_pass("draft_score", CUDA_SCORE_THREADS, score_blocks(g));
    out[n++] = score_pass("draft_softmax", CUDA_SOFTMAX_THREADS, row_blocks(g));
    return tail_passes(g, n, out);
}

/* ---- score with EXCESS ----------------------------------------------------------------------- */

static uint32_t parts_shared(const struct draft_geometry *g)
{
    return g->dim > 64 ? CUDA_PARTS_SHARED(128) : CUDA_PARTS_SHARED(64);
}

/* Of one head's scores. */
static uint64_t parts_bytes(const struct draft_geometry *g)
{
    return (uint64_t)g->video_blocks * DRAFT_QUARTERS *
           CUDA_PARTS_PITCH((uint64_t)g->video_blocks) * sizeof(float);
}

/* parts: but for which heads, and how many thread blocks. */
static uint32_t parts_passes(const struct draft_geometry *g, struct cuda_pass parts,
                             struct cuda_pass *out)
{
    uint64_t rows = div_up(g->video_blocks * DRAFT_QUARTERS, CUDA_PARTS_ROWS);
    uint64_t spans = div_up(g->video_blocks, CUDA_PARTS_STEPS * CUDA_PARTS_KEY_BLOCKS);
    uint64_t portion = draft_portion_heads(g, parts_bytes(g));
    uint32_t n = 0;
    for (uint64_t first = 0; first < head_count(g); first += portion) {
        uint64_t rest = head_count(g) - first, heads = portion < rest ? portion : rest;
        parts.first = (uint32_t)first;
        parts.step = (uint32_t)heads;
        parts.blocks = heads * rows * spans;
        out[n++] = parts;
        out[n++] = (struct cuda_pass){
            .module = CUDA_MODULE_SCORE_PARTS,
            .kernel = "draft_softmax_parts",
            .first = parts.first,
            .step = parts.step,
            .threads = CUDA_SOFTMAX_THREADS,
            .blocks = heads * g->video_blocks,
        };
    }
    if (g->quarters)
        out[n++] = score_pass("draft_score_quarters", CUDA_SCORE_THREADS, quarter_blocks(g));
    return tail_passes(g, n, out);
}
_Static_assert(2 * DRAFT_MOST_PORTIONS + 1 <= CUDA_MAX_PASSES, "passes of score");

static bool has_excess(const struct draft_geometry *g)
{
    return g->scorer == DRAFT_ABI_SCORER_EXCESS;
}

static const char *score_refuses(const struct cuda_caps *caps, const struct draft_geometry *g)
{
    if (has_excess(g) && caps->major < 8)
        return "scorer EXCESS needs compute capability 8.0";
    if (has_excess(g) && caps->shared < parts_shared(g))
        return "the device's thread blocks have too little shared memory";
    return NULL;
}

static uint32_t score_passes(const struct draft_geometry *g, struct cuda_pass *out)
{
    static const char *const kernels[TYPES][2] = BY_TYPE_AND_DIM("score_parts");
    struct cuda_pass parts = {
        .module = CUDA_MODULE_SCORE_PARTS,
        .kernel = kernels[g->type - DRAFT_ABI_F16][g->dim > 64],
        .threads = CUDA_PARTS_THREADS,
        .shared = parts_shared(g),
    };
    return has_excess(g) ? parts_passes(g, parts, out) : plain_passes(g, out);
}

static uint32_t parts90_shared(const struct draft_geometry *g)
{
    return g->dim > 64 ? CUDA_PARTS90_SHARED(128) : CUDA_PARTS90_SHARED(64);
}

static const char *wgmma_refuses(const struct cuda_caps *caps, const struct draft_geometry *g)
{
#ifndef DRAFT_CUDA_SM90
    return "it is not part of this build";
#endif
    if (!has_excess(g))
        return "it has scorer EXCESS alone";
    if (caps->major != 9 || caps->minor != 0)
        return "the compute capability is not 9.0";
    if (caps->shared < parts90_shared(g))
        return "the device's thread blocks have too little shared memory";
    return NULL;
}

static uint32_t wgmma_passes(const struct draft_geometry *g, struct cuda_pass *out)
{
    static const char *const kernels[TYPES][2] = BY_TYPE_AND_DIM("score_parts90");
    struct cuda_pass parts = {
        .module = CUDA_MODULE_SCORE_PARTS_SM90,
        .kernel = kernels[g->type - DRAFT_ABI_F16][g->dim > 64],
        .threads = CUDA_PARTS_THREADS,
        .shared = parts90_shared(g),
    };
    return parts_passes(g, parts, out);
}

static uint64_t score_scratch(const struct draft_geometry *g)
{
    uint64_t bytes = parts_bytes(g);
    return has_excess(g) ? draft_portion_heads(g, bytes) * bytes : 0;
}

/* ---- select ---------------------------------------------------------------------------------- */

static bool row_budgets(const struct draft_geometry *g)
{
    return g->rule == DRAFT_ABI_ROW || g->rule == DRAFT_ABI_MASS;
}

static bool has_floors(const struct draft_geometry *g)
{
    return g->force & DRAFT_FORCED_FLOOR;
}

/* For each head the histograms and states of the passes, how many ties each row has, and what it
 * keeps in any case. */
static uint64_t select_scratch(const struct draft_geometry *g)
{
    uint64_t of_row = has_floors(g) ? 3 : 1;
    uint64_t words =
        CUDA_SELECT_PASSES * (CUDA_SELECT_DIGITS + CUDA_SELECT_STATE) + of_row * g->video_blocks;
    return row_budgets(g) ? 0 : head_count(g) * words * sizeof(uint32_t);
}

static uint64_t clear_blocks(const struct draft_geometry *g)
{
    return head_count(g);
}

static uint64_t head_blocks(const struct draft_geometry *g)
{
    return head_count(g) * div_up(g->video_blocks, CUDA_SELECT_ROWS);
}

static uint64_t list_blocks(const struct draft_geometry *g)
{
    return head_count(g) * g->blocks;
}

static uint64_t order_blocks(const struct draft_geometry *g)
{
    return head_count(g) * div_up(g->blocks, CUDA_SELECT_THREADS);
}

static struct cuda_pass select_pass(const char *kernel, uint32_t step, uint64_t blocks)
{
    return (struct cuda_pass){
        .module = CUDA_MODULE_SELECT,
        .kernel = kernel,
        .step = step,
        .threads = CUDA_SELECT_THREADS,
        .blocks = blocks,
    };
}

static uint32_t select_passes(const struct draft_geometry *g, struct cuda_pass *out)
{
    bool more = has_floors(g) || has_tail(g);
    const char *head = has_floors(g) ? "draft_select_head_more" : "draft_select_head";
    uint32_t n = 0;
    if (!row_budgets(g)) {
        out[n++] = select_pass(head, 0, clear_blocks(g));
        if (has_floors(g))
            out[n++] = select_pass("draft_select_floor", 0, row_blocks(g));
        for (uint32_t step = 1; step <= CUDA_SELECT_PASSES + 1; step++)
            out[n++] = select_pass(head, step, head_blocks(g));
    }
    out[n++] = select_pass(more ? "draft_select_list_more" : "draft_select_list", row_budgets(g),
                           list_blocks(g));
    out[n++] = select_pass("draft_select_order", 0, order_blocks(g));
    return n;
}
_Static_assert(2 + CUDA_SELECT_PASSES + 1 + 2 <= CUDA_MAX_PASSES, "passes of select");

/* ---- attend ---------------------------------------------------------------------------------- */

static uint64_t attend_blocks(const struct draft_geometry *g)
{
    return head_count(g) * g->blocks;
}

static uint32_t attend_shared(const struct draft_geometry *g)
{
    return g->dim > 64 ? CUDA_ATTEND_SHARED_128 : CUDA_ATTEND_SHARED_64;
}

static const char *sm80_refuses(const struct cuda_caps *caps, const struct draft_geometry *g)
{
    if (caps->major < 8)
        return "the compute capability is below 8.0";
    if (caps->shared < attend_shared(g))
        return "the device's thread blocks have too little shared memory";
    return NULL;
}

static uint32_t sm80_passes(const struct draft_geometry *g, struct cuda_pass *out)
{
    static const char *const kernels[TYPES][2] = BY_TYPE_AND_DIM("attend");
    static const char *const tail[TYPES][2] = BY_TYPE_AND_DIM("attend_tail");
    out[0] = (struct cuda_pass){
        .module = CUDA_MODULE_ATTEND_SM80,
        .kernel = (has_tail(g) ? tail : kernels)[g->type - DRAFT_ABI_F16][g->dim > 64],
        .threads = CUDA_ATTEND_THREADS,
        .shared = attend_shared(g),
        .blocks = attend_blocks(g),
    };
    return 1;
}

static uint32_t sm90_shared(const struct draft_geometry *g)
{
    return g->dim > 64 ? CUDA_ATTEND90_SHARED_128 : CUDA_ATTEND90_SHARED_64;
}

static const char *sm90_refuses(const struct cuda_caps *caps, const struct draft_geometry *g)
{
#ifndef DRAFT_CUDA_SM90
    return "it is not part of this build";
#endif
    if (caps->major != 9 || caps->minor != 0)
        return "the compute capability is not 9.0";
    if (!caps->tensor_maps)
        return "the driver is older than CUDA 12.0";
    if (caps->shared < sm90_shared(g))
        return "the device's thread blocks have too little shared memory";
    return NULL;
}

static uint32_t sm90_passes(const struct draft_geometry *g, struct cuda_pass *out)
{
    static const char *const kernels[TYPES][2] = BY_TYPE_AND_DIM("attend90");
    static const char *const tail[TYPES][2] = BY_TYPE_AND_DIM("attend90_tail");
    out[0] = (struct cuda_pass){
        .module = CUDA_MODULE_ATTEND_SM90,
        .kernel = "draft_attend90_reset",
        .threads = CUDA_ATTEND90_RESET_THREADS,
        .blocks = 1,
    };
    out[1] = (struct cuda_pass){
        .module = CUDA_MODULE_ATTEND_SM90,
        .kernel = (has_tail(g) ? tail : kernels)[g->type - DRAFT_ABI_F16][g->dim > 64],
        .threads = CUDA_ATTEND90_THREADS,
        .shared = sm90_shared(g),
        .blocks = attend_blocks(g),
        .persistent = true,
        .maps = true,
    };
    return 2;
}

static uint64_t sm90_scratch(const struct draft_geometry *g)
{
    (void)g;
    return sizeof(uint32_t); /* the next query block */
}

/* ---- Tables ---------------------------------------------------------------------------------- */

enum { MOST_VARIANTS = 2 };

static const struct {
    size_t count;
    struct cuda_variant variants[MOST_VARIANTS];
    const char *names[MOST_VARIANTS + 1];
} tables[DRAFT_STAGES] = {
    {1, {{"simt", fits_all, pool_passes, NULL, NULL}}, {"simt"}},
    {2,
     {{"wgmma", wgmma_refuses, wgmma_passes, score_scratch, NULL},
      {"simt", score_refuses, score_passes, score_scratch, NULL}},
     {"wgmma", "simt"}},
    {1, {{"simt", fits_all, select_passes, select_scratch, NULL}}, {"simt"}},
    {2,
     {{"sm90", sm90_refuses, sm90_passes, sm90_scratch, "sm80"},
      {"sm80", sm80_refuses, sm80_passes, NULL, NULL}},
     {"sm90", "sm80"}},
};

const struct cuda_variant *draft_cuda_variants(draft_stage stage, size_t *count)
{
    *count = tables[draft_stage_index(stage)].count;
    return tables[draft_stage_index(stage)].variants;
}

const char *const *draft_cuda_variant_names(draft_stage stage)
{
    return tables[draft_stage_index(stage)].names;
}
