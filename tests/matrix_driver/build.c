/* SPDX-License-Identifier: MIT
 *
 * New instructions. Constants and types of pointers are made once each and stand at the end of the
 * module's own. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "lower.h"

_Noreturn void lower_fail(struct lowering *l, const char *format, ...)
{
    int used = 0;
    if (l->at)
        used = snprintf(l->error, l->error_size, "instruction %u of %u words: ", spirv_code(l->at),
                        spirv_size(l->at));
    va_list list;
    va_start(list, format);
    vsnprintf(l->error + used, l->error_size - (size_t)used, format, list);
    va_end(list);
    longjmp(l->stop, 1);
}

uint32_t new_id(struct lowering *l)
{
    return l->bound++;
}

/* ---- Types, constants, variables ------------------------------------------------------------- */

uint32_t uint_constant(struct lowering *l, uint32_t value)
{
    for (uint32_t i = 0; i < l->constant_count; i++)
        if (l->constants[i].value == value)
            return l->constants[i].id;
    uint32_t id = new_id(l);
    EMIT(&l->types, OpConstant, l->c.t_uint, id, value);
    if (l->constant_count < MOST_CONSTANTS) {
        l->constants[l->constant_count].value = value;
        l->constants[l->constant_count++].id = id;
    }
    return id;
}

uint32_t float_constant(struct lowering *l, float value)
{
    uint32_t id = new_id(l), bits;
    memcpy(&bits, &value, sizeof bits);
    EMIT(&l->types, OpConstant, l->c.t_float, id, bits);
    return id;
}

uint32_t pointer_type(struct lowering *l, uint32_t storage, uint32_t pointee)
{
    for (uint32_t i = 0; i < l->pointer_count; i++)
        if (l->pointers[i].storage == storage && l->pointers[i].pointee == pointee)
            return l->pointers[i].id;
    if (l->pointer_count == MOST_POINTERS)
        lower_fail(l, "too many types of pointers");
    uint32_t id = new_id(l);
    EMIT(&l->types, OpTypePointer, id, storage, pointee);
    l->pointers[l->pointer_count].storage = storage;
    l->pointers[l->pointer_count].pointee = pointee;
    l->pointers[l->pointer_count++].id = id;
    return id;
}

uint32_t new_global(struct lowering *l, uint32_t storage, uint32_t pointee)
{
    uint32_t type = pointer_type(l, storage, pointee), id = new_id(l);
    EMIT(&l->types, OpVariable, type, id, storage);
    words_add(&l->interface, &id, 1);
    return id;
}

uint32_t new_local(struct lowering *l, uint32_t pointee)
{
    uint32_t type = pointer_type(l, StorageFunction, pointee), id = new_id(l);
    EMIT(&l->variables, OpVariable, type, id, StorageFunction);
    return id;
}

/* ---- Values ---------------------------------------------------------------------------------- */

uint32_t unary(struct lowering *l, uint32_t opcode, uint32_t type, uint32_t x)
{
    uint32_t id = new_id(l);
    EMIT(&l->body, opcode, type, id, x);
    return id;
}

uint32_t binary(struct lowering *l, uint32_t opcode, uint32_t type, uint32_t x, uint32_t y)
{
    uint32_t id = new_id(l);
    EMIT(&l->body, opcode, type, id, x, y);
    return id;
}

uint32_t uint_op(struct lowering *l, uint32_t opcode, uint32_t x, uint32_t y)
{
    return binary(l, opcode, l->c.t_uint, x, y);
}

uint32_t uint_op_by(struct lowering *l, uint32_t opcode, uint32_t x, uint32_t y)
{
    bool adds = opcode == OpIAdd || opcode == OpISub;
    bool multiplies = opcode == OpIMul || opcode == OpUDiv;
    if ((adds && y == 0) || (multiplies && y == 1))
        return x;
    return uint_op(l, opcode, x, uint_constant(l, y));
}

uint32_t select_value(struct lowering *l, uint32_t type, uint32_t condition, uint32_t yes,
                      uint32_t no)
{
    uint32_t id = new_id(l);
    EMIT(&l->body, OpSelect, type, id, condition, yes, no);
    return id;
}

uint32_t extract(struct lowering *l, uint32_t type, uint32_t composite, uint32_t index)
{
    return binary(l, OpCompositeExtract, type, composite, index);
}

uint32_t glsl(struct lowering *l, uint32_t type, uint32_t function, uint32_t x)
{
    uint32_t id = new_id(l);
    EMIT(&l->body, OpExtInst, type, id, l->c.glsl, function, x);
    return id;
}

uint32_t load(struct lowering *l, uint32_t type, uint32_t pointer)
{
    return unary(l, OpLoad, type, pointer);
}

void store(struct lowering *l, uint32_t pointer, uint32_t value)
{
    EMIT(&l->body, OpStore, pointer, value);
}

/* Of a variable of ours, or of the module's, which may be of another storage class. */
uint32_t element(struct lowering *l, uint32_t array, uint32_t index)
{
    uint32_t type = l->c.p_function;
    if (array < l->read_bound)
        type = pointer_type(l, definition(l, type_of(l, array))[2], l->c.t_float);
    return binary(l, OpAccessChain, type, array, index);
}

/* ---- Checks ---------------------------------------------------------------------------------- */

uint32_t new_check(struct lowering *l, const char *format, ...)
{
    struct checks *checks = l->request->checks;
    if (checks->count == 0)
        checks->count = 1;
    if (checks->count == MOST_CHECKS)
        lower_fail(l, "too many checks");
    char text[256];
    int used = 0;
    if (l->at)
        used = snprintf(text, sizeof text,
                        "instruction %u at word %u, in function %%%u: ", spirv_code(l->at),
                        (unsigned)(l->at - l->request->code), l->function ? l->function[2] : 0);
    va_list list;
    va_start(list, format);
    vsnprintf(text + used, sizeof text - (size_t)used, format, list);
    va_end(list);
    checks->text[checks->count] = strdup(text);
    return checks->count++;
}

/* Without a branch: where all is well, word 0 is written. */
void fault_if(struct lowering *l, uint32_t condition, uint32_t check)
{
    uint32_t zero = uint_constant(l, 0), one = uint_constant(l, 1);
    uint32_t place = select_value(l, l->c.t_uint, condition, uint_constant(l, check), zero);
    uint32_t table = unary(l, OpBitcast, l->c.p_faults, l->c.faults), word = new_id(l);
    EMIT(&l->body, OpAccessChain, l->c.p_fault, word, table, zero, place);
    EMIT(&l->body, OpStore, word, one, AccessAligned, 4);
}

/* ---- Flow ------------------------------------------------------------------------------------ */

static void begin_block(struct lowering *l, uint32_t label)
{
    EMIT(&l->body, OpLabel, label);
    l->ids[l->label].block = label;
}

struct branch branch_if(struct lowering *l, uint32_t condition)
{
    struct branch branch = {new_id(l)};
    uint32_t yes = new_id(l);
    EMIT(&l->body, OpSelectionMerge, branch.merge, 0);
    EMIT(&l->body, OpBranchConditional, condition, yes, branch.merge);
    begin_block(l, yes);
    return branch;
}

void branch_end(struct lowering *l, struct branch branch)
{
    EMIT(&l->body, OpBranch, branch.merge);
    begin_block(l, branch.merge);
}

struct loop loop_of(struct lowering *l, uint32_t count, uint32_t step)
{
    (void)l;
    return (struct loop){.count = count, .step = step < count && count % step != 0 ? 1 : step};
}

static void loop_begin(struct lowering *l, struct loop *loop)
{
    uint32_t test = new_id(l), inside = new_id(l), before = l->ids[l->label].block;
    loop->header = new_id(l), loop->again = new_id(l), loop->merge = new_id(l);
    loop->first = new_id(l), loop->next = new_id(l);
    EMIT(&l->body, OpBranch, loop->header);
    begin_block(l, loop->header);
    EMIT(&l->body, OpPhi, l->c.t_uint, loop->first, uint_constant(l, 0), before, loop->next,
         loop->again);
    EMIT(&l->body, OpLoopMerge, loop->merge, loop->again, LoopDontUnroll);
    EMIT(&l->body, OpBranch, test);
    begin_block(l, test);
    uint32_t more = binary(l, OpULessThan, l->c.t_bool, loop->first, uint_constant(l, loop->count));
    EMIT(&l->body, OpBranchConditional, more, inside, loop->merge);
    begin_block(l, inside);
}

static void loop_end(struct lowering *l, struct loop *loop)
{
    EMIT(&l->body, OpBranch, loop->again);
    begin_block(l, loop->again);
    EMIT(&l->body, OpIAdd, l->c.t_uint, loop->next, loop->first, uint_constant(l, loop->step));
    EMIT(&l->body, OpBranch, loop->header);
    begin_block(l, loop->merge);
}

bool loop_next(struct lowering *l, struct loop *loop)
{
    bool unrolled = loop->step >= loop->count;
    if (!unrolled && loop->done == 0)
        loop_begin(l, loop);
    if (loop->done == (unrolled ? loop->count : loop->step)) {
        if (!unrolled)
            loop_end(l, loop);
        return false;
    }
    loop->index =
        unrolled ? uint_constant(l, loop->done) : uint_op_by(l, OpIAdd, loop->first, loop->done);
    loop->done++;
    return true;
}
