/* SPDX-License-Identifier: MIT */
#include "program.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    NUMBERS_FILE = 1 << 20, /* bytes of a file of numbers at most */
    HELP_COLUMN = 28,
    HELP_WIDTH = 90
};

static bool to_integer(const char *text, uint64_t limit, const char **end, uint64_t *out)
{
    char *stop;
    if (*text < '0' || *text > '9')
        return false;
    errno = 0;
    unsigned long long value = strtoull(text, &stop, 10);
    if (errno || value > limit)
        return false;
    *end = stop;
    *out = value;
    return true;
}

static bool to_real(const char *text, const char **end, double *out)
{
    char *stop;
    double value = strtod(text, &stop);
    if (stop == text || !isfinite(value))
        return false;
    *end = stop;
    *out = value;
    return true;
}

/* Numbers with an x between them. */
static bool parse_grid(const char *text, unsigned numbers, uint32_t *out)
{
    uint64_t value;
    for (unsigned i = 0; i < numbers; i++) {
        if (!to_integer(text, UINT32_MAX, &text, &value))
            return false;
        out[i] = (uint32_t)value;
        if (i + 1 < numbers && *text++ != 'x')
            return false;
    }
    return *text == 0;
}

/* Numbers separated by commas or white space. */
static bool parse_list(const char *text, struct program_reals *out)
{
    static const char separators[] = ", \t\r\n";
    size_t capacity = 1;
    for (const char *p = text; *p; p++)
        capacity += strchr(separators, *p) != NULL;
    out->values = program_calloc(capacity, sizeof *out->values);
    out->count = 0;
    text += strspn(text, separators);
    while (*text && to_real(text, &text, &out->values[out->count])) {
        out->count++;
        if (*text && !strchr(separators, *text))
            break;
        text += strspn(text, separators);
    }
    if (*text == 0 && out->count)
        return true;
    free(out->values);
    *out = (struct program_reals){0};
    return false;
}

static bool parse_reals(const char *text, struct program_reals *out)
{
    free(out->values);
    *out = (struct program_reals){0};
    if (*text != '@')
        return parse_list(text, out);
    FILE *file = fopen(text + 1, "r");
    if (!file) {
        program_error("%s: %s", text + 1, strerror(errno));
        return false;
    }
    char *content = program_calloc(NUMBERS_FILE, 1);
    size_t size = fread(content, 1, NUMBERS_FILE - 1, file);
    bool ok = size < NUMBERS_FILE - 1 && !ferror(file) && parse_list(content, out);
    fclose(file);
    free(content);
    return ok;
}

/* The index of the first length bytes of text among choices; -1: none. */
static int find_choice(const char *const *choices, const char *text, size_t length)
{
    for (int i = 0; choices[i]; i++)
        if (strlen(choices[i]) == length && strncmp(choices[i], text, length) == 0)
            return i;
    return -1;
}

static bool parse_choice(const struct program_option *o, const char *text)
{
    int index = find_choice(o->choices, text, strlen(text));
    if (index >= 0)
        *(uint32_t *)o->value = (uint32_t)index;
    return index >= 0;
}

static bool parse_choices(const struct program_option *o, const char *text)
{
    uint32_t bits = 0;
    while (true) {
        size_t length = strcspn(text, ",");
        int index = find_choice(o->choices, text, length);
        if (index < 0)
            return false;
        bits |= 1u << index;
        if (!text[length])
            break;
        text += length + 1;
    }
    *(uint32_t *)o->value = bits;
    return true;
}

/* Store the argument as the option's kind asks. */
static bool parse_value(const struct program_option *o, const char *text)
{
    uint64_t integer;
    const char *end;
    switch (o->kind) {
    case PROGRAM_FLAG:
        return false;
    case PROGRAM_TEXT:
        *(const char **)o->value = text;
        return true;
    case PROGRAM_COUNT:
        if (!to_integer(text, UINT32_MAX, &end, &integer) || *end)
            return false;
        *(uint32_t *)o->value = (uint32_t)integer;
        return true;
    case PROGRAM_SEED:
        return to_integer(text, UINT64_MAX, &end, o->value) && !*end;
    case PROGRAM_REAL:
        return to_real(text, &end, o->value) && !*end;
    case PROGRAM_GRID:
        return parse_grid(text, 3, o->value);
    case PROGRAM_SIZE:
        return parse_grid(text, 2, o->value);
    case PROGRAM_REALS:
        return parse_reals(text, o->value);
    case PROGRAM_CHOICE:
        return parse_choice(o, text);
    case PROGRAM_CHOICES:
        return parse_choices(o, text);
    }
    return false;
}

/* "head, row, mass", with a new line at the help's column where one gets long. */
static void print_choices(FILE *file, const struct program_option *o)
{
    size_t column = HELP_COLUMN + 2;
    for (unsigned i = 0; o->choices[i]; i++) {
        size_t length = strlen(o->choices[i]) + 2;
        if (column + length > HELP_WIDTH) {
            fprintf(file, ",\n%*s", HELP_COLUMN + 2, "");
            column = HELP_COLUMN + 2;
        } else if (i) {
            fputs(", ", file);
        }
        fputs(o->choices[i], file);
        column += length;
    }
}

static const struct program_option *find_option(const struct program_option *options,
                                                const char *name, size_t length)
{
    for (const struct program_option *o = options; o->name; o++)
        if (strlen(o->name) == length && strncmp(o->name, name, length) == 0)
            return o;
    return NULL;
}

static const struct program_option *find_short(const struct program_option *options, char name)
{
    for (const struct program_option *o = options; o->name; o++)
        if (o->short_name && o->short_name == name)
            return o;
    return NULL;
}

static void print_help(const struct program_command *command)
{
    printf("usage: draft %s\n\n%s\n\noptions:\n", command->usage, command->help);
    for (const struct program_option *o = command->options; o->name; o++) {
        char left[64], letter[8] = "";
        if (o->short_name)
            snprintf(letter, sizeof letter, "-%c, ", o->short_name);
        snprintf(left, sizeof left, "  %s--%s%s%s", letter, o->name, o->argument ? " " : "",
                 o->argument ? o->argument : "");
        printf("%-*s  ", HELP_COLUMN, left);
        for (const char *p = o->help; *p; p++)
            *p == '\n' ? (void)printf("\n%*s", HELP_COLUMN + 2, "") : (void)putchar(*p);
        if (o->choices) {
            printf(":\n%*s", HELP_COLUMN + 2, "");
            print_choices(stdout, o);
        }
        putchar('\n');
    }
    printf("%-*s  this text\n", HELP_COLUMN, "  -h, --help");
    printf("\nexit status: 0 done; 1 a check failed; 2 wrong options, files or shapes;\n"
           "3 no such device, or it failed, or memory ran out\n");
}

static int fail_value(const struct program_option *o, const char *text)
{
    if (o->choices) {
        fflush(stdout);
        program_error("--%s: '%s' is not one of:", o->name, text);
        fputs("  ", stderr);
        print_choices(stderr, o);
        fputc('\n', stderr);
    } else {
        program_error("--%s: '%s' is no valid %s", o->name, text,
                      o->kind == PROGRAM_GRID   ? "size such as 3x5x8"
                      : o->kind == PROGRAM_SIZE ? "size such as 640x480"
                                                : "number");
    }
    return PROGRAM_USAGE;
}

/* One option at argv[*i]; moves *i over an argument of its own word. -1 to go on. */
static int parse_option(const struct program_command *command, int argc, char **argv, int *i)
{
    const char *word = argv[*i], *equals = NULL;
    const struct program_option *o;
    if (word[1] == '-') {
        size_t length = strcspn(word + 2, "=");
        o = find_option(command->options, word + 2, length);
        equals = word[2 + length] ? word + 3 + length : NULL;
    } else {
        o = word[2] ? NULL : find_short(command->options, word[1]);
    }
    if (!o || (equals && o->kind == PROGRAM_FLAG)) {
        program_error("%s option %s; see draft %s --help",
                      o ? "no argument belongs to" : "there is no", word, argv[0]);
        return PROGRAM_USAGE;
    }
    if (o->given)
        *o->given = true;
    if (o->kind == PROGRAM_FLAG) {
        *(bool *)o->value = true;
        return -1;
    }
    if (!equals && *i + 1 == argc) {
        program_error("--%s lacks its argument %s", o->name, o->argument);
        return PROGRAM_USAGE;
    }
    const char *text = equals ? equals : argv[++*i];
    return parse_value(o, text) ? -1 : fail_value(o, text);
}

int program_parse(struct program_command *command, int argc, char **argv)
{
    bool options = true;
    command->operand_count = 0;
    for (int i = 1; i < argc; i++) {
        const char *word = argv[i];
        if (options && (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0)) {
            print_help(command);
            return PROGRAM_OK;
        }
        if (options && strcmp(word, "--") == 0) {
            options = false;
        } else if (options && word[0] == '-' && word[1]) {
            int code = parse_option(command, argc, argv, &i);
            if (code >= 0)
                return code;
        } else if (command->operand_count == command->operand_capacity) {
            program_error("'%s' is one operand too many; see draft %s --help", word, argv[0]);
            return PROGRAM_USAGE;
        } else {
            command->operands[command->operand_count++] = word;
        }
    }
    return -1;
}
