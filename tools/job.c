/* SPDX-License-Identifier: MIT */
#include "job.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "program.h"

const char *const job_stage_names[JOB_STAGES] = {"pool", "score", "select", "attend"};
const char *const job_type_names[] = {"f16", "bf16", "f32", NULL};
const char *const job_rule_names[] = {"default", "head", "row", "mass", "paper", NULL};
const char *const job_force_names[] = {"not-self", "first-frame", "neighbours", NULL};
const char *const job_scorer_names[] = {"default", "mean", "lse", "max", "excess", NULL};
const char *const job_tail_names[] = {"default", "drop", "mean", "gap", "fitted", NULL};

/* ---- Buffers ------------------------------------------------------------------------------ */

bool job_sizes(const struct draft_shape *s, struct job_sizes *out)
{
    uint64_t video, q, kv;
    struct job_sizes sizes = {.batch = s->batch ? s->batch : 1,
                              .kv_heads = s->kv_heads ? s->kv_heads : s->heads};
    if (__builtin_mul_overflow((uint64_t)s->frames * s->height, (uint64_t)s->width, &video) ||
        __builtin_add_overflow(video, (uint64_t)s->prefix + s->suffix, &sizes.tokens) ||
        __builtin_mul_overflow(sizes.tokens, sizes.batch, &sizes.lse) ||
        __builtin_mul_overflow(sizes.lse, sizes.kv_heads, &kv) ||
        __builtin_mul_overflow(sizes.lse, (uint64_t)s->heads, &sizes.lse) ||
        __builtin_mul_overflow(sizes.lse, (uint64_t)s->dim, &q) ||
        __builtin_mul_overflow(kv, (uint64_t)s->dim, &sizes.kv) || q >> 60 || sizes.kv >> 60)
        return false;
    sizes.q = q;
    *out = sizes;
    return true;
}

/* Memory on the device; owned says where destroy finds it. */
static draft_status allocate(struct job_buffers *b, size_t size, draft_address *out)
{
    draft_status status = draft_alloc(b->context, size, out);
    for (unsigned i = 0; status == DRAFT_OK && i < sizeof b->owned / sizeof *b->owned; i++) {
        if (!b->owned[i]) {
            b->owned[i] = *out;
            break;
        }
    }
    return status;
}

/* Host memory as the device sees it: where it lies, or a copy. */
static draft_status bring(struct job_buffers *b, const void *from, size_t size, draft_address *out)
{
    struct draft_device_info info;
    draft_context_device(b->context, &info);
    if (strcmp(info.backend, "cpu") == 0 && (uintptr_t)from % 16 == 0) {
        *out = (draft_address)(uintptr_t)from;
        return DRAFT_OK;
    }
    draft_status status = allocate(b, size, out);
    return status == DRAFT_OK ? draft_write(b->context, *out, from, size) : status;
}

draft_status job_buffers_create(draft_context *context, const struct draft_shape *shape,
                                draft_type type, const void *q, const void *k, const void *v,
                                const uint32_t *valid, struct job_buffers *out)
{
    struct job_buffers b = {.context = context, .type = type};
    if (!job_sizes(shape, &b.sizes)) {
        program_error("the shape is larger than memory can be");
        return DRAFT_ERROR_ARGUMENT;
    }
    size_t q_bytes = b.sizes.q * job_type_size(type), kv_bytes = b.sizes.kv * job_type_size(type);
    draft_status status = bring(&b, q, q_bytes, &b.q);
    if (status == DRAFT_OK)
        status = bring(&b, k, kv_bytes, &b.k);
    if (status == DRAFT_OK)
        status = bring(&b, v, kv_bytes, &b.v);
    if (status == DRAFT_OK)
        status = allocate(&b, q_bytes, &b.out);
    if (status == DRAFT_OK)
        status = allocate(&b, b.sizes.lse * sizeof(float), &b.lse);
    if (status == DRAFT_OK && valid)
        status = bring(&b, valid, b.sizes.batch * 2 * sizeof *valid, &b.valid);
    if (status == DRAFT_OK)
        *out = b;
    else
        job_buffers_destroy(&b);
    return status;
}

void job_buffers_destroy(struct job_buffers *b)
{
    for (unsigned i = 0; i < sizeof b->owned / sizeof *b->owned; i++)
        if (b->owned[i])
            draft_free(b->context, b->owned[i]);
    *b = (struct job_buffers){0};
}

draft_status job_buffers_read(const struct job_buffers *b, void *out, float *lse)
{
    draft_status status = DRAFT_OK;
    if (out)
        status = draft_read(b->context, out, b->out, b->sizes.q * job_type_size(b->type));
    if (status == DRAFT_OK && lse)
        status = draft_read(b->context, lse, b->lse, b->sizes.lse * sizeof *lse);
    return status;
}

/* ---- Plan and runs ------------------------------------------------------------------------ */

draft_status job_create(draft_context *context, const struct draft_plan_params *params,
                        struct job *out)
{
    struct job job = {.context = context, .stages = (1u << JOB_STAGES) - 1};
    draft_status status = draft_plan_create(context, params, &job.plan);
    if (status != DRAFT_OK)
        return status;
    draft_plan_layout(job.plan, &job.layout);
    status = draft_alloc(context, job.layout.size, &job.workspace);
    if (status == DRAFT_OK && params->tail == DRAFT_TAIL_FITTED)
        status = draft_factors_write(job.plan, job.workspace, NULL);
    if (status == DRAFT_OK)
        *out = job;
    else
        job_destroy(&job);
    return status;
}

void job_destroy(struct job *job)
{
    if (job->workspace)
        draft_free(job->context, job->workspace);
    draft_plan_destroy(&job->plan);
    *job = (struct job){0};
}

draft_status job_run_stage(const struct job *job, const struct job_buffers *b, unsigned stage,
                           double *seconds)
{
    struct draft_run_params params = {.q.data = b->q,
                                      .k.data = b->k,
                                      .v.data = b->v,
                                      .out.data = b->out,
                                      .lse = b->lse,
                                      .workspace = job->workspace,
                                      .valid = b->valid,
                                      .stages = 1u << stage,
                                      .flags = job->flags};
    double start = program_now();
    draft_status status = draft_run(job->plan, &params);
    if (status == DRAFT_OK)
        status = draft_wait(job->context);
    if (seconds)
        *seconds = program_now() - start;
    return status;
}

draft_status job_kept_lse(struct job *job, const struct job_buffers *buffers, float *lse)
{
    if (job->layout.tail == DRAFT_TAIL_DROP)
        return DRAFT_OK;
    job->flags = DRAFT_RUN_KEPT_ONLY;
    draft_status status = job_run_stage(job, buffers, JOB_STAGES - 1, NULL);
    job->flags = 0;
    return status == DRAFT_OK ? job_buffers_read(buffers, NULL, lse) : status;
}

draft_status job_run(const struct job *job, const struct job_buffers *buffers,
                     struct job_times *times)
{
    draft_status status = DRAFT_OK;
    for (unsigned s = 0; status == DRAFT_OK && s < JOB_STAGES; s++)
        status = job_run_stage(job, buffers, s, times ? &times->stage[s] : NULL);
    return status;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double job_median(double *values, size_t n)
{
    qsort(values, n, sizeof *values, by_value);
    return n % 2 ? values[n / 2] : 0.5 * (values[n / 2 - 1] + values[n / 2]);
}

uint64_t job_steps(uint32_t repeat)
{
    return (uint64_t)JOB_STAGES * (repeat > 1 ? (uint64_t)repeat + 1 : 1);
}

draft_status job_measure(const struct job *job, const struct job_buffers *buffers, uint32_t repeat,
                         struct program_progress *progress, uint64_t *done,
                         struct job_timing *timing)
{
    draft_status status = DRAFT_OK;
    uint32_t runs = repeat > 1 ? repeat + 1 : 1, counted = repeat > 1 ? repeat : 1;
    double *seconds = program_calloc((size_t)JOB_STAGES * runs, sizeof *seconds);
    for (uint32_t r = 0; r < runs; r++) {
        for (unsigned s = 0; s < JOB_STAGES && status == DRAFT_OK; s++) {
            if (!(job->stages >> s & 1))
                continue;
            if (progress)
                program_progress_set(progress, (*done)++, job_stage_names[s]);
            status = job_run_stage(job, buffers, s, &seconds[(size_t)s * runs + r]);
        }
    }
    for (unsigned s = 0; s < JOB_STAGES && status == DRAFT_OK; s++) {
        if (!(job->stages >> s & 1))
            continue;
        double *of_stage = seconds + (size_t)s * runs + (runs - counted);
        timing->median[s] = job_median(of_stage, counted);
        timing->least[s] = of_stage[0];
    }
    free(seconds);
    return status;
}
