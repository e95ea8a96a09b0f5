// SPDX-License-Identifier: MIT
//
// Scorer EXCESS: x_bj of a quarter of queries and a key block, from the products with the means of
// its parts. See DRAFT_PARTS and struct draft_geometry. Needs THREADS, and STEP, the number of
// parts that are added at once, and parts.glsl.

// The share that each part has of the tokens of a block, for each class of blocks. Part 0 always
// has some.
shared float shares[DRAFT_CLASS_TEXT][DRAFT_PARTS];

// Ends with a barrier.
void fill_shares()
{
    for (uint i = gl_LocalInvocationID.x; i < DRAFT_CLASS_TEXT * DRAFT_PARTS; i += THREADS) {
        uint number = i % DRAFT_PARTS, edges = i / DRAFT_PARTS;
        uvec3 grid = uvec3(G.width, G.height, G.frames), tile = tile_extent();
        bvec3 cut_off = notEqual(edges & uvec3(4, 2, 1), uvec3(0));
        Box box = piece_box(piece_of(number), mix(tile, grid % tile, cut_off));
        uvec3 inside = max(mix(tile, grid % tile, cut_off), uvec3(1)); // a class may not occur
        shares[edges][number] = float(box_tokens(box)) / float(inside.x * inside.y * inside.z);
    }
    barrier();
}

// Class << 8 | tokens of video block j.
uint span_info(uint j)
{
    uvec2 spans = at(add64(a.geometry, uvec2(4 * DRAFT_CLASSES * DRAFT_BLOCK, 0)), G.tables, 1, 4);
    return Words(spans).v[2 * (G.prefix_blocks + j) + 1];
}

// Of the parts so far: the largest y, and sums of w e^(y - most), w (most - y) and w.
struct Parts {
    float most, sum, below, share;
};

// Add STEP more. Without tokens a part counts for nothing.
void add_parts(inout Parts p, bool first, float y[STEP], float w[STEP])
{
    float before = first ? y[0] : p.most, most = before;
    [[unroll]] for (uint c = 0; c < STEP; c++) {
        y[c] = w[c] > 0.0 ? y[c] : before;
        most = max(most, y[c]);
    }
    p.sum *= exp(before - most);
    p.below += p.share * (most - before);
    [[unroll]] for (uint c = 0; c < STEP; c++) {
        p.sum = fma(w[c], exp(y[c] - most), p.sum);
        p.below = fma(w[c], most - y[c], p.below);
        p.share += w[c];
    }
    p.most = most;
}

float excess(Parts p, float tokens)
{
    float log_sum = log(p.sum), gap = max(log_sum + p.below, 0.0);
    return log(tokens) + p.most + log_sum + log(1.0 - (1.0 - DRAFT_EXCESS_LEAST) * exp(-gap));
}

#if STEP == DRAFT_PARTS
// The shares of the parts of a key block with this info.
void shares_of(uint info, out float w[DRAFT_PARTS])
{
    [[unroll]] for (uint c = 0; c < DRAFT_PARTS; c++)
        w[c] = shares[info >> 8][c];
}

// x from the products with all parts. w: their shares.
float excess_of(vec4 products[DRAFT_PARTS / 4], float w[DRAFT_PARTS], uint info)
{
    float y[DRAFT_PARTS];
    [[unroll]] for (uint c = 0; c < DRAFT_PARTS; c++)
        y[c] = products[c / 4][c % 4] * G.scale;
    Parts p = Parts(0.0, 0.0, 0.0, 0.0);
    add_parts(p, true, y, w);
    return excess(p, float(info & 0xffu));
}
#endif
