/* SPDX-License-Identifier: MIT */
#include "random_cases.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness.h"

/* What keeps one case well under a second on the slowest device: tokens of a sample and of all
 * heads, video blocks, which count squared, and those of EXCESS, whose scores are 64 products. */
enum { MOST_TOKENS = 400, MOST_ROWS = 450, MOST_BLOCKS = 260, MOST_EXCESS_BLOCKS = 135 };

#define ONE_OF(r, ...)                                                                             \
    ((const double[]){__VA_ARGS__}[rng_below(r, sizeof((const double[]){__VA_ARGS__}) / 8)])

static bool one_in(struct rng *r, uint32_t n)
{
    return rng_below(r, n) == 0;
}

static uint32_t at_most(uint32_t x, uint32_t most)
{
    return x < most ? x : most;
}

static uint32_t at_least(uint32_t x, uint32_t least)
{
    return x > least ? x : least;
}

/* ---- Shape ---- */

static void draw_tile(struct rng *r, struct draft_plan_params *p)
{
    uint32_t extent[3] = {1, 1, 1}, left = 128, first = rng_below(r, 3), kind = rng_below(r, 6);
    p->tile = (struct draft_tile){1, 8, 16};
    if (kind == 0)
        p->tile = (struct draft_tile){0};
    if (kind <= 1 || p->rule == DRAFT_RULE_PAPER)
        return;
    for (uint32_t i = 0; i < 3 && !one_in(r, 10); i++) {
        uint32_t any = 1 + rng_below(r, 1u << rng_below(r, 8));
        extent[(first + i) % 3] = one_in(r, 6) ? left : at_most(any, left);
        left /= extent[(first + i) % 3];
    }
    p->tile = (struct draft_tile){extent[0], extent[1], extent[2]};
}

/* A few tiles long, or one token off that; 1; anything. */
static uint32_t draw_axis(struct rng *r, uint32_t tile)
{
    uint32_t whole = (tile ? tile : 1 + rng_below(r, 12)) * (1 + rng_below(r, 4));
    switch (rng_below(r, 6)) {
    case 0:
        return 1;
    case 1:
        return whole + 1;
    case 2:
        return at_least(whole, 2) - 1;
    case 3:
        return 1 + rng_below(r, whole);
    default:
        return whole;
    }
}

static uint32_t draw_text(struct rng *r)
{
    static const uint32_t edges[] = {1, 2, 8, 127, 128, 129, 256, 257};
    switch (rng_below(r, 12)) {
    case 0:
        return edges[rng_below(r, sizeof edges / sizeof *edges)];
    case 1:
    case 2:
    case 3:
        return 1 + rng_below(r, 30);
    case 4:
        return 1 + rng_below(r, 150);
    default:
        return 0;
    }
}

static uint32_t tiles_of(const struct draft_plan_params *p)
{
    const struct draft_shape *s = &p->shape;
    struct draft_tile tile = p->tile;
    if (p->rule == DRAFT_RULE_PAPER)
        tile = (struct draft_tile){1, 8, 16};
    if (!tile.t) /* chosen ones are large */
        return s->frames * s->height * s->width / 32;
    return ((s->frames - 1) / tile.t + 1) * ((s->height - 1) / tile.h + 1) *
           ((s->width - 1) / tile.w + 1);
}

/* The longest axis loses a tile, so that it ends where it ended, or half. */
static void shorten(struct draft_shape *s, struct draft_tile tile)
{
    uint32_t *axes[] = {&s->frames, &s->height, &s->width};
    const uint32_t extent[] = {tile.t, tile.h, tile.w};
    int longest = 0;
    for (int axis = 1; axis < 3; axis++)
        longest = *axes[axis] > *axes[longest] ? axis : longest;
    uint32_t *length = axes[longest], piece = extent[longest];
    *length = piece && *length > 2 * piece ? *length - piece : (*length + 1) / 2;
}

/* As many blocks as rows of lists, words of bits, tiles of kernels have places, or one off that. */
static void draw_blocks(struct rng *r, struct draft_plan_params *p, uint32_t most)
{
    static const uint32_t edges[] = {8, 16, 32, 64, 128, 256};
    uint32_t n = at_most(edges[rng_below(r, 6)], most - 2),
             extent = n > 64 ? 1 : 1 + rng_below(r, 3);
    uint32_t tiles = n - 1 + rng_below(r, 3), length = tiles * extent - rng_below(r, extent);
    p->tile = (struct draft_tile){1, 1, extent};
    p->shape.frames = p->shape.height = 1;
    p->shape.width = length;
    if (one_in(r, 2)) {
        p->tile = (struct draft_tile){extent, 1, 1};
        p->shape.frames = length;
        p->shape.width = 1;
    }
}

static void draw_grid(struct rng *r, struct draft_plan_params *p)
{
    struct draft_shape *s = &p->shape;
    uint32_t most = (uint32_t)ONE_OF(r, 12, 40, 40, 150, MOST_TOKENS);
    uint32_t blocks = p->scorer == DRAFT_SCORER_EXCESS ? MOST_EXCESS_BLOCKS : MOST_BLOCKS;
    if (one_in(r, 6) && p->rule != DRAFT_RULE_PAPER) {
        draw_blocks(r, p, blocks);
        return;
    }
    s->frames = draw_axis(r, p->tile.t);
    s->height = draw_axis(r, p->tile.h);
    s->width = draw_axis(r, p->tile.w);
    while (s->frames * s->height * s->width > most || tiles_of(p) > blocks)
        shorten(s, p->tile);
}

static void draw_shape(struct rng *r, struct draft_plan_params *p)
{
    static const uint32_t dims[] = {8, 64, 64, 128, 128, 120, 72, 16};
    struct draft_shape *s = &p->shape;
    draw_grid(r, p);
    s->prefix = draw_text(r);
    s->suffix = draw_text(r);
    s->dim = one_in(r, 2) ? 8 + 8 * rng_below(r, 16) : dims[rng_below(r, 8)];
    uint32_t tokens = s->frames * s->height * s->width + s->prefix + s->suffix;
    uint32_t heads = at_least(at_most(MOST_ROWS / tokens, RANDOM_MOST_HEADS), 1);
    s->batch = at_most((uint32_t)ONE_OF(r, 0, 0, 1, 2, 3), heads);
    s->kv_heads = 1 + rng_below(r, heads / at_least(s->batch, 1));
    s->heads = s->kv_heads * (1 + rng_below(r, heads / at_least(s->batch, 1) / s->kv_heads));
    if (s->kv_heads == s->heads && one_in(r, 2))
        s->kv_heads = 0;
}

/* ---- Rules ---- */

/* What rounds one way or the other for n pairs is as likely as anything else. */
static double draw_share(struct rng *r, double n)
{
    double whole = rng_below(r, (uint32_t)n + 1) / n;
    switch (rng_below(r, 6)) {
    case 0:
        return ONE_OF(r, 0, 1e-12, 0.5, 0.9, 0.99, 0.9999, 1 - 0x1p-53);
    case 1:
        return fmin(fmax(whole, 0), 1 - 0x1p-53);
    case 2:
        return fmin(whole + 0.5 / n, 1 - 0x1p-53);
    default:
        return rng_unit(r);
    }
}

static void draw_methods(struct rng *r, struct draft_plan_params *p)
{
    p->rule = (draft_rule)ONE_OF(r, DRAFT_RULE_HEAD, DRAFT_RULE_HEAD, DRAFT_RULE_ROW,
                                 DRAFT_RULE_ROW, DRAFT_RULE_MASS, DRAFT_RULE_PAPER);
    p->scorer = DRAFT_SCORER_MEAN;
    p->tail = DRAFT_TAIL_DROP;
    if (p->rule == DRAFT_RULE_PAPER)
        return;
    p->scorer = (draft_scorer)ONE_OF(r, DRAFT_SCORER_MEAN, DRAFT_SCORER_LSE, DRAFT_SCORER_MAX,
                                     DRAFT_SCORER_EXCESS, DRAFT_SCORER_EXCESS);
    p->tail = (draft_tail)ONE_OF(r, DRAFT_TAIL_DROP, DRAFT_TAIL_MEAN, DRAFT_TAIL_MEAN,
                                 DRAFT_TAIL_GAP, DRAFT_TAIL_FITTED);
    p->force = one_in(r, 2) ? 0 : rng_below(r, DRAFT_FORCE_NEIGHBOURS << 1);
}

/* After the shape. */
static void draw_budget(struct rng *r, struct random_case *c)
{
    struct draft_plan_params *p = &c->test.params;
    double s = at_least(tiles_of(p), 1), n = p->rule == DRAFT_RULE_ROW ? s : s * s;
    if (p->rule == DRAFT_RULE_MASS) {
        p->mass = one_in(r, 2) ? rng_unit(r) : ONE_OF(r, 0, 1, 1e-12, 0x1p-31, 0.5, 1 - 0x1p-53);
        return;
    }
    for (uint32_t h = 0; h < p->shape.heads; h++)
        c->head_sparsity[h] = draw_share(r, n);
    if (one_in(r, 5))
        p->head_sparsity = c->head_sparsity;
    else
        p->sparsity = draw_share(r, n);
    if (p->rule == DRAFT_RULE_HEAD && one_in(r, 2))
        p->row_floor = one_in(r, 4) ? 1 : draw_share(r, s);
}

/* ---- Contents ---- */

/* With what the header promises: sums of |q k| with the scale and without, and |v| times the number
 * of keys, are finite in f32. */
static void draw_content(struct rng *r, struct test_case *test)
{
    struct draft_plan_params *p = &test->params;
    const struct draft_shape *s = &p->shape;
    uint32_t tokens = s->frames * s->height * s->width + s->prefix + s->suffix;
    test->fill = one_in(r, 2) ? FILL_SMOOTH : (enum fill)rng_below(r, FILL_SQUARES + 1);
    if (p->type == DRAFT_F16 && test->fill >= FILL_LARGE)
        test->fill = FILL_SMOOTH;
    if (s->kv_heads && s->kv_heads < s->heads && test->fill == FILL_LARGE)
        test->fill = FILL_EXTREME; /* large q and k, of an even and an odd head, would meet */
    float sign = one_in(r, 2) ? -1 : 1, some = (float)rng_normal(r);
    if (test->fill == FILL_LARGE) {
        p->scale = sign * (float)ONE_OF(r, 0x1p-103, 0x1p-103, 1, 0x1p10, 0x1p-120);
        if (tokens > 30)
            test->stages = DRAFT_POOL | DRAFT_SCORE | DRAFT_SELECT;
    } else if (test->fill == FILL_SQUARES || test->fill == FILL_EXTREME) {
        p->scale = one_in(r, 2) ? 0 : sign * (float)ONE_OF(r, 1e-6, 1e-4, 1, 1000);
    } else if (one_in(r, 3)) {
        p->scale = one_in(r, 2)
                       ? some
                       : sign * (float)ONE_OF(r, 1, 30, 1e4, 1e-4, 2e-38, 1e-41, 1e20, 1e30);
    }
}

static void draw_valid(struct rng *r, struct random_case *c)
{
    const struct draft_shape *s = &c->test.params.shape;
    const uint32_t length[] = {s->prefix, s->suffix};
    for (uint32_t b = 0; b < RANDOM_MOST_BATCH; b++)
        for (int side = 0; side < 2; side++) {
            uint32_t n = length[side];
            const uint32_t some[] = {0,
                                     1,
                                     n,
                                     n ? n - 1 : 5,
                                     n + 1,
                                     UINT32_MAX,
                                     128,
                                     rng_below(r, n + 1),
                                     rng_below(r, n + 1)};
            c->valid[b][side] = some[rng_below(r, sizeof some / sizeof *some)];
        }
    if (one_in(r, 3))
        c->test.valid = (const uint32_t(*)[2])c->valid;
}

/* ---- Defaults and steps ---- */

void random_case_settle(struct random_case *c)
{
    struct draft_plan_params *p = &c->test.params;
    bool plain = p->rule != DRAFT_RULE_MASS;
    for (uint32_t h = 0; h < p->shape.heads && p->rule != DRAFT_RULE_PAPER; h++)
        plain &= (p->head_sparsity ? p->head_sparsity[h] : p->sparsity) == 0;
    if (c->test.unsaid & UNSAID_TAIL)
        p->tail = plain ? DRAFT_TAIL_DROP : DRAFT_TAIL_MEAN;
    if (c->test.unsaid & UNSAID_SCORER)
        p->scorer = plain                        ? DRAFT_SCORER_MEAN
                    : p->tail == DRAFT_TAIL_DROP ? DRAFT_SCORER_MAX
                                                 : DRAFT_SCORER_EXCESS;
}

static void draw_unsaid(struct rng *r, struct random_case *c)
{
    const struct draft_plan_params *p = &c->test.params;
    uint32_t unsaid = one_in(r, 3) ? 1 + rng_below(r, 7) : 0;
    if (p->rule != DRAFT_RULE_ROW)
        unsaid &= ~(uint32_t)UNSAID_RULE;
    if (tiles_of(p) > MOST_EXCESS_BLOCKS)
        unsaid &= ~(uint32_t)UNSAID_SCORER;
    c->test.unsaid = unsaid;
    random_case_settle(c);
}

/* Simulated devices take seconds for a run of a hundred query blocks, and a step is up to ten. */
static void draw_steps(struct rng *r, struct random_case *c)
{
    const struct draft_shape *s = &c->test.params.shape;
    uint32_t rows = tiles_of(&c->test.params) * s->heads * at_least(s->batch, 1);
    uint32_t most = rows > 200 ? 0 : rows > 100 ? 1 : rows > 30 ? 2 : RANDOM_MOST_STEPS;
    c->step_count = one_in(r, 3) ? 0 : at_most(1 + rng_below(r, RANDOM_MOST_STEPS), most);
    c->variant = (uint32_t)rng_next(r);
    for (uint32_t i = 0; i < RANDOM_MOST_STEPS; i++) {
        c->steps[i].kind = (enum random_kind)rng_below(r, STEP_KINDS);
        c->steps[i].number = (uint32_t)rng_next(r);
    }
}

void random_case_draw(struct random_case *c, uint64_t seed, draft_type f32)
{
    *c = (struct random_case){0};
    struct rng mixed = {seed}, *r = &mixed;
    struct draft_plan_params *p = &c->test.params;
    r->state = rng_next(r);
    snprintf(c->name, sizeof c->name, "random %" PRIu64, seed);
    c->test.name = c->name;
    p->type = (draft_type)(DRAFT_F16 + rng_below(r, 3));
    p->type = p->type == DRAFT_F32 ? f32 : p->type;
    draw_methods(r, p);
    draw_tile(r, p);
    draw_shape(r, p);
    draw_budget(r, c);
    draw_content(r, &c->test);
    draw_valid(r, c);
    c->test.gap = (uint32_t)ONE_OF(r, 0, 0, 0, 1, 2, 3, 5);
    c->test.heads_first = one_in(r, 4);
    c->test.lone_strides = one_in(r, 4);
    c->test.no_lse = one_in(r, 4);
    c->test.kept_only = p->tail != DRAFT_TAIL_DROP && one_in(r, 5);
    c->test.cuts = one_in(r, 3) ? rng_below(r, 8) : 0;
    c->test.again = rng_below(r, 8);
    if (c->test.again & DRAFT_SCORE) /* it writes the bias without signs */
        c->test.again |= DRAFT_SELECT;
    draw_unsaid(r, c);
    draw_steps(r, c);
}

void random_case_copy(struct random_case *to, const struct random_case *from)
{
    *to = *from;
    to->test.name = to->name;
    if (to->test.valid)
        to->test.valid = (const uint32_t(*)[2])to->valid;
    if (to->test.params.head_sparsity)
        to->test.params.head_sparsity = to->head_sparsity;
}

uint64_t random_seeds(uint64_t *first)
{
    const char *text = getenv("DRAFT_RANDOM");
    if (!text || !*text)
        return 0;
    char *end;
    *first = strtoull(text, &end, 0);
    return *end == ',' ? strtoull(end + 1, NULL, 0) : 1;
}
