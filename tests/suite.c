/* SPDX-License-Identifier: MIT */
#include "suite.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

static void end_test(const char *text)
{
    ck_abort_msg("%s", text);
}

int suite_main(Suite *suite, bool may_fork)
{
    SRunner *runner = srunner_create(suite);
    if (!may_fork)
        srunner_set_fork_status(runner, CK_NOFORK);
    test_fail_with(end_test);
    printf("DRAFT_SEED=%" PRIu64 "\n", test_seed());
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

void suite_keep_shaders(void)
{
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    char folder[4096];
    if (!cache && !home)
        return;
    snprintf(folder, sizeof folder, "%s%s", cache ? cache : home, cache ? "" : "/.cache");
    setenv("MESA_SHADER_CACHE_DIR", folder, 0);
}
