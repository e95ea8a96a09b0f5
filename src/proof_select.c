/* SPDX-License-Identifier: MIT
 *
 * What select has to write: all pairs of a head in the order in which they are wanted, and the rule
 * counts. The lists are exact. */
#include "trial.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    ROWS = DRAFT_TRIAL_ROWS,
    PAIRS = ROWS * ROWS,
    BLOCKS = ROWS + DRAFT_TRIAL_TEXT,
};

struct pair {
    float p;
    uint32_t at; /* row-major */
};

/* One head. */
struct choice {
    const struct draft_maps *maps;
    uint32_t b, h;
    uint32_t budget, floor;
    struct pair pairs[PAIRS]; /* best first */
    bool kept[PAIRS];
    uint64_t spent, spent_in[ROWS]; /* of the budget: in all, in each row */
};

static int better(const void *left, const void *right)
{
    const struct pair *a = left, *b = right;
    if (a->p != b->p)
        return a->p > b->p ? -1 : 1;
    return a->at < b->at ? -1 : 1;
}

static void keep(struct choice *c, uint32_t at, float p)
{
    uint64_t weight =
        c->maps->g->rule == DRAFT_RULE_MASS ? (uint64_t)((double)p * DRAFT_MASS_ONE) : 1;
    if (c->kept[at])
        return;
    c->kept[at] = true;
    c->spent += weight;
    c->spent_in[at / ROWS] += weight;
}

static void choose(struct choice *c)
{
    const struct draft_geometry *g = c->maps->g;
    uint64_t head = c->b * g->heads + c->h;
    const float *map = (const float *)(c->maps->put + g->map) + head * PAIRS;
    memset(c->kept, 0, sizeof c->kept);
    memset(c->spent_in, 0, sizeof c->spent_in);
    c->spent = 0;
    for (uint32_t at = 0; at < PAIRS; at++)
        c->pairs[at] = (struct pair){map[at], at};
    qsort(c->pairs, PAIRS, sizeof *c->pairs, better);
    for (uint32_t i = 0; i < ROWS; i++) {
        uint32_t forced[ROWS], n = draft_forced_blocks(g, i, forced);
        for (uint32_t f = 0; f < n; f++)
            keep(c, i * ROWS + forced[f], map[i * ROWS + forced[f]]);
    }
    for (uint32_t n = 0; n < PAIRS; n++)
        if (c->spent_in[c->pairs[n].at / ROWS] < c->floor)
            keep(c, c->pairs[n].at, c->pairs[n].p);
    for (uint32_t n = 0; n < PAIRS; n++) {
        uint32_t at = c->pairs[n].at;
        bool in_row = g->rule == DRAFT_RULE_ROW || g->rule == DRAFT_RULE_MASS;
        bool wanted = g->rule == DRAFT_RULE_PAPER
                          ? c->pairs[n].p >= c->pairs[c->budget - 1].p
                          : (in_row ? c->spent_in[at / ROWS] : c->spent) < c->budget;
        if (wanted)
            keep(c, at, c->pairs[n].p);
    }
}

static void compare(const struct choice *c, const char *what, double got, double want,
                    uint32_t block)
{
    draft_trial_compare(c->maps->proof, got, want, 0,
                        (struct draft_spot){what, c->b, c->h, "block", block});
}

/* Rows and columns of text are kept whole. */
static bool is_kept(const struct choice *c, uint32_t i, uint32_t j)
{
    uint32_t row = i - c->maps->g->prefix_blocks, column = j - c->maps->g->prefix_blocks;
    return row >= ROWS || column >= ROWS || c->kept[row * ROWS + column]; /* text wraps */
}

static uint32_t check_list(const struct choice *c, uint32_t i, uint32_t count, const uint16_t *list)
{
    uint32_t blocks = c->maps->g->blocks, n = 0;
    for (uint32_t j = 0; j < blocks; j++) {
        if (!is_kept(c, i, j))
            continue;
        if (n < count)
            compare(c, "an entry of the list", list[n], j, i);
        n++;
    }
    compare(c, "the count", count, n, i);
    return n;
}

/* The sign bits; all else stays. */
static void check_bias(const struct choice *c, uint32_t i)
{
    const struct draft_geometry *g = c->maps->g;
    uint64_t row = (uint64_t)(c->b * g->heads + c->h) * ROWS + i;
    const float *put = (const float *)(c->maps->put + g->bias) + row * g->bias_stride;
    const float *got = (const float *)(c->maps->got + g->bias) + row * g->bias_stride;
    for (uint32_t j = 0; j < g->bias_stride; j++) {
        bool sign = j < ROWS ? c->kept[i * ROWS + j] : signbit(put[j]);
        compare(c, "a bias", fabsf(got[j]), fabsf(put[j]), g->prefix_blocks + i);
        compare(c, "the sign of a bias", signbit(got[j]) != 0, sign, g->prefix_blocks + i);
    }
}

static void check_head(struct choice *c)
{
    const struct draft_geometry *g = c->maps->g;
    uint64_t row = (uint64_t)(c->b * g->heads + c->h) * g->blocks;
    const uint32_t *counts = (const uint32_t *)(c->maps->got + g->counts) + row;
    const uint16_t *lists = (const uint16_t *)(c->maps->got + g->lists) + row * g->blocks;
    const uint16_t *order = (const uint16_t *)(c->maps->got + g->order) + row;
    uint32_t wanted[BLOCKS], starts[BLOCKS + 1];
    uint16_t in_order[BLOCKS];
    choose(c);
    for (uint32_t i = 0; i < g->blocks; i++)
        wanted[i] = check_list(c, i, counts[i], lists + (uint64_t)i * g->blocks);
    for (uint32_t i = 0; i < ROWS && g->bias; i++)
        check_bias(c, i);
    draft_order_rows(wanted, g->blocks, starts, in_order);
    for (uint32_t i = 0; i < g->blocks; i++)
        compare(c, "the work order", order[i], in_order[i], i);
}

draft_status draft_trial_check_select(const struct draft_maps *maps)
{
    const struct draft_geometry *g = maps->g;
    struct choice *c = draft_calloc(1, sizeof *c);
    DRAFT_REQUIRE(&maps->plan->context->log, DRAFT_ERROR_MEMORY, c,
                  "out of host memory for a self-test");
    for (uint32_t head = 0; head < g->batch * g->heads; head++) {
        c->maps = maps;
        c->b = head / g->heads, c->h = head % g->heads;
        c->budget = maps->plan->budget[c->h];
        c->floor = maps->plan->budget[g->heads + c->h];
        check_head(c);
    }
    draft_release(c);
    return DRAFT_OK;
}
