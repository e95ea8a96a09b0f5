/* SPDX-License-Identifier: MIT */
#include "shared.h"

#include <algorithm>
#include <cstring>

#include "execute.h"

namespace simulator
{

/* Flags of a mark. */
static constexpr uint32_t LANE = 0x1f, MANY = 0x20, ATOMIC = 0x40, TIME_SHIFT = 8;
static constexpr uint32_t NOBODY = UINT32_MAX, ANY_LANE = UINT32_MAX;
static constexpr uint16_t IS_BARRIER = UINT16_MAX;
static constexpr uint32_t QUAD_WORDS = 4;

/* As if nobody had been there. Positions in bytes_. */
void SharedMemory::clear(size_t from, size_t size)
{
    size_t first = from / 4, last = (from + size + 3) / 4;
    std::fill(bytes_.begin() + first * 4, bytes_.begin() + last * 4, 0x7f);
    std::fill(words_.begin() + first / QUAD_WORDS,
              words_.begin() + (last + QUAD_WORDS - 1) / QUAD_WORDS, Word{});
}

/* Dynamic memory lies behind the static one, 128 bytes aligned and no more. */
static size_t room_for_arrays(size_t dynamic_size)
{
    constexpr size_t MOST = 48 * 1024, UNALIGNED = 128;
    size_t all = model().shared_per_block_optin;
    size_t left = all > dynamic_size ? all - dynamic_size : 0;
    return std::min(MOST, left / 1024 * 1024) + UNALIGNED;
}

void SharedMemory::reset(uint32_t threads, size_t dynamic_size)
{
    size_t room = room_for_arrays(dynamic_size), words = (room + dynamic_size + 15) / 16 * 4;
    if (threads == threads_ && dynamic_size == dynamic_) {
        clear(0, static_used_);
        clear(static_size_, dynamic_);
    } else {
        warps_ = (threads + WARP_SIZE - 1) / WARP_SIZE;
        bytes_.assign(words * 4, 0x7f);
        quads_ = static_cast<uint32_t>(words / QUAD_WORDS);
        touches_.resize((quads_ + words) * warps_);
        words_.assign(quads_ + words, Word{});
    }
    threads_ = threads;
    dynamic_ = dynamic_size;
    static_size_ = room;
    static_used_ = 0;
    declared_.clear();
    fences_.resize(threads);
    for (std::vector<uint32_t> &fences : fences_)
        fences.clear();
    order.reset(threads);
}

uint32_t SharedMemory::declare(const void *key, size_t size)
{
    for (const Declared &d : declared_)
        if (d.key == key)
            return d.address;
    if (static_used_ + size > static_size_)
        fault("arrays in shared memory take more than %zu bytes", static_size_);
    declared_.push_back({key, BASE + static_cast<uint32_t>(static_used_), size});
    static_used_ += (size + 15) / 16 * 16;
    return declared_.back().address;
}

/* ---- Order ---- */

static bool is_read(SharedMemory::Access kind)
{
    return kind == SharedMemory::Access::read || kind == SharedMemory::Access::warp_read;
}

static const char *kind_name(SharedMemory::Access kind)
{
    return is_read(kind) ? "reads" : "writes";
}

SharedMemory::Who SharedMemory::running(Access kind)
{
    const Thread &thread = self();
    const Order &order = thread.block->shared.order;
    const Knowledge &warp = order.of_warp(thread.warp->id);
    if (kind == Access::warp_read)
        return {&warp, nullptr, thread.warp->id, ANY_LANE};
    return {&warp, order.of_thread(thread.id), thread.warp->id, thread.lane};
}

/* Has word come to `who` from the warp that made the mark since then? */
bool SharedMemory::known(const Who &who, uint32_t mark, uint32_t by_warp)
{
    uint32_t time = mark >> TIME_SHIFT, lane = mark & LANE;
    if (time <= who.warp->times[by_warp] || (who.own && time <= who.own->times[by_warp]))
        return true;
    if (mark & MANY)
        return false;
    if (by_warp == who.warp_id && lane == who.lane)
        return true;
    return who.warp->knows_lane(by_warp, lane, time) ||
           (who.own && who.own->knows_lane(by_warp, lane, time));
}

void SharedMemory::race(uint32_t word, Access kind, uint32_t mark, uint32_t warp,
                        bool was_write) const
{
    fault("race on shared memory: %s byte %u, which thread %u%s %s without a barrier in between",
          kind_name(kind), address_of(word), warp * WARP_SIZE + (mark & LANE),
          mark & MANY ? " and others" : "", was_write ? "wrote" : "read");
}

/* Does anything under way forbid the access? */
void SharedMemory::check_free(uint32_t word, Access kind) const
{
    const Word &w = words_[word];
    if (w.under_way == IS_BARRIER)
        fault("shared memory: %s byte %u, where a barrier lies", kind_name(kind), address_of(word));
    if (w.under_way)
        fault("shared memory: %s byte %u, to which a copy of thread %u is under way",
              kind_name(kind), address_of(word), w.under_way - 1u);
    if (!is_read(kind) && w.units)
        fault("shared memory: writes byte %u, which a product or a store that nobody has waited "
              "for may still read",
              address_of(word));
    if (is_read(kind) && !w.written)
        fault("shared memory: reads byte %u, which nobody has written", address_of(word));
}

void SharedMemory::check_word(uint32_t word, Access kind, const Who &who) const
{
    const Word &w = words_[word];
    if (w.arrived) {
        uint32_t party = MAX_WARPS + (w.arrived & 0xff), phase = w.arrived >> 8;
        if (phase > who.warp->times[party] && !(who.own && phase <= who.own->times[party]))
            fault("race on shared memory: %s byte %u, which a copy of a tile wrote, without "
                  "waiting for its barrier",
                  kind_name(kind), address_of(word));
    }
    const Touch *touch = &touches_[static_cast<size_t>(word) * warps_];
    for (uint32_t left = w.writers; left; left &= left - 1) {
        uint32_t by = static_cast<uint32_t>(__builtin_ctz(left)), mark = touch[by].write;
        if (!(kind == Access::atomic && (mark & ATOMIC)) && !known(who, mark, by))
            race(word, kind, mark, by, true);
    }
    for (uint32_t left = is_read(kind) ? 0 : w.readers; left; left &= left - 1) {
        uint32_t by = static_cast<uint32_t>(__builtin_ctz(left)), mark = touch[by].read;
        if (!known(who, mark, by))
            race(word, kind, mark, by, false);
    }
}

/* A unit reads or overwrites what threads wrote. */
void SharedMemory::check_fence(uint32_t word, const Who &who) const
{
    const Word &w = words_[word];
    if (!w.writer)
        return;
    uint32_t thread = w.writer - 1u;
    const std::vector<uint32_t> &fences = fences_[thread];
    if (w.fences < fences.size() && known(who, fences[w.fences], thread / WARP_SIZE))
        return;
    fault("shared memory: byte %u was written by threads and not fenced: thread %u did not call "
          "fence_async between writing it and the barrier",
          address_of(word), thread);
}

void SharedMemory::mark_word(uint32_t word, Access kind)
{
    const Thread &thread = self();
    uint32_t warp = thread.warp->id, time = order.time_of(thread.id);
    Word &w = words_[word];
    Touch &touch = touches_[static_cast<size_t>(word) * warps_ + warp];
    uint32_t &mark = is_read(kind) ? touch.read : touch.write, flags = thread.lane;
    uint32_t &warps = is_read(kind) ? w.readers : w.writers;
    if (kind == Access::write)
        w.readers = w.writers = w.arrived = 0;
    if (kind == Access::atomic)
        flags |= ATOMIC;
    if (warps >> warp & 1 && mark >> TIME_SHIFT > order.of_warp(warp).times[warp] &&
        ((mark & MANY) || (mark & LANE) != thread.lane)) {
        flags |= MANY;
        time = std::max(time, mark >> TIME_SHIFT);
    }
    if (kind == Access::warp_read) {
        flags |= MANY;
        time = order.time_of_warp(warp);
    }
    mark = time << TIME_SHIFT | flags;
    warps |= 1u << warp;
    if (is_read(kind))
        return;
    w.written = true;
    w.writer = static_cast<uint16_t>(thread.id + 1);
    w.fences = static_cast<uint32_t>(fences_[thread.id].size());
}

void SharedMemory::mark_read_by_warp(uint32_t word, uint32_t warp)
{
    words_[word].readers |= 1u << warp;
    touches_[static_cast<size_t>(word) * warps_ + warp].read =
        order.time_of_warp(warp) << TIME_SHIFT | MANY;
}

/* ---- Quads ---- */

/* Each word is as the quad was. */
void SharedMemory::split(uint32_t quad)
{
    const Touch *from = &touches_[static_cast<size_t>(quad) * warps_];
    for (uint32_t i = 0; i < QUAD_WORDS; i++) {
        uint32_t to = record_of(quad * QUAD_WORDS + i);
        words_[to] = words_[quad];
        std::copy(from, from + warps_, &touches_[static_cast<size_t>(to) * warps_]);
    }
    words_[quad].single = true;
}

template <class Visit>
inline void SharedMemory::each_word(uint32_t index, size_t size, const Visit &visit)
{
    uint32_t word = index / 4, end = static_cast<uint32_t>((index + size + 3) / 4);
    while (word < end) {
        uint32_t quad = word / QUAD_WORDS;
        if (!words_[quad].single && word % QUAD_WORDS == 0 && end - word >= QUAD_WORDS) {
            visit(quad);
            word += QUAD_WORDS;
            continue;
        }
        if (!words_[quad].single)
            split(quad);
        visit(record_of(word++));
    }
}

/* After a write of the range, that left the words of a quad alike. */
inline void SharedMemory::join(uint32_t index, size_t size)
{
    uint32_t end = static_cast<uint32_t>((index + size) / 16);
    for (uint32_t quad = (index + 15) / 16; quad < end; quad++) {
        if (!words_[quad].single)
            continue;
        uint32_t from = record_of(quad * QUAD_WORDS);
        words_[quad] = words_[from];
        const Touch *touches = &touches_[static_cast<size_t>(from) * warps_];
        std::copy(touches, touches + warps_, &touches_[static_cast<size_t>(quad) * warps_]);
    }
}

/* ---- Accesses ---- */

/* Position in bytes_. */
uint32_t SharedMemory::index_of(uint32_t address, size_t size, size_t alignment) const
{
    if (address % alignment)
        fault("shared memory: address %u is no multiple of %zu", address, alignment);
    bool is_static = address >= BASE && address + size <= BASE + static_used_;
    bool is_dynamic = address >= dynamic_base() && address + size <= dynamic_base() + dynamic_;
    if (!is_static && !is_dynamic)
        fault("shared memory: bytes %u to %zu lie outside (%zu bytes declared from %u on, %zu of "
              "the launch from %u on)",
              address, address + size - 1, static_used_, BASE, dynamic_, dynamic_base());
    return address - BASE;
}

unsigned char *SharedMemory::access(uint32_t address, size_t size, size_t alignment, Access kind)
{
    uint32_t index = index_of(address, size, alignment);
    Who who = running(kind);
    each_word(index, size, [&](uint32_t word) {
        check_free(word, kind);
        check_word(word, kind, who);
        mark_word(word, kind);
    });
    if (kind == Access::write)
        join(index, size);
    return &bytes_[index];
}

void SharedMemory::copy_begins(uint32_t address)
{
    uint32_t index = index_of(address, 16, 16);
    Who who = running(Access::write);
    each_word(index, 16, [&](uint32_t word) {
        check_free(word, Access::write);
        check_word(word, Access::write, who);
        words_[word].under_way = static_cast<uint16_t>(self().id + 1);
    });
}

void SharedMemory::copy_ends(uint32_t address, const void *from)
{
    uint32_t index = index_of(address, 16, 16);
    each_word(index, 16, [&](uint32_t word) {
        words_[word].under_way = 0;
        mark_word(word, Access::write);
    });
    join(index, 16);
    if (from)
        std::memcpy(&bytes_[index], from, 16);
    else
        std::memset(&bytes_[index], 0, 16);
}

/* ---- Copies of tiles, products ---- */

void SharedMemory::fence_units()
{
    const Thread &thread = self();
    fences_[thread.id].push_back(order.time_of(thread.id) << TIME_SHIFT | thread.lane);
}

void SharedMemory::make_barrier(uint32_t address)
{
    uint32_t index = index_of(address, 8, 8);
    access(address, 8, 8, Access::write);
    words_[record_of(index / 4)].under_way = IS_BARRIER;
    words_[record_of(index / 4 + 1)].under_way = IS_BARRIER;
}

void SharedMemory::use_barrier(uint32_t address)
{
    uint32_t index = index_of(address, 8, 8);
    Who who = running(Access::read);
    check_word(record_of(index / 4), Access::read, who);
}

void SharedMemory::unit_write_begins(uint32_t address, size_t size)
{
    uint32_t index = index_of(address, size, 16);
    Who who = running(Access::write);
    each_word(index, size, [&](uint32_t word) {
        check_free(word, Access::write);
        check_word(word, Access::write, who);
        check_fence(word, who);
        words_[word].under_way = static_cast<uint16_t>(self().id + 1);
    });
}

unsigned char *SharedMemory::unit_write_ends(uint32_t address, size_t size, uint32_t barrier,
                                             uint32_t phase)
{
    uint32_t first = (address - BASE) / 16, last = first + static_cast<uint32_t>(size / 16);
    Word word = {};
    word.written = true;
    word.arrived = barrier | phase << 8;
    std::fill(words_.begin() + first, words_.begin() + last, word);
    return &bytes_[address - BASE];
}

void SharedMemory::unit_read_begins(uint32_t address, size_t size, const Knowledge *common)
{
    uint32_t index = index_of(address, size, 16);
    Who who = common ? Who{common, nullptr, NOBODY, ANY_LANE} : running(Access::read);
    each_word(index, size, [&](uint32_t word) {
        check_free(word, Access::read);
        check_word(word, Access::read, who);
        check_fence(word, who);
        words_[word].units++;
    });
}

void SharedMemory::unit_read_ends(uint32_t address, size_t size)
{
    each_word(address - BASE, size, [&](uint32_t word) {
        words_[word].units--;
        mark_word(word, Access::read);
    });
}

void SharedMemory::unit_read_ends(uint32_t address, size_t size, uint32_t first_warp,
                                  uint32_t warps)
{
    each_word(address - BASE, size, [&](uint32_t word) {
        words_[word].units--;
        for (uint32_t warp = first_warp; warp < first_warp + warps; warp++)
            mark_read_by_warp(word, warp);
    });
}

} // namespace simulator
