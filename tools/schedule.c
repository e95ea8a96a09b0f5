/* SPDX-License-Identifier: MIT */
#include "schedule.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

enum { LINE = 16384 /* bytes, with 1000 heads and more */ };

static const char header[] = "draft schedule 1";

/* ---- Words ----------------------------------------------------------------------------------- */

static const char *skip_space(const char *at)
{
    while (isspace((unsigned char)*at))
        at++;
    return at;
}

/* A number below SCHEDULE_END. */
static bool read_number(const char **at, uint32_t *out)
{
    if (!isdigit((unsigned char)**at))
        return false;
    char *end;
    unsigned long value = strtoul(*at, &end, 10);
    *at = end;
    *out = (uint32_t)value;
    return value < SCHEDULE_END;
}

static bool word_ends(const char *at)
{
    return *at == '\0' || isspace((unsigned char)*at);
}

/* "3", "3-8", "3-*" or "*". */
static bool read_range(const char **at, uint32_t *first, uint32_t *last)
{
    *at = skip_space(*at);
    *first = 0;
    *last = SCHEDULE_END;
    if (**at == '*')
        return word_ends(++*at);
    if (!read_number(at, first))
        return false;
    *last = *first;
    if (**at != '-')
        return word_ends(*at);
    if (*++*at == '*') {
        *last = SCHEDULE_END;
        return word_ends(++*at);
    }
    return read_number(at, last) && word_ends(*at) && *last >= *first;
}

static bool read_sparsity(const char **at, double *out)
{
    char *end;
    *out = strtod(*at, &end);
    bool some = end != *at;
    *at = end;
    return some && word_ends(end) && *out >= 0 && *out < 1;
}

/* What is wrong, or NULL. */
static const char *read_sparsities(const char *at, struct schedule_line *line)
{
    for (at = skip_space(at); *at; at = skip_space(at)) {
        double *more = realloc(line->sparsity, (line->count + 1) * sizeof *more);
        if (!more)
            return "out of memory";
        line->sparsity = more;
        if (!read_sparsity(&at, &line->sparsity[line->count]))
            return "a sparsity is no number from 0 to below 1";
        line->count++;
    }
    return line->count ? NULL : "there is no sparsity";
}

/* What is wrong, or NULL. */
static const char *read_line(const char *at, struct schedule_line *line)
{
    if (!read_range(&at, &line->first_step, &line->last_step))
        return "the steps are no range, as 0-11, 12-* or *";
    if (!read_range(&at, &line->first_layer, &line->last_layer))
        return "the layers are no range, as 7, 0-1 or *";
    at = skip_space(at);
    if (!read_number(&at, &line->refresh) || !word_ends(at) || !line->refresh)
        return "refresh is no number of steps";
    return read_sparsities(at, line);
}

/* ---- Files ----------------------------------------------------------------------------------- */

/* One line without its comment and what surrounds it; *number is counted up. What is wrong, or
 * NULL; text is empty at the end too. */
static const char *next_text(FILE *file, char *text, unsigned *number, bool *end)
{
    *end = !fgets(text, LINE, file);
    if (*end) {
        *text = '\0';
        return ferror(file) ? "it cannot be read" : NULL;
    }
    ++*number;
    size_t length = strlen(text);
    if (length + 1 == LINE && text[length - 1] != '\n')
        return "the line is too long";
    length = strcspn(text, "#");
    while (length > 0 && isspace((unsigned char)text[length - 1]))
        length--;
    text[length] = '\0';
    memmove(text, skip_space(text), strlen(skip_space(text)) + 1);
    return NULL;
}

static const char *add_line(struct schedule *schedule, const char *text)
{
    struct schedule_line *more =
        realloc(schedule->lines, (schedule->count + 1) * sizeof *schedule->lines);
    if (!more)
        return "out of memory";
    schedule->lines = more;
    schedule->lines[schedule->count] = (struct schedule_line){0};
    return read_line(text, &schedule->lines[schedule->count++]);
}

bool schedule_read(FILE *file, struct schedule *out, char error[SCHEDULE_ERROR])
{
    char text[LINE];
    unsigned number = 0;
    bool begun = false, end = false;
    *out = (struct schedule){0};
    const char *why = NULL;
    while (!why && !end) {
        why = next_text(file, text, &number, &end);
        if (why || !*text)
            continue;
        if (begun)
            why = add_line(out, text);
        else if (strcmp(text, header) != 0)
            why = "it does not begin with \"draft schedule 1\"";
        begun = true;
    }
    if (!why && !begun)
        why = "it is empty";
    if (!why)
        return true;
    snprintf(error, SCHEDULE_ERROR, "line %u: %s", number, why);
    schedule_free(out);
    return false;
}

void schedule_free(struct schedule *schedule)
{
    for (size_t i = 0; i < schedule->count; i++)
        free(schedule->lines[i].sparsity);
    free(schedule->lines);
    *schedule = (struct schedule){0};
}

static void write_range(FILE *file, uint32_t first, uint32_t last)
{
    if (last != SCHEDULE_END && first == last)
        fprintf(file, "%u", first);
    else if (last != SCHEDULE_END)
        fprintf(file, "%u-%u", first, last);
    else if (first)
        fprintf(file, "%u-*", first);
    else
        fputs("*", file);
    fputc('\t', file);
}

void schedule_write_header(FILE *file)
{
    fprintf(file, "%s\n# steps\tlayers\trefresh\tsparsity, of all heads or of each\n", header);
}

void schedule_write_line(FILE *file, const struct schedule_line *line)
{
    write_range(file, line->first_step, line->last_step);
    write_range(file, line->first_layer, line->last_layer);
    fprintf(file, "%u", line->refresh);
    for (size_t i = 0; i < line->count; i++)
        fprintf(file, "%c%.6g", i ? ' ' : '\t', line->sparsity[i]);
    fputc('\n', file);
}

/* ---- Use ------------------------------------------------------------------------------------- */

static bool holds(uint32_t first, uint32_t last, uint32_t at)
{
    return at >= first && (last == SCHEDULE_END || at <= last);
}

const struct schedule_line *schedule_find(const struct schedule *schedule, uint32_t step,
                                          uint32_t layer)
{
    for (size_t i = schedule->count; i-- > 0;) {
        const struct schedule_line *line = &schedule->lines[i];
        if (holds(line->first_step, line->last_step, step) &&
            holds(line->first_layer, line->last_layer, layer))
            return line;
    }
    return NULL;
}

bool schedule_refreshes(const struct schedule_line *line, uint32_t step)
{
    return (step - line->first_step) % line->refresh == 0;
}
