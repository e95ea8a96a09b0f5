/* SPDX-License-Identifier: MIT
 *
 * Blocks of a launch are handed out in order to a few OS threads; each runs one block at a time.
 * The threads of a block are fibres: one runs until it meets others, then the next. Which goes
 * first changes from block to block, so that what depends on an order shows; so does whether a
 * warp goes on when its lanes have met, which is quicker, as their stacks fit the nearest cache. */
#include "execute.h"

#include <algorithm>
#include <atomic>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>
#include <thread>

#include "fibre.h"
#include "ptx_program.h"

namespace simulator
{

static constexpr unsigned MAX_THREADS = 1024;

/* ---- Kernels ---- */

static std::vector<Kernel> &kernels()
{
    static std::vector<Kernel> all;
    return all;
}

Registration::Registration(const char *name, void (*entry)(const void *),
                           std::vector<size_t> params, unsigned max_threads, int arch)
{
    size_t size = 0;
    for (size_t param : params)
        size += param;
    kernels().push_back({name, entry, size, params, max_threads, arch, nullptr});
}

const Kernel *find_kernel(const char *name)
{
    for (const Kernel &kernel : kernels())
        if (std::strcmp(kernel.name, name) == 0)
            return &kernel;
    return nullptr;
}

/* ---- Turns ---- */

/* What one OS thread works with. */
struct Worker {
    FibreStacks stacks{MAX_THREADS};
    Block block;
    void *scheduler = nullptr;   /* its stack pointer */
    std::vector<Thread *> turns; /* of the block, in their order of a sweep */
    size_t turn = 0;             /* the next */
    bool warps_stay = false;     /* in turn, while their lanes wait for each other alone */
    Allocation recent[4] = {};   /* where the last accesses to device memory went */
    unsigned oldest = 0;
    bool units_work = false; /* in place of a thread */
    uint64_t random = 0;
};

/* What a unit does wrong, which no thread waits for. */
struct UnitFault {
};

static __thread Worker *worker;
__thread Thread *running_thread;

/* The next of this sweep that can go on becomes the running one. Returns its stack pointer, or the
 * scheduler's. */
static void *next_turn(Worker &w)
{
    while (w.turn < w.turns.size() && w.block.fault.empty()) {
        Thread *thread = w.turns[w.turn++];
        if (thread->state == State::ready) {
            running_thread = thread;
            return thread->stack_pointer;
        }
    }
    return w.scheduler;
}

void leave(State state)
{
    Thread &thread = self();
    thread.state = state;
    fibre_switch(&thread.stack_pointer, next_turn(*worker));
}

void fault(const char *format, ...)
{
    const Thread &thread = self();
    Block &block = *thread.block;
    char text[512], where[160];
    va_list args;
    va_start(args, format);
    std::vsnprintf(text, sizeof text, format, args);
    va_end(args);
    std::snprintf(where, sizeof where,
                  "%s, block (%u, %u, %u), thread %u: ", block.launch->kernel->name, block.id[0],
                  block.id[1], block.id[2], thread.id);
    block.fault = std::string(where) + text;
    if (thread.run)
        block.fault += ptx::place_of(*thread.run);
    if (worker->units_work)
        throw UnitFault();
    leave(State::done);
    abort(); /* never resumed */
}

static void fibre_main()
{
    Thread &thread = self();
    Block &block = *thread.block;
    block.launch->kernel->entry(block.launch->args.data());
    if (++block.done == block.threads.size())
        end_sm90(block);
    leave(State::done);
    abort();
}

/* ---- Meetings ---- */

void block_barrier()
{
    Block &block = *self().block;
    if (++block.at_barrier < block.threads.size()) {
        leave(State::at_barrier);
        return;
    }
    block.at_barrier = 0;
    block.shared.order.meet_all();
    for (Thread &thread : block.threads)
        thread.state = State::ready;
}

void warp_together(const Collective &collective, void *slot)
{
    Thread &thread = self();
    Warp &warp = *thread.warp;
    if (warp.arrived && warp.collective != &collective)
        fault("calls %s, while other lanes of its warp wait in %s", collective.name,
              warp.collective->name);
    warp.collective = &collective;
    warp.slots[thread.lane] = slot;
    warp.arrived |= 1u << thread.lane;
    if (warp.arrived != warp.lanes) {
        leave(State::at_warp);
        return;
    }
    warp.arrived = 0;
    collective.perform(warp, warp.slots);
    Thread *first = &thread - thread.lane;
    for (uint32_t lane = 0; lane < WARP_SIZE; lane++)
        if (warp.lanes >> lane & 1)
            first[lane].state = State::ready;
    if (worker->warps_stay)
        worker->turn = warp.first_turn;
}

void warp_barrier()
{
    static const Collective meet = {"warp_barrier", [](Warp &warp, void *const *) {
                                        warp.block->shared.order.meet_warp(warp.id);
                                    }};
    warp_together(meet, nullptr);
}

/* ---- Device memory ---- */

void check_global(uint64_t address, size_t size, size_t alignment)
{
    Worker &w = *worker;
    for (const Allocation &a : w.recent)
        if (address - a.address < a.size && a.size - (address - a.address) >= size &&
            address % alignment == 0)
            return;
    if (address % alignment)
        fault("device memory: address %#llx is no multiple of %zu", (unsigned long long)address,
              alignment);
    Allocation found;
    if (!memory_find(address, size, &found))
        fault("device memory: %zu bytes at %#llx: %s", size, (unsigned long long)address,
              memory_describe(address, size).c_str());
    w.recent[w.oldest++ % 4] = found;
}

/* ---- Blocks ---- */

static void set_up(Block &block, const Launch &launch, uint64_t number)
{
    uint32_t count = launch.block[0] * launch.block[1] * launch.block[2];
    uint32_t warps = (count + WARP_SIZE - 1) / WARP_SIZE;
    block.launch = &launch;
    block.id[0] = static_cast<uint32_t>(number % launch.grid[0]);
    block.id[1] = static_cast<uint32_t>(number / launch.grid[0] % launch.grid[1]);
    block.id[2] = static_cast<uint32_t>(number / launch.grid[0] / launch.grid[1]);
    block.at_barrier = block.done = 0;
    block.fault.clear();
    block.shared.reset(count, launch.shared);
    block.threads.resize(count);
    block.warps.assign(warps, Warp{});
    for (uint32_t i = 0; i < count; i++) {
        Warp &warp = block.warps[i / WARP_SIZE];
        warp.block = &block;
        warp.id = i / WARP_SIZE;
        warp.lanes |= 1u << i % WARP_SIZE;
        Thread &thread = block.threads[i];
        thread.block = &block;
        thread.warp = &warp;
        thread.id = i;
        thread.lane = i % WARP_SIZE;
        thread.state = State::ready;
        thread.stack_pointer = worker->stacks.start(i, fibre_main);
        thread.copies.groups.clear();
        thread.stores = {};
        thread.run = nullptr;
    }
    start_sm90(block);
    worker->random = number * 2 + 1;
}

static std::string describe(const Thread &thread)
{
    switch (thread.state) {
    case State::done:
        return "has ended";
    case State::at_barrier:
        return "waits in block_barrier";
    case State::at_warp:
        return std::string("waits in ") + thread.warp->collective->name;
    case State::at_group:
    case State::at_phase:
    case State::at_named:
        return describe_sm90(thread);
    default:
        return "can go on";
    }
}

/* Nobody can go on. Say who waits where: one thread for each place, a few places. */
static void report_divergence(Block &block)
{
    std::vector<std::string> places;
    std::string text;
    for (const Thread &thread : block.threads) {
        std::string place = describe(thread);
        if (std::find(places.begin(), places.end(), place) != places.end() || places.size() == 6)
            continue;
        places.push_back(place);
        text += (text.empty() ? "thread " : ", thread ") + std::to_string(thread.id) + " " + place;
    }
    char where[160];
    std::snprintf(where, sizeof where,
                  "%s, block (%u, %u, %u): not all threads come to where "
                  "others wait: ",
                  block.launch->kernel->name, block.id[0], block.id[1], block.id[2]);
    block.fault = where + text;
}

/* A copy of a tile arrives, now that nobody can go on or by chance. False: none is under way. */
static bool arrive_late(Block &block, bool by_chance)
{
    worker->random = worker->random * 6364136223846793005u + 1442695040888963407u;
    uint64_t random = worker->random >> 33;
    if (block.sm90.loads.empty() || (by_chance && random % 4))
        return false;
    size_t which = random / 4 % block.sm90.loads.size();
    worker->units_work = true;
    running_thread = &block.threads[block.sm90.loads[which].thread];
    try {
        load_arrives(block, which);
    } catch (const UnitFault &) {
    }
    worker->units_work = false;
    return true;
}

/* Who comes first changes with the number of the block. */
static void arrange_turns(Block &block, uint64_t number)
{
    size_t count = block.threads.size(), warps = block.warps.size();
    worker->turns.clear();
    worker->warps_stay = number % 4 != 0;
    for (size_t n = 0; n < warps * WARP_SIZE; n++) {
        size_t lane = n % WARP_SIZE, warp = (n / WARP_SIZE + number) % warps;
        if (number & 1)
            lane = WARP_SIZE - 1 - lane;
        if (n % WARP_SIZE == 0)
            block.warps[warp].first_turn = worker->turns.size();
        if (warp * WARP_SIZE + lane < count)
            worker->turns.push_back(&block.threads[warp * WARP_SIZE + lane]);
    }
}

/* One turn of each thread that can go on. False: none could. */
static bool sweep()
{
    worker->turn = 0;
    void *first = next_turn(*worker);
    if (first == worker->scheduler)
        return false;
    fibre_switch(&worker->scheduler, first);
    return true;
}

static void run_block(const Launch &launch, uint64_t number)
{
    Block &block = worker->block;
    set_up(block, launch, number);
    arrange_turns(block, number);
    while (block.fault.empty() && block.done < block.threads.size()) {
        bool any = sweep();
        if (!block.fault.empty() || block.done == block.threads.size())
            break;
        if (!arrive_late(block, any) && !any)
            report_divergence(block);
    }
}

/* ---- Launch ---- */

/* Workers that no launch uses: their stacks are dear. */
struct Idle {
    std::mutex mutex;
    std::vector<std::unique_ptr<Worker>> workers;
};

static Idle &idle()
{
    static Idle it;
    return it;
}

static std::unique_ptr<Worker> take_worker()
{
    std::lock_guard<std::mutex> lock(idle().mutex);
    if (idle().workers.empty())
        return std::unique_ptr<Worker>(new Worker);
    std::unique_ptr<Worker> taken = std::move(idle().workers.back());
    idle().workers.pop_back();
    for (Allocation &allocation : taken->recent)
        allocation = {};
    return taken;
}

static void put_back(std::unique_ptr<Worker> taken)
{
    std::lock_guard<std::mutex> lock(idle().mutex);
    idle().workers.push_back(std::move(taken));
}

bool execute(const Launch &launch, std::string *report)
{
    uint64_t blocks = static_cast<uint64_t>(launch.grid[0]) * launch.grid[1] * launch.grid[2];
    std::atomic<uint64_t> next{0};
    std::atomic<bool> failed{false};
    std::mutex mutex;
    auto work = [&] {
        std::unique_ptr<Worker> mine = take_worker();
        worker = mine.get();
        for (uint64_t number; !failed && (number = next++) < blocks;) {
            run_block(launch, number);
            if (mine->block.fault.empty())
                continue;
            std::lock_guard<std::mutex> lock(mutex);
            if (!failed.exchange(true))
                *report = mine->block.fault;
        }
        worker = nullptr;
        put_back(std::move(mine));
    };
    unsigned processors = std::thread::hardware_concurrency();
    std::vector<std::thread> helpers;
    for (uint64_t i = 1; i < processors && i < blocks && i < 16; i++)
        helpers.emplace_back(work);
    work();
    for (std::thread &helper : helpers)
        helper.join();
    return !failed;
}

} // namespace simulator
