/* SPDX-License-Identifier: MIT
 *
 * Floating types of 16 bits. */
#ifndef DRAFT_TESTS_SIMULATOR_NUMBERS_H
#define DRAFT_TESTS_SIMULATOR_NUMBERS_H

#include <cstdint>
#include <cstring>

namespace simulator
{

inline float f16_to_f32(uint16_t x)
{
    /* An exponent of all ones becomes 2^16 and more, where infinity and NaN are to be. */
    uint32_t sign = (x & 0x8000u) << 16, rest = (x & 0x7fffu) << 13, bits;
    float value;
    std::memcpy(&value, &rest, 4);
    value *= 0x1p112f;
    std::memcpy(&bits, &value, 4);
    bits |= sign | (rest >= 0x7c00u << 13 ? 0x7f800000u : 0u);
    std::memcpy(&value, &bits, 4);
    return value;
}

inline float bf16_to_f32(uint16_t x)
{
    uint32_t bits = static_cast<uint32_t>(x) << 16;
    float value;
    std::memcpy(&value, &bits, 4);
    return value;
}

/* To nearest, ties to even. */
inline uint16_t f32_to_f16(float x)
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

inline uint16_t f32_to_bf16(float x)
{
    uint32_t bits;
    std::memcpy(&bits, &x, 4);
    if ((bits & 0x7fffffffu) > 0x7f800000u)
        return 0x7fff;
    return static_cast<uint16_t>((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

} // namespace simulator

#endif
