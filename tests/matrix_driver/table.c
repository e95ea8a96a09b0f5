/* SPDX-License-Identifier: MIT
 *
 * The instructions that may stand in a module with matrices. What is not here is refused. */
#include "lower.h"

enum { ALL_VALUES = 0xffff };

static const struct row {
    uint16_t first, last; /* opcodes */
    uint16_t form, values;
} table[] = {
    {OpNop, OpNop, FORM_PLAIN, 0},
    {OpUndef, OpUndef, FORM_TYPED, 0},
    {OpSource, OpMemberName, FORM_PLAIN, 0},
    {OpString, OpString, FORM_RESULT, 0},
    {OpExtension, OpExtension, FORM_PLAIN, 0},
    {OpExtInstImport, OpExtInstImport, FORM_RESULT, 0},
    {OpExtInst, OpExtInst, FORM_TYPED, ALL_VALUES},
    {OpMemoryModel, OpCapability, FORM_PLAIN, 0},
    {OpTypeVoid, OpTypeVector, FORM_RESULT, 0},
    {OpTypeArray, OpTypeStruct, FORM_RESULT, 0},
    {OpTypePointer, OpTypeFunction, FORM_RESULT, 0},
    {OpTypeForwardPointer, OpTypeForwardPointer, FORM_PLAIN, 0},
    {OpConstantTrue, OpConstantComposite, FORM_TYPED, 0},
    {OpConstantNull, OpConstantNull, FORM_TYPED, 0},
    {OpFunction, OpFunctionParameter, FORM_TYPED, 0},
    {OpFunctionEnd, OpFunctionEnd, FORM_PLAIN, 0},
    {OpFunctionCall, OpFunctionCall, FORM_TYPED, ALL_VALUES},
    {OpVariable, OpVariable, FORM_TYPED, 0},
    {OpLoad, OpLoad, FORM_TYPED, 1},
    {OpStore, OpStore, FORM_PLAIN, 2},
    {OpAccessChain, OpInBoundsAccessChain, FORM_TYPED, ALL_VALUES},
    {OpDecorate, OpMemberDecorate, FORM_PLAIN, 0},
    {OpVectorExtractDynamic, OpVectorExtractDynamic, FORM_TYPED, ALL_VALUES},
    {OpVectorShuffle, OpVectorShuffle, FORM_TYPED, 2},
    {OpCompositeConstruct, OpCompositeConstruct, FORM_TYPED, ALL_VALUES},
    {OpCompositeExtract, OpCompositeExtract, FORM_TYPED, 1},
    {OpCompositeInsert, OpCompositeInsert, FORM_TYPED, 2},
    {OpCopyObject, OpCopyObject, FORM_TYPED, ALL_VALUES},
    {OpConvertFToU, OpFConvert, FORM_TYPED, ALL_VALUES},
    {OpBitcast, OpBitcast, FORM_TYPED, ALL_VALUES},
    {126, OpMatrixTimesScalar, FORM_TYPED, ALL_VALUES},
    {148, 157, FORM_TYPED, ALL_VALUES},
    {164, OpFUnordGreaterThanEqual, FORM_TYPED, ALL_VALUES},
    {OpShiftRightLogical, OpBitCount, FORM_TYPED, ALL_VALUES},
    {OpControlBarrier, OpMemoryBarrier, FORM_PLAIN, ALL_VALUES},
    {OpAtomicLoad, OpAtomicLoad, FORM_TYPED, ALL_VALUES},
    {OpAtomicStore, OpAtomicStore, FORM_PLAIN, ALL_VALUES},
    {229, OpAtomicXor, FORM_TYPED, ALL_VALUES},
    {OpPhi, OpPhi, FORM_TYPED, ALL_VALUES},
    {OpLoopMerge, OpSelectionMerge, FORM_PLAIN, 0},
    {OpLabel, OpLabel, FORM_RESULT, 0},
    {OpBranch, OpBranch, FORM_PLAIN, 0},
    {OpBranchConditional, OpSwitch, FORM_PLAIN, 1},
    {OpReturn, OpReturn, FORM_PLAIN, 0},
    {OpReturnValue, OpReturnValue, FORM_PLAIN, 1},
    {OpUnreachable, OpUnreachable, FORM_PLAIN, 0},
    {OpModuleProcessed, OpModuleProcessed, FORM_PLAIN, 0},
    {OpTypeCooperativeMatrix, OpTypeCooperativeMatrix, FORM_RESULT, 0},
    {OpCooperativeMatrixLoad, OpCooperativeMatrixLoad, FORM_TYPED, 0},
    {OpCooperativeMatrixStore, OpCooperativeMatrixStore, FORM_PLAIN, 0},
    {OpCooperativeMatrixMulAdd, OpCooperativeMatrixMulAdd, FORM_TYPED, 0},
    {OpCooperativeMatrixReduce, OpCooperativeMatrixLoadTensor, FORM_TYPED, 0},
    {OpCooperativeMatrixStoreTensor, OpCooperativeMatrixStoreTensor, FORM_PLAIN, 0},
    {OpCooperativeMatrixPerElementOp, OpCooperativeMatrixPerElementOp, FORM_TYPED, 0},
    {OpTypeTensorLayout, OpTypeTensorView, FORM_RESULT, 0},
    {OpCreateTensorLayout, OpTensorLayoutSlice, FORM_TYPED, 0},
    {OpCreateTensorView, OpCreateTensorView, FORM_TYPED, 0},
    {OpTensorViewSetClip, OpTensorViewSetClip, FORM_TYPED, 0},
};

static const struct row *find(uint32_t opcode)
{
    for (unsigned i = 0; i < sizeof table / sizeof *table; i++)
        if (opcode >= table[i].first && opcode <= table[i].last)
            return &table[i];
    return NULL;
}

enum form table_form(uint32_t opcode)
{
    const struct row *row = find(opcode);
    return row ? (enum form)row->form : FORM_UNKNOWN;
}

uint32_t table_values(uint32_t opcode)
{
    const struct row *row = find(opcode);
    return row ? row->values : 0;
}

bool table_capability(uint32_t capability)
{
    switch (capability) {
    case CapabilityShader:
    case CapabilityFloat16:
    case CapabilityInt64:
    case CapabilityInt16:
    case CapabilityStorage16:
    case CapabilityPhysicalStorageBufferAddresses:
        return true;
    default:
        return false;
    }
}
