/* SPDX-License-Identifier: MIT
 *
 * Any bytes as a .npy file: no crash, and what is accepted lies within the bytes. */
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    static const draft_type wanted[] = {(draft_type)0, DRAFT_BF16};
    struct tensor tensor;
    struct tensor_error error;
    for (unsigned i = 0; i < 2; i++) {
        if (tensor_parse_npy(bytes, size, wanted[i], &tensor, &error))
            fuzz_check_tensor(bytes, size, &tensor);
        else
            fuzz_check_error(&error);
    }
    return 0;
}
