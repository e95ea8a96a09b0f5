// SPDX-License-Identifier: MIT
//
// The parts of a video block, see DRAFT_PARTS. Vectors of three are width, height and time.

// Within a tile: first slot, and how many slots.
struct Box {
    uvec3 first, size;
};

uint box_tokens(Box box)
{
    return box.size.x * box.size.y * box.size.z;
}

uvec3 tile_extent()
{
    return uvec3(G.tile_w, G.tile_h, G.tile_t);
}

uvec3 tile_cut()
{
    return uvec3(G.cut_w, G.cut_h, G.cut_t);
}

// Which piece of each axis part `number` is; beyond the cuts where the tile has no such part.
uvec3 piece_of(uint number)
{
    return uvec3(number % G.cut_w, number / G.cut_w % G.cut_h, number / (G.cut_w * G.cut_h));
}

uint number_of(uvec3 piece)
{
    return (piece.z * G.cut_h + piece.y) * G.cut_w + piece.x;
}

// What is inside the grid of a part. It may be nothing, also where there is no such part.
Box piece_box(uvec3 piece, uvec3 inside)
{
    uvec3 cut = tile_cut(), tile = tile_extent();
    uvec3 from = min((piece * tile + cut - 1) / cut, inside);
    uvec3 to = min(((piece + 1) * tile + cut - 1) / cut, inside);
    return Box(from, to - from);
}

// The pieces that make up a quarter; none where the tile is not cut so often.
Box pieces_of_quarter(uint quarter)
{
    Box pieces = Box(uvec3(0), tile_cut());
    uvec3 split = uvec3(G.split_w, G.split_h, G.split_t);
    [[unroll]] for (uint axis = 0; axis < 3; axis++) {
        if (split[axis] == 0)
            continue;
        pieces.size[axis] /= 2;
        pieces.first[axis] = (quarter & 1) != 0 ? pieces.size[axis] : 0;
        quarter >>= 1;
    }
    if (quarter > 0)
        pieces.size = uvec3(0);
    return pieces;
}
