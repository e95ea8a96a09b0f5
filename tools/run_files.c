/* SPDX-License-Identifier: MIT */
#include "run_files.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "job.h"
#include "posix.h"
#include "program.h"

static const char *const input_names[3] = {"q", "k", "v"};

static const char *const type_names[] = {"any", "f16", "bf16", "f32"};
static const uint32_t huge = 0x7f800000; /* infinity as f32 */

/* The bits of f32 without the sign. */
static uint32_t magnitude(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits & 0x7fffffff;
}

/* The tensor in another type, in memory that the caller frees. NULL with a message where a number
 * does not fit. */
static void *convert(const char *path, draft_type type, struct tensor *t)
{
    enum { CHUNK = 1024 };
    float values[CHUNK], after[CHUNK];
    size_t from_size = tensor_type_size(t->type), to_size = tensor_type_size(type);
    const unsigned char *from = t->data;
    unsigned char *to = program_calloc(t->count, to_size);
    uint64_t lost = 0;
    for (uint64_t done = 0; done < t->count; done += CHUNK) {
        size_t n = t->count - done < CHUNK ? (size_t)(t->count - done) : CHUNK;
        job_to_f32(t->type, values, from + done * from_size, n);
        job_from_f32(type, to + done * to_size, values, n);
        job_to_f32(type, after, to + done * to_size, n);
        for (size_t i = 0; i < n; i++)
            lost += magnitude(values[i]) < huge && magnitude(after[i]) == huge;
    }
    if (lost) {
        program_error("%s: %llu of its numbers are too large for %s", path,
                      (unsigned long long)lost, type_names[type]);
        free(to);
        return NULL;
    }
    t->type = type;
    t->data = to;
    return to;
}

static bool open_one(const char *path, unsigned which, draft_type wanted, struct tensor_file *out,
                     void **converted)
{
    struct tensor_error error;
    if (!tensor_file_open(path, input_names[which], wanted, out, &error)) {
        program_error("%s: %s", path, error.text);
        return false;
    }
    if (wanted && out->tensor.type != wanted)
        return (*converted = convert(path, wanted, &out->tensor)) != NULL;
    return true;
}

bool run_inputs_open(const char **paths, size_t count, draft_type wanted, struct run_inputs *out)
{
    struct run_inputs inputs = {0};
    struct tensor_file *files[3] = {&inputs.q, &inputs.k, &inputs.v};
    if (count != 1 && count != 3) {
        program_error("%zu input files: give q, k and v, or one .safetensors file that holds all "
                      "three; see draft run --help",
                      count);
        return false;
    }
    for (unsigned i = 0; i < 3; i++) {
        if (!open_one(paths[count == 1 ? 0 : i], i, wanted, files[i], &inputs.converted[i])) {
            run_inputs_close(&inputs);
            return false;
        }
    }
    *out = inputs;
    return true;
}

void run_inputs_close(struct run_inputs *inputs)
{
    tensor_file_close(&inputs->q);
    tensor_file_close(&inputs->k);
    tensor_file_close(&inputs->v);
    for (unsigned i = 0; i < 3; i++) {
        free(inputs->converted[i]);
        inputs->converted[i] = NULL;
    }
}

/* "[2, 300, 4, 64]" */
struct shape_text {
    char text[TENSOR_RANK * 22 + 3];
};

static struct shape_text shape_text(const struct tensor *t)
{
    struct shape_text s = {"["};
    size_t n = 1;
    for (unsigned i = 0; i < t->rank; i++)
        n += (size_t)snprintf(s.text + n, sizeof s.text - n, "%s%llu", i ? ", " : "",
                              (unsigned long long)t->shape[i]);
    snprintf(s.text + n, sizeof s.text - n, "]");
    return s;
}

/* Axis 0 to 3 of [batch, tokens, heads, dim], where batch may be missing. */
static uint64_t axis(const struct tensor *t, unsigned i)
{
    if (t->rank == 4)
        return t->shape[i];
    return i == 0 ? 1 : t->shape[i - 1];
}

static bool check_rank(const struct tensor *t, const char *name)
{
    if (t->rank == 3 || t->rank == 4) {
        for (unsigned i = 0; i < t->rank; i++) {
            if (t->shape[i] > UINT32_MAX) {
                program_error("%s has the shape %s: no axis may be over 2^32", name,
                              shape_text(t).text);
                return false;
            }
        }
        return true;
    }
    program_error("%s has the shape %s: [tokens, heads, dim] or [batch, tokens, heads, dim] is "
                  "needed",
                  name, shape_text(t).text);
    return false;
}

/* All but the heads of q must be as in k, and v as k. */
static bool check_equal(const struct tensor *q, const struct tensor *k, const struct tensor *v)
{
    for (unsigned i = 0; i < 4; i++) {
        if (i != 2 && axis(q, i) != axis(k, i)) {
            program_error("q has the shape %s and k %s: only heads may differ", shape_text(q).text,
                          shape_text(k).text);
            return false;
        }
        if (axis(k, i) != axis(v, i)) {
            program_error("k has the shape %s and v %s: they must be equal", shape_text(k).text,
                          shape_text(v).text);
            return false;
        }
    }
    if (q->type == k->type && k->type == v->type)
        return true;
    program_error("q, k and v are of different types");
    return false;
}

static bool check_tokens(const struct draft_shape *s, uint64_t tokens)
{
    uint64_t video;
    if (!s->frames || !s->height || !s->width) {
        program_error("the video's grid is missing: --grid FxHxW so that prefix + F x H x W + "
                      "suffix is the %llu tokens of q",
                      (unsigned long long)tokens);
        return false;
    }
    bool fits =
        !__builtin_mul_overflow((uint64_t)s->frames * s->height, (uint64_t)s->width, &video) &&
        video < UINT64_MAX / 2;
    uint64_t text = (uint64_t)s->prefix + s->suffix;
    if (fits && video + text == tokens)
        return true;
    program_error("q has %llu tokens, but %u + %u x %u x %u + %u (prefix + frames x height x width "
                  "+ suffix) is %s%llu",
                  (unsigned long long)tokens, s->prefix, s->frames, s->height, s->width, s->suffix,
                  fits ? "" : "more than ",
                  (unsigned long long)(fits ? video + text : UINT64_MAX / 2));
    return false;
}

bool run_inputs_shape(const struct run_inputs *inputs, struct draft_shape *shape)
{
    const struct tensor *q = &inputs->q.tensor, *k = &inputs->k.tensor, *v = &inputs->v.tensor;
    if (!check_rank(q, "q") || !check_rank(k, "k") || !check_rank(v, "v") ||
        !check_equal(q, k, v) || !check_tokens(shape, axis(q, 1)))
        return false;
    shape->batch = (uint32_t)axis(q, 0);
    shape->heads = (uint32_t)axis(q, 2);
    shape->kv_heads = (uint32_t)axis(k, 2);
    shape->dim = (uint32_t)axis(q, 3);
    return true;
}

/* Windows has no numbers of files: there the same path counts. */
static bool same_file(const char *a, const char *b)
{
    struct stat of_a, of_b;
    if (stat(a, &of_a) != 0 || stat(b, &of_b) != 0 || of_a.st_dev != of_b.st_dev)
        return false;
    if (of_a.st_ino || of_b.st_ino)
        return of_a.st_ino == of_b.st_ino;
    char *path_a = realpath(a, NULL), *path_b = realpath(b, NULL);
    bool same = !path_a || !path_b || strcasecmp(path_a, path_b) == 0;
    free(path_a);
    free(path_b);
    return same;
}

bool run_output_is_new(const char *path, const char **inputs, size_t count)
{
    char *file, *other;
    bool ok = true;
    tensor_path_split(path, &file);
    for (size_t i = 0; i < count && ok; i++) {
        tensor_path_split(inputs[i], &other);
        ok = file && other && !same_file(file, other);
        free(other);
    }
    if (!ok)
        program_error("%s is an input: it will not be overwritten", path);
    free(file);
    return ok;
}

bool run_output_write(FILE *file, const char *path, const char *default_name, draft_type type,
                      const uint64_t *axes, unsigned rank, const void *data)
{
    char *file_path;
    struct tensor t = {.type = type, .rank = rank, .count = 1, .data = data};
    const char *name = tensor_path_split(path, &file_path);
    for (unsigned i = 0; i < rank; i++) {
        t.shape[i] = axes[i];
        t.count *= axes[i];
    }
    bool ok = file_path && tensor_write(file, file_path, name ? name : default_name, &t);
    free(file_path);
    return ok;
}
