/* ssm_test.c: recurrences in chunks and convolutions against the plain recurrence in double precision, on every rung;
 * and the same bits however a sequence is cut, whatever runs beside it, for any number of threads. */
#include "base/clock.h"
#include "kern/random_weights.h"
#include "model/ssm.h"
#include "model/state.h"
#include "report.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

enum { TOKENS = 53, SEQS = 3 };

static const char *const rungs[] = {"scalar", "avx2", "avx512", "avx512vnni", "avx512bf16", "neon", "i8mm"};
static bool report;

/* One kind of layer, and its inputs for one sequence. */
struct shape {
    const char *name;
    size_t n_head, dim, n_key, n;
    bool delta, tiled, skip, gated, normed;
};
static const struct shape shapes[] = {
    {"mamba2 64x128", 4, 64, 1, 128, false, false, true, true, false},
    {"mamba2 narrow", 5, 20, 5, 24, false, false, true, false, false},
    {"delta 128x128", 2, 128, 1, 128, true, false, false, true, true},
    {"delta tiled", 6, 33, 3, 17, true, true, false, true, true},
};

struct inputs {
    float *x, *in, *out, *decay, *gain, *z, *skip, *norm;
};

static float *random_floats(size_t n, rng *r, float scale) {
    float *p = malloc(n * sizeof *p);
    assert_non_null(p);
    for (size_t i = 0; i < n; i++) p[i] = scale * random_float(r);
    return p;
}

static struct inputs make_inputs(const struct shape *s, size_t n_tokens) {
    rng r;
    rng_seed(&r, 11, n_tokens);
    size_t wide = n_tokens * s->n_head * s->dim, heads = n_tokens * s->n_head, keys = n_tokens * s->n_key * s->n;
    float unit = 1 / sqrtf((float)s->n);
    struct inputs i = {.x = random_floats(wide, &r, 1), .z = random_floats(wide, &r, 1), .in = random_floats(keys, &r, unit),
                       .out = random_floats(keys, &r, unit), .decay = random_floats(heads, &r, 1), .gain = random_floats(heads, &r, 1),
                       .skip = random_floats(s->n_head, &r, 1), .norm = random_floats(s->dim, &r, 1)};
    for (size_t k = 0; k < heads; k++) {
        i.decay[k] = k % 37 == 0 ? 0.0f : expf(-fabsf(i.decay[k]) / 4); /* a decay of 0 forgets all */
        i.gain[k] = fabsf(i.gain[k]);
    }
    return i;
}

static void drop_inputs(struct inputs *i) {
    float *all[] = {i->x, i->in, i->out, i->decay, i->gain, i->z, i->skip, i->norm};
    for (size_t k = 0; k < COUNT_OF(all); k++) free(all[k]);
}

/* ---- the definition ---- */
static void finish_plainly(const struct shape *s, const struct inputs *in, size_t t, size_t h, double *y) {
    double squares = 0;
    for (size_t c = 0; c < s->dim; c++) squares += y[c] * y[c];
    for (size_t c = 0; c < s->dim; c++) {
        double z = (double)in->z[(t * s->n_head + h) * s->dim + c];
        if (s->normed) y[c] *= (double)in->norm[c] / sqrt(squares / (double)s->dim + 1e-6);
        if (s->gated) y[c] *= z / (1 + exp(-z));
    }
}

static void plainly(const struct shape *s, const struct inputs *in, double *y) {
    double *st = calloc(s->n * s->dim, sizeof *st);
    for (size_t h = 0; h < s->n_head; h++) {
        size_t key = s->tiled ? h % s->n_key : h / (s->n_head / s->n_key);
        for (size_t i = 0; i < s->n * s->dim; i++) st[i] = 0;
        for (size_t t = 0; t < TOKENS; t++) {
            const float *k = in->in + (t * s->n_key + key) * s->n, *q = in->out + (t * s->n_key + key) * s->n;
            double decay = (double)in->decay[t * s->n_head + h], gain = (double)in->gain[t * s->n_head + h];
            double *row = y + (t * s->n_head + h) * s->dim;
            for (size_t c = 0; c < s->dim; c++) {
                double x = (double)in->x[(t * s->n_head + h) * s->dim + c], known = 0, sum = s->skip ? (double)in->skip[h] * x : 0;
                for (size_t i = 0; i < s->n; i++) known += (double)k[i] * (st[i * s->dim + c] *= decay);
                double into = gain * (s->delta ? x - known : x);
                for (size_t i = 0; i < s->n; i++) sum += (double)q[i] * (st[i * s->dim + c] += (double)k[i] * into);
                row[c] = sum;
            }
            finish_plainly(s, in, t, h, row);
        }
    }
    free(st);
}

/* ---- the layer ---- */
struct work {
    const struct shape *s;
    struct inputs in;
    const kern_table *kern;
    pool *pool;
    state st;
    sequence seqs[SEQS];
    layer l;
    model_batch batch;
    size_t first; /* inputs' row of the batch's row 0 */
    float *y;
};

static size_t state_floats(const struct shape *s) {
    return ssm_scan_floats(s->n_head, s->n_key, s->n) + s->n_head * s->dim * (s->n + KERN_CHUNK);
}

static void open_work(struct work *w, const struct shape *s, size_t n_tokens, const kern_table *kern, int n_threads) {
    *w = (struct work){.s = s, .in = make_inputs(s, n_tokens), .kern = kern};
    assert_int_equal(pool_open(&w->pool, n_threads, NULL), MOTE_OK);
    w->st.seqs = w->seqs;
    for (int i = 0; i < SEQS; i++) {
        w->seqs[i].rec = mem_alloc_aligned(state_floats(s) * sizeof(float));
        assert_non_null(w->seqs[i].rec);
        memset(w->seqs[i].rec, 0, state_floats(s) * sizeof(float));
    }
}

static void close_work(struct work *w) {
    for (int i = 0; i < SEQS; i++) mem_free_aligned(w->seqs[i].rec);
    drop_inputs(&w->in);
    pool_close(&w->pool);
}

static void scan_thread(void *arg, int ith, int nth) {
    const struct work *w = arg;
    const struct shape *s = w->s;
    size_t wide = s->n_head * s->dim, keys = s->n_key * s->n;
    struct work *mine = arg;
    fwd f = {.t = {.pool = w->pool, .kern = w->kern, .ith = ith, .nth = nth}, .s = &mine->st, .b = &w->batch, .n = w->batch.n};
    ssm_scan a = {.n_head = s->n_head, .dim = s->dim, .n_key = s->n_key, .n = s->n, .tiled = s->tiled, .delta = s->delta, .x = w->in.x + w->first * wide,
                  .ld = wide, .in = w->in.in + w->first * keys, .out = w->in.out + w->first * keys, .ld_key = keys,
                  .decay = w->in.decay + w->first * s->n_head, .ld_decay = s->n_head, .gain = w->in.gain + w->first * s->n_head, .ld_gain = s->n_head,
                  .skip = s->skip ? w->in.skip : NULL, .y = w->y, .ld_y = wide, .gate = ACT_SILU, .z = s->gated ? w->in.z + w->first * wide : NULL,
                  .ld_z = wide, .z_head = s->dim};
    if (s->normed) a.norm = (norm){NORM_RMS, w->in.norm, NULL, 1e-6f};
    ssm_scan_run(&f, &w->l, 0, 0, &a);
}

/* Tokens [from, to) of sequence seq into y (its own row 0). */
static void feed(struct work *w, size_t seq, size_t from, size_t to, float *y) {
    model_seg g = {.seq = seq, .pos0 = from, .n = to - from};
    w->batch = (model_batch){.n = to - from, .segs = &g, .n_segs = 1};
    w->first = from;
    w->y = y + from * w->s->n_head * w->s->dim;
    pool_run(w->pool, scan_thread, w);
}

/* Three sequences of the same tokens in one batch, all from `from` on; y: theirs one after the other. */
static void feed_three(struct work *w, size_t from, size_t n, float *y) {
    size_t wide = w->s->n_head * w->s->dim;
    model_seg g[SEQS];
    struct inputs all = w->in, three = make_inputs(w->s, SEQS * n);
    for (size_t i = 0; i < SEQS; i++) {
        g[i] = (model_seg){.seq = i, .pos0 = from, .n = n};
        memcpy(three.x + i * n * wide, all.x + from * wide, n * wide * sizeof(float));
        memcpy(three.z + i * n * wide, all.z + from * wide, n * wide * sizeof(float));
        memcpy(three.decay + i * n * w->s->n_head, all.decay + from * w->s->n_head, n * w->s->n_head * sizeof(float));
        memcpy(three.gain + i * n * w->s->n_head, all.gain + from * w->s->n_head, n * w->s->n_head * sizeof(float));
        size_t keys = w->s->n_key * w->s->n;
        memcpy(three.in + i * n * keys, all.in + from * keys, n * keys * sizeof(float));
        memcpy(three.out + i * n * keys, all.out + from * keys, n * keys * sizeof(float));
    }
    memcpy(three.skip, all.skip, w->s->n_head * sizeof(float));
    memcpy(three.norm, all.norm, w->s->dim * sizeof(float));
    w->in = three;
    w->first = 0;
    w->batch = (model_batch){.n = SEQS * n, .segs = g, .n_segs = SEQS};
    w->y = y;
    pool_run(w->pool, scan_thread, w);
    w->in = all;
    drop_inputs(&three);
}

static double error_of(const float *got, const double *want, size_t n) {
    double err = 0, sum = 0;
    for (size_t i = 0; i < n; i++) {
        err += ((double)got[i] - want[i]) * ((double)got[i] - want[i]);
        sum += want[i] * want[i];
    }
    return err / sum;
}

/* However the sequence comes, the bits of `want`. */
static void check_cuts(const struct shape *s, const kern_table *kern, const float *want) {
    size_t wide = s->n_head * s->dim;
    float *y = calloc(SEQS * TOKENS * wide, sizeof *y);
    for (int n_threads = 1; n_threads <= 4; n_threads += 3) { /* with 4 the columns of most heads are split */
        struct work w;
        open_work(&w, s, TOKENS, kern, n_threads);
        for (size_t t = 0; t < TOKENS && n_threads == 1; t++) feed(&w, 0, t, t + 1, y); /* one by one */
        if (n_threads == 1) assert_memory_equal(y, want, TOKENS * wide * sizeof *y);
        for (size_t t = 0, k = 1, to; t < TOKENS; t = to, k = k * 5 % 23 + 1) { /* in pieces */
            to = MIN(t + k, (size_t)TOKENS);
            feed(&w, 1, t, to, y);
        }
        assert_memory_equal(y, want, TOKENS * wide * sizeof *y);
        close_work(&w);
        open_work(&w, s, TOKENS, kern, n_threads);
        for (size_t t = 0, n; t < TOKENS; t += n) { /* beside others */
            n = MIN((size_t)13, TOKENS - t);
            feed_three(&w, t, n, y);
            for (size_t i = 0; i < SEQS; i++) assert_memory_equal(y + i * n * wide, want + t * wide, n * wide * sizeof *y);
        }
        close_work(&w);
    }
    free(y);
}

/* Nanoseconds for 512 tokens one by one, and in one batch. */
static void measure(const struct shape *s, const kern_table *kern, double best[2]) {
    enum { N = 512 };
    struct work w;
    best[0] = best[1] = 1e18;
    open_work(&w, s, N, kern, 1);
    float *y = calloc(N * s->n_head * s->dim, sizeof *y);
    for (int round = 0; round < 6; round++) {
        uint64_t t = clock_ns();
        if (round % 2) feed(&w, 0, 0, N, y);
        else
            for (size_t i = 0; i < N; i++) feed(&w, 0, i, i + 1, y);
        best[round % 2] = fmin(best[round % 2], (double)(clock_ns() - t));
    }
    free(y);
    close_work(&w);
}

static void test_scan(void **unused) {
    (void)unused;
    for (size_t k = 0; k < COUNT_OF(shapes) * COUNT_OF(rungs); k++) {
        const struct shape *s = &shapes[k % COUNT_OF(shapes)];
        const char *rung = rungs[k / COUNT_OF(shapes)];
        int ok;
        uint32_t mask = cpu_mask_by_name(rung, &ok);
        if (!ok || (mask & cpu_detect()) != mask) continue;
        if (mask == 0 && s->n > 100 && !report) continue; /* slow, and the other two say the same */
        kern_table kern;
        kern_table_init(&kern, mask);
        size_t n = TOKENS * s->n_head * s->dim;
        double *want = calloc(n, sizeof *want);
        float *y = calloc(n, sizeof *y);
        struct work w;
        open_work(&w, s, TOKENS, &kern, 1);
        plainly(s, &w.in, want);
        feed(&w, 0, 0, TOKENS, y);
        close_work(&w);
        double error = error_of(y, want, n);
        if (report) {
            char item[64], measured[40], times[64];
            double ns[2], flop = 512.0 * (double)(2 * s->n_head * s->dim * s->n * (s->delta ? 3 : 2)); /* those of whole chunks */
            measure(s, &kern, ns);
            (void)snprintf(item, sizeof item, "chunks, %s", s->name);
            (void)snprintf(measured, sizeof measured, "NMSE %.2g", error);
            (void)snprintf(times, sizeof times, "%.1fx one by one, %.0f GFLOP/s", ns[0] / ns[1], flop / ns[1]);
            report_row("recurrence", item, measured, "1e-11", error <= 1e-11 ? "ok" : "FAIL", times, kern.rung);
        }
        assert_true(error <= 1e-11);
        check_cuts(s, &kern, y);
        free(want);
        free(y);
    }
}

/* ---- convolution ---- */
static void test_conv(void **unused) {
    (void)unused;
    enum { K = 4, N = 50, T = 20 };
    kern_table kern;
    kern_table_init(&kern, CPU_ALL);
    rng r;
    rng_seed(&r, 3, 3);
    float *x = random_floats(T * N, &r, 1), *w = random_floats(K * N, &r, 1), *bias = random_floats(N, &r, 1), st[2][K * N] = {{0}}, y[2][T * N], around[T * N];
    ssm_conv c = {.k = K, .n = N, .w = w, .bias = bias, .act = ACT_NONE};
    team t = {.kern = &kern, .nth = 1};
    ssm_conv_run(&t, &c, st[0], x, N, y[0], N, T, 0, N);
    for (size_t i = 0; i < T; i++) /* one by one, in two ranges of channels */
        for (size_t part = 0; part < 2; part++) ssm_conv_run(&t, &c, st[1], x + i * N, N, y[1] + i * N, N, 1, part * 16, part ? N : 16);
    assert_memory_equal(y[0], y[1], sizeof y[0]);
    assert_memory_equal(st[0], st[1], (K - 1) * N * sizeof(float));
    ssm_conv_run_centered(&t, &c, x, N, around, N, T, 0, N);
    for (size_t i = 0; i < T * N; i++) {
        double past = (double)bias[i % N], both = past;
        for (size_t j = 0; j < K; j++) {
            size_t row = i / N + j;
            if (row >= K - 1) past += (double)w[j * N + i % N] * (double)x[(row - (K - 1)) * N + i % N];
            if (row >= (K - 1) / 2 && row - (K - 1) / 2 < T) both += (double)w[j * N + i % N] * (double)x[(row - (K - 1) / 2) * N + i % N];
        }
        assert_true(fabs((double)y[0][i] - past) < 1e-5);
        assert_true(fabs((double)around[i] - both) < 1e-5);
    }
    free(x);
    free(w);
    free(bias);
}

int main(int argc, char **argv) {
    report = report_wanted(argc, argv);
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_scan), cmocka_unit_test(test_conv)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
