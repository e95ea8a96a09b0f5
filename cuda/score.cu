// SPDX-License-Identifier: MIT
//
// score: the draft map, p_ij = softmax over j of scale x <mean q_i, mean k_j> + ln (n_j / n_full).
//
// draft_score, the logits in units of ln 2, since the softmax takes powers of 2:
//
//   thread block  ROWS x COLUMNS of one head's map, DEPTH elements of the means at a time, which
//                 lie transposed in shared memory, twice: one part is filled while the other is
//                 used
//   thread        8 x 8 logits, 4 x 4 in each quarter of the tile: of four rows r a unit of
//                 q[d][r], of four columns c a unit of k[d][c]
//
//           columns 0 ... 31 | 32 ... 63 | the same again
//   rows  0 ... 15  warp 0   | warp 1    |
//   rows 16 ... 31  warp 2   | warp 3    |
//   the same again
//
// 2 x S^2 x dim flops a head, bound by the multiply-adds: 0.1 ms for HunyuanVideo at 720p.
//
// Other kernels: score_more.cuh, score_softmax.cuh.
#include "score_softmax.cuh"

constexpr u32 ROWS = CUDA_SCORE_ROWS;
constexpr u32 COLUMNS = CUDA_SCORE_COLUMNS;
constexpr u32 DEPTH = 8; // divides all dims
constexpr u32 QUADS = DEPTH / 4;
constexpr u32 PITCH = (ROWS + COLUMNS) / 4;            // units of one element: rows, then columns
constexpr u32 PART = DEPTH * PITCH;                    // units of one part
constexpr u32 STEP_THREADS = ROWS * QUADS;             // a thread: 4 elements of one row
constexpr f32 LOG2_E = 1.44269504088896341f;
static_assert(STEP_THREADS == CUDA_SCORE_THREADS && COLUMNS == CUDA_SCORE_THREADS, "see fetch");

// The tile of this thread block, of a product with S rows and `width` columns: its head, counted
// over all samples, first row and column.
struct Tile {
    u32 head, row, column;
};

DEVICE Tile tile_of(Geometry g, u32 width)
{
    u32 columns = div_up(width, COLUMNS), tiles = div_up(g->video_blocks, ROWS) * columns;
    u32 tile = block_id() % tiles;
    return {block_id() / tiles, tile / columns * ROWS, tile % columns * COLUMNS};
}

// Row `row` of the `rows` means of one head; those behind the last do not count, so any will do.
DEVICE Global<const Unit> mean_of(const draft_args &a, addr means, u32 head, u32 row, u32 rows)
{
    return rows_at<const Unit>(a, means, (addr)head * rows + least(row, rows - 1),
                               geometry_of(a)->dim / 4);
}

// What a thread brings of each step: 4 elements of one row, 8 of one column.
struct Fetched {
    Unit q, k[QUADS];
};

DEVICE Fetched fetch(Global<const Unit> q, Global<const Unit> k)
{
    Fetched f;
    f.q = q[0];
    UNROLL for (u32 i = 0; i < QUADS; i++) f.k[i] = k[i];
    return f;
}

// Transposed: neighbouring threads write neighbouring words.
DEVICE void keep(u32 part, const Fetched &f)
{
    constexpr u32 WORD = sizeof(u32), ELEMENT = PITCH * sizeof(Unit);
    u32 id = thread_id();
    u32 q = part + id / ROWS * 4 * ELEMENT + id % ROWS * WORD, k = part + (ROWS + id) * WORD;
    UNROLL for (u32 e = 0; e < 4; e++)
    {
        store_shared(q + e * ELEMENT, f.q.v[e]);
        UNROLL for (u32 i = 0; i < QUADS; i++)
            store_shared(k + (4 * i + e) * ELEMENT, f.k[i].v[e]);
    }
}

// Where a thread stands in a quarter of the tile: units of rows and of columns.
struct Place {
    u32 row, column;
};

DEVICE Place place_of()
{
    return {warp_id() / 2 * 4 + lane_id() / 8, warp_id() % 2 * 8 + lane_id() % 8};
}

DEVICE void multiply(f32 sum[8][8], Shared<Unit> part, Place at)
{
    UNROLL for (u32 d = 0; d < DEPTH; d++)
    {
        Unit q[2], k[2];
        UNROLL for (u32 half = 0; half < 2; half++)
        {
            q[half] = part[d * PITCH + half * (ROWS / 8) + at.row];
            k[half] = part[d * PITCH + ROWS / 4 + half * (COLUMNS / 8) + at.column];
        }
        UNROLL for (u32 r = 0; r < 8; r++)
            UNROLL for (u32 c = 0; c < 8; c++)
                sum[r][c] += float_of(q[r / 4].v[r % 4]) * float_of(k[c / 4].v[c % 4]);
    }
}

// log2 (n_j / n_full); any number for j >= S.
DEVICE f32 bias_of(Geometry g, u32 j)
{
    u32 full = g->tile_t * g->tile_h * g->tile_w;
    u32 size = video_block(g, least(j, g->video_blocks - 1)).size;
    return size == full ? 0.0f : log2_fast((f32)size / (f32)full);
}

// One row of each thread at a time goes through shared memory, so that the lanes of a warp write
// neighbouring logits. Each warp has 64 units for itself.
DEVICE void write_logits(const draft_args &a, const f32 sum[8][8], Shared<Unit> part)
{
    Geometry g = geometry_of(a);
    Tile tile = tile_of(g, g->video_blocks); // once more, not kept in registers beside the sums
    u32 s = g->video_blocks, lane = lane_id();
    Global<f32> map = rows_at<f32>(a, g->map, (addr)tile.head * s, s);
    Shared<Unit> stage = part + warp_id() * 64;
    u32 column = tile.column + warp_id() % 2 * WARP + lane;
    f32 scale = g->scale * LOG2_E;
    f32 bias[2] = {bias_of(g, column), bias_of(g, column + COLUMNS / 2)};
    UNROLL for (u32 r = 0; r < 8; r++)
    {
        warp_barrier();
        UNROLL for (u32 half = 0; half < 2; half++)
        {
            Unit x;
            UNROLL for (u32 c = 0; c < 4; c++) x.v[c] = bits_of(sum[r][4 * half + c]);
            stage[lane / 8 * 16 + half * 8 + lane % 8] = x;
        }
        warp_barrier();
        UNROLL for (u32 i = 0; i < 8; i++)
        {
            u32 row = tile.row + r / 4 * (ROWS / 2) + (warp_id() / 2 * 4 + i / 2) * 4 + r % 4;
            u32 j = column + i % 2 * (COLUMNS / 2);
            f32 x = float_of(load_shared(shared_address(stage) + (i * WARP + lane) * 4));
            if (row < s && j < s)
                map[(addr)row * s + j] = x * scale + bias[i % 2];
        }
    }
}

// The products of a tile: rows of `left`, S for each head, by those of `right`, `width` for each
// head of keys.
DEVICE void multiply_tile(const draft_args &a, f32 sum[8][8], const Tile &tile, addr left,
                          addr right, u32 width, Shared<Unit> parts)
{
    Geometry g = geometry_of(a);
    u32 sample = tile.head / g->heads, head = tile.head % g->heads, id = thread_id();
    Global<const Unit> q = mean_of(a, left, tile.head, tile.row + id % ROWS, g->video_blocks) +
                           id / ROWS;
    Global<const Unit> k =
        mean_of(a, right, sample * g->kv_heads + head / g->group, tile.column + id, width);
    keep(shared_address(parts), fetch(q, k));
    block_barrier();
    u32 here = 0; // the part in use
    for (u32 steps = g->dim / DEPTH; steps > 0; steps--) {
        q = q + QUADS;
        k = k + QUADS;
        bool more = steps > 1;
        Fetched next = {};
        if (more)
            next = fetch(q, k);
        multiply(sum, parts + here, place_of());
        here = PART - here;
        if (more)
            keep(shared_address(parts + here), next);
        block_barrier();
    }
}

KERNEL(draft_score, CUDA_SCORE_THREADS, 4)
{
    SHARED_ARRAY(Unit, parts, 2 * PART);
    Geometry g = geometry_of(a);
    f32 sum[8][8] = {};
    multiply_tile(a, sum, tile_of(g, g->video_blocks), g->pooled_q, g->pooled_k, g->video_blocks,
                  parts);
    write_logits(a, sum, parts);
}

#include "score_more.cuh" // for plans beyond the paper's method
