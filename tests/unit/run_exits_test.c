/* run_exits_test.c: sessions whose tokens may leave early: the same tokens whatever the threads, guesses and history; and what is
 * counted. */
#include "heads_file.h"
#include "mote/mote.h"
#include "tiny_model.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
/* cmocka wants these first */
#include <cmocka.h>

#include "folder.h"
#include "ok.h"

enum { PROMPT = 30, MADE = 50 };

typedef struct way {
    int threads;
    float threshold;
    bool greedy, shift, ngram, medusa, after_other; /* after_other: another answer comes before, and is taken back */
} way;

typedef struct trace {
    int32_t ids[MADE];
    size_t n;
    mote_exit_stats x;
} trace;

static int keep_id(void *ctx, const mote_piece *p) {
    trace *t = ctx;
    if (p->id >= 0 && t->n < MADE) t->ids[t->n++] = p->id;
    return 0;
}

static trace run(const way *w) {
    trace t = {.x.size = sizeof t.x};
    mote_engine *e;
    mote_model *m;
    mote_session *s;
    mote_sampler *smp = NULL;
    mote_speculator *sp = NULL;
    mote_engine_opts eo = mote_engine_opts_default();
    mote_model_opts mo = mote_model_opts_default();
    mote_session_opts so = mote_session_opts_default();
    mote_spec_opts spo = mote_spec_opts_default();
    mote_gen_opts o = mote_gen_opts_default();
    mote_sample_opts po = mote_sample_opts_default();
    int32_t ids[PROMPT], other[PROMPT];
    eo.n_threads = w->threads;
    mo.heads = in_folder("heads.gguf");
    so.n_ctx = w->shift ? 48 : 128;
    so.context_shift = w->shift;
    so.exit_threshold = w->threshold;
    for (int i = 0; i < PROMPT; i++) ids[i] = 20 + i % 7 * 11, other[i] = i < 20 ? ids[i] : 100 + i;
    OK(mote_engine_open(&e, &eo, &e_));
    OK(mote_model_open(&m, e, in_folder("tiny.gguf"), &mo, &e_));
    OK(mote_session_open(&s, m, &so, &e_));
    po.seed = 7;
    po.ignore_end = true;
    if (!w->greedy) OK(mote_sampler_open(&smp, m, &po, &e_));
    spo.ngram = w->ngram;
    spo.medusa = w->medusa;
    spo.always = true;
    spo.n_max = 4;
    if (w->ngram || w->medusa) OK(mote_speculator_open(&sp, s, &spo, &e_));
    o.n_predict = MADE;
    o.ignore_end = true;
    o.on_piece = keep_id;
    o.ctx = &t;
    if (w->after_other) {
        OK(mote_complete_ids(s, 0, other, PROMPT, &o, NULL, &e_));
        OK(mote_session_truncate(s, 0, PROMPT, &e_));
        t.n = 0;
    }
    o.sampler = smp;
    o.speculator = sp;
    OK(mote_complete_ids(s, 0, ids, PROMPT, &o, NULL, &e_));
    mote_session_get_exits(s, &t.x);
    mote_speculator_close(&sp);
    mote_sampler_close(&smp);
    mote_session_close(&s);
    mote_model_close(&m);
    mote_engine_close(&e);
    return t;
}

static void the_same_tokens_every_way(void **unused) {
    (void)unused;
    const heads_plan p = {.layer = {1, 2, 2}, .offset = {0, 1, 2}, .n = 3, .size = 0.3f, .bias = true, .seed = 4};
    bool some = false;
    for (int q = 0; q < 2; q++) {
        OK(tiny_model_write(in_folder("tiny.gguf"), &(tiny_opts){.type = q ? QUANT_Q8_0 : QUANT_F32, .seed = 3}, &e_));
        OK(heads_file_write(in_folder("heads.gguf"), in_folder("tiny.gguf"), &p, &e_));
        for (int i = 0; i < 12; i++) {
            const float thresholds[] = {0, 0.1f, 2};
            way w = {.threads = 1, .threshold = thresholds[i % 3], .greedy = i / 3 % 2, .shift = i >= 6};
            const way others[] = {{.threads = 3}, {.threads = 2, .ngram = true}, {.threads = 1, .medusa = true}, {.threads = 1, .after_other = true}};
            const trace x = run(&w);
            const mote_exit_stats *s = &x.x;
            assert_int_equal(x.n, MADE);
            assert_int_equal(s->n_exits, 1);
            assert_int_equal(s->layer[0], 1);
            assert_int_equal(s->n_layer, 2);
            assert_int_equal(s->n_tokens, w.threshold > 1 ? 0 : MADE);
            if (w.threshold < 0.01f) assert_true(s->n_left[0] == MADE && fabs(s->layers - 1) < 1e-12);
            if (w.threshold < 1) assert_true(fabs(s->layers - 2 + (double)s->n_left[0] / (double)s->n_tokens) < 1e-12);
            some = some || (s->n_left[0] > 0 && s->n_left[0] < MADE);
            for (size_t k = 0; k < COUNT_OF(others); k++) {
                way v = w;
                v.threads = others[k].threads;
                v.ngram = others[k].ngram;
                v.medusa = others[k].medusa;
                v.after_other = others[k].after_other;
                if (v.after_other && w.shift) continue; /* what a shift moves depends on what was there */
                const trace y = run(&v);
                if (x.n != y.n || memcmp(x.ids, y.ids, x.n * sizeof *x.ids) != 0) fail_msg("threshold %g, way %zu, case %d: other tokens", (double)w.threshold, k, i);
            }
        }
    }
    assert_true(some);
}

static void what_does_not_go_together_is_refused(void **unused) {
    (void)unused;
    mote_engine *e;
    mote_model *m;
    mote_session *s;
    mote_speculator *sp;
    mote_error err = {0};
    mote_session_opts so = mote_session_opts_default();
    mote_spec_opts spo = mote_spec_opts_default();
    mote_model_opts mo = mote_model_opts_default();
    OK(mote_engine_open(&e, NULL, &e_));
    OK(mote_model_open(&m, e, in_folder("tiny.gguf"), NULL, &e_));
    assert_int_equal(mote_model_n_heads(m, MOTE_HEADS_EXITS), 0);
    so.exit_threshold = 0.9f;
    assert_int_equal(mote_session_open(&s, m, &so, &err), MOTE_E_USAGE);
    assert_non_null(strstr(err.message, "no early exits"));
    so.exit_threshold = 2;
    OK(mote_session_open(&s, m, &so, &e_));
    spo.exit = true;
    assert_int_equal(mote_speculator_open(&sp, s, &spo, &err), MOTE_E_USAGE);
    spo.exit = false;
    spo.medusa = true;
    assert_int_equal(mote_speculator_open(&sp, s, &spo, &err), MOTE_E_USAGE);
    assert_non_null(strstr(err.message, "no Medusa heads"));
    mote_session_close(&s);
    mote_model_close(&m);
    mo.heads = in_folder("heads.gguf");
    OK(mote_model_open(&m, e, in_folder("tiny.gguf"), &mo, &e_));
    assert_int_equal(mote_model_n_heads(m, MOTE_HEADS_EXITS), 1);
    assert_int_equal(mote_model_n_heads(m, MOTE_HEADS_DRAFTS), 1);
    assert_int_equal(mote_model_n_heads(m, MOTE_HEADS_AHEAD), 2);
    so.exit_threshold = 0.5f;
    OK(mote_session_open(&s, m, &so, &e_));
    spo.medusa = false;
    spo.exit = true;
    assert_int_equal(mote_speculator_open(&sp, s, &spo, &err), MOTE_E_USAGE);
    assert_non_null(strstr(err.message, "exit_threshold is 0.5"));
    mote_session_close(&s);
    mote_model_close(&m);
    mote_engine_close(&e);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(the_same_tokens_every_way), cmocka_unit_test(what_does_not_go_together_is_refused)};
    char command[200];
    if (!mkdtemp(folder)) return 1;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    (void)snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command) != 0 || failed;
}
