/* SPDX-License-Identifier: MIT
 *
 * The image of a module, for tests. */
#ifndef DRAFT_TESTS_SIMULATOR_IMAGE_H
#define DRAFT_TESTS_SIMULATOR_IMAGE_H

#include <cstdint>

/* As nvcc would write it, with nothing in it. */
struct image {
    uint32_t magic;
    uint16_t version, header_size;
    uint64_t size;
    uint16_t kind, entry_version;
    uint32_t entry_header_size;
    uint64_t entry_size;
    uint32_t unused[3], arch, more[8];
};
constexpr uint32_t MAGIC = 0xba55ed50;
constexpr uint16_t PTX = 1, ELF = 2;

inline image make_image(uint16_t kind, uint32_t arch)
{
    return {MAGIC, 1, 16, 64, kind, 1, 64, 0, {}, arch, {}};
}

#endif
