/* SPDX-License-Identifier: MIT
 *
 * Which tokens a block holds, from the public layout alone. */
#include "fidelity_bench.h"

#include <stdlib.h>

enum { TEXT_BLOCK = 128 };

static uint32_t block_of_token(const struct draft_shape *s, const struct draft_layout *l,
                               uint32_t token)
{
    uint32_t video = s->frames * s->height * s->width;
    if (token < s->prefix)
        return token / TEXT_BLOCK;
    token -= s->prefix;
    if (token >= video)
        return l->prefix_blocks + l->video_blocks + (token - video) / TEXT_BLOCK;
    uint32_t t = token / (s->height * s->width), h = token / s->width % s->height,
             w = token % s->width;
    return l->prefix_blocks + ((t / l->tile.t) * l->tiles_h + h / l->tile.h) * l->tiles_w +
           w / l->tile.w;
}

void fidelity_blocks_create(const struct draft_shape *shape, const struct draft_layout *layout,
                            struct fidelity_blocks *out)
{
    uint32_t tokens = (uint32_t)layout->tokens, blocks = layout->blocks;
    *out = (struct fidelity_blocks){
        .layout = *layout,
        .block_of = program_calloc(tokens, sizeof *out->block_of),
        .first = program_calloc((size_t)blocks + 1, sizeof *out->first),
        .token = program_calloc(tokens, sizeof *out->token),
    };
    for (uint32_t t = 0; t < tokens; t++) {
        out->block_of[t] = block_of_token(shape, layout, t);
        out->first[out->block_of[t] + 1]++;
    }
    for (uint32_t b = 0; b < blocks; b++)
        out->first[b + 1] += out->first[b];
    uint32_t *at = program_calloc(blocks, sizeof *at);
    for (uint32_t t = 0; t < tokens; t++) {
        uint32_t b = out->block_of[t];
        out->token[out->first[b] + at[b]++] = t;
    }
    free(at);
}

void fidelity_blocks_destroy(struct fidelity_blocks *blocks)
{
    free(blocks->block_of);
    free(blocks->first);
    free(blocks->token);
    *blocks = (struct fidelity_blocks){0};
}
