/* SPDX-License-Identifier: MIT
 *
 * The lowering by itself: what it takes, and that it refuses what a device would, with a sentence
 * that says why. Modules are those of the library, with one thing in them changed. */
#include <stdlib.h>
#include <string.h>

#include "../suite.h"
#include "lower.h"
#include "vulkan/passes.h"

SHADER(attend_coopmat_16x16x16_64)
SHADER(attend_coopmat_8x16x16_64)
SHADER(attend_coopmat_bf16_16x16x16_128)
SHADER(attend_coopmat2_f16_16x16x16_64)
SHADER(attend_coopmat2_ext_bf16_16x16x16_64)
SHADER(attend_workgroup_128)

/* ---- Changes --------------------------------------------------------------------------------- */

/* The first instruction of this kind, from `from` on; NULL at the end. */
static uint32_t *find(uint32_t *from, const uint32_t *end, uint32_t opcode)
{
    while (from < end && spirv_code(from) != opcode)
        from += spirv_size(from);
    return from < end ? from : NULL;
}

static uint32_t *find_first(uint32_t *code, size_t *count, uint32_t opcode)
{
    uint32_t *at = find(code + SPIRV_HEADER, code + *count, opcode);
    ck_assert_ptr_nonnull(at);
    return at;
}

static void nothing(uint32_t *code, size_t *count)
{
    (void)code, (void)count;
}

static void cut_off(uint32_t *code, size_t *count)
{
    (void)code;
    *count -= 3;
    code[*count - 1] |= 7u << 16;
}

static void other_capability(uint32_t *code, size_t *count)
{
    enum { GEOMETRY = 2 };
    find_first(code, count, OpCapability)[1] = GEOMETRY;
}

/* A barrier is as long as OpGroupNonUniformElect. */
static void group_operation(uint32_t *code, size_t *count)
{
    enum { ELECT = 333 };
    uint32_t *at = find_first(code, count, OpControlBarrier);
    *at = (*at & 0xffff0000) | ELECT;
}

static void operands_swapped(uint32_t *code, size_t *count)
{
    uint32_t *at = find_first(code, count, OpCooperativeMatrixMulAdd), a = at[3];
    at[3] = at[4];
    at[4] = a;
}

static void own_result(uint32_t *code, size_t *count)
{
    uint32_t *at = find_first(code, count, OpCooperativeMatrixMulAdd);
    at[5] = at[2]; /* sums of its own result */
}

/* Rows for columns in the type of the first matrix: of use A of `workgroup`, 128 x 64. */
static void sides_swapped(uint32_t *code, size_t *count)
{
    uint32_t *at = find_first(code, count, OpTypeCooperativeMatrix), rows = at[4];
    at[4] = at[5];
    at[5] = rows;
}

static void other_scope(uint32_t *code, size_t *count)
{
    uint32_t *at = find_first(code, count, OpTypeCooperativeMatrix);
    at[3] = at[6]; /* the scope has the number of the use: 0, of all devices */
}

static void reduce_columns(uint32_t *code, size_t *count)
{
    find_first(code, count, OpCooperativeMatrixReduce)[4] = 2;
}

static void store_of_numbers(uint32_t *code, size_t *count)
{
    /* What is stored as a matrix is the pointer that it goes to. */
    uint32_t *at = find_first(code, count, OpCooperativeMatrixStore);
    at[2] = at[1];
}

/* ---- Cases ----------------------------------------------------------------------------------- */

#define MODULE(name) draft_spirv_##name, &draft_spirv_##name##_size
static const struct lowering_case {
    const char *name, *model, *size; /* the only size of subgroups, or NULL */
    const uint32_t *code;
    const size_t *bytes;
    void (*change)(uint32_t *code, size_t *count);
    const char *error; /* part of the message; NULL: it is lowered */
} cases[] = {
    {"coopmat", "amd", NULL, MODULE(attend_coopmat_16x16x16_64), nothing, NULL},
    {"coopmat in 64", "amd", "64", MODULE(attend_coopmat_16x16x16_64), nothing, NULL},
    {"coopmat in 16", "intel", "16", MODULE(attend_coopmat_8x16x16_64), nothing, NULL},
    {"coopmat bf16", "nvidia", NULL, MODULE(attend_coopmat_bf16_16x16x16_128), nothing, NULL},
    {"coopmat2", "nvidia", NULL, MODULE(attend_coopmat2_f16_16x16x16_64), nothing, NULL},
    {"coopmat2 ext", "amd_ext", NULL, MODULE(attend_coopmat2_ext_bf16_16x16x16_64), nothing, NULL},
    {"workgroup", "nvidia", NULL, MODULE(attend_workgroup_128), nothing, NULL},

    {"a shape of another device", "intel", NULL, MODULE(attend_coopmat_16x16x16_64), nothing,
     "no list of the device has a matrix"},
    {"rows for fewer invocations", "amd", "8", MODULE(attend_coopmat_16x16x16_64), nothing,
     "16 rows for 8 invocations"},
    {"nv of amd", "amd_ext", NULL, MODULE(attend_coopmat2_f16_16x16x16_64), nothing,
     "SPV_NV_cooperative_matrix2 is not the device's"},
    {"ext of nvidia", "nvidia", NULL, MODULE(attend_coopmat2_ext_bf16_16x16x16_64), nothing,
     "SPV_EXT_cooperative_matrix_maintenance1 is not the device's"},
    {"neither of them", "amd", NULL, MODULE(attend_coopmat2_ext_bf16_16x16x16_64), nothing,
     "is not the device's"},
    {"matrices of workgroups of amd", "amd_ext", NULL, MODULE(attend_workgroup_128), nothing,
     "is not the device's"},
    {"the end is missing", "amd", NULL, MODULE(attend_coopmat_16x16x16_64), cut_off,
     "the module ends"},
    {"a capability", "amd", NULL, MODULE(attend_coopmat_16x16x16_64), other_capability,
     "does not know capability 2"},
    {"an operation of groups", "amd", NULL, MODULE(attend_coopmat_16x16x16_64), group_operation,
     "not among those that the lowering knows"},
    {"a product of b and a", "amd", NULL, MODULE(attend_coopmat_16x16x16_64), operands_swapped,
     "a product of 16 x 16 with 16 x 16"},
    {"sums from nowhere", "amd", NULL, MODULE(attend_coopmat_16x16x16_64), own_result,
     "has no value yet"},
    {"sides of a product", "intel", NULL, MODULE(attend_coopmat_8x16x16_64), sides_swapped,
     "no list of the device has a matrix"},
    {"a scope", "amd", NULL, MODULE(attend_coopmat_16x16x16_64), other_scope,
     "no list of the device has a matrix"},
    {"a reduction of columns", "nvidia", NULL, MODULE(attend_coopmat2_f16_16x16x16_64),
     reduce_columns, "reduces rows only"},
    {"a store of no matrix", "amd", NULL, MODULE(attend_coopmat_16x16x16_64), store_of_numbers,
     "instruction 4458"},
};

/* Nothing of matrices is left. */
static void look_through(const struct words *out)
{
    ck_assert(!lower_wanted(out->at, out->count));
    for (size_t i = SPIRV_HEADER; i < out->count; i += spirv_size(out->at + i)) {
        ck_assert_uint_lt(spirv_code(out->at + i), OpTypeCooperativeMatrix);
        ck_assert_uint_gt(spirv_size(out->at + i), 0);
    }
}

START_TEST(each_case)
{
    const struct lowering_case *test = &cases[_i];
    struct checks *checks = calloc(1, sizeof *checks);
    size_t count = *test->bytes / sizeof(uint32_t);
    uint32_t *code = malloc(*test->bytes);
    struct model model;
    struct words out;
    char error[256] = "";
    ck_assert(checks && code);
    memcpy(code, test->code, *test->bytes);
    test->change(code, &count);
    setenv("DRAFT_MATRIX_DRIVER", test->model, 1);
    if (test->size)
        setenv("DRAFT_MATRIX_SUBGROUP", test->size, 1);
    else
        unsetenv("DRAFT_MATRIX_SUBGROUP");
    ck_assert(model_chosen(&model));
    ck_assert(lower_wanted(code, count) || test->error);
    struct lower_request request = {&model, code, count, model.subgroup, 0x1000, checks};
    bool done = lower_module(&request, &out, error, sizeof error);
    if (done == (test->error != NULL) || (test->error && !strstr(error, test->error)))
        ck_abort_msg("%s: %s", test->name, done ? "was lowered" : error);
    if (done)
        look_through(&out);
    words_free(&out);
    for (uint32_t i = 1; i < checks->count; i++)
        free(checks->text[i]);
    free(checks);
    free(code);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("lowering of matrices");
    TCase *tests = tcase_create("cases");
    tcase_add_loop_test(tests, each_case, 0, sizeof cases / sizeof *cases);
    suite_add_tcase(suite, tests);
    return suite_main(suite, false);
}
