/* SPDX-License-Identifier: MIT */
#include "verify.h"

#include <math.h>
#include <string.h>

const char *verify_result(const struct tally *t)
{
    return t->failed ? "failed" : t->runs ? "passed" : "refused";
}

size_t verify_count(const struct verify *v, const char *result)
{
    size_t count = 0;
    for (size_t i = 0; i < v->tallies.count; i++)
        count += strcmp(verify_result(&v->tallies.rows[i]), result) == 0;
    return count;
}

bool verify_passed(const struct verify *v)
{
    for (size_t d = 0; d < v->device_count; d++)
        if (!v->devices[d].device.context || v->devices[d].cases == 0)
            return false;
    return verify_count(v, "failed") == 0;
}

static const char *refusal_of(const struct verify *v, const struct cell *cell)
{
    for (size_t i = 0; i < v->refusal_count; i++) {
        const struct cell *other = &v->refusals[i].cell;
        if (cells_same(other, cell))
            return v->refusals[i].reason;
    }
    return "";
}

/* What became of a device as a whole. */
static const char *device_state(const struct verify *v, const struct verify_device *d)
{
    if (!d->device.context)
        return "not opened";
    for (size_t i = 0; i < v->tallies.count; i++)
        if (v->tallies.rows[i].cell.device == &d->device && v->tallies.rows[i].failed)
            return "failed";
    return d->cases ? "passed" : "no case fits its types";
}

/* The last line of the log without its end: the reason where a device was not opened. */
static int last_line(const struct log_memory *log, const char **line)
{
    size_t end = log->used;
    while (end > 0 && log->text[end - 1] == '\n')
        end--;
    size_t start = end;
    while (start > 0 && log->text[start - 1] != '\n')
        start--;
    *line = log->text + start;
    return (int)(end - start);
}

/* The largest error as people read it; select is compared bit by bit. */
static void error_text(const struct tally *t, char text[32])
{
    if (!t->runs || strcmp(t->cell.stage, "select") == 0)
        snprintf(text, 32, "-");
    else
        snprintf(text, 32, t->worst < 1000 ? "%.2f" : "%.3g", t->worst);
}

static void time_text(const struct tally *t, char text[32])
{
    if (t->runs)
        snprintf(text, 32, "%.1f ms", 1e3 * t->seconds);
    else
        snprintf(text, 32, "-");
}

/* "passed, 3 refused"; "refused: the processor lacks ..." */
static void result_text(const struct verify *v, const struct tally *t, char text[256])
{
    const char *result = verify_result(t), *reason = refusal_of(v, &t->cell);
    if (t->runs && t->refused)
        snprintf(text, 256, "%s, %u refused", result, t->refused);
    else
        snprintf(text, 256, "%s%s%s", result, t->runs || !*reason ? "" : ": ",
                 t->runs ? "" : reason);
}

static void summary_text(const struct verify *v, char text[256])
{
    snprintf(text, 256, "%s: %zu stages and variants passed, %zu failed, %zu were refused",
             verify_passed(v) ? "passed" : "FAILED", verify_count(v, "passed"),
             verify_count(v, "failed"), verify_count(v, "refused"));
}

/* ---- For people ---- */

void verify_print(const struct verify *v)
{
    struct program_table *devices = program_table_create("device\tname\tdriver\tresult");
    for (size_t i = 0; i < v->device_count; i++) {
        const struct verify_device *d = &v->devices[i];
        program_table_add(devices, "%s %u\t%s\t%s\t%s", d->device.info.backend,
                          d->device.info.index, d->device.info.name, d->device.info.driver,
                          device_state(v, d));
    }
    program_table_print(devices);
    putchar('\n');
    struct program_table *table = program_table_create(
        "device\tstage\tvariant\t>cases\t>failed\t>error/tolerance\t>time\tresult");
    for (size_t i = 0; i < v->tallies.count; i++) {
        const struct tally *t = &v->tallies.rows[i];
        const struct draft_device_info *info = &t->cell.device->info;
        char error[32], time[32], result[256];
        error_text(t, error);
        time_text(t, time);
        result_text(v, t, result);
        program_table_add(table, "%s %u\t%s\t%s\t%u\t%u\t%s\t%s\t%s", info->backend, info->index,
                          t->cell.stage, t->cell.variant ? t->cell.variant : "default", t->runs,
                          t->failed, error, time, result);
    }
    program_table_print(table);
    char summary[256];
    summary_text(v, summary);
    printf("\n%s\n", summary);
}

/* ---- JSON ---- */

static void json_cell(cJSON *json, const struct cell *cell)
{
    cJSON_AddStringToObject(json, "backend", cell->device->info.backend);
    cJSON_AddNumberToObject(json, "index", cell->device->info.index);
    cJSON_AddStringToObject(json, "stage", cell->stage);
    if (cell->variant)
        cJSON_AddStringToObject(json, "variant", cell->variant);
    else
        cJSON_AddNullToObject(json, "variant");
}

static cJSON *json_tally(const struct verify *v, const struct tally *t)
{
    cJSON *json = cJSON_CreateObject();
    json_cell(json, &t->cell);
    cJSON_AddStringToObject(json, "result", verify_result(t));
    cJSON_AddNumberToObject(json, "cases", t->runs);
    cJSON_AddNumberToObject(json, "failed", t->failed);
    cJSON_AddNumberToObject(json, "refused", t->refused);
    cJSON_AddNumberToObject(json, "mismatches", (double)t->mismatches);
    if (strcmp(t->cell.stage, "select") == 0 || !isfinite(t->worst))
        cJSON_AddNullToObject(json, "worst_error");
    else
        cJSON_AddNumberToObject(json, "worst_error", t->worst);
    cJSON_AddNumberToObject(json, "seconds", t->seconds);
    if (!t->runs)
        cJSON_AddStringToObject(json, "reason", refusal_of(v, &t->cell));
    return json;
}

/* The lines of a text, without the spaces that they begin with. */
static cJSON *json_lines(const char *text)
{
    cJSON *array = cJSON_CreateArray();
    while (*text) {
        text += strspn(text, " \n");
        size_t length = strcspn(text, "\n");
        char line[1024];
        snprintf(line, sizeof line, "%.*s", (int)length, text);
        if (length)
            cJSON_AddItemToArray(array, cJSON_CreateString(line));
        text += length;
    }
    return array;
}

cJSON *verify_json(const struct verify *v)
{
    cJSON *json = cJSON_CreateObject();
    char version[32];
    uint32_t number = draft_version();
    snprintf(version, sizeof version, "%u.%u.%u", number >> 16, number >> 8 & 255, number & 255);
    cJSON_AddStringToObject(json, "version", version);
    cJSON_AddStringToObject(json, "result", verify_passed(v) ? "passed" : "failed");
    cJSON_AddStringToObject(json, "filter", v->filter ? v->filter : "");
    cJSON_AddBoolToObject(json, "quick", v->quick);
    cJSON_AddNumberToObject(json, "cases", (double)v->case_count);
    cJSON_AddNumberToObject(json, "seed", (double)test_seed());
    cJSON *devices = cJSON_AddArrayToObject(json, "devices");
    for (size_t i = 0; i < v->device_count; i++) {
        const struct verify_device *d = &v->devices[i];
        const char *line;
        int length = last_line(&d->device.log, &line);
        cJSON *device = program_json_device(&d->device.info);
        cJSON_AddStringToObject(device, "result", device_state(v, d));
        char reason[256];
        snprintf(reason, sizeof reason, "%.*s", length, line);
        if (!d->device.context)
            cJSON_AddStringToObject(device, "reason", reason);
        cJSON_AddItemToArray(devices, device);
    }
    cJSON *cells = cJSON_AddArrayToObject(json, "cells");
    for (size_t i = 0; i < v->tallies.count; i++)
        cJSON_AddItemToArray(cells, json_tally(v, &v->tallies.rows[i]));
    cJSON *failures = cJSON_AddArrayToObject(json, "failures");
    for (size_t i = 0; i < v->failure_count; i++) {
        cJSON *failure = cJSON_CreateObject();
        json_cell(failure, &v->failures[i].cell);
        cJSON_AddStringToObject(failure, "case", v->failures[i].test);
        cJSON_AddItemToObject(failure, "lines", json_lines(v->failures[i].text));
        cJSON_AddItemToArray(failures, failure);
    }
    return json;
}

/* ---- Markdown ---- */

/* A cell of a table: a bar would end it. */
static void markdown_text(FILE *file, const char *text)
{
    for (; *text; text++)
        fprintf(file, *text == '|' ? "\\|" : *text == '\n' ? " " : "%c", *text);
}

static void markdown_devices(const struct verify *v, FILE *file)
{
    fputs("| device | name | driver | result |\n| --- | --- | --- | --- |\n", file);
    for (size_t i = 0; i < v->device_count; i++) {
        const struct verify_device *d = &v->devices[i];
        const char *line;
        int length = last_line(&d->device.log, &line);
        fprintf(file, "| %s %u | ", d->device.info.backend, d->device.info.index);
        markdown_text(file, d->device.info.name);
        fputs(" | ", file);
        markdown_text(file, d->device.info.driver);
        fprintf(file, " | %s", device_state(v, d));
        if (!d->device.context)
            fprintf(file, ": %.*s", length, line);
        fputs(" |\n", file);
    }
}

void verify_markdown(const struct verify *v, FILE *file)
{
    uint32_t number = draft_version();
    char summary[256];
    summary_text(v, summary);
    fprintf(file,
            "# draft verify %u.%u.%u\n\n%s. %zu case%s%s%s%s%s, seed %llu.\n\n"
            "Each stage of each device, in each variant, against a plain computation in double "
            "precision.\n`error` is the largest one as a share of its tolerance; lists of "
            "`select` are compared bit by bit.\n`all`: the stages in a row, with the variants "
            "that the library chooses.\n\n",
            number >> 16, number >> 8 & 255, number & 255, summary, v->case_count,
            v->case_count == 1 ? "" : "s", v->quick ? ", quick" : "", v->filter ? ", only \"" : "",
            v->filter ? v->filter : "", v->filter ? "\"" : "", (unsigned long long)test_seed());
    markdown_devices(v, file);
    fputs("\n| device | stage | variant | cases | failed | error | time | result |\n"
          "| --- | --- | --- | ---: | ---: | ---: | ---: | --- |\n",
          file);
    for (size_t i = 0; i < v->tallies.count; i++) {
        const struct tally *t = &v->tallies.rows[i];
        char error[32], time[32], result[256];
        error_text(t, error);
        time_text(t, time);
        result_text(v, t, result);
        fprintf(file, "| %s %u | %s | %s | %u | %u | %s | %s | ", t->cell.device->info.backend,
                t->cell.device->info.index, t->cell.stage,
                t->cell.variant ? t->cell.variant : "default", t->runs, t->failed, error, time);
        markdown_text(file, result);
        fputs(" |\n", file);
    }
    for (size_t i = 0; i < v->failure_count; i++) {
        const struct verify_failure *f = &v->failures[i];
        fprintf(file, "%sCase \"%s\", %s:\n\n```\n%s```\n", i ? "\n" : "\n## Mismatches\n\n",
                f->test, cell_name(f->cell.device, f->cell.stage, f->cell.variant), f->text);
    }
}
