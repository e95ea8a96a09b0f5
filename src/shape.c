/* SPDX-License-Identifier: MIT
 *
 * Sizes and numbers that follow from the shape alone: tiles, blocks, budgets, workspace. */
#include <math.h>
#include <string.h>

#include "core.h"

static uint32_t div_up(uint64_t a, uint32_t b)
{
    return (uint32_t)((a + b - 1) / b);
}

static uint32_t min_u32(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

uint32_t draft_type_size(draft_type type)
{
    return type == DRAFT_F32 ? 4 : 2;
}

double draft_type_load(draft_type type, const uint8_t *array, size_t index)
{
    uint32_t bits = 0;
    float value;
    size_t size = draft_type_size(type);
    memcpy(&bits, array + index * size, size);
    if (type == DRAFT_F16) {
        double sign = bits & 0x8000 ? -1 : 1, fraction = bits & 1023;
        int exponent = (int)(bits >> 10 & 31);
        if (exponent == 31)
            return fraction != 0 ? NAN : sign * INFINITY;
        return sign * (exponent ? ldexp(1024 + fraction, exponent - 25) : ldexp(fraction, -24));
    }
    bits <<= type == DRAFT_BF16 ? 16 : 0;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* ---- Tile ---------------------------------------------------------------------------------- */

struct tile_quality {
    uint64_t blocks;  /* each costs as much as a full one                    */
    uint64_t outside; /* slots of tiles that lie outside the grid            */
    uint32_t extent;  /* t^2 + h^2 + w^2: small is compact                   */
};

static struct tile_quality tile_quality(const struct draft_shape *s, struct draft_tile tile)
{
    uint64_t blocks =
        (uint64_t)div_up(s->frames, tile.t) * div_up(s->height, tile.h) * div_up(s->width, tile.w);
    uint64_t slots = blocks * tile.t * tile.h * tile.w;
    return (struct tile_quality){
        .blocks = blocks,
        .outside = slots - (uint64_t)s->frames * s->height * s->width,
        .extent = tile.t * tile.t + tile.h * tile.h + tile.w * tile.w,
    };
}

static bool tile_better(struct tile_quality a, struct tile_quality b)
{
    if (a.outside != b.outside)
        return a.outside < b.outside;
    return a.extent < b.extent;
}

/* Best tile of at most `most` blocks; with most = 0, *fewest gets the fewest blocks there can be. */
static struct draft_tile search_tile(const struct draft_shape *s, uint64_t most, uint64_t *fewest)
{
    struct draft_tile best = {1, 1, 1};
    struct tile_quality best_quality = tile_quality(s, best);
    *fewest = best_quality.blocks;
    bool found = false;
    for (uint32_t t = 1; t <= min_u32(s->frames, DRAFT_BLOCK); t++)
        for (uint32_t h = 1; h <= min_u32(s->height, DRAFT_BLOCK / t); h++)
            for (uint32_t w = 1; w <= min_u32(s->width, DRAFT_BLOCK / (t * h)); w++) {
                struct draft_tile tile = {t, h, w};
                struct tile_quality quality = tile_quality(s, tile);
                if (quality.blocks < *fewest)
                    *fewest = quality.blocks;
                if (quality.blocks > most || (found && !tile_better(quality, best_quality)))
                    continue;
                best = tile;
                best_quality = quality;
                found = true;
            }
    return best;
}

/* The fewest blocks alone would give long thin tiles (1 x 23 x 5 ...), whose tokens have little in
 * common; 1/16 more work buys compact ones that divide the grid. */
static struct draft_tile choose_tile(const struct draft_shape *s)
{
    uint64_t fewest, unused;
    (void)search_tile(s, 0, &fewest);
    return search_tile(s, fewest + fewest / 16, &unused);
}

/* ---- Defaults ------------------------------------------------------------------------------ */

static bool leaves_out(const struct draft_plan_params *p)
{
    if (p->rule == DRAFT_RULE_MASS)
        return true;
    if (!p->head_sparsity)
        return p->sparsity > 0;
    for (uint32_t h = 0; h < p->shape.heads; h++)
        if (p->head_sparsity[h] > 0)
            return true;
    return false;
}

void draft_shape_defaults(struct draft_plan_params *p)
{
    bool plain = p->rule == DRAFT_RULE_PAPER || !leaves_out(p);
    if (p->rule == DRAFT_RULE_DEFAULT)
        p->rule = DRAFT_RULE_ROW;
    if (p->tail == DRAFT_TAIL_DEFAULT)
        p->tail = plain ? DRAFT_TAIL_DROP : DRAFT_TAIL_MEAN;
    if (p->scorer == DRAFT_SCORER_DEFAULT)
        p->scorer = plain                        ? DRAFT_SCORER_MEAN
                    : p->tail == DRAFT_TAIL_DROP ? DRAFT_SCORER_MAX
                                                 : DRAFT_SCORER_EXCESS;
}

/* ---- Geometry ------------------------------------------------------------------------------ */

static uint32_t forced_flags(const struct draft_plan_params *p)
{
    if (p->rule == DRAFT_RULE_PAPER)
        return 0;
    return (p->force & DRAFT_FORCE_NOT_SELF ? 0 : DRAFT_FORCED_SELF) |
           (p->force & DRAFT_FORCE_FIRST_FRAME ? DRAFT_FORCED_FIRST_FRAME : 0) |
           (p->force & DRAFT_FORCE_NEIGHBOURS ? DRAFT_FORCED_NEIGHBOURS : 0) |
           (p->row_floor > 0 ? DRAFT_FORCED_FLOOR : 0);
}

static struct draft_tile resolve_tile(const struct draft_plan_params *p)
{
    if (p->rule == DRAFT_RULE_PAPER)
        return (struct draft_tile){1, 8, 16};
    return p->tile.t ? p->tile : choose_tile(&p->shape);
}

/* The two longest axes of a tile are cut in the middle; of equally long ones, the faster. */
static void choose_splits(struct draft_geometry *g)
{
    uint32_t extent[3] = {g->tile_w, g->tile_h, g->tile_t};
    uint32_t *split[3] = {&g->split_w, &g->split_h, &g->split_t};
    for (int cut = 0; cut < 2; cut++) {
        int longest = 0;
        for (int axis = 1; axis < 3; axis++)
            longest = extent[axis] > extent[longest] ? axis : longest;
        if (extent[longest] > 1)
            *split[longest] = div_up(extent[longest], 2);
        extent[longest] = 0;
    }
}

/* A quarter is cut further, its longest axis first, until there are DRAFT_PARTS or single tokens. */
static void choose_cuts(struct draft_geometry *g)
{
    const uint32_t extent[3] = {g->tile_w, g->tile_h, g->tile_t};
    const uint32_t split[3] = {g->split_w, g->split_h, g->split_t};
    uint32_t *cut[3] = {&g->cut_w, &g->cut_h, &g->cut_t};
    for (int axis = 0; axis < 3; axis++)
        *cut[axis] = split[axis] ? 2 : 1;
    while (*cut[0] * *cut[1] * *cut[2] < DRAFT_PARTS) {
        int longest = 0;
        for (int axis = 1; axis < 3; axis++)
            if (extent[axis] * *cut[longest] > extent[longest] * *cut[axis])
                longest = axis;
        if (extent[longest] < 2 * *cut[longest])
            return;
        *cut[longest] *= 2;
    }
}

draft_status draft_shape_geometry(const struct draft_log *log,
                                  const struct draft_plan_params *params, struct draft_geometry *g)
{
    const struct draft_shape *s = &params->shape;
    /* Counted in blocks of the largest size first, so that nothing below can overflow. */
    double least = ((double)s->frames * s->height * s->width + s->prefix + s->suffix) / DRAFT_BLOCK;
    DRAFT_REQUIRE(log, DRAFT_ERROR_UNSUPPORTED, least <= DRAFT_MAX_BLOCKS,
                  "shape: a sample of %.0f tokens has more than %d blocks of %d tokens",
                  least * DRAFT_BLOCK, DRAFT_MAX_BLOCKS, DRAFT_BLOCK);
    struct draft_tile tile = resolve_tile(params);
    *g = (struct draft_geometry){
        .batch = s->batch ? s->batch : 1,
        .heads = s->heads,
        .kv_heads = s->kv_heads ? s->kv_heads : s->heads,
        .dim = s->dim,
        .prefix = s->prefix,
        .frames = s->frames,
        .height = s->height,
        .width = s->width,
        .suffix = s->suffix,
        .tile_t = tile.t,
        .tile_h = tile.h,
        .tile_w = tile.w,
        .tiles_t = div_up(s->frames, tile.t),
        .tiles_h = div_up(s->height, tile.h),
        .tiles_w = div_up(s->width, tile.w),
        .prefix_blocks = div_up(s->prefix, DRAFT_BLOCK),
        .suffix_blocks = div_up(s->suffix, DRAFT_BLOCK),
        .type = params->type,
        .rule = params->rule,
        .force = forced_flags(params),
        .scale = params->scale != 0 ? params->scale : (float)(1.0 / sqrt(s->dim)),
        .tokens = s->prefix + s->frames * s->height * s->width + s->suffix,
        .scorer = params->scorer,
        .tail = params->tail,
    };
    choose_splits(g);
    choose_cuts(g);
    g->group = g->heads / g->kv_heads;
    uint64_t video = (uint64_t)g->tiles_t * g->tiles_h * g->tiles_w;
    uint64_t blocks = video + g->prefix_blocks + g->suffix_blocks;
    DRAFT_REQUIRE(
        log, DRAFT_ERROR_UNSUPPORTED, blocks <= DRAFT_MAX_BLOCKS,
        "shape: %llu blocks with tile %ux%ux%u, at most %d are possible: use larger tiles",
        (unsigned long long)blocks, tile.t, tile.h, tile.w, DRAFT_MAX_BLOCKS);
    g->video_blocks = (uint32_t)video;
    g->blocks = (uint32_t)blocks;
    g->bias_stride = div_up(g->video_blocks, DRAFT_BLOCK) * DRAFT_BLOCK;
    return DRAFT_OK;
}

/* ---- Workspace ----------------------------------------------------------------------------- */

enum { WORKSPACE_ALIGNMENT = 256 };

/* Place `bytes` (a double, so that no product overflows) at the end; offsets stay aligned. */
static uint64_t place(double *end, double bytes)
{
    double offset = *end;
    *end = ceil((offset + bytes) / WORKSPACE_ALIGNMENT) * WORKSPACE_ALIGNMENT;
    return (uint64_t)offset;
}

/* What only plans beyond the paper's method have; the rest stays 0. */
static void place_extras(struct draft_geometry *g, double *end)
{
    double s = g->video_blocks;
    double rows = (double)g->batch * g->heads, kv_rows = (double)g->batch * g->kv_heads;
    bool tail = g->tail != DRAFT_TAIL_DROP, fitted = g->tail == DRAFT_TAIL_FITTED;
    bool excess = g->scorer == DRAFT_SCORER_EXCESS, gap = g->tail == DRAFT_TAIL_GAP;
    double mean = (double)g->dim * draft_type_size((draft_type)g->type); /* bytes */
    if (g->scorer == DRAFT_SCORER_LSE || g->scorer == DRAFT_SCORER_MAX || gap)
        g->quarters = place(end, kv_rows * s * DRAFT_QUARTERS * g->dim * sizeof(float));
    if (excess) {
        g->parts_q = place(end, rows * s * DRAFT_QUARTERS * mean);
        g->parts_k = place(end, kv_rows * s * DRAFT_PARTS * mean);
    }
    if (fitted) {
        g->moment_q = place(end, rows * s * g->dim * sizeof(float));
        g->moment_k = place(end, kv_rows * s * g->dim * sizeof(float));
        g->factors = place(end, rows * sizeof(float));
    }
    if (tail && g->type == DRAFT_F32) {
        g->tail_k = g->pooled_k;
        g->tail_v = g->pooled_v;
    } else if (tail) {
        g->tail_k = place(end, kv_rows * s * mean);
        g->tail_v = place(end, kv_rows * s * mean);
    }
    if (tail)
        g->bias = place(end, rows * s * g->bias_stride * sizeof(float));
}

draft_status draft_shape_layout(const struct draft_log *log, uint64_t scratch_size,
                                struct draft_geometry *g, struct draft_layout *layout)
{
    /* Below 2^53 all of these are exact integers; beyond, the plan is refused. */
    double s = g->video_blocks, b = g->blocks;
    double rows = (double)g->batch * g->heads, kv_rows = (double)g->batch * g->kv_heads;
    double end = 0;
    g->pooled_q = place(&end, rows * s * g->dim * sizeof(float));
    g->pooled_k = place(&end, kv_rows * s * g->dim * sizeof(float));
    g->pooled_v = place(&end, kv_rows * s * g->dim * sizeof(float));
    g->map = place(&end, rows * s * s * sizeof(float));
    g->counts = place(&end, rows * b * sizeof(uint32_t));
    g->lists = place(&end, rows * b * b * sizeof(uint16_t));
    g->order = place(&end, rows * b * sizeof(uint16_t));
    place_extras(g, &end);
    g->scratch = place(&end, (double)scratch_size);
    DRAFT_REQUIRE(log, DRAFT_ERROR_UNSUPPORTED, end < 0x1p53 && end < (double)SIZE_MAX,
                  "shape: the workspace would take %.3g bytes", end);
    *layout = (struct draft_layout){
        .size = (uint64_t)end,
        .alignment = WORKSPACE_ALIGNMENT,
        .rule = (draft_rule)g->rule,
        .scorer = (draft_scorer)g->scorer,
        .tail = (draft_tail)g->tail,
        .tile = {g->tile_t, g->tile_h, g->tile_w},
        .tiles_t = g->tiles_t,
        .tiles_h = g->tiles_h,
        .tiles_w = g->tiles_w,
        .prefix_blocks = g->prefix_blocks,
        .video_blocks = g->video_blocks,
        .suffix_blocks = g->suffix_blocks,
        .blocks = g->blocks,
        .tokens = g->tokens,
        .pooled_q = g->pooled_q,
        .pooled_k = g->pooled_k,
        .pooled_v = g->pooled_v,
        .map = g->map,
        .counts = g->counts,
        .lists = g->lists,
        .order = g->order,
        .quarters = g->quarters,
        .bias = g->bias,
        .bias_stride = g->bias ? g->bias_stride : 0,
        .moment_q = g->moment_q,
        .moment_k = g->moment_k,
        .tail_k = g->tail_k,
        .tail_v = g->tail_v,
        .factors = g->factors,
        .parts_q = g->parts_q,
        .parts_k = g->parts_k,
    };
    return DRAFT_OK;
}

/* ---- Budgets ------------------------------------------------------------------------------- */

static uint32_t budget_of(const struct draft_geometry *g, double sparsity, double mass,
                          uint64_t certain)
{
    double s = g->video_blocks, pairs = s * s;
    switch (g->rule) {
    case DRAFT_RULE_HEAD:
        return (uint32_t)fmax(round((1 - sparsity) * pairs), (double)certain);
    case DRAFT_RULE_ROW:
        return (uint32_t)fmax(round((1 - sparsity) * s), 1);
    case DRAFT_RULE_MASS:
        return (uint32_t)ceil(mass * DRAFT_MASS_ONE);
    default: { /* PAPER: the largest of the n smallest is the (pairs - n + 1)-th largest */
        double n = floor(sparsity * pairs);
        return (uint32_t)(n > 0 ? pairs - n + 1 : pairs);
    }
    }
}

/* Pairs of a head that are kept whatever their p: forced ones, and up to `least` in each row. */
static uint64_t certain_pairs(const struct draft_geometry *g, uint32_t least)
{
    uint64_t pairs = 0;
    for (uint32_t i = 0; i < g->video_blocks; i++) {
        uint32_t forced = draft_forced_blocks(g, i, NULL);
        pairs += forced > least ? forced : least;
    }
    return pairs;
}

void draft_shape_budgets(const struct draft_geometry *g, const struct draft_plan_params *params,
                         uint32_t *budget)
{
    double mass = params->mass > 0 ? params->mass : 0.9, s = g->video_blocks;
    for (uint32_t h = 0; h < g->heads; h++) {
        double sparsity = params->head_sparsity ? params->head_sparsity[h] : params->sparsity;
        double share = round((1 - sparsity) * (s * s)); /* rounded as the budget is */
        uint32_t least = (uint32_t)floor(params->row_floor * share / s);
        budget[g->heads + h] = least;
        budget[h] = budget_of(g, sparsity, mass, certain_pairs(g, least));
    }
}

uint32_t draft_forced_blocks(const struct draft_geometry *g, uint32_t i, uint32_t *out)
{
    uint32_t layer = g->tiles_h * g->tiles_w; /* blocks of one step in time */
    uint32_t first_frame = g->force & DRAFT_FORCED_FIRST_FRAME ? layer : 0;
    uint32_t n = 0;
    for (; n < first_frame && out; n++)
        out[n] = n;
    n = first_frame;
    /* The block before in time, the block itself, the block after: ascending. */
    for (uint32_t k = 0; k < 3; k++) {
        uint32_t flag = k == 1 ? DRAFT_FORCED_SELF : DRAFT_FORCED_NEIGHBOURS;
        uint64_t j = (uint64_t)i + (uint64_t)k * layer; /* counted from one layer below */
        if (!(g->force & flag) || j < layer)
            continue;
        j -= layer;
        if (j < first_frame || j >= g->video_blocks)
            continue;
        if (out)
            out[n] = (uint32_t)j;
        n++;
    }
    return n;
}

/* ---- Blocks -------------------------------------------------------------------------------- */

/* First token and size of a text block; false for a video block. */
static bool text_block(const struct draft_geometry *g, uint32_t block, const uint32_t *valid,
                       uint32_t *first, uint32_t *size)
{
    bool prefix = block < g->prefix_blocks;
    if (!prefix && block < g->prefix_blocks + g->video_blocks)
        return false;
    uint32_t length = prefix ? g->prefix : g->suffix;
    if (valid)
        length = min_u32(length, valid[prefix ? 0 : 1]);
    uint32_t within = prefix ? block : block - g->prefix_blocks - g->video_blocks;
    uint32_t start = within * DRAFT_BLOCK;
    *first = start + (prefix ? 0 : g->tokens - g->suffix);
    *size = start < length ? min_u32(length - start, DRAFT_BLOCK) : 0;
    return true;
}

struct tile_box {
    uint32_t t, h, w;               /* first token               */
    uint32_t frames, height, width; /* extents inside the grid   */
};

static struct tile_box tile_box(const struct draft_geometry *g, uint32_t j)
{
    uint32_t tw = j % g->tiles_w, th = j / g->tiles_w % g->tiles_h,
             tt = j / (g->tiles_w * g->tiles_h);
    struct tile_box box = {.t = tt * g->tile_t, .h = th * g->tile_h, .w = tw * g->tile_w};
    box.frames = min_u32(g->tile_t, g->frames - box.t);
    box.height = min_u32(g->tile_h, g->height - box.h);
    box.width = min_u32(g->tile_w, g->width - box.w);
    return box;
}

uint32_t draft_block_size(const struct draft_geometry *g, uint32_t block)
{
    uint32_t first, size;
    if (text_block(g, block, NULL, &first, &size))
        return size;
    struct tile_box box = tile_box(g, block - g->prefix_blocks);
    return box.frames * box.height * box.width;
}

uint32_t draft_block_tokens(const struct draft_geometry *g, uint32_t block, const uint32_t *valid,
                            uint32_t tokens[DRAFT_BLOCK])
{
    uint32_t first, n;
    if (text_block(g, block, valid, &first, &n)) {
        for (uint32_t i = 0; i < n; i++)
            tokens[i] = first + i;
        return n;
    }
    struct tile_box box = tile_box(g, block - g->prefix_blocks);
    n = 0;
    for (uint32_t t = 0; t < box.frames; t++)
        for (uint32_t h = 0; h < box.height; h++)
            for (uint32_t w = 0; w < box.width; w++)
                tokens[n++] =
                    g->prefix + ((box.t + t) * g->height + box.h + h) * g->width + box.w + w;
    return n;
}

void draft_quarter_sizes(const struct draft_geometry *g, uint32_t j, uint32_t sizes[DRAFT_QUARTERS])
{
    struct tile_box box = tile_box(g, j);
    const uint32_t extent[3] = {box.width, box.height, box.frames};
    const uint32_t split[3] = {g->split_w, g->split_h, g->split_t};
    sizes[0] = box.frames * box.height * box.width;
    sizes[1] = sizes[2] = sizes[3] = 0;
    uint32_t parts = 1;
    for (int axis = 0; axis < 3; axis++) {
        if (split[axis] == 0)
            continue;
        uint32_t lower = min_u32(extent[axis], split[axis]);
        for (uint32_t a = 0; a < parts; a++) {
            uint32_t slice = sizes[a] / extent[axis];
            sizes[parts + a] = slice * (extent[axis] - lower);
            sizes[a] = slice * lower;
        }
        parts *= 2;
    }
}

/* The first coordinate of a piece of an axis, within what the grid has of the tile. */
static uint32_t piece_start(uint32_t piece, uint32_t extent, uint32_t cut, uint32_t inside)
{
    return min_u32(div_up(piece * extent, cut), inside);
}

static uint32_t piece_length(uint32_t piece, uint32_t extent, uint32_t cut, uint32_t inside)
{
    return piece_start(piece + 1, extent, cut, inside) - piece_start(piece, extent, cut, inside);
}

void draft_part_sizes(const struct draft_geometry *g, uint32_t j, uint32_t sizes[DRAFT_PARTS])
{
    struct tile_box box = tile_box(g, j);
    memset(sizes, 0, DRAFT_PARTS * sizeof *sizes);
    for (uint32_t t = 0; t < g->cut_t; t++)
        for (uint32_t h = 0; h < g->cut_h; h++)
            for (uint32_t w = 0; w < g->cut_w; w++)
                sizes[(t * g->cut_h + h) * g->cut_w + w] =
                    piece_length(t, g->tile_t, g->cut_t, box.frames) *
                    piece_length(h, g->tile_h, g->cut_h, box.height) *
                    piece_length(w, g->tile_w, g->cut_w, box.width);
}

uint64_t draft_portion_heads(const struct draft_geometry *g, uint64_t bytes)
{
    const uint64_t enough = 64 << 20, heads = (uint64_t)g->batch * g->heads;
    uint64_t portions = 1;
    while (portions < DRAFT_MOST_PORTIONS && (heads + portions - 1) / portions * bytes > enough)
        portions++;
    return (heads + portions - 1) / portions;
}
