/* SPDX-License-Identifier: MIT
 *
 * What is injected into the stages of plans with quarters, parts, moments or pooled keys. */
#ifndef DRAFT_TESTS_CELLS_TAIL_H
#define DRAFT_TESTS_CELLS_TAIL_H

#include "checks.h"

struct tail_inputs;

/* NULL where the case asks for nothing beyond the paper's method; NULL is fine for the others. */
struct tail_inputs *tail_inputs_new(const struct problem *problem);
void tail_inputs_free(struct tail_inputs *in);

/* Set the signs of the bias as lists say. */
void tail_inputs_mark(struct tail_inputs *in, const struct problem *problem, const uint32_t *counts,
                      const uint16_t *lists);

/* For expected_init. */
struct tail tail_inputs_tail(const struct tail_inputs *in);

/* Write what the stage reads: for SCORE quarters, parts and moments, for SELECT a bias, for ATTEND
 * pooled keys and a bias. */
void tail_inputs_put(const struct tail_inputs *in, struct rig *rig, draft_stage stage);

/* After a stage alone: has SELECT left the bias as it was but for the signs; has SCORE left the
 * signs clear and -inf behind each row? Returns the mismatches. */
size_t tail_inputs_kept(const struct tail_inputs *in, const struct rig *rig, const char *cell);
size_t tail_unmarked(const struct rig *rig, const char *cell);

#endif
