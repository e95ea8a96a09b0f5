/* SPDX-License-Identifier: MIT
 *
 * PTX on the simulator: small programs whose results are known, programs that do wrong, and texts
 * that are none. test_ptx_group.cc has warp groups. */
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <unistd.h>

#include "run_suite.h"
#include "run_ptx.h"

using namespace simulator;

/* ---- Results ---- */

#define NAN_            "0f7FC00000"
#define TRUE_IF(test)   test " selp.u32 %r1, 1, 0, %p1;"
#define FLOAT(code)     code " mov.b32 %r1, %f1;"
#define HIGH_WORD(code) code " shr.u64 %rd2, %rd2, 32; cvt.u32.u64 %r1, %rd2;"

/* What %r1 is in the end, of threads 0, 1 and 31. One value: of all. */
static const struct result {
    const char *code;
    uint32_t first, second, last;
} RESULTS[] = {
    /* Floats compared: with NaN only what ends with u is true. */
    {TRUE_IF("setp.lt.f32 %p1, 0f3F800000, 0f40000000;"), 1, 1, 1},
    {TRUE_IF("setp.lt.f32 %p1, " NAN_ ", 0f00000000;"), 0, 0, 0},
    {TRUE_IF("setp.ltu.f32 %p1, " NAN_ ", 0f00000000;"), 1, 1, 1},
    {TRUE_IF("setp.ltu.f32 %p1, 0f40000000, 0f00000000;"), 0, 0, 0},
    {TRUE_IF("setp.ne.f32 %p1, " NAN_ ", " NAN_ ";"), 0, 0, 0},
    {TRUE_IF("setp.neu.f32 %p1, " NAN_ ", " NAN_ ";"), 1, 1, 1},
    {TRUE_IF("setp.eq.f32 %p1, " NAN_ ", " NAN_ ";"), 0, 0, 0},
    {TRUE_IF("setp.eq.f32 %p1, 0f80000000, 0f00000000;"), 1, 1, 1},
    {TRUE_IF("setp.geu.f32 %p1, 0f00000000, " NAN_ ";"), 1, 1, 1},
    {TRUE_IF("setp.ge.f32 %p1, 0f00000000, " NAN_ ";"), 0, 0, 0},
    {TRUE_IF("setp.leu.f32 %p1, 0f3F800000, 0f00000000;"), 0, 0, 0},
    /* Integers: signed or not. */
    {TRUE_IF("setp.lt.s32 %p1, -1, 0;"), 1, 1, 1},
    {TRUE_IF("setp.lt.u32 %p1, -1, 0;"), 0, 0, 0},
    {TRUE_IF("setp.gt.s64 %p1, -1, 0;"), 0, 0, 0},
    {TRUE_IF("setp.gt.u64 %p1, -1, 0;"), 1, 1, 1},
    /* Shifts by the width and more. */
    {"shl.b32 %r1, 3, 31;", 0x80000000, 0x80000000, 0x80000000},
    {"shl.b32 %r1, 1, 32;", 0, 0, 0},
    {"shl.b32 %r1, 1, 256;", 0, 0, 0},
    {"shr.u32 %r1, -1, 32;", 0, 0, 0},
    {"shr.s32 %r1, -8, 1;", 0xfffffffc, 0xfffffffc, 0xfffffffc},
    {"shr.s32 %r1, -8, 40;", 0xffffffff, 0xffffffff, 0xffffffff},
    {"shr.s32 %r1, 8, 40;", 0, 0, 0},
    {"shf.l.wrap.b32 %r1, -2147483648, 5, 33;", 11, 11, 11},
    {"shf.l.clamp.b32 %r1, 7, 5, 33;", 7, 7, 7},
    {"shf.r.wrap.b32 %r1, 6, 1, 33;", 0x80000003, 0x80000003, 0x80000003},
    {"shf.r.clamp.b32 %r1, 7, 5, 33;", 5, 5, 5},
    {"shl.b64 %rd2, 1, 64; cvt.u32.u64 %r1, %rd2;", 0, 0, 0},
    {HIGH_WORD("shl.b64 %rd2, 1, 33;"), 2, 2, 2},
    /* Integers. */
    {"add.s32 %r1, 5, -7;", 0xfffffffe, 0xfffffffe, 0xfffffffe},
    {"sub.s32 %r1, %r0, 1;", 0xffffffff, 0, 30},
    {"neg.s32 %r1, %r0;", 0, 0xffffffff, 0xffffffe1},
    {"mul.lo.s32 %r1, 65537, 65537;", 0x20001, 0x20001, 0x20001},
    {"mul.hi.u32 %r1, -1, 16;", 15, 15, 15},
    {"mad.lo.s32 %r1, %r0, 10, 3;", 3, 13, 313},
    {HIGH_WORD("mul.wide.u32 %rd2, -1, 2;"), 1, 1, 1},
    {HIGH_WORD("mul.wide.s32 %rd2, -1, 2;"), 0xffffffff, 0xffffffff, 0xffffffff},
    {HIGH_WORD("mad.wide.u32 %rd2, -1, 2, 4294967296;"), 2, 2, 2},
    {HIGH_WORD("cvt.u64.u32 %rd2, -1;"), 0, 0, 0},
    {HIGH_WORD("cvt.s64.s32 %rd2, -1;"), 0xffffffff, 0xffffffff, 0xffffffff},
    {"cvt.u16.u32 %rs1, 98303; cvt.s32.s16 %r1, %rs1;", 0x7fff, 0x7fff, 0x7fff},
    {"cvt.u16.u32 %rs1, 65535; cvt.s32.s16 %r1, %rs1;", 0xffffffff, 0xffffffff, 0xffffffff},
    {"cvt.u16.u32 %rs1, -2; cvt.u32.u16 %r1, %rs1;", 0xfffe, 0xfffe, 0xfffe},
    {"cvt.u16.u32 %rs1, %r0; and.b16 %rs2, %rs1, 7; mul.wide.u16 %r1, %rs2, 60000;", 0, 60000,
     420000},
    {"add.s16 %rs1, -1, 3; shl.b16 %rs2, %rs1, 15; cvt.u32.u16 %r1, %rs2;", 0, 0, 0},
    {"add.s16 %rs1, -1, -1; shr.s16 %rs2, %rs1, 20; cvt.u32.u16 %r1, %rs2;", 0xffff, 0xffff,
     0xffff},
    {TRUE_IF("setp.lt.s16 %p1, -1, 1;"), 1, 1, 1},
    {TRUE_IF("setp.lt.u16 %p1, -1, 1;"), 0, 0, 0},
    {"cvt.u32.u64 %r1, 4294967303;", 7, 7, 7},
    {"div.u32 %r1, -1, 16;", 0x0fffffff, 0x0fffffff, 0x0fffffff},
    {"rem.u32 %r1, 100, 7;", 2, 2, 2},
    {"min.s32 %r1, -1, 1;", 0xffffffff, 0xffffffff, 0xffffffff},
    {"min.u32 %r1, -1, 1;", 1, 1, 1},
    {"max.u32 %r1, %r0, 5;", 5, 5, 31},
    {"bfi.b32 %r1, 255, 0, 4, 8;", 0xff0, 0xff0, 0xff0},
    {"bfi.b32 %r1, 0, -1, 29, 3;", 0x1fffffff, 0x1fffffff, 0x1fffffff},
    {"bfi.b32 %r1, -1, 5, 28, 8;", 0xf0000005, 0xf0000005, 0xf0000005},
    {"bfi.b32 %r1, -1, 5, 32, 8;", 5, 5, 5},
    {"bfi.b32 %r1, -1, 5, 3, 0;", 5, 5, 5},
    {"popc.b32 %r1, %r0;", 0, 1, 5},
    {"not.b32 %r1, %r0;", 0xffffffff, 0xfffffffe, 0xffffffe0},
    {"xor.b32 %r1, %r0, 3;", 3, 2, 28},
    /* Floats. */
    {FLOAT("max.f32 %f1, " NAN_ ", 0f3F800000;"), 0x3f800000, 0x3f800000, 0x3f800000},
    {FLOAT("min.f32 %f1, 0f3F800000, " NAN_ ";"), 0x3f800000, 0x3f800000, 0x3f800000},
    {FLOAT("max.f32 %f1, " NAN_ ", " NAN_ ";"), 0x7fffffff, 0x7fffffff, 0x7fffffff},
    {FLOAT("max.f32 %f1, 0f80000000, 0f00000000;"), 0, 0, 0},
    {FLOAT("min.f32 %f1, 0f00000000, 0f80000000;"), 0x80000000, 0x80000000, 0x80000000},
    {FLOAT("add.f32 %f1, 0f7F800000, 0fFF800000;"), 0x7fffffff, 0x7fffffff, 0x7fffffff},
    {FLOAT("sub.f32 %f1, 0f3F800000, 0f40000000;"), 0xbf800000, 0xbf800000, 0xbf800000},
    /* (1 + 2^-12)^2 - (1 + 2^-11) is 2^-24, and 0 where the product is rounded first. */
    {FLOAT("fma.rn.f32 %f1, 0f3F800800, 0f3F800800, 0fBF801000;"), 0x33800000, 0x33800000,
     0x33800000},
    {FLOAT("mul.rn.f32 %f2, 0f3F800800, 0f3F800800; add.f32 %f1, %f2, 0fBF801000;"), 0, 0, 0},
    {FLOAT("div.rn.f32 %f1, 0f3F800000, 0f40400000;"), 0x3eaaaaab, 0x3eaaaaab, 0x3eaaaaab},
    {FLOAT("rcp.rn.f32 %f1, 0f40400000;"), 0x3eaaaaab, 0x3eaaaaab, 0x3eaaaaab},
    {FLOAT("abs.f32 %f1, 0fBF800000;"), 0x3f800000, 0x3f800000, 0x3f800000},
    {FLOAT("neg.f32 %f1, 0f00000000;"), 0x80000000, 0x80000000, 0x80000000},
    {FLOAT("ex2.approx.ftz.f32 %f1, 0fFF800000;"), 0, 0, 0},
    {FLOAT("lg2.approx.ftz.f32 %f1, 0f00000000;"), 0xff800000, 0xff800000, 0xff800000},
    /* Conversions: clamped, to nearest, the second source low. */
    {"cvt.rzi.u32.f32 %r1, 0f407F5C29;", 3, 3, 3},
    {"cvt.rzi.u32.f32 %r1, 0fC0000000;", 0, 0, 0},
    {"cvt.rzi.u32.f32 %r1, 0f4F800000;", 0xffffffff, 0xffffffff, 0xffffffff},
    {"cvt.rzi.u32.f32 %r1, " NAN_ ";", 0, 0, 0},
    {FLOAT("cvt.rn.f32.u32 %f1, -1;"), 0x4f800000, 0x4f800000, 0x4f800000},
    {FLOAT("cvt.rn.f32.s32 %f1, -1;"), 0xbf800000, 0xbf800000, 0xbf800000},
    {FLOAT("cvt.rn.f32.u32 %f1, 16777219;"), 0x4b800002, 0x4b800002, 0x4b800002},
    {"cvt.rn.f16x2.f32 %r1, 0f3F800000, 0f40000000;", 0x3c004000, 0x3c004000, 0x3c004000},
    {"cvt.rn.bf16x2.f32 %r1, 0f3F800000, 0f40000000;", 0x3f804000, 0x3f804000, 0x3f804000},
    {FLOAT("mov.b32 {%rs1, %rs2}, 1006648320; cvt.f32.f16 %f1, %rs2;"), 0x3f800000, 0x3f800000,
     0x3f800000},
    {"mov.b32 {%rs1, %rs2}, 65538; mov.b32 %r1, {%rs2, %rs1};", 0x20001, 0x20001, 0x20001},
    {"mov.b64 %rd2, {7, 9}; mov.b64 {%r2, %r1}, %rd2;", 9, 9, 9},
    /* Predicates, jumps, scopes. */
    {"setp.eq.s32 %p1, %r0, 1; mov.u32 %r1, 4; @%p1 mov.u32 %r1, 5;", 4, 5, 4},
    {"setp.eq.s32 %p1, %r0, 1; mov.u32 %r1, 4; @!%p1 mov.u32 %r1, 5;", 5, 4, 5},
    {"setp.eq.s32 %p1, %r0, 1; selp.b32 %r1, 8, 9, %p1;", 9, 8, 9},
    {"setp.lt.u32 %p1, %r0, 2; setp.ge.u32 %p2, %r0, 1; and.pred %p3, %p1, %p2;"
     " not.pred %p4, %p3; selp.u32 %r1, 1, 0, %p4;",
     1, 0, 1},
    {"mov.u32 %r1, 0; mov.u32 %r2, 0;\n"
     "$L__loop: add.s32 %r1, %r1, %r2; add.s32 %r2, %r2, 1; setp.le.u32 %p1, %r2, %r0;\n"
     "@%p1 bra $L__loop;\n",
     0, 1, 496},
    {"mov.u32 %r1, 0; mov.u32 %r2, 0; mov.u32 %r3, 0;\n"
     "{ .reg .pred more; .reg .b32 %r3; mov.u32 %r3, 9; again: add.s32 %r2, %r0, 0;"
     " setp.ne.s32 more, %r2, %r0; @more bra again; }\n"
     "{ .reg .pred more; again: add.s32 %r1, %r1, 2; setp.lt.u32 more, %r1, 10; @more bra again; "
     "}\n"
     "add.s32 %r1, %r1, %r3; add.s32 %r1, %r1, %r2;",
     10, 11, 41},
    /* Lanes together. */
    {"and.b32 %r2, %r0, 1; setp.eq.s32 %p1, %r2, 1; vote.sync.ballot.b32 %r1, %p1, -1;", 0xaaaaaaaa,
     0xaaaaaaaa, 0xaaaaaaaa},
    {"shfl.sync.idx.b32 %r1|%p1, %r0, 7, 31, -1;", 7, 7, 7},
    {"shfl.sync.idx.b32 %r1|%p1, %r0, 1, 7171, -1;", 1, 1, 29}, /* in fours */
    {"shfl.sync.bfly.b32 %r1|%p1, %r0, 3, 31, -1;", 3, 2, 28},
    {"shfl.sync.bfly.b32 %r1|%p1, %r0, 1, 0, -1; selp.u32 %r1, 1, 0, %p1;", 0, 1, 0},
    {"bar.sync 0; mov.u32 %r1, 1;", 1, 1, 1},
    /* Memory. */
    {"mov.u32 %r2, array; shl.b32 %r3, %r0, 4; add.s32 %r3, %r3, %r2;"
     " st.shared.v4.u32 [%r3], {%r0, 1, 2, 3}; bar.warp.sync -1; xor.b32 %r3, %r3, 16;"
     " ld.shared.v2.u32 {%r4, %r5}, [%r3]; ld.shared.f32 %f1, [%r3+12]; mov.b32 %r6, %f1;"
     " add.s32 %r1, %r4, %r5; add.s32 %r1, %r1, %r6;",
     5, 4, 34},
    {"st.global.u32 [%rd1], 70000; ld.global.u16 %rs1, [%rd1]; cvt.u32.u16 %r1, %rs1;", 4464, 4464,
     4464},
    {"st.global.u32 [%rd1], 7; atom.add.u32 %r2, [%rd1], 5; ld.u32 %r3, [%rd1];"
     " add.s32 %r1, %r2, %r3;",
     19, 19, 19},
    {"mov.b64 %rd2, k_param_0; ld.param.u64 %rd3, [%rd2]; sub.s64 %rd4, %rd3, %rd0;"
     " cvt.u32.u64 %r1, %rd4;",
     0, 0, 0},
    {"mov.u32 %r2, array; shl.b32 %r3, %r0, 4; add.s32 %r2, %r2, %r3;"
     " setp.eq.s32 %p1, %r0, 1; selp.b32 %r3, 16, 0, %p1;"
     " st.global.u32 [%rd1], 6; bar.warp.sync -1; and.b64 %rd3, %rd1, -16;"
     " cp.async.cg.shared.global [%r2], [%rd3], 16, %r3; cp.async.commit_group;"
     " cp.async.wait_group 0; ld.shared.u32 %r1, [%r2]; bar.warp.sync -1;",
     0, 6, 0},
    /* 16 ones times ones, and 1 more. */
    {"mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%f1, %f2, %f3, %f4},"
     " {1006648320, 1006648320, 1006648320, 1006648320}, {1006648320, 1006648320},"
     " {0f3F800000, 0f3F800000, 0f3F800000, 0f3F800000}; mov.b32 %r1, %f1;",
     0x41880000, 0x41880000, 0x41880000},
};

START_TEST(results)
{
    const struct result &r = RESULTS[_i];
    Answers answers;
    Outcome outcome = run_ptx(r.code, 32, answers);
    ck_assert_msg(outcome.ok, "%s: %s", r.code, outcome.report.c_str());
    const uint32_t wanted[] = {r.first, r.second, r.last}, lanes[] = {0, 1, 31};
    for (int i = 0; i < 3; i++)
        ck_assert_msg(answers[lanes[i]] == wanted[i], "%s: %#x of thread %u, not %#x", r.code,
                      answers[lanes[i]], lanes[i], wanted[i]);
}
END_TEST

/* ---- Faults ---- */

#define TO_WINDOW "mov.u32 %r2, array; cvt.u64.u32 %rd2, %r2; cvta.shared.u64 %rd2, %rd2;"

static const struct planted {
    const char *code;
    const char *said[2]; /* words of the report */
} FAULTS[] = {
    {"add.s32 %r1, %r5, 1;", {"%r5", "no value"}},
    {"setp.eq.s32 %p1, %r0, 1; @%p1 mov.u32 %r1, 5;", {"%r1", "no value"}},
    {"@%p7 mov.u32 %r1, 5; mov.u32 %r1, 5;", {"predicate", "no value"}},
    {"mov.u32 %r1, 5;\nadd.s32 %r1, %r5, 1;", {"line 12 of text", "no value"}},
    /* Memory of another kind, or not there, or not aligned. */
    {"mov.u32 %r2, array; cvt.u64.u32 %rd2, %r2; ld.global.u32 %r1, [%rd2];", {"device memory"}},
    {"cvt.u32.u64 %r2, %rd0; ld.shared.u32 %r1, [%r2];", {"shared memory"}},
    {TO_WINDOW " cvta.to.global.u64 %rd3, %rd2; mov.u32 %r1, 1;", {"cvta.to.global"}},
    {"cvta.to.shared.u64 %rd3, %rd0; mov.u32 %r1, 1;", {"cvta.to.shared"}},
    {"ld.param.u32 %r1, [k_param_0+8];", {"parameters", "byte 8"}},
    {"cvta.param.u64 %rd2, k_param_0; st.u32 [%rd2], 1; mov.u32 %r1, 1;", {"writes parameters"}},
    {"mov.u32 %r2, array; ld.shared.v4.u32 {%r3, %r4, %r5, %r1}, [%r2+4];", {"no multiple of 16"}},
    {"ld.global.v2.u32 {%r2, %r1}, [%rd0+4];", {"no multiple of 8"}},
    {"ld.global.u32 %r1, [%rd0+512];", {"device memory", "line 11"}},
    {"mov.u32 %r2, array; ld.shared.u32 %r1, [%r2+8192];", {"shared memory", "outside"}},
    {"ld.shared.u32 %r1, [array+4];", {"nobody has written"}},
    {"mov.u32 %r2, array; shl.b32 %r3, %r0, 2; add.s32 %r3, %r3, %r2; st.shared.u32 [%r3], %r0;"
     " xor.b32 %r3, %r3, 4; ld.shared.u32 %r1, [%r3];",
     {"shared memory"}},
    {TO_WINDOW " st.u32 [%rd2], 1; mov.u32 %r1, 1;", {"race", "writes"}},
    {"mov.u32 %r2, array; and.b64 %rd3, %rd1, -16; cp.async.cg.shared.global [%r2], [%rd3], 16, 8;"
     " mov.u32 %r1, 1;",
     {"cp.async of 8 bytes"}},
    /* Lanes that do not come together. */
    {"mov.u32 %r1, 1; setp.lt.u32 %p1, %r0, 16; @%p1 bra $a; bar.sync 0; bra $b;\n"
     "$a: bar.sync 0; $b: add.s32 %r1, %r1, 1;",
     {".aligned", "others are in line"}},
    {"mov.u32 %r1, 1; setp.lt.u32 %p1, %r0, 16; @%p1 bar.sync 0;", {"not all threads"}},
    {"setp.eq.s32 %p1, %r0, 1; vote.sync.ballot.b32 %r1, %p1, 65535;", {"member mask of 0xffff"}},
    {"bar.warp.sync 1; mov.u32 %r1, 1;", {"member mask of 0x1,"}},
};

START_TEST(faults)
{
    const struct planted &f = FAULTS[_i];
    Answers answers;
    Outcome outcome = run_ptx(f.code, 32, answers);
    ck_assert_msg(!outcome.ok, "not found: %s", f.code);
    for (const char *word : f.said)
        ck_assert_msg(!word || outcome.report.find(word) != std::string::npos, "%s: %s", f.code,
                      outcome.report.c_str());
}
END_TEST

/* ---- Texts ---- */

static const struct planted ERRORS[] = {
    {"mov.u32 %r1, 1;\nfrob.u32 %r1, %r1;", {"text:12: unknown instruction frob.u32"}},
    {"add.sat.s32 %r1, %r0, %r0;", {"text:11: unknown instruction add.sat.s32"}},
    {"add.s32 %r1, %f1, %r0;", {"operands do not fit add.s32"}},
    {"add.s32 %r1, %rd1, %r0;", {"operands do not fit"}},
    {"add.s64 %rd2, %rd1, %r0;", {"operands do not fit"}},
    {"add.s32 %r1, %r0;", {"operands do not fit"}},
    {"add.s32 %r1, %r0, %r0, %r0;", {"operands do not fit"}},
    {"add.s32 %r1, %r0, ;", {"an operand is missing"}},
    {"add.s32 1, %r0, %r0;", {"operands do not fit"}},
    {"add.s32 %r1, %r0, 8589934592;", {"operands do not fit"}},
    {"and.b16 %rs1, %rs2, 65536; mov.u32 %r1, 1;", {"operands do not fit"}},
    {"add.s32 %r1, %r0, 0f3F800000;", {"operands do not fit"}},
    {"setp.eq.s32 %r1, %r0, %r0;", {"operands do not fit"}},
    {"setp.ltu.s32 %p1, %r0, %r0;", {"unknown instruction"}},
    {"selp.u32 %r1, 1, 0, %r0;", {"operands do not fit"}},
    {"@%r0 mov.u32 %r1, 1;", {"a predicate is wanted"}},
    {"mov.u32 %r1, %r20;", {"no register %r20"}},
    {"mov.u32 %r1, %clock;", {"no register %clock"}},
    {"mov.u32 %r1, nowhere;", {"operands do not fit mov.u32"}},
    {"ld.shared.u32 %r1, [%rd1];", {"operands do not fit"}},
    {"ld.global.u32 %r1, [%r0];", {"operands do not fit"}},
    {"ld.global.v3.u32 {%r1, %r2, %r3}, [%rd0];", {"unknown instruction"}},
    {"ld.global.v4.u32 {%r1, %r2, %r3}, [%rd0];", {"operands do not fit"}},
    {"st.global.nc.u32 [%rd0], %r0;", {"unknown instruction"}},
    {"ld.param.u32 %r1, [array];", {"operands do not fit"}},
    {"bra $nowhere; mov.u32 %r1, 1;", {"text:11: no label $nowhere"}},
    {"bra inside; { inside: mov.u32 %r1, 1; }", {"no label inside"}},
    {"a: mov.u32 %r1, 1; a: mov.u32 %r1, 2;", {"a label for the second time"}},
    {"{ .reg .b32 x; } mov.u32 x, 1;", {"operands do not fit"}},
    {".local .b32 x; mov.u32 %r1, 1;", {"unknown directive .local"}},
    {".pragma \"fast\"; mov.u32 %r1, 1;", {"unknown pragma"}},
    {".reg .f8 x; mov.u32 %r1, 1;", {"unknown type .f8"}},
    {"bar.sync 1;", {"operands do not fit bar.sync"}},
    {"shfl.sync.bfly.b32 %r1, %r0, 3, 31, -1;", {"operands do not fit"}},
    {"mov.u32 %r1, 1; ret; } .func f {", {"unknown declaration"}},
};

START_TEST(errors)
{
    const struct planted &e = ERRORS[_i];
    try {
        ptx::parse("text", ptx_text(e.code, 32));
    } catch (const ptx::Error &error) {
        ck_assert_msg(std::strstr(error.what(), e.said[0]), "%s: %s", e.code, error.what());
        return;
    }
    ck_abort_msg("not found: %s", e.code);
}
END_TEST

static bool refused(const Kernel &like)
{
    auto programs = ptx::parse("text", ptx_text("mov.u32 %r1, 1;", 32));
    try {
        ptx::make_kernel(*programs.at(0), like);
    } catch (const ptx::Error &) {
        return true;
    }
    return false;
}

START_TEST(not_what_the_host_has)
{
    ck_assert(!refused({"k", nullptr, 8, {8}, 32, 0, nullptr}));
    ck_assert(refused({"k", nullptr, 16, {16}, 32, 0, nullptr}));
    ck_assert(refused({"k", nullptr, 16, {8, 8}, 32, 0, nullptr}));
    ck_assert(refused({"k", nullptr, 8, {8}, 64, 0, nullptr}));
}
END_TEST

static bool chosen(const Kernel &kernel)
{
    try {
        const Kernel *found = ptx::choose_kernel(&kernel);
        return found != &kernel && found->program && found->program->name == kernel.name;
    } catch (const ptx::Error &) {
        return false;
    }
}

/* DRAFT_SIMULATOR_PTX: a folder that is not there, one with a kernel k, none. */
START_TEST(folder)
{
    char name[] = "/tmp/draft-ptx-XXXXXX";
    ck_assert(mkdtemp(name) != nullptr);
    std::string file = std::string(name) + "/some.ptx";
    std::ofstream(file) << ptx_text("mov.u32 %r1, 1;", 32);
    Kernel k = {"k", nullptr, 8, {8}, 32, 0, nullptr}, other = k;
    other.name = "other";
    setenv("DRAFT_SIMULATOR_PTX", "/nowhere", 1);
    ck_assert(!chosen(k));
    setenv("DRAFT_SIMULATOR_PTX", name, 1);
    ck_assert(chosen(k));
    ck_assert(!chosen(other));
    unsetenv("DRAFT_SIMULATOR_PTX");
    ck_assert_ptr_eq(ptx::choose_kernel(&other), &other);
    std::remove(file.c_str());
    rmdir(name);
}
END_TEST

START_TEST(end_of_a_kernel)
{
    for (const char *end : {"", "@%p0 ret;", "add.s32 %r0, %r0, 1;"}) {
        std::string text = std::string(".visible .entry k()\n.maxntid 32\n{ .reg .pred %p<1>;"
                                       " .reg .b32 %r<1>;\n") +
                           end + "\n}";
        try {
            ptx::parse("text", text);
        } catch (const ptx::Error &error) {
            ck_assert(std::strstr(error.what(), "goes on behind its end"));
            continue;
        }
        ck_abort_msg("not found: %s", end);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("simulator: ptx");
    TCase *tests = tcase_create("ptx");
    tcase_add_loop_test(tests, results, 0, sizeof(RESULTS) / sizeof(*RESULTS));
    tcase_add_loop_test(tests, faults, 0, sizeof(FAULTS) / sizeof(*FAULTS));
    tcase_add_loop_test(tests, errors, 0, sizeof(ERRORS) / sizeof(*ERRORS));
    tcase_add_test(tests, not_what_the_host_has);
    tcase_add_test(tests, folder);
    tcase_add_test(tests, end_of_a_kernel);
    add_group_tests(tests);
    suite_add_tcase(suite, tests);
    return run_suite(suite);
}
