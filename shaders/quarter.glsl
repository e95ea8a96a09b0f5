// SPDX-License-Identifier: MIT
//
// The quarters of a video block, see DRAFT_QUARTERS.

// Quarter `number` of block b, a box of the grid like b; valid is 0 where it holds no tokens.
Block quarter_of(Block b, uint number)
{
    uvec3 extent = uvec3(b.width, b.height, b.frames), from = uvec3(0), to = extent;
    uvec3 split = uvec3(G.split_w, G.split_h, G.split_t);
    [[unroll]] for (uint axis = 0; axis < 3; axis++) {
        uint cut = min(split[axis], extent[axis]);
        if (split[axis] == 0)
            continue;
        from[axis] = (number & 1) != 0 ? cut : 0;
        to[axis] = (number & 1) != 0 ? extent[axis] : cut;
        number >>= 1;
    }
    uvec3 size = to - from;
    uint tokens = number == 0 ? size.x * size.y * size.z : 0; // the tile may be cut less than twice
    size = max(size, uvec3(1)); // somebody divides by these
    return Block(b.first + (from.z * G.height + from.y) * G.width + from.x, size.z, size.y, size.x,
                 tokens, size.x * size.y * size.z);
}
