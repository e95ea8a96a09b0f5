/* SPDX-License-Identifier: MIT
 *
 * Host memory fails at the n-th allocation, for n = 1, 2, ... until the call succeeds: each failure
 * must be told as MEMORY with a log line and leave nothing behind (run it under a leak checker). */
#include <stdio.h>
#include <string.h>

#include "rig.h"
#include "suite.h"

static struct test_device devices[MAX_DEVICES];
static size_t device_count;

/* Far above what any call allocates: the loop must end by success. */
enum { MOST = 5000 };

static void check_failure(const struct log_memory *log, const char *call, long n,
                          draft_status status)
{
    ck_assert_msg(status == DRAFT_ERROR_MEMORY, "%s, allocation %ld fails: \"%s\", log: %s", call,
                  n, draft_status_name(status), log->text);
    ck_assert_msg(log->text[0] != '\0', "%s, allocation %ld fails: no log line", call, n);
}

START_TEST(devices_without_memory)
{
    static struct log_memory log;
    struct draft_log to = log_to(&log, DRAFT_LOG_ERROR);
    long n = 1;
    for (; n < MOST; n++) {
        struct draft_device_info infos[MAX_DEVICES];
        size_t count = MAX_DEVICES;
        log_clear(&log);
        draft_calloc_set_failure(n);
        draft_status status = draft_devices(&to, infos, &count);
        draft_calloc_set_failure(0);
        if (status == DRAFT_OK && count >= device_count)
            break;
        check_failure(&log, "draft_devices", n, status);
    }
    ck_assert_int_lt(n, MOST);
}
END_TEST

START_TEST(context_without_memory)
{
    const struct draft_device_info *info = &devices[_i].info;
    static struct log_memory log;
    struct draft_context_params params = {
        .backend = info->backend, .device = info->index, .log = log_to(&log, DRAFT_LOG_ERROR)};
    long n = 1;
    for (; n < MOST; n++) {
        draft_context *context = NULL;
        log_clear(&log);
        draft_calloc_set_failure(n);
        draft_status status = draft_context_create(&params, &context);
        draft_calloc_set_failure(0);
        if (status == DRAFT_OK) {
            draft_context_destroy(&context);
            break;
        }
        check_failure(&log, "draft_context_create", n, status);
        ck_assert_ptr_null(context);
    }
    ck_assert_int_gt(n, 1);
    ck_assert_int_lt(n, MOST);
}
END_TEST

START_TEST(plan_without_memory)
{
    struct test_device *device = &devices[_i];
    long n = 1;
    for (; n < MOST; n++) {
        draft_plan *plan = NULL;
        draft_calloc_set_failure(n);
        draft_status status = rig_plan(device, case_named("batch valid"), NULL, &plan);
        draft_calloc_set_failure(0);
        if (status == DRAFT_OK) {
            draft_plan_destroy(&plan);
            break;
        }
        check_failure(&device->log, "draft_plan_create", n, status);
        ck_assert_ptr_null(plan);
    }
    ck_assert_int_gt(n, 1);
    ck_assert_int_lt(n, MOST);
}
END_TEST

/* A run may need host memory or not; where it fails, the next one must work. */
static draft_status run_stage(struct rig *rig, long n)
{
    log_clear(&rig->device->log);
    draft_calloc_set_failure(n);
    draft_status status = rig_run(rig, 0);
    draft_calloc_set_failure(0);
    return status;
}

static draft_status read_density(struct rig *rig, long n)
{
    struct draft_density density;
    log_clear(&rig->device->log);
    draft_calloc_set_failure(n);
    draft_status status = draft_density_read(rig->plan, rig->workspace.data, &density);
    draft_calloc_set_failure(0);
    return status;
}

static draft_status write_lists(struct rig *rig, long n)
{
    const uint32_t *counts = rig_workspace(rig, rig->layout.counts);
    const uint16_t *lists = rig_workspace(rig, rig->layout.lists);
    log_clear(&rig->device->log);
    draft_calloc_set_failure(n);
    draft_status status = draft_lists_write(rig->plan, rig->workspace.data, counts, lists);
    draft_calloc_set_failure(0);
    return status;
}

START_TEST(run_without_memory)
{
    static const struct {
        const char *name;
        draft_status (*call)(struct rig *, long);
    } calls[] = {{"draft_run", run_stage},
                 {"draft_density_read", read_density},
                 {"draft_lists_write", write_lists}};
    struct problem problem;
    struct rig rig;
    draft_plan *plan = NULL;
    OK(rig_plan(&devices[_i], case_named("batch valid"), NULL, &plan));
    problem_init(&problem, case_named("batch valid"), plan->layout.tile);
    rig_init(&rig, &devices[_i], &problem, plan);
    rig_reset(&rig);
    OK(rig_run(&rig, 0));
    buffer_get(&rig.workspace);
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        long n = 1;
        draft_status status = DRAFT_ERROR_MEMORY;
        for (; status && n < MOST; n++) {
            status = calls[i].call(&rig, n);
            if (status)
                check_failure(&devices[_i].log, calls[i].name, n, status);
        }
        ck_assert_int_lt(n, MOST);
    }
    rig_free(&rig);
    problem_free(&problem);
}
END_TEST

int main(int argc, char **argv)
{
    device_count = devices_open(argc > 1 ? argv[1] : NULL, devices);
    if (device_count == 0)
        return EXIT_SKIPPED;
    Suite *suite = suite_create("memory");
    TCase *tests = tcase_create("memory");
    tcase_add_test(tests, devices_without_memory);
    tcase_add_loop_test(tests, context_without_memory, 0, (int)device_count);
    tcase_add_loop_test(tests, plan_without_memory, 0, (int)device_count);
    tcase_add_loop_test(tests, run_without_memory, 0, (int)device_count);
    suite_add_tcase(suite, tests);
    int status = suite_main(suite, false);
    devices_close(devices, device_count);
    return status;
}
