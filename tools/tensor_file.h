/* SPDX-License-Identifier: MIT
 *
 * Tensors in files: .npy (versions 1 to 3) and .safetensors. Files are mapped into memory, and what
 * they say about themselves is not believed before it has been checked against their size.
 *
 * Types: '<f2' is f16, '<f4' is f32. NumPy has no bf16: '<V2' and '|V2', two bytes without meaning,
 * are taken as bf16, which is what the Python package ml_dtypes writes, and '|V2' is what we write.
 * '<u2' is read as bf16 where the caller asks for bf16. Integers are read from .safetensors only. */
#ifndef DRAFT_TOOLS_TENSOR_FILE_H
#define DRAFT_TOOLS_TENSOR_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <draft/draft.h>

#include "platform.h"

enum {
    TENSOR_RANK = 8,                       /* axes at most                                      */
    TENSOR_NPY_HEADER = 1 << 20,           /* bytes of header that we read: a real one has 128  */
    TENSOR_SAFETENSORS_HEADER = 100000000, /* the format's own limit                            */
    TENSOR_SAFETENSORS_VALUES = 4000000,   /* JSON values: 80 bytes of memory each              */
    TENSOR_SAFETENSORS_DEPTH = 8           /* nesting of the JSON: the format needs 3           */
};

/* Types of integers, beyond the values of draft_type: what lists of blocks are made of. */
#define TENSOR_U16 ((draft_type)16)
#define TENSOR_U32 ((draft_type)17)
#define TENSOR_I32 ((draft_type)18)
#define TENSOR_I64 ((draft_type)19)
/* As `wanted`: any of these and nothing else. */
#define TENSOR_INTEGER ((draft_type)20)

/* Why a file was refused, one line without the file's name; what comes from the file is made
 * printable and short. */
struct tensor_error {
    char text[256];
};

struct tensor {
    draft_type type;
    unsigned rank;
    uint64_t shape[TENSOR_RANK]; /* outermost axis first; every one at least 1                 */
    uint64_t count;              /* product of the shape; count x size of type fits a size_t   */
    const void *data;            /* within the bytes that were parsed, perhaps not aligned     */
};

/* Find the tensor in the bytes of a file. On failure *out is unchanged.
 * wanted: 0, or the type that it must have. */
bool tensor_parse_npy(const void *bytes, size_t size, draft_type wanted, struct tensor *out,
                      struct tensor_error *error);
/* name: of the tensor. The whole header is checked, not just this tensor's entry. */
bool tensor_parse_safetensors(const void *bytes, size_t size, const char *name, draft_type wanted,
                              struct tensor *out, struct tensor_error *error);

/* A tensor and the mapping that holds it. */
struct tensor_file {
    struct tensor tensor;
    void *map;
    size_t map_size;
};

/* Open "file.npy", "file.safetensors:name" or "file.safetensors", the latter with the tensor called
 * default_name. The first bytes tell which kind the file is. */
bool tensor_file_open(const char *path, const char *default_name, draft_type wanted,
                      struct tensor_file *out, struct tensor_error *error);
/* Unmap; also right after a failed open, if *file was zero before. */
void tensor_file_close(struct tensor_file *file);

/* What an open .safetensors file says of itself under the key, cut to the room; false where it says
 * nothing. */
bool tensor_file_metadata(const struct tensor_file *file, const char *key, char *out, size_t room);

/* "file.safetensors:name" in two: writes the file's path (which the caller frees) and returns the
 * name, or NULL where the path names no tensor. */
const char *tensor_path_split(const char *path, char **file);

/* Write one tensor as a whole file in the form that the path's ending asks for: ".safetensors",
 * where the tensor is called name, or else .npy. False where the stream reports an error. */
bool tensor_write(FILE *file, const char *path, const char *name, const struct tensor *tensor);
bool tensor_write_npy(FILE *file, const struct tensor *tensor);

/* One of several in a .safetensors file. */
struct tensor_entry {
    const char *name;
    struct tensor tensor;
};
/* metadata: NULL, or pairs of key and value that end with NULL. */
bool tensor_write_safetensors(FILE *file, const struct tensor_entry *entries, unsigned count,
                              const char *const *metadata);

/* ---- For the readers ---------------------------------------------------------------------- */

/* Set the error's text and return false. */
bool tensor_fail(struct tensor_error *error, const char *format, ...) DRAFT_PRINTF(2, 3);

/* length bytes of text as something to print: at most 40 characters, others than printable ASCII
 * replaced by '?'. */
struct tensor_name {
    char text[48];
};
struct tensor_name tensor_printable(const char *text, size_t length);

/* Bytes of an element. */
size_t tensor_type_size(draft_type type);

/* Set tensor->count from its shape; fails where an axis is 0 or the bytes do not fit a size_t.
 * element: bytes of one. */
bool tensor_count(struct tensor *tensor, size_t element, struct tensor_error *error);

#endif
