/* SPDX-License-Identifier: MIT
 *
 * Runs a few instructions of PTX, for tests. */
#ifndef DRAFT_TESTS_SIMULATOR_RUN_PTX_H
#define DRAFT_TESTS_SIMULATOR_RUN_PTX_H

#include <string>

#include <check.h>

#include "ptx_program.h"

constexpr uint32_t PTX_THREADS = 128; /* at most */

/* What thread i leaves in %r1. */
class Answers
{
  public:
    Answers() : address(simulator::memory_allocate(PTX_THREADS * 4))
    {
        ck_assert(address != 0);
    }
    ~Answers()
    {
        simulator::memory_free(address);
    }
    uint32_t operator[](uint32_t i) const
    {
        return reinterpret_cast<const uint32_t *>(address)[i];
    }
    const uint64_t address;
};

/* The code in a kernel k: %r0 is the thread, %rd0 the parameter, %rd1 where its answer goes; the
 * shared `array` has 8192 bytes. The code begins in line CODE_LINE. */
constexpr uint32_t CODE_LINE = 11;
inline std::string ptx_text(const std::string &code, uint32_t threads)
{
    return ".version 9.0\n.target sm_90a\n.address_size 64 // a comment\n"
           ".visible .entry k(.param .align 8 .b8 k_param_0[8])\n.maxntid " +
           std::to_string(threads) +
           ", 1, 1\n{\n"
           ".reg .pred %p<10>; .reg .b16 %rs<4>; .reg .f32 %f<80>;\n"
           ".reg .b32 %r<20>; .reg .b64 %rd<10>; .shared .align 16 .b8 array[8192];\n"
           "ld.param.u64 %rd0, [k_param_0]; mov.u32 %r0, %tid.x;\n"
           "mul.wide.u32 %rd1, %r0, 4; add.s64 %rd1, %rd1, %rd0;\n" +
           code + "\nst.global.u32 [%rd1], %r1;\nret;\n}\n";
}

/* test_ptx_group.cc */
void add_group_tests(TCase *tests);

struct Outcome {
    bool ok;
    std::string report;
};

inline Outcome run_ptx(const std::string &code, uint32_t threads, const Answers &answers)
{
    using namespace simulator;
    Outcome outcome = {false, ""};
    try {
        auto programs = ptx::parse("text", ptx_text(code, threads));
        Kernel like = {"k", nullptr, 8, {8}, threads, 0, nullptr};
        Kernel kernel = ptx::make_kernel(*programs.at(0), like);
        Launch launch = {&kernel, {1, 1, 1}, {threads, 1, 1}, 0, {}};
        auto bytes = reinterpret_cast<const unsigned char *>(&answers.address);
        launch.args.assign(bytes, bytes + 8);
        outcome.ok = execute(launch, &outcome.report);
    } catch (const ptx::Error &error) {
        outcome.report = error.what();
    }
    return outcome;
}

#endif
