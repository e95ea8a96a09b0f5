/* SPDX-License-Identifier: MIT
 *
 * The .npy format: "\x93NUMPY", two version bytes, the header's length (2 bytes in version 1, 4 in
 * 2 and 3, little-endian), then a Python dictionary with the keys descr, fortran_order and shape,
 * then the data. NumPy evaluates the dictionary; here a grammar of just those values parses it. */
#include "tensor_file.h"

#include <string.h>

/* What is left of the header. */
struct cursor {
    const char *at, *end;
};

/* A piece of the header. */
struct span {
    const char *at;
    size_t length;
};

enum field { FIELD_DESCR = 1, FIELD_ORDER = 2, FIELD_SHAPE = 4, FIELD_ALL = 7 };

static void skip_space(struct cursor *c)
{
    while (c->at < c->end && (*c->at == ' ' || *c->at == '\n' || *c->at == '\r' || *c->at == '\t'))
        c->at++;
}

/* The next character after space, or 0 at the end; stays where it is. */
static char peek(struct cursor *c)
{
    skip_space(c);
    return c->at < c->end ? *c->at : 0;
}

static bool take(struct cursor *c, char wanted)
{
    if (peek(c) != wanted || wanted == 0)
        return false;
    c->at++;
    return true;
}

static bool take_word(struct cursor *c, const char *word)
{
    size_t length = strlen(word);
    skip_space(c);
    if ((size_t)(c->end - c->at) < length || memcmp(c->at, word, length) != 0)
        return false;
    c->at += length;
    return true;
}

/* A string in single or double quotes without escapes: no value that we accept needs one. */
static bool take_string(struct cursor *c, struct span *out)
{
    char quote = peek(c);
    if (quote != '\'' && quote != '"')
        return false;
    const char *start = c->at + 1;
    const char *end = start;
    while (end < c->end && *end != quote && *end != '\\')
        end++;
    if (end == c->end || *end == '\\')
        return false;
    *out = (struct span){start, (size_t)(end - start)};
    c->at = end + 1;
    return true;
}

/* Digits, with the L that Python 2 appended. */
static bool take_number(struct cursor *c, uint64_t *out)
{
    char first = peek(c);
    if (first < '0' || first > '9')
        return false;
    uint64_t value = 0;
    while (c->at < c->end && *c->at >= '0' && *c->at <= '9') {
        uint64_t digit = (uint64_t)(*c->at++ - '0');
        if (value > (UINT64_MAX - digit) / 10)
            return false;
        value = value * 10 + digit;
    }
    if (c->at < c->end && *c->at == 'L')
        c->at++;
    *out = value;
    return true;
}

static bool parse_shape(struct cursor *c, struct tensor *t, struct tensor_error *error)
{
    if (!take(c, '('))
        return tensor_fail(error, "the header's shape is not a tuple");
    t->rank = 0;
    while (!take(c, ')')) {
        if (t->rank == TENSOR_RANK)
            return tensor_fail(error, "it has more than %d axes", TENSOR_RANK);
        if (!take_number(c, &t->shape[t->rank++]))
            return tensor_fail(error, "the header's shape is not made of numbers below 2^64");
        if (!take(c, ',') && peek(c) != ')')
            return tensor_fail(error, "the header's shape does not end");
    }
    return true;
}

static bool parse_order(struct cursor *c, struct tensor_error *error)
{
    if (take_word(c, "False"))
        return true;
    if (take_word(c, "True"))
        return tensor_fail(error, "it is in Fortran order: save numpy.ascontiguousarray(...)");
    return tensor_fail(error, "the header's fortran_order is neither True nor False");
}

static bool span_is(const struct span *s, const char *text)
{
    return s->length == strlen(text) && memcmp(s->at, text, s->length) == 0;
}

static bool parse_descr(struct cursor *c, draft_type wanted, struct tensor *t,
                        struct tensor_error *error)
{
    struct span descr;
    if (peek(c) == '[')
        return tensor_fail(error, "it holds records: f16, bf16 and f32 can be read");
    if (!take_string(c, &descr))
        return tensor_fail(error, "the header's descr is not a string");
    if (span_is(&descr, "<f2"))
        t->type = DRAFT_F16;
    else if (span_is(&descr, "<f4"))
        t->type = DRAFT_F32;
    else if (span_is(&descr, "<V2") || span_is(&descr, "|V2"))
        t->type = DRAFT_BF16;
    else if (span_is(&descr, "<u2") && wanted == DRAFT_BF16)
        t->type = DRAFT_BF16;
    else if (span_is(&descr, "<u2"))
        return tensor_fail(error, "its type is '<u2': say --type bf16 if these are bf16 numbers");
    else if (descr.length > 0 && descr.at[0] == '>')
        return tensor_fail(error, "its type is %s, big-endian: only little-endian can be read",
                           tensor_printable(descr.at, descr.length).text);
    else
        return tensor_fail(error,
                           "its type is %s: '<f2' (f16), '|V2' (bf16) and '<f4' (f32) can "
                           "be read",
                           tensor_printable(descr.at, descr.length).text);
    return true;
}

/* One "'key': value" of the dictionary; seen collects the enum field bits. */
static bool parse_item(struct cursor *c, draft_type wanted, struct tensor *t, unsigned *seen,
                       struct tensor_error *error)
{
    struct span key;
    if (!take_string(c, &key) || !take(c, ':'))
        return tensor_fail(error, "the header is no dictionary as NumPy writes it");
    unsigned field = span_is(&key, "descr")           ? FIELD_DESCR
                     : span_is(&key, "fortran_order") ? FIELD_ORDER
                     : span_is(&key, "shape")         ? FIELD_SHAPE
                                                      : 0;
    if (!field || (*seen & field))
        return tensor_fail(error, "the header has the key %s %s",
                           tensor_printable(key.at, key.length).text,
                           field ? "twice" : "that no .npy file has");
    *seen |= field;
    if (field == FIELD_DESCR)
        return parse_descr(c, wanted, t, error);
    if (field == FIELD_ORDER)
        return parse_order(c, error);
    return parse_shape(c, t, error);
}

static bool parse_header(struct cursor c, draft_type wanted, struct tensor *t,
                         struct tensor_error *error)
{
    unsigned seen = 0;
    if (!take(&c, '{'))
        return tensor_fail(error, "the header is no dictionary as NumPy writes it");
    while (!take(&c, '}')) {
        if (!parse_item(&c, wanted, t, &seen, error))
            return false;
        if (!take(&c, ',') && peek(&c) != '}')
            return tensor_fail(error, "the header's dictionary does not end");
    }
    if (peek(&c) != 0 || c.at != c.end)
        return tensor_fail(error, "the header goes on after its dictionary");
    if (seen != FIELD_ALL)
        return tensor_fail(error, "the header lacks descr, fortran_order or shape");
    return true;
}

/* Where the header's dictionary starts and how long it is. */
static bool find_header(const unsigned char *bytes, size_t size, size_t *start, size_t *length,
                        struct tensor_error *error)
{
    if (size < 10 || memcmp(bytes, "\x93NUMPY", 6) != 0)
        return tensor_fail(error, "it is no .npy file, or it ends within the first 10 bytes");
    unsigned version = bytes[6];
    if (version < 1 || version > 3)
        return tensor_fail(error, "its .npy version is %u: 1 to 3 can be read", version);
    *start = version == 1 ? 10 : 12;
    if (size < *start)
        return tensor_fail(error, "it ends within the first 12 bytes");
    *length = (size_t)bytes[8] | (size_t)bytes[9] << 8;
    if (version > 1)
        *length |= (size_t)bytes[10] << 16 | (size_t)bytes[11] << 24;
    if (*length > TENSOR_NPY_HEADER)
        return tensor_fail(error, "its header claims %zu bytes: more than %d are refused", *length,
                           TENSOR_NPY_HEADER);
    if (*length > size - *start)
        return tensor_fail(error, "its header claims %zu bytes, the file has %zu after it starts",
                           *length, size - *start);
    return true;
}

bool tensor_parse_npy(const void *bytes, size_t size, draft_type wanted, struct tensor *out,
                      struct tensor_error *error)
{
    size_t start = 0, length = 0;
    struct tensor t = {0};
    if (wanted == TENSOR_INTEGER)
        return tensor_fail(error, "it is a .npy file: integers are read from .safetensors");
    if (!find_header(bytes, size, &start, &length, error))
        return false;
    const char *header = (const char *)bytes + start;
    if (!parse_header((struct cursor){header, header + length}, wanted, &t, error))
        return false;
    if (!tensor_count(&t, tensor_type_size(t.type), error))
        return false;
    uint64_t needed = t.count * tensor_type_size(t.type);
    if (needed != size - start - length)
        return tensor_fail(error, "its shape needs %llu bytes of data, the file has %zu",
                           (unsigned long long)needed, size - start - length);
    t.data = header + length;
    *out = t;
    return true;
}

bool tensor_write_npy(FILE *file, const struct tensor *tensor)
{
    static const char *const descr[] = {"<f2", "|V2", "<f4"};
    char text[512];
    int n = snprintf(text, sizeof text, "{'descr': '%s', 'fortran_order': False, 'shape': (",
                     descr[tensor->type - DRAFT_F16]);
    for (unsigned i = 0; i < tensor->rank; i++)
        n += snprintf(text + n, sizeof text - (size_t)n, "%llu,%s",
                      (unsigned long long)tensor->shape[i], i + 1 < tensor->rank ? " " : "");
    n += snprintf(text + n, sizeof text - (size_t)n, "), }");
    /* The data starts at a multiple of 64 bytes, so that a mapping of the file is aligned. */
    unsigned padded = ((unsigned)n + 1 + 10 + 63) / 64 * 64 - 10;
    unsigned char start[10] = {0x93, 'N', 'U', 'M',          'P',
                               'Y',  1,   0,   padded & 255, padded >> 8 & 255};
    fwrite(start, 1, sizeof start, file);
    fprintf(file, "%s%*s\n", text, (int)(padded - 1 - (unsigned)n), "");
    fwrite(tensor->data, tensor_type_size(tensor->type), tensor->count, file);
    return !ferror(file);
}
