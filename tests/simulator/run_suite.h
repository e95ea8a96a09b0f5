/* SPDX-License-Identifier: MIT
 *
 * The end of a test program of the simulated driver: without a process for each test, so that a
 * driver and its threads serve all of them. */
#ifndef DRAFT_TESTS_SIMULATOR_RUN_SUITE_H
#define DRAFT_TESTS_SIMULATOR_RUN_SUITE_H

#include <cstdlib>

#include <check.h>

/* The exit status. The suite is freed. */
inline int run_suite(Suite *suite)
{
    SRunner *runner = srunner_create(suite);
    srunner_set_fork_status(runner, CK_NOFORK);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

#endif
