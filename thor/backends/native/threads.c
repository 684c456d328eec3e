/* A pool of threads, one a core, that take the next piece of work; and the routines a program must tell first. */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "kernels.h"

struct linear_algebra thor_blas;

static struct {
    pthread_mutex_t one_at_a_time, lock;
    pthread_cond_t begins, ended;
    int helpers; /* threads beside the caller */
    int busy;    /* of them, in this round */
    uintptr_t round;
    piece work;
    void *context;
    int64_t count;
    size_t scratch;
    atomic_llong next;
    atomic_int failed;
} pool = {.one_at_a_time = PTHREAD_MUTEX_INITIALIZER, .lock = PTHREAD_MUTEX_INITIALIZER,
          .begins = PTHREAD_COND_INITIALIZER, .ended = PTHREAD_COND_INITIALIZER};

static _Thread_local struct { float *memory; size_t size; } own;

int thor_kernels_version(void) { return THOR_KERNELS_VERSION; }

void thor_bind(const struct linear_algebra *routines) { thor_blas = *routines; }

/* Memory of this thread, used again at every call: fresh memory costs more in page faults than the work on it. */
static float *scratch_of_thread(size_t size) {
    if (own.size < size) {
        free(own.memory);
        own.memory = aligned_alloc(64, (size * sizeof(float) + 63) / 64 * 64);
        own.size = own.memory == NULL ? 0 : size;
    }
    return own.memory;
}

static void take_pieces(void) {
    float *scratch = scratch_of_thread(pool.scratch);
    if (scratch == NULL && pool.scratch > 0) {
        atomic_store(&pool.failed, 1);
        return;
    }
    for (int64_t index; (index = atomic_fetch_add(&pool.next, 1)) < pool.count;)
        pool.work(pool.context, index, scratch);
}

static void *help(void *round) {
    uintptr_t seen = (uintptr_t)round;
    pthread_mutex_lock(&pool.lock);
    for (;;) {
        while (pool.round == seen)
            pthread_cond_wait(&pool.begins, &pool.lock);
        seen = pool.round;
        pthread_mutex_unlock(&pool.lock);
        take_pieces();
        pthread_mutex_lock(&pool.lock);
        if (--pool.busy == 0)
            pthread_cond_signal(&pool.ended);
    }
    return NULL;
}

static void forget_threads_of_parent(void) { /* a forked process has none of them */
    pool.helpers = pool.busy = 0;
    pthread_mutex_init(&pool.one_at_a_time, NULL);
    pthread_mutex_init(&pool.lock, NULL);
    pthread_cond_init(&pool.begins, NULL);
    pthread_cond_init(&pool.ended, NULL);
}

__attribute__((constructor)) static void at_load(void) { pthread_atfork(NULL, NULL, forget_threads_of_parent); }

/* Of the process, but no more than the threads that SciPy's OpenBLAS has memory for. */
static int cores(void) {
    cpu_set_t set;
    return sched_getaffinity(0, sizeof set, &set) == 0 ? (int)at_most(CPU_COUNT(&set), 64) : 1;
}

/* Signals are the program's: its own threads get them. */
static void start_helpers(int wanted) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    for (pthread_t thread; pool.helpers < wanted; pool.helpers++) {
        if (pthread_create(&thread, NULL, help, (void *)pool.round) != 0)
            break; /* those that are there do the work */
        pthread_detach(thread);
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

static void work_together(int helpers) {
    start_helpers(helpers);
    pthread_mutex_lock(&pool.lock);
    pool.busy = pool.helpers;
    pool.round++;
    pthread_cond_broadcast(&pool.begins);
    pthread_mutex_unlock(&pool.lock);
    take_pieces();
    pthread_mutex_lock(&pool.lock);
    while (pool.busy > 0)
        pthread_cond_wait(&pool.ended, &pool.lock);
    pthread_mutex_unlock(&pool.lock);
}

int thor_for_each(piece work, void *context, int64_t count, size_t scratch) {
    pthread_mutex_lock(&pool.one_at_a_time);
    pool.work = work, pool.context = context, pool.count = count, pool.scratch = scratch;
    atomic_store(&pool.next, 0), atomic_store(&pool.failed, 0);
    int n_cores = cores();
    if (count < n_cores || thor_blas.set_threads == NULL) {
        take_pieces();
    } else { /* two pools of threads would fight for the cores */
        int threads = thor_blas.get_threads();
        thor_blas.set_threads(1);
        work_together(n_cores - 1);
        thor_blas.set_threads(threads);
    }
    int failed = atomic_load(&pool.failed);
    pthread_mutex_unlock(&pool.one_at_a_time);
    return failed ? NO_MEMORY : FINE;
}
