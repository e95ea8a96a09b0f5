/* SPDX-License-Identifier: MIT */
#include "markdown.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "program.h"

enum { COLUMNS = 24, ROW = 512 };

struct markdown_table {
    char (*rows)[ROW];
    size_t count, capacity;
};

struct markdown_table *markdown_table_create(const char *header)
{
    struct markdown_table *table = program_calloc(1, sizeof *table);
    markdown_table_add(table, "%s", header);
    return table;
}

void markdown_table_add(struct markdown_table *table, const char *format, ...)
{
    if (table->count == table->capacity) {
        size_t capacity = table->capacity ? 2 * table->capacity : 16;
        char(*rows)[ROW] = program_calloc(capacity, sizeof *rows);
        if (table->count)
            memcpy(rows, table->rows, table->count * sizeof *rows);
        free(table->rows);
        table->rows = rows;
        table->capacity = capacity;
    }
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(table->rows[table->count++], ROW, format, arguments);
    va_end(arguments);
}

/* The next cell of a row and its length; NULL after the last. */
static const char *next_cell(const char **row, int *length)
{
    const char *cell = *row;
    if (!cell)
        return NULL;
    *length = (int)strcspn(cell, "\t");
    *row = cell[*length] ? cell + *length + 1 : NULL;
    return cell;
}

void markdown_table_write(struct markdown_table *table, FILE *file)
{
    int widths[COLUMNS] = {0}, length;
    bool right[COLUMNS] = {0};
    unsigned columns = 0;
    for (size_t r = 0; r < table->count; r++) {
        const char *row = table->rows[r], *cell;
        for (unsigned c = 0; c < COLUMNS && (cell = next_cell(&row, &length)); c++) {
            if (r == 0) {
                right[c] = *cell == '>';
                length -= right[c];
                columns = c + 1;
            }
            widths[c] = length > widths[c] ? length : widths[c] > 3 ? widths[c] : 3;
        }
    }
    for (size_t r = 0; r < table->count; r++) {
        const char *row = table->rows[r], *cell;
        for (unsigned c = 0; c < columns && (cell = next_cell(&row, &length)); c++) {
            int skip = r == 0 && right[c], pad = widths[c] - (length - skip);
            fprintf(file, "| %*s%.*s%*s ", right[c] ? pad : 0, "", length - skip, cell + skip,
                    right[c] ? 0 : pad, "");
        }
        fputs("|\n", file);
        for (unsigned c = 0; r == 0 && c < columns; c++) {
            fputs("| ", file);
            for (int i = 0; i < widths[c] - right[c]; i++)
                fputc('-', file);
            fputs(right[c] ? ": " : " ", file);
        }
        if (r == 0)
            fputs("|\n", file);
    }
    fputc('\n', file);
    free(table->rows);
    free(table);
}
