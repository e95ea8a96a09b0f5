/* SPDX-License-Identifier: MIT
 *
 * Dense attention of some rows of a head, and what each block of keys contributes to it. */
#include "fidelity_bench.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "parallel.h"
#include "random.h"

enum { MOST_DIM = 128, ROWS = 16 /* that share one walk over the keys */ };

/* Keys and values lie in the order of tiling 0, so that blocks are contiguous. */
struct work {
    const struct fidelity_head *head;
    const struct fidelity_blocks *tilings;
    unsigned tiles;
    uint32_t tokens, dim;
    float scale;
    float *k, *v;
    double *error; /* [rows, blocks]: of each row, summed up afterwards */
    struct fidelity_exact *exact;
};

/* Eight sums, so that the compiler may use vectors. */
static float dot(const float *a, const float *b, uint32_t n)
{
    float sum[8] = {0};
    for (uint32_t i = 0; i < n; i += 8) /* dim is a multiple of 8 */
        for (uint32_t j = 0; j < 8; j++)
            sum[j] += a[i + j] * b[i + j];
    return ((sum[0] + sum[4]) + (sum[1] + sum[5])) + ((sum[2] + sum[6]) + (sum[3] + sum[7]));
}

/* Logits of rows first to first + n - 1 against all keys, then their exponentials relative to the
 * largest. */
static void weigh(const struct work *w, uint32_t first, uint32_t n, float *weight)
{
    const struct fidelity_blocks *tiling = &w->tilings[0];
    float most[ROWS];
    for (uint32_t r = 0; r < n; r++)
        most[r] = -INFINITY;
    for (uint32_t b = 0; b < tiling->layout.blocks; b++) /* a block's keys stay in the cache */
        for (uint32_t r = 0; r < n; r++) {
            const float *q = w->head->q + (size_t)w->exact->token[first + r] * w->dim;
            for (uint32_t i = tiling->first[b]; i < tiling->first[b + 1]; i++) {
                float x = w->scale * dot(q, w->k + (size_t)i * w->dim, w->dim);
                weight[(size_t)r * w->tokens + i] = x;
                most[r] = x > most[r] ? x : most[r];
            }
        }
    for (uint32_t r = 0; r < n; r++)
        for (uint32_t i = 0; i < w->tokens; i++)
            weight[(size_t)r * w->tokens + i] = expf(weight[(size_t)r * w->tokens + i] - most[r]);
}

/* What one block adds to the sums of one row: sum of weights, sum of weighted values. */
static double add_block(const struct work *w, const float *weight, uint32_t block, float *value)
{
    const struct fidelity_blocks *tiling = &w->tilings[0];
    double mass = 0;
    memset(value, 0, w->dim * sizeof *value);
    for (uint32_t i = tiling->first[block]; i < tiling->first[block + 1]; i++) {
        const float *v = w->v + (size_t)i * w->dim;
        float e = weight[i];
        mass += (double)e;
        for (uint32_t d = 0; d < w->dim; d++)
            value[d] += e * v[d];
    }
    return mass;
}

/* Where block j alone is dropped, out moves by (l_j out - o_j) / (sum - l_j); to first order the
 * denominator is the whole sum. */
static void block_errors(const struct work *w, const float *values, const double *masses,
                         double sum, const double *out, double *error)
{
    for (uint32_t b = 0; b < w->tilings[0].layout.blocks; b++) {
        double squares = 0;
        for (uint32_t d = 0; d < w->dim; d++) {
            double x = (masses[b] * out[d] - (double)values[(size_t)b * w->dim + d]) / sum;
            squares += x * x;
        }
        error[b] = squares;
    }
}

static void finish_row(const struct work *w, uint32_t row, const float *weight, float *values,
                       double *masses)
{
    uint32_t blocks = w->tilings[0].layout.blocks;
    double *out = w->exact->out + (size_t)row * w->dim, sum = 0;
    for (uint32_t b = 0; b < blocks; b++) {
        sum += masses[b] = add_block(w, weight, b, values + (size_t)b * w->dim);
        for (uint32_t d = 0; d < w->dim; d++)
            out[d] += (double)values[(size_t)b * w->dim + d];
    }
    for (uint32_t d = 0; d < w->dim; d++)
        out[d] /= sum;
    block_errors(w, values, masses, sum, out, w->error + (size_t)row * blocks);
    for (unsigned m = 0; m < w->tiles; m++) {
        const struct fidelity_blocks *tiling = &w->tilings[m];
        float *mass = w->exact->mass[m] + (size_t)row * tiling->layout.blocks;
        for (uint32_t i = 0; i < w->tokens; i++)
            mass[tiling->block_of[w->tilings[0].token[i]]] += (float)((double)weight[i] / sum);
    }
}

static void do_rows(void *argument, uint64_t item)
{
    const struct work *w = argument;
    uint32_t first = (uint32_t)item * ROWS, blocks = w->tilings[0].layout.blocks;
    uint32_t n = w->exact->rows - first < ROWS ? w->exact->rows - first : ROWS;
    float *weight = program_calloc((size_t)ROWS * w->tokens, sizeof *weight);
    float *values = program_calloc((size_t)blocks * w->dim, sizeof *values);
    double *masses = program_calloc(blocks, sizeof *masses);
    weigh(w, first, n, weight);
    for (uint32_t r = 0; r < n; r++)
        finish_row(w, first + r, weight + (size_t)r * w->tokens, values, masses);
    free(masses);
    free(values);
    free(weight);
}

/* Video blocks by the seed, each once, in ascending order; and their tokens. */
static void choose_rows(const struct fidelity_blocks *tiling, uint64_t stream, uint32_t wanted,
                        struct fidelity_exact *e)
{
    const struct draft_layout *l = &tiling->layout;
    bool *taken = program_calloc(l->video_blocks, sizeof *taken);
    e->blocks = wanted < l->video_blocks ? wanted : l->video_blocks;
    for (uint32_t i = 0, n = 0; i < e->blocks; n++) {
        uint64_t b = random_bits(stream, n) % l->video_blocks;
        i += !taken[b];
        taken[b] = true;
    }
    e->query_block = program_calloc(e->blocks, sizeof *e->query_block);
    e->token = program_calloc((size_t)e->blocks * 128, sizeof *e->token);
    e->row_block = program_calloc((size_t)e->blocks * 128, sizeof *e->row_block);
    for (uint32_t b = 0, i = 0; b < l->video_blocks; b++) {
        if (!taken[b])
            continue;
        uint32_t block = e->query_block[i] = l->prefix_blocks + b;
        for (uint32_t n = tiling->first[block]; n < tiling->first[block + 1]; n++) {
            e->token[e->rows] = tiling->token[n];
            e->row_block[e->rows++] = i;
        }
        i++;
    }
    free(taken);
}

static void sum_blocks(const struct work *w, struct fidelity_exact *e)
{
    uint32_t blocks = w->tilings[0].layout.blocks;
    e->block_mass = program_calloc((size_t)e->blocks * blocks, sizeof *e->block_mass);
    e->block_error = program_calloc((size_t)e->blocks * blocks, sizeof *e->block_error);
    for (uint32_t r = 0; r < e->rows; r++)
        for (uint32_t b = 0; b < blocks; b++) {
            size_t at = (size_t)e->row_block[r] * blocks + b;
            e->block_mass[at] += e->mass[0][(size_t)r * blocks + b];
            e->block_error[at] += (float)w->error[(size_t)r * blocks + b];
        }
}

void fidelity_exact_create(const struct fidelity_data *data, const struct fidelity_head *head,
                           uint32_t number, const struct fidelity_blocks *tilings, unsigned tiles,
                           uint32_t wanted, float scale, struct fidelity_exact *out)
{
    uint32_t tokens = (uint32_t)tilings[0].layout.tokens, dim = data->shape.dim;
    *out = (struct fidelity_exact){.dim = dim};
    choose_rows(&tilings[0], random_stream(data->seed, 5000 + number), wanted, out);
    out->out = program_calloc((size_t)out->rows * dim, sizeof *out->out);
    for (unsigned m = 0; m < tiles; m++)
        out->mass[m] =
            program_calloc((size_t)out->rows * tilings[m].layout.blocks, sizeof *out->mass[m]);
    struct work w = {.head = head,
                     .tilings = tilings,
                     .tiles = tiles,
                     .tokens = tokens,
                     .dim = dim,
                     .scale = scale,
                     .exact = out};
    w.k = program_calloc((size_t)tokens * dim, sizeof *w.k);
    w.v = program_calloc((size_t)tokens * dim, sizeof *w.v);
    w.error = program_calloc((size_t)out->rows * tilings[0].layout.blocks, sizeof *w.error);
    for (uint32_t i = 0; i < tokens; i++) {
        size_t from = (size_t)tilings[0].token[i] * dim, to = (size_t)i * dim;
        memcpy(w.k + to, head->k + from, dim * sizeof *w.k);
        memcpy(w.v + to, head->v + from, dim * sizeof *w.v);
    }
    parallel_for(data->threads, (out->rows + ROWS - 1) / ROWS, do_rows, &w);
    sum_blocks(&w, out);
    free(w.error);
    free(w.v);
    free(w.k);
}

void fidelity_exact_destroy(struct fidelity_exact *e)
{
    free(e->query_block);
    free(e->token);
    free(e->row_block);
    free(e->out);
    for (unsigned m = 0; m < FIDELITY_TILES; m++)
        free(e->mass[m]);
    free(e->block_mass);
    free(e->block_error);
    *e = (struct fidelity_exact){0};
}
