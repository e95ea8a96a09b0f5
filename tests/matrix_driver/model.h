/* SPDX-License-Identifier: MIT
 *
 * What the driver pretends to be. */
#ifndef MATRIX_DRIVER_MODEL_H
#define MATRIX_DRIVER_MODEL_H

#include <stdbool.h>

#include "vulkan/extensions.h"

enum { MODEL_GRANULE = 16, MODEL_SIDE = 256, MODEL_RESERVED = 4096, MODEL_WORKGROUP = 256 };

struct model {
    const char *name;
    uint32_t m, n, k; /* of the matrices of subgroups; f16 and bf16, sums in f32 */
    uint32_t min_subgroup, max_subgroup, subgroup;
    bool nv;  /* all of VK_NV_cooperative_matrix2                           */
    bool ext; /* of VK_EXT_cooperative_matrix_maintenance1 what attend uses */
};

/* The one that $DRAFT_MATRIX_DRIVER names, with subgroups of $DRAFT_MATRIX_SUBGROUP alone where
 * that is set; false, and a line on stderr, where there is none such. */
bool model_chosen(struct model *out);

/* Is the extension one that a model may have; does this one have it? model NULL: the first only. */
bool model_extension(const struct model *model, const char *name);

/* What of ours comes after the device's own: the names of the extensions. */
uint32_t model_extensions(const struct model *model, VkExtensionProperties *out, uint32_t room);

/* Write into those structures of a chain that are about matrices and subgroups. */
void model_features(const struct model *model, void *chain);
void model_properties(const struct model *model, void *chain);

VkResult model_shapes(const struct model *model, uint32_t *count,
                      VkCooperativeMatrixPropertiesKHR *out);
VkResult model_flexible(const struct model *model, uint32_t *count,
                        VkCooperativeMatrixFlexibleDimensionsPropertiesNV *out);

#endif
