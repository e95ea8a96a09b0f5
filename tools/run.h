/* SPDX-License-Identifier: MIT
 *
 * What the parts of `draft run` share. */
#ifndef DRAFT_TOOLS_RUN_H
#define DRAFT_TOOLS_RUN_H

#include <stdbool.h>

#include <draft/draft.h>

#include "job.h"
#include "program.h"
#include "run_files.h"
#include "run_lists.h"

/* What the command line asks for. */
struct run_request {
    const char *out, *lse, *lists, *save_lists;
    struct draft_shape shape;
    uint32_t grid[3], tile[3];
    uint32_t type, rule, force, scorer, tail, repeat;
    bool type_given, grid_given, check, json, tolerance_given;
    bool rule_given, sparsity_given, mass_given, force_given, floor_given;
    double sparsity, mass, row_floor, scale, tolerance;
    struct program_reals head_sparsity, factors, valid;
    struct program_device device;
    const char *files[3];
    size_t file_count;
};

/* All that a run makes. */
struct run {
    const struct run_request *request;
    struct run_inputs inputs;
    struct draft_plan_params params;
    uint32_t *valid;
    struct run_lists lists; /* of --lists, or read for --save-lists */
    draft_context *context;
    struct draft_device_info device;
    struct job_buffers buffers;
    struct job job, dense;
    struct job_timing timing, dense_timing;
    struct draft_density density;
    struct job_fidelity fidelity;
    void *result;
    float *lse, *kept_lse;
    struct draft_probe *probe; /* of each head, or NULL */
    double probe_seconds;
    struct program_output *out_file, *lse_file, *lists_file;
    struct program_progress *progress;
    uint64_t done;
};

/* Print what was found, as --json asks for. Returns an exit code. */
int run_report(const struct run *run);

#endif
