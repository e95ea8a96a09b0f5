/* SPDX-License-Identifier: MIT
 *
 * `draft fidelity`: its figures on cases that can be worked out by hand, and the program as the
 * shell sees it. Arguments: the program, and the same with tests/verify/planted.c. */
#include <check.h>
#include <math.h>
#include <png.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fidelity_bench.h"
#include "tensor_file.h"
#include "video_file.h"

static const char *program, *planted; /* set once by main */
static char folder[256];              /* the tests' own, made for each */

static void make_folder(void)
{
    const char *tmp = getenv("TMPDIR");
    snprintf(folder, sizeof folder, "%s/draft-fidelity-XXXXXX", tmp ? tmp : "/tmp");
    ck_assert_ptr_nonnull(mkdtemp(folder));
}

static void remove_folder(void)
{
    char line[512];
    snprintf(line, sizeof line, "rm -r '%s'", folder);
    ck_assert_int_eq(system(line), 0);
}

/* ---- A small head ---------------------------------------------------------------------------- */

/* Four tiles of 4x4x8 = 128 tokens side by side. */
enum { BLOCKS = 4, TOKENS = BLOCKS * 128, DIM = 8 };
static const struct draft_shape shape = {1, 0, 4, 4, 8 * BLOCKS, 0, 1, 0, DIM};

struct small {
    draft_context *context;
    struct fidelity_data data;
    struct fidelity_head head;
    struct fidelity_blocks blocks;
    struct fidelity_exact exact;
};

/* q = 0: every key weighs the same. v of a block is its number + 1, in all dimensions. */
static void make_uniform(struct small *s)
{
    *s = (struct small){.data = {.shape = shape, .heads = 1, .seed = 1}};
    struct draft_context_params cpu = {.backend = "cpu", .threads = 2};
    ck_assert_int_eq(draft_context_create(&cpu, &s->context), DRAFT_OK);
    struct draft_plan_params params = {
        .shape = shape, .type = DRAFT_F32, .tile = {4, 4, 8}, .sparsity = 0.5};
    draft_plan *plan;
    ck_assert_int_eq(draft_plan_create(s->context, &params, &plan), DRAFT_OK);
    struct draft_layout layout;
    draft_plan_layout(plan, &layout);
    draft_plan_destroy(&plan);
    fidelity_blocks_create(&shape, &layout, &s->blocks);
    s->head.q = calloc(TOKENS * DIM, sizeof(float));
    s->head.k = calloc(TOKENS * DIM, sizeof(float));
    s->head.v = calloc(TOKENS * DIM, sizeof(float));
    for (int i = 0; i < TOKENS * DIM; i++) {
        s->head.k[i] = (float)(i % 7) - 3;
        s->head.v[i] = (float)(s->blocks.block_of[i / DIM] + 1);
    }
}

static void make_exact(struct small *s)
{
    fidelity_exact_create(&s->data, &s->head, 0, &s->blocks, 1, BLOCKS, 0.25f, &s->exact);
}

static void free_small(struct small *s)
{
    fidelity_exact_destroy(&s->exact);
    fidelity_blocks_destroy(&s->blocks);
    fidelity_head_destroy(&s->head);
    draft_context_destroy(&s->context);
}

START_TEST(blocks_hold_their_tokens)
{
    struct small s;
    make_uniform(&s);
    ck_assert_uint_eq(s.blocks.layout.blocks, BLOCKS);
    for (uint32_t b = 0; b < BLOCKS; b++) {
        ck_assert_uint_eq(s.blocks.first[b + 1] - s.blocks.first[b], 128);
        for (uint32_t i = s.blocks.first[b]; i < s.blocks.first[b + 1]; i++)
            ck_assert_uint_eq(s.blocks.token[i] % (8 * BLOCKS) / 8, b);
    }
    free_small(&s);
}
END_TEST

START_TEST(exact_of_equal_weights)
{
    struct small s;
    make_uniform(&s);
    make_exact(&s);
    ck_assert_uint_eq(s.exact.rows, TOKENS);
    for (uint32_t r = 0; r < s.exact.rows; r++) {
        for (uint32_t d = 0; d < DIM; d++)
            ck_assert_double_eq_tol(s.exact.out[(size_t)r * DIM + d], 2.5, 1e-6);
        for (uint32_t b = 0; b < BLOCKS; b++)
            ck_assert_double_eq_tol((double)s.exact.mass[0][(size_t)r * BLOCKS + b], 0.25, 1e-6);
    }
    free_small(&s);
}
END_TEST

/* Against sums in double, written down once more in the plainest way. */
START_TEST(exact_of_any_weights)
{
    struct small s;
    make_uniform(&s);
    srand(3);
    for (int i = 0; i < TOKENS * DIM; i++) {
        s.head.q[i] = (float)rand() / (float)RAND_MAX * 4 - 2;
        s.head.k[i] = (float)rand() / (float)RAND_MAX * 4 - 2;
        s.head.v[i] = (float)rand() / (float)RAND_MAX - 0.3f;
    }
    make_exact(&s);
    for (uint32_t r = 0; r < s.exact.rows; r += 37) {
        double sum = 0, out[DIM] = {0}, mass[BLOCKS] = {0};
        for (uint32_t t = 0; t < TOKENS; t++) {
            double logit = 0;
            for (uint32_t d = 0; d < DIM; d++)
                logit +=
                    (double)s.head.q[s.exact.token[r] * DIM + d] * (double)s.head.k[t * DIM + d];
            double e = exp(0.25 * logit);
            sum += e;
            mass[s.blocks.block_of[t]] += e;
            for (uint32_t d = 0; d < DIM; d++)
                out[d] += e * (double)s.head.v[t * DIM + d];
        }
        for (uint32_t d = 0; d < DIM; d++)
            ck_assert_double_eq_tol(s.exact.out[(size_t)r * DIM + d], out[d] / sum, 1e-5);
        for (uint32_t b = 0; b < BLOCKS; b++)
            ck_assert_double_eq_tol((double)s.exact.mass[0][(size_t)r * BLOCKS + b], mass[b] / sum,
                                    1e-5);
    }
    free_small(&s);
}
END_TEST

/* ---- A block is dropped ---------------------------------------------------------------------- */

/* The library's attention over lists without block 3: 2 in place of 2.5, so the relative error is
 * 0.5 / 2.5, and the recall 3/4. */
START_TEST(error_of_a_dropped_block)
{
    struct small s;
    make_uniform(&s);
    make_exact(&s);
    struct draft_plan_params params = {
        .shape = shape, .type = DRAFT_F32, .tile = {4, 4, 8}}; /* sparsity 0: no tail */
    struct job job;
    struct job_buffers buffers;
    uint32_t counts[BLOCKS];
    uint16_t lists[BLOCKS * BLOCKS];
    float *out = calloc(TOKENS * DIM, sizeof *out);
    for (uint32_t b = 0; b < BLOCKS; b++) {
        counts[b] = 3;
        for (uint16_t n = 0; n < 3; n++)
            lists[b * BLOCKS + n] = n;
    }
    ck_assert_int_eq(job_create(s.context, &params, &job), DRAFT_OK);
    ck_assert_int_eq(job_buffers_create(s.context, &shape, DRAFT_F32, s.head.q, s.head.k, s.head.v,
                                        NULL, &buffers),
                     DRAFT_OK);
    ck_assert_int_eq(draft_lists_write(job.plan, job.workspace, counts, lists), DRAFT_OK);
    ck_assert_int_eq(job_run_stage(&job, &buffers, 3, NULL), DRAFT_OK);
    ck_assert_int_eq(job_buffers_read(&buffers, out, NULL), DRAFT_OK);
    struct fidelity_sums sums = {0};
    fidelity_judge(&s.exact, DRAFT_F32, out, &sums);
    ck_assert_double_eq_tol(sqrt(sums.difference / sums.reference), 0.2, 1e-6);
    ck_assert_uint_eq(sums.not_finite, 0);

    /* One number that is wrong, and one that is none. */
    struct fidelity_sums wrong = {0};
    size_t at = (size_t)s.exact.token[5] * DIM + 2;
    out[at] += 3;
    fidelity_judge(&s.exact, DRAFT_F32, out, &wrong);
    ck_assert_double_eq_tol(wrong.difference - sums.difference, 2.5 * 2.5 - 0.5 * 0.5, 1e-3);
    out[at] = NAN;
    wrong = (struct fidelity_sums){0};
    fidelity_judge(&s.exact, DRAFT_F32, out, &wrong);
    ck_assert_uint_eq(wrong.not_finite, 1);
    struct fidelity_point point = {.heads = &wrong};
    fidelity_summarise(&point, 1);
    ck_assert(isinf(point.relative) && isinf(point.worst));
    job_buffers_destroy(&buffers);
    job_destroy(&job);
    free(out);
    free_small(&s);
}
END_TEST

/* ---- Lists ----------------------------------------------------------------------------------- */

START_TEST(oracles_know)
{
    struct small s;
    make_uniform(&s);
    for (int i = 0; i < TOKENS * DIM; i++) /* block 2 has the mass; the others' values do no harm */
        s.head.q[i] = 1, s.head.k[i] = s.blocks.block_of[i / DIM] == 2 ? 0.5f : 0;
    make_exact(&s);
    uint32_t counts[BLOCKS];
    uint16_t lists[BLOCKS * BLOCKS];
    fidelity_lists(FIDELITY_ORACLE_MASS, &s.exact, &s.blocks.layout, 1, 1, counts, lists);
    for (uint32_t b = 0; b < BLOCKS; b++)
        ck_assert(counts[b] == 1 && lists[b * BLOCKS] == 2);
    fidelity_lists(FIDELITY_RANDOM, &s.exact, &s.blocks.layout, 1, 1, counts, lists);
    for (uint32_t b = 0; b < BLOCKS; b++)
        ck_assert(counts[b] == 1 && lists[b * BLOCKS] == b);
    fidelity_lists(FIDELITY_WINDOW, &s.exact, &s.blocks.layout, 2, 1, counts, lists);
    ck_assert(counts[0] == 2 && lists[0] == 0 && lists[1] == 1);
    ck_assert(counts[3] == 2 && lists[3 * BLOCKS] == 2 && lists[3 * BLOCKS + 1] == 3);
    free_small(&s);
}
END_TEST

/* Where a block's value equals the result, dropping it alone does nothing: the oracle of errors
 * keeps the others. */
START_TEST(oracle_of_errors)
{
    struct small s;
    make_uniform(&s);
    static const float values[BLOCKS] = {1, 3, 2, 2};
    for (int i = 0; i < TOKENS * DIM; i++)
        s.head.v[i] = values[s.blocks.block_of[i / DIM]];
    make_exact(&s); /* out = 2 */
    uint32_t counts[BLOCKS];
    uint16_t lists[BLOCKS * BLOCKS];
    fidelity_lists(FIDELITY_ORACLE_ERROR, &s.exact, &s.blocks.layout, 2, 1, counts, lists);
    for (uint32_t b = 0; b < BLOCKS; b++)
        ck_assert(counts[b] == 2 && lists[b * BLOCKS] == 0 && lists[b * BLOCKS + 1] == 1);
    ck_assert_double_eq_tol((double)s.exact.block_error[0], 128 * DIM * 0.0625, 1e-3);
    ck_assert_double_eq_tol((double)s.exact.block_error[2], 0, 1e-9);
    free_small(&s);
}
END_TEST

/* ---- Probe ----------------------------------------------------------------------------------- */

/* About normal, mean 0, variance 1. */
static float normal(void)
{
    float sum = -6;
    for (int i = 0; i < 12; i++)
        sum += (float)rand() / (float)RAND_MAX;
    return sum;
}

static float fit(struct small *s)
{
    struct draft_plan_params params = {.shape = shape,
                                       .type = DRAFT_F32,
                                       .tile = {4, 4, 8},
                                       .rule = DRAFT_RULE_ROW,
                                       .sparsity = 0.75,
                                       .tail = DRAFT_TAIL_FITTED};
    struct job job;
    struct job_buffers buffers;
    struct draft_probe found;
    ck_assert_int_eq(job_create(s->context, &params, &job), DRAFT_OK);
    ck_assert_int_eq(job_buffers_create(s->context, &shape, DRAFT_F32, s->head.q, s->head.k,
                                        s->head.v, NULL, &buffers),
                     DRAFT_OK);
    struct draft_run_params run = {.workspace = job.workspace};
    run.q.data = buffers.q, run.k.data = buffers.k, run.v.data = buffers.v;
    ck_assert_int_eq(draft_probe_run(job.plan, &run, NULL, &found), DRAFT_OK);
    job_buffers_destroy(&buffers);
    job_destroy(&job);
    return (float)found.factor;
}

/* Keys that vary normally within their blocks have just the mass that the second order says; with
 * two channels on top that cancel, and are most of the variance, hardly any of it is true. */
START_TEST(probe_finds_the_factor)
{
    struct small s;
    make_uniform(&s);
    srand(11);
    for (int i = 0; i < TOKENS * DIM; i++) {
        s.head.q[i] = normal();
        s.head.k[i] = normal() * (s.blocks.block_of[i / DIM] % 2 ? 1.2f : 0.2f);
    }
    float honest = fit(&s);
    for (int t = 0; t < TOKENS; t++) {
        float large = 8 * normal();
        s.head.q[t * DIM] = s.head.q[t * DIM + 1];
        s.head.k[t * DIM] += large;
        s.head.k[t * DIM + 1] -= large;
    }
    float misled = fit(&s);
    ck_assert_msg(honest > 0.6f && honest < 1.4f, "%g", (double)honest);
    ck_assert_msg(misled < 0.35f, "%g", (double)misled);
    free_small(&s);
}
END_TEST

/* ---- One number of many ---------------------------------------------------------------------- */

START_TEST(summary)
{
    struct fidelity_sums heads[4] = {{.difference = 1, .reference = 100, .square = 1, .product = 0},
                                     {.difference = 4, .reference = 100},
                                     {.difference = 9, .reference = 100},
                                     {.difference = 16, .reference = 100, .work = 0.4}};
    float recalls[100];
    for (int i = 0; i < 100; i++)
        recalls[i] = (float)(99 - i) / 100;
    struct fidelity_point p = {.heads = heads, .recalls = recalls, .recall_count = 100};
    fidelity_summarise(&p, 4);
    ck_assert_double_eq_tol(p.relative, sqrt(30.0 / 400), 1e-12);
    ck_assert_double_eq_tol(p.median, 0.25, 1e-12);
    ck_assert_double_eq_tol(p.p90, 0.4, 1e-12);
    ck_assert_double_eq_tol(p.worst, 0.4, 1e-12);
    ck_assert_uint_eq(p.worst_head, 3);
    ck_assert_double_eq_tol(p.recall, 0.495, 1e-6);
    ck_assert_double_eq_tol(p.recall_p5, 0.05, 1e-6);
    ck_assert_double_eq_tol(p.work, 0.1, 1e-12);
}
END_TEST

/* On error = work^-2 both ways of reading are exact. */
START_TEST(between_points)
{
    struct fidelity_point p[3];
    for (int i = 0; i < 3; i++)
        p[i] = (struct fidelity_point){.work = 0.4 / (i + 1), .worst = 7};
    for (int i = 0; i < 3; i++)
        p[i].relative = 0.001 / (p[i].work * p[i].work);
    ck_assert_double_eq_tol(fidelity_error_at(p, 3, 0.3, FIDELITY_POOLED), 0.001 / 0.09, 1e-12);
    ck_assert_double_eq_tol(fidelity_error_at(p, 3, 0.15, FIDELITY_WORST), 7, 1e-12);
    ck_assert_double_eq_tol(fidelity_work_at(p, 3, 0.001 / 0.09), 0.3, 1e-12);
    ck_assert(isnan(fidelity_error_at(p, 3, 0.1, FIDELITY_POOLED)));
    ck_assert(isnan(fidelity_error_at(p, 3, 0.5, FIDELITY_POOLED)));
    ck_assert(isnan(fidelity_work_at(p, 3, 0.001)));
}
END_TEST

/* ---- Clips ----------------------------------------------------------------------------------- */

/* Two frames of 4:2:0, the left half black, the right half white, grey chroma. */
START_TEST(clip_from_y4m)
{
    enum { W = 16, H = 8 };
    char path[300];
    snprintf(path, sizeof path, "%s/clip.y4m", folder);
    FILE *file = fopen(path, "wb");
    fprintf(file, "YUV4MPEG2 W%d H%d F25:1 Ip A1:1 C420jpeg\n", W, H);
    for (int f = 0; f < 2; f++) {
        fputs("FRAME\n", file);
        for (int i = 0; i < W * H; i++)
            fputc(i % W < W / 2 ? 16 : 235, file);
        for (int i = 0; i < W * H / 2; i++)
            fputc(128, file);
    }
    fclose(file);
    uint8_t *pixels = video_file_read(path, (uint32_t[2]){0, 0}, (uint32_t[3]){2, 1, 2});
    ck_assert_ptr_nonnull(pixels);
    for (int i = 0; i < 2 * 4 * 8; i++)
        ck_assert_int_eq(pixels[3 * i], i % 8 < 4 ? 0 : 255);
    free(pixels);
    ck_assert_ptr_null(video_file_read(path, (uint32_t[2]){0, 0}, (uint32_t[3]){3, 1, 2}));
}
END_TEST

/* ---- The program ----------------------------------------------------------------------------- */

static const char *const few =
    "--quick --grid 2x16x16 --heads 2 --dim 64 --data concentrated,diffuse "
    "--blocks 4 --backend cpu --methods row-mean-drop,row-lse-gap,"
    "oracle-mass,window";

static int fidelity(const char *which, const char *plant, const char *arguments)
{
    char line[2048];
    snprintf(line, sizeof line, "cd '%s' && DRAFT_PLANT='%s' '%s' fidelity %s >out 2>err", folder,
             plant, which, arguments);
    int status = system(line);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static cJSON *run_json(const char *which, const char *plant)
{
    static char text[1 << 20];
    char arguments[1024], path[512];
    snprintf(arguments, sizeof arguments, "%s --json -o results", few);
    ck_assert_int_eq(fidelity(which, plant, arguments), 0);
    snprintf(path, sizeof path, "%s/out", folder);
    FILE *file = fopen(path, "rb");
    ck_assert_ptr_nonnull(file);
    text[fread(text, 1, sizeof text - 1, file)] = 0;
    fclose(file);
    cJSON *json = cJSON_Parse(text);
    ck_assert_ptr_nonnull(json);
    return json;
}

static double number(const cJSON *json, const char *name)
{
    const cJSON *item = cJSON_GetObjectItem(json, name);
    ck_assert_msg(cJSON_IsNumber(item), "%s is no number", name);
    return item->valuedouble;
}

/* The method's n-th point. */
static const cJSON *point(const cJSON *set, int method, int n)
{
    const cJSON *methods = cJSON_GetObjectItem(set, "methods");
    return cJSON_GetArrayItem(cJSON_GetObjectItem(cJSON_GetArrayItem(methods, method), "points"),
                              n);
}

START_TEST(program_writes)
{
    static const char *const pictures[] = {"error.png", "worst.png", "recall.png", "kinds.png"};
    cJSON *json = run_json(program, "");
    const cJSON *sets = cJSON_GetObjectItem(json, "data");
    ck_assert_int_eq(cJSON_GetArraySize(sets), 2);
    for (int i = 0; i < 2; i++) {
        const cJSON *set = cJSON_GetArrayItem(sets, i), *dense = cJSON_GetObjectItem(set, "dense");
        double f16 = number(cJSON_GetObjectItem(dense, "f16"), "relative");
        ck_assert(f16 > 1e-5 && f16 < 3e-3);
        ck_assert(number(cJSON_GetObjectItem(dense, "bf16"), "relative") > 2 * f16);
        ck_assert_int_eq(cJSON_GetArraySize(cJSON_GetObjectItem(set, "methods")), 5);
        for (int m = 0; m < 5; m++)
            for (int n = 0; n < 3; n++) {
                ck_assert_double_gt(number(point(set, m, n), "relative"), f16);
                ck_assert_double_eq(number(point(set, m, n), "not_finite"), 0);
                ck_assert_double_le(number(point(set, m, n), "work"), 1);
                ck_assert_double_le(number(point(set, m, n), "recall_p5"),
                                    number(point(set, m, n), "recall"));
            }
        /* Who knows the masses keeps the most. */
        ck_assert_double_ge(number(point(set, 3, 1), "recall") + 1e-6,
                            number(point(set, 1, 1), "recall"));
    }
    cJSON_Delete(json);
    for (unsigned i = 0; i < 4; i++) {
        char path[512];
        png_image image = {.version = PNG_IMAGE_VERSION};
        snprintf(path, sizeof path, "%s/results/%s", folder, pictures[i]);
        ck_assert_msg(png_image_begin_read_from_file(&image, path), "%s", path);
        ck_assert_uint_gt(image.width, 500);
        png_image_free(&image);
    }
}
END_TEST

/* A device that computes one number wrongly. */
START_TEST(program_notices)
{
    struct draft_device_info devices[16];
    size_t count = 16;
    char plant[64] = "";
    ck_assert_int_eq(draft_devices(NULL, devices, &count), DRAFT_OK);
    for (size_t i = 0; i < count && i < 16; i++)
        if (strcmp(devices[i].backend, "cpu") == 0)
            snprintf(plant, sizeof plant, "attend %s", devices[i].attend);
    cJSON *json = run_json(planted, plant);
    const cJSON *set = cJSON_GetArrayItem(cJSON_GetObjectItem(json, "data"), 0);
    const cJSON *dense = cJSON_GetObjectItem(cJSON_GetObjectItem(set, "dense"), "f16");
    const cJSON *error = cJSON_GetObjectItem(dense, "relative");
    ck_assert(cJSON_IsNull(error) || error->valuedouble > 0.02);
    cJSON_Delete(json);
}
END_TEST

static void write_tensor(const char *name, unsigned seed)
{
    enum { ROWS = 512, HEADS = 2, WIDTH = 32, COUNT = ROWS * HEADS * WIDTH };
    static float values[COUNT];
    char path[300];
    srand(seed);
    for (int i = 0; i < COUNT; i++)
        values[i] = normal();
    struct tensor t = {.type = DRAFT_F32,
                       .rank = 3,
                       .shape = {ROWS, HEADS, WIDTH},
                       .count = COUNT,
                       .data = values};
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "wb");
    ck_assert(file && tensor_write(file, path, "q", &t));
    fclose(file);
}

START_TEST(program_reads)
{
    static const char *const rest = "--quick --grid 2x16x16 --methods row-lse-fitted --backend cpu";
    char arguments[512];
    write_tensor("q.npy", 1);
    write_tensor("k.npy", 2);
    write_tensor("v.npy", 3);
    snprintf(arguments, sizeof arguments, "--q q.npy --k k.npy --v v.npy %s", rest);
    ck_assert_int_eq(fidelity(program, "", arguments), 0);
    char path[300];
    snprintf(path, sizeof path, "%s/raw.rgb", folder);
    FILE *file = fopen(path, "wb");
    for (int i = 0; i < 2 * 40 * 30 * 3; i++)
        fputc(rand() & 255, file);
    fclose(file);
    snprintf(arguments, sizeof arguments,
             "--video raw.rgb --video-size 40x30 --heads 1 --data smooth %s", rest);
    ck_assert_int_eq(fidelity(program, "", arguments), 0);
}
END_TEST

START_TEST(program_refuses)
{
    ck_assert_int_eq(fidelity(program, "", "--methods nothing"), 2);
    ck_assert_int_eq(fidelity(program, "", "--q a.npy --v a.npy --grid 2x2x2"), 2);
    ck_assert_int_eq(fidelity(program, "", "--sparsity 0.9,0.5"), 2);
    ck_assert_int_eq(fidelity(program, "", "--video nothing.y4m"), 2);
    ck_assert_int_eq(fidelity(program, "", "--heads 0"), 2);
}
END_TEST

int main(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    program = realpath(argv[1], NULL); /* they run in a folder of their own */
    planted = realpath(argv[2], NULL);
    Suite *suite = suite_create("fidelity");
    TCase *figures = tcase_create("figures"), *programs = tcase_create("program");
    tcase_set_timeout(figures, 120);
    tcase_set_timeout(programs, 300);
    tcase_add_checked_fixture(programs, make_folder, remove_folder);
    tcase_add_test(figures, blocks_hold_their_tokens);
    tcase_add_test(figures, exact_of_equal_weights);
    tcase_add_test(figures, exact_of_any_weights);
    tcase_add_test(figures, error_of_a_dropped_block);
    tcase_add_test(figures, oracles_know);
    tcase_add_test(figures, oracle_of_errors);
    tcase_add_test(figures, probe_finds_the_factor);
    tcase_add_test(figures, summary);
    tcase_add_test(figures, between_points);
    tcase_add_test(programs, clip_from_y4m);
    tcase_add_test(programs, program_writes);
    tcase_add_test(programs, program_notices);
    tcase_add_test(programs, program_reads);
    tcase_add_test(programs, program_refuses);
    suite_add_tcase(suite, figures);
    suite_add_tcase(suite, programs);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
