/* SPDX-License-Identifier: MIT */
#include "video_file.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "program.h"
#include "video.h"

enum { HEADER = 512, MOST_SIDE = 16384, FRAME_STEP = 4 };

/* What a file holds: planes of luma and chroma, or pixels of RGB. */
struct clip {
    FILE *file;
    bool y4m, full; /* full: luma of 0 to 255, not 16 to 235 */
    uint32_t width, height;
    uint32_t chroma_width, chroma_height; /* 0: grey */
    size_t frame_size;
    off_t first; /* where frames begin */
};

/* ---- Headers --------------------------------------------------------------------------------- */

/* The layouts of .y4m with 8 bits: luma samples for each of chroma, 0: no chroma; and whether a
 * plane of alpha, which nobody looks at, comes last. */
static const struct layout {
    const char *name;
    uint8_t across, down;
    bool alpha;
} layouts[] = {
    {"420", 2, 2, false},      {"420jpeg", 2, 2, false}, {"420mpeg2", 2, 2, false},
    {"420paldv", 2, 2, false}, {"422", 2, 1, false},     {"411", 4, 1, false},
    {"444", 1, 1, false},      {"444alpha", 1, 1, true}, {"mono", 0, 0, false},
};

static const struct layout *find_layout(const char *name)
{
    for (size_t i = 0; i < sizeof layouts / sizeof *layouts; i++)
        if (strcmp(layouts[i].name, name) == 0)
            return &layouts[i];
    return NULL;
}

/* The words after YUV4MPEG2: W width, H height, C layout of the colours, X extensions; the rest has
 * no say. */
static bool parse_y4m(struct clip *clip, char *line)
{
    const char *colours = "420";
    char *save = NULL;
    for (char *word = strtok_r(line, " ", &save); word; word = strtok_r(NULL, " ", &save)) {
        if (*word == 'W')
            clip->width = (uint32_t)strtoul(word + 1, NULL, 10);
        if (*word == 'H')
            clip->height = (uint32_t)strtoul(word + 1, NULL, 10);
        if (*word == 'C')
            colours = word + 1;
        clip->full = clip->full || strcmp(word, "XCOLORRANGE=FULL") == 0;
    }
    const struct layout *layout = find_layout(colours);
    if (!layout || clip->width > MOST_SIDE || clip->height > MOST_SIDE)
        return false;
    if (layout->across) {
        clip->chroma_width = (clip->width + layout->across - 1) / layout->across;
        clip->chroma_height = (clip->height + layout->down - 1) / layout->down;
    }
    clip->frame_size = (size_t)clip->width * clip->height * (layout->alpha ? 2 : 1) +
                       2 * (size_t)clip->chroma_width * clip->chroma_height;
    return true;
}

static bool read_header(struct clip *clip)
{
    char line[HEADER];
    if (!fgets(line, sizeof line, clip->file) || !strchr(line, '\n'))
        return false;
    clip->first = ftello(clip->file);
    line[strcspn(line, "\n")] = 0;
    return parse_y4m(clip, line);
}

static bool open_clip(struct clip *clip, const char *path, const uint32_t size[2])
{
    static const char magic[] = "YUV4MPEG2 ";
    char start[sizeof magic] = "";
    clip->file = fopen(path, "rb");
    if (!clip->file) {
        program_error("%s: %s", path, strerror(errno));
        return false;
    }
    clip->y4m = fread(start, 1, sizeof magic - 1, clip->file) == sizeof magic - 1 &&
                strcmp(start, magic) == 0;
    rewind(clip->file);
    clip->width = size[0];
    clip->height = size[1];
    bool ok = !clip->y4m || read_header(clip);
    if (!ok || !clip->width || !clip->height || clip->width > MOST_SIDE ||
        clip->height > MOST_SIDE) {
        program_error("%s: neither a .y4m file of 8 bits nor, with --video-size, raw RGB", path);
        return false;
    }
    if (!clip->y4m)
        clip->frame_size = (size_t)clip->width * clip->height * 3;
    return true;
}

/* At the next frame's pixels. The line before them may say more than FRAME. */
static bool begin_frame(const struct clip *clip)
{
    static const char mark[] = "FRAME";
    char line[HEADER];
    return !clip->y4m || (fgets(line, sizeof line, clip->file) &&
                          strncmp(line, mark, sizeof mark - 1) == 0 && strchr(line, '\n'));
}

/* Skip `count` frames. */
static bool skip_frames(const struct clip *clip, uint32_t count)
{
    for (uint32_t f = 0; f < count; f++)
        if (!begin_frame(clip) || fseeko(clip->file, (off_t)clip->frame_size, SEEK_CUR) != 0)
            return false;
    return true;
}

/* Whole ones; the file is at the first again. */
static uint32_t count_frames(const struct clip *clip)
{
    uint32_t count = 0;
    if (fseeko(clip->file, 0, SEEK_END) != 0)
        return 0;
    off_t size = ftello(clip->file);
    bool ok = fseeko(clip->file, clip->first, SEEK_SET) == 0;
    while (ok && ftello(clip->file) < size && skip_frames(clip, 1) && ftello(clip->file) <= size)
        count++;
    return fseeko(clip->file, clip->first, SEEK_SET) == 0 ? count : 0;
}

static bool read_frame(const struct clip *clip, uint8_t *bytes)
{
    return begin_frame(clip) && fread(bytes, 1, clip->frame_size, clip->file) == clip->frame_size;
}

/* ---- Pixels ---------------------------------------------------------------------------------- */

/* RGB, 0 to 255, of one pixel of the file. */
static void fetch(const struct clip *clip, const uint8_t *bytes, uint32_t x, uint32_t y, float *rgb)
{
    size_t at = (size_t)y * clip->width + x;
    if (!clip->y4m) {
        for (int c = 0; c < 3; c++)
            rgb[c] = bytes[3 * at + (size_t)c];
        return;
    }
    float luma = (float)bytes[at], u = 0, v = 0;
    if (clip->chroma_width) {
        size_t plane = (size_t)clip->chroma_width * clip->chroma_height;
        size_t cx = (size_t)x * clip->chroma_width / clip->width;
        size_t cy = (size_t)y * clip->chroma_height / clip->height;
        const uint8_t *chroma = bytes + (size_t)clip->width * clip->height;
        u = (float)chroma[cy * clip->chroma_width + cx] - 128;
        v = (float)chroma[plane + cy * clip->chroma_width + cx] - 128;
    }
    if (!clip->full) {
        luma = (luma - 16) * (255.0f / 219);
        u *= 255.0f / 224;
        v *= 255.0f / 224;
    }
    rgb[0] = luma + 1.402f * v; /* ITU-R BT.601 */
    rgb[1] = luma - 0.344f * u - 0.714f * v;
    rgb[2] = luma + 1.772f * u;
}

/* The pixels of the file that one of ours stands for, at least one. */
static void range(uint32_t i, uint32_t ours, uint32_t theirs, uint32_t *first, uint32_t *end)
{
    *first = (uint32_t)((uint64_t)i * theirs / ours);
    *end = (uint32_t)(((uint64_t)i + 1) * theirs / ours);
    if (*end <= *first)
        *end = *first + 1;
}

static void reduce(const struct clip *clip, const uint8_t *bytes, uint32_t width, uint32_t height,
                   uint8_t *out)
{
    for (uint32_t y = 0; y < height; y++)
        for (uint32_t x = 0; x < width; x++, out += 3) {
            uint32_t x0, x1, y0, y1;
            float sum[3] = {0}, rgb[3];
            range(x, width, clip->width, &x0, &x1);
            range(y, height, clip->height, &y0, &y1);
            for (uint32_t j = y0; j < y1; j++)
                for (uint32_t i = x0; i < x1; i++) {
                    fetch(clip, bytes, i, j, rgb);
                    for (int c = 0; c < 3; c++)
                        sum[c] += rgb[c];
                }
            for (int c = 0; c < 3; c++) {
                float mean = sum[c] / (float)((x1 - x0) * (y1 - y0));
                out[c] = (uint8_t)(mean < 0 ? 0 : mean > 255 ? 255 : mean + 0.5f);
            }
        }
}

uint8_t *video_file_read(const char *path, const uint32_t size[2], const uint32_t grid[3])
{
    struct clip clip = {0};
    uint32_t width = grid[2] * VIDEO_PATCH, height = grid[1] * VIDEO_PATCH;
    if (!open_clip(&clip, path, size)) {
        if (clip.file)
            fclose(clip.file);
        return NULL;
    }
    uint32_t frames = count_frames(&clip), step = frames / grid[0];
    step = step > FRAME_STEP ? FRAME_STEP : step;
    bool ok = step > 0;
    if (!ok)
        program_error("%s has %u whole frames, the grid has %u", path, frames, grid[0]);
    uint8_t *bytes = program_calloc(clip.frame_size, 1);
    uint8_t *out = program_calloc((size_t)grid[0] * height * width, 3);
    for (uint32_t f = 0; f < grid[0] && ok; f++) {
        ok = read_frame(&clip, bytes) && (f + 1 == grid[0] || skip_frames(&clip, step - 1));
        if (ok)
            reduce(&clip, bytes, width, height, out + (size_t)f * height * width * 3);
        else
            program_error("%s: frame %u cannot be read", path, f * step);
    }
    free(bytes);
    fclose(clip.file);
    if (ok)
        return out;
    free(out);
    return NULL;
}
