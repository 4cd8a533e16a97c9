/* run_spec_test.c: speculation on a tiny model: n-grams against a search by hand, what pays, the same tokens. */
#include "run/spec.h"
#include "spec_props.h"
#include "tiny_model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

static char dir[] = "/tmp/mote-spec-XXXXXX";
static char tiny[64], other[64], tiny_nan[64], foreign[64];
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
    mote_engine_opts o = mote_engine_opts_default();
    o.n_threads = 2;
    return mote_engine_open(&engine, &o, &err) || mote_model_open(&target, engine, tiny, NULL, &err);
}

static int teardown(void **unused) {
    (void)unused;
    mote_model_close(&target);
    mote_engine_close(&engine);
    const char *files[] = {tiny, other, tiny_nan, foreign};
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
    assert_true(tries < 5 + 0.01 * c.spent / 900);
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

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ngrams),  cmocka_unit_test(test_ngram_window), cmocka_unit_test(test_choice),
        cmocka_unit_test(test_estimates), cmocka_unit_test(test_ledger),    cmocka_unit_test(test_odds),
        cmocka_unit_test(test_identity),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
