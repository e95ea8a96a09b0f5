/* SPDX-License-Identifier: MIT
 *
 * Arithmetic as GPUs do it: see arithmetic.h. */
#include "arithmetic.h"

#include <cmath>
#include <limits>

namespace simulator
{

/* Exponents of factors that have none: sums with others stay apart from what numbers have. */
static constexpr int16_t ZERO_EXPONENT = -4096, SPECIAL_EXPONENT = 12288;

static constexpr float INF = std::numeric_limits<float>::infinity();

static float float_from(uint32_t bits)
{
    float x;
    std::memcpy(&x, &bits, 4);
    return x;
}

static uint32_t bits_from(float x)
{
    uint32_t bits;
    std::memcpy(&bits, &x, 4);
    return bits;
}

/* Denormals to zero, as .ftz says. */
static float flushed(float x)
{
    return std::fabs(x) < std::numeric_limits<float>::min() ? std::copysign(0.0f, x) : x;
}

static float nan_of_gpus()
{
    return float_from(0x7fffffff);
}

/* ---- Approximate functions ---- */

/* -1 ... 1, as good as random, and never another for the same x. */
static double error_of(float x)
{
    uint32_t h = bits_from(x) * 0x9e3779b1u;
    h = (h ^ h >> 15) * 0x85ebca6bu;
    return static_cast<int32_t>(h ^ h >> 13) * 0x1p-31;
}

/* What is left of the promised error when the result is rounded, which may add HALF of it. */
static constexpr double PROMISED = 0x1p-22, HALF = 0x1p-24, SPARE = 0x1p-29;

static constexpr int STEPS = 32; /* of a power of 2 */

struct Powers {
    double of[STEPS]; /* 2^(i / STEPS) */
    Powers()
    {
        for (int i = 0; i < STEPS; i++)
            of[i] = std::exp2(i / static_cast<double>(STEPS));
    }
};

/* 2^x = 2^n x 2^(i / STEPS) x e^y with y = rest x ln 2, |y| < 0.011: four terms leave 2^-39. */
static double power(float x)
{
    static const Powers powers;
    double places = std::nearbyint(x * static_cast<double>(STEPS));
    double y = (x - places / STEPS) * 0.69314718055994530942;
    int at = static_cast<int>(places);
    double e = 1 + y * (1 + y * (0.5 + y * (1.0 / 6 + y * (1.0 / 24))));
    uint64_t bits = static_cast<uint64_t>((at >> 5) + 1023) << 52;
    double scale;
    std::memcpy(&scale, &bits, 8);
    return scale * powers.of[at & (STEPS - 1)] * e;
}

float exp2_approx(float x)
{
    if (x != x)
        return nan_of_gpus();
    x = flushed(x);
    if (x == 0)
        return 1;
    if (x >= 128)
        return INF;
    if (x < -127)
        return 0;
    return flushed(static_cast<float>(power(x) * (1 + error_of(x) * (PROMISED - HALF - SPARE))));
}

float log2_approx(float x)
{
    if (x != x)
        return nan_of_gpus();
    x = flushed(x);
    if (x == 0)
        return -INF;
    if (x < 0)
        return nan_of_gpus();
    if (x == INF)
        return INF;
    double y = std::log2(static_cast<double>(x)), error = error_of(x) * (PROMISED - HALF - SPARE);
    y += x > 0.5f && x < 2 ? error : y * error;
    return flushed(static_cast<float>(y));
}

/* ---- Matrix units: factors ---- */

typedef int16_t Shorts8 __attribute__((vector_size(16)));
typedef uint16_t Words8 __attribute__((vector_size(16)));

/* Those of denormals are that of the smallest normal number. */
template <bool bf16> static Words8 exponents_of(Words8 x)
{
    constexpr int16_t DIGITS = bf16 ? 7 : 10, ONES = bf16 ? 255 : 31, BIAS = ONES / 2;
    const Words8 digits = Words8{} + static_cast<uint16_t>(DIGITS);
    const Words8 sign = Words8{} + static_cast<uint16_t>(0x8000);
    const Shorts8 none = {}, one = none + static_cast<int16_t>(1);
    Shorts8 field = (Shorts8)(x >> digits) & ONES;
    Shorts8 exponent = (field > one ? field : one) - BIAS;
    exponent = field == ONES ? none + SPECIAL_EXPONENT : exponent;
    return (Words8)((x & ~sign) == 0 ? none + ZERO_EXPONENT : exponent);
}

template <bool bf16> static Columns values_of(Words8 x)
{
    ColumnExponents wide = __builtin_convertvector(x, ColumnExponents);
    if (bf16)
        return (Columns)(wide << 16);
    /* An exponent of all ones becomes 2^16 and more, where infinity and NaN are to be. */
    Columns value = (Columns)((wide & 0x7fff) << 13) * 0x1p112f;
    ColumnExponents special = (ColumnExponents)((wide & 0x7c00) == 0x7c00) & 0x7f800000;
    return (Columns)((ColumnExponents)value | (wide & 0x8000) << 16 | special);
}

template <bool bf16>
void convert_rows(RowPair &to, const uint16_t first[PRODUCT_DEPTH],
                  const uint16_t second[PRODUCT_DEPTH])
{
    for (uint32_t k = 0; k < PRODUCT_DEPTH; k += 8) {
        Words8 x, y;
        std::memcpy(&x, first + k, sizeof x);
        std::memcpy(&y, second + k, sizeof y);
        Columns of_x = values_of<bf16>(x), of_y = values_of<bf16>(y);
        std::memcpy(to.of[0] + k, &of_x, sizeof of_x);
        std::memcpy(to.of[1] + k, &of_y, sizeof of_y);
        ColumnExponents below = __builtin_convertvector(exponents_of<bf16>(x), ColumnExponents);
        ColumnExponents above = __builtin_convertvector(exponents_of<bf16>(y), ColumnExponents);
        below |= above << 16;
        std::memcpy(to.exponents + k, &below, sizeof below);
    }
}

template <bool bf16>
void convert_columns(Columns &to, ColumnExponents &exponents, const uint16_t x[8])
{
    Words8 words;
    std::memcpy(&words, x, sizeof words);
    to = values_of<bf16>(words);
    ColumnExponents below = __builtin_convertvector(exponents_of<bf16>(words), ColumnExponents);
    exponents = below | below << 16;
}

template void convert_rows<false>(RowPair &, const uint16_t *, const uint16_t *);
template void convert_rows<true>(RowPair &, const uint16_t *, const uint16_t *);
template void convert_columns<false>(Columns &, ColumnExponents &, const uint16_t *);
template void convert_columns<true>(Columns &, ColumnExponents &, const uint16_t *);

/* ---- Matrix units: one result, whatever the numbers are ---- */

static int exponent_of(float x)
{
    int field = bits_from(x) >> 23 & 255;
    return x == 0 ? ZERO_EXPONENT : (field == 0 ? 1 : field) - 127;
}

static float truncated(double x)
{
    float y = static_cast<float>(x);
    return std::fabs(y) > std::fabs(x) && std::fabs(x) < 0x1p128 ? std::nextafter(y, 0.0f) : y;
}

/* x 2^n, with n well within what a double has. */
static double scaled(double x, int n)
{
    uint64_t bits = static_cast<uint64_t>(n + 1023) << 52;
    double power;
    std::memcpy(&power, &bits, 8);
    return x * power;
}

static int most_of(int x, int y)
{
    return x > y ? x : y;
}

/* b: one column, `stride` numbers apart. */
static float add_any(float c, const float *a, const int *exponents_a, const float *b,
                     const int *exponents_b, uint32_t depth, int bits)
{
    double plain = c;
    int most = exponent_of(c);
    for (uint32_t k = 0; k < depth; k++) {
        plain += static_cast<double>(a[k]) * b[k];
        most = most_of(most, exponents_a[k] + exponents_b[k]);
    }
    if (!std::isfinite(plain))
        return plain != plain ? nan_of_gpus() : static_cast<float>(plain);
    if (most < ZERO_EXPONENT / 2)
        return 0;
    double sum = std::trunc(scaled(c, bits - most));
    for (uint32_t k = 0; k < depth; k++)
        sum += std::trunc(scaled(static_cast<double>(a[k]) * b[k], bits - most));
    return truncated(scaled(sum, most - bits)) + 0.0f;
}

/* ---- Matrix units: sixteen results at once, where no exponent comes near the ends ---- */

typedef int32_t Integers __attribute__((vector_size(32)));
typedef int16_t Shorts __attribute__((vector_size(32)));
static constexpr int LOWEST = -98, HIGHEST = 120, NOTHING = ZERO_EXPONENT / 2;

static Integers most_of(Integers x, Integers y)
{
    return x > y ? x : y;
}

static bool any_of(Integers x)
{
    uint64_t parts[4];
    std::memcpy(parts, &x, sizeof parts);
    return (parts[0] | parts[1] | parts[2] | parts[3]) != 0;
}

/* To f32, cut off: rounded, and one less where that is more. */
static Columns truncated(Integers x)
{
    Integers sign = x >> 31, magnitude = (x ^ sign) - sign;
    Columns y = __builtin_convertvector(magnitude, Columns);
    ColumnExponents back = (ColumnExponents) __builtin_convertvector(y, Integers);
    Integers more = (Integers)((ColumnExponents)magnitude - back) >> 31;
    return (Columns)(((Integers)y + more) | (sign & INT32_MIN));
}

/* c += products of a row; most: the largest exponent of all of these. False, and c as it was, where
 * a sum does not fit that is not to be ignored. */
template <uint32_t group, int bits, uint32_t stride>
static inline bool add_row(Columns &c, const float *a, const Columns *b, Integers most,
                           Integers ignored)
{
    Columns up = (Columns)((127 + bits - most) << 23), down = (Columns)((127 - bits + most) << 23);
    Integers sum = __builtin_convertvector(c * up, Integers);
    for (uint32_t k = 0; k < 8; k++)
        sum += __builtin_convertvector(a[k] * b[k * stride] * up, Integers);
    if (group == 16) { /* 2^27 each: all of them could be too much for 32 bits */
        Integers more = {};
        for (uint32_t k = 8; k < 16; k++)
            more += __builtin_convertvector(a[k] * b[k * stride] * up, Integers);
        Integers all = (Integers)((ColumnExponents)sum + (ColumnExponents)more);
        if (any_of(((((sum ^ all) & (more ^ all)) < 0) | (all == INT32_MIN)) & ~ignored))
            return false;
        sum = all;
    }
    c = truncated(sum) * down;
    return true;
}

/* One row and its eight columns, and the largest exponents of their products. */
struct RowSum {
    const RowPair &a;
    uint32_t row, first; /* of the pair; of the depth */
    const Columns *b;
    const ColumnExponents *exponents;
    Integers most;
};

/* The same for any numbers, one column after the other: where `which` is set. */
template <uint32_t group, int bits, uint32_t stride>
static void add_row_slowly(Columns &c, const RowSum &s, Integers which)
{
    for (uint32_t j = 0; j < 8; j++) {
        float column[group];
        int of_row[group], of_column[group];
        for (uint32_t k = 0; k < group && which[j]; k++) {
            column[k] = s.b[k * stride][j];
            of_row[k] = static_cast<int16_t>(s.a.exponents[s.first + k] >> 16 * s.row);
            of_column[k] = static_cast<int16_t>(s.exponents[k * stride][j]);
        }
        if (which[j])
            c[j] = add_any(c[j], s.a.of[s.row] + s.first, of_row, column, of_column, group, bits);
    }
}

/* Sums of infinities and NaN among c and the products: what is finite does not matter to them. */
template <uint32_t group, uint32_t stride> static Columns add_specials(Columns c, const RowSum &s)
{
    ColumnExponents sum_bits = (ColumnExponents)c & ((ColumnExponents)c << 1 >= 0xff000000);
    Columns sum = (Columns)sum_bits;
    for (uint32_t k = 0; k < group; k++) {
        int of_row = static_cast<int16_t>(s.a.exponents[s.first + k] >> 16 * s.row);
        Integers of_column = (Integers)(s.exponents[k * stride] << 16) >> 16;
        Columns product = s.a.of[s.row][s.first + k] * s.b[k * stride];
        sum += (Columns)((Integers)product & (of_row + of_column >= SPECIAL_EXPONENT / 2));
    }
    return (Columns)(sum == sum ? (Integers)sum : Integers{} + 0x7fffffff);
}

/* The largest exponent with c among them. odd: where it is out of bounds. */
static inline Integers most_with(Columns c, Integers most, Integers &odd)
{
    Integers own = most_of((Integers)c >> 23 & 255, Integers{} + 1) - 127;
    most = most_of(most, c == 0 ? Integers{} + ZERO_EXPONENT : own);
    odd |= (most > HIGHEST) | ((most < LOWEST) & (most > NOTHING));
    return most_of(most, Integers{} + LOWEST);
}

/* Where some columns are odd. Results that are no numbers are frequent in some tests. */
template <uint32_t group, int bits, uint32_t stride>
static void __attribute__((noinline)) add_odd_row(Columns &c, const RowSum &s)
{
    Integers special = (s.most >= SPECIAL_EXPONENT / 2) | (((Integers)c >> 23 & 255) == 255);
    Columns fast = c, specials = c;
    if (any_of(special)) {
        specials = add_specials<group, stride>(c, s);
        if (!any_of(~special)) {
            c = specials;
            return;
        }
    }
    Integers odd = {}, most = most_with(c, s.most, odd);
    if (!add_row<group, bits, stride>(fast, s.a.of[s.row] + s.first, s.b, most, special | odd))
        odd = Integers{} - 1;
    odd &= ~special;
    if (any_of(odd))
        add_row_slowly<group, bits, stride>(c, s, odd);
    c = special ? specials : odd ? c : fast;
}

template <uint32_t group, int bits, uint32_t stride>
static inline void add_group(Columns c[2], const RowPair &a, const Columns *b,
                             const ColumnExponents *exponents, uint32_t first)
{
    Shorts most = Shorts{} + static_cast<int16_t>(2 * ZERO_EXPONENT);
    for (uint32_t k = 0; k < group; k++) {
        Shorts e =
            (Shorts)(ColumnExponents{} + a.exponents[first + k]) + (Shorts)exponents[k * stride];
        most = e > most ? e : most;
    }
    Integers odd = {},
             of_row[2] = {(Integers)((ColumnExponents)most << 16) >> 16, (Integers)most >> 16},
             all[2];
    for (uint32_t row = 0; row < 2; row++)
        all[row] = most_with(c[row], of_row[row], odd);
    bool quick = !any_of(odd);
    for (uint32_t row = 0; row < 2; row++)
        if (!quick ||
            !add_row<group, bits, stride>(c[row], a.of[row] + first, b, all[row], Integers{}))
            add_odd_row<group, bits, stride>(c[row], {a, row, first, b, exponents, of_row[row]});
}

template <uint32_t stride, bool sm90>
void add_products(Columns c[2], const RowPair &a, const Columns *b,
                  const ColumnExponents *exponents)
{
    if (sm90) {
        add_group<16, 25, stride>(c, a, b, exponents, 0);
        return;
    }
    add_group<8, 24, stride>(c, a, b, exponents, 0);
    add_group<8, 24, stride>(c, a, b + 8 * stride, exponents + 8 * stride, 8);
}

template void add_products<1, false>(Columns *, const RowPair &, const Columns *,
                                     const ColumnExponents *);
template void add_products<1, true>(Columns *, const RowPair &, const Columns *,
                                    const ColumnExponents *);
template void add_products<16, true>(Columns *, const RowPair &, const Columns *,
                                     const ColumnExponents *);

} // namespace simulator
