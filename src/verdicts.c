/* SPDX-License-Identifier: MIT
 *
 * What self-tests have found, so that each kernel is tested once with each driver. */
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "core.h"
#include "proof.h"

/* Raise it when the self-test changes, so that what an older one found no longer counts. */
enum { TEST_NUMBER = 2 };

enum verdict { UNKNOWN, RIGHT, WRONG, UNTESTED };

struct draft_proofs {
    pthread_mutex_t mutex; /* held during a test: others that want the same kernel wait for it */
    /* By row of attend's table, type - 1, dim / 8 - 1 (how many elements a row has decides how it is
     * loaded), and tail. */
    uint8_t verdicts[DRAFT_MOST_VARIANTS][3][DRAFT_MAX_DIM / 8][2];
};

struct draft_proofs *draft_proofs_create(void)
{
    struct draft_proofs *proofs = draft_calloc(1, sizeof *proofs);
    if (proofs)
        pthread_mutex_init(&proofs->mutex, NULL);
    return proofs;
}

void draft_proofs_destroy(struct draft_proofs *proofs)
{
    if (!proofs)
        return;
    pthread_mutex_destroy(&proofs->mutex);
    draft_release(proofs);
}

static const char *type_name(uint32_t type)
{
    return type == DRAFT_F16 ? "f16" : type == DRAFT_BF16 ? "bf16" : "f32";
}

/* ---- File: of one device, for one driver and one version of the library ---- */

struct record {
    char kernel[32];
    uint32_t type, dim, tail, wrong;
    uint64_t code; /* backend->fingerprint */
};

struct content {
    char device[sizeof((struct draft_device_info *)0)->name];
    char driver[sizeof((struct draft_device_info *)0)->driver];
    uint32_t version, test, count, reserved;
    struct record records[128]; /* the oldest go first */
};
enum { RECORDS = sizeof((struct content *)0)->records / sizeof(struct record) };

static const char magic[DRAFT_FILE_MAGIC] = {'d', 'r', 'a', 'f', 't', 'k', 'a', '1'};

enum { NAME_SIZE = 80 };

static void file_name(const struct draft_device_info *device, char name[NAME_SIZE])
{
    int used = snprintf(name, NAME_SIZE, "%s-", device->backend);
    for (size_t i = 0; i < sizeof device->uuid && used < NAME_SIZE - 12; i++)
        used += snprintf(name + used, (size_t)(NAME_SIZE - used), "%02x", device->uuid[i]);
    snprintf(name + used, (size_t)(NAME_SIZE - used), ".verdicts");
}

/* What the file holds; no records where it is of another driver or version, or there is none. */
static draft_status load_content(const draft_context *context, struct content *out)
{
    char name[NAME_SIZE];
    uint8_t *data;
    size_t size;
    struct content fresh = {.version = draft_version(), .test = TEST_NUMBER};
    memcpy(fresh.device, context->device.name, sizeof fresh.device);
    memcpy(fresh.driver, context->device.driver, sizeof fresh.driver);
    *out = fresh;
    file_name(&context->device, name);
    draft_status status = draft_file_load(&context->log, name, magic, &data, &size);
    if (status || !data)
        return status;
    const struct content *found = (const void *)data;
    if (size == sizeof *found && strncmp(found->device, fresh.device, sizeof fresh.device) == 0 &&
        strncmp(found->driver, fresh.driver, sizeof fresh.driver) == 0 &&
        found->version == fresh.version && found->test == fresh.test && found->count <= RECORDS)
        *out = *found;
    draft_release(data);
    return DRAFT_OK;
}

static struct record record_of(const struct draft_plan *plan)
{
    struct record record = {
        .type = plan->geometry.type,
        .dim = plan->geometry.dim,
        .tail = plan->geometry.tail != DRAFT_TAIL_DROP,
        .code = plan->context->backend->fingerprint(plan),
    };
    snprintf(record.kernel, sizeof record.kernel, "%s",
             plan->kernels[draft_stage_index(DRAFT_ATTEND)]);
    return record;
}

static struct record *find_record(struct content *content, const struct record *key)
{
    for (uint32_t i = 0; i < content->count; i++) {
        struct record *r = &content->records[i];
        if (strncmp(r->kernel, key->kernel, sizeof r->kernel) == 0 && r->type == key->type &&
            r->dim == key->dim && r->tail == key->tail && r->code == key->code)
            return r;
    }
    return NULL;
}

/* Into the file as it is now: another process may have added to it. */
static draft_status keep_record(const draft_context *context, const struct record *record)
{
    struct content content;
    char name[NAME_SIZE];
    draft_status status = load_content(context, &content);
    if (status)
        return status;
    struct record *at = find_record(&content, record);
    if (!at && content.count == RECORDS) {
        memmove(content.records, content.records + 1, (RECORDS - 1) * sizeof *content.records);
        content.count--;
    }
    if (!at)
        at = &content.records[content.count++];
    *at = *record;
    file_name(&context->device, name);
    draft_file_save(&context->log, name, magic, &content, sizeof content);
    return DRAFT_OK;
}

/* ---- The test ---- */

static struct draft_proof_params params_of(const struct record *key)
{
    return (struct draft_proof_params){(draft_type)key->type, key->dim, key->tail != 0};
}

/* The context has no queue of its own: another context on the same device has one. *ran: false
 * where there is none. */
static draft_status run_elsewhere(const draft_context *context, const struct record *key,
                                  struct draft_proof *proof, bool *ran)
{
    enum { MOST_DEVICES = 64 };
    const struct draft_backend *backend = context->backend;
    size_t count = 0, at = 0;
    struct draft_device_info *devices = draft_calloc(MOST_DEVICES, sizeof *devices);
    DRAFT_REQUIRE(&context->log, DRAFT_ERROR_MEMORY, devices, "out of host memory for a self-test");
    draft_status status = backend->devices(NULL, devices, MOST_DEVICES, &count);
    count = count < MOST_DEVICES ? count : MOST_DEVICES;
    while (at < count && memcmp(devices[at].uuid, context->device.uuid, sizeof devices->uuid) != 0)
        at++;
    bool found = !status && at < count;
    draft_context *own = NULL;
    struct draft_context_params params = {.backend = backend->name,
                                          .device = found ? devices[at].index : 0};
    struct draft_proof_params test = params_of(key);
    draft_release(devices);
    if (found)
        status = draft_context_create(&params, &own);
    if (own)
        status = draft_proof_run(own, key->kernel, &test, proof);
    draft_context_destroy(&own);
    *ran = found && !status;
    if (status == DRAFT_ERROR_MEMORY)
        draft_log(&context->log, DRAFT_LOG_ERROR, "out of memory for a self-test");
    return status == DRAFT_ERROR_MEMORY ? status : DRAFT_OK;
}

static const char *tail_name(const struct record *key)
{
    return key->tail ? ", tail" : "";
}

static void tell(const draft_context *context, const struct record *key,
                 const struct draft_proof *proof)
{
    const struct draft_device_info *device = &context->device;
    if (proof->wrong)
        draft_log(
            &context->log, DRAFT_LOG_WARN,
            "%s attend: %s computes wrongly on %s, driver %s: in the self-test (%s, dim %u%s) "
            "%s, an error of %.3g times what is allowed",
            context->backend->name, key->kernel, device->name, device->driver, type_name(key->type),
            key->dim, tail_name(key), proof->where, proof->worst);
    else
        draft_log(
            &context->log, DRAFT_LOG_DEBUG,
            "%s attend: %s has passed its self-test (%s, dim %u%s) in %.1f ms, with %.2g of the "
            "error that is allowed",
            context->backend->name, key->kernel, type_name(key->type), key->dim, tail_name(key),
            1e3 * proof->seconds, proof->worst);
}

static draft_status test(draft_context *context, struct record *key, enum verdict *out)
{
    struct draft_proof proof = {0};
    struct draft_proof_params params = params_of(key);
    bool ran = true;
    draft_status status = DRAFT_OK;
    if (context->backend->has_queue(context))
        status = draft_proof_run(context, key->kernel, &params, &proof);
    else
        status = run_elsewhere(context, key, &proof, &ran);
    if (status == DRAFT_ERROR_UNSUPPORTED) { /* the variant does not take the test's shape */
        ran = false;
        status = DRAFT_OK;
    }
    *out = UNTESTED;
    if (status || !ran)
        return status;
    tell(context, key, &proof);
    key->wrong = proof.wrong;
    *out = proof.wrong ? WRONG : RIGHT;
    return keep_record(context, key);
}

/* From the file, or by a test. */
static draft_status find_verdict(const struct draft_plan *plan, enum verdict *out)
{
    draft_context *context = plan->context;
    struct record key = record_of(plan);
    struct content content;
    draft_status status = load_content(context, &content);
    if (status)
        return status;
    const struct record *known = find_record(&content, &key);
    if (!known)
        return test(context, &key, out);
    *out = known->wrong ? WRONG : RIGHT;
    if (known->wrong)
        draft_log(&context->log, DRAFT_LOG_WARN,
                  "%s attend: %s has computed wrongly on %s, driver %s, in an earlier self-test "
                  "(%s, dim %u%s), as a file in the folder for caches says",
                  context->backend->name, key.kernel, context->device.name, context->device.driver,
                  type_name(key.type), key.dim, tail_name(&key));
    return DRAFT_OK;
}

draft_status draft_prove(const struct draft_plan *plan, struct draft_choice *choice)
{
    const struct draft_backend *backend = plan->context->backend;
    struct draft_proofs *proofs = plan->context->proofs;
    uint32_t variant = plan->variants[draft_stage_index(DRAFT_ATTEND)];
    draft_status status = DRAFT_OK;
    pthread_mutex_lock(&proofs->mutex);
    const struct draft_geometry *g = &plan->geometry;
    uint8_t *kept =
        &proofs->verdicts[variant][g->type - 1][g->dim / 8 - 1][g->tail != DRAFT_TAIL_DROP];
    enum verdict verdict = *kept;
    if (verdict == UNKNOWN)
        status = find_verdict(plan, &verdict);
    if (!status)
        *kept = (uint8_t)verdict;
    pthread_mutex_unlock(&proofs->mutex);
    if (status)
        return status;
    bool last = !backend->variants(DRAFT_ATTEND)[variant + 1];
    if (verdict == WRONG) {
        choice->wrong = true;
        choice->ruled_out[variant] = "it has failed its self-test";
    } else if (verdict == UNTESTED && !last) {
        choice->ruled_out[variant] = "its self-test cannot be run";
    }
    return DRAFT_OK;
}
