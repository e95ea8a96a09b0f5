#version 460
// SPDX-License-Identifier: MIT
//
// attend for f16 on GPUs that calculate with it: 128 invocations, 30 KB of shared memory. As
// attend.comp, but q, k and v are staged as they are, so that more rows, larger parts of a tile and
// all of q fit. They are widened for each multiply-add; nothing else is rounded.
//
//   workgroup   ROWS query rows of one block; DRAFT_BLOCK / ROWS workgroups for each block
//   key tile    KEYS keys; k staged DEPTH elements, v VALUES keys at a time. What is staged next is
//               on its way from memory while the last is worked on
//   logits      8 rows x 4 keys for each invocation, 8 x 16 invocations, in registers:
//                 invocation  0: rows 0-7,  keys 0, 1, 32, 33   1: keys 2, 3, 34, 35   ...
//                            16: rows 8-15, keys 0, 1, 32, 33   ...
//   softmax     shared memory gets the largest of these 4, and an invocation for each row finds the
//               largest of all; then the weights of one half of the keys, then of the other
//   out         OUT_ROWS rows x 8 columns for each invocation, in registers
//
// Bound by multiply-adds, and by widening where that is an instruction of its own: 3 for 8. Loads
// from shared memory: 16 bytes for 21 multiply-adds, in out at DIM 64 for 16.
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require
#define TYPE 1
#include "attend.glsl"

#define THREADS 128
#define ROWS 64
#define KEYS 64
#define DEPTH 32
#define VALUES (2048 / DIM)
#define LOG2_E 1.4426950408889634

layout(local_size_x = THREADS) in;

#define ROW_UNITS (DIM / PER_UNIT)
#define STEP_UNITS (DEPTH / PER_UNIT) /* of one row */
#define PITCH (STEP_UNITS + 1)        /* odd, so that rows fall on different banks */
#define LOADS (KEYS * STEP_UNITS / THREADS)
#define OUT_ROWS (ROWS * ROW_UNITS / THREADS)

shared uvec4 q[ROWS * ROW_UNITS];
shared uvec4 stage[KEYS * PITCH]; // k; or v [VALUES][ROW_UNITS]; or 16 numbers for each row
shared vec2 p[ROWS * KEYS / 4];   // weights, of half of the keys
shared float keep[ROWS], top[ROWS];

#define ID gl_LocalInvocationID.x
#include "attend_keys.glsl"

#define GROUP (ID % 16) /* of keys */
#define FIRST_ROW (ID / 16 * 8)
#define FIRST_OUT (ID / ROW_UNITS * OUT_ROWS)

vec4 acc[OUT_ROWS][2]; // the columns 8 (ID % ROW_UNITS) on
float sums[8];         // of the weights that this invocation found, for each row
float m = -INF;        // largest logit of row ID
uvec4 next[LOADS];

vec4[2] widen(uvec4 x)
{
    return vec4[2](vec4(unpackFloat2x16(x.x), unpackFloat2x16(x.y)),
                   vec4(unpackFloat2x16(x.z), unpackFloat2x16(x.w)));
}

float most_of(vec4 x)
{
    return max(max(x.x, x.y), max(x.z, x.w));
}

// Two of the weights of a row. Rows of different invocations are on different banks.
uint p_place(uint row, uint i)
{
    return row * (KEYS / 4) + (i ^ row / 4 % 4 * 2);
}

// ---- Logits ------------------------------------------------------------------------------------

void fetch_keys(uvec2 k, uint stride, uint depth)
{
    [[unroll]] for (uint n = 0; n < LOADS; n++) {
        uint place = key_place[ID / STEP_UNITS + n * (THREADS / STEP_UNITS)];
        next[n] = load_unit(at(k, place, stride, 4), depth / PER_UNIT + ID % STEP_UNITS);
    }
}

// The keys of a group are KEYS / 4 apart, so that invocations side by side read rows side by side.
void put_keys()
{
    [[unroll]] for (uint n = 0; n < LOADS; n++) {
        uint key = ID / STEP_UNITS + n * (THREADS / STEP_UNITS);
        uint place = (key / 32 * 2 + key % 2) * (KEYS / 4) + key % 32 / 2;
        stage[place * PITCH + ID % STEP_UNITS] = next[n];
    }
}

// Logits of the tile times log2 (e).
void logits(uvec2 k, uint stride, out vec4 s[8])
{
    [[unroll]] for (uint r = 0; r < 8; r++)
        s[r] = vec4(0);
    fetch_keys(k, stride, 0);
    for (uint depth = 0; depth < G.dim; depth += DEPTH) {
        put_keys();
        barrier();
        fetch_keys(k, stride, depth + DEPTH);
        [[dont_unroll]] for (uint d = 0; d < STEP_UNITS; d++) {
            vec4 x[4][2];
            [[unroll]] for (uint c = 0; c < 4; c++)
                x[c] = widen(stage[(c * (KEYS / 4) + GROUP) * PITCH + d]);
            [[unroll]] for (uint r = 0; r < 8; r++) {
                vec4 y[2] = widen(q[(FIRST_ROW + r) * ROW_UNITS + depth / PER_UNIT + d]);
                [[unroll]] for (uint e = 0; e < 8; e++)
                    s[r] = fma(vec4(y[e / 4][e % 4]),
                               vec4(x[0][e / 4][e % 4], x[1][e / 4][e % 4], x[2][e / 4][e % 4],
                                    x[3][e / 4][e % 4]), s[r]);
            }
        }
        barrier();
    }
    vec4 low = key_bias[GROUP / 2], high = key_bias[GROUP / 2 + 8];
    vec4 bias = GROUP % 2 == 0 ? vec4(low.xy, high.xy) : vec4(low.zw, high.zw);
    [[unroll]] for (uint r = 0; r < 8; r++)
        s[r] = fma(s[r], vec4(G.scale * LOG2_E), bias);
}

// ---- Softmax -----------------------------------------------------------------------------------

// One step of the running softmax: s becomes 2^(s - m), for the m that the row's invocation holds.
void softmax_step(inout vec4 s[8])
{
    [[unroll]] for (uint r = 0; r < 8; r++)
        stage[(FIRST_ROW + r) * PITCH + GROUP / 4][GROUP % 4] = floatBitsToUint(most_of(s[r]));
    barrier();
    if (ID < ROWS) {
        float most = m;
        [[unroll]] for (uint i = 0; i < 4; i++)
            most = max(most, most_of(uintBitsToFloat(stage[ID * PITCH + i])));
        float base = most == -INF ? 0.0 : most; // nothing to subtract from -INF
        keep[ID] = exp2(m - base);
        top[ID] = base;
        m = most;
    }
    barrier();
    [[unroll]] for (uint r = 0; r < 8; r++) {
        s[r] = exp2(s[r] - top[FIRST_ROW + r]);
        sums[r] = sums[r] * keep[FIRST_ROW + r] + (s[r].x + s[r].y) + (s[r].z + s[r].w);
    }
}

// ---- Out ---------------------------------------------------------------------------------------

void fetch_values(uvec2 v, uint stride, uint first, uint keys)
{
    [[unroll]] for (uint n = 0; n < LOADS; n++) {
        uint u = ID + n * THREADS, key = first + u / ROW_UNITS;
        next[n] = key < keys ? load_unit(at(v, key_place[key], stride, 4), u % ROW_UNITS)
                             : uvec4(0);
    }
}

void add_values(vec4 s[8], uvec2 v, uint stride, uint keys)
{
    [[unroll]] for (uint r = 0; r < 2 * OUT_ROWS; r++)
        acc[r / 2][r % 2] *= keep[FIRST_OUT + r / 2];
    for (uint first = 0; first < keys; first += VALUES) {
        [[unroll]] for (uint r = 0; r < 8; r++)
            if (first % 32 == 0)
                p[p_place(FIRST_ROW + r, GROUP)] = first == 0 ? s[r].xy : s[r].zw;
        [[unroll]] for (uint n = 0; n < LOADS; n++)
            stage[ID + n * THREADS] = next[n];
        barrier();
        fetch_values(v, stride, first + VALUES, keys);
        [[dont_unroll]] for (uint i = 0; i < VALUES; i += 4) {
            vec4 w[OUT_ROWS];
            [[unroll]] for (uint r = 0; r < OUT_ROWS; r++) {
                uint place = p_place(FIRST_OUT + r, (first + i) % 32 / 2);
                w[r] = vec4(p[place], p[place + 1]);
            }
            [[unroll]] for (uint e = 0; e < 4; e++) {
                vec4 x[2] = widen(stage[(i + e) * ROW_UNITS + ID % ROW_UNITS]);
                [[unroll]] for (uint r = 0; r < 2 * OUT_ROWS; r++)
                    acc[r / 2][r % 2] = fma(vec4(w[r / 2][e]), x[r % 2], acc[r / 2][r % 2]);
            }
        }
        barrier();
    }
}

void add_tile(uvec2 k, uint k_stride, uvec2 v, uint v_stride, uint keys)
{
    vec4 s[8];
    logits(k, k_stride, s);
    fetch_values(v, v_stride, 0, keys);
    softmax_step(s);
    add_values(s, v, v_stride, keys);
}

// ---- Rows --------------------------------------------------------------------------------------

void start(Work w, uint first)
{
    [[unroll]] for (uint r = 0; r < OUT_ROWS; r++)
        acc[r] = vec4[2](vec4(0), vec4(0));
    sums = float[8](0, 0, 0, 0, 0, 0, 0, 0);
    for (uint u = ID; u < ROWS * ROW_UNITS; u += THREADS)
        q[u] = load_unit(query_row(w, min(first + u / ROW_UNITS, w.b.size - 1)), u % ROW_UNITS);
}

// Log-sum-exp, and in keep what a row is divided by: 0 where it has no key or does not count.
void finish(Work w, uint first)
{
    uint slot = first + ID;
    [[unroll]] for (uint r = 0; r < 8; r++)
        stage[(FIRST_ROW + r) * PITCH + GROUP / 4][GROUP % 4] = floatBitsToUint(sums[r]);
    barrier();
    if (ID < ROWS) {
        vec4 sum = vec4(0);
        [[unroll]] for (uint i = 0; i < 4; i++)
            sum += uintBitsToFloat(stage[ID * PITCH + i]);
        float l = slot < w.b.valid ? (sum.x + sum.y) + (sum.z + sum.w) : 0.0;
        keep[ID] = l;
        if (slot < w.b.size)
            store_lse(w, slot, l != 0.0 ? m / LOG2_E + log(l) : -INF);
    }
    barrier();
}

void store(Work w, uint first)
{
    [[unroll]] for (uint i = 0; i < 2 * OUT_ROWS; i++) {
        uint slot = first + FIRST_OUT + i / 2, column = ID % ROW_UNITS * 2 + i % 2;
        float l = keep[FIRST_OUT + i / 2];
        if (slot < w.b.size && 4 * column < G.dim)
            store4(out_row(w, slot), column, l != 0.0 ? acc[i / 2][i % 2] / l : vec4(0));
    }
}

void main()
{
    Work w = work_of(workgroup() / (DRAFT_BLOCK / ROWS));
    uint first = workgroup() % (DRAFT_BLOCK / ROWS) * ROWS;
    if (first >= w.b.size)
        return;
    start(w, first);
    for (uint n = w.start; n <= w.count && first < w.b.valid; n++)
        add_block(key_rows(w, n));
    finish(w, first);
    store(w, first);
}
