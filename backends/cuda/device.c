/* SPDX-License-Identifier: MIT */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include <draft/cuda.h>

#include "device.h"

/* Kernels use cp.async and the matrix instructions that came with it. */
enum { OLDEST_MAJOR = 8 };

/* ---- Errors ---------------------------------------------------------------------------------- */

const char *draft_cuda_error_name(const struct cuda_api *api, CUresult result)
{
    const char *name = NULL;
    return api->cuGetErrorName(result, &name) || !name ? "an unknown error" : name;
}

/* DEVICE for all that leaves the context unusable. */
static draft_status status_of(CUresult result)
{
    switch (result) {
    case CUDA_SUCCESS:
        return DRAFT_OK;
    case CUDA_ERROR_OUT_OF_MEMORY:
        return DRAFT_ERROR_MEMORY;
    case CUDA_ERROR_INVALID_VALUE: /* addresses */
    case CUDA_ERROR_INVALID_HANDLE:
    case CUDA_ERROR_INVALID_CONTEXT:
    case CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED:
    case CUDA_ERROR_STREAM_CAPTURE_INVALIDATED:
    case CUDA_ERROR_STREAM_CAPTURE_MERGE:
    case CUDA_ERROR_STREAM_CAPTURE_UNJOINED:
    case CUDA_ERROR_STREAM_CAPTURE_ISOLATION:
    case CUDA_ERROR_STREAM_CAPTURE_IMPLICIT:
    case CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD:
        return DRAFT_ERROR_ARGUMENT;
    case CUDA_ERROR_NOT_FOUND:
    case CUDA_ERROR_INVALID_IMAGE: /* of modules: for a newer driver, as it may be compressed */
    case CUDA_ERROR_INVALID_SOURCE:
    case CUDA_ERROR_NO_BINARY_FOR_GPU:
    case CUDA_ERROR_INVALID_PTX:
    case CUDA_ERROR_UNSUPPORTED_PTX_VERSION:
    case CUDA_ERROR_JIT_COMPILER_NOT_FOUND:
    case CUDA_ERROR_JIT_COMPILATION_DISABLED:
    case CUDA_ERROR_NOT_SUPPORTED:
    case CUDA_ERROR_CALL_REQUIRES_NEWER_DRIVER:
    case CUDA_ERROR_SYSTEM_DRIVER_MISMATCH:
        return DRAFT_ERROR_UNSUPPORTED;
    case CUDA_ERROR_NO_DEVICE:
    case CUDA_ERROR_INVALID_DEVICE:
    case CUDA_ERROR_DEVICE_UNAVAILABLE:
    case CUDA_ERROR_DEVICE_NOT_LICENSED:
        return DRAFT_ERROR_NO_DEVICE;
    default:
        return DRAFT_ERROR_DEVICE;
    }
}

draft_status draft_cuda_check(struct cuda_device *device, CUresult result, const char *call)
{
    draft_status status = status_of(result);
    if (status == DRAFT_ERROR_DEVICE) {
        int none = 0;
        atomic_compare_exchange_strong(&device->failure, &none, (int)result);
    }
    if (status)
        draft_log(device->log, DRAFT_LOG_ERROR, "cuda: %s gave %s (%d)", call,
                  draft_cuda_error_name(&device->driver.api, result), (int)result);
    return status;
}

static draft_status alive(struct cuda_device *device)
{
    int failure = atomic_load(&device->failure);
    if (!failure)
        return DRAFT_OK;
    draft_log(device->log, DRAFT_LOG_ERROR,
              "cuda: the context failed before, with %s (%d): it can only be destroyed",
              draft_cuda_error_name(&device->driver.api, (CUresult)failure), failure);
    return DRAFT_ERROR_DEVICE;
}

void *draft_cuda_calloc(const struct draft_log *log, size_t count, size_t size, const char *what)
{
    void *memory = draft_calloc(count, size);
    if (!memory)
        draft_log(log, DRAFT_LOG_ERROR, "cuda: out of host memory for %s", what);
    return memory;
}

/* ---- GPUs ------------------------------------------------------------------------------------ */

static CUresult inspect(const struct cuda_api *api, int ordinal, struct cuda_physical *out)
{
    int shared = 0, multiprocessors = 0;
    size_t memory = 0;
    CUresult result = api->cuDeviceGet(&out->handle, ordinal);
    if (!result)
        result = api->cuDeviceGetName(out->name, sizeof out->name, out->handle);
    if (!result)
        result = api->cuDeviceGetUuid(&out->uuid, out->handle);
    if (!result)
        result = api->cuDeviceTotalMem(&memory, out->handle);
    if (!result)
        result = api->cuDeviceGetAttribute(
            &out->caps.major, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, out->handle);
    if (!result)
        result = api->cuDeviceGetAttribute(
            &out->caps.minor, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, out->handle);
    if (!result)
        result = api->cuDeviceGetAttribute(
            &shared, CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN, out->handle);
    if (!result)
        result = api->cuDeviceGetAttribute(&multiprocessors,
                                           CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, out->handle);
    out->memory = memory;
    out->caps.shared = (uint32_t)shared;
    out->caps.multiprocessors = (uint32_t)multiprocessors;
    out->caps.tensor_maps = api->cuTensorMapEncodeTiled != NULL;
    return result;
}

bool draft_cuda_next(const struct draft_log *log, const struct cuda_driver *driver, int *ordinal,
                     struct cuda_physical *out)
{
    while (*ordinal < driver->devices) {
        int number = (*ordinal)++;
        uint32_t index = out->index;
        *out = (struct cuda_physical){.index = index};
        CUresult result = inspect(&driver->api, number, out);
        if (!result && out->caps.major >= OLDEST_MAJOR)
            return true;
        if (result)
            draft_log(log, DRAFT_LOG_INFO, "cuda: not device %d: the driver gave %s (%d)", number,
                      draft_cuda_error_name(&driver->api, result), (int)result);
        else
            draft_log(log, DRAFT_LOG_INFO,
                      "cuda: not device %d, %s: its compute capability is %d.%d, below %d.0",
                      number, out->name, out->caps.major, out->caps.minor, OLDEST_MAJOR);
    }
    return false;
}

/* A video model, to ask which kernel would be taken. */
static const struct draft_geometry usual = {
    .batch = 1,
    .heads = 24,
    .kv_heads = 24,
    .dim = 128,
    .blocks = 992,
    .video_blocks = 990,
    .suffix_blocks = 2,
    .type = DRAFT_ABI_BF16,
    .scorer = DRAFT_ABI_SCORER_MEAN,
    .tail = DRAFT_ABI_TAIL_DROP,
    .group = 1,
    .tokens = 119056,
};

static const char *best_attend(const struct cuda_caps *caps)
{
    size_t count;
    const struct cuda_variant *variants = draft_cuda_variants(DRAFT_ATTEND, &count);
    for (size_t i = 0; i < count; i++)
        if (!variants[i].refuses(caps, &usual))
            return variants[i].name;
    return "none";
}

void draft_cuda_describe(const struct cuda_driver *driver, const struct cuda_physical *physical,
                         struct draft_device_info *out)
{
    *out = (struct draft_device_info){
        .backend = "cuda",
        .index = physical->index,
        .memory = physical->memory,
        .types = 1u << DRAFT_F16 | 1u << DRAFT_BF16,
    };
    snprintf(out->name, sizeof out->name, "%s", physical->name);
    snprintf(out->driver, sizeof out->driver, "NVIDIA, CUDA %d.%d", driver->version / 1000,
             driver->version % 1000 / 10);
    memcpy(out->uuid, physical->uuid.bytes, sizeof out->uuid);
    snprintf(out->attend, sizeof out->attend, "%s", best_attend(&physical->caps));
}

/* ---- Context and stream ---------------------------------------------------------------------- */

/* Of those that can be used: number `index`, or the one with this handle where it is not NULL. */
static bool find_physical(const struct cuda_driver *driver, const CUdevice *handle, uint32_t index,
                          struct cuda_physical *out)
{
    int ordinal = 0;
    out->index = 0;
    while (draft_cuda_next(NULL, driver, &ordinal, out)) {
        if (handle ? out->handle == *handle : out->index == index)
            return true;
        out->index++;
    }
    return false;
}

static draft_status open_primary(struct cuda_device *device, uint32_t index)
{
    if (!find_physical(&device->driver, NULL, index, &device->physical)) {
        draft_log(device->log, DRAFT_LOG_ERROR, "cuda: device %" PRIu32 " is gone", index);
        return DRAFT_ERROR_NO_DEVICE;
    }
    return CUDA_CALL(device, cuDevicePrimaryCtxRetain, &device->context, device->physical.handle);
}

/* With the caller's context pushed: is the stream one of it, and can its device be used? */
static draft_status inspect_adopted(struct cuda_device *device, CUstream stream)
{
    CUdevice handle;
    CUcontext owner = device->context;
    draft_status status = CUDA_CALL(device, cuCtxGetDevice, &handle);
    if (!status && stream)
        status = CUDA_CALL(device, cuStreamGetCtx, stream, &owner);
    if (status)
        return status;
    if (owner != device->context) {
        draft_log(device->log, DRAFT_LOG_ERROR,
                  "cuda: native.stream belongs to another context than native.context");
        return DRAFT_ERROR_ARGUMENT;
    }
    if (!find_physical(&device->driver, &handle, 0, &device->physical)) {
        draft_log(device->log, DRAFT_LOG_ERROR,
                  "cuda: the device of native.context has a compute capability below %d.0",
                  OLDEST_MAJOR);
        return DRAFT_ERROR_UNSUPPORTED;
    }
    return DRAFT_OK;
}

static draft_status adopt(struct cuda_device *device, const struct draft_cuda_native *native)
{
    if (!native->context) {
        draft_log(device->log, DRAFT_LOG_ERROR, "cuda: native.context is NULL");
        return DRAFT_ERROR_ARGUMENT;
    }
    device->adopted = true;
    device->context = native->context;
    device->stream = native->stream;
    draft_status status = draft_cuda_push(device);
    if (status)
        return status;
    status = inspect_adopted(device, native->stream);
    draft_cuda_pop(device);
    return status;
}

/* One that does not wait for the legacy default stream, nor the other way round. */
static draft_status make_stream(struct cuda_device *device)
{
    draft_status status = draft_cuda_push(device);
    if (status)
        return status;
    status = CUDA_CALL(device, cuStreamCreate, &device->stream, CU_STREAM_NON_BLOCKING);
    device->own_stream = !status;
    draft_cuda_pop(device);
    return status;
}

draft_status draft_cuda_device_open(const struct draft_log *log, const void *native, uint32_t index,
                                    struct cuda_device *out)
{
    *out = (struct cuda_device){.log = log};
    draft_status status = draft_cuda_driver_open(log, &out->driver);
    if (status) {
        draft_log(log, DRAFT_LOG_ERROR, "cuda: there is no driver, or it has no device");
        return status;
    }
    status = native ? adopt(out, native) : open_primary(out, index);
    if (status)
        goto no_context;
    if (!out->stream)
        status = make_stream(out);
    if (status)
        goto no_stream;
    return DRAFT_OK;

no_stream:
    if (!out->adopted)
        out->driver.api.cuDevicePrimaryCtxRelease(out->physical.handle);
no_context:
    draft_cuda_driver_close(&out->driver);
    return status;
}

void draft_cuda_device_close(struct cuda_device *device)
{
    const struct cuda_api *api = &device->driver.api;
    if (device->own_stream && !api->cuCtxPushCurrent(device->context)) {
        api->cuStreamDestroy(device->stream);
        draft_cuda_pop(device);
    }
    if (!device->adopted)
        api->cuDevicePrimaryCtxRelease(device->physical.handle);
    draft_cuda_driver_close(&device->driver);
}

draft_status draft_cuda_push(struct cuda_device *device)
{
    draft_status status = alive(device);
    return status ? status : CUDA_CALL(device, cuCtxPushCurrent, device->context);
}

void draft_cuda_pop(struct cuda_device *device)
{
    CUcontext popped;
    device->driver.api.cuCtxPopCurrent(&popped);
}

draft_status draft_cuda_not_capturing(struct cuda_device *device, const char *what)
{
    CUstreamCaptureStatus capture = CU_STREAM_CAPTURE_STATUS_NONE;
    if (device->own_stream) /* nobody else has its handle */
        return DRAFT_OK;
    draft_status status = CUDA_CALL(device, cuStreamIsCapturing, device->stream, &capture);
    if (status || capture == CU_STREAM_CAPTURE_STATUS_NONE)
        return status;
    draft_log(device->log, DRAFT_LOG_ERROR,
              "cuda: %s would wait for the context's own queue, which is being captured", what);
    return DRAFT_ERROR_ARGUMENT;
}

draft_status draft_cuda_synchronise(struct cuda_device *device)
{
    return CUDA_CALL(device, cuStreamSynchronize, device->stream);
}
