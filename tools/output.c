/* SPDX-License-Identifier: MIT
 *
 * Files that appear whole or not at all. The names of unfinished ones stand at file scope because a
 * signal handler has to find them. */
#include "program.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "posix.h"

enum { OPEN_OUTPUTS = 8, PATH_BYTES = 4096 };

struct program_output {
    FILE *file;
    char *path;  /* where it shall be; links followed                 */
    int pending; /* index of its temporary name; -1: written directly */
};

/* Written by the main thread with signals blocked, read by the handler. Empty: not in use. */
static char pending[OPEN_OUTPUTS][PATH_BYTES];

static void remove_pending(void)
{
    for (unsigned i = 0; i < OPEN_OUTPUTS; i++)
        if (pending[i][0])
            unlink(pending[i]);
}

static void on_signal(int number)
{
    remove_pending();
    signal(number, SIG_DFL);
    raise(number);
}

static const int signals[] = {SIGINT, SIGTERM, SIGHUP};

/* Install the handlers once, when the first file is opened; an ignored signal stays ignored. */
static void watch_signals(void)
{
    static bool done;
    struct sigaction action = {.sa_handler = on_signal}, before;
    if (done)
        return;
    done = true;
    atexit(remove_pending);
    for (unsigned i = 0; i < sizeof signals / sizeof *signals; i++)
        if (sigaction(signals[i], NULL, &before) == 0 && before.sa_handler == SIG_DFL)
            sigaction(signals[i], &action, NULL);
}

static void block_signals(sigset_t *before)
{
    sigset_t set;
    sigemptyset(&set);
    for (unsigned i = 0; i < sizeof signals / sizeof *signals; i++)
        sigaddset(&set, signals[i]);
    pthread_sigmask(SIG_BLOCK, &set, before);
}

/* Create "path.<pid>.tmp" and note its name. Returns its descriptor, or -1 with errno. */
static int create_pending(struct program_output *output)
{
    sigset_t before;
    unsigned i = 0;
    while (i < OPEN_OUTPUTS && pending[i][0])
        i++;
    errno = EMFILE;
    if (i == OPEN_OUTPUTS)
        return -1;
    char name[PATH_BYTES];
    int length = snprintf(name, sizeof name, "%s.%ld-%u.tmp", output->path, (long)getpid(), i);
    errno = ENAMETOOLONG;
    if (length < 0 || length >= PATH_BYTES)
        return -1;
    block_signals(&before);
    int fd = open(name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd >= 0)
        memcpy(pending[i], name, (size_t)length + 1);
    output->pending = fd >= 0 ? (int)i : -1;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return fd;
}

static void forget_pending(struct program_output *output)
{
    if (output->pending >= 0)
        pending[output->pending][0] = 0;
    output->pending = -1;
}

struct program_output *program_output_open(const char *path)
{
    struct stat status;
    bool exists = stat(path, &status) == 0;
    struct program_output *output = program_calloc(1, sizeof *output);
    output->pending = -1;
    output->path = exists ? realpath(path, NULL) : strdup(path);
    watch_signals();
    int fd = -1;
    if (output->path && exists && !S_ISREG(status.st_mode))
        fd = open(output->path, O_WRONLY | O_CLOEXEC);
    else if (output->path)
        fd = create_pending(output);
    if (fd >= 0)
        output->file = fdopen(fd, "wb");
    if (output->file)
        return output;
    program_error("%s cannot be written: %s", path, strerror(errno));
    if (fd >= 0)
        close(fd);
    program_output_discard(output);
    return NULL;
}

FILE *program_output_file(const struct program_output *output)
{
    return output->file;
}

bool program_output_commit(struct program_output *output)
{
    sigset_t before;
    if (!output)
        return false;
    bool ok = !ferror(output->file) && fflush(output->file) == 0;
    if (output->pending >= 0)
        ok = ok && fsync(fileno(output->file)) == 0;
    ok = fclose(output->file) == 0 && ok;
    output->file = NULL;
    if (ok && output->pending >= 0) {
        block_signals(&before);
        ok = rename(pending[output->pending], output->path) == 0;
        if (ok)
            forget_pending(output);
        pthread_sigmask(SIG_SETMASK, &before, NULL);
    }
    if (!ok)
        program_error("%s cannot be written: %s", output->path, strerror(errno));
    program_output_discard(output);
    return ok;
}

void program_output_discard(struct program_output *output)
{
    if (!output)
        return;
    if (output->file)
        fclose(output->file);
    if (output->pending >= 0)
        unlink(pending[output->pending]);
    forget_pending(output);
    free(output->path);
    free(output);
}
