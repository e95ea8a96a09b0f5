// SPDX-License-Identifier: MIT
//
// What the kernels of attend share: which rows and which keys a workgroup works on.
#include "tile.glsl"
#include "elements.glsl"

struct Work {
    uint sample_index, head;
    Block b;                      // of queries
    uvec2 q_head, k_head, v_head; // rows of q from b.first, of k and v from token 0 on
    uvec2 list;
    uint count; // key blocks; 0 where all of b lies beyond the valid text
};

// Query blocks of a head in their work order, head by head.
Work work_of(uint item)
{
    Work w;
    uint row = item / G.blocks, block = get16(at(part(G.order), row, G.blocks, 1), item % G.blocks);
    w.sample_index = row / G.heads;
    w.head = row % G.heads;
    w.b = block_of(w.sample_index, block);
    uint kv_head = w.head / G.group;
    w.q_head = row_at(a.q, w.sample_index, a.q_batch, w.head, a.q_head, w.b.first, a.q_token);
    w.k_head = row_at(a.k, w.sample_index, a.k_batch, kv_head, a.k_head, 0, 0);
    w.v_head = row_at(a.v, w.sample_index, a.v_batch, kv_head, a.v_head, 0, 0);
    w.list = at(at(part(G.lists), row * G.blocks, G.blocks, 1), block, G.blocks, 1);
    w.count = w.b.valid > 0 ? Words(at(part(G.counts), row, G.blocks, 2)).v[block] : 0;
    return w;
}

// Entry n of the list. (Software drivers may run a loop's body once more with all lanes off.)
Block key_block(Work w, uint n)
{
    return block_of(w.sample_index, get16(w.list, min(n, w.count - 1)));
}

uvec2 query_row(Work w, uint slot)
{
    return at(w.q_head, slot_token(w.b, slot), a.q_token, 4);
}

uvec2 out_row(Work w, uint slot)
{
    uvec2 out_head = row_at(a.o, w.sample_index, a.out_batch, w.head, a.out_head, w.b.first,
                            a.out_token);
    return at(out_head, slot_token(w.b, slot), a.out_token, 4);
}

void store_lse(Work w, uint slot, float lse)
{
    uint row = w.sample_index * G.heads + w.head;
    if (any2(a.lse))
        Floats(at(a.lse, row, G.tokens, 2)).v[w.b.first + slot_token(w.b, slot)] = lse;
}
