/* SPDX-License-Identifier: MIT
 *
 * Schedules: how sparse each layer is at each denoising step, and for how many steps its lists are
 * used. `draft tune` writes them, examples/denoise.c reads them. A text of lines:
 *
 *   draft schedule 1
 *   # steps  layers  refresh  sparsity, of all heads or of each
 *   0-11     *       1        0
 *   12-*     *       4        0.9
 *   12-*     0-1     4        0.5
 *   12-*     7       4        0.93 0.95 0.8 0.92
 *
 * Steps and layers count from 0: one number, a range, an open range, or * for all. refresh n: lists
 * are made at the first step of the line and at every n-th from there, and used in between. Where
 * several lines hold a step and a layer, the last of them counts; where none does, attention is
 * dense. # begins a comment. */
#ifndef DRAFT_TOOLS_SCHEDULE_H
#define DRAFT_TOOLS_SCHEDULE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum { SCHEDULE_END = UINT16_MAX, SCHEDULE_ERROR = 160 };

struct schedule_line {
    uint32_t first_step, last_step, first_layer, last_layer; /* SCHEDULE_END: all that follow */
    uint32_t refresh;
    double *sparsity; /* of all heads (count 1), or of each */
    size_t count;
};

/* Owned by the caller; any number of threads may read it. */
struct schedule {
    struct schedule_line *lines;
    size_t count;
};

/* False, with what is wrong and where in error, for anything but a whole schedule: then there is
 * nothing to free. */
bool schedule_read(FILE *file, struct schedule *out, char error[SCHEDULE_ERROR]);
void schedule_free(struct schedule *schedule);

/* The line that counts, or NULL: dense. */
const struct schedule_line *schedule_find(const struct schedule *schedule, uint32_t step,
                                          uint32_t layer);
/* Are lists made at this step, which the line holds? */
bool schedule_refreshes(const struct schedule_line *line, uint32_t step);

void schedule_write_header(FILE *file);
void schedule_write_line(FILE *file, const struct schedule_line *line);

#endif
