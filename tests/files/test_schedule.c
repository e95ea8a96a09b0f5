/* SPDX-License-Identifier: MIT
 *
 * Schedules: what a file means, what is refused with which words, and that what is written is read
 * as the same. */
#include <stdlib.h>
#include <string.h>

#include <check.h>

#include "schedule.h"

static bool read_text(const char *text, struct schedule *out, char why[SCHEDULE_ERROR])
{
    FILE *file = tmpfile();
    ck_assert_ptr_nonnull(file);
    fputs(text, file);
    rewind(file);
    bool ok = schedule_read(file, out, why);
    fclose(file);
    return ok;
}

static void refuse(const char *text, const char *want)
{
    struct schedule schedule;
    char why[SCHEDULE_ERROR] = "it was read";
    ck_assert_msg(!read_text(text, &schedule, why), "%s: it was read", text);
    ck_assert_msg(strstr(why, want) != NULL, "%s: \"%s\" does not hold \"%s\"", text, why, want);
    ck_assert_ptr_null(schedule.lines);
}

static const char example[] = "# made by hand\n"
                              "\n"
                              "  draft schedule 1  # a comment\n"
                              "0-11  *    1  0\n"
                              "12-*  *    4  0.9\n"
                              "12-*  0-1  4  0.5\n"
                              "\t12-* 7 3 0.93 0.95 0.8 0.92\r\n"
                              "*     9    1  0.25";

START_TEST(test_meaning)
{
    struct schedule s;
    char why[SCHEDULE_ERROR];
    ck_assert_msg(read_text(example, &s, why), "%s", why);
    ck_assert_uint_eq(s.count, 5);
    ck_assert_ptr_eq(schedule_find(&s, 0, 0), &s.lines[0]);
    ck_assert_ptr_eq(schedule_find(&s, 11, 8), &s.lines[0]);
    ck_assert_ptr_eq(schedule_find(&s, 12, 8), &s.lines[1]);
    ck_assert_ptr_eq(schedule_find(&s, 4000, 60000), &s.lines[1]);
    ck_assert_ptr_eq(schedule_find(&s, 12, 1), &s.lines[2]);
    ck_assert_ptr_eq(schedule_find(&s, 99, 7), &s.lines[3]);
    ck_assert_ptr_eq(schedule_find(&s, 3, 9), &s.lines[4]);
    ck_assert_uint_eq(s.lines[3].count, 4);
    ck_assert(s.lines[3].sparsity[2] == 0.8);
    ck_assert(schedule_refreshes(&s.lines[3], 12) && !schedule_refreshes(&s.lines[3], 14) &&
              schedule_refreshes(&s.lines[3], 15));
    schedule_free(&s);
    ck_assert_msg(read_text("draft schedule 1\n5 2 1 0.5", &s, why), "%s", why);
    ck_assert_ptr_null(schedule_find(&s, 4, 2));
    ck_assert_ptr_null(schedule_find(&s, 6, 2));
    ck_assert_ptr_null(schedule_find(&s, 5, 3));
    ck_assert_ptr_nonnull(schedule_find(&s, 5, 2));
    schedule_free(&s);
}
END_TEST

#define BEGIN "draft schedule 1\n"

START_TEST(test_refused)
{
    refuse("", "it is empty");
    refuse("# only this\n", "it is empty");
    refuse("draft schedule 2\n", "line 1: it does not begin");
    refuse("0 0 1 0.5\n", "it does not begin");
    refuse(BEGIN "5-3 * 1 0.5", "line 2: the steps");
    refuse(BEGIN "x * 1 0.5", "the steps");
    refuse(BEGIN "0-11x * 1 0.5", "the steps");
    refuse(BEGIN "-3 * 1 0.5", "the steps");
    refuse(BEGIN "99999999999999999999 * 1 0.5", "the steps");
    refuse(BEGIN "* 3- 1 0.5", "the layers");
    refuse(BEGIN "*", "the layers");
    refuse(BEGIN "* * 0 0.5", "refresh");
    refuse(BEGIN "* * 1.5 0.5", "refresh");
    refuse(BEGIN "* * *", "refresh");
    refuse(BEGIN "* * 1", "there is no sparsity");
    refuse(BEGIN "* * 1 0.5\n* * 1 0.5 1", "line 3: a sparsity");
    refuse(BEGIN "* * 1 -0.1", "a sparsity");
    refuse(BEGIN "* * 1 nan", "a sparsity");
    refuse(BEGIN "* * 1 0.5,0.6", "a sparsity");
    char *longest = malloc(40000);
    ck_assert_ptr_nonnull(longest);
    memset(longest, ' ', 39999);
    longest[39999] = '\0';
    refuse(longest, "line 1: the line is too long");
    free(longest);
}
END_TEST

START_TEST(test_written)
{
    struct schedule s, again;
    char why[SCHEDULE_ERROR], text[4096] = "";
    ck_assert(read_text(example, &s, why));
    FILE *file = tmpfile();
    ck_assert_ptr_nonnull(file);
    schedule_write_header(file);
    for (size_t i = 0; i < s.count; i++)
        schedule_write_line(file, &s.lines[i]);
    rewind(file);
    size_t length = fread(text, 1, sizeof text - 1, file);
    fclose(file);
    ck_assert_uint_gt(length, 0);
    ck_assert_msg(read_text(text, &again, why), "%s in\n%s", why, text);
    ck_assert_uint_eq(again.count, s.count);
    for (size_t i = 0; i < s.count; i++) {
        const struct schedule_line *a = &s.lines[i], *b = &again.lines[i];
        ck_assert(a->first_step == b->first_step && a->last_step == b->last_step &&
                  a->first_layer == b->first_layer && a->last_layer == b->last_layer &&
                  a->refresh == b->refresh);
        ck_assert_uint_eq(a->count, b->count);
        ck_assert_mem_eq(a->sparsity, b->sparsity, a->count * sizeof *a->sparsity);
    }
    schedule_free(&s);
    schedule_free(&again);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("schedule");
    TCase *test_case = tcase_create("schedule");
    tcase_add_test(test_case, test_meaning);
    tcase_add_test(test_case, test_refused);
    tcase_add_test(test_case, test_written);
    suite_add_tcase(suite, test_case);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
