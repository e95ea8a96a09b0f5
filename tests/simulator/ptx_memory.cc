/* SPDX-License-Identifier: MIT
 *
 * Instructions of PTX that reach memory. An instruction for one kind of memory faults where the
 * address is of another. */
#include "ptx_run.h"

namespace simulator
{
namespace ptx
{

typedef SharedMemory::Access Access;

template <class T> static uint64_t address_of(const Run &run, const int32_t *o)
{
    return static_cast<T>(get<T>(run, o[0]) + static_cast<T>(static_cast<int64_t>(o[1])));
}

/* ---- Kinds of memory: where the bytes are, checked ---- */

static unsigned char *global_bytes(uint64_t address, size_t size)
{
    check_global(address, size, size);
    return reinterpret_cast<unsigned char *>(address);
}

static unsigned char *shared_bytes(uint64_t address, size_t size, Access kind)
{
    if (address > UINT32_MAX)
        fault("shared memory: address %#llx is of other memory",
              static_cast<unsigned long long>(address));
    return self().block->shared.access(static_cast<uint32_t>(address), size, size, kind);
}

/* `offset`: in the memory of parameters. */
static unsigned char *param_bytes(uint64_t offset, size_t size, Access kind)
{
    const std::vector<unsigned char> &args = self().block->launch->args;
    if (kind != Access::read)
        fault("writes parameters");
    if (offset % size)
        fault("parameters: byte %llu is no multiple of %zu",
              static_cast<unsigned long long>(offset), size);
    if (offset > args.size() || args.size() - offset < size)
        fault("parameters: byte %lld, where there are %zu", static_cast<long long>(offset),
              args.size());
    return const_cast<unsigned char *>(args.data()) + offset;
}

struct Global {
    static constexpr char ADDRESS = 'g';
    static unsigned char *at(const Run &run, const int32_t *o, size_t size, Access)
    {
        return global_bytes(address_of<uint64_t>(run, o), size);
    }
};

struct SharedSpace {
    static constexpr char ADDRESS = 's';
    static unsigned char *at(const Run &run, const int32_t *o, size_t size, Access kind)
    {
        return shared_bytes(address_of<uint32_t>(run, o), size, kind);
    }
};

struct Params {
    static constexpr char ADDRESS = 'a';
    static unsigned char *at(const Run &run, const int32_t *o, size_t size, Access kind)
    {
        return param_bytes(address_of<uint64_t>(run, o) - PARAMS, size, kind);
    }
};

struct Generic {
    static constexpr char ADDRESS = 'g';
    static unsigned char *at(const Run &run, const int32_t *o, size_t size, Access kind)
    {
        uint64_t address = address_of<uint64_t>(run, o);
        if (address - SHARED_WINDOW < WINDOW_SIZE)
            return shared_bytes(address - SHARED_WINDOW, size, kind);
        if (address - PARAM_WINDOW < WINDOW_SIZE)
            return param_bytes(address - PARAM_WINDOW, size, kind);
        return global_bytes(address, size);
    }
};

/* ---- Loads, stores ---- */

template <class Space, class T, unsigned n> static void load(Run &run, const int32_t *o)
{
    T values[n];
    std::memcpy(values, Space::at(run, o + n, sizeof values, Access::read), sizeof values);
    for (unsigned i = 0; i < n; i++)
        put<T>(run, o[i], values[i]);
}

template <class Space, class T, unsigned n> static void store(Run &run, const int32_t *o)
{
    T values[n];
    for (unsigned i = 0; i < n; i++)
        values[i] = get<T>(run, o[2 + i]);
    std::memcpy(Space::at(run, o, sizeof values, Access::write), values, sizeof values);
}

/* A register may be wider than what is loaded, or stored. */
template <class Space, class T, class Wide> static void load_wide(Run &run, const int32_t *o)
{
    T value;
    std::memcpy(&value, Space::at(run, o + 1, sizeof value, Access::read), sizeof value);
    put<Wide>(run, o[0], static_cast<Wide>(value));
}

template <class Space, class T, class Wide> static void store_wide(Run &run, const int32_t *o)
{
    T value = static_cast<T>(get<Wide>(run, o[2]));
    std::memcpy(Space::at(run, o, sizeof value, Access::write), &value, sizeof value);
}

static std::string brackets(char address)
{
    return std::string("[") + address + "]";
}

static std::string list(char kind, unsigned n)
{
    return n == 1 ? std::string(1, kind) : "{" + std::string(n, kind) + "}";
}

template <class Space, class T, unsigned n>
static void add_width(std::vector<Opcode> &to, const std::string &space, const std::string &type,
                      char read, char written)
{
    std::string width = n == 1 ? "" : n == 2 ? ".v2" : ".v4", address = brackets(Space::ADDRESS);
    to.push_back({"ld" + space + width + type, list(written, n) + address, load<Space, T, n>});
    if (space != ".param" && space != ".global.nc")
        to.push_back({"st" + space + width + type, address + list(read, n), store<Space, T, n>});
}

template <class Space, class T, class Wide>
static void add_wide(std::vector<Opcode> &to, const std::string &space, const std::string &type,
                     char read, char written)
{
    std::string address = brackets(Space::ADDRESS);
    to.push_back({"ld" + space + type, written + address, load_wide<Space, T, Wide>});
    if (space != ".param" && space != ".global.nc")
        to.push_back({"st" + space + type, address + read, store_wide<Space, T, Wide>});
}

template <class Space> static void add_space(std::vector<Opcode> &to, const std::string &space)
{
    static const struct {
        const char *name;
        char read, written;
    } WORDS[] = {{".u32", 'u', 'U'}, {".s32", 'u', 'U'}, {".f32", 'f', 'F'}, {".b32", 'd', 'D'}},
      LONGS[] = {{".u64", 'l', 'L'}, {".b64", 'q', 'Q'}};
    for (const auto &t : WORDS) {
        add_width<Space, uint32_t, 1>(to, space, t.name, t.read, t.written);
        add_width<Space, uint32_t, 2>(to, space, t.name, t.read, t.written);
        add_width<Space, uint32_t, 4>(to, space, t.name, t.read, t.written);
    }
    for (const auto &t : LONGS) {
        add_width<Space, uint64_t, 1>(to, space, t.name, t.read, t.written);
        add_width<Space, uint64_t, 2>(to, space, t.name, t.read, t.written);
    }
    add_width<Space, uint16_t, 1>(to, space, ".u16", 'h', 'H');
    add_wide<Space, uint32_t, uint64_t>(to, space, ".u32", 'l', 'L');
    add_wide<Space, int32_t, int64_t>(to, space, ".s32", 'l', 'L');
    add_wide<Space, uint16_t, uint32_t>(to, space, ".u16", 'u', 'U');
    add_wide<Space, uint16_t, uint64_t>(to, space, ".u16", 'l', 'L');
}

/* ---- Atomic ---- */

static uint32_t add_shared(uint64_t address, uint32_t x)
{
    unsigned char *at = shared_bytes(address, 4, Access::atomic);
    uint32_t before, after;
    std::memcpy(&before, at, 4);
    after = before + x;
    std::memcpy(at, &after, 4);
    return before;
}

static uint32_t add_generic(uint64_t address, uint32_t x)
{
    if (address - SHARED_WINDOW < WINDOW_SIZE)
        return add_shared(address - SHARED_WINDOW, x);
    auto at = reinterpret_cast<uint32_t *>(global_bytes(address, 4));
    return __atomic_fetch_add(at, x, __ATOMIC_RELAXED);
}

template <bool shared> static uint32_t atomic_add(const Run &run, const int32_t *o)
{
    uint32_t x = get<uint32_t>(run, o[2]);
    return shared ? add_shared(address_of<uint32_t>(run, o), x)
                  : add_generic(address_of<uint64_t>(run, o), x);
}

template <bool shared> static void atom_add(Run &run, const int32_t *o)
{
    put<uint32_t>(run, o[0], atomic_add<shared>(run, o + 1));
}

template <bool shared> static void reduce_add(Run &run, const int32_t *o)
{
    atomic_add<shared>(run, o);
}

/* ---- Addresses ---- */

/* From generic: it must be of that kind. */
static void to_global(Run &run, const int32_t *o)
{
    uint64_t address = get<uint64_t>(run, o[1]);
    if (address - SHARED_WINDOW < WINDOW_SIZE || address - PARAM_WINDOW < WINDOW_SIZE)
        fault("cvta.to.global of an address of other memory");
    put<uint64_t>(run, o[0], address);
}

static void to_shared(Run &run, const int32_t *o)
{
    uint64_t address = get<uint64_t>(run, o[1]) - SHARED_WINDOW;
    if (address >= WINDOW_SIZE)
        fault("cvta.to.shared of an address of other memory");
    put<uint64_t>(run, o[0], address);
}

static void from_shared(Run &run, const int32_t *o)
{
    put<uint64_t>(run, o[0], get<uint64_t>(run, o[1]) + SHARED_WINDOW);
}

static void from_param(Run &run, const int32_t *o)
{
    put<uint64_t>(run, o[0], get<uint64_t>(run, o[1]) - PARAMS + PARAM_WINDOW);
}

/* ---- Asynchronous ---- */

static constexpr uint32_t COPIED = 16;

/* The last operand: how much of the 16 bytes is read, the rest being zeros. */
static void copy(Run &run, const int32_t *o)
{
    uint32_t size = get<uint32_t>(run, o[5]);
    if (o[4] != COPIED || (size != 0 && size != COPIED))
        fault("cp.async of %u bytes of %d: 0 or 16 of 16 are simulated", size, o[4]);
    copy_async(static_cast<uint32_t>(address_of<uint32_t>(run, o)),
               address_of<uint64_t>(run, o + 2), size != 0);
}

static void commit_copies(Run &, const int32_t *)
{
    copy_commit();
}

static void wait_for_copies(Run &, const int32_t *o)
{
    copy_wait(static_cast<uint32_t>(o[0]));
}

/* Tensor maps are parameters. */
static const void *map_at(const Run &run, const int32_t *o)
{
    constexpr size_t SIZE = 128, ALIGNED = 64;
    uint64_t offset = address_of<uint64_t>(run, o) - PARAM_WINDOW;
    const std::vector<unsigned char> &args = self().block->launch->args;
    if (offset > args.size() || args.size() - offset < SIZE)
        fault("a tensor map that is no parameter");
    if (offset % ALIGNED)
        fault("a tensor map at byte %llu of the parameters",
              static_cast<unsigned long long>(offset));
    return args.data() + offset;
}

static void read_place(const Run &run, const int32_t *o, int at[MAX_RANK])
{
    for (uint32_t i = 0; i < MAX_RANK; i++)
        at[i] = get<int32_t>(run, o[i]);
}

/* [to], [map, {...}], [barrier] */
static void load_tile(Run &run, const int32_t *o)
{
    int at[MAX_RANK];
    read_place(run, o + 4, at);
    tensor_load(static_cast<uint32_t>(address_of<uint32_t>(run, o)), map_at(run, o + 2),
                static_cast<uint32_t>(address_of<uint32_t>(run, o + 9)), at);
}

/* [map, {...}], [from] */
static void store_tile(Run &run, const int32_t *o)
{
    int at[MAX_RANK];
    read_place(run, o + 2, at);
    tensor_store(map_at(run, o), static_cast<uint32_t>(address_of<uint32_t>(run, o + 7)), at);
}

static void commit_stores(Run &, const int32_t *)
{
    tensor_store_commit();
}

static void wait_for_stores(Run &, const int32_t *)
{
    tensor_store_wait_read();
}

static std::vector<Opcode> all_opcodes()
{
    std::vector<Opcode> all = {
        {"atom.add.u32", "U[g]u", atom_add<false>},
        {"atom.shared.add.u32", "U[s]u", atom_add<true>},
        {"red.add.u32", "[g]u", reduce_add<false>},
        {"red.shared.add.u32", "[s]u", reduce_add<true>},
        {"cvta.to.global.u64", "Ll", to_global},
        {"cvta.to.shared.u64", "Ll", to_shared},
        {"cvta.shared.u64", "LM", from_shared},
        {"cvta.param.u64", "LM", from_param},
        {"cp.async.cg.shared.global", "[s][g]nu", copy},
        {"cp.async.commit_group", "", commit_copies},
        {"cp.async.wait_group", "n", wait_for_copies},
        {"cp.async.bulk.tensor.5d.shared::cluster.global.tile.mbarrier::complete_tx::bytes",
         "[s][g{uuuuu}][s]", load_tile},
        {"cp.async.bulk.tensor.5d.global.shared::cta.tile.bulk_group", "[g{uuuuu}][s]", store_tile},
        {"cp.async.bulk.commit_group", "", commit_stores},
        {"cp.async.bulk.wait_group.read", "0", wait_for_stores},
    };
    add_space<Global>(all, ".global");
    add_space<Global>(all, ".global.nc");
    add_space<SharedSpace>(all, ".shared");
    add_space<Params>(all, ".param");
    add_space<Generic>(all, "");
    return all;
}

const std::vector<Opcode> &memory_opcodes()
{
    static const std::vector<Opcode> all = all_opcodes();
    return all;
}

} // namespace ptx
} // namespace simulator
