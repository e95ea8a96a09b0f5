/* SPDX-License-Identifier: MIT
 *
 * Matrices: types, values, and what needs no memory. */
#include "lower.h"

/* ---- Types ----------------------------------------------------------------------------------- */

bool is_matrix(struct lowering *l, uint32_t type)
{
    const uint32_t *def = type < l->read_bound ? l->ids[type].def : NULL;
    return def && spirv_code(def) == OpTypeCooperativeMatrix;
}

static enum component component_of(struct lowering *l, uint32_t type)
{
    const uint32_t *def = definition(l, type);
    if (type == l->c.t_bf16)
        return COMPONENT_BF16;
    if (spirv_code(def) == OpTypeFloat && spirv_size(def) == 3 && def[2] == 16)
        return COMPONENT_F16;
    if (spirv_code(def) == OpTypeFloat && spirv_size(def) == 3 && def[2] == 32)
        return COMPONENT_F32;
    return COMPONENT_NONE;
}

struct matrix matrix_of(struct lowering *l, uint32_t type)
{
    const uint32_t *def = definition(l, type);
    struct matrix m = {component_of(l, def[2]),   constant_value(l, def[3]),
                       constant_value(l, def[4]), constant_value(l, def[5]),
                       constant_value(l, def[6]), 0};
    m.held = m.use == UseB ? m.rows * m.columns : m.columns;
    return m;
}

bool is_small(const struct matrix *m)
{
    enum { MOST = 1024 };
    return m->rows * m->columns <= MOST;
}

uint32_t step_for(const struct matrix *m, uint32_t most)
{
    return is_small(m) ? m->held : most;
}

static bool is_listed(const struct lowering *l, const struct matrix *m)
{
    const struct model *model = l->request->model;
    bool sums = m->use == UseAccumulator;
    if (m->component == COMPONENT_NONE || sums != (m->component == COMPONENT_F32) || m->use > 2)
        return false;
    if (m->scope == ScopeWorkgroup) /* flexible: f16 only */
        return model->nv && m->component != COMPONENT_BF16 && m->rows % MODEL_GRANULE == 0 &&
               m->columns % MODEL_GRANULE == 0 && m->rows <= MODEL_SIDE &&
               m->columns <= MODEL_SIDE && l->threads <= MODEL_WORKGROUP;
    uint32_t rows[] = {model->m, model->k, model->m}, columns[] = {model->k, model->n, model->n};
    return m->scope == ScopeSubgroup && m->rows == rows[m->use] && m->columns == columns[m->use];
}

static uint32_t holders(const struct lowering *l, const struct matrix *m)
{
    return m->scope == ScopeWorkgroup ? l->threads : l->request->subgroup;
}

void lower_matrix_type(struct lowering *l)
{
    struct matrix m = matrix_of(l, l->at[1]);
    if (!is_listed(l, &m))
        lower_fail(l,
                   "no list of the device has a matrix of scope %u, %u x %u, use %u, with this "
                   "type",
                   m.scope, m.rows, m.columns, m.use);
    if (m.use != UseB && (m.rows > holders(l, &m) || holders(l, &m) % m.rows != 0))
        lower_fail(l, "%u rows for %u invocations", m.rows, holders(l, &m));
    if (m.scope == ScopeWorkgroup)
        l->whole = true;
    else if (l->whole)
        lower_fail(l, "matrices of subgroups besides those of workgroups");
    EMIT(&l->types, OpTypeArray, l->at[1], l->c.t_float, uint_constant(l, m.held));
}

/* ---- Values ---------------------------------------------------------------------------------- */

static bool uses(const uint32_t *at, uint32_t id)
{
    for (uint32_t word = 1; word < spirv_size(at); word++)
        if (at[word] == id)
            return true; /* or a number that looks like it: no harm */
    return false;
}

/* The variable that the next instruction stores the result in, which is not used otherwise; else 0.
 * Every operation may have its result in the place of an operand. */
static uint32_t destination(struct lowering *l, uint32_t id)
{
    const uint32_t *end = l->request->code + l->request->count, *next = l->at + spirv_size(l->at);
    if (spirv_code(next) != OpStore || next[2] != id ||
        spirv_code(definition(l, next[1])) != OpVariable)
        return 0;
    for (const uint32_t *at = next + spirv_size(next); at < end; at += spirv_size(at)) {
        if (spirv_code(at) == OpFunctionEnd)
            break;
        if (uses(at, id))
            return 0;
    }
    return next[1];
}

uint32_t matrix_result(struct lowering *l, uint32_t type, uint32_t id)
{
    uint32_t stored = destination(l, id);
    l->ids[id].variable = stored ? stored : new_local(l, type);
    return l->ids[id].variable;
}

/* Every element the same. */
static void fill(struct lowering *l, uint32_t variable, const struct matrix *m, uint32_t x)
{
    for (struct loop i = loop_of(l, m->held, step_for(m, 32)); loop_next(l, &i);)
        store(l, element(l, variable, i.index), x);
}

static bool is_constant(const uint32_t *def)
{
    return spirv_code(def) == OpConstantComposite || spirv_code(def) == OpConstantNull;
}

/* The one number of a matrix that is constant, as a float. */
static uint32_t constant_element(struct lowering *l, const uint32_t *def, const struct matrix *m)
{
    if (spirv_code(def) == OpConstantNull)
        return float_constant(l, 0);
    if (m->component == COMPONENT_F16)
        return unary(l, OpFConvert, l->c.t_float, def[3]);
    return m->component == COMPONENT_BF16 ? bf16_value(l, def[3]) : def[3];
}

uint32_t matrix_value(struct lowering *l, uint32_t id)
{
    uint32_t type = type_of(l, id);
    if (!type || !is_matrix(l, type))
        lower_fail(l, "%%%u is not a matrix", id);
    const uint32_t *def = definition(l, id);
    if (is_constant(def)) { /* made anew at each use */
        struct matrix m = matrix_of(l, type);
        uint32_t variable = new_local(l, type);
        fill(l, variable, &m, constant_element(l, def, &m));
        return variable;
    }
    if (!l->ids[id].variable)
        lower_fail(l, "%%%u has no value yet", id);
    return l->ids[id].variable;
}

static uint32_t element_value(struct lowering *l, uint32_t variable, uint32_t index)
{
    return load(l, l->c.t_float, element(l, variable, index));
}

static uint32_t place_of(struct lowering *l, const struct matrix *m)
{
    uint32_t self = load(l, l->c.t_uint, l->c.invocation);
    return m->scope == ScopeWorkgroup ? self : load(l, l->c.t_uint, l->c.lane);
}

/* Scrambled: a permutation, as long as the number of rows has no factor of 5. */
uint32_t row_of(struct lowering *l, const struct matrix *m)
{
    uint32_t slot = uint_op_by(l, OpUDiv, place_of(l, m), holders(l, m) / m->rows);
    uint32_t odd = uint_op_by(l, OpIAdd, uint_op_by(l, OpIMul, slot, 5), 3);
    return uint_op(l, OpUMod, odd, uint_constant(l, m->rows));
}

uint32_t replica_of(struct lowering *l, const struct matrix *m, uint32_t *replicas)
{
    *replicas = holders(l, m) / m->rows;
    return uint_op(l, OpUMod, place_of(l, m), uint_constant(l, *replicas));
}

/* ---- Instructions ---------------------------------------------------------------------------- */

/* The elements of a result from those of the operands at the same place. */
static void lower_elementwise(struct lowering *l, uint32_t operands)
{
    struct matrix m = matrix_of(l, l->at[1]);
    if (m.component != COMPONENT_F32)
        lower_fail(l, "arithmetic on matrices of 16 bits");
    uint32_t x = matrix_value(l, l->at[3]), y = operands > 1 ? matrix_value(l, l->at[4]) : 0;
    uint32_t out = matrix_result(l, l->at[1], l->at[2]);
    for (struct loop i = loop_of(l, m.held, step_for(&m, 32)); loop_next(l, &i);) {
        uint32_t a = element_value(l, x, i.index), z;
        if (y)
            z = binary(l, spirv_code(l->at), l->c.t_float, a, element_value(l, y, i.index));
        else
            z = unary(l, spirv_code(l->at), l->c.t_float, a);
        store(l, element(l, out, i.index), z);
    }
}

static void lower_times_scalar(struct lowering *l)
{
    struct matrix m = matrix_of(l, l->at[1]);
    if (m.component != COMPONENT_F32)
        lower_fail(l, "arithmetic on matrices of 16 bits");
    uint32_t x = matrix_value(l, l->at[3]), out = matrix_result(l, l->at[1], l->at[2]);
    for (struct loop i = loop_of(l, m.held, step_for(&m, 32)); loop_next(l, &i);)
        store(l, element(l, out, i.index),
              binary(l, OpFMul, l->c.t_float, element_value(l, x, i.index), l->at[4]));
}

/* From sums to an operand of the next product, which has rows of the same invocations. */
static void lower_conversion(struct lowering *l)
{
    struct matrix from = matrix_of(l, type_of(l, l->at[3])), to = matrix_of(l, l->at[1]);
    bool changes = from.use != to.use;
    if (changes && !l->request->model->nv && !l->request->model->ext)
        lower_fail(l, "the device does not convert between uses of matrices");
    if (from.scope != to.scope || from.rows != to.rows || from.columns != to.columns)
        lower_fail(l, "a conversion between shapes or scopes");
    if (from.use == UseB || to.use == UseB)
        lower_fail(l, "the lowering does not convert from or to use B");
    uint32_t x = matrix_value(l, l->at[3]), out = matrix_result(l, l->at[1], l->at[2]);
    leave_trail(l, uint_constant(l, (uint32_t)(l->at - l->request->code)));
    for (struct loop i = loop_of(l, to.held, step_for(&to, 32)); loop_next(l, &i);)
        store(l, element(l, out, i.index), rounded(l, to.component, element_value(l, x, i.index)));
}

/* A row of sums: each over k, in registers. */
static void lower_product(struct lowering *l)
{
    struct matrix a = matrix_of(l, type_of(l, l->at[3])), b = matrix_of(l, type_of(l, l->at[4]));
    struct matrix c = matrix_of(l, type_of(l, l->at[5])), d = matrix_of(l, l->at[1]);
    if (spirv_size(l->at) > 6 && l->at[6] != 0)
        lower_fail(l, "operands of integers or saturation");
    if (a.use != UseA || b.use != UseB || c.use != UseAccumulator || d.use != UseAccumulator ||
        a.columns != b.rows || a.rows != c.rows || b.columns != c.columns || d.rows != c.rows ||
        d.columns != c.columns || a.component != b.component || a.scope != b.scope ||
        a.scope != c.scope || d.scope != c.scope)
        lower_fail(l,
                   "a product of %u x %u with %u x %u onto %u x %u, or of types or scopes, that "
                   "the device does not list",
                   a.rows, a.columns, b.rows, b.columns, c.rows, c.columns);
    uint32_t x = matrix_value(l, l->at[3]), y = matrix_value(l, l->at[4]);
    uint32_t z = matrix_value(l, l->at[5]), out = matrix_result(l, l->at[1], l->at[2]);
    leave_trail(l, uint_constant(l, (uint32_t)(l->at - l->request->code)));
    for (struct loop n = loop_of(l, b.columns, is_small(&b) ? b.columns : 1); loop_next(l, &n);) {
        uint32_t sum = element_value(l, z, n.index);
        for (uint32_t k = 0; k < a.columns; k++) {
            uint32_t next = new_id(l), k_id = uint_constant(l, k);
            uint32_t place = is_small(&b) ? uint_constant(l, k * b.columns + n.done - 1)
                                          : uint_op_by(l, OpIAdd, n.index, k * b.columns);
            EMIT(&l->body, OpExtInst, l->c.t_float, next, l->c.glsl, GlslFma,
                 element_value(l, x, k_id), element_value(l, y, place), sum);
            sum = next;
        }
        store(l, element(l, out, n.index), sum);
    }
}

static void lower_composite(struct lowering *l)
{
    struct matrix m = matrix_of(l, l->at[1]);
    uint32_t out = matrix_result(l, l->at[1], l->at[2]);
    if (m.component != COMPONENT_F32)
        lower_fail(l, "a matrix of 16 bits from a number that is not constant");
    fill(l, out, &m, l->at[3]);
}

/* ---- Loads and stores of variables ----------------------------------------------------------- */

static uint32_t pointee_of(struct lowering *l, uint32_t pointer)
{
    return definition(l, type_of(l, pointer))[3];
}

static bool is_variable(struct lowering *l, uint32_t pointer)
{
    return spirv_code(definition(l, pointer)) == OpVariable;
}

/* May what is loaded here be used in place: is it used in this block alone, and before anything
 * that could change it? */
static bool stays(struct lowering *l)
{
    const uint32_t *end = l->request->code + l->request->count;
    uint32_t pointer = l->at[3], id = l->at[2];
    bool open = true; /* in the block, and nothing changed it yet */
    for (const uint32_t *at = l->at + spirv_size(l->at); at < end; at += spirv_size(at)) {
        uint32_t opcode = spirv_code(at);
        if (opcode == OpFunctionEnd)
            break;
        if (!open && uses(at, id))
            return false;
        if (opcode == OpLabel || opcode == OpFunctionCall)
            open = false;
        if (opcode == OpStore &&
            (at[1] == pointer || !is_variable(l, pointer) || !is_variable(l, at[1])))
            open = false;
    }
    return true;
}

static void lower_matrix_load(struct lowering *l)
{
    struct matrix m = matrix_of(l, l->at[1]);
    if (stays(l)) {
        l->ids[l->at[2]].variable = l->at[3];
        return;
    }
    uint32_t out = matrix_result(l, l->at[1], l->at[2]);
    for (struct loop i = loop_of(l, m.held, step_for(&m, 32)); loop_next(l, &i);)
        store(l, element(l, out, i.index), element_value(l, l->at[3], i.index));
}

/* A constant is made where it is wanted. */
static void lower_matrix_store(struct lowering *l)
{
    struct matrix m = matrix_of(l, pointee_of(l, l->at[1]));
    const uint32_t *def = definition(l, l->at[2]);
    uint32_t storage = definition(l, type_of(l, l->at[1]))[2];
    if (storage != StoragePrivate && storage != StorageFunction)
        lower_fail(l, "a matrix in storage class %u", storage);
    if (is_constant(def)) {
        fill(l, l->at[1], &m, constant_element(l, def, &m));
        return;
    }
    uint32_t from = matrix_value(l, l->at[2]);
    if (from == l->at[1]) /* it was made there */
        return;
    for (struct loop i = loop_of(l, m.held, step_for(&m, 32)); loop_next(l, &i);)
        store(l, element(l, l->at[1], i.index), element_value(l, from, i.index));
}

static bool lower_variable(struct lowering *l)
{
    bool loads = spirv_code(l->at) == OpLoad;
    if (!is_matrix(l, loads ? l->at[1] : pointee_of(l, l->at[1])))
        return false;
    if (loads)
        lower_matrix_load(l);
    else
        lower_matrix_store(l);
    return true;
}

static bool lower_typed(struct lowering *l)
{
    switch (spirv_code(l->at)) {
    case OpConstantComposite:
    case OpConstantNull:
        return true; /* at each use */
    case OpUndef:
        matrix_result(l, l->at[1], l->at[2]);
        return true;
    case OpCompositeConstruct:
        lower_composite(l);
        return true;
    case OpFConvert:
        lower_conversion(l);
        return true;
    case OpFNegate:
        lower_elementwise(l, 1);
        return true;
    case OpFAdd:
    case OpFSub:
    case OpFMul:
    case OpFDiv:
        lower_elementwise(l, 2);
        return true;
    case OpMatrixTimesScalar:
        lower_times_scalar(l);
        return true;
    case OpCooperativeMatrixMulAdd:
        lower_product(l);
        return true;
    default:
        return false;
    }
}

bool lower_matrix(struct lowering *l)
{
    uint32_t opcode = spirv_code(l->at);
    if (opcode == OpTypeCooperativeMatrix) {
        lower_matrix_type(l);
        return true;
    }
    if (opcode == OpLoad || opcode == OpStore)
        return lower_variable(l);
    return table_form(opcode) == FORM_TYPED && is_matrix(l, l->at[1]) && lower_typed(l);
}
