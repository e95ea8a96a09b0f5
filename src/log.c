/* SPDX-License-Identifier: MIT */
#include <stdarg.h>
#include <stdio.h>

#include "backend.h"

void draft_log(const struct draft_log *log, draft_log_level level, const char *format, ...)
{
    if (!log || !log->message || level > log->level)
        return;
    char text[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    log->message(log->user, level, text);
}

const char *draft_status_name(draft_status status)
{
    switch (status) {
    case DRAFT_OK:
        return "ok";
    case DRAFT_ERROR_ARGUMENT:
        return "bad argument";
    case DRAFT_ERROR_UNSUPPORTED:
        return "not supported";
    case DRAFT_ERROR_NO_DEVICE:
        return "no device";
    case DRAFT_ERROR_MEMORY:
        return "out of memory";
    case DRAFT_ERROR_DEVICE:
        return "device failed";
    }
    return "unknown status";
}

const char *draft_stage_name(draft_stage stage)
{
    static const char *const names[DRAFT_STAGES] = {"pool", "score", "select", "attend"};
    return names[draft_stage_index(stage)];
}
