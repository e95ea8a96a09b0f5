/* SPDX-License-Identifier: MIT
 *
 * The probe: a few query blocks are attended densely, then as the plan does, and compared. It uses
 * the stages as any caller could: whole lists for the blocks of the probe, empty ones for others. */
#include <math.h>
#include <string.h>

#include "core.h"

#define REQUIRE(condition, ...) DRAFT_REQUIRE(log, DRAFT_ERROR_ARGUMENT, condition, __VA_ARGS__)

enum { PROBE_BLOCKS = 4 };

/* Factors that are tried first, evenly spaced. */
static const float tried[] = {0, 0.5f, 1, 1.5f};
enum { TRIED = sizeof tried / sizeof *tried };

struct probe {
    const draft_plan *plan;
    struct draft_run_params run; /* out is the probe's own */
    uint32_t blocks, *block;     /* video blocks, ascending */
    uint32_t tokens;             /* in them                */
    size_t heads;                /* of all samples         */
    draft_address out;
    uint32_t *counts;    /* [heads, B]           */
    uint16_t *lists;     /* [heads, B, B]        */
    double *exact, *now; /* [tokens, heads, dim] */
    uint8_t *row;        /* one token of out     */
    float *factors;      /* [heads]              */
    double *errors[TRIED + 1];
};

/* Distinct blocks, ascending, by a linear congruential generator: each block is taken with the
 * chance that is left for it. */
static void choose_blocks(struct probe *p, uint64_t seed)
{
    uint32_t s = p->plan->geometry.video_blocks, n = 0;
    for (uint32_t i = 0; i < s && n < p->blocks; i++) {
        seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        if ((seed >> 33) % (s - i) < p->blocks - n)
            p->block[n++] = i;
    }
}

static bool is_chosen(const struct probe *p, uint32_t block)
{
    for (uint32_t n = 0; n < p->blocks; n++)
        if (p->plan->geometry.prefix_blocks + p->block[n] == block)
            return true;
    return false;
}

static draft_status run_stages(const struct probe *p, uint32_t stages, uint32_t flags)
{
    struct draft_run_params run = p->run;
    run.stages = stages;
    run.flags = flags;
    draft_status status = draft_run(p->plan, &run);
    return status ? status : draft_wait(p->plan->context);
}

/* The rows of the probe, of all heads. */
static draft_status read_rows(const struct probe *p, double *rows)
{
    const struct draft_geometry *g = &p->plan->geometry;
    uint32_t size = draft_type_size((draft_type)g->type);
    size_t numbers = (size_t)g->heads * g->dim;
    for (uint32_t b = 0; b < g->batch; b++)
        for (uint32_t n = 0; n < p->blocks; n++) {
            uint32_t tokens[DRAFT_BLOCK];
            uint32_t count = draft_block_tokens(g, g->prefix_blocks + p->block[n], NULL, tokens);
            for (uint32_t i = 0; i < count; i++) {
                uint64_t at = ((uint64_t)b * g->tokens + tokens[i]) * numbers * size;
                draft_status status =
                    draft_read(p->plan->context, p->row, p->out + at, numbers * size);
                if (status)
                    return status;
                for (size_t e = 0; e < numbers; e++)
                    *rows++ = draft_type_load((draft_type)g->type, p->row, e);
            }
        }
    return DRAFT_OK;
}

/* Dense attention of the chosen blocks. */
static draft_status run_exact(const struct probe *p)
{
    const struct draft_geometry *g = &p->plan->geometry;
    size_t B = g->blocks;
    for (size_t row = 0; row < p->heads * B; row++) {
        p->counts[row] = is_chosen(p, (uint32_t)(row % B)) ? g->blocks : 0;
        for (uint32_t j = 0; j < p->counts[row]; j++)
            p->lists[row * B + j] = (uint16_t)j;
    }
    draft_status status = draft_lists_write(p->plan, p->run.workspace, p->counts, p->lists);
    if (!status)
        status = run_stages(p, DRAFT_ATTEND, DRAFT_RUN_KEPT_ONLY);
    return status ? status : read_rows(p, p->exact);
}

/* Relative L2 of each head with these factors (of all heads; NULL: the plan has none). */
static draft_status run_estimate(const struct probe *p, const float *factors, double *errors)
{
    const struct draft_geometry *g = &p->plan->geometry;
    size_t B = g->blocks, bytes = p->heads * B * sizeof *p->counts;
    draft_address counts = p->run.workspace + g->counts;
    draft_status status =
        factors ? draft_factors_write(p->plan, p->run.workspace, factors) : DRAFT_OK;
    if (!status)
        status = run_stages(p, DRAFT_SCORE | DRAFT_SELECT, 0);
    if (!status)
        status = draft_read(p->plan->context, p->counts, counts, bytes);
    for (size_t row = 0; row < p->heads * B; row++)
        p->counts[row] = is_chosen(p, (uint32_t)(row % B)) ? p->counts[row] : 0;
    if (!status)
        status = draft_write(p->plan->context, counts, p->counts, bytes);
    if (!status)
        status = run_stages(p, DRAFT_ATTEND, 0);
    if (!status)
        status = read_rows(p, p->now);
    for (size_t h = 0; h < p->heads && !status; h++) {
        double error = 0, square = 0;
        const size_t first = h / g->heads * p->tokens * g->heads + h % g->heads;
        for (size_t t = 0; t < p->tokens; t++)
            for (size_t d = 0; d < g->dim; d++) {
                size_t at = (first + t * g->heads) * g->dim + d;
                error += (p->now[at] - p->exact[at]) * (p->now[at] - p->exact[at]);
                square += p->exact[at] * p->exact[at];
            }
        errors[h] = square == 0 ? 0 : sqrt(error / square); /* NaN where out has some */
    }
    return status;
}

/* The lowest point of the parabola through the best of the factors tried and its neighbours. */
static float refine(const struct probe *p, size_t h)
{
    int best = 0;
    for (int i = 1; i < TRIED; i++)
        best = p->errors[i][h] < p->errors[best][h] ? i : best;
    int middle = best < 1 ? 1 : best > TRIED - 2 ? TRIED - 2 : best;
    double left = p->errors[middle - 1][h], centre = p->errors[middle][h],
           right = p->errors[middle + 1][h], bend = left - 2 * centre + right;
    double step = tried[1],
           at = tried[middle] + (bend > 0 ? 0.5 * step * (left - right) / bend : 0);
    return bend > 0 ? (float)fmin(fmax(at, 0), DRAFT_FACTOR_MOST) : tried[best];
}

/* For each head the best of all factors; p->errors[TRIED] and p->factors hold the refined ones. */
static void settle(const struct probe *p)
{
    for (size_t h = 0; h < p->heads; h++)
        for (int i = 0; i < TRIED; i++)
            if (p->errors[i][h] < p->errors[TRIED][h]) {
                p->errors[TRIED][h] = p->errors[i][h];
                p->factors[h] = tried[i];
            }
}

static draft_status fit(const struct probe *p)
{
    for (int i = 0; i < TRIED; i++) {
        for (size_t h = 0; h < p->heads; h++)
            p->factors[h] = tried[i];
        draft_status status = run_estimate(p, p->factors, p->errors[i]);
        if (status)
            return status;
    }
    for (size_t h = 0; h < p->heads; h++)
        p->factors[h] = refine(p, h);
    draft_status status = run_estimate(p, p->factors, p->errors[TRIED]);
    settle(p);
    return status ? status : draft_factors_write(p->plan, p->run.workspace, p->factors);
}

static draft_status run_probe(const struct probe *p, struct draft_probe *out)
{
    bool fitted = p->plan->geometry.tail == DRAFT_TAIL_FITTED;
    draft_status status = fitted ? draft_factors_write(p->plan, p->run.workspace, NULL) : DRAFT_OK;
    if (!status)
        status = run_stages(p, DRAFT_POOL | DRAFT_SCORE | DRAFT_SELECT, 0);
    if (!status)
        status = run_exact(p);
    if (!status)
        status = fitted ? fit(p) : run_estimate(p, NULL, p->errors[TRIED]);
    if (!status) /* lists and bias as the plan has them */
        status = run_stages(p, DRAFT_SCORE | DRAFT_SELECT, 0);
    for (size_t h = 0; h < p->heads && !status; h++)
        out[h] = (struct draft_probe){p->errors[TRIED][h], fitted ? p->factors[h] : 0};
    return status;
}

static bool allocate(struct probe *p)
{
    const struct draft_geometry *g = &p->plan->geometry;
    size_t B = g->blocks, numbers = (size_t)g->heads * g->dim;
    p->counts = draft_calloc(p->heads * B, sizeof *p->counts);
    p->lists = draft_calloc(p->heads * B * B, sizeof *p->lists);
    p->exact = draft_calloc((size_t)g->batch * p->tokens * numbers, sizeof *p->exact);
    p->now = draft_calloc((size_t)g->batch * p->tokens * numbers, sizeof *p->now);
    p->row = draft_calloc(numbers, sizeof(float));
    p->factors = draft_calloc(p->heads, sizeof *p->factors);
    bool ok = p->counts && p->lists && p->exact && p->now && p->row && p->factors;
    for (int i = 0; i <= TRIED; i++)
        ok &= (p->errors[i] = draft_calloc(p->heads, sizeof **p->errors)) != NULL;
    return ok;
}

static void release(struct probe *p)
{
    if (p->out)
        draft_free(p->plan->context, p->out);
    for (int i = 0; i <= TRIED; i++)
        draft_release(p->errors[i]);
    draft_release(p->factors);
    draft_release(p->row);
    draft_release(p->now);
    draft_release(p->exact);
    draft_release(p->lists);
    draft_release(p->counts);
    draft_release(p->block);
}

draft_status draft_probe_run(const draft_plan *plan, const struct draft_run_params *run,
                             const struct draft_probe_params *params, struct draft_probe *out)
{
    if (!plan)
        return DRAFT_ERROR_ARGUMENT;
    const struct draft_log *log = &plan->context->log;
    const struct draft_geometry *g = &plan->geometry;
    REQUIRE(run && out, "run or out is NULL");
    DRAFT_REQUIRE(log, DRAFT_ERROR_UNSUPPORTED, !run->queue,
                  "queue must be NULL: the probe waits for its runs");
    uint32_t blocks = params && params->blocks ? params->blocks : PROBE_BLOCKS;
    struct probe p = {.plan = plan, .run = *run, .heads = (size_t)g->batch * g->heads};
    p.blocks = blocks < g->video_blocks ? blocks : g->video_blocks;
    p.block = draft_calloc(p.blocks, sizeof *p.block);
    if (p.block)
        choose_blocks(&p, params ? params->seed : 0);
    for (uint32_t n = 0; p.block && n < p.blocks; n++)
        p.tokens += draft_block_size(g, g->prefix_blocks + p.block[n]);
    draft_status status = p.block && allocate(&p) ? DRAFT_OK : DRAFT_ERROR_MEMORY;
    if (status)
        draft_log(log, DRAFT_LOG_ERROR, "out of host memory for a probe");
    uint64_t size = p.heads * g->tokens * g->dim * draft_type_size((draft_type)g->type);
    if (!status)
        status = draft_alloc(plan->context, size, &p.out);
    p.run.out = (struct draft_tensor){.data = p.out};
    p.run.lse = 0;
    if (!status)
        status = run_probe(&p, out);
    release(&p);
    return status;
}

draft_status draft_probe_sparsities(const double *errors, const double *sparsities, uint32_t levels,
                                    uint32_t heads, double mean, double *head_sparsity)
{
    if (!errors || !sparsities || !head_sparsity || levels == 0 || heads == 0)
        return DRAFT_ERROR_ARGUMENT;
    for (uint32_t i = 0; i < levels; i++)
        if (!(sparsities[i] >= 0 && sparsities[i] < 1) ||
            (i > 0 && !(sparsities[i] < sparsities[i - 1])))
            return DRAFT_ERROR_ARGUMENT;
    for (uint64_t i = 0; i < (uint64_t)heads * levels; i++)
        if (isnan(errors[i])) /* is neither the largest nor not */
            return DRAFT_ERROR_ARGUMENT;
    uint32_t *level = draft_calloc(heads, sizeof *level);
    if (!level)
        return DRAFT_ERROR_MEMORY;
    /* What may be kept beyond the sparsest level, in heads. */
    double rest = heads * (sparsities[0] - mean) + 1e-9;
    while (true) {
        uint32_t worst = heads;
        for (uint32_t h = 0; h < heads; h++)
            if (level[h] + 1 < levels && sparsities[level[h]] - sparsities[level[h] + 1] <= rest &&
                (worst == heads ||
                 errors[h * levels + level[h]] > errors[worst * levels + level[worst]]))
                worst = h;
        if (worst == heads)
            break;
        rest -= sparsities[level[worst]] - sparsities[level[worst] + 1];
        level[worst]++;
    }
    for (uint32_t h = 0; h < heads; h++)
        head_sparsity[h] = sparsities[level[h]];
    draft_release(level);
    return DRAFT_OK;
}
