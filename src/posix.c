/* SPDX-License-Identifier: MIT */
#include "platform.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "backend.h"

/* ---- Libraries ------------------------------------------------------------------------------- */

void *draft_library_open(const struct draft_library *library, char why[256])
{
    int stays = library->stays ? RTLD_NODELETE : 0;
    void *handle = dlopen(library->posix, RTLD_NOW | RTLD_LOCAL | stays);
    if (!handle)
        snprintf(why, 256, "%s", dlerror());
    return handle;
}

void *draft_library_symbol(void *handle, const char *name)
{
    return dlsym(handle, name);
}

void draft_library_close(void *handle)
{
    dlclose(handle);
}

uint64_t draft_library_hash(const void *function, uint64_t before)
{
    Dl_info info;
    struct stat file;
    if (!dladdr(function, &info) || stat(info.dli_fname, &file))
        return before;
    before = draft_hash(before, &file.st_size, sizeof file.st_size);
    return draft_hash(before, &file.st_mtim, sizeof file.st_mtim);
}

/* ---- Files ----------------------------------------------------------------------------------- */

/* An empty or relative setting counts as none. */
bool draft_cache_folder(char *path, size_t size)
{
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    int length = -1;
    if (cache && *cache == '/')
        length = snprintf(path, size, "%s", cache);
    else if (home && *home == '/')
        length = snprintf(path, size, "%s/.cache", home);
    return length > 0 && (size_t)length < size;
}

bool draft_folder_make(const char *path)
{
    return mkdir(path, 0700) == 0 || errno == EEXIST;
}

FILE *draft_file_open(const char *path)
{
    return fopen(path, "rbe");
}

FILE *draft_file_create(char *path)
{
    int descriptor = mkostemp(path, O_CLOEXEC);
    FILE *file = descriptor >= 0 ? fdopen(descriptor, "wb") : NULL;
    if (descriptor >= 0 && !file) {
        close(descriptor);
        unlink(path);
    }
    return file;
}

bool draft_file_rename(const char *from, const char *to)
{
    return rename(from, to) == 0;
}

void draft_file_remove(const char *path)
{
    unlink(path);
}

/* ---- Machine --------------------------------------------------------------------------------- */

uint32_t draft_processors(void)
{
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    return n > 0 ? (uint32_t)n : 1;
}

uint64_t draft_memory_size(void)
{
    return (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
}

void draft_processor_name(char *name, size_t size)
{
    FILE *file = fopen("/proc/cpuinfo", "r");
    char line[256];
    struct utsname system = {0};
    uname(&system);
    snprintf(name, size, "%s processor", system.machine);
    while (file && fgets(line, sizeof line, file)) {
        char *value = strchr(line, ':');
        if (!value || strncmp(line, "model name", 10) != 0)
            continue;
        value += value[1] == ' ' ? 2 : 1;
        value[strcspn(value, "\n")] = '\0';
        snprintf(name, size, "%s", value);
        break;
    }
    if (file)
        fclose(file);
}
