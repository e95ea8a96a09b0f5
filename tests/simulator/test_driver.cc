/* SPDX-License-Identifier: MIT
 *
 * The simulated driver itself: work is done when someone waits for it, and misuse is refused. */
#include <cstdlib>
#include <cstring>
#include <thread>

#include <check.h>

#include "driver.h"
#include "image.h"
#include "kernel_abi.h"
#include "run_suite.h"

#define OK(call)          ck_assert_int_eq(call, CUDA_SUCCESS)
#define GIVES(code, call) ck_assert_int_eq(call, code)

static constexpr uint32_t THREADS = 128;
static constexpr size_t SIZE = THREADS * 4;

/* A context with what the tests use in it. */
struct rig {
    CUcontext context;
    CUstream stream;
    CUmodule module;
    CUfunction increment;
    CUdeviceptr data, sums;
    draft_args args;
};

static void set_up(rig *r, unsigned stream_flags)
{
    OK(cuInit(0));
    OK(cuDevicePrimaryCtxRetain(&r->context, 0));
    OK(cuCtxSetCurrent(r->context));
    OK(cuStreamCreate(&r->stream, stream_flags));
    image image = make_image(ELF, 80);
    OK(cuModuleLoadData(&r->module, &image));
    OK(cuModuleGetFunction(&r->increment, r->module, "fault_increment"));
    OK(cuMemAlloc(&r->data, SIZE));
    OK(cuMemAlloc(&r->sums, SIZE));
    OK(cuMemsetD8(r->data, 0, SIZE));
    OK(cuMemsetD8(r->sums, 0, SIZE));
    OK(cuCtxSynchronize());
    r->args = {};
    r->args.q = r->data;
    r->args.o = r->sums;
}

static void tear_down(rig *r)
{
    OK(cuMemFree(r->data));
    OK(cuMemFree(r->sums));
    OK(cuModuleUnload(r->module));
    OK(cuStreamDestroy(r->stream));
    OK(cuDevicePrimaryCtxRelease(0));
    OK(cuCtxSetCurrent(nullptr));
}

static CUresult launch(rig *r, CUstream stream, unsigned shared = 0, unsigned threads = THREADS)
{
    void *params[] = {&r->args};
    return cuLaunchKernel(r->increment, 1, 1, 1, threads, 1, 1, shared, stream, params, nullptr);
}

/* The first word, as a copy on another stream sees it that waits for nothing. */
static uint32_t peek(CUdeviceptr from)
{
    CUstream other;
    uint32_t word;
    OK(cuStreamCreate(&other, CU_STREAM_NON_BLOCKING));
    OK(cuMemcpyDtoHAsync(&word, from, 4, other));
    OK(cuStreamDestroy(other));
    return word;
}

/* ---- Work that waits ---- */

START_TEST(stale)
{
    rig r;
    set_up(&r, CU_STREAM_NON_BLOCKING);
    OK(launch(&r, r.stream));
    r.args.q = 0; /* arguments are copied at the call */
    uint32_t word = 7;
    OK(cuMemcpyDtoH(&word, r.sums, 4)); /* does not wait for a stream that is not blocking */
    ck_assert_uint_eq(word, 0);
    GIVES(CUDA_ERROR_NOT_READY, cuStreamQuery(r.stream));
    OK(cuStreamSynchronize(r.stream));
    OK(cuStreamQuery(r.stream));
    OK(cuMemcpyDtoH(&word, r.sums, 4));
    ck_assert_uint_eq(word, 1);
    tear_down(&r);
}
END_TEST

START_TEST(legacy_waits)
{
    rig r;
    set_up(&r, CU_STREAM_DEFAULT);
    OK(launch(&r, r.stream));
    ck_assert_uint_eq(peek(r.sums), 0);
    uint32_t word;
    OK(cuMemcpyDtoH(&word, r.sums, 4)); /* the legacy stream waits for the others */
    ck_assert_uint_eq(word, 1);
    OK(cuMemsetD32(r.data, 10, THREADS)); /* and the others for it */
    OK(launch(&r, r.stream));
    OK(cuMemsetD32(r.data, 20, THREADS));
    OK(cuStreamSynchronize(r.stream));
    ck_assert_uint_eq(peek(r.sums), 11);
    ck_assert_uint_eq(peek(r.data), 11);
    OK(cuCtxSynchronize());
    ck_assert_uint_eq(peek(r.data), 20);
    tear_down(&r);
}
END_TEST

START_TEST(copies)
{
    rig r;
    set_up(&r, CU_STREAM_NON_BLOCKING);
    uint32_t pageable = 5, *pinned, got = 0;
    OK(cuMemAllocHost((void **)&pinned, 4096));
    *pinned = 5;
    OK(cuMemcpyHtoDAsync(r.data, &pageable, 4, r.stream)); /* read at the call */
    OK(cuMemcpyHtoDAsync(r.sums, pinned, 4, r.stream));    /* read when its turn comes */
    pageable = *pinned = 6;
    ck_assert_uint_eq(peek(r.data), 0);
    OK(cuStreamSynchronize(r.stream));
    ck_assert_uint_eq(peek(r.data), 5);
    ck_assert_uint_eq(peek(r.sums), 6);
    OK(cuMemcpyDtoDAsync(r.sums, r.data, 4, r.stream));
    OK(cuMemcpyDtoHAsync(pinned, r.sums, 4, r.stream)); /* may be over later */
    ck_assert_uint_eq(*pinned, 6);
    OK(cuMemcpyDtoHAsync(&got, r.sums, 4, r.stream)); /* is over */
    ck_assert_uint_eq(got, 5);
    ck_assert_uint_eq(*pinned, 5);
    GIVES(CUDA_ERROR_INVALID_VALUE, cuMemcpyDtoH(&got, r.data + SIZE - 2, 4));
    GIVES(CUDA_ERROR_INVALID_VALUE, cuMemcpyHtoD(r.data - 1, &got, 4));
    GIVES(CUDA_ERROR_INVALID_VALUE, cuMemsetD8(r.data, 0, SIZE + 1));
    GIVES(CUDA_ERROR_INVALID_VALUE, cuMemcpyDtoD(r.data, r.data + 4, 8));
    GIVES(CUDA_ERROR_INVALID_VALUE, cuMemcpyDtoH((void *)r.data, r.sums, 4));
    OK(cuMemFreeHost(pinned));
    tear_down(&r);
}
END_TEST

START_TEST(events)
{
    rig r;
    set_up(&r, CU_STREAM_NON_BLOCKING);
    CUstream other;
    CUevent before, after;
    OK(cuStreamCreate(&other, CU_STREAM_NON_BLOCKING));
    OK(cuEventCreate(&before, CU_EVENT_DEFAULT));
    OK(cuEventCreate(&after, CU_EVENT_DEFAULT));
    OK(cuEventRecord(before, r.stream));
    OK(launch(&r, r.stream));
    OK(cuEventRecord(after, r.stream));
    OK(launch(&r, r.stream));
    OK(cuStreamWaitEvent(other, after, 0));
    uint32_t word;
    OK(cuMemcpyDtoHAsync(&word, r.sums, 4, other));
    ck_assert_uint_eq(word, 1);
    float ms = -1;
    OK(cuEventElapsedTime(&ms, before, after));
    ck_assert(ms >= 0);
    OK(cuEventRecord(after, r.stream));
    GIVES(CUDA_ERROR_NOT_READY, cuEventElapsedTime(&ms, before, after));
    GIVES(CUDA_ERROR_NOT_READY, cuEventQuery(after));
    OK(cuEventSynchronize(after));
    OK(cuEventQuery(after));
    ck_assert_uint_eq(peek(r.sums), 2);
    OK(cuEventDestroy(before));
    OK(cuEventDestroy(after));
    GIVES(CUDA_ERROR_INVALID_HANDLE, cuEventSynchronize(after));
    OK(cuStreamDestroy(other));
    tear_down(&r);
}
END_TEST

/* Work of a stream that is destroyed, or of memory that is freed, is done all the same. */
START_TEST(left_behind)
{
    rig r;
    set_up(&r, CU_STREAM_NON_BLOCKING);
    CUstream other;
    OK(cuStreamCreate(&other, CU_STREAM_NON_BLOCKING));
    OK(launch(&r, other));
    OK(cuStreamDestroy(other));
    ck_assert_uint_eq(peek(r.sums), 0);
    OK(cuCtxSynchronize());
    ck_assert_uint_eq(peek(r.sums), 1);
    OK(launch(&r, r.stream));
    CUdeviceptr p;
    OK(cuMemAlloc(&p, 64));
    OK(cuMemFree(p));
    ck_assert_uint_eq(peek(r.sums), 2);
    tear_down(&r);
}
END_TEST

/* ---- Capture ---- */

START_TEST(replay)
{
    rig r;
    set_up(&r, CU_STREAM_NON_BLOCKING);
    CUgraph graph;
    CUgraphExec exec;
    CUstreamCaptureStatus status;
    size_t nodes;
    OK(cuStreamBeginCapture(r.stream, CU_STREAM_CAPTURE_MODE_GLOBAL));
    OK(cuMemsetD32Async(r.sums, 9, THREADS, r.stream));
    OK(launch(&r, r.stream));
    OK(cuStreamIsCapturing(r.stream, &status));
    ck_assert_int_eq(status, CU_STREAM_CAPTURE_STATUS_ACTIVE);
    OK(cuStreamEndCapture(r.stream, &graph));
    OK(cuStreamIsCapturing(r.stream, &status));
    ck_assert_int_eq(status, CU_STREAM_CAPTURE_STATUS_NONE);
    OK(cuGraphGetNodes(graph, nullptr, &nodes));
    ck_assert_uint_eq(nodes, 2);
    OK(cuGraphInstantiate(&exec, graph, 0));
    OK(cuGraphDestroy(graph));
    OK(cuCtxSynchronize());
    ck_assert_uint_eq(peek(r.sums), 0); /* nothing has run */
    for (int i = 0; i < 3; i++)
        OK(cuGraphLaunch(exec, r.stream));
    ck_assert_uint_eq(peek(r.sums), 0);
    OK(cuStreamSynchronize(r.stream));
    ck_assert_uint_eq(peek(r.sums), 3);
    OK(cuGraphExecDestroy(exec));
    GIVES(CUDA_ERROR_INVALID_VALUE, cuGraphLaunch(exec, r.stream));
    tear_down(&r);
}
END_TEST

/* What must not happen during a capture breaks it. */
START_TEST(capture_refuses)
{
    rig r;
    set_up(&r, CU_STREAM_DEFAULT);
    for (int i = 0; i < 6; i++) {
        CUgraph graph = nullptr;
        CUdeviceptr p;
        uint32_t word;
        OK(cuStreamBeginCapture(r.stream, i == 5 ? CU_STREAM_CAPTURE_MODE_RELAXED
                                                 : CU_STREAM_CAPTURE_MODE_THREAD_LOCAL));
        OK(launch(&r, r.stream));
        if (i == 0)
            GIVES(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, cuStreamSynchronize(r.stream));
        if (i == 1)
            GIVES(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, cuMemAlloc(&p, 64));
        if (i == 2)
            GIVES(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, cuCtxSynchronize());
        if (i == 3)
            GIVES(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, cuMemcpyDtoH(&word, r.sums, 4));
        if (i == 4)
            GIVES(CUDA_ERROR_STREAM_CAPTURE_IMPLICIT, launch(&r, nullptr));
        if (i < 5) {
            GIVES(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, launch(&r, r.stream));
            GIVES(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, cuStreamEndCapture(r.stream, &graph));
            ck_assert(graph == nullptr);
            continue;
        }
        OK(cuMemAlloc(&p, 64)); /* relaxed */
        OK(cuStreamEndCapture(r.stream, &graph));
        OK(cuMemFree(p));
        OK(cuGraphDestroy(graph));
    }
    OK(cuCtxSynchronize());
    ck_assert_uint_eq(peek(r.sums), 0);
    tear_down(&r);
}
END_TEST

/* Another thread may allocate during a capture that is this thread's, unless it is global. */
START_TEST(capture_threads)
{
    rig r;
    set_up(&r, CU_STREAM_NON_BLOCKING);
    for (bool global : {false, true}) {
        CUgraph graph = nullptr;
        CUresult result = CUDA_ERROR_UNKNOWN;
        OK(cuStreamBeginCapture(r.stream, global ? CU_STREAM_CAPTURE_MODE_GLOBAL
                                                 : CU_STREAM_CAPTURE_MODE_THREAD_LOCAL));
        std::thread([&] {
            CUdeviceptr p;
            if (!cuCtxSetCurrent(r.context) && !(result = cuMemAlloc(&p, 64)))
                result = cuMemFree(p);
        }).join();
        ck_assert_int_eq(result, global ? CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED : CUDA_SUCCESS);
        CUresult end = cuStreamEndCapture(r.stream, &graph);
        ck_assert_int_eq(end, global ? CUDA_ERROR_STREAM_CAPTURE_INVALIDATED : CUDA_SUCCESS);
        if (graph)
            OK(cuGraphDestroy(graph));
    }
    tear_down(&r);
}
END_TEST

START_TEST(capture_fork_and_join)
{
    rig r;
    set_up(&r, CU_STREAM_NON_BLOCKING);
    CUstream other;
    CUevent fork, join;
    OK(cuStreamCreate(&other, CU_STREAM_NON_BLOCKING));
    OK(cuEventCreate(&fork, CU_EVENT_DISABLE_TIMING));
    OK(cuEventCreate(&join, CU_EVENT_DISABLE_TIMING));
    for (bool joined : {true, false}) {
        CUgraph graph = nullptr;
        OK(cuStreamBeginCapture(r.stream, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL));
        OK(cuEventRecord(fork, r.stream));
        OK(cuStreamWaitEvent(other, fork, 0));
        OK(launch(&r, other));
        OK(cuEventRecord(join, other));
        GIVES(CUDA_ERROR_CAPTURED_EVENT, cuEventSynchronize(join));
        if (joined)
            OK(cuStreamWaitEvent(r.stream, join, 0));
        CUresult end = cuStreamEndCapture(r.stream, &graph);
        ck_assert_int_eq(end, joined ? CUDA_SUCCESS : CUDA_ERROR_STREAM_CAPTURE_UNJOINED);
        if (graph)
            OK(cuGraphDestroy(graph));
    }
    OK(cuEventDestroy(fork));
    OK(cuEventDestroy(join));
    OK(cuStreamDestroy(other));
    tear_down(&r);
}
END_TEST

/* ---- Launches ---- */

START_TEST(limits)
{
    rig r;
    set_up(&r, CU_STREAM_NON_BLOCKING);
    void *params[] = {&r.args};
    const size_t most = simulator::model().shared_per_block_optin;
    OK(launch(&r, r.stream, 48 << 10));
    GIVES(CUDA_ERROR_INVALID_VALUE, launch(&r, r.stream, (48 << 10) + 4));
    const CUfunction_attribute dynamic = CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
    GIVES(CUDA_ERROR_INVALID_VALUE, cuFuncSetAttribute(r.increment, dynamic, (int)most + 1));
    OK(cuFuncSetAttribute(r.increment, dynamic, (int)most));
    OK(launch(&r, r.stream, (unsigned)most));
    GIVES(CUDA_ERROR_INVALID_VALUE, launch(&r, r.stream, 0, THREADS + 32)); /* launch bounds */
    GIVES(CUDA_ERROR_INVALID_VALUE, launch(&r, r.stream, 0, 0));
    GIVES(CUDA_ERROR_INVALID_VALUE,
          cuLaunchKernel(r.increment, 1, 65536, 1, THREADS, 1, 1, 0, r.stream, params, nullptr));
    GIVES(CUDA_ERROR_INVALID_VALUE,
          cuLaunchKernel(r.increment, 0, 1, 1, THREADS, 1, 1, 0, r.stream, params, nullptr));
    GIVES(CUDA_ERROR_INVALID_VALUE,
          cuLaunchKernel(r.increment, 1, 1, 1, THREADS, 1, 1, 0, r.stream, nullptr, nullptr));
    OK(cuStreamSynchronize(r.stream));
    ck_assert_uint_eq(peek(r.sums), 2);
    tear_down(&r);
}
END_TEST

START_TEST(modules)
{
    rig r;
    set_up(&r, CU_STREAM_NON_BLOCKING);
    CUmodule module;
    CUfunction function;
    GIVES(CUDA_ERROR_NOT_FOUND, cuModuleGetFunction(&function, r.module, "no_such_kernel"));
    image image = make_image(ELF, 90);
    GIVES(CUDA_ERROR_NO_BINARY_FOR_GPU, cuModuleLoadData(&module, &image));
    image = make_image(PTX, 90);
    GIVES(CUDA_ERROR_NO_BINARY_FOR_GPU, cuModuleLoadData(&module, &image));
    image.magic = 0;
    GIVES(CUDA_ERROR_INVALID_IMAGE, cuModuleLoadData(&module, &image));
    image = make_image(PTX, 70);
    OK(cuModuleLoadDataEx(&module, &image, 0, nullptr, nullptr));
    OK(cuModuleGetFunction(&function, module, "fault_increment"));
    int value, blocks;
    OK(cuFuncGetAttribute(&value, CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK, function));
    ck_assert_int_eq(value, THREADS);
    OK(cuOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, function, THREADS, 40 << 10));
    ck_assert_int_eq(blocks, 4); /* 164 KiB of shared memory, 41 each */
    OK(cuOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, function, THREADS, 60 << 10));
    ck_assert_int_eq(blocks, 0); /* no launch may ask for so much */
    OK(cuModuleUnload(module));
    std::swap(r.increment, function);
    GIVES(CUDA_ERROR_INVALID_HANDLE, launch(&r, r.stream));
    std::swap(r.increment, function);
    tear_down(&r);
}
END_TEST

/* ---- Faults and contexts ---- */

START_TEST(fault_stays)
{
    rig r;
    set_up(&r, CU_STREAM_NON_BLOCKING);
    CUcontext broken;
    OK(cuCtxCreate_v2(&broken, 0, 0));
    rig b = r;
    OK(cuStreamCreate(&b.stream, CU_STREAM_NON_BLOCKING));
    image image = make_image(ELF, 80);
    OK(cuModuleLoadData(&b.module, &image));
    OK(cuModuleGetFunction(&b.increment, b.module, "fault_increment"));
    b.args.q = r.data + SIZE - 4;
    OK(launch(&b, b.stream));
    GIVES(CUDA_ERROR_LAUNCH_FAILED, cuStreamSynchronize(b.stream));
    const char *report = draft_simulator_report();
    ck_assert_msg(strstr(report, "fault_increment") && strstr(report, "past the end"), "%s",
                  report);
    CUdeviceptr p;
    uint32_t word;
    GIVES(CUDA_ERROR_LAUNCH_FAILED, launch(&b, b.stream));
    GIVES(CUDA_ERROR_LAUNCH_FAILED, cuMemAlloc(&p, 64));
    GIVES(CUDA_ERROR_LAUNCH_FAILED, cuMemcpyDtoH(&word, r.data, 4));
    GIVES(CUDA_ERROR_LAUNCH_FAILED, cuCtxSynchronize());
    OK(cuCtxDestroy(broken)); /* pops it; the other one goes on */
    OK(launch(&r, r.stream));
    OK(cuStreamSynchronize(r.stream));
    tear_down(&r);
}
END_TEST

/* A graph outlives memory that it uses. */
START_TEST(graph_of_freed_memory)
{
    CUcontext context;
    CUstream stream;
    CUdeviceptr p;
    CUgraph graph;
    CUgraphExec exec;
    OK(cuInit(0));
    OK(cuCtxCreate_v2(&context, 0, 1));
    OK(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
    OK(cuMemAlloc(&p, 64));
    OK(cuStreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_GLOBAL));
    OK(cuMemsetD8Async(p, 1, 64, stream));
    OK(cuStreamEndCapture(stream, &graph));
    OK(cuGraphInstantiate(&exec, graph, 0));
    OK(cuMemFree(p));
    OK(cuGraphLaunch(exec, stream));
    GIVES(CUDA_ERROR_LAUNCH_FAILED, cuStreamSynchronize(stream));
    ck_assert(strstr(draft_simulator_report(), "freed"));
    OK(cuGraphExecDestroy(exec));
    OK(cuGraphDestroy(graph));
    OK(cuCtxDestroy(context));
}
END_TEST

START_TEST(contexts)
{
    CUcontext a, b, got;
    CUstream stream;
    CUdevice device;
    CUdeviceptr p, q;
    uint32_t word;
    int count, major;
    const char *name;
    OK(cuGetErrorName(CUDA_ERROR_OUT_OF_MEMORY, &name));
    ck_assert_str_eq(name, "CUDA_ERROR_OUT_OF_MEMORY");
    OK(cuGetErrorString(CUDA_ERROR_OUT_OF_MEMORY, &name));
    ck_assert_str_eq(name, "out of memory");
    GIVES(CUDA_ERROR_INVALID_VALUE, cuGetErrorName((CUresult)12345, &name));
    OK(cuInit(0));
    OK(cuDeviceGetCount(&count));
    ck_assert_int_eq(count, 2);
    GIVES(CUDA_ERROR_INVALID_DEVICE, cuDeviceGet(&device, 2));
    OK(cuDeviceGetAttribute(&major, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, 1));
    ck_assert_int_eq(major, simulator::model().major);
    GIVES(CUDA_ERROR_INVALID_CONTEXT, cuMemAlloc(&p, 64));
    GIVES(CUDA_ERROR_INVALID_CONTEXT, cuCtxPopCurrent(&got));
    OK(cuCtxCreate_v2(&a, 0, 0));
    OK(cuMemAlloc(&p, 64));
    OK(cuStreamCreate(&stream, 0));
    unsigned flags;
    int active[2];
    OK(cuDevicePrimaryCtxGetState(1, &flags, &active[0]));
    OK(cuDevicePrimaryCtxRetain(&b, 1));
    OK(cuDevicePrimaryCtxGetState(1, &flags, &active[1]));
    ck_assert(!active[0] && active[1]);
    OK(cuCtxPushCurrent(b));
    OK(cuCtxGetDevice(&device));
    ck_assert_int_eq(device, 1);
    OK(cuMemAlloc(&q, 64));
    GIVES(CUDA_ERROR_INVALID_VALUE, cuMemcpyDtoH(&word, p, 4)); /* of the other device */
    GIVES(CUDA_ERROR_INVALID_HANDLE, cuMemsetD8Async(q, 0, 64, stream));
    OK(cuStreamGetCtx(stream, &got));
    ck_assert(got == a);
    OK(cuMemFree(q));
    OK(cuCtxPopCurrent(&got));
    ck_assert(got == b);
    OK(cuDevicePrimaryCtxRelease(1));
    GIVES(CUDA_ERROR_INVALID_CONTEXT, cuDevicePrimaryCtxRelease(1));
    OK(cuCtxGetCurrent(&got));
    ck_assert(got == a);
    GIVES(CUDA_ERROR_INVALID_CONTEXT, cuCtxPushCurrent(b)); /* its last user is gone */
    OK(cuMemFree(p));
    GIVES(CUDA_ERROR_INVALID_VALUE, cuMemFree(p));
    OK(cuStreamDestroy(stream));
    GIVES(CUDA_ERROR_INVALID_HANDLE, cuStreamSynchronize(stream));
    OK(cuCtxDestroy(a));
    OK(cuCtxGetCurrent(&got));
    ck_assert(got == nullptr);
}
END_TEST

/* More than the machine has may be allocated, more than the device has not. */
START_TEST(out_of_memory)
{
    rig r;
    set_up(&r, CU_STREAM_NON_BLOCKING);
    CUdeviceptr p, q;
    size_t left, total, now;
    OK(cuMemGetInfo(&left, &total));
    ck_assert_uint_eq(total, simulator::model().memory);
    ck_assert_uint_eq(left, total - 2 * SIZE);
    GIVES(CUDA_ERROR_OUT_OF_MEMORY, cuMemAlloc(&p, left + 1));
    OK(cuMemAlloc(&p, left));
    GIVES(CUDA_ERROR_OUT_OF_MEMORY, cuMemAlloc(&q, 1));
    OK(cuMemFree(p));
    OK(cuMemGetInfo(&now, &total));
    ck_assert_uint_eq(now, left);
    tear_down(&r);
}
END_TEST

int main(void)
{
    setenv("DRAFT_SIMULATOR", "sm_80", 1);
    setenv("DRAFT_SIMULATOR_DEVICES", "2", 1);
    Suite *suite = suite_create("simulated driver");
    TCase *tests = tcase_create("driver");
    tcase_add_test(tests, contexts);
    tcase_add_test(tests, stale);
    tcase_add_test(tests, legacy_waits);
    tcase_add_test(tests, copies);
    tcase_add_test(tests, events);
    tcase_add_test(tests, left_behind);
    tcase_add_test(tests, replay);
    tcase_add_test(tests, capture_refuses);
    tcase_add_test(tests, capture_threads);
    tcase_add_test(tests, capture_fork_and_join);
    tcase_add_test(tests, limits);
    tcase_add_test(tests, modules);
    tcase_add_test(tests, fault_stays);
    tcase_add_test(tests, graph_of_freed_memory);
    tcase_add_test(tests, out_of_memory);
    suite_add_tcase(suite, tests);
    return run_suite(suite);
}
