/* SPDX-License-Identifier: MIT
 *
 * What the host side of this backend and its kernels agree on, beyond src/kernel_abi.h: blocks of
 * threads, the work of each, scratch memory. Read by C11 and CUDA C++. */
#ifndef DRAFT_CUDA_LAUNCH_H
#define DRAFT_CUDA_LAUNCH_H

#include <stdalign.h>
#include <stdint.h>

#define CUDA_POOL_THREADS 128 /* a thread block: one block of one head of one tensor */

#define CUDA_SCORE_THREADS   128 /* a thread block: ROWS x COLUMNS of one head's map */
#define CUDA_SCORE_ROWS      64
#define CUDA_SCORE_COLUMNS   128
#define CUDA_SOFTMAX_THREADS 128 /* a thread block: one row */

/* Scorer EXCESS. A thread block: ROWS quarters of q of one head by STEPS steps of KEY_BLOCKS key
 * blocks. A launch has the heads of one portion: args.first is its first, args.step how many. */
#define CUDA_PARTS_THREADS    128
#define CUDA_PARTS_ROWS       128
#define CUDA_PARTS_KEY_BLOCKS 4
#define CUDA_PARTS_STEPS      16
#define CUDA_PARTS_STAGES     3
#define CUDA_PARTS_SHARED(dim)                                                                     \
    (CUDA_PARTS_STAGES * CUDA_PARTS_KEY_BLOCKS * DRAFT_PARTS * (dim)*2) /* bytes, dynamic */
#define CUDA_PARTS90_SHARED(dim) (CUDA_PARTS_SHARED(dim) + 1024)        /* to align them */
/* Of a row of scores, f32 [heads of the portion][S][4][pitch]. */
#define CUDA_PARTS_PITCH(s) (((s) + 7) / 8 * 8)

#define CUDA_SELECT_THREADS 128
#define CUDA_SELECT_ROWS    20   /* select_head: rows of a head for each thread block           */
#define CUDA_SELECT_PASSES  3    /* digits of a key, each a histogram                           */
#define CUDA_SELECT_DIGITS  2048 /* values of a digit                                           */
#define CUDA_SELECT_STATE   4    /* u32 of the search after each pass                           */

#define CUDA_ATTEND_THREADS 128 /* a thread block: one query block of one head */
#define CUDA_ATTEND_KEYS    64  /* slots of a key block in one step            */
/* Bytes of dynamic shared memory: q, k, v. dim: 64 or 128, as the kernel's name says. */
#define CUDA_ATTEND_SHARED(dim) ((DRAFT_BLOCK + 2 * CUDA_ATTEND_KEYS) * (dim)*2)
#define CUDA_ATTEND_SHARED_64   CUDA_ATTEND_SHARED(64)
#define CUDA_ATTEND_SHARED_128  CUDA_ATTEND_SHARED(128)

/* attend for sm_90: one thread block on each multiprocessor, which takes query blocks until none is
 * left. Two warp groups multiply, a third brings and stores tiles. u32 of scratch: the next query
 * block. */
#define CUDA_ATTEND90_THREADS       384
#define CUDA_ATTEND90_RESET_THREADS 32
/* Of k, and of v: what shared memory holds beside q. */
#define CUDA_ATTEND90_STAGES(dim) ((dim) > 64 ? 2 : 4)
/* q, which becomes out, of two query blocks, stages of k and v, each DRAFT_BLOCK rows, and 1024
 * bytes to align them. */
#define CUDA_ATTEND90_SHARED(dim)                                                                  \
    (DRAFT_BLOCK * (dim)*2 * (2 + 2 * CUDA_ATTEND90_STAGES(dim)) + 1024)
#define CUDA_ATTEND90_SHARED_64  CUDA_ATTEND90_SHARED(64)
#define CUDA_ATTEND90_SHARED_128 CUDA_ATTEND90_SHARED(128)

/* What cuTensorMapEncodeTiled makes. cuda.h of CUDA 12 aligns it to 64 bytes, that of 13 to 128. */
struct cuda_tensor_map {
    alignas(128) uint64_t opaque[16];
};

/* The video part of q, k, v and out, dimensions
 *   {dim, width, height, frames, heads of all samples}
 * and boxes of 64 columns of one tile {64, tile_w, tile_h, tile_t, 1}, swizzled by 128 bytes. The
 * last coordinate of sample b and head h is b x batch + h x head, of the tensor's index below.
 * Of plans with a tail, pooled k and v, dimensions
 *   {dim, video blocks, heads of keys of all samples, 1, 1}
 * and boxes of 64 columns of DRAFT_BLOCK rows, swizzled the same. */
struct cuda_tensor_maps {
    struct cuda_tensor_map q, k, v, out, tail_k, tail_v;
    struct {
        uint32_t batch, head;
    } q_index, k_index, v_index, out_index;
};

#endif
