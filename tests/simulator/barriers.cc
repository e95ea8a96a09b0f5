/* SPDX-License-Identifier: MIT
 *
 * Barriers of sm_90: in shared memory, with phases, and named ones of some warps. And what warp
 * groups do together besides products. PTX ISA, "mbarrier", "barrier", "setmaxnreg",
 * https://docs.nvidia.com/cuda/parallel-thread-execution/ */
#include "sm90.h"

#include <algorithm>

#include "execute.h"

namespace simulator
{

static constexpr uint32_t MOST_PENDING = (1u << 20) - 1; /* arrivals or bytes of a phase */

/* ---- In memory ---- */

MemoryBarrier &find_barrier(uint32_t address)
{
    for (MemoryBarrier &barrier : self().block->sm90.barriers) {
        if (barrier.address != address)
            continue;
        if (!barrier.ready)
            fault("the barrier at byte %u is used before barriers_ready", address);
        self().block->shared.use_barrier(address);
        return barrier;
    }
    fault("shared memory: no barrier at byte %u", address);
}

void barrier_init(uint32_t address, uint32_t count)
{
    Thread &thread = self();
    std::vector<MemoryBarrier> &barriers = thread.block->sm90.barriers;
    if (count < 1 || count > MOST_PENDING)
        fault("a barrier for %u arrivals", count);
    if (barriers.size() == MAX_BARRIERS)
        fault("the simulator has no more than %u barriers in a block", MAX_BARRIERS);
    thread.block->shared.make_barrier(address);
    uint32_t number = static_cast<uint32_t>(barriers.size());
    barriers.push_back({address, number, count, thread.id, false, count, 0, 0, {}, {}});
}

void barriers_ready()
{
    for (MemoryBarrier &barrier : self().block->sm90.barriers)
        if (barrier.maker == self().id)
            barrier.ready = true;
}

static Knowledge conclude(const Block &block, const Arrivals &arrivals)
{
    uint32_t lanes[MAX_WARPS] = {};
    for (const Warp &warp : block.warps)
        lanes[warp.id] = warp.lanes;
    return arrivals.conclude(lanes);
}

/* Is the phase over? */
static void advance(Block &block, MemoryBarrier &barrier)
{
    if (barrier.pending)
        return;
    if (barrier.bytes < 0)
        fault("the barrier at byte %u: %lld more bytes came than were announced", barrier.address,
              static_cast<long long>(-barrier.bytes));
    if (barrier.bytes)
        return;
    barrier.phase++;
    barrier.pending = barrier.count;
    barrier.told = conclude(block, barrier.arrivals);
    barrier.told.times[MAX_WARPS + barrier.number] = barrier.phase;
    barrier.arrivals.reset();
    for (Thread &thread : block.threads)
        if (thread.state == State::at_phase && thread.phase_of == &barrier)
            thread.state = State::ready;
}

void barrier_arrive(uint32_t address, uint32_t bytes)
{
    Thread &thread = self();
    MemoryBarrier &barrier = find_barrier(address);
    if (!barrier.pending)
        fault("the barrier at byte %u: more arrivals than its %u, before the phase is over",
              address, barrier.count);
    barrier.bytes += bytes;
    if (barrier.bytes > MOST_PENDING)
        fault("the barrier at byte %u: %lld bytes are announced, %u can be counted", address,
              static_cast<long long>(barrier.bytes), MOST_PENDING);
    thread.block->shared.order.arrive(thread.id, barrier.arrivals);
    barrier.pending--;
    advance(*thread.block, barrier);
}

void barrier_complete(Block &block, MemoryBarrier &barrier, uint32_t phase, uint32_t bytes)
{
    if (phase != barrier.phase)
        fault("the barrier at byte %u: a copy of %u bytes comes when its phase is over: they were "
              "not announced",
              barrier.address, bytes);
    barrier.bytes -= bytes;
    advance(block, barrier);
}

void barrier_wait(uint32_t address, uint32_t parity)
{
    Thread &thread = self();
    MemoryBarrier &barrier = find_barrier(address);
    if (parity > 1)
        fault("the barrier at byte %u: a parity of %u", address, parity);
    while (barrier.phase % 2 == parity) {
        thread.phase_of = &barrier;
        thread.waits_for = parity;
        leave(State::at_phase);
    }
    thread.block->shared.order.learn(thread.id, barrier.told);
}

void fence_async()
{
    self().block->shared.fence_units();
}

/* ---- Named ---- */

static void check_named(const NamedBarrier &barrier, uint32_t id, uint32_t threads)
{
    const Thread &thread = self();
    if (id < 1 || id > 15)
        fault("named barrier %u", id);
    if (threads == 0 || threads % WARP_SIZE || threads > thread.block->threads.size())
        fault("named barrier %u for %u threads", id, threads);
    if (barrier.arrived && barrier.threads != threads)
        fault("named barrier %u for %u threads, where others come with %u", id, threads,
              barrier.threads);
    if (barrier.arrived && barrier.arrivals.has(thread.id))
        fault("named barrier %u: the thread comes a second time before all have come", id);
}

void named_barrier(uint32_t id, uint32_t threads, bool wait)
{
    Thread &thread = self();
    Block &block = *thread.block;
    NamedBarrier &barrier = block.sm90.named[id % 16];
    check_named(barrier, id, threads);
    barrier.threads = threads;
    block.shared.order.arrive(thread.id, barrier.arrivals);
    if (wait)
        barrier.waiting.push_back(&thread);
    if (++barrier.arrived < threads) {
        thread.waits_for = id;
        if (wait)
            leave(State::at_named);
        return;
    }
    for (const Warp &warp : block.warps)
        for (uint32_t lane = 0; lane < WARP_SIZE; lane++)
            if (warp.lanes >> lane & 1 && barrier.arrivals.has(warp.id * WARP_SIZE + lane) !=
                                              barrier.arrivals.has(warp.id * WARP_SIZE))
                fault("named barrier %u: not all lanes of warp %u come", id, warp.id);
    Knowledge told = conclude(block, barrier.arrivals);
    for (Thread *waiting : barrier.waiting) {
        block.shared.order.learn(waiting->id, told);
        waiting->state = State::ready;
    }
    barrier = NamedBarrier();
}

/* ---- Warp groups ---- */

void group_together(const GroupCollective &collective, void *slot)
{
    Thread &thread = self();
    Block &block = *thread.block;
    if (thread.id / GROUP_SIZE >= block.sm90.groups.size())
        fault("calls %s, but is in no warp group of %u threads", collective.name, GROUP_SIZE);
    WarpGroup &group = block.sm90.groups[thread.id / GROUP_SIZE];
    if (group.arrived && group.collective != &collective)
        fault("calls %s, while others of its warp group wait in %s", collective.name,
              group.collective->name);
    group.collective = &collective;
    group.slots[thread.id % GROUP_SIZE] = slot;
    if (++group.arrived < GROUP_SIZE) {
        leave(State::at_group);
        return;
    }
    group.arrived = 0;
    collective.perform(block, group);
    for (uint32_t i = 0; i < GROUP_SIZE; i++)
        block.threads[group.number * GROUP_SIZE + i].state = State::ready;
}

/* What a kernel gets for each thread: all there are, as launch bounds of the block's size say. */
static uint32_t registers_at_start(const Block &block)
{
    constexpr uint32_t ALL = 65536, MOST = 255;
    return std::min(MOST, ALL / static_cast<uint32_t>(block.threads.size()) / 8 * 8);
}

static void check_registers(const Block &block)
{
    size_t sum = 0, all = registers_at_start(block) * block.threads.size();
    for (const WarpGroup &group : block.sm90.groups)
        sum += group.registers * GROUP_SIZE;
    if (sum > all && !block.sm90.groups.empty())
        fault("the warp groups take %zu registers, the block has %zu", sum, all);
}

static void perform_registers(Block &, WarpGroup &group, bool more)
{
    uint32_t count = *static_cast<const uint32_t *>(group.slots[0]);
    for (void *slot : group.slots)
        if (*static_cast<const uint32_t *>(slot) != count)
            fault("the threads of a warp group disagree on their registers");
    if (count % 8 || count < 24 || count > 256)
        fault("%u registers: a multiple of 8 from 24 to 256 is wanted", count);
    if (more ? count < group.registers : count > group.registers)
        fault("%s registers: %u, and had %u", more ? "takes" : "gives", count, group.registers);
    group.registers = count;
}

void set_registers(uint32_t count, bool more)
{
    static const GroupCollective take = {
        "take_registers", [](Block &b, WarpGroup &g) { perform_registers(b, g, true); }};
    static const GroupCollective give = {
        "give_registers", [](Block &b, WarpGroup &g) { perform_registers(b, g, false); }};
    group_together(more ? take : give, &count);
}

/* ---- Blocks ---- */

void start_sm90(Block &block)
{
    Sm90 &state = block.sm90;
    state.barriers.clear();
    state.barriers.reserve(MAX_BARRIERS);
    for (NamedBarrier &barrier : state.named)
        if (barrier.arrived)
            barrier = NamedBarrier();
    state.loads.clear();
    state.groups.clear();
    state.groups.resize(block.threads.size() / GROUP_SIZE);
    for (uint32_t i = 0; i < state.groups.size(); i++) {
        state.groups[i].number = i;
        state.groups[i].registers = registers_at_start(block);
    }
}

void end_sm90(Block &block)
{
    Sm90 &state = block.sm90;
    if (!state.loads.empty())
        fault("the block ends while a copy of a tile to byte %u is under way", state.loads[0].to);
    for (const MemoryBarrier &barrier : state.barriers)
        if (barrier.bytes)
            fault("the block ends, and %lld bytes announced to the barrier at byte %u have not "
                  "come",
                  static_cast<long long>(barrier.bytes), barrier.address);
    for (uint32_t id = 0; id < 16; id++)
        if (state.named[id].arrived)
            fault("the block ends, and %u of %u threads have come to named barrier %u",
                  state.named[id].arrived, state.named[id].threads, id);
    for (const WarpGroup &group : state.groups)
        if (!group.open.empty() || !group.committed.empty())
            fault("the block ends, and products of warp group %u were not waited for",
                  group.number);
    check_registers(block);
    end_stores(block);
}

std::string describe_sm90(const Thread &thread)
{
    if (thread.state == State::at_group)
        return std::string("waits in ") +
               thread.block->sm90.groups[thread.id / GROUP_SIZE].collective->name;
    if (thread.state == State::at_named) {
        const NamedBarrier &barrier = thread.block->sm90.named[thread.waits_for];
        return "waits at named barrier " + std::to_string(thread.waits_for) + ", where " +
               std::to_string(barrier.arrived) + " of " + std::to_string(barrier.threads) +
               " threads are";
    }
    const MemoryBarrier &barrier = *thread.phase_of;
    return "waits in barrier_wait for parity " + std::to_string(thread.waits_for) +
           " of the barrier at byte " + std::to_string(barrier.address) + ", of which " +
           std::to_string(barrier.phase) + " phases are over, " + std::to_string(barrier.pending) +
           " arrivals and " + std::to_string(barrier.bytes) + " bytes have not come";
}

} // namespace simulator
