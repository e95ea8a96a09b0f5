/* SPDX-License-Identifier: MIT */
#include "tensor_file.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "posix.h"

static const char safetensors_ending[] = ".safetensors";

bool tensor_fail(struct tensor_error *error, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(error->text, sizeof error->text, format, arguments);
    va_end(arguments);
    return false;
}

struct tensor_name tensor_printable(const char *text, size_t length)
{
    struct tensor_name name = {{0}};
    size_t n = length > 40 ? 40 : length;
    name.text[0] = '\'';
    for (size_t i = 0; i < n; i++)
        name.text[1 + i] = (char)(text[i] >= ' ' && text[i] <= '~' ? text[i] : '?');
    memcpy(name.text + 1 + n, length > 40 ? "...'" : "'", length > 40 ? 5 : 2);
    return name;
}

size_t tensor_type_size(draft_type type)
{
    if (type == TENSOR_I64)
        return 8;
    return type == DRAFT_F32 || type == TENSOR_U32 || type == TENSOR_I32 ? 4 : 2;
}

bool tensor_count(struct tensor *tensor, size_t element, struct tensor_error *error)
{
    uint64_t count = 1;
    for (unsigned i = 0; i < tensor->rank; i++) {
        uint64_t n = tensor->shape[i];
        if (n == 0)
            return tensor_fail(error, "it is empty: axis %u has length 0", i);
        if (n > SIZE_MAX / element / count)
            return tensor_fail(error, "its shape is larger than memory can be");
        count *= n;
    }
    tensor->count = count;
    return true;
}

/* Map a whole regular file. */
static bool map_file(const char *path, struct tensor_file *out, struct tensor_error *error)
{
    struct stat status;
    /* O_NONBLOCK: to refuse a named pipe instead of waiting for its writer. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return tensor_fail(error, "%s", strerror(errno));
    bool ok = fstat(fd, &status) == 0;
    if (!ok)
        tensor_fail(error, "%s", strerror(errno));
    else if (!(ok = S_ISREG(status.st_mode)))
        tensor_fail(error, "it is no regular file");
    else if (!(ok = status.st_size > 0))
        tensor_fail(error, "it is empty");
    else if (!(ok = (uint64_t)status.st_size <= SIZE_MAX))
        tensor_fail(error, "it is larger than memory can be");
    if (ok) {
        out->map_size = (size_t)status.st_size;
        out->map = mmap(NULL, out->map_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (out->map == MAP_FAILED) {
            out->map = NULL;
            ok = tensor_fail(error, "it cannot be mapped into memory: %s", strerror(errno));
        }
    }
    close(fd);
    return ok;
}

bool tensor_file_open(const char *path, const char *default_name, draft_type wanted,
                      struct tensor_file *out, struct tensor_error *error)
{
    char *file_path;
    struct tensor_file file = {0};
    const char *name = tensor_path_split(path, &file_path);
    if (!file_path)
        return tensor_fail(error, "memory ran out");
    bool ok = map_file(file_path, &file, error);
    free(file_path);
    if (!ok)
        return false;
    if (file.map_size >= 6 && memcmp(file.map, "\x93NUMPY", 6) == 0)
        ok = name ? tensor_fail(error, "it is a .npy file, which has no tensor names")
                  : tensor_parse_npy(file.map, file.map_size, wanted, &file.tensor, error);
    else
        ok = tensor_parse_safetensors(file.map, file.map_size, name ? name : default_name, wanted,
                                      &file.tensor, error);
    if (ok)
        *out = file;
    else
        tensor_file_close(&file);
    return ok;
}

void tensor_file_close(struct tensor_file *file)
{
    if (file->map)
        munmap(file->map, file->map_size);
    *file = (struct tensor_file){0};
}

const char *tensor_path_split(const char *path, char **file)
{
    const char *name = NULL;
    for (const char *p = strstr(path, ".safetensors:"); p; p = strstr(p + 1, ".safetensors:"))
        name = p + sizeof safetensors_ending;
    *file = strdup(path);
    if (*file && name)
        (*file)[name - path - 1] = 0;
    return name;
}

bool tensor_write(FILE *file, const char *path, const char *name, const struct tensor *tensor)
{
    size_t length = strlen(path), ending = sizeof safetensors_ending - 1;
    if (length >= ending && strcmp(path + length - ending, safetensors_ending) == 0)
        return tensor_write_safetensors(file, &(struct tensor_entry){name, *tensor}, 1, NULL);
    return tensor_write_npy(file, tensor);
}
