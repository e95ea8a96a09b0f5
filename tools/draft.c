/* SPDX-License-Identifier: MIT
 *
 * The program `draft`: one subcommand for each thing that one may want to do with the library. */
#include "program.h"

#include <string.h>

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *help;
} subcommands[] = {
    {"demo", draft_cmd_demo, "make a video transformer's q, k, v, and show the method at work"},
    {"run", draft_cmd_run, "attention over tensors from files"},
    {"bench", draft_cmd_bench, "time every stage"},
    {"devices", draft_cmd_devices, "list the devices"},
    {"fidelity", draft_cmd_fidelity, "how much error does leaving out cost, and what helps?"},
    {"tune", draft_cmd_tune, "how sparse may each head of a layer be?"},
    {"verify", draft_cmd_verify, "does each device compute the right thing?"},
};

static void print_help(FILE *file)
{
    fputs("usage: draft SUBCOMMAND [options]\n\n"
          "DraftAttention (arXiv 2505.14708): block-sparse attention for video diffusion\n"
          "transformers.\n\nsubcommands:\n",
          file);
    for (size_t i = 0; i < sizeof subcommands / sizeof *subcommands; i++)
        fprintf(file, "  %-9s %s\n", subcommands[i].name, subcommands[i].help);
    fputs("\n'draft SUBCOMMAND --help' lists its options, 'draft --version' prints the version.\n\n"
          "environment:\n"
          "  DRAFT_BACKEND  cuda, vulkan or cpu, where --backend is not given\n"
          "  DRAFT_LOG      error, warn, info or debug: how much to say on stderr\n"
          "  DRAFT_KERNEL   names of kernels, separated by commas: use only these\n\n"
          "exit status: 0 done; 1 a check failed; 2 wrong options, files or shapes;\n"
          "3 no such device, or it failed, or memory ran out\n",
          file);
}

/* A full disk behind stdout must not look like success. */
static int flush_output(int code)
{
    if (fflush(stdout) == 0 && !ferror(stdout))
        return code;
    program_error("standard output cannot be written");
    return code ? code : PROGRAM_USAGE;
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        print_help(stderr);
        return PROGRAM_USAGE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
        print_help(stdout);
        return PROGRAM_OK;
    }
    if (strcmp(argv[1], "--version") == 0) {
        uint32_t v = draft_version();
        printf("draft %u.%u.%u\n", v >> 16, v >> 8 & 255, v & 255);
        return PROGRAM_OK;
    }
    for (size_t i = 0; i < sizeof subcommands / sizeof *subcommands; i++)
        if (strcmp(argv[1], subcommands[i].name) == 0)
            return flush_output(subcommands[i].run(argc - 1, argv + 1));
    program_error("there is no subcommand '%s'; see draft --help", argv[1]);
    return PROGRAM_USAGE;
}
