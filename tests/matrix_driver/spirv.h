/* SPDX-License-Identifier: MIT
 *
 * Numbers of SPIR-V that the lowering deals in, by the names of the specification: those of 1.6, of
 * SPV_KHR_cooperative_matrix, SPV_NV_cooperative_matrix2, SPV_EXT_cooperative_matrix_maintenance1,
 * SPV_NV_tensor_addressing and SPV_KHR_bfloat16. */
#ifndef MATRIX_DRIVER_SPIRV_H
#define MATRIX_DRIVER_SPIRV_H

#include <stdint.h>

enum { SPIRV_MAGIC = 0x07230203, SPIRV_HEADER = 5, SPIRV_1_4 = 0x10400 };

enum opcode {
    OpNop = 0,
    OpUndef = 1,
    OpSource = 3,
    OpSourceExtension = 4,
    OpName = 5,
    OpMemberName = 6,
    OpString = 7,
    OpExtension = 10,
    OpExtInstImport = 11,
    OpExtInst = 12,
    OpMemoryModel = 14,
    OpEntryPoint = 15,
    OpExecutionMode = 16,
    OpCapability = 17,
    OpTypeVoid = 19,
    OpTypeBool = 20,
    OpTypeInt = 21,
    OpTypeFloat = 22,
    OpTypeVector = 23,
    OpTypeArray = 28,
    OpTypeRuntimeArray = 29,
    OpTypeStruct = 30,
    OpTypePointer = 32,
    OpTypeFunction = 33,
    OpTypeForwardPointer = 39,
    OpConstantTrue = 41,
    OpConstantFalse = 42,
    OpConstant = 43,
    OpConstantComposite = 44,
    OpConstantNull = 46,
    OpFunction = 54,
    OpFunctionParameter = 55,
    OpFunctionEnd = 56,
    OpFunctionCall = 57,
    OpVariable = 59,
    OpLoad = 61,
    OpStore = 62,
    OpAccessChain = 65,
    OpInBoundsAccessChain = 66,
    OpDecorate = 71,
    OpMemberDecorate = 72,
    OpVectorExtractDynamic = 77,
    OpVectorShuffle = 79,
    OpCompositeConstruct = 80,
    OpCompositeExtract = 81,
    OpCompositeInsert = 82,
    OpCopyObject = 83,
    OpConvertFToU = 109,
    OpConvertUToF = 112,
    OpUConvert = 113,
    OpFConvert = 115,
    OpBitcast = 124,
    OpFNegate = 127,
    OpIAdd = 128,
    OpFAdd = 129,
    OpISub = 130,
    OpFSub = 131,
    OpIMul = 132,
    OpFMul = 133,
    OpUDiv = 134,
    OpFDiv = 136,
    OpUMod = 137,
    OpMatrixTimesScalar = 143,
    OpUMulExtended = 151,
    OpAny = 154,
    OpLogicalOr = 166,
    OpLogicalAnd = 167,
    OpLogicalNot = 168,
    OpSelect = 169,
    OpIEqual = 170,
    OpINotEqual = 171,
    OpUGreaterThan = 172,
    OpUGreaterThanEqual = 174,
    OpULessThan = 176,
    OpFOrdGreaterThanEqual = 190,
    OpFUnordGreaterThanEqual = 191,
    OpShiftRightLogical = 194,
    OpShiftLeftLogical = 196,
    OpBitwiseOr = 197,
    OpBitwiseXor = 198,
    OpBitwiseAnd = 199,
    OpBitCount = 205,
    OpControlBarrier = 224,
    OpMemoryBarrier = 225,
    OpAtomicLoad = 227,
    OpAtomicStore = 228,
    OpAtomicXor = 242,
    OpPhi = 245,
    OpLoopMerge = 246,
    OpSelectionMerge = 247,
    OpLabel = 248,
    OpBranch = 249,
    OpBranchConditional = 250,
    OpSwitch = 251,
    OpReturn = 253,
    OpReturnValue = 254,
    OpUnreachable = 255,
    OpModuleProcessed = 330,
    OpTypeCooperativeMatrix = 4456,
    OpCooperativeMatrixLoad = 4457,
    OpCooperativeMatrixStore = 4458,
    OpCooperativeMatrixMulAdd = 4459,
    OpCooperativeMatrixReduce = 5366,
    OpCooperativeMatrixLoadTensor = 5367,
    OpCooperativeMatrixStoreTensor = 5368,
    OpCooperativeMatrixPerElementOp = 5369,
    OpTypeTensorLayout = 5370,
    OpTypeTensorView = 5371,
    OpCreateTensorLayout = 5372,
    OpTensorLayoutSetDimension = 5373,
    OpTensorLayoutSetStride = 5374,
    OpTensorLayoutSlice = 5375,
    OpCreateTensorView = 5377,
    OpTensorViewSetClip = 5382,
};

enum capability {
    CapabilityShader = 1,
    CapabilityFloat16 = 9,
    CapabilityInt64 = 11,
    CapabilityInt16 = 22,
    CapabilityGroupNonUniform = 61,
    CapabilityStorage16 = 4433,
    CapabilityBFloat16Type = 5116,
    CapabilityBFloat16CooperativeMatrix = 5118,
    CapabilityVulkanMemoryModel = 5345,
    CapabilityVulkanMemoryModelDeviceScope = 5346,
    CapabilityPhysicalStorageBufferAddresses = 5347,
    CapabilityReductions = 5430,
    CapabilityConversions = 5431,
    CapabilityPerElement = 5432,
    CapabilityTensorLoads = 5433,
    CapabilityBlockLoads = 5434,
    CapabilityTensorAddressing = 5439,
    CapabilityCooperativeMatrix = 6022,
};

enum {
    StorageInput = 1,
    StorageWorkgroup = 4,
    StoragePrivate = 6,
    StorageFunction = 7,
    StoragePhysical = 5349,

    DecorationBlock = 2,
    DecorationArrayStride = 6,
    DecorationBuiltIn = 11,
    DecorationOffset = 35,

    BuiltInLocalInvocationIndex = 29,
    BuiltInSubgroupSize = 36,
    BuiltInNumSubgroups = 38,
    BuiltInSubgroupId = 40,
    BuiltInSubgroupLocalInvocationId = 41,

    ModelGlsl450 = 1,
    ModelVulkan = 3,

    ScopeWorkgroup = 2,
    ScopeSubgroup = 3,

    ModeLocalSize = 17,
    EncodingBFloat16 = 0, /* operand of OpTypeFloat */

    UseA = 0,
    UseB = 1,
    UseAccumulator = 2,

    RowMajor = 0,
    ColumnMajor = 1,

    ReduceRow = 1,

    LoopUnroll = 1,
    LoopDontUnroll = 2,

    AccessVolatile = 1,
    AccessAligned = 2,
    AccessNontemporal = 4,
    AccessMakeAvailable = 8,
    AccessMakeVisible = 16,
    AccessNonPrivate = 32,

    GlslFma = 50,
    GlslPackHalf2x16 = 58,
    GlslUnpackHalf2x16 = 62,
    GlslUMin = 38,
};

static inline uint32_t spirv_code(const uint32_t *instruction)
{
    return *instruction & 0xffff;
}

static inline uint32_t spirv_size(const uint32_t *instruction)
{
    return *instruction >> 16;
}

#endif
