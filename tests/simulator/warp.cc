/* SPDX-License-Identifier: MIT
 *
 * The instructions of sm_80 that move and multiply matrices. Layout of fragments: PTX ISA,
 * "Matrix Fragments for mma.m16n8k16" and "ldmatrix",
 * https://docs.nvidia.com/cuda/parallel-thread-execution/ */
#include <cstring>

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

struct MultiplySlot {
    float *c;
    const uint32_t *a;
    uint32_t b[2];
};

/* In order of k. */
static void multiply_matrices(const float a[16][16], const float b[16][8], float c[16][8])
{
    typedef float Row __attribute__((vector_size(32)));
    Row rows[16], sum;
    std::memcpy(rows, b, sizeof rows);
    for (uint32_t i = 0; i < 16; i++) {
        std::memcpy(&sum, c[i], sizeof sum);
        for (uint32_t k = 0; k < 16; k++)
            sum += a[i][k] * rows[k];
        std::memcpy(c[i], &sum, sizeof sum);
    }
}

/* Elements are gathered first and converted together: compilers make vectors of that. */
template <float (*to_f32)(uint16_t)>
static void perform_multiply(Warp &, void *const slots[WARP_SIZE])
{
    uint16_t a16[16][16], b16[16][8];
    float a[16][16], b[16][8], c[16][8];
    for (uint32_t lane = 0; lane < WARP_SIZE; lane++) {
        const MultiplySlot &slot = *static_cast<const MultiplySlot *>(slots[lane]);
        uint32_t r = lane / 4, n = lane % 4 * 2;
        for (uint32_t i = 0; i < 4; i++)
            std::memcpy(&a16[r + i % 2 * 8][n + i / 2 * 8], &slot.a[i], 4);
        for (uint32_t i = 0; i < 2; i++) {
            b16[n + i * 8][r] = static_cast<uint16_t>(slot.b[i]);
            b16[n + i * 8 + 1][r] = static_cast<uint16_t>(slot.b[i] >> 16);
            std::memcpy(&c[r + i * 8][n], &slot.c[i * 2], 8);
        }
    }
    for (uint32_t i = 0; i < 16; i++) {
        for (uint32_t k = 0; k < 16; k++)
            a[i][k] = to_f32(a16[i][k]);
        for (uint32_t j = 0; j < 8; j++)
            b[i][j] = to_f32(b16[i][j]);
    }
    multiply_matrices(a, b, c);
    for (uint32_t lane = 0; lane < WARP_SIZE; lane++) {
        const MultiplySlot &slot = *static_cast<const MultiplySlot *>(slots[lane]);
        uint32_t r = lane / 4, n = lane % 4 * 2;
        for (uint32_t i = 0; i < 2; i++)
            std::memcpy(&slot.c[i * 2], &c[r + i * 8][n], 8);
    }
}

static const Collective multiply_f16 = {"multiply_add of f16", perform_multiply<f16_to_f32>};
static const Collective multiply_bf16 = {"multiply_add of bf16", perform_multiply<bf16_to_f32>};

void multiply_add(float c[4], const uint32_t a[4], uint32_t b0, uint32_t b1, bool bf16)
{
    MultiplySlot slot = {c, a, {b0, b1}};
    warp_together(bf16 ? multiply_bf16 : multiply_f16, &slot);
}

} // namespace simulator
