/* SPDX-License-Identifier: MIT */
#include "program.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "posix.h"

enum { BAR = 30, TICK_MS = 200 };
static const double patience = 2.0; /* seconds before a bar appears */

struct program_progress {
    pthread_mutex_t lock;
    pthread_cond_t stop;
    pthread_t thread;
    bool has_thread, ended;
    double start;
    uint64_t done, total;
    char what[64];
};

/* Erase the line that a bar may be on. */
static void clear_line(void)
{
    if (isatty(STDERR_FILENO))
        fputs("\r\033[K", stderr);
}

void program_error(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    flockfile(stderr);
    clear_line();
    fputs("draft: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    funlockfile(stderr);
    va_end(arguments);
}

static void draw(const struct program_progress *p)
{
    char bar[BAR + 1];
    double seconds = program_now() - p->start;
    if (seconds < patience)
        return;
    uint64_t done = p->done < p->total ? p->done : p->total;
    unsigned filled = p->total ? (unsigned)((double)done / (double)p->total * BAR) : 0;
    memset(bar, '.', BAR);
    memset(bar, '#', filled);
    bar[BAR] = 0;
    flockfile(stderr);
    if (p->total)
        fprintf(stderr, "\r\033[K[%s] %llu/%llu  %.0f s  %s", bar, (unsigned long long)done,
                (unsigned long long)p->total, seconds, p->what);
    else
        fprintf(stderr, "\r\033[K%.0f s  %s", seconds, p->what);
    fflush(stderr);
    funlockfile(stderr);
}

static void *tick(void *argument)
{
    struct program_progress *p = argument;
    pthread_mutex_lock(&p->lock);
    while (!p->ended) {
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += TICK_MS * 1000000L;
        until.tv_sec += until.tv_nsec / 1000000000L;
        until.tv_nsec %= 1000000000L;
        pthread_cond_timedwait(&p->stop, &p->lock, &until);
        if (!p->ended)
            draw(p);
    }
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

struct program_progress *program_progress_begin(const char *what, uint64_t total)
{
    struct program_progress *p = program_calloc(1, sizeof *p);
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->stop, NULL);
    p->start = program_now();
    p->total = total;
    snprintf(p->what, sizeof p->what, "%s", what);
    if (isatty(STDERR_FILENO))
        p->has_thread = pthread_create(&p->thread, NULL, tick, p) == 0;
    return p;
}

void program_progress_set(struct program_progress *p, uint64_t done, const char *what)
{
    pthread_mutex_lock(&p->lock);
    p->done = done;
    if (what)
        snprintf(p->what, sizeof p->what, "%s", what);
    pthread_mutex_unlock(&p->lock);
}

void program_progress_end(struct program_progress *p)
{
    if (p->has_thread) {
        pthread_mutex_lock(&p->lock);
        p->ended = true;
        pthread_cond_signal(&p->stop);
        pthread_mutex_unlock(&p->lock);
        pthread_join(p->thread, NULL);
        clear_line();
    }
    pthread_cond_destroy(&p->stop);
    pthread_mutex_destroy(&p->lock);
    free(p);
}
