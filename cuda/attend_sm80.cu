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
#include "attend_sm80_store.cuh"

// ---- Products -----------------------------------------------------------------------------------

// Logits before scaling: q of the warp's rows times 2 n keys of the step.
template <class T, u32 DIM, u32 n>
DEVICE void multiply_qk(f32 (&s)[FRAGMENTS][n], u32 q, u32 k)
{
    UNROLL for (u32 f = 0; f < FRAGMENTS; f++)
        UNROLL for (u32 i = 0; i < n; i++) s[f][i] = 0;
    UNROLL for (u32 d = 0; d < DIM / 16; d++)
    {
        u32 x[FRAGMENTS][4];
        UNROLL for (u32 f = 0; f < FRAGMENTS; f++)
            load_matrices(x[f], column_pair(q, ROWS, d) + f * 16 * ROW_BYTES);
        UNROLL for (u32 i = 0; i < n / 4; i += 2)
        {
            u32 y[4];
            load_matrices(y, column_pair(k, KEYS, d) + i * 8 * ROW_BYTES);
            multiply_add_pairs<T>(s, 4 * i, x, y);
        }
    }
}

// out += p v.
template <class T, u32 DIM, u32 half>
DEVICE void multiply_pv(f32 (&out)[FRAGMENTS][DIM / 2], const f32 (&p)[FRAGMENTS][half], u32 v)
{
    UNROLL for (u32 k = 0; k < half / 8; k++)
    {
        u32 x[FRAGMENTS][4];
        UNROLL for (u32 f = 0; f < FRAGMENTS; f++)
            UNROLL for (u32 i = 0; i < 4; i++)
                x[f][i] = pack2<T>(p[f][8 * k + 2 * i], p[f][8 * k + 2 * i + 1]);
        UNROLL for (u32 n = 0; n < DIM / 8; n += 2)
        {
            u32 y[4];
            load_matrices_transposed(y, column_pair(v, KEYS, n / 2) + k * 16 * ROW_BYTES);
            multiply_add_pairs<T>(out, 4 * n, x, y);
        }
    }
}

// ---- Softmax ------------------------------------------------------------------------------------

// Slots from `keys` on do not count.
template <u32 n> DEVICE void mask_logits(f32 (&s)[n], u32 keys)
{
    UNROLL for (u32 i = 0; i < n; i++)
        if (i / 4 * 8 + lane_id() % 4 * 2 + i % 2 >= keys)
            s[i] = -INFINITE;
}

// Products of a step become p, and out is prepared for what is added to it.
template <u32 DIM, u32 n>
DEVICE void softmax_of(f32 (&s)[FRAGMENTS][n], f32 (&out)[FRAGMENTS][DIM / 2],
                       Rows (&rows)[FRAGMENTS], f32 scale, u32 keys)
{
    UNROLL for (u32 f = 0; f < FRAGMENTS; f++)
    {
        f32 factor[2];
        if (scale < 0)
            scale_logits(s[f], scale);
        if (keys < 2 * n)
            mask_logits(s[f], keys);
        softmax_step(s[f], rows[f], scale < 0 ? 1 : scale, factor);
        if (warp_ballot(factor[0] != 1 || factor[1] != 1))
            UNROLL for (u32 i = 0; i < DIM / 2; i++) out[f][i] *= factor[i / 2 % 2];
    }
}

#include "attend_sm80_tail.cuh"

// ---- Kernel -------------------------------------------------------------------------------------

template <u32 DIM> DEVICE void clear(f32 (&out)[FRAGMENTS][DIM / 2], Rows (&rows)[FRAGMENTS])
{
    UNROLL for (u32 f = 0; f < FRAGMENTS; f++)
    {
        rows[f] = NO_KEYS;
        UNROLL for (u32 i = 0; i < DIM / 2; i++) out[f][i] = 0;
    }
}

template <class T, u32 DIM, bool TAIL> DEVICE void attend(const draft_args &a)
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

    for (u32 i = thread_id(); i < DRAFT_CLASSES * DRAFT_BLOCK; i += THREADS)
        offsets[i] = offsets_of(a)[i];
    block_barrier();
    load_tile<DIM, ROWS>(q_tile, head_at(a.q, w.sample, a.q_batch, w.head, a.q_head), a.q_token,
                         {w.span.first, w.span.class_ << 8 | w.span.size, 0}, dim, offsets);
    u32 q = q_tile + warp_id() * WARP_ROWS * ROW_BYTES + fragment_place(lane_id(), true);
    u32 k = k_tile + fragment_place(lane_id(), false), v = v_tile + fragment_place(lane_id(), true);
    Rows rows[FRAGMENTS];
    f32 out[FRAGMENTS][DIM / 2];
    if (TAIL) {
        clear<DIM>(out, rows);
        if (has_pooled(a, w)) {
            attend_pooled<T, DIM>(a, out, rows, bias_at(a, bias_row(a, w)),
                                  w.sample * g->kv_heads + kv_head, q_tile);
            w = work_of(a, block_id()); // not kept in registers over the loop
            kv_head = w.head / g->group;
            k_head = head_at(a.k, w.sample, a.k_batch, kv_head, a.k_head);
            v_head = head_at(a.v, w.sample, a.v_batch, kv_head, a.v_head);
        }
    }
    Cursor cursor = {0, count_of(a, w)};
    Step step = next_step(a, cursor, entries, {0, 0, 0});
    if (step.info)
        load_tile<DIM, KEYS>(k_tile, k_head, a.k_token, step, dim, offsets);
    copy_commit();
    copy_wait<0>();
    block_barrier();

    if (!TAIL)
        clear<DIM>(out, rows);
    while (step.info) {
        load_tile<DIM, KEYS>(v_tile, v_head, a.v_token, step, dim, offsets);
        copy_commit();
        f32 s[FRAGMENTS][KEYS / 2];
        multiply_qk<T, DIM>(s, q, k);
        copy_wait<0>();
        block_barrier(); // v is there, and k is free
        u32 keys = valid_of(step) - step.start;
        step = next_step(a, cursor, entries, step);
        if (step.info)
            load_tile<DIM, KEYS>(k_tile, k_head, a.k_token, step, dim, offsets);
        copy_commit();
        // The scale is read again: ptxas of CUDA 12 has no register left to keep it in.
        softmax_of<DIM>(s, out, rows, g->scale * LOG2_E, keys);
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
    attend<F16, 64, false>(a);
}

KERNEL(draft_attend_f16_128, CUDA_ATTEND_THREADS, 2)
{
    attend<F16, 128, false>(a);
}

KERNEL(draft_attend_bf16_64, CUDA_ATTEND_THREADS, 2)
{
    attend<BF16, 64, false>(a);
}

KERNEL(draft_attend_bf16_128, CUDA_ATTEND_THREADS, 2)
{
    attend<BF16, 128, false>(a);
}

KERNEL(draft_attend_tail_f16_64, CUDA_ATTEND_THREADS, 2)
{
    attend<F16, 64, true>(a);
}

KERNEL(draft_attend_tail_f16_128, CUDA_ATTEND_THREADS, 2)
{
    attend<F16, 128, true>(a);
}

KERNEL(draft_attend_tail_bf16_64, CUDA_ATTEND_THREADS, 2)
{
    attend<BF16, 64, true>(a);
}

KERNEL(draft_attend_tail_bf16_128, CUDA_ATTEND_THREADS, 2)
{
    attend<BF16, 128, true>(a);
}
