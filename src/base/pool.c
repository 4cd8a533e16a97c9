/* pool.c: the threads, and how they wait for each other.
 *
 * A job is announced by changing `job`: a count of jobs and, in its low bits, how many threads take part; one word, so that
 * a worker that wakes late can neither miss a job of its own nor join one that is not. The end of a job and every
 * pool_barrier are one sense-free barrier: `arrived` counts, the last one resets it and raises `phase`.
 *
 * Who waits spins first, which costs least while every thread has a core of its own: the others need microseconds. When
 * it takes longer, somebody else is running where a thread of ours should, and spinning only takes time from that
 * thread's core or from the somebody. So the waiting thread parks on a futex, and the scheduler, which owes
 * it time then, runs it at once when it is woken. An idle pool uses no CPU. Spinning is bounded in nanoseconds, not turns:
 * a pause instruction takes 4 to 140 cycles, by processor. */
#include "base/pool.h"
#include "base/clock.h"
#include "base/cpu.h"
#include "base/mem.h"

#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Between passes a caller samples a token and shows it, which may take longer than any wait inside of a pass. */
enum { SPIN_AT_BARRIER_NS = 50000, SPIN_FOR_JOB_NS = 300000, TURNS_PER_LOOK = 32 };
enum { ACTIVE_BITS = 9, ACTIVE_MASK = (1 << ACTIVE_BITS) - 1 };
_Static_assert(POOL_THREADS_MAX <= ACTIVE_MASK, "the number of threads fits");

struct pool {
    _Alignas(64) _Atomic uint32_t job;
    _Atomic uint32_t job_sleepers;
    _Alignas(64) _Atomic uint32_t arrived;
    _Alignas(64) _Atomic uint32_t phase;
    _Atomic uint32_t phase_sleepers;
    _Alignas(64) void (*fn)(void *, int, int);
    void *arg;
    int n, started, active; /* active: of the present job, ≤ n */
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

/* Waits until *word differs from old: spins for a while, then sleeps on a futex. */
static void wait_change(_Atomic uint32_t *word, uint32_t old, _Atomic uint32_t *sleepers, uint64_t spin_ns) {
    uint64_t since = 0, now;
    do {
        for (int i = 0; i < TURNS_PER_LOOK; i++) {
            if (atomic_load_explicit(word, memory_order_acquire) != old) return;
            relax();
        }
        now = clock_ns();
        if (since == 0) since = now;
    } while (now - since < spin_ns);
    atomic_fetch_add(sleepers, 1);
    while (atomic_load(word) == old) syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, old, NULL, NULL, 0);
    atomic_fetch_sub(sleepers, 1);
}

static void change_word(_Atomic uint32_t *word, uint32_t to, _Atomic uint32_t *sleepers) {
    atomic_store(word, to);
    if (atomic_load(sleepers)) syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, POOL_THREADS_MAX, NULL, NULL, 0);
}

void pool_barrier(pool *p) {
    /* read before arriving: once the last has arrived, the caller may change it for the next job */
    const uint32_t active = (uint32_t)p->active;
    if (active == 1) return;
    uint32_t phase = atomic_load(&p->phase);
    if (atomic_fetch_add(&p->arrived, 1) + 1 == active) {
        atomic_store(&p->arrived, 0);
        change_word(&p->phase, phase + 1, &p->phase_sleepers);
    } else wait_change(&p->phase, phase, &p->phase_sleepers, SPIN_AT_BARRIER_NS);
}

static void *work(void *arg) {
    struct worker *w = arg;
    pool *p = w->pool;
    for (uint32_t seen = 0;;) {
        wait_change(&p->job, seen, &p->job_sleepers, SPIN_FOR_JOB_NS);
        seen = atomic_load(&p->job);
        if (atomic_load(&p->stop)) return NULL;
        if (w->ith >= (int)(seen & ACTIVE_MASK)) continue;
        p->fn(p->arg, w->ith, p->active);
        pool_barrier(p);
    }
}

mote_status pool_open(pool **out, int n_threads, mote_error *err) {
    *out = NULL;
    if (n_threads <= 0) n_threads = cpu_threads_default();
    if (n_threads > POOL_THREADS_MAX)
        FAIL(err, MOTE_E_RANGE, "%d threads asked for, at most %d are possible", n_threads, POOL_THREADS_MAX);
    pool *p = mem_alloc_aligned(sizeof *p);
    if (!p) FAIL(err, MOTE_E_MEMORY, "out of memory for the thread pool");
    p->n = p->active = n_threads;
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
    change_word(&p->job, atomic_load(&p->job) + (1 << ACTIVE_BITS), &p->job_sleepers);
    for (int i = 1; i <= p->started; i++) pthread_join(p->workers[i].thread, NULL);
    mem_free_aligned(p);
    *pp = NULL;
}

int pool_size(const pool *p) { return p->n; }

void pool_limit(pool *p, int n_active) { p->active = n_active < 1 ? 1 : n_active > p->n ? p->n : n_active; }

void pool_run(pool *p, void (*fn)(void *, int, int), void *arg) {
    p->fn = fn;
    p->arg = arg;
    if (p->active > 1) {
        uint32_t count = (atomic_load(&p->job) >> ACTIVE_BITS) + 1;
        change_word(&p->job, count << ACTIVE_BITS | (uint32_t)p->active, &p->job_sleepers);
    }
    fn(arg, 0, p->active);
    pool_barrier(p);
}
