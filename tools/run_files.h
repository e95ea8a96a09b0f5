/* SPDX-License-Identifier: MIT
 *
 * The files of `draft run`: three inputs that must agree with each other and with the shape. */
#ifndef DRAFT_TOOLS_RUN_FILES_H
#define DRAFT_TOOLS_RUN_FILES_H

#include <stdbool.h>
#include <stdint.h>

#include <draft/draft.h>

#include "tensor_file.h"

struct run_inputs {
    struct tensor_file q, k, v;
    void *converted[3]; /* NULL, or the tensor's data in place of the file's */
};

/* Open q, k and v: three paths, or one .safetensors file with tensors of these names. wanted: 0, or
 * the type that others are converted to. On failure a message was printed and nothing is left
 * open. */
bool run_inputs_open(const char **paths, size_t count, draft_type wanted, struct run_inputs *out);
void run_inputs_close(struct run_inputs *inputs);

/* Check the tensors against each other and against the grid and the text lengths that *shape holds;
 * fill in its batch, heads, kv_heads and dim. False with a message. */
bool run_inputs_shape(const struct run_inputs *inputs, struct draft_shape *shape);

/* False, with a message, where path is one of the inputs' files under any name. */
bool run_output_is_new(const char *path, const char **inputs, size_t count);

/* Write data in the form that the path asks for. axes: of the shape, outermost first. */
bool run_output_write(FILE *file, const char *path, const char *default_name, draft_type type,
                      const uint64_t *axes, unsigned rank, const void *data);

#endif
