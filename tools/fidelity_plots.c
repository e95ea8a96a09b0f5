/* SPDX-License-Identifier: MIT
 *
 * The pictures of `draft fidelity`: error, worst head and recall against executed work, with a
 * panel for each data set, and the error of each kind of head. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "fidelity_bench.h"
#include "plot.h"

enum { COLUMNS = 3, PANEL_WIDTH = 420, PANEL_HEIGHT = 360, MARGIN = 20, GAP = 14 };
enum { LEGEND_WIDTH = 210, LEGEND_LINE = 16, TITLE_HEIGHT = 34 };

static const struct picture_color ink = {40, 40, 48}, quiet = {110, 110, 120};

/* Apart in lightness as well as in hue. */
static const struct picture_color colors[] = {
    {214, 39, 40}, {31, 119, 180},  {44, 160, 44},  {255, 127, 14}, {148, 103, 189},
    {140, 86, 75}, {227, 119, 194}, {23, 190, 207}, {188, 189, 34}, {0, 80, 120},
    {120, 20, 60}, {90, 140, 90},   {255, 190, 0},  {70, 60, 200}};
static const struct picture_color grey = {150, 150, 150}, black = {0, 0, 0};
static const struct picture_color ceilings[] = {{120, 160, 120}, {120, 130, 190}, {170, 140, 90}};

enum figure { ERROR, WORST, RECALL, FIGURES };

static const struct {
    const char *file, *title, *label;
} figures[FIGURES] = {
    {"error.png", "error against executed work", "relative L2, all heads"},
    {"worst.png", "worst head against executed work", "relative L2 of the worst head"},
    {"recall.png", "attention mass in the kept blocks", "mean recall"},
};

static double figure_of(const struct fidelity_point *p, enum figure figure)
{
    return figure == ERROR ? p->relative : figure == WORST ? p->worst : p->recall;
}

/* Colours and styles by role; x and y: [methods, points]. */
static void make_lines(const struct fidelity_bench *b, const struct fidelity_set *set,
                       enum figure figure, struct plot_line *lines, double *x, double *y)
{
    unsigned methods = 0, bounds = 0;
    for (unsigned m = 0; m < b->method_count; m++) {
        const struct fidelity_method *method = &b->methods[m];
        double *line_x = x + m * FIDELITY_POINTS, *line_y = y + m * FIDELITY_POINTS;
        for (size_t i = 0; i < b->points; i++) {
            line_x[i] = set->points[m][i].work;
            line_y[i] = figure_of(&set->points[m][i], figure);
        }
        lines[m] = (struct plot_line){
            .name = method->name, .color = black, .x = line_x, .y = line_y, .count = b->points};
        if (method->role == FIDELITY_METHOD)
            lines[m].color = colors[methods++ % (sizeof colors / sizeof *colors)];
        if (method->role == FIDELITY_CEILING)
            lines[m].color = ceilings[bounds++ % (sizeof ceilings / sizeof *ceilings)];
        if (method->role == FIDELITY_FLOOR)
            lines[m].color = grey;
        lines[m].style = method->role == FIDELITY_CEILING ? PLOT_DASHES
                         : method->role == FIDELITY_FLOOR ? PLOT_DOTS
                                                          : PLOT_LINE;
    }
}

static int panel_x(size_t set)
{
    return MARGIN + (int)(set % COLUMNS) * (PANEL_WIDTH + GAP);
}

static int panel_y(size_t set)
{
    return MARGIN + TITLE_HEIGHT + (int)(set / COLUMNS) * (PANEL_HEIGHT + GAP);
}

static struct picture make_canvas(const struct fidelity_bench *b, const char *title, size_t names,
                                  int *legend_y)
{
    size_t columns = b->set_count < COLUMNS ? b->set_count : COLUMNS;
    int width = panel_x(columns - 1) + PANEL_WIDTH + MARGIN;
    size_t in_row = (size_t)((width - 2 * MARGIN) / LEGEND_WIDTH);
    int legend = (int)((names + in_row - 1) / in_row) * LEGEND_LINE;
    *legend_y = panel_y(b->set_count - 1) + PANEL_HEIGHT + GAP;
    struct picture p = picture_create((uint32_t)width, (uint32_t)(*legend_y + legend + MARGIN));
    char note[160];
    const struct draft_shape *s = &b->sets[0].data.shape;
    snprintf(note, sizeof note, "%ux%ux%u tokens, %u heads of %u, %s, seed %llu", s->frames,
             s->height, s->width, b->sets[0].data.heads, s->dim, job_type_names[b->type - 1],
             (unsigned long long)b->seed);
    picture_text(&p, MARGIN, MARGIN, 2, ink, title);
    picture_text(&p, MARGIN + picture_text_width(2, title) + 20, MARGIN + 6, 1, quiet, note);
    return p;
}

static bool save(struct picture *p, const char *folder, const char *name)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    bool ok = picture_save(p, path);
    picture_destroy(p);
    return ok;
}

static int legend_columns(const struct picture *p)
{
    return ((int)p->width - 2 * MARGIN) / LEGEND_WIDTH;
}

static bool draw_lines(const struct fidelity_bench *b, enum figure figure)
{
    struct plot_line lines[FIDELITY_METHODS];
    size_t count = (size_t)FIDELITY_METHODS * FIDELITY_POINTS;
    double *x = program_calloc(count, sizeof *x), *y = program_calloc(count, sizeof *y);
    int legend;
    struct picture p = make_canvas(b, figures[figure].title, b->method_count, &legend);
    for (size_t s = 0; s < b->set_count; s++) {
        make_lines(b, &b->sets[s], figure, lines, x, y);
        struct plot plot = {
            .title = b->sets[s].data.name,
            .note = figure == RECALL ? "tails do not count" : "lower left is better",
            .x = {.label = "executed work, share of dense", .logarithmic = true, .percent = true},
            .y = {.label = figures[figure].label, .logarithmic = figure != RECALL},
            .lines = lines,
            .count = b->method_count};
        plot_draw(&p, panel_x(s), panel_y(s), PANEL_WIDTH, PANEL_HEIGHT, &plot);
    }
    plot_legend(&p, MARGIN, legend, legend_columns(&p), LEGEND_WIDTH, lines, b->method_count);
    free(x);
    free(y);
    return save(&p, b->folder, figures[figure].file);
}

/* ---- Kinds of heads -------------------------------------------------------------------------- */

enum { KINDS = 12, BARS = 6 };

/* Bars for all would be too thin: those of these that were run. */
static unsigned choose_bars(const struct fidelity_bench *b, unsigned *chosen)
{
    static const char *const wanted[] = {"paper",          "row-mean-drop",   "row-max-mean",
                                         "row-max-fitted", "row-excess-mean", "row-excess-fitted"};
    unsigned n = 0;
    for (size_t w = 0; w < sizeof wanted / sizeof *wanted; w++)
        for (unsigned m = 0; m < b->method_count && n < BARS; m++)
            if (strcmp(b->methods[m].name, wanted[w]) == 0)
                chosen[n++] = m;
    return n;
}

/* Kinds in the order in which they come. */
static unsigned find_kinds(const struct fidelity_set *set, const char *kinds[KINDS])
{
    unsigned n = 0;
    for (uint32_t h = 0; h < set->data.heads; h++) {
        unsigned k = 0;
        while (k < n && strcmp(kinds[k], set->kinds[h]) != 0)
            k++;
        if (k == n && n < KINDS)
            kinds[n++] = set->kinds[h];
    }
    return n;
}

static double kind_error(const struct fidelity_set *set, const struct fidelity_point *p,
                         const char *kind)
{
    double difference = 0, reference = 0;
    for (uint32_t h = 0; h < set->data.heads; h++)
        if (strcmp(set->kinds[h], kind) == 0) {
            difference += p->heads[h].difference;
            reference += p->heads[h].reference;
        }
    return sqrt(difference / reference);
}

static bool draw_kinds(const struct fidelity_bench *b)
{
    static const double nominal = 0.9;
    size_t at = 0;
    while (at < b->points && fabs(b->nominal[at] - nominal) > 1e-9)
        at++;
    at = at < b->points ? at : b->points - 1;
    unsigned chosen[BARS], bars = choose_bars(b, chosen);
    struct plot_line names[BARS] = {0};
    int legend;
    struct picture p = make_canvas(b, "error by kind of head", bars, &legend);
    for (unsigned i = 0; i < bars; i++)
        names[i] = (struct plot_line){.name = b->methods[chosen[i]].name,
                                      .color = i ? colors[i - 1] : black};
    for (size_t s = 0; s < b->set_count; s++) {
        const struct fidelity_set *set = &b->sets[s];
        const char *kinds[KINDS];
        double values[KINDS * BARS];
        unsigned groups = find_kinds(set, kinds);
        for (unsigned k = 0; k < groups; k++)
            for (unsigned i = 0; i < bars; i++)
                values[k * bars + i] = kind_error(set, &set->points[chosen[i]][at], kinds[k]);
        char note[64];
        snprintf(note, sizeof note, "work of the paper's rule at %g %% sparsity",
                 100 * b->nominal[at]);
        struct plot_bars plot = {set->data.name, note,  "relative L2", kinds,
                                 groups,         names, bars,          values};
        plot_draw_bars(&p, panel_x(s), panel_y(s), PANEL_WIDTH, PANEL_HEIGHT, &plot);
    }
    plot_legend(&p, MARGIN, legend, legend_columns(&p), LEGEND_WIDTH, names, bars);
    return save(&p, b->folder, "kinds.png");
}

bool fidelity_draw(const struct fidelity_bench *b)
{
    for (enum figure f = ERROR; f < FIGURES; f++)
        if (!draw_lines(b, f))
            return false;
    return draw_kinds(b);
}
