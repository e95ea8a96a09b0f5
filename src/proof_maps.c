/* SPDX-License-Identifier: MIT
 *
 * The self-test of pool, score and select: 3 x 2 x 7 tiles, of which those at the far edges of the
 * grid hold one, three and one token along that axis, two heads on one of k and v, two samples. The
 * map takes more than one tile of most kernels' rows and columns; heads differ in their budgets.
 *
 * The stages run last to first, each on numbers of few bits that the host has put into its inputs,
 * not on what the stage before it makes of them. What they write was something else before. */
#include "trial.h"

#include <math.h>
#include <string.h>

enum {
    BATCH = 2,
    HEADS = 2,
    PREFIX = 3,
    SUFFIX = 130,
    TILES_T = 3,
    TILES_H = 2,
    TILES_W = 7,
};
_Static_assert(TILES_T *TILES_H *TILES_W == DRAFT_TRIAL_ROWS, "blocks of the video");
_Static_assert(1 + (SUFFIX + DRAFT_BLOCK - 1) / DRAFT_BLOCK == DRAFT_TRIAL_TEXT, "and of text");

/* The last two belong to nobody: FITTED brings factors to 0 .. DRAFT_FACTOR_MOST, NaN to 0. */
static const float factors[BATCH * HEADS] = {0.5f, 1.25f, 7, NAN};

struct trial {
    draft_context *context;
    draft_plan *plan;
    uint8_t *image, *got; /* of device memory: tensors, then the workspace; of that alone */
    draft_address memory;
    uint64_t at_k, at_v, at_workspace, size;
    uint32_t state; /* of draft_trial_next */
};

/* ---- Inputs ---- */

/* An axis of so many tiles, of which the last has `rest` tokens. */
static uint32_t axis(uint32_t tiles, uint32_t extent, uint32_t rest)
{
    return (tiles - 1) * extent + rest;
}

static draft_status make_plan(struct trial *t, const char *const kernels[DRAFT_STAGES],
                              const struct draft_kind *kind)
{
    static const double sparsities[HEADS] = {0.4, 0.5};
    bool paper = kind->rule == DRAFT_RULE_PAPER, mass = kind->rule == DRAFT_RULE_MASS;
    const struct draft_tile tile = paper ? (struct draft_tile){1, 8, 16} /* its own */
                                         : (struct draft_tile){2, 4, 4}; /* 16 parts of 2 tokens */
    const struct draft_plan_params params = {
        .shape = {BATCH, PREFIX, axis(TILES_T, tile.t, 1), axis(TILES_H, tile.h, 3),
                  axis(TILES_W, tile.w, 1), SUFFIX, HEADS, 1, kind->dim},
        .type = (draft_type)kind->type,
        .tile = tile,
        .rule = (draft_rule)kind->rule,
        .head_sparsity = mass ? NULL : sparsities,
        .mass = mass ? 0.6 : 0,
        .force = paper ? 0 : DRAFT_FORCE_FIRST_FRAME | DRAFT_FORCE_NEIGHBOURS,
        .scorer = (draft_scorer)kind->scorer,
        .tail = (draft_tail)kind->tail,
        .row_floor = kind->floor ? 0.9 : 0,
    };
    return draft_plan_make(t->context, &params, kernels, &t->plan);
}

/* `rows` rows of dim numbers at an offset, some rows larger than others. */
static void fill(struct trial *t, uint64_t offset, draft_type type, uint64_t rows)
{
    uint32_t dim = t->plan->geometry.dim;
    for (uint64_t row = 0; row < rows; row++) {
        float size = (float)(1u << row % 3) / 2; /* 1/2, 1, 2 */
        for (uint32_t d = 0; d < dim; d++)
            draft_trial_store(type, t->image + offset, row * dim + d,
                              size * draft_trial_next(&t->state));
    }
}

/* Parts of all blocks, zero where they hold no tokens. */
static void fill_parts(struct trial *t, uint64_t offset, draft_type type, uint64_t heads,
                       uint32_t parts)
{
    const struct draft_geometry *g = &t->plan->geometry;
    uint64_t rows = heads * g->video_blocks, bytes = g->dim * draft_type_size(type);
    fill(t, offset, type, rows * parts);
    for (uint64_t row = 0; row < rows; row++) {
        uint32_t sizes[DRAFT_PARTS], block = (uint32_t)(row % g->video_blocks);
        if (parts == DRAFT_PARTS)
            draft_part_sizes(g, block, sizes);
        else
            draft_quarter_sizes(g, block, sizes);
        for (uint32_t a = 0; a < parts; a++)
            if (sizes[a] == 0)
                memset(t->image + offset + (row * parts + a) * bytes, 0, bytes);
    }
}

/* Kernels may take means of blocks for those of their quarters. */
static void merge_quarters(struct trial *t)
{
    const struct draft_geometry *g = &t->plan->geometry;
    const float *quarters = (const float *)(t->image + t->at_workspace + g->quarters);
    float *means = (float *)(t->image + t->at_workspace + g->pooled_k);
    for (uint64_t row = 0; row < BATCH * g->video_blocks; row++) {
        uint32_t sizes[DRAFT_QUARTERS], block = (uint32_t)(row % g->video_blocks);
        draft_quarter_sizes(g, block, sizes);
        for (uint32_t d = 0; d < g->dim; d++) {
            double sum = 0;
            for (uint32_t a = 0; a < DRAFT_QUARTERS; a++)
                sum += (double)sizes[a] * quarters[(row * DRAFT_QUARTERS + a) * g->dim + d];
            means[row * g->dim + d] = (float)(sum / draft_block_size(g, g->prefix_blocks + block));
        }
    }
}

/* Means of squares are not negative. Their products lie on both sides of ln n_j. */
static void fill_moments(struct trial *t, uint64_t offset, uint64_t rows)
{
    float *numbers = (float *)(t->image + offset);
    fill(t, offset, DRAFT_F32, rows);
    for (uint64_t i = 0; i < rows * t->plan->geometry.dim; i++)
        numbers[i] = 4 * fabsf(numbers[i]);
}

/* Numbers about as large as rows of a map have, many alike, and some that differ in low bits alone;
 * and biases with any sign. */
static void fill_map(struct trial *t)
{
    const struct draft_geometry *g = &t->plan->geometry;
    uint64_t rows = (uint64_t)BATCH * HEADS * g->video_blocks;
    float *map = (float *)(t->image + t->at_workspace + g->map);
    for (uint64_t i = 0; i < rows * g->video_blocks; i++) {
        t->state = t->state * 1664525u + 1013904223u;
        uint32_t r = t->state >> 16, exponent = 127 - 9 + r % 5; /* 2^-9 .. 2^-5 */
        uint32_t bits = exponent << 23 | (r >> 4 & 3) << 21 | (r >> 6 & 1) << 12 | (r >> 7 & 3);
        memcpy(&map[i], &bits, sizeof bits);
    }
    float *bias = (float *)(t->image + t->at_workspace + g->bias);
    for (uint64_t i = 0; g->bias && i < rows * g->bias_stride; i++)
        bias[i] = 8 * draft_trial_next(&t->state);
}

static void make_inputs(struct trial *t)
{
    const struct draft_geometry *g = &t->plan->geometry;
    draft_type type = (draft_type)g->type;
    uint64_t tokens = (uint64_t)BATCH * g->tokens, kv_rows = BATCH * g->video_blocks;
    uint64_t w = t->at_workspace;
    memset(t->image, 0xff, t->size); /* NaN */
    fill(t, 0, type, tokens * HEADS);
    fill(t, t->at_k, type, tokens);
    fill(t, t->at_v, type, tokens);
    fill(t, w + g->pooled_q, DRAFT_F32, kv_rows * HEADS);
    fill(t, w + g->pooled_k, DRAFT_F32, kv_rows);
    if (g->quarters) {
        fill_parts(t, w + g->quarters, DRAFT_F32, BATCH, DRAFT_QUARTERS);
        merge_quarters(t);
    }
    if (g->parts_q) {
        fill_parts(t, w + g->parts_q, type, BATCH * HEADS, DRAFT_QUARTERS);
        fill_parts(t, w + g->parts_k, type, BATCH, DRAFT_PARTS);
    }
    if (g->moment_q) {
        fill_moments(t, w + g->moment_q, kv_rows * HEADS);
        fill_moments(t, w + g->moment_k, kv_rows);
        memcpy(t->image + w + g->factors, factors, sizeof factors);
    }
    fill_map(t);
}

/* ---- Run ---- */

static draft_status prepare(struct trial *t)
{
    const struct draft_geometry *g = &t->plan->geometry;
    const struct draft_layout *layout = &t->plan->layout;
    uint64_t unit = layout->alignment;
    uint64_t row = (uint64_t)BATCH * g->tokens * g->dim * draft_type_size((draft_type)g->type);
    t->at_k = (HEADS * row + unit - 1) / unit * unit;
    t->at_v = t->at_k + (row + unit - 1) / unit * unit;
    t->at_workspace = t->at_v + (row + unit - 1) / unit * unit;
    t->size = t->at_workspace + layout->size;
    t->image = draft_calloc(t->size, 1);
    t->got = draft_calloc(layout->size, 1);
    DRAFT_REQUIRE(&t->context->log, DRAFT_ERROR_MEMORY, t->image && t->got,
                  "out of host memory for a self-test");
    make_inputs(t);
    draft_status status = draft_alloc(t->context, t->size, &t->memory);
    return status ? status : draft_write(t->context, t->memory, t->image, t->size);
}

static draft_status check_stage(struct trial *t, draft_stage stage, struct draft_proof *proof)
{
    const struct draft_maps maps = {
        .plan = t->plan,
        .g = &t->plan->geometry,
        .q = t->image,
        .k = t->image + t->at_k,
        .v = t->image + t->at_v,
        .put = t->image + t->at_workspace,
        .got = t->got,
        .proof = proof,
    };
    const struct draft_run_params params = {
        .q.data = t->memory,
        .k.data = t->memory + t->at_k,
        .v.data = t->memory + t->at_v,
        .workspace = t->memory + t->at_workspace,
        .stages = stage,
    };
    draft_status status = draft_run(t->plan, &params);
    if (!status)
        status = draft_read(t->context, t->got, params.workspace, t->plan->layout.size);
    if (status)
        return status;
    return stage == DRAFT_POOL    ? draft_trial_check_pool(&maps)
           : stage == DRAFT_SCORE ? draft_trial_check_score(&maps)
                                  : draft_trial_check_select(&maps);
}

draft_status draft_trial_maps(draft_context *context, const char *const kernels[DRAFT_STAGES],
                              const struct draft_kind *kind, uint32_t stages,
                              struct draft_proof out[DRAFT_STAGES])
{
    struct trial t = {.context = context, .state = 1};
    double start = draft_trial_now();
    draft_status status = make_plan(&t, kernels, kind);
    bool refused = status == DRAFT_ERROR_UNSUPPORTED;
    if (!status)
        status = prepare(&t);
    for (unsigned s = draft_stage_index(DRAFT_ATTEND); s-- > 0 && !status;) {
        if (!(stages & 1u << s))
            continue;
        status = check_stage(&t, (draft_stage)(1 << s), &out[s]);
        out[s].ran = true;
        out[s].seconds = draft_trial_now() - start;
        start += out[s].seconds;
    }
    draft_free(context, t.memory);
    draft_plan_destroy(&t.plan);
    draft_release(t.image);
    draft_release(t.got);
    return refused ? DRAFT_OK : status;
}
