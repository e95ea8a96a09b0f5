/* SPDX-License-Identifier: MIT */
#include "random_cases.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
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

/* As many blocks as rows of lists, words of bits and tiles of kernels have places, or one off that. */
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

/* ---- What is refused ---- */

static const char *spoil_shape(struct draft_plan_params *p, uint32_t which)
{
    struct draft_shape *s = &p->shape;
    switch (which) {
    case 0:
        s->dim += 4;
        return "dim is not a multiple of 8";
    case 1:
        s->dim = 136;
        return "dim above 128";
    case 2:
        s->heads = 5;
        s->kv_heads = 2;
        p->head_sparsity = NULL;
        return "kv_heads does not divide heads";
    case 3:
        s->width = 0;
        return "no column";
    case 4:
        p->tile = (struct draft_tile){1, 8, 17};
        return "a tile of 136 tokens";
    default:
        p->tile = (struct draft_tile){2, 0, 2};
        return "a tile with an extent of 0";
    }
}

static const char *spoil_rule(struct draft_plan_params *p, uint32_t which)
{
    bool mass = p->rule == DRAFT_RULE_MASS;
    switch (which) {
    case 0:
        p->head_sparsity = NULL;
        p->sparsity = mass ? 0.5 : 1;
        return "sparsity";
    case 1:
        p->mass = mass ? 1.5 : 0.5;
        return "mass";
    case 2:
        p->force = p->rule == DRAFT_RULE_PAPER ? 1 : 8;
        return "force";
    case 3:
        p->row_floor = p->rule == DRAFT_RULE_HEAD ? 1.0001 : 0.5;
        return "row_floor";
    case 4:
        p->scale = -INFINITY;
        return "scale";
    default:
        p->scorer = p->rule == DRAFT_RULE_PAPER ? DRAFT_SCORER_LSE : (draft_scorer)5;
        return "scorer";
    }
}

const char *random_case_spoil(struct random_case *c, uint64_t seed)
{
    struct rng mixed = {~seed};
    uint32_t which = rng_below(&mixed, 12);
    return which < 6 ? spoil_shape(&c->test.params, which) : spoil_rule(&c->test.params, which - 6);
}

/* ---- In words ---- */

struct words {
    char text[900];
    size_t used;
};

static void say(struct words *w, bool is, const char *format, ...) DRAFT_PRINTF(3, 4);

static void say(struct words *w, bool is, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    int n = is ? vsnprintf(w->text + w->used, sizeof w->text - w->used, format, arguments) : 0;
    va_end(arguments);
    w->used = at_most((uint32_t)(w->used + (size_t)n), sizeof w->text - 1);
}

static void say_rule(struct words *w, const struct draft_plan_params *p)
{
    static const char *const rules[] = {"", "head", "row", "mass", "paper"};
    static const char *const scorers[] = {"", "mean", "lse", "max", "excess"};
    static const char *const tails[] = {"", "drop", "mean", "gap", "fitted"};
    say(w, true, ", rule %s, scorer %s, tail %s", rules[p->rule], scorers[p->scorer],
        tails[p->tail]);
    say(w, p->sparsity != 0, ", sparsity %.17g", p->sparsity);
    for (uint32_t h = 0; p->head_sparsity && h < p->shape.heads; h++)
        say(w, true, "%s%.17g", h ? " " : ", head sparsities ", p->head_sparsity[h]);
    say(w, p->mass != 0, ", mass %.17g", p->mass);
    say(w, p->row_floor != 0, ", row floor %.17g", p->row_floor);
    say(w, p->force != 0, ", force %u", p->force);
    say(w, p->scale != 0, ", scale %.9g", (double)p->scale);
}

const char *random_case_words(const struct random_case *c)
{
    static const char *const fills[] = {"smooth",   "constant", "rows",  "spike",
                                        "denormal", "extreme",  "large", "squares"};
    static struct words w;
    const struct test_case *t = &c->test;
    const struct draft_shape *s = &t->params.shape;
    const struct draft_tile *tile = &t->params.tile;
    w.used = 0;
    say(&w, true, "%s, dim %u, grid %ux%ux%u", type_name(t->params.type), s->dim, s->frames,
        s->height, s->width);
    say(&w, true, ", tile %ux%ux%u", tile->t, tile->h, tile->w);
    say(&w, s->prefix || s->suffix, ", text %u + %u", s->prefix, s->suffix);
    say(&w, true, ", heads %u of %u, batch %u", s->heads, s->kv_heads, s->batch);
    say_rule(&w, &t->params);
    for (uint32_t b = 0; t->valid && (b == 0 || b < s->batch); b++)
        say(&w, true, ", valid %u + %u", t->valid[b][0], t->valid[b][1]);
    say(&w, t->fill != FILL_SMOOTH, ", fill %s", fills[t->fill]);
    say(&w, t->gap, ", gap %u", t->gap);
    say(&w, t->heads_first, ", heads first");
    say(&w, t->lone_strides, ", lone strides");
    say(&w, t->no_lse, ", no lse");
    say(&w, t->kept_only, ", kept only");
    say(&w, t->stages, ", stages %u", t->stages);
    say(&w, t->cuts, ", cuts %u", t->cuts);
    say(&w, t->again, ", again %u", t->again);
    return w.text;
}

/* ---- Less of it ---- */

static bool change(uint32_t *number, uint32_t to)
{
    bool changes = *number != to;
    *number = to;
    return changes;
}

static bool clear(bool *flag)
{
    bool was = *flag;
    *flag = false;
    return was;
}

static bool less_of_shape(struct draft_shape *s, struct draft_tile *tile, unsigned step)
{
    switch (step) {
    case 0:
        return s->batch > 1 && change(&s->batch, 1);
    case 1:
        return change(&s->prefix, s->prefix / 2);
    case 2:
        return change(&s->suffix, s->suffix / 2);
    case 3:
        return s->kv_heads && change(&s->kv_heads, 0);
    case 4:
        s->kv_heads = 0;
        return change(&s->heads, 1);
    case 5:
        return change(&s->frames, (s->frames + 1) / 2);
    case 6:
        return change(&s->height, (s->height + 1) / 2);
    case 7:
        return change(&s->width, (s->width + 1) / 2);
    case 8:
        return s->dim > 64 ? change(&s->dim, 64) : change(&s->dim, 8);
    default:
        return tile->t > 1 && change(&tile->t, 1);
    }
}

static bool less_of_rule(struct draft_plan_params *p, unsigned step)
{
    struct draft_plan_params was = *p;
    switch (step) {
    case 0:
        p->sparsity = p->head_sparsity ? p->head_sparsity[0] : p->sparsity;
        p->head_sparsity = NULL;
        break;
    case 1:
        p->force = 0;
        break;
    case 2:
        p->row_floor = 0;
        break;
    case 3:
        p->scale = 0;
        break;
    case 4:
        p->scorer = DRAFT_SCORER_MEAN;
        break;
    case 5:
        p->tail = DRAFT_TAIL_DROP;
        break;
    default:
        p->sparsity = p->sparsity > 0 ? 0.5 : 0;
    }
    return p->head_sparsity != was.head_sparsity || p->force != was.force ||
           p->row_floor != was.row_floor || p->scale != was.scale || p->scorer != was.scorer ||
           p->tail != was.tail || p->sparsity != was.sparsity;
}

bool random_case_less(struct random_case *c, unsigned step)
{
    struct test_case *t = &c->test;
    if (step < 10)
        return less_of_shape(&t->params.shape, &t->params.tile, step);
    if (step < 17)
        return less_of_rule(&t->params, step - 10);
    switch (step) {
    case 17: {
        bool has = t->valid;
        t->valid = NULL;
        return has;
    }
    case 18:
        return change(&t->gap, 0);
    case 19:
        return clear(&t->heads_first);
    case 20:
        return clear(&t->lone_strides);
    case 21:
        return clear(&t->kept_only);
    case 22:
        return change(&t->cuts, 0);
    case 23:
        return change(&t->again, 0);
    default: {
        bool filled = t->fill != FILL_SMOOTH && t->fill != FILL_LARGE;
        t->fill = filled ? FILL_SMOOTH : t->fill;
        return filled;
    }
    }
}
