/* SPDX-License-Identifier: MIT
 *
 * How often threads execute each instruction, where $DRAFT_SIMULATOR_COUNTS names a file: at its
 * end the process adds lines of kernel, opcode and count to it. */
#ifndef DRAFT_TESTS_SIMULATOR_PTX_COUNT_H
#define DRAFT_TESTS_SIMULATOR_PTX_COUNT_H

#include "ptx_program.h"

namespace simulator
{
namespace ptx
{

/* [instruction], of this OS thread; nullptr: nobody wants to know. */
uint64_t *counts_of(const Program &program);

} // namespace ptx
} // namespace simulator

#endif
