/* SPDX-License-Identifier: MIT
 *
 * wgmma: the unit has copies of the registers from the instruction to the wait. What PTX forbids
 * meanwhile, and that registers change between wgmma.fence and the product, are faults. PTX ISA,
 * "Asynchronous Warpgroup Level Matrix Instructions: wgmma.mma_async", "wgmma.fence". */
#include "ptx_products.h"

#include "ptx_run.h"

namespace simulator
{
namespace ptx
{

/* Registers of products as they are at the fence. */
static void fence(Run &run, const int32_t *)
{
    for (const GroupProduct &p : run.program->products) {
        for (size_t i = 0; i < p.c.size() && p.first; i++)
            run.fenced[p.c_copy + i] = run.r[p.c[i]];
        for (size_t i = 0; i < p.a.size(); i++)
            run.fenced[p.a_copy + i] = run.r[p.a[i]];
    }
    meet_aligned(run);
    products_begin();
}

static bool is_open(const Run &run, uint32_t list)
{
    for (uint32_t i = 0; i < run.open_count; i++)
        if (run.program->products[run.open[i].product].list == list)
            return true;
    return false;
}

static void check_fence(const Run &run, int32_t place, uint32_t copy)
{
    if (run.fenced[copy] != run.r[place])
        fault("%s changes between wgmma.fence and the product",
              run.program->register_name(place, *run.at).c_str());
}

/* c: nobody else may touch them; where it is not read, it need not have a value. */
static void hand_over_c(Run &run, const GroupProduct &p, bool fresh)
{
    for (size_t i = 0; i < p.c.size(); i++) {
        uint8_t &state = run.state[p.c[i]];
        if (state != READY && !(fresh && state == UNSET))
            bad_read(run, p.c[i]);
        check_fence(run, p.c[i], p.c_copy + static_cast<uint32_t>(i));
        run.copies[p.c_copy + i] = run.r[p.c[i]];
        state = PENDING;
    }
}

/* Several products may read the same a. */
static void hand_over_a(Run &run, const GroupProduct &p)
{
    for (size_t i = 0; i < p.a.size(); i++) {
        uint8_t &state = run.state[p.a[i]];
        if (state != READY && state != (READY | HELD))
            bad_read(run, p.a[i]);
        check_fence(run, p.a[i], p.a_copy + static_cast<uint32_t>(i));
        run.copies[p.a_copy + i] = run.r[p.a[i]];
        state |= HELD;
    }
}

static void issue(Run &run, uint32_t number, bool fresh)
{
    const GroupProduct &p = run.program->products[number];
    for (uint32_t i = 0; i < run.open_count; i++)
        if (run.open[i].product == number)
            fault("the same product once more, before anybody has waited for it");
    if (run.open_count == MOST_OPEN_PRODUCTS)
        fault("more than %u products that nobody has waited for", MOST_OPEN_PRODUCTS);
    if (!is_open(run, p.list))
        hand_over_c(run, p, fresh);
    hand_over_a(run, p);
    run.open[run.open_count++] = {number, run.groups};
    meet_aligned(run);
}

static float *c_of(const Run &run, uint32_t number)
{
    return reinterpret_cast<float *>(run.copies + run.program->products[number].c_copy);
}

/* {c}, a, b, scale */
template <uint32_t n, bool bf16> static void multiply_memory(Run &run, const int32_t *o)
{
    const int32_t *rest = o + n / 2;
    uint64_t a = get<uint64_t>(run, rest[0]), b = get<uint64_t>(run, rest[1]);
    bool fresh = !get<bool>(run, rest[2]);
    uint32_t number = static_cast<uint32_t>(rest[3]);
    issue(run, number, fresh);
    multiply_group(c_of(run, number), n, nullptr, a, b, false, fresh, bf16);
}

/* {c}, {a}, b, scale */
template <uint32_t n, bool bf16, bool columns>
static void multiply_registers(Run &run, const int32_t *o)
{
    const int32_t *rest = o + n / 2 + 4;
    uint64_t b = get<uint64_t>(run, rest[0]);
    bool fresh = !get<bool>(run, rest[1]);
    uint32_t number = static_cast<uint32_t>(rest[2]);
    issue(run, number, fresh);
    const uint32_t *a = run.copies + run.program->products[number].a_copy;
    multiply_group(c_of(run, number), n, a, 0, b, columns, fresh, bf16);
}

static void commit(Run &run, const int32_t *)
{
    run.groups++;
    meet_aligned(run);
    products_commit();
}

/* The registers are the thread's again. `next`: of what has come to its end. */
static void give_back(Run &run, const GroupProduct &p, const GroupProduct *next)
{
    for (int32_t place : p.a)
        run.state[place] = READY;
    if ((next && next->list == p.list) || is_open(run, p.list))
        return;
    for (size_t i = 0; i < p.c.size(); i++) {
        run.state[p.c[i]] = READY;
        run.r[p.c[i]] = run.copies[p.c_copy + i];
    }
}

static void wait(Run &run, const int32_t *o)
{
    uint32_t pending = static_cast<uint32_t>(o[0]), done = 0;
    meet_aligned(run);
    products_wait(pending);
    OpenProduct all[MOST_OPEN_PRODUCTS];
    uint32_t count = run.open_count;
    std::memcpy(all, run.open, sizeof all);
    while (done < count && all[done].group + pending < run.groups)
        done++;
    run.open_count = count - done;
    std::memcpy(run.open, all + done, run.open_count * sizeof *all);
    const std::vector<GroupProduct> &products = run.program->products;
    for (uint32_t i = 0; i < done; i++)
        give_back(run, products[all[i].product],
                  i + 1 < done ? &products[all[i + 1].product] : nullptr);
    for (uint32_t i = 0; i < run.open_count; i++)
        for (int32_t place : products[run.open[i].product].a)
            run.state[place] |= HELD;
}

/* ---- Table ---- */

/* Behind scale-d: the signs of a and b, and which of them are columns. */
template <uint32_t n, bool bf16> static void add_shape(std::vector<Opcode> &to)
{
    const std::string type = bf16 ? ".bf16.bf16" : ".f16.f16", c(n / 2, 'C');
    const std::string name =
        "wgmma.mma_async.sync.aligned.m64n" + std::to_string(n) + "k16.f32" + type;
    to.push_back({name, "{" + c + "}qqp1100W", multiply_memory<n, bf16>});
    to.push_back({name, "{" + c + "}{uuuu}qp110W", multiply_registers<n, bf16, false>});
    to.push_back({name, "{" + c + "}{uuuu}qp111W", multiply_registers<n, bf16, true>});
}

void add_group_opcodes(std::vector<Opcode> &to)
{
    add_shape<64, false>(to);
    add_shape<64, true>(to);
    add_shape<128, false>(to);
    add_shape<128, true>(to);
    to.push_back({"wgmma.fence.sync.aligned", "", fence});
    to.push_back({"wgmma.commit_group.sync.aligned", "", commit});
    to.push_back({"wgmma.wait_group.sync.aligned", "n", wait});
}

} // namespace ptx
} // namespace simulator
