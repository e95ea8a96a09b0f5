#version 460
// SPDX-License-Identifier: MIT
//
// attend on matrices of a whole workgroup (VK_NV_cooperative_matrix2): f16 products, f32 sums.
//
//   workgroup   one query block: ROWS x DIM of q, its box of tokens loaded in place
//   key tile    KEYS keys at most, the largest box of a block that holds no more of them:
//                 whole frames, else whole rows of one frame, else a part of one row;
//               k and v are loaded in place through a tensor layout of time, height, width and dim
//   logits      ROWS x KEYS, and what is kept of the softmax, in all columns of matrices
//   out         ROWS x DIM, stored as it was loaded
//
// A box has the sizes that are left at the edges of the grid: a view clips a matrix to it, and the
// rest of the matrix stays 0. dim is the innermost size of the layout, and beyond it loads give 0
// and stores do nothing.
//
// Bound by the matrix units: k and v are loaded once for 128 rows, 2 bytes for 256 flops.
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_cooperative_matrix : require
#extension GL_KHR_memory_scope_semantics : require
#extension GL_NV_cooperative_matrix2 : require
#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require
#pragma use_vulkan_memory_model
#define TYPE 1
#include "attend.glsl"

#define THREADS 256
#define ROWS DRAFT_BLOCK
#define KEYS 64
#define LOG2_E 1.4426950408889634

layout(local_size_x = THREADS) in;

#define Queries coopmat<float16_t, gl_ScopeWorkgroup, ROWS, DIM, gl_MatrixUseA>
#define Keys coopmat<float16_t, gl_ScopeWorkgroup, DIM, KEYS, gl_MatrixUseB>
#define Values coopmat<float16_t, gl_ScopeWorkgroup, KEYS, DIM, gl_MatrixUseB>
#define Weights coopmat<float16_t, gl_ScopeWorkgroup, ROWS, KEYS, gl_MatrixUseA>
#define Logits coopmat<float, gl_ScopeWorkgroup, ROWS, KEYS, gl_MatrixUseAccumulator>
#define Sums coopmat<float, gl_ScopeWorkgroup, ROWS, DIM, gl_MatrixUseAccumulator>

#define Tokens tensorLayoutNV<4, gl_CooperativeMatrixClampModeConstantNV>
#define AsStored tensorViewNV<4>
#define Transposed tensorViewNV<4, false, 3, 0, 1, 2> /* columns are tokens */

// A box of tokens: extents in time, height and width.
#define Box uvec3

Queries q;
Sums acc;
Logits most, total; // maximum of each row, in all columns; its sum, as parts in the columns

// ---- Functions of elements: row, column, element, ... ------------------------------------------

// In powers of two.
float logit(const in uint row, const in uint column, const in float x, const in uint keys,
            const in uvec2 bias)
{
    return (x * G.scale + bias_at(bias, keys, column)) * LOG2_E;
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

// Rows without a key, and text rows beyond the valid length, are 0 with lse = -INF. The sum of a
// row becomes what the row is to be multiplied by; column 0 has the lse stored on the way, perhaps
// more than once.
float finish(const in uint row, const in uint column, const in float l, const in float m,
             const in uint valid, const in uint size, const in uint width, const in uint height,
             const in uvec2 lse)
{
    bool some = row < valid && l != 0.0;
    if (column == 0 && row < size && any2(lse)) {
        uint w = row % width, line = row / width;
        uint token = (line / height * G.height + line % height) * G.width + w;
        Floats(lse).v[token] = some ? m / LOG2_E + log(l) : -INF;
    }
    return some ? 1.0 / l : 0.0;
}

float product(const in uint row, const in uint column, const in float x, const in float y)
{
    return y != 0.0 ? x * y : 0.0;
}

// ---- Boxes of tokens ---------------------------------------------------------------------------

// A layout counts elements in 32 bits, and a box may reach further: tokens are as far apart as the
// caller has them. The largest part that it can hold: all, else a row, else a token.
bool fits(Box box, uint stride)
{
    float tokens = float((box.x - 1) * G.height + box.y - 1) * float(G.width) + float(box.z);
    return tokens * float(stride) * PER_UNIT < 2147483648.0; // by half: floats are rounded
}

Box fitting(Box box, uint stride)
{
    Box row = Box(1, 1, box.z);
    return fits(box, stride) ? box : fits(row, stride) ? row : Box(1);
}

uint volume(Box box)
{
    return box.x * box.y * box.z;
}

// Strides in elements, each at least what lies within it. Those of axes of length 1 are not used,
// and are as small as they may be: true ones could be too large.
Tokens layout_of(Box box, uint stride)
{
    uint token = volume(box) == 1 ? DIM : stride * PER_UNIT;
    uint row = (box.x * box.y == 1 ? box.z : G.width) * token;
    uint plane = (box.x == 1 ? box.y : G.height) * row;
    Tokens t = createTensorLayoutNV(4, gl_CooperativeMatrixClampModeConstantNV);
    t = setTensorLayoutDimensionNV(t, box.x, box.y, box.z, G.dim);
    t = setTensorLayoutStrideNV(t, plane, row, token, 1);
    return sliceTensorLayoutNV(t, 0, box.x, 0, box.y, 0, box.z, 0, DIM);
}

AsStored rows_from(uint first, uint count)
{
    return setTensorViewClipNV(createTensorViewNV(4), first, count, 0, DIM);
}

Transposed first_columns(uint columns)
{
    Transposed v = createTensorViewNV(4, false, 3, 0, 1, 2);
    return setTensorViewClipNV(v, 0, DIM, 0, columns);
}

// ---- Keys --------------------------------------------------------------------------------------

// A box of keys, at most KEYS. bias: see KeyRows.
void add_keys(Box box, uvec2 k_row, uint k_stride, uvec2 v_row, uint v_stride, uvec2 bias)
{
    uint keys = volume(box);
    Keys k = Keys(0.0);
    coopMatLoadTensorNV(k, Units(k_row).v, 0, layout_of(box, k_stride), first_columns(keys));
    Logits s = coopMatMulAdd(q, k, Logits(0.0)), found, factor;
    coopMatPerElementNV(s, s, logit, keys, bias);
    coopMatReduceNV(found, s, gl_CooperativeMatrixReduceRowNV, larger);
    coopMatPerElementNV(factor, most, rescale, found);
    coopMatPerElementNV(most, most, larger_of, found);
    coopMatPerElementNV(s, s, weight, most);
    total = total * factor + s;
    Sums wide; // equal columns, as many as acc has
    coopMatReduceNV(wide, factor, gl_CooperativeMatrixReduceRowNV, larger);
    Values v = Values(0.0);
    coopMatLoadTensorNV(v, Units(v_row).v, 0, layout_of(box, v_stride), rows_from(0, keys));
    acc = coopMatMulAdd(Weights(s), v, acc * wide);
}

// The largest box at the start of a block that has at most KEYS keys.
Box step_of(Block b)
{
    uint plane = b.height * b.width;
    if (plane <= KEYS)
        return Box(min(KEYS / plane, b.frames), b.height, b.width);
    if (b.width <= KEYS)
        return Box(1, KEYS / b.width, b.width);
    return Box(1, 1, KEYS);
}

void add_block(KeyRows keys)
{
    Block b = keys.b;
    b.width = min(b.width, b.valid); // of text
    Box all = Box(b.frames, b.height, b.width);
    Box step = fitting(step_of(b), max(keys.k_stride, keys.v_stride));
    for (uint t = 0; t < b.frames; t += step.x)
        for (uint h = 0; h < b.height; h += step.y)
            for (uint w = 0; w < b.width; w += step.z) {
                Box start = min(Box(t, h, w), all - 1); // see key_block()
                uint token = (start.x * G.height + start.y) * G.width + start.z;
                uvec2 bias = any2(keys.bias) ? at(keys.bias, token, 1, 2) : keys.bias;
                add_keys(min(step, all - start), at(keys.k, token, keys.k_stride, 4),
                         keys.k_stride, at(keys.v, token, keys.v_stride, 4), keys.v_stride, bias);
            }
}

// ---- Queries and out ---------------------------------------------------------------------------

void load_queries(Work w, Box box)
{
    Box step = fitting(box, a.q_token);
    q = Queries(0.0);
    for (uint row = 0; row < w.b.valid; row += volume(step))
        coopMatLoadTensorNV(q, Units(query_row(w, min(row, w.b.size - 1))).v, 0,
                            layout_of(step, a.q_token),
                            rows_from(row, min(volume(step), w.b.valid - row)));
}

void store(Work w, Box box)
{
    uvec2 lse = a.lse;
    if (any2(lse))
        lse = at(at(lse, w.sample_index * G.heads + w.head, G.tokens, 2), w.b.first, 1, 2);
    Logits divisor, l;
    coopMatReduceNV(l, total, gl_CooperativeMatrixReduceRowNV, sum);
    coopMatPerElementNV(divisor, l, finish, most, w.b.valid, w.b.size, box.z, box.y, lse);
    Sums wide;
    coopMatReduceNV(wide, divisor, gl_CooperativeMatrixReduceRowNV, larger);
    coopMatPerElementNV(acc, acc, product, wide);
    // Rounded as an operand of the type of q: a device need not have accumulators of f16.
    Queries rounded = Queries(acc);
    Box step = fitting(box, a.out_token);
    for (uint row = 0; row < w.b.size; row += volume(step))
        coopMatStoreTensorNV(rounded, Units(out_row(w, min(row, w.b.size - 1))).v, 0,
                             layout_of(step, a.out_token), rows_from(row, volume(step)));
}

void main()
{
    Work w = work_of(workgroup());
    Box box = Box(w.b.frames, w.b.height, w.b.width);
    load_queries(w, box);
    acc = Sums(0.0);
    most = Logits(-INF);
    total = Logits(0.0);
    for (uint n = w.start; n <= w.count; n++) {
        KeyRows keys = key_rows(w, n);
        if (keys.b.valid > 0)
            add_block(keys);
    }
    store(w, box);
}
