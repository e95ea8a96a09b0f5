#version 460
// SPDX-License-Identifier: MIT
//
// attend on matrix units (VK_KHR_cooperative_matrix): products of f16 or bf16, sums in f32.
//
//   workgroup   one query block; its rows in strips of M, a strip for each subgroup at a time:
//                 rows  0 ... M - 1  subgroup 0;  M ... 2 M - 1  subgroup 1;  ...
//               and where there are fewer subgroups than strips, the keys are walked again
//   key tile    KEYS keys, staged by all; k, then v, in the same place, as they are in memory
//   logits      M x KEYS for each subgroup, through shared memory
//   softmax     a row for each of the first M invocations of a subgroup
//   out         M x DIM for each subgroup, in accumulators; rows are rescaled by a matrix that is
//               loaded with a stride of 0 from the column of factors
//
// Bound by the trip of logits and probabilities through shared memory: 6 bytes for 4 DIM flops.
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_cooperative_matrix : require
#extension GL_KHR_memory_scope_semantics : require
#extension GL_KHR_shader_subgroup_basic : require
#pragma use_vulkan_memory_model
#ifdef TYPE /* 2 */
#extension GL_EXT_bfloat16 : require
#define Element bfloat16_t
#else
#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require
#define Element float16_t
#define TYPE 1
#endif
#include "attend.glsl"

#define THREADS 128
#define KEYS 16
#define LOG2_E 1.4426950408889634

layout(local_size_x = THREADS) in;

#define ROW_UNITS (DIM / PER_UNIT)
#define PITCH (ROW_UNITS + 1) /* units; odd, so that rows fall on different banks */

#define Left coopmat<Element, gl_ScopeSubgroup, M, K, gl_MatrixUseA>
#define Right coopmat<Element, gl_ScopeSubgroup, K, N, gl_MatrixUseB>
#define Sums coopmat<float, gl_ScopeSubgroup, M, N, gl_MatrixUseAccumulator>

// All subgroups together have at most DRAFT_BLOCK rows: M is not above the size of a subgroup.
shared uvec4 tile[KEYS * PITCH];
shared float s[DRAFT_BLOCK * KEYS];
shared Element p[DRAFT_BLOCK * KEYS];
shared float keep[DRAFT_BLOCK];
shared float key_bias[KEYS]; // times log2 (e)

#define ID gl_LocalInvocationIndex
#define LANE gl_SubgroupInvocationID
#define STRIP_ROW (gl_SubgroupID * M) /* first row of a subgroup in s, p and keep */

Left q[DIM / K];
Sums acc[DIM / N];

// Rows first ... of a block, the first `rows` of them; the others are 0.
void stage_rows(Block b, uvec2 head, uint stride, uint first, uint rows)
{
    for (uint u = ID; u < KEYS * ROW_UNITS; u += THREADS) {
        uint row = u / ROW_UNITS, slot = min(first + row, b.size - 1);
        uvec4 unit = load_unit(at(head, slot_token(b, slot), stride, 4), u % ROW_UNITS);
        tile[row * PITCH + u % ROW_UNITS] = row < rows ? unit : uvec4(0);
    }
}

// All strips of a turn, KEYS rows at a time.
void load_queries(Work w, uint first)
{
    for (uint start = 0; start < gl_NumSubgroups * M; start += KEYS) {
        uint row = first + start;
        stage_rows(w.b, w.q_head, a.q_token, row, row < w.b.size ? w.b.size - row : 0);
        barrier();
        if (STRIP_ROW / KEYS == start / KEYS)
            [[unroll]] for (uint i = 0; i < DIM / K; i++)
                coopMatLoad(q[i], tile, STRIP_ROW % KEYS * PITCH + i * (K / PER_UNIT), PITCH,
                            gl_CooperativeMatrixLayoutRowMajor);
        barrier();
    }
    [[unroll]] for (uint i = 0; i < DIM / N; i++)
        acc[i] = Sums(0.0);
}

void logits()
{
    [[dont_unroll]] for (uint c = 0; c < KEYS / N; c++) {
        Sums sum = Sums(0.0);
        [[unroll]] for (uint i = 0; i < DIM / K; i++) {
            Right k;
            coopMatLoad(k, tile, c * N * PITCH + i * (K / PER_UNIT), PITCH,
                        gl_CooperativeMatrixLayoutColumnMajor);
            sum = coopMatMulAdd(q[i], k, sum);
        }
        coopMatStore(sum, s, STRIP_ROW * KEYS + c * N, KEYS, gl_CooperativeMatrixLayoutRowMajor);
    }
    subgroupBarrier();
}

// One step of the running softmax: p becomes 2^(logit - m).
void softmax_step(inout float m, inout float l)
{
    if (LANE < M) {
        uint row = STRIP_ROW + LANE;
        float x[KEYS], most = m;
        [[unroll]] for (uint i = 0; i < KEYS; i++) {
            x[i] = fma(s[row * KEYS + i], G.scale * LOG2_E, key_bias[i]);
            most = max(most, x[i]);
        }
        float base = most == -INF ? 0.0 : most; // nothing to subtract from -INF
        float factor = exp2(m - base);
        l *= factor;
        [[unroll]] for (uint i = 0; i < KEYS; i++) {
            x[i] = exp2(x[i] - base);
            l += x[i];
            p[row * KEYS + i] = Element(x[i]);
        }
        m = most;
        keep[row] = factor;
    }
    subgroupBarrier();
}

void add_values()
{
    Sums factor;
    coopMatLoad(factor, keep, STRIP_ROW, 0, gl_CooperativeMatrixLayoutColumnMajor);
    [[unroll]] for (uint i = 0; i < DIM / N; i++)
        acc[i] *= factor;
    [[dont_unroll]] for (uint c = 0; c < KEYS / K; c++) {
        Left weights;
        coopMatLoad(weights, p, STRIP_ROW * KEYS + c * K, KEYS,
                    gl_CooperativeMatrixLayoutRowMajor);
        [[unroll]] for (uint i = 0; i < DIM / N; i++) {
            Right v;
            coopMatLoad(v, tile, c * K * PITCH + i * (N / PER_UNIT), PITCH,
                        gl_CooperativeMatrixLayoutRowMajor);
            acc[i] = coopMatMulAdd(weights, v, acc[i]);
        }
    }
}

void add_block(KeyRows keys, inout float m, inout float l)
{
    for (uint first = 0; first < keys.b.valid; first += KEYS) {
        uint count = min(keys.b.valid - first, KEYS);
        stage_rows(keys.b, keys.k, keys.k_stride, first, count);
        if (ID < KEYS)
            key_bias[ID] = bias_of(keys, first + ID) * LOG2_E;
        barrier();
        logits();
        barrier();
        stage_rows(keys.b, keys.v, keys.v_stride, first, count);
        softmax_step(m, l);
        barrier();
        add_values();
        barrier();
    }
}

// Rows without a key, and text rows beyond the valid length, are 0 with lse = -INF.
void store(Work w, uint first, float m, float l)
{
    if (LANE < M) {
        uint slot = first + STRIP_ROW + LANE;
        l = slot < w.b.valid ? l : 0.0;
        keep[STRIP_ROW + LANE] = l;
        if (slot < w.b.size)
            store_lse(w, slot, l != 0.0 ? m / LOG2_E + log(l) : -INF);
    }
    [[dont_unroll]] for (uint part = 0; part < DIM / KEYS; part++) {
        [[unroll]] for (uint i = 0; i < DIM / N; i++)
            if (i / (KEYS / N) == part)
                coopMatStore(acc[i], s, STRIP_ROW * KEYS + i % (KEYS / N) * N, KEYS,
                             gl_CooperativeMatrixLayoutRowMajor);
        subgroupBarrier();
        for (uint e = LANE; e < M * KEYS / 4; e += gl_SubgroupSize) {
            uint row = e / (KEYS / 4), place = STRIP_ROW * KEYS + 4 * e;
            uint column = part * (KEYS / 4) + e % (KEYS / 4), slot = first + STRIP_ROW + row;
            float sum = keep[STRIP_ROW + row];
            vec4 x = vec4(s[place], s[place + 1], s[place + 2], s[place + 3]);
            if (slot < w.b.size && 4 * column < G.dim)
                store4(out_row(w, slot), column, sum != 0.0 ? x / sum : vec4(0));
        }
        subgroupBarrier();
    }
}

void main()
{
    Work w = work_of(workgroup());
    for (uint first = 0; first < w.b.size; first += gl_NumSubgroups * M) {
        load_queries(w, first);
        float m = -INF, l = 0.0; // of row LANE of the strip
        for (uint n = w.start; n <= w.count; n++)
            add_block(key_rows(w, n), m, l);
        store(w, first, m, l);
    }
}
