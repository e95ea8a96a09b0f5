/* SPDX-License-Identifier: MIT
 *
 * Warp groups in PTX: products and what may happen to their registers, barriers in memory. 128
 * threads; a has 64 rows of ones in registers, b 64 rows of ones in `array`. */
#include "run_ptx.h"

static std::string c_list()
{
    std::string list = "{%f0";
    for (int i = 1; i < 32; i++)
        list += ", %f" + std::to_string(i);
    return list + "}";
}

/* c begins as 2, but for the last. */
static std::string prepare()
{
    std::string code = "mov.u32 %r2, array; shl.b32 %r3, %r0, 6; add.s32 %r3, %r3, %r2;\n";
    for (int i = 0; i < 4; i++)
        code += "st.shared.v4.u32 [%r3+" + std::to_string(16 * i) +
                "], {1006648320, 1006648320, 1006648320, 1006648320};\n";
    for (int i = 0; i < 32; i++)
        code += "mov.f32 %f" + std::to_string(i) + ", 0f40000000;\n";
    for (int i = 4; i < 8; i++)
        code += "mov.u32 %r" + std::to_string(i) + ", 1006648320;\n";
    return code + "fence.proxy.async.shared::cta; bar.sync 0;\n"
                  "shr.u32 %r8, %r2, 4; and.b32 %r8, %r8, 16383; or.b32 %r8, %r8, 65536;\n"
                  "mov.b64 %rd2, {%r8, 1073741888};\n";
}

static std::string product(const char *scale = "1", const char *rest = "1, 1, 0")
{
    return "wgmma.mma_async.sync.aligned.m64n64k16.f32.f16.f16 " + c_list() +
           ", {%r4, %r5, %r6, %r7}, %rd2, " + scale + ", " + rest + ";\n";
}

#define FENCE  "wgmma.fence.sync.aligned;\n"
#define COMMIT "wgmma.commit_group.sync.aligned;\n"
#define WAIT   "wgmma.wait_group.sync.aligned 0;\n"
#define WAIT_1 "wgmma.wait_group.sync.aligned 1;\n"
#define ANSWER "mov.b32 %r1, %f5;\n"
#define LIMIT  "\nmov.u32 %r1, 1;\n"

/* A barrier at `array`, for the arrival of each thread; and a wait as kernels have it. */
#define BARRIER                                                                                    \
    "mov.u32 %r2, array; setp.eq.s32 %p1, %r0, 0; @%p1 mbarrier.init.shared::cta.b64 [%r2], "      \
    "128;\n"                                                                                       \
    "fence.mbarrier_init.release.cluster; bar.sync 0;\n"
#define ARRIVE "mbarrier.arrive.shared::cta.b64 _, [%r2];\n"
#define WAIT_FOR(parity)                                                                           \
    "{ .reg .pred done;\nagain:\nmbarrier.try_wait.parity.shared::cta.b64 done, [%r2], " parity    \
    ";\n@!done bra again;\n}\n"

START_TEST(products)
{
    const struct {
        std::string code;
        uint32_t answer;
    } CASES[] = {
        {FENCE + product() + COMMIT WAIT, 0x41900000},    /* 2 + 16 */
        {FENCE + product("0") + COMMIT WAIT, 0x41800000}, /* 16 */
        {"setp.eq.s32 %p1, %r0, 900;" FENCE + product("%p1") + COMMIT WAIT, 0x41800000},
        {FENCE + product() + product() + COMMIT WAIT, 0x42080000}, /* 2 + 32 */
        {FENCE + product() + COMMIT + product() + COMMIT WAIT_1 WAIT, 0x42080000},
        {FENCE + product() + COMMIT WAIT "mov.f32 %f5, 0f00000000;\n" FENCE + product() +
             COMMIT WAIT,
         0x41800000},
    };
    for (const auto &c : CASES) {
        Answers answers;
        Outcome outcome = run_ptx(prepare() + c.code + ANSWER, 128, answers);
        ck_assert_msg(outcome.ok, "%s: %s", c.code.c_str(), outcome.report.c_str());
        for (uint32_t i = 0; i < 128; i++)
            ck_assert_uint_eq(answers[i], c.answer);
    }
}
END_TEST

static void expect_fault(const std::string &code, const char *words)
{
    Answers answers;
    Outcome outcome = run_ptx(code, 128, answers);
    ck_assert_msg(!outcome.ok, "not found: %s", code.c_str());
    ck_assert_msg(outcome.report.find(words) != std::string::npos, "%s: %s", code.c_str(),
                  outcome.report.c_str());
}

START_TEST(registers_of_products)
{
    const char *mine = "belongs to a product that nobody has waited for";
    const struct {
        std::string code;
        const char *words;
    } CASES[] = {
        {FENCE + product() + COMMIT ANSWER WAIT, mine},
        {FENCE + product() + COMMIT "mov.f32 %f5, 0f00000000;\n" WAIT, mine},
        {FENCE + product() + COMMIT "mov.u32 %r5, 0;\n" WAIT, mine},
        {FENCE + product() + COMMIT "add.s32 %r1, %r5, 0;\n" WAIT, mine},
        {FENCE + product() + COMMIT "mov.f32 %f5, 0f00000000;\n" WAIT, "writes %f5"},
        {FENCE + product() + COMMIT + product() + COMMIT WAIT_1 ANSWER WAIT, "reads %f5"},
        {FENCE + product() + COMMIT, "reads %f5"},
        {FENCE "mov.f32 %f5, 0f00000000;\n" + product() + COMMIT WAIT,
         "%f5 changes between wgmma.fence"},
        {FENCE "mov.u32 %r5, 0;\n" + product() + COMMIT WAIT, "%r5 changes between wgmma.fence"},
        {product() + COMMIT WAIT, "changes between wgmma.fence"},
    };
    for (const auto &c : CASES)
        expect_fault(prepare() + c.code + ANSWER, c.words);
}
END_TEST

START_TEST(operands_of_products)
{
    expect_fault(prepare() + FENCE + product("2") + COMMIT WAIT LIMIT, "operands do not fit");
    expect_fault(prepare() + FENCE + product("1", "1, -1, 0") + COMMIT WAIT LIMIT,
                 "operands do not fit");
    expect_fault(prepare() + FENCE + product("1", "1, 1") + COMMIT WAIT LIMIT,
                 "operands do not fit");
    /* Warp 3 alone executes another of two products that are the same. */
    expect_fault(prepare() + FENCE "setp.eq.s32 %p1, %r0, 127; @%p1 bra $other;\n" + product() +
                     "bra $both;\n$other:\n" + product() + "$both:\n" COMMIT WAIT LIMIT,
                 ".aligned");
}
END_TEST

START_TEST(barriers)
{
    Answers answers;
    std::string code = BARRIER ARRIVE WAIT_FOR("0") ARRIVE WAIT_FOR("1") "mov.u32 %r1, 7;";
    Outcome outcome = run_ptx(code, 128, answers);
    ck_assert_msg(outcome.ok, "%s", outcome.report.c_str());
    for (uint32_t i = 0; i < 128; i++)
        ck_assert_uint_eq(answers[i], 7);
    expect_fault(BARRIER WAIT_FOR("0") LIMIT, "barrier_wait");
    /* Who does not ask again goes on too early, now and then. */
    std::string once = "mbarrier.try_wait.parity.shared::cta.b64 %p2, [%r2], 0;\n";
    expect_fault(BARRIER ARRIVE + once + once + once +
                     "@!%p2 bra $bad; bra $good;\n"
                     "$bad: ld.global.u32 %r1, [%rd0+1];\n"
                     "$good: mov.u32 %r1, 1;\n",
                 "no multiple of 4");
    outcome =
        run_ptx("bar.sync 2, 128; bar.arrive 3, 128; bar.sync 0; mov.u32 %r1, 1;", 128, answers);
    ck_assert_msg(outcome.ok, "%s", outcome.report.c_str());
    expect_fault("setp.lt.u32 %p1, %r0, 16; @%p1 bar.arrive 3, 128;" LIMIT, "not all threads");
}
END_TEST

void add_group_tests(TCase *tests)
{
    tcase_add_test(tests, products);
    tcase_add_test(tests, registers_of_products);
    tcase_add_test(tests, operands_of_products);
    tcase_add_test(tests, barriers);
}
