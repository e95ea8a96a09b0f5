/* SPDX-License-Identifier: MIT
 *
 * Arithmetic on tiles, compiled once for each instruction set. Vectors are the compiler's own
 * (GCC and clang vector extensions), so one text serves SSE2, AVX2, AVX-512 and other processors.
 *
 * The product keeps a small tile of sums in 8 vector registers: enough to hide the latency of 2 fused
 * multiply-adds a cycle, and few enough that factors fit beside them. */
#include <math.h>
#include <string.h>

#include "cpu.h"

#define PASTE_(a, b)  a##b
#define PASTE(a, b)   PASTE_(a, b)
#define STRING_(name) #name
#define STRING(name)  STRING_(name)

#if defined(__AVX512F__)
enum { LANES = 16, SUM_ROWS = 8, SUM_VECTORS = 1 };
#elif defined(__AVX__)
enum { LANES = 8, SUM_ROWS = 4, SUM_VECTORS = 2 };
#else
enum { LANES = 4, SUM_ROWS = 4, SUM_VECTORS = 2 };
#endif
enum { SUM_COLUMNS = SUM_VECTORS * LANES };
_Static_assert(CPU_ROWS % SUM_ROWS == 0 && CPU_PANEL % SUM_COLUMNS == 0, "sums tile the product");

typedef float vec __attribute__((vector_size(LANES * 4), aligned(4), may_alias));
typedef int32_t ivec __attribute__((vector_size(LANES * 4), aligned(4), may_alias));

/* ---- Conversion ------------------------------------------------------------------------------ */

static float from_bits(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static void load_f16(const uint16_t *from, uint32_t n, float *to)
{
    for (uint32_t i = 0; i < n; i++) {
        /* Move exponent and fraction into place and mend the exponent's bias by a product, which
         * also makes denormals right; infinity and NaN need all exponent bits. */
        uint32_t magnitude = from[i] & 0x7fffu, sign = (uint32_t)(from[i] & 0x8000u) << 16;
        float value = from_bits(magnitude << 13) * 0x1p112f;
        uint32_t bits;
        memcpy(&bits, &value, sizeof bits);
        bits |= magnitude >= 0x7c00u ? 0x7f800000u : 0;
        to[i] = from_bits(bits | sign);
    }
}

static void load_bf16(const uint16_t *from, uint32_t n, float *to)
{
    for (uint32_t i = 0; i < n; i++)
        to[i] = from_bits((uint32_t)from[i] << 16);
}

static void load(uint32_t type, const void *const *from, uint32_t n, uint32_t dim, uint32_t width,
                 float *rows)
{
    for (uint32_t i = 0; i < n; i++) {
        float *row = rows + (size_t)i * width;
        if (type == DRAFT_ABI_F32)
            memcpy(row, from[i], dim * sizeof *row);
        else if (type == DRAFT_ABI_F16)
            load_f16(from[i], dim, row);
        else
            load_bf16(from[i], dim, row);
        memset(row + dim, 0, (width - dim) * sizeof *row);
    }
}

/* ---- Panels ---------------------------------------------------------------------------------- */

static void pack_transposed(const float *rows, uint32_t n, uint32_t width, float *panels)
{
    for (uint32_t first = 0; first < n; first += CPU_PANEL) {
        uint32_t columns = n - first < CPU_PANEL ? n - first : CPU_PANEL;
        const float *from = rows + (size_t)first * width;
        for (uint32_t d = 0; d < width; d++) {
            float *to = panels + (size_t)d * CPU_PANEL;
            for (uint32_t c = 0; c < columns; c++)
                to[c] = from[(size_t)c * width + d];
            for (uint32_t c = columns; c < CPU_PANEL; c++)
                to[c] = 0;
        }
        panels += (size_t)width * CPU_PANEL;
    }
}

static void pack(const float *rows, uint32_t n, uint32_t width, float *panels)
{
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t p = 0; p < width / CPU_PANEL; p++)
            memcpy(panels + ((size_t)p * DRAFT_BLOCK + i) * CPU_PANEL,
                   rows + (size_t)i * width + p * CPU_PANEL, CPU_PANEL * sizeof(float));
}

/* ---- Product --------------------------------------------------------------------------------- */

/* SUM_ROWS x SUM_COLUMNS of the product. keep: one factor for each row, or NULL. */
static void multiply_sums(const float *a, const float *panel, uint32_t depth, const float *keep,
                          float *c)
{
    vec sum[SUM_ROWS][SUM_VECTORS];
#pragma GCC unroll 8
    for (int r = 0; r < SUM_ROWS; r++)
#pragma GCC unroll 2
        for (int v = 0; v < SUM_VECTORS; v++) {
            if (keep)
                sum[r][v] = *(const vec *)(c + r * DRAFT_BLOCK + v * LANES) * keep[r];
            else
                sum[r][v] = (vec){0};
        }
    for (uint32_t d = 0; d < depth; d++) {
        const vec *b = (const vec *)(panel + (size_t)d * CPU_PANEL);
#pragma GCC unroll 8
        for (int r = 0; r < SUM_ROWS; r++)
#pragma GCC unroll 2
            for (int v = 0; v < SUM_VECTORS; v++)
                sum[r][v] += a[r * DRAFT_BLOCK + d] * b[v];
    }
#pragma GCC unroll 8
    for (int r = 0; r < SUM_ROWS; r++)
#pragma GCC unroll 2
        for (int v = 0; v < SUM_VECTORS; v++)
            *(vec *)(c + r * DRAFT_BLOCK + v * LANES) = sum[r][v];
}

static void multiply(const float *a, const float *panels, uint32_t rows, uint32_t panel_count,
                     uint32_t depth, uint32_t panel_depth, const float *keep, float *c)
{
    for (uint32_t column = 0; column < panel_count * CPU_PANEL; column += SUM_COLUMNS) {
        const float *panel =
            panels + (size_t)(column / CPU_PANEL) * panel_depth * CPU_PANEL + column % CPU_PANEL;
        for (uint32_t r = 0; r < rows; r += SUM_ROWS)
            multiply_sums(a + (size_t)r * DRAFT_BLOCK, panel, depth, keep ? keep + r : NULL,
                          c + (size_t)r * DRAFT_BLOCK + column);
    }
}

/* ---- Softmax --------------------------------------------------------------------------------- */

#define LOWEST (-87.33655f) /* exp below is not a normal float: 0 */

/* exp for x <= 0; 0 below LOWEST, NaN for NaN. 2^n times a polynomial on [-ln 2 / 2, ln 2 / 2]
 * (Taylor to the 7th power: relative error below 2e-8 before rounding). */
static inline void exp_vec(vec *x)
{
    const float to_integer = 0x1.8p23f; /* adding it rounds to the nearest integer */
    ivec below = *x < LOWEST;
    vec clamped = (vec)((below & (ivec)((vec){0} + LOWEST)) | (~below & (ivec)*x));
    vec shifted = clamped * 0x1.715476p+0f + to_integer;
    vec n = shifted - to_integer;
    vec r = clamped - n * 0x1.62e4p-1f - n * 0x1.7f7d1cp-20f;
    vec e = r * (1.0f / 5040) + 1.0f / 720;
    e = e * r + 1.0f / 120;
    e = e * r + 1.0f / 24;
    e = e * r + 1.0f / 6;
    e = e * r + 0.5f;
    e = e * r + 1.0f;
    e = e * r + 1.0f;
    ivec power = ((ivec)shifted << 23) + 0x3f800000; /* the integer is in the low bits */
    *x = (vec)(~below & (ivec)(e * (vec)power));
}

/* ln for normal x > 0: x = 2^n (1 + f) with 1 + f between sqrt 1/2 and sqrt 2, and ln (1 + f) =
 * 2 artanh (f / (2 + f)), the series to the 9th power (the next term is below 3e-9 of it). */
static inline vec log_vec(vec x)
{
    ivec n = ((ivec)x - 0x3f3504f3) >> 23;
    vec f = (vec)((ivec)x - (n << 23)) - 1.0f;
    vec power = __builtin_convertvector(n, vec), s = f / (f + 2.0f), z = s * s;
    vec e = z * (2.0f / 9) + 2.0f / 7;
    e = e * z + 2.0f / 5;
    e = e * z + 2.0f / 3;
    return power * 0x1.62e4p-1f + (s * 2.0f + (s * z * e + power * 0x1.7f7d1cp-20f));
}

static inline vec larger(vec a, vec b)
{
    ivec more = a > b;
    return (vec)((more & (ivec)a) | (~more & (ivec)b));
}

static float max_of(const float *values, uint32_t n, float start)
{
    for (uint32_t i = 0; i < n; i++)
        start = values[i] > start ? values[i] : start;
    return start;
}

/* Subtract `from`, take exp, return the sum. n is a multiple of LANES. */
static float exp_all(float *values, uint32_t n, float from)
{
    vec sum = {0};
    for (uint32_t i = 0; i < n; i += LANES) {
        vec x = *(vec *)(values + i) - from;
        exp_vec(&x);
        *(vec *)(values + i) = x;
        sum += x;
    }
    float total = 0;
    for (int lane = 0; lane < LANES; lane++)
        total += sum[lane];
    return total;
}

static float max_row(const float *values, uint32_t n, float start)
{
    vec most = (vec){0} + start;
    uint32_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        most = larger(*(const vec *)(values + i), most);
    }
    float lanes[LANES];
    memcpy(lanes, &most, sizeof lanes);
    return max_of(values + i, n - i, max_of(lanes, LANES, start));
}

static void softmax_step(float *logits, const float *bias, uint32_t rows, uint32_t keys, float *m,
                         float *l, float *keep)
{
    for (uint32_t r = 0; r < rows; r++) {
        float *row = logits + (size_t)r * DRAFT_BLOCK;
        for (uint32_t i = 0; i < keys; i += LANES)
            *(vec *)(row + i) += *(const vec *)(bias + i);
        float most = max_row(row, keys, m[r]);
        float base = most == -INFINITY ? 0 : most; /* nothing to subtract from -inf */
        keep[r] = m[r] == -INFINITY ? 0 : expf(m[r] - base);
        l[r] = l[r] * keep[r] + exp_all(row, keys, base);
        m[r] = most;
    }
}

static void softmax_row(float *values, uint32_t n)
{
    float most = max_row(values, n, -INFINITY), tail[LANES];
    float base = most == -INFINITY ? 0 : most;
    uint32_t whole = n / LANES * LANES;
    for (uint32_t i = 0; i < LANES; i++)
        tail[i] = i < n - whole ? values[whole + i] : -INFINITY;
    float sum = exp_all(values, whole, base) + exp_all(tail, LANES, base);
    memcpy(values + whole, tail, (n - whole) * sizeof *values);
    for (uint32_t i = 0; i < n; i++)
        values[i] /= sum;
}

/* ---- Scorer EXCESS --------------------------------------------------------------------------- */

/* With d_a = y_a - the largest, S = sum w_a e^(d_a) and M = sum w_a d_a, g is ln S - M, so that
 * S (1 - c e^-g) = S - c e^M: one logarithm. g >= 0 says that it is no less than (1 - c) S. */
static void excess(const float *logits, const float sizes[DRAFT_PARTS], float *x, float *m)
{
    const float taken = 1.0f - DRAFT_EXCESS_LEAST;
    float weights[DRAFT_PARTS], size = 0;
    uint32_t part[DRAFT_PARTS], parts = 0; /* those that hold tokens */
    for (uint32_t a = 0; a < DRAFT_PARTS; a++)
        size += sizes[a];
    for (uint32_t a = 0; a < DRAFT_PARTS; a++) {
        if (sizes[a] == 0)
            continue;
        weights[parts] = sizes[a] / size;
        part[parts++] = a * DRAFT_BLOCK;
    }
    for (uint32_t i = 0; i < DRAFT_BLOCK; i += LANES) {
        vec most = *(const vec *)(logits + part[0] + i), sum = {0}, mean = {0};
        for (uint32_t a = 1; a < parts; a++)
            most = larger(*(const vec *)(logits + part[a] + i), most);
        for (uint32_t a = 0; a < parts; a++) {
            vec d = *(const vec *)(logits + part[a] + i) - most;
            mean += weights[a] * d;
            exp_vec(&d);
            sum += weights[a] * d;
        }
        exp_vec(&mean);
        vec rest = larger(sum - taken * mean, DRAFT_EXCESS_LEAST * sum);
        vec score = most + log_vec(rest * size);
        *(vec *)(x + i) = score;
        *(vec *)(m + i) = larger(score, *(vec *)(m + i));
    }
}

static void exp_rows(float *x, uint64_t n, const float *m, float *l)
{
    for (uint32_t i = 0; i < DRAFT_BLOCK; i += LANES)
        *(vec *)(l + i) = (vec){0};
    for (uint64_t row = 0; row < n; row++, x += DRAFT_BLOCK)
        for (uint32_t i = 0; i < DRAFT_BLOCK; i += LANES) {
            vec e = *(vec *)(x + i) - *(const vec *)(m + i);
            exp_vec(&e);
            *(vec *)(x + i) = e;
            *(vec *)(l + i) += e;
        }
}

extern const struct draft_cpu_tile_ops PASTE(draft_cpu_tile_, DRAFT_CPU_VARIANT);
const struct draft_cpu_tile_ops PASTE(draft_cpu_tile_, DRAFT_CPU_VARIANT) = {
    .name = STRING(DRAFT_CPU_VARIANT),
    .load = load,
    .pack_transposed = pack_transposed,
    .pack = pack,
    .multiply = multiply,
    .softmax_step = softmax_step,
    .softmax_row = softmax_row,
    .excess = excess,
    .exp_rows = exp_rows,
};
