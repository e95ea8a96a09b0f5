/* SPDX-License-Identifier: MIT */
#include "oracle.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "harness.h"

enum { TEXT_BLOCK = 128 };

/* ---- Tokens and blocks ---- */

static uint32_t block_of_token(const struct oracle_grid *g, uint32_t token)
{
    const struct draft_shape *s = &g->shape;
    uint32_t video = s->frames * s->height * s->width;
    if (token < s->prefix)
        return token / TEXT_BLOCK;
    token -= s->prefix;
    if (token >= video)
        return g->prefix_blocks + g->video_blocks + (token - video) / TEXT_BLOCK;
    uint32_t frame = token / (s->height * s->width);
    uint32_t row = token / s->width % s->height;
    uint32_t column = token % s->width;
    uint32_t tile = frame / g->tile.t;
    tile = tile * g->tiles_h + row / g->tile.h;
    tile = tile * g->tiles_w + column / g->tile.w;
    return g->prefix_blocks + tile;
}

static uint32_t ceil_divide(uint32_t a, uint32_t b)
{
    return a / b + (a % b != 0);
}

static void assign_tokens(struct oracle_grid *g)
{
    for (uint32_t token = 0; token < g->tokens; token++) {
        g->block_of[token] = block_of_token(g, token);
        g->size[g->block_of[token]]++;
    }
    for (uint32_t b = 0; b < g->blocks; b++)
        g->start[b + 1] = g->start[b] + g->size[b];
    uint32_t *next = test_alloc(g->blocks, sizeof *next);
    for (uint32_t token = 0; token < g->tokens; token++) {
        uint32_t b = g->block_of[token];
        g->member[g->start[b] + next[b]++] = token;
    }
    free(next);
}

void oracle_grid_init(struct oracle_grid *g, const struct draft_shape *shape,
                      struct draft_tile tile)
{
    *g = (struct oracle_grid){.shape = *shape, .tile = tile};
    g->shape.batch = shape->batch ? shape->batch : 1;
    g->shape.kv_heads = shape->kv_heads ? shape->kv_heads : shape->heads;
    g->tiles_t = ceil_divide(shape->frames, tile.t);
    g->tiles_h = ceil_divide(shape->height, tile.h);
    g->tiles_w = ceil_divide(shape->width, tile.w);
    g->prefix_blocks = ceil_divide(shape->prefix, TEXT_BLOCK);
    g->suffix_blocks = ceil_divide(shape->suffix, TEXT_BLOCK);
    g->video_blocks = g->tiles_t * g->tiles_h * g->tiles_w;
    g->blocks = g->prefix_blocks + g->video_blocks + g->suffix_blocks;
    g->full = tile.t * tile.h * tile.w;
    g->tokens = shape->prefix + shape->frames * shape->height * shape->width + shape->suffix;
    g->block_of = test_alloc(g->tokens, sizeof *g->block_of);
    g->size = test_alloc(g->blocks, sizeof *g->size);
    g->start = test_alloc(g->blocks + 1, sizeof *g->start);
    g->member = test_alloc(g->tokens, sizeof *g->member);
    assign_tokens(g);
}

void oracle_grid_free(struct oracle_grid *g)
{
    free(g->block_of);
    free(g->size);
    free(g->start);
    free(g->member);
    *g = (struct oracle_grid){0};
}

bool oracle_token_valid(const struct oracle_grid *g, const uint32_t *valid, uint32_t token)
{
    if (!valid)
        return true;
    uint32_t suffix = g->tokens - g->shape.suffix;
    if (token < g->shape.prefix)
        return token < valid[0];
    return token < suffix || token - suffix < valid[1];
}

/* ---- pool, score ---- */

void oracle_pool(const struct oracle_grid *g, const double *x, double *mean, double *magnitude)
{
    uint32_t dim = g->shape.dim;
    memset(mean, 0, sizeof *mean * g->video_blocks * dim);
    memset(magnitude, 0, sizeof *magnitude * g->video_blocks * dim);
    for (uint32_t token = 0; token < g->tokens; token++) {
        uint32_t block = g->block_of[token] - g->prefix_blocks; /* wraps for prefix blocks */
        for (uint32_t d = 0; block < g->video_blocks && d < dim; d++) {
            double n = g->size[g->prefix_blocks + block];
            mean[block * dim + d] += x[(size_t)token * dim + d] / n;
            magnitude[block * dim + d] += fabs(x[(size_t)token * dim + d]) / n;
        }
    }
}

static void softmax(const double *logits, uint32_t n, double *p)
{
    double largest = -INFINITY, sum = 0;
    for (uint32_t j = 0; j < n; j++)
        largest = fmax(largest, logits[j]);
    for (uint32_t j = 0; j < n; j++)
        sum += p[j] = exp(logits[j] - largest);
    for (uint32_t j = 0; j < n; j++)
        p[j] /= sum;
}

void oracle_score(const struct oracle_grid *g, double scale, const float *mean_q,
                  const float *mean_k, double *p, double *logits)
{
    uint32_t dim = g->shape.dim, n = g->video_blocks;
    for (uint32_t i = 0; i < n; i++) {
        for (uint32_t j = 0; j < n; j++) {
            double dot = 0;
            for (uint32_t d = 0; d < dim; d++)
                dot += (double)mean_q[(size_t)i * dim + d] * mean_k[(size_t)j * dim + d];
            logits[(size_t)i * n + j] =
                scale * dot + log((double)g->size[g->prefix_blocks + j] / g->full);
        }
        softmax(&logits[(size_t)i * n], n, &p[(size_t)i * n]);
    }
}

/* ---- select ---- */

struct oracle_rule oracle_rule_of(const struct draft_plan_params *params, uint32_t head)
{
    return (struct oracle_rule){
        .rule = params->rule,
        .sparsity = params->head_sparsity ? params->head_sparsity[head] : params->sparsity,
        .mass = params->mass != 0 ? params->mass : 0.9,
        .row_floor = params->row_floor,
        .force = params->force,
    };
}

bool oracle_forced(const struct oracle_grid *g, const struct oracle_rule *rule, uint32_t i,
                   uint32_t j)
{
    uint32_t layer = g->tiles_h * g->tiles_w;
    if (rule->rule == DRAFT_RULE_PAPER)
        return false;
    if (!(rule->force & DRAFT_FORCE_NOT_SELF) && i == j)
        return true;
    if ((rule->force & DRAFT_FORCE_FIRST_FRAME) && j < layer)
        return true;
    return (rule->force & DRAFT_FORCE_NEIGHBOURS) && (i + layer == j || j + layer == i);
}

/* A pair of video blocks as it is sorted. */
struct pair {
    uint32_t bits;  /* of p */
    uint32_t index; /* row-major */
    bool forced;
};

static int by_rank(const void *left, const void *right)
{
    const struct pair *a = left, *b = right;
    if (a->forced != b->forced)
        return a->forced ? -1 : 1;
    if (a->bits != b->bits)
        return a->bits > b->bits ? -1 : 1;
    return a->index < b->index ? -1 : a->index > b->index;
}

static uint64_t integer_weight(uint32_t bits)
{
    float p;
    memcpy(&p, &bits, sizeof p);
    if (isnan(p) || signbit(p))
        return 0;
    return p >= 1 ? UINT64_C(1) << 31 : (uint64_t)floor((double)p * 0x1p31);
}

/* The first of each row's pairs by rank, as many as the floor says, go before all others. */
static void raise_floors(const struct oracle_grid *g, const struct oracle_rule *rule,
                         struct pair *pairs, size_t n)
{
    size_t S = g->video_blocks;
    double budget = round((1 - rule->sparsity) * (double)n);
    size_t least = (size_t)floor(rule->row_floor * budget / (double)S);
    for (size_t row = 0; row < n / S; row++) {
        qsort(pairs + row * S, S, sizeof *pairs, by_rank);
        for (size_t at = 0; at < least; at++)
            pairs[row * S + at].forced = true;
    }
}

/* How many of the sorted pairs a rule keeps. */
static size_t keep_ranked(const struct oracle_rule *rule, const struct pair *pairs, size_t n)
{
    size_t forced = 0, wanted = 0;
    while (forced < n && pairs[forced].forced)
        forced++;
    if (rule->rule == DRAFT_RULE_HEAD)
        wanted = (size_t)round((1 - rule->sparsity) * (double)n);
    if (rule->rule == DRAFT_RULE_ROW)
        wanted = (size_t)fmax(1, round((1 - rule->sparsity) * (double)n));
    if (rule->rule == DRAFT_RULE_MASS) {
        uint64_t budget = (uint64_t)ceil(rule->mass * 0x1p31), sum = 0;
        while (wanted < n && (wanted < 1 || wanted < forced || sum < budget))
            sum += integer_weight(pairs[wanted++].bits);
    }
    return wanted > forced ? wanted : forced;
}

/* PAPER: everything from the largest of the floor(sparsity n) smallest upwards. */
static size_t keep_threshold(const struct oracle_rule *rule, const struct pair *pairs, size_t n)
{
    size_t dropped = (size_t)floor(rule->sparsity * (double)n);
    size_t kept = n - dropped;
    while (dropped > 0 && kept < n && pairs[kept].bits == pairs[n - dropped].bits)
        kept++;
    return kept;
}

static void keep_video(const struct oracle_grid *g, const struct oracle_rule *rule, const float *p,
                       uint32_t first_row, uint32_t rows, uint8_t *kept)
{
    size_t n = (size_t)rows * g->video_blocks;
    struct pair *pairs = test_alloc(n, sizeof *pairs);
    for (size_t at = 0; at < n; at++) {
        pairs[at].index = (uint32_t)(first_row * g->video_blocks + at);
        memcpy(&pairs[at].bits, &p[pairs[at].index], 4);
        pairs[at].forced = oracle_forced(g, rule, pairs[at].index / g->video_blocks,
                                         pairs[at].index % g->video_blocks);
    }
    if (rule->row_floor > 0)
        raise_floors(g, rule, pairs, n);
    qsort(pairs, n, sizeof *pairs, by_rank);
    size_t count = rule->rule == DRAFT_RULE_PAPER ? keep_threshold(rule, pairs, n)
                                                  : keep_ranked(rule, pairs, n);
    for (size_t at = 0; at < count; at++) {
        uint32_t i = pairs[at].index / g->video_blocks, j = pairs[at].index % g->video_blocks;
        kept[(size_t)(g->prefix_blocks + i) * g->blocks + g->prefix_blocks + j] = 1;
    }
    free(pairs);
}

void oracle_select(const struct oracle_grid *g, const struct oracle_rule *rule, const float *p,
                   uint8_t *kept)
{
    uint32_t first = g->prefix_blocks, end = first + g->video_blocks;
    for (uint32_t i = 0; i < g->blocks; i++)
        for (uint32_t j = 0; j < g->blocks; j++) /* all pairs with text */
            kept[(size_t)i * g->blocks + j] = i < first || i >= end || j < first || j >= end;
    bool by_row = rule->rule == DRAFT_RULE_ROW || rule->rule == DRAFT_RULE_MASS;
    uint32_t rows = by_row ? 1 : g->video_blocks;
    for (uint32_t row = 0; row < g->video_blocks; row += rows)
        keep_video(g, rule, p, row, rows, kept);
}

void oracle_lists(const struct oracle_grid *g, const uint8_t *kept, uint32_t *counts,
                  uint16_t *lists, uint16_t *order)
{
    for (uint32_t i = 0; i < g->blocks; i++) {
        counts[i] = 0;
        for (uint32_t j = 0; j < g->blocks; j++)
            if (kept[(size_t)i * g->blocks + j])
                lists[(size_t)i * g->blocks + counts[i]++] = (uint16_t)j;
    }
    uint32_t at = 0;
    for (uint32_t count = g->blocks + 1; count-- > 0;)
        for (uint32_t i = 0; i < g->blocks; i++)
            if (counts[i] == count)
                order[at++] = (uint16_t)i;
}

/* ---- attend ---- */

void oracle_result_init(struct oracle_result *r, const struct oracle_grid *g)
{
    size_t numbers = (size_t)g->tokens * g->shape.dim;
    r->out = test_alloc(numbers, sizeof *r->out);
    r->magnitude = test_alloc(numbers, sizeof *r->magnitude);
    r->lse = test_alloc(g->tokens, sizeof *r->lse);
    r->reach = test_alloc(g->tokens, sizeof *r->reach);
    r->bias = test_alloc(g->tokens, sizeof *r->bias);
    r->most = test_alloc(g->tokens, sizeof *r->most);
    r->keys = test_alloc(g->tokens, sizeof *r->keys);
}

void oracle_result_free(struct oracle_result *r)
{
    free(r->out);
    free(r->magnitude);
    free(r->lse);
    free(r->reach);
    free(r->bias);
    free(r->most);
    free(r->keys);
    *r = (struct oracle_result){0};
}

/* For inner loops, where sanitizers would be most of the time of their tests: over memory that
 * watched code has read or written from end to end before. */
#define UNWATCHED __attribute__((no_sanitize("address", "undefined")))

/* A key with its value, of a token or pooled. */
struct key {
    const double *k, *v;
    double bias, square, most; /* |k| squared, the largest |v| of any dim */
};

/* Of `count` tokens or blocks. */
static struct key *make_keys(const double *k, const double *v, size_t count, uint32_t dim)
{
    struct key *keys = test_alloc(count, sizeof *keys);
    for (size_t at = 0; at < count; at++, k += dim, v += dim) {
        keys[at] = (struct key){.k = k, .v = v};
        for (uint32_t d = 0; d < dim; d++) {
            keys[at].square += k[d] * k[d];
            if (fabs(v[d]) > keys[at].most)
                keys[at].most = fabs(v[d]);
        }
    }
    return keys;
}

/* Those of a head. */
struct head_keys {
    struct key *tokens, *pooled; /* pooled may be NULL */
};

static struct head_keys head_keys_of(const struct oracle_grid *g, const struct oracle_head *h)
{
    struct head_keys keys = {make_keys(h->k, h->v, g->tokens, g->shape.dim), NULL};
    if (h->tail_k)
        keys.pooled = make_keys(h->tail_k, h->tail_v, g->video_blocks, g->shape.dim);
    return keys;
}

static void head_keys_free(struct head_keys *keys)
{
    free(keys->tokens);
    free(keys->pooled);
}

/* The keys of a query block, and the largest of what they have. */
struct kept_keys {
    struct key *keys;
    uint32_t count;
    double bias, square, most;
    double *p; /* room for a number of each */
};

static void keep_key(struct kept_keys *list, const struct key *key, double bias)
{
    struct key *kept = &list->keys[list->count++];
    *kept = *key;
    kept->bias = bias;
    list->bias = fmax(list->bias, bias);
    list->square = fmax(list->square, key->square);
    list->most = fmax(list->most, key->most);
}

/* Several sums, so that the compiler may keep them in flight. dim is a multiple of 8. Returns the
 * largest. */
UNWATCHED static double make_logits(const double *q, double scale, const struct kept_keys *list,
                                    uint32_t dim)
{
    double largest = -INFINITY;
    for (uint32_t at = 0; at < list->count; at++) {
        const double *k = list->keys[at].k;
        double sum[8] = {0};
        for (uint32_t d = 0; d < dim; d += 8)
            for (uint32_t e = 0; e < 8; e++)
                sum[e] += q[d + e] * k[d + e];
        double all = sum[0] + sum[4] + (sum[1] + sum[5]) + (sum[2] + sum[6]) + (sum[3] + sum[7]);
        double logit = scale * all + list->keys[at].bias;
        list->p[at] = logit;
        largest = logit > largest ? logit : largest;
    }
    return largest;
}

/* p: weights, none of them negative. */
UNWATCHED static void add_values(const struct kept_keys *list, uint32_t dim, double *out,
                                 double *magnitude)
{
    for (uint32_t d = 0; d < dim; d += 8) {
        double sum[8] = {0}, absolute[8] = {0};
        for (uint32_t at = 0; at < list->count; at++)
            for (uint32_t e = 0; e < 8; e++) {
                double x = list->p[at] * list->keys[at].v[d + e];
                sum[e] += x;
                absolute[e] += fabs(x);
            }
        memcpy(out + d, sum, sizeof sum);
        memcpy(magnitude + d, absolute, sizeof absolute);
    }
}

/* One query against the keys. */
static void attend_row(const struct oracle_grid *g, const struct oracle_head *h, uint32_t token,
                       const struct kept_keys *list, struct oracle_result *r)
{
    uint32_t dim = g->shape.dim;
    const double *q = h->q + (size_t)token * dim;
    double *out = r->out + (size_t)token * dim, *magnitude = r->magnitude + (size_t)token * dim;
    double square = 0, sum = 0;
    memset(out, 0, sizeof *out * dim);
    memset(magnitude, 0, sizeof *magnitude * dim);
    for (uint32_t d = 0; d < dim; d++)
        square += q[d] * q[d];
    double largest = make_logits(q, h->scale, list, dim);
    for (uint32_t at = 0; at < list->count; at++)
        sum += list->p[at] = exp(list->p[at] - largest);
    for (uint32_t at = 0; at < list->count; at++)
        list->p[at] /= sum;
    add_values(list, dim, out, magnitude);
    r->lse[token] = list->count ? largest + log(sum) : -INFINITY;
    r->reach[token] = sqrt(square * list->square);
    r->bias[token] = list->bias;
    r->most[token] = list->most;
    r->keys[token] = list->count;
}

/* kept: NULL for all blocks, or [B] flags. */
static void gather_keys(const struct oracle_grid *g, const struct oracle_head *h,
                        const struct head_keys *keys, uint32_t block, const uint8_t *kept,
                        struct kept_keys *list)
{
    uint32_t i = block - g->prefix_blocks; /* wraps for prefix blocks */
    for (uint32_t token = 0; token < g->tokens; token++)
        if ((!kept || kept[g->block_of[token]]) && oracle_token_valid(g, h->valid, token))
            keep_key(list, &keys->tokens[token], 0);
    if (!keys->pooled || i >= g->video_blocks)
        return;
    const float *bias = h->bias + (size_t)i * h->bias_stride;
    for (uint32_t j = 0; j < g->video_blocks; j++)
        if (!signbit(bias[j]))
            keep_key(list, &keys->pooled[j], bias[j]);
}

static void attend_block(const struct oracle_grid *g, const struct oracle_head *h,
                         const struct head_keys *keys, uint32_t block, const uint8_t *kept,
                         struct oracle_result *r)
{
    static const struct kept_keys none = {0};
    size_t most = (size_t)g->tokens + g->video_blocks;
    struct kept_keys list = {.keys = test_alloc(most, sizeof *list.keys),
                             .p = test_alloc(most, sizeof *list.p)};
    gather_keys(g, h, keys, block, kept, &list);
    for (uint32_t at = g->start[block]; at < g->start[block + 1]; at++) {
        bool valid = oracle_token_valid(g, h->valid, g->member[at]);
        attend_row(g, h, g->member[at], valid ? &list : &none, r);
    }
    free(list.keys);
    free(list.p);
}

void oracle_attend(const struct oracle_grid *g, const struct oracle_head *h,
                   struct oracle_result *r)
{
    uint8_t *kept = test_alloc(g->blocks, 1);
    struct head_keys keys = head_keys_of(g, h);
    for (uint32_t block = 0; block < g->blocks; block++) {
        memset(kept, 0, g->blocks);
        for (uint32_t at = 0; at < h->counts[block]; at++)
            kept[h->lists[(size_t)block * g->blocks + at]] = 1;
        attend_block(g, h, &keys, block, kept, r);
    }
    head_keys_free(&keys);
    free(kept);
}

void oracle_dense(const struct oracle_grid *g, const struct oracle_head *h, struct oracle_result *r)
{
    struct head_keys keys = head_keys_of(g, h);
    for (uint32_t block = 0; block < g->blocks; block++)
        attend_block(g, h, &keys, block, NULL, r);
    head_keys_free(&keys);
}
