/* distill_test.c: the losses of distillation against PyTorch's figures and against finite differences. */
#include "../report.h"
#include "base/base.h"
#include "kernel/kernel.h"
#include "tensor/tensor.h"
#include "train/distil_cache.h"
#include "train/op_distill.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>
/* cmocka wants these first */
#include <cmocka.h>

#include "ok.h"

#include "distill_figures.h"

enum { N = 6, COLS = 5, COLS_T = 7, VOCAB = 11, VOCAB_T = 13, INSIDE_N = 7 };
static const int32_t targets[N] = {3, -1, 0, 10, 5, 7};
static const float weights[N] = {1, 1, 0.5f, 2, 1, 0.25f};
static bool reporting;

/* The inputs of tools/golden_distill.py. */
static void wave(float *x, size_t n, double seed, double by) {
    for (size_t i = 0; i < n; i++) x[i] = (float)(by * sin(0.7 * (double)i + seed));
}

static double mark(const float *g, size_t n) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += cos((double)i) * (double)g[i];
    return sum;
}

/* A leaf over x with its gradient's own room. */
typedef struct leaf {
    var v;
    float x[256], g[256];
} leaf;

static var *leaf_make(leaf *l, size_t rows, size_t cols, double seed, double by) {
    *l = (leaf){.v = {.rows = rows, .cols = cols, .wants = true}};
    wave(l->x, rows * cols, seed, by);
    l->v.x = l->x;
    l->v.room = l->g;
    return &l->v;
}

struct bench {
    pool *p;
    const kern_table *k;
    tape *t;
};

static struct bench open_bench(int threads, uint32_t mask) {
    struct bench b = {0};
    OK(pool_open(&b.p, threads, &e_));
    b.k = tensor_kernels_open(mask);
    assert_non_null(b.k);
    OK(tape_open(&b.t, &(tape_opts){.pool = b.p, .kern = b.k}, &e_));
    return b;
}

static void close_bench(struct bench *b) {
    tape_close(&b->t);
    tensor_kernels_close(&b->k);
    pool_close(&b->p);
}

/* The loss of a figure's case over leaves that the caller may have moved. */
static var *outcome_loss(tape *t, const struct outcome_figure *f, leaf *h, leaf *w, leaf *b, distill_seen *seen, float *losses) {
    static leaf th, tw;
    static int32_t map[VOCAB_T];
    static uint32_t ids[N * 4];
    static float logp[N * 4], rest[N];
    const bool hybrid = f->kind == DISTILL_HYBRID;
    size_t vocab_t = f->mapped || hybrid || f->kind == DISTILL_SORTED ? VOCAB_T : VOCAB;
    (void)leaf_make(&th, N, COLS_T, 0.4, 1.5);
    (void)leaf_make(&tw, vocab_t, COLS_T, 0.5, 1);
    for (int i = 0; i < VOCAB_T; i++) map[i] = hybrid ? (i % 3 == 2 ? -1 : 2 * i % 9) : 3 * i % 12 < VOCAB ? 3 * i % 12 : -1;
    ad_head head = {&w->v, &b->v, 0.8f, f->softcap}, teacher = {&tw.v, NULL, 1, 0};
    ad_targets rows = {.target = targets, .weights = weights, .losses = losses};
    distill_opts o = {f->kind, f->beta, f->temperature, f->weight, f->ce, f->mapped || hybrid ? map : NULL, seen};
    if (!f->top) return ad_distill(t, &h->v, &head, &th.v, &teacher, &rows, &o);
    distill_top top = {(size_t)f->top, ids, logp, rest};
    for (size_t i = 0; i < N; i++) {
        float z[VOCAB], work[VOCAB];
        for (size_t j = 0; j < VOCAB; j++) {
            z[j] = 0;
            for (size_t c = 0; c < COLS_T; c++) z[j] += th.x[i * COLS_T + c] * tw.x[j * COLS_T + c];
        }
        distill_keep_top(tape_kern(t), z, VOCAB, f->temperature, top.k, ids + i * top.k, logp + i * top.k, rest + i, work);
    }
    return ad_distill_top(t, &h->v, &head, &top, &rows, &o);
}

static double worst(double have, double want) {
    return fabs(have - want) / fmax(1e-2, fabs(want));
}

static void outcomes_are_pytorchs(void **state) {
    (void)state;
    double most = 0;
    for (int pass = 0; pass < 2; pass++) {
        struct bench b = open_bench(pass ? 3 : 1, pass ? CPU_ALL : 0);
        for (size_t i = 0; i < COUNT_OF(outcome_figures); i++) {
            const struct outcome_figure *f = &outcome_figures[i];
            leaf h, w, bias;
            var *vh = leaf_make(&h, N, COLS, 0.1, 1.5);
            (void)leaf_make(&w, VOCAB, COLS, 0.2, 1);
            (void)leaf_make(&bias, 1, VOCAB, 0.3, 1);
            distill_seen seen;
            float losses[N];
            tape_reset(b.t);
            var *l = outcome_loss(b.t, f, &h, &w, &bias, &seen, losses);
            assert_non_null(l);
            assert_ptr_equal(vh, &h.v);
            tape_back(b.t, l, 1);
            double have[4] = {(double)l->x[0], mark(h.g, N * COLS), mark(w.g, VOCAB * COLS), mark(bias.g, VOCAB)};
            const double want[4] = {f->loss, f->marks[0], f->marks[1], f->marks[2]};
            for (int j = 0; j < 4; j++) {
                if (worst(have[j], want[j]) > 2e-5) fail_msg("%s: figure %d is %.9f, not %.9f", f->name, j, have[j], want[j]);
                most = fmax(most, worst(have[j], want[j]));
            }
            assert_int_equal(seen.rows, N - 1);
            assert_true(losses[1] == 0); /* the row that does not count */
            double sum = 0, all = 0;
            for (size_t r = 0; r < N; r++) sum += (double)(weights[r] * losses[r]), all += r == 1 ? 0 : (double)weights[r];
            assert_true(fabs(sum / all - have[0]) < 1e-5);
        }
        close_bench(&b);
    }
    char text[64];
    (void)snprintf(text, sizeof text, "%.1e from PyTorch", most);
    if (reporting) report_row("distill", "losses on logits and their gradients", text, "2e-5", "ok", "-", "fused with both heads");
}

static double value_of(struct bench *b, const struct outcome_figure *f, leaf *h, leaf *w, leaf *bias) {
    tape_reset(b->t);
    tape_pause(b->t);
    var *l = outcome_loss(b->t, f, h, w, bias, NULL, NULL);
    tape_resume(b->t);
    assert_non_null(l);
    return (double)l->x[0];
}

static void outcomes_have_the_slope_they_say(void **state) {
    (void)state;
    struct bench b = open_bench(2, CPU_ALL);
    for (size_t i = 0; i < COUNT_OF(outcome_figures); i++) {
        const struct outcome_figure *f = &outcome_figures[i];
        leaf l[3];
        (void)leaf_make(&l[0], N, COLS, 0.1, 1.5);
        (void)leaf_make(&l[1], VOCAB, COLS, 0.2, 1);
        (void)leaf_make(&l[2], 1, VOCAB, 0.3, 1);
        tape_reset(b.t);
        tape_back(b.t, outcome_loss(b.t, f, &l[0], &l[1], &l[2], NULL, NULL), 2);
        for (int j = 0; j < 3; j++) {
            for (size_t e = 0; e < l[j].v.rows * l[j].v.cols; e += 3) {
                float old = l[j].x[e], step = 2e-3f;
                l[j].x[e] = old + step;
                double up = value_of(&b, f, &l[0], &l[1], &l[2]);
                l[j].x[e] = old - step;
                double down = value_of(&b, f, &l[0], &l[1], &l[2]);
                l[j].x[e] = old;
                double slope = 2 * (up - down) / (2 * (double)step);
                if (fabs(slope - (double)l[j].g[e]) > 4e-3 + 0.02 * fabs(slope))
                    fail_msg("%s: element %zu of leaf %d: %.6f, by differences %.6f", f->name, e, j, (double)l[j].g[e], slope);
            }
        }
    }
    close_bench(&b);
}

static var *inside_loss(tape *t, enum inside_kind kind, leaf *x) {
    static leaf y;
    static const float w[INSIDE_N] = {1, 0, 2, 1, 0.5f, 1, 1};
    static const uint32_t start[] = {0, 4, 7};
    static const int32_t pos[] = {0, 1, 2, 3, 0, 1, 2};
    ad_seqs s = {INSIDE_N, 2, start, pos};
    (void)leaf_make(&y, INSIDE_N, kind == INSIDE_RELATION || kind == INSIDE_CAUSAL ? 12 : 8, 0.9, 0.8);
    if (kind == INSIDE_MSE) return ad_match_mse(t, &x->v, &y.v, w);
    if (kind == INSIDE_COSINE) return ad_match_cosine(t, &x->v, &y.v, w);
    return ad_match_relation(t, &x->v, &y.v, 2, kind == INSIDE_CAUSAL, &s);
}

static void insides_are_pytorchs_and_have_their_slope(void **state) {
    (void)state;
    double most = 0;
    struct bench b = open_bench(2, CPU_ALL);
    for (size_t i = 0; i < COUNT_OF(inside_figures); i++) {
        const struct inside_figure *f = &inside_figures[i];
        leaf x;
        (void)leaf_make(&x, INSIDE_N, 8, 0.6, 1.2);
        tape_reset(b.t);
        var *l = inside_loss(b.t, f->kind, &x);
        assert_non_null(l);
        double value = (double)l->x[0];
        tape_back(b.t, l, 1);
        double m = mark(x.g, INSIDE_N * 8);
        most = fmax(most, fmax(worst(value, f->loss), worst(m, f->mark)));
        if (most > 2e-5) fail_msg("%s: %.9f and %.9f, not %.9f and %.9f", f->name, value, m, f->loss, f->mark);
        for (size_t e = 0; e < INSIDE_N * 8; e++) {
            float old = x.x[e], step = 2e-3f;
            double side[2];
            for (int j = 0; j < 2; j++) {
                x.x[e] = j ? old - step : old + step;
                tape_reset(b.t);
                tape_pause(b.t);
                side[j] = (double)inside_loss(b.t, f->kind, &x)->x[0];
                tape_resume(b.t);
            }
            x.x[e] = old;
            double slope = (side[0] - side[1]) / (2 * (double)step);
            if (fabs(slope - (double)x.g[e]) > 3e-4 + 0.02 * fabs(slope))
                fail_msg("%s: element %zu: %.6f, by differences %.6f", f->name, e, (double)x.g[e], slope);
        }
    }
    close_bench(&b);
    char text[64];
    (void)snprintf(text, sizeof text, "%.1e from PyTorch", most);
    if (reporting) report_row("distill", "hidden states and relations", text, "2e-5", "ok", "-", "in rows and parts");
}

/* More rows than a chunk holds, a vocabulary as large as real ones: the chunks add up to what one row at a time gives. */
static void chunks_and_threads_do_not_matter(void **state) {
    (void)state;
    enum { ROWS = 300, C = 4, V = 1000 };
    float *x = mem_calloc((size_t)ROWS * C + (size_t)V * C, sizeof *x), *g[2];
    wave(x, (size_t)ROWS * C, 0.1, 2);
    wave(x + (size_t)ROWS * C, (size_t)V * C, 0.2, 1);
    float loss[2];
    for (int pass = 0; pass < 2; pass++) {
        struct bench b = open_bench(pass ? 3 : 1, CPU_ALL);
        g[pass] = mem_calloc((size_t)ROWS * C + (size_t)V * C, sizeof *x);
        var h = {.rows = ROWS, .cols = C, .x = x, .room = g[pass], .wants = true};
        var w = {.rows = V, .cols = C, .x = x + (size_t)ROWS * C, .room = g[pass] + (size_t)ROWS * C, .wants = true};
        var teacher = {.rows = ROWS, .cols = C, .x = x + 4};
        teacher.rows = ROWS - 1;
        h.rows = ROWS - 1;
        ad_head head = {&w, NULL, 1, 0};
        var *l = ad_distill(b.t, &h, &head, &teacher, &head, &(ad_targets){0}, &(distill_opts){.kind = DISTILL_FORWARD, .weight = 1});
        assert_non_null(l);
        loss[pass] = l->x[0];
        tape_back(b.t, l, 1);
        close_bench(&b);
    }
    assert_true(loss[0] > 0);
    assert_memory_equal(&loss[0], &loss[1], sizeof loss[0]);
    assert_memory_equal(g[0], g[1], ((size_t)ROWS * C + (size_t)V * C) * sizeof *x);
    mem_free(g[0]);
    mem_free(g[1]);
    mem_free(x);
}

/* ---- the file of likeliest tokens ---- */
enum { CACHE_K = 3, CACHE_VOCAB = 70000, CACHE_SEQS = 4 };

static void write_cache(const char *path, size_t n_vocab) {
    distil_cache_writer *w;
    distil_cache_info i = {.n_vocab = n_vocab, .k = CACHE_K, .temperature = 2};
    memset(i.teacher, 'a', 64);
    memset(i.data, 'b', 64);
    OK(distil_cache_create(&w, path, &i, &e_));
    for (int32_t s = 0; s < CACHE_SEQS; s++) {
        int32_t tokens[] = {s, (int32_t)n_vocab - 1, 7, 9};
        bool counts[] = {true, s % 2 != 0, true, false};
        size_t m = s % 2 ? 3 : 2;
        uint32_t ids[3 * CACHE_K];
        float logp[3 * CACHE_K], rest[3];
        for (size_t r = 0; r < m; r++) {
            for (size_t j = 0; j < CACHE_K; j++) {
                ids[r * CACHE_K + j] = (uint32_t)(n_vocab - 1 - r - j);
                logp[r * CACHE_K + j] = logf(0.5f / (float)(1 << j)); /* 1/2, 1/4, 1/8 */
            }
            rest[r] = 0.125f;
        }
        OK(distil_cache_add(w, tokens, counts, 4, ids, logp, rest, &e_));
    }
    distil_cache_info done;
    OK(distil_cache_commit(w, &done, &e_));
    assert_int_equal(done.n_records, 2 * (2 + 3));
    distil_cache_discard(&w);
}

static void a_cache_comes_back_and_cut_ones_do_not(void **state) {
    (void)state;
    char path[] = "/tmp/mote_distil_XXXXXX";
    close(mkstemp(path));
    for (int wide = 0; wide < 2; wide++) {
        write_cache(path, wide ? CACHE_VOCAB : 100);
        distil_cache *c;
        OK(distil_cache_open(&c, path, &e_));
        const distil_cache_info *i = distil_cache_about(c);
        assert_int_equal(i->n_seqs, CACHE_SEQS);
        assert_int_equal(i->n_tokens, 4 * CACHE_SEQS);
        assert_true(i->temperature == 2 && strlen(i->teacher) == 64 && i->data[63] == 'b');
        int32_t tokens[4];
        bool counts[4];
        uint32_t ids[9];
        float logp[9], rest[3];
        OK(distil_cache_read(c, 1, tokens, counts, ids, logp, rest, &e_));
        assert_int_equal(tokens[1], i->n_vocab - 1);
        assert_true(counts[0] && counts[1] && counts[2] && !counts[3]);
        assert_int_equal(ids[4], i->n_vocab - 1 - 1 - 1);
        double sum = (double)rest[2];
        for (int j = 0; j < 3; j++) sum += exp((double)logp[6 + j]);
        assert_true(fabs(sum - 1) < 1e-6 && fabs(exp((double)logp[8]) - 0.125) < 1e-4);
        distil_cache_close(&c);
        file_map m;
        OK(file_open(&m, path, FILE_READ, &e_));
        for (size_t n = 0; n < m.n; n++) assert_int_equal(distil_cache_parse(&c, m.p, n, NULL), MOTE_E_FORMAT);
        unsigned char *bad = malloc(m.n);
        memcpy(bad, m.p, m.n);
        bad[152 + 8] = 0xFF; /* a token far beyond the vocabulary */
        bad[152 + 10] = 0x7F;
        OK(distil_cache_parse(&c, bad, m.n, &e_));
        mote_error e = {0};
        assert_int_equal(distil_cache_read(c, 0, tokens, counts, ids, logp, rest, &e), MOTE_E_FORMAT);
        assert_non_null(strstr(e.message, "vocabulary"));
        distil_cache_close(&c);
        free(bad);
        file_close(&m);
    }
    (void)unlink(path);
}

int main(int argc, char **argv) {
    reporting = report_wanted(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(outcomes_are_pytorchs),
        cmocka_unit_test(outcomes_have_the_slope_they_say),
        cmocka_unit_test(insides_are_pytorchs_and_have_their_slope),
        cmocka_unit_test(a_cache_comes_back_and_cut_ones_do_not),
        cmocka_unit_test(chunks_and_threads_do_not_matter),
    };
    return cmocka_run_group_tests_name("distill", tests, NULL, NULL);
}
