/* SPDX-License-Identifier: MIT
 *
 * The definition once more, in double and as plainly as it can be said: one token, one pair, one
 * sort at a time. It shares no code with the library, so that an error has to be made twice to
 * pass. All arrays belong to the caller and are of one sample and one head. */
#ifndef DRAFT_TESTS_ORACLE_H
#define DRAFT_TESTS_ORACLE_H

#include <stdbool.h>
#include <stdint.h>

#include <draft/draft.h>

/* Which block each token belongs to. B = blocks, S = video_blocks. */
struct oracle_grid {
    struct draft_shape shape; /* zeros replaced by what they mean */
    struct draft_tile tile;
    uint32_t tiles_t, tiles_h, tiles_w;
    uint32_t prefix_blocks, video_blocks, suffix_blocks, blocks;
    uint32_t full; /* slots of a tile                                         */
    uint32_t tokens;
    uint32_t *block_of; /* [tokens]                                                */
    uint32_t *size;     /* [B] tokens in each block                                */
    uint32_t *start;    /* [B + 1] where the block's tokens begin in `member`      */
    uint32_t *member;   /* [tokens] tokens, ordered by block                       */
};

void oracle_grid_init(struct oracle_grid *grid, const struct draft_shape *shape,
                      struct draft_tile tile);
void oracle_grid_free(struct oracle_grid *grid);

/* valid: NULL, or the two valid text lengths of the sample. */
bool oracle_token_valid(const struct oracle_grid *grid, const uint32_t *valid, uint32_t token);

/* x [tokens][dim] -> mean [S][dim] and mean of |x| [S][dim]. */
void oracle_pool(const struct oracle_grid *grid, const double *x, double *mean, double *magnitude);

/* mean_q, mean_k [S][dim] -> p [S][S]; logits [S][S] before the softmax. */
void oracle_score(const struct oracle_grid *grid, double scale, const float *mean_q,
                  const float *mean_k, double *p, double *logits);

/* ---- Beyond the paper: oracle_tail.c ---- */

/* The quarter, 0 to 3, of its block that a token of the video lies in. */
uint32_t oracle_quarter(const struct oracle_grid *grid, uint32_t token);

/* x [tokens][dim] -> mean [S][4][dim] (0 where a quarter is empty), mean of |x| [S][4][dim], tokens
 * [S][4]. */
void oracle_quarters(const struct oracle_grid *grid, const double *x, double *mean,
                     double *magnitude, uint32_t *counts);

/* The part, 0 to 15, of its block that a token of the video lies in, and likewise the means: mean
 * and magnitude [S][16][dim], counts [S][16]. */
uint32_t oracle_part(const struct oracle_grid *grid, uint32_t token);
void oracle_parts(const struct oracle_grid *grid, const double *x, double *mean, double *magnitude,
                  uint32_t *counts);

/* x [tokens][dim] -> mean of x^2, or central: of (x - mean x)^2, [S][dim]. */
void oracle_moment(const struct oracle_grid *grid, const double *x, bool central, double *moment);

/* As oracle_score, for scorer LSE or MAX: quarters [S][4][dim]. largest [S]: the largest |logit| of a
 * quarter in each row. */
void oracle_score_quarters(const struct oracle_grid *grid, draft_scorer scorer, double scale,
                           const float *mean_q, const float *quarters, double *p, double *logits,
                           double *largest);

/* Scorer EXCESS: what a quarter of a query block has to say of a key block, and what its error
 * depends on. The weights of the parts are w_a; y_a are the logits of their means. */
struct oracle_excess {
    double x;     /* the score                                                          */
    double p;     /* its share of the quarter's row, times the quarter's of the block;
                     the map is the sum over the quarters. 0 where the quarter is empty */
    double gap;   /* ln sum w_a e^(y_a) - sum w_a y_a                                   */
    double depth; /* sum w_a (the largest y - y_a)                                      */
    double tilt;  /* sum |w_a e^(y_a) / sum of those - w_a|: how gap depends on the y   */
    double reach; /* the largest |y|                                                    */
};

/* parts_q [S][4][dim], parts_k [S][16][dim] -> pairs [S][4][S]. */
void oracle_score_parts(const struct oracle_grid *grid, double scale, const double *parts_q,
                        const double *parts_k, struct oracle_excess *pairs);

/* b [S][S] of tail GAP; largest [S][S]: the largest |logit| that went into each. */
void oracle_gap(const struct oracle_grid *grid, double scale, const float *mean_q,
                const float *quarters, double *b, double *largest);

/* W [S][S] of tail FITTED. */
void oracle_second_order(const struct oracle_grid *grid, double scale, const float *moment_q,
                         const float *moment_k, double *w);

/* ---- select ---- */

/* The rule of one head. */
struct oracle_rule {
    draft_rule rule;
    double sparsity;
    double mass;
    double row_floor;
    uint32_t force;
};

struct oracle_rule oracle_rule_of(const struct draft_plan_params *params, uint32_t head);

/* Is video key block j forced for video query block i under these draft_force bits? */
bool oracle_forced(const struct oracle_grid *grid, const struct oracle_rule *rule, uint32_t i,
                   uint32_t j);

/* p [S][S] -> kept [B][B], 1 where the pair is kept. */
void oracle_select(const struct oracle_grid *grid, const struct oracle_rule *rule, const float *p,
                   uint8_t *kept);

/* kept [B][B] -> counts [B], lists [B][B] (the rest of each row is left alone), order [B]. */
void oracle_lists(const struct oracle_grid *grid, const uint8_t *kept, uint32_t *counts,
                  uint16_t *lists, uint16_t *order);

/* q, k, v [tokens][dim] of a query head. */
struct oracle_head {
    const double *q, *k, *v;
    const uint32_t *counts; /* [B]    */
    const uint16_t *lists;  /* [B][B] */
    const uint32_t *valid;
    double scale;
    /* NULL: blocks that are left out are dropped. Else one pooled key and value [S][dim] for each
     * block, and bias [S][bias_stride], of which entries with the sign bit do not count. */
    const double *tail_k, *tail_v;
    const float *bias;
    uint32_t bias_stride;
};

/* Results, and what error bounds are made of. */
struct oracle_result {
    double *out;       /* [tokens][dim]                                     */
    double *magnitude; /* [tokens][dim] sum of p |v|                        */
    double *lse;       /* [tokens]                                          */
    double *reach;     /* [tokens] |q| x the largest |k| among the keys     */
    double *bias;      /* [tokens] the largest bias among the keys          */
    double *most;      /* [tokens] the largest |v| of any dim of the keys   */
    uint32_t *keys;    /* [tokens] keys, pooled ones counted                */
};

void oracle_result_init(struct oracle_result *result, const struct oracle_grid *grid);
void oracle_result_free(struct oracle_result *result);
void oracle_attend(const struct oracle_grid *grid, const struct oracle_head *head,
                   struct oracle_result *result);

/* Dense attention without blocks: every valid key of the sample. counts and lists are not used. */
void oracle_dense(const struct oracle_grid *grid, const struct oracle_head *head,
                  struct oracle_result *result);

#endif
