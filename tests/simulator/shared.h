/* SPDX-License-Identifier: MIT
 *
 * The shared memory of a block, and who touched which word when. Accesses of two threads to one
 * word, one of them a write, must be ordered (order.h).
 *
 * Units that work on their own (copies of tiles, products of warp groups) reach it too. They see
 * what threads wrote only after a fence of those threads, and what they read or write is theirs
 * until someone has waited for them.
 *
 * Most accesses are of 16 bytes: the words of such a quad are kept as one until an access takes some
 * of them only, and again from the next write of all of them on.
 *
 *   addresses   BASE ...            arrays that kernels declare
 *               dynamic_base() ...  what the launch asked for                               */
#ifndef DRAFT_TESTS_SIMULATOR_SHARED_H
#define DRAFT_TESTS_SIMULATOR_SHARED_H

#include <cstddef>
#include <cstdint>
#include <vector>

#include "order.h"

namespace simulator
{

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
    static constexpr uint32_t BASE = 1024;

    /* For a new block. Nothing is written yet. */
    void reset(uint32_t threads, size_t dynamic_size);

    /* The array that the declaration `key` stands for; the first thread that comes makes it. */
    uint32_t declare(const void *key, size_t size);

    /* warp_read: on behalf of all lanes of the running thread's warp. */
    enum class Access { read, warp_read, write, atomic };
    /* The running thread accesses the range. Faults where it must not. */
    unsigned char *access(uint32_t address, size_t size, size_t alignment, Access kind);

    /* A copy is under way to 16 bytes; it has arrived. */
    void copy_begins(uint32_t address);
    void copy_ends(uint32_t address, const void *from);

    /* What the running thread wrote is for units to see. */
    void fence_units();
    /* A barrier lies at these 8 bytes from now on; the running thread makes it, or uses it. */
    void make_barrier(uint32_t address);
    void use_barrier(uint32_t address);

    /* A unit that the running thread started will write. It has written: those know who know of
     * this phase (from 1 on) of the barrier. */
    void unit_write_begins(uint32_t address, size_t size);
    unsigned char *unit_write_ends(uint32_t address, size_t size, uint32_t barrier, uint32_t phase);
    /* A unit will read, started by the running thread, or by those who all know `common`. It has
     * read, for the running thread or for warps. */
    void unit_read_begins(uint32_t address, size_t size, const Knowledge *common);
    const unsigned char *unit_bytes(uint32_t address) const
    {
        return &bytes_[address - BASE];
    }
    void unit_read_ends(uint32_t address, size_t size);
    void unit_read_ends(uint32_t address, size_t size, uint32_t first_warp, uint32_t warps);

    Order order;

    size_t dynamic_size() const
    {
        return dynamic_;
    }
    uint32_t dynamic_base() const
    {
        return BASE + static_cast<uint32_t>(static_size_);
    }

  private:
    /* The last read and write of a word by a warp: time << 8 | flags | lane. Holds where the warp
     * is among the readers or writers of the word. */
    struct Touch {
        uint32_t read, write;
    };
    /* Who knows of a write knows of what came before it, so that no more than the last is kept,
     * and the reads since. Of atomic ones: all since. */
    struct Word {
        uint32_t readers, writers; /* warps                                          */
        uint16_t under_way;        /* 0, thread + 1 of a copy, or IS_BARRIER         */
        uint16_t units;            /* that are reading                               */
        uint16_t writer;           /* thread + 1 that wrote last; 0: a unit          */
        bool written;
        bool single;      /* of a quad: its words have records of their own */
        uint32_t fences;  /* of the writer before it wrote                  */
        uint32_t arrived; /* 0, or barrier + phase << 8 of the unit's write */
    };
    /* On whose behalf. */
    struct Who {
        const Knowledge *warp, *own; /* own may be nullptr */
        uint32_t warp_id, lane;      /* NOBODY: of no single warp; ANY_LANE: all of it */
    };
    static Who running(Access kind);
    uint32_t index_of(uint32_t address, size_t size, size_t alignment) const;
    /* Records: of the quads, then of the words. Quads close together are quick to reach. */
    uint32_t record_of(uint32_t word) const
    {
        return quads_ + word;
    }
    uint32_t address_of(uint32_t record) const
    {
        return BASE + (record < quads_ ? record * 16 : (record - quads_) * 4);
    }
    /* Calls visit(record) for the quads of the range, and for words that stand alone. */
    template <class Visit> void each_word(uint32_t index, size_t size, const Visit &visit);
    void split(uint32_t quad);
    void join(uint32_t index, size_t size);
    static bool known(const Who &who, uint32_t mark, uint32_t by_warp);
    void check_free(uint32_t word, Access kind) const;
    void check_word(uint32_t word, Access kind, const Who &who) const;
    void check_fence(uint32_t word, const Who &who) const;
    void mark_word(uint32_t word, Access kind);
    void mark_read_by_warp(uint32_t word, uint32_t warp);
    [[noreturn]] void race(uint32_t word, Access kind, uint32_t mark, uint32_t warp,
                           bool was_write) const;

    void clear(size_t from, size_t size);

    uint32_t threads_ = 0, warps_ = 0;
    size_t dynamic_ = 0, static_used_ = 0, static_size_ = 0;
    std::vector<unsigned char> bytes_; /* from BASE on                        */
    uint32_t quads_ = 0;
    std::vector<Touch> touches_;                /* [record][warp] */
    std::vector<Word> words_;                   /* [record] */
    std::vector<std::vector<uint32_t>> fences_; /* [thread]: marks */
    struct Declared {
        const void *key;
        uint32_t address;
        size_t size;
    };
    std::vector<Declared> declared_;
};

} // namespace simulator

#endif
