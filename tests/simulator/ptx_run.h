/* SPDX-License-Identifier: MIT
 *
 * A thread that runs a program of PTX. Registers are in memory of the OS thread; a byte for each
 * says whether it may be read. */
#ifndef DRAFT_TESTS_SIMULATOR_PTX_RUN_H
#define DRAFT_TESTS_SIMULATOR_PTX_RUN_H

#include <cstring>

#include "execute.h"
#include "ptx_program.h"

namespace simulator
{
namespace ptx
{

/* What a register may be: a bit each, and UNSET none. PENDING: a product that nobody has waited for
 * adds to it; HELD: such a product reads it. */
enum : uint8_t { UNSET = 0, READY = 1, PENDING = 2, HELD = 4 };

/* A product under way, and after how many groups it was issued. */
struct OpenProduct {
    uint32_t product, group;
};
constexpr uint32_t MOST_OPEN_PRODUCTS = 64;

struct Run {
    uint32_t *r;
    uint8_t *state;
    const Instruction *next, *at;
    const Program *program;
    Thread *thread;
    uint32_t *copies; /* registers of products under way */
    uint32_t *fenced; /* those of all products, at the last wgmma.fence */
    uint32_t waits;   /* mbarrier.try_wait so far */
    uint32_t groups;  /* committed products */
    uint32_t open_count;
    OpenProduct open[MOST_OPEN_PRODUCTS];
};

/* Faults: the register may not be read, or written. */
[[noreturn]] void bad_read(const Run &run, int32_t place);
[[noreturn]] void bad_write(const Run &run, int32_t place);

template <class T> inline T get(const Run &run, int32_t place)
{
    if (__builtin_expect(run.state[place] != READY, 0))
        bad_read(run, place);
    T value;
    std::memcpy(&value, &run.r[place], sizeof value);
    return value;
}

template <> inline bool get<bool>(const Run &run, int32_t place)
{
    return get<uint32_t>(run, place) != 0;
}

template <class T> inline void put(Run &run, int32_t place, T value)
{
    if (__builtin_expect(run.state[place] > READY, 0))
        bad_write(run, place);
    run.state[place] = READY;
    std::memcpy(&run.r[place], &value, sizeof value);
}

template <> inline void put<bool>(Run &run, int32_t place, bool value)
{
    put<uint32_t>(run, place, value);
}

/* All lanes of the warp do this very instruction, as .aligned demands. */
void meet_aligned(Run &run);

} // namespace ptx
} // namespace simulator

#endif
