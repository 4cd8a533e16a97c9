/* exits_test.c: extra heads at work, at the level of the model: heads with W = 0 are the model's own; tokens that leave early say
 * what a naive pass through the layers says there; batches, threads and sequences do not matter; what is cached is what the model
 * without exits caches, bit for bit; drafts are taken over without a trace. */
#include "heads_file.h"
#include "model/model.h"
#include "tiny_model.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
/* cmocka wants these first */
#include <cmocka.h>

#include "folder.h"
#include "nmse.h"
#include "ok.h"
#include "report.h"

enum { LEN = 24, CTX = 64, LAYERS = 4, WIDTH = 64 };

typedef struct setup {
    const char *model, *heads;
    int threads;
    bool exact, no_exits;
    float threshold;
    size_t step;    /* tokens of a pass; 0: all at once */
    size_t n_seq;   /* the same tokens to so many sequences in every pass; 0: 1 */
    size_t unwanted; /* so many tokens at the start are a prompt */
} setup;

typedef struct opened {
    pool *p;
    model *m;
    state *s;
    size_t vocab;
} opened;

static opened open_state(const setup *u) {
    opened o;
    const model_opts mo = {.heads = u->heads};
    OK(pool_open(&o.p, u->threads ? u->threads : 1, &e_));
    OK(model_open(&o.m, u->model, &mo, o.p, &e_));
    const state_opts so = {.n_ctx = CTX, .n_seq = u->n_seq ? u->n_seq : 1, .n_batch = LEN * (u->n_seq ? u->n_seq : 1), .k_type = QUANT_F32,
                           .v_type = QUANT_F32, .exact = u->exact, .exits = u->heads && !u->no_exits, .exit_threshold = u->threshold};
    OK(state_open(&o.s, o.m, &so, o.p, &e_));
    o.vocab = model_get_info(o.m)->n_vocab;
    return o;
}

static void close_state(opened *o) {
    state_close(&o->s);
    model_close(&o->m);
    pool_close(&o->p);
}

static int32_t token(size_t i) { return (int32_t)(20 + i * 7 % 200); }

/* Logits [LEN, vocab] of the last sequence, and how many left. */
static float *run(const setup *u, size_t *n, uint64_t *left) {
    opened o = open_state(u);
    const size_t seqs = u->n_seq ? u->n_seq : 1;
    *n = LEN * o.vocab;
    float *logits = MEM_NEW_N(float, *n), *pass = MEM_NEW_N(float, *n * seqs);
    assert_non_null(logits);
    assert_non_null(pass);
    int32_t ids[LEN * 4], want[LEN * 4];
    model_seg segs[4];
    for (size_t at = 0, step; at < LEN; at += step) {
        step = at < u->unwanted ? u->unwanted : u->step ? MIN(u->step, LEN - at) : LEN - at;
        for (size_t q = 0; q < seqs; q++) {
            segs[q] = (model_seg){q, at, step};
            for (size_t i = 0; i < step; i++) ids[q * step + i] = q + 1 == seqs ? token(at + i) : token(3 * (at + i) + q);
        }
        for (size_t i = 0; i < step * seqs; i++) want[i] = (int32_t)i;
        model_batch b = {.ids = ids, .n = step * seqs, .segs = segs, .n_segs = seqs, .want = want,
                         .n_want = at < u->unwanted ? 0 : step * seqs, .logits = at < u->unwanted ? NULL : pass};
        OK(model_forward(o.s, &b, &e_));
        memcpy(logits + at * o.vocab, pass + (seqs - 1) * step * o.vocab, step * o.vocab * sizeof *pass);
    }
    const model_exit_stats st = state_exit_stats(o.s);
    if (left)
        for (size_t i = 0; i < model_n_exits(o.m); i++) left[i] = st.exits ? st.exits[i] : 0;
    mem_free(pass);
    close_state(&o);
    return logits;
}

static char tiny[300], heads_path[300];

static void make(quant_type type, heads_plan p) {
    const tiny_opts t = {.type = type, .n_layer = LAYERS, .seed = 3};
    (void)snprintf(tiny, sizeof tiny, "%s", in_folder("tiny.gguf"));
    (void)snprintf(heads_path, sizeof heads_path, "%s", in_folder("heads.gguf"));
    OK(tiny_model_write(tiny, &t, &e_));
    OK(heads_file_write(heads_path, tiny, &p, &e_));
}

static const heads_plan one_exit = {.layer = {2, LAYERS}, .offset = {0, 1}, .n = 2, .size = 0.3f, .bias = true, .gate = true, .seed = 4};

static void never_leaving_changes_nothing(void **unused) {
    (void)unused;
    make(QUANT_Q8_0, one_exit);
    for (int exact = 0; exact < 2; exact++) {
        size_t n;
        uint64_t left[2];
        float *plain = run(&(setup){.model = tiny, .exact = exact}, &n, NULL);
        float *with = run(&(setup){.model = tiny, .heads = heads_path, .exact = exact, .threshold = 1.5f}, &n, left);
        assert_memory_equal(plain, with, n * sizeof *plain);
        assert_int_equal(left[0], 0);
        mem_free(with);
        with = run(&(setup){.model = tiny, .heads = heads_path, .exact = exact, .no_exits = true, .step = 1}, &n, NULL);
        assert_memory_equal(plain, with, n * sizeof *plain);
        mem_free(with);
        mem_free(plain);
    }
}

static void threads_batches_and_sequences_do_not_matter(void **unused) {
    (void)unused;
    const float thresholds[] = {0, 0.3f, 0.5f, 0.8f};
    bool some = false;
    make(QUANT_Q8_0, one_exit);
    for (size_t i = 0; i < 2 * COUNT_OF(thresholds); i++) {
        const setup one = {.model = tiny, .heads = heads_path, .exact = i % 2, .threshold = thresholds[i / 2], .unwanted = 5, .step = 1};
        const setup others[] = {{.threads = 3, .step = 1}, {.threads = 1}, {.threads = 3}, {.threads = 2, .step = 4}, {.threads = 2, .step = 1, .n_seq = 3},
                                {.threads = 3, .n_seq = 2}};
        size_t n;
        uint64_t left, other_left;
        float *x = run(&one, &n, &left);
        assert_true(thresholds[i / 2] > 0 || left == LEN - 5);
        some = some || (left > 0 && left < LEN - 5);
        for (size_t k = 0; k < COUNT_OF(others); k++) {
            setup u = one;
            u.threads = others[k].threads;
            u.step = others[k].step;
            u.n_seq = others[k].n_seq;
            float *y = run(&u, &n, &other_left);
            for (size_t t = 0; t < n; t++)
                if (memcmp(&x[t], &y[t], sizeof *x) != 0 && t >= 5 * (n / LEN)) fail_msg("threshold %g, way %zu: token %zu differs", (double)one.threshold, k, t / (n / LEN));
            if (u.n_seq < 2) assert_int_equal(left, other_left);
            mem_free(y);
        }
        mem_free(x);
    }
    assert_true(some); /* there was a threshold that some passed and some did not */
}

/* ---- caches ---- */

static const heads_plan two_exits = {.layer = {1, 3}, .offset = {0, 0}, .n = 2, .size = 0.3f, .bias = true, .gate = true, .seed = 4};

/* n tokens to each of the first n_seq sequences, logits of all or of none. */
static void step(opened *o, size_t n_seq, size_t n, const size_t *pos, const int32_t *ids, float *logits) {
    model_seg segs[4];
    int32_t want[16];
    const size_t all = n_seq * n;
    for (size_t q = 0; q < n_seq; q++) segs[q] = (model_seg){q, pos[q], n};
    for (size_t i = 0; i < all; i++) want[i] = (int32_t)i;
    OK(model_forward(o->s, &(model_batch){.ids = ids, .n = all, .segs = segs, .n_segs = n_seq, .want = want, .n_want = logits ? all : 0, .logits = logits}, &e_));
}

/* One more token, whose hidden row hangs on all that is cached. */
static void same_caches(opened *a, opened *b, size_t seq, size_t *pos) {
    float x[512], y[512];
    const int32_t id = 77, want = 0;
    const model_seg seg = {seq, *pos, 1};
    model_batch batch = {.ids = &id, .n = 1, .segs = &seg, .n_segs = 1, .want = &want, .n_want = 1, .hidden = x};
    const size_t n = model_get_info(a->m)->n_embd_out;
    assert_true(n <= COUNT_OF(x));
    for (size_t i = 0; i < *pos % 3; i++) model_settle(a->s, seq); /* not at all, once, again */
    OK(model_forward(a->s, &batch, &e_));
    batch.hidden = y;
    OK(model_forward(b->s, &batch, &e_));
    if (memcmp(x, y, n * sizeof *x) != 0) fail_msg("sequence %zu: what is cached of %zu tokens differs", seq, *pos);
    ++*pos;
}

/* Tokens leave, more of them than may wait, and go on; sequences are cut, copied and cleared. */
static void caches_are_those_without_exits(void **unused) {
    (void)unused;
    const float thresholds[] = {0, 0.3f, 0.5f, 0.8f};
    uint64_t left[2] = {0};
    make(QUANT_Q8_0, two_exits);
    for (size_t k = 0; k < COUNT_OF(thresholds); k++) {
        setup u = {.model = tiny, .heads = heads_path, .threads = 1 + (int)k % 3, .n_seq = 3, .threshold = thresholds[k]};
        opened with = open_state(&u);
        u.heads = NULL;
        u.threads = 1;
        opened plain = open_state(&u);
        float *logits = MEM_NEW_N(float, 12 * with.vocab);
        size_t pos[3] = {0};
        rng r;
        rng_seed(&r, 5, k);
        for (size_t i = 0; i < 40; i++) {
            int32_t ids[12];
            const size_t n = 1 + rng_below(&r, 3), of_each = i % 3 ? 1 : 1 + rng_below(&r, 4);
            for (size_t q = 0; q < 12; q++) ids[q] = token(3 * i + q);
            if (pos[0] + of_each >= CTX - 2) break;
            step(&with, n, of_each, pos, ids, i % 11 == 10 ? NULL : logits); /* now and then tokens of a prompt */
            step(&plain, n, of_each, pos, ids, logits);
            for (size_t q = 0; q < n; q++) pos[q] += of_each;
            if (i % 7 == 6) {
                pos[0] -= MIN(pos[0], (size_t)1 + rng_below(&r, 4));
                assert_true(state_seq_truncate(with.s, 0, pos[0]) && state_seq_truncate(plain.s, 0, pos[0]));
            }
            if (i == 20) {
                state_seq_copy(with.s, 2, 0);
                state_seq_copy(plain.s, 2, 0);
                pos[2] = pos[0];
            }
            if (i == 30) {
                state_seq_clear(with.s, 1);
                state_seq_clear(plain.s, 1);
                pos[1] = 0;
            }
            if (i % 13 == 12) same_caches(&with, &plain, 0, &pos[0]);
        }
        for (size_t q = 0; q < 3; q++) same_caches(&with, &plain, q, &pos[q]);
        const model_exit_stats st = state_exit_stats(with.s);
        for (size_t e = 0; e < 2; e++) left[e] += st.exits[e];
        mem_free(logits);
        close_state(&with);
        close_state(&plain);
    }
    assert_true(left[0] > 0 && left[1] > 0);
    if (report_wanted(0, NULL)) report_row("run time", "early exit: keys and values of tokens that left", "bits equal", "those of all layers", "ok", "-", "Q8_0 weights");
}

/* ---- a naive pass ----
 * The tiny model in plain loops, float32, one token after the other. */

typedef struct naive {
    model_file *f;
    heads *h;
    size_t d, n_layer, n_head, n_kv, dim, n_ff, vocab;
    float eps, freq_base;
    float *k[4], *v[4]; /* [CTX, n_kv · dim] */
} naive;

enum { GLOBAL = 1000 }; /* in place of a layer */

static float *tensor(const naive *a, const char *of, size_t il) {
    char name[100];
    if (il == GLOBAL) (void)snprintf(name, sizeof name, "%s.weight", of);
    else (void)snprintf(name, sizeof name, "blk.%zu.%s.weight", il, of);
    const tensor_info *t = model_file_find_tensor(a->f, name);
    if (!t) fail_msg("no tensor %s", name);
    float *x = MEM_NEW_N(float, (size_t)(t->ne[0] * t->ne[1]));
    assert_non_null(x);
    heads_floats(t, x);
    return x;
}

static void multiply(float *y, const float *w, const float *x, size_t rows, size_t cols) {
    for (size_t r = 0; r < rows; r++) {
        double sum = 0;
        for (size_t c = 0; c < cols; c++) sum += (double)w[r * cols + c] * (double)x[c];
        y[r] = (float)sum;
    }
}

static void norm_by(float *y, const float *w, const float *x, size_t n, float eps) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += (double)x[i] * (double)x[i];
    for (size_t i = 0; i < n; i++) y[i] = (float)((double)x[i] / sqrt(sum / (double)n + (double)eps) * (double)w[i]);
}

static void rotate(const naive *a, float *v, size_t pos) {
    for (size_t i = 0; i < a->dim / 2; i++) {
        double t = (double)pos * pow((double)a->freq_base, -2.0 * (double)i / (double)a->dim), c = cos(t), s = sin(t);
        double x = (double)v[2 * i], y = (double)v[2 * i + 1];
        v[2 * i] = (float)(x * c - y * s);
        v[2 * i + 1] = (float)(x * s + y * c);
    }
}

/* y[rows] = tensor · x */
static void product(const naive *a, float *y, const char *of, size_t il, const float *x, size_t rows, size_t cols) {
    float *w = tensor(a, of, il);
    multiply(y, w, x, rows, cols);
    mem_free(w);
}

static void normed(const naive *a, float *y, const char *of, size_t il, const float *x) {
    float *w = tensor(a, of, il);
    norm_by(y, w, x, a->d, a->eps);
    mem_free(w);
}

static void keys_and_values(naive *a, size_t il, size_t pos, const float *x) {
    float h[512], *k = a->k[il] + pos * a->n_kv * a->dim;
    normed(a, h, "attn_norm", il, x);
    product(a, k, "attn_k", il, h, a->n_kv * a->dim, a->d);
    product(a, a->v[il] + pos * a->n_kv * a->dim, "attn_v", il, h, a->n_kv * a->dim, a->d);
    for (size_t g = 0; g < a->n_kv; g++) rotate(a, k + g * a->dim, pos);
}

static void attend(naive *a, size_t il, size_t pos, float *x) {
    float h[512], q[512], out[512] = {0}, y[512];
    normed(a, h, "attn_norm", il, x);
    product(a, q, "attn_q", il, h, a->n_head * a->dim, a->d);
    for (size_t head = 0; head < a->n_head; head++) {
        const size_t g = head / (a->n_head / a->n_kv);
        double p[CTX], most = -HUGE_VAL, sum = 0;
        rotate(a, q + head * a->dim, pos);
        for (size_t t = 0; t <= pos; t++) {
            p[t] = 0;
            for (size_t i = 0; i < a->dim; i++) p[t] += (double)q[head * a->dim + i] * (double)a->k[il][(t * a->n_kv + g) * a->dim + i];
            p[t] /= sqrt((double)a->dim);
            most = fmax(most, p[t]);
        }
        for (size_t t = 0; t <= pos; t++) sum += p[t] = exp(p[t] - most);
        for (size_t t = 0; t <= pos; t++)
            for (size_t i = 0; i < a->dim; i++) out[head * a->dim + i] += (float)(p[t] / sum * (double)a->v[il][(t * a->n_kv + g) * a->dim + i]);
    }
    product(a, y, "attn_output", il, out, a->d, a->n_head * a->dim);
    for (size_t i = 0; i < a->d; i++) x[i] += y[i];
}

static float silu(float x) { return x / (1 + expf(-x)); }

static void feed_forward(naive *a, size_t il, float *x) {
    float h[512], gate[1024], up[1024], y[512];
    normed(a, h, "ffn_norm", il, x);
    product(a, gate, "ffn_gate", il, h, a->n_ff, a->d);
    product(a, up, "ffn_up", il, h, a->n_ff, a->d);
    for (size_t i = 0; i < a->n_ff; i++) gate[i] = silu(gate[i]) * up[i];
    product(a, y, "ffn_down", il, gate, a->d, a->n_ff);
    for (size_t i = 0; i < a->d; i++) x[i] += y[i];
}

static double surest(const float *y, size_t n) {
    bool used[TINY_VOCAB] = {0};
    double sum = 0, most = 0;
    for (int k = 0; k < 16; k++) {
        size_t best = SIZE_MAX;
        for (size_t i = 0; i < n; i++)
            if (!used[i] && (best == SIZE_MAX || y[i] > y[best])) best = i;
        used[best] = true;
        if (k == 0) most = (double)y[best];
        sum += exp((double)y[best] - most);
    }
    return 1 / sum;
}

/* The logits of an exit, and how sure it is. */
static double head_logits(naive *a, size_t e, const float *x, float *logits) {
    float h[512], u[512];
    static float w[512 * 512], b[512];
    heads_floats(a->h->one[e].norm, b);
    norm_by(h, b, x, a->d, a->eps);
    heads_floats(a->h->one[e].weight, w);
    multiply(u, w, h, a->d, a->d);
    heads_floats(a->h->one[e].bias, b);
    for (size_t i = 0; i < a->d; i++) h[i] += u[i] + b[i];
    product(a, logits, "output", GLOBAL, h, a->vocab, a->d);
    double p = fmin(surest(logits, 256), surest(logits, a->vocab));
    if (!a->h->one[e].gate) return p;
    heads_floats(a->h->one[e].gate, b);
    double odds = (double)b[a->d] + (double)b[a->d + 1] * log(p / (1 - p));
    for (size_t i = 0; i < a->d; i++) odds += (double)b[i] * (double)h[i];
    return 1 / (1 + exp(-odds));
}

/* Logits of a token, which runs through all layers; *left: by which exit it left, or -1. */
static void naive_token(naive *a, int32_t id, size_t pos, bool wanted, float threshold, float *logits, int *left) {
    float x[512], *embd = tensor(a, "token_embd", GLOBAL), h[512];
    memcpy(x, embd + (size_t)id * a->d, a->d * sizeof *x);
    mem_free(embd);
    *left = -1;
    for (size_t il = 0; il < a->n_layer; il++) {
        for (size_t e = 0; e < a->h->n && wanted && *left < 0; e++) {
            if (a->h->one[e].layer != il || a->h->one[e].offset) continue;
            double sure = head_logits(a, e, x, logits);
            if (threshold <= 0 || sure >= (double)threshold) *left = (int)e;
        }
        keys_and_values(a, il, pos, x);
        attend(a, il, pos, x);
        feed_forward(a, il, x);
    }
    if (*left >= 0) return;
    normed(a, h, "output_norm", GLOBAL, x);
    product(a, logits, "output", GLOBAL, h, a->vocab, a->d);
}

static void naive_open(naive *a) {
    uint32_t v[6];
    static const char *const keys[] = {"llama.embedding_length", "llama.block_count", "llama.attention.head_count",
                                       "llama.attention.head_count_kv", "llama.feed_forward_length"};
    *a = (naive){.vocab = TINY_VOCAB};
    OK(model_file_open(&a->f, tiny, 0, &e_));
    OK(heads_open(&a->h, heads_path, &(heads_base){0}, &e_));
    for (size_t i = 0; i < COUNT_OF(keys); i++) OK(kv_get_u32(a->f, keys[i], &v[i], 0, &e_));
    OK(kv_get_f32(a->f, "llama.attention.layer_norm_rms_epsilon", &a->eps, 0, &e_));
    OK(kv_get_f32(a->f, "llama.rope.freq_base", &a->freq_base, 10000, &e_));
    a->d = v[0], a->n_layer = v[1], a->n_head = v[2], a->n_kv = v[3], a->n_ff = v[4];
    a->dim = a->d / a->n_head;
    assert_true(a->d <= 512 && a->n_ff <= 1024 && a->n_layer <= 4);
    for (size_t il = 0; il < a->n_layer; il++) {
        a->k[il] = MEM_NEW_N(float, CTX * a->n_kv * a->dim);
        a->v[il] = MEM_NEW_N(float, CTX * a->n_kv * a->dim);
    }
}

static void naive_close(naive *a) {
    for (size_t il = 0; il < a->n_layer; il++) {
        mem_free(a->k[il]);
        mem_free(a->v[il]);
    }
    heads_close(&a->h);
    model_file_close(&a->f);
}

static void what_leaves_does_what_is_said(void **unused) {
    (void)unused;
    naive a;
    double worst = 0;
    const float thresholds[] = {0, 0.3f, 0.7f, 0.19f};
    for (size_t k = 0; k < COUNT_OF(thresholds); k++) {
        heads_plan plan = one_exit;
        plan.gate = k < 3;
        make(QUANT_F32, plan);
        size_t n, n_left = 0;
        uint64_t left;
        float *x = run(&(setup){.model = tiny, .heads = heads_path, .exact = true, .threshold = thresholds[k], .unwanted = 5, .step = 1}, &n, &left);
        static float y[TINY_VOCAB];
        naive_open(&a);
        for (size_t i = 0; i < LEN; i++) {
            int by;
            naive_token(&a, token(i), i, i >= 5, thresholds[k], y, &by);
            n_left += by >= 0;
            if (i >= 5) worst = fmax(worst, nmse(x + i * a.vocab, y, a.vocab));
            if (i >= 5 && nmse(x + i * a.vocab, y, a.vocab) > 1e-9)
                fail_msg("threshold %g: token %zu (%s) differs by %g", (double)thresholds[k], i, by < 0 ? "all layers" : "left", nmse(x + i * a.vocab, y, a.vocab));
        }
        assert_int_equal(n_left, left);
        assert_true(k == 0 || (left > 0 && left < LEN - 5));
        naive_close(&a);
        mem_free(x);
    }
    char measured[40];
    (void)snprintf(measured, sizeof measured, "NMSE %.1e", worst);
    if (report_wanted(0, NULL)) report_row("run time", "early exit by threshold", measured, "1e-9", "ok", "-", "f32, against plain loops");
}

/* ---- Medusa heads, by their formula ---- */
static float last_stream[WIDTH];

static void keep_last(void *ctx, size_t il, const float *x, size_t n) {
    if (il == LAYERS) memcpy(last_stream, x + (n - 1) * WIDTH, sizeof last_stream);
    (void)ctx;
}

/* z = h + W h + V u + b, h in z. */
static void naive_head(float *z, const heads_one *o, const model *m, int32_t id) {
    enum { D = WIDTH };
    static float w[D * D], v[D * D], u[D], b[D], sum[D];
    heads_floats(o->weight, w);
    heads_floats(o->token, v);
    heads_floats(o->bias, b);
    model_token_row(m, id, u);
    double square = 0;
    for (size_t i = 0; i < D; i++) square += (double)u[i] * (double)u[i];
    assert_true(fabs(square / D - 1) < 1e-4);
    for (size_t r = 0; r < D; r++) {
        double y = (double)z[r] + (double)b[r];
        for (size_t k = 0; k < D; k++) y += (double)w[r * D + k] * (double)z[k] + (double)v[r * D + k] * (double)u[k];
        sum[r] = (float)y;
    }
    memcpy(z, sum, sizeof sum);
}

static void normed_stream(float *z, const tensor_info *norm) {
    float w[WIDTH];
    double square = 0;
    heads_floats(norm, w);
    for (size_t i = 0; i < WIDTH; i++) square += (double)last_stream[i] * (double)last_stream[i];
    for (size_t i = 0; i < WIDTH; i++) z[i] = (float)((double)last_stream[i] * (double)w[i] / sqrt(square / WIDTH + 1e-5));
}

/* Each head is told another token than was guessed: it has to see it. */
static void medusa_heads_are_what_their_formula_says(void **unused) {
    (void)unused;
    heads *h;
    make(QUANT_F32, (heads_plan){.layer = {LAYERS, LAYERS, LAYERS}, .offset = {1, 2, 3}, .n = 3, .size = 0.3f, .bias = true, .n_likely = 60, .seed = 8});
    OK(heads_open(&h, heads_path, &(heads_base){0}, &e_));
    opened o = open_state(&(setup){.model = tiny, .heads = heads_path, .no_exits = true, .threads = 2, .exact = true});
    float *logits = MEM_NEW_N(float, o.vocab), z[WIDTH];
    state_set_stream(o.s, keep_last, NULL);
    size_t kinds = 0;
    int32_t before = -1;
    for (size_t i = 0; i < LEN; i++) {
        const int32_t id = token(i), want = 0;
        const model_seg seg = {0, i, 1};
        OK(model_forward(o.s, &(model_batch){.ids = &id, .n = 1, .segs = &seg, .n_segs = 1, .want = &want, .n_want = 1, .logits = logits}, &e_));
        normed_stream(z, h->one[0].norm);
        for (size_t k = 0; k < 3; k++) {
            model_guessed g;
            assert_true(model_guess_ahead(o.s, 0, k, token(i + 5 * k), &g));
            naive_head(z, &h->one[k], o.m, token(i + 5 * k));
            model_logits(o.s, z, 1, logits);
            float some[60];
            size_t best = 0;
            for (size_t t = 0; t < 60; t++) {
                some[t] = logits[3 * t];
                if (some[t] > some[best]) best = t;
            }
            assert_int_equal(g.id, 3 * best);
            assert_true(fabs((double)g.sure - surest(some, 60)) < 1e-4);
            kinds += g.id != before;
            before = g.id;
        }
    }
    assert_true(kinds > LEN); /* not one and the same */
    mem_free(logits);
    close_state(&o);
    heads_close(&h);
}

static void zero_heads_are_the_models_own(void **unused) {
    (void)unused;
    for (int q = 0; q < 2; q++) {
        make(q ? QUANT_Q8_0 : QUANT_F32, (heads_plan){.layer = {1, LAYERS}, .offset = {0, 1}, .n = 2});
        opened o = open_state(&(setup){.model = tiny, .heads = heads_path, .no_exits = true, .threads = 2});
        float *logits = MEM_NEW_N(float, o.vocab);
        for (size_t i = 0; i < LEN; i++) {
            const int32_t id = token(i), want = 0;
            const model_seg seg = {0, i, 1};
            model_guessed g[4];
            OK(model_forward(o.s, &(model_batch){.ids = &id, .n = 1, .segs = &seg, .n_segs = 1, .want = &want, .n_want = 1, .logits = logits}, &e_));
            assert_true(model_guess_ahead(o.s, 0, 0, id, g));
            assert_false(model_guess_ahead(o.s, 1, 0, id, g + 1) || model_guess_ahead(o.s, 0, 1, id, g + 1) || model_guess_ahead(o.s, 0, 0, -1, g + 1));
            size_t best = 0;
            for (size_t t = 1; t < 256; t++)
                if (logits[t] > logits[best]) best = t; /* guesses look at the first 256 */
            assert_int_equal(g[0].id, best);
            assert_true(fabs((double)g[0].sure - surest(logits, 256)) < 1e-5);
        }
        mem_free(logits);
        close_state(&o);
    }
}

/* One pass over the drafted tokens and one more. */
static void judge(opened *o, size_t at, const int32_t *ids, size_t n, float *logits) {
    int32_t want[8];
    for (size_t i = 0; i < n; i++) want[i] = (int32_t)i;
    const model_seg seg = {0, at, n};
    OK(model_forward(o->s, &(model_batch){.ids = ids, .n = n, .segs = &seg, .n_segs = 1, .want = want, .n_want = n, .logits = logits}, &e_));
}

static void drafts_leave_no_trace(void **unused) {
    (void)unused;
    make(QUANT_Q8_0, one_exit);
    for (int way = 0; way < 4; way++) {
        opened with = open_state(&(setup){.model = tiny, .heads = heads_path, .no_exits = true, .threads = 1 + way % 3});
        opened plain = open_state(&(setup){.model = tiny, .threads = 1});
        float *x = MEM_NEW_N(float, 8 * with.vocab), *y = MEM_NEW_N(float, 8 * with.vocab);
        mote_error e;
        model_guessed g;
        size_t at = 0;
        for (size_t round = 0; round < 6; round++) {
            int32_t ids[8];
            const size_t n = 1 + round % 4;
            for (size_t i = 0; i < 8; i++) ids[i] = token(at + i);
            for (size_t i = 0; i < n; i++) OK(model_draft(with.s, 0, 0, ids[i], &g, &e_));
            if (way == 1) ids[round % 3] = 9;                           /* a part of the drafts is of other tokens */
            if (way == 2) OK(state_seq_truncate(with.s, 0, at) ? MOTE_OK : MOTE_E_INTERNAL);
            if (way == 3 && at > 4) {                                   /* back, and on */
                at -= 3;
                assert_true(state_seq_truncate(with.s, 0, at));
                assert_true(state_seq_truncate(plain.s, 0, at));
            }
            const size_t take = round % 2 ? n : n + 1;                 /* one that was not drafted, or none */
            judge(&with, at, ids, take, x);
            judge(&plain, at, ids, take, y);
            assert_memory_equal(x, y, take * with.vocab * sizeof *x);
            at += take;
        }
        if (way == 3 && report_wanted(0, NULL)) report_row("run time", "drafts by an exit, taken over", "bits equal", "all", "ok", "-", "Q8_0 weights");
        assert_int_equal(model_draft(with.s, 0, 1, 5, &g, &e), MOTE_E_USAGE);
        assert_int_equal(model_draft(with.s, 0, 0, -1, &g, &e), MOTE_E_RANGE);
        for (size_t i = 0; i < LEN; i++) OK(model_draft(with.s, 0, 0, 5, &g, &e_));
        assert_int_equal(model_draft(with.s, 0, 0, 5, &g, &e), MOTE_E_RANGE);
        mem_free(x);
        mem_free(y);
        close_state(&with);
        close_state(&plain);
    }
}

static void what_cannot_be_is_refused(void **unused) {
    (void)unused;
    mote_error e = {0};
    make(QUANT_F32, (heads_plan){.layer = {LAYERS}, .offset = {1}, .n = 1});
    pool *p;
    model *m;
    state *s;
    OK(pool_open(&p, 1, &e_));
    OK(model_open(&m, tiny, &(model_opts){.heads = heads_path}, p, &e_));
    state_opts so = {.n_ctx = 8, .n_seq = 1, .n_batch = 4, .k_type = QUANT_F32, .v_type = QUANT_F32, .exits = true};
    assert_int_equal(state_open(&s, m, &so, p, &e), MOTE_E_USAGE);
    assert_non_null(strstr(e.message, "early exits"));
    model_close(&m);
    make(QUANT_F32, one_exit);
    OK(model_open(&m, tiny, &(model_opts){.heads = heads_path}, p, &e_));
    so.exit_threshold = -0.5f;
    assert_int_equal(state_open(&s, m, &so, p, &e), MOTE_E_RANGE);
    so.exit_threshold = NAN;
    assert_int_equal(state_open(&s, m, &so, p, &e), MOTE_E_RANGE);
    model_close(&m);
    assert_int_not_equal(model_open(&m, tiny, &(model_opts){.heads = tiny}, p, &e), MOTE_OK);
    assert_non_null(strstr(e.message, "not a heads file"));
    pool_close(&p);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(never_leaving_changes_nothing), cmocka_unit_test(threads_batches_and_sequences_do_not_matter),
        cmocka_unit_test(caches_are_those_without_exits),
        cmocka_unit_test(what_leaves_does_what_is_said), cmocka_unit_test(zero_heads_are_the_models_own), cmocka_unit_test(medusa_heads_are_what_their_formula_says),
        cmocka_unit_test(drafts_leave_no_trace),         cmocka_unit_test(what_cannot_be_is_refused),
    };
    char command[200];
    if (!mkdtemp(folder)) return 1;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    (void)snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command) != 0 || failed;
}
