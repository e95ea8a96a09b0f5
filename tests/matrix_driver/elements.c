/* SPDX-License-Identifier: MIT
 *
 * Functions of elements: OpCooperativeMatrixPerElementOp and OpCooperativeMatrixReduce. */
#include "lower.h"

static uint32_t call(struct lowering *l, uint32_t function, const struct words *arguments)
{
    struct words all = {0};
    uint32_t id = new_id(l);
    words_add(&all, (const uint32_t[]){l->c.t_float, id, function}, 3);
    words_join(&all, arguments);
    words_instruction(&l->body, OpFunctionCall, all.at, all.count);
    words_free(&all);
    return id;
}

static uint32_t held(struct lowering *l, uint32_t variable, uint32_t index)
{
    return load(l, l->c.t_float, element(l, variable, index));
}

static void require_sums(struct lowering *l, const struct matrix *m)
{
    if (m->component != COMPONENT_F32 || m->use != UseAccumulator)
        lower_fail(l, "functions of elements of matrices that are not sums");
    if (!l->request->model->nv && !l->request->model->ext)
        lower_fail(l, "the device does not map or reduce matrices");
}

/* The other matrices among the operands are passed by the element at the same place. */
static void lower_per_element(struct lowering *l)
{
    struct matrix m = matrix_of(l, l->at[1]), other;
    require_sums(l, &m);
    uint32_t count = spirv_size(l->at) - 5, variables[16];
    const uint32_t *operands = l->at + 5;
    uint32_t x = matrix_value(l, l->at[3]), row = row_of(l, &m);
    if (count > sizeof variables / sizeof *variables)
        lower_fail(l, "too many operands");
    for (uint32_t i = 0; i < count; i++) {
        bool matrix = is_matrix(l, type_of(l, operands[i]));
        variables[i] = matrix ? matrix_value(l, operands[i]) : 0;
        if (matrix) {
            other = matrix_of(l, type_of(l, operands[i]));
            if (other.rows != m.rows || other.columns != m.columns || other.use != m.use)
                lower_fail(l, "operands of different shapes");
        }
    }
    uint32_t out = matrix_result(l, l->at[1], l->at[2]);
    leave_trail(l, uint_constant(l, (uint32_t)(l->at - l->request->code)));
    for (struct loop i = loop_of(l, m.held, step_for(&m, 4)); loop_next(l, &i);) {
        struct words arguments = {0};
        words_add(&arguments, (const uint32_t[]){row, i.index, held(l, x, i.index)}, 3);
        for (uint32_t n = 0; n < count; n++) {
            uint32_t value = variables[n] ? held(l, variables[n], i.index) : operands[n];
            words_add(&arguments, &value, 1);
        }
        store(l, element(l, out, i.index), call(l, l->at[4], &arguments));
        words_free(&arguments);
    }
}

/* Each row to one number, in all columns of the result. From the last column down: the order is
 * nobody's to rely on. */
static void lower_reduce(struct lowering *l)
{
    struct matrix from = matrix_of(l, type_of(l, l->at[3])), to = matrix_of(l, l->at[1]);
    require_sums(l, &from);
    require_sums(l, &to);
    if (l->at[4] != ReduceRow)
        lower_fail(l, "the lowering reduces rows only");
    bool flexible = from.scope == ScopeWorkgroup;
    if (from.rows != to.rows || from.scope != to.scope || (!flexible && from.columns != to.columns))
        lower_fail(l, "a reduction between shapes");
    uint32_t x = matrix_value(l, l->at[3]), out = matrix_result(l, l->at[1], l->at[2]);
    leave_trail(l, uint_constant(l, (uint32_t)(l->at - l->request->code)));
    uint32_t all = held(l, x, uint_constant(l, from.held - 1));
    for (uint32_t i = from.held - 1; i-- > 0;) {
        struct words two = {0};
        words_add(&two, (const uint32_t[]){all, held(l, x, uint_constant(l, i))}, 2);
        all = call(l, l->at[5], &two);
        words_free(&two);
    }
    for (struct loop i = loop_of(l, to.held, step_for(&to, 32)); loop_next(l, &i);)
        store(l, element(l, out, i.index), all);
}

bool lower_element(struct lowering *l)
{
    switch (spirv_code(l->at)) {
    case OpCooperativeMatrixPerElementOp:
        lower_per_element(l);
        return true;
    case OpCooperativeMatrixReduce:
        lower_reduce(l);
        return true;
    default:
        return false;
    }
}
