/* SPDX-License-Identifier: MIT
 *
 * Files that spare the next process some work, in the user's folder for caches: struct file_header,
 * then the content. Whatever is wrong with one, the library works as if it were not there. */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "backend.h"

enum { PATH_SIZE = 4096, MOST_BYTES = 256 << 20 };

struct file_header {
    char magic[DRAFT_FILE_MAGIC];
    uint64_t size, hash; /* of what follows */
};

uint64_t draft_hash(uint64_t before, const void *bytes, size_t size)
{
    const uint8_t *at = bytes;
    for (size_t i = 0; i < size; i++)
        before = (before ^ at[i]) * UINT64_C(0x100000001b3);
    return before;
}

/* Makes the folders where `make` is set. */
static bool file_path(const char *name, bool make, char *out)
{
    char folder[PATH_SIZE];
    if (!draft_cache_folder(folder, sizeof folder))
        return false;
    if (make && !draft_folder_make(folder))
        return false;
    size_t used = strlen(folder);
    int length = snprintf(folder + used, PATH_SIZE - used, "/draft");
    if (length < 0 || (size_t)length >= PATH_SIZE - used)
        return false;
    if (make && !draft_folder_make(folder))
        return false;
    length = snprintf(out, PATH_SIZE, "%s/%s", folder, name);
    return length > 0 && length < PATH_SIZE;
}

/* Is that the file's size? Asked before memory is taken on the word of its header. */
static bool holds(FILE *file, uint64_t size)
{
    struct stat status;
    return fstat(fileno(file), &status) == 0 && (uint64_t)status.st_size == size;
}

static draft_status read_file(const struct draft_log *log, FILE *file, const char *magic,
                              uint8_t **data, size_t *size)
{
    struct file_header header;
    if (fread(&header, sizeof header, 1, file) != 1 ||
        memcmp(header.magic, magic, sizeof header.magic) || header.size == 0 ||
        header.size > MOST_BYTES || !holds(file, sizeof header + header.size))
        return DRAFT_OK;
    size_t bytes = (size_t)header.size;
    uint8_t *read = draft_calloc(bytes, 1);
    if (!read) {
        draft_log(log, DRAFT_LOG_ERROR, "out of host memory for a file of %zu bytes", bytes);
        return DRAFT_ERROR_MEMORY;
    }
    if (fread(read, 1, bytes, file) == bytes && fgetc(file) == EOF &&
        draft_hash(DRAFT_HASH, read, bytes) == header.hash) {
        *data = read;
        *size = bytes;
    } else {
        draft_release(read);
    }
    return DRAFT_OK;
}

draft_status draft_file_load(const struct draft_log *log, const char *name, const char *magic,
                             uint8_t **data, size_t *size)
{
    char path[PATH_SIZE];
    *data = NULL;
    *size = 0;
    FILE *file = file_path(name, false, path) ? draft_file_open(path) : NULL;
    if (!file)
        return DRAFT_OK;
    draft_status status = read_file(log, file, magic, data, size);
    fclose(file);
    if (!status)
        draft_log(log, DRAFT_LOG_DEBUG, "%s %s", path, *data ? "read" : "is damaged: not used");
    return status;
}

static bool write_file(FILE *file, const char *magic, const void *data, size_t size)
{
    struct file_header header = {.size = size, .hash = draft_hash(DRAFT_HASH, data, size)};
    memcpy(header.magic, magic, sizeof header.magic);
    bool ok = fwrite(&header, sizeof header, 1, file) == 1 && fwrite(data, 1, size, file) == size;
    return fclose(file) == 0 && ok;
}

/* Under another name first: other processes may read or write the same file. */
void draft_file_save(const struct draft_log *log, const char *name, const char *magic,
                     const void *data, size_t size)
{
    char path[PATH_SIZE], other[PATH_SIZE];
    if (size > MOST_BYTES || !file_path(name, true, path))
        return;
    int length = snprintf(other, sizeof other, "%s.XXXXXX", path);
    if (length < 0 || length >= PATH_SIZE)
        return;
    FILE *file = draft_file_create(other);
    bool ok = file && write_file(file, magic, data, size) && draft_file_rename(other, path);
    draft_log(log, DRAFT_LOG_DEBUG, "%s %s", path, ok ? "written" : "could not be written");
    if (file && !ok)
        draft_file_remove(other);
}
