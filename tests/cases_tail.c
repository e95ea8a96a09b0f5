/* SPDX-License-Identifier: MIT
 *
 * Cases of what plans have beyond the paper's method. Their names begin with "beyond". */
#include "cases.h"

static const double three_sparsities[] = {0.0, 0.5, 0.95};
static const uint32_t valid_two[][2] = {{20, 129}, {UINT32_MAX, 7}};

#define GRID(t, h, w) .frames = (t), .height = (h), .width = (w)
#define TILE(t, h, w) .tile = {t, h, w}

/* Twelve ragged blocks and some text, for each scorer, tail, rule and type. */
#define BEYOND(label, kind, ...)                                                                   \
    {                                                                                              \
        .name = "beyond " label,                                                                   \
        .params = {.shape = {GRID(2, 13, 21), .suffix = 10, .heads = 2, .dim = 64},                \
                   .type = kind,                                                                   \
                   TILE(1, 8, 8),                                                                  \
                   __VA_ARGS__},                                                                   \
    }

/* The same with a fill. */
#define FILLED(label, how, kind, ...)                                                              \
    {                                                                                              \
        .name = "beyond fill " label,                                                              \
        .params = {.shape = {GRID(2, 13, 21), .suffix = 10, .heads = 2, .dim = 64},                \
                   .type = kind,                                                                   \
                   TILE(1, 8, 8),                                                                  \
                   __VA_ARGS__},                                                                   \
        .fill = how,                                                                               \
    }

/* A grid, tile and heads of one's own. */
#define SHAPED(label, kind, ...)                                                                   \
    {                                                                                              \
        .name = "beyond " label, .params = {.type = kind, __VA_ARGS__},                            \
    }

#define SOME   .sparsity = 0.6
#define LSE    .scorer = DRAFT_SCORER_LSE
#define MAX    .scorer = DRAFT_SCORER_MAX
#define EXCESS .scorer = DRAFT_SCORER_EXCESS
#define MEAN   .tail = DRAFT_TAIL_MEAN
#define GAP    .tail = DRAFT_TAIL_GAP
#define FITTED .tail = DRAFT_TAIL_FITTED
#define SHAPE  .shape

struct test_case cases_tail[] = {
    BEYOND("lse f32", DRAFT_F32, SOME, LSE),
    BEYOND("max f16", DRAFT_F16, SOME, MAX),
    BEYOND("lse mass", DRAFT_BF16, LSE, .rule = DRAFT_RULE_MASS, .mass = 0.6),
    BEYOND("mean f32", DRAFT_F32, SOME, MEAN),
    BEYOND("mean f16", DRAFT_F16, SOME, MEAN),
    BEYOND("mean bf16", DRAFT_BF16, SOME, MEAN),
    BEYOND("gap f32", DRAFT_F32, SOME, GAP),
    BEYOND("lse gap row f16", DRAFT_F16, SOME, LSE, GAP, .rule = DRAFT_RULE_ROW),
    BEYOND("max gap bf16", DRAFT_BF16, SOME, MAX, GAP),
    BEYOND("fitted f32", DRAFT_F32, SOME, FITTED),
    BEYOND("lse fitted mass f16", DRAFT_F16, LSE, FITTED, .rule = DRAFT_RULE_MASS),
    BEYOND("max fitted bf16", DRAFT_BF16, SOME, MAX, FITTED, .row_floor = 0.7),
    BEYOND("sparsity 0", DRAFT_F16, LSE, MEAN, .sparsity = 0),
    BEYOND("sparsity 0.99", DRAFT_F16, MEAN, .sparsity = 0.99),
    BEYOND("nothing kept", DRAFT_F16, MEAN, .sparsity = 0.9999, .force = DRAFT_FORCE_NOT_SELF),
    BEYOND("scale below 0", DRAFT_F32, SOME, LSE, GAP, .scale = -0.3f),
    BEYOND("scale near 0", DRAFT_F32, SOME, LSE, GAP, .scale = 2e-38f),

    SHAPED("tile 3x5x8", DRAFT_F16, SOME, LSE, GAP, TILE(3, 5, 8),
           SHAPE = {GRID(7, 13, 18), .suffix = 150, .heads = 1, .dim = 64}),
    SHAPED("tile 2x8x8", DRAFT_F32, SOME, LSE, FITTED, TILE(2, 8, 8),
           SHAPE = {GRID(5, 12, 20), .heads = 4, .kv_heads = 2, .dim = 40}),
    SHAPED("tile 4x4x4", DRAFT_BF16, SOME, MAX, MEAN, TILE(4, 4, 4),
           SHAPE = {GRID(6, 10, 9), .prefix = 131, .heads = 2, .dim = 128}),
    SHAPED("tile 8x2x3", DRAFT_F16, SOME, LSE, GAP, TILE(8, 2, 3),
           SHAPE = {GRID(21, 3, 7), .heads = 1, .dim = 64}),
    SHAPED("tile one row", DRAFT_BF16, SOME, LSE, GAP, TILE(1, 1, 128),
           SHAPE = {GRID(1, 1, 600), .heads = 1, .dim = 64}),
    SHAPED("tile one column", DRAFT_F32, SOME, MAX, FITTED, TILE(1, 100, 1),
           SHAPE = {GRID(1, 350, 1), .heads = 1, .dim = 72}),
    SHAPED("tile one token", DRAFT_F16, LSE, GAP, TILE(1, 1, 1), .sparsity = 0.9,
           SHAPE = {GRID(2, 5, 7), .suffix = 3, .heads = 2, .dim = 16}),
    SHAPED("tile larger than grid", DRAFT_F32, SOME, LSE, GAP, TILE(2, 4, 16),
           SHAPE = {GRID(1, 3, 7), .suffix = 2, .heads = 1, .dim = 64}),
    SHAPED("tile chosen", DRAFT_F16, SOME, MEAN,
           SHAPE = {GRID(5, 11, 24), .suffix = 17, .heads = 2, .dim = 64}),
    SHAPED("many blocks f16", DRAFT_F16, LSE, GAP, TILE(1, 2, 3),
           SHAPE = {GRID(1, 28, 60), .suffix = 20, .heads = 1, .dim = 64}, .sparsity = 0.97),
    SHAPED("many blocks f32", DRAFT_F32, FITTED, TILE(1, 2, 2),
           SHAPE = {GRID(1, 21, 33), .heads = 2, .kv_heads = 1, .dim = 32}, .sparsity = 0.97),
    /* The last tile of pooled keys has one. */
    SHAPED("129 blocks", DRAFT_F16, LSE, GAP, TILE(1, 1, 1), .sparsity = 0.95,
           SHAPE = {GRID(1, 3, 43), .suffix = 3, .heads = 1, .dim = 64}),
    SHAPED("dim 8", DRAFT_BF16, SOME, LSE, FITTED, TILE(1, 8, 16),
           SHAPE = {GRID(2, 10, 19), .suffix = 21, .heads = 2, .dim = 8}),
    SHAPED("dim 128", DRAFT_F16, SOME, LSE, GAP, TILE(1, 8, 16),
           SHAPE = {GRID(1, 10, 19), .suffix = 21, .heads = 2, .dim = 128}),
    {.name = "beyond batch valid",
     .params = {SHAPE = {.batch = 2,
                         .prefix = 30,
                         GRID(1, 17, 18),
                         .suffix = 150,
                         .heads = 2,
                         .kv_heads = 1,
                         .dim = 64},
                .type = DRAFT_BF16, TILE(1, 8, 8), .sparsity = 0.6, LSE, FITTED},
     .valid = valid_two},
    {.name = "beyond gaps",
     .params = {SHAPE = {.batch = 2, GRID(1, 10, 19), .suffix = 6, .heads = 2, .dim = 40},
                .type = DRAFT_F16, TILE(1, 4, 8), .sparsity = 0.5, LSE, GAP},
     .gap = 3,
     .heads_first = true},

    FILLED("constant", FILL_CONSTANT, DRAFT_F16, SOME, LSE, GAP),
    FILLED("rows", FILL_ROWS, DRAFT_BF16, SOME, MAX, FITTED),
    FILLED("spike", FILL_SPIKE, DRAFT_F32, SOME, LSE, FITTED),
    FILLED("spike gap", FILL_SPIKE, DRAFT_F16, SOME, GAP),
    FILLED("denormal", FILL_DENORMAL, DRAFT_F16, SOME, LSE, FITTED),
    FILLED("denormal f32", FILL_DENORMAL, DRAFT_F32, SOME, LSE, GAP),
    FILLED("extreme f16", FILL_EXTREME, DRAFT_F16, SOME, LSE, GAP),
    FILLED("extreme bf16", FILL_EXTREME, DRAFT_BF16, SOME, MAX, FITTED),
    FILLED("large f32", FILL_LARGE, DRAFT_F32, SOME, LSE, FITTED, .scale = 0x1p-103f),
    FILLED("large bf16", FILL_LARGE, DRAFT_BF16, SOME, MAX, GAP, .scale = 0x1p-103f),
    FILLED("squares bf16", FILL_SQUARES, DRAFT_BF16, SOME, LSE, FITTED),

    BEYOND("excess f32", DRAFT_F32, SOME, EXCESS),
    BEYOND("excess mean row f16", DRAFT_F16, SOME, EXCESS, MEAN, .rule = DRAFT_RULE_ROW),
    BEYOND("excess gap floor bf16", DRAFT_BF16, SOME, EXCESS, GAP, .row_floor = 0.7),
    BEYOND("excess scale far below 0", DRAFT_F32, SOME, EXCESS, GAP, .scale = -6),
    SHAPED("excess tile 3x5x8", DRAFT_F16, EXCESS, FITTED, TILE(3, 5, 8), .rule = DRAFT_RULE_MASS,
           SHAPE = {.batch = 2, .prefix = 9, GRID(4, 8, 18), .heads = 2, .kv_heads = 1, .dim = 40}),
    SHAPED("excess tile 1x8x16", DRAFT_BF16, SOME, EXCESS, MEAN, TILE(1, 8, 16),
           SHAPE = {GRID(2, 10, 19), .suffix = 21, .heads = 2, .dim = 128}),
    /* 2 of 16 parts hold tokens, and their logits are so low that e^y is 0. */
    SHAPED("excess tile two parts", DRAFT_F16, SOME, EXCESS, MEAN, TILE(1, 8, 16), .scale = -300,
           SHAPE = {GRID(1, 2, 3), .suffix = 5, .heads = 8, .dim = 128}),
    SHAPED("excess tile one row", DRAFT_F16, SOME, EXCESS, GAP, TILE(1, 1, 128),
           SHAPE = {GRID(1, 1, 600), .heads = 1, .dim = 64}),
    SHAPED("excess tile one token", DRAFT_BF16, SOME, EXCESS, MEAN, TILE(1, 1, 1),
           SHAPE = {GRID(1, 3, 5), .suffix = 3, .heads = 2, .dim = 16}),
    {.name = "beyond excess many blocks",
     .params = {SHAPE = {GRID(1, 39, 87), .suffix = 20, .heads = 1, .dim = 64}, .type = DRAFT_F16,
                TILE(1, 4, 6), .rule = DRAFT_RULE_ROW, .sparsity = 0.9, EXCESS, MEAN},
     .stages = DRAFT_POOL | DRAFT_SCORE | DRAFT_SELECT},
    FILLED("constant excess", FILL_CONSTANT, DRAFT_F16, SOME, EXCESS, GAP),
    FILLED("spike excess", FILL_SPIKE, DRAFT_F32, SOME, EXCESS, FITTED),
    FILLED("extreme excess", FILL_EXTREME, DRAFT_F16, SOME, EXCESS),
    FILLED("large excess", FILL_LARGE, DRAFT_BF16, SOME, EXCESS, MEAN, .scale = 0x1p-103f),
    /* q times the scale is infinite, and the logits are not. */
    {.name = "beyond large scale",
     .params = {SHAPE = {GRID(1, 3, 7), .suffix = 3, .heads = 2, .dim = 64}, .type = DRAFT_BF16,
                TILE(1, 2, 3), SOME, EXCESS, GAP, .scale = 0x1p10f},
     .fill = FILL_LARGE},
    FILLED("squares excess", FILL_SQUARES, DRAFT_BF16, SOME, EXCESS, FITTED),

    BEYOND("floor 0.5", DRAFT_F32, SOME, .row_floor = 0.5),
    BEYOND("floor 1", DRAFT_F32, .row_floor = 1, .sparsity = 0.8),
    BEYOND("floor first frame", DRAFT_F32, .row_floor = 1, .sparsity = 0.7,
           .force = DRAFT_FORCE_FIRST_FRAME | DRAFT_FORCE_NEIGHBOURS),
    BEYOND("first frame mean f16", DRAFT_F16, SOME, MEAN, .force = DRAFT_FORCE_FIRST_FRAME),
    BEYOND("first frame max fitted row bf16", DRAFT_BF16, MAX, FITTED, .rule = DRAFT_RULE_ROW,
           .sparsity = 0.8, .force = DRAFT_FORCE_FIRST_FRAME | DRAFT_FORCE_NEIGHBOURS),
    SHAPED("first frame floor lse gap", DRAFT_F16, LSE, GAP, .row_floor = 0.8, .sparsity = 0.7,
           TILE(2, 4, 8), SHAPE = {GRID(7, 9, 18), .suffix = 12, .heads = 2, .dim = 64},
           .force = DRAFT_FORCE_FIRST_FRAME | DRAFT_FORCE_NEIGHBOURS),
    SHAPED("neighbours mass fitted", DRAFT_F32, LSE, FITTED, .rule = DRAFT_RULE_MASS, .mass = 0.5,
           TILE(2, 4, 8), SHAPE = {GRID(7, 9, 18), .prefix = 5, .heads = 2, .dim = 40},
           .force = DRAFT_FORCE_NEIGHBOURS | DRAFT_FORCE_NOT_SELF),
    BEYOND("floor not self", DRAFT_F32, SOME, .row_floor = 0.6, .force = DRAFT_FORCE_NOT_SELF),
    SHAPED("floor sparsities", DRAFT_F32, .row_floor = 0.9, .head_sparsity = three_sparsities,
           TILE(1, 4, 8), SHAPE = {GRID(2, 10, 19), .heads = 3, .dim = 16}),
    /* The budget is half a pair off a whole number, that of its floor too. */
    SHAPED("floor of halves", DRAFT_F32, .row_floor = 0.99, .sparsity = 53.5 / 81, TILE(2, 15, 2),
           SHAPE = {GRID(5, 1, 6), .suffix = 3, .heads = 2, .dim = 16}),
    {.name = "beyond large floor",
     .params = {SHAPE = {GRID(1, 27, 41), .suffix = 3, .heads = 1, .dim = 8}, .type = DRAFT_F32,
                TILE(1, 1, 1), .sparsity = 0.9, .row_floor = 0.8, LSE, GAP},
     .stages = DRAFT_POOL | DRAFT_SCORE | DRAFT_SELECT},
};

_Static_assert(sizeof cases_tail / sizeof *cases_tail == CASES_TAIL, "cases.h counts them");
