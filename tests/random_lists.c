/* SPDX-License-Identifier: MIT
 *
 * Steps with lists of the caller's, and the probe, which has lists of its own. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "random_walk.h"
#include "tolerance.h"

/* ---- Lists of the caller's ---- */

struct lists {
    uint8_t *kept;    /* [heads, B, B] */
    uint32_t *counts; /* [heads, B]    */
    uint16_t *lists, *order;
};

/* share < 0: each row has a share of its own, none and all among them. */
static struct lists make_lists(struct walk *w, double share)
{
    static const double shares[] = {0, 0, 0.05, 0.3, 0.7, 1};
    size_t B = w->problem.grid.blocks, rows = walk_heads(w) * B;
    struct lists x = {test_alloc(rows * B, 1), test_alloc(rows, 4), test_alloc(rows * B, 2),
                      test_alloc(rows, 2)};
    for (size_t row = 0; row < rows; row++) {
        double here = share < 0 ? shares[rng_below(&w->r, 6)] : share;
        for (size_t j = 0; j < B; j++)
            x.kept[row * B + j] = rng_unit(&w->r) < here;
    }
    for (size_t h = 0; h < walk_heads(w); h++)
        oracle_lists(&w->problem.grid, x.kept + h * B * B, x.counts + h * B, x.lists + h * B * B,
                     x.order + h * B);
    return x;
}

static void free_lists(struct lists *x)
{
    free(x->kept);
    free(x->counts);
    free(x->lists);
    free(x->order);
}

/* One row breaks a rule: nothing is written. */
static void refuse_lists(struct walk *w, const struct lists *x)
{
    size_t B = w->problem.grid.blocks, row = rng_below(&w->r, (uint32_t)(walk_heads(w) * B));
    uint32_t count = x->counts[row];
    uint16_t *list = x->lists + row * B, was[2] = {list[0], list[B > 1]};
    uint16_t any = (uint16_t)rng_below(&w->r, (uint32_t)B);
    uint32_t which = rng_below(&w->r, 4);
    x->counts[row] = which == 0 ? (uint32_t)B + 1 : which == 1 ? UINT32_MAX : B > 1 ? 2 : 1;
    list[B > 1] = any;
    list[0] = which == 2 && B > 1 ? any : (uint16_t)(B + walk_one_in(w, 2));
    draft_status status =
        draft_lists_write(w->rig.plan, w->rig.workspace.data, x->counts, x->lists);
    walk_expect(w, status == DRAFT_ERROR_ARGUMENT, "lists that break a rule are taken");
    w->bad += !rig_intact(&w->rig, 0);
    x->counts[row] = count;
    list[B > 1] = was[1];
    list[0] = was[0];
}

/* Magnitudes of the bias stay, but for tail MEAN, where the lists bring them. */
static void check_bias_kept(struct walk *w)
{
    const struct draft_layout *l = &w->rig.layout;
    size_t numbers = walk_heads(w) * l->video_blocks * l->bias_stride, same = 0;
    const float *now = rig_workspace(&w->rig, l->bias);
    const float *was = (const float *)(buffer_image(&w->rig.workspace) + l->bias);
    for (size_t i = 0; i < numbers; i++)
        same += fabsf(now[i]) == fabsf(was[i]);
    walk_expect(w, same == numbers, "lists have changed more of the bias than its signs");
}

static void check_density(struct walk *w, const struct lists *x)
{
    const struct oracle_grid *g = &w->problem.grid;
    struct draft_density density;
    uint64_t pairs = 0, empty = 0, first = g->prefix_blocks;
    double work = 0;
    for (size_t row = 0; row < walk_heads(w) * g->blocks; row++) {
        uint64_t i = row % g->blocks;
        empty += x->counts[row] == 0;
        for (size_t j = 0; j < g->blocks; j++) {
            bool kept = x->kept[row * g->blocks + j];
            work += kept ? (double)g->size[i] * g->size[j] : 0;
            pairs += kept && i - first < g->video_blocks && j - first < g->video_blocks;
        }
    }
    OK(draft_density_read(w->rig.plan, w->rig.workspace.data, &density));
    work /= (double)walk_heads(w) * g->tokens * g->tokens;
    walk_expect(w,
                density.kept_pairs == pairs && density.empty_rows == empty &&
                    fabs(density.work - work) < 1e-12,
                "the density is not that of the lists");
}

static void write_lists(struct walk *w, struct lists *x)
{
    bool scored = w->rig.layout.bias && w->test.params.tail != DRAFT_TAIL_MEAN;
    OK(draft_lists_write(w->rig.plan, w->rig.workspace.data, x->counts, x->lists));
    w->bad += !rig_intact(&w->rig, DRAFT_SELECT);
    w->bad += check_kept(&w->rig, w->cell, x->kept);
    if (scored)
        check_bias_kept(w);
    else
        w->bad += check_bias(&w->rig, w->cell);
    w->held |= DRAFT_SELECT;
    walk_accept(w);
}

void walk_lists(struct walk *w)
{
    if (w->rig.layout.bias && (w->held & 3) != 3)
        walk_run(w, DRAFT_POOL | DRAFT_SCORE);
    struct lists x = make_lists(w, -1);
    if (walk_one_in(w, 2))
        refuse_lists(w, &x);
    write_lists(w, &x);
    check_density(w, &x);
    free_lists(&x);
    walk_run(w, walk_one_in(w, 3) ? DRAFT_POOL | DRAFT_ATTEND : DRAFT_ATTEND);
}

/* ---- The probe ---- */

/* Of each head: the least and the largest error of a video block, and that of all. */
struct errors {
    double least, most, all;
    bool unknown; /* a block of zeros has none */
};

static struct errors errors_of(const struct walk *w, const uint8_t *exact, const uint8_t *now,
                               uint32_t batch, uint32_t head)
{
    const struct problem *p = &w->problem;
    const struct oracle_grid *g = &p->grid;
    struct errors e = {INFINITY, 0, 0, false};
    double errors = 0, squares = 0;
    for (uint32_t block = 0; block < g->video_blocks; block++) {
        uint32_t at = g->prefix_blocks + block;
        double error = 0, square = 0;
        for (uint32_t m = g->start[at]; m < g->start[at + 1]; m++)
            for (uint32_t d = 0; d < p->dim; d++) {
                uint64_t i = tensor_row(&p->out, batch, g->member[m], head) + d;
                double want = type_load(p->out.type, exact, i);
                double got = type_load(p->out.type, now, i);
                error += (got - want) * (got - want);
                square += want * want;
            }
        errors += error;
        squares += square;
        e.unknown |= !(square > 0);
        e.least = fmin(e.least, sqrt(error / square));
        e.most = fmax(e.most, sqrt(error / square));
    }
    e.all = squares > 0 ? sqrt(errors / squares) : 0;
    return e;
}

/* The factors that the probe has left in the workspace are those that it tells. */
static void take_factors(struct walk *w, const struct draft_probe *found)
{
    const struct draft_layout *l = &w->rig.layout;
    bool fitted = w->test.params.tail == DRAFT_TAIL_FITTED, right = true;
    for (size_t h = 0; h < walk_heads(w); h++) {
        float factor = (float)found[h].factor;
        right &= factor >= 0 && factor <= (fitted ? 1.5f : 0);
        if (fitted)
            memcpy(buffer_image(&w->rig.workspace) + l->factors + h * 4, &factor, 4);
    }
    walk_expect(w, right, "the probe's factors are out of bounds");
}

/* What the probe has left is as if the plan had run up to attend. */
static void check_probed(struct walk *w)
{
    w->bad += !rig_intact(&w->rig, 7);
    w->bad += check_pool(&w->rig, w->cell) + check_score(&w->rig, w->cell) +
              check_select(&w->rig, w->cell);
    w->held = 7;
    walk_accept(w);
}

static uint8_t *attend_densely(struct walk *w)
{
    uint32_t flags = w->rig.run.flags;
    struct lists all = make_lists(w, 1);
    write_lists(w, &all);
    free_lists(&all);
    w->rig.run.flags = DRAFT_RUN_KEPT_ONLY;
    walk_run(w, DRAFT_ATTEND);
    w->rig.run.flags = flags;
    return walk_copy(&w->rig.out);
}

/* Where the factor is 0 the error is that of tail MEAN, and no smaller than what was found. */
static void compare_probe(struct walk *w, const struct draft_probe *found, bool everything,
                          const uint8_t *exact, const uint8_t *now, bool without_factor)
{
    for (size_t h = 0; h < walk_heads(w); h++) {
        uint32_t heads = w->problem.heads;
        struct errors e = errors_of(w, exact, now, (uint32_t)(h / heads), (uint32_t)(h % heads));
        double got = found[h].error, slack = 1e-6 * (1 + e.most);
        bool same = fabs(got - e.all) <= 1e-6 * (1 + e.all);
        bool between = e.unknown || (got >= e.least - slack && got <= e.most + slack);
        bool right = without_factor ? got <= e.all + slack : everything ? same : between;
        if (!right)
            test_print("    head %zu: the probe has %.9g, blocks %.9g to %.9g, all %.9g\n", h, got,
                       e.least, e.most, e.all);
        walk_expect(w, right, "the probe's error is not that of its blocks");
    }
}

void walk_probe(struct walk *w)
{
    uint32_t s = w->problem.grid.video_blocks, some[] = {0, 1, s, s + 5, UINT32_MAX, 2};
    struct draft_probe_params params = {.seed = rng_next(&w->r)};
    params.blocks = some[rng_below(&w->r, 6)];
    bool everything = (params.blocks ? params.blocks : 4) >= s;
    struct draft_probe *found = test_alloc(walk_heads(w), sizeof *found);
    struct draft_run_params run = w->rig.run;
    run.out = (struct draft_tensor){.data = 7}; /* not used, nor are the rest */
    run.flags = run.stages = 99;
    OK(draft_probe_run(w->rig.plan, &run, &params, found));
    take_factors(w, found);
    check_probed(w);
    w->rig.run.flags = 0;
    walk_run(w, DRAFT_ATTEND);
    uint8_t *now = walk_copy(&w->rig.out), *exact = attend_densely(w);
    compare_probe(w, found, everything, exact, now, false);
    if (everything && w->rig.layout.factors) {
        free(now);
        OK(draft_factors_write(w->rig.plan, w->rig.workspace.data, NULL));
        memset(buffer_image(&w->rig.workspace) + w->rig.layout.factors, 0, walk_heads(w) * 4);
        walk_run(w, DRAFT_SCORE | DRAFT_SELECT | DRAFT_ATTEND);
        now = walk_copy(&w->rig.out);
        compare_probe(w, found, everything, exact, now, true);
    }
    free(exact);
    free(now);
    free(found);
}
