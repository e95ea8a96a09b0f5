/* SPDX-License-Identifier: MIT
 *
 * What the host side of this backend and its kernels agree on, beyond src/kernel_abi.h: blocks of
 * threads, the work of each, scratch memory. Read by C11 and CUDA C++. */
#ifndef DRAFT_CUDA_LAUNCH_H
#define DRAFT_CUDA_LAUNCH_H

#define CUDA_POOL_THREADS 128 /* a thread block: one block of one head of one tensor */

#define CUDA_SCORE_THREADS   128 /* a thread block: ROWS x COLUMNS of one head's map */
#define CUDA_SCORE_ROWS      64
#define CUDA_SCORE_COLUMNS   128
#define CUDA_SOFTMAX_THREADS 128 /* a thread block: one row */

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

#endif
