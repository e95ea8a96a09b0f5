/* SPDX-License-Identifier: MIT
 *
 * Between the two halves of the parser: what stands in a statement (ptx_parse.cc), and which
 * instruction that is (ptx_bind.cc). */
#ifndef DRAFT_TESTS_SIMULATOR_PTX_PARSE_H
#define DRAFT_TESTS_SIMULATOR_PTX_PARSE_H

#include <map>
#include <string_view>
#include <vector>

#include "ptx_program.h"
#include "ptx_text.h"

namespace simulator
{
namespace ptx
{

/* A piece of a statement's operands; commas are left out. */
struct Item {
    enum Kind { mark, reg, number, symbol, name, sink } kind;
    char character; /* mark: one of {}[]| */
    Type type;      /* reg */
    uint32_t size;
    int32_t place;
    uint64_t value; /* number; symbol: its address */
    bool floating;  /* number */
    bool shared;    /* symbol: of 32 bits */
    int32_t offset; /* in brackets: what is added */
    std::string_view text;
};

struct Statement {
    std::string_view opcode;
    uint32_t line;
    int32_t guard;
    std::vector<Item> items;
};

/* { ... }: names of its own. */
struct Scope {
    size_t parent; /* of the function: itself */
    std::vector<Registers> registers;
    std::map<std::string_view, uint32_t> labels; /* number of the instruction */
};

/* A place in Program::operands that a label's instruction belongs in. */
struct Jump {
    size_t operand, scope;
    std::string_view label;
    uint32_t line;
};

/* The instructions of a kernel, one after the other. */
class Binder
{
  public:
    Binder(Program &program, const Words &words) : program_(program), words_(words)
    {
    }
    /* Fails where there is no such instruction, or its operands do not fit. */
    void add(const Statement &statement, size_t scope);
    /* All are there. */
    void finish(const std::vector<Scope> &scopes);
    int32_t constant(uint64_t value);

  private:
    bool fits(const Opcode &opcode, const Statement &statement);
    bool bind(char wanted, const Item &item);
    bool bind_value(char wanted, const Item &item);
    bool bind_address(char wanted, const Item &item);
    void add_product(size_t first);

    Program &program_;
    const Words &words_;
    std::vector<int32_t> bound_;
    std::vector<std::pair<size_t, std::string_view>> labels_; /* of bound_ */
    std::vector<size_t> starts_;                              /* [instruction] in operands */
    std::vector<Jump> jumps_;
    std::map<uint64_t, int32_t> constants_;
};

} // namespace ptx
} // namespace simulator

#endif
