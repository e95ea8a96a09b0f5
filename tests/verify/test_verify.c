/* SPDX-License-Identifier: MIT
 *
 * `draft verify` as the shell sees it: what passes, and that a device that computes wrongly is
 * found and named. Arguments: the program, the same with planted.c, a backend, and what the cases
 * to run have in their names (empty: all quick ones). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cjson/cJSON.h>

#include "cells.h"
#include "suite.h"

static const char *program, *planted, *backend, *filter; /* set once by main */
static char folder[256];                                 /* the tests' own, made for each */
static struct test_device devices[MAX_DEVICES];
static size_t device_count;

static void make_folder(void)
{
    const char *tmp = getenv("TMPDIR");
    snprintf(folder, sizeof folder, "%s/draft-verify-XXXXXX", tmp ? tmp : "/tmp");
    ck_assert_ptr_nonnull(mkdtemp(folder));
    setenv("XDG_CACHE_HOME", folder, 1); /* what is planted fails self-tests, and that is kept */
}

static void remove_folder(void)
{
    char line[512];
    snprintf(line, sizeof line, "rm -r '%s'", folder);
    ck_assert_int_eq(system(line), 0);
}

/* What self-tests have found: a fault that is mended comes with another driver or other code, but one
 * that was planted does not. */
static void forget_verdicts(void)
{
    char line[512];
    snprintf(line, sizeof line, "rm -r '%s/draft'", folder);
    ck_assert_int_eq(system(line), 0);
}

/* `PROGRAM verify ...` in the folder; its output goes to the files "out" and "err". */
static int verify(const char *which, const char *plant, const char *arguments)
{
    char line[4096];
    snprintf(line, sizeof line,
             "cd '%s' && DRAFT_PLANT='%s' '%s' verify --backend %s --cases '%s' %s >out 2>err",
             folder, plant, which, backend, filter, arguments);
    int status = system(line);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* The content of a file in the folder; static storage. */
static const char *content(const char *name)
{
    static char text[1 << 18];
    char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "rb");
    size_t size = file ? fread(text, 1, sizeof text - 1, file) : 0;
    text[size] = 0;
    if (file)
        fclose(file);
    return text;
}

static cJSON *parsed(const char *name)
{
    cJSON *json = cJSON_Parse(content(name));
    ck_assert_msg(json != NULL, "%s: no JSON: %s", name, content(name));
    return json;
}

static const char *word(const cJSON *json, const char *name)
{
    const char *text = cJSON_GetStringValue(cJSON_GetObjectItem(json, name));
    return text ? text : "";
}

static double number(const cJSON *json, const char *name)
{
    const cJSON *item = cJSON_GetObjectItem(json, name);
    ck_assert_msg(cJSON_IsNumber(item), "no number %s", name);
    return item->valuedouble;
}

/* The cell of the first device; variant "": of all stages in a row. */
static const cJSON *cell_of(const cJSON *json, const char *stage, const char *variant)
{
    const cJSON *cell;
    cJSON_ArrayForEach(cell, cJSON_GetObjectItem(json, "cells"))
    {
        if (number(cell, "index") == devices[0].info.index && !strcmp(word(cell, "stage"), stage) &&
            !strcmp(word(cell, "variant"), variant))
            return cell;
    }
    ck_abort_msg("no cell %s[%s]", stage, variant);
    return NULL;
}

/* What cells of self-tests have as their stage; static storage. */
static const char *self_test_of(const char *stage)
{
    static char text[64];
    snprintf(text, sizeof text, "self-test %s", stage);
    return text;
}

/* ---- What is right passes ---- */

static void check_cell(const cJSON *json, const char *stage, const char *variant, unsigned *passed)
{
    const cJSON *cell = cell_of(json, stage, variant);
    double cases = number(cell, "cases");
    ck_assert_int_eq((int)number(cell, "failed"), 0);
    if (cases == 0) {
        ck_assert_str_eq(word(cell, "result"), "refused");
        ck_assert_str_ne(word(cell, "reason"), "");
        return;
    }
    ck_assert_str_eq(word(cell, "result"), "passed");
    ck_assert(number(cell, "seconds") > 0);
    if (!strstr(stage, "select"))
        ck_assert(number(cell, "worst_error") > 0 && number(cell, "worst_error") <= 1);
    ++*passed;
}

/* The cells of all variants of a stage; name: their stage. */
static void check_variants(const cJSON *json, draft_stage stage, const char *name, size_t *cells)
{
    const char *const *variants = devices[0].context->backend->variants(stage);
    unsigned passed = 0;
    for (; *variants; variants++, ++*cells)
        check_cell(json, name, *variants, &passed);
    ck_assert_uint_gt(passed, 0);
}

START_TEST(every_variant_is_there)
{
    int code = verify(program, "", "--quick --json --save report.md");
    ck_assert_msg(code == 0, "exit code %d: %s", code, content("err"));
    ck_assert_str_eq(content("err"), "");
    cJSON *json = parsed("out");
    ck_assert_str_eq(word(json, "result"), "passed");
    const cJSON *list = cJSON_GetObjectItem(json, "devices");
    ck_assert_int_eq(cJSON_GetArraySize(list), (int)device_count);
    ck_assert_str_eq(word(cJSON_GetArrayItem(list, 0), "name"), devices[0].info.name);
    ck_assert_str_eq(word(cJSON_GetArrayItem(list, 0), "driver"), devices[0].info.driver);
    ck_assert_str_eq(word(cJSON_GetArrayItem(list, 0), "result"), "passed");
    size_t cells = 1;
    unsigned passed = 0;
    for (unsigned s = 0; s < DRAFT_STAGES; s++) {
        draft_stage stage = (draft_stage)(1u << s);
        const char *name = draft_stage_name(stage);
        check_variants(json, stage, name, &cells);
        if (devices[0].context->proofs)
            check_variants(json, stage, self_test_of(name), &cells);
    }
    check_cell(json, "all", "", &passed);
    ck_assert_uint_eq(passed, 1);
    int rows = cJSON_GetArraySize(cJSON_GetObjectItem(json, "cells"));
    ck_assert_int_eq(rows, (int)(cells * device_count));
    ck_assert_int_eq(cJSON_GetArraySize(cJSON_GetObjectItem(json, "failures")), 0);
    cJSON_Delete(json);

    ck_assert_int_eq(strncmp(content("report.md"), "# draft verify ", 15), 0);
    ck_assert_ptr_nonnull(strstr(content("report.md"), devices[0].info.driver));
}
END_TEST

/* ---- What is wrong is found ---- */

/* The kernel that the library chooses on the first device. */
static void chosen(draft_stage stage, char name[64])
{
    struct draft_plan_params params = {
        .shape = {.frames = 2, .height = 8, .width = 16, .heads = 1, .dim = 128},
        .type = DRAFT_F16,
        .sparsity = 0.5,
    };
    draft_plan *plan = NULL;
    OK(draft_plan_create(devices[0].context, &params, &plan));
    snprintf(name, 64, "%s", draft_plan_kernel(plan, stage));
    draft_plan_destroy(&plan);
}

/* The cell has failed, and no other but all stages in a row, which run that kernel too. */
static void check_blame(const cJSON *json, const char *stage, const char *variant)
{
    const cJSON *cell, *failures = cJSON_GetObjectItem(json, "failures");
    ck_assert_str_eq(word(json, "result"), "failed");
    ck_assert_str_eq(word(cell_of(json, stage, variant), "result"), "failed");
    cell = cJSON_GetArrayItem(cJSON_GetObjectItem(json, "devices"), 0);
    ck_assert_str_eq(word(cell, "result"), "failed");
    cJSON_ArrayForEach(cell, cJSON_GetObjectItem(json, "cells"))
    {
        const char *its = word(cell, "stage");
        bool may =
            !strcmp(its, "all") || ((!strcmp(its, stage) || !strcmp(its, self_test_of(stage))) &&
                                    !strcmp(word(cell, "variant"), variant));
        ck_assert_msg(may || strcmp(word(cell, "result"), "failed"), "%s[%s] has failed too",
                      word(cell, "stage"), word(cell, "variant"));
    }
    ck_assert_int_gt(cJSON_GetArraySize(failures), 0);
    if (devices[0].context->proofs)
        ck_assert_str_eq(word(cell_of(json, self_test_of(stage), variant), "result"), "failed");
    cell = cJSON_GetArrayItem(failures, 0);
    ck_assert_str_eq(word(cell, "stage"), stage);
    ck_assert_str_eq(word(cell, "variant"), variant);
    ck_assert_str_eq(word(cell, "case"), "dim 128 f16");
    ck_assert_int_gt(cJSON_GetArraySize(cJSON_GetObjectItem(cell, "lines")), 0);
}

START_TEST(one_wrong_number)
{
    draft_stage stage = (draft_stage)(1u << _i);
    char variant[64], plant[128], cell[128];
    chosen(stage, variant);
    snprintf(plant, sizeof plant, "%s %s", draft_stage_name(stage), variant);
    snprintf(cell, sizeof cell, "%s", cell_name(&devices[0], draft_stage_name(stage), variant));
    filter = "dim 128 f16";
    ck_assert_int_eq(verify(planted, plant, "--save report.json"), 1);
    ck_assert_ptr_nonnull(strstr(content("out"), "FAILED: "));
    ck_assert_ptr_nonnull(strstr(content("err"), cell));
    ck_assert_ptr_nonnull(strstr(content("err"), "case \"dim 128 f16\""));
    ck_assert_ptr_nonnull(strstr(content("err"), " want "));
    cJSON *json = parsed("report.json");
    check_blame(json, draft_stage_name(stage), variant);
    cJSON_Delete(json);
    if (stage == DRAFT_ATTEND) {
        ck_assert_int_eq(verify(planted, plant, "--save report.md"), 1);
        ck_assert_ptr_nonnull(strstr(content("report.md"), "## Mismatches"));
        ck_assert_ptr_nonnull(strstr(content("report.md"), cell));
        if (devices[0].context->proofs)
            forget_verdicts();
        ck_assert_int_eq(verify(planted, "", ""), 0);
        ck_assert_ptr_nonnull(strstr(content("out"), "\npassed: "));
    }
}
END_TEST

/* A call that fails is a failure of its cell; the others run all the same. */
START_TEST(one_failing_call)
{
    char variant[64], plant[128];
    chosen(DRAFT_ATTEND, variant);
    snprintf(plant, sizeof plant, "fail %s", variant);
    filter = "dim 128 f16";
    ck_assert_int_eq(verify(planted, plant, "--json"), 1);
    ck_assert_ptr_nonnull(strstr(content("err"), "rig_run"));
    cJSON *json = parsed("out");
    check_blame(json, "attend", variant);
    ck_assert_int_eq((int)number(cell_of(json, "attend", variant), "cases"), 1);
    ck_assert_int_eq((int)number(cell_of(json, "all", ""), "cases"), 1);
    cJSON_Delete(json);
}
END_TEST

START_TEST(a_crash)
{
    char variant[64], plant[128], text[256];
    chosen(DRAFT_ATTEND, variant);
    snprintf(plant, sizeof plant, "crash %s", variant);
    filter = "dim 128 f16";
    int code = verify(planted, plant, "--save report.md");
    ck_assert_msg(code != 0 && code != 1, "exit code %d", code);
    snprintf(text, sizeof text, "draft: crashed in case \"dim 128 f16\", %s\n",
             cell_name(&devices[0], "attend", variant));
    ck_assert_msg(strstr(content("err"), text), "'%s' expected, got '%s'", text, content("err"));
}
END_TEST

/* ---- Usage ---- */

static void refused(const char *arguments, int code, const char *message)
{
    ck_assert_int_eq(verify(program, "", arguments), code);
    ck_assert_msg(strstr(content("err"), message), "%s: '%s' expected, got '%s'", arguments,
                  message, content("err"));
    ck_assert_str_eq(content("out"), "");
}

START_TEST(usage)
{
    refused("--cases 'no such case'", 2, "'no such case'");
    refused("--save report.txt", 2, ".md or .json");
    refused("--save nowhere/report.md", 2, "nowhere/report.md");
    refused("--device 99", 3, "no such device");
    refused("--backend none", 3, "no such device");
    refused("--quick=1", 2, "--quick");
}
END_TEST

/* ---- Parts ---- */

/* What a case has, one bit each. */
static uint64_t features(const struct test_case *test)
{
    const struct draft_plan_params *p = &test->params;
    const struct draft_shape *s = &p->shape;
    unsigned type = (unsigned)p->type - DRAFT_F16, small = s->dim <= 64 ? 0 : 1;
    const bool has[] = {
        test->gap > 0,
        test->heads_first,
        test->valid != NULL,
        test->no_lse,
        test->stages != 0,
        s->batch > 1,
        s->prefix > 0,
        s->suffix > 0,
        s->kv_heads > 1,
        s->kv_heads == 1,
        s->dim % 16 != 0,
        p->tile.t == 0,
        p->tile.t > 1 && s->frames % p->tile.t,
        p->tile.w && s->width % p->tile.w,
        p->head_sparsity != NULL,
        p->scale<0, p->sparsity> 0 && p->sparsity < 1,
        p->rule == DRAFT_RULE_HEAD && p->sparsity == 0 && !p->head_sparsity,
        p->scorer == DRAFT_SCORER_LSE,
        p->scorer == DRAFT_SCORER_MAX,
        p->scorer == DRAFT_SCORER_EXCESS,
        p->tail == DRAFT_TAIL_MEAN,
        p->tail == DRAFT_TAIL_GAP,
        p->tail == DRAFT_TAIL_FITTED,
        p->row_floor > 0,
        p->force & DRAFT_FORCE_NOT_SELF,
        p->force & DRAFT_FORCE_FIRST_FRAME,
        p->force & DRAFT_FORCE_NEIGHBOURS,
    };
    uint64_t bits = UINT64_C(1) << (32 + 2 * type + small);
    bits |= UINT64_C(1) << (40 + p->rule);
    bits |= UINT64_C(1) << (48 + test->fill);
    for (size_t i = 0; i < sizeof has / sizeof *has; i++)
        bits |= (uint64_t)has[i] << i;
    return bits;
}

START_TEST(quick_cases_have_every_feature)
{
    const struct test_case *const *cases;
    uint64_t all = 0, quick = 0;
    size_t count = cases_matching(NULL, false, &cases), few;
    for (size_t i = 0; i < count; i++)
        all |= features(cases[i]);
    few = cases_matching(NULL, true, &cases);
    for (size_t i = 0; i < few; i++)
        quick |= features(cases[i]);
    ck_assert_msg(all == quick, "features %016llx are in no quick case",
                  (unsigned long long)(all & ~quick));
    ck_assert_uint_lt(few, count / 3);
}
END_TEST

static char said[256];

static void remember(void *user, const char *text)
{
    (void)user;
    snprintf(said + strlen(said), sizeof said - strlen(said), "%s", text);
}

static void fail_once(void *user)
{
    REQUIRE(user == NULL);
    OK(DRAFT_ERROR_MEMORY);
    strcat(said, "never");
}

static void fail_within(void *user)
{
    ck_assert(!test_attempt(fail_once, user));
    ck_assert(!test_attempt(fail_once, said));
    strcat(said, "whole");
}

START_TEST(attempts_end_where_they_began)
{
    said[0] = 0;
    test_print_to(remember, NULL);
    bool whole = test_attempt(fail_within, NULL);
    test_print_to(NULL, NULL);
    ck_assert(whole);
    ck_assert_ptr_nonnull(strstr(said, "    test_verify.c:"));
    ck_assert_ptr_nonnull(strstr(said, ": DRAFT_ERROR_MEMORY: "));
    ck_assert_ptr_nonnull(strstr(said, ": user == NULL\nwhole"));
    ck_assert_ptr_null(strstr(said, "never"));
}
END_TEST

int main(int argc, char **argv)
{
    if (argc < 5)
        return EXIT_FAILURE;
    program = realpath(argv[1], NULL); /* they are run in another folder */
    planted = realpath(argv[2], NULL);
    backend = argv[3];
    suite_keep_shaders();
    device_count = devices_open(backend, devices);
    if (device_count == 0)
        return EXIT_SKIPPED;
    bool cpu = strcmp(backend, "cpu") == 0;
    Suite *suite = suite_create("verify");
    TCase *tests = tcase_create("verify");
    tcase_add_checked_fixture(tests, make_folder, remove_folder);
    filter = argv[4];
    tcase_add_test(tests, every_variant_is_there);
    tcase_add_loop_test(tests, one_wrong_number, cpu ? 0 : DRAFT_STAGES - 1, DRAFT_STAGES);
    if (cpu) {
        tcase_add_test(tests, one_failing_call);
        tcase_add_test(tests, a_crash);
        tcase_add_test(tests, usage);
        tcase_add_test(tests, quick_cases_have_every_feature);
        tcase_add_test(tests, attempts_end_where_they_began);
    }
    suite_add_tcase(suite, tests);
    int status = suite_main(suite, false);
    devices_close(devices, device_count);
    return status;
}
