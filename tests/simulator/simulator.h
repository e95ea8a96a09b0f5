/* SPDX-License-Identifier: MIT
 *
 * A simulated CUDA driver: a libcuda.so.1 whose device is the processor. backends/cuda runs on it
 * unmodified, and so do the kernels of cuda/, compiled for the host with another ptx.cuh. It proves
 * logic, not speed, and reports what real hardware would punish.
 *
 *   driver*.cc    the driver's functions: devices, contexts, modules, streams, graphs
 *   memory.cc     device memory: what is allocated, and whether an access lies inside
 *   execute.cc    runs a kernel: the blocks on a few OS threads, CUDA threads as fibres
 *   shared.cc     the shared memory of a block: bounds, races, copies under way
 *   arithmetic.cc what GPUs compute otherwise: powers, logarithms, sums of products
 *   order.cc      who knows of whose accesses
 *   warp.cc       what the lanes of a warp do together: shuffles, ldmatrix, mma
 *   barriers.cc   sm_90: barriers in memory, named barriers, registers of a warp group
 *   tensor_map.cc sm_90: copies of tiles
 *   products.cc   sm_90: products of warp groups
 *   ptx.cuh       the vocabulary of the kernels, on top of these; ptx_sm90.cuh for sm_90
 *   ptx_*.cc      the kernels as nvcc has translated them, instruction by instruction, in place of
 *                 those compiled for the host: where $DRAFT_SIMULATOR_PTX names a folder of PTX  */
#ifndef DRAFT_TESTS_SIMULATOR_H
#define DRAFT_TESTS_SIMULATOR_H

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace simulator
{

namespace ptx
{
struct Program;
}

/* What a device offers. Chosen by $DRAFT_SIMULATOR ("sm_80", ...); see model.cc. */
struct Model {
    const char *name;
    int major, minor;
    size_t shared_per_block;       /* without asking                          */
    size_t shared_per_block_optin; /* with CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_...  */
    int multiprocessors;
    size_t memory; /* bytes that can be allocated             */
};
const Model &model();
/* How many devices there are, all of this model: $DRAFT_SIMULATOR_DEVICES, 2 where not given. */
int device_count();

/* ---- Kernels: each registers itself when the library is loaded ---- */

struct Kernel {
    const char *name;
    void (*entry)(const void *args); /* runs one CUDA thread */
    size_t args_size;                /* of all parameters                       */
    std::vector<size_t> params;      /* bytes of each                           */
    unsigned max_threads;            /* __launch_bounds__                       */
    int arch;                        /* 0: any; 90: only sm_90                  */
    const ptx::Program *program;     /* that entry runs; nullptr: C++           */
};
const Kernel *find_kernel(const char *name); /* nullptr: none */

struct Launch {
    const Kernel *kernel;
    unsigned grid[3], block[3];
    size_t shared;                   /* dynamic, bytes                          */
    std::vector<unsigned char> args; /* args_size bytes                         */
};

/* Runs it to its end. False: a fault, with its description in *report. Memory that the kernel
 * wrote before stays written. */
bool execute(const Launch &launch, std::string *report);

/* ---- Device memory (memory.cc) ---- */

/* 0 where there is no more. Addresses are those of the process, 512 bytes aligned. */
uint64_t memory_allocate(size_t size);
bool memory_free(uint64_t address); /* false: no such allocation              */
/* The allocation that holds the range [address, address + size); false: none does. Thread-safe. */
struct Allocation {
    uint64_t address;
    size_t size;
};
bool memory_find(uint64_t address, size_t size, Allocation *out);
size_t memory_in_use(); /* bytes                                              */
/* "12 bytes past the end of an allocation of 4096 bytes", "inside memory that was freed", ... */
std::string memory_describe(uint64_t address, size_t size);
/* Counts up with every allocation and free: what memory_find said holds while it stays. */
uint64_t memory_generation();

} // namespace simulator

#endif
