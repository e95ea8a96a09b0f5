/* SPDX-License-Identifier: MIT
 *
 * Any bytes as a .safetensors file: no crash, and what is accepted lies within the bytes. */
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    static const struct {
        const char *name;
        draft_type wanted;
    } tries[] = {
        {"q", (draft_type)0}, {"k", DRAFT_BF16}, {"", (draft_type)0}, {"k", TENSOR_INTEGER}};
    struct tensor tensor;
    struct tensor_error error;
    char about[8];
    const struct tensor_file file = {.map = (void *)(uintptr_t)bytes, .map_size = size};
    if (tensor_file_metadata(&file, "format", about, sizeof about) &&
        strnlen(about, sizeof about) == sizeof about)
        abort();
    for (unsigned i = 0; i < sizeof tries / sizeof *tries; i++) {
        if (tensor_parse_safetensors(bytes, size, tries[i].name, tries[i].wanted, &tensor, &error))
            fuzz_check_tensor(bytes, size, &tensor);
        else
            fuzz_check_error(&error);
    }
    return 0;
}
