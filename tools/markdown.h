/* SPDX-License-Identifier: MIT
 *
 * Tables in Markdown, padded so that they can be read as they are. */
#ifndef DRAFT_TOOLS_MARKDOWN_H
#define DRAFT_TOOLS_MARKDOWN_H

#include <stdio.h>

#include "platform.h"

struct markdown_table;

/* Cells are separated by '\t'; a header cell that begins with '>' makes its column flush right. */
struct markdown_table *markdown_table_create(const char *header);
void markdown_table_add(struct markdown_table *table, const char *format, ...) DRAFT_PRINTF(2, 3);
/* Write, with an empty line after it, and free. */
void markdown_table_write(struct markdown_table *table, FILE *file);

#endif
