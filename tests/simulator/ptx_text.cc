/* SPDX-License-Identifier: MIT */
#include "ptx_text.h"

#include <cctype>
#include <cstdlib>

#include "ptx_program.h"

namespace simulator
{
namespace ptx
{

static bool is_word(char c)
{
    return std::isalnum(static_cast<unsigned char>(c)) || c == '_' || c == '$' || c == '%' ||
           c == '.';
}

Words::Words(const std::string &file, const std::string &text) : file_(file), text_(text)
{
    take();
}

void Words::fail(uint32_t line, const std::string &what) const
{
    throw Error(file_ + ":" + std::to_string(line) + ": " + what);
}

void Words::fail(const std::string &what) const
{
    fail(line_, what);
}

void Words::skip_blanks()
{
    while (at_ < text_.size()) {
        if (text_[at_] == '\n') {
            line_++;
            at_++;
        } else if (std::isspace(static_cast<unsigned char>(text_[at_]))) {
            at_++;
        } else if (text_.compare(at_, 2, "//") == 0) {
            at_ = std::min(text_.find('\n', at_), text_.size());
        } else {
            return;
        }
    }
}

std::string_view Words::take()
{
    std::string_view taken = now_;
    skip_blanks();
    size_t first = at_;
    if (at_ < text_.size() && text_[at_] == '"') {
        at_ = text_.find('"', at_ + 1);
        if (at_ == std::string_view::npos)
            fail("a quote that does not end");
        at_++;
    } else if (at_ < text_.size() && is_word(text_[at_])) {
        while (at_ < text_.size() && (is_word(text_[at_]) || text_.compare(at_, 2, "::") == 0 ||
                                      (text_[at_] == ':' && text_[at_ - 1] == ':')))
            at_++;
    } else if (at_ < text_.size()) {
        at_++;
    }
    now_ = text_.substr(first, at_ - first);
    return taken;
}

bool Words::accept(char c)
{
    if (!at(c))
        return false;
    take();
    return true;
}

void Words::expect(char c)
{
    if (!accept(c))
        fail(std::string("'") + c + "' is wanted where '" + std::string(now_) + "' stands");
}

std::string_view Words::name()
{
    if (now_.empty() || !is_name_start(now_[0]))
        fail("a name is wanted where '" + std::string(now_) + "' stands");
    return take();
}

uint64_t Words::number(bool *floating)
{
    bool negative = accept('-');
    std::string word(take());
    bool is_float = word.size() == 10 && word[0] == '0' && (word[1] == 'f' || word[1] == 'F');
    char *end;
    uint64_t value = std::strtoull(word.c_str() + (is_float ? 2 : 0), &end, is_float ? 16 : 0);
    while (*end == 'U' && !is_float)
        end++;
    if (word.empty() || *end || (is_float && negative))
        fail("a number is wanted where '" + word + "' stands");
    if (floating)
        *floating = is_float;
    return negative ? 0 - value : value;
}

} // namespace ptx
} // namespace simulator
