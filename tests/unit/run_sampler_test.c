/* run_sampler_test.c: the sampling chain against distributions worked out by hand, and its refusals. */
#include "base/rng.h"
#include "run/run.h"
#include "run/sampler.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#define N 4
/* p = 0.5, 0.3, 0.15, 0.05 */
static const float four[N] = {-0.69314718f, -1.2039728f, -1.8971200f, -2.9957323f};

/* Everything off, so that a test turns on what it tests. */
static mote_sample_opts plain(void) {
    mote_sample_opts o = mote_sample_opts_default();
    o.seed = 7;
    o.temp = 1;
    o.top_k = 0;
    o.top_p = 1;
    o.min_p = 0;
    return o;
}

static mote_sampler *open_n(const mote_sample_opts *o, size_t n) {
    mote_sampler *s;
    mote_error err;
    if (sampler_open(&s, n, 512, NULL, o, &err) != MOTE_OK) fail_msg("%s", err.message);
    return s;
}

static int32_t draw(mote_sampler *s, const float *logits) {
    int32_t id = -1;
    mote_error err;
    if (sampler_draw(s, logits, &id, &err) != MOTE_OK) fail_msg("%s", err.message);
    return id;
}

/* Draws often and compares the frequencies with p; what has probability 0 never comes. 5 sigma. */
static void expect_distribution(const mote_sample_opts *o, const float *logits, const double *p, size_t n) {
    enum { DRAWS = 20000 };
    mote_sampler *s = open_n(o, n);
    size_t *count = calloc(n, sizeof *count);
    assert_non_null(count);
    for (int i = 0; i < DRAWS; i++) count[draw(s, logits)]++;
    for (size_t i = 0; i < n; i++) {
        double sigma = sqrt(DRAWS * p[i] * (1 - p[i]));
        if (fabs((double)count[i] - DRAWS * p[i]) > 5 * sigma + (p[i] > 0 && p[i] < 1 ? 1 : 0))
            fail_msg("token %zu came %zu times of %d; expected %g", i, count[i], DRAWS, DRAWS * p[i]);
    }
    free(count);
    sampler_free(s);
}

static void test_plain_draw(void **unused) {
    (void)unused;
    mote_sample_opts o = plain();
    expect_distribution(&o, four, (const double[]){0.5, 0.3, 0.15, 0.05}, N);
}

static void test_top_k(void **unused) {
    (void)unused;
    mote_sample_opts o = plain();
    o.top_k = 2;
    expect_distribution(&o, four, (const double[]){0.625, 0.375, 0, 0}, N);
    o.min_keep = 3;
    expect_distribution(&o, four, (const double[]){0.5 / 0.95, 0.3 / 0.95, 0.15 / 0.95, 0}, N);
}

static void test_top_p(void **unused) {
    (void)unused;
    mote_sample_opts o = plain();
    o.top_p = 0.75f;
    expect_distribution(&o, four, (const double[]){0.625, 0.375, 0, 0}, N);
    o.top_p = 0;
    expect_distribution(&o, four, (const double[]){1, 0, 0, 0}, N);
}

static void test_min_p(void **unused) {
    (void)unused;
    mote_sample_opts o = plain();
    o.min_p = 0.2f; /* at least 0.1 */
    expect_distribution(&o, four, (const double[]){0.5 / 0.95, 0.3 / 0.95, 0.15 / 0.95, 0}, N);
    o.min_p = 1;
    o.min_keep = 2;
    expect_distribution(&o, four, (const double[]){0.625, 0.375, 0, 0}, N);
}

static void test_typical(void **unused) {
    (void)unused;
    /* Entropy 1.142 nats; distances 0.449, 0.062, 0.755, 1.854: the order is 1, 0, 2, 3. */
    mote_sample_opts o = plain();
    o.typical_p = 0.2f;
    expect_distribution(&o, four, (const double[]){0, 1, 0, 0}, N);
    o.typical_p = 0.5f;
    expect_distribution(&o, four, (const double[]){0.625, 0.375, 0, 0}, N);
    o.typical_p = 0.2f;
    o.temp = 0; /* may exclude the likeliest */
    expect_distribution(&o, four, (const double[]){0, 1, 0, 0}, N);
}

static void test_top_n_sigma(void **unused) {
    (void)unused;
    /* mean -1.6975, deviation 0.8593: 1 sigma below the greatest is -1.552. */
    mote_sample_opts o = plain();
    o.top_n_sigma = 1;
    expect_distribution(&o, four, (const double[]){0.625, 0.375, 0, 0}, N);
}

static void test_xtc(void **unused) {
    (void)unused;
    mote_sample_opts o = plain();
    o.xtc_probability = 1;
    o.xtc_threshold = 0.1f;
    expect_distribution(&o, four, (const double[]){0, 0, 0.75, 0.25}, N);
    o.xtc_probability = 0.5f; /* half the draws as above, half untouched */
    expect_distribution(&o, four, (const double[]){0.25, 0.15, 0.45, 0.15}, N);
    o.xtc_threshold = 0.4f; /* one token above it: nothing to exclude */
    expect_distribution(&o, four, (const double[]){0.5, 0.3, 0.15, 0.05}, N);
}

static void test_temperature(void **unused) {
    (void)unused;
    mote_sample_opts o = plain();
    o.temp = 0.5f; /* squares: 0.25, 0.09, 0.0225, 0.0025 of 0.365 */
    expect_distribution(&o, four,
                        (const double[]){0.25 / 0.365, 0.09 / 0.365, 0.0225 / 0.365, 0.0025 / 0.365}, N);
    o.temp = 1e-30f;
    expect_distribution(&o, four, (const double[]){1, 0, 0, 0}, N);
    o.temp = 0;
    expect_distribution(&o, four, (const double[]){1, 0, 0, 0}, N);
}

static void test_dynamic_temperature(void **unused) {
    (void)unused;
    mote_sample_opts o = plain();
    o.temp = 1;
    o.dynatemp_range = 0.5f;
    o.dynatemp_exponent = 2;
    double p[N] = {0.5, 0.3, 0.15, 0.05}, h = 0, sum = 0;
    for (int i = 0; i < N; i++) h -= p[i] * log(p[i]);
    double t = 0.5 + 1.0 * pow(h / log(N), 2);
    for (int i = 0; i < N; i++) sum += p[i] = pow(p[i], 1 / t);
    for (int i = 0; i < N; i++) p[i] /= sum;
    expect_distribution(&o, four, p, N);
}

static void test_mirostat2(void **unused) {
    (void)unused;
    mote_sample_opts o = plain();
    o.mirostat = 2;
    o.mirostat_tau = 1; /* mu begins at 2 bits: p ≥ 0.25 stays */
    o.mirostat_eta = 0;
    expect_distribution(&o, four, (const double[]){0.625, 0.375, 0, 0}, N);
    o.mirostat_eta = 0.1f;
    mote_sampler *s = open_n(&o, N);
    int32_t id = draw(s, four);
    double surprise = -log2(id == 0 ? 0.625 : 0.375);
    assert_true(fabs(s->mu - (2 - (double)o.mirostat_eta * (surprise - 1))) < 1e-6);
    sampler_free(s);
}

static void test_mirostat1_reaches_its_target(void **unused) {
    (void)unused;
    enum { VOCAB = 2000, DRAWS = 3000 };
    static float zipf[VOCAB];
    double z = 0, mean = 0;
    for (int i = 0; i < VOCAB; i++) z += pow(i + 1, -1.1);
    for (int i = 0; i < VOCAB; i++) zipf[i] = (float)log(pow(i + 1, -1.1) / z);
    for (int version = 1; version <= 2; version++) {
        mote_sample_opts o = plain();
        o.mirostat = version;
        o.mirostat_tau = 4;
        mote_sampler *s = open_n(&o, VOCAB);
        mean = 0;
        for (int i = 0; i < DRAWS; i++) {
            int32_t id = draw(s, zipf);
            double left = 0; /* surprise within what was left, as the algorithm measures it */
            for (size_t k = 0; k < s->n; k++) left += exp((double)zipf[s->c[k].id]);
            if (i >= DRAWS / 3) mean += -log2(exp((double)zipf[id]) / left) / (DRAWS - DRAWS / 3);
        }
        if (fabs(mean - 4) > 0.25) fail_msg("mirostat %d: mean surprise %g, target 4", version, mean);
        sampler_free(s);
    }
}

/* ---- what has been said ---- */

static void test_penalties(void **unused) {
    (void)unused;
    const float logits[] = {3, 2, -1, 0.5f};
    mote_sample_opts o = plain();
    o.temp = 0;
    o.repeat_penalty = 2;
    o.frequency_penalty = 0.25f;
    o.presence_penalty = 0.125f;
    o.penalty_last_n = 3;
    mote_sampler *s = open_n(&o, N);
    const int32_t said[] = {1, 0, 2, 0}; /* the 1 is out of reach */
    for (size_t i = 0; i < COUNT_OF(said); i++) sampler_accept(s, said[i]);
    assert_int_equal(draw(s, logits), 1);
    assert_float_equal(s->work[0], 3.0f / 2 - 2 * 0.25f - 0.125f, 0);
    assert_float_equal(s->work[1], 2, 0);
    assert_float_equal(s->work[2], -1.0f * 2 - 0.25f - 0.125f, 0);
    assert_float_equal(s->work[3], 0.5, 0);
    assert_int_equal(draw(s, logits), 0); /* now 2, 0, 1 were said: 0 is at 1.375, 1 and 3 below */
    sampler_free(s);
    /* The same after a step that has left few candidates. */
    o.order = "top_k;penalties";
    o.top_k = 2;
    s = open_n(&o, N);
    for (size_t i = 0; i < COUNT_OF(said); i++) sampler_accept(s, said[i]);
    o.temp = 0;
    assert_int_equal(draw(s, logits), 1);
    sampler_free(s);
}

static void test_history_slides(void **unused) {
    (void)unused;
    mote_sample_opts o = plain();
    o.frequency_penalty = 1;
    o.penalty_last_n = 5;
    mote_sampler *s = open_n(&o, 16);
    int32_t all[200];
    rng r;
    rng_seed(&r, 3, 3);
    for (int i = 0; i < 200; i++) {
        all[i] = (int32_t)rng_below(&r, 16);
        sampler_accept(s, all[i]);
        uint32_t count[16] = {0};
        for (int k = MAX(0, i - 4); k <= i; k++) count[all[k]]++;
        assert_memory_equal(count, s->count, sizeof count);
    }
    sampler_free(s);
}

/* With a prompt before it: the penalties look at what was said since, or at both. */
static void test_prompt_and_answer(void **unused) {
    (void)unused;
    enum { VOCAB = 16, PROMPT = 7, SAID = 9, LAST = 5 };
    for (int both = 0; both < 2; both++) {
        mote_sample_opts o = plain();
        o.frequency_penalty = 1;
        o.penalty_last_n = LAST;
        o.penalty_prompt = both;
        mote_sampler *s = open_n(&o, VOCAB);
        rng r;
        rng_seed(&r, 4, 4);
        for (int turn = 0; turn < 3; turn++) {
            int32_t all[PROMPT + SAID];
            for (int i = 0; i < PROMPT + SAID; i++) all[i] = (int32_t)rng_below(&r, VOCAB);
            sampler_prompt(s, all, PROMPT);
            for (int n = PROMPT; n <= PROMPT + SAID; n++) {
                uint32_t count[VOCAB] = {0};
                for (int k = MAX(both ? 0 : PROMPT, n - LAST); k < n; k++) count[all[k]]++;
                assert_memory_equal(count, s->count, sizeof count);
                assert_int_equal(s->n_hist, MIN(n, LAST));
                if (n < PROMPT + SAID) sampler_accept(s, all[n]);
            }
        }
        sampler_free(s);
    }
}

/* DRY looks at the prompt in any case. */
static void test_dry_sees_the_prompt(void **unused) {
    (void)unused;
    mote_sample_opts o = plain();
    o.temp = 0;
    o.dry_multiplier = 1;
    const float logits[] = {0, 3, 2.5f, 0};
    const int32_t prompt[] = {0, 2, 1, 3, 0, 2};
    mote_sampler *s = open_n(&o, COUNT_OF(logits));
    sampler_prompt(s, prompt, COUNT_OF(prompt));
    assert_int_equal(draw(s, logits), 2);
    sampler_free(s);
}

/* The penalty of each token worked out by comparing every earlier place with the end. */
static void dry_by_hand(const int32_t *said, size_t n, size_t allowed, double mult, double base,
                        double *penalty, size_t vocab) {
    for (size_t t = 0; t < vocab; t++) {
        size_t longest = 0;
        for (size_t i = 1; i < n; i++) { /* said[i] follows a run that ends at i - 1 */
            if (said[i] != (int32_t)t) continue;
            size_t len = 0;
            while (len < i && said[i - 1 - len] == said[n - 1 - len]) len++;
            longest = MAX(longest, len);
        }
        penalty[t] =
            longest >= allowed && longest > 0 ? mult * pow(base, (double)longest - (double)allowed) : 0;
    }
}

static void test_dry(void **unused) {
    (void)unused;
    enum { VOCAB = 5 };
    mote_sample_opts o = plain();
    o.temp = 0;
    o.dry_multiplier = 0.8f;
    o.dry_base = 1.75f;
    o.dry_allowed_length = 2;
    const float logits[VOCAB] = {0};
    rng r;
    rng_seed(&r, 5, 5);
    for (int round = 0; round < 300; round++) {
        mote_sampler *s = open_n(&o, VOCAB);
        int32_t said[40];
        size_t n = 1 + rng_below(&r, 40);
        for (size_t i = 0; i < n; i++) {
            said[i] = (int32_t)rng_below(&r, round % 2 ? 2 : VOCAB);
            sampler_accept(s, said[i]);
        }
        double penalty[VOCAB];
        dry_by_hand(said, n, 2, (double)o.dry_multiplier, (double)o.dry_base, penalty, VOCAB);
        (void)draw(s, logits);
        for (int t = 0; t < VOCAB; t++)
            if (fabs((double)s->work[t] + penalty[t]) > 1e-4 * (1 + penalty[t]))
                fail_msg("round %d, token %d: %g, expected %g", round, t, (double)s->work[t], -penalty[t]);
        sampler_free(s);
    }
}

/* ---- the frame ---- */

static void test_ties_and_bad_logits(void **unused) {
    (void)unused;
    mote_sample_opts o = plain();
    o.temp = 0;
    mote_sampler *s = open_n(&o, N);
    mote_error err;
    int32_t id;
    assert_int_equal(draw(s, (const float[]){1, 2, 2, 2}), 1);
    assert_int_equal(draw(s, (const float[]){-INFINITY, -INFINITY, -3, -INFINITY}), 2);
    assert_int_equal(sampler_draw(s, (const float[]){1, NAN, 2, 3}, &id, &err), MOTE_E_OUTPUT);
    assert_int_equal(sampler_draw(s, (const float[]){1, INFINITY, 2, 3}, &id, &err), MOTE_E_OUTPUT);
    assert_int_equal(sampler_draw(s, (const float[]){-INFINITY, -INFINITY, -INFINITY, -INFINITY}, &id, &err),
                     MOTE_E_OUTPUT);
    assert_int_equal(sampler_draw(s, (const float[]){NAN, NAN, NAN, NAN}, &id, &err), MOTE_E_OUTPUT);
    sampler_free(s);
}

static void test_bias(void **unused) {
    (void)unused;
    const mote_logit_bias bias[] = {{0, -INFINITY}, {3, 10}};
    mote_sample_opts o = plain();
    o.temp = 0;
    o.bias = bias;
    o.n_bias = 2;
    mote_sampler *s = open_n(&o, N);
    assert_int_equal(draw(s, four), 3);
    sampler_free(s);
    o.temp = 1;
    o.n_bias = 1;
    expect_distribution(&o, four, (const double[]){0, 0.6, 0.3, 0.1}, N);
}

static void test_seed_repeats(void **unused) {
    (void)unused;
    mote_sample_opts o = plain();
    mote_sampler *a = open_n(&o, N), *b = open_n(&o, N);
    int32_t first[64];
    size_t differ = 0;
    for (int i = 0; i < 64; i++) {
        first[i] = draw(a, four);
        assert_int_equal(first[i], draw(b, four));
    }
    sampler_reset(a);
    for (int i = 0; i < 64; i++) assert_int_equal(draw(a, four), first[i]);
    sampler_free(b);
    o.seed = 8;
    b = open_n(&o, N);
    for (int i = 0; i < 64; i++) differ += draw(b, four) != first[i];
    assert_true(differ > 0);
    sampler_free(a);
    sampler_free(b);
    o.seed = MOTE_SEED_RANDOM;
    a = open_n(&o, N);
    assert_true(a->seed != MOTE_SEED_RANDOM);
    sampler_free(a);
}

static int by_logit(const void *a, const void *b) {
    const cand *x = a, *y = b;
    if (x->logit != y->logit) return x->logit > y->logit ? -1 : 1;
    return x->id < y->id ? -1 : x->id > y->id;
}

/* Selection without sorting everything gives what sorting everything gives, ties included. */
static void test_selection(void **unused) {
    (void)unused;
    enum { VOCAB = 5000 };
    static float logits[VOCAB];
    static cand sorted[VOCAB];
    rng r;
    rng_seed(&r, 1, 1);
    for (int round = 0; round < 20; round++) {
        for (int i = 0; i < VOCAB; i++) {
            logits[i] = round % 2 ? (float)rng_below(&r, 50) * 0.02f : (float)rng_below(&r, 1000000) * 1e-6f;
            sorted[i] = (cand){logits[i], i, 0};
        }
        qsort(sorted, VOCAB, sizeof *sorted, by_logit);
        mote_sample_opts o = plain();
        o.order = "top_k";
        o.top_k = 1 + (int32_t)rng_below(&r, round % 3 ? 60 : VOCAB);
        mote_sampler *s = open_n(&o, VOCAB);
        (void)draw(s, logits);
        assert_int_equal(s->n, o.top_k);
        for (size_t i = 0; i < s->n; i++) assert_int_equal(s->c[i].id, sorted[i].id);
        sampler_free(s);
        o.order = "top_p";
        o.top_p = 0.3f;
        s = open_n(&o, VOCAB);
        (void)draw(s, logits);
        assert_true(s->n > 256); /* several rounds of ordering */
        for (size_t i = 0; i < s->n; i++) assert_int_equal(s->c[i].id, sorted[i].id);
        sampler_free(s);
    }
}

static void test_order(void **unused) {
    (void)unused;
    mote_error err;
    mote_sampler *s;
    mote_sample_opts o = plain();
    o.temp = 0.5f;
    o.min_p = 0.25f;
    /* min_p before the temperature keeps 0.5, 0.3 and 0.15; after it (0.25 : 0.09 : 0.0225) only two. */
    o.order = "min_p;temperature";
    expect_distribution(&o, four, (const double[]){0.25 / 0.3625, 0.09 / 0.3625, 0.0225 / 0.3625, 0}, N);
    o.order = "temp;min-p";
    expect_distribution(&o, four, (const double[]){0.25 / 0.34, 0.09 / 0.34, 0, 0}, N);
    o.order = "tm";
    expect_distribution(&o, four, (const double[]){0.25 / 0.34, 0.09 / 0.34, 0, 0}, N);
    o.order = "min_p;nonsense";
    assert_int_equal(sampler_open(&s, N, 10, NULL, &o, &err), MOTE_E_USAGE);
    assert_non_null(strstr(err.message, "nonsense"));
    o.order = "min_p;min_p;min_p;min_p;min_p;min_p;min_p;min_p;min_p;min_p;min_p;min_p;min_p;min_p;min_p;min_"
              "p;min_p;min_p;min_p";
    assert_int_equal(sampler_open(&s, N, 10, NULL, &o, &err), MOTE_E_LIMIT);
    assert_null(s);
}

static void test_logprobs(void **unused) {
    (void)unused;
    mote_sample_opts o = plain();
    o.logprobs = true;
    o.n_top = 3;
    o.temp = 0.3f;
    o.top_k = 1;
    mote_sampler *s = open_n(&o, N);
    const float logits[] = {2.3f, 5.0f, 2.3f, -1.0f};
    assert_int_equal(draw(s, logits), 1);
    double z = log(2 * exp(2.3) + exp(5.0) + exp(-1.0));
    assert_true(fabs((double)s->chosen.logprob - (5.0 - z)) < 1e-6);
    assert_int_equal(s->top[0].id, 1);
    assert_int_equal(s->top[1].id, 0);
    assert_int_equal(s->top[2].id, 2);
    assert_true(fabs((double)s->top[2].logprob - (2.3 - z)) < 1e-6);
    sampler_free(s);
}

static void test_refusals(void **unused) {
    (void)unused;
    static const struct {
        const char *name;
        size_t offset;
        float bad;
    } floats[] = {
#define F(f, v) {#f, offsetof(mote_sample_opts, f), v}
        F(temp, -0.1f),
        F(temp, NAN),
        F(temp, INFINITY),
        F(dynatemp_range, -1),
        F(dynatemp_exponent, NAN),
        F(top_p, 1.1f),
        F(top_p, NAN),
        F(top_p, -0.1f),
        F(min_p, 2),
        F(min_p, -1),
        F(typical_p, NAN),
        F(top_n_sigma, NAN),
        F(xtc_probability, 1.5f),
        F(xtc_threshold, -1),
        F(repeat_penalty, 0),
        F(repeat_penalty, -1),
        F(repeat_penalty, NAN),
        F(frequency_penalty, INFINITY),
        F(presence_penalty, NAN),
        F(dry_multiplier, -1),
        F(dry_base, NAN),
        F(mirostat_tau, -1),
        F(mirostat_eta, NAN),
#undef F
    };
    mote_error err;
    mote_sampler *s;
    for (size_t i = 0; i < COUNT_OF(floats); i++) {
        mote_sample_opts o = plain();
        memcpy((char *)&o + floats[i].offset, &floats[i].bad, sizeof(float));
        assert_int_equal(sampler_open(&s, N, 10, NULL, &o, &err), MOTE_E_RANGE);
        if (!strstr(err.message, floats[i].name))
            fail_msg("'%s' does not name %s", err.message, floats[i].name);
        assert_null(s);
    }
    static const struct {
        const char *name;
        size_t offset;
        int32_t bad;
    } ints[] = {
#define I(f, v) {#f, offsetof(mote_sample_opts, f), v}
        I(penalty_last_n, -2), I(penalty_last_n, INT32_MAX),
        I(dry_last_n, -5),     I(dry_allowed_length, -1),
        I(min_keep, -1),       I(mirostat, 3),
        I(mirostat, -1),
#undef I
    };
    for (size_t i = 0; i < COUNT_OF(ints); i++) {
        mote_sample_opts o = plain();
        memcpy((char *)&o + ints[i].offset, &ints[i].bad, sizeof(int32_t));
        assert_int_equal(sampler_open(&s, N, 10, NULL, &o, &err), MOTE_E_RANGE);
        assert_non_null(strstr(err.message, ints[i].name));
    }
    mote_logit_bias bias = {N, 1};
    mote_sample_opts o = plain();
    o.bias = &bias;
    o.n_bias = 1;
    assert_int_equal(sampler_open(&s, N, 10, NULL, &o, &err), MOTE_E_RANGE);
    bias = (mote_logit_bias){0, NAN};
    assert_int_equal(sampler_open(&s, N, 10, NULL, &o, &err), MOTE_E_RANGE);
    o.bias = NULL;
    assert_int_equal(sampler_open(&s, N, 10, NULL, &o, &err), MOTE_E_USAGE);
    o = plain();
    o.n_top = MOTE_SAMPLE_TOP_MAX + 1;
    assert_int_equal(sampler_open(&s, N, 10, NULL, &o, &err), MOTE_E_RANGE);
    assert_int_equal(sampler_open(&s, 0, 10, NULL, &o, &err), MOTE_E_UNSUPPORTED);
}

/* Of any length, with ties, and whatever is no number at any place. */
static void test_argmax(void **unused) {
    (void)unused;
    enum { MOST = 70 };
    mote_error err;
    rng r;
    rng_seed(&r, 5, 5);
    mote_session s = {0};
    for (uint32_t n = 1; n <= MOST; n++) {
        float x[MOST];
        size_t want = 0;
        int32_t id = -1;
        for (size_t i = 0; i < n; i++) x[i] = rng_below(&r, 8) ? (float)rng_below(&r, 9) - 4 : -INFINITY;
        x[rng_below(&r, n)] = 1;
        for (size_t i = 0; i < n; i++) want = x[i] > x[want] ? i : want;
        s.n_vocab = n;
        assert_int_equal(sample_argmax(x, n, &id, &err), MOTE_OK);
        assert_int_equal(id, want);
        assert_int_equal(run_check_logits(&s, x, 1, &err), MOTE_OK);
        x[rng_below(&r, n)] = n % 2 ? NAN : INFINITY;
        assert_int_equal(sample_argmax(x, n, &id, NULL), MOTE_E_OUTPUT);
        assert_int_equal(run_check_logits(&s, x, 1, NULL), MOTE_E_OUTPUT);
    }
    const float none[3] = {-INFINITY, -INFINITY, -INFINITY};
    int32_t id;
    assert_int_equal(sample_argmax(none, 3, &id, NULL), MOTE_E_OUTPUT);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain_draw),
        cmocka_unit_test(test_argmax),
        cmocka_unit_test(test_top_k),
        cmocka_unit_test(test_top_p),
        cmocka_unit_test(test_min_p),
        cmocka_unit_test(test_typical),
        cmocka_unit_test(test_top_n_sigma),
        cmocka_unit_test(test_xtc),
        cmocka_unit_test(test_temperature),
        cmocka_unit_test(test_dynamic_temperature),
        cmocka_unit_test(test_mirostat2),
        cmocka_unit_test(test_mirostat1_reaches_its_target),
        cmocka_unit_test(test_penalties),
        cmocka_unit_test(test_history_slides),
        cmocka_unit_test(test_prompt_and_answer),
        cmocka_unit_test(test_dry_sees_the_prompt),
        cmocka_unit_test(test_dry),
        cmocka_unit_test(test_ties_and_bad_logits),
        cmocka_unit_test(test_bias),
        cmocka_unit_test(test_seed_repeats),
        cmocka_unit_test(test_selection),
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_logprobs),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
