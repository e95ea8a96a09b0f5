/* SPDX-License-Identifier: MIT
 *
 * `draft tune`: how sparse may each head of a layer be? Probes of captured tensors at several
 * sparsities, and a line of a schedule (schedule.h) made of them. */
#include "program.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "job.h"
#include "report.h"
#include "run_files.h"
#include "schedule.h"

/* What the command line asks for. */
struct request {
    const char *out, *steps, *layers;
    struct draft_shape shape;
    uint32_t grid[3], tile[3];
    uint32_t type, rule, scorer, tail, blocks, refresh;
    uint64_t seed;
    bool type_given, sparsity_given, error_given, json;
    double sparsity, error, row_floor, scale;
    struct program_reals levels;
    struct program_device device;
    const char *files[3];
    size_t file_count;
};

/* All that it makes. */
struct tune {
    const struct request *request;
    struct run_inputs inputs;
    struct draft_plan_params params;
    draft_context *context;
    struct draft_device_info device;
    struct job_buffers buffers;
    double *errors; /* [heads][levels] */
    double *chosen; /* [heads]         */
    struct schedule_line line;
    char *before; /* what the schedule's file held */
    size_t before_size;
    struct program_output *file;
};

static const double usual_levels[] = {0.97, 0.95, 0.925, 0.9, 0.85, 0.8, 0.7, 0.5, 0.25, 0};
enum { USUAL_LEVELS = sizeof usual_levels / sizeof *usual_levels };

static int parse(struct request *r, int argc, char **argv)
{
    const struct program_option options[] = {
        {"output", 'o', PROGRAM_TEXT, &r->out, "FILE", "add a line to this schedule", NULL, NULL},
        {"steps", 0, PROGRAM_TEXT, &r->steps, "N|A-B", "denoising steps of that line (default *)",
         NULL, NULL},
        {"layers", 0, PROGRAM_TEXT, &r->layers, "N|A-B", "its layers (default *)", NULL, NULL},
        {"refresh", 0, PROGRAM_COUNT, &r->refresh, "N", "make lists every N steps (default 1)",
         NULL, NULL},
        {"sparsity", 0, PROGRAM_REAL, &r->sparsity, "X",
         "on average over the heads, at least (default 0.9)", NULL, &r->sparsity_given},
        {"error", 0, PROGRAM_REAL, &r->error, "X",
         "in place of it: each head as sparse as an error of X allows", NULL, &r->error_given},
        {"levels", 0, PROGRAM_REALS, &r->levels, "X,X,...", "sparsities that are tried", NULL,
         NULL},
        {"blocks", 0, PROGRAM_COUNT, &r->blocks, "N", "query blocks of a probe (default 4)", NULL,
         NULL},
        {"seed", 0, PROGRAM_SEED, &r->seed, "N", "which ones", NULL, NULL},
        {"grid", 0, PROGRAM_GRID, r->grid, "FxHxW", "video tokens: frames x height x width", NULL,
         NULL},
        {"prefix", 0, PROGRAM_COUNT, &r->shape.prefix, "N", "text tokens before the video", NULL,
         NULL},
        {"suffix", 0, PROGRAM_COUNT, &r->shape.suffix, "N", "text tokens after the video", NULL,
         NULL},
        {"tile", 0, PROGRAM_GRID, r->tile, "TxHxW", "tokens of a block (default: chosen)", NULL,
         NULL},
        {"rule", 0, PROGRAM_CHOICE, &r->rule, "RULE", "head or row", job_rule_names, NULL},
        {"row-floor", 0, PROGRAM_REAL, &r->row_floor, "X", "as for draft run", NULL, NULL},
        {"score", 0, PROGRAM_CHOICE, &r->scorer, "SCORER", "as for draft run", job_scorer_names,
         NULL},
        {"tail", 0, PROGRAM_CHOICE, &r->tail, "TAIL", "as for draft run", job_tail_names, NULL},
        {"scale", 0, PROGRAM_REAL, &r->scale, "X", "of the logits (default 1 / sqrt(dim))", NULL,
         NULL},
        {"type", 0, PROGRAM_CHOICE, &r->type, "TYPE", "convert inputs of other types",
         job_type_names, &r->type_given},
        PROGRAM_DEVICE_OPTIONS(r->device),
        {"json", 0, PROGRAM_FLAG, &r->json, NULL, "print one JSON document", NULL, NULL},
        {0}};
    struct program_command command = {
        .usage = "tune Q K V --grid FxHxW [-o SCHEDULE] [options]",
        .help = "Q, K, V: as for draft run, of one layer at one denoising step. The errors are "
                "relative L2\ndistances from dense attention over a few query blocks.",
        .options = options,
        .operands = r->files,
        .operand_capacity = 3};
    int code = program_parse(&command, argc, argv);
    r->file_count = command.operand_count;
    return code;
}

static int usage(const char *message)
{
    program_error("%s; see draft tune --help", message);
    return PROGRAM_USAGE;
}

/* What can be checked before any file is opened. -1 to go on. */
static int check_request(struct request *r)
{
    r->shape.frames = r->grid[0];
    r->shape.height = r->grid[1];
    r->shape.width = r->grid[2];
    if (!r->file_count)
        return usage("no input");
    if (!r->grid[0])
        return usage("--grid is missing");
    if (r->rule == DRAFT_RULE_MASS || r->rule == DRAFT_RULE_PAPER)
        return usage("--rule must be head or row: the others have no sparsity of their own");
    if (r->error_given && r->sparsity_given)
        return usage("--error goes without --sparsity");
    if (r->error_given && !(r->error > 0))
        return usage("--error must be above 0");
    if (!(r->sparsity >= 0 && r->sparsity < 1))
        return usage("--sparsity must be at least 0 and below 1");
    if (!r->refresh)
        return usage("--refresh must be at least 1");
    for (size_t i = 0; i < r->levels.count; i++)
        if (!(r->levels.values[i] >= 0 && r->levels.values[i] < 1) ||
            (i && !(r->levels.values[i] < r->levels.values[i - 1])))
            return usage("--levels must descend, from below 1 to at least 0");
    return -1;
}

static const double *levels(const struct request *r, uint32_t *count)
{
    *count = r->levels.count ? (uint32_t)r->levels.count : USUAL_LEVELS;
    return r->levels.count ? r->levels.values : usual_levels;
}

/* ---- The schedule's file --------------------------------------------------------------------- */

/* All of a file. False, with a message, where it cannot be read; a file that is not there holds
 * nothing. */
static bool read_before(struct tune *tune, const char *path)
{
    char why[SCHEDULE_ERROR];
    struct schedule schedule;
    FILE *file = fopen(path, "rb");
    if (!file && errno == ENOENT)
        return true;
    bool ok = file && schedule_read(file, &schedule, why);
    if (!ok) {
        program_error("%s: %s", path, file ? why : strerror(errno));
    } else {
        schedule_free(&schedule);
        long size = ftell(file); /* reading went to the end */
        rewind(file);
        tune->before = program_calloc(size > 0 ? (size_t)size : 1, 1);
        tune->before_size = size > 0 ? (size_t)size : 0;
        ok = size > 0 && fread(tune->before, 1, tune->before_size, file) == tune->before_size;
        if (!ok)
            program_error("%s: it cannot be read again", path);
    }
    if (file)
        fclose(file);
    return ok;
}

/* --steps and --layers, read as the first words of a schedule. */
static bool read_ranges(struct tune *tune)
{
    const struct request *r = tune->request;
    char why[SCHEDULE_ERROR];
    struct schedule schedule;
    FILE *file = tmpfile();
    if (!file) {
        program_error("no temporary file: %s", strerror(errno));
        return false;
    }
    fprintf(file, "draft schedule 1\n%s %s 1 0\n", r->steps ? r->steps : "*",
            r->layers ? r->layers : "*");
    rewind(file);
    bool ok = schedule_read(file, &schedule, why);
    fclose(file);
    if (!ok || schedule.count != 1) {
        program_error("--steps or --layers: %s", ok ? "more than one range" : why);
        return false;
    }
    tune->line = schedule.lines[0];
    tune->line.sparsity = NULL;
    tune->line.refresh = r->refresh;
    schedule_free(&schedule);
    return true;
}

static bool open_output(struct tune *tune)
{
    const struct request *r = tune->request;
    if (!read_ranges(tune))
        return false;
    if (!r->out)
        return true;
    if (!run_output_is_new(r->out, (const char **)r->files, r->file_count) ||
        !read_before(tune, r->out))
        return false;
    tune->file = program_output_open(r->out);
    return tune->file != NULL;
}

static bool write_output(struct tune *tune)
{
    if (!tune->file)
        return true;
    FILE *file = program_output_file(tune->file);
    if (tune->before_size) {
        fwrite(tune->before, 1, tune->before_size, file);
        if (tune->before[tune->before_size - 1] != '\n')
            fputc('\n', file);
    } else {
        schedule_write_header(file);
    }
    schedule_write_line(file, &tune->line);
    bool ok = program_output_commit(tune->file);
    tune->file = NULL;
    return ok;
}

/* ---- Probes ---------------------------------------------------------------------------------- */

static bool open_inputs(struct tune *tune)
{
    const struct request *r = tune->request;
    struct draft_shape shape = r->shape;
    draft_type wanted = r->type_given ? (draft_type)(r->type + 1) : (draft_type)0;
    if (!run_inputs_open((const char **)r->files, r->file_count, wanted, &tune->inputs) ||
        !run_inputs_shape(&tune->inputs, &shape))
        return false;
    tune->params = (struct draft_plan_params){
        .shape = shape,
        .type = tune->inputs.q.tensor.type,
        .tile = {r->tile[0], r->tile[1], r->tile[2]},
        .rule = (draft_rule)r->rule,
        .scale = (float)r->scale,
        .scorer = (draft_scorer)r->scorer,
        .tail = (draft_tail)r->tail,
        .row_floor = r->row_floor,
    };
    return true;
}

static draft_status prepare(struct tune *tune)
{
    draft_status status = program_open(&tune->request->device, tune->params.type, &tune->context);
    if (status != DRAFT_OK)
        return status;
    draft_context_device(tune->context, &tune->device);
    return job_buffers_create(tune->context, &tune->params.shape, tune->params.type,
                              tune->inputs.q.tensor.data, tune->inputs.k.tensor.data,
                              tune->inputs.v.tensor.data, NULL, &tune->buffers);
}

/* Errors of all heads at one sparsity; over samples the largest. */
static draft_status probe_level(struct tune *tune, uint32_t level, uint32_t count, double sparsity)
{
    const struct job_buffers *b = &tune->buffers;
    const struct draft_shape *s = &tune->params.shape;
    struct draft_probe_params params = {.seed = tune->request->seed,
                                        .blocks = tune->request->blocks};
    struct draft_probe *found = program_calloc((size_t)s->batch * s->heads, sizeof *found);
    struct job job = {0};
    tune->params.sparsity = sparsity;
    draft_status status = job_create(tune->context, &tune->params, &job);
    struct draft_run_params run = {
        .q.data = b->q,
        .k.data = b->k,
        .v.data = b->v,
        .out.data = b->out,
        .workspace = job.workspace,
    };
    if (status == DRAFT_OK)
        status = draft_probe_run(job.plan, &run, &params, found);
    for (uint32_t i = 0; i < s->batch * s->heads && status == DRAFT_OK; i++) {
        double *error = &tune->errors[i % s->heads * count + level];
        if (!(found[i].error <= *error)) /* NaN too */
            *error = found[i].error;
    }
    job_destroy(&job);
    free(found);
    return status;
}

static draft_status probe(struct tune *tune)
{
    uint32_t count, heads = tune->params.shape.heads;
    const double *at = levels(tune->request, &count);
    struct program_progress *progress = program_progress_begin("probing", count);
    tune->errors = program_calloc((size_t)heads * count, sizeof *tune->errors);
    draft_status status = DRAFT_OK;
    for (uint32_t i = 0; i < count && status == DRAFT_OK; i++) {
        program_progress_set(progress, i, NULL);
        status = probe_level(tune, i, count, at[i]);
    }
    program_progress_end(progress);
    return status;
}

/* The first level, from the sparsest on, at which a head stays within the error; else dense. */
static double within(const double *errors, const double *at, uint32_t count, double most)
{
    for (uint32_t i = 0; i < count; i++)
        if (errors[i] <= most)
            return at[i];
    return 0;
}

static draft_status choose(struct tune *tune)
{
    const struct request *r = tune->request;
    uint32_t count, heads = tune->params.shape.heads;
    const double *at = levels(r, &count);
    tune->chosen = program_calloc(heads, sizeof *tune->chosen);
    tune->line.sparsity = tune->chosen;
    tune->line.count = heads;
    if (!r->error_given)
        return draft_probe_sparsities(tune->errors, at, count, heads, r->sparsity, tune->chosen);
    for (uint32_t h = 0; h < heads; h++)
        tune->chosen[h] = within(tune->errors + (size_t)h * count, at, count, r->error);
    return DRAFT_OK;
}

/* ---- Reports --------------------------------------------------------------------------------- */

static double mean_sparsity(const struct tune *tune)
{
    double sum = 0;
    for (uint32_t h = 0; h < tune->params.shape.heads; h++)
        sum += tune->chosen[h];
    return sum / tune->params.shape.heads;
}

/* As many levels as fit a terminal; JSON has all. */
static void report(const struct tune *tune)
{
    enum { CELL = 16, MOST = 12 };
    uint32_t count;
    const double *at = levels(tune->request, &count);
    uint32_t shown = count < MOST ? count : MOST;
    char row[(MOST + 1) * CELL] = "head\t>chosen";
    for (uint32_t i = 0; i < shown; i++)
        snprintf(row + strlen(row), CELL, "\t>%.3g", at[i]);
    printf("relative L2 error of each head, by sparsity\n\n");
    struct program_table *table = program_table_create(row);
    for (uint32_t h = 0; h < tune->params.shape.heads; h++) {
        row[0] = '\0';
        for (uint32_t i = 0; i < shown; i++)
            snprintf(row + strlen(row), CELL, "\t%.4f", tune->errors[(size_t)h * count + i]);
        program_table_add(table, "%u\t%.3g%s", h, tune->chosen[h], row);
    }
    program_table_add(table, "mean\t%.4f", mean_sparsity(tune));
    program_table_print(table);
}

static int report_json(const struct tune *tune)
{
    uint32_t count;
    const double *at = levels(tune->request, &count);
    cJSON *json = cJSON_CreateObject(), *heads = cJSON_CreateArray();
    cJSON_AddItemToObject(json, "device", program_json_device(&tune->device));
    cJSON_AddItemToObject(json, "levels", cJSON_CreateDoubleArray(at, (int)count));
    for (uint32_t h = 0; h < tune->params.shape.heads; h++) {
        cJSON *head = cJSON_CreateObject();
        cJSON_AddNumberToObject(head, "sparsity", tune->chosen[h]);
        cJSON_AddItemToObject(
            head, "errors", cJSON_CreateDoubleArray(tune->errors + (size_t)h * count, (int)count));
        cJSON_AddItemToArray(heads, head);
    }
    cJSON_AddItemToObject(json, "heads", heads);
    cJSON_AddNumberToObject(json, "mean_sparsity", mean_sparsity(tune));
    return program_json_print(json);
}

/* ---- Course of the command ------------------------------------------------------------------- */

static int execute(struct tune *tune)
{
    if (!open_inputs(tune) || !open_output(tune))
        return PROGRAM_USAGE;
    draft_status status = prepare(tune);
    if (status == DRAFT_OK)
        status = probe(tune);
    if (status == DRAFT_OK)
        status = choose(tune);
    if (status != DRAFT_OK)
        return program_exit_code(status);
    if (!write_output(tune))
        return PROGRAM_USAGE;
    if (tune->request->json)
        return report_json(tune);
    report(tune);
    return PROGRAM_OK;
}

static void release(struct tune *tune)
{
    program_output_discard(tune->file);
    job_buffers_destroy(&tune->buffers);
    draft_context_destroy(&tune->context);
    run_inputs_close(&tune->inputs);
    free(tune->errors);
    free(tune->chosen);
    free(tune->before);
}

int draft_cmd_tune(int argc, char **argv)
{
    struct request request = {.sparsity = 0.9, .refresh = 1};
    struct tune tune = {.request = &request};
    int code = parse(&request, argc, argv);
    if (code < 0)
        code = check_request(&request);
    if (code < 0)
        code = execute(&tune);
    release(&tune);
    free(request.levels.values);
    return code;
}
