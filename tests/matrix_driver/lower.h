/* SPDX-License-Identifier: MIT
 *
 * The lowering: a module with matrices in, one without out. lower.c walks through the module,
 * table.c knows the instructions, build.c makes new ones, the other files have a theme each.
 *
 * A matrix becomes an array of floats for each invocation:
 *
 *   A, accumulator   one row: row_of() of the invocation's place in its subgroup (or workgroup).
 *                    Where there are more invocations than rows, several hold the same row, and
 *                    share the work of a store.
 *   B                all of it, by rows
 *
 * so that nothing passes between invocations but what the shader itself passes through memory.
 * Which invocation has which row is scrambled, and so is the place of invocations in subgroups, and
 * of subgroups in the workgroup: what relies on one of them goes wrong.
 *
 * A value that is a matrix has a variable of its own: arrays that are values cannot be indexed. */
#ifndef MATRIX_DRIVER_LOWER_H
#define MATRIX_DRIVER_LOWER_H

#include <setjmp.h>
#include <stdbool.h>

#include "model.h"
#include "spirv.h"
#include "words.h"

/* ---- Faults ---------------------------------------------------------------------------------- */

/* A run-time check has a number, its place in a table of words in memory that the host reads. */
enum { MOST_CHECKS = 16384 };
struct checks {
    uint32_t count; /* 0 is nobody's */
    char *text[MOST_CHECKS];
};

/* What the lowered module has to know of its surroundings. */
struct lower_request {
    const struct model *model;
    const uint32_t *code;
    size_t count;
    uint32_t subgroup; /* size of subgroups  */
    uint64_t faults;   /* address of the table */
    struct checks *checks;
};

/* True, and words in *out; else a line in `error`. */
bool lower_module(const struct lower_request *request, struct words *out, char *error, size_t size);

/* Does the module declare a capability for matrices, or for what else is not the driver's own? */
bool lower_wanted(const uint32_t *code, size_t count);

/* ---- Instructions: table.c ------------------------------------------------------------------- */

enum form { FORM_UNKNOWN, FORM_PLAIN, FORM_RESULT, FORM_TYPED };
/* Where a result is: nowhere, first, or after its type. FORM_UNKNOWN: not in the table. */
enum form table_form(uint32_t opcode);
/* How many operands after the result, from the first, are ids that may be matrices by mistake. */
uint32_t table_values(uint32_t opcode);
bool table_capability(uint32_t capability);

/* ---- State ----------------------------------------------------------------------------------- */

enum component { COMPONENT_NONE, COMPONENT_F16, COMPONENT_BF16, COMPONENT_F32 };

struct matrix {
    enum component component;
    uint32_t scope, rows, columns, use;
    uint32_t held; /* floats in each invocation */
};

struct id {
    const uint32_t *def; /* instruction of the module read, NULL: none */
    uint32_t type;       /* of a value                                 */
    uint32_t variable;   /* of a matrix that is a value                */
    uint32_t builtin;    /* BuiltIn + 1 of a decoration                */
    uint32_t block;      /* of a label: where the block now ends       */
};

/* Ids of what every lowered module has. */
struct common {
    uint32_t t_void, t_bool, t_uint, t_int, t_float, t_half, t_u16, t_uint2, t_float2;
    uint32_t t_bf16; /* the module's type of bf16, which is that of u16 now; 0: it has none */
    uint32_t p_function, p_private, p_workgroup, p_input, p_fault, p_faults; /* pointers */
    uint32_t glsl, faults;
    uint32_t invocation;               /* Input: LocalInvocationIndex            */
    uint32_t lane, strip;              /* Private: place in, and of, the subgroup */
    uint32_t trail, barriers, parity;  /* Private: see flow.c                     */
    uint32_t all_trails, all_barriers; /* Workgroup                               */
};

enum { MOST_CONSTANTS = 2048, MOST_POINTERS = 256 };

struct lowering {
    const struct lower_request *request;
    jmp_buf stop;
    char *error;
    size_t error_size;
    struct id *ids;
    uint32_t read_bound, bound;  /* ids of the module read, and in all */
    uint32_t threads;            /* of a workgroup                     */
    uint32_t entry;              /* the function                       */
    bool whole;                  /* matrices belong to workgroups      */
    uint32_t p_u16_array, stage; /* tensors.c: made when needed       */
    struct common c;
    struct words capabilities, extensions, imports, memory, entry_point, interface, modes, notes,
        types, functions;
    bool seen_types;
    /* Of the function being written: before its variables, these, and the rest. */
    struct words start, variables, body;
    const uint32_t *function;
    uint32_t label; /* of the block being written */
    bool first_block;
    const uint32_t *at; /* instruction being lowered */
    struct {
        uint32_t value, id;
    } constants[MOST_CONSTANTS];
    struct {
        uint32_t storage, pointee, id;
    } pointers[MOST_POINTERS];
    uint32_t constant_count, pointer_count;
};

/* Give up: the words of the message name what was met. */
_Noreturn void lower_fail(struct lowering *l, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* ---- Building: build.c ----------------------------------------------------------------------- */

uint32_t new_id(struct lowering *l);
uint32_t uint_constant(struct lowering *l, uint32_t value);
uint32_t float_constant(struct lowering *l, float value);
uint32_t pointer_type(struct lowering *l, uint32_t storage, uint32_t pointee);
/* A variable of the module; listed in the interface. */
uint32_t new_global(struct lowering *l, uint32_t storage, uint32_t pointee);
uint32_t new_local(struct lowering *l, uint32_t pointee);

/* Instructions with a result, in the body. */
uint32_t unary(struct lowering *l, uint32_t opcode, uint32_t type, uint32_t x);
uint32_t binary(struct lowering *l, uint32_t opcode, uint32_t type, uint32_t x, uint32_t y);
uint32_t uint_op(struct lowering *l, uint32_t opcode, uint32_t x, uint32_t y);
/* The same with a constant on the right; left out where it would do nothing. */
uint32_t uint_op_by(struct lowering *l, uint32_t opcode, uint32_t x, uint32_t y);
uint32_t select_value(struct lowering *l, uint32_t type, uint32_t condition, uint32_t yes,
                      uint32_t no);
uint32_t extract(struct lowering *l, uint32_t type, uint32_t composite, uint32_t index);
uint32_t glsl(struct lowering *l, uint32_t type, uint32_t function, uint32_t x);
uint32_t load(struct lowering *l, uint32_t type, uint32_t pointer);
void store(struct lowering *l, uint32_t pointer, uint32_t value);
uint32_t element(struct lowering *l, uint32_t array,
                 uint32_t index); /* of a Function array of floats */

/* Report check number `check` where the condition holds. */
uint32_t new_check(struct lowering *l, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void fault_if(struct lowering *l, uint32_t condition, uint32_t check);

/* A condition around instructions. */
struct branch {
    uint32_t merge;
};
struct branch branch_if(struct lowering *l, uint32_t condition);
void branch_end(struct lowering *l, struct branch branch);

/* for (struct loop i = loop_of(l, n, step); loop_next(l, &i);): the body once for each index. With
 * a step of n or more it is unrolled, with constants in `index`; else it is unrolled `step` times
 * in a loop of the shader, or once where the step does not divide n. (Mesa 22.3 ends all loops of
 * an invocation early that in all have gone round 65535 times.) */
struct loop {
    uint32_t count, step, done;
    uint32_t index; /* id of a uint */
    uint32_t first, header, again, merge, next;
};
struct loop loop_of(struct lowering *l, uint32_t count, uint32_t step);
bool loop_next(struct lowering *l, struct loop *loop);

/* ---- Themes ---------------------------------------------------------------------------------- */

const uint32_t *definition(struct lowering *l, uint32_t id);
uint32_t constant_value(struct lowering *l, uint32_t id);
uint32_t type_of(struct lowering *l, uint32_t id);

/* arithmetic.c */
bool is_matrix(struct lowering *l, uint32_t type);
struct matrix matrix_of(struct lowering *l, uint32_t type);
void lower_matrix_type(struct lowering *l);
uint32_t matrix_value(struct lowering *l, uint32_t id); /* its variable */
uint32_t matrix_result(struct lowering *l, uint32_t type, uint32_t id);
uint32_t row_of(struct lowering *l, const struct matrix *m);
uint32_t replica_of(struct lowering *l, const struct matrix *m, uint32_t *replicas);
/* Few enough to unroll what goes through them. */
bool is_small(const struct matrix *m);
/* The step for a loop through what an invocation holds of it; `most` where that is not small. */
uint32_t step_for(const struct matrix *m, uint32_t most);
uint32_t rounded(struct lowering *l, enum component component, uint32_t x);
/* What an instruction on matrices leaves behind in the trail: flow.c. */
void leave_trail(struct lowering *l, uint32_t x);

/* Of the instruction, from `word` on: its memory operands, in the GLSL450 memory model. */
void plain_access(struct lowering *l, uint32_t word, struct words *out);

bool lower_matrix(struct lowering *l);  /* arithmetic.c: true where it was one of its own */
bool lower_memory(struct lowering *l);  /* memory.c */
bool lower_element(struct lowering *l); /* elements.c */
bool lower_tensor(struct lowering *l);  /* tensors.c */
bool lower_flow(struct lowering *l);    /* flow.c: barriers, subgroups */
bool lower_bf16(struct lowering *l);    /* convert.c: scalars of bf16 */
/* Between a float and the 16 bits of a bf16, as a u16. */
uint32_t bf16_bits(struct lowering *l, uint32_t x);
uint32_t bf16_value(struct lowering *l, uint32_t bits);
void workgroup_barrier(struct lowering *l);
void flow_globals(struct lowering *l);
void flow_start(struct lowering *l);

#endif
