// SPDX-License-Identifier: MIT
//
// How kernels reach the hardware, one short function for each instruction. All kernels use these
// and no CUDA of their own, so that tests can compile them for the processor: the simulated driver
// (tests/simulator) has a header of this name with the same functions.
//
// Pointers say where they point: Global<T> to device memory, Shared<T> to the shared memory of the
// block. Matrix instructions take shared memory by its 32-bit address (shared_address).
#pragma once
#include "kernel_abi.h"

#define DEVICE __device__ __forceinline__
#define UNROLL _Pragma("unroll")
#define UNROLL_BY_4 _Pragma("unroll 4") // where more would take too many registers
#define ROLLED _Pragma("unroll 1")      // where registers count and time does not

// KERNEL(name, threads of a block, blocks that shall fit a multiprocessor) { ... a.geometry ... }
#define KERNEL(name, threads, blocks)                                                              \
    extern "C" __global__ void __launch_bounds__(threads, blocks)                                  \
        name(const __grid_constant__ draft_args a)

// In a kernel or a function of one: an array in shared memory, one for the whole block.
#define SHARED_ARRAY(type, name, count) __shared__ __align__(16) type name[count]

template <class T> using Global = T *;
template <class T> using Shared = T *;

// 16 bytes, moved by one instruction.
struct alignas(16) Unit {
    u32 v[4];
};

// ---- Where am I -------------------------------------------------------------------------------

constexpr u32 WARP = 32;

DEVICE u32 thread_id()
{
    return threadIdx.x;
}

DEVICE u32 block_id()
{
    return blockIdx.x;
}

// Of the thread within its warp; of the warp within the block.
DEVICE u32 lane_id()
{
    return threadIdx.x % WARP;
}

DEVICE u32 warp_id()
{
    return threadIdx.x / WARP;
}

// ---- Memory -----------------------------------------------------------------------------------

template <class T> DEVICE Global<T> global(addr address)
{
    return reinterpret_cast<T *>(address);
}

// Memory whose size the host gives with the launch. 128 bytes aligned.
template <class T> DEVICE Shared<T> dynamic_shared()
{
    extern __shared__ __align__(128) unsigned char draft_dynamic_shared[];
    return reinterpret_cast<T *>(draft_dynamic_shared);
}

template <class T> DEVICE u32 shared_address(Shared<T> p)
{
    return static_cast<u32>(__cvta_generic_to_shared(p));
}

// 16 bytes of device memory that nobody writes while the kernel runs.
DEVICE Unit load_unit(Global<const Unit> p)
{
    Unit x;
    asm("ld.global.nc.v4.u32 {%0, %1, %2, %3}, [%4];"
        : "=r"(x.v[0]), "=r"(x.v[1]), "=r"(x.v[2]), "=r"(x.v[3])
        : "l"(p));
    return x;
}

DEVICE void store_shared(u32 address, u32 value)
{
    asm volatile("st.shared.u32 [%0], %1;" ::"r"(address), "r"(value) : "memory");
}

DEVICE u32 load_shared(u32 address)
{
    u32 value;
    asm volatile("ld.shared.u32 %0, [%1];" : "=r"(value) : "r"(address) : "memory");
    return value;
}

DEVICE Unit load_shared_unit(u32 address)
{
    Unit x;
    asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(x.v[0]), "=r"(x.v[1]), "=r"(x.v[2]), "=r"(x.v[3])
                 : "r"(address)
                 : "memory");
    return x;
}

// p may be Global or Shared; returns what was there before.
DEVICE u32 atomic_add(u32 *p, u32 x)
{
    return atomicAdd(p, x);
}

// ---- Together ---------------------------------------------------------------------------------

// All threads of the block; all lanes of the warp. Memory written before is visible after.
DEVICE void block_barrier()
{
    __syncthreads();
}

DEVICE void warp_barrier()
{
    __syncwarp();
}

// Bit i: what lane i said. All lanes of the warp must come here, as for all that follows.
DEVICE u32 warp_ballot(bool x)
{
    return __ballot_sync(0xffffffffu, x);
}

template <class T> DEVICE T warp_shuffle(T x, u32 lane)
{
    return __shfl_sync(0xffffffffu, x, lane);
}

template <class T> DEVICE T warp_shuffle_xor(T x, u32 mask)
{
    return __shfl_xor_sync(0xffffffffu, x, mask);
}

// ---- Numbers ----------------------------------------------------------------------------------

DEVICE u32 bits_of(f32 x)
{
    return __float_as_uint(x);
}

DEVICE f32 float_of(u32 bits)
{
    return __uint_as_float(bits);
}

DEVICE u32 count_ones(u32 x)
{
    return __popc(x);
}

// Rounded, never part of a fused multiply-add.
DEVICE f32 multiply(f32 x, f32 y)
{
    return __fmul_rn(x, y);
}

// 2^x to about 2^-22; 0 for -infinity.
DEVICE f32 exp2_fast(f32 x)
{
    f32 y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

// To about 2^-22, absolutely between 1/2 and 2, relatively elsewhere; -infinity for 0.
DEVICE f32 log2_fast(f32 x)
{
    f32 y;
    asm("lg2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

// Element types. A pair of elements is one u32, the first in the low half.
struct F16 {};
struct BF16 {};

template <class T> DEVICE u32 pack2(f32 first, f32 second);
template <> DEVICE u32 pack2<F16>(f32 first, f32 second)
{
    u32 pair;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(second), "f"(first));
    return pair;
}

template <> DEVICE u32 pack2<BF16>(f32 first, f32 second)
{
    u32 pair;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(second), "f"(first));
    return pair;
}

template <class T> DEVICE f32 first_of(u32 pair);
template <class T> DEVICE f32 second_of(u32 pair);
template <> DEVICE f32 first_of<F16>(u32 pair)
{
    f32 x;
    asm("{.reg .b16 l, h; mov.b32 {l, h}, %1; cvt.f32.f16 %0, l;}" : "=f"(x) : "r"(pair));
    return x;
}

template <> DEVICE f32 second_of<F16>(u32 pair)
{
    f32 x;
    asm("{.reg .b16 l, h; mov.b32 {l, h}, %1; cvt.f32.f16 %0, h;}" : "=f"(x) : "r"(pair));
    return x;
}

template <> DEVICE f32 first_of<BF16>(u32 pair)
{
    return __uint_as_float(pair << 16);
}

template <> DEVICE f32 second_of<BF16>(u32 pair)
{
    return __uint_as_float(pair & 0xffff0000u);
}

// ---- Asynchronous copies (sm_80) ----------------------------------------------------------------

// 16 bytes from device to shared memory, or zeros where `inside` is false (`from` must be a valid
// address all the same). There only after copy_wait, and for other threads after a barrier.
DEVICE void copy_async(u32 to, Global<const Unit> from, bool inside)
{
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from),
                 "r"(inside ? 16 : 0)
                 : "memory");
}

// The copies of this thread since the last commit become a group.
DEVICE void copy_commit()
{
    asm volatile("cp.async.commit_group;" ::: "memory");
}

// Wait for all groups of this thread but the last `pending`.
template <int pending> DEVICE void copy_wait()
{
    asm volatile("cp.async.wait_group %0;" ::"n"(pending) : "memory");
}

// ---- Matrix units (sm_80) -----------------------------------------------------------------------

// Four 8 x 8 matrices of 16-bit elements. Lane l gives the address of row l % 8 of matrix l / 8, 16
// bytes aligned; lane l gets of matrix i the elements (l / 4, 2 (l % 4)) and the next as x[i].
DEVICE void load_matrices(u32 x[4], u32 address)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3])
                 : "r"(address)
                 : "memory");
}

// The same, each matrix transposed: lane l gets (2 (l % 4), l / 4) and the one below.
DEVICE void load_matrices_transposed(u32 x[4], u32 address)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3])
                 : "r"(address)
                 : "memory");
}

// c += a b, a 16 x 16, b 16 x 8, c 16 x 8 in f32. With row r = lane / 4 and n = lane % 4:
//   a[0] (r, 2n) a[1] (r + 8, 2n) a[2] (r, 2n + 8) a[3] (r + 8, 2n + 8), each with the one right
//   of it
//   b0 (2n, r) b1 (2n + 8, r), each with the one below
//   c[0], c[1] (r, 2n) and (r, 2n + 1), c[2], c[3] the same 8 rows below
template <class T> DEVICE void multiply_add(f32 c[4], const u32 a[4], u32 b0, u32 b1);
#define DRAFT_MMA(T, name)                                                                         \
    template <> DEVICE void multiply_add<T>(f32 c[4], const u32 a[4], u32 b0, u32 b1)              \
    {                                                                                              \
        asm volatile("mma.sync.aligned.m16n8k16.row.col.f32." name "." name ".f32 "                \
                     "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"             \
                     : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])                              \
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));              \
    }
DRAFT_MMA(F16, "f16")
DRAFT_MMA(BF16, "bf16")
#undef DRAFT_MMA

// c[f] += a[f] b for each f, b 16 x 16: its left half as b[0], b[1], its right half as b[2], b[3].
// c[f][first] ... of the left half, c[f][first + 4] ... of the right.
template <class T, u32 rows, u32 n>
DEVICE void multiply_add_pairs(f32 (&c)[rows][n], u32 first, const u32 (&a)[rows][4],
                               const u32 (&b)[4])
{
    UNROLL for (u32 f = 0; f < rows; f++)
    {
        multiply_add<T>(c[f] + first, a[f], b[0], b[1]);
        multiply_add<T>(c[f] + first + 4, a[f], b[2], b[3]);
    }
}
