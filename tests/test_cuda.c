/* SPDX-License-Identifier: MIT
 *
 * What draft/cuda.h promises: the caller's own CUDA context and streams, capture into graphs. The
 * program opens the driver itself and plays the caller. Results are compared bit for bit with those
 * of a context of the library's own; that these are right is what the other tests look at. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "caller.h"
#include "rig.h"

static struct test_device devices[MAX_DEVICES];
static size_t device_count;

/* ---- Problems and what comes out ---- */

enum { ALL_STAGES = DRAFT_POOL | DRAFT_SCORE | DRAFT_SELECT | DRAFT_ATTEND };

enum { INPUTS = 2 }; /* which inputs a rig holds: as the case says, or with q and k exchanged */

static const struct test_case *the_case(void)
{
    return case_named("dim 64 bf16");
}

static void fill(struct rig *rig, int inputs)
{
    const struct host_tensor *q = &rig->problem->q, *k = &rig->problem->k;
    ck_assert_uint_eq(q->size, k->size);
    buffer_put(&rig->q, 0, inputs ? k->bytes : q->bytes, q->size);
    buffer_put(&rig->k, 0, inputs ? q->bytes : k->bytes, q->size);
}

static void setup_rig(struct rig *rig, struct test_device *device, struct problem *problem)
{
    draft_plan *plan = NULL;
    OK(rig_plan(device, the_case(), NULL, &plan));
    problem_init(problem, the_case(), plan->layout.tile);
    rig_init(rig, device, problem, plan);
    rig_reset(rig);
}

static void free_rig(struct rig *rig, struct problem *problem)
{
    rig_free(rig);
    problem_free(problem);
}

/* out for each of the inputs, by a context of the library's own: what all others compare with. */
static uint8_t *expected[INPUTS];

START_TEST(expected_out)
{
    struct problem problem;
    struct rig rig;
    setup_rig(&rig, &devices[0], &problem);
    for (int i = 0; i < INPUTS; i++) {
        fill(&rig, i);
        rig_reset(&rig);
        OK(rig_run(&rig, 0));
        const uint8_t *out = buffer_get(&rig.out);
        ck_assert(rig.out.size >= 64 && out[0] != POISON);
        expected[i] = test_alloc(rig.out.size, 1);
        memcpy(expected[i], out, rig.out.size);
    }
    ck_assert(memcmp(expected[0], expected[1], rig.out.size) != 0);
    free_rig(&rig, &problem);
}
END_TEST

static void check_out(struct rig *rig, int inputs, const char *what)
{
    ck_assert_ptr_nonnull(expected[inputs]);
    ck_assert_msg(memcmp(buffer_get(&rig->out), expected[inputs], rig->out.size) == 0,
                  "%s: not the out of inputs %d", what, inputs);
}

/* The same once the stream is done, without the library, which would wait for its own queue too. */
static void check_stream(struct rig *rig, const struct stand *s, CUstream stream, int inputs)
{
    CUcontext popped;
    uint8_t *out = test_alloc(rig->out.size, 1);
    CU(cuCtxPushCurrent(s->context));
    CU(cuStreamSynchronize(stream));
    CU(cuMemcpyDtoH(out, rig->out.data, rig->out.size));
    CU(cuCtxPopCurrent(&popped));
    ck_assert_ptr_nonnull(expected[inputs]);
    ck_assert_msg(memcmp(out, expected[inputs], rig->out.size) == 0, "not the out of inputs %d",
                  inputs);
    free(out);
}

/* Nothing was written to out. */
static void check_untouched(struct rig *rig)
{
    ck_assert(memcmp(buffer_get(&rig->out), buffer_image(&rig->out), rig->out.size) == 0);
}

/* Enqueue, and do not wait. */
static void enqueue(struct rig *rig, CUstream stream)
{
    rig->run.stages = 0;
    rig->run.queue = stream;
    OK(draft_run(rig->plan, &rig->run));
}

/* ---- Adoption ---- */

START_TEST(own_context_and_stream)
{
    struct stand s;
    struct problem problem;
    struct rig rig;
    stand_init(&s, &devices[0].info);
    OK(stand_adopt(&s, s.context, s.stream));
    ck_assert_str_eq(s.device.info.backend, "cuda");
    ck_assert_str_eq(s.device.info.name, devices[0].info.name);
    ck_assert(memcmp(s.device.info.uuid, devices[0].info.uuid, 16) == 0);
    setup_rig(&rig, &s.device, &problem);
    for (int i = 0; i < INPUTS; i++) {
        fill(&rig, i);
        rig_reset(&rig);
        OK(rig_run(&rig, 0));
        check_out(&rig, i, "adopted");
        ck_assert(rig_intact(&rig, ALL_STAGES));
    }
    rig_reset(&rig);
    fill(&rig, 0);
    enqueue(&rig, NULL); /* NULL is the caller's stream, on which the caller may wait */
    check_stream(&rig, &s, s.stream, 0);
    free_rig(&rig, &problem);
    stand_free(&s);
}
END_TEST

START_TEST(own_context_alone)
{
    CUstream given[] = {NULL, CU_STREAM_LEGACY};
    for (size_t i = 0; i < sizeof given / sizeof *given; i++) {
        struct stand s;
        struct problem problem;
        struct rig rig;
        stand_init(&s, &devices[0].info);
        OK(stand_adopt(&s, s.context, given[i]));
        setup_rig(&rig, &s.device, &problem);
        OK(rig_run(&rig, 0));
        check_out(&rig, 0, given[i] ? "legacy stream" : "no stream");
        free_rig(&rig, &problem);
        stand_free(&s);
    }
}
END_TEST

/* The device is the context's, whatever the parameters say. */
START_TEST(another_device)
{
    for (size_t d = 0; d < device_count; d++) {
        struct stand s;
        stand_init(&s, &devices[d].info);
        struct draft_cuda_native native = {s.context, NULL};
        struct draft_context_params params = {
            .backend = "cuda", .native = &native, .device = 99, .device_name = "abacus"};
        OK(draft_context_create(&params, &s.device.context));
        draft_context_device(s.device.context, &s.device.info);
        ck_assert_uint_eq(s.device.info.index, devices[d].info.index);
        ck_assert(memcmp(s.device.info.uuid, devices[d].info.uuid, 16) == 0);
        stand_free(&s);
    }
}
END_TEST

/* What is current on the thread stays so, while the library works in another context. */
START_TEST(what_is_current)
{
    struct stand s;
    struct problem problem;
    struct rig rig;
    CUcontext popped;
    stand_init(&s, &devices[0].info);
    CU(cuCtxPushCurrent(s.context));
    setup_rig(&rig, &devices[0], &problem);
    ck_assert_ptr_eq(current_context(), s.context);
    OK(rig_run(&rig, 0));
    ck_assert_ptr_eq(current_context(), s.context);
    check_out(&rig, 0, "another context current");
    rig.run.q.data = 8;
    ck_assert_int_eq(draft_run(rig.plan, &rig.run), DRAFT_ERROR_ARGUMENT);
    ck_assert_ptr_eq(current_context(), s.context);
    free_rig(&rig, &problem);
    CU(cuCtxPopCurrent(&popped));
    ck_assert_ptr_eq(popped, s.context);
    ck_assert_ptr_null(current_context());
    stand_free(&s);
}
END_TEST

/* Memory that the caller allocated, for tensors, workspace and the library's copies. */
START_TEST(memory_of_the_caller)
{
    struct stand s;
    struct problem problem;
    struct rig rig;
    CUcontext popped;
    CUdeviceptr out, workspace;
    uint32_t number = 0x01020304, back = 0;
    stand_init(&s, &devices[0].info);
    OK(stand_adopt(&s, s.context, s.stream));
    setup_rig(&rig, &s.device, &problem);
    CU(cuCtxPushCurrent(s.context));
    CU(cuMemAlloc(&out, rig.out.size));
    CU(cuMemAlloc(&workspace, rig.workspace.size));
    struct draft_run_params run = rig.run;
    run.out.data = out, run.workspace = workspace;
    OK(draft_run(rig.plan, &run));
    uint8_t *got = test_alloc(rig.out.size, 1);
    OK(draft_read(s.device.context, got, out, rig.out.size));
    ck_assert(memcmp(got, expected[0], rig.out.size) == 0);
    free(got);
    OK(draft_write(s.device.context, out + 12, &number, sizeof number));
    CU(cuMemcpyDtoH(&back, out + 12, sizeof back));
    ck_assert_uint_eq(back, number);
    CU(cuMemFree(out));
    CU(cuMemFree(workspace));
    CU(cuCtxPopCurrent(&popped));
    free_rig(&rig, &problem);
    stand_free(&s);
}
END_TEST

/* ---- Streams ---- */

START_TEST(streams_of_the_caller)
{
    struct stand s;
    struct problem problem;
    struct rig rig;
    stand_init(&s, &devices[0].info);
    OK(stand_adopt(&s, s.context, s.stream));
    setup_rig(&rig, &s.device, &problem);
    CUstream streams[] = {s.stream, s.second, CU_STREAM_LEGACY, NULL};
    for (int i = 0; i < 4; i++) {
        rig_reset(&rig);
        enqueue(&rig, streams[i]);
        check_stream(&rig, &s, streams[i] ? streams[i] : s.stream, 0);
    }
    free_rig(&rig, &problem);
    stand_free(&s);
}
END_TEST

/* As with the CUDA runtime: it works in the primary context, and so does the library by itself. */
START_TEST(stream_of_the_primary_context)
{
    struct stand s = {0};
    struct problem problem;
    struct rig rig;
    CUcontext popped;
    CUdevice device = find_device(&devices[0].info);
    CU(cuDevicePrimaryCtxRetain(&s.context, device));
    CU(cuCtxPushCurrent(s.context));
    CU(cuStreamCreate(&s.stream, CU_STREAM_NON_BLOCKING));
    setup_rig(&rig, &devices[0], &problem);
    enqueue(&rig, s.stream);
    check_stream(&rig, &s, s.stream, 0);
    free_rig(&rig, &problem);
    CU(cuStreamDestroy(s.stream));
    CU(cuCtxPopCurrent(&popped));
    ck_assert_ptr_eq(popped, s.context);
    CU(cuDevicePrimaryCtxRelease(device));
}
END_TEST

/* Each with inputs and a workspace of its own. */
START_TEST(two_streams)
{
    struct stand s;
    struct problem problems[2];
    struct rig rigs[2];
    stand_init(&s, &devices[0].info);
    OK(stand_adopt(&s, s.context, NULL));
    for (int i = 0; i < 2; i++) {
        setup_rig(&rigs[i], &s.device, &problems[i]);
        fill(&rigs[i], i);
    }
    for (int i = 0; i < 2; i++)
        enqueue(&rigs[i], i ? s.second : s.stream);
    for (int i = 1; i >= 0; i--)
        check_stream(&rigs[i], &s, i ? s.second : s.stream, i);
    for (int i = 0; i < 2; i++)
        free_rig(&rigs[i], &problems[i]);
    stand_free(&s);
}
END_TEST

/* ---- Capture ---- */

START_TEST(captured_and_replayed)
{
    struct stand s;
    struct problem problem;
    struct rig rig;
    stand_init(&s, &devices[0].info);
    OK(stand_adopt(&s, s.context, s.stream));
    setup_rig(&rig, &s.device, &problem);
    capture_begin(&s, s.second);
    enqueue(&rig, s.second); /* the first run of this plan: nothing is left to be loaded */
    CUgraphExec exec = capture_end(&s, s.second);
    check_untouched(&rig);
    for (int i = 0; i < 4; i++) { /* other inputs, and workspaces full of other things */
        fill(&rig, i % INPUTS);
        rig_reset(&rig);
        graph_replay(&s, exec, i < 2 ? s.second : s.stream);
        check_out(&rig, i % INPUTS, "replayed");
        ck_assert(rig_intact(&rig, ALL_STAGES));
    }
    graph_replay(&s, exec, s.stream); /* over what the last one left */
    check_out(&rig, 1, "replayed again");
    enqueue(&rig, s.stream); /* and the plan still runs by itself */
    stand_wait(&s, s.stream);
    check_out(&rig, 1, "after the replays");
    graph_destroy(&s, exec);
    free_rig(&rig, &problem);
    stand_free(&s);
}
END_TEST

static void expect_refusal(struct stand *s, draft_status status, const char *word)
{
    ck_assert_msg(status == DRAFT_ERROR_ARGUMENT, "%s: got \"%s\"; log: %s", word,
                  draft_status_name(status), s->device.log.text);
    ck_assert_msg(strstr(s->device.log.text, word) != NULL, "the log does not say \"%s\": %s", word,
                  s->device.log.text);
    log_clear(&s->device.log);
}

/* The context's own queue under capture: who would wait refuses, and the capture stays whole. */
START_TEST(own_queue_captured)
{
    struct stand s;
    struct problem problem;
    struct rig rig;
    uint32_t number = 0;
    stand_init(&s, &devices[0].info);
    OK(stand_adopt(&s, s.context, s.stream));
    setup_rig(&rig, &s.device, &problem);
    log_clear(&s.device.log);
    capture_begin(&s, s.stream);
    enqueue(&rig, NULL);
    draft_context *context = s.device.context;
    expect_refusal(&s, draft_wait(context), "captured");
    expect_refusal(&s, draft_read(context, &number, rig.out.data, sizeof number), "captured");
    expect_refusal(&s, draft_write(context, rig.out.data, &number, sizeof number), "captured");
    ck_assert_ptr_null(current_context());
    CUgraphExec exec = capture_end(&s, s.stream);
    check_untouched(&rig);
    graph_replay(&s, exec, s.stream);
    check_out(&rig, 0, "own queue captured");
    graph_destroy(&s, exec);
    free_rig(&rig, &problem);
    stand_free(&s);
}
END_TEST

/* A plan whose kernel was never tested, while the own queue is captured: it is refused before any
 * call that would break the capture, and made after it, with the self-test. */
START_TEST(plan_while_captured)
{
    const struct draft_plan_params params = {
        .shape = {.frames = 2, .height = 8, .width = 16, .heads = 1, .dim = 128},
        .type = DRAFT_F16,
        .tile = {1, 8, 16},
    };
    struct stand s;
    struct problem problem;
    struct rig rig;
    draft_plan *plan = NULL;
    draft_address memory = 0;
    const char *before = getenv("XDG_CACHE_HOME");
    char folder[] = "/tmp/draft-captured-XXXXXX", line[64];
    stand_init(&s, &devices[0].info);
    OK(stand_adopt(&s, s.context, s.stream));
    setup_rig(&rig, &s.device, &problem);
    ck_assert_ptr_nonnull(mkdtemp(folder)); /* from here on no verdict is known but the rig's */
    setenv("XDG_CACHE_HOME", folder, 1);
    log_clear(&s.device.log);
    capture_begin(&s, s.stream);
    draft_context *context = s.device.context;
    expect_refusal(&s, draft_plan_create(context, &params, &plan), "draft_plan_create would wait");
    expect_refusal(&s, draft_alloc(context, 64, &memory), "captured");
    ck_assert(!plan && !memory && !current_context());
    enqueue(&rig, NULL);
    CUgraphExec exec = capture_end(&s, s.stream);
    check_untouched(&rig);
    graph_replay(&s, exec, s.stream);
    check_out(&rig, 0, "a plan was refused meanwhile");
    OK(draft_plan_create(context, &params, &plan));
    snprintf(line, sizeof line, "ls '%s'/draft/*.verdicts >/dev/null", folder);
    ck_assert_msg(system(line) == 0, "no self-test was made");
    draft_plan_destroy(&plan);
    snprintf(line, sizeof line, "rm -r '%s'", folder);
    ck_assert_int_eq(system(line), 0);
    ck_assert_int_eq(before ? setenv("XDG_CACHE_HOME", before, 1) : unsetenv("XDG_CACHE_HOME"), 0);
    graph_destroy(&s, exec);
    free_rig(&rig, &problem);
    stand_free(&s);
}
END_TEST

/* ---- What is refused ---- */

START_TEST(natives_are_refused)
{
    struct stand s, other;
    stand_init(&s, &devices[0].info);
    stand_init(&other, &devices[0].info);
    expect_refusal(&s, stand_adopt(&s, NULL, NULL), "native.context");
    expect_refusal(&s, stand_adopt(&s, NULL, s.stream), "native.context");
    expect_refusal(&s, stand_adopt(&s, s.context, other.stream), "native.stream");
    struct draft_cuda_native native = {s.context, s.stream};
    struct draft_context_params params = {.native = &native,
                                          .log = log_to(&s.device.log, DRAFT_LOG_ERROR)};
    draft_context *context = NULL;
    expect_refusal(&s, draft_context_create(&params, &context), "backend");
    setenv("DRAFT_BACKEND", "cuda", 1); /* it does not say what the caller's pointer is */
    expect_refusal(&s, draft_context_create(&params, &context), "backend");
    unsetenv("DRAFT_BACKEND");
    params.backend = "abacus";
    ck_assert_int_eq(draft_context_create(&params, &context), DRAFT_ERROR_NO_DEVICE);
    ck_assert_ptr_null(context);
    ck_assert_ptr_null(current_context());
    stand_free(&other);
    stand_free(&s);
}
END_TEST

/* A stream of another context: nothing is enqueued, and the context goes on. */
START_TEST(foreign_stream)
{
    struct stand s, other;
    struct problem problem;
    struct rig rig;
    stand_init(&s, &devices[0].info);
    stand_init(&other, &devices[0].info);
    OK(stand_adopt(&s, s.context, s.stream));
    setup_rig(&rig, &s.device, &problem);
    log_clear(&s.device.log);
    rig.run.queue = other.stream;
    expect_refusal(&s, draft_run(rig.plan, &rig.run), "cuLaunchKernel");
    ck_assert_ptr_null(current_context());
    check_untouched(&rig);
    enqueue(&rig, s.second);
    stand_wait(&s, s.second);
    check_out(&rig, 0, "after a refusal");
    free_rig(&rig, &problem);
    stand_free(&other);
    stand_free(&s);
}
END_TEST

/* More thread blocks than a launch can have. */
START_TEST(too_many_blocks)
{
    struct test_device *device = &devices[0];
    struct draft_plan_params params = {
        .shape = {.batch = 1 << 16,
                  .frames = 1,
                  .height = 200,
                  .width = 320,
                  .heads = 128,
                  .kv_heads = 128,
                  .dim = 8},
        .type = DRAFT_F16,
        .tile = {1, 8, 16},
    };
    draft_plan *plan = NULL;
    log_clear(&device->log);
    ck_assert_int_eq(draft_plan_create(device->context, &params, &plan), DRAFT_ERROR_UNSUPPORTED);
    ck_assert_ptr_nonnull(strstr(device->log.text, "2^31"));
    ck_assert_ptr_null(plan);
}
END_TEST

/* Kernels that the driver is too old to read, on the simulated one: the context outlives them. */
START_TEST(kernels_for_a_newer_driver)
{
    struct draft_plan_params params = {
        .shape = {.frames = 1, .height = 16, .width = 16, .heads = 1, .dim = 64},
        .type = DRAFT_F16,
        .tile = {1, 8, 16},
    };
    struct stand s;
    draft_plan *plan = NULL;
    stand_init(&s, &devices[0].info);
    OK(stand_adopt(&s, s.context, s.stream));
    setenv("DRAFT_SIMULATOR_OLD", "1", 1);
    log_clear(&s.device.log);
    ck_assert_int_eq(draft_plan_create(s.device.context, &params, &plan), DRAFT_ERROR_UNSUPPORTED);
    ck_assert_ptr_nonnull(strstr(s.device.log.text, "this build's kernels, of CUDA"));
    ck_assert_ptr_null(plan);
    unsetenv("DRAFT_SIMULATOR_OLD");
    OK(draft_plan_create(s.device.context, &params, &plan));
    draft_plan_destroy(&plan);
    stand_free(&s);
}
END_TEST

/* A driver of an older major version, simulated: there is no device that a plan could fail on. */
START_TEST(driver_of_an_older_cuda)
{
    static struct log_memory said;
    draft_context *context = NULL;
    struct draft_context_params params = {.backend = "cuda", .log = log_to(&said, DRAFT_LOG_INFO)};
    setenv("DRAFT_SIMULATOR_CUDA", "11080", 1);
    log_clear(&said);
    ck_assert_int_eq(draft_context_create(&params, &context), DRAFT_ERROR_NO_DEVICE);
    ck_assert_ptr_nonnull(strstr(said.text, "it serves CUDA 11.8"));
    ck_assert_ptr_null(context);
    unsetenv("DRAFT_SIMULATOR_CUDA");
    OK(draft_context_create(&params, &context));
    draft_context_destroy(&context);
}
END_TEST

/* ---- Failure: last, as on real hardware a fault may spoil more than its context ---- */

START_TEST(a_fault_stays)
{
    struct stand s;
    struct problem problem;
    struct rig rig;
    uint32_t number = 0;
    stand_init(&s, &devices[0].info);
    OK(stand_adopt(&s, s.context, s.stream));
    setup_rig(&rig, &s.device, &problem);
    draft_context *context = s.device.context;
    rig.run.q.data = 4096; /* nobody's */
    rig.run.stages = DRAFT_POOL;
    OK(draft_run(rig.plan, &rig.run));
    log_clear(&s.device.log);
    ck_assert_int_eq(draft_wait(context), DRAFT_ERROR_DEVICE);
    ck_assert_ptr_nonnull(strstr(s.device.log.text, "cuStreamSynchronize gave CUDA_ERROR_"));
    log_clear(&s.device.log);
    ck_assert_int_eq(draft_wait(context), DRAFT_ERROR_DEVICE);
    ck_assert_ptr_nonnull(strstr(s.device.log.text, "failed before, with CUDA_ERROR_"));
    ck_assert_int_eq(draft_run(rig.plan, &rig.run), DRAFT_ERROR_DEVICE);
    ck_assert_int_eq(draft_read(context, &number, rig.out.data, 4), DRAFT_ERROR_DEVICE);
    ck_assert_ptr_null(current_context());
    free_rig(&rig, &problem);
    draft_context_destroy(&s.device.context);
    ck_assert_ptr_null(current_context());
    cu.cuCtxDestroy(s.context); /* says what it will */
}
END_TEST

int main(void)
{
    unsetenv("DRAFT_BACKEND");
    unsetenv("DRAFT_KERNEL");
    device_count = devices_open("cuda", devices);
    if (device_count == 0)
        return EXIT_SKIPPED;
    if (!caller_open()) {
        printf("the library has a device, but the driver cannot be opened\n");
        return EXIT_FAILURE;
    }
    Suite *suite = suite_create("cuda");
    TCase *tests = tcase_create("cuda");
    tcase_set_timeout(tests, 0);
    tcase_add_test(tests, expected_out); /* first */
    tcase_add_test(tests, own_context_and_stream);
    tcase_add_test(tests, own_context_alone);
    tcase_add_test(tests, another_device);
    tcase_add_test(tests, what_is_current);
    tcase_add_test(tests, memory_of_the_caller);
    tcase_add_test(tests, streams_of_the_caller);
    tcase_add_test(tests, stream_of_the_primary_context);
    tcase_add_test(tests, two_streams);
    tcase_add_test(tests, captured_and_replayed);
    tcase_add_test(tests, own_queue_captured);
    tcase_add_test(tests, plan_while_captured);
    tcase_add_test(tests, natives_are_refused);
    tcase_add_test(tests, foreign_stream);
    tcase_add_test(tests, too_many_blocks);
    if (strstr(devices[0].info.name, "Simulated")) {
        tcase_add_test(tests, kernels_for_a_newer_driver);
        tcase_add_test(tests, driver_of_an_older_cuda);
    }
    tcase_add_test(tests, a_fault_stays); /* last */
    suite_add_tcase(suite, tests);
    int status = suite_main(suite, false);
    for (int i = 0; i < INPUTS; i++)
        free(expected[i]);
    devices_close(devices, device_count);
    return status;
}
