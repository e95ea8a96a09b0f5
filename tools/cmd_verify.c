/* SPDX-License-Identifier: MIT
 *
 * `draft verify`: the tests' table of cases on every device, for those who make drivers or ship the
 * library. The cases, the reference and the tolerances are those of tests/. */
#include "verify.h"

#include "core.h"
#include "posix.h"
#include "proof.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

struct run {
    struct verify *verify;
    struct program_progress *progress;
    uint64_t done;
    const struct test_case *test; /* that runs now */
    char *text;                   /* what was said since the last cell */
    size_t used, room;
};

/* ---- Devices ---- */

static bool wanted(const struct draft_device_info *info, const struct program_device *wish)
{
    const char *backend = wish->backend ? wish->backend : getenv("DRAFT_BACKEND");
    if (backend && *backend && strcmp(backend, info->backend) != 0)
        return false;
    if (!wish->device)
        return true;
    char *end;
    unsigned long index = strtoul(wish->device, &end, 10);
    if (*wish->device >= '0' && *wish->device <= '9' && !*end)
        return index == info->index;
    return strcasestr(info->name, wish->device) != NULL;
}

/* The log of a device tells why a variant is refused. */
static void open_device(struct verify_device *d, const struct program_device *wish)
{
    struct draft_context_params params = {
        .backend = d->device.info.backend,
        .device = d->device.info.index,
        .threads = wish->threads,
        .log = log_to(&d->device.log, DRAFT_LOG_INFO),
    };
    draft_status status = draft_context_create(&params, &d->device.context);
    if (status)
        program_error("%s %u, %s, cannot be opened: %s\n%s", d->device.info.backend,
                      d->device.info.index, d->device.info.name, draft_status_name(status),
                      d->device.log.text);
}

/* Open all devices that are wished for. Returns -1 to go on, or an exit code. */
static int open_devices(struct verify *v, const struct program_device *wish)
{
    struct draft_log log = program_log();
    size_t count = 0, capacity;
    draft_status status = draft_devices(&log, NULL, &count);
    capacity = count;
    struct draft_device_info *infos = program_calloc(capacity, sizeof *infos);
    if (!status)
        status = draft_devices(NULL, infos, &count);
    v->devices = program_calloc(capacity, sizeof *v->devices);
    for (size_t i = 0; !status && i < count && i < capacity; i++)
        if (wanted(&infos[i], wish))
            v->devices[v->device_count++].device.info = infos[i];
    free(infos);
    if (status)
        return program_exit_code(status);
    for (size_t d = 0; d < v->device_count; d++)
        open_device(&v->devices[d], wish);
    if (v->device_count)
        return -1;
    program_error("there is no such device; see draft devices");
    return PROGRAM_DEVICE;
}

/* ---- Run ---- */

/* What the checks say: to the screen at once, since a driver may hang or crash later, and kept. */
static void listen(void *user, const char *text)
{
    struct run *run = user;
    size_t length = strlen(text);
    program_error("case \"%s\": %.*s", run->test->name,
                  (int)strcspn(text + strspn(text, " "), "\n"), text + strspn(text, " "));
    if (run->used + length + 1 > run->room) {
        size_t room = 2 * (run->used + length + 1);
        char *larger = program_calloc(room, 1);
        if (run->text)
            memcpy(larger, run->text, run->used);
        free(run->text);
        run->text = larger;
        run->room = room;
    }
    memcpy(run->text + run->used, text, length + 1);
    run->used += length;
}

/* Room for one more in an array that doubles. */
static void *one_more(void *array, size_t count, size_t size)
{
    if (count & (count - 1))
        return array;
    char *larger = program_calloc(count ? 2 * count : 1, size);
    if (count)
        memcpy(larger, array, count * size);
    free(array);
    return larger;
}

static void add_failure(struct run *run, const struct cell *cell)
{
    struct verify *v = run->verify;
    v->failures = one_more(v->failures, v->failure_count, sizeof *v->failures);
    v->failures[v->failure_count++] = (struct verify_failure){
        *cell, run->test->name, run->text ? run->text : program_calloc(1, 1)};
    run->text = NULL;
    run->used = run->room = 0;
}

/* The log has "vulkan attend: not scalar: why"; where an earlier stage has the same names, its line
 * alone. */
static void add_refusal(struct verify *v, const struct cell *cell)
{
    char start[128];
    struct verify_refusal refusal = {*cell, ""};
    snprintf(start, sizeof start, ": not %s: ", cell->variant);
    const char *why = strstr(cell->device->log.text, start);
    if (why) {
        why += strlen(start);
        snprintf(refusal.reason, sizeof refusal.reason, "%.*s", (int)strcspn(why, "\n"), why);
    }
    v->refusals = one_more(v->refusals, v->refusal_count, sizeof *v->refusals);
    v->refusals[v->refusal_count++] = refusal;
}

/* What runs now, as a message: at file scope, since a signal handler has to find it. */
static char running[256];

static void on_crash(int number)
{
    if (write(STDERR_FILENO, running, strlen(running)) < 0)
        running[0] = 0; /* there is nobody to be told */
    signal(number, SIG_DFL);
    raise(number);
}

/* Drivers crash: say where. Handlers of others stay. */
static void watch_crashes(void)
{
    static const int signals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};
    struct sigaction action = {.sa_handler = on_crash}, before;
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++)
        if (sigaction(signals[i], NULL, &before) == 0 && before.sa_handler == SIG_DFL)
            sigaction(signals[i], &action, NULL);
}

static void cell_told_of(void *user, const struct cell *cell, const struct outcome *outcome)
{
    struct run *run = user;
    if (!outcome) {
        snprintf(running, sizeof running, "draft: crashed in case \"%s\", %s\n", run->test->name,
                 cell_name(cell->device, cell->stage, cell->variant));
        return;
    }
    struct tally *tally = tallies_add(&run->verify->tallies, cell, outcome);
    if (outcome->refused && tally->refused == 1)
        add_refusal(run->verify, cell);
    if (outcome->mismatches)
        add_failure(run, cell);
}

/* All cases on those devices that take f32, or on the others: they have f16 in its place. */
static void run_devices(struct run *run, bool with_f32, const struct test_case *const *cases)
{
    struct verify *v = run->verify;
    for (size_t c = 0; c < v->case_count; c++) {
        struct inputs in = {0};
        run->test = cases[c];
        for (size_t d = 0; d < v->device_count; d++) {
            struct verify_device *device = &v->devices[d];
            bool has_f32 = device->device.info.types & 1u << DRAFT_F32;
            if (!device->device.context || has_f32 != with_f32)
                continue;
            program_progress_set(run->progress, run->done++, cases[c]->name);
            if (!cells_take(&device->device, cases[c]))
                continue;
            device->cases++;
            cells_run(&device->device, cases[c], &in, cell_told_of, run);
        }
        if (in.pooled_q)
            inputs_free(&in);
    }
}

static struct draft_kind kind_of(const struct test_case *test)
{
    struct draft_plan_params p = test->params;
    draft_shape_defaults(&p);
    return (struct draft_kind){p.type, p.shape.dim, p.scorer, p.tail, p.rule, p.row_floor > 0};
}

/* The library's own test of a kernel: without it no plan takes the kernel. */
static void run_self_test(struct run *run, struct verify_device *d, unsigned stage,
                          const char *variant, const struct test_case *test)
{
    static const char *const names[DRAFT_STAGES] = {"self-test pool", "self-test score",
                                                    "self-test select", "self-test attend"};
    struct cell cell = {&d->device, names[stage], variant};
    const struct draft_kind kind = kind_of(test);
    const char *kernels[DRAFT_STAGES] = {NULL};
    struct draft_proof proofs[DRAFT_STAGES], *proof = &proofs[stage];
    log_clear(&d->device.log);
    run->test = test;
    cell_told_of(run, &cell, NULL);
    kernels[stage] = variant;
    draft_status status = draft_proof_run(d->device.context, kernels, &kind, 1u << stage, proofs);
    struct outcome outcome = {
        .refused = !status && !proof->ran,
        .mismatches = proof->wrong || status,
        .worst = proof->worst,
        .seconds = proof->seconds,
    };
    const char *name = cell_name(&d->device, cell.stage, variant);
    if (proof->wrong)
        test_print("    %s: %s\n", name, proof->where);
    else if (outcome.mismatches)
        test_print("    %s: not finished: %s\n", name, draft_status_name(status));
    cell_told_of(run, &cell, &outcome);
}

/* Is a case before this one of the same kind to a stage? */
static bool is_repeated(const struct test_case *const *cases, size_t c, draft_stage stage)
{
    const struct draft_kind whole = kind_of(cases[c]), kind = draft_kind_of(&whole, stage);
    for (size_t i = 0; i < c; i++) {
        const struct draft_kind others = kind_of(cases[i]), other = draft_kind_of(&others, stage);
        if (memcmp(&kind, &other, sizeof kind) == 0)
            return true;
    }
    return false;
}

/* In each kind that the cases have. */
static void run_self_tests(struct run *run, const struct test_case *const *cases)
{
    struct verify *v = run->verify;
    for (size_t d = 0; d < v->device_count; d++) {
        struct verify_device *device = &v->devices[d];
        if (!device->device.context || !device->device.context->proofs)
            continue;
        for (unsigned s = 0; s < DRAFT_STAGES; s++) {
            draft_stage stage = (draft_stage)(1u << s);
            const char *const *variants = device->device.context->backend->variants(stage);
            for (; *variants; variants++)
                for (size_t c = 0; c < v->case_count; c++)
                    if (!is_repeated(cases, c, stage) && cells_take(&device->device, cases[c]))
                        run_self_test(run, device, s, *variants, cases[c]);
        }
    }
}

/* Cells came in the order in which they first ran; reports go device by device. */
static void sort_tallies(struct verify *v)
{
    struct tallies *t = &v->tallies;
    struct tally *sorted = program_calloc(t->count, sizeof *sorted);
    size_t count = 0;
    for (size_t d = 0; d < v->device_count; d++)
        for (size_t i = 0; i < t->count; i++)
            if (t->rows[i].cell.device == &v->devices[d].device)
                sorted[count++] = t->rows[i];
    free(t->rows);
    t->rows = sorted;
}

static void run_cases(struct verify *v, const struct test_case *const *cases)
{
    struct run run = {.verify = v};
    test_print_to(listen, &run);
    watch_crashes();
    run.progress = program_progress_begin("verify", v->case_count * v->device_count);
    run_devices(&run, true, cases);
    cases_change_f32(DRAFT_F16);
    run_devices(&run, false, cases);
    run_self_tests(&run, cases);
    program_progress_end(run.progress);
    test_print_to(NULL, NULL);
    free(run.text);
    sort_tallies(v);
}

/* ---- Reports ---- */

static bool ends_with(const char *text, const char *end)
{
    size_t length = strlen(text), tail = strlen(end);
    return length > tail && strcasecmp(text + length - tail, end) == 0;
}

/* The report in the form that the ending of its name asks for. */
static bool save_report(const struct verify *v, const char *path, struct program_output *output)
{
    if (!ends_with(path, ".json")) {
        verify_markdown(v, program_output_file(output));
        return program_output_commit(output);
    }
    cJSON *json = verify_json(v);
    char *text = cJSON_Print(json);
    cJSON_Delete(json);
    if (text)
        fprintf(program_output_file(output), "%s\n", text);
    else
        program_output_discard(output);
    bool ok = text && program_output_commit(output);
    cJSON_free(text);
    return ok;
}

/* The exit code for what was found. */
static int code_of(const struct verify *v)
{
    unsigned cases = 0;
    for (size_t d = 0; d < v->device_count; d++)
        cases += v->devices[d].cases;
    if (verify_count(v, "failed"))
        return PROGRAM_CHECK;
    for (size_t d = 0; d < v->device_count; d++)
        if (!v->devices[d].device.context)
            return PROGRAM_DEVICE;
    if (cases == 0) {
        program_error("no case fits the types of these devices");
        return PROGRAM_USAGE;
    }
    return verify_passed(v) ? PROGRAM_OK : PROGRAM_CHECK;
}

static void verify_free(struct verify *v)
{
    for (size_t d = 0; d < v->device_count; d++)
        draft_context_destroy(&v->devices[d].device.context);
    for (size_t i = 0; i < v->failure_count; i++)
        free(v->failures[i].text);
    free(v->failures);
    free(v->refusals);
    free(v->devices);
    tallies_free(&v->tallies);
}

/* Devices, cases and reports for what was asked. Returns an exit code. */
static int verify(struct verify *v, const struct program_device *wish, const char *save, bool json)
{
    const struct test_case *const *cases;
    struct program_output *output = NULL;
    if (save && !ends_with(save, ".json") && !ends_with(save, ".md")) {
        program_error("--save: '%s' must end with .md or .json", save);
        return PROGRAM_USAGE;
    }
    v->case_count = cases_matching(v->filter, v->quick, &cases);
    if (v->case_count == 0) {
        program_error("no %scase has '%s' in its name", v->quick ? "quick " : "", v->filter);
        return PROGRAM_USAGE;
    }
    int code = open_devices(v, wish);
    if (code >= 0)
        return code;
    if (save && !(output = program_output_open(save)))
        return PROGRAM_USAGE;
    run_cases(v, cases);
    code = code_of(v);
    if (json && program_json_print(verify_json(v)) != PROGRAM_OK)
        code = PROGRAM_USAGE;
    else if (!json)
        verify_print(v);
    if (save && !save_report(v, save, output))
        code = PROGRAM_USAGE;
    return code;
}

int draft_cmd_verify(int argc, char **argv)
{
    struct program_device wish = {0};
    struct verify v = {0};
    const char *save = NULL;
    bool json = false;
    const struct program_option options[] = {
        {.name = "cases",
         .kind = PROGRAM_TEXT,
         .value = &v.filter,
         .argument = "TEXT",
         .help = "only the cases with this in their name"},
        {.name = "quick",
         .kind = PROGRAM_FLAG,
         .value = &v.quick,
         .help = "a few fast cases that have each feature"},
        {.name = "backend",
         .kind = PROGRAM_TEXT,
         .value = &wish.backend,
         .argument = "NAME",
         .help = "cuda, vulkan or cpu (default: all)"},
        {.name = "device",
         .kind = PROGRAM_TEXT,
         .value = &wish.device,
         .argument = "N|NAME",
         .help = "number or part of the name (default: all)"},
        {.name = "threads",
         .kind = PROGRAM_COUNT,
         .value = &wish.threads,
         .argument = "N",
         .help = "worker threads of the CPU backend"},
        {.name = "json", .kind = PROGRAM_FLAG, .value = &json, .help = "print one JSON document"},
        {.name = "save",
         .kind = PROGRAM_TEXT,
         .value = &save,
         .argument = "FILE",
         .help = "write a report, Markdown (.md) or JSON (.json)"},
        {0}};
    struct program_command command = {
        .usage = "verify [options]",
        .help =
            "Does each device compute the right thing? Runs each stage in each of its variants on\n"
            "every device, or those of --backend and --device, and compares with a plain\n"
            "computation in double precision. Variants that do not fit a device are refused, "
            "which\n"
            "is no failure. DRAFT_SEED=n changes the numbers.",
        .options = options};
    int code = program_parse(&command, argc, argv);
    if (code < 0)
        code = verify(&v, &wish, save, json);
    verify_free(&v);
    return code;
}
