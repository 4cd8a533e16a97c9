/* squares_test.c: least squares and logistic regression find what the rows were made with. */
#include "train/squares.h"

#include "tensor/tensor.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
/* cmocka wants these first */
#include <cmocka.h>

#include "ok.h"

enum { ROWS = 3000, N = 37, N_Y = 21 };
static float x[ROWS * N], y[ROWS * N_Y], w[N_Y * N], found[N_Y * N];
static pool *threads;
static const kern_table *kern;
static gemm *g;

static void fill(float *to, size_t n, uint64_t seed) {
    rng r;
    rng_seed(&r, seed, 9);
    for (size_t i = 0; i < n; i++) to[i] = 2 * (float)rng_double(&r) - 1;
}

static void a_linear_map_is_found(void **unused) {
    (void)unused;
    squares *q;
    double damp[N];
    fill(x, ROWS * N, 1);
    fill(w, N_Y * N, 2);
    for (size_t r = 0; r < ROWS; r++) {
        x[r * N + 3] *= 50; /* of very different sizes, as streams are */
        x[r * N + N - 1] = 1;
        for (size_t k = 0; k < N_Y; k++) {
            double sum = 0;
            for (size_t i = 0; i < N; i++) sum += (double)w[k * N + i] * (double)x[r * N + i];
            y[r * N_Y + k] = (float)sum;
        }
    }
    OK(squares_open(&q, N, N_Y, &e_));
    for (int again = 0; again < 2; again++) { /* solving begins anew */
        for (size_t at = 0; at < ROWS; at += 700) squares_add(q, g, x + at * N, y + at * N_Y, MIN(ROWS - at, (size_t)700));
        OK(squares_solve(q, threads, NULL, found, &e_));
        for (size_t i = 0; i < N * N_Y; i++) assert_float_equal(found[i], w[i], 2e-4);
    }
    /* held back without end, nothing is left of it; an input that is always zero needs to be held back */
    for (size_t i = 0; i < N; i++) damp[i] = 1e12;
    squares_add(q, g, x, y, ROWS);
    OK(squares_solve(q, threads, damp, found, &e_));
    for (size_t i = 0; i < N * N_Y; i++) assert_float_equal(found[i], 0, 1e-4);
    for (size_t r = 0; r < ROWS; r++) x[r * N + 5] = 0;
    mote_error e;
    squares_add(q, g, x, y, ROWS);
    assert_int_equal(squares_solve(q, threads, NULL, found, &e), MOTE_E_OUTPUT);
    x[77] = NAN;
    squares_add(q, g, x, y, ROWS);
    assert_int_equal(squares_solve(q, threads, damp, found, &e), MOTE_E_OUTPUT);
    squares_close(&q);
    squares_close(&q);
}

/* Labels drawn with chances that are known: those that are found are near them, beside an offset, and held back they go to the offset's. */
static void chances_are_found(void **unused) {
    (void)unused;
    enum { OF = 5 };
    static const float truth[OF] = {1.5f, -0.7f, 0, 0.4f, -1};
    static float offset[ROWS];
    static bool yes[ROWS];
    float u[OF];
    double damp[OF] = {1e-6, 1e-6, 1e-6, 1e-6, 1e-6};
    rng r;
    rng_seed(&r, 4, 2);
    fill(x, ROWS * OF, 3);
    fill(offset, ROWS, 5);
    for (size_t i = 0; i < ROWS; i++) {
        x[i * OF + OF - 1] = 1;
        double s = (double)offset[i];
        for (size_t k = 0; k < OF; k++) s += (double)truth[k] * (double)x[i * OF + k];
        yes[i] = rng_double(&r) < 1 / (1 + exp(-s));
    }
    OK(logistic_fit(u, x, offset, yes, ROWS, OF, damp, g, threads, &e_));
    for (size_t k = 0; k < OF; k++) assert_float_equal(u[k], truth[k], 0.25);
    for (size_t k = 0; k < OF; k++) damp[k] = 1e9;
    OK(logistic_fit(u, x, offset, yes, ROWS, OF, damp, g, threads, &e_));
    for (size_t k = 0; k < OF; k++) assert_float_equal(u[k], 0, 1e-3);
    /* all the same: the greatest likelihood lies at infinity, what holds back keeps it finite */
    for (size_t i = 0; i < ROWS; i++) yes[i] = true;
    for (size_t k = 0; k < OF; k++) damp[k] = 1;
    OK(logistic_fit(u, x, offset, yes, ROWS, OF, damp, g, threads, &e_));
    assert_true(isfinite(u[OF - 1]) && u[OF - 1] > 2);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_linear_map_is_found), cmocka_unit_test(chances_are_found)};
    mote_error e;
    if (pool_open(&threads, 2, &e) != MOTE_OK) return 1;
    kern = tensor_kernels_open(CPU_ALL);
    if (gemm_open(&g, threads, kern, &e) != MOTE_OK) return 1;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    gemm_close(&g);
    tensor_kernels_close(&kern);
    pool_close(&threads);
    return failed;
}
