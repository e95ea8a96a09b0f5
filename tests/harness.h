/* SPDX-License-Identifier: MIT
 *
 * What the tests and `draft verify` share: seeded random numbers, element types, a log that
 * remembers, the devices under test, and what happens where something fails. Knows nothing of Check:
 * suite.h does. */
#ifndef DRAFT_TESTS_HARNESS_H
#define DRAFT_TESTS_HARNESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <draft/draft.h>

#include "platform.h"

enum { EXIT_SKIPPED = 77, MAX_DEVICES = 8 };

/* ---- Output and failures ---- */

/* Where what the tests say goes; at first to stdout. NULL: there again. */
void test_print_to(void (*print)(void *user, const char *text), void *user);
void test_print(const char *format, ...) DRAFT_PRINTF(1, 2);

/* Print where, and end what runs: the innermost test_attempt of this thread; without one, what
 * test_fail_with has named; without that, the program. */
_Noreturn void test_fail(const char *file, int line, const char *format, ...) DRAFT_PRINTF(3, 4);
/* end does not return. */
void test_fail_with(void (*end)(const char *text));
/* Call body; false where it failed. What it had allocated in its own variables is lost. */
bool test_attempt(void (*body)(void *user), void *user);

/* What must hold, or the case cannot go on. */
#define REQUIRE(condition) ((condition) ? (void)0 : test_fail(__FILE__, __LINE__, "%s", #condition))

/* Calls that must work. */
#define OK(call) test_ok((call), __FILE__, __LINE__, #call)
void test_ok(draft_status status, const char *file, int line, const char *call);

/* ---- Random numbers: each user has its own stream, so cases do not depend on each other ---- */

struct rng {
    uint64_t state;
};

/* $DRAFT_SEED, or a fixed number. */
uint64_t test_seed(void);
/* The stream of this name and number under the test seed. */
struct rng rng_of(const char *name, uint64_t number);
uint64_t rng_next(struct rng *r);
double rng_unit(struct rng *r);                /* [0, 1)                 */
double rng_normal(struct rng *r);              /* mean 0, deviation 1    */
uint32_t rng_below(struct rng *r, uint32_t n); /* [0, n), n at least 1   */

/* ---- Element types ---- */

size_t type_size(draft_type type);
const char *type_name(draft_type type);
/* Unit roundoff: half the distance from 1 to the next number. */
double type_roundoff(draft_type type);
/* Rounds to nearest even, overflows to infinity. */
void type_store(draft_type type, void *array, uint64_t index, double value);
double type_load(draft_type type, const void *array, uint64_t index);
/* A byte that, repeated, is a NaN in f16, 3.4e38 in the other types, and a huge count. */
enum { POISON = 0x7f, GUARD = 0x7f };

/* ---- Memory of the tests: aborts the program where there is none ---- */

void *test_alloc(size_t count, size_t size);

/* ---- Log ---- */

struct log_memory {
    char text[16384]; /* all lines, each with its newline; stops when full */
    size_t used;
};

/* A log of everything up to `level` that goes to memory. One thread only. */
struct draft_log log_to(struct log_memory *memory, draft_log_level level);
void log_clear(struct log_memory *memory);

/* ---- Devices ---- */

struct test_device {
    draft_context *context;
    struct draft_device_info info;
    struct log_memory log;
    const char *left_out; /* variants that are not run alone, with commas; NULL: none */
    bool trusted;         /* plans for all stages take kernels without their self-tests */
};

/* Open each device of a backend (NULL: of all), up to MAX_DEVICES. Says on stdout what was found.
 * Returns how many. */
size_t devices_open(const char *backend, struct test_device devices[MAX_DEVICES]);
void devices_close(struct test_device *devices, size_t count);

/* f32 where all of them take it, else f16. */
draft_type devices_type(const struct test_device *devices, size_t count);

/* "vulkan 0 attend[scalar]": where a result comes from. Static buffer. */
const char *cell_name(const struct test_device *device, const char *stage, const char *variant);

#endif
