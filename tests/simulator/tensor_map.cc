/* SPDX-License-Identifier: MIT
 *
 * Copies of tiles by tensor map, to and from shared memory. PTX ISA, "cp.async.bulk.tensor" and
 * "Tensors", https://docs.nvidia.com/cuda/parallel-thread-execution/ */
#include "tensor_map.h"

#include <algorithm>
#include <cstring>

#include "execute.h"

namespace simulator
{

static constexpr uint32_t UNIT = 16, SWIZZLED_ROW = 128, ALIGNED = 128, SWIZZLE_ALIGNED = 1024;

static TensorMap read_map(const void *from)
{
    TensorMap map;
    std::memcpy(&map, from, sizeof map);
    if (map.magic != TensorMap::MAGIC)
        fault("a tensor map that cuTensorMapEncodeTiled has not made");
    if (map.rank != MAX_RANK)
        fault("a tensor map of %u dimensions, where 5 are wanted", map.rank);
    return map;
}

static uint32_t row_bytes(const TensorMap &map)
{
    return static_cast<uint32_t>(map.box[0] * map.strides[0]);
}

static uint32_t box_bytes(const TensorMap &map)
{
    return row_bytes(map) * map.box[1] * map.box[2] * map.box[3] * map.box[4];
}

/* What a box takes in shared memory: the swizzle exchanges 16 bytes within rows of 128. */
static uint32_t place_bytes(const TensorMap &map)
{
    uint32_t whole = map.swizzled ? SWIZZLED_ROW : UNIT;
    return (box_bytes(map) + whole - 1) / whole * whole;
}

static void check_place(const TensorMap &map, uint32_t address)
{
    uint32_t alignment = map.swizzled ? SWIZZLE_ALIGNED : ALIGNED;
    if (address % alignment)
        fault("shared memory: a tile at byte %u, no multiple of %u", address, alignment);
}

/* A row of the box: bytes first ... end - 1 of it lie inside the tensor, the first at `global`. */
struct Row {
    uint32_t number, first, end;
    uint64_t global;
};

template <class Visit>
static void each_row(const TensorMap &map, const int at[MAX_RANK], const Visit &visit)
{
    int64_t from = std::max<int64_t>(0, -static_cast<int64_t>(at[0]));
    int64_t to = std::min<int64_t>(map.box[0], static_cast<int64_t>(map.dims[0]) - at[0]);
    Row row = {};
    uint32_t step[MAX_RANK] = {};
    for (row.number = 0; row.number < box_bytes(map) / row_bytes(map); row.number++) {
        bool inside = from < to;
        row.global = map.address + static_cast<uint64_t>(at[0] + from) * map.strides[0];
        for (uint32_t d = 1; d < MAX_RANK; d++) {
            int64_t i = static_cast<int64_t>(at[d]) + step[d];
            inside = inside && i >= 0 && i < static_cast<int64_t>(map.dims[d]);
            row.global += static_cast<uint64_t>(i) * map.strides[d];
        }
        row.first = inside ? static_cast<uint32_t>(from * map.strides[0]) : 0;
        row.end = inside ? static_cast<uint32_t>(to * map.strides[0]) : 0;
        visit(row);
        for (uint32_t d = 1; d < MAX_RANK && ++step[d] == map.box[d]; d++)
            step[d] = 0;
    }
}

static void check_rows(const TensorMap &map, const int at[MAX_RANK])
{
    each_row(map, at, [&](const Row &row) {
        if (row.first < row.end)
            check_global(row.global, row.end - row.first, map.strides[0]);
    });
}

/* Where byte `offset` of a box lies from `address` on; whole units. */
static uint32_t place(const TensorMap &map, uint32_t address, uint32_t offset)
{
    return (map.swizzled ? swizzle(address + offset) : address + offset) - address;
}

/* ---- Load ---- */

void tensor_load(uint32_t to, const void *map_at, uint32_t barrier_at, const int at[MAX_RANK])
{
    Thread &thread = self();
    Block &block = *thread.block;
    TensorLoad load = {thread.id, to, read_map(map_at), {}, &find_barrier(barrier_at), 0};
    check_place(load.map, to);
    check_rows(load.map, at);
    block.shared.unit_write_begins(to, place_bytes(load.map));
    std::copy(at, at + MAX_RANK, load.at);
    load.phase = load.barrier->phase;
    block.sm90.loads.push_back(load);
}

void load_arrives(Block &block, size_t number)
{
    TensorLoad load = block.sm90.loads[number];
    block.sm90.loads.erase(block.sm90.loads.begin() + static_cast<long>(number));
    const TensorMap &map = load.map;
    uint32_t width = row_bytes(map);
    if (load.phase == load.barrier->phase) {
        unsigned char *bytes = block.shared.unit_write_ends(load.to, place_bytes(map),
                                                            load.barrier->number, load.phase + 1);
        each_row(map, load.at, [&](const Row &row) {
            unsigned char line[256 * 16] = {};
            if (row.first < row.end)
                std::memcpy(line + row.first, reinterpret_cast<const void *>(row.global),
                            row.end - row.first);
            for (uint32_t i = 0; i < width; i += UNIT)
                std::memcpy(bytes + place(map, load.to, row.number * width + i), line + i, UNIT);
        });
    }
    barrier_complete(block, *load.barrier, load.phase, box_bytes(map));
}

/* ---- Store ---- */

void tensor_store(const void *map_at, uint32_t from, const int at[MAX_RANK])
{
    Thread &thread = self();
    TensorStore store = {read_map(map_at), from, {}};
    check_place(store.map, from);
    check_rows(store.map, at);
    thread.block->shared.unit_read_begins(from, place_bytes(store.map), nullptr);
    std::copy(at, at + MAX_RANK, store.at);
    thread.stores.open.push_back(store);
}

void tensor_store_commit()
{
    TensorStores &stores = self().stores;
    stores.committed.insert(stores.committed.end(), stores.open.begin(), stores.open.end());
    stores.open.clear();
}

static void perform_store(Block &block, const TensorStore &store)
{
    const TensorMap &map = store.map;
    uint32_t width = row_bytes(map);
    const unsigned char *bytes = block.shared.unit_bytes(store.from);
    each_row(map, store.at, [&](const Row &row) {
        unsigned char line[256 * 16];
        for (uint32_t i = 0; i < width; i += UNIT)
            std::memcpy(line + i, bytes + place(map, store.from, row.number * width + i), UNIT);
        if (row.first < row.end)
            std::memcpy(reinterpret_cast<void *>(row.global), line + row.first,
                        row.end - row.first);
    });
}

void tensor_store_wait_read()
{
    Thread &thread = self();
    for (const TensorStore &store : thread.stores.committed) {
        perform_store(*thread.block, store);
        thread.block->shared.unit_read_ends(store.from, place_bytes(store.map));
    }
    thread.stores.committed.clear();
}

/* Its shared memory goes to another block. */
void end_stores(const Block &block)
{
    for (const Thread &thread : block.threads) {
        if (!thread.stores.open.empty())
            fault("the block ends, and a store of thread %u was not committed", thread.id);
        if (!thread.stores.committed.empty())
            fault("the block ends, and nobody has waited until a store of thread %u was read",
                  thread.id);
    }
}

} // namespace simulator
