/* SPDX-License-Identifier: MIT
 *
 * A caller with CUDA of its own, for draft/cuda.h: the driver's functions, looked up by the test
 * itself, and contexts, streams and graphs made with them. What fails here fails the test. */
#ifndef DRAFT_TESTS_CALLER_H
#define DRAFT_TESTS_CALLER_H

#include <cuda.h>

#include <draft/cuda.h>

#include "suite.h"

#define CALLER_FUNCTIONS(X)                                                                        \
    X(cuInit)                                                                                      \
    X(cuDeviceGet)                                                                                 \
    X(cuDeviceGetUuid)                                                                             \
    X(cuDevicePrimaryCtxRetain)                                                                    \
    X(cuDevicePrimaryCtxRelease)                                                                   \
    X(cuCtxDestroy)                                                                                \
    X(cuCtxGetCurrent)                                                                             \
    X(cuCtxPushCurrent)                                                                            \
    X(cuCtxPopCurrent)                                                                             \
    X(cuStreamCreate)                                                                              \
    X(cuStreamDestroy)                                                                             \
    X(cuStreamSynchronize)                                                                         \
    X(cuStreamBeginCapture)                                                                        \
    X(cuStreamEndCapture)                                                                          \
    X(cuGraphInstantiateWithFlags)                                                                 \
    X(cuGraphLaunch)                                                                               \
    X(cuGraphExecDestroy)                                                                          \
    X(cuGraphDestroy)                                                                              \
    X(cuMemAlloc)                                                                                  \
    X(cuMemFree)                                                                                   \
    X(cuMemcpyDtoH)

struct caller_driver {
#define X(name) __typeof__(name) *name;
    CALLER_FUNCTIONS(X)
#undef X
    CUresult (*create)(CUcontext *, unsigned, CUdevice); /* cuCtxCreate of CUDA 12 and before */
};
extern struct caller_driver cu;

#define CU(call) ck_assert_int_eq(cu.call, CUDA_SUCCESS)

/* False where the driver lacks something. */
bool caller_open(void);
/* The context that is current on this thread, or NULL. */
CUcontext current_context(void);
/* The driver also numbers GPUs that the library does not list. */
CUdevice find_device(const struct draft_device_info *info);

/* A context and two streams in it, not current. */
struct stand {
    CUcontext context;
    CUstream stream, second;
    struct test_device device; /* of the library */
};

void stand_init(struct stand *stand, const struct draft_device_info *info);
/* Destroys the library's context first: nothing of the caller's may have gone with it, and nothing
 * is left current. */
void stand_free(struct stand *stand);
/* A context of the library that works in this one; into stand->device. */
draft_status stand_adopt(struct stand *stand, CUcontext context, CUstream stream);
void stand_wait(const struct stand *stand, CUstream stream);

/* In the strictest mode. */
void capture_begin(const struct stand *stand, CUstream stream);
CUgraphExec capture_end(const struct stand *stand, CUstream stream);
/* Launch, and wait. */
void graph_replay(const struct stand *stand, CUgraphExec exec, CUstream stream);
void graph_destroy(const struct stand *stand, CUgraphExec exec);

#endif
