// SPDX-License-Identifier: MIT
//
// attend for sm_90a: tiles by tensor maps, products of warp groups.
//
//   thread block   one on each multiprocessor; takes query blocks in their work order
//   warp group 0   one warp of it brings tiles: attend_sm90_bring.cuh; one looks for the next query
//                  block: attend_sm90_next.cuh; one stores: attend_sm90_store.cuh
//   groups 1, 2    multiply, 64 query rows each: attend_sm90_multiply.cuh
//   step           one key block of DRAFT_BLOCK slots
//   shared memory  q, which becomes out, of 2 query blocks; stages of k and of v: 2 each for dim
//                  128, 192 KB; 4 for dim 64, 160 KB, whose steps are half as long while memory
//                  takes as long to answer
//
//   brings     k(0) q  k(1) v(0)  k(2) v(1) ...  k(0) q of the next while the last is finished
//   group 1    qk(0) softmax(0) | qk(1) pv(0) | softmax(1)  | qk(2) pv(1) |
//   group 2                       softmax(0)  | qk(1) pv(0) | softmax(1)  | ...
//
// draft_attend90_tail_*, for plans with a tail: the first steps are of pooled keys,
// attend_sm90_tail.cuh.
// The two groups take turns at the matrix units, so that the softmax of one runs under the products
// of the other; from one query block to the next they do not wait for each other. Slots are
// numbered within the whole tile, and those outside the grid arrive as zeros; a mask for each class
// of blocks keeps them out of the softmax.
// Bound by the matrix units: 4 x 128 x 128 x DIM flops a step, for 512 x DIM bytes.
#include "attend_sm90_bring.cuh"
#include "attend_sm90_multiply.cuh"

// Before each launch of attend: the counter of query blocks.
KERNEL(draft_attend90_reset, CUDA_ATTEND90_RESET_THREADS, 1)
{
    if (thread_id() == 0)
        next_item(a)[0] = 0;
}

// Does a slot of a video tile of this class lie inside the grid?
DEVICE bool slot_inside(Geometry g, u32 class_, u32 slot)
{
    u32 w = slot % g->tile_w, row = slot / g->tile_w;
    u32 h = row % g->tile_h, t = row / g->tile_h;
    u32 frames = class_ & 1 ? g->frames % g->tile_t : g->tile_t;
    u32 height = class_ & 2 ? g->height % g->tile_h : g->tile_h;
    u32 width = class_ & 4 ? g->width % g->tile_w : g->tile_w;
    return t < frames && h < height && w < width;
}

// Bit i of word i / 32: slot i is inside. By the first ROWS threads.
DEVICE void fill_masks(Geometry g, Shared<u32> masks)
{
    if (thread_id() >= ROWS)
        return;
    for (u32 c = 0; c < DRAFT_CLASS_TEXT; c++) {
        u32 word = warp_ballot(slot_inside(g, c, thread_id()));
        if (lane_id() == 0)
            masks[c * MASK_WORDS + warp_id()] = word;
    }
}

// Tiles may have fewer than ROWS slots: what tensor maps never write must be numbers.
template <u32 DIM> DEVICE void clear_tiles(const Tiles<DIM> &tiles)
{
    for (u32 i = thread_id(); i < Tiles<DIM>::BYTES / 4; i += CUDA_ATTEND90_THREADS)
        store_shared(tiles.base + i * 4, 0);
    fence_async();
}

template <class T, u32 DIM, bool TAIL>
DEVICE void attend(const draft_args &a, const cuda_tensor_maps &maps)
{
    SHARED_ARRAY(u64, barriers, BARRIERS);
    SHARED_ARRAY(u32, masks, DRAFT_CLASS_TEXT * MASK_WORDS);
    SHARED_ARRAY(u32, messages, MESSAGES);
    SHARED_ARRAY(BiasPair, biases, TAIL ? STAGES<DIM> * BIAS_PAIRS : 1);
    // uniform: or the compiler makes these addresses again in each step, from a special register
    Tiles<DIM> tiles = {uniform((shared_address(dynamic_shared<Unit>()) + 1023) / 1024 * 1024)};
    Signals signals = {uniform(shared_address<u64>(barriers)), messages, masks, biases};
    if (thread_id() == 0)
        signals.init();
    fill_masks(geometry_of(a), masks);
    clear_tiles(tiles);
    block_barrier();
    if (uniform(thread_id() / WARP_GROUP) == 0) {
        give_registers<BRING_REGISTERS>();
        u32 warp = uniform(warp_id());
        if (warp == 0)
            bring<DIM, TAIL>(a, maps, tiles, signals);
        else if (warp == 1)
            find_items<TAIL>(a, signals);
        else if (warp == 2)
            store_items<DIM>(a, maps, tiles, signals);
    } else {
        take_registers<MULTIPLY_REGISTERS>();
        multiply<T, DIM, TAIL>(a, tiles, signals);
    }
}

KERNEL_WITH_MAPS(draft_attend90_f16_64, CUDA_ATTEND90_THREADS, 1)
{
    attend<F16, 64, false>(a, maps);
}

KERNEL_WITH_MAPS(draft_attend90_f16_128, CUDA_ATTEND90_THREADS, 1)
{
    attend<F16, 128, false>(a, maps);
}

KERNEL_WITH_MAPS(draft_attend90_bf16_64, CUDA_ATTEND90_THREADS, 1)
{
    attend<BF16, 64, false>(a, maps);
}

KERNEL_WITH_MAPS(draft_attend90_bf16_128, CUDA_ATTEND90_THREADS, 1)
{
    attend<BF16, 128, false>(a, maps);
}

KERNEL_WITH_MAPS(draft_attend90_tail_f16_64, CUDA_ATTEND90_THREADS, 1)
{
    attend<F16, 64, true>(a, maps);
}

KERNEL_WITH_MAPS(draft_attend90_tail_f16_128, CUDA_ATTEND90_THREADS, 1)
{
    attend<F16, 128, true>(a, maps);
}

KERNEL_WITH_MAPS(draft_attend90_tail_bf16_64, CUDA_ATTEND90_THREADS, 1)
{
    attend<BF16, 64, true>(a, maps);
}

KERNEL_WITH_MAPS(draft_attend90_tail_bf16_128, CUDA_ATTEND90_THREADS, 1)
{
    attend<BF16, 128, true>(a, maps);
}
