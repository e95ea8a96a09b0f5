/* SPDX-License-Identifier: MIT
 *
 * What the CUDA backend launches for shapes too large to run here. Needs no device. */
#include <stdlib.h>
#include <string.h>

#include "../backends/cuda/kernels.h"
#include "suite.h"

enum { MOST_PORTIONS = 8 };
static const uint64_t enough = 64 << 20; /* bytes of a portion, where eight are not too few */

static uint64_t scores_of(const struct draft_geometry *g, uint64_t heads)
{
    return heads * g->video_blocks * 4 * g->video_blocks * sizeof(float);
}

/* Scorer EXCESS takes every head once, a portion at a time, each with its softmax behind it. */
static void check_portions(const struct draft_geometry *g, const struct cuda_variant *score)
{
    struct cuda_pass passes[CUDA_MAX_PASSES];
    uint32_t n = score->passes(g, passes), portions = 0;
    uint64_t scratch = score->scratch(g), heads = (uint64_t)g->batch * g->heads, next = 0;
    ck_assert_uint_le(n, CUDA_MAX_PASSES);
    for (; 2 * portions + 1 < n && next < heads; portions++) {
        const struct cuda_pass *parts = &passes[2 * portions], *softmax = parts + 1;
        ck_assert_ptr_eq(strstr(parts->kernel, "draft_score_parts"), parts->kernel);
        ck_assert_str_eq(softmax->kernel, "draft_softmax_parts");
        ck_assert_uint_eq(parts->first, next);
        ck_assert_uint_eq(softmax->first, next);
        ck_assert_uint_eq(softmax->step, parts->step);
        ck_assert_uint_eq(softmax->blocks, (uint64_t)parts->step * g->video_blocks);
        uint64_t pairs = parts->blocks * CUDA_PARTS_ROWS * CUDA_PARTS_STEPS * CUDA_PARTS_KEY_BLOCKS;
        ck_assert_uint_ge(pairs * sizeof(float), scores_of(g, parts->step));
        ck_assert_uint_ge(scratch, scores_of(g, parts->step));
        next += parts->step;
    }
    ck_assert_uint_eq(next, heads);
    ck_assert_uint_le(portions, MOST_PORTIONS);
    ck_assert(scratch <= enough || passes[0].step == (heads + MOST_PORTIONS - 1) / MOST_PORTIONS);
}

START_TEST(portions_of_heads)
{
    size_t count;
    const struct cuda_variant *score = draft_cuda_variants(DRAFT_SCORE, &count);
    static const uint32_t blocks[] = {1, 30, 900, 2047, 8000}, heads[] = {1, 5, 24, 63};
    for (size_t s = 0; s < sizeof blocks / sizeof *blocks; s++)
        for (size_t h = 0; h < sizeof heads / sizeof *heads; h++)
            for (uint32_t batch = 1; batch <= 2; batch++) {
                struct draft_geometry g = {
                    .batch = batch,
                    .heads = heads[h],
                    .kv_heads = heads[h],
                    .dim = 128,
                    .video_blocks = blocks[s],
                    .blocks = blocks[s],
                    .type = DRAFT_ABI_BF16,
                    .scorer = DRAFT_ABI_SCORER_EXCESS,
                    .tail = DRAFT_ABI_TAIL_MEAN,
                };
                for (size_t v = 0; v < count; v++)
                    check_portions(&g, &score[v]);
            }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("cuda passes");
    TCase *tests = tcase_create("passes");
    tcase_add_test(tests, portions_of_heads);
    suite_add_tcase(suite, tests);
    return suite_main(suite, true);
}
