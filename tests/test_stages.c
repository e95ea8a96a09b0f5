/* SPDX-License-Identifier: MIT
 *
 * The heart of the tests: each stage, in each variant, on each device, for each case, alone with
 * injected input; then all stages in a row. Arguments: the backend to test (all where absent); those
 * variants, with commas, that are not run alone (none where absent).
 * $DRAFT_CASES chooses cases, $DRAFT_SEED the random numbers; $DRAFT_VERBOSE=1 prints the time of
 * each case, 2 that of each kernel as well. $DRAFT_RANDOM=SEED[,COUNT]: nothing but cases drawn at
 * random, of COUNT seeds from SEED on. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cells.h"
#include "random_walk.h"
#include "suite.h"

static struct test_device devices[MAX_DEVICES];
static size_t device_count;
static const struct test_case *const *cases;

static struct tallies tallies;

static void print_tallies(void)
{
    for (size_t i = 0; i < tallies.count; i++) {
        const struct tally *t = &tallies.rows[i];
        printf("%-40s %5u runs, %u refused%s\n",
               cell_name(t->cell.device, t->cell.stage, t->cell.variant), t->runs, t->refused,
               t->runs ? "" : ": NEVER TESTED HERE");
    }
    printf("largest error / tolerance: pool %.2f, score %.2f, attend %.2f, lse %.2f\n",
           checks_worst("pool"), checks_worst("score"), checks_worst("attend"),
           checks_worst("lse"));
}

static double seconds(void)
{
    struct timespec now;
    timespec_get(&now, TIME_UTC);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static int verbosity(void)
{
    const char *text = getenv("DRAFT_VERBOSE");
    return text ? atoi(text) : 0;
}

static void cell_ran(void *user, const struct cell *cell, const struct outcome *outcome)
{
    (void)user;
    if (!outcome)
        return;
    tallies_add(&tallies, cell, outcome);
    if (verbosity() > 1)
        printf("    %6.2f s  %s\n", outcome->seconds,
               cell_name(cell->device, cell->stage, cell->variant));
    fflush(stdout);
}

START_TEST(each_case)
{
    const struct test_case *test = cases[_i];
    struct inputs in = {0};
    size_t bad = 0;
    double start = seconds();
    for (size_t d = 0; d < device_count; d++) {
        if (!cells_take(&devices[d], test)) {
            printf("  case \"%s\": left out, %s does not take it\n", test->name,
                   devices[d].info.name);
            continue;
        }
        size_t found = cells_run(&devices[d], test, &in, cell_ran, NULL);
        if (found)
            printf("  case \"%s\": %zu mismatches on %s\n", test->name, found,
                   devices[d].info.name);
        bad += found;
    }
    if (in.pooled_q)
        inputs_free(&in);
    if (verbosity() > 0)
        printf("  %6.2f s  %s\n", seconds() - start, test->name);
    fflush(stdout);
    ck_assert_msg(bad == 0, "case \"%s\": %zu mismatches", test->name, bad);
}
END_TEST

/* ---- At random ---- */

/* All seeds are one test: a loop of Check's would write a line for each. */
static uint64_t first_seed, seeds;

static void be_silent(void *user, const char *text)
{
    (void)user;
    (void)text;
}

static void ignore(void *user, const struct cell *cell, const struct outcome *outcome)
{
    (void)user;
    (void)cell;
    (void)outcome;
}

static size_t run_cells(struct test_device *device, const struct random_case *c, cell_told *told)
{
    struct inputs in = {0};
    size_t bad = cells_run(device, &c->test, &in, told, NULL);
    if (in.pooled_q)
        inputs_free(&in);
    return bad;
}

typedef size_t run_random(struct test_device *, const struct random_case *, cell_told *);

/* Takes away what `run` fails without. */
static void reduce(struct test_device *device, struct random_case *c, run_random *run)
{
    struct random_case less;
    bool again = true;
    test_print_to(be_silent, NULL);
    for (int round = 0; again && round < 8; round++) {
        again = false;
        for (unsigned change = 0; change < RANDOM_CHANGES; change++) {
            random_case_copy(&less, c);
            if (!random_case_less(&less, change) || run(device, &less, ignore) == 0)
                continue;
            random_case_copy(c, &less);
            again = true;
        }
    }
    test_print_to(NULL, NULL);
}

static bool is_refused(struct test_device *device, const struct random_case *c, uint64_t seed)
{
    struct random_case spoilt;
    draft_plan *plan = NULL;
    random_case_copy(&spoilt, c);
    const char *what = random_case_spoil(&spoilt, seed);
    draft_status status = rig_plan(device, &spoilt.test, "", &plan);
    if (status != DRAFT_ERROR_ARGUMENT)
        printf("  %s, with %s spoilt: %s\n", c->name, what, draft_status_name(status));
    draft_plan_destroy(&plan);
    return status == DRAFT_ERROR_ARGUMENT;
}

static bool try_seed(struct test_device *device, uint64_t seed)
{
    struct random_case c;
    double start = seconds();
    random_case_draw(&c, seed, devices_type(device, 1));
    if (verbosity() > 0)
        printf("  %s: %s\n", c.name, random_case_words(&c));
    fflush(stdout);
    size_t bad = run_cells(device, &c, cell_ran);
    run_random *run = bad ? run_cells : random_walk;
    if (!bad)
        bad = random_walk(device, &c, cell_ran);
    if (verbosity() > 0)
        printf("  %6.2f s\n", seconds() - start);
    if (!bad)
        return is_refused(device, &c, seed);
    printf("  DRAFT_RANDOM=%" PRIu64 ": %zu mismatches on %s: %s\n", seed, bad, device->info.name,
           random_case_words(&c));
    fflush(stdout);
    reduce(device, &c, run);
    printf("  it fails as well with %s\n", random_case_words(&c));
    fflush(stdout);
    return false;
}

START_TEST(each_seed)
{
    size_t bad = 0;
    for (uint64_t seed = first_seed; seed < first_seed + seeds; seed++)
        for (size_t d = 0; d < device_count; d++)
            bad += !try_seed(&devices[d], seed);
    ck_assert_msg(bad == 0, "%zu of %" PRIu64 " random cases", bad, seeds);
}
END_TEST

/* ---- Not numbers ---- */

/* NaN and infinities anywhere must neither crash, hang nor write astray, and lists stay lists. */
static void check_sane_lists(const struct rig *rig)
{
    const struct problem *p = rig->problem;
    size_t blocks = p->grid.blocks;
    const uint32_t *counts = rig_workspace(rig, rig->layout.counts);
    const uint16_t *lists = rig_workspace(rig, rig->layout.lists);
    for (size_t row = 0; row < (size_t)p->batch * p->heads * blocks; row++, lists += blocks) {
        ck_assert_uint_le(counts[row], blocks);
        for (size_t e = 0; e < counts[row]; e++) {
            ck_assert_uint_lt(lists[e], blocks);
            ck_assert(e == 0 || lists[e - 1] < lists[e]);
        }
    }
}

static void strew(struct rig *rig, struct buffer *b, draft_type type, uint32_t every)
{
    static const double strange[] = {NAN, INFINITY, -INFINITY};
    struct rng r = rng_of(rig->problem->test->name, 's');
    uint8_t *bytes = test_alloc(b->size, 1);
    memcpy(bytes, buffer_image(b), b->size);
    for (size_t i = 0; i < b->size / type_size(type); i++)
        if (rng_below(&r, every) == 0)
            type_store(type, bytes, i, strange[rng_below(&r, 3)]);
    buffer_put(b, 0, bytes, b->size);
    free(bytes);
}

static const char *const strange_cases[] = {"plain",
                                            "batch valid",
                                            "rule mass",
                                            "rule paper 0.5",
                                            "rule row 0.5",
                                            "tile 2x3x4",
                                            "beyond lse gap row f16",
                                            "beyond fitted f32",
                                            "beyond excess mean row f16",
                                            "beyond floor not self",
                                            "beyond max fitted bf16"};

START_TEST(not_numbers)
{
    const struct test_case *test = case_named(strange_cases[_i]);
    for (size_t d = 0; d < device_count; d++) {
        if (!cells_take(&devices[d], test))
            continue;
        for (uint32_t every = 1; every <= 1000; every *= 10) {
            struct problem problem;
            struct rig rig;
            draft_plan *plan = NULL;
            problem_init(&problem, test, cells_tile(&devices[d], test));
            OK(rig_plan(&devices[d], test, NULL, &plan));
            rig_init(&rig, &devices[d], &problem, plan);
            rig_reset(&rig);
            strew(&rig, &rig.q, test->params.type, every);
            strew(&rig, &rig.k, test->params.type, every);
            strew(&rig, &rig.v, test->params.type, every);
            OK(rig_run(&rig, 0));
            ck_assert(rig_intact(&rig, 15));
            check_sane_lists(&rig);
            rig_free(&rig);
            problem_free(&problem);
        }
    }
}
END_TEST

/* A query that is not a number spoils its own row only. */
START_TEST(rows_are_apart)
{
    const struct test_case *test = case_named("dense");
    for (size_t d = 0; d < device_count; d++) {
        struct problem problem;
        struct rig rig;
        draft_plan *plan = NULL;
        problem_init(&problem, test, cells_tile(&devices[d], test));
        OK(rig_plan(&devices[d], test, NULL, &plan));
        rig_init(&rig, &devices[d], &problem, plan);
        rig_reset(&rig);
        OK(rig_run(&rig, 0));
        size_t bytes = rig.out.size, row = problem.dim * type_size(test->params.type);
        uint8_t *clean = test_alloc(bytes, 1);
        memcpy(clean, buffer_get(&rig.out), bytes);
        size_t at = tensor_row(&problem.q, 0, 77, 1) * type_size(test->params.type);
        uint8_t *nan = test_alloc(row, 1);
        memset(nan, 0xff, row); /* in each type */
        buffer_put(&rig.q, at, nan, row);
        OK(rig_run(&rig, DRAFT_ATTEND));
        const uint8_t *now = buffer_get(&rig.out);
        ck_assert(memcmp(clean, now, at) == 0);
        ck_assert(memcmp(clean + at + row, now + at + row, bytes - at - row) == 0);
        ck_assert(isnan(type_load(test->params.type, now + at, 0)));
        free(nan);
        free(clean);
        rig_free(&rig);
        problem_free(&problem);
    }
}
END_TEST

/* The first query blocks keep all key blocks, the others their own alone. */
enum { KEEP_ALL = 4 };

static void write_short_lists(struct rig *rig)
{
    uint32_t blocks = rig->problem->grid.blocks;
    size_t heads = (size_t)rig->problem->batch * rig->problem->heads, rows = heads * blocks;
    uint32_t *counts = test_alloc(rows, sizeof *counts);
    uint16_t *lists = test_alloc(rows * blocks, sizeof *lists);
    for (size_t r = 0; r < rows; r++) {
        bool all = r % blocks < KEEP_ALL;
        counts[r] = all ? blocks : 1;
        lists[r * blocks] = all ? 0 : (uint16_t)(r % blocks);
        for (uint32_t e = 1; e < counts[r]; e++)
            lists[r * blocks + e] = (uint16_t)e;
    }
    OK(draft_lists_write(rig->plan, rig->workspace.data, counts, lists));
    free(lists);
    free(counts);
}

/* Values that are not numbers stay with those who keep them, whatever a kernel had in its hands
 * before: text fills more rows of a tile than video does here. */
START_TEST(blocks_are_apart)
{
    const struct test_case *test = case_named("tile 3x5x8");
    for (size_t d = 0; d < device_count; d++) {
        struct problem problem;
        struct rig rig;
        draft_plan *plan = NULL;
        problem_init(&problem, test, cells_tile(&devices[d], test));
        OK(rig_plan(&devices[d], test, NULL, &plan));
        rig_init(&rig, &devices[d], &problem, plan);
        rig_reset(&rig);
        write_short_lists(&rig);
        const struct oracle_grid *g = &problem.grid;
        size_t size = type_size(problem.v.type), row = problem.dim * size;
        uint8_t *nan = test_alloc(row, 1);
        memset(nan, 0xff, row); /* in each type */
        for (uint32_t token = g->tokens - test->params.shape.suffix; token < g->tokens; token++)
            buffer_put(&rig.v, tensor_row(&problem.v, 0, token, 0) * size, nan, row);
        OK(rig_run(&rig, DRAFT_ATTEND));
        const uint8_t *out = buffer_get(&rig.out);
        for (uint32_t token = 0; token < g->tokens; token++) {
            bool is_text = g->block_of[token] >= g->prefix_blocks + g->video_blocks;
            bool keeps = g->block_of[token] < KEEP_ALL || is_text;
            uint64_t at = tensor_row(&problem.out, 0, token, 0);
            ck_assert(isnan(type_load(problem.out.type, out, at)) == keeps);
        }
        free(nan);
        rig_free(&rig);
        problem_free(&problem);
    }
}
END_TEST

static Suite *stages_suite(void)
{
    size_t case_count = cases_chosen(&cases);
    Suite *suite = suite_create("stages");
    TCase *tests = tcase_create("cases");
    tcase_add_loop_test(tests, each_case, 0, (int)case_count);
    suite_add_tcase(suite, tests);
    TCase *strange = tcase_create("not numbers");
    tcase_add_loop_test(strange, not_numbers, 0, sizeof strange_cases / sizeof *strange_cases);
    tcase_add_test(strange, rows_are_apart);
    tcase_add_test(strange, blocks_are_apart);
    suite_add_tcase(suite, strange);
    return suite;
}

static Suite *random_suite(void)
{
    Suite *suite = suite_create("random");
    TCase *tests = tcase_create("random");
    tcase_add_test(tests, each_seed);
    suite_add_tcase(suite, tests);
    return suite;
}

int main(int argc, char **argv)
{
    device_count = devices_open(argc > 1 ? argv[1] : NULL, devices);
    if (device_count == 0)
        return EXIT_SKIPPED;
    for (size_t d = 0; d < device_count; d++)
        devices[d].left_out = argc > 2 ? argv[2] : NULL;
    draft_type type = devices_type(devices, device_count);
    cases_change_f32(type);
    if (type != DRAFT_F32)
        printf("cases of f32 run as %s, but for those that are about f32\n", type_name(type));
    seeds = random_seeds(&first_seed);
    for (size_t d = 0; d < device_count; d++)
        devices[d].trusted = seeds > 0; /* each seed would have self-tests of its own */
    int status = suite_main(seeds ? random_suite() : stages_suite(), false);
    print_tallies();
    tallies_free(&tallies);
    devices_close(devices, device_count);
    return status;
}
