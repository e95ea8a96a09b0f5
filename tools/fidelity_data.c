/* SPDX-License-Identifier: MIT
 *
 * Heads of a data set, one at a time, in f32. */
#include <stdlib.h>
#include <string.h>

#include "fidelity_bench.h"
#include "run_files.h"

/* Head `head` of a tensor [.., tokens, heads, dim], its first sample. */
static void copy_head(const struct tensor *t, uint64_t tokens, uint32_t head, uint32_t dim,
                      float *out)
{
    uint64_t heads = t->shape[t->rank - 2];
    size_t size = tensor_type_size(t->type);
    for (uint64_t i = 0; i < tokens; i++)
        job_to_f32(t->type, out + i * dim,
                   (const unsigned char *)t->data + (i * heads + head) * dim * size, dim);
}

void fidelity_head_create(const struct fidelity_data *data, uint32_t head,
                          struct fidelity_head *out)
{
    const struct draft_shape *s = &data->shape;
    uint64_t tokens = (uint64_t)s->prefix + (uint64_t)s->frames * s->height * s->width + s->suffix;
    size_t count = tokens * s->dim;
    out->q = program_calloc(count, sizeof(float));
    out->k = program_calloc(count, sizeof(float));
    out->v = program_calloc(count, sizeof(float));
    if (data->generate) {
        struct generate_target target = {out->q, out->k, out->v, DRAFT_F32, s->dim};
        out->kind = generate_kind_names[generate_kind(head)];
        generate_head(data->generate, head, &target);
        return;
    }
    const struct tensor *q = &data->files->q.tensor, *k = &data->files->k.tensor;
    uint64_t group = q->shape[q->rank - 2] / k->shape[k->rank - 2];
    out->kind = "captured";
    copy_head(q, tokens, head, s->dim, out->q);
    copy_head(k, tokens, (uint32_t)(head / group), s->dim, out->k);
    copy_head(&data->files->v.tensor, tokens, (uint32_t)(head / group), s->dim, out->v);
}

void fidelity_head_destroy(struct fidelity_head *head)
{
    free(head->q);
    free(head->k);
    free(head->v);
    *head = (struct fidelity_head){0};
}
