/* SPDX-License-Identifier: MIT
 *
 * A Vulkan driver that says it has everything that is optional: the one that is there, with other
 * answers to what is asked of a physical device. Kernels do not run on it. */
#ifndef DRAFT_TESTS_VULKAN_DRIVER_H
#define DRAFT_TESTS_VULKAN_DRIVER_H

#include "vulkan/device.h"
#include "vulkan_app.h"

enum { DRIVER_EXTENSIONS = 5, DRIVER_ASKED = 64 };
extern const char *const driver_extensions[DRIVER_EXTENSIONS];

struct driver {
    uint32_t version;
    const char *hidden;                   /* an entry point that is missing, NULL: none  */
    VkStructureType chains[DRIVER_ASKED]; /* structures of features that were asked for, */
    uint32_t chain_count;
    char names[DRIVER_ASKED][96]; /* and functions that were looked up by name */
    uint32_t name_count;
};
extern struct driver driver;

/* vkGetInstanceProcAddr. */
PFN_vkVoidFunction driver_proc(VkInstance instance, const char *name);
bool driver_looked_up(const char *name);
bool driver_asked(VkStructureType type);

#endif
