/* SPDX-License-Identifier: MIT
 *
 * The .safetensors format: the header's length (8 bytes, little-endian), the header, which is JSON:
 *   {"name": {"dtype": "F16", "shape": [2, 3], "data_offsets": [begin, end]}, ...,
 *    "__metadata__": {}}
 * then the data, to which the offsets refer; tensors lie in it without gap or overlap.
 *
 * cJSON spends 80 bytes on a value and recurses for each level of nesting, so both are counted
 * before it sees the text. */
#include "tensor_file.h"

#include <stdlib.h>
#include <string.h>

#include <cjson/cJSON.h>

/* Integers beyond this are not exact in cJSON's doubles; no file is so large. */
static const double integer_limit = 9007199254740992.0; /* 2^53 */

/* One entry of the header. */
struct entry {
    const char *name;
    const cJSON *json;
    uint64_t begin, end;
};

struct header {
    cJSON *json;
    struct entry *entries;
    size_t count;
    uint64_t data_size;
};

/* Count values and depth without parsing: strings are skipped, brackets and commas counted. */
static bool measure(const char *text, size_t size, struct tensor_error *error)
{
    size_t depth = 0, values = 1;
    bool in_string = false;
    for (size_t i = 0; i < size; i++) {
        char c = text[i];
        if (in_string && c == '\\')
            i++;
        else if (c == '"')
            in_string = !in_string;
        else if (in_string)
            continue;
        else if (c == '{' || c == '[')
            depth++, values++;
        else if ((c == '}' || c == ']') && depth > 0)
            depth--;
        else if (c == ',')
            values++;
        if (depth > TENSOR_SAFETENSORS_DEPTH)
            return tensor_fail(error, "its header nests deeper than %d", TENSOR_SAFETENSORS_DEPTH);
        if (values > TENSOR_SAFETENSORS_VALUES)
            return tensor_fail(error, "its header has more than %d values",
                               TENSOR_SAFETENSORS_VALUES);
    }
    return true;
}

static bool is_space(char c)
{
    return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

/* The header's JSON; the caller deletes it. */
static cJSON *parse_json(const char *text, size_t size, struct tensor_error *error)
{
    const char *end = NULL;
    if (size == 0 || text[0] != '{') {
        tensor_fail(error, "its header does not start with '{'");
        return NULL;
    }
    if (!measure(text, size, error))
        return NULL;
    cJSON *json = cJSON_ParseWithLengthOpts(text, size, &end, 0);
    while (json && end < text + size && is_space(*end))
        end++;
    if (json && end == text + size)
        return json;
    tensor_fail(error, "its header is not valid JSON near byte %zu",
                end ? (size_t)(end - text) : (size_t)0);
    cJSON_Delete(json);
    return NULL;
}

static bool to_integer(const cJSON *number, uint64_t *out)
{
    if (!cJSON_IsNumber(number))
        return false;
    double value = number->valuedouble;
    if (!(value >= 0 && value < integer_limit) || value != (double)(uint64_t)value)
        return false;
    *out = (uint64_t)value;
    return true;
}

/* Integers of a JSON array; fails where it is none, holds more than capacity, or others. */
static bool to_integers(const cJSON *array, uint64_t *out, unsigned capacity, unsigned *count)
{
    const cJSON *item;
    if (!cJSON_IsArray(array))
        return false;
    *count = 0;
    cJSON_ArrayForEach(item, array)
    {
        if (*count == capacity || !to_integer(item, &out[(*count)++]))
            return false;
    }
    return true;
}

/* A member of an entry; NULL where it is missing or there twice. */
static const cJSON *member(const cJSON *object, const char *name)
{
    const cJSON *item, *found = NULL;
    cJSON_ArrayForEach(item, object)
    {
        if (strcmp(item->string, name) == 0 && found)
            return NULL;
        if (strcmp(item->string, name) == 0)
            found = item;
    }
    return found;
}

/* Element types of the format. */
static const struct dtype {
    const char *name;
    unsigned bytes;
    draft_type type; /* 0 where we cannot read it */
} dtypes[] = {{"F16", 2, DRAFT_F16},     {"BF16", 2, DRAFT_BF16},  {"F32", 4, DRAFT_F32},
              {"F64", 8, (draft_type)0}, {"I8", 1, (draft_type)0}, {"U8", 1, (draft_type)0},
              {"I16", 2, (draft_type)0}, {"U16", 2, TENSOR_U16},   {"I32", 4, TENSOR_I32},
              {"U32", 4, TENSOR_U32},    {"I64", 8, TENSOR_I64},   {"U64", 8, (draft_type)0},
              {"BOOL", 1, (draft_type)0}};
enum { DTYPES = sizeof dtypes / sizeof *dtypes };

/* NULL for one that we do not know. */
static const struct dtype *find_dtype(const char *name)
{
    for (unsigned i = 0; i < DTYPES; i++)
        if (strcmp(name, dtypes[i].name) == 0)
            return &dtypes[i];
    return NULL;
}

static const char *dtype_name(draft_type type)
{
    unsigned i = 0;
    while (dtypes[i].type != type)
        i++;
    return dtypes[i].name;
}

static bool fail_entry(struct tensor_error *error, const char *name, const char *what)
{
    return tensor_fail(error, "its tensor %s %s", tensor_printable(name, strlen(name)).text, what);
}

/* An entry's dtype and shape. type is 0 in *out for what we cannot read. */
static bool read_entry(const struct entry *e, struct tensor *out, struct tensor_error *error)
{
    const cJSON *dtype = member(e->json, "dtype"), *shape = member(e->json, "shape");
    if (!cJSON_IsString(dtype))
        return fail_entry(error, e->name, "has no dtype");
    if (cJSON_IsArray(shape) && cJSON_GetArraySize(shape) > TENSOR_RANK)
        return fail_entry(error, e->name, "has too many axes");
    if (!to_integers(shape, out->shape, TENSOR_RANK, &out->rank))
        return fail_entry(error, e->name, "has no shape of whole numbers below 2^53");
    const struct dtype *known = find_dtype(dtype->valuestring);
    out->type = known ? known->type : (draft_type)0;
    return true;
}

/* The offsets lie within the data, and where the dtype is known, they agree with the shape. */
static bool check_entry(struct entry *e, uint64_t data_size, struct tensor_error *error)
{
    unsigned n;
    uint64_t offsets[2], bytes;
    struct tensor t = {0};
    if (!cJSON_IsObject(e->json) || !read_entry(e, &t, error))
        return cJSON_IsObject(e->json) ? false : fail_entry(error, e->name, "is no JSON object");
    if (!to_integers(member(e->json, "data_offsets"), offsets, 2, &n) || n != 2)
        return fail_entry(error, e->name, "has no two data_offsets");
    e->begin = offsets[0];
    e->end = offsets[1];
    if (e->begin > e->end || e->end > data_size)
        return fail_entry(error, e->name, "has data_offsets outside the file");
    const struct dtype *known = find_dtype(member(e->json, "dtype")->valuestring);
    if (!known)
        return true;
    bytes = known->bytes;
    for (unsigned i = 0; i < t.rank; i++)
        if (__builtin_mul_overflow(bytes, t.shape[i], &bytes))
            return fail_entry(error, e->name, "is larger than memory can be");
    if (bytes != e->end - e->begin)
        return fail_entry(error, e->name, "has data_offsets that do not fit its dtype and shape");
    return true;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct entry *)a)->name, ((const struct entry *)b)->name);
}

static int by_place(const void *a, const void *b)
{
    const struct entry *x = a, *y = b;
    if (x->begin != y->begin)
        return x->begin < y->begin ? -1 : 1;
    return x->end < y->end ? -1 : x->end > y->end;
}

/* No name twice, no gap, no overlap. Leaves the entries sorted by name. */
static bool check_together(struct header *h, struct tensor_error *error)
{
    uint64_t at = 0;
    qsort(h->entries, h->count, sizeof *h->entries, by_place);
    for (size_t i = 0; i < h->count; i++) {
        if (h->entries[i].begin != at)
            return fail_entry(error, h->entries[i].name,
                              h->entries[i].begin < at ? "overlaps another one"
                                                       : "has a gap before its data");
        at = h->entries[i].end;
    }
    if (at != h->data_size)
        return tensor_fail(error, "it has %llu bytes of data that belong to no tensor",
                           (unsigned long long)(h->data_size - at));
    qsort(h->entries, h->count, sizeof *h->entries, by_name);
    for (size_t i = 1; i < h->count; i++)
        if (strcmp(h->entries[i - 1].name, h->entries[i].name) == 0)
            return fail_entry(error, h->entries[i].name, "is there twice");
    return true;
}

/* All entries of the JSON, checked. */
static bool read_header(struct header *h, struct tensor_error *error)
{
    const cJSON *item;
    h->entries = calloc((size_t)cJSON_GetArraySize(h->json) + 1, sizeof *h->entries);
    if (!h->entries)
        return tensor_fail(error, "memory ran out");
    cJSON_ArrayForEach(item, h->json)
    {
        if (strcmp(item->string, "__metadata__") == 0)
            continue;
        struct entry *e = &h->entries[h->count++];
        *e = (struct entry){.name = item->string, .json = item};
        if (!check_entry(e, h->data_size, error))
            return false;
    }
    return check_together(h, error);
}

/* "; it has 'a', 'b', ..." for the message about a missing tensor. */
static bool fail_missing(const struct header *h, const char *name, struct tensor_error *error)
{
    tensor_fail(error, "it has no tensor %s%s", tensor_printable(name, strlen(name)).text,
                h->count ? "; it has" : " or any other");
    for (size_t i = 0; i < h->count && i < 4; i++) {
        size_t used = strlen(error->text);
        const char *other = h->entries[i].name;
        snprintf(error->text + used, sizeof error->text - used, "%s %s", i ? "," : "",
                 i == 3 && h->count > 4 ? "..." : tensor_printable(other, strlen(other)).text);
    }
    return false;
}

/* The tensor's type is of those that are wanted; '<u2' in the place of bf16 becomes that. */
static bool check_type(const char *name, const char *dtype, draft_type wanted, struct tensor *t,
                       struct tensor_error *error)
{
    if (wanted == DRAFT_BF16 && t->type == TENSOR_U16)
        t->type = DRAFT_BF16;
    bool integer = t->type >= TENSOR_U16;
    if (t->type && integer == (wanted == TENSOR_INTEGER))
        return true;
    return tensor_fail(error, "the type of %s is %s: %s can be read",
                       tensor_printable(name, strlen(name)).text,
                       tensor_printable(dtype, strlen(dtype)).text,
                       wanted == TENSOR_INTEGER ? "U16, U32, I32 and I64" : "F16, BF16 and F32");
}

static bool find_tensor(const struct header *h, const char *name, draft_type wanted,
                        struct tensor *out, uint64_t *offset, struct tensor_error *error)
{
    struct tensor t = {0};
    struct entry key = {.name = name};
    const struct entry *e = bsearch(&key, h->entries, h->count, sizeof *h->entries, by_name);
    if (!e)
        return fail_missing(h, name, error);
    if (!read_entry(e, &t, error))
        return false;
    if (!check_type(name, member(e->json, "dtype")->valuestring, wanted, &t, error))
        return false;
    if (!tensor_count(&t, tensor_type_size(t.type), error))
        return false;
    *offset = e->begin;
    *out = t;
    return true;
}

/* Where the header's JSON starts and how long it is: behind 8 bytes of length. */
static bool find_header(const void *bytes, size_t size, uint64_t *length,
                        struct tensor_error *error)
{
    const unsigned char *start = bytes;
    *length = 0;
    if (size < 8)
        return tensor_fail(error, "it is no .npy or .safetensors file: it has %zu bytes", size);
    for (int i = 7; i >= 0; i--)
        *length = *length << 8 | start[i];
    if (*length > TENSOR_SAFETENSORS_HEADER || *length > size - 8)
        return tensor_fail(error,
                           "it is no .npy or .safetensors file, or damaged: a header of "
                           "%llu bytes in a file of %zu",
                           (unsigned long long)*length, size);
    return true;
}

bool tensor_parse_safetensors(const void *bytes, size_t size, const char *name, draft_type wanted,
                              struct tensor *out, struct tensor_error *error)
{
    const char *start = bytes;
    struct header h = {0};
    uint64_t length, offset = 0;
    if (!find_header(bytes, size, &length, error))
        return false;
    h.data_size = size - 8 - length;
    h.json = parse_json(start + 8, (size_t)length, error);
    bool ok =
        h.json && read_header(&h, error) && find_tensor(&h, name, wanted, out, &offset, error);
    if (ok)
        out->data = start + 8 + length + offset;
    free(h.entries);
    cJSON_Delete(h.json);
    return ok;
}

bool tensor_file_metadata(const struct tensor_file *file, const char *key, char *out, size_t room)
{
    struct tensor_error error;
    uint64_t length;
    if (!find_header(file->map, file->map_size, &length, &error))
        return false;
    cJSON *json = parse_json((const char *)file->map + 8, (size_t)length, &error);
    const cJSON *about = member(json, "__metadata__");
    const cJSON *value = cJSON_IsObject(about) ? member(about, key) : NULL;
    bool found = cJSON_IsString(value);
    if (found)
        snprintf(out, room, "%s", value->valuestring);
    cJSON_Delete(json);
    return found;
}

/* "name": {"dtype": ..., "shape": ..., "data_offsets": ...}; returns where its data ends. */
static uint64_t add_entry(cJSON *json, const struct tensor_entry *e, uint64_t begin)
{
    const struct tensor *t = &e->tensor;
    uint64_t end = begin + t->count * tensor_type_size(t->type);
    cJSON *entry = cJSON_AddObjectToObject(json, e->name);
    cJSON_AddStringToObject(entry, "dtype", dtype_name(t->type));
    cJSON *shape = cJSON_AddArrayToObject(entry, "shape");
    for (unsigned i = 0; i < t->rank; i++)
        cJSON_AddItemToArray(shape, cJSON_CreateNumber((double)t->shape[i]));
    cJSON *offsets = cJSON_AddArrayToObject(entry, "data_offsets");
    cJSON_AddItemToArray(offsets, cJSON_CreateNumber((double)begin));
    cJSON_AddItemToArray(offsets, cJSON_CreateNumber((double)end));
    return end;
}

bool tensor_write_safetensors(FILE *file, const struct tensor_entry *entries, unsigned count,
                              const char *const *metadata)
{
    uint64_t end = 0;
    cJSON *json = cJSON_CreateObject();
    cJSON *about = metadata ? cJSON_AddObjectToObject(json, "__metadata__") : NULL;
    for (unsigned i = 0; metadata && metadata[i]; i += 2)
        cJSON_AddStringToObject(about, metadata[i], metadata[i + 1]);
    for (unsigned i = 0; i < count; i++)
        end = add_entry(json, &entries[i], end);
    char *text = cJSON_PrintUnformatted(json);
    cJSON_Delete(json);
    if (!text)
        return false;
    /* Padded with spaces so that the data starts at a multiple of 64 bytes. */
    uint64_t padded = (strlen(text) + 8 + 63) / 64 * 64 - 8;
    for (unsigned i = 0; i < 8; i++)
        fputc((int)(padded >> 8 * i & 255), file);
    fprintf(file, "%-*s", (int)padded, text);
    cJSON_free(text);
    for (unsigned i = 0; i < count; i++)
        fwrite(entries[i].tensor.data, tensor_type_size(entries[i].tensor.type),
               entries[i].tensor.count, file);
    return !ferror(file);
}
