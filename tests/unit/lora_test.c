/* lora_test.c: adapters in training: gradients against differences, quantized weights, and the engine's view of the result. */
#include "tiny_model.h"
#include "train/lora.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
/* cmocka wants these first */
#include <cmocka.h>

#include "folder.h"
#include "ok.h"

enum { N = 24 };

typedef struct bench {
    pool *p;
    model *m;
    net *n;
    lora *l;
    tape *t;
    int32_t ids[N], pos[N], target[N];
    uint32_t start[3];
    ad_seqs s;
} bench;

static void open_bench(bench *b, quant_type type, const net_opts *no, const lora_opts *lo) {
    tiny_opts o = {.type = type, .seed = 3};
    *b = (bench){0};
    OK(tiny_model_write(in_folder("tiny.gguf"), &o, &e_));
    OK(pool_open(&b->p, 2, &e_));
    OK(model_open(&b->m, in_folder("tiny.gguf"), NULL, b->p, &e_));
    OK(net_open(&b->n, b->m, b->p, no, &e_));
    OK(tape_open(&b->t, &(tape_opts){.pool = b->p, .kern = b->m->kern}, &e_));
    if (lo) OK(lora_open(&b->l, b->n, lo, &e_));
    for (int i = 0; i < N; i++) {
        b->ids[i] = 20 + i * 7 % 200;
        b->pos[i] = i % (N / 2);
        b->target[i] = i % (N / 2) + 1 < N / 2 ? 20 + (i + 1) * 7 % 200 : -1;
    }
    b->start[1] = N / 2;
    b->start[2] = N;
    b->s = (ad_seqs){.n = N, .n_seq = 2, .start = b->start, .pos = b->pos};
}

static void close_bench(bench *b) {
    lora_close(&b->l);
    tape_close(&b->t);
    net_close(&b->n);
    model_close(&b->m);
    pool_close(&b->p);
}

static double loss_of(bench *b, bool back) {
    ad_head head = net_head(b->n);
    tape_reset(b->t);
    var *h = net_hidden(b->n, b->t, b->ids, &b->s, NULL);
    float losses[N];
    var *l = ad_cross_entropy(b->t, h, &head, &(ad_targets){.target = b->target, .losses = losses, .fused = back ? 1 : 0});
    if (!l) fail_msg("no loss");
    if (back) tape_back(b->t, l, 1);
    OK(tape_status(b->t, &e_));
    double sum = 0;
    for (int i = 0; i < N; i++) sum += (double)losses[i];
    return sum / (N - 2);
}

static void shake(train_param *p, size_t n, float by) {
    rng r;
    rng_seed(&r, 11, 0);
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < p[i].v->rows * p[i].v->cols; k++) p[i].v->x[k] += by * (float)(rng_double(&r) - 0.5);
}

/* Along its gradient the loss must change as the gradient says. moved: DoRA's norms, constant in the gradient, may not follow. */
static void check_gradients(bench *b, train_param *p, size_t n) {
    for (size_t i = 0; i < n; i++) p[i].v->g = NULL;
    (void)loss_of(b, true);
    for (size_t i = 0; i < n; i++) {
        var *v = p[i].v;
        size_t count = v->rows * v->cols;
        double length = 0;
        assert_non_null(v->g);
        float *x = MEM_NEW_N(float, count), *g = MEM_NEW_N(float, count);
        assert_true(x && g);
        memcpy(x, v->x, count * sizeof *x);
        memcpy(g, v->g, count * sizeof *g);
        for (size_t k = 0; k < count; k++) length += (double)g[k] * (double)g[k];
        length = sqrt(length);
        double step = 3e-3 / fmax(length, 1e-3);
        if (length < 1e-5) fail_msg("%.*s has no gradient", STR_ARG(p[i].name));
        double side[2];
        for (int d = 0; d < 2; d++) {
            for (size_t k = 0; k < count; k++) v->x[k] = x[k] + (float)((d ? -step : step) * (double)g[k] / length);
            side[d] = loss_of(b, false);
        }
        double slope = (side[0] - side[1]) / (2 * step);
        if (fabs(slope - length) > 2e-2 * length) fail_msg("%.*s: slope %g, gradient %g", STR_ARG(p[i].name), slope, length);
        memcpy(v->x, x, count * sizeof *x);
        mem_free(x);
        mem_free(g);
    }
}

static void gradients_are_right(void **unused) {
    (void)unused;
    static const lora_opts kinds[] = {{.rank = 3, .alpha = 6}, {.rank = 4, .alpha = 3, .rslora = true, .targets = "q_proj,ffn_down"},
                                      {.rank = 2, .dora = true}};
    for (size_t i = 0; i < COUNT_OF(kinds); i++)
        for (int packed = 0; packed < 2; packed++) {
            bench b;
            train_param p[64];
            float *room[64];
            open_bench(&b, packed ? QUANT_Q8_0 : QUANT_F32, &(net_opts){.frozen = true, .packed = packed, .checkpoint = i == 1}, &kinds[i]);
            size_t n = lora_params(b.l, p, COUNT_OF(p));
            assert_true(n > 0 && n <= COUNT_OF(p));
            for (size_t k = 0; k < n; k++) p[k].v->room = room[k] = MEM_NEW_N(float, p[k].v->rows * p[k].v->cols);
            double before = loss_of(&b, false);
            lora_set_off(b.l, true);
            assert_true(fabs(loss_of(&b, false) - before) < 1e-6); /* a new adapter changes nothing */
            lora_set_off(b.l, false);
            shake(p, n, 0.1f);
            lora_changed(b.l);
            assert_true(fabs(loss_of(&b, false) - before) > 1e-6);
            check_gradients(&b, p, n);
            for (size_t k = 0; k < n; k++) mem_free(room[k]);
            close_bench(&b);
        }
}

static void packed_weights_are_the_same(void **unused) {
    (void)unused;
    double loss[2];
    for (int packed = 0; packed < 2; packed++) {
        bench b;
        open_bench(&b, QUANT_Q4_0, &(net_opts){.frozen = true, .packed = packed}, &(lora_opts){.rank = 2});
        param *w = net_find(b.n, "blk.0.attn_q.weight");
        assert_true((w->v.x == NULL) == (packed == 1));
        loss[packed] = loss_of(&b, false);
        close_bench(&b);
    }
    assert_true(loss[0] == loss[1]);
}

/* What was trained runs in the engine with the same logits: the adapter's file, read back. */
static void the_engine_agrees(void **unused) {
    (void)unused;
    for (int dora = 0; dora < 2; dora++) {
        bench b;
        train_param p[64];
        open_bench(&b, QUANT_F32, &(net_opts){.frozen = true}, &(lora_opts){.rank = 5, .dora = dora});
        shake(p, lora_params(b.l, p, COUNT_OF(p)), 0.2f);
        lora_changed(b.l);
        double loss = loss_of(&b, false), sum = 0;
        OK(adapter_write_gguf(lora_adapter(b.l), in_folder("lora.gguf"), &e_));
        pool *pl = b.p;
        model *m;
        state *s;
        model_adapter ad = {in_folder("lora.gguf"), 1};
        OK(model_open(&m, in_folder("tiny.gguf"), &(model_opts){.adapters = &ad, .n_adapters = 1}, pl, &e_));
        OK(state_open(&s, m, &(state_opts){.n_ctx = 32, .n_seq = 2, .n_batch = N, .k_type = QUANT_F32, .v_type = QUANT_F32, .exact = true}, pl, &e_));
        size_t vocab = model_get_info(m)->n_vocab;
        float *logits = MEM_NEW_N(float, N * vocab);
        int32_t want[N];
        assert_non_null(logits);
        for (int i = 0; i < N; i++) want[i] = i;
        model_seg segs[2] = {{.seq = 0, .n = N / 2}, {.seq = 1, .n = N / 2}};
        OK(model_forward(s, &(model_batch){.ids = b.ids, .n = N, .segs = segs, .n_segs = 2, .want = want, .n_want = N, .logits = logits}, &e_));
        for (int i = 0; i < N; i++) {
            if (b.target[i] < 0) continue;
            double z = 0;
            for (size_t k = 0; k < vocab; k++) z += exp((double)logits[(size_t)i * vocab + k]);
            sum += log(z) - (double)logits[(size_t)i * vocab + (size_t)b.target[i]];
        }
        if (fabs(sum / (N - 2) - loss) > 1e-5) fail_msg("trained %g, engine %g", loss, sum / (N - 2));
        mem_free(logits);
        state_close(&s);
        model_close(&m);
        close_bench(&b);
    }
}

static void wrong_targets_are_refused(void **unused) {
    (void)unused;
    bench b;
    mote_error e = {0};
    open_bench(&b, QUANT_F32, &(net_opts){.frozen = true}, NULL);
    assert_int_equal(lora_open(&b.l, b.n, &(lora_opts){.targets = "q_proj,nobody"}, &e), MOTE_E_NOT_FOUND);
    assert_non_null(strstr(e.message, "'nobody'"));
    assert_null(b.l);
    assert_int_equal(lora_open(&b.l, b.n, &(lora_opts){.rank = (size_t)1 << 31}, &e), MOTE_E_RANGE);
    close_bench(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gradients_are_right), cmocka_unit_test(packed_weights_are_the_same),
        cmocka_unit_test(the_engine_agrees),   cmocka_unit_test(wrong_targets_are_refused),
    };
    char command[200];
    if (!mkdtemp(folder)) return 1;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    (void)snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command) != 0 || failed;
}
