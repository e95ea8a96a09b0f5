/* SPDX-License-Identifier: MIT
 *
 * What sm_90 adds to a running block: barriers in shared memory, named barriers, copies of tiles,
 * products of warp groups. Units do their work late: copies arrive when nobody can go on, or by
 * chance; products are made, and stores read, when they are waited for. */
#ifndef DRAFT_TESTS_SIMULATOR_SM90_H
#define DRAFT_TESTS_SIMULATOR_SM90_H

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "order.h"
#include "tensor_map.h"

namespace simulator
{

struct Block;
struct Thread;

constexpr uint32_t GROUP_SIZE = 128; /* threads of a warp group */
constexpr uint32_t GROUP_WARPS = GROUP_SIZE / WARP_SIZE;

/* ---- State ---- */

struct MemoryBarrier {
    uint32_t address, number, count;
    uint32_t maker; /* thread */
    bool ready;     /* its maker called barriers_ready  */
    uint32_t pending;
    int64_t bytes;  /* announced and not come           */
    uint32_t phase; /* how many are over                */
    Arrivals arrivals;
    Knowledge told; /* in the last phase that is over   */
};

struct NamedBarrier {
    uint32_t threads = 0, arrived = 0;
    Arrivals arrivals;
    std::vector<Thread *> waiting;
};

struct TensorLoad {
    uint32_t thread, to;
    TensorMap map;
    int at[MAX_RANK];
    MemoryBarrier *barrier;
    uint32_t phase;
};

struct TensorStore {
    TensorMap map;
    uint32_t from;
    int at[MAX_RANK];
};

struct TensorStores { /* of a thread */
    std::vector<TensorStore> open, committed;
};

/* One product: 64 x n += 64 x 16, 16 x n. */
struct Product {
    uint32_t n;
    bool bf16, fresh, b_columns;
    std::vector<uint32_t> a_units, b_units; /* addresses of 16 bytes; a: none where in registers */
    float *c[GROUP_SIZE];                   /* registers of the threads                          */
    const uint32_t *a[GROUP_SIZE];
};

struct GroupCollective;
struct WarpGroup {
    uint32_t number, arrived;
    const GroupCollective *collective;
    void *slots[GROUP_SIZE];
    uint32_t registers; /* of each thread                          */
    bool begun;         /* products_begin since the last wait      */
    std::vector<Product> open;
    std::vector<std::vector<Product>> committed; /* oldest first */
};

struct Sm90 {
    std::vector<MemoryBarrier> barriers; /* never more than MAX_BARRIERS, which stay in place */
    NamedBarrier named[16];
    std::vector<TensorLoad> loads;
    std::vector<WarpGroup> groups;
};

/* ---- For execute.cc ---- */

void start_sm90(Block &block);
/* The last thread of the block has ended. */
void end_sm90(Block &block);
void load_arrives(Block &block, size_t number);
/* "waits in ...", of a thread that waits in a function of these. */
std::string describe_sm90(const Thread &thread);

/* ---- Between the parts ---- */

/* What all threads of a warp group do together, as Collective. */
struct GroupCollective {
    const char *name;
    void (*perform)(Block &block, WarpGroup &group);
};
void group_together(const GroupCollective &collective, void *slot);

/* Bytes have come for the phase that was going on when they were sent for. */
void barrier_complete(Block &block, MemoryBarrier &barrier, uint32_t phase, uint32_t bytes);
MemoryBarrier &find_barrier(uint32_t address);
/* None may be under way when the block ends. */
void end_stores(const Block &block);

/* Where 16 bytes lie that are swizzled by 128 bytes. */
inline uint32_t swizzle(uint32_t address)
{
    return address ^ (address >> 7 & 7) << 4;
}

/* ---- For ptx_sm90.cuh ---- */

void barrier_init(uint32_t address, uint32_t count);
void barriers_ready();
void barrier_arrive(uint32_t address, uint32_t bytes);
void barrier_wait(uint32_t address, uint32_t parity);
void fence_async();
void named_barrier(uint32_t id, uint32_t threads, bool wait);
void set_registers(uint32_t count, bool more);
void tensor_load(uint32_t to, const void *map, uint32_t barrier, const int at[MAX_RANK]);
void tensor_store(const void *map, uint32_t from, const int at[MAX_RANK]);
void tensor_store_commit();
void tensor_store_wait_read();
void products_begin();
void products_commit();
void products_wait(uint32_t pending);
/* a: registers, or nullptr: the matrix that the descriptor a_rows says. */
void multiply_group(float *c, uint32_t n, const uint32_t *a, uint64_t a_rows, uint64_t b,
                    bool b_columns, bool fresh, bool bf16);

} // namespace simulator

#endif
