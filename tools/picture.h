/* SPDX-License-Identifier: MIT
 *
 * Small pictures: a canvas of RGB pixels, fields of numbers in colour, labels, PNG files. */
#ifndef DRAFT_TOOLS_PICTURE_H
#define DRAFT_TOOLS_PICTURE_H

#include <stdbool.h>
#include <stdint.h>

struct picture {
    uint32_t width, height;
    uint8_t *pixels; /* RGB, row after row */
};

struct picture_color {
    uint8_t r, g, b;
};

/* Filled with the background colour. Never NULL pixels: ends the program where memory runs out. */
struct picture picture_create(uint32_t width, uint32_t height);
void picture_destroy(struct picture *picture);

/* What lies outside the canvas is left out. */
void picture_fill(struct picture *picture, int x, int y, int width, int height,
                  struct picture_color color);

/* Mix the colour into a pixel: share 0 leaves it, 1 replaces it. */
void picture_blend(struct picture *picture, int x, int y, struct picture_color color, double share);

/* A straight line with smooth edges between the middles of two pixels. */
void picture_line(struct picture *picture, double x0, double y0, double x1, double y1, double width,
                  struct picture_color color);

/* A frame of one pixel around the rectangle, outside it. */
void picture_frame(struct picture *picture, int x, int y, int width, int height,
                   struct picture_color color);

/* Letters, digits and some signs, 5 x 7 pixels times `scale`; letters appear as capitals. Returns
 * the width of the text in pixels. */
int picture_text(struct picture *picture, int x, int y, int scale, struct picture_color color,
                 const char *text);

/* The same, from bottom to top; x, y: the lower left corner. */
void picture_text_up(struct picture *picture, int x, int y, int scale, struct picture_color color,
                     const char *text);
/* Pixels that a text takes. */
int picture_text_width(int scale, const char *text);

/* From dark to bright for 0 to 1; values outside are clamped, NaN is 0. */
struct picture_color picture_heat(double value);

/* A field of rows x columns values of 0 to 1, scaled to width x height: where several values fall
 * on one pixel, their largest. `tint`: NULL for picture_heat, or the colour of 1 (0 is black). */
void picture_field(struct picture *picture, int x, int y, int width, int height,
                   const float *values, uint32_t rows, uint32_t columns,
                   const struct picture_color *tint);

/* Write a PNG under a temporary name, then rename. False on failure, with a message. */
bool picture_save(const struct picture *picture, const char *path);

#endif
