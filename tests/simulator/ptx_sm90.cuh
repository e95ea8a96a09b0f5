// SPDX-License-Identifier: MIT
//
// The vocabulary of sm_90 (cuda/ptx_sm90.cuh) for the simulated driver: the same functions, every
// access checked, units at work as late as they may be.
#pragma once
#include <ptx.cuh>

#include "launch.h"

typedef uint64_t u64;

constexpr u32 WARP_GROUP = 128;

// Kernels of files that include this one run on sm_90 alone.
#undef SIMULATOR_ARCH
#define SIMULATOR_ARCH 90

#define KERNEL_WITH_MAPS(name, threads, blocks)                                                    \
    static void name##_thread(const draft_args &a, const cuda_tensor_maps &maps);                  \
    static void name##_entry(const void *args)                                                     \
    {                                                                                              \
        cuda_tensor_maps maps; /* aligned */                                                       \
        std::memcpy(&maps, static_cast<const draft_args *>(args) + 1, sizeof maps);                \
        name##_thread(*static_cast<const draft_args *>(args), maps);                               \
    }                                                                                              \
    static const simulator::Registration name##_registration(                                      \
        #name, name##_entry, {sizeof(draft_args), sizeof(cuda_tensor_maps)}, threads,              \
        SIMULATOR_ARCH);                                                                           \
    static void name##_thread(const draft_args &a, [[maybe_unused]] const cuda_tensor_maps &maps)

inline u32 uniform(u32 x)
{
    return warp_shuffle(x, 0);
}

// ---- Barriers -----------------------------------------------------------------------------------

inline void barrier_init(u32 barrier, u32 count)
{
    simulator::barrier_init(barrier, count);
}

inline void barriers_ready()
{
    simulator::barriers_ready();
}

inline void barrier_arrive(u32 barrier)
{
    simulator::barrier_arrive(barrier, 0);
}

inline void barrier_arrive_expect(u32 barrier, u32 bytes)
{
    simulator::barrier_arrive(barrier, bytes);
}

inline void barrier_wait(u32 barrier, u32 parity)
{
    simulator::barrier_wait(barrier, parity);
}

inline void fence_async()
{
    simulator::fence_async();
}

inline void group_barrier(u32 id, u32 threads)
{
    simulator::named_barrier(id, threads, true);
}

inline void group_arrive(u32 id, u32 threads)
{
    simulator::named_barrier(id, threads, false);
}

// ---- Tiles --------------------------------------------------------------------------------------

inline void tensor_load(u32 to, const cuda_tensor_map &map, u32 barrier, const int (&at)[5])
{
    simulator::tensor_load(to, &map, barrier, at);
}

inline void tensor_store(const cuda_tensor_map &map, u32 from, const int (&at)[5])
{
    simulator::tensor_store(&map, from, at);
}

inline void tensor_store_commit()
{
    simulator::tensor_store_commit();
}

inline void tensor_store_wait_read()
{
    simulator::tensor_store_wait_read();
}

// ---- Products -----------------------------------------------------------------------------------

inline u64 row_matrix(u32 address)
{
    return (u64)(address >> 4 & 0x3fff) | 1ull << 16 | (u64)(1024 >> 4) << 32 | 1ull << 62;
}

inline u64 column_matrix(u32 address, u32 part)
{
    return (u64)(address >> 4 & 0x3fff) | (u64)(part >> 4) << 16 | (u64)(1024 >> 4) << 32 |
           1ull << 62;
}

inline u64 matrix_at(u64 matrix, u32 bytes)
{
    return matrix + (bytes >> 4);
}

inline void products_begin()
{
    simulator::products_begin();
}

inline void products_commit()
{
    simulator::products_commit();
}

template <int pending> void products_wait()
{
    simulator::products_wait(pending);
}

template <u32 n> void keep(f32 (&)[n]) {}

template <u32 n> void take_registers()
{
    simulator::set_registers(n, true);
}

template <u32 n> void give_registers()
{
    simulator::set_registers(n, false);
}

template <class T> void multiply_rows(f32 (&c)[64], u64 a, u64 b, bool fresh)
{
    simulator::multiply_group(c, 128, nullptr, a, b, false, fresh, std::is_same<T, BF16>::value);
}

template <class T> void multiply_rows(f32 (&c)[32], const u32 (&a)[4], u64 b, bool fresh)
{
    simulator::multiply_group(c, 64, a, 0, b, false, fresh, std::is_same<T, BF16>::value);
}

template <class T, u32 n> void multiply_columns(f32 (&c)[n], const u32 (&a)[4], u64 b)
{
    static_assert(n == 64 || n == 32, "of 128 or 64 columns");
    simulator::multiply_group(c, 2 * n, a, 0, b, true, false, std::is_same<T, BF16>::value);
}
