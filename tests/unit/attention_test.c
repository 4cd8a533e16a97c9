/* attention_test.c: training's attention over sequences of several pieces and blocks, forward and back, against sums in double
 * precision; the same bits for any number of threads. What is special (caps, sinks, distances) is in train_ops_test.c. */
#include "base/pool.h"
#include "base/rng.h"
#include "report.h"
#include "tensor/tensor.h"
#include "train/ops.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

enum { N = 700, HEADS = 4, KV = 2, DK = 20, DV = 24 };
static const uint32_t starts[] = {0, 13, 14, 620, N};
enum { SEQS = COUNT_OF(starts) - 1 };
static int32_t pos[N];

typedef struct tensors {
    float q[N * HEADS * DK], k[N * KV * DK], v[N * KV * DV], dy[N * HEADS * DV];
} tensors;
typedef struct answers {
    double y[N * HEADS * DV], dq[N * HEADS * DK], dk[N * KV * DK], dv[N * KV * DV];
} answers;
static tensors in;
static answers want;
static float ones[N];

static void one_row(const ad_attn *o, size_t start, size_t end, size_t i, size_t h) {
    static double p[N], dp[N];
    const size_t g = h / (HEADS / KV), lo = o->window && i + 1 - start > o->window ? i + 1 - o->window : start, hi = o->causal ? i + 1 : end;
    double sum = 0, own = 0;
    for (size_t j = lo; j < hi; j++) {
        double s = 0;
        for (size_t d = 0; d < DK; d++) s += (double)in.q[(i * HEADS + h) * DK + d] * (double)in.k[(j * KV + g) * DK + d];
        sum += p[j] = exp((double)o->scale * s);
    }
    for (size_t j = lo; j < hi; j++) {
        dp[j] = 0;
        p[j] /= sum;
        for (size_t d = 0; d < DV; d++) {
            const double dy = (double)in.dy[(i * HEADS + h) * DV + d], v = (double)in.v[(j * KV + g) * DV + d];
            want.y[(i * HEADS + h) * DV + d] += p[j] * v;
            want.dv[(j * KV + g) * DV + d] += p[j] * dy;
            dp[j] += dy * v;
        }
        own += p[j] * dp[j];
    }
    for (size_t j = lo; j < hi; j++)
        for (size_t d = 0; d < DK; d++) {
            const double ds = p[j] * (dp[j] - own) * (double)o->scale;
            want.dq[(i * HEADS + h) * DK + d] += ds * (double)in.k[(j * KV + g) * DK + d];
            want.dk[(j * KV + g) * DK + d] += ds * (double)in.q[(i * HEADS + h) * DK + d];
        }
}

static double nmse(const float *a, const double *b, size_t n) {
    double err = 0, sum = 0;
    for (size_t i = 0; i < n; i++) {
        err += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
        sum += b[i] * b[i];
    }
    return err / sum;
}

/* With the gradient of sum(y · dy). Returns the worst error; *bits: a sum that any changed bit changes. */
static double run(const ad_attn *o, gemm_prec prec, int n_threads, uint64_t *bits) {
    const kern_table *kern = tensor_kernels_open(CPU_ALL);
    pool *p;
    tape *t;
    assert_non_null(kern);
    assert_int_equal(pool_open(&p, n_threads, NULL), MOTE_OK);
    assert_int_equal(tape_open(&t, &(tape_opts){.pool = p, .kern = kern, .prec = prec}, NULL), MOTE_OK);
    var q = {.rows = N, .cols = HEADS * DK, .x = in.q, .wants = true}, k = {.rows = N, .cols = KV * DK, .x = in.k, .wants = true};
    var v = {.rows = N, .cols = KV * DV, .x = in.v, .wants = true};
    const ad_seqs s = {.n = N, .n_seq = SEQS, .start = starts, .pos = pos};
    var *y = ad_attention(t, &q, &k, &v, o, &s);
    assert_non_null(y);
    var *all = ad_mul(t, y, tape_const(t, N, HEADS * DV, in.dy));
    var *rows = ad_linear(t, all, tape_const(t, 1, HEADS * DV, ones));
    tape_back(t, ad_linear(t, tape_view(t, rows, 0, 1, N), tape_const(t, 1, N, ones)), 1);
    assert_int_equal(tape_status(t, NULL), MOTE_OK);
    const struct {
        const float *got;
        const double *want;
        size_t n;
    } parts[] = {{y->x, want.y, COUNT_OF(want.y)}, {q.g, want.dq, COUNT_OF(want.dq)}, {k.g, want.dk, COUNT_OF(want.dk)}, {v.g, want.dv, COUNT_OF(want.dv)}};
    double worst = 0;
    *bits = 0;
    for (size_t i = 0; i < COUNT_OF(parts); i++) {
        worst = fmax(worst, nmse(parts[i].got, parts[i].want, parts[i].n));
        for (size_t j = 0; j < parts[i].n; j++) {
            uint32_t w;
            memcpy(&w, &parts[i].got[j], sizeof w);
            *bits = *bits * 31 + w;
        }
    }
    tape_close(&t);
    pool_close(&p);
    tensor_kernels_close(&kern);
    return worst;
}

static void check(const ad_attn *o, const char *name) {
    want = (answers){0};
    for (size_t s = 0; s < SEQS; s++)
        for (size_t i = starts[s]; i < starts[s + 1]; i++)
            for (size_t h = 0; h < HEADS; h++) one_row(o, starts[s], starts[s + 1], i, h);
    for (int prec = 0; prec < 2; prec++) {
        uint64_t alone, three;
        const double e = run(o, (gemm_prec)prec, 1, &alone), bar = prec == GEMM_BF16 ? 1e-4 : 1e-11;
        (void)run(o, (gemm_prec)prec, 3, &three);
        assert_true(alone == three);
        char item[64], measured[32], limit[32];
        (void)snprintf(item, sizeof item, "attention %s %s", name, prec ? "bf16" : "f32");
        (void)snprintf(measured, sizeof measured, "NMSE %.1e", e);
        (void)snprintf(limit, sizeof limit, "%.0e", bar);
        if (report_wanted(0, NULL)) report_row("train", item, measured, limit, e <= bar ? "ok" : "FAIL", "-", cpu_rung_name(cpu_detect()));
        if (!(e <= bar)) fail_msg("%s: error %g", item, e);
    }
}

static void test_attention(void **state) {
    (void)state;
    rng r;
    for (size_t i = 0; i < N; i++) ones[i] = 1;
    rng_seed(&r, 7, 7);
    float *x = (float *)(void *)&in;
    for (size_t i = 0; i < sizeof in / sizeof *x; i++) x[i] = (float)((double)rng_u32(&r) / 2147483648.0 - 1);
    check(&(ad_attn){.n_head = HEADS, .n_head_kv = KV, .dim_k = DK, .dim_v = DV, .scale = 0.3f, .causal = true}, "causal");
    check(&(ad_attn){.n_head = HEADS, .n_head_kv = KV, .dim_k = DK, .dim_v = DV, .scale = 0.3f, .causal = true, .window = 150}, "window");
    check(&(ad_attn){.n_head = HEADS, .n_head_kv = KV, .dim_k = DK, .dim_v = DV, .scale = 0.3f}, "all seen");
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_attention)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
