/* SPDX-License-Identifier: MIT */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "core.h"
#include "proof.h"

#define DRAFT_BACKEND(name) extern const struct draft_backend draft_backend_##name;
#include "backends.inc"
#undef DRAFT_BACKEND

/* Best first. */
static const struct draft_backend *const backends[] = {
#define DRAFT_BACKEND(name) &draft_backend_##name,
#include "backends.inc"
#undef DRAFT_BACKEND
};
enum { BACKENDS = sizeof backends / sizeof *backends };

uint32_t draft_version(void)
{
    return DRAFT_VERSION_MAJOR << 16 | DRAFT_VERSION_MINOR << 8 | DRAFT_VERSION_PATCH;
}

/* ---- Devices ------------------------------------------------------------------------------- */

/* All devices of all backends, or of the one called `name`. */
static draft_status list_devices(const struct draft_log *log, const char *name,
                                 struct draft_device_info *out, size_t capacity, size_t *count)
{
    *count = 0;
    for (size_t i = 0; i < BACKENDS; i++) {
        if (name && strcmp(name, backends[i]->name) != 0)
            continue;
        draft_status status = backends[i]->devices(log, out, capacity, count);
        if (status)
            return status;
    }
    return DRAFT_OK;
}

draft_status draft_devices(const struct draft_log *log, struct draft_device_info *out,
                           size_t *count)
{
    DRAFT_REQUIRE(log, DRAFT_ERROR_ARGUMENT, count, "count is NULL");
    DRAFT_REQUIRE(log, DRAFT_ERROR_ARGUMENT, out || *count == 0, "out is NULL and *count is %zu",
                  *count);
    size_t found = 0;
    draft_status status = list_devices(log, NULL, out, *count, &found);
    if (!status)
        *count = found;
    return status;
}

/* ---- Choice of a device -------------------------------------------------------------------- */

const struct draft_backend *draft_backend_find(const char *name)
{
    for (size_t i = 0; i < BACKENDS; i++)
        if (strcmp(name, backends[i]->name) == 0)
            return backends[i];
    return NULL;
}

static bool contains(const char *text, const char *part)
{
    size_t length = strlen(part);
    for (; *text; text++) {
        size_t i = 0;
        while (i < length && tolower((unsigned char)text[i]) == tolower((unsigned char)part[i]))
            i++;
        if (i == length)
            return true;
    }
    return length == 0;
}

/* Is this the device that the parameters ask for? `named`: the backend was asked for by name. */
static bool wanted(const struct draft_device_info *device,
                   const struct draft_context_params *params, bool named)
{
    if (params->device_name)
        return contains(device->name, params->device_name);
    if (device->index != params->device)
        return false;
    /* Software devices serve tests; nobody who did not ask for one wants it before the CPU. */
    return named || !device->software || strcmp(device->backend, "cpu") == 0;
}

static draft_status pick(const struct draft_log *log, const struct draft_context_params *params,
                         const char *name, const struct draft_device_info *devices, size_t count,
                         struct draft_device_info *out)
{
    for (size_t i = 0; i < count; i++)
        if (wanted(&devices[i], params, name != NULL)) {
            *out = devices[i];
            return DRAFT_OK;
        }
    if (params->device_name)
        draft_log(log, DRAFT_LOG_ERROR, "no device of %s has \"%s\" in its name (%zu looked at)",
                  name ? name : "any backend", params->device_name, count);
    else
        draft_log(log, DRAFT_LOG_ERROR, "no device %u of %s (%zu found)", params->device,
                  name ? name : "any backend", count);
    return DRAFT_ERROR_NO_DEVICE;
}

static draft_status choose_device(const struct draft_log *log,
                                  const struct draft_context_params *params,
                                  struct draft_device_info *out)
{
    const char *name = params->backend ? params->backend : getenv("DRAFT_BACKEND");
    if (name && !*name)
        name = NULL;
    DRAFT_REQUIRE(log, DRAFT_ERROR_NO_DEVICE, !name || draft_backend_find(name),
                  "this build has no backend called \"%s\"", name);
    size_t count, capacity;
    draft_status status = list_devices(NULL, name, NULL, 0, &capacity);
    DRAFT_REQUIRE(log, status, !status, "the devices cannot be listed: %s",
                  draft_status_name(status));
    struct draft_device_info *devices = draft_calloc(capacity + 1, sizeof *devices);
    DRAFT_REQUIRE(log, DRAFT_ERROR_MEMORY, devices, "out of host memory for %zu devices", capacity);
    status = list_devices(log, name, devices, capacity, &count);
    if (!status)
        status = pick(log, params, name, devices, count < capacity ? count : capacity, out);
    draft_release(devices);
    return status;
}

/* The caller's own: only the backend that opens it can say which device that is. */
static draft_status adopt_device(const struct draft_log *log,
                                 const struct draft_context_params *params,
                                 struct draft_device_info *out)
{
    DRAFT_REQUIRE(log, DRAFT_ERROR_ARGUMENT, params->backend,
                  "native is given, but no backend: it says what native points to");
    const struct draft_backend *backend = draft_backend_find(params->backend);
    DRAFT_REQUIRE(log, DRAFT_ERROR_NO_DEVICE, backend, "this build has no backend called \"%s\"",
                  params->backend);
    DRAFT_REQUIRE(log, DRAFT_ERROR_UNSUPPORTED, backend->adopts,
                  "native must be NULL: backend \"%s\" brings its own device", backend->name);
    *out = (struct draft_device_info){.backend = backend->name};
    return DRAFT_OK;
}

/* ---- Create and destroy -------------------------------------------------------------------- */

static draft_status open_backend(draft_context *context, const struct draft_context_params *params)
{
    if (context->backend->fingerprint) {
        context->proofs = draft_proofs_create();
        DRAFT_REQUIRE(&context->log, DRAFT_ERROR_MEMORY, context->proofs,
                      "out of host memory for a context");
    }
    return context->backend->open(context, params);
}

draft_status draft_context_create(const struct draft_context_params *given, draft_context **out)
{
    static const struct draft_context_params defaults;
    struct draft_context_params params = given ? *given : defaults;
    const struct draft_log *log = &params.log;
    DRAFT_REQUIRE(log, DRAFT_ERROR_ARGUMENT, out, "out is NULL");
    struct draft_device_info device;
    draft_status status =
        params.native ? adopt_device(log, &params, &device) : choose_device(log, &params, &device);
    if (status)
        return status;
    draft_context *context = draft_calloc(1, sizeof *context);
    DRAFT_REQUIRE(log, DRAFT_ERROR_MEMORY, context, "out of host memory for a context");
    context->backend = draft_backend_find(device.backend);
    context->log = params.log;
    context->device = device;
    context->adopted = params.native != NULL;
    params.device = device.index;
    status = open_backend(context, &params);
    if (status) {
        draft_proofs_destroy(context->proofs);
        draft_release(context);
        return status;
    }
    draft_log(log, DRAFT_LOG_INFO, "using %s device %u, %s%s", context->device.backend,
              context->device.index, context->device.name, params.native ? ", of the caller" : "");
    *out = context;
    return DRAFT_OK;
}

void draft_context_destroy(draft_context **context)
{
    if (!context || !*context)
        return;
    (*context)->backend->close(*context);
    draft_proofs_destroy((*context)->proofs);
    draft_release(*context);
    *context = NULL;
}

void draft_context_device(const draft_context *context, struct draft_device_info *out)
{
    *out = context->device;
}

/* ---- Memory -------------------------------------------------------------------------------- */

#define REQUIRE(condition, ...)                                                                    \
    DRAFT_REQUIRE(&context->log, DRAFT_ERROR_ARGUMENT, condition, __VA_ARGS__)

draft_status draft_alloc(draft_context *context, size_t size, draft_address *out)
{
    if (!context)
        return DRAFT_ERROR_ARGUMENT;
    REQUIRE(out, "out is NULL");
    REQUIRE(size, "size is 0");
    return context->backend->alloc(context, size, out);
}

void draft_free(draft_context *context, draft_address address)
{
    if (context && address)
        context->backend->free(context, address);
}

draft_status draft_write(draft_context *context, draft_address to, const void *from, size_t size)
{
    if (!context)
        return DRAFT_ERROR_ARGUMENT;
    REQUIRE(size == 0 || (to && from), "to or from is 0");
    return size ? context->backend->write(context, to, from, size) : DRAFT_OK;
}

draft_status draft_read(draft_context *context, void *to, draft_address from, size_t size)
{
    if (!context)
        return DRAFT_ERROR_ARGUMENT;
    REQUIRE(size == 0 || (to && from), "to or from is 0");
    return size ? context->backend->read(context, to, from, size) : DRAFT_OK;
}

draft_status draft_wait(draft_context *context)
{
    return context ? context->backend->wait(context) : DRAFT_ERROR_ARGUMENT;
}
