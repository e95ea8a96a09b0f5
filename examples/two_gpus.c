/* SPDX-License-Identifier: MIT
 *
 * One attention layer on two GPUs: half of the heads on each, a context for each. This is how
 * sequence parallelism by heads (Ulysses) uses the library: after its exchange every GPU holds all
 * tokens of some heads, and heads do not depend on each other. The result is compared with that of
 * one GPU. Where there is only one device it computes both halves.
 *
 * As an argument the name of a backend may be given: cuda, vulkan, cpu. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <draft/draft.h>

enum { HEADS = 4, DIM = 64, PARTS = 2, MOST_DEVICES = 16 };

/* The heads [first, first + heads) of the layer, on one device. */
struct part {
    draft_context *context;
    draft_plan *plan;
    draft_address tensors, workspace; /* q, k, v and out, one after the other */
    struct draft_run_params run;
    unsigned first, heads;
    size_t count, size; /* elements and bytes of one tensor: [tokens, heads, dim] */
    uint16_t *values;   /* of one tensor, on the host                             */
};

static void print_log(void *user, draft_log_level level, const char *text)
{
    (void)user;
    (void)level;
    fprintf(stderr, "draft: %s\n", text);
}

/* ---- One device ----------------------------------------------------------------------------- */

static draft_status part_open(struct part *part, const struct draft_device_info *device,
                              unsigned first, unsigned heads)
{
    struct draft_context_params where = {.backend = device->backend,
                                         .device = device->index,
                                         .log = {.message = print_log, .level = DRAFT_LOG_WARN}};
    struct draft_plan_params params = {
        .shape = {.frames = 2, .height = 16, .width = 24, .suffix = 20, .heads = heads, .dim = DIM},
        .type = DRAFT_BF16,
        .sparsity = 0.5, /* each head keeps half of its own pairs, whoever its neighbours are */
    };
    struct draft_layout layout = {0};
    part->first = first;
    part->heads = heads;
    draft_status status = draft_context_create(&where, &part->context);
    if (status == DRAFT_OK)
        status = draft_plan_create(part->context, &params, &part->plan);
    if (status != DRAFT_OK)
        return status;
    draft_plan_layout(part->plan, &layout);
    part->count = layout.tokens * heads * DIM;
    part->size = part->count * sizeof *part->values;
    part->values = malloc(part->size);
    if (!part->values)
        return DRAFT_ERROR_MEMORY;
    status = draft_alloc(part->context, 4 * part->size, &part->tensors);
    if (status == DRAFT_OK)
        status = draft_alloc(part->context, layout.size, &part->workspace);
    part->run = (struct draft_run_params){.q = {.data = part->tensors},
                                          .k = {.data = part->tensors + part->size},
                                          .v = {.data = part->tensors + 2 * part->size},
                                          .out = {.data = part->tensors + 3 * part->size},
                                          .workspace = part->workspace};
    return status;
}

static void part_close(struct part *part)
{
    if (part->context) {
        draft_free(part->context, part->workspace);
        draft_free(part->context, part->tensors);
    }
    draft_plan_destroy(&part->plan);
    draft_context_destroy(&part->context);
    free(part->values);
}

/* The part's heads of tensor t (q, k, v), from the whole layer on the host. */
static draft_status part_write(struct part *part, const uint16_t *layer, unsigned t)
{
    size_t row = (size_t)part->heads * DIM;
    for (size_t token = 0; token < part->count / row; token++)
        memcpy(part->values + token * row, layer + (token * HEADS + part->first) * DIM,
               row * sizeof *layer);
    return draft_write(part->context, part->tensors + t * part->size, part->values, part->size);
}

/* Its heads of out, to their places in the whole layer. */
static draft_status part_read(struct part *part, uint16_t *layer)
{
    size_t row = (size_t)part->heads * DIM;
    draft_status status = draft_read(part->context, part->values, part->run.out.data, part->size);
    for (size_t token = 0; token < part->count / row && status == DRAFT_OK; token++)
        memcpy(layer + (token * HEADS + part->first) * DIM, part->values + token * row,
               row * sizeof *layer);
    return status;
}

/* ---- All devices ---------------------------------------------------------------------------- */

/* The layer on `count` parts. All are enqueued before the first is waited for, so that GPUs work at
 * the same time; draft_read waits. */
static draft_status attend(struct part *parts, unsigned count, const uint16_t *inputs,
                           size_t elements, uint16_t *out)
{
    draft_status status = DRAFT_OK;
    for (unsigned i = 0; i < count && status == DRAFT_OK; i++)
        for (unsigned t = 0; t < 3 && status == DRAFT_OK; t++)
            status = part_write(&parts[i], inputs + t * elements, t);
    for (unsigned i = 0; i < count && status == DRAFT_OK; i++)
        status = draft_run(parts[i].plan, &parts[i].run);
    for (unsigned i = 0; i < count && status == DRAFT_OK; i++)
        status = part_read(&parts[i], out);
    return status;
}

static float from_bf16(uint16_t value)
{
    uint32_t bits = (uint32_t)value << 16; /* bf16 is the upper half of f32 */
    float result;
    memcpy(&result, &bits, sizeof result);
    return result;
}

/* 0 where the results agree. GPUs of one kind give the same bits; others may use other kernels,
 * which round differently: then out, a mean of values between -2 and 2, differs by a rounding. */
static int compare(const uint16_t *split, const uint16_t *whole, size_t count, int same_kind)
{
    float worst = 0, bound = same_kind ? 0 : 0x1p-7f;
    int failed = 0;
    for (size_t i = 0; i < count; i++) {
        float difference = fabsf(from_bf16(split[i]) - from_bf16(whole[i]));
        if (difference > worst)
            worst = difference;
        if (!(difference <= bound)) /* NaN too */
            failed = 1;
    }
    printf("largest difference to one device: %g (at most %g)\n", (double)worst, (double)bound);
    return failed;
}

static int run(const struct draft_device_info devices[PARTS])
{
    struct part parts[PARTS] = {{0}}, one = {0};
    uint16_t *inputs = NULL, *split = NULL, *whole = NULL;
    int failed = 1;
    draft_status status = part_open(&one, &devices[0], 0, HEADS);
    for (unsigned i = 0; i < PARTS && status == DRAFT_OK; i++)
        status = part_open(&parts[i], &devices[i], i * HEADS / PARTS, HEADS / PARTS);
    if (status == DRAFT_OK) {
        inputs = malloc(3 * one.size);
        split = calloc(one.count, sizeof *split);
        whole = calloc(one.count, sizeof *whole);
        status = inputs && split && whole ? DRAFT_OK : DRAFT_ERROR_MEMORY;
    }
    for (size_t i = 0; i < 3 * one.count && status == DRAFT_OK; i++) {
        float value = (float)(4.0 * rand() / RAND_MAX - 2);
        uint32_t bits;
        memcpy(&bits, &value, sizeof bits);
        inputs[i] = (uint16_t)(bits >> 16);
    }
    if (status == DRAFT_OK)
        status = attend(&one, 1, inputs, one.count, whole);
    if (status == DRAFT_OK)
        status = attend(parts, PARTS, inputs, one.count, split);
    if (status == DRAFT_OK)
        failed = compare(split, whole, one.count, !strcmp(devices[0].name, devices[1].name));
    else
        fprintf(stderr, "%s\n", draft_status_name(status));
    for (unsigned i = 0; i < PARTS; i++)
        part_close(&parts[i]);
    part_close(&one);
    free(whole);
    free(split);
    free(inputs);
    return failed;
}

/* The first two devices of the backend (NULL: of the first that is no software, else the CPU), or
 * one of them twice. */
static int choose(const char *backend, struct draft_device_info chosen[PARTS])
{
    struct draft_device_info found[MOST_DEVICES];
    size_t count = MOST_DEVICES;
    unsigned parts = 0;
    if (draft_devices(NULL, found, &count))
        return 1;
    count = count < MOST_DEVICES ? count : MOST_DEVICES;
    for (size_t i = 0; i < count && !backend; i++)
        backend = found[i].software ? NULL : found[i].backend;
    for (size_t i = 0; i < count && parts < PARTS; i++)
        if (!strcmp(found[i].backend, backend ? backend : "cpu"))
            chosen[parts++] = found[i];
    if (parts == 1)
        chosen[1] = chosen[0];
    return parts == 0;
}

int main(int argc, char **argv)
{
    struct draft_device_info devices[PARTS];
    if (choose(argc > 1 ? argv[1] : NULL, devices)) {
        printf("skipped: no device\n");
        return 77;
    }
    for (unsigned i = 0; i < PARTS; i++)
        printf("heads %u to %u: %s %u, %s\n", i * HEADS / PARTS, (i + 1) * HEADS / PARTS - 1,
               devices[i].backend, devices[i].index, devices[i].name);
    return run(devices);
}
