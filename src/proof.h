/* SPDX-License-Identifier: MIT
 *
 * The self-test of a kernel: attend on a small problem whose result the core computes itself. What
 * came out is kept, in the context and in a file of the user's folder for caches. */
#ifndef DRAFT_PROOF_H
#define DRAFT_PROOF_H

#include "backend.h"

struct draft_choice;

/* What a self-test found. */
struct draft_proof {
    bool wrong;
    double worst;    /* largest error as a share of what is allowed; infinite for no number */
    char where[128]; /* of that error                                                       */
    double seconds;  /* of all of it                                                        */
};

/* Which of a variant's code. */
struct draft_proof_params {
    draft_type type;
    uint32_t dim;
    bool tail; /* with pooled keys */
};

/* Test variant `kernel` of attend, whatever DRAFT_KERNEL says, on the context's own queue.
 * UNSUPPORTED where the variant refuses. src/proof.c. */
draft_status draft_proof_run(draft_context *context, const char *kernel,
                             const struct draft_proof_params *params, struct draft_proof *out);

/* May the plan, which backend->plan has made, keep its kernel for attend? Tests the kernel where that
 * was not done before. If not, it is ruled out in `choice`. Errors: whatever kept the test from
 * coming to an end. src/verdicts.c. */
draft_status draft_prove(const struct draft_plan *plan, struct draft_choice *choice);

/* What is known of a context's kernels; any thread. NULL: out of memory. */
struct draft_proofs *draft_proofs_create(void);
void draft_proofs_destroy(struct draft_proofs *proofs);

#endif
