/* SPDX-License-Identifier: MIT
 *
 * Addresses, strides and workspaces that do not fit 32 bits. On the CPU backend the memory is
 * mapped and mostly never touched; on other devices it is allocated, or the test says why not. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "checks.h"
#include "suite.h"

static struct test_device devices[MAX_DEVICES];
static size_t device_count;

#define GIB (UINT64_C(1) << 30)
#define MIB (UINT64_C(1) << 20)

/* A long range of addresses on a device. */
struct range_memory {
    struct test_device *device;
    draft_address address;
    uint64_t size;
    void *mapped;
};

static bool is_cpu(const struct test_device *device)
{
    return strcmp(device->info.backend, "cpu") == 0;
}

/* False, with a line on stdout, where the device has no room. */
static bool range_get(struct range_memory *m, struct test_device *device, uint64_t size)
{
    *m = (struct range_memory){.device = device, .size = size};
    if (!is_cpu(device)) {
        log_clear(&device->log);
        draft_status status = draft_alloc(device->context, size, &m->address);
        if (status)
            printf("    %s: no range of %.1f GiB: %s", device->info.name, (double)size / GIB,
                   device->log.text);
        return status == DRAFT_OK;
    }
    m->mapped = mmap(NULL, size, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (m->mapped == MAP_FAILED) {
        printf("    no address space for %.1f GiB\n", (double)size / GIB);
        return false;
    }
    m->address = (draft_address)(uintptr_t)m->mapped;
    return true;
}

static void range_release(struct range_memory *m)
{
    if (m->mapped)
        munmap(m->mapped, m->size);
    else
        draft_free(m->device->context, m->address);
}

/* ---- Strides ---- */

/* Bytes between samples, tokens and heads: one of them is long. All four tensors lie in one range,
 * `apart` bytes from each other. */
struct spread {
    const char *test;
    uint64_t batch, token, head, apart;
};

#define BEYOND_MAPS (32 * GIB + 16)

/* Each spans over 4 GiB in each tensor. */
static const struct spread spreads[] = {
    {"dense", 0, 8 * MIB, 128, 4096},
    {"plain", 0, 256, 4 * GIB + 4096, MIB},
    {"batch", 2 * GIB + 4096, 320, 160, MIB},
    /* Strides without a common factor: more than 2^31 of it, which tensor maps cannot count. */
    {"batch valid", BEYOND_MAPS, 352, 176, MIB},
};

static struct draft_tensor far_tensor(const struct spread *s, draft_address base,
                                      const struct host_tensor *t)
{
    size_t size = type_size(t->type);
    return (struct draft_tensor){base, s->batch / size, s->token / size, s->head / size};
}

static uint64_t far_row(const struct spread *s, draft_address base, uint32_t b, uint32_t token,
                        uint32_t head)
{
    return base + b * s->batch + token * s->token + head * s->head;
}

static uint64_t span_of(const struct spread *s, const struct host_tensor *t)
{
    return (t->batch - 1) * s->batch + (t->tokens - 1) * s->token + (t->heads - 1) * s->head +
           t->dim * type_size(t->type) + 3 * s->apart;
}

/* Copy rows between a packed tensor on the host and the far one. */
static void copy_rows(draft_context *context, const struct spread *s, draft_address base,
                      const struct host_tensor *t, uint8_t *bytes, bool to_device)
{
    size_t size = t->dim * type_size(t->type);
    for (uint32_t b = 0; b < t->batch; b++)
        for (uint32_t token = 0; token < t->tokens; token++)
            for (uint32_t head = 0; head < t->heads; head++) {
                draft_address far = far_row(s, base, b, token, head);
                uint8_t *near = bytes + tensor_row(t, b, token, head) * type_size(t->type);
                if (to_device)
                    OK(draft_write(context, far, near, size));
                else
                    OK(draft_read(context, near, far, size));
            }
}

static void run_spread(struct rig *rig, const struct spread *s, draft_address base)
{
    const struct problem *p = rig->problem;
    draft_context *context = rig->device->context;
    rig->run.q = far_tensor(s, base, &p->q);
    rig->run.k = far_tensor(s, base + s->apart, &p->k);
    rig->run.v = far_tensor(s, base + 2 * s->apart, &p->v);
    rig->run.out = far_tensor(s, base + 3 * s->apart, &p->out);
    copy_rows(context, s, rig->run.q.data, &p->q, p->q.bytes, true);
    copy_rows(context, s, rig->run.k.data, &p->k, p->k.bytes, true);
    copy_rows(context, s, rig->run.v.data, &p->v, p->v.bytes, true);
    rig_reset(rig);
    OK(rig_run(rig, 0));
    uint8_t *out = test_alloc(p->out.size, 1);
    copy_rows(context, s, rig->run.out.data, &p->out, out, false);
    buffer_put(&rig->out, 0, out, p->out.size); /* where the checks look for it */
    free(out);
}

START_TEST(long_strides)
{
    const struct spread *s = &spreads[_i];
    const struct test_case *test = case_named(s->test);
    for (size_t d = 0; d < device_count; d++) {
        struct problem problem;
        struct rig rig;
        struct range_memory memory;
        struct expected expected;
        draft_plan *plan = NULL;
        OK(rig_plan(&devices[d], test, NULL, &plan));
        problem_init(&problem, test, plan->layout.tile);
        rig_init(&rig, &devices[d], &problem, plan);
        uint64_t size = span_of(s, &problem.out);
        ck_assert_uint_gt(size, 4 * GIB);
        if (range_get(&memory, &devices[d], size)) {
            log_clear(&devices[d].log);
            devices[d].context->log.level = DRAFT_LOG_WARN;
            run_spread(&rig, s, memory.address);
            if (s->batch == BEYOND_MAPS &&
                strcmp(draft_plan_kernel(plan, DRAFT_ATTEND), "sm90") == 0)
                ck_assert_ptr_nonnull(strstr(devices[d].log.text, "no tensor map"));
            ck_assert(rig_intact(&rig, 15));
            const char *cell = cell_name(&devices[d], "long", s->test);
            ck_assert_uint_eq(check_pool(&rig, cell), 0);
            ck_assert_uint_eq(check_score(&rig, cell), 0);
            ck_assert_uint_eq(check_select(&rig, cell), 0);
            expected_init(&expected, &problem, rig_workspace(&rig, rig.layout.counts),
                          rig_workspace(&rig, rig.layout.lists), NULL);
            ck_assert_uint_eq(check_attend(&rig, &expected, cell), 0);
            expected_free(&expected);
            range_release(&memory);
        }
        rig_free(&rig);
        problem_free(&problem);
    }
}
END_TEST

/* ---- Workspace ---- */

/* 33,000 blocks of one token: the map alone has over 2^32 bytes and over 2^30 entries. It is never
 * written: untouched pages read as zeros, so all entries tie, and each row keeps its own block and
 * the first of the others. */
enum { LONG_ROW = 33000, LONG_KEPT = 2 };

static struct draft_plan_params long_params(void)
{
    return (struct draft_plan_params){
        .shape = {.frames = 1, .height = 1, .width = LONG_ROW, .heads = 1, .dim = 8},
        .type = DRAFT_F32,
        .tile = {1, 1, 1},
        .rule = DRAFT_RULE_ROW,
        .sparsity = 1 - (double)LONG_KEPT / LONG_ROW,
        .scorer = DRAFT_SCORER_MEAN,
        .tail = DRAFT_TAIL_DROP,
    };
}

static void check_long_lists(const uint32_t *counts, const uint16_t *lists, const uint16_t *order)
{
    for (uint64_t i = 0; i < LONG_ROW; i++) {
        ck_assert_uint_eq(counts[i], LONG_KEPT);
        ck_assert_uint_eq(order[i], i);
        ck_assert_uint_eq(lists[i * LONG_ROW], 0);
        ck_assert_uint_eq(lists[i * LONG_ROW + 1], i ? i : 1);
    }
}

/* Each row attends to token 0 and itself, with equal keys: out is the mean of two values. */
static void attend_long_lists(const draft_plan *plan, struct draft_run_params run)
{
    size_t numbers = (size_t)LONG_ROW * 8;
    float *x = test_alloc(3 * numbers, sizeof *x), *v = x + numbers, *out = v + numbers;
    for (size_t i = 0; i < numbers; i++)
        v[i] = (float)(i / 8);
    run.q.data = run.k.data = (draft_address)(uintptr_t)x; /* zeros */
    run.v.data = (draft_address)(uintptr_t)v;
    run.out.data = (draft_address)(uintptr_t)out;
    run.stages = DRAFT_ATTEND;
    OK(draft_run(plan, &run));
    for (size_t i = 0; i < LONG_ROW; i++)
        ck_assert_double_eq_tol(out[i * 8 + 7], i ? 0.5 * (double)i : 0.5, 1e-6 * (double)(i + 1));
    free(x);
}

START_TEST(long_workspace)
{
    struct test_device *device = NULL;
    for (size_t d = 0; d < device_count; d++)
        if (is_cpu(&devices[d]))
            device = &devices[d];
    if (!device) {
        printf("    long workspace: needs memory that is never touched, only on the CPU\n");
        return;
    }
    struct draft_plan_params params = long_params();
    struct draft_layout layout;
    struct range_memory memory;
    draft_plan *plan = NULL;
    OK(draft_plan_create(device->context, &params, &plan));
    draft_plan_layout(plan, &layout);
    ck_assert_uint_gt(layout.lists, 4 * GIB);
    if (range_get(&memory, device, layout.size)) {
        const uint8_t *workspace = memory.mapped;
        struct draft_run_params run = {.workspace = memory.address, .stages = DRAFT_SELECT};
        OK(draft_run(plan, &run));
        check_long_lists((const uint32_t *)(workspace + layout.counts),
                         (const uint16_t *)(workspace + layout.lists),
                         (const uint16_t *)(workspace + layout.order));
        attend_long_lists(plan, run);
        range_release(&memory);
    }
    draft_plan_destroy(&plan);
}
END_TEST

int main(int argc, char **argv)
{
    device_count = devices_open(argc > 1 ? argv[1] : NULL, devices);
    if (device_count == 0)
        return EXIT_SKIPPED;
    cases_change_f32(devices_type(devices, device_count));
    Suite *suite = suite_create("long");
    TCase *tests = tcase_create("long");
    tcase_add_loop_test(tests, long_strides, 0, sizeof spreads / sizeof *spreads);
    tcase_add_test(tests, long_workspace);
    suite_add_tcase(suite, tests);
    int status = suite_main(suite, false);
    devices_close(devices, device_count);
    return status;
}
