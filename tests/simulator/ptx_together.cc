/* SPDX-License-Identifier: MIT
 *
 * Instructions of PTX that threads execute together, or that order what they do; products of warps.
 * Those of warp groups: ptx_products.cc. */
#include "ptx_run.h"
#include "ptx_products.h"

namespace simulator
{
namespace ptx
{

static constexpr uint32_t ALL_LANES = 0xffffffff;

/* ---- Barriers ---- */

/* Barrier 0, for all threads, is the only one that comes without a count. */
static void sync_block(Run &run, const int32_t *)
{
    meet_aligned(run);
    block_barrier();
}

static void sync_named(Run &run, const int32_t *o)
{
    meet_aligned(run);
    named_barrier(get<uint32_t>(run, o[0]), get<uint32_t>(run, o[1]), true);
}

/* Lanes go on one by one: they meet before. */
static void arrive_named(Run &run, const int32_t *o)
{
    static const Collective arrive = {"bar.arrive", [](Warp &, void *const *) {}};
    meet_aligned(run);
    warp_together(arrive, nullptr);
    named_barrier(get<uint32_t>(run, o[0]), get<uint32_t>(run, o[1]), false);
}

static void check_mask(const Run &run, int32_t place)
{
    uint32_t mask = get<uint32_t>(run, place);
    if (mask != ALL_LANES)
        fault("a member mask of %#x, where all lanes are simulated", mask);
}

static void sync_warp(Run &run, const int32_t *o)
{
    check_mask(run, o[0]);
    warp_barrier();
}

static void init_barrier(Run &run, const int32_t *o)
{
    barrier_init(get<uint32_t>(run, o[0]) + static_cast<uint32_t>(o[1]), get<uint32_t>(run, o[2]));
}

static void show_barriers(Run &, const int32_t *)
{
    barriers_ready();
}

static void arrive(Run &run, const int32_t *o)
{
    barrier_arrive(get<uint32_t>(run, o[0]) + static_cast<uint32_t>(o[1]), 0);
}

static void arrive_expecting(Run &run, const int32_t *o)
{
    barrier_arrive(get<uint32_t>(run, o[0]) + static_cast<uint32_t>(o[1]),
                   get<uint32_t>(run, o[2]));
}

/* It may give up before the phase is over, and does so now and then. */
static void try_wait(Run &run, const int32_t *o)
{
    constexpr uint32_t OFTEN = 3;
    bool waits = ++run.waits % OFTEN != 0;
    if (waits)
        barrier_wait(get<uint32_t>(run, o[1]) + static_cast<uint32_t>(o[2]),
                     get<uint32_t>(run, o[3]));
    put<bool>(run, o[0], waits);
}

static void fence_proxies(Run &, const int32_t *)
{
    fence_async();
}

template <bool more> static void change_registers(Run &run, const int32_t *o)
{
    meet_aligned(run);
    set_registers(static_cast<uint32_t>(o[0]), more);
}

/* ---- Votes, shuffles ---- */

struct Vote {
    bool said;
    uint32_t result;
};

static void perform_ballot(Warp &warp, void *const *slots)
{
    uint32_t result = 0;
    for (uint32_t lane = 0; lane < WARP_SIZE; lane++)
        if (warp.lanes >> lane & 1 && static_cast<const Vote *>(slots[lane])->said)
            result |= 1u << lane;
    for (uint32_t lane = 0; lane < WARP_SIZE; lane++)
        if (warp.lanes >> lane & 1)
            static_cast<Vote *>(slots[lane])->result = result;
}

static void ballot(Run &run, const int32_t *o)
{
    static const Collective together = {"vote.sync.ballot", perform_ballot};
    check_mask(run, o[2]);
    Vote vote = {get<bool>(run, o[1]), 0};
    warp_together(together, &vote);
    put<uint32_t>(run, o[0], vote.result);
}

struct Shuffle {
    uint32_t given, taken, from;
};

static void perform_shuffle(Warp &warp, void *const *slots)
{
    for (uint32_t lane = 0; lane < WARP_SIZE; lane++) {
        if (!(warp.lanes >> lane & 1))
            continue;
        Shuffle &s = *static_cast<Shuffle *>(slots[lane]);
        if (!(warp.lanes >> s.from & 1))
            fault("shfl.sync from lane %u, which is not there", s.from);
        s.taken = static_cast<const Shuffle *>(slots[s.from])->given;
    }
}

/* c: the last lane that may be read, and from bit 8 on a mask of the bits of the lane that say
 * which part of the warp it is in. */
template <bool exclusive_or> static void shuffle(Run &run, const int32_t *o)
{
    static const Collective together = {exclusive_or ? "shfl.sync.bfly" : "shfl.sync.idx",
                                        perform_shuffle};
    uint32_t lane = run.thread->lane, b = get<uint32_t>(run, o[3]) % WARP_SIZE;
    uint32_t c = get<uint32_t>(run, o[4]) % WARP_SIZE;
    uint32_t parts = get<uint32_t>(run, o[4]) >> 8 & (WARP_SIZE - 1);
    uint32_t last = (lane & parts) | (c & ~parts);
    uint32_t from = exclusive_or ? lane ^ b : (lane & parts) | (b & ~parts);
    check_mask(run, o[5]);
    Shuffle s = {get<uint32_t>(run, o[2]), 0, from <= last ? from : lane};
    warp_together(together, &s);
    put<uint32_t>(run, o[0], s.taken);
    put<bool>(run, o[1], from <= last);
}

/* ---- Matrices ---- */

template <bool transposed> static void load_four(Run &run, const int32_t *o)
{
    uint32_t x[4];
    meet_aligned(run);
    load_matrices(x, get<uint32_t>(run, o[4]) + static_cast<uint32_t>(o[5]), transposed);
    for (int i = 0; i < 4; i++)
        put<uint32_t>(run, o[i], x[i]);
}

template <bool bf16> static void multiply(Run &run, const int32_t *o)
{
    uint32_t a[4], b[2];
    float c[4];
    for (int i = 0; i < 4; i++)
        a[i] = get<uint32_t>(run, o[4 + i]);
    for (int i = 0; i < 2; i++)
        b[i] = get<uint32_t>(run, o[8 + i]);
    for (int i = 0; i < 4; i++)
        c[i] = get<float>(run, o[10 + i]);
    meet_aligned(run);
    multiply_add({c, 0, a, 1, b, 1}, bf16);
    for (int i = 0; i < 4; i++)
        put<float>(run, o[i], c[i]);
}

/* ---- Jumps ---- */

static void jump(Run &run, const int32_t *o)
{
    run.next = run.program->code.data() + o[0];
}

static void end(Run &run, const int32_t *)
{
    run.next = nullptr;
}

static std::vector<Opcode> all_opcodes()
{
    std::vector<Opcode> all = {
        {"bra", "T", jump},
        {"bra.uni", "T", jump},
        {"ret", "", end},
        {"bar.sync", "0", sync_block},
        {"bar.sync", "uu", sync_named},
        {"bar.arrive", "uu", arrive_named},
        {"bar.warp.sync", "u", sync_warp},
        {"mbarrier.init.shared::cta.b64", "[s]u", init_barrier},
        {"fence.mbarrier_init.release.cluster", "", show_barriers},
        {"mbarrier.arrive.shared::cta.b64", "_[s]", arrive},
        {"mbarrier.arrive.expect_tx.shared::cta.b64", "_[s]u", arrive_expecting},
        {"mbarrier.try_wait.parity.shared::cta.b64", "P[s]u", try_wait},
        {"fence.proxy.async.shared::cta", "", fence_proxies},
        {"setmaxnreg.inc.sync.aligned.u32", "n", change_registers<true>},
        {"setmaxnreg.dec.sync.aligned.u32", "n", change_registers<false>},
        {"vote.sync.ballot.b32", "Dpu", ballot},
        {"shfl.sync.bfly.b32", "D|Pduuu", shuffle<true>},
        {"shfl.sync.idx.b32", "D|Pduuu", shuffle<false>},
        {"ldmatrix.sync.aligned.m8n8.x4.shared.b16", "{DDDD}[s]", load_four<false>},
        {"ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16", "{DDDD}[s]", load_four<true>},
        {"mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32", "{FFFF}{uuuu}{uu}{ffff}",
         multiply<false>},
        {"mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32", "{FFFF}{uuuu}{uu}{ffff}",
         multiply<true>},
    };
    add_group_opcodes(all);
    return all;
}

const std::vector<Opcode> &together_opcodes()
{
    static const std::vector<Opcode> all = all_opcodes();
    return all;
}

} // namespace ptx
} // namespace simulator
