/* SPDX-License-Identifier: MIT
 *
 * The kernels of the CUDA backend: for each stage an ordered table of variants, best first. A
 * variant is one or more passes; a pass is a kernel over a one-dimensional grid of thread
 * blocks, launched in order on one stream. All kernels take struct draft_args by value, and those
 * for sm_90 the tensor maps as well. */
#ifndef DRAFT_CUDA_KERNELS_H
#define DRAFT_CUDA_KERNELS_H

#include "../../cuda/launch.h"
#include "backend.h"

enum { CUDA_MAX_PASSES = 17 };

/* What the variants need to know of a device. */
struct cuda_caps {
    int major, minor; /* compute capability                                             */
    uint32_t shared;  /* bytes that a thread block can have when it asks for them       */
    uint32_t multiprocessors;
    bool tensor_maps; /* the driver makes them */
};

/* The files of cuda/, each one fatbin. */
enum cuda_module {
    CUDA_MODULE_POOL,
    CUDA_MODULE_SCORE,
    CUDA_MODULE_SCORE_PARTS,
    CUDA_MODULE_SCORE_PARTS_SM90,
    CUDA_MODULE_SELECT,
    CUDA_MODULE_ATTEND_SM80,
    CUDA_MODULE_ATTEND_SM90,
    CUDA_MODULES
};

/* Its image, as the driver loads it. */
const void *draft_cuda_image(enum cuda_module module);
size_t draft_cuda_image_size(enum cuda_module module);

struct cuda_pass {
    enum cuda_module module;
    const char *kernel;
    uint32_t first, step; /* go into args.first and args.step                                  */
    uint32_t threads;     /* of a thread block                                                 */
    uint32_t shared;      /* bytes a thread block, dynamic                                     */
    uint64_t blocks;      /* thread blocks in all                                              */
    bool persistent; /* at most one thread block for each multiprocessor: they share the work  */
    bool maps;       /* takes struct cuda_tensor_maps as its second argument                   */
};

struct cuda_variant {
    const char *name;
    /* NULL where the variant fits, else why not: static text. */
    const char *(*refuses)(const struct cuda_caps *caps, const struct draft_geometry *g);
    /* Passes in order. Fills up to CUDA_MAX_PASSES, returns how many. */
    uint32_t (*passes)(const struct draft_geometry *g, struct cuda_pass *out);
    uint64_t (*scratch)(const struct draft_geometry *g); /* bytes of workspace; NULL: none  */
    /* NULL, or the variant that runs where the tensors of a run are beyond tensor maps. */
    const char *fallback;
};

/* The table of a stage, best first; *count gets its length. */
const struct cuda_variant *draft_cuda_variants(draft_stage stage, size_t *count);

/* The names of that table, NULL at the end. */
const char *const *draft_cuda_variant_names(draft_stage stage);

#endif
