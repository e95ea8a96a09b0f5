/* SPDX-License-Identifier: MIT
 *
 * What the parts of `draft fidelity` share: data sets, exact sums for some rows of a head, methods,
 * and what each method did at each point of its sweep.
 *
 * Everything goes head by head: a plan of one head, so that memory holds one head at a time. */
#ifndef DRAFT_TOOLS_FIDELITY_BENCH_H
#define DRAFT_TOOLS_FIDELITY_BENCH_H

#include "generate.h"
#include "job.h"
#include "program.h"

/* ---- Data ---------------------------------------------------------------------------------- */

struct run_inputs;

/* Where heads come from: the generator, or files of the user's. */
struct fidelity_data {
    const char *name;
    struct draft_shape shape;    /* of one head: heads 1                                   */
    uint32_t heads;              /* how many are judged                                    */
    struct generate *generate;   /* NULL: files                                            */
    enum generate_regime regime; /* of the generator                                       */
    uint64_t seed;               /* of the generator, and of the rows that are judged      */
    const struct run_inputs *files;
    unsigned threads;
};

/* One head: [tokens, dim] each, in f32. */
struct fidelity_head {
    const char *kind;
    float *q, *k, *v;
};
void fidelity_head_create(const struct fidelity_data *data, uint32_t head,
                          struct fidelity_head *out);
void fidelity_head_destroy(struct fidelity_head *head);

/* ---- Blocks -------------------------------------------------------------------------------- */

/* How a tile cuts a sample into blocks: which block each token is in, and the tokens of each. */
struct fidelity_blocks {
    struct draft_layout layout;
    uint32_t *block_of; /* [tokens]                                                         */
    uint32_t *first;    /* [blocks + 1] into token                                          */
    uint32_t *token;    /* [tokens], block after block                                      */
};
void fidelity_blocks_create(const struct draft_shape *shape, const struct draft_layout *layout,
                            struct fidelity_blocks *out);
void fidelity_blocks_destroy(struct fidelity_blocks *blocks);

/* ---- Exact sums ---------------------------------------------------------------------------- */

enum { FIDELITY_TILES = 8 }; /* tiles in use at most */

/* Dense attention of some rows, those of whole blocks of tiling 0: products in f32, sums in f64.
 * What each block holds of it is kept for every tiling. */
struct fidelity_exact {
    uint32_t blocks, rows, dim;  /* judged query blocks and rows                             */
    uint32_t *query_block;       /* [blocks], of tiling 0                                    */
    uint32_t *token;             /* [rows]                                                   */
    uint32_t *row_block;         /* [rows]: index into query_block                           */
    double *out;                 /* [rows, dim]                                              */
    float *mass[FIDELITY_TILES]; /* [rows, blocks of the tiling]: shares of 1                */
    float *block_mass;           /* [judged blocks, blocks of tiling 0]: mean of their rows  */
    float
        *block_error; /* the same shape: squared error of first order where one alone is dropped */
};

/* tilings: [tiles], the first decides which rows. wanted: query blocks, by the seed. */
void fidelity_exact_create(const struct fidelity_data *data, const struct fidelity_head *head,
                           uint32_t number, const struct fidelity_blocks *tilings, unsigned tiles,
                           uint32_t wanted, float scale, struct fidelity_exact *out);
void fidelity_exact_destroy(struct fidelity_exact *exact);

/* ---- Methods ------------------------------------------------------------------------------- */

/* Who makes the lists. */
enum fidelity_selector {
    FIDELITY_LIBRARY,      /* the stages of the plan                                  */
    FIDELITY_ORACLE_MASS,  /* each row block: the blocks that truly hold the most     */
    FIDELITY_ORACLE_ERROR, /* those whose loss truly does the most harm               */
    FIDELITY_RANDOM,       /* any                                                     */
    FIDELITY_WINDOW        /* the nearest in the grid                                 */
};

enum { FIDELITY_REUSE = 10 }; /* runs that share the work of one draft_probe_run */

enum fidelity_role { FIDELITY_METHOD, FIDELITY_BASELINE, FIDELITY_CEILING, FIDELITY_FLOOR };

struct fidelity_method {
    char name[32];
    enum fidelity_role role;
    enum fidelity_selector selector;
    draft_rule rule;
    draft_scorer scorer;
    draft_tail tail;
    double row_floor;
    uint32_t force; /* bits of draft_force */
    bool one;       /* tail FITTED: the factor is 1, which nothing fitted, and not the probe's */
};
enum { FIDELITY_METHODS = 96 }; /* at most */

/* The methods that a comma-separated list names, those with "+first" force the blocks of the first
 * frame; "all" for every combination without, NULL for those that matter; the first is the paper's
 * rule, to which all are compared. 0, with a message, where one is unknown. */
unsigned fidelity_methods(const char *list, struct fidelity_method out[FIDELITY_METHODS]);

/* Plan parameters of a method that spends, together with what it computes beside the kept pairs, as
 * much as the paper's rule at this sparsity. */
struct draft_plan_params fidelity_params(const struct fidelity_method *method,
                                         const struct draft_shape *shape,
                                         const struct draft_layout *layout, draft_type type,
                                         double sparsity);

/* Work beside the kept pairs, as a share of dense attention's multiplications: pooled keys, means,
 * scores, a share of a probe. */
double fidelity_extra_work(const struct fidelity_method *method, const struct draft_shape *shape,
                           const struct draft_layout *layout);

/* Lists of a selector other than the library's, for the judged query blocks; all other rows are
 * empty. counts: [blocks], lists: [blocks, blocks]. budget: video key blocks of each row. */
void fidelity_lists(enum fidelity_selector selector, const struct fidelity_exact *exact,
                    const struct draft_layout *layout, uint32_t budget, uint64_t stream,
                    uint32_t *counts, uint16_t *lists);

/* ---- Results ------------------------------------------------------------------------------- */

enum { FIDELITY_POINTS = 16 }; /* of a sweep at most */

/* Of one head: sums over the judged rows. */
struct fidelity_sums {
    double difference, reference, square, product; /* of squares: out - dense, dense, out       */
    double work, density;
    double recall;
    uint64_t starved, not_finite;
};

/* Of one method at one point, all heads together. */
struct fidelity_point {
    double nominal;              /* sparsity whose work this point spends                    */
    struct fidelity_sums *heads; /* [heads]                                                  */
    float *recalls;              /* [heads x rows]: shares of the mass in kept blocks        */
    size_t recall_count;
    /* Of these, after fidelity_summarise: */
    double relative, median, p90, worst, cosine, recall, recall_p5, work, density;
    uint32_t worst_head;
    uint64_t starved, not_finite;
    double starved_share; /* of the query blocks */
};

/* Add one head's judged rows; out is [tokens, dim] of the type. */
void fidelity_judge(const struct fidelity_exact *exact, draft_type type, const void *out,
                    struct fidelity_sums *sums);

void fidelity_summarise(struct fidelity_point *point, uint32_t heads);

/* Between the points of a sweep, which go from much work to little, on logarithmic axes: the error
 * at a work, and the work at which the pooled error is so large; NaN outside the sweep. */
enum fidelity_figure { FIDELITY_POOLED, FIDELITY_WORST };
double fidelity_error_at(const struct fidelity_point *points, size_t count, double work,
                         enum fidelity_figure figure);
double fidelity_work_at(const struct fidelity_point *points, size_t count, double relative);

/* A data set with all its results. */
struct fidelity_set {
    struct fidelity_data data;
    const char **kinds;                               /* [heads]                             */
    struct generate_statistics *statistics;           /* [heads]                             */
    struct draft_layout layout;                       /* of the library's tile               */
    struct fidelity_point noise[3];                   /* dense, by type - 1; heads NULL: none */
    struct fidelity_point (*points)[FIDELITY_POINTS]; /* [methods]                 */
    uint32_t rows, blocks_judged;
};

struct fidelity_bench {
    struct fidelity_set *sets;
    size_t set_count;
    struct fidelity_method methods[FIDELITY_METHODS]; /* the first: the paper's rule */
    unsigned method_count;
    double nominal[FIDELITY_POINTS];
    size_t points;
    draft_type type;
    struct draft_tile tile; /* of all methods but the paper's; 0, 0, 0: the library's choice */
    uint32_t judged;        /* query blocks of each head */
    uint64_t seed;
    const char *folder;
    const char *command; /* as it was typed */
    double seconds;
};

/* Everything for one head of a set, through the context; without methods only what it is like. */
draft_status fidelity_run_head(struct fidelity_bench *bench, struct fidelity_set *set,
                               uint32_t head, draft_context *context,
                               struct program_progress *progress, uint64_t *done);

/* Pictures and reports into the folder; false with a message. */
bool fidelity_report(const struct fidelity_bench *bench, bool json);
bool fidelity_draw(const struct fidelity_bench *bench);
/* Only what a set is like. */
void fidelity_write_statistics(const struct fidelity_set *set, FILE *file);

#endif
