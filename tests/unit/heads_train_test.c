/* heads_train_test.c: heads beside a frozen model: the gradients of their loss, what a run teaches them, that nothing else changes, that a
 * run that was stopped ends with the same bytes, and what is refused. */
#include "mote/train.h"
#include "mote/train_heads.h"
#include "base/base.h"
#include "grad_check.h"
#include "report.h"
#include "tiny_model.h"
#include "train/heads_run.h"
#include "train/layerskip.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
/* cmocka wants these first */
#include <cmocka.h>

#include "folder.h"
#include "same_file.h"
#include "ok.h"

static bool report;

/* ---- the loss ---- */
enum { N = 13, COLS = 10, VOCAB = 170 };
static const uint32_t starts[] = {0, 5, 6, N};
static int32_t positions[N];
static const ad_seqs seqs = {.n = N, .n_seq = 3, .start = starts, .pos = positions};
static const int32_t targets[N] = {3, 1, 4, 16, -1, 2, 0, 5, 5, 1, 9, 2, -1};
static const float weights[N] = {1, 1, 0.5f, 1, 0, 1, 2, 0, 1, 1, 1, 1, 0};
static float own_x[N * COLS], matrix[VOCAB * COLS], offsets[VOCAB];

static void fill(float *x, size_t n, uint64_t seed) {
    rng r;
    rng_seed(&r, seed, 1);
    for (size_t i = 0; i < n; i++) x[i] = 2 * (float)rng_double(&r) - 1;
}

typedef struct shape {
    float scale, softcap;
    size_t few; /* with so few tokens and rows, a part that hardly any changes */
} shape;
static var *two_heads(tape *t, var *const *x, const void *arg) {
    const shape *of = arg;
    static var w, b;
    w = (var){.rows = VOCAB, .cols = COLS, .x = matrix};
    b = (var){.rows = 1, .cols = VOCAB, .x = offsets};
    ad_head head = {.w = &w, .b = &b, .scale = of->scale, .softcap = of->softcap};
    const heads_rows two[] = {{.z = x[0], .by = 1}, {.z = x[1], .ahead = 2, .by = 0.64f, .text = 0.4f}};
    return ad_heads(t, tape_const(t, N, COLS, own_x), &head, two, 2, &seqs, &(ad_targets){.target = targets, .weights = weights, .sum_weight = 7}, of->few);
}

static void gradients_are_right(void **unused) {
    (void)unused;
    static const shape shapes[] = {{1.3f, 0, 0}, {1.3f, 3, 0}, {1.3f, 3, 5}};
    static const char *const names[] = {"heads", "heads behind a cap", "heads by part of the vocabulary"};
    fill(own_x, N * COLS, 1);
    fill(matrix, VOCAB * COLS, 2);
    fill(offsets, VOCAB, 3);
    for (size_t i = 0; i < COUNT_OF(shapes); i++) {
        const grad_case c = {.name = names[i], .fn = two_heads, .arg = &shapes[i], .n = 2, .in = {{N, COLS, 0, 0}, {N, COLS, 0, 0}}};
        double worst = grad_check(&c, 3);
        char got[40];
        (void)snprintf(got, sizeof got, "off by %.1e", worst);
        if (report) report_row("gradient", c.name, got, "1e-3", worst <= 1e-3 ? "ok" : "FAIL", "-", "finite differences");
        if (!(worst <= 1e-3)) fail_msg("%s: %s", c.name, got);
    }
}

/* ---- heads on a net ---- */
struct world {
    pool *p;
    const kern_table *kern;
    train_machine mc;
    model *m;
    net *n;
    tape *t;
};
static struct world open_world(void) {
    struct world w = {0};
    OK(pool_open(&w.p, 2, &e_));
    w.kern = tensor_kernels_open(CPU_ALL);
    w.mc = (train_machine){.pool = w.p, .kern = w.kern};
    OK(model_open(&w.m, in_folder("tiny.gguf"), &(model_opts){0}, w.p, &e_));
    OK(net_open(&w.n, w.m, w.p, &(net_opts){.frozen = true, .checkpoint = true, .packed = true}, &e_));
    OK(tape_open(&w.t, &(tape_opts){.pool = w.p, .kern = w.kern}, &e_));
    return w;
}
static void close_world(struct world *w) {
    tape_close(&w->t);
    net_close(&w->n);
    model_close(&w->m);
    tensor_kernels_close(&w->kern);
    pool_close(&w->p);
}

static const int32_t ids[N] = {1, 40, 50, 60, 70, 1, 1, 90, 91, 92, 93, 94, 95};
static data_batch batch(void) {
    for (size_t q = 0; q < 3; q++)
        for (uint32_t i = starts[q]; i < starts[q + 1]; i++) positions[i] = (int32_t)(i - starts[q]);
    return (data_batch){.seqs = seqs, .ids = ids, .target = targets, .weights = weights, .n_rows = 1, .sum_weight = 10.5};
}

/* A head begins as the model's own: at the last layer, nothing ahead, they agree. */
static void a_head_begins_as_the_models_own(void **unused) {
    (void)unused;
    struct world w = open_world();
    head_set h;
    var *loss;
    data_batch b = batch();
    OK(head_set_open(&h, w.n, NULL, 0, 1, 0, &e_));
    h.heads[0].offset = 0;
    OK(head_set_engine(&h, in_folder("tiny.gguf"), &w.mc, N, 1, &e_));
    OK(head_set_loss(&loss, &h, w.t, &b, b.sum_weight, false, &e_));
    assert_true(fabs(h.seen[0].divergence) < 1e-5);
    assert_float_equal(h.seen[0].agree, 1, 0);
    assert_float_equal(h.seen[0].weight, 10.5, 1e-6);
    head_set_close(&h);
    close_world(&w);
}

/* What learns are the heads, and all of them. */
static void only_heads_get_gradients(void **unused) {
    (void)unused;
    struct world w = open_world();
    head_set h;
    var *loss;
    data_batch b = batch();
    const size_t behind = 1;
    train_param p[10];
    OK(head_set_open(&h, w.n, &behind, 1, 2, 0, &e_));
    assert_int_equal(head_set_params(&h, p, 10), 10);
    OK(head_set_engine(&h, in_folder("tiny.gguf"), &w.mc, N, 1, &e_));
    OK(head_set_loss(&loss, &h, w.t, &b, b.sum_weight, true, &e_));
    tape_back(w.t, loss, 1);
    OK(tape_status(w.t, &e_));
    for (size_t i = 0; i < net_n_params(w.n); i++) assert_null(net_param(w.n, i)->v.g);
    for (size_t i = 0; i < 10; i++) {
        double size = 0;
        assert_non_null(p[i].v->g);
        for (size_t j = 0; j < p[i].v->rows * p[i].v->cols; j++) size += (double)fabsf(p[i].v->g[j]);
        if (!(size > 0 && isfinite(size))) fail_msg("%.*s: gradient %g", STR_ARG(p[i].name), size);
    }
    head_set_close(&h);
    close_world(&w);
}

/* ---- runs ---- */
static mote_train_heads_opts base(const char *out) {
    static const char *files[1];
    mote_train_heads_opts o = mote_train_heads_opts_default();
    files[0] = in_folder("text.jsonl");
    o.model = in_folder("tiny.gguf");
    o.data = files;
    o.n_data = 1;
    o.out = out;
    o.exits = "1";
    o.medusa = 2;
    o.held_out = 0.3;
    o.train = (mote_train_settings){.steps = 40, .n_ctx = 64, .batch = 4, .lr = 1e-2, .precision = "f32", .n_threads = 2, .dir = "", .save_every = 10};
    return o;
}

static void heads_learn(void **unused) {
    (void)unused;
    static const struct {
        const char *name, *type;
        double text, fit;
        uint64_t steps;
    } ways[] = {{"heads fitted", NULL, 0, 0, 0}, {"heads fitted and trained", NULL, 0, 0, 40}, {"heads trained", NULL, 0, -1, 40}, {"heads, the text's", "q8_0", 1, 0, 40}};
    for (size_t i = 0; i < COUNT_OF(ways); i++) {
        mote_train_heads_opts o = base(in_folder("heads.gguf"));
        mote_train_heads_report r = {.size = sizeof r};
        o.text = ways[i].text;
        o.fit = ways[i].fit;
        o.train.steps = ways[i].steps;
        o.out_type = ways[i].type;
        OK(mote_train_heads(&o, &r, &e_));
        assert_true(r.finished && r.steps == ways[i].steps && r.n == 3 && r.tokens > 1000 && r.bytes > 0);
        assert_int_equal(r.n_trained, (64 * 64 + 2 * 64) + (2 * 64 * 64 + 2 * 64) + (2 * 64 * 64 + 64));
        for (size_t k = 0; k < 3; k++) {
            const mote_head_figures *f = &r.heads[k];
            char got[80], item[80];
            bool good = ways[i].text > 0 || (f->divergence < 0.9 * f->divergence_before && f->agree > f->agree_before);
            (void)snprintf(got, sizeof got, "divergence %.3f, agreement %.2f", f->divergence, f->agree);
            (void)snprintf(item, sizeof item, "%s: layer %zu, offset %zu", ways[i].name, f->layer, f->offset);
            if (report) report_row("train", item, got, "better than untrained", good ? "ok" : "FAIL", "-", "tiny model");
            if (!good) fail_msg("%s: %s, before %.3f and %.2f", item, got, f->divergence_before, f->agree_before);
        }
    }
}

/* What is written, beside what the run says of it. */
static void the_file_is_what_was_said(void **unused) {
    (void)unused;
    mote_train_heads_opts o = base(in_folder("some.gguf"));
    mote_train_heads_report r = {.size = sizeof r};
    model_file *f;
    str type;
    uint32_t n;
    double share;
    int64_t behind, offset;
    o.train.steps = 3;
    o.out_type = "q4_0";
    o.likely = 50;
    OK(mote_train_heads(&o, &r, &e_));
    const heads_base of = {STR("llama"), 2, 64, TINY_VOCAB};
    heads_base other = of;
    heads *h;
    mote_error e = {0};
    OK(heads_open(&h, o.out, &of, &e_));
    assert_true(h->n == 3 && h->one[2].layer == 2 && h->one[2].offset == 2 && h->one[0].norm && h->one[0].bias && h->one[0].gate && !h->one[1].gate);
    heads_close(&h);
    other.n_vocab++;
    assert_int_equal(heads_open(&h, o.out, &other, &e), MOTE_E_MISMATCH);
    OK(model_file_open(&f, o.out, 0, &e_));
    OK(kv_get_str(f, "general.type", &type, STR(""), &e_));
    assert_true(str_is(type, "heads"));
    OK(kv_get_u32(f, HEADS_KEY_N_VOCAB, &n, 0, &e_));
    assert_int_equal(n, TINY_VOCAB);
    assert_int_equal(model_file_n_tensors(f), 11);
    assert_int_equal(model_file_find(f, HEADS_KEY_TOKENS)->count, 50);
    for (uint64_t k = 0; k < 3; k++) {
        assert_true(kv_at_int(model_file_find(f, HEADS_KEY_LAYER), k, &behind) && kv_at_int(model_file_find(f, HEADS_KEY_OFFSET), k, &offset) &&
                    kv_at_num(model_file_find(f, HEADS_KEY_ACCURACY), k, &share));
        assert_true(behind == (k ? 2 : 1) && offset == (int64_t)k);
        assert_float_equal(share, r.heads[k].agree, 1e-6);
    }
    assert_int_equal(model_file_find_tensor(f, "head.2.weight")->type, QUANT_Q4_0);
    model_file_close(&f);
    /* and as they begin, without a word to learn from */
    o.untrained = true;
    o.n_data = 0;
    OK(mote_train_heads(&o, &r, &e_));
    assert_true(r.finished && r.steps == 0 && isnan(r.heads[0].agree));
    OK(model_file_open(&f, o.out, 0, &e_));
    const tensor_info *w = model_file_find_tensor(f, "head.0.weight");
    float x[64];
    quant_get(QUANT_Q4_0)->decode(x, w->data, 64);
    for (int i = 0; i < 64; i++) assert_float_equal(x[i], 0, 0);
    assert_true(kv_at_num(model_file_find(f, HEADS_KEY_ACCURACY), 0, &share) && share < 0);
    model_file_close(&f);
}

static bool stop_at_0(void *ctx) { return --*(int *)ctx == 0; }

static void a_stopped_run_ends_the_same(void **unused) {
    (void)unused;
    mote_train_heads_opts o = base(in_folder("whole.gguf"));
    mote_train_heads_report r = {.size = sizeof r};
    mote_error e = {0};
    int polled = 42;
    o.train.dir = NULL;
    o.train.steps = 25;
    OK(mote_train_heads(&o, NULL, &e_));
    o.out = in_folder("parts.gguf");
    o.on = (mote_train_callbacks){.ctx = &polled, .stop = stop_at_0};
    assert_int_equal(mote_train_heads(&o, NULL, &e), MOTE_E_CANCELLED);
    assert_int_not_equal(access(o.out, F_OK), 0);
    o.train.n_threads = 3;
    OK(mote_train_heads(&o, &r, &e_));
    assert_true(r.resumed_at > 1 && r.resumed_at < 25); /* counting tokens and fitting ask too */
    assert_same_file(in_folder("whole.gguf"), in_folder("parts.gguf"));
    o.medusa = 1;
    assert_int_equal(mote_train_heads(&o, NULL, &e), MOTE_E_MISMATCH);
    assert_non_null(strstr(e.message, "heads"));
}

/* On what the model itself goes on to say; made up once, and there again for the run that goes on. */
static void the_models_own_words(void **unused) {
    (void)unused;
    mote_train_heads_opts o = base(in_folder("own.gguf"));
    mote_train_heads_report r = {.size = sizeof r};
    mote_error e = {0};
    int polled = 10; /* stops at step 7, or before when it is asked meanwhile */
    o.train.dir = NULL;
    o.train.steps = 12;
    o.train.n_ctx = 32;
    o.generate = 600;
    OK(mote_train_heads(&o, NULL, &e_));
    assert_int_equal(access(in_folder("own.gguf.run/generated"), R_OK), 0);
    o.out = in_folder("own2.gguf");
    o.on = (mote_train_callbacks){.ctx = &polled, .stop = stop_at_0};
    assert_int_equal(mote_train_heads(&o, NULL, &e), MOTE_E_CANCELLED);
    OK(mote_train_heads(&o, &r, &e_));
    assert_true(r.finished && r.steps == 12);
    assert_same_file(in_folder("own.gguf"), in_folder("own2.gguf"));
    o.train.dir = "";
    assert_int_equal(mote_train_heads(&o, NULL, &e), MOTE_E_USAGE);
}

/* LayerSkip: the shares and chances of the paper; a model trained so says more behind its inner layers, and a run that was stopped ends the same. */
static void layers_can_speak(void **unused) {
    (void)unused;
    const layerskip s = {.steps = 11, .dropout = 0.2, .exit = 0.5, .rising = true};
    double sum = 0;
    for (size_t l = 0; l < 8; l++) sum += layerskip_share(&s, l, 8, 3);
    assert_float_equal(sum, 1, 1e-9);
    assert_float_equal((layerskip_share(&s, 3, 8, 3) * (7 + 0.5 * 21 + 0.5 * 1 + 0.5 * 6 + 0.5 * 15)), 0.5 * 6, 1e-6);
    assert_float_equal(layerskip_share(&s, 4, 8, 3), 0, 0);
    assert_float_equal(layerskip_chance(&s, 7, 8, 10), 0.2, 1e-9);
    assert_float_equal(layerskip_chance(&s, 0, 8, 10), 0, 1e-9);
    assert_float_equal(layerskip_chance(&s, 7, 8, 5), (0.2 * (sqrt(2) - 1)), 1e-6);
    const mote_train_source text = {.path = in_folder("text.jsonl")};
    double divergence[2];
    for (int i = 0; i < 2; i++) {
        const char *out = in_folder(i ? "skips.gguf" : "plain.gguf");
        mote_train_options t = {.settings = {.steps = 30, .n_ctx = 32, .batch = 4, .micro_batch = 2, .lr = 5e-3, .seed = 1, .precision = "f32", .n_threads = 2},
                                .model = in_folder("tiny.gguf"), .out = out, .out_type = "f32", .data = &text, .n_data = 1, .held_out = -1};
        if (i) t.layer_dropout = 0.3, t.early_exit = 1;
        OK(mote_train(&t, NULL, &e_));
        mote_train_heads_opts o = base(in_folder("begin.gguf"));
        mote_train_heads_report r = {.size = sizeof r};
        o.model = out;
        o.medusa = 0;
        o.untrained = true;
        OK(mote_train_heads(&o, &r, &e_));
        divergence[i] = r.heads[0].divergence;
        if (!i) continue;
        int polled = 17;
        mote_error e = {0};
        t.out = in_folder("skips2.gguf");
        t.callbacks = (mote_train_callbacks){.ctx = &polled, .stop = stop_at_0};
        assert_int_equal(mote_train(&t, NULL, &e), MOTE_E_CANCELLED);
        OK(mote_train(&t, NULL, &e_));
        assert_same_file(out, t.out);
        t.early_exit = 2;
        assert_int_equal(mote_train(&t, NULL, &e), MOTE_E_USAGE);
    }
    char got[80];
    (void)snprintf(got, sizeof got, "divergence %.3f", divergence[1]);
    if (report) {
        char want[40];
        (void)snprintf(want, sizeof want, "half of %.3f, without", divergence[0]);
        report_row("train", "LayerSkip: exit at half of the layers", got, want, divergence[1] < divergence[0] / 2 ? "ok" : "FAIL", "-", "tiny model");
    }
    if (!(divergence[1] < divergence[0] / 2)) fail_msg("%s, without %.3f", got, divergence[0]);
}

static void mistakes_are_told(void **unused) {
    (void)unused;
    static const struct {
        const char *exits, *said;
        size_t medusa;
        mote_status status;
    } wrong[] = {
        {"2", "the model's own head", 0, MOTE_E_RANGE}, {"0", "expected 1 to 1", 0, MOTE_E_RANGE},      {"99999999999999999999", "expected 1 to 1", 0, MOTE_E_RANGE},
        {"1,1", "two exits", 0, MOTE_E_USAGE},          {"1,", "numbers of layers", 0, MOTE_E_USAGE},    {"-1", "numbers of layers", 0, MOTE_E_USAGE},
        {"one", "numbers of layers", 0, MOTE_E_USAGE},  {"", "no heads", 0, MOTE_E_USAGE},               {"1", "at most", 17, MOTE_E_LIMIT},
    };
    mote_error e = {0};
    for (size_t i = 0; i < COUNT_OF(wrong); i++) {
        mote_train_heads_opts o = base(in_folder("never.gguf"));
        o.exits = wrong[i].exits;
        o.medusa = wrong[i].medusa;
        mote_status s = mote_train_heads(&o, NULL, &e);
        if (s != wrong[i].status || !strstr(e.message, wrong[i].said)) fail_msg("exits '%s': %d, %s", wrong[i].exits, (int)s, e.message);
    }
    mote_train_heads_opts o = base(in_folder("never.gguf")), b = o;
    b.out_type = "q4_K"; /* blocks of 256, and a width of 64 */
    assert_int_equal(mote_train_heads(&b, NULL, &e), MOTE_E_USAGE);
    b = o, b.out_type = "q77";
    assert_int_equal(mote_train_heads(&b, NULL, &e), MOTE_E_USAGE);
    b = o, b.n_data = 0;
    assert_int_equal(mote_train_heads(&b, NULL, &e), MOTE_E_USAGE);
    const char *empty = in_folder("empty.jsonl"), *nowhere = in_folder("nowhere.txt");
    b = o, b.data = &empty;
    assert_int_equal(mote_train_heads(&b, NULL, &e), MOTE_E_FORMAT);
    b = o, b.data = &nowhere;
    assert_int_equal(mote_train_heads(&b, NULL, &e), MOTE_E_NOT_FOUND);
    b = o, b.fit = -1, b.train.steps = 0;
    assert_int_equal(mote_train_heads(&b, NULL, &e), MOTE_E_USAGE);
    b = o, b.text = (double)NAN;
    assert_int_equal(mote_train_heads(&b, NULL, &e), MOTE_E_USAGE);
    b = o, b.model = in_folder("nan.gguf"), b.exits = "1", b.medusa = 0;
    assert_int_equal(mote_train_heads(&b, NULL, &e), MOTE_E_OUTPUT);
    assert_int_not_equal(access(in_folder("never.gguf"), F_OK), 0);
}

int main(int argc, char **argv) {
    report = report_wanted(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gradients_are_right),
        cmocka_unit_test(a_head_begins_as_the_models_own),
        cmocka_unit_test(only_heads_get_gradients),
        cmocka_unit_test(heads_learn),
        cmocka_unit_test(the_file_is_what_was_said),
        cmocka_unit_test(a_stopped_run_ends_the_same),
        cmocka_unit_test(the_models_own_words),
        cmocka_unit_test(layers_can_speak),
        cmocka_unit_test(mistakes_are_told),
    };
    char command[200], text[12000] = "";
    mote_error e;
    if (!mkdtemp(folder)) return 1;
    if (tiny_model_write(in_folder("tiny.gguf"), &(tiny_opts){.type = QUANT_Q8_0, .seed = 3}, &e) != MOTE_OK) return 1;
    if (tiny_model_write(in_folder("nan.gguf"), &(tiny_opts){.nan_weight = true, .seed = 3}, &e) != MOTE_OK) return 1;
    for (int i = 0; i < 60; i++)
        (void)snprintf(text + strlen(text), sizeof text - strlen(text), "{\"text\":\"The %dth of the lazy dogs jumped over fox %d, and over the fence in the rain. \"}\n",
                       i * 7 % 23, i % 11);
    put_text("text.jsonl", text);
    put_text("empty.jsonl", "\n\n");
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    (void)snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command) != 0 || failed;
}
