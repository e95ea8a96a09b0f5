/* SPDX-License-Identifier: MIT
 *
 * The heart of the tests: each stage, in each variant, on each device, for each case, alone with
 * injected input; then all stages in a row. Argument: the backend to test (all where absent).
 * $DRAFT_CASES chooses cases, $DRAFT_SEED the random numbers; $DRAFT_VERBOSE=1 prints the time of
 * each case, 2 that of each kernel as well. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "checks.h"

static struct test_device devices[MAX_DEVICES];
static size_t device_count;
static const struct test_case *const *cases;

/* What became of the variants: how often each was run, how often its plan was refused. */
struct tally {
    char cell[128];
    unsigned runs, refused;
};

static struct tally tallies[256];

static struct tally *tally_of(const char *cell)
{
    size_t i = 0;
    while (i < sizeof tallies / sizeof *tallies - 1 && tallies[i].cell[0] &&
           strcmp(tallies[i].cell, cell) != 0)
        i++;
    snprintf(tallies[i].cell, sizeof tallies[i].cell, "%s", cell);
    return &tallies[i];
}

static void print_tallies(void)
{
    for (size_t i = 0; i < sizeof tallies / sizeof *tallies && tallies[i].cell[0]; i++)
        printf("%-40s %5u runs, %u refused%s\n", tallies[i].cell, tallies[i].runs,
               tallies[i].refused, tallies[i].runs ? "" : ": NEVER TESTED HERE");
    printf("largest error / tolerance: pool %.2f, score %.2f, attend %.2f, lse %.2f\n",
           checks_worst("pool"), checks_worst("score"), checks_worst("attend"),
           checks_worst("lse"));
}

/* What is injected, the same for each device and variant. */
struct inputs {
    struct problem problem;
    float *pooled_q, *pooled_k; /* [batch, heads or kv_heads, S, dim] */
    uint32_t *counts;           /* [batch, heads, B]                  */
    uint16_t *lists, *order;
    struct expected expected; /* of these lists                     */
};

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
    const struct problem *p = &in->problem;
    size_t blocks = p->grid.blocks, heads = (size_t)p->batch * p->heads;
    const double *shares = blocks > 16 ? many : few; /* large cases are slow */
    struct rng r = rng_of(p->test->name, 'l');
    uint8_t *kept = test_alloc(blocks * blocks, 1);
    in->counts = test_alloc(heads * blocks, sizeof *in->counts);
    in->lists = test_alloc(heads * blocks * blocks, sizeof *in->lists);
    in->order = test_alloc(heads * blocks, sizeof *in->order);
    memset(in->lists, POISON, heads * blocks * blocks * sizeof *in->lists);
    for (size_t h = 0; h < heads; h++) {
        for (size_t i = 0; i < blocks; i++) {
            double share = shares[rng_below(&r, 4)];
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
    if (!case_has(test, DRAFT_ATTEND))
        return;
    make_lists(in);
    expected_init(&in->expected, p, in->counts, in->lists);
}

static void inputs_free(struct inputs *in)
{
    if (in->expected.heads)
        expected_free(&in->expected);
    free(in->pooled_q);
    free(in->pooled_k);
    free(in->counts);
    free(in->lists);
    free(in->order);
    problem_free(&in->problem);
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
    return run_alone(rig, DRAFT_SCORE) + check_score(rig, cell);
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
        bad += run_alone(rig, DRAFT_SELECT) + check_select(rig, cell);
        if (bad)
            printf("    %s: with map kind %d\n", cell, kind);
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
    return run_alone(rig, DRAFT_ATTEND) + check_attend(rig, &in->expected, cell);
}

/* Attend once more on the lists of a run of all stages, whose result has been read: the bits must
 * be the same. */
static size_t attend_again(struct rig *rig, const char *cell)
{
    uint8_t *first = test_alloc(rig->out.size, 1);
    memcpy(first, buffer_read(&rig->out), rig->out.size);
    buffer_poison(&rig->out);
    OK(rig_run(rig, DRAFT_ATTEND));
    bool same = memcmp(first, buffer_get(&rig->out), rig->out.size) == 0;
    if (!same)
        printf("    %s: attend alone gives other bits than all stages\n", cell);
    free(first);
    return !same;
}

/* All stages of the case, each checked against the device's own input to it. */
static size_t all_in_a_row(struct rig *rig, const struct inputs *in, const char *cell)
{
    const struct test_case *test = in->problem.test;
    uint32_t stages = test->stages ? test->stages : 15;
    rig_reset(rig);
    OK(rig_run(rig, test->stages));
    size_t bad = !rig_intact(rig, stages);
    bad += check_pool(rig, cell) + check_score(rig, cell) + check_select(rig, cell);
    if (bad || !case_has(test, DRAFT_ATTEND))
        return bad;
    struct expected expected;
    expected_init(&expected, &in->problem, rig_workspace(rig, rig->layout.counts),
                  rig_workspace(rig, rig->layout.lists));
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

/* stage < 0: all in a row with the kernels that the plan chooses. */
static size_t test_cell(struct test_device *device, const struct inputs *in, int stage,
                        const char *variant)
{
    const char *name = stage < 0 ? "all" : draft_stage_name(stages[stage].stage);
    const char *cell = cell_name(device, name, variant);
    struct tally *tally = tally_of(cell);
    draft_plan *plan = NULL;
    draft_status status = rig_plan(device, in->problem.test, variant, &plan);
    if (variant && status == DRAFT_ERROR_UNSUPPORTED) {
        tally->refused++;
        return 0;
    }
    ck_assert_msg(status == DRAFT_OK, "%s: %s: %s", cell, draft_status_name(status),
                  device->log.text);
    if (variant)
        ck_assert_str_eq(draft_plan_kernel(plan, stages[stage].stage), variant);
    tally->runs++;
    struct rig rig;
    rig_init(&rig, device, &in->problem, plan);
    size_t bad = stage < 0 ? all_in_a_row(&rig, in, cell) : stages[stage].run(&rig, in, cell);
    rig_free(&rig);
    return bad;
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

static size_t run_cell(struct test_device *device, const struct inputs *in, int stage,
                       const char *variant)
{
    double start = seconds();
    size_t bad = test_cell(device, in, stage, variant);
    if (verbosity() > 1)
        printf(
            "    %6.2f s  %s\n", seconds() - start,
            cell_name(device, stage < 0 ? "all" : draft_stage_name(stages[stage].stage), variant));
    fflush(stdout);
    return bad;
}

static size_t run_device(struct test_device *device, const struct inputs *in)
{
    size_t bad = 0;
    for (int s = 0; s < DRAFT_STAGES; s++) {
        if (!case_has(in->problem.test, stages[s].stage))
            continue;
        const char *const *variants = device->context->backend->variants(stages[s].stage);
        for (; *variants; variants++)
            bad += run_cell(device, in, s, *variants);
    }
    return bad + run_cell(device, in, -1, NULL);
}

/* The tile that the library chooses for the case. */
static struct draft_tile planned_tile(struct test_device *device, const struct test_case *test)
{
    draft_plan *plan = NULL;
    struct draft_layout layout;
    draft_status status = rig_plan(device, test, NULL, &plan);
    ck_assert_msg(status == DRAFT_OK, "plan: %s: %s", draft_status_name(status), device->log.text);
    draft_plan_layout(plan, &layout);
    draft_plan_destroy(&plan);
    return layout.tile;
}

static bool takes(const struct test_device *device, const struct test_case *test)
{
    return device->info.types & 1u << test->params.type;
}

START_TEST(each_case)
{
    const struct test_case *test = cases[_i];
    struct inputs in = {0};
    size_t bad = 0;
    double start = seconds();
    for (size_t d = 0; d < device_count; d++) {
        if (!takes(&devices[d], test))
            continue;
        if (!in.pooled_q)
            inputs_init(&in, test, planned_tile(&devices[d], test));
        size_t found = run_device(&devices[d], &in);
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

static const char *const strange_cases[] = {"plain",          "batch valid",  "rule mass",
                                            "rule paper 0.5", "rule row 0.5", "tile 2x3x4"};

START_TEST(not_numbers)
{
    const struct test_case *test = case_named(strange_cases[_i]);
    for (size_t d = 0; d < device_count; d++) {
        if (!takes(&devices[d], test))
            continue;
        for (uint32_t every = 1; every <= 1000; every *= 10) {
            struct problem problem;
            struct rig rig;
            draft_plan *plan = NULL;
            problem_init(&problem, test, planned_tile(&devices[d], test));
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
        problem_init(&problem, test, planned_tile(&devices[d], test));
        OK(rig_plan(&devices[d], test, NULL, &plan));
        rig_init(&rig, &devices[d], &problem, plan);
        rig_reset(&rig);
        OK(rig_run(&rig, 0));
        size_t bytes = rig.out.size, row = problem.dim * type_size(test->params.type);
        uint8_t *clean = test_alloc(bytes, 1);
        memcpy(clean, buffer_get(&rig.out), bytes);
        size_t at = tensor_row(&problem.q, 0, 77, 1) * type_size(test->params.type);
        uint8_t *nan = test_alloc(row, 1);
        memset(nan, POISON, row);
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

int main(int argc, char **argv)
{
    device_count = devices_open(argc > 1 ? argv[1] : NULL, devices);
    if (device_count == 0)
        return EXIT_SKIPPED;
    cases_change_f32(devices_type(devices, device_count));
    size_t case_count = cases_chosen(&cases);
    Suite *suite = suite_create("stages");
    TCase *tests = tcase_create("cases");
    tcase_add_loop_test(tests, each_case, 0, (int)case_count);
    suite_add_tcase(suite, tests);
    TCase *strange = tcase_create("not numbers");
    tcase_add_loop_test(strange, not_numbers, 0, sizeof strange_cases / sizeof *strange_cases);
    tcase_add_test(strange, rows_are_apart);
    suite_add_tcase(suite, strange);
    int status = suite_main(suite, false);
    print_tallies();
    devices_close(devices, device_count);
    return status;
}
