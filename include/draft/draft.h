/* SPDX-License-Identifier: MIT
 *
 * libdraft: DraftAttention (arXiv 2505.14708) for video diffusion transformers.
 *
 * Attention over tens of thousands of video tokens is cut into blocks. Q and K are averaged over
 * each block, the softmax of the averages (the draft map) says which pairs of blocks matter, and
 * only those pairs are computed. One call does it all, in four stages:
 *
 *   pool    q, k, v          -> the mean of each block
 *   score   means of q and k -> draft map: for each head, row softmax over the blocks
 *   select  draft map        -> for each query block a list of key blocks
 *   attend  q, k, v, lists   -> out, log-sum-exp: block-sparse flash attention
 *
 * Use: draft_context_create, draft_plan_create, draft_plan_layout (how large the workspace is),
 * draft_run, draft_wait.
 *
 * Conventions that hold everywhere:
 * - In every parameter struct zero means "the default"; initialise with {0} or a designated
 *   initialiser. Parameter structs and what they point to are read during the call only.
 * - A function that fails changes nothing that the caller can see, and tells the log why.
 * - The library never prints, aborts or exits, and never changes process-wide state.
 * - `_destroy` takes a pointer to the pointer, sets it to NULL, and accepts NULL.
 */
#ifndef DRAFT_DRAFT_H
#define DRAFT_DRAFT_H

#include <stddef.h>
#include <stdint.h>

#if !defined(_WIN32)
#define DRAFT_EXPORT __attribute__((visibility("default")))
#elif defined(DRAFT_BUILD)
#define DRAFT_EXPORT __declspec(dllexport)
#else
#define DRAFT_EXPORT /* functions are imported without a word, from a DLL and from an archive */
#endif
#if defined(__GNUC__)
#define DRAFT_NODISCARD __attribute__((warn_unused_result))
#else
#define DRAFT_NODISCARD
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* Version of this header; draft_version() is that of the library in use. */
#define DRAFT_VERSION_MAJOR 0
#define DRAFT_VERSION_MINOR 1
#define DRAFT_VERSION_PATCH 0

/* major << 16 | minor << 8 | patch. */
DRAFT_EXPORT uint32_t draft_version(void);

/* ---- Status and log -------------------------------------------------------------------- */

/* Values are stable. The log carries the reason in words. */
typedef enum draft_status {
    DRAFT_OK = 0,
    DRAFT_ERROR_ARGUMENT = 1,    /* the caller broke a rule of this header                */
    DRAFT_ERROR_UNSUPPORTED = 2, /* legal, but not with this backend, device or build     */
    DRAFT_ERROR_NO_DEVICE = 3,   /* no such backend or device on this machine             */
    DRAFT_ERROR_MEMORY = 4,      /* host or device memory ran out                         */
    DRAFT_ERROR_DEVICE = 5       /* the driver failed; the context can only be destroyed  */
} draft_status;

/* Static storage: "ok", "bad argument", ... Never NULL. */
DRAFT_EXPORT const char *draft_status_name(draft_status status);

typedef enum draft_log_level {
    DRAFT_LOG_ERROR = 0, /* why a call failed                                    */
    DRAFT_LOG_WARN = 1,  /* it works, but not as the caller might think          */
    DRAFT_LOG_INFO = 2,  /* which device, which kernels, and why not the better  */
    DRAFT_LOG_DEBUG = 3
} draft_log_level;

/* message is called on the thread that made the call, possibly from several threads at once;
 * text is one line without a newline and lives for the call only. message may be NULL. */
struct draft_log {
    void (*message)(void *user, draft_log_level level, const char *text);
    void *user;
    draft_log_level level; /* the least important level that is passed on */
};

/* ---- Devices ---------------------------------------------------------------------------- */

/* Element type of q, k, v and out. All arithmetic accumulates in f32, whose largest number is
 * 3.4e38. Means of finite numbers are finite. out is finite as long as sum |q_d k_d|, with scale
 * and without, of each pair of tokens, kept or not, and |v| x number of keys stay below 2.3e38:
 * logits are multiplied by log2 (e) = 1.44 on their way. F16 is far away from that.
 * NaN or an infinity in q, k or v reaches the out and lse that read it, as kept keys or in means,
 * and the choice of blocks in its heads, which stays within the budget; nothing else. */
typedef enum draft_type { DRAFT_F16 = 1, DRAFT_BF16 = 2, DRAFT_F32 = 3 } draft_type;

struct draft_device_info {
    const char *backend; /* "cuda", "vulkan" or "cpu"; static storage                       */
    uint32_t index;      /* for draft_context_params.device                                 */
    uint32_t software;   /* 1: the device is the host's processor (CPU, software Vulkan)    */
    char name[128];
    char driver[128]; /* name and version of the driver                                  */
    uint8_t uuid[16]; /* one GPU has the same in CUDA and in Vulkan; zero where unknown  */
    uint64_t memory;  /* bytes the device can use                                        */
    uint32_t types;   /* bit 1u << draft_type for each type that it can attend           */
    char attend[32];  /* the best attend kernel it would take, e.g. "avx2", "scalar"; a self-test
                         may rule it out when a plan is made                              */
};

/* List every device of every backend, best backend first.
 * Writes at most *count entries to out and sets *count to how many there are; out may be NULL
 * when *count is 0. log may be NULL. Backends without driver or device add none and tell the log.
 * Thread-safe. Errors: ARGUMENT, MEMORY. */
DRAFT_EXPORT DRAFT_NODISCARD draft_status draft_devices(const struct draft_log *log,
                                                        struct draft_device_info *out,
                                                        size_t *count);

/* ---- Context: one device in use --------------------------------------------------------- */

/* Owned by the caller; must outlive its plans and its memory. Any thread may use it. */
typedef struct draft_context draft_context;

struct draft_context_params {
    const char *backend;     /* NULL: $DRAFT_BACKEND if set, else the first backend that has a
                                device which is not software, else the CPU                    */
    uint32_t device;         /* index within the backend; ignored where device_name is set    */
    const char *device_name; /* NULL, or part of a device's name, case ignored                */
    const void *native;   /* NULL, or the caller's own device for the backend that is named above,
                             device and device_name ignored: draft/cuda.h, draft/vulkan.h. Others:
                             UNSUPPORTED                                                      */
    uint32_t threads;     /* CPU backend: worker threads; 0: one for each processor        */
    struct draft_log log; /* copied; used until the context is destroyed                   */
};

/* Open a device. params may be NULL.
 * Errors: ARGUMENT, UNSUPPORTED (device lacks what the kernels need), NO_DEVICE, MEMORY, DEVICE. */
DRAFT_EXPORT DRAFT_NODISCARD draft_status
draft_context_create(const struct draft_context_params *params, draft_context **out);

/* Waits for work on its own queue. Plans and allocations must be gone before. */
DRAFT_EXPORT void draft_context_destroy(draft_context **context);

/* What was opened. */
DRAFT_EXPORT void draft_context_device(const draft_context *context, struct draft_device_info *out);

/* ---- Device memory, for those who have none of their own -------------------------------- */

/* An address on the context's device: host pointer, CUdeviceptr or VkDeviceAddress. On the CPU
 * backend any memory of the process will do; elsewhere what draft_alloc returned, or the caller's
 * own device memory where the device is shared. Address arithmetic is allowed. */
typedef uint64_t draft_address;

/* size in bytes, at least 1. The address is a multiple of 256; contents are undefined.
 * Errors: ARGUMENT, MEMORY, DEVICE. */
DRAFT_EXPORT DRAFT_NODISCARD draft_status draft_alloc(draft_context *context, size_t size,
                                                      draft_address *out);
/* address: what draft_alloc returned, or 0. Work that uses it must have finished. */
DRAFT_EXPORT void draft_free(draft_context *context, draft_address address);

/* Copy size bytes between host memory and memory of draft_alloc, after all work enqueued on the
 * context's own queue; return when the copy is done. The range must lie within one allocation
 * (checked where the backend knows its allocations; on the CPU backend any memory
 * will do). Errors: ARGUMENT, MEMORY, DEVICE. */
DRAFT_EXPORT DRAFT_NODISCARD draft_status draft_write(draft_context *context, draft_address to,
                                                      const void *from, size_t size);
DRAFT_EXPORT DRAFT_NODISCARD draft_status draft_read(draft_context *context, void *to,
                                                     draft_address from, size_t size);

/* ---- Plan: shape, rules, kernels -------------------------------------------------------- */

/* A sample is `prefix` text tokens, then frames x height x width video tokens in raster order
 * (frame, row, column), then `suffix` text tokens. Any grid is allowed: nothing is padded. */
struct draft_shape {
    uint32_t batch;                 /* 0: 1. Samples have their own maps and lists        */
    uint32_t prefix;                /* text tokens before the video                       */
    uint32_t frames, height, width; /* latent grid, each at least 1                       */
    uint32_t suffix;                /* text tokens after the video                        */
    uint32_t heads;                 /* query heads, at least 1                            */
    uint32_t kv_heads;              /* 0: as many as heads; must divide heads             */
    uint32_t dim;                   /* of one head: a multiple of 8, 8 to 128             */
};

/* Tokens of the video grid that form one block: t frames x h rows x w columns, at most 128. */
struct draft_tile {
    uint32_t t, h, w;
};

/* Which pairs of video blocks are kept. Pairs with a text block are always kept.
 * Ties: the larger p first, then the lower row-major index; budgets are met exactly. */
typedef enum draft_rule {
    DRAFT_RULE_DEFAULT = 0, /* ROW                                                              */
    DRAFT_RULE_HEAD = 1,    /* the round((1 - sparsity) S^2) largest p of each head (eq. 4-5 of the
                               paper), S the number of video blocks                             */
    DRAFT_RULE_ROW = 2,     /* in each row the round((1 - sparsity) S) largest p, at least 1    */
    DRAFT_RULE_MASS = 3, /* in each row the fewest whose p sum to at least `mass`, at least 1   */
    DRAFT_RULE_PAPER = 4 /* preset that reproduces the reference implementation: tile 1 x 8 x 16,
                            nothing forced, all p >= the largest among the floor(sparsity S^2)
                            smallest, ties included. Rows may be empty: out = 0, lse = -inf     */
} draft_rule;

/* Pairs of video blocks that are kept before any other and charged to the budget; where they
 * exceed it, they are all kept. A query block's own key block is forced unless FORCE_NOT_SELF. */
typedef enum draft_force {
    DRAFT_FORCE_NOT_SELF = 1 << 0,    /* do not force the pair of a block with itself            */
    DRAFT_FORCE_FIRST_FRAME = 1 << 1, /* every key block that holds tokens of the first frame   */
    DRAFT_FORCE_NEIGHBOURS = 1 << 2   /* the key block at the same place one tile before/after in
                                        time                                                    */
} draft_force;

/* What a pair of video blocks is scored by, before the softmax over the key blocks. A quarter is a
 * part of a block, the tile being cut in the middle of its two longest axes: n_ja tokens of key block
 * j. The average of a block hides the few keys that matter; those of its quarters show more, and
 * those of 16 parts, quarters whose longest axes are cut again, even more.
 *
 * EXCESS asks how much mass the tail MEAN would miss. For each quarter b of query block i
 *     x_bj = ln (sum over parts a of n_ja exp(scale <mean q_ib, mean k_ja>)
 *                - 0.99 n_j exp(scale <mean q_ib, mean k_j>)),
 * with the means of parts rounded to the type of the tensors and mean k_j the mean of those, and p_ij
 * is the mean over the quarters, each with its share of the tokens, of softmax over j of x_bj. It
 * takes 64 products of means for each pair where MEAN takes one and MAX four. */
typedef enum draft_scorer {
    DRAFT_SCORER_DEFAULT = 0, /* EXCESS; with tail DROP MAX; MEAN where tail's default is DROP  */
    DRAFT_SCORER_MEAN = 1,    /* scale <mean q_i, mean k_j> + ln n_j                            */
    DRAFT_SCORER_LSE = 2,     /* ln of the sum over a of n_ja exp(scale <mean q_i, mean k_ja>)  */
    DRAFT_SCORER_MAX = 3,     /* the largest over a of scale <mean q_i, mean k_ja> + ln n_ja    */
    DRAFT_SCORER_EXCESS = 4   /* as said                                                        */
} draft_scorer;

/* What becomes of the pairs of video blocks that are left out. Other than DROP: each row of queries
 * attends, beside the keys that are kept, to one pooled key for each block that is left out, with
 * the mean of its k, the mean of its v, and the logit scale <q, mean k_j> + ln n_j + b_ij. Text is
 * never pooled, rows of text stay exact, no row of video is empty, and lse is the log of all that
 * was summed. */
typedef enum draft_tail {
    DRAFT_TAIL_DEFAULT = 0, /* MEAN; DROP with rule PAPER and where nothing is left out          */
    DRAFT_TAIL_DROP = 1,    /* they do not exist, as in the paper                                */
    DRAFT_TAIL_MEAN = 2,    /* b = 0: a pooled key never has more mass than its block has        */
    DRAFT_TAIL_GAP = 3,     /* b = LSE score - MEAN score of the pair, brought to 0 .. ln n_j    */
    DRAFT_TAIL_FITTED = 4   /* b = c min(W, ln n_j), W = scale^2 / 2 x the sum over d of (mean of
                               q_d^2 in block i) x (variance of k_d in block j), with a factor c of
                               each sample and head: draft_factors_write                         */
} draft_tail;

struct draft_plan_params {
    struct draft_shape shape;
    draft_type type;             /* required                                                    */
    struct draft_tile tile;      /* 0, 0, 0: chosen (draft_plan_layout tells): among the tiles
                                    within 1/16 of the fewest blocks the one with the fewest
                                    slots outside the grid, then the most compact               */
    draft_rule rule;             /* 0: DRAFT_RULE_ROW                                           */
    double sparsity;             /* share of video block pairs left out, 0 <= sparsity < 1; 0 is
                                    dense attention, nothing is left out. A double: 0.9f moves the
                                    budget by one                                               */
    const double *head_sparsity; /* NULL, or one for each head, in place of sparsity            */
    double mass;                 /* DRAFT_RULE_MASS only, in place of sparsity: 0 < mass <= 1;
                                    0: 0.9                                                      */
    uint32_t force;              /* bits of draft_force; none with DRAFT_RULE_PAPER              */
    float scale;                 /* of the logits; 0: 1 / sqrt(dim)                             */
    draft_scorer scorer;         /* rule PAPER: MEAN                                            */
    draft_tail tail;             /* rule PAPER: DROP                                            */
    double row_floor; /* rule HEAD only, 0 to 1: each row keeps floor(row_floor x budget / S) pairs
                         in any case, budget = round((1 - sparsity) S^2): its forced ones, then its
                         largest p, ties by lower index. They are charged to the budget; the rest of
                         it goes to the largest p of the head. 0: none                           */
};

/* Owned by the caller, immutable: any number of threads may run one plan at once, each with a
 * workspace of its own. Must outlive the work enqueued with it; holds a little device memory. */
typedef struct draft_plan draft_plan;

/* On CUDA and Vulkan the first plan of a kind makes a self-test of the kernels of all stages, of
 * those that will not run too: some tens of milliseconds of the calling thread and a few of a GPU,
 * on the context's own queue, which it waits for. A kind is type and dim, scorer and tail, rule and
 * whether there is a row_floor; a stage whose code these do not change is not tested again. A kernel
 * that computes wrongly is told at WARN, and the next takes its place. What was found is kept, in
 * the user's folder for caches too ($XDG_CACHE_HOME/draft or ~/.cache/draft, on Windows
 * %LOCALAPPDATA%/draft), until driver or kernel change.
 * Errors: ARGUMENT, UNSUPPORTED (type or size that the device or the format of the lists, 65535
 * blocks, cannot hold), MEMORY, DEVICE (also: each kernel that a stage could take computes
 * wrongly). */
DRAFT_EXPORT DRAFT_NODISCARD draft_status draft_plan_create(draft_context *context,
                                                            const struct draft_plan_params *params,
                                                            draft_plan **out);
DRAFT_EXPORT void draft_plan_destroy(draft_plan **plan);

/* Blocks are numbered: prefix blocks (128 consecutive tokens each), video blocks (tile grid in
 * raster order t, h, w), suffix blocks. The workspace belongs to the caller and keeps its contents
 * between runs, so map, lists and means may be read, replaced and used again.
 * Offsets are bytes from the start of the workspace. Below, B = blocks, S = video_blocks. */
struct draft_layout {
    uint64_t size;      /* of the workspace, bytes                                              */
    uint64_t alignment; /* of its address, bytes                                                */

    draft_rule rule; /* the rule, scorer, tail and tile in use */
    draft_scorer scorer;
    draft_tail tail;
    struct draft_tile tile;
    uint32_t tiles_t, tiles_h, tiles_w; /* tile grid                      */
    uint32_t prefix_blocks, video_blocks, suffix_blocks, blocks;
    uint64_t tokens; /* of one sample                  */

    uint64_t pooled_q; /* f32 [batch, heads, S, dim]                                            */
    uint64_t pooled_k; /* f32 [batch, kv_heads, S, dim]                                         */
    uint64_t pooled_v; /* f32 [batch, kv_heads, S, dim]                                         */
    uint64_t map;      /* f32 [batch, heads, S, S], rows sum to 1                               */
    uint64_t counts;   /* u32 [batch, heads, B]: kept key blocks of each query block            */
    uint64_t lists;    /* u16 [batch, heads, B, B]: the first `count` of each row, ascending    */
    uint64_t order;    /* u16 [batch, heads, B]: query blocks by count, largest first, then index */

    /* Of plans that ask for them; 0 where there are none. */
    uint64_t quarters; /* f32 [batch, kv_heads, S, 4, dim]: mean k of each quarter. scorer LSE, MAX;
                          tail GAP                                                                */
    uint64_t bias; /* f32 [batch, heads, S, bias_stride]: ln n_j + b_ij, with the sign bit set where
                          the pair is kept. tail MEAN, GAP, FITTED                                */
    uint64_t bias_stride;
    uint64_t moment_q;       /* f32 [batch, heads, S, dim]: mean of q^2. tail FITTED. Both are the
                                largest f32 where they would be infinite                         */
    uint64_t moment_k;       /* f32 [batch, kv_heads, S, dim]: variance of k. tail FITTED        */
    uint64_t tail_k, tail_v; /* [batch, kv_heads, S, dim] of the plan's type: pooled_k and pooled_v,
                                rounded. tail MEAN, GAP, FITTED                                   */
    uint64_t factors;        /* f32 [batch, heads]: c of each head, 0 to 1.5. tail FITTED         */
    uint64_t parts_q, parts_k; /* [batch, heads, S, 4, dim] and [batch, kv_heads, S, 16, dim] of the
                                  plan's type: mean q of each quarter, mean k of each part, 0 where
                                  it holds no tokens. scorer EXCESS                               */
};

DRAFT_EXPORT void draft_plan_layout(const draft_plan *plan, struct draft_layout *out);

/* ---- Run -------------------------------------------------------------------------------- */

typedef enum draft_stage {
    DRAFT_POOL = 1 << 0,   /* q, k, v   -> pooled_q, pooled_k, pooled_v; quarters, parts_q,
                              parts_k, moment_q, moment_k, tail_k, tail_v where the plan has them */
    DRAFT_SCORE = 1 << 1,  /* pooled    -> map; bias where the plan has it                       */
    DRAFT_SELECT = 1 << 2, /* map       -> counts, lists, order; sign bits of bias               */
    DRAFT_ATTEND = 1 << 3  /* q, k, v, lists, bias, tail_k, tail_v -> out, lse                   */
} draft_stage;

typedef enum draft_run_flag {
    DRAFT_RUN_KEPT_ONLY = 1 << 0 /* out and lse of the kept pairs alone, as with tail DROP: a part
                                    that can be merged with others by its lse                    */
} draft_run_flag;

/* [batch, tokens, heads, dim], dim contiguous. Strides in elements; 0: packed. The address is a
 * multiple of 16, and so is every stride in bytes (where its axis is longer than 1). */
struct draft_tensor {
    draft_address data;
    uint64_t batch_stride, token_stride, head_stride;
};

struct draft_run_params {
    struct draft_tensor q, k, v,
        out;                 /* those that the stages use. out: heads as in q, overlaps none */
    draft_address lse;       /* 0, or f32 [batch, heads, tokens]: natural log of the sum of
                                exp(logit) over the kept keys; -inf where there are none. Like
                                valid, a multiple of 4                                           */
    draft_address workspace; /* layout.size bytes, aligned to layout.alignment                  */
    draft_address valid;    /* 0: all text is valid. Or u32 [batch, 2]: the first valid[b][0] prefix
                                and valid[b][1] suffix tokens of sample b; larger values mean all.
                                Other text keys are never attended; their rows get out = 0, lse = -inf */
    uint32_t stages;        /* bits of draft_stage; 0: all. Fewer use what is in the workspace:
                                DRAFT_ATTEND alone runs lists of an earlier run or the caller's own
                                (draft_lists_write, or written by the caller's kernels, which then
                                write bias too where the plan has it). With a tail, DRAFT_POOL and
                                DRAFT_SCORE must have run before; a plan of sparsity 0 has none.
                                DRAFT_POOL | DRAFT_ATTEND: the old lists and, for tail MEAN, pooled
                                keys of the new tensors                                          */
    void *queue;            /* NULL: the context's own queue. CUDA backend: or a CUstream, see
                                draft/cuda.h. Vulkan backend on the caller's device: or a
                                VkCommandBuffer, see draft/vulkan.h. Others: UNSUPPORTED         */
    uint32_t chunk, chunks; /* chunks 0 or 1: everything. Else part `chunk`, 0 to chunks - 1, of the
                                work, about equal parts: with a VkCommandBuffer only             */
    uint32_t flags;         /* bits of draft_run_flag                                            */
};

/* Enqueue the stages on the queue, in order; the effects are visible to later work on the same queue
 * and, after draft_wait or draft_read, to the host. Allocates nothing and does not wait, except that
 * the CPU backend returns when the work is done, and the Vulkan backend may wait for earlier
 * submissions of its own so that no more than a bounded number is under way. On CUDA it can be
 * captured into a graph: draft/cuda.h. With a VkCommandBuffer it is recorded: draft/vulkan.h.
 * Thread-safe; runs that overlap in time need distinct workspaces and outputs.
 * Errors: ARGUMENT (nothing was enqueued), MEMORY, DEVICE. */
DRAFT_EXPORT DRAFT_NODISCARD draft_status draft_run(const draft_plan *plan,
                                                    const struct draft_run_params *params);

/* Wait for all work on the context's own queue. Errors: DEVICE; ARGUMENT while it is captured. */
DRAFT_EXPORT DRAFT_NODISCARD draft_status draft_wait(draft_context *context);

/* ---- Lists ------------------------------------------------------------------------------ */

/* Check lists made by another selection method and write them, with the work order and the signs of
 * bias that belong to them (tail GAP and FITTED: on what DRAFT_SCORE wrote before), into a
 * workspace of draft_alloc: counts u32 [batch, heads, B]; lists u16 [batch, heads, B, B]
 * of which the first count entries of each row are read, ascending, without repeats, below B.
 * Any pair may be left out, text too. Waits like draft_write. Errors: ARGUMENT, MEMORY, DEVICE. */
DRAFT_EXPORT DRAFT_NODISCARD draft_status draft_lists_write(const draft_plan *plan,
                                                            draft_address workspace,
                                                            const uint32_t *counts,
                                                            const uint16_t *lists);

/* Factors c of DRAFT_TAIL_FITTED, [batch, heads], into a workspace of draft_alloc; NULL: all 0,
 * which is DRAFT_TAIL_MEAN. A new workspace holds none: write them before its first DRAFT_SCORE,
 * which uses them, each brought to 0 .. 1.5. Waits like draft_write. Errors: ARGUMENT (other tail),
 * MEMORY, DEVICE. */
DRAFT_EXPORT DRAFT_NODISCARD draft_status draft_factors_write(const draft_plan *plan,
                                                              draft_address workspace,
                                                              const float *factors);

struct draft_density {
    double video;        /* kept pairs of video blocks / all pairs of video blocks          */
    double work;         /* kept query-key token pairs / all token pairs, text included     */
    double flops;        /* 4 x dim x (kept token pairs + those of tail): what attend computes */
    uint64_t kept_pairs; /* pairs of video blocks, over all samples and heads               */
    uint64_t empty_rows; /* query blocks with an empty list                                 */
    double tail; /* pairs of a video query and a pooled key / all token pairs, 0 with tail DROP:
                    work + tail is what attend executes                                     */
};

/* What the lists in a workspace keep, exactly. Text beyond its valid length is counted as if it
 * were valid. Waits like draft_read. Errors: ARGUMENT, MEMORY, DEVICE. */
DRAFT_EXPORT DRAFT_NODISCARD draft_status draft_density_read(const draft_plan *plan,
                                                             draft_address workspace,
                                                             struct draft_density *out);

/* ---- Probe ------------------------------------------------------------------------------ */

struct draft_probe_params {
    uint64_t seed;   /* which query blocks are taken                                            */
    uint32_t blocks; /* query blocks of the video that are computed exactly, in all heads the same;
                        0: 4. At most all                                                       */
};

/* What was found of one head of one sample. */
struct draft_probe {
    double error;  /* relative L2 of out over the probe's rows, against dense attention        */
    double factor; /* of tail FITTED: that of those tried which has the least error; else 0    */
};

/* Run pool, score and select, compute a few query blocks densely and as the plan does, and tell how
 * far these are apart: out [batch x heads]. With tail FITTED, find the factor of each head in 0 ..
 * 1.5 that does best, and leave it in the workspace; lists and bias are left as the plan has them, so
 * that DRAFT_ATTEND may follow. run: as for draft_run, without a queue; its out, lse, stages and
 * flags are not used. One probe serves many runs: over the steps of a denoising loop factors change
 * slowly. Allocates memory, for out among others, and waits.
 * Work, of that of dense attention: blocks / S; and for each of 5 comparisons (1 where the tail is
 * not FITTED) the pooled keys of all rows, draft_density.tail, and the kept keys of `blocks` rows.
 * Errors: ARGUMENT, UNSUPPORTED (a queue), MEMORY, DEVICE. */
DRAFT_EXPORT DRAFT_NODISCARD draft_status draft_probe_run(const draft_plan *plan,
                                                          const struct draft_run_params *run,
                                                          const struct draft_probe_params *params,
                                                          struct draft_probe *out);

/* Sparsities for each head from the errors that probes of plans with different sparsities have found:
 * errors [heads][levels], sparsities [levels] descending. Each head begins with the first; as long as
 * the mean over the heads stays at least `mean`, the head with the largest error gets the next.
 * head_sparsity [heads] is for draft_plan_params. Errors: ARGUMENT, where an error is NaN too;
 * MEMORY. */
DRAFT_EXPORT DRAFT_NODISCARD draft_status draft_probe_sparsities(const double *errors,
                                                                 const double *sparsities,
                                                                 uint32_t levels, uint32_t heads,
                                                                 double mean,
                                                                 double *head_sparsity);

/* The name of the kernel that the plan chose for one stage: static storage, NULL for no stage.
 * $DRAFT_KERNEL (a comma-separated list of names) limits the choice when a plan is made. */
DRAFT_EXPORT const char *draft_plan_kernel(const draft_plan *plan, draft_stage stage);

#ifdef __cplusplus
}
#endif

#endif
