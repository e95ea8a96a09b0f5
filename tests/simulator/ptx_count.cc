/* SPDX-License-Identifier: MIT */
#include "ptx_count.h"

#include <cstdio>
#include <cstdlib>
#include <map>
#include <mutex>

namespace simulator
{
namespace ptx
{

/* Of all OS threads. Written out when the process ends. */
class Counts
{
  public:
    explicit Counts(const char *file) : file_(file)
    {
    }
    ~Counts();
    uint64_t *add(const Program &program)
    {
        std::lock_guard<std::mutex> lock(mutex_);
        all_.push_back({&program, std::vector<uint64_t>(program.code.size())});
        return all_.back().counts.data();
    }

  private:
    struct Count {
        const Program *program;
        std::vector<uint64_t> counts;
    };
    const char *file_;
    std::mutex mutex_;
    std::vector<Count> all_;
};

Counts::~Counts()
{
    std::map<std::pair<std::string, std::string>, uint64_t> sums;
    for (const Count &c : all_)
        for (size_t i = 0; i < c.counts.size(); i++)
            if (c.counts[i])
                sums[{c.program->name, c.program->code[i].opcode->name}] += c.counts[i];
    FILE *file = sums.empty() ? nullptr : std::fopen(file_, "a");
    if (!file)
        return;
    for (const auto &sum : sums)
        std::fprintf(file, "%s %s %llu\n", sum.first.first.c_str(), sum.first.second.c_str(),
                     static_cast<unsigned long long>(sum.second));
    std::fclose(file);
}

uint64_t *counts_of(const Program &program)
{
    static const char *const file = std::getenv("DRAFT_SIMULATOR_COUNTS");
    if (!file)
        return nullptr;
    static Counts counts(file);
    static thread_local std::map<const Program *, uint64_t *> own;
    uint64_t *&mine = own[&program];
    if (!mine)
        mine = counts.add(program);
    return mine;
}

} // namespace ptx
} // namespace simulator
