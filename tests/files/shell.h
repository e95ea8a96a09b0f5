/* SPDX-License-Identifier: MIT
 *
 * For tests of the program `draft` as the shell sees it: run it in a folder of the test's own, and
 * look at what it says and leaves. */
#ifndef DRAFT_TESTS_SHELL_H
#define DRAFT_TESTS_SHELL_H

#include <stdlib.h>
#include <string.h>

#include <check.h>

#include "tensor_file.h"

/* Of q, k and v in every folder, f32. */
enum { TOKENS = 4 + 2 * 6 * 8 + 5, HEADS = 2, DIM = 16, COUNT = TOKENS * HEADS * DIM };

#define INPUTS "run q.npy k.npy v.npy "
#define SHAPE  "--prefix 4 --grid 2x6x8 --suffix 5 "

extern const char *program; /* set once by main, with set_program */
extern char folder[256];    /* of each test: make_folder and remove_folder are its fixture */
void set_program(const char *path);

/* Run `draft` with arguments in the folder; its output goes to the files "out" and "err". */
int draft_on(const char *backend, const char *arguments);
int draft(const char *arguments);
/* The content of a file in the folder; static storage. */
const char *content(const char *name);
/* The program must fail as a matter of usage, and say this; nothing goes to stdout. */
void refused(const char *arguments, const char *message);
/* How many files lie in the folder. */
unsigned files(void);
void write_tensor(const char *name, draft_type type, unsigned rank, const uint64_t *shape,
                  unsigned seed);
void make_folder(void);
void remove_folder(void);
void open_result(const char *name, struct tensor_file *file);
void same_results(const char *a, const char *b);

#endif
