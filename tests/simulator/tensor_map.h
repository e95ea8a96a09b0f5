/* SPDX-License-Identifier: MIT
 *
 * What the simulated driver keeps in the 128 bytes of a tensor map. */
#ifndef DRAFT_TESTS_SIMULATOR_TENSOR_MAP_H
#define DRAFT_TESTS_SIMULATOR_TENSOR_MAP_H

#include <cstdint>

namespace simulator
{

constexpr uint32_t MAX_RANK = 5;

struct TensorMap {
    static constexpr uint64_t MAGIC = 0x70616d2d65656c31;
    uint64_t magic, address;
    uint64_t dims[MAX_RANK];    /* elements; those behind the rank: 1     */
    uint64_t strides[MAX_RANK]; /* bytes; the first: of an element        */
    uint16_t box[MAX_RANK];
    uint8_t rank;
    bool swizzled; /* by 128 bytes */
};
static_assert(sizeof(TensorMap) <= 128, "");

} // namespace simulator

#endif
