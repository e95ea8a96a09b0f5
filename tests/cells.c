/* SPDX-License-Identifier: MIT */
#include "cells.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cells_tail.h"

/* ---- Injected input ---- */

static void make_means(const struct problem *p, float *to, uint32_t heads, bool keys)
{
    const struct oracle_grid *g = &p->grid;
    size_t numbers = (size_t)g->video_blocks * p->dim;
    double *mean = test_alloc(numbers, sizeof *mean), *rest = test_alloc(numbers, sizeof *rest);
    uint32_t group = p->heads / heads;
    for (uint32_t b = 0; b < p->batch; b++)
        for (uint32_t h = 0; h < heads; h++) {
            const double *x = keys ? problem_k(p, b, h * group) : problem_q(p, b, h);
            oracle_pool(g, x, mean, rest);
            for (size_t i = 0; i < numbers; i++)
                *to++ = (float)mean[i];
        }
    free(mean);
    free(rest);
}

/* Lists as another method might make them: dense rows, sparse rows, empty rows, text left out. */
static void make_lists(struct inputs *in)
{
    static const double few[] = {0, 0.15, 0.5, 1}, many[] = {0, 0.05, 0.15, 0.5};
    /* One row in 16 keeps half of the blocks, where each has a hundred others. */
    static const double most[] = {0,    0,    0.005, 0.005, 0.005, 0.005, 0.01, 0.01,
                                  0.01, 0.01, 0.02,  0.02,  0.02,  0.05,  0.1,  0.5};
    const struct problem *p = &in->problem;
    size_t blocks = p->grid.blocks, heads = (size_t)p->batch * p->heads;
    const double *shares = blocks > 100 ? most : blocks > 16 ? many : few; /* these are slow */
    uint32_t kinds = shares == most ? 16 : 4;
    struct rng r = rng_of(p->test->name, 'l');
    uint8_t *kept = test_alloc(blocks * blocks, 1);
    in->counts = test_alloc(heads * blocks, sizeof *in->counts);
    in->lists = test_alloc(heads * blocks * blocks, sizeof *in->lists);
    in->order = test_alloc(heads * blocks, sizeof *in->order);
    memset(in->lists, POISON, heads * blocks * blocks * sizeof *in->lists);
    for (size_t h = 0; h < heads; h++) {
        for (size_t i = 0; i < blocks; i++) {
            double share = shares[rng_below(&r, kinds)];
            for (size_t j = 0; j < blocks; j++)
                kept[i * blocks + j] = rng_unit(&r) < share;
        }
        oracle_lists(&p->grid, kept, in->counts + h * blocks, in->lists + h * blocks * blocks,
                     in->order + h * blocks);
    }
    free(kept);
}

static void inputs_init(struct inputs *in, const struct test_case *test, struct draft_tile tile)
{
    *in = (struct inputs){0};
    problem_init(&in->problem, test, tile);
    const struct problem *p = &in->problem;
    size_t numbers = (size_t)p->batch * p->grid.video_blocks * p->dim;
    in->pooled_q = test_alloc(numbers * p->heads, sizeof *in->pooled_q);
    in->pooled_k = test_alloc(numbers * p->kv_heads, sizeof *in->pooled_k);
    make_means(p, in->pooled_q, p->heads, false);
    make_means(p, in->pooled_k, p->kv_heads, true);
    in->tail = tail_inputs_new(p);
    if (!case_has(test, DRAFT_ATTEND))
        return;
    make_lists(in);
    tail_inputs_mark(in->tail, p, in->counts, in->lists);
    struct tail tail = tail_inputs_tail(test->kept_only ? NULL : in->tail);
    expected_init(&in->expected, p, in->counts, in->lists, &tail);
}

void inputs_free(struct inputs *in)
{
    if (in->expected.heads)
        expected_free(&in->expected);
    tail_inputs_free(in->tail);
    free(in->pooled_q);
    free(in->pooled_k);
    free(in->counts);
    free(in->lists);
    free(in->order);
    problem_free(&in->problem);
    *in = (struct inputs){0};
}

/* ---- Maps for select ---- */

enum map_kind {
    MAP_SOFTMAX,  /* a map as score makes them                                */
    MAP_EQUAL,    /* all entries 1 / S                                        */
    MAP_COARSE,   /* four values: ties everywhere                             */
    MAP_ROWS,     /* each row constant, rows differ                           */
    MAP_ONE,      /* one entry of each row is 1, the rest 0                   */
    MAP_DENORMAL, /* denormals and zeros                                      */
    MAP_STRANGE,  /* NaN, infinity, negative, above 1: no order but the bits' */
    MAP_KINDS,
    MAP_LARGE = MAP_ROWS /* the kinds before this one serve for large maps */
};

static float map_entry(enum map_kind kind, uint32_t s, uint32_t i, uint32_t j, struct rng *r)
{
    static const float strange[] = {NAN, INFINITY, -INFINITY, -0.5f, -0.0f, 2, 1, 0};
    switch (kind) {
    case MAP_SOFTMAX:
        return (float)exp(2.5 * rng_normal(r));
    case MAP_EQUAL:
        return 1.0f / (float)s;
    case MAP_ROWS:
        return (float)(i * 7 % s + 1) / (float)(s * s);
    case MAP_COARSE:
        return 0.25f / (float)s * (float)(1 + rng_below(r, 4));
    case MAP_ONE:
        return j == i * 5 % s;
    case MAP_DENORMAL:
        return rng_below(r, 3) ? (float)rng_below(r, 5) * 0x1p-149f : 0;
    case MAP_STRANGE:
        return rng_below(r, 3) ? (float)rng_unit(r) : strange[rng_below(r, 8)];
    default:
        return 0;
    }
}

static void make_map(const struct problem *p, enum map_kind kind, float *map)
{
    uint32_t s = p->grid.video_blocks;
    struct rng r = rng_of(p->test->name, 'm' + (uint64_t)kind);
    for (size_t row = 0; row < (size_t)p->batch * p->heads * s; row++, map += s) {
        double sum = 0;
        for (uint32_t j = 0; j < s; j++)
            sum += map[j] = map_entry(kind, s, (uint32_t)(row % s), j, &r);
        for (uint32_t j = 0; kind == MAP_SOFTMAX && j < s; j++)
            map[j] = (float)(map[j] / sum);
    }
}

/* ---- Stages alone ---- */

static size_t run_alone(struct rig *rig, draft_stage stage)
{
    OK(rig_run(rig, stage));
    return !rig_intact(rig, stage);
}

static size_t pool_alone(struct rig *rig, const struct inputs *in, const char *cell)
{
    (void)in;
    rig_reset(rig);
    return run_alone(rig, DRAFT_POOL) + check_pool(rig, cell);
}

static size_t score_alone(struct rig *rig, const struct inputs *in, const char *cell)
{
    const struct problem *p = &in->problem;
    size_t bytes = (size_t)p->batch * p->grid.video_blocks * p->dim * sizeof(float);
    rig_reset(rig);
    buffer_put(&rig->workspace, rig->layout.pooled_q, in->pooled_q, bytes * p->heads);
    buffer_put(&rig->workspace, rig->layout.pooled_k, in->pooled_k, bytes * p->kv_heads);
    tail_inputs_put(in->tail, rig, DRAFT_SCORE);
    return run_alone(rig, DRAFT_SCORE) + check_score(rig, cell) + tail_unmarked(rig, cell);
}

static size_t select_alone(struct rig *rig, const struct inputs *in, const char *cell)
{
    const struct problem *p = &in->problem;
    size_t s = p->grid.video_blocks, entries = (size_t)p->batch * p->heads * s * s, bad = 0;
    float *map = test_alloc(entries, sizeof *map);
    enum map_kind kinds = s > 200 ? MAP_LARGE : MAP_KINDS;
    for (enum map_kind kind = 0; kind < kinds && !bad; kind++) {
        make_map(p, kind, map);
        rig_reset(rig);
        buffer_put(&rig->workspace, rig->layout.map, map, entries * sizeof *map);
        tail_inputs_put(in->tail, rig, DRAFT_SELECT);
        bad += run_alone(rig, DRAFT_SELECT) + check_select(rig, cell);
        bad += tail_inputs_kept(in->tail, rig, cell);
        if (bad)
            test_print("    %s: with map kind %d\n", cell, kind);
    }
    free(map);
    return bad;
}

static void put_lists(struct rig *rig, const struct inputs *in)
{
    const struct problem *p = &in->problem;
    size_t rows = (size_t)p->batch * p->heads * p->grid.blocks;
    buffer_put(&rig->workspace, rig->layout.counts, in->counts, rows * sizeof *in->counts);
    buffer_put(&rig->workspace, rig->layout.lists, in->lists,
               rows * p->grid.blocks * sizeof *in->lists);
    buffer_put(&rig->workspace, rig->layout.order, in->order, rows * sizeof *in->order);
}

static size_t attend_alone(struct rig *rig, const struct inputs *in, const char *cell)
{
    rig_reset(rig);
    put_lists(rig, in);
    tail_inputs_put(in->tail, rig, DRAFT_ATTEND);
    return run_alone(rig, DRAFT_ATTEND) + check_attend(rig, &in->expected, cell);
}

/* Attend once more on the lists of a run of all stages, whose result has been read, or on what the
 * case runs again: the bits must be the same. */
static size_t attend_again(struct rig *rig, const char *cell)
{
    uint8_t *first = test_alloc(rig->out.size, 1);
    memcpy(first, buffer_read(&rig->out), rig->out.size);
    buffer_poison(&rig->out);
    OK(rig_run(rig, rig->problem->test->again | DRAFT_ATTEND));
    bool same = memcmp(first, buffer_get(&rig->out), rig->out.size) == 0;
    if (!same)
        test_print("    %s: attend again gives other bits than all stages\n", cell);
    free(first);
    return !same;
}

/* In one run, or in several. */
static void run_pieces(struct rig *rig, const struct test_case *test)
{
    uint32_t all = test->stages ? test->stages : 15, piece = 0;
    if (!test->cuts) {
        OK(rig_run(rig, test->stages));
        return;
    }
    for (uint32_t stage = 1; stage <= all; stage <<= 1) {
        piece |= stage & all;
        if (!piece || !(test->cuts & stage || stage << 1 > all))
            continue;
        OK(rig_run(rig, piece));
        piece = 0;
    }
}

/* What the layout says is what the case asks for; the checks tell whether it is what ran. */
static size_t check_methods(const struct rig *rig, const char *cell)
{
    const struct draft_plan_params *p = &rig->problem->test->params;
    const struct draft_layout *l = &rig->layout;
    bool same = (!p->rule || l->rule == p->rule) && (!p->scorer || l->scorer == p->scorer) &&
                (!p->tail || l->tail == p->tail);
    if (!same)
        test_print("    %s: layout has rule %d, scorer %d, tail %d, not %d, %d, %d\n", cell,
                   l->rule, l->scorer, l->tail, p->rule, p->scorer, p->tail);
    return !same;
}

/* All stages of the case, each checked against the device's own input to it. */
static size_t all_in_a_row(struct rig *rig, const struct inputs *in, const char *cell)
{
    const struct test_case *test = in->problem.test;
    uint32_t stages = test->stages ? test->stages : 15;
    rig_reset(rig);
    run_pieces(rig, test);
    size_t bad = !rig_intact(rig, stages) + check_methods(rig, cell);
    bad += check_pool(rig, cell) + check_score(rig, cell) + check_select(rig, cell);
    if (bad || !case_has(test, DRAFT_ATTEND))
        return bad;
    struct expected expected;
    struct tail tail = test->kept_only ? (struct tail){0} : rig_tail(rig);
    expected_init(&expected, &in->problem, rig_workspace(rig, rig->layout.counts),
                  rig_workspace(rig, rig->layout.lists), &tail);
    bad += check_attend(rig, &expected, cell);
    expected_free(&expected);
    bool small = in->problem.grid.tokens < 500;
    return bad + (small ? attend_again(rig, cell) : 0);
}

/* ---- The grid: stages x variants ---- */

static const struct {
    draft_stage stage;
    size_t (*run)(struct rig *, const struct inputs *, const char *cell);
} stages[] = {{DRAFT_POOL, pool_alone},
              {DRAFT_SCORE, score_alone},
              {DRAFT_SELECT, select_alone},
              {DRAFT_ATTEND, attend_alone}};

/* A cell while it runs. The rig is here, so that it can be freed after a failure within. */
struct attempt {
    const struct cell *cell;
    const struct inputs *in;
    draft_stage stage;
    size_t (*run)(struct rig *, const struct inputs *, const char *cell);
    draft_plan *plan; /* until the rig has it */
    struct rig rig;
    struct outcome outcome;
};

static void attempt_run(void *user)
{
    struct attempt *a = user;
    struct test_device *device = a->cell->device;
    const char *variant = a->cell->variant, *name = cell_name(device, a->cell->stage, variant);
    const char *kernels = !variant && device->trusted ? "" : variant;
    draft_status status = rig_plan(device, a->in->problem.test, kernels, &a->plan);
    if (variant && status == DRAFT_ERROR_UNSUPPORTED) {
        a->outcome.refused = true;
        return;
    }
    if (status)
        test_fail(__FILE__, __LINE__, "%s: plan: %s: %s", name, draft_status_name(status),
                  device->log.text);
    const char *kernel = draft_plan_kernel(a->plan, a->stage);
    if (variant && strcmp(kernel, variant) != 0)
        test_fail(__FILE__, __LINE__, "%s: the plan has chosen %s", name, kernel);
    for (int s = 0; s < DRAFT_STAGES && !variant && getenv("DRAFT_VERBOSE"); s++)
        test_print("    %s: %s[%s] is chosen\n", name, draft_stage_name(stages[s].stage),
                   draft_plan_kernel(a->plan, stages[s].stage));
    draft_plan *plan = a->plan;
    a->plan = NULL;
    a->rig.plan = plan;
    rig_init(&a->rig, device, &a->in->problem, plan);
    a->outcome.mismatches = a->run(&a->rig, a->in, name);
}

static void attempt_free(void *user)
{
    struct attempt *a = user;
    /* After a failure something may still be under way that writes here. */
    draft_status status = draft_wait(a->cell->device->context);
    if (status)
        test_print("    wait: %s\n", draft_status_name(status));
    draft_plan_destroy(&a->plan);
    rig_free(&a->rig);
}

/* Tested elsewhere, by the same kernels. */
static bool is_left_out(const struct test_device *device, const char *variant)
{
    size_t length = strlen(variant);
    const char *at = device->left_out;
    while (at && (strncmp(at, variant, length) != 0 || (at[length] && at[length] != ','))) {
        at = strchr(at, ',');
        at += at != NULL;
    }
    return at;
}

static size_t run_cell(struct attempt *a, const struct cell *cell, cell_told *told, void *user)
{
    a->cell = cell;
    a->plan = NULL;
    a->rig = (struct rig){0};
    a->outcome = (struct outcome){0};
    told(user, cell, NULL);
    checks_take_worst();
    bool whole = test_attempt(attempt_run, a);
    a->outcome.worst = checks_take_worst();
    a->outcome.seconds = a->rig.seconds;
    if (!whole)
        test_print("    %s: not finished\n", cell_name(cell->device, cell->stage, cell->variant));
    if (!test_attempt(attempt_free, a) || !whole)
        a->outcome.mismatches++;
    told(user, cell, &a->outcome);
    return a->outcome.mismatches;
}

bool cells_take(const struct test_device *device, const struct test_case *test)
{
    return device->info.types & 1u << test->params.type;
}

struct draft_tile cells_tile(struct test_device *device, const struct test_case *test)
{
    draft_plan *plan = NULL;
    struct draft_layout layout;
    draft_status status = rig_plan(device, test, "", &plan); /* whatever kernels: "" masks none */
    if (status)
        test_fail(__FILE__, __LINE__, "%s %u: plan: %s: %s", device->info.backend,
                  device->info.index, draft_status_name(status), device->log.text);
    draft_plan_layout(plan, &layout);
    draft_plan_destroy(&plan);
    return layout.tile;
}

struct preparation {
    struct test_device *device;
    const struct test_case *test;
    struct inputs *in;
};

static void prepare(void *user)
{
    struct preparation *p = user;
    inputs_init(p->in, p->test, cells_tile(p->device, p->test));
}

size_t cells_run(struct test_device *device, const struct test_case *test, struct inputs *in,
                 cell_told *told, void *user)
{
    struct preparation preparation = {device, test, in};
    struct cell all = {device, "all", NULL};
    struct attempt a = {.in = in, .stage = 0, .run = all_in_a_row};
    size_t bad = 0;
    if (!in->pooled_q && !test_attempt(prepare, &preparation)) {
        told(user, &all, &(struct outcome){.mismatches = 1});
        return 1;
    }
    for (int s = 0; s < DRAFT_STAGES; s++) {
        a.stage = stages[s].stage;
        a.run = stages[s].run;
        if (!case_has(test, a.stage))
            continue;
        const char *const *variants = device->context->backend->variants(a.stage);
        for (; *variants; variants++) {
            if (is_left_out(device, *variants))
                continue;
            struct cell cell = {device, draft_stage_name(a.stage), *variants};
            bad += run_cell(&a, &cell, told, user);
        }
    }
    a.run = all_in_a_row;
    return bad + run_cell(&a, &all, told, user);
}

/* ---- Tallies ---- */

bool cells_same(const struct cell *a, const struct cell *b)
{
    bool same_variant =
        a->variant && b->variant ? strcmp(a->variant, b->variant) == 0 : a->variant == b->variant;
    return a->device == b->device && strcmp(a->stage, b->stage) == 0 && same_variant;
}

struct tally *tallies_add(struct tallies *t, const struct cell *cell, const struct outcome *outcome)
{
    size_t i = 0;
    while (i < t->count && !cells_same(&t->rows[i].cell, cell))
        i++;
    if (i == t->count) {
        struct tally *rows = test_alloc(t->count + 1, sizeof *rows);
        if (t->count)
            memcpy(rows, t->rows, t->count * sizeof *rows);
        free(t->rows);
        t->rows = rows;
        t->rows[t->count++].cell = *cell;
    }
    struct tally *row = &t->rows[i];
    row->refused += outcome->refused;
    row->runs += !outcome->refused;
    row->failed += outcome->mismatches > 0;
    row->mismatches += outcome->mismatches;
    row->worst = fmax(row->worst, outcome->worst);
    row->seconds += outcome->seconds;
    return row;
}

void tallies_free(struct tallies *t)
{
    free(t->rows);
    *t = (struct tallies){0};
}
