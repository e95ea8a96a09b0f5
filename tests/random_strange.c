/* SPDX-License-Identifier: MIT
 *
 * NaN and infinities in a few places of q, k and v: what does not read them keeps its bits, what
 * reads a NaN is one, lists stay within their budgets, and afterwards all is as it was. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "random_walk.h"

enum { MOST_PLACES = 6 };

struct place {
    uint32_t tensor; /* 0, 1, 2: q, k, v                            */
    uint32_t batch, head, token;
    uint32_t d; /* of one number; dim: all of the row           */
    bool nan;   /* else infinite                                */
    bool read;  /* it is valid, so that attend reads it         */
};

struct strange {
    struct walk *w;
    struct place places[MOST_PLACES];
    uint32_t count;
    uint8_t *out, *lse, *workspace; /* before */
};

/* ---- Places ---- */

static const struct host_tensor *tensor_of(const struct walk *w, uint32_t number)
{
    return number == 0 ? &w->problem.q : number == 1 ? &w->problem.k : &w->problem.v;
}

/* Places before this one have its row. */
static bool is_taken(const struct strange *s, const struct place *p)
{
    for (const struct place *other = s->places; other < p; other++)
        if (other->tensor == p->tensor && other->batch == p->batch && other->head == p->head &&
            other->token == p->token)
            return true;
    return false;
}

/* Each place has a kind of its own; a NaN has more than one form. */
static void strew(struct strange *s)
{
    struct walk *w = s->w;
    struct buffer *buffers[] = {&w->rig.q, &w->rig.k, &w->rig.v};
    uint8_t all_ones[4] = {0xff, 0xff, 0xff, 0xff}, bytes[4];
    for (uint32_t tries = 1 + rng_below(&w->r, MOST_PLACES); tries > 0; tries--) {
        uint32_t number = rng_below(&w->r, 3), kind = rng_below(&w->r, 4);
        const struct host_tensor *t = tensor_of(w, number);
        struct place *p = &s->places[s->count];
        *p = (struct place){.tensor = number, .nan = kind < 2};
        p->batch = rng_below(&w->r, t->batch);
        p->head = rng_below(&w->r, t->heads);
        p->token = rng_below(&w->r, t->tokens);
        if (is_taken(s, p))
            continue;
        s->count++;
        p->d = rng_below(&w->r, t->dim);
        p->d = walk_one_in(w, 2) ? t->dim : p->d;
        p->read = oracle_token_valid(
            &w->problem.grid, w->problem.valid ? w->problem.valid[p->batch] : NULL, p->token);
        size_t size = type_size(t->type);
        type_store(t->type, bytes, 0, kind == 0 ? NAN : kind == 2 ? INFINITY : -INFINITY);
        for (uint32_t d = 0; d < t->dim; d++)
            if (p->d == t->dim || p->d == d)
                buffer_put(buffers[number],
                           (size_t)(tensor_row(t, p->batch, p->token, p->head) + d) * size,
                           kind == 1 ? all_ones : bytes, size);
    }
}

/* ---- What reads them ---- */

/* A row of queries. */
struct row {
    uint32_t batch, head, token;
    size_t at; /* sample x heads + head */
};

static bool keeps(const struct walk *w, const struct row *row, uint32_t key_block)
{
    size_t B = w->problem.grid.blocks, list = row->at * B + w->problem.grid.block_of[row->token];
    const uint32_t *counts = rig_workspace(&w->rig, w->rig.layout.counts);
    const uint16_t *lists = rig_workspace(&w->rig, w->rig.layout.lists);
    for (uint32_t e = 0; e < counts[list]; e++)
        if (lists[list * B + e] == key_block)
            return true;
    return false;
}

static bool is_video(const struct walk *w, uint32_t block)
{
    return block - w->problem.grid.prefix_blocks < w->problem.grid.video_blocks;
}

/* pooled: the pooled keys have been made of what is strange. */
static bool reads(const struct walk *w, const struct row *row, const struct place *p, bool pooled)
{
    const struct problem *x = &w->problem;
    if (p->batch != row->batch || !p->read)
        return false;
    if (p->tensor == 0)
        return p->head == row->head && p->token == row->token;
    if (p->head != row->head / (x->heads / x->kv_heads))
        return false;
    uint32_t block = x->grid.block_of[p->token];
    bool tail = pooled && w->rig.layout.bias && !w->rig.run.flags && is_video(w, block) &&
                is_video(w, x->grid.block_of[row->token]);
    return tail || keeps(w, row, block);
}

static bool next_row(const struct walk *w, struct row *row)
{
    row->token++;
    if (row->token == w->problem.grid.tokens) {
        row->token = 0;
        row->at++;
    }
    row->batch = (uint32_t)(row->at / w->problem.heads);
    row->head = (uint32_t)(row->at % w->problem.heads);
    return row->batch < w->problem.batch;
}

/* ---- Attend, on lists and pooled keys of before ---- */

/* What must be true of a number: it has its bits of before, it is a NaN, or no one can tell. */
enum must { MUST_STAY, MUST_BE_NAN, MAY_BE_ANYTHING };

static enum must worse(enum must a, const struct place *p)
{
    return a == MUST_BE_NAN || p->nan ? MUST_BE_NAN : MAY_BE_ANYTHING;
}

static bool obeys(enum must must, bool same, double now)
{
    return must == MAY_BE_ANYTHING || (must == MUST_STAY ? same : isnan(now));
}

static void check_row(struct strange *s, const struct row *row)
{
    struct walk *w = s->w;
    const struct problem *p = &w->problem;
    const uint8_t *now = buffer_read(&w->rig.out);
    const float *lse = (const float *)buffer_read(&w->rig.lse), *was = (const float *)s->lse;
    size_t size = type_size(p->out.type), number = row->at * p->grid.tokens + row->token;
    enum must logits = MUST_STAY;
    bool any = was[number] > -INFINITY; /* a row without keys is 0, whatever its query */
    for (uint32_t i = 0; i < s->count && any; i++)
        if (s->places[i].tensor < 2 && reads(w, row, &s->places[i], false))
            logits = worse(logits, &s->places[i]);
    bool right = obeys(logits, memcmp(&lse[number], &was[number], 4) == 0, lse[number]);
    for (uint32_t d = 0; d < p->dim; d++) {
        enum must must = logits;
        for (uint32_t i = 0; i < s->count && any && logits == MUST_STAY; i++) {
            const struct place *v = &s->places[i];
            if (v->tensor == 2 && (v->d == p->dim || v->d == d) && reads(w, row, v, false))
                must = worse(must, v);
        }
        uint64_t at = tensor_row(&p->out, row->batch, row->token, row->head) + d;
        right &= obeys(must, memcmp(now + at * size, s->out + at * size, size) == 0,
                       type_load(p->out.type, now, at));
    }
    if (!right)
        test_print("    sample %u head %u token %u, of block %u\n", row->batch, row->head,
                   row->token, p->grid.block_of[row->token]);
    walk_expect(w, right,
                "what is not a number is where it should not be, or is not where it should");
}

static void check_rows(struct strange *s)
{
    struct row row = {0};
    do
        check_row(s, &row);
    while (next_row(s->w, &row) && s->w->bad < 4);
}

/* ---- All stages ---- */

/* A block of a head, of a tensor, has something strange in it. */
static bool strange_block(const struct strange *s, uint32_t tensor, uint32_t batch, uint32_t head,
                          uint32_t block)
{
    const struct oracle_grid *g = &s->w->problem.grid;
    for (uint32_t i = 0; i < s->count; i++) {
        const struct place *p = &s->places[i];
        if (p->tensor == tensor && p->batch == batch && p->head == head &&
            g->block_of[p->token] == g->prefix_blocks + block)
            return true;
    }
    return false;
}

/* `bytes` of each block of each head of a tensor. */
static void check_array(struct strange *s, uint64_t offset, uint32_t tensor, size_t bytes)
{
    struct walk *w = s->w;
    const struct host_tensor *t = tensor_of(w, tensor);
    uint32_t n = w->problem.grid.video_blocks;
    const uint8_t *now = rig_workspace(&w->rig, offset), *was = s->workspace + offset;
    for (size_t row = 0; row < (size_t)t->batch * t->heads * n && offset; row++) {
        uint32_t block = (uint32_t)(row % n), head = (uint32_t)(row / n % t->heads);
        uint32_t batch = (uint32_t)(row / n / t->heads);
        walk_expect(w,
                    strange_block(s, tensor, batch, head, block) ||
                        memcmp(now + row * bytes, was + row * bytes, bytes) == 0,
                    "a block's mean has changed with those of others");
    }
}

static void check_means(struct strange *s)
{
    const struct draft_layout *l = &s->w->rig.layout;
    size_t row = s->w->problem.dim * sizeof(float), type = type_size(s->w->problem.q.type);
    check_array(s, l->pooled_q, 0, row);
    check_array(s, l->pooled_k, 1, row);
    check_array(s, l->pooled_v, 2, row);
    check_array(s, l->quarters, 1, 4 * row);
    check_array(s, l->parts_q, 0, row * type);
    check_array(s, l->parts_k, 1, 4 * row * type);
    check_array(s, l->moment_q, 0, row);
    check_array(s, l->moment_k, 1, row);
    check_array(s, l->tail_k, 1, row / 4 * type);
    check_array(s, l->tail_v, 2, row / 4 * type);
}

/* Rows of the map where neither the query block nor a key block is strange; entries of the bias
 * where the two of the pair are not, and all of them are numbers within its bounds. */
static void check_scores(struct strange *s)
{
    struct walk *w = s->w;
    const struct problem *p = &w->problem;
    const struct draft_layout *l = &w->rig.layout;
    uint32_t n = p->grid.video_blocks, group = p->heads / p->kv_heads;
    const float *map = rig_workspace(&w->rig, l->map), *old_map = (float *)(s->workspace + l->map);
    const float *bias = rig_workspace(&w->rig, l->bias);
    const float *old_bias = (float *)(s->workspace + l->bias);
    for (size_t row = 0; row < (size_t)p->batch * p->heads * n; row++) {
        uint32_t batch = (uint32_t)(row / n / p->heads), head = (uint32_t)(row / n % p->heads);
        bool strange = strange_block(s, 0, batch, head, (uint32_t)(row % n)), any = strange;
        for (uint32_t j = 0; j < n; j++) {
            bool key = strange_block(s, 1, batch, head / group, j);
            float x = l->bias ? fabsf(bias[row * l->bias_stride + j]) : 0;
            float was = l->bias ? fabsf(old_bias[row * l->bias_stride + j]) : 0;
            any |= key;
            walk_expect(w, strange || key ? x >= 0 && x < 13 : x == was,
                        "the bias of a pair has changed with others, or is no number");
        }
        walk_expect(w, any || memcmp(map + row * n, old_map + row * n, n * sizeof *map) == 0,
                    "a row of the map has changed with others");
    }
}

static void check_others(struct strange *s)
{
    struct walk *w = s->w;
    uint8_t *unknown = test_alloc(walk_heads(w) * w->problem.grid.tokens, 1);
    struct row row = {0};
    do
        for (uint32_t i = 0; i < s->count; i++)
            unknown[row.at * w->problem.grid.tokens + row.token] |=
                reads(w, &row, &s->places[i], true);
    while (next_row(w, &row));
    walk_check_attend(w, unknown);
    free(unknown);
}

/* ---- The step ---- */

static void launch(struct walk *w, uint32_t stages)
{
    walk_launch(w, stages);
    walk_accept(w);
}

/* What the backend has for itself, and lists behind their ends, may hold anything. */
static void blank(const struct walk *w, uint8_t *workspace)
{
    const struct draft_layout *l = &w->rig.layout;
    size_t rows = walk_heads(w) * l->blocks;
    const uint32_t *counts = (const uint32_t *)(workspace + l->counts);
    uint16_t *lists = (uint16_t *)(workspace + l->lists);
    memset(workspace + w->rig.plan->geometry.scratch, 0, (size_t)w->rig.plan->scratch_size);
    for (size_t row = 0; row < rows; row++, lists += l->blocks)
        memset(lists + counts[row], 0, (l->blocks - counts[row]) * sizeof *lists);
}

static bool same_bytes(const struct walk *w, const uint8_t *out, const uint8_t *lse,
                       uint8_t *workspace)
{
    uint8_t *now = walk_copy(&w->rig.workspace);
    blank(w, now);
    blank(w, workspace);
    bool same = memcmp(now, workspace, w->rig.workspace.size) == 0 &&
                memcmp(buffer_read(&w->rig.out), out, w->rig.out.size) == 0 &&
                memcmp(buffer_read(&w->rig.lse), lse, w->rig.lse.size) == 0;
    free(now);
    return same;
}

static void run_twice(struct strange *s)
{
    struct walk *w = s->w;
    launch(w, 15);
    w->bad += check_select(&w->rig, w->cell);
    check_means(s);
    check_scores(s);
    check_others(s);
    uint8_t *out = walk_copy(&w->rig.out), *lse = walk_copy(&w->rig.lse);
    uint8_t *workspace = walk_copy(&w->rig.workspace);
    launch(w, 15);
    walk_expect(w, same_bytes(w, out, lse, workspace), "what is not a number has two results");
    free(out);
    free(lse);
    free(workspace);
}

void walk_strange(struct walk *w)
{
    struct strange s = {.w = w};
    draft_address lse = w->rig.run.lse;
    w->rig.run.lse = w->rig.lse.data;
    walk_run(w, 15);
    s.out = walk_copy(&w->rig.out);
    s.lse = walk_copy(&w->rig.lse);
    s.workspace = walk_copy(&w->rig.workspace);
    strew(&s);
    launch(w, DRAFT_ATTEND);
    check_rows(&s);
    if (!w->bad)
        run_twice(&s);
    walk_put_tensors(w);
    launch(w, 15);
    walk_expect(w, same_bytes(w, s.out, s.lse, s.workspace), "it is not as before");
    w->rig.run.lse = lse;
    free(s.out);
    free(s.lse);
    free(s.workspace);
}
