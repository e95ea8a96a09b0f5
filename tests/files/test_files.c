/* SPDX-License-Identifier: MIT
 *
 * The readers and writers of tensor files: what must be read, and what must be refused with which
 * words. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <check.h>

#include "tensor_file.h"

/* A file in memory of exactly its size. */
struct bytes {
    unsigned char *at;
    size_t size;
};

/* header after a length of `width` bytes, after `start`; data zero bytes follow. claim: the length
 * that is written, or -1 for the true one. */
static struct bytes make(const char *start, size_t start_size, unsigned width, const char *header,
                         long long claim, size_t data)
{
    size_t length = strlen(header);
    unsigned long long value = claim < 0 ? length : (unsigned long long)claim;
    struct bytes b = {NULL, start_size + width + length + data};
    b.at = calloc(b.size, 1);
    ck_assert_ptr_nonnull(b.at);
    memcpy(b.at, start, start_size);
    for (unsigned i = 0; i < width; i++)
        b.at[start_size + i] = (unsigned char)(value >> 8 * i);
    memcpy(b.at + start_size + width, header, length);
    return b;
}

static struct bytes make_npy(unsigned version, const char *header, long long claim, size_t data)
{
    char start[8] = "\x93NUMPY";
    start[6] = (char)version;
    return make(start, 8, version == 1 ? 2 : 4, header, claim, data);
}

static struct bytes make_safetensors(const char *header, size_t data)
{
    return make("", 0, 8, header, -1, data);
}

/* message: what the refusal must say; NULL: it must be read. */
static void expect(bool ok, const struct tensor_error *error, const char *message, const char *what)
{
    if (!message)
        ck_assert_msg(ok, "%s: refused: %s", what, error->text);
    else
        ck_assert_msg(!ok && strstr(error->text, message), "%s: '%s' expected, got '%s'", what,
                      message, ok ? "(read)" : error->text);
}

/* ---- .npy --------------------------------------------------------------------------------- */

#define NPY(descr, shape) "{'descr': " descr ", 'fortran_order': False, 'shape': " shape ", }   \n"

static const struct npy_case {
    unsigned version;
    const char *header;
    size_t data;
    draft_type wanted;
    const char *message;
} npy_cases[] = {
    {1, NPY("'<f2'", "(2, 1, 4)"), 16, 0, NULL},
    {2, NPY("'<f4'", "(2, 1, 4)"), 32, 0, NULL},
    {3, NPY("'|V2'", "(2, 1, 4)"), 16, 0, NULL},
    {1, NPY("'<V2'", "(2, 1, 4)"), 16, 0, NULL},
    {1, NPY("'<u2'", "(2, 1, 4)"), 16, DRAFT_BF16, NULL},
    {1, NPY("'<u2'", "(2, 1, 4)"), 16, 0, "--type bf16"},
    {1, NPY("'<f4'", "()"), 4, 0, NULL},
    {1, NPY("'<f4'", "(7,)"), 28, 0, NULL},
    {1, NPY("'<f4'", "(7L, 2L,)"), 56, 0, NULL},
    {1, "{\"shape\":(1,),\"descr\":\"<f2\",\"fortran_order\":False}", 2, 0, NULL},
    {1, NPY("'>f4'", "(2,)"), 8, 0, "big-endian"},
    {1, NPY("'<f8'", "(2,)"), 16, 0, "its type is '<f8'"},
    {1, NPY("'<i4'", "(2,)"), 8, 0, "its type is '<i4'"},
    {1, NPY("'|O'", "(2,)"), 8, 0, "its type is '|O'"},
    {1, NPY("'\x1b[2J'", "(2,)"), 8, 0, "its type is '?[2J'"},
    {1, NPY("[('a', '<f4')]", "(2,)"), 8, 0, "records"},
    {1, NPY("3", "(2,)"), 8, 0, "descr is not a string"},
    {1, NPY("'<f\\x32'", "(2,)"), 8, 0, "descr is not a string"},
    {1, "{'descr': '<f4', 'fortran_order': True, 'shape': (2,), }", 8, 0, "Fortran"},
    {1, "{'descr': '<f4', 'fortran_order': 1, 'shape': (2,), }", 8, 0, "neither True nor False"},
    {1, "{'descr': '<f4', 'fortran_order': False, }", 8, 0, "lacks"},
    {1, "{'descr': '<f4', 'descr': '<f4', 'shape': (2,), }", 8, 0, "twice"},
    {1, "{'descr': '<f4', 'colour': 3, 'shape': (2,), }", 8, 0, "'colour'"},
    {1, NPY("'<f4'", "(2,)") "x", 8, 0, "goes on"},
    {1, "{'descr': '<f4', 'fortran_order': False, 'shape': (2,)", 8, 0, "does not end"},
    {1, "{'descr': '<f4', 'fortran_order': False, 'shape': (2", 8, 0, "does not end"},
    {1, "{'descr': '<f4", 8, 0, "descr is not a string"},
    {1, "{'descr'", 8, 0, "no dictionary"},
    {1, "", 8, 0, "no dictionary"},
    {1, "[1, 2]", 8, 0, "no dictionary"},
    {1, NPY("'<f4'", "[2]"), 8, 0, "not a tuple"},
    {1, NPY("'<f4'", "(-2,)"), 8, 0, "not made of numbers"},
    {1, NPY("'<f4'", "(2.0,)"), 8, 0, "does not end"},
    {1, NPY("'<f4'", "(0x2,)"), 8, 0, "does not end"},
    {1, NPY("'<f4'", "(,)"), 8, 0, "not made of numbers"},
    {1, NPY("'<f4'", "(18446744073709551616,)"), 8, 0, "below 2^64"},
    {1, NPY("'<f4'", "(4294967296, 4294967296)"), 0, 0, "larger than memory"},
    {1, NPY("'<f4'", "(4611686018427387905,)"), 4, 0, "larger than memory"},
    {1, NPY("'<f4'", "(18446744073709551615, 18446744073709551615)"), 4, 0, "larger than memory"},
    {1, NPY("'<f4'", "(2, 0, 3)"), 0, 0, "empty"},
    {1, NPY("'<f4'", "(1, 1, 1, 1, 1, 1, 1, 1)"), 4, 0, NULL},
    {1, NPY("'<f4'", "(1, 1, 1, 1, 1, 1, 1, 1, 1)"), 4, 0, "more than 8 axes"},
    {1, NPY("'<f4'", "(3,)"), 11, 0, "needs 12 bytes of data, the file has 11"},
    {1, NPY("'<f4'", "(3,)"), 13, 0, "needs 12 bytes of data, the file has 13"},
    {0, NPY("'<f4'", "(1,)"), 4, 0, "version is 0"},
    {4, NPY("'<f4'", "(1,)"), 4, 0, "version is 4"},
};

START_TEST(npy_table)
{
    const struct npy_case *c = &npy_cases[_i];
    struct tensor t = {.rank = 99};
    struct tensor_error error = {""};
    struct bytes b = make_npy(c->version, c->header, -1, c->data);
    bool ok = tensor_parse_npy(b.at, b.size, c->wanted, &t, &error);
    expect(ok, &error, c->message, c->header);
    if (ok)
        ck_assert_ptr_eq(t.data, b.at + b.size - c->data);
    else
        ck_assert_uint_eq(t.rank, 99);
    free(b.at);
}
END_TEST

/* Every shorter file is refused, whatever its last byte. */
START_TEST(npy_truncated)
{
    struct bytes b = make_npy(2, NPY("'<f4'", "(2, 1, 4)"), -1, 32);
    for (size_t size = 0; size < b.size; size++) {
        struct tensor t;
        struct tensor_error error = {""};
        unsigned char *shorter = malloc(size ? size : 1); /* so that a sanitizer sees the end */
        memcpy(shorter, b.at, size);
        ck_assert(!tensor_parse_npy(shorter, size, 0, &t, &error));
        ck_assert_uint_gt(strlen(error.text), 0);
        free(shorter);
    }
    free(b.at);
}
END_TEST

START_TEST(npy_header_claims)
{
    static const struct {
        unsigned version;
        long long claim;
        const char *message;
    } cases[] = {{1, 65535, "claims 65535"},
                 {2, 70000, "claims 70000"},
                 {2, 0xffffffffLL, "refused"},
                 {3, 1 + (1 << 20), "refused"}};
    for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tensor t;
        struct tensor_error error = {""};
        struct bytes b = make_npy(cases[i].version, NPY("'<f4'", "(1,)"), cases[i].claim, 4);
        expect(tensor_parse_npy(b.at, b.size, 0, &t, &error), &error, cases[i].message, "claim");
        free(b.at);
    }
}
END_TEST

START_TEST(npy_values)
{
    struct tensor t;
    struct tensor_error error;
    struct bytes b = make_npy(1, NPY("'<V2'", "(2, 3, 5)"), -1, 60);
    ck_assert(tensor_parse_npy(b.at, b.size, 0, &t, &error));
    ck_assert_int_eq(t.type, DRAFT_BF16);
    ck_assert_uint_eq(t.rank, 3);
    ck_assert_uint_eq(t.shape[0], 2);
    ck_assert_uint_eq(t.shape[1], 3);
    ck_assert_uint_eq(t.shape[2], 5);
    ck_assert_uint_eq(t.count, 30);
    free(b.at);
}
END_TEST

/* ---- .safetensors --------------------------------------------------------------------------- */

#define T(name, dtype, shape, offsets)                                                             \
    "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" offsets "}"

static const struct safetensors_case {
    const char *header;
    size_t data;
    draft_type wanted;
    const char *message;
} safetensors_cases[] = {
    {"{" T("q", "F16", "[2,1,4]", "[0,16]") "}", 16, 0, NULL},
    {"{" T("q", "BF16", "[2,1,4]", "[0,16]") "}  \n", 16, 0, NULL},
    {"{" T("q", "F32", "[]", "[0,4]") "}", 4, 0, NULL},
    {"{" T("k", "F32", "[1]", "[6,10]") "," T("q", "F16", "[3]", "[0,6]") "}", 10, 0, NULL},
    {"{\"__metadata__\":{\"a\":\"b\"}," T("q", "F16", "[1]", "[0,2]") "}", 2, 0, NULL},
    {"{" T("k", "F8_E4M3", "[4]", "[0,4]") "," T("q", "F16", "[1]", "[4,6]") "}", 6, 0, NULL},
    {"{" T("k", "I64", "[0]", "[0,0]") "," T("q", "F16", "[1]", "[0,2]") "}", 2, 0, NULL},
    {"{" T("q", "U16", "[1]", "[0,2]") "}", 2, DRAFT_BF16, NULL},
    {"{" T("q", "U16", "[1]", "[0,2]") "}", 2, 0, "type of 'q' is 'U16'"},
    {"{" T("q", "F64", "[1]", "[0,8]") "}", 8, 0, "type of 'q' is 'F64'"},
    {"{" T("q", "F8_E4M3", "[4]", "[0,4]") "}", 4, 0, "type of 'q' is 'F8_E4M3'"},
    {"{" T("k", "F16", "[1]", "[0,2]") "}", 2, 0, "no tensor 'q'; it has 'k'"},
    {"{}", 0, 0, "no tensor 'q' or any other"},
    {"{}", 3, 0, "3 bytes of data that belong to no tensor"},
    {"{" T("q", "F16", "[0]", "[0,0]") "}", 0, 0, "empty"},
    {"{" T("q", "F16", "[2]", "[0,4]") "}", 2, 0, "outside the file"},
    {"{" T("q", "F16", "[2]", "[4,0]") "}", 4, 0, "outside the file"},
    {"{" T("q", "F16", "[2]", "[0,4]") "}", 6, 0, "2 bytes of data that belong to no tensor"},
    {"{" T("q", "F16", "[3]", "[0,4]") "}", 4, 0, "do not fit"},
    {"{" T("k", "F16", "[2]", "[0,4]") "," T("q", "F16", "[2]", "[2,6]") "}", 6, 0, "overlaps"},
    {"{" T("k", "F16", "[2]", "[0,4]") "," T("q", "F16", "[2]", "[0,4]") "}", 4, 0, "overlaps"},
    {"{" T("k", "F16", "[2]", "[0,4]") "," T("q", "F16", "[2]", "[6,10]") "}", 10, 0, "gap"},
    {"{" T("q", "F16", "[1]", "[0,2]") "," T("q", "F16", "[1]", "[2,4]") "}", 4, 0, "twice"},
    {"{" T("q", "F16", "[1099511627776,1099511627776]", "[0,4]") "}", 4, 0, "larger than memory"},
    {"{" T("q", "F16", "[9007199254740992]", "[0,4]") "}", 4, 0, "no shape"},
    {"{" T("q", "F16", "[1e300]", "[0,4]") "}", 4, 0, "no shape"},
    {"{" T("q", "F16", "[-2]", "[0,4]") "}", 4, 0, "no shape"},
    {"{" T("q", "F16", "[1.5]", "[0,3]") "}", 3, 0, "no shape"},
    {"{" T("q", "F16", "[\"2\"]", "[0,4]") "}", 4, 0, "no shape"},
    {"{" T("q", "F16", "{\"a\":2}", "[0,4]") "}", 4, 0, "no shape"},
    {"{" T("q", "F16", "2", "[0,4]") "}", 4, 0, "no shape"},
    {"{" T("q", "F16", "[1,1,1,1,1,1,1,1,1]", "[0,2]") "}", 2, 0, "too many axes"},
    {"{" T("q", "F16", "[2]", "[0]") "}", 4, 0, "no two data_offsets"},
    {"{" T("q", "F16", "[2]", "[0,4,8]") "}", 4, 0, "no two data_offsets"},
    {"{" T("q", "F16", "[2]", "[0,-4]") "}", 4, 0, "no two data_offsets"},
    {"{\"q\":{\"dtype\":\"F16\",\"shape\":[2]}}", 4, 0, "no two data_offsets"},
    {"{\"q\":{\"shape\":[2],\"data_offsets\":[0,4]}}", 4, 0, "no dtype"},
    {"{\"q\":{\"dtype\":3,\"shape\":[2],\"data_offsets\":[0,4]}}", 4, 0, "no dtype"},
    {"{\"q\":{\"dtype\":\"F16\",\"dtype\":\"F16\",\"shape\":[2],\"data_offsets\":[0,4]}}", 4, 0,
     "no dtype"},
    {"{" T("q", "U16", "[2]", "[0,4]") "}", 4, TENSOR_INTEGER, NULL},
    {"{" T("q", "U32", "[2]", "[0,8]") "}", 8, TENSOR_INTEGER, NULL},
    {"{" T("q", "I64", "[2]", "[0,16]") "}", 16, TENSOR_INTEGER, NULL},
    {"{" T("q", "U32", "[2]", "[0,8]") "}", 8, 0, "F16, BF16 and F32 can be read"},
    {"{" T("q", "F32", "[2]", "[0,8]") "}", 8, TENSOR_INTEGER, "U16, U32, I32 and I64 can be read"},
    {"{" T("q", "I16", "[2]", "[0,4]") "}", 4, TENSOR_INTEGER, "is 'I16'"},
    {"{\"q\":[]}", 0, 0, "no JSON object"},
    {"{\"q\x1b[2J\":[]}", 0, 0, "'q?[2J'"},
    {"[]", 0, 0, "does not start with '{'"},
    {" {}", 0, 0, "does not start with '{'"},
    {"", 0, 0, "does not start with '{'"},
    {"{", 0, 0, "not valid JSON"},
    {"{\"q", 0, 0, "not valid JSON"},
    {"{}x", 0, 0, "not valid JSON"},
    {"{\"q\":{}]", 0, 0, "not valid JSON"},
    {"{\"q\":[[[[[[[[[[[[]]]]]]]]]]]]}", 0, 0, "deeper than 8"},
    {"{\"[[[[[[[[[[[[[{{{{{{\\\"{{{{\":1}", 0, 0, "no JSON object"},
};

START_TEST(safetensors_table)
{
    const struct safetensors_case *c = &safetensors_cases[_i];
    struct tensor t = {.rank = 99};
    struct tensor_error error = {""};
    struct bytes b = make_safetensors(c->header, c->data);
    bool ok = tensor_parse_safetensors(b.at, b.size, "q", c->wanted, &t, &error);
    expect(ok, &error, c->message, c->header);
    if (!ok)
        ck_assert_uint_eq(t.rank, 99);
    free(b.at);
}
END_TEST

START_TEST(safetensors_truncated)
{
    struct bytes b = make_safetensors("{" T("q", "F16", "[2,1,4]", "[0,16]") "}", 16);
    for (size_t size = 0; size < b.size; size++) {
        struct tensor t;
        struct tensor_error error = {""};
        unsigned char *shorter = malloc(size ? size : 1);
        memcpy(shorter, b.at, size);
        ck_assert(!tensor_parse_safetensors(shorter, size, "q", 0, &t, &error));
        ck_assert_uint_gt(strlen(error.text), 0);
        free(shorter);
    }
    free(b.at);
}
END_TEST

START_TEST(safetensors_header_claims)
{
    static const unsigned long long claims[] = {
        3, 100000001, 1ull << 32, 1ull << 63, UINT64_MAX - 8, UINT64_MAX - 7, UINT64_MAX};
    for (unsigned i = 0; i < sizeof claims / sizeof *claims; i++) {
        struct tensor t;
        struct tensor_error error = {""};
        struct bytes b = make_safetensors("{}", 0);
        for (unsigned k = 0; k < 8; k++)
            b.at[k] = (unsigned char)(claims[i] >> 8 * k);
        expect(tensor_parse_safetensors(b.at, b.size, "q", 0, &t, &error), &error, "damaged",
               "claim");
        free(b.at);
    }
}
END_TEST

/* text repeated count times between a start and an end. */
static struct bytes make_repeated(const char *start, const char *text, size_t count,
                                  const char *end)
{
    size_t length = strlen(text), first = strlen(start);
    char *header = calloc(first + count * length + strlen(end) + 1, 1);
    memcpy(header, start, first);
    for (size_t i = 0; i < count; i++)
        memcpy(header + first + i * length, text, length);
    memcpy(header + first + count * length, end, strlen(end));
    struct bytes b = make_safetensors(header, 0);
    free(header);
    return b;
}

START_TEST(safetensors_huge_json)
{
    static const struct {
        const char *start, *text;
        size_t count;
        const char *end, *message;
    } cases[] = {{"{\"q\":[", "0,", 5000000, "0]}", "more than 4000000 values"},
                 {"{\"q\":", "[", 50000000, "", "deeper than 8"},
                 {"{\"q\":", "{\"\":", 10000000, "", "deeper than 8"},
                 {"{\"q\":\"", "abcdefgh", 4000000, "\"}", "no JSON object"},
                 {"{", "\"a\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]},", 100000,
                  "\"b\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}", "twice"},
                 {"{\"q\":{\"dtype\":\"F16\",\"shape\":[", "1,", 1000000,
                  "1],\"data_offsets\":[0,2]}}", "too many axes"}};
    for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tensor t;
        struct tensor_error error = {""};
        struct bytes b = make_repeated(cases[i].start, cases[i].text, cases[i].count, cases[i].end);
        expect(tensor_parse_safetensors(b.at, b.size, "q", 0, &t, &error), &error, cases[i].message,
               cases[i].text);
        free(b.at);
    }
}
END_TEST

/* ---- Files -------------------------------------------------------------------------------- */

/* A path in the folder for temporary files; the caller frees it. */
static char *temporary(const char *ending)
{
    const char *folder = getenv("TMPDIR");
    char *path = calloc(4096, 1);
    snprintf(path, 4096, "%s/draft-files-%ld%s", folder ? folder : "/tmp", (long)getpid(), ending);
    return path;
}

static void round_trip(const char *ending, draft_type type, unsigned rank)
{
    unsigned char data[2 * 3 * 5 * 8 * 4];
    struct tensor t = {type, rank, {2, 3, 5, 8}, 1, data}, *got;
    struct tensor_file file = {0};
    struct tensor_error error;
    char *path = temporary(ending);
    for (unsigned i = 0; i < rank; i++)
        t.count *= t.shape[i];
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (unsigned char)(i * 7);
    FILE *stream = fopen(path, "wb");
    ck_assert_ptr_nonnull(stream);
    ck_assert(tensor_write(stream, path, "q", &t));
    ck_assert_int_eq(fclose(stream), 0);
    ck_assert_msg(tensor_file_open(path, "q", type, &file, &error), "%s", error.text);
    got = &file.tensor;
    ck_assert_int_eq(got->type, type);
    ck_assert_uint_eq(got->rank, rank);
    ck_assert_mem_eq(got->shape, t.shape, rank * sizeof *t.shape);
    ck_assert_mem_eq(got->data, data, t.count * tensor_type_size(type));
    ck_assert_uint_eq((uintptr_t)got->data % 64, 0);
    tensor_file_close(&file);
    unlink(path);
    free(path);
}

START_TEST(files_round_trip)
{
    for (unsigned type = DRAFT_F16; type <= DRAFT_F32; type++) {
        for (unsigned rank = 0; rank <= 4; rank++) {
            round_trip(".npy", (draft_type)type, rank);
            round_trip(".safetensors", (draft_type)type, rank);
        }
    }
}
END_TEST

/* Two tensors of integers in one file, and what the file says of itself. */
START_TEST(files_of_several)
{
    static const uint32_t counts[] = {1, 70000, 3};
    static const uint16_t lists[] = {7, 65535};
    static const char *const about[] = {"tile", "1x2x4", "other", "long enough", NULL};
    const struct tensor_entry entries[] = {{"counts", {TENSOR_U32, 2, {1, 3}, 3, counts}},
                                           {"lists", {TENSOR_U16, 1, {2}, 2, lists}}};
    struct tensor_file file = {0};
    struct tensor_error error;
    char *path = temporary(".safetensors"), text[5];
    FILE *stream = fopen(path, "wb");
    ck_assert(tensor_write_safetensors(stream, entries, 2, about));
    ck_assert_int_eq(fclose(stream), 0);
    ck_assert(tensor_file_open(path, "counts", TENSOR_INTEGER, &file, &error));
    ck_assert_int_eq(file.tensor.type, TENSOR_U32);
    ck_assert_mem_eq(file.tensor.data, counts, sizeof counts);
    ck_assert(tensor_file_metadata(&file, "tile", text, sizeof text));
    ck_assert_str_eq(text, "1x2x");
    ck_assert(!tensor_file_metadata(&file, "counts", text, sizeof text));
    tensor_file_close(&file);
    ck_assert(tensor_file_open(path, "lists", TENSOR_INTEGER, &file, &error));
    ck_assert_int_eq(file.tensor.type, TENSOR_U16);
    ck_assert_mem_eq(file.tensor.data, lists, sizeof lists);
    tensor_file_close(&file);
    ck_assert(!tensor_file_open(path, "lists", 0, &file, &error));
    unlink(path);
    free(path);
}
END_TEST

START_TEST(files_refused)
{
    struct tensor_file file = {0};
    struct tensor_error error;
    char *path = temporary(".npy");
    ck_assert(!tensor_file_open(path, "q", 0, &file, &error));
    ck_assert_str_eq(error.text, "No such file or directory");
    ck_assert(!tensor_file_open("/", "q", 0, &file, &error));
    ck_assert_ptr_nonnull(strstr(error.text, "no regular file"));
    ck_assert(!tensor_file_open("/dev/zero", "q", 0, &file, &error));
    ck_assert_ptr_nonnull(strstr(error.text, "no regular file"));
    fclose(fopen(path, "wb"));
    ck_assert(!tensor_file_open(path, "q", 0, &file, &error));
    ck_assert_str_eq(error.text, "it is empty");
    FILE *stream = fopen(path, "wb");
    fputs("hello, world", stream);
    fclose(stream);
    ck_assert(!tensor_file_open(path, "q", 0, &file, &error));
    ck_assert_ptr_nonnull(strstr(error.text, "no .npy or .safetensors file"));
    ck_assert_ptr_null(file.map);
    unlink(path);
    free(path);
}
END_TEST

START_TEST(files_path_split)
{
    static const struct {
        const char *path, *file, *name;
    } cases[] = {{"a.npy", "a.npy", NULL},
                 {"a.safetensors", "a.safetensors", NULL},
                 {"a.safetensors:q", "a.safetensors", "q"},
                 {"a:b/c.safetensors:x:y", "a:b/c.safetensors", "x:y"},
                 {"a.safetensors:b.safetensors:q", "a.safetensors:b.safetensors", "q"},
                 {"a.safetensors:", "a.safetensors", ""},
                 {"a.npy:q", "a.npy:q", NULL},
                 {"", "", NULL}};
    for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *file;
        const char *name = tensor_path_split(cases[i].path, &file);
        ck_assert_str_eq(file, cases[i].file);
        ck_assert_pstr_eq(name, cases[i].name);
        free(file);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("files");
    TCase *npy = tcase_create("npy"), *safetensors = tcase_create("safetensors");
    TCase *files = tcase_create("files");
    tcase_set_timeout(safetensors, 120);
    tcase_add_loop_test(npy, npy_table, 0, sizeof npy_cases / sizeof *npy_cases);
    tcase_add_test(npy, npy_truncated);
    tcase_add_test(npy, npy_header_claims);
    tcase_add_test(npy, npy_values);
    tcase_add_loop_test(safetensors, safetensors_table, 0,
                        sizeof safetensors_cases / sizeof *safetensors_cases);
    tcase_add_test(safetensors, safetensors_truncated);
    tcase_add_test(safetensors, safetensors_header_claims);
    tcase_add_test(safetensors, safetensors_huge_json);
    tcase_add_test(files, files_round_trip);
    tcase_add_test(files, files_of_several);
    tcase_add_test(files, files_refused);
    tcase_add_test(files, files_path_split);
    suite_add_tcase(suite, npy);
    suite_add_tcase(suite, safetensors);
    suite_add_tcase(suite, files);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
