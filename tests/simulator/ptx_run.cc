/* SPDX-License-Identifier: MIT
 *
 * Threads that run programs of PTX: where their registers are, and how they go on. */
#include "ptx_run.h"

#include <algorithm>

#include "ptx_count.h"

namespace simulator
{
namespace ptx
{

/* Registers of all threads of the block that this OS thread runs, constants below. Threads begin a
 * few cache lines apart from each other, as stacks do (fibre.cc). */
struct Memory {
    std::vector<uint32_t> words;
    std::vector<uint8_t> states;
};
static thread_local Memory memory;

static constexpr size_t LINE_WORDS = 16;

static size_t words_of_thread(const Program &p)
{
    size_t words = p.constants.size() * 2 + p.places + p.copies * 2;
    return (words / LINE_WORDS | 1) * LINE_WORDS + 2 * LINE_WORDS;
}

/* The first thread of a block makes room; the others want as much. */
static void place_registers(Run &run, const Program &p)
{
    size_t words = words_of_thread(p), states = p.constants.size() * 2 + p.places;
    size_t threads = run.thread->block->threads.size(), below = p.constants.size() * 2;
    if (memory.words.size() < words * threads)
        memory.words.resize(words * threads);
    if (memory.states.size() < states * threads)
        memory.states.resize(states * threads);
    run.r = memory.words.data() + words * run.thread->id + below;
    run.state = memory.states.data() + states * run.thread->id + below;
    run.copies = run.r + p.places;
    run.fenced = run.copies + p.copies;
    std::memset(run.state - below, READY, below);
    std::memset(run.state, UNSET, p.places);
    for (size_t i = 0; i < p.constants.size(); i++)
        std::memcpy(run.r - 2 * (i + 1), &p.constants[i], 8);
}

static void set_special(Run &run, Special which, uint64_t value)
{
    std::memcpy(run.r - 2 * (which + 1), &value, 8);
}

static void start(Run &run, const Program &p)
{
    Block &block = *run.thread->block;
    place_registers(run, p);
    for (const SharedArray &array : p.arrays)
        if (block.shared.declare(&array, array.size) != SharedMemory::BASE + array.offset)
            fault("array %s in shared memory is not where it was expected", array.name.c_str());
    set_special(run, TID_X, run.thread->id);
    set_special(run, CTAID_X, block.id[0]);
    set_special(run, NTID_X, block.launch->block[0]);
    set_special(run, NCTAID_X, block.launch->grid[0]);
    set_special(run, DYNAMIC_SHARED, block.shared.dynamic_base());
    run.next = p.code.data();
}

static bool passes(const Run &run, int32_t guard)
{
    return guard > 0 ? get<bool>(run, guard - 1) : !get<bool>(run, -guard - 1);
}

template <bool counted> static void go_on(Run &run, uint64_t *counts)
{
    const Instruction *first = run.program->code.data();
    while (const Instruction *i = run.next) {
        run.at = i;
        run.next = i + 1;
        if (counted)
            counts[i - first]++;
        if (i->guard && !passes(run, i->guard))
            continue;
        i->run(run, i->o);
    }
}

static void entry(const void *)
{
    Thread &thread = self();
    Run run;
    run.thread = &thread;
    run.program = thread.block->launch->kernel->program;
    run.at = nullptr;
    run.waits = run.groups = run.open_count = 0;
    thread.run = &run;
    start(run, *run.program);
    if (uint64_t *counts = counts_of(*run.program))
        go_on<true>(run, counts);
    else
        go_on<false>(run, nullptr);
    thread.run = nullptr;
}

/* ---- For the instructions ---- */

void bad_read(const Run &run, int32_t place)
{
    std::string name = run.program->register_name(place, *run.at);
    if (run.state[place] & (PENDING | HELD))
        fault("reads %s, which belongs to a product that nobody has waited for", name.c_str());
    fault("reads %s, which has no value yet", name.c_str());
}

void bad_write(const Run &run, int32_t place)
{
    std::string name = run.program->register_name(place, *run.at);
    if (place < 0)
        fault("writes a number");
    fault("writes %s, which belongs to a product that nobody has waited for", name.c_str());
}

/* Who comes first says where; the others come before any of them can go on. */
void meet_aligned(Run &run)
{
    Warp &warp = *run.thread->warp;
    if (warp.aligned_lanes && warp.aligned_at != run.at)
        fault("the lanes of a warp do not come together to an instruction that is .aligned: others "
              "are in line %u",
              static_cast<const Instruction *>(warp.aligned_at)->line);
    warp.aligned_at = run.at;
    warp.aligned_lanes |= 1u << run.thread->lane;
    if (warp.aligned_lanes == warp.lanes)
        warp.aligned_lanes = 0;
}

std::string place_of(const Run &run)
{
    if (!run.at)
        return "";
    return ", line " + std::to_string(run.at->line) + " of " + run.program->file;
}

/* ---- Kernels ---- */

Kernel make_kernel(Program &program, const Kernel &like)
{
    if (program.params != like.params)
        throw Error(program.file + ": " + program.name + ": other parameters than the host has");
    if (program.max_threads != like.max_threads)
        throw Error(program.file + ": " + program.name + ": launch bounds of " +
                    std::to_string(program.max_threads) + " threads, the host has " +
                    std::to_string(like.max_threads));
    size_t end = 0;
    for (size_t i = 0; i < program.params.size(); i++) {
        if (program.param_places[i] != end)
            throw Error(program.file + ": " + program.name + ": parameters with a gap");
        end += program.params[i];
    }
    share_places(program);
    Kernel kernel = like;
    kernel.entry = entry;
    kernel.program = &program;
    return kernel;
}

} // namespace ptx
} // namespace simulator
