/* SPDX-License-Identifier: MIT
 *
 * The CPU backend: METHOD's four stages as plain loops over heads and blocks. What takes the time,
 * arithmetic on one tile of 128 x 128, is in tile.c behind struct draft_cpu_tile_ops. */
#ifndef DRAFT_CPU_H
#define DRAFT_CPU_H

#include "backend.h"

/* ---- Threads: threads.c -------------------------------------------------------------------- */

struct draft_cpu_pool;

/* Workers beside the calling thread; NULL when memory or threads run out. */
struct draft_cpu_pool *draft_cpu_pool_create(uint32_t workers);
void draft_cpu_pool_destroy(struct draft_cpu_pool *pool);

typedef void (*draft_cpu_body)(void *job, uint64_t item, uint32_t slot);

/* body(job, i, slot) for i = 0 .. items - 1, on the workers and the calling thread; returns when all
 * are done. slot is below workers + 1 and distinct among bodies of one call that run at once.
 * Thread-safe, does not allocate. */
void draft_cpu_parallel(struct draft_cpu_pool *pool, uint64_t items, draft_cpu_body body,
                        void *job);

/* ---- Tile arithmetic: tile.c ---------------------------------------------------------------- */

/* Matrices are f32. A panel is CPU_PANEL columns of a matrix, stored depth by depth. */
enum { CPU_PANEL = 16, CPU_ROWS = 8 };

struct draft_cpu_tile_ops {
    const char *name;

    /* rows[n][width] = n rows of `dim` elements of `type`, converted; columns from dim on are 0. */
    void (*load)(uint32_t type, const void *const *from, uint32_t n, uint32_t dim, uint32_t width,
                 float *rows);

    /* Panels of the transpose: panel p holds rows p x CPU_PANEL on; missing rows are 0. */
    void (*pack_transposed)(const float *rows, uint32_t n, uint32_t width, float *panels);

    /* Panels of the matrix itself, DRAFT_BLOCK deep; only n rows are written. */
    void (*pack)(const float *rows, uint32_t n, uint32_t width, float *panels);

    /* c[rows][DRAFT_BLOCK] = c x keep[row] + a[rows][DRAFT_BLOCK] x panels; keep NULL: 0.
     * rows is a multiple of CPU_ROWS; panel_depth is what lies between two panels, in rows. */
    void (*multiply)(const float *a, const float *panels, uint32_t rows, uint32_t panel_count,
                     uint32_t depth, uint32_t panel_depth, const float *keep, float *c);

    /* One step of the running softmax over `keys` (a multiple of CPU_PANEL) logits of each row: add
     * bias, raise the maximum m, put exp(logit - m) in the logits' place, update the sum l, and set
     * keep to what earlier terms must be multiplied with. */
    void (*softmax_step)(float *logits, const float *bias, uint32_t rows, uint32_t keys, float *m,
                         float *l, float *keep);

    /* Softmax of n values in place. */
    void (*softmax_row)(float *values, uint32_t n);

    /* Scorer EXCESS of one key block for DRAFT_BLOCK quarters of queries. logits [DRAFT_PARTS]
     * [DRAFT_BLOCK]: of each part of the block; sizes: its tokens. x [DRAFT_BLOCK]: the scores; m
     * [DRAFT_BLOCK] is raised to them. */
    void (*excess)(const float *logits, const float sizes[DRAFT_PARTS], float *x, float *m);

    /* Each of the n rows x [DRAFT_BLOCK] becomes exp(x - m); l [DRAFT_BLOCK]: the rows' sum. */
    void (*exp_rows)(float *x, uint64_t n, const float *m, float *l);
};

/* Variants that this build holds, best first, NULL at the end: cpu.c. */
extern const struct draft_cpu_tile_ops *const draft_cpu_tile_variants[];

/* ---- Stages -------------------------------------------------------------------------------- */

/* What the stages need beside the arguments: behind draft_plan.state. */
struct draft_cpu_job {
    const struct draft_geometry *g;
    const uint32_t *budget;
    const struct draft_args *args;
    const struct draft_cpu_tile_ops *ops;
    struct draft_cpu_pool *pool;
    char *workspace;
    char *scratch;      /* of all slots                  */
    uint64_t slot_size; /* bytes of scratch for one slot */
};

/* to: `dim` elements of `type`. store.c. */
void draft_cpu_store_row(uint32_t type, const float *row, uint32_t dim, void *to);

/* Scratch that a stage needs for each slot, bytes. */
uint64_t draft_cpu_pool_scratch(void);
uint64_t draft_cpu_select_scratch(const struct draft_geometry *g);
uint64_t draft_cpu_score_scratch(void);
uint64_t draft_cpu_excess_scratch(const struct draft_geometry *g);
uint64_t draft_cpu_attend_scratch(void);

void draft_cpu_pool_blocks(struct draft_cpu_job *job);
void draft_cpu_score(struct draft_cpu_job *job);
void draft_cpu_excess(struct draft_cpu_job *job); /* the map of scorer EXCESS: excess.c */
void draft_cpu_select(struct draft_cpu_job *job);
void draft_cpu_attend(struct draft_cpu_job *job);

/* The scale of logits is a factor of the queries, unless it makes them larger: then of the products
 * with them, so that a logit is finite where the product with scale and without is. */
static inline float draft_cpu_query_scale(const struct draft_geometry *g)
{
    return g->scale >= -1 && g->scale <= 1 ? g->scale : 1;
}

/* n rows [DRAFT_BLOCK] of such products. */
static inline void draft_cpu_scale_products(const struct draft_geometry *g, uint32_t n,
                                            float *products)
{
    if (g->scale >= -1 && g->scale <= 1)
        return;
    for (uint32_t i = 0; i < n * DRAFT_BLOCK; i++)
        products[i] *= g->scale;
}

/* Address of an element row: units is an offset in DRAFT_UNIT bytes. */
static inline char *draft_cpu_at(draft_address base, uint64_t units)
{
    return (char *)(uintptr_t)(base + units * DRAFT_UNIT);
}

static inline uint32_t draft_cpu_round_up(uint32_t n, uint32_t multiple)
{
    return (n + multiple - 1) / multiple * multiple;
}

#endif
