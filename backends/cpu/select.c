/* SPDX-License-Identifier: MIT
 *
 * Forced pairs are kept first. What the budget has left goes to the largest p: `cut` finds the
 * smallest p that is still kept, and how many of those that equal it (in row-major order) are.
 * The bits of a float that is not negative order like the float, so p is compared as an integer. */
#include <math.h>
#include <string.h>

#include "cpu.h"

#define FORCED UINT32_MAX /* in place of the bits of p: this pair is kept already */
#define NO_ROW UINT32_MAX

struct cut {
    uint64_t ties; /* of those that equal key, so many are kept */
    uint32_t key;  /* all above are kept                        */
};

struct select_scratch {
    struct cut *floors; /* [S] of each row: what it keeps in any case */
    uint32_t *keys;     /* [S] bits of one row's p                    */
    uint32_t *forced;   /* [S] forced blocks of one row               */
    uint32_t *starts;   /* [B + 1] for the work order                 */
    uint32_t row;       /* that keys holds, or NO_ROW                 */
    uint64_t taken;     /* of it, as load_row returned it             */
};

/* The part of a map that shares one budget: all rows of a head, or one row. */
struct region {
    const struct draft_geometry *g;
    const float *map;     /* [S, S] */
    uint32_t first, last; /* rows   */
    bool floors;          /* x->floors holds */
    struct select_scratch *x;
};

uint64_t draft_cpu_select_scratch(const struct draft_geometry *g)
{
    uint64_t s = g->video_blocks;
    return s * sizeof(struct cut) + (2 * s + g->blocks + 1) * sizeof(uint32_t);
}

static uint64_t mass_of(uint32_t key)
{
    if (key > 0x7f800000u) /* NaN or negative */
        return 0;
    if (key >= 0x3f800000u)
        return DRAFT_MASS_ONE;
    float p;
    memcpy(&p, &key, sizeof p);
    return (uint64_t)(p * (float)DRAFT_MASS_ONE);
}

/* What a pair takes of the budget. */
static uint64_t weight(const struct draft_geometry *g, uint32_t key)
{
    return g->rule == DRAFT_ABI_MASS ? mass_of(key) : 1;
}

/* True where the cut keeps a pair; takes ties in the order in which it is asked. */
static bool keeps(struct cut *cut, uint32_t key)
{
    bool tie = key == cut->key && cut->ties > 0;
    cut->ties -= tie && cut->ties != UINT64_MAX;
    return key > cut->key || tie;
}

/* Keys of row i, FORCED where forced or kept by the floor; returns the weight of those pairs. */
static uint64_t load_row(const struct region *r, uint32_t i)
{
    uint32_t s = r->g->video_blocks, *keys = r->x->keys;
    memcpy(keys, r->map + (uint64_t)i * s, s * sizeof *keys);
    for (uint32_t j = 0; j < s; j++) /* a NaN may have all bits set */
        keys[j] = keys[j] == FORCED ? FORCED - 1 : keys[j];
    uint32_t n = draft_forced_blocks(r->g, i, r->x->forced);
    uint64_t taken = 0;
    for (uint32_t f = 0; f < n; f++) {
        taken += weight(r->g, keys[r->x->forced[f]]);
        keys[r->x->forced[f]] = FORCED;
    }
    if (!r->floors)
        return taken;
    struct cut floor = r->x->floors[i];
    for (uint32_t j = 0; j < s; j++)
        if (keys[j] != FORCED && keeps(&floor, keys[j])) {
            keys[j] = FORCED;
            taken++;
        }
    return taken;
}

/* The same, where the keys may be there already: those who share a budget are asked for often, and may
 * be one row. */
static uint64_t read_row(const struct region *r, uint32_t i)
{
    struct select_scratch *x = r->x;
    if (x->row != i)
        x->taken = load_row(r, i);
    x->row = i;
    return x->taken;
}

/* Weight of the pairs not forced by the next 8 bits of the key, among those that begin with the bits
 * of `prefix` above `shift` + 8. */
static void histogram(const struct region *r, uint32_t prefix, unsigned shift, uint64_t sums[256])
{
    const uint32_t *keys = r->x->keys, s = r->g->video_blocks;
    memset(sums, 0, 256 * sizeof *sums);
    for (uint32_t i = r->first; i < r->last; i++) {
        (void)read_row(r, i);
        for (uint32_t j = 0; j < s; j++) {
            uint32_t key = keys[j];
            if (key != FORCED && (uint64_t)(key ^ prefix) >> (shift + 8) == 0)
                sums[key >> shift & 255] += weight(r->g, key);
        }
    }
}

/* The cut that keeps the largest pairs until they weigh `budget`: one byte of the key at a time. */
static struct cut find_cut(const struct region *r, uint64_t budget)
{
    struct cut keep_all = {UINT64_MAX, 0}, keep_none = {0, UINT32_MAX};
    if (budget == 0)
        return keep_none;
    uint32_t prefix = 0;
    uint64_t rest = budget, sums[256];
    for (int shift = 24; shift >= 0; shift -= 8) {
        histogram(r, prefix, (unsigned)shift, sums);
        int digit = 255;
        while (digit >= 0 && sums[digit] < rest)
            rest -= sums[digit--];
        if (digit < 0)
            return keep_all; /* only at the first byte: all together weigh too little */
        prefix |= (uint32_t)digit << shift;
    }
    uint64_t each = weight(r->g, prefix);
    return (struct cut){(rest + each - 1) / each, prefix};
}

static struct cut cut_of(const struct region *r, uint64_t budget)
{
    if (r->g->rule == DRAFT_ABI_PAPER) {
        struct cut cut = find_cut(r, budget);
        cut.ties = UINT64_MAX;
        return cut;
    }
    uint64_t taken = 0;
    for (uint32_t i = r->first; i < r->last; i++)
        taken += read_row(r, i);
    return find_cut(r, taken < budget ? budget - taken : 0);
}

/* Each row's best pairs, up to `count` with the forced ones, count as forced from here on. */
static void find_floors(struct region *r, uint32_t count)
{
    for (uint32_t i = 0; i < r->g->video_blocks; i++) {
        r->first = i, r->last = i + 1;
        r->x->floors[i] = cut_of(r, count);
    }
    r->floors = true;
    r->x->row = NO_ROW;
}

/* Set the sign of a bias, so that attend leaves out what is kept. */
static void mark(float *bias, bool kept)
{
    *bias = copysignf(*bias, kept ? -1.0f : 1.0f);
}

/* List of query row i: text, what the cut keeps, text. Uses up the cut's ties. bias: NULL, or the
 * row's. Returns the count. */
static uint32_t write_list(const struct region *r, uint32_t i, struct cut *cut, uint16_t *list,
                           float *bias)
{
    const struct draft_geometry *g = r->g;
    uint32_t n = 0;
    for (; n < g->prefix_blocks; n++)
        list[n] = (uint16_t)n;
    (void)read_row(r, i);
    const uint32_t *keys = r->x->keys;
    for (uint32_t j = 0; j < g->video_blocks; j++) {
        bool kept = keys[j] == FORCED || keeps(cut, keys[j]);
        if (kept)
            list[n++] = (uint16_t)(g->prefix_blocks + j);
        if (bias)
            mark(&bias[j], kept);
    }
    for (uint32_t j = g->prefix_blocks + g->video_blocks; j < g->blocks; j++)
        list[n++] = (uint16_t)j;
    return n;
}

static uint32_t write_full_list(const struct draft_geometry *g, uint16_t *list)
{
    for (uint32_t j = 0; j < g->blocks; j++)
        list[j] = (uint16_t)j;
    return g->blocks;
}

/* bias: NULL, or the head's [S, bias_stride]. */
static void select_rows(struct region *r, uint32_t budget, uint32_t floor, uint32_t *counts,
                        uint16_t *lists, float *bias)
{
    const struct draft_geometry *g = r->g;
    bool row_budgets = g->rule == DRAFT_ABI_ROW || g->rule == DRAFT_ABI_MASS;
    struct cut cut = {0, 0};
    if (floor > 0)
        find_floors(r, floor);
    r->first = 0, r->last = g->video_blocks;
    if (!row_budgets)
        cut = cut_of(r, budget);
    for (uint32_t block = 0; block < g->blocks; block++) {
        uint16_t *list = lists + (uint64_t)block * g->blocks;
        uint32_t i = block - g->prefix_blocks; /* wraps for prefix blocks */
        if (i >= g->video_blocks) {
            counts[block] = write_full_list(g, list);
            continue;
        }
        if (row_budgets) {
            r->first = i, r->last = i + 1;
            cut = cut_of(r, budget);
        }
        counts[block] =
            write_list(r, i, &cut, list, bias ? bias + (uint64_t)i * g->bias_stride : NULL);
    }
}

/* One sample and head. */
static void select_head(void *argument, uint64_t head, uint32_t slot)
{
    const struct draft_cpu_job *job = argument;
    const struct draft_geometry *g = job->g;
    uint64_t s = g->video_blocks, b = g->blocks;
    struct cut *floors = (void *)(job->scratch + slot * job->slot_size);
    uint32_t *memory = (void *)(floors + s);
    struct select_scratch x = {floors, memory, memory + s, memory + 2 * s, NO_ROW, 0};
    struct region region = {
        .g = g,
        .map = (const float *)(job->workspace + g->map) + head * s * s,
        .x = &x,
    };
    uint32_t *counts = (uint32_t *)(job->workspace + g->counts) + head * b;
    uint16_t *lists = (uint16_t *)(job->workspace + g->lists) + head * b * b;
    float *bias = (float *)(job->workspace + g->bias) + head * s * g->bias_stride;
    const uint32_t *budget = job->budget + head % g->heads; /* floors lie behind the budgets */
    select_rows(&region, budget[0], budget[g->heads], counts, lists, g->bias ? bias : NULL);
    draft_order_rows(counts, g->blocks, x.starts,
                     (uint16_t *)(job->workspace + g->order) + head * b);
}

void draft_cpu_select(struct draft_cpu_job *job)
{
    draft_cpu_parallel(job->pool, (uint64_t)job->g->batch * job->g->heads, select_head, job);
}
