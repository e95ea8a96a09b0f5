/* SPDX-License-Identifier: MIT
 *
 * What the files of checks share: tolerances and reports.
 *
 * With u = 2^-24, the roundoff of f32, and U that of the type of out:
 *
 *   sum of n terms    SPREAD sqrt(n) u sum|terms|       rounding errors add like a random walk
 *   logit             E = SPREAD sqrt(dim) u scale |q||k|
 *   weight p          p (exp(2E) - 1)                   both logit and maximum may be off by E
 *   exp, divide       FUNCTION u                        what Vulkan asks of exp near 0, and divide
 *   log               LOG_ERROR                         what Vulkan asks of log near 1
 *   out               U |out|                           rounded once, to nearest
 *   smallest numbers  FLT_MIN; one denormal of f16      f32 denormals may be flushed
 *   p for matrix units  U sum p|v|                      only kernels that round p to the type
 *   variance of n     relative as a sum of n squares, and twice the square of the mean's error */
#ifndef DRAFT_TESTS_TOLERANCE_H
#define DRAFT_TESTS_TOLERANCE_H

#include "rig.h"

static const double SPREAD = 4;
static const double FUNCTION = 16;
static const double U32 = 0x1p-24;
static const double LOG_ERROR = 0x1p-21;
static const double F16_LEAST = 0x1p-24;

/* Above this, exp(2E) says nothing; only bounds and sums are checked. */
static const double HOPELESS = 4;

/* Relative error of a sum of n terms. */
double sum_error(double n);

double length_of(const float *x, uint32_t dim);

/* Bound of the error of the logits of a row. */
double logit_error(const struct problem *p, const float *mean_q, double longest_k,
                   double largest_logit);

/* True where |got - want| <= tolerance; equal infinities are equal. */
bool close_to(const char *stage, double got, double want, double tolerance);

/* Says where, unless enough has been said: bad counts what has been found in this cell. */
void report(size_t bad, const char *cell, const char *what, double got, double want,
            double tolerance);

/* ---- checks_tail.c: what the plan has beyond the paper's method ---- */

/* Quarters, parts, moments, tail_k and tail_v. */
size_t check_pool_tail(const struct rig *rig, const char *cell);

/* The map of head h of sample b, where its scorer takes quarters. */
size_t check_quarter_map(const struct rig *rig, const char *cell, uint32_t b, uint32_t h);

/* The same for scorer EXCESS. */
size_t check_part_map(const struct rig *rig, const char *cell, uint32_t b, uint32_t h);

/* The map's rows against p and logits; error [S]: of the logits of each row. */
size_t check_map_rows(const struct rig *rig, const char *cell, uint32_t b, uint32_t h,
                      const double *want, const double *logits, const double *error,
                      const float *got);

/* |bias| of all heads. */
size_t check_bias(const struct rig *rig, const char *cell);

#endif
