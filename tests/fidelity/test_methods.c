/* SPDX-License-Identifier: MIT
 *
 * The methods of `draft fidelity`: their names, and what each computes beside the kept pairs. */
#include <check.h>
#include <string.h>

#include "fidelity_bench.h"

START_TEST(methods_by_name)
{
    static struct fidelity_method methods[FIDELITY_METHODS];
    ck_assert_uint_eq(fidelity_methods("row-lse-gap,random", methods), 3);
    ck_assert_str_eq(methods[0].name, "paper");
    ck_assert_int_eq(methods[1].rule, DRAFT_RULE_ROW);
    ck_assert(methods[1].scorer == DRAFT_SCORER_LSE && methods[1].tail == DRAFT_TAIL_GAP);
    ck_assert_int_eq(methods[2].role, FIDELITY_FLOOR);
    ck_assert_uint_eq(fidelity_methods("head-max-one+first,row-lse-fitted", methods), 3);
    ck_assert_str_eq(methods[1].name, "head-max-one+first");
    ck_assert(methods[1].one && !methods[2].one);
    ck_assert(methods[1].force == DRAFT_FORCE_FIRST_FRAME && methods[2].force == 0);
    ck_assert_uint_eq(fidelity_methods("floor-excess-fitted+first,mass-excess-gap", methods), 3);
    ck_assert_str_eq(methods[1].name, "floor-excess-fitted+first");
    ck_assert(methods[1].scorer == DRAFT_SCORER_EXCESS && methods[1].row_floor == 0.5);
    ck_assert_int_eq(methods[1].tail, DRAFT_TAIL_FITTED);
    ck_assert(methods[2].scorer == DRAFT_SCORER_EXCESS && methods[2].rule == DRAFT_RULE_MASS);
    ck_assert_uint_eq(fidelity_methods("row-lse", methods), 0);
    ck_assert_uint_eq(fidelity_methods("random+first", methods), 0);
    ck_assert_uint_eq(fidelity_methods("paper+first", methods), 0);
    ck_assert_uint_ge(fidelity_methods("all", methods), 4 * 4 * 5);
}
END_TEST

/* What a method computes beside the kept pairs is taken from its budget. */
START_TEST(extra_work_is_paid)
{
    static struct fidelity_method m[FIDELITY_METHODS];
    struct draft_layout layout = {.tokens = 12800, .video_blocks = 100, .blocks = 100};
    struct draft_shape s = {1, 0, 4, 40, 80, 0, 1, 0, 128};
    fidelity_methods("row-mean-drop,row-mean-mean,row-mean-fitted", m);
    double none = fidelity_extra_work(&m[1], &s, &layout);
    ck_assert_double_lt(none, 3e-4);
    ck_assert_double_eq_tol(fidelity_extra_work(&m[2], &s, &layout) - none, 0.01, 1e-9);
    /* a tenth of 4 blocks and of 5 passes of pooled keys; four more sums, one more product */
    double fitted = (4.0 / 100 + 5 * 0.01) / 10 + 1.0 / 12800 + 0.5 * (0.01 / 1.28) * (0.01 / 1.28);
    ck_assert_double_eq_tol(fidelity_extra_work(&m[3], &s, &layout) - none, 0.01 + fitted, 1e-9);
    ck_assert_double_eq_tol(fidelity_params(&m[2], &s, &layout, DRAFT_F16, 0.9).sparsity, 0.91,
                            1e-9);
    m[2].force = 2;
    ck_assert_uint_eq(fidelity_params(&m[2], &s, &layout, DRAFT_F16, 0.9).force, 2);
}
END_TEST

/* Of the means: how often each token is added, and how many products each pair of blocks takes. */
START_TEST(means_are_counted)
{
    static const struct {
        const char *name;
        unsigned sums, products;
    } rows[] = {{"row-mean-drop", 3, 1},
                {"row-lse-drop", 4, 4},
                {"row-max-mean", 4, 4},
                {"row-mean-gap", 4, 5},
                {"row-max-gap", 4, 4},
                {"row-max-one", 8, 5},
                {"row-excess-drop", 5, 64},
                {"row-excess-mean", 5, 64},
                {"row-excess-gap", 6, 68},
                {"row-excess-one", 9, 65},
                {"paper", 3, 1}};
    static struct fidelity_method m[FIDELITY_METHODS];
    struct draft_layout layout = {.tokens = 12800, .video_blocks = 100, .blocks = 100};
    struct draft_shape s = {1, 0, 4, 40, 80, 0, 1, 0, 128};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        fidelity_methods(rows[i].name, m);
        const struct fidelity_method *one = strcmp(rows[i].name, "paper") == 0 ? &m[0] : &m[1];
        double pooled = one->tail > DRAFT_TAIL_DROP ? 0.01 : 0;
        double pair = 0.5 * (0.01 / 1.28) * (0.01 / 1.28);
        ck_assert_double_eq_tol(fidelity_extra_work(one, &s, &layout) - pooled,
                                rows[i].sums / (4 * 12800.0) + rows[i].products * pair, 1e-12);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("fidelity methods");
    TCase *methods = tcase_create("methods");
    tcase_add_test(methods, methods_by_name);
    tcase_add_test(methods, extra_work_is_paid);
    tcase_add_test(methods, means_are_counted);
    suite_add_tcase(suite, methods);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
