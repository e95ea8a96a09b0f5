/* SPDX-License-Identifier: MIT
 *
 * Products of warp groups. Matrices in shared memory, and which thread holds what of the others:
 * PTX ISA, "Asynchronous Warpgroup Level Matrix Multiply-Accumulate Instructions",
 * https://docs.nvidia.com/cuda/parallel-thread-execution/ */
#include <cstring>
#include <memory>

#include "arithmetic.h"
#include "execute.h"

namespace simulator
{

static constexpr uint32_t ROWS = 64, DEPTH = 16, MOST_COLUMNS = 128;
static constexpr uint32_t LINE = 128, LINE_ELEMENTS = 64, UNIT = 16, UNIT_ELEMENTS = 8;

/* ---- Matrices in shared memory ---- */

struct Descriptor {
    uint32_t start, leading, stride; /* bytes */
};

static Descriptor decode(uint64_t bits)
{
    constexpr uint64_t UNUSED = 3ull << 14 | 3ull << 30 | 7ull << 46 | 0x3ffull << 52;
    auto field = [&](int at) { return static_cast<uint32_t>(bits >> at & 0x3fff) << 4; };
    if (bits >> 62 != 1)
        fault("the descriptor of a matrix: swizzle %u, where 128 bytes (1) are simulated",
              static_cast<unsigned>(bits >> 62));
    if (bits & UNUSED || bits >> 49 & 7)
        fault("the descriptor of a matrix, %#llx, has bits that mean nothing here",
              static_cast<unsigned long long>(bits));
    return {field(0), field(16), field(32)};
}

/* Rows with the depth along them, 16 of it: two units of each row. 8 rows a stride. */
static std::vector<uint32_t> row_units(uint64_t bits, uint32_t rows)
{
    Descriptor d = decode(bits);
    std::vector<uint32_t> units;
    units.reserve(rows * DEPTH / UNIT_ELEMENTS);
    for (uint32_t r = 0; r < rows; r++)
        for (uint32_t k = 0; k < DEPTH / UNIT_ELEMENTS; k++)
            units.push_back(swizzle(d.start + r / 8 * d.stride + r % 8 * LINE + k * UNIT));
    return units;
}

/* A line for each of the depth, 64 columns; 8 lines a stride, the next columns `leading` on. */
static std::vector<uint32_t> column_units(uint64_t bits, uint32_t columns)
{
    Descriptor d = decode(bits);
    std::vector<uint32_t> units;
    units.reserve(DEPTH * columns / UNIT_ELEMENTS);
    for (uint32_t k = 0; k < DEPTH; k++)
        for (uint32_t n = 0; n < columns; n += UNIT_ELEMENTS)
            units.push_back(swizzle(d.start + n / LINE_ELEMENTS * d.leading + k / 8 * d.stride +
                                    k % 8 * LINE + n % LINE_ELEMENTS * 2));
    return units;
}

/* ---- Arithmetic ---- */

/* Of the OS thread: too large for the stack of a fibre. The exponents: see arithmetic.h. */
struct Operands {
    RowPair a[ROWS / 2];
    Columns b[DEPTH][MOST_COLUMNS / 8];
    ColumnExponents exponents[DEPTH][MOST_COLUMNS / 8];
    float c[ROWS][MOST_COLUMNS];
};

static Operands &own_operands()
{
    static thread_local const std::unique_ptr<Operands> own(new Operands);
    return *own;
}

/* Elements as they lie in a matrix of f32. */
struct Elements {
    uint16_t a[ROWS][DEPTH], b[DEPTH][MOST_COLUMNS];
};

static void read_elements(Block &block, const Product &p, Elements &to)
{
    for (uint32_t i = 0; i < p.a_units.size(); i++)
        std::memcpy(&to.a[i / 2][i % 2 * UNIT_ELEMENTS], block.shared.unit_bytes(p.a_units[i]),
                    UNIT);
    for (uint32_t t = 0; t < GROUP_SIZE && p.a_units.empty(); t++)
        for (uint32_t i = 0; i < 4; i++) {
            uint32_t row = t / WARP_SIZE * 16 + t % WARP_SIZE / 4 + i % 2 * 8;
            std::memcpy(&to.a[row][t % 4 * 2 + i / 2 * 8], &p.a[t][i], 4);
        }
    uint32_t across = p.n / UNIT_ELEMENTS;
    for (uint32_t i = 0; i < p.b_units.size(); i++) {
        const void *unit = block.shared.unit_bytes(p.b_units[i]);
        if (p.b_columns) {
            std::memcpy(&to.b[i / across][i % across * UNIT_ELEMENTS], unit, UNIT);
            continue;
        }
        uint16_t x[UNIT_ELEMENTS];
        std::memcpy(x, unit, UNIT);
        for (uint32_t k = 0; k < UNIT_ELEMENTS; k++)
            to.b[i % 2 * UNIT_ELEMENTS + k][i / 2] = x[k];
    }
}

template <bool bf16> static void convert(const Elements &from, uint32_t columns, Operands &to)
{
    for (uint32_t i = 0; i < ROWS; i += 2)
        convert_rows<bf16>(to.a[i / 2], from.a[i], from.a[i + 1]);
    for (uint32_t k = 0; k < DEPTH; k++)
        for (uint32_t j = 0; j < columns; j += 8)
            convert_columns<bf16>(to.b[k][j / 8], to.exponents[k][j / 8], &from.b[k][j]);
}

static void read_operands(Block &block, const Product &p, Operands &to)
{
    Elements elements;
    read_elements(block, p, elements);
    if (p.bf16)
        convert<true>(elements, p.n, to);
    else
        convert<false>(elements, p.n, to);
}

/* Between the registers of the threads and the matrix. */
template <bool store> static void move_result(const Product &p, Operands &with)
{
    for (uint32_t t = 0; t < GROUP_SIZE; t++)
        for (uint32_t i = 0; i < p.n / 8; i++)
            for (uint32_t e = 0; e < 4; e++) {
                uint32_t row = t / WARP_SIZE * 16 + t % WARP_SIZE / 4 + e / 2 * 8;
                float &x = with.c[row][i * 8 + t % 4 * 2 + e % 2], &c = p.c[t][i * 4 + e];
                if (store)
                    c = x;
                else
                    x = c;
            }
}

static void multiply_matrices(Operands &o, uint32_t n)
{
    for (uint32_t j = 0; j < n; j += 8)
        for (uint32_t i = 0; i < ROWS; i += 2) {
            Columns c[2];
            std::memcpy(&c[0], &o.c[i][j], sizeof c[0]);
            std::memcpy(&c[1], &o.c[i + 1][j], sizeof c[1]);
            add_products<MOST_COLUMNS / 8, true>(c, o.a[i / 2], &o.b[0][j / 8],
                                                 &o.exponents[0][j / 8]);
            std::memcpy(&o.c[i][j], &c[0], sizeof c[0]);
            std::memcpy(&o.c[i + 1][j], &c[1], sizeof c[1]);
        }
}

/* In order; what follows on one result keeps it in the matrix. */
static void make_products(Block &block, const std::vector<Product> &products)
{
    Operands &operands = own_operands();
    for (size_t i = 0; i < products.size(); i++) {
        const Product &p = products[i];
        if (p.fresh)
            std::memset(operands.c, 0, sizeof operands.c);
        else if (i == 0 || products[i - 1].c[0] != p.c[0] || products[i - 1].n != p.n)
            move_result<false>(p, operands);
        read_operands(block, p, operands);
        multiply_matrices(operands, p.n);
        if (i + 1 == products.size() || products[i + 1].c[0] != p.c[0] || products[i + 1].n != p.n)
            move_result<true>(p, operands);
    }
}

/* ---- What a warp group does ---- */

struct ProductSlot {
    float *c;
    const uint32_t *a;
    uint64_t a_rows, b;
    uint32_t n;
    bool b_columns, fresh, bf16;
};

static void perform_product(Block &block, WarpGroup &group)
{
    const ProductSlot &first = *static_cast<const ProductSlot *>(group.slots[0]);
    if (!group.begun)
        fault("a product without products_begin");
    Product p = {};
    p.n = first.n;
    p.bf16 = first.bf16;
    p.fresh = first.fresh;
    p.b_columns = first.b_columns;
    for (uint32_t i = 0; i < GROUP_SIZE; i++) {
        const ProductSlot &slot = *static_cast<const ProductSlot *>(group.slots[i]);
        if (slot.a_rows != first.a_rows || slot.b != first.b || slot.fresh != first.fresh ||
            slot.n != first.n || slot.bf16 != first.bf16 || !slot.a != !first.a)
            fault("the threads of a warp group disagree on a product");
        p.c[i] = slot.c;
        p.a[i] = slot.a;
    }
    if (!first.a)
        p.a_units = row_units(first.a_rows, ROWS);
    p.b_units = first.b_columns ? column_units(first.b, p.n) : row_units(first.b, p.n);
    const Knowledge &common = block.shared.order.common(group.number * GROUP_WARPS, GROUP_WARPS);
    for (const std::vector<uint32_t> *units : {&p.a_units, &p.b_units})
        for (uint32_t address : *units)
            block.shared.unit_read_begins(address, UNIT, &common);
    group.open.push_back(std::move(p));
}

void multiply_group(float *c, uint32_t n, const uint32_t *a, uint64_t a_rows, uint64_t b,
                    bool b_columns, bool fresh, bool bf16)
{
    static const GroupCollective multiply = {"a product", perform_product};
    ProductSlot slot = {c, a, a_rows, b, n, b_columns, fresh, bf16};
    group_together(multiply, &slot);
}

void products_begin()
{
    static const GroupCollective begin = {"products_begin",
                                          [](Block &, WarpGroup &group) { group.begun = true; }};
    group_together(begin, nullptr);
}

void products_commit()
{
    static const GroupCollective commit = {"products_commit", [](Block &, WarpGroup &group) {
                                               group.committed.push_back(std::move(group.open));
                                               group.open.clear();
                                           }};
    group_together(commit, nullptr);
}

/* As late as the rules allow: nothing is multiplied before it is waited for. */
static void perform_wait(Block &block, WarpGroup &group)
{
    uint32_t pending = *static_cast<const uint32_t *>(group.slots[0]);
    group.begun = false;
    while (group.committed.size() > pending) {
        const std::vector<Product> products = std::move(group.committed.front());
        group.committed.erase(group.committed.begin());
        make_products(block, products);
        for (const Product &p : products)
            for (const std::vector<uint32_t> *units : {&p.a_units, &p.b_units})
                for (uint32_t address : *units)
                    block.shared.unit_read_ends(address, UNIT, group.number * GROUP_WARPS,
                                                GROUP_WARPS);
    }
}

void products_wait(uint32_t pending)
{
    static const GroupCollective wait = {"products_wait", perform_wait};
    group_together(wait, &pending);
}

} // namespace simulator
