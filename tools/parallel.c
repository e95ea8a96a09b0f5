/* SPDX-License-Identifier: MIT */
#include "parallel.h"

#include <pthread.h>
#include <stdatomic.h>

#include "platform.h"

enum { MOST_THREADS = 256 };

struct work {
    void (*body)(void *argument, uint64_t item);
    void *argument;
    uint64_t items;
    atomic_uint_fast64_t taken;
};

unsigned parallel_threads(void)
{
    uint32_t n = draft_processors();
    return n < MOST_THREADS ? n : MOST_THREADS;
}

static void *do_items(void *argument)
{
    struct work *work = argument;
    for (;;) {
        uint64_t item = atomic_fetch_add(&work->taken, 1);
        if (item >= work->items)
            return NULL;
        work->body(work->argument, item);
    }
}

void parallel_for(unsigned threads, uint64_t items, void (*body)(void *argument, uint64_t item),
                  void *argument)
{
    struct work work = {.body = body, .argument = argument, .items = items};
    pthread_t thread[MOST_THREADS];
    unsigned started = 0, wanted = threads ? threads : parallel_threads();
    wanted = wanted > MOST_THREADS ? MOST_THREADS : wanted;
    while (started + 1 < wanted && started + 1 < items &&
           pthread_create(&thread[started], NULL, do_items, &work) == 0)
        started++;
    do_items(&work);
    for (unsigned i = 0; i < started; i++)
        pthread_join(thread[i], NULL);
}
