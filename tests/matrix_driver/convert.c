/* SPDX-License-Identifier: MIT
 *
 * bf16 as 16 bits. */
#include "lower.h"

/* To nearest, ties to even; a NaN stays one. */
uint32_t bf16_bits(struct lowering *l, uint32_t x)
{
    uint32_t bits = unary(l, OpBitcast, l->c.t_uint, x);
    uint32_t high = uint_op(l, OpShiftRightLogical, bits, uint_constant(l, 16));
    uint32_t odd = uint_op(l, OpBitwiseAnd, high, uint_constant(l, 1));
    uint32_t up = uint_op(l, OpIAdd, odd, uint_constant(l, 0x7fff));
    uint32_t near =
        uint_op(l, OpShiftRightLogical, uint_op(l, OpIAdd, bits, up), uint_constant(l, 16));
    uint32_t nan = binary(l, OpUGreaterThan, l->c.t_bool,
                          uint_op(l, OpBitwiseAnd, bits, uint_constant(l, 0x7fffffff)),
                          uint_constant(l, 0x7f800000));
    uint32_t quiet = uint_op(l, OpBitwiseOr, high, uint_constant(l, 0x40));
    return unary(l, OpUConvert, l->c.t_u16, select_value(l, l->c.t_uint, nan, quiet, near));
}

uint32_t bf16_value(struct lowering *l, uint32_t bits)
{
    uint32_t wide = unary(l, OpUConvert, l->c.t_uint, bits);
    return unary(l, OpBitcast, l->c.t_float,
                 uint_op(l, OpShiftLeftLogical, wide, uint_constant(l, 16)));
}

/* The nearest that the component has, as a float. (f16 by the driver's own rounding.) */
uint32_t rounded(struct lowering *l, enum component component, uint32_t x)
{
    if (component == COMPONENT_BF16)
        return bf16_value(l, bf16_bits(l, x));
    if (component == COMPONENT_F16)
        return unary(l, OpFConvert, l->c.t_float, unary(l, OpFConvert, l->c.t_half, x));
    return x;
}

/* The instruction's result becomes another name of a value that is there. */
static void name_result(struct lowering *l, uint32_t type, uint32_t value)
{
    EMIT(&l->body, OpCopyObject, type, l->at[2], value);
}

bool lower_bf16(struct lowering *l)
{
    uint32_t opcode = spirv_code(l->at), bf16 = l->c.t_bf16;
    if (opcode == OpTypeFloat && spirv_size(l->at) == 4 && l->seen_types && l->at[1] == bf16)
        return true; /* declared at the start */
    if (!bf16 || table_form(opcode) != FORM_TYPED || spirv_size(l->at) < 4)
        return false;
    bool from = type_of(l, l->at[3]) == bf16, to = l->at[1] == bf16;
    if (opcode == OpFConvert && to && type_of(l, l->at[3]) == l->c.t_float)
        name_result(l, bf16, bf16_bits(l, l->at[3]));
    else if (opcode == OpFConvert && from && l->at[1] == l->c.t_float)
        name_result(l, l->c.t_float, bf16_value(l, l->at[3]));
    else if (opcode == OpFConvert && (from || to))
        lower_fail(l, "a conversion of bf16 that the lowering does not know");
    else
        return false;
    return true;
}
