/* SPDX-License-Identifier: MIT */
#include "shell.h"

#include <dirent.h>
#include <sys/wait.h>
#include <unistd.h>

const char *program;
char folder[256];

void set_program(const char *path)
{
    program = realpath(path, NULL);
}

int draft_on(const char *backend, const char *arguments)
{
    char line[4096];
    snprintf(line, sizeof line, "cd '%s' && DRAFT_BACKEND='%s' '%s' %s >out 2>err", folder, backend,
             program, arguments);
    int status = system(line);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

int draft(const char *arguments)
{
    return draft_on("cpu", arguments);
}

const char *content(const char *name)
{
    static char text[1 << 16];
    char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "rb");
    size_t size = file ? fread(text, 1, sizeof text - 1, file) : 0;
    text[size] = 0;
    if (file)
        fclose(file);
    return text;
}

void refused(const char *arguments, const char *message)
{
    int code = draft(arguments);
    ck_assert_msg(code == 2, "draft %s: exit code %d: %s", arguments, code, content("err"));
    ck_assert_msg(strstr(content("err"), message), "draft %s: '%s' expected, got '%s'", arguments,
                  message, content("err"));
    ck_assert_str_eq(content("out"), "");
}

unsigned files(void)
{
    unsigned count = 0;
    DIR *d = opendir(folder);
    for (struct dirent *e; (e = readdir(d));)
        count += e->d_name[0] != '.';
    closedir(d);
    return count;
}

void write_tensor(const char *name, draft_type type, unsigned rank, const uint64_t *shape,
                  unsigned seed)
{
    static float values[2 * COUNT];
    char path[512];
    struct tensor t = {.type = type, .rank = rank, .count = 1, .data = values};
    for (unsigned i = 0; i < rank; i++)
        t.count *= t.shape[i] = shape[i];
    srand(seed);
    for (size_t i = 0; i < t.count; i++)
        values[i] = (float)rand() / (float)RAND_MAX - 0.5f;
    if (type == DRAFT_BF16) /* the upper half of each, in place */
        for (size_t i = 0; i < t.count; i++)
            memcpy((char *)values + 2 * i, (char *)&values[i] + 2, 2);
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "wb");
    ck_assert_ptr_nonnull(file);
    ck_assert(tensor_write(file, path, "q", &t));
    fclose(file);
}

void make_folder(void)
{
    static const uint64_t shape[] = {TOKENS, HEADS, DIM};
    const char *tmp = getenv("TMPDIR");
    snprintf(folder, sizeof folder, "%s/draft-program-XXXXXX", tmp ? tmp : "/tmp");
    ck_assert_ptr_nonnull(mkdtemp(folder));
    write_tensor("q.npy", DRAFT_F32, 3, shape, 1);
    write_tensor("k.npy", DRAFT_F32, 3, shape, 2);
    write_tensor("v.npy", DRAFT_F32, 3, shape, 3);
}

void remove_folder(void)
{
    char line[512];
    snprintf(line, sizeof line, "rm -r '%s'", folder);
    ck_assert_int_eq(system(line), 0);
}

void open_result(const char *name, struct tensor_file *file)
{
    char path[512];
    struct tensor_error error;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    ck_assert_msg(tensor_file_open(path, "out", 0, file, &error), "%s: %s", name, error.text);
}

void same_results(const char *a, const char *b)
{
    struct tensor_file one = {0}, other = {0};
    open_result(a, &one);
    open_result(b, &other);
    ck_assert_int_eq(one.tensor.type, other.tensor.type);
    ck_assert_uint_eq(one.tensor.count, other.tensor.count);
    ck_assert_mem_eq(one.tensor.data, other.tensor.data,
                     one.tensor.count * tensor_type_size(one.tensor.type));
    tensor_file_close(&other);
    tensor_file_close(&one);
}
