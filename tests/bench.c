/* SPDX-License-Identifier: MIT
 *
 * Time of each stage on each device: `meson test --benchmark`, or
 *   bench [--json FILE] [BACKEND]
 * One warm run, then as many as fit into a second, at least 3 unless they take over 5: median and
 * least wall time between draft_run and the end of draft_wait. GFLOP/s of attend count the kept
 * token pairs only. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cells.h"
#include "suite.h"

enum { LEAST_RUNS = 3, MOST_RUNS = 50 };

/* Small enough for software Vulkan, which may be as slow as 1 GFLOP/s. */
static const struct test_case benches[] = {
    {.name = "45x80 dense",
     .params = {.shape = {.frames = 1, .height = 45, .width = 80, .heads = 1, .dim = 128},
                .type = DRAFT_F16}},
    {.name = "5x30x52 90%",
     .params =
         {.shape = {.frames = 5, .height = 30, .width = 52, .suffix = 256, .heads = 1, .dim = 128},
          .type = DRAFT_F16,
          .sparsity = 0.9}},
    {.name = "5x30x52 90% bf16",
     .params =
         {.shape = {.frames = 5, .height = 30, .width = 52, .suffix = 256, .heads = 1, .dim = 128},
          .type = DRAFT_BF16,
          .sparsity = 0.9}},
    {.name = "5x30x52 90% tail",
     .params =
         {.shape = {.frames = 5, .height = 30, .width = 52, .suffix = 256, .heads = 1, .dim = 128},
          .type = DRAFT_F16,
          .sparsity = 0.9,
          .scorer = DRAFT_SCORER_MAX,
          .tail = DRAFT_TAIL_MEAN}},
    {.name = "5x30x52 90% excess",
     .params =
         {.shape = {.frames = 5, .height = 30, .width = 52, .suffix = 256, .heads = 1, .dim = 128},
          .type = DRAFT_F16,
          .sparsity = 0.9,
          .scorer = DRAFT_SCORER_EXCESS,
          .tail = DRAFT_TAIL_MEAN}},
    {.name = "3x45x80 75% f32",
     .params = {.shape = {.frames = 3, .height = 45, .width = 80, .heads = 2, .dim = 64},
                .type = DRAFT_F32,
                .sparsity = 0.75}},
};

static const draft_stage all_stages[] = {DRAFT_POOL, DRAFT_SCORE, DRAFT_SELECT, DRAFT_ATTEND};

struct figures {
    double median, least; /* seconds */
    double flops;         /* 0: not counted */
    double share;         /* of dense attention's work */
};

static double now(void)
{
    struct timespec t;
    timespec_get(&t, TIME_UTC);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int by_value(const void *a, const void *b)
{
    double left = *(const double *)a, right = *(const double *)b;
    return left < right ? -1 : left > right;
}

static struct figures measure(struct rig *rig, draft_stage stage)
{
    const struct problem *p = rig->problem;
    double times[MOST_RUNS], s = p->grid.video_blocks;
    int runs = 0;
    OK(rig_run(rig, stage)); /* warm */
    double start = now();
    while (runs < MOST_RUNS && now() - start < (runs < LEAST_RUNS ? 5 : 1)) {
        double from = now();
        OK(rig_run(rig, stage));
        times[runs++] = now() - from;
    }
    qsort(times, (size_t)runs, sizeof *times, by_value);
    struct draft_density density;
    OK(draft_density_read(rig->plan, rig->workspace.data, &density));
    bool excess = p->test->params.scorer == DRAFT_SCORER_EXCESS;
    double score = 2 * s * s * p->dim * p->batch * p->heads * (excess ? 4 * 16 : 1);
    return (struct figures){
        .median = times[runs / 2],
        .least = times[0],
        .flops = stage == DRAFT_ATTEND  ? density.flops
                 : stage == DRAFT_SCORE ? score
                                        : 0,
        .share = stage == DRAFT_ATTEND ? density.work : 0,
    };
}

static FILE *json; /* NULL: a table on stdout */

static void print_figures(const struct rig *rig, draft_stage stage, const struct figures *f,
                          bool first)
{
    const struct draft_device_info *info = &rig->device->info;
    const char *format =
        json ? "%s  {\"backend\": \"%s\", \"device\": %u, \"case\": \"%s\", \"stage\": \"%s\", "
               "\"kernel\": \"%s\", \"median_us\": %.1f, \"least_us\": %.1f, \"gflops\": %.2f, "
               "\"share_of_dense\": %.4f}"
             : "%s%-6s %u  %-18s %-6s %-12s %11.1f %11.1f %9.2f %7.3f\n";
    fprintf(json ? json : stdout, format, json && !first ? ",\n" : "", info->backend, info->index,
            rig->problem->test->name, draft_stage_name(stage), draft_plan_kernel(rig->plan, stage),
            1e6 * f->median, 1e6 * f->least, 1e-9 * f->flops / f->least, f->share);
    fflush(stdout);
}

static void bench_case(struct test_device *device, const struct test_case *test, bool first)
{
    struct problem problem;
    struct rig rig;
    draft_plan *plan = NULL;
    OK(rig_plan(device, test, NULL, &plan));
    problem_init(&problem, test, plan->layout.tile);
    rig_init(&rig, device, &problem, plan);
    OK(rig_run(&rig, 0));
    for (size_t s = 0; s < 4; s++) {
        struct figures f = measure(&rig, all_stages[s]);
        print_figures(&rig, all_stages[s], &f, first && s == 0);
    }
    rig_free(&rig);
    problem_free(&problem);
}

static struct test_device devices[MAX_DEVICES];
static size_t device_count;

START_TEST(bench)
{
    bool first = true;
    if (json)
        fprintf(json, "[\n");
    else
        printf("%-9s %-18s %-6s %-12s %11s %11s %9s %7s\n", "device", "case", "stage", "kernel",
               "median us", "least us", "GFLOP/s", "share");
    for (size_t d = 0; d < device_count; d++)
        for (size_t i = 0; i < sizeof benches / sizeof *benches; i++) {
            if (!cells_take(&devices[d], &benches[i]))
                continue;
            bench_case(&devices[d], &benches[i], first);
            first = false;
        }
    if (json)
        fprintf(json, "\n]\n");
}
END_TEST

int main(int argc, char **argv)
{
    const char *backend = NULL;
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], "--json") == 0 && i + 1 < argc)
            json = fopen(argv[++i], "w");
        else
            backend = argv[i];
    device_count = devices_open(backend, devices);
    if (device_count == 0)
        return EXIT_SKIPPED;
    Suite *suite = suite_create("bench");
    TCase *tests = tcase_create("bench");
    tcase_add_test(tests, bench);
    suite_add_tcase(suite, tests);
    int status = suite_main(suite, false);
    devices_close(devices, device_count);
    if (json)
        fclose(json);
    return status;
}
