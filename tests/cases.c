/* SPDX-License-Identifier: MIT */
#include "cases.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "harness.h"

static const double three_sparsities[] = {0.0, 0.5, 0.95};
static const uint32_t valid_one[][2] = {{3, 50}};
static const uint32_t valid_none[][2] = {{0, 0}};
static const uint32_t valid_two[][2] = {{20, 129}, {UINT32_MAX, 7}};
static const uint32_t valid_nobody[][2] = {{0, 0}, {140, 0}};

#define GRID(t, h, w) .frames = (t), .height = (h), .width = (w)
#define TILE(t, h, w) .tile = {t, h, w}

/* A small ragged grid with text, for each dim and type. */
#define DIM_CASE(number, kind, label)                                                              \
    {                                                                                              \
        .name = "dim " #number " " label,                                                          \
        .params = {.shape = {GRID(1, 10, 19), .suffix = 21, .heads = 2, .dim = number},            \
                   .type = kind,                                                                   \
                   TILE(1, 8, 16),                                                                 \
                   .sparsity = 0.5},                                                               \
    }
#define DIM_CASES(number)                                                                          \
    DIM_CASE(number, DRAFT_F16, "f16"), DIM_CASE(number, DRAFT_BF16, "bf16"),                      \
        DIM_CASE(number, DRAFT_F32, "f32")

/* One frame or a few of a grid that people have, in tiles of the paper. */
#define GRID_CASE(label, t, h, w, kind, d, share)                                                  \
    {                                                                                              \
        .name = "grid " label,                                                                     \
        .params = {.shape = {GRID(t, h, w), .heads = 1, .dim = d},                                 \
                   .type = kind,                                                                   \
                   TILE(1, 8, 16),                                                                 \
                   .sparsity = share},                                                             \
    }

/* A rule on a grid with 12 small blocks and some text, or a tile of its own. Attend, which gets lists
 * of every length alone, follows in a few cases. */
#define RULE_ON(label, wanted, grid, ...)                                                          \
    {                                                                                              \
        .name = "rule " label,                                                                     \
        .params = {.shape = {grid, .prefix = 9, .heads = 3, .dim = 32},                            \
                   .type = DRAFT_F32,                                                              \
                   __VA_ARGS__},                                                                   \
        .stages = wanted,                                                                          \
    }
#define LISTS                     (DRAFT_POOL | DRAFT_SCORE | DRAFT_SELECT)
#define SMALL_GRID                GRID(3, 5, 9)
#define PAPER_GRID                GRID(2, 10, 19)
#define RULE_CASE(label, ...)     RULE_ON(label, LISTS, SMALL_GRID, TILE(1, 4, 8), __VA_ARGS__)
#define ATTENDED_CASE(label, ...) RULE_ON(label, 0, SMALL_GRID, TILE(1, 4, 8), __VA_ARGS__)
/* The paper's rule has the paper's tile. */
#define PAPER_CASE(label, wanted, ...)                                                             \
    RULE_ON("paper " label, wanted, PAPER_GRID, TILE(1, 8, 16), .rule = DRAFT_RULE_PAPER,          \
            __VA_ARGS__)

/* Blocks of the paper's size without text: rows may stay empty. */
#define BARE_CASE(label, ...)                                                                      \
    {                                                                                              \
        .name = "bare " label,                                                                     \
        .params = {.shape = {GRID(3, 10, 19), .heads = 3, .dim = 32},                              \
                   .type = DRAFT_F16,                                                              \
                   TILE(1, 8, 16),                                                                 \
                   __VA_ARGS__},                                                                   \
    }

/* A fill on one ragged frame. */
#define FILL_CASE(label, how, kind, d)                                                             \
    {                                                                                              \
        .name = "fill " label,                                                                     \
        .params = {.shape = {GRID(2, 13, 21), .suffix = 10, .heads = 2, .dim = d},                 \
                   .type = kind,                                                                   \
                   TILE(1, 8, 8),                                                                  \
                   .sparsity = 0.6},                                                               \
        .fill = how,                                                                               \
    }

/* Blocks of one token each: a large map, too slow to attend. */
#define LARGE_CASE(label, h, w, count, ...)                                                        \
    {                                                                                              \
        .name = "large " label,                                                                    \
        .params = {.shape = {GRID(1, h, w), .suffix = 3, .heads = count, .dim = 8},                \
                   .type = DRAFT_F32,                                                              \
                   TILE(1, 1, 1),                                                                  \
                   __VA_ARGS__},                                                                   \
        .stages = LISTS,                                                                           \
    }

static struct test_case table[] = {
    {.name = "plain",
     .params = {.shape = {GRID(1, 16, 32), .heads = 2, .dim = 64},
                .type = DRAFT_F32,
                TILE(1, 8, 16),
                .sparsity = 0.5}},
    {.name = "dense",
     .params = {.shape = {GRID(2, 11, 23), .suffix = 40, .heads = 2, .dim = 64},
                .type = DRAFT_F16,
                TILE(1, 8, 16)}},

    GRID_CASE("45x80", 1, 45, 80, DRAFT_F16, 64, 0.9),
    GRID_CASE("80x45", 1, 80, 45, DRAFT_F32, 32, 0.9),
    GRID_CASE("30x52", 1, 30, 52, DRAFT_BF16, 64, 0.9),
    GRID_CASE("52x30", 1, 52, 30, DRAFT_F16, 128, 0.5),
    GRID_CASE("34x60", 1, 34, 60, DRAFT_BF16, 128, 0.5),
    GRID_CASE("60x34", 1, 60, 34, DRAFT_F16, 32, 0.99),

    {.name = "tile 3x5x8",
     .params = {.shape = {GRID(7, 13, 18), .suffix = 150, .heads = 1, .dim = 64},
                .type = DRAFT_F16,
                TILE(3, 5, 8),
                .sparsity = 0.7}},
    {.name = "tile 3x10x4",
     .params = {.shape = {GRID(6, 21, 10), .heads = 1, .dim = 128},
                .type = DRAFT_BF16,
                TILE(3, 10, 4),
                .sparsity = 0.5}},
    {.name = "tile 2x8x8",
     .params = {.shape = {GRID(5, 12, 20), .heads = 2, .dim = 64},
                .type = DRAFT_F32,
                TILE(2, 8, 8),
                .sparsity = 0.8}},
    {.name = "tile 2x3x4",
     .params = {.shape = {GRID(5, 7, 9), .prefix = 4, .heads = 2, .dim = 40},
                .type = DRAFT_F16,
                TILE(2, 3, 4),
                .sparsity = 0.8}},
    {.name = "tile larger than grid",
     .params = {.shape = {GRID(1, 3, 7), .suffix = 2, .heads = 1, .dim = 64},
                .type = DRAFT_F32,
                TILE(2, 4, 16),
                .sparsity = 0.5}},
    {.name = "tile chosen",
     .params = {.shape = {GRID(5, 11, 24), .suffix = 17, .heads = 2, .dim = 64},
                .type = DRAFT_F16,
                .sparsity = 0.6}},
    {.name = "tile one token",
     .params = {.shape = {GRID(2, 3, 5), .heads = 2, .dim = 16},
                .type = DRAFT_F32,
                TILE(1, 1, 1),
                .sparsity = 0.6}},

    {.name = "one frame",
     .params = {.shape = {GRID(1, 17, 33), .heads = 2, .dim = 64},
                .type = DRAFT_F16,
                TILE(1, 8, 16),
                .sparsity = 0.5}},
    {.name = "one token",
     .params = {.shape = {GRID(1, 1, 1), .heads = 1, .dim = 64},
                .type = DRAFT_F16,
                TILE(1, 8, 16),
                .sparsity = 0.9}},
    {.name = "one row",
     .params = {.shape = {GRID(1, 1, 300), .heads = 1, .dim = 64},
                .type = DRAFT_BF16,
                TILE(1, 1, 128),
                .sparsity = 0.5}},
    {.name = "one column",
     .params = {.shape = {GRID(1, 300, 1), .heads = 1, .dim = 64},
                .type = DRAFT_F32,
                TILE(1, 100, 1),
                .sparsity = 0.5}},
    {.name = "many frames",
     .params = {.shape = {GRID(61, 2, 3), .heads = 1, .dim = 64},
                .type = DRAFT_F16,
                TILE(8, 2, 3),
                .sparsity = 0.7}},

    {.name = "prefix",
     .params = {.shape = {GRID(1, 13, 20), .prefix = 131, .heads = 2, .dim = 64},
                .type = DRAFT_F16,
                TILE(1, 8, 16),
                .sparsity = 0.5}},
    {.name = "prefix and suffix",
     .params = {.shape = {GRID(2, 9, 20), .prefix = 5, .suffix = 257, .heads = 1, .dim = 64},
                .type = DRAFT_BF16,
                TILE(1, 8, 16),
                .sparsity = 0.9}},
    {.name = "valid",
     .params = {.shape = {GRID(1, 9, 20), .prefix = 5, .suffix = 140, .heads = 2, .dim = 64},
                .type = DRAFT_F16,
                TILE(1, 8, 16),
                .sparsity = 0.5},
     .valid = valid_one},
    {.name = "valid none",
     .params = {.shape = {GRID(1, 9, 20), .prefix = 5, .suffix = 140, .heads = 2, .dim = 64},
                .type = DRAFT_F32,
                TILE(1, 8, 16),
                .sparsity = 0.5},
     .valid = valid_none},
    {.name = "batch",
     .params = {.shape = {.batch = 3, GRID(1, 17, 18), .heads = 2, .dim = 40},
                .type = DRAFT_F32,
                TILE(1, 8, 8),
                .sparsity = 0.6}},
    {.name = "batch valid",
     .params = {.shape = {.batch = 2,
                          .prefix = 30,
                          GRID(1, 17, 18),
                          .suffix = 150,
                          .heads = 2,
                          .kv_heads = 1,
                          .dim = 64},
                .type = DRAFT_BF16,
                TILE(1, 8, 16),
                .sparsity = 0.6},
     .valid = valid_two},
    {.name = "batch valid gaps",
     .params =
         {.shape = {.batch = 2, .prefix = 140, GRID(2, 7, 11), .suffix = 20, .heads = 1, .dim = 64},
          .type = DRAFT_F16,
          TILE(2, 8, 8),
          .sparsity = 0.5},
     .valid = valid_nobody,
     .gap = 1},

    {.name = "groups of 2",
     .params = {.shape = {GRID(1, 18, 22), .suffix = 5, .heads = 4, .kv_heads = 2, .dim = 64},
                .type = DRAFT_F16,
                TILE(1, 8, 16),
                .sparsity = 0.5}},
    {.name = "group of 6",
     .params = {.shape = {GRID(1, 10, 22), .heads = 6, .kv_heads = 1, .dim = 64},
                .type = DRAFT_F32,
                TILE(1, 8, 8),
                .sparsity = 0.7}},

    DIM_CASES(8),
    DIM_CASES(40),
    DIM_CASES(64),
    DIM_CASES(72),
    DIM_CASES(80),
    DIM_CASES(96),
    DIM_CASES(128),

    {.name = "gaps f16",
     .params = {.shape = {.batch = 2, GRID(1, 10, 19), .suffix = 6, .heads = 2, .dim = 40},
                .type = DRAFT_F16,
                TILE(1, 8, 16),
                .sparsity = 0.5},
     .gap = 1},
    {.name = "gaps bf16",
     .params = {.shape = {.batch = 2, GRID(1, 10, 19), .suffix = 6, .heads = 2, .dim = 128},
                .type = DRAFT_BF16,
                TILE(1, 8, 16),
                .sparsity = 0.5},
     .gap = 5},
    {.name = "gaps f32",
     .params = {.shape = {.batch = 2, GRID(1, 10, 19), .suffix = 6, .heads = 2, .dim = 64},
                .type = DRAFT_F32,
                TILE(1, 8, 16),
                .sparsity = 0.5},
     .gap = 3,
     .no_lse = true},
    {.name = "heads first",
     .params = {.shape = {.batch = 2, GRID(1, 10, 19), .heads = 4, .kv_heads = 2, .dim = 72},
                .type = DRAFT_F16,
                TILE(1, 8, 16),
                .sparsity = 0.5},
     .heads_first = true},

    ATTENDED_CASE("head 0", .sparsity = 0),
    ATTENDED_CASE("head 0.5", .sparsity = 0.5),
    RULE_CASE("head 0.9", .sparsity = 0.9),
    RULE_CASE("head 0.99", .sparsity = 0.99),
    RULE_CASE("head not self", .sparsity = 0.9, .force = DRAFT_FORCE_NOT_SELF),
    RULE_CASE("head first frame", .sparsity = 0.6, .force = DRAFT_FORCE_FIRST_FRAME),
    RULE_CASE("head all forced", .sparsity = 0.9,
              .force = DRAFT_FORCE_FIRST_FRAME | DRAFT_FORCE_NEIGHBOURS),
    RULE_CASE("head sparsities", .head_sparsity = three_sparsities),
    ATTENDED_CASE("row 0.5", .rule = DRAFT_RULE_ROW, .sparsity = 0.5),
    RULE_CASE("row 0.99", .rule = DRAFT_RULE_ROW, .sparsity = 0.99),
    RULE_CASE("row not self", .rule = DRAFT_RULE_ROW, .sparsity = 0.8,
              .force = DRAFT_FORCE_NOT_SELF),
    RULE_CASE("row neighbours", .rule = DRAFT_RULE_ROW, .sparsity = 0.9,
              .force = DRAFT_FORCE_NEIGHBOURS),
    RULE_CASE("row sparsities", .rule = DRAFT_RULE_ROW, .head_sparsity = three_sparsities),
    ATTENDED_CASE("mass", .rule = DRAFT_RULE_MASS),
    RULE_CASE("mass 0.3", .rule = DRAFT_RULE_MASS, .mass = 0.3),
    RULE_CASE("mass 1", .rule = DRAFT_RULE_MASS, .mass = 1),
    ATTENDED_CASE("mass tiny", .rule = DRAFT_RULE_MASS, .mass = 1e-6,
                  .force = DRAFT_FORCE_NOT_SELF),
    RULE_CASE("mass forced", .rule = DRAFT_RULE_MASS, .mass = 0.5,
              .force = DRAFT_FORCE_FIRST_FRAME | DRAFT_FORCE_NEIGHBOURS),
    PAPER_CASE("0", LISTS, .sparsity = 0),
    PAPER_CASE("0.5", 0, .sparsity = 0.5),
    PAPER_CASE("0.99", LISTS, .sparsity = 0.99),
    PAPER_CASE("sparsities", LISTS, .head_sparsity = three_sparsities),
    ATTENDED_CASE("scale", .sparsity = 0.7, .scale = 0.7f),
    ATTENDED_CASE("scale below 0", .sparsity = 0.7, .scale = -0.3f),

    BARE_CASE("paper", .rule = DRAFT_RULE_PAPER, .sparsity = 0.99),
    BARE_CASE("head", .sparsity = 0.97, .force = DRAFT_FORCE_NOT_SELF),
    BARE_CASE("nothing", .sparsity = 0.9999, .force = DRAFT_FORCE_NOT_SELF),

    FILL_CASE("constant f16", FILL_CONSTANT, DRAFT_F16, 64),
    FILL_CASE("constant f32", FILL_CONSTANT, DRAFT_F32, 128),
    FILL_CASE("rows", FILL_ROWS, DRAFT_BF16, 64),
    FILL_CASE("spike f16", FILL_SPIKE, DRAFT_F16, 128),
    FILL_CASE("spike f32", FILL_SPIKE, DRAFT_F32, 64),
    FILL_CASE("denormal f16", FILL_DENORMAL, DRAFT_F16, 64),
    FILL_CASE("denormal bf16", FILL_DENORMAL, DRAFT_BF16, 64),
    FILL_CASE("denormal f32", FILL_DENORMAL, DRAFT_F32, 64),
    FILL_CASE("extreme f16", FILL_EXTREME, DRAFT_F16, 64),
    FILL_CASE("extreme bf16", FILL_EXTREME, DRAFT_BF16, 128),

    LARGE_CASE("head", 25, 37, 1, .sparsity = 0.9),
    LARGE_CASE("head ragged", 11, 61, 2, .sparsity = 0.5),
    LARGE_CASE("row", 27, 41, 1, .rule = DRAFT_RULE_ROW, .sparsity = 0.9),
    LARGE_CASE("mass", 27, 41, 1, .rule = DRAFT_RULE_MASS, .mass = 0.8),
    /* Some entries of the map are the smallest normal numbers. */
    LARGE_CASE("spread", 7, 15, 1, .sparsity = 0.9, .scale = 10),
};

enum { CASES_HERE = sizeof table / sizeof table[0], CASES = CASES_HERE + CASES_TAIL };

static struct test_case *case_at(size_t i)
{
    return i < CASES_HERE ? &table[i] : &cases_tail[i - CASES_HERE];
}

/* What a case does not name is the paper's, whatever the library's defaults are. Before main, since
 * threads read the table. */
__attribute__((constructor)) static void write_out(void)
{
    for (size_t i = 0; i < CASES; i++) {
        struct draft_plan_params *p = &case_at(i)->params;
        p->rule = p->rule ? p->rule : DRAFT_RULE_HEAD;
        p->scorer = p->scorer ? p->scorer : DRAFT_SCORER_MEAN;
        p->tail = p->tail ? p->tail : DRAFT_TAIL_DROP;
    }
}

void cases_change_f32(draft_type type)
{
    for (size_t i = 0; i < CASES; i++)
        if (case_at(i)->params.type == DRAFT_F32 && !strstr(case_at(i)->name, "f32"))
            case_at(i)->params.type = type;
}

/* A few cases that are fast and have among them what is in the whole table: each type, rule, kind of
 * text, of stride, of tile, of content. test_verify counts. */
static const char *const quick_names[] = {
    "dense",
    "tile 2x3x4",
    "tile chosen",
    "tile one token",
    "batch valid",
    "batch valid gaps",
    "dim 8 f32",
    "dim 128 f16",
    "dim 128 bf16",
    "gaps f32",
    "heads first",
    "rule head all forced",
    "rule mass tiny",
    "rule row sparsities",
    "rule paper 0.5",
    "rule scale below 0",
    "bare nothing",
    "fill constant f32",
    "fill rows",
    "fill spike f16",
    "fill denormal bf16",
    "fill extreme bf16",
    "large row",
    "beyond lse gap row f16",
    "beyond fill rows",
    "beyond fill large bf16",
    "beyond fill squares bf16",
    "beyond tile 4x4x4",
    "beyond excess gap floor bf16",
    "beyond floor not self",
};

static bool is_quick(const struct test_case *test)
{
    for (size_t i = 0; i < sizeof quick_names / sizeof *quick_names; i++)
        if (strcmp(test->name, quick_names[i]) == 0)
            return true;
    return false;
}

size_t cases_matching(const char *text, bool quick, const struct test_case *const **out)
{
    static const struct test_case *chosen[CASES];
    size_t count = 0;
    for (size_t i = 0; i < CASES; i++)
        if ((!text || strstr(case_at(i)->name, text)) && (!quick || is_quick(case_at(i))))
            chosen[count++] = case_at(i);
    *out = chosen;
    return count;
}

size_t cases_chosen(const struct test_case *const **out)
{
    return cases_matching(getenv("DRAFT_CASES"), false, out);
}

const struct test_case *case_named(const char *name)
{
    for (size_t i = 0; i < CASES; i++)
        if (strcmp(case_at(i)->name, name) == 0)
            return case_at(i);
    test_fail(__FILE__, __LINE__, "no case is called %s", name);
}

/* ---- Tensors ---- */

uint64_t tensor_row(const struct host_tensor *t, uint32_t batch, uint32_t token, uint32_t head)
{
    return batch * t->batch_stride + token * t->token_stride + head * t->head_stride;
}

/* number: 0 to 3 for q, k, v and out. Where a case has strides of its own, they all differ. */
static void tensor_init(struct host_tensor *t, const struct problem *p, uint32_t heads,
                        uint32_t number)
{
    const struct test_case *test = p->test;
    *t = (struct host_tensor){.type = test->params.type,
                              .batch = p->batch,
                              .tokens = p->grid.tokens,
                              .heads = heads,
                              .dim = p->dim};
    uint64_t gap = (test->gap ? test->gap + number : 0) * 16 / type_size(t->type);
    if (test->heads_first && number % 2 == 0) {
        t->token_stride = t->dim + gap;
        t->head_stride = t->tokens * t->token_stride + 2 * gap;
        t->batch_stride = heads * t->head_stride + 3 * gap;
    } else {
        t->head_stride = t->dim + gap;
        t->token_stride = heads * t->head_stride + 2 * gap;
        t->batch_stride = t->tokens * t->token_stride + 3 * gap;
    }
    if (test->lone_strides) {
        t->head_stride = heads == 1 ? 3 : t->head_stride;
        t->token_stride = t->tokens == 1 ? 1 : t->token_stride;
        t->batch_stride = t->batch == 1 ? UINT64_MAX : t->batch_stride;
    }
    uint64_t last = tensor_row(t, t->batch - 1, t->tokens - 1, heads - 1);
    t->size = (size_t)(last + t->dim) * type_size(t->type);
    t->bytes = test_alloc(t->size, 1);
    memset(t->bytes, POISON, t->size);
}

/* ---- Fills ---- */

struct place {
    uint32_t token, head, d;
    char tensor; /* 'q', 'k', 'v' */
};

/* Waves over the grid with a phase for each head and channel, so that near blocks attend to each
 * other and the map is far from flat. */
static double smooth(const struct problem *p, const struct place *at, struct rng *r)
{
    const struct draft_shape *s = &p->grid.shape;
    uint32_t token = at->token < s->prefix ? at->token : at->token - s->prefix;
    double frame = token / (s->height * s->width), row = token / s->width % s->height;
    double column = token % s->width;
    double wave = sin(0.31 * (at->d % 5 + 1) * row + 0.23 * (at->d % 3 + 1) * column + 0.9 * frame +
                      at->d + 0.7 * at->head);
    return 1.2 * wave + 0.8 * rng_normal(r);
}

static double fill_value(const struct problem *p, const struct place *at, struct rng *r)
{
    double tiny = p->test->params.type == DRAFT_F16 ? 0x1p-20 : 0x1p-130;
    bool spiked = at->tensor != 'v' && at->token == p->grid.tokens / 3;
    bool sign = rng_next(r) & 1;
    switch (p->test->fill) {
    case FILL_SMOOTH:
        return smooth(p, at, r);
    case FILL_CONSTANT:
        return 0.75;
    case FILL_ROWS:
        return 0.3 * sin(at->token * 0.37 + at->head);
    case FILL_SPIKE:
        return (spiked ? 50 : 1) * rng_normal(r);
    case FILL_DENORMAL:
        return tiny * rng_normal(r);
    case FILL_LARGE:
        if (at->tensor == 'v')
            return (at->head % 2 ? 1 : 0x1.8p122) * (1 + smooth(p, at, r) / 16);
        return at->tensor == (at->head % 2 ? 'k' : 'q') ? 0x1p123 * (1 + smooth(p, at, r) / 64)
                                                        : 0x1p-20 * smooth(p, at, r);
    case FILL_SQUARES:
        if (at->d == 0 && at->tensor != 'v')
            return at->tensor == 'q' ? 0x1p70 : 0;
        return (at->tensor == 'v' ? 1 : 0x1p45) * smooth(p, at, r);
    case FILL_EXTREME:
        if (at->tensor == 'v')
            return sign ? 65504 : -65504;
        return at->d ? 0 : at->token % 3 ? 65504 : -65504;
    }
    return 0;
}

/* Writes the tensor and, as double, what it then holds. */
static double *fill_tensor(const struct problem *p, struct host_tensor *t, char name)
{
    double *exact = test_alloc((size_t)t->batch * t->heads * t->tokens * t->dim, sizeof *exact);
    struct rng r = rng_of(p->test->name, (uint64_t)name);
    double *to = exact;
    for (uint32_t b = 0; b < t->batch; b++)
        for (uint32_t head = 0; head < t->heads; head++)
            for (uint32_t token = 0; token < t->tokens; token++) {
                uint64_t row = tensor_row(t, b, token, head);
                bool valid = oracle_token_valid(&p->grid, p->valid ? p->valid[b] : NULL, token);
                for (uint32_t d = 0; d < t->dim; d++, to++) {
                    struct place at = {token, head, d, name};
                    double value = fill_value(p, &at, &r);
                    type_store(t->type, t->bytes, row + d, valid ? value : NAN);
                    *to = type_load(t->type, t->bytes, row + d);
                }
            }
    return exact;
}

/* ---- Problems ---- */

void problem_init(struct problem *p, const struct test_case *test, struct draft_tile tile)
{
    *p = (struct problem){.test = test};
    oracle_grid_init(&p->grid, &test->params.shape, tile);
    p->batch = p->grid.shape.batch;
    p->heads = p->grid.shape.heads;
    p->kv_heads = p->grid.shape.kv_heads;
    p->dim = p->grid.shape.dim;
    p->scale = test->params.scale != 0 ? test->params.scale : (float)(1 / sqrt(p->dim));
    if (test->valid) {
        p->valid = test_alloc(p->batch, sizeof *p->valid);
        memcpy(p->valid, test->valid, p->batch * sizeof *p->valid);
    }
    tensor_init(&p->q, p, p->heads, 0);
    tensor_init(&p->k, p, p->kv_heads, 1);
    tensor_init(&p->v, p, p->kv_heads, 2);
    tensor_init(&p->out, p, p->heads, 3);
    p->exact_q = fill_tensor(p, &p->q, 'q');
    p->exact_k = fill_tensor(p, &p->k, 'k');
    p->exact_v = fill_tensor(p, &p->v, 'v');
}

void problem_free(struct problem *p)
{
    oracle_grid_free(&p->grid);
    struct host_tensor *tensors[] = {&p->q, &p->k, &p->v, &p->out};
    for (size_t i = 0; i < 4; i++)
        free(tensors[i]->bytes);
    free(p->exact_q);
    free(p->exact_k);
    free(p->exact_v);
    free(p->valid);
    *p = (struct problem){0};
}

static const double *rows_of(const struct problem *p, const double *exact, uint32_t heads,
                             uint32_t batch, uint32_t head)
{
    return exact + ((size_t)batch * heads + head) * p->grid.tokens * p->dim;
}

const double *problem_q(const struct problem *p, uint32_t batch, uint32_t head)
{
    return rows_of(p, p->exact_q, p->heads, batch, head);
}

const double *problem_k(const struct problem *p, uint32_t batch, uint32_t head)
{
    return rows_of(p, p->exact_k, p->kv_heads, batch, head / (p->heads / p->kv_heads));
}

const double *problem_v(const struct problem *p, uint32_t batch, uint32_t head)
{
    return rows_of(p, p->exact_v, p->kv_heads, batch, head / (p->heads / p->kv_heads));
}
