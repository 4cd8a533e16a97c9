/* gptq_test.c: grids, error feedback and sparsity on small matrices. */
#include "compress/gptq.h"
#include "compress/quantize.h"
#include "quant/grid.h"
#include "tensor/tensor.h"

#include "../report.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
/* cmocka wants these first */
#include <cmocka.h>

#include "ok.h"

enum { COLS = 256, ROWS = 24, TOKENS = 600 };
static const struct kern_table *kern;
static bool report;

static float normal(rng *r) {
    double u = rng_double(r) + 1e-12, v = rng_double(r);
    return (float)(sqrt(-2 * log(u)) * cos(6.283185307179586 * v));
}

/* Rows that are correlated and whose columns differ in size, as activations are. */
static void fill_inputs(float *x, size_t n, size_t cols, uint64_t seed) {
    rng r;
    rng_seed(&r, seed, 1);
    for (size_t i = 0; i < n; i++) {
        float before = 0;
        for (size_t c = 0; c < cols; c++) {
            float v = 0.8f * before + normal(&r);
            before = v;
            x[i * cols + c] = v * (c % 37 == 5 ? 12.0f : 0.3f + (float)(c % 7) * 0.2f);
        }
    }
}

static void fill_weights(float *w, size_t n, uint64_t seed) {
    rng r;
    rng_seed(&r, seed, 2);
    for (size_t i = 0; i < n; i++) w[i] = normal(&r) * 0.05f;
}

typedef struct bed {
    pool *p;
    gemm *g;
    hessian *h;
    float *x, *w;
} bed;

static bed bed_open(int threads, size_t cols, size_t tokens) {
    bed b = {0};
    OK(pool_open(&b.p, threads, &e_));
    OK(gemm_open(&b.g, b.p, kern, &e_));
    OK(hessian_open(&b.h, cols, true, &e_));
    b.x = MEM_NEW_N(float, tokens * cols);
    b.w = MEM_NEW_N(float, (size_t)ROWS * cols);
    assert_true(b.x && b.w);
    fill_inputs(b.x, tokens, cols, 7);
    fill_weights(b.w, ROWS * cols, 8);
    return b;
}

static void bed_moments(bed *b, size_t tokens) {
    OK(hessian_add(b->h, b->g, b->p, b->x, tokens / 2, &e_));
    OK(hessian_add(b->h, b->g, b->p, b->x + tokens / 2 * b->h->cols, tokens - tokens / 2, &e_));
    hessian_mean(b->h);
}

static void bed_close(bed *b) {
    hessian_close(&b->h);
    gemm_close(&b->g);
    pool_close(&b->p);
    mem_free(b->x);
    mem_free(b->w);
}

static double output_error(bed *b, const float *w) {
    double sum;
    float *d = MEM_NEW_N(float, (size_t)ROWS * b->h->cols);
    assert_non_null(d);
    for (size_t i = 0; i < ROWS * b->h->cols; i++) d[i] = w[i] - b->w[i];
    OK(hessian_error(b->h->h, b->h->cols, d, ROWS, b->g, &sum, &e_));
    mem_free(d);
    return sum;
}

/* ---- grids ---- */

static void levels_are_the_formats_own(void **state) {
    (void)state;
    float x[768], y[768], z[768];
    unsigned char bytes[1536], again[1536];
    int n_grids = 0;
    fill_weights(x, 768, 3);
    x[77] = 0.9f;
    for (int t = 0; t < QUANT_TYPE_MAX; t++) {
        const quant_grid *g = quant_grid_of(t);
        const quant_format *f = quant_get(t);
        if (!g) continue;
        n_grids++;
        assert_int_equal(g->block, f->block);
        assert_int_equal(g->block % g->group, 0);
        f->encode(bytes, x, 768, NULL);
        f->decode(y, bytes, 768);
        memcpy(again, bytes, sizeof bytes);
        for (size_t b = 0; b < 768 / f->block; b++) {
            quant_grid_scales s;
            uint8_t places[QUANT_GRID_BLOCK];
            quant_grid_read(g, bytes + b * f->bytes, &s);
            for (size_t j = 0; j < f->block; j++) {
                float scale = s.d * s.a[j / g->group], off = s.m * s.b[j / g->group], want = y[b * f->block + j];
                int p = quant_grid_place(g, scale != 0 ? (want - off) / scale : 0);
                assert_in_range(p, 0, quant_grid_places(g) - 1);
                z[j] = quant_grid_value(g, scale, off, p);
                if (memcmp(&z[j], &want, sizeof want) && !(z[j] == 0 && want == 0)) {
                    fail_msg("%s: weight %zu is %g, its level %g", f->name, j, (double)want, (double)z[j]);
                }
                /* and another level than the encoder's, to see that all bits are written */
                places[j] = (uint8_t)((p + 1 + (int)j % 5) % quant_grid_places(g));
                z[j] = quant_grid_value(g, scale, off, places[j]);
            }
            quant_grid_put(g, again + b * f->bytes, places);
            f->decode(y + b * f->block, again + b * f->bytes, f->block);
            for (size_t j = 0; j < f->block; j++) assert_true(y[b * f->block + j] == z[j]);
            if (!g->outer) continue;
            float d = s.d * 1.25f, m = s.m * 0.5f;
            quant_grid_set(g, again + b * f->bytes, &d, &m);
            quant_grid_read(g, again + b * f->bytes, &s);
            assert_true(s.d == d && (!g->minimum || s.m == m));
        }
    }
    assert_true(n_grids >= 16);
    assert_null(quant_grid_of(QUANT_F32));
    assert_int_equal(quant_grid_place(quant_grid_of(QUANT_Q4_0), NAN), 8);
    assert_int_equal(quant_grid_place(quant_grid_of(QUANT_Q4_0), INFINITY), 15);
}

/* ---- the factor ---- */

static void factor_inverts(void **state) {
    (void)state;
    static const size_t sizes[] = {1, 5, 64, 65, 130, 256};
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        size_t n = sizes[i];
        bed b = bed_open(2, n, TOKENS);
        bed_moments(&b, TOKENS);
        float *u = MEM_NEW_N(float, n * n), damp = 0.01f;
        assert_non_null(u);
        OK(hessian_factor(b.h->h, n, &damp, u, b.g, b.p, &e_));
        assert_true(damp == 0.01f);
        double trace = 0, worst = 0;
        for (size_t k = 0; k < n; k++) trace += (double)b.h->h[k * n + k];
        for (size_t r = 0; r < n; r++) {
            for (size_t c = 0; c < r; c++) assert_true(u[r * n + c] == 0);
            /* u (h + damp) uᵀ = 1, row by row */
            for (size_t q = 0; q < n; q++) {
                double sum = 0;
                for (size_t k = r; k < n; k++) {
                    double hk = 0;
                    for (size_t l = q; l < n; l++) {
                        double v = (double)b.h->h[k * n + l] + (k == l ? 0.01 * trace / (double)n : 0);
                        hk += v * (double)u[q * n + l];
                    }
                    sum += (double)u[r * n + k] * hk;
                }
                worst = fmax(worst, fabs(sum - (r == q)));
            }
            if (n > 100 && r > 8) break;
        }
        assert_true(worst < 2e-3);
        mem_free(u);
        bed_close(&b);
    }
}

/* ---- rounding ---- */

/* The same decisions by the older formulation, in double: after each column the inverse itself is updated
 * (Frantar and Alistarh 2022, "Optimal Brain Compression", eqs. 2 and 4). */
static void reference(const float *h, size_t n, double damp, float *w, size_t rows, const quant_grid *g, const float *scale) {
    double *inv = MEM_NEW_N(double, n * n), *a = MEM_NEW_N(double, n * n), trace = 0;
    assert_true(inv && a);
    for (size_t i = 0; i < n; i++) trace += (double)h[i * n + i];
    for (size_t i = 0; i < n * n; i++) {
        a[i] = (double)h[i] + (i % (n + 1) == 0 ? damp * trace / (double)n : 0);
        inv[i] = i % (n + 1) == 0;
    }
    for (size_t i = 0; i < n; i++) { /* Gauss-Jordan */
        double d = 1 / a[i * n + i];
        for (size_t k = 0; k < n; k++) a[i * n + k] *= d, inv[i * n + k] *= d;
        for (size_t r = 0; r < n; r++) {
            double f = a[r * n + i];
            if (r == i) continue;
            for (size_t k = 0; k < n; k++) a[r * n + k] -= f * a[i * n + k], inv[r * n + k] -= f * inv[i * n + k];
        }
    }
    for (size_t j = 0; j < n; j++) {
        double d = inv[j * n + j];
        for (size_t r = 0; r < rows; r++) {
            float s = scale[r * (n / g->group) + j / g->group];
            float v = quant_grid_value(g, s, 0, quant_grid_place(g, w[r * n + j] / s));
            double e = ((double)w[r * n + j] - (double)v) / d;
            for (size_t k = j + 1; k < n; k++) w[r * n + k] -= (float)(e * inv[j * n + k]);
            w[r * n + j] = v;
        }
        for (size_t r = j + 1; r < n; r++) {
            double f = inv[r * n + j] / d;
            for (size_t k = j + 1; k < n; k++) inv[r * n + k] -= f * inv[j * n + k];
        }
    }
    mem_free(inv);
    mem_free(a);
}

static void feedback_agrees_with_the_definition(void **state) {
    (void)state;
    enum { N = 32 }; /* one group, so that its scale is that of the untouched weights */
    bed b = bed_open(1, N, TOKENS);
    bed_moments(&b, TOKENS);
    const quant_format *f = quant_get(QUANT_Q4_0);
    float w[ROWS * N], ref[ROWS * N], scale[ROWS];
    unsigned char bytes[ROWS * 18];
    memcpy(w, b.w, sizeof w);
    memcpy(ref, b.w, sizeof ref);
    OK(gptq_solve(w, ROWS, b.h, &(gptq_opts){.type = QUANT_Q4_0}, bytes, NULL, b.g, b.p, &e_));
    for (size_t r = 0; r < ROWS; r++) {
        unsigned char block[18];
        quant_grid_scales s;
        float cost[N];
        memcpy(cost, b.h->mean_sq, sizeof cost);
        quant_weigh(cost, b.w + r * N, N, true);
        f->encode(block, b.w + r * N, N, cost);
        quant_grid_read(quant_grid_of(QUANT_Q4_0), block, &s);
        scale[r] = s.d;
    }
    reference(b.h->h, N, 0.01, ref, ROWS, quant_grid_of(QUANT_Q4_0), scale);
    size_t same = 0;
    for (size_t i = 0; i < ROWS * N; i++) same += fabsf(w[i] - ref[i]) < 1e-6f;
    assert_true(same >= ROWS * N - 8); /* a tie may fall the other way */
    bed_close(&b);
}

/* Formats whose blocks divide rows of `cols`, and that an earlier width did not have: more than `but`. */
static void feedback_beats_nearest_at(size_t cols, size_t but) {
    bed b = bed_open(2, cols, TOKENS), one = bed_open(1, cols, TOKENS);
    bed_moments(&b, TOKENS);
    bed_moments(&one, TOKENS);
    float *w = MEM_NEW_N(float, ROWS * cols), *y = MEM_NEW_N(float, ROWS * cols);
    unsigned char *bytes = MEM_NEW_N(unsigned char, ROWS * cols * 4), *again = MEM_NEW_N(unsigned char, ROWS * cols * 4);
    assert_true(w && y && bytes && again);
    for (int t = 0; t < QUANT_TYPE_MAX; t++) {
        const quant_format *f = quant_get(t);
        if (!quant_grid_of(t) || cols % f->block || (but && but % f->block == 0)) continue;
        memcpy(w, b.w, ROWS * cols * sizeof *w);
        OK(gptq_nearest(w, ROWS, cols, (quant_type)t, b.h->mean_sq, bytes, b.p, &e_));
        double plain = output_error(&b, w);
        for (int order = 0; order < 2; order++) {
            gptq_opts o = {.type = (quant_type)t, .act_order = order};
            memcpy(w, b.w, ROWS * cols * sizeof *w);
            OK(gptq_solve(w, ROWS, b.h, &o, bytes, NULL, b.g, b.p, &e_));
            f->decode(y, bytes, ROWS * cols);
            for (size_t i = 0; i < ROWS * cols; i++) {
                if (y[i] != w[i]) fail_msg("%s: weight %zu is written as %g, not %g", f->name, i, (double)y[i], (double)w[i]);
            }
            double fed = output_error(&b, w);
            if (!(fed < 0.8 * plain)) fail_msg("%s: error %g with feedback, %g without", f->name, fed, plain);
            memcpy(w, b.w, ROWS * cols * sizeof *w);
            OK(gptq_solve(w, ROWS, one.h, &o, again, NULL, one.g, one.p, &e_));
            assert_memory_equal(bytes, again, ROWS * cols / f->block * f->bytes);
            if (report && order == 0) {
                char item[64], got[64], speed[64];
                (void)snprintf(item, sizeof item, "gptq %s", f->name);
                (void)snprintf(got, sizeof got, "%.3f of the error of nearest levels", fed / plain);
                (void)snprintf(speed, sizeof speed, "nearest %.3g", plain);
                report_row("compress", item, got, "0.8", fed < 0.8 * plain ? "ok" : "FAIL", speed, "256 columns, correlated");
            }
        }
    }
    mem_free(w);
    mem_free(y);
    mem_free(bytes);
    mem_free(again);
    bed_close(&b);
    bed_close(&one);
}

static void feedback_beats_nearest(void **state) {
    (void)state;
    feedback_beats_nearest_at(COLS, 0);
    feedback_beats_nearest_at(192, COLS);
}

/* ---- sparsity ---- */

static size_t zeros_of(const float *w, size_t n) {
    size_t z = 0;
    for (size_t i = 0; i < n; i++) z += w[i] == 0;
    return z;
}

static void better_scores_err_less(void **state) {
    (void)state;
    bed b = bed_open(2, COLS, TOKENS);
    bed_moments(&b, TOKENS);
    float *w = MEM_NEW_N(float, ROWS * COLS);
    unsigned char *bytes = MEM_NEW_N(unsigned char, ROWS * COLS);
    assert_true(w && bytes);
    static const sparsity kinds[] = {{.share = 0.5}, {.keep = 2, .of = 4}};
    for (size_t k = 0; k < COUNT_OF(kinds); k++) {
        double err[4];
        for (int method = 0; method < 4; method++) {
            memcpy(w, b.w, ROWS * COLS * sizeof *w);
            if (method < 2) {
                OK(sparse_by_score(w, ROWS, COLS, method ? b.h->mean_sq : NULL, &kinds[k], b.p, &e_));
            } else {
                gptq_opts o = {.type = method == 2 ? QUANT_F32 : QUANT_Q4_0, .sparse = kinds[k]};
                OK(gptq_solve(w, ROWS, b.h, &o, method == 2 ? NULL : bytes, NULL, b.g, b.p, &e_));
            }
            err[method] = output_error(&b, w);
            size_t zeros = zeros_of(w, ROWS * COLS);
            assert_true(zeros >= ROWS * COLS / 2 && (method == 3 || zeros <= ROWS * COLS / 2 + 2));
            for (size_t i = 0; kinds[k].of && i < ROWS * COLS; i += 4) assert_true(zeros_of(w + i, 4) >= 2);
        }
        assert_true(err[1] < err[0]);
        assert_true(err[2] < 0.8 * err[1]);
        assert_true(err[3] < err[1]); /* with 4 bits besides */
        /* pruning and rounding one after the other err more than together */
        memcpy(w, b.w, ROWS * COLS * sizeof *w);
        OK(sparse_by_score(w, ROWS, COLS, b.h->mean_sq, &kinds[k], b.p, &e_));
        OK(gptq_nearest(w, ROWS, COLS, QUANT_Q4_0, b.h->mean_sq, bytes, b.p, &e_));
        assert_true(err[3] < output_error(&b, w));
        if (report) {
            char got[64];
            const char *kind = k ? "sparsegpt 2:4" : "sparsegpt 50 %";
            (void)snprintf(got, sizeof got, "%.3f of magnitude's error, Wanda %.3f", err[2] / err[0], err[1] / err[0]);
            report_row("compress", kind, got, "0.8 of Wanda's", "ok", "-", "256 columns, correlated");
        }
    }
    mem_free(w);
    mem_free(bytes);
    bed_close(&b);
}

/* ---- hostile ---- */

static void bad_input_is_refused(void **state) {
    (void)state;
    mote_error err;
    bed b = bed_open(2, COLS, TOKENS);
    unsigned char *bytes = MEM_NEW_N(unsigned char, ROWS * COLS * 4);
    gptq_opts q4 = {.type = QUANT_Q4_0};
    assert_int_equal(gptq_solve(b.w, ROWS, b.h, &q4, bytes, NULL, b.g, b.p, &err), MOTE_E_USAGE); /* no tokens */
    for (size_t i = 0; i < TOKENS; i++) b.x[i * COLS + 40] = b.x[i * COLS + 41] = 0; /* two dead columns */
    bed_moments(&b, TOKENS);
    float *w = MEM_NEW_N(float, ROWS * COLS);
    assert_true(bytes && w);
    memcpy(w, b.w, ROWS * COLS * sizeof *w);
    OK(gptq_solve(w, ROWS, b.h, &q4, bytes, NULL, b.g, b.p, &e_));
    for (size_t i = 0; i < ROWS * COLS; i++) assert_true(isfinite(w[i]));
    assert_true(w[40] == 0 && w[COLS + 41] == 0);
    assert_int_equal(gptq_solve(w, ROWS, b.h, &(gptq_opts){.type = QUANT_IQ2_XXS}, bytes, NULL, b.g, b.p, &err), MOTE_E_UNSUPPORTED);
    assert_int_equal(gptq_solve(w, ROWS, b.h, &(gptq_opts){.type = QUANT_Q4_1, .sparse = {.share = 0.5}}, bytes, NULL, b.g, b.p, &err),
                     MOTE_E_UNSUPPORTED);
    assert_int_equal(gptq_solve(w, ROWS, b.h, &(gptq_opts){.type = QUANT_F32, .sparse = {.share = 1.5}}, NULL, NULL, b.g, b.p, &err), MOTE_E_USAGE);
    assert_int_equal(gptq_solve(w, ROWS, b.h, &(gptq_opts){.type = QUANT_F32, .sparse = {.keep = 2, .of = 7}}, NULL, NULL, b.g, b.p, &err),
                     MOTE_E_UNSUPPORTED);
    w[3 * COLS + 2] = NAN;
    assert_int_equal(gptq_solve(w, ROWS, b.h, &q4, bytes, NULL, b.g, b.p, &err), MOTE_E_FORMAT);
    assert_non_null(strstr(err.message, "770"));
    b.x[5] = NAN;
    assert_int_equal(hessian_add(b.h, b.g, b.p, b.x, 4, &err), MOTE_E_RANGE);
    /* one token: rank 1; the damping carries it */
    hessian *thin;
    OK(hessian_open(&thin, COLS, true, &e_));
    OK(hessian_add(thin, b.g, b.p, b.x + COLS, 1, &e_));
    hessian_mean(thin);
    memcpy(w, b.w, ROWS * COLS * sizeof *w);
    OK(gptq_solve(w, ROWS, thin, &q4, bytes, NULL, b.g, b.p, &e_));
    for (size_t i = 0; i < ROWS * COLS; i++) assert_true(isfinite(w[i]));
    hessian_close(&thin);
    mem_free(w);
    mem_free(bytes);
    bed_close(&b);
}

int main(int argc, char **argv) {
    report = report_wanted(argc, argv);
    kern = tensor_kernels_open(CPU_ALL);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(levels_are_the_formats_own), cmocka_unit_test(factor_inverts),
        cmocka_unit_test(feedback_agrees_with_the_definition), cmocka_unit_test(feedback_beats_nearest),
        cmocka_unit_test(better_scores_err_less), cmocka_unit_test(bad_input_is_refused),
    };
    int failed = cmocka_run_group_tests_name("gptq", tests, NULL, NULL);
    tensor_kernels_close(&kern);
    return failed;
}
