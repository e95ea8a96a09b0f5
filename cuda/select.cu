// SPDX-License-Identifier: MIT
//
// select: which pairs are kept. Bound by memory bandwidth: rules HEAD and PAPER read the map four
// times, 0.12 ms for HunyuanVideo at 720p; ROW and MASS once from memory and then from the cache.
//
// draft_select_head, rules HEAD and PAPER: the cut of a whole head, S x S pairs.
//
//   step 0               clear the head's histograms
//   step 1 to PASSES     histogram of one digit of the keys
//   step PASSES + 1      ties with the cut in each row, where not all of them are kept
//   thread block         ROWS rows of one head; each finds the digit of the step before by itself,
//                        so no pass is spent on that; the first of a head keeps it for the next
//   warp                 a row at a time, in units of 16 bytes. Most keys fall into few digits:
//                        where lanes count the same one, the hardware adds them up first
//
// draft_select_list: the list of one query block for each thread block.
//
//   step 0   the cut of the head is known: read it, and where not all ties are kept those of the
//            rows before
//   step 1   rules ROW and MASS: find the cut of the row here
//
//            | warp 0              | warp 1              | ...    a section of the row each,
//            | 32 columns | 32 ... | 32 columns | ...             one column for each lane
//
// The same kernels with _more know floors and mark the bias; draft_select_floor: select_floor.cuh.
//
// draft_select_order: query blocks by count, largest first, then by index; one for each thread,
// which counts the blocks that come before it.
#include "select_floor.cuh"

constexpr u32 ROWS = CUDA_SELECT_ROWS;
constexpr u32 WIDE = 4; // units of a lane under way

// ---- Cut of a head -----------------------------------------------------------------------------

// Calls take(inside, j, bits) for the columns of a row, one row for each warp. The row may start
// anywhere in a unit: what is not inside belongs to its neighbours. It can be read, since the parts
// of the workspace begin and end at multiples of a unit.
template <class Take> DEVICE void for_row(const draft_args &a, Geometry g, addr row, Take take)
{
    u32 s = g->video_blocks;
    Global<const Unit> map = global<const Unit>(a.workspace + g->map) + row * s / 4;
    u32 skip = (u32)(row * s % 4), units = div_up(skip + s, 4);
    for (u32 first = lane_id(); first < units; first += WIDE * WARP) {
        Unit x[WIDE];
        UNROLL for (u32 k = 0; k < WIDE; k++)
        {
            x[k] = Unit{{0, 0, 0, 0}};
            if (first + k * WARP < units)
                x[k] = load_unit(map + (first + k * WARP));
        }
        UNROLL for (u32 k = 0; k < WIDE; k++)
            UNROLL for (u32 e = 0; e < 4; e++)
            {
                u32 j = (first + k * WARP) * 4 + e - skip;
                take(j < s, j, x[k].v[e]);
            }
    }
}

// The search after histogram `pass`; the first thread block of the head writes it down.
DEVICE Search advance(const draft_args &a, Geometry g, const Scratch &scratch, u32 head, u32 pass,
                      bool first)
{
    constexpr u32 EACH = DIGITS / THREADS;
    Global<const Unit> digits =
        global<const Unit>(histogram_of(scratch, pass)) + thread_id() * (EACH / 4);
    Search s = next_digit<u32, EACH>(load_state(a, g, scratch, head, pass),
                                     shift_of<DIGIT_BITS>(pass), [&](u32 weights[EACH]) {
                                         UNROLL for (u32 d = 0; d < EACH; d++) weights[d] =
                                             load_unit(digits + d / 4).v[d % 4];
                                     });
    if (first && thread_id() == 0) {
        Global<u32> p = scratch.states + pass * CUDA_SELECT_STATE;
        p[0] = s.prefix;
        p[1] = s.wanted;
        p[2] = s.all_kept;
        p[3] = s.some;
    }
    return s;
}

template <class Pairs>
DEVICE void histogram(const draft_args &a, Geometry g, Global<u32> digits, u32 head, u32 first_row,
                      u32 pass, const Search &s)
{
    SHARED_ARRAY(u32, sums, DIGITS);
    for (u32 d = thread_id(); d < DIGITS; d += THREADS)
        sums[d] = 0;
    block_barrier();
    u32 last = least(first_row + ROWS, g->video_blocks);
    u32 shift = shift_of<DIGIT_BITS>(pass), mask = mask_of<DIGIT_BITS>(pass), prefix = s.prefix;
    for (u32 i = first_row + warp_id(); i < last; i += WARPS) {
        Pairs pairs = pairs_of<Pairs>(a, g, head, i);
        for_row(a, g, (addr)head * g->video_blocks + i, [&](bool inside, u32 j, u32 bits) {
            u32 key = key_of(pairs, j, bits), digit = key >> shift & (DIGITS - 1);
            if (inside & ((key & mask) == prefix))
                atomic_add(sums + digit, 1);
        });
    }
    block_barrier();
    for (u32 d = thread_id(); d < DIGITS; d += THREADS) {
        u32 sum = sums[d];
        if (sum > 0)
            atomic_add(digits + d, sum);
    }
}

template <class Pairs>
DEVICE void count_ties(const draft_args &a, Geometry g, Global<u32> ties, u32 head, u32 first_row,
                       u32 cut)
{
    u32 last = least(first_row + ROWS, g->video_blocks);
    for (u32 i = first_row + warp_id(); i < last; i += WARPS) {
        Pairs pairs = pairs_of<Pairs>(a, g, head, i);
        u32 sum = 0;
        for_row(a, g, (addr)head * g->video_blocks + i, [&](bool inside, u32 j, u32 bits) {
            sum += inside & (key_of(pairs, j, bits) == cut);
        });
        sum = warp_sum(sum);
        if (lane_id() == 0)
            ties[i] = sum;
    }
}

template <class Pairs> DEVICE void select_head(const draft_args &a)
{
    Geometry g = geometry_of(a);
    if (a.step == 0) {
        Global<Unit> digits = global<Unit>(scratch_of(a, g, block_id()).digits);
        for (u32 i = thread_id(); i < PASSES * DIGITS / 4; i += THREADS)
            digits[i] = Unit{{0, 0, 0, 0}};
        return;
    }
    // Every other step backwards: what the step before read last may still be in the cache.
    u32 groups = div_up(g->video_blocks, ROWS), all = g->batch * g->heads * groups;
    u32 work = a.step % 2 ? block_id() : all - 1 - block_id();
    u32 head = work / groups, first_row = work % groups * ROWS, pass = a.step - 1;
    Scratch scratch = scratch_of(a, g, head);
    Search s = load_state(a, g, scratch, head, 0);
    if (pass > 0)
        s = advance(a, g, scratch, head, pass - 1, first_row == 0);
    if (pass < PASSES)
        histogram<Pairs>(a, g, global<u32>(histogram_of(scratch, pass)), head, first_row, pass, s);
    else if (s.some && g->rule != DRAFT_ABI_PAPER)
        count_ties<Pairs>(a, g, scratch.ties, head, first_row, s.prefix);
}

KERNEL(draft_select_head, CUDA_SELECT_THREADS, 10)
{
    select_head<ForcedPairs>(a);
}

KERNEL(draft_select_head_more, CUDA_SELECT_THREADS, 10)
{
    select_head<CertainPairs>(a);
}

// ---- List --------------------------------------------------------------------------------------

template <class Pairs> DEVICE void select_list(const draft_args &a)
{
    Geometry g = geometry_of(a);
    // Backwards where the map was read forwards last: its end may still be in the cache.
    u32 work = a.step ? block_id() : g->batch * g->heads * g->blocks - 1 - block_id();
    u32 head = work / g->blocks, block = work % g->blocks;
    u32 i = block - g->prefix_blocks, s = g->video_blocks, count = g->blocks;
    Global<uint16_t> list = rows_at<uint16_t>(a, g->lists, work, g->blocks);
    if (i < s) {
        u32 kept = write_video<Pairs>(a, g, head, i, list + g->prefix_blocks);
        write_run(list, 0, g->prefix_blocks);
        write_run(list + (g->prefix_blocks + kept), g->prefix_blocks + s, g->suffix_blocks);
        count = g->prefix_blocks + kept + g->suffix_blocks;
    } else {
        write_run(list, 0, count);
    }
    if (thread_id() == 0)
        rows_at<u32>(a, g->counts, head, g->blocks)[block] = count;
}

KERNEL(draft_select_list, CUDA_SELECT_THREADS, 8)
{
    select_list<ForcedPairs>(a);
}

KERNEL(draft_select_list_more, CUDA_SELECT_THREADS, 8)
{
    select_list<CertainPairs>(a);
}

// ---- Order -------------------------------------------------------------------------------------

// A block's count and how far it is from the end: the larger, the earlier its turn.
DEVICE u32 turn_of(Global<const u32> counts, u32 blocks, u32 block)
{
    return block < blocks ? counts[block] << 16 | (0xffffu - block) : 0;
}

KERNEL(draft_select_order, CUDA_SELECT_THREADS, 8)
{
    SHARED_ARRAY(u32, turns, THREADS);
    Geometry g = geometry_of(a);
    u32 groups = div_up(g->blocks, THREADS), id = thread_id();
    u32 head = block_id() / groups, block = block_id() % groups * THREADS + id;
    Global<const u32> counts = rows_at<const u32>(a, g->counts, head, g->blocks);
    u32 mine = turn_of(counts, g->blocks, block), place = 0;
    for (u32 first = 0; first < g->blocks; first += THREADS) {
        block_barrier();
        turns[id] = turn_of(counts, g->blocks, first + id);
        block_barrier();
        for (u32 j = 0; j < THREADS; j += 4) {
            Unit x = load_shared_unit(shared_address(turns + j));
            UNROLL for (u32 e = 0; e < 4; e++) place += x.v[e] > mine;
        }
    }
    if (block < g->blocks)
        rows_at<uint16_t>(a, g->order, head, g->blocks)[place] = (uint16_t)block;
}
