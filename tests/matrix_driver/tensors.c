/* SPDX-License-Identifier: MIT
 *
 * Loads and stores through layouts of tensors: SPV_NV_tensor_addressing, and what
 * SPV_NV_cooperative_matrix2 says of the element that a place in a matrix stands for.
 *
 *   layout   an array of words: sizes, strides, offsets and spans of its dimensions
 *   view     an array of words: first row and number of rows, first column and number of columns of
 *            the clip; its permutation is part of its type. Views with sizes of their own are
 *            refused.
 *
 * Memory is f16, reached through its address. Of use B everything is loaded once by the workgroup
 * together, and passes through shared memory to all. */
#include "lower.h"

enum { MOST_DIMENSIONS = 5, CLIP = 4 };
enum part { SIZE, STRIDE, OFFSET, SPAN, PARTS };

struct view {
    uint32_t clip[CLIP], order[MOST_DIMENSIONS]; /* ids; dimensions, the outermost first */
};

/* ---- Values ---------------------------------------------------------------------------------- */

static uint32_t dimensions_of(struct lowering *l, uint32_t type)
{
    uint32_t count = constant_value(l, definition(l, type)[2]);
    if (count == 0 || count > MOST_DIMENSIONS)
        lower_fail(l, "%u dimensions", count);
    return count;
}

static void lower_type(struct lowering *l)
{
    bool view = spirv_code(l->at) == OpTypeTensorView;
    uint32_t words = view ? CLIP : PARTS * dimensions_of(l, l->at[1]);
    if (view && spirv_code(definition(l, l->at[3])) != OpConstantFalse)
        lower_fail(l, "a view with sizes of its own");
    if (!view && constant_value(l, l->at[3]) != 1)
        lower_fail(l, "a layout that is not clamped to a constant");
    EMIT(&l->types, OpTypeArray, l->at[1], l->c.t_uint, uint_constant(l, words));
}

/* A value of the type of this instruction from words; the last has the instruction's own id. */
static void construct(struct lowering *l, const uint32_t *words, uint32_t count)
{
    struct words all = {0};
    words_add(&all, l->at + 1, 2);
    words_add(&all, words, count);
    words_instruction(&l->body, OpCompositeConstruct, all.at, all.count);
    words_free(&all);
}

static void read_layout(struct lowering *l, uint32_t layout, uint32_t dimensions, uint32_t *words)
{
    for (uint32_t i = 0; i < PARTS * dimensions; i++)
        words[i] = extract(l, l->c.t_uint, layout, i);
}

static void lower_layout(struct lowering *l)
{
    uint32_t d = dimensions_of(l, l->at[1]), words[PARTS * MOST_DIMENSIONS];
    uint32_t opcode = spirv_code(l->at), zero = uint_constant(l, 0);
    for (uint32_t i = 0; opcode == OpCreateTensorLayout && i < PARTS * d; i++)
        words[i] = zero;
    if (opcode != OpCreateTensorLayout)
        read_layout(l, l->at[3], d, words);
    for (uint32_t i = d; i-- > 0;)
        switch (opcode) {
        case OpTensorLayoutSetDimension:
            words[SIZE * d + i] = words[SPAN * d + i] = l->at[4 + i];
            words[OFFSET * d + i] = zero;
            words[STRIDE * d + i] =
                i + 1 == d ? uint_constant(l, 1)
                           : uint_op(l, OpIMul, words[STRIDE * d + i + 1], words[SIZE * d + i + 1]);
            break;
        case OpTensorLayoutSetStride:
            words[STRIDE * d + i] = l->at[4 + i];
            if (i + 1 < d) {
                uint32_t least =
                    uint_op(l, OpIMul, words[STRIDE * d + i + 1], words[SIZE * d + i + 1]);
                fault_if(l, binary(l, OpULessThan, l->c.t_bool, l->at[4 + i], least),
                         new_check(l, "stride %u is less than what lies within it", i));
            }
            break;
        case OpTensorLayoutSlice:
            words[OFFSET * d + i] = uint_op(l, OpIAdd, words[OFFSET * d + i], l->at[4 + 2 * i]);
            words[SPAN * d + i] = l->at[5 + 2 * i];
            break;
        }
    construct(l, words, PARTS * d);
}

static void lower_view(struct lowering *l)
{
    uint32_t zero = uint_constant(l, 0), all = uint_constant(l, UINT32_MAX);
    if (spirv_code(l->at) == OpCreateTensorView)
        construct(l, (const uint32_t[]){zero, all, zero, all}, CLIP);
    else
        construct(l, l->at + 4, CLIP);
}

/* ---- What an access is ----------------------------------------------------------------------- */

struct access {
    uint32_t pointer, dimensions;
    uint32_t words[PARTS * MOST_DIMENSIONS]; /* ids of the layout's */
    bool clips;
    struct view view;
    uint32_t memory, p_element; /* pointer to an array of u16, and type of one to an element */
};

static uint32_t access_words(struct lowering *l, uint32_t mask)
{
    if (mask & ~0x3fu)
        lower_fail(l, "memory operands %u", mask);
    return !!(mask & AccessAligned) + !!(mask & AccessMakeAvailable) + !!(mask & AccessMakeVisible);
}

/* The view, if there is one, behind the memory operands, which begin at `word`. */
static void read_view(struct lowering *l, uint32_t word, struct access *out)
{
    uint32_t size = spirv_size(l->at);
    word += 1 + access_words(l, l->at[word]);
    uint32_t mask = word < size ? l->at[word] : 0;
    if (mask > 1)
        lower_fail(l, "a function that decodes");
    out->clips = mask == 1;
    for (uint32_t i = 0; i < out->dimensions; i++)
        out->view.order[i] = i;
    if (!out->clips)
        return;
    const uint32_t *type = definition(l, type_of(l, l->at[word + 1]));
    if (constant_value(l, type[2]) != out->dimensions)
        lower_fail(l, "a view and a layout of different dimensions");
    for (uint32_t i = 0; i < out->dimensions; i++)
        out->view.order[i] = constant_value(l, type[4 + i]);
    for (uint32_t i = 0; i < CLIP; i++)
        out->view.clip[i] = extract(l, l->c.t_uint, l->at[word + 1], i);
}

/* The memory that a pointer leads to, as an array of u16. */
static void reach_memory(struct lowering *l, struct access *access)
{
    uint32_t storage = definition(l, type_of(l, access->pointer))[2];
    if (storage != StoragePhysical)
        lower_fail(l, "a tensor that is not reached by an address");
    if (!l->p_u16_array) {
        uint32_t array = new_id(l), block = new_id(l);
        EMIT(&l->types, OpTypeRuntimeArray, array, l->c.t_u16);
        EMIT(&l->types, OpTypeStruct, block, array);
        EMIT(&l->notes, OpDecorate, array, DecorationArrayStride, 2);
        EMIT(&l->notes, OpDecorate, block, DecorationBlock);
        EMIT(&l->notes, OpMemberDecorate, block, 0, DecorationOffset, 0);
        EMIT(&l->capabilities, OpCapability, CapabilityStorage16);
        l->p_u16_array = pointer_type(l, StoragePhysical, block);
    }
    uint32_t address = unary(l, OpBitcast, l->c.t_uint2, access->pointer),
             zero = uint_constant(l, 0);
    uint32_t low = extract(l, l->c.t_uint, address, 0);
    uint32_t off = uint_op(l, OpBitwiseAnd, low, uint_constant(l, 15));
    fault_if(l, binary(l, OpINotEqual, l->c.t_bool, off, zero),
             new_check(l, "a pointer that is not a multiple of 16 bytes"));
    access->memory = unary(l, OpBitcast, l->p_u16_array, address);
    access->p_element = pointer_type(l, StoragePhysical, l->c.t_u16);
    leave_trail(l, uint_constant(l, (uint32_t)(l->at - l->request->code)));
    leave_trail(l, low);
}

/* Elements are counted in 31 bits. */
static void check_layout(struct lowering *l, const struct access *access)
{
    uint32_t d = access->dimensions, all = float_constant(l, 0), zero = uint_constant(l, 0);
    uint32_t empty = new_check(l, "a span of 0");
    for (uint32_t i = 0; i < d; i++) {
        uint32_t last = uint_op_by(l, OpISub, access->words[SIZE * d + i], 1);
        uint32_t x = unary(l, OpConvertUToF, l->c.t_float, last);
        uint32_t y = unary(l, OpConvertUToF, l->c.t_float, access->words[STRIDE * d + i]);
        all = binary(l, OpFAdd, l->c.t_float, all, binary(l, OpFMul, l->c.t_float, x, y));
        leave_trail(l, access->words[STRIDE * d + i]);
        leave_trail(l, access->words[SPAN * d + i]);
        fault_if(l, binary(l, OpIEqual, l->c.t_bool, access->words[SPAN * d + i], zero), empty);
    }
    fault_if(l,
             binary(l, OpFOrdGreaterThanEqual, l->c.t_bool, all, float_constant(l, 2147483648.0f)),
             new_check(l, "a layout that reaches beyond 2^31 elements"));
}

static struct access access_of(struct lowering *l, const struct matrix *m, uint32_t pointer,
                               uint32_t layout, uint32_t word)
{
    struct access access = {.pointer = pointer};
    access.dimensions = dimensions_of(l, type_of(l, layout));
    if (m->component != COMPONENT_F16)
        lower_fail(l, "tensors are of f16 here");
    read_layout(l, layout, access.dimensions, access.words);
    read_view(l, word, &access);
    reach_memory(l, &access);
    check_layout(l, &access);
    return access;
}

/* ---- From places in the matrix to elements in memory ----------------------------------------- */

struct element {
    uint32_t index;         /* in memory; 0 where it is not there           */
    uint32_t clipped, real; /* ids of bools: not touched; within the layout */
};

static uint32_t both(struct lowering *l, uint32_t x, uint32_t y)
{
    return binary(l, OpLogicalAnd, l->c.t_bool, x, y);
}

/* first <= x < first + count, as differences that wrap do not reach count. */
static uint32_t within(struct lowering *l, uint32_t x, uint32_t first, uint32_t count,
                       uint32_t *from)
{
    *from = uint_op(l, OpISub, x, first);
    return binary(l, OpULessThan, l->c.t_bool, *from, count);
}

static struct element element_at(struct lowering *l, const struct access *access,
                                 const struct matrix *m, uint32_t row, uint32_t column)
{
    uint32_t d = access->dimensions, coordinate[MOST_DIMENSIONS], yes = new_id(l);
    uint32_t width = uint_constant(l, m->columns), zero = uint_constant(l, 0);
    struct element out = {.index = zero};
    EMIT(&l->body, OpIEqual, l->c.t_bool, yes, zero, zero);
    out.clipped = unary(l, OpLogicalNot, l->c.t_bool, yes);
    if (access->clips) {
        const uint32_t *clip = access->view.clip;
        uint32_t rows = within(l, row, clip[0], clip[1], &row);
        uint32_t columns = within(l, column, clip[2], clip[3], &column);
        out.clipped = unary(l, OpLogicalNot, l->c.t_bool, both(l, rows, columns));
        uint32_t least = new_id(l);
        EMIT(&l->body, OpExtInst, l->c.t_uint, least, l->c.glsl, GlslUMin, width, clip[3]);
        width = least;
    }
    uint32_t index = uint_op(l, OpIAdd, uint_op(l, OpIMul, row, width), column);
    for (uint32_t i = d; i-- > 0;) { /* the last of the order runs fastest */
        uint32_t which = access->view.order[i], span = access->words[SPAN * d + which];
        coordinate[which] = uint_op(l, OpUMod, index, span);
        index = uint_op(l, OpUDiv, index, span);
    }
    out.real = yes;
    for (uint32_t i = 0; i < d; i++) {
        uint32_t c = uint_op(l, OpIAdd, coordinate[i], access->words[OFFSET * d + i]);
        out.real =
            both(l, out.real, binary(l, OpULessThan, l->c.t_bool, c, access->words[SIZE * d + i]));
        out.index =
            uint_op(l, OpIAdd, out.index, uint_op(l, OpIMul, c, access->words[STRIDE * d + i]));
    }
    uint32_t there = both(l, out.real, unary(l, OpLogicalNot, l->c.t_bool, out.clipped));
    out.index = select_value(l, l->c.t_uint, there, out.index, zero);
    return out;
}

static uint32_t memory_element(struct lowering *l, const struct access *access, uint32_t index)
{
    uint32_t id = new_id(l);
    EMIT(&l->body, OpAccessChain, access->p_element, id, access->memory, uint_constant(l, 0),
         index);
    return id;
}

/* What the element becomes: from memory, 0 beyond the layout, as it was where it is clipped. */
static uint32_t loaded(struct lowering *l, const struct access *access, const struct element *e,
                       uint32_t before)
{
    uint32_t bits = new_id(l), zero = float_constant(l, 0);
    EMIT(&l->body, OpLoad, l->c.t_u16, bits, memory_element(l, access, e->index), AccessAligned, 2);
    uint32_t x = unary(l, OpFConvert, l->c.t_float, unary(l, OpBitcast, l->c.t_half, bits));
    x = select_value(l, l->c.t_float, e->real, x, zero);
    return select_value(l, l->c.t_float, e->clipped, before, x);
}

/* ---- Loads and stores ------------------------------------------------------------------------ */

static uint32_t held(struct lowering *l, uint32_t variable, uint32_t index)
{
    return load(l, l->c.t_float, element(l, variable, index));
}

static void load_row(struct lowering *l, const struct access *access, const struct matrix *m,
                     uint32_t before, uint32_t out)
{
    uint32_t row = row_of(l, m);
    for (struct loop i = loop_of(l, m->held, step_for(m, 1)); loop_next(l, &i);) {
        struct element e = element_at(l, access, m, row, i.index);
        store(l, element(l, out, i.index), loaded(l, access, &e, held(l, before, i.index)));
    }
}

/* As many as the largest matrix of use B has elements. */
static uint32_t staging(struct lowering *l)
{
    uint32_t most = 0;
    for (uint32_t id = 1; !l->stage && id < l->read_bound; id++)
        if (l->ids[id].def && is_matrix(l, id)) {
            struct matrix m = matrix_of(l, id);
            most = m.use == UseB && m.held > most ? m.held : most;
        }
    if (!l->stage) {
        uint32_t array = new_id(l);
        EMIT(&l->types, OpTypeArray, array, l->c.t_u16, uint_constant(l, most));
        l->stage = new_global(l, StorageWorkgroup, array);
    }
    return l->stage;
}

static void load_all(struct lowering *l, const struct access *access, const struct matrix *m,
                     uint32_t before, uint32_t out)
{
    uint32_t stage = staging(l), type = pointer_type(l, StorageWorkgroup, l->c.t_u16);
    uint32_t self = load(l, l->c.t_uint, l->c.invocation);
    if (m->scope != ScopeWorkgroup || m->held % l->threads != 0)
        lower_fail(l, "a load of use B that the workgroup cannot share");
    workgroup_barrier(l);
    for (struct loop i = loop_of(l, m->held / l->threads, 1); loop_next(l, &i);) {
        uint32_t place = uint_op(l, OpIAdd, uint_op_by(l, OpIMul, i.index, l->threads), self);
        uint32_t row = uint_op_by(l, OpUDiv, place, m->columns);
        uint32_t column = uint_op(l, OpUMod, place, uint_constant(l, m->columns));
        struct element e = element_at(l, access, m, row, column);
        uint32_t x = loaded(l, access, &e, held(l, before, place));
        uint32_t bits = unary(l, OpBitcast, l->c.t_u16, unary(l, OpFConvert, l->c.t_half, x));
        store(l, binary(l, OpAccessChain, type, stage, place), bits);
    }
    workgroup_barrier(l);
    for (struct loop i = loop_of(l, m->held, 32); loop_next(l, &i);) {
        uint32_t place = binary(l, OpAccessChain, type, stage, i.index);
        uint32_t bits = load(l, l->c.t_u16, place);
        store(l, element(l, out, i.index),
              unary(l, OpFConvert, l->c.t_float, unary(l, OpBitcast, l->c.t_half, bits)));
    }
}

static void lower_load(struct lowering *l)
{
    struct matrix m = matrix_of(l, l->at[1]);
    struct access access = access_of(l, &m, l->at[3], l->at[5], 6);
    uint32_t before = matrix_value(l, l->at[4]), out = matrix_result(l, l->at[1], l->at[2]);
    if (m.use == UseB)
        load_all(l, &access, &m, before, out);
    else
        load_row(l, &access, &m, before, out);
}

/* Those that hold the same row take turns at its columns. */
static void lower_store(struct lowering *l)
{
    struct matrix m = matrix_of(l, type_of(l, l->at[2]));
    struct access access = access_of(l, &m, l->at[1], l->at[3], 4);
    uint32_t from = matrix_value(l, l->at[2]), replicas, row = row_of(l, &m);
    uint32_t replica = replica_of(l, &m, &replicas);
    if (m.use == UseB)
        lower_fail(l, "the lowering does not store matrices of use B");
    for (struct loop i = loop_of(l, m.held / replicas, 1); loop_next(l, &i);) {
        uint32_t column = uint_op(l, OpIAdd, uint_op_by(l, OpIMul, i.index, replicas), replica);
        struct element e = element_at(l, &access, &m, row, column);
        uint32_t x = unary(l, OpFConvert, l->c.t_half, held(l, from, column));
        uint32_t there = both(l, e.real, unary(l, OpLogicalNot, l->c.t_bool, e.clipped));
        struct branch branch = branch_if(l, there);
        EMIT(&l->body, OpStore, memory_element(l, &access, e.index),
             unary(l, OpBitcast, l->c.t_u16, x), AccessAligned, 2);
        branch_end(l, branch);
    }
}

bool lower_tensor(struct lowering *l)
{
    switch (spirv_code(l->at)) {
    case OpTypeTensorLayout:
    case OpTypeTensorView:
        lower_type(l);
        return true;
    case OpCreateTensorLayout:
    case OpTensorLayoutSetDimension:
    case OpTensorLayoutSetStride:
    case OpTensorLayoutSlice:
        lower_layout(l);
        return true;
    case OpCreateTensorView:
    case OpTensorViewSetClip:
        lower_view(l);
        return true;
    case OpCooperativeMatrixLoadTensor:
        lower_load(l);
        return true;
    case OpCooperativeMatrixStoreTensor:
        lower_store(l);
        return true;
    default:
        return false;
    }
}
