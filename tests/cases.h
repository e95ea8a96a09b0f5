/* SPDX-License-Identifier: MIT
 *
 * The table of cases that tests and `draft verify` share, and the inputs that belong to a case. */
#ifndef DRAFT_TESTS_CASES_H
#define DRAFT_TESTS_CASES_H

#include <draft/draft.h>

#include "oracle.h"

/* What q, k and v are filled with. */
enum fill {
    FILL_SMOOTH,   /* waves over the grid and noise: maps with large and small entries   */
    FILL_CONSTANT, /* every element the same: all logits tie                             */
    FILL_ROWS,     /* each token one constant: blocks differ, channels do not            */
    FILL_SPIKE,    /* one query and one key 50 times as large: one huge score            */
    FILL_DENORMAL, /* denormals of the type                                              */
    FILL_EXTREME,  /* +-65504 in one channel, all of v +-65504                           */
    FILL_LARGE,    /* even heads: q and v so large that sums over a block are infinite in
                      f32, k small; odd heads: k large, q small. With scale 2^-103      */
    FILL_SQUARES,  /* logits are finite in f32, but squares of q in a channel where k is 0,
                      and in others squares times squares, are not                      */
};

/* What a plan is not told, since it is the default: bits of test_case.unsaid. */
enum { UNSAID_RULE = 1, UNSAID_SCORER = 2, UNSAID_TAIL = 4 };

struct test_case {
    const char *name;
    struct draft_plan_params params;
    uint32_t gap;               /* units of 16 bytes left free after each head, token, sample;
                                   one more in each tensor from q to out                    */
    bool heads_first;           /* q and v are [batch, heads, tokens, dim] by strides         */
    const uint32_t (*valid)[2]; /* NULL, or one pair for each sample                          */
    enum fill fill;
    uint32_t stages; /* 0: all                                                     */
    bool no_lse;
    bool lone_strides; /* those of axes of length 1, which count for nothing, are odd */
    bool kept_only;    /* DRAFT_RUN_KEPT_ONLY                                      */
    uint32_t cuts;     /* all stages in a row: a run of its own ends after these   */
    uint32_t again;    /* stages that run once more, before attend does            */
    uint32_t unsaid;   /* params have what the header says of these: the plan gets 0        */
};

/* The second part of the table: cases_tail.c. */
enum { CASES_TAIL = 71 };
extern struct test_case cases_tail[CASES_TAIL];

/* For devices without f32, the first call of a program: type, which is F16, takes the place of f32
 * in all cases that are not about it, as those are whose name says f32. */
void cases_change_f32(draft_type type);

/* The cases whose name contains the text (NULL: all); quick: of a few that have each feature. Returns
 * how many; *out is static storage, until the next call. */
size_t cases_matching(const char *text, bool quick, const struct test_case *const **out);
/* The same of $DRAFT_CASES (all where it is unset), not only quick ones. */
size_t cases_chosen(const struct test_case *const **out);
/* One by its exact name. Never NULL. */
const struct test_case *case_named(const char *name);

static inline bool case_has(const struct test_case *test, draft_stage stage)
{
    return !test->stages || (test->stages & stage);
}

/* A tensor in host memory as the library will see it: gaps hold POISON. */
struct host_tensor {
    draft_type type;
    uint32_t batch, tokens, heads, dim;
    uint64_t batch_stride, token_stride, head_stride; /* elements */
    size_t size;                                      /* bytes up to the last element */
    uint8_t *bytes;
};

/* Index of the first element of a row. */
uint64_t tensor_row(const struct host_tensor *tensor, uint32_t batch, uint32_t token,
                    uint32_t head);

/* All that a case gives, the same for each device. */
struct problem {
    const struct test_case *test;
    struct oracle_grid grid;
    uint32_t batch, heads, kv_heads, dim;
    float scale;
    struct host_tensor q, k, v, out;     /* out is poisoned                               */
    double *exact_q, *exact_k, *exact_v; /* what q, k, v hold, [batch][heads][tokens][dim] */
    uint32_t (*valid)[2];                /* NULL, or [batch]                              */
};

/* tile: the plan's. Keys and values of text beyond its valid length are NaN. */
void problem_init(struct problem *problem, const struct test_case *test, struct draft_tile tile);
void problem_free(struct problem *problem);

/* [tokens][dim] of one sample and one query head; for k and v those of its group. */
const double *problem_q(const struct problem *problem, uint32_t batch, uint32_t head);
const double *problem_k(const struct problem *problem, uint32_t batch, uint32_t head);
const double *problem_v(const struct problem *problem, uint32_t batch, uint32_t head);

#endif
