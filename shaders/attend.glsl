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
    uint start; // 0 where the pooled keys come before the key blocks, else 1
    uvec2 bias; // of the pooled keys
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
    uint i = block - G.prefix_blocks; // wraps for prefix blocks
    bool pools = G.tail != DRAFT_ABI_TAIL_DROP && (a.flags & DRAFT_ABI_KEPT_ONLY) == 0;
    w.start = pools && i < G.video_blocks ? 0 : 1;
    w.bias = at(at(part(G.bias), row * G.video_blocks, G.bias_stride, 2), i, G.bias_stride, 2);
    return w;
}

// Entry n of the list. (Software drivers may run a loop's body once more with all lanes off.)
Block key_block(Work w, uint n)
{
    return block_of(w.sample_index, get16(w.list, min(n, w.count - 1)));
}

// Keys that one loop goes through: the tokens of a block, or pooled keys, which lie like a block of
// one row.
struct KeyRows {
    Block b;
    uvec2 k, v;              // row of the first
    uint k_stride, v_stride; // from token to token, in units
    uvec2 bias;              // of each pooled key; 0 for tokens, which have none
};

// For n from w.start to w.count: the pooled keys of the blocks that are left out, then the list.
KeyRows key_rows(Work w, uint n)
{
    KeyRows keys;
    if (n == 0) {
        uint s = G.video_blocks, head = w.sample_index * G.kv_heads + w.head / G.group;
        keys.b = Block(0, 1, 1, s, s, s);
        keys.k_stride = keys.v_stride = G.dim / PER_UNIT;
        keys.k = at(part(G.tail_k), head * s, keys.k_stride, 4);
        keys.v = at(part(G.tail_v), head * s, keys.v_stride, 4);
        keys.bias = w.bias;
        return keys;
    }
    keys.b = key_block(w, n - 1);
    keys.k_stride = a.k_token;
    keys.v_stride = a.v_token;
    keys.k = at(w.k_head, keys.b.first, a.k_token, 4);
    keys.v = at(w.v_head, keys.b.first, a.v_token, 4);
    keys.bias = uvec2(0);
    return keys;
}

// What is added to the logits of key i: -INF beyond the last, and where a pooled key stands for a
// block that is kept.
float bias_of(KeyRows keys, uint i)
{
    if (i >= keys.b.valid)
        return -INF;
    float bias = any2(keys.bias) ? Floats(keys.bias).v[i] : 0.0;
    return (floatBitsToUint(bias) >> 31) != 0 ? -INF : bias;
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
