/* SPDX-License-Identifier: MIT */
#include <inttypes.h>

#include "device.h"

/* What draft_cuda_alloc gave, so that a copy that leaves it is noticed. */
struct cuda_allocation {
    CUdeviceptr address;
    uint64_t size;
    struct cuda_allocation *next;
};

void draft_cuda_memory_open(struct cuda_memory *out)
{
    pthread_mutex_init(&out->mutex, NULL);
    out->first = NULL;
}

void draft_cuda_memory_close(struct cuda_device *device, struct cuda_memory *memory, bool current)
{
    while (memory->first) {
        struct cuda_allocation *next = memory->first->next;
        if (current)
            device->driver.api.cuMemFree(memory->first->address);
        draft_release(memory->first);
        memory->first = next;
    }
    pthread_mutex_destroy(&memory->mutex);
}

draft_status draft_cuda_alloc(struct cuda_device *device, struct cuda_memory *memory, uint64_t size,
                              draft_address *out)
{
    if (size > device->physical.memory) { /* drivers round up, and some sums go round */
        draft_log(device->log, DRAFT_LOG_ERROR,
                  "cuda: %" PRIu64 " bytes asked for, the device has %" PRIu64, size,
                  device->physical.memory);
        return DRAFT_ERROR_MEMORY;
    }
    struct cuda_allocation *allocation =
        draft_cuda_calloc(device->log, 1, sizeof *allocation, "an allocation");
    if (!allocation)
        return DRAFT_ERROR_MEMORY;
    draft_status status = CUDA_CALL(device, cuMemAlloc, &allocation->address, size);
    if (status) {
        draft_log(device->log, DRAFT_LOG_ERROR, "cuda: no device memory for %" PRIu64 " bytes",
                  size);
        draft_release(allocation);
        return status;
    }
    allocation->size = size;
    pthread_mutex_lock(&memory->mutex);
    allocation->next = memory->first;
    memory->first = allocation;
    pthread_mutex_unlock(&memory->mutex);
    *out = allocation->address;
    return DRAFT_OK;
}

void draft_cuda_free(struct cuda_device *device, struct cuda_memory *memory, draft_address address)
{
    pthread_mutex_lock(&memory->mutex);
    struct cuda_allocation **at = &memory->first;
    while (*at && (*at)->address != address)
        at = &(*at)->next;
    struct cuda_allocation *found = *at;
    if (found)
        *at = found->next;
    pthread_mutex_unlock(&memory->mutex);
    if (found)
        (void)CUDA_CALL(device, cuMemFree, found->address);
    else
        draft_log(device->log, DRAFT_LOG_WARN, "cuda: %#" PRIx64 " to be freed was not allocated",
                  address);
    draft_release(found);
}

/* ---- Copies ---------------------------------------------------------------------------------- */

/* Does the range begin in an allocation of ours, and end outside? */
static bool leaves(struct cuda_memory *memory, uint64_t address, uint64_t size)
{
    pthread_mutex_lock(&memory->mutex);
    const struct cuda_allocation *at = memory->first;
    while (at && !(address >= at->address && address - at->address < at->size))
        at = at->next;
    bool outside = at && size > at->size - (address - at->address);
    pthread_mutex_unlock(&memory->mutex);
    return outside;
}

static draft_status check_copy(struct cuda_device *device, struct cuda_memory *memory,
                               uint64_t address, uint64_t size, const char *what)
{
    if (!leaves(memory, address, size))
        return draft_cuda_not_capturing(device, what);
    draft_log(device->log, DRAFT_LOG_ERROR,
              "cuda: %" PRIu64 " bytes at %#" PRIx64 " do not lie within one allocation", size,
              address);
    return DRAFT_ERROR_ARGUMENT;
}

draft_status draft_cuda_write(struct cuda_device *device, struct cuda_memory *memory,
                              draft_address to, const void *from, uint64_t size)
{
    draft_status status = check_copy(device, memory, to, size, "draft_write");
    if (!status)
        status = CUDA_CALL(device, cuMemcpyHtoDAsync, to, from, size, device->stream);
    return status ? status : draft_cuda_synchronise(device);
}

draft_status draft_cuda_read(struct cuda_device *device, struct cuda_memory *memory, void *to,
                             draft_address from, uint64_t size)
{
    draft_status status = check_copy(device, memory, from, size, "draft_read");
    if (!status)
        status = CUDA_CALL(device, cuMemcpyDtoHAsync, to, from, size, device->stream);
    return status ? status : draft_cuda_synchronise(device);
}
