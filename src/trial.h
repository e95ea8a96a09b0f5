/* SPDX-License-Identifier: MIT
 *
 * What the problems of the self-test share: inputs of few bits, error bounds, and the two problems
 * themselves. With u the roundoff of f32 and U that of the type of the tensors:
 *
 *   sum of n terms   SPREAD sqrt(n) u sum|terms|   errors of a sum add like a random walk
 *   logit            E = SPREAD sqrt(dim) u scale |q||k|
 *   weight p         p (exp(2E) - 1)               the logit and the maximum may be off by E
 *   exp, divide      FUNCTION u
 *   log              LOG_ERROR                     near 1
 *   stored           U |x|                         rounded once */
#ifndef DRAFT_TRIAL_H
#define DRAFT_TRIAL_H

#include "core.h"
#include "proof.h"

static const double SPREAD = 4;
static const double FUNCTION = 16;
static const double LOG_ERROR = 0x1p-21;
static const double U32 = 0x1p-24;

double draft_trial_roundoff(draft_type type);

/* The next of -127 ... 127, over 128. */
float draft_trial_next(uint32_t *state);

/* value: 0, or a normal number of the type, exactly. */
void draft_trial_store(draft_type type, uint8_t *array, size_t index, float value);

/* Of two rows; dim is a multiple of 4. */
double draft_trial_product(const float *a, const float *b, uint32_t dim);

/* Which number is looked at: "map of sample 0, head 1, row 7". */
struct draft_spot {
    const char *what;
    uint32_t b, h;
    const char *unit;
    uint32_t at;
};
/* Note the error of a number. allowed 0: it has to be equal. */
void draft_trial_compare(struct draft_proof *proof, double got, double want, double allowed,
                         struct draft_spot spot);

double draft_trial_now(void);

/* ---- Attend: proof_attend.c ---- */

/* *out: ran is false where the variants do not take the problem. */
draft_status draft_trial_attend(draft_context *context, const char *const kernels[DRAFT_STAGES],
                                const struct draft_kind *kind, struct draft_proof *out);

/* ---- Pool, score and select: proof_maps.c ---- */

enum { DRAFT_TRIAL_ROWS = 42, DRAFT_TRIAL_TEXT = 3 }; /* blocks of the video and of text */

/* What the device got, and what it has made of it. */
struct draft_maps {
    const struct draft_plan *plan;
    const struct draft_geometry *g; /* of the plan                             */
    const uint8_t *q, *k, *v;       /* [batch, tokens, heads or kv_heads, dim] */
    const uint8_t *put, *got;       /* workspace before and after              */
    struct draft_proof *proof;
};

draft_status draft_trial_maps(draft_context *context, const char *const kernels[DRAFT_STAGES],
                              const struct draft_kind *kind, uint32_t stages,
                              struct draft_proof out[DRAFT_STAGES]);

/* Errors: MEMORY. proof_pool.c, proof_score.c, proof_select.c. */
draft_status draft_trial_check_pool(const struct draft_maps *maps);
draft_status draft_trial_check_score(const struct draft_maps *maps);
draft_status draft_trial_check_select(const struct draft_maps *maps);

#endif
