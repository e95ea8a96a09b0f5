/* SPDX-License-Identifier: MIT */
#include "video.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "parallel.h"
#include "program.h"
#include "random.h"

enum {
    TEXTURE = 256, /* pixels along the side of the texture, which repeats; a power of 2 */
    THINGS = 7,
    PATCH = VIDEO_PATCH,
    COEFFICIENTS = 3 * PATCH * PATCH
};

/* Something that moves: an ellipse of one colour with a texture of its own. Lengths are in parts of
 * the shorter side of the frame, times in frames. */
struct thing {
    float x, y, speed_x, speed_y, radius_x, radius_y, colour[3], texture;
};

struct scene {
    float texture[TEXTURE][TEXTURE][3];
    struct thing thing[THINGS];
    float pan_x, pan_y, side; /* side: pixels of the shorter side */
};

struct maker {
    struct video *video;
    const uint8_t *given; /* NULL, or the pixels of another video */
    struct scene *scene;
    float *raw;                                    /* [tokens, COEFFICIENTS]     */
    double (*sums)[2][COEFFICIENTS];               /* [frames]: of raw, of raw^2 */
    double (*moments)[VIDEO_SMOOTH][VIDEO_SMOOTH]; /* [frames]        */
    uint32_t feature[VIDEO_FEATURES];              /* which coefficient it is    */
    float mean[COEFFICIENTS], deviation[COEFFICIENTS];
};

/* ---- The scene ---------------------------------------------------------------------------- */

static float lerp(float a, float b, float t)
{
    return a + (b - a) * t;
}

static float smooth_step(float t)
{
    return t <= 0 ? 0 : t >= 1 ? 1 : t * t * (3 - 2 * t);
}

/* Noise on a lattice of n x n random values that repeats, at x, y in lattice units. */
static float lattice(uint64_t stream, uint32_t n, float x, float y)
{
    uint32_t ix = (uint32_t)x, iy = (uint32_t)y;
    float fx = smooth_step(x - (float)ix), fy = smooth_step(y - (float)iy);
    uint32_t x0 = ix % n, x1 = (ix + 1) % n, y0 = iy % n * n, y1 = (iy + 1) % n * n;
    float above = lerp(random_uniform(stream, y0 + x0), random_uniform(stream, y0 + x1), fx);
    float below = lerp(random_uniform(stream, y1 + x0), random_uniform(stream, y1 + x1), fx);
    return lerp(above, below, fy) - 0.5f;
}

/* Amplitude falls as 1 / frequency, octave by octave, as in natural pictures. */
static void make_texture(void *argument, uint64_t row)
{
    struct scene *scene = ((struct maker *)argument)->scene;
    for (uint32_t x = 0; x < TEXTURE; x++) {
        float sum[3] = {0}, amplitude = 1;
        for (uint32_t n = 4; n <= TEXTURE / 2; n *= 2, amplitude *= 0.55f)
            for (uint32_t c = 0; c < 3; c++)
                sum[c] += amplitude * lattice(random_stream(n, c), n, (float)(x * n) / TEXTURE,
                                              (float)((uint32_t)row * n) / TEXTURE);
        for (uint32_t c = 0; c < 3; c++) /* mostly grey: colours of nature go together */
            scene->texture[row][x][c] = 0.75f * sum[0] + 0.35f * sum[c];
    }
}

static void make_thing(struct thing *thing, uint64_t stream, float wide, float high)
{
    static const float palette[THINGS][3] = {
        {.93f, .55f, .18f}, {.20f, .42f, .78f}, {.85f, .22f, .25f}, {.96f, .86f, .42f},
        {.35f, .68f, .40f}, {.90f, .90f, .94f}, {.48f, .25f, .55f}};
    uint32_t which = (uint32_t)(random_bits(stream, 0) % THINGS);
    *thing = (struct thing){.x = wide * random_uniform(stream, 1),
                            .y = high * (0.15f + 0.7f * random_uniform(stream, 2)),
                            .speed_x = 0.030f * random_normal(stream, 3),
                            .speed_y = 0.012f * random_normal(stream, 4),
                            .radius_x = 0.07f + 0.16f * random_uniform(stream, 5),
                            .radius_y = 0.07f + 0.13f * random_uniform(stream, 6),
                            .texture = 0.25f + 0.5f * random_uniform(stream, 7)};
    memcpy(thing->colour, palette[which], sizeof thing->colour);
}

/* The last thing is the nearest: the subject. It starts near the middle and does not leave soon. */
static void make_scene(struct scene *scene, const struct video *video, uint64_t seed)
{
    uint64_t stream = random_stream(seed, 1);
    uint32_t side = video->height < video->width ? video->height : video->width;
    scene->side = (float)(side * PATCH);
    scene->pan_x = 0.012f * random_normal(stream, 0) + 0.015f;
    scene->pan_y = 0.003f * random_normal(stream, 1);
    float wide = (float)video->width / (float)side, high = (float)video->height / (float)side;
    for (uint32_t i = 0; i < THINGS; i++)
        make_thing(&scene->thing[i], random_stream(stream, i), wide, high);
    struct thing *subject = &scene->thing[THINGS - 1];
    subject->x = wide * 0.42f;
    subject->y = high * 0.55f;
    subject->radius_x = 0.20f;
    subject->radius_y = 0.17f;
    subject->speed_x = 0.2f * subject->speed_x + 0.25f * wide / (float)(video->frames + 4);
    subject->speed_y *= 0.3f;
    subject->texture = 0.5f;
    memcpy(subject->colour, (float[3]){.93f, .55f, .18f}, sizeof subject->colour);
}

/* The texture at x, y in pixels, added to colour with a weight. */
static void add_texture(const struct scene *scene, float x, float y, float weight, float *colour)
{
    float fx = floorf(x), fy = floorf(y);
    uint32_t x0 = (uint32_t)(int32_t)fx % TEXTURE, x1 = (x0 + 1) % TEXTURE;
    uint32_t y0 = (uint32_t)(int32_t)fy % TEXTURE, y1 = (y0 + 1) % TEXTURE;
    fx = x - fx;
    fy = y - fy;
    for (uint32_t c = 0; c < 3; c++)
        colour[c] +=
            weight * lerp(lerp(scene->texture[y0][x0][c], scene->texture[y0][x1][c], fx),
                          lerp(scene->texture[y1][x0][c], scene->texture[y1][x1][c], fx), fy);
}

/* Sky above, land below, both fixed to the world that the camera pans over. */
static void background(const struct scene *scene, float x, float y, float high, float *colour)
{
    static const float sky[3] = {.42f, .62f, .85f}, haze[3] = {.88f, .80f, .70f},
                       land[3] = {.22f, .30f, .18f};
    float hill[3] = {0};
    add_texture(scene, x * 0.25f, 17, 0.20f, hill);
    float horizon = 0.52f * high + hill[0] * scene->side;
    float below = smooth_step((y - horizon) / (0.03f * scene->side));
    float t = y / high;
    for (uint32_t c = 0; c < 3; c++)
        colour[c] =
            lerp(lerp(sky[c], haze[c], smooth_step(t * 1.8f)), land[c] * (1.4f - 0.5f * t), below);
    add_texture(scene, x, y, lerp(0.10f, 0.42f, below), colour);
}

/* One thing over what is there. x, y in pixels of the world. */
static void draw_thing(const struct scene *scene, const struct thing *thing, uint32_t index,
                       float frame, float x, float y, float *colour)
{
    float dx = x - (thing->x + thing->speed_x * frame) * scene->side;
    float dy = y - (thing->y + thing->speed_y * frame) * scene->side;
    float u = dx / (thing->radius_x * scene->side), v = dy / (thing->radius_y * scene->side);
    float r = u * u + v * v;
    if (r >= 1)
        return;
    float cover = smooth_step((1 - r) * 5), light = 1.05f - 0.35f * (u + v + r);
    float own[3];
    for (uint32_t c = 0; c < 3; c++)
        own[c] = thing->colour[c] * light;
    add_texture(scene, dx + (float)(index * 37), dy + (float)(index * 91), thing->texture, own);
    for (uint32_t c = 0; c < 3; c++)
        colour[c] = lerp(colour[c], own[c], cover);
}

static void shade(const struct maker *maker, uint32_t frame, uint32_t x, uint32_t y, float *colour)
{
    const struct scene *scene = maker->scene;
    float t = (float)frame, high = (float)(maker->video->height * PATCH);
    float world_x = (float)x + scene->pan_x * t * scene->side;
    float world_y = (float)y + scene->pan_y * t * scene->side;
    background(scene, world_x, world_y, high, colour);
    for (uint32_t i = 0; i < THINGS; i++)
        draw_thing(scene, &scene->thing[i], i, t, world_x, world_y, colour);
    for (uint32_t c = 0; c < 3; c++)
        colour[c] = colour[c] < 0 ? 0 : colour[c] > 1 ? 1 : colour[c];
}

/* ---- Features ----------------------------------------------------------------------------- */

/* cos((2 x + 1) u pi / 8) with weights that keep lengths: the cosine transform of 4 values. */
static const float cosine[PATCH][PATCH] = {{.5f, .5f, .5f, .5f},
                                           {.65328148f, .27059805f, -.27059805f, -.65328148f},
                                           {.5f, -.5f, -.5f, .5f},
                                           {.27059805f, -.65328148f, .65328148f, -.27059805f}};

/* Brightness and two differences of colour instead of RGB: they vary independently. */
static void opponent(const float *rgb, float *out)
{
    out[0] = (rgb[0] + rgb[1] + rgb[2]) * 0.57735f;
    out[1] = (rgb[0] - rgb[2]) * 0.70711f;
    out[2] = (rgb[0] - 2 * rgb[1] + rgb[2]) * 0.40825f;
}

static void transform_patch(float patch[PATCH][PATCH][3], float *out)
{
    float half[PATCH][PATCH][3] = {0};
    for (uint32_t y = 0; y < PATCH; y++)
        for (uint32_t u = 0; u < PATCH; u++)
            for (uint32_t x = 0; x < PATCH; x++)
                for (uint32_t c = 0; c < 3; c++)
                    half[y][u][c] += cosine[u][x] * patch[y][x][c];
    memset(out, 0, COEFFICIENTS * sizeof *out);
    for (uint32_t v = 0; v < PATCH; v++)
        for (uint32_t y = 0; y < PATCH; y++)
            for (uint32_t u = 0; u < PATCH; u++)
                for (uint32_t c = 0; c < 3; c++)
                    out[(v * PATCH + u) * 3 + c] += cosine[v][y] * half[y][u][c];
}

static void render_token(const struct maker *maker, uint32_t frame, uint32_t row, uint32_t column,
                         float *out)
{
    const struct video *video = maker->video;
    float patch[PATCH][PATCH][3];
    for (uint32_t y = 0; y < PATCH; y++) {
        uint64_t line = ((uint64_t)frame * video->height + row) * PATCH + y;
        uint8_t *pixel = video->pixels + (line * video->width + column) * PATCH * 3;
        for (uint32_t x = 0; x < PATCH; x++, pixel += 3) {
            float rgb[3];
            if (maker->given)
                for (uint32_t c = 0; c < 3; c++)
                    rgb[c] = (float)maker->given[(size_t)(pixel - video->pixels) + c] / 255;
            else
                shade(maker, frame, column * PATCH + x, row * PATCH + y, rgb);
            opponent(rgb, patch[y][x]);
            for (uint32_t c = 0; c < 3; c++)
                pixel[c] = (uint8_t)(rgb[c] * 255 + 0.5f);
        }
    }
    transform_patch(patch, out);
}

static void render_frame(void *argument, uint64_t frame)
{
    struct maker *maker = argument;
    const struct video *video = maker->video;
    float *raw = maker->raw + frame * video->height * video->width * COEFFICIENTS;
    for (uint32_t row = 0; row < video->height; row++)
        for (uint32_t column = 0; column < video->width; column++, raw += COEFFICIENTS) {
            render_token(maker, (uint32_t)frame, row, column, raw);
            for (uint32_t i = 0; i < COEFFICIENTS; i++) {
                maker->sums[frame][0][i] += raw[i];
                maker->sums[frame][1][i] += (double)raw[i] * raw[i];
            }
        }
}

/* Mean and deviation of each coefficient, and the order of the largest. */
static void choose_features(struct maker *maker)
{
    struct video *video = maker->video;
    double n = (double)video->frames * video->height * video->width;
    bool taken[COEFFICIENTS] = {false};
    for (uint32_t i = 0; i < COEFFICIENTS; i++) {
        double sum = 0, squares = 0;
        for (uint32_t f = 0; f < video->frames; f++) {
            sum += maker->sums[f][0][i];
            squares += maker->sums[f][1][i];
        }
        double variance = squares / n - (sum / n) * (sum / n);
        maker->mean[i] = (float)(sum / n);
        maker->deviation[i] = (float)sqrt(variance > 1e-10 ? variance : 1e-10);
    }
    for (uint32_t k = 0; k < VIDEO_FEATURES; k++) {
        uint32_t best = COEFFICIENTS;
        for (uint32_t i = 0; i < COEFFICIENTS; i++)
            if (!taken[i] && (best == COEFFICIENTS || maker->deviation[i] > maker->deviation[best]))
                best = i;
        taken[best] = true;
        maker->feature[k] = best;
        video->spectrum[k] = maker->deviation[best] / maker->deviation[maker->feature[0]];
    }
}

/* The mean over 5 neighbours at distance `step`, the edge repeated; n values of SMOOTH channels. */
static void box_line(const float *from, float *to, uint32_t n, size_t step, size_t from_step)
{
    for (int64_t i = 0; i < n; i++)
        for (uint32_t c = 0; c < VIDEO_SMOOTH; c++) {
            float sum = 0;
            for (int64_t j = i - 2; j <= i + 2; j++) {
                int64_t at = j < 0 ? 0 : j >= n ? n - 1 : j;
                sum += from[(size_t)at * from_step + c];
            }
            to[(size_t)i * step + c] = sum * 0.2f;
        }
}

static void filter_frame(void *argument, uint64_t frame)
{
    struct maker *maker = argument;
    struct video *video = maker->video;
    size_t tokens = (size_t)video->height * video->width, first = frame * tokens;
    float *features = video->features + first * VIDEO_FEATURES;
    float *smooth = video->smooth + first * VIDEO_SMOOTH;
    for (size_t t = 0; t < tokens; t++)
        for (uint32_t k = 0; k < VIDEO_FEATURES; k++) {
            uint32_t i = maker->feature[k];
            features[t * VIDEO_FEATURES + k] =
                (maker->raw[(first + t) * COEFFICIENTS + i] - maker->mean[i]) / maker->deviation[i];
        }
    float *rows = program_calloc(tokens * VIDEO_SMOOTH, sizeof *rows);
    for (uint32_t y = 0; y < video->height; y++)
        box_line(features + (size_t)y * video->width * VIDEO_FEATURES,
                 rows + (size_t)y * video->width * VIDEO_SMOOTH, video->width, VIDEO_SMOOTH,
                 VIDEO_FEATURES);
    size_t line = (size_t)video->width * VIDEO_SMOOTH;
    for (uint32_t x = 0; x < video->width; x++)
        box_line(rows + (size_t)x * VIDEO_SMOOTH, smooth + (size_t)x * VIDEO_SMOOTH, video->height,
                 line, line);
    free(rows);
    for (size_t t = 0; t < tokens; t++, smooth += VIDEO_SMOOTH)
        for (uint32_t a = 0; a < VIDEO_SMOOTH; a++)
            for (uint32_t b = 0; b < VIDEO_SMOOTH; b++)
                maker->moments[frame][a][b] += (double)(smooth[a] * smooth[b]);
}

static void sum_moments(struct maker *maker)
{
    struct video *video = maker->video;
    double n = (double)video->frames * video->height * video->width;
    for (uint32_t f = 0; f < video->frames; f++)
        for (uint32_t a = 0; a < VIDEO_SMOOTH; a++)
            for (uint32_t b = 0; b < VIDEO_SMOOTH; b++)
                video->moment[a][b] += maker->moments[f][a][b] / n;
}

struct video *video_create(uint32_t frames, uint32_t height, uint32_t width, uint64_t seed,
                           const uint8_t *pixels, unsigned threads)
{
    size_t tokens = (size_t)frames * height * width;
    struct video *video = program_calloc(1, sizeof *video);
    *video = (struct video){.frames = frames, .height = height, .width = width};
    video->pixels = program_calloc(tokens, PATCH * PATCH * 3);
    video->features = program_calloc(tokens, VIDEO_FEATURES * sizeof *video->features);
    video->smooth = program_calloc(tokens, VIDEO_SMOOTH * sizeof *video->smooth);
    struct maker maker = {.video = video, .given = pixels};
    maker.scene = program_calloc(1, sizeof *maker.scene);
    maker.raw = program_calloc(tokens, COEFFICIENTS * sizeof *maker.raw);
    maker.sums = program_calloc(frames, sizeof *maker.sums);
    maker.moments = program_calloc(frames, sizeof *maker.moments);
    make_scene(maker.scene, video, seed);
    parallel_for(threads, TEXTURE, make_texture, &maker);
    parallel_for(threads, frames, render_frame, &maker);
    choose_features(&maker);
    parallel_for(threads, frames, filter_frame, &maker);
    sum_moments(&maker);
    free(maker.scene);
    free(maker.raw);
    free(maker.sums);
    free(maker.moments);
    return video;
}

void video_destroy(struct video *video)
{
    if (!video)
        return;
    free(video->pixels);
    free(video->features);
    free(video->smooth);
    free(video);
}

void video_subject(const struct video *video, uint64_t seed, uint32_t frame, uint32_t *row,
                   uint32_t *column)
{
    struct scene *scene = program_calloc(1, sizeof *scene);
    make_scene(scene, video, seed);
    const struct thing *thing = &scene->thing[THINGS - 1];
    float t = (float)frame, side = scene->side / PATCH;
    float x = (thing->x + (thing->speed_x - scene->pan_x) * t) * side;
    float y = (thing->y + (thing->speed_y - scene->pan_y) * t) * side;
    *column = x < 0 ? 0 : x >= (float)video->width ? video->width - 1 : (uint32_t)x;
    *row = y < 0 ? 0 : y >= (float)video->height ? video->height - 1 : (uint32_t)y;
    free(scene);
}
