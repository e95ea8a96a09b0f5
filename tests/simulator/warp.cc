/* SPDX-License-Identifier: MIT
 *
 * The instructions of sm_80 that move and multiply matrices. Layout of fragments: PTX ISA,
 * "Matrix Fragments for mma.m16n8k16" and "ldmatrix",
 * https://docs.nvidia.com/cuda/parallel-thread-execution/ */
#include <cstring>

#include "execute.h"

namespace simulator
{

/* ---- Numbers ---- */

float f16_to_f32(uint16_t x)
{
    uint32_t sign = (x & 0x8000u) << 16, rest = x & 0x7fffu, bits;
    float value;
    if (rest >= 0x7c00u) { /* infinity, NaN */
        bits = sign | 0x7f800000u | (rest & 0x3ffu) << 13;
        std::memcpy(&value, &bits, 4);
        return value;
    }
    bits = rest << 13;
    std::memcpy(&value, &bits, 4);
    value *= 0x1p112f;
    return sign ? -value : value;
}

float bf16_to_f32(uint16_t x)
{
    uint32_t bits = static_cast<uint32_t>(x) << 16;
    float value;
    std::memcpy(&value, &bits, 4);
    return value;
}

/* To nearest, ties to even. */
uint16_t f32_to_f16(float x)
{
    uint32_t bits;
    std::memcpy(&bits, &x, 4);
    uint32_t sign = bits >> 16 & 0x8000u, rest = bits & 0x7fffffffu;
    if (rest > 0x7f800000u)
        return 0x7fff;
    if (rest >= 0x477ff000u)
        return static_cast<uint16_t>(sign | 0x7c00u);
    if (rest < 0x38800000u) { /* a multiple of 2^-24: the addition rounds */
        float value;
        std::memcpy(&value, &rest, 4);
        value += 0.5f;
        std::memcpy(&rest, &value, 4);
        return static_cast<uint16_t>(sign | (rest - 0x3f000000u));
    }
    rest += 0xfffu + (rest >> 13 & 1u);
    return static_cast<uint16_t>(sign | (rest - 0x38000000u) >> 13);
}

uint16_t f32_to_bf16(float x)
{
    uint32_t bits;
    std::memcpy(&bits, &x, 4);
    if ((bits & 0x7fffffffu) > 0x7f800000u)
        return 0x7fff;
    return static_cast<uint16_t>((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

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

template <float (*to_f32)(uint16_t)>
static void perform_multiply(Warp &, void *const slots[WARP_SIZE])
{
    float a[16][16], b[16][8], c[16][8];
    for (uint32_t lane = 0; lane < WARP_SIZE; lane++) {
        const MultiplySlot &slot = *static_cast<const MultiplySlot *>(slots[lane]);
        uint32_t r = lane / 4, n = lane % 4 * 2;
        for (uint32_t e = 0; e < 2; e++) {
            for (uint32_t i = 0; i < 4; i++)
                a[r + i % 2 * 8][n + i / 2 * 8 + e] =
                    to_f32(static_cast<uint16_t>(slot.a[i] >> 16 * e));
            for (uint32_t i = 0; i < 2; i++)
                b[n + i * 8 + e][r] = to_f32(static_cast<uint16_t>(slot.b[i] >> 16 * e));
            c[r][n + e] = slot.c[e];
            c[r + 8][n + e] = slot.c[2 + e];
        }
    }
    for (uint32_t i = 0; i < 16; i++)
        for (uint32_t k = 0; k < 16; k++)
            for (uint32_t j = 0; j < 8; j++)
                c[i][j] += a[i][k] * b[k][j];
    for (uint32_t lane = 0; lane < WARP_SIZE; lane++) {
        const MultiplySlot &slot = *static_cast<const MultiplySlot *>(slots[lane]);
        uint32_t r = lane / 4, n = lane % 4 * 2;
        for (uint32_t e = 0; e < 2; e++) {
            slot.c[e] = c[r][n + e];
            slot.c[2 + e] = c[r + 8][n + e];
        }
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
