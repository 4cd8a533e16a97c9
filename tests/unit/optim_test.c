/* optim_test.c: AdamW against PyTorch's figures, Muon against a product in double, 8-bit states against 32 bits, schedules. */
#include "tensor/tensor.h"
#include "train/optim_int.h"
#include "train/schedule.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
/* cmocka wants these first */
#include <cmocka.h>

struct fixture {
    pool *pool;
    const struct kern_table *kern;
};

static int open_all(void **given) {
    static struct fixture f;
    *given = &f;
    f.kern = tensor_kernels_open(CPU_ALL);
    return pool_open(&f.pool, 2, NULL) != MOTE_OK || !f.kern;
}

static int close_all(void **given) {
    struct fixture *f = *given;
    pool_close(&f->pool);
    tensor_kernels_close(&f->kern);
    return 0;
}

static optim *opened(const struct fixture *f, const optim_opts *o, const train_param *p, size_t n) {
    optim *out;
    mote_error e;
    if (optim_open(&out, o, p, n, f->pool, f->kern, &e) != MOTE_OK) fail_msg("%s", e.message);
    return out;
}

/* torch.optim.AdamW([x], lr=0.1, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1), gradients g, -g / 2, g, PyTorch 2. */
static void adamw_takes_pytorchs_steps(void **given) {
    float x[4] = {1, -2, 0.5f, 3}, g[4] = {0.3f, -0.1f, 2, 1e-6f};
    static const float want[3][4] = {{0.89f, -1.88000011f, 0.395000011f, 2.87099004f},
                                     {0.854263067f, -1.83436298f, 0.364213049f, 2.81578112f},
                                     {0.787780881f, -1.75807977f, 0.302631289f, 2.73034501f}};
    var v = {.rows = 1, .cols = 4, .x = x, .g = g, .wants = true};
    optim *o = opened(*given, &(optim_opts){.lr = 0.1, .decay = 0.1}, &(train_param){.name = STR("x"), .v = &v, .decay = true}, 1);
    for (uint64_t t = 0; t < 3; t++) {
        optim_step(o, t, 1, t == 1 ? -0.5f : 1);
        for (size_t i = 0; i < 4; i++) assert_true(fabsf(x[i] - want[t][i]) < 2e-6f);
    }
    assert_true(fabs(optim_grad_norm(o) - sqrt(0.09 + 0.01 + 4 + 1e-12)) < 1e-7);
    v.g = NULL; /* no gradient: nothing happens, not even decay */
    float before = x[0];
    optim_step(o, 3, 1, 1);
    assert_true(x[0] == before);
    optim_close(&o);
}

static void decay_and_steps_act_on_the_sources_numbers(void **given) {
    float s[2] = {-0.25f, 1.5f}, plus[2] = {0.75f, 2.5f}, log_x[2], g[2] = {1, -1}, g_log[2];
    for (size_t i = 0; i < 2; i++) {
        log_x[i] = -expf(s[i]);
        g_log[i] = g[i] / log_x[i]; /* so that the gradient by s is g */
    }
    float g_plus[2] = {1, -1};
    var v[3] = {{.rows = 1, .cols = 2, .x = s, .g = g, .wants = true}, {.rows = 1, .cols = 2, .x = plus, .g = g_plus, .wants = true},
                {.rows = 1, .cols = 2, .x = log_x, .g = g_log, .wants = true}};
    const train_param p[3] = {{.name = STR("a"), .v = &v[0], .decay = true}, {.name = STR("b"), .v = &v[1], .decay = true, .form = VALUE_PLUS_ONE},
                              {.name = STR("c"), .v = &v[2], .decay = true, .form = VALUE_MINUS_EXP}};
    optim *o = opened(*given, &(optim_opts){.lr = 0.01, .decay = 0.1}, p, 3);
    optim_grads_ready(o);
    optim_step(o, 0, 1, 1);
    for (size_t i = 0; i < 2; i++) {
        assert_true(fabsf(plus[i] - 1 - s[i]) < 1e-6f);
        assert_true(fabsf(log_x[i] + expf(s[i])) < 1e-5f);
    }
    optim_close(&o);
}

/* Minimizes Σ (x - i)² / 2 over a block and a bit. */
static double descend(const struct fixture *f, int bits, float *x, size_t n) {
    float *g = mem_calloc(n, sizeof *g);
    var v = {.rows = 1, .cols = n, .x = x, .g = g, .wants = true};
    for (size_t i = 0; i < n; i++) x[i] = 0;
    optim *o = opened(f, &(optim_opts){.lr = 0.15, .state_bits = bits}, &(train_param){.name = STR("x"), .v = &v}, 1);
    assert_int_equal(optim_state_bytes(o), bits == 8 ? 2 * (n + (n + 255) / 256 * 4) : 8 * n);
    double off = 0;
    for (uint64_t t = 0; t < 200; t++) {
        for (size_t i = 0; i < n; i++) g[i] = x[i] - (float)(i % 7);
        optim_step(o, t, 1 - (double)t / 200, 1);
    }
    for (size_t i = 0; i < n; i++) off += fabs((double)x[i] - (double)(i % 7));
    optim_close(&o);
    mem_free(g);
    return off / (double)n;
}

static void states_of_8_bits_reach_the_same_place(void **given) {
    enum { N = 5000 };
    float *a = mem_calloc(N, sizeof *a), *b = mem_calloc(N, sizeof *b);
    double full = descend(*given, 32, a, N), small = descend(*given, 8, b, N);
    assert_true(full < 0.05);
    assert_true(small < full + 0.05);
    mem_free(a);
    mem_free(b);
}

static void codes_of_8_bits_are_close_and_ordered(void **given) {
    (void)given;
    optim_code c[2];
    optim_code_init(&c[0], false);
    optim_code_init(&c[1], true);
    for (int k = 0; k < 2; k++) {
        for (int i = 1; i < 256; i++) assert_true(c[k].value[i] > c[k].value[i - 1]);
        float x[256], y[256];
        uint8_t codes[256];
        for (int i = 0; i < 256; i++) x[i] = (float)((k ? i % 2 ? -1 : 1 : 1) * 3.0 * pow(0.93, i));
        float max = optim_encode(&c[k], codes, x, 256, !k);
        assert_true(max == 3);
        optim_decode(&c[k], y, codes, max, 256);
        for (int i = 0; i < 256; i++) {
            if (fabsf(x[i]) > 3e-2f) assert_true(fabsf(x[i] - y[i]) <= fabsf(x[i]) * 0.12f);
            if (!k) assert_true(y[i] > 0);
        }
    }
    for (int k = 0; k < 2; k++) /* the code is the number of borders below, on the borders and beside them, too */
        for (int i = 0; i < 255 * 3; i++) {
            const float at = c[k].border[i / 3], y = i % 3 == 0 ? at : nextafterf(at, i % 3 == 1 ? -2 : 2), x[2] = {1, y};
            uint8_t code[2];
            unsigned below = 0;
            (void)optim_encode(&c[k], code, x, 2, false);
            while (below < 255 && y > c[k].border[below]) below++;
            assert_int_equal(code[1], below);
        }
    uint8_t codes[2];
    float zero[2] = {0, 0}, back[2];
    assert_true(optim_encode(&c[0], codes, zero, 2, true) == 0);
    optim_decode(&c[0], back, codes, 0, 2);
    assert_true(back[0] == 0 && back[1] == 0);
}

/* The same iteration, plainly and in double. */
static void newton_schulz(double *x, size_t m, size_t n) {
    double *a = calloc(m * m, sizeof *a), *b = calloc(m * m, sizeof *b), *y = calloc(m * n, sizeof *y), sum = 0;
    for (size_t i = 0; i < m * n; i++) sum += x[i] * x[i];
    for (size_t i = 0; i < m * n; i++) x[i] /= sqrt(sum);
    for (int k = 0; k < 5; k++) {
        for (size_t i = 0; i < m; i++)
            for (size_t j = 0; j < m; j++) {
                a[i * m + j] = 0;
                for (size_t l = 0; l < n; l++) a[i * m + j] += x[i * n + l] * x[j * n + l];
            }
        for (size_t i = 0; i < m; i++)
            for (size_t j = 0; j < m; j++) {
                double aa = 0;
                for (size_t l = 0; l < m; l++) aa += a[i * m + l] * a[l * m + j];
                b[i * m + j] = -4.7750 * a[i * m + j] + 2.0315 * aa;
            }
        for (size_t i = 0; i < m; i++)
            for (size_t j = 0; j < n; j++) {
                y[i * n + j] = 3.4445 * x[i * n + j];
                for (size_t l = 0; l < m; l++) y[i * n + j] += b[i * m + l] * x[l * n + j];
            }
        memcpy(x, y, m * n * sizeof *x);
    }
    free(a);
    free(b);
    free(y);
}

static void muon_steps_along_the_orthogonalized_gradient(void **given) {
    enum { M = 12, N = 20, MATS = 2 };
    float x[MATS * M * N], g[MATS * M * N], tall[N * M], g_tall[N * M];
    rng r;
    rng_seed(&r, 1, 1);
    for (size_t i = 0; i < COUNT_OF(g); i++) {
        g[i] = (float)rng_double(&r) - 0.5f;
        x[i] = 0;
    }
    for (size_t i = 0; i < M; i++)
        for (size_t j = 0; j < N; j++) g_tall[j * M + i] = g[i * N + j];
    memset(tall, 0, sizeof tall);
    var v[2] = {{.rows = MATS * M, .cols = N, .x = x, .g = g, .wants = true}, {.rows = N, .cols = M, .x = tall, .g = g_tall, .wants = true}};
    const train_param p[2] = {{.name = STR("w"), .v = &v[0], .muon = true, .n_mats = MATS}, {.name = STR("t"), .v = &v[1], .muon = true}};
    optim *o = opened(*given, &(optim_opts){.kind = OPTIM_MUON, .lr = 0.1}, p, 2);
    optim_step(o, 0, 1, 1);
    for (size_t k = 0; k < MATS; k++) {
        double want[M * N];
        for (size_t i = 0; i < M * N; i++) want[i] = (double)g[k * M * N + i];
        newton_schulz(want, M, N);
        for (size_t i = 0; i < M * N; i++) assert_true(fabs((double)x[k * M * N + i] + 0.1 * 0.2 * sqrt(N) * want[i]) < 1e-5);
    }
    for (size_t i = 0; i < M; i++)
        for (size_t j = 0; j < N; j++) assert_true(fabsf(tall[j * M + i] - x[i * N + j]) < 1e-5f);
    optim_close(&o);
}

static void zeros_of_matrices_stay_when_they_are_to(void **given) {
    for (int kind = 0; kind < 4; kind++) { /* AdamW, with 8-bit states, Muon; without */
        enum { ROWS = 64, COLS = 96, N = ROWS * COLS };
        float *x = calloc(N, sizeof *x), *g = calloc(N, sizeof *g), bias[COLS] = {0}, g_bias[COLS];
        for (size_t i = 0; i < N; i++) x[i] = i % 3 ? 0.1f * (float)(i % 7 + 1) : 0;
        for (size_t i = 0; i < COLS; i++) g_bias[i] = 1;
        var m = {.rows = ROWS, .cols = COLS, .x = x, .g = g, .wants = true}, v = {.rows = 1, .cols = COLS, .x = bias, .g = g_bias, .wants = true};
        const train_param p[] = {{.name = STR("m"), .v = &m, .decay = true, .muon = kind == 2}, {.name = STR("b"), .v = &v}};
        optim *o = opened(*given, &(optim_opts){.kind = kind == 2 ? OPTIM_MUON : OPTIM_ADAMW, .lr = 0.01, .decay = 0.1, .state_bits = kind == 1 ? 8 : 32,
                                                .keep_zeros = kind < 3}, p, 2);
        for (uint64_t t = 0; t < 3; t++) {
            for (size_t i = 0; i < N; i++) g[i] = (float)((i * 37 + t) % 11) - 5.5f;
            optim_grads_ready(o);
            optim_step(o, t, 1, 1);
        }
        size_t zeros = 0, same = 0;
        for (size_t i = 0; i < N; i++) {
            zeros += x[i] == 0;
            same += i % 3 && x[i] == 0.1f * (float)(i % 7 + 1);
        }
        assert_int_equal(zeros, kind < 3 ? N / 3 : 0);
        assert_int_equal(same, 0);
        for (size_t i = 0; i < COLS; i++) assert_true(bias[i] < 0); /* vectors learn from 0 */
        optim_close(&o);
        free(x);
        free(g);
    }
}

static void wrong_options_are_refused(void **given) {
    struct fixture *f = *given;
    float x = 1;
    var v = {.rows = 1, .cols = 1, .x = &x, .wants = true};
    const train_param p = {.name = STR("x"), .v = &v};
    optim *o;
    assert_int_equal(optim_open(&o, &(optim_opts){.lr = -1}, &p, 1, f->pool, f->kern, NULL), MOTE_E_USAGE);
    assert_int_equal(optim_open(&o, &(optim_opts){.beta1 = 1}, &p, 1, f->pool, f->kern, NULL), MOTE_E_USAGE);
    assert_int_equal(optim_open(&o, &(optim_opts){.state_bits = 4}, &p, 1, f->pool, f->kern, NULL), MOTE_E_USAGE);
    assert_int_equal(optim_open(&o, &(optim_opts){.lr = (double)NAN}, &p, 1, f->pool, f->kern, NULL), MOTE_E_USAGE);
    assert_null(o);
}

static void schedules_rise_and_fall(void **given) {
    (void)given;
    schedule s = {.kind = SCHEDULE_COSINE, .steps = 110, .warmup = 10, .floor = 0.1};
    assert_true(fabs(schedule_at(&s, 0) - 0.1) < 1e-12 && fabs(schedule_at(&s, 9) - 1) < 1e-12 && fabs(schedule_at(&s, 10) - 1) < 1e-12);
    assert_true(fabs(schedule_at(&s, 60) - 0.55) < 1e-12 && fabs(schedule_at(&s, 110) - 0.1) < 1e-12);
    s = (schedule){.kind = SCHEDULE_WSD, .steps = 100, .warmup = 10, .decay = 20};
    assert_true(schedule_at(&s, 10) == 1 && schedule_at(&s, 80) == 1 && fabs(schedule_at(&s, 90) - 0.5) < 1e-12);
    s.sqrt_decay = true;
    assert_true(fabs(schedule_at(&s, 85) - 0.5) < 1e-12 && schedule_at(&s, 1000) == 0);
    s = (schedule){.kind = SCHEDULE_WSD, .steps = 100, .decay = 20, .stages = {{30, 0.5}, {60, 0.1}}, .n_stages = 2};
    assert_true(schedule_at(&s, 29) == 1 && schedule_at(&s, 30) == 0.5 && schedule_at(&s, 60) == 0.1 && fabs(schedule_at(&s, 90) - 0.05) < 1e-12);
    s = (schedule){.kind = SCHEDULE_LINEAR, .steps = 10};
    assert_true(schedule_at(&s, 0) == 1 && fabs(schedule_at(&s, 5) - 0.5) < 1e-12);
    s = (schedule){.kind = SCHEDULE_CONSTANT};
    assert_true(schedule_at(&s, 0) == 1 && schedule_at(&s, 1u << 30) == 1);
    schedule_kind k;
    for (int i = 0; i < 4; i++) assert_true(schedule_find(schedule_name((schedule_kind)i), &k) && k == (schedule_kind)i);
    assert_false(schedule_find("square", &k));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(adamw_takes_pytorchs_steps),
        cmocka_unit_test(decay_and_steps_act_on_the_sources_numbers),
        cmocka_unit_test(states_of_8_bits_reach_the_same_place),
        cmocka_unit_test(codes_of_8_bits_are_close_and_ordered),
        cmocka_unit_test(muon_steps_along_the_orthogonalized_gradient),
        cmocka_unit_test(zeros_of_matrices_stay_when_they_are_to),
        cmocka_unit_test(wrong_options_are_refused),
        cmocka_unit_test(schedules_rise_and_fall),
    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}
