/* SPDX-License-Identifier: MIT
 *
 * The words of a text of PTX. */
#ifndef DRAFT_TESTS_SIMULATOR_PTX_TEXT_H
#define DRAFT_TESTS_SIMULATOR_PTX_TEXT_H

#include <cstdint>
#include <string>
#include <string_view>

namespace simulator
{
namespace ptx
{

/* One word after the other; the current one is looked at without taking it. A word is a name, a
 * number, an opcode with all its modifiers, what stands in quotes, or a single other character. */
class Words
{
  public:
    /* The text must stay. */
    Words(const std::string &file, const std::string &text);

    std::string_view now() const
    {
        return now_;
    }
    bool at_end() const
    {
        return now_.empty();
    }
    bool at(char c) const
    {
        return now_.size() == 1 && now_[0] == c;
    }
    std::string_view take();
    /* Takes the character where it comes. */
    bool accept(char c);
    void expect(char c);
    std::string_view name();
    /* With its sign. Bits of a float where it is one: *floating. */
    uint64_t number(bool *floating = nullptr);
    uint32_t line() const
    {
        return line_;
    }
    [[noreturn]] void fail(const std::string &what) const;
    [[noreturn]] void fail(uint32_t line, const std::string &what) const;

  private:
    void skip_blanks();

    std::string file_;
    std::string_view text_, now_;
    size_t at_ = 0;
    uint32_t line_ = 1;
};

inline bool is_name_start(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || c == '$' || c == '%';
}

} // namespace ptx
} // namespace simulator

#endif
