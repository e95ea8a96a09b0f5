/* SPDX-License-Identifier: MIT */
#include "harness.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- Output and failures ---- */

static struct {
    void (*print)(void *user, const char *text);
    void *user;
} output;

void test_print_to(void (*print)(void *user, const char *text), void *user)
{
    output.print = print;
    output.user = user;
}

void test_print(const char *format, ...)
{
    char text[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (output.print)
        output.print(output.user, text);
    else
        fputs(text, stdout);
}

static void (*end_failed)(const char *text);
static _Thread_local jmp_buf *attempt;

void test_fail_with(void (*end)(const char *text))
{
    end_failed = end;
}

void test_fail(const char *file, int line, const char *format, ...)
{
    char text[1024];
    const char *name = strrchr(file, '/');
    va_list arguments;
    int length = snprintf(text, sizeof text, "%s:%d: ", name ? name + 1 : file, line);
    va_start(arguments, format);
    vsnprintf(text + length, sizeof text - (size_t)length, format, arguments);
    va_end(arguments);
    test_print("    %s\n", text);
    if (attempt)
        longjmp(*attempt, 1);
    fflush(stdout);
    if (end_failed)
        end_failed(text);
    abort();
}

bool test_attempt(void (*body)(void *user), void *user)
{
    jmp_buf here, *const outer = attempt;
    attempt = &here;
    if (setjmp(here) != 0) {
        attempt = outer;
        return false;
    }
    body(user);
    attempt = outer;
    return true;
}

void test_ok(draft_status status, const char *file, int line, const char *call)
{
    if (status)
        test_fail(file, line, "%s: %s", call, draft_status_name(status));
}

/* ---- Random numbers ---- */

uint64_t test_seed(void)
{
    const char *text = getenv("DRAFT_SEED");
    return text && *text ? strtoull(text, NULL, 0) : 14708;
}

uint64_t rng_next(struct rng *r)
{
    uint64_t z = r->state += 0x9e3779b97f4a7c15u; /* splitmix64 */
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

struct rng rng_of(const char *name, uint64_t number)
{
    struct rng r = {test_seed() ^ (number << 32)};
    for (; *name; name++)
        r.state = rng_next(&r) ^ (unsigned char)*name;
    return r;
}

double rng_unit(struct rng *r)
{
    return (double)(rng_next(r) >> 11) * 0x1p-53;
}

double rng_normal(struct rng *r)
{
    double radius = sqrt(-2 * log(1 - rng_unit(r)));
    return radius * cos(2 * acos(-1) * rng_unit(r));
}

uint32_t rng_below(struct rng *r, uint32_t n)
{
    return (uint32_t)(rng_next(r) % n);
}

size_t type_size(draft_type type)
{
    return type == DRAFT_F32 ? 4 : 2;
}

const char *type_name(draft_type type)
{
    return type == DRAFT_F16 ? "f16" : type == DRAFT_BF16 ? "bf16" : "f32";
}

double type_roundoff(draft_type type)
{
    return type == DRAFT_F16 ? 0x1p-11 : type == DRAFT_BF16 ? 0x1p-8 : 0x1p-24;
}

/* Bits of a 16-bit float with `mantissa` explicit bits. */
static uint16_t encode16(double value, int mantissa)
{
    int bias = mantissa == 10 ? 15 : 127;
    uint16_t sign = signbit(value) ? 0x8000 : 0;
    uint16_t infinity = (uint16_t)(0x7fff >> mantissa << mantissa);
    if (isnan(value))
        return infinity | 1u << (mantissa - 1);
    value = fabs(value);
    if (value == 0)
        return sign;
    if (isinf(value))
        return sign | infinity;
    int exponent = ilogb(value) < 1 - bias ? 1 - bias : ilogb(value);
    double scaled = nearbyint(ldexp(value, mantissa - exponent));
    /* A denormal lacks the hidden bit, a mantissa that rounds up carries into the exponent. */
    double bits = scaled + ldexp(exponent + bias - 1, mantissa);
    return sign | (bits >= infinity ? infinity : (uint16_t)bits);
}

static double decode16(uint16_t bits, int mantissa)
{
    int bias = mantissa == 10 ? 15 : 127;
    int exponent = (bits & 0x7fff) >> mantissa;
    int fraction = bits & ((1 << mantissa) - 1);
    double value;
    if (exponent == 2 * bias + 1)
        value = fraction ? NAN : INFINITY;
    else if (exponent == 0)
        value = ldexp(fraction, 1 - bias - mantissa);
    else { /* as a double has it; ldexp is slow */
        uint64_t wide = (uint64_t)(exponent - bias + 1023) << 52;
        wide |= (uint64_t)fraction << (52 - mantissa);
        memcpy(&value, &wide, sizeof value);
    }
    return bits & 0x8000 ? -value : value;
}

void type_store(draft_type type, void *array, uint64_t index, double value)
{
    if (type == DRAFT_F32)
        ((float *)array)[index] = (float)value;
    else
        ((uint16_t *)array)[index] = encode16(value, type == DRAFT_F16 ? 10 : 7);
}

double type_load(draft_type type, const void *array, uint64_t index)
{
    if (type == DRAFT_F32)
        return ((const float *)array)[index];
    return decode16(((const uint16_t *)array)[index], type == DRAFT_F16 ? 10 : 7);
}

void *test_alloc(size_t count, size_t size)
{
    void *memory = calloc(count ? count : 1, size);
    if (!memory) {
        fprintf(stderr, "tests: %zu x %zu bytes: out of memory\n", count, size);
        abort();
    }
    return memory;
}

static void remember(void *user, draft_log_level level, const char *text)
{
    (void)level;
    struct log_memory *memory = user;
    size_t room = sizeof memory->text - memory->used;
    int length = snprintf(memory->text + memory->used, room, "%s\n", text);
    if (length > 0 && (size_t)length < room)
        memory->used += (size_t)length;
    else
        memory->text[memory->used] = '\0';
}

struct draft_log log_to(struct log_memory *memory, draft_log_level level)
{
    return (struct draft_log){remember, memory, level};
}

void log_clear(struct log_memory *memory)
{
    memory->used = 0;
    memory->text[0] = '\0';
}

static bool device_open(struct test_device *device)
{
    struct draft_context_params params = {
        .backend = device->info.backend,
        .device = device->info.index,
        .log = log_to(&device->log, DRAFT_LOG_ERROR),
    };
    draft_status status = draft_context_create(&params, &device->context);
    printf("%s %u: %s, attend %s%s%s\n", device->info.backend, device->info.index,
           device->info.name, device->info.attend, status ? ": not opened: " : "",
           device->log.text);
    return status == DRAFT_OK;
}

size_t devices_open(const char *backend, struct test_device devices[MAX_DEVICES])
{
    static struct log_memory log;
    struct draft_log to = log_to(&log, DRAFT_LOG_INFO);
    struct draft_device_info infos[MAX_DEVICES];
    size_t listed = MAX_DEVICES, opened = 0;
    draft_status status = draft_devices(&to, infos, &listed);
    if (status || listed == 0)
        printf("no devices: %s\n%s", draft_status_name(status), log.text);
    for (size_t i = 0; !status && i < listed && i < MAX_DEVICES; i++) {
        if (backend && strcmp(backend, infos[i].backend) != 0)
            continue;
        memset(&devices[opened], 0, sizeof devices[opened]);
        devices[opened].info = infos[i];
        opened += device_open(&devices[opened]);
    }
    if (opened == 0)
        printf("%s: no device, skipped\n%s", backend ? backend : "all backends", log.text);
    fflush(stdout);
    return opened;
}

void devices_close(struct test_device *devices, size_t count)
{
    for (size_t i = 0; i < count; i++)
        draft_context_destroy(&devices[i].context);
}

draft_type devices_type(const struct test_device *devices, size_t count)
{
    uint32_t types = 1u << DRAFT_F32;
    for (size_t i = 0; i < count; i++)
        types &= devices[i].info.types;
    return types ? DRAFT_F32 : DRAFT_F16;
}

const char *cell_name(const struct test_device *device, const char *stage, const char *variant)
{
    static char name[128];
    snprintf(name, sizeof name, "%s %u %s[%s]", device->info.backend, device->info.index, stage,
             variant ? variant : "default");
    return name;
}
