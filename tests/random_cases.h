/* SPDX-License-Identifier: MIT
 *
 * Cases drawn at random, for what lies between those of the table. A seed is one case, whatever the
 * other seeds and devices are; small enough for software drivers. */
#ifndef DRAFT_TESTS_RANDOM_CASES_H
#define DRAFT_TESTS_RANDOM_CASES_H

#include "cases.h"

enum { RANDOM_MOST_HEADS = 6, RANDOM_MOST_BATCH = 3 };

/* Where it is copied, random_case_copy; `test` points into it. */
struct random_case {
    struct test_case test;
    char name[32];
    double head_sparsity[RANDOM_MOST_HEADS];
    uint32_t valid[RANDOM_MOST_BATCH][2];
};

/* f32: the type in place of f32, on devices that do not take that; DRAFT_F32 elsewhere. */
void random_case_draw(struct random_case *out, uint64_t seed, draft_type f32);
void random_case_copy(struct random_case *to, const struct random_case *from);

/* Breaks one rule of the header. Returns which, in words. */
const char *random_case_spoil(struct random_case *c, uint64_t seed);

/* All that is not the default, in one line. Static buffer. */
const char *random_case_words(const struct random_case *c);

/* Step number 0, 1, ... towards a case with less in it: false where it changes nothing. */
enum { RANDOM_STEPS = 25 };
bool random_case_less(struct random_case *c, unsigned step);

/* $DRAFT_RANDOM=SEED[,COUNT]: how many seeds from *first on; 0 where it is unset. */
uint64_t random_seeds(uint64_t *first);

#endif
