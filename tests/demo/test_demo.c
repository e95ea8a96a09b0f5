/* SPDX-License-Identifier: MIT
 *
 * The generator is a function of its seed alone and makes what it says; pictures survive the trip
 * through a file. */
#include <check.h>
#include <math.h>
#include <png.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "generate.h"
#include "picture.h"

enum { FRAMES = 4, HEIGHT = 12, WIDTH = 20, SUFFIX = 16, HEADS = 6, DIM = 64 };
enum { TOKENS = FRAMES * HEIGHT * WIDTH + SUFFIX, VALUES = TOKENS * DIM };

struct layer {
    float q[VALUES], k[VALUES], v[VALUES];
};

static struct generate *make(uint64_t seed, unsigned threads)
{
    struct generate_params params = {.shape = {.frames = FRAMES,
                                               .height = HEIGHT,
                                               .width = WIDTH,
                                               .suffix = SUFFIX,
                                               .heads = HEADS,
                                               .dim = DIM},
                                     .seed = seed,
                                     .threads = threads};
    return generate_create(&params);
}

static struct layer *head(uint64_t seed, unsigned threads, uint32_t number)
{
    struct layer *layer = calloc(1, sizeof *layer);
    struct generate *generate = make(seed, threads);
    struct generate_target target = {layer->q, layer->k, layer->v, DRAFT_F32, DIM};
    generate_head(generate, number, &target);
    generate_destroy(generate);
    return layer;
}

START_TEST(seed_decides)
{
    struct layer *one = head(7, 1, (uint32_t)_i), *four = head(7, 4, (uint32_t)_i),
                 *other = head(8, 4, (uint32_t)_i);
    ck_assert_mem_eq(one, four, sizeof *one);
    ck_assert_mem_ne(one->q, other->q, sizeof one->q);
    ck_assert_mem_ne(one->q, one->k, sizeof one->q);
    free(other);
    free(four);
    free(one);
}
END_TEST

static double row_length(const float *row)
{
    double sum = 0;
    for (int d = 0; d < DIM; d++)
        sum += (double)row[d] * (double)row[d];
    return sqrt(sum / DIM);
}

START_TEST(video_keys_have_unit_length)
{
    struct layer *layer = head(3, 0, (uint32_t)_i);
    for (int t = 0; t < TOKENS - SUFFIX; t++)
        ck_assert_double_eq_tol(row_length(layer->k + (size_t)t * DIM), 1, 1e-3);
    for (int i = 0; i < VALUES; i++)
        ck_assert(isfinite(layer->q[i]) && isfinite(layer->v[i]));
    free(layer);
}
END_TEST

START_TEST(rows_are_those_of_the_head)
{
    enum { FIRST = 100, COUNT = 50 };
    float q[COUNT * DIM], k[COUNT * DIM], v[COUNT * DIM];
    struct layer *layer = head(5, 2, 1);
    struct generate *generate = make(5, 1);
    generate_rows(generate, 1, FIRST, COUNT, q, k, v);
    ck_assert_mem_eq(q, layer->q + FIRST * DIM, sizeof q);
    ck_assert_mem_eq(k, layer->k + FIRST * DIM, sizeof k);
    ck_assert_mem_eq(v, layer->v + FIRST * DIM, sizeof v);
    generate_destroy(generate);
    free(layer);
}
END_TEST

START_TEST(statistics_are_shares)
{
    struct generate *generate = make(1, 0);
    struct generate_statistics s;
    generate_measure(generate, (uint32_t)_i, 16, &s);
    double shares[] = {s.key_variance,  s.query_variance, s.missed,  s.missed_p90,
                       s.missed_oracle, s.top_eighth,     s.tokens90};
    for (size_t i = 0; i < sizeof shares / sizeof *shares; i++)
        ck_assert(shares[i] >= 0 && shares[i] <= 1);
    ck_assert_double_gt(s.key_variance, 0.05);
    ck_assert_double_le(s.missed_oracle, s.missed);
    generate_destroy(generate);
}
END_TEST

START_TEST(picture_survives_a_file)
{
    enum { W = 37, H = 21 };
    struct picture picture = picture_create(W, H);
    float values[6] = {0, 0.2f, 0.4f, 0.6f, 0.8f, 1};
    picture_field(&picture, 2, 9, 30, 10, values, 2, 3, NULL);
    picture_fill(&picture, -5, -5, 8, 8, (struct picture_color){1, 2, 3});
    ck_assert_int_eq(picture_text(&picture, 8, 1, 1, (struct picture_color){0, 0, 0}, "ab%"), 18);
    char path[] = "/tmp/draft-picture-XXXXXX";
    int descriptor = mkstemp(path);
    ck_assert_int_ge(descriptor, 0);
    close(descriptor);
    ck_assert(picture_save(&picture, path));

    png_image image = {.version = PNG_IMAGE_VERSION};
    uint8_t pixels[W * H * 3];
    ck_assert(png_image_begin_read_from_file(&image, path));
    ck_assert_uint_eq(image.width, W);
    ck_assert_uint_eq(image.height, H);
    image.format = PNG_FORMAT_RGB;
    ck_assert(png_image_finish_read(&image, NULL, pixels, 0, NULL));
    ck_assert_mem_eq(pixels, picture.pixels, sizeof pixels);
    ck_assert(pixels[0] == 1 && pixels[1] == 2 && pixels[2] == 3);
    unlink(path);
    picture_destroy(&picture);
}
END_TEST

START_TEST(picture_that_cannot_be_written)
{
    struct picture picture = picture_create(3, 3);
    ck_assert(!picture_save(&picture, "/nowhere/at/all.png"));
    picture_destroy(&picture);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("demo");
    TCase *tests = tcase_create("parts");
    tcase_set_timeout(tests, 60);
    tcase_add_loop_test(tests, seed_decides, 0, HEADS);
    tcase_add_loop_test(tests, video_keys_have_unit_length, 0, HEADS);
    tcase_add_test(tests, rows_are_those_of_the_head);
    tcase_add_loop_test(tests, statistics_are_shares, 0, HEADS);
    tcase_add_test(tests, picture_survives_a_file);
    tcase_add_test(tests, picture_that_cannot_be_written);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
