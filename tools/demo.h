/* SPDX-License-Identifier: MIT
 *
 * What the parts of `draft demo` share: the made-up attention layer, and what each method did. */
#ifndef DRAFT_TOOLS_DEMO_H
#define DRAFT_TOOLS_DEMO_H

#include "generate.h"
#include "job.h"
#include "program.h"

enum { DEMO_DENSE, DEMO_PAPER, DEMO_DROP, DEMO_DEFAULT, DEMO_METHODS };
enum { DEMO_MEASURED = 6 }; /* heads whose statistics are taken at most: one of each kind */

/* One way to attend, and how it went. */
struct demo_method {
    const char *name;
    struct draft_plan_params params;
    struct draft_layout layout;
    struct job_times times;
    struct draft_density density;
    struct job_fidelity fidelity;
    const char *kernel; /* of attend */
    /* Of the head that the pictures show: map f32 [S, S], counts and lists of its rows. */
    float *map;
    uint32_t *counts;
    uint16_t *lists;
};

struct demo {
    struct draft_shape shape;
    draft_type type;
    enum generate_regime regime;
    uint64_t seed;
    unsigned threads;
    uint32_t head; /* that the pictures show */
    struct generate *generate;
    struct job_sizes sizes;
    unsigned char *q, *k, *v; /* [tokens, heads, dim] of the type */
    struct demo_method methods[DEMO_METHODS];
    struct generate_statistics statistics[DEMO_MEASURED]; /* of the first heads */
    uint32_t measured;
};

/* Softmax weights of one query over all tokens, in double, from the library's own input. */
void demo_softmax(const struct demo *demo, uint32_t head, uint64_t token, double *weights);

/* Draw all pictures into the folder, which exists. False on failure, with a message. */
bool demo_draw(const struct demo *demo, const char *folder);

#endif
