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

#define DRAFT_ABI_HEAD  0
#define DRAFT_ABI_ROW   1
#define DRAFT_ABI_MASS  2
#define DRAFT_ABI_PAPER 3

/* Bits of draft_geometry.force. Note SELF: the public flag says the opposite. */
#define DRAFT_FORCED_SELF        1u
#define DRAFT_FORCED_FIRST_FRAME 2u
#define DRAFT_FORCED_NEIGHBOURS  4u

/* MASS adds p as integers, so that the sum does not depend on the order: floor(p x 2^31). */
#define DRAFT_MASS_ONE 0x80000000u

/* The constant part of every stage's arguments: made by the plan, held in device memory, read by
 * all kernels. Offsets are bytes from the start of the workspace. Behind it lie u32 budget[heads],
 * and struct draft_tables with struct draft_span[blocks], `tables` units of
 * DRAFT_UNIT bytes from the geometry's start.
 * The budget:
 *   HEAD   pairs to keep in the head, forced ones included
 *   ROW    key blocks to keep in each row, forced ones included where they are fewer
 *   MASS   ceil(mass x DRAFT_MASS_ONE)
 *   PAPER  rank r >= 1: keep all p >= the r-th largest of the head (S x S: keep all) */
struct draft_geometry {
    addr pooled_q, pooled_k, pooled_v, map, counts, lists, order;
    addr bias;    /* 0: none. Reserved for compensation of skipped blocks (f32 [.., B, S])     */
    addr scratch; /* the backend's own, plan->scratch_size bytes                               */

    u32 batch, heads, kv_heads, dim;
    u32 prefix, frames, height, width, suffix; /* tokens                                   */
    u32 tile_t, tile_h, tile_w;                /* tokens of a tile, product <= DRAFT_BLOCK */
    u32 tiles_t, tiles_h, tiles_w;             /* tile grid                                */
    u32 prefix_blocks, video_blocks, suffix_blocks, blocks;
    u32 type;   /* DRAFT_ABI_F16 ...                        */
    u32 rule;   /* DRAFT_ABI_HEAD ...                       */
    u32 force;  /* DRAFT_FORCED_ bits                       */
    f32 scale;  /* of the logits                            */
    u32 group;  /* heads / kv_heads                         */
    u32 tokens; /* of one sample                            */
    u32 tables; /* units from the geometry's start to struct draft_tables */
};
DRAFT_ABI(draft_geometry, 176);

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
    u32 reserved0, reserved1;
};
DRAFT_ABI(draft_args, 128);

#endif
