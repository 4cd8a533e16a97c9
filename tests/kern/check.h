/* check.h: what the kernel tests share, in the manner of checkasm: every implementation that a CPU mask brings
 * into the table is found by looking, compared with the scalar one, and timed when asked.
 *
 * Arguments of the programs: --report (rows for ./test --report), --bench (timings), --seed N. */
#ifndef MOTE_TESTS_CHECK_H
#define MOTE_TESTS_CHECK_H

#include "base/clock.h"
#include "kern/random_weights.h"
#include "kernel/packed.h"
#include "report.h"

#include <math.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

static struct {
    bool report, bench, failed;
    uint64_t seed;
    const char *rung;
    char what[96];
} check;

/* ---- memory that ends where nothing may be touched ---- */
typedef struct guarded {
    unsigned char *p; /* n bytes, followed by a page without access */
    unsigned char *map;
    size_t n, map_bytes;
} guarded;

static inline guarded guarded_new(size_t n) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE), whole = (n + page - 1) / page * page;
    guarded g = {.n = n, .map_bytes = whole + 2 * page};
    g.map = mmap(NULL, g.map_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (g.map == MAP_FAILED || mprotect(g.map, page, PROT_NONE) != 0 ||
        mprotect(g.map + page + whole, page, PROT_NONE) != 0) {
        perror("guarded memory");
        exit(2);
    }
    g.p = g.map + page + whole - n;
    return g;
}
static inline guarded guarded_floats(size_t n, rng *r, float scale) {
    guarded g = guarded_new(n * sizeof(float));
    float *f = (float *)(void *)g.p;
    for (size_t i = 0; i < n; i++) f[i] = r ? scale * random_float(r) : scale;
    return g;
}
static inline float *floats(const guarded *g) { return (float *)(void *)g->p; }
static inline void guarded_free(guarded *g) { munmap(g->map, g->map_bytes); }

/* ---- verdicts ---- */
static inline void on_signal(int sig) {
    static const char text[] = "crashed in: ";
    (void)!write(2, text, sizeof text - 1);
    (void)!write(2, check.what, strlen(check.what));
    (void)!write(2, sig == SIGILL ? " (illegal instruction)\n" : " (bad access)\n", sig == SIGILL ? 23 : 14);
    _exit(1);
}

static inline void check_begin(int argc, char **argv) {
    check.report = report_wanted(argc, argv);
    check.seed = clock_ns() % 1000000;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--bench") == 0) check.bench = true;
        if (strcmp(argv[i], "--seed") == 0 && i + 1 < argc) check.seed = strtoull(argv[i + 1], NULL, 10);
    }
    printf("seed %llu\n", (unsigned long long)check.seed);
    struct sigaction on = {.sa_handler = on_signal};
    sigaction(SIGSEGV, &on, NULL);
    sigaction(SIGBUS, &on, NULL);
    sigaction(SIGILL, &on, NULL);
}

static inline double error_of(const float *a, const float *b, size_t n) {
    double err = 0, sum = 0;
    for (size_t i = 0; i < n; i++) {
        if (memcmp(&a[i], &b[i], sizeof *a) == 0) continue;
        if (isnan(a[i]) && isnan(b[i])) continue;
        err += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
    }
    for (size_t i = 0; i < n; i++) sum += isfinite(b[i]) ? (double)b[i] * (double)b[i] : 0;
    return err == 0 ? 0 : isfinite(err) ? err / (sum + 1e-30) : 1;
}

/* One row: kernel `name` on the present rung has `error`; `speed` (may be "") is what --bench measured. */
static inline void verdict(const char *name, double error, double bar, double ratio, const char *speed) {
    bool ok = error <= bar;
    if (!ok) check.failed = true;
    if (check.report) {
        char measured[40], limit[40], times[32] = "-";
        (void)snprintf(measured, sizeof measured, "NMSE %.2g", error);
        (void)snprintf(limit, sizeof limit, "%.2g", bar);
        if (ratio > 0) (void)snprintf(times, sizeof times, "%.1fx scalar", ratio);
        report_row("kern", name, measured, limit, ok ? "ok" : "FAIL", times, check.rung);
    } else {
        printf("%-4s %-24s %-12s error %-9.2g bar %-7.2g %s\n", ok ? "ok" : "FAIL", name, check.rung, error, bar, speed);
    }
}

/* ---- rungs ---- */
static const char *const rung_names[] = {"scalar", "avx2", "avxvnni",  "avx512", "avx512vnni", "avx512bf16",
                                         "neon",   "dotprod", "i8mm"};
/* The table of rung i; false when this machine cannot run it. */
static inline bool rung_table(size_t i, kern_table *t) {
    int ok;
    uint32_t mask = cpu_mask_by_name(rung_names[i], &ok);
    if (!ok || (mask & cpu_detect()) != mask) return false;
    kern_table_init(t, mask);
    check.rung = rung_names[i];
    return i == 0 || t->flags == mask;
}

/* Calls `rung` for each that this machine has, with the scalar table, that of the rung before and its own. The exit code. */
typedef void check_rung_fn(const kern_table *ref, const kern_table *before, const kern_table *t);
static inline int each_rung(check_rung_fn *rung) {
    kern_table ref, before, t;
    if (!rung_table(0, &ref)) return 2;
    before = ref;
    for (size_t i = 1; i < COUNT_OF(rung_names); i++) {
        if (!rung_table(i, &t)) continue;
        rung(&ref, &before, &t);
        before = t;
    }
    return check.failed;
}

/* ns of the fastest of several calls. */
#define TIME_NS(best, call)                                                                                   \
    do {                                                                                                      \
        (best) = 1e18;                                                                                        \
        uint64_t began_ = clock_ns();                                                                         \
        for (int i_ = 0; i_ < 200 && clock_ns() - began_ < 20000000; i_++) {                                  \
            uint64_t t_ = clock_ns();                                                                         \
            call;                                                                                             \
            double ns_ = (double)(clock_ns() - t_);                                                           \
            if (ns_ < (best)) (best) = ns_;                                                                   \
        }                                                                                                     \
    } while (0)

#endif
