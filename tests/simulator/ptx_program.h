/* SPDX-License-Identifier: MIT
 *
 * A kernel as nvcc has translated it to PTX, ready to be run: the registers numbered, each
 * instruction with the function that does it. PTX ISA,
 * https://docs.nvidia.com/cuda/parallel-thread-execution/ */
#ifndef DRAFT_TESTS_SIMULATOR_PTX_PROGRAM_H
#define DRAFT_TESTS_SIMULATOR_PTX_PROGRAM_H

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "simulator.h"

namespace simulator
{
namespace ptx
{

struct Run;

/* o: what the operands of the instruction are bound to, in their order. */
typedef void (*Handler)(Run &run, const int32_t *o);

/* What there is. The signature has a character for each operand, or part of one:
 *
 *   u f d    a source of 32 bits: integer, float, either; a number may stand there
 *   l q h    an integer of 64 bits, any 64 bits, any 16
 *   U F D L Q H   the same, written
 *   p P      predicate
 *   C        float of 32 bits, read and written
 *   g s a    address in brackets, of 64 bits (global, generic), in shared memory, of parameters:
 *            the base, then the offset in bytes
 *   m M      what mov takes, 32 and 64 bits: also the address of an array, or of a parameter
 *   n        a number: itself
 *   0 1      this number, and no operand
 *   T        a label: the number of an instruction
 *   { } [ ] | _   these
 *   W        at the end: a product of a warp group; its number among those of the kernel */
struct Opcode {
    std::string name, signature;
    Handler run;
};
const std::vector<Opcode> &arithmetic_opcodes();
const std::vector<Opcode> &memory_opcodes();
const std::vector<Opcode> &together_opcodes();

/* A register is its place in the memory of a thread; constants have places below 0. */
struct Instruction {
    Handler run;
    const int32_t *o;
    int32_t guard; /* 0: none; r + 1 where register r must be true, -r - 1 where false */
    uint32_t line;
    const Opcode *opcode;
};

enum class Type { predicate, bits, integer, floating };

/* .reg .f32 %f<10>: names of one kind. count 0: a single one, without a number. */
struct Registers {
    std::string prefix;
    Type type;
    uint32_t size; /* bytes */
    uint32_t count;
    int32_t first; /* place */
};

struct SharedArray {
    std::string name;
    uint32_t size, offset; /* offset: from SharedMemory::BASE */
};

/* wgmma: which registers it works on, and where the unit that multiplies has them. */
struct GroupProduct {
    uint32_t n; /* columns */
    std::vector<int32_t> c, a;
    uint32_t list;           /* number of the c registers among those of the kernel */
    bool first;              /* on them */
    uint32_t c_copy, a_copy; /* in Run::copies */
};

/* Values that differ from thread to thread, or launch to launch. */
enum Special { TID_X, CTAID_X, NTID_X, NCTAID_X, DYNAMIC_SHARED, SPECIALS };

struct Program {
    std::string name, file;
    uint32_t max_threads = 0;
    std::vector<size_t> params;         /* bytes */
    std::vector<uint32_t> param_places; /* offsets in the launch's args */
    std::vector<Registers> registers;
    uint32_t places = 0;             /* of registers, 4 bytes each */
    std::vector<uint64_t> constants; /* place -2, -4, ...; the first SPECIALS change */
    std::vector<SharedArray> arrays;
    std::vector<GroupProduct> products;
    uint32_t lists = 0, copies = 0; /* accumulators; words of Run::copies */
    std::vector<Instruction> code;
    std::vector<int32_t> operands;

    /* Where registers were before they shared places: [operand]; of those that share none. */
    std::vector<int32_t> names;
    std::map<int32_t, int32_t> alone;

    /* Of an operand of the instruction. */
    std::string register_name(int32_t place, const Instruction &in) const;
};

/* What is wrong with a text, with file and line. */
struct Error : std::runtime_error {
    using std::runtime_error::runtime_error;
};

/* All kernels of a text. Throws Error. */
std::vector<std::unique_ptr<Program>> parse(const std::string &file, const std::string &text);

/* Registers that are not alive at the same time get the same place. Once. */
void share_places(Program &program);

/* Addresses of parameters; generic addresses of parameters and of shared memory. */
constexpr uint64_t PARAMS = 0x1000;
constexpr uint64_t PARAM_WINDOW = 0x7d00000000000000, SHARED_WINDOW = 0x7e00000000000000;
constexpr uint64_t WINDOW_SIZE = 1ull << 32;

/* The kernel as execute() takes it, once for a program. `like`: what the host knows of it; throws
 * Error where the program has other parameters or launch bounds. */
Kernel make_kernel(Program &program, const Kernel &like);

/* The kernel of that name in the files of $DRAFT_SIMULATOR_PTX, in place of `kernel`; `kernel`
 * where the variable is not set. Throws Error. */
const Kernel *choose_kernel(const Kernel *kernel);

/* ", line 123 of pool.ptx": where the running thread is. */
std::string place_of(const Run &run);

} // namespace ptx
} // namespace simulator

#endif
