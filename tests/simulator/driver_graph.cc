/* SPDX-License-Identifier: MIT
 *
 * Graphs, and how they are captured. The nodes of a graph run one after the other, as they were
 * captured, which is one of the orders that hardware may take. */
#include "driver.h"

namespace simulator
{

void invalidate(Capture &capture)
{
    capture.invalid = true;
}

void drop_capture(std::shared_ptr<Capture> capture)
{
    for (CUstream stream : capture->context->streams)
        if (stream->capture == capture)
            stream->capture = nullptr;
    driver().captures.erase(capture);
}

} // namespace simulator

using namespace simulator;

/* ---- Capture ---- */

CUresult cuStreamBeginCapture_v2(CUstream handle, CUstreamCaptureMode mode)
{
    Call call(SAFE);
    CUstream stream = nullptr;
    CUresult r = call.result ? call.result : find_stream(call.context, handle, &stream);
    if (r)
        return r;
    if (stream->legacy)
        return complain(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, "capture of the legacy stream");
    if (stream->capture)
        return complain(CUDA_ERROR_ILLEGAL_STATE, "the stream is being captured");
    auto capture = std::make_shared<Capture>();
    capture->context = call.context;
    capture->origin = stream;
    capture->mode = mode;
    capture->thread = std::this_thread::get_id();
    stream->capture = capture;
    driver().captures.insert(capture);
    return CUDA_SUCCESS;
}

CUresult cuStreamEndCapture(CUstream handle, CUgraph *out)
{
    Call call(SAFE);
    CUstream stream = nullptr;
    CUresult r = call.result ? call.result : find_stream(call.context, handle, &stream);
    if (r)
        return r;
    if (!out)
        return CUDA_ERROR_INVALID_VALUE;
    *out = nullptr;
    std::shared_ptr<Capture> capture = stream->capture;
    if (!capture)
        return complain(CUDA_ERROR_ILLEGAL_STATE, "the stream is not being captured");
    if (capture->origin != stream)
        return complain(CUDA_ERROR_STREAM_CAPTURE_UNMATCHED, "the capture began elsewhere");
    if (capture->mode != CU_STREAM_CAPTURE_MODE_RELAXED &&
        capture->thread != std::this_thread::get_id())
        return complain(CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD, "the capture began elsewhere");
    drop_capture(capture);
    if (capture->invalid)
        return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
    for (auto &branch : capture->branches)
        if (branch.first != stream && branch.second.loose)
            return complain(CUDA_ERROR_STREAM_CAPTURE_UNJOINED,
                            "a stream of the capture does not lead back to its origin");
    auto nodes = std::make_shared<std::vector<Task>>(std::move(capture->nodes));
    *out = adopt(new CUgraph_st{nodes}, GRAPH);
    return CUDA_SUCCESS;
}

CUresult cuStreamIsCapturing(CUstream handle, CUstreamCaptureStatus *status)
{
    Call call(SAFE);
    CUstream stream = nullptr;
    CUresult r = call.result ? call.result : find_stream(call.context, handle, &stream);
    if (r)
        return r;
    if (!stream->capture)
        *status = CU_STREAM_CAPTURE_STATUS_NONE;
    else if (stream->capture->invalid)
        *status = CU_STREAM_CAPTURE_STATUS_INVALIDATED;
    else
        *status = CU_STREAM_CAPTURE_STATUS_ACTIVE;
    return CUDA_SUCCESS;
}

/* ---- Graphs ---- */

CUresult cuGraphInstantiateWithFlags(CUgraphExec *out, CUgraph graph, unsigned long long)
{
    Call call(SAFE);
    if (call.result)
        return call.result;
    if (!out)
        return CUDA_ERROR_INVALID_VALUE;
    if (!valid(graph, GRAPH))
        return complain(CUDA_ERROR_INVALID_VALUE, "not a graph, or one that was destroyed");
    *out = adopt(new CUgraphExec_st{call.context, graph->nodes}, EXEC);
    return CUDA_SUCCESS;
}

CUresult cuGraphLaunch(CUgraphExec exec, CUstream handle)
{
    Call call(SAFE);
    CUstream stream = nullptr;
    CUresult r = call.result ? call.result : find_stream(call.context, handle, &stream);
    if (r)
        return r;
    if (!valid(exec, EXEC))
        return complain(CUDA_ERROR_INVALID_VALUE, "not an executable graph, or destroyed");
    if (exec->context != call.context)
        return complain(CUDA_ERROR_INVALID_VALUE, "the graph is not of the current context");
    std::shared_ptr<std::vector<Task>> nodes = exec->nodes;
    return submit(stream, [nodes](std::string *report) {
        for (const Task &task : *nodes)
            if (!task(report))
                return false;
        return true;
    });
}

CUresult cuGraphGetNodes(CUgraph graph, CUgraphNode *nodes, size_t *count)
{
    Call call(SAFE);
    if (call.result)
        return call.result;
    if (!valid(graph, GRAPH) || !count)
        return CUDA_ERROR_INVALID_VALUE;
    if (nodes)
        return complain(CUDA_ERROR_NOT_SUPPORTED, "cuGraphGetNodes: only their number");
    *count = graph->nodes->size();
    return CUDA_SUCCESS;
}

CUresult cuGraphExecDestroy(CUgraphExec exec)
{
    Call call(ANYTIME);
    if (call.result)
        return call.result;
    if (!valid(exec, EXEC))
        return complain(CUDA_ERROR_INVALID_VALUE, "not an executable graph, or destroyed");
    driver().handles.erase(exec);
    return CUDA_SUCCESS;
}

CUresult cuGraphDestroy(CUgraph graph)
{
    Call call(ANYTIME);
    if (call.result)
        return call.result;
    if (!valid(graph, GRAPH))
        return complain(CUDA_ERROR_INVALID_VALUE, "not a graph, or one that was destroyed");
    driver().handles.erase(graph);
    return CUDA_SUCCESS;
}
