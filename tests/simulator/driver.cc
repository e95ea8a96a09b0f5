/* SPDX-License-Identifier: MIT
 *
 * The simulated driver's state, what every call checks, and what it says at the end. */
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include <unistd.h>

#include "driver.h"
#include "driver_thread.h"

namespace simulator
{

Driver &driver()
{
    static Driver *s = new Driver; /* lives as long as the process */
    return *s;
}

bool valid(const void *handle, Kind kind)
{
    auto found = driver().handles.find(handle);
    return found != driver().handles.end() && found->second == kind;
}

CUresult complain(CUresult code, const char *format, ...)
{
    const char *name = "?";
    cuGetErrorName(code, &name);
    va_list list;
    va_start(list, format);
    fprintf(stderr, "simulator: %s: ", name);
    vfprintf(stderr, format, list);
    fprintf(stderr, "\n");
    va_end(list);
    return code;
}

ThreadContexts &thread_contexts()
{
    thread_local ThreadContexts contexts;
    return contexts;
}

/* Who pushes a context onto a thread must pop it: the thread was somebody else's. */
ThreadContexts::~ThreadContexts()
{
    Driver &s = driver();
    std::lock_guard<std::mutex> lock(s.mutex);
    for (const Entry &e : stack)
        if (e.pushed)
            s.leaks.push_back("a thread ended with a context that was pushed and not popped");
}

namespace
{

/* The mode of a capture says which threads must not make unsafe calls while it lasts. */
CUresult check_captures()
{
    CUresult result = CUDA_SUCCESS;
    for (auto &capture : driver().captures) {
        bool mine = capture->thread == std::this_thread::get_id();
        if (capture->mode == CU_STREAM_CAPTURE_MODE_GLOBAL ||
            (capture->mode == CU_STREAM_CAPTURE_MODE_THREAD_LOCAL && mine)) {
            invalidate(*capture);
            result = CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
        }
    }
    if (result)
        complain(result, "a call that is not allowed while a stream is captured");
    return result;
}

CUresult check(Rule rule, CUcontext *context)
{
    Driver &s = driver();
    if (!s.initialised)
        return CUDA_ERROR_NOT_INITIALIZED;
    if (s.process != getpid())
        return complain(CUDA_ERROR_NOT_INITIALIZED, "the driver does not survive fork");
    ThreadContexts &current = thread_contexts();
    *context = current.stack.empty() ? nullptr : current.stack.back().context;
    if (rule == ANYTIME)
        return CUDA_SUCCESS;
    if (!*context)
        return complain(CUDA_ERROR_INVALID_CONTEXT, "no context is current to this thread");
    if (!valid(*context, CONTEXT))
        return complain(CUDA_ERROR_CONTEXT_IS_DESTROYED, "the current context was destroyed");
    if ((*context)->failed)
        return (*context)->failed;
    return rule == UNSAFE ? check_captures() : CUDA_SUCCESS;
}

const char *const NAMES[KINDS] = {"context",  "stream", "event",           "module",
                                  "function", "graph",  "executable graph"};

/* What is still there when the process ends is a leak. */
__attribute__((destructor)) void at_end()
{
    Driver &s = driver();
    const char *mode = getenv("DRAFT_SIMULATOR_LEAKS");
    if (!s.initialised || s.process != getpid() || (mode && !strcmp(mode, "ignore")))
        return;
    for (auto &h : s.handles)
        if (h.second == GRAPH || h.second == EXEC)
            s.leaks.push_back(std::string("an object was not destroyed: ") + NAMES[h.second]);
    std::vector<CUcontext> contexts;
    for (auto &h : s.handles)
        if (h.second == CONTEXT)
            contexts.push_back(static_cast<CUcontext>(const_cast<void *>(h.first)));
    for (CUcontext c : contexts) {
        if (c->failed)
            continue;
        s.leaks.push_back(c->primary ? "a primary context was not released"
                                     : "a context was not destroyed");
        for (CUstream stream : c->streams)
            stream->queue.clear(); /* too late to run anything */
        destroy(c);
    }
    for (const std::string &leak : s.leaks)
        fprintf(stderr, "simulator: leak: %s\n", leak.c_str());
    if (!s.leaks.empty()) {
        fflush(nullptr);
        _exit(99);
    }
}

} // namespace

Call::Call(Rule rule) : result(CUDA_SUCCESS), lock(driver().mutex)
{
    result = check(rule, &context);
}

} // namespace simulator

const char *draft_simulator_report(void)
{
    return simulator::driver().report.c_str();
}
