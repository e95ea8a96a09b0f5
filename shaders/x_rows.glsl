// SPDX-License-Identifier: MIT
//
// The scratch of scorer EXCESS. For each head of a portion, in f32:
//
//   x      [S][4][S]        x_bj
//   wide   [S][4][WIDTH]    on processors, parts_q and parts_k with zeros behind dim: such drivers
//          [S][16][WIDTH]   unpack for each row what a GPU unpacks on its way to shared memory
//
// Needs CPU, 1 or 0.
#define WIDTH (CPU == 0 ? 0 : G.dim > 64 ? 128 : 64)

// Head number `slot` of the portion.
uvec2 x_head(uint slot)
{
    uint rows = G.video_blocks * DRAFT_QUARTERS, wide_rows = 1 + DRAFT_PARTS / DRAFT_QUARTERS;
    return at(part(G.scratch), slot * rows, G.video_blocks + wide_rows * WIDTH, 2);
}

// Row `row` of its x: quarter row % 4 of query block row / 4.
Floats x_row(uint slot, uint row)
{
    return Floats(at(x_head(slot), row, G.video_blocks, 2));
}

// Row `row` of what is wide: all quarters, then all parts.
uvec2 wide_row(uint slot, uint row)
{
    uvec2 first = at(x_head(slot), G.video_blocks * DRAFT_QUARTERS, G.video_blocks, 2);
    return at(first, row, WIDTH, 2);
}
