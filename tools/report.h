/* SPDX-License-Identifier: MIT
 *
 * Parts that the reports of several subcommands have in common. */
#ifndef DRAFT_TOOLS_REPORT_H
#define DRAFT_TOOLS_REPORT_H

#include <cjson/cJSON.h>

#include <draft/draft.h>

#include "job.h"

/* Sum over the stages. */
double report_total(const double stages[JOB_STAGES]);

/* Add "shape", "type", "rule", "score", "tail", "tile", "blocks", "video_blocks" and
 * "workspace_bytes" to an object, as the plan has them. */
void report_json_plan(cJSON *json, const struct draft_plan_params *params,
                      const struct draft_layout *layout);

/* {"video": ..., "work": ..., "flops": ..., "kept_pairs": ..., "empty_rows": ...} */
cJSON *report_json_density(const struct draft_density *density);

/* [{"stage": ..., "kernel": ..., "median_seconds": ..., "min_seconds": ...}, ...] */
cJSON *report_json_stages(const struct job *job, const struct job_timing *timing);

#endif
