// SPDX-License-Identifier: MIT
//
// attend for sm_80 and newer: mma.m16n8k16, cp.async.
//
//   thread block   one query block of one head: ROWS slots, 4 warps of 32 rows each
//   step           KEYS slots of one key block: logits, softmax, out. Blocks with fewer tokens
//                  than slots take fewer steps; only the last step of a block masks
//   registers      logits 32 x KEYS and out 32 x DIM of each warp, in f32
//   shared memory  q, one step of k, one step of v, 64 KB: two thread blocks on a multiprocessor,
//                  so that one computes while the other waits
//   q, k, v        copied from where they lie by the table of slots of the block's class
//
//   k(0)  v(0) |  k(1)   v(1) |  k(2)      on their way from memory
//         qk(0)|softmax pv(0) | qk(1) ...  meanwhile
//
// Query blocks come in their work order, which the hardware hands out as multiprocessors become
// free: a counter of our own would do the same and would have to be reset.
// Bound by the matrix units: 4 x ROWS x KEYS x DIM flops for 4 x KEYS x DIM bytes, which the cache
// mostly has: neighbouring rows keep neighbouring blocks.
#include "attend.cuh"
#include "launch.h"

constexpr u32 KEYS = CUDA_ATTEND_KEYS;
constexpr u32 THREADS = CUDA_ATTEND_THREADS;
constexpr u32 WARP_ROWS = ROWS / (THREADS / WARP);
constexpr u32 FRAGMENTS = WARP_ROWS / 16; // of rows, for each warp

// ---- Tiles in shared memory ---------------------------------------------------------------------

// Where lane `lane` points for load_matrices: 16 rows and 16 columns from column 0 on. `a`: the
// rows of matrices 1 and 3 are the lower ones (operand a, and v); else those of 2 and 3 (k).
DEVICE u32 fragment_place(u32 lane, bool a)
{
    u32 matrix = lane / 8, lower = a ? matrix % 2 : matrix / 2, right = a ? matrix / 2 : matrix % 2;
    return unit_place(0, lower * 8 + lane % 8, right);
}

// The same for the columns from 16 * pair on; `place` lies in a tile of `rows` rows.
DEVICE u32 column_pair(u32 place, u32 rows, u32 pair)
{
    return (place ^ pair % (PART_UNITS / 2) * 2 * DRAFT_UNIT) +
           pair / (PART_UNITS / 2) * rows * ROW_BYTES;
}

// ---- Key blocks ---------------------------------------------------------------------------------

// Slots start ... of a key block; info as in draft_span, with the tokens that count. No more steps:
// info is 0.
struct Step {
    u32 first, info, start;
};

DEVICE u32 valid_of(const Step &step)
{
    return step.info & 255;
}

// Walks through the list. Each warp keeps what it has read ahead in shared memory.
struct Cursor {
    u32 next, count;
};

// Entries next ... next + 31: [WARP][first, info].
DEVICE void read_entries(const draft_args &a, const Cursor &cursor, Shared<u32> entries)
{
    Work w = work_of(a, block_id());
    u32 block = list_of(a, w)[least(cursor.next + lane_id(), cursor.count - 1)];
    Span s = read_span(a, w.sample, block);
    warp_barrier();
    entries[2 * lane_id()] = s.first;
    entries[2 * lane_id() + 1] = s.class_ << 8 | s.valid;
    warp_barrier();
}

DEVICE Step next_step(const draft_args &a, Cursor &cursor, Shared<u32> entries, Step step)
{
    step.start += KEYS;
    while (step.start >= valid_of(step)) {
        if (cursor.next == cursor.count)
            return {0, 0, 0};
        if (cursor.next % WARP == 0)
            read_entries(a, cursor, entries);
        u32 entry = 2 * (cursor.next++ % WARP);
        step = {entries[entry], entries[entry + 1], 0};
    }
    return step;
}

// ---- Loads --------------------------------------------------------------------------------------

// Copies of `rows` slots of a block to a tile; slots that do not count, and columns beyond dim, are
// 0. Each thread looks after one column of 16 bytes.
template <u32 DIM, u32 rows>
DEVICE void load_tile(u32 tile, addr head, u32 token_stride, const Step &step, u32 dim,
                      Shared<u32> offsets)
{
    constexpr u32 UNITS = DIM / UNIT_COLUMNS, AT_ONCE = THREADS / UNITS;
    u32 unit = thread_id() % UNITS, row = thread_id() / UNITS;
    Shared<u32> offset = offsets + ((step.info >> 8) * DRAFT_BLOCK + step.start + row);
    addr first = head + (addr)step.first * token_stride * DRAFT_UNIT + unit * DRAFT_UNIT;
    bool column = unit * UNIT_COLUMNS < dim;
    u32 to = tile + unit_place(rows, row, unit);
    UNROLL_BY_4 for (u32 i = 0; i < rows; i += AT_ONCE)
    {
        bool inside = column && step.start + row + i < valid_of(step);
        u32 units = inside ? offset[i] * token_stride : 0;
        copy_async(to + i * ROW_BYTES, global<const Unit>(first + (addr)units * DRAFT_UNIT),
                   inside);
    }
}

// ---- Products -----------------------------------------------------------------------------------

// Logits before scaling: q of the warp's rows times k of the step.
template <class T, u32 DIM>
DEVICE void multiply_qk(f32 s[FRAGMENTS][KEYS / 8][4], u32 q, u32 k)
{
    UNROLL for (u32 f = 0; f < FRAGMENTS; f++)
        UNROLL for (u32 n = 0; n < KEYS / 8; n++)
            UNROLL for (u32 e = 0; e < 4; e++) s[f][n][e] = 0;
    UNROLL for (u32 d = 0; d < DIM / 16; d++)
    {
        u32 x[FRAGMENTS][4];
        UNROLL for (u32 f = 0; f < FRAGMENTS; f++)
            load_matrices(x[f], column_pair(q, ROWS, d) + f * 16 * ROW_BYTES);
        UNROLL for (u32 n = 0; n < KEYS / 8; n += 2)
        {
            u32 y[4];
            load_matrices(y, column_pair(k, KEYS, d) + n * 8 * ROW_BYTES);
            UNROLL for (u32 f = 0; f < FRAGMENTS; f++)
            {
                multiply_add<T>(s[f][n], x[f], y[0], y[1]);
                multiply_add<T>(s[f][n + 1], x[f], y[2], y[3]);
            }
        }
    }
}

// out += p v.
template <class T, u32 DIM>
DEVICE void multiply_pv(f32 out[FRAGMENTS][DIM / 8][4], const f32 p[FRAGMENTS][KEYS / 8][4], u32 v)
{
    UNROLL for (u32 k = 0; k < KEYS / 16; k++)
    {
        u32 x[FRAGMENTS][4];
        UNROLL for (u32 f = 0; f < FRAGMENTS; f++)
            UNROLL for (u32 i = 0; i < 4; i++)
                x[f][i] = pack2<T>(p[f][2 * k + i / 2][i % 2 * 2], p[f][2 * k + i / 2][i % 2 * 2 + 1]);
        UNROLL for (u32 n = 0; n < DIM / 8; n += 2)
        {
            u32 y[4];
            load_matrices_transposed(y, column_pair(v, KEYS, n / 2) + k * 16 * ROW_BYTES);
            UNROLL for (u32 f = 0; f < FRAGMENTS; f++)
            {
                multiply_add<T>(out[f][n], x[f], y[0], y[1]);
                multiply_add<T>(out[f][n + 1], x[f], y[2], y[3]);
            }
        }
    }
}

// ---- Softmax ------------------------------------------------------------------------------------

// Of the rows of a thread: lane / 4 of the upper and of the lower half of each fragment.
struct Rows {
    f32 most[FRAGMENTS][2]; // the largest logit so far x log2 (e)
    f32 sum[FRAGMENTS][2];  // of the thread's own columns
};

// Products become logits times log2 (e), rounded before anything is subtracted: huge ones that are
// equal must stay so. Slots from `keys` on do not count.
DEVICE void scale_logits(f32 s[FRAGMENTS][KEYS / 8][4], f32 scale, u32 keys)
{
    UNROLL for (u32 f = 0; f < FRAGMENTS; f++)
        UNROLL for (u32 n = 0; n < KEYS / 8; n++)
            UNROLL for (u32 e = 0; e < 4; e++) s[f][n][e] = multiply(s[f][n][e], scale);
    if (keys >= KEYS)
        return;
    UNROLL for (u32 n = 0; n < KEYS / 8; n++)
        UNROLL for (u32 e = 0; e < 4; e++)
        {
            if (n * 8 + lane_id() % 4 * 2 + e % 2 < keys)
                continue;
            UNROLL for (u32 f = 0; f < FRAGMENTS; f++) s[f][n][e] = -INFINITE;
        }
}

DEVICE f32 row_max(const f32 s[KEYS / 8][4], u32 half)
{
    f32 most = -INFINITE;
    UNROLL for (u32 n = 0; n < KEYS / 8; n++)
        most = fmaxf(most, fmaxf(s[n][2 * half], s[n][2 * half + 1]));
    most = fmaxf(most, warp_shuffle_xor(most, 1));
    return fmaxf(most, warp_shuffle_xor(most, 2));
}

// One step of the running softmax: s becomes 2^(logit - most), factor what out is multiplied by.
// True where that changes anything.
DEVICE bool softmax_step(f32 s[FRAGMENTS][KEYS / 8][4], Rows &rows, f32 factor[FRAGMENTS][2])
{
    bool moved = false;
    UNROLL for (u32 f = 0; f < FRAGMENTS; f++)
        UNROLL for (u32 half = 0; half < 2; half++)
        {
            f32 before = rows.most[f][half];
            f32 most = fmaxf(before, row_max(s[f], half));
            f32 base = most == -INFINITE ? 0 : most; // nothing to subtract from -infinity
            f32 sum = 0;
            UNROLL for (u32 n = 0; n < KEYS / 8; n++)
                UNROLL for (u32 e = 2 * half; e < 2 * half + 2; e++)
                {
                    s[f][n][e] = exp2_fast(s[f][n][e] - base);
                    sum += s[f][n][e];
                }
            factor[f][half] = exp2_fast(before - base);
            rows.sum[f][half] = fmaf(rows.sum[f][half], factor[f][half], sum);
            rows.most[f][half] = most;
            moved |= most != before;
        }
    return warp_ballot(moved) != 0;
}

// ---- Results ------------------------------------------------------------------------------------

// Divide by the sums, write log-sum-exp, and leave out as elements in the tile at `tile`, whose rows
// belong to this warp alone.
template <class T, u32 DIM>
DEVICE void finish(const draft_args &a, const Work &w, Rows &rows,
                   f32 out[FRAGMENTS][DIM / 8][4], u32 tile, Shared<u32> offsets)
{
    addr lse = a.lse + ((addr)w.row * geometry_of(a)->tokens + w.span.first) * sizeof(f32);
    UNROLL for (u32 f = 0; f < FRAGMENTS; f++)
        UNROLL for (u32 half = 0; half < 2; half++)
        {
            u32 row = warp_id() * WARP_ROWS + f * 16 + half * 8 + lane_id() / 4;
            f32 sum = rows.sum[f][half];
            sum += warp_shuffle_xor(sum, 1);
            sum += warp_shuffle_xor(sum, 2);
            sum = row < w.span.valid ? sum : 0;
            if (a.lse && row < w.span.size && lane_id() % 4 == 0)
                global<f32>(lse)[offsets[row]] = row_lse(rows.most[f][half], sum);
            f32 weight = sum != 0 ? 1 / sum : 0;
            UNROLL for (u32 n = 0; n < DIM / 8; n++)
            {
                f32 x = sum != 0 ? out[f][n][2 * half] * weight : 0;
                f32 y = sum != 0 ? out[f][n][2 * half + 1] * weight : 0;
                store_shared(tile + unit_place(ROWS, row, n) + lane_id() % 4 * 4, pack2<T>(x, y));
            }
        }
}

// From the tile to memory, 16 bytes at a time.
template <u32 DIM>
DEVICE void store_out(const draft_args &a, const Work &w, u32 tile, Shared<u32> offsets)
{
    constexpr u32 UNITS = DIM / UNIT_COLUMNS, AT_ONCE = WARP / UNITS;
    u32 unit = lane_id() % UNITS, dim = geometry_of(a)->dim;
    addr head = head_at(a.o, w.sample, a.out_batch, w.head, a.out_head);
    addr first = head + (addr)w.span.first * a.out_token * DRAFT_UNIT;
    UNROLL for (u32 i = 0; i < WARP_ROWS; i += AT_ONCE)
    {
        u32 row = warp_id() * WARP_ROWS + i + lane_id() / UNITS;
        if (row < w.span.size && unit * UNIT_COLUMNS < dim)
            global<Unit>(first + (addr)(offsets[row] * a.out_token) * DRAFT_UNIT)[unit] =
                load_shared_unit(tile + unit_place(ROWS, row, unit));
    }
}

// ---- Kernel -------------------------------------------------------------------------------------

template <class T, u32 DIM> DEVICE void attend(const draft_args &a)
{
    SHARED_ARRAY(u32, offset_table, DRAFT_CLASSES * DRAFT_BLOCK);
    SHARED_ARRAY(u32, entry_table, THREADS * 2);
    Shared<u32> offsets = offset_table, entries = entry_table + warp_id() * WARP * 2;
    u32 q_tile = shared_address(dynamic_shared<Unit>());
    u32 k_tile = q_tile + ROWS * DIM * 2, v_tile = k_tile + KEYS * DIM * 2;

    Geometry g = geometry_of(a);
    Work w = work_of(a, block_id());
    u32 kv_head = w.head / g->group, dim = g->dim;
    addr k_head = head_at(a.k, w.sample, a.k_batch, kv_head, a.k_head);
    addr v_head = head_at(a.v, w.sample, a.v_batch, kv_head, a.v_head);
    f32 scale = g->scale * LOG2_E;

    for (u32 i = thread_id(); i < DRAFT_CLASSES * DRAFT_BLOCK; i += THREADS)
        offsets[i] = offsets_of(a)[i];
    block_barrier();
    load_tile<DIM, ROWS>(q_tile, head_at(a.q, w.sample, a.q_batch, w.head, a.q_head), a.q_token,
                         {w.span.first, w.span.class_ << 8 | w.span.size, 0}, dim, offsets);
    Cursor cursor = {0, count_of(a, w)};
    Step step = next_step(a, cursor, entries, {0, 0, 0});
    if (step.info)
        load_tile<DIM, KEYS>(k_tile, k_head, a.k_token, step, dim, offsets);
    copy_commit();
    copy_wait<0>();
    block_barrier();

    u32 q = q_tile + warp_id() * WARP_ROWS * ROW_BYTES + fragment_place(lane_id(), true);
    u32 k = k_tile + fragment_place(lane_id(), false), v = v_tile + fragment_place(lane_id(), true);
    Rows rows;
    f32 out[FRAGMENTS][DIM / 8][4];
    UNROLL for (u32 f = 0; f < FRAGMENTS; f++)
    {
        rows.most[f][0] = rows.most[f][1] = -INFINITE;
        rows.sum[f][0] = rows.sum[f][1] = 0;
        UNROLL for (u32 n = 0; n < DIM / 8; n++)
            UNROLL for (u32 e = 0; e < 4; e++) out[f][n][e] = 0;
    }
    while (step.info) {
        load_tile<DIM, KEYS>(v_tile, v_head, a.v_token, step, dim, offsets);
        copy_commit();
        f32 s[FRAGMENTS][KEYS / 8][4], factor[FRAGMENTS][2];
        multiply_qk<T, DIM>(s, q, k);
        copy_wait<0>();
        block_barrier(); // v is there, and k is free
        u32 keys = valid_of(step) - step.start;
        step = next_step(a, cursor, entries, step);
        if (step.info)
            load_tile<DIM, KEYS>(k_tile, k_head, a.k_token, step, dim, offsets);
        copy_commit();
        scale_logits(s, scale, keys);
        if (softmax_step(s, rows, factor))
            UNROLL for (u32 f = 0; f < FRAGMENTS; f++)
                UNROLL for (u32 n = 0; n < DIM / 8; n++)
                    UNROLL for (u32 e = 0; e < 4; e++) out[f][n][e] *= factor[f][e / 2];
        multiply_pv<T, DIM>(out, s, v);
        copy_wait<0>();
        block_barrier(); // the next k is there, and v is free
    }
    w = work_of(a, block_id()); // not kept in registers over the loop
    offsets = offsets + w.span.class_ * DRAFT_BLOCK;
    finish<T, DIM>(a, w, rows, out, q_tile, offsets);
    warp_barrier();
    store_out<DIM>(a, w, q_tile, offsets);
}

KERNEL(draft_attend_f16_64, CUDA_ATTEND_THREADS, 2)
{
    attend<F16, 64>(a);
}

KERNEL(draft_attend_f16_128, CUDA_ATTEND_THREADS, 2)
{
    attend<F16, 128>(a);
}

KERNEL(draft_attend_bf16_64, CUDA_ATTEND_THREADS, 2)
{
    attend<BF16, 64>(a);
}

KERNEL(draft_attend_bf16_128, CUDA_ATTEND_THREADS, 2)
{
    attend<BF16, 128>(a);
}
