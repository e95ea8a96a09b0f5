/* SPDX-License-Identifier: MIT */
#include "rig.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../tools/posix.h"

/* Before and after the data. A multiple of any alignment in use, so that it moves no address. */
enum { GUARD_SIZE = 4096 };

void buffer_init(struct buffer *b, draft_context *context, size_t size)
{
    size_t whole = size + 2 * GUARD_SIZE;
    draft_address base;
    OK(draft_alloc(context, whole, &base));
    *b = (struct buffer){context, base + GUARD_SIZE, size, test_alloc(whole, 1),
                         test_alloc(whole, 1)};
    memset(b->image, GUARD, whole);
    OK(draft_write(context, base, b->image, whole));
}

void buffer_free(struct buffer *b)
{
    if (b->context)
        draft_free(b->context, b->data - GUARD_SIZE);
    free(b->image);
    free(b->now);
    *b = (struct buffer){0};
}

const uint8_t *buffer_read(const struct buffer *b)
{
    return b->now + GUARD_SIZE;
}

uint8_t *buffer_image(struct buffer *b)
{
    return b->image + GUARD_SIZE;
}

void buffer_put(struct buffer *b, size_t offset, const void *from, size_t size)
{
    REQUIRE(offset + size <= b->size);
    memcpy(buffer_image(b) + offset, from, size);
    OK(draft_write(b->context, b->data + offset, from, size));
}

void buffer_poison(struct buffer *b)
{
    memset(buffer_image(b), POISON, b->size);
    OK(draft_write(b->context, b->data, buffer_image(b), b->size));
}

const uint8_t *buffer_get(struct buffer *b)
{
    OK(draft_read(b->context, b->now, b->data - GUARD_SIZE, b->size + 2 * GUARD_SIZE));
    return b->now + GUARD_SIZE;
}

bool buffer_intact(const struct buffer *b, const char *what, const struct range *ranges,
                   size_t count)
{
    size_t whole = b->size + 2 * GUARD_SIZE, at = 0;
    for (size_t r = 0; r <= count; r++) { /* what lies before range r, or after the last */
        size_t end = r < count ? GUARD_SIZE + ranges[r].from : whole;
        if (end > at && memcmp(b->image + at, b->now + at, end - at) != 0) {
            while (b->image[at] == b->now[at])
                at++;
            test_print("    %s: byte %td of %zu was overwritten: 0x%02x, now 0x%02x\n", what,
                       (ptrdiff_t)at - GUARD_SIZE, b->size, b->image[at], b->now[at]);
            return false;
        }
        at = r < count ? GUARD_SIZE + ranges[r].to : whole;
    }
    return true;
}

/* ---- Rig ---- */

draft_status rig_plan(struct test_device *device, const struct test_case *test, const char *kernels,
                      draft_plan **out)
{
    log_clear(&device->log);
    if (kernels)
        setenv("DRAFT_KERNEL", kernels, 1);
    else
        unsetenv("DRAFT_KERNEL");
    device->context->trusting = kernels != NULL;
    struct draft_plan_params params = test->params;
    params.rule = test->unsaid & UNSAID_RULE ? DRAFT_RULE_DEFAULT : params.rule;
    params.scorer = test->unsaid & UNSAID_SCORER ? DRAFT_SCORER_DEFAULT : params.scorer;
    params.tail = test->unsaid & UNSAID_TAIL ? DRAFT_TAIL_DEFAULT : params.tail;
    draft_status status = draft_plan_create(device->context, &params, out);
    device->context->trusting = false;
    unsetenv("DRAFT_KERNEL");
    return status;
}

static struct draft_tensor device_tensor(struct buffer *b, draft_context *context,
                                         const struct host_tensor *t)
{
    buffer_init(b, context, t->size);
    buffer_put(b, 0, t->bytes, t->size);
    struct draft_tensor tensor = {b->data, t->batch_stride, t->token_stride, t->head_stride};
    bool packed = t->head_stride == t->dim && t->token_stride == (uint64_t)t->heads * t->dim &&
                  t->batch_stride == t->tokens * t->token_stride;
    if (packed) /* 0 must mean the same */
        tensor.batch_stride = tensor.token_stride = tensor.head_stride = 0;
    return tensor;
}

void rig_init(struct rig *rig, struct test_device *device, const struct problem *p,
              draft_plan *plan)
{
    draft_context *context = device->context;
    *rig = (struct rig){.device = device, .problem = p, .plan = plan};
    draft_plan_layout(plan, &rig->layout);
    REQUIRE(rig->layout.alignment && GUARD_SIZE % rig->layout.alignment == 0);
    rig->run.q = device_tensor(&rig->q, context, &p->q);
    rig->run.k = device_tensor(&rig->k, context, &p->k);
    rig->run.v = device_tensor(&rig->v, context, &p->v);
    rig->run.out = device_tensor(&rig->out, context, &p->out);
    buffer_init(&rig->workspace, context, rig->layout.size);
    buffer_init(&rig->lse, context, (size_t)p->batch * p->heads * p->grid.tokens * 4);
    buffer_init(&rig->valid, context, p->batch * 8);
    rig->run.workspace = rig->workspace.data;
    rig->run.lse = p->test->no_lse ? 0 : rig->lse.data;
    rig->run.flags = p->test->kept_only ? DRAFT_RUN_KEPT_ONLY : 0;
    if (p->valid) {
        buffer_put(&rig->valid, 0, p->valid, p->batch * 8);
        rig->run.valid = rig->valid.data;
    }
}

void rig_free(struct rig *rig)
{
    struct buffer *buffers[] = {&rig->q,   &rig->k,         &rig->v,    &rig->out,
                                &rig->lse, &rig->workspace, &rig->valid};
    for (size_t i = 0; i < sizeof buffers / sizeof *buffers; i++)
        buffer_free(buffers[i]);
    draft_plan_destroy(&rig->plan);
}

void rig_reset(struct rig *rig)
{
    buffer_poison(&rig->out);
    buffer_poison(&rig->lse);
    buffer_poison(&rig->workspace);
    static const float factors[] = {1, 0.4f, 2.5f, -1, NAN, 1.5f}; /* some are out of bounds */
    size_t heads = (size_t)rig->problem->batch * rig->problem->heads;
    for (size_t h = 0; h < heads && rig->layout.factors; h++)
        buffer_put(&rig->workspace, rig->layout.factors + h * sizeof *factors, &factors[h % 6],
                   sizeof *factors);
}

void rig_start(struct rig *rig, struct problem *problem, struct test_device *device,
               const struct test_case *test)
{
    draft_plan *plan = NULL;
    OK(rig_plan(device, test, NULL, &plan));
    problem_init(problem, test, plan->layout.tile);
    rig_init(rig, device, problem, plan);
    rig_reset(rig);
}

void rig_finish(struct rig *rig, struct problem *problem)
{
    rig_free(rig);
    problem_free(problem);
}

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

draft_status rig_run(struct rig *rig, uint32_t stages)
{
    double start = seconds();
    rig->run.stages = stages;
    draft_status status = draft_run(rig->plan, &rig->run);
    if (!status)
        status = draft_wait(rig->device->context);
    rig->seconds += seconds() - start;
    return status;
}

const void *rig_workspace(const struct rig *rig, uint64_t offset)
{
    return buffer_read(&rig->workspace) + offset;
}

static int by_from(const void *a, const void *b)
{
    const struct range *left = a, *right = b;
    return left->from < right->from ? -1 : left->from > right->from;
}

enum { MOST_RANGES = 16 };

/* The arrays of the workspace that belong to the stages, and the backend's scratch. */
static size_t workspace_ranges(const struct rig *rig, uint32_t stages,
                               struct range ranges[MOST_RANGES])
{
    const struct draft_layout *l = &rig->layout;
    const struct problem *p = rig->problem;
    size_t heads = (size_t)p->batch * p->heads, kv = (size_t)p->batch * p->kv_heads;
    size_t means = (size_t)l->video_blocks * p->dim * 4, pairs = l->video_blocks;
    size_t map = heads * pairs * pairs * 4, rows = heads * l->blocks, count = 0;
    uint64_t scratch = rig->plan->geometry.scratch;
    if (stages & DRAFT_POOL) {
        ranges[count++] = (struct range){l->pooled_q, l->pooled_q + heads * means};
        ranges[count++] = (struct range){l->pooled_k, l->pooled_k + kv * means};
        ranges[count++] = (struct range){l->pooled_v, l->pooled_v + kv * means};
        if (l->quarters)
            ranges[count++] = (struct range){l->quarters, l->quarters + kv * 4 * means};
        if (l->parts_q) {
            size_t part = means * type_size(p->k.type) / 4;
            ranges[count++] = (struct range){l->parts_q, l->parts_q + heads * 4 * part};
            ranges[count++] = (struct range){l->parts_k, l->parts_k + kv * 16 * part};
        }
        if (l->moment_q) {
            ranges[count++] = (struct range){l->moment_q, l->moment_q + heads * means};
            ranges[count++] = (struct range){l->moment_k, l->moment_k + kv * means};
        }
        if (l->tail_k && l->tail_k != l->pooled_k) { /* of a type of 16 bits */
            ranges[count++] = (struct range){l->tail_k, l->tail_k + kv * means / 2};
            ranges[count++] = (struct range){l->tail_v, l->tail_v + kv * means / 2};
        }
    }
    if (stages & DRAFT_SCORE)
        ranges[count++] = (struct range){l->map, l->map + map};
    if (stages & (DRAFT_SCORE | DRAFT_SELECT) && l->bias)
        ranges[count++] = (struct range){l->bias, l->bias + heads * pairs * l->bias_stride * 4};
    if (stages & DRAFT_SELECT) {
        ranges[count++] = (struct range){l->counts, l->counts + rows * 4};
        ranges[count++] = (struct range){l->lists, l->lists + rows * l->blocks * 2};
        ranges[count++] = (struct range){l->order, l->order + rows * 2};
    }
    if (rig->plan->scratch_size)
        ranges[count++] = (struct range){scratch, scratch + rig->plan->scratch_size};
    qsort(ranges, count, sizeof *ranges, by_from);
    return count;
}

static int by_address(const void *a, const void *b)
{
    uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;
    return left < right ? -1 : left > right;
}

/* One range for each row of the tensor: its gaps must stay. */
static bool out_intact(const struct rig *rig, bool written)
{
    const struct host_tensor *t = &rig->problem->out;
    size_t rows = written ? (size_t)t->batch * t->tokens * t->heads : 0, at = 0;
    uint64_t *firsts = test_alloc(rows, sizeof *firsts);
    struct range *ranges = test_alloc(rows, sizeof *ranges);
    for (uint32_t b = 0; written && b < t->batch; b++)
        for (uint32_t token = 0; token < t->tokens; token++)
            for (uint32_t head = 0; head < t->heads; head++)
                firsts[at++] = tensor_row(t, b, token, head);
    qsort(firsts, rows, sizeof *firsts, by_address);
    for (size_t i = 0; i < rows; i++) {
        ranges[i].from = (size_t)firsts[i] * type_size(t->type);
        ranges[i].to = ranges[i].from + t->dim * type_size(t->type);
    }
    bool intact = buffer_intact(&rig->out, "out", ranges, rows);
    free(firsts);
    free(ranges);
    return intact;
}

bool rig_intact(struct rig *rig, uint32_t stages)
{
    struct buffer *buffers[] = {&rig->q,   &rig->k,         &rig->v,    &rig->out,
                                &rig->lse, &rig->workspace, &rig->valid};
    for (size_t i = 0; i < sizeof buffers / sizeof *buffers; i++)
        buffer_get(buffers[i]);
    struct range ranges[MOST_RANGES], all_lse = {0, rig->lse.size};
    size_t count = workspace_ranges(rig, stages, ranges);
    bool attends = stages & DRAFT_ATTEND;
    bool intact = buffer_intact(&rig->workspace, "workspace", ranges, count);
    intact &= out_intact(rig, attends);
    intact &= buffer_intact(&rig->lse, "lse", &all_lse, attends && rig->run.lse);
    intact &= buffer_intact(&rig->q, "q", NULL, 0);
    intact &= buffer_intact(&rig->k, "k", NULL, 0);
    intact &= buffer_intact(&rig->v, "v", NULL, 0);
    return intact & buffer_intact(&rig->valid, "valid", NULL, 0);
}
