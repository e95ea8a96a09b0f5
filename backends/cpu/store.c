/* SPDX-License-Identifier: MIT
 *
 * Rounding to the types of tensors, to nearest, ties to even. */
#include <string.h>

#include "cpu.h"

static uint16_t to_bf16(uint32_t bits)
{
    if ((bits & 0x7fffffffu) > 0x7f800000u)
        return (uint16_t)(bits >> 16 | 0x40u); /* NaN stays NaN */
    return (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1)) >> 16);
}

static uint16_t to_f16(uint32_t bits)
{
    uint32_t sign = bits >> 16 & 0x8000u, magnitude = bits & 0x7fffffffu;
    if (magnitude > 0x7f800000u)
        return (uint16_t)(sign | 0x7e00u);
    if (magnitude >= 0x477ff000u) /* 65520 and more round to infinity */
        return (uint16_t)(sign | 0x7c00u);
    if (magnitude < 0x38800000u) { /* below 2^-14: a multiple of 2^-24, rounded by the addition */
        float value;
        memcpy(&value, &magnitude, sizeof value);
        value += 0.5f;
        memcpy(&magnitude, &value, sizeof magnitude);
        return (uint16_t)(sign | (magnitude - 0x3f000000u));
    }
    uint32_t rounded = magnitude + 0xfffu + (magnitude >> 13 & 1);
    return (uint16_t)(sign | (rounded - 0x38000000u) >> 13);
}

void draft_cpu_store_row(uint32_t type, const float *row, uint32_t dim, void *to)
{
    if (type == DRAFT_ABI_F32) {
        memcpy(to, row, dim * sizeof *row);
        return;
    }
    for (uint32_t d = 0; d < dim; d++) {
        uint32_t bits;
        memcpy(&bits, row + d, sizeof bits);
        ((uint16_t *)to)[d] = type == DRAFT_ABI_F16 ? to_f16(bits) : to_bf16(bits);
    }
}
