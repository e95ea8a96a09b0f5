// SPDX-License-Identifier: MIT
//
// attend_sm90: the warp that brings tiles. Video tiles come by tensor map, one lane; text, whose
// padding may hold anything, by copies of all lanes, with zeros for what does not count.
#pragma once
#include "attend_sm90_next.cuh"

// A block as it is brought: video by the coordinates of its tile, text by its first token; pooled
// keys by the first and the head of keys, counted over all samples.
struct Source {
    u32 w, h, t;
    u32 info; // class << 8 | tokens that count

    DEVICE bool is_text() const
    {
        return info >> 8 == DRAFT_CLASS_TEXT;
    }
    DEVICE bool is_pooled() const
    {
        return info == POOLED;
    }
};

// One tensor: its map, and where text lies.
struct Tensor {
    const cuda_tensor_map *map;
    addr head;       // token 0
    u32 token;       // stride in units
    u32 coordinate;  // of the head in the map
};

DEVICE Source source_of(const draft_args &a, u32 sample, u32 block)
{
    Geometry g = geometry_of(a);
    Span s = read_span(a, sample, block);
    Source source = {s.first, 0, 0, s.class_ << 8 | s.valid};
    if (s.class_ == DRAFT_CLASS_TEXT)
        return source;
    u32 j = block - g->prefix_blocks, row = j / g->tiles_w;
    source.w = j % g->tiles_w * g->tile_w;
    source.h = row % g->tiles_h * g->tile_h;
    source.t = row / g->tiles_h * g->tile_t;
    return source;
}

// ---- One tile -----------------------------------------------------------------------------------

template <u32 DIM>
DEVICE void bring_text(const draft_args &a, const Tensor &tensor, const Source &source, u32 to,
                       u32 full)
{
    constexpr u32 UNITS = DIM / UNIT_COLUMNS, AT_ONCE = WARP / UNITS;
    u32 unit = lane_id() % UNITS, first_row = lane_id() / UNITS, valid = source.info & 255;
    bool column = unit * UNIT_COLUMNS < geometry_of(a)->dim;
    addr first = tensor.head + (addr)source.w * tensor.token * DRAFT_UNIT + unit * DRAFT_UNIT;
    for (u32 row = first_row; row < ROWS; row += AT_ONCE) {
        bool inside = column && row < valid;
        addr from = first + (addr)(inside ? row : 0) * tensor.token * DRAFT_UNIT;
        copy_async(to + unit_place(ROWS, row, unit), global<const Unit>(from), inside);
    }
    copy_commit();
    copy_wait<0>();
    fence_async();
    warp_barrier();
    if (lane_id() == 0)
        barrier_arrive(full);
}

template <u32 DIM>
DEVICE void bring_video(const Tensor &tensor, const Source &source, u32 slots, u32 to, u32 full)
{
    if (lane_id() != 0)
        return;
    barrier_arrive_expect(full, DIM / 64 * slots * ROW_BYTES);
    for (u32 part = 0; part < DIM / 64; part++) {
        const int at[5] = {(int)part * 64, (int)source.w, (int)source.h, (int)source.t,
                           (int)tensor.coordinate};
        tensor_load(to + part * PART_BYTES, *tensor.map, full, at);
    }
}

// Rows behind the last slot of a tile: text may have been there.
template <u32 DIM> DEVICE void clear_tail(u32 tile, u32 slots)
{
    ROLLED for (u32 i = lane_id(); i < (ROWS - slots) * DIM / 2; i += WARP)
    {
        u32 row = slots + i / (DIM / 2), column = i % (DIM / 2) * 2;
        store_shared(tile + unit_place(ROWS, row, column / UNIT_COLUMNS) +
                         column % UNIT_COLUMNS * 2,
                     0);
    }
    fence_async();
    warp_barrier();
}

template <u32 DIM>
DEVICE void bring_tile(const draft_args &a, const Tensor &tensor, const Source &source, u32 to,
                       u32 full)
{
    Geometry g = geometry_of(a);
    if (source.is_text())
        bring_text<DIM>(a, tensor, source, to, full);
    else
        bring_video<DIM>(tensor, source, g->tile_t * g->tile_h * g->tile_w, to, full);
}

// ---- All tiles ----------------------------------------------------------------------------------

// Walks through a list; each lane knows one of 32 entries.
struct List {
    Global<const uint16_t> blocks;
    u32 sample, count;
    Source held;

    DEVICE Source entry(const draft_args &a, u32 n)
    {
        if (n % WARP == 0)
            held = source_of(a, sample, blocks[least(n + lane_id(), count - 1)]);
        u32 lane = n % WARP;
        return {warp_shuffle(held.w, lane), warp_shuffle(held.h, lane),
                warp_shuffle(held.t, lane), warp_shuffle(held.info, lane)};
    }
};

// Walks through the pooled keys of a query block.
struct Pooled {
    u32 row; // of the bias
    u32 count, next; // steps, key

    DEVICE Source entry(const draft_args &a)
    {
        Geometry g = geometry_of(a);
        u32 first = next_pooled(bias_at(a, row), next), head = row / g->video_blocks;
        next = first + DRAFT_BLOCK;
        return {first, head / g->heads * g->kv_heads + head % g->heads / g->group, 0, POOLED};
    }
};

template <u32 DIM, bool TAIL>
DEVICE void bring_k(const draft_args &a, const cuda_tensor_maps &maps, const Tensor &k,
                    const Source &source, u32 bias_row, const Tiles<DIM> &tiles,
                    const Signals &signals, u32 step)
{
    u32 stage = stage_of<DIM>(step), full = signals.at(K_FULL + stage);
    barrier_wait(signals.at(K_EMPTY + stage), parity_of<DIM>(step) ^ 1);
    if (lane_id() == 0)
        signals.messages[SPANS + stage] = source.info;
    if (TAIL && source.is_pooled()) {
        write_bias(signals.biases + stage * BIAS_PAIRS, bias_at(a, bias_row), source.w);
        bring_video<DIM>({&maps.tail_k, 0, 0, 0}, source, ROWS, tiles.k(stage), full);
    } else {
        bring_tile<DIM>(a, k, source, tiles.k(stage), full);
    }
}

// A tile whose rows behind the slots shall be zeros. had_text: bit `place`, they may be something
// else now. Not k: masked logits may be anything. But 0 x infinity of v is no number, and rows of q
// that nobody asked for shall not change the rounding of others.
template <u32 DIM>
DEVICE void bring_rows(const draft_args &a, const Tensor &tensor, const Source &source, u32 to,
                       u32 full, u32 &had_text, u32 place)
{
    Geometry g = geometry_of(a);
    if (source.is_text()) {
        had_text |= 1u << place;
    } else if (had_text >> place & 1) {
        clear_tail<DIM>(to, g->tile_t * g->tile_h * g->tile_w);
        had_text &= ~(1u << place);
    }
    bring_tile<DIM>(a, tensor, source, to, full);
}

template <u32 DIM, bool TAIL>
DEVICE void bring_v(const draft_args &a, const cuda_tensor_maps &maps, const Tensor &v,
                    const Source &source, const Tiles<DIM> &tiles, const Signals &signals,
                    u32 step, u32 &had_text)
{
    u32 stage = stage_of<DIM>(step), to = tiles.v(stage), full = signals.at(V_FULL + stage);
    barrier_wait(signals.at(V_EMPTY + stage), parity_of<DIM>(step) ^ 1);
    if (TAIL && source.is_pooled()) {
        had_text |= 1u << stage;
        bring_video<DIM>({&maps.tail_v, 0, 0, 0}, source, ROWS, to, full);
    } else {
        bring_rows<DIM>(a, v, source, to, full, had_text, stage);
    }
}

template <u32 DIM, bool TAIL>
DEVICE void bring(const draft_args &a, const cuda_tensor_maps &maps, const Tiles<DIM> &tiles,
                  const Signals &signals)
{
    Geometry g = geometry_of(a);
    Shared<u32> next = signals.messages + NEXT;
    u32 step = 0, had_text = 0;
    for (u32 turn = 0;; turn++) {
        barrier_wait(signals.at(NEXT_FULL), turn % 2);
        u32 item = next[ITEM], count = next[STEPS];
        bool more = item != NO_ITEM;
        Work w = work_of(a, more ? item : 0);
        u32 kv_head = w.head / g->group, near = count > AHEAD<DIM> ? count - AHEAD<DIM> : 0;
        Tensor k = {&maps.k, head_at(a.k, w.sample, a.k_batch, kv_head, a.k_head), a.k_token,
                    w.sample * maps.k_index.batch + kv_head * maps.k_index.head};
        Tensor v = {&maps.v, head_at(a.v, w.sample, a.v_batch, kv_head, a.v_head), a.v_token,
                    w.sample * maps.v_index.batch + kv_head * maps.v_index.head};
        Pooled pooled = {};
        if (TAIL)
            pooled = {bias_row(a, w), next[POOLED_STEPS], 0};
        List list = {list_of(a, w), w.sample, count - pooled.count, {}};
        if (near == 0)
            release(signals, NEXT_EMPTY);
        Source now = {};
        if (count > 0) { // does not wait for the end of the last item
            now = pooled.count > 0 ? pooled.entry(a) : list.entry(a, 0);
            bring_k<DIM, TAIL>(a, maps, k, now, pooled.row, tiles, signals, step);
        }
        u32 place = place_of(turn), full = signals.at(Q_FULL + place);
        Shared<u32> message = signals.messages + place * ITEM_WORDS;
        barrier_wait(signals.at(Q_EMPTY + place), place_parity(turn) ^ 1);
        if (lane_id() == 0) {
            message[ITEM] = item;
            message[STEPS] = count;
            if (TAIL)
                message[POOLED_STEPS] = pooled.count;
        }
        if (!more) {
            if (lane_id() == 0)
                barrier_arrive(full);
            return;
        }
        Tensor q = {&maps.q, head_at(a.q, w.sample, a.q_batch, w.head, a.q_head), a.q_token,
                    w.sample * maps.q_index.batch + w.head * maps.q_index.head};
        bring_rows<DIM>(a, q, source_of(a, w.sample, w.block), tiles.q(place), full, had_text,
                        MOST_STAGES + place);
        for (u32 n = 1; n < count; n++) {
            if (n == near)
                release(signals, NEXT_EMPTY);
            Source before = now;
            now = n < pooled.count ? pooled.entry(a) : list.entry(a, n - pooled.count);
            bring_k<DIM, TAIL>(a, maps, k, now, pooled.row, tiles, signals, step + n);
            bring_v<DIM, TAIL>(a, maps, v, before, tiles, signals, step + n - 1, had_text);
        }
        if (count > 0)
            bring_v<DIM, TAIL>(a, maps, v, now, tiles, signals, step + count - 1, had_text);
        step += count;
    }
}
