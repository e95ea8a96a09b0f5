/* SPDX-License-Identifier: MIT
 *
 * `draft fidelity`: how far each way to select and to make up for what is left out is from dense
 * attention, at equal work. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "fidelity_bench.h"
#include "posix.h"
#include "run_files.h"
#include "video_file.h"

struct request {
    uint32_t grid[3], tile[3], prefix, suffix, heads, dim, type, data, blocks;
    uint64_t seed;
    bool grid_given, heads_given, blocks_given, data_given, quick, json, statistics;
    const char *q, *k, *v, *video, *folder, *methods;
    uint32_t video_size[2];
    struct program_reals sparsities;
    struct program_device device;
};

/* Descending work. */
static const double usual_sparsities[] = {0.6, 0.75, 0.85, 0.9, 0.95};
static const double quick_sparsities[] = {0.6, 0.75, 0.9};

static int usage(const char *message)
{
    program_error("%s; see draft fidelity --help", message);
    return PROGRAM_USAGE;
}

/* ---- Shape and sweep ------------------------------------------------------------------------- */

static void set_defaults(struct request *r)
{
    static const uint32_t usual[3] = {12, 40, 80}, quick[3] = {4, 24, 32};
    if (!r->grid_given)
        memcpy(r->grid, r->quick ? quick : usual, sizeof r->grid);
    if (!r->heads_given)
        r->heads = 6;
    if (!r->blocks_given)
        r->blocks = r->quick ? 4 : 8;
    if (!r->data_given)
        r->data = 1u << GENERATE_CONCENTRATED | 1u << GENERATE_SMOOTH | 1u << GENERATE_DIFFUSE;
}

/* Sparsities from small to large. */
static bool set_sweep(const struct request *r, struct fidelity_bench *b)
{
    const double *values = r->sparsities.count ? r->sparsities.values
                           : r->quick          ? quick_sparsities
                                               : usual_sparsities;
    b->points = r->sparsities.count ? r->sparsities.count
                : r->quick          ? sizeof quick_sparsities / sizeof *quick_sparsities
                                    : sizeof usual_sparsities / sizeof *usual_sparsities;
    if (b->points > FIDELITY_POINTS)
        return false;
    for (size_t i = 0; i < b->points; i++) {
        b->nominal[i] = values[i];
        if (!(values[i] > 0 && values[i] < 1) || (i && values[i] <= values[i - 1]))
            return false;
    }
    return true;
}

/* ---- Data sets ------------------------------------------------------------------------------- */

static void prepare_set(struct fidelity_bench *b, struct fidelity_set *set)
{
    uint32_t heads = set->data.heads;
    set->kinds = program_calloc(heads, sizeof *set->kinds);
    set->statistics = program_calloc(heads, sizeof *set->statistics);
    set->points = program_calloc(b->method_count, sizeof *set->points);
    for (unsigned t = 0; t < 2; t++)
        set->noise[t].heads = program_calloc(heads, sizeof *set->noise[t].heads);
    for (unsigned m = 0; m < b->method_count; m++)
        for (size_t i = 0; i < b->points; i++) {
            set->points[m][i].nominal = b->nominal[i];
            set->points[m][i].heads = program_calloc(heads, sizeof *set->points[m][i].heads);
        }
}

static void free_set(const struct fidelity_bench *b, struct fidelity_set *set)
{
    free(set->kinds);
    free(set->statistics);
    for (unsigned t = 0; t < 2; t++) {
        free(set->noise[t].heads);
        free(set->noise[t].recalls);
    }
    for (unsigned m = 0; set->points && m < b->method_count; m++)
        for (size_t i = 0; i < b->points; i++) {
            free(set->points[m][i].heads);
            free(set->points[m][i].recalls);
        }
    free(set->points);
}

/* One set for each regime, or the one of the files. */
static bool make_sets(const struct request *r, const struct run_inputs *files,
                      struct fidelity_bench *b)
{
    struct draft_shape shape = {1,         r->prefix, r->grid[0], r->grid[1], r->grid[2],
                                r->suffix, 1,         0,          r->dim};
    b->sets = program_calloc(32, sizeof *b->sets);
    if (r->q) {
        struct draft_shape whole = shape;
        if (!run_inputs_shape(files, &whole))
            return false;
        shape.dim = whole.dim;
        uint32_t heads = r->heads_given && r->heads < whole.heads ? r->heads : whole.heads;
        b->sets[b->set_count++].data = (struct fidelity_data){
            "captured", shape, heads, NULL, GENERATE_MIXED, r->seed, files, r->device.threads};
    }
    for (unsigned i = 0; !r->q && generate_regime_names[i]; i++)
        if (r->data & 1u << i)
            b->sets[b->set_count++].data = (struct fidelity_data){
                generate_regime_names[i], shape,   r->heads, NULL,
                (enum generate_regime)i,  r->seed, NULL,     r->device.threads};
    for (size_t i = 0; i < b->set_count; i++)
        prepare_set(b, &b->sets[i]);
    return true;
}

/* ---- Work ------------------------------------------------------------------------------------ */

static void summarise_set(struct fidelity_bench *b, struct fidelity_set *set)
{
    for (unsigned t = 0; t < 2; t++)
        fidelity_summarise(&set->noise[t], set->data.heads);
    for (unsigned m = 0; m < b->method_count; m++)
        for (size_t i = 0; i < b->points; i++)
            fidelity_summarise(&set->points[m][i], set->data.heads);
}

static draft_status run_set(struct fidelity_bench *b, struct fidelity_set *set,
                            const uint8_t *pixels, draft_context *context,
                            struct program_progress *progress, uint64_t *done)
{
    draft_status status = DRAFT_OK;
    if (!set->data.files) {
        struct generate_params params = {.shape = set->data.shape,
                                         .regime = set->data.regime,
                                         .seed = set->data.seed,
                                         .threads = set->data.threads,
                                         .pixels = pixels};
        params.shape.heads = set->data.heads;
        set->data.generate = generate_create(&params);
    }
    for (uint32_t h = 0; h < set->data.heads && !status; h++)
        status = fidelity_run_head(b, set, h, context, progress, done);
    generate_destroy(set->data.generate);
    if (!status && b->method_count)
        summarise_set(b, set);
    return status;
}

static draft_status run_sets(struct fidelity_bench *b, const uint8_t *pixels,
                             draft_context *context)
{
    uint64_t done = 0, all = 0;
    draft_status status = DRAFT_OK;
    for (size_t i = 0; i < b->set_count; i++)
        all += (uint64_t)b->sets[i].data.heads * b->method_count;
    struct program_progress *progress = program_progress_begin("fidelity", all);
    double start = program_now();
    for (size_t i = 0; i < b->set_count && !status; i++)
        status = run_set(b, &b->sets[i], pixels, context, progress, &done);
    b->seconds = program_now() - start;
    program_progress_end(progress);
    return status;
}

/* What was typed, so that the report can be made again. */
static char *join(int argc, char **argv)
{
    size_t size = sizeof "draft";
    for (int i = 0; i < argc; i++)
        size += strlen(argv[i]) + 1;
    char *text = program_calloc(size, 1);
    strcpy(text, "draft");
    for (int i = 0; i < argc; i++) {
        strcat(text, " ");
        strcat(text, argv[i]);
    }
    return text;
}

static int run_bench(struct request *r, struct fidelity_bench *b, const uint8_t *pixels,
                     const struct run_inputs *files)
{
    draft_context *context = NULL;
    if (!make_sets(r, files, b))
        return PROGRAM_USAGE;
    draft_status status = program_open(&r->device, b->type, &context);
    if (!status)
        status = run_sets(b, pixels, context);
    draft_context_destroy(&context);
    if (status)
        return program_exit_code(status);
    if (r->statistics) {
        for (size_t i = 0; i < b->set_count; i++)
            fidelity_write_statistics(&b->sets[i], stdout);
        return PROGRAM_OK;
    }
    return fidelity_draw(b) && fidelity_report(b, r->json) ? PROGRAM_OK : PROGRAM_USAGE;
}

static int check(const struct request *r)
{
    if (!r->k != !r->v || (r->k && !r->q))
        return usage("--q, --k and --v go together, or --q alone names a file with all three");
    if (r->q && (r->video || r->data_given))
        return usage("--q, --k, --v are data of their own: no --data, no --video");
    if (r->q && !r->grid_given)
        return usage("--q, --k, --v need --grid");
    if (!r->heads || r->heads > 1024 || !r->blocks || r->blocks > 4096)
        return usage("--heads is 1 to 1024, --blocks 1 to 4096");
    return -1;
}

static int run(struct request *r, int argc, char **argv)
{
    set_defaults(r);
    int code = check(r);
    if (code >= 0)
        return code;
    struct fidelity_bench b = {.type = (draft_type)(r->type + 1),
                               .tile = {r->tile[0], r->tile[1], r->tile[2]},
                               .judged = r->blocks,
                               .seed = r->seed,
                               .folder = r->folder};
    b.method_count = fidelity_methods(r->methods, b.methods);
    if (!b.method_count)
        return PROGRAM_USAGE;
    if (r->statistics)
        b.method_count = 0;
    if (!set_sweep(r, &b))
        return usage("--sparsity: at most 16 numbers above 0 and below 1, ascending");
    if (mkdir(r->folder, 0777) != 0 && errno != EEXIST) {
        program_error("%s: %s", r->folder, strerror(errno));
        return PROGRAM_USAGE;
    }
    struct run_inputs files = {0};
    const char *paths[3] = {r->q, r->k, r->v};
    uint8_t *pixels = NULL;
    bool ok = !r->q || run_inputs_open(paths, r->k ? 3 : 1, 0, &files);
    if (ok && r->video)
        ok = (pixels = video_file_read(r->video, r->video_size, r->grid)) != NULL;
    char *command = join(argc, argv);
    b.command = command;
    code = ok ? run_bench(r, &b, pixels, &files) : PROGRAM_USAGE;
    for (size_t i = 0; i < b.set_count; i++)
        free_set(&b, &b.sets[i]);
    free(b.sets);
    free(command);
    free(pixels);
    run_inputs_close(&files);
    return code;
}

int draft_cmd_fidelity(int argc, char **argv)
{
    struct request r = {.dim = 128, .seed = 2, .folder = "fidelity"};
    const struct program_option options[] = {
        {"data", 0, PROGRAM_CHOICES, &r.data, "LIST",
         "generated data, by commas (default concentrated,smooth,diffuse)", generate_regime_names,
         &r.data_given},
        {"video", 0, PROGRAM_TEXT, &r.video, "FILE",
         "features of this clip in place of a procedural one: .y4m,\nor raw RGB frames of "
         "--video-size",
         NULL, NULL},
        {"video-size", 0, PROGRAM_SIZE, r.video_size, "WxH", "pixels of raw frames", NULL, NULL},
        {"q", 0, PROGRAM_TEXT, &r.q, "FILE",
         "captured tensors, as for draft run; alone: a .safetensors file\nthat holds q, k and v",
         NULL, NULL},
        {"k", 0, PROGRAM_TEXT, &r.k, "FILE", "", NULL, NULL},
        {"v", 0, PROGRAM_TEXT, &r.v, "FILE", "", NULL, NULL},
        {"grid", 0, PROGRAM_GRID, r.grid, "FxHxW", "video tokens (default 12x40x80)", NULL,
         &r.grid_given},
        {"tile", 0, PROGRAM_GRID, r.tile, "TxHxW",
         "of all methods but the paper's (default: chosen)", NULL, NULL},
        {"prefix", 0, PROGRAM_COUNT, &r.prefix, "N", "text tokens before the video", NULL, NULL},
        {"suffix", 0, PROGRAM_COUNT, &r.suffix, "N", "and after it", NULL, NULL},
        {"heads", 0, PROGRAM_COUNT, &r.heads, "N", "default 6, one of each kind; captured: all",
         NULL, &r.heads_given},
        {"dim", 0, PROGRAM_COUNT, &r.dim, "N", "of a head (default 128)", NULL, NULL},
        {"type", 0, PROGRAM_CHOICE, &r.type, "TYPE", "default f16", job_type_names, NULL},
        {"methods", 0, PROGRAM_TEXT, &r.methods, "LIST",
         "RULE-SCORER-TAIL, by commas: rules head, floor, row, mass;\n"
         "scorers mean, lse, max, excess; tails drop, mean, gap, fitted,\n"
         "one; +first behind it: the first frame is forced; and\n"
         "oracle-mass, oracle-error, oracle-mass-mean, random,\nwindow; or all",
         NULL, NULL},
        {"sparsity", 0, PROGRAM_REALS, &r.sparsities, "X,X,...",
         "of the paper's rule; all methods get its work\n(default 0.6,0.75,0.85,0.9,0.95)", NULL,
         NULL},
        {"blocks", 0, PROGRAM_COUNT, &r.blocks, "N", "query blocks judged in each head (default 8)",
         NULL, &r.blocks_given},
        {"seed", 0, PROGRAM_SEED, &r.seed, "N", "default 2: what was tuned was tuned on 1", NULL,
         NULL},
        {"output", 'o', PROGRAM_TEXT, &r.folder, "FOLDER", "of report and plots (default fidelity)",
         NULL, NULL},
        {"statistics", 0, PROGRAM_FLAG, &r.statistics, NULL,
         "only say what the data is like, beside what is published", NULL, NULL},
        {"quick", 0, PROGRAM_FLAG, &r.quick, NULL, "a small grid and few points: a few seconds",
         NULL, NULL},
        PROGRAM_DEVICE_OPTIONS(r.device),
        {"json", 0, PROGRAM_FLAG, &r.json, NULL, "print JSON in place of Markdown", NULL, NULL},
        {0}};
    struct program_command command = {
        .usage = "fidelity [--data LIST | --video FILE | --q FILE --k FILE --v FILE] [options]",
        .help =
            "Compare ways to select blocks and to make up for the others with dense attention, at "
            "equal\nexecuted work. Writes report.md, report.json, error.png, worst.png, "
            "recall.png, kinds.png.",
        .options = options};
    int code = program_parse(&command, argc, argv);
    if (code < 0)
        code = run(&r, argc, argv);
    free(r.sparsities.values);
    return code;
}
