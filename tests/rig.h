/* SPDX-License-Identifier: MIT
 *
 * A problem set up on a device: plan, tensors and workspace in device memory between guard zones,
 * and what was written there, so that each stray byte is noticed. */
#ifndef DRAFT_TESTS_RIG_H
#define DRAFT_TESTS_RIG_H

#include "backend.h"
#include "cases.h"
#include "harness.h"

/* Device memory with guard zones. */
struct buffer {
    draft_context *context;
    draft_address data;
    size_t size;
    uint8_t *image; /* what was written: guard, data, guard    */
    uint8_t *now;   /* what was read last                      */
};

void buffer_init(struct buffer *buffer, draft_context *context, size_t size);
void buffer_free(struct buffer *buffer);
/* Write, and expect it to stay. */
void buffer_put(struct buffer *buffer, size_t offset, const void *from, size_t size);
void buffer_poison(struct buffer *buffer);
/* Read everything; returns the data. */
const uint8_t *buffer_get(struct buffer *buffer);
/* What was read last. */
const uint8_t *buffer_read(const struct buffer *buffer);
/* What was written. */
uint8_t *buffer_image(struct buffer *buffer);

/* Bytes that a stage may write: from, to relative to the data. */
struct range {
    size_t from, to;
};

/* After buffer_get: true where all bytes outside the ranges are as they were written; otherwise
 * says where not. */
bool buffer_intact(const struct buffer *buffer, const char *what, const struct range *ranges,
                   size_t count);

struct rig {
    struct test_device *device;
    const struct problem *problem;
    draft_plan *plan;
    struct draft_layout layout;
    struct buffer q, k, v, out, lse, workspace, valid;
    struct draft_run_params run;
    double seconds; /* that the runs have taken so far */
};

/* The parameters as the library gets them. kernels: $DRAFT_KERNEL, and they are taken even where
 * they fail their self-test: the rig is what tests them; NULL: the library chooses. */
draft_status rig_plan(struct test_device *device, const struct test_case *test, const char *kernels,
                      draft_plan **out);

/* plan becomes the rig's. */
void rig_init(struct rig *rig, struct test_device *device, const struct problem *problem,
              draft_plan *plan);
void rig_free(struct rig *rig);
/* Plan, problem and rig of a case that may have been changed by the caller; its memory is poisoned. */
void rig_start(struct rig *rig, struct problem *problem, struct test_device *device,
               const struct test_case *test);
void rig_finish(struct rig *rig, struct problem *problem);
/* Poison out, lse and the workspace but for factors, which the caller of the library brings. */
void rig_reset(struct rig *rig);
/* Run and wait. Returns the first failure. */
draft_status rig_run(struct rig *rig, uint32_t stages);
/* Read all buffers; true where only what the stages may write has changed. */
bool rig_intact(struct rig *rig, uint32_t stages);

/* Of what rig_intact read: an array in the workspace. */
const void *rig_workspace(const struct rig *rig, uint64_t offset);

#endif
