#version 460
// SPDX-License-Identifier: MIT
//
// attend for any GPU: no matrix units, no subgroups, 128 invocations, 16 KB of shared memory.
//
//   workgroup   ROWS query rows of one block; DRAFT_BLOCK / ROWS workgroups for each block
//   key tile    KEYS keys; q and k staged DEPTH elements, v VALUES keys at a time, as f32.
//               What is staged next is on its way from memory while the last is worked on
//   logits      4 rows x 4 keys for each invocation, 16 x 8 invocations; then shared memory:
//                 invocation  0: rows 0-3, keys 0-3   1: keys 4-7  ...  7: keys 28-31
//                             8: rows 4-7, keys 0-3   ...
//   softmax     half a row for each invocation
//   out         4 rows x DIM / 8 columns for each invocation, in registers; rows as in the logits
//
// Bound by shared memory: a load of 16 bytes for 8 multiply-adds in the logits, for 13 in out.
#extension GL_GOOGLE_include_directive : require
#include "attend.glsl"

#define THREADS 128
#define ROWS 64
#define KEYS 32
#define DEPTH 16
#define VALUES (1024 / DIM)
#define VECTORS (DIM / 32) /* of out, for each row of an invocation */
#define LOG2_E 1.4426950408889634

layout(local_size_x = THREADS) in;

// An odd number of 16 bytes, so that rows fall on different banks.
#define PITCH (DEPTH / 4 + 1)
#define STEP_UNITS (DEPTH / PER_UNIT) /* of one row */
#define Q_LOADS (ROWS * STEP_UNITS / THREADS)
#define ROW_UNITS (DIM / PER_UNIT)
#define V_LOADS (VALUES * ROW_UNITS / THREADS)

// Rows of q, then of k; or v [VALUES][DIM / 4]; or one number of each invocation.
shared vec4 stage[(ROWS + KEYS) * PITCH];
shared vec4 p[ROWS * KEYS / 4];
shared float keep[ROWS];
shared uint key_token[KEYS];
shared vec4 key_bias[KEYS / 4]; // times log2 (e)

#define ID gl_LocalInvocationID.x
#define FIRST_ROW (ID / 8 * 4)

// Vector c of a row holds the columns 4 (ID % 8 + 8 c) on.
vec4 acc[4][VECTORS];
uvec2 q_row[Q_LOADS]; // the rows of q that this invocation stages
uvec4 next[max(Q_LOADS + 1, V_LOADS)];

// The logits of keys 4 i ... 4 i + 3 of a row. Neighbouring rows start at different banks.
uint p_place(uint row, uint i)
{
    return row * (KEYS / 4) + (i ^ row % (KEYS / 4));
}

// Keys 4 i + e lie at 8 e + i, so that invocations side by side read rows side by side.
uint k_place(uint key)
{
    return ROWS + key % 4 * (KEYS / 4) + key / 4;
}

void put(uint target, uvec4 unit)
{
    [[unroll]] for (uint e = 0; e < UNIT_VECTORS; e++)
        stage[target + e] = unpack4(unit, e);
}

// ---- Logits ------------------------------------------------------------------------------------

void fetch_step(uvec2 k_row, uint depth)
{
    uint unit = depth / PER_UNIT + ID % STEP_UNITS;
    [[unroll]] for (uint n = 0; n < Q_LOADS; n++)
        next[n] = load_unit(q_row[n], unit);
    if (ID / STEP_UNITS < KEYS)
        next[Q_LOADS] = load_unit(k_row, unit);
}

void put_step()
{
    uint row = ID / STEP_UNITS, column = ID % STEP_UNITS * UNIT_VECTORS;
    [[unroll]] for (uint n = 0; n < Q_LOADS; n++)
        put((row + n * (THREADS / STEP_UNITS)) * PITCH + column, next[n]);
    if (row < KEYS)
        put(k_place(row) * PITCH + column, next[Q_LOADS]);
}

// Logits of the tile times log2 (e), into p.
void logits(KeyRows keys)
{
    vec4 s[4] = vec4[4](vec4(0), vec4(0), vec4(0), vec4(0));
    uvec2 k_row = at(keys.k, key_token[min(ID / STEP_UNITS, KEYS - 1)], keys.k_stride, 4);
    fetch_step(k_row, 0);
    for (uint depth = 0; depth < G.dim; depth += DEPTH) {
        put_step();
        barrier();
        fetch_step(k_row, depth + DEPTH);
        [[unroll]] for (uint d = 0; d < DEPTH / 4; d++) {
            vec4 x[4];
            [[unroll]] for (uint c = 0; c < 4; c++)
                x[c] = stage[(ROWS + 8 * c + ID % 8) * PITCH + d];
            [[unroll]] for (uint r = 0; r < 4; r++) {
                vec4 y = stage[(FIRST_ROW + r) * PITCH + d];
                [[unroll]] for (uint e = 0; e < 4; e++)
                    s[r] = fma(vec4(y[e]), vec4(x[0][e], x[1][e], x[2][e], x[3][e]), s[r]);
            }
        }
        barrier();
    }
    [[unroll]] for (uint r = 0; r < 4; r++)
        p[p_place(FIRST_ROW + r, ID % 8)] = fma(s[r], vec4(G.scale * LOG2_E), key_bias[ID % 8]);
    barrier();
}

// ---- Softmax -----------------------------------------------------------------------------------

// One step: p becomes 2^(logit - m). The two invocations of a row have the same m, and each the l
// of its half.
void softmax_step(inout float m, inout float l)
{
    uint row = ID / 2;
    vec4 x[KEYS / 8], most4 = vec4(-INF);
    [[unroll]] for (uint i = 0; i < KEYS / 8; i++) {
        x[i] = p[p_place(row, ID % 2 * (KEYS / 8) + i)];
        most4 = max(most4, x[i]);
    }
    float most = max(max(most4.x, most4.y), max(most4.z, most4.w));
    stage[ID].x = most;
    barrier();
    most = max(m, max(most, stage[ID ^ 1].x));
    float base = most == -INF ? 0.0 : most; // nothing to subtract from -INF
    float factor = exp2(m - base);
    vec4 sum = vec4(0);
    [[unroll]] for (uint i = 0; i < KEYS / 8; i++) {
        x[i] = exp2(x[i] - base);
        sum += x[i];
        p[p_place(row, ID % 2 * (KEYS / 8) + i)] = x[i];
    }
    l = l * factor + (sum.x + sum.y) + (sum.z + sum.w);
    m = most;
    keep[row] = factor;
    barrier();
}

// ---- Out ---------------------------------------------------------------------------------------

// `size` keys are in the tile.
void fetch_values(KeyRows keys, uint first, uint size)
{
    [[unroll]] for (uint n = 0; n < V_LOADS; n++) {
        uint u = ID + n * THREADS, key = first + u / ROW_UNITS;
        uvec2 row = at(keys.v, key_token[min(key, KEYS - 1)], keys.v_stride, 4);
        next[n] = key < size ? load_unit(row, u % ROW_UNITS) : uvec4(0);
    }
}

void add_values(KeyRows keys, uint size)
{
    [[unroll]] for (uint r = 0; r < 4; r++) {
        float factor = keep[FIRST_ROW + r];
        [[unroll]] for (uint c = 0; c < VECTORS; c++)
            acc[r][c] *= factor;
    }
    for (uint first = 0; first < size; first += VALUES) {
        [[unroll]] for (uint n = 0; n < V_LOADS; n++)
            put((ID + n * THREADS) * UNIT_VECTORS, next[n]);
        barrier();
        fetch_values(keys, first + VALUES, size);
        for (uint i = 0; i < VALUES; i += 4) {
            vec4 w[4];
            [[unroll]] for (uint r = 0; r < 4; r++)
                w[r] = p[p_place(FIRST_ROW + r, (first + i) / 4)];
            [[unroll]] for (uint e = 0; e < 4; e++)
                [[unroll]] for (uint c = 0; c < VECTORS; c++) {
                    vec4 x = stage[(i + e) * (DIM / 4) + ID % 8 + 8 * c];
                    [[unroll]] for (uint r = 0; r < 4; r++)
                        acc[r][c] = fma(vec4(w[r][e]), x, acc[r][c]);
                }
        }
        barrier();
    }
}

void add_block(KeyRows keys, inout float m, inout float l)
{
    for (uint first = 0; first < keys.b.valid; first += KEYS) {
        uint size = min(keys.b.valid - first, KEYS);
        if (ID < KEYS) {
            key_token[ID] = slot_token(keys.b, min(first + ID, keys.b.valid - 1));
            key_bias[ID / 4][ID % 4] = bias_of(keys, first + ID) * LOG2_E;
        }
        barrier();
        logits(keys);
        fetch_values(keys, 0, size);
        softmax_step(m, l);
        add_values(keys, size);
    }
}

// ---- Rows --------------------------------------------------------------------------------------

// Log-sum-exp, and in keep what a row is divided by: 0 where it has no key or does not count.
void finish(Work w, uint first, float m, float l)
{
    uint slot = first + ID / 2;
    stage[ID].x = l;
    barrier();
    if (ID % 2 == 0) {
        l = slot < w.b.valid ? l + stage[ID + 1].x : 0.0;
        keep[ID / 2] = l;
        if (slot < w.b.size)
            store_lse(w, slot, l != 0.0 ? m / LOG2_E + log(l) : -INF);
    }
    barrier();
}

void store(Work w, uint first)
{
    [[unroll]] for (uint r = 0; r < 4; r++) {
        if (first + FIRST_ROW + r >= w.b.size)
            continue;
        uvec2 row = out_row(w, first + FIRST_ROW + r);
        float l = keep[FIRST_ROW + r];
        [[unroll]] for (uint c = 0; c < VECTORS; c++)
            if (4 * (ID % 8 + 8 * c) < G.dim)
                store4(row, ID % 8 + 8 * c, l != 0.0 ? acc[r][c] / l : vec4(0));
    }
}

void main()
{
    Work w = work_of(workgroup() / (DRAFT_BLOCK / ROWS));
    uint first = workgroup() % (DRAFT_BLOCK / ROWS) * ROWS;
    if (first >= w.b.size)
        return;
    [[unroll]] for (uint r = 0; r < 4; r++)
        [[unroll]] for (uint c = 0; c < VECTORS; c++)
            acc[r][c] = vec4(0);
    [[unroll]] for (uint n = 0; n < Q_LOADS; n++) {
        uint slot = first + ID / STEP_UNITS + n * (THREADS / STEP_UNITS);
        q_row[n] = query_row(w, min(slot, w.b.size - 1));
    }
    float m = -INF, l = 0.0; // of row ID / 2
    for (uint n = w.start; n <= w.count && first < w.b.valid; n++)
        add_block(key_rows(w, n), m, l);
    finish(w, first, m, l);
    store(w, first);
}
