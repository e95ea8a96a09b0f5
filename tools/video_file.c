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
    bool y4m;
    uint32_t width, height;
    uint32_t chroma_width, chroma_height; /* 0: grey */
    size_t frame_size;
    long first, frame_header;
};

/* ---- Headers --------------------------------------------------------------------------------- */

/* The words after YUV4MPEG2: W width, H height, C layout of the colours; the rest has no say. */
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
    }
    const char *depth = strchr(colours, 'p');
    if (depth && depth[1] >= '0' && depth[1] <= '9') /* 420p10 and the like */
        return false;
    bool wide = strncmp(colours, "444", 3) == 0, half = strncmp(colours, "422", 3) == 0;
    if (strncmp(colours, "mono", 4) != 0) {
        clip->chroma_width = wide ? clip->width : (clip->width + 1) / 2;
        clip->chroma_height = wide || half ? clip->height : (clip->height + 1) / 2;
    }
    return wide || half || !clip->chroma_width || strncmp(colours, "420", 3) == 0;
}

static bool read_header(struct clip *clip)
{
    char line[HEADER];
    if (!fgets(line, sizeof line, clip->file) || !strchr(line, '\n'))
        return false;
    clip->first = (long)strlen(line);
    line[strcspn(line, "\n")] = 0;
    clip->frame_header = (long)strlen("FRAME\n");
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
    clip->frame_size = clip->y4m ? (size_t)clip->width * clip->height +
                                       2 * (size_t)clip->chroma_width * clip->chroma_height
                                 : (size_t)clip->width * clip->height * 3;
    return true;
}

static uint32_t count_frames(const struct clip *clip)
{
    if (fseek(clip->file, 0, SEEK_END) != 0)
        return 0;
    long bytes = ftell(clip->file) - clip->first;
    return bytes < 0 ? 0
                     : (uint32_t)((size_t)bytes / (clip->frame_size + (size_t)clip->frame_header));
}

static bool read_frame(const struct clip *clip, uint32_t frame, uint8_t *bytes)
{
    size_t step = clip->frame_size + (size_t)clip->frame_header;
    char mark[8] = "";
    if (fseek(clip->file, clip->first + (long)(frame * step), SEEK_SET) != 0)
        return false;
    if (clip->y4m && (fread(mark, 1, 6, clip->file) != 6 || strcmp(mark, "FRAME\n") != 0))
        return false; /* frames with parameters of their own are rare: refused */
    return fread(bytes, 1, clip->frame_size, clip->file) == clip->frame_size;
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
    float luma = 1.164f * ((float)bytes[at] - 16), u = 0, v = 0;
    if (clip->chroma_width) { /* ITU-R BT.601 */
        size_t plane = (size_t)clip->chroma_width * clip->chroma_height;
        size_t cx = (size_t)x * clip->chroma_width / clip->width;
        size_t cy = (size_t)y * clip->chroma_height / clip->height;
        const uint8_t *chroma = bytes + (size_t)clip->width * clip->height;
        u = (float)chroma[cy * clip->chroma_width + cx] - 128;
        v = (float)chroma[plane + cy * clip->chroma_width + cx] - 128;
    }
    rgb[0] = luma + 1.596f * v;
    rgb[1] = luma - 0.392f * u - 0.813f * v;
    rgb[2] = luma + 2.017f * u;
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
        ok = read_frame(&clip, f * step, bytes);
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
