/* SPDX-License-Identifier: MIT
 *
 * What the files of src/ share with each other and with nobody else. */
#ifndef DRAFT_CORE_H
#define DRAFT_CORE_H

#include "backend.h"

enum { DRAFT_ALL_STAGES = DRAFT_POOL | DRAFT_SCORE | DRAFT_SELECT | DRAFT_ATTEND };

/* Refuse an argument: log what was expected and return `status` from the calling function. */
#define DRAFT_REQUIRE(log, status, condition, ...)                                                 \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            draft_log((log), DRAFT_LOG_ERROR, __VA_ARGS__);                                        \
            return (status);                                                                       \
        }                                                                                          \
    } while (0)

/* NULL: this build has none of that name. src/context.c. */
const struct draft_backend *draft_backend_find(const char *name);

/* What bears on the choice of kernels while a plan is made. */
struct draft_choice {
    const char *mask; /* $DRAFT_KERNEL, or NULL */
    /* NULL, or of each stage the one variant that it may take, tested or not; NULL: any. */
    const char *const *only;
    const char *ruled_out[DRAFT_STAGES][DRAFT_MOST_VARIANTS]; /* why; NULL: they are not          */
    bool wrong[DRAFT_STAGES]; /* one was ruled out because it computes wrongly            */
    bool again;               /* the plan has chosen before: what is refused was told     */
    bool changed;             /* one was ruled out since it did                           */
};
/* Set variants and kernels, log each refusal with its reason. UNSUPPORTED where none is left, DEVICE
 * where that is so because of one that computes wrongly. src/choose.c. */
draft_status draft_choose(struct draft_plan *plan, const struct draft_choice *choice);
/* The plan is to choose again, without the variant that it has taken for stage `index`. */
void draft_rule_out(const struct draft_plan *plan, struct draft_choice *choice, unsigned index,
                    const char *why);

/* A plan of checked parameters. only: see above; NULL: the best that pass their self-tests.
 * src/plan.c. */
draft_status draft_plan_make(draft_context *context, const struct draft_plan_params *params,
                             const char *const *only, draft_plan **out);

/* Put in the place of each DEFAULT what it stands for, which docs/fidelity.md gives the reasons of.
 * src/shape.c. */
void draft_shape_defaults(struct draft_plan_params *params);

/* Geometry of such parameters: everything but the offsets. Logs and returns UNSUPPORTED where the
 * blocks are too many. src/shape.c. */
draft_status draft_shape_geometry(const struct draft_log *log,
                                  const struct draft_plan_params *params, struct draft_geometry *g);

/* Offsets of the workspace, into geometry and layout alike; `scratch_size` comes last. Logs and
 * returns UNSUPPORTED where the size does not fit 63 bits. */
draft_status draft_shape_layout(const struct draft_log *log, uint64_t scratch_size,
                                struct draft_geometry *g, struct draft_layout *layout);

/* budget[heads] and floor[heads] behind it, see struct draft_geometry. */
void draft_shape_budgets(const struct draft_geometry *g, const struct draft_plan_params *params,
                         uint32_t *budget);

/* Set, in memory of the host, the signs of one head's bias [S, bias_stride] as its lists say:
 * counts [B], lists [B, B]. src/tail.c. */
void draft_tail_mark(const struct draft_geometry *g, const uint32_t *counts, const uint16_t *lists,
                     float *bias);

/* Bytes of the geometry with all that lies behind it (struct draft_tables of kernel_abi.h). Sets
 * g->tables. src/tables.c. */
uint64_t draft_tables_size(struct draft_geometry *g);
/* block: zeroed memory of that size that begins with the geometry. */
void draft_tables_fill(const struct draft_geometry *g, void *block);

/* Bytes of one element. */
uint32_t draft_type_size(draft_type type);
/* Element `index` of an array. */
double draft_type_load(draft_type type, const uint8_t *array, size_t index);

#endif
