/* SPDX-License-Identifier: MIT
 *
 * What a plan says of itself: tile, layout, kernels; the caller's lists; the density report. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cells.h"
#include "suite.h"

static struct test_device devices[MAX_DEVICES];
static size_t device_count;

/* ---- Tile ---- */

static uint64_t up(uint64_t a, uint64_t b)
{
    return (a + b - 1) / b;
}

struct tile_figures {
    uint64_t blocks, outside, extent;
};

static struct tile_figures figures(const struct draft_shape *s, struct draft_tile t)
{
    uint64_t blocks = up(s->frames, t.t) * up(s->height, t.h) * up(s->width, t.w);
    return (struct tile_figures){
        .blocks = blocks,
        .outside = blocks * t.t * t.h * t.w - (uint64_t)s->frames * s->height * s->width,
        .extent = t.t * t.t + t.h * t.h + t.w * t.w,
    };
}

/* No tile that the header would prefer exists. */
static void check_choice(const struct draft_shape *s, struct draft_tile chosen)
{
    struct tile_figures mine = figures(s, chosen);
    uint64_t fewest = UINT64_MAX;
    struct draft_tile t;
    for (int pass = 0; pass < 2; pass++)
        for (t.t = 1; t.t <= 128; t.t++)
            for (t.h = 1; t.h * t.t <= 128; t.h++)
                for (t.w = 1; t.w * t.h * t.t <= 128; t.w++) {
                    struct tile_figures other = figures(s, t);
                    if (pass == 0 && other.blocks < fewest)
                        fewest = other.blocks;
                    if (pass == 0 || other.blocks * 16 > fewest * 17)
                        continue;
                    ck_assert_msg(mine.outside < other.outside || (mine.outside == other.outside &&
                                                                   mine.extent <= other.extent),
                                  "%ux%ux%u is better than %ux%ux%u for %ux%ux%u", t.t, t.h, t.w,
                                  chosen.t, chosen.h, chosen.w, s->frames, s->height, s->width);
                }
    ck_assert_uint_le(mine.blocks * 16, fewest * 17);
}

static struct draft_tile chosen_tile(draft_context *context, uint32_t t, uint32_t h, uint32_t w)
{
    struct draft_plan_params p = {
        .shape = {.frames = t, .height = h, .width = w, .heads = 1, .dim = 8},
        .type = devices_type(devices, 1)};
    draft_plan *plan;
    struct draft_layout layout;
    OK(draft_plan_create(context, &p, &plan));
    draft_plan_layout(plan, &layout);
    draft_plan_destroy(&plan);
    check_choice(&p.shape, layout.tile);
    return layout.tile;
}

static void expect_tile(struct draft_tile got, uint32_t t, uint32_t h, uint32_t w)
{
    ck_assert_msg(got.t == t && got.h == h && got.w == w, "%ux%ux%u, want %ux%ux%u", got.t, got.h,
                  got.w, t, h, w);
}

START_TEST(tile_is_chosen)
{
    draft_context *context = devices[0].context;
    expect_tile(chosen_tile(context, 33, 45, 80), 3, 5, 8);
    expect_tile(chosen_tile(context, 21, 30, 52), 3, 10, 4);
    expect_tile(chosen_tile(context, 1, 48, 80), 1, 8, 16);
    expect_tile(chosen_tile(context, 1, 1, 1), 1, 1, 1);
    struct rng r = rng_of("tiles", 0);
    for (int i = 0; i < 12; i++)
        chosen_tile(context, 1 + rng_below(&r, 40), 1 + rng_below(&r, 60), 1 + rng_below(&r, 90));
    chosen_tile(context, 1000, 1, 1);
    chosen_tile(context, 1, 1, 1000);
    chosen_tile(context, 127, 1, 2);
}
END_TEST

START_TEST(paper_has_its_tile)
{
    struct draft_plan_params p = {
        .shape = {.frames = 3, .height = 20, .width = 40, .heads = 1, .dim = 8},
        .type = devices_type(devices, 1),
        .rule = DRAFT_RULE_PAPER};
    draft_plan *plan;
    struct draft_layout layout;
    OK(draft_plan_create(devices[0].context, &p, &plan));
    draft_plan_layout(plan, &layout);
    expect_tile(layout.tile, 1, 8, 16);
    draft_plan_destroy(&plan);
}
END_TEST

/* ---- Defaults ---- */

/* What a plan takes where nothing, or little, is said. */
START_TEST(defaults_stand_for_what_the_header_says)
{
    static const double nothing[] = {0, 0}, something[] = {0, 0.5};
    static const struct {
        struct draft_plan_params asked;
        draft_rule rule;
        draft_scorer scorer;
        draft_tail tail;
    } rows[] = {
        {{.sparsity = 0.5}, DRAFT_RULE_ROW, DRAFT_SCORER_EXCESS, DRAFT_TAIL_MEAN},
        {{.sparsity = 0}, DRAFT_RULE_ROW, DRAFT_SCORER_MEAN, DRAFT_TAIL_DROP},
        {{.head_sparsity = nothing}, DRAFT_RULE_ROW, DRAFT_SCORER_MEAN, DRAFT_TAIL_DROP},
        {{.head_sparsity = something}, DRAFT_RULE_ROW, DRAFT_SCORER_EXCESS, DRAFT_TAIL_MEAN},
        {{.rule = DRAFT_RULE_HEAD, .sparsity = 0.5},
         DRAFT_RULE_HEAD,
         DRAFT_SCORER_EXCESS,
         DRAFT_TAIL_MEAN},
        {{.rule = DRAFT_RULE_MASS}, DRAFT_RULE_MASS, DRAFT_SCORER_EXCESS, DRAFT_TAIL_MEAN},
        {{.rule = DRAFT_RULE_PAPER, .sparsity = 0.5},
         DRAFT_RULE_PAPER,
         DRAFT_SCORER_MEAN,
         DRAFT_TAIL_DROP},
        {{.sparsity = 0.5, .tail = DRAFT_TAIL_DROP},
         DRAFT_RULE_ROW,
         DRAFT_SCORER_MAX,
         DRAFT_TAIL_DROP},
        {{.sparsity = 0.5, .scorer = DRAFT_SCORER_LSE, .tail = DRAFT_TAIL_GAP},
         DRAFT_RULE_ROW,
         DRAFT_SCORER_LSE,
         DRAFT_TAIL_GAP},
        {{.tail = DRAFT_TAIL_MEAN}, DRAFT_RULE_ROW, DRAFT_SCORER_MEAN, DRAFT_TAIL_MEAN},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct draft_plan_params p = rows[i].asked;
        draft_plan *plan;
        struct draft_layout layout;
        p.shape =
            (struct draft_shape){.frames = 3, .height = 20, .width = 40, .heads = 2, .dim = 8};
        p.type = devices_type(devices, 1);
        OK(draft_plan_create(devices[0].context, &p, &plan));
        draft_plan_layout(plan, &layout);
        draft_plan_destroy(&plan);
        ck_assert_msg(layout.rule == rows[i].rule && layout.scorer == rows[i].scorer &&
                          layout.tail == rows[i].tail,
                      "row %zu: rule %d, scorer %d, tail %d", i, layout.rule, layout.scorer,
                      layout.tail);
    }
}
END_TEST

/* ---- Layout ---- */

struct part {
    const char *name;
    uint64_t offset, size, alignment;
};

static bool takes(const struct test_case *test)
{
    return cells_take(&devices[0], test);
}

static int by_offset(const void *a, const void *b)
{
    const struct part *left = a, *right = b;
    return left->offset < right->offset ? -1 : left->offset > right->offset;
}

/* Parts that only some plans have are there for those, and for nobody else. */
static size_t extra_parts(const struct draft_layout *l, const struct oracle_grid *g,
                          const struct draft_plan_params *p, struct part *parts)
{
    const struct draft_shape *s = &g->shape;
    uint64_t rows = (uint64_t)s->batch * s->heads, kv = (uint64_t)s->batch * s->kv_heads;
    uint64_t S = g->video_blocks, size = type_size(p->type);
    bool tail = p->tail > DRAFT_TAIL_DROP, fitted = p->tail == DRAFT_TAIL_FITTED;
    bool excess = p->scorer == DRAFT_SCORER_EXCESS;
    bool quarters = (p->scorer > DRAFT_SCORER_MEAN && !excess) || p->tail == DRAFT_TAIL_GAP;
    const struct {
        bool wanted;
        struct part part;
    } all[] = {
        {quarters, {"quarters", l->quarters, kv * S * 4 * s->dim * 4, 4}},
        {excess, {"parts_q", l->parts_q, rows * S * 4 * s->dim * size, 16}},
        {excess, {"parts_k", l->parts_k, kv * S * 16 * s->dim * size, 16}},
        {fitted, {"moment_q", l->moment_q, rows * S * s->dim * 4, 4}},
        {fitted, {"moment_k", l->moment_k, kv * S * s->dim * 4, 4}},
        {fitted, {"factors", l->factors, rows * 4, 4}},
        {tail, {"bias", l->bias, rows * S * l->bias_stride * 4, 16}},
        {tail, {"tail_k", l->tail_k, kv * S * s->dim * size, 16}},
        {tail, {"tail_v", l->tail_v, kv * S * s->dim * size, 16}},
    };
    size_t count = 0;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        ck_assert_msg((all[i].part.offset != 0) == all[i].wanted, "%s", all[i].part.name);
        bool shared = all[i].part.offset == l->pooled_k || all[i].part.offset == l->pooled_v;
        if (all[i].wanted && !shared)
            parts[count++] = all[i].part;
        if (all[i].wanted)
            ck_assert_int_eq(shared, p->type == DRAFT_F32 && all[i].part.name[0] == 't');
    }
    ck_assert_uint_eq(l->bias_stride, tail ? (S + 127) / 128 * 128 : 0);
    return count;
}

static void check_layout(const struct draft_layout *l, const struct oracle_grid *g,
                         const struct draft_plan_params *params)
{
    const struct draft_shape *s = &g->shape;
    uint64_t rows = (uint64_t)s->batch * s->heads, kv = (uint64_t)s->batch * s->kv_heads;
    uint64_t S = g->video_blocks, B = g->blocks;
    ck_assert_uint_eq(l->tokens, g->tokens);
    ck_assert_uint_eq(l->tiles_t, g->tiles_t);
    ck_assert_uint_eq(l->tiles_h, g->tiles_h);
    ck_assert_uint_eq(l->tiles_w, g->tiles_w);
    ck_assert_uint_eq(l->prefix_blocks, g->prefix_blocks);
    ck_assert_uint_eq(l->video_blocks, S);
    ck_assert_uint_eq(l->suffix_blocks, g->suffix_blocks);
    ck_assert_uint_eq(l->blocks, B);
    struct part parts[16] = {
        {"pooled_q", l->pooled_q, rows * S * s->dim * 4, 4},
        {"pooled_k", l->pooled_k, kv * S * s->dim * 4, 4},
        {"pooled_v", l->pooled_v, kv * S * s->dim * 4, 4},
        {"map", l->map, rows * S * S * 4, 4},
        {"counts", l->counts, rows * B * 4, 4},
        {"lists", l->lists, rows * B * B * 2, 2},
        {"order", l->order, rows * B * 2, 2},
    };
    size_t count = 7 + extra_parts(l, g, params, parts + 7);
    qsort(parts, count, sizeof *parts, by_offset);
    for (size_t i = 0; i < count; i++) {
        uint64_t next = i + 1 < count ? parts[i + 1].offset : l->size;
        ck_assert_msg(parts[i].offset + parts[i].size <= next, "%s runs over", parts[i].name);
        ck_assert_uint_eq(parts[i].offset % parts[i].alignment, 0);
    }
    ck_assert_uint_gt(l->alignment, 0);
    ck_assert_uint_eq(256 % l->alignment, 0); /* draft_alloc gives no more */
}

START_TEST(layout_holds_everything)
{
    const struct test_case *const *cases;
    size_t count = cases_chosen(&cases);
    for (size_t i = 0; i < count; i++) {
        if (!takes(cases[i]))
            continue;
        draft_plan *plan;
        struct draft_layout layout;
        struct oracle_grid grid;
        OK(rig_plan(&devices[0], cases[i], NULL, &plan));
        draft_plan_layout(plan, &layout);
        oracle_grid_init(&grid, &cases[i]->params.shape, layout.tile);
        check_layout(&layout, &grid, &cases[i]->params);
        oracle_grid_free(&grid);
        draft_plan_destroy(&plan);
    }
}
END_TEST

/* Block sizes and members, as backends ask for them, against the oracle's. */
static void check_block(const struct draft_geometry *geometry, const struct oracle_grid *g,
                        uint32_t block, const uint32_t *valid)
{
    uint32_t tokens[DRAFT_BLOCK], count = draft_block_tokens(geometry, block, valid, tokens);
    uint32_t at = g->start[block], want = 0;
    for (; at < g->start[block + 1]; at++)
        if (oracle_token_valid(g, valid, g->member[at])) {
            ck_assert_uint_lt(want, count);
            ck_assert_uint_eq(tokens[want++], g->member[at]);
        }
    ck_assert_uint_eq(count, want);
    ck_assert_uint_eq(draft_block_size(geometry, block), g->size[block]);
}

START_TEST(blocks_hold_their_tokens)
{
    const struct test_case *const *cases;
    size_t count = cases_chosen(&cases);
    for (size_t i = 0; i < count; i++) {
        if (!takes(cases[i]))
            continue;
        draft_plan *plan;
        struct oracle_grid g;
        OK(rig_plan(&devices[0], cases[i], NULL, &plan));
        oracle_grid_init(&g, &cases[i]->params.shape, plan->layout.tile);
        struct oracle_rule rule = oracle_rule_of(&cases[i]->params, 0);
        for (uint32_t block = 0; block < g.blocks; block++) {
            check_block(&plan->geometry, &g, block, NULL);
            if (cases[i]->valid)
                check_block(&plan->geometry, &g, block, cases[i]->valid[0]);
        }
        for (uint32_t row = 0; row < g.video_blocks; row++) {
            uint32_t forced = draft_forced_blocks(&plan->geometry, row, NULL), want = 0;
            for (uint32_t j = 0; j < g.video_blocks; j++)
                want += oracle_forced(&g, &rule, row, j);
            ck_assert_uint_eq(forced, want);
        }
        oracle_grid_free(&g);
        draft_plan_destroy(&plan);
    }
}
END_TEST

/* ---- Kernels ---- */

START_TEST(kernels_have_names)
{
    static const draft_stage all[] = {DRAFT_POOL, DRAFT_SCORE, DRAFT_SELECT, DRAFT_ATTEND};
    struct test_device *device = &devices[_i];
    draft_plan *plan;
    OK(rig_plan(device, case_named("plain"), NULL, &plan));
    for (size_t s = 0; s < 4; s++) {
        const char *name = draft_plan_kernel(plan, all[s]);
        const char *const *variants = device->context->backend->variants(all[s]);
        ck_assert_ptr_nonnull(name);
        while (*variants && strcmp(*variants, name) != 0)
            variants++;
        ck_assert_msg(*variants != NULL, "%s is not in the table", name);
    }
    ck_assert_str_eq(draft_plan_kernel(plan, DRAFT_ATTEND), device->info.attend);
    ck_assert_ptr_null(draft_plan_kernel(plan, (draft_stage)0));
    ck_assert_ptr_null(draft_plan_kernel(plan, (draft_stage)3));
    ck_assert_ptr_null(draft_plan_kernel(plan, (draft_stage)16));
    draft_plan_destroy(&plan);
    OK(rig_plan(device, case_named("plain"), "no such kernel", &plan)); /* masks nothing */
    draft_plan_destroy(&plan);
}
END_TEST

/* ---- Lists ---- */

/* Lists of a case for lists_write, made at random. */
struct list_set {
    uint32_t *counts;
    uint16_t *lists, *order;
    size_t rows, blocks;
};

static void list_set_init(struct list_set *set, const struct problem *p, double share)
{
    const struct oracle_grid *g = &p->grid;
    size_t B = g->blocks, heads = (size_t)p->batch * p->heads;
    struct rng r = rng_of(p->test->name, 'w');
    uint8_t *kept = test_alloc(B * B, 1);
    *set = (struct list_set){test_alloc(heads * B, 4), test_alloc(heads * B * B, 2),
                             test_alloc(heads * B, 2), heads * B, B};
    for (size_t h = 0; h < heads; h++) {
        for (size_t i = 0; i < B * B; i++)
            kept[i] = rng_unit(&r) < share;
        oracle_lists(g, kept, set->counts + h * B, set->lists + h * B * B, set->order + h * B);
    }
    free(kept);
}

static void list_set_free(struct list_set *set)
{
    free(set->counts);
    free(set->lists);
    free(set->order);
}

static void check_refusal(struct rig *rig, const struct list_set *set, const char *word)
{
    log_clear(&rig->device->log);
    ck_assert_int_eq(draft_lists_write(rig->plan, rig->workspace.data, set->counts, set->lists),
                     DRAFT_ERROR_ARGUMENT);
    ck_assert_msg(strstr(rig->device->log.text, word) != NULL, "log: %s", rig->device->log.text);
    buffer_get(&rig->workspace);
    ck_assert(buffer_intact(&rig->workspace, "workspace", NULL, 0));
}

static void rig_of_case(struct rig *rig, struct problem *problem, struct test_device *device,
                        const char *name)
{
    draft_plan *plan;
    OK(rig_plan(device, case_named(name), NULL, &plan));
    problem_init(problem, case_named(name), plan->layout.tile);
    rig_init(rig, device, problem, plan);
    rig_reset(rig);
}

START_TEST(lists_are_refused)
{
    struct problem problem;
    struct rig rig;
    struct list_set set;
    rig_of_case(&rig, &problem, &devices[_i], "batch valid");
    list_set_init(&set, &problem, 0.8);
    size_t row = set.rows - 2; /* in the last head */
    uint32_t count = set.counts[row];
    uint16_t *list = set.lists + row * set.blocks, first = list[0], second = list[1];
    ck_assert_uint_ge(count, 2);
    set.counts[row] = (uint32_t)set.blocks + 1;
    check_refusal(&rig, &set, "count");
    set.counts[row] = UINT32_MAX;
    check_refusal(&rig, &set, "count");
    set.counts[row] = count;
    list[1] = first;
    check_refusal(&rig, &set, "ascend");
    list[1] = second, list[0] = second;
    check_refusal(&rig, &set, "ascend");
    list[0] = first, list[count - 1] = (uint16_t)set.blocks;
    check_refusal(&rig, &set, "block");
    draft_status status = draft_lists_write(rig.plan, rig.workspace.data, NULL, set.lists);
    ck_assert_int_eq(status, DRAFT_ERROR_ARGUMENT);
    status = draft_lists_write(rig.plan, rig.workspace.data, set.counts, NULL);
    ck_assert_int_eq(status, DRAFT_ERROR_ARGUMENT);
    status = draft_lists_write(rig.plan, 0, set.counts, set.lists);
    ck_assert_int_eq(status, DRAFT_ERROR_ARGUMENT);
    status = draft_lists_write(NULL, rig.workspace.data, set.counts, set.lists);
    ck_assert_int_eq(status, DRAFT_ERROR_ARGUMENT);
    list_set_free(&set);
    rig_free(&rig);
    problem_free(&problem);
}
END_TEST

static void check_density(struct rig *rig, const struct list_set *set)
{
    const struct problem *p = rig->problem;
    const struct oracle_grid *g = &p->grid;
    uint64_t pairs = 0, tokens = 0, empty = 0, first = g->prefix_blocks;
    for (size_t row = 0; row < set->rows; row++) {
        uint64_t i = row % g->blocks;
        empty += set->counts[row] == 0;
        for (size_t e = 0; e < set->counts[row]; e++) {
            uint64_t j = set->lists[row * g->blocks + e];
            tokens += (uint64_t)g->size[i] * g->size[j];
            pairs += i - first < g->video_blocks && j - first < g->video_blocks;
        }
    }
    double heads = (double)p->batch * p->heads, s = g->video_blocks, n = g->tokens;
    struct draft_density density;
    OK(draft_density_read(rig->plan, rig->workspace.data, &density));
    ck_assert_uint_eq(density.kept_pairs, pairs);
    ck_assert_uint_eq(density.empty_rows, empty);
    ck_assert_double_eq_tol(density.video, (double)pairs / (heads * s * s), 1e-12);
    ck_assert_double_eq_tol(density.work, (double)tokens / (heads * n * n), 1e-12);
    ck_assert_double_eq_tol(density.flops / (4.0 * p->dim * (double)tokens + !tokens), tokens > 0,
                            1e-12);
}

START_TEST(lists_are_written)
{
    static const double shares[] = {0, 0.3, 1};
    struct problem problem;
    struct rig rig;
    rig_of_case(&rig, &problem, &devices[_i], "batch valid");
    for (size_t i = 0; i < 3; i++) {
        struct list_set set;
        list_set_init(&set, &problem, shares[i]);
        OK(draft_lists_write(rig.plan, rig.workspace.data, set.counts, set.lists));
        buffer_get(&rig.workspace);
        ck_assert(memcmp(rig_workspace(&rig, rig.layout.counts), set.counts, set.rows * 4) == 0);
        ck_assert(memcmp(rig_workspace(&rig, rig.layout.order), set.order, set.rows * 2) == 0);
        const uint16_t *lists = rig_workspace(&rig, rig.layout.lists);
        for (size_t row = 0; row < set.rows; row++)
            ck_assert(memcmp(lists + row * set.blocks, set.lists + row * set.blocks,
                             set.counts[row] * sizeof *lists) == 0);
        check_density(&rig, &set);
        list_set_free(&set);
    }
    rig_free(&rig);
    problem_free(&problem);
}
END_TEST

/* A workspace without lists is reported, not read as if it had some. */
START_TEST(density_is_refused)
{
    struct problem problem;
    struct rig rig;
    struct draft_density density;
    rig_of_case(&rig, &problem, &devices[_i], "plain");
    ck_assert_int_eq(draft_density_read(rig.plan, rig.workspace.data, &density),
                     DRAFT_ERROR_ARGUMENT);
    ck_assert_int_eq(draft_density_read(rig.plan, 0, &density), DRAFT_ERROR_ARGUMENT);
    ck_assert_int_eq(draft_density_read(rig.plan, rig.workspace.data, NULL), DRAFT_ERROR_ARGUMENT);
    ck_assert_int_eq(draft_density_read(NULL, rig.workspace.data, &density), DRAFT_ERROR_ARGUMENT);
    rig_free(&rig);
    problem_free(&problem);
}
END_TEST

int main(int argc, char **argv)
{
    device_count = devices_open(argc > 1 ? argv[1] : NULL, devices);
    if (device_count == 0)
        return EXIT_SKIPPED;
    cases_change_f32(devices_type(devices, device_count));
    Suite *suite = suite_create("plan");
    TCase *tests = tcase_create("plan");
    tcase_add_test(tests, tile_is_chosen);
    tcase_add_test(tests, paper_has_its_tile);
    tcase_add_test(tests, defaults_stand_for_what_the_header_says);
    tcase_add_test(tests, layout_holds_everything);
    tcase_add_test(tests, blocks_hold_their_tokens);
    tcase_add_loop_test(tests, kernels_have_names, 0, (int)device_count);
    tcase_add_loop_test(tests, lists_are_refused, 0, (int)device_count);
    tcase_add_loop_test(tests, lists_are_written, 0, (int)device_count);
    tcase_add_loop_test(tests, density_is_refused, 0, (int)device_count);
    suite_add_tcase(suite, tests);
    int status = suite_main(suite, false);
    devices_close(devices, device_count);
    return status;
}
