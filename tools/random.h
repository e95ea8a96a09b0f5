/* SPDX-License-Identifier: MIT
 *
 * Random numbers that can be asked for in any order: the n-th number of a stream is a hash of n
 * (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014). Integer arithmetic
 * only until the last step, so every machine gets the same. */
#ifndef DRAFT_TOOLS_RANDOM_H
#define DRAFT_TOOLS_RANDOM_H

#include <stdint.h>

/* The n-th number of a stream. */
static inline uint64_t random_bits(uint64_t stream, uint64_t n)
{
    uint64_t z = stream + (n + 1) * 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

/* A stream of its own for a purpose. */
static inline uint64_t random_stream(uint64_t seed, uint64_t purpose)
{
    return random_bits(random_bits(seed, 0x5eed), purpose);
}

/* In [0, 1). */
static inline float random_uniform(uint64_t stream, uint64_t n)
{
    return (float)(random_bits(stream, n) >> 40) * 0x1p-24f;
}

/* Mean 0, variance 1, nearly normal: the sum of four uniform numbers. Within +-3.47, which spares
 * half precision the outliers, and it costs one hash. */
static inline float random_normal(uint64_t stream, uint64_t n)
{
    uint64_t z = random_bits(stream, n);
    int32_t sum = (int32_t)(z & 0xffff) + (int32_t)(z >> 16 & 0xffff) +
                  (int32_t)(z >> 32 & 0xffff) + (int32_t)(z >> 48);
    return (float)(sum - 131070) * (1.7320508f / 65536.0f);
}

#endif
