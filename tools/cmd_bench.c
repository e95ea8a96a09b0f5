/* SPDX-License-Identifier: MIT
 *
 * `draft bench`: the time of every stage on random numbers. Times do not depend on the numbers, but
 * for how the kept blocks are spread. */
#include "program.h"

#include <stdlib.h>
#include <string.h>

#include "job.h"
#include "report.h"

/* Grids of real models, and small ones of the same proportions. */
static const struct bench_case {
    const char *name;
    uint32_t prefix, frames, height, width, suffix, dim;
} cases[] = {
    {"clip", 0, 5, 30, 52, 128, 128},
    {"clip-64", 0, 5, 30, 52, 128, 64},
    {"tiny", 0, 3, 16, 32, 0, 128},
    {"wan-480p", 0, 21, 30, 52, 0, 128},
    {"wan-720p", 0, 21, 45, 80, 0, 128},
    {"hunyuan-720p", 0, 33, 45, 80, 256, 128},
    {"hunyuan-768p", 0, 33, 48, 80, 256, 128},
    {"minimax-h3", 1234, 102, 24, 42, 0, 128},
};
enum { CASES = sizeof cases / sizeof *cases, CHUNK = 1024 };
/* Their names, in the form that options want. */
static const char *const case_names[] = {"clip",         "clip-64",    "tiny",
                                         "wan-480p",     "wan-720p",   "hunyuan-720p",
                                         "hunyuan-768p", "minimax-h3", NULL};
_Static_assert(sizeof case_names / sizeof *case_names == CASES + 1, "one name for each case");

struct request {
    uint32_t cases, grid[3], prefix, suffix, heads, dim, tile[3], type, rule, scorer, tail, repeat;
    uint64_t seed;
    double row_floor;
    bool grid_given, dim_given, json;
    struct program_reals sparsity;
    struct program_device device;
};

/* What all cases share. */
struct bench {
    const struct request *request;
    draft_context *context;
    struct program_table *table;
    cJSON *results;
    struct program_progress *progress;
    uint64_t done;
};

static uint64_t next_random(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

/* n numbers, nearly normal: the sum of four uniform ones, with variance 1. */
static void *make_numbers(draft_type type, size_t n, uint64_t seed)
{
    float values[CHUNK];
    size_t size = job_type_size(type);
    unsigned char *numbers = program_calloc(n, size);
    for (size_t done = 0; done < n; done += CHUNK) {
        size_t count = n - done < CHUNK ? n - done : CHUNK;
        for (size_t i = 0; i < count; i++) {
            uint64_t r = next_random(&seed);
            uint64_t sum = (r & 0xffff) + (r >> 16 & 0xffff) + (r >> 32 & 0xffff) + (r >> 48);
            values[i] = ((float)sum - 131070.0f) * (1.7320508f / 65536.0f);
        }
        job_from_f32(type, numbers + done * size, values, count);
    }
    return numbers;
}

/* ---- Reports ------------------------------------------------------------------------------ */

/* dense: seconds of dense attend, or 0. */
static void add_rows(struct bench *b, const char *name, double sparsity, const struct job *job,
                     const struct job_timing *timing, const struct draft_density *density,
                     double dense)
{
    for (unsigned s = 0; s <= JOB_STAGES; s++) {
        bool all = s == JOB_STAGES;
        double median = all ? report_total(timing->median) : timing->median[s];
        double least = all ? report_total(timing->least) : timing->least[s];
        char rate[32] = "", share[32] = "";
        if (s == 3)
            snprintf(rate, sizeof rate, "%.1f", 1e-9 * density->flops / median);
        if (dense > 0)
            snprintf(share, sizeof share, "%.2f %%", 100 * median / dense);
        program_table_add(b->table, "%s\t%.4g\t%.2f %%\t%s\t%s\t%.3f\t%.3f\t%s\t%s", s ? "" : name,
                          sparsity, 100 * density->work, all ? "all" : job_stage_names[s],
                          all ? "" : draft_plan_kernel(job->plan, (draft_stage)(1u << s)),
                          1e3 * median, 1e3 * least, rate, share);
    }
}

static void add_json(struct bench *b, const char *name, const struct draft_plan_params *params,
                     double sparsity, const struct job *job, const struct job_timing *timing,
                     const struct draft_density *density, double dense)
{
    cJSON *json = cJSON_CreateObject();
    cJSON_AddStringToObject(json, "case", name);
    cJSON_AddNumberToObject(json, "sparsity", sparsity);
    report_json_plan(json, params, &job->layout);
    cJSON_AddItemToObject(json, "density", report_json_density(density));
    cJSON_AddItemToObject(json, "stages", report_json_stages(job, timing));
    cJSON_AddNumberToObject(json, "median_seconds", report_total(timing->median));
    cJSON_AddNumberToObject(json, "attend_gflops", 1e-9 * density->flops / timing->median[3]);
    if (dense > 0)
        cJSON_AddNumberToObject(json, "share_of_dense", report_total(timing->median) / dense);
    cJSON_AddItemToArray(b->results, json);
}

/* ---- Measurements ------------------------------------------------------------------------- */

/* One case at one sparsity. *dense is set where that is 0. */
static draft_status measure(struct bench *b, const char *name,
                            const struct draft_plan_params *params, double sparsity,
                            const struct job_buffers *buffers, double *dense)
{
    struct job job = {0};
    struct job_timing timing;
    struct draft_density density;
    draft_status status = job_create(b->context, params, &job);
    if (status == DRAFT_OK)
        status = job_measure(&job, buffers, b->request->repeat, b->progress, &b->done, &timing);
    if (status == DRAFT_OK)
        status = draft_density_read(job.plan, job.workspace, &density);
    if (status == DRAFT_OK) {
        if (sparsity == 0)
            *dense = timing.median[3];
        if (b->table)
            add_rows(b, name, sparsity, &job, &timing, &density, *dense);
        else
            add_json(b, name, params, sparsity, &job, &timing, &density, *dense);
    }
    job_destroy(&job);
    return status;
}

static draft_status run_case(struct bench *b, const struct bench_case *c)
{
    const struct request *r = b->request;
    struct draft_plan_params params = {
        .shape = {1, c->prefix, c->frames, c->height, c->width, c->suffix, r->heads, 0, c->dim},
        .type = (draft_type)(r->type + 1),
        .tile = {r->tile[0], r->tile[1], r->tile[2]},
        .rule = (draft_rule)r->rule,
        .scorer = (draft_scorer)r->scorer,
        .tail = (draft_tail)r->tail,
        .row_floor = r->row_floor};
    struct job_sizes sizes;
    struct job_buffers buffers = {0};
    void *numbers[3] = {NULL, NULL, NULL};
    double dense = 0;
    if (!job_sizes(&params.shape, &sizes)) {
        program_error("the shape is larger than memory can be");
        return DRAFT_ERROR_ARGUMENT;
    }
    for (unsigned i = 0; i < 3; i++)
        numbers[i] = make_numbers(params.type, sizes.q, r->seed * 3 + i);
    draft_status status = job_buffers_create(b->context, &params.shape, params.type, numbers[0],
                                             numbers[1], numbers[2], NULL, &buffers);
    for (size_t i = 0; i < r->sparsity.count && status == DRAFT_OK; i++) {
        double sparsity = r->sparsity.values[i];
        params.sparsity = r->rule == DRAFT_RULE_MASS ? 0 : sparsity;
        params.mass = r->rule == DRAFT_RULE_MASS ? 1 - sparsity : 0;
        status = measure(b, c->name, &params, sparsity, &buffers, &dense);
    }
    job_buffers_destroy(&buffers);
    for (unsigned i = 0; i < 3; i++)
        free(numbers[i]);
    return status;
}

/* The case of --grid, or those of --case. */
static draft_status run_cases(struct bench *b)
{
    const struct request *r = b->request;
    draft_status status = DRAFT_OK;
    if (r->grid_given) {
        struct bench_case own = {"--grid",   r->prefix, r->grid[0], r->grid[1],
                                 r->grid[2], r->suffix, r->dim};
        return run_case(b, &own);
    }
    for (unsigned i = 0; i < CASES && status == DRAFT_OK; i++) {
        struct bench_case c = cases[i];
        if (r->dim_given)
            c.dim = r->dim;
        if (r->cases & 1u << i)
            status = run_case(b, &c);
    }
    return status;
}

static int run_bench(const struct request *r)
{
    struct bench b = {.request = r};
    struct draft_device_info device;
    uint64_t count = r->grid_given ? 1 : (uint64_t)__builtin_popcount(r->cases);
    draft_status status = program_open(&r->device, (draft_type)(r->type + 1), &b.context);
    if (status != DRAFT_OK)
        return program_exit_code(status);
    draft_context_device(b.context, &device);
    if (r->json)
        b.results = cJSON_CreateArray();
    else
        b.table = program_table_create("case\t>sparsity\t>kept\tstage\tkernel\t>ms\t>min ms\t"
                                       ">GFLOP/s\t>of dense");
    b.progress = program_progress_begin("bench", count * r->sparsity.count * job_steps(r->repeat));
    status = run_cases(&b);
    program_progress_end(b.progress);
    draft_context_destroy(&b.context);

    if (status != DRAFT_OK) {
        cJSON_Delete(b.results);
        program_table_discard(b.table);
        return program_exit_code(status);
    }
    if (r->json) {
        cJSON *json = cJSON_CreateObject();
        cJSON_AddItemToObject(json, "device", program_json_device(&device));
        cJSON_AddNumberToObject(json, "repeat", r->repeat);
        cJSON_AddItemToObject(json, "results", b.results);
        return program_json_print(json);
    }
    printf("%s, %s; %u head%s, %s; kept and GFLOP/s count pairs of tokens\n\n", device.backend,
           device.name, r->heads, r->heads == 1 ? "" : "s", job_type_names[r->type]);
    program_table_print(b.table);
    return PROGRAM_OK;
}

static int parse(struct request *r, int argc, char **argv)
{
    const struct program_option options[] = {
        {"case", 0, PROGRAM_CHOICES, &r->cases, "NAMES", "by commas, default clip", case_names,
         NULL},
        {"grid", 0, PROGRAM_GRID, r->grid, "FxHxW", "in place of a case", NULL, &r->grid_given},
        {"prefix", 0, PROGRAM_COUNT, &r->prefix, "N", "text tokens before the grid of --grid", NULL,
         NULL},
        {"suffix", 0, PROGRAM_COUNT, &r->suffix, "N", "and after it", NULL, NULL},
        {"heads", 0, PROGRAM_COUNT, &r->heads, "N", "default 1", NULL, NULL},
        {"dim", 0, PROGRAM_COUNT, &r->dim, "N", "of a head (default 128, or the case's)", NULL,
         &r->dim_given},
        {"type", 0, PROGRAM_CHOICE, &r->type, "TYPE", "default f16", job_type_names, NULL},
        {"tile", 0, PROGRAM_GRID, r->tile, "TxHxW", "tokens of a block (default: chosen)", NULL,
         NULL},
        {"rule", 0, PROGRAM_CHOICE, &r->rule, "RULE", "which pairs of blocks are kept",
         job_rule_names, NULL},
        {"score", 0, PROGRAM_CHOICE, &r->scorer, "SCORER", "as for draft run", job_scorer_names,
         NULL},
        {"tail", 0, PROGRAM_CHOICE, &r->tail, "TAIL", "as for draft run", job_tail_names, NULL},
        {"row-floor", 0, PROGRAM_REAL, &r->row_floor, "X", "as for draft run", NULL, NULL},
        {"sparsity", 0, PROGRAM_REALS, &r->sparsity, "X,X,...",
         "default 0,0.5,0.9; 0 is dense, to which later ones\nare compared; --rule mass: 1 - mass",
         NULL, NULL},
        {"repeat", 0, PROGRAM_COUNT, &r->repeat, "N",
         "time N runs after one that is not counted\n(default 3; 1: the first run)", NULL, NULL},
        {"seed", 0, PROGRAM_SEED, &r->seed, "N", "of the random numbers", NULL, NULL},
        PROGRAM_DEVICE_OPTIONS(r->device),
        {"json", 0, PROGRAM_FLAG, &r->json, NULL, "print one JSON document", NULL, NULL},
        {0}};
    struct program_command command = {
        .usage = "bench [--case NAMES | --grid FxHxW] [options]",
        .help =
            "Time every stage on random q, k and v: the median and the least time, the rate of\n"
            "attend over kept pairs, and the share of dense attention's time.",
        .options = options};
    return program_parse(&command, argc, argv);
}

int draft_cmd_bench(int argc, char **argv)
{
    struct request r = {.cases = 1, .heads = 1, .dim = 128, .repeat = 3};
    int code = parse(&r, argc, argv);
    if (code < 0 && (r.repeat > 100000 || !r.repeat)) {
        program_error("--repeat is 1 to 100000; see draft bench --help");
        code = PROGRAM_USAGE;
    }
    if (code < 0) {
        if (!r.sparsity.count) {
            r.sparsity.values = program_calloc(3, sizeof *r.sparsity.values);
            memcpy(r.sparsity.values, (const double[]){0, 0.5, 0.9}, 3 * sizeof(double));
            r.sparsity.count = 3;
        }
        code = run_bench(&r);
    }
    free(r.sparsity.values);
    return code;
}
