/* run_spec_test.c: speculation on a tiny model: n-grams against a search by hand, what pays, the same tokens. */
#include "run/spec.h"
#include "spec_props.h"
#include "tiny_model.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

static char dir[] = "/tmp/mote-spec-XXXXXX";
static char tiny[64], other[64], tiny_nan[64], foreign[64], wider[64], widest[64];
static mote_engine *engine;
static mote_model *target;

#define OK(call)                                                                                   \
    do {                                                                                           \
        if ((call) != MOTE_OK) fail_msg("%s: %s", #call, err.message);                             \
    } while (0)

static void write_tiny(char path[64], const char *name, const tiny_opts *o) {
    mote_error err;
    (void)snprintf(path, 64, "%s/%s", dir, name);
    OK(tiny_model_write(path, o, &err));
}

static int setup(void **unused) {
    (void)unused;
    mote_error err;
    if (!mkdtemp(dir)) return 1;
    write_tiny(tiny, "tiny.gguf", &(tiny_opts){.seed = 1});
    write_tiny(other, "other.gguf", &(tiny_opts){.seed = 2, .type = QUANT_Q8_0});
    write_tiny(tiny_nan, "nan.gguf", &(tiny_opts){.seed = 1, .nan_weight = true});
    write_tiny(foreign, "foreign.gguf", &(tiny_opts){.seed = 1, .no_fim = true}); /* spells some tokens otherwise */
    write_tiny(wider, "wider.gguf", &(tiny_opts){.seed = 1, .n_more_unused = 64});
    write_tiny(widest, "widest.gguf", &(tiny_opts){.seed = 1, .n_more_unused = 200});
    mote_engine_opts o = mote_engine_opts_default();
    o.n_threads = 2;
    return mote_engine_open(&engine, &o, &err) || mote_model_open(&target, engine, tiny, NULL, &err);
}

static int teardown(void **unused) {
    (void)unused;
    mote_model_close(&target);
    mote_engine_close(&engine);
    const char *files[] = {tiny, other, tiny_nan, foreign, wider, widest};
    for (size_t i = 0; i < COUNT_OF(files); i++) (void)unlink(files[i]);
    return rmdir(dir);
}

/* ---- n-grams ---- */

static size_t common_tail(const int32_t *ids, size_t a, size_t b) {
    size_t n = 0;
    while (n < NGRAM_MATCH_MAX && n < a && ids[a - 1 - n] == ids[b - 1 - n]) n++;
    return n;
}

/* The definition in spec.h, word by word. */
static size_t find_by_hand(const int32_t *ids, size_t n, size_t *match) {
    for (size_t order = NGRAM_ORDERS; order >= 1; order--) {
        size_t best = 0, tries = 0;
        *match = 0;
        for (size_t p = n - 1; p >= order && tries < NGRAM_TRIES; p--) {
            size_t len = common_tail(ids, p, n);
            if (len < order) continue;
            tries++;
            if (len <= *match) continue;
            *match = len;
            best = p;
        }
        if (best) return best;
    }
    return 0;
}

static void test_ngrams(void **unused) {
    (void)unused;
    mote_error err;
    enum { N = 3000 };
    static int32_t ids[N];
    for (uint32_t kinds = 2; kinds <= 2048; kinds *= 8) {
        rng r;
        ngram *g;
        rng_seed(&r, kinds, 1);
        OK(ngram_open(&g, N, &err));
        for (int round = 0; round < 2; round++) {
            for (size_t i = 0; i < N; i++) {
                bool copy = i > 40 && rng_below(&r, 4); /* stretches that were there before */
                ids[i] = copy ? ids[i - 37] : (int32_t)rng_below(&r, kinds);
            }
            ngram_clear(g);
            for (size_t n = 1; n < N; n += 1 + rng_below(&r, 3)) {
                size_t match, expected_match;
                ngram_sync(g, ids, n);
                size_t at = ngram_find(g, ids, n, &match), expected = find_by_hand(ids, n, &expected_match);
                assert_int_equal(at, expected);
                if (at) assert_int_equal(match, expected_match);
            }
        }
        ngram_close(&g);
    }
}

/* What lies further back than the index remembers is not found, and nothing wrong is. */
static void test_ngram_window(void **unused) {
    (void)unused;
    mote_error err;
    static int32_t ids[4000];
    rng r;
    ngram *g;
    rng_seed(&r, 5, 1);
    OK(ngram_open(&g, 100, &err));
    size_t bytes = ngram_bytes(g), found = 0;
    for (size_t i = 0; i < COUNT_OF(ids); i++) ids[i] = (int32_t)rng_below(&r, 60);
    for (size_t n = 1; n < COUNT_OF(ids); n++) {
        size_t match;
        ngram_sync(g, ids, n);
        size_t at = ngram_find(g, ids, n, &match);
        if (at == 0) continue;
        found++;
        assert_true(at < n && n - at <= 129 && match >= 1);
        assert_int_equal(common_tail(ids, at, n), match);
    }
    assert_true(found > 2000);
    assert_int_equal(ngram_bytes(g), bytes);
    ngram_close(&g);
}

/* ---- what pays ---- */

static void measure(spec_cost *c, size_t rows, double ns, int times) {
    for (int i = 0; i < times; i++) spec_cost_pass(c, rows, ns);
}

static size_t choose(const spec_cost *c, float chance, size_t n, double extra) {
    spec_odds o = {.memory = 32};
    proposal p = {.n = n};
    double speed;
    o.p[0] = chance;
    return spec_cost_choose(c, &o, &p, 1, extra, &speed);
}

static void test_choice(void **unused) {
    (void)unused;
    spec_cost c = {0};
    assert_int_equal(choose(&c, 1, 8, 0), 0); /* nothing is known yet */
    measure(&c, 1, 100, 5);
    assert_int_equal(choose(&c, 1, 8, 0), 8);
    assert_int_equal(choose(&c, 0, 8, 0), 0);
    assert_int_equal(choose(&c, 0.05f, 8, 0), 0);
    assert_int_equal(choose(&c, 1, 8, 1e4), 0); /* a snapshot that takes longer than all it could gain */
    measure(&c, 1, 100, 1);
    for (size_t rows = 2; rows <= 17; rows++) measure(&c, rows, rows <= 5 ? 110 : 400, 4);
    assert_int_equal(choose(&c, 0.9f, 16, 0), 4); /* up to where the kernels change over */
    for (size_t rows = 2; rows <= 17; rows++) measure(&c, rows, 100 * (double)rows, 40);
    measure(&c, 1, 100, 1);
    assert_int_equal(choose(&c, 0.9f, 16, 0), 0); /* a row more costs as much as a pass more */
    /* By hand: chances .5 with times 1.1, 1.2, 1.5: 1.5/1.1 = 1.36, 1.75/1.2 = 1.46, 1.875/1.5 = 1.25. */
    c = (spec_cost){0};
    measure(&c, 1, 100, 5);
    measure(&c, 2, 110, 1);
    measure(&c, 3, 120, 1);
    measure(&c, 4, 150, 1);
    spec_odds o = {.memory = 32, .p[7] = 0.5f};
    proposal p = {.n = 3, .level = {7, 7, 7}};
    double speed;
    assert_int_equal(spec_cost_choose(&c, &o, &p, 1, 0, &speed), 2);
    assert_true(speed > 1.458 && speed < 1.459);
    for (int i = 0; i < 200; i++) spec_cost_pass(&c, 3, 120); /* never a plain pass in between: t1 is stale */
    assert_int_equal(choose(&c, 1, 3, 0), 0);
}

static void test_estimates(void **unused) {
    (void)unused;
    spec_cost c = {0};
    measure(&c, 1, 100, 8);
    measure(&c, 5, 140, 1);
    measure(&c, 9, 300, 1);
    assert_true(spec_cost_of(&c, 5) > 139.9 && spec_cost_of(&c, 5) < 140.1);
    assert_true(spec_cost_of(&c, 7) > 219.9 && spec_cost_of(&c, 7) < 220.1); /* between two */
    assert_true(spec_cost_of(&c, 10) > 300 && spec_cost_of(&c, 10) < 330);   /* beyond */
    measure(&c, 9, 3000, 1);
    measure(&c, 9, 300, 20);
    assert_true(spec_cost_of(&c, 9) < 400); /* an outlier is forgotten */
    measure(&c, 1, 1000, 1);
    measure(&c, 1, 100, 30);
    assert_true(spec_cost_of(&c, 1) < 110);
    measure(&c, 1, 100, 600);
    assert_true(spec_cost_of(&c, 9) < 260); /* 9 is stale, and so is 5: only the slope is left */
}

/* A proposer whose odds are believed to be good and are not loses one percent, no more. */
static void test_ledger(void **unused) {
    (void)unused;
    spec_cost c = {0};
    measure(&c, 1, 100, 5);
    size_t tries = 0;
    for (int i = 0; i < 10000; i++) {
        if (spec_cost_allows(&c, 0)) {
            spec_cost_book(&c, 1, 150);
            tries++;
        } else c.spent += 100;
    }
    assert_true(c.saved < 0 && -c.saved <= 0.0101 * c.spent + 5 * 100);
    assert_true(tries > 100 && tries < 250);
    for (int i = 0; i < 1000; i++) spec_cost_book(&c, 3, 150); /* it gets better */
    assert_true(spec_cost_allows(&c, 0));
    for (tries = 0; spec_cost_allows(&c, 0); tries++) spec_cost_book(&c, 1, 1000); /* and worse again */
    assert_true((double)tries < 5 + 0.01 * c.spent / 900);
}

static void test_odds(void **unused) {
    (void)unused;
    spec_odds o = {.memory = 32};
    rng r;
    rng_seed(&r, 1, 1);
    for (int i = 0; i < 300; i++) spec_odds_hear(&o, 3, rng_below(&r, 10) < 7);
    assert_true(o.p[3] > 0.5f && o.p[3] < 0.9f);
    for (int i = 0; i < 100; i++) spec_odds_hear(&o, 3, false);
    assert_true(o.p[3] < 0.1f && o.p[2] == 0);
}

/* ---- the same tokens ---- */

static void test_identity(void **unused) {
    (void)unused;
    static const char *const types[] = {"f32", "f16", "q8_0"};
    for (size_t i = 0; i < COUNT_OF(types); i++) {
        mote_error err;
        spec_props_result r;
        const spec_props_opts o = {.cache_type = types[i], .exact = i == 0, .seed = i};
        if (spec_props(i % 2 ? other : tiny, &o, &r, &err) != MOTE_OK) fail_msg("%s: %s", types[i], err.message);
        assert_true(r.n_accepted > r.n_tokens / 4); /* what is tested really happened */
        assert_true(r.n_accepted < r.n_guessed);
    }
}

/* ---- generations with text ---- */

typedef struct heard {
    char text[4096];
    size_t n, n_calls, stop_after;
    double logprobs;
    mote_session *cancel;
    mote_gen_result r;
    size_t length;
} heard;

static int on_piece(void *ctx, const mote_piece *p) {
    heard *h = ctx;
    if (h->n + p->n < sizeof h->text) memcpy(h->text + h->n, p->text, p->n);
    h->n += p->n;
    h->text[h->n] = 0;
    h->logprobs += (double)p->logprob * (double)(h->n_calls + 1);
    h->n_calls++;
    bool now = h->stop_after && h->n_calls == h->stop_after;
    if (now && h->cancel) mote_session_cancel(h->cancel);
    return now && !h->cancel;
}

static const char song[] = "the hello world in the hello world in the hello world in the hello";

static void complete(mote_session *s, mote_speculator *sp, mote_sampler *smp, const mote_gen_opts *more, heard *h) {
    mote_error err;
    mote_gen_opts o = *more;
    o.on_piece = on_piece;
    o.ctx = h;
    o.sampler = smp;
    o.speculator = sp;
    h->n = h->n_calls = 0;
    h->logprobs = 0;
    h->r.size = sizeof h->r;
    OK(mote_complete(s, 0, song, sizeof song - 1, &o, &h->r, &err));
    h->length = mote_session_length(s, 0);
}

static void assert_same(const heard *a, const heard *b) {
    assert_string_equal(a->text, b->text);
    assert_int_equal(a->r.finish, b->r.finish);
    assert_int_equal(a->r.n_generated, b->r.n_generated);
    assert_int_equal(a->length, b->length);
    assert_true(a->logprobs >= b->logprobs && a->logprobs <= b->logprobs);
}

static mote_speculator *open_always(mote_session *s, mote_model *draft, size_t n_max) {
    mote_error err;
    mote_speculator *sp;
    mote_spec_opts o = mote_spec_opts_default();
    o.ngram = !draft;
    o.draft = draft;
    o.n_max = n_max;
    o.always = true;
    OK(mote_speculator_open(&sp, s, &o, &err));
    return sp;
}

/* Every place where an answer can end, with guesses around it; one speculator for all of them. */
static void test_endings(void **unused) {
    (void)unused;
    mote_error err;
    static heard a, b, whole;
    mote_session *s;
    mote_sampler *smp;
    mote_sample_opts so = mote_sample_opts_default();
    const mote_logit_bias bias[] = {{280, 9}, {281, 9}, {282, 9}}; /* or n-grams would never come true */
    so.bias = bias;
    so.n_bias = COUNT_OF(bias);
    so.seed = 5;
    so.temp = 0.5f;
    so.logprobs = true;
    so.repeat_penalty = 1.05f;
    OK(mote_session_open(&s, target, NULL, &err));
    OK(mote_sampler_open(&smp, target, &so, &err));
    for (int guesser = 0; guesser < 2; guesser++) {
        mote_speculator *sp = open_always(s, guesser ? target : NULL, 7);
        mote_gen_opts o = mote_gen_opts_default();
        o.n_predict = 60;
        memset(&whole, 0, sizeof whole);
        complete(s, NULL, smp, &o, &whole);
        for (size_t i = 0; i + 3 < whole.n; i += 3) { /* stop strings anywhere */
            const char stop[] = {whole.text[i], whole.text[i + 1], whole.text[i + 2], 0}, *stops[] = {stop};
            o.stops = stops;
            o.n_stops = 1;
            mote_sampler_reset(smp);
            complete(s, NULL, smp, &o, &a);
            mote_sampler_reset(smp);
            complete(s, sp, smp, &o, &b);
            assert_same(&a, &b);
        }
        o.n_stops = 0;
        for (size_t i = 1; i < 20; i++) /* the callback, a cancellation, the limit */
            for (int kind = 0; kind < 3; kind++) {
                a = b = (heard){.stop_after = kind < 2 ? i : 0, .cancel = kind == 1 ? s : NULL};
                o.n_predict = kind == 2 ? i : 60;
                mote_sampler_reset(smp);
                complete(s, NULL, smp, &o, &a);
                mote_sampler_reset(smp);
                complete(s, sp, smp, &o, &b);
                assert_same(&a, &b);
                static const mote_finish expected[] = {MOTE_FINISH_CALLBACK, MOTE_FINISH_CANCELLED, MOTE_FINISH_LENGTH};
                if (whole.r.n_generated > 20) assert_int_equal(b.r.finish, expected[kind]);
            }
        mote_spec_stats st = {.size = sizeof st};
        mote_speculator_get_stats(sp, &st);
        assert_true(st.n_ngram_accepted + st.n_draft_accepted > 50);
        assert_true(st.n_passes < st.n_tokens);
        mote_speculator_close(&sp);
    }
    mote_sampler_close(&smp);
    mote_session_close(&s);
}

/* Tokens that end the answer stand in the prompt, so they are guessed. */
static void test_end_tokens(void **unused) {
    (void)unused;
    mote_error err;
    mote_session *s;
    OK(mote_session_open(&s, target, NULL, &err));
    mote_speculator *sp = open_always(s, NULL, 8);
    size_t ended = 0;
    for (uint64_t seed = 0; seed < 40; seed++) {
        int32_t ids[48];
        mote_gen_result r[2] = {{.size = sizeof *r}, {.size = sizeof *r}};
        size_t length[2];
        const mote_logit_bias bias[] = {{TINY_EOS, 6}, {50, 8}, {51, 8}, {52, 8}};
        mote_sample_opts so = mote_sample_opts_default();
        so.seed = seed;
        so.bias = bias;
        so.n_bias = COUNT_OF(bias);
        so.temp = 2;
        for (size_t i = 0; i < COUNT_OF(ids); i++) ids[i] = i % 4 == 3 ? TINY_EOS : (int32_t)(50 + i % 4);
        for (int with = 0; with < 2; with++) {
            mote_sampler *smp;
            mote_gen_opts o = mote_gen_opts_default();
            OK(mote_sampler_open(&smp, target, &so, &err));
            o.sampler = smp;
            o.n_predict = 60;
            o.speculator = with ? sp : NULL;
            OK(mote_complete_ids(s, 0, ids, COUNT_OF(ids), &o, &r[with], &err));
            length[with] = mote_session_length(s, 0);
            mote_sampler_close(&smp);
        }
        assert_int_equal(r[0].finish, r[1].finish);
        assert_int_equal(r[0].n_generated, r[1].n_generated);
        assert_int_equal(length[0], length[1]);
        ended += r[1].finish == MOTE_FINISH_END;
    }
    assert_true(ended > 10);
    mote_speculator_close(&sp);
    mote_session_close(&s);
}

/* A draft with padding at the end of its vocabulary, on either side, draws and guesses as well. */
static void test_vocabularies(void **unused) {
    (void)unused;
    mote_error err;
    static heard a, b;
    mote_model *wide, *strange;
    mote_speculator *sp;
    mote_spec_opts o = mote_spec_opts_default();
    OK(mote_model_open(&wide, engine, wider, NULL, &err));
    for (int swap = 0; swap < 2; swap++) {
        mote_session *s;
        mote_gen_opts go = mote_gen_opts_default();
        OK(mote_session_open(&s, swap ? wide : target, NULL, &err));
        sp = open_always(s, swap ? target : wide, 4);
        go.n_predict = 50;
        go.ignore_end = true;
        complete(s, NULL, NULL, &go, &a);
        complete(s, sp, NULL, &go, &b);
        assert_same(&a, &b);
        assert_true(b.r.n_drafted >= 30);
        mote_speculator_close(&sp);
        static const struct {
            const char *path, *complaint;
        } bad[] = {{foreign, "token 5 is 'PRE>' in the draft model and '<PRE>' in the model"},
                   {widest, "a draft model must have the model's tokenizer"}};
        for (size_t i = swap; i < COUNT_OF(bad) && !swap; i++) {
            OK(mote_model_open(&strange, engine, bad[i].path, NULL, &err));
            o.draft = strange;
            assert_int_equal(mote_speculator_open(&sp, s, &o, &err), MOTE_E_MISMATCH);
            assert_non_null(strstr(err.message, bad[i].complaint));
            assert_null(sp);
            mote_model_close(&strange);
        }
        mote_session_close(&s);
    }
    mote_model_close(&wide);
}

/* A draft model whose logits are no numbers is left out; a speculator of another session is refused. */
static void test_errors(void **unused) {
    (void)unused;
    mote_error err;
    static heard a, b;
    mote_session *s, *t;
    mote_model *broken;
    mote_gen_opts o = mote_gen_opts_default();
    o.n_predict = 30;
    o.ignore_end = true;
    OK(mote_session_open(&s, target, NULL, &err));
    OK(mote_session_open(&t, target, NULL, &err));
    OK(mote_model_open(&broken, engine, tiny_nan, NULL, &err));
    mote_speculator *sp = open_always(s, broken, 4);
    mote_model_close(&broken); /* is kept open by who uses it */
    complete(s, NULL, NULL, &o, &a);
    complete(s, sp, NULL, &o, &b);
    assert_same(&a, &b);
    assert_int_equal(b.r.n_drafted, 0);
    o.speculator = sp;
    assert_int_equal(mote_complete(t, 0, "hello", 5, &o, NULL, &err), MOTE_E_MISMATCH);
    mote_session_close(&s);
    mote_speculator_close(&sp);
    assert_null(sp);
    mote_speculator_close(&sp);
    mote_spec_opts so = mote_spec_opts_default();
    so.n_max = 0;
    assert_int_equal(mote_speculator_open(&sp, t, &so, &err), MOTE_E_RANGE);
    so.n_max = MOTE_SPEC_MAX + 1;
    assert_int_equal(mote_speculator_open(&sp, t, &so, &err), MOTE_E_RANGE);
    so.n_max = 3;
    so.n_min = 4;
    assert_int_equal(mote_speculator_open(&sp, t, &so, &err), MOTE_E_RANGE);
    so.n_min = 0;
    so.p_min = NAN;
    assert_int_equal(mote_speculator_open(&sp, t, &so, &err), MOTE_E_RANGE);
    assert_int_equal(mote_speculator_open(NULL, t, NULL, &err), MOTE_E_USAGE);
    assert_int_equal(mote_speculator_open(&sp, NULL, NULL, &err), MOTE_E_USAGE);
    mote_session_close(&t);
}

/* The target itself as draft: with the same random numbers it guesses right, at any temperature. */
static void test_coupling(void **unused) {
    (void)unused;
    mote_error err;
    static heard b;
    mote_session *s;
    mote_sampler *smp;
    mote_sample_opts so = mote_sample_opts_default();
    mote_gen_opts o = mote_gen_opts_default();
    so.seed = 1;
    so.temp = 1.5f;
    so.top_k = 0;
    so.repeat_penalty = 1.2f;
    so.dry_multiplier = 0.5f;
    so.xtc_probability = 0.3f;
    so.ignore_end = true;
    o.n_predict = 100;
    OK(mote_session_open(&s, target, NULL, &err));
    OK(mote_sampler_open(&smp, target, &so, &err));
    mote_speculator *sp = open_always(s, target, 6);
    complete(s, sp, smp, &o, &b);
    assert_int_equal(b.r.n_accepted, b.r.n_drafted);
    assert_true(b.r.n_drafted > 70);
    mote_speculator_close(&sp);
    mote_sampler_close(&smp);
    mote_session_close(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ngrams),  cmocka_unit_test(test_ngram_window), cmocka_unit_test(test_choice),
        cmocka_unit_test(test_estimates), cmocka_unit_test(test_ledger),    cmocka_unit_test(test_odds),
        cmocka_unit_test(test_identity), cmocka_unit_test(test_endings),      cmocka_unit_test(test_end_tokens),
        cmocka_unit_test(test_vocabularies), cmocka_unit_test(test_errors),   cmocka_unit_test(test_coupling),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
