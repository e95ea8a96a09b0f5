/* SPDX-License-Identifier: MIT
 *
 * The shared memory of a block, and who touched which word when. Accesses of two threads to one
 * word, one of them a write, must be ordered by a barrier. Order is kept by vector clocks of the
 * warps: each warp counts the barriers it took part in, and knows how far each other warp had come
 * when they last met.
 *
 *   addresses   BASE ... BASE + STATIC_SIZE   arrays that kernels declare
 *               DYNAMIC ...                   what the launch asked for                      */
#ifndef DRAFT_TESTS_SIMULATOR_SHARED_H
#define DRAFT_TESTS_SIMULATOR_SHARED_H

#include <cstddef>
#include <cstdint>
#include <vector>

namespace simulator
{

constexpr uint32_t WARP_SIZE = 32;
constexpr uint32_t MAX_WARPS = 32; /* of a block */

/* One cp.async under way. */
struct AsyncCopy {
    uint32_t to;
    uint64_t from; /* 0: zeros */
};

struct AsyncCopies {
    std::vector<std::vector<AsyncCopy>> groups; /* oldest first; the last is not committed yet */
};

class SharedMemory
{
  public:
    static constexpr uint32_t BASE = 1024, STATIC_SIZE = 48 * 1024, DYNAMIC = BASE + STATIC_SIZE;

    /* For a new block. Nothing is written yet. */
    void reset(uint32_t warps, size_t dynamic_size);

    /* The array that the declaration `key` stands for; the first thread that comes here makes it. */
    uint32_t declare(const void *key, size_t size);

    /* warp_read: on behalf of all lanes of the running thread's warp. */
    enum class Access { read, warp_read, write, atomic };
    /* The running thread accesses the range. Faults where it must not. */
    unsigned char *access(uint32_t address, size_t size, size_t alignment, Access kind);

    /* A copy is under way to 16 bytes; it has arrived. */
    void copy_begins(uint32_t address);
    void copy_ends(uint32_t address, const void *from);

    /* All warps meet; the lanes of one do. */
    void meet_all();
    void meet_warp(uint32_t warp);

    size_t dynamic_size() const
    {
        return dynamic_;
    }

  private:
    /* The last read and write of a word by a warp: time << 8 | flags | lane. 0: none. */
    struct Touch {
        uint32_t read, write;
    };
    uint32_t index_of(uint32_t address, size_t size, size_t alignment) const;
    bool known(uint32_t mark, uint32_t by_warp, bool whole_warp) const;
    void check_word(uint32_t word, Access kind) const;
    void mark_word(uint32_t word, Access kind);
    [[noreturn]] void race(uint32_t word, Access kind, uint32_t mark, uint32_t warp,
                           bool was_write) const;

    void clear(size_t from, size_t size);

    uint32_t warps_ = 0;
    size_t dynamic_ = 0, static_used_ = 0;
    std::vector<unsigned char> bytes_;   /* from BASE on                        */
    std::vector<Touch> touches_;         /* [word][warp]                        */
    std::vector<uint16_t> under_way_;    /* [word]: 0, or thread + 1 of a copy  */
    std::vector<unsigned char> written_; /* [word]                              */
    std::vector<uint32_t> clocks_;       /* [warp][warp]: what a warp knows     */
    struct Declared {
        const void *key;
        uint32_t address;
        size_t size;
    };
    std::vector<Declared> declared_;
};

} // namespace simulator

#endif
