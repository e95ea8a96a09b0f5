/* SPDX-License-Identifier: MIT
 *
 * `draft demo`: q, k and v with the structure of a video transformer's, attended densely, by the
 * paper's rule and by this library's, side by side. */
#include "demo.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "platform.h"
#include "posix.h"
#include "report.h"

/* Grids of real models; the first is small. */
static const struct model {
    const char *name;
    uint32_t prefix, frames, height, width, suffix, heads;
} models[] = {
    {"small", 0, 8, 30, 52, 64, 6},           {"hunyuan-720p", 0, 33, 45, 80, 256, 24},
    {"hunyuan-768p", 0, 33, 48, 80, 256, 24}, {"wan-480p", 0, 21, 30, 52, 0, 40},
    {"wan-720p", 0, 21, 45, 80, 0, 40},       {"minimax-h3", 1234, 102, 24, 42, 0, 56},
};
enum { MODELS = sizeof models / sizeof *models };
static const char *const model_names[] = {
    "small", "hunyuan-720p", "hunyuan-768p", "wan-480p", "wan-720p", "minimax-h3", NULL};
_Static_assert(sizeof model_names / sizeof *model_names == MODELS + 1, "one name for each model");

struct request {
    uint32_t model, grid[3], frames, prefix, suffix, heads, dim, type, regime, head;
    uint64_t seed;
    double sparsity;
    bool grid_given, prefix_given, suffix_given, head_given, json;
    const char *folder;
    struct program_device device;
};

/* ---- Shape ----------------------------------------------------------------------------------- */

/* As many of the model's heads as dense attention does in about a minute. */
static uint32_t affordable_heads(const struct draft_shape *s, uint32_t heads)
{
    const double budget = 3e12; /* flops: a minute at 50 GFLOP/s */
    double tokens = (double)s->frames * s->height * s->width + s->prefix + s->suffix;
    double most = floor(budget / (4 * tokens * tokens * s->dim));
    return most < 1 ? 1 : most < heads ? (uint32_t)most : heads;
}

static struct draft_shape make_shape(const struct request *r)
{
    const struct model *m = &models[r->model];
    struct draft_shape s = {1, m->prefix, m->frames, m->height, m->width, m->suffix, 0, 0, r->dim};
    if (r->grid_given) {
        s.frames = r->grid[0], s.height = r->grid[1], s.width = r->grid[2];
        s.prefix = s.suffix = 0;
    }
    if (r->frames)
        s.frames = r->frames;
    if (r->prefix_given)
        s.prefix = r->prefix;
    if (r->suffix_given)
        s.suffix = r->suffix;
    s.heads = r->heads ? r->heads : affordable_heads(&s, m->heads);
    return s;
}

/* Inputs, outputs of two methods on the host, buffers on the device, the generator. */
static bool memory_suffices(const struct demo *d)
{
    double needed = (double)d->sizes.q * (double)job_type_size(d->type) * 9 +
                    (double)generate_memory(&d->shape);
    double machine = (double)draft_memory_size();
    if (needed <= 0.9 * machine)
        return true;
    program_error("this needs about %.1f GB of memory, the machine has %.1f: take fewer --heads or "
                  "--frames",
                  1e-9 * needed, 1e-9 * machine);
    return false;
}

static void make_inputs(struct demo *d)
{
    size_t size = job_type_size(d->type), row = (size_t)d->shape.dim * size;
    d->q = program_calloc(d->sizes.q, size);
    d->k = program_calloc(d->sizes.q, size);
    d->v = program_calloc(d->sizes.q, size);
    struct program_progress *progress = program_progress_begin("generate", d->shape.heads);
    for (uint32_t h = 0; h < d->shape.heads; h++) {
        struct generate_target target = {d->q + h * row, d->k + h * row, d->v + h * row, d->type,
                                         (uint64_t)d->shape.heads * d->shape.dim};
        generate_head(d->generate, h, &target);
        program_progress_set(progress, h + 1, NULL);
    }
    program_progress_end(progress);
}

/* ---- Methods --------------------------------------------------------------------------------- */

static void set_methods(struct demo *d, double sparsity)
{
    static const char *const names[DEMO_METHODS] = {"dense", "paper", "drop", "default"};
    for (int i = 0; i < DEMO_METHODS; i++) {
        d->methods[i].name = names[i];
        d->methods[i].params = (struct draft_plan_params){
            .shape = d->shape, .type = d->type, .sparsity = i ? sparsity : 0};
    }
    d->methods[DEMO_PAPER].params.rule = DRAFT_RULE_PAPER;
    d->methods[DEMO_DROP].params.tail = DRAFT_TAIL_DROP;
}

/* The map and the lists of the head that the pictures show. */
static draft_status keep_head(const struct demo *d, const struct job *job, struct demo_method *m)
{
    size_t s = m->layout.video_blocks, b = m->layout.blocks;
    m->map = program_calloc(s * s, sizeof *m->map);
    m->counts = program_calloc(b, sizeof *m->counts);
    m->lists = program_calloc(b * b, sizeof *m->lists);
    draft_address w = job->workspace;
    draft_status status =
        draft_read(job->context, m->map, w + m->layout.map + d->head * s * s * sizeof *m->map,
                   s * s * sizeof *m->map);
    if (!status)
        status = draft_read(job->context, m->counts,
                            w + m->layout.counts + d->head * b * sizeof *m->counts,
                            b * sizeof *m->counts);
    if (!status)
        status = draft_read(job->context, m->lists,
                            w + m->layout.lists + d->head * b * b * sizeof *m->lists,
                            b * b * sizeof *m->lists);
    return status;
}

/* Run one method and leave its result in out and lse. */
static draft_status run_method(const struct demo *d, draft_context *context,
                               const struct job_buffers *buffers, struct demo_method *m, void *out,
                               float *lse)
{
    struct job job = {0};
    draft_status status = job_create(context, &m->params, &job);
    if (!status) {
        m->layout = job.layout;
        m->kernel = draft_plan_kernel(job.plan, DRAFT_ATTEND);
        status = job_run(&job, buffers, &m->times);
    }
    if (!status)
        status = draft_density_read(job.plan, job.workspace, &m->density);
    if (!status)
        status = keep_head(d, &job, m);
    if (!status)
        status = job_buffers_read(buffers, out, lse);
    if (!status) /* recall is made of these */
        status = job_kept_lse(&job, buffers, lse);
    job_destroy(&job);
    return status;
}

static draft_status run_methods(struct demo *d, draft_context *context, void *dense,
                                float *dense_lse)
{
    struct job_buffers buffers = {0};
    draft_status status =
        job_buffers_create(context, &d->shape, d->type, d->q, d->k, d->v, NULL, &buffers);
    void *out = program_calloc(d->sizes.q, job_type_size(d->type));
    float *lse = program_calloc(d->sizes.lse, sizeof *lse);
    struct program_progress *progress = program_progress_begin("attend", DEMO_METHODS);
    for (int i = 0; i < DEMO_METHODS && !status; i++) {
        struct demo_method *m = &d->methods[i];
        program_progress_set(progress, (uint64_t)i, m->name);
        status = run_method(d, context, &buffers, m, i ? out : dense, i ? lse : dense_lse);
        if (!status && i)
            job_compare(&d->shape, d->type, out, dense, lse, dense_lse, &m->fidelity);
    }
    program_progress_end(progress);
    free(lse);
    free(out);
    job_buffers_destroy(&buffers);
    return status;
}

/* ---- Dense against double ------------------------------------------------------------------ */

enum { SPOT_ROWS = 4 }; /* of each head */

void demo_softmax(const struct demo *d, uint32_t head, uint64_t token, double *weights)
{
    uint32_t dim = d->shape.dim;
    size_t size = job_type_size(d->type);
    float query[128], key[128];
    double most = -INFINITY, sum = 0;
    job_to_f32(d->type, query, d->q + (token * d->shape.heads + head) * dim * size, dim);
    for (uint64_t t = 0; t < d->sizes.tokens; t++) {
        double logit = 0;
        job_to_f32(d->type, key, d->k + (t * d->shape.heads + head) * dim * size, dim);
        for (uint32_t i = 0; i < dim; i++)
            logit += (double)query[i] * (double)key[i];
        weights[t] = logit / sqrt(dim);
        most = fmax(most, weights[t]);
    }
    for (uint64_t t = 0; t < d->sizes.tokens; t++)
        sum += weights[t] = exp(weights[t] - most);
    for (uint64_t t = 0; t < d->sizes.tokens; t++)
        weights[t] /= sum;
}

/* out of one row, in double, from the numbers that the library got. */
static void exact_row(const struct demo *d, uint32_t head, uint64_t token, double *out)
{
    uint32_t dim = d->shape.dim;
    size_t size = job_type_size(d->type);
    float row[128];
    double *weights = program_calloc(d->sizes.tokens, sizeof *weights);
    demo_softmax(d, head, token, weights);
    memset(out, 0, dim * sizeof *out);
    for (uint64_t t = 0; t < d->sizes.tokens; t++) {
        job_to_f32(d->type, row, d->v + (t * d->shape.heads + head) * dim * size, dim);
        for (uint32_t i = 0; i < dim; i++)
            out[i] += weights[t] * (double)row[i];
    }
    free(weights);
}

/* Relative L2 of the dense result over some rows of each head. */
static double spot_check(const struct demo *d, const unsigned char *dense)
{
    uint32_t dim = d->shape.dim;
    double difference = 0, all = 0;
    for (uint32_t h = 0; h < d->shape.heads; h++)
        for (uint64_t n = 0; n < SPOT_ROWS; n++) {
            uint64_t token = (2 * n + 1) * d->sizes.tokens / (2 * SPOT_ROWS);
            double exact[128];
            float row[128];
            exact_row(d, h, token, exact);
            job_to_f32(d->type, row,
                       dense + (token * d->shape.heads + h) * dim * job_type_size(d->type), dim);
            for (uint32_t i = 0; i < dim; i++) {
                difference += ((double)row[i] - exact[i]) * ((double)row[i] - exact[i]);
                all += exact[i] * exact[i];
            }
        }
    return sqrt(difference / all);
}

/* ---- Reports --------------------------------------------------------------------------------- */

static void print_choices(const struct request *r, const struct demo *d,
                          const struct draft_device_info *device)
{
    const struct draft_shape *s = &d->shape;
    printf("%s, %s, kernel %s\n", device->backend, device->name, d->methods[DEMO_DENSE].kernel);
    printf("%u text + %ux%ux%u video + %u text = %llu tokens, ", s->prefix, s->frames, s->height,
           s->width, s->suffix, (unsigned long long)d->sizes.tokens);
    if (r->grid_given || r->model == 0)
        printf("%u heads", s->heads);
    else
        printf("%u of the %u heads of %s", s->heads, models[r->model].heads, models[r->model].name);
    printf(" of %u, %s; made-up layer: %s, seed %llu\n", s->dim, job_type_names[d->type - 1],
           generate_regime_names[d->regime], (unsigned long long)d->seed);
    if (!r->grid_given && s->frames < models[r->model].frames)
        printf("frames: %u of %u\n", s->frames, models[r->model].frames);
}

static void print_table(const struct demo *d, double sparsity, double noise)
{
    double dense = report_total(d->methods[DEMO_DENSE].times.stage);
    struct program_table *table = program_table_create(
        "method\ttile\t>pool ms\t>score\t>select\t>attend\t>all\t>speed-up\t>kept\t>work\t>error\t"
        ">worst head\t>recall\t>5th pct\t>empty rows");
    for (int i = 0; i < DEMO_METHODS; i++) {
        const struct demo_method *m = &d->methods[i];
        const double *t = m->times.stage;
        const struct draft_tile tile = m->layout.tile;
        char fidelity[96] = "\t\t\t";
        if (i)
            snprintf(fidelity, sizeof fidelity, "%.3f\t%.3f\t%.1f %%\t%.1f %%",
                     m->fidelity.relative, m->fidelity.worst_relative, 100 * m->fidelity.recall,
                     100 * m->fidelity.recall_p5);
        program_table_add(table,
                          "%s\t%ux%ux%u\t%.1f\t%.1f\t%.1f\t%.0f\t%.0f\t%.2f x\t%.2f %%\t%.2f %%\t"
                          "%s\t%llu",
                          m->name, tile.t, tile.h, tile.w, 1e3 * t[0], 1e3 * t[1], 1e3 * t[2],
                          1e3 * t[3], 1e3 * report_total(t), dense / report_total(t),
                          100 * m->density.video, 100 * (m->density.work + m->density.tail),
                          fidelity, (unsigned long long)m->density.empty_rows);
    }
    printf("sparsity %g; error: relative L2 against dense; dense against double: %.1e\n\n",
           sparsity, noise);
    program_table_print(table);
    printf("\npaper: the reference's rule and tile; default: this library's settings, with one "
           "pooled\n"
           "key for each block that is left out; drop: nothing in their place.\n"
           "kept: pairs of video blocks; work: pairs of tokens, pooled keys counted; recall: share "
           "of\n"
           "dense attention's mass on the kept keys.\n");
}

static void measure_heads(struct demo *d)
{
    enum { QUERIES = 32 }; /* of each head */
    d->measured = d->shape.heads < DEMO_MEASURED ? d->shape.heads : DEMO_MEASURED;
    struct program_progress *progress = program_progress_begin("statistics", d->measured);
    for (uint32_t h = 0; h < d->measured; h++) {
        generate_measure(d->generate, h, QUERIES, &d->statistics[h]);
        program_progress_set(progress, h + 1, NULL);
    }
    program_progress_end(progress);
}

static double statistic(const struct demo *d, uint32_t head, const struct generate_published *p)
{
    double value;
    memcpy(&value, (const char *)&d->statistics[head] + p->offset, sizeof value);
    return value;
}

/* The generator's statistics beside what is published for real models. */
static void print_statistics(const struct demo *d)
{
    struct program_table *table = program_table_create(
        "made-up layer\t>mean of heads\t>least\t>most\tpublished for real ones");
    for (const struct generate_published *p = generate_published; p->name; p++) {
        double sum = 0, least = INFINITY, most = 0;
        for (uint32_t h = 0; h < d->measured; h++) {
            double value = statistic(d, h, p);
            sum += value;
            least = fmin(least, value);
            most = fmax(most, value);
        }
        program_table_add(table, "%s\t%.3g\t%.3g\t%.3g\t%s", p->name, sum / d->measured, least,
                          most, p->range);
    }
    putchar('\n');
    program_table_print(table);
}

static cJSON *statistics_json(const struct demo *d)
{
    cJSON *array = cJSON_CreateArray();
    for (uint32_t h = 0; h < d->measured; h++) {
        cJSON *json = cJSON_CreateObject();
        cJSON_AddNumberToObject(json, "head", h);
        cJSON_AddStringToObject(json, "kind", generate_kind_names[generate_kind(h)]);
        for (const struct generate_published *p = generate_published; p->name; p++)
            cJSON_AddNumberToObject(json, p->name, statistic(d, h, p));
        cJSON_AddItemToArray(array, json);
    }
    return array;
}

static cJSON *method_json(const struct demo_method *m, int dense)
{
    cJSON *json = cJSON_CreateObject();
    cJSON_AddStringToObject(json, "method", m->name);
    cJSON_AddStringToObject(json, "attend_kernel", m->kernel);
    report_json_plan(json, &m->params, &m->layout);
    cJSON *stages = cJSON_AddObjectToObject(json, "seconds");
    for (unsigned s = 0; s < JOB_STAGES; s++)
        cJSON_AddNumberToObject(stages, job_stage_names[s], m->times.stage[s]);
    cJSON_AddItemToObject(json, "density", report_json_density(&m->density));
    if (dense)
        return json;
    cJSON_AddNumberToObject(json, "relative_error", m->fidelity.relative);
    cJSON_AddNumberToObject(json, "worst_head_error", m->fidelity.worst_relative);
    cJSON_AddNumberToObject(json, "worst_head", m->fidelity.worst_head);
    cJSON_AddNumberToObject(json, "cosine", m->fidelity.cosine);
    cJSON_AddNumberToObject(json, "recall", m->fidelity.recall);
    cJSON_AddNumberToObject(json, "recall_p5", m->fidelity.recall_p5);
    cJSON_AddNumberToObject(json, "not_finite", (double)m->fidelity.not_finite);
    return json;
}

static int print_json(const struct demo *d, const struct draft_device_info *device, double sparsity,
                      double noise, const char *folder)
{
    cJSON *json = cJSON_CreateObject();
    cJSON_AddItemToObject(json, "device", program_json_device(device));
    cJSON_AddNumberToObject(json, "sparsity", sparsity);
    cJSON_AddStringToObject(json, "regime", generate_regime_names[d->regime]);
    cJSON_AddNumberToObject(json, "seed", (double)d->seed);
    cJSON_AddNumberToObject(json, "dense_against_double", noise);
    cJSON_AddStringToObject(json, "pictures", folder);
    cJSON *methods = cJSON_AddArrayToObject(json, "methods");
    for (int i = 0; i < DEMO_METHODS; i++)
        cJSON_AddItemToArray(methods, method_json(&d->methods[i], i == DEMO_DENSE));
    cJSON_AddItemToObject(json, "statistics", statistics_json(d));
    return program_json_print(json);
}

/* ---- The command --------------------------------------------------------------------------- */

static void free_demo(struct demo *d)
{
    for (int i = 0; i < DEMO_METHODS; i++) {
        free(d->methods[i].map);
        free(d->methods[i].counts);
        free(d->methods[i].lists);
    }
    free(d->q);
    free(d->k);
    free(d->v);
    generate_destroy(d->generate);
}

static int report(const struct request *r, struct demo *d, const struct draft_device_info *device,
                  double noise)
{
    measure_heads(d);
    if (!demo_draw(d, r->folder))
        return PROGRAM_USAGE;
    if (r->json)
        return print_json(d, device, r->sparsity, noise, r->folder);
    print_choices(r, d, device);
    print_table(d, r->sparsity, noise);
    print_statistics(d);
    printf("\npictures: %s/overview.png, map.png, kept.png, query.png\n", r->folder);
    return PROGRAM_OK;
}

static int attend(const struct request *r, struct demo *d, draft_context *context)
{
    struct draft_device_info device;
    draft_context_device(context, &device);
    struct generate_params params = {d->shape, d->regime, d->seed, d->threads, NULL};
    d->generate = generate_create(&params);
    make_inputs(d);
    set_methods(d, r->sparsity);
    void *dense = program_calloc(d->sizes.q, job_type_size(d->type));
    float *dense_lse = program_calloc(d->sizes.lse, sizeof *dense_lse);
    draft_status status = run_methods(d, context, dense, dense_lse);
    double noise = status ? 0 : spot_check(d, dense);
    free(dense_lse);
    free(dense);
    return status ? program_exit_code(status) : report(r, d, &device, noise);
}

/* Plans check all rules of the library; this one is thrown away before the long work starts. */
static draft_status check_shape(draft_context *context, const struct demo *d, double sparsity)
{
    struct draft_plan_params params = {.shape = d->shape, .type = d->type, .sparsity = sparsity};
    draft_plan *plan = NULL;
    draft_status status = draft_plan_create(context, &params, &plan);
    draft_plan_destroy(&plan);
    return status;
}

static int run_demo(const struct request *r)
{
    struct demo d = {.shape = make_shape(r),
                     .type = (draft_type)(r->type + 1),
                     .regime = (enum generate_regime)r->regime,
                     .seed = r->seed,
                     .threads = r->device.threads};
    if (!job_sizes(&d.shape, &d.sizes)) {
        program_error("the shape is larger than memory can be");
        return PROGRAM_USAGE;
    }
    if (r->head_given && r->head >= d.shape.heads) {
        program_error("--head %u: there are heads 0 to %u", r->head, d.shape.heads - 1);
        return PROGRAM_USAGE;
    }
    d.head = r->head < d.shape.heads ? r->head : 0;
    draft_context *context = NULL;
    draft_status status = program_open(&r->device, d.type, &context);
    if (!status)
        status = check_shape(context, &d, r->sparsity);
    int code = status ? program_exit_code(status) : PROGRAM_OK;
    if (!status && !memory_suffices(&d))
        code = PROGRAM_DEVICE;
    if (code == PROGRAM_OK && mkdir(r->folder, 0777) != 0 && errno != EEXIST) {
        program_error("%s: %s", r->folder, strerror(errno));
        code = PROGRAM_USAGE;
    }
    if (code == PROGRAM_OK)
        code = attend(r, &d, context);
    free_demo(&d);
    draft_context_destroy(&context);
    return code;
}

int draft_cmd_demo(int argc, char **argv)
{
    struct request r = {.dim = 128, .sparsity = 0.9, .head = 2, .seed = 1, .folder = "demo"};
    const struct program_option options[] = {
        {"model", 0, PROGRAM_CHOICE, &r.model, "NAME", "grid, text and heads of a real model",
         model_names, NULL},
        {"grid", 0, PROGRAM_GRID, r.grid, "FxHxW", "video tokens, in place of a model's", NULL,
         &r.grid_given},
        {"frames", 0, PROGRAM_COUNT, &r.frames, "N", "latent frames, in place of the model's", NULL,
         NULL},
        {"prefix", 0, PROGRAM_COUNT, &r.prefix, "N", "text tokens before the video", NULL,
         &r.prefix_given},
        {"suffix", 0, PROGRAM_COUNT, &r.suffix, "N", "and after it", NULL, &r.suffix_given},
        {"heads", 0, PROGRAM_COUNT, &r.heads, "N", "default: what takes about a minute", NULL,
         NULL},
        {"dim", 0, PROGRAM_COUNT, &r.dim, "N", "of a head (default 128)", NULL, NULL},
        {"type", 0, PROGRAM_CHOICE, &r.type, "TYPE", "default f16", job_type_names, NULL},
        {"sparsity", 0, PROGRAM_REAL, &r.sparsity, "X", "share of pairs left out (default 0.9)",
         NULL, NULL},
        {"regime", 0, PROGRAM_CHOICE, &r.regime, "NAME", "what the layer is like (default mixed)",
         generate_regime_names, NULL},
        {"head", 0, PROGRAM_COUNT, &r.head, "N", "the head that the pictures show (default 2)",
         NULL, &r.head_given},
        {"seed", 0, PROGRAM_SEED, &r.seed, "N", "default 1", NULL, NULL},
        {"output", 'o', PROGRAM_TEXT, &r.folder, "FOLDER", "of the pictures (default demo)", NULL,
         NULL},
        PROGRAM_DEVICE_OPTIONS(r.device),
        {"json", 0, PROGRAM_FLAG, &r.json, NULL, "print one JSON document", NULL, NULL},
        {0}};
    struct program_command command = {
        .usage = "demo [--model NAME | --grid FxHxW] [options]",
        .help = "Make q, k and v with the structure of a video transformer's from a seed, attend\n"
                "densely, by the paper's rule and by this library's, compare, draw pictures.",
        .options = options};
    int code = program_parse(&command, argc, argv);
    return code < 0 ? run_demo(&r) : code;
}
