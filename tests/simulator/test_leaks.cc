/* SPDX-License-Identifier: MIT
 *
 * What is left over when a process ends is a leak. With a word as its argument the program leaves
 * one thing behind and ends; the tests start it so and read what is said then. */
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include <sys/wait.h>
#include <unistd.h>

#include <check.h>

#include "driver.h"
#include "image.h"
#include "run_suite.h"

static const char *program;

static const struct leak {
    const char *word, *said; /* said: nullptr where there is none */
} LEAKS[] = {
    {"none", nullptr},
    {"memory", "64 bytes of device memory"},
    {"host", "4096 bytes of host memory"},
    {"stream", "a stream"},
    {"event", "an event"},
    {"module", "a module"},
    {"graph", "graph"},
    {"context", "a context was not destroyed"},
    {"primary", "a primary context was not released"},
    {"push", "pushed and not popped"},
    {"fork", "does not survive fork"},
};

/* In a process of its own. */
static int leak(const char *word)
{
    auto is = [word](const char *other) { return strcmp(word, other) == 0; };
    CUcontext context, created;
    CUstream stream;
    CUevent event;
    CUmodule module;
    CUgraph graph;
    CUdeviceptr p;
    void *host;
    image image = make_image(ELF, 80);
    int wrong = cuInit(0) + cuDevicePrimaryCtxRetain(&context, 0);
    if (is("context"))
        wrong += cuCtxCreate_v2(&created, 0, 0);
    wrong += is("push") ? cuCtxPushCurrent(context) : cuCtxSetCurrent(context);
    wrong += cuMemAlloc(&p, 64) + cuMemAllocHost(&host, 4096) + cuStreamCreate(&stream, 0) +
             cuEventCreate(&event, 0) + cuModuleLoadData(&module, &image) +
             cuStreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_GLOBAL) +
             cuStreamEndCapture(stream, &graph);
    if (is("fork")) {
        pid_t child = fork();
        if (!child)
            _exit(cuMemFree(p) == CUDA_ERROR_NOT_INITIALIZED ? 98 : 1);
        int status;
        waitpid(child, &status, 0);
        exit(WEXITSTATUS(status)); /* reports what is left, too */
    }
    wrong += is("graph") ? 0 : cuGraphDestroy(graph);
    wrong += is("memory") ? 0 : cuMemFree(p);
    wrong += is("host") ? 0 : cuMemFreeHost(host);
    wrong += is("stream") ? 0 : cuStreamDestroy(stream);
    wrong += is("event") ? 0 : cuEventDestroy(event);
    wrong += is("module") ? 0 : cuModuleUnload(module);
    wrong += is("primary") ? 0 : cuDevicePrimaryCtxRelease(0);
    if (!is("push"))
        wrong += cuCtxSetCurrent(nullptr);
    return wrong ? 1 : 0;
}

START_TEST(leaks)
{
    const struct leak &l = LEAKS[_i];
    std::string command = std::string("'") + program + "' " + l.word + " 2>&1", said;
    FILE *child = popen(command.c_str(), "r");
    ck_assert(child != nullptr);
    char line[512];
    while (fgets(line, sizeof line, child))
        said += line;
    int status = pclose(child);
    ck_assert(WIFEXITED(status));
    ck_assert_msg(WEXITSTATUS(status) == (l.said ? 99 : 0), "%s: exit status %d, said: %s", l.word,
                  WEXITSTATUS(status), said.c_str());
    if (l.said)
        ck_assert_msg(said.find(l.said) != std::string::npos, "%s: %s", l.word, said.c_str());
    else
        ck_assert_str_eq(said.c_str(), "");
}
END_TEST

int main(int argc, char **argv)
{
    if (argc > 1)
        return leak(argv[1]);
    program = argv[0];
    setenv("DRAFT_SIMULATOR", "sm_80", 1);
    unsetenv("DRAFT_SIMULATOR_LEAKS");
    Suite *suite = suite_create("leaks");
    TCase *tests = tcase_create("leaks");
    tcase_add_loop_test(tests, leaks, 0, sizeof(LEAKS) / sizeof(LEAKS[0]));
    suite_add_tcase(suite, tests);
    return run_suite(suite);
}
