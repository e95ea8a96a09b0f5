/* SPDX-License-Identifier: MIT
 *
 * The reader of clips: layouts of colours, odd sizes, frames with words of their own. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "video_file.h"

static const char *path; /* the clip */

/* Two frames of 5 x 3, darker and lighter, whose chroma is grey, in every layout. */
static void write_clip(const char *words, const char *frame, int chroma, int alpha)
{
    FILE *file = fopen(path, "wb");
    fprintf(file, "YUV4MPEG2 W5 H3 F25:1 %s\n", words);
    for (int f = 0; f < 2; f++) {
        fprintf(file, "%s\n", frame);
        for (int i = 0; i < 5 * 3; i++)
            fputc(f ? 180 : 64, file);
        for (int i = 0; i < chroma; i++)
            fputc(128, file);
        for (int i = 0; i < alpha; i++)
            fputc(255, file);
    }
    fclose(file);
}

static const struct {
    const char *words, *frame;
    int chroma, alpha;
    int dark; /* what 64 is as RGB; 0: the layout is refused */
} layouts[] = {
    {"Ip A1:1", "FRAME", 12, 0, 56},
    {"C420mpeg2", "FRAME", 12, 0, 56},
    {"C422", "FRAME Ip", 18, 0, 56},
    {"C411", "FRAME", 12, 0, 56},
    {"C444", "FRAME", 30, 0, 56},
    {"C444alpha", "FRAME It X1", 30, 15, 56},
    {"Cmono", "FRAME", 0, 0, 56},
    {"Cmono XCOLORRANGE=FULL", "FRAME", 0, 0, 64},
    {"C420jpeg XCOLORRANGE=FULL", "FRAME", 12, 0, 64},
    {"Cmono10", "FRAME", 0, 0, 0}, /* as long as if it had 8 bits */
    {"C420p10", "FRAME", 12, 0, 0},
};

START_TEST(clip_layouts)
{
    write_clip(layouts[_i].words, layouts[_i].frame, layouts[_i].chroma, layouts[_i].alpha);
    uint8_t *pixels = video_file_read(path, (uint32_t[2]){0, 0}, (uint32_t[3]){2, 1, 2});
    ck_assert_int_eq(pixels != NULL, layouts[_i].dark != 0);
    for (int i = 0; pixels && i < 2 * 4 * 8 * 3; i++)
        ck_assert_int_eq(pixels[i], i < 4 * 8 * 3            ? layouts[_i].dark
                                    : layouts[_i].dark == 64 ? 180
                                                             : 191);
    free(pixels);
}
END_TEST

static void name_clip(void)
{
    static char name[256];
    const char *tmp = getenv("TMPDIR");
    snprintf(name, sizeof name, "%s/draft-clip-XXXXXX", tmp ? tmp : "/tmp");
    int file = mkstemp(name);
    ck_assert_int_ge(file, 0);
    close(file);
    path = name;
}

static void remove_clip(void)
{
    remove(path);
}

int main(void)
{
    Suite *suite = suite_create("clips");
    TCase *tests = tcase_create("clips");
    tcase_add_checked_fixture(tests, name_clip, remove_clip);
    tcase_add_loop_test(tests, clip_layouts, 0, sizeof layouts / sizeof *layouts);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
