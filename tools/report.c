/* SPDX-License-Identifier: MIT */
#include "report.h"

double report_total(const double stages[JOB_STAGES])
{
    double sum = 0;
    for (unsigned s = 0; s < JOB_STAGES; s++)
        sum += stages[s];
    return sum;
}

void report_json_plan(cJSON *json, const struct draft_plan_params *params,
                      const struct draft_layout *layout)
{
    const struct draft_shape *s = &params->shape;
    cJSON *shape = cJSON_AddObjectToObject(json, "shape");
    cJSON_AddNumberToObject(shape, "batch", s->batch ? s->batch : 1);
    cJSON_AddNumberToObject(shape, "prefix", s->prefix);
    cJSON_AddNumberToObject(shape, "frames", s->frames);
    cJSON_AddNumberToObject(shape, "height", s->height);
    cJSON_AddNumberToObject(shape, "width", s->width);
    cJSON_AddNumberToObject(shape, "suffix", s->suffix);
    cJSON_AddNumberToObject(shape, "heads", s->heads);
    cJSON_AddNumberToObject(shape, "kv_heads", s->kv_heads ? s->kv_heads : s->heads);
    cJSON_AddNumberToObject(shape, "dim", s->dim);
    cJSON_AddNumberToObject(shape, "tokens", (double)layout->tokens);
    cJSON_AddStringToObject(json, "type", job_type_names[params->type - 1]);
    cJSON_AddStringToObject(json, "rule", job_rule_names[layout->rule]);
    cJSON_AddStringToObject(json, "score", job_scorer_names[layout->scorer]);
    cJSON_AddStringToObject(json, "tail", job_tail_names[layout->tail]);
    int tile[3] = {(int)layout->tile.t, (int)layout->tile.h, (int)layout->tile.w};
    cJSON_AddItemToObject(json, "tile", cJSON_CreateIntArray(tile, 3));
    cJSON_AddNumberToObject(json, "blocks", layout->blocks);
    cJSON_AddNumberToObject(json, "video_blocks", layout->video_blocks);
    cJSON_AddNumberToObject(json, "workspace_bytes", (double)layout->size);
}

cJSON *report_json_density(const struct draft_density *d)
{
    cJSON *json = cJSON_CreateObject();
    cJSON_AddNumberToObject(json, "video", d->video);
    cJSON_AddNumberToObject(json, "work", d->work);
    cJSON_AddNumberToObject(json, "tail", d->tail);
    cJSON_AddNumberToObject(json, "flops", d->flops);
    cJSON_AddNumberToObject(json, "kept_pairs", (double)d->kept_pairs);
    cJSON_AddNumberToObject(json, "empty_rows", (double)d->empty_rows);
    return json;
}

cJSON *report_json_stages(const struct job *job, const struct job_timing *timing)
{
    cJSON *array = cJSON_CreateArray();
    for (unsigned s = 0; s < JOB_STAGES; s++) {
        if (!(job->stages >> s & 1))
            continue;
        cJSON *stage = cJSON_CreateObject();
        cJSON_AddStringToObject(stage, "stage", job_stage_names[s]);
        cJSON_AddStringToObject(stage, "kernel",
                                draft_plan_kernel(job->plan, (draft_stage)(1u << s)));
        cJSON_AddNumberToObject(stage, "median_seconds", timing->median[s]);
        cJSON_AddNumberToObject(stage, "min_seconds", timing->least[s]);
        cJSON_AddItemToArray(array, stage);
    }
    return array;
}
