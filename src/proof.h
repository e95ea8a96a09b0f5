/* SPDX-License-Identifier: MIT
 *
 * The self-test of kernels: small problems whose results the core computes itself. What came out is
 * kept, in the context and in a file of the user's folder for caches. */
#ifndef DRAFT_PROOF_H
#define DRAFT_PROOF_H

#include "backend.h"

struct draft_choice;

/* What a self-test found of the kernels of one stage. */
struct draft_proof {
    bool ran; /* false: one of the variants does not take the problem                */
    bool wrong;
    double worst;    /* largest error as a share of what is allowed; infinite for no number */
    char where[128]; /* of that error                                                       */
    double seconds;  /* of all of it                                                        */
};

/* What decides, beside the variant, which code of a kernel runs: values of draft_geometry. */
struct draft_kind {
    uint32_t type, dim, scorer, tail, rule;
    uint32_t floor; /* 1: DRAFT_FORCED_FLOOR */
};

/* What of a kind a stage looks at; 0 for the rest, and MEAN for any tail that is as good. */
struct draft_kind draft_kind_of(const struct draft_kind *kind, draft_stage stage);

/* Test `stages` (bits) on the context's own queue, whatever DRAFT_KERNEL says. kernels: the variant
 * of each stage, of the others too; NULL: the best that takes the problem. Each stage gets inputs
 * from the host, so that none is blamed for another. src/proof.c. */
draft_status draft_proof_run(draft_context *context, const char *const kernels[DRAFT_STAGES],
                             const struct draft_kind *kind, uint32_t stages,
                             struct draft_proof out[DRAFT_STAGES]);

/* May the plan, which backend->plan has made, keep its kernels? Tests those that were not tested
 * before. What it may not keep is ruled out in `choice`. Errors: whatever kept the test from coming
 * to an end. src/verdicts.c. */
draft_status draft_prove(const struct draft_plan *plan, struct draft_choice *choice);

/* What is known of a context's kernels; any thread. NULL: out of memory. */
struct draft_proofs *draft_proofs_create(void);
void draft_proofs_destroy(struct draft_proofs *proofs);

#endif
