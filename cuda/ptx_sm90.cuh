// SPDX-License-Identifier: MIT
//
// What sm_90a adds to the vocabulary of ptx.cuh: barriers in memory, copies of tiles by tensor
// maps, products of whole warp groups (4 warps, 128 threads). The simulated driver has its own.
// PTX ISA, "mbarrier", "cp.async.bulk.tensor", "setmaxnreg", and of "wgmma" for descriptors "Matrix
// Descriptor Format" and "Strides": https://docs.nvidia.com/cuda/parallel-thread-execution/
//
// Two proxies reach shared memory: threads (generic), and the units that copy tiles and multiply
// (async). What threads wrote is visible to those units only after fence_async and a barrier.
#pragma once
#include <ptx.cuh>

#include "launch.h"

typedef uint64_t u64;

constexpr u32 WARP_GROUP = 128;

// KERNEL with struct cuda_tensor_maps (launch.h) as its second argument, `maps`.
#define KERNEL_WITH_MAPS(name, threads, blocks)                                                    \
    extern "C" __global__ void __launch_bounds__(threads, blocks)                                  \
        name(const __grid_constant__ draft_args a, const __grid_constant__ cuda_tensor_maps maps)

// The same in all lanes of the warp, and the compiler knows it: what lane 0 has.
DEVICE u32 uniform(u32 x)
{
    return warp_shuffle(x, 0);
}

// ---- Barriers in shared memory: 8 bytes, 8 bytes aligned ---------------------------------------

// A phase is over when `count` arrivals and all announced bytes have come. Phases have parity 0, 1,
// 0, ...; one thread makes the barrier, then barriers_ready and block_barrier.
DEVICE void barrier_init(u32 barrier, u32 count)
{
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(count) : "memory");
}

DEVICE void barriers_ready()
{
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

DEVICE void barrier_arrive(u32 barrier)
{
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}

// Arrive, and announce bytes that tensor_load will bring in this phase.
DEVICE void barrier_arrive_expect(u32 barrier, u32 bytes)
{
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier),
                 "r"(bytes)
                 : "memory");
}

// Wait for the end of the phase of this parity. What was written before arrivals, and what copies
// brought, is visible after.
DEVICE void barrier_wait(u32 barrier, u32 parity)
{
    asm volatile("{\n"
                 ".reg .pred done;\n"
                 "again:\n"
                 "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
                 "@!done bra again;\n"
                 "}" ::"r"(barrier),
                 "r"(parity)
                 : "memory");
}

// What this thread wrote to shared memory before becomes visible to the async proxy.
DEVICE void fence_async()
{
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

// ---- Barriers of some warps: id 1 to 15, `threads` take part -----------------------------------

DEVICE void group_barrier(u32 id, u32 threads)
{
    asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

// Take part without waiting.
DEVICE void group_arrive(u32 id, u32 threads)
{
    asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

// ---- Tiles by tensor map: 5 dimensions, the box as the map says --------------------------------

// One thread. `to` is 1024 bytes aligned (swizzle of 128 bytes); what lies outside the tensor
// arrives as zeros and counts as bytes.
DEVICE void tensor_load(u32 to, const cuda_tensor_map &map, u32 barrier, const int (&at)[5])
{
    asm volatile("cp.async.bulk.tensor.5d.shared::cluster.global.tile.mbarrier::complete_tx::bytes "
                 "[%0], [%1, {%3, %4, %5, %6, %7}], [%2];" ::"r"(to),
                 "l"(&map), "r"(barrier), "r"(at[0]), "r"(at[1]), "r"(at[2]), "r"(at[3]), "r"(at[4])
                 : "memory");
}

// What lies outside the tensor is not written.
DEVICE void tensor_store(const cuda_tensor_map &map, u32 from, const int (&at)[5])
{
    asm volatile("cp.async.bulk.tensor.5d.global.shared::cta.tile.bulk_group "
                 "[%0, {%2, %3, %4, %5, %6}], [%1];" ::"l"(&map),
                 "r"(from), "r"(at[0]), "r"(at[1]), "r"(at[2]), "r"(at[3]), "r"(at[4])
                 : "memory");
}

// The stores of this thread since the last commit become a group.
DEVICE void tensor_store_commit()
{
    asm volatile("cp.async.bulk.commit_group;" ::: "memory");
}

// Shared memory of all this thread's groups has been read.
DEVICE void tensor_store_wait_read()
{
    asm volatile("cp.async.bulk.wait_group.read 0;" ::: "memory");
}

// ---- Products of a warp group ------------------------------------------------------------------

// 16-bit elements in shared memory in rows of 128 bytes, swizzled by 128 bytes: 16 bytes at place c
// of row r stand at c ^ (r % 8). 8 rows take 1024 bytes, the next 8 follow.
//   Rows of a (m), or of b (n): a row holds 64 of the depth; 16 of the depth further: 32 bytes on.
DEVICE u64 row_matrix(u32 address)
{
    return (u64)(address >> 4 & 0x3fff) | 1ull << 16 | (u64)(1024 >> 4) << 32 | 1ull << 62;
}

//   Columns of b: a row is one of the depth and holds 64 of n; the next 64 of n lie `part` bytes
//   on, the next 16 of the depth 2048.
DEVICE u64 column_matrix(u32 address, u32 part)
{
    return (u64)(address >> 4 & 0x3fff) | (u64)(part >> 4) << 16 | (u64)(1024 >> 4) << 32 |
           1ull << 62;
}

// The same matrix, `bytes` further on. Only its low word changes; the compiler is not told where
// the rest comes from, since it would make that a sum of 64 bits.
DEVICE u64 matrix_at(u64 matrix, u32 bytes)
{
    u64 further;
    asm("mov.b64 %0, {%1, %2};"
        : "=l"(further)
        : "r"((u32)matrix + (bytes >> 4)), "r"((u32)(matrix >> 32)));
    return further;
}

// Before the first product, and whenever threads have changed its registers.
DEVICE void products_begin()
{
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}

// The products since the last commit become a group.
DEVICE void products_commit()
{
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}

// Wait for all groups but the last `pending`. Until then neither the registers of a product nor the
// shared memory it reads may be touched.
template <int pending> DEVICE void products_wait()
{
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(pending) : "memory");
}

// Keeps the compiler from moving reads and writes of c across.
template <u32 n> DEVICE void keep(f32 (&c)[n])
{
    UNROLL for (u32 i = 0; i < n; i++) asm volatile("" : "+f"(c[i])::"memory");
}

// Registers of the threads of this warp group: from now on, a multiple of 8.
template <u32 n> DEVICE void take_registers()
{
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(n));
}

template <u32 n> DEVICE void give_registers()
{
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(n));
}

// c (64 x n) += a b, or = a b where `fresh`; f32. The columns of a thread: with lane l of warp w,
// c[4 i], c[4 i + 1] are (16 w + l / 4, 8 i + 2 (l % 4)) and its neighbour, c[4 i + 2], c[4 i + 3]
// the same 8 rows below.
#define DRAFT_C8(i)                                                                                \
    "+f"(c[i]), "+f"(c[i + 1]), "+f"(c[i + 2]), "+f"(c[i + 3]), "+f"(c[i + 4]), "+f"(c[i + 5]),    \
        "+f"(c[i + 6]), "+f"(c[i + 7])
#define DRAFT_C32_NAMES                                                                            \
    "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, "   \
    "%20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define DRAFT_C64_NAMES                                                                            \
    DRAFT_C32_NAMES ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, "     \
                    "%46, %47, %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, "  \
                    "%61, %62, %63"
#define DRAFT_C32 DRAFT_C8(0), DRAFT_C8(8), DRAFT_C8(16), DRAFT_C8(24)
#define DRAFT_C64 DRAFT_C32, DRAFT_C8(32), DRAFT_C8(40), DRAFT_C8(48), DRAFT_C8(56)

// a: 64 rows, b: 128 rows, 16 of the depth (row_matrix).
template <class T> DEVICE void multiply_rows(f32 (&c)[64], u64 a, u64 b, bool fresh);

// a: registers, as in multiply_add of ptx.cuh; b: 64 rows, 16 of the depth (row_matrix).
template <class T> DEVICE void multiply_rows(f32 (&c)[32], const u32 (&a)[4], u64 b, bool fresh);

// a: registers, with the columns of a as in multiply_add of ptx.cuh; b: columns (column_matrix).
template <class T> DEVICE void multiply_columns(f32 (&c)[64], const u32 (&a)[4], u64 b);
template <class T> DEVICE void multiply_columns(f32 (&c)[32], const u32 (&a)[4], u64 b);

#define DRAFT_WGMMA(T, name)                                                                       \
    template <> DEVICE void multiply_rows<T>(f32(&c)[64], u64 a, u64 b, bool fresh)                \
    {                                                                                              \
        asm volatile("{.reg .pred more; setp.eq.u32 more, %66, 0;\n"                               \
                     "wgmma.mma_async.sync.aligned.m64n128k16.f32." name "." name " {"             \
                     DRAFT_C64_NAMES "}, %64, %65, more, 1, 1, 0, 0;}"                             \
                     : DRAFT_C64                                                                   \
                     : "l"(a), "l"(b), "r"(fresh ? 1 : 0));                                        \
    }                                                                                              \
    template <> DEVICE void multiply_rows<T>(f32(&c)[32], const u32(&a)[4], u64 b, bool fresh)     \
    {                                                                                              \
        asm volatile("{.reg .pred more; setp.eq.u32 more, %37, 0;\n"                               \
                     "wgmma.mma_async.sync.aligned.m64n64k16.f32." name "." name " {"              \
                     DRAFT_C32_NAMES "}, {%32, %33, %34, %35}, %36, more, 1, 1, 0;}"               \
                     : DRAFT_C32                                                                   \
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(fresh ? 1 : 0));    \
    }                                                                                              \
    template <> DEVICE void multiply_columns<T>(f32(&c)[64], const u32(&a)[4], u64 b)              \
    {                                                                                              \
        asm volatile("wgmma.mma_async.sync.aligned.m64n128k16.f32." name "." name " {"             \
                     DRAFT_C64_NAMES "}, {%64, %65, %66, %67}, %68, 1, 1, 1, 1;"                   \
                     : DRAFT_C64                                                                   \
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));                        \
    }                                                                                              \
    template <> DEVICE void multiply_columns<T>(f32(&c)[32], const u32(&a)[4], u64 b)              \
    {                                                                                              \
        asm volatile("wgmma.mma_async.sync.aligned.m64n64k16.f32." name "." name " {"              \
                     DRAFT_C32_NAMES "}, {%32, %33, %34, %35}, %36, 1, 1, 1, 1;"                   \
                     : DRAFT_C32                                                                   \
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));                        \
    }
DRAFT_WGMMA(F16, "f16")
DRAFT_WGMMA(BF16, "bf16")
#undef DRAFT_WGMMA
#undef DRAFT_C64
#undef DRAFT_C32
#undef DRAFT_C64_NAMES
#undef DRAFT_C32_NAMES
#undef DRAFT_C8
