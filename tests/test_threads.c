/* SPDX-License-Identifier: MIT
 *
 * Many threads, one plan, a workspace for each: every bit as when one thread runs alone. And
 * contexts made on several threads at once. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rig.h"
#include "suite.h"

enum { THREADS = 8, RUNS = 3 };

static struct test_device devices[MAX_DEVICES];
static size_t device_count;

/* Checks use longjmp, which must not cross threads: workers answer with a status. */
struct worker {
    pthread_t thread;
    const draft_plan *plan;
    draft_context *context;
    struct draft_run_params run;
    const struct draft_device_info *info;
    draft_status status;
};

static void *run_often(void *argument)
{
    struct worker *w = argument;
    for (int i = 0; i < RUNS && !w->status; i++)
        w->status = draft_run(w->plan, &w->run);
    if (!w->status)
        w->status = draft_wait(w->context);
    return NULL;
}

static void run_all(struct worker *workers)
{
    for (int t = 0; t < THREADS; t++)
        ck_assert_int_eq(pthread_create(&workers[t].thread, NULL, run_often, &workers[t]), 0);
    for (int t = 0; t < THREADS; t++)
        ck_assert_int_eq(pthread_join(workers[t].thread, NULL), 0);
}

static const char *const thread_cases[] = {"tile 2x3x4", "batch valid gaps", "gaps f32"};

START_TEST(one_plan_many_threads)
{
    struct test_device *device = &devices[_i / 3];
    const struct test_case *test = case_named(thread_cases[_i % 3]);
    struct problem problem;
    struct rig rig;
    struct buffer workspaces[THREADS], outs[THREADS];
    struct worker workers[THREADS];
    draft_plan *plan = NULL;
    if (!(device->info.types & 1u << test->params.type))
        return;
    OK(rig_plan(device, test, NULL, &plan));
    problem_init(&problem, test, plan->layout.tile);
    rig_init(&rig, device, &problem, plan);
    rig_reset(&rig);
    OK(rig_run(&rig, 0));
    buffer_get(&rig.out);
    for (int t = 0; t < THREADS; t++) {
        buffer_init(&workspaces[t], device->context, rig.workspace.size);
        buffer_init(&outs[t], device->context, rig.out.size);
        workers[t] = (struct worker){.plan = plan, .context = device->context, .run = rig.run};
        workers[t].run.workspace = workspaces[t].data;
        workers[t].run.out.data = outs[t].data;
        workers[t].run.lse = 0;
    }
    run_all(workers);
    for (int t = 0; t < THREADS; t++) {
        OK(workers[t].status);
        const uint8_t *out = buffer_get(&outs[t]);
        ck_assert_msg(memcmp(out, buffer_read(&rig.out), rig.out.size) == 0,
                      "thread %d of %s differs", t, device->info.name);
        buffer_free(&workspaces[t]);
        buffer_free(&outs[t]);
    }
    rig_free(&rig);
    problem_free(&problem);
}
END_TEST

static void *open_and_plan(void *argument)
{
    struct worker *w = argument;
    struct draft_context_params params = {.backend = w->info->backend, .device = w->info->index};
    for (int i = 0; i < RUNS && !w->status; i++) {
        draft_context *context = NULL;
        draft_plan *plan = NULL;
        draft_address memory = 0;
        w->status = draft_context_create(&params, &context);
        if (!w->status)
            w->status = draft_plan_create(context, &case_named("plain")->params, &plan);
        if (!w->status)
            w->status = draft_alloc(context, 1000, &memory);
        draft_free(context, memory);
        draft_plan_destroy(&plan);
        draft_context_destroy(&context);
    }
    return NULL;
}

START_TEST(contexts_on_many_threads)
{
    struct worker workers[THREADS];
    for (int t = 0; t < THREADS; t++) {
        workers[t] = (struct worker){.info = &devices[(size_t)t % device_count].info};
        ck_assert_int_eq(pthread_create(&workers[t].thread, NULL, open_and_plan, &workers[t]), 0);
    }
    for (int t = 0; t < THREADS; t++) {
        ck_assert_int_eq(pthread_join(workers[t].thread, NULL), 0);
        OK(workers[t].status);
    }
}
END_TEST

/* Plans and memory of one context, made and destroyed at the same time. */
static void *plan_often(void *argument)
{
    struct worker *w = argument;
    for (int i = 0; i < 4 * RUNS && !w->status; i++) {
        draft_plan *plan = NULL;
        draft_address memory = 0;
        uint32_t number = (uint32_t)i, back = 0;
        w->status = draft_plan_create(w->context, &case_named("plain")->params, &plan);
        if (!w->status)
            w->status = draft_alloc(w->context, 64, &memory);
        if (!w->status)
            w->status = draft_write(w->context, memory, &number, sizeof number);
        if (!w->status)
            w->status = draft_read(w->context, &back, memory, sizeof back);
        if (!w->status && back != number)
            w->status = DRAFT_ERROR_DEVICE;
        draft_free(w->context, memory);
        draft_plan_destroy(&plan);
    }
    return NULL;
}

START_TEST(plans_on_many_threads)
{
    struct worker workers[THREADS];
    for (int t = 0; t < THREADS; t++) {
        workers[t] = (struct worker){.context = devices[_i].context};
        ck_assert_int_eq(pthread_create(&workers[t].thread, NULL, plan_often, &workers[t]), 0);
    }
    for (int t = 0; t < THREADS; t++) {
        ck_assert_int_eq(pthread_join(workers[t].thread, NULL), 0);
        OK(workers[t].status);
    }
}
END_TEST

int main(int argc, char **argv)
{
    device_count = devices_open(argc > 1 ? argv[1] : NULL, devices);
    if (device_count == 0)
        return EXIT_SKIPPED;
    cases_change_f32(devices_type(devices, device_count));
    unsetenv("DRAFT_KERNEL");
    Suite *suite = suite_create("threads");
    TCase *tests = tcase_create("threads");
    tcase_add_loop_test(tests, one_plan_many_threads, 0, 3 * (int)device_count);
    tcase_add_loop_test(tests, plans_on_many_threads, 0, (int)device_count);
    tcase_add_test(tests, contexts_on_many_threads);
    suite_add_tcase(suite, tests);
    int status = suite_main(suite, false);
    devices_close(devices, device_count);
    return status;
}
