/* SPDX-License-Identifier: MIT
 *
 * The library inside a program that has CUDA of its own: its context, its stream, its memory. The
 * whole method is captured into a CUDA graph once, and the graph is launched with new inputs.
 *
 * Like the library, the program opens the driver when it runs, so that it starts (and ends with
 * status 77) on a machine without one. A program that links libcuda calls it directly. */
#include <cuda.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <draft/cuda.h>

#include "driver.h"

enum { HEADS = 2, DIM = 64, SKIPPED = 77, INPUTS = 2, OLDEST_MAJOR = 8 };

/* ---- The driver's functions ----------------------------------------------------------------- */

#define FUNCTIONS(X)                                                                               \
    X(cuInit)                                                                                      \
    X(cuDeviceGetCount)                                                                            \
    X(cuDeviceGet)                                                                                 \
    X(cuDeviceGetAttribute)                                                                        \
    X(cuCtxDestroy)                                                                                \
    X(cuStreamCreate)                                                                              \
    X(cuStreamDestroy)                                                                             \
    X(cuStreamSynchronize)                                                                         \
    X(cuStreamBeginCapture)                                                                        \
    X(cuStreamEndCapture)                                                                          \
    X(cuGraphInstantiateWithFlags)                                                                 \
    X(cuGraphLaunch)                                                                               \
    X(cuGraphGetNodes)                                                                             \
    X(cuGraphExecDestroy)                                                                          \
    X(cuGraphDestroy)                                                                              \
    X(cuMemAlloc)                                                                                  \
    X(cuMemFree)                                                                                   \
    X(cuMemsetD8Async)                                                                             \
    X(cuMemcpyHtoDAsync)                                                                           \
    X(cuMemcpyDtoHAsync)

struct driver {
#define X(name) __typeof__(name) *name;
    FUNCTIONS(X)
#undef X
    /* The newest cuda.h declares another version, which older drivers do not have. */
    CUresult(CUDAAPI *cuCtxCreate_v2)(CUcontext *, unsigned, CUdevice);
};

/* cuda.h renames functions to the versions that it declares. */
#define NAME(name)     NAME_OF(name)
#define NAME_OF(named) #named

static void *find(void *library, const char *name, int *missing)
{
    void *symbol = driver_symbol(library, name);
    if (!symbol) {
        printf("the driver has no %s\n", name);
        *missing = 1;
    }
    return symbol;
}

/* 0, or why there is nothing to run on. */
static const char *open_driver(struct driver *cuda, CUdevice *device)
{
    void *library = driver_open("libcuda.so.1", "nvcuda.dll"), *symbol;
    int missing = 0, count = 0, major = 0;
    if (!library)
        return "there is no CUDA driver";
#define X(name)                                                                                    \
    symbol = find(library, NAME(name), &missing);                                                  \
    memcpy(&cuda->name, &symbol, sizeof symbol);
    FUNCTIONS(X)
#undef X
    symbol = find(library, "cuCtxCreate_v2", &missing);
    memcpy(&cuda->cuCtxCreate_v2, &symbol, sizeof symbol);
    if (missing)
        return "the CUDA driver is too old";
    if (cuda->cuInit(0) || cuda->cuDeviceGetCount(&count) || count == 0 ||
        cuda->cuDeviceGet(device, 0))
        return "there is no GPU";
    cuda->cuDeviceGetAttribute(&major, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, *device);
    return major < OLDEST_MAJOR ? "the GPU is older than sm_80" : NULL;
}

/* ---- The program's side: memory, numbers ---------------------------------------------------- */

struct program {
    struct driver cuda;
    CUcontext context;
    CUstream stream;
    CUgraph graph;
    CUgraphExec launchable;
    CUdeviceptr tensors, workspace; /* q, k, v and out, one after the other */
    draft_context *draft;
    draft_plan *plan;
    struct draft_run_params run;
    size_t count, size; /* elements and bytes of one tensor */
    uint16_t *inputs, *direct, *replayed;
};

/* Ends with a message where a call of the driver or of the library fails. */
#define TRY(call)                                                                                  \
    do {                                                                                           \
        int result_ = (int)(call);                                                                 \
        if (result_) {                                                                             \
            fprintf(stderr, "line %d: %s: %d\n", __LINE__, #call, result_);                        \
            return 1;                                                                              \
        }                                                                                          \
    } while (0)

static void print_log(void *user, draft_log_level level, const char *text)
{
    (void)user;
    (void)level;
    fprintf(stderr, "draft: %s\n", text);
}

static int make_memory(struct program *p)
{
    struct draft_layout layout;
    draft_plan_layout(p->plan, &layout);
    p->count = layout.tokens * HEADS * DIM;
    p->size = p->count * sizeof *p->inputs;
    p->inputs = malloc(3 * p->size);
    p->direct = malloc(INPUTS * p->size);
    p->replayed = malloc(p->size);
    TRY(!p->inputs || !p->direct || !p->replayed);
    TRY(p->cuda.cuMemAlloc(&p->tensors, 4 * p->size));
    TRY(p->cuda.cuMemAlloc(&p->workspace, layout.size));
    p->run = (struct draft_run_params){.q = {.data = p->tensors},
                                       .k = {.data = p->tensors + p->size},
                                       .v = {.data = p->tensors + 2 * p->size},
                                       .out = {.data = p->tensors + 3 * p->size},
                                       .workspace = p->workspace,
                                       .queue = p->stream};
    return 0;
}

/* New q, k and v, and an out that holds nothing of an earlier run. On the stream: functions without
 * a stream work on the default stream, for which this one does not wait, and may return before it
 * is done. */
static int set_inputs(struct program *p, unsigned seed)
{
    srand(seed + 1); /* some libraries take 0 for 1 */
    for (size_t i = 0; i < 3 * p->count; i++) {
        float value = (float)(4.0 * rand() / RAND_MAX - 2);
        uint32_t bits;
        memcpy(&bits, &value, sizeof bits);
        p->inputs[i] = (uint16_t)(bits >> 16); /* bf16 is the upper half of f32 */
    }
    TRY(p->cuda.cuMemcpyHtoDAsync(p->tensors, p->inputs, 3 * p->size, p->stream));
    TRY(p->cuda.cuMemsetD8Async(p->tensors + 3 * p->size, 0xff, p->size, p->stream));
    return 0;
}

/* When this returns, the stream has done all that it was given, and out is here. */
static int get_output(struct program *p, uint16_t *output)
{
    TRY(p->cuda.cuMemcpyDtoHAsync(output, p->tensors + 3 * p->size, p->size, p->stream));
    TRY(p->cuda.cuStreamSynchronize(p->stream));
    return 0;
}

/* ---- The library's side --------------------------------------------------------------------- */

static int open_library(struct program *p)
{
    struct draft_cuda_native native = {p->context, p->stream};
    struct draft_context_params adopt = {.backend = "cuda",
                                         .native = &native,
                                         .log = {.message = print_log, .level = DRAFT_LOG_WARN}};
    struct draft_plan_params params = {
        .shape = {.frames = 2, .height = 16, .width = 24, .suffix = 20, .heads = HEADS, .dim = DIM},
        .type = DRAFT_BF16,
        .sparsity = 0.5,
    };
    TRY(draft_context_create(&adopt, &p->draft));
    TRY(draft_plan_create(p->draft, &params, &p->plan));
    return 0;
}

/* A run only launches kernels, so a stream under capture takes it like any other. */
static int capture(struct program *p)
{
    size_t nodes = 0;
    TRY(p->cuda.cuStreamBeginCapture(p->stream, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL));
    TRY(draft_run(p->plan, &p->run));
    TRY(p->cuda.cuStreamEndCapture(p->stream, &p->graph));
    TRY(p->cuda.cuGraphGetNodes(p->graph, NULL, &nodes));
    TRY(p->cuda.cuGraphInstantiateWithFlags(&p->launchable, p->graph, 0));
    printf("a graph of %zu nodes\n", nodes);
    return 0;
}

static int work(struct program *p, CUdevice device)
{
    TRY(p->cuda.cuCtxCreate_v2(&p->context, 0, device));
    TRY(p->cuda.cuStreamCreate(&p->stream, CU_STREAM_NON_BLOCKING));
    TRY(open_library(p));
    TRY(make_memory(p));
    for (unsigned i = 0; i < INPUTS; i++) {
        TRY(set_inputs(p, i));
        TRY(draft_run(p->plan, &p->run));
        TRY(get_output(p, p->direct + i * p->count));
    }
    TRY(memcmp(p->direct, p->direct + p->count, p->size) == 0); /* other inputs, another result */

    TRY(capture(p));
    for (unsigned i = 0; i < INPUTS; i++) {
        TRY(set_inputs(p, i));
        TRY(p->cuda.cuGraphLaunch(p->launchable, p->stream));
        TRY(get_output(p, p->replayed));
        bool same = memcmp(p->replayed, p->direct + i * p->count, p->size) == 0;
        printf("inputs %u: the graph's result %s that of a direct run\n", i,
               same ? "is" : "is NOT");
        TRY(!same);
    }
    return 0;
}

/* In reverse order. The graph refers to kernels that the library unloads. */
static void clean_up(struct program *p)
{
    struct driver *cuda = &p->cuda;
    if (p->launchable)
        cuda->cuGraphExecDestroy(p->launchable);
    if (p->graph)
        cuda->cuGraphDestroy(p->graph);
    draft_plan_destroy(&p->plan);
    draft_context_destroy(&p->draft);
    if (p->workspace)
        cuda->cuMemFree(p->workspace);
    if (p->tensors)
        cuda->cuMemFree(p->tensors);
    if (p->stream)
        cuda->cuStreamDestroy(p->stream);
    if (p->context)
        cuda->cuCtxDestroy(p->context);
    free(p->replayed);
    free(p->direct);
    free(p->inputs);
}

int main(void)
{
    struct program program = {0};
    CUdevice device = 0;
    const char *reason = open_driver(&program.cuda, &device);
    if (reason) {
        printf("skipped: %s\n", reason);
        return SKIPPED;
    }
    int status = work(&program, device);
    clean_up(&program);
    return status;
}
