/* SPDX-License-Identifier: MIT
 *
 * Devices and contexts. */
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include <unistd.h>

#include "driver.h"
#include "driver_thread.h"

using namespace simulator;

/* Under their other names too: the header of each toolkit version means another one. */
#undef cuDeviceGetUuid
#undef cuCtxCreate
#pragma GCC visibility push(default)
extern "C" {
CUresult cuDeviceGetUuid(CUuuid *uuid, CUdevice device);
CUresult cuDeviceGetUuid_v2(CUuuid *uuid, CUdevice device);
}
#pragma GCC visibility pop

namespace
{

const struct {
    CUresult code;
    const char *name, *text;
} ERRORS[] = {
#define ERROR(code, text)                                                                          \
    {                                                                                              \
        code, #code, text                                                                          \
    }
    ERROR(CUDA_SUCCESS, "no error"),
    ERROR(CUDA_ERROR_INVALID_VALUE, "invalid argument"),
    ERROR(CUDA_ERROR_OUT_OF_MEMORY, "out of memory"),
    ERROR(CUDA_ERROR_NOT_INITIALIZED, "initialization error"),
    ERROR(CUDA_ERROR_NO_DEVICE, "no device"),
    ERROR(CUDA_ERROR_INVALID_DEVICE, "no such device"),
    ERROR(CUDA_ERROR_INVALID_IMAGE, "not an image of kernels"),
    ERROR(CUDA_ERROR_INVALID_PTX, "PTX that cannot be run"),
    ERROR(CUDA_ERROR_INVALID_CONTEXT, "no such context, or none is current"),
    ERROR(CUDA_ERROR_NO_BINARY_FOR_GPU, "the image has nothing for this device"),
    ERROR(CUDA_ERROR_INVALID_HANDLE, "no such object"),
    ERROR(CUDA_ERROR_NOT_FOUND, "not found"),
    ERROR(CUDA_ERROR_NOT_READY, "not ready"),
    ERROR(CUDA_ERROR_ILLEGAL_ADDRESS, "an illegal address was accessed"),
    ERROR(CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES, "too many resources asked for"),
    ERROR(CUDA_ERROR_CONTEXT_IS_DESTROYED, "the context was destroyed"),
    ERROR(CUDA_ERROR_LAUNCH_FAILED, "a kernel failed"),
    ERROR(CUDA_ERROR_NOT_SUPPORTED, "not supported"),
    ERROR(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, "not allowed while a stream is captured"),
    ERROR(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, "the capture was broken before"),
    ERROR(CUDA_ERROR_STREAM_CAPTURE_UNMATCHED, "the capture did not begin on this stream"),
    ERROR(CUDA_ERROR_STREAM_CAPTURE_UNJOINED, "a stream of the capture was not joined"),
    ERROR(CUDA_ERROR_STREAM_CAPTURE_ISOLATION, "a capture depends on work outside"),
    ERROR(CUDA_ERROR_STREAM_CAPTURE_IMPLICIT, "the legacy stream meets a captured one"),
    ERROR(CUDA_ERROR_CAPTURED_EVENT, "the event was recorded in a capture"),
    ERROR(CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD, "the capture began on another thread"),
#undef ERROR
};

bool known(CUdevice device)
{
    return device >= 0 && device < device_count();
}

int attribute(CUdevice_attribute a, int device, bool *found)
{
    const Model &m = model();
    *found = true;
    switch (a) {
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR:
        return m.major;
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR:
        return m.minor;
    case CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT:
        return m.multiprocessors;
    case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK:
        return (int)m.shared_per_block;
    case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN:
        return (int)m.shared_per_block_optin;
    case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR:
        return (int)shared_per_multiprocessor();
    case CU_DEVICE_ATTRIBUTE_RESERVED_SHARED_MEMORY_PER_BLOCK:
        return (int)SHARED_RESERVED;
    case CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK:
        return MAX_THREADS;
    case CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_X:
    case CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Y:
        return (int)MAX_BLOCK[0];
    case CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Z:
        return (int)MAX_BLOCK[2];
    case CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X:
        return (int)MAX_GRID[0];
    case CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Y:
    case CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Z:
        return (int)MAX_GRID[1];
    case CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR:
        return MAX_RESIDENT;
    case CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_BLOCK:
    case CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_MULTIPROCESSOR:
        return REGISTERS;
    case CU_DEVICE_ATTRIBUTE_WARP_SIZE:
        return 32;
    case CU_DEVICE_ATTRIBUTE_UNIFIED_ADDRESSING:
    case CU_DEVICE_ATTRIBUTE_CONCURRENT_KERNELS:
    case CU_DEVICE_ATTRIBUTE_COMPUTE_PREEMPTION_SUPPORTED:
        return 1;
    case CU_DEVICE_ATTRIBUTE_CLOCK_RATE:
        return 1410000; /* kHz */
    case CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE:
        return 1215000;
    case CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH:
        return 5120;
    case CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE:
        return 40 << 20;
    case CU_DEVICE_ATTRIBUTE_ASYNC_ENGINE_COUNT:
        return 3;
    case CU_DEVICE_ATTRIBUTE_PCI_BUS_ID:
        return device + 1;
    case CU_DEVICE_ATTRIBUTE_PCI_DOMAIN_ID:
    case CU_DEVICE_ATTRIBUTE_PCI_DEVICE_ID:
    case CU_DEVICE_ATTRIBUTE_INTEGRATED:
    case CU_DEVICE_ATTRIBUTE_COMPUTE_MODE:
    case CU_DEVICE_ATTRIBUTE_ECC_ENABLED:
    case CU_DEVICE_ATTRIBUTE_TCC_DRIVER:
    case CU_DEVICE_ATTRIBUTE_KERNEL_EXEC_TIMEOUT:
        return 0;
    default:
        *found = false;
        return 0;
    }
}

CUcontext create(int device, bool primary)
{
    CUcontext c = adopt(new CUctx_st{device, primary, CUDA_SUCCESS, nullptr, {}}, CONTEXT);
    c->legacy = create_stream(c, true, true);
    return c;
}

/* The current context becomes this one, in its place on the stack. */
void set_current(CUcontext context)
{
    auto &stack = thread_contexts().stack;
    if (!stack.empty() && context)
        stack.back().context = context;
    else if (!stack.empty())
        stack.pop_back();
    else if (context)
        stack.push_back({context, false});
}

} // namespace

namespace simulator
{

void destroy(CUcontext context)
{
    Driver &s = driver();
    if (!context->failed)
        run_all(context);
    auto leak = [&](const std::string &what) {
        if (!context->failed)
            s.leaks.push_back(what + " when its context was destroyed");
    };
    for (auto i = s.allocations.begin(); i != s.allocations.end();) {
        if (i->second.first == context) {
            leak(std::to_string(i->second.second) + " bytes of device memory were not freed");
            s.used[context->device] -= i->second.second;
            memory_free(i->first);
            i = s.allocations.erase(i);
        } else
            ++i;
    }
    for (auto i = s.pinned.begin(); i != s.pinned.end();) {
        if (i->second.first == context) {
            leak(std::to_string(i->second.second) + " bytes of host memory were not freed");
            free(reinterpret_cast<void *>(i->first));
            i = s.pinned.erase(i);
        } else
            ++i;
    }
    for (auto i = s.handles.begin(); i != s.handles.end();) {
        const void *object = i->first;
        bool gone = false;
        switch (i->second) {
        case STREAM: {
            CUstream stream = static_cast<CUstream>(const_cast<void *>(object));
            gone = stream->context == context;
            if (gone) {
                if (!stream->legacy)
                    leak("a stream was not destroyed");
                if (stream->capture)
                    drop_capture(stream->capture);
            }
            break;
        }
        case EVENT:
            gone = static_cast<const CUevent_st *>(object)->context == context;
            if (gone)
                leak("an event was not destroyed");
            break;
        case MODULE:
            gone = static_cast<const CUmod_st *>(object)->context == context;
            if (gone)
                leak("a module was not unloaded");
            break;
        case FUNCTION:
            gone = static_cast<const CUfunc_st *>(object)->module->context == context;
            break;
        default:
            break;
        }
        i = gone ? s.handles.erase(i) : std::next(i);
    }
    for (CUstream stream : context->streams)
        stream->queue.clear();
    context->streams.clear();
    s.handles.erase(context);
    if (context->primary)
        s.primary[context->device] = nullptr;
}

} // namespace simulator

/* ---- Errors and devices ---- */

CUresult cuInit(unsigned flags)
{
    Driver &s = driver();
    std::lock_guard<std::mutex> lock(s.mutex);
    if (flags)
        return CUDA_ERROR_INVALID_VALUE;
    if (s.initialised && s.process != getpid())
        return complain(CUDA_ERROR_NOT_INITIALIZED, "the driver does not survive fork");
    s.initialised = true;
    s.process = getpid();
    return CUDA_SUCCESS;
}

CUresult cuDriverGetVersion(int *version)
{
    if (!version)
        return CUDA_ERROR_INVALID_VALUE;
    const char *other = std::getenv("DRAFT_SIMULATOR_CUDA");
    *version = other ? std::atoi(other) : CUDA_VERSION;
    return CUDA_SUCCESS;
}

CUresult cuGetErrorName(CUresult error, const char **out)
{
    for (auto &e : ERRORS)
        if (e.code == error) {
            *out = e.name;
            return CUDA_SUCCESS;
        }
    *out = nullptr;
    return CUDA_ERROR_INVALID_VALUE;
}

CUresult cuGetErrorString(CUresult error, const char **out)
{
    for (auto &e : ERRORS)
        if (e.code == error) {
            *out = e.text;
            return CUDA_SUCCESS;
        }
    *out = nullptr;
    return CUDA_ERROR_INVALID_VALUE;
}

CUresult cuDeviceGetCount(int *count)
{
    Call call(ANYTIME);
    if (call.result)
        return call.result;
    if (!count)
        return CUDA_ERROR_INVALID_VALUE;
    *count = device_count();
    return CUDA_SUCCESS;
}

CUresult cuDeviceGet(CUdevice *device, int ordinal)
{
    Call call(ANYTIME);
    if (call.result)
        return call.result;
    if (!device)
        return CUDA_ERROR_INVALID_VALUE;
    if (!known(ordinal))
        return CUDA_ERROR_INVALID_DEVICE;
    *device = ordinal;
    return CUDA_SUCCESS;
}

CUresult cuDeviceGetName(char *name, int length, CUdevice device)
{
    Call call(ANYTIME);
    if (call.result)
        return call.result;
    if (!name || length < 1)
        return CUDA_ERROR_INVALID_VALUE;
    if (!known(device))
        return CUDA_ERROR_INVALID_DEVICE;
    snprintf(name, (size_t)length, "Simulated %s #%d", model().name, device);
    return CUDA_SUCCESS;
}

CUresult cuDeviceGetUuid_v2(CUuuid *uuid, CUdevice device)
{
    Call call(ANYTIME);
    if (call.result)
        return call.result;
    if (!uuid)
        return CUDA_ERROR_INVALID_VALUE;
    if (!known(device))
        return CUDA_ERROR_INVALID_DEVICE;
    memcpy(uuid->bytes, "draft simulator", 15);
    uuid->bytes[15] = (char)('0' + device);
    return CUDA_SUCCESS;
}

CUresult cuDeviceGetUuid(CUuuid *uuid, CUdevice device)
{
    return cuDeviceGetUuid_v2(uuid, device);
}

CUresult cuDeviceGetAttribute(int *value, CUdevice_attribute a, CUdevice device)
{
    Call call(ANYTIME);
    if (call.result)
        return call.result;
    if (!value)
        return CUDA_ERROR_INVALID_VALUE;
    if (!known(device))
        return CUDA_ERROR_INVALID_DEVICE;
    bool found;
    *value = attribute(a, device, &found);
    return found ? CUDA_SUCCESS
                 : complain(CUDA_ERROR_INVALID_VALUE, "device attribute %d is not simulated", a);
}

CUresult cuDeviceTotalMem_v2(size_t *bytes, CUdevice device)
{
    Call call(ANYTIME);
    if (call.result)
        return call.result;
    if (!bytes)
        return CUDA_ERROR_INVALID_VALUE;
    if (!known(device))
        return CUDA_ERROR_INVALID_DEVICE;
    *bytes = model().memory;
    return CUDA_SUCCESS;
}

/* ---- Primary contexts ---- */

CUresult cuDevicePrimaryCtxRetain(CUcontext *out, CUdevice device)
{
    Call call(ANYTIME);
    if (call.result)
        return call.result;
    if (!out)
        return CUDA_ERROR_INVALID_VALUE;
    if (!known(device))
        return CUDA_ERROR_INVALID_DEVICE;
    Driver &s = driver();
    if (!s.primary[device])
        s.primary[device] = create(device, true);
    s.retained[device]++;
    *out = s.primary[device];
    return CUDA_SUCCESS;
}

CUresult cuDevicePrimaryCtxRelease_v2(CUdevice device)
{
    Call call(ANYTIME);
    if (call.result)
        return call.result;
    if (!known(device))
        return CUDA_ERROR_INVALID_DEVICE;
    Driver &s = driver();
    if (!s.retained[device])
        return complain(CUDA_ERROR_INVALID_CONTEXT, "the primary context was not retained");
    if (--s.retained[device] == 0 && s.primary[device])
        destroy(s.primary[device]);
    return CUDA_SUCCESS;
}

CUresult cuDevicePrimaryCtxGetState(CUdevice device, unsigned *flags, int *active)
{
    Call call(ANYTIME);
    if (call.result)
        return call.result;
    if (!known(device))
        return CUDA_ERROR_INVALID_DEVICE;
    *flags = 0;
    *active = driver().primary[device] != nullptr;
    return CUDA_SUCCESS;
}

/* ---- Contexts ---- */

CUresult cuCtxCreate_v2(CUcontext *out, unsigned, CUdevice device)
{
    Call call(ANYTIME);
    if (call.result)
        return call.result;
    if (!out)
        return CUDA_ERROR_INVALID_VALUE;
    if (!known(device))
        return CUDA_ERROR_INVALID_DEVICE;
    *out = create(device, false);
    thread_contexts().stack.push_back({*out, false});
    return CUDA_SUCCESS;
}

#if CUDA_VERSION >= 12050
#pragma GCC visibility push(default)
extern "C" CUresult cuCtxCreate_v4(CUcontext *out, CUctxCreateParams *params, unsigned flags,
                                   CUdevice device)
{
    if (params && (params->numExecAffinityParams || params->cigParams))
        return CUDA_ERROR_NOT_SUPPORTED;
    return cuCtxCreate_v2(out, flags, device);
}
#pragma GCC visibility pop
#endif

CUresult cuCtxDestroy_v2(CUcontext context)
{
    Call call(ANYTIME);
    if (call.result)
        return call.result;
    if (!valid(context, CONTEXT) || context->primary)
        return complain(CUDA_ERROR_INVALID_CONTEXT, "cuCtxDestroy: not a context that was created");
    destroy(context);
    auto &stack = thread_contexts().stack;
    if (!stack.empty() && stack.back().context == context)
        stack.pop_back();
    return CUDA_SUCCESS;
}

CUresult cuCtxPushCurrent_v2(CUcontext context)
{
    Call call(ANYTIME);
    if (call.result)
        return call.result;
    if (!valid(context, CONTEXT))
        return complain(CUDA_ERROR_INVALID_CONTEXT, "cuCtxPushCurrent: not a context");
    thread_contexts().stack.push_back({context, true});
    return CUDA_SUCCESS;
}

CUresult cuCtxPopCurrent_v2(CUcontext *out)
{
    Call call(ANYTIME);
    if (call.result)
        return call.result;
    auto &stack = thread_contexts().stack;
    if (stack.empty())
        return complain(CUDA_ERROR_INVALID_CONTEXT, "cuCtxPopCurrent: none is current");
    if (out)
        *out = stack.back().context;
    stack.pop_back();
    return CUDA_SUCCESS;
}

CUresult cuCtxSetCurrent(CUcontext context)
{
    Call call(ANYTIME);
    if (call.result)
        return call.result;
    if (context && !valid(context, CONTEXT))
        return complain(CUDA_ERROR_INVALID_CONTEXT, "cuCtxSetCurrent: not a context");
    set_current(context);
    return CUDA_SUCCESS;
}

CUresult cuCtxGetCurrent(CUcontext *out)
{
    Call call(ANYTIME);
    if (call.result)
        return call.result;
    if (!out)
        return CUDA_ERROR_INVALID_VALUE;
    *out = call.context;
    return CUDA_SUCCESS;
}

CUresult cuCtxGetDevice(CUdevice *device)
{
    Call call(ANYTIME);
    if (call.result)
        return call.result;
    if (!valid(call.context, CONTEXT))
        return CUDA_ERROR_INVALID_CONTEXT;
    *device = call.context->device;
    return CUDA_SUCCESS;
}

CUresult cuCtxSynchronize(void)
{
    Call call(SAFE);
    if (call.result)
        return call.result;
    for (auto &capture : driver().captures)
        if (capture->context == call.context) {
            invalidate(*capture);
            return complain(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED,
                            "cuCtxSynchronize while a stream is captured");
        }
    return run_all(call.context);
}
