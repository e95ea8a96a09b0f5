/* SPDX-License-Identifier: MIT
 *
 * Streams and events. Work waits in its stream until someone waits for it: a program that forgets
 * to do so sees what was there before. */
#include <cstdio>

#include "driver.h"

namespace simulator
{

CUresult find_stream(CUcontext context, CUstream handle, CUstream *out)
{
    if (!handle || handle == CU_STREAM_LEGACY) {
        *out = context->legacy;
        return CUDA_SUCCESS;
    }
    if (!valid(handle, STREAM))
        return complain(CUDA_ERROR_INVALID_HANDLE, "not a stream, or one that was destroyed");
    if (handle->context != context)
        return complain(CUDA_ERROR_INVALID_HANDLE, "the stream is not of the current context");
    *out = handle;
    return CUDA_SUCCESS;
}

CUstream create_stream(CUcontext context, bool legacy, bool blocking)
{
    CUstream s = adopt(new CUstream_st{context, legacy, blocking, {}, nullptr}, STREAM);
    context->streams.insert(s);
    return s;
}

namespace
{

CUresult fail(CUcontext context, const std::string &report)
{
    Driver &s = driver();
    s.report = report;
    context->failed = CUDA_ERROR_LAUNCH_FAILED;
    fprintf(stderr, "simulator: fault: %s\n", report.c_str());
    for (CUstream stream : context->streams)
        stream->queue.clear();
    return context->failed;
}

} // namespace

CUresult submit(CUstream stream, Task task)
{
    if (stream->capture) {
        Capture &c = *stream->capture;
        if (c.invalid)
            return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
        c.nodes.push_back(task);
        if (stream != c.origin) {
            c.branches[stream].nodes++;
            c.branches[stream].loose = true;
        }
        return CUDA_SUCCESS;
    }
    if (stream->legacy)
        for (auto &capture : driver().captures)
            if (capture->context == stream->context && capture->origin->blocking) {
                invalidate(*capture);
                return complain(CUDA_ERROR_STREAM_CAPTURE_IMPLICIT,
                                "work for the legacy stream, which waits for a captured one");
            }
    stream->queue.push_back({++driver().order, task});
    return CUDA_SUCCESS;
}

/* The legacy stream and the blocking ones run in the order of the calls, as far as one of them
 * waits for the other. Each step goes back in that order, so this ends. */
CUresult run_stream(CUstream stream, uint64_t until)
{
    CUcontext context = stream->context;
    while (!context->failed && !stream->queue.empty() && stream->queue.front().order <= until) {
        uint64_t order = stream->queue.front().order;
        if (stream->legacy) {
            std::set<CUstream> streams = context->streams;
            for (CUstream other : streams)
                if (other->blocking && !other->legacy)
                    run_stream(other, order - 1);
        } else if (stream->blocking)
            run_stream(context->legacy, order - 1);
        if (context->failed)
            break;
        Task task = stream->queue.front().task;
        stream->queue.pop_front();
        std::string report;
        memory_use_device(context->device);
        if (!task(&report))
            return fail(context, report);
    }
    return context->failed;
}

CUresult run_all(CUcontext context)
{
    std::set<CUstream> streams = context->streams;
    for (CUstream stream : streams) {
        run_stream(stream);
        if (stream->queue.empty() && !valid(stream, STREAM))
            context->streams.erase(stream);
    }
    return context->failed;
}

} // namespace simulator

using namespace simulator;

/* ---- Streams ---- */

CUresult cuStreamCreate(CUstream *out, unsigned flags)
{
    Call call(SAFE);
    if (call.result)
        return call.result;
    if (!out || (flags & ~(unsigned)CU_STREAM_NON_BLOCKING))
        return CUDA_ERROR_INVALID_VALUE;
    *out = create_stream(call.context, false, !(flags & CU_STREAM_NON_BLOCKING));
    return CUDA_SUCCESS;
}

/* What is queued is done all the same. */
CUresult cuStreamDestroy_v2(CUstream handle)
{
    Call call(SAFE);
    CUstream stream = nullptr;
    CUresult r = call.result ? call.result : find_stream(call.context, handle, &stream);
    if (r)
        return r;
    if (stream->legacy)
        return complain(CUDA_ERROR_INVALID_HANDLE, "the legacy stream is not to be destroyed");
    if (stream->capture)
        drop_capture(stream->capture);
    driver().handles.erase(stream);
    if (stream->queue.empty())
        stream->context->streams.erase(stream);
    return CUDA_SUCCESS;
}

namespace
{

CUresult captured(CUstream stream, const char *name)
{
    invalidate(*stream->capture);
    return complain(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, "%s of a stream that is captured", name);
}

} // namespace

CUresult cuStreamSynchronize(CUstream handle)
{
    Call call(SAFE);
    CUstream stream = nullptr;
    CUresult r = call.result ? call.result : find_stream(call.context, handle, &stream);
    if (r)
        return r;
    return stream->capture ? captured(stream, "cuStreamSynchronize") : run_stream(stream);
}

/* Each query brings the stream on by one piece of work, so that who polls comes to an end. */
CUresult cuStreamQuery(CUstream handle)
{
    Call call(SAFE);
    CUstream stream = nullptr;
    CUresult r = call.result ? call.result : find_stream(call.context, handle, &stream);
    if (r)
        return r;
    if (stream->capture)
        return captured(stream, "cuStreamQuery");
    if (stream->queue.empty())
        return CUDA_SUCCESS;
    r = run_stream(stream, stream->queue.front().order);
    return r ? r : CUDA_ERROR_NOT_READY;
}

CUresult cuStreamGetCtx(CUstream handle, CUcontext *out)
{
    Call call(SAFE);
    if (call.result)
        return call.result;
    if (!handle || handle == CU_STREAM_LEGACY)
        *out = call.context;
    else if (valid(handle, STREAM))
        *out = handle->context;
    else
        return CUDA_ERROR_INVALID_HANDLE;
    return CUDA_SUCCESS;
}

/* ---- Events ---- */

namespace
{

CUresult find_event(const Call &call, CUevent event)
{
    if (call.result)
        return call.result;
    if (!valid(event, EVENT))
        return complain(CUDA_ERROR_INVALID_HANDLE, "not an event, or one that was destroyed");
    return CUDA_SUCCESS;
}

/* For host functions: an event of a capture has no time at which it happens. */
CUresult find_record(const Call &call, CUevent event)
{
    CUresult r = find_event(call, event);
    if (!r && event->record && event->record->capture)
        return complain(CUDA_ERROR_CAPTURED_EVENT, "the event was recorded in a capture");
    return r;
}

} // namespace

CUresult cuEventCreate(CUevent *out, unsigned flags)
{
    Call call(SAFE);
    if (call.result)
        return call.result;
    if (!out)
        return CUDA_ERROR_INVALID_VALUE;
    *out = adopt(new CUevent_st{call.context, flags, nullptr}, EVENT);
    return CUDA_SUCCESS;
}

CUresult cuEventDestroy_v2(CUevent event)
{
    Call call(SAFE);
    CUresult r = find_event(call, event);
    if (!r)
        driver().handles.erase(event);
    return r;
}

CUresult cuEventRecord(CUevent event, CUstream handle)
{
    Call call(SAFE);
    CUstream stream = nullptr;
    CUresult r = find_event(call, event);
    if (!r)
        r = find_stream(call.context, handle, &stream);
    if (!r && event->context != call.context)
        r = complain(CUDA_ERROR_INVALID_HANDLE, "the event is not of the current context");
    if (r)
        return r;
    auto record = std::make_shared<Record>();
    record->stream = stream;
    if (stream->capture) {
        if (stream->capture->invalid)
            return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
        record->capture = stream->capture;
        record->nodes = stream->capture->branches[stream].nodes;
    } else {
        r = submit(stream, [record](std::string *) {
            record->done = true;
            record->time = std::chrono::steady_clock::now();
            return true;
        });
        if (r)
            return r;
        record->order = driver().order;
    }
    event->record = record;
    return CUDA_SUCCESS;
}

CUresult cuEventSynchronize(CUevent event)
{
    Call call(SAFE);
    CUresult r = find_record(call, event);
    if (r || !event->record)
        return r;
    return run_stream(event->record->stream, event->record->order);
}

CUresult cuEventQuery(CUevent event)
{
    Call call(SAFE);
    CUresult r = find_record(call, event);
    if (r || !event->record || event->record->done)
        return r;
    CUstream stream = event->record->stream;
    r = run_stream(stream, stream->queue.front().order);
    return r ? r : CUDA_ERROR_NOT_READY;
}

static CUresult elapsed(float *out, CUevent start, CUevent end)
{
    Call call(SAFE);
    CUresult r = find_record(call, start);
    if (!r)
        r = find_record(call, end);
    if (r)
        return r;
    if (!out || !start->record || !end->record ||
        ((start->flags | end->flags) & CU_EVENT_DISABLE_TIMING))
        return complain(CUDA_ERROR_INVALID_HANDLE, "cuEventElapsedTime: an event has no time");
    if (!start->record->done || !end->record->done)
        return CUDA_ERROR_NOT_READY;
    auto time = end->record->time - start->record->time;
    *out = std::chrono::duration<float, std::milli>(time).count();
    return CUDA_SUCCESS;
}

#undef cuEventElapsedTime
#pragma GCC visibility push(default)
extern "C" {
CUresult cuEventElapsedTime(float *out, CUevent start, CUevent end)
{
    return elapsed(out, start, end);
}

CUresult cuEventElapsedTime_v2(float *out, CUevent start, CUevent end)
{
    return elapsed(out, start, end);
}
}
#pragma GCC visibility pop

/* In a capture this is how a stream joins it, and how its work leads back to the origin. */
static CUresult wait_captured(CUstream stream, const Record &record)
{
    if (!record.capture) {
        invalidate(*stream->capture);
        return complain(CUDA_ERROR_STREAM_CAPTURE_ISOLATION,
                        "a captured stream waits for an event from outside the capture");
    }
    Capture &c = *record.capture;
    if (!driver().captures.count(record.capture) ||
        (stream->capture && stream->capture.get() != &c))
        return complain(CUDA_ERROR_CAPTURED_EVENT, "the event belongs to another capture");
    if (stream->legacy)
        return complain(CUDA_ERROR_STREAM_CAPTURE_IMPLICIT, "the legacy stream joins a capture");
    stream->capture = record.capture;
    if (stream != c.origin)
        c.branches[stream].loose = true;
    auto branch = c.branches.find(record.stream);
    if (record.stream != c.origin && record.stream != stream && branch != c.branches.end() &&
        branch->second.nodes == record.nodes)
        branch->second.loose = false;
    return CUDA_SUCCESS;
}

CUresult cuStreamWaitEvent(CUstream handle, CUevent event, unsigned)
{
    Call call(SAFE);
    CUstream stream = nullptr;
    CUresult r = find_event(call, event);
    if (!r)
        r = find_stream(call.context, handle, &stream);
    if (r || !event->record)
        return r;
    std::shared_ptr<Record> record = event->record;
    if (stream->capture || record->capture)
        return wait_captured(stream, *record);
    return submit(stream, [record](std::string *) {
        run_stream(record->stream, record->order);
        return true; /* a fault of the other stream has been reported */
    });
}
