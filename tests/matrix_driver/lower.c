/* SPDX-License-Identifier: MIT */
#include "lower.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- Reading --------------------------------------------------------------------------------- */

bool lower_wanted(const uint32_t *code, size_t count)
{
    if (count < SPIRV_HEADER || code[0] != SPIRV_MAGIC)
        return false;
    for (size_t i = SPIRV_HEADER; i + 1 < count && spirv_code(code + i) == OpCapability;
         i += spirv_size(code + i))
        switch (code[i + 1]) {
        case CapabilityCooperativeMatrix:
        case CapabilityBFloat16Type:
        case CapabilityBFloat16CooperativeMatrix:
            return true;
        }
    return false;
}

const uint32_t *definition(struct lowering *l, uint32_t id)
{
    if (id >= l->read_bound || !l->ids[id].def)
        lower_fail(l, "id %u has no definition", id);
    return l->ids[id].def;
}

uint32_t constant_value(struct lowering *l, uint32_t id)
{
    const uint32_t *def = definition(l, id);
    if (spirv_code(def) == OpConstantNull)
        return 0;
    if (spirv_code(def) != OpConstant)
        lower_fail(l, "%%%u is not a constant", id);
    return def[3];
}

uint32_t type_of(struct lowering *l, uint32_t id)
{
    return id < l->read_bound ? l->ids[id].type : 0;
}

static void note_decoration(struct lowering *l, const uint32_t *at)
{
    if (spirv_size(at) == 4 && at[2] == DecorationBuiltIn && at[1] < l->read_bound)
        l->ids[at[1]].builtin = at[3] + 1;
}

/* Definitions and types of all ids. */
static void read_ids(struct lowering *l)
{
    const uint32_t *code = l->request->code;
    for (size_t i = SPIRV_HEADER; i < l->request->count; i += spirv_size(code + i)) {
        l->at = code + i;
        uint32_t size = spirv_size(code + i), id = 0;
        if (size == 0 || i + size > l->request->count)
            lower_fail(l, "the module ends within an instruction");
        enum form form = table_form(spirv_code(l->at));
        if (form == FORM_UNKNOWN)
            lower_fail(l, "this instruction is not among those that the lowering knows");
        if (form == FORM_RESULT)
            id = l->at[1];
        if (form == FORM_TYPED)
            id = l->at[2];
        if (id >= l->read_bound)
            lower_fail(l, "id %u is beyond the bound", id);
        if (id)
            l->ids[id].def = l->at;
        if (form == FORM_TYPED)
            l->ids[id].type = l->at[1];
        if (spirv_code(l->at) == OpDecorate)
            note_decoration(l, l->at);
    }
    l->at = NULL;
}

/* ---- The head of the module ------------------------------------------------------------------ */

/* The module's own id of a type that must not be declared twice, or a new one. */
static uint32_t type_with(struct lowering *l, uint32_t opcode, uint32_t a, uint32_t b,
                          uint32_t size)
{
    for (uint32_t id = 1; id < l->read_bound; id++) {
        const uint32_t *def = l->ids[id].def;
        if (def && spirv_code(def) == opcode && spirv_size(def) == size &&
            (size < 3 || def[2] == a) && (size < 4 || def[3] == b))
            return id;
    }
    return new_id(l);
}

/* Its id is what integers of 16 bits get, of which there must be no other then. */
static uint32_t find_bf16(struct lowering *l)
{
    uint32_t found = 0;
    for (uint32_t id = 1; id < l->read_bound; id++) {
        const uint32_t *def = l->ids[id].def;
        if (def && spirv_code(def) == OpTypeFloat && spirv_size(def) == 4 && def[2] == 16 &&
            def[3] == EncodingBFloat16)
            found = id;
        if (def && found && spirv_code(def) == OpTypeInt && def[2] == 16)
            lower_fail(l, "integers of 16 bits besides bf16");
    }
    return found;
}

static void declare_scalars(struct lowering *l)
{
    struct common *c = &l->c;
    struct words *out = &l->types;
    c->t_void = type_with(l, OpTypeVoid, 0, 0, 2);
    c->t_bool = type_with(l, OpTypeBool, 0, 0, 2);
    c->t_uint = type_with(l, OpTypeInt, 32, 0, 4);
    c->t_int = type_with(l, OpTypeInt, 32, 1, 4);
    c->t_bf16 = find_bf16(l);
    c->t_u16 = c->t_bf16 ? c->t_bf16 : type_with(l, OpTypeInt, 16, 0, 4);
    c->t_float = type_with(l, OpTypeFloat, 32, 0, 3);
    c->t_half = type_with(l, OpTypeFloat, 16, 0, 3);
    c->t_uint2 = type_with(l, OpTypeVector, c->t_uint, 2, 4);
    c->t_float2 = type_with(l, OpTypeVector, c->t_float, 2, 4);
    EMIT(out, OpTypeVoid, c->t_void);
    EMIT(out, OpTypeBool, c->t_bool);
    EMIT(out, OpTypeInt, c->t_uint, 32, 0);
    EMIT(out, OpTypeInt, c->t_int, 32, 1);
    EMIT(out, OpTypeInt, c->t_u16, 16, 0);
    EMIT(out, OpTypeFloat, c->t_float, 32);
    EMIT(out, OpTypeFloat, c->t_half, 16);
    EMIT(out, OpTypeVector, c->t_uint2, c->t_uint, 2);
    EMIT(out, OpTypeVector, c->t_float2, c->t_float, 2);
}

static bool is_declared(const struct common *c, uint32_t id)
{
    return id == c->t_void || id == c->t_bool || id == c->t_uint || id == c->t_int ||
           id == c->t_u16 || id == c->t_float || id == c->t_half || id == c->t_uint2 ||
           id == c->t_float2;
}

/* The table of faults: a struct of words without end, at a fixed address. */
static void declare_faults(struct lowering *l)
{
    struct common *c = &l->c;
    uint32_t words = new_id(l), table = new_id(l);
    EMIT(&l->types, OpTypeRuntimeArray, words, c->t_uint);
    EMIT(&l->types, OpTypeStruct, table, words);
    EMIT(&l->notes, OpDecorate, words, DecorationArrayStride, 4);
    EMIT(&l->notes, OpDecorate, table, DecorationBlock);
    EMIT(&l->notes, OpMemberDecorate, table, 0, DecorationOffset, 0);
    c->p_faults = pointer_type(l, StoragePhysical, table);
    c->p_fault = pointer_type(l, StoragePhysical, c->t_uint);
    uint32_t low = uint_constant(l, (uint32_t)l->request->faults);
    uint32_t high = uint_constant(l, (uint32_t)(l->request->faults >> 32));
    c->faults = new_id(l);
    EMIT(&l->types, OpConstantComposite, c->t_uint2, c->faults, low, high);
}

/* Before the first type: everything that lowered code refers to. */
static void declare_common(struct lowering *l)
{
    struct common *c = &l->c;
    if (!l->entry || !l->threads)
        lower_fail(l, "the module has no entry point of compute, or no LocalSize");
    if (!c->glsl) {
        c->glsl = new_id(l);
        static const uint32_t name[] = {0x4c534c47, 0x6474732e, 0x3035342e, 0}; /* GLSL.std.450 */
        EMIT(&l->imports, OpExtInstImport, c->glsl, name[0], name[1], name[2], name[3]);
    }
    declare_scalars(l);
    c->p_function = pointer_type(l, StorageFunction, c->t_float);
    c->p_private = pointer_type(l, StoragePrivate, c->t_uint);
    c->p_workgroup = pointer_type(l, StorageWorkgroup, c->t_uint);
    c->p_input = pointer_type(l, StorageInput, c->t_uint);
    declare_faults(l);
    flow_globals(l);
}

static void copy(struct lowering *l, struct words *out)
{
    words_add(out, l->at, spirv_size(l->at));
}

static void lower_capability(struct lowering *l)
{
    uint32_t capability = l->at[1];
    switch (capability) {
    case CapabilityVulkanMemoryModel:
    case CapabilityVulkanMemoryModelDeviceScope:
    case CapabilityGroupNonUniform: /* what needs it besides the built-ins is refused */
    case CapabilityCooperativeMatrix:
    case CapabilityBFloat16Type:
    case CapabilityBFloat16CooperativeMatrix:
        return;
    case CapabilityTensorLoads:
    case CapabilityBlockLoads:
    case CapabilityTensorAddressing:
        if (!l->request->model->nv)
            lower_fail(l, "capability %u is not the device's", capability);
        return;
    case CapabilityReductions:
    case CapabilityConversions:
    case CapabilityPerElement:
    case 5429: /* conversions, by the name of EXT */
        if (!l->request->model->nv && !l->request->model->ext)
            lower_fail(l, "capability %u is not the device's", capability);
        return;
    }
    if (!table_capability(capability))
        lower_fail(l, "the lowering does not know capability %u", capability);
    if (capability != CapabilityInt16 && capability != CapabilityFloat16) /* always declared */
        copy(l, &l->capabilities);
}

/* Extensions of SPIR-V that the lowering takes away; all else that is wanted is the driver's. */
static void lower_extension(struct lowering *l)
{
    static const char *const ours[] = {"SPV_KHR_cooperative_matrix", "SPV_NV_cooperative_matrix2",
                                       "SPV_EXT_cooperative_matrix_maintenance1",
                                       "SPV_NV_tensor_addressing", "SPV_KHR_bfloat16"};
    const char *name = (const char *)(l->at + 1);
    for (unsigned i = 0; i < sizeof ours / sizeof *ours; i++)
        if (strcmp(name, ours[i]) == 0) {
            if ((i == 1 || i == 3 ? !l->request->model->nv : i == 2 && !l->request->model->ext))
                lower_fail(l, "%s is not the device's", name);
            return;
        }
    copy(l, &l->extensions);
}

/* In the Vulkan memory model Mesa 22.3 lets another part of the workgroup run at each access to
 * shared memory: that hides barriers that are missing, and where subgroups go different ways, it
 * makes them run barriers out of turn. In that of GLSL450 the barriers alone do. */
static void lower_memory_model(struct lowering *l)
{
    if (l->at[2] != ModelVulkan)
        lower_fail(l, "memory model %u", l->at[2]);
    EMIT(&l->memory, OpMemoryModel, l->at[1], ModelGlsl450);
}

static void read_entry_point(struct lowering *l)
{
    if (l->entry)
        lower_fail(l, "the module has several entry points");
    l->entry = l->at[2];
    uint32_t size = spirv_size(l->at), word = 3;
    while (word < size && l->at[word] >> 24 != 0)
        word++;
    words_add(&l->entry_point, l->at + 1, word);
    words_add(&l->interface, l->at + word + 1, size - word - 1);
}

static void read_mode(struct lowering *l)
{
    if (l->at[2] == ModeLocalSize)
        l->threads = l->at[3] * l->at[4] * l->at[5];
    if (l->at[2] != ModeLocalSize)
        lower_fail(l, "the lowering does not know execution mode %u", l->at[2]);
    copy(l, &l->modes);
}

static void lower_decoration(struct lowering *l)
{
    uint32_t builtin = l->at[1] < l->read_bound ? l->ids[l->at[1]].builtin : 0;
    bool ours = spirv_code(l->at) == OpDecorate && l->at[2] == DecorationBuiltIn &&
                builtin >= BuiltInSubgroupSize + 1 &&
                builtin <= BuiltInSubgroupLocalInvocationId + 1;
    if (!ours)
        copy(l, &l->notes);
}

/* ---- Instructions ---------------------------------------------------------------------------- */

static bool lower_head(struct lowering *l)
{
    switch (spirv_code(l->at)) {
    case OpCapability:
        lower_capability(l);
        return true;
    case OpExtension:
        lower_extension(l);
        return true;
    case OpExtInstImport:
        if (strcmp((const char *)(l->at + 2), "GLSL.std.450") == 0)
            l->c.glsl = l->at[1];
        copy(l, &l->imports);
        return true;
    case OpMemoryModel:
        lower_memory_model(l);
        return true;
    case OpEntryPoint:
        read_entry_point(l);
        return true;
    case OpExecutionMode:
        read_mode(l);
        return true;
    case OpSource:
    case OpSourceExtension:
    case OpName:
    case OpMemberName:
    case OpString:
    case OpModuleProcessed:
        return true; /* not needed */
    case OpDecorate:
    case OpMemberDecorate:
        lower_decoration(l);
        return true;
    default:
        return false;
    }
}

/* Types, constants and variables of the module. */
static void lower_declaration(struct lowering *l)
{
    uint32_t opcode = spirv_code(l->at);
    if (!l->seen_types)
        declare_common(l);
    l->seen_types = true;
    if (table_form(opcode) == FORM_RESULT && is_declared(&l->c, l->at[1]))
        return;
    if (opcode == OpTypeFloat && spirv_size(l->at) > 3)
        lower_fail(l, "the lowering does not know this type of floats");
    copy(l, &l->types);
}

/* A function's blocks: what branches came from may have been split by what was put in. */
static void patch_phis(struct lowering *l)
{
    struct words *body = &l->body;
    for (size_t i = 0; i < body->count; i += spirv_size(body->at + i)) {
        uint32_t *at = body->at + i;
        bool theirs = spirv_code(at) == OpPhi && at[2] < l->read_bound;
        for (uint32_t w = 4; theirs && w < spirv_size(at); w += 2)
            if (at[w] < l->read_bound && l->ids[at[w]].block)
                at[w] = l->ids[at[w]].block;
    }
}

static void end_function(struct lowering *l)
{
    patch_phis(l);
    words_join(&l->functions, &l->start);
    words_join(&l->functions, &l->variables);
    words_join(&l->functions, &l->body);
    l->start.count = l->variables.count = l->body.count = 0;
    copy(l, &l->functions);
    l->function = NULL;
}

/* A matrix that an instruction takes as if it were a number. */
static void refuse_matrices(struct lowering *l)
{
    uint32_t opcode = spirv_code(l->at), form = table_form(opcode);
    uint32_t first = form == FORM_TYPED ? 3 : form == FORM_RESULT ? 2 : 1;
    for (uint32_t i = 0; i < table_values(opcode) && first + i < spirv_size(l->at); i++) {
        uint32_t type = type_of(l, l->at[first + i]);
        if (type && is_matrix(l, type))
            lower_fail(l, "the lowering does not know this instruction on matrices");
    }
    if (form == FORM_TYPED && is_matrix(l, l->at[1]) && opcode != OpVariable)
        lower_fail(l, "the lowering does not know this instruction with a matrix as its result");
}

/* Loops around operations on matrices are not unrolled: each is long already. */
static void lower_loop(struct lowering *l)
{
    const uint32_t *end = l->request->code + l->request->count;
    uint32_t control = l->at[3];
    for (const uint32_t *at = l->at; at < end; at += spirv_size(at)) {
        if (spirv_code(at) == OpLabel && at[1] == l->at[1])
            break;
        if (spirv_code(at) >= OpTypeCooperativeMatrix)
            control = LoopDontUnroll;
    }
    if (l->ids[l->label].block != l->label)
        lower_fail(l, "a loop begins in a block that has been split");
    EMIT(&l->body, OpLoopMerge, l->at[1], l->at[2], control);
}

static void lower_body(struct lowering *l)
{
    uint32_t opcode = spirv_code(l->at);
    if (lower_flow(l) || lower_bf16(l) || lower_matrix(l) || lower_memory(l) || lower_element(l) ||
        lower_tensor(l))
        return;
    refuse_matrices(l);
    if (opcode == OpLoopMerge)
        lower_loop(l);
    else
        copy(l, &l->body);
}

static void lower_in_function(struct lowering *l)
{
    switch (spirv_code(l->at)) {
    case OpFunctionEnd:
        end_function(l);
        return;
    case OpFunctionParameter:
        copy(l, &l->start);
        return;
    case OpVariable:
        copy(l, &l->variables);
        return;
    case OpLabel:
        l->first_block = l->label == 0;
        l->label = l->at[1];
        l->ids[l->label].block = l->label;
        copy(l, l->first_block ? &l->start : &l->body);
        if (l->first_block && l->function[2] == l->entry)
            flow_start(l);
        return;
    default:
        lower_body(l);
    }
}

static void lower_one(struct lowering *l)
{
    if (l->function) {
        lower_in_function(l);
    } else if (spirv_code(l->at) == OpFunction) {
        l->function = l->at;
        l->label = 0;
        copy(l, &l->start);
    } else if (!lower_head(l) && !lower_flow(l) && !lower_bf16(l) && !lower_matrix(l) &&
               !lower_tensor(l)) {
        lower_declaration(l);
    }
}

/* ---- All ------------------------------------------------------------------------------------- */

static void assemble(struct lowering *l, struct words *out)
{
    const uint32_t *code = l->request->code;
    words_add(out, (const uint32_t[]){SPIRV_MAGIC, code[1], 0, l->bound, 0}, SPIRV_HEADER);
    EMIT(out, OpCapability, CapabilityInt16);
    EMIT(out, OpCapability, CapabilityFloat16);
    words_join(out, &l->capabilities);
    words_join(out, &l->extensions);
    words_join(out, &l->imports);
    words_join(out, &l->memory);
    words_join(&l->entry_point, &l->interface);
    words_instruction(out, OpEntryPoint, l->entry_point.at, l->entry_point.count);
    words_join(out, &l->modes);
    words_join(out, &l->notes);
    words_join(out, &l->types);
    words_join(out, &l->functions);
}

static void release(struct lowering *l)
{
    struct words *all[] = {&l->capabilities, &l->extensions, &l->imports, &l->memory,
                           &l->entry_point,  &l->interface,  &l->modes,   &l->notes,
                           &l->types,        &l->functions,  &l->start,   &l->variables,
                           &l->body};
    for (unsigned i = 0; i < sizeof all / sizeof *all; i++)
        words_free(all[i]);
    free(l->ids);
    free(l);
}

static void lower_all(struct lowering *l, struct words *out)
{
    const uint32_t *code = l->request->code;
    if (l->request->count < SPIRV_HEADER || code[0] != SPIRV_MAGIC || code[1] < SPIRV_1_4)
        lower_fail(l, "the module is not SPIR-V 1.4 or later");
    read_ids(l);
    for (size_t i = SPIRV_HEADER; i < l->request->count; i += spirv_size(code + i)) {
        l->at = code + i;
        lower_one(l);
    }
    l->at = NULL;
    assemble(l, out);
}

bool lower_module(const struct lower_request *request, struct words *out, char *error, size_t size)
{
    struct lowering *l = calloc(1, sizeof *l);
    if (!l)
        return false;
    *out = (struct words){0};
    l->request = request;
    l->error = error;
    l->error_size = size;
    l->read_bound = l->bound = request->count > 3 ? request->code[3] : 1;
    l->ids = calloc(l->read_bound, sizeof *l->ids);
    volatile bool done = false; /* set after setjmp() */
    if (l->ids && setjmp(l->stop) == 0) {
        lower_all(l, out);
        done = true;
    }
    if (!done)
        words_free(out);
    release(l);
    return done;
}
