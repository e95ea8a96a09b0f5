/* SPDX-License-Identifier: MIT
 *
 * Drivers that compute wrongly: what some variants get from this driver is e to the power of x
 * where they ask for 2 to the power of x, or the other way round, and the like; plans must find
 * that out. This program is linked with the function below in place of the one that makes pipelines, so the
 * library itself has no way to do this. Verdicts go to a folder of the test's own. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <dirent.h>
#include <unistd.h>

#include "../backends/vulkan/device.h"
#include "checks.h"
#include "vulkan_app.h"

/* Names of variants, separated by spaces: computed wrongly, not made at all. Those of other stages
 * than attend with the stage, "score:scalar". */
static char spoiled[256], refused[256];
static char folder[64];

draft_status __real_draft_vk_cache_pipeline(struct vk_device *vk, struct vk_cache *cache,
                                            const struct vk_shader *shader, VkPipeline *out);
draft_status __wrap_draft_vk_cache_pipeline(struct vk_device *vk, struct vk_cache *cache,
                                            const struct vk_shader *shader, VkPipeline *out);

static bool holds(const char *names, const char *name)
{
    char padded[300], word[80];
    snprintf(padded, sizeof padded, " %s ", names);
    snprintf(word, sizeof word, " %s ", name);
    return strstr(padded, word) != NULL;
}

/* The plans below. */
static const struct draft_geometry geometry = {
    .batch = 1,
    .heads = 1,
    .kv_heads = 1,
    .video_blocks = 4,
    .blocks = 5,
    .dim = 64,
    .type = DRAFT_ABI_F16,
    .rule = DRAFT_ABI_ROW,
    .scorer = DRAFT_ABI_SCORER_EXCESS,
    .tail = DRAFT_ABI_TAIL_MEAN,
};

static bool has_shader(const struct vk_device *vk, const struct vk_variant *variant,
                       const struct vk_shader *shader)
{
    struct vk_pass passes[VK_MAX_PASSES];
    uint32_t used = variant->passes(&vk->physical.caps, &geometry, passes);
    for (uint32_t p = 0; p < used; p++)
        if (passes[p].shader.code == shader->code)
            return true;
    return false;
}

/* The variant of a stage whose own shader this is in the plans below, in `name`; false where there
 * is none, or several share it. */
static bool variant_of(const struct vk_device *vk, const struct vk_shader *shader,
                       draft_stage *stage, char name[64])
{
    unsigned owners = 0;
    for (unsigned s = 0; s < DRAFT_STAGES; s++) {
        size_t count;
        const struct vk_variant *variants = draft_vk_variants((draft_stage)(1u << s), &count);
        for (size_t i = 0; i < count; i++) {
            if (!has_shader(vk, &variants[i], shader))
                continue;
            *stage = (draft_stage)(1u << s);
            snprintf(name, 64, "%s%s%s", *stage == DRAFT_ATTEND ? "" : draft_stage_name(*stage),
                     *stage == DRAFT_ATTEND ? "" : ":", variants[i].name);
            owners++;
        }
    }
    return owners == 1;
}

/* What is wrong with a stage: Exp for Exp2 and Exp2 for Exp; sums are differences; the sign that
 * says that a block was kept is another bit. True where the instruction was changed. */
static bool change(draft_stage stage, uint32_t *instruction)
{
    enum { EXT_INST = 12, CONSTANT = 43, FADD = 129, FSUB = 131, EXP = 27, EXP2 = 29 };
    uint32_t code = instruction[0] & 0xffff;
    if (stage == DRAFT_POOL && code == FADD)
        instruction[0] += FSUB - FADD;
    else if (stage == DRAFT_SELECT && code == CONSTANT && instruction[3] == 0x80000000u)
        instruction[3] = 0x40000000u;
    else if (stage != DRAFT_POOL && code == EXT_INST && instruction[4] == EXP)
        instruction[4] = EXP2;
    else if (stage != DRAFT_POOL && code == EXT_INST && instruction[4] == EXP2)
        instruction[4] = EXP;
    else
        return false;
    return true;
}

/* The module with some instructions changed: kept until the program ends, as shaders are. */
static struct vk_shader spoil(draft_stage stage, const struct vk_shader *shader)
{
    enum { HEADER = 5 };
    static uint32_t *copies[64];
    static const uint32_t *originals[64];
    size_t words = shader->size / 4, at = HEADER;
    unsigned n = 0, changed = 0;
    struct vk_shader copy = *shader;
    while (originals[n] && originals[n] != shader->code)
        n++;
    ck_assert_uint_lt(n, 63);
    if (!originals[n]) {
        originals[n] = shader->code;
        copies[n] = test_alloc(words, 4);
        memcpy(copies[n], shader->code, shader->size);
        for (; at < words; at += copies[n][at] >> 16)
            changed += change(stage, &copies[n][at]);
        ck_assert(changed > 0 || stage != DRAFT_ATTEND); /* others have passes without any */
    }
    copy.code = copies[n];
    return copy;
}

draft_status __wrap_draft_vk_cache_pipeline(struct vk_device *vk, struct vk_cache *cache,
                                            const struct vk_shader *shader, VkPipeline *out)
{
    draft_stage stage = DRAFT_ATTEND;
    char variant[64];
    if (!variant_of(vk, shader, &stage, variant))
        return __real_draft_vk_cache_pipeline(vk, cache, shader, out);
    if (holds(refused, variant)) {
        draft_log(vk->log, DRAFT_LOG_ERROR, "vulkan: the driver has no %s", variant);
        return DRAFT_ERROR_DEVICE;
    }
    struct vk_shader given = holds(spoiled, variant) ? spoil(stage, shader) : *shader;
    return __real_draft_vk_cache_pipeline(vk, cache, &given, out);
}

/* ---- Plans ---- */

/* A context of its own for each test: what one has found out it does not ask again. */
static struct test_device fresh;
static const char *usable[16]; /* variants of attend that take the device, best first */
static size_t usable_count;

static void make_folder(void)
{
    snprintf(folder, sizeof folder, "/tmp/draft-proof-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(folder));
    setenv("XDG_CACHE_HOME", folder, 1);
    spoiled[0] = refused[0] = 0;
}

static void remove_folder(void)
{
    char line[128];
    snprintf(line, sizeof line, "rm -r '%s'", folder);
    ck_assert_int_eq(system(line), 0);
    unsetenv("DRAFT_KERNEL");
}

static void open_fresh(void)
{
    struct draft_context_params params = {
        .backend = "vulkan",
        .device = devices[0].info.index,
        .log = log_to(&fresh.log, DRAFT_LOG_DEBUG),
    };
    fresh.info = devices[0].info;
    log_clear(&fresh.log);
    OK(draft_context_create(&params, &fresh.context));
}

static const struct draft_plan_params params = {
    .shape = {.frames = 2, .height = 8, .width = 16, .suffix = 7, .heads = 1, .dim = 64},
    .type = DRAFT_F16,
    .sparsity = 0.5,
};

static bool said(const struct test_device *device, const char *text)
{
    return strstr(device->log.text, text) != NULL;
}

/* The kernel that a plan takes; "" and *status where there is none. */
static const char *taken(struct test_device *device, draft_status *status)
{
    static char name[64];
    draft_plan *plan = NULL;
    *status = draft_plan_create(device->context, &params, &plan);
    snprintf(name, sizeof name, "%s", *status ? "" : draft_plan_kernel(plan, DRAFT_ATTEND));
    draft_plan_destroy(&plan);
    return name;
}

static void expect_taken(struct test_device *device, const char *want)
{
    draft_status status;
    const char *name = taken(device, &status);
    ck_assert_msg(!status && strcmp(name, want) == 0, "%s expected, got '%s' (%s): %s", want, name,
                  draft_status_name(status), device->log.text);
}

/* The first n of those that can be used compute wrongly. */
static void spoil_first(size_t n)
{
    spoiled[0] = 0;
    for (size_t i = 0; i < n; i++) {
        size_t used = strlen(spoiled);
        snprintf(spoiled + used, sizeof spoiled - used, "%s%s", i ? " " : "", usable[i]);
    }
}

static void find_usable(void)
{
    const struct draft_backend *backend = devices[0].context->backend;
    struct draft_plan plan = {.context = devices[0].context,
                              .geometry = {.type = DRAFT_ABI_F16, .dim = 64, .tail = 1}};
    const char *const *all = backend->variants(DRAFT_ATTEND);
    for (uint32_t i = 0; all[i]; i++)
        if (!backend->refuses(&plan, DRAFT_ATTEND, i))
            usable[usable_count++] = all[i];
}

/* ---- Tests ---- */

START_TEST(the_next_takes_over)
{
    char text[512];
    for (size_t n = 0; n < usable_count; n++) {
        open_fresh();
        spoil_first(n);
        /* What is in the file was found with other shaders under the same names. */
        remove_folder();
        make_folder();
        spoil_first(n);
        expect_taken(&fresh, usable[n]);
        for (size_t i = 0; i < n; i++) {
            snprintf(text, sizeof text, "vulkan attend: %s computes wrongly on %s, driver %s",
                     usable[i], fresh.info.name, fresh.info.driver);
            ck_assert_msg(said(&fresh, text), "no '%s' in: %s", text, fresh.log.text);
            snprintf(text, sizeof text, "vulkan attend: not %s: it has failed its self-test\n",
                     usable[i]);
            ck_assert_msg(said(&fresh, text), "no '%s' in: %s", text, fresh.log.text);
        }
        snprintf(text, sizeof text, "vulkan attend: %s has passed its self-test", usable[n]);
        ck_assert(said(&fresh, text));
        log_clear(&fresh.log);
        expect_taken(&fresh, usable[n]); /* by what is known */
        ck_assert(!said(&fresh, "computes wrongly") && !said(&fresh, "has passed"));
        draft_context_destroy(&fresh.context);
    }
}
END_TEST

START_TEST(none_is_left)
{
    draft_status status;
    open_fresh();
    spoil_first(usable_count);
    taken(&fresh, &status);
    ck_assert_int_eq(status, DRAFT_ERROR_DEVICE);
    ck_assert(said(&fresh, "vulkan attend: no kernel is left that computes rightly\n"));
    taken(&fresh, &status); /* the context itself is whole */
    ck_assert_int_eq(status, DRAFT_ERROR_DEVICE);
    /* DRAFT_KERNEL chooses among those that compute rightly. */
    draft_context_destroy(&fresh.context);
    remove_folder();
    make_folder();
    open_fresh();
    spoil_first(1);
    setenv("DRAFT_KERNEL", usable[0], 1);
    taken(&fresh, &status);
    ck_assert_int_eq(status, DRAFT_ERROR_DEVICE);
    unsetenv("DRAFT_KERNEL");
    draft_context_destroy(&fresh.context);
}
END_TEST

/* Pool, score and select: each variant in its turn, until none is left. */
START_TEST(other_stages)
{
    draft_stage stage = (draft_stage)(1u << _i);
    const char *name = draft_stage_name(stage);
    char text[512], before[64] = "";
    for (;;) {
        draft_plan *plan = NULL;
        open_fresh();
        draft_status status = draft_plan_create(fresh.context, &params, &plan);
        snprintf(text, sizeof text, "vulkan %s: %s computes wrongly on %s, driver %s", name, before,
                 fresh.info.name, fresh.info.driver);
        ck_assert_msg(!*before || said(&fresh, text), "no '%s' in: %s", text, fresh.log.text);
        if (status) {
            ck_assert_int_eq(status, DRAFT_ERROR_DEVICE);
            snprintf(text, sizeof text, "vulkan %s: no kernel is left that computes rightly\n",
                     name);
            ck_assert(said(&fresh, text));
            draft_context_destroy(&fresh.context);
            break;
        }
        ck_assert_str_ne(before, draft_plan_kernel(plan, stage));
        snprintf(before, sizeof before, "%s", draft_plan_kernel(plan, stage));
        draft_plan_destroy(&plan);
        draft_context_destroy(&fresh.context);
        remove_folder();
        snprintf(text, sizeof text, "%s %s:%s", spoiled, name, before);
        make_folder();
        snprintf(spoiled, sizeof spoiled, "%.255s", text);
    }
    ck_assert(*before);
}
END_TEST

/* What a plan runs after the fallback is right, and without the self-test it would not have been. */
START_TEST(results_are_right)
{
    const struct test_case *test = case_named("dim 64 f16");
    struct problem problem;
    struct rig rig;
    for (int trusting = 0; trusting < 2; trusting++) {
        draft_plan *plan = NULL;
        struct expected expected;
        open_fresh();
        spoil_first(1);
        OK(rig_plan(&fresh, test, trusting ? usable[0] : NULL, &plan));
        ck_assert(trusting == !strcmp(draft_plan_kernel(plan, DRAFT_ATTEND), usable[0]));
        problem_init(&problem, test, plan->layout.tile);
        rig_init(&rig, &fresh, &problem, plan);
        rig_reset(&rig);
        OK(rig_run(&rig, 0));
        ck_assert(rig_intact(&rig, ALL_STAGES));
        expected_init(&expected, &problem, rig_workspace(&rig, rig.layout.counts),
                      rig_workspace(&rig, rig.layout.lists), NULL);
        ck_assert(trusting == (check_attend(&rig, &expected, "spoiled") > 0));
        expected_free(&expected);
        rig_free(&rig);
        problem_free(&problem);
        draft_context_destroy(&fresh.context);
    }
}
END_TEST

START_TEST(what_cannot_be_made_is_passed_over)
{
    draft_status status;
    open_fresh();
    snprintf(refused, sizeof refused, "%s", usable[0]);
    expect_taken(&fresh, usable[1]);
    ck_assert(said(&fresh, ": the driver cannot make it\n"));
    for (size_t i = 1; i < usable_count; i++) {
        size_t used = strlen(refused);
        snprintf(refused + used, sizeof refused - used, " %s", usable[i]);
    }
    draft_context_destroy(&fresh.context);
    open_fresh();
    taken(&fresh, &status);
    ck_assert_int_eq(status, DRAFT_ERROR_DEVICE);
    draft_context_destroy(&fresh.context);
}
END_TEST

/* ---- The file ---- */

static void verdict_path(char path[512])
{
    char inside[128];
    snprintf(inside, sizeof inside, "%s/draft", folder);
    path[0] = 0;
    DIR *d = opendir(inside);
    ck_assert_ptr_nonnull(d);
    for (struct dirent *entry; (entry = readdir(d));)
        if (strstr(entry->d_name, ".verdicts"))
            snprintf(path, 512, "%s/%s", inside, entry->d_name);
    closedir(d);
    ck_assert_msg(path[0], "no verdicts in %s", inside);
}

START_TEST(verdicts_are_kept)
{
    open_fresh();
    spoil_first(1);
    expect_taken(&fresh, usable[1]);
    draft_context_destroy(&fresh.context);
    open_fresh();
    spoil_first(0); /* the file is believed, the good and the bad */
    expect_taken(&fresh, usable[1]);
    ck_assert(said(&fresh, "has computed wrongly") && said(&fresh, "in an earlier self-test"));
    ck_assert(!said(&fresh, "has passed") && !said(&fresh, "computes wrongly"));
    draft_context_destroy(&fresh.context);
}
END_TEST

START_TEST(damaged_verdicts_are_none)
{
    char path[512];
    open_fresh();
    spoil_first(1);
    expect_taken(&fresh, usable[1]);
    draft_context_destroy(&fresh.context);
    verdict_path(path);
    for (int damage = 0; damage < 2; damage++) {
        FILE *file = fopen(path, "r+b");
        ck_assert_ptr_nonnull(file);
        ck_assert_int_eq(fseek(file, damage ? 0 : 400, SEEK_SET), 0);
        ck_assert_int_ne(fputc(0x55, file), EOF);
        fclose(file);
        if (damage)
            ck_assert_int_eq(truncate(path, 100), 0);
        open_fresh();
        spoil_first(0);
        expect_taken(&fresh, usable[0]);
        ck_assert(said(&fresh, "is damaged") && said(&fresh, "has passed its self-test"));
        draft_context_destroy(&fresh.context);
    }
}
END_TEST

START_TEST(without_a_folder)
{
    setenv("XDG_CACHE_HOME", "/dev/null", 1);
    open_fresh();
    spoil_first(1);
    expect_taken(&fresh, usable[1]);
    ck_assert(!said(&fresh, ".verdicts written"));
    draft_context_destroy(&fresh.context);
}
END_TEST

/* ---- Devices of the caller ---- */

/* Without a queue: the test runs in a context of the library's own, and the caller's hears nothing. */
START_TEST(a_device_of_the_caller)
{
    struct app app;
    for (size_t n = 0; n < 2; n++) {
        remove_folder();
        make_folder();
        spoil_first(n);
        setup_app(&app);
        size_t first = 0; /* of those that the caller's device has features for */
        const struct draft_backend *backend = app.adopted.context->backend;
        struct draft_plan plan = {.context = app.adopted.context,
                                  .geometry = {.type = DRAFT_ABI_F16, .dim = 64, .tail = 1}};
        const char *const *all = backend->variants(DRAFT_ATTEND);
        for (uint32_t i = 0; all[i]; i++)
            if (!backend->refuses(&plan, DRAFT_ATTEND, i) && first++ == n) {
                expect_taken(&app.adopted, all[i]);
                break;
            }
        app_free(&app);
    }
}
END_TEST

/* Where there is no loader for the library, only the last of the table is believed. */
START_TEST(nowhere_to_test)
{
    struct app app;
    setup_app(&app);
    memset(app.adopted.context->device.uuid, 0xee, 16); /* no device of the library's is that */
    expect_taken(&app.adopted, usable[usable_count - 1]);
    app_free(&app);
}
END_TEST

static TCase *proof_tests(void)
{
    TCase *tests = tcase_create("proof");
    tcase_set_timeout(tests, 0);
    tcase_add_checked_fixture(tests, make_folder, remove_folder);
    tcase_add_test(tests, the_next_takes_over);
    tcase_add_test(tests, none_is_left);
    tcase_add_loop_test(tests, other_stages, 0, DRAFT_STAGES - 1);
    tcase_add_test(tests, results_are_right);
    tcase_add_test(tests, what_cannot_be_made_is_passed_over);
    tcase_add_test(tests, verdicts_are_kept);
    tcase_add_test(tests, damaged_verdicts_are_none);
    tcase_add_test(tests, without_a_folder);
    tcase_add_test(tests, a_device_of_the_caller);
    tcase_add_test(tests, nowhere_to_test);
    return tests;
}

int main(void)
{
    suite_keep_shaders();
    device_count = devices_open("vulkan", devices);
    if (device_count == 0 || !app_open())
        return EXIT_SKIPPED;
    unsetenv("DRAFT_KERNEL");
    find_usable();
    Suite *suite = suite_create("proof");
    suite_add_tcase(suite, proof_tests());
    int status = suite_main(suite, false);
    devices_close(devices, device_count);
    return status;
}
