/* SPDX-License-Identifier: MIT
 *
 * Tensor maps, as far as the kernels of this project need them. The rules are in cuda.h. */
#include <cstring>

#include "driver.h"
#include "tensor_map.h"

using namespace simulator;

namespace
{

constexpr uint64_t MOST_ELEMENTS = 1ull << 32, MOST_BYTES = 1ull << 40;
constexpr uint32_t MOST_BOX = 256, ALIGNED = 16, MAP_ALIGNED = alignof(CUtensorMap), SWIZZLED = 128;

/* Bytes of an element; 0: a type that is not simulated. */
uint32_t element_size(CUtensorMapDataType type)
{
    switch (type) {
    case CU_TENSOR_MAP_DATA_TYPE_UINT8:
        return 1;
    case CU_TENSOR_MAP_DATA_TYPE_UINT16:
    case CU_TENSOR_MAP_DATA_TYPE_FLOAT16:
    case CU_TENSOR_MAP_DATA_TYPE_BFLOAT16:
        return 2;
    case CU_TENSOR_MAP_DATA_TYPE_UINT32:
    case CU_TENSOR_MAP_DATA_TYPE_INT32:
    case CU_TENSOR_MAP_DATA_TYPE_FLOAT32:
        return 4;
    default:
        return 0;
    }
}

CUresult wrong(const char *what, unsigned long long value)
{
    return complain(CUDA_ERROR_INVALID_VALUE, "cuTensorMapEncodeTiled: %s: %llu", what, value);
}

CUresult set_sizes(TensorMap &map, const cuuint64_t *dims, const cuuint64_t *strides,
                   const cuuint32_t *box, const cuuint32_t *steps)
{
    for (uint32_t d = 0; d < MAX_RANK; d++) {
        bool used = d < map.rank;
        map.dims[d] = used ? dims[d] : 1;
        map.box[d] = (uint16_t)(used ? box[d] : 1);
        if (d > 0)
            map.strides[d] = used ? strides[d - 1] : 0;
        if (!used)
            continue;
        if (dims[d] < 1 || dims[d] > MOST_ELEMENTS)
            return wrong("elements of a dimension", dims[d]);
        if (box[d] < 1 || box[d] > MOST_BOX)
            return wrong("elements of the box", box[d]);
        if (steps[d] != 1)
            return wrong("an element stride, where 1 is simulated", steps[d]);
        if (d > 0 && (map.strides[d] % ALIGNED || map.strides[d] >= MOST_BYTES))
            return wrong("a stride", map.strides[d]);
    }
    uint64_t row = map.box[0] * map.strides[0];
    if (row % ALIGNED || (map.swizzled && row > SWIZZLED))
        return wrong("bytes of the inner dimension of the box", row);
    return CUDA_SUCCESS;
}

} // namespace

CUresult cuTensorMapEncodeTiled(CUtensorMap *out, CUtensorMapDataType type, cuuint32_t rank,
                                void *address, const cuuint64_t *dims, const cuuint64_t *strides,
                                const cuuint32_t *box, const cuuint32_t *steps,
                                CUtensorMapInterleave interleave, CUtensorMapSwizzle swizzle,
                                CUtensorMapL2promotion promotion, CUtensorMapFloatOOBfill fill)
{
    if (!out || !dims || !box || !steps || (rank > 1 && !strides))
        return wrong("an argument is missing", 0);
    if (model().major < 9)
        return complain(CUDA_ERROR_NOT_SUPPORTED, "cuTensorMapEncodeTiled: not on %s",
                        model().name);
    if ((uintptr_t)out % MAP_ALIGNED)
        return wrong("the address of the map", (uintptr_t)out);
    if (rank < 1 || rank > MAX_RANK)
        return wrong("dimensions", rank);
    if (!address || (uintptr_t)address % ALIGNED)
        return wrong("the address of the tensor", (uintptr_t)address);
    if (!element_size(type))
        return wrong("a type that is not simulated", type);
    if (interleave != CU_TENSOR_MAP_INTERLEAVE_NONE)
        return wrong("an interleave, which is not simulated", interleave);
    if (swizzle != CU_TENSOR_MAP_SWIZZLE_NONE && swizzle != CU_TENSOR_MAP_SWIZZLE_128B)
        return wrong("a swizzle that is not simulated", swizzle);
    if (promotion > CU_TENSOR_MAP_L2_PROMOTION_L2_256B)
        return wrong("an L2 promotion", promotion);
    if (fill != CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE)
        return wrong("a fill that is not simulated", fill);
    TensorMap map = {};
    map.magic = TensorMap::MAGIC;
    map.address = (uintptr_t)address;
    map.rank = (uint8_t)rank;
    map.swizzled = swizzle == CU_TENSOR_MAP_SWIZZLE_128B;
    map.strides[0] = element_size(type);
    CUresult r = set_sizes(map, dims, strides, box, steps);
    if (r)
        return r;
    memset(out, 0, sizeof(*out));
    memcpy(out, &map, sizeof(map));
    return CUDA_SUCCESS;
}
