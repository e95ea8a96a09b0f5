/* SPDX-License-Identifier: MIT
 *
 * The problem of attend's self-test reaches what drivers are known to get wrong: key blocks of
 * different sizes, cut at each edge of the grid and at the valid length of text, a full block of
 * 128 and one of a single token, an empty list, queries whose maximum grows from block to block and
 * others whose weights are all alike, two heads on one of k and v, two samples. All inputs have few
 * enough bits to be exact in each type. Pooled keys are numbers of their own, no means: attend is
 * tested, not pool. */
#include "trial.h"

#include <float.h>
#include <math.h>
#include <string.h>

enum {
    BATCH = 2,
    HEADS = 2,
    PREFIX = 3,
    FRAMES = 3,
    HEIGHT = 5,
    WIDTH = 9,
    SUFFIX = 130,
    TOKENS = PREFIX + FRAMES * HEIGHT * WIDTH + SUFFIX,
    VIDEO_BLOCKS = 8,                 /* tiles of 2 x 4 x 8 */
    BLOCKS = 1 + VIDEO_BLOCKS + 2,    /* suffix: 128 + 2 */
    ONE_TOKEN = 1 + VIDEO_BLOCKS - 1, /* the block cut at all three edges */
    ROWS = BATCH * HEADS * BLOCKS,
    MOST_KEYS = TOKENS + VIDEO_BLOCKS,
};

static const uint32_t valid[BATCH][2] = {{2, 37}, {PREFIX, SUFFIX}};

/* One self-test. q, k, v as [batch, tokens, heads, dim]. */
struct trial {
    draft_context *context;
    draft_plan *plan;
    draft_type type;
    uint32_t dim;
    bool tail;
    float *q, *k, *v, *tail_k, *tail_v; /* the last two: [batch, video blocks, dim] */
    uint8_t *image; /* of device memory                                        */
    draft_address memory;
    uint64_t at_k, at_v, at_out, at_lse, at_valid, at_workspace, size;
    uint32_t counts[ROWS];
    uint16_t lists[ROWS * BLOCKS];
    struct draft_proof *proof;
};

/* ---- The problem ---- */

static void make_inputs(struct trial *t)
{
    uint32_t state = 1;
    float *q = t->q, *k = t->k, *v = t->v;
    for (uint32_t b = 0; b < BATCH; b++)
        for (uint32_t token = 0; token < TOKENS; token++) {
            float growth = (float)(1u << 4 * token / TOKENS) / 2; /* 1/2, 1, 2, 4 */
            for (uint32_t d = 0; d < HEADS * t->dim; d++)
                *q++ = draft_trial_next(&state) * (d < t->dim ? 2 : 0.25f);
            for (uint32_t d = 0; d < t->dim; d++) {
                *k++ = draft_trial_next(&state) * growth;
                *v++ = draft_trial_next(&state) + 0.5f;
            }
        }
    for (uint32_t i = 0; i < BATCH * VIDEO_BLOCKS * t->dim; i++) {
        t->tail_k[i] = draft_trial_next(&state);
        t->tail_v[i] = draft_trial_next(&state) - 0.5f;
    }
}

static bool is_kept(uint32_t row, uint32_t i, uint32_t j)
{
    return i == 0   ? false
           : i == 1 ? j == ONE_TOKEN
           : i == 2 ? true
                    : (i * 7 + j * 3 + row * 5) % 5 < 2;
}

static void make_lists(struct trial *t)
{
    for (uint32_t row = 0; row < ROWS; row++)
        for (uint32_t j = 0; j < BLOCKS; j++)
            if (is_kept(row / BLOCKS, row % BLOCKS, j))
                t->lists[row * BLOCKS + t->counts[row]++] = (uint16_t)j;
}

/* Offsets in device memory. */
static void lay_out(struct trial *t)
{
    struct draft_layout layout;
    draft_plan_layout(t->plan, &layout);
    uint64_t unit = layout.alignment > 256 ? layout.alignment : 256;
    uint64_t row = (uint64_t)BATCH * TOKENS * t->dim * draft_type_size(t->type), at = 0;
    const uint64_t sizes[] = {HEADS * row,  row,         row,
                              sizeof valid, HEADS * row, BATCH * HEADS * TOKENS * sizeof(float)};
    uint64_t *const ends[] = {&t->at_k,   &t->at_v,   &t->at_valid,
                              &t->at_out, &t->at_lse, &t->at_workspace};
    for (int i = 0; i < 6; i++) {
        at = (at + sizes[i] + unit - 1) / unit * unit;
        *ends[i] = at;
    }
    t->size = at + layout.size;
}

/* Where pool would have left them; draft_lists_write makes the bias. */
static draft_status upload_pooled(struct trial *t)
{
    struct draft_layout layout;
    draft_plan_layout(t->plan, &layout);
    size_t numbers = (size_t)BATCH * VIDEO_BLOCKS * t->dim;
    size_t bytes = numbers * draft_type_size(t->type);
    uint8_t *image = draft_calloc(2, bytes);
    DRAFT_REQUIRE(&t->context->log, DRAFT_ERROR_MEMORY, image,
                  "out of host memory for a self-test");
    for (size_t i = 0; i < numbers; i++) {
        draft_trial_store(t->type, image, i, t->tail_k[i]);
        draft_trial_store(t->type, image + bytes, i, t->tail_v[i]);
    }
    draft_address workspace = t->memory + t->at_workspace;
    draft_status status = draft_write(t->context, workspace + layout.tail_k, image, bytes);
    if (!status)
        status = draft_write(t->context, workspace + layout.tail_v, image + bytes, bytes);
    draft_release(image);
    return status;
}

/* Everything that the device needs, and NaN where it writes. */
static draft_status upload(struct trial *t)
{
    size_t numbers = (size_t)BATCH * TOKENS * t->dim;
    memset(t->image, 0xff, t->at_workspace);
    for (size_t i = 0; i < HEADS * numbers; i++)
        draft_trial_store(t->type, t->image, i, t->q[i]);
    for (size_t i = 0; i < numbers; i++) {
        draft_trial_store(t->type, t->image + t->at_k, i, t->k[i]);
        draft_trial_store(t->type, t->image + t->at_v, i, t->v[i]);
    }
    memcpy(t->image + t->at_valid, valid, sizeof valid);
    draft_status status = draft_write(t->context, t->memory, t->image, t->at_workspace);
    if (!status && t->tail)
        status = upload_pooled(t);
    if (status)
        return status;
    return draft_lists_write(t->plan, t->memory + t->at_workspace, t->counts, t->lists);
}

static draft_status run(struct trial *t)
{
    struct draft_run_params params = {
        .q.data = t->memory,
        .k.data = t->memory + t->at_k,
        .v.data = t->memory + t->at_v,
        .out.data = t->memory + t->at_out,
        .lse = t->memory + t->at_lse,
        .valid = t->memory + t->at_valid,
        .workspace = t->memory + t->at_workspace,
        .stages = DRAFT_ATTEND,
    };
    draft_status status = upload(t);
    if (!status)
        status = draft_run(t->plan, &params);
    if (!status)
        status = draft_read(t->context, t->image + t->at_out, t->memory + t->at_out,
                            t->at_workspace - t->at_out);
    return status;
}

/* ---- The result ----
 *
 * A row's result may be off by what its weights are off by, among which U where matrix units take
 * them in the type of the tensors. */

static void compare(struct trial *t, double got, double want, double allowed, uint32_t b,
                    uint32_t h, uint32_t token, const char *what)
{
    draft_trial_compare(t->proof, got, want, allowed,
                        (struct draft_spot){what, b, h, "token", token});
}

/* One key of a row: a token's, or a pooled one. */
struct key {
    const float *k, *v;
    double bias;
};

static void check_row(struct trial *t, uint32_t b, uint32_t h, uint32_t token,
                      const struct key *keys, uint32_t count)
{
    const struct draft_geometry *g = &t->plan->geometry;
    const float *q = t->q + ((size_t)(b * TOKENS + token) * HEADS + h) * t->dim;
    double logits[MOST_KEYS], out[DRAFT_MAX_DIM] = {0}, magnitude[DRAFT_MAX_DIM] = {0};
    double most = -INFINITY, sum = 0, longest = 0;
    for (uint32_t n = 0; n < count; n++) {
        logits[n] = g->scale * draft_trial_product(q, keys[n].k, t->dim) + keys[n].bias;
        most = fmax(most, logits[n]);
        longest = fmax(longest, draft_trial_product(keys[n].k, keys[n].k, t->dim));
    }
    for (uint32_t n = 0; n < count; n++) {
        double p = exp(logits[n] - most);
        sum += p;
        for (uint32_t d = 0; d < t->dim; d++) {
            double term = p * keys[n].v[d];
            out[d] += term;
            magnitude[d] += fabs(term);
        }
    }
    double spread = SPREAD * U32 * sqrt(count),
           reach = sqrt(draft_trial_product(q, q, t->dim) * longest);
    double error = (SPREAD * sqrt(t->dim) + 4) * U32 * g->scale * reach;
    double relative = expm1(2 * error) + FUNCTION * U32 + spread + draft_trial_roundoff(t->type);
    double least = t->type == DRAFT_F16 ? 0x1p-24 : 2 * (double)FLT_MIN;
    size_t at = ((size_t)(b * TOKENS + token) * HEADS + h) * t->dim;
    for (uint32_t d = 0; d < t->dim; d++) {
        double want = count ? out[d] / sum : 0;
        double allowed =
            relative * magnitude[d] / sum + draft_trial_roundoff(t->type) * fabs(want) + least;
        compare(t, draft_type_load(t->type, t->image + t->at_out, at + d), want,
                count ? allowed : 0, b, h, token, "out");
    }
    double lse = count ? most + log(sum) : -INFINITY;
    double allowed = error + spread + LOG_ERROR + FUNCTION * U32 * (1 + fabs(lse));
    compare(
        t,
        draft_type_load(DRAFT_F32, t->image + t->at_lse, (size_t)(b * HEADS + h) * TOKENS + token),
        lse, count ? allowed : 0, b, h, token, "lse");
}

/* What a query block attends to. */
static uint32_t keys_of(const struct trial *t, uint32_t b, uint32_t h, uint32_t block,
                        struct key keys[MOST_KEYS])
{
    const struct draft_geometry *g = &t->plan->geometry;
    uint32_t row = (b * HEADS + h) * BLOCKS + block, count = 0, tokens[DRAFT_BLOCK];
    bool kept[BLOCKS] = {false};
    for (uint32_t n = 0; n < t->counts[row]; n++) {
        uint32_t j = t->lists[row * BLOCKS + n];
        uint32_t size = draft_block_tokens(g, j, valid[b], tokens);
        kept[j] = true;
        for (uint32_t i = 0; i < size; i++) {
            size_t at = (size_t)(b * TOKENS + tokens[i]) * t->dim;
            keys[count++] = (struct key){t->k + at, t->v + at, 0};
        }
    }
    bool pooled = t->tail && block >= 1 && block <= VIDEO_BLOCKS;
    for (uint32_t j = 1; j <= VIDEO_BLOCKS && pooled; j++) {
        size_t at = (size_t)(b * VIDEO_BLOCKS + j - 1) * t->dim;
        if (!kept[j])
            keys[count++] =
                (struct key){t->tail_k + at, t->tail_v + at, log(draft_block_size(g, j))};
    }
    return count;
}

/* Every other query of each block; the other sample has the others. */
static void check_block(struct trial *t, uint32_t b, uint32_t h, uint32_t block)
{
    const struct draft_geometry *g = &t->plan->geometry;
    struct key keys[MOST_KEYS];
    uint32_t queries[DRAFT_BLOCK], count = keys_of(t, b, h, block, keys);
    uint32_t inside = draft_block_tokens(g, block, valid[b], queries);
    uint32_t size = draft_block_tokens(g, block, NULL, queries); /* those, and the others */
    for (uint32_t i = b; i < size; i += BATCH)
        check_row(t, b, h, queries[i], keys, i < inside ? count : 0);
}

static void check(struct trial *t)
{
    for (uint32_t b = 0; b < BATCH; b++)
        for (uint32_t h = 0; h < HEADS; h++)
            for (uint32_t block = 0; block < BLOCKS; block++)
                check_block(t, b, h, block);
}

/* ---- All of it ---- */

static draft_status prepare(struct trial *t, const char *const kernels[DRAFT_STAGES],
                            const struct draft_kind *kind)
{
    const struct draft_plan_params params = {
        .shape = {BATCH, PREFIX, FRAMES, HEIGHT, WIDTH, SUFFIX, HEADS, 1, t->dim},
        .type = t->type,
        .tile = {2, 4, 8},
        .rule = DRAFT_RULE_ROW,
        .scorer = (draft_scorer)kind->scorer, /* whose kernels the plan has made */
        .tail = t->tail ? DRAFT_TAIL_MEAN : DRAFT_TAIL_DROP,
    };
    draft_status status = draft_plan_make(t->context, &params, kernels, &t->plan);
    if (status)
        return status;
    lay_out(t);
    size_t numbers = (size_t)BATCH * TOKENS * t->dim;
    size_t pooled = (size_t)BATCH * VIDEO_BLOCKS * t->dim;
    t->q = draft_calloc((HEADS + 2) * numbers + 2 * pooled, sizeof *t->q);
    t->image = draft_calloc(t->at_workspace, 1);
    DRAFT_REQUIRE(&t->context->log, DRAFT_ERROR_MEMORY, t->q && t->image,
                  "out of host memory for a self-test");
    t->k = t->q + HEADS * numbers;
    t->v = t->k + numbers;
    t->tail_k = t->v + numbers;
    t->tail_v = t->tail_k + pooled;
    make_inputs(t);
    make_lists(t);
    return draft_alloc(t->context, t->size, &t->memory);
}

draft_status draft_trial_attend(draft_context *context, const char *const kernels[DRAFT_STAGES],
                                const struct draft_kind *kind, struct draft_proof *out)
{
    double start = draft_trial_now();
    struct trial *t = draft_calloc(1, sizeof *t);
    DRAFT_REQUIRE(&context->log, DRAFT_ERROR_MEMORY, t, "out of host memory for a self-test");
    t->context = context, t->proof = out;
    t->type = (draft_type)kind->type, t->dim = kind->dim, t->tail = kind->tail != DRAFT_TAIL_DROP;
    draft_status status = prepare(t, kernels, kind);
    out->ran = status != DRAFT_ERROR_UNSUPPORTED;
    if (!status)
        status = run(t);
    if (!status)
        check(t);
    draft_free(context, t->memory);
    draft_plan_destroy(&t->plan);
    draft_release(t->image);
    draft_release(t->q);
    draft_release(t);
    out->seconds = draft_trial_now() - start;
    return out->ran ? status : DRAFT_OK;
}
