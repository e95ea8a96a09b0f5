/* SPDX-License-Identifier: MIT */
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>

#include "backend.h"

/* The one mutable variable at file scope: tests count down to a failure with it. */
static atomic_long failure;

void draft_calloc_set_failure(long n)
{
    atomic_store(&failure, n);
}

void *draft_calloc(size_t count, size_t size)
{
    if (atomic_load_explicit(&failure, memory_order_relaxed) > 0 &&
        atomic_fetch_sub(&failure, 1) == 1)
        return NULL;
    return calloc(count, size);
}

void draft_release(void *memory)
{
    free(memory);
}
