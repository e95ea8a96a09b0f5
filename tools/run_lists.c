/* SPDX-License-Identifier: MIT */
#include "run_lists.h"

#include <stdlib.h>
#include <string.h>

#include "program.h"
#include "tensor_file.h"

enum { NOTE = 96 }; /* bytes: seven numbers of 32 bits and what stands between them */

/* What lists are for, in words: they are of no use for another cut into blocks. */
struct notes {
    char tokens[NOTE], tile[NOTE];
};

static struct notes make_notes(const struct draft_shape *s, const struct draft_layout *l)
{
    struct notes n;
    snprintf(n.tokens, sizeof n.tokens, "%u+%ux%ux%u+%u", s->prefix, s->frames, s->height, s->width,
             s->suffix);
    snprintf(n.tile, sizeof n.tile, "%ux%ux%u", l->tile.t, l->tile.h, l->tile.w);
    return n;
}

/* A file without the remark may be for any. */
static bool check_note(const char *path, const struct tensor_file *file, const char *key,
                       const char *wanted)
{
    char text[NOTE];
    if (!tensor_file_metadata(file, key, text, sizeof text) || strcmp(text, wanted) == 0)
        return true;
    program_error("%s: its lists are for the %s %s, not for %s", path, key,
                  tensor_printable(text, strlen(text)).text, wanted);
    return false;
}

/* Number i of the tensor; false where it is negative or larger than any count or block. */
static bool integer_at(const struct tensor *t, uint64_t i, uint32_t *out)
{
    const char *at = (const char *)t->data + i * tensor_type_size(t->type);
    uint16_t u16;
    uint32_t u32;
    int32_t i32;
    int64_t value;
    if (t->type == TENSOR_U16)
        value = (memcpy(&u16, at, sizeof u16), u16);
    else if (t->type == TENSOR_U32)
        value = (memcpy(&u32, at, sizeof u32), u32);
    else if (t->type == TENSOR_I32)
        value = (memcpy(&i32, at, sizeof i32), i32);
    else
        memcpy(&value, at, sizeof value);
    *out = (uint32_t)value;
    return value >= 0 && value <= UINT16_MAX;
}

/* The shape is [batch, heads, B], and for rows one axis more of at most B. */
static bool check_shape(const char *path, const char *name, const struct tensor *t,
                        const struct draft_shape *s, const struct draft_layout *l, bool rows)
{
    const uint64_t wanted[3] = {s->batch, s->heads, l->blocks};
    unsigned rank = 3 + rows, skip = s->batch == 1 && t->rank + 1 == rank;
    bool ok = t->rank + skip == rank;
    for (unsigned i = skip; ok && i < 3; i++)
        ok = t->shape[i - skip] == wanted[i];
    if (ok && rows)
        ok = t->shape[t->rank - 1] <= l->blocks;
    if (!ok)
        program_error("%s: '%s' must be [%u, %u, %u%s] for this shape and tile%s", path, name,
                      s->batch, s->heads, l->blocks, rows ? ", 1 to the same" : "",
                      s->batch == 1 ? ", where the first axis may be missing" : "");
    return ok;
}

/* One row: its count, and so many of its entries. */
static bool convert_row(const char *path, const struct tensor *counts, const struct tensor *lists,
                        uint64_t row, uint32_t blocks, struct run_lists *out)
{
    uint64_t width = lists->shape[lists->rank - 1];
    uint32_t count, block;
    unsigned long long head = row / blocks, query = row % blocks;
    if (!integer_at(counts, row, &count) || count > width) {
        program_error("%s: head %llu, query block %llu: the count is not one of 0 to %llu, which a "
                      "row of 'lists' holds",
                      path, head, query, (unsigned long long)width);
        return false;
    }
    for (uint32_t i = 0; i < count; i++) {
        if (!integer_at(lists, row * width + i, &block)) {
            program_error("%s: head %llu, query block %llu: entry %u is no block of 0 to %u", path,
                          head, query, i, blocks - 1);
            return false;
        }
        out->lists[row * blocks + i] = (uint16_t)block;
    }
    out->counts[row] = count;
    return true;
}

static bool convert(const char *path, const struct tensor *counts, const struct tensor *lists,
                    uint32_t blocks, struct run_lists *out)
{
    bool ok = true;
    out->counts = program_calloc(counts->count, sizeof *out->counts);
    out->lists = program_calloc(counts->count * blocks, sizeof *out->lists);
    for (uint64_t row = 0; ok && row < counts->count; row++)
        ok = convert_row(path, counts, lists, row, blocks, out);
    if (!ok)
        run_lists_free(out);
    return ok;
}

static bool open_tensor(const char *path, const char *name, struct tensor_file *file)
{
    struct tensor_error error;
    if (tensor_file_open(path, name, TENSOR_INTEGER, file, &error))
        return true;
    program_error("%s: %s", path, error.text);
    return false;
}

bool run_lists_load(const char *path, const struct draft_shape *shape,
                    const struct draft_layout *layout, struct run_lists *out)
{
    struct tensor_file counts = {0}, lists = {0};
    struct notes notes = make_notes(shape, layout);
    bool ok = open_tensor(path, "counts", &counts) && open_tensor(path, "lists", &lists) &&
              check_note(path, &counts, "tokens", notes.tokens) &&
              check_note(path, &counts, "tile", notes.tile) &&
              check_shape(path, "counts", &counts.tensor, shape, layout, false) &&
              check_shape(path, "lists", &lists.tensor, shape, layout, true) &&
              convert(path, &counts.tensor, &lists.tensor, layout->blocks, out);
    tensor_file_close(&lists);
    tensor_file_close(&counts);
    return ok;
}

draft_status run_lists_read(const struct job *job, const struct draft_shape *shape,
                            struct run_lists *out)
{
    size_t blocks = job->layout.blocks, rows = (size_t)shape->batch * shape->heads * blocks;
    out->counts = program_calloc(rows, sizeof *out->counts);
    out->lists = program_calloc(rows * blocks, sizeof *out->lists);
    draft_status status = draft_read(job->context, out->counts, job->workspace + job->layout.counts,
                                     rows * sizeof *out->counts);
    if (status == DRAFT_OK)
        status = draft_read(job->context, out->lists, job->workspace + job->layout.lists,
                            rows * blocks * sizeof *out->lists);
    return status;
}

bool run_lists_save(FILE *file, const struct draft_shape *shape, const struct draft_layout *layout,
                    const struct run_lists *lists, bool one_sample)
{
    struct notes notes = make_notes(shape, layout);
    const char *const remarks[] = {"tokens", notes.tokens, "tile", notes.tile, NULL};
    uint64_t blocks = layout->blocks, rows = shape->batch * shape->heads * blocks, width = 1;
    unsigned skip = one_sample;
    for (uint64_t r = 0; r < rows; r++)
        width = lists->counts[r] > width ? lists->counts[r] : width;
    /* Behind the counts a workspace holds what it likes: a file holds 0. */
    uint16_t *packed = program_calloc(rows * width, sizeof *packed);
    for (uint64_t r = 0; r < rows; r++)
        memcpy(packed + r * width, lists->lists + r * blocks, lists->counts[r] * sizeof *packed);
    const uint64_t axes[4] = {shape->batch, shape->heads, blocks, width};
    struct tensor_entry entries[2] = {
        {"counts", {.type = TENSOR_U32, .rank = 3 - skip, .count = rows, .data = lists->counts}},
        {"lists", {.type = TENSOR_U16, .rank = 4 - skip, .count = rows * width, .data = packed}}};
    for (unsigned i = 0; i < 2; i++)
        memcpy(entries[i].tensor.shape, axes + skip, entries[i].tensor.rank * sizeof *axes);
    bool ok = tensor_write_safetensors(file, entries, 2, remarks);
    free(packed);
    return ok;
}

void run_lists_free(struct run_lists *lists)
{
    free(lists->counts);
    free(lists->lists);
    *lists = (struct run_lists){0};
}
