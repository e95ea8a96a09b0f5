/* SPDX-License-Identifier: MIT */
#include <string.h>

#include "device.h"

/* The name after cuda.h has renamed it. */
#define NAME(name)     NAME_OF(name)
#define NAME_OF(named) #named

/* The first function that is missing, or NULL. */
static const char *load(void *library, struct cuda_api *api)
{
    const char *missing = NULL;
    void *symbol;
#define X(name)                                                                                    \
    symbol = draft_library_symbol(library, NAME(name));                                            \
    memcpy(&api->name, &symbol, sizeof symbol);                                                    \
    if (!symbol && !missing)                                                                       \
        missing = NAME(name);
    DRAFT_CUDA_FUNCTIONS(X)
#undef X
#define X(name)                                                                                    \
    symbol = draft_library_symbol(library, NAME(name));                                            \
    memcpy(&api->name, &symbol, sizeof symbol);
    DRAFT_CUDA_OPTIONAL(X)
#undef X
    return missing;
}

/* A driver loads kernels of its own major version of CUDA and of older ones. */
static draft_status check_version(const struct draft_log *log, int version)
{
    if (version / 1000 >= CUDA_VERSION / 1000)
        return DRAFT_OK;
    draft_log(
        log, DRAFT_LOG_INFO,
        "cuda: the driver is too old: it serves CUDA %d.%d, this build's kernels are of %d.%d",
        version / 1000, version % 1000 / 10, CUDA_VERSION / 1000, CUDA_VERSION % 1000 / 10);
    return DRAFT_ERROR_NO_DEVICE;
}

static draft_status initialise(const struct draft_log *log, struct cuda_driver *driver)
{
    const struct cuda_api *api = &driver->api;
    const char *call = "cuInit", *name = NULL;
    CUresult result = api->cuInit(0);
    if (!result) {
        call = "cuDriverGetVersion";
        result = api->cuDriverGetVersion(&driver->version);
    }
    if (!result) {
        call = "cuDeviceGetCount";
        result = api->cuDeviceGetCount(&driver->devices);
    }
    if (!result)
        return check_version(log, driver->version);
    bool memory = result == CUDA_ERROR_OUT_OF_MEMORY;
    if (api->cuGetErrorName(result, &name) || !name)
        name = "an unknown error";
    draft_log(log, memory ? DRAFT_LOG_ERROR : DRAFT_LOG_INFO, "cuda: no device: %s gave %s (%d)",
              call, name, (int)result);
    return memory ? DRAFT_ERROR_MEMORY : DRAFT_ERROR_NO_DEVICE;
}

draft_status draft_cuda_driver_open(const struct draft_log *log, struct cuda_driver *out)
{
    /* The driver has threads and exit handlers of its own: once there it must stay. */
    static const struct draft_library driver = {"libcuda.so.1", "nvcuda.dll", true};
    char why[256];
    *out = (struct cuda_driver){.library = draft_library_open(&driver, why)};
    if (!out->library) {
        draft_log(log, DRAFT_LOG_INFO, "cuda: no driver: %s", why);
        return DRAFT_ERROR_NO_DEVICE;
    }
    draft_status status = DRAFT_ERROR_NO_DEVICE;
    const char *missing = load(out->library, &out->api);
    if (missing)
        draft_log(log, DRAFT_LOG_INFO, "cuda: the driver is too old: it has no %s", missing);
    else
        status = initialise(log, out);
    if (status)
        draft_cuda_driver_close(out);
    return status;
}

void draft_cuda_driver_close(struct cuda_driver *driver)
{
    if (driver->library)
        draft_library_close(driver->library);
    *driver = (struct cuda_driver){0};
}
