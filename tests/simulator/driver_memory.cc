/* SPDX-License-Identifier: MIT
 *
 * Memory of devices and of the host, and what is copied between them. */
#include <cinttypes>
#include <cstdlib>
#include <cstring>

#include "driver.h"

using namespace simulator;

namespace
{

/* True where the range lies in memory of the context's device. */
bool on_device(CUcontext context, uint64_t address, size_t size)
{
    memory_use_device(context->device);
    return memory_find(address, size, nullptr);
}

/* A range on the device that a call names. */
CUresult check_range(const Call &call, const char *what, uint64_t address, size_t size)
{
    if (on_device(call.context, address, size))
        return CUDA_SUCCESS;
    return complain(CUDA_ERROR_INVALID_VALUE, "%s: %zu bytes at %#" PRIx64 ": %s", what, size,
                    address, memory_describe(address, size).c_str());
}

CUresult check_host(const char *what, const void *p)
{
    memory_use_device(-1);
    if (p && !memory_find(reinterpret_cast<uint64_t>(p), 1, nullptr))
        return CUDA_SUCCESS;
    return complain(CUDA_ERROR_INVALID_VALUE, "%s: %p is not memory of the host", what, p);
}

/* Memory that the driver has allocated on the host: copies from and to it need not be over when
 * their call returns. */
bool is_pinned(const void *p, size_t size)
{
    auto &pinned = driver().pinned;
    uintptr_t at = reinterpret_cast<uintptr_t>(p);
    auto next = pinned.upper_bound(at);
    if (next == pinned.begin())
        return false;
    auto &block = *std::prev(next);
    return at - block.first <= block.second.second &&
           size <= block.second.second - (at - block.first);
}

/* In a task: what is freed by the time it runs is a fault. */
bool still_there(uint64_t address, size_t size, const char *what, std::string *report)
{
    if (memory_find(address, size, nullptr))
        return true;
    *report = std::string(what) + " of " + std::to_string(size) +
              " bytes: " + memory_describe(address, size);
    return false;
}

template <class T> T *pointer(uint64_t address)
{
    return reinterpret_cast<T *>(address);
}

CUresult to_device(const Call &call, const char *name, uint64_t to, const void *from, size_t size,
                   CUstream stream)
{
    CUresult r = check_range(call, name, to, size);
    if (!r)
        r = check_host(name, from);
    if (r)
        return r;
    /* Pageable memory is read at the call, except in a capture. */
    std::shared_ptr<std::vector<unsigned char>> staged;
    if (!stream->capture && !is_pinned(from, size)) {
        auto bytes = static_cast<const unsigned char *>(from);
        staged = std::make_shared<std::vector<unsigned char>>(bytes, bytes + size);
    }
    return submit(stream, [=](std::string *report) {
        if (!still_there(to, size, "copy to memory", report))
            return false;
        memcpy(pointer<void>(to), staged ? staged->data() : from, size);
        return true;
    });
}

CUresult to_host(const Call &call, const char *name, void *to, uint64_t from, size_t size,
                 CUstream stream)
{
    CUresult r = check_range(call, name, from, size);
    if (!r)
        r = check_host(name, to);
    if (r)
        return r;
    r = submit(stream, [=](std::string *report) {
        if (!still_there(from, size, "copy from memory", report))
            return false;
        memcpy(to, pointer<void>(from), size);
        return true;
    });
    if (!r && !stream->capture && !is_pinned(to, size))
        r = run_stream(stream);
    return r;
}

CUresult on_device_copy(const Call &call, uint64_t to, uint64_t from, size_t size, CUstream stream)
{
    CUresult r = check_range(call, "copy on the device", to, size);
    if (!r)
        r = check_range(call, "copy on the device", from, size);
    if (!r && to < from + size && from < to + size)
        r = complain(CUDA_ERROR_INVALID_VALUE, "copy on the device: the ranges overlap");
    if (r)
        return r;
    return submit(stream, [=](std::string *report) {
        if (!still_there(to, size, "copy to memory", report) ||
            !still_there(from, size, "copy from memory", report))
            return false;
        memcpy(pointer<void>(to), pointer<void>(from), size);
        return true;
    });
}

template <class T>
CUresult fill(const Call &call, uint64_t to, T value, size_t count, CUstream stream)
{
    if (count > SIZE_MAX / sizeof(T))
        return CUDA_ERROR_INVALID_VALUE;
    size_t size = count * sizeof(T);
    CUresult r = check_range(call, "memset", to, size);
    if (r)
        return r;
    if (to % sizeof(T))
        return complain(CUDA_ERROR_INVALID_VALUE, "memset: the address is not aligned");
    return submit(stream, [=](std::string *report) {
        if (!still_there(to, size, "memset", report))
            return false;
        if (sizeof(T) == 1)
            memset(pointer<void>(to), (int)value, count);
        else
            for (size_t i = 0; i < count; i++)
                pointer<T>(to)[i] = value;
        return true;
    });
}

} // namespace

/* ---- Memory ---- */

CUresult cuMemAlloc_v2(CUdeviceptr *out, size_t size)
{
    Call call(UNSAFE);
    if (call.result)
        return call.result;
    if (!out || !size)
        return complain(CUDA_ERROR_INVALID_VALUE, "cuMemAlloc of %zu bytes", size);
    Driver &s = driver();
    size_t &used = s.used[call.context->device];
    if (size > model().memory - used)
        return CUDA_ERROR_OUT_OF_MEMORY;
    memory_use_device(call.context->device);
    uint64_t address = memory_allocate(size);
    if (!address)
        return CUDA_ERROR_OUT_OF_MEMORY;
    used += size;
    s.allocations[address] = {call.context, size};
    *out = address;
    return CUDA_SUCCESS;
}

CUresult cuMemFree_v2(CUdeviceptr address)
{
    Call call(UNSAFE);
    if (call.result || !address)
        return call.result;
    Driver &s = driver();
    auto found = s.allocations.find(address);
    if (found == s.allocations.end())
        return complain(CUDA_ERROR_INVALID_VALUE, "cuMemFree: %#llx is %s", address,
                        memory_describe(address, 1).c_str());
    CUcontext owner = found->second.first;
    CUresult r = owner->failed ? owner->failed : run_all(owner);
    s.used[owner->device] -= found->second.second;
    memory_free(address);
    s.allocations.erase(found);
    return r;
}

CUresult cuMemGetInfo_v2(size_t *free_bytes, size_t *total)
{
    Call call(SAFE);
    if (call.result)
        return call.result;
    *total = model().memory;
    *free_bytes = model().memory - driver().used[call.context->device];
    return CUDA_SUCCESS;
}

CUresult cuMemAllocHost_v2(void **out, size_t size)
{
    Call call(UNSAFE);
    if (call.result)
        return call.result;
    if (!out || !size)
        return CUDA_ERROR_INVALID_VALUE;
    *out = aligned_alloc(4096, (size + 4095) / 4096 * 4096);
    if (!*out)
        return CUDA_ERROR_OUT_OF_MEMORY;
    memset(*out, 0xff, size);
    driver().pinned[reinterpret_cast<uintptr_t>(*out)] = {call.context, size};
    return CUDA_SUCCESS;
}

CUresult cuMemFreeHost(void *p)
{
    Call call(UNSAFE);
    if (call.result)
        return call.result;
    auto found = driver().pinned.find(reinterpret_cast<uintptr_t>(p));
    if (found == driver().pinned.end())
        return complain(CUDA_ERROR_INVALID_VALUE, "cuMemFreeHost: not allocated by the driver");
    CUresult r = run_all(found->second.first);
    free(p);
    driver().pinned.erase(found);
    return r;
}

/* ---- Copies ---- */

CUresult cuMemcpyHtoD_v2(CUdeviceptr to, const void *from, size_t size)
{
    Call call(UNSAFE);
    if (call.result || !size)
        return call.result;
    CUresult r = to_device(call, "cuMemcpyHtoD", to, from, size, call.context->legacy);
    return r ? r : run_stream(call.context->legacy);
}

CUresult cuMemcpyDtoH_v2(void *to, CUdeviceptr from, size_t size)
{
    Call call(UNSAFE);
    if (call.result || !size)
        return call.result;
    CUresult r = to_host(call, "cuMemcpyDtoH", to, from, size, call.context->legacy);
    return r ? r : run_stream(call.context->legacy);
}

CUresult cuMemcpyDtoD_v2(CUdeviceptr to, CUdeviceptr from, size_t size)
{
    Call call(UNSAFE);
    if (call.result || !size)
        return call.result;
    return on_device_copy(call, to, from, size, call.context->legacy);
}

CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void *from, size_t size, CUstream handle)
{
    Call call(SAFE);
    CUstream stream = nullptr;
    CUresult r = call.result ? call.result : find_stream(call.context, handle, &stream);
    return r || !size ? r : to_device(call, "cuMemcpyHtoDAsync", to, from, size, stream);
}

CUresult cuMemcpyDtoHAsync_v2(void *to, CUdeviceptr from, size_t size, CUstream handle)
{
    Call call(SAFE);
    CUstream stream = nullptr;
    CUresult r = call.result ? call.result : find_stream(call.context, handle, &stream);
    return r || !size ? r : to_host(call, "cuMemcpyDtoHAsync", to, from, size, stream);
}

CUresult cuMemcpyDtoDAsync_v2(CUdeviceptr to, CUdeviceptr from, size_t size, CUstream handle)
{
    Call call(SAFE);
    CUstream stream = nullptr;
    CUresult r = call.result ? call.result : find_stream(call.context, handle, &stream);
    return r || !size ? r : on_device_copy(call, to, from, size, stream);
}

CUresult cuMemsetD8_v2(CUdeviceptr to, unsigned char value, size_t count)
{
    Call call(UNSAFE);
    return call.result ? call.result : fill(call, to, value, count, call.context->legacy);
}

CUresult cuMemsetD32_v2(CUdeviceptr to, unsigned value, size_t count)
{
    Call call(UNSAFE);
    return call.result ? call.result : fill(call, to, value, count, call.context->legacy);
}

CUresult cuMemsetD8Async(CUdeviceptr to, unsigned char value, size_t count, CUstream handle)
{
    Call call(SAFE);
    CUstream stream = nullptr;
    CUresult r = call.result ? call.result : find_stream(call.context, handle, &stream);
    return r ? r : fill(call, to, value, count, stream);
}

CUresult cuMemsetD32Async(CUdeviceptr to, unsigned value, size_t count, CUstream handle)
{
    Call call(SAFE);
    CUstream stream = nullptr;
    CUresult r = call.result ? call.result : find_stream(call.context, handle, &stream);
    return r ? r : fill(call, to, value, count, stream);
}
