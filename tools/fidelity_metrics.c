/* SPDX-License-Identifier: MIT
 *
 * From rows to errors, from heads to one number, and between the points of a sweep. */
#include <math.h>
#include <stdlib.h>

#include "fidelity_bench.h"

enum { MOST_DIM = 128 };

void fidelity_judge(const struct fidelity_exact *e, draft_type type, const void *out,
                    struct fidelity_sums *sums)
{
    float row[MOST_DIM];
    size_t size = (size_t)e->dim * job_type_size(type);
    for (uint32_t r = 0; r < e->rows; r++) {
        job_to_f32(type, row, (const unsigned char *)out + e->token[r] * size, e->dim);
        for (uint32_t d = 0; d < e->dim; d++) {
            double a = (double)row[d], b = e->out[(size_t)r * e->dim + d];
            sums->not_finite += !isfinite(a);
            sums->difference += (a - b) * (a - b);
            sums->reference += b * b;
            sums->square += a * a;
            sums->product += a * b;
        }
    }
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static int by_value_f32(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

/* NaN counts as endless, so that it sorts last and shows. */
static double relative(double difference, double reference)
{
    double value = sqrt(difference / reference);
    return isnan(value) ? INFINITY : value;
}

static void summarise_errors(struct fidelity_point *p, uint32_t heads)
{
    double *errors = program_calloc(heads, sizeof *errors);
    p->worst = -1;
    for (uint32_t h = 0; h < heads; h++) {
        errors[h] = relative(p->heads[h].difference, p->heads[h].reference);
        if (errors[h] > p->worst) {
            p->worst = errors[h];
            p->worst_head = h;
        }
    }
    qsort(errors, heads, sizeof *errors, by_value);
    p->median = heads % 2 ? errors[heads / 2] : 0.5 * (errors[heads / 2 - 1] + errors[heads / 2]);
    p->p90 = errors[(uint32_t)ceil(0.9 * heads) - 1];
    free(errors);
}

void fidelity_summarise(struct fidelity_point *p, uint32_t heads)
{
    struct fidelity_sums all = {0};
    for (uint32_t h = 0; h < heads; h++) {
        const struct fidelity_sums *s = &p->heads[h];
        all.difference += s->difference;
        all.reference += s->reference;
        all.square += s->square;
        all.product += s->product;
        all.work += s->work / heads;
        all.density += s->density / heads;
        all.starved += s->starved;
        all.not_finite += s->not_finite;
    }
    p->relative = relative(all.difference, all.reference);
    p->cosine = all.square > 0 ? all.product / sqrt(all.square * all.reference) : 0;
    p->work = all.work;
    p->density = all.density;
    p->starved = all.starved;
    p->not_finite = all.not_finite;
    summarise_errors(p, heads);
    double sum = 0;
    for (size_t i = 0; i < p->recall_count; i++)
        sum += (double)p->recalls[i];
    if (p->recall_count)
        qsort(p->recalls, p->recall_count, sizeof *p->recalls, by_value_f32);
    p->recall = p->recall_count ? sum / (double)p->recall_count : 1;
    p->recall_p5 = p->recall_count ? (double)p->recalls[p->recall_count / 20] : 1;
}

/* ---- Between points ------------------------------------------------------------------------ */

static double pick(const struct fidelity_point *p, enum fidelity_figure figure)
{
    return figure == FIDELITY_WORST ? p->worst : p->relative;
}

static double between(double x, double x0, double x1, double y0, double y1)
{
    double part = x1 == x0 ? 0 : log(x / x0) / log(x1 / x0);
    return exp(log(y0) + part * (log(y1) - log(y0)));
}

/* A little beyond the ends of the sweep still counts as its end: budgets are whole blocks. */
static const double SLACK = 1.03;

static double clamp(double x, double low, double high)
{
    if (x < low && x * SLACK >= low)
        return low;
    return x > high && x <= high * SLACK ? high : x;
}

double fidelity_error_at(const struct fidelity_point *p, size_t count, double work,
                         enum fidelity_figure figure)
{
    for (size_t i = 0; i + 1 < count; i++) { /* from much work to little */
        double high = i ? p[i].work : p[i].work * SLACK;
        double low = i + 2 < count ? p[i + 1].work : p[i + 1].work / SLACK;
        if (work <= high && work >= low)
            return between(clamp(work, p[i + 1].work, p[i].work), p[i].work, p[i + 1].work,
                           pick(&p[i], figure), pick(&p[i + 1], figure));
    }
    return NAN;
}

double fidelity_work_at(const struct fidelity_point *p, size_t count, double error)
{
    for (size_t i = 0; i + 1 < count; i++)
        if (error >= p[i].relative && error <= p[i + 1].relative)
            return between(error, p[i].relative, p[i + 1].relative, p[i].work, p[i + 1].work);
    return NAN;
}
