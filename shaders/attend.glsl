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

// Entry n of the list. (Software drivers may run a loop's body once more with all lanes off, even
// where the list is empty.)
Block key_block(Work w, uint n)
{
    uint entry = get16(w.list, min(n, max(w.count, 1) - 1));
    return block_of(w.sample_index, min(entry, G.blocks - 1));
}

// Keys that one loop goes through: the tokens of a block, or pooled keys, which lie like a block of
// one row.
struct KeyRows {
    Block b;                 // without its place: `first` has no meaning
    uvec2 k, v;              // row of the first
    uint k_stride, v_stride; // from token to token, in units
    uvec2 bias;              // of each pooled key; 0 for tokens, which have none
};

// For n from w.start to w.count: the pooled keys of the blocks that are left out, then the list.
// There is no branch, as software drivers may have no lane on where they use the result.
KeyRows key_rows(Work w, uint n)
{
    bool pools = n == 0;
    bvec2 pools2 = bvec2(pools);
    uint s = G.video_blocks, head = w.sample_index * G.kv_heads + w.head / G.group;
    uint stride = G.dim / PER_UNIT;
    Block b = key_block(w, max(n, 1) - 1);
    KeyRows keys;
    keys.k_stride = mix(a.k_token, stride, pools);
    keys.v_stride = mix(a.v_token, stride, pools);
    keys.k = mix(at(w.k_head, b.first, a.k_token, 4), at(part(G.tail_k), head * s, stride, 4),
                 pools2);
    keys.v = mix(at(w.v_head, b.first, a.v_token, 4), at(part(G.tail_v), head * s, stride, 4),
                 pools2);
    keys.bias = mix(uvec2(0), w.bias, pools2);
    b.frames = mix(b.frames, 1, pools);
    b.height = mix(b.height, 1, pools);
    b.width = mix(b.width, s, pools);
    b.valid = mix(b.valid, s, pools);
    b.size = mix(b.size, s, pools);
    keys.b = b;
    return keys;
}

// What is added to the logits of key i of `count`: -INF beyond the last, and where a pooled key
// stands for a block that is kept.
float bias_at(uvec2 row, uint count, uint i)
{
    if (i >= count)
        return -INF;
    float bias = any2(row) ? Floats(row).v[i] : 0.0;
    return (floatBitsToUint(bias) >> 31) != 0 ? -INF : bias;
}

float bias_of(KeyRows keys, uint i)
{
    return bias_at(keys.bias, keys.b.valid, i);
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
