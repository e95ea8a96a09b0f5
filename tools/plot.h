/* SPDX-License-Identifier: MIT
 *
 * Plots: lines or bars between axes with ticks, on a picture. */
#ifndef DRAFT_TOOLS_PLOT_H
#define DRAFT_TOOLS_PLOT_H

#include <stddef.h>

#include "picture.h"

enum plot_style {
    PLOT_LINE,   /* with a mark at each point */
    PLOT_DASHES, /* without marks             */
    PLOT_DOTS    /* fainter                   */
};

struct plot_line {
    const char *name;
    struct picture_color color;
    enum plot_style style;
    const double *x,
        *y; /* what is not finite, or not positive on a logarithmic axis, is left out */
    size_t count;
};

struct plot_axis {
    const char *label;
    bool logarithmic, percent;
    double low, high; /* both 0: what the lines need */
};

struct plot {
    const char *title, *note;
    struct plot_axis x, y;
    const struct plot_line *lines;
    size_t count;
};

/* Everything, labels too, within the rectangle. */
void plot_draw(struct picture *picture, int x, int y, int width, int height,
               const struct plot *plot);

/* Names beside samples of the lines, in columns; returns the height. */
int plot_legend(struct picture *picture, int x, int y, int columns, int column_width,
                const struct plot_line *lines, size_t count);

/* Bars from 0 in groups: values [groups, bars]. */
struct plot_bars {
    const char *title, *note, *label;
    const char *const *groups;
    size_t group_count;
    const struct plot_line *bars; /* name and colour */
    size_t bar_count;
    const double *values;
};
void plot_draw_bars(struct picture *picture, int x, int y, int width, int height,
                    const struct plot_bars *bars);

#endif
