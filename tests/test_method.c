/* SPDX-License-Identifier: MIT
 *
 * What must be true of the method as a whole, whatever the backend: sparsity 0 is dense attention,
 * budgets are met exactly, rules keep what their definition says, blocks have no inner order, and
 * two halves of the keys make a whole. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cells.h"
#include "suite.h"

static struct test_device devices[MAX_DEVICES];
static size_t device_count;

/* ---- Dense ---- */

static const char *const dense_cases[] = {
    "plain",       "tile 3x5x8",  "tile chosen",    "batch valid",      "batch valid gaps",
    "gaps f32",    "prefix",      "groups of 2",    "one token",        "dim 72 bf16",
    "dim 128 f16", "heads first", "fill spike f32", "fill constant f16"};

START_TEST(sparsity_0_is_dense)
{
    struct test_case test = *case_named(dense_cases[_i]);
    test.params.sparsity = 0;
    for (size_t d = 0; d < device_count; d++) {
        if (!cells_take(&devices[d], &test))
            continue;
        struct problem problem;
        struct rig rig;
        struct expected expected;
        rig_start(&rig, &problem, &devices[d], &test);
        expected_init(&expected, &problem, NULL, NULL, NULL);
        OK(rig_run(&rig, 0));
        ck_assert(rig_intact(&rig, 15));
        ck_assert_uint_eq(check_attend(&rig, &expected, cell_name(&devices[d], "dense", "")), 0);
        struct draft_density density;
        OK(draft_density_read(rig.plan, rig.workspace.data, &density));
        ck_assert_double_eq(density.video, 1);
        ck_assert_double_eq_tol(density.work, 1, 1e-12);
        expected_free(&expected);
        rig_finish(&rig, &problem);
    }
}
END_TEST

/* ---- Rules by their definitions, without a sort ---- */

/* kept[i][j] of the video pairs of one head, from the lists. */
static uint8_t *kept_pairs(const struct rig *rig, size_t head)
{
    const struct oracle_grid *g = &rig->problem->grid;
    size_t S = g->video_blocks, B = g->blocks;
    const uint32_t *counts = (const uint32_t *)rig_workspace(rig, rig->layout.counts) + head * B;
    const uint16_t *lists = (const uint16_t *)rig_workspace(rig, rig->layout.lists) + head * B * B;
    uint8_t *kept = test_alloc(S * S, 1);
    for (size_t i = 0; i < S; i++) {
        size_t row = i + g->prefix_blocks, text = 0;
        for (size_t e = 0; e < counts[row]; e++) {
            size_t j = (size_t)lists[row * B + e] - g->prefix_blocks;
            text += j >= S;
            if (j < S)
                kept[i * S + j] = 1;
        }
        ck_assert_uint_eq(text, B - S); /* all text is kept */
    }
    return kept;
}

/* Of the pairs from `from` to `to` that are not forced: the least kept, the greatest dropped. */
static void extremes(const struct rig *rig, const struct oracle_rule *rule, const float *map,
                     const uint8_t *kept, size_t from, size_t to, float *least, float *greatest)
{
    const struct oracle_grid *g = &rig->problem->grid;
    *least = INFINITY, *greatest = -INFINITY;
    for (size_t at = from; at < to; at++) {
        uint32_t i = (uint32_t)at / g->video_blocks, j = (uint32_t)at % g->video_blocks;
        if (oracle_forced(g, rule, i, j))
            ck_assert_msg(kept[at], "forced pair %u, %u was dropped", i, j);
        else if (kept[at])
            *least = fminf(*least, map[at]);
        else
            *greatest = fmaxf(*greatest, map[at]);
    }
}

static size_t count_kept(const uint8_t *kept, size_t from, size_t to)
{
    size_t count = 0;
    for (size_t at = from; at < to; at++)
        count += kept[at];
    return count;
}

static void check_mass_row(const struct oracle_rule *rule, const float *map, const uint8_t *kept,
                           size_t n, size_t forced, float least)
{
    double sum = 0;
    for (size_t j = 0; j < n; j++)
        sum += kept[j] ? floor((double)map[j] * 0x1p31) : 0;
    size_t count = count_kept(kept, 0, n);
    double budget = ceil(rule->mass * 0x1p31);
    ck_assert_uint_ge(count, 1);
    ck_assert_msg(sum >= budget || count == n, "a row keeps %zu blocks, too few", count);
    if (count > forced && count > 1)
        ck_assert_msg(sum - floor((double)least * 0x1p31) < budget,
                      "a row keeps %zu blocks, one too many", count);
}

static size_t count_forced(const struct oracle_grid *g, const struct oracle_rule *rule, size_t from,
                           size_t to)
{
    size_t count = 0;
    for (size_t at = from; at < to; at++)
        count +=
            oracle_forced(g, rule, (uint32_t)at / g->video_blocks, (uint32_t)at % g->video_blocks);
    return count;
}

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

static void check_rule(const struct rig *rig, uint32_t head)
{
    const struct oracle_grid *g = &rig->problem->grid;
    struct oracle_rule rule = oracle_rule_of(&rig->problem->test->params, head);
    size_t S = g->video_blocks, pairs = S * S;
    bool by_row = rule.rule == DRAFT_RULE_ROW || rule.rule == DRAFT_RULE_MASS;
    const float *map = (const float *)rig_workspace(rig, rig->layout.map) + head * pairs;
    uint8_t *kept = kept_pairs(rig, head);
    for (size_t from = 0; from < pairs; from += by_row ? S : pairs) {
        size_t to = from + (by_row ? S : pairs), forced = count_forced(g, &rule, from, to);
        size_t count = count_kept(kept, from, to);
        float least, greatest;
        extremes(rig, &rule, map, kept, from, to, &least, &greatest);
        ck_assert_msg(least >= greatest, "p = %g is kept, %g is not", least, greatest);
        if (rule.rule == DRAFT_RULE_HEAD)
            ck_assert_uint_eq(count, larger(forced, (size_t)round((1 - rule.sparsity) * pairs)));
        if (rule.rule == DRAFT_RULE_ROW)
            ck_assert_uint_eq(count,
                              larger(forced, larger(1, (size_t)round((1 - rule.sparsity) * S))));
        if (rule.rule == DRAFT_RULE_MASS)
            check_mass_row(&rule, map + from, kept + from, S, forced, least);
        if (rule.rule == DRAFT_RULE_PAPER) {
            ck_assert_msg(least > greatest, "a tie with %g was dropped", least);
            ck_assert_uint_ge(count, pairs - (size_t)(rule.sparsity * pairs));
        }
    }
    free(kept);
}

START_TEST(rules_keep_what_they_say)
{
    const struct test_case *const *cases;
    size_t count = cases_chosen(&cases);
    for (size_t d = 0; d < device_count; d++)
        for (size_t c = 0; c < count; c++) {
            if ((strncmp(cases[c]->name, "rule", 4) && strncmp(cases[c]->name, "bare", 4)) ||
                !cells_take(&devices[d], cases[c]))
                continue;
            struct test_case test = *cases[c];
            test.fill = _i ? FILL_CONSTANT : FILL_SMOOTH;
            test.params.shape.dim = 8;
            struct problem problem;
            struct rig rig;
            rig_start(&rig, &problem, &devices[d], &test);
            OK(rig_run(&rig, DRAFT_POOL | DRAFT_SCORE | DRAFT_SELECT));
            buffer_get(&rig.workspace);
            for (uint32_t head = 0; head < problem.heads; head++)
                check_rule(&rig, head);
            rig_finish(&rig, &problem);
        }
}
END_TEST

/* Nothing is forced and there is no text: what `stages` checks of empty rows is not in vain. */
START_TEST(rows_may_be_empty)
{
    static const char *const bare[] = {"bare paper", "bare head", "bare nothing"};
    for (size_t d = 0; d < device_count; d++) {
        struct problem problem;
        struct rig rig;
        struct draft_density density;
        rig_start(&rig, &problem, &devices[d], case_named(bare[_i]));
        OK(rig_run(&rig, 0));
        OK(draft_density_read(rig.plan, rig.workspace.data, &density));
        ck_assert_uint_gt(density.empty_rows, 0);
        ck_assert(_i < 2 || density.kept_pairs == 0);
        rig_finish(&rig, &problem);
    }
}
END_TEST

START_TEST(each_row_has_its_floor)
{
    static const double floors[] = {0.25, 0.5, 1};
    struct test_case test = *case_named("beyond mean f32");
    test.params.shape.suffix = 0;
    test.params.scorer = DRAFT_SCORER_MEAN;
    test.params.tail = DRAFT_TAIL_DROP;
    test.params.sparsity = 0.6;
    test.params.row_floor = floors[_i];
    for (size_t d = 0; d < device_count; d++) {
        if (!cells_take(&devices[d], &test))
            continue;
        struct problem problem;
        struct rig rig;
        rig_start(&rig, &problem, &devices[d], &test);
        OK(rig_run(&rig, 0));
        ck_assert(rig_intact(&rig, 15));
        size_t s = problem.grid.video_blocks;
        double budget = round((1 - test.params.sparsity) * (double)(s * s));
        const uint32_t *counts = rig_workspace(&rig, rig.layout.counts);
        for (uint32_t h = 0; h < problem.heads; h++) {
            size_t kept = 0;
            for (size_t i = 0; i < s; i++) {
                ck_assert_uint_ge(counts[h * s + i], (size_t)(floors[_i] * budget / (double)s));
                kept += counts[h * s + i];
            }
            ck_assert_uint_eq(kept, (size_t)budget);
        }
        rig_finish(&rig, &problem);
    }
}
END_TEST

/* ---- Blocks have no inner order ---- */

/* Where each token goes: a random place within its block. */
static uint32_t *shuffle_blocks(const struct oracle_grid *g, struct rng *r)
{
    uint32_t *to = test_alloc(g->tokens, sizeof *to);
    for (uint32_t b = 0; b < g->blocks; b++)
        for (uint32_t n = 0; n < g->size[b]; n++) {
            uint32_t swap = rng_below(r, n + 1);
            const uint32_t *member = g->member + g->start[b];
            to[member[n]] = to[member[swap]];
            to[member[swap]] = member[n];
        }
    return to;
}

static void put_shuffled(struct buffer *b, const struct host_tensor *t, const uint32_t *to)
{
    uint8_t *bytes = test_alloc(t->size, 1);
    size_t size = type_size(t->type);
    memcpy(bytes, t->bytes, t->size);
    for (uint32_t batch = 0; batch < t->batch; batch++)
        for (uint32_t token = 0; token < t->tokens; token++)
            for (uint32_t head = 0; head < t->heads; head++)
                memcpy(bytes + tensor_row(t, batch, to[token], head) * size,
                       t->bytes + tensor_row(t, batch, token, head) * size, t->dim * size);
    buffer_put(b, 0, bytes, t->size);
    free(bytes);
}

static void shuffle_rows(struct oracle_result *r, const struct oracle_grid *g, const uint32_t *to)
{
    struct oracle_result from = *r;
    size_t dim = g->shape.dim;
    oracle_result_init(r, g);
    for (size_t token = 0; token < g->tokens; token++) {
        memcpy(r->out + to[token] * dim, from.out + token * dim, dim * sizeof *r->out);
        memcpy(r->magnitude + to[token] * dim, from.magnitude + token * dim,
               dim * sizeof *r->magnitude);
        r->lse[to[token]] = from.lse[token];
        r->reach[to[token]] = from.reach[token];
        r->bias[to[token]] = from.bias[token];
        r->most[to[token]] = from.most[token];
        r->keys[to[token]] = from.keys[token];
    }
    oracle_result_free(&from);
}

/* Sums of another order may round to other pooled keys: attend gets those that it had. */
static void keep_tail(struct rig *rig, const struct tail *tail)
{
    size_t size = (size_t)rig->problem->batch * rig->problem->kv_heads *
                  rig->problem->grid.video_blocks * rig->problem->dim *
                  type_size(rig->problem->k.type);
    if (!rig->layout.bias)
        return;
    buffer_put(&rig->workspace, rig->layout.tail_k, tail->k, size);
    buffer_put(&rig->workspace, rig->layout.tail_v, tail->v, size);
}

static const char *const shuffled_cases[] = {"tile 2x3x4", "tile 2x8x8", "beyond mean f32",
                                             "beyond fitted f32", "beyond tile 4x4x4"};

START_TEST(blocks_have_no_inner_order)
{
    const struct test_case *test = case_named(shuffled_cases[_i]);
    for (size_t d = 0; d < device_count; d++) {
        if (!cells_take(&devices[d], test))
            continue;
        struct problem problem;
        struct rig rig;
        struct expected expected;
        rig_start(&rig, &problem, &devices[d], test);
        OK(rig_run(&rig, 0));
        ck_assert(rig_intact(&rig, 15));
        struct tail tail = rig_tail(&rig);
        expected_init(&expected, &problem, rig_workspace(&rig, rig.layout.counts),
                      rig_workspace(&rig, rig.layout.lists), &tail);
        uint8_t *before = test_alloc(rig.workspace.size, 1);
        memcpy(before, buffer_read(&rig.workspace), rig.workspace.size);
        struct rng r = rng_of("shuffle", d);
        uint32_t *to = shuffle_blocks(&problem.grid, &r);
        put_shuffled(&rig.q, &problem.q, to);
        put_shuffled(&rig.k, &problem.k, to);
        put_shuffled(&rig.v, &problem.v, to);
        for (size_t head = 0; head < (size_t)problem.batch * problem.heads; head++)
            shuffle_rows(&expected.heads[head], &problem.grid, to);
        OK(rig_run(&rig, DRAFT_POOL)); /* lists and bias stay as they were */
        ck_assert(rig_intact(&rig, 15));
        const char *cell = cell_name(&devices[d], "shuffled", "");
        /* Quarters are the one thing that knows the order. */
        if (!rig.layout.quarters)
            ck_assert_uint_eq(check_pool(&rig, cell), 0);
        keep_tail(&rig,
                  &(struct tail){before + rig.layout.tail_k, before + rig.layout.tail_v, NULL, 0});
        OK(rig_run(&rig, DRAFT_ATTEND));
        ck_assert(rig_intact(&rig, 15));
        ck_assert_uint_eq(check_attend(&rig, &expected, cell), 0);
        expected_free(&expected);
        free(before);
        free(to);
        rig_finish(&rig, &problem);
    }
}
END_TEST

/* ---- Two halves make a whole ---- */

/* Attend with the lists that keep the pairs with (i + j) % 2 == part, or all where part is 2. */
static void attend_part(struct rig *rig, uint32_t part, void *out, float *lse)
{
    const struct problem *p = rig->problem;
    size_t B = p->grid.blocks, heads = (size_t)p->batch * p->heads;
    uint32_t *counts = test_alloc(heads * B, sizeof *counts);
    uint16_t *lists = test_alloc(heads * B * B, sizeof *lists);
    for (size_t row = 0; row < heads * B; row++)
        for (size_t j = 0; j < B; j++)
            if (part == 2 || (row + j) % 2 == part)
                lists[row * B + counts[row]++] = (uint16_t)j;
    OK(draft_lists_write(rig->plan, rig->workspace.data, counts, lists));
    OK(rig_run(rig, DRAFT_ATTEND));
    memcpy(out, buffer_get(&rig->out), rig->out.size);
    memcpy(lse, buffer_get(&rig->lse), rig->lse.size);
    free(counts);
    free(lists);
}

/* Of a packed tensor. */
static double largest(const struct host_tensor *t)
{
    double most = 0;
    for (uint64_t i = 0; i < t->size / type_size(t->type); i++)
        most = fmax(most, fabs(type_load(t->type, t->bytes, i)));
    return most;
}

static double weight_of(double lse, double whole)
{
    return lse == -INFINITY ? 0 : exp(lse - whole);
}

/* out = sum of exp(lse_part - lse) out_part: what each part's share is worth, and recall: the
 * shares lie in [0, 1] and sum to 1. */
START_TEST(halves_make_a_whole)
{
    const struct test_case *test = case_named("plain");
    draft_type type = test->params.type;
    for (size_t d = 0; d < device_count; d++) {
        struct problem problem;
        struct rig rig;
        void *out[3];
        float *lse[3];
        rig_start(&rig, &problem, &devices[d], test);
        for (uint32_t part = 0; part < 3; part++) {
            out[part] = test_alloc(rig.out.size, 1);
            lse[part] = test_alloc(rig.lse.size, 1);
            attend_part(&rig, part, out[part], lse[part]);
        }
        /* 16 bits round the weights and out, in the parts and in the whole. */
        double narrow = type == DRAFT_F32 ? 0 : 4 * type_roundoff(type) * largest(&problem.v);
        size_t tokens = problem.grid.tokens, dim = problem.dim;
        for (size_t row = 0; row < tokens * problem.heads; row++) {
            size_t token = row / problem.heads, head = row % problem.heads;
            size_t at = head * tokens + token;
            double share[2] = {weight_of(lse[0][at], lse[2][at]),
                               weight_of(lse[1][at], lse[2][at])};
            double rounding = 64 * 0x1p-24 * (1 + fabs(lse[2][at]));
            ck_assert_double_eq_tol(share[0] + share[1], 1, rounding);
            for (size_t e = row * dim; e < (row + 1) * dim; e++) {
                double whole =
                    share[0] * type_load(type, out[0], e) + share[1] * type_load(type, out[1], e);
                ck_assert_double_eq_tol(whole, type_load(type, out[2], e), 8 * rounding + narrow);
            }
        }
        for (uint32_t part = 0; part < 3; part++) {
            free(out[part]);
            free(lse[part]);
        }
        rig_finish(&rig, &problem);
    }
}
END_TEST

/* More blocks, more mass: the log-sum-exp of each row grows with the budget up to the dense one. */
START_TEST(mass_grows_with_the_budget)
{
    static const double sparsities[] = {0.95, 0.7, 0.4, 0};
    struct test_case test = *case_named("rule head 0.5");
    for (size_t d = 0; d < device_count; d++) {
        float *before = NULL;
        for (size_t i = 0; i < 4; i++) {
            struct problem problem;
            struct rig rig;
            test.params.sparsity = sparsities[i];
            rig_start(&rig, &problem, &devices[d], &test);
            OK(rig_run(&rig, 0));
            const float *lse = (const float *)buffer_get(&rig.lse);
            size_t rows = rig.lse.size / sizeof *lse;
            for (size_t row = 0; before && row < rows; row++)
                ck_assert_double_ge(lse[row], before[row] - 64 * 0x1p-24 * (1 + fabs(lse[row])));
            free(before);
            before = test_alloc(rows, sizeof *before);
            memcpy(before, lse, rig.lse.size);
            rig_finish(&rig, &problem);
        }
        free(before);
    }
}
END_TEST

int main(int argc, char **argv)
{
    device_count = devices_open(argc > 1 ? argv[1] : NULL, devices);
    if (device_count == 0)
        return EXIT_SKIPPED;
    cases_change_f32(devices_type(devices, device_count));
    Suite *suite = suite_create("method");
    TCase *tests = tcase_create("method");
    tcase_add_loop_test(tests, sparsity_0_is_dense, 0, sizeof dense_cases / sizeof *dense_cases);
    tcase_add_loop_test(tests, rules_keep_what_they_say, 0, 2);
    tcase_add_loop_test(tests, rows_may_be_empty, 0, 3);
    tcase_add_loop_test(tests, each_row_has_its_floor, 0, 3);
    tcase_add_loop_test(tests, blocks_have_no_inner_order, 0,
                        sizeof shuffled_cases / sizeof *shuffled_cases);
    tcase_add_test(tests, halves_make_a_whole);
    tcase_add_test(tests, mass_grows_with_the_budget);
    suite_add_tcase(suite, tests);
    int status = suite_main(suite, false);
    devices_close(devices, device_count);
    return status;
}
