/* SPDX-License-Identifier: MIT */
#include "generate.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "job.h"
#include "parallel.h"
#include "program.h"
#include "random.h"

enum {
    SMOOTH = VIDEO_SMOOTH,
    FEATURES = VIDEO_FEATURES,
    DETAIL = VIDEO_FEATURES - VIDEO_DETAIL,
    MOST_DIM = 128,
    MOST_PAIRS = MOST_DIM / 2,
    KINDS = 6,
    CHUNK = 512 /* tokens that a thread takes at a time */
};

const char *const generate_regime_names[] = {"mixed", "concentrated", "smooth",   "diffuse",
                                             "noisy", "sinks",        "outliers", NULL};
const char *const generate_kind_names[] = {"spatial", "temporal", "local",
                                           "global",  "sink",     "broad"};

/* Energies are shares of 1. */
struct regime {
    float gain;                 /* of q: the logits' scale                                   */
    float vary_q, vary_k;       /* what is not smooth: detail and noise                      */
    float detail;               /* share of that which is detail, the same in q and k        */
    float position;             /* share of the smooth part which is positional bias         */
    float colour, value_colour; /* exponent of the features' spectrum, in q and k, and in v  */
    float value_mean, value_noise;
    float sink;    /* energy of what q and the keys of the first frame share, in every head  */
    float outlier; /* deviation of the channels that cancel                                  */
};

static const struct regime regimes[] = {
    [GENERATE_MIXED] = {4.6f, .25f, .35f, .20f, .15f, .8f, .4f, .10f, .3f, 0, 0},
    [GENERATE_CONCENTRATED] = {8.0f, .26f, .27f, .05f, .05f, .9f, .2f, .35f, .5f, 0, 0},
    [GENERATE_SMOOTH] = {4.2f, .08f, .10f, .20f, .30f, .8f, .4f, .10f, .2f, 0, 0},
    [GENERATE_DIFFUSE] = {1.6f, .27f, .27f, .20f, .10f, .6f, .3f, .10f, .6f, 0, 0},
    [GENERATE_NOISY] = {4.6f, .50f, .55f, .00f, .15f, .8f, .4f, .10f, 1.f, 0, 0},
    [GENERATE_SINKS] = {4.6f, .25f, .35f, .20f, .15f, .8f, .4f, .10f, .3f, .25f, 0},
    [GENERATE_OUTLIERS] = {1.6f, .27f, .27f, .20f, .10f, .6f, .3f, .10f, .6f, 0, 3},
};

/* Rotary frequencies lo to hi of an axis (0: time, 1: height, 2: width) get this amplitude. */
struct band {
    unsigned axis;
    float lo, hi, amplitude;
};

static const struct kind {
    float gain, position; /* factors on the regime's */
    float mix;            /* how far the projection of k is from that of q */
    struct band bands[3];
} kinds[KINDS] = {
    [GENERATE_SPATIAL] = {1.0f,
                          1.f,
                          .5f,
                          {{0, .02f, 1, 1}, {1, .03f, .4f, .35f}, {2, .03f, .4f, .35f}}},
    [GENERATE_TEMPORAL] = {1.1f, 1.f, .5f, {{1, .02f, 1, 1}, {2, .02f, 1, 1}, {0, .02f, .2f, .2f}}},
    [GENERATE_LOCAL] = {1.1f, 1.f, .5f, {{0, .05f, 1, .7f}, {1, .02f, 1, .8f}, {2, .02f, 1, .8f}}},
    [GENERATE_GLOBAL] = {1.0f, .4f, .3f, {{1, .02f, .1f, .25f}, {2, .02f, .1f, .25f}}},
    [GENERATE_SINK] = {0.9f, .5f, .5f, {{1, .02f, .3f, .4f}, {2, .02f, .3f, .4f}}},
    [GENERATE_BROAD] = {0.6f, .15f, .6f, {{1, .02f, .1f, .25f}, {2, .02f, .1f, .25f}}},
};

enum { SINK_VALUES = 10 }; /* values of the first frame are that much smaller in sink heads */

/* Everything about one head: matrices that take features to what is summed. */
struct head {
    enum generate_kind kind;
    float gain;
    float noise_q, noise_k, noise_v; /* standard deviations */
    float smooth_q[SMOOTH][MOST_DIM], smooth_k[SMOOTH][MOST_DIM];
    float detail_q[DETAIL][MOST_DIM], detail_k[DETAIL][MOST_DIM];
    float value[FEATURES][MOST_DIM];
    float bias_q[MOST_DIM], bias_k[MOST_DIM];
    bool has_sink;
    float sink[MOST_DIM]; /* added to k in the first frame */
    float outlier;
    float value_mean[MOST_DIM];
};

/* Rotary positions: pairs of one axis are contiguous, the axes in the order time, height, width. */
struct rotary {
    uint32_t pairs[3], first[3];
    float frequency[MOST_PAIRS];
    float *table[3]; /* [positions, pairs, 2]: cosine, sine */
};

struct generate {
    struct draft_shape shape;
    enum generate_regime regime;
    uint64_t seed, tokens;
    unsigned threads;
    struct video *video;
    struct rotary rotary;
    struct head *heads;
};

/* ---- Rotary positions --------------------------------------------------------------------- */

/* Wan's split, 44/42/42 of 128: a third of the pairs for height, as many for width, the rest for
 * time. */
static void make_rotary(struct generate *g)
{
    struct rotary *r = &g->rotary;
    uint32_t pairs = g->shape.dim / 2, third = pairs / 3, first = 0;
    uint32_t positions[3] = {g->shape.frames, g->shape.height, g->shape.width};
    for (unsigned axis = 0; axis < 3; axis++) {
        uint32_t n = r->pairs[axis] = axis ? third : pairs - 2 * third;
        r->first[axis] = first;
        r->table[axis] = program_calloc((size_t)positions[axis] * n * 2 + 1, sizeof(float));
        for (uint32_t i = 0; i < n; i++)
            r->frequency[first + i] = (float)pow(1e4, -(double)i / n);
        for (uint32_t p = 0; p < positions[axis]; p++)
            for (uint32_t i = 0; i < n; i++) {
                double angle = p * (double)r->frequency[first + i];
                r->table[axis][((size_t)p * n + i) * 2] = (float)cos(angle);
                r->table[axis][((size_t)p * n + i) * 2 + 1] = (float)sin(angle);
            }
        first += n;
    }
}

static void rotate(const struct rotary *r, const uint32_t *position, float *x)
{
    for (unsigned axis = 0; axis < 3; axis++) {
        const float *table = r->table[axis] + (size_t)position[axis] * r->pairs[axis] * 2;
        float *pair = x + 2 * r->first[axis];
        for (uint32_t i = 0; i < 2 * r->pairs[axis]; i += 2) {
            float a = pair[i], b = pair[i + 1], c = table[i], s = table[i + 1];
            pair[i] = a * c - b * s;
            pair[i + 1] = a * s + b * c;
        }
    }
}

/* ---- Heads -------------------------------------------------------------------------------- */

/* Scale n values so that their mean square is `energy`; nothing where they are all 0. */
static void scale_to(float *x, uint32_t n, double energy)
{
    double sum = 0;
    for (uint32_t i = 0; i < n; i++)
        sum += (double)x[i] * x[i];
    float factor = sum > 0 ? (float)sqrt(energy * n / sum) : 0;
    for (uint32_t i = 0; i < n; i++)
        x[i] *= factor;
}

/* Mean square over tokens and dimensions of smooth x matrix, from the features' second moments. */
static double smooth_energy(const struct generate *g, float matrix[SMOOTH][MOST_DIM])
{
    double sum = 0;
    for (uint32_t a = 0; a < SMOOTH; a++)
        for (uint32_t b = 0; b < SMOOTH; b++)
            for (uint32_t d = 0; d < g->shape.dim; d++)
                sum += g->video->moment[a][b] * (double)(matrix[a][d] * matrix[b][d]);
    return sum / g->shape.dim;
}

static void scale_matrix(float matrix[][MOST_DIM], uint32_t rows, double factor)
{
    for (uint32_t c = 0; c < rows; c++)
        for (uint32_t d = 0; d < MOST_DIM; d++)
            matrix[c][d] *= (float)factor;
}

/* Content prefers the low rotary frequencies: it should match at any distance. */
static float content_weight(const struct generate *g, uint32_t d)
{
    return g->rotary.frequency[d / 2] < 0.15f ? 1 : 0.5f;
}

static void make_smooth(const struct generate *g, struct head *head, uint64_t stream,
                        const struct regime *regime, double energy_q, double energy_k)
{
    float mix = kinds[head->kind].mix;
    for (uint32_t c = 0; c < SMOOTH; c++)
        for (uint32_t d = 0; d < g->shape.dim; d++) {
            float weight = powf(g->video->spectrum[c], regime->colour) * content_weight(g, d);
            float a = random_normal(stream, 2 * (c * MOST_DIM + d));
            float b = random_normal(stream, 2 * (c * MOST_DIM + d) + 1);
            head->smooth_q[c][d] = weight * a;
            head->smooth_k[c][d] = weight * (a * (1 - mix) + b * mix);
        }
    double have_q = smooth_energy(g, head->smooth_q), have_k = smooth_energy(g, head->smooth_k);
    /* A single token has no variance, and a flat video none to speak of. */
    scale_matrix(head->smooth_q, SMOOTH, have_q > 1e-9 ? sqrt(energy_q / have_q) : 0);
    scale_matrix(head->smooth_k, SMOOTH, have_k > 1e-9 ? sqrt(energy_k / have_k) : 0);
}

static void make_detail(const struct generate *g, struct head *head, uint64_t stream,
                        double energy_q, double energy_k)
{
    double sum = 0;
    for (uint32_t c = 0; c < DETAIL; c++)
        for (uint32_t d = 0; d < g->shape.dim; d++) {
            float x = random_normal(stream, c * MOST_DIM + d) * content_weight(g, d);
            head->detail_q[c][d] = head->detail_k[c][d] = x;
            sum += (double)x * x;
        }
    sum /= g->shape.dim; /* features have variance 1 each */
    scale_matrix(head->detail_q, DETAIL, sqrt(energy_q / sum));
    scale_matrix(head->detail_k, DETAIL, sqrt(energy_k / sum));
}

/* The same vector before rotation in q and k: after it their product falls with the distance. */
static void make_bias(const struct generate *g, struct head *head, uint64_t stream, double energy_q,
                      double energy_k)
{
    const struct rotary *r = &g->rotary;
    for (unsigned b = 0; b < 3; b++) {
        const struct band *band = &kinds[head->kind].bands[b];
        for (uint32_t i = r->first[band->axis]; i < r->first[band->axis] + r->pairs[band->axis];
             i++)
            if (r->frequency[i] >= band->lo && r->frequency[i] <= band->hi) {
                float angle = 6.2831853f * random_uniform(stream, i);
                head->bias_q[2 * i] = band->amplitude * cosf(angle);
                head->bias_q[2 * i + 1] = band->amplitude * sinf(angle);
            }
    }
    memcpy(head->bias_k, head->bias_q, sizeof head->bias_k);
    scale_to(head->bias_q, g->shape.dim, energy_q);
    scale_to(head->bias_k, g->shape.dim, energy_k);
}

/* A component in the slowest pair of each axis, which rotation hardly turns. */
static void make_sink(const struct generate *g, struct head *head, double energy)
{
    const struct rotary *r = &g->rotary;
    for (unsigned axis = 0; axis < 3; axis++)
        if (r->pairs[axis]) {
            uint32_t pair = r->first[axis] + r->pairs[axis] - 1;
            head->sink[2 * pair] = head->sink[2 * pair + 1] = 1;
        }
    scale_to(head->sink, g->shape.dim, energy);
    for (uint32_t d = 0; d < g->shape.dim; d++)
        head->bias_q[d] += head->sink[d];
}

static void make_value(const struct generate *g, struct head *head, uint64_t stream,
                       const struct regime *regime)
{
    double sum = 0;
    for (uint32_t c = 0; c < FEATURES; c++) {
        float weight = powf(g->video->spectrum[c], regime->value_colour);
        for (uint32_t d = 0; d < g->shape.dim; d++) {
            float x = weight * random_normal(stream, c * MOST_DIM + d);
            head->value[c][d] = x;
            sum += (double)x * x;
        }
    }
    double noise = regime->value_noise * regime->value_noise, rest = 1 - regime->value_mean;
    scale_matrix(head->value, FEATURES, sqrt(rest / (1 + noise) * g->shape.dim / sum));
    head->noise_v = (float)sqrt(rest * noise / (1 + noise));
    for (uint32_t d = 0; d < g->shape.dim; d++)
        head->value_mean[d] = random_normal(stream, FEATURES * MOST_DIM + d);
    scale_to(head->value_mean, g->shape.dim, regime->value_mean);
}

static void make_head(void *argument, uint64_t index)
{
    struct generate *g = argument;
    struct head *head = &g->heads[index];
    const struct regime *regime = &regimes[g->regime];
    head->kind = generate_kind((uint32_t)index);
    const struct kind *kind = &kinds[head->kind];
    uint64_t stream = random_stream(g->seed, 1000 + index);
    /* Every second set of heads looks more widely. */
    head->gain = regime->gain * kind->gain * (index / KINDS % 2 ? 0.7f : 1.0f);
    double position = regime->position * kind->position;
    double rest_q = 1 - regime->vary_q, rest_k = 1 - regime->vary_k;
    make_smooth(g, head, random_stream(stream, 1), regime, rest_q * (1 - position),
                rest_k * (1 - position));
    make_bias(g, head, random_stream(stream, 2), rest_q * position, rest_k * position);
    make_detail(g, head, random_stream(stream, 3), regime->vary_q * regime->detail,
                regime->vary_k * regime->detail);
    head->noise_q = sqrtf(regime->vary_q * (1 - regime->detail));
    head->noise_k = sqrtf(regime->vary_k * (1 - regime->detail));
    head->has_sink = head->kind == GENERATE_SINK || regime->sink > 0;
    if (head->has_sink)
        make_sink(g, head, regime->sink > 0 ? (double)regime->sink : 0.14);
    head->outlier = regime->outlier;
    make_value(g, head, random_stream(stream, 4), regime);
}

/* ---- Tokens ------------------------------------------------------------------------------- */

static void add_product(float *to, uint32_t dim, const float *x, uint32_t rows,
                        const float matrix[][MOST_DIM])
{
    for (uint32_t c = 0; c < rows; c++) {
        float factor = x[c];
        const float *row = matrix[c];
        for (uint32_t d = 0; d < dim; d++)
            to[d] += factor * row[d];
    }
}

static void add_noise(float *to, uint32_t dim, uint64_t stream, uint64_t token, float deviation)
{
    for (uint32_t d = 0; d < dim; d++)
        to[d] += deviation * random_normal(stream, token * MOST_DIM + d);
}

/* Two channels in which q is equal and large and k opposite and large: the product does not change,
 * the variance of k does. */
static void add_outlier(const struct head *head, uint32_t dim, float normal, float *q, float *k)
{
    uint32_t a = dim / 6, b = dim / 2 - dim / 16;
    float heavy = head->outlier * normal * (1 + normal * normal * 0.5f);
    q[a] = q[b] = 0.5f * (q[a] + q[b]) + 3;
    k[a] += heavy;
    k[b] -= heavy;
}

static void video_token(const struct generate *g, const struct head *head, uint64_t stream,
                        uint64_t token, float *q, float *k, float *v)
{
    const struct draft_shape *s = &g->shape;
    const float *smooth = g->video->smooth + token * SMOOTH;
    const float *features = g->video->features + token * FEATURES;
    uint32_t position[3] = {(uint32_t)(token / ((uint64_t)s->height * s->width)),
                            (uint32_t)(token / s->width % s->height), (uint32_t)(token % s->width)};
    size_t size = s->dim * sizeof *q;
    memcpy(q, head->bias_q, size);
    memcpy(k, head->bias_k, size);
    memcpy(v, head->value_mean, size);
    add_product(q, s->dim, smooth, SMOOTH, head->smooth_q);
    add_product(k, s->dim, smooth, SMOOTH, head->smooth_k);
    add_product(q, s->dim, features + VIDEO_DETAIL, DETAIL, head->detail_q);
    add_product(k, s->dim, features + VIDEO_DETAIL, DETAIL, head->detail_k);
    add_product(v, s->dim, features, FEATURES, head->value);
    add_noise(q, s->dim, random_stream(stream, 10), token, head->noise_q);
    add_noise(k, s->dim, random_stream(stream, 11), token, head->noise_k);
    add_noise(v, s->dim, random_stream(stream, 12), token, head->noise_v);
    bool sink = head->has_sink && position[0] == 0;
    for (uint32_t d = 0; sink && d < s->dim; d++) {
        k[d] += head->sink[d];
        v[d] *= 1.0f / SINK_VALUES;
    }
    scale_to(q, s->dim, (double)head->gain * head->gain);
    scale_to(k, s->dim, 1);
    rotate(&g->rotary, position, q);
    rotate(&g->rotary, position, k);
    if (head->outlier > 0)
        add_outlier(head, s->dim, random_normal(random_stream(stream, 13), token), q, k);
}

/* A word: a third of its energy is the content of some place in the video, the rest its own. */
static void text_token(const struct generate *g, const struct head *head, uint64_t stream,
                       uint64_t word, float *q, float *k, float *v)
{
    const struct draft_shape *s = &g->shape;
    uint64_t video = (uint64_t)s->frames * s->height * s->width;
    uint64_t place = random_bits(random_stream(stream, 20), word) % video;
    const float *smooth = g->video->smooth + place * SMOOTH;
    memset(q, 0, s->dim * sizeof *q);
    memset(k, 0, s->dim * sizeof *k);
    memcpy(v, head->value_mean, s->dim * sizeof *v);
    add_product(q, s->dim, smooth, SMOOTH, head->smooth_q);
    add_product(k, s->dim, smooth, SMOOTH, head->smooth_k);
    scale_to(q, s->dim, 1.0 / 3);
    scale_to(k, s->dim, 1.0 / 3);
    add_noise(q, s->dim, random_stream(stream, 21), word, 0.816f);
    add_noise(k, s->dim, random_stream(stream, 22), word, 0.816f);
    add_noise(v, s->dim, random_stream(stream, 23), word, 0.9f);
    scale_to(q, s->dim, (double)head->gain * head->gain);
    scale_to(k, s->dim, 1);
}

void generate_rows(const struct generate *g, uint32_t head, uint64_t first, uint64_t count,
                   float *q, float *k, float *v)
{
    const struct draft_shape *s = &g->shape;
    uint64_t stream = random_stream(g->seed, 1000 + head), dim = s->dim;
    uint64_t end = g->tokens - s->suffix;
    for (uint64_t i = 0; i < count; i++, q += dim, k += dim, v += dim) {
        uint64_t token = first + i;
        if (token < s->prefix)
            text_token(g, &g->heads[head], stream, token, q, k, v);
        else if (token < end)
            video_token(g, &g->heads[head], stream, token - s->prefix, q, k, v);
        else
            text_token(g, &g->heads[head], stream, token - end + s->prefix, q, k, v);
    }
}

/* ---- The whole ---------------------------------------------------------------------------- */

struct fill {
    const struct generate *generate;
    const struct generate_target *target;
    uint32_t head;
};

static void store(const struct generate_target *target, void *to, uint64_t row, const float *from,
                  uint32_t dim)
{
    unsigned char *at = to;
    job_from_f32(target->type, at + row * target->stride * job_type_size(target->type), from, dim);
}

static void fill_chunk(void *argument, uint64_t chunk)
{
    const struct fill *fill = argument;
    const struct generate *g = fill->generate;
    uint32_t dim = g->shape.dim;
    uint64_t end = (chunk + 1) * CHUNK < g->tokens ? (chunk + 1) * CHUNK : g->tokens;
    float q[MOST_DIM], k[MOST_DIM], v[MOST_DIM];
    for (uint64_t t = chunk * CHUNK; t < end; t++) {
        generate_rows(g, fill->head, t, 1, q, k, v);
        store(fill->target, fill->target->q, t, q, dim);
        store(fill->target, fill->target->k, t, k, dim);
        store(fill->target, fill->target->v, t, v, dim);
    }
}

void generate_head(const struct generate *g, uint32_t head, const struct generate_target *target)
{
    struct fill fill = {g, target, head};
    parallel_for(g->threads, (g->tokens + CHUNK - 1) / CHUNK, fill_chunk, &fill);
}

struct generate *generate_create(const struct generate_params *params)
{
    const struct draft_shape *s = &params->shape;
    struct generate *g = program_calloc(1, sizeof *g);
    *g = (struct generate){
        .shape = *s, .regime = params->regime, .seed = params->seed, .threads = params->threads};
    g->tokens = (uint64_t)s->prefix + (uint64_t)s->frames * s->height * s->width + s->suffix;
    g->video = video_create(s->frames, s->height, s->width, g->seed, params->pixels, g->threads);
    make_rotary(g);
    g->heads = program_calloc(s->heads, sizeof *g->heads);
    parallel_for(g->threads, s->heads, make_head, g);
    return g;
}

void generate_destroy(struct generate *g)
{
    if (!g)
        return;
    video_destroy(g->video);
    for (unsigned axis = 0; axis < 3; axis++)
        free(g->rotary.table[axis]);
    free(g->heads);
    free(g);
}

const struct draft_shape *generate_shape(const struct generate *g)
{
    return &g->shape;
}

const struct video *generate_video(const struct generate *g)
{
    return g->video;
}

enum generate_kind generate_kind(uint32_t head)
{
    return (enum generate_kind)(head % KINDS);
}

uint64_t generate_memory(const struct draft_shape *s)
{
    uint64_t token = (VIDEO_FEATURES + VIDEO_SMOOTH) * sizeof(float) +
                     VIDEO_PATCH * VIDEO_PATCH * 3 * (1 + sizeof(float));
    return (uint64_t)s->frames * s->height * s->width * token + s->heads * sizeof(struct head);
}
