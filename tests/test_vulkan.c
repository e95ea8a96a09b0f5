/* SPDX-License-Identifier: MIT
 *
 * What draft/vulkan.h promises: the caller's own device, and recording into the caller's command
 * buffers. Results are compared bit for bit with those of a context of the library's own; that
 * these are right is what the other tests look at. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "vulkan/kernels.h"
#include "vulkan_app.h"

START_TEST(expected_results)
{
    expect_all();
}
END_TEST

/* ---- Recording ---- */

START_TEST(recorded_once_submitted_often)
{
    struct app app;
    struct problem problem;
    struct rig rig;
    struct app_commands commands;
    setup_app(&app);
    ck_assert_str_eq(app.adopted.info.backend, "vulkan");
    ck_assert_str_eq(app.adopted.info.name, devices[0].info.name);
    ck_assert(memcmp(app.adopted.info.uuid, devices[0].info.uuid, 16) == 0);
    setup_rig(&rig, &app.adopted, &problem, names[_i]);
    app_commands_init(&commands, &app, VK_COMMAND_BUFFER_LEVEL_PRIMARY);
    record_chunk(&rig, &commands, 0, 0);
    app_commands_end(&commands, true);
    ck_assert(memcmp(buffer_get(&rig.out), buffer_image(&rig.out), rig.out.size) == 0);
    for (int i = 0; i < 2 * INPUTS; i++) {
        fill(&rig, i % INPUTS);
        rig_reset(&rig);
        app_submit(&app, &commands, 1);
        app_wait(&app);
        ck_assert_msg(is_expected(&rig, _i, i % INPUTS), "%s, submission %d", names[_i], i);
        ck_assert(rig_intact(&rig, ALL_STAGES));
    }
    app_submit(&app, &commands, 1); /* over what the last one left */
    app_wait(&app);
    ck_assert(is_expected(&rig, _i, 1));
    app_commands_free(&commands);
    free_rig(&rig, &problem);
    app_free(&app);
}
END_TEST

/* ---- What is appended ---- */

/* The commands of a recording, a letter each: barrier, bind, push constants, dispatch. Neither a
 * software driver nor the validation layers notice a barrier that is missing. */
static char trace[4096];
static size_t traced;
static PFN_vkGetDeviceProcAddr next_device_proc;

static void note(char command)
{
    ck_assert_uint_lt(traced, sizeof trace - 1);
    trace[traced++] = command;
}

static VKAPI_ATTR void VKAPI_CALL note_barrier(
    VkCommandBuffer commands, VkPipelineStageFlags first, VkPipelineStageFlags next,
    VkDependencyFlags flags, uint32_t count, const VkMemoryBarrier *barriers, uint32_t buffer_count,
    const VkBufferMemoryBarrier *buffers, uint32_t image_count, const VkImageMemoryBarrier *images)
{
    (void)commands, (void)buffers, (void)images;
    ck_assert_uint_eq(first, VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT);
    ck_assert_uint_eq(next, VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT);
    ck_assert(flags == 0 && count == 1 && buffer_count == 0 && image_count == 0);
    ck_assert_uint_eq(barriers->srcAccessMask, VK_ACCESS_SHADER_WRITE_BIT);
    ck_assert_uint_eq(barriers->dstAccessMask,
                      VK_ACCESS_SHADER_READ_BIT | VK_ACCESS_SHADER_WRITE_BIT);
    note('b');
}

static VKAPI_ATTR void VKAPI_CALL note_bind(VkCommandBuffer commands, VkPipelineBindPoint point,
                                            VkPipeline pipeline)
{
    (void)commands;
    ck_assert(point == VK_PIPELINE_BIND_POINT_COMPUTE && pipeline != VK_NULL_HANDLE);
    note('i');
}

static VKAPI_ATTR void VKAPI_CALL note_push(VkCommandBuffer commands, VkPipelineLayout layout,
                                            VkShaderStageFlags stages, uint32_t offset,
                                            uint32_t size, const void *values)
{
    (void)commands, (void)layout, (void)values;
    ck_assert(stages == VK_SHADER_STAGE_COMPUTE_BIT && offset + size <= 128);
    note('p');
}

static VKAPI_ATTR void VKAPI_CALL note_dispatch(VkCommandBuffer commands, uint32_t x, uint32_t y,
                                                uint32_t z)
{
    (void)commands;
    ck_assert(x > 0 && y == 1 && z == 1);
    note('d');
}

/* Whatever else would touch a queue or the command buffer. */
static VKAPI_ATTR void VKAPI_CALL forbidden(void)
{
    ck_abort_msg("a queue was touched, or another command recorded");
}

static VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL device_proc(VkDevice device, const char *name)
{
    if (strcmp(name, "vkCmdPipelineBarrier") == 0)
        return (PFN_vkVoidFunction)note_barrier;
    if (strcmp(name, "vkCmdBindPipeline") == 0)
        return (PFN_vkVoidFunction)note_bind;
    if (strcmp(name, "vkCmdPushConstants") == 0)
        return (PFN_vkVoidFunction)note_push;
    if (strcmp(name, "vkCmdDispatch") == 0)
        return (PFN_vkVoidFunction)note_dispatch;
    if (strncmp(name, "vkCmd", 5) == 0 || strncmp(name, "vkQueue", 7) == 0 ||
        strcmp(name, "vkGetDeviceQueue") == 0 || strcmp(name, "vkDeviceWaitIdle") == 0)
        return forbidden;
    return next_device_proc(device, name);
}

static VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL instance_proc(VkInstance instance, const char *name)
{
    PFN_vkVoidFunction found = vk.vkGetInstanceProcAddr(instance, name);
    if (strcmp(name, "vkGetDeviceProcAddr") != 0)
        return found;
    next_device_proc = (PFN_vkGetDeviceProcAddr)found;
    return (PFN_vkVoidFunction)device_proc;
}

/* How many passes were recorded, each a barrier, a pipeline, and dispatches. */
static int traced_passes(struct rig *rig, uint32_t chunk, uint32_t chunks)
{
    static const struct app_commands nowhere;
    int passes = 0;
    traced = 0;
    rig->run.queue = (void *)&nowhere; /* nothing looks into it */
    rig->run.chunk = chunk, rig->run.chunks = chunks;
    OK(draft_run(rig->plan, &rig->run));
    trace[traced] = 0;
    const char *at = trace;
    while (*at) {
        ck_assert_msg(strncmp(at, "bipd", 4) == 0, "not a pass: %s", at);
        for (at += 4; strncmp(at, "pd", 2) == 0;)
            at += 2;
        passes++;
    }
    return passes;
}

START_TEST(what_is_appended)
{
    struct app app;
    struct problem problem;
    struct rig rig;
    app_init(&app, &devices[0].info);
    struct draft_vulkan_native native = app_native(&app);
    native.get_instance_proc_addr = instance_proc;
    OK(app_adopt(&app, &native));
    setup_rig(&rig, &app.adopted, &problem, names[0]);
    int all = traced_passes(&rig, 0, 1), parts = 0;
    ck_assert_int_ge(all, 4); /* one for each stage at least */
    for (uint32_t c = 0; c < 5; c++)
        parts += traced_passes(&rig, c, 5);
    ck_assert_int_ge(parts, all);
    ck_assert_int_le(parts, all + 4); /* a cut adds one at most */
    free_rig(&rig, &problem);
    app_free(&app);
}
END_TEST

/* ---- Chunks ---- */

static const uint32_t cuts[] = {2, 3, 7, 100, 5000};
enum { CUTS = sizeof cuts / sizeof *cuts, MOST_BUFFERS = 100 };

/* Each part into a command buffer and a submission of its own, or all into one. */
static void run_chunks(struct app *app, struct rig *rig, uint32_t chunks)
{
    static struct app_commands commands[MOST_BUFFERS];
    uint32_t buffers = chunks < MOST_BUFFERS ? chunks : 1;
    for (uint32_t b = 0; b < buffers; b++)
        app_commands_init(&commands[b], app, VK_COMMAND_BUFFER_LEVEL_PRIMARY);
    for (uint32_t c = chunks; c-- > 0 && buffers > 1;) /* in whatever order they are recorded */
        record_chunk(rig, &commands[c], c, chunks);
    for (uint32_t c = 0; c < chunks && buffers == 1; c++)
        record_chunk(rig, &commands[0], c, chunks);
    for (uint32_t b = 0; b < buffers; b++)
        app_commands_end(&commands[b], b + 1 == buffers);
    for (uint32_t b = 0; b < buffers; b++)
        app_submit(app, &commands[b], 1);
    app_wait(app);
    for (uint32_t b = 0; b < buffers; b++)
        app_commands_free(&commands[b]);
}

START_TEST(recorded_in_chunks)
{
    struct app app;
    struct problem problem;
    struct rig rig;
    setup_app(&app);
    setup_rig(&rig, &app.adopted, &problem, names[_i]);
    for (int c = 0; c < CUTS; c++) {
        rig_reset(&rig);
        run_chunks(&app, &rig, cuts[c]);
        ck_assert_msg(is_expected(&rig, _i, 0), "%s in %u chunks", names[_i], cuts[c]);
        ck_assert(rig_intact(&rig, ALL_STAGES));
    }
    free_rig(&rig, &problem);
    app_free(&app);
}
END_TEST

/* Without one of its parts a run is not done: they are neither all nor nothing of it. */
START_TEST(each_chunk_counts)
{
    enum { PARTS = 4 };
    struct app app;
    struct problem problem;
    struct rig rig;
    setup_app(&app);
    setup_rig(&rig, &app.adopted, &problem, names[0]);
    /* From the second on it is attend that lacks a part: without the first there are no lists. */
    for (uint32_t missing = 1; missing < PARTS; missing++) {
        struct app_commands commands;
        rig_reset(&rig);
        app_commands_init(&commands, &app, VK_COMMAND_BUFFER_LEVEL_PRIMARY);
        for (uint32_t c = 0; c < PARTS; c++)
            if (c != missing)
                record_chunk(&rig, &commands, c, PARTS);
        app_commands_end(&commands, true);
        app_submit(&app, &commands, 1);
        app_wait(&app);
        app_commands_free(&commands);
        ck_assert_msg(!is_expected(&rig, 0, 0), "chunk %u of %d is empty", missing, PARTS);
    }
    free_rig(&rig, &problem);
    app_free(&app);
}
END_TEST

START_TEST(secondary_command_buffer)
{
    struct app app;
    struct problem problem;
    struct rig rig;
    struct app_commands primary, secondary;
    setup_app(&app);
    setup_rig(&rig, &app.adopted, &problem, names[0]);
    app_commands_init(&secondary, &app, VK_COMMAND_BUFFER_LEVEL_SECONDARY);
    record_chunk(&rig, &secondary, 0, 1);
    app_commands_end(&secondary, false);
    app_commands_init(&primary, &app, VK_COMMAND_BUFFER_LEVEL_PRIMARY);
    vk.vkCmdExecuteCommands(primary.buffer, 1, &secondary.buffer);
    app_commands_end(&primary, true);
    app_submit(&app, &primary, 1);
    app_wait(&app);
    ck_assert(is_expected(&rig, 0, 0));
    app_commands_free(&primary);
    app_commands_free(&secondary);
    free_rig(&rig, &problem);
    app_free(&app);
}
END_TEST

/* Two runs in one command buffer on one workspace, with nothing between them. */
START_TEST(one_workspace_twice)
{
    struct app app;
    struct problem problem;
    struct rig rig;
    struct app_commands commands;
    setup_app(&app);
    setup_rig(&rig, &app.adopted, &problem, names[0]);
    struct buffer second;
    buffer_init(&second, app.adopted.context, rig.out.size);
    draft_address first = rig.run.out.data;
    app_commands_init(&commands, &app, VK_COMMAND_BUFFER_LEVEL_PRIMARY);
    record_chunk(&rig, &commands, 0, 1);
    rig.run.out.data = second.data;
    struct draft_tensor q = rig.run.q;
    rig.run.q = rig.run.k, rig.run.k = q;
    record_chunk(&rig, &commands, 0, 1);
    app_commands_end(&commands, true);
    app_submit(&app, &commands, 1);
    app_wait(&app);
    rig.run.out.data = first;
    ck_assert(memcmp(buffer_get(&rig.out), expected_out(0, 0), rig.out.size) == 0);
    ck_assert(memcmp(buffer_get(&second), expected_out(0, 1), rig.out.size) == 0);
    buffer_free(&second);
    app_commands_free(&commands);
    free_rig(&rig, &problem);
    app_free(&app);
}
END_TEST

/* ---- Threads ---- */

enum { THREADS = 4, RECORDINGS = 20 };

/* Checks use longjmp, which must not cross threads: workers answer with a status. */
struct worker {
    pthread_t thread;
    const draft_plan *plan;
    struct draft_run_params run;
    VkCommandBuffer buffers[RECORDINGS];
    draft_status status;
};

static void *record_often(void *argument)
{
    struct worker *w = argument;
    for (uint32_t i = 0; i < RECORDINGS && !w->status; i++) {
        w->run.queue = w->buffers[i];
        w->run.chunk = i;
        w->run.chunks = RECORDINGS;
        w->status = draft_run(w->plan, &w->run);
    }
    return NULL;
}

START_TEST(threads_record_one_plan)
{
    static struct app_commands commands[THREADS][RECORDINGS];
    struct app app;
    struct problem problem;
    struct rig rig;
    struct buffer workspaces[THREADS], outs[THREADS];
    struct worker workers[THREADS];
    setup_app(&app);
    setup_rig(&rig, &app.adopted, &problem, names[0]);
    for (int t = 0; t < THREADS; t++) {
        buffer_init(&workspaces[t], app.adopted.context, rig.workspace.size);
        buffer_init(&outs[t], app.adopted.context, rig.out.size);
        workers[t] = (struct worker){.plan = rig.plan, .run = rig.run};
        workers[t].run.workspace = workspaces[t].data;
        workers[t].run.out.data = outs[t].data;
        workers[t].run.lse = 0;
        for (int i = 0; i < RECORDINGS; i++) {
            app_commands_init(&commands[t][i], &app, VK_COMMAND_BUFFER_LEVEL_PRIMARY);
            workers[t].buffers[i] = commands[t][i].buffer;
        }
    }
    for (int t = 0; t < THREADS; t++)
        ck_assert_int_eq(pthread_create(&workers[t].thread, NULL, record_often, &workers[t]), 0);
    for (int t = 0; t < THREADS; t++)
        ck_assert_int_eq(pthread_join(workers[t].thread, NULL), 0);
    for (int i = 0; i < RECORDINGS; i++)
        for (int t = 0; t < THREADS; t++) { /* the parts of all runs in turns */
            OK(workers[t].status);
            app_commands_end(&commands[t][i], true);
            app_submit(&app, &commands[t][i], 1);
        }
    app_wait(&app);
    for (int t = 0; t < THREADS; t++) {
        ck_assert_msg(memcmp(buffer_get(&outs[t]), expected_out(0, 0), rig.out.size) == 0,
                      "thread %d", t);
        for (int i = 0; i < RECORDINGS; i++)
            app_commands_free(&commands[t][i]);
        buffer_free(&workspaces[t]);
        buffer_free(&outs[t]);
    }
    free_rig(&rig, &problem);
    app_free(&app);
}
END_TEST

/* ---- Portions ---- */

/* Scorer EXCESS takes the heads a portion at a time: each head once, in no more scratch than that. */
START_TEST(portions_of_heads)
{
    static const struct {
        uint32_t batch, heads, blocks, portion;
    } rows[] = {
        {1, 1, 990, 1},  {1, 24, 990, 4},  {2, 3, 100, 6},  {1, 5, 1440, 2},
        {1, 3, 2048, 1}, {2, 20, 3000, 5}, {3, 3, 4000, 2}, {1, 7, 65535, 1},
    };
    size_t count;
    const struct vk_variant *variants = draft_vk_variants(DRAFT_SCORE, &count);
    for (size_t r = 0; r < sizeof rows / sizeof *rows; r++)
        for (size_t v = 0; v < count; v++) {
            struct draft_geometry g = {.batch = rows[r].batch,
                                       .heads = rows[r].heads,
                                       .dim = 64,
                                       .type = DRAFT_ABI_BF16,
                                       .video_blocks = rows[r].blocks,
                                       .scorer = DRAFT_ABI_SCORER_EXCESS,
                                       .tail = DRAFT_ABI_TAIL_GAP};
            struct vk_caps caps = {0};
            struct vk_pass passes[VK_MAX_PASSES];
            uint32_t heads = g.batch * g.heads, n = variants[v].passes(&caps, &g, passes), at = 0;
            for (uint32_t head = 0; head < heads; head += rows[r].portion) {
                uint32_t first = at;
                while (at < n - 1 && passes[at].step == head)
                    at++;
                ck_assert_msg(at >= first + 2, "row %zu: nothing begins at head %u", r, head);
            }
            ck_assert_uint_eq(at, n - 1); /* the last is the bias */
            uint64_t x = (uint64_t)16 * g.video_blocks * g.video_blocks * rows[r].portion;
            uint64_t scratch = variants[v].scratch(&g);
            ck_assert_msg(scratch >= x && (strcmp(variants[v].name, "scalar") || scratch == x),
                          "row %zu, %s: scratch", r, variants[v].name);
        }
}
END_TEST

static TCase *recording_tests(void)
{
    TCase *tests = tcase_create("recording");
    tcase_set_timeout(tests, 0);
    tcase_add_test(tests, expected_results); /* first: the others compare with it */
    tcase_add_loop_test(tests, recorded_once_submitted_often, 0, CASES);
    tcase_add_test(tests, what_is_appended);
    tcase_add_loop_test(tests, recorded_in_chunks, 0, CASES);
    tcase_add_test(tests, each_chunk_counts);
    tcase_add_test(tests, secondary_command_buffer);
    tcase_add_test(tests, one_workspace_twice);
    tcase_add_test(tests, threads_record_one_plan);
    tcase_add_test(tests, portions_of_heads);
    return tests;
}

int main(void)
{
    device_count = devices_open("vulkan", devices);
    if (device_count == 0 || !app_open())
        return EXIT_SKIPPED;
    unsetenv("DRAFT_KERNEL");
    Suite *suite = suite_create("vulkan");
    suite_add_tcase(suite, recording_tests());
    suite_add_tcase(suite, natives_tests());
    suite_add_tcase(suite, features_tests());
    int status = suite_main(suite, false);
    forget_all();
    devices_close(devices, device_count);
    return status;
}
