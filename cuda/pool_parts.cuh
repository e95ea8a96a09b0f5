// SPDX-License-Identifier: MIT
//
// pool, by way of the parts of a block: k of all plans beyond the paper's method, q with EXCESS.
//
//   slots of part 0   | group 0: LANES threads, one unit each |   one token after the other,
//   slots of part 1   | group 1                               |   PART_AHEAD loads under way
//   ...                 then part GROUPS by group 0 ...
//
// A thread has its unit of a part's sum without any exchange; quarters and the whole mean are made
// of the sums of all parts in shared memory.
#pragma once
#include "pool_rows.cuh"

constexpr u32 PART_AHEAD = 4;

// The slots of a block sorted by parts.
struct Sorted {
    Shared<u32> tokens;   // of each: distance from slot 0
    Shared<u32> starts;   // of each part, and of the end
    Shared<u32> quarters; // of each part
};

DEVICE void sort_slots(Geometry g, const Block &b, Global<const u32> tokens, const Sorted &to)
{
    static_assert(THREADS >= DRAFT_BLOCK && THREADS > DRAFT_PARTS, "one slot for each thread");
    u32 id = thread_id();
    if (id < b.size)
        to.tokens[sorted_place(g, b, id)] = tokens[id];
    if (id <= DRAFT_PARTS)
        to.starts[id] = part_start(b, part_of(g, b, id));
    if (id < DRAFT_PARTS)
        to.quarters[id] = quarter_of(g, id);
    block_barrier();
}

// Adds up this thread's unit of the slots start ... end, PART_OF each, and where `squares` is set
// of their squares.
template <class T, u32 lanes>
DEVICE void add_part(f32 (&sum)[PER_UNIT], f32 (&square)[PER_UNIT], bool squares,
                     const Rows<lanes> &rows, Shared<u32> tokens, u32 start, u32 end)
{
    for (; start < end; start += PART_AHEAD) {
        Unit x[PART_AHEAD];
        UNROLL for (u32 k = 0; k < PART_AHEAD; k++)
        {
            x[k] = Unit{{0, 0, 0, 0}};
            if (start + k < end)
                x[k] = load_unit(rows.first +
                                 (tokens[start + k] * rows.stride + thread_id() % lanes));
        }
        UNROLL for (u32 k = 0; k < PART_AHEAD; k++) add_unit<T>(sum, x[k]);
        if (squares)
            UNROLL for (u32 k = 0; k < PART_AHEAD; k++) add_squares<T>(square, x[k]);
    }
}

// The mean of a part in the type of the tensors, this thread's unit of it.
template <class T, u32 lanes>
DEVICE void write_part(const draft_args &a, addr row, const f32 (&sum)[PER_UNIT], u32 size)
{
    Unit x = {{0, 0, 0, 0}};
    if (size > 0)
        UNROLL for (u32 i = 0; i < PER_UNIT / 2; i++)
            x.v[i] = pack2<T>(mean_of(sum[2 * i], size), mean_of(sum[2 * i + 1], size));
    Geometry g = geometry_of(a);
    rows_at<Unit>(a, g->parts_k, row, g->dim / PER_UNIT)[thread_id() % lanes] = x;
}

// The mean of q or k. What the plan has of parts and quarters is written, and where `squares` is an
// array the mean of the squares.
template <class T, u32 lanes>
DEVICE f32 pool_parts(const draft_args &a, const Rows<lanes> &rows, const Block &b, bool is_k,
                      addr squares, Shared<f32> parts)
{
    constexpr u32 GROUPS = Rows<lanes>::GROUPS, PITCH = Rows<lanes>::PITCH,
                  PART = Rows<lanes>::PART;
    SHARED_ARRAY(u32, tokens, DRAFT_BLOCK);
    SHARED_ARRAY(u32, starts, DRAFT_PARTS + 1);
    SHARED_ARRAY(u32, part_quarters, DRAFT_PARTS);
    Geometry g = geometry_of(a);
    sort_slots(g, b, rows.tokens, {tokens, starts, part_quarters});
    f32 square[PER_UNIT] = {};
    for (u32 part = thread_id() / lanes; part < DRAFT_PARTS; part += GROUPS) {
        f32 sum[PER_UNIT] = {};
        u32 start = starts[part], end = starts[part + 1];
        if (rows.inside) {
            add_part<T>(sum, square, squares, rows, tokens, start, end);
            if (is_k && g->parts_k)
                write_part<T, lanes>(a, rows.row * DRAFT_PARTS + part, sum, end - start);
        }
        UNROLL for (u32 i = 0; i < PER_UNIT; i++)
            parts[part * PART + i * PITCH + thread_id() % lanes] = sum[i];
    }
    block_barrier();
    u32 id = thread_id() % (lanes * PER_UNIT);
    f32 all = 0, quarters[DRAFT_QUARTERS] = {};
    UNROLL for (u32 part = 0; part < DRAFT_PARTS; part++)
    {
        f32 sum = parts[part * PART + id % PER_UNIT * PITCH + id / PER_UNIT];
        u32 mine = part_quarters[part];
        all += sum;
        UNROLL for (u32 quarter = 0; quarter < DRAFT_QUARTERS; quarter++)
            quarters[quarter] += mine == quarter ? sum : 0.0f;
    }
    UNROLL for (u32 quarter = 0; quarter < DRAFT_QUARTERS; quarter++)
    {
        u32 size = quarter_size(g, b, quarter);
        f32 mean = size > 0 ? mean_of(quarters[quarter], size) : 0.0f;
        addr row = rows.row * DRAFT_QUARTERS + quarter;
        if (is_k && g->quarters)
            write_row(a, g->quarters, row, mean);
        write_rounded<T>(a, is_k ? 0 : g->parts_q, row, mean);
    }
    block_barrier(); // the sums have been read
    if (squares)
        write_row(a, squares, rows.row, mean_of(total_of<lanes>(square, parts), b.size));
    return mean_of(all, b.size);
}
