/* SPDX-License-Identifier: MIT
 *
 * OpCooperativeMatrixLoadKHR and OpCooperativeMatrixStoreKHR. Memory is an array of units, numbers
 * or vectors of them; a line, which is a row or by columns a column, is some units one after the
 * other, and `stride` units from the next line.
 *
 * Checked as it runs: that lines begin at multiples of 16 bytes, or of their own length where that
 * is less; and that all lines are within the array, where its length is known. */
#include "lower.h"

struct memory {
    const uint32_t *chain;           /* the access chain that the pointer comes from       */
    uint32_t storage, pointer, unit; /* types: of a pointer to a unit, of a unit */
    uint32_t scalar, width;          /* type of its numbers, and how many        */
    uint32_t bytes, per_unit;        /* of a unit; elements of the matrix in one */
    uint32_t first, stride;          /* ids: place of the first unit, and units between lines */
    uint32_t length;                 /* units in the array; 0: not known         */
    struct words access;             /* memory operands                          */
    bool by_columns;
};

/* ---- Memory operands ------------------------------------------------------------------------- */

/* Without what only the Vulkan memory model has: see lower_memory_model(). */
void plain_access(struct lowering *l, uint32_t word, struct words *out)
{
    uint32_t size = spirv_size(l->at), mask = word < size ? l->at[word] : 0;
    uint32_t kept = mask & (AccessVolatile | AccessAligned | AccessNontemporal);
    if (mask & ~(kept | AccessMakeAvailable | AccessMakeVisible | AccessNonPrivate))
        lower_fail(l, "memory operands %u", mask);
    if (kept)
        words_add(out, &kept, 1);
    if (mask & AccessAligned)
        words_add(out, l->at + word + 1, 1);
}

/* ---- What is accessed ------------------------------------------------------------------------ */

static uint32_t scalar_bytes(struct lowering *l, uint32_t type)
{
    const uint32_t *def = definition(l, type);
    if (spirv_code(def) != OpTypeInt && spirv_code(def) != OpTypeFloat)
        lower_fail(l, "memory of neither numbers nor vectors of them");
    return def[2] / 8;
}

/* Of an array that is a variable of its own. */
static uint32_t array_length(struct lowering *l, const uint32_t *chain)
{
    const uint32_t *variable = definition(l, chain[3]);
    if (spirv_code(variable) != OpVariable || spirv_size(chain) != 5)
        return 0;
    const uint32_t *array = definition(l, definition(l, variable[1])[3]);
    return spirv_code(array) == OpTypeArray ? constant_value(l, array[3]) : 0;
}

static struct memory memory_of(struct lowering *l, const struct matrix *m, uint32_t pointer,
                               uint32_t layout, uint32_t stride)
{
    struct memory mem = {.chain = definition(l, pointer)};
    if (spirv_code(mem.chain) != OpAccessChain && spirv_code(mem.chain) != OpInBoundsAccessChain)
        lower_fail(l, "a pointer that is not into an array");
    mem.pointer = mem.chain[1];
    const uint32_t *pointer_def = definition(l, mem.pointer);
    mem.storage = pointer_def[2];
    mem.unit = mem.scalar = pointer_def[3];
    mem.width = 1;
    const uint32_t *unit = definition(l, mem.unit);
    if (spirv_code(unit) == OpTypeVector) {
        mem.scalar = unit[2];
        mem.width = unit[3];
    }
    mem.bytes = mem.width * scalar_bytes(l, mem.scalar);
    mem.per_unit = mem.bytes / (m->component == COMPONENT_F32 ? 4 : 2);
    mem.first = mem.chain[spirv_size(mem.chain) - 1];
    mem.stride = stride;
    mem.length = array_length(l, mem.chain);
    uint32_t order = constant_value(l, layout);
    if (order != RowMajor && order != ColumnMajor)
        lower_fail(l, "memory layout %u", order);
    mem.by_columns = order == ColumnMajor;
    uint32_t line = mem.by_columns ? m->rows : m->columns;
    if (mem.per_unit == 0 || line % mem.per_unit != 0)
        lower_fail(l, "lines that are not whole units of memory");
    return mem;
}

static uint32_t signless(struct lowering *l, uint32_t x)
{
    return type_of(l, x) == l->c.t_uint || type_of(l, x) == 0 ? x
                                                              : unary(l, OpBitcast, l->c.t_uint, x);
}

/* The pointer to unit first + offset. */
static uint32_t unit_at(struct lowering *l, const struct memory *mem, uint32_t offset)
{
    struct words chain = {0};
    uint32_t id = new_id(l);
    uint32_t place = binary(l, OpIAdd, l->c.t_uint, mem->first, offset);
    words_add(&chain, (const uint32_t[]){mem->pointer, id}, 2);
    words_add(&chain, mem->chain + 3, spirv_size(mem->chain) - 4);
    words_add(&chain, &place, 1);
    words_instruction(&l->body, OpAccessChain, chain.at, chain.count);
    words_free(&chain);
    return id;
}

static uint32_t load_unit(struct lowering *l, const struct memory *mem, uint32_t offset)
{
    struct words load = {0};
    uint32_t id = new_id(l), at = unit_at(l, mem, offset);
    words_add(&load, (const uint32_t[]){mem->unit, id, at}, 3);
    words_join(&load, &mem->access);
    words_instruction(&l->body, OpLoad, load.at, load.count);
    words_free(&load);
    return id;
}

static void store_unit(struct lowering *l, const struct memory *mem, uint32_t offset,
                       uint32_t value)
{
    struct words store = {0};
    uint32_t at = unit_at(l, mem, offset);
    words_add(&store, (const uint32_t[]){at, value}, 2);
    words_join(&store, &mem->access);
    words_instruction(&l->body, OpStore, store.at, store.count);
    words_free(&store);
}

/* ---- Checks ---------------------------------------------------------------------------------- */

/* For PhysicalStorageBuffer the address itself, else the place in the array, which begins well. */
static void check_alignment(struct lowering *l, const struct memory *mem, uint32_t natural)
{
    uint32_t align = natural < 16 ? natural : 16, zero = uint_constant(l, 0), start;
    if (mem->storage == StoragePhysical)
        start =
            extract(l, l->c.t_uint, unary(l, OpBitcast, l->c.t_uint2, unit_at(l, mem, zero)), 0);
    else
        start = uint_op_by(l, OpIMul, signless(l, mem->first), mem->bytes);
    uint32_t both =
        uint_op(l, OpBitwiseOr, start, uint_op_by(l, OpIMul, signless(l, mem->stride), mem->bytes));
    uint32_t off = uint_op(l, OpBitwiseAnd, both, uint_constant(l, align - 1));
    fault_if(l, binary(l, OpINotEqual, l->c.t_bool, off, zero),
             new_check(l, "a pointer or stride that is not a multiple of %u bytes", align));
}

static void check_access(struct lowering *l, const struct memory *mem, const struct matrix *m,
                         bool stores)
{
    uint32_t lines = mem->by_columns ? m->columns : m->rows;
    uint32_t elements = mem->by_columns ? m->rows : m->columns;
    check_alignment(l, mem, elements * (m->component == COMPONENT_F32 ? 4 : 2));
    uint32_t stride = signless(l, mem->stride), first = signless(l, mem->first);
    if (mem->length) {
        uint32_t last = uint_op_by(l, OpIMul, stride, lines - 1);
        last = uint_op_by(l, OpIAdd, uint_op(l, OpIAdd, first, last), elements / mem->per_unit - 1);
        fault_if(l,
                 binary(l, OpUGreaterThanEqual, l->c.t_bool, last, uint_constant(l, mem->length)),
                 new_check(l, "an access beyond the %u elements of the array", mem->length));
    }
    if (stores)
        fault_if(
            l,
            binary(l, OpULessThan, l->c.t_bool, stride, uint_constant(l, elements / mem->per_unit)),
            new_check(l, "a store with lines that overlap"));
    leave_trail(l, uint_constant(l, (uint32_t)(l->at - l->request->code)));
    leave_trail(l, first);
    leave_trail(l, stride);
}

/* ---- Elements of units ----------------------------------------------------------------------- */

static uint32_t number_of(struct lowering *l, const struct memory *mem, uint32_t unit, uint32_t i)
{
    return mem->width == 1 ? unit : extract(l, mem->scalar, unit, i);
}

/* Element i, a constant, as a float. */
static uint32_t decode(struct lowering *l, const struct memory *mem, enum component component,
                       uint32_t unit, uint32_t i)
{
    if (mem->scalar == l->c.t_float && component == COMPONENT_F32)
        return number_of(l, mem, unit, i);
    if (mem->scalar == l->c.t_half && component == COMPONENT_F16)
        return unary(l, OpFConvert, l->c.t_float, number_of(l, mem, unit, i));
    if (mem->scalar == l->c.t_u16 && component == COMPONENT_BF16)
        return bf16_value(l, number_of(l, mem, unit, i));
    if (mem->scalar != l->c.t_uint)
        lower_fail(l, "memory of another type than the matrix, and not words");
    if (component == COMPONENT_F32)
        return unary(l, OpBitcast, l->c.t_float, number_of(l, mem, unit, i));
    uint32_t word = number_of(l, mem, unit, i / 2);
    if (component == COMPONENT_F16)
        return extract(l, l->c.t_float, glsl(l, l->c.t_float2, GlslUnpackHalf2x16, word), i % 2);
    uint32_t bits = i % 2 ? uint_op(l, OpBitwiseAnd, word, uint_constant(l, 0xffff0000))
                          : uint_op(l, OpShiftLeftLogical, word, uint_constant(l, 16));
    return unary(l, OpBitcast, l->c.t_float, bits);
}

/* A unit of the elements from[0 ...], floats that the component has. */
static uint32_t encode(struct lowering *l, const struct memory *mem, enum component component,
                       const uint32_t *from)
{
    uint32_t parts[4];
    if (component != COMPONENT_F32 || mem->width > 4)
        lower_fail(l, "a store of 16 bits");
    for (uint32_t i = 0; i < mem->width; i++)
        if (mem->scalar == l->c.t_float)
            parts[i] = from[i];
        else if (mem->scalar == l->c.t_uint)
            parts[i] = unary(l, OpBitcast, l->c.t_uint, from[i]);
        else
            lower_fail(l, "memory of another type than the matrix, and not words");
    if (mem->width == 1)
        return parts[0];
    struct words all = {0};
    uint32_t id = new_id(l);
    words_add(&all, (const uint32_t[]){mem->unit, id}, 2);
    words_add(&all, parts, mem->width);
    words_instruction(&l->body, OpCompositeConstruct, all.at, all.count);
    words_free(&all);
    return id;
}

/* ---- Loads ----------------------------------------------------------------------------------- */

static uint32_t offset_of(struct lowering *l, const struct memory *mem, uint32_t line,
                          uint32_t unit)
{
    uint32_t stride = signless(l, mem->stride);
    return uint_op(l, OpIAdd, uint_op(l, OpIMul, line, stride), unit);
}

static void put(struct lowering *l, uint32_t out, uint32_t index, uint32_t value)
{
    store(l, element(l, out, uint_constant(l, index)), value);
}

/* All of it, for use B. */
static void load_all(struct lowering *l, const struct memory *mem, const struct matrix *m,
                     uint32_t out)
{
    uint32_t lines = mem->by_columns ? m->columns : m->rows;
    uint32_t units = (mem->by_columns ? m->rows : m->columns) / mem->per_unit;
    for (uint32_t line = 0; line < lines; line++)
        for (uint32_t u = 0; u < units; u++) {
            uint32_t unit =
                load_unit(l, mem, offset_of(l, mem, uint_constant(l, line), uint_constant(l, u)));
            for (uint32_t i = 0; i < mem->per_unit; i++) {
                uint32_t along = u * mem->per_unit + i;
                uint32_t row = mem->by_columns ? along : line;
                uint32_t column = mem->by_columns ? line : along;
                put(l, out, row * m->columns + column, decode(l, mem, m->component, unit, i));
            }
        }
}

/* The row of this invocation. */
static void load_row(struct lowering *l, const struct memory *mem, const struct matrix *m,
                     uint32_t out)
{
    uint32_t row = row_of(l, m);
    if (mem->by_columns && mem->per_unit != 1)
        lower_fail(l, "the lowering loads rows by columns from single elements only");
    for (uint32_t u = 0; u < m->columns / mem->per_unit; u++) {
        uint32_t u_id = uint_constant(l, u);
        uint32_t offset =
            mem->by_columns ? offset_of(l, mem, u_id, row) : offset_of(l, mem, row, u_id);
        uint32_t unit = load_unit(l, mem, offset);
        for (uint32_t i = 0; i < mem->per_unit; i++)
            put(l, out, u * mem->per_unit + i, decode(l, mem, m->component, unit, i));
    }
}

static void lower_load(struct lowering *l)
{
    struct matrix m = matrix_of(l, l->at[1]);
    if (spirv_size(l->at) < 6)
        lower_fail(l, "a load without a stride");
    struct memory mem = memory_of(l, &m, l->at[3], l->at[4], l->at[5]);
    plain_access(l, 6, &mem.access);
    uint32_t out = matrix_result(l, l->at[1], l->at[2]);
    if (!is_small(&m))
        lower_fail(l, "a load of a matrix of a workgroup without a layout of tensors");
    check_access(l, &mem, &m, false);
    if (m.use == UseB)
        load_all(l, &mem, &m, out);
    else
        load_row(l, &mem, &m, out);
    words_free(&mem.access);
}

/* ---- Stores ---------------------------------------------------------------------------------- */

/* Those that hold the same row take turns at its units. */
static void store_row(struct lowering *l, const struct memory *mem, const struct matrix *m,
                      uint32_t from)
{
    uint32_t row = row_of(l, m), replicas, replica = replica_of(l, m, &replicas);
    if (mem->by_columns && mem->per_unit != 1)
        lower_fail(l, "the lowering stores rows by columns as single elements only");
    for (uint32_t u = 0; u < m->columns / mem->per_unit; u++) {
        uint32_t parts[8], u_id = uint_constant(l, u);
        for (uint32_t i = 0; i < mem->per_unit && i < 8; i++)
            parts[i] =
                load(l, l->c.t_float, element(l, from, uint_constant(l, u * mem->per_unit + i)));
        uint32_t unit = encode(l, mem, m->component, parts);
        uint32_t offset =
            mem->by_columns ? offset_of(l, mem, u_id, row) : offset_of(l, mem, row, u_id);
        uint32_t mine = binary(l, OpIEqual, l->c.t_bool, replica, uint_constant(l, u % replicas));
        struct branch branch = branch_if(l, mine);
        store_unit(l, mem, offset, unit);
        branch_end(l, branch);
    }
}

static void lower_store(struct lowering *l)
{
    struct matrix m = matrix_of(l, type_of(l, l->at[2]));
    if (spirv_size(l->at) < 5)
        lower_fail(l, "a store without a stride");
    struct memory mem = memory_of(l, &m, l->at[1], l->at[3], l->at[4]);
    plain_access(l, 5, &mem.access);
    uint32_t from = matrix_value(l, l->at[2]);
    if (m.use == UseB || !is_small(&m))
        lower_fail(l, "the lowering does not store this matrix");
    check_access(l, &mem, &m, true);
    store_row(l, &mem, &m, from);
    words_free(&mem.access);
}

/* A load or store of something else. */
static void lower_access(struct lowering *l, uint32_t operands)
{
    struct words plain = {0}, all = {0};
    plain_access(l, operands, &plain);
    words_add(&all, l->at + 1, operands - 1);
    words_join(&all, &plain);
    words_instruction(&l->body, spirv_code(l->at), all.at, all.count);
    words_free(&all);
    words_free(&plain);
}

bool lower_memory(struct lowering *l)
{
    switch (spirv_code(l->at)) {
    case OpLoad:
        lower_access(l, 4);
        return true;
    case OpStore:
        lower_access(l, 3);
        return true;
    case OpCooperativeMatrixLoad:
        lower_load(l);
        return true;
    case OpCooperativeMatrixStore:
        lower_store(l);
        return true;
    default:
        return false;
    }
}
