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
enum { TEST_NUMBER = 3 };

enum verdict { UNKNOWN, RIGHT, WRONG, UNTESTED };

/* What is known of the code that a variant of a stage runs in plans of a kind. */
struct record {
    char kernel[32];
    uint32_t stage;         /* bit                                                            */
    struct draft_kind kind; /* what the stage looks at: draft_kind_of */
    uint32_t verdict;
    uint64_t code; /* backend->fingerprint; 0: not asked for */
};

struct records {
    uint32_t count, reserved;
    struct record of[512]; /* the oldest go first */
};
enum { RECORDS = sizeof((struct records *)0)->of / sizeof(struct record) };

struct draft_proofs {
    pthread_mutex_t mutex; /* held during a test: others that want the same kernel wait for it */
    struct records known;  /* by this context, whose code is always the same                    */
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

/* ---- Records ---- */

static struct draft_kind kind_of(const struct draft_plan *plan)
{
    const struct draft_geometry *g = &plan->geometry;
    return (struct draft_kind){g->type, g->dim,  g->scorer,
                               g->tail, g->rule, (g->force & DRAFT_FORCED_FLOOR) != 0};
}

/* Of the variant that a plan has of a stage. */
static struct record record_of(const struct draft_plan *plan, unsigned index)
{
    const struct draft_kind kind = kind_of(plan);
    struct record record = {.stage = 1u << index};
    record.kind = draft_kind_of(&kind, (draft_stage)record.stage);
    snprintf(record.kernel, sizeof record.kernel, "%s", plan->kernels[index]);
    return record;
}

static struct record *find_record(struct records *records, const struct record *key)
{
    for (uint32_t i = 0; i < records->count; i++) {
        struct record *r = &records->of[i];
        if (strncmp(r->kernel, key->kernel, sizeof r->kernel) == 0 && r->stage == key->stage &&
            memcmp(&r->kind, &key->kind, sizeof r->kind) == 0 &&
            (key->code == 0 || r->code == key->code))
            return r;
    }
    return NULL;
}

static void add_record(struct records *records, const struct record *record)
{
    struct record *at = find_record(records, record);
    if (!at && records->count == RECORDS) {
        memmove(records->of, records->of + 1, (RECORDS - 1) * sizeof *records->of);
        records->count--;
    }
    if (!at)
        at = &records->of[records->count++];
    *at = *record;
}

/* ---- File: of one device, for one driver and one version of the library ---- */

struct content {
    char device[sizeof((struct draft_device_info *)0)->name];
    char driver[sizeof((struct draft_device_info *)0)->driver];
    uint32_t version, test;
    struct records records;
};

static const char magic[DRAFT_FILE_MAGIC] = {'d', 'r', 'a', 'f', 't', 'k', 'a', '1'};

enum { NAME_SIZE = 80 };

static void file_name(const struct draft_device_info *device, char name[NAME_SIZE])
{
    int used = snprintf(name, NAME_SIZE, "%s-", device->backend);
    for (size_t i = 0; i < sizeof device->uuid && used < NAME_SIZE - 12; i++)
        used += snprintf(name + used, (size_t)(NAME_SIZE - used), "%02x", device->uuid[i]);
    snprintf(name + used, (size_t)(NAME_SIZE - used), ".verdicts");
}

static bool fits(const struct content *found, size_t size, const struct draft_device_info *device)
{
    return size == sizeof *found &&
           strncmp(found->device, device->name, sizeof found->device) == 0 &&
           strncmp(found->driver, device->driver, sizeof found->driver) == 0 &&
           found->version == draft_version() && found->test == TEST_NUMBER &&
           found->records.count <= RECORDS;
}

/* What the file holds, of draft_calloc; no records where it is of another driver or version, or
 * there is none. */
static draft_status load_content(const draft_context *context, struct content **out)
{
    const struct draft_device_info *device = &context->device;
    char name[NAME_SIZE];
    uint8_t *data;
    size_t size;
    file_name(device, name);
    draft_status status = draft_file_load(&context->log, name, magic, &data, &size);
    if (status)
        return status;
    *out = (void *)data;
    if (data && fits(*out, size, device))
        return DRAFT_OK;
    draft_release(data);
    *out = draft_calloc(1, sizeof **out);
    DRAFT_REQUIRE(&context->log, DRAFT_ERROR_MEMORY, *out, "out of host memory for a self-test");
    memcpy((*out)->device, device->name, sizeof(*out)->device);
    memcpy((*out)->driver, device->driver, sizeof(*out)->driver);
    (*out)->version = draft_version();
    (*out)->test = TEST_NUMBER;
    return DRAFT_OK;
}

/* Into the file as it is now: another process may have added to it. */
static draft_status keep_records(const draft_context *context,
                                 const struct record records[DRAFT_STAGES], uint32_t stages)
{
    struct content *content;
    char name[NAME_SIZE];
    draft_status status = load_content(context, &content);
    if (status)
        return status;
    for (unsigned s = 0; s < DRAFT_STAGES; s++)
        if (stages & 1u << s)
            add_record(&content->records, &records[s]);
    file_name(&context->device, name);
    draft_file_save(&context->log, name, magic, content, sizeof *content);
    draft_release(content);
    return DRAFT_OK;
}

/* ---- What is told ---- */

/* "bf16, dim 64, scorer EXCESS, tail MEAN", "rule HEAD with a floor, pooled keys" */
static void describe(const struct record *r, char *out, size_t size)
{
    static const char *const types[] = {"", "f16", "bf16", "f32"};
    static const char *const scorers[] = {"", "MEAN", "LSE", "MAX", "EXCESS"};
    static const char *const tails[] = {"", "DROP", "MEAN", "GAP", "FITTED"};
    static const char *const rules[] = {"", "HEAD", "ROW", "MASS", "PAPER"};
    const struct draft_kind *k = &r->kind;
    const char *pooled = k->tail == DRAFT_TAIL_DROP ? "" : ", pooled keys";
    if (r->stage == DRAFT_SELECT)
        snprintf(out, size, "rule %s%s%s", rules[k->rule], k->floor ? " with a floor" : "", pooled);
    else if (r->stage == DRAFT_ATTEND)
        snprintf(out, size, "%s, dim %u%s", types[k->type], k->dim, pooled);
    else
        snprintf(out, size, "%s, dim %u, scorer %s, tail %s", types[k->type], k->dim,
                 scorers[k->scorer], tails[k->tail]);
}

static void tell(const draft_context *context, const struct record *r,
                 const struct draft_proof *proof)
{
    const struct draft_device_info *device = &context->device;
    const char *stage = draft_stage_name((draft_stage)r->stage);
    char kind[80];
    describe(r, kind, sizeof kind);
    if (proof->wrong)
        draft_log(&context->log, DRAFT_LOG_WARN,
                  "%s %s: %s computes wrongly on %s, driver %s: in the self-test (%s) %s, an error "
                  "of %.3g times what is allowed",
                  context->backend->name, stage, r->kernel, device->name, device->driver, kind,
                  proof->where, proof->worst);
    else
        draft_log(&context->log, DRAFT_LOG_DEBUG,
                  "%s %s: %s has passed its self-test (%s) in %.1f ms, with %.2g of the error that "
                  "is allowed",
                  context->backend->name, stage, r->kernel, kind, 1e3 * proof->seconds,
                  proof->worst);
}

static void tell_earlier(const draft_context *context, const struct record *r)
{
    char kind[80];
    describe(r, kind, sizeof kind);
    draft_log(&context->log, DRAFT_LOG_WARN,
              "%s %s: %s has computed wrongly on %s, driver %s, in an earlier self-test (%s), as a "
              "file in the folder for caches says",
              context->backend->name, draft_stage_name((draft_stage)r->stage), r->kernel,
              context->device.name, context->device.driver, kind);
}

/* ---- The test ---- */

/* The context has no queue of its own: another context on the same device has one. Nothing has run
 * where there is none. */
static draft_status run_elsewhere(const struct draft_plan *plan, const struct draft_kind *kind,
                                  uint32_t stages, struct draft_proof proofs[DRAFT_STAGES])
{
    enum { MOST_DEVICES = 64 };
    const draft_context *context = plan->context;
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
    draft_release(devices);
    if (found)
        status = draft_context_create(&params, &own);
    if (own)
        status = draft_proof_run(own, plan->kernels, kind, stages, proofs);
    draft_context_destroy(&own);
    if (!status)
        return DRAFT_OK;
    memset(proofs, 0, DRAFT_STAGES * sizeof *proofs);
    if (status != DRAFT_ERROR_MEMORY)
        return DRAFT_OK;
    draft_log(&context->log, DRAFT_LOG_ERROR, "out of memory for a self-test");
    return status;
}

/* Tests `stages`: sets their records' verdicts. */
static draft_status test(const struct draft_plan *plan, uint32_t stages,
                         struct record records[DRAFT_STAGES])
{
    draft_context *context = plan->context;
    const struct draft_kind kind = kind_of(plan);
    struct draft_proof proofs[DRAFT_STAGES] = {{0}};
    draft_status status = context->backend->has_queue(context)
                              ? draft_proof_run(context, plan->kernels, &kind, stages, proofs)
                              : run_elsewhere(plan, &kind, stages, proofs);
    uint32_t ran = 0;
    for (unsigned s = 0; s < DRAFT_STAGES && !status; s++) {
        if (!(stages & 1u << s))
            continue;
        records[s].verdict = !proofs[s].ran ? UNTESTED : proofs[s].wrong ? WRONG : RIGHT;
        if (!proofs[s].ran)
            continue;
        tell(context, &records[s], &proofs[s]);
        ran |= 1u << s;
    }
    return ran ? keep_records(context, records, ran) : status;
}

/* From the file, or by a test: the verdicts of `stages`. */
static draft_status find_verdicts(const struct draft_plan *plan, uint32_t stages,
                                  struct record records[DRAFT_STAGES])
{
    struct content *content;
    draft_status status = load_content(plan->context, &content);
    if (status)
        return status;
    uint32_t unknown = stages;
    for (unsigned s = 0; s < DRAFT_STAGES; s++) {
        if (!(stages & 1u << s))
            continue;
        records[s].code = plan->context->backend->fingerprint(plan, (draft_stage)(1 << s));
        const struct record *found = find_record(&content->records, &records[s]);
        if (!found)
            continue;
        unknown &= ~(1u << s);
        records[s].verdict = found->verdict;
        if (found->verdict == WRONG)
            tell_earlier(plan->context, &records[s]);
    }
    draft_release(content);
    return unknown ? test(plan, unknown, records) : DRAFT_OK;
}

/* What this context knows, and what it can find out. */
static draft_status learn(const struct draft_plan *plan, struct record records[DRAFT_STAGES])
{
    struct records *known = &plan->context->proofs->known;
    uint32_t unknown = 0;
    for (unsigned s = 0; s < DRAFT_STAGES; s++) {
        records[s] = record_of(plan, s);
        const struct record *found = find_record(known, &records[s]);
        if (found)
            records[s] = *found;
        else
            unknown |= 1u << s;
    }
    draft_status status = unknown ? find_verdicts(plan, unknown, records) : DRAFT_OK;
    for (unsigned s = 0; s < DRAFT_STAGES && !status; s++)
        if (unknown & 1u << s)
            add_record(known, &records[s]);
    return status;
}

draft_status draft_prove(const struct draft_plan *plan, struct draft_choice *choice)
{
    struct record records[DRAFT_STAGES];
    struct draft_proofs *proofs = plan->context->proofs;
    pthread_mutex_lock(&proofs->mutex);
    draft_status status = learn(plan, records);
    pthread_mutex_unlock(&proofs->mutex);
    for (unsigned s = 0; s < DRAFT_STAGES && !status; s++) {
        const char *const *names = plan->context->backend->variants((draft_stage)(1 << s));
        bool last = !names[plan->variants[s] + 1];
        if (records[s].verdict == WRONG) {
            choice->wrong[s] = true;
            draft_rule_out(plan, choice, s, "it has failed its self-test");
        } else if (records[s].verdict == UNTESTED && !last) {
            draft_rule_out(plan, choice, s, "its self-test cannot be run");
        }
    }
    return status;
}
