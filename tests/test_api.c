/* SPDX-License-Identifier: MIT
 *
 * Every argument rule of the public header: what breaks it is refused with the right status, a log
 * line that names the argument, and nothing changed. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend.h"
#include "suite.h"

static struct test_device devices[MAX_DEVICES];
static size_t device_count;

/* A handle that no function may touch when it fails. */
#define UNTOUCHED ((void *)0x5a5a)

/* The call fails with this status and the log says this word. */
static void expect(const char *call, draft_status got, draft_status want, struct log_memory *log,
                   const char *word)
{
    ck_assert_msg(got == want, "%s: got \"%s\", want \"%s\"; log: %s", call, draft_status_name(got),
                  draft_status_name(want), log->text);
    ck_assert_msg(strstr(log->text, word) != NULL, "%s: the log does not say \"%s\": %s", call,
                  word, log->text);
    log_clear(log);
}

#define EXPECT(call, status, log, word) expect(#call, (call), DRAFT_ERROR_##status, log, word)

/* ---- Version, names ---- */

START_TEST(names)
{
    ck_assert_uint_eq(draft_version(),
                      DRAFT_VERSION_MAJOR << 16 | DRAFT_VERSION_MINOR << 8 | DRAFT_VERSION_PATCH);
    for (int a = -1; a < 8; a++) {
        const char *name = draft_status_name((draft_status)a);
        ck_assert_ptr_nonnull(name);
        ck_assert_str_ne(name, "");
        for (int b = 0; b < a && a <= DRAFT_ERROR_DEVICE; b++)
            ck_assert_str_ne(name, draft_status_name((draft_status)b));
    }
    ck_assert_str_eq(draft_stage_name(DRAFT_POOL), "pool");
    ck_assert_str_eq(draft_stage_name(DRAFT_SCORE), "score");
    ck_assert_str_eq(draft_stage_name(DRAFT_SELECT), "select");
    ck_assert_str_eq(draft_stage_name(DRAFT_ATTEND), "attend");
}
END_TEST

/* ---- Devices ---- */

static void check_device(const struct draft_device_info *info)
{
    static const char *const backends[] = {"cuda", "vulkan", "cpu"};
    size_t known = 0;
    for (size_t i = 0; i < 3; i++)
        known += strcmp(info->backend, backends[i]) == 0;
    ck_assert_uint_eq(known, 1);
    ck_assert_str_ne(info->name, "");
    ck_assert_str_ne(info->attend, "");
    ck_assert_uint_gt(info->memory, 0);
    ck_assert_uint_le(info->software, 1);
    ck_assert(info->types & (1u << DRAFT_F16 | 1u << DRAFT_BF16 | 1u << DRAFT_F32));
    if (strcmp(info->backend, "cpu") == 0) {
        ck_assert_uint_eq(info->types, 1u << DRAFT_F16 | 1u << DRAFT_BF16 | 1u << DRAFT_F32);
        ck_assert_uint_eq(info->software, 1);
    }
}

START_TEST(devices_are_listed)
{
    static struct log_memory log;
    struct draft_log to = log_to(&log, DRAFT_LOG_ERROR);
    struct draft_device_info infos[MAX_DEVICES], first[2];
    size_t count = 0, capacity = MAX_DEVICES;
    OK(draft_devices(NULL, NULL, &count));
    OK(draft_devices(&to, infos, &capacity));
    ck_assert_uint_eq(count, capacity);
    ck_assert_uint_ge(count, device_count);
    for (size_t i = 0; i < count && i < MAX_DEVICES; i++)
        check_device(&infos[i]);
    memset(first, POISON, sizeof first);
    struct draft_device_info poison = first[1];
    capacity = 1; /* no more than one is written, all are counted */
    OK(draft_devices(NULL, first, &capacity));
    ck_assert_uint_eq(count, capacity);
    ck_assert(memcmp(&first[1], &poison, sizeof poison) == 0);
    log_clear(&log);
    EXPECT(draft_devices(&to, infos, NULL), ARGUMENT, &log, "count");
    EXPECT(draft_devices(&to, NULL, &capacity), ARGUMENT, &log, "out");
}
END_TEST

/* ---- Contexts ---- */

START_TEST(contexts_are_refused)
{
    static struct log_memory log;
    struct draft_log to = log_to(&log, DRAFT_LOG_ERROR);
    draft_context *out = UNTOUCHED;
    struct draft_context_params p = {.log = to};
    EXPECT(draft_context_create(&p, NULL), ARGUMENT, &log, "out");
    p = (struct draft_context_params){.backend = "abacus", .log = to};
    EXPECT(draft_context_create(&p, &out), NO_DEVICE, &log, "abacus");
    p = (struct draft_context_params){.backend = devices[0].info.backend, .device = 99, .log = to};
    EXPECT(draft_context_create(&p, &out), NO_DEVICE, &log, "99");
    p = (struct draft_context_params){.device_name = "abacus", .log = to};
    EXPECT(draft_context_create(&p, &out), NO_DEVICE, &log, "abacus");
    p = (struct draft_context_params){.native = &log, .log = to};
    EXPECT(draft_context_create(&p, &out), ARGUMENT, &log, "backend");
    p.backend = "abacus";
    EXPECT(draft_context_create(&p, &out), NO_DEVICE, &log, "abacus");
    for (size_t d = 0; d < device_count; d++) {
        p.backend = devices[d].info.backend;
        if (!devices[d].context->backend->adopts)
            EXPECT(draft_context_create(&p, &out), UNSUPPORTED, &log, "native");
    }
    ck_assert_ptr_eq(out, UNTOUCHED);
}
END_TEST

START_TEST(backend_from_environment)
{
    static struct log_memory log;
    struct draft_context_params p = {.log = log_to(&log, DRAFT_LOG_ERROR)};
    draft_context *context = NULL;
    struct draft_device_info info;
    setenv("DRAFT_BACKEND", "abacus", 1);
    EXPECT(draft_context_create(&p, &context), NO_DEVICE, &log, "abacus");
    p.backend = devices[0].info.backend; /* the caller's word comes first */
    OK(draft_context_create(&p, &context));
    draft_context_destroy(&context);
    for (size_t d = 0; d < device_count; d++) {
        setenv("DRAFT_BACKEND", devices[d].info.backend, 1);
        OK(draft_context_create(NULL, &context));
        draft_context_device(context, &info);
        ck_assert_str_eq(info.backend, devices[d].info.backend);
        draft_context_destroy(&context);
    }
    unsetenv("DRAFT_BACKEND");
}
END_TEST

START_TEST(device_by_name)
{
    for (size_t d = 0; d < device_count; d++) {
        char name[128];
        struct draft_device_info info;
        draft_context *context = NULL;
        snprintf(name, sizeof name, "%s", devices[d].info.name);
        for (char *c = name; *c; c++) /* case does not matter */
            *c = (char)(*c >= 'a' && *c <= 'z' ? *c - 32 : *c);
        name[strlen(name) / 2 + 1] = '\0';
        struct draft_context_params p = {
            .backend = devices[d].info.backend, .device = 77, .device_name = name};
        OK(draft_context_create(&p, &context));
        draft_context_device(context, &info);
        ck_assert_str_eq(info.backend, devices[d].info.backend);
        draft_context_destroy(&context);
        ck_assert_ptr_null(context);
    }
}
END_TEST

/* Without a wish: never a software device other than the CPU backend. */
START_TEST(default_context)
{
    draft_context *context = NULL;
    struct draft_device_info info;
    draft_status status = draft_context_create(NULL, &context);
    struct draft_device_info infos[MAX_DEVICES];
    size_t count = MAX_DEVICES;
    bool usable = false;
    OK(draft_devices(NULL, infos, &count));
    for (size_t d = 0; d < count && d < MAX_DEVICES; d++)
        usable |= strcmp(infos[d].backend, "cpu") == 0 || !infos[d].software;
    ck_assert_int_eq(status, usable ? DRAFT_OK : DRAFT_ERROR_NO_DEVICE);
    if (status)
        return;
    draft_context_device(context, &info);
    ck_assert(!info.software || strcmp(info.backend, "cpu") == 0);
    draft_context_destroy(&context);
}
END_TEST

START_TEST(nothing_is_destroyed)
{
    draft_context *context = NULL;
    draft_plan *plan = NULL;
    draft_context_destroy(NULL);
    draft_context_destroy(&context);
    draft_plan_destroy(NULL);
    draft_plan_destroy(&plan);
    draft_free(devices[0].context, 0);
}
END_TEST

/* ---- Memory ---- */

START_TEST(memory)
{
    struct test_device *device = &devices[_i];
    draft_context *context = device->context;
    draft_address first, second;
    uint8_t bytes[1000], back[1000];
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)(i * 7);
    OK(draft_alloc(context, 1, &first));
    OK(draft_alloc(context, sizeof bytes, &second));
    ck_assert_uint_eq(first % 256, 0);
    ck_assert_uint_eq(second % 256, 0);
    OK(draft_write(context, second, bytes, sizeof bytes));
    OK(draft_write(context, first, bytes + 9, 1));
    OK(draft_write(context, second + 13, bytes + 500, 101)); /* odd places and sizes */
    memcpy(bytes + 13, bytes + 500, 101);
    OK(draft_read(context, back, second, sizeof back));
    ck_assert(memcmp(back, bytes, sizeof back) == 0);
    OK(draft_read(context, back, second + 331, 3));
    ck_assert(memcmp(back, bytes + 331, 3) == 0);
    OK(draft_read(context, back, first, 1));
    ck_assert_uint_eq(back[0], bytes[9]);
    OK(draft_write(context, second, NULL, 0));
    OK(draft_read(context, NULL, second, 0));
    draft_free(context, first);
    draft_free(context, second);
}
END_TEST

START_TEST(memory_is_refused)
{
    struct test_device *device = &devices[_i];
    draft_context *context = device->context;
    draft_address address, never = 0x5a5a;
    uint8_t byte = 0;
    log_clear(&device->log);
    EXPECT(draft_alloc(context, 0, &never), ARGUMENT, &device->log, "size");
    EXPECT(draft_alloc(context, 16, NULL), ARGUMENT, &device->log, "out");
    EXPECT(draft_alloc(context, SIZE_MAX / 4, &never), MEMORY, &device->log, "");
    EXPECT(draft_alloc(context, SIZE_MAX, &never), MEMORY, &device->log, "");
    ck_assert_uint_eq(never, 0x5a5a);
    OK(draft_alloc(context, 16, &address));
    EXPECT(draft_write(context, 0, &byte, 1), ARGUMENT, &device->log, "to");
    EXPECT(draft_write(context, address, NULL, 1), ARGUMENT, &device->log, "from");
    EXPECT(draft_read(context, NULL, address, 1), ARGUMENT, &device->log, "to");
    EXPECT(draft_read(context, &byte, 0, 1), ARGUMENT, &device->log, "from");
    if (strcmp(device->info.backend, "cpu") != 0) {
        uint8_t many[64] = {0};
        EXPECT(draft_write(context, address, many, 64), ARGUMENT, &device->log, "");
        EXPECT(draft_read(context, many, address + 8, 9), ARGUMENT, &device->log, "");
    }
    draft_free(context, address);
    ck_assert_int_eq(draft_alloc(NULL, 16, &never), DRAFT_ERROR_ARGUMENT);
    ck_assert_int_eq(draft_write(NULL, 256, &byte, 1), DRAFT_ERROR_ARGUMENT);
    ck_assert_int_eq(draft_read(NULL, &byte, 256, 1), DRAFT_ERROR_ARGUMENT);
    ck_assert_int_eq(draft_wait(NULL), DRAFT_ERROR_ARGUMENT);
}
END_TEST

/* ---- Plans ---- */

static struct draft_plan_params good_params(void)
{
    return (struct draft_plan_params){
        .shape = {.frames = 2, .height = 9, .width = 17, .suffix = 3, .heads = 4, .dim = 16},
        .type = devices_type(devices, device_count),
        .tile = {1, 8, 16},
        .sparsity = 0.5,
    };
}

#define REFUSED(status, word, change)                                                              \
    do {                                                                                           \
        struct draft_plan_params p = good_params();                                                \
        change;                                                                                    \
        draft_plan *plan = UNTOUCHED;                                                              \
        expect(#change, draft_plan_create(device->context, &p, &plan), DRAFT_ERROR_##status,       \
               &device->log, word);                                                                \
        ck_assert_ptr_eq(plan, UNTOUCHED);                                                         \
    } while (0)

START_TEST(shapes_are_refused)
{
    struct test_device *device = &devices[_i];
    log_clear(&device->log);
    REFUSED(ARGUMENT, "frames", p.shape.frames = 0);
    REFUSED(ARGUMENT, "height", p.shape.height = 0);
    REFUSED(ARGUMENT, "width", p.shape.width = 0);
    REFUSED(ARGUMENT, "heads", p.shape.heads = 0);
    REFUSED(ARGUMENT, "kv_heads", p.shape.kv_heads = 3);
    REFUSED(ARGUMENT, "kv_heads", p.shape.kv_heads = 8);
    REFUSED(ARGUMENT, "dim", p.shape.dim = 0);
    REFUSED(ARGUMENT, "dim", p.shape.dim = 4);
    REFUSED(ARGUMENT, "dim", p.shape.dim = 12);
    REFUSED(ARGUMENT, "dim", p.shape.dim = 136);
    REFUSED(ARGUMENT, "type", p.type = (draft_type)0);
    REFUSED(ARGUMENT, "type", p.type = (draft_type)4);
    REFUSED(ARGUMENT, "tile", p.tile.t = 0);
    REFUSED(ARGUMENT, "tile", p.tile.w = 0);
    REFUSED(ARGUMENT, "tile", p.tile.w = 17);
    REFUSED(ARGUMENT, "tile", p.tile.h = 0x80000000u);
    REFUSED(ARGUMENT, "tile", (p.tile.h = 65536, p.tile.w = 65536));
    REFUSED(UNSUPPORTED, "65535", (p.shape.width = 70000, p.tile.h = 1, p.tile.w = 1));
    REFUSED(UNSUPPORTED, "65535", (p.shape.prefix = UINT32_MAX, p.shape.suffix = UINT32_MAX));
    REFUSED(UNSUPPORTED, "65535", (p.shape.frames = p.shape.height = p.shape.width = UINT32_MAX));
}
END_TEST

START_TEST(rules_are_refused)
{
    static const double bad_one[] = {0.5, 0.5, 1, 0.5}, bad_nan[] = {0.5, NAN, 0.5, 0.5};
    struct test_device *device = &devices[_i];
    log_clear(&device->log);
    REFUSED(ARGUMENT, "rule", p.rule = (draft_rule)5);
    REFUSED(ARGUMENT, "rule", p.rule = (draft_rule)-1);
    REFUSED(ARGUMENT, "sparsity", p.sparsity = 1);
    REFUSED(ARGUMENT, "sparsity", p.sparsity = -0.1);
    REFUSED(ARGUMENT, "sparsity", p.sparsity = NAN);
    REFUSED(ARGUMENT, "head_sparsity", p.head_sparsity = bad_one);
    REFUSED(ARGUMENT, "head_sparsity", p.head_sparsity = bad_nan);
    REFUSED(ARGUMENT, "mass", (p.rule = DRAFT_RULE_MASS, p.sparsity = 0, p.mass = 1.5));
    REFUSED(ARGUMENT, "mass", (p.rule = DRAFT_RULE_MASS, p.sparsity = 0, p.mass = -0.5));
    REFUSED(ARGUMENT, "mass", (p.rule = DRAFT_RULE_MASS, p.sparsity = 0, p.mass = NAN));
    REFUSED(ARGUMENT, "mass", p.mass = 0.5);
    REFUSED(ARGUMENT, "force", p.force = 8);
    REFUSED(ARGUMENT, "force", p.force = 0x80000000u);
    REFUSED(ARGUMENT, "scale", p.scale = NAN);
    REFUSED(ARGUMENT, "scale", p.scale = INFINITY);
    REFUSED(ARGUMENT, "PAPER", (p.rule = DRAFT_RULE_PAPER, p.tile.w = 8));
    REFUSED(ARGUMENT, "scorer", p.scorer = (draft_scorer)5);
    REFUSED(ARGUMENT, "tail", p.tail = (draft_tail)5);
    REFUSED(ARGUMENT, "row_floor", (p.rule = DRAFT_RULE_HEAD, p.row_floor = 1.01));
    REFUSED(ARGUMENT, "row_floor", (p.rule = DRAFT_RULE_HEAD, p.row_floor = -0.1));
    REFUSED(ARGUMENT, "row_floor", (p.rule = DRAFT_RULE_HEAD, p.row_floor = NAN));
    REFUSED(ARGUMENT, "row_floor", p.row_floor = 0.5);
    REFUSED(ARGUMENT, "row_floor", (p.rule = DRAFT_RULE_ROW, p.row_floor = 0.5));
    REFUSED(ARGUMENT, "row_floor", (p.rule = DRAFT_RULE_PAPER, p.row_floor = 0.5));
    REFUSED(ARGUMENT, "PAPER", (p.rule = DRAFT_RULE_PAPER, p.scorer = DRAFT_SCORER_LSE));
    REFUSED(ARGUMENT, "PAPER", (p.rule = DRAFT_RULE_PAPER, p.tail = DRAFT_TAIL_MEAN));
    struct draft_plan_params p = good_params();
    draft_plan *plan = UNTOUCHED;
    EXPECT(draft_plan_create(device->context, NULL, &plan), ARGUMENT, &device->log, "params");
    EXPECT(draft_plan_create(device->context, &p, NULL), ARGUMENT, &device->log, "out");
    ck_assert_int_eq(draft_plan_create(NULL, &p, &plan), DRAFT_ERROR_ARGUMENT);
    ck_assert_ptr_eq(plan, UNTOUCHED);
}
END_TEST

/* ---- Runs ---- */

/* A plan and memory for it. */
struct stand {
    draft_plan *plan;
    struct draft_layout layout;
    draft_address memory;
    struct draft_run_params run;
};

static void stand_init(struct stand *s, draft_context *context, struct draft_plan_params p)
{
    OK(draft_plan_create(context, &p, &s->plan));
    draft_plan_layout(s->plan, &s->layout);
    uint32_t batch = p.shape.batch ? p.shape.batch : 1;
    uint64_t rows = batch * s->layout.tokens * p.shape.heads;
    uint64_t tensor = (rows * p.shape.dim * 4 + 255) / 256 * 256;
    uint64_t rest = (rows * 4 + 512) / 256 * 256;
    OK(draft_alloc(context, 4 * tensor + rest + s->layout.size, &s->memory));
    s->run = (struct draft_run_params){
        .q.data = s->memory,
        .k.data = s->memory + tensor,
        .v.data = s->memory + 2 * tensor,
        .out.data = s->memory + 3 * tensor,
        .lse = s->memory + 4 * tensor,
        .workspace = s->memory + 4 * tensor + rest,
    };
}

static void stand_free(struct stand *s, draft_context *context)
{
    draft_plan_destroy(&s->plan);
    ck_assert_ptr_null(s->plan);
    draft_free(context, s->memory);
}

#define RUN_REFUSED(status, word, change)                                                          \
    do {                                                                                           \
        struct draft_run_params r = s.run;                                                         \
        change;                                                                                    \
        expect(#change, draft_run(s.plan, &r), DRAFT_ERROR_##status, &device->log, word);          \
    } while (0)

START_TEST(runs_are_refused)
{
    struct test_device *device = &devices[_i];
    struct stand s;
    struct draft_plan_params p = good_params();
    p.shape.batch = 2;
    stand_init(&s, device->context, p);
    log_clear(&device->log);
    RUN_REFUSED(ARGUMENT, "stages", r.stages = 16);
    RUN_REFUSED(ARGUMENT, "workspace", r.workspace = 0);
    RUN_REFUSED(ARGUMENT, "workspace", r.workspace += 16);
    RUN_REFUSED(ARGUMENT, "lse", r.lse += 2);
    RUN_REFUSED(ARGUMENT, "valid", r.valid = r.lse + 1);
    RUN_REFUSED(ARGUMENT, "q.data", r.q.data = 0);
    RUN_REFUSED(ARGUMENT, "k.data", r.k.data = 0);
    RUN_REFUSED(ARGUMENT, "v.data", r.v.data = 0);
    RUN_REFUSED(ARGUMENT, "out.data", r.out.data = 0);
    RUN_REFUSED(ARGUMENT, "q.data", r.q.data += 8);
    RUN_REFUSED(ARGUMENT, "out.data", r.out.data += 4);
    RUN_REFUSED(ARGUMENT, "q.head_stride", r.q.head_stride = 18);
    RUN_REFUSED(ARGUMENT, "q.head_stride", r.q.head_stride = 12);
    RUN_REFUSED(ARGUMENT, "k.token_stride", r.k.token_stride = 65);
    RUN_REFUSED(ARGUMENT, "v.batch_stride", r.v.batch_stride = 10002);
    RUN_REFUSED(ARGUMENT, "out.token_stride", r.out.token_stride = 8);
    RUN_REFUSED(ARGUMENT, "overlap", r.out.data = r.q.data);
    RUN_REFUSED(ARGUMENT, "overlap", r.out.data = r.v.data + 16);
    RUN_REFUSED(UNSUPPORTED, "stride", r.q.batch_stride = UINT64_C(1) << 36);
    if (!device->context->backend->adopts || device->context->backend->record)
        RUN_REFUSED(UNSUPPORTED, "queue", r.queue = &s);
    RUN_REFUSED(ARGUMENT, "flags", r.flags = 2);
    EXPECT(draft_factors_write(s.plan, s.run.workspace, NULL), ARGUMENT, &device->log, "FITTED");
    ck_assert_int_eq(draft_factors_write(NULL, s.run.workspace, NULL), DRAFT_ERROR_ARGUMENT);
    RUN_REFUSED(ARGUMENT, "chunk is 1", r.chunk = 1);
    RUN_REFUSED(ARGUMENT, "chunk is 2", (r.chunk = 2, r.chunks = 2));
    RUN_REFUSED(UNSUPPORTED, "chunks is 2", r.chunks = 2);
    ck_assert_int_eq(draft_run(s.plan, NULL), DRAFT_ERROR_ARGUMENT);
    ck_assert_int_eq(draft_run(NULL, &s.run), DRAFT_ERROR_ARGUMENT);
    stand_free(&s, device->context);
}
END_TEST

/* Stages that use no tensors need none; an axis of length 1 has no stride. */
START_TEST(runs_are_accepted)
{
    struct test_device *device = &devices[_i];
    struct stand s;
    struct draft_plan_params p = good_params();
    p.shape.heads = 1;
    stand_init(&s, device->context, p);
    OK(draft_run(s.plan, &s.run));
    struct draft_run_params r = {.workspace = s.run.workspace,
                                 .stages = DRAFT_SCORE | DRAFT_SELECT};
    OK(draft_run(s.plan, &r));
    r = s.run;
    r.lse = 0;
    r.q.head_stride = 3;
    r.q.batch_stride = 5;
    r.out.batch_stride = 1;
    OK(draft_run(s.plan, &r));
    r.stages = DRAFT_POOL;
    r.out.data = 0; /* pool writes no out */
    OK(draft_run(s.plan, &r));
    OK(draft_wait(device->context));
    OK(draft_wait(device->context));
    stand_free(&s, device->context);
}
END_TEST

/* A log without a function, and none of its lines above the level asked for. */
START_TEST(log_levels)
{
    static struct log_memory log;
    draft_context *context = NULL;
    struct draft_context_params p = {.backend = devices[0].info.backend,
                                     .log = log_to(&log, DRAFT_LOG_INFO)};
    OK(draft_context_create(&p, &context));
    ck_assert_str_ne(log.text, ""); /* which device */
    log_clear(&log);
    draft_context_destroy(&context);
    p.log.level = DRAFT_LOG_ERROR;
    OK(draft_context_create(&p, &context));
    ck_assert_str_eq(log.text, "");
    draft_context_destroy(&context);
    p.log = (struct draft_log){0};
    OK(draft_context_create(&p, &context));
    draft_plan *plan = UNTOUCHED;
    ck_assert_int_eq(draft_plan_create(context, NULL, &plan), DRAFT_ERROR_ARGUMENT);
    draft_context_destroy(&context);
}
END_TEST

int main(int argc, char **argv)
{
    device_count = devices_open(argc > 1 ? argv[1] : NULL, devices);
    if (device_count == 0)
        return EXIT_SKIPPED;
    unsetenv("DRAFT_BACKEND");
    unsetenv("DRAFT_KERNEL");
    Suite *suite = suite_create("api");
    TCase *tests = tcase_create("api");
    tcase_add_test(tests, names);
    tcase_add_test(tests, devices_are_listed);
    tcase_add_test(tests, contexts_are_refused);
    tcase_add_test(tests, backend_from_environment);
    tcase_add_test(tests, device_by_name);
    tcase_add_test(tests, default_context);
    tcase_add_test(tests, nothing_is_destroyed);
    tcase_add_test(tests, log_levels);
    tcase_add_loop_test(tests, memory, 0, (int)device_count);
    tcase_add_loop_test(tests, memory_is_refused, 0, (int)device_count);
    tcase_add_loop_test(tests, shapes_are_refused, 0, (int)device_count);
    tcase_add_loop_test(tests, rules_are_refused, 0, (int)device_count);
    tcase_add_loop_test(tests, runs_are_refused, 0, (int)device_count);
    tcase_add_loop_test(tests, runs_are_accepted, 0, (int)device_count);
    suite_add_tcase(suite, tests);
    int status = suite_main(suite, false);
    devices_close(devices, device_count);
    return status;
}
