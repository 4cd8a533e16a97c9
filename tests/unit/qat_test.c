/* qat_test.c: what a model is trained with is what its file holds, bit for bit, in every format; the slopes of scales; what a cache and
 * int8 activations do to a pass. */
#include "../report.h"
#include "../tiny_model.h"
#include "base/base.h"
#include "format/edit.h"
#include "kernel/kernel.h"
#include "quant/grid.h"
#include "train/op_fake.h"
#include "train/qat.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>
/* cmocka wants these first */
#include <cmocka.h>

#include "folder.h"

#include "ok.h"

enum { N = 24 };
static bool reporting;

static const char *path_of(char out[256], const char *name) {
    (void)snprintf(out, 256, "%s/%s", folder, name);
    return out;
}

struct bench {
    pool *p;
    model *m;
    net *n;
    tape *t;
    int type; /* of matrices */
};

static void open_bench(struct bench *b, const char *path) {
    OK(pool_open(&b->p, 2, &e_));
    OK(model_open(&b->m, path, NULL, b->p, &e_));
    OK(net_open(&b->n, b->m, b->p, &(net_opts){0}, &e_));
    OK(tape_open(&b->t, &(tape_opts){.pool = b->p, .kern = b->m->kern}, &e_));
}

static void close_bench(struct bench *b) {
    tape_close(&b->t);
    net_close(&b->n);
    model_close(&b->m);
    pool_close(&b->p);
}

static int matrices(void *ctx, size_t i) {
    const struct bench *b = ctx;
    return model_file_tensor(b->m->file, i)->n_dims > 1 ? b->type : -1;
}

/* Cross-entropy of some fixed tokens; back: with gradients. */
static double loss_of(struct bench *b, const qat *q, bool back) {
    static const uint32_t start[] = {0, 14, N};
    int32_t ids[N], pos[N], target[N];
    for (int i = 0; i < N; i++) {
        ids[i] = 10 + i * 37 % 290;
        pos[i] = i < 14 ? i : i - 14;
        target[i] = i == 13 || i == N - 1 ? -1 : 10 + (i + 1) * 37 % 290;
    }
    ad_seqs s = {N, 2, start, pos};
    tape_reset(b->t);
    ad_head head = net_head(b->n);
    var *h = net_hidden(b->n, b->t, ids, &s, NULL);
    if (q) h = qat_head_input(q, b->t, h);
    var *l = ad_cross_entropy(b->t, h, &head, &(ad_targets){.target = target});
    if (back) tape_back(b->t, l, 1);
    OK(tape_status(b->t, &e_));
    return (double)l->x[0];
}

static void descend(const train_param *ps, size_t n, float rate) {
    for (size_t i = 0; i < n; i++) {
        var *v = ps[i].v;
        double sum = 0;
        for (size_t j = 0; v->g && j < v->rows * v->cols; j++) sum += (double)v->g[j] * (double)v->g[j];
        float by = sum > 0 ? rate / (float)sqrt(sum) : 0; /* steps of one length, so that scales move too */
        for (size_t j = 0; v->g && j < v->rows * v->cols; j++) v->x[j] -= by * v->g[j];
    }
}

static size_t all_params(net *n, train_param *dst) {
    size_t count = 0;
    for (size_t i = 0; i < net_n_params(n); i++) dst[count++] = (train_param){.name = STR(""), .v = &net_param(n, i)->v};
    return count;
}

static void train(struct bench *b, qat *q, int steps) {
    train_param all[64], ps[128];
    size_t n = qat_params(q, all, all_params(b->n, all), ps, COUNT_OF(ps));
    static float *rooms[128];
    for (size_t i = 0; i < n; i++) {
        rooms[i] = NULL;
        if (!ps[i].v->room) ps[i].v->room = rooms[i] = mem_calloc(ps[i].v->rows * ps[i].v->cols, sizeof(float));
    }
    for (int s = 0; s < steps; s++) {
        for (size_t i = 0; i < n; i++) ps[i].v->g = NULL;
        qat_begin(q);
        (void)loss_of(b, q, true);
        qat_end(q);
        qat_grads(q);
        descend(ps, n, 0.05f);
        qat_changed(q);
    }
}

static void write_out(struct bench *b, qat *q, const char *path) {
    model_edit *e;
    OK(edit_open(&e, b->m->file, &e_));
    for (size_t i = 0; i < qat_n(q); i++) {
        qat_tensor t = qat_get(q, i);
        OK(edit_put_bytes(e, t.p->info->name, t.type, t.p->info->n_dims, t.p->info->ne, t.bytes, &e_));
    }
    for (size_t i = 0; i < net_n_params(b->n); i++) {
        param *p = net_param(b->n, i);
        if (p->info->n_dims == 1) OK(edit_put(e, p->info->name, QUANT_F32, 1, p->info->ne, p->v.x, NULL, &e_));
    }
    OK(edit_write(e, path, &e_));
    edit_close(&e);
}

/* Every weight of the file is the weight of the last pass, and so is the loss. */
static void same_as_file(struct bench *b, qat *q, const char *path, double loss) {
    struct bench again = {0};
    open_bench(&again, path);
    for (size_t i = 0; i < qat_n(q); i++) {
        qat_tensor t = qat_get(q, i);
        char name[128];
        (void)snprintf(name, sizeof name, "%.*s", STR_ARG(t.p->info->name));
        const param *p = net_find(again.n, name);
        assert_int_equal(p->info->type, t.type);
        assert_int_equal(p->info->size, t.size);
        for (size_t j = 0; j < p->v.rows * p->v.cols; j++)
            if (!(p->v.x[j] == t.values[j])) fail_msg("%s: weight %zu is %g in the file and was %g in training", name, j, (double)p->v.x[j], (double)t.values[j]);
    }
    (void)b;
    double in_file = loss_of(&again, NULL, false);
    if (memcmp(&in_file, &loss, sizeof loss) != 0) fail_msg("the file's loss is %.9f, the last pass's %.9f", in_file, loss);
    close_bench(&again);
}

static void a_file_holds_what_was_trained(void **unused) {
    (void)unused;
    static const quant_type types[] = {QUANT_Q4_0, QUANT_Q4_1, QUANT_Q5_0, QUANT_Q5_1, QUANT_Q8_0, QUANT_Q2_0, QUANT_IQ4_NL, QUANT_Q2_K, QUANT_Q3_K, QUANT_Q4_K,
                                       QUANT_Q5_K, QUANT_Q6_K, QUANT_IQ4_XS, QUANT_TQ1_0, QUANT_TQ2_0, QUANT_Q1_0, QUANT_MXFP4, QUANT_NVFP4, QUANT_Q4_96,
                                       QUANT_Q3_96, QUANT_Q2_96, QUANT_TQ1_192, QUANT_F16};
    char in[2][256], out[256];
    OK(tiny_model_write(path_of(in[0], "f32.gguf"), &(tiny_opts){.times = 4, .seed = 5}, &e_));
    OK(tiny_model_write(path_of(in[1], "small.gguf"), &(tiny_opts){.times = 3, .seed = 5}, &e_));
    size_t weights = 0;
    for (size_t i = 0; i < COUNT_OF(types); i++) {
        struct bench b = {.type = types[i]};
        open_bench(&b, in[quant_get((int)types[i])->block % 96 == 0]);
        for (int kind = 0; kind < 2; kind++) {
            qat *q;
            if (kind && !quant_grid_of(types[i])) continue;
            OK(qat_open(&q, b.n, b.p, &(qat_opts){.kind = kind ? QAT_SCALES : QAT_WEIGHTS, .format = matrices, .ctx = &b}, &e_));
            qat_begin(q);
            double first = loss_of(&b, q, false);
            qat_end(q);
            train(&b, q, 2);
            qat_begin(q);
            double last = loss_of(&b, q, false);
            qat_end(q);
            if (!(last < first)) fail_msg("%s: the loss went from %.5f to %.5f", quant_get((int)types[i])->name, first, last);
            write_out(&b, q, path_of(out, "packed.gguf"));
            same_as_file(&b, q, out, last);
            for (size_t j = 0; j < qat_n(q); j++) weights += qat_get(q, j).p->v.rows * qat_get(q, j).p->v.cols;
            qat_close(&q);
        }
        close_bench(&b);
    }
    char text[96];
    (void)snprintf(text, sizeof text, "%zu of %zu weights equal", weights, weights);
    if (reporting) report_row("qat", "trained weights = the file's, 23 formats", text, "all", "ok", "-", "blocks written as trained");
}

/* Scales alone go on from a packed file with its very blocks. */
static void packed_files_go_on(void **unused) {
    (void)unused;
    char in[256], out[256], next[256];
    OK(tiny_model_write(path_of(in, "q4.gguf"), &(tiny_opts){.type = QUANT_Q4_0, .seed = 6}, &e_));
    struct bench b = {.type = QUANT_Q4_0};
    open_bench(&b, in);
    qat *q;
    OK(qat_open(&q, b.n, b.p, &(qat_opts){.kind = QAT_SCALES, .format = matrices, .ctx = &b}, &e_));
    for (size_t i = 0; i < qat_n(q); i++) {
        qat_tensor t = qat_get(q, i);
        assert_memory_equal(t.bytes, t.p->info->data, t.size);
    }
    train(&b, q, 2);
    write_out(&b, q, path_of(out, "q4b.gguf"));
    qat_close(&q);
    close_bench(&b);
    open_bench(&b, out);
    OK(qat_open(&q, b.n, b.p, &(qat_opts){.kind = QAT_SCALES, .format = matrices, .ctx = &b}, &e_));
    write_out(&b, q, path_of(next, "q4c.gguf"));
    file_map x, y;
    OK(file_open(&x, out, FILE_READ, &e_));
    OK(file_open(&y, next, FILE_READ, &e_));
    assert_int_equal(x.n, y.n);
    assert_memory_equal(x.p, y.p, x.n);
    file_close(&x);
    file_close(&y);
    qat_close(&q);
    close_bench(&b);
}

/* With levels that stay, the loss is a smooth function of the scales (but for their rounding to halves). */
/* Weights of a packed file keep their levels and get places in their cells: those of the floats that they were rounded from. */
static void packed_weights_stand_where_they_were(void **unused) {
    (void)unused;
    static const quant_type types[] = {QUANT_Q4_0, QUANT_Q4_1, QUANT_IQ4_NL, QUANT_Q8_0};
    for (size_t k = 0; k < 3 * COUNT_OF(types); k++) { /* by chance, by the floats, by floats of another model */
        char packed[256], floats[256];
        struct bench b = {.type = types[k / 3]};
        model_file *before = NULL;
        OK(tiny_model_write(path_of(packed, "p.gguf"), &(tiny_opts){.type = types[k / 3], .seed = 6}, &e_));
        OK(tiny_model_write(path_of(floats, "f.gguf"), &(tiny_opts){.seed = k % 3 == 2 ? 7 : 6}, &e_));
        OK(model_file_open(&before, floats, 0, &e_));
        open_bench(&b, packed);
        qat *q;
        OK(qat_open(&q, b.n, b.p, &(qat_opts){.format = matrices, .ctx = &b, .before = k % 3 ? before : NULL}, &e_));
        size_t n = 0, moved = 0, same = 0;
        for (size_t i = 0; i < qat_n(q); i++) {
            qat_tensor t = qat_get(q, i);
            char name[128];
            (void)snprintf(name, sizeof name, "%.*s", STR_ARG(t.p->info->name));
            const float *f = (const float *)(const void *)model_file_find_tensor(before, name)->data;
            assert_memory_equal(t.bytes, t.p->info->data, t.size);
            for (size_t j = 0; j < t.p->v.rows * t.p->v.cols; j++, n++) {
                moved += t.p->v.x[j] != t.values[j];
                same += fabsf(t.p->v.x[j] - f[j]) < 1e-6f;
            }
        }
        assert_true(n > 10000 && moved > n * 9 / 10);
        assert_true(k % 3 == 1 ? same > n * 3 / 4 : same < n / 50);
        qat_close(&q);
        close_bench(&b);
        model_file_close(&before);
    }
}

static void scales_have_the_slope_they_say(void **unused) {
    (void)unused;
    static const quant_type types[] = {QUANT_Q4_0, QUANT_Q4_1, QUANT_Q4_K};
    char in[256];
    OK(tiny_model_write(path_of(in, "f.gguf"), &(tiny_opts){.times = 4, .seed = 7}, &e_));
    for (size_t i = 0; i < COUNT_OF(types); i++) {
        struct bench b = {.type = types[i]};
        open_bench(&b, in);
        qat *q;
        OK(qat_open(&q, b.n, b.p, &(qat_opts){.kind = QAT_SCALES, .format = matrices, .ctx = &b}, &e_));
        train_param all[64], ps[128];
        size_t n = qat_params(q, all, all_params(b.n, all), ps, COUNT_OF(ps));
        qat_begin(q);
        (void)loss_of(&b, q, true);
        qat_end(q);
        qat_grads(q);
        for (size_t j = 0; j < n; j++) {
            var *v = ps[j].v;
            if (ps[j].name.n == 0 || !(strstr(ps[j].name.p, "attn_output") || strstr(ps[j].name.p, "ffn_up"))) continue;
            for (size_t row = 0; row < v->rows; row++) { /* all scales of a tensor together: halves round each way */
                double slope = 0, side[2];
                for (size_t c = 0; c < v->cols; c++) slope += (double)v->g[row * v->cols + c];
                for (int s = 0; s < 2; s++) {
                    float by = s ? -0.02f : 0.02f; /* so far that rounding to halves, 0.0005 of a scale, is little of it */
                    for (size_t c = 0; c < v->cols; c++) v->x[row * v->cols + c] += by;
                    qat_changed(q);
                    qat_begin(q);
                    side[s] = loss_of(&b, q, false);
                    qat_end(q);
                    for (size_t c = 0; c < v->cols; c++) v->x[row * v->cols + c] -= by;
                }
                double by_differences = (side[0] - side[1]) / 0.04;
                if (fabs(by_differences - slope) > 1e-2 + 0.06 * fabs(slope))
                    fail_msg("%s of %s: slope %.5f, by differences %.5f", ps[j].name.p, quant_get((int)types[i])->name, slope, by_differences);
            }
        }
        qat_close(&q);
        close_bench(&b);
    }
}

static void activations_and_caches_round_as_the_engine_does(void **unused) {
    (void)unused;
    char in[256];
    OK(tiny_model_write(path_of(in, "g.gguf"), &(tiny_opts){.type = QUANT_Q8_0, .seed = 8}, &e_));
    struct bench b = {.type = QUANT_Q8_0};
    open_bench(&b, in);
    static const quant_type types[] = {QUANT_F16, QUANT_BF16, QUANT_Q8_0, QUANT_Q4_0};
    static const double most_of[] = {1.1e-3, 8.1e-3, 9e-3, 0.26}; /* of numbers up to 2 */
    float x[3 * 64];
    for (size_t i = 0; i < COUNT_OF(x); i++) x[i] = (float)sin(1.3 * (double)i) * 2;
    for (size_t i = 0; i < COUNT_OF(types); i++) {
        var leaf = {.rows = 3, .cols = 64, .x = x};
        var *y = ad_fake_kv(b.t, &leaf, 2, types[i]);
        double worst = 0;
        for (size_t j = 0; j < COUNT_OF(x); j++) worst = fmax(worst, fabs((double)(y->x[j] - x[j])));
        if (!(worst > 0 && worst < most_of[i])) fail_msg("%s: an error of %g", quant_get((int)types[i])->name, worst);
    }
    var leaf = {.rows = 3, .cols = 64, .x = x, .wants = true};
    var *y = ad_fake_acts(b.t, &leaf);
    double most = 0;
    for (size_t i = 0; i < COUNT_OF(x); i++) most = fmax(most, fabs((double)(y->x[i] - x[i])));
    assert_true(most > 0 && most < 2.0 / 200);
    double plain = loss_of(&b, NULL, false);
    qat *q;
    OK(qat_open(&q, b.n, b.p, &(qat_opts){.kind = QAT_SCALES, .format = matrices, .ctx = &b, .acts = true, .k_type = QUANT_Q8_0, .v_type = QUANT_Q4_0}, &e_));
    qat_begin(q);
    double rounded = loss_of(&b, q, true);
    qat_end(q);
    assert_true(isfinite(rounded) && fabs(rounded - plain) > 1e-7 && fabs(rounded - plain) < 0.2);
    qat_close(&q);
    assert_true(loss_of(&b, NULL, false) == plain); /* the hooks are gone */
    close_bench(&b);
}

static void what_cannot_be_done_is_named(void **unused) {
    (void)unused;
    char in[256];
    OK(tiny_model_write(path_of(in, "h.gguf"), &(tiny_opts){.seed = 9}, &e_));
    struct bench b = {.type = QUANT_Q4_K};
    open_bench(&b, in);
    qat *q = NULL;
    mote_error e;
    assert_int_equal(qat_open(&q, b.n, b.p, &(qat_opts){.format = matrices, .ctx = &b}, &e), MOTE_E_UNSUPPORTED);
    assert_non_null(strstr(e.message, "multiple"));
    b.type = QUANT_F16;
    assert_int_equal(qat_open(&q, b.n, b.p, &(qat_opts){.kind = QAT_SCALES, .format = matrices, .ctx = &b}, &e), MOTE_E_UNSUPPORTED);
    b.type = -1;
    assert_int_equal(qat_open(&q, b.n, b.p, &(qat_opts){.format = matrices, .ctx = &b}, &e), MOTE_E_USAGE);
    assert_null(q);
    close_bench(&b);
}

int main(int argc, char **argv) {
    reporting = report_wanted(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file_holds_what_was_trained),
        cmocka_unit_test(packed_files_go_on),
        cmocka_unit_test(packed_weights_stand_where_they_were),
        cmocka_unit_test(scales_have_the_slope_they_say),
        cmocka_unit_test(activations_and_caches_round_as_the_engine_does),
        cmocka_unit_test(what_cannot_be_done_is_named),
    };
    return cmocka_run_group_tests_name("qat", tests, make_folder, remove_folder);
}
