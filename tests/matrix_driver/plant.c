/* SPDX-License-Identifier: MIT
 *
 * Mistakes in shaders, to see them found: $DRAFT_MATRIX_FAULT is one of
 *
 *   barrier N   barrier N of each module with matrices is left out, counted from 1
 *   stride N    load N of a matrix has a stride of 1
 *   layout N    load N has rows for columns, or columns for rows
 *   order N     view N of tensors has its last two dimensions exchanged */
#include <stdio.h>
#include <stdlib.h>

#include "layer.h"

static uint32_t *find(uint32_t *code, size_t count, uint32_t opcode, unsigned n)
{
    for (size_t i = SPIRV_HEADER; i < count; i += spirv_size(code + i))
        if (spirv_code(code + i) == opcode && --n == 0)
            return code + i;
    return NULL;
}

static uint32_t constant_one(const uint32_t *code, size_t count)
{
    for (size_t i = SPIRV_HEADER; i < count; i += spirv_size(code + i))
        if (spirv_code(code + i) == OpConstant && code[i + 3] == 1)
            return code[i + 2];
    return 0;
}

static void exchange_last(uint32_t *at)
{
    uint32_t size = spirv_size(at), last = at[size - 1];
    at[size - 1] = at[size - 2];
    at[size - 2] = last;
}

/* The layout of the first load that has another one. */
static uint32_t other_layout(uint32_t *code, size_t count, uint32_t layout)
{
    const uint32_t *at = NULL;
    unsigned n = 0;
    do
        at = find(code, count, OpCooperativeMatrixLoad, ++n);
    while (at && at[4] == layout);
    return at ? at[4] : layout;
}

void plant_fault(uint32_t *code, size_t count)
{
    const char *text = getenv("DRAFT_MATRIX_FAULT");
    unsigned n = 0;
    uint32_t *at = NULL;
    if (!text)
        return;
    if (sscanf(text, "barrier %u", &n) == 1 && (at = find(code, count, OpControlBarrier, n)))
        for (uint32_t word = 0, size = spirv_size(at); word < size; word++)
            at[word] = 1u << 16 | OpNop;
    if (sscanf(text, "stride %u", &n) == 1 && (at = find(code, count, OpCooperativeMatrixLoad, n)))
        at[5] = constant_one(code, count);
    if (sscanf(text, "layout %u", &n) == 1 && (at = find(code, count, OpCooperativeMatrixLoad, n)))
        at[4] = other_layout(code, count, at[4]);
    if (sscanf(text, "order %u", &n) == 1 && (at = find(code, count, OpTypeTensorView, n)))
        exchange_last(at);
    layer_say(at ? "planted: %s" : "there is nowhere to plant: %s", text);
}
