/* SPDX-License-Identifier: MIT
 *
 * Runs a fuzz target on every file of a folder, where libFuzzer is not at hand. */
#include <dirent.h>
#include <stdio.h>

#include "fuzz.h"

/* In memory of exactly its size, so that an address sanitizer sees reads beyond it. */
static int replay(const char *path)
{
    FILE *file = fopen(path, "rb");
    if (!file || fseek(file, 0, SEEK_END) != 0)
        return 1;
    long size = ftell(file);
    rewind(file);
    uint8_t *bytes = malloc(size > 0 ? (size_t)size : 1);
    int bad = !bytes || size < 0 || fread(bytes, 1, (size_t)size, file) != (size_t)size;
    if (!bad)
        LLVMFuzzerTestOneInput(bytes, (size_t)size);
    free(bytes);
    fclose(file);
    return bad;
}

int main(int argc, char **argv)
{
    unsigned count = 0;
    DIR *folder = argc == 2 ? opendir(argv[1]) : NULL;
    if (!folder) {
        fprintf(stderr, "usage: %s FOLDER\n", argv[0]);
        return 2;
    }
    for (struct dirent *entry; (entry = readdir(folder));) {
        char path[4096];
        if (entry->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, "%s/%s", argv[1], entry->d_name);
        if (replay(path)) {
            fprintf(stderr, "%s cannot be read\n", path);
            return 1;
        }
        count++;
    }
    closedir(folder);
    printf("%u files\n", count);
    return count == 0;
}
