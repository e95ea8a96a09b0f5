/* SPDX-License-Identifier: MIT */
#include "random_walk.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cells_tail.h"

bool walk_one_in(struct walk *w, uint32_t n)
{
    return rng_below(&w->r, n) == 0;
}

size_t walk_heads(const struct walk *w)
{
    return (size_t)w->problem.batch * w->problem.heads;
}

void walk_expect(struct walk *w, bool right, const char *what)
{
    w->bad += !right;
    if (!right)
        test_print("    %s: %s\n", w->cell, what);
}

uint8_t *walk_copy(const struct buffer *b)
{
    uint8_t *bytes = test_alloc(b->size, 1);
    memcpy(bytes, buffer_read(b), b->size);
    return bytes;
}

void walk_accept(struct walk *w)
{
    struct buffer *buffers[] = {&w->rig.workspace, &w->rig.out, &w->rig.lse};
    for (size_t i = 0; i < 3; i++)
        memcpy(buffer_image(buffers[i]), buffer_read(buffers[i]), buffers[i]->size);
}

/* ---- Runs ---- */

uint32_t walk_needs(const struct walk *w, uint32_t stages)
{
    uint32_t held = w->held;
    bool tail = w->rig.layout.bias;
    if (stages & DRAFT_ATTEND && tail)
        stages |= (DRAFT_POOL | DRAFT_SCORE) & ~held;
    if (stages & DRAFT_SCORE && tail) /* it clears the signs of the bias */
        held &= ~(uint32_t)DRAFT_SELECT;
    if (stages & DRAFT_ATTEND)
        stages |= DRAFT_SELECT & ~held;
    if (stages & DRAFT_SELECT)
        stages |= DRAFT_SCORE & ~held;
    if (stages & DRAFT_SCORE)
        stages |= DRAFT_POOL & ~held;
    return stages;
}

/* What a backend has for itself is nothing that one run may leave to the next. */
static void poison_scratch(struct walk *w)
{
    size_t size = (size_t)w->rig.plan->scratch_size;
    uint8_t *poison = test_alloc(size + 1, 1);
    memset(poison, POISON, size);
    if (size)
        buffer_put(&w->rig.workspace, (size_t)w->rig.plan->geometry.scratch, poison, size);
    free(poison);
}

static void enqueue(struct walk *w, uint32_t stages)
{
    uint32_t piece = 0;
    for (uint32_t stage = 1; stage <= stages; stage <<= 1) {
        piece |= stage & stages;
        if (!piece || (stages >= stage << 1 && !walk_one_in(w, 3)))
            continue;
        w->rig.run.stages = piece == 15 && walk_one_in(w, 2) ? 0 : piece;
        OK(draft_run(w->rig.plan, &w->rig.run));
        if (walk_one_in(w, 3))
            OK(draft_wait(w->device->context));
        piece = 0;
    }
    OK(draft_wait(w->device->context));
}

void walk_launch(struct walk *w, uint32_t stages)
{
    if (stages & DRAFT_ATTEND) {
        buffer_poison(&w->rig.out);
        buffer_poison(&w->rig.lse);
    }
    if (walk_one_in(w, 2))
        poison_scratch(w);
    enqueue(w, stages);
    if (stages & DRAFT_SCORE && w->rig.layout.bias)
        w->held &= ~(uint32_t)DRAFT_SELECT;
    w->held |= stages;
    w->bad += !rig_intact(&w->rig, stages);
}

void walk_check_attend(struct walk *w, const uint8_t *unknown)
{
    const struct draft_layout *l = &w->rig.layout;
    struct expected expected;
    struct tail tail = w->rig.run.flags ? (struct tail){0} : rig_tail(&w->rig);
    expected_init(&expected, &w->problem, rig_workspace(&w->rig, l->counts),
                  rig_workspace(&w->rig, l->lists), &tail);
    expected.unknown = unknown;
    w->bad += check_attend(&w->rig, &expected, w->cell);
    expected_free(&expected);
}

void walk_run(struct walk *w, uint32_t stages)
{
    stages = walk_needs(w, stages);
    walk_launch(w, stages);
    if (stages & DRAFT_POOL)
        w->bad += check_pool(&w->rig, w->cell);
    if (stages & DRAFT_SCORE)
        w->bad += check_score(&w->rig, w->cell);
    if (stages & DRAFT_SCORE && !(stages & DRAFT_SELECT))
        w->bad += tail_unmarked(&w->rig, w->cell);
    if (stages & DRAFT_SELECT)
        w->bad += check_select(&w->rig, w->cell);
    if (stages & DRAFT_ATTEND)
        walk_check_attend(w, NULL);
    walk_accept(w);
}

static void step_run(struct walk *w)
{
    w->rig.run.lse = walk_one_in(w, 2) ? w->rig.lse.data : 0;
    w->rig.run.flags = walk_one_in(w, 4) ? DRAFT_RUN_KEPT_ONLY : 0;
    walk_run(w, 1 + rng_below(&w->r, 15));
}

/* ---- Other tensors ---- */

void walk_put_tensors(struct walk *w)
{
    buffer_put(&w->rig.q, 0, w->problem.q.bytes, w->problem.q.size);
    buffer_put(&w->rig.k, 0, w->problem.k.bytes, w->problem.k.size);
    buffer_put(&w->rig.v, 0, w->problem.v.bytes, w->problem.v.size);
}

static void put_factors(struct walk *w)
{
    static const float factors[] = {0, 0.3f, 1, 1.5f, 2, -1, INFINITY, NAN, -0.0f};
    size_t at = (size_t)w->rig.layout.factors;
    for (size_t h = 0; h < walk_heads(w) && at; h++) {
        uint32_t which = rng_below(&w->r, 9);
        memcpy(buffer_image(&w->rig.workspace) + at + h * 4, &factors[which], 4);
    }
    if (at)
        OK(draft_factors_write(w->rig.plan, w->rig.workspace.data,
                               (const float *)(buffer_image(&w->rig.workspace) + at)));
}

/* The same shape with other numbers, which depend on the name. */
static void change_tensors(struct walk *w)
{
    struct draft_tile tile = w->problem.grid.tile;
    snprintf(w->name, sizeof w->name, "other tensors %u", (uint32_t)rng_next(&w->r));
    problem_free(&w->problem);
    problem_init(&w->problem, &w->test, tile);
    walk_put_tensors(w);
}

static void step_tensors(struct walk *w)
{
    static const uint32_t next[] = {DRAFT_ATTEND, DRAFT_POOL | DRAFT_ATTEND, DRAFT_POOL,
                                    DRAFT_POOL | DRAFT_SCORE, 15};
    change_tensors(w);
    put_factors(w);
    walk_run(w, next[rng_below(&w->r, 5)]);
}

/* ---- Another plan ---- */

static draft_plan *make_other(struct walk *w)
{
    static const struct draft_plan_params methods[] = {
        {.rule = DRAFT_RULE_HEAD, .scorer = DRAFT_SCORER_MEAN, .tail = DRAFT_TAIL_DROP},
        {.rule = DRAFT_RULE_ROW, .scorer = DRAFT_SCORER_LSE, .tail = DRAFT_TAIL_GAP},
        {.rule = DRAFT_RULE_MASS, .scorer = DRAFT_SCORER_MAX, .tail = DRAFT_TAIL_MEAN},
        {.rule = DRAFT_RULE_ROW, .scorer = DRAFT_SCORER_EXCESS, .tail = DRAFT_TAIL_FITTED},
    };
    uint32_t kinds = w->problem.grid.video_blocks > 100 ? 3 : 4;
    struct test_case other = w->test;
    other.params = methods[rng_below(&w->r, kinds)];
    other.params.shape = w->test.params.shape;
    other.params.type = w->test.params.type;
    other.params.tile = w->problem.grid.tile;
    other.params.sparsity = other.params.rule == DRAFT_RULE_MASS ? 0 : 0.5;
    other.unsaid = 0;
    draft_plan *plan = NULL;
    OK(rig_plan(w->device, &other, "", &plan));
    return plan;
}

/* What it leaves in a workspace means nothing to the plan of the walk; in another workspace it
 * changes nothing of this one. */
static void step_plan(struct walk *w)
{
    draft_context *context = w->device->context;
    draft_plan *other = make_other(w);
    struct draft_run_params run = w->rig.run;
    bool shared = other->layout.size <= w->rig.layout.size;
    run.stages = 0;
    if (!shared)
        OK(draft_alloc(context, (size_t)other->layout.size, &run.workspace));
    if (other->layout.factors)
        OK(draft_factors_write(other, run.workspace, NULL));
    OK(draft_run(other, &run));
    if (shared) {
        OK(draft_wait(context));
        buffer_get(&w->rig.workspace);
        walk_accept(w);
        w->held = 0;
        put_factors(w);
    }
    walk_run(w, shared || walk_one_in(w, 2) ? 15 : DRAFT_ATTEND);
    if (!shared)
        draft_free(context, run.workspace);
    draft_plan_destroy(&other);
}

/* ---- Tensors that share memory ---- */

/* out may lie on no other tensor; where a run does not attend there is none. */
static void refuse_overlap(struct walk *w)
{
    struct rig *rig = &w->rig;
    const struct draft_tensor *on[] = {&rig->run.q, &rig->run.k, &rig->run.v}, out = rig->run.out;
    const struct buffer *buffers[] = {&rig->q, &rig->k, &rig->v};
    uint32_t which = rng_below(&w->r, 3);
    rig->run.out = *on[which];
    if (!on[which]->token_stride && !on[which]->head_stride && !on[which]->batch_stride) {
        const struct problem *p = &w->problem;
        uint64_t size =
            (uint64_t)p->batch * p->grid.tokens * p->heads * p->dim * type_size(p->q.type);
        uint64_t from = rig->run.out.data + 16 - size, bytes = size + buffers[which]->size - 16;
        rig->run.out.data = from + rng_below(&w->r, (uint32_t)(bytes / 16)) * 16u;
    }
    rig->run.stages = walk_needs(w, DRAFT_ATTEND);
    walk_expect(w, draft_run(rig->plan, &rig->run) == DRAFT_ERROR_ARGUMENT, "out may overlap");
    w->bad += !rig_intact(rig, 0);
    walk_run(w, DRAFT_POOL);
    rig->run.out = out;
}

/* One tensor of the rig in the rows of a buffer that all four share, `first` elements into each
 * token of `width`: to the buffer, or with `back` from there compared with the rig's. */
static bool take_rows(const struct host_tensor *t, const uint8_t *rows, uint8_t *fused,
                      uint64_t first, uint64_t width, bool back)
{
    size_t size = type_size(t->type), bytes = t->dim * size;
    bool same = true;
    for (uint32_t b = 0; b < t->batch; b++)
        for (uint32_t token = 0; token < t->tokens; token++)
            for (uint32_t head = 0; head < t->heads; head++) {
                uint64_t at = ((uint64_t)b * t->tokens + token) * width + first + head * t->dim;
                const uint8_t *row = rows + tensor_row(t, b, token, head) * size;
                if (back)
                    same &= memcmp(fused + at * size, row, bytes) == 0;
                memcpy(fused + at * size, row, bytes);
            }
    return same;
}

/* q, k, v and out of a token lie side by side. */
static void fuse(struct walk *w)
{
    struct rig *rig = &w->rig;
    const struct problem *p = &w->problem;
    const struct host_tensor *tensors[] = {&p->q, &p->k, &p->v, &p->out};
    const uint8_t *rows[] = {p->q.bytes, p->k.bytes, p->v.bytes, NULL};
    uint64_t width = 2 * (uint64_t)(p->heads + p->kv_heads) * p->dim, first[4] = {0};
    size_t size = type_size(p->q.type);
    struct buffer all;
    walk_run(w, 15);
    struct draft_run_params run = rig->run;
    struct draft_tensor *parts[] = {&run.q, &run.k, &run.v, &run.out};
    buffer_init(&all, w->device->context, (size_t)(p->batch * p->grid.tokens * width) * size);
    uint8_t *image = test_alloc(all.size, 1);
    memset(image, POISON, all.size);
    for (int i = 0; i < 4; i++) {
        first[i] = i ? first[i - 1] + (uint64_t)tensors[i - 1]->heads * p->dim : 0;
        *parts[i] = (struct draft_tensor){all.data + first[i] * size, p->grid.tokens * width, width,
                                          p->dim};
        if (rows[i])
            take_rows(tensors[i], rows[i], image, first[i], width, false);
    }
    buffer_put(&all, 0, image, all.size);
    run.stages = 0;
    OK(draft_run(rig->plan, &run));
    OK(draft_wait(w->device->context));
    memcpy(image, buffer_get(&all), all.size);
    bool same = take_rows(&p->out, buffer_read(&rig->out), image, first[3], width, true);
    walk_expect(w, same, "tensors side by side have another result");
    take_rows(&p->out, buffer_read(&rig->out), buffer_image(&all), first[3], width, false);
    walk_expect(w, !same || buffer_intact(&all, "tensors", NULL, 0), "more than out has changed");
    free(image);
    buffer_free(&all);
}

/* v is k: they may be one. */
static void attend_keys(struct walk *w)
{
    struct draft_tensor v = w->rig.run.v;
    if (w->test.fill > FILL_DENORMAL) /* k as v would be too large */
        return;
    memcpy(w->problem.exact_v, w->problem.exact_k,
           (size_t)w->problem.batch * w->problem.kv_heads * w->problem.grid.tokens *
               w->problem.dim * sizeof *w->problem.exact_v);
    w->rig.run.v = w->rig.run.k;
    walk_run(w, 15);
    w->rig.run.v = v;
    change_tensors(w);
}

static void step_shared(struct walk *w)
{
    refuse_overlap(w);
    if (walk_one_in(w, 2))
        fuse(w);
    else
        attend_keys(w);
}

/* ---- All of them ---- */

static void (*const kinds[STEP_KINDS])(struct walk *) = {
    step_run, walk_lists, walk_probe, step_tensors, walk_strange, step_plan, step_shared,
};

/* With the variant of attend that the case names, where it takes the case. */
static void make_plan(struct walk *w, uint32_t variant)
{
    const char *const *names = w->device->context->backend->variants(DRAFT_ATTEND);
    const char *chosen = w->device->trusted ? "" : NULL;
    uint32_t count = 0;
    while (names[count])
        count++;
    const char *name = variant == UINT32_MAX ? NULL : names[variant % (count + 1)];
    draft_plan *plan = NULL;
    if (!name || rig_plan(w->device, &w->test, name, &plan) == DRAFT_ERROR_UNSUPPORTED)
        OK(rig_plan(w->device, &w->test, chosen, &plan));
    problem_init(&w->problem, &w->test, plan->layout.tile);
    rig_init(&w->rig, w->device, &w->problem, plan);
}

struct attempt {
    const struct random_case *c;
    struct walk w;
};

static void attempt_walk(void *user)
{
    struct attempt *a = user;
    struct walk *w = &a->w;
    make_plan(w, a->c->variant);
    rig_reset(&w->rig);
    for (uint32_t i = 0; i < a->c->step_count && !w->bad; i++) {
        w->r.state = a->c->steps[i].number;
        kinds[a->c->steps[i].kind](w);
        if (w->bad)
            test_print("    in step %u of the walk\n", i);
    }
}

static void attempt_free(void *user)
{
    struct attempt *a = user;
    if (draft_wait(a->w.device->context))
        test_print("    wait failed\n");
    rig_free(&a->w.rig);
    problem_free(&a->w.problem);
}

size_t random_walk(struct test_device *device, const struct random_case *c, cell_told *told)
{
    struct attempt a = {.c = c, .w = {.device = device, .test = c->test}};
    struct cell cell = {device, "walk", NULL};
    struct outcome outcome = {0};
    if (c->step_count == 0 || !case_has(&c->test, DRAFT_ATTEND))
        return 0;
    snprintf(a.w.name, sizeof a.w.name, "%s", c->name);
    a.w.test.name = a.w.name;
    a.w.cell = cell_name(device, "walk", NULL);
    bool whole = test_attempt(attempt_walk, &a);
    if (!whole)
        test_print("    walk: not finished\n");
    outcome.mismatches = a.w.bad + !(test_attempt(attempt_free, &a) && whole);
    told(NULL, &cell, &outcome);
    return outcome.mismatches;
}
