/* SPDX-License-Identifier: MIT
 *
 * What the simulated devices are like. */
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "driver.h"

namespace simulator
{

namespace
{

constexpr size_t KIB = 1024, GIB = KIB * KIB * KIB;

/* The first is the default. sm_75 is one that is too old for the kernels; sm_86 one with little
 * shared memory. */
const Model MODELS[] = {
    {"sm_80", 8, 0, 48 * KIB, 163 * KIB, 108, 80 * GIB},
    {"sm_75", 7, 5, 48 * KIB, 64 * KIB, 40, 16 * GIB},
    {"sm_86", 8, 6, 48 * KIB, 99 * KIB, 82, 24 * GIB},
    {"sm_90", 9, 0, 48 * KIB, 227 * KIB, 132, 80 * GIB},
};

const Model &choose()
{
    const char *name = getenv("DRAFT_SIMULATOR");
    if (!name || !*name)
        return MODELS[0];
    for (const Model &m : MODELS)
        if (!strcmp(m.name, name))
            return m;
    fprintf(stderr, "simulator: DRAFT_SIMULATOR=%s is none of", name);
    for (const Model &m : MODELS)
        fprintf(stderr, " %s", m.name);
    fprintf(stderr, "\n");
    exit(99);
}

int choose_count()
{
    const char *text = getenv("DRAFT_SIMULATOR_DEVICES");
    int count = text && *text ? atoi(text) : 2;
    if (count >= 0 && count <= DEVICES)
        return count;
    fprintf(stderr, "simulator: DRAFT_SIMULATOR_DEVICES is a number from 0 to %d\n", DEVICES);
    exit(99);
}

} // namespace

int device_count()
{
    static const int chosen = choose_count();
    return chosen;
}

const Model &model()
{
    static const Model &chosen = choose();
    return chosen;
}

} // namespace simulator
