/* SPDX-License-Identifier: MIT */
#include "trial.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

double draft_trial_roundoff(draft_type type)
{
    return type == DRAFT_F16 ? 0x1p-11 : type == DRAFT_BF16 ? 0x1p-8 : U32;
}

float draft_trial_next(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return (float)((int)(*state >> 24) % 255 - 127) / 128;
}

void draft_trial_store(draft_type type, uint8_t *array, size_t index, float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    uint32_t exponent = bits >> 23 & 255, half = bits >> 16 & 0x8000;
    uint16_t narrow = (uint16_t)(bits >> 16); /* bf16 */
    if (type == DRAFT_F16)
        narrow = (uint16_t)(exponent ? half | (exponent - 112) << 10 | (bits >> 13 & 1023) : half);
    if (type == DRAFT_F32)
        memcpy(array + index * 4, &bits, 4);
    else
        memcpy(array + index * 2, &narrow, 2);
}

double draft_trial_product(const float *a, const float *b, uint32_t dim)
{
    double sums[4] = {0};
    for (uint32_t d = 0; d < dim; d += 4)
        for (uint32_t e = 0; e < 4; e++)
            sums[e] += (double)a[d + e] * b[d + e];
    return sums[0] + sums[1] + (sums[2] + sums[3]);
}

void draft_trial_compare(struct draft_proof *proof, double got, double want, double allowed,
                         struct draft_spot spot)
{
    double share = got == want ? 0 : fabs(got - want) / allowed;
    if (!(share <= proof->worst)) { /* or no number */
        proof->worst = isnan(share) ? INFINITY : share;
        snprintf(proof->where, sizeof proof->where,
                 "%s of sample %u, head %u, %s %u is %.6g, not %.6g", spot.what, spot.b, spot.h,
                 spot.unit, spot.at, got, want);
    }
    proof->wrong = proof->worst > 1;
}

double draft_trial_now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

struct draft_kind draft_kind_of(const struct draft_kind *kind, draft_stage stage)
{
    uint32_t tail = kind->tail == DRAFT_TAIL_DROP ? DRAFT_TAIL_DROP : DRAFT_TAIL_MEAN;
    if (stage == DRAFT_SELECT)
        return (struct draft_kind){.rule = kind->rule, .floor = kind->floor, .tail = tail};
    if (stage == DRAFT_ATTEND)
        return (struct draft_kind){.type = kind->type, .dim = kind->dim, .tail = tail};
    return (struct draft_kind){
        .type = kind->type, .dim = kind->dim, .scorer = kind->scorer, .tail = kind->tail};
}

draft_status draft_proof_run(draft_context *context, const char *const kernels[DRAFT_STAGES],
                             const struct draft_kind *kind, uint32_t stages,
                             struct draft_proof out[DRAFT_STAGES])
{
    draft_status status = DRAFT_OK;
    memset(out, 0, DRAFT_STAGES * sizeof *out);
    if (stages & ~(uint32_t)DRAFT_ATTEND)
        status = draft_trial_maps(context, kernels, kind, stages, out);
    if (!status && stages & DRAFT_ATTEND)
        status = draft_trial_attend(context, kernels, kind, &out[draft_stage_index(DRAFT_ATTEND)]);
    return status;
}
