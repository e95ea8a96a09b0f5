/* SPDX-License-Identifier: MIT
 *
 * What host and kernels agree on. One file, read by C11, CUDA C++ and GLSL.
 * Only 32-bit scalars and 64-bit addresses or offsets; addresses first; no implicit padding. */
#ifndef DRAFT_KERNEL_ABI_H
#define DRAFT_KERNEL_ABI_H

#ifdef VULKAN /* glslang -V defines it; see shaders/tile.glsl for arithmetic on addresses */
#define u32  uint
#define f32  float
#define addr uvec2 /* x: low word, y: high word */
#define DRAFT_ABI(name, size)
#else
#include <stdint.h>
typedef uint32_t u32;
typedef float f32;
typedef uint64_t addr;
#ifdef __cplusplus
#define DRAFT_ABI(name, size) static_assert(sizeof(struct name) == (size), #name)
#else
#define DRAFT_ABI(name, size) _Static_assert(sizeof(struct name) == (size), #name)
#endif
#endif

#define DRAFT_BLOCK      128 /* most tokens in one block, queries and keys alike        */
#define DRAFT_MAX_DIM    128
#define DRAFT_MAX_BLOCKS 65535 /* of a sample: lists hold u16                             */
#define DRAFT_UNIT       16    /* bytes; strides of tensors are counted in units          */

/* Values of draft_type and draft_rule (draft/draft.h, asserted equal in src/plan.c). */
#define DRAFT_ABI_F16  1
#define DRAFT_ABI_BF16 2
#define DRAFT_ABI_F32  3

/* A geometry holds what DEFAULT (0) stands for, here and below. */
#define DRAFT_ABI_HEAD  1
#define DRAFT_ABI_ROW   2
#define DRAFT_ABI_MASS  3
#define DRAFT_ABI_PAPER 4

/* Values of draft_scorer and draft_tail. */
#define DRAFT_ABI_SCORER_MEAN   1
#define DRAFT_ABI_SCORER_LSE    2
#define DRAFT_ABI_SCORER_MAX    3
#define DRAFT_ABI_SCORER_EXCESS 4

#define DRAFT_ABI_TAIL_DROP   1
#define DRAFT_ABI_TAIL_MEAN   2
#define DRAFT_ABI_TAIL_GAP    3
#define DRAFT_ABI_TAIL_FITTED 4

/* Bits of draft_geometry.force. Note SELF: the public flag says the opposite. */
#define DRAFT_FORCED_SELF        1u
#define DRAFT_FORCED_FIRST_FRAME 2u
#define DRAFT_FORCED_NEIGHBOURS  4u
#define DRAFT_FORCED_FLOOR       8u /* heads may have a floor */

/* MASS adds p as integers, so that the sum does not depend on the order: floor(p x 2^31). */
#define DRAFT_MASS_ONE 0x80000000u

/* A block is cut into up to this many parts, of which each has its own mean of k. Slot (t, h, w) of
 * a tile lies in the upper half of an axis where its coordinate is at least the axis's split; a
 * split of 0 does not cut. The number of a quarter has bit 0 for the faster of the axes that are cut
 * (w before h before t), bit 1 for the other. */
#define DRAFT_QUARTERS 4

/* Scorer EXCESS has finer parts of k. Coordinate x of an axis of e slots lies in piece x cut / e,
 * rounded down; the number of a part is (piece of t x cut_h + piece of h) x cut_w + piece of w. Each
 * part lies within one quarter. */
#define DRAFT_PARTS 16

/* The least share of a pair's mass that counts as excess: EXCESS never takes the logarithm of 0. */
#define DRAFT_EXCESS_LEAST 0.01f

/* The factor of FITTED lies in [0, this]; what is in memory is brought there, NaN to 0. */
#define DRAFT_FACTOR_MOST 1.5f

/* The constant part of every stage's arguments: made by the plan, held in device memory, read by
 * all kernels. Offsets are bytes from the start of the workspace; 0 for what the plan has not, which
 * no stage writes then. Behind it lie u32 budget[heads] and u32 floor[heads], and struct
 * draft_tables with struct draft_span[blocks], `tables` units of DRAFT_UNIT bytes from the
 * geometry's start.
 * The budget:
 *   HEAD   pairs to keep in the head, forced ones included
 *   ROW    key blocks to keep in each row, forced ones included where they are fewer
 *   MASS   ceil(mass x DRAFT_MASS_ONE)
 *   PAPER  rank r >= 1: keep all p >= the r-th largest of the head (S x S: keep all)
 * The floor, HEAD only, 0 elsewhere: each row keeps at least so many pairs, forced ones counted: its
 * best by p, then by lower index. They are charged to the budget, which is never less than all that
 * is kept so; what it has left goes to the best of the other pairs of the head.
 *
 * The bias holds, for query block i and key block j of the video, x = ln n_j + b_ij >= 0, with the
 * sign bit clear where the pair is left out and set (-x, and -0.0 where x is 0) where it is kept.
 * attend takes an entry with the sign bit for -inf. `score` writes x for all pairs, and -inf to the
 * columns from S to bias_stride; `select` sets and clears the sign bits of the first S columns,
 * nothing else, so that it may run again on the same bias. b_ij is
 *   MEAN    0
 *   GAP     ln sum_a w_a e^(s_a) - sum_a w_a s_a, brought to [0, ln n_j], with s_a = scale x
 *           <pooled_q_i, quarter a of j> and w_a = n_ja / n_j, over the quarters that hold tokens
 *   FITTED  c x min(W, ln n_j), with c the factor of sample and head, and
 *           W = scale^2 / 2 x sum_d moment_q_id x moment_k_jd
 * A NaN among the two becomes 0.
 *
 * Scorer EXCESS: with y_a = scale x <parts_q of quarter b of i, parts_k of part a of j>, w_a =
 * n_ja / n_j, over the parts that hold tokens, and g = ln sum_a w_a e^(y_a) - sum_a w_a y_a, brought
 * to 0 where it is below,
 *   x_bj = ln n_j + ln sum_a w_a e^(y_a) + ln (1 - (1 - DRAFT_EXCESS_LEAST) e^-g)
 *   p_ij = sum_b n_ib / n_i x softmax over j of x_bj, over the quarters that hold tokens */
struct draft_geometry {
    addr pooled_q, pooled_k, pooled_v, map, counts, lists, order;
    addr bias;     /* f32 [batch, heads, S, bias_stride]; where tail is not DROP               */
    addr scratch;  /* the backend's own, plan->scratch_size bytes                              */
    addr quarters; /* f32 [batch, kv_heads, S, 4, dim]: mean k of each quarter, 0 where it holds no
                      tokens; where scorer is LSE or MAX, or tail is GAP                        */
    addr moment_q; /* f32 [batch, heads, S, dim]: mean of q^2; with FITTED                     */
    addr moment_k; /* f32 [batch, kv_heads, S, dim]: mean of (k - mean k)^2; with FITTED       */
    addr tail_k, tail_v;   /* pooled_k and pooled_v, rounded to the type of the tensors, packed:
                            [batch, kv_heads, S, dim]; where tail is not DROP. For f32 these are
                            pooled_k and pooled_v themselves                                    */
    addr factors;          /* f32 [batch, heads], the caller's or the probe's; with FITTED        */
    addr parts_q, parts_k; /* [batch, heads, S, 4, dim] and [batch, kv_heads, S, 16, dim]: means of
                              the quarters of q and of the parts of k, rounded to the type of the
                              tensors, 0 where one holds no tokens; with EXCESS                 */

    u32 batch, heads, kv_heads, dim;
    u32 prefix, frames, height, width, suffix; /* tokens                                   */
    u32 tile_t, tile_h, tile_w;                /* tokens of a tile, product <= DRAFT_BLOCK */
    u32 tiles_t, tiles_h, tiles_w;             /* tile grid                                */
    u32 prefix_blocks, video_blocks, suffix_blocks, blocks;
    u32 type;                      /* DRAFT_ABI_F16 ...                        */
    u32 rule;                      /* DRAFT_ABI_HEAD ...                       */
    u32 force;                     /* DRAFT_FORCED_ bits                       */
    f32 scale;                     /* of the logits                            */
    u32 group;                     /* heads / kv_heads                         */
    u32 tokens;                    /* of one sample                            */
    u32 tables;                    /* units from the geometry's start to struct draft_tables */
    u32 scorer;                    /* DRAFT_ABI_SCORER_MEAN ...                */
    u32 tail;                      /* DRAFT_ABI_TAIL_DROP ...                  */
    u32 bias_stride;               /* S, rounded up to DRAFT_BLOCK             */
    u32 split_t, split_h, split_w; /* where a tile is cut into quarters        */
    u32 cut_t, cut_h, cut_w;       /* pieces of each axis, of DRAFT_PARTS      */
    u32 reserved;
};
DRAFT_ABI(draft_geometry, 280);

/* Tiles at the edges of the grid are cut; which of the three edges overhang makes the class of a
 * block: 1 time, 2 height, 4 width, added. Text is a class of its own. */
#define DRAFT_CLASS_TEXT 8
#define DRAFT_CLASSES    9

/* How the slots of a block lie: distance in tokens from slot 0, for the slots inside the grid. */
struct draft_tables {
    u32 offsets[DRAFT_CLASSES][DRAFT_BLOCK];
};
DRAFT_ABI(draft_tables, 4 * DRAFT_CLASSES * DRAFT_BLOCK);

struct draft_span {
    u32 first; /* token of slot 0                                */
    u32 info;  /* class << 8 | tokens inside the grid (1 to 128) */
};
DRAFT_ABI(draft_span, 8);

/* Bits of draft_args.flags. */
#define DRAFT_ABI_KEPT_ONLY 1u /* attend leaves the pooled keys out: the exact part alone */

/* The arguments of every kernel of every stage: 128 bytes, all that Vulkan promises for push
 * constants. Addresses are 0 where a stage does not use them. */
struct draft_args {
    addr geometry; /* struct draft_geometry and the budgets                                   */
    addr workspace;
    addr q, k, v, o; /* o: out, which is a word of GLSL */
    addr lse;        /* 0: not wanted                                                           */
    addr valid;      /* 0, or u32 [batch][2]: valid prefix and suffix tokens                    */
    /* Strides of batch, token and head, in units of DRAFT_UNIT bytes. */
    u32 q_batch, q_token, q_head;
    u32 k_batch, k_token, k_head;
    u32 v_batch, v_token, v_head;
    u32 out_batch, out_token, out_head;
    u32 first; /* first work item of this launch, where a backend splits a stage          */
    u32 step;  /* which pass of a stage, where a backend takes several                    */
    u32 flags; /* DRAFT_ABI_KEPT_ONLY                                                     */
    u32 reserved;
};
DRAFT_ABI(draft_args, 128);

#endif
