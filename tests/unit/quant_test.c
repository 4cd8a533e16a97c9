/* quant_test.c: 16-bit floats, the table, and what encoders do with hostile numbers. */
#include "base/base.h"
#include "quant/layout.h"
#include "quant/quant.h"
#include "quant/sparse24.h"

#include <float.h>
#include <math.h>
#include <string.h>
#include <setjmp.h>
#include <stdarg.h>
/* cmocka wants these first */
#include <cmocka.h>

#define N 1536

static void every_half_survives_the_way_to_float_and_back(void **state) {
    (void)state;
    for (uint32_t h = 0; h < 65536; h++) {
        float f = quant_f16_to_f32((uint16_t)h);
        bool nan = (h & 0x7C00) == 0x7C00 && h & 0x3FF;
        assert_int_equal(isnan(f) != 0, nan);
        if (!nan) assert_int_equal(quant_f32_to_f16(f), h);
    }
    assert_true(quant_f16_to_f32(1) == 0x1p-24f && quant_f16_to_f32(0x7BFF) == 65504.0f);
    assert_true(signbit(quant_f16_to_f32(0x8000)));
}

static void rounding_to_half_is_to_nearest_even(void **state) {
    (void)state;
    for (uint32_t h = 0; h < 0x7BFF; h++) { /* between neighbours: below, at and above the middle */
        float a = quant_f16_to_f32((uint16_t)h), b = quant_f16_to_f32((uint16_t)(h + 1)), mid = (a + b) / 2;
        assert_int_equal(quant_f32_to_f16(mid), h & 1 ? h + 1 : h);
        assert_int_equal(quant_f32_to_f16(nextafterf(mid, 0)), h);
        assert_int_equal(quant_f32_to_f16(-nextafterf(mid, 1e9f)), 0x8000 | (h + 1));
    }
    assert_int_equal(quant_f32_to_f16(65519.996f), 0x7BFF);
    assert_int_equal(quant_f32_to_f16(65520.0f), 0x7C00);
    assert_int_equal(quant_f32_to_f16(-INFINITY), 0xFC00);
    assert_int_equal(quant_f32_to_f16(0x1p-25f), 0);
    assert_int_equal(quant_f32_to_f16(0x1.000002p-25f), 1);
    assert_int_equal(quant_f32_to_f16(0x1p-149f), 0);
    assert_true((quant_f32_to_f16(NAN) & 0x7FFF) > 0x7C00);
}

static void rounding_to_bfloat_is_to_nearest_even(void **state) {
    (void)state;
    assert_int_equal(quant_f32_to_bf16(1.0f), 0x3F80);
    assert_int_equal(quant_f32_to_bf16(0x1.01p0f), 0x3F80);
    assert_int_equal(quant_f32_to_bf16(0x1.03p0f), 0x3F82);
    assert_int_equal(quant_f32_to_bf16(0x1.010002p0f), 0x3F81);
    assert_int_equal(quant_f32_to_bf16(FLT_MAX), 0x7F80);
    assert_int_equal(quant_f32_to_bf16(-0.0f), 0x8000);
    union {
        uint32_t u;
        float f;
    } nan = {0x7F800001}; /* the payload's top bits are all zero: must stay a NaN */
    assert_true((quant_f32_to_bf16(nan.f) & 0x7FFF) > 0x7F80);
}

static void formats_are_found_by_number_and_name(void **state) {
    (void)state;
    assert_ptr_equal(quant_get(QUANT_Q4_K), quant_by_name("Q4_k"));
    assert_string_equal(quant_get(12)->name, "q4_K");
    for (int t = -2; t < 70; t++) {
        const quant_format *f = quant_get(t);
        if (f) assert_ptr_equal(quant_by_name(f->name), f);
    }
    assert_null(quant_get(4));
    assert_null(quant_get(QUANT_TYPE_MAX));
    assert_null(quant_by_name("q4_"));
    assert_null(quant_by_name("q4_00"));
    assert_null(quant_by_name(NULL));
    size_t bytes;
    mote_error e;
    assert_int_equal(quant_row_bytes(quant_get(QUANT_Q4_K), 512, &bytes, &e), MOTE_OK);
    assert_int_equal(bytes, 288);
    assert_int_equal(quant_row_bytes(quant_get(QUANT_Q4_K), 500, &bytes, &e), MOTE_E_FORMAT);
    assert_int_equal(quant_row_bytes(quant_get(QUANT_F32), UINT64_MAX / 2, &bytes, &e), MOTE_E_LIMIT);
}

static double error_of(const float *x, const float *y, const float *w, size_t n) {
    double e = 0, s = 0;
    for (size_t i = 0; i < n; i++) {
        double wi = w ? (double)w[i] : 1, d = (double)x[i] - (double)y[i];
        e += wi * d * d;
        s += wi * (double)x[i] * (double)x[i];
    }
    return s > 0 ? e / s : e;
}

/* Encodes at an odd address, into a buffer of exactly the right size, and decodes again. */
static void round_trip(const quant_format *f, float *y, const float *x, const float *importance) {
    size_t bytes = N / f->block * f->bytes;
    unsigned char *p = mem_calloc(bytes + 1, 1);
    assert_non_null(p);
    f->encode(p + 1, x, N, importance);
    f->decode(y, p + 1, N);
    mem_free(p);
}

static float gauss(rng *r) {
    double u = rng_double(r), v = rng_double(r);
    return (float)(sqrt(-2 * log(1 - u)) * cos(2 * 3.14159265358979 * v));
}

static void hostile_numbers_give_finite_blocks(void **state) {
    (void)state;
    static const float nasty[] = {NAN,     INFINITY, -INFINITY, FLT_MAX, -FLT_MAX, FLT_MIN, 0x1p-149f, -0x1p-149f, 0,
                                  -0.0f,   65504,    65520,     1e30f,   -1e-30f,  1,       -1,        0.5f,       3e38f};
    rng r;
    rng_seed(&r, 5, 1);
    float x[N], y[N], w[N];
    for (int t = 0; t < QUANT_TYPE_MAX; t++) {
        const quant_format *f = quant_get(t);
        if (!f || !f->encode || t == QUANT_F32 || t == QUANT_F16 || t == QUANT_BF16) continue;
        for (int round = 0; round < 60; round++) {
            /* rounds: each value alone, then mixtures of all, of some, and with strange importance */
            for (int i = 0; i < N; i++) {
                uint32_t k = rng_below(&r, round < 40 ? 18 : 6) + (round < 40 ? 0 : (uint32_t)round % 12);
                x[i] = round < 18 ? nasty[round] : rng_below(&r, 4) ? gauss(&r) : nasty[k];
                w[i] = round & 1 ? nasty[rng_below(&r, 18)] : 0;
            }
            round_trip(f, y, x, round < 30 ? NULL : w);
            for (int i = 0; i < N; i++) assert_true(isfinite(y[i]));
        }
    }
}

static void any_bytes_decode(void **state) {
    (void)state;
    rng r;
    rng_seed(&r, 9, 1);
    float y[N];
    for (int t = 0; t < QUANT_TYPE_MAX; t++) {
        const quant_format *f = quant_get(t);
        if (!f || !f->decode) continue;
        size_t bytes = N / f->block * f->bytes;
        unsigned char *p = mem_calloc(bytes + 1, 1);
        for (int round = 0; round < 50; round++) {
            for (size_t i = 0; i < bytes; i++) p[i + 1] = round == 0 ? 255 : (unsigned char)rng_u32(&r);
            f->decode(y, p + 1, N);
        }
        mem_free(p);
    }
}

/* The error of each encoder on Gaussian, heavy-tailed, tiny and offset weights stays below what the number of
 * levels allows: bits per weight b give about 4^-b of the variance, times a constant of the distribution. */
static void errors_fall_with_the_bits(void **state) {
    (void)state;
    rng r;
    rng_seed(&r, 3, 1);
    float x[N], y[N];
    for (int t = 0; t < QUANT_TYPE_MAX; t++) {
        const quant_format *f = quant_get(t);
        if (!f || !f->encode || t == QUANT_F32) continue;
        double bits = 8.0 * f->bytes / f->block, bar = 6 * pow(4, -bits) + 5e-6;
        if (t == QUANT_Q1_0) bar = 0.5;
        if (bits < 2.6 && t != QUANT_Q1_0) bar = 0.25;
        if (t == QUANT_Q4_0_24 || t == QUANT_Q8_0_24) bar = 0.16; /* two of four are lost */
        for (int i = 0; i < N; i++) x[i] = 0.05f * gauss(&r);
        round_trip(f, y, x, NULL);
        double e = error_of(x, y, NULL, N);
        if (e > bar) fail_msg("%s: gaussian error %g above %g", f->name, e, bar);
        for (int i = 0; i < N; i++) x[i] = 0;
        round_trip(f, y, x, NULL);
        for (int i = 0; i < N; i++) assert_true(y[i] == 0);
        if (t == QUANT_Q1_0 || t == QUANT_Q4_0_24 || t == QUANT_Q8_0_24) continue; /* no zero; too few others */
        for (int i = 0; i < N; i++) x[i] = (float)(i % 3 - 1) * 0.03125f;
        round_trip(f, y, x, NULL);
        e = error_of(x, y, NULL, N);
        /* below 2.6 bits signs are shared and no level is zero */
        if (e > (bits < 2.6 ? 0.16 : 5e-2) || (f->block == 1 && e > 0)) fail_msg("%s: trits err %g", f->name, e);
    }
}

static void importance_moves_the_error_to_where_it_matters_less(void **state) {
    (void)state;
    rng r;
    rng_seed(&r, 4, 1);
    float x[N], y[N], z[N], w[N];
    for (int i = 0; i < N; i++) {
        x[i] = gauss(&r);
        w[i] = i % 4 ? 0.01f : 1;
    }
    for (int t = 0; t < QUANT_TYPE_MAX; t++) {
        const quant_format *f = quant_get(t);
        if (!f || !f->encode || f->block == 1) continue;
        round_trip(f, y, x, NULL);
        round_trip(f, z, x, w);
        double plain = error_of(x, y, w, N), weighted = error_of(x, z, w, N);
        if (!(weighted < plain)) fail_msg("%s: %g with importance, %g without", f->name, weighted, plain);
        for (int i = 0; i < N; i++) y[i] = w[i] * 1e20f; /* only ratios count */
        round_trip(f, y, x, y);
        if (error_of(x, y, w, N) > weighted * 1.001) fail_msg("%s: importance is not scale-free", f->name);
    }
}

/* What was decoded can be encoded again with (nearly) nothing lost. */
static void requantizing_loses_little(void **state) {
    (void)state;
    rng r;
    rng_seed(&r, 8, 1);
    float x[N], y[N], z[N];
    for (int i = 0; i < N; i++) x[i] = gauss(&r);
    for (int t = 0; t < QUANT_TYPE_MAX; t++) {
        const quant_format *f = quant_get(t);
        if (!f || !f->encode) continue;
        round_trip(f, y, x, NULL);
        round_trip(f, z, y, NULL);
        double first = error_of(x, y, NULL, N), second = error_of(y, z, NULL, N);
        if (second > 0.25 * first + 1e-7) fail_msg("%s: %g again after %g", f->name, second, first);
    }
}

/* Every instruction set writes and reads the same bytes, for ordinary weights and for strange ones, for whole stacks of blocks and for
 * single ones. */
static void every_instruction_set_gives_the_same_bits(void **state) {
    (void)state;
    static const uint32_t rungs[] = {CPU_AVX2, CPU_AVX2 | CPU_AVX512};
    static unsigned char a[17 * N * 4], b[17 * N * 4];
    static float x[17 * N], y[17 * N], z[17 * N], w[17 * N];
    rng r;
    rng_seed(&r, 12, 1);
    for (size_t i = 0; i < COUNT_OF(x); i++) {
        x[i] = gauss(&r) * (i / 512 % 3 == 2 ? 1e-7f : 0.02f) + (i / 256 % 5 == 4 ? 0.3f : 0);
        if (i % 5003 == 7) x[i] = i & 1 ? INFINITY : NAN;
        w[i] = (float)rng_double(&r);
    }
    for (int t = 0; t < QUANT_TYPE_MAX; t++) {
        const quant_format *f = quant_get_for(t, 0);
        for (size_t k = 0; k < COUNT_OF(rungs) && f && f->encode; k++) {
            const quant_format *g = quant_get_for(t, rungs[k]);
            if ((cpu_detect() & rungs[k]) != rungs[k]) continue;
            size_t n = f->bytes > 60 && f->block == 256 ? 5 * N : COUNT_OF(x), bytes = n / f->block * f->bytes;
            for (int round = 0; round < 3; round++) {
                size_t m = round < 2 ? n : f->block;
                f->encode(a, x, m, round ? w : NULL);
                g->encode(b, x, m, round ? w : NULL);
                if (memcmp(a, b, m / f->block * f->bytes)) fail_msg("%s: other bytes on rung %zu, round %d", f->name, k, round);
            }
            for (size_t i = 0; i < bytes && f->block > 1; i++) a[i] = (unsigned char)rng_u32(&r);
            f->decode(y, a, n);
            g->decode(z, a, n);
            for (size_t i = 0; i < n; i++) /* which NaN comes of two depends on the order of the operands */
                if (memcmp(y + i, z + i, sizeof *y) && !(isnan(y[i]) && isnan(z[i]))) fail_msg("%s: decodes to other bits on rung %zu", f->name, k);
        }
    }
}

static void weighing_and_missing(void **state) {
    (void)state;
    static float x[1000], y[1000], w[1000];
    rng r;
    rng_seed(&r, 13, 1);
    double err = 0, sum = 0, e, s;
    for (int i = 0; i < 1000; i++) {
        x[i] = gauss(&r);
        y[i] = x[i] + 0.01f * gauss(&r);
        err += ((double)x[i] - (double)y[i]) * ((double)x[i] - (double)y[i]);
        sum += (double)x[i] * (double)x[i];
        w[i] = 3;
    }
    quant_miss(x, y, 1000, &e, &s);
    assert_true(fabs(e - err) < 1e-5 * err && fabs(s - sum) < 1e-5 * sum);
    quant_weigh(w, x, 1000, true);
    double mean = 0;
    for (int i = 768; i < 1000; i++) mean += (double)x[i] * (double)x[i] / 232;
    for (int i = 768; i < 1000; i++) assert_true(fabs((double)w[i] / (3 * sqrt(mean + (double)x[i] * (double)x[i])) - 1) < 1e-5);
    y[3] = 1e30f; /* its square is no float */
    quant_miss(x, y, 1000, &e, &s);
    assert_true(isfinite(e) && e > 0.9e60);
    y[3] = INFINITY;
    quant_miss(x, y, 1000, &e, &s);
    assert_false(isfinite(e));
}

/* 2:4: what is stored is what the dense twin holds, both ways; the two that cost most to lose are kept. */
static void sparse_twins_hold_the_same(void **state) {
    (void)state;
    static const quant_type types[] = {QUANT_Q4_0_24, QUANT_Q8_0_24};
    rng r;
    rng_seed(&r, 6, 1);
    float x[N], y[N], z[N];
    unsigned char dense[N * 2], sparse[N * 2], again[N * 2];
    for (size_t t = 0; t < COUNT_OF(types); t++) {
        quant_type twin;
        assert_true(quant_24_dense(types[t], &twin));
        const quant_format *f = quant_get(types[t]), *d = quant_get(twin);
        for (int i = 0; i < N; i++) x[i] = gauss(&r);
        d->encode(dense, x, N, NULL);
        assert_false(quant_24_pack(types[t], sparse, dense, N)); /* more than two of four */
        f->encode(sparse, x, N, NULL);
        f->decode(y, sparse, N);
        for (int i = 0; i < N; i += 4) {
            int zeros = 0, least = 0;
            for (int k = 0; k < 4; k++) {
                zeros += y[i + k] == 0;
                least = fabsf(x[i + k]) < fabsf(x[i + least]) ? k : least;
            }
            assert_true(zeros >= 2 && y[i + least] == 0);
        }
        quant_24_expand(types[t], dense, sparse, N);
        d->decode(z, dense, N);
        for (int i = 0; i < N; i++) assert_true(y[i] == z[i]);
        assert_true(quant_24_pack(types[t], again, dense, N));
        f->decode(z, again, N);
        for (int i = 0; i < N; i++) assert_true(y[i] == z[i]);
        for (int i = 0; i < N; i++) x[i] = i % 7 ? 0 : gauss(&r); /* fewer than two */
        d->encode(dense, x, N, NULL);
        d->decode(y, dense, N);
        assert_true(quant_24_pack(types[t], sparse, dense, N));
        f->decode(z, sparse, N);
        for (int i = 0; i < N; i++) assert_true(y[i] == z[i]);
    }
    quant_type none;
    assert_false(quant_24_dense(QUANT_Q4_K, &none));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_half_survives_the_way_to_float_and_back),
        cmocka_unit_test(rounding_to_half_is_to_nearest_even),
        cmocka_unit_test(rounding_to_bfloat_is_to_nearest_even),
        cmocka_unit_test(formats_are_found_by_number_and_name),
        cmocka_unit_test(hostile_numbers_give_finite_blocks),
        cmocka_unit_test(any_bytes_decode),
        cmocka_unit_test(errors_fall_with_the_bits),
        cmocka_unit_test(importance_moves_the_error_to_where_it_matters_less),
        cmocka_unit_test(every_instruction_set_gives_the_same_bits), cmocka_unit_test(weighing_and_missing),
        cmocka_unit_test(sparse_twins_hold_the_same), cmocka_unit_test(requantizing_loses_little),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
