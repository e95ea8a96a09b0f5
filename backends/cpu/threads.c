/* SPDX-License-Identifier: MIT
 *
 * A pool of threads that share the items of a job. Jobs live on the stack of the thread that brings
 * them, which works on its own job too, so any number of threads may bring jobs at once. */
#include <pthread.h>
#include <stdatomic.h>

#include "cpu.h"

struct job {
    struct job *next;
    draft_cpu_body body;
    void *argument;
    uint64_t items;
    atomic_uint_fast64_t taken;
    uint32_t helpers; /* workers inside, under the pool's lock */
};

struct worker {
    struct draft_cpu_pool *pool;
    pthread_t thread;
    uint32_t slot;
};

struct draft_cpu_pool {
    pthread_mutex_t lock;
    pthread_cond_t work; /* a job came, or the end              */
    pthread_cond_t idle; /* a worker left a job                 */
    struct job *jobs;    /* those that may have items left      */
    bool ending;
    uint32_t workers;
    struct worker worker[];
};

static void do_items(struct job *job, uint32_t slot)
{
    for (;;) {
        uint64_t item = atomic_fetch_add_explicit(&job->taken, 1, memory_order_relaxed);
        if (item >= job->items)
            return;
        job->body(job->argument, item, slot);
    }
}

static void unlink_job(struct draft_cpu_pool *pool, const struct job *job)
{
    struct job **at = &pool->jobs;
    while (*at && *at != job)
        at = &(*at)->next;
    if (*at)
        *at = job->next;
}

static void *work(void *argument)
{
    struct worker *self = argument;
    struct draft_cpu_pool *pool = self->pool;
    pthread_mutex_lock(&pool->lock);
    while (!pool->ending) {
        struct job *job = pool->jobs;
        if (!job) {
            pthread_cond_wait(&pool->work, &pool->lock);
            continue;
        }
        job->helpers++;
        pthread_mutex_unlock(&pool->lock);
        do_items(job, self->slot);
        pthread_mutex_lock(&pool->lock);
        unlink_job(pool, job); /* all items are taken */
        if (--job->helpers == 0)
            pthread_cond_broadcast(&pool->idle);
    }
    pthread_mutex_unlock(&pool->lock);
    return NULL;
}

void draft_cpu_parallel(struct draft_cpu_pool *pool, uint64_t items, draft_cpu_body body,
                        void *argument)
{
    struct job job = {.body = body, .argument = argument, .items = items};
    pthread_mutex_lock(&pool->lock);
    struct job **last = &pool->jobs;
    while (*last)
        last = &(*last)->next;
    *last = &job;
    pthread_cond_broadcast(&pool->work);
    pthread_mutex_unlock(&pool->lock);
    do_items(&job, 0);
    pthread_mutex_lock(&pool->lock);
    unlink_job(pool, &job);
    while (job.helpers)
        pthread_cond_wait(&pool->idle, &pool->lock);
    pthread_mutex_unlock(&pool->lock);
}

struct draft_cpu_pool *draft_cpu_pool_create(uint32_t workers)
{
    struct draft_cpu_pool *pool = draft_calloc(1, sizeof *pool + workers * sizeof(struct worker));
    if (!pool)
        return NULL;
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->work, NULL);
    pthread_cond_init(&pool->idle, NULL);
    for (; pool->workers < workers; pool->workers++) {
        struct worker *worker = &pool->worker[pool->workers];
        *worker = (struct worker){.pool = pool, .slot = pool->workers + 1};
        if (pthread_create(&worker->thread, NULL, work, worker) != 0) {
            draft_cpu_pool_destroy(pool);
            return NULL;
        }
    }
    return pool;
}

void draft_cpu_pool_destroy(struct draft_cpu_pool *pool)
{
    pthread_mutex_lock(&pool->lock);
    pool->ending = true;
    pthread_cond_broadcast(&pool->work);
    pthread_mutex_unlock(&pool->lock);
    for (uint32_t i = 0; i < pool->workers; i++)
        pthread_join(pool->worker[i].thread, NULL);
    pthread_cond_destroy(&pool->idle);
    pthread_cond_destroy(&pool->work);
    pthread_mutex_destroy(&pool->lock);
    draft_release(pool);
}
