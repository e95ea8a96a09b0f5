/* SPDX-License-Identifier: MIT
 *
 * Faults planted in kernels (faults.cu): the simulator must find each, and say what and where; and
 * it must let pass what is right, with the right numbers. */
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <set>

#include <check.h>

#include "execute.h"
#include "kernel_abi.h"
#include "run_suite.h"
#include "simulator.h"

using namespace simulator;

static constexpr uint32_t THREADS = 128;

/* An allocation for the time of a test. */
class Memory
{
  public:
    explicit Memory(size_t count) : address(memory_allocate(count * 4))
    {
        ck_assert(address != 0);
    }
    ~Memory()
    {
        memory_free(address);
    }
    uint32_t &operator[](size_t i)
    {
        return reinterpret_cast<uint32_t *>(address)[i];
    }
    const uint64_t address;
};

struct Run {
    bool ok;
    std::string report;
};

static Run run(const char *name, const draft_args &args, uint32_t blocks = 1, size_t shared = 0)
{
    const Kernel *kernel = find_kernel(name);
    ck_assert_msg(kernel != nullptr, "no kernel %s", name);
    ck_assert_uint_eq(kernel->args_size, sizeof(args));
    auto bytes = reinterpret_cast<const unsigned char *>(&args);
    Launch launch = {kernel, {blocks, 1, 1}, {kernel->max_threads, 1, 1}, shared, {}};
    launch.args.assign(bytes, bytes + sizeof(args));
    Run result;
    result.ok = execute(launch, &result.report);
    return result;
}

/* Each kernel once as it should be, and once for each of its faults. */
static const struct planted {
    const char *kernel;
    uint32_t step;          /* 0: right                                              */
    const char *said[3];    /* words of the report, nullptr where there are no more  */
    uint32_t first, second; /* of the answers, where right: those of threads 0 and 1 */
} FAULTS[] = {
    {"fault_copy", 0, {}, 128 + 131, 132 + 135},
    {"fault_copy", 1, {"shared memory", "copy", "under way"}, 0, 0},
    {"fault_copy", 2, {"shared memory"}, 0, 0}, /* a copy under way, or the race after it */
    {"fault_copy", 3, {"shared memory", "copy", "under way"}, 0, 0},
    {"fault_copy", 4, {"shared memory", "copy", "under way"}, 0, 0},
    {"fault_copy", 5, {"shared memory", "copy", "under way"}, 0, 0},
    {"fault_copy_groups", 0, {}, 0, 4},
    {"fault_copy_groups", 1, {"shared memory", "copy", "under way"}, 0, 0},
    {"fault_zero_fill", 0, {}, 0 + 1 + 2 + 3, 0},
    {"fault_read", 0, {}, 33, 34},
    {"fault_read", 1, {"shared memory"}, 0, 0}, /* a race, or not written yet */
    {"fault_read", 2, {"shared memory"}, 0, 0},
    {"fault_read", 3, {"race", "shared memory", "writes"}, 0, 0},
    {"fault_read_lane", 0, {}, 2, 1},
    {"fault_read_lane", 1, {"shared memory"}, 0, 0},
    {"fault_read_lane", 3, {"race", "shared memory"}, 0, 0},
    {"fault_write", 0, {}, 0, 1},
    {"fault_write", 1, {"race", "shared memory", "writes"}, 0, 0},
    {"fault_write", 2, {"race", "shared memory", "writes"}, 0, 0},
    {"fault_read_matrices", 0, {}, 1 + 25, 1 + 25},
    {"fault_read_matrices", 1, {"race", "shared memory", "reads"}, 0, 0},
    {"fault_atomic", 0, {}, 128, 128},
    {"fault_atomic", 1, {"race", "shared memory"}, 0, 0},
    {"fault_unwritten", 0, {}, 0, 1},
    {"fault_unwritten", 1, {"shared memory", "nobody has written", "thread 77"}, 0, 0},
    {"fault_range", 0, {}, 0, 1},
    {"fault_range", 1, {"device memory", "4 bytes past the end of an allocation of 4096"}, 0, 0},
    {"fault_range", 2, {"device memory", "4 bytes before an allocation of 4096", "thread 0"}, 0, 0},
    {"fault_range", 3, {"device memory", "no memory of the device"}, 0, 0},
    {"fault_range", 4, {"device memory", "4 bytes past the end of an allocation of 4096"}, 0, 0},
    {"fault_aligned", 0, {}, 0 + 1, 4 + 5},
    {"fault_aligned", 1, {"device memory", "no multiple of 16"}, 0, 0},
    {"fault_aligned", 2, {"device memory", "no multiple of 16"}, 0, 0},
    {"fault_aligned", 3, {"shared memory", "no multiple of 16"}, 0, 0},
    {"fault_shared_range", 0, {}, 1, 2},
    {"fault_shared_range", 1, {"shared memory", "index 128", "thread 127"}, 0, 0},
    {"fault_shared_range", 2, {"shared memory", "outside"}, 0, 0},
    {"fault_shared_range", 3, {"shared memory", "index -1", "thread 0"}, 0, 0},
    {"fault_shared_range", 4, {"shared memory", "no multiple of 4"}, 0, 0},
    {"fault_dynamic", 0, {}, 0, 1},
    {"fault_dynamic", 1, {"shared memory", "index 128", "thread 127"}, 0, 0},
    {"fault_barrier", 0, {}, 0, 1},
    {"fault_barrier", 1, {"not all threads", "block_barrier", "ended"}, 0, 0},
    {"fault_barrier", 2, {"not all threads", "block_barrier", "warp_barrier"}, 0, 0},
    {"fault_warp", 0, {}, 0x55555555, 0x55555555},
    {"fault_warp", 1, {"not all threads", "warp_ballot", "ended"}, 0, 0},
    {"fault_warp", 2, {"warp_ballot", "warp_shuffle"}, 0, 0},
    {"fault_shuffle", 0, {}, 32000000 + 5000 + 3, 32000000 + 5000 + 2},
};

START_TEST(each)
{
    const struct planted &f = FAULTS[_i];
    bool by_range = !strncmp(f.kernel, "fault_range", 11);
    Memory in(1024), out(THREADS);
    for (uint32_t i = 0; i < 1024; i++)
        in[i] = i;
    draft_args args = {};
    /* Where the range is at stake, the last thread's word is the last of the allocation. */
    uint32_t skip = by_range && f.step != 2 ? 1024 - THREADS : 0;
    args.q = in.address + skip * 4;
    args.o = out.address;
    args.step = f.step;
    Run r = run(f.kernel, args, 1, THREADS * 4);
    if (f.step == 0) {
        ck_assert_msg(r.ok, "%s: %s", f.kernel, r.report.c_str());
        ck_assert_uint_eq(out[0], skip + f.first);
        ck_assert_uint_eq(out[1], skip + f.second);
        return;
    }
    ck_assert_msg(!r.ok, "%s step %u was not noticed", f.kernel, f.step);
    for (const char *word : f.said)
        ck_assert_msg(!word || r.report.find(word) != std::string::npos,
                      "%s step %u: no \"%s\" in: %s", f.kernel, f.step, word, r.report.c_str());
    for (const char *word : {f.kernel, "block (0, 0, 0)", "thread "})
        ck_assert_msg(r.report.find(word) != std::string::npos, "%s step %u: no \"%s\" in: %s",
                      f.kernel, f.step, word, r.report.c_str());
}
END_TEST

/* ---- Device memory ---- */

START_TEST(freed)
{
    Memory out(THREADS);
    draft_args args = {};
    args.o = out.address;
    {
        Memory in(THREADS);
        for (uint32_t i = 0; i < THREADS; i++)
            in[i] = i + 7;
        args.q = in.address;
        ck_assert(run("fault_range", args).ok);
        ck_assert_uint_eq(out[THREADS - 1], THREADS - 1 + 7);
    }
    Run r = run("fault_range", args);
    ck_assert(!r.ok);
    ck_assert_msg(r.report.find("freed") != std::string::npos, "%s", r.report.c_str());
}
END_TEST

START_TEST(allocations)
{
    ck_assert_uint_eq(memory_allocate(0), 0);
    ck_assert_uint_eq(memory_allocate(SIZE_MAX), 0);
    ck_assert_uint_eq(memory_allocate(SIZE_MAX - 8192), 0);
    size_t before = memory_in_use();
    for (size_t size : {(size_t)1, (size_t)512, (size_t)4095, (size_t)5 << 30}) {
        uint64_t generation = memory_generation(), p = memory_allocate(size);
        ck_assert(p != 0 && p % 512 == 0);
        ck_assert(memory_generation() != generation);
        ck_assert_uint_eq(memory_in_use(), before + size);
        Allocation a;
        ck_assert(memory_find(p + size - 1, 1, &a));
        ck_assert(a.address == p && a.size == size);
        ck_assert(memory_find(p, size, &a));
        ck_assert(!memory_find(p, size + 1, &a));
        ck_assert(!memory_find(p + size, 1, &a));
        ck_assert(!memory_find(p - 1, 2, &a));
        ck_assert(!memory_find(p + 1, SIZE_MAX, &a));
        unsigned char *bytes = reinterpret_cast<unsigned char *>(p);
        bytes[size - 1]++;
        bytes[0] = 1;
        ck_assert(memory_free(p));
        ck_assert(!memory_free(p));
        ck_assert(!memory_find(p, 1, &a));
    }
    ck_assert_uint_eq(memory_in_use(), before);
}
END_TEST

START_TEST(poison)
{
    Memory fresh(4096);
    for (uint32_t i = 0; i < 4096; i++)
        ck_assert_uint_eq(fresh[i], 0xffffffff);
}
END_TEST

/* ---- Blocks ---- */

START_TEST(blocks)
{
    const uint32_t count = 64;
    Memory counter(1), out(count * THREADS);
    counter[0] = 0;
    draft_args args = {};
    args.q = counter.address;
    args.o = out.address;
    Run r = run("fault_count", args, count);
    ck_assert_msg(r.ok, "%s", r.report.c_str());
    ck_assert_uint_eq(counter[0], count * THREADS);
    std::set<uint32_t> seen;
    for (uint32_t i = 0; i < count * THREADS; i++)
        seen.insert(out[i]);
    ck_assert_uint_eq(seen.size(), count * THREADS);
    ck_assert_uint_eq(*seen.rbegin(), count * THREADS - 1);
}
END_TEST

/* One block of many has a fault: it is found, and named. */
START_TEST(one_block)
{
    const uint32_t count = 16;
    Memory in(THREADS), out((count - 1) * THREADS);
    for (uint32_t i = 0; i < THREADS; i++)
        in[i] = i;
    draft_args args = {};
    args.q = in.address;
    args.o = out.address;
    Run r = run("fault_range", args, count);
    ck_assert(!r.ok);
    ck_assert_msg(r.report.find("block (15, 0, 0), thread ") != std::string::npos, "%s",
                  r.report.c_str());
    ck_assert_uint_eq(out[THREADS + 5], 5);
}
END_TEST

/* ---- Matrix product ---- */

enum { M = 16, N = 16, K = 32 };

/* Small integers: every sum is exact in f32, whatever the order. */
static void product(const char *kernel, uint16_t (*narrow)(float), uint32_t step, bool want_right)
{
    Memory a(M * K / 2), b(K * N / 2), c(M * N);
    float left[M][K], right[K][N];
    uint16_t *a16 = reinterpret_cast<uint16_t *>(a.address);
    uint16_t *b16 = reinterpret_cast<uint16_t *>(b.address);
    for (int k = 0; k < K; k++) {
        for (int i = 0; i < M; i++)
            a16[i * K + k] = narrow(left[i][k] = (float)((i * 7 + k * 5 + i * k) % 17 - 8));
        for (int j = 0; j < N; j++) {
            right[k][j] = (float)((k * 11 + j * 3 + j * k) % 13 - 6);
            b16[step == 1 ? j * K + k : k * N + j] = narrow(right[k][j]);
        }
    }
    draft_args args = {};
    args.q = a.address;
    args.k = b.address;
    args.o = c.address;
    args.step = step;
    Run r = run(kernel, args);
    ck_assert_msg(r.ok, "%s", r.report.c_str());
    const float *got = reinterpret_cast<const float *>(c.address);
    int wrong = 0;
    for (int i = 0; i < M; i++)
        for (int j = 0; j < N; j++) {
            float want = 0;
            for (int k = 0; k < K; k++)
                want += left[i][k] * right[k][j];
            wrong += !(got[i * N + j] == want);
        }
    if (want_right)
        ck_assert_msg(wrong == 0, "%s step %u: %d of %d are wrong", kernel, step, wrong, M * N);
    else
        ck_assert_msg(wrong > M * N / 4, "%s step %u: only %d are wrong", kernel, step, wrong);
}

START_TEST(products)
{
    for (uint32_t step = 0; step <= 4; step++) {
        product("fault_product_f16", f32_to_f16, step, step <= 1);
        product("fault_product_bf16", f32_to_bf16, step, step <= 1);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("simulator");
    TCase *tests = tcase_create("faults");
    tcase_add_loop_test(tests, each, 0, sizeof(FAULTS) / sizeof(FAULTS[0]));
    tcase_add_test(tests, freed);
    tcase_add_test(tests, allocations);
    tcase_add_test(tests, poison);
    tcase_add_test(tests, blocks);
    tcase_add_test(tests, one_block);
    tcase_add_test(tests, products);
    suite_add_tcase(suite, tests);
    return run_suite(suite);
}
