/* SPDX-License-Identifier: MIT */
#include "caller.h"

#include <dlfcn.h>
#include <string.h>

struct caller_driver cu;

/* The name after cuda.h has renamed it. */
#define NAME(name)     NAME_OF(name)
#define NAME_OF(named) #named

bool caller_open(void)
{
    void *library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL), *symbol;
    if (!library)
        return false;
    bool complete = true;
#define X(name)                                                                                    \
    symbol = dlsym(library, NAME(name));                                                           \
    memcpy(&cu.name, &symbol, sizeof symbol);                                                      \
    complete = complete && symbol;
    CALLER_FUNCTIONS(X)
#undef X
    symbol = dlsym(library, "cuCtxCreate_v2");
    memcpy(&cu.create, &symbol, sizeof symbol);
    return complete && symbol && cu.cuInit(0) == CUDA_SUCCESS;
}

CUcontext current_context(void)
{
    CUcontext context = NULL;
    CU(cuCtxGetCurrent(&context));
    return context;
}

/* ---- Stands ---- */

CUdevice find_device(const struct draft_device_info *info)
{
    CUdevice device;
    CUuuid uuid;
    int ordinal = 0;
    do {
        CU(cuDeviceGet(&device, ordinal++)); /* fails past the last */
        CU(cuDeviceGetUuid(&uuid, device));
    } while (memcmp(uuid.bytes, info->uuid, sizeof info->uuid) != 0);
    return device;
}

void stand_init(struct stand *s, const struct draft_device_info *info)
{
    CUdevice device = find_device(info);
    CUcontext popped;
    memset(s, 0, sizeof *s);
    CU(create(&s->context, 0, device));
    CU(cuStreamCreate(&s->stream, CU_STREAM_NON_BLOCKING));
    CU(cuStreamCreate(&s->second, CU_STREAM_NON_BLOCKING));
    CU(cuCtxPopCurrent(&popped));
    ck_assert_ptr_null(current_context());
}

draft_status stand_adopt(struct stand *s, CUcontext context, CUstream stream)
{
    struct draft_cuda_native native = {context, stream};
    struct draft_context_params params = {
        .backend = "cuda",
        .native = &native,
        .log = log_to(&s->device.log, DRAFT_LOG_INFO),
    };
    draft_status status = draft_context_create(&params, &s->device.context);
    memset(&native, POISON, sizeof native); /* read during the call only */
    if (!status)
        draft_context_device(s->device.context, &s->device.info);
    ck_assert_ptr_null(current_context());
    return status;
}

void stand_free(struct stand *s)
{
    CUcontext popped;
    CUdeviceptr memory;
    draft_context_destroy(&s->device.context);
    ck_assert_ptr_null(current_context());
    CU(cuCtxPushCurrent(s->context));
    CU(cuMemAlloc(&memory, 64));
    CU(cuMemFree(memory));
    CU(cuStreamSynchronize(s->stream));
    CU(cuStreamDestroy(s->stream));
    CU(cuStreamDestroy(s->second));
    CU(cuCtxPopCurrent(&popped));
    ck_assert_ptr_eq(popped, s->context);
    CU(cuCtxDestroy(s->context));
}

void stand_wait(const struct stand *s, CUstream stream)
{
    CUcontext popped;
    CU(cuCtxPushCurrent(s->context));
    CU(cuStreamSynchronize(stream));
    CU(cuCtxPopCurrent(&popped));
}

/* ---- Capture ---- */

void capture_begin(const struct stand *s, CUstream stream)
{
    CUcontext popped;
    CU(cuCtxPushCurrent(s->context));
    CU(cuStreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_GLOBAL));
    CU(cuCtxPopCurrent(&popped));
}

CUgraphExec capture_end(const struct stand *s, CUstream stream)
{
    CUcontext popped;
    CUgraph graph = NULL;
    CUgraphExec exec = NULL;
    CU(cuCtxPushCurrent(s->context));
    CU(cuStreamEndCapture(stream, &graph));
    ck_assert_ptr_nonnull(graph);
    CU(cuGraphInstantiateWithFlags(&exec, graph, 0));
    CU(cuGraphDestroy(graph));
    CU(cuCtxPopCurrent(&popped));
    return exec;
}

void graph_replay(const struct stand *s, CUgraphExec exec, CUstream stream)
{
    CUcontext popped;
    CU(cuCtxPushCurrent(s->context));
    CU(cuGraphLaunch(exec, stream));
    CU(cuStreamSynchronize(stream));
    CU(cuCtxPopCurrent(&popped));
}

void graph_destroy(const struct stand *s, CUgraphExec exec)
{
    CUcontext popped;
    CU(cuCtxPushCurrent(s->context));
    CU(cuGraphExecDestroy(exec));
    CU(cuCtxPopCurrent(&popped));
}
