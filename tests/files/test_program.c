/* SPDX-License-Identifier: MIT
 *
 * The program `draft` as the shell sees it: exit codes, messages, and the files it leaves. On the
 * CPU backend; or, where argv[2] is "simulated", what differs on the simulated CUDA driver. argv[1]
 * is the program. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <check.h>
#include <cjson/cJSON.h>

#include "shell.h"

START_TEST(run_writes)
{
    struct tensor_file out = {0}, lse = {0};
    ck_assert_int_eq(draft(INPUTS SHAPE "-o out.npy --lse lse.safetensors:lse --tile 1x2x4"), 0);
    ck_assert_str_eq(content("err"), "");
    open_result("out.npy", &out);
    ck_assert_int_eq(out.tensor.type, DRAFT_F32);
    ck_assert_uint_eq(out.tensor.rank, 3);
    ck_assert_uint_eq(out.tensor.count, COUNT);
    open_result("lse.safetensors:lse", &lse);
    ck_assert_uint_eq(lse.tensor.rank, 2);
    ck_assert_uint_eq(lse.tensor.shape[0], HEADS);
    ck_assert_uint_eq(lse.tensor.shape[1], TOKENS);
    tensor_file_close(&out);
    tensor_file_close(&lse);
    ck_assert_uint_eq(files(), 7); /* 3 inputs, 2 results, out, err */
}
END_TEST

/* bf16, a batch, one file for all three, other lengths for each sample. */
START_TEST(run_batch)
{
    static const uint64_t shape[] = {2, TOKENS, HEADS, DIM};
    struct tensor_file out = {0};
    write_tensor("a.npy", DRAFT_BF16, 4, shape, 4);
    ck_assert_int_eq(draft("run a.npy a.npy a.npy " SHAPE "--valid 4,5,1,2 -o out.safetensors"), 0);
    open_result("out.safetensors", &out);
    ck_assert_int_eq(out.tensor.type, DRAFT_BF16);
    ck_assert_uint_eq(out.tensor.rank, 4);
    ck_assert_mem_eq(out.tensor.shape, shape, sizeof shape);
    /* Row 1 of sample 1 is beyond the valid prefix. */
    const unsigned char *row = out.tensor.data;
    row += (size_t)(TOKENS + 1) * HEADS * DIM * 2;
    for (unsigned i = 0; i < HEADS * DIM * 2; i++)
        ck_assert_uint_eq(row[i], 0);
    tensor_file_close(&out);
    ck_assert_int_eq(draft("run out.safetensors:out a.npy a.npy " SHAPE), 0);
    refused("run out.safetensors " SHAPE, "no tensor 'q'; it has 'out'");
    refused("run a.npy a.npy a.npy " SHAPE "--valid 4,5", "two for each of 2 samples");
}
END_TEST

/* --sparsity 0 is dense attention, so the check finds nothing. */
START_TEST(run_check)
{
    const char *dense = INPUTS SHAPE "--check --tolerance 1e-6 --json --sparsity 0 --tile 1x2x4";
    ck_assert_int_eq(draft(dense), 0);
    cJSON *json = cJSON_Parse(content("out"));
    cJSON *check = cJSON_GetObjectItem(json, "check");
    ck_assert_double_lt(cJSON_GetObjectItem(check, "relative_l2")->valuedouble, 1e-6);
    ck_assert_double_gt(cJSON_GetObjectItem(check, "recall")->valuedouble, 0.9999);
    ck_assert_int_eq(cJSON_GetArraySize(cJSON_GetObjectItem(json, "stages")), 4);
    cJSON_Delete(json);
    ck_assert_int_eq(draft(INPUTS SHAPE "--check --tolerance 1e-6 --sparsity 0.9 --tile 1x2x4"), 1);
    ck_assert_ptr_nonnull(strstr(content("err"), "beyond the tolerance"));
}
END_TEST

START_TEST(run_options)
{
    ck_assert_int_eq(draft(INPUTS SHAPE "--rule=mass --mass=0.5 --repeat 2 --threads 1"), 0);
    ck_assert_int_eq(draft(INPUTS SHAPE "--rule row --force first-frame,neighbours"), 0);
    ck_assert_int_eq(draft(INPUTS SHAPE "--rule paper --sparsity 0.5 --scale 0.1"), 0);
    ck_assert_int_eq(draft(INPUTS SHAPE "--head-sparsity 0.5,0.75 --type f32"), 0);
    ck_assert_int_eq(draft("run -- q.npy k.npy v.npy"), 2); /* no grid */
    ck_assert_int_eq(draft("--version"), 0);
    ck_assert_ptr_nonnull(strstr(content("out"), "draft 0."));
    ck_assert_int_eq(draft("run --help"), 0);
    ck_assert_str_eq(content("err"), "");
}
END_TEST

/* The same numbers in files of two types: converted, each gives the other's result. */
START_TEST(run_converts_exactly)
{
    static const uint64_t shape[] = {TOKENS, HEADS, DIM};
    static float wide[COUNT];
    struct tensor_file narrow = {0};
    char path[512];
    write_tensor("b.npy", DRAFT_BF16, 3, shape, 9);
    open_result("b.npy", &narrow);
    for (size_t i = 0; i < COUNT; i++)
        memcpy((char *)&wide[i] + 2, (const char *)narrow.tensor.data + 2 * i, 2);
    struct tensor t = narrow.tensor;
    t.type = DRAFT_F32;
    t.data = wide;
    snprintf(path, sizeof path, "%s/w.npy", folder);
    FILE *file = fopen(path, "wb");
    ck_assert(tensor_write(file, path, "q", &t));
    fclose(file);
    tensor_file_close(&narrow);
    ck_assert_int_eq(draft("run b.npy b.npy b.npy " SHAPE "-o b1.npy"), 0);
    ck_assert_int_eq(draft("run w.npy w.npy w.npy " SHAPE "--type bf16 -o b2.npy"), 0);
    same_results("b1.npy", "b2.npy");
    ck_assert_int_eq(draft("run w.npy w.npy w.npy " SHAPE "-o w1.npy"), 0);
    ck_assert_int_eq(draft("run b.npy w.npy b.npy " SHAPE "--type f32 -o w2.npy"), 0);
    same_results("w1.npy", "w2.npy");
}
END_TEST

/* --type converts inputs, and refuses numbers that the type cannot hold. */
START_TEST(run_converts)
{
    static const uint64_t shape[] = {TOKENS, HEADS, DIM};
    static const float large[DIM * HEADS * TOKENS] = {[COUNT - 1] = -65520, [7] = 65520};
    struct tensor_file out = {0}, again = {0};
    char path[512];
    ck_assert_int_eq(draft(INPUTS SHAPE "--type bf16 -o a.npy"), 0);
    open_result("a.npy", &out);
    ck_assert_int_eq(out.tensor.type, DRAFT_BF16);
    ck_assert_uint_eq(out.tensor.count, COUNT);
    /* Tensors of two types, both converted. */
    ck_assert_int_eq(draft("run a.npy q.npy a.npy " SHAPE "--type f32 -o c.npy"), 0);
    open_result("c.npy", &again);
    ck_assert_int_eq(again.tensor.type, DRAFT_F32);
    tensor_file_close(&again);
    tensor_file_close(&out);

    snprintf(path, sizeof path, "%s/large.npy", folder);
    struct tensor t = {.type = DRAFT_F32, .rank = 3, .count = COUNT, .data = large};
    memcpy(t.shape, shape, sizeof shape);
    FILE *file = fopen(path, "wb");
    ck_assert(tensor_write(file, path, "q", &t));
    fclose(file);
    refused("run q.npy large.npy v.npy " SHAPE "--type f16",
            "large.npy: 2 of its numbers are too large for f16");
    ck_assert_int_eq(draft("run q.npy large.npy v.npy " SHAPE "--type bf16"), 0);
}
END_TEST

START_TEST(run_refuses)
{
    static const uint64_t other[] = {TOKENS, HEADS, 8}, flat[] = {TOKENS, DIM};
    write_tensor("other.npy", DRAFT_F32, 3, other, 5);
    write_tensor("flat.npy", DRAFT_F32, 2, flat, 5);
    write_tensor("half.npy", DRAFT_BF16, 3, (const uint64_t[]){TOKENS, HEADS, DIM}, 6);
    refused("", "usage");
    refused("walk", "no subcommand 'walk'");
    refused("run", "0 input files");
    refused("run q.npy k.npy", "2 input files");
    refused("run q.npy k.npy v.npy v.npy", "one operand too many");
    refused("run --fast", "no option --fast");
    refused("run -x", "no option -x");
    refused("run --json=1", "no argument belongs to option --json");
    refused("run --tile", "lacks its argument");
    refused(INPUTS "--grid 2x6", "no valid size");
    refused(INPUTS "--grid 2x6x8x9", "no valid size");
    refused(INPUTS "--grid 99999999999x1x1", "no valid size");
    refused(INPUTS "--prefix -1", "no valid number");
    refused(INPUTS "--sparsity nan", "no valid number");
    refused(INPUTS "--rule best", "not one of");
    refused(INPUTS "--head-sparsity 0.5,,x", "no valid number");
    refused(INPUTS "--head-sparsity @missing", "missing: No such file");
    refused(INPUTS, "--grid FxHxW");
    refused(INPUTS "--grid 2x6x8", "q has 105 tokens, but 0 + 2 x 6 x 8 + 0");
    refused(INPUTS "--grid 4294967295x4294967295x4294967295", "more than");
    refused(INPUTS SHAPE "--frames 2", "goes without");
    refused(INPUTS SHAPE "--tolerance 1", "needs --check");
    refused(INPUTS SHAPE "--sparsity 1", "sparsity");
    refused(INPUTS SHAPE "--tile 9x9x9", "tile");
    refused(INPUTS SHAPE "--head-sparsity 0.5", "1 numbers, q has 2 heads");
    refused(INPUTS SHAPE "--valid 1.5,2", "no number of tokens");
    refused("run q.npy k.npy missing.npy " SHAPE, "missing.npy: No such file");
    refused("run q.npy k.npy v.npy:v " SHAPE, "v.npy:v: No such file");
    refused("run q.npy other.npy v.npy " SHAPE, "only heads may differ");
    refused("run q.npy k.npy other.npy " SHAPE, "must be equal");
    refused("run flat.npy k.npy v.npy " SHAPE, "is needed");
    refused("run q.npy k.npy half.npy " SHAPE, "different types");
    ck_assert_int_eq(draft(INPUTS SHAPE "--backend=abacus"), 3);
    ck_assert_int_eq(draft(INPUTS SHAPE "--device 7"), 3);
}
END_TEST

/* Whatever goes wrong, no file appears, and none is changed. */
START_TEST(run_leaves_nothing)
{
    unsigned before = files() + 2; /* out and err */
    refused(INPUTS SHAPE "-o q.npy", "is an input");
    refused(INPUTS SHAPE "-o ./q.npy", "is an input");
    refused(INPUTS SHAPE "--lse v.npy", "is an input");
    refused(INPUTS SHAPE "-o a.npy --lse a.npy", "the same file");
    refused(INPUTS SHAPE "-o a.safetensors --lse a.safetensors:lse", "the same file");
    refused(INPUTS SHAPE "-o missing/a.npy", "missing/a.npy cannot be written");
    refused(INPUTS SHAPE "-o .", "cannot be written");
    refused(INPUTS SHAPE "-o a.npy --tile 9x9x9", "tile");
    refused(INPUTS SHAPE "-o a.npy --lse missing/b.npy", "cannot be written");
    ck_assert_int_eq(draft(INPUTS SHAPE "-o a.npy --backend=abacus"), 3);
    ck_assert_uint_eq(files(), before);
    ck_assert_int_eq(draft(INPUTS SHAPE "-o /dev/null"), 0);
    struct stat status;
    ck_assert(stat("/dev/null", &status) == 0 && S_ISCHR(status.st_mode));
    /* Where the disk is full. */
    ck_assert_int_eq(draft(INPUTS SHAPE "-o /dev/full"), 2);
    ck_assert_int_eq(draft(INPUTS SHAPE ">/dev/full 2>err #"), 2);
    ck_assert_int_eq(draft("devices >/dev/full 2>err #"), 2);
    ck_assert_uint_eq(files(), before);
}
END_TEST

/* A signal in the middle of the work. */
START_TEST(run_interrupted)
{
    char line[1024];
    snprintf(line, sizeof line,
             "exec 2>/dev/null; cd '%s' && { DRAFT_BACKEND=cpu '%s' " INPUTS SHAPE
             "--repeat 100000 -o a.npy >out 2>err & p=$!; "
             "n=0; while ! ls a.npy*.tmp >/dev/null 2>&1 && [ $n -lt 100 ]; do "
             "sleep 0.1; n=$((n + 1)); done; ls a.npy*.tmp >seen; kill -TERM $p; wait $p; }",
             folder, program);
    int status = system(line);
    ck_assert_int_eq(WEXITSTATUS(status), 128 + SIGTERM);
    ck_assert_ptr_nonnull(strstr(content("seen"), "a.npy"));
    ck_assert_uint_eq(files(), 6); /* 3 inputs, out, err, seen */
}
END_TEST

START_TEST(bench_and_devices)
{
    static const char own[] = "bench --grid 1x8x8 --suffix 3 --dim 8 --type bf16 "
                              "--sparsity 0.5 --rule row --json";
    const char *arguments[] = {"devices --json", "bench --case tiny --repeat 1 --json", own};
    for (unsigned i = 0; i < sizeof arguments / sizeof *arguments; i++) {
        ck_assert_msg(draft(arguments[i]) == 0, "%s: %s", arguments[i], content("err"));
        cJSON *json = cJSON_Parse(content("out"));
        ck_assert_msg(cJSON_IsObject(json), "%s: %s", arguments[i], content("out"));
        cJSON_Delete(json);
    }
    ck_assert_int_eq(draft("bench --grid 1x8x16 --dim 8 --tile 1x4x4 --sparsity 0.5 --rule row "
                           "--score max --tail mean --json"),
                     0);
    cJSON *json = cJSON_Parse(content("out"));
    cJSON *result = cJSON_GetArrayItem(cJSON_GetObjectItem(json, "results"), 0);
    ck_assert_str_eq(cJSON_GetStringValue(cJSON_GetObjectItem(result, "tail")), "mean");
    ck_assert_str_eq(cJSON_GetStringValue(cJSON_GetObjectItem(result, "score")), "max");
    cJSON_Delete(json);
    ck_assert_int_eq(draft("devices"), 0);
    ck_assert_ptr_nonnull(strstr(content("out"), "cpu"));
    ck_assert_int_eq(draft("bench --case tiny --repeat 1"), 0);
    refused("bench --case huge", "not one of");
    refused("bench --repeat 0", "--repeat is 1");
    refused("bench --grid 0x1x1", "");
    refused("bench --grid 4294967295x4294967295x4294967295", "larger than memory");
    refused("devices --fast", "no option");
}
END_TEST

/* ---- On the simulated CUDA driver, whose devices do not take f32 ---------------------------- */

/* The name of the backend that the JSON on stdout tells of. */
static void check_backend(const char *wanted)
{
    cJSON *json = cJSON_Parse(content("out"));
    cJSON *backend = cJSON_GetObjectItem(cJSON_GetObjectItem(json, "device"), "backend");
    ck_assert_msg(cJSON_IsString(backend), "no backend in '%s'", content("out"));
    ck_assert_str_eq(backend->valuestring, wanted);
    cJSON_Delete(json);
}

#define TINY "bench --grid 1x8x8 --dim 16 --repeat 1 --sparsity 0.5 --json "

/* A type that the best device does not take: another device, unless this one was named. */
START_TEST(cuda_types)
{
    static const char *const named[] = {TINY "--type f32 --backend cuda",
                                        TINY "--type f32 --device 0",
                                        INPUTS SHAPE "--backend cuda"};
    ck_assert_int_eq(draft_on("", TINY), 0);
    ck_assert_str_eq(content("err"), "");
    check_backend("cuda");
    ck_assert_int_eq(draft_on("", TINY "--type f32"), 0);
    ck_assert_ptr_nonnull(strstr(content("err"), "does not take f32: using "));
    check_backend("cpu");
    ck_assert_int_eq(draft_on("", INPUTS SHAPE "--json -o out.npy"), 0);
    ck_assert_ptr_nonnull(strstr(content("err"), "does not take f32: using "));
    check_backend("cpu");
    for (unsigned i = 0; i < sizeof named / sizeof *named; i++) {
        ck_assert_int_eq(draft_on("", named[i]), 3);
        ck_assert_ptr_nonnull(strstr(content("err"), "say --type f16 or bf16, or --backend "));
        ck_assert_str_eq(content("out"), "");
    }
    ck_assert_int_eq(draft_on("cuda", TINY "--type f32"), 3);
    ck_assert_int_eq(draft_on("", INPUTS SHAPE "--backend cuda --type f16 --check --json"), 0);
    check_backend("cuda");
}
END_TEST

START_TEST(cuda_devices_and_demo)
{
    ck_assert_int_eq(draft_on("", "devices"), 0);
    const char *row = strstr(content("out"), "\n  cuda ");
    ck_assert_msg(row && strstr(row, "f16 bf16 "), "%s", content("out"));
    ck_assert_int_eq(draft_on("", "demo --grid 1x8x16 --heads 1 --dim 16 --json -o pictures"), 0);
    check_backend("cuda");
}
END_TEST

#define TUNE "tune q.npy k.npy v.npy " SHAPE "--tile 1x2x4 "

/* A mean over the heads is met as far as the levels allow, and a line joins those that were there. */
START_TEST(tune_writes)
{
    ck_assert_int_eq(draft(TUNE "--sparsity 0.5 --levels 0.75,0.5,0.25 --steps '3-*' --layers 0-1 "
                                "--refresh 2 -o schedule --json"),
                     0);
    ck_assert_str_eq(content("err"), "");
    cJSON *json = cJSON_Parse(content("out"));
    double mean = cJSON_GetNumberValue(cJSON_GetObjectItem(json, "mean_sparsity"));
    ck_assert_msg(mean >= 0.5 && mean < 0.75, "%g: %s", mean, content("out"));
    cJSON *head = cJSON_GetArrayItem(cJSON_GetObjectItem(json, "heads"), 0);
    cJSON *errors = cJSON_GetObjectItem(head, "errors");
    ck_assert_int_eq(cJSON_GetArraySize(errors), 3);
    for (int i = 0; i < 2; i++)
        ck_assert_double_gt(cJSON_GetArrayItem(errors, i)->valuedouble,
                            cJSON_GetArrayItem(errors, i + 1)->valuedouble);
    cJSON_Delete(json);
    ck_assert_ptr_nonnull(strstr(content("schedule"), "\n3-*\t0-1\t2\t0."));
    /* Nothing but dense attention is without error. */
    ck_assert_int_eq(draft(TUNE "--error 1e-9 -o schedule"), 0);
    const char *text = content("schedule");
    ck_assert_ptr_nonnull(strstr(text, "\n3-*\t0-1\t2\t0."));
    ck_assert_ptr_nonnull(strstr(text, "\n*\t*\t1\t0 0\n"));
    ck_assert_uint_eq(files(), 6);
}
END_TEST

START_TEST(tune_refuses)
{
    refused("tune", "no input");
    refused("tune q.npy k.npy v.npy", "--grid is missing");
    refused(TUNE "--rule mass", "--rule must be head or row");
    refused(TUNE "--sparsity 0.5 --error 0.1", "--error goes without");
    refused(TUNE "--sparsity 1", "--sparsity must be");
    refused(TUNE "--error 0", "--error must be");
    refused(TUNE "--levels 0.5,0.5", "--levels must descend");
    refused(TUNE "--refresh 0", "--refresh must be");
    refused(TUNE "--steps 7-3", "the steps are no range");
    refused(TUNE "--layers '1 1 0.5\n2'", "--steps or --layers");
    refused(TUNE "-o q.npy", "q.npy");
    refused(TUNE "-o nowhere/schedule", "nowhere");
    ck_assert_int_eq(draft(TUNE "-o schedule"), 0);
    char line[512];
    snprintf(line, sizeof line, "echo broken >>'%s/schedule'", folder);
    ck_assert_int_eq(system(line), 0);
    refused(TUNE "-o schedule", "schedule: line 4: the steps");
    ck_assert_ptr_nonnull(strstr(content("schedule"), "\nbroken\n"));
    ck_assert_uint_eq(files(), 6);
}
END_TEST

int main(int argc, char **argv)
{
    bool simulated = argc == 3 && strcmp(argv[2], "simulated") == 0;
    if (argc != 2 && !simulated) {
        fprintf(stderr, "usage: %s PROGRAM [simulated]\n", argv[0]);
        return 2;
    }
    set_program(argv[1]);
    Suite *suite = suite_create("program");
    TCase *run = tcase_create("run");
    tcase_set_timeout(run, 120);
    tcase_add_checked_fixture(run, make_folder, remove_folder);
    if (simulated) {
        tcase_add_test(run, cuda_types);
        tcase_add_test(run, cuda_devices_and_demo);
    } else {
        tcase_add_test(run, run_writes);
        tcase_add_test(run, run_batch);
        tcase_add_test(run, run_check);
        tcase_add_test(run, run_options);
        tcase_add_test(run, run_converts);
        tcase_add_test(run, run_converts_exactly);
        tcase_add_test(run, run_refuses);
        tcase_add_test(run, run_leaves_nothing);
        tcase_add_test(run, run_interrupted);
        tcase_add_test(run, bench_and_devices);
        tcase_add_test(run, tune_writes);
        tcase_add_test(run, tune_refuses);
    }
    suite_add_tcase(suite, run);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
