/* SPDX-License-Identifier: MIT */
#include "program.h"

#include <stdlib.h>
#include <string.h>

/* "f16 f32" */
static void type_names(uint32_t types, char text[16])
{
    static const char *const names[] = {"", "f16 ", "bf16 ", "f32 "};
    text[0] = 0;
    for (unsigned t = DRAFT_F16; t <= DRAFT_F32; t++)
        if (types & 1u << t)
            strcat(text, names[t]);
}

static int print_json(const struct draft_device_info *devices, size_t count)
{
    cJSON *json = cJSON_CreateObject(), *array = cJSON_AddArrayToObject(json, "devices");
    for (size_t i = 0; i < count; i++)
        cJSON_AddItemToArray(array, program_json_device(&devices[i]));
    return program_json_print(json);
}

/* Is it one GPU, through two backends? */
static bool same_gpu(const struct draft_device_info *a, const struct draft_device_info *b)
{
    static const uint8_t unknown[sizeof a->uuid];
    return memcmp(a->uuid, unknown, sizeof unknown) != 0 &&
           memcmp(a->uuid, b->uuid, sizeof a->uuid) == 0;
}

/* Names are long, and one GPU has the same in each of its backends: each name has a line of its
 * own, above those backends. */
static int print_table(const struct draft_device_info *devices, size_t count)
{
    struct program_table *table =
        program_table_create("  backend\t>index\ttypes\t>memory\tattend\tdriver");
    bool *shown = program_calloc(count, sizeof *shown);
    for (size_t i = 0; i < count; i++) {
        if (shown[i])
            continue;
        program_table_heading(table, "%s", devices[i].name);
        for (size_t j = i; j < count; j++) {
            const struct draft_device_info *d = &devices[j];
            char types[16];
            if (shown[j] || (j != i && !same_gpu(&devices[i], d)))
                continue;
            shown[j] = true;
            type_names(d->types, types);
            program_table_add(table, "  %s\t%u\t%s\t%.1f GiB\t%s\t%s%s", d->backend, d->index,
                              types, (double)d->memory / 0x1p30, d->attend, d->driver,
                              d->software && strcmp(d->backend, "cpu") ? " (software)" : "");
        }
    }
    program_table_print(table);
    free(shown);
    return PROGRAM_OK;
}

int draft_cmd_devices(int argc, char **argv)
{
    bool json = false;
    const struct program_option options[] = {
        {.name = "json", .kind = PROGRAM_FLAG, .value = &json, .help = "print one JSON document"},
        {0}};
    struct program_command command = {
        .usage = "devices [--json]",
        .help = "List every device of every backend, the best backend first. DRAFT_LOG=info tells\n"
                "why a backend has none.",
        .options = options};
    int code = program_parse(&command, argc, argv);
    if (code >= 0)
        return code;

    struct draft_log log = program_log();
    size_t count = 0;
    draft_status status = draft_devices(&log, NULL, &count);
    size_t capacity = count;
    struct draft_device_info *devices = program_calloc(capacity, sizeof *devices);
    if (status == DRAFT_OK)
        status = draft_devices(&log, devices, &count);
    count = count < capacity ? count : capacity;
    if (status != DRAFT_OK)
        code = program_exit_code(status);
    else
        code = json ? print_json(devices, count) : print_table(devices, count);
    free(devices);
    return code;
}
