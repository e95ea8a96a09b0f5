/* SPDX-License-Identifier: MIT
 *
 * Number formats, and how far a result is from dense attention. */
#include "job.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "program.h"

enum { CHUNK = 256 }; /* values converted at a time: more than the largest dim */

/* ---- Numbers ------------------------------------------------------------------------------ */

size_t job_type_size(draft_type type)
{
    return type == DRAFT_F32 ? 4 : 2;
}

static float bits_to_float(uint32_t bits)
{
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

static uint32_t float_to_bits(float f)
{
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    return bits;
}

static float f16_to_f32(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, rest = h & 0x7fff;
    if (rest >= 0x7c00) /* infinite, NaN */
        return bits_to_float(sign | 0x7f800000 | (rest & 0x3ff) << 13);
    if (rest >= 0x400)
        return bits_to_float(sign | ((rest << 13) + ((127u - 15u) << 23)));
    float small = (float)rest * 0x1p-24f;
    return sign ? -small : small;
}

static uint16_t f32_to_f16(float f)
{
    uint32_t bits = float_to_bits(f), sign = bits >> 16 & 0x8000, rest = bits & 0x7fffffff;
    if (rest > 0x7f800000)
        return (uint16_t)(sign | 0x7e00);
    if (rest >= 0x477ff000) /* rounds to 65536 or more */
        return (uint16_t)(sign | 0x7c00);
    if (rest < 0x38800000) /* below 2^-14: adding 0.5 rounds to multiples of 2^-24 */
        return (uint16_t)(sign | (float_to_bits(bits_to_float(rest) + 0.5f) - 0x3f000000));
    rest += 0xfff + (rest >> 13 & 1);
    return (uint16_t)(sign | ((rest >> 13) - ((127u - 15u) << 10)));
}

static uint16_t f32_to_bf16(float f)
{
    uint32_t bits = float_to_bits(f);
    if ((bits & 0x7fffffff) > 0x7f800000)
        return (uint16_t)(bits >> 16 | 0x40);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

void job_to_f32(draft_type type, float *to, const void *from, size_t n)
{
    const unsigned char *bytes = from;
    if (type == DRAFT_F32) {
        memcpy(to, from, n * sizeof *to);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        uint16_t h; /* by memcpy: data in files may lie at odd addresses */
        memcpy(&h, bytes + 2 * i, sizeof h);
        to[i] = type == DRAFT_F16 ? f16_to_f32(h) : bits_to_float((uint32_t)h << 16);
    }
}

void job_from_f32(draft_type type, void *to, const float *from, size_t n)
{
    uint16_t *half = to;
    if (type == DRAFT_F32)
        memcpy(to, from, n * sizeof *from);
    else
        for (size_t i = 0; i < n; i++)
            half[i] = type == DRAFT_F16 ? f32_to_f16(from[i]) : f32_to_bf16(from[i]);
}

/* ---- Fidelity ----------------------------------------------------------------------------- */

/* Sums over the values of one head or of all. */
struct sums {
    double difference, dense, out, product;
};

static void add_row(struct sums *s, const float *out, const float *dense, size_t n,
                    uint64_t *not_finite)
{
    for (size_t i = 0; i < n; i++) {
        double a = out[i], b = dense[i];
        if (!isfinite(a))
            ++*not_finite;
        s->difference += (a - b) * (a - b);
        s->dense += b * b;
        s->out += a * a;
        s->product += a * b;
    }
}

static double relative(const struct sums *s)
{
    return s->difference > 0 || isnan(s->difference) ? sqrt(s->difference / s->dense) : 0;
}

/* One head of one sample. */
static struct sums sum_head(const struct draft_shape *shape, draft_type type,
                            const unsigned char *out, const unsigned char *dense, uint64_t tokens,
                            uint64_t *not_finite)
{
    struct sums sums = {0};
    float a[CHUNK], b[CHUNK];
    size_t size = job_type_size(type), stride = (size_t)shape->heads * shape->dim * size;
    for (uint64_t t = 0; t < tokens; t++) {
        for (uint32_t d = 0; d < shape->dim; d += CHUNK) {
            size_t n = shape->dim - d < CHUNK ? shape->dim - d : CHUNK;
            job_to_f32(type, a, out + t * stride + d * size, n);
            job_to_f32(type, b, dense + t * stride + d * size, n);
            add_row(&sums, a, b, n, not_finite);
        }
    }
    return sums;
}

static int by_value(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static void compare_lse(const float *lse, const float *dense, size_t n, struct job_fidelity *result)
{
    float *recall = program_calloc(n, sizeof *recall);
    size_t rows = 0;
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        if (!isfinite(dense[i])) /* a row of padding */
            continue;
        /* Rounding may leave a little more than 1 where everything was kept. */
        double share = fmin(exp((double)lse[i] - (double)dense[i]), 1.0);
        recall[rows++] = isnan(share) ? 0 : (float)share;
        sum += recall[rows - 1];
    }
    qsort(recall, rows, sizeof *recall, by_value);
    result->recall = rows ? sum / (double)rows : 1;
    result->recall_p5 = rows ? recall[rows / 20] : 1;
    free(recall);
}

void job_compare(const struct draft_shape *shape, draft_type type, const void *out,
                 const void *dense, const float *lse, const float *dense_lse,
                 struct job_fidelity *result)
{
    struct job_sizes sizes;
    struct sums all = {0};
    *result = (struct job_fidelity){.worst_relative = -1, .recall = -1, .recall_p5 = -1};
    if (!job_sizes(shape, &sizes))
        return;
    size_t row = (size_t)shape->dim * job_type_size(type);
    for (uint64_t i = 0; i < sizes.batch * shape->heads; i++) {
        size_t start = (i / shape->heads * sizes.tokens * shape->heads + i % shape->heads) * row;
        struct sums head =
            sum_head(shape, type, (const unsigned char *)out + start,
                     (const unsigned char *)dense + start, sizes.tokens, &result->not_finite);
        /* Written so that NaN counts as the worst, and the first NaN stays. */
        if (!isnan(result->worst_relative) && !(relative(&head) <= result->worst_relative)) {
            result->worst_relative = relative(&head);
            result->worst_head = (uint32_t)i;
        }
        all.difference += head.difference;
        all.dense += head.dense;
        all.out += head.out;
        all.product += head.product;
    }
    result->relative = relative(&all);
    result->cosine = all.out > 0 && all.dense > 0 ? all.product / sqrt(all.out * all.dense) : 0;
    if (lse && dense_lse)
        compare_lse(lse, dense_lse, sizes.lse, result);
}
