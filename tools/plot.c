/* SPDX-License-Identifier: MIT */
#include "plot.h"

#include <math.h>
#include <stdio.h>

enum { LEFT = 58, BELOW = 40, ABOVE = 40, RIGHT = 10, TITLE = 2, SMALL = 1, LETTER = 7 };
enum { LEGEND_LINE = 16, LEGEND_SAMPLE = 28 };

static const struct picture_color ink = {40, 40, 48}, quiet = {110, 110, 120},
                                  grid = {226, 226, 224}, frame = {150, 150, 156};

/* The rectangle between the axes, and the ranges that it shows. */
struct view {
    int x, y, width, height;
    struct plot_axis x_axis, y_axis;
};

/* ---- Axes ---------------------------------------------------------------------------------- */

static bool shown(const struct plot_axis *axis, double value)
{
    return isfinite(value) && (!axis->logarithmic || value > 0);
}

static void include(struct plot_axis *axis, double value)
{
    if (!shown(axis, value))
        return;
    axis->low = fmin(axis->low, value);
    axis->high = fmax(axis->high, value);
}

/* Where the axis has no range of its own, that of the lines with a little room. */
static struct plot_axis fit_axis(const struct plot *plot, const struct plot_axis *given, bool is_x)
{
    struct plot_axis axis = *given;
    if (axis.low != 0 || axis.high != 0)
        return axis;
    axis.low = INFINITY;
    axis.high = -INFINITY;
    for (size_t l = 0; l < plot->count; l++)
        for (size_t i = 0; i < plot->lines[l].count; i++)
            include(&axis, is_x ? plot->lines[l].x[i] : plot->lines[l].y[i]);
    if (!(axis.low <= axis.high))
        axis.low = axis.logarithmic ? 0.1 : 0, axis.high = 1;
    if (axis.logarithmic) {
        axis.low /= 1.12;
        axis.high *= 1.12;
    } else {
        double room = axis.high > axis.low ? 0.05 * (axis.high - axis.low) : 0.5;
        axis.low -= room;
        axis.high += room;
    }
    return axis;
}

/* 0 at the low end, 1 at the high one. */
static double place(const struct plot_axis *axis, double value)
{
    return axis->logarithmic ? log(value / axis->low) / log(axis->high / axis->low)
                             : (value - axis->low) / (axis->high - axis->low);
}

static double x_of(const struct view *v, double value)
{
    return v->x + place(&v->x_axis, value) * (v->width - 1);
}

static double y_of(const struct view *v, double value)
{
    return v->y + (1 - place(&v->y_axis, value)) * (v->height - 1);
}

enum { MOST_TICKS = 24 };

/* 1, 2, 5 of each decade. */
static size_t log_ticks(const struct plot_axis *axis, double *ticks)
{
    static const double steps[] = {1, 2, 5};
    size_t n = 0;
    for (int decade = (int)floor(log10(axis->low)); decade <= 6; decade++)
        for (unsigned s = 0; s < 3; s++) {
            double value = steps[s] * pow(10, decade);
            if (value >= axis->low && value <= axis->high && n < MOST_TICKS)
                ticks[n++] = value;
        }
    return n;
}

/* About five, a round step apart. */
static size_t even_ticks(const struct plot_axis *axis, double *ticks)
{
    double rough = (axis->high - axis->low) / 5, base = pow(10, floor(log10(rough)));
    double step = rough / base < 1.5 ? base : rough / base < 3.5 ? 2 * base : 5 * base;
    size_t n = 0;
    for (double i = ceil(axis->low / step); i * step <= axis->high && n < MOST_TICKS; i++)
        ticks[n++] = i * step;
    return n;
}

static void tick_text(const struct plot_axis *axis, double value, char text[16])
{
    if (axis->percent)
        snprintf(text, 16, "%.3g%%", 100 * value);
    else
        snprintf(text, 16, "%.3g", fabs(value) < 1e-12 ? 0 : value);
}

static void draw_axes(struct picture *p, const struct view *v)
{
    double ticks[MOST_TICKS];
    char text[16];
    size_t n = v->x_axis.logarithmic ? log_ticks(&v->x_axis, ticks) : even_ticks(&v->x_axis, ticks);
    for (size_t i = 0; i < n; i++) {
        int x = (int)(x_of(v, ticks[i]) + 0.5);
        tick_text(&v->x_axis, ticks[i], text);
        picture_fill(p, x, v->y, 1, v->height, grid);
        picture_text(p, x - picture_text_width(SMALL, text) / 2, v->y + v->height + 6, SMALL, quiet,
                     text);
    }
    n = v->y_axis.logarithmic ? log_ticks(&v->y_axis, ticks) : even_ticks(&v->y_axis, ticks);
    for (size_t i = 0; i < n; i++) {
        int y = (int)(y_of(v, ticks[i]) + 0.5);
        tick_text(&v->y_axis, ticks[i], text);
        picture_fill(p, v->x, y, v->width, 1, grid);
        picture_text(p, v->x - 5 - picture_text_width(SMALL, text), y - LETTER / 2, SMALL, quiet,
                     text);
    }
    picture_frame(p, v->x, v->y, v->width, v->height, frame);
    picture_text(p, v->x + (v->width - picture_text_width(SMALL, v->x_axis.label)) / 2,
                 v->y + v->height + 22, SMALL, quiet, v->x_axis.label);
    picture_text_up(p, v->x - LEFT + 4,
                    v->y + (v->height + picture_text_width(SMALL, v->y_axis.label)) / 2, SMALL,
                    quiet, v->y_axis.label);
}

static struct view make_view(struct picture *p, int x, int y, int width, int height,
                             const char *title, const char *note)
{
    picture_text(p, x + LEFT, y, TITLE, ink, title);
    picture_text(p, x + LEFT, y + 21, SMALL, quiet, note);
    return (struct view){.x = x + LEFT,
                         .y = y + ABOVE,
                         .width = width - LEFT - RIGHT,
                         .height = height - ABOVE - BELOW};
}

/* ---- Lines --------------------------------------------------------------------------------- */

static void mark(struct picture *p, double x, double y, struct picture_color color)
{
    picture_line(p, x, y, x, y, 6, color);
}

/* Every second stretch of 6 pixels. */
static void dashes(struct picture *p, double x0, double y0, double x1, double y1, double *travelled,
                   double period, struct picture_color color)
{
    double length = hypot(x1 - x0, y1 - y0);
    for (double at = 0; at < length;) {
        double phase = fmod(*travelled, period), step = fmin(1.5, length - at);
        if (phase < 0.55 * period)
            picture_line(p, x0 + (x1 - x0) * at / length, y0 + (y1 - y0) * at / length,
                         x0 + (x1 - x0) * (at + step) / length,
                         y0 + (y1 - y0) * (at + step) / length, 1.2, color);
        at += step;
        *travelled += step;
    }
}

static void draw_segment(struct picture *p, const struct plot_line *line, double x0, double y0,
                         double x1, double y1, double *travelled)
{
    if (line->style == PLOT_LINE)
        picture_line(p, x0, y0, x1, y1, 1.8, line->color);
    else
        dashes(p, x0, y0, x1, y1, travelled, line->style == PLOT_DASHES ? 10 : 4, line->color);
}

static void draw_line(struct picture *p, const struct view *v, const struct plot_line *line)
{
    double last_x = NAN, last_y = NAN, travelled = 0;
    for (size_t i = 0; i < line->count; i++) {
        if (!shown(&v->x_axis, line->x[i]) || !shown(&v->y_axis, line->y[i])) {
            last_x = NAN;
            continue;
        }
        double x = x_of(v, line->x[i]), y = y_of(v, line->y[i]);
        if (!isnan(last_x))
            draw_segment(p, line, last_x, last_y, x, y, &travelled);
        if (line->style == PLOT_LINE)
            mark(p, x, y, line->color);
        last_x = x;
        last_y = y;
    }
}

void plot_draw(struct picture *p, int x, int y, int width, int height, const struct plot *plot)
{
    struct view v = make_view(p, x, y, width, height, plot->title, plot->note);
    v.x_axis = fit_axis(plot, &plot->x, true);
    v.y_axis = fit_axis(plot, &plot->y, false);
    draw_axes(p, &v);
    for (size_t l = plot->count; l-- > 0;) /* the first on top */
        draw_line(p, &v, &plot->lines[l]);
}

int plot_legend(struct picture *p, int x, int y, int columns, int column_width,
                const struct plot_line *lines, size_t count)
{
    size_t rows = (count + (size_t)columns - 1) / (size_t)columns;
    for (size_t i = 0; i < count; i++) {
        int at_x = x + (int)(i / rows) * column_width, at_y = y + (int)(i % rows) * LEGEND_LINE;
        double middle = at_y + LETTER / 2, travelled = 0;
        draw_segment(p, &lines[i], at_x, middle, at_x + LEGEND_SAMPLE, middle, &travelled);
        if (lines[i].style == PLOT_LINE)
            mark(p, at_x + LEGEND_SAMPLE / 2, middle, lines[i].color);
        picture_text(p, at_x + LEGEND_SAMPLE + 6, at_y, SMALL, ink, lines[i].name);
    }
    return (int)rows * LEGEND_LINE;
}

/* ---- Bars ---------------------------------------------------------------------------------- */

void plot_draw_bars(struct picture *p, int x, int y, int width, int height,
                    const struct plot_bars *b)
{
    struct view v = make_view(p, x, y, width, height, b->title, b->note);
    v.y_axis = (struct plot_axis){.label = b->label};
    for (size_t i = 0; i < b->group_count * b->bar_count; i++)
        include(&v.y_axis, b->values[i]);
    v.y_axis.high = v.y_axis.high > 0 ? 1.05 * v.y_axis.high : 1;
    v.x_axis = (struct plot_axis){.label = "", .low = 2, .high = 3}; /* no tick on it */
    double ticks[MOST_TICKS];
    char text[16];
    size_t n = even_ticks(&v.y_axis, ticks);
    for (size_t i = 0; i < n; i++) {
        int at = (int)(y_of(&v, ticks[i]) + 0.5);
        tick_text(&v.y_axis, ticks[i], text);
        picture_fill(p, v.x, at, v.width, 1, grid);
        picture_text(p, v.x - 5 - picture_text_width(SMALL, text), at - LETTER / 2, SMALL, quiet,
                     text);
    }
    picture_text_up(p, v.x - LEFT + 4, v.y + (v.height + picture_text_width(SMALL, b->label)) / 2,
                    SMALL, quiet, b->label);
    int group = v.width / (int)b->group_count, bar = (group - 8) / (int)b->bar_count;
    for (size_t g = 0; g < b->group_count; g++) {
        int left = v.x + (int)g * group + 4;
        for (size_t i = 0; i < b->bar_count; i++) {
            double value = b->values[g * b->bar_count + i];
            int top = isfinite(value) ? (int)(y_of(&v, value) + 0.5) : v.y;
            picture_fill(p, left + (int)i * bar, top, bar > 1 ? bar - 1 : 1, v.y + v.height - top,
                         b->bars[i].color);
        }
        picture_text(p, left + (group - 8 - picture_text_width(SMALL, b->groups[g])) / 2,
                     v.y + v.height + 6, SMALL, quiet, b->groups[g]);
    }
    picture_frame(p, v.x, v.y, v.width, v.height, frame);
}
