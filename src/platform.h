/* SPDX-License-Identifier: MIT
 *
 * What operating systems do differently: posix.c, or windows.c with MinGW-w64, whose library of POSIX
 * threads and clocks serves as it is. Paths are UTF-8. */
#ifndef DRAFT_PLATFORM_H
#define DRAFT_PLATFORM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* MinGW's stdio.h says which formats its printf has. */
#ifdef __MINGW_PRINTF_FORMAT
#define DRAFT_PRINTF(format_, first) __attribute__((format(__MINGW_PRINTF_FORMAT, format_, first)))
#else
#define DRAFT_PRINTF(format_, first) __attribute__((format(printf, format_, first)))
#endif

/* ---- Libraries that are opened at run time ---- */

struct draft_library {
    const char *posix, *windows; /* its file                                         */
    bool stays;                  /* it is never unloaded, whatever is closed         */
};
/* NULL, and why: in words. */
void *draft_library_open(const struct draft_library *library, char why[256]);
void *draft_library_symbol(void *handle, const char *name);
void draft_library_close(void *handle);
/* The hash `before`, continued with what tells apart versions of the library's file that a function
 * is from; `before` itself where the file cannot be found. */
uint64_t draft_library_hash(const void *function, uint64_t before);

/* ---- Files ---- */

/* The user's folder for caches, an absolute path; false where there is none, or it is too long. */
bool draft_cache_folder(char *path, size_t size);
/* For this user alone. Is it there now? */
bool draft_folder_make(const char *path);
/* To read; not inherited by other programs, like the next. */
FILE *draft_file_open(const char *path);
/* A new one to write. path ends with XXXXXX, in place of which comes what no other file has. */
FILE *draft_file_create(char *path);
/* In one step, whether there is another of the new name or not. */
bool draft_file_rename(const char *from, const char *to);
void draft_file_remove(const char *path);

/* ---- Machine ---- */

uint32_t draft_processors(void);
uint64_t draft_memory_size(void);
void draft_processor_name(char *name, size_t size);

#endif
