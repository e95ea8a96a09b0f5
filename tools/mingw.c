/* SPDX-License-Identifier: MIT */
#include "posix.h"

#include <errno.h>
#include <windows.h>

/* ---- Files ---- */

void *mmap(void *address, size_t size, int protection, int flags, int file, off_t offset)
{
    (void)address, (void)size, (void)protection, (void)flags, (void)offset;
    HANDLE mapping =
        CreateFileMappingA((HANDLE)_get_osfhandle(file), NULL, PAGE_READONLY, 0, 0, NULL);
    void *map = mapping ? MapViewOfFile(mapping, FILE_MAP_READ, 0, 0, 0) : NULL;
    if (mapping)
        CloseHandle(mapping); /* the view keeps it */
    errno = ENOMEM;
    return map ? map : MAP_FAILED;
}

int munmap(void *map, size_t size)
{
    (void)size;
    return UnmapViewOfFile(map) ? 0 : -1;
}

char *realpath(const char *path, char *out)
{
    return _fullpath(out, path, 0);
}

int fsync(int file)
{
    return _commit(file);
}

int mingw_mkdir(const char *path, int mode)
{
    (void)mode;
    return _mkdir(path);
}

/* Also where there is one of the new name. */
int mingw_rename(const char *from, const char *to)
{
    errno = EACCES;
    return MoveFileExA(from, to, MOVEFILE_REPLACE_EXISTING) ? 0 : -1;
}

/* ---- Terminal ---- */

int mingw_isatty(int file)
{
    HANDLE handle = (HANDLE)_get_osfhandle(file);
    DWORD mode;
    return GetConsoleMode(handle, &mode) &&
           SetConsoleMode(handle, mode | ENABLE_VIRTUAL_TERMINAL_PROCESSING);
}

/* ---- Signals ---- */

int sigaction(int number, const struct sigaction *action, struct sigaction *before)
{
    void (*handler)(int) = signal(number, action ? action->sa_handler : SIG_DFL);
    if (handler == SIG_ERR)
        return -1;
    if (!action)
        signal(number, handler);
    if (before)
        before->sa_handler = handler;
    return 0;
}

/* ---- Strings, environment ---- */

char *strcasestr(const char *text, const char *part)
{
    size_t length = strlen(part);
    for (; *text || !length; text++)
        if (_strnicmp(text, part, length) == 0)
            return (char *)text;
    return NULL;
}

int setenv(const char *name, const char *value, int replace)
{
    return replace || !getenv(name) ? _putenv_s(name, value) : 0;
}

int unsetenv(const char *name)
{
    return _putenv_s(name, "");
}
