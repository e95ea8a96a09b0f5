/* SPDX-License-Identifier: MIT
 *
 * The instructions of sm_80 that move and multiply matrices. Layout of fragments: PTX ISA,
 * "Matrix Fragments for mma.m16n8k16" and "ldmatrix",
 * https://docs.nvidia.com/cuda/parallel-thread-execution/ */
#include <cstring>

#include "arithmetic.h"
#include "execute.h"

namespace simulator
{

/* ---- cp.async ---- */

void copy_async(uint32_t to, uint64_t from, bool inside)
{
    AsyncCopies &copies = self().copies;
    if (inside)
        check_global(from, 16, 16);
    self().block->shared.copy_begins(to);
    if (copies.groups.empty())
        copies.groups.emplace_back();
    copies.groups.back().push_back({to, inside ? from : 0});
}

void copy_commit()
{
    AsyncCopies &copies = self().copies;
    if (copies.groups.empty())
        copies.groups.emplace_back();
    copies.groups.emplace_back(); /* the one that is being filled from now on */
}

/* As late as the rules allow: nothing arrives before it is waited for. */
void copy_wait(unsigned pending)
{
    AsyncCopies &copies = self().copies;
    while (copies.groups.size() > pending + 1u) {
        for (const AsyncCopy &copy : copies.groups.front())
            self().block->shared.copy_ends(copy.to, reinterpret_cast<const void *>(copy.from));
        copies.groups.erase(copies.groups.begin());
    }
}

/* ---- ldmatrix ---- */

struct LoadSlot {
    uint32_t address;
    uint32_t *x;
};

static void perform_load(Warp &warp, void *const slots[WARP_SIZE], bool transposed)
{
    uint16_t rows[4][8][8];
    for (uint32_t lane = 0; lane < WARP_SIZE; lane++) {
        uint32_t address = static_cast<const LoadSlot *>(slots[lane])->address;
        std::memcpy(rows[lane / 8][lane % 8],
                    warp.block->shared.access(address, 16, 16, SharedMemory::Access::warp_read),
                    16);
    }
    for (uint32_t lane = 0; lane < WARP_SIZE; lane++)
        for (uint32_t i = 0; i < 4; i++) {
            uint32_t r = lane / 4, c = lane % 4 * 2;
            uint32_t low = transposed ? rows[i][c][r] : rows[i][r][c];
            uint32_t high = transposed ? rows[i][c + 1][r] : rows[i][r][c + 1];
            static_cast<const LoadSlot *>(slots[lane])->x[i] = low | high << 16;
        }
}

static const Collective load_plain = {
    "load_matrices", [](Warp &w, void *const *slots) { perform_load(w, slots, false); }};
static const Collective load_transposed = {
    "load_matrices_transposed", [](Warp &w, void *const *slots) { perform_load(w, slots, true); }};

void load_matrices(uint32_t x[4], uint32_t address, bool transposed)
{
    LoadSlot slot = {address, x};
    warp_together(transposed ? load_transposed : load_plain, &slot);
}

/* ---- mma.m16n8k16 ---- */

/* Elements are gathered first and converted together. */
template <bool bf16>
static void gather_left(void *const slots[WARP_SIZE], uint32_t row, RowPair a[8])
{
    uint16_t a16[16][16];
    for (uint32_t lane = 0; lane < WARP_SIZE; lane++) {
        const uint32_t *from = static_cast<const Multiplication *>(slots[lane])->a + row * 4;
        for (uint32_t i = 0; i < 4; i++)
            std::memcpy(&a16[lane / 4 + i % 2 * 8][lane % 4 * 2 + i / 2 * 8], &from[i], 4);
    }
    for (uint32_t i = 0; i < 8; i++)
        convert_rows<bf16>(a[i], a16[2 * i], a16[2 * i + 1]);
}

struct RightOperand {
    Columns values[16];
    ColumnExponents exponents[16];
};

template <bool bf16>
static void gather_right(void *const slots[WARP_SIZE], uint32_t column, RightOperand &b)
{
    uint16_t b16[16][8];
    for (uint32_t lane = 0; lane < WARP_SIZE; lane++) {
        const uint32_t *from = static_cast<const Multiplication *>(slots[lane])->b + column * 2;
        for (uint32_t i = 0; i < 2; i++) {
            uint32_t k = lane % 4 * 2 + i * 8;
            b16[k][lane / 4] = static_cast<uint16_t>(from[i]);
            b16[k + 1][lane / 4] = static_cast<uint16_t>(from[i] >> 16);
        }
    }
    for (uint32_t k = 0; k < 16; k++)
        convert_columns<bf16>(b.values[k], b.exponents[k], b16[k]);
}

static void multiply_matrices(const RowPair a[8], const RightOperand &b, float c[16][8])
{
    static const bool sm90 = model().major >= 9;
    for (uint32_t i = 0; i < 16; i += 2) {
        Columns sum[2];
        std::memcpy(sum, c[i], sizeof sum);
        if (sm90)
            add_products<1, true>(sum, a[i / 2], b.values, b.exponents);
        else
            add_products<1, false>(sum, a[i / 2], b.values, b.exponents);
        std::memcpy(c[i], sum, sizeof sum);
    }
}

/* Between the registers of the lanes and the matrix. */
template <bool store>
static void move_result(void *const slots[WARP_SIZE], uint32_t row, uint32_t column, float c[16][8])
{
    for (uint32_t lane = 0; lane < WARP_SIZE; lane++) {
        const Multiplication &slot = *static_cast<const Multiplication *>(slots[lane]);
        float *own = slot.c + row * slot.stride + column * 4;
        for (uint32_t i = 0; i < 2; i++) {
            float *at = &c[lane / 4 + i * 8][lane % 4 * 2];
            std::memcpy(store ? own + i * 2 : at, store ? at : own + i * 2, 8);
        }
    }
}

template <bool bf16> static void perform_multiply(Warp &, void *const slots[WARP_SIZE])
{
    const Multiplication &first = *static_cast<const Multiplication *>(slots[0]);
    RowPair a[8];
    RightOperand b[2];
    float c[16][8];
    for (uint32_t column = 0; column < first.columns; column++)
        gather_right<bf16>(slots, column, b[column]);
    for (uint32_t row = 0; row < first.rows; row++) {
        gather_left<bf16>(slots, row, a);
        for (uint32_t column = 0; column < first.columns; column++) {
            move_result<false>(slots, row, column, c);
            multiply_matrices(a, b[column], c);
            move_result<true>(slots, row, column, c);
        }
    }
}

static const Collective multiply_f16 = {"multiply_add of f16", perform_multiply<false>};
static const Collective multiply_bf16 = {"multiply_add of bf16", perform_multiply<true>};

void multiply_add(Multiplication slot, bool bf16)
{
    warp_together(bf16 ? multiply_bf16 : multiply_f16, &slot);
}

} // namespace simulator
