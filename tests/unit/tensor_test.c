/* tensor_test.c: linear layers, experts and attention against plain double precision, and their promise that
 * a row's result is the same bits whatever the batch and the number of threads. */
#include "kern/random_weights.h"
#include "kernel/packed.h"
#include "tensor/tensor.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static kern_table kern;

/* Runs fn on a team of n threads. */
typedef struct run {
    void (*fn)(team *t, void *arg);
    void *arg;
    pool *pool;
    bool fast;
    unsigned char *scratch;
    size_t scratch_bytes;
} run;
static const seen_by *seen; /* of the next run */
static void run_thread(void *arg, int ith, int nth) {
    run *r = arg;
    team t = {.pool = r->pool, .kern = &kern, .ith = ith, .nth = nth, .fast = r->fast,
              .scratch = {.base = r->scratch, .cap = r->scratch_bytes}};
    t.seen = seen;
    r->fn(&t, r->arg);
    assert_true(t.scratch.peak <= r->scratch_bytes);
}
static void on_team(int n_threads, bool fast, size_t scratch_bytes, void (*fn)(team *, void *), void *arg) {
    run r = {.fn = fn, .arg = arg, .fast = fast, .scratch_bytes = scratch_bytes};
    assert_int_equal(pool_open(&r.pool, n_threads, NULL), MOTE_OK);
    r.scratch = mem_alloc_aligned(scratch_bytes);
    assert_non_null(r.scratch);
    pool_run(r.pool, run_thread, &r);
    mem_free_aligned(r.scratch);
    pool_close(&r.pool);
}

static double nmse(const float *a, const double *b, size_t n) {
    double err = 0, sum = 0;
    for (size_t i = 0; i < n; i++) {
        err += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
        sum += b[i] * b[i];
    }
    return err / (sum + 1e-30);
}

static float *random_floats(size_t n, rng *r) {
    float *p = malloc(n * sizeof *p);
    for (size_t i = 0; i < n; i++) p[i] = random_float(r);
    return p;
}

/* A weight that is to be packed, but is not yet. */
static void plan_weight(weight *w, quant_type type, size_t rows, size_t cols, size_t n_mat, rng *r) {
    const quant_format *f = quant_get((int)type);
    size_t row_bytes = cols / f->block * f->bytes;
    unsigned char *data = malloc(row_bytes * rows * n_mat);
    for (size_t i = 0; i < rows * n_mat; i++) random_row(type, data + i * row_bytes, cols, r);
    *w = (weight){.name = "test", .type = type, .rows = rows, .cols = cols, .n_mat = n_mat, .data = data};
    assert_int_equal(weight_plan(w, &kern, NULL), MOTE_OK);
}
static void pack_weight(weight *w) {
    pool *p;
    weight_packer packer;
    assert_int_equal(pool_open(&p, 2, NULL), MOTE_OK);
    assert_int_equal(weights_reserve(&packer, &w, 1, p, NULL), MOTE_OK);
    assert_null(w->packed);
    weights_pack(&packer, p);
    assert_true(w->packing ? w->packed == packer.block : w->packed == NULL);
    mem_free_aligned(packer.panels);
    if (!w->packing) mem_free_aligned(packer.block); /* else drop_weight */
    pool_close(&p);
}
static void make_weight(weight *w, quant_type type, size_t rows, size_t cols, size_t n_mat, rng *r) {
    plan_weight(w, type, rows, cols, n_mat, r);
    pack_weight(w);
}
static void drop_weight(weight *w) {
    union {
        const unsigned char *c;
        void *p;
    } u = {w->data};
    free(u.p);
    mem_free_aligned(w->packed);
}

typedef struct linear_call {
    linear_in in;
    size_t n_rows;
    linear_out outs[2];
    size_t n_outs;
} linear_call;
static void call_linear(team *t, void *arg) {
    linear_call *c = arg;
    op_linear(t, &c->in, c->n_rows, c->outs, c->n_outs);
}

enum { ROWS = 53, ROWS2 = 16, BATCH = 37 };

/* Products and rows of a weight are the same bits before and after it is packed, on both paths. */
static void test_unpacked(void **state) {
    (void)state;
    for (int type = 0; type < QUANT_TYPE_MAX; type++) {
        const quant_format *f = quant_get(type);
        if (!f || !f->decode || !kern_packing_of((quant_type)type)) continue;
        enum { E = 2 };
        const size_t cols = f->block % 96 == 0 ? 576 : 512;
        rng r;
        rng_seed(&r, 5, (uint64_t)type);
        weight w;
        plan_weight(&w, (quant_type)type, ROWS, cols, E, &r);
        float *x = random_floats(BATCH * cols, &r), *bias = random_floats(ROWS, &r);
        float *y = malloc(4 * BATCH * ROWS * sizeof *y), *rows = malloc(2 * ROWS * cols * sizeof *rows);
        for (int packed = 0; packed < 2; packed++) {
            if (packed) pack_weight(&w);
            for (size_t i = 0; i < ROWS; i++) weight_row(&w, i, rows + (packed * ROWS + i) * cols);
            for (int fast = 0; fast < 2; fast++)
                for (size_t n = 1; n <= BATCH; n += BATCH - 1) {
                    float *to = y + (packed * 2 + fast) * BATCH * ROWS;
                    linear_call c = {.in = {.x = x, .ld = cols}, .n_rows = n, .n_outs = 1,
                                     .outs = {{&w, 1, to, ROWS, bias, 0.5f, false, 0}}};
                    on_team(2 + packed, fast, tensor_scratch_bytes(BATCH, cols, 3), call_linear, &c);
                }
        }
        assert_memory_equal(rows, rows + ROWS * cols, ROWS * cols * sizeof *rows);
        assert_memory_equal(y, y + 2 * BATCH * ROWS, 2 * BATCH * ROWS * sizeof *y);
        free(x);
        free(bias);
        free(y);
        free(rows);
        drop_weight(&w);
    }
}

static void check_type(quant_type type) {
    rng r;
    rng_seed(&r, 1, (uint64_t)type);
    const quant_format *f = quant_get((int)type);
    size_t cols = f->block == 256 ? 512 : f->block == 1 ? 83 : 576 / f->block * f->block;
    weight w, w2;
    make_weight(&w, type, ROWS, cols, 1, &r);
    make_weight(&w2, f->block == 256 || f->block == 1 ? type : QUANT_Q8_0, ROWS2, cols, 1, &r);
    float *x = random_floats(BATCH * cols, &r), *bias = random_floats(ROWS, &r);
    float *row = malloc(cols * sizeof *row);
    double *want = malloc(BATCH * ROWS * sizeof *want);
    for (size_t i = 0; i < ROWS; i++) {
        weight_row(&w, i, row);
        for (size_t t = 0; t < BATCH; t++) {
            double s = 0;
            for (size_t j = 0; j < cols; j++) s += (double)row[j] * (double)x[t * cols + j];
            want[t * ROWS + i] = 0.5 * s + (double)bias[i];
        }
    }
    size_t scratch = tensor_scratch_bytes(BATCH, cols, 3);
    float *first = malloc(BATCH * ROWS * sizeof *first);
    for (int fast = 1; fast >= 0; fast--) {
        for (int threads = 1; threads <= 3; threads++) {
            float *y = calloc(BATCH * ROWS, sizeof *y), *y2 = calloc(BATCH * ROWS2, sizeof *y2);
            linear_call c = {.in = {.x = x, .ld = cols}, .n_rows = BATCH, .n_outs = 2,
                             .outs = {{&w, 0, y, ROWS, bias, 0.5f, false, 0}, {&w2, 0, y2, ROWS2, NULL, 0, false, 0}}};
            on_team(threads, fast, scratch, call_linear, &c);
            double e = nmse(y, want, BATCH * ROWS), bar = fast && w.packing ? 2e-4 : fast && type == QUANT_BF16 ? 1e-5 : 1e-11;
            if (!(e <= bar)) print_error("%s fast %d: NMSE %g over %g\n", f->name, fast, e, bar);
            assert_true(e <= bar);
            if (threads == 1) memcpy(first, y, BATCH * ROWS * sizeof *y);
            assert_memory_equal(first, y, BATCH * ROWS * sizeof *y);
            static const size_t sizes[] = {1, 2, 3, 5, 7, 16, 24, 33};
            for (size_t k = 0; k < COUNT_OF(sizes); k++) { /* parts of the batch */
                size_t from = (k * 7) % (BATCH - sizes[k] + 1);
                memset(y, 0, BATCH * ROWS * sizeof *y);
                c.in.x = x + from * cols;
                c.n_rows = sizes[k];
                on_team(threads, fast, scratch, call_linear, &c);
                if (memcmp(first + from * ROWS, y, sizes[k] * ROWS * sizeof *y) != 0)
                    print_error("%s: %zu rows differ from the batch\n", f->name, sizes[k]);
                assert_memory_equal(first + from * ROWS, y, sizes[k] * ROWS * sizeof *y);
            }
            free(y);
            free(y2);
        }
    }
    free(first);
    free(want);
    free(row);
    free(x);
    free(bias);
    drop_weight(&w);
    drop_weight(&w2);
}

static void test_linear(void **state) {
    (void)state;
    for (int i = 0; i < QUANT_TYPE_MAX; i++) {
        const quant_format *f = quant_get(i);
        if (f && f->decode) check_type((quant_type)i);
    }
}

/* Norm, gate and up before the product, adding to what is there. */
static void test_fused(void **state) {
    (void)state;
    enum { COLS = 96, N = 9 };
    rng r;
    rng_seed(&r, 2, 0);
    weight w;
    make_weight(&w, QUANT_F32, ROWS, COLS, 1, &r);
    float *x = random_floats(N * COLS, &r), *up = random_floats(N * COLS, &r), *nw = random_floats(COLS, &r);
    float *y = random_floats(N * ROWS, &r), row[COLS];
    double *want = malloc(N * ROWS * sizeof *want);
    for (size_t t = 0; t < N; t++) {
        double sum = 0;
        for (size_t j = 0; j < COLS; j++) sum += (double)x[t * COLS + j] * (double)x[t * COLS + j];
        double scale = 1 / sqrt(sum / COLS + 1e-5);
        for (size_t i = 0; i < ROWS; i++) {
            double s = 0;
            weight_row(&w, i, row);
            for (size_t j = 0; j < COLS; j++) {
                double v = (double)x[t * COLS + j] * scale * (double)nw[j];
                s += (double)row[j] * v / (1 + exp(-v)) * (double)up[t * COLS + j];
            }
            want[t * ROWS + i] = s + (double)y[t * ROWS + i];
        }
    }
    linear_call c = {.in = {.x = x, .ld = COLS, .norm = {NORM_RMS, nw, NULL, 1e-5f}, .act = ACT_SILU, .up = up, .ld_up = COLS},
                     .n_rows = N, .n_outs = 1, .outs = {{&w, 0, y, ROWS, NULL, 1, true, 0}}};
    on_team(2, true, tensor_scratch_bytes(N, COLS, 2), call_linear, &c);
    assert_true(nmse(y, want, N * ROWS) < 1e-11);
    free(x);
    free(up);
    free(nw);
    free(y);
    free(want);
    drop_weight(&w);
}

typedef struct expert_call {
    linear_in in;
    size_t n_in, n_assign;
    const expert_assign *assign;
    expert_out out;
} expert_call;
static void call_experts(team *t, void *arg) {
    expert_call *c = arg;
    op_experts(t, &c->in, c->n_in, c->assign, c->n_assign, &c->out, 1);
}

/* n_in rows, of which expert e takes every (e + 2)-th. */
static void check_experts(quant_type type, size_t n_in, size_t cols) {
    enum { E = 3 };
    rng r;
    rng_seed(&r, 3, n_in);
    weight w;
    make_weight(&w, type, ROWS, cols, E, &r);
    float *x = random_floats(n_in * cols, &r), *bias = random_floats(E * ROWS, &r);
    static const float scale[E] = {1, 2, 0.5f};
    expert_assign *assign = calloc(E * n_in, sizeof *assign);
    size_t n = 0;
    for (size_t e = 0; e < E; e++)
        for (size_t i = n_in; i-- > 0;)
            if (i % (e + 2) == 0) assign[n] = (expert_assign){(int32_t)e, (int32_t)i, (int32_t)(n ^ 1)}, n++;
    float *y = calloc((n + 1) * ROWS, sizeof *y), one[ROWS];
    expert_call c = {.in = {.x = x, .ld = cols}, .n_in = n_in, .n_assign = n, .assign = assign,
                     .out = {&w, y, ROWS, bias, scale}};
    on_team(2, true, tensor_scratch_bytes(n_in, cols, 2), call_experts, &c);
    for (size_t a = 0; a < n; a++) {
        size_t e = (size_t)assign[a].expert;
        linear_call l = {.in = {.x = x + (size_t)assign[a].xrow * cols, .ld = cols}, .n_rows = 1, .n_outs = 1,
                         .outs = {{&w, e, one, ROWS, bias + e * ROWS, scale[e], false, 0}}};
        on_team(1, true, tensor_scratch_bytes(1, cols, 1), call_linear, &l);
        assert_memory_equal(one, y + (size_t)assign[a].yrow * ROWS, sizeof one);
    }
    free(x);
    free(y);
    free(bias);
    free(assign);
    drop_weight(&w);
}

static void test_experts(void **state) {
    (void)state;
    check_experts(QUANT_Q4_0, 6, 64);
    check_experts(QUANT_F32, 20, 48);
    check_experts(QUANT_Q8_0, 29, 96); /* in tiles */
    check_experts(QUANT_Q4_K, 230, 256); /* more than are made at a time */
}

/* ---- who watches ---- */
typedef struct watched {
    const weight *w[2];
    size_t calls, n_rows, mats[4], cols;
    float rows[64 * 64];
} watched;
static void watch(void *ctx, const linear_seen *s) {
    watched *k = ctx;
    assert_int_equal(s->nth, 2);
    if (s->ith) return;
    assert_ptr_equal(s->w, k->w[s->out]);
    k->calls++;
    if (s->out) return; /* the same rows as before */
    k->mats[s->mat] += s->n;
    for (size_t i = 0; i < s->n; i++) memcpy(k->rows + k->n_rows++ * k->cols, seen_row(s, i), k->cols * sizeof(float));
}

/* The rows seen are the ones that meet the weight: normed, gated, for experts those of each in turn; and the results do not
 * change by it. */
static void test_seen(void **state) {
    (void)state;
    enum { COLS = 48, N = 9, E = 3 };
    rng r;
    rng_seed(&r, 9, 0);
    weight w[2], exps;
    make_weight(&w[0], QUANT_F32, ROWS, COLS, 1, &r);
    make_weight(&w[1], QUANT_F32, ROWS2, COLS, 1, &r);
    make_weight(&exps, QUANT_F32, ROWS, COLS, E, &r);
    float *x = random_floats(N * COLS, &r), *up = random_floats(N * COLS, &r), *nw = random_floats(COLS, &r);
    float *y = malloc(2 * N * (ROWS + ROWS2) * sizeof *y), *y2 = y + N * ROWS, *z = y + N * (ROWS + ROWS2), row[COLS];
    float room[N * COLS];
    watched k = {.w = {&w[0], &w[1]}, .cols = COLS};
    const seen_by by = {.fn = watch, .ctx = &k, .rows = room, .cap = COUNT_OF(room)};
    assert_true(seen_floats(N, COLS) <= by.cap);
    linear_call c = {.in = {.x = x, .ld = COLS, .norm = {NORM_RMS, nw, NULL, 1e-5f}, .act = ACT_SILU, .up = up, .ld_up = COLS},
                     .n_rows = N, .n_outs = 2, .outs = {{&w[0], 0, y, ROWS, NULL, 1, false, 0}, {&w[1], 0, y2, ROWS2, NULL, 1, false, 0}}};
    seen = &by;
    on_team(2, false, tensor_scratch_bytes(N, COLS, 2), call_linear, &c);
    seen = NULL;
    assert_int_equal(k.calls, 2);
    assert_int_equal(k.n_rows, N);
    for (size_t t = 0; t < N; t++)
        for (size_t i = 0; i < ROWS; i++) {
            double sum = 0;
            weight_row(&w[0], i, row);
            for (size_t j = 0; j < COLS; j++) sum += (double)row[j] * (double)k.rows[t * COLS + j];
            assert_true(fabs(sum - (double)y[t * ROWS + i]) < 1e-4 * (1 + fabs(sum)));
        }
    c.outs[0].y = z;
    c.outs[1].y = z + N * ROWS;
    on_team(2, false, tensor_scratch_bytes(N, COLS, 2), call_linear, &c);
    assert_memory_equal(y, z, N * (ROWS + ROWS2) * sizeof *y);
    static const expert_assign assign[] = {{0, 3, 0}, {0, 1, 1}, {2, 8, 2}, {2, 3, 3}, {2, 0, 4}};
    expert_call e = {.in = {.x = x, .ld = COLS}, .n_in = N, .n_assign = COUNT_OF(assign), .assign = assign, .out = {&exps, y, ROWS, NULL, NULL}};
    k = (watched){.w = {&exps}, .cols = COLS};
    seen = &by;
    on_team(2, false, tensor_scratch_bytes(N, COLS, 2), call_experts, &e);
    seen = NULL;
    assert_int_equal(k.calls, 2);
    assert_int_equal(k.mats[0], 2);
    assert_int_equal(k.mats[1], 0);
    assert_int_equal(k.mats[2], 3);
    for (size_t a = 0; a < COUNT_OF(assign); a++) assert_memory_equal(k.rows + a * COLS, x + assign[a].xrow * COLS, COLS * sizeof(float));
    for (int i = 0; i < 2; i++) drop_weight(&w[i]);
    drop_weight(&exps);
    free(x);
    free(up);
    free(nw);
    free(y);
}

/* ---- attention ---- */
typedef struct attn_call {
    const attn_opts *o;
    attn_seg seg;
} attn_call;
static void call_attention(team *t, void *arg) {
    attn_call *c = arg;
    op_attention(t, c->o, &c->seg, 1);
}

typedef struct attn_case {
    const char *name;
    size_t n_head, n_head_kv, dim_k, dim_v, len, cap;
    quant_type type;
    attn_opts o;
    bool sinks, alibi;
} attn_case;

static bool sees(const attn_case *c, size_t q, size_t k) {
    if (c->o.causal && k > q) return false;
    if (!c->o.window) return true;
    if (c->o.chunked) return k / c->o.window == q / c->o.window;
    size_t distance = k > q ? k - q : q - k;
    return c->o.causal ? distance < c->o.window : distance <= c->o.window / 2;
}

static void check_attention(const attn_case *c) {
    rng r;
    rng_seed(&r, 4, 0);
    kv_layer kv = {c->type, c->type, c->n_head_kv, c->dim_k, c->dim_v, c->cap, NULL, NULL, 0};
    kv.k = mem_alloc_aligned(kv_k_bytes(&kv));
    kv.v = mem_alloc_aligned(kv_v_bytes(&kv));
    team t = {.kern = &kern, .nth = 1};
    size_t ld_q = c->n_head * c->dim_k, ld_out = c->n_head * c->dim_v, dims = MAX(c->dim_k, c->dim_v);
    float *q = random_floats(c->len * ld_q, &r), *k = malloc(c->len * c->n_head_kv * dims * sizeof *k);
    float *v = malloc(c->len * c->n_head_kv * dims * sizeof *v), *extra = random_floats(c->n_head, &r);
    for (size_t p = 0; p < c->len; p++)
        for (size_t h = 0; h < c->n_head_kv; h++) {
            float *kk = k + (p * c->n_head_kv + h) * dims, *vv = v + (p * c->n_head_kv + h) * dims;
            for (size_t j = 0; j < c->dim_k; j++) kk[j] = random_float(&r);
            for (size_t j = 0; j < c->dim_v; j++) vv[j] = random_float(&r);
            kv_put_k(&t, &kv, h, p, kk);
            kv_put_v(&t, &kv, h, p, vv);
            kv_get_k(&kv, h, p, kk); /* as rounded by the cache */
            kv_get_v(&kv, h, p, vv);
        }
    size_t n_q = MIN(c->len, 70), pos0 = c->len - n_q;
    double *want = calloc(n_q * ld_out, sizeof *want), *s = malloc(c->len * sizeof *s);
    for (size_t i = 0; i < n_q; i++)
        for (size_t h = 0; h < c->n_head; h++) {
            size_t hk = h / (c->n_head / c->n_head_kv);
            double max = c->sinks ? (double)extra[h] : (double)-INFINITY, sum = 0;
            for (size_t p = 0; p < c->len; p++) {
                s[p] = (double)-INFINITY;
                if (!sees(c, pos0 + i, p)) continue;
                double dot = 0;
                for (size_t j = 0; j < c->dim_k; j++)
                    dot += (double)q[i * ld_q + h * c->dim_k + j] * (double)k[(p * c->n_head_kv + hk) * dims + j];
                dot *= (double)c->o.scale;
                if (c->o.softcap > 0) dot = (double)c->o.softcap * tanh(dot / (double)c->o.softcap);
                if (c->alibi) dot += (double)extra[h] * ((double)p - (double)(pos0 + i));
                s[p] = dot;
                max = fmax(max, dot);
            }
            if (c->sinks) sum = exp((double)extra[h] - max);
            for (size_t p = 0; p < c->len; p++) sum += exp(s[p] - max);
            for (size_t p = 0; p < c->len; p++)
                for (size_t j = 0; j < c->dim_v && s[p] > (double)-INFINITY; j++)
                    want[i * ld_out + h * c->dim_v + j] +=
                        exp(s[p] - max) / sum * (double)v[(p * c->n_head_kv + hk) * dims + j];
        }
    attn_opts o = c->o;
    o.n_head = c->n_head;
    if (c->sinks) o.sinks = extra;
    if (c->alibi) o.alibi = extra;
    float *first = calloc(n_q * ld_out, sizeof *first), *out = calloc(n_q * ld_out, sizeof *out);
    for (int turn = 0; turn < 6; turn++) {
        int threads = 1 + turn % 3;
        bool fast = turn < 3;
        double bar = fast && kern.bf16 ? 3e-5 : 1e-11; /* bf16: 8 bits of queries, keys, values and weights */
        size_t scratch = attn_scratch_bytes(n_q, c->n_head, c->n_head_kv, c->dim_k, c->dim_v, c->len, threads);
        attn_call call = {&o, {&kv, q, ld_q, out, ld_out, n_q, pos0, c->len, NULL}};
        on_team(threads, fast, scratch, call_attention, &call);
        double e = nmse(out, want, n_q * ld_out);
        if (!(e < bar)) print_error("%s: NMSE %g\n", c->name, e);
        assert_true(e < bar);
        if (threads == 1) memcpy(first, out, n_q * ld_out * sizeof *out);
        assert_memory_equal(first, out, n_q * ld_out * sizeof *out);
        for (size_t at = 0, n = 1; at < n_q; at += n, n = n % 5 + 1) { /* a few queries at a time */
            n = MIN(n, n_q - at);
            call.seg = (attn_seg){&kv, q + at * ld_q, ld_q, out, ld_out, n, pos0 + at, c->len, NULL};
            on_team(threads, fast, scratch, call_attention, &call);
            if (memcmp(first + at * ld_out, out, n * ld_out * sizeof *out) != 0)
                print_error("%s: query %zu of %zu differs from the batch\n", c->name, at, n_q);
            assert_memory_equal(first + at * ld_out, out, n * ld_out * sizeof *out);
        }
    }
    free(first);
    free(out);
    free(want);
    free(s);
    free(q);
    free(k);
    free(v);
    free(extra);
    mem_free_aligned(kv.k);
    mem_free_aligned(kv.v);
}

static void test_attention(void **state) {
    (void)state;
    static const attn_case cases[] = {
        {"f16 gqa", 9, 3, 64, 64, 130, 144, QUANT_F16, {.scale = 0.3f, .causal = true}, 0, 0},
        {"wide scores", 14, 2, 64, 64, 700, 704, QUANT_F16, {.scale = 0.3f, .causal = true, .wide_scores = true}, 0, 0},
        {"f32 odd dims", 2, 2, 20, 12, 75, 80, QUANT_F32, {.scale = 0.3f, .causal = true}, 0, 0},
        {"bf16 long", 4, 1, 32, 32, 1300, 1312, QUANT_BF16, {.scale = 0.3f, .causal = true}, 0, 0},
        {"q8_0 long", 2, 1, 64, 96, 700, 704, QUANT_Q8_0, {.scale = 0.3f, .causal = true}, 0, 0},
        {"q4_0", 2, 1, 64, 64, 90, 96, QUANT_Q4_0, {.scale = 0.3f, .causal = true}, 0, 0},
        {"window", 4, 1, 256, 256, 150, 160, QUANT_F16, {.scale = 0.1f, .causal = true, .window = 40}, 0, 0},
        {"ring", 2, 1, 32, 32, 1300, 192, QUANT_F16, {.scale = 0.3f, .causal = true, .window = 100}, 0, 0},
        {"chunked", 2, 1, 32, 32, 150, 160, QUANT_F16, {.scale = 0.3f, .causal = true, .window = 64, .chunked = true}, 0, 0},
        {"softcap", 2, 1, 32, 32, 90, 96, QUANT_F16, {.scale = 3, .causal = true, .softcap = 2}, 0, 0},
        {"sinks", 4, 2, 32, 32, 600, 608, QUANT_F16, {.scale = 0.3f, .causal = true}, true, 0},
        {"alibi", 4, 2, 32, 32, 90, 96, QUANT_F16, {.scale = 0.3f, .causal = true}, 0, true},
        {"encoder", 3, 3, 32, 32, 70, 80, QUANT_F32, {.scale = 0.3f}, 0, 0},
        {"encoder window", 3, 3, 32, 32, 70, 80, QUANT_F32, {.scale = 0.3f, .window = 16}, 0, 0},
        {"mla", 60, 1, 96, 64, 100, 112, QUANT_F16, {.scale = 0.3f, .causal = true}, 0, 0},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) check_attention(&cases[i]);
}

int main(int argc, char **argv) {
    int ok = 1;
    uint32_t mask = argc > 1 ? cpu_mask_by_name(argv[1], &ok) : CPU_ALL;
    if (!ok) return 2;
    kern_table_init(&kern, mask);
    print_message("rung %s\n", kern.rung);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_unpacked),
        cmocka_unit_test(test_linear),
        cmocka_unit_test(test_fused),
        cmocka_unit_test(test_experts),
        cmocka_unit_test(test_seen),
        cmocka_unit_test(test_attention),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
