/* SPDX-License-Identifier: MIT
 *
 * What a caller may do with one plan and one workspace, in any order: the steps of a random case.
 * After each, all that the library has written is compared with the oracle, or with what it wrote
 * before, and everything else must have stayed as it was. */
#ifndef DRAFT_TESTS_RANDOM_WALK_H
#define DRAFT_TESTS_RANDOM_WALK_H

#include "cells.h"
#include "random_cases.h"

/* Where a case has steps and all stages; it is a cell "walk". Returns how many mismatches. */
size_t random_walk(struct test_device *device, const struct random_case *c, cell_told *told);

/* ---- For the files of steps ---- */

struct walk {
    struct test_device *device;
    struct test_case test; /* its name changes with the tensors */
    char name[40];
    struct problem problem;
    struct rig rig;
    uint32_t held; /* stages whose results the workspace holds */
    struct rng r;  /* of the step                              */
    size_t bad;
    const char *cell;
};

/* Stages with all that they need and the workspace lacks. */
uint32_t walk_needs(const struct walk *w, uint32_t stages);
/* Run them and what they need, in one run or several; all that is written is compared. */
void walk_run(struct walk *w, uint32_t stages);
/* The same without what they need; nothing else is compared than what must stay. */
void walk_launch(struct walk *w, uint32_t stages);
/* After a launch: unknown as in struct expected. */
void walk_check_attend(struct walk *w, const uint8_t *unknown);
/* The tensors as the problem has them. */
void walk_put_tensors(struct walk *w);
/* What was read last is what is expected to stay. */
void walk_accept(struct walk *w);
/* Says what is wrong where it is. */
void walk_expect(struct walk *w, bool right, const char *what);
/* A copy of what was read last. */
uint8_t *walk_copy(const struct buffer *b);

bool walk_one_in(struct walk *w, uint32_t n);
/* Of all samples. */
size_t walk_heads(const struct walk *w);

/* Steps: random_lists.c, random_strange.c. */
void walk_lists(struct walk *w);
void walk_probe(struct walk *w);
void walk_strange(struct walk *w);

#endif
