/* SPDX-License-Identifier: MIT
 *
 * Each stage's result against the oracle fed with the same input. Each function prints the first
 * mismatches and returns how many there are; `cell` names what was tested.
 *
 * Tolerances follow from the arithmetic that METHOD and the header promise, f32 accumulation and
 * one rounding to the type; they stand in the table in tolerance.h. */
#ifndef DRAFT_TESTS_CHECKS_H
#define DRAFT_TESTS_CHECKS_H

#include "rig.h"

/* After rig_intact has read the buffers. */
size_t check_pool(const struct rig *rig, const char *cell);

/* Against the means that the workspace holds: the map, and the bias but for its signs. */
size_t check_score(const struct rig *rig, const char *cell);

/* Against the map that the workspace holds, bit by bit: lists, and the signs of the bias. */
size_t check_select(const struct rig *rig, const char *cell);

/* The same against kept [batch, heads, B, B], 1 where the pair is kept. */
size_t check_kept(const struct rig *rig, const char *cell, const uint8_t *kept);

/* The attention that the lists ask for, for each sample and head. */
struct expected {
    const struct problem *problem;
    struct oracle_result *heads; /* [batch x heads]                                   */
    const uint8_t *unknown;      /* NULL, or [batch x heads, tokens]: rows that are not compared */
};

/* Pooled keys and values of the problem's type [batch, kv_heads, S, dim], and the bias [batch, heads,
 * S, bias_stride]. k NULL: blocks that are left out are dropped. */
struct tail {
    const void *k, *v;
    const float *bias;
    uint32_t bias_stride;
};

/* What the workspace holds, after rig_intact has read it; nothing where the plan has none. */
struct tail rig_tail(const struct rig *rig);

/* counts [batch, heads, B], lists [batch, heads, B, B]; both NULL: dense. tail: NULL for none. */
void expected_init(struct expected *expected, const struct problem *problem, const uint32_t *counts,
                   const uint16_t *lists, const struct tail *tail);
void expected_free(struct expected *expected);
size_t check_attend(const struct rig *rig, const struct expected *expected, const char *cell);

/* The largest error so far of any check, as a share of its tolerance: a tolerance that is never
 * half used is too wide. */
double checks_worst(const char *stage);

/* The largest since the last call, of all checks, those that failed among them. */
double checks_take_worst(void);

#endif
