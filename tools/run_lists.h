/* SPDX-License-Identifier: MIT
 *
 * Lists of kept blocks in files: what `draft run --save-lists` writes and `--lists` reads, a
 * .safetensors file with
 *
 *   counts  U32 [batch, heads, B]     how many key blocks each query block keeps
 *   lists   U16 [batch, heads, B, W]  which: the first `count` of each row, ascending
 *
 * and perhaps the remarks "tokens" (prefix+FxHxW+suffix) and "tile" (TxHxW). B: blocks of a sample;
 * W: as many as the longest row needs, at most B. Readers take U16, U32, I32 and I64 for either,
 * one sample without its axis, and no notice of what stands behind a row's count. */
#ifndef DRAFT_TOOLS_RUN_LISTS_H
#define DRAFT_TOOLS_RUN_LISTS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include <draft/draft.h>

#include "job.h"

/* As draft_lists_write takes them; freed by run_lists_free. */
struct run_lists {
    uint32_t *counts;
    uint16_t *lists;
};

/* Read a file for the plan; what the lists say is left to draft_lists_write. False with a message,
 * and nothing to free. */
bool run_lists_load(const char *path, const struct draft_shape *shape,
                    const struct draft_layout *layout, struct run_lists *out);

/* Copy what is in the job's workspace. */
draft_status run_lists_read(const struct job *job, const struct draft_shape *shape,
                            struct run_lists *out);

/* one_sample: leave out the axis of the batch. False where the stream reports an error. */
bool run_lists_save(FILE *file, const struct draft_shape *shape, const struct draft_layout *layout,
                    const struct run_lists *lists, bool one_sample);

void run_lists_free(struct run_lists *lists);

#endif
