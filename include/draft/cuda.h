/* SPDX-License-Identifier: MIT
 *
 * libdraft on the caller's own CUDA context and streams. The header needs no CUDA toolkit.
 *
 * draft_context_params.backend = "cuda" and .native = a struct draft_cuda_native make a context
 * that works in the caller's CUDA context; its device and device_name are then ignored, as the
 * CUDA context has its device. Without .native the library uses the primary context of the
 * device, the one that the CUDA runtime and what is built on it use, so that memory and streams
 * of these work here too.
 *
 * Ownership. The caller owns the CUDA context and all streams that it gives, and keeps them
 * until the draft_context is destroyed; the library destroys none of them. It loads its kernels
 * into the context when a plan needs them first and unloads them with the draft_context. Before
 * that, work that was enqueued on other streams than the context's own must have finished, and
 * graphs that captured a draft_run must not be launched any more.
 *
 * The current context. Each call makes the CUDA context current on the calling thread and
 * restores what was current before. What is current when a call is made does not matter.
 *
 * Queues. draft_run_params.queue is a CUstream (or cudaStream_t) of the same CUDA context; the
 * work is enqueued on it in order. NULL means the context's own queue: draft_cuda_native.stream
 * where that was given, else a stream that the library made, which does not synchronise with the
 * default stream. CUDA's default streams have names that are not NULL: CU_STREAM_LEGACY and
 * CU_STREAM_PER_THREAD are accepted in both places; the latter means the stream of the thread
 * that makes the call. draft_write, draft_read, draft_lists_write, draft_density_read and
 * draft_wait use the context's own queue and wait for it: order them with other streams by
 * events, or by waiting.
 *
 * Capture. draft_run only launches kernels: no allocation, no copy, no synchronisation, no host
 * function. The queue may be under capture into a graph; the graph may be launched any number of
 * times, with new contents of q, k and v at the same addresses, while the plan and the
 * draft_context exist. Plans, contexts and memory are made and destroyed outside of captures (and
 * the first plan of a kind makes a self-test on the context's own queue: draft_plan_create).
 * Functions that would have to wait or to allocate refuse with ARGUMENT while the context's own
 * queue is under capture, and leave it whole; draft_free and the _destroy functions must not be
 * called then.
 *
 * Threads. As draft/draft.h says of each object: any number of threads may call draft_run at
 * once, on one stream or several. Runs that overlap need distinct workspaces and outputs, so two
 * streams need two workspaces.
 *
 * Devices. Those of compute capability 8.0 and later, numbered from 0 in the order of the
 * driver; older ones are left out, and the log says so. One draft_context uses one GPU: several
 * GPUs take one each, with memory of their own. CUDA_VISIBLE_DEVICES, MPS and MIG select and
 * share devices as for any program; the library changes no setting of theirs, nor of the
 * context.
 *
 * Failure. A kernel that faults, of whatever library, spoils the CUDA context: all calls give
 * DEVICE from then on. With the primary context that holds for all in the process that use it. */
#ifndef DRAFT_CUDA_H
#define DRAFT_CUDA_H

#include <draft/draft.h>

#ifdef __cplusplus
extern "C" {
#endif

struct CUctx_st;    /* CUcontext is a pointer to it            */
struct CUstream_st; /* and CUstream and cudaStream_t to this   */

/* For draft_context_params.native; read during the call only. */
struct draft_cuda_native {
    struct CUctx_st *context;   /* required                                                      */
    struct CUstream_st *stream; /* the context's own queue; NULL: the library makes one          */
};

#ifdef __cplusplus
}
#endif

#endif
