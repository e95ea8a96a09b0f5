// SPDX-License-Identifier: MIT
//
// Rows of q, k, v and out: elements of one TYPE (1 f16, 2 bf16, 3 f32), in units of 16 bytes.
#if TYPE == DRAFT_ABI_F32
#define PER_UNIT 4
#define UNIT_VECTORS 1
#else
#define PER_UNIT 8
#define UNIT_VECTORS 2
#endif

layout(buffer_reference, std430, buffer_reference_align = 16) buffer Units
{
    uvec4 v[];
};

vec2 unpack2(uint pair)
{
#if TYPE == DRAFT_ABI_F16
    return unpackHalf2x16(pair);
#else
    return vec2(uintBitsToFloat(pair << 16), uintBitsToFloat(pair & 0xffff0000u));
#endif
}

// The 4 elements of part i (0 or 1; always 0 for f32) of a unit.
vec4 unpack4(uvec4 unit, uint i)
{
#if TYPE == DRAFT_ABI_F32
    return uintBitsToFloat(unit);
#else
    uvec2 half_unit = i == 0 ? unit.xy : unit.zw;
    return vec4(unpack2(half_unit.x), unpack2(half_unit.y));
#endif
}

// One unit of a row; 0 beyond dim.
uvec4 load_unit(uvec2 row, uint unit)
{
    return unit * PER_UNIT < G.dim ? Units(row).v[unit] : uvec4(0);
}

// Round to nearest, ties to even; overflow to infinity; NaN stays NaN. (packHalf2x16 may truncate.)
uint pack1(float x)
{
    uint bits = floatBitsToUint(x);
    uint sign = bits >> 16 & 0x8000u, magnitude = bits & 0x7fffffffu;
#if TYPE == DRAFT_ABI_F16
    if (magnitude > 0x7f800000u)
        return sign | 0x7e00u;
    if (magnitude >= 0x477ff000u)
        return sign | 0x7c00u;
    if (magnitude < 0x38800000u) // a multiple of 2^-24, rounded by the addition
        return sign | floatBitsToUint(uintBitsToFloat(magnitude) + 0.5) - 0x3f000000u;
    return sign | (magnitude + 0xfffu + (magnitude >> 13 & 1u) - 0x38000000u) >> 13;
#else
    if (magnitude > 0x7f800000u)
        return bits >> 16 | 0x40u;
    return (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
#endif
}

// The elements 4 i ... 4 i + 3 of a row.
#if TYPE == DRAFT_ABI_F32
void store4(uvec2 row, uint i, vec4 x)
{
    Units(row).v[i] = floatBitsToUint(x);
}
#else
layout(buffer_reference, std430, buffer_reference_align = 8) buffer HalfUnits
{
    uvec2 v[];
};

void store4(uvec2 row, uint i, vec4 x)
{
    HalfUnits(row).v[i] = uvec2(pack1(x.x) | pack1(x.y) << 16, pack1(x.z) | pack1(x.w) << 16);
}
#endif

// Address of the row of one token and head.
uvec2 row_at(uvec2 base, uint sample_index, uint batch_stride, uint head, uint head_stride,
             uint token, uint token_stride)
{
    base = at(base, sample_index, batch_stride, 4);
    base = at(base, head, head_stride, 4);
    return at(base, token, token_stride, 4);
}
