/* SPDX-License-Identifier: MIT
 *
 * What the fuzz targets of the file readers check. */
#ifndef DRAFT_TESTS_FUZZ_H
#define DRAFT_TESTS_FUZZ_H

#include <stdlib.h>
#include <string.h>

#include "tensor_file.h"

/* The target; libFuzzer's name. */
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

/* Ends the process where the tensor does not lie within the bytes, and reads it, for the address
 * sanitizer to see. */
static inline void fuzz_check_tensor(const uint8_t *bytes, size_t size, const struct tensor *t)
{
    const uint8_t *data = t->data;
    uint64_t count = 1;
    unsigned sum = 0;
    bool integer = t->type >= TENSOR_U16 && t->type <= TENSOR_I64;
    if ((!integer && (t->type < DRAFT_F16 || t->type > DRAFT_F32)) || t->rank > TENSOR_RANK)
        abort();
    for (unsigned i = 0; i < t->rank; i++)
        if (t->shape[i] == 0 || __builtin_mul_overflow(count, t->shape[i], &count))
            abort();
    if (count != t->count || count > size / tensor_type_size(t->type) || data < bytes ||
        data + count * tensor_type_size(t->type) > bytes + size)
        abort();
    for (uint64_t i = 0; i < count * tensor_type_size(t->type); i++)
        sum += data[i];
    if (sum == 1) /* so that the reads are not optimised away */
        free(malloc(sum));
}

/* A message there is, and nothing in it that a terminal would obey. */
static inline void fuzz_check_error(const struct tensor_error *error)
{
    size_t length = strnlen(error->text, sizeof error->text);
    if (length == 0 || length == sizeof error->text)
        abort();
    for (size_t i = 0; i < length; i++)
        if (error->text[i] < ' ' || error->text[i] > '~')
            abort();
}

#endif
