/* SPDX-License-Identifier: MIT
 *
 * The structure of a text: arrays, kernels, scopes, statements. What is not known is an error. */
#include "ptx_parse.h"

#include <algorithm>
#include <set>

#include "shared.h"

namespace simulator
{
namespace ptx
{

static constexpr uint32_t ARRAY_ALIGNMENT = 16, DYNAMIC_ALIGNMENT = 128;

struct Declared {
    std::string_view name;
    uint32_t size;
};

struct Parameter {
    std::string_view name;
    uint32_t size, place;
};

class Parser
{
  public:
    Parser(const std::string &file, const std::string &text) : file_(file), words_(file, text)
    {
    }
    std::vector<std::unique_ptr<Program>> run();

  private:
    void top_level();
    Declared array();
    void kernel();
    void parameter();
    void bounds();
    void scope(size_t parent);
    void statement(size_t scope);
    void directive(size_t scope);
    void declare_registers(size_t scope);
    void pragma();
    void instruction(size_t scope);
    void operand(size_t scope);
    void list(size_t scope, char open, char close);
    void address(size_t scope);
    Item value(size_t scope);
    Item named(size_t scope, std::string_view name);
    bool find_register(size_t scope, std::string_view name, Item &item) const;
    bool find_symbol(std::string_view name, Item &item);
    int32_t guard(size_t scope);

    std::string file_;
    Words words_;
    std::vector<Declared> arrays_; /* of the whole text */
    std::string_view dynamic_;
    std::vector<std::unique_ptr<Program>> programs_;
    /* Of the kernel: */
    std::unique_ptr<Program> program_;
    std::unique_ptr<Binder> binder_;
    std::vector<Scope> scopes_;
    std::vector<Declared> own_arrays_;
    std::vector<Parameter> params_;
    uint32_t params_end_ = 0, arrays_end_ = 0;
    Statement statement_;
};

/* ---- Types ---- */

struct TypeName {
    const char *name;
    Type type;
    uint32_t size;
};

static const TypeName TYPES[] = {
    {".pred", Type::predicate, 4}, {".b8", Type::bits, 1},      {".b16", Type::bits, 2},
    {".b32", Type::bits, 4},       {".b64", Type::bits, 8},     {".u8", Type::integer, 1},
    {".u16", Type::integer, 2},    {".s16", Type::integer, 2},  {".u32", Type::integer, 4},
    {".s32", Type::integer, 4},    {".u64", Type::integer, 8},  {".s64", Type::integer, 8},
    {".f32", Type::floating, 4},   {".f64", Type::floating, 8},
};

static const TypeName &type_of(Words &words)
{
    std::string_view word = words.take();
    for (const TypeName &type : TYPES)
        if (word == type.name)
            return type;
    words.fail("unknown type " + std::string(word));
}

/* ---- Declarations ---- */

std::vector<std::unique_ptr<Program>> Parser::run()
{
    while (!words_.at_end())
        top_level();
    return std::move(programs_);
}

void Parser::top_level()
{
    std::string_view word = words_.take();
    if (word == ".version" || word == ".target" || word == ".address_size") {
        words_.take();
        return;
    }
    if (word == ".visible" || word == ".weak")
        word = words_.take();
    if (word == ".entry") {
        kernel();
    } else if (word == ".extern" && words_.take() == ".shared") {
        dynamic_ = array().name;
    } else if (word == ".shared") {
        arrays_.push_back(array());
    } else {
        words_.fail("unknown declaration " + std::string(word));
    }
}

/* Behind .shared or .param. Size 0: what the launch says. */
Declared Parser::array()
{
    uint64_t alignment = 0, count = 1;
    bool extent = false;
    if (words_.now() == ".align") {
        words_.take();
        alignment = words_.number();
    }
    uint32_t size = type_of(words_).size;
    std::string_view name = words_.name();
    alignment = alignment ? alignment : size;
    while (words_.accept('[')) {
        count *= words_.at(']') ? 0 : words_.number();
        extent = true;
        words_.expect(']');
    }
    uint64_t most = extent && count == 0 ? DYNAMIC_ALIGNMENT : ARRAY_ALIGNMENT;
    if (words_.accept(';') && alignment > most)
        words_.fail("an array aligned to more than " + std::to_string(most) + " bytes");
    if (count * size > UINT32_MAX || alignment > DYNAMIC_ALIGNMENT)
        words_.fail("an array that is not possible");
    if (words_.at(',') || words_.at(')')) /* a parameter */
        params_end_ = static_cast<uint32_t>((params_end_ + alignment - 1) / alignment * alignment);
    return {name, static_cast<uint32_t>(count * size)};
}

void Parser::parameter()
{
    if (words_.take() != ".param")
        words_.fail("a parameter is wanted");
    Declared declared = array();
    params_.push_back({declared.name, declared.size, params_end_});
    program_->params.push_back(declared.size);
    program_->param_places.push_back(params_end_);
    params_end_ += declared.size;
}

void Parser::bounds()
{
    while (!words_.at('{')) {
        std::string_view word = words_.take();
        bool threads = word == ".maxntid";
        if (!threads && word != ".minnctapersm")
            words_.fail("unknown directive " + std::string(word));
        uint64_t product = words_.number();
        while (words_.accept(','))
            product *= words_.number();
        if (threads)
            program_->max_threads = static_cast<uint32_t>(product);
    }
}

static bool goes_nowhere(const std::vector<Instruction> &code)
{
    if (code.empty() || code.back().guard)
        return false;
    const std::string &name = code.back().opcode->name;
    return name == "ret" || name == "bra" || name == "bra.uni";
}

void Parser::kernel()
{
    program_.reset(new Program);
    program_->name = std::string(words_.name());
    program_->file = file_;
    program_->constants.resize(SPECIALS);
    binder_.reset(new Binder(*program_, words_));
    scopes_.clear();
    own_arrays_.clear();
    params_.clear();
    params_end_ = arrays_end_ = 0;
    words_.expect('(');
    while (!words_.accept(')')) {
        parameter();
        words_.accept(',');
    }
    bounds();
    scope(0);
    if (!goes_nowhere(program_->code))
        words_.fail("a kernel that goes on behind its end");
    binder_->finish(scopes_);
    programs_.push_back(std::move(program_));
}

/* ---- Scopes ---- */

void Parser::scope(size_t parent)
{
    size_t number = scopes_.size();
    scopes_.push_back({parent, {}, {}});
    words_.expect('{');
    while (!words_.accept('}')) {
        if (words_.at('{'))
            scope(number);
        else
            statement(number);
    }
}

void Parser::statement(size_t scope)
{
    if (words_.accept(';'))
        return;
    if (words_.now()[0] == '.')
        return directive(scope);
    if (words_.at('@'))
        return instruction(scope);
    Statement &s = statement_;
    s.line = words_.line();
    s.opcode = words_.name();
    s.guard = 0;
    if (words_.accept(':')) {
        uint32_t number = static_cast<uint32_t>(program_->code.size());
        if (!scopes_[scope].labels.emplace(s.opcode, number).second)
            words_.fail("a label for the second time: " + std::string(s.opcode));
        return;
    }
    instruction(scope);
}

void Parser::directive(size_t scope)
{
    std::string_view word = words_.take();
    if (word == ".reg")
        declare_registers(scope);
    else if (word == ".pragma")
        pragma();
    else if (word == ".shared")
        own_arrays_.push_back(array());
    else
        words_.fail("unknown directive " + std::string(word));
}

/* Advice, which changes no result. */
void Parser::pragma()
{
    std::string_view text = words_.take();
    if (text != "\"nounroll\"" && text.substr(0, 16) != "\"used_bytes_mask")
        words_.fail("unknown pragma " + std::string(text));
    words_.expect(';');
}

void Parser::declare_registers(size_t scope)
{
    const TypeName &type = type_of(words_);
    do {
        Registers r = {std::string(words_.name()), type.type, type.size, 0, 0};
        if (words_.accept('<')) {
            r.count = static_cast<uint32_t>(words_.number());
            words_.expect('>');
        }
        uint32_t words = (r.size + 3) / 4;
        r.first = static_cast<int32_t>(program_->places);
        program_->places += words * (r.count ? r.count : 1);
        scopes_[scope].registers.push_back(r);
        program_->registers.push_back(r);
    } while (words_.accept(','));
    words_.expect(';');
}

/* ---- Instructions ---- */

int32_t Parser::guard(size_t scope)
{
    if (!words_.accept('@'))
        return 0;
    bool negative = words_.accept('!');
    Item item = named(scope, words_.name());
    if (item.kind != Item::reg || item.type != Type::predicate)
        words_.fail("a predicate is wanted");
    return negative ? -item.place - 1 : item.place + 1;
}

void Parser::instruction(size_t scope)
{
    Statement &s = statement_;
    if (words_.at('@')) {
        s.line = words_.line();
        s.guard = guard(scope);
        s.opcode = words_.name();
    }
    s.items.clear();
    while (!words_.at(';')) {
        operand(scope);
        if (!words_.at(';')) {
            words_.expect(',');
            if (words_.at(';'))
                words_.fail("an operand is missing");
        }
    }
    words_.take();
    binder_->add(s, scope);
}

static Item make_mark(char c)
{
    Item item = {};
    item.kind = Item::mark;
    item.character = c;
    return item;
}

/* What stands between two commas. */
void Parser::operand(size_t scope)
{
    if (words_.at('{'))
        return list(scope, '{', '}');
    if (words_.at('['))
        return address(scope);
    statement_.items.push_back(value(scope));
    if (words_.accept('|')) {
        statement_.items.push_back(make_mark('|'));
        statement_.items.push_back(value(scope));
    }
}

void Parser::list(size_t scope, char open, char close)
{
    words_.expect(open);
    statement_.items.push_back(make_mark(open));
    do
        statement_.items.push_back(value(scope));
    while (words_.accept(','));
    words_.expect(close);
    statement_.items.push_back(make_mark(close));
}

void Parser::address(size_t scope)
{
    words_.expect('[');
    statement_.items.push_back(make_mark('['));
    Item base = value(scope);
    if (words_.accept('+')) {
        int64_t offset = static_cast<int64_t>(words_.number());
        if (offset != static_cast<int32_t>(offset))
            words_.fail("an offset of more than 32 bits");
        base.offset = static_cast<int32_t>(offset);
    }
    statement_.items.push_back(base);
    if (words_.accept(','))
        list(scope, '{', '}');
    words_.expect(']');
    statement_.items.push_back(make_mark(']'));
}

Item Parser::value(size_t scope)
{
    if (!words_.now().empty() && is_name_start(words_.now()[0]))
        return named(scope, words_.take());
    Item item = {};
    item.kind = Item::number;
    item.value = words_.number(&item.floating);
    return item;
}

/* ---- Names ---- */

static bool find_special(std::string_view name, Item &item)
{
    static const char *const NAMES[] = {"%tid.x", "%ctaid.x", "%ntid.x", "%nctaid.x"};
    for (int i = 0; i < DYNAMIC_SHARED; i++)
        if (name == NAMES[i]) {
            item.kind = Item::reg;
            item.type = Type::integer;
            item.size = 4;
            item.place = -2 * (i + 1);
            return true;
        }
    return false;
}

static bool fits_family(const Registers &family, std::string_view name, uint32_t &number)
{
    number = 0;
    if (!family.count || name.size() <= family.prefix.size() ||
        name.compare(0, family.prefix.size(), family.prefix) != 0)
        return !family.count && name == family.prefix;
    for (char c : name.substr(family.prefix.size())) {
        if (c < '0' || c > '9' || number >= family.count)
            return false;
        number = number * 10 + static_cast<uint32_t>(c - '0');
    }
    return number < family.count;
}

bool Parser::find_register(size_t scope, std::string_view name, Item &item) const
{
    for (;; scope = scopes_[scope].parent) {
        for (const Registers &family : scopes_[scope].registers) {
            uint32_t number;
            if (!fits_family(family, name, number))
                continue;
            item.kind = Item::reg;
            item.type = family.type;
            item.size = family.size;
            item.place = family.first + static_cast<int32_t>(number * ((family.size + 3) / 4));
            return true;
        }
        if (scope == scopes_[scope].parent)
            return false;
    }
}

/* An array gets its place with its first use, as kernels use few of those of a text. */
bool Parser::find_symbol(std::string_view name, Item &item)
{
    item.kind = Item::symbol;
    for (const Parameter &p : params_)
        if (p.name == name) {
            item.value = PARAMS + p.place;
            return true;
        }
    item.shared = true;
    if (name == dynamic_) {
        item.place = -2 * (DYNAMIC_SHARED + 1);
        return true;
    }
    for (const SharedArray &a : program_->arrays)
        if (a.name == name) {
            item.value = SharedMemory::BASE + a.offset;
            return true;
        }
    for (const std::vector<Declared> *all : {&own_arrays_, &arrays_})
        for (const Declared &d : *all)
            if (d.name == name) {
                item.value = SharedMemory::BASE + arrays_end_;
                program_->arrays.push_back({std::string(name), d.size, arrays_end_});
                arrays_end_ += (d.size + ARRAY_ALIGNMENT - 1) / ARRAY_ALIGNMENT * ARRAY_ALIGNMENT;
                return true;
            }
    return false;
}

Item Parser::named(size_t scope, std::string_view name)
{
    Item item = {};
    item.text = name;
    if (name == "_")
        item.kind = Item::sink;
    else if (!find_special(name, item) && !find_register(scope, name, item) &&
             !find_symbol(name, item)) {
        if (name[0] == '%')
            words_.fail("no register " + std::string(name));
        item = {};
        item.kind = Item::name; /* a label, maybe further down */
        item.text = name;
    }
    return item;
}

std::vector<std::unique_ptr<Program>> parse(const std::string &file, const std::string &text)
{
    return Parser(file, text).run();
}

} // namespace ptx
} // namespace simulator
