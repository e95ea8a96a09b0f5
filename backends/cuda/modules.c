/* SPDX-License-Identifier: MIT */
#include <inttypes.h>

#include "device.h"

void draft_cuda_modules_open(struct cuda_modules *out)
{
    pthread_mutex_init(&out->mutex, NULL);
    for (unsigned i = 0; i < CUDA_MODULES; i++)
        out->loaded[i] = NULL;
}

void draft_cuda_modules_close(struct cuda_device *device, struct cuda_modules *modules,
                              bool current)
{
    for (unsigned i = 0; i < CUDA_MODULES && current; i++)
        if (modules->loaded[i])
            device->driver.api.cuModuleUnload(modules->loaded[i]);
    pthread_mutex_destroy(&modules->mutex);
}

/* With the mutex held: two plans that want the same module at once load it once. */
static draft_status load_once(struct cuda_device *device, CUmodule *slot, enum cuda_module module)
{
    if (*slot)
        return DRAFT_OK;
    CUmodule loaded;
    draft_status status = CUDA_CALL(device, cuModuleLoadData, &loaded, draft_cuda_image(module));
    if (!status)
        *slot = loaded;
    else if (status == DRAFT_ERROR_UNSUPPORTED)
        draft_log(device->log, DRAFT_LOG_ERROR,
                  "cuda: this build's kernels, of CUDA %d.%d, do not fit compute capability %d.%d "
                  "with a driver of CUDA %d.%d",
                  CUDA_VERSION / 1000, CUDA_VERSION % 1000 / 10, device->physical.caps.major,
                  device->physical.caps.minor, device->driver.version / 1000,
                  device->driver.version % 1000 / 10);
    return status;
}

static draft_status get_module(struct cuda_device *device, struct cuda_modules *modules,
                               enum cuda_module module, CUmodule *out)
{
    pthread_mutex_lock(&modules->mutex);
    draft_status status = load_once(device, &modules->loaded[module], module);
    *out = modules->loaded[module];
    pthread_mutex_unlock(&modules->mutex);
    return status;
}

/* Does the kernel take as many threads and as much shared memory as the launch will ask for? The
 * question about threads also makes a driver that loads kernels late load this one now. */
static draft_status prepare_kernel(struct cuda_device *device, const struct cuda_pass *pass,
                                   CUfunction function)
{
    enum { WITHOUT_ASKING = 48 << 10 }; /* bytes that any thread block may have */
    int threads = 0, fixed = 0;
    draft_status status = CUDA_CALL(device, cuFuncGetAttribute, &threads,
                                    CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK, function);
    if (!status)
        status = CUDA_CALL(device, cuFuncGetAttribute, &fixed, CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES,
                           function);
    if (status)
        return status;
    if ((uint32_t)threads < pass->threads) {
        draft_log(device->log, DRAFT_LOG_ERROR,
                  "cuda: %s runs with at most %d threads here, %" PRIu32 " are needed",
                  pass->kernel, threads, pass->threads);
        return DRAFT_ERROR_UNSUPPORTED;
    }
    if ((uint64_t)fixed + pass->shared > device->physical.caps.shared) {
        draft_log(device->log, DRAFT_LOG_ERROR,
                  "cuda: %s needs %d + %" PRIu32 " bytes of shared memory, the device has %" PRIu32,
                  pass->kernel, fixed, pass->shared, device->physical.caps.shared);
        return DRAFT_ERROR_UNSUPPORTED;
    }
    if ((uint32_t)fixed + pass->shared <= WITHOUT_ASKING)
        return DRAFT_OK;
    return CUDA_CALL(device, cuFuncSetAttribute, function,
                     CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, (int)pass->shared);
}

draft_status draft_cuda_modules_step(struct cuda_device *device, struct cuda_modules *modules,
                                     const struct cuda_pass *pass, struct cuda_step *out)
{
    CUmodule module;
    CUfunction function;
    draft_status status = get_module(device, modules, pass->module, &module);
    if (!status)
        status = CUDA_CALL(device, cuModuleGetFunction, &function, module, pass->kernel);
    if (!status)
        status = prepare_kernel(device, pass, function);
    if (status)
        return status;
    out->function = function;
    out->first = pass->first;
    out->step = pass->step;
    out->threads = pass->threads;
    out->shared = pass->shared;
    out->maps = pass->maps;
    return DRAFT_OK;
}
