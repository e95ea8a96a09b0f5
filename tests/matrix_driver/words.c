/* SPDX-License-Identifier: MIT */
#include "words.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void words_add(struct words *out, const uint32_t *some, size_t count)
{
    if (out->count + count > out->room) {
        out->room = 2 * (out->count + count) + 64;
        out->at = realloc(out->at, out->room * sizeof *out->at);
        if (!out->at) {
            fprintf(stderr, "matrix driver: no memory\n");
            abort();
        }
    }
    if (count)
        memcpy(out->at + out->count, some, count * sizeof *some);
    out->count += count;
}

void words_join(struct words *out, const struct words *more)
{
    words_add(out, more->at, more->count);
}

void words_free(struct words *words)
{
    free(words->at);
    *words = (struct words){0};
}

void words_instruction(struct words *out, uint32_t opcode, const uint32_t *some, size_t count)
{
    uint32_t first = opcode | (uint32_t)(count + 1) << 16;
    words_add(out, &first, 1);
    words_add(out, some, count);
}
