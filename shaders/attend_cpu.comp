#version 460
// SPDX-License-Identifier: MIT
//
// attend for processors that run Vulkan in software.
//
//   workgroup   one query block
//   invocation  ROWS query rows, q and out in registers (that is: vectors over the lanes, on the
//               stack, which the first cache holds); no shared memory
//   step        STEP keys: logits, one step of the running softmax, weighted values
//
// Keys and values are read at addresses that are the same for all invocations: one load serves all
// lanes and ROWS rows. Such a driver runs a few lanes at a time, each of them through to the end;
// the barrier before each key block keeps all rows at the same keys, so that these come from the
// second cache. ROWS is 2 for drivers that see that an address is the same for all lanes; older
// ones load for each lane by itself, and want more rows behind each load; STEP keeps their code
// short.
//
// Bound by multiply-adds and the loads that feed them: 4 x DIM flops for each pair.
#extension GL_GOOGLE_include_directive : require
#include "attend.glsl"

#define INVOCATIONS (DRAFT_BLOCK / ROWS)
#define VECTORS (DIM / 4)

layout(local_size_x = INVOCATIONS) in;

// Row r of an invocation is slot r * INVOCATIONS + its number.
vec4 q[ROWS][VECTORS], acc[ROWS][VECTORS];
float m[ROWS], l[ROWS];

// Elements 4 i ... 4 i + 3 of a row; beyond dim they are 0.
vec4 load4(uvec2 row, uint i)
{
#if EXACT
    return unpack4(Units(row).v[i / UNIT_VECTORS], i % UNIT_VECTORS);
#else
    uint last = (G.dim - 1) / PER_UNIT;
    vec4 x = unpack4(Units(row).v[min(i / UNIT_VECTORS, last)], i % UNIT_VECTORS);
    return 4 * i < G.dim ? x : vec4(0);
#endif
}

// One step of the running softmax of row r: s, products of q and k, becomes exp(logit - m). Returns
// the factor for what has been summed up before. (q itself stays as it is: such drivers would
// multiply it by the scale again in every step.)
float softmax_step(uint r, inout float s[STEP], float bias[STEP])
{
    float most = m[r];
    [[unroll]] for (uint c = 0; c < STEP; c++)
        s[c] = fma(s[c], G.scale, bias[c]);
    [[unroll]] for (uint c = 0; c < STEP; c++)
        most = max(most, s[c]);
    float base = most == -INF ? 0.0 : most; // nothing to subtract from -INF
    float keep = exp(m[r] - base);
    m[r] = most;
    l[r] *= keep;
    [[unroll]] for (uint c = 0; c < STEP; c++) {
        s[c] = exp(s[c] - base);
        l[r] += s[c];
    }
    return keep;
}

// Add STEP keys, each with its bias.
void add_keys(uvec2 k[STEP], uvec2 v[STEP], float bias[STEP])
{
    float s[ROWS][STEP], keep[ROWS];
    [[unroll]] for (uint r = 0; r < ROWS; r++)
        [[unroll]] for (uint c = 0; c < STEP; c++)
            s[r][c] = 0.0;
    [[unroll]] for (uint i = 0; i < VECTORS; i++)
        [[unroll]] for (uint c = 0; c < STEP; c++) {
            vec4 x = load4(k[c], i);
            [[unroll]] for (uint r = 0; r < ROWS; r++)
                [[unroll]] for (uint e = 0; e < 4; e++)
                    s[r][c] = fma(q[r][i][e], x[e], s[r][c]);
        }
    [[unroll]] for (uint r = 0; r < ROWS; r++)
        keep[r] = softmax_step(r, s[r], bias);
    [[unroll]] for (uint i = 0; i < VECTORS; i++) {
        [[unroll]] for (uint r = 0; r < ROWS; r++)
            acc[r][i] *= keep[r];
        [[unroll]] for (uint c = 0; c < STEP; c++) {
            vec4 x = load4(v[c], i);
            [[unroll]] for (uint r = 0; r < ROWS; r++)
                acc[r][i] = fma(vec4(s[r][c]), x, acc[r][i]);
        }
    }
}

// As bias_of(). Such drivers load where all lanes are off, so the address must be good in any case.
float uniform_bias(KeyRows keys, uint i)
{
    bool pooled = any2(keys.bias);
    uvec2 row = mix(a.geometry, keys.bias, bvec2(pooled));
    float bias = Floats(row).v[mix(0, min(i, keys.b.valid - 1), pooled)];
    bool kept = pooled && floatBitsToUint(bias) >> 31 != 0;
    return i >= keys.b.valid || kept ? -INF : pooled ? bias : 0.0;
}

// All keys of one block, STEP at a time, walking the box token by token. Addresses stay inside the
// block even where the last step has fewer keys, and where such a driver runs the loop with all
// lanes off: then `first` and `token` have never been set.
void add_block(KeyRows keys)
{
    Block b = keys.b;
    uint w = 0, h = 0, token = 0;
    uint next_row = G.width - b.width + 1, next_frame = (G.height - b.height) * G.width + next_row;
    uint last = ((b.frames - 1) * G.height + b.height - 1) * G.width + b.width - 1;
    barrier();
    for (uint first = 0; first < b.valid; first += STEP) {
        uvec2 k[STEP], v[STEP];
        float bias[STEP];
        [[unroll]] for (uint c = 0; c < STEP; c++) {
            uint place = first + c < b.valid ? min(token, last) : 0;
            bias[c] = uniform_bias(keys, first + c);
            k[c] = at(keys.k, place, keys.k_stride, 4);
            v[c] = at(keys.v, place, keys.v_stride, 4);
            bool row_ends = ++w == b.width;
            bool frame_ends = row_ends && h + 1 == b.height;
            token += frame_ends ? next_frame : row_ends ? next_row : 1;
            h = frame_ends ? 0 : row_ends ? h + 1 : h;
            w = row_ends ? 0 : w;
        }
        add_keys(k, v, bias);
    }
}

uint slot_of(uint r)
{
    return r * INVOCATIONS + gl_LocalInvocationID.x;
}

void load_queries(Work w)
{
    [[unroll]] for (uint r = 0; r < ROWS; r++) {
        uvec2 row = query_row(w, min(slot_of(r), w.b.size - 1));
        [[unroll]] for (uint i = 0; i < VECTORS; i++) {
            q[r][i] = load4(row, i);
            acc[r][i] = vec4(0);
        }
        m[r] = -INF;
        l[r] = 0.0;
    }
}

// Rows without a key, and text rows beyond the valid length, are 0 with lse = -INF.
void store(Work w)
{
    [[unroll]] for (uint r = 0; r < ROWS; r++) {
        if (slot_of(r) >= w.b.size)
            continue;
        bool any = slot_of(r) < w.b.valid && l[r] != 0.0;
        uvec2 row = out_row(w, slot_of(r));
        [[unroll]] for (uint i = 0; i < VECTORS; i++)
            if (4 * i < G.dim)
                store4(row, i, any ? acc[r][i] / l[r] : vec4(0));
        store_lse(w, slot_of(r), any ? m[r] + log(l[r]) : -INF);
    }
}

void main()
{
    Work w = work_of(workgroup());
    load_queries(w);
    for (uint n = w.start; n <= w.count; n++)
        add_block(key_rows(w, n));
    store(w);
}
