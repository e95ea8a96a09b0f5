/* SPDX-License-Identifier: MIT
 *
 * Subgroups that the device does not have, and barriers.
 *
 * A barrier of subgroups becomes one of the workgroup, so all subgroups have to come to it. Whether
 * they do, and whether all of a subgroup have gone the same way through operations on matrices, is
 * found at each barrier:
 *
 *   trail      of each invocation: a hash of the operations on matrices that it ran, and of their
 *              operands that have to be the same; compared within the subgroup
 *   barriers   likewise, of barriers; compared within the workgroup
 *
 * Each compares itself with its neighbour, in memory of which two copies take turns, so that the
 * next comparison does not overwrite this one. A driver on which a barrier that not all reach hangs
 * would not get that far; the software driver goes on. */
#include "lower.h"

enum { HASH = 31, TURNS = 2 };

void flow_globals(struct lowering *l)
{
    struct common *c = &l->c;
    for (uint32_t id = 1; id < l->read_bound; id++)
        if (l->ids[id].builtin == BuiltInLocalInvocationIndex + 1)
            c->invocation = id;
    if (!c->invocation) {
        c->invocation = new_global(l, StorageInput, c->t_uint);
        EMIT(&l->notes, OpDecorate, c->invocation, DecorationBuiltIn, BuiltInLocalInvocationIndex);
    }
    c->lane = new_global(l, StoragePrivate, c->t_uint);
    c->strip = new_global(l, StoragePrivate, c->t_uint);
    c->trail = new_global(l, StoragePrivate, c->t_uint);
    c->barriers = new_global(l, StoragePrivate, c->t_uint);
    c->parity = new_global(l, StoragePrivate, c->t_uint);
    uint32_t array = new_id(l);
    EMIT(&l->types, OpTypeArray, array, c->t_uint, uint_constant(l, TURNS * l->threads));
    c->all_trails = new_global(l, StorageWorkgroup, array);
    c->all_barriers = new_global(l, StorageWorkgroup, array);
    if (l->threads % l->request->subgroup != 0)
        lower_fail(l, "workgroups of %u are not made of full subgroups of %u", l->threads,
                   l->request->subgroup);
}

/* ---- Built-ins ------------------------------------------------------------------------------- */

/* Invocations in subgroups, and subgroups, are counted from the end. */
void flow_start(struct lowering *l)
{
    struct common *c = &l->c;
    uint32_t size = l->request->subgroup, subgroups = l->threads / size;
    uint32_t invocation = load(l, c->t_uint, c->invocation);
    uint32_t lane = uint_op(l, OpISub, uint_constant(l, size - 1),
                            uint_op(l, OpUMod, invocation, uint_constant(l, size)));
    uint32_t strip = uint_op(l, OpISub, uint_constant(l, subgroups - 1),
                             uint_op(l, OpUDiv, invocation, uint_constant(l, size)));
    store(l, c->lane, lane);
    store(l, c->strip, strip);
    store(l, c->trail, uint_constant(l, 0));
    store(l, c->barriers, uint_constant(l, 0));
    store(l, c->parity, uint_constant(l, 0));
    for (uint32_t id = 1; id < l->read_bound; id++)
        switch (l->ids[id].builtin) {
        case BuiltInSubgroupSize + 1:
            store(l, id, uint_constant(l, size));
            break;
        case BuiltInNumSubgroups + 1:
            store(l, id, uint_constant(l, subgroups));
            break;
        case BuiltInSubgroupId + 1:
            store(l, id, strip);
            break;
        case BuiltInSubgroupLocalInvocationId + 1:
            store(l, id, lane);
            break;
        }
}

/* A variable of a subgroup built-in becomes an ordinary one. */
static bool lower_builtin(struct lowering *l)
{
    uint32_t builtin = l->ids[l->at[2]].builtin;
    if (builtin < BuiltInSubgroupSize + 1 || builtin > BuiltInSubgroupLocalInvocationId + 1)
        return false;
    if (builtin == 37 + 1 || builtin == 39 + 1)
        lower_fail(l, "a built-in of kernels");
    EMIT(&l->types, OpVariable, l->c.p_private, l->at[2], StoragePrivate);
    return true;
}

/* ---- Barriers -------------------------------------------------------------------------------- */

static uint32_t shared_word(struct lowering *l, uint32_t variable, uint32_t index)
{
    return binary(l, OpAccessChain, l->c.p_workgroup, variable, index);
}

/* The hash with a number more in it. */
static uint32_t hashed(struct lowering *l, uint32_t variable, uint32_t x)
{
    uint32_t old = uint_op_by(l, OpIMul, load(l, l->c.t_uint, variable), HASH);
    uint32_t all = uint_op(l, OpIAdd, old, x);
    store(l, variable, all);
    return all;
}

void leave_trail(struct lowering *l, uint32_t x)
{
    hashed(l, l->c.trail, x);
}

static void compare(struct lowering *l, uint32_t variable, uint32_t place, uint32_t own,
                    uint32_t check)
{
    uint32_t other = load(l, l->c.t_uint, shared_word(l, variable, place));
    fault_if(l, binary(l, OpINotEqual, l->c.t_bool, own, other), check);
}

static void barrier(struct lowering *l, uint32_t semantics)
{
    struct common *c = &l->c;
    uint32_t subgroup = uint_constant(l, l->request->subgroup);
    uint32_t threads = uint_constant(l, l->threads), one = uint_constant(l, 1);
    uint32_t check =
        new_check(l, "not all of a subgroup (or workgroup) ran the same operations on matrices, or "
                     "not with the same operands, before this barrier");
    uint32_t missed = new_check(l, "not all of the workgroup came to this barrier (one of a "
                                   "subgroup counts as one of the workgroup here)");
    uint32_t self = load(l, c->t_uint, c->invocation), parity = load(l, c->t_uint, c->parity);
    uint32_t base = uint_op(l, OpIMul, parity, threads), place = uint_op(l, OpIAdd, base, self);
    uint32_t trail = load(l, c->t_uint, c->trail);
    uint32_t barriers = hashed(l, c->barriers, uint_constant(l, missed));
    store(l, shared_word(l, c->all_trails, place), trail);
    store(l, shared_word(l, c->all_barriers, place), barriers);
    uint32_t scope = uint_constant(l, ScopeWorkgroup);
    EMIT(&l->body, OpControlBarrier, scope, scope, semantics);
    uint32_t next = uint_op(l, OpIAdd, self, one), within = uint_op(l, OpUMod, next, subgroup);
    uint32_t first = uint_op(l, OpISub, self, uint_op(l, OpUMod, self, subgroup));
    uint32_t partner =
        l->whole ? uint_op(l, OpUMod, next, threads) : uint_op(l, OpIAdd, first, within);
    compare(l, c->all_trails, uint_op(l, OpIAdd, base, partner), trail, check);
    compare(l, c->all_barriers, uint_op(l, OpIAdd, base, uint_op(l, OpUMod, next, threads)),
            barriers, missed);
    store(l, c->parity, uint_op(l, OpISub, one, parity));
}

static void lower_barrier(struct lowering *l)
{
    uint32_t execution = constant_value(l, l->at[1]);
    if (execution != ScopeWorkgroup && execution != ScopeSubgroup)
        lower_fail(l, "a barrier of scope %u", execution);
    if (constant_value(l, l->at[3]) & 0x7000) /* availability by hand */
        lower_fail(l, "semantics of the Vulkan memory model alone");
    barrier(l, l->at[3]);
}

void workgroup_barrier(struct lowering *l)
{
    enum { SEMANTICS = 0x108 }; /* AcquireRelease of WorkgroupMemory */
    barrier(l, uint_constant(l, SEMANTICS));
}

bool lower_flow(struct lowering *l)
{
    switch (spirv_code(l->at)) {
    case OpVariable:
        return lower_builtin(l);
    case OpControlBarrier:
        lower_barrier(l);
        return true;
    case OpReturn:
        if (l->function[2] == l->entry)
            workgroup_barrier(l);
        return false;
    default:
        return false;
    }
}
