#version 460
// SPDX-License-Identifier: MIT
//
// attend on matrix units that also reduce, convert and map matrices (VK_NV_cooperative_matrix2):
// f16 products, f32 sums. Logits and probabilities never leave the matrices.
//
//   workgroup   one query block; its rows in strips of M, a strip for each subgroup at a time:
//                 rows  0 ... M - 1  subgroup 0;  M ... 2 M - 1  subgroup 1;  ...
//               and where there are fewer subgroups than strips, the keys are walked again
//   key tile    KEYS keys, staged by all: k, and v behind it, as they are in memory. (Operands that
//               each subgroup loads from memory itself need no barrier, but took 1.6 times as long
//               on software, and tiles of most widths have no constant stride.)
//   logits      M x KEYS for each subgroup, in accumulators of M x N; they become the left
//               operand of the product with v, so N = K
//   softmax     maximum of a row by a reduction, in all columns of a matrix of the shape of an
//               accumulator; so what rescales a row multiplies the accumulators element by element
//   out         M x DIM for each subgroup, in accumulators
//
// Bound by the loads of k and v as operands: 2 bytes for 2 M flops.
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_cooperative_matrix : require
#extension GL_KHR_memory_scope_semantics : require
#extension GL_KHR_shader_subgroup_basic : require
#ifdef MAINTENANCE1 // the same operations by another name
#extension GL_EXT_cooperative_matrix_maintenance1 : require
#define REDUCE_ROWS(to, from, with)                                                                \
    coopMatReduceEXT(to, from, gl_CooperativeMatrixReduceRowEXT, with)
#define MAP coopMatPerElementEXT
#else
#extension GL_NV_cooperative_matrix2 : require
#define REDUCE_ROWS(to, from, with)                                                                \
    coopMatReduceNV(to, from, gl_CooperativeMatrixReduceRowNV, with)
#define MAP coopMatPerElementNV
#endif
#if TYPE == 2
#extension GL_EXT_bfloat16 : require
#define ELEMENT bfloat16_t
#else
#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require
#define ELEMENT float16_t
#endif
#pragma use_vulkan_memory_model
#include "attend.glsl"

#define THREADS 128
#define KEYS (2048 / DIM)
#define LOG2_E 1.4426950408889634

layout(local_size_x = THREADS) in;

#define ROW_UNITS (DIM / PER_UNIT)
#define PITCH (ROW_UNITS + 1) /* units; odd, so that rows fall on different banks */

#define Left coopmat<ELEMENT, gl_ScopeSubgroup, M, K, gl_MatrixUseA>
#define Right coopmat<ELEMENT, gl_ScopeSubgroup, K, N, gl_MatrixUseB>
#define Sums coopmat<float, gl_ScopeSubgroup, M, N, gl_MatrixUseAccumulator>

#define CHUNKS (KEYS / N)
#define OUT_UNITS (N / 4)        /* of a row of an accumulator in the tile, at the end */
#define VALUES (KEYS * PITCH) /* where v begins in the tile */

shared uvec4 tile[2 * KEYS * PITCH];

#define ID gl_LocalInvocationIndex
#define LANE gl_SubgroupInvocationID
#define STRIP_ROW (gl_SubgroupID * M)

Left q[DIM / K];
Sums acc[DIM / N];
Sums most, total; // maximum of each row, in all columns; its sum, as parts in the columns

// ---- Functions of elements: row, column, element, ... ------------------------------------------

// In powers of two.
float logit(const in uint row, const in uint column, const in float x, const in uint first,
            const in uint keys, const in uvec2 bias)
{
    return (x * G.scale + bias_at(bias, keys, first + column)) * LOG2_E;
}

float larger(const in float x, const in float y)
{
    return max(x, y);
}

float sum(const in float x, const in float y)
{
    return x + y;
}

float larger_of(const in uint row, const in uint column, const in float x, const in float y)
{
    return max(x, y);
}

// There is nothing to subtract from -INF.
float weight(const in uint row, const in uint column, const in float x, const in float maximum)
{
    return exp2(x - (maximum == -INF ? 0.0 : maximum));
}

float rescale(const in uint row, const in uint column, const in float x, const in float y)
{
    return weight(row, column, x, max(x, y));
}

float quotient(const in uint row, const in uint column, const in float x, const in float y)
{
    return y != 0.0 ? x / y : 0.0;
}

float lse_of(const in uint row, const in uint column, const in float x, const in float y)
{
    return y != 0.0 ? x / LOG2_E + log(y) : -INF;
}

// ---- Staging -----------------------------------------------------------------------------------

// Rows first ... of a block, the first `rows` of them; the others are 0.
void stage_rows(uint place, Block b, uvec2 head, uint stride, uint first, uint rows)
{
    for (uint u = ID; u < KEYS * ROW_UNITS; u += THREADS) {
        uint row = u / ROW_UNITS, slot = min(first + row, b.size - 1);
        uvec4 unit = load_unit(at(head, slot_token(b, slot), stride, 4), u % ROW_UNITS);
        tile[place + row * PITCH + u % ROW_UNITS] = row < rows ? unit : uvec4(0);
    }
}

// All strips of a turn, KEYS rows at a time.
void load_queries(Work w, uint first)
{
    for (uint start = 0; start < gl_NumSubgroups * M; start += KEYS) {
        uint row = first + start;
        stage_rows(0, w.b, w.q_head, a.q_token, row, row < w.b.size ? w.b.size - row : 0);
        barrier();
        if (STRIP_ROW / KEYS == start / KEYS)
            [[unroll]] for (uint i = 0; i < DIM / K; i++)
                coopMatLoad(q[i], tile, STRIP_ROW % KEYS * PITCH + i * (K / PER_UNIT), PITCH,
                            gl_CooperativeMatrixLayoutRowMajor);
        barrier();
    }
    [[unroll]] for (uint i = 0; i < DIM / N; i++)
        acc[i] = Sums(0.0);
    most = Sums(-INF);
    total = Sums(0.0);
}

// ---- Keys --------------------------------------------------------------------------------------

// The staged keys: `keys` of them count. bias: see KeyRows.
void add_tile(uint keys, uvec2 bias)
{
    Sums s[CHUNKS], found, factor;
    [[unroll]] for (uint c = 0; c < CHUNKS; c++) {
        s[c] = Sums(0.0);
        [[unroll]] for (uint i = 0; i < DIM / K; i++) {
            Right k;
            coopMatLoad(k, tile, c * N * PITCH + i * (K / PER_UNIT), PITCH,
                        gl_CooperativeMatrixLayoutColumnMajor);
            s[c] = coopMatMulAdd(q[i], k, s[c]);
        }
        MAP(s[c], s[c], logit, c * N, keys, bias);
        if (c == 0)
            found = s[c];
        else
            MAP(found, found, larger_of, s[c]);
    }
    REDUCE_ROWS(found, found, larger);
    MAP(factor, most, rescale, found);
    MAP(most, most, larger_of, found);
    total *= factor;
    [[unroll]] for (uint i = 0; i < DIM / N; i++)
        acc[i] *= factor;
    [[unroll]] for (uint c = 0; c < CHUNKS; c++) {
        MAP(s[c], s[c], weight, most);
        total += s[c];
        Left weights = Left(s[c]);
        [[unroll]] for (uint i = 0; i < DIM / N; i++) {
            Right v;
            coopMatLoad(v, tile, VALUES + c * K * PITCH + i * (N / PER_UNIT), PITCH,
                        gl_CooperativeMatrixLayoutRowMajor);
            acc[i] = coopMatMulAdd(weights, v, acc[i]);
        }
    }
}

void add_block(KeyRows keys)
{
    for (uint first = 0; first < keys.b.valid; first += KEYS) {
        uint count = min(keys.b.valid - first, KEYS);
        stage_rows(0, keys.b, keys.k, keys.k_stride, first, count);
        stage_rows(VALUES, keys.b, keys.v, keys.v_stride, first, count);
        barrier();
        add_tile(count, any2(keys.bias) ? at(keys.bias, first, 1, 2) : keys.bias);
        barrier();
    }
}

// ---- Out ---------------------------------------------------------------------------------------

// Rows without a key, and text rows beyond the valid length, are 0 with lse = -INF.
void store(Work w, uint first)
{
    Sums lse;
    REDUCE_ROWS(total, total, sum);
    MAP(lse, most, lse_of, total);
    for (uint part = 0; part <= DIM / N; part++) {
        if (part == 0)
            coopMatStore(lse, tile, STRIP_ROW * OUT_UNITS, OUT_UNITS,
                         gl_CooperativeMatrixLayoutRowMajor);
        [[unroll]] for (uint i = 0; i < DIM / N; i++)
            if (i + 1 == part) {
                MAP(acc[i], acc[i], quotient, total);
                coopMatStore(acc[i], tile, STRIP_ROW * OUT_UNITS, OUT_UNITS,
                             gl_CooperativeMatrixLayoutRowMajor);
            }
        subgroupBarrier();
        for (uint e = LANE; e < M * OUT_UNITS; e += gl_SubgroupSize) {
            uint slot = first + STRIP_ROW + e / OUT_UNITS, column = e % OUT_UNITS;
            uint unit = (part - 1) * OUT_UNITS + column;
            bool valid = slot < w.b.valid;
            vec4 x = uintBitsToFloat(tile[STRIP_ROW * OUT_UNITS + e]);
            if (slot >= w.b.size)
                continue;
            if (part == 0 && column == 0)
                store_lse(w, slot, valid ? x.x : -INF);
            else if (part > 0 && 4 * unit < G.dim)
                store4(out_row(w, slot), unit, valid ? x : vec4(0));
        }
        subgroupBarrier();
    }
}

void main()
{
    Work w = work_of(workgroup());
    for (uint first = 0; first < w.b.size; first += gl_NumSubgroups * M) {
        load_queries(w, first);
        for (uint n = w.start; n <= w.count; n++)
            add_block(key_rows(w, n));
        store(w, first);
        barrier();
    }
}
