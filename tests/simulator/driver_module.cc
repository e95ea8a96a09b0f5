/* SPDX-License-Identifier: MIT
 *
 * Modules, functions, launches. The kernels are compiled into this library; of the image of a
 * module only the list of what it was compiled for is read. */
#include <cinttypes>
#include <cstdlib>
#include <cstring>

#include "driver.h"
#include "ptx_program.h"

using namespace simulator;

namespace
{

/* A fatbin begins with its size; each entry in it with its kind, size, and architecture. */
constexpr uint32_t FATBIN_MAGIC = 0xba55ed50;
constexpr uint16_t FATBIN_PTX = 1, FATBIN_ELF = 2;
struct Fatbin {
    uint32_t magic;
    uint16_t version, header_size;
    uint64_t size; /* behind the header */
};
struct FatbinEntry {
    uint16_t kind, version;
    uint32_t header_size;
    uint64_t size; /* behind the header */
    uint32_t unused[3];
    uint32_t arch; /* 80 for sm_80 and compute_80 */
};

/* PTX runs on all later devices, machine code on those of its family. */
bool fits(uint16_t kind, uint32_t arch)
{
    uint32_t major = (uint32_t)model().major, minor = (uint32_t)model().minor;
    if (kind == FATBIN_PTX)
        return arch <= major * 10 + minor;
    return kind == FATBIN_ELF && arch / 10 == major && arch % 10 <= minor;
}

CUresult check_image(const void *image)
{
    Fatbin head;
    if (getenv("DRAFT_SIMULATOR_OLD")) /* as drivers say of an image that is compressed newly */
        return complain(CUDA_ERROR_INVALID_IMAGE, "the image is for a newer driver");
    memcpy(&head, image, sizeof(head));
    if (head.magic != FATBIN_MAGIC || head.header_size < sizeof(head))
        return complain(CUDA_ERROR_INVALID_IMAGE, "the image of a module is not a fatbin");
    auto data = static_cast<const unsigned char *>(image) + head.header_size;
    for (uint64_t at = 0; at + sizeof(FatbinEntry) <= head.size;) {
        FatbinEntry e;
        memcpy(&e, data + at, sizeof(e));
        if (e.header_size < sizeof(e) || e.size > head.size || e.header_size > head.size)
            return complain(CUDA_ERROR_INVALID_IMAGE, "the fatbin is damaged");
        if (fits(e.kind, e.arch))
            return CUDA_SUCCESS;
        at += e.header_size + e.size;
    }
    return complain(CUDA_ERROR_NO_BINARY_FOR_GPU, "the fatbin has nothing for %s", model().name);
}

CUresult find_function(const Call &call, CUfunction function)
{
    if (call.result)
        return call.result;
    if (!valid(function, FUNCTION))
        return complain(CUDA_ERROR_INVALID_HANDLE, "not a function, or its module was unloaded");
    return CUDA_SUCCESS;
}

CUresult check_launch(const Launch &l, CUfunction function)
{
    const char *name = l.kernel->name;
    uint64_t threads = 1;
    for (int i = 0; i < 3; i++) {
        if (!l.grid[i] || l.grid[i] > MAX_GRID[i])
            return complain(CUDA_ERROR_INVALID_VALUE, "%s: a grid of %u x %u x %u", name, l.grid[0],
                            l.grid[1], l.grid[2]);
        if (!l.block[i] || l.block[i] > MAX_BLOCK[i])
            return complain(CUDA_ERROR_INVALID_VALUE, "%s: a block of %u x %u x %u", name,
                            l.block[0], l.block[1], l.block[2]);
        threads *= l.block[i];
    }
    if (threads > l.kernel->max_threads)
        return complain(CUDA_ERROR_INVALID_VALUE,
                        "%s: %" PRIu64 " threads, its launch bounds say %u", name, threads,
                        l.kernel->max_threads);
    if (l.shared > function->dynamic)
        return complain(CUDA_ERROR_INVALID_VALUE,
                        "%s: %zu bytes of shared memory, of %zu that its attribute allows", name,
                        l.shared, function->dynamic);
    return CUDA_SUCCESS;
}

} // namespace

/* ---- Modules ---- */

CUresult cuModuleLoadData(CUmodule *out, const void *image)
{
    Call call(UNSAFE);
    if (call.result)
        return call.result;
    if (!out || !image)
        return CUDA_ERROR_INVALID_VALUE;
    CUresult r = check_image(image);
    if (!r)
        *out = adopt(new CUmod_st{call.context, {}}, MODULE);
    return r;
}

CUresult cuModuleLoadDataEx(CUmodule *out, const void *image, unsigned, CUjit_option *, void **)
{
    return cuModuleLoadData(out, image);
}

CUresult cuModuleUnload(CUmodule module)
{
    Call call(UNSAFE);
    if (call.result)
        return call.result;
    if (!valid(module, MODULE) || module->context != call.context)
        return complain(CUDA_ERROR_INVALID_HANDLE, "cuModuleUnload: not a module of this context");
    CUresult r = run_all(module->context);
    for (auto &f : module->functions)
        driver().handles.erase(f.second);
    driver().handles.erase(module);
    return r;
}

CUresult cuModuleGetFunction(CUfunction *out, CUmodule module, const char *name)
{
    Call call(SAFE);
    if (call.result)
        return call.result;
    if (!out || !name)
        return CUDA_ERROR_INVALID_VALUE;
    if (!valid(module, MODULE) || module->context != call.context)
        return complain(CUDA_ERROR_INVALID_HANDLE, "not a module of the current context");
    CUfunction &function = module->functions[name];
    if (!function) {
        const Kernel *kernel = find_kernel(name);
        bool other = kernel && kernel->arch && kernel->arch != model().major * 10 + model().minor;
        if (!kernel || other) {
            module->functions.erase(name);
            return complain(CUDA_ERROR_NOT_FOUND, "no kernel %s%s", name,
                            other ? " for this device" : "");
        }
        try {
            kernel = ptx::choose_kernel(kernel);
        } catch (const ptx::Error &error) {
            module->functions.erase(name);
            return complain(CUDA_ERROR_INVALID_PTX, "%s", error.what());
        }
        function = adopt(new CUfunc_st{module, kernel, model().shared_per_block}, FUNCTION);
    }
    *out = function;
    return CUDA_SUCCESS;
}

/* ---- Functions ---- */

CUresult cuFuncSetAttribute(CUfunction function, CUfunction_attribute attribute, int value)
{
    Call call(SAFE);
    CUresult r = find_function(call, function);
    if (r)
        return r;
    switch (attribute) {
    case CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES:
        if (value < 0 || (size_t)value > model().shared_per_block_optin)
            return complain(CUDA_ERROR_INVALID_VALUE, "%s: %d bytes of shared memory, %s has %zu",
                            function->kernel->name, value, model().name,
                            model().shared_per_block_optin);
        function->dynamic = (size_t)value;
        return CUDA_SUCCESS;
    case CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT:
        return value >= -1 && value <= 100 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
    default:
        return complain(CUDA_ERROR_INVALID_VALUE, "function attribute %d cannot be set", attribute);
    }
}

/* Nobody knows here how many registers nvcc would take. */
static constexpr int KERNEL_REGISTERS = 128;

CUresult cuFuncGetAttribute(int *value, CUfunction_attribute attribute, CUfunction function)
{
    Call call(SAFE);
    CUresult r = find_function(call, function);
    if (r)
        return r;
    switch (attribute) {
    case CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK:
        *value = (int)function->kernel->max_threads;
        return CUDA_SUCCESS;
    case CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES:
        *value = (int)function->dynamic;
        return CUDA_SUCCESS;
    case CU_FUNC_ATTRIBUTE_NUM_REGS:
        *value = KERNEL_REGISTERS;
        return CUDA_SUCCESS;
    case CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES:
    case CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES:
    case CU_FUNC_ATTRIBUTE_CONST_SIZE_BYTES:
        *value = 0;
        return CUDA_SUCCESS;
    case CU_FUNC_ATTRIBUTE_PTX_VERSION:
    case CU_FUNC_ATTRIBUTE_BINARY_VERSION:
        *value = model().major * 10 + model().minor;
        return CUDA_SUCCESS;
    default:
        return complain(CUDA_ERROR_INVALID_VALUE, "function attribute %d is not simulated",
                        attribute);
    }
}

CUresult cuOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, CUfunction function, int threads,
                                                     size_t dynamic)
{
    Call call(SAFE);
    CUresult r = find_function(call, function);
    if (r)
        return r;
    if (!blocks || threads <= 0)
        return CUDA_ERROR_INVALID_VALUE;
    int most = MAX_RESIDENT / threads, held = REGISTERS / (KERNEL_REGISTERS * threads);
    int shared = (int)(shared_per_multiprocessor() / (dynamic + SHARED_RESERVED));
    most = held < most ? held : most;
    most = shared < most ? shared : most;
    *blocks =
        dynamic > function->dynamic || (unsigned)threads > function->kernel->max_threads ? 0 : most;
    return CUDA_SUCCESS;
}

/* ---- Launches ---- */

CUresult cuLaunchKernel(CUfunction function, unsigned grid_x, unsigned grid_y, unsigned grid_z,
                        unsigned block_x, unsigned block_y, unsigned block_z, unsigned shared,
                        CUstream handle, void **params, void **extra)
{
    Call call(SAFE);
    CUstream stream = nullptr;
    CUresult r = find_function(call, function);
    if (!r)
        r = find_stream(call.context, handle, &stream);
    if (r)
        return r;
    if (function->module->context != call.context)
        return complain(CUDA_ERROR_INVALID_HANDLE, "the function is not of the current context");
    const Kernel *kernel = function->kernel;
    for (size_t i = 0; i < kernel->params.size(); i++)
        if (extra || !params || !params[i])
            return complain(CUDA_ERROR_INVALID_VALUE, "%s: no argument %zu", kernel->name, i);
    Launch l = {kernel, {grid_x, grid_y, grid_z}, {block_x, block_y, block_z}, shared, {}};
    r = check_launch(l, function);
    if (r)
        return r;
    for (size_t i = 0; i < kernel->params.size(); i++) {
        auto from = static_cast<const unsigned char *>(params[i]);
        l.args.insert(l.args.end(), from, from + kernel->params[i]);
    }
    return submit(stream, [l, function](std::string *report) {
        if (!valid(function, FUNCTION)) {
            *report = std::string(l.kernel->name) + ": its module was unloaded";
            return false;
        }
        if (execute(l, report))
            return true;
        *report +=
            " (grid " + std::to_string(l.grid[0]) + ", block " + std::to_string(l.block[0]) + ")";
        return false;
    });
}
