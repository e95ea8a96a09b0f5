/* SPDX-License-Identifier: MIT
 *
 * Selection over time. A denoising loop calls attention in every layer at every step, and what a
 * layer looks at changes slowly: lists that were selected at one step serve the next few. Here a
 * schedule (tools/schedule.h has the format; `draft tune` writes such files) says for each layer and
 * step how sparse it is and when its lists are made anew, and each step is compared with dense
 * attention and with lists made on the spot:
 *
 *   denoise [BACKEND [SCHEDULE]]
 *
 * The layers are made up: waves through the video that turn into other waves from step to step. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <draft/draft.h>

#include "../tools/schedule.h"

enum { LAYERS = 2, STEPS = 10, HEADS = 2, DIM = 64, FRAMES = 4, HEIGHT = 16, WIDTH = 24 };
enum { TOKENS = FRAMES * HEIGHT * WIDTH, VALUES = TOKENS * HEADS * DIM, WAVES = 24 };
enum { SIZE = VALUES * sizeof(uint16_t), SKIPPED = 77 };

static const char usual[] = "draft schedule 1\n"
                            "0-1  *  1  0\n"    /* the first steps decide about the picture */
                            "2-*  *  4  0.8\n"  /* four steps with the same lists           */
                            "2-*  0  1  0.5\n"; /* the first layer looks everywhere          */

static void print_log(void *user, draft_log_level level, const char *text)
{
    (void)user;
    (void)level;
    fprintf(stderr, "draft: %s\n", text);
}

/* ---- Made-up layers -------------------------------------------------------------------------- */

static uint16_t to_bf16(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

static double from_bf16(uint16_t value)
{
    uint32_t bits = (uint32_t)value << 16;
    float result;
    memcpy(&result, &bits, sizeof result);
    return result;
}

static uint32_t hash(uint32_t x)
{
    x = (x ^ x >> 16) * 0x7feb352du;
    x = (x ^ x >> 15) * 0x846ca68bu;
    return x ^ x >> 16;
}

/* The same number from -1 to 1 for the same arguments. */
static double number(uint32_t layer, uint32_t wave, uint32_t what)
{
    return hash(hash(hash(layer) + wave) + what) / 2147483648.0 - 1;
}

/* What q and k of one head say about a token: WAVES cosines through the video. Each is turned a
 * little at every step. */
static void features_of(uint32_t layer, uint32_t head, unsigned step, uint32_t token,
                        double out[WAVES])
{
    uint32_t w = token % WIDTH, h = token / WIDTH % HEIGHT, t = token / WIDTH / HEIGHT;
    for (uint32_t i = 0; i < WAVES; i++) {
        uint32_t wave = head * WAVES + i;
        double place = 1.5 * number(layer, wave, 0) * t + 0.7 * number(layer, wave, 1) * h +
                       0.7 * number(layer, wave, 2) * w;
        out[i] = cos(place + 3 * number(layer, wave, 3) + 0.1 * step * number(layer, wave, 4));
    }
}

/* q, k and v of one layer at one step, one after the other: [3, tokens, heads, dim]. */
static void make_layer(uint32_t layer, unsigned step, uint16_t *out)
{
    for (uint32_t token = 0; token < TOKENS; token++)
        for (uint32_t head = 0; head < HEADS; head++) {
            double x[WAVES];
            features_of(layer, head, step, token, x);
            uint16_t *row = out + ((size_t)token * HEADS + head) * DIM;
            for (uint32_t d = 0; d < DIM; d++) {
                double q = x[d % WAVES], v = x[(5 * d + 1) % WAVES] * x[(d + 7) % WAVES];
                double noise = number(layer + 100 * step, token * DIM + d, head);
                row[d] = to_bf16((float)(layer ? 2.2 * q : q));
                row[VALUES + d] = to_bf16((float)(q + 0.3 * noise));
                row[2 * VALUES + d] = to_bf16((float)v);
            }
        }
}

/* ---- Attention ------------------------------------------------------------------------------- */

/* All that the loop works with. */
struct model {
    draft_context *context;
    struct schedule schedule;
    draft_plan *dense, **plans;                   /* one for each line of the schedule */
    struct draft_layout layout;                   /* the same for all: they have one shape */
    draft_address tensors, layers[LAYERS], other; /* workspaces; the last for comparison */
    uint16_t *values, *out, *best, *exact;
};

static draft_status make_plan(struct model *m, const struct schedule_line *line, draft_plan **out,
                              uint64_t *largest)
{
    if (line && line->count != 1 && line->count != HEADS) {
        fprintf(stderr, "a line of the schedule has %zu sparsities, the model has %d heads\n",
                line->count, HEADS);
        return DRAFT_ERROR_ARGUMENT;
    }
    struct draft_plan_params params = {
        .shape = {.frames = FRAMES, .height = HEIGHT, .width = WIDTH, .heads = HEADS, .dim = DIM},
        .type = DRAFT_BF16,
        .tile = {1, 4, 8},
        .sparsity = line && line->count == 1 ? line->sparsity[0] : 0,
        .head_sparsity = line && line->count > 1 ? line->sparsity : NULL,
    };
    draft_status status = draft_plan_create(m->context, &params, out);
    if (status != DRAFT_OK)
        return status;
    draft_plan_layout(*out, &m->layout);
    if (m->layout.size > *largest)
        *largest = m->layout.size;
    return DRAFT_OK;
}

static draft_status set_up(struct model *m)
{
    uint64_t largest = 0;
    m->plans = calloc(m->schedule.count + 1, sizeof *m->plans);
    m->values = calloc(6, SIZE);
    if (!m->plans || !m->values)
        return DRAFT_ERROR_MEMORY;
    m->out = m->values + 3 * VALUES;
    m->best = m->out + VALUES;
    m->exact = m->best + VALUES;
    draft_status status = make_plan(m, NULL, &m->dense, &largest);
    for (size_t i = 0; i < m->schedule.count && status == DRAFT_OK; i++)
        status = make_plan(m, &m->schedule.lines[i], &m->plans[i], &largest);
    if (status == DRAFT_OK)
        status = draft_alloc(m->context, 4 * (size_t)SIZE, &m->tensors);
    for (int i = 0; i < LAYERS && status == DRAFT_OK; i++)
        status = draft_alloc(m->context, largest, &m->layers[i]);
    return status == DRAFT_OK ? draft_alloc(m->context, largest, &m->other) : status;
}

static void tear_down(struct model *m)
{
    for (int i = 0; i < LAYERS; i++)
        draft_free(m->context, m->layers[i]);
    draft_free(m->context, m->other);
    draft_free(m->context, m->tensors);
    for (size_t i = 0; m->plans && i < m->schedule.count; i++)
        draft_plan_destroy(&m->plans[i]);
    draft_plan_destroy(&m->dense);
    free(m->plans);
    free(m->values);
    schedule_free(&m->schedule);
    draft_context_destroy(&m->context);
}

/* stages: DRAFT_POOL and DRAFT_ATTEND work with the lists that the workspace holds, and with pooled
 * keys of these tensors in place of what the lists leave out. */
static draft_status attend(struct model *m, const draft_plan *plan, draft_address workspace,
                           uint32_t stages, uint16_t *out)
{
    struct draft_run_params run = {.q = {.data = m->tensors},
                                   .k = {.data = m->tensors + SIZE},
                                   .v = {.data = m->tensors + 2 * SIZE},
                                   .out = {.data = m->tensors + 3 * SIZE},
                                   .workspace = workspace,
                                   .stages = stages};
    draft_status status = draft_run(plan, &run);
    return status == DRAFT_OK ? draft_read(m->context, out, run.out.data, SIZE) : status;
}

/* ---- Comparison ------------------------------------------------------------------------------ */

/* Relative L2 distance. */
static double error_of(const uint16_t *got, const uint16_t *want)
{
    double wrong = 0, all = 0;
    for (size_t i = 0; i < VALUES; i++) {
        double x = from_bf16(want[i]), e = from_bf16(got[i]) - x;
        wrong += e * e;
        all += x * x;
    }
    return sqrt(wrong / all);
}

/* Pairs that both lists of a row keep; they ascend. */
static size_t common(const uint16_t *a, uint32_t a_count, const uint16_t *b, uint32_t b_count)
{
    size_t n = 0;
    for (uint32_t i = 0, j = 0; i < a_count && j < b_count;) {
        n += a[i] == b[j];
        uint16_t x = a[i], y = b[j];
        i += x <= y;
        j += y <= x;
    }
    return n;
}

/* Pairs that the lists of two workspaces share, of those that either has (the Jaccard index). */
static draft_status likeness(struct model *m, draft_address a, draft_address b, double *out)
{
    size_t blocks = m->layout.blocks, rows = HEADS * blocks;
    size_t counts = rows * sizeof(uint32_t), lists = rows * blocks * sizeof(uint16_t);
    uint32_t *count = malloc(2 * counts);
    uint16_t *list = malloc(2 * lists);
    draft_status status = count && list ? DRAFT_OK : DRAFT_ERROR_MEMORY;
    for (int i = 0; i < 2 && status == DRAFT_OK; i++) {
        draft_address from = i ? b : a;
        status = draft_read(m->context, count + (size_t)i * rows, from + m->layout.counts, counts);
        if (status == DRAFT_OK)
            status = draft_read(m->context, list + (size_t)i * rows * blocks,
                                from + m->layout.lists, lists);
    }
    size_t both = 0, all = 0;
    for (size_t row = 0; row < rows && status == DRAFT_OK; row++) {
        size_t n = common(list + row * blocks, count[row], list + (rows + row) * blocks,
                          count[rows + row]);
        both += n;
        all += count[row] + count[rows + row] - n;
    }
    *out = all ? (double)both / (double)all : 1;
    free(count);
    free(list);
    return status;
}

/* ---- The loop -------------------------------------------------------------------------------- */

/* One layer at one step; false where lists that were just made are not what they should be. */
static draft_status layer_step(struct model *m, uint32_t layer, unsigned step, bool *right)
{
    const struct schedule_line *line = schedule_find(&m->schedule, step, layer);
    bool fresh = !line || schedule_refreshes(line, step);
    const draft_plan *plan = line ? m->plans[line - m->schedule.lines] : m->dense;
    make_layer(layer, step, m->values);
    draft_status status = draft_write(m->context, m->tensors, m->values, 3 * (size_t)SIZE);
    if (status == DRAFT_OK)
        status = attend(m, m->dense, m->other, 0, m->exact);
    if (status == DRAFT_OK)
        status = attend(m, plan, m->layers[layer], fresh ? 0 : DRAFT_POOL | DRAFT_ATTEND, m->out);
    if (status == DRAFT_OK)
        status = attend(m, plan, m->other, 0, m->best);
    double alike = 1;
    if (status == DRAFT_OK)
        status = likeness(m, m->layers[layer], m->other, &alike);
    if (status != DRAFT_OK)
        return status;
    double error = error_of(m->out, m->exact), least = error_of(m->best, m->exact);
    printf("%4u  %5u  %-6s  %8.4f  %11.4f  %9.1f %%\n", step, layer, fresh ? "made" : "reused",
           error, least, 100 * alike);
    *right = *right && (!fresh || (alike == 1 && error == least));
    return DRAFT_OK;
}

static bool read_schedule(const char *path, struct schedule *out)
{
    char why[SCHEDULE_ERROR];
    FILE *file = path ? fopen(path, "r") : tmpfile();
    if (!file) {
        perror(path ? path : "a temporary file");
        return false;
    }
    if (!path) {
        fputs(usual, file);
        rewind(file);
    }
    bool ok = schedule_read(file, out, why);
    fclose(file);
    if (!ok)
        fprintf(stderr, "%s: %s\n", path ? path : "schedule", why);
    return ok;
}

int main(int argc, char **argv)
{
    struct draft_context_params device = {
        .backend = argc > 1 && *argv[1] ? argv[1] : NULL, /* NULL: the best there is */
        .log = {.message = print_log, .level = DRAFT_LOG_WARN},
    };
    struct model model = {0};
    bool right = true;
    if (!read_schedule(argc > 2 ? argv[2] : NULL, &model.schedule))
        return 2;
    draft_status status = draft_context_create(&device, &model.context);
    if (status == DRAFT_OK)
        status = set_up(&model);
    if (status == DRAFT_OK)
        printf("step  layer  lists      error  made afresh  same pairs\n");
    for (unsigned step = 0; step < STEPS && status == DRAFT_OK; step++)
        for (uint32_t layer = 0; layer < LAYERS && status == DRAFT_OK; layer++)
            status = layer_step(&model, layer, step, &right);
    tear_down(&model);
    if (status != DRAFT_OK)
        fprintf(stderr, "%s\n", draft_status_name(status));
    return status == DRAFT_ERROR_NO_DEVICE ? SKIPPED : status != DRAFT_OK || !right;
}
