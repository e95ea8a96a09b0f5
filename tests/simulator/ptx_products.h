/* SPDX-License-Identifier: MIT
 *
 * Instructions of PTX for products of warp groups. */
#ifndef DRAFT_TESTS_SIMULATOR_PTX_PRODUCTS_H
#define DRAFT_TESTS_SIMULATOR_PTX_PRODUCTS_H

#include "ptx_program.h"

namespace simulator
{
namespace ptx
{

void add_group_opcodes(std::vector<Opcode> &to);

} // namespace ptx
} // namespace simulator

#endif
