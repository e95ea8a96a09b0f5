/* SPDX-License-Identifier: MIT
 *
 * q, k and v as the attention layers of a video diffusion transformer see them, from a seed.
 *
 * The content of a token is its smooth part (low-passed features of a procedural video), shared
 * detail (its finer features) and noise, each projected at random for each head; a positional bias
 * in chosen rotary bands decides what kind of head it is; every token is scaled to the same length,
 * and q and k are rotated by 3-D rotary positions. Text tokens have no position; some of their
 * content is that of the video. The same seed gives the same numbers on every machine, up to the
 * last bits of the functions of libm, however many threads work. */
#ifndef DRAFT_TOOLS_GENERATE_H
#define DRAFT_TOOLS_GENERATE_H

#include <stddef.h>
#include <stdint.h>

#include <draft/draft.h>

#include "video.h"

enum generate_regime {
    GENERATE_MIXED,        /* like the middle layers of real models                   */
    GENERATE_CONCENTRATED, /* keys vary much within a block, few of them count        */
    GENERATE_SMOOTH,       /* neighbours are alike                                    */
    GENERATE_DIFFUSE,      /* every query looks nearly everywhere, like first layers  */
    GENERATE_NOISY,        /* mixed, with more noise and nothing shared in it         */
    GENERATE_SINKS,        /* mixed, and every head looks at the first frame          */
    GENERATE_OUTLIERS      /* diffuse, and two channels of k hold large numbers which cancel
                              in every product: they change no attention, but they are
                              most of the variance                                    */
};
/* "mixed", ...; ends with NULL. */
extern const char *const generate_regime_names[];

enum generate_kind {
    GENERATE_SPATIAL,  /* looks at its own frame and those near it */
    GENERATE_TEMPORAL, /* looks along time at its own place        */
    GENERATE_LOCAL,    /* both                                     */
    GENERATE_GLOBAL,   /* looks for alike content anywhere         */
    GENERATE_SINK,     /* looks at the first frame, whose values are small */
    GENERATE_BROAD     /* content with a weaker gain: spreads wide */
};
extern const char *const generate_kind_names[];

struct generate_params {
    struct draft_shape shape; /* batch and kv_heads are not used: one sample, ungrouped heads */
    enum generate_regime regime;
    uint64_t seed;
    unsigned threads;      /* 0: one for each processor */
    const uint8_t *pixels; /* NULL, or a video in place of the procedural one, read during
                              generate_create: RGB, [frames, height x VIDEO_PATCH,
                              width x VIDEO_PATCH] */
};

/* Owned by the caller; any number of threads may read it. */
struct generate;

/* The shape is one that the library accepts. */
struct generate *generate_create(const struct generate_params *params);
void generate_destroy(struct generate *generate);

const struct draft_shape *generate_shape(const struct generate *generate);
const struct video *generate_video(const struct generate *generate);
enum generate_kind generate_kind(uint32_t head);
/* Bytes that generate_create takes at most for a grid. */
uint64_t generate_memory(const struct draft_shape *shape);

/* Rows first to first + count - 1 of one head, in f32, packed: [count, dim]. */
void generate_rows(const struct generate *generate, uint32_t head, uint64_t first, uint64_t count,
                   float *q, float *k, float *v);

/* Where one head's values go: rows of dim elements of the type, stride elements apart. */
struct generate_target {
    void *q, *k, *v;
    draft_type type;
    uint64_t stride;
};
/* All tokens of one head, by all threads. */
void generate_head(const struct generate *generate, uint32_t head,
                   const struct generate_target *target);

/* ---- What it is like ----------------------------------------------------------------------- */

/* Of one head, over the video tokens, in blocks of 64 consecutive ones, as published for
 * captures of real models. */
struct generate_statistics {
    double key_variance, query_variance; /* within blocks, as a share of all variance             */
    double missed, missed_p90; /* attention mass that the 21 % of blocks with the best mean scores
                                  miss: mean and 90th percentile over queries                     */
    double missed_oracle;      /* the same for the 21 % that hold the most of each query's mass   */
    double top_eighth;         /* share of a block's mass in its top 8 tokens, weighted by mass   */
    double tokens90;           /* tokens that hold 90 % of a query's mass: median, per token      */
};

/* Exact sums for some queries, chosen by the seed. */
void generate_measure(const struct generate *generate, uint32_t head, uint32_t queries,
                      struct generate_statistics *out);

/* The same of tensors from anywhere: q and k of one head, [tokens, dim], video tokens only. number:
 * decides which queries. */
void generate_measure_tensors(const struct draft_shape *shape, const float *q, const float *k,
                              uint64_t number, uint32_t queries, struct generate_statistics *out);

/* Which layers of a real model a regime is to be like. */
enum generate_layer { GENERATE_MIDDLE, GENERATE_LAST, GENERATE_FIRST, GENERATE_LAYERS };
enum generate_layer generate_layer(enum generate_regime regime);

/* A statistic's published range for real models, and where it lies in our struct. */
struct generate_published {
    const char *name;
    const char *range;
    size_t offset;
    struct {
        double low, high;
    } band[GENERATE_LAYERS]; /* infinite: nothing is published */
};
/* Ends with a row without name. */
extern const struct generate_published generate_published[];

#endif
