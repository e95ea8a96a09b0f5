#version 460
// SPDX-License-Identifier: MIT
//
// attend for any GPU: no matrix units, no subgroup operations, 128 invocations, 16 KB of shared memory.
//
//   workgroup   ROWS query rows of one block; DRAFT_BLOCK / ROWS workgroups for each block
//   key tile    KEYS keys; q and k staged DEPTH elements at a time, v VALUES keys at a time, as f32
//   logits      4 x 4 for each invocation: 16 (rows) x 8 (keys) invocations; then shared memory
//   out         4 rows x DIM / 8 columns for each invocation, in registers
//
// Bound by shared memory: 8 loads for 16 multiply-adds in the logits, DIM / 8 + 4 for DIM / 2 in out.
#extension GL_GOOGLE_include_directive : require
#include "tile.glsl"
#include "elements.glsl"

#define THREADS 128
#define ROWS 64
#define KEYS 32
#define DEPTH 16
#define VALUES 8
#define VECTORS (DIM / 32) /* of out, for each row of an invocation */

layout(local_size_x = THREADS) in;

#define STAGE_PITCH (DEPTH + 1)
#define K_STAGE (ROWS * STAGE_PITCH)
shared float stage[(ROWS + KEYS) * STAGE_PITCH]; // q, then k; or v [VALUES][DIM]
shared float p[ROWS][KEYS + 1];
shared float keep[ROWS], part_of_row[THREADS];
shared uint q_offset[ROWS], key_token[KEYS];

// Rows 4 (id / 8) on; vector c holds the columns 4 (id % 8 + 8 c) on.
vec4 acc[4][VECTORS];

// Copy `rows` rows, elements depth ... depth + width, into the stage as f32; 0 beyond dim and
// beyond `valid` rows. offsets are read through the macro: tokens or units.
#define STAGE_ROWS(base, offset_of, rows, valid, depth, width, pitch, target)                       \
    for (uint u = gl_LocalInvocationID.x; u < (rows) * (width) / PER_UNIT; u += THREADS) {         \
        uint r = u / ((width) / PER_UNIT), d = u % ((width) / PER_UNIT) * PER_UNIT;                \
        uvec4 unit = uvec4(0);                                                                     \
        if (r < (valid) && (depth) + d < G.dim)                                                    \
            unit = (base).v[(offset_of) + ((depth) + d) / PER_UNIT];                               \
        for (uint e = 0; e < PER_UNIT; e++)                                                        \
            stage[(target) + r * (pitch) + d + e] = unpack4(unit, e / 4)[e % 4];                   \
    }

// Logits of the tile, into p.
void logits(Units q, Units k, uint rows, uint keys)
{
    uint id = gl_LocalInvocationID.x, r0 = id / 8 * 4, c0 = id % 8;
    float s[4][4];
    [[unroll]] for (uint r = 0; r < 4; r++)
        [[unroll]] for (uint c = 0; c < 4; c++)
            s[r][c] = 0.0;
    for (uint depth = 0; depth < DIM; depth += DEPTH) {
        barrier();
        STAGE_ROWS(q, q_offset[r], ROWS, rows, depth, DEPTH, STAGE_PITCH, 0)
        STAGE_ROWS(k, key_token[r] * a.k_token, KEYS, keys, depth, DEPTH, STAGE_PITCH, K_STAGE)
        barrier();
        [[unroll]] for (uint d = 0; d < DEPTH; d++)
            [[unroll]] for (uint r = 0; r < 4; r++)
                [[unroll]] for (uint c = 0; c < 4; c++)
                    s[r][c] = fma(stage[(r0 + r) * STAGE_PITCH + d],
                                  stage[K_STAGE + (c0 + 8 * c) * STAGE_PITCH + d], s[r][c]);
    }
    [[unroll]] for (uint r = 0; r < 4; r++)
        [[unroll]] for (uint c = 0; c < 4; c++) {
            float bias = c0 + 8 * c < keys ? 0.0 : -INF;
            p[r0 + r][c0 + 8 * c] = s[r][c] * G.scale + bias;
        }
    barrier();
}

// One step of the running softmax: p becomes exp(logit - m). Two invocations look after each row, both
// with the same m and l.
void softmax_step(inout float m, inout float l)
{
    uint id = gl_LocalInvocationID.x, row = id / 2, first = id % 2 * (KEYS / 2);
    float most = -INF;
    for (uint c = 0; c < KEYS / 2; c++)
        most = max(most, p[row][first + c]);
    part_of_row[id] = most;
    barrier();
    most = max(m, max(part_of_row[id], part_of_row[id ^ 1]));
    barrier();
    float base = most == -INF ? 0.0 : most; // nothing to subtract from -INF
    float sum = 0.0;
    for (uint c = 0; c < KEYS / 2; c++) {
        float e = exp(p[row][first + c] - base);
        p[row][first + c] = e;
        sum += e;
    }
    float factor = exp(m - base);
    part_of_row[id] = sum;
    keep[row] = factor;
    barrier();
    l = l * factor + part_of_row[id & ~1u] + part_of_row[id | 1u];
    m = most;
}

void add_values(Units v, uint keys)
{
    uint id = gl_LocalInvocationID.x, r0 = id / 8 * 4, c0 = id % 8 * 4;
    [[unroll]] for (uint r = 0; r < 4; r++) {
        float factor = keep[r0 + r];
        [[unroll]] for (uint c = 0; c < VECTORS; c++)
            acc[r][c] *= factor;
    }
    for (uint first = 0; first < keys; first += VALUES) {
        barrier();
        STAGE_ROWS(v, key_token[first + r] * a.v_token, VALUES, keys - first, 0, DIM, DIM, 0)
        barrier();
        for (uint i = 0; i < VALUES; i++)
            [[unroll]] for (uint c = 0; c < VECTORS; c++) {
                uint at_value = i * DIM + c0 + 32 * c;
                vec4 x = vec4(stage[at_value], stage[at_value + 1], stage[at_value + 2],
                              stage[at_value + 3]);
                [[unroll]] for (uint r = 0; r < 4; r++)
                    acc[r][c] = fma(vec4(p[r0 + r][first + i]), x, acc[r][c]);
            }
    }
}

void add_block(Block b, Units q, uint rows, uvec2 k_head, uvec2 v_head, inout float m, inout float l)
{
    Units k = Units(at(k_head, b.first, a.k_token, 4)), v = Units(at(v_head, b.first, a.v_token, 4));
    uint id = gl_LocalInvocationID.x;
    for (uint first = 0; first < b.valid; first += KEYS) {
        uint keys = min(b.valid - first, KEYS);
        barrier();
        if (id < KEYS)
            key_token[id] = slot_token(b, min(first + id, b.size - 1));
        logits(q, k, rows, keys);
        softmax_step(m, l);
        barrier();
        add_values(v, keys);
    }
}

// What a row is divided by at the end; 0 where it has no key, or lies beyond the valid text.
void publish_sums(uint rows, float m, float l)
{
    uint id = gl_LocalInvocationID.x;
    barrier();
    if (id % 2 == 0) {
        keep[id / 2] = id / 2 < rows ? l : 0.0;
        part_of_row[id / 2] = m + log(l);
    }
    barrier();
}

void store(Block b, uint first, uint row, uint sample_index, uint head)
{
    uint id = gl_LocalInvocationID.x, r0 = id / 8 * 4, c0 = id % 8;
    uvec2 out_head = row_at(a.o, sample_index, a.out_batch, head, a.out_head, b.first, a.out_token);
    [[unroll]] for (uint r = 0; r < 4; r++) {
        uint slot = first + r0 + r;
        if (slot >= b.size)
            continue;
        uint token = slot_token(b, slot);
        float l = keep[r0 + r];
        uvec2 out_row = at(out_head, token, a.out_token, 4);
        [[unroll]] for (uint c = 0; c < VECTORS; c++)
            if (4 * (c0 + 8 * c) < G.dim)
                store4(out_row, c0 + 8 * c, l != 0.0 ? acc[r][c] / l : vec4(0));
        if (any2(a.lse) && c0 == 0)
            Floats(at(a.lse, row, G.tokens, 2)).v[b.first + token] =
                l != 0.0 ? part_of_row[r0 + r] : -INF;
    }
}

void main()
{
    uint id = gl_LocalInvocationID.x, item = workgroup() / (DRAFT_BLOCK / ROWS);
    uint first = workgroup() % (DRAFT_BLOCK / ROWS) * ROWS;
    uint row = item / G.blocks; // sample x heads + head
    uint sample_index = row / G.heads, head = row % G.heads, kv_head = head / G.group;
    uint block = get16(at(part(G.order), row, G.blocks, 1), item % G.blocks);
    Block b = block_of(sample_index, block);
    if (first >= b.size)
        return;
    uint rows = b.valid > first ? min(b.valid - first, ROWS) : 0;
    if (id < ROWS)
        q_offset[id] = slot_token(b, min(first + id, b.size - 1)) * a.q_token;
    [[unroll]] for (uint r = 0; r < 4; r++)
        [[unroll]] for (uint c = 0; c < VECTORS; c++)
            acc[r][c] = vec4(0);
    uvec2 k_head = row_at(a.k, sample_index, a.k_batch, kv_head, a.k_head, 0, 0);
    uvec2 v_head = row_at(a.v, sample_index, a.v_batch, kv_head, a.v_head, 0, 0);
    Units q = Units(row_at(a.q, sample_index, a.q_batch, head, a.q_head, b.first, a.q_token));
    uint count = rows > 0 ? Words(at(part(G.counts), row, G.blocks, 2)).v[block] : 0;
    uvec2 list = at(at(part(G.lists), row * G.blocks, G.blocks, 1), block, G.blocks, 1);
    float m = -INF, l = 0.0; // of row id / 2
    for (uint n = 0; n < count; n++) {
        Block key_block = block_of(sample_index, get16(list, min(n, count - 1)));
        add_block(key_block, q, rows, k_head, v_head, m, l);
    }
    publish_sums(rows, m, l);
    store(b, first, row, sample_index, head);
}
