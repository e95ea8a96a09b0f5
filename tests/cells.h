/* SPDX-License-Identifier: MIT
 *
 * The grid of the suite: each stage, in each variant that a backend has, for a case, alone with
 * injected input; then all stages in a row. The tests and `draft verify` both walk through it. */
#ifndef DRAFT_TESTS_CELLS_H
#define DRAFT_TESTS_CELLS_H

#include "checks.h"

/* What is injected, the same for each device and variant. All zero until it is first used. */
struct inputs {
    struct problem problem;
    float *pooled_q, *pooled_k; /* [batch, heads or kv_heads, S, dim] */
    struct tail_inputs *tail;   /* NULL: the case has none of it      */
    uint32_t *counts;           /* [batch, heads, B]                  */
    uint16_t *lists, *order;
    struct expected expected; /* of these lists                     */
};

void inputs_free(struct inputs *in);

struct cell {
    struct test_device *device;
    const char *stage;   /* "all": all in a row, with the kernels that the plan chooses */
    const char *variant; /* NULL for "all"                                             */
};

bool cells_same(const struct cell *a, const struct cell *b);

struct outcome {
    bool refused;      /* the variant does not take the device or the case: it was not run   */
    size_t mismatches; /* a call or a condition that failed is one                           */
    double worst;      /* largest error as a share of its tolerance; 0 where bits are compared */
    double seconds;    /* of the device's runs                                               */
};

/* Called before a cell runs, with NULL for its outcome, and after it, when all that is to be said about
 * it has been printed. */
typedef void cell_told(void *user, const struct cell *cell, const struct outcome *outcome);

/* Does the device take the type of the case, and its backend what else it asks for? */
bool cells_take(const struct test_device *device, const struct test_case *test);

/* The tile that the library chooses for the case. */
struct draft_tile cells_tile(struct test_device *device, const struct test_case *test);

/* Run the case on a device. `in` belongs to this case. Returns how many mismatches there were. */
size_t cells_run(struct test_device *device, const struct test_case *test, struct inputs *in,
                 cell_told *told, void *user);

/* What became of a cell over many cases. */
struct tally {
    struct cell cell;
    unsigned runs, refused, failed; /* cases */
    size_t mismatches;
    double worst, seconds;
};

struct tallies {
    struct tally *rows; /* in the order in which cells first came */
    size_t count;
};

/* Add an outcome to its cell; returns the cell's row, which lives until the next call. */
struct tally *tallies_add(struct tallies *tallies, const struct cell *cell,
                          const struct outcome *outcome);
void tallies_free(struct tallies *tallies);

#endif
