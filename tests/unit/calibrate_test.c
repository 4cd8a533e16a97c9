/* calibrate_test.c: whole models through the calibrated methods, on a tiny one with random weights. */
#include "compress/calib.h"
#include "compress/calibrated.h"

#include "../report.h"
#include "../tiny_model.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>
/* cmocka wants these first */
#include <cmocka.h>

#include "ok.h"

static char folder[] = "/tmp/mote_calibrate_XXXXXX";
static char source[64], target[64], text[64], empty[64], nan_model[64];
static const char *texts[1] = {text};
static bool report;

static int setup(void **unused) {
    (void)unused;
    if (!mkdtemp(folder)) return 1;
    (void)snprintf(source, sizeof source, "%s/in.gguf", folder);
    (void)snprintf(target, sizeof target, "%s/out.gguf", folder);
    (void)snprintf(text, sizeof text, "%s/text.txt", folder);
    (void)snprintf(empty, sizeof empty, "%s/empty.txt", folder);
    (void)snprintf(nan_model, sizeof nan_model, "%s/nan.gguf", folder);
    OK(tiny_model_write(source, &(tiny_opts){.seed = 5}, &e_));
    OK(tiny_model_write(nan_model, &(tiny_opts){.seed = 5, .nan_weight = true}, &e_));
    FILE *f = fopen(text, "w"), *e = fopen(empty, "w");
    if (!f || !e) return 1;
    rng r;
    rng_seed(&r, 9, 9);
    static const char *const words[] = {"hello ", "world ", "the ", "in ", "or ", "tea ", "house ", "what? ", "run, ", "there. "};
    for (int i = 0; i < 600; i++) (void)fputs(words[rng_below(&r, COUNT_OF(words))], f);
    return fclose(f) || fclose(e);
}

static int teardown(void **unused) {
    (void)unused;
    const char *all[] = {source, target, text, empty, nan_model};
    for (size_t i = 0; i < COUNT_OF(all); i++) (void)unlink(all[i]);
    return rmdir(folder);
}

static calib *through(const char *path) {
    calib *c;
    OK(calib_open(&c, path, &(calib_opts){.files = texts, .n_files = 1, .n_seq = 8, .n_ctx = 32, .n_threads = 2}, &e_));
    for (; c->at < c->n_layer; c->at++) OK(calib_run(c, c->x, c->x, &e_));
    return c;
}

/* What the last layer gives with `path`, beside what it gives with the source: mean squared error over mean square. */
static double stream_error(const char *path) {
    calib *a = through(source), *b = through(path);
    double e = 0, sum = 0;
    for (size_t i = 0; i < a->n_tokens * a->n_embd; i++) {
        e += ((double)a->x[i] - (double)b->x[i]) * ((double)a->x[i] - (double)b->x[i]);
        sum += (double)a->x[i] * (double)a->x[i];
    }
    calib_close(&a);
    calib_close(&b);
    return e / sum;
}

static mote_calibrate_options options(const char *type) {
    return (mote_calibrate_options){.quantize = {.type = type, .pure = true, .n_threads = 2}, .text = texts, .n_text = 1, .n_seqs = 8, .n_ctx = 32,
                                    .steps = 60};
}

static double run(mote_calibrate_options o, mote_calibrate_report *r) {
    OK(mote_calibrate(source, target, &o, r, &e_));
    assert_int_equal(r->n_matrices, 14);
    assert_int_equal(r->n_tokens, 256);
    return stream_error(target);
}

static void show(const char *item, double got, double naive, double bar) {
    char measured[64], against[64];
    if (!report) return;
    (void)snprintf(measured, sizeof measured, "%.3f of nearest levels' error", got / naive);
    (void)snprintf(against, sizeof against, "naive %.3g", naive);
    char limit[16];
    (void)snprintf(limit, sizeof limit, "%g", bar);
    report_row("compress", item, measured, limit, got < bar * naive ? "ok" : "FAIL", against, "tiny llama, Q4_0");
}

static void every_rounding_beats_nearest(void **unused) {
    (void)unused;
    mote_calibrate_report r;
    mote_calibrate_options o = options("Q4_0");
    double naive = run(o, &r);
    mote_calibrate_report_free(&r);
    static const struct {
        const char *round;
        double bar;
    } ways[] = {{"gptq", 0.9}, {"autoround", 0.9}, {"block-qat", 0.9}};
    for (size_t i = 0; i < COUNT_OF(ways); i++) {
        o.round = ways[i].round;
        double e = run(o, &r);
        if (!(e < ways[i].bar * naive)) fail_msg("%s: %g, nearest %g", ways[i].round, e, naive);
        if (i) assert_true(r.n_layers_learned > 0);
        show(ways[i].round, e, naive, ways[i].bar);
        mote_calibrate_report_free(&r);
    }
    o.round = "gptq";
    o.scale = "awq";
    double e = run(o, &r);
    assert_true(e < naive);
    show("awq+gptq", e, naive, 1);
    mote_calibrate_report_free(&r);
}

static void threads_do_not_matter(void **unused) {
    (void)unused;
    static const char *const rounds[] = {"gptq", "block-qat"};
    for (size_t i = 0; i < COUNT_OF(rounds); i++) {
        file_map a[2];
        for (int n = 0; n < 2; n++) {
            mote_calibrate_report r;
            mote_calibrate_options o = options("Q4_1");
            o.round = rounds[i];
            o.quantize.n_threads = 1 + 2 * n;
            o.steps = 8;
            (void)run(o, &r);
            mote_calibrate_report_free(&r);
            OK(file_open(&a[n], target, FILE_READ, &e_));
        }
        assert_int_equal(a[0].n, a[1].n);
        assert_memory_equal(a[0].p, a[1].p, a[0].n);
        file_close(&a[0]);
        file_close(&a[1]);
    }
}

/* Scaling alone leaves the float model as it was, however much it moves. */
static void scales_fold(void **unused) {
    (void)unused;
    mote_calibrate_report r;
    mote_calibrate_options o = options(NULL);
    o.scale = "smoothquant";
    o.alpha = 0.9;
    double e = run(o, &r);
    assert_int_equal(r.n_groups_scaled, 4);
    assert_true(e < 1e-9);
    mote_calibrate_report_free(&r);
    o = options("Q4_0");
    o.scale = "awq";
    (void)run(o, &r);
    assert_true(r.n_groups_scaled > 0);
    mote_calibrate_report_free(&r);
}

static void zeros_are_as_many_as_asked(void **unused) {
    (void)unused;
    static const char *const ways[] = {"magnitude", "wanda", "sparsegpt"};
    mote_calibrate_report r;
    double err[3];
    for (int pattern = 0; pattern < 2; pattern++) {
        for (size_t i = 0; i < COUNT_OF(ways); i++) {
            mote_calibrate_options o = options(NULL);
            o.prune = ways[i];
            if (pattern) o.keep = 2, o.of = 4;
            else o.sparsity = 0.5;
            err[i] = run(o, &r);
            assert_true(fabs(r.sparsity - 0.5) < 0.01);
            mote_calibrate_report_free(&r);
        }
        assert_true(err[2] < err[1] && err[2] < err[0]);
        show(pattern ? "sparsegpt 2:4 (naive: magnitude)" : "sparsegpt 50 % (naive: magnitude)", err[2], err[0], 1);
    }
    mote_calibrate_options o = options("Q4_0"); /* together with rounding */
    o.prune = "sparsegpt";
    o.round = "gptq";
    o.keep = 2;
    o.of = 4;
    o.quantize.pure = false; /* the embedding is not sparse */
    double dense = run(o, &r);
    assert_true(r.sparsity >= 0.5);
    mote_calibrate_report_free(&r);
    o.quantize.type = "Q4_0_24"; /* stored as such: the same weights */
    double stored = run(o, &r);
    assert_true(stored == dense);
    mote_calibrate_report_free(&r);
    char back[80];
    (void)snprintf(back, sizeof back, "%s/back.gguf", folder);
    mote_quantize_options q = {.type = "Q4_0"}; /* and back, without leave to lose anything */
    OK(mote_quantize(target, back, &q, NULL, &e_));
    assert_true(stream_error(back) == dense);
    (void)unlink(back);
}

static void the_file_says_how_it_was_made(void **unused) {
    (void)unused;
    mote_calibrate_report r;
    mote_calibrate_options o = options("Q8_0");
    static const char *const ignore[] = {"ffn_down"};
    o.round = "gptq";
    o.ignore = ignore;
    o.n_ignore = 1;
    OK(mote_calibrate(source, target, &o, &r, &e_));
    assert_int_equal(r.n_matrices, 12);
    mote_calibrate_report_free(&r);
    model_file *f;
    str s;
    OK(model_file_open(&f, target, 0, &e_));
    OK(kv_get_str(f, "mote.calibration.method", &s, (str){0}, &e_));
    assert_true(str_is(s, "gptq"));
    OK(kv_get_str(f, "mote.calibration.files", &s, (str){0}, &e_));
    assert_true(str_is(s, "text.txt"));
    assert_int_equal(model_file_find_tensor(f, "blk.0.ffn_down.weight")->type, QUANT_Q8_0);
    model_file_close(&f);
}

static bool stop(void *ctx, size_t done, size_t n) {
    (void)ctx;
    return done < n;
}

static void bad_input_leaves_nothing(void **unused) {
    (void)unused;
    mote_error err;
    (void)unlink(target);
#define REFUSED(code, ...)                                                                         \
    do {                                                                                           \
        mote_calibrate_options o = options("Q4_0");                                                \
        o.round = "gptq";                                                                          \
        __VA_ARGS__;                                                                               \
        assert_int_equal(mote_calibrate(source, target, &o, NULL, &err), code);                    \
        assert_true(access(target, F_OK) != 0);                                                    \
    } while (0)
    static const char *const nothing[] = {empty}, *const bad[] = {"(("};
    REFUSED(MOTE_E_USAGE, o.text = nothing);
    REFUSED(MOTE_E_USAGE, o.round = "rtn");
    REFUSED(MOTE_E_USAGE, o.sparsity = 0.5);
    REFUSED(MOTE_E_USAGE, o.prune = "wanda");
    REFUSED(MOTE_E_USAGE, o.prune = "wanda"; o.keep = 4; o.of = 2);
    REFUSED(MOTE_E_USAGE, o.targets = bad; o.n_targets = 1);
    REFUSED(MOTE_E_USAGE, o.quantize.type = "Q9");
    REFUSED(MOTE_E_UNSUPPORTED, o.prune = "sparsegpt"; o.sparsity = 0.5; o.quantize.type = "Q4_1");
    REFUSED(MOTE_E_CANCELLED, o.layer_done = stop);
#undef REFUSED
    mote_calibrate_options o = options("Q4_0");
    o.round = "gptq";
    assert_int_not_equal(mote_calibrate(nan_model, target, &o, NULL, &err), MOTE_OK);
    assert_true(access(target, F_OK) != 0);
    o = options("Q4_0"); /* a model that is quantized already */
    mote_calibrate_report r;
    (void)run(o, &r);
    mote_calibrate_report_free(&r);
    assert_int_equal(mote_calibrate(target, source, &o, NULL, &err), MOTE_E_UNSUPPORTED);
    assert_non_null(strstr(err.message, "--allow-requantize"));
}

int main(int argc, char **argv) {
    report = report_wanted(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_rounding_beats_nearest), cmocka_unit_test(threads_do_not_matter), cmocka_unit_test(scales_fold),
        cmocka_unit_test(zeros_are_as_many_as_asked), cmocka_unit_test(the_file_says_how_it_was_made), cmocka_unit_test(bad_input_leaves_nothing),
    };
    return cmocka_run_group_tests_name("calibrate", tests, setup, teardown);
}
