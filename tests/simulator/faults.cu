// SPDX-License-Identifier: MIT
//
// Kernels with planted faults: step 0 is right, each other step wrong in one way, except where it
// says otherwise. a.q, a.k: input, a.o: output, u32 for each thread unless it says otherwise.
#include <tile.cuh>

constexpr u32 THREADS = 128;

DEVICE void answer(const draft_args &a, u32 x)
{
    global<u32>(a.o)[block_id() * THREADS + thread_id()] = x;
}

// ---- Copies under way ---------------------------------------------------------------------------

// 1: no wait. 2: waited for by the thread that copies, but no barrier. 3: waits for too few groups.
// 4: writes to where a copy is under way. 5: never committed.
KERNEL(fault_copy, THREADS, 1)
{
    SHARED_ARRAY(Unit, tile, THREADS);
    u32 t = thread_id();
    copy_async(shared_address(tile) + t * 16, global<const Unit>(a.q) + t, true);
    if (a.step != 5)
        copy_commit();
    if (a.step == 4)
        store_shared(shared_address(tile) + t * 16, 1);
    if (a.step == 3)
        copy_wait<1>();
    else if (a.step != 1)
        copy_wait<0>();
    if (a.step != 2)
        block_barrier();
    Unit x = tile[(t + WARP) % THREADS];
    answer(a, x.v[0] + x.v[3]);
}

// Where `inside` is false zeros arrive, whatever was there. Even threads copy. No fault.
KERNEL(fault_zero_fill, THREADS, 1)
{
    SHARED_ARRAY(Unit, tile, THREADS);
    u32 t = thread_id();
    tile[t] = {1, 2, 3, 4};
    copy_async(shared_address(tile) + t * 16, global<const Unit>(a.q) + t, t % 2 == 0);
    copy_commit();
    copy_wait<0>();
    Unit x = tile[t];
    answer(a, x.v[0] + x.v[1] + x.v[2] + x.v[3]);
}

// Two groups, the later one still under way while the first is read. 1: reads the later one.
KERNEL(fault_copy_groups, THREADS, 1)
{
    SHARED_ARRAY(Unit, tile, 2 * THREADS);
    u32 t = thread_id();
    UNROLL for (u32 i = 0; i < 2; i++)
    {
        u32 to = i * THREADS + t;
        copy_async(shared_address(tile) + to * 16, global<const Unit>(a.q) + to, true);
        copy_commit();
    }
    copy_wait<1>();
    Unit x = tile[(a.step == 1 ? THREADS : 0) + t];
    copy_wait<0>();
    answer(a, x.v[0]);
}

// ---- Races on shared memory ---------------------------------------------------------------------

// 1: reads what another warp wrote without a barrier. 2: a warp_barrier is not enough for it.
// 3: overwrites what another warp may still read.
KERNEL(fault_read, THREADS, 1)
{
    SHARED_ARRAY(u32, words, THREADS);
    u32 t = thread_id();
    words[t] = t;
    if (a.step == 2)
        warp_barrier();
    else if (a.step != 1)
        block_barrier();
    u32 x = words[(t + WARP) % THREADS];
    if (a.step != 3)
        block_barrier();
    words[t] = x + 1;
    answer(a, words[t]);
}

// The same between lanes of a warp. 1: no barrier. 3: overwrites what another lane may still read.
KERNEL(fault_read_lane, THREADS, 1)
{
    SHARED_ARRAY(u32, words, THREADS);
    u32 t = thread_id();
    words[t] = t;
    if (a.step != 1)
        warp_barrier();
    u32 x = words[t ^ 1];
    if (a.step != 3)
        warp_barrier();
    words[t] = x + 1;
    answer(a, words[t]);
}

// 1: threads of all warps write to one word. 2: two lanes of a warp do.
KERNEL(fault_write, THREADS, 1)
{
    SHARED_ARRAY(u32, words, THREADS);
    u32 t = thread_id(), to = a.step == 1 ? lane_id() : a.step == 2 ? t / 2 : t;
    words[to] = t;
    block_barrier();
    answer(a, words[to]);
}

// Lanes write rows of 16 bytes that load_matrices reads, each one that another wrote. 1: no
// barrier.
KERNEL(fault_read_matrices, WARP, 1)
{
    SHARED_ARRAY(Unit, rows, WARP);
    u32 t = thread_id(), x[4];
    rows[t] = {t, t, t, t};
    if (a.step != 1)
        warp_barrier();
    load_matrices(x, shared_address(rows) + (t ^ 1) * 16);
    answer(a, x[0] + x[3]);
}

// 1: an atomic addition, and a plain read without a barrier.
KERNEL(fault_atomic, THREADS, 1)
{
    SHARED_ARRAY(u32, sum, 1);
    if (thread_id() == 0)
        sum[0] = 0;
    block_barrier();
    atomic_add(sum, 1);
    if (a.step != 1)
        block_barrier();
    answer(a, sum[0]);
}

// 1: reads what nobody wrote.
KERNEL(fault_unwritten, THREADS, 1)
{
    SHARED_ARRAY(u32, words, THREADS);
    u32 t = thread_id();
    if (a.step != 1 || t != 77)
        words[t] = t;
    answer(a, words[t]);
}

// ---- Addresses ----------------------------------------------------------------------------------

// Reads THREADS words of a.q. 1: one further. 2: one before. 3: far away. 4: writes one further.
KERNEL(fault_range, THREADS, 1)
{
    Global<u32> words = global<u32>(a.q);
    u32 t = thread_id();
    if (a.step == 1)
        words += 1;
    if (a.step == 2)
        words += -1;
    if (a.step == 3)
        words += (int64_t)1 << 40;
    if (a.step == 4)
        words[t + 1] = t;
    answer(a, words[t]);
}

// Units of a.q. 1: from the middle of one. 2: a copy from there. 3: a copy to the middle of one.
KERNEL(fault_aligned, THREADS, 1)
{
    SHARED_ARRAY(Unit, tile, THREADS + 1);
    u32 t = thread_id(), to = shared_address(tile) + t * 16;
    u32 sum = global<const Unit>(a.q + (a.step == 1 ? 4 : 0))[t].v[0];
    copy_async(to + (a.step == 3 ? 4 : 0), global<const Unit>(a.q + (a.step == 2 ? 8 : 0)) + t,
               true);
    copy_commit();
    copy_wait<0>();
    Unit x = tile[t];
    answer(a, sum + x.v[1]);
}

// 1: an index behind an array, where another one lies. 2: an address behind all that was declared.
// 3: an index below 0. 4: a misaligned address.
KERNEL(fault_shared_range, THREADS, 1)
{
    SHARED_ARRAY(u32, words, THREADS);
    SHARED_ARRAY(u32, more, THREADS);
    u32 t = thread_id(), base = shared_address(words);
    words[t] = t;
    more[t] = 1;
    block_barrier();
    if (a.step == 3)
        answer(a, words[(int)t - 1]);
    else if (a.step == 1)
        answer(a, words[t + 1]);
    else
        answer(a, more[t] + load_shared(base + t * 4 + (a.step == 2 ? 4096 : a.step == 4 ? 2 : 0)));
}

// Dynamic shared memory, of which the launch gives THREADS words. 1: one more.
KERNEL(fault_dynamic, THREADS, 1)
{
    Shared<u32> words = dynamic_shared<u32>();
    u32 t = thread_id(), to = t + (a.step == 1 ? 1 : 0);
    words[to] = t;
    block_barrier();
    answer(a, words[to]);
}

// ---- Meetings -----------------------------------------------------------------------------------

// 1: half of the threads pass the barrier by and end. 2: they wait at a barrier of the warp that
// others do not come to.
KERNEL(fault_barrier, THREADS, 1)
{
    u32 t = thread_id();
    if (a.step == 2 && t % 2)
        warp_barrier();
    else if (a.step != 1 || t < THREADS / 2)
        block_barrier();
    answer(a, t);
}

// 1: half of the lanes pass it by. 2: they call another function.
KERNEL(fault_warp, THREADS, 1)
{
    u32 x = thread_id();
    if (a.step == 0 || lane_id() < WARP / 2)
        x = warp_ballot(lane_id() % 2 == 0);
    else if (a.step == 2)
        x = warp_shuffle(x, 0);
    answer(a, x);
}

// ---- What is right ------------------------------------------------------------------------------

KERNEL(fault_shuffle, THREADS, 1)
{
    u32 t = thread_id();
    answer(a, warp_shuffle(t, 5) * 1000 + warp_shuffle_xor(t, 3) + warp_sum(1u) * 1000000);
}

// Counts the threads of all blocks in a.q[0]; each answers with the number it got.
KERNEL(fault_count, THREADS, 1)
{
    answer(a, atomic_add(global<u32>(a.q), 1));
}

// Adds 1 to a.q and answers with the sum.
KERNEL(fault_increment, THREADS, 1)
{
    u32 x = global<u32>(a.q)[thread_id()] + 1;
    global<u32>(a.q)[thread_id()] = x;
    answer(a, x);
}

// ---- Matrix product -----------------------------------------------------------------------------

// c = a b by one warp: a 16 x 32 (a.q), b 32 x 16 (a.k), 16-bit elements; c 16 x 16 of f32 (a.o).
// step 1: b comes transposed, 16 x 32, and no fault. Not noticed by the simulator, only wrong:
// 2: two registers of a are exchanged. 3: b is read as if it came transposed. 4: c is written with
// rows and columns exchanged.
constexpr u32 M = 16, N = 16, K = 32;

template <class T> DEVICE void product(const draft_args &args)
{
    SHARED_ARRAY(Unit, units, (M + N) * K / 8);
    u32 l = lane_id(), step = args.step, left = shared_address(units), right = left + M * K * 2;
    for (u32 i = l; i < M * K / 8; i += WARP) {
        units[i] = global<const Unit>(args.q)[i];
        units[M * K / 8 + i] = global<const Unit>(args.k)[i];
    }
    warp_barrier();
    f32 c[N / 8][4] = {};
    UNROLL for (u32 k = 0; k < K; k += 16)
    {
        u32 x[4], y[4];
        load_matrices(x, left + (l % 16 * K + k + l / 16 * 8) * 2);
        if (step == 1 || step == 3)
            load_matrices(y, right + ((l / 16 * 8 + l % 8) * K + k + l / 8 % 2 * 8) * 2);
        else
            load_matrices_transposed(y, right + ((k + l % 16) * N + l / 16 * 8) * 2);
        u32 swapped[4] = {x[0], x[2], x[1], x[3]};
        UNROLL for (u32 j = 0; j < N / 8; j++)
            multiply_add<T>(c[j], step == 2 ? swapped : x, y[2 * j], y[2 * j + 1]);
    }
    UNROLL for (u32 j = 0; j < N / 8; j++) UNROLL for (u32 e = 0; e < 4; e++)
    {
        u32 row = l / 4 + e / 2 * 8, column = j * 8 + l % 4 * 2 + e % 2;
        global<f32>(args.o)[step == 4 ? column * N + row : row * N + column] = c[j][e];
    }
}

KERNEL(fault_product_f16, WARP, 1)
{
    product<F16>(a);
}

KERNEL(fault_product_bf16, WARP, 1)
{
    product<BF16>(a);
}
