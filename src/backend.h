/* SPDX-License-Identifier: MIT
 *
 * What a backend is to the core. A backend includes this, kernel_abi.h and platform.h, nothing else
 * of src/. The core has checked every argument before it calls: backends trust their input. */
#ifndef DRAFT_BACKEND_H
#define DRAFT_BACKEND_H

#include <stdbool.h>

#include <draft/draft.h>
#include <draft/vulkan.h>

#include "kernel_abi.h"
#include "platform.h"

enum { DRAFT_STAGES = 4 }; /* pool, score, select, attend: stage s is bit 1 << s */
enum { DRAFT_MOST_VARIANTS = 32 };

/* Index of a stage in tables: 0 to DRAFT_STAGES - 1. */
static inline unsigned draft_stage_index(draft_stage stage)
{
    return stage == DRAFT_POOL ? 0 : stage == DRAFT_SCORE ? 1 : stage == DRAFT_SELECT ? 2 : 3;
}

/* "pool", "score", "select", "attend" */
const char *draft_stage_name(draft_stage stage);

/* One line to the log, formatted like printf. log may be NULL. src/log.c. */
void draft_log(const struct draft_log *log, draft_log_level level, const char *format, ...)
    DRAFT_PRINTF(3, 4);

/* All host memory of the library comes from here, zeroed, so that tests can make it fail.
 * count x size is checked for overflow. src/memory.c. */
void *draft_calloc(size_t count, size_t size);
void draft_release(void *memory);
/* For tests: the n-th allocation from now fails (0: none does). */
void draft_calloc_set_failure(long n);

/* ---- Files in the user's folder for caches: src/files.c ---- */

enum { DRAFT_FILE_MAGIC = 8 };
/* The content of file `name`, which draft_file_save wrote with the same magic word; *data is of
 * draft_calloc, NULL where there is no file or it is damaged. Errors: MEMORY. */
draft_status draft_file_load(const struct draft_log *log, const char *name, const char *magic,
                             uint8_t **data, size_t *size);
/* All of it or nothing, whoever reads or writes the file meanwhile. */
void draft_file_save(const struct draft_log *log, const char *name, const char *magic,
                     const void *data, size_t size);

/* FNV-1a of the bytes behind what `before` stands for; DRAFT_HASH: nothing. */
#define DRAFT_HASH UINT64_C(0xcbf29ce484222325)
uint64_t draft_hash(uint64_t before, const void *bytes, size_t size);

/* The context. Backends keep their own state behind `state`. */
struct draft_context {
    const struct draft_backend *backend;
    void *state;
    struct draft_log log;
    struct draft_device_info device;
    bool adopted; /* the caller's own device */
    /* NULL where the backend's kernels are not tested: src/verdicts.c. */
    struct draft_proofs *proofs;
    bool trusting; /* tests and tools: plans take kernels that may fail their self-test */
};

/* The plan. The core fills all but the last three members before it calls backend->plan. */
struct draft_plan {
    draft_context *context;
    struct draft_geometry geometry; /* host copy; offsets of scratch follow backend->plan   */
    const uint32_t *budget;         /* host copy: budget[heads], floor[heads]               */
    struct draft_layout layout;
    uint32_t variants[DRAFT_STAGES];   /* the variant chosen for each stage: its row in the    */
    const char *kernels[DRAFT_STAGES]; /* backend's table, and its name                        */

    draft_address device_geometry; /* geometry and budgets on the device: the core's           */
    unsigned making;               /* backend->plan: the stage that it is busy with            */
    uint64_t scratch_size;         /* backend->plan: bytes of workspace for its own use        */
    void *state;                   /* backend->plan: what launch needs                         */
};

/* Tokens of a block: text at the end of its part and tiles at the edge of the grid hold fewer than
 * others. src/shape.c. */
uint32_t draft_block_size(const struct draft_geometry *g, uint32_t block);

/* Their numbers within the sample, in slot order (w fastest, then h, then t); returns how many.
 * valid: NULL, or the sample's two valid text lengths, beyond which tokens do not count. */
uint32_t draft_block_tokens(const struct draft_geometry *g, uint32_t block, const uint32_t *valid,
                            uint32_t tokens[DRAFT_BLOCK]);

/* Tokens of each quarter of video block j (0 to S - 1) of the geometry: kernel_abi.h. */
void draft_quarter_sizes(const struct draft_geometry *g, uint32_t j,
                         uint32_t sizes[DRAFT_QUARTERS]);

/* Tokens of each of its parts, likewise. */
void draft_part_sizes(const struct draft_geometry *g, uint32_t j, uint32_t sizes[DRAFT_PARTS]);

/* Backends that keep the scores of EXCESS in memory take the heads of all samples in portions: the
 * fewest, at most DRAFT_MOST_PORTIONS, whose scores are no more than 64 MiB. How many heads a portion
 * has, but for the last, which may have fewer; bytes: of one head's scores. */
enum { DRAFT_MOST_PORTIONS = 8 };
uint64_t draft_portion_heads(const struct draft_geometry *g, uint64_t bytes);

/* Video key blocks that are forced for video query block i, ascending, written to out where out is
 * not NULL; returns how many. */
uint32_t draft_forced_blocks(const struct draft_geometry *g, uint32_t i, uint32_t *out);

/* Work order of one sample and head: query blocks by count, largest first, then by index.
 * starts: scratch of blocks + 1. src/lists.c. */
void draft_order_rows(const uint32_t *counts, uint32_t blocks, uint32_t *starts, uint16_t *order);

/* Part `index` of `count` of a run. */
struct draft_chunk {
    uint32_t index, count;
};

/* Every pointer is set but the last five. Functions with a draft_status log the reason of a
 * failure themselves. */
struct draft_backend {
    const char *name;
    /* Takes the caller's own device and queues: draft_context_params.native, where open also fills
     * context->device, and draft_run_params.queue. Others get NULL for both. */
    bool adopts;

    /* Append this backend's devices from out[*count] on while there is room (capacity is of the whole
     * array), add their number to *count in any case, log why there are none. */
    draft_status (*devices)(const struct draft_log *log, struct draft_device_info *out,
                            size_t capacity, size_t *count);

    /* Open device params->device (the core has resolved names), or params->native where that is
     * given; fill context->state. The core has filled context->log and, without native,
     * context->device. On failure nothing is left behind. */
    draft_status (*open)(draft_context *context, const struct draft_context_params *params);
    void (*close)(draft_context *context);

    draft_status (*alloc)(draft_context *context, size_t size, draft_address *out);
    void (*free)(draft_context *context, draft_address address);
    draft_status (*write)(draft_context *context, draft_address to, const void *from, size_t size);
    draft_status (*read)(draft_context *context, void *to, draft_address from, size_t size);

    /* Names of the variants that the table of a stage holds, best first, ends with NULL, at most
     * DRAFT_MOST_VARIANTS. Static storage. */
    const char *const *(*variants)(draft_stage stage);
    /* NULL where variant number `variant` of the stage takes this device and plan, which has
     * geometry and layout; else why not: static text. */
    const char *(*refuses)(const draft_plan *plan, draft_stage stage, uint32_t variant);

    /* Make the chosen variants ready; set scratch_size and state. */
    draft_status (*plan)(draft_plan *plan);
    /* Also after a plan that failed, and then state may be NULL. */
    void (*unplan)(draft_plan *plan);

    /* begin and end bracket the launches of one draft_run. queue: the caller's, or NULL for the
     * context's own; begin may replace it with what launch and end shall get. end submits, and
     * must be called after a begin that succeeded, with ok = false to throw the work away. */
    draft_status (*begin)(draft_context *context, void **queue);
    draft_status (*launch)(const draft_plan *plan, draft_stage stage, const struct draft_args *args,
                           void *queue);
    draft_status (*end)(draft_context *context, void *queue, bool ok);
    draft_status (*wait)(draft_context *context);

    /* Of a backend whose kernels are tested before a plan takes them; NULL for others. fingerprint: a
     * number for the code of the variant that the plan has of a stage, whatever its shape.
     * has_queue: the context has a queue of its own to test on. */
    uint64_t (*fingerprint)(const draft_plan *plan, draft_stage stage);
    bool (*has_queue)(const draft_context *context);

    /* Of a backend whose queues are command buffers of the caller, on the caller's device; NULL for
     * others. record: in place of begin, launch and end where draft_run got a queue. The others are
     * the functions of draft/vulkan.h. */
    draft_status (*record)(const struct draft_plan *plan, uint32_t stages,
                           const struct draft_args *args, void *commands,
                           const struct draft_chunk *chunk);
    draft_status (*requirements)(const struct draft_log *log,
                                 const struct draft_vulkan_native *native, void *features,
                                 const char **extensions, uint32_t *count);
    void (*estimate)(const struct draft_plan *plan, uint32_t stages, struct draft_vulkan_work *out);
};

#endif
