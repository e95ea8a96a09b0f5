/* SPDX-License-Identifier: MIT
 *
 * Stacks that take turns on one OS thread. */
#ifndef DRAFT_TESTS_SIMULATOR_FIBRE_H
#define DRAFT_TESTS_SIMULATOR_FIBRE_H

#include <cstddef>

namespace simulator
{

/* Stacks for `count` fibres; the pages of those that are never used cost nothing. */
class FibreStacks
{
  public:
    explicit FibreStacks(size_t count);
    ~FibreStacks();
    FibreStacks(const FibreStacks &) = delete;
    FibreStacks &operator=(const FibreStacks &) = delete;

    /* A fibre that will call run() when it is first switched to; run must not return. */
    void *start(size_t index, void (*run)());

  private:
    unsigned char *memory_;
    size_t count_;
};

/* Leave this stack, whose pointer goes to *from, and go on where `to` stopped. */
void fibre_switch(void **from, void *to);

} // namespace simulator

#endif
