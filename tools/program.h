/* SPDX-License-Identifier: MIT
 *
 * What the subcommands of the program `draft` share: options, messages, tables, JSON, progress,
 * output files that appear whole or not at all, and opening a device. */
#ifndef DRAFT_TOOLS_PROGRAM_H
#define DRAFT_TOOLS_PROGRAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cjson/cJSON.h>

#include <draft/draft.h>

#include "platform.h"

/* What the program returns to the shell. */
enum program_exit {
    PROGRAM_OK = 0,
    PROGRAM_CHECK = 1, /* it ran, and a comparison that was asked for is beyond its tolerance */
    PROGRAM_USAGE = 2, /* wrong options, files or shapes                                      */
    PROGRAM_DEVICE = 3 /* no such device, or it failed, or memory ran out                     */
};

/* The subcommands; argv[0] is the subcommand's own name. They return an exit code. */
int draft_cmd_devices(int argc, char **argv);
int draft_cmd_run(int argc, char **argv);
int draft_cmd_bench(int argc, char **argv);
int draft_cmd_demo(int argc, char **argv);
int draft_cmd_tune(int argc, char **argv);
int draft_cmd_verify(int argc, char **argv);
int draft_cmd_fidelity(int argc, char **argv);

/* ---- Messages --------------------------------------------------------------------------- */

/* "draft: " and the text, on stderr; clears a progress bar first. */
void program_error(const char *format, ...) DRAFT_PRINTF(1, 2);

/* The library's log on stderr, from the level that $DRAFT_LOG names (error, warn, info, debug; by
 * default warn). */
struct draft_log program_log(void);

/* The exit code that belongs to a failed call. */
int program_exit_code(draft_status status);

/* Zeroed memory of count x size bytes, at least 1. Never NULL: ends the program where memory runs
 * out. Freed with free(). */
void *program_calloc(size_t count, size_t size);

/* Seconds of a clock that only goes forward. */
double program_now(void);

/* ---- Options ---------------------------------------------------------------------------- */

enum program_kind {
    PROGRAM_FLAG,   /* bool: no argument                                          */
    PROGRAM_TEXT,   /* const char *: into argv                                    */
    PROGRAM_COUNT,  /* uint32_t                                                   */
    PROGRAM_SEED,   /* uint64_t                                                   */
    PROGRAM_REAL,   /* double, finite                                             */
    PROGRAM_GRID,   /* uint32_t[3]: "3x5x8"                                       */
    PROGRAM_SIZE,   /* uint32_t[2]: "640x480"                                     */
    PROGRAM_REALS,  /* struct program_reals: "0.5,0.9" or "@file"                 */
    PROGRAM_CHOICE, /* uint32_t: index into choices                               */
    PROGRAM_CHOICES /* uint32_t: bits, one for each of choices named: "a,c"       */
};

/* A row of a subcommand's table of options; the table ends with a row without name. The value
 * keeps what it holds where the option is not given. Options are "--name value", "--name=value",
 * and "-x" where short_name is set. */
struct program_option {
    const char *name; /* without "--"                                   */
    char short_name;  /* or 0                                           */
    enum program_kind kind;
    void *value;                /* of the type that the kind says                 */
    const char *argument;       /* how help calls the argument: "N"               */
    const char *help;           /* one line, or lines separated by '\n'           */
    const char *const *choices; /* PROGRAM_CHOICE, PROGRAM_CHOICES: ends with NULL */
    bool *given;                /* or NULL: set to true where the option is given */
};

/* Numbers of an option; values is NULL until it is given, then the caller frees it. */
struct program_reals {
    double *values;
    size_t count;
};

struct program_command {
    const char *usage; /* "run q.npy k.npy v.npy -o out.npy [options]"   */
    const char *help;  /* lines between usage and options                */
    const struct program_option *options;
    const char **operands; /* filled with what is no option                  */
    size_t operand_count, operand_capacity;
};

/* Read argv[1] on. Returns -1 to go on; else the exit code to end with: help was asked for and
 * printed to stdout, or something was wrong and a message is on stderr. */
int program_parse(struct program_command *command, int argc, char **argv);

/* ---- The device options that all subcommands have ---------------------------------------- */

struct program_device {
    const char *backend;
    const char *device; /* index or part of a name */
    uint32_t threads;
};

/* Rows for a table of options; d is a struct program_device. */
#define PROGRAM_DEVICE_OPTIONS(d)                                                                  \
    {"backend",    0,      PROGRAM_TEXT,                                                           \
     &(d).backend, "NAME", "cuda, vulkan or cpu (default: the first with a device)",               \
     NULL,         NULL},                                                                          \
        {"device", 0,   PROGRAM_TEXT, &(d).device, "N|NAME", "number or part of the name",         \
         NULL,     NULL},                                                                          \
    {                                                                                              \
        "threads", 0, PROGRAM_COUNT, &(d).threads, "N", "worker threads of the CPU backend", NULL, \
            NULL                                                                                   \
    }

/* Open it, with program_log(), for tensors of the type. Where the user named neither backend nor
 * device and the best device does not take the type, the best that does, with a line on stderr. On
 * failure a message says why. */
draft_status program_open(const struct program_device *device, draft_type type,
                          draft_context **out);

/* ---- Tables and JSON on stdout ------------------------------------------------------------ */

/* A table for people. Cells are separated by '\t'; a header cell that begins with '>' makes its
 * column flush right. */
struct program_table;
struct program_table *program_table_create(const char *header);
void program_table_add(struct program_table *table, const char *format, ...) DRAFT_PRINTF(2, 3);
/* A line between rows that is as wide as it likes. */
void program_table_heading(struct program_table *table, const char *format, ...) DRAFT_PRINTF(2, 3);
/* Print to stdout and free. */
void program_table_print(struct program_table *table);
/* Only free. NULL: nothing. */
void program_table_discard(struct program_table *table);

/* Print to stdout as the one document and delete it. Returns an exit code. */
int program_json_print(cJSON *json);
/* {"name": "...", "backend": ..., ...} of an opened device or one of draft_devices. */
cJSON *program_json_device(const struct draft_device_info *info);

/* ---- Progress ----------------------------------------------------------------------------- */

/* A bar on stderr, there only where stderr is a terminal and the work has taken over 2 seconds. A
 * thread of its own draws it, so one long call moves the clock too. One at a time. */
struct program_progress;
/* total: how many steps there will be; 0: unknown, only the time is shown. */
struct program_progress *program_progress_begin(const char *what, uint64_t total);
/* done: steps done so far. what: NULL, or what goes on now (copied). Any thread may call. */
void program_progress_set(struct program_progress *progress, uint64_t done, const char *what);
/* Remove the bar and free. */
void program_progress_end(struct program_progress *progress);

/* ---- Output files -------------------------------------------------------------------------- */

/* A file that is written under a temporary name in the same directory and gets its own name when it
 * is complete and on the disk. A signal or exit() in between removes it. What exists and is no
 * regular file (/dev/null, a pipe) is written directly. Not thread-safe. */
struct program_output;
/* NULL on failure, with a message. */
struct program_output *program_output_open(const char *path);
/* To write to. */
FILE *program_output_file(const struct program_output *output);
/* Flush, rename, free. False on failure, with a message: then there is no new file. NULL: false. */
bool program_output_commit(struct program_output *output);
/* Throw away what was written and free. NULL: nothing. */
void program_output_discard(struct program_output *output);

#endif
