/* SPDX-License-Identifier: MIT
 *
 * Faults planted in kernels of sm_90 (faults_sm90.cu): each must be found, what is right must pass,
 * with the numbers of a plain loop. */
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include <check.h>

#include "driver.h"
#include "execute.h"
#include "image.h"
#include "kernel_abi.h"
#include "launch.h"
#include "run_suite.h"

using namespace simulator;

static constexpr uint32_t THREADS = 128, ROW = 128, TILE_ROWS = 8, BLOCKS = 5;
static constexpr size_t SHARED = 40 * 1024;

/* An allocation for the time of a test. */
class Memory
{
  public:
    explicit Memory(size_t bytes) : address(memory_allocate(bytes)), size(bytes)
    {
        ck_assert(address != 0);
    }
    ~Memory()
    {
        memory_free(address);
    }
    template <class T> T *as()
    {
        return reinterpret_cast<T *>(address);
    }
    const uint64_t address;
    const size_t size;
};

/* ---- Tensor maps ---- */

struct Shape {
    cuuint64_t dims[5], strides[4];
    cuuint32_t box[5];
};

static const cuuint32_t STEPS[5] = {1, 1, 1, 1, 1};

static CUresult encode(cuda_tensor_map *out, const Shape &s, uint64_t address)
{
    return cuTensorMapEncodeTiled(
        reinterpret_cast<CUtensorMap *>(out), CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 5,
        reinterpret_cast<void *>(address), s.dims, s.strides, s.box, STEPS,
        CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
        CU_TENSOR_MAP_L2_PROMOTION_L2_128B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
}

/* Rows of 64 elements, boxes of 8 rows. */
static void rows_of(cuda_tensor_map *out, const Memory &memory, size_t rows)
{
    const size_t all = ROW * rows;
    Shape s = {{64, rows, 1, 1, 1}, {ROW, all, all, all}, {64, TILE_ROWS, 1, 1, 1}};
    ck_assert_int_eq(encode(out, s, memory.address), CUDA_SUCCESS);
}

struct Run {
    bool ok;
    std::string report;
};

static Run run(const char *name, const draft_args &args, const cuda_tensor_maps &maps,
               uint32_t blocks)
{
    const Kernel *kernel = find_kernel(name);
    ck_assert_msg(kernel != nullptr, "no kernel %s", name);
    ck_assert_uint_eq(kernel->args_size, sizeof(args) + sizeof(maps));
    ck_assert_int_eq(kernel->arch, 90);
    Launch launch = {kernel, {blocks, 1, 1}, {kernel->max_threads, 1, 1}, SHARED, {}};
    launch.args.resize(kernel->args_size);
    memcpy(launch.args.data(), &args, sizeof(args));
    memcpy(launch.args.data() + sizeof(args), &maps, sizeof(maps));
    Run result;
    result.ok = execute(launch, &result.report);
    return result;
}

static void expect(const Run &r, const char *kernel, uint32_t step, const char *said)
{
    if (!said) {
        ck_assert_msg(r.ok, "%s step %u: %s", kernel, step, r.report.c_str());
        return;
    }
    ck_assert_msg(!r.ok, "%s step %u was not noticed", kernel, step);
    for (const char *word : {said, kernel, "block ("})
        ck_assert_msg(r.report.find(word) != std::string::npos, "%s step %u: no \"%s\" in: %s",
                      kernel, step, word, r.report.c_str());
}

/* ---- Each fault ---- */

static const struct planted {
    const char *kernel;
    uint32_t step;
    const char *said; /* nullptr: right */
} FAULTS[] = {
    {"fault_tile", 0, nullptr},
    {"fault_tile", 1, ""}, /* under way, or a race with the copy */
    {"fault_tile", 2, ""},
    {"fault_tile", 3, "race"},
    {"fault_tile", 4, "more bytes came than were announced"},
    {"fault_tile", 5, "1024 bytes have not come"},
    {"fault_tile", 6, ""}, /* the copy comes too late, or what is under way is read */
    {"fault_tile", 7, "no barrier at byte"},
    {"fault_tile", 8, "before barriers_ready"},
    {"fault_tile", 9, "race"},
    {"fault_tile", 10, "no multiple of 1024"},
    {"fault_tile", 11, "lie outside"},
    {"fault_tile", 12, "tensor map"},
    {"fault_tile", 13, "more arrivals than its 1"},
    {"fault_tile", 14, "race"},
    {"fault_tile", 15, "written by threads and not fenced"},
    {"fault_tile", 16, "under way"},
    {"fault_tile", 17, "the block ends while a copy"},
    {"fault_tile", 18, "under way"},
    {"fault_tile", 19, "where a barrier lies"},
    {"fault_tile", 20, nullptr},
    {"fault_tile", 21, "device memory"},
    {"fault_tile", 22, "no multiple of 8"},
    {"fault_store", 0, nullptr},
    {"fault_store", 1, "written by threads and not fenced"},
    {"fault_store", 2, "not committed"},
    {"fault_store", 3, "may still read"},
    {"fault_store", 4, ""}, /* a race, or not written yet */
    {"fault_store", 5, "nobody has waited until a store"},
    {"fault_store", 6, "may still read"},
    {"fault_store", 7, "written by threads and not fenced"},
    {"fault_store", 8, "written by threads and not fenced"},
    {"fault_arrive", 0, nullptr},
    {"fault_arrive", 1, "race"},
    {"fault_arrive", 2, "race"},
    {"fault_arrive", 3, nullptr},
    {"fault_arrive", 4, "1 arrivals and 0 bytes have not come"},
    {"fault_arrive", 5, "race"},
    {"fault_arrive", 6, "race"},
    {"fault_arrive", 7, nullptr},
    {"fault_arrive", 8, "race"},
    {"fault_named", 0, nullptr},
    {"fault_named", 1, "where others come with"},
    {"fault_named", 2, "for 160 threads"},
    {"fault_named", 3, "a second time"},
    {"fault_named", 4, "named barrier 0"},
    {"fault_named", 5, nullptr},
    {"fault_named", 6, ""}, /* a race, or not written yet */
    {"fault_named", 7, "not all lanes"},
    {"fault_named", 8, "for 127 threads"},
    {"fault_named", 9, ""}, /* a race, or not written yet */
    {"fault_registers", 0, nullptr},
    {"fault_registers", 1, "the block has 64512"},
    {"fault_registers", 3, "gives registers: 240, and had 168"},
    {"fault_registers", 4, "give_registers"},
    {"fault_registers", 5, "takes registers: 72"},
};

START_TEST(each)
{
    const planted &f = FAULTS[_i];
    const uint32_t blocks = f.said ? 1 : BLOCKS, answers = blocks * THREADS;
    const uint32_t tile_words = TILE_ROWS * ROW / 4;
    Memory in(tile_words * 4), out(answers * 4 > tile_words * 4 ? answers * 4 : tile_words * 4);
    for (uint32_t i = 0; i < tile_words; i++)
        in.as<uint32_t>()[i] = i + 5;
    draft_args args = {};
    args.q = in.address;
    args.o = out.address;
    args.step = f.step;
    cuda_tensor_maps maps = {};
    rows_of(&maps.q, in, f.step == 21 ? 2 * TILE_ROWS : TILE_ROWS);
    rows_of(&maps.out, out, TILE_ROWS);
    Run r = run(f.kernel, args, maps, blocks);
    expect(r, f.kernel, f.step, f.said);
    if (f.said)
        return;
    const uint32_t *got = out.as<uint32_t>();
    if (!strcmp(f.kernel, "fault_store"))
        for (uint32_t i = 0; i < tile_words; i++)
            ck_assert_uint_eq(got[i], i);
    for (uint32_t i = 0; i < answers && strcmp(f.kernel, "fault_store") != 0; i++) {
        uint32_t t = i % THREADS, want = t;
        if (!strcmp(f.kernel, "fault_tile"))
            want = t / 16 * 32 + t % 16 * 2 + 5;
        else if (!strcmp(f.kernel, "fault_named"))
            want = t % (THREADS / 2);
        ck_assert_msg(got[i] == want, "%s step %u: thread %u of block %u: %u, not %u", f.kernel,
                      f.step, t, i / THREADS, got[i], want);
    }
}
END_TEST

/* ---- Boxes ---- */

/* A tensor with space between its rows, and boxes over its edges. */
static const cuuint64_t DIMS[5] = {72, 5, 4, 3, 2};
static const cuuint64_t STRIDES[4] = {160, 160 * 6, 160 * 6 * 4, 160 * 6 * 4 * 3 + 32};
static const cuuint32_t BOX[5] = {64, 4, 3, 2, 1};
static constexpr uint32_t BOX_ROWS = 4 * 3 * 2;

static const int PLACES[][5] = {
    {0, 0, 0, 0, 0},   {0, 1, 1, 1, 1},  {64, 0, 0, 0, 1},  {0, 4, 3, 2, 0},  {-8, -1, -2, -1, 0},
    {40, 3, -1, 2, 1}, {0, 0, 0, 0, 2},  {0, 0, 0, 0, -1},  {72, 0, 0, 0, 0}, {0, 5, 0, 0, 0},
    {-64, 0, 0, 0, 0}, {0, 2, 2, -2, 0}, {33, 0, -3, 0, 0},
};

/* Where column c of row r of a box lies in the tensor, in elements; -1: outside. */
static long element(const int at[5], uint32_t r, uint32_t c)
{
    long i[5] = {at[0] + (long)c, at[1] + (long)(r % BOX[1]), at[2] + (long)(r / BOX[1] % BOX[2]),
                 at[3] + (long)(r / BOX[1] / BOX[2]), at[4]};
    long place = i[0];
    for (int d = 0; d < 5; d++) {
        if (i[d] < 0 || i[d] >= (long)DIMS[d])
            return -1;
        if (d > 0)
            place += i[d] * (long)STRIDES[d - 1] / 2;
    }
    return place;
}

static void tensor_of(cuda_tensor_map *out, const Memory &memory)
{
    Shape s;
    memcpy(s.dims, DIMS, sizeof(DIMS));
    memcpy(s.strides, STRIDES, sizeof(STRIDES));
    memcpy(s.box, BOX, sizeof(BOX));
    ck_assert_int_eq(encode(out, s, memory.address), CUDA_SUCCESS);
}

static draft_args box_args(const int at[5], const Memory &in, const Memory &out)
{
    draft_args args = {};
    args.q = in.address;
    args.o = out.address;
    args.first = BOX_ROWS;
    args.q_batch = (uint32_t)at[0];
    args.q_token = (uint32_t)at[1];
    args.q_head = (uint32_t)at[2];
    args.k_batch = (uint32_t)at[3];
    args.k_token = (uint32_t)at[4];
    return args;
}

/* To the last element and no further. */
static constexpr size_t TENSOR_BYTES = 160 * 6 * 4 * 3 + 32 + (2 * 4 + 3) * 960 + 4 * 160 + 144;

START_TEST(boxes_load)
{
    const int *at = PLACES[_i];
    Memory tensor(TENSOR_BYTES), out(BOX_ROWS * ROW);
    for (uint32_t i = 0; i < TENSOR_BYTES / 2; i++)
        tensor.as<uint16_t>()[i] = (uint16_t)(i * 7 + 1);
    cuda_tensor_maps maps = {};
    tensor_of(&maps.q, tensor);
    Run r = run("fault_box_load", box_args(at, tensor, out), maps, 1);
    ck_assert_msg(r.ok, "%s", r.report.c_str());
    for (uint32_t i = 0; i < BOX_ROWS * 64; i++) {
        long from = element(at, i / 64, i % 64);
        ck_assert_uint_eq(out.as<uint16_t>()[i], from < 0 ? 0 : (uint16_t)(from * 7 + 1));
    }
}
END_TEST

START_TEST(boxes_store)
{
    const int *at = PLACES[_i];
    Memory tensor(TENSOR_BYTES), in(BOX_ROWS * ROW);
    std::vector<uint16_t> want(TENSOR_BYTES / 2);
    for (uint32_t i = 0; i < want.size(); i++)
        tensor.as<uint16_t>()[i] = want[i] = (uint16_t)(i * 7 + 1);
    for (uint32_t i = 0; i < BOX_ROWS * 64; i++) {
        in.as<uint16_t>()[i] = (uint16_t)(i * 3 + 2);
        long to = element(at, i / 64, i % 64);
        if (to >= 0)
            want[(size_t)to] = (uint16_t)(i * 3 + 2);
    }
    cuda_tensor_maps maps = {};
    tensor_of(&maps.out, tensor);
    Run r = run("fault_box_store", box_args(at, in, tensor), maps, 1);
    ck_assert_msg(r.ok, "%s", r.report.c_str());
    for (uint32_t i = 0; i < want.size(); i++)
        ck_assert_msg(tensor.as<uint16_t>()[i] == want[i], "element %u", i);
}
END_TEST

/* ---- Products ---- */

static constexpr uint32_t M = 64, N = 128, K = 64;
static const char RIGHT[] = "right", WRONG[] = "wrong";

static const struct product {
    const char *kernel;
    uint32_t step;
    const char *said; /* RIGHT, WRONG: no fault, by the numbers */
} PRODUCTS[] = {
    {"fault_rows_f16", 0, RIGHT},
    {"fault_rows_bf16", 0, RIGHT},
    {"fault_rows_bf16", 1, "without products_begin"},
    {"fault_rows_bf16", 2, "may still read"},
    {"fault_rows_bf16", 3, "may still read"},
    {"fault_rows_bf16", 4, "were not waited for"},
    {"fault_rows_bf16", 5, "were not waited for"},
    {"fault_rows_bf16", 6, "swizzle 0"},
    {"fault_rows_bf16", 7, "disagree"},
    {"fault_rows_bf16", 8, ""}, /* under way, or the race after it */
    {"fault_rows_bf16", 9, "products_begin"},
    {"fault_rows_bf16", 10, "written by threads and not fenced"},
    {"fault_rows_bf16", 20, WRONG},
    {"fault_rows_bf16", 21, WRONG},
    {"fault_rows_bf16", 22, WRONG},
    {"fault_rows_bf16", 23, WRONG},
    {"fault_columns_f16_64", 0, RIGHT},
    {"fault_columns_bf16_128", 0, RIGHT},
    {"fault_columns_bf16_128", 1, "may still read"},
    {"fault_columns_f16_64", 20, WRONG},
    {"fault_columns_bf16_128", 21, WRONG},
    {"fault_columns_bf16_128", 22, WRONG},
    {"fault_columns_f16_64", 23, WRONG},
    {"fault_columns_f16_64", 24, RIGHT},
};

/* Small integers: every sum is exact in f32, whatever the order. */
static float left_at(uint32_t m, uint32_t k)
{
    return (float)((int)(m * 7 + k * 5 + m * k) % 17 - 8);
}

static float right_at(uint32_t k, uint32_t n)
{
    return (float)((int)(k * 11 + n * 3 + n * k) % 13 - 6);
}

START_TEST(products)
{
    const product &p = PRODUCTS[_i];
    bool bf16 = strstr(p.kernel, "bf16"), columns = strstr(p.kernel, "columns");
    uint32_t n = strstr(p.kernel, "_64") ? 64 : N, wrong = 0;
    uint16_t (*narrow)(float) = bf16 ? f32_to_bf16 : f32_to_f16;
    Memory left(M * ROW), right(N * ROW), out(M * n * 4);
    for (uint32_t k = 0; k < K; k++) {
        for (uint32_t m = 0; m < M; m++)
            left.as<uint16_t>()[m * K + k] = narrow(left_at(m, k));
        for (uint32_t j = 0; j < n; j++) /* columns: parts of 64 columns, a row for each k */
            right.as<uint16_t>()[columns ? j / 64 * K * 64 + k * 64 + j % 64 : j * K + k] =
                narrow(right_at(k, j));
    }
    draft_args args = {};
    args.q = left.address;
    args.o = out.address;
    args.step = p.step;
    cuda_tensor_maps maps = {};
    rows_of(&maps.q, left, M);
    rows_of(&maps.k, right, N);
    Shape part = {{64, K, 1, 1, 1}, {ROW, K * ROW, K * ROW, K * ROW}, {64, TILE_ROWS, 1, 1, 1}};
    ck_assert_int_eq(encode(&maps.v, part, right.address + K * ROW), CUDA_SUCCESS);
    bool faultless = p.said == RIGHT || p.said == WRONG;
    Run r = run(p.kernel, args, maps, 1);
    expect(r, p.kernel, p.step, faultless ? nullptr : p.said);
    if (!faultless)
        return;
    for (uint32_t m = 0; m < M; m++)
        for (uint32_t j = 0; j < n; j++) {
            float want = 0;
            for (uint32_t k = 0; k < K; k++)
                want += left_at(m, k) * right_at(k, j);
            wrong += !(out.as<float>()[m * n + j] == want);
        }
    if (p.said == RIGHT)
        ck_assert_msg(wrong == 0, "%s step %u: %u are wrong", p.kernel, p.step, wrong);
    else
        ck_assert_msg(wrong > 0, "%s step %u: none is wrong", p.kernel, p.step);
}
END_TEST

/* ---- Turns ---- */

START_TEST(pipeline)
{
    const uint32_t tiles = 21, words = TILE_ROWS * ROW / 4;
    Memory in(tiles * words * 4), out(32 * 4);
    for (uint32_t i = 0; i < tiles * words; i++)
        in.as<uint32_t>()[i] = i * i;
    draft_args args = {};
    args.o = out.address;
    args.first = tiles;
    cuda_tensor_maps maps = {};
    rows_of(&maps.q, in, tiles * TILE_ROWS);
    Run r = run("fault_pipeline", args, maps, BLOCKS);
    ck_assert_msg(r.ok, "%s", r.report.c_str());
    for (uint32_t lane = 0; lane < 32; lane++) {
        uint32_t sum = 0;
        for (uint32_t i = 0; i < tiles; i++)
            sum += (i * words + lane) * (i * words + lane);
        ck_assert_uint_eq(out.as<uint32_t>()[lane], sum);
    }
    args.step = 1;
    expect(run("fault_pipeline", args, maps, 1), "fault_pipeline", 1, "");
}
END_TEST

/* ---- The driver ---- */

START_TEST(maps_refused)
{
    Memory memory(1 << 16);
    const Shape good = {{64, 8, 1, 1, 1}, {ROW, 1024, 1024, 1024}, {64, 8, 1, 1, 1}};
    cuda_tensor_map map[2];
    ck_assert_int_eq(encode(map, good, memory.address), CUDA_SUCCESS);
    ck_assert_int_eq(encode(map, good, memory.address + 8), CUDA_ERROR_INVALID_VALUE);
    ck_assert_int_eq(encode(map, good, 0), CUDA_ERROR_INVALID_VALUE);
    auto inside = reinterpret_cast<cuda_tensor_map *>(&map[0].opaque[2]);
    ck_assert_int_eq(encode(inside, good, memory.address), CUDA_ERROR_INVALID_VALUE);
    for (int d = 0; d < 5; d++) {
        Shape s = good;
        s.dims[d] = 0;
        ck_assert_int_eq(encode(map, s, memory.address), CUDA_ERROR_INVALID_VALUE);
        s.dims[d] = (1ull << 32) + 1;
        ck_assert_int_eq(encode(map, s, memory.address), CUDA_ERROR_INVALID_VALUE);
        s = good;
        s.box[d] = 0;
        ck_assert_int_eq(encode(map, s, memory.address), CUDA_ERROR_INVALID_VALUE);
        s.box[d] = 257;
        ck_assert_int_eq(encode(map, s, memory.address), CUDA_ERROR_INVALID_VALUE);
        if (d == 4)
            break;
        s = good;
        s.strides[d] = 136;
        ck_assert_int_eq(encode(map, s, memory.address), CUDA_ERROR_INVALID_VALUE);
        s.strides[d] = 1ull << 40;
        ck_assert_int_eq(encode(map, s, memory.address), CUDA_ERROR_INVALID_VALUE);
    }
    for (cuuint32_t box : {72u, 60u}) { /* more than the swizzle's 128 bytes; no multiple of 16 */
        Shape s = good;
        s.box[0] = box;
        ck_assert_int_eq(encode(map, s, memory.address), CUDA_ERROR_INVALID_VALUE);
    }
}
END_TEST

static CUmodule load(CUcontext *context)
{
    CUdevice device;
    CUmodule module;
    image i = make_image(PTX, 50);
    ck_assert_int_eq(cuInit(0), CUDA_SUCCESS);
    ck_assert_int_eq(cuDeviceGet(&device, 0), CUDA_SUCCESS);
    ck_assert_int_eq(cuDevicePrimaryCtxRetain(context, device), CUDA_SUCCESS);
    ck_assert_int_eq(cuCtxPushCurrent(*context), CUDA_SUCCESS);
    ck_assert_int_eq(cuModuleLoadData(&module, &i), CUDA_SUCCESS);
    return module;
}

static void unload(CUmodule module)
{
    ck_assert_int_eq(cuModuleUnload(module), CUDA_SUCCESS);
    ck_assert_int_eq(cuCtxPopCurrent(nullptr), CUDA_SUCCESS);
    ck_assert_int_eq(cuDevicePrimaryCtxRelease(0), CUDA_SUCCESS);
}

/* Both parameters arrive. */
START_TEST(launch)
{
    CUcontext context;
    CUmodule module = load(&context);
    CUfunction function;
    ck_assert_int_eq(cuModuleGetFunction(&function, module, "fault_box_load"), CUDA_SUCCESS);
    CUdeviceptr in, out;
    ck_assert_int_eq(cuMemAlloc(&in, ROW * TILE_ROWS), CUDA_SUCCESS);
    ck_assert_int_eq(cuMemAlloc(&out, ROW * TILE_ROWS), CUDA_SUCCESS);
    std::vector<uint32_t> data(ROW * TILE_ROWS / 4), got(data.size());
    for (uint32_t i = 0; i < data.size(); i++)
        data[i] = i * 3 + 1;
    ck_assert_int_eq(cuMemcpyHtoD(in, data.data(), data.size() * 4), CUDA_SUCCESS);
    draft_args args = {};
    args.o = out;
    args.first = TILE_ROWS;
    cuda_tensor_maps maps = {};
    Shape s = {{64, 8, 1, 1, 1}, {ROW, 1024, 1024, 1024}, {64, 8, 1, 1, 1}};
    ck_assert_int_eq(encode(&maps.q, s, in), CUDA_SUCCESS);
    void *params[] = {&args, &maps};
    ck_assert_int_eq(
        cuLaunchKernel(function, 1, 1, 1, THREADS, 1, 1, SHARED, nullptr, params, nullptr),
        CUDA_SUCCESS);
    maps = {}; /* parameters are copied at the call */
    ck_assert_int_eq(cuMemcpyDtoH(got.data(), out, got.size() * 4), CUDA_SUCCESS);
    ck_assert(got == data);
    void *one[] = {&args, nullptr};
    ck_assert_int_eq(
        cuLaunchKernel(function, 1, 1, 1, THREADS, 1, 1, SHARED, nullptr, one, nullptr),
        CUDA_ERROR_INVALID_VALUE);
    ck_assert_int_eq(cuMemFree(in), CUDA_SUCCESS);
    ck_assert_int_eq(cuMemFree(out), CUDA_SUCCESS);
    unload(module);
}
END_TEST

/* On a device of another architecture neither kernels nor maps are to be had. */
START_TEST(other_device)
{
    CUcontext context;
    CUmodule module = load(&context);
    CUfunction function;
    ck_assert_int_eq(cuModuleGetFunction(&function, module, "fault_box_load"),
                     CUDA_ERROR_NOT_FOUND);
    const Shape good = {{64, 8, 1, 1, 1}, {ROW, 1024, 1024, 1024}, {64, 8, 1, 1, 1}};
    cuda_tensor_map map;
    ck_assert_int_eq(encode(&map, good, 512), CUDA_ERROR_NOT_SUPPORTED);
    unload(module);
}
END_TEST

#define COUNT(array) (int)(sizeof(array) / sizeof((array)[0]))

/* The argument: which device. */
int main(int count, char **words)
{
    setenv("DRAFT_SIMULATOR", count > 1 ? words[1] : "sm_90", 1);
    Suite *suite = suite_create("simulator of sm_90");
    TCase *tests = tcase_create("faults");
    if (model().major == 9) {
        tcase_add_loop_test(tests, each, 0, COUNT(FAULTS));
        tcase_add_loop_test(tests, boxes_load, 0, COUNT(PLACES));
        tcase_add_loop_test(tests, boxes_store, 0, COUNT(PLACES));
        tcase_add_loop_test(tests, products, 0, COUNT(PRODUCTS));
        tcase_add_test(tests, pipeline);
        tcase_add_test(tests, maps_refused);
        tcase_add_test(tests, launch);
    } else
        tcase_add_test(tests, other_device);
    suite_add_tcase(suite, tests);
    return run_suite(suite);
}
