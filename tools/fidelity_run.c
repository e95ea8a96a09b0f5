/* SPDX-License-Identifier: MIT
 *
 * One head through all methods. What is measured is what the library computes: pool, score and
 * select run for the whole head; then the rows that are not judged get empty lists, which spares
 * their time, and attend runs. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "fidelity_bench.h"
#include "random.h"

/* One head in use. */
struct session {
    struct fidelity_bench *bench;
    struct fidelity_set *set;
    uint32_t number;
    draft_context *context;
    struct fidelity_head head;
    struct fidelity_blocks tilings[FIDELITY_TILES];
    unsigned tiles;
    struct fidelity_exact exact;
    void *q, *k, *v, *out; /* of the type that the buffers have */
    struct job_buffers buffers;
};

enum { POOL, SCORE, SELECT, ATTEND };

/* ---- Tilings ------------------------------------------------------------------------------- */

static int find_tiling(const struct session *s, struct draft_tile tile)
{
    for (unsigned m = 0; m < s->tiles; m++) {
        struct draft_tile other = s->tilings[m].layout.tile;
        if (tile.t == other.t && tile.h == other.h && tile.w == other.w)
            return (int)m;
    }
    return -1;
}

/* That of the methods first, then the paper's. */
static draft_status make_tilings(struct session *s)
{
    static const draft_rule rules[] = {DRAFT_RULE_HEAD, DRAFT_RULE_PAPER};
    for (unsigned r = 0; r < sizeof rules / sizeof *rules; r++) {
        struct draft_plan_params params = {
            .shape = s->set->data.shape, .type = s->bench->type, .rule = rules[r], .sparsity = 0.5};
        if (params.rule != DRAFT_RULE_PAPER)
            params.tile = s->bench->tile;
        struct draft_layout layout;
        draft_plan *plan = NULL;
        draft_status status = draft_plan_create(s->context, &params, &plan);
        if (status)
            return status;
        draft_plan_layout(plan, &layout);
        draft_plan_destroy(&plan);
        if (find_tiling(s, layout.tile) < 0)
            fidelity_blocks_create(&params.shape, &layout, &s->tilings[s->tiles++]);
    }
    s->set->layout = s->tilings[0].layout;
    return DRAFT_OK;
}

/* ---- Buffers ------------------------------------------------------------------------------- */

static void drop_buffers(struct session *s)
{
    job_buffers_destroy(&s->buffers);
    free(s->q);
    free(s->k);
    free(s->v);
    free(s->out);
    s->q = s->k = s->v = s->out = NULL;
}

static draft_status make_buffers(struct session *s, draft_type type)
{
    const struct draft_shape *shape = &s->set->data.shape;
    size_t count = (size_t)s->tilings[0].layout.tokens * shape->dim, size = job_type_size(type);
    s->q = program_calloc(count, size);
    s->k = program_calloc(count, size);
    s->v = program_calloc(count, size);
    s->out = program_calloc(count, size);
    job_from_f32(type, s->q, s->head.q, count);
    job_from_f32(type, s->k, s->head.k, count);
    job_from_f32(type, s->v, s->head.v, count);
    return job_buffers_create(s->context, shape, type, s->q, s->k, s->v, NULL, &s->buffers);
}

/* ---- One method at one point --------------------------------------------------------------- */

static draft_status own_lists(const struct session *s, const struct fidelity_method *m,
                              const struct job *job, double sparsity)
{
    const struct draft_layout *l = &job->layout;
    uint32_t *counts = program_calloc(l->blocks, sizeof *counts);
    uint16_t *lists = program_calloc((size_t)l->blocks * l->blocks, sizeof *lists);
    uint32_t budget = (uint32_t)fmax(round((1 - sparsity) * l->video_blocks), 1);
    fidelity_lists(m->selector, &s->exact, l, budget,
                   random_stream(s->set->data.seed, 7000 + s->number), counts, lists);
    draft_status status = draft_lists_write(job->plan, job->workspace, counts, lists);
    free(counts);
    free(lists);
    return status;
}

/* All stages up to select, by the library's probe. */
static draft_status select_probed(const struct session *s, const struct job *job)
{
    struct draft_probe found;
    struct draft_probe_params params = {.seed = s->set->data.seed + s->number};
    struct draft_run_params run = {.q.data = s->buffers.q,
                                   .k.data = s->buffers.k,
                                   .v.data = s->buffers.v,
                                   .workspace = job->workspace};
    return draft_probe_run(job->plan, &run, &params, &found);
}

static draft_status make_lists(const struct session *s, const struct fidelity_method *m,
                               const struct job *job, double sparsity)
{
    if (m->tail == DRAFT_TAIL_FITTED && !m->one)
        return select_probed(s, job);
    static const float one = 1;
    draft_status status = job_run_stage(job, &s->buffers, POOL, NULL);
    if (!status && m->one)
        status = draft_factors_write(job->plan, job->workspace, &one);
    if (!status)
        status = job_run_stage(job, &s->buffers, SCORE, NULL);
    if (!status && m->selector != FIDELITY_LIBRARY)
        return own_lists(s, m, job, sparsity);
    return status ? status : job_run_stage(job, &s->buffers, SELECT, NULL);
}

/* Share of each judged row's mass in the blocks that its list holds. */
static void measure_recall(const struct session *s, const struct fidelity_blocks *tiling,
                           const float *mass, const uint32_t *counts, const uint16_t *lists,
                           struct fidelity_sums *sums, float *recalls)
{
    uint32_t blocks = tiling->layout.blocks;
    for (uint32_t r = 0; r < s->exact.rows; r++) {
        uint32_t row = tiling->block_of[s->exact.token[r]];
        double sum = 0;
        for (uint32_t n = 0; n < counts[row]; n++)
            sum += (double)mass[(size_t)r * blocks + lists[(size_t)row * blocks + n]];
        recalls[r] = (float)fmin(sum, 1);
        sums->recall += fmin(sum, 1) / s->exact.rows;
    }
}

/* No pooled keys either for the rows that nobody looks at: as if all their pairs were kept. */
static draft_status skip_tails(const struct job *job, const uint32_t *looked_at)
{
    const struct draft_layout *l = &job->layout;
    size_t count = (size_t)l->video_blocks * l->bias_stride;
    if (!l->bias)
        return DRAFT_OK;
    float *bias = program_calloc(count, sizeof *bias);
    draft_status status =
        draft_read(job->context, bias, job->workspace + l->bias, count * sizeof *bias);
    for (size_t i = 0; i < count; i++)
        if (!looked_at[l->prefix_blocks + i / l->bias_stride])
            bias[i] = -fabsf(bias[i]);
    if (!status)
        status = draft_write(job->context, job->workspace + l->bias, bias, count * sizeof *bias);
    free(bias);
    return status;
}

/* Empty the lists of rows that nobody looks at, after the recall of the others was taken. */
static draft_status keep_judged(const struct session *s, const struct job *job,
                                struct fidelity_sums *sums, float *recalls)
{
    const struct draft_layout *l = &job->layout;
    int m = find_tiling(s, l->tile);
    const struct fidelity_blocks *tiling = &s->tilings[m];
    size_t counts_size = l->blocks * sizeof(uint32_t);
    uint32_t *counts = program_calloc(1, counts_size), *judged = program_calloc(1, counts_size);
    uint32_t *looked_at = program_calloc(1, counts_size);
    size_t lists_size = (size_t)l->blocks * l->blocks * sizeof(uint16_t);
    uint16_t *lists = program_calloc(1, lists_size);
    draft_status status = draft_read(job->context, counts, job->workspace + l->counts, counts_size);
    if (!status)
        status = draft_read(job->context, lists, job->workspace + l->lists, lists_size);
    for (uint32_t r = 0; r < s->exact.rows; r++) {
        uint32_t row = tiling->block_of[s->exact.token[r]];
        judged[row] = counts[row];
        looked_at[row] = 1;
    }
    if (!status) {
        measure_recall(s, tiling, s->exact.mass[m], counts, lists, sums, recalls);
        status = draft_write(job->context, job->workspace + l->counts, judged, counts_size);
    }
    if (!status)
        status = skip_tails(job, looked_at);
    free(lists);
    free(looked_at);
    free(judged);
    free(counts);
    return status;
}

/* Own lists hold the judged rows alone: their density is that of these rows. */
static draft_status measure_work(const struct session *s, const struct fidelity_method *m,
                                 const struct job *job, struct fidelity_sums *sums)
{
    const struct draft_layout *l = &job->layout;
    struct draft_density density;
    draft_status status = draft_density_read(job->plan, job->workspace, &density);
    if (status)
        return status;
    sums->density = density.video;
    sums->work = density.work;
    if (m->selector != FIDELITY_LIBRARY) {
        const struct draft_shape *shape = &s->set->data.shape;
        double video = (double)shape->frames * shape->height * shape->width / (double)l->tokens;
        sums->density *= (double)l->video_blocks / s->exact.blocks;
        sums->work = 1 - (1 - sums->density) * video * video;
    }
    sums->work += fidelity_extra_work(m, &s->set->data.shape, l);
    sums->starved =
        m->selector == FIDELITY_LIBRARY && m->tail <= DRAFT_TAIL_DROP ? density.empty_rows : 0;
    return DRAFT_OK;
}

static draft_status run_point(const struct session *s, const struct fidelity_method *m,
                              draft_type type, double sparsity, struct fidelity_sums *sums,
                              float *recalls)
{
    struct job job = {0};
    struct draft_plan_params params =
        fidelity_params(m, &s->set->data.shape, &s->set->layout, type, sparsity);
    if (params.rule != DRAFT_RULE_PAPER)
        params.tile = s->bench->tile;
    draft_status status = job_create(s->context, &params, &job);
    if (status)
        return status;
    *sums = (struct fidelity_sums){0};
    status = make_lists(s, m, &job, params.sparsity);
    if (!status)
        status = measure_work(s, m, &job, sums);
    if (!status)
        status = keep_judged(s, &job, sums, recalls);
    if (!status)
        status = job_run_stage(&job, &s->buffers, ATTEND, NULL);
    if (!status)
        status = job_buffers_read(&s->buffers, s->out, NULL);
    if (!status)
        fidelity_judge(&s->exact, type, s->out, sums);
    job_destroy(&job);
    return status;
}

/* ---- All of it ----------------------------------------------------------------------------- */

/* The point's row of recalls for this head. */
static float *recalls_of(const struct session *s, struct fidelity_point *p)
{
    p->recalls = realloc(p->recalls, (p->recall_count + s->exact.rows) * sizeof *p->recalls);
    if (!p->recalls)
        abort();
    p->recall_count += s->exact.rows;
    return p->recalls + p->recall_count - s->exact.rows;
}

static draft_status run_methods(struct session *s, struct program_progress *progress,
                                uint64_t *done)
{
    struct fidelity_bench *bench = s->bench;
    draft_status status = make_buffers(s, bench->type);
    for (unsigned m = 0; m < bench->method_count && !status; m++) {
        program_progress_set(progress, (*done)++, bench->methods[m].name);
        for (size_t i = 0; i < bench->points && !status; i++) {
            struct fidelity_point *p = &s->set->points[m][i];
            status = run_point(s, &bench->methods[m], bench->type, bench->nominal[i],
                               &p->heads[s->number], recalls_of(s, p));
        }
    }
    drop_buffers(s);
    return status;
}

/* Dense attention by the library, in both half types. */
static draft_status run_noise(struct session *s)
{
    static const struct fidelity_method dense = {.name = "dense", .rule = DRAFT_RULE_HEAD};
    draft_status status = DRAFT_OK;
    for (draft_type type = DRAFT_F16; type <= DRAFT_BF16 && !status; type++) {
        struct fidelity_point *p = &s->set->noise[type - 1];
        status = make_buffers(s, type);
        if (!status)
            status = run_point(s, &dense, type, 0, &p->heads[s->number], recalls_of(s, p));
        drop_buffers(s);
    }
    return status;
}

static void measure(struct session *s)
{
    enum { QUERIES = 48 };
    const struct draft_shape *shape = &s->set->data.shape;
    size_t skip = (size_t)shape->prefix * shape->dim;
    generate_measure_tensors(shape, s->head.q + skip, s->head.k + skip, s->number, QUERIES,
                             &s->set->statistics[s->number]);
}

draft_status fidelity_run_head(struct fidelity_bench *bench, struct fidelity_set *set,
                               uint32_t head, draft_context *context,
                               struct program_progress *progress, uint64_t *done)
{
    struct session s = {.bench = bench, .set = set, .number = head, .context = context};
    const struct draft_shape *shape = &set->data.shape;
    float scale = (float)(1 / sqrt(shape->dim));
    fidelity_head_create(&set->data, head, &s.head);
    set->kinds[head] = s.head.kind;
    measure(&s);
    draft_status status = bench->method_count ? make_tilings(&s) : DRAFT_OK;
    if (!status && bench->method_count) {
        fidelity_exact_create(&set->data, &s.head, head, s.tilings, s.tiles, bench->judged, scale,
                              &s.exact);
        set->rows = s.exact.rows;
        status = run_methods(&s, progress, done);
    }
    if (!status && bench->method_count)
        status = run_noise(&s);
    fidelity_exact_destroy(&s.exact);
    for (unsigned m = 0; m < s.tiles; m++)
        fidelity_blocks_destroy(&s.tilings[m]);
    fidelity_head_destroy(&s.head);
    return status;
}
