/* SPDX-License-Identifier: MIT
 *
 * What `draft fidelity` says: report.md, and report.json. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "fidelity_bench.h"
#include "markdown.h"

/* The sparsities of the paper's rule whose work all methods are given, and the share of its error
 * that the library is to reach there. */
static const double targets[] = {0.75, 0.90};
enum { TARGETS = sizeof targets / sizeof *targets };
static const double TARGET_RATIO = 0.5;

static const char *const layer_names[GENERATE_LAYERS] = {"middle", "last", "first"};

/* ---- What the data is like ------------------------------------------------------------------- */

static double statistic(const struct fidelity_set *set, uint32_t head,
                        const struct generate_published *p)
{
    double value;
    memcpy(&value, (const char *)&set->statistics[head] + p->offset, sizeof value);
    return value;
}

struct range {
    double mean, least, most;
};

static struct range over_heads(const struct fidelity_set *set, const struct generate_published *p)
{
    struct range r = {0, INFINITY, -INFINITY};
    for (uint32_t h = 0; h < set->data.heads; h++) {
        double value = statistic(set, h, p);
        r.mean += value / set->data.heads;
        r.least = fmin(r.least, value);
        r.most = fmax(r.most, value);
    }
    return r;
}

void fidelity_write_statistics(const struct fidelity_set *set, FILE *file)
{
    enum generate_layer layer = generate_layer(set->data.regime);
    struct markdown_table *table =
        markdown_table_create("statistic\t>mean of heads\t>least\t>most\tpublished\tmean is");
    for (const struct generate_published *p = generate_published; p->name; p++) {
        struct range r = over_heads(set, p);
        double low = p->band[layer].low, high = p->band[layer].high;
        const char *where = isinf(low)      ? "nothing published"
                            : r.mean < low  ? "**below**"
                            : r.mean > high ? "**above**"
                                            : "inside";
        markdown_table_add(table, "%s\t%.3g\t%.3g\t%.3g\t%s\t%s", p->name, r.mean, r.least, r.most,
                           p->range, set->data.generate ? where : "");
    }
    if (set->data.generate)
        fprintf(file, "Compared with %s layers of real models, `%s`:\n\n", layer_names[layer],
                set->data.name);
    else
        fprintf(file, "`%s`:\n\n", set->data.name);
    markdown_table_write(table, file);
}

/* ---- Results --------------------------------------------------------------------------------- */

/* The index of a point; the number of points where the sweep lacks it. */
static size_t point_at(const struct fidelity_bench *b, double nominal)
{
    size_t i = 0;
    while (i < b->points && fabs(b->nominal[i] - nominal) > 1e-9)
        i++;
    return i;
}

static void write_points(const struct fidelity_bench *b, const struct fidelity_set *set,
                         double nominal, FILE *file)
{
    size_t i = point_at(b, nominal);
    if (i == b->points)
        return;
    struct markdown_table *table = markdown_table_create(
        "method\t>work\t>kept\t>error\t>median\t>p90\t>worst head\t>cosine\t>recall\t>5th "
        "pct\t>starved\t>NaN, Inf");
    for (unsigned m = 0; m < b->method_count; m++) {
        const struct fidelity_point *p = &set->points[m][i];
        markdown_table_add(
            table,
            "%s\t%.2f %%\t%.2f %%\t%.4f\t%.4f\t%.4f\t%.4f (%s)\t%.4f\t%.1f %%\t%.1f %%\t%.2f "
            "%%\t%llu",
            b->methods[m].name, 100 * p->work, 100 * p->density, p->relative, p->median, p->p90,
            p->worst, set->kinds[p->worst_head], p->cosine, 100 * p->recall, 100 * p->recall_p5,
            100 * (double)p->starved / ((double)set->layout.video_blocks * set->data.heads),
            (unsigned long long)p->not_finite);
    }
    fprintf(file, "`%s`, budgets of the paper's rule at %g %% sparsity:\n\n", set->data.name,
            100 * nominal);
    markdown_table_write(table, file);
}

/* Pooled error, worst head and work of a method against the paper's rule at one of its points. */
struct compared {
    double error, worst, work, ratio, worst_ratio, work_ratio;
};

static struct compared compare(const struct fidelity_bench *b, const struct fidelity_set *set,
                               unsigned method, size_t i)
{
    const struct fidelity_point *paper = &set->points[0][i], *points = set->points[method];
    struct compared c = {
        .error = fidelity_error_at(points, b->points, paper->work, FIDELITY_POOLED),
        .worst = fidelity_error_at(points, b->points, paper->work, FIDELITY_WORST),
        .work = fidelity_work_at(points, b->points, paper->relative),
    };
    c.ratio = c.error / paper->relative;
    c.worst_ratio = c.worst / paper->worst;
    c.work_ratio = c.work / paper->work;
    return c;
}

/* "0.123", or "-" outside the sweep. */
struct cell {
    char text[24];
};

static struct cell number(int digits, double value)
{
    struct cell c = {"-"};
    if (isfinite(value))
        snprintf(c.text, sizeof c.text, "%.*f", digits, value);
    return c;
}

/* Work that gives the paper's error; where the cheapest point is better already, a bound. */
static struct cell work_cell(const struct fidelity_bench *b, const struct fidelity_set *set,
                             unsigned method, const struct compared *c,
                             const struct fidelity_point *paper)
{
    const struct fidelity_point *last = &set->points[method][b->points - 1];
    struct cell cell = number(2, c->work_ratio);
    if (isfinite(c->work_ratio))
        snprintf(cell.text, sizeof cell.text, "%.2f x", c->work_ratio);
    else if (last->relative < paper->relative)
        snprintf(cell.text, sizeof cell.text, "< %.2f x", last->work / paper->work);
    return cell;
}

static void write_equal(const struct fidelity_bench *b, double nominal, FILE *file)
{
    size_t i = point_at(b, nominal);
    char header[1024] = "method";
    if (i == b->points)
        return;
    for (size_t s = 0; s < b->set_count; s++)
        snprintf(header + strlen(header), sizeof header - strlen(header),
                 "\t>%s\t>worst\t>same error", b->sets[s].data.name);
    struct markdown_table *table = markdown_table_create(header);
    for (unsigned m = 0; m < b->method_count; m++) {
        char row[512];
        snprintf(row, sizeof row, "%s", b->methods[m].name);
        for (size_t s = 0; s < b->set_count; s++) {
            struct compared c = compare(b, &b->sets[s], m, i);
            const struct fidelity_point *paper = &b->sets[s].points[0][i];
            snprintf(row + strlen(row), sizeof row - strlen(row), "\t%s (%s)\t%s\t%s",
                     number(3, c.error).text, number(2, c.ratio).text,
                     number(2, c.worst_ratio).text, work_cell(b, &b->sets[s], m, &c, paper).text);
        }
        markdown_table_add(table, "%s", row);
    }
    fprintf(file, "### Work of the paper's rule at %g %% sparsity\n\n", 100 * nominal);
    markdown_table_write(table, file);
}

/* ---- Targets --------------------------------------------------------------------------------- */

/* The least error of all methods that drop what they leave out, at this work. */
static double best_drop(const struct fidelity_bench *b, const struct fidelity_set *set, double work)
{
    double least = NAN;
    for (unsigned m = 1; m < b->method_count; m++)
        if (b->methods[m].role == FIDELITY_METHOD && b->methods[m].tail <= DRAFT_TAIL_DROP)
            least =
                fmin(least, fidelity_error_at(set->points[m], b->points, work, FIDELITY_POOLED));
    return least;
}

/* How a method does over all data sets, at the two works. */
struct score {
    unsigned cells, half, worst_head, drop;
    double ratio, worst_ratio, drop_ratio; /* the largest of each */
    char misses[240];
};

static void add_cell(const struct fidelity_bench *b, const struct fidelity_set *set, unsigned m,
                     double nominal, struct score *score)
{
    size_t i = point_at(b, nominal);
    if (i == b->points)
        return;
    struct compared c = compare(b, set, m, i);
    double drop = c.error / best_drop(b, set, set->points[0][i].work);
    size_t used = strlen(score->misses);
    score->cells++;
    score->half += c.ratio <= TARGET_RATIO;
    score->worst_head += c.worst_ratio <= 1;
    score->drop += drop <= 1;
    score->ratio = fmax(score->ratio, c.ratio);
    score->worst_ratio = fmax(score->worst_ratio, c.worst_ratio);
    score->drop_ratio = fmax(score->drop_ratio, drop);
    if (!(c.ratio <= TARGET_RATIO))
        snprintf(score->misses + used, sizeof score->misses - used, "%s%s %g (%s)",
                 used ? ", " : "", set->data.name, 100 * nominal, number(3, c.ratio).text);
}

static void write_targets(const struct fidelity_bench *b, FILE *file)
{
    struct markdown_table *table = markdown_table_create(
        "method\t>half\t>largest ratio\t>worst head no worse\t>largest ratio\t>no worse than "
        "dropping\t>largest ratio\tmore than half at");
    for (unsigned m = 1; m < b->method_count; m++) {
        struct score s = {0};
        if (b->methods[m].role != FIDELITY_METHOD)
            continue;
        for (size_t i = 0; i < b->set_count; i++)
            for (unsigned t = 0; t < TARGETS; t++)
                add_cell(b, &b->sets[i], m, targets[t], &s);
        markdown_table_add(table, "%s\t%u of %u\t%s\t%u of %u\t%s\t%u of %u\t%s\t%s",
                           b->methods[m].name, s.half, s.cells, number(2, s.ratio).text,
                           s.worst_head, s.cells, number(2, s.worst_ratio).text, s.drop, s.cells,
                           number(2, s.drop_ratio).text, s.misses);
    }
    fputs("## Targets\n\nAt the work of the paper's rule at 75 and 90 % sparsity, over all data "
          "sets: "
          "at most half its pooled\nerror; no worst head above its worst head; no error above the "
          "least of the methods that drop.\n\n",
          file);
    markdown_table_write(table, file);
}

/* ---- Markdown -------------------------------------------------------------------------------- */

static void write_head(const struct fidelity_bench *b, FILE *file)
{
    const struct fidelity_set *set = &b->sets[0];
    const struct draft_shape *s = &set->data.shape;
    fprintf(file,
            "# Fidelity\n\n    %s\n\n"
            "%u text + %ux%ux%u video + %u text tokens, %u heads of %u, %s, seed %llu; %u random "
            "query blocks of each\nhead are judged (%u rows), the same for every method; tile "
            "%ux%ux%u, %u video blocks. %.0f s.\n\n",
            b->command, s->prefix, s->frames, s->height, s->width, s->suffix, set->data.heads,
            s->dim, job_type_names[b->type - 1], (unsigned long long)b->seed, b->judged, set->rows,
            set->layout.tile.t, set->layout.tile.h, set->layout.tile.w, set->layout.video_blocks,
            b->seconds);
    fputs(
        "Errors are relative L2 against dense attention (products in f32, sums in f64). Work is a "
        "share of dense\nattention's multiplications: kept pairs, pooled keys, means and scores, "
        "a share of a probe. Every\nmethod gets the work of the paper's rule: what it spends "
        "elsewhere it keeps fewer pairs. Rule `mass`\nhas masses in place of budgets: read it by "
        "its work.\n\n",
        file);
}

static void write_noise(const struct fidelity_bench *b, FILE *file)
{
    struct markdown_table *table =
        markdown_table_create("data\t>dense f16\t>worst head\t>dense bf16\t>worst head");
    for (size_t s = 0; s < b->set_count; s++) {
        const struct fidelity_point *n = b->sets[s].noise;
        markdown_table_add(table, "%s\t%.1e\t%.1e\t%.1e\t%.1e", b->sets[s].data.name,
                           n[DRAFT_F16 - 1].relative, n[DRAFT_F16 - 1].worst,
                           n[DRAFT_BF16 - 1].relative, n[DRAFT_BF16 - 1].worst);
    }
    fputs("## Noise floor\n\nDense attention by the library, inputs rounded to the type.\n\n",
          file);
    markdown_table_write(table, file);
}

static void write_markdown(const struct fidelity_bench *b, FILE *file)
{
    write_head(b, file);
    write_targets(b, file);
    fputs("## At equal work\n\nPooled error, and in brackets its ratio to the paper's; the worst "
          "head's ratio; the work that gives\nthe paper's pooled error, relative to the paper's. "
          "Read between the points of the sweep.\n\n",
          file);
    for (unsigned t = 0; t < TARGETS; t++)
        write_equal(b, targets[t], file);
    fputs("## All figures\n\n", file);
    for (size_t s = 0; s < b->set_count; s++)
        for (unsigned t = 0; t < TARGETS; t++)
            write_points(b, &b->sets[s], targets[t], file);
    write_noise(b, file);
    fputs("## Data\n\n", file);
    for (size_t s = 0; s < b->set_count; s++)
        fidelity_write_statistics(&b->sets[s], file);
}

/* ---- JSON ------------------------------------------------------------------------------------ */

/* JSON has no infinity. */
static void add_number(cJSON *json, const char *name, double value)
{
    if (isfinite(value))
        cJSON_AddNumberToObject(json, name, value);
    else
        cJSON_AddNullToObject(json, name);
}

static cJSON *point_json(const struct fidelity_point *p, uint32_t heads)
{
    cJSON *json = cJSON_CreateObject();
    add_number(json, "sparsity_of_paper", p->nominal);
    add_number(json, "work", p->work);
    add_number(json, "density", p->density);
    add_number(json, "relative", p->relative);
    add_number(json, "median", p->median);
    add_number(json, "p90", p->p90);
    add_number(json, "worst", p->worst);
    add_number(json, "worst_head", p->worst_head);
    add_number(json, "cosine", p->cosine);
    add_number(json, "recall", p->recall);
    add_number(json, "recall_p5", p->recall_p5);
    add_number(json, "starved_query_blocks", (double)p->starved);
    add_number(json, "not_finite", (double)p->not_finite);
    cJSON *array = cJSON_AddArrayToObject(json, "heads");
    for (uint32_t h = 0; h < heads; h++)
        cJSON_AddItemToArray(
            array, cJSON_CreateNumber(sqrt(p->heads[h].difference / p->heads[h].reference)));
    return json;
}

static cJSON *set_json(const struct fidelity_bench *b, const struct fidelity_set *set)
{
    cJSON *json = cJSON_CreateObject();
    cJSON_AddStringToObject(json, "name", set->data.name);
    cJSON *heads = cJSON_AddArrayToObject(json, "heads");
    for (uint32_t h = 0; h < set->data.heads; h++) {
        cJSON *head = cJSON_CreateObject();
        cJSON_AddStringToObject(head, "kind", set->kinds[h]);
        for (const struct generate_published *p = generate_published; p->name; p++)
            add_number(head, p->name, statistic(set, h, p));
        cJSON_AddItemToArray(heads, head);
    }
    cJSON *noise = cJSON_AddObjectToObject(json, "dense");
    cJSON_AddItemToObject(noise, "f16", point_json(&set->noise[0], set->data.heads));
    cJSON_AddItemToObject(noise, "bf16", point_json(&set->noise[1], set->data.heads));
    cJSON *methods = cJSON_AddArrayToObject(json, "methods");
    for (unsigned m = 0; m < b->method_count; m++) {
        cJSON *method = cJSON_CreateObject();
        cJSON_AddStringToObject(method, "name", b->methods[m].name);
        cJSON *points = cJSON_AddArrayToObject(method, "points");
        for (size_t i = 0; i < b->points; i++)
            cJSON_AddItemToArray(points, point_json(&set->points[m][i], set->data.heads));
        cJSON_AddItemToArray(methods, method);
    }
    return json;
}

static cJSON *make_json(const struct fidelity_bench *b)
{
    const struct fidelity_set *set = &b->sets[0];
    const struct draft_shape *s = &set->data.shape;
    cJSON *json = cJSON_CreateObject();
    cJSON_AddStringToObject(json, "command", b->command);
    add_number(json, "seed", (double)b->seed);
    add_number(json, "seconds", b->seconds);
    cJSON_AddStringToObject(json, "type", job_type_names[b->type - 1]);
    int grid[3] = {(int)s->frames, (int)s->height, (int)s->width};
    cJSON_AddItemToObject(json, "grid", cJSON_CreateIntArray(grid, 3));
    add_number(json, "prefix", s->prefix);
    add_number(json, "suffix", s->suffix);
    add_number(json, "dim", s->dim);
    add_number(json, "judged_rows", set->rows);
    cJSON *sets = cJSON_AddArrayToObject(json, "data");
    for (size_t i = 0; i < b->set_count; i++)
        cJSON_AddItemToArray(sets, set_json(b, &b->sets[i]));
    return json;
}

/* ---- Files ----------------------------------------------------------------------------------- */

static struct program_output *open_file(const struct fidelity_bench *b, const char *name)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", b->folder, name);
    return program_output_open(path);
}

static bool write_report(const struct fidelity_bench *b)
{
    struct program_output *output = open_file(b, "report.md");
    if (!output)
        return false;
    write_markdown(b, program_output_file(output));
    return program_output_commit(output);
}

static bool write_document(const struct fidelity_bench *b, const char *document)
{
    struct program_output *output = open_file(b, "report.json");
    if (!output)
        return false;
    fputs(document, program_output_file(output));
    return program_output_commit(output);
}

bool fidelity_report(const struct fidelity_bench *b, bool json)
{
    cJSON *tree = make_json(b);
    char *document = cJSON_Print(tree);
    cJSON_Delete(tree);
    if (!document) {
        program_error("memory ran out");
        return false;
    }
    bool ok = write_report(b) && write_document(b, document);
    if (ok && json)
        printf("%s\n", document);
    else if (ok)
        write_markdown(b, stdout);
    cJSON_free(document);
    return ok;
}
