/* SPDX-License-Identifier: MIT
 *
 * Arithmetic as GPUs do it, where that is not what the processor does.
 *
 *   2^x, log2 x     ex2.approx.ftz.f32 and lg2.approx.ftz.f32 promise a largest error, and certain
 *                   results for arguments such as 0 and infinity: PTX ISA, "Floating Point
 *                   Instructions: lg2" and "ex2",
 *                   https://docs.nvidia.com/cuda/parallel-thread-execution/
 *                   Here they have errors up to that size, which follow from the argument's bits.
 *                   Nothing else is promised, so 2^1 is not 2, and log2 1 is not 0.
 *   matrix units    undocumented, but measured: Fasi et al., "Numerical behavior of NVIDIA tensor
 *                   cores", PeerJ Computer Science 7:e330 (2021); Khattak and Mikaitis, "Accurate
 *                   Models of NVIDIA Tensor Cores", arXiv 2512.07004; Xie et al., "MMA-Sim", arXiv
 *                   2511.10909. Some products and c are aligned to the largest exponent among them,
 *                   where that of a product is the sum of its factors', and cut off, towards zero,
 *                   a fixed number of bits below it; what they add up to, exactly, is cut off to
 *                   f32. sm_8x: 8 products, 24 bits, one half of the depth after the other; sm_90:
 *                   16 products, 25 bits. Denormals count in full, NaN is 0x7fffffff, 0 is +0. */
#ifndef DRAFT_TESTS_SIMULATOR_ARITHMETIC_H
#define DRAFT_TESTS_SIMULATOR_ARITHMETIC_H

#include <cstdint>
#include <cstring>

namespace simulator
{

float exp2_approx(float x);
float log2_approx(float x);

/* ---- Matrix units ---- */

constexpr uint32_t PRODUCT_DEPTH = 16; /* of one instruction */

/* Factors in the order in which they are taken: two rows, and eight columns. */
struct RowPair {
    float of[2][PRODUCT_DEPTH];
    uint32_t exponents[PRODUCT_DEPTH]; /* of the first row below, of the second above */
};
typedef float Columns __attribute__((vector_size(32)));
typedef uint32_t ColumnExponents __attribute__((vector_size(32))); /* below and above alike */

/* 16 of the depth of two rows, and 8 columns of one of the depth. */
template <bool bf16>
void convert_rows(RowPair &to, const uint16_t first[PRODUCT_DEPTH],
                  const uint16_t second[PRODUCT_DEPTH]);
template <bool bf16>
void convert_columns(Columns &to, ColumnExponents &exponents, const uint16_t x[8]);

/* c += a b: two rows by eight columns. b and its exponents: `stride` apart for each of the depth.
 * sm90: as there, or as before. */
template <uint32_t stride, bool sm90>
void add_products(Columns c[2], const RowPair &a, const Columns *b,
                  const ColumnExponents *exponents);

} // namespace simulator

#endif
