/* SPDX-License-Identifier: MIT
 *
 * Which instruction a statement is: the one of its name whose signature the operands fit. */
#include <algorithm>
#include <unordered_map>

#include "ptx_parse.h"

namespace simulator
{
namespace ptx
{

typedef std::unordered_multimap<std::string_view, const Opcode *> Index;

static Index make_index()
{
    Index index;
    for (const std::vector<Opcode> *all :
         {&arithmetic_opcodes(), &memory_opcodes(), &together_opcodes()})
        for (const Opcode &opcode : *all)
            index.emplace(opcode.name, &opcode);
    return index;
}

int32_t Binder::constant(uint64_t value)
{
    int32_t &place = constants_[value];
    if (!place) {
        program_.constants.push_back(value);
        place = -2 * static_cast<int32_t>(program_.constants.size());
    }
    return place;
}

/* ---- Operands ---- */

struct Want {
    char kind;
    uint32_t size;
    bool integer, floating, written, number;
};

static const Want WANTS[] = {
    {'u', 4, true, false, false, true}, {'f', 4, false, true, false, true},
    {'d', 4, true, true, false, true},  {'U', 4, true, false, true, false},
    {'F', 4, false, true, true, false}, {'D', 4, true, true, true, false},
    {'C', 4, false, true, true, false}, {'l', 8, true, false, false, true},
    {'q', 8, true, true, false, true},  {'L', 8, true, false, true, false},
    {'Q', 8, true, true, true, false},  {'h', 2, true, true, false, true},
    {'H', 2, true, true, true, false},  {'m', 4, true, true, false, true},
    {'M', 8, true, true, false, true},
};

/* .bN goes with every type of its size, as PTX says. */
static bool fits_type(const Want &want, Type type)
{
    switch (type) {
    case Type::bits:
        return true;
    case Type::integer:
        return want.integer;
    case Type::floating:
        return want.floating;
    default:
        return false;
    }
}

static bool fits_number(const Want &want, const Item &item)
{
    if (!want.number || (item.floating ? !want.floating || want.size != 4 : !want.integer))
        return false;
    int64_t value = static_cast<int64_t>(item.value);
    if (want.size == 2)
        return value >= INT16_MIN && value <= UINT16_MAX;
    return want.size == 8 || (value >= INT32_MIN && value <= UINT32_MAX);
}

bool Binder::bind_value(char wanted, const Item &item)
{
    for (const Want &want : WANTS) {
        if (want.kind != wanted)
            continue;
        if (item.kind == Item::reg) {
            bound_.push_back(item.place);
            return item.size == want.size && fits_type(want, item.type);
        }
        if (item.kind == Item::symbol && (wanted == 'M' || (wanted == 'm' && item.shared))) {
            bound_.push_back(item.place ? item.place : constant(item.value));
            return true;
        }
        if (item.kind != Item::number || !fits_number(want, item))
            return false;
        bound_.push_back(constant(item.value));
        return true;
    }
    return false;
}

bool Binder::bind_address(char wanted, const Item &item)
{
    if (item.kind == Item::reg) {
        bool fits = item.type != Type::predicate && item.type != Type::floating &&
                    (item.size == 8 ? wanted != 's' : item.size == 4 && wanted == 's');
        bound_.push_back(item.place);
        bound_.push_back(item.offset);
        return fits;
    }
    if (item.kind != Item::symbol || item.shared != (wanted == 's') || wanted == 'g')
        return false;
    bound_.push_back(item.place ? item.place : constant(item.value));
    bound_.push_back(item.offset);
    return true;
}

bool Binder::bind(char wanted, const Item &item)
{
    switch (wanted) {
    case 'p':
        if (item.kind == Item::number && item.value <= 1) {
            bound_.push_back(constant(item.value));
            return true;
        }
        bound_.push_back(item.place);
        return item.kind == Item::reg && item.type == Type::predicate;
    case 'P':
        bound_.push_back(item.place);
        return item.kind == Item::reg && item.type == Type::predicate;
    case 'g':
    case 's':
    case 'a':
        return bind_address(wanted, item);
    case 'n':
        bound_.push_back(static_cast<int32_t>(item.value));
        return item.kind == Item::number && !item.floating && item.value <= INT32_MAX;
    case '0':
    case '1':
        return item.kind == Item::number && item.value == static_cast<uint64_t>(wanted - '0');
    case 'T':
        labels_.emplace_back(bound_.size(), item.text);
        bound_.push_back(0);
        return item.kind == Item::name;
    case '_':
        return item.kind == Item::sink;
    default:
        return item.kind == Item::mark ? item.character == wanted : bind_value(wanted, item);
    }
}

bool Binder::fits(const Opcode &opcode, const Statement &statement)
{
    bound_.clear();
    labels_.clear();
    size_t count = opcode.signature.size();
    if (count && opcode.signature.back() == 'W')
        count--;
    if (statement.items.size() != count)
        return false;
    for (size_t i = 0; i < count; i++)
        if (!bind(opcode.signature[i], statement.items[i]))
            return false;
    return true;
}

/* ---- Products ---- */

static GroupProduct read_product(const std::string &signature, const std::vector<int32_t> &bound)
{
    GroupProduct product = {};
    for (size_t i = 0, at = 0; i < signature.size(); i++) {
        if (signature[i] == 'C')
            product.c.push_back(bound[at++]);
        else if (signature[i] == 'u')
            product.a.push_back(bound[at++]);
        else if (signature[i] == 'q' || signature[i] == 'p')
            at++;
    }
    product.n = static_cast<uint32_t>(product.c.size()) * 2;
    return product;
}

/* Products on the same registers, in the same order, share them. */
void Binder::add_product(size_t first)
{
    GroupProduct product = read_product(program_.code.back().opcode->signature, bound_);
    const GroupProduct *other = nullptr;
    for (const GroupProduct &p : program_.products)
        if (p.c == product.c)
            other = &p;
    product.first = !other;
    product.list = other ? other->list : program_.lists++;
    product.c_copy = other ? other->c_copy : program_.copies;
    if (!other)
        program_.copies += static_cast<uint32_t>(product.c.size());
    product.a_copy = program_.copies;
    program_.copies += static_cast<uint32_t>(product.a.size());
    program_.operands[first + bound_.size()] = static_cast<int32_t>(program_.products.size());
    program_.products.push_back(std::move(product));
}

/* ---- Statements ---- */

void Binder::add(const Statement &statement, size_t scope)
{
    static const Index index = make_index();
    auto range = index.equal_range(statement.opcode);
    if (range.first == range.second)
        words_.fail(statement.line, "unknown instruction " + std::string(statement.opcode));
    auto found = std::find_if(range.first, range.second, [&](const Index::value_type &entry) {
        return fits(*entry.second, statement);
    });
    if (found == range.second)
        words_.fail(statement.line, "the operands do not fit " + std::string(statement.opcode));
    const Opcode *opcode = found->second;
    size_t first = program_.operands.size();
    program_.operands.insert(program_.operands.end(), bound_.begin(), bound_.end());
    program_.operands.push_back(0);
    starts_.push_back(first);
    for (const auto &label : labels_)
        jumps_.push_back({first + label.first, scope, label.second, statement.line});
    program_.code.push_back({opcode->run, nullptr, statement.guard, statement.line, opcode});
    if (!opcode->signature.empty() && opcode->signature.back() == 'W')
        add_product(first);
}

void Binder::finish(const std::vector<Scope> &scopes)
{
    for (const Jump &jump : jumps_) {
        size_t scope = jump.scope;
        while (!scopes[scope].labels.count(jump.label) && scope != scopes[scope].parent)
            scope = scopes[scope].parent;
        auto found = scopes[scope].labels.find(jump.label);
        if (found == scopes[scope].labels.end())
            words_.fail(jump.line, "no label " + std::string(jump.label));
        program_.operands[jump.operand] = static_cast<int32_t>(found->second);
    }
    for (size_t i = 0; i < program_.code.size(); i++)
        program_.code[i].o = &program_.operands[starts_[i]];
}

} // namespace ptx
} // namespace simulator
