/* SPDX-License-Identifier: MIT
 *
 * What `draft verify` has found, and its reports. */
#ifndef DRAFT_TOOLS_VERIFY_H
#define DRAFT_TOOLS_VERIFY_H

#include <cjson/cJSON.h>

#include "cells.h"
#include "program.h"

struct verify_device {
    struct test_device device; /* context is NULL where it was not opened: the log says why */
    unsigned cases;            /* that fit its types */
};

/* Why a variant was never run. */
struct verify_refusal {
    struct cell cell;
    char reason[160];
};

/* A case that a cell did not pass. */
struct verify_failure {
    struct cell cell;
    const char *test; /* the name of the case */
    char *text;       /* lines: the first mismatches */
};

struct verify {
    const char *filter; /* of --cases, or NULL */
    bool quick;
    size_t case_count;
    struct verify_device *devices;
    size_t device_count;
    struct tallies tallies;
    struct verify_refusal *refusals;
    size_t refusal_count;
    struct verify_failure *failures;
    size_t failure_count;
};

/* "passed", "failed" or "refused" */
const char *verify_result(const struct tally *tally);
/* Cells with this result. */
size_t verify_count(const struct verify *verify, const char *result);
/* Has each device been opened and has run something, and has no cell failed? */
bool verify_passed(const struct verify *verify);

/* Tables and one line for the whole, to stdout. */
void verify_print(const struct verify *verify);
cJSON *verify_json(const struct verify *verify);
void verify_markdown(const struct verify *verify, FILE *file);

#endif
