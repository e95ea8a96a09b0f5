/* SPDX-License-Identifier: MIT
 *
 * Inside a running kernel: the threads, warps and the shared memory of a block. For ptx.cuh and the
 * files that run kernels; simulator.h is what the driver sees. */
#ifndef DRAFT_TESTS_SIMULATOR_EXECUTE_H
#define DRAFT_TESTS_SIMULATOR_EXECUTE_H

#include "numbers.h"
#include "shared.h"
#include "simulator.h"
#include "sm90.h"

namespace simulator
{

struct Block;
struct Warp;
namespace ptx
{
struct Run;
}

/* What all lanes of a warp do together: called once, by the lane that comes last. slots: what each
 * lane brought. */
struct Collective {
    const char *name;
    void (*perform)(Warp &warp, void *const slots[WARP_SIZE]);
};

enum class State { ready, at_warp, at_group, at_barrier, at_phase, at_named, done };

/* One CUDA thread, a fibre on the OS thread that runs its block. */
struct Thread {
    Block *block;
    Warp *warp;
    uint32_t id, lane;
    State state;
    void *stack_pointer;
    AsyncCopies copies;
    TensorStores stores;
    MemoryBarrier *phase_of; /* at_phase: which barrier it waits for */
    uint32_t waits_for;      /* at_phase: the parity; at_named: the id */
    ptx::Run *run;           /* of a program of PTX; else nullptr      */
};

struct Warp {
    Block *block;
    uint32_t id, lanes; /* lanes: bit for each that the block has    */
    uint32_t arrived;   /* lanes that wait for the collective        */
    const Collective *collective;
    size_t first_turn;      /* of its lanes, in a sweep */
    const void *aligned_at; /* instruction of PTX that lanes have come to, and which ones */
    uint32_t aligned_lanes;
    void *slots[WARP_SIZE];
};

struct Block {
    const Launch *launch;
    uint32_t id[3];
    std::vector<Thread> threads;
    std::vector<Warp> warps;
    SharedMemory shared;
    uint32_t at_barrier, done; /* threads */
    std::string fault;         /* empty: none */
    Sm90 sm90;
};

/* The thread that runs. Kernels ask all the time: no function, and no initialisation to look for. */
extern __thread Thread *running_thread;
inline Thread &self()
{
    return *running_thread;
}

/* Report a fault of the running thread and end the kernel. */
[[noreturn]] void fault(const char *format, ...) __attribute__((format(printf, 1, 2)));

void block_barrier();
/* Lanes meet, and what they wrote before is visible to the others after. */
void warp_barrier();
void warp_together(const Collective &collective, void *slot);
/* The running thread goes on when somebody says that it is ready. */
void leave(State state);

/* A range of device memory that the kernel is about to use. Faults where it is not one. */
void check_global(uint64_t address, size_t size, size_t alignment);

/* ---- What the matrix and copy instructions do (warp.cc) ---- */

void copy_async(uint32_t to, uint64_t from, bool inside);
void copy_commit();
void copy_wait(unsigned pending);
void load_matrices(uint32_t x[4], uint32_t address, bool transposed);

/* What a lane brings to products m16n8k16: `rows` a, one behind the other, with each of `columns` b
 * (1 or 2). */
struct Multiplication {
    float *c;        /* 4 for each column, one behind the other */
    uint32_t stride; /* from the c of an a to that of the next  */
    const uint32_t *a;
    uint32_t rows;
    const uint32_t *b; /* 2 for each column */
    uint32_t columns;
};
/* c += a b, each. */
void multiply_add(Multiplication slot, bool bf16);

struct Registration {
    /* params: bytes of each parameter; entry gets them one after the other. arch: 0, or what alone
     * runs it, as 90. */
    Registration(const char *name, void (*entry)(const void *), std::vector<size_t> params,
                 unsigned max_threads, int arch);
};

} // namespace simulator

#endif
