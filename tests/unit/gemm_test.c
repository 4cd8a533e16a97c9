/* gemm_test.c: products of matrices against sums in double precision: all transpositions, sizes around the tiles' and the
 * blocks' edges, rows with gaps; and the promise that neither threads nor blocks change a bit. */
#include "base/pool.h"
#include "kern/random_weights.h"
#include "kernel/kernel.h"
#include "tensor/gemm.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static kern_table kern;
static gemm *on[3]; /* with 1, 2 and 3 threads */
static pool *pools[3];

static float *floats(size_t n, rng *r) {
    float *p = malloc((n + 1) * sizeof *p);
    assert_non_null(p);
    for (size_t i = 0; i < n; i++) p[i] = random_float(r);
    return p;
}

/* The squared error of c beside the squares of all that was added up for it; was: c before. */
static double error_of(const gemm_args *g, const float *was) {
    double err = 0, sum = 0;
    for (size_t i = 0; i < g->m; i++)
        for (size_t j = 0; j < g->n; j++) {
            double want = g->add ? (double)was[i * g->ldc + j] : 0;
            for (size_t l = 0; l < g->k; l++) {
                const float a = g->ta ? g->a[l * g->lda + i] : g->a[i * g->lda + l];
                const float b = g->tb ? g->b[j * g->ldb + l] : g->b[l * g->ldb + j];
                want += (double)a * (double)b;
                sum += (double)a * (double)a * (double)b * (double)b;
            }
            const double d = (double)g->c[i * g->ldc + j] - want;
            err += d * d;
        }
    return err / (sum + 1e-30);
}

/* One product with every number of threads; the worst error. */
static double check_one(gemm_prec prec, size_t m, size_t n, size_t k, bool ta, bool tb, bool add, size_t gap) {
    rng r;
    rng_seed(&r, m * 1000 + n, k);
    gemm_args g = {.m = m, .n = n, .k = k, .ta = ta, .tb = tb, .add = add, .ldc = n + gap};
    g.lda = (ta ? m : k) + gap, g.ldb = (tb ? k : n) + gap;
    float *a = floats((ta ? k : m) * g.lda, &r), *b = floats((tb ? n : k) * g.ldb, &r);
    const size_t n_c = m * g.ldc;
    float *was = floats(n_c, &r), *c = malloc((n_c + 1) * sizeof *c), *first = malloc((n_c + 1) * sizeof *first);
    double worst = 0;
    for (size_t t = 0; t < COUNT_OF(on); t++) {
        memcpy(c, was, n_c * sizeof *c);
        g.a = a, g.b = b, g.c = c;
        gemm_run(on[t], prec, &g);
        for (size_t i = 0; i < m; i++) /* what lies between the rows stays */
            assert_memory_equal(c + i * g.ldc + n, was + i * g.ldc + n, gap * sizeof *c);
        if (t == 0) {
            worst = error_of(&g, was);
            memcpy(first, c, n_c * sizeof *c);
        } else {
            assert_memory_equal(c, first, n_c * sizeof *c);
        }
    }
    float *all[] = {a, b, was, c, first};
    for (size_t i = 0; i < COUNT_OF(all); i++) free(all[i]);
    return worst;
}

static const size_t shapes[][3] = {{1, 1, 1},    {1, 1, 7},     {3, 5, 2},    {12, 32, 16}, {13, 33, 17},  {7, 100, 31}, {64, 48, 65}, {25, 16, 130},
                                   {40, 70, 643}, {5, 3100, 10}, {3100, 3, 9}, {2, 2, 2000}, {100, 200, 50}, {1, 576, 192}, {33, 1, 33}};

static void test_products(void **state) {
    (void)state;
    for (size_t s = 0; s < COUNT_OF(shapes); s++)
        for (int how = 0; how < 8; how++)
            for (int prec = 0; prec < 2; prec++) {
                const double e = check_one((gemm_prec)prec, shapes[s][0], shapes[s][1], shapes[s][2], how & 1, how & 2, how & 4, s % 3);
                const double bar = prec == GEMM_BF16 && kern.gemm_bf16.tile ? 2e-5 : 1e-12;
                if (!(e <= bar)) fail_msg("%zu x %zu x %zu, transposed %d, precision %d: error %g", shapes[s][0], shapes[s][1], shapes[s][2], how, prec, e);
            }
}

/* k = 0 is an empty sum. */
static void test_empty(void **state) {
    (void)state;
    float a[4] = {1, 1, 1, 1}, c[4] = {5, 6, 7, 8};
    gemm_args g = {.m = 2, .n = 2, .k = 0, .a = a, .b = a, .c = c, .lda = 2, .ldb = 2, .ldc = 2, .add = true};
    gemm_run(on[1], GEMM_F32, &g);
    assert_true(c[0] == 5 && c[3] == 8);
    g.add = false;
    gemm_run(on[1], GEMM_F32, &g);
    assert_true(c[0] == 0 && c[1] == 0 && c[2] == 0 && c[3] == 0);
    c[0] = 3, g.m = 0;
    gemm_run(on[1], GEMM_F32, &g);
    assert_true(c[0] == 3);
}

/* More than one phase: more lines, and more of k, than fit a buffer. Numbers so that all sums are exact. */
static void test_phases(void **state) {
    (void)state;
    static const size_t big[][3] = {{3100, 40, 700}, {30, 6200, 900}, {600, 500, 5000}};
    for (size_t s = 0; s < COUNT_OF(big); s++) {
        const size_t m = big[s][0], n = big[s][1], k = big[s][2];
        float *a = malloc(m * k * sizeof *a), *b = malloc(n * k * sizeof *b), *c = malloc(m * n * sizeof *c);
        for (size_t i = 0; i < m; i++)
            for (size_t l = 0; l < k; l++) a[i * k + l] = (float)(i % 5 + 1);
        for (size_t j = 0; j < n; j++)
            for (size_t l = 0; l < k; l++) b[j * k + l] = (float)(j % 7) + (float)(l % 2);
        for (int prec = 0; prec < 2; prec++) {
            gemm_run(on[1], (gemm_prec)prec, &(gemm_args){.m = m, .n = n, .k = k, .a = a, .b = b, .c = c, .lda = k, .ldb = k, .ldc = n, .tb = true});
            for (size_t i = 0; i < m; i++)
                for (size_t j = 0; j < n; j++)
                    if (c[i * n + j] != (float)((i % 5 + 1) * (j % 7 * k + k / 2))) fail_msg("product %zu: c[%zu, %zu] is %g", s, i, j, (double)c[i * n + j]);
        }
        free(a), free(b), free(c);
    }
}

int main(int argc, char **argv) {
    int ok = 1;
    kern_table_init(&kern, argc > 1 && argv[1][0] != '-' ? cpu_mask_by_name(argv[1], &ok) : CPU_ALL);
    if (!ok) return 2;
    for (int i = 0; i < 3; i++)
        if (pool_open(&pools[i], i + 1, NULL) != MOTE_OK || gemm_open(&on[i], pools[i], &kern, NULL) != MOTE_OK) return 2;
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_products), cmocka_unit_test(test_empty), cmocka_unit_test(test_phases)};
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    for (int i = 0; i < 3; i++) gemm_close(&on[i]), pool_close(&pools[i]);
    return failed;
}
