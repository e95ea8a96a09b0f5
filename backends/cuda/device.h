/* SPDX-License-Identifier: MIT
 *
 * What the files of the CUDA backend share. A device is what work runs on: a CUDA context, the
 * library's own use of a GPU's primary context or the caller's, and a stream in it. No file but
 * device.c knows whose they are. */
#ifndef DRAFT_CUDA_DEVICE_H
#define DRAFT_CUDA_DEVICE_H

#include <pthread.h>
#include <stdatomic.h>

#include <cuda.h>

#include "kernels.h"

/* ---- Functions: loader.c --------------------------------------------------------------------- */

/* Every function of the driver that the library calls. cuda.h renames some to the version that its
 * declarations belong to (cuMemAlloc: cuMemAlloc_v2); it is looked up by that name. */
#define DRAFT_CUDA_FUNCTIONS(X)                                                                    \
    X(cuInit)                                                                                      \
    X(cuDriverGetVersion)                                                                          \
    X(cuGetErrorName)                                                                              \
    X(cuDeviceGetCount)                                                                            \
    X(cuDeviceGet)                                                                                 \
    X(cuDeviceGetName)                                                                             \
    X(cuDeviceGetUuid)                                                                             \
    X(cuDeviceGetAttribute)                                                                        \
    X(cuDeviceTotalMem)                                                                            \
    X(cuDevicePrimaryCtxRetain)                                                                    \
    X(cuDevicePrimaryCtxRelease)                                                                   \
    X(cuCtxPushCurrent)                                                                            \
    X(cuCtxPopCurrent)                                                                             \
    X(cuCtxGetDevice)                                                                              \
    X(cuStreamCreate)                                                                              \
    X(cuStreamDestroy)                                                                             \
    X(cuStreamGetCtx)                                                                              \
    X(cuStreamIsCapturing)                                                                         \
    X(cuStreamSynchronize)                                                                         \
    X(cuMemAlloc)                                                                                  \
    X(cuMemFree)                                                                                   \
    X(cuMemcpyHtoDAsync)                                                                           \
    X(cuMemcpyDtoHAsync)                                                                           \
    X(cuModuleLoadData)                                                                            \
    X(cuModuleUnload)                                                                              \
    X(cuModuleGetFunction)                                                                         \
    X(cuFuncGetAttribute)                                                                          \
    X(cuFuncSetAttribute)                                                                          \
    X(cuLaunchKernel)

/* Those that older drivers lack: NULL there. */
#define DRAFT_CUDA_OPTIONAL(X) X(cuTensorMapEncodeTiled)

struct cuda_api {
#define X(name) __typeof__(name) *name;
    DRAFT_CUDA_FUNCTIONS(X)
    DRAFT_CUDA_OPTIONAL(X)
#undef X
};

struct cuda_driver {
    void *library; /* the driver's */
    struct cuda_api api;
    int version; /* of CUDA that the driver serves, 1000 x major + 10 x minor */
    int devices; /* that the driver has; not all can be used                  */
};

/* Open the driver and initialise it. NO_DEVICE, with a line at INFO, where there is none or none
 * that works. */
draft_status draft_cuda_driver_open(const struct draft_log *log, struct cuda_driver *out);
void draft_cuda_driver_close(struct cuda_driver *driver);

/* ---- Devices: device.c ----------------------------------------------------------------------- */

/* A GPU that the kernels can run on. */
struct cuda_physical {
    CUdevice handle;
    uint32_t index; /* among those that can be used */
    struct cuda_caps caps;
    uint64_t memory; /* bytes */
    CUuuid uuid;
    char name[128];
};

/* The next GPU that can be used, the driver's number *ordinal or later, which moves behind it;
 * false where there is none. The caller sets out->index before. Logs at INFO what the others
 * lack. */
bool draft_cuda_next(const struct draft_log *log, const struct cuda_driver *driver, int *ordinal,
                     struct cuda_physical *out);

void draft_cuda_describe(const struct cuda_driver *driver, const struct cuda_physical *physical,
                         struct draft_device_info *out);

struct cuda_device {
    const struct draft_log *log;
    struct cuda_driver driver;
    struct cuda_physical physical;
    CUcontext context;
    CUstream stream; /* the context's own queue                        */
    bool adopted;    /* context is the caller's, not the primary one   */
    bool own_stream;
    atomic_int failure; /* CUresult after which nothing works, or 0       */
};

/* native: struct draft_cuda_native, or NULL for GPU number `index` of those that can be used. */
draft_status draft_cuda_device_open(const struct draft_log *log, const void *native, uint32_t index,
                                    struct cuda_device *out);
/* The work of its queue is done. */
void draft_cuda_device_close(struct cuda_device *device);

/* Make the context current on this thread, and undo it. A push that fails needs no pop. */
draft_status draft_cuda_push(struct cuda_device *device);
void draft_cuda_pop(struct cuda_device *device);

/* "CUDA_ERROR_INVALID_VALUE", ...; static storage. */
const char *draft_cuda_error_name(const struct cuda_api *api, CUresult result);

/* OK, or the status that fits the result, after a line to the log. */
draft_status draft_cuda_check(struct cuda_device *device, CUresult result, const char *call);

/* Call a function of the table. */
#define CUDA_CALL(device, name, ...)                                                               \
    draft_cuda_check((device), (device)->driver.api.name(__VA_ARGS__), #name)

/* With the context pushed: ARGUMENT, and a line to the log, while the context's own queue is being
 * captured, as `what` would have to wait for it and spoil the capture. */
draft_status draft_cuda_not_capturing(struct cuda_device *device, const char *what);

/* With the context pushed: wait for the context's own queue. */
draft_status draft_cuda_synchronise(struct cuda_device *device);

/* Host memory for the backend; says in the log what for where there is none. */
void *draft_cuda_calloc(const struct draft_log *log, size_t count, size_t size, const char *what);

/* ---- Modules: modules.c ---------------------------------------------------------------------- */

/* Modules loaded into the context, each when it is needed first; kept until the context closes; any
 * thread. */
struct cuda_modules {
    pthread_mutex_t mutex;
    CUmodule loaded[CUDA_MODULES];
};

void draft_cuda_modules_open(struct cuda_modules *out);
/* current: the context is pushed; if not, the driver is left alone. */
void draft_cuda_modules_close(struct cuda_device *device, struct cuda_modules *modules,
                              bool current);

/* A pass of a plan, ready to be launched. */
struct cuda_step {
    CUfunction function;
    uint32_t first, step, blocks, threads, shared;
    bool maps;
};

/* With the context pushed: find the kernel of a pass and make it ready, so that a launch loads
 * nothing. Fills all but blocks. */
draft_status draft_cuda_modules_step(struct cuda_device *device, struct cuda_modules *modules,
                                     const struct cuda_pass *pass, struct cuda_step *out);

/* ---- Tensor maps: maps.c --------------------------------------------------------------------- */

/* Of the tensors of a run; false where their strides are beyond what a map can hold. */
bool draft_cuda_maps(const struct cuda_device *device, const struct draft_geometry *g,
                     const struct draft_args *args, struct cuda_tensor_maps *out);

/* ---- Memory: memory.c ------------------------------------------------------------------------ */

struct cuda_allocation;

struct cuda_memory {
    pthread_mutex_t mutex;
    struct cuda_allocation *first;
};

void draft_cuda_memory_open(struct cuda_memory *out);
/* Frees what was not freed. current: the context is pushed; if not, the driver is left alone. */
void draft_cuda_memory_close(struct cuda_device *device, struct cuda_memory *memory, bool current);
/* All that follow: with the context pushed. */
draft_status draft_cuda_alloc(struct cuda_device *device, struct cuda_memory *memory, uint64_t size,
                              draft_address *out);
void draft_cuda_free(struct cuda_device *device, struct cuda_memory *memory, draft_address address);
/* Copy between host and device after all work of the context's own queue; done on return. Of
 * memory that is not of draft_cuda_alloc only the driver knows whether it is there. */
draft_status draft_cuda_write(struct cuda_device *device, struct cuda_memory *memory,
                              draft_address to, const void *from, uint64_t size);
draft_status draft_cuda_read(struct cuda_device *device, struct cuda_memory *memory, void *to,
                             draft_address from, uint64_t size);

#endif
