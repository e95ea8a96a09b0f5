/* SPDX-License-Identifier: MIT */
#include "program.h"

#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

void *program_calloc(size_t count, size_t size)
{
    void *memory = calloc(count ? count : 1, size ? size : 1);
    if (!memory) {
        program_error("memory ran out");
        exit(PROGRAM_DEVICE);
    }
    return memory;
}

double program_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

int program_exit_code(draft_status status)
{
    if (status == DRAFT_OK)
        return PROGRAM_OK;
    return status == DRAFT_ERROR_ARGUMENT ? PROGRAM_USAGE : PROGRAM_DEVICE;
}

/* ---- Devices ------------------------------------------------------------------------------ */

static const char *const log_names[] = {"error", "warn", "info", "debug"};

static void print_log(void *user, draft_log_level level, const char *text)
{
    (void)user;
    if (level == DRAFT_LOG_ERROR)
        program_error("%s", text);
    else
        program_error("%s: %s", log_names[level], text);
}

struct draft_log program_log(void)
{
    struct draft_log log = {print_log, NULL, DRAFT_LOG_WARN};
    const char *wanted = getenv("DRAFT_LOG");
    for (unsigned i = 0; wanted && i < sizeof log_names / sizeof *log_names; i++)
        if (strcasecmp(wanted, log_names[i]) == 0)
            log.level = (draft_log_level)i;
    return log;
}

draft_status program_open(const struct program_device *device, draft_context **out)
{
    struct draft_context_params params = {
        .backend = device->backend, .threads = device->threads, .log = program_log()};
    char *end = NULL;
    unsigned long index = device->device ? strtoul(device->device, &end, 10) : 0;
    bool is_index = device->device && *device->device >= '0' && *device->device <= '9' && !*end;
    if (is_index && index <= UINT32_MAX)
        params.device = (uint32_t)index;
    else
        params.device_name = device->device;
    return draft_context_create(&params, out);
}

/* ---- Tables ------------------------------------------------------------------------------- */

enum { TABLE_COLUMNS = 24 };

struct program_table {
    char **rows; /* text with tabs; the first is the header */
    size_t count, capacity;
};

static void table_append(struct program_table *table, char *row)
{
    if (table->count == table->capacity) {
        size_t capacity = table->capacity ? 2 * table->capacity : 16;
        char **rows = program_calloc(capacity, sizeof *rows);
        if (table->count)
            memcpy(rows, table->rows, table->count * sizeof *rows);
        free(table->rows);
        table->rows = rows;
        table->capacity = capacity;
    }
    table->rows[table->count++] = row;
}

struct program_table *program_table_create(const char *header)
{
    struct program_table *table = program_calloc(1, sizeof *table);
    program_table_add(table, "%s", header);
    return table;
}

void program_table_add(struct program_table *table, const char *format, ...)
{
    char text[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    char *row = program_calloc(strlen(text) + 1, 1);
    memcpy(row, text, strlen(text));
    table_append(table, row);
}

/* The next cell of a row: its length; *row moves past it and is NULL after the last. */
static int next_cell(const char **row, const char **cell)
{
    *cell = *row;
    size_t length = strcspn(*row, "\t");
    *row = (*row)[length] ? *row + length + 1 : NULL;
    return (int)length;
}

static void print_row(const char *row, bool header, const int *widths, const bool *right)
{
    const char *cell;
    for (unsigned c = 0; row && c < TABLE_COLUMNS; c++) {
        int length = next_cell(&row, &cell);
        if (header && *cell == '>')
            cell++, length--;
        int pad = row || right[c] ? widths[c] - length : 0;
        printf("%s%*s%.*s%*s", c ? "  " : "", right[c] ? pad : 0, "", length, cell,
               right[c] ? 0 : pad, "");
    }
    putchar('\n');
}

void program_table_print(struct program_table *table)
{
    int widths[TABLE_COLUMNS] = {0};
    bool right[TABLE_COLUMNS] = {0};
    for (size_t r = 0; r < table->count; r++) {
        const char *row = table->rows[r], *cell;
        for (unsigned c = 0; row && c < TABLE_COLUMNS; c++) {
            int length = next_cell(&row, &cell);
            if (r == 0 && *cell == '>')
                right[c] = true, length--;
            widths[c] = length > widths[c] ? length : widths[c];
        }
    }
    for (size_t r = 0; r < table->count; r++)
        print_row(table->rows[r], r == 0, widths, right);
    program_table_discard(table);
}

void program_table_discard(struct program_table *table)
{
    if (!table)
        return;
    for (size_t r = 0; r < table->count; r++)
        free(table->rows[r]);
    free(table->rows);
    free(table);
}

/* ---- JSON --------------------------------------------------------------------------------- */

int program_json_print(cJSON *json)
{
    char *text = cJSON_Print(json);
    cJSON_Delete(json);
    bool ok = text && printf("%s\n", text) >= 0 && fflush(stdout) == 0;
    cJSON_free(text);
    if (!ok)
        program_error("the JSON cannot be written");
    return ok ? PROGRAM_OK : PROGRAM_USAGE;
}

/* ["f16", ...] of the bits of draft_device_info.types. */
static cJSON *json_types(uint32_t types)
{
    static const char *const names[] = {NULL, "f16", "bf16", "f32"};
    cJSON *array = cJSON_CreateArray();
    for (unsigned t = DRAFT_F16; t <= DRAFT_F32; t++)
        if (types & 1u << t)
            cJSON_AddItemToArray(array, cJSON_CreateString(names[t]));
    return array;
}

cJSON *program_json_device(const struct draft_device_info *info)
{
    char uuid[33];
    for (unsigned i = 0; i < sizeof info->uuid; i++)
        snprintf(uuid + 2 * i, 3, "%02x", info->uuid[i]);
    cJSON *json = cJSON_CreateObject();
    cJSON_AddStringToObject(json, "backend", info->backend);
    cJSON_AddNumberToObject(json, "index", info->index);
    cJSON_AddStringToObject(json, "name", info->name);
    cJSON_AddStringToObject(json, "driver", info->driver);
    cJSON_AddBoolToObject(json, "software", info->software != 0);
    cJSON_AddStringToObject(json, "uuid", uuid);
    cJSON_AddNumberToObject(json, "memory", (double)info->memory);
    cJSON_AddItemToObject(json, "types", json_types(info->types));
    cJSON_AddStringToObject(json, "attend", info->attend);
    return json;
}
