/* SPDX-License-Identifier: MIT
 *
 * What must be true of the pooled keys as a whole, whatever the backend: they are exact where blocks
 * are constant, never hold more mass than what they stand for, change nothing where nothing is
 * left out, and do no harm where keys cancel. A probe tells the error. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cells.h"
#include "suite.h"

static struct test_device devices[MAX_DEVICES];
static size_t device_count;

/* Ragged tiles, no text: then sparsity is all that decides what is left out. */
static struct test_case plain_case(draft_scorer scorer, draft_tail tail, double sparsity)
{
    struct test_case test = *case_named("beyond mean f32");
    test.params.type = devices_type(devices, device_count);
    test.params.shape.suffix = 0;
    test.params.scorer = scorer;
    test.params.tail = tail;
    test.params.sparsity = sparsity;
    return test;
}

/* A copy of what the last run wrote. */
static void *copy(struct buffer *b)
{
    void *bytes = test_alloc(b->size, 1);
    memcpy(bytes, buffer_get(b), b->size);
    return bytes;
}

/* ---- Blocks of one key ---- */

/* Give each token of a block the values of its first; 16 bits round the mean of others. */
static void level(const struct problem *p, struct host_tensor *t, double *exact)
{
    const struct oracle_grid *g = &p->grid;
    size_t dim = p->dim, size = type_size(t->type);
    for (uint32_t h = 0; h < t->heads; h++)
        for (uint32_t token = 0; token < g->tokens; token++) {
            uint32_t first = g->member[g->start[g->block_of[token]]];
            double *rows = exact + (size_t)h * g->tokens * dim;
            memcpy(rows + token * dim, rows + first * dim, dim * sizeof *rows);
            memcpy(t->bytes + tensor_row(t, 0, token, h) * size,
                   t->bytes + tensor_row(t, 0, first, h) * size, dim * size);
        }
}

START_TEST(blocks_of_one_key_are_exact)
{
    static const double sparsities[] = {0.3, 0.8, 0.999};
    static const draft_tail tails[] = {DRAFT_TAIL_MEAN, DRAFT_TAIL_GAP, DRAFT_TAIL_FITTED};
    struct test_case test = plain_case(DRAFT_SCORER_LSE, tails[_i / 3], sparsities[_i % 3]);
    for (size_t d = 0; d < device_count; d++) {
        if (!cells_take(&devices[d], &test))
            continue;
        struct problem problem;
        struct rig rig;
        struct expected expected;
        rig_start(&rig, &problem, &devices[d], &test);
        level(&problem, &problem.k, problem.exact_k);
        if (test.params.type != DRAFT_F32)
            level(&problem, &problem.v, problem.exact_v);
        buffer_put(&rig.k, 0, problem.k.bytes, problem.k.size);
        buffer_put(&rig.v, 0, problem.v.bytes, problem.v.size);
        expected_init(&expected, &problem, NULL, NULL, NULL);
        OK(rig_run(&rig, 0));
        ck_assert(rig_intact(&rig, 15));
        ck_assert_uint_eq(check_attend(&rig, &expected, cell_name(&devices[d], "one key", "")), 0);
        expected_free(&expected);
        rig_finish(&rig, &problem);
    }
}
END_TEST

/* ---- Mass ---- */

/* Jensen: e to the mean of logits is at most the mean of e to the logits, row by row. */
START_TEST(mass_is_never_more_than_the_true_one)
{
    static const double sparsities[] = {0.2, 0.7, 0.95};
    struct test_case test = plain_case(DRAFT_SCORER_MEAN, DRAFT_TAIL_MEAN, sparsities[_i]);
    test.params.shape.suffix = 10;
    /* What 16 bits make of a mean moves its logit. */
    double narrow = test.params.type == DRAFT_F32 ? 0 : type_roundoff(test.params.type);
    for (size_t d = 0; d < device_count; d++) {
        if (!cells_take(&devices[d], &test))
            continue;
        struct problem problem;
        struct rig rig;
        struct expected dense;
        rig_start(&rig, &problem, &devices[d], &test);
        expected_init(&dense, &problem, NULL, NULL, NULL);
        OK(rig_run(&rig, 0));
        float *whole = copy(&rig.lse);
        rig.run.flags = DRAFT_RUN_KEPT_ONLY;
        OK(rig_run(&rig, DRAFT_ATTEND));
        const float *kept = (const float *)buffer_get(&rig.lse);
        size_t tokens = problem.grid.tokens, grown = 0;
        for (size_t at = 0; at < tokens * problem.heads; at++) {
            const struct oracle_result *r = &dense.heads[at / tokens];
            double rounding = 64 * 0x1p-24 * (1 + fabs(whole[at])) +
                              narrow * fabs(problem.scale) * r->reach[at % tokens];
            ck_assert_double_le(whole[at], r->lse[at % tokens] + rounding);
            ck_assert_double_ge(whole[at], kept[at] - rounding);
            grown += whole[at] > kept[at];
            if (at % tokens >= tokens - 10) /* text stays exact */
                ck_assert(whole[at] == kept[at]);
        }
        ck_assert_uint_gt(grown, 0);
        free(whole);
        expected_free(&dense);
        rig_finish(&rig, &problem);
    }
}
END_TEST

/* ---- Nothing left out, nothing added ---- */

/* Run all stages, then attend with the flags where there are any: the bits of out and lse. */
static void bits_of(struct test_device *device, const struct test_case *test, uint32_t flags,
                    void **out, void **lse, size_t sizes[2])
{
    struct problem problem;
    struct rig rig;
    rig_start(&rig, &problem, device, test);
    OK(rig_run(&rig, 0));
    rig.run.flags = flags;
    if (flags)
        OK(rig_run(&rig, DRAFT_ATTEND));
    *out = copy(&rig.out);
    *lse = copy(&rig.lse);
    sizes[0] = rig.out.size;
    sizes[1] = rig.lse.size;
    rig_finish(&rig, &problem);
}

static bool same_bits(struct test_device *device, const struct test_case *a,
                      const struct test_case *b, uint32_t b_flags)
{
    void *out[2], *lse[2];
    size_t sizes[2];
    bits_of(device, a, 0, &out[0], &lse[0], sizes);
    bits_of(device, b, b_flags, &out[1], &lse[1], sizes);
    bool same = memcmp(out[0], out[1], sizes[0]) == 0 && memcmp(lse[0], lse[1], sizes[1]) == 0;
    for (int i = 0; i < 2; i++) {
        free(out[i]);
        free(lse[i]);
    }
    return same;
}

START_TEST(sparsity_0_is_untouched)
{
    draft_tail tail = (draft_tail)(DRAFT_TAIL_MEAN + _i);
    struct test_case dropped = plain_case(DRAFT_SCORER_MEAN, DRAFT_TAIL_DROP, 0);
    struct test_case pooled = plain_case(DRAFT_SCORER_MEAN, tail, 0);
    for (size_t d = 0; d < device_count; d++)
        if (cells_take(&devices[d], &pooled))
            ck_assert(same_bits(&devices[d], &dropped, &pooled, 0));
}
END_TEST

START_TEST(the_kept_part_is_what_drop_gives)
{
    draft_tail tail = (draft_tail)(DRAFT_TAIL_MEAN + _i);
    struct test_case dropped = plain_case(DRAFT_SCORER_LSE, DRAFT_TAIL_DROP, 0.7);
    struct test_case pooled = plain_case(DRAFT_SCORER_LSE, tail, 0.7);
    for (size_t d = 0; d < device_count; d++) {
        if (!cells_take(&devices[d], &pooled))
            continue;
        ck_assert(same_bits(&devices[d], &dropped, &pooled, DRAFT_RUN_KEPT_ONLY));
        ck_assert(!same_bits(&devices[d], &dropped, &pooled, 0));
    }
}
END_TEST

/* With factors of 0 FITTED is MEAN. */
START_TEST(factors_of_0_are_mean)
{
    struct test_case mean = plain_case(DRAFT_SCORER_MEAN, DRAFT_TAIL_MEAN, 0.7);
    struct test_case fitted = plain_case(DRAFT_SCORER_MEAN, DRAFT_TAIL_FITTED, 0.7);
    for (size_t d = 0; d < device_count; d++) {
        if (!cells_take(&devices[d], &fitted))
            continue;
        struct problem problem;
        struct rig rig;
        void *out, *lse;
        size_t sizes[2];
        bits_of(&devices[d], &mean, 0, &out, &lse, sizes);
        rig_start(&rig, &problem, &devices[d], &fitted);
        OK(draft_factors_write(rig.plan, rig.workspace.data, NULL));
        OK(rig_run(&rig, 0));
        ck_assert(memcmp(buffer_get(&rig.out), out, sizes[0]) == 0);
        float ones[2] = {1, 1};
        OK(draft_factors_write(rig.plan, rig.workspace.data, ones));
        OK(rig_run(&rig, 0));
        ck_assert(memcmp(buffer_get(&rig.out), out, sizes[0]) != 0);
        free(out);
        free(lse);
        rig_finish(&rig, &problem);
    }
}
END_TEST

/* ---- Everything left out ---- */

/* What is left is attention over the pooled tokens, each as often as it has tokens. */
START_TEST(nothing_kept_is_pooled_attention)
{
    struct test_case test = plain_case(DRAFT_SCORER_MEAN, DRAFT_TAIL_MEAN, 0.9999);
    test.params.force = DRAFT_FORCE_NOT_SELF;
    for (size_t d = 0; d < device_count; d++) {
        if (!cells_take(&devices[d], &test))
            continue;
        struct problem problem;
        struct rig rig;
        struct expected expected;
        rig_start(&rig, &problem, &devices[d], &test);
        OK(rig_run(&rig, 0));
        ck_assert(rig_intact(&rig, 15));
        const struct oracle_grid *g = &problem.grid;
        struct draft_density density;
        OK(draft_density_read(rig.plan, rig.workspace.data, &density));
        ck_assert_uint_eq(density.kept_pairs, 0);
        ck_assert_double_eq_tol(density.tail, (double)g->video_blocks / g->tokens, 1e-12);
        struct tail tail = rig_tail(&rig);
        float *sizes = test_alloc((size_t)problem.heads * g->video_blocks * tail.bias_stride, 4);
        for (size_t at = 0; at < (size_t)problem.heads * g->video_blocks * tail.bias_stride; at++) {
            size_t j = at % tail.bias_stride;
            sizes[at] = j < g->video_blocks ? logf((float)g->size[j]) : -INFINITY;
        }
        tail.bias = sizes;
        expected_init(&expected, &problem, rig_workspace(&rig, rig.layout.counts),
                      rig_workspace(&rig, rig.layout.lists), &tail);
        ck_assert_uint_eq(check_attend(&rig, &expected, cell_name(&devices[d], "pooled", "")), 0);
        expected_free(&expected);
        free(sizes);
        rig_finish(&rig, &problem);
    }
}
END_TEST

/* ---- Outlier channels that cancel ---- */

static void set_value(const struct problem *p, struct host_tensor *t, double *exact, uint32_t token,
                      uint32_t head, uint32_t dim, double value)
{
    uint64_t at = tensor_row(t, 0, token, head) + dim;
    type_store(t->type, t->bytes, at, value);
    exact[((size_t)head * p->grid.tokens + token) * p->dim + dim] =
        type_load(t->type, t->bytes, at);
}

/* Two channels 8 times as large as others, alike in q and opposite in k: their products cancel in
 * each logit, yet each alone varies from key to key. */
static void plant(struct problem *p, struct rng *r)
{
    for (uint32_t token = 0; token < p->grid.tokens; token++) {
        double x = rng_below(r, 2) ? 8 : -8;
        for (uint32_t h = 0; h < p->heads; h++) {
            set_value(p, &p->q, p->exact_q, token, h, 2, 8);
            set_value(p, &p->q, p->exact_q, token, h, 3, 8);
            set_value(p, &p->k, p->exact_k, token, h, 2, x);
            set_value(p, &p->k, p->exact_k, token, h, 3, -x);
        }
    }
}

/* Relative L2 error of out, of heads from `first` to before `end`. */
static double error_of(struct rig *rig, uint32_t first, uint32_t end)
{
    const struct problem *p = rig->problem;
    struct expected dense;
    const void *out = buffer_get(&rig->out);
    expected_init(&dense, p, NULL, NULL, NULL);
    double errors = 0, squares = 0;
    for (uint32_t h = first; h < end; h++)
        for (size_t token = 0; token < p->grid.tokens; token++)
            for (uint32_t e = 0; e < p->dim; e++) {
                double want = dense.heads[h].out[token * p->dim + e];
                uint64_t at = tensor_row(&p->out, 0, (uint32_t)token, h) + e;
                errors += pow(type_load(p->out.type, out, at) - want, 2);
                squares += want * want;
            }
    expected_free(&dense);
    return sqrt(errors / squares);
}

static void start_planted(struct rig *rig, struct problem *p, struct test_device *device,
                          const struct test_case *test)
{
    struct rng r = rng_of("planted", 0);
    rig_start(rig, p, device, test);
    plant(p, &r);
    buffer_put(&rig->q, 0, p->q.bytes, p->q.size);
    buffer_put(&rig->k, 0, p->k.bytes, p->k.size);
}

static double planted_error(struct test_device *device, const struct test_case *test)
{
    struct problem p;
    struct rig rig;
    start_planted(&rig, &p, device, test);
    if (test->params.tail == DRAFT_TAIL_FITTED) {
        float ones[2] = {1, 1};
        OK(draft_factors_write(rig.plan, rig.workspace.data, ones));
    }
    OK(rig_run(&rig, 0));
    double error = error_of(&rig, 0, p.heads);
    rig_finish(&rig, &p);
    return error;
}

START_TEST(outliers_that_cancel_do_no_harm)
{
    static const double sparsities[] = {0.5, 0.75, 0.9};
    struct test_case dropped = plain_case(DRAFT_SCORER_DEFAULT, DRAFT_TAIL_DROP, sparsities[_i]);
    for (size_t d = 0; d < device_count; d++) {
        double drop = planted_error(&devices[d], &dropped), mean = 0;
        static const draft_tail tails[] = {DRAFT_TAIL_DEFAULT, DRAFT_TAIL_MEAN, DRAFT_TAIL_GAP,
                                           DRAFT_TAIL_FITTED};
        for (int i = 0; i < 4; i++) {
            struct test_case test = dropped;
            test.params.tail = tails[i];
            if (!cells_take(&devices[d], &test))
                continue;
            double error = planted_error(&devices[d], &test);
            mean = tails[i] == DRAFT_TAIL_MEAN ? error : mean;
            if (tails[i] != DRAFT_TAIL_FITTED)
                ck_assert_double_le(error, drop);
            else /* the outliers bite: the second order as it stands sees each channel alone */
                ck_assert_double_gt(error, mean);
        }
    }
}
END_TEST

/* ---- Lists of the caller's ---- */

/* On the bias of an earlier run; its signs follow the lists. */
START_TEST(lists_of_the_caller_mark_the_bias)
{
    draft_tail tail = (draft_tail)(DRAFT_TAIL_MEAN + _i);
    struct test_case test = plain_case(DRAFT_SCORER_MEAN, tail, 0.7);
    test.params.shape.prefix = 5;
    for (size_t d = 0; d < device_count; d++) {
        if (!cells_take(&devices[d], &test))
            continue;
        struct problem problem;
        struct rig rig;
        struct expected expected;
        rig_start(&rig, &problem, &devices[d], &test);
        OK(rig_run(&rig, 0));
        const struct oracle_grid *g = &problem.grid;
        size_t B = g->blocks, rows = problem.heads * B, s = g->video_blocks;
        uint32_t *counts = test_alloc(rows, sizeof *counts);
        uint16_t *lists = test_alloc(rows * B, sizeof *lists);
        for (size_t row = 0; row < rows; row++)
            for (size_t j = 0; j < B; j++)
                if ((row + j) % 3 == 0)
                    lists[row * B + counts[row]++] = (uint16_t)j;
        OK(draft_lists_write(rig.plan, rig.workspace.data, counts, lists));
        OK(rig_run(&rig, DRAFT_ATTEND));
        ck_assert(rig_intact(&rig, 15));
        struct tail now = rig_tail(&rig);
        for (size_t row = 0; row < problem.heads * s; row++)
            for (size_t j = 0; j < now.bias_stride; j++) {
                size_t block = row / s * B + g->prefix_blocks + row % s;
                float x = now.bias[row * now.bias_stride + j];
                ck_assert(j < s || x == -INFINITY);
                if (j < s)
                    ck_assert((signbit(x) != 0) == ((block + g->prefix_blocks + j) % 3 == 0));
            }
        expected_init(&expected, &problem, counts, lists, &now);
        ck_assert_uint_eq(check_attend(&rig, &expected, cell_name(&devices[d], "lists", "")), 0);
        ck_assert_uint_eq(check_score(&rig, cell_name(&devices[d], "lists", "")), 0);
        expected_free(&expected);
        free(counts);
        free(lists);
        rig_finish(&rig, &problem);
    }
}
END_TEST

/* Lists and bias of the last step's tensors, pooled keys of this one's: k and v change places. */
START_TEST(old_lists_serve_new_tensors)
{
    struct test_case test = plain_case(DRAFT_SCORER_DEFAULT, DRAFT_TAIL_MEAN, 0.7);
    test.params.shape.prefix = 5;
    for (size_t d = 0; d < device_count; d++) {
        if (!cells_take(&devices[d], &test))
            continue;
        const char *cell = cell_name(&devices[d], "old lists", "");
        struct problem problem;
        struct rig rig;
        rig_start(&rig, &problem, &devices[d], &test);
        ck_assert_uint_eq(problem.k.size, problem.v.size);
        buffer_put(&rig.k, 0, problem.v.bytes, problem.v.size);
        buffer_put(&rig.v, 0, problem.k.bytes, problem.k.size);
        OK(rig_run(&rig, 0));
        ck_assert(rig_intact(&rig, 15));
        void *map = copy(&rig.workspace);
        buffer_put(&rig.k, 0, problem.k.bytes, problem.k.size);
        buffer_put(&rig.v, 0, problem.v.bytes, problem.v.size);
        OK(rig_run(&rig, DRAFT_POOL | DRAFT_ATTEND));
        ck_assert(rig_intact(&rig, 15));
        const struct draft_layout *l = &rig.layout;
        size_t rows = problem.heads * (size_t)problem.grid.blocks;
        const uint32_t *counts = rig_workspace(&rig, l->counts);
        const uint16_t *lists = rig_workspace(&rig, l->lists);
        size_t lists_size = rows * problem.grid.blocks * sizeof *lists;
        ck_assert(memcmp(counts, (char *)map + l->counts, rows * sizeof *counts) == 0);
        ck_assert(memcmp(lists, (char *)map + l->lists, lists_size) == 0);
        ck_assert_uint_eq(check_pool(&rig, cell), 0);
        struct tail now = rig_tail(&rig);
        struct expected expected;
        expected_init(&expected, &problem, counts, lists, &now);
        ck_assert_uint_eq(check_attend(&rig, &expected, cell), 0);
        expected_free(&expected);
        free(map);
        rig_finish(&rig, &problem);
    }
}
END_TEST

/* ---- Probe ---- */

/* Of all blocks, and what it has left in the workspace. */
START_TEST(a_probe_of_everything_is_the_error)
{
    struct test_case test = plain_case(DRAFT_SCORER_LSE, (draft_tail)(DRAFT_TAIL_DROP + _i), 0.7);
    for (size_t d = 0; d < device_count; d++) {
        if (!cells_take(&devices[d], &test))
            continue;
        struct problem problem;
        struct rig rig;
        struct draft_probe found[2];
        rig_start(&rig, &problem, &devices[d], &test);
        OK(draft_probe_run(rig.plan, &rig.run, &(struct draft_probe_params){.blocks = 1000},
                           found));
        OK(rig_run(&rig, DRAFT_ATTEND));
        /* Both are off by what the type rounds. */
        double rounding = 4 * type_roundoff(test.params.type);
        for (uint32_t h = 0; h < 2; h++) {
            ck_assert_double_eq_tol(found[h].error, error_of(&rig, h, h + 1), rounding + 0x1p-16);
            ck_assert_double_gt(found[h].error, 0.01);
        }
        uint8_t *attended = copy(&rig.out);
        if (rig.layout.factors) {
            float factors[2];
            OK(draft_read(devices[d].context, factors, rig.workspace.data + rig.layout.factors,
                          sizeof factors));
            ck_assert(factors[0] == (float)found[0].factor && factors[1] == found[1].factor);
        }
        OK(rig_run(&rig, 0));
        ck_assert(memcmp(attended, buffer_get(&rig.out), rig.out.size) == 0);
        free(attended);
        rig_finish(&rig, &problem);
    }
}
END_TEST

/* A factor of 0 is among those that are tried. */
START_TEST(a_probe_does_no_harm)
{
    struct test_case mean = plain_case(DRAFT_SCORER_MEAN, DRAFT_TAIL_MEAN, 0.75);
    struct test_case fitted = plain_case(DRAFT_SCORER_MEAN, DRAFT_TAIL_FITTED, 0.75);
    for (size_t d = 0; d < device_count; d++) {
        if (!cells_take(&devices[d], &fitted))
            continue;
        struct problem problem;
        struct rig rig;
        struct draft_probe with[2], without[2];
        for (int planted = 0; planted < 2; planted++) {
            const struct draft_probe_params params = {.seed = 7, .blocks = 5};
            void (*begin)(struct rig *, struct problem *, struct test_device *,
                          const struct test_case *) = planted ? start_planted : rig_start;
            begin(&rig, &problem, &devices[d], &mean);
            OK(draft_probe_run(rig.plan, &rig.run, &params, without));
            rig_finish(&rig, &problem);
            begin(&rig, &problem, &devices[d], &fitted);
            OK(draft_probe_run(rig.plan, &rig.run, &params, with));
            rig_finish(&rig, &problem);
            for (int h = 0; h < 2; h++) {
                ck_assert_double_le(with[h].error, without[h].error);
                ck_assert(with[h].factor >= 0 && with[h].factor <= 1.5);
            }
            if (!planted) /* there the second order is worth something */
                ck_assert(with[0].error < 0.99 * without[0].error && with[0].factor > 0);
        }
    }
}
END_TEST

/* What is not a number has no error of 0; the other head's is as it would be. */
START_TEST(a_probe_tells_of_nan)
{
    struct test_case test = plain_case(DRAFT_SCORER_MEAN, (draft_tail)(DRAFT_TAIL_DROP + _i), 0.7);
    const struct draft_probe_params all = {.blocks = 1000};
    for (size_t d = 0; d < device_count; d++) {
        if (!cells_take(&devices[d], &test))
            continue;
        struct problem problem;
        struct rig rig;
        struct draft_probe clean[2], found[2];
        rig_start(&rig, &problem, &devices[d], &test);
        OK(draft_probe_run(rig.plan, &rig.run, &all, clean));
        size_t size = type_size(problem.v.type);
        buffer_put(&rig.v, tensor_row(&problem.v, 0, 7, 1) * size, (uint8_t[]){255, 255, 255, 255},
                   size);
        OK(draft_probe_run(rig.plan, &rig.run, &all, found));
        ck_assert(isnan(found[1].error) && found[1].factor >= 0 && found[1].factor <= 1.5);
        ck_assert(found[0].error == clean[0].error && found[0].factor == clean[0].factor);
        rig_finish(&rig, &problem);
    }
}
END_TEST

START_TEST(heads_get_by_their_errors)
{
    const double sparsities[] = {0.9, 0.8, 0.6};
    const double errors[] = {0.5, 0.3, 0.1, /**/ 0.2, 0.15, 0.1, /**/ 0.25, 0.24, 0.2};
    double got[3];
    OK(draft_probe_sparsities(errors, sparsities, 3, 3, 0.9, got));
    ck_assert(got[0] == 0.9 && got[1] == 0.9 && got[2] == 0.9);
    OK(draft_probe_sparsities(errors, sparsities, 3, 3, 0.8, got));
    ck_assert(got[0] == 0.6 && got[1] == 0.9 && got[2] == 0.9);
    OK(draft_probe_sparsities(errors, sparsities, 3, 3, 0.76, got));
    ck_assert(got[0] == 0.6 && got[1] == 0.9 && got[2] == 0.8);
    OK(draft_probe_sparsities(errors, sparsities, 3, 3, 0, got));
    ck_assert(got[0] == 0.6 && got[1] == 0.6 && got[2] == 0.6);
    const double rising[] = {0.8, 0.9}, unknown[] = {0.5, 0.3, 0.2, NAN};
    ck_assert_int_eq(draft_probe_sparsities(unknown, sparsities, 2, 2, 0.8, got),
                     DRAFT_ERROR_ARGUMENT);
    ck_assert_int_eq(draft_probe_sparsities(errors, rising, 2, 3, 0.8, got), DRAFT_ERROR_ARGUMENT);
    ck_assert_int_eq(draft_probe_sparsities(errors, sparsities, 0, 3, 0.8, got),
                     DRAFT_ERROR_ARGUMENT);
}
END_TEST

int main(int argc, char **argv)
{
    device_count = devices_open(argc > 1 ? argv[1] : NULL, devices);
    if (!device_count)
        return EXIT_SKIPPED;
    Suite *suite = suite_create("tail");
    TCase *tests = tcase_create("tail");
    tcase_add_loop_test(tests, blocks_of_one_key_are_exact, 0, 9);
    tcase_add_loop_test(tests, mass_is_never_more_than_the_true_one, 0, 3);
    tcase_add_loop_test(tests, sparsity_0_is_untouched, 0, 3);
    tcase_add_loop_test(tests, the_kept_part_is_what_drop_gives, 0, 3);
    tcase_add_test(tests, factors_of_0_are_mean);
    tcase_add_test(tests, nothing_kept_is_pooled_attention);
    tcase_add_loop_test(tests, outliers_that_cancel_do_no_harm, 0, 3);
    tcase_add_loop_test(tests, lists_of_the_caller_mark_the_bias, 0, 3);
    tcase_add_test(tests, old_lists_serve_new_tensors);
    tcase_add_loop_test(tests, a_probe_of_everything_is_the_error, 0, 4);
    tcase_add_test(tests, a_probe_does_no_harm);
    tcase_add_loop_test(tests, a_probe_tells_of_nan, 0, 4);
    tcase_add_test(tests, heads_get_by_their_errors);
    suite_add_tcase(suite, tests);
    int status = suite_main(suite, false);
    devices_close(devices, device_count);
    return status;
}
