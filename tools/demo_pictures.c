/* SPDX-License-Identifier: MIT
 *
 * The pictures of `draft demo`: the draft map of a head, the blocks that are kept, and what one
 * query attends to, in full and as kept. */
#include "demo.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "picture.h"

static const struct picture_color ink = {40, 40, 48}, quiet = {110, 110, 120}, mark = {0, 220, 255},
                                  kept_color = {96, 200, 160};

enum { MARGIN = 24, GAP = 18, TITLE = 2, LINE = 22, STRIP = 3 /* frames side by side */ };

/* ---- Fields of numbers ---------------------------------------------------------------------- */

/* p of the draft map on a logarithmic scale, from 1 / (10 S) to the largest: 0 to 1. */
static float *map_field(const struct demo_method *m)
{
    uint32_t s = m->layout.video_blocks;
    float *field = program_calloc((size_t)s * s, sizeof *field), most = 0;
    for (size_t i = 0; i < (size_t)s * s; i++)
        most = fmaxf(most, m->map[i]);
    float low = logf(0.1f / (float)s), high = logf(fmaxf(most, 1e-30f));
    for (size_t i = 0; i < (size_t)s * s; i++)
        field[i] = (logf(fmaxf(m->map[i], 1e-30f)) - low) / fmaxf(high - low, 1e-6f);
    return field;
}

/* 1 where the pair of video blocks is kept. */
static float *kept_field(const struct demo_method *m)
{
    const struct draft_layout *l = &m->layout;
    uint32_t s = l->video_blocks;
    float *field = program_calloc((size_t)s * s, sizeof *field);
    for (uint32_t i = 0; i < s; i++) {
        uint32_t row = l->prefix_blocks + i;
        for (uint32_t n = 0; n < m->counts[row]; n++) {
            uint32_t j = m->lists[(size_t)row * l->blocks + n] - l->prefix_blocks;
            if (j < s) /* text before the video wraps around */
                field[(size_t)i * s + j] = 1;
        }
    }
    return field;
}

/* A query and what it attends to. */
struct view {
    uint32_t frame, row, column; /* of the query in the grid                          */
    double *weights;             /* softmax over all tokens                           */
    float *field;                /* of the video tokens: log scale, 0 to 1            */
    double kept_mass;            /* share of the weights that the default method keeps */
};

static uint64_t token_of(const struct draft_shape *s, uint32_t frame, uint32_t row, uint32_t column)
{
    return s->prefix + ((uint64_t)frame * s->height + row) * s->width + column;
}

static uint32_t block_of(const struct draft_layout *l, uint32_t frame, uint32_t row,
                         uint32_t column)
{
    return l->prefix_blocks + ((frame / l->tile.t) * l->tiles_h + row / l->tile.h) * l->tiles_w +
           column / l->tile.w;
}

/* Which blocks the method keeps for the query, one flag for each. */
static bool *kept_blocks(const struct demo_method *m, const struct view *v)
{
    bool *kept = program_calloc(m->layout.blocks, sizeof *kept);
    uint32_t row = block_of(&m->layout, v->frame, v->row, v->column);
    for (uint32_t n = 0; n < m->counts[row]; n++)
        kept[m->lists[(size_t)row * m->layout.blocks + n]] = true;
    return kept;
}

static struct view make_view(const struct demo *d)
{
    const struct draft_shape *s = &d->shape;
    struct view v = {.frame = s->frames / 2};
    video_subject(generate_video(d->generate), d->seed, v.frame, &v.row, &v.column);
    v.weights = program_calloc(d->sizes.tokens, sizeof *v.weights);
    demo_softmax(d, d->head, token_of(s, v.frame, v.row, v.column), v.weights);
    uint64_t video = (uint64_t)s->frames * s->height * s->width;
    v.field = program_calloc(video, sizeof *v.field);
    float most = 0;
    for (uint64_t t = 0; t < video; t++)
        most = fmaxf(most, (float)v.weights[s->prefix + t]);
    float high = logf(fmaxf(most, 1e-30f)), low = high - logf(3e4f);
    for (uint64_t t = 0; t < video; t++)
        v.field[t] = (logf(fmaxf((float)v.weights[s->prefix + t], 1e-30f)) - low) / (high - low);
    return v;
}

/* The field with what the method leaves out set to 0; adds up what it keeps. */
static float *kept_view(const struct demo *d, const struct demo_method *m, struct view *v)
{
    const struct draft_shape *s = &d->shape;
    bool *kept = kept_blocks(m, v);
    float *field = program_calloc((size_t)s->frames * s->height * s->width, sizeof *field);
    v->kept_mass = 0;
    for (uint32_t f = 0; f < s->frames; f++)
        for (uint32_t r = 0; r < s->height; r++)
            for (uint32_t c = 0; c < s->width; c++) {
                uint64_t t = ((uint64_t)f * s->height + r) * s->width + c;
                bool keep = kept[block_of(&m->layout, f, r, c)];
                field[t] = keep ? fmaxf(v->field[t], 0.04f) : 0;
                v->kept_mass += keep ? v->weights[s->prefix + t] : 0;
            }
    for (uint64_t t = 0; t < d->sizes.tokens; t++) /* text is always kept */
        if (t < s->prefix || t >= d->sizes.tokens - s->suffix)
            v->kept_mass += v->weights[t];
    free(kept);
    return field;
}

/* ---- Parts ----------------------------------------------------------------------------------- */

static void caption(struct picture *p, int x, int y, const char *title, const char *note)
{
    picture_text(p, x, y, TITLE, ink, title);
    picture_text(p, x, y + LINE, 1, quiet, note);
}

static void draw_map(struct picture *p, const struct demo *d, int x, int y, int side)
{
    const struct demo_method *m = &d->methods[DEMO_DEFAULT];
    float *field = map_field(m);
    uint32_t s = m->layout.video_blocks;
    picture_field(p, x, y, side, side, field, s, s, NULL);
    picture_frame(p, x, y, side, side, quiet);
    free(field);
}

static void draw_kept(struct picture *p, const struct demo_method *m, int x, int y, int side)
{
    float *field = kept_field(m);
    uint32_t s = m->layout.video_blocks;
    picture_field(p, x, y, side, side, field, s, s, &kept_color);
    picture_frame(p, x, y, side, side, quiet);
    free(field);
}

/* Frames around the query's, side by side. */
struct strip {
    uint32_t first, count;
    int x, y, width, height, step; /* of one frame; from frame to frame */
};

static struct strip make_strip(const struct demo *d, const struct view *v, int x, int y, int total)
{
    struct strip s = {.x = x, .y = y};
    s.count = d->shape.frames < STRIP ? d->shape.frames : STRIP;
    s.first = v->frame - (s.count > 1 ? 1 : 0);
    s.step = (total + GAP / 2) / (int)s.count;
    s.width = s.step - GAP / 2;
    s.height = (int)((int64_t)s.width * d->shape.height / d->shape.width);
    if (s.height > 2 * s.width) { /* tall grids */
        s.height = 2 * s.width;
        s.width = (int)((int64_t)s.height * d->shape.width / d->shape.height);
    }
    return s;
}

/* A small open square around the query's token. */
static void mark_query(struct picture *p, const struct demo *d, const struct view *v,
                       const struct strip *s)
{
    int x = s->x + (int)(v->frame - s->first) * s->step +
            (int)((2 * v->column + 1) * (uint32_t)s->width / (2 * d->shape.width));
    int y = s->y + (int)((2 * v->row + 1) * (uint32_t)s->height / (2 * d->shape.height));
    for (int r = 5; r < 7; r++)
        picture_frame(p, x - r, y - r, 2 * r, 2 * r, mark);
}

static void draw_strip(struct picture *p, const struct demo *d, const struct view *v,
                       const struct strip *s, const float *field)
{
    size_t frame = (size_t)d->shape.height * d->shape.width;
    for (uint32_t f = 0; f < s->count; f++)
        picture_field(p, s->x + (int)f * s->step, s->y, s->width, s->height,
                      field + (s->first + f) * frame, d->shape.height, d->shape.width, NULL);
    mark_query(p, d, v, s);
}

/* The video that all of it was made from. */
static void draw_video(struct picture *p, const struct demo *d, const struct view *v,
                       const struct strip *s)
{
    const struct video *video = generate_video(d->generate);
    uint32_t rows = video->height * VIDEO_PATCH, columns = video->width * VIDEO_PATCH;
    for (uint32_t f = 0; f < s->count; f++)
        for (int j = 0; j < s->height; j++)
            for (int i = 0; i < s->width; i++) {
                uint32_t r = (uint32_t)j * rows / (uint32_t)s->height;
                uint32_t c = (uint32_t)i * columns / (uint32_t)s->width;
                const uint8_t *rgb =
                    video->pixels + (((size_t)(s->first + f) * rows + r) * columns + c) * 3;
                picture_fill(p, s->x + (int)f * s->step + i, s->y + j, 1, 1,
                             (struct picture_color){rgb[0], rgb[1], rgb[2]});
            }
    mark_query(p, d, v, s);
}

/* ---- Pictures -------------------------------------------------------------------------------- */

static bool save(struct picture *p, const char *folder, const char *name)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    bool ok = picture_save(p, path);
    picture_destroy(p);
    return ok;
}

static void describe_map(const struct demo *d, char *text, size_t size)
{
    const struct draft_layout *l = &d->methods[DEMO_DEFAULT].layout;
    snprintf(text, size, "head %u (%s), %u blocks of %ux%ux%u tokens, log scale", d->head,
             generate_kind_names[generate_kind(d->head)], l->video_blocks, l->tile.t, l->tile.h,
             l->tile.w);
}

static void describe_kept(const struct demo_method *m, char *text, size_t size)
{
    snprintf(text, size, "tile %ux%ux%u, %.1f %% of the pairs, error over all heads %.3f",
             m->layout.tile.t, m->layout.tile.h, m->layout.tile.w, 100 * m->density.video,
             m->fidelity.relative);
}

static bool draw_map_picture(const struct demo *d, const char *folder)
{
    enum { SIDE = 720 };
    struct picture p = picture_create(SIDE + 2 * MARGIN, SIDE + 2 * MARGIN + 2 * LINE);
    char note[160];
    describe_map(d, note, sizeof note);
    caption(&p, MARGIN, MARGIN, "draft map", note);
    draw_map(&p, d, MARGIN, MARGIN + 2 * LINE, SIDE);
    return save(&p, folder, "map.png");
}

static bool draw_kept_picture(const struct demo *d, const char *folder)
{
    enum { SIDE = 560 };
    struct picture p = picture_create(2 * SIDE + 2 * MARGIN + GAP, SIDE + 2 * MARGIN + 2 * LINE);
    for (int i = 0; i < 2; i++) {
        const struct demo_method *m = &d->methods[i ? DEMO_DEFAULT : DEMO_PAPER];
        int x = MARGIN + i * (SIDE + GAP);
        char note[160];
        describe_kept(m, note, sizeof note);
        caption(&p, x, MARGIN, i ? "kept by default" : "kept by the paper's rule", note);
        draw_kept(&p, m, x, MARGIN + 2 * LINE, SIDE);
    }
    return save(&p, folder, "kept.png");
}

/* Rows of a query picture: the video, all weights, what is kept. Returns the y below. */
static int draw_query_rows(struct picture *p, const struct demo *d, struct view *v, int x, int y,
                           int width)
{
    char note[160];
    struct strip s = make_strip(d, v, x, y + 2 * LINE, width);
    snprintf(note, sizeof note, "frames %u to %u, the query is marked", s.first,
             s.first + s.count - 1);
    caption(p, x, y, "video", note);
    draw_video(p, d, v, &s);
    s.y += s.height + 3 * LINE;
    caption(p, x, s.y - 2 * LINE, "attention of the query", "all keys, log scale");
    draw_strip(p, d, v, &s, v->field);
    s.y += s.height + 3 * LINE;
    float *kept = kept_view(d, &d->methods[DEMO_DEFAULT], v);
    snprintf(note, sizeof note, "blocks in its list: %.1f %% of the attention, the rest is pooled",
             100 * v->kept_mass);
    caption(p, x, s.y - 2 * LINE, "as kept", note);
    draw_strip(p, d, v, &s, kept);
    free(kept);
    return s.y + s.height;
}

static bool draw_query_picture(const struct demo *d, struct view *v, const char *folder)
{
    enum { WIDTH = 1080 };
    struct strip s = make_strip(d, v, 0, 0, WIDTH);
    struct picture p = picture_create(WIDTH + 2 * MARGIN,
                                      (uint32_t)(2 * MARGIN + 3 * (s.height + 3 * LINE) - LINE));
    draw_query_rows(&p, d, v, MARGIN, MARGIN, WIDTH);
    return save(&p, folder, "query.png");
}

static bool draw_overview(const struct demo *d, struct view *v, const char *folder)
{
    enum { RIGHT = 860 };
    struct strip s = make_strip(d, v, 0, 0, RIGHT);
    int height = 3 * (s.height + 3 * LINE) - LINE, side = height / 2 - 2 * LINE - GAP / 2;
    int right = MARGIN + side + 2 * GAP;
    struct picture p =
        picture_create((uint32_t)(right + RIGHT + MARGIN), (uint32_t)(height + 2 * MARGIN));
    char note[160];
    const struct demo_method *m = &d->methods[DEMO_DEFAULT];
    snprintf(note, sizeof note, "head %u (%s), %u blocks, log scale", d->head,
             generate_kind_names[generate_kind(d->head)], m->layout.video_blocks);
    caption(&p, MARGIN, MARGIN, "draft map", note);
    draw_map(&p, d, MARGIN, MARGIN + 2 * LINE, side);
    int below = MARGIN + 2 * LINE + side + LINE;
    snprintf(note, sizeof note, "%.1f %% of all pairs", 100 * m->density.video);
    caption(&p, MARGIN, below, "kept blocks", note);
    draw_kept(&p, m, MARGIN, below + 2 * LINE, side);
    draw_query_rows(&p, d, v, right, MARGIN, RIGHT);
    return save(&p, folder, "overview.png");
}

bool demo_draw(const struct demo *d, const char *folder)
{
    struct view v = make_view(d);
    bool ok = draw_map_picture(d, folder) && draw_kept_picture(d, folder) &&
              draw_query_picture(d, &v, folder) && draw_overview(d, &v, folder);
    free(v.field);
    free(v.weights);
    return ok;
}
