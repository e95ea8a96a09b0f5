// SPDX-License-Identifier: MIT
//
// The vocabulary of the kernels (cuda/ptx.cuh) for the simulated driver: the same functions, every
// access checked. Kernels are compiled as C++ for the host with this header first on the path.
#pragma once
#include <cmath>
#include <cstring>
#include <type_traits>

#include "kernel_abi.h"

#include "arithmetic.h"
#include "execute.h"

#define DEVICE inline
#define UNROLL
#define UNROLL_BY_4
#define ROLLED

// 0: kernels run on all devices; ptx_sm90.cuh changes it.
#define SIMULATOR_ARCH 0

#define KERNEL(name, threads, blocks)                                                              \
    static void name##_thread(const draft_args &a);                                                \
    static void name##_entry(const void *args)                                                     \
    {                                                                                              \
        name##_thread(*static_cast<const draft_args *>(args));                                     \
    }                                                                                              \
    static const simulator::Registration name##_registration(                                      \
        #name, name##_entry, {sizeof(draft_args)}, threads, SIMULATOR_ARCH);                       \
    static void name##_thread(const draft_args &a)

#define SHARED_ARRAY(type, name, count)                                                            \
    static const char name##_key = 0;                                                              \
    const Shared<type> name = simulator_array<type>(&name##_key, count)

// Where the real header has plain pointers, these check what they point to.
template <class T> class Global
{
  public:
    Global() : address_(0) {}
    explicit Global(addr address) : address_(address) {}
    operator Global<const T>() const { return Global<const T>(address_); }
    template <class I> T &operator[](I i) const { return *at(address_ + offset(i)); }
    T &operator*() const { return *at(address_); }
    T *operator->() const { return at(address_); }
    template <class I> Global operator+(I i) const { return Global(address_ + offset(i)); }
    template <class I> Global &operator+=(I i)
    {
        address_ += offset(i);
        return *this;
    }
    addr address() const { return address_; }

  private:
    // A 32-bit index is extended as the pointer arithmetic of the real kernel would.
    template <class I> static addr offset(I i)
    {
        return static_cast<addr>(static_cast<int64_t>(i)) * sizeof(T);
    }
    static T *at(addr address)
    {
        simulator::check_global(address, sizeof(T), alignof(T));
        return reinterpret_cast<T *>(address);
    }
    addr address_;
};

template <class T> class SharedReference
{
  public:
    explicit SharedReference(u32 address) : address_(address) {}
    SharedReference(const SharedReference &) = default;
    operator T() const
    {
        T value;
        std::memcpy(&value, access(simulator::SharedMemory::Access::read), sizeof value);
        return value;
    }
    const SharedReference &operator=(const T &value) const
    {
        std::memcpy(access(simulator::SharedMemory::Access::write), &value, sizeof value);
        return *this;
    }
    const SharedReference &operator=(const SharedReference &other) const
    {
        return *this = T(other);
    }
    const SharedReference &operator+=(const T &x) const { return *this = T(*this) + x; }

  private:
    unsigned char *access(simulator::SharedMemory::Access kind) const
    {
        return simulator::self().block->shared.access(address_, sizeof(T), alignof(T), kind);
    }
    u32 address_;
};

template <class T> class Shared
{
    static_assert(sizeof(T) % 4 == 0, "order is watched for each 4 bytes");

  public:
    Shared() : address_(0), first_(0), end_(0) {}
    Shared(u32 address, u32 first, u32 end) : address_(address), first_(first), end_(end) {}
    operator Shared<const T>() const { return {address_, first_, end_}; }
    template <class I> SharedReference<T> operator[](I i) const
    {
        return SharedReference<T>((*this + i).checked());
    }
    SharedReference<T> operator*() const { return SharedReference<T>(checked()); }
    template <class I> Shared operator+(I i) const
    {
        return {static_cast<u32>(address_ + static_cast<int64_t>(i) * sizeof(T)), first_, end_};
    }
    u32 address() const { return address_; }
    u32 checked() const
    {
        if (address_ < first_ || address_ + sizeof(T) > end_)
            simulator::fault("shared memory: an index %lld is outside an array of %zu",
                             (static_cast<long long>(address_) - first_) / (long long)sizeof(T),
                             (end_ - first_) / sizeof(T));
        return address_;
    }

  private:
    u32 address_, first_, end_; // end_: behind the last byte of the array
};

template <class T> Shared<T> simulator_array(const void *key, size_t count)
{
    u32 first = simulator::self().block->shared.declare(key, count * sizeof(T));
    return {first, first, static_cast<u32>(first + count * sizeof(T))};
}

struct alignas(16) Unit {
    u32 v[4];
};

// ---- Where am I -------------------------------------------------------------------------------

constexpr u32 WARP = 32;

inline u32 thread_id()
{
    return simulator::self().id;
}

inline u32 block_id()
{
    return simulator::self().block->id[0];
}

inline u32 lane_id()
{
    return simulator::self().lane;
}

inline u32 warp_id()
{
    return simulator::self().warp->id;
}

// ---- Memory -----------------------------------------------------------------------------------

template <class T> Global<T> global(addr address)
{
    return Global<T>(address);
}

template <class T> Shared<T> dynamic_shared()
{
    u32 first = simulator::self().block->shared.dynamic_base();
    u32 size = static_cast<u32>(simulator::self().block->shared.dynamic_size());
    return {first, first, first + size};
}

template <class T> u32 shared_address(Shared<T> p)
{
    return p.address();
}

inline Unit load_unit(Global<const Unit> p)
{
    return *p;
}

inline void store_shared(u32 address, u32 value)
{
    SharedReference<u32>{address} = value;
}

inline u32 load_shared(u32 address)
{
    return SharedReference<u32>(address);
}

inline Unit load_shared_unit(u32 address)
{
    return SharedReference<Unit>(address);
}

inline u32 atomic_add(Global<u32> p, u32 x)
{
    return __atomic_fetch_add(&*p, x, __ATOMIC_RELAXED);
}

inline u32 atomic_add(Shared<u32> p, u32 x)
{
    unsigned char *at = simulator::self().block->shared.access(
        p.checked(), 4, 4, simulator::SharedMemory::Access::atomic);
    u32 before, after;
    std::memcpy(&before, at, 4);
    after = before + x;
    std::memcpy(at, &after, 4);
    return before;
}

// ---- Together ---------------------------------------------------------------------------------

inline void block_barrier()
{
    simulator::block_barrier();
}

inline void warp_barrier()
{
    simulator::warp_barrier();
}

struct BallotSlot {
    bool said;
    u32 result;
};

inline u32 warp_ballot(bool x)
{
    static const simulator::Collective ballot = {
        "warp_ballot", [](simulator::Warp &warp, void *const *slots) {
            u32 result = 0;
            for (u32 lane = 0; lane < WARP; lane++)
                if (warp.lanes >> lane & 1 && static_cast<BallotSlot *>(slots[lane])->said)
                    result |= 1u << lane;
            for (u32 lane = 0; lane < WARP; lane++)
                if (warp.lanes >> lane & 1)
                    static_cast<BallotSlot *>(slots[lane])->result = result;
        }};
    BallotSlot slot = {x, 0};
    simulator::warp_together(ballot, &slot);
    return slot.result;
}

template <class T> struct ShuffleSlot {
    T given, taken;
    u32 from;
};

template <class T> T warp_shuffle(T x, u32 lane)
{
    static const simulator::Collective shuffle = {
        "warp_shuffle", [](simulator::Warp &warp, void *const *slots) {
            for (u32 i = 0; i < WARP; i++) {
                if (!(warp.lanes >> i & 1))
                    continue;
                ShuffleSlot<T> *slot = static_cast<ShuffleSlot<T> *>(slots[i]);
                if (!(warp.lanes >> slot->from % WARP & 1))
                    simulator::fault("warp_shuffle from lane %u, which is not there", slot->from);
                slot->taken = static_cast<ShuffleSlot<T> *>(slots[slot->from % WARP])->given;
            }
        }};
    ShuffleSlot<T> slot = {x, x, lane};
    simulator::warp_together(shuffle, &slot);
    return slot.taken;
}

template <class T> T warp_shuffle_xor(T x, u32 mask)
{
    return warp_shuffle(x, lane_id() ^ mask);
}

// ---- Numbers ----------------------------------------------------------------------------------

inline u32 bits_of(f32 x)
{
    u32 bits;
    std::memcpy(&bits, &x, 4);
    return bits;
}

inline f32 float_of(u32 bits)
{
    f32 x;
    std::memcpy(&x, &bits, 4);
    return x;
}

inline u32 count_ones(u32 x)
{
    return static_cast<u32>(__builtin_popcount(x));
}

inline f32 multiply(f32 x, f32 y)
{
    return x * y;
}

inline f32 exp2_fast(f32 x)
{
    return simulator::exp2_approx(x);
}

inline f32 log2_fast(f32 x)
{
    return simulator::log2_approx(x);
}

struct F16 {
    static f32 to_f32(uint16_t x) { return simulator::f16_to_f32(x); }
    static uint16_t of_f32(f32 x) { return simulator::f32_to_f16(x); }
};

struct BF16 {
    static f32 to_f32(uint16_t x) { return simulator::bf16_to_f32(x); }
    static uint16_t of_f32(f32 x) { return simulator::f32_to_bf16(x); }
};

template <class T> u32 pack2(f32 first, f32 second)
{
    return T::of_f32(first) | static_cast<u32>(T::of_f32(second)) << 16;
}

template <class T> f32 first_of(u32 pair)
{
    return T::to_f32(static_cast<uint16_t>(pair));
}

template <class T> f32 second_of(u32 pair)
{
    return T::to_f32(static_cast<uint16_t>(pair >> 16));
}

// ---- sm_80 --------------------------------------------------------------------------------------

inline void copy_async(u32 to, Global<const Unit> from, bool inside)
{
    simulator::copy_async(to, from.address(), inside);
}

inline void copy_commit()
{
    simulator::copy_commit();
}

template <int pending> void copy_wait()
{
    simulator::copy_wait(pending);
}

inline void load_matrices(u32 x[4], u32 address)
{
    simulator::load_matrices(x, address, false);
}

inline void load_matrices_transposed(u32 x[4], u32 address)
{
    simulator::load_matrices(x, address, true);
}

template <class T> void multiply_add(f32 c[4], const u32 a[4], u32 b0, u32 b1)
{
    const u32 b[4] = {b0, b1};
    simulator::multiply_add({c, 0, a, 1, b, 1}, std::is_same<T, BF16>::value);
}

template <class T, u32 rows, u32 n>
void multiply_add_pairs(f32 (&c)[rows][n], u32 first, const u32 (&a)[rows][4], const u32 (&b)[4])
{
    simulator::multiply_add({c[0] + first, n, a[0], rows, b, 2}, std::is_same<T, BF16>::value);
}
