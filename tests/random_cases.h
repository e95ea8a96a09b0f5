/* SPDX-License-Identifier: MIT
 *
 * Cases drawn at random, for what lies between those of the table. A seed is one case, whatever the
 * other seeds and devices are; small enough for software drivers. */
#ifndef DRAFT_TESTS_RANDOM_CASES_H
#define DRAFT_TESTS_RANDOM_CASES_H

#include "cases.h"

enum { RANDOM_MOST_HEADS = 6, RANDOM_MOST_BATCH = 3, RANDOM_MOST_STEPS = 5 };

/* What a walk is made of: random_walk.h. */
enum random_kind {
    STEP_RUN,     /* some stages, in one run or several, with lse or without                  */
    STEP_LISTS,   /* lists of the caller's; before, perhaps, some that are refused            */
    STEP_PROBE,   /* against what its blocks show when they are run                           */
    STEP_TENSORS, /* other q, k, v; other factors where the plan has some                     */
    STEP_STRANGE, /* NaN and infinities in some places, for a while                           */
    STEP_PLAN,    /* a run of another plan, where it fits in the same workspace               */
    STEP_SHARED,  /* tensors that share memory, as far as the header allows                   */
    STEP_KINDS
};

struct random_step {
    enum random_kind kind;
    uint32_t number; /* of its random numbers */
};

/* Where it is copied, random_case_copy; `test` points into it. */
struct random_case {
    struct test_case test;
    struct random_step steps[RANDOM_MOST_STEPS];
    uint32_t step_count;
    uint32_t variant; /* of attend in the walk, modulo their number; one more: the plan chooses */
    char name[32];
    double head_sparsity[RANDOM_MOST_HEADS];
    uint32_t valid[RANDOM_MOST_BATCH][2];
};

/* f32: the type in place of f32, on devices that do not take that; DRAFT_F32 elsewhere. */
void random_case_draw(struct random_case *out, uint64_t seed, draft_type f32);
void random_case_copy(struct random_case *to, const struct random_case *from);

/* What is not said becomes what the header says of it. */
void random_case_settle(struct random_case *c);

/* Breaks one rule of the header. Returns which, in words. */
const char *random_case_spoil(struct random_case *c, uint64_t seed);

/* All that is not the default, in one line. Static buffer. */
const char *random_case_words(const struct random_case *c);

/* Change number 0, 1, ... towards a case with less in it: false where it changes nothing. */
enum { RANDOM_CHANGES = 27 + RANDOM_MOST_STEPS };
bool random_case_less(struct random_case *c, unsigned number);

/* $DRAFT_RANDOM=SEED[,COUNT]: how many seeds from *first on; 0 where it is unset. */
uint64_t random_seeds(uint64_t *first);

#endif
