/* bench_gemm.c: products of float matrices (tensor/gemm.h) at the shapes of training: one JSON line for each.
 *
 *   bench_gemm [--threads N] [--rung NAME] [--prec f32|bf16] [--ms N] [--shape M,N,K,TA,TB,ADD]…
 *
 * gflops is 2 m n k / time (median); peak what the rung's multiply-add reaches from registers with as many threads, measured
 * here; share is gflops as a part of it. Without --shape: SmolLM2-135M's with 512 tokens, forward (tb), gradients of
 * activations (neither) and of weights (ta, add). */
#include "base/clock.h"
#include "base/mem.h"
#include "base/pool.h"
#include "base/rng.h"
#include "kernel/peak.h"
#include "tensor/gemm.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SHAPES = 64, TIMES = 4000 };
typedef struct shape {
    size_t m, n, k;
    bool ta, tb, add;
} shape;
static const shape usual[] = {
    {512, 576, 576, false, true, false},   {512, 192, 576, false, true, false},   {512, 1536, 576, false, true, false},
    {512, 576, 1536, false, true, false},  {512, 576, 576, false, false, false},  {512, 576, 192, false, false, true},
    {512, 576, 1536, false, false, true},  {512, 1536, 576, false, false, false}, {576, 576, 512, true, false, true},
    {192, 576, 512, true, false, true},    {1536, 576, 512, true, false, true},   {576, 1536, 512, true, false, true},
    {512, 49152, 576, false, true, false}, {512, 576, 49152, false, false, false}, {49152, 576, 512, true, false, true},
};

typedef struct peak_job {
    const kern_peak *peak;
    int form;
    unsigned char (*io)[KERN_PEAK_IO];
} peak_job;
static void peak_run(void *arg, int ith, int nth) {
    const peak_job *j = arg;
    (void)nth;
    for (int i = 0; i < 100; i++) j->peak->form[j->form].run(1000, j->io[ith]);
}
static double peak_of(pool *p, uint32_t mask, gemm_prec prec) {
    kern_peaks all;
    double best = 0;
    kern_peaks_init(&all, mask);
    peak_job j = {.io = mem_alloc_aligned((size_t)pool_size(p) * sizeof *j.io)};
    if (!j.io) return 0;
    for (size_t i = 0; i < all.n; i++)
        for (j.form = 0; j.form < KERN_PEAK_FORMS && all.peak[i]->unit == (prec == GEMM_BF16 ? KERN_BF16 : KERN_F32); j.form++)
            for (int rep = 0; rep < 5; rep++) {
                j.peak = all.peak[i];
                for (int t = 0; t < pool_size(p); t++) kern_peak_fill(j.peak, j.io[t]);
                const uint64_t t = clock_ns();
                pool_run(p, peak_run, &j);
                const double g = 1e5 * j.peak->form[j.form].n * j.peak->ops * pool_size(p) / (double)(clock_ns() - t);
                if (g > best) best = g;
            }
    mem_free_aligned(j.io);
    return best;
}

static int by_size(const void *x, const void *y) {
    const double a = *(const double *)x, b = *(const double *)y;
    return (a > b) - (a < b);
}

static void measure(gemm *g, gemm_prec prec, const shape *s, double ms, double peak) {
    static double ns[TIMES];
    gemm_args a = {.m = s->m, .n = s->n, .k = s->k, .ta = s->ta, .tb = s->tb, .add = s->add,
                   .lda = s->ta ? s->m : s->k, .ldb = s->tb ? s->k : s->n, .ldc = s->n};
    float *x = mem_alloc_aligned(s->m * s->k * sizeof *x), *y = mem_alloc_aligned(s->n * s->k * sizeof *y);
    a.c = mem_alloc_aligned(s->m * s->n * sizeof *a.c);
    if (!x || !y || !a.c) exit(2);
    rng r;
    rng_seed(&r, 1, 1);
    for (size_t i = 0; i < s->m * s->k; i++) x[i] = (float)rng_below(&r, 1000) * 1e-3f - 0.5f;
    for (size_t i = 0; i < s->n * s->k; i++) y[i] = (float)rng_below(&r, 1000) * 1e-3f - 0.5f;
    a.a = x, a.b = y;
    size_t n = 0;
    gemm_run(g, prec, &a);
    for (const uint64_t began = clock_ns(); n < TIMES && (n < 3 || (double)(clock_ns() - began) < ms * 1e6); n++) {
        const uint64_t t = clock_ns();
        gemm_run(g, prec, &a);
        ns[n] = (double)(clock_ns() - t);
    }
    qsort(ns, n, sizeof *ns, by_size);
    const double gflops = 2.0 * (double)s->m * (double)s->n * (double)s->k / ns[n / 2];
    (void)printf("{\"prec\": \"%s\", \"m\": %zu, \"n\": %zu, \"k\": %zu, \"ta\": %d, \"tb\": %d, \"add\": %d, \"gflops\": %.1f, \"peak\": %.1f, \"share\": %.3f}\n",
                 prec == GEMM_BF16 ? "bf16" : "f32", s->m, s->n, s->k, s->ta, s->tb, s->add, gflops, peak, gflops / peak);
    mem_free_aligned(x), mem_free_aligned(y), mem_free_aligned(a.c);
}

int main(int argc, char **argv) {
    shape shapes[SHAPES];
    size_t n_shapes = 0;
    int n_threads = 0, ok = 1, first = 0, last = 1;
    uint32_t mask = CPU_ALL;
    double ms = 100;
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[++i] : "";
        const char *name = argv[i - (i < argc && value[0] != 0)];
        if (strcmp(name, "--threads") == 0) n_threads = (int)strtol(value, NULL, 10);
        else if (strcmp(name, "--ms") == 0) ms = strtod(value, NULL);
        else if (strcmp(name, "--rung") == 0) mask = cpu_mask_by_name(value, &ok);
        else if (strcmp(name, "--prec") == 0) first = last = strcmp(value, "bf16") == 0;
        else if (strcmp(name, "--shape") == 0 && n_shapes < SHAPES) {
            size_t v[6] = {0};
            char *end = NULL;
            for (int j = 0; j < 6; j++, value = end + (*end == ',')) v[j] = strtoull(value, &end, 10);
            ok = *end == 0 && v[0] && v[1] && v[2];
            shapes[n_shapes++] = (shape){v[0], v[1], v[2], v[3], v[4], v[5]};
        } else ok = 0;
        if (!ok) {
            (void)fprintf(stderr, "usage: bench_gemm [--threads N] [--rung NAME] [--prec f32|bf16] [--ms N] [--shape M,N,K,TA,TB,ADD]…\n");
            return 2;
        }
    }
    if (n_shapes == 0) memcpy(shapes, usual, sizeof usual), n_shapes = COUNT_OF(usual);
    pool *p;
    gemm *g;
    kern_table kern;
    kern_table_init(&kern, mask);
    if (pool_open(&p, n_threads, NULL) != MOTE_OK || gemm_open(&g, p, &kern, NULL) != MOTE_OK) return 2;
    for (int prec = first; prec <= last; prec++) {
        const double peak = peak_of(p, mask, (gemm_prec)prec);
        for (size_t i = 0; i < n_shapes; i++) measure(g, (gemm_prec)prec, &shapes[i], ms, peak);
    }
    gemm_close(&g);
    pool_close(&p);
    return 0;
}
