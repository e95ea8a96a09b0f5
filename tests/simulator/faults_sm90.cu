// SPDX-License-Identifier: MIT
//
// Kernels of sm_90 with planted faults, as faults.cu: what the steps are stands above each kernel,
// and in test_faults_sm90.cc which of them are right.
//
//   maps.q    rows of 64 elements, 128 bytes, in a.q; a box is 8 rows
//   maps.out  the same in a.o
#include <ptx_sm90.cuh>

#include "tile.cuh"

constexpr u32 THREADS = 128, ROW = 128, TILE_ROWS = 8, TILE = TILE_ROWS * ROW;

DEVICE void answer(const draft_args &a, u32 x)
{
    global<u32>(a.o)[block_id() * THREADS + thread_id()] = x;
}

// The first 1024 bytes of dynamic shared memory that are aligned for tiles.
DEVICE u32 first_tile()
{
    return (shared_address(dynamic_shared<Unit>()) + 1023) / 1024 * 1024;
}

// Word w of a row of a swizzled tile.
DEVICE u32 word_of(u32 tile, u32 row, u32 w)
{
    return tile + row * ROW + (w / 4 ^ row % 8) * 16 + w % 4 * 4;
}

// Each thread of THREADS its own word, one of two, so that together they see all rows.
DEVICE u32 own_word(u32 tile)
{
    u32 t = thread_id();
    return word_of(tile, t / 16, t % 16 * 2);
}

// ---- Tiles that come ----------------------------------------------------------------------------

// A tile comes over words that threads wrote.
//  1 nobody waits             2 waits for the other parity     3 one lane of each warp waits
//  4 too few bytes announced  5 too many                       6 none
//  7 no barrier was made      8 not made ready                 9 no block barrier after that
// 10 the tile is misaligned  11 outside of shared memory      12 no tensor map
// 13 a second arrival        14 no barrier after the writes   15 no fence after them
// 16 overwritten on its way  17 nobody reads or waits         18 a second copy to the same place
// 19 the barrier is read     20 announced after the copy: right
// 21 outside of the memory   22 a barrier that is misaligned
KERNEL_WITH_MAPS(fault_tile, THREADS, 1)
{
    SHARED_ARRAY(u64, barriers, 2);
    u32 t = thread_id(), s = a.step, tile = first_tile(), ready = shared_address<u64>(barriers);
    ready += s == 22 ? 4 : 0;
    if (t == 0 && s != 7) {
        barrier_init(ready, 1);
        if (s != 8)
            barriers_ready();
    }
    store_shared(own_word(tile), t);
    if (s != 15)
        fence_async();
    if (s != 9 && s != 14)
        block_barrier();
    if (s == 14) {
        warp_barrier();
        if (t != 0)
            return;
    }
    if (t == (s == 9 ? WARP : 0)) {
        const int at[5] = {0, s == 21 ? 8 : 0, 0, 0, 0};
        if (s == 6)
            barrier_arrive(ready);
        else if (s != 20)
            barrier_arrive_expect(ready, s == 4 ? TILE / 2 : s == 5 ? TILE * 2 : TILE);
        cuda_tensor_map none = {};
        u32 to = tile + (s == 10 ? 512 : s == 11 ? 1024 * 64 : 0);
        tensor_load(to, s == 12 ? none : maps.q, ready, at);
        if (s == 18)
            tensor_load(tile, maps.q, ready, at);
        if (s == 20)
            barrier_arrive_expect(ready, TILE);
    }
    if (s == 13 && t == 1)
        barrier_arrive(ready);
    if (s == 16 && t == 77)
        store_shared(own_word(tile), t);
    if (s == 19)
        answer(a, load_shared(ready));
    if (s == 17)
        return;
    if (s == 3 ? lane_id() == 0 : s != 1)
        barrier_wait(ready, s == 2 ? 1 : 0);
    answer(a, load_shared(own_word(tile)));
}

// A box of maps.q at a place (a.q_batch ...), row after row into a.o; 128 bytes a row, unswizzled.
KERNEL_WITH_MAPS(fault_box_load, THREADS, 1)
{
    SHARED_ARRAY(u64, barriers, 1);
    u32 t = thread_id(), tile = first_tile(), ready = shared_address<u64>(barriers);
    if (t == 0) {
        barrier_init(ready, 1);
        barriers_ready();
    }
    block_barrier();
    if (t == 0) {
        const int at[5] = {(int)a.q_batch, (int)a.q_token, (int)a.q_head, (int)a.k_batch,
                           (int)a.k_token};
        barrier_arrive_expect(ready, a.first * ROW);
        tensor_load(tile, maps.q, ready, at);
    }
    barrier_wait(ready, 0);
    for (u32 i = t; i < a.first * ROW / 4; i += THREADS)
        global<u32>(a.o)[i] = load_shared(word_of(tile, i / 32, i % 32));
}

// The other way: from a.q, all of it inside, to maps.out.
KERNEL_WITH_MAPS(fault_box_store, THREADS, 1)
{
    u32 t = thread_id(), tile = first_tile();
    for (u32 i = t; i < a.first * ROW / 4; i += THREADS)
        store_shared(word_of(tile, i / 32, i % 32), global<const u32>(a.q)[i]);
    fence_async();
    block_barrier();
    if (t == 0) {
        const int at[5] = {(int)a.q_batch, (int)a.q_token, (int)a.q_head, (int)a.k_batch,
                           (int)a.k_token};
        tensor_store(maps.out, tile, at);
        tensor_store_commit();
        tensor_store_wait_read();
    }
}

// ---- Tiles that go ------------------------------------------------------------------------------

// Threads write a tile, which is stored, and overwrite it.
// 1 no fence   2 not committed      3 nobody waits until it was read  4 no barrier before the store
// 5 not overwritten, nobody waits    6 another thread waits    7 fence after the barrier
// 8 thread 0 alone fences
KERNEL_WITH_MAPS(fault_store, THREADS, 1)
{
    u32 t = thread_id(), s = a.step, tile = first_tile();
    for (u32 i = t; i < TILE / 4; i += THREADS)
        store_shared(word_of(tile, i / 32, i % 32), i);
    if (s != 1 && s != 7 && (s != 8 || t == 0))
        fence_async();
    if (s != 4)
        block_barrier();
    if (s == 7)
        fence_async();
    if (t == 0) {
        const int at[5] = {0, 0, 0, 0, 0};
        tensor_store(maps.out, tile, at);
        if (s != 2)
            tensor_store_commit();
    }
    if (t == (s == 6 ? 1 : 0) && s != 3 && s != 5)
        tensor_store_wait_read();
    block_barrier();
    if (s != 2 && s != 5)
        store_shared(own_word(tile), 0);
}

// ---- Barriers -----------------------------------------------------------------------------------

// Warps read what thread 0 overwrites when all have said that they are done.
// 1 lanes say so without waiting for their warp   2 the barrier waits for one warp less
// 3 every lane says so: right                     4 the barrier waits for one more
// 5 the wrong parity                              6 thread 0 does not wait
// 7 two phases: right                             8 the second phase is not waited for
KERNEL_WITH_MAPS(fault_arrive, THREADS, 1)
{
    SHARED_ARRAY(u64, barriers, 1);
    SHARED_ARRAY(u32, words, THREADS);
    u32 t = thread_id(), s = a.step, done = shared_address<u64>(barriers), warps = THREADS / WARP;
    words[t] = t;
    if (t == 0) {
        barrier_init(done, s == 3 ? THREADS : s == 2 ? warps - 1 : s == 4 ? warps + 1 : warps);
        barriers_ready();
    }
    block_barrier();
    for (u32 phase = 0; phase < (s >= 7 ? 2 : 1); phase++) {
        answer(a, words[t]);
        if (s != 1 && s != 3)
            warp_barrier();
        if (s == 3 || lane_id() == 0)
            barrier_arrive(done);
        if (phase == 0 && s >= 7)
            barrier_wait(done, 0);
    }
    if (t != 0)
        return;
    if (s != 6)
        barrier_wait(done, s == 5 ? 1 : s == 7 ? 1 : 0);
    for (u32 i = 0; i < THREADS; i++) words[i] = 0;
}

// Half of the warps write, all read after a named barrier.
// 1 others count differently     2 more are counted than come   3 writers arrive twice
// 4 barrier 0                    5 writers only arrive: right   6 and write after that
// 7 half of the lanes            8 no multiple of a warp        9 readers only arrive
KERNEL_WITH_MAPS(fault_named, THREADS, 1)
{
    SHARED_ARRAY(u32, words, THREADS);
    u32 t = thread_id(), s = a.step, id = s == 4 ? 0 : 3;
    u32 count = s == 2 ? THREADS + WARP : s == 7 ? THREADS / 2 : s == 8 ? THREADS - 1 : THREADS;
    bool writes = t < THREADS / 2;
    if (writes && s != 6)
        words[t] = words[t + THREADS / 2] = t;
    if (s == 7 && lane_id() % 2)
        return;
    if (writes ? s == 3 || s == 5 || s == 6 : s == 9)
        group_arrive(id, count);
    else
        group_barrier(id, s == 1 && writes ? THREADS - WARP : count);
    if (writes && s == 3)
        group_barrier(id, count);
    if (writes && s == 6)
        words[t] = words[t + THREADS / 2] = t;
    if (!writes || s != 5)
        answer(a, words[t]);
    else
        answer(a, t);
}

// ---- Registers ----------------------------------------------------------------------------------

// 1 more than there are   2 the second group takes before it is given: right   3 gives more than
// it had   4 one warp does not   5 takes less than it had
KERNEL_WITH_MAPS(fault_registers, 384, 1)
{
    u32 group = thread_id() / WARP_GROUP, s = a.step;
    if (group == 0) {
        if (s == 3)
            give_registers<240>();
        else if (s != 4 || warp_id() != 0)
            give_registers<72>();
    } else if (s == 1)
        take_registers<224>();
    else if (s == 5)
        take_registers<72>();
    else
        take_registers<216>();
    if (thread_id() < THREADS)
        answer(a, thread_id());
}

// ---- Products -----------------------------------------------------------------------------------

constexpr u32 M = 64, N = 128, K = 64;

// The rows of maps.q from `first` on, to `to`.
DEVICE void bring(const cuda_tensor_map &map, u32 rows, u32 to, u32 barrier)
{
    barrier_arrive_expect(barrier, rows * ROW);
    for (u32 row = 0; row < rows; row += TILE_ROWS) {
        const int at[5] = {0, (int)row, 0, 0, 0};
        tensor_load(to + row * ROW, map, barrier, at);
    }
}

// c: what thread t has of a product of n columns.
template <u32 n> DEVICE void put(const draft_args &a, const f32 (&c)[n])
{
    u32 t = thread_id(), columns = 2 * n;
    for (u32 i = 0; i < n; i++) {
        u32 row = t / WARP * 16 + lane_id() / 4 + i / 2 % 2 * 8;
        global<f32>(a.o)[row * columns + i / 4 * 8 + lane_id() % 4 * 2 + i % 2] = c[i];
    }
}

// c = a b^T, a: 64 x 64 (maps.q), b: 128 x 64 (maps.k), 16 of the depth at a time.
// Faults: 1 no products_begin     2 a is overwritten before the wait     3 a tile comes into b then
//  4 not committed                5 not waited for at all                 6 no swizzle said
//  7 threads disagree             8 b is not waited for                   9 a warp does not
// 10 a is written by threads and not fenced
// Wrong: 20 read before the wait  21 stride of a: 512    22 a is kept, not fresh  23 8 of the depth
// further each time
template <class T>
DEVICE void rows(const draft_args &a, const cuda_tensor_maps &maps)
{
    SHARED_ARRAY(u64, barriers, 2);
    u32 t = thread_id(), s = a.step, left = first_tile(), right = left + M * ROW;
    u32 ready = shared_address<u64>(barriers);
    if (t == 0) {
        barrier_init(ready, 1);
        barrier_init(ready + 8, 1);
        barriers_ready();
    }
    block_barrier();
    if (t == 0) {
        bring(maps.q, M, left, ready);
        bring(maps.k, N, right, ready + 8);
    }
    barrier_wait(ready, 0);
    if (s != 8)
        barrier_wait(ready + 8, 0);
    if (s == 10) {
        store_shared(left + t * 4, load_shared(left + t * 4));
        block_barrier();
    }
    if (s == 9 && warp_id() == 3)
        return;
    f32 c[N / 2];
    for (u32 i = 0; i < N / 2; i++) c[i] = 1;
    if (s != 1)
        products_begin();
    for (u32 k = 0; k < K; k += 16) {
        u32 on = s == 23 ? k : 2 * k;
        u64 x = row_matrix(left + on);
        if (s == 6)
            x &= ~(3ull << 62);
        if (s == 21)
            x ^= (u64)(1024 >> 4 ^ 512 >> 4) << 32;
        if (s == 7 && t == 100)
            x = row_matrix(left);
        multiply_rows<T>(c, x, row_matrix(right + on), k == 0 && s != 22);
    }
    if (s != 4)
        products_commit();
    if (s == 2)
        store_shared(left + t * 4, 0);
    if (s == 3 && t == 0)
        bring(maps.k, N, right, ready + 8);
    if (s == 20)
        put(a, c);
    if (s != 5)
        products_wait<0>();
    if (s != 20)
        put(a, c);
}

KERNEL_WITH_MAPS(fault_rows_f16, WARP_GROUP, 1)
{
    rows<F16>(a, maps);
}

KERNEL_WITH_MAPS(fault_rows_bf16, WARP_GROUP, 1)
{
    rows<BF16>(a, maps);
}

// c = a b, a: 64 x 64 (a.q, into registers), b: 64 x n, in parts of 64 columns (maps.k, maps.v), as
// two groups of products.
// 1 the part is released when the first group alone is done: fault
// Wrong: 20 registers of a exchanged   21 the next part of b is sought 1024 bytes on (n 128)
// 22 the depth goes on by 8            23 a is overwritten before the wait
// 24 the first group is read and the second changes it: right
template <class T, u32 n> DEVICE void columns(const draft_args &a, const cuda_tensor_maps &maps)
{
    SHARED_ARRAY(u64, barriers, 1);
    constexpr u32 PART = K * ROW;
    u32 t = thread_id(), s = a.step, right = first_tile(), ready = shared_address<u64>(barriers);
    if (t == 0) {
        barrier_init(ready, n / 64);
        barriers_ready();
    }
    block_barrier();
    if (t == 0) {
        bring(maps.k, K, right, ready);
        if (n > 64)
            bring(maps.v, K, right + PART, ready);
    }
    u32 x[K / 16][4], row = t / WARP * 16 + lane_id() / 4;
    for (u32 k = 0; k < K / 16; k++)
        for (u32 i = 0; i < 4; i++) {
            u32 from = s == 20 ? (i % 2 * 2 + i / 2) : i;
            x[k][i] = global<const u32>(
                a.q)[(row + from % 2 * 8) * (K / 2) + k * 8 + lane_id() % 4 + from / 2 * 4];
        }
    barrier_wait(ready, 0);
    f32 c[n / 2];
    for (u32 i = 0; i < n / 2; i++) c[i] = 0;
    products_begin();
    for (u32 k = 0; k < K / 16; k++) {
        u32 on = (s == 22 ? 8 : 16) * k * ROW;
        multiply_columns<T>(c, x[k], column_matrix(right + on, s == 21 ? 1024 : PART));
        if (k == 1)
            products_commit();
    }
    products_commit();
    products_wait<1>();
    if (s == 1)
        store_shared(right + 3 * 16 * ROW + t * 4, 0);
    if (s == 23)
        x[3][0] = 0;
    if (s == 24)
        put(a, c);
    products_wait<0>();
    put(a, c);
}

KERNEL_WITH_MAPS(fault_columns_f16_64, WARP_GROUP, 1)
{
    columns<F16, 64>(a, maps);
}

KERNEL_WITH_MAPS(fault_columns_bf16_128, WARP_GROUP, 1)
{
    columns<BF16, 128>(a, maps);
}

// ---- Turns --------------------------------------------------------------------------------------

// Two warps: one brings tiles into two places, the other adds their first words up: a.first tiles.
// 1 does not wait until a place is free
KERNEL_WITH_MAPS(fault_pipeline, 2 * WARP, 1)
{
    SHARED_ARRAY(u64, barriers, 4);
    u32 t = thread_id(), tile = first_tile(), full = shared_address<u64>(barriers);
    u32 empty = full + 16;
    if (t == 0) {
        for (u32 i = 0; i < 4; i++) barrier_init(full + i * 8, 1);
        barriers_ready();
    }
    block_barrier();
    if (warp_id() == 0) {
        if (t != 0)
            return;
        for (u32 n = 0; n < a.first; n++) {
            if (a.step != 1)
                barrier_wait(empty + n % 2 * 8, n / 2 % 2 ^ 1);
            barrier_arrive_expect(full + n % 2 * 8, TILE);
            const int at[5] = {0, (int)(n * TILE_ROWS), 0, 0, 0};
            tensor_load(tile + n % 2 * TILE, maps.q, full + n % 2 * 8, at);
        }
        return;
    }
    u32 sum = 0;
    for (u32 n = 0; n < a.first; n++) {
        barrier_wait(full + n % 2 * 8, n / 2 % 2);
        sum += load_shared(tile + n % 2 * TILE + lane_id() * 4);
        warp_barrier();
        if (lane_id() == 0)
            barrier_arrive(empty + n % 2 * 8);
    }
    global<u32>(a.o)[lane_id()] = sum;
}
