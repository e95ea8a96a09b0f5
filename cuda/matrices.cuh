// SPDX-License-Identifier: MIT
//
// Tiles of 16-bit elements in shared memory, as the matrix units read them.
#pragma once
#include <tile.cuh>

// `rows` rows of elements, in parts of 64 columns: 128 bytes a row, and the 16 bytes at column 8 c
// of row r stand at place c ^ (r % 8), so that 8 rows of one column fall on different banks.
constexpr u32 ROW_BYTES = 128, UNIT_COLUMNS = 8, PART_UNITS = 8;

DEVICE u32 unit_place(u32 rows, u32 row, u32 unit)
{
    u32 place = unit % PART_UNITS ^ row % 8;
    return (unit / PART_UNITS * rows + row) * ROW_BYTES + place * DRAFT_UNIT;
}

// Where lane `lane` points for load_matrices: 16 rows and 16 columns from column 0 on. `a`: the
// rows of matrices 1 and 3 are the lower ones (operand a, and v); else those of 2 and 3 (k).
DEVICE u32 fragment_place(u32 lane, bool a)
{
    u32 matrix = lane / 8, lower = a ? matrix % 2 : matrix / 2, right = a ? matrix / 2 : matrix % 2;
    return unit_place(0, lower * 8 + lane % 8, right);
}

// The same for the columns from 16 * pair on; `place` lies in a tile of `rows` rows.
DEVICE u32 column_pair(u32 place, u32 rows, u32 pair)
{
    return (place ^ pair % (PART_UNITS / 2) * 2 * DRAFT_UNIT) +
           pair / (PART_UNITS / 2) * rows * ROW_BYTES;
}
