/* SPDX-License-Identifier: MIT
 *
 * Which registers share a place. nvcc numbers thousands, of which a few hundred are alive at a
 * time: those of all threads of a block then fit a cache. Registers that may be read before they
 * were written, and those of products of warp groups, share none, so that what is said of a place
 * is true of its register. */
#include <algorithm>
#include <cstring>

#include "ptx_program.h"

namespace simulator
{
namespace ptx
{

typedef std::vector<uint64_t> Bits;

static bool has(const Bits &bits, size_t i)
{
    return bits[i / 64] >> i % 64 & 1;
}

static void set(Bits &bits, size_t i)
{
    bits[i / 64] |= 1ull << i % 64;
}

/* Calls visit(index in o, read, written) for each operand that is a register. */
template <class Visit> static void each_register(const Instruction &instruction, const Visit &visit)
{
    int at = 0;
    for (char c : instruction.opcode->signature) {
        if (std::strchr("ufdlqhmMpgsaUFDLQHPCnT", c) == nullptr)
            continue;
        bool written = std::strchr("UFDLQHPC", c) != nullptr;
        bool number = c == 'n' || c == 'T';
        if (!number && instruction.o[at] >= 0)
            visit(at, !written || c == 'C', written);
        at += c == 'g' || c == 's' || c == 'a' ? 2 : 1;
    }
}

static int32_t guard_place(const Instruction &instruction)
{
    return instruction.guard > 0 ? instruction.guard - 1 : -instruction.guard - 1;
}

/* Instructions that follow each other. */
struct Stretch {
    size_t first, end;
    std::vector<size_t> next;
    Bits read, written, alive; /* read: before it is written. alive: at the begin */
};

struct Range {
    int32_t place; /* of the register */
    uint32_t words;
    size_t first, last;
    bool alone;
};

class Places
{
  public:
    explicit Places(Program &program) : program_(program)
    {
    }
    void share();

  private:
    bool jumps(size_t i) const
    {
        const std::string &name = program_.code[i].opcode->name;
        return name == "bra" || name == "bra.uni";
    }
    bool ends(size_t i) const
    {
        return !program_.code[i].guard && (jumps(i) || program_.code[i].opcode->name == "ret");
    }
    void cut();
    void summarise(Stretch &s);
    void find_alive();
    bool spread(Stretch &s);
    void touch(int32_t place, size_t at);
    void measure();
    void set_alone();
    void assign();
    void rename();

    Program &program_;
    std::vector<Stretch> stretches_;
    std::vector<Range> ranges_;     /* [place], of the numbering before */
    std::vector<int32_t> assigned_; /* [place] */
};

void Places::cut()
{
    size_t count = program_.code.size();
    std::vector<size_t> number(count + 1);
    std::vector<char> leads(count + 1);
    for (size_t i = 0; i < count; i++) {
        if (jumps(i))
            leads[static_cast<size_t>(program_.code[i].o[0])] = true;
        if (jumps(i) || ends(i))
            leads[i + 1] = true;
    }
    leads[0] = true;
    for (size_t i = 0; i < count; i++) {
        if (leads[i])
            stretches_.push_back({i, i, {}, {}, {}, {}});
        number[i] = stretches_.size() - 1;
        stretches_.back().end = i + 1;
    }
    for (Stretch &s : stretches_) {
        if (jumps(s.end - 1))
            s.next.push_back(number[static_cast<size_t>(program_.code[s.end - 1].o[0])]);
        if (!ends(s.end - 1))
            s.next.push_back(number[s.end]);
    }
}

/* What is written under a condition may keep its value. */
void Places::summarise(Stretch &s)
{
    for (Bits *bits : {&s.read, &s.written, &s.alive})
        bits->resize(program_.places / 64 + 1);
    for (size_t i = s.first; i < s.end; i++) {
        const Instruction &instruction = program_.code[i];
        auto read = [&](int32_t place) {
            if (!has(s.written, static_cast<size_t>(place)))
                set(s.read, static_cast<size_t>(place));
        };
        if (instruction.guard)
            read(guard_place(instruction));
        each_register(instruction, [&](int at, bool is_read, bool is_written) {
            if (is_read || (is_written && instruction.guard))
                read(instruction.o[at]);
        });
        each_register(instruction, [&](int at, bool, bool is_written) {
            if (is_written && !instruction.guard)
                set(s.written, static_cast<size_t>(instruction.o[at]));
        });
    }
}

/* False: nothing new. */
bool Places::spread(Stretch &s)
{
    bool changed = false;
    for (size_t w = 0; w < s.alive.size(); w++) {
        uint64_t after = 0;
        for (size_t next : s.next)
            after |= stretches_[next].alive[w];
        uint64_t alive = s.read[w] | (after & ~s.written[w]);
        changed |= alive != s.alive[w];
        s.alive[w] = alive;
    }
    return changed;
}

void Places::find_alive()
{
    for (Stretch &s : stretches_)
        summarise(s);
    for (bool changed = true; changed;) {
        changed = false;
        for (size_t i = stretches_.size(); i-- > 0;)
            changed |= spread(stretches_[i]);
    }
}

void Places::touch(int32_t place, size_t at)
{
    Range &range = ranges_[static_cast<size_t>(place)];
    range.first = std::min(range.first, at);
    range.last = std::max(range.last, at);
}

/* From where to where each register is used, or alive. */
void Places::measure()
{
    ranges_.assign(program_.places, {0, 0, SIZE_MAX, 0, false});
    for (const Registers &r : program_.registers)
        for (uint32_t i = 0, words = (r.size + 3) / 4; i < std::max(r.count, 1u); i++) {
            size_t place = static_cast<size_t>(r.first) + i * words;
            ranges_[place].place = static_cast<int32_t>(place);
            ranges_[place].words = words;
        }
    for (size_t i = 0; i < program_.code.size(); i++) {
        const Instruction &instruction = program_.code[i];
        if (instruction.guard)
            touch(guard_place(instruction), i);
        each_register(instruction, [&](int at, bool, bool) { touch(instruction.o[at], i); });
    }
    for (const Stretch &s : stretches_)
        for (size_t p = 0; p < program_.places; p++) {
            if (has(s.alive, p))
                touch(static_cast<int32_t>(p), s.first);
            for (size_t next : s.next)
                if (has(stretches_[next].alive, p))
                    touch(static_cast<int32_t>(p), s.end - 1);
        }
}

void Places::set_alone()
{
    for (size_t p = 0; p < program_.places; p++)
        ranges_[p].alone = has(stretches_[0].alive, p);
    for (const GroupProduct &product : program_.products)
        for (const std::vector<int32_t> *all : {&product.c, &product.a})
            for (int32_t place : *all)
                if (place >= 0)
                    ranges_[static_cast<size_t>(place)].alone = true;
}

/* In the order in which they begin; what has ended gives its place back. */
void Places::assign()
{
    std::vector<const Range *> order, held[3];
    std::vector<int32_t> unused[3];
    for (const Range &range : ranges_)
        if (range.words && range.first != SIZE_MAX)
            order.push_back(&range);
    std::stable_sort(order.begin(), order.end(),
                     [](const Range *a, const Range *b) { return a->first < b->first; });
    assigned_.assign(program_.places, 0);
    uint32_t end = 0;
    for (const Range *range : order) {
        std::vector<const Range *> &active = held[range->words];
        std::vector<int32_t> &free = unused[range->words];
        for (size_t i = 0; i < active.size() && !range->alone; i++)
            if (active[i]->last < range->first) {
                free.push_back(assigned_[static_cast<size_t>(active[i]->place)]);
                active[i--] = active.back();
                active.pop_back();
            }
        int32_t &place = assigned_[static_cast<size_t>(range->place)];
        if (free.empty() || range->alone) {
            place = static_cast<int32_t>(end);
            end += range->words;
        } else {
            place = free.back();
            free.pop_back();
        }
        if (!range->alone)
            active.push_back(range);
    }
    program_.places = end;
}

void Places::rename()
{
    program_.names = program_.operands;
    auto change = [&](int32_t &place) {
        if (place >= 0)
            place = assigned_[static_cast<size_t>(place)];
    };
    for (Instruction &instruction : program_.code) {
        size_t first = static_cast<size_t>(instruction.o - program_.operands.data());
        if (instruction.guard) {
            int32_t place = guard_place(instruction);
            change(place);
            instruction.guard = instruction.guard > 0 ? place + 1 : -place - 1;
        }
        std::vector<size_t> registers;
        each_register(instruction, [&](int at, bool, bool) {
            registers.push_back(first + static_cast<size_t>(at));
        });
        for (size_t at : registers)
            change(program_.operands[at]);
    }
    for (GroupProduct &product : program_.products)
        for (std::vector<int32_t> *all : {&product.c, &product.a})
            for (int32_t &place : *all) {
                int32_t before = place;
                change(place);
                program_.alone[place] = before;
            }
}

void Places::share()
{
    cut();
    find_alive();
    measure();
    set_alone();
    assign();
    rename();
}

void share_places(Program &program)
{
    Places(program).share();
}

/* ---- Names, of the numbering before ---- */

static std::string name_before(const Program &program, int32_t place)
{
    for (const Registers &family : program.registers) {
        int32_t words = static_cast<int32_t>((family.size + 3) / 4);
        int32_t number = (place - family.first) / words;
        int32_t count = static_cast<int32_t>(family.count ? family.count : 1);
        if (place >= family.first && number < count)
            return family.count ? family.prefix + std::to_string(number) : family.prefix;
    }
    return "a number";
}

std::string Program::register_name(int32_t place, const Instruction &in) const
{
    int32_t before = -1;
    size_t first = static_cast<size_t>(in.o - operands.data());
    each_register(in, [&](int at, bool, bool) {
        if (in.o[at] == place)
            before = names[first + static_cast<size_t>(at)];
    });
    auto found = alone.find(place);
    if (before < 0 && found != alone.end())
        before = found->second;
    return before < 0 ? "a predicate" : name_before(*this, before);
}

} // namespace ptx
} // namespace simulator
