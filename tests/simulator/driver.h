/* SPDX-License-Identifier: MIT
 *
 * What the parts of the simulated driver share: its objects, and how work is put off until someone
 * waits for it. */
#ifndef DRAFT_TESTS_SIMULATOR_DRIVER_H
#define DRAFT_TESTS_SIMULATOR_DRIVER_H

#pragma GCC visibility push(default)
#include <cuda.h>
extern "C" {
const char *draft_simulator_report(void); /* of the last fault; "" before */
CUresult cuCtxCreate_v2(CUcontext *out, unsigned flags, CUdevice device);
}
#pragma GCC visibility pop

#include <chrono>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include <sys/types.h>

#include "simulator.h"

namespace simulator
{

constexpr int DEVICES = 8; /* at most; see device_count */

/* The same for all models, or nearly so. */
constexpr unsigned MAX_BLOCK[3] = {1024, 1024, 64}, MAX_GRID[3] = {0x7fffffff, 65535, 65535};
constexpr int MAX_THREADS = 1024, MAX_RESIDENT = 2048, REGISTERS = 65536;
constexpr size_t SHARED_RESERVED = 1024; /* of each block, for the system */

inline size_t shared_per_multiprocessor()
{
    return model().shared_per_block_optin + SHARED_RESERVED;
}

/* From now on memory_allocate is on this device, and memory_find finds only what is there. -1:
 * all memory is the same. memory.cc. */
void memory_use_device(int device);

/* What a stream does when its turn comes. False: a fault, with its description in *report. A graph
 * runs it many times. */
typedef std::function<bool(std::string *report)> Task;

struct Work {
    uint64_t order; /* of the call, counted over all streams */
    Task task;
};

/* A capture under way. Streams join by waiting for an event that was recorded in it. */
struct Capture {
    CUcontext context;
    CUstream origin;
    CUstreamCaptureMode mode;
    std::thread::id thread;
    bool invalid = false;
    std::vector<Task> nodes;
    struct Branch {
        size_t nodes = 0;
        bool loose = true; /* nothing that leads back to the origin waits for its end */
    };
    std::map<CUstream, Branch> branches; /* streams other than the origin */
};

/* One call of cuEventRecord. */
struct Record {
    CUstream stream = nullptr;
    uint64_t order = 0;
    bool done = false;
    std::chrono::steady_clock::time_point time;
    std::shared_ptr<Capture> capture; /* recorded in a capture, after so many nodes of the stream */
    size_t nodes = 0;
};

enum Kind { CONTEXT, STREAM, EVENT, MODULE, FUNCTION, GRAPH, EXEC, KINDS };

/* Everything the driver holds. Objects stay where they are when they are destroyed, so that no
 * handle is ever given twice. */
struct Driver {
    std::mutex mutex; /* held by every function of the driver to its end */
    bool initialised = false;
    pid_t process = 0; /* that called cuInit */
    std::map<const void *, Kind> handles;
    std::vector<std::shared_ptr<void>> objects;
    CUcontext primary[DEVICES] = {};
    unsigned retained[DEVICES] = {};
    size_t used[DEVICES] = {}; /* bytes of memory */
    std::map<uint64_t, std::pair<CUcontext, size_t>> allocations;
    std::map<uintptr_t, std::pair<CUcontext, size_t>> pinned; /* host memory */
    std::set<std::shared_ptr<Capture>> captures;
    std::vector<std::string> leaks;
    std::string report;
    uint64_t order = 0;
};
Driver &driver();

/* Registers an object that was made with new. */
template <class T> T *adopt(T *object, Kind kind)
{
    driver().objects.push_back(std::shared_ptr<T>(object));
    driver().handles[object] = kind;
    return object;
}

bool valid(const void *handle, Kind kind);

/* A call of the driver: holds its lock, and finds the current context. */
enum Rule {
    ANYTIME,
    SAFE,   /* needs a current context that no fault has stopped               */
    UNSAFE, /* the same, and breaks a capture that forbids it                  */
};
class Call
{
  public:
    explicit Call(Rule rule);
    CUcontext context = nullptr;
    CUresult result;

  private:
    std::lock_guard<std::mutex> lock;
};

/* Says on stderr what is wrong with a call; returns the code. */
CUresult complain(CUresult code, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* ---- Contexts: driver_device.cc ---- */

/* Waits, and reports what was not freed before. */
void destroy(CUcontext context);

/* ---- Streams: driver_stream.cc ---- */

/* The stream that a handle means; it must belong to the current context. */
CUresult find_stream(CUcontext context, CUstream handle, CUstream *out);
CUstream create_stream(CUcontext context, bool legacy, bool blocking);
/* Into the queue, or into the graph that is being captured. */
CUresult submit(CUstream stream, Task task);
/* Runs what was submitted to the stream up to that call, and all that must come before it. */
CUresult run_stream(CUstream stream, uint64_t until = UINT64_MAX);
CUresult run_all(CUcontext context);
/* A capture has met a call that it cannot hold. */
void invalidate(Capture &capture);
/* It is over, whatever became of it. */
void drop_capture(std::shared_ptr<Capture> capture);

} // namespace simulator

struct CUctx_st {
    int device;
    bool primary;
    CUresult failed; /* what every call says after a fault */
    CUstream legacy;
    std::set<CUstream> streams; /* destroyed ones too until they are empty */
};

struct CUstream_st {
    CUcontext context;
    bool legacy, blocking;
    std::deque<simulator::Work> queue;
    std::shared_ptr<simulator::Capture> capture;
};

struct CUevent_st {
    CUcontext context;
    unsigned flags;
    std::shared_ptr<simulator::Record> record;
};

struct CUmod_st {
    CUcontext context;
    std::map<std::string, CUfunction> functions;
};

struct CUfunc_st {
    CUmodule module;
    const simulator::Kernel *kernel;
    size_t dynamic; /* bytes of shared memory that a launch may ask for */
};

struct CUgraph_st {
    std::shared_ptr<std::vector<simulator::Task>> nodes;
};

struct CUgraphExec_st {
    CUcontext context; /* of the first launch's stream; nullptr before */
    std::shared_ptr<std::vector<simulator::Task>> nodes;
};

#endif
