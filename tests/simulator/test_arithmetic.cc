/* SPDX-License-Identifier: MIT
 *
 * The simulated driver's arithmetic: errors as large as GPUs may make them, and no larger; sums of
 * products against a model in integers. */
#include <check.h>
#include <cmath>
#include <cstdlib>
#include <initializer_list>
#include <limits>

#include "arithmetic.h"
#include "numbers.h"
#include "run_suite.h"

using namespace simulator;

static const float INF = std::numeric_limits<float>::infinity();
static const float LEAST = std::numeric_limits<float>::min();
static const float DENORMAL = std::numeric_limits<float>::denorm_min();
static const uint32_t GPU_NAN = 0x7fffffff;

static uint32_t bits_of(float x)
{
    uint32_t bits;
    std::memcpy(&bits, &x, 4);
    return bits;
}

static float float_of(uint32_t bits)
{
    float x;
    std::memcpy(&x, &bits, 4);
    return x;
}

static uint32_t state = 1;

static uint32_t next()
{
    state = state * 1664525u + 1013904223u;
    return state >> 8 ^ state << 13;
}

/* ---- Approximate functions ---- */

/* Largest error as a share of the promised one. */
static double worst_power(float low, float high)
{
    double worst = 0;
    for (int i = 0; i < 200000; i++) {
        float x = low + (high - low) * static_cast<float>(next() & 0xffffff) * 0x1p-24f;
        double want = std::exp2(static_cast<double>(x));
        if (want < LEAST * 1.001 || x == 0)
            continue;
        float got = exp2_approx(x);
        worst = std::fmax(worst, std::fabs(got - want) / want / 0x1p-22);
        ck_assert(bits_of(got) == bits_of(exp2_approx(x)));
    }
    return worst;
}

START_TEST(powers)
{
    const float ranges[][2] = {{-1, 1}, {-126, 128}, {-1e-3f, 1e-3f}, {-30, 0}};
    for (const float *range : ranges) {
        double worst = worst_power(range[0], range[1]);
        ck_assert_msg(worst > 0.9 && worst <= 1, "%g to %g: %g", range[0], range[1], worst);
    }
    int exact = 0;
    for (int i = -100; i < 100; i++)
        exact += exp2_approx(static_cast<float>(i)) == std::exp2(static_cast<float>(i));
    ck_assert_int_lt(exact, 100); /* 2^integer is promised no better than the others */
    for (float x : {0.0f, -0.0f, DENORMAL, -DENORMAL, LEAST - DENORMAL})
        ck_assert(exp2_approx(x) == 1);
    for (float x : {128.0f, 1e30f, INF})
        ck_assert(exp2_approx(x) == INF);
    for (float x : {-126.5f, -149.0f, -1e30f, -INF})
        ck_assert_uint_eq(bits_of(exp2_approx(x)), 0);
    ck_assert_uint_eq(bits_of(exp2_approx(float_of(0xff800001))), GPU_NAN);
}
END_TEST

START_TEST(logarithms)
{
    double worst[2] = {0, 0}; /* between 1/2 and 2, elsewhere */
    for (int i = 0; i < 400000; i++) {
        bool near = i % 2;
        uint32_t exponent = near ? 126 + next() % 2 : 1 + next() % 254;
        float x = float_of(exponent << 23 | (next() & 0x7fffff));
        near = x > 0.5f && x < 2;
        double want = std::log2(static_cast<double>(x)), error = std::fabs(log2_approx(x) - want);
        double share = error / (near ? 1 : std::fabs(want)) / 0x1p-22;
        worst[near] = std::fmax(worst[near], share);
    }
    for (double share : worst)
        ck_assert_msg(share > 0.8 && share <= 1, "%g", share);
    for (float x : {0.0f, -0.0f, DENORMAL, -DENORMAL, LEAST - DENORMAL})
        ck_assert(log2_approx(x) == -INF);
    ck_assert(log2_approx(INF) == INF);
    for (float x : {-LEAST, -1.0f, -INF, float_of(0x7f800001)})
        ck_assert_uint_eq(bits_of(log2_approx(x)), GPU_NAN);
}
END_TEST

/* ---- Sums of products ---- */

/* A number as an integer times 2^exponent, where `scale` is that of its last bit. */
struct Parts {
    int64_t digits;
    int scale, exponent;
};

static Parts split(uint32_t sign, int field, uint32_t rest, int digits, int bias)
{
    int exponent = (field ? field : 1) - bias;
    int64_t value = rest | (field ? 1u << digits : 0);
    return {sign ? -value : value, exponent - digits, exponent};
}

static Parts split(float x)
{
    uint32_t b = bits_of(x);
    return split(b >> 31, b >> 23 & 255, b & 0x7fffff, 23, 127);
}

static Parts split(uint16_t x, bool bf16)
{
    return bf16 ? split(x >> 15, x >> 7 & 255, x & 127, 7, 127)
                : split(x >> 15, x >> 10 & 31, x & 1023, 10, 15);
}

static int64_t shifted(int64_t x, int by)
{
    int64_t magnitude = x < 0 ? -x : x;
    magnitude = by >= 0 ? magnitude << by : by < -62 ? 0 : magnitude >> -by;
    return x < 0 ? -magnitude : magnitude;
}

/* One group; numbers are finite, and so is the sum. */
static float model(float c, const uint16_t *a, const uint16_t *b, int group, int bits, bool bf16)
{
    Parts terms[17] = {split(c)};
    int most = -1000;
    for (int k = 0; k < group; k++) {
        Parts x = split(a[k], bf16), y = split(b[k], bf16);
        terms[k + 1] = {x.digits * y.digits, x.scale + y.scale, x.exponent + y.exponent};
    }
    for (int i = 0; i <= group; i++)
        if (terms[i].digits != 0 && terms[i].exponent > most)
            most = terms[i].exponent;
    int64_t sum = 0;
    for (int i = 0; i <= group; i++)
        if (terms[i].digits != 0)
            sum += shifted(terms[i].digits, terms[i].scale - (most - bits));
    int scale = most - bits, lost = 0;
    while (std::llabs(sum) >> lost >= 1 << 24 || (sum && scale + lost < -149))
        lost++;
    return sum ? std::ldexp(static_cast<float>(shifted(sum, -lost)), scale + lost) : 0;
}

struct Sample {
    uint16_t a[2][16], b[16][8];
    float c[2][8];
};

static uint16_t element(bool bf16, uint32_t spread)
{
    uint32_t r = next(), sign = r & 0x8000;
    if (r % 16 == 0)
        return static_cast<uint16_t>(sign);
    uint32_t middle = bf16 ? 127 : 15, field = middle + (r >> 16) % spread - spread / 2;
    uint32_t digits = next() >> 5 & (bf16 ? 127 : 1023);
    return static_cast<uint16_t>(sign | field << (bf16 ? 7 : 10) | digits);
}

/* spread: of exponents. Those of f16 up to 30 hold denormals, those of bf16 up to 250 leave what
 * the quick way can do. */
static void fill(Sample &s, bool bf16, uint32_t spread, uint32_t kind)
{
    for (auto &row : s.a)
        for (uint16_t &x : row)
            x = element(bf16, spread);
    for (auto &row : s.b)
        for (uint16_t &x : row)
            x = element(bf16, spread);
    for (auto &row : s.c)
        for (float &x : row)
            x = kind == 0 ? 0
                          : float_of((next() & 0x80000000) | (127 - 12 + next() % 24) << 23 |
                                     (next() & 0x7fffff));
}

template <uint32_t stride, bool sm90>
static void compute(const Sample &s, bool bf16, float got[2][8])
{
    RowPair a;
    Columns c[2], b[16 * stride] = {};
    ColumnExponents exponents[16 * stride] = {};
    if (bf16)
        convert_rows<true>(a, s.a[0], s.a[1]);
    else
        convert_rows<false>(a, s.a[0], s.a[1]);
    for (uint32_t k = 0; k < 16; k++)
        if (bf16)
            convert_columns<true>(b[k * stride], exponents[k * stride], s.b[k]);
        else
            convert_columns<false>(b[k * stride], exponents[k * stride], s.b[k]);
    std::memcpy(c, s.c, sizeof c);
    add_products<stride, sm90>(c, a, b, exponents);
    std::memcpy(got, c, sizeof c);
}

template <uint32_t stride, bool sm90> static void compare(const Sample &s, bool bf16)
{
    float got[2][8];
    compute<stride, sm90>(s, bf16, got);
    for (int i = 0; i < 2; i++)
        for (int j = 0; j < 8; j++) {
            uint16_t column[16];
            for (int k = 0; k < 16; k++)
                column[k] = s.b[k][j];
            float want = sm90 ? model(s.c[i][j], s.a[i], column, 16, 25, bf16)
                              : model(s.c[i][j], s.a[i], column, 8, 24, bf16);
            if (!sm90)
                want = model(want, s.a[i] + 8, column + 8, 8, 24, bf16);
            ck_assert_msg(bits_of(got[i][j]) == bits_of(want), "%a, not %a", got[i][j], want);
        }
}

START_TEST(sums)
{
    for (uint32_t i = 0; i < 6000; i++) {
        Sample s;
        bool bf16 = i % 2;
        const uint32_t spreads[2][3] = {{4, 12, 30}, {6, 40, 124}};
        fill(s, bf16, spreads[bf16][i / 2 % 3], i / 6 % 3);
        compare<1, false>(s, bf16);
        compare<1, true>(s, bf16);
        compare<16, true>(s, bf16);
    }
}
END_TEST

/* All 16 products as large as they can be: too much for 32 bits. */
START_TEST(largest)
{
    Sample s = {};
    for (int k = 0; k < 16; k++) {
        s.a[0][k] = 0x3fff, s.a[1][k] = 0xbfff;
        for (uint16_t &x : s.b[k])
            x = 0x3fff;
    }
    compare<1, false>(s, false);
    compare<1, true>(s, false);
    for (auto &row : s.c)
        for (float &x : row)
            x = &row == s.c ? 1.99f : -1.99f;
    compare<16, true>(s, false);
}
END_TEST

/* c + n products of x y, in all other places zeros. */
template <bool sm90> static float sum_of(float c, int n, float x, float y)
{
    Sample s = {};
    float got[2][8];
    for (int k = 0; k < n; k++)
        s.a[1][k] = f32_to_bf16(x), s.b[k][5] = f32_to_bf16(y);
    s.c[1][5] = c;
    compute<1, sm90>(s, true, got);
    return got[1][5];
}

/* What f32 would do otherwise. */
START_TEST(cut_off)
{
    /* 2^-25 is below what sm_8x keeps of sums that begin with 1. */
    ck_assert(sum_of<false>(1, 8, 0x1p-13f, 0x1p-12f) == 1);
    ck_assert(sum_of<true>(1, 16, 0x1p-13f, 0x1p-12f) == 1 + 0x1p-21f);
    ck_assert(sum_of<true>(1, 16, 0x1p-13f, 0x1p-13f) == 1);
    /* An ulp and a half: not to nearest. */
    ck_assert(sum_of<false>(1, 1, 0x1.8p-12f, 0x1p-11f) == 1 + 0x1p-23f);
    ck_assert(sum_of<true>(-1, 1, -0x1.8p-12f, 0x1p-11f) == -1 - 0x1p-23f);
    /* Two halves of the depth: the second may count where the first has been lost. */
    ck_assert(sum_of<false>(0, 16, 1, 0x1p-24f) == 0x1p-20f);
    const float most = std::numeric_limits<float>::max();
    ck_assert(sum_of<true>(most, 1, 0x1p103f, 1) == most); /* to nearest: infinity */
    ck_assert(sum_of<true>(most, 1, 0x1p104f, 1) == INF);
}
END_TEST

START_TEST(specials)
{
    const float nan = float_of(0xffc12345);
    ck_assert(sum_of<false>(1, 1, INF, 2) == INF);
    ck_assert(sum_of<true>(INF, 16, -1, 1) == INF);
    ck_assert_uint_eq(bits_of(sum_of<false>(INF, 1, -INF, 1)), GPU_NAN);
    ck_assert_uint_eq(bits_of(sum_of<true>(0, 1, INF, 0)), GPU_NAN);
    ck_assert_uint_eq(bits_of(sum_of<true>(nan, 1, 1, 1)), GPU_NAN);
    ck_assert_uint_eq(bits_of(sum_of<false>(0, 1, nan, 1)), GPU_NAN);
    ck_assert_uint_eq(bits_of(sum_of<false>(-0.0f, 1, -1, 0)), 0);
    ck_assert(sum_of<true>(1, 1, 0x1p127f, 0x1p100f) == INF);
    ck_assert(sum_of<false>(3 * DENORMAL, 1, 0, 1) == 3 * DENORMAL);
    ck_assert(sum_of<true>(DENORMAL, 2, 0x1p-100f, 0x1p-48f) == 5 * DENORMAL);
}
END_TEST

/* NaN and infinities in a few places, here and there among large and small numbers: the columns that
 * they reach, and the others, which must not notice. */
static void strew(Sample &s, bool bf16)
{
    const uint16_t inf = bf16 ? 0x7f80 : 0x7c00;
    const uint16_t strange[] = {inf, static_cast<uint16_t>(inf | 0x8000),
                                static_cast<uint16_t>(inf | 1 << next() % 7)};
    const float strange_c[] = {INF, -INF, float_of(0xff800000 | 1 << next() % 23)};
    for (uint32_t n = next() % 3; n > 0; n--)
        s.b[next() % 16][next() % 8] = strange[next() % 3];
    for (uint32_t n = next() % 3; n > 0; n--)
        s.c[next() % 2][next() % 8] = strange_c[next() % 3];
    if (next() % 4 == 0)
        s.a[next() % 2][next() % 16] = strange[next() % 3];
}

static float number(uint16_t x, bool bf16)
{
    return bf16 ? bf16_to_f32(x) : f16_to_f32(x);
}

/* As strewn, 16 products at once. */
static uint32_t want_of(const Sample &s, int i, int j, bool bf16)
{
    uint16_t column[16];
    double plain = s.c[i][j];
    for (int k = 0; k < 16; k++) {
        column[k] = s.b[k][j];
        plain += static_cast<double>(number(s.a[i][k], bf16)) * number(column[k], bf16);
    }
    if (plain != plain)
        return GPU_NAN;
    return bits_of(std::isinf(plain) ? static_cast<float>(plain)
                                     : model(s.c[i][j], s.a[i], column, 16, 25, bf16));
}

START_TEST(specials_among_others)
{
    int nans = 0, infinities = 0;
    for (uint32_t n = 0; n < 20000; n++) {
        Sample s;
        bool bf16 = n % 2;
        float got[2][8];
        fill(s, bf16, bf16 ? (n % 4 == 1 ? 40 : 200) : 30, n % 3);
        strew(s, bf16);
        compute<1, true>(s, bf16, got);
        for (int i = 0; i < 2; i++)
            for (int j = 0; j < 8; j++) {
                uint32_t want = want_of(s, i, j, bf16);
                ck_assert_msg(bits_of(got[i][j]) == want, "%a, not %a", got[i][j], float_of(want));
                nans += want == GPU_NAN;
                infinities += want << 1 == 0xff000000;
            }
    }
    ck_assert_int_gt(nans, 10000);
    ck_assert_int_gt(infinities, 10000);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("simulator");
    TCase *tests = tcase_create("arithmetic");
    tcase_add_test(tests, powers);
    tcase_add_test(tests, logarithms);
    tcase_add_test(tests, sums);
    tcase_add_test(tests, largest);
    tcase_add_test(tests, cut_off);
    tcase_add_test(tests, specials);
    tcase_add_test(tests, specials_among_others);
    suite_add_tcase(suite, tests);
    return run_suite(suite);
}
