/* SPDX-License-Identifier: MIT
 *
 * The methods that `draft fidelity` compares, what they cost, and lists that no method could make:
 * ceilings, which know the truth, and floors, which know nothing. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "fidelity_bench.h"
#include "random.h"

enum { POOLED = 128 /* keys of a tile of pooled keys */ };
/* What draft_probe_run does by default. Its passes over the kept keys of a few blocks are no more
 * than those blocks computed densely, and are not counted apart. */
enum { PROBE_BLOCKS = 4, PROBE_PASSES = 5 };

/* ---- Table --------------------------------------------------------------------------------- */

static const struct fidelity_method paper = {
    .name = "paper", .role = FIDELITY_BASELINE, .rule = DRAFT_RULE_PAPER};

/* Rules x scorers x tails: "row-lse-gap". HEAD with a floor is a rule of its own here. */
static const struct {
    const char *name;
    draft_rule rule;
    double row_floor;
} rules[] = {{"head", DRAFT_RULE_HEAD, 0},
             {"floor", DRAFT_RULE_HEAD, 0.5},
             {"row", DRAFT_RULE_ROW, 0},
             {"mass", DRAFT_RULE_MASS, 0}};
static const struct {
    const char *name;
    draft_scorer scorer;
} scorers[] = {{"mean", DRAFT_SCORER_MEAN},
               {"lse", DRAFT_SCORER_LSE},
               {"max", DRAFT_SCORER_MAX},
               {"excess", DRAFT_SCORER_EXCESS}};
static const struct {
    const char *name;
    draft_tail tail;
    bool one;
} tails[] = {{"drop", DRAFT_TAIL_DROP, false},
             {"mean", DRAFT_TAIL_MEAN, false},
             {"gap", DRAFT_TAIL_GAP, false},
             {"fitted", DRAFT_TAIL_FITTED, false},
             {"one", DRAFT_TAIL_FITTED, true}};

static const struct fidelity_method bounds[] = {
    {"oracle-mass", FIDELITY_CEILING, FIDELITY_ORACLE_MASS, DRAFT_RULE_ROW, DRAFT_SCORER_MEAN,
     DRAFT_TAIL_DROP, 0, 0, false},
    {"oracle-error", FIDELITY_CEILING, FIDELITY_ORACLE_ERROR, DRAFT_RULE_ROW, DRAFT_SCORER_MEAN,
     DRAFT_TAIL_DROP, 0, 0, false},
    {"oracle-mass-mean", FIDELITY_CEILING, FIDELITY_ORACLE_MASS, DRAFT_RULE_ROW, DRAFT_SCORER_MEAN,
     DRAFT_TAIL_MEAN, 0, 0, false},
    {"random", FIDELITY_FLOOR, FIDELITY_RANDOM, DRAFT_RULE_ROW, DRAFT_SCORER_MEAN, DRAFT_TAIL_DROP,
     0, 0, false},
    {"window", FIDELITY_FLOOR, FIDELITY_WINDOW, DRAFT_RULE_ROW, DRAFT_SCORER_MEAN, DRAFT_TAIL_DROP,
     0, 0, false},
};

static const char usual[] = "head-mean-drop,row-mean-drop,mass-mean-drop,row-max-drop,"
                            "row-excess-drop,row-mean-mean,row-max-mean,row-max-fitted,"
                            "row-excess-mean,row-excess-gap,row-excess-fitted,"
                            "floor-excess-fitted,row-excess-one,"
                            "oracle-mass,oracle-error,oracle-mass-mean,random,window";

#define COUNT(array) (sizeof(array) / sizeof *(array))

static unsigned make_all(struct fidelity_method *out)
{
    unsigned n = 0;
    out[n++] = paper;
    for (size_t r = 0; r < COUNT(rules); r++)
        for (size_t s = 0; s < COUNT(scorers); s++)
            for (size_t t = 0; t < COUNT(tails); t++) {
                struct fidelity_method *m = &out[n++];
                *m = (struct fidelity_method){.rule = rules[r].rule,
                                              .row_floor = rules[r].row_floor,
                                              .scorer = scorers[s].scorer,
                                              .tail = tails[t].tail,
                                              .one = tails[t].one};
                snprintf(m->name, sizeof m->name, "%s-%s-%s", rules[r].name, scorers[s].name,
                         tails[t].name);
            }
    for (size_t b = 0; b < COUNT(bounds); b++)
        out[n++] = bounds[b];
    return n;
}

/* False, with a message, where there is none of this name. */
static bool find(const struct fidelity_method *all, unsigned count, const char *name, size_t length,
                 struct fidelity_method *out)
{
    static const char first[] = "+first";
    size_t end = sizeof first - 1;
    bool forces = length > end && strncmp(name + length - end, first, end) == 0;
    size_t plain = forces ? length - end : length;
    for (unsigned i = 0; i < count; i++) {
        const struct fidelity_method *m = &all[i];
        if (strlen(m->name) != plain || strncmp(m->name, name, plain) != 0 ||
            (forces && m->role != FIDELITY_METHOD))
            continue;
        *out = *m;
        out->force = forces ? DRAFT_FORCE_FIRST_FRAME : 0;
        strcat(out->name, forces ? first : "");
        return true;
    }
    program_error(
        "--methods: there is no '%.*s'; names are paper, RULE-SCORER-TAIL of head, "
        "floor, row, mass; mean, lse, max, excess; drop, mean, gap, fitted, one, with "
        "+first or without; oracle-mass, oracle-error, oracle-mass-mean, random, window; all",
        (int)length, name);
    return false;
}

unsigned fidelity_methods(const char *list, struct fidelity_method out[FIDELITY_METHODS])
{
    struct fidelity_method all[COUNT(rules) * COUNT(scorers) * COUNT(tails) + COUNT(bounds) + 1];
    _Static_assert(COUNT(all) <= FIDELITY_METHODS, "room for all");
    unsigned count = make_all(all), n = 0;
    out[n++] = paper;
    for (const char *at = list ? list : usual; *at;) {
        size_t length = strcspn(at, ",");
        if (length == 3 && strncmp(at, "all", 3) == 0) {
            memcpy(out, all, count * sizeof *out);
            return count;
        }
        if (n == FIDELITY_METHODS || !find(all, count, at, length, &out[n]))
            return 0;
        n += out[n].rule != DRAFT_RULE_PAPER;
        at += length + (at[length] == ',');
    }
    return n;
}

/* ---- Cost ---------------------------------------------------------------------------------- */

/* Sums over all tokens, of k and of q: what pool makes of them beside one mean for each block. */
static unsigned scorer_sums(const struct fidelity_method *m)
{
    bool quarters = m->scorer == DRAFT_SCORER_LSE || m->scorer == DRAFT_SCORER_MAX;
    return (quarters || m->tail == DRAFT_TAIL_GAP ? 1 : 0) +
           (m->scorer == DRAFT_SCORER_EXCESS ? 2 : 0);
}

/* Products of means that score takes for each pair of blocks. Those of whole blocks are for MEAN
 * alone; GAP takes those of quarters, which LSE and MAX have. */
static unsigned scorer_products(const struct fidelity_method *m)
{
    static const unsigned products[] = {[DRAFT_SCORER_DEFAULT] = 1, /* of the paper's rule */
                                        [DRAFT_SCORER_MEAN] = 1,
                                        [DRAFT_SCORER_LSE] = 4,
                                        [DRAFT_SCORER_MAX] = 4,
                                        [DRAFT_SCORER_EXCESS] = 64};
    bool quarters = m->scorer == DRAFT_SCORER_LSE || m->scorer == DRAFT_SCORER_MAX;
    return products[m->scorer] + (m->tail == DRAFT_TAIL_GAP && !quarters ? 4 : 0) +
           (m->tail == DRAFT_TAIL_FITTED ? 1 : 0);
}

double fidelity_extra_work(const struct fidelity_method *m, const struct draft_shape *shape,
                           const struct draft_layout *l)
{
    double tokens = (double)l->tokens, dim = shape->dim, s = l->video_blocks;
    double video = (double)shape->frames * shape->height * shape->width;
    bool tail = m->tail > DRAFT_TAIL_DROP, fitted = m->tail == DRAFT_TAIL_FITTED;
    double sums = (3 + scorer_sums(m) + (fitted ? 4 : 0)) * tokens * dim;
    double products = s * s * dim * 2 * scorer_products(m);
    double small = (sums + products) / (4 * dim * tokens * tokens);
    double pooled = tail ? ceil(s / POOLED) * POOLED * video / (tokens * tokens) : 0;
    double probe =
        fitted && !m->one ? (PROBE_BLOCKS / s + PROBE_PASSES * pooled) / FIDELITY_REUSE : 0;
    return small + pooled + probe;
}

/* The masses that give MASS about as wide a range of densities as the others have. */
static double mass_for(double sparsity)
{
    return 1 - 0.9 * pow(sparsity, 9);
}

struct draft_plan_params fidelity_params(const struct fidelity_method *m,
                                         const struct draft_shape *shape,
                                         const struct draft_layout *layout, draft_type type,
                                         double sparsity)
{
    double tokens = (double)layout->tokens;
    double video = (double)shape->frames * shape->height * shape->width;
    struct fidelity_method baseline = {.rule = DRAFT_RULE_PAPER};
    double extra =
        fidelity_extra_work(m, shape, layout) - fidelity_extra_work(&baseline, shape, layout);
    double own = sparsity + extra * (tokens / video) * (tokens / video);
    struct draft_plan_params params = {.shape = *shape,
                                       .type = type,
                                       .rule = m->rule,
                                       .scorer = m->scorer,
                                       .tail = m->tail,
                                       .row_floor = m->row_floor,
                                       .force = m->force};
    if (m->rule == DRAFT_RULE_MASS)
        params.mass = mass_for(sparsity);
    else
        params.sparsity = sparsity == 0 ? 0 : fmin(own, 0.999);
    return params;
}

/* ---- Lists --------------------------------------------------------------------------------- */

struct ranked {
    double value;
    uint32_t block;
};

static int best_first(const void *a, const void *b)
{
    const struct ranked *x = a, *y = b;
    if (x->value != y->value)
        return x->value < y->value ? 1 : -1;
    return (x->block > y->block) - (x->block < y->block);
}

static double distance(const struct draft_layout *l, uint32_t a, uint32_t b)
{
    double t = (double)(a / (l->tiles_h * l->tiles_w)) - (double)(b / (l->tiles_h * l->tiles_w));
    double h = (double)(a / l->tiles_w % l->tiles_h) - (double)(b / l->tiles_w % l->tiles_h);
    double w = (double)(a % l->tiles_w) - (double)(b % l->tiles_w);
    t *= l->tile.t, h *= l->tile.h, w *= l->tile.w;
    return t * t + h * h + w * w;
}

/* How much selector wants key block j (of the video) for judged query block n, which is i. */
static double wish(enum fidelity_selector selector, const struct fidelity_exact *e,
                   const struct draft_layout *l, uint32_t n, uint32_t i, uint32_t j,
                   uint64_t stream)
{
    size_t at = (size_t)n * l->blocks + l->prefix_blocks + j;
    switch (selector) {
    case FIDELITY_ORACLE_MASS:
        return (double)e->block_mass[at];
    case FIDELITY_ORACLE_ERROR:
        return (double)e->block_error[at];
    case FIDELITY_WINDOW:
        return -distance(l, i, j);
    default: /* its own block, and any others */
        return i == j ? 2 : (double)random_uniform(stream, at);
    }
}

void fidelity_lists(enum fidelity_selector selector, const struct fidelity_exact *e,
                    const struct draft_layout *l, uint32_t budget, uint64_t stream,
                    uint32_t *counts, uint16_t *lists)
{
    uint32_t s = l->video_blocks;
    struct ranked *rank = program_calloc(s, sizeof *rank);
    bool *kept = program_calloc(l->blocks, sizeof *kept);
    memset(counts, 0, l->blocks * sizeof *counts);
    for (uint32_t n = 0; n < e->blocks; n++) {
        uint32_t row = e->query_block[n], i = row - l->prefix_blocks;
        for (uint32_t j = 0; j < s; j++)
            rank[j] = (struct ranked){wish(selector, e, l, n, i, j, stream), j};
        qsort(rank, s, sizeof *rank, best_first);
        for (uint32_t b = 0; b < l->blocks; b++)
            kept[b] = b < l->prefix_blocks || b >= l->prefix_blocks + s; /* text */
        for (uint32_t j = 0; j < budget && j < s; j++)
            kept[l->prefix_blocks + rank[j].block] = true;
        for (uint32_t b = 0; b < l->blocks; b++)
            if (kept[b])
                lists[(size_t)row * l->blocks + counts[row]++] = (uint16_t)b;
    }
    free(kept);
    free(rank);
}
