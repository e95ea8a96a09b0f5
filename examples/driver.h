/* SPDX-License-Identifier: MIT
 *
 * A driver's library is opened when the program runs, on Linux and on Windows. */
#ifndef DRIVER_H
#define DRIVER_H

#ifdef _WIN32
#include <string.h>
#include <windows.h>

/* NULL where there is none. */
static inline void *driver_open(const char *linux_name, const char *windows_name)
{
    (void)linux_name;
    return LoadLibraryA(windows_name);
}

static inline void *driver_symbol(void *driver, const char *name)
{
    FARPROC function = GetProcAddress(driver, name);
    void *symbol;
    memcpy(&symbol, &function, sizeof symbol);
    return symbol;
}
#else
#include <dlfcn.h>

static inline void *driver_open(const char *linux_name, const char *windows_name)
{
    (void)windows_name;
    return dlopen(linux_name, RTLD_NOW | RTLD_LOCAL);
}

static inline void *driver_symbol(void *driver, const char *name)
{
    return dlsym(driver, name);
}
#endif

#endif
