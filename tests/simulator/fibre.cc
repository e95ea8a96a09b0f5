/* SPDX-License-Identifier: MIT */
#include "fibre.h"

#include <cstdint>
#include <cstdlib>
#include <sys/mman.h>

namespace simulator
{

/* Kernels are shallow, but the faults that they run into format text. The lowest page is a guard.
 * Stacks begin a few cache lines apart from each other within their pages, and in pages of all
 * colours: were they all alike, the few lines that fibres use would share a few sets of the caches.
 */
static constexpr size_t PAGE = 4096, LINE = 64, STACK_SIZE = 17 * PAGE, GUARD = PAGE;
static constexpr size_t STEP =
    11 * LINE; /* an odd number of lines: all of a page come to be used */

/* Registers that a function must preserve go onto the old stack and come from the new one. */
#if defined(__x86_64__)
asm(".text\n"
    ".globl draft_fibre_switch\n.hidden draft_fibre_switch\n"
    ".type draft_fibre_switch, @function\n"
    "draft_fibre_switch:\n"
    "    pushq %rbp\n    pushq %rbx\n    pushq %r12\n    pushq %r13\n    pushq %r14\n"
    "    pushq %r15\n    movq %rsp, (%rdi)\n    movq %rsi, %rsp\n    popq %r15\n    popq %r14\n"
    "    popq %r13\n    popq %r12\n    popq %rbx\n    popq %rbp\n    ret\n"
    ".size draft_fibre_switch, .-draft_fibre_switch\n");
enum { SAVED = 6, RETURN_SLOT = 6, FRAME = 8 };
#elif defined(__aarch64__)
asm(".text\n"
    ".globl draft_fibre_switch\n.hidden draft_fibre_switch\n"
    ".type draft_fibre_switch, %function\n"
    "draft_fibre_switch:\n"
    "    sub sp, sp, #160\n    stp x19, x20, [sp]\n    stp x21, x22, [sp, #16]\n"
    "    stp x23, x24, [sp, #32]\n    stp x25, x26, [sp, #48]\n    stp x27, x28, [sp, #64]\n"
    "    stp x29, x30, [sp, #80]\n    stp d8, d9, [sp, #96]\n    stp d10, d11, [sp, #112]\n"
    "    stp d12, d13, [sp, #128]\n    stp d14, d15, [sp, #144]\n    mov x2, sp\n"
    "    str x2, [x0]\n    mov sp, x1\n    ldp x19, x20, [sp]\n    ldp x21, x22, [sp, #16]\n"
    "    ldp x23, x24, [sp, #32]\n    ldp x25, x26, [sp, #48]\n    ldp x27, x28, [sp, #64]\n"
    "    ldp x29, x30, [sp, #80]\n    ldp d8, d9, [sp, #96]\n    ldp d10, d11, [sp, #112]\n"
    "    ldp d12, d13, [sp, #128]\n    ldp d14, d15, [sp, #144]\n    add sp, sp, #160\n    ret\n"
    ".size draft_fibre_switch, .-draft_fibre_switch\n");
enum { SAVED = 20, RETURN_SLOT = 11, FRAME = 20 };
#else
#error "no switch of stacks for this processor yet"
#endif

extern "C" void draft_fibre_switch(void **from, void *to);

void fibre_switch(void **from, void *to)
{
    draft_fibre_switch(from, to);
}

FibreStacks::FibreStacks(size_t count) : count_(count)
{
    void *memory = mmap(nullptr, count * STACK_SIZE, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED)
        abort();
    memory_ = static_cast<unsigned char *>(memory);
    for (size_t i = 0; i < count; i++)
        mprotect(memory_ + i * STACK_SIZE, GUARD, PROT_NONE);
}

FibreStacks::~FibreStacks()
{
    munmap(memory_, count_ * STACK_SIZE);
}

/* The stack as if run() had been about to begin: saved registers, then where to go. */
void *FibreStacks::start(size_t index, void (*run)())
{
    uintptr_t top = reinterpret_cast<uintptr_t>(memory_ + (index + 1) * STACK_SIZE);
    top -= index * STEP % PAGE;
    uint64_t *frame = reinterpret_cast<uint64_t *>(top) - FRAME;
    for (int i = 0; i < FRAME; i++)
        frame[i] = 0;
    frame[RETURN_SLOT] = reinterpret_cast<uint64_t>(run);
    return frame;
}

} // namespace simulator
