#include "base/pool.h"
#include "base/cpu.h"
#include "base/mem.h"

#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <unistd.h>

/* A job is announced by raising `job`; a worker waits for it to change. The end of a job and every
 * pool_barrier are one sense-free barrier: `arrived` counts, the last one resets it and raises `phase`. */
enum { SPINS_BEFORE_PARK = 20000 };

struct pool {
    _Alignas(64) _Atomic uint32_t job;
    _Atomic uint32_t job_sleepers;
    _Alignas(64) _Atomic uint32_t arrived;
    _Alignas(64) _Atomic uint32_t phase;
    _Atomic uint32_t phase_sleepers;
    _Alignas(64) void (*fn)(void *, int, int);
    void *arg;
    int n, started;
    _Atomic int stop;
    struct worker {
        pthread_t thread;
        pool *pool;
        int ith;
    } workers[POOL_THREADS_MAX];
};

static inline void relax(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("isb");
#endif
}

/* Waits until *word differs from old: spins, then sleeps on a futex. */
static void wait_change(_Atomic uint32_t *word, uint32_t old, _Atomic uint32_t *sleepers) {
    for (int i = 0; i < SPINS_BEFORE_PARK; i++) {
        if (atomic_load_explicit(word, memory_order_acquire) != old) return;
        relax();
    }
    atomic_fetch_add(sleepers, 1);
    while (atomic_load(word) == old) syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, old, NULL, NULL, 0);
    atomic_fetch_sub(sleepers, 1);
}

static void raise_word(_Atomic uint32_t *word, _Atomic uint32_t *sleepers) {
    atomic_fetch_add(word, 1);
    if (atomic_load(sleepers)) syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, POOL_THREADS_MAX, NULL, NULL, 0);
}

void pool_barrier(pool *p) {
    if (p->n == 1) return;
    uint32_t phase = atomic_load(&p->phase);
    if (atomic_fetch_add(&p->arrived, 1) + 1 == (uint32_t)p->n) {
        atomic_store(&p->arrived, 0);
        raise_word(&p->phase, &p->phase_sleepers);
    } else wait_change(&p->phase, phase, &p->phase_sleepers);
}

static void *work(void *arg) {
    struct worker *w = arg;
    pool *p = w->pool;
    for (uint32_t seen = 0;;) {
        wait_change(&p->job, seen, &p->job_sleepers);
        seen++; /* jobs end with a barrier, so none can be missed */
        if (atomic_load(&p->stop)) return NULL;
        p->fn(p->arg, w->ith, p->n);
        pool_barrier(p);
    }
}

mote_status pool_open(pool **out, int n_threads, mote_error *err) {
    *out = NULL;
    if (n_threads <= 0) n_threads = cpu_cores_usable();
    if (n_threads > POOL_THREADS_MAX)
        FAIL(err, MOTE_E_RANGE, "%d threads asked for, at most %d are possible", n_threads, POOL_THREADS_MAX);
    pool *p = mem_alloc_aligned(sizeof *p);
    if (!p) FAIL(err, MOTE_E_MEMORY, "out of memory for the thread pool");
    p->n = n_threads;
    for (int i = 1; i < n_threads; i++) {
        p->workers[i] = (struct worker){.pool = p, .ith = i};
        if (pthread_create(&p->workers[i].thread, NULL, work, &p->workers[i]) != 0) {
            pool_close(&p);
            FAIL(err, MOTE_E_MEMORY, "cannot start thread %d of %d", i + 1, n_threads);
        }
        p->started = i;
    }
    *out = p;
    return MOTE_OK;
}

void pool_close(pool **pp) {
    pool *p = *pp;
    if (!p) return;
    atomic_store(&p->stop, 1);
    raise_word(&p->job, &p->job_sleepers);
    for (int i = 1; i <= p->started; i++) pthread_join(p->workers[i].thread, NULL);
    mem_free_aligned(p);
    *pp = NULL;
}

int pool_size(const pool *p) { return p->n; }

void pool_run(pool *p, void (*fn)(void *, int, int), void *arg) {
    p->fn = fn;
    p->arg = arg;
    if (p->n > 1) raise_word(&p->job, &p->job_sleepers);
    fn(arg, 0, p->n);
    pool_barrier(p);
}
