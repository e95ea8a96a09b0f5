/* SPDX-License-Identifier: MIT */
#include "platform.h"

#include <errno.h>
#include <fcntl.h>
#include <io.h>
#include <stdlib.h>
#include <string.h>
#include <windows.h>

#include "backend.h"

enum { PATH_SIZE = 4096 };

static bool to_wide(const char *text, wchar_t wide[PATH_SIZE])
{
    return MultiByteToWideChar(CP_UTF8, MB_ERR_INVALID_CHARS, text, -1, wide, PATH_SIZE) > 0;
}

/* ---- Libraries ------------------------------------------------------------------------------- */

/* From the program's folder or the system's, but not from the current folder. */
void *draft_library_open(const struct draft_library *library, char why[256])
{
    HMODULE handle = LoadLibraryExA(library->windows, NULL, LOAD_LIBRARY_SEARCH_DEFAULT_DIRS), pin;
    if (!handle)
        snprintf(why, 256, "%s cannot be loaded: error %lu", library->windows, GetLastError());
    else if (library->stays)
        GetModuleHandleExA(GET_MODULE_HANDLE_EX_FLAG_PIN, library->windows, &pin);
    return handle;
}

void *draft_library_symbol(void *handle, const char *name)
{
    FARPROC function = GetProcAddress(handle, name);
    void *symbol;
    memcpy(&symbol, &function, sizeof symbol);
    return symbol;
}

void draft_library_close(void *handle)
{
    FreeLibrary(handle);
}

uint64_t draft_library_hash(const void *function, uint64_t before)
{
    wchar_t path[PATH_SIZE];
    HMODULE handle;
    WIN32_FILE_ATTRIBUTE_DATA file;
    DWORD flags =
        GET_MODULE_HANDLE_EX_FLAG_FROM_ADDRESS | GET_MODULE_HANDLE_EX_FLAG_UNCHANGED_REFCOUNT;
    if (!GetModuleHandleExW(flags, function, &handle) ||
        GetModuleFileNameW(handle, path, PATH_SIZE) % PATH_SIZE == 0 ||
        !GetFileAttributesExW(path, GetFileExInfoStandard, &file))
        return before;
    before = draft_hash(before, &file.nFileSizeLow, sizeof file.nFileSizeLow);
    return draft_hash(before, &file.ftLastWriteTime, sizeof file.ftLastWriteTime);
}

/* ---- Files ----------------------------------------------------------------------------------- */

bool draft_cache_folder(char *path, size_t size)
{
    const wchar_t *folder = _wgetenv(L"LOCALAPPDATA");
    bool absolute = folder && (wcsncmp(folder, L"\\\\", 2) == 0 || (*folder && folder[1] == L':'));
    return absolute && WideCharToMultiByte(CP_UTF8, WC_ERR_INVALID_CHARS, folder, -1, path,
                                           (int)size, NULL, NULL) > 0;
}

/* Who may enter is inherited. */
bool draft_folder_make(const char *path)
{
    wchar_t wide[PATH_SIZE];
    return to_wide(path, wide) &&
           (CreateDirectoryW(wide, NULL) || GetLastError() == ERROR_ALREADY_EXISTS);
}

FILE *draft_file_open(const char *path)
{
    wchar_t wide[PATH_SIZE];
    return to_wide(path, wide) ? _wfopen(wide, L"rbN") : NULL;
}

/* Every attempt of every thread and process has a name of its own, unless numbers of processes come
 * again. */
FILE *draft_file_create(char *path)
{
    enum { ENDING = 6, ATTEMPTS = 100 };
    static const char digits[] = "0123456789abcdefghijklmnopqrstuvwxyz";
    char *ending = path + strlen(path) - ENDING;
    LARGE_INTEGER clock;
    QueryPerformanceCounter(&clock);
    const uint32_t seeds[] = {GetCurrentProcessId(), GetCurrentThreadId()};
    uint64_t number = draft_hash((uint64_t)clock.QuadPart, seeds, sizeof seeds);
    int descriptor = -1;
    wchar_t wide[PATH_SIZE];
    for (unsigned i = 0; i < ATTEMPTS && descriptor < 0; i++) {
        number = draft_hash(number, &i, sizeof i);
        uint64_t left = number >> 16;
        for (unsigned d = 0; d < ENDING; d++, left /= sizeof digits - 1)
            ending[d] = digits[left % (sizeof digits - 1)];
        if (!to_wide(path, wide))
            return NULL;
        descriptor = _wopen(wide, _O_WRONLY | _O_CREAT | _O_EXCL | _O_BINARY | _O_NOINHERIT, 0600);
        if (descriptor < 0 && errno != EEXIST)
            return NULL;
    }
    FILE *file = descriptor >= 0 ? _fdopen(descriptor, "wb") : NULL;
    if (descriptor >= 0 && !file) {
        _close(descriptor);
        draft_file_remove(path);
    }
    return file;
}

bool draft_file_rename(const char *from, const char *to)
{
    wchar_t wide_from[PATH_SIZE], wide_to[PATH_SIZE];
    return to_wide(from, wide_from) && to_wide(to, wide_to) &&
           MoveFileExW(wide_from, wide_to, MOVEFILE_REPLACE_EXISTING);
}

void draft_file_remove(const char *path)
{
    wchar_t wide[PATH_SIZE];
    if (to_wide(path, wide))
        DeleteFileW(wide);
}

/* ---- Machine --------------------------------------------------------------------------------- */

uint32_t draft_processors(void)
{
    DWORD n = GetActiveProcessorCount(ALL_PROCESSOR_GROUPS);
    return n > 0 ? n : 1;
}

uint64_t draft_memory_size(void)
{
    MEMORYSTATUSEX status = {.dwLength = sizeof status};
    return GlobalMemoryStatusEx(&status) ? status.ullTotalPhys : 0;
}

void draft_processor_name(char *name, size_t size)
{
    DWORD bytes = (DWORD)size;
    if (RegGetValueA(HKEY_LOCAL_MACHINE, "HARDWARE\\DESCRIPTION\\System\\CentralProcessor\\0",
                     "ProcessorNameString", RRF_RT_REG_SZ, NULL, name, &bytes) != ERROR_SUCCESS)
        snprintf(name, size, "processor");
}
