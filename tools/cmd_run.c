/* SPDX-License-Identifier: MIT
 *
 * `draft run`: attention over tensors from files. */
#include "program.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "run.h"

static int parse(struct run_request *r, int argc, char **argv)
{
    const struct program_option options[] = {
        {"output", 'o', PROGRAM_TEXT, &r->out, "FILE", "write the result (.npy, .safetensors)",
         NULL, NULL},
        {"lse", 0, PROGRAM_TEXT, &r->lse, "FILE",
         "write the log-sum-exp, f32 [batch, heads, tokens]", NULL, NULL},
        {"grid", 0, PROGRAM_GRID, r->grid, "FxHxW", "video tokens: frames x height x width", NULL,
         &r->grid_given},
        {"frames", 0, PROGRAM_COUNT, &r->shape.frames, "N", "the same in three options", NULL,
         NULL},
        {"height", 0, PROGRAM_COUNT, &r->shape.height, "N", "", NULL, NULL},
        {"width", 0, PROGRAM_COUNT, &r->shape.width, "N", "", NULL, NULL},
        {"prefix", 0, PROGRAM_COUNT, &r->shape.prefix, "N", "text tokens before the video", NULL,
         NULL},
        {"suffix", 0, PROGRAM_COUNT, &r->shape.suffix, "N", "text tokens after the video", NULL,
         NULL},
        {"valid", 0, PROGRAM_REALS, &r->valid, "P,S[,...]",
         "valid prefix and suffix tokens of each sample", NULL, NULL},
        {"tile", 0, PROGRAM_GRID, r->tile, "TxHxW", "tokens of a block (default: chosen)", NULL,
         NULL},
        {"rule", 0, PROGRAM_CHOICE, &r->rule, "RULE", "which pairs of blocks are kept",
         job_rule_names, &r->rule_given},
        {"sparsity", 0, PROGRAM_REAL, &r->sparsity, "X",
         "share of video block pairs left out (default 0.9; 0: dense)", NULL, &r->sparsity_given},
        {"head-sparsity", 0, PROGRAM_REALS, &r->head_sparsity, "X,X,...",
         "the same for each head; @FILE reads them from a file", NULL, NULL},
        {"mass", 0, PROGRAM_REAL, &r->mass, "X", "for --rule mass (default 0.9)", NULL,
         &r->mass_given},
        {"force", 0, PROGRAM_CHOICES, &r->force, "LIST", "pairs kept in any case, by commas",
         job_force_names, &r->force_given},
        {"row-floor", 0, PROGRAM_REAL, &r->row_floor, "X",
         "share of the budget that is spent on each row alike\n(rule head, default 0)", NULL,
         &r->floor_given},
        {"lists", 0, PROGRAM_TEXT, &r->lists, "FILE",
         "keep what this file lists, in place of a rule", NULL, NULL},
        {"save-lists", 0, PROGRAM_TEXT, &r->save_lists, "FILE",
         "write what was kept (.safetensors)", NULL, NULL},
        {"score", 0, PROGRAM_CHOICE, &r->scorer, "SCORER", "what a pair of blocks is scored by",
         job_scorer_names, NULL},
        {"tail", 0, PROGRAM_CHOICE, &r->tail, "TAIL", "what becomes of pairs that are left out",
         job_tail_names, NULL},
        {"factors", 0, PROGRAM_REALS, &r->factors, "X,X,...",
         "of each head, or one for all, for --tail fitted\n(default: a probe finds them)", NULL,
         NULL},
        {"scale", 0, PROGRAM_REAL, &r->scale, "X", "of the logits (default 1 / sqrt(dim))", NULL,
         NULL},
        {"type", 0, PROGRAM_CHOICE, &r->type, "TYPE",
         "attend in this type: inputs of others are converted;\nbf16 reads '<u2' as bf16",
         job_type_names, &r->type_given},
        {"check", 0, PROGRAM_FLAG, &r->check, NULL,
         "compare with dense attention on the same device", NULL, NULL},
        {"tolerance", 0, PROGRAM_REAL, &r->tolerance, "X",
         "exit with 1 where --check finds a larger relative error", NULL, &r->tolerance_given},
        {"repeat", 0, PROGRAM_COUNT, &r->repeat, "N", "time N runs after one that is not counted",
         NULL, NULL},
        PROGRAM_DEVICE_OPTIONS(r->device),
        {"json", 0, PROGRAM_FLAG, &r->json, NULL, "print one JSON document", NULL, NULL},
        {0}};
    struct program_command command = {
        .usage = "run Q K V --grid FxHxW [-o OUT] [options]",
        .help =
            "Q, K, V: .npy or .safetensors files of [tokens, heads, dim] or [batch, tokens, "
            "heads,\ndim] in f16, bf16 or f32. Tensors in a .safetensors file are called q, k "
            "and v, or by\nfile.safetensors:name; one file may hold all three. bf16 in .npy "
            "is '|V2' or '<V2'.\nThe result has the inputs' type, or that of --type.\n\n"
            "Lists are in a .safetensors file: 'counts', U32 [batch, heads, B], how many key "
            "blocks\neach query block keeps, and 'lists', U16 [batch, heads, B, W], which: the "
            "first `count`\nof each row, ascending. B: the blocks of a sample, numbered prefix, "
            "video in raster\norder of its tiles, suffix; W: up to B. From other programs also "
            "I32 and I64.",
        .options = options,
        .operands = r->files,
        .operand_capacity = 3};
    int code = program_parse(&command, argc, argv);
    r->file_count = command.operand_count;
    return code;
}

static int usage(const char *message)
{
    program_error("%s; see draft run --help", message);
    return PROGRAM_USAGE;
}

/* Whether the paths name the same file, whatever tensors in it. */
static bool same(const char *a, const char *b)
{
    char *file[2] = {NULL, NULL};
    if (a && b) {
        tensor_path_split(a, &file[0]);
        tensor_path_split(b, &file[1]);
    }
    bool equal = file[0] && file[1] && strcmp(file[0], file[1]) == 0;
    free(file[0]);
    free(file[1]);
    return equal;
}

/* Lists take a whole file, in which their tensors have names of their own. */
static bool names_tensor(const char *path)
{
    char *file = NULL;
    bool named = path && tensor_path_split(path, &file);
    free(file);
    return named;
}

/* What can be checked before any file is opened. -1 to go on. */
static int check_request(struct run_request *r)
{
    if (r->grid_given && (r->shape.frames || r->shape.height || r->shape.width))
        return usage("--grid goes without --frames, --height and --width");
    if (r->tolerance_given && !r->check)
        return usage("--tolerance needs --check");
    if (r->repeat > 100000)
        return usage("--repeat is at most 100000");
    if (r->rule == DRAFT_RULE_MASS && !r->sparsity_given)
        r->sparsity = 0; /* the default is for the other rules */
    if (same(r->out, r->lse) || same(r->out, r->save_lists) || same(r->lse, r->save_lists))
        return usage("two of --output, --lse and --save-lists name the same file");
    if (names_tensor(r->lists) || names_tensor(r->save_lists))
        return usage("--lists and --save-lists name a file, not a tensor in it");
    if (r->lists && (r->rule_given || r->sparsity_given || r->mass_given || r->force_given ||
                     r->floor_given || r->head_sparsity.count))
        return usage("--lists goes without the options of a rule: --rule, --sparsity, "
                     "--head-sparsity, --mass, --force, --row-floor");
    if (r->grid_given) {
        r->shape.frames = r->grid[0];
        r->shape.height = r->grid[1];
        r->shape.width = r->grid[2];
    }
    return -1;
}

/* --valid as the library wants it. */
static bool convert_valid(struct run *run)
{
    const struct program_reals *list = &run->request->valid;
    if (!list->count)
        return true;
    if (list->count != (size_t)run->params.shape.batch * 2) {
        program_error("--valid has %zu numbers: two for each of %u samples are needed", list->count,
                      run->params.shape.batch);
        return false;
    }
    run->valid = program_calloc(list->count, sizeof *run->valid);
    for (size_t i = 0; i < list->count; i++) {
        double x = list->values[i];
        if (!(x >= 0 && x <= UINT32_MAX) || x != floor(x)) {
            program_error("--valid: %g is no number of tokens", x);
            return false;
        }
        run->valid[i] = (uint32_t)x;
    }
    return true;
}

static bool check_factors(const struct run *run)
{
    size_t count = run->request->factors.count;
    if (count && run->params.tail != DRAFT_TAIL_FITTED) {
        program_error("--factors needs --tail fitted");
        return false;
    }
    if (count > 1 && count != run->params.shape.heads) {
        program_error("--factors has %zu numbers, q has %u heads", count, run->params.shape.heads);
        return false;
    }
    return true;
}

/* What the library finds, with the time that takes. */
static draft_status probe(struct run *run)
{
    const struct job_buffers *b = &run->buffers;
    size_t count = (size_t)run->params.shape.batch * run->params.shape.heads;
    struct draft_run_params params = {.q.data = b->q,
                                      .k.data = b->k,
                                      .v.data = b->v,
                                      .workspace = run->job.workspace,
                                      .valid = b->valid};
    run->probe = program_calloc(count, sizeof *run->probe);
    double start = program_now();
    draft_status status = draft_probe_run(run->job.plan, &params, NULL, run->probe);
    run->probe_seconds = program_now() - start;
    return status;
}

/* --factors, the same for each sample; without, those of a probe. */
static draft_status find_factors(struct run *run)
{
    const struct program_reals *list = &run->request->factors;
    size_t heads = run->params.shape.heads, count = run->params.shape.batch * heads;
    if (run->params.tail != DRAFT_TAIL_FITTED)
        return DRAFT_OK;
    if (!list->count)
        return probe(run);
    float *factors = program_calloc(count, sizeof *factors);
    for (size_t i = 0; i < count; i++)
        factors[i] = (float)list->values[list->count == 1 ? 0 : i % heads];
    draft_status status = draft_factors_write(run->job.plan, run->job.workspace, factors);
    free(factors);
    return status;
}

/* Open the inputs and make the plan's parameters of them. */
static bool open_inputs(struct run *run)
{
    const struct run_request *r = run->request;
    const char *outputs[3] = {r->out, r->lse, r->save_lists};
    struct draft_shape shape = r->shape;
    draft_type wanted = r->type_given ? (draft_type)(r->type + 1) : (draft_type)0;
    if (!run_inputs_open((const char **)r->files, r->file_count, wanted, &run->inputs) ||
        !run_inputs_shape(&run->inputs, &shape))
        return false;
    for (unsigned i = 0; i < 3; i++)
        if (outputs[i] &&
            (!run_output_is_new(outputs[i], (const char **)r->files, r->file_count) ||
             (r->lists && !run_output_is_new(outputs[i], (const char **)&r->lists, 1))))
            return false;
    if (r->head_sparsity.count && r->head_sparsity.count != shape.heads) {
        program_error("--head-sparsity has %zu numbers, q has %u heads", r->head_sparsity.count,
                      shape.heads);
        return false;
    }
    run->params = (struct draft_plan_params){.shape = shape,
                                             .type = run->inputs.q.tensor.type,
                                             .tile = {r->tile[0], r->tile[1], r->tile[2]},
                                             .rule = (draft_rule)r->rule,
                                             .sparsity = r->sparsity,
                                             .head_sparsity = r->head_sparsity.values,
                                             .mass = r->mass,
                                             .force = r->force,
                                             .scale = (float)r->scale,
                                             .scorer = (draft_scorer)r->scorer,
                                             .tail = (draft_tail)r->tail,
                                             .row_floor = r->row_floor};
    return check_factors(run) && convert_valid(run);
}

/* Before the work, so that a folder that cannot be written to is known early. */
static bool open_outputs(struct run *run)
{
    const char *paths[3] = {run->request->out, run->request->lse, run->request->save_lists};
    struct program_output **files[3] = {&run->out_file, &run->lse_file, &run->lists_file};
    for (unsigned i = 0; i < 3; i++) {
        char *path = NULL;
        if (!paths[i])
            continue;
        tensor_path_split(paths[i], &path);
        *files[i] = path ? program_output_open(path) : NULL;
        free(path);
        if (!*files[i])
            return false;
    }
    return true;
}

/* A probe fits factors to what the plan's own rule leaves out, and to nothing else. */
static bool load_lists(struct run *run)
{
    if (run->job.layout.factors && !run->request->factors.count) {
        program_error("--lists with --tail fitted needs --factors");
        return false;
    }
    return run_lists_load(run->request->lists, &run->params.shape, &run->job.layout, &run->lists);
}

static draft_status prepare(struct run *run)
{
    draft_status status = program_open(&run->request->device, run->params.type, &run->context);
    if (status != DRAFT_OK)
        return status;
    draft_context_device(run->context, &run->device);
    status = job_create(run->context, &run->params, &run->job);
    if (status == DRAFT_OK)
        status = job_buffers_create(run->context, &run->params.shape, run->params.type,
                                    run->inputs.q.tensor.data, run->inputs.k.tensor.data,
                                    run->inputs.v.tensor.data, run->valid, &run->buffers);
    if (status == DRAFT_OK && run->request->lists && !load_lists(run))
        return DRAFT_ERROR_ARGUMENT;
    return status == DRAFT_OK ? find_factors(run) : status;
}

static draft_status measure(struct run *run, uint32_t stages)
{
    run->job.stages = stages;
    return job_measure(&run->job, &run->buffers, run->request->repeat, run->progress, &run->done,
                       &run->timing);
}

/* Lists come between the stages: with a tail what `score` writes is theirs to mark. */
static draft_status measure_lists(struct run *run)
{
    uint32_t before = run->job.layout.bias ? DRAFT_POOL | DRAFT_SCORE : 0;
    draft_status status = measure(run, before);
    if (status == DRAFT_OK)
        status = draft_lists_write(run->job.plan, run->job.workspace, run->lists.counts,
                                   run->lists.lists);
    if (status == DRAFT_OK)
        status = measure(run, DRAFT_ATTEND);
    run->job.stages = before | DRAFT_ATTEND;
    return status;
}

static draft_status compute(struct run *run)
{
    draft_status status = run->request->lists ? measure_lists(run) : measure(run, run->job.stages);
    if (status == DRAFT_OK)
        status = draft_density_read(run->job.plan, run->job.workspace, &run->density);
    if (status == DRAFT_OK && run->request->save_lists && !run->request->lists)
        status = run_lists_read(&run->job, &run->params.shape, &run->lists);
    if (status != DRAFT_OK)
        return status;
    run->result = program_calloc(run->buffers.sizes.q, job_type_size(run->params.type));
    run->lse = program_calloc(run->buffers.sizes.lse, sizeof *run->lse);
    return job_buffers_read(&run->buffers, run->result, run->lse);
}

/* lse of the kept keys alone, which recall is made of. */
static draft_status read_kept_lse(struct run *run)
{
    run->kept_lse = program_calloc(run->buffers.sizes.lse, sizeof *run->kept_lse);
    memcpy(run->kept_lse, run->lse, run->buffers.sizes.lse * sizeof *run->lse);
    return job_kept_lse(&run->job, &run->buffers, run->kept_lse);
}

/* Dense attention on the same buffers, after the result has been read. */
static draft_status check(struct run *run)
{
    struct draft_plan_params params = {.shape = run->params.shape,
                                       .type = run->params.type,
                                       .tile = run->job.layout.tile,
                                       .scale = run->params.scale}; /* sparsity 0 */
    draft_status status = read_kept_lse(run);
    if (status == DRAFT_OK)
        status = job_create(run->context, &params, &run->dense);
    if (status == DRAFT_OK)
        status = job_measure(&run->dense, &run->buffers, run->request->repeat, run->progress,
                             &run->done, &run->dense_timing);
    if (status != DRAFT_OK)
        return status;
    void *dense = program_calloc(run->buffers.sizes.q, job_type_size(run->params.type));
    float *dense_lse = program_calloc(run->buffers.sizes.lse, sizeof *dense_lse);
    status = job_buffers_read(&run->buffers, dense, dense_lse);
    if (status == DRAFT_OK)
        job_compare(&run->params.shape, run->params.type, run->result, dense, run->kept_lse,
                    dense_lse, &run->fidelity);
    free(dense);
    free(dense_lse);
    return status;
}

/* Commit after success or a stream's error, of which commit tells. */
static bool finish_output(struct program_output **output, bool ok)
{
    if (!program_output_commit(*output))
        ok = false;
    *output = NULL;
    return ok;
}

/* Give the outputs their names. */
static bool write_outputs(struct run *run)
{
    const struct draft_shape *s = &run->params.shape;
    unsigned skip = run->inputs.q.tensor.rank == 3; /* no batch in, no batch out */
    uint64_t axes[4] = {s->batch, run->job.layout.tokens, s->heads, s->dim};
    uint64_t lse_axes[3] = {s->batch, s->heads, run->job.layout.tokens};
    bool ok = true;
    if (run->out_file) {
        ok = run_output_write(program_output_file(run->out_file), run->request->out, "out",
                              run->params.type, axes + skip, 4 - skip, run->result);
        ok = finish_output(&run->out_file, ok);
    }
    if (ok && run->lse_file) {
        ok = run_output_write(program_output_file(run->lse_file), run->request->lse, "lse",
                              DRAFT_F32, lse_axes + skip, 3 - skip, run->lse);
        ok = finish_output(&run->lse_file, ok);
    }
    if (ok && run->lists_file) {
        ok = run_lists_save(program_output_file(run->lists_file), s, &run->job.layout, &run->lists,
                            skip);
        ok = finish_output(&run->lists_file, ok);
    }
    return ok;
}

/* ---- Course of the command ---------------------------------------------------------------- */

/* Print what was found; the files are written. */
static int finish(const struct run *run)
{
    int code = run_report(run);
    /* Written so that NaN fails. */
    if (code == PROGRAM_OK && run->request->tolerance_given &&
        !(run->fidelity.relative <= run->request->tolerance)) {
        program_error("the relative error %.3e is beyond the tolerance %.3e",
                      run->fidelity.relative, run->request->tolerance);
        code = PROGRAM_CHECK;
    }
    return code;
}

static int execute(struct run *run)
{
    const struct run_request *r = run->request;
    if (!open_inputs(run) || !open_outputs(run))
        return PROGRAM_USAGE;
    run->progress = program_progress_begin("preparing", job_steps(r->repeat) * (r->check ? 2 : 1));
    draft_status status = prepare(run);
    if (status == DRAFT_OK)
        status = compute(run);
    if (status == DRAFT_OK && r->check)
        status = check(run);
    program_progress_set(run->progress, run->done, "writing");
    bool written = status == DRAFT_OK && write_outputs(run);
    program_progress_end(run->progress);
    if (status != DRAFT_OK)
        return program_exit_code(status);
    return written ? finish(run) : PROGRAM_USAGE;
}

static void release(struct run *run)
{
    program_output_discard(run->out_file);
    program_output_discard(run->lse_file);
    program_output_discard(run->lists_file);
    run_lists_free(&run->lists);
    job_destroy(&run->dense);
    job_destroy(&run->job);
    job_buffers_destroy(&run->buffers);
    draft_context_destroy(&run->context);
    run_inputs_close(&run->inputs);
    free(run->valid);
    free(run->result);
    free(run->lse);
    free(run->kept_lse);
    free(run->probe);
}

int draft_cmd_run(int argc, char **argv)
{
    struct run_request request = {.sparsity = 0.9, .repeat = 1};
    struct run run = {.request = &request};
    int code = parse(&request, argc, argv);
    if (code < 0)
        code = check_request(&request);
    if (code < 0)
        code = execute(&run);
    release(&run);
    free(request.head_sparsity.values);
    free(request.factors.values);
    free(request.valid.values);
    return code;
}
