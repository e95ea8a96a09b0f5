/* SPDX-License-Identifier: MIT
 *
 * Work of the program itself that is shared among threads. */
#ifndef DRAFT_TOOLS_PARALLEL_H
#define DRAFT_TOOLS_PARALLEL_H

#include <stdint.h>

/* The number of processors that are on line; at least 1. */
unsigned parallel_threads(void);

/* Call body(argument, item) once for each item below items, from up to `threads` threads (0: one
 * for each processor), and return when all are done. Where no thread can be had, the caller does
 * the work alone. */
void parallel_for(unsigned threads, uint64_t items, void (*body)(void *argument, uint64_t item),
                  void *argument);

#endif
