/* SPDX-License-Identifier: MIT */
#include "shared.h"

#include <algorithm>
#include <cstring>

#include "execute.h"

namespace simulator
{

/* Flags of a mark. */
static constexpr uint32_t LANE = 0x1f, MANY = 0x20, ATOMIC = 0x40, TIME_SHIFT = 8;

/* As if nobody had been there. Positions in bytes_. */
void SharedMemory::clear(size_t from, size_t size)
{
    size_t first = from / 4, last = (from + size + 3) / 4;
    std::fill(bytes_.begin() + first * 4, bytes_.begin() + last * 4, 0x7f);
    std::fill(touches_.begin() + first * warps_, touches_.begin() + last * warps_, Touch{0, 0});
    std::fill(under_way_.begin() + first, under_way_.begin() + last, 0);
    std::fill(written_.begin() + first, written_.begin() + last, 0);
}

void SharedMemory::reset(uint32_t warps, size_t dynamic_size)
{
    size_t words = (STATIC_SIZE + dynamic_size + 3) / 4;
    if (warps == warps_ && dynamic_size == dynamic_) {
        clear(0, static_used_);
        clear(STATIC_SIZE, dynamic_);
    } else {
        bytes_.assign(words * 4, 0x7f);
        touches_.assign(words * warps, Touch{0, 0});
        under_way_.assign(words, 0);
        written_.assign(words, 0);
    }
    warps_ = warps;
    dynamic_ = dynamic_size;
    static_used_ = 0;
    declared_.clear();
    clocks_.assign(static_cast<size_t>(warps) * warps, 0);
    for (uint32_t w = 0; w < warps; w++)
        clocks_[w * warps + w] = 1;
}

uint32_t SharedMemory::declare(const void *key, size_t size)
{
    for (const Declared &d : declared_)
        if (d.key == key)
            return d.address;
    if (static_used_ + size > STATIC_SIZE)
        fault("arrays in shared memory take more than %u bytes", STATIC_SIZE);
    declared_.push_back({key, BASE + static_cast<uint32_t>(static_used_), size});
    static_used_ += (size + 15) / 16 * 16;
    return declared_.back().address;
}

/* ---- Order ---- */

/* Has the running thread's warp met the warp that made the mark since then? */
bool SharedMemory::known(uint32_t mark, uint32_t by_warp, bool whole_warp) const
{
    uint32_t me = self().warp->id, time = mark >> TIME_SHIFT;
    uint32_t seen = clocks_[me * warps_ + by_warp];
    if (by_warp != me)
        return time <= seen;
    return time < seen || (!whole_warp && !(mark & MANY) && (mark & LANE) == self().lane);
}

static bool is_read(SharedMemory::Access kind)
{
    return kind == SharedMemory::Access::read || kind == SharedMemory::Access::warp_read;
}

static const char *kind_name(SharedMemory::Access kind)
{
    return is_read(kind) ? "reads" : "writes";
}

void SharedMemory::race(uint32_t word, Access kind, uint32_t mark, uint32_t warp,
                        bool was_write) const
{
    fault("race on shared memory: %s byte %u, which thread %u%s %s without a barrier in between",
          kind_name(kind), word * 4 + BASE, warp * WARP_SIZE + (mark & LANE),
          mark & MANY ? " and others" : "", was_write ? "wrote" : "read");
}

void SharedMemory::check_word(uint32_t word, Access kind) const
{
    const Touch *touch = &touches_[static_cast<size_t>(word) * warps_];
    for (uint32_t w = 0; w < warps_; w++) {
        uint32_t write = touch[w].write, read = touch[w].read;
        bool both_atomic = kind == Access::atomic && (write & ATOMIC),
             all = kind == Access::warp_read;
        if (write && !both_atomic && !known(write, w, all))
            race(word, kind, write, w, true);
        if (!is_read(kind) && read && !known(read, w, false))
            race(word, kind, read, w, false);
    }
}

void SharedMemory::mark_word(uint32_t word, Access kind)
{
    const Thread &thread = self();
    uint32_t warp = thread.warp->id, time = clocks_[warp * warps_ + warp];
    Touch &touch = touches_[static_cast<size_t>(word) * warps_ + warp];
    uint32_t &mark = is_read(kind) ? touch.read : touch.write;
    uint32_t next = time << TIME_SHIFT | thread.lane;
    if (kind == Access::atomic)
        next |= ATOMIC;
    if (kind == Access::warp_read ||
        (mark >> TIME_SHIFT == time && ((mark & MANY) || (mark & LANE) != thread.lane)))
        next |= MANY;
    mark = next;
    if (!is_read(kind))
        written_[word] = 1;
}

/* ---- Accesses ---- */

/* Position in bytes_. */
uint32_t SharedMemory::index_of(uint32_t address, size_t size, size_t alignment) const
{
    if (address % alignment)
        fault("shared memory: address %u is no multiple of %zu", address, alignment);
    bool is_static = address >= BASE && address + size <= BASE + static_used_;
    bool is_dynamic = address >= DYNAMIC && address + size <= DYNAMIC + dynamic_;
    if (!is_static && !is_dynamic)
        fault("shared memory: bytes %u to %zu lie outside (%zu bytes declared from %u on, %zu of "
              "the launch from %u on)",
              address, address + size - 1, static_used_, BASE, dynamic_, DYNAMIC);
    return address - BASE;
}

unsigned char *SharedMemory::access(uint32_t address, size_t size, size_t alignment, Access kind)
{
    uint32_t index = index_of(address, size, alignment);
    for (uint32_t word = index / 4; word < (index + size + 3) / 4; word++) {
        if (under_way_[word])
            fault("shared memory: %s byte %u, to which a copy of thread %u is under way",
                  kind_name(kind), word * 4 + BASE, under_way_[word] - 1u);
        if (is_read(kind) && !written_[word])
            fault("shared memory: reads byte %u, which nobody has written", word * 4 + BASE);
        check_word(word, kind);
        mark_word(word, kind);
    }
    return &bytes_[index];
}

void SharedMemory::copy_begins(uint32_t address)
{
    uint32_t index = index_of(address, 16, 16);
    for (uint32_t word = index / 4; word < index / 4 + 4; word++) {
        if (under_way_[word])
            fault("shared memory: two copies to byte %u are under way", word * 4 + BASE);
        check_word(word, Access::write);
        under_way_[word] = static_cast<uint16_t>(self().id + 1);
    }
}

void SharedMemory::copy_ends(uint32_t address, const void *from)
{
    uint32_t index = index_of(address, 16, 16);
    for (uint32_t word = index / 4; word < index / 4 + 4; word++) {
        under_way_[word] = 0;
        mark_word(word, Access::write);
    }
    if (from)
        std::memcpy(&bytes_[index], from, 16);
    else
        std::memset(&bytes_[index], 0, 16);
}

/* ---- Meetings ---- */

void SharedMemory::meet_all()
{
    std::vector<uint32_t> most(warps_, 0);
    for (uint32_t w = 0; w < warps_; w++)
        most[w] = clocks_[w * warps_ + w];
    for (uint32_t w = 0; w < warps_; w++) {
        std::copy(most.begin(), most.end(), &clocks_[w * warps_]);
        clocks_[w * warps_ + w]++;
    }
}

void SharedMemory::meet_warp(uint32_t warp)
{
    clocks_[warp * warps_ + warp]++;
}

} // namespace simulator
