/* SPDX-License-Identifier: MIT
 *
 * The tables of blocks behind the geometry: where each block begins, and how its slots lie. */
#include "core.h"

uint64_t draft_tables_size(struct draft_geometry *g)
{
    uint64_t budgets = sizeof *g + 2 * (uint64_t)g->heads * sizeof(uint32_t);
    g->tables = (uint32_t)((budgets + DRAFT_UNIT - 1) / DRAFT_UNIT);
    return g->tables * (uint64_t)DRAFT_UNIT + sizeof(struct draft_tables) +
           g->blocks * sizeof(struct draft_span);
}

/* Of a video block: which edges of its tile overhang the grid. */
static uint32_t block_class(const struct draft_geometry *g, uint32_t block)
{
    if (block < g->prefix_blocks || block >= g->prefix_blocks + g->video_blocks)
        return DRAFT_CLASS_TEXT;
    uint32_t j = block - g->prefix_blocks, w = j % g->tiles_w, h = j / g->tiles_w % g->tiles_h,
             t = j / g->tiles_w / g->tiles_h;
    return (uint32_t)((t + 1) * g->tile_t > g->frames) |
           (uint32_t)((h + 1) * g->tile_h > g->height) << 1 |
           (uint32_t)((w + 1) * g->tile_w > g->width) << 2;
}

void draft_tables_fill(const struct draft_geometry *g, void *block)
{
    struct draft_tables *tables =
        (struct draft_tables *)((char *)block + g->tables * (size_t)DRAFT_UNIT);
    struct draft_span *spans = (struct draft_span *)(tables + 1);
    for (uint32_t b = 0; b < g->blocks; b++) {
        uint32_t tokens[DRAFT_BLOCK], n = draft_block_tokens(g, b, NULL, tokens);
        uint32_t class = block_class(g, b);
        spans[b] = (struct draft_span){tokens[0], class << 8 | n};
        /* All blocks of a class are alike, but for text, whose last block may be short. */
        for (uint32_t i = 0; i < (class == DRAFT_CLASS_TEXT ? DRAFT_BLOCK : n); i++)
            tables->offsets[class][i] = class == DRAFT_CLASS_TEXT ? i : tokens[i] - tokens[0];
    }
}
