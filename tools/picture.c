/* SPDX-License-Identifier: MIT */
#include "picture.h"

#include <ctype.h>
#include <math.h>
#include <png.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include "program.h"

static const struct picture_color background = {250, 250, 248};

struct picture picture_create(uint32_t width, uint32_t height)
{
    struct picture p = {width, height, program_calloc((size_t)width * height, 3)};
    picture_fill(&p, 0, 0, (int)width, (int)height, background);
    return p;
}

void picture_destroy(struct picture *picture)
{
    free(picture->pixels);
    picture->pixels = NULL;
}

static void set_pixel(struct picture *p, int x, int y, struct picture_color c)
{
    if (x < 0 || y < 0 || (uint32_t)x >= p->width || (uint32_t)y >= p->height)
        return;
    uint8_t *pixel = p->pixels + ((size_t)y * p->width + (size_t)x) * 3;
    pixel[0] = c.r, pixel[1] = c.g, pixel[2] = c.b;
}

void picture_fill(struct picture *p, int x, int y, int width, int height, struct picture_color c)
{
    for (int j = y; j < y + height; j++)
        for (int i = x; i < x + width; i++)
            set_pixel(p, i, j, c);
}

void picture_blend(struct picture *p, int x, int y, struct picture_color c, double share)
{
    if (x < 0 || y < 0 || (uint32_t)x >= p->width || (uint32_t)y >= p->height || !(share > 0))
        return;
    uint8_t *pixel = p->pixels + ((size_t)y * p->width + (size_t)x) * 3;
    const uint8_t color[3] = {c.r, c.g, c.b};
    for (int i = 0; i < 3; i++)
        pixel[i] = (uint8_t)(pixel[i] + fmin(share, 1) * (color[i] - pixel[i]) + 0.5);
}

void picture_line(struct picture *p, double x0, double y0, double x1, double y1, double width,
                  struct picture_color color)
{
    double dx = x1 - x0, dy = y1 - y0, length2 = dx * dx + dy * dy, reach = 0.5 * width + 1;
    for (int y = (int)floor(fmin(y0, y1) - reach); y <= fmax(y0, y1) + reach; y++)
        for (int x = (int)floor(fmin(x0, x1) - reach); x <= fmax(x0, x1) + reach; x++) {
            double t = length2 > 0 ? ((x - x0) * dx + (y - y0) * dy) / length2 : 0;
            t = fmin(fmax(t, 0), 1);
            double distance = hypot(x - x0 - t * dx, y - y0 - t * dy);
            picture_blend(p, x, y, color, 0.5 * width + 0.5 - distance);
        }
}

void picture_frame(struct picture *p, int x, int y, int width, int height, struct picture_color c)
{
    picture_fill(p, x - 1, y - 1, width + 2, 1, c);
    picture_fill(p, x - 1, y + height, width + 2, 1, c);
    picture_fill(p, x - 1, y, 1, height, c);
    picture_fill(p, x + width, y, 1, height, c);
}

/* ---- Text ---------------------------------------------------------------------------------- */

enum { GLYPH_WIDTH = 5, GLYPH_HEIGHT = 7 };

/* Rows from the top; the highest of 5 bits is the left pixel. */
static const struct glyph {
    char letter;
    uint8_t rows[GLYPH_HEIGHT];
} glyphs[] = {
    {'A', {0x0e, 0x11, 0x11, 0x1f, 0x11, 0x11, 0x11}},
    {'B', {0x1e, 0x11, 0x11, 0x1e, 0x11, 0x11, 0x1e}},
    {'C', {0x0e, 0x11, 0x10, 0x10, 0x10, 0x11, 0x0e}},
    {'D', {0x1e, 0x11, 0x11, 0x11, 0x11, 0x11, 0x1e}},
    {'E', {0x1f, 0x10, 0x10, 0x1e, 0x10, 0x10, 0x1f}},
    {'F', {0x1f, 0x10, 0x10, 0x1e, 0x10, 0x10, 0x10}},
    {'G', {0x0e, 0x11, 0x10, 0x17, 0x11, 0x11, 0x0f}},
    {'H', {0x11, 0x11, 0x11, 0x1f, 0x11, 0x11, 0x11}},
    {'I', {0x0e, 0x04, 0x04, 0x04, 0x04, 0x04, 0x0e}},
    {'J', {0x07, 0x02, 0x02, 0x02, 0x02, 0x12, 0x0c}},
    {'K', {0x11, 0x12, 0x14, 0x18, 0x14, 0x12, 0x11}},
    {'L', {0x10, 0x10, 0x10, 0x10, 0x10, 0x10, 0x1f}},
    {'M', {0x11, 0x1b, 0x15, 0x15, 0x11, 0x11, 0x11}},
    {'N', {0x11, 0x19, 0x15, 0x15, 0x13, 0x11, 0x11}},
    {'O', {0x0e, 0x11, 0x11, 0x11, 0x11, 0x11, 0x0e}},
    {'P', {0x1e, 0x11, 0x11, 0x1e, 0x10, 0x10, 0x10}},
    {'Q', {0x0e, 0x11, 0x11, 0x11, 0x15, 0x12, 0x0d}},
    {'R', {0x1e, 0x11, 0x11, 0x1e, 0x14, 0x12, 0x11}},
    {'S', {0x0f, 0x10, 0x10, 0x0e, 0x01, 0x01, 0x1e}},
    {'T', {0x1f, 0x04, 0x04, 0x04, 0x04, 0x04, 0x04}},
    {'U', {0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x0e}},
    {'V', {0x11, 0x11, 0x11, 0x11, 0x11, 0x0a, 0x04}},
    {'W', {0x11, 0x11, 0x11, 0x15, 0x15, 0x1b, 0x11}},
    {'X', {0x11, 0x11, 0x0a, 0x04, 0x0a, 0x11, 0x11}},
    {'Y', {0x11, 0x11, 0x0a, 0x04, 0x04, 0x04, 0x04}},
    {'Z', {0x1f, 0x01, 0x02, 0x04, 0x08, 0x10, 0x1f}},
    {'0', {0x0e, 0x13, 0x13, 0x15, 0x19, 0x19, 0x0e}},
    {'1', {0x04, 0x0c, 0x04, 0x04, 0x04, 0x04, 0x0e}},
    {'2', {0x0e, 0x11, 0x01, 0x06, 0x08, 0x10, 0x1f}},
    {'3', {0x1e, 0x01, 0x01, 0x0e, 0x01, 0x01, 0x1e}},
    {'4', {0x02, 0x06, 0x0a, 0x12, 0x1f, 0x02, 0x02}},
    {'5', {0x1f, 0x10, 0x1e, 0x01, 0x01, 0x11, 0x0e}},
    {'6', {0x06, 0x08, 0x10, 0x1e, 0x11, 0x11, 0x0e}},
    {'7', {0x1f, 0x01, 0x02, 0x04, 0x04, 0x08, 0x08}},
    {'8', {0x0e, 0x11, 0x11, 0x0e, 0x11, 0x11, 0x0e}},
    {'9', {0x0e, 0x11, 0x11, 0x0f, 0x01, 0x02, 0x0c}},
    {'.', {0x00, 0x00, 0x00, 0x00, 0x00, 0x0c, 0x0c}},
    {',', {0x00, 0x00, 0x00, 0x00, 0x0c, 0x04, 0x08}},
    {':', {0x00, 0x0c, 0x0c, 0x00, 0x0c, 0x0c, 0x00}},
    {'-', {0x00, 0x00, 0x00, 0x0e, 0x00, 0x00, 0x00}},
    {'+', {0x00, 0x04, 0x04, 0x1f, 0x04, 0x04, 0x00}},
    {'=', {0x00, 0x00, 0x1f, 0x00, 0x1f, 0x00, 0x00}},
    {'/', {0x01, 0x01, 0x02, 0x04, 0x08, 0x10, 0x10}},
    {'%', {0x19, 0x19, 0x02, 0x04, 0x08, 0x13, 0x13}},
    {'(', {0x02, 0x04, 0x08, 0x08, 0x08, 0x04, 0x02}},
    {')', {0x08, 0x04, 0x02, 0x02, 0x02, 0x04, 0x08}},
    {'<', {0x01, 0x02, 0x04, 0x08, 0x04, 0x02, 0x01}},
    {'>', {0x10, 0x08, 0x04, 0x02, 0x04, 0x08, 0x10}},
    {'\'', {0x04, 0x04, 0x08, 0x00, 0x00, 0x00, 0x00}},
};

static const struct glyph *find_glyph(char letter)
{
    for (size_t i = 0; i < sizeof glyphs / sizeof *glyphs; i++)
        if (glyphs[i].letter == toupper((unsigned char)letter))
            return &glyphs[i];
    return NULL;
}

int picture_text(struct picture *p, int x, int y, int scale, struct picture_color color,
                 const char *text)
{
    int start = x;
    for (; *text; text++, x += (GLYPH_WIDTH + 1) * scale) {
        const struct glyph *glyph = find_glyph(*text);
        for (int r = 0; glyph && r < GLYPH_HEIGHT; r++)
            for (int c = 0; c < GLYPH_WIDTH; c++)
                if (glyph->rows[r] >> (GLYPH_WIDTH - 1 - c) & 1)
                    picture_fill(p, x + c * scale, y + r * scale, scale, scale, color);
    }
    return x - start;
}

void picture_text_up(struct picture *p, int x, int y, int scale, struct picture_color color,
                     const char *text)
{
    for (; *text; text++, y -= (GLYPH_WIDTH + 1) * scale) {
        const struct glyph *glyph = find_glyph(*text);
        for (int r = 0; glyph && r < GLYPH_HEIGHT; r++)
            for (int c = 0; c < GLYPH_WIDTH; c++)
                if (glyph->rows[r] >> (GLYPH_WIDTH - 1 - c) & 1)
                    picture_fill(p, x + r * scale, y - (c + 1) * scale, scale, scale, color);
    }
}

int picture_text_width(int scale, const char *text)
{
    return (GLYPH_WIDTH + 1) * scale * (int)strlen(text);
}

/* ---- Fields -------------------------------------------------------------------------------- */

struct picture_color picture_heat(double value)
{
    /* Evenly rising lightness, from near black over violet and orange to light yellow. */
    static const double stops[][3] = {{8, 6, 24},     {54, 18, 96},   {128, 36, 116}, {200, 60, 84},
                                      {244, 120, 56}, {252, 188, 84}, {252, 250, 200}};
    enum { LAST = sizeof stops / sizeof *stops - 1 };
    double at = value > 0 ? fmin(value, 1) * LAST : 0;
    int i = at < LAST ? (int)at : LAST - 1;
    double part = at - i;
    uint8_t rgb[3];
    for (int c = 0; c < 3; c++)
        rgb[c] = (uint8_t)(stops[i][c] + part * (stops[i + 1][c] - stops[i][c]) + 0.5);
    return (struct picture_color){rgb[0], rgb[1], rgb[2]};
}

/* Largest value that falls on one pixel of n, of `pixels` that stand for `cells`. */
static float largest(const float *values, uint32_t columns, uint32_t r0, uint32_t r1, uint32_t c0,
                     uint32_t c1)
{
    float most = 0;
    for (uint32_t r = r0; r < r1; r++)
        for (uint32_t c = c0; c < c1; c++)
            most = fmaxf(most, values[(size_t)r * columns + c]);
    return most;
}

static void cells_of(int pixel, int pixels, uint32_t cells, uint32_t *first, uint32_t *end)
{
    *first = (uint32_t)((uint64_t)pixel * cells / (uint64_t)pixels);
    *end = (uint32_t)(((uint64_t)pixel + 1) * cells / (uint64_t)pixels);
    if (*end <= *first)
        *end = *first + 1;
}

void picture_field(struct picture *p, int x, int y, int width, int height, const float *values,
                   uint32_t rows, uint32_t columns, const struct picture_color *tint)
{
    for (int j = 0; j < height; j++)
        for (int i = 0; i < width; i++) {
            uint32_t r0, r1, c0, c1;
            cells_of(j, height, rows, &r0, &r1);
            cells_of(i, width, columns, &c0, &c1);
            float value = largest(values, columns, r0, r1, c0, c1);
            struct picture_color color = picture_heat(value);
            if (tint) {
                float v = fminf(fmaxf(value, 0), 1);
                color = (struct picture_color){(uint8_t)(v * tint->r), (uint8_t)(v * tint->g),
                                               (uint8_t)(v * tint->b)};
            }
            set_pixel(p, x + i, y + j, color);
        }
}

/* ---- PNG ----------------------------------------------------------------------------------- */

static bool write_png(const struct picture *p, FILE *file)
{
    png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, NULL, NULL, NULL);
    png_infop info = png ? png_create_info_struct(png) : NULL;
    if (!info || setjmp(png_jmpbuf(png))) {
        png_destroy_write_struct(&png, &info);
        return false;
    }
    png_init_io(png, file);
    png_set_IHDR(png, info, p->width, p->height, 8, PNG_COLOR_TYPE_RGB, PNG_INTERLACE_NONE,
                 PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    png_write_info(png, info);
    for (uint32_t y = 0; y < p->height; y++)
        png_write_row(png, p->pixels + (size_t)y * p->width * 3);
    png_write_end(png, NULL);
    png_destroy_write_struct(&png, &info);
    return true;
}

bool picture_save(const struct picture *picture, const char *path)
{
    struct program_output *output = program_output_open(path);
    if (!output)
        return false;
    if (!write_png(picture, program_output_file(output))) {
        program_error("%s: the picture cannot be written", path);
        program_output_discard(output);
        return false;
    }
    return program_output_commit(output);
}
