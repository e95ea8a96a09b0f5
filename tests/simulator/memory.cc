/* SPDX-License-Identifier: MIT
 *
 * Device memory: mappings of the process, each between pages that nobody may touch. Pages are
 * there only once they are written, so that tests may allocate more than the machine has. */
#include <atomic>
#include <cstdio>
#include <cstring>
#include <map>
#include <mutex>
#include <shared_mutex>

#include <sys/mman.h>

#include "driver.h"

namespace simulator
{

namespace
{

constexpr size_t ALIGNMENT = 512, PAGE = 4096;
/* NaN in every floating type, and far outside as an index. */
constexpr int POISON = 0xff;
constexpr size_t POISON_LIMIT = (size_t)64 << 20;
/* Memory that was freed keeps its addresses, so that an access is told from a stray one, until
 * there is this much of it. */
constexpr size_t FREED_BYTES = (size_t)1 << 40, FREED_COUNT = 4096;
/* An access this near to an allocation was probably meant for it. */
constexpr uint64_t NEAR = (uint64_t)1 << 24;

struct Block {
    size_t size;
    unsigned char *map; /* with the pages around it */
    size_t map_size;
    int device;
    uint64_t freed; /* when, counted in generations; 0: alive */
};

struct Memory {
    std::shared_mutex mutex;
    std::map<uint64_t, Block> alive, freed; /* by address */
    size_t in_use = 0, freed_bytes = 0;
    std::atomic<uint64_t> generation{1};
    std::atomic<int> device{-1};
};

Memory &memory()
{
    static Memory *m = new Memory; /* lives as long as the process */
    return *m;
}

size_t round_up(size_t size, size_t to)
{
    return (size + to - 1) / to * to;
}

/* The block that begins at the address or nearest below it. */
const std::pair<const uint64_t, Block> *below(const std::map<uint64_t, Block> &blocks, uint64_t at)
{
    auto next = blocks.upper_bound(at);
    return next == blocks.begin() ? nullptr : &*std::prev(next);
}

void forget_oldest(Memory &m)
{
    auto oldest = m.freed.begin();
    for (auto i = m.freed.begin(); i != m.freed.end(); ++i)
        if (i->second.freed < oldest->second.freed)
            oldest = i;
    munmap(oldest->second.map, oldest->second.map_size);
    m.freed_bytes -= oldest->second.map_size;
    m.freed.erase(oldest);
}

std::string count(uint64_t n, const char *what)
{
    return std::to_string(n) + " " + what + (n == 1 ? "" : "s");
}

} // namespace

uint64_t memory_allocate(size_t size)
{
    Memory &m = memory();
    size_t used = round_up(size, ALIGNMENT), inner = round_up(used, PAGE);
    if (!size || used < size || inner < used || inner + 2 * PAGE < inner)
        return 0;
    Block b = {size, nullptr, inner + 2 * PAGE, m.device, 0};
    void *map =
        mmap(nullptr, b.map_size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (map == MAP_FAILED)
        return 0;
    b.map = static_cast<unsigned char *>(map);
    if (mprotect(b.map + PAGE, inner, PROT_READ | PROT_WRITE)) {
        munmap(map, b.map_size);
        return 0;
    }
    unsigned char *data = b.map + PAGE + inner - used; /* the end touches the page behind it */
    if (size < POISON_LIMIT)
        memset(data, POISON, used);
    std::unique_lock<std::shared_mutex> lock(m.mutex);
    uint64_t address = reinterpret_cast<uint64_t>(data);
    m.alive[address] = b;
    m.in_use += size;
    m.generation++;
    return address;
}

bool memory_free(uint64_t address)
{
    Memory &m = memory();
    std::unique_lock<std::shared_mutex> lock(m.mutex);
    auto found = m.alive.find(address);
    if (found == m.alive.end())
        return false;
    Block b = found->second;
    m.alive.erase(found);
    m.in_use -= b.size;
    b.freed = m.generation++;
    /* A new mapping in its place gives the pages back. */
    mmap(b.map, b.map_size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1,
         0);
    m.freed[address] = b;
    m.freed_bytes += b.map_size;
    while (m.freed.size() > FREED_COUNT || m.freed_bytes > FREED_BYTES)
        forget_oldest(m);
    return true;
}

bool memory_find(uint64_t address, size_t size, Allocation *out)
{
    Memory &m = memory();
    std::shared_lock<std::shared_mutex> lock(m.mutex);
    auto b = below(m.alive, address);
    if (!b || (m.device >= 0 && b->second.device != m.device))
        return false;
    uint64_t offset = address - b->first;
    if (offset > b->second.size || size > b->second.size - offset)
        return false;
    if (out)
        *out = {b->first, b->second.size};
    return true;
}

size_t memory_in_use()
{
    Memory &m = memory();
    std::shared_lock<std::shared_mutex> lock(m.mutex);
    return m.in_use;
}

void memory_use_device(int device)
{
    Memory &m = memory();
    if (m.device.exchange(device) != device)
        m.generation++;
}

std::string memory_describe(uint64_t address, size_t size)
{
    Memory &m = memory();
    std::shared_lock<std::shared_mutex> lock(m.mutex);
    if (address < PAGE)
        return address ? "near the null pointer" : "the null pointer";
    auto b = below(m.alive, address);
    if (b && address - b->first < b->second.size) {
        uint64_t offset = address - b->first, left = b->second.size - offset;
        std::string of = "an allocation of " + count(b->second.size, "byte");
        if (m.device >= 0 && b->second.device != m.device)
            return "inside " + of + " on another device";
        if (size > left)
            return count(size - left, "byte") + " past the end of " + of;
        return "at offset " + std::to_string(offset) + " of " + of;
    }
    auto f = below(m.freed, address);
    if (f && address - f->first < f->second.size)
        return "inside memory that was freed, at offset " + std::to_string(address - f->first) +
               " of " + count(f->second.size, "byte");
    auto next = m.alive.upper_bound(address);
    uint64_t behind = b ? address - b->first - b->second.size : NEAR;
    uint64_t before = next != m.alive.end() ? next->first - address : NEAR;
    if (before < NEAR && before < behind)
        return count(before, "byte") + " before an allocation of " +
               count(next->second.size, "byte");
    if (behind < NEAR)
        return count(behind + size, "byte") + " past the end of an allocation of " +
               count(b->second.size, "byte");
    return "no memory of the device";
}

uint64_t memory_generation()
{
    return memory().generation;
}

} // namespace simulator
