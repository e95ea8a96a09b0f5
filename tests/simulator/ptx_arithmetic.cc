/* SPDX-License-Identifier: MIT
 *
 * Instructions of PTX that compute. PTX ISA, "Integer Arithmetic Instructions", "Floating Point
 * Instructions", "Comparison and Selection", "Logic and Shift", "Data Movement and Conversion". */
#include <cmath>

#include "arithmetic.h"
#include "ptx_run.h"

namespace simulator
{
namespace ptx
{

typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int16_t s16;
typedef int32_t s32;
typedef int64_t s64;
typedef float f32;

/* ---- Numbers ---- */

/* GPUs have one NaN. */
static u32 bits_of(f32 x)
{
    u32 bits;
    std::memcpy(&bits, &x, 4);
    return x != x ? 0x7fffffff : bits;
}

template <class T> static void put_number(Run &run, int32_t place, T value)
{
    put<T>(run, place, value);
}

template <> void put_number<f32>(Run &run, int32_t place, f32 value)
{
    put<u32>(run, place, bits_of(value));
}

template <class T> using Unary = T (*)(T);
template <class T> using Binary = T (*)(T, T);
template <class T> using Ternary = T (*)(T, T, T);

template <class T, Unary<T> f> static void unary(Run &run, const int32_t *o)
{
    put_number<T>(run, o[0], f(get<T>(run, o[1])));
}

template <class T, Binary<T> f> static void binary(Run &run, const int32_t *o)
{
    put_number<T>(run, o[0], f(get<T>(run, o[1]), get<T>(run, o[2])));
}

template <class T, Ternary<T> f> static void ternary(Run &run, const int32_t *o)
{
    put_number<T>(run, o[0], f(get<T>(run, o[1]), get<T>(run, o[2]), get<T>(run, o[3])));
}

/* Integers wrap: T is unsigned where the sign makes no difference. */
template <class T> static T add(T a, T b)
{
    return a + b;
}

template <class T> static T subtract(T a, T b)
{
    return a - b;
}

template <class T> static T multiply(T a, T b)
{
    return a * b;
}

template <class T> static T multiply_plus(T a, T b, T c)
{
    return a * b + c;
}

/* Division by 0 has no result in PTX; this is what GPUs have been seen to give, and is not relied
 * on: it must only not reach what is stored. */
template <class T> static T divide(T a, T b)
{
    return b ? a / b : static_cast<T>(-1);
}

template <class T> static T remainder(T a, T b)
{
    return b ? a % b : a;
}

template <class T> static T smaller(T a, T b)
{
    return a < b ? a : b;
}

template <class T> static T larger(T a, T b)
{
    return a > b ? a : b;
}

template <class T> static T negate(T a)
{
    return static_cast<T>(0) - a;
}

template <class T> static T both(T a, T b)
{
    return a & b;
}

template <class T> static T either(T a, T b)
{
    return a | b;
}

template <class T> static T unequal_bits(T a, T b)
{
    return a ^ b;
}

template <class T> static T inverse(T a)
{
    return ~a;
}

template <> bool inverse<bool>(bool a)
{
    return !a;
}

/* The amount is of 32 bits, and clamped to the width. */
template <class T> static void shift_left(Run &run, const int32_t *o)
{
    u32 by = get<u32>(run, o[2]);
    T x = get<T>(run, o[1]);
    put<T>(run, o[0], by < sizeof(T) * 8 ? x << by : 0);
}

template <class T> static void shift_right(Run &run, const int32_t *o)
{
    u32 by = get<u32>(run, o[2]), most = sizeof(T) * 8 - 1;
    T x = get<T>(run, o[1]);
    T all = x < 0 ? static_cast<T>(-1) : 0;
    put<T>(run, o[0], by <= most ? static_cast<T>(x >> by) : all);
}

template <class From, class To> static void multiply_wide(Run &run, const int32_t *o)
{
    put<To>(run, o[0],
            static_cast<To>(get<From>(run, o[1])) * static_cast<To>(get<From>(run, o[2])));
}

template <class From, class To> static void multiply_wide_plus(Run &run, const int32_t *o)
{
    To product = static_cast<To>(get<From>(run, o[1])) * static_cast<To>(get<From>(run, o[2]));
    put<u64>(run, o[0], static_cast<u64>(product) + get<u64>(run, o[3]));
}

static void multiply_high(Run &run, const int32_t *o)
{
    u64 product = static_cast<u64>(get<u32>(run, o[1])) * get<u32>(run, o[2]);
    put<u32>(run, o[0], static_cast<u32>(product >> 32));
}

static void count_ones(Run &run, const int32_t *o)
{
    put<u32>(run, o[0], static_cast<u32>(__builtin_popcount(get<u32>(run, o[1]))));
}

/* Of 64 bits, a low and b high, the high word or the low one; by 32 at most. */
template <bool left, bool wraps> static void shift_funnel(Run &run, const int32_t *o)
{
    u64 both = static_cast<u64>(get<u32>(run, o[2])) << 32 | get<u32>(run, o[1]);
    u32 by = get<u32>(run, o[3]);
    by = wraps ? by % 32 : by < 32 ? by : 32;
    put<u32>(run, o[0], static_cast<u32>(left ? both << by >> 32 : both >> by));
}

/* bfi d, a, b, position, length: bits of a into b. */
static void insert_bits(Run &run, const int32_t *o)
{
    u32 a = get<u32>(run, o[1]), b = get<u32>(run, o[2]);
    u32 position = get<u32>(run, o[3]) & 0xff, length = get<u32>(run, o[4]) & 0xff;
    for (u32 i = 0; i < length && position + i < 32; i++) {
        b &= ~(1u << (position + i));
        b |= (a >> i & 1) << (position + i);
    }
    put<u32>(run, o[0], b);
}

/* ---- Floats ---- */

/* NaN gives way to a number; -0 is less than +0. */
template <> f32 smaller<f32>(f32 a, f32 b)
{
    if (a != a || b != b)
        return a != a ? b : a;
    if (a == b)
        return std::signbit(a) ? a : b;
    return a < b ? a : b;
}

template <> f32 larger<f32>(f32 a, f32 b)
{
    if (a != a || b != b)
        return a != a ? b : a;
    if (a == b)
        return std::signbit(a) ? b : a;
    return a > b ? a : b;
}

template <> f32 divide<f32>(f32 a, f32 b)
{
    return a / b;
}

template <> f32 negate<f32>(f32 a)
{
    return -a;
}

static f32 fused(f32 a, f32 b, f32 c)
{
    return std::fma(a, b, c);
}

static f32 absolute(f32 a)
{
    return std::fabs(a);
}

static f32 reciprocal(f32 a)
{
    return 1.0f / a;
}

/* ---- Comparisons ---- */

enum Comparison { EQ, NE, LT, LE, GT, GE };

template <class T, Comparison c> static bool compare(T a, T b)
{
    switch (c) {
    case EQ:
        return a == b;
    case NE: /* of floats: false with NaN */
        return a < b || a > b;
    case LT:
        return a < b;
    case LE:
        return a <= b;
    case GT:
        return a > b;
    default:
        return a >= b;
    }
}

/* or_unordered: true with NaN. */
template <class T, Comparison c, bool or_unordered>
static void set_predicate(Run &run, const int32_t *o)
{
    T a = get<T>(run, o[1]), b = get<T>(run, o[2]);
    put<bool>(run, o[0], compare<T, c>(a, b) || (or_unordered && (a != a || b != b)));
}

template <class T> static void select(Run &run, const int32_t *o)
{
    put<T>(run, o[0], get<T>(run, get<bool>(run, o[3]) ? o[1] : o[2]));
}

/* ---- Moves, conversions ---- */

template <class T> static void move(Run &run, const int32_t *o)
{
    put<T>(run, o[0], get<T>(run, o[1]));
}

template <class From, class To> static void convert(Run &run, const int32_t *o)
{
    put<To>(run, o[0], static_cast<To>(get<From>(run, o[1])));
}

/* The first is the low half. */
template <class Half, class Whole> static void join(Run &run, const int32_t *o)
{
    Whole low = get<Half>(run, o[1]), high = get<Half>(run, o[2]);
    put<Whole>(run, o[0], low | high << sizeof(Half) * 8);
}

template <class Half, class Whole> static void split(Run &run, const int32_t *o)
{
    Whole whole = get<Whole>(run, o[2]);
    put<Half>(run, o[0], static_cast<Half>(whole));
    put<Half>(run, o[1], static_cast<Half>(whole >> sizeof(Half) * 8));
}

/* Towards zero, clamped, 0 for NaN. */
static void truncate(Run &run, const int32_t *o)
{
    f32 x = get<f32>(run, o[1]);
    u32 most = x >= 0x1p32f ? UINT32_MAX : 0;
    put<u32>(run, o[0], x > 0 && x < 0x1p32f ? static_cast<u32>(x) : most);
}

static u16 narrow_f16(f32 x)
{
    return f32_to_f16(x);
}

static u16 narrow_bf16(f32 x)
{
    return f32_to_bf16(x);
}

/* The first source becomes the high half. */
template <u16 (*narrow)(f32)> static void pack(Run &run, const int32_t *o)
{
    u32 high = narrow(get<f32>(run, o[1])), low = narrow(get<f32>(run, o[2]));
    put<u32>(run, o[0], high << 16 | low);
}

static void widen_f16(Run &run, const int32_t *o)
{
    put_number<f32>(run, o[0], f16_to_f32(get<u16>(run, o[1])));
}

/* ---- Tables ---- */

#define LOGIC(name, f)                                                                             \
    {name ".pred", "Ppp", binary<bool, f<bool>>}, {name ".b32", "Ddd", binary<u32, f<u32>>},       \
    {                                                                                              \
        name ".b64", "Qqq", binary<u64, f<u64>>                                                    \
    }
#define INTEGERS(name, f)                                                                          \
    {name ".u32", "Uuu", binary<u32, f<u32>>}, {name ".s32", "Uuu", binary<s32, f<s32>>},          \
        {name ".u64", "Lll", binary<u64, f<u64>>},                                                 \
    {                                                                                              \
        name ".s64", "Lll", binary<s64, f<s64>>                                                    \
    }
/* Where signed and unsigned are the same. */
#define WRAPPING(name, f)                                                                          \
    {name ".u32", "Uuu", binary<u32, f<u32>>}, {name ".s32", "Uuu", binary<u32, f<u32>>},          \
        {name ".u64", "Lll", binary<u64, f<u64>>},                                                 \
    {                                                                                              \
        name ".s64", "Lll", binary<u64, f<u64>>                                                    \
    }

static const std::vector<Opcode> COMPUTE = {
    WRAPPING("add", add),
    WRAPPING("sub", subtract),
    WRAPPING("mul.lo", multiply),
    {"div.u32", "Uuu", binary<u32, divide<u32>>},
    {"div.u64", "Lll", binary<u64, divide<u64>>},
    {"rem.u32", "Uuu", binary<u32, remainder<u32>>},
    {"rem.u64", "Lll", binary<u64, remainder<u64>>},
    INTEGERS("min", smaller),
    INTEGERS("max", larger),
    {"mad.lo.s32", "Uuuu", ternary<u32, multiply_plus<u32>>},
    {"mad.lo.u32", "Uuuu", ternary<u32, multiply_plus<u32>>},
    {"mad.lo.s64", "Llll", ternary<u64, multiply_plus<u64>>},
    {"mul.hi.u32", "Uuu", multiply_high},
    {"mul.wide.u32", "Luu", multiply_wide<u32, u64>},
    {"mul.wide.s32", "Luu", multiply_wide<s32, s64>},
    {"mad.wide.u32", "Luul", multiply_wide_plus<u32, u64>},
    {"mad.wide.s32", "Luul", multiply_wide_plus<s32, s64>},
    {"neg.s32", "Uu", unary<u32, negate<u32>>},
    {"neg.s64", "Ll", unary<u64, negate<u64>>},
    {"popc.b32", "Ud", count_ones},
    {"bfi.b32", "Udduu", insert_bits},
    LOGIC("and", both),
    LOGIC("or", either),
    LOGIC("xor", unequal_bits),
    {"not.pred", "Pp", unary<bool, inverse<bool>>},
    {"not.b32", "Dd", unary<u32, inverse<u32>>},
    {"not.b64", "Qq", unary<u64, inverse<u64>>},
    {"shf.l.wrap.b32", "Dddu", shift_funnel<true, true>},
    {"shf.l.clamp.b32", "Dddu", shift_funnel<true, false>},
    {"shf.r.wrap.b32", "Dddu", shift_funnel<false, true>},
    {"shf.r.clamp.b32", "Dddu", shift_funnel<false, false>},
    {"shl.b32", "Ddu", shift_left<u32>},
    {"shl.b64", "Qqu", shift_left<u64>},
    {"shr.u32", "Uuu", shift_right<u32>},
    {"shr.s32", "Uuu", shift_right<s32>},
    {"shr.u64", "Llu", shift_right<u64>},
    {"shr.s64", "Llu", shift_right<s64>},
    {"add.f32", "Fff", binary<f32, add<f32>>},
    {"add.rn.f32", "Fff", binary<f32, add<f32>>},
    {"sub.f32", "Fff", binary<f32, subtract<f32>>},
    {"mul.f32", "Fff", binary<f32, multiply<f32>>},
    {"mul.rn.f32", "Fff", binary<f32, multiply<f32>>},
    {"fma.rn.f32", "Ffff", ternary<f32, fused>},
    {"div.rn.f32", "Fff", binary<f32, divide<f32>>},
    {"rcp.rn.f32", "Ff", unary<f32, reciprocal>},
    {"min.f32", "Fff", binary<f32, smaller<f32>>},
    {"max.f32", "Fff", binary<f32, larger<f32>>},
    {"abs.f32", "Ff", unary<f32, absolute>},
    {"neg.f32", "Ff", unary<f32, negate<f32>>},
    {"ex2.approx.ftz.f32", "Ff", unary<f32, exp2_approx>},
    {"lg2.approx.ftz.f32", "Ff", unary<f32, log2_approx>},
};

/* Of 16 bits, which nvcc takes where it knows that they suffice. */
static const std::vector<Opcode> HALVES = {
    {"add.s16", "Hhh", binary<u16, add<u16>>},
    {"add.u16", "Hhh", binary<u16, add<u16>>},
    {"sub.s16", "Hhh", binary<u16, subtract<u16>>},
    {"sub.u16", "Hhh", binary<u16, subtract<u16>>},
    {"mul.lo.s16", "Hhh", binary<u16, multiply<u16>>},
    {"mul.lo.u16", "Hhh", binary<u16, multiply<u16>>},
    {"mul.wide.u16", "Uhh", multiply_wide<u16, u32>},
    {"mul.wide.s16", "Uhh", multiply_wide<s16, s32>},
    {"div.u16", "Hhh", binary<u16, divide<u16>>},
    {"rem.u16", "Hhh", binary<u16, remainder<u16>>},
    {"and.b16", "Hhh", binary<u16, both<u16>>},
    {"or.b16", "Hhh", binary<u16, either<u16>>},
    {"xor.b16", "Hhh", binary<u16, unequal_bits<u16>>},
    {"not.b16", "Hh", unary<u16, inverse<u16>>},
    {"shl.b16", "Hhu", shift_left<u16>},
    {"shr.u16", "Hhu", shift_right<u16>},
    {"shr.s16", "Hhu", shift_right<s16>},
    {"mov.u16", "Hh", move<u16>},
    {"selp.b16", "Hhhp", select<u16>},
    {"selp.u16", "Hhhp", select<u16>},
};

static const std::vector<Opcode> CONVERT = {
    {"mov.pred", "Pp", move<bool>},
    {"mov.b16", "Hh", move<u16>},
    {"mov.u32", "Um", move<u32>},
    {"mov.s32", "Um", move<u32>},
    {"mov.b32", "Dm", move<u32>},
    {"mov.f32", "Ff", move<u32>},
    {"mov.u64", "LM", move<u64>},
    {"mov.b64", "QM", move<u64>},
    {"mov.b32", "D{hh}", join<u16, u32>},
    {"mov.b32", "{HH}d", split<u16, u32>},
    {"mov.b64", "Q{dd}", join<u32, u64>},
    {"mov.b64", "{DD}q", split<u32, u64>},
    {"selp.b32", "Dddp", select<u32>},
    {"selp.u32", "Uuup", select<u32>},
    {"selp.s32", "Uuup", select<u32>},
    {"selp.f32", "Fffp", select<u32>},
    {"selp.b64", "Qqqp", select<u64>},
    {"selp.u64", "Lllp", select<u64>},
    {"cvt.rn.f32.u32", "Fu", convert<u32, f32>},
    {"cvt.rn.f32.s32", "Fu", convert<s32, f32>},
    {"cvt.rzi.u32.f32", "Uf", truncate},
    {"cvt.rn.f16x2.f32", "Uff", pack<narrow_f16>},
    {"cvt.rn.bf16x2.f32", "Uff", pack<narrow_bf16>},
    {"cvt.f32.f16", "Fh", widen_f16},
};

template <class From> static void add_conversions(std::vector<Opcode> &to, const char *type)
{
    const char source = sizeof(From) == 8 ? 'l' : sizeof(From) == 4 ? 'u' : 'h';
    const struct {
        const char *type;
        char written;
        Handler run;
    } FORMS[] = {
        {"u16", 'H', convert<From, u16>}, {"s16", 'H', convert<From, s16>},
        {"u32", 'U', convert<From, u32>}, {"s32", 'U', convert<From, s32>},
        {"u64", 'L', convert<From, u64>}, {"s64", 'L', convert<From, s64>},
    };
    for (const auto &form : FORMS)
        to.push_back(
            {std::string("cvt.") + form.type + "." + type, {form.written, source}, form.run});
}

/* setp of one type; floats also in the forms that are true with NaN. */
template <class T> static void add_comparisons(std::vector<Opcode> &to, const char *type)
{
    static const struct {
        const char *name;
        Handler ordered, unordered;
    } FORMS[] = {
        {"eq", set_predicate<T, EQ, false>, set_predicate<T, EQ, true>},
        {"ne", set_predicate<T, NE, false>, set_predicate<T, NE, true>},
        {"lt", set_predicate<T, LT, false>, set_predicate<T, LT, true>},
        {"le", set_predicate<T, LE, false>, set_predicate<T, LE, true>},
        {"gt", set_predicate<T, GT, false>, set_predicate<T, GT, true>},
        {"ge", set_predicate<T, GE, false>, set_predicate<T, GE, true>},
    };
    bool floating = type[1] == 'f', bits = type[1] == 'b';
    const char *sources = floating         ? "Pff"
                          : sizeof(T) == 2 ? "Phh"
                          : sizeof(T) == 8 ? "Pll"
                          : bits           ? "Pdd"
                                           : "Puu";
    for (const auto &form : FORMS) {
        std::string name = std::string("setp.") + form.name;
        if (bits && form.ordered != FORMS[0].ordered && form.ordered != FORMS[1].ordered)
            continue;
        to.push_back({name + type, sources, form.ordered});
        if (floating)
            to.push_back({name + "u" + type, sources, form.unordered});
    }
}

static std::vector<Opcode> all_opcodes()
{
    std::vector<Opcode> all = COMPUTE;
    all.insert(all.end(), CONVERT.begin(), CONVERT.end());
    all.insert(all.end(), HALVES.begin(), HALVES.end());
    add_conversions<u16>(all, "u16");
    add_conversions<s16>(all, "s16");
    add_conversions<u32>(all, "u32");
    add_conversions<s32>(all, "s32");
    add_conversions<u64>(all, "u64");
    add_conversions<s64>(all, "s64");
    add_comparisons<u32>(all, ".u32");
    add_comparisons<s32>(all, ".s32");
    add_comparisons<u16>(all, ".u16");
    add_comparisons<s16>(all, ".s16");
    add_comparisons<u16>(all, ".b16");
    add_comparisons<u32>(all, ".b32");
    add_comparisons<u64>(all, ".u64");
    add_comparisons<s64>(all, ".s64");
    add_comparisons<f32>(all, ".f32");
    return all;
}

const std::vector<Opcode> &arithmetic_opcodes()
{
    static const std::vector<Opcode> all = all_opcodes();
    return all;
}

} // namespace ptx
} // namespace simulator
