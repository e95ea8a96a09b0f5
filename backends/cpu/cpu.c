/* SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <string.h>

#include "cpu.h"

struct cpu_context {
    struct draft_cpu_pool *pool;
    uint32_t slots; /* workers and the calling thread */
};

struct cpu_plan {
    const struct draft_cpu_tile_ops *ops[DRAFT_STAGES];
    uint64_t slot_size;
};

/* ---- Variants -------------------------------------------------------------------------------- */

extern const struct draft_cpu_tile_ops draft_cpu_tile_baseline;

#if defined(__x86_64__)
extern const struct draft_cpu_tile_ops draft_cpu_tile_avx512, draft_cpu_tile_avx2;
const struct draft_cpu_tile_ops *const draft_cpu_tile_variants[] = {
    &draft_cpu_tile_avx512, &draft_cpu_tile_avx2, &draft_cpu_tile_baseline, NULL};

static const char *const names[] = {"avx512", "avx2", "baseline", NULL};

/* NULL where the processor can run it, else why not. */
static const char *processor_lacks(const struct draft_cpu_tile_ops *ops)
{
    __builtin_cpu_init();
    bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
                  __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw");
    if (ops == &draft_cpu_tile_avx512)
        return avx2 && avx512 ? NULL : "the processor lacks AVX-512 F, VL, DQ or BW";
    if (ops == &draft_cpu_tile_avx2)
        return avx2 ? NULL : "the processor lacks AVX2 or FMA";
    return NULL;
}
#else
const struct draft_cpu_tile_ops *const draft_cpu_tile_variants[] = {&draft_cpu_tile_baseline, NULL};

static const char *const names[] = {"baseline", NULL};

static const char *processor_lacks(const struct draft_cpu_tile_ops *ops)
{
    (void)ops;
    return NULL;
}
#endif

static const char *const *variants(draft_stage stage)
{
    (void)stage;
    return names;
}

/* ---- Device ---------------------------------------------------------------------------------- */

static draft_status devices(const struct draft_log *log, struct draft_device_info *out,
                            size_t capacity, size_t *count)
{
    (void)log;
    if (*count < capacity) {
        struct draft_device_info *device = &out[*count];
        *device = (struct draft_device_info){
            .backend = "cpu",
            .software = 1,
            .memory = draft_memory_size(),
            .types = 1u << DRAFT_F16 | 1u << DRAFT_BF16 | 1u << DRAFT_F32,
        };
        draft_processor_name(device->name, sizeof device->name);
        snprintf(device->driver, sizeof device->driver, "libdraft %d.%d.%d, %u processors",
                 DRAFT_VERSION_MAJOR, DRAFT_VERSION_MINOR, DRAFT_VERSION_PATCH, draft_processors());
        const struct draft_cpu_tile_ops *const *ops = draft_cpu_tile_variants;
        while (processor_lacks(*ops))
            ops++;
        snprintf(device->attend, sizeof device->attend, "%s", (*ops)->name);
    }
    ++*count;
    return DRAFT_OK;
}

static draft_status open_device(draft_context *context, const struct draft_context_params *params)
{
    enum { MOST_THREADS = 1024 };
    struct cpu_context *cpu = draft_calloc(1, sizeof *cpu);
    if (cpu) {
        cpu->slots = params->threads ? params->threads : draft_processors();
        cpu->slots = cpu->slots < MOST_THREADS ? cpu->slots : MOST_THREADS;
        cpu->pool = draft_cpu_pool_create(cpu->slots - 1);
    }
    if (!cpu || !cpu->pool) {
        draft_log(&context->log, DRAFT_LOG_ERROR, "out of memory or threads for the CPU backend");
        draft_release(cpu);
        return DRAFT_ERROR_MEMORY;
    }
    context->state = cpu;
    return DRAFT_OK;
}

static void close_device(draft_context *context)
{
    struct cpu_context *cpu = context->state;
    draft_cpu_pool_destroy(cpu->pool);
    draft_release(cpu);
}

/* ---- Memory ---------------------------------------------------------------------------------- */

/* The pointer that draft_calloc gave lies right before the aligned address. */
enum { ALIGNMENT = 256 };

static draft_status alloc_memory(draft_context *context, size_t size, draft_address *out)
{
    char *memory = size <= SIZE_MAX - 2 * ALIGNMENT ? draft_calloc(1, size + 2 * ALIGNMENT) : NULL;
    if (!memory) {
        draft_log(&context->log, DRAFT_LOG_ERROR, "out of host memory: %zu bytes", size);
        return DRAFT_ERROR_MEMORY;
    }
    char *aligned = memory + ALIGNMENT + (-(uintptr_t)memory & (ALIGNMENT - 1));
    memcpy(aligned - sizeof memory, &memory, sizeof memory);
    *out = (uintptr_t)aligned;
    return DRAFT_OK;
}

static void free_memory(draft_context *context, draft_address address)
{
    (void)context;
    char *memory;
    memcpy(&memory, (char *)(uintptr_t)address - sizeof memory, sizeof memory);
    draft_release(memory);
}

static draft_status write_memory(draft_context *context, draft_address to, const void *from,
                                 size_t size)
{
    (void)context;
    memcpy((void *)(uintptr_t)to, from, size);
    return DRAFT_OK;
}

static draft_status read_memory(draft_context *context, void *to, draft_address from, size_t size)
{
    (void)context;
    memcpy(to, (const void *)(uintptr_t)from, size);
    return DRAFT_OK;
}

/* ---- Plan ------------------------------------------------------------------------------------ */

static const char *refuses(const draft_plan *plan, draft_stage stage, uint32_t variant)
{
    (void)plan, (void)stage;
    return processor_lacks(draft_cpu_tile_variants[variant]);
}

static uint64_t greater(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

static draft_status make_plan(draft_plan *plan)
{
    struct cpu_context *cpu = plan->context->state;
    struct cpu_plan *state = draft_calloc(1, sizeof *state);
    if (!state) {
        draft_log(&plan->context->log, DRAFT_LOG_ERROR, "out of host memory for a plan");
        return DRAFT_ERROR_MEMORY;
    }
    plan->state = state;
    for (unsigned s = 0; s < DRAFT_STAGES; s++)
        state->ops[s] = draft_cpu_tile_variants[plan->variants[s]];
    uint64_t size = greater(draft_cpu_attend_scratch(), draft_cpu_score_scratch());
    if (plan->geometry.scorer == DRAFT_ABI_SCORER_EXCESS)
        size = greater(size, draft_cpu_excess_scratch(&plan->geometry));
    size = greater(size, draft_cpu_select_scratch(&plan->geometry));
    size = greater(size, draft_cpu_pool_scratch());
    state->slot_size = (size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    plan->scratch_size = cpu->slots * state->slot_size;
    return DRAFT_OK;
}

static void drop_plan(draft_plan *plan)
{
    draft_release(plan->state);
}

/* ---- Run ------------------------------------------------------------------------------------- */

static draft_status begin(draft_context *context, void **queue)
{
    (void)context, (void)queue;
    return DRAFT_OK;
}

static draft_status launch(const draft_plan *plan, draft_stage stage, const struct draft_args *args,
                           void *queue)
{
    (void)queue;
    static void (*const stages[DRAFT_STAGES])(struct draft_cpu_job *) = {
        draft_cpu_pool_blocks, draft_cpu_score, draft_cpu_select, draft_cpu_attend};
    const struct cpu_plan *state = plan->state;
    const struct cpu_context *cpu = plan->context->state;
    unsigned s = draft_stage_index(stage);
    const struct draft_geometry *g = (const void *)(uintptr_t)args->geometry;
    struct draft_cpu_job job = {
        .g = g,
        .budget = (const uint32_t *)(g + 1),
        .args = args,
        .ops = state->ops[s],
        .pool = cpu->pool,
        .workspace = (char *)(uintptr_t)args->workspace,
        .scratch = (char *)(uintptr_t)(args->workspace + g->scratch),
        .slot_size = state->slot_size,
    };
    stages[s](&job);
    return DRAFT_OK;
}

static draft_status end(draft_context *context, void *queue, bool ok)
{
    (void)context, (void)queue, (void)ok;
    return DRAFT_OK;
}

static draft_status wait_for_work(draft_context *context)
{
    (void)context;
    return DRAFT_OK;
}

const struct draft_backend draft_backend_cpu = {
    .name = "cpu",
    .devices = devices,
    .open = open_device,
    .close = close_device,
    .alloc = alloc_memory,
    .free = free_memory,
    .write = write_memory,
    .read = read_memory,
    .variants = variants,
    .refuses = refuses,
    .plan = make_plan,
    .unplan = drop_plan,
    .begin = begin,
    .launch = launch,
    .end = end,
    .wait = wait_for_work,
};
