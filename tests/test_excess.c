/* SPDX-License-Identifier: MIT
 *
 * What must be true of scorer EXCESS as a whole, whatever the backend: parts have no inner order,
 * blocks of one key score as their means do, what pooled keys say exactly is left out, and heads do
 * not know of each other. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cells.h"
#include "suite.h"
#include "tolerance.h"

static struct test_device devices[MAX_DEVICES];
static size_t device_count;

/* ---- Tensors of one's own ---- */

/* What element d of a token becomes; rows [tokens][dim] are those of its head as they were. */
typedef double value_of(const struct problem *p, const double *rows, uint32_t token, uint32_t d);

static uint32_t video_block(const struct oracle_grid *g, uint32_t token)
{
    return g->block_of[token] - g->prefix_blocks; /* no less than S for text */
}

static uint32_t first_token(const struct oracle_grid *g, uint32_t token)
{
    return g->member[g->start[g->block_of[token]]];
}

static void refill(const struct problem *p, struct host_tensor *t, double *exact,
                   struct buffer *buffer, value_of *value)
{
    size_t head_size = (size_t)p->grid.tokens * p->dim;
    double *rows = test_alloc(head_size, sizeof *rows);
    for (uint32_t head = 0; head < t->heads; head++, exact += head_size) {
        memcpy(rows, exact, head_size * sizeof *rows);
        for (uint32_t token = 0; token < p->grid.tokens; token++)
            for (uint32_t d = 0; d < p->dim; d++) {
                uint64_t at = tensor_row(t, 0, token, head) + d;
                type_store(t->type, t->bytes, at, value(p, rows, token, d));
                exact[(size_t)token * p->dim + d] = type_load(t->type, t->bytes, at);
            }
    }
    free(rows);
    buffer_put(buffer, 0, t->bytes, t->size);
}

static void start(struct rig *rig, struct problem *p, struct test_device *device,
                  const struct test_case *test, value_of *of_q, value_of *of_k)
{
    rig_start(rig, p, device, test);
    refill(p, &p->q, p->exact_q, &rig->q, of_q);
    refill(p, &p->k, p->exact_k, &rig->k, of_k);
}

/* ---- Order ---- */

/* Sums of these are exact in f32, in any order. */
static double coarse(const struct problem *p, const double *rows, uint32_t token, uint32_t d)
{
    return round(rows[(size_t)token * p->dim + d] * 64) / 64;
}

/* The token before this one, in turn, of those in the same part of the block; mix: of all in it. */
static uint32_t turned(const struct oracle_grid *g, uint32_t token, bool mix,
                       uint32_t (*part)(const struct oracle_grid *, uint32_t))
{
    uint32_t block = g->block_of[token], size = g->size[block], at = 0;
    const uint32_t *member = g->member + g->start[block];
    if (video_block(g, token) >= g->video_blocks)
        return token;
    while (member[at] != token)
        at++;
    do
        at = (at + size - 1) % size;
    while (!mix && part(g, member[at]) != part(g, token));
    return member[at];
}

static double turned_q(const struct problem *p, const double *rows, uint32_t token, uint32_t d)
{
    return rows[(size_t)turned(&p->grid, token, false, oracle_quarter) * p->dim + d];
}

static double turned_k(const struct problem *p, const double *rows, uint32_t token, uint32_t d)
{
    return rows[(size_t)turned(&p->grid, token, false, oracle_part) * p->dim + d];
}

static double mixed_k(const struct problem *p, const double *rows, uint32_t token, uint32_t d)
{
    return rows[(size_t)turned(&p->grid, token, true, oracle_part) * p->dim + d];
}

/* Has the map other bits than `before`, which then holds the new ones? */
static bool map_changes(struct rig *rig, uint8_t *before)
{
    const struct problem *p = rig->problem;
    size_t s = p->grid.video_blocks, size = p->heads * s * s * sizeof(float);
    OK(rig_run(rig, DRAFT_POOL | DRAFT_SCORE));
    const uint8_t *map = buffer_get(&rig->workspace) + rig->layout.map;
    bool changed = memcmp(map, before, size) != 0;
    memcpy(before, map, size);
    return changed;
}

START_TEST(parts_have_no_inner_order)
{
    static const char *const names[] = {"beyond excess f32", "beyond excess gap floor bf16",
                                        "beyond excess tile one row"};
    const struct test_case *test = case_named(names[_i]);
    for (size_t d = 0; d < device_count; d++) {
        if (!cells_take(&devices[d], test))
            continue;
        struct problem problem;
        struct rig rig;
        start(&rig, &problem, &devices[d], test, coarse, coarse);
        uint8_t *map = test_alloc(rig.workspace.size, 1);
        ck_assert(map_changes(&rig, map));
        refill(&problem, &problem.q, problem.exact_q, &rig.q, turned_q);
        refill(&problem, &problem.k, problem.exact_k, &rig.k, turned_k);
        ck_assert_msg(!map_changes(&rig, map), "the order within parts changes the map");
        refill(&problem, &problem.k, problem.exact_k, &rig.k, mixed_k);
        ck_assert_msg(map_changes(&rig, map), "the map does not depend on the parts");
        free(map);
        rig_finish(&rig, &problem);
    }
}
END_TEST

/* ---- Blocks of one key ---- */

static double level(const struct problem *p, const double *rows, uint32_t token, uint32_t d)
{
    return rows[(size_t)first_token(&p->grid, token) * p->dim + d];
}

/* Where q and k are constant in each block g is 0, and each score that of MEAN with one constant
 * added. The error of g, that of sums of weights and of a logarithm, is magnified 99 times. */
START_TEST(blocks_of_one_key_score_as_their_means)
{
    const struct test_case *test = case_named("beyond excess mean row f16");
    for (size_t d = 0; d < device_count; d++) {
        if (!cells_take(&devices[d], test))
            continue;
        struct problem p;
        struct rig rig;
        start(&rig, &p, &devices[d], test, level, level);
        OK(rig_run(&rig, DRAFT_POOL | DRAFT_SCORE));
        ck_assert(rig_intact(&rig, 3));
        size_t n = p.grid.video_blocks, numbers = n * p.dim, bad = 0;
        double *want = test_alloc(n * n, sizeof *want), *logits = test_alloc(n * n, sizeof *want);
        double *error = test_alloc(n, sizeof *error);
        for (uint32_t h = 0; h < p.heads; h++) {
            const float *q = (const float *)rig_workspace(&rig, rig.layout.pooled_q) + h * numbers;
            const float *k = (const float *)rig_workspace(&rig, rig.layout.pooled_k) + h * numbers;
            const float *map = (const float *)rig_workspace(&rig, rig.layout.map) + h * n * n;
            oracle_score(&p.grid, p.scale, q, k, want, logits);
            double longest = 0, largest = 0;
            for (size_t i = 0; i < n; i++)
                longest = fmax(longest, length_of(k + i * p.dim, p.dim));
            for (size_t at = 0; at < n * n; at++)
                largest = fmax(largest, fabs(logits[at]));
            for (size_t i = 0; i < n; i++)
                error[i] = logit_error(&p, q + i * p.dim, longest, largest) +
                           99 * (LOG_ERROR + FUNCTION * U32 + sum_error(DRAFT_PARTS));
            bad += check_map_rows(&rig, cell_name(&devices[d], "one key", ""), 0, h, want, logits,
                                  error, map);
        }
        ck_assert_uint_eq(bad, 0);
        free(want);
        free(logits);
        free(error);
        rig_finish(&rig, &p);
    }
}
END_TEST

/* ---- What is left out ---- */

static double parallel_q(const struct problem *p, const double *rows, uint32_t token, uint32_t d)
{
    return d == 0 ? 4 : 0.25 * rows[(size_t)token * p->dim + d];
}

/* Odd blocks: keys that differ from part to part, logits +-4. Even blocks: one key, logit 3.5. The
 * masses are much the same. */
static double striped_k(const struct problem *p, const double *rows, uint32_t token, uint32_t d)
{
    const struct oracle_grid *g = &p->grid;
    uint32_t block = video_block(g, token), columns = 4; /* of parts, with tile 1x8x8 */
    if (block >= g->video_blocks || d > 0)
        return 0.25 * rows[(size_t)first_token(g, token) * p->dim + d];
    uint32_t part = oracle_part(g, token);
    return block % 2 == 0 ? 7 : (part / columns + part) % 2 ? 8 : -8;
}

/* Pairs of the video that are kept, of even key blocks. */
static size_t count_even(const struct rig *rig)
{
    const struct oracle_grid *g = &rig->problem->grid;
    const uint32_t *counts = rig_workspace(rig, rig->layout.counts);
    const uint16_t *lists = rig_workspace(rig, rig->layout.lists);
    size_t even = 0;
    for (size_t row = 0; row < (size_t)rig->problem->heads * g->blocks; row++) {
        if (row % g->blocks >= g->video_blocks) /* text, which keeps everything */
            continue;
        ck_assert_uint_eq(counts[row], g->video_blocks / 2 + g->suffix_blocks);
        for (uint32_t e = 0; e < g->video_blocks / 2; e++)
            even += lists[row * g->blocks + e] % 2 == 0;
    }
    return even;
}

/* With the tail MEAN blocks of one key and one value lose nothing: EXCESS keeps the others, and the
 * result is dense attention. LSE, which goes by the mass, keeps some of them. */
START_TEST(what_the_tail_says_exactly_is_left_out)
{
    struct test_case test = *case_named("beyond excess mean row f16");
    test.params.sparsity = 0.5;
    test.params.force = DRAFT_FORCE_NOT_SELF;
    test.params.scorer = _i ? DRAFT_SCORER_LSE : DRAFT_SCORER_EXCESS;
    for (size_t d = 0; d < device_count; d++) {
        if (!cells_take(&devices[d], &test))
            continue;
        struct problem p;
        struct rig rig;
        struct expected expected;
        start(&rig, &p, &devices[d], &test, parallel_q, striped_k);
        refill(&p, &p.v, p.exact_v, &rig.v, level);
        expected_init(&expected, &p, NULL, NULL, NULL);
        OK(rig_run(&rig, 0));
        ck_assert(rig_intact(&rig, 15));
        ck_assert(p.grid.prefix_blocks == 0 && p.grid.video_blocks % 2 == 0);
        ck_assert((count_even(&rig) > 0) == _i);
        const char *cell = cell_name(&devices[d], "excess", "");
        ck_assert_uint_eq(_i ? 0 : check_attend(&rig, &expected, cell), 0);
        expected_free(&expected);
        rig_finish(&rig, &p);
    }
}
END_TEST

/* ---- Portions ---- */

enum { HEADS = 17 };

/* Plans see scores this many times as large: small ones come in portions too. */
static uint64_t magnified = 1;
static uint64_t portion; /* of HEADS heads; 0: nobody asked */

uint64_t __real_draft_portion_heads(const struct draft_geometry *g, uint64_t bytes);
uint64_t __wrap_draft_portion_heads(const struct draft_geometry *g, uint64_t bytes)
{
    uint64_t heads = __real_draft_portion_heads(g, bytes * magnified);
    if (g->heads == HEADS)
        portion = heads;
    return heads;
}

static bool is_software(const struct draft_device_info *info)
{
    return strcmp(info->backend, "cpu") == 0 || strstr(info->name, "llvmpipe") ||
           strncmp(info->name, "Simulated", 9) == 0;
}

/* 17 heads of 500 blocks: 65 MiB of scores, which backends that keep them in memory take in two
 * portions. The first and the last head alone, which they take at once, have the same bits. Where
 * that would take minutes 72 blocks do, as if they were 64 times as many bytes. */
START_TEST(heads_come_in_portions)
{
    struct test_case all = *case_named("beyond excess mean row f16");
    all.params.tail = DRAFT_TAIL_DROP;
    all.params.tile = (struct draft_tile){1, 2, 2};
    for (size_t d = 0; d < device_count; d++) {
        bool small = is_software(&devices[d].info);
        all.params.shape = (struct draft_shape){.frames = 1,
                                                .height = small ? 15 : 40,
                                                .width = small ? 17 : 50,
                                                .heads = HEADS,
                                                .kv_heads = 1,
                                                .dim = 8};
        struct test_case alone = all;
        alone.params.shape.heads = 1;
        magnified = small ? 64 : 1;
        portion = 0;
        if (!cells_take(&devices[d], &all))
            continue;
        struct problem problem, one;
        struct rig rig, single;
        rig_start(&rig, &problem, &devices[d], &all);
        rig_start(&single, &one, &devices[d], &alone);
        ck_assert_uint_eq(portion, strcmp(devices[d].info.backend, "cpu") == 0 ? 0 : 9);
        OK(rig_run(&rig, DRAFT_POOL | DRAFT_SCORE));
        ck_assert(rig_intact(&rig, DRAFT_POOL | DRAFT_SCORE));
        size_t map = (size_t)problem.grid.video_blocks * problem.grid.video_blocks * sizeof(float);
        for (uint32_t h = 0; h < HEADS; h += HEADS - 1) {
            single.run.q.data =
                rig.run.q.data + h * problem.q.head_stride * type_size(all.params.type);
            single.run.q.token_stride = problem.q.token_stride;
            single.run.k = rig.run.k;
            OK(rig_run(&single, DRAFT_POOL | DRAFT_SCORE));
            const uint8_t *want = buffer_get(&single.workspace) + single.layout.map;
            const uint8_t *got = (const uint8_t *)rig_workspace(&rig, rig.layout.map) + h * map;
            ck_assert_msg(memcmp(got, want, map) == 0, "head %u has another map", h);
        }
        rig_finish(&single, &one);
        rig_finish(&rig, &problem);
        magnified = 1;
    }
}
END_TEST

int main(int argc, char **argv)
{
    device_count = devices_open(argc > 1 ? argv[1] : NULL, devices);
    if (!device_count)
        return EXIT_SKIPPED;
    Suite *suite = suite_create("excess");
    TCase *tests = tcase_create("excess");
    tcase_add_loop_test(tests, parts_have_no_inner_order, 0, 3);
    tcase_add_test(tests, blocks_of_one_key_score_as_their_means);
    tcase_add_loop_test(tests, what_the_tail_says_exactly_is_left_out, 0, 2);
    tcase_add_test(tests, heads_come_in_portions);
    suite_add_tcase(suite, tests);
    int status = suite_main(suite, false);
    devices_close(devices, device_count);
    return status;
}
