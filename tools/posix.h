/* SPDX-License-Identifier: MIT
 *
 * POSIX as far as the program uses it; on Windows, what MinGW-w64 lacks of it: mingw.c. Paths are in the
 * code page of the system there. */
#ifndef POSIX_H
#define POSIX_H

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef _WIN32
#include <sys/mman.h>
#else
#include <direct.h>
#include <io.h>
#include <pthread.h>

/* ---- Files ---- */

/* Bytes stay as they are. */
enum { O_CLOEXEC = O_NOINHERIT | O_BINARY, O_NONBLOCK = 0 };
enum { PROT_READ, MAP_PRIVATE };
#define MAP_FAILED  ((void *)-1)

/* Of a whole file. */
void *mmap(void *address, size_t size, int protection, int flags, int file, off_t offset);
int munmap(void *map, size_t size);
char *realpath(const char *path, char *out);
int fsync(int file);
int mingw_mkdir(const char *path, int mode);
int mingw_rename(const char *from, const char *to);
#define mkdir       mingw_mkdir
#define rename      mingw_rename

/* ---- Terminal ---- */

/* One that is has learnt to erase a line. */
int mingw_isatty(int file);
#define isatty      mingw_isatty
#define flockfile   _lock_file
#define funlockfile _unlock_file

/* ---- Signals: they cannot be blocked ---- */

enum { SIGHUP = SIGBREAK, SIGBUS = SIGSEGV };
struct sigaction {
    void (*sa_handler)(int);
};
#define sigset_t    _sigset_t
#undef pthread_sigmask /* MinGW has a constant for it */
#define pthread_sigmask mingw_sigmask
int sigaction(int number, const struct sigaction *action, struct sigaction *before);
static inline int sigemptyset(sigset_t *set)
{
    *set = 0;
    return 0;
}
static inline int sigaddset(sigset_t *set, int number)
{
    (void)set, (void)number;
    return 0;
}
static inline int mingw_sigmask(int how, const sigset_t *set, sigset_t *before)
{
    (void)how, (void)set, (void)before;
    return 0;
}

/* ---- Strings, environment ---- */

char *strcasestr(const char *text, const char *part);
int setenv(const char *name, const char *value, int replace);
int unsetenv(const char *name);
#endif

#endif
