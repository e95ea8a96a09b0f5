#version 460
// SPDX-License-Identifier: MIT
//
// score by parts, as score_parts, on matrix units (VK_KHR_cooperative_matrix): products of f16 or
// bf16, sums in f32.
//
//   workgroup   ROWS quarters of queries of one head by the parts of SPAN key blocks
//   subgroup    STRIPS matrices of M quarters, in registers for all steps; where the subgroups
//               together have fewer than ROWS, the steps are walked again
//   step        the parts of KEY_BLOCKS key blocks, staged by all; those of the next step are on
//               their way meanwhile, in registers
//   products    STRIPS x M x COLUMNS for each subgroup, over the whole of dim
//   scores      M rows of products at a time by way of shared memory: only the driver knows which
//               invocation holds which. Then each has all 16 of one pair of a row and a key block:
//                 invocation 0: row 0, key block 0   1: row 0, key block 1   2: row 1, key block 0
//
// Bound by the matrix units, 128 x S^2 x dim flops for each head. Each flop takes 1 / (STRIPS x M)
// bytes of k from shared memory and 4 / dim bytes of products there and back: with 16x16x16 and dim
// 128 1/16 in all, of 1/8 that an RTX 40 has (128 bytes, 1024 flops a clock). A pair takes 20
// exponentials and logarithms for 32 dim flops.
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_cooperative_matrix : require
#extension GL_KHR_memory_scope_semantics : require
#extension GL_KHR_shader_subgroup_basic : require
#pragma use_vulkan_memory_model
#if TYPE == 2
#extension GL_EXT_bfloat16 : require
#define Element bfloat16_t
#else
#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require
#define Element float16_t
#endif
#include "tile.glsl"
#include "elements.glsl"
#include "parts.glsl"

#define CPU 0
#include "x_rows.glsl"

#define ROWS 128
#define SPAN 64
#define THREADS 128
#define STEP DRAFT_PARTS
#include "excess.glsl"

#define KEY_BLOCKS (N / 8) /* 1 with 8x8x8, whose subgroups may have 8 invocations only; else 2 */
#define STRIPS KEY_BLOCKS
#define PAIRS (M * KEY_BLOCKS) /* as many invocations at least has a subgroup */

#define COLUMNS (KEY_BLOCKS * DRAFT_PARTS)
#define ROW_UNITS (DIM / PER_UNIT)
#define PITCH (ROW_UNITS + 1)           /* units; odd, so that rows fall on different banks */
#define PRODUCT_PITCH (COLUMNS / 4 + 1) /* vectors; likewise */
#define OWN_UNITS (COLUMNS * ROW_UNITS / THREADS) /* of a step, for each invocation */

// Matrices of 8 columns are those of software, which compiles this unrolled for most of a minute.
#if N == 8
#define UNROLLED [[dont_unroll]]
#else
#define UNROLLED [[unroll]]
#endif

layout(local_size_x = THREADS) in;

#define Left coopmat<Element, gl_ScopeSubgroup, M, K, gl_MatrixUseA>
#define Right coopmat<Element, gl_ScopeSubgroup, K, N, gl_MatrixUseB>
#define Sums coopmat<float, gl_ScopeSubgroup, M, N, gl_MatrixUseAccumulator>

shared uvec4 tile[COLUMNS * PITCH];
shared vec4 products[THREADS / PAIRS * M * PRODUCT_PITCH];

#define ID gl_LocalInvocationIndex
#define LANE gl_SubgroupInvocationID
#define OWN_PRODUCTS (gl_SubgroupID * M * PRODUCT_PITCH) /* where those of a subgroup begin */

Left q[STRIPS][DIM / K];
Sums sums[STRIPS][COLUMNS / N];
uvec4 coming[OWN_UNITS];

// Some rows of a matrix: from the first on, `count` of them, at least 1.
struct Rows {
    uvec2 first;
    uint count;
};

// From these rows COLUMNS on, and ROW_UNITS units of each; 0 outside.
void fetch(Rows rows)
{
    uint width = G.dim / PER_UNIT;
    [[unroll]] for (uint i = 0; i < OWN_UNITS; i++) {
        uint n = i * THREADS + ID, row = n / ROW_UNITS, unit = n % ROW_UNITS;
        uint from = min(row, rows.count - 1) * width + min(unit, width - 1);
        coming[i] = row < rows.count && unit < width ? Units(rows.first).v[from] : uvec4(0);
    }
}

// Ends with a barrier.
void stage()
{
    [[unroll]] for (uint i = 0; i < OWN_UNITS; i++) {
        uint n = i * THREADS + ID;
        tile[n / ROW_UNITS * PITCH + n % ROW_UNITS] = coming[i];
    }
    barrier();
}

// The rows of all subgroups, COLUMNS at a time. head: all rows of q.
void load_queries(uvec2 head, uint first, uint end)
{
    uint own = gl_SubgroupID * PAIRS;
    for (uint start = 0; start < gl_NumSubgroups * PAIRS; start += COLUMNS) {
        uint row = min(first + start, end - 1);
        fetch(Rows(at(head, row, G.dim / PER_UNIT, 4), end - row));
        stage();
        if (own / COLUMNS == start / COLUMNS)
            [[unroll]] for (uint s = 0; s < STRIPS; s++)
                UNROLLED for (uint i = 0; i < DIM / K; i++)
                    coopMatLoad(q[s][i], tile, (own % COLUMNS + s * M) * PITCH + i * (K / PER_UNIT),
                                PITCH, gl_CooperativeMatrixLayoutRowMajor);
        barrier();
    }
}

void multiply()
{
    [[unroll]] for (uint s = 0; s < STRIPS; s++)
        [[unroll]] for (uint c = 0; c < COLUMNS / N; c++)
            sums[s][c] = Sums(0.0);
    UNROLLED for (uint i = 0; i < DIM / K; i++)
        [[unroll]] for (uint c = 0; c < COLUMNS / N; c++) {
            Right k;
            coopMatLoad(k, tile, c * N * PITCH + i * (K / PER_UNIT), PITCH,
                        gl_CooperativeMatrixLayoutColumnMajor);
            [[unroll]] for (uint s = 0; s < STRIPS; s++)
                sums[s][c] = coopMatMulAdd(q[s][i], k, sums[s][c]);
        }
}

// x of the pairs of this invocation: its row of each strip from x.v[0] on, as far as `rows` goes.
// info: of its key block, `valid` where there is one.
void write_scores(Floats x, uint rows, uint info, bool valid)
{
    float w[DRAFT_PARTS];
    shares_of(info, w);
    [[unroll]] for (uint s = 0; s < STRIPS; s++) {
        [[unroll]] for (uint c = 0; c < COLUMNS / N; c++)
            coopMatStore(sums[s][c], products, OWN_PRODUCTS + c * (N / 4), PRODUCT_PITCH,
                         gl_CooperativeMatrixLayoutRowMajor);
        subgroupBarrier();
        if (LANE < PAIRS && valid && LANE / KEY_BLOCKS + s * M < rows) {
            vec4 own[DRAFT_PARTS / 4];
            uint place = OWN_PRODUCTS + LANE / KEY_BLOCKS * PRODUCT_PITCH +
                         LANE % KEY_BLOCKS * (DRAFT_PARTS / 4);
            [[unroll]] for (uint i = 0; i < DRAFT_PARTS / 4; i++)
                own[i] = products[place + i];
            x.v[s * M * G.video_blocks] = excess_of(own, w, info);
        }
        subgroupBarrier();
    }
}

void main()
{
    uint s = G.video_blocks, end = s * DRAFT_QUARTERS, down = (end + ROWS - 1) / ROWS;
    uint tiles = (s + SPAN - 1) / SPAN * down;
    uint slot = workgroup() / tiles, work = workgroup() % tiles, head = a.step + slot;
    if (head >= G.batch * G.heads) // the last portion may have fewer
        return;
    uint kv_head = head / G.heads * G.kv_heads + head % G.heads / G.group;
    uint first = work / down * SPAN, last = min(first + SPAN, s), width = G.dim / PER_UNIT;
    uvec2 q_head = at(part(G.parts_q), head * end, width, 4);
    uvec2 k_head = at(part(G.parts_k), kv_head * s * DRAFT_PARTS, width, 4);
    fill_shares();
    for (uint turn = 0; turn < ROWS; turn += gl_NumSubgroups * PAIRS) {
        uint row = work % down * ROWS + turn;
        load_queries(q_head, row, end);
        row += gl_SubgroupID * PAIRS;
        uint rows = row < end ? end - row : 0;
        fetch(Rows(at(k_head, first * DRAFT_PARTS, width, 4), (last - first) * DRAFT_PARTS));
        for (uint j = first; j < last; j += KEY_BLOCKS) {
            stage();
            uint own = j + LANE % KEY_BLOCKS, next = min(j + KEY_BLOCKS, last - 1);
            uint info = span_info(min(own, last - 1));
            fetch(Rows(at(k_head, next * DRAFT_PARTS, width, 4), (last - next) * DRAFT_PARTS));
            multiply();
            barrier(); // the tile is free
            Floats x = x_row(slot, row + LANE / KEY_BLOCKS);
            x = Floats(at(uvec2(x), own, 1, 2));
            write_scores(x, rows, info, own < last);
        }
    }
}
