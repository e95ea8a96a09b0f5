/* SPDX-License-Identifier: MIT
 *
 * What pool has to write. The inputs have few enough bits that sums of them are exact in f32 in any
 * order, and sums of their squares too. */
#include "trial.h"

#include <math.h>
#include <string.h>

/* Of the rows of one block of one head. */
struct sums {
    double all[DRAFT_MAX_DIM], squares[DRAFT_MAX_DIM];
    double quarters[DRAFT_QUARTERS][DRAFT_MAX_DIM], parts[DRAFT_PARTS][DRAFT_MAX_DIM];
    uint32_t n, quarter_sizes[DRAFT_QUARTERS], part_sizes[DRAFT_PARTS];
};

/* A block of a tensor: which of the workspace's rows is its own. */
struct source {
    const struct draft_maps *maps;
    const uint8_t *tensor;
    uint32_t heads, b, h, block;
    uint64_t row;
};

/* Where in its tile a token of the video lies. */
static void place(const struct draft_geometry *g, uint32_t token, uint32_t *quarter, uint32_t *part)
{
    uint32_t at = token - g->prefix, w = at % g->width % g->tile_w;
    uint32_t h = at / g->width % g->height % g->tile_h;
    uint32_t t = at / g->width / g->height % g->tile_t;
    uint32_t bit = 1;
    *quarter = 0;
    const uint32_t within[] = {w, h, t}, splits[] = {g->split_w, g->split_h, g->split_t};
    for (int axis = 0; axis < 3; axis++)
        if (splits[axis]) {
            *quarter |= within[axis] >= splits[axis] ? bit : 0;
            bit *= 2;
        }
    *part = t * g->cut_t / g->tile_t;
    *part = *part * g->cut_h + h * g->cut_h / g->tile_h;
    *part = *part * g->cut_w + w * g->cut_w / g->tile_w;
}

static void add_up(const struct source *s, struct sums *out)
{
    const struct draft_geometry *g = s->maps->g;
    uint32_t tokens[DRAFT_BLOCK], quarter, part;
    memset(out, 0, sizeof *out);
    out->n = draft_block_tokens(g, g->prefix_blocks + s->block, NULL, tokens);
    for (uint32_t i = 0; i < out->n; i++) {
        size_t at = ((size_t)(s->b * g->tokens + tokens[i]) * s->heads + s->h) * g->dim;
        place(g, tokens[i], &quarter, &part);
        out->quarter_sizes[quarter]++;
        out->part_sizes[part]++;
        for (uint32_t d = 0; d < g->dim; d++) {
            double x = draft_type_load((draft_type)g->type, s->tensor, at + d);
            out->all[d] += x;
            out->squares[d] += x * x;
            out->quarters[quarter][d] += x;
            out->parts[part][d] += x;
        }
    }
}

/* An array of rows of the block; a row of the workspace has `parts` of them. */
static void check_means(const struct source *s, const char *what, uint64_t offset, draft_type type,
                        uint32_t parts, double sums[][DRAFT_MAX_DIM], const uint32_t *sizes)
{
    uint32_t dim = s->maps->g->dim;
    double relative =
        FUNCTION * U32 + (type == DRAFT_F32 ? 0 : draft_trial_roundoff(type)); /* divided, stored */
    for (uint32_t a = 0; a < parts; a++)
        for (uint32_t d = 0; d < dim; d++) {
            double want = sizes[a] ? sums[a][d] / sizes[a] : 0;
            double got =
                draft_type_load(type, s->maps->got + offset, (s->row * parts + a) * dim + d);
            draft_trial_compare(s->maps->proof, got, want, relative * fabs(want),
                                (struct draft_spot){what, s->b, s->h, "block", s->block});
        }
}

/* Mean of x^2, or central: of (x - mean)^2. What the mean is wrong by comes in squared. */
static void check_moment(const struct source *s, const char *what, uint64_t offset, bool central,
                         const struct sums *sums)
{
    uint32_t dim = s->maps->g->dim;
    double relative = (SPREAD * sqrt(sums->n) + FUNCTION + 4) * U32;
    for (uint32_t d = 0; d < dim; d++) {
        double mean = central ? sums->all[d] / sums->n : 0, shift = FUNCTION * U32 * mean;
        double want = fmax(sums->squares[d] / sums->n - mean * mean, 0);
        double got = draft_type_load(DRAFT_F32, s->maps->got + offset, s->row * dim + d);
        draft_trial_compare(s->maps->proof, got, want, relative * want + shift * shift,
                            (struct draft_spot){what, s->b, s->h, "block", s->block});
    }
}

static void check_queries(struct source *s, struct sums *sums)
{
    const struct draft_geometry *g = s->maps->g;
    draft_type type = (draft_type)g->type;
    add_up(s, sums);
    check_means(s, "pooled_q", g->pooled_q, DRAFT_F32, 1, &sums->all, &sums->n);
    if (g->parts_q)
        check_means(s, "parts_q", g->parts_q, type, DRAFT_QUARTERS, sums->quarters,
                    sums->quarter_sizes);
    if (g->moment_q)
        check_moment(s, "moment_q", g->moment_q, false, sums);
}

static void check_keys(struct source *s, struct sums *sums)
{
    const struct draft_geometry *g = s->maps->g;
    draft_type type = (draft_type)g->type;
    add_up(s, sums);
    check_means(s, "pooled_k", g->pooled_k, DRAFT_F32, 1, &sums->all, &sums->n);
    if (g->tail != DRAFT_TAIL_DROP)
        check_means(s, "tail_k", g->tail_k, type, 1, &sums->all, &sums->n);
    if (g->quarters)
        check_means(s, "quarters", g->quarters, DRAFT_F32, DRAFT_QUARTERS, sums->quarters,
                    sums->quarter_sizes);
    if (g->parts_k)
        check_means(s, "parts_k", g->parts_k, type, DRAFT_PARTS, sums->parts, sums->part_sizes);
    if (g->moment_k)
        check_moment(s, "moment_k", g->moment_k, true, sums);
}

static void check_values(struct source *s, struct sums *sums)
{
    const struct draft_geometry *g = s->maps->g;
    add_up(s, sums);
    check_means(s, "pooled_v", g->pooled_v, DRAFT_F32, 1, &sums->all, &sums->n);
    if (g->tail != DRAFT_TAIL_DROP)
        check_means(s, "tail_v", g->tail_v, (draft_type)g->type, 1, &sums->all, &sums->n);
}

draft_status draft_trial_check_pool(const struct draft_maps *maps)
{
    const struct draft_geometry *g = maps->g;
    struct sums *sums = draft_calloc(1, sizeof *sums);
    DRAFT_REQUIRE(&maps->plan->context->log, DRAFT_ERROR_MEMORY, sums,
                  "out of host memory for a self-test");
    const struct {
        const uint8_t *tensor;
        uint32_t heads;
        void (*check)(struct source *, struct sums *);
    } tensors[] = {{maps->q, g->heads, check_queries},
                   {maps->k, g->kv_heads, check_keys},
                   {maps->v, g->kv_heads, check_values}};
    for (int n = 0; n < 3; n++)
        for (uint32_t row = 0; row < g->batch * tensors[n].heads * g->video_blocks; row++) {
            uint32_t head = row / g->video_blocks, heads = tensors[n].heads;
            struct source s = {maps,         tensors[n].tensor,     heads, head / heads,
                               head % heads, row % g->video_blocks, row};
            tensors[n].check(&s, sums);
        }
    draft_release(sums);
    return DRAFT_OK;
}
