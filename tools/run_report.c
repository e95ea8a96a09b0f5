/* SPDX-License-Identifier: MIT
 *
 * What `draft run` prints. */
#include "run.h"

#include <math.h>

#include "report.h"

static cJSON *json_check(const struct run *run)
{
    const struct job_fidelity *f = &run->fidelity;
    cJSON *json = cJSON_CreateObject();
    cJSON_AddNumberToObject(json, "relative_l2", f->relative);
    cJSON_AddNumberToObject(json, "worst_head_relative_l2", f->worst_relative);
    cJSON_AddNumberToObject(json, "worst_head", f->worst_head);
    cJSON_AddNumberToObject(json, "cosine", f->cosine);
    cJSON_AddNumberToObject(json, "recall", f->recall);
    cJSON_AddNumberToObject(json, "recall_p5", f->recall_p5);
    cJSON_AddNumberToObject(json, "not_finite", (double)f->not_finite);
    cJSON_AddItemToObject(json, "dense_stages",
                          report_json_stages(&run->dense, &run->dense_timing));
    cJSON_AddNumberToObject(json, "speedup",
                            run->dense_timing.median[3] / report_total(run->timing.median));
    return json;
}

static cJSON *json_probe(const struct run *run)
{
    cJSON *json = cJSON_CreateObject(), *heads = cJSON_AddArrayToObject(json, "heads");
    cJSON_AddNumberToObject(json, "seconds", run->probe_seconds);
    for (size_t h = 0; h < (size_t)run->params.shape.batch * run->params.shape.heads; h++) {
        cJSON *head = cJSON_CreateObject();
        cJSON_AddNumberToObject(head, "error", run->probe[h].error);
        cJSON_AddNumberToObject(head, "factor", run->probe[h].factor);
        cJSON_AddItemToArray(heads, head);
    }
    return json;
}

static int report_json(const struct run *run)
{
    cJSON *json = cJSON_CreateObject();
    cJSON_AddItemToObject(json, "device", program_json_device(&run->device));
    report_json_plan(json, &run->params, &run->job.layout);
    if (run->request->lists) { /* in place of a rule */
        cJSON_DeleteItemFromObject(json, "rule");
        cJSON_AddStringToObject(json, "lists", run->request->lists);
    }
    if (run->probe)
        cJSON_AddItemToObject(json, "probe", json_probe(run));
    cJSON_AddItemToObject(json, "stages", report_json_stages(&run->job, &run->timing));
    cJSON_AddNumberToObject(json, "median_seconds", report_total(run->timing.median));
    cJSON_AddNumberToObject(json, "attend_gflops",
                            1e-9 * run->density.flops / run->timing.median[3]);
    cJSON_AddItemToObject(json, "density", report_json_density(&run->density));
    if (run->request->check)
        cJSON_AddItemToObject(json, "check", json_check(run));
    if (run->request->out)
        cJSON_AddStringToObject(json, "output", run->request->out);
    return program_json_print(json);
}

static void report_stages(const struct run *run)
{
    struct program_table *table = program_table_create("stage\tkernel\t>ms\t>min ms\t>share");
    double sum = report_total(run->timing.median);
    for (unsigned s = 0; s < JOB_STAGES; s++)
        if (run->job.stages >> s & 1)
            program_table_add(table, "%s\t%s\t%.3f\t%.3f\t%.1f %%", job_stage_names[s],
                              draft_plan_kernel(run->job.plan, (draft_stage)(1u << s)),
                              1e3 * run->timing.median[s], 1e3 * run->timing.least[s],
                              100 * run->timing.median[s] / sum);
    program_table_add(table, "all\t\t%.3f\t%.3f\t", 1e3 * sum,
                      1e3 * report_total(run->timing.least));
    putchar('\n');
    program_table_print(table);
}

static void report_check(const struct run *run)
{
    const struct job_fidelity *f = &run->fidelity;
    struct program_table *table = program_table_create("against dense attention\t>");
    program_table_add(table, "relative L2 error\t%.3e", f->relative);
    program_table_add(table, "worst head (%u)\t%.3e", f->worst_head, f->worst_relative);
    program_table_add(table, "cosine\t%.6f", f->cosine);
    program_table_add(table, "recall of attention, mean\t%.4f", f->recall);
    program_table_add(table, "recall, 5th percentile of rows\t%.4f", f->recall_p5);
    if (f->not_finite)
        program_table_add(table, "values not finite\t%llu", (unsigned long long)f->not_finite);
    program_table_add(table, "dense attend, ms\t%.3f", 1e3 * run->dense_timing.median[3]);
    program_table_add(table, "speed-up, all stages\t%.2f",
                      run->dense_timing.median[3] / report_total(run->timing.median));
    putchar('\n');
    program_table_print(table);
}

static void report_probe(const struct run *run, struct program_table *table)
{
    if (!run->probe)
        return;
    struct draft_probe least = run->probe[0], most = run->probe[0];
    for (size_t h = 1; h < (size_t)run->params.shape.batch * run->params.shape.heads; h++) {
        least.error = fmin(least.error, run->probe[h].error);
        most.error = fmax(most.error, run->probe[h].error);
        least.factor = fmin(least.factor, run->probe[h].factor);
        most.factor = fmax(most.factor, run->probe[h].factor);
    }
    program_table_add(table, "probe\t%.1f ms: factors %.2f to %.2f, error of heads %.3f to %.3f",
                      1e3 * run->probe_seconds, least.factor, most.factor, least.error, most.error);
}

static void report_text(const struct run *run)
{
    const struct draft_layout *l = &run->job.layout;
    const struct draft_shape *s = &run->params.shape;
    struct program_table *table = program_table_create("device\t");
    program_table_add(table, "backend\t%s, %s", run->device.backend, run->device.name);
    program_table_add(
        table, "tokens\t%u + %ux%ux%u + %u = %llu, batch %u, heads %u / %u, dim %u, %s", s->prefix,
        s->frames, s->height, s->width, s->suffix, (unsigned long long)l->tokens, s->batch,
        s->heads, s->kv_heads, s->dim, job_type_names[run->params.type - 1]);
    program_table_add(table, "blocks\t%u, of these video %u = %ux%ux%u of %ux%ux%u tokens",
                      l->blocks, l->video_blocks, l->tiles_t, l->tiles_h, l->tiles_w, l->tile.t,
                      l->tile.h, l->tile.w);
    program_table_add(table, "workspace\t%.1f MiB", (double)l->size / 0x1p20);
    program_table_add(table, "kept\t%.2f %% of video block pairs, %.2f %% of token pairs (%s %s)",
                      100 * run->density.video, 100 * run->density.work,
                      run->request->lists ? "lists" : "rule",
                      run->request->lists ? run->request->lists : job_rule_names[l->rule]);
    if (run->density.tail > 0)
        program_table_add(table, "pooled keys\t%.2f %% of token pairs more (tail %s)",
                          100 * run->density.tail, job_tail_names[l->tail]);
    report_probe(run, table);
    if (run->density.empty_rows)
        program_table_add(table, "empty rows\t%llu query blocks keep nothing: out = 0",
                          (unsigned long long)run->density.empty_rows);
    program_table_add(table, "attend\t%.1f GFLOP/s over kept pairs",
                      1e-9 * run->density.flops / run->timing.median[3]);
    program_table_print(table);
    report_stages(run);
    if (run->request->check)
        report_check(run);
}

int run_report(const struct run *run)
{
    if (run->request->json)
        return report_json(run);
    report_text(run);
    return PROGRAM_OK;
}
