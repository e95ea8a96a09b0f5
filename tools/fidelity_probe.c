/* SPDX-License-Identifier: MIT
 *
 * The factor of the second-order term, for one head: a few rows are computed exactly, and the
 * factor is the one for which these rows, with the lists as they are, come out best. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "fidelity_bench.h"
#include "random.h"

enum { ROWS = 64, STEPS = 30, MOST_DIM = 128 };
static const double MOST_FACTOR = 1.5;

/* What every block of keys contributes to each row. */
struct fidelity_probe {
    uint32_t rows, dim;
    float scale;
    const struct fidelity_blocks *tiling;
    const float *q;
    uint32_t token[ROWS];
    double most[ROWS]; /* largest logit of the row, to which all weights are relative */
    double *mass;      /* [rows, blocks]                                              */
    float *value;      /* [rows, blocks, dim]: sums of weighted values                */
};

static double dot(const float *a, const float *b, uint32_t n)
{
    double sum = 0;
    for (uint32_t i = 0; i < n; i++)
        sum += (double)(a[i] * b[i]);
    return sum;
}

static void sum_row(struct fidelity_probe *p, uint32_t row, const struct fidelity_head *head,
                    float *weight)
{
    const struct fidelity_blocks *t = p->tiling;
    uint32_t tokens = (uint32_t)t->layout.tokens;
    const float *q = p->q + (size_t)p->token[row] * p->dim;
    double most = -INFINITY;
    for (uint32_t i = 0; i < tokens; i++) {
        weight[i] = p->scale * (float)dot(q, head->k + (size_t)i * p->dim, p->dim);
        most = fmax(most, (double)weight[i]);
    }
    p->most[row] = most;
    for (uint32_t i = 0; i < tokens; i++) {
        size_t at = (size_t)row * t->layout.blocks + t->block_of[i];
        float e = expf(weight[i] - (float)most), *value = p->value + at * p->dim;
        const float *v = head->v + (size_t)i * p->dim;
        p->mass[at] += (double)e;
        for (uint32_t d = 0; d < p->dim; d++)
            value[d] += e * v[d];
    }
}

struct fidelity_probe *fidelity_probe_create(const struct fidelity_head *head,
                                             const struct fidelity_blocks *tiling, uint32_t dim,
                                             float scale, uint64_t stream)
{
    const struct draft_layout *l = &tiling->layout;
    struct fidelity_probe *p = program_calloc(1, sizeof *p);
    *p = (struct fidelity_probe){
        .rows = ROWS, .dim = dim, .scale = scale, .tiling = tiling, .q = head->q};
    p->mass = program_calloc((size_t)ROWS * l->blocks, sizeof *p->mass);
    p->value = program_calloc((size_t)ROWS * l->blocks * dim, sizeof *p->value);
    float *weight = program_calloc(l->tokens, sizeof *weight);
    uint32_t first = tiling->first[l->prefix_blocks];
    uint32_t video = tiling->first[l->prefix_blocks + l->video_blocks] - first;
    for (uint32_t r = 0; r < ROWS; r++) { /* one in each part of the video */
        uint64_t begin = (uint64_t)video * r / ROWS, end = (uint64_t)video * (r + 1) / ROWS;
        uint64_t in_part = end > begin ? random_bits(stream, r) % (end - begin) : 0;
        p->token[r] = tiling->token[first + begin + in_part];
        sum_row(p, r, head, weight);
    }
    free(weight);
    return p;
}

void fidelity_probe_destroy(struct fidelity_probe *p)
{
    if (!p)
        return;
    free(p->mass);
    free(p->value);
    free(p);
}

/* ---- Fit ----------------------------------------------------------------------------------- */

/* What the stages left in the workspace. */
struct pooled {
    float *k, *v, *moment_q, *moment_k;
    uint32_t *counts;
    uint16_t *lists;
};

static draft_status read_array(const struct job *job, uint64_t offset, size_t size, void *out)
{
    void **memory = out;
    *memory = program_calloc(size, 1);
    return draft_read(job->context, *memory, job->workspace + offset, size);
}

static draft_status read_pooled(const struct job *job, uint32_t dim, struct pooled *p)
{
    const struct draft_layout *l = &job->layout;
    size_t means = (size_t)l->video_blocks * dim * sizeof(float), blocks = l->blocks;
    draft_status status = read_array(job, l->pooled_k, means, &p->k);
    if (!status)
        status = read_array(job, l->pooled_v, means, &p->v);
    if (!status)
        status = read_array(job, l->moment_q, means, &p->moment_q);
    if (!status)
        status = read_array(job, l->moment_k, means, &p->moment_k);
    if (!status)
        status = read_array(job, l->counts, blocks * sizeof(uint32_t), &p->counts);
    if (!status)
        status = read_array(job, l->lists, blocks * blocks * sizeof(uint16_t), &p->lists);
    return status;
}

static void free_pooled(struct pooled *p)
{
    free(p->k);
    free(p->v);
    free(p->moment_q);
    free(p->moment_k);
    free(p->counts);
    free(p->lists);
}

/* One row: sums over what is kept, and of what is not the logits and the second-order terms. */
struct row {
    double mass, value[MOST_DIM], exact[MOST_DIM];
    uint32_t skipped;
    uint32_t *block; /* [skipped], of the video      */
    double *logit, *second;
};

static void split_row(const struct fidelity_probe *p, const struct pooled *pooled, uint32_t r,
                      struct row *row)
{
    const struct draft_layout *l = &p->tiling->layout;
    uint32_t dim = p->dim, s = l->video_blocks, query = p->tiling->block_of[p->token[r]];
    const float *q = p->q + (size_t)p->token[r] * dim;
    const float *moment_q = pooled->moment_q + (size_t)(query - l->prefix_blocks) * dim;
    bool *kept = program_calloc(l->blocks, sizeof *kept);
    for (uint32_t n = 0; n < pooled->counts[query]; n++)
        kept[pooled->lists[(size_t)query * l->blocks + n]] = true;
    double sum = 0;
    row->mass = row->skipped = 0;
    memset(row->value, 0, sizeof row->value);
    memset(row->exact, 0, sizeof row->exact);
    for (uint32_t b = 0; b < l->blocks; b++) {
        size_t at = (size_t)r * l->blocks + b;
        uint32_t j = b - l->prefix_blocks; /* wraps for text before the video */
        sum += p->mass[at];
        for (uint32_t d = 0; d < dim; d++) {
            row->exact[d] += (double)p->value[at * dim + d];
            row->value[d] += kept[b] ? (double)p->value[at * dim + d] : 0;
        }
        if (kept[b])
            row->mass += p->mass[at];
        if (kept[b] || j >= s)
            continue;
        double n = log(p->tiling->first[b + 1] - p->tiling->first[b]);
        double w = 0.5 * (double)p->scale * (double)p->scale *
                   dot(moment_q, pooled->moment_k + (size_t)j * dim, dim);
        row->block[row->skipped] = j;
        row->second[row->skipped] = fmin(w, n);
        row->logit[row->skipped++] =
            (double)p->scale * dot(q, pooled->k + (size_t)j * dim, dim) + n - p->most[r];
    }
    for (uint32_t d = 0; d < dim; d++)
        row->exact[d] /= sum;
    free(kept);
}

/* Squared error of the row with factor c. */
static double row_error(const struct row *row, const float *v, uint32_t dim, double c)
{
    double mass = row->mass, value[MOST_DIM], error = 0;
    memcpy(value, row->value, sizeof value);
    for (uint32_t n = 0; n < row->skipped; n++) {
        double weight = exp(row->logit[n] + c * row->second[n]);
        mass += weight;
        for (uint32_t d = 0; d < dim; d++)
            value[d] += weight * (double)v[(size_t)row->block[n] * dim + d];
    }
    for (uint32_t d = 0; d < dim; d++) {
        double x = value[d] / mass - row->exact[d];
        error += x * x;
    }
    return error;
}

draft_status fidelity_probe_fit(const struct fidelity_probe *p, const struct job *job,
                                float *factor)
{
    struct pooled pooled = {0};
    draft_status status = read_pooled(job, p->dim, &pooled);
    if (status) {
        free_pooled(&pooled);
        return status;
    }
    uint32_t s = p->tiling->layout.video_blocks;
    double errors[STEPS + 1] = {0};
    struct row row = {.block = program_calloc(s, sizeof *row.block),
                      .logit = program_calloc(s, sizeof *row.logit),
                      .second = program_calloc(s, sizeof *row.second)};
    for (uint32_t r = 0; r < p->rows; r++) {
        split_row(p, &pooled, r, &row);
        for (int i = 0; i <= STEPS; i++)
            errors[i] += row_error(&row, pooled.v, p->dim, MOST_FACTOR * i / STEPS);
    }
    int best = 0;
    for (int i = 1; i <= STEPS; i++)
        best = errors[i] < errors[best] ? i : best;
    *factor = (float)(MOST_FACTOR * best / STEPS);
    free(row.block);
    free(row.logit);
    free(row.second);
    free_pooled(&pooled);
    return DRAFT_OK;
}
