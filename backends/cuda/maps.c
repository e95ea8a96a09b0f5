/* SPDX-License-Identifier: MIT
 *
 * Tensor maps of q, k, v, out and pooled keys, for the kernels of sm_90. They hold addresses, so
 * each run makes them: by the driver on the host, without a call to the device. Strides are
 * multiples of 16 bytes in any order: heads may lie closer than tokens, though the manual writes
 * them down for packed tensors.
 * https://docs.nvidia.com/cuda/cuda-driver-api/group__CUDA__TENSOR__MEMORY.html */
#include <inttypes.h>
#include <string.h>

#include "device.h"

_Static_assert(sizeof(struct cuda_tensor_map) == sizeof(CUtensorMap), "as large as the driver's");
_Static_assert(alignof(struct cuda_tensor_map) >= alignof(CUtensorMap), "and aligned like it");

/* What a map can say: strides below 2^40 bytes, coordinates that are not negative as int. */
#define MAX_STRIDE (UINT64_C(1) << 40)
#define MAX_EXTENT (UINT64_C(1) << 31)

enum { DIMENSIONS = 5, BOX_COLUMNS = 64 /* 128 bytes, the width of the swizzle */ };

struct tensor {
    addr data;
    uint32_t batch, token, head, heads; /* strides in units; 0 along axes of length 1 */
};

static uint64_t common_divisor(uint64_t a, uint64_t b)
{
    while (b) {
        uint64_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

/* One axis runs over the heads of all samples: its stride divides those of heads and of samples. */
static uint64_t heads_stride(const struct tensor *t)
{
    uint64_t stride = common_divisor(t->batch, t->head);
    return stride ? stride : 1;
}

static bool encode_map(const struct cuda_device *device, const struct draft_geometry *g, addr first,
                       const cuuint64_t *extents, const cuuint64_t *strides, const cuuint32_t *box,
                       struct cuda_tensor_map *out)
{
    const cuuint32_t each[DIMENSIONS] = {1, 1, 1, 1, 1};
    const struct cuda_api *api = &device->driver.api;
    CUtensorMap map;
    CUresult result = api->cuTensorMapEncodeTiled(
        &map,
        g->type == DRAFT_ABI_F16 ? CU_TENSOR_MAP_DATA_TYPE_FLOAT16
                                 : CU_TENSOR_MAP_DATA_TYPE_BFLOAT16,
        DIMENSIONS, (void *)(uintptr_t)first, extents, strides, box, each,
        CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
        CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
    if (result) {
        draft_log(device->log, DRAFT_LOG_WARN, "cuda: cuTensorMapEncodeTiled gave %s (%d)",
                  draft_cuda_error_name(api, result), (int)result);
        return false;
    }
    memcpy(out, &map, sizeof map);
    return true;
}

static bool encode(const struct cuda_device *device, const struct draft_geometry *g,
                   const struct tensor *t, struct cuda_tensor_map *out, uint32_t *batch_index,
                   uint32_t *head_index)
{
    uint64_t shared = heads_stride(t), token = t->token ? t->token : 1;
    uint64_t batches = t->batch / shared, heads = t->head / shared;
    uint64_t extent = (g->batch - 1) * batches + (t->heads - 1) * heads + 1;
    const cuuint64_t strides[DIMENSIONS - 1] = {
        token * DRAFT_UNIT,
        token * g->width * DRAFT_UNIT,
        token * g->width * g->height * DRAFT_UNIT,
        shared * DRAFT_UNIT,
    };
    if (strides[2] >= MAX_STRIDE || strides[3] >= MAX_STRIDE || extent > MAX_EXTENT)
        return false;
    const cuuint64_t extents[DIMENSIONS] = {g->dim, g->width, g->height, g->frames, extent};
    const cuuint32_t box[DIMENSIONS] = {BOX_COLUMNS, g->tile_w, g->tile_h, g->tile_t, 1};
    addr first = t->data + (uint64_t)g->prefix * token * DRAFT_UNIT;
    *batch_index = (uint32_t)batches;
    *head_index = (uint32_t)heads;
    return encode_map(device, g, first, extents, strides, box, out);
}

static bool encode_pooled(const struct cuda_device *device, const struct draft_geometry *g,
                          addr first, struct cuda_tensor_map *out)
{
    uint64_t row = g->dim * sizeof(uint16_t), head = row * g->video_blocks;
    const cuuint64_t extents[DIMENSIONS] = {g->dim, g->video_blocks,
                                            (uint64_t)g->batch * g->kv_heads, 1, 1};
    const cuuint64_t strides[DIMENSIONS - 1] = {row, head, head, head};
    const cuuint32_t box[DIMENSIONS] = {BOX_COLUMNS, DRAFT_BLOCK, 1, 1, 1};
    return encode_map(device, g, first, extents, strides, box, out);
}

bool draft_cuda_maps(const struct cuda_device *device, const struct draft_geometry *g,
                     const struct draft_args *a, struct cuda_tensor_maps *out)
{
    const struct tensor q = {a->q, a->q_batch, a->q_token, a->q_head, g->heads},
                        k = {a->k, a->k_batch, a->k_token, a->k_head, g->kv_heads},
                        v = {a->v, a->v_batch, a->v_token, a->v_head, g->kv_heads},
                        o = {a->o, a->out_batch, a->out_token, a->out_head, g->heads};
    if (g->tail != DRAFT_ABI_TAIL_DROP &&
        !(encode_pooled(device, g, a->workspace + g->tail_k, &out->tail_k) &&
          encode_pooled(device, g, a->workspace + g->tail_v, &out->tail_v)))
        return false;
    return encode(device, g, &q, &out->q, &out->q_index.batch, &out->q_index.head) &&
           encode(device, g, &k, &out->k, &out->k_index.batch, &out->k_index.head) &&
           encode(device, g, &v, &out->v, &out->v_index.batch, &out->v_index.head) &&
           encode(device, g, &o, &out->out, &out->out_index.batch, &out->out_index.head);
}
