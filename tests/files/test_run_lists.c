/* SPDX-License-Identifier: MIT
 *
 * Lists of `draft run`: saved, loaded, made by other programs, and damaged. argv[1] is the program.
 * All on the CPU backend. */
#include <stdio.h>
#include <sys/stat.h>

#include <cjson/cJSON.h>

#include "shell.h"

/* Blocks of SHAPE in tiles of 1x2x4: one of prefix, 2x3x2 of video, one of suffix. */
#define TILED INPUTS SHAPE "--tile 1x2x4 "
enum { VIDEO = 12, BLOCKS = 1 + VIDEO + 1, ROWS = HEADS * BLOCKS, ENTRIES = ROWS * BLOCKS };

/* ---- What was saved is what is attended --------------------------------------------------- */

static const struct {
    const char *options; /* of both runs       */
    const char *rule;    /* of the first alone */
    int stages;          /* of the second      */
} round_trips[] = {
    {"--tail drop", "--rule row --sparsity 0.5", 1},
    {"--tail drop --repeat 3", "--rule head --sparsity 0.7 --force neighbours", 1},
    {"--tail mean --score mean --repeat 2", "--sparsity 0.6", 3},
    {"--tail gap --score max --repeat 3", "--rule row --sparsity 0.75", 3},
    {"--tail fitted --factors 0.5,1.25 --score mean", "--rule row --sparsity 0.75", 3},
    {"--tail mean --type bf16", "--head-sparsity 0.25,0.75", 3},
};

START_TEST(lists_round_trip)
{
    char line[512];
    snprintf(line, sizeof line, TILED "%s %s -o a.npy --save-lists lists", round_trips[_i].options,
             round_trips[_i].rule);
    ck_assert_msg(draft(line) == 0, "%s: %s", line, content("err"));
    snprintf(line, sizeof line,
             TILED "%s --lists lists --save-lists again -o b.npy --json --check --lse lse.npy",
             round_trips[_i].options);
    ck_assert_msg(draft(line) == 0, "%s: %s", line, content("err"));
    cJSON *json = cJSON_Parse(content("out"));
    ck_assert_int_eq(cJSON_GetArraySize(cJSON_GetObjectItem(json, "stages")),
                     round_trips[_i].stages);
    ck_assert_str_eq(cJSON_GetStringValue(cJSON_GetObjectItem(json, "lists")), "lists");
    ck_assert_ptr_null(cJSON_GetObjectItem(json, "rule"));
    cJSON_Delete(json);
    same_results("a.npy", "b.npy");
    snprintf(line, sizeof line, "cd '%s' && cmp lists again", folder);
    ck_assert_int_eq(system(line), 0);
    /* Not because the lists made no difference. */
    snprintf(line, sizeof line, TILED "%s --sparsity 0.05 -o c.npy", round_trips[_i].options);
    ck_assert_int_eq(draft(line), 0);
    snprintf(line, sizeof line, "cd '%s' && cmp -s a.npy c.npy", folder);
    ck_assert_int_ne(system(line), 0);
}
END_TEST

/* Each sample has lists of its own. */
START_TEST(lists_of_a_batch)
{
    static const uint64_t shape[] = {2, TOKENS, HEADS, DIM};
    write_tensor("a.npy", DRAFT_BF16, 4, shape, 4);
    write_tensor("b.npy", DRAFT_BF16, 4, shape, 5);
    ck_assert_int_eq(draft("run a.npy b.npy a.npy " SHAPE "--tile 1x2x4 --sparsity 0.6 "
                           "--save-lists l -o x.npy"),
                     0);
    ck_assert_int_eq(draft("run a.npy b.npy a.npy " SHAPE "--tile 1x2x4 --lists l -o y.npy"), 0);
    same_results("x.npy", "y.npy");
    refused(TILED "--lists l", "'counts' must be [1, 2, 14]");
}
END_TEST

/* The file says what the report says: rows of as many pairs as the rule asks for, text in full. */
START_TEST(lists_content)
{
    struct tensor_file counts = {0}, lists = {0};
    struct tensor_error error;
    char path[512], text[32];
    ck_assert_int_eq(draft(TILED "--rule row --sparsity 0.5 --save-lists l --json"), 0);
    snprintf(path, sizeof path, "%s/l", folder);
    ck_assert(tensor_file_open(path, "counts", TENSOR_INTEGER, &counts, &error));
    ck_assert(tensor_file_open(path, "lists", TENSOR_INTEGER, &lists, &error));
    ck_assert(tensor_file_metadata(&counts, "tokens", text, sizeof text));
    ck_assert_str_eq(text, "4+2x6x8+5");
    ck_assert(tensor_file_metadata(&counts, "tile", text, sizeof text));
    ck_assert_str_eq(text, "1x2x4");
    ck_assert_uint_eq(counts.tensor.count, ROWS);
    ck_assert_uint_eq(lists.tensor.count, ENTRIES);
    for (unsigned row = 0; row < ROWS; row++) {
        bool is_text = row % BLOCKS == 0 || row % BLOCKS == BLOCKS - 1;
        uint32_t count = ((const uint32_t *)counts.tensor.data)[row];
        const uint16_t *list = (const uint16_t *)lists.tensor.data + (size_t)row * BLOCKS;
        ck_assert_uint_eq(count, is_text ? BLOCKS : VIDEO / 2 + 2);
        ck_assert_uint_eq(list[0], 0);
        ck_assert_uint_eq(list[count - 1], BLOCKS - 1);
        for (unsigned i = 1; i < BLOCKS; i++)
            ck_assert(i < count ? list[i] > list[i - 1] : list[i] == 0);
    }
    tensor_file_close(&lists);
    tensor_file_close(&counts);
}
END_TEST

/* ---- Made by others ------------------------------------------------------------------------- */

/* Lists as another program might hold them, all rows full. */
struct foreign {
    int64_t counts[ROWS];
    int32_t lists[ROWS][BLOCKS];
    draft_type counts_type, lists_type;
    unsigned counts_rank, lists_rank;
    uint64_t heads, blocks, width;
    const char *about[5];
    const char *lists_name;
};

static struct foreign make_foreign(void)
{
    struct foreign f = {.counts_type = TENSOR_I64,
                        .lists_type = TENSOR_I32,
                        .counts_rank = 2,
                        .lists_rank = 3,
                        .heads = HEADS,
                        .blocks = BLOCKS,
                        .width = BLOCKS,
                        .lists_name = "lists"};
    for (unsigned row = 0; row < ROWS; row++) {
        f.counts[row] = BLOCKS;
        for (int j = 0; j < BLOCKS; j++)
            f.lists[row][j] = j;
    }
    return f;
}

static void write_foreign(const struct foreign *f)
{
    char path[512];
    const uint64_t axes[4] = {1, f->heads, f->blocks, f->width};
    struct tensor_entry entries[2] = {
        {"counts", {.type = f->counts_type, .rank = f->counts_rank, .data = f->counts}},
        {f->lists_name, {.type = f->lists_type, .rank = f->lists_rank, .data = f->lists}}};
    for (unsigned e = 0; e < 2; e++) { /* the last axes, of 3 and of 4 */
        struct tensor *t = &entries[e].tensor;
        t->count = 1;
        for (unsigned i = 0; i < t->rank; i++)
            t->count *= t->shape[i] = axes[3 + e - t->rank + i];
    }
    snprintf(path, sizeof path, "%s/foreign", folder);
    FILE *file = fopen(path, "wb");
    ck_assert_ptr_nonnull(file);
    ck_assert(tensor_write_safetensors(file, entries, 2, f->about[0] ? f->about : NULL));
    ck_assert_int_eq(fclose(file), 0);
}

/* Full lists are dense attention; what stands behind a count is not looked at. */
START_TEST(lists_of_others)
{
    struct foreign f = make_foreign();
    write_foreign(&f);
    ck_assert_int_eq(draft(TILED "--tail drop --lists foreign -o a.npy"), 0);
    ck_assert_str_eq(content("err"), "");
    ck_assert_int_eq(draft(TILED "--tail drop --sparsity 0 -o b.npy"), 0);
    same_results("a.npy", "b.npy");
    f.counts_rank = 3;
    f.lists_rank = 4;
    f.counts[3] = 1;
    f.counts[4] = 0;
    for (int j = 0; j < BLOCKS; j++)
        f.lists[3][j] = f.lists[4][j] = j == 0 ? 7 : -1;
    write_foreign(&f);
    ck_assert_int_eq(draft(TILED "--lists foreign --tail drop --save-lists l --json"), 0);
    cJSON *json = cJSON_Parse(content("out"));
    cJSON *density = cJSON_GetObjectItem(json, "density");
    ck_assert_int_eq(cJSON_GetObjectItem(density, "kept_pairs")->valueint,
                     HEADS * VIDEO * VIDEO - 2 * VIDEO + 1);
    ck_assert_int_eq(cJSON_GetObjectItem(density, "empty_rows")->valueint, 1);
    cJSON_Delete(json);
}
END_TEST

/* ---- Refused -------------------------------------------------------------------------------- */

static void refuse_foreign(const struct foreign *f, const char *message)
{
    write_foreign(f);
    refused(TILED "--lists foreign -o a.npy --lse b.npy --save-lists c", message);
}

START_TEST(lists_damaged)
{
    struct foreign f = make_foreign();
    write_foreign(&f);
    unsigned before = files() + 2; /* out and err */
    f.counts[5] = BLOCKS + 1;
    refuse_foreign(&f, "foreign: head 0, query block 5: the count is not one of 0 to 14");
    f.counts[5] = -1;
    refuse_foreign(&f, "query block 5: the count");
    f.counts[5] = INT64_C(1) << 32;
    refuse_foreign(&f, "query block 5: the count");
    f = make_foreign();
    f.lists[BLOCKS + 2][9] = -1;
    refuse_foreign(&f, "foreign: head 1, query block 2: entry 9 is no block of 0 to 13");
    f.lists[BLOCKS + 2][9] = BLOCKS;
    refuse_foreign(&f, "head 1, query block 2: key block 14, there are 14");
    f.lists[BLOCKS + 2][9] = 65536;
    refuse_foreign(&f, "entry 9 is no block");
    f.lists[BLOCKS + 2][9] = 8;
    refuse_foreign(&f, "key block 8 after 8; lists ascend");
    f = make_foreign();
    f.heads = 1;
    refuse_foreign(&f, "'counts' must be [1, 2, 14] for this shape and tile");
    f = make_foreign();
    f.blocks = BLOCKS - 1;
    refuse_foreign(&f, "'counts' must be [1, 2, 14]");
    f = make_foreign();
    f.counts_rank = 1;
    refuse_foreign(&f, "'counts' must be");
    f = make_foreign();
    f.lists_rank = 2;
    refuse_foreign(&f, "'lists' must be [1, 2, 14, 1 to the same]");
    ck_assert_uint_eq(files(), before);
}
END_TEST

START_TEST(lists_for_another)
{
    struct foreign f = make_foreign();
    f.about[0] = "tile";
    f.about[1] = "2x4x1";
    refuse_foreign(&f, "foreign: its lists are for the tile '2x4x1', not for 1x2x4");
    f.about[1] = "1x2x4";
    f.about[2] = "tokens";
    f.about[3] = "5+2x6x8+4";
    refuse_foreign(&f, "its lists are for the tokens '5+2x6x8+4', not for 4+2x6x8+5");
    f.about[3] = "4+2x6x8+5";
    write_foreign(&f);
    ck_assert_int_eq(draft(TILED "--lists foreign"), 0);
    f = make_foreign();
    f.lists_name = "indices";
    refuse_foreign(&f, "no tensor 'lists'; it has 'counts', 'indices'");
    f = make_foreign();
    f.lists_type = DRAFT_F32;
    refuse_foreign(&f, "the type of 'lists' is 'F32': U16, U32, I32 and I64 can be read");
    refused(TILED "--lists q.npy", "q.npy: it is a .npy file");
    refused(TILED "--lists missing", "missing: No such file");
}
END_TEST

START_TEST(lists_options)
{
    struct foreign f = make_foreign();
    write_foreign(&f);
    unsigned before = files() + 2; /* out and err */
    refused(TILED "--lists foreign --sparsity 0.5", "--lists goes without");
    refused(TILED "--lists foreign --rule head", "--lists goes without");
    refused(TILED "--lists foreign --mass 0.5", "--lists goes without");
    refused(TILED "--lists foreign --force neighbours", "--lists goes without");
    refused(TILED "--lists foreign --row-floor 0.5", "--lists goes without");
    refused(TILED "--lists foreign --head-sparsity 0,0", "--lists goes without");
    refused(TILED "--lists foreign --tail fitted", "needs --factors");
    refused(TILED "--lists foreign --save-lists foreign", "is an input");
    refused(TILED "--lists foreign -o ./foreign", "is an input");
    refused(TILED "--save-lists q.npy", "is an input");
    refused(TILED "--save-lists a --lse a", "the same file");
    refused(TILED "--save-lists a -o a", "the same file");
    refused(TILED "--save-lists a.safetensors:x", "not a tensor in it");
    refused(TILED "--lists a.safetensors:x", "not a tensor in it");
    refused(TILED "--save-lists nowhere/a -o b.npy", "nowhere/a cannot be written");
    refused(TILED "--save-lists /dev/full", "cannot be written");
    ck_assert_uint_eq(files(), before);
}
END_TEST

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: %s PROGRAM\n", argv[0]);
        return 2;
    }
    set_program(argv[1]);
    Suite *suite = suite_create("run lists");
    TCase *lists = tcase_create("lists");
    tcase_set_timeout(lists, 120);
    tcase_add_checked_fixture(lists, make_folder, remove_folder);
    tcase_add_loop_test(lists, lists_round_trip, 0, sizeof round_trips / sizeof *round_trips);
    tcase_add_test(lists, lists_of_a_batch);
    tcase_add_test(lists, lists_content);
    tcase_add_test(lists, lists_of_others);
    tcase_add_test(lists, lists_damaged);
    tcase_add_test(lists, lists_for_another);
    tcase_add_test(lists, lists_options);
    suite_add_tcase(suite, lists);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
