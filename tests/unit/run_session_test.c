/* run_session_test.c: sessions on a tiny model: the same logits however tokens arrive, limits, shifts, files,
 * errors, generation, embeddings, perplexity. */
#include "mote/mote.h"
#include "session_props.h"
#include "tiny_model.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

static char dir[] = "/tmp/mote-session-XXXXXX";
static char tiny[64], tiny_q8[64], tiny_nan[64], bare[64], scratch[64];
static mote_engine *engine;
static mote_model *model;

#define OK(call)                                                                                   \
    do {                                                                                           \
        if ((call) != MOTE_OK) fail_msg("%s: %s", #call, err.message);                             \
    } while (0)

static void write_tiny(char path[64], const char *name, const tiny_opts *o) {
    mote_error err;
    (void)snprintf(path, 64, "%s/%s", dir, name);
    OK(tiny_model_write(path, o, &err));
}

static int setup(void **state) {
    (void)state;
    mote_error err;
    if (!mkdtemp(dir)) return 1;
    write_tiny(tiny, "tiny.gguf", &(tiny_opts){.seed = 1});
    write_tiny(tiny_q8, "q8.gguf", &(tiny_opts){.seed = 1, .type = QUANT_Q8_0, .no_fim = true});
    write_tiny(tiny_nan, "nan.gguf", &(tiny_opts){.seed = 1, .nan_weight = true});
    write_tiny(bare, "bare.gguf", &(tiny_opts){.seed = 1, .no_tokenizer = true});
    (void)snprintf(scratch, sizeof scratch, "%s/seq", dir);
    mote_engine_opts o = mote_engine_opts_default();
    o.n_threads = 2;
    return mote_engine_open(&engine, &o, &err) || mote_model_open(&model, engine, tiny, NULL, &err);
}

static int teardown(void **state) {
    (void)state;
    mote_model_close(&model);
    mote_engine_close(&engine);
    const char *files[] = {tiny, tiny_q8, tiny_nan, bare, scratch};
    for (size_t i = 0; i < COUNT_OF(files); i++) (void)unlink(files[i]);
    return rmdir(dir);
}

static mote_session *open_session(size_t n_ctx, size_t n_seq, bool shift) {
    mote_error err;
    mote_session *s;
    mote_session_opts o = mote_session_opts_default();
    o.n_ctx = n_ctx;
    o.n_seq = n_seq;
    o.context_shift = shift;
    OK(mote_session_open(&s, model, &o, &err));
    return s;
}

/* ---- the same logits ---- */

static void test_properties(void **state) {
    (void)state;
    static const char *const types[] = {"f32", "f16", "bf16", "q8_0", "q4_0"};
    for (size_t i = 0; i < COUNT_OF(types); i++) {
        for (int q = 0; q < 2; q++) {
            mote_error err;
            const props_opts o = {
                .cache_type = types[i], .exact = i % 2, .n_ids = 90, .n_ctx = 100, .seed = i, .quick = i > 1};
            if (session_props(q ? tiny_q8 : tiny, &o, &err) != MOTE_OK)
                fail_msg("%s: %s", types[i], err.message);
        }
    }
}

/* ---- limits and errors ---- */

static void test_context_limits(void **state) {
    (void)state;
    mote_error err;
    int32_t ids[40];
    for (int i = 0; i < 40; i++) ids[i] = 10 + i;
    mote_session *s = open_session(32, 1, false);
    assert_int_equal(mote_session_prompt(s, 0, ids, 33, NULL, &err), MOTE_E_CONTEXT);
    assert_non_null(strstr(err.message, "33"));
    assert_int_equal(mote_session_prompt(s, 0, ids, 0, NULL, &err), MOTE_E_USAGE);
    OK(mote_session_prompt(s, 0, ids, 32, NULL, &err));
    assert_int_equal(mote_session_append(s, 0, ids, 1, &err), MOTE_E_CONTEXT);
    assert_int_equal(mote_session_length(s, 0), 32);
    assert_int_equal(mote_session_append(s, 1, ids, 1, &err), MOTE_E_RANGE);
    OK(mote_session_clear(s, 0, &err));
    assert_null(mote_session_logits(s, 0));
    const int32_t bad[] = {1, TINY_VOCAB}, worse[] = {-1};
    assert_int_equal(mote_session_append(s, 0, bad, 2, &err), MOTE_E_RANGE);
    assert_int_equal(mote_session_prompt(s, 0, worse, 1, NULL, &err), MOTE_E_RANGE);
    assert_int_equal(mote_session_length(s, 0), 0);
    mote_session_close(&s);
    assert_null(s);
}

static void test_bad_options(void **state) {
    (void)state;
    mote_error err;
    mote_session *s;
    mote_session_opts o = mote_session_opts_default();
    o.type_k = "q3_K";
    assert_int_equal(mote_session_open(&s, model, &o, &err), MOTE_E_USAGE);
    o = mote_session_opts_default();
    o.n_seq = 0;
    assert_int_equal(mote_session_open(&s, model, &o, &err), MOTE_E_RANGE);
    o.n_seq = 1;
    o.n_batch = 0;
    assert_int_equal(mote_session_open(&s, model, &o, &err), MOTE_E_RANGE);
    o.n_batch = 1;
    o.n_ctx = SIZE_MAX;
    assert_int_equal(mote_session_open(&s, model, &o, &err), MOTE_E_RANGE);
    o = (mote_session_opts){0};
    assert_int_equal(mote_session_open(&s, model, &o, &err), MOTE_E_USAGE);
    assert_null(s);
    mote_model *no_weights;
    mote_model_opts mo = mote_model_opts_default();
    mo.no_weights = true;
    OK(mote_model_open(&no_weights, engine, tiny, &mo, &err));
    assert_int_equal(mote_session_open(&s, no_weights, NULL, &err), MOTE_E_USAGE);
    int32_t ids[8];
    size_t n;
    OK(mote_tokenize(no_weights, "hello", 5, 0, ids, 8, &n, &err));
    mote_model_close(&no_weights);
    mote_engine *e;
    mote_engine_opts eo = mote_engine_opts_default();
    eo.isa = "z80";
    assert_int_equal(mote_engine_open(&e, &eo, &err), MOTE_E_USAGE);
}

static void test_nan_is_an_error(void **state) {
    (void)state;
    mote_error err;
    mote_model *m;
    mote_session *s;
    const int32_t ids[] = {1, 20, 30};
    OK(mote_model_open(&m, engine, tiny_nan, NULL, &err));
    OK(mote_session_open(&s, m, NULL, &err));
    assert_int_equal(mote_session_prompt(s, 0, ids, 3, NULL, &err), MOTE_E_OUTPUT);
    assert_null(mote_session_logits(s, 0));
    mote_gen_result r = {.size = sizeof r};
    assert_int_equal(mote_complete(s, 0, "hello", 5, NULL, &r, &err), MOTE_E_OUTPUT);
    assert_int_equal(r.finish, MOTE_FINISH_ERROR);
    mote_model_close(&m);
    mote_session_close(&s); /* keeps the model it needs */
}

static void test_shift(void **state) {
    (void)state;
    mote_error err;
    int32_t ids[100];
    for (int i = 0; i < 100; i++) ids[i] = 8 + (i * 7) % 300;
    mote_session *s = open_session(32, 1, true);
    OK(mote_session_prompt(s, 0, ids, 10, NULL, &err));
    for (int i = 10; i < 100; i++) {
        OK(mote_session_append(s, 0, &ids[i], 1, &err));
        assert_in_range(mote_session_length(s, 0), 10, 32);
        assert_non_null(mote_session_logits(s, 0));
        assert_memory_equal(mote_session_tokens(s, 0), ids, 10 * sizeof *ids); /* the prompt stays */
        size_t n = mote_session_length(s, 0);
        assert_memory_equal(mote_session_tokens(s, 0) + 10, ids + i + 1 - (n - 10), (n - 10) * sizeof *ids);
    }
    OK(mote_session_append(s, 0, ids, 90, &err)); /* many at once */
    mote_session_close(&s);
}

/* ---- files ---- */

static char *slurp(const char *path, size_t *n) {
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    static char buffer[1 << 20];
    *n = fread(buffer, 1, sizeof buffer, f);
    (void)fclose(f);
    return buffer;
}

static void spill(const char *path, const char *p, size_t n) {
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(p, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

static void test_hostile_files(void **state) {
    (void)state;
    mote_error err;
    const int32_t ids[] = {1, 20, 30, 40, 50};
    mote_session *s = open_session(32, 1, false), *other = open_session(64, 1, false);
    OK(mote_session_prompt(s, 0, ids, 5, NULL, &err));
    OK(mote_session_save(s, 0, scratch, &err));
    assert_int_equal(mote_session_load(other, 0, scratch, &err), MOTE_E_MISMATCH);
    size_t n;
    char *good = slurp(scratch, &n), *bad = malloc(n + 1);
    assert_non_null(bad);
    rng r;
    rng_seed(&r, 1, 1);
    for (int round = 0; round < 300; round++) {
        memcpy(bad, good, n);
        size_t len = n;
        if (round % 3 == 0) len = rng_below(&r, (uint32_t)n);
        else bad[rng_below(&r, (uint32_t)(round % 3 == 1 ? 140 : n))] ^= (char)(1 << rng_below(&r, 8));
        spill(scratch, bad, len);
        assert_int_not_equal(mote_session_load(s, 0, scratch, &err), MOTE_OK);
        assert_int_equal(mote_session_length(s, 0), 0);
    }
    /* Lies with a checksum that fits. */
    for (size_t at = 8 + 64; at < 8 + 64 + 32 + 4 * 5; at++) {
        if (at >= 8 + 64 + 24 && at < 8 + 64 + 32) continue; /* the size of checkpoints: there are none */
        memcpy(bad, good, n);
        bad[at] ^= (char)0x80;
        sha256 *h = sha256_new();
        char hex[SHA256_HEX];
        sha256_update(h, bad, n - 64);
        sha256_final(h, hex);
        sha256_free(h);
        memcpy(bad + n - 64, hex, 64);
        spill(scratch, bad, n);
        mote_status st = mote_session_load(s, 0, scratch, &err);
        if (at < 8 + 64 + 32 || at % 4 == 3)
            assert_int_not_equal(st, MOTE_OK); /* sizes; ids far out of range */
    }
    spill(scratch, good, n);
    OK(mote_session_load(s, 0, scratch, &err));
    assert_int_equal(mote_session_length(s, 0), 5);
    assert_int_equal(mote_session_load(s, 0, "/nonexistent/x", &err), MOTE_E_NOT_FOUND);
    free(bad);
    mote_session_close(&s);
    mote_session_close(&other);
}

/* ---- generation ---- */

typedef struct heard {
    char text[4096];
    int32_t ids[256];
    size_t n, n_ids, n_calls, stop_after;
    mote_session *cancel;
} heard;

static int on_piece(void *ctx, const mote_piece *p) {
    heard *h = ctx;
    assert_true(utf8_valid(p->text, p->n));
    assert_int_equal(p->text[p->n], 0);
    memcpy(h->text + h->n, p->text, p->n);
    h->n += p->n;
    h->text[h->n] = 0;
    if (p->id >= 0) h->ids[h->n_ids++] = p->id;
    h->n_calls++;
    if (h->cancel && h->n_calls == h->stop_after) mote_session_cancel(h->cancel);
    return !h->cancel && h->stop_after && h->n_calls == h->stop_after;
}

static mote_gen_opts gen(heard *h, size_t n) {
    mote_gen_opts o = mote_gen_opts_default();
    memset(h, 0, sizeof *h);
    o.on_piece = on_piece;
    o.ctx = h;
    o.n_predict = n;
    o.ignore_end = true;
    return o;
}

static void test_generation(void **state) {
    (void)state;
    mote_error err;
    static heard a, b;
    mote_session *s = open_session(0, 1, false);
    mote_session_info info = {.size = sizeof info};
    mote_session_get_info(s, &info);
    assert_int_equal(info.n_ctx, TINY_CTX);
    assert_true(info.total_bytes > info.kv_bytes && info.kv_bytes > 0);
    mote_gen_result r = {.size = sizeof r};
    mote_gen_opts o = gen(&a, 40);
    OK(mote_complete(s, 0, "hello world", 11, &o, &r, &err));
    assert_int_equal(r.finish, MOTE_FINISH_LENGTH);
    assert_int_equal(r.n_generated, 40);
    assert_int_equal(a.n_ids, 40);
    /* The same again, from the cache. */
    o = gen(&b, 40);
    OK(mote_complete(s, 0, "hello world", 11, &o, &r, &err));
    assert_true(r.n_reused + 1 >= r.n_prompt);
    assert_string_equal(a.text, b.text);
    assert_memory_equal(a.ids, b.ids, sizeof a.ids);
    /* The text is what the ids say. */
    mote_detok *d;
    size_t at_text = 0, len;
    const char *part;
    OK(mote_detok_open(&d, model, 0, &err));
    for (size_t i = 0; i <= a.n_ids; i++) {
        if (i < a.n_ids) OK(mote_detok_put(d, a.ids[i], &part, &len, &err));
        else OK(mote_detok_end(d, &part, &len, &err));
        assert_memory_equal(part, a.text + at_text, len);
        at_text += len;
    }
    assert_int_equal(at_text, a.n);
    mote_detok_close(&d);
    /* A stop string: everything before its first appearance, however tokens are cut. */
    assert_true(a.n > 12);
    for (size_t at = 3; at + 4 < a.n; at += 5) {
        char stop[5] = {0};
        size_t from = at;
        while ((a.text[from] & 0xC0) == 0x80) from++; /* a character's beginning */
        memcpy(stop, a.text + from, MIN((size_t)4, a.n - from));
        if (!utf8_valid(stop, strlen(stop))) continue;
        const char *stops[] = {"never said", stop};
        o = gen(&b, 40);
        o.stops = stops;
        o.n_stops = 2;
        OK(mote_complete(s, 0, "hello world", 11, &o, &r, &err));
        assert_int_equal(r.finish, MOTE_FINISH_STOP);
        assert_int_equal(b.n, strstr(a.text, stop) - a.text);
        assert_memory_equal(a.text, b.text, b.n);
    }
    /* The callback ends it; so does cancelling. */
    o = gen(&b, 40);
    b.stop_after = 7;
    OK(mote_complete(s, 0, "hello world", 11, &o, &r, &err));
    assert_int_equal(r.finish, MOTE_FINISH_CALLBACK);
    assert_int_equal(r.n_generated, 7);
    o = gen(&b, 40);
    b.stop_after = 5;
    b.cancel = s;
    OK(mote_complete(s, 0, "hello world", 11, &o, &r, &err));
    assert_int_equal(r.finish, MOTE_FINISH_CANCELLED);
    assert_int_equal(r.n_generated, 5);
    /* To the end of the context. */
    o = gen(&b, 0);
    o.on_piece = NULL;
    OK(mote_complete(s, 0, "hello world", 11, &o, &r, &err));
    assert_int_equal(r.finish, MOTE_FINISH_CONTEXT);
    assert_int_equal(mote_session_length(s, 0), TINY_CTX);
    /* Nothing to continue, too many stop strings. */
    assert_int_equal(mote_complete_ids(s, 0, a.ids, 0, &o, &r, &err), MOTE_E_USAGE);
    const char *empty[] = {""};
    o.stops = empty;
    o.n_stops = 1;
    assert_int_equal(mote_complete(s, 0, "hello", 5, &o, &r, &err), MOTE_E_RANGE);
    mote_session_close(&s);
}

static void test_generation_shifts(void **state) {
    (void)state;
    mote_error err;
    static heard h;
    mote_session *s = open_session(32, 1, true);
    mote_gen_opts o = gen(&h, 100);
    mote_gen_result r = {.size = sizeof r};
    OK(mote_complete(s, 0, "hello world", 11, &o, &r, &err));
    assert_int_equal(r.finish, MOTE_FINISH_LENGTH);
    assert_int_equal(r.n_generated, 100);
    assert_true(r.n_shifted >= 70);
    mote_session_close(&s);
}

static void test_sampled_generation(void **state) {
    (void)state;
    mote_error err;
    static heard a, b;
    mote_session *s = open_session(0, 1, false);
    mote_sample_opts so = mote_sample_opts_default();
    mote_sampler *smp;
    so.seed = 42;
    so.temp = 1.5f;
    so.ignore_end = true;
    so.logprobs = true;
    so.n_top = 3;
    so.repeat_penalty = 1.1f;
    so.dry_multiplier = 0.8f;
    OK(mote_sampler_open(&smp, model, &so, &err));
    mote_gen_opts o = gen(&a, 30);
    o.sampler = smp;
    OK(mote_complete(s, 0, "hello", 5, &o, NULL, &err));
    mote_sampler_reset(smp);
    o = gen(&b, 30);
    o.sampler = smp;
    OK(mote_complete(s, 0, "hello", 5, &o, NULL, &err));
    assert_string_equal(a.text, b.text);
    for (size_t i = 0; i < a.n_ids; i++) assert_false(mote_token_is_end(model, a.ids[i]));
    assert_int_equal(mote_sampler_seed(smp), 42);
    mote_logprob chosen;
    const mote_logprob *top;
    assert_int_equal(mote_sampler_logprobs(smp, &chosen, &top), 3);
    assert_true(chosen.logprob <= top[0].logprob && top[0].logprob >= top[1].logprob);
    mote_sampler_close(&smp);
    mote_session_close(&s);
}

static void test_infill(void **state) {
    (void)state;
    mote_error err;
    static heard h;
    int32_t ids[32];
    size_t n;
    OK(mote_infill_prompt(model, "hello", 5, "world", 5, ids, 32, &n, &err));
    assert_int_equal(ids[0], TINY_BOS);
    assert_int_equal(ids[1], TINY_PRE);
    assert_int_equal(ids[n - 1], TINY_MID);
    size_t suf = 0;
    while (ids[suf] != TINY_SUF) suf++;
    assert_in_range(suf, 3, n - 2);
    mote_session *s = open_session(0, 1, false);
    mote_gen_opts o = gen(&h, 5);
    OK(mote_infill(s, 0, "hello", 5, "world", 5, &o, NULL, &err));
    assert_int_equal(h.n_ids, 5);
    mote_session_close(&s);
    mote_model *without;
    OK(mote_model_open(&without, engine, tiny_q8, NULL, &err));
    assert_int_equal(mote_infill_prompt(without, "a", 1, "b", 1, ids, 32, &n, &err), MOTE_E_UNSUPPORTED);
    mote_model_close(&without);
}

/* ---- evaluation ---- */

static void test_perplexity(void **state) {
    (void)state;
    mote_error err;
    static char text[4000];
    rng r;
    rng_seed(&r, 9, 9);
    for (size_t i = 0; i + 1 < sizeof text; i++) text[i] = "helo wrdtin"[rng_below(&r, 11)];
    mote_session *s = open_session(64, 1, false);
    mote_ppl_opts o = mote_ppl_opts_default();
    mote_ppl_result a = {.size = sizeof a}, b = {.size = sizeof b};
    o.n_ctx = 32;
    o.n_chunks = 5;
    o.save_logits = scratch;
    OK(mote_perplexity(s, text, strlen(text), &o, &a, &err));
    assert_int_equal(a.n_chunks, 5);
    assert_int_equal(a.n_scored, 5 * 15);
    /* By hand: windows, BOS first, the second half scored. */
    static int32_t ids[8000];
    static float rows[32 * TINY_VOCAB];
    size_t n, count = 0;
    double nll = 0;
    OK(mote_tokenize(model, text, strlen(text), MOTE_TOK_BOS, ids, 8000, &n, &err));
    for (size_t c = 0; c < 5; c++) {
        int32_t *w = ids + 32 * c;
        w[0] = TINY_BOS;
        OK(mote_session_clear(s, 0, &err));
        OK(mote_session_append_logits(s, 0, w, 32, rows, &err));
        for (size_t i = 16; i < 31; i++, count++) {
            const float *row = rows + i * TINY_VOCAB;
            double sum = 0;
            for (size_t k = 0; k < TINY_VOCAB; k++) sum += exp((double)row[k]);
            nll += log(sum) - (double)row[w[i + 1]];
        }
    }
    assert_true(fabs(a.ppl - exp(nll / (double)count)) < 1e-4 * a.ppl);
    assert_true(a.ppl_error > 0 && a.ppl_error < a.ppl);
    /* Compared with itself. */
    o.save_logits = NULL;
    o.compare_logits = scratch;
    OK(mote_perplexity(s, text, strlen(text), &o, &b, &err));
    assert_true(fabs(b.kld_mean) < 1e-4 && b.kld_max < 1e-3 && b.same_top > 0.9);
    assert_true(fabs(b.base_ppl - a.ppl) < 1e-2 * a.ppl);
    text[100] = text[100] == 'h' ? 'e' : 'h';
    assert_int_equal(mote_perplexity(s, text, strlen(text), &o, &b, &err), MOTE_E_MISMATCH);
    o.compare_logits = tiny;
    assert_int_equal(mote_perplexity(s, text, strlen(text), &o, &b, &err), MOTE_E_FORMAT);
    o.compare_logits = NULL;
    assert_int_equal(mote_perplexity(s, "hello", 5, &o, &b, &err), MOTE_E_USAGE);
    for (size_t i = 0; i + 4 < sizeof text; i += 4) memcpy(text + i, "</s>", 4);
    for (int special = 0; special < 2; special++) {
        o.special = special;
        OK(mote_perplexity(s, text, strlen(text), &o, &b, &err));
        OK(mote_tokenize(model, text, strlen(text), MOTE_TOK_BOS | (special ? MOTE_TOK_SPECIAL : 0), ids, 8000, &n, &err));
        assert_int_equal(b.n_tokens, n);
        assert_true(special == (n < sizeof text / 3));
    }
    mote_session_close(&s);
}

static void test_embeddings(void **state) {
    (void)state;
    mote_error err;
    const char *texts[] = {"hello", "hello world, hello the world in the world", "w", "hello"};
    size_t len[4], n_tokens[4], d = mote_model_n_embd(model);
    for (int i = 0; i < 4; i++) len[i] = strlen(texts[i]);
    float *all = calloc(4 * d, sizeof *all), *one = calloc(d, sizeof *one);
    assert_non_null(all);
    assert_non_null(one);
    mote_session *s;
    OK(mote_embed_session_open(&s, model, &err));
    for (int kind = MOTE_POOL_MODEL; kind <= MOTE_POOL_LAST; kind++) {
        if (kind == 0) continue;
        mote_embed_opts o = mote_embed_opts_default();
        o.pooling = kind;
        OK(mote_embed(s, texts, len, 4, &o, all, n_tokens, &err));
        assert_memory_equal(all, all + 3 * d, d * sizeof *all);
        for (int i = 0; i < 4; i++) {
            double square = 0;
            for (size_t k = 0; k < d; k++)
                square += (double)all[(size_t)i * d + k] * (double)all[(size_t)i * d + k];
            assert_true(fabs(square - 1) < 1e-5);
            OK(mote_embed(s, &texts[i], &len[i], 1, &o, one, NULL, &err));
            assert_memory_equal(one, all + (size_t)i * d, d * sizeof *one);
        }
    }
    mote_embed_opts o = mote_embed_opts_default();
    o.max_tokens = 4;
    OK(mote_embed(s, texts, len, 4, &o, all, n_tokens, &err));
    assert_int_equal(n_tokens[1], 4);
    o.no_truncate = true;
    assert_int_equal(mote_embed(s, texts, len, 4, &o, all, n_tokens, &err), MOTE_E_CONTEXT);
    mote_session_close(&s);
    free(all);
    free(one);
}

static void test_bench(void **state) {
    (void)state;
    mote_error err;
    mote_bench_sample samples[2] = {{0, 0}, {0, 0}};
    mote_session *s = open_session(64, 2, false);
    mote_bench_opts o = mote_bench_opts_default();
    o.n_prompt = 20;
    o.n_gen = 4;
    o.n_depth = 10;
    o.n_reps = 2;
    o.n_parallel = 2;
    OK(mote_bench(s, &o, samples, &err));
    assert_true(samples[1].prompt_ns > 0 && samples[1].gen_ns > 0);
    o.shared_prompt = true;
    OK(mote_bench(s, &o, samples, &err));
    assert_true(samples[1].prompt_ns > 0 && samples[1].gen_ns > 0);
    o.n_depth = 100;
    assert_int_equal(mote_bench(s, &o, samples, &err), MOTE_E_CONTEXT);
    mote_session_close(&s);
}

/* What a profile of a benchmark holds: every pass that was timed and no other, in rows that add up. */
static void test_profile(void **state) {
    (void)state;
    mote_error err;
    mote_session *s = open_session(64, 2, false);
    mote_bench_sample samples[3];
    mote_bench_opts o = mote_bench_opts_default();
    static mote_profile_phase p;
    assert_int_equal(mote_profile_read(s, MOTE_PROFILE_DECODE, &p, &err), MOTE_E_USAGE);
    OK(mote_profile_start(s, &err));
    o.n_prompt = 20;
    o.n_gen = 5;
    o.n_depth = 10;
    o.n_reps = 3;
    o.n_parallel = 2;
    OK(mote_bench(s, &o, samples, &err));
    OK(mote_profile_read(s, MOTE_PROFILE_PREFILL, &p, &err));
    assert_int_equal(p.passes, 3);
    assert_int_equal(p.tokens, 3 * 2 * 20); /* not those of the depth */
    OK(mote_profile_read(s, MOTE_PROFILE_DECODE, &p, &err));
    assert_int_equal(p.passes, 3 * 5);
    assert_int_equal(p.tokens, 3 * 2 * 5);
    uint64_t ns = 0, down_ops = 0, attention = 0, waits = 0;
    for (size_t i = 0; i < p.n_rows; i++) {
        ns += p.rows[i].ns;
        if (strcmp(p.rows[i].tensor, "ffn_down") == 0) down_ops = p.rows[i].ops;
        if (strcmp(p.rows[i].op, "attention") == 0) attention = p.rows[i].calls;
        if (strcmp(p.rows[i].op, "barriers, waiting") == 0) waits = p.rows[i].calls;
    }
    assert_true(ns > 0 && ns <= p.ns);
    assert_true(waits >= p.passes);
    assert_true(attention >= p.passes * 2); /* layers */
    assert_true(down_ops > 0 && down_ops % (2 * p.tokens * 2) == 0);
    OK(mote_profile_start(s, &err)); /* from zero */
    OK(mote_profile_read(s, MOTE_PROFILE_DECODE, &p, &err));
    assert_int_equal(p.passes + p.n_rows, 0);
    int32_t id = 9;
    OK(mote_session_append(s, 0, &id, 1, &err)); /* any pass, not only a benchmark's */
    OK(mote_profile_read(s, MOTE_PROFILE_DECODE, &p, &err));
    assert_int_equal(p.passes, 1);
    mote_profile_stop(s);
    OK(mote_session_append(s, 0, &id, 1, &err));
    mote_session_close(&s);
}

/* Limits between measured sizes, and beyond them. */
static void test_machine_limits(void **state) {
    (void)state;
    mote_machine m = {.size = sizeof m, .n_threads = 2, .n_memory = 5, .n_peaks = 3};
    const mote_machine_memory memory[] = {{"read", 1 << 20, 2, true, 400},
                                          {"read", 1 << 22, 2, true, 150},
                                          {"read 4 streams", 1 << 22, 2, false, 200}, /* the fastest way counts */
                                          {"read", 1 << 22, 1, true, 900},            /* all threads count */
                                          {"copy", 1 << 22, 2, true, 999}};
    const mote_machine_peak peaks[] = {{"int8", "a", 2, 100}, {"int8", "b", 2, 300}, {"int8", "b", 1, 400}};
    memcpy(m.memory, memory, sizeof memory);
    memcpy(m.peaks, peaks, sizeof peaks);
    assert_float_equal(mote_machine_read_limit(&m, 1 << 20), 400, 1e-9);
    assert_float_equal(mote_machine_read_limit(&m, 1 << 21), 300, 1e-9);
    assert_float_equal(mote_machine_read_limit(&m, 1 << 22), 200, 1e-9);
    assert_float_equal(mote_machine_read_limit(&m, 5), 400, 1e-9);
    assert_float_equal(mote_machine_read_limit(&m, 1e12), 200, 1e-9);
    assert_float_equal(mote_machine_peak_limit(&m, "int8"), 300, 1e-9);
    assert_float_equal(mote_machine_peak_limit(&m, "bf16"), 0, 1e-9);
}

/* What limits are computed from is what a profile of the same passes counts; from there to times by hand. */
static void test_bench_limits(void **state) {
    (void)state;
    enum { REPS = 2 };
    mote_error err;
    mote_session *s = open_session(64, 2, false);
    mote_bench_sample samples[REPS];
    static mote_profile_phase p;
    static mote_machine m = {.size = sizeof m, .n_threads = 2, .n_memory = 1, .n_peaks = 2};
    m.memory[0] = (mote_machine_memory){"read", 1 << 20, 2, true, 4};
    m.peaks[0] = (mote_machine_peak){"int8", "x", 2, 7};
    m.peaks[1] = (mote_machine_peak){"f32", "y", 2, 1e9};
    mote_bench_opts o = mote_bench_opts_default();
    o.n_prompt = 20;
    o.n_gen = 5;
    o.n_depth = 10;
    o.n_reps = REPS;
    o.n_parallel = 2;
    OK(mote_profile_start(s, &err));
    OK(mote_bench(s, &o, samples, &err));
    mote_bench_limit limit = {.size = sizeof limit};
    OK(mote_bench_limits(s, &o, &m, &limit, &err));
    for (int phase = 0; phase < MOTE_PROFILE_PHASES; phase++) {
        double ops = 0, bytes = 0;
        OK(mote_profile_read(s, phase, &p, &err));
        for (size_t i = 0; i < p.n_rows; i++) {
            ops += (double)p.rows[i].ops / REPS;
            bytes += (double)p.rows[i].bytes / REPS;
        }
        const double expected = phase == MOTE_PROFILE_DECODE ? limit.gen_ops : limit.prompt_ops;
        assert_true(fabs(ops - expected) < 1);
        if (phase == MOTE_PROFILE_DECODE) assert_true(fabs(bytes - limit.gen_bytes) < 1);
    }
    assert_true(fabs(limit.gen_ns - limit.gen_bytes / 4) < 1);
    assert_true(limit.gen_by_reading && limit.prompt_by_reading);
    m.peaks[1].gop_s = 1e-3;
    OK(mote_bench_limits(s, &o, &m, &limit, &err));
    assert_true(fabs(limit.prompt_ns / (limit.prompt_ops * 1e3) - 1) < 1e-6); /* float weights: nothing is int8 */
    assert_false(limit.gen_by_reading || limit.prompt_by_reading);
    const double one_prompt = limit.prompt_ns / 2;
    o.shared_prompt = true;
    OK(mote_bench_limits(s, &o, &m, &limit, &err));
    assert_true(fabs(limit.prompt_ns / one_prompt - 1) < 1e-6);
    mote_session_close(&s);
}

static int32_t likeliest(const mote_session *s, size_t seq, size_t n_vocab) {
    const float *row = mote_session_logits(s, seq);
    size_t best = 0;
    assert_non_null(row);
    for (size_t i = 1; i < n_vocab; i++)
        if (row[i] > row[best]) best = i;
    return (int32_t)best;
}

/* Greedy answers to several prompts, decoded together, are those that each gets alone. */
static void test_batched_greedy(void **state) {
    (void)state;
    enum { SEQS = 9, STEPS = 24 };
    mote_error err;
    mote_model *m;
    mote_session *together, *alone;
    mote_session_opts o = mote_session_opts_default();
    o.n_ctx = 64;
    OK(mote_model_open(&m, engine, tiny_q8, NULL, &err));
    OK(mote_session_open(&alone, m, &o, &err));
    o.n_seq = SEQS;
    OK(mote_session_open(&together, m, &o, &err));
    int32_t prompt[SEQS][16], got[SEQS][STEPS];
    mote_step steps[SEQS];
    for (size_t q = 0; q < SEQS; q++) {
        for (size_t i = 0; i < 16; i++) prompt[q][i] = (int32_t)(8 + (q * 37 + i * 11) % 300);
        OK(mote_session_append(together, q, prompt[q], 4 + q, &err)); /* of different lengths */
        got[q][0] = likeliest(together, q, TINY_VOCAB); /* a call's logits last until the next one */
    }
    for (size_t i = 1; i < STEPS; i++) {
        for (size_t q = 0; q < SEQS; q++) steps[q] = (mote_step){q, got[q][i - 1]};
        OK(mote_session_step(together, steps, SEQS, &err));
        for (size_t q = 0; q < SEQS; q++) got[q][i] = likeliest(together, q, TINY_VOCAB);
    }
    for (size_t q = 0; q < SEQS; q++) {
        OK(mote_session_clear(alone, 0, &err));
        OK(mote_session_append(alone, 0, prompt[q], 4 + q, &err));
        for (size_t i = 0; i < STEPS; i++) {
            const int32_t id = likeliest(alone, 0, TINY_VOCAB);
            assert_int_equal(id, got[q][i]);
            OK(mote_session_append(alone, 0, &id, 1, &err));
        }
    }
    mote_session_close(&together);
    mote_session_close(&alone);
    mote_model_close(&m);
}

static void test_model_without_tokenizer(void **state) {
    (void)state;
    mote_error err;
    mote_model *m;
    mote_session *s;
    int32_t ids[4] = {1, 2, 3, 4};
    size_t n;
    OK(mote_model_open(&m, engine, bare, NULL, &err));
    assert_false(mote_model_has_tokenizer(m));
    assert_int_equal(mote_tokenize(m, "x", 1, 0, ids, 4, &n, &err), MOTE_E_NOT_FOUND);
    OK(mote_session_open(&s, m, NULL, &err));
    float *rows = calloc(4 * TINY_VOCAB, sizeof *rows);
    OK(mote_session_append_logits(s, 0, ids, 4, rows, &err));
    free(rows);
    mote_gen_opts o = mote_gen_opts_default();
    o.n_predict = 3;
    mote_gen_result r = {.size = sizeof r};
    OK(mote_complete_ids(s, 0, ids, 4, &o, &r, &err));
    assert_int_equal(r.n_generated, 3);
    mote_session_close(&s);
    mote_model_close(&m);
}

static void test_info(void **state) {
    (void)state;
    mote_error err;
    static char text[65536];
    size_t n;
    OK(mote_model_info(model, MOTE_INFO_TENSORS | MOTE_INFO_TEMPLATE, text, sizeof text, &n, &err));
    json_t *j;
    OK(json_parse(&j, (str){text, n}, "info", &err));
    assert_string_equal(json_string_value(json_object_get(j, "architecture")), "llama");
    assert_int_equal(json_array_size(json_object_get(j, "tensors")), 21);
    assert_int_equal(json_get_int(json_object_get(j, "sizes"), "n_layer", 0), 2);
    assert_non_null(json_object_get(j, "template_text"));
    json_decref(j);
    assert_int_equal(mote_token_by_role(model, "fim_mid"), TINY_MID);
    assert_int_equal(mote_token_by_text(model, "<|im_end|>", 10), TINY_IM_END);
    assert_true(mote_token_is_end(model, TINY_EOS));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_properties),
        cmocka_unit_test(test_context_limits),
        cmocka_unit_test(test_bad_options),
        cmocka_unit_test(test_nan_is_an_error),
        cmocka_unit_test(test_shift),
        cmocka_unit_test(test_hostile_files),
        cmocka_unit_test(test_generation),
        cmocka_unit_test(test_generation_shifts),
        cmocka_unit_test(test_sampled_generation),
        cmocka_unit_test(test_infill),
        cmocka_unit_test(test_perplexity),
        cmocka_unit_test(test_embeddings),
        cmocka_unit_test(test_bench),
        cmocka_unit_test(test_profile),
        cmocka_unit_test(test_machine_limits),
        cmocka_unit_test(test_bench_limits),
        cmocka_unit_test(test_batched_greedy),
        cmocka_unit_test(test_model_without_tokenizer),
        cmocka_unit_test(test_info),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
