/* SPDX-License-Identifier: MIT
 *
 * A list of words that grows. */
#ifndef MATRIX_DRIVER_WORDS_H
#define MATRIX_DRIVER_WORDS_H

#include <stddef.h>
#include <stdint.h>

struct words {
    uint32_t *at;
    size_t count, room;
};

/* Memory that cannot be had ends the program: this is a test's driver. */
void words_add(struct words *out, const uint32_t *some, size_t count);
void words_join(struct words *out, const struct words *more);
void words_free(struct words *words);

/* An instruction of these words, which may be none. */
void words_instruction(struct words *out, uint32_t opcode, const uint32_t *some, size_t count);

#define EMIT(out, opcode, ...)                                                                     \
    words_instruction((out), (opcode), (const uint32_t[]){__VA_ARGS__},                            \
                      sizeof((const uint32_t[]){__VA_ARGS__}) / sizeof(uint32_t))

#endif
