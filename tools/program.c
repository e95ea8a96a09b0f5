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

static const char *const type_names[] = {NULL, "f16", "bf16", "f32"};

/* "f16 or bf16" */
static void describe_types(uint32_t types, char text[24])
{
    text[0] = 0;
    for (unsigned t = DRAFT_F16; t <= DRAFT_F32; t++)
        if (types & 1u << t) {
            strcat(text, *text ? " or " : "");
            strcat(text, type_names[t]);
        }
}

/* The devices that the library would open unasked, best first, and that take the type: writes the
 * first to *out and adds the names of their backends to text: "vulkan or cpu". */
static bool find_taker(draft_type type, struct draft_device_info *out, char *text, size_t size)
{
    size_t count = 0, used = 0;
    const char *last = NULL;
    if (draft_devices(NULL, NULL, &count) != DRAFT_OK)
        return false;
    size_t capacity = count;
    struct draft_device_info *devices = program_calloc(capacity, sizeof *devices);
    if (draft_devices(NULL, devices, &count) != DRAFT_OK)
        count = 0;
    for (size_t i = 0; i < count && i < capacity; i++) {
        const struct draft_device_info *d = &devices[i];
        if (!(d->types & 1u << type) || (d->software && strcmp(d->backend, "cpu") != 0))
            continue;
        if (!last)
            *out = *d;
        if ((!last || strcmp(last, d->backend) != 0) && used < size)
            used +=
                (size_t)snprintf(text + used, size - used, "%s%s", last ? " or " : "", d->backend);
        last = d->backend;
    }
    free(devices);
    return last != NULL;
}

/* The opened device does not take the type: open another, unless the user named it. */
static draft_status replace_device(bool named, draft_type type, struct draft_context_params *params,
                                   draft_context **context)
{
    struct draft_device_info device, other;
    char types[24], takers[64] = "";
    draft_context_device(*context, &device);
    bool found = find_taker(type, &other, takers, sizeof takers);
    draft_context_destroy(context);
    if (!named && found) {
        program_error("%s, %s, does not take %s: using %s, %s", device.backend, device.name,
                      type_names[type], other.backend, other.name);
        params->backend = other.backend;
        params->device = other.index;
        return draft_context_create(params, context);
    }
    describe_types(device.types, types);
    program_error("%s, %s, does not take %s: say --type %s%s%s", device.backend, device.name,
                  type_names[type], types, found ? ", or --backend " : "", takers);
    return DRAFT_ERROR_UNSUPPORTED;
}

draft_status program_open(const struct program_device *device, draft_type type, draft_context **out)
{
    struct draft_context_params params = {
        .backend = device->backend, .threads = device->threads, .log = program_log()};
    const char *variable = getenv("DRAFT_BACKEND");
    bool named = device->backend || device->device || (variable && *variable);
    char *end = NULL;
    unsigned long index = device->device ? strtoul(device->device, &end, 10) : 0;
    bool is_index = device->device && *device->device >= '0' && *device->device <= '9' && !*end;
    if (is_index && index <= UINT32_MAX)
        params.device = (uint32_t)index;
    else
        params.device_name = device->device;
    struct draft_device_info opened;
    draft_status status = draft_context_create(&params, out);
    if (status != DRAFT_OK)
        return status;
    draft_context_device(*out, &opened);
    return opened.types & 1u << type ? DRAFT_OK : replace_device(named, type, &params, out);
}

/* ---- Tables ------------------------------------------------------------------------------- */

enum { TABLE_COLUMNS = 24, TABLE_HEADING = '\f' /* the first character of a heading */ };

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

void program_table_heading(struct program_table *table, const char *format, ...)
{
    char text[1024] = {TABLE_HEADING};
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text + 1, sizeof text - 1, format, arguments);
    va_end(arguments);
    program_table_add(table, "%s", text);
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
    if (*row == TABLE_HEADING) {
        printf("%s\n", row + 1);
        return;
    }
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
        for (unsigned c = 0; row && *row != TABLE_HEADING && c < TABLE_COLUMNS; c++) {
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
    cJSON *array = cJSON_CreateArray();
    for (unsigned t = DRAFT_F16; t <= DRAFT_F32; t++)
        if (types & 1u << t)
            cJSON_AddItemToArray(array, cJSON_CreateString(type_names[t]));
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
