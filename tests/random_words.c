/* SPDX-License-Identifier: MIT
 *
 * What a random case is in words, what breaks it, and what takes something away from it. */
#include "random_cases.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "harness.h"

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
    c->test.unsaid = 0;
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
    w->used += (size_t)n;
    w->used = w->used < sizeof w->text ? w->used : sizeof w->text - 1;
}

static void say_rule(struct words *w, const struct draft_plan_params *p, uint32_t unsaid)
{
    static const char *const rules[] = {"", "head", "row", "mass", "paper"};
    static const char *const scorers[] = {"", "mean", "lse", "max", "excess"};
    static const char *const tails[] = {"", "drop", "mean", "gap", "fitted"};
    say(w, true, ", rule %s%s, scorer %s%s, tail %s%s", unsaid & UNSAID_RULE ? "default " : "",
        rules[p->rule], unsaid & UNSAID_SCORER ? "default " : "", scorers[p->scorer],
        unsaid & UNSAID_TAIL ? "default " : "", tails[p->tail]);
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
    static const char *const kinds[] = {"run",     "lists", "probe", "tensors",
                                        "strange", "plan",  "shared"};
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
    say_rule(&w, &t->params, t->unsaid);
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
    say(&w, c->step_count, ", variant %u, walk", c->variant);
    for (uint32_t i = 0; i < c->step_count; i++)
        say(&w, true, " %s %u", kinds[c->steps[i].kind], c->steps[i].number);
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

static bool less_of_walk(struct random_case *c, uint32_t step)
{
    if (step >= c->step_count)
        return false;
    c->step_count--;
    memmove(c->steps + step, c->steps + step + 1, (c->step_count - step) * sizeof *c->steps);
    return true;
}

static bool less_of_case(struct test_case *t, unsigned number)
{
    bool filled = t->fill != FILL_SMOOTH && t->fill != FILL_LARGE, valid = t->valid;
    switch (number) {
    case 0:
        t->valid = NULL;
        return valid;
    case 1:
        return change(&t->gap, 0);
    case 2:
        return clear(&t->heads_first);
    case 3:
        return clear(&t->lone_strides);
    case 4:
        return clear(&t->kept_only);
    case 5:
        return change(&t->cuts, 0);
    case 6:
        return change(&t->again, 0);
    case 7:
        return change(&t->unsaid, 0);
    default:
        t->fill = filled ? FILL_SMOOTH : t->fill;
        return filled;
    }
}

bool random_case_less(struct random_case *c, unsigned number)
{
    struct test_case *t = &c->test;
    bool less = false;
    if (number < RANDOM_MOST_STEPS)
        return less_of_walk(c, number);
    number -= RANDOM_MOST_STEPS;
    if (number < 10)
        less = less_of_shape(&t->params.shape, &t->params.tile, number);
    else if (number < 17)
        less = less_of_rule(&t->params, number - 10);
    else if (number < 26)
        less = less_of_case(t, number - 17);
    else
        less = change(&c->variant, UINT32_MAX);
    random_case_settle(c);
    return less;
}
