/* SPDX-License-Identifier: MIT
 *
 * One attention call of the program: its buffers on the device, a plan with its workspace, timed
 * runs, and how far a result is from dense attention. */
#ifndef DRAFT_TOOLS_JOB_H
#define DRAFT_TOOLS_JOB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <draft/draft.h>

enum { JOB_STAGES = 4 };

/* "pool", "score", "select", "attend" */
extern const char *const job_stage_names[JOB_STAGES];

/* "f16", "bf16", "f32" for draft_type - 1; ends with NULL, so that it serves as choices. */
extern const char *const job_type_names[];
/* "default", "head", "row", "mass", "paper" for draft_rule; ends with NULL. */
extern const char *const job_rule_names[];
/* "not-self", "first-frame", "neighbours" for the bits of draft_force; ends with NULL. */
extern const char *const job_force_names[];
/* "default", "mean", "lse", "max", "excess" for draft_scorer; ends with NULL. */
extern const char *const job_scorer_names[];
/* "default", "drop", "mean", "gap", "fitted" for draft_tail; ends with NULL. */
extern const char *const job_tail_names[];

/* ---- Numbers ------------------------------------------------------------------------------ */

/* Bytes of an element. */
size_t job_type_size(draft_type type);
/* n elements to f32, and back (round to nearest, ties to even). from and to do not overlap. */
void job_to_f32(draft_type type, float *to, const void *from, size_t n);
void job_from_f32(draft_type type, void *to, const float *from, size_t n);

/* Tokens of one sample; batch and kv_heads with their defaults filled in; elements of q (and out),
 * of k (and v), and of lse, over all samples. False where one does not fit 2^62 bytes. */
struct job_sizes {
    uint64_t tokens;
    uint64_t batch, kv_heads;
    uint64_t q, kv, lse;
};
bool job_sizes(const struct draft_shape *shape, struct job_sizes *out);

/* ---- Buffers ------------------------------------------------------------------------------ */

/* q, k, v, out and lse of one shape, packed. Owns its device memory, except where q, k or v are
 * used where they lie: on the CPU backend, if the address is a multiple of 16. */
struct job_buffers {
    draft_context *context;
    draft_type type;
    struct job_sizes sizes;
    draft_address q, k, v, out, lse, valid;
    draft_address owned[6]; /* what destroy frees */
};

/* Allocate and copy. q, k, v: host memory that outlives the buffers. valid: NULL, or two numbers
 * for each sample, likewise. On failure nothing is left and the log says why. */
draft_status job_buffers_create(draft_context *context, const struct draft_shape *shape,
                                draft_type type, const void *q, const void *k, const void *v,
                                const uint32_t *valid, struct job_buffers *out);
void job_buffers_destroy(struct job_buffers *buffers);

/* Copy results to the host: sizes.q elements of the type; sizes.lse floats. Either may be NULL. */
draft_status job_buffers_read(const struct job_buffers *buffers, void *out, float *lse);

/* ---- Plan and runs -------------------------------------------------------------------------- */

struct job {
    draft_context *context;
    draft_plan *plan;
    struct draft_layout layout;
    draft_address workspace;
    uint32_t flags;  /* of its runs: bits of draft_run_flag, 0 after job_create */
    uint32_t stages; /* bits of draft_stage that job_measure runs; all after job_create */
};

/* Factors of tail FITTED are 0 at first. */
draft_status job_create(draft_context *context, const struct draft_plan_params *params,
                        struct job *out);
void job_destroy(struct job *job);

/* Seconds on the host's clock, from the call to the end of draft_wait. */
struct job_times {
    double stage[JOB_STAGES];
};

/* All four stages, one by one, each timed; times may be NULL. */
draft_status job_run(const struct job *job, const struct job_buffers *buffers,
                     struct job_times *times);
/* One stage. seconds may be NULL. */
draft_status job_run_stage(const struct job *job, const struct job_buffers *buffers, unsigned stage,
                           double *seconds);

/* lse of a run that has been read, brought to that of the kept keys alone, for which attend runs
 * once more and overwrites out where the plan has a tail. */
draft_status job_kept_lse(struct job *job, const struct job_buffers *buffers, float *lse);

/* Seconds of each stage over several runs. */
struct job_timing {
    double median[JOB_STAGES], least[JOB_STAGES];
};

/* Run the job's stages `repeat` times (at least once) after one run that is not counted where repeat
 * is more than 1; of others timing is left as it was. progress: NULL, or a bar which advances by job_steps(repeat) from *done on. */
struct program_progress;
draft_status job_measure(const struct job *job, const struct job_buffers *buffers, uint32_t repeat,
                         struct program_progress *progress, uint64_t *done,
                         struct job_timing *timing);
uint64_t job_steps(uint32_t repeat);

/* The median of n numbers, which are sorted by this. */
double job_median(double *values, size_t n);

/* ---- Fidelity ------------------------------------------------------------------------------- */

/* How near a result is to dense attention. Recall is the share of dense attention's mass that the
 * kept keys hold: exp(lse - lse of dense), the mean over rows and the 5th percentile. Rows without
 * any valid key are left out. */
struct job_fidelity {
    double relative;       /* sqrt(sum of squared differences / sum of squares), over all heads */
    double worst_relative; /* of one head of one sample                                         */
    uint32_t worst_head;   /* its number: sample x heads + head                                 */
    double cosine;         /* of all values together                                            */
    double recall, recall_p5;
    uint64_t not_finite; /* values of out that are NaN or infinite                            */
};

/* out, dense: [batch, tokens, heads, dim] of the type; lse, dense_lse: [batch, heads, tokens], or
 * both NULL: then recall is -1. */
void job_compare(const struct draft_shape *shape, draft_type type, const void *out,
                 const void *dense, const float *lse, const float *dense_lse,
                 struct job_fidelity *result);

#endif
