/* SPDX-License-Identifier: MIT
 *
 * The core above a backend made of paper: who is called when, what happens when it fails, and that
 * an allocation that fails anywhere leaves nothing behind. Needs no device. */
#include <stdio.h>
#include <string.h>

#include "backend.h"
#include "suite.h"

/* What the paper backend was asked to do, one letter a call, and what it shall answer. */
struct paper {
    char calls[64];
    size_t count;
    draft_status plan, alloc, write, begin, launch, end;
    const void *queue;     /* that begin got */
    unsigned launch_fails; /* the launch that fails, from 1 */
    unsigned launches;
    int plans, memory; /* alive */
    struct draft_args args;
};

static struct paper *paper_of(draft_context *context)
{
    return context->state;
}

static void called(draft_context *context, char letter)
{
    struct paper *p = paper_of(context);
    if (p->count < sizeof p->calls - 1)
        p->calls[p->count++] = letter;
}

static draft_status paper_alloc(draft_context *context, size_t size, draft_address *out)
{
    struct paper *p = paper_of(context);
    (void)size;
    called(context, 'a');
    if (p->alloc)
        return p->alloc;
    p->memory++;
    *out = 4096;
    return DRAFT_OK;
}

static void paper_free(draft_context *context, draft_address address)
{
    ck_assert_uint_eq(address, 4096);
    called(context, 'f');
    paper_of(context)->memory--;
}

static draft_status paper_write(draft_context *context, draft_address to, const void *from,
                                size_t size)
{
    (void)to, (void)from, (void)size;
    called(context, 'w');
    return paper_of(context)->write;
}

static draft_status paper_read(draft_context *context, void *to, draft_address from, size_t size)
{
    (void)from;
    called(context, 'r');
    memset(to, 0, size);
    return DRAFT_OK;
}

static const char *const *paper_variants(draft_stage stage)
{
    static const char *const names[] = {"paper", NULL};
    (void)stage;
    return names;
}

static const char *paper_refuses(const draft_plan *plan, draft_stage stage, uint32_t variant)
{
    (void)plan, (void)stage, (void)variant;
    return NULL;
}

static draft_status paper_plan(draft_plan *plan)
{
    called(plan->context, 'p');
    if (paper_of(plan->context)->plan)
        return paper_of(plan->context)->plan;
    plan->scratch_size = 1000;
    plan->state = plan;
    paper_of(plan->context)->plans++;
    return DRAFT_OK;
}

static void paper_unplan(draft_plan *plan)
{
    if (plan->state)
        paper_of(plan->context)->plans--;
}

static draft_status paper_begin(draft_context *context, void **queue)
{
    called(context, 'b');
    paper_of(context)->queue = *queue;
    *queue = context;
    return paper_of(context)->begin;
}

static draft_status paper_launch(const draft_plan *plan, draft_stage stage,
                                 const struct draft_args *args, void *queue)
{
    struct paper *p = paper_of(plan->context);
    ck_assert_ptr_eq(queue, plan->context);
    called(plan->context, "0123"[draft_stage_index(stage)]);
    p->args = *args;
    return ++p->launches == p->launch_fails ? p->launch : DRAFT_OK;
}

static draft_status paper_end(draft_context *context, void *queue, bool ok)
{
    ck_assert_ptr_eq(queue, context);
    called(context, ok ? 'e' : 'x');
    return paper_of(context)->end;
}

static draft_status paper_wait(draft_context *context)
{
    called(context, '.');
    return DRAFT_ERROR_DEVICE;
}

static const struct draft_backend backend = {
    .name = "paper",
    .alloc = paper_alloc,
    .free = paper_free,
    .write = paper_write,
    .read = paper_read,
    .variants = paper_variants,
    .refuses = paper_refuses,
    .plan = paper_plan,
    .unplan = paper_unplan,
    .begin = paper_begin,
    .launch = paper_launch,
    .end = paper_end,
    .wait = paper_wait,
};

static struct log_memory log_text;
static struct paper paper;
static struct draft_context context;

static void setup(void)
{
    log_clear(&log_text);
    paper = (struct paper){0};
    context = (struct draft_context){
        .backend = &backend,
        .state = &paper,
        .log = log_to(&log_text, DRAFT_LOG_ERROR),
        .device = {.backend = "paper", .types = 1u << DRAFT_F32},
    };
}

static const struct draft_plan_params params = {
    .shape = {.frames = 2, .height = 8, .width = 16, .suffix = 5, .heads = 2, .dim = 16},
    .type = DRAFT_F32,
    .tile = {1, 8, 16},
    .sparsity = 0.5,
};

static const struct draft_run_params run = {
    .q.data = 0x10000,
    .k.data = 0x20000,
    .v.data = 0x30000,
    .out.data = 0x40000,
    .workspace = 0x50000,
};

static draft_plan *make_plan(void)
{
    draft_plan *plan = NULL;
    OK(draft_plan_create(&context, &params, &plan));
    memset(paper.calls, 0, sizeof paper.calls);
    paper.count = 0;
    return plan;
}

START_TEST(stages_in_order)
{
    static const struct {
        uint32_t stages;
        const char *calls;
    } runs[] = {
        {0, "b0123e"}, {15, "b0123e"}, {DRAFT_ATTEND, "b3e"}, {DRAFT_SELECT | DRAFT_POOL, "b02e"}};
    draft_plan *plan = make_plan();
    for (size_t i = 0; i < 4; i++) {
        struct draft_run_params r = run;
        r.stages = runs[i].stages;
        OK(draft_run(plan, &r));
        ck_assert_str_eq(paper.calls, runs[i].calls);
        memset(paper.calls, 0, sizeof paper.calls);
        paper.count = 0;
    }
    ck_assert_int_eq(draft_wait(&context), DRAFT_ERROR_DEVICE);
    draft_plan_destroy(&plan);
    ck_assert_int_eq(paper.plans, 0);
    ck_assert_int_eq(paper.memory, 0);
}
END_TEST

START_TEST(arguments_of_kernels)
{
    draft_plan *plan = make_plan();
    struct draft_run_params r = run;
    r.lse = 0x60000, r.valid = 0x70000;
    r.k.head_stride = 20, r.k.token_stride = 48;
    OK(draft_run(plan, &r));
    const struct draft_args *a = &paper.args;
    ck_assert_uint_eq(a->geometry, 4096);
    ck_assert_uint_eq(a->workspace, r.workspace);
    ck_assert(a->q == r.q.data && a->k == r.k.data && a->v == r.v.data && a->o == r.out.data);
    ck_assert(a->lse == r.lse && a->valid == r.valid);
    ck_assert_uint_eq(a->q_head, 16 * 4 / 16); /* packed: [tokens][2][16] of 4 bytes */
    ck_assert_uint_eq(a->q_token, 2 * 16 * 4 / 16);
    ck_assert_uint_eq(a->k_head, 20 * 4 / 16);
    ck_assert_uint_eq(a->k_token, 48 * 4 / 16);
    ck_assert_uint_ge(plan->geometry.scratch + 1000, plan->geometry.scratch);
    ck_assert_uint_le(plan->geometry.scratch + 1000, plan->layout.size);
    draft_plan_destroy(&plan);
}
END_TEST

/* Of the caller's queues the backend hears where it takes them; where not, nothing is begun. */
START_TEST(queues_of_the_caller)
{
    struct draft_backend adopting = backend;
    draft_plan *plan = make_plan();
    struct draft_run_params r = run;
    r.queue = &r;
    ck_assert_int_eq(draft_run(plan, &r), DRAFT_ERROR_UNSUPPORTED);
    ck_assert_ptr_nonnull(strstr(log_text.text, "queue"));
    ck_assert_str_eq(paper.calls, "");
    adopting.adopts = true;
    context.backend = &adopting;
    OK(draft_run(plan, &r));
    ck_assert_ptr_eq(paper.queue, &r);
    r.queue = NULL;
    OK(draft_run(plan, &r));
    ck_assert_ptr_null(paper.queue);
    draft_plan_destroy(&plan);
}
END_TEST

START_TEST(a_failing_launch_throws_the_work_away)
{
    draft_plan *plan = make_plan();
    paper.launch = DRAFT_ERROR_MEMORY, paper.launch_fails = 2;
    ck_assert_int_eq(draft_run(plan, &run), DRAFT_ERROR_MEMORY);
    ck_assert_str_eq(paper.calls, "b01x");
    draft_plan_destroy(&plan);
}
END_TEST

START_TEST(a_failing_begin_needs_no_end)
{
    draft_plan *plan = make_plan();
    paper.begin = DRAFT_ERROR_DEVICE;
    ck_assert_int_eq(draft_run(plan, &run), DRAFT_ERROR_DEVICE);
    ck_assert_str_eq(paper.calls, "b");
    draft_plan_destroy(&plan);
}
END_TEST

START_TEST(a_failing_end_is_told)
{
    draft_plan *plan = make_plan();
    paper.end = DRAFT_ERROR_DEVICE;
    ck_assert_int_eq(draft_run(plan, &run), DRAFT_ERROR_DEVICE);
    ck_assert_str_eq(paper.calls, "b0123e");
    draft_plan_destroy(&plan);
}
END_TEST

START_TEST(a_failing_backend_leaves_no_plan)
{
    draft_status *answers[] = {&paper.plan, &paper.alloc, &paper.write};
    for (size_t i = 0; i < 3; i++) {
        setup();
        *answers[i] = DRAFT_ERROR_DEVICE;
        draft_plan *plan = NULL;
        ck_assert_int_eq(draft_plan_create(&context, &params, &plan), DRAFT_ERROR_DEVICE);
        ck_assert_ptr_null(plan);
        ck_assert_int_eq(paper.plans, 0);
        ck_assert_int_eq(paper.memory, 0);
    }
}
END_TEST

START_TEST(a_type_the_device_lacks)
{
    struct draft_plan_params p = params;
    draft_plan *plan = NULL;
    p.type = DRAFT_BF16;
    ck_assert_int_eq(draft_plan_create(&context, &p, &plan), DRAFT_ERROR_UNSUPPORTED);
    ck_assert_ptr_nonnull(strstr(log_text.text, "type"));
}
END_TEST

/* Host memory fails at the n-th allocation, for each n. */
START_TEST(plan_without_memory)
{
    long n = 1;
    for (; n < 100; n++) {
        draft_plan *plan = NULL;
        log_clear(&log_text);
        draft_calloc_set_failure(n);
        draft_status status = draft_plan_create(&context, &params, &plan);
        draft_calloc_set_failure(0);
        if (status == DRAFT_OK) {
            draft_plan_destroy(&plan);
            break;
        }
        ck_assert_int_eq(status, DRAFT_ERROR_MEMORY);
        ck_assert_ptr_null(plan);
        ck_assert_str_ne(log_text.text, "");
        ck_assert_int_eq(paper.memory, 0);
        ck_assert_int_eq(paper.plans, 0);
    }
    ck_assert_int_gt(n, 2);
    ck_assert_int_lt(n, 100);
    ck_assert_ptr_null(draft_calloc(SIZE_MAX / 2, 3)); /* the product does not fit */
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("core");
    TCase *tests = tcase_create("core");
    tcase_add_checked_fixture(tests, setup, NULL);
    tcase_add_test(tests, stages_in_order);
    tcase_add_test(tests, arguments_of_kernels);
    tcase_add_test(tests, queues_of_the_caller);
    tcase_add_test(tests, a_failing_launch_throws_the_work_away);
    tcase_add_test(tests, a_failing_begin_needs_no_end);
    tcase_add_test(tests, a_failing_end_is_told);
    tcase_add_test(tests, a_failing_backend_leaves_no_plan);
    tcase_add_test(tests, a_type_the_device_lacks);
    tcase_add_test(tests, plan_without_memory);
    suite_add_tcase(suite, tests);
    return suite_main(suite, false);
}
