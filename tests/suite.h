/* SPDX-License-Identifier: MIT
 *
 * What the test programs share: Check, and a main function. */
#ifndef DRAFT_TESTS_SUITE_H
#define DRAFT_TESTS_SUITE_H

#include <check.h>

#include "harness.h"

/* Runs the suite and frees it; returns the exit status. Device suites do not fork: drivers do not
 * survive it. CK_RUN_CASE and the like work as Check documents them. From here on what fails the
 * harness fails the test that runs. */
int suite_main(Suite *suite, bool may_fork);

/* For tests that give $XDG_CACHE_HOME a folder of their own: Mesa's compiled shaders stay where they
 * are, so that they are not made again, and not where tests clear up behind themselves. To be
 * called before a device is opened. */
void suite_keep_shaders(void);

#endif
