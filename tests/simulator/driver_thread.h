/* SPDX-License-Identifier: MIT
 *
 * The contexts of a thread, the current one last. */
#ifndef DRAFT_TESTS_SIMULATOR_DRIVER_THREAD_H
#define DRAFT_TESTS_SIMULATOR_DRIVER_THREAD_H

#include "driver.h"

namespace simulator
{

struct ThreadContexts {
    struct Entry {
        CUcontext context; /* nullptr, or one that may be destroyed */
        bool pushed;       /* by cuCtxPushCurrent                   */
    };
    std::vector<Entry> stack;
    ~ThreadContexts();
};
ThreadContexts &thread_contexts();

} // namespace simulator

#endif
