/* SPDX-License-Identifier: MIT
 *
 * Self-tests: that the answers which the library compares with are right, that one wrong number in
 * anything that a stage writes is found, and what plans do then. This program is linked with the
 * function below around draft_run, so the library itself has no way to do this. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core.h"
#include "proof.h"
#include "suite.h"

static struct test_device devices[MAX_DEVICES];
static size_t device_count;

/* ---- One wrong number ---- */

/* What a stage writes: the bits to be changed lie in a word at `offset` of the layout, beyond the
 * first `skip` bytes. */
struct array {
    const char *name;
    draft_stage stage;
    size_t offset;
    uint32_t skip, bits;
};
#define ARRAY(stage, name, skip, bits)                                                             \
    {                                                                                              \
#name, stage, offsetof(struct draft_layout, name), skip, bits                              \
    }
enum {
    F32 = 1 << 17,
    HALVES = 2 << 16
}; /* of a f32 some 1 %; 2 units in the last place of a f16 */
static const struct array arrays[] = {
    ARRAY(DRAFT_POOL, pooled_q, 8, F32),    ARRAY(DRAFT_POOL, pooled_k, 4, F32),
    ARRAY(DRAFT_POOL, pooled_v, 0, F32),    ARRAY(DRAFT_POOL, quarters, 12, F32),
    ARRAY(DRAFT_POOL, parts_q, 16, HALVES), ARRAY(DRAFT_POOL, parts_k, 20, HALVES),
    ARRAY(DRAFT_POOL, moment_q, 24, F32),   ARRAY(DRAFT_POOL, moment_k, 28, F32),
    ARRAY(DRAFT_POOL, tail_k, 4, HALVES),   ARRAY(DRAFT_POOL, tail_v, 8, HALVES),
    ARRAY(DRAFT_SCORE, map, 40, F32),       ARRAY(DRAFT_SCORE, bias, 44, F32),
    ARRAY(DRAFT_SCORE, bias, 0, 1u << 31),  ARRAY(DRAFT_SCORE, bias, 500, F32),
    ARRAY(DRAFT_SELECT, counts, 12, 1),     ARRAY(DRAFT_SELECT, lists, 120, 1),
    ARRAY(DRAFT_SELECT, order, 20, 1),      ARRAY(DRAFT_SELECT, bias, 16, 1u << 31),
    ARRAY(DRAFT_SELECT, bias, 500, 1),
};
enum { ARRAYS = sizeof arrays / sizeof *arrays };

static const struct array *planted_array; /* or NULL */
/* Words "score:simt": one number of what this variant makes is changed. */
static char planted[256];

draft_status __real_draft_run(const draft_plan *plan, const struct draft_run_params *params);
draft_status __wrap_draft_run(const draft_plan *plan, const struct draft_run_params *params);

static draft_status change(const draft_plan *plan, draft_address at, uint32_t bits)
{
    uint32_t word;
    draft_status status = draft_read(plan->context, &word, at, sizeof word);
    word ^= bits;
    return status ? status : draft_write(plan->context, at, &word, sizeof word);
}

static draft_address result_of(const draft_plan *plan, const struct draft_run_params *params)
{
    const struct draft_layout *l = &plan->layout;
    return params->stages == DRAFT_ATTEND  ? params->out.data + 64
           : params->stages == DRAFT_POOL  ? params->workspace + l->pooled_k + 64
           : params->stages == DRAFT_SCORE ? params->workspace + l->map + 64
                                           : params->workspace + l->counts + 64;
}

draft_status __wrap_draft_run(const draft_plan *plan, const struct draft_run_params *params)
{
    const struct array *a = planted_array;
    draft_status status = __real_draft_run(plan, params);
    if (!status && a && params->stages == (uint32_t)a->stage)
        status = change(plan,
                        params->workspace +
                            *(const uint64_t *)((const char *)&plan->layout + a->offset) + a->skip,
                        a->bits);
    for (unsigned s = 0; s < DRAFT_STAGES && !status; s++) {
        draft_stage stage = (draft_stage)(1u << s);
        char word[64];
        snprintf(word, sizeof word, "%s:%s ", draft_stage_name(stage), plan->kernels[s]);
        if (params->stages == (uint32_t)stage && strstr(planted, word))
            status = change(plan, result_of(plan, params), 1u << 30 | 1);
    }
    return status;
}

/* ---- Answers ---- */

enum { MAPS = DRAFT_POOL | DRAFT_SCORE | DRAFT_SELECT };

static void prove(const struct draft_kind *kind, const char *score, uint32_t stages,
                  struct draft_proof proofs[DRAFT_STAGES])
{
    const char *const kernels[DRAFT_STAGES] = {NULL, score, NULL, NULL};
    log_clear(&devices[0].log);
    draft_status status = draft_proof_run(devices[0].context, kernels, kind, stages, proofs);
    ck_assert_msg(!status, "%s: %s", draft_status_name(status), devices[0].log.text);
}

static void check_right(const struct draft_kind *kind, const char *score,
                        const struct draft_proof proofs[DRAFT_STAGES])
{
    for (unsigned s = 0; s < DRAFT_STAGES; s++)
        ck_assert_msg(!proofs[s].wrong,
                      "type %u, dim %u, scorer %u, tail %u, rule %u, floor %u: %s, score[%s]: %s, "
                      "%g times what is allowed",
                      kind->type, kind->dim, kind->scorer, kind->tail, kind->rule, kind->floor,
                      draft_stage_name((draft_stage)(1u << s)), score, proofs[s].where,
                      proofs[s].worst);
}

/* All but attend, by each variant of score. */
static void check_maps(const struct draft_kind *kind)
{
    struct draft_proof proofs[DRAFT_STAGES];
    const char *const *scores = devices[0].context->backend->variants(DRAFT_SCORE);
    uint32_t stages = MAPS, unseen = MAPS;
    for (; *scores; scores++) {
        prove(kind, *scores, stages, proofs);
        check_right(kind, *scores, proofs);
        for (unsigned s = 0; s < DRAFT_STAGES; s++)
            unseen &= proofs[s].ran ? ~(1u << s) : ~0u;
        stages = DRAFT_SCORE | unseen;
    }
    ck_assert_uint_eq(unseen, 0);
}

static bool has_type(uint32_t type)
{
    return devices[0].info.types & 1u << type;
}

/* Each scorer with each tail; rules and dims take turns. */
START_TEST(every_kind)
{
    static const uint32_t dims[] = {64, 72};
    uint32_t turn = 0;
    for (uint32_t type = DRAFT_F16; type <= DRAFT_F32; type++)
        for (uint32_t scorer = DRAFT_SCORER_MEAN; scorer <= DRAFT_SCORER_EXCESS; scorer++)
            for (uint32_t tail = DRAFT_TAIL_DROP; tail <= DRAFT_TAIL_FITTED; tail++, turn++) {
                uint32_t rule = DRAFT_RULE_HEAD + turn % 3;
                struct draft_kind kind = {type, dims[turn / 3 % 2], scorer, tail, rule, 0};
                if (!has_type(type))
                    continue;
                check_maps(&kind);
                kind.floor = rule == DRAFT_RULE_HEAD;
                if (kind.floor)
                    check_maps(&kind);
            }
    const struct draft_kind paper = {DRAFT_F16,        64, DRAFT_SCORER_MEAN, DRAFT_TAIL_DROP,
                                     DRAFT_RULE_PAPER, 0};
    check_maps(&paper);
}
END_TEST

START_TEST(attend_of_each_type)
{
    static const uint32_t dims[] = {8, 64, 72, 128};
    struct draft_proof proofs[DRAFT_STAGES];
    for (uint32_t type = DRAFT_F16; type <= DRAFT_F32; type++)
        for (uint32_t turn = 0; turn < 8; turn++) {
            const struct draft_kind kind = {type,
                                            dims[turn / 2],
                                            DRAFT_SCORER_MEAN,
                                            turn % 2 ? DRAFT_TAIL_MEAN : DRAFT_TAIL_DROP,
                                            DRAFT_RULE_ROW,
                                            0};
            if (!has_type(type))
                continue;
            prove(&kind, NULL, DRAFT_ATTEND, proofs);
            check_right(&kind, "", proofs);
            ck_assert(proofs[draft_stage_index(DRAFT_ATTEND)].ran);
        }
}
END_TEST

/* Each array is in one of the kinds. */
START_TEST(one_wrong_number)
{
    static const struct draft_kind kinds[] = {
        {DRAFT_F16, 64, DRAFT_SCORER_EXCESS, DRAFT_TAIL_GAP, DRAFT_RULE_ROW, 0},
        {DRAFT_F16, 64, DRAFT_SCORER_MAX, DRAFT_TAIL_FITTED, DRAFT_RULE_HEAD, 1},
    };
    bool found[ARRAYS] = {false};
    struct draft_proof proofs[DRAFT_STAGES];
    draft_plan *plan = NULL;
    for (size_t k = 0; k < 2; k++)
        for (size_t a = 0; a < ARRAYS; a++) {
            const struct draft_plan_params params = {
                .shape = {.frames = 1, .height = 9, .width = 9, .heads = 1, .dim = 64},
                .type = DRAFT_F16,
                .tile = {1, 4, 4},
                .scorer = (draft_scorer)kinds[k].scorer,
                .tail = (draft_tail)kinds[k].tail,
            };
            OK(draft_plan_create(devices[0].context, &params, &plan));
            const char *layout = (const char *)&plan->layout;
            bool has = *(const uint64_t *)(layout + arrays[a].offset) ||
                       arrays[a].offset == offsetof(struct draft_layout, pooled_q);
            draft_plan_destroy(&plan);
            if (!has)
                continue;
            planted_array = &arrays[a];
            prove(&kinds[k], NULL, MAPS, proofs);
            planted_array = NULL;
            for (unsigned s = 0; s < DRAFT_STAGES; s++)
                ck_assert_msg(proofs[s].wrong == (arrays[a].stage == (draft_stage)(1u << s)),
                              "%s + %u, kind %zu: %s: %s", arrays[a].name, arrays[a].skip, k,
                              draft_stage_name((draft_stage)(1u << s)), proofs[s].where);
            found[a] = true;
        }
    for (size_t a = 0; a < ARRAYS; a++)
        ck_assert_msg(found[a], "%s is in no kind", arrays[a].name);
}
END_TEST

/* ---- Plans ---- */

static struct test_device
    fresh; /* a context of its own: what one has found out it does not ask again */
static char folder[64];

static void make_folder(void)
{
    snprintf(folder, sizeof folder, "/tmp/draft-answers-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(folder));
    setenv("XDG_CACHE_HOME", folder, 1);
    planted[0] = 0;
}

static void remove_folder(void)
{
    char line[128];
    snprintf(line, sizeof line, "rm -r '%s'", folder);
    ck_assert_int_eq(system(line), 0);
}

static void open_fresh(void)
{
    struct draft_context_params params = {
        .backend = devices[0].info.backend,
        .device = devices[0].info.index,
        .log = log_to(&fresh.log, DRAFT_LOG_DEBUG),
    };
    log_clear(&fresh.log);
    OK(draft_context_create(&params, &fresh.context));
}

static const struct draft_plan_params params = {
    .shape = {.frames = 2, .height = 8, .width = 16, .suffix = 7, .heads = 1, .dim = 64},
    .type = DRAFT_F16,
    .sparsity = 0.5,
};

/* Plans in a fresh context; kernel: what it takes for a stage. */
static draft_status plan_fresh(draft_stage stage, char kernel[32])
{
    draft_plan *plan = NULL;
    open_fresh();
    draft_status status = draft_plan_create(fresh.context, &params, &plan);
    snprintf(kernel, 32, "%s", status ? "" : draft_plan_kernel(plan, stage));
    draft_plan_destroy(&plan);
    draft_context_destroy(&fresh.context);
    return status;
}

static void expect_said(const char *format, const char *stage, const char *kernel, bool want)
{
    char text[160];
    size_t used = (size_t)snprintf(text, sizeof text, "%s %s: ", devices[0].info.backend, stage);
    snprintf(text + used, sizeof text - used, format, kernel);
    ck_assert_msg((strstr(fresh.log.text, text) != NULL) == want, "'%s' in: %s", text,
                  fresh.log.text);
}

static bool said(const char *text)
{
    return strstr(fresh.log.text, text) != NULL;
}

static unsigned times_said(const char *text)
{
    unsigned n = 0;
    for (const char *at = fresh.log.text; (at = strstr(at, text)); at++)
        n++;
    return n;
}

/* One variant of a stage after the other computes wrongly, until there is no plan. */
START_TEST(the_next_takes_over)
{
    draft_stage stage = (draft_stage)(1u << _i);
    const char *name = draft_stage_name(stage);
    char faults[sizeof planted] = "", kernel[32], again[32], before[32] = "";
    for (;;) {
        memcpy(planted, faults, sizeof planted);
        draft_status status = plan_fresh(stage, kernel);
        if (*before) {
            expect_said("%s computes wrongly on ", name, before, true);
            expect_said("not %s: it has failed its self-test", name, before, true);
        }
        expect_said("no kernel is left that computes rightly", name, "", status != 0);
        if (status) {
            ck_assert_int_eq(status, DRAFT_ERROR_DEVICE);
            break;
        }
        ck_assert_str_ne(kernel, before);
        expect_said("%s has passed its self-test", name, kernel, true);
        planted[0] = 0; /* the file is believed, the good and the bad */
        OK(plan_fresh(stage, again));
        ck_assert_str_eq(again, kernel);
        ck_assert(!said("computes wrongly") && !said("has passed"));
        if (*before)
            expect_said("%s has computed wrongly on ", name, before, true);
        remove_folder();
        make_folder(); /* what is planted next is not known there */
        size_t used = strlen(faults);
        snprintf(faults + used, sizeof faults - used, "%s:%s ", name, kernel);
        snprintf(before, sizeof before, "%s", kernel);
    }
    ck_assert(*before);
}
END_TEST

/* A plan of another kind tests what it runs other code of, and no more. */
START_TEST(what_is_new_is_tested)
{
    struct draft_plan_params other = params;
    draft_plan *plan = NULL;
    other.rule = DRAFT_RULE_HEAD;
    open_fresh();
    OK(draft_plan_create(fresh.context, &params, &plan));
    draft_plan_destroy(&plan);
    ck_assert_uint_eq(times_said(" has passed its self-test"), DRAFT_STAGES);
    log_clear(&fresh.log);
    OK(draft_plan_create(fresh.context, &other, &plan));
    draft_plan_destroy(&plan);
    ck_assert_uint_eq(times_said(" has passed its self-test"), 1);
    ck_assert(said(" has passed its self-test (rule HEAD, pooled keys)"));
    draft_context_destroy(&fresh.context);
}
END_TEST

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: test_answers BACKEND\n");
        return EXIT_FAILURE;
    }
    suite_keep_shaders();
    unsetenv("DRAFT_KERNEL");
    device_count = devices_open(argv[1], devices);
    if (device_count == 0)
        return EXIT_SKIPPED;
    Suite *suite = suite_create("answers");
    static const char *const names[] = {"maps", "attend", "plans"};
    unsigned count = devices[0].context->proofs ? 3 : 2; /* plans of others make no self-tests */
    TCase *cases[3];
    for (unsigned i = 0; i < count; i++) {
        cases[i] = tcase_create(names[i]);
        tcase_set_timeout(cases[i], 0);
        tcase_add_checked_fixture(cases[i], make_folder, remove_folder);
        suite_add_tcase(suite, cases[i]);
    }
    tcase_add_test(cases[0], every_kind);
    tcase_add_test(cases[1], attend_of_each_type);
    if (count == 2) { /* once is enough: it is the host that compares */
        tcase_add_test(cases[0], one_wrong_number);
    } else {
        tcase_add_loop_test(cases[2], the_next_takes_over, 0, DRAFT_STAGES);
        tcase_add_test(cases[2], what_is_new_is_tested);
    }
    int status = suite_main(suite, false);
    devices_close(devices, device_count);
    return status;
}
