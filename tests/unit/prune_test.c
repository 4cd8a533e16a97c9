/* prune_test.c: what is taken out, and that nothing else changed. Logits are compared where they must be the same. */
#include "../tiny_model.h"
#include "compress/pruning.h"
#include "train/net.h"

#include <dirent.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>
/* cmocka wants these first */
#include <cmocka.h>

#include "../report.h"
#include "ok.h"

static char dir[] = "/tmp/mote_prune_XXXXXX", source[64], result[64];
static char text[6000];
static pool *threads;

/* Loads a tensor as floats; the caller frees. */
static float *floats(const model_file *f, const char *name) {
    const tensor_info *t = model_file_find_tensor(f, name);
    assert_non_null(t);
    float *x = NULL;
    OK(prune_floats(t, &x, &e_));
    return x;
}

/* Rows of logits after ids, exactly. */
static void logits_of(const char *path, const int32_t *ids, size_t n, float *out, size_t *n_vocab) {
    model *m = NULL;
    state *s = NULL;
    OK(model_open(&m, path, NULL, threads, &e_));
    const state_opts so = {.n_ctx = 64, .n_seq = 1, .n_batch = 64, .k_type = QUANT_F32, .v_type = QUANT_F32, .exact = true};
    OK(state_open(&s, m, &so, threads, &e_));
    int32_t want[64];
    for (size_t i = 0; i < n; i++) want[i] = (int32_t)i;
    const model_seg seg = {.n = n};
    *n_vocab = model_get_info(m)->n_vocab;
    OK(model_forward(s, &(model_batch){.ids = ids, .n = n, .segs = &seg, .n_segs = 1, .want = want, .n_want = n, .logits = out}, &e_));
    state_close(&s);
    model_close(&m);
}

static double difference(const char *a, const char *b) {
    static const int32_t ids[] = {1, 270, 275, 280, 265, 290, 266, 271, 284, 292};
    static float x[10 * 600], y[10 * 600];
    size_t nx, ny;
    double diff = 0, all = 0;
    logits_of(a, ids, 10, x, &nx);
    logits_of(b, ids, 10, y, &ny);
    assert_int_equal(nx, ny);
    for (size_t i = 0; i < 10 * nx; i++) {
        diff += pow((double)x[i] - (double)y[i], 2);
        all += pow((double)x[i], 2);
    }
    return diff / all;
}

static mote_status pruned(const mote_prune_opts *o, mote_prune_report *r, mote_error *err) {
    mote_prune_opts with = *o;
    with.size = sizeof with;
    if (!with.text) with.text = text, with.n_text = sizeof text - 1;
    if (!with.n_threads) with.n_threads = 2;
    return compress_prune(source, result, &with, r, err);
}

static void prune_and(const mote_prune_opts *o, bool smaller) {
    mote_prune_report r = {.size = sizeof r};
    OK(pruned(o, &r, &e_));
    assert_true((!smaller || r.params_to < r.params_from) && r.text[0]);
    json_t *j = json_loads(r.json, 0, NULL);
    assert_non_null(j);
    json_decref(j);
    compress_prune_report_free(&r);
}

static void prune_ok(const mote_prune_opts *o) { prune_and(o, true); }
static void prune_ok_same(const mote_prune_opts *o) { prune_and(o, false); }

static void tiny(quant_type type) { OK(tiny_model_write(source, &(tiny_opts){.type = type, .seed = 7}, &e_)); }

/* ---- dynamic ---- */
/* Rows of logits after ids, `step` tokens at a time, with a share of neurons left out. */
static void logits_by(const char *path, float share, bool exact, size_t step, pool *on, float *out) {
    static const int32_t ids[12] = {1, 270, 275, 280, 265, 290, 266, 271, 284, 292, 277, 281};
    model *m = NULL;
    state *s = NULL;
    OK(model_open(&m, path, &(model_opts){.dynamic = share}, on, &e_));
    const state_opts so = {.n_ctx = 64, .n_seq = 1, .n_batch = 64, .k_type = QUANT_F32, .v_type = QUANT_F32, .exact = exact};
    OK(state_open(&s, m, &so, on, &e_));
    const size_t n_vocab = model_get_info(m)->n_vocab;
    for (size_t at = 0; at < COUNT_OF(ids); at += step) {
        int32_t want[12];
        const size_t n = MIN(step, COUNT_OF(ids) - at);
        for (size_t i = 0; i < n; i++) want[i] = (int32_t)i;
        const model_seg seg = {.pos0 = at, .n = n};
        OK(model_forward(s, &(model_batch){.ids = ids + at, .n = n, .segs = &seg, .n_segs = 1, .want = want, .n_want = n, .logits = out + at * n_vocab}, &e_));
    }
    state_close(&s);
    model_close(&m);
}

/* Left out or not is a matter of the token alone: the same bits one by one, three by three, at once, on one thread or two; with none left
 * out what the source gives, with some something else, in every number format. */
static void neurons_are_left_out_token_by_token(void **st) {
    (void)st;
    static const quant_type types[] = {QUANT_F32, QUANT_Q4_0, QUANT_Q8_0};
    static float plain[12 * 600], ref[12 * 600], x[12 * 600];
    pool *one;
    OK(pool_open(&one, 1, &e_));
    for (size_t t = 0; t < COUNT_OF(types); t++) {
        tiny(types[t]);
        prune_ok_same(&(mote_prune_opts){.dynamic = 0.5, .n_tokens = 1024});
        if (t == 0) assert_true(difference(source, result) > 1e-12); /* by default as the file says */
        for (int exact = 0; exact < 2; exact++) {
            logits_by(result, -1, exact, 12, threads, plain);
            logits_by(result, 0.5f, exact, 12, threads, ref);
            assert_true(memcmp(plain, ref, sizeof ref) != 0);
            for (size_t step = 1; step <= 3; step += 2) {
                logits_by(result, 0.5f, exact, step, threads, x);
                assert_memory_equal(x, ref, sizeof ref);
                logits_by(result, 0, exact, step, one, x);
                assert_memory_equal(x, ref, sizeof ref);
            }
        }
    }
    tiny(QUANT_F32);
    logits_by(source, -1, true, 12, threads, ref);
    prune_ok_same(&(mote_prune_opts){.dynamic = 0.5, .n_tokens = 1024});
    logits_by(result, -1, true, 12, threads, plain);
    double diff = 0, all = 0;
    for (size_t i = 0; i < COUNT_OF(ref); i++) {
        diff += pow((double)ref[i] - (double)plain[i], 2);
        all += pow((double)ref[i], 2);
    }
    assert_true(diff < 1e-10 * all); /* another order of the same neurons */
    pool_close(&one);
}

static void what_cannot_be_left_out_is_refused(void **st) {
    (void)st;
    mote_prune_report r = {.size = sizeof r};
    model *m = NULL;
    mote_error e;
    tiny(QUANT_F32);
    assert_int_equal(model_open(&m, source, &(model_opts){.dynamic = 0.3f}, threads, &e), MOTE_E_UNSUPPORTED);
    assert_int_equal(pruned(&(mote_prune_opts){.dynamic = 1.5}, &r, &e), MOTE_E_RANGE);
    assert_int_equal(pruned(&(mote_prune_opts){.dynamic = 0.3, .dynamic_by = "luck"}, &r, &e), MOTE_E_USAGE);
    assert_int_equal(pruned(&(mote_prune_opts){.dynamic = 0.3, .upcycle = 4}, &r, &e), MOTE_E_UNSUPPORTED);
    prune_ok_same(&(mote_prune_opts){.dynamic = 0.5, .n_tokens = 1024});
    model_file *f;
    model_edit *ed;
    OK(model_file_open(&f, result, 0, &e_)); /* a file whose list is too short */
    OK(edit_open(&ed, f, &e_));
    const kv one = {.key = STR("mote.dynamic.scales"), .type = KV_ARRAY, .elem = KV_F32, .count = 1, .elems = (const unsigned char *)"\0\0\0"};
    OK(edit_set_kv(ed, &one, &e_));
    OK(edit_write(ed, result, &e_));
    edit_close(&ed);
    model_file_close(&f);
    assert_int_equal(model_open(&m, result, NULL, threads, &e), MOTE_E_FORMAT);
}

/* ---- depth ---- */
static void named_layers_go(void **st) {
    (void)st;
    tiny(QUANT_Q8_0);
    prune_ok(&(mote_prune_opts){.layers = "0"});
    model_file *a, *b;
    uint32_t n;
    OK(model_file_open(&a, source, 0, &e_));
    OK(model_file_open(&b, result, 0, &e_));
    OK(kv_get_u32(b, "llama.block_count", &n, 0, &e_));
    assert_int_equal(n, 1);
    assert_int_equal(model_file_n_tensors(a) - 9, model_file_n_tensors(b));
    const tensor_info *x = model_file_find_tensor(a, "blk.1.ffn_down.weight"), *y = model_file_find_tensor(b, "blk.0.ffn_down.weight");
    assert_int_equal(x->size, y->size);
    assert_memory_equal(x->data, y->data, x->size);
    model_file_close(&a);
    model_file_close(&b);
}

/* A layer that adds nothing is the one that every measure finds. */
static void a_layer_without_effect_is_found(void **st) {
    (void)st;
    static const char *const by[] = {"influence", "perplexity"};
    tiny(QUANT_F32);
    model_file *f;
    model_edit *e;
    OK(model_file_open(&f, source, 0, &e_));
    OK(edit_open(&e, f, &e_));
    static float zero[64 * 128];
    OK(edit_put(e, STR("blk.0.attn_output.weight"), QUANT_F32, 2, (uint64_t[]){64, 64}, zero, NULL, &e_));
    OK(edit_put(e, STR("blk.0.ffn_down.weight"), QUANT_F32, 2, (uint64_t[]){128, 64}, zero, NULL, &e_));
    OK(edit_write(e, source, &e_));
    edit_close(&e);
    model_file_close(&f);
    for (int i = 0; i < 2; i++) {
        prune_ok(&(mote_prune_opts){.n_layers = 1, .depth_by = by[i], .n_tokens = 256});
        if (i == 0) assert_true(difference(source, result) < 1e-12);
    }
}

static void arrays_of_layers_lose_the_same_elements(void **st) {
    (void)st;
    tiny(QUANT_F32);
    model_file *f;
    model_edit *e;
    const int32_t ff[] = {128, 128}, other_array[] = {1, 2, 3};
    OK(model_file_open(&f, source, 0, &e_));
    OK(edit_open(&e, f, &e_));
    OK(edit_set_kv(e, &(kv){.key = STR("llama.feed_forward_length"), .type = KV_ARRAY, .elem = KV_I32, .count = 2,
                            .elems = (const unsigned char *)ff}, &e_));
    OK(edit_set_kv(e, &(kv){.key = STR("llama.other"), .type = KV_ARRAY, .elem = KV_I32, .count = 3,
                            .elems = (const unsigned char *)other_array}, &e_));
    OK(edit_write(e, source, &e_));
    edit_close(&e);
    model_file_close(&f);
    prune_ok(&(mote_prune_opts){.layers = "1"});
    OK(model_file_open(&f, result, 0, &e_));
    assert_int_equal(model_file_find(f, "llama.feed_forward_length")->count, 1);
    assert_int_equal(model_file_find(f, "llama.other")->count, 3);
    model_file_close(&f);
}

/* ---- width ---- */
/* Neurons whose output nobody reads, and heads, are found by their weights; without them nothing changes. */
static void what_nobody_reads_goes_first(void **st) {
    (void)st;
    tiny(QUANT_F32);
    model_file *f;
    model_edit *e;
    OK(model_file_open(&f, source, 0, &e_));
    OK(edit_open(&e, f, &e_));
    float *down[2], *up[2];
    for (int l = 0; l < 2; l++) {
        char name[64];
        (void)snprintf(name, sizeof name, "blk.%d.ffn_down.weight", l);
        down[l] = floats(f, name);
        for (size_t i = 0; i < 64 * 128; i++)
            if (i % 128 % 4 == (size_t)l) down[l][i] = 0;
        OK(edit_put(e, str_of(name), QUANT_F32, 2, (uint64_t[]){128, 64}, down[l], NULL, &e_));
        (void)snprintf(name, sizeof name, "blk.%d.ffn_up.weight", l);
        up[l] = floats(f, name);
        for (size_t i = 0; i < 64 * 128; i++)
            if (i / 64 % 4 == (size_t)l) up[l][i] = 0; /* for minitron, which asks for activations alone */
        OK(edit_put(e, str_of(name), QUANT_F32, 2, (uint64_t[]){64, 128}, up[l], NULL, &e_));
    }
    OK(edit_write(e, source, &e_));
    edit_close(&e);
    model_file_close(&f);
    static const char *const by[] = {"minitron", "contribution"};
    for (int i = 0; i < 4; i++) {
        prune_ok(&(mote_prune_opts){.n_ff = 96, .width_by = by[i % 2], .n_tokens = 512, .repair = i >= 2});
        assert_true(difference(source, result) < (i < 2 ? 1e-10 : 1e-3));
    }
    prune_ok(&(mote_prune_opts){.n_ff = 96, .width_by = "random"});
    assert_true(difference(source, result) > 1e-3);
    for (int l = 0; l < 2; l++) mem_free_aligned(down[l]), mem_free_aligned(up[l]);
}

/* Every size at once: the file opens and its shapes are those of its keys (the engine checks). */
static void all_sizes_shrink_together(void **st) {
    (void)st;
    tiny(QUANT_Q8_0);
    prune_ok(&(mote_prune_opts){.n_embd = 32, .n_ff = 64, .n_head = 1, .n_tokens = 256, .n_layers = 1, .depth_by = "last", .n_vocab = 290});
    model_file *f;
    OK(model_file_open(&f, result, 0, &e_));
    const tensor_info *o = model_file_find_tensor(f, "blk.0.attn_output.weight");
    assert_int_equal(o->ne[0], 32); /* one head of 32 */
    assert_int_equal(o->ne[1], 32);
    assert_int_equal(model_file_find(f, "llama.attention.key_length")->i, 32);
    assert_int_equal(model_file_find_tensor(f, "token_embd.weight")->ne[1], 290);
    assert_int_equal(o->type, QUANT_Q8_0);
    model_file_close(&f);
}

static void the_number_of_threads_changes_nothing(void **st) {
    (void)st;
    tiny(QUANT_Q8_0);
    static unsigned char *first;
    size_t n = 0;
    for (int i = 1; i <= 3; i++) {
        prune_ok(&(mote_prune_opts){.n_ff = 64, .n_head = 1, .n_tokens = 512, .repair = true, .n_threads = i});
        file_map m;
        OK(file_open(&m, result, FILE_READ, &e_));
        if (i == 1) {
            first = malloc(m.n);
            n = m.n;
            memcpy(first, m.p, n);
        } else {
            assert_int_equal(n, m.n);
            assert_memory_equal(first, m.p, n);
        }
        file_close(&m);
    }
    free(first);
}

static void budgets_are_met_or_refused(void **st) {
    (void)st;
    tiny(QUANT_F32);
    mote_prune_report r = {.size = sizeof r};
    mote_error e;
    for (int i = 0; i < 2; i++) {
        OK(pruned(&(mote_prune_opts){.ratio = 0.2, .axes = i ? "ff,layers" : NULL, .n_tokens = 256, .depth_by = "influence", .divisor = 8}, &r, &e_));
        assert_true(r.params_to <= (uint64_t)(0.8 * (double)r.params_from));
        assert_true(i || r.params_to > (uint64_t)(0.75 * (double)r.params_from));
        compress_prune_report_free(&r);
    }
    (void)unlink(result);
    assert_int_equal(pruned(&(mote_prune_opts){.max_params = 1000, .n_tokens = 256}, &r, &e), MOTE_E_RANGE);
    assert_non_null(strstr(e.message, "the least is"));
    assert_int_equal(access(result, F_OK), -1);
}

/* Columns that are sums of others lose nothing when the others take their place. */
static void least_squares_make_up_for_what_can_be_made_up(void **st) {
    (void)st;
    enum { N = 100, K = 70, T = 500, ROWS = 5 };
    static float x[T][N], gram[N * N], w[ROWS * N], fitted[ROWS * K];
    uint32_t keep[K];
    rng r;
    rng_seed(&r, 4, 4);
    for (int t = 0; t < T; t++)
        for (int i = 0; i < N; i++) {
            x[t][i] = (float)rng_double(&r) - 0.5f;
            if (i >= K) x[t][i] = 0.5f * x[t][i - K] + x[t][i - K + 1] + 0.01f * x[t][i];
        }
    for (int t = 0; t < T; t++)
        for (int i = 0; i < N; i++)
            for (int j = 0; j < N; j++) gram[i * N + j] += x[t][i] * x[t][j];
    for (int i = 0; i < ROWS * N; i++) w[i] = (float)rng_double(&r) - 0.5f;
    for (uint32_t i = 0; i < K; i++) keep[i] = i;
    tiny(QUANT_F32);
    prune p = {.pool = threads};
    OK(model_open(&p.m, source, NULL, threads, &e_));
    OK(prune_least_squares(&p, gram, N, keep, K, w, ROWS, fitted, &e_));
    model_close(&p.m);
    double cut = 0, fit = 0;
    for (int t = 0; t < T; t++)
        for (int o = 0; o < ROWS; o++) {
            double y = 0, a = 0, b = 0;
            for (int i = 0; i < N; i++) y += (double)(w[o * N + i] * x[t][i]);
            for (int i = 0; i < K; i++) a += (double)(w[o * N + i] * x[t][i]), b += (double)(fitted[o * K + i] * x[t][i]);
            cut += (y - a) * (y - a);
            fit += (y - b) * (y - b);
        }
    assert_true(fit < 0.1 * cut);
}

/* ---- heads ---- */
/* Two key/value heads, of which the second is the first with its pairs turned and its values mixed. */
static void write_two_alike(float by) {
    tiny(QUANT_F32);
    model_file *f;
    model_edit *e;
    OK(model_file_open(&f, source, 0, &e_));
    OK(edit_open(&e, f, &e_));
    float *k[2], *v[2];
    for (int l = 0; l < 2; l++) {
        char name[64];
        (void)snprintf(name, sizeof name, "blk.%d.attn_k.weight", l);
        float *one = floats(f, name);
        k[l] = mem_alloc_aligned(64 * 64 * sizeof(float));
        memcpy(k[l], one, 32 * 64 * sizeof(float));
        for (size_t i = 0; i < 16; i++) {
            float c = by * cosf((float)i), s = by * sinf((float)i);
            for (size_t j = 0; j < 64; j++) {
                float a = one[2 * i * 64 + j], b = one[(2 * i + 1) * 64 + j];
                k[l][(32 + 2 * i) * 64 + j] = c * a - s * b;
                k[l][(33 + 2 * i) * 64 + j] = s * a + c * b;
            }
        }
        OK(edit_put(e, str_of(name), QUANT_F32, 2, (uint64_t[]){64, 64}, k[l], NULL, &e_));
        mem_free_aligned(one);
        (void)snprintf(name, sizeof name, "blk.%d.attn_v.weight", l);
        one = floats(f, name);
        v[l] = mem_alloc_aligned(64 * 64 * sizeof(float));
        memcpy(v[l], one, 32 * 64 * sizeof(float));
        for (size_t i = 0; i < 32; i++)
            for (size_t j = 0; j < 64; j++) v[l][(32 + i) * 64 + j] = one[(31 - i) * 64 + j] - 0.5f * one[i * 64 + j];
        OK(edit_put(e, str_of(name), QUANT_F32, 2, (uint64_t[]){64, 64}, v[l], NULL, &e_));
        mem_free_aligned(one);
    }
    OK(edit_set_u32(e, "llama.attention.head_count_kv", 2, &e_));
    OK(edit_write(e, source, &e_));
    edit_close(&e);
    model_file_close(&f);
    for (int l = 0; l < 2; l++) mem_free_aligned(k[l]), mem_free_aligned(v[l]);
}

static void heads_that_differ_by_a_turn_merge_without_loss(void **st) {
    (void)st;
    write_two_alike(0.7f);
    prune_ok(&(mote_prune_opts){.n_merge_kv = 1, .n_tokens = 512});
    double aligned = difference(source, result);
    prune_ok(&(mote_prune_opts){.n_merge_kv = 1, .merge_by = "mean"});
    double mean = difference(source, result);
    if (!(aligned < 1e-5)) fail_msg("aligned %g, mean %g", aligned, mean);
    assert_true(mean > 1e-3 && mean > 100 * aligned);
    mote_prune_report r = {.size = sizeof r};
    mote_error e;
    assert_int_equal(pruned(&(mote_prune_opts){.n_merge_kv = 3}, &r, &e), MOTE_E_RANGE);
}

/* ---- words ---- */
static void a_trimmed_vocabulary_takes_every_text(void **st) {
    (void)st;
    static const char *const hard[] = {"", " ", "  a  ", "hello world the in", "\xE6\x97\xA5\xE6\x9C\xAC \xC3\xA9", "\n\t\r", "naïve Ω 𝄞 \x01",
                                       "<|im_start|>hello<unk>", "\xFF\xFE broken", "wor ld ello"};
    static const char *const by[] = {"frequency", "first"};
    tiny(QUANT_F32);
    for (int b = 0; b < 2; b++) {
        prune_ok(&(mote_prune_opts){.n_vocab = 280, .vocab_by = by[b]});
        model_file *f, *src;
        tok_vocab *v, *old;
        OK(model_file_open(&f, result, 0, &e_));
        OK(model_file_open(&src, source, 0, &e_));
        OK(tok_open(&v, f, NULL, &e_));
        OK(tok_open(&old, src, NULL, &e_));
        assert_int_equal(tok_count(v), 280);
        for (int r = 0; r < TOK_ROLES; r++) { /* roles are the same texts */
            int32_t id = tok_id(v, (tok_role)r), was = tok_id(old, (tok_role)r);
            assert_int_equal(id < 0, was < 0);
            if (id >= 0) assert_true(str_eq(tok_text(v, id), tok_text(old, was)));
        }
        for (size_t i = 0; i < COUNT_OF(hard); i++) {
            tok_ids ids = {0};
            buf back;
            buf_init(&back, 1024);
            OK(tok_encode(v, str_of(hard[i]), 0, &ids, &e_));
            OK(tok_detokenize(v, ids.p, ids.n, TOK_TRIM, &back, &e_));
            assert_true(str_eq(buf_str(&back), str_of(hard[i])));
            for (size_t k = 0; k < ids.n; k++) assert_true(ids.p[k] >= 0 && ids.p[k] < 280);
            buf_free(&back);
            tok_ids_free(&ids);
        }
        tok_close(&v);
        tok_close(&old);
        model_file_close(&f);
        model_file_close(&src);
    }
}

/* The rows that stay are the same: so are the logits of the tokens that stay. */
static void tokens_that_stay_keep_their_logits(void **st) {
    (void)st;
    tiny(QUANT_Q8_0);
    prune_ok(&(mote_prune_opts){.n_vocab = 290});
    model_file *f, *src;
    tok_vocab *v, *old;
    OK(model_file_open(&f, result, 0, &e_));
    OK(model_file_open(&src, source, 0, &e_));
    OK(tok_open(&v, f, NULL, &e_));
    OK(tok_open(&old, src, NULL, &e_));
    int32_t ids[6], was[6], map[290];
    static float x[6 * 600], y[6 * 600];
    size_t nx, ny;
    for (int32_t i = 0; i < 290; i++) {
        map[i] = tok_find(old, tok_text(v, i));
        assert_true(map[i] >= 0);
    }
    for (int i = 0; i < 6; i++) {
        ids[i] = 289 - 3 * i;
        was[i] = map[ids[i]];
    }
    logits_of(result, ids, 6, y, &ny);
    logits_of(source, was, 6, x, &nx);
    for (size_t t = 0; t < 6; t++)
        for (size_t i = 0; i < ny; i++) assert_true(fabsf(y[t * ny + i] - x[t * nx + (size_t)map[i]]) < 1e-4f);
    tok_close(&v);
    tok_close(&old);
    model_file_close(&f);
    model_file_close(&src);
}

/* ---- sharing ---- */
/* Layer 1's matrices are layer 0's and something of rank 2. */
static void write_alike(void) {
    static const char *const names[] = {"attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"};
    float *x[COUNT_OF(names)];
    model_file *f;
    model_edit *e;
    tiny(QUANT_F32);
    OK(model_file_open(&f, source, 0, &e_));
    OK(edit_open(&e, f, &e_));
    for (size_t k = 0; k < COUNT_OF(names); k++) {
        char from[64], to[64];
        (void)snprintf(from, sizeof from, "blk.0.%s.weight", names[k]);
        (void)snprintf(to, sizeof to, "blk.1.%s.weight", names[k]);
        const tensor_info *t = model_file_find_tensor(f, from);
        x[k] = floats(f, from);
        for (size_t i = 0; i < t->ne[0] * t->ne[1]; i++) {
            float row = (float)(i / t->ne[0]), col = (float)(i % t->ne[0]);
            x[k][i] += 0.1f * sinf(row) * cosf(col) + 0.05f * cosf(2 * row) * sinf(3 * col);
        }
        OK(edit_put(e, str_of(to), QUANT_F32, 2, t->ne, x[k], NULL, &e_));
    }
    OK(edit_write(e, source, &e_));
    edit_close(&e);
    model_file_close(&f);
    for (size_t k = 0; k < COUNT_OF(names); k++) mem_free_aligned(x[k]);
}

static void layers_share_a_block_and_add_to_it(void **st) {
    (void)st;
    write_alike();
    prune_ok(&(mote_prune_opts){.share = "0-1", .share_rank = 4, .n_tokens = 256});
    double with = difference(source, result);
    model_file *f;
    OK(model_file_open(&f, result, 0, &e_)); /* every layer has tensors again, and nothing else is seen of it */
    assert_null(model_file_find(f, "mote.share.layers"));
    assert_null(model_file_find_tensor(f, "blk.0.attn_q.weight.share_a"));
    assert_non_null(model_file_find_tensor(f, "blk.1.ffn_down.weight"));
    model_edit *e;
    char whole[80];
    (void)snprintf(whole, sizeof whole, "%s/whole.gguf", dir);
    OK(edit_open(&e, f, &e_));
    OK(edit_write(e, whole, &e_)); /* the form that others read */
    edit_close(&e);
    model_file_close(&f);
    assert_true(difference(result, whole) < 1e-20);
    prune_ok(&(mote_prune_opts){.share = "0-1", .share_by = "first"});
    double first = difference(source, result);
    assert_true(with < 1e-5);
    assert_true(first > 1e-3 && first > 100 * with);
    OK(model_file_open(&f, result, 0, &e_));
    const tensor_info *a = model_file_find_tensor(f, "blk.0.attn_q.weight"), *b = model_file_find_tensor(f, "blk.1.attn_q.weight");
    assert_ptr_equal(a->data, b->data); /* the same bytes */
    assert_ptr_not_equal(model_file_find_tensor(f, "blk.0.attn_norm.weight")->data, model_file_find_tensor(f, "blk.1.attn_norm.weight")->data);
    model_file_close(&f);
}

/* Maps and halves that lie. */
static void shared_files_that_lie_are_refused(void **st) {
    (void)st;
    static const int32_t maps[][2] = {{0, 2}, {0, -1}, {1, 0}, {1, 1}};
    static const float x[64 * 8];
    for (size_t i = 0; i < COUNT_OF(maps) + 3; i++) {
        tiny(QUANT_F32);
        model_file *f;
        model_edit *e;
        mote_error err = {0};
        OK(model_file_open(&f, source, 0, &e_));
        OK(edit_open(&e, f, &e_));
        static const int32_t good[2] = {0, 0};
        const int32_t *map = i < COUNT_OF(maps) ? maps[i] : good;
        OK(edit_set_kv(e, &(kv){.key = STR("mote.share.layers"), .type = KV_ARRAY, .elem = KV_I32, .count = 2, .elems = (const unsigned char *)map}, &e_));
        if (i == 4) OK(edit_put(e, STR("blk.1.attn_q.weight.share_a"), QUANT_F32, 2, (uint64_t[]){64, 8}, x, NULL, &e_));
        if (i >= 5) {
            OK(edit_put(e, STR("blk.0.attn_q.weight.share_a"), QUANT_F32, 2, (uint64_t[]){i == 5 ? 32 : 64, 8}, x, NULL, &e_));
            OK(edit_put(e, STR("blk.0.attn_q.weight.share_b"), QUANT_F32, 2, (uint64_t[]){i == 5 ? 8 : 4, 64}, x, NULL, &e_));
        }
        if (i == 3) OK(edit_drop(e, STR("blk.1.attn_q.weight"), &e_)); /* its own source lacks it */
        OK(edit_write(e, result, &e_));
        edit_close(&e);
        model_file_close(&f);
        model *m = NULL;
        mote_status s = model_open(&m, result, NULL, threads, &err);
        if (s == MOTE_OK || !err.message[0]) fail_msg("case %zu was taken", i);
    }
}

/* ---- other ways of working ---- */
static void windows_hide_what_lies_behind(void **st) {
    (void)st;
    tiny(QUANT_F32);
    prune_ok_same(&(mote_prune_opts){.window = 16, .window_layers = "1"});
    assert_true(difference(source, result) < 1e-12); /* ten tokens fit */
    prune_ok_same(&(mote_prune_opts){.window = 4, .window_layers = "1"});
    assert_true(difference(source, result) > 1e-4);
    /* a layer whose attention adds nothing misses nothing */
    model_file *f;
    model_edit *e;
    static float zero[64 * 64];
    OK(model_file_open(&f, source, 0, &e_));
    OK(edit_open(&e, f, &e_));
    OK(edit_put(e, STR("blk.1.attn_output.weight"), QUANT_F32, 2, (uint64_t[]){64, 64}, zero, NULL, &e_));
    OK(edit_write(e, source, &e_));
    edit_close(&e);
    model_file_close(&f);
    prune_ok_same(&(mote_prune_opts){.window = 4, .n_window = 1, .n_tokens = 256});
    assert_true(difference(source, result) < 1e-12);
    mote_prune_report r = {.size = sizeof r};
    assert_int_equal(pruned(&(mote_prune_opts){.window = 4, .window_layers = "7"}, &r, NULL), MOTE_E_RANGE);
    assert_int_equal(pruned(&(mote_prune_opts){.window = 4, .n_window = 3}, &r, NULL), MOTE_E_RANGE);
}

/* The error a step reports. */
static double reported(const mote_prune_opts *o, const char *what) {
    mote_prune_report r = {.size = sizeof r};
    OK(pruned(o, &r, &e_));
    json_t *j = json_loads(r.json, 0, NULL);
    double v = json_number_value(json_object_get(json_array_get(json_object_get(j, "steps"), 0), what));
    json_decref(j);
    compress_prune_report_free(&r);
    return v;
}

static void maps_learn_what_the_softmax_gave(void **st) {
    (void)st;
    tiny(QUANT_F32);
    mote_prune_opts o = {.linear_layers = "1", .linear_window = 4, .linear_features = 16, .linear_steps = 40, .n_tokens = 256};
    double before = reported(&o, "error_before"), after = reported(&o, "error");
    if (!(after < 0.5 * before)) fail_msg("the error was %g and is %g", before, after);
    o.linear_steps = 0;
    assert_true(fabs(reported(&o, "error") - before) < 1e-9);
    model_file *f;
    OK(model_file_open(&f, result, 0, &e_));
    assert_int_equal(model_file_find_tensor(f, "blk.1.attn_q_map")->ne[1], 16);
    assert_null(model_file_find_tensor(f, "blk.0.attn_q_map"));
    model_file_close(&f);
    o.linear_window = 16; /* ten tokens lie in the window */
    prune_ok_same(&o);
    assert_true(difference(source, result) < 1e-12);
    mote_prune_report r = {.size = sizeof r};
    o.linear_layers = NULL, o.n_linear = 3;
    assert_int_equal(pruned(&o, &r, NULL), MOTE_E_RANGE);
    o.linear_layers = "1", o.linear_features = 5000;
    assert_int_equal(pruned(&o, &r, NULL), MOTE_E_RANGE);
}

static void equal_experts_are_the_dense_model(void **st) {
    (void)st;
    tiny(QUANT_Q8_0);
    prune_ok_same(&(mote_prune_opts){.upcycle = 4});
    assert_true(difference(source, result) < 1e-9);
    model_file *f;
    OK(model_file_open(&f, result, 0, &e_));
    assert_int_equal(model_file_find_tensor(f, "blk.1.ffn_up_exps.weight")->ne[2], 4);
    assert_null(model_file_find_tensor(f, "blk.1.ffn_up.weight"));
    model_file_close(&f);
}

/* A quarter of each expert's neurons is new, of the old size, and each one's own; the others are those that were there. */
static void experts_begin_in_part_anew(void **st) {
    (void)st;
    model_file *a, *b;
    tiny(QUANT_F32);
    prune_ok_same(&(mote_prune_opts){.upcycle = 3, .upcycle_drop = 0.25});
    OK(model_file_open(&a, source, 0, &e_));
    OK(model_file_open(&b, result, 0, &e_));
    float *up = floats(a, "blk.1.ffn_up.weight"), *ups = floats(b, "blk.1.ffn_up_exps.weight");
    float *down = floats(a, "blk.1.ffn_down.weight"), *downs = floats(b, "blk.1.ffn_down_exps.weight");
    bool is_new[3][128];
    double old_size = 0, new_size = 0;
    for (size_t e = 0; e < 3; e++) {
        size_t n = 0;
        for (size_t j = 0; j < 128; j++) {
            const float *row = ups + (e * 128 + j) * 64;
            n += is_new[e][j] = memcmp(row, up + j * 64, 64 * sizeof *row) != 0;
            for (size_t i = 0; i < 64; i++) {
                assert_true((downs[(e * 64 + i) * 128 + j] != down[i * 128 + j]) == is_new[e][j]);
                if (is_new[e][j]) new_size += pow((double)row[i], 2), old_size += pow((double)up[j * 64 + i], 2);
            }
        }
        assert_int_equal(n, 32);
    }
    assert_memory_not_equal(is_new[0], is_new[1], sizeof is_new[0]);
    assert_true(fabs(new_size / old_size - 1) < 0.2);
    mem_free_aligned(up);
    mem_free_aligned(ups);
    mem_free_aligned(down);
    mem_free_aligned(downs);
    model_file_close(&a);
    model_file_close(&b);
    mote_prune_report r = {.size = sizeof r};
    assert_int_equal(pruned(&(mote_prune_opts){.upcycle = 3, .upcycle_drop = 1.5}, &r, NULL), MOTE_E_RANGE);
    assert_int_equal(pruned(&(mote_prune_opts){.layers = "1", .upcycle_drop = 0.5}, &r, NULL), MOTE_E_USAGE);
}

static void experts_that_say_little_go(void **st) {
    (void)st;
    static float none[64 * 1024];
    model_file *f;
    model_edit *e;
    tiny(QUANT_Q8_0);
    prune_ok_same(&(mote_prune_opts){.upcycle = 4, .n_drop_experts = 2}); /* four alike: two of them are the same model */
    assert_true(difference(source, result) < 1e-9);
    OK(model_file_open(&f, result, 0, &e_));
    assert_int_equal(model_file_find_tensor(f, "blk.1.ffn_up_exps.weight")->ne[2], 2);
    assert_int_equal(model_file_find_tensor(f, "blk.1.ffn_gate_inp.weight")->ne[1], 2);
    model_file_close(&f);
    /* expert 2 of layer 1 says nothing, however often it is asked */
    tiny(QUANT_F32);
    prune_ok_same(&(mote_prune_opts){.upcycle = 4});
    OK(model_file_open(&f, result, 0, &e_));
    OK(edit_open(&e, f, &e_));
    const tensor_info *t = model_file_find_tensor(f, "blk.1.ffn_down_exps.weight");
    float *down = floats(f, "blk.1.ffn_down_exps.weight");
    size_t each = (size_t)(t->ne[0] * t->ne[1]);
    assert_true(each <= COUNT_OF(none));
    memset(down + 2 * each, 0, each * sizeof *down);
    OK(edit_put(e, t->name, QUANT_F32, 3, t->ne, down, NULL, &e_));
    OK(edit_write(e, source, &e_));
    edit_close(&e);
    model_file_close(&f);
    mem_free_aligned(down);
    static const char *const ways[] = {"saliency", "frequency", "random"};
    for (size_t i = 0; i < COUNT_OF(ways); i++) {
        bool silent = false;
        prune_ok(&(mote_prune_opts){.n_drop_experts = 1, .experts_by = ways[i], .n_tokens = 256});
        OK(model_file_open(&f, result, 0, &e_));
        float *x = floats(f, "blk.1.ffn_down_exps.weight");
        assert_int_equal(model_file_find_tensor(f, "blk.0.ffn_down_exps.weight")->ne[2], 3);
        for (size_t k = 0; k < 3; k++) silent |= memcmp(x + k * each, none, each * sizeof *x) == 0;
        mem_free_aligned(x);
        model_file_close(&f);
        if (i == 0) assert_false(silent);
    }
    prune_ok(&(mote_prune_opts){.n_drop_experts = 3, .n_tokens = 128}); /* fewer than were used */
    mote_prune_report r = {.size = sizeof r};
    assert_int_equal(pruned(&(mote_prune_opts){.n_drop_experts = 4}, &r, NULL), MOTE_E_RANGE);
    tiny(QUANT_F32);
    assert_int_equal(pruned(&(mote_prune_opts){.n_drop_experts = 1}, &r, NULL), MOTE_E_UNSUPPORTED);
}

/* The rows of the source's `up`, in the order of the experts (shared ones first): each neuron of the source is there once. */
static void each_neuron_is_in_one_expert(size_t shared) {
    model_file *a, *b;
    OK(model_file_open(&a, source, 0, &e_));
    OK(model_file_open(&b, result, 0, &e_));
    for (size_t il = 0; il < 2; il++) {
        char dense[64], routed[64], common[64];
        bool met[128] = {0};
        (void)snprintf(dense, sizeof dense, "blk.%zu.ffn_up.weight", il);
        (void)snprintf(routed, sizeof routed, "blk.%zu.ffn_up_exps.weight", il);
        (void)snprintf(common, sizeof common, "blk.%zu.ffn_up_shexp.weight", il);
        float *x = floats(a, dense), *y = floats(b, routed), *z = shared ? floats(b, common) : NULL;
        for (size_t j = 0; j < 128; j++) {
            const float *row = j < shared ? z + j * 64 : y + (j - shared) * 64;
            size_t at = 0;
            while (at < 128 && (met[at] || memcmp(x + at * 64, row, 64 * sizeof *row) != 0)) at++;
            assert_true(at < 128);
            met[at] = true;
        }
        mem_free_aligned(x);
        mem_free_aligned(y);
        mem_free_aligned(z);
    }
    model_file_close(&a);
    model_file_close(&b);
}

static void neurons_become_experts(void **st) {
    (void)st;
    tiny(QUANT_F32);
    prune_ok_same(&(mote_prune_opts){.split_experts = 4, .experts_used = 4});
    assert_true(difference(source, result) < 1e-10); /* all at work: the dense model */
    each_neuron_is_in_one_expert(0);
    prune_ok_same(&(mote_prune_opts){.split_experts = 4, .experts_used = 4, .shared_experts = 1, .n_tokens = 1024});
    assert_true(difference(source, result) < 1e-10);
    each_neuron_is_in_one_expert(32);
    model_file *f;
    OK(model_file_open(&f, result, 0, &e_));
    assert_true(str_is(model_file_find(f, "general.architecture")->s, "granitemoe"));
    assert_int_equal(model_file_find_tensor(f, "blk.0.ffn_down_exps.weight")->ne[2], 3);
    assert_null(model_file_find(f, "llama.block_count"));
    model_file_close(&f);
    const mote_prune_opts three = {.split_experts = 4, .experts_used = 3, .n_tokens = 2048}, any = {.split_experts = 4, .experts_used = 3, .split_by = "random", .n_tokens = 2048};
    const double chance = reported(&any, "held"), held = reported(&three, "held"), best = reported(&three, "held_best");
    each_neuron_is_in_one_expert(0);
    if (!(held > chance && chance > 0.75 && held <= best)) fail_msg("the chosen hold %g of the energy, at best %g; of random neurons %g", held, best, chance);
    if (getenv("MOTE_REPORT")) {
        char measured[48], bar[48];
        (void)snprintf(measured, sizeof measured, "%.1f %% of the energy held", 100 * held);
        (void)snprintf(bar, sizeof bar, "%.1f %% (random neurons)", 100 * chance);
        report_row("prune", "3 of 4 experts of a feed-forward's neurons", measured, bar, "ok", "-", "mote prune --split-experts");
    }
}

/* Neurons that are scattered over the layer, and of which each token needs a quarter that its word decides, are found together, and the router sends
 * the token there: one expert of four gives nearly what the dense layer gave. */
static void experts_that_are_hidden_are_found(void **st) {
    (void)st;
    model_file *f;
    model_edit *e;
    static float gate[128 * 64], up[128 * 64], ones[64];
    tiny(QUANT_F32);
    OK(model_file_open(&f, source, 0, &e_));
    OK(edit_open(&e, f, &e_));
    float *downs[2], *embd = floats(f, "token_embd.weight"), *attn[2] = {floats(f, "blk.0.attn_output.weight"), floats(f, "blk.1.attn_output.weight")};
    for (size_t id = 0; id < TINY_VOCAB; id++) /* four kinds of words: dimension 60 + kind says so, and nothing else writes there */
        for (size_t k = 0; k < 4; k++) embd[id * 64 + 60 + k] = id % 4 == k ? 8.0f : 0;
    for (size_t i = 0; i < 64; i++) ones[i] = 1;
    for (size_t j = 0; j < 128; j++)
        for (size_t i = 0; i < 64; i++) {
            gate[j * 64 + i] = i >= 60 ? (i - 60 == j % 4 ? 8.0f : -8.0f) : 0; /* neuron j is open for kind j % 4 alone */
            up[j * 64 + i] = (float)((i * 7 + j * 3) % 11) * 0.02f - 0.1f;
        }
    OK(edit_put(e, STR("token_embd.weight"), QUANT_F32, 2, (uint64_t[]){64, TINY_VOCAB}, embd, NULL, &e_));
    for (size_t il = 0; il < 2; il++) {
        static char names[2][5][48];
        static const char *const parts[] = {"ffn_gate", "ffn_up", "ffn_norm", "attn_output", "ffn_down"};
        for (size_t k = 0; k < 5; k++) (void)snprintf(names[il][k], sizeof names[il][k], "blk.%zu.%s.weight", il, parts[k]);
        float *down = floats(f, names[il][4]);
        for (size_t k = 60; k < 64; k++) memset(down + k * 128, 0, 128 * sizeof *down), memset(attn[il] + k * 64, 0, 64 * sizeof **attn);
        OK(edit_put(e, str_of(names[il][0]), QUANT_F32, 2, (uint64_t[]){64, 128}, gate, NULL, &e_));
        OK(edit_put(e, str_of(names[il][1]), QUANT_F32, 2, (uint64_t[]){64, 128}, up, NULL, &e_));
        OK(edit_put(e, str_of(names[il][2]), QUANT_F32, 1, (uint64_t[]){64}, ones, NULL, &e_));
        OK(edit_put(e, str_of(names[il][3]), QUANT_F32, 2, (uint64_t[]){64, 64}, attn[il], NULL, &e_));
        OK(edit_put(e, str_of(names[il][4]), QUANT_F32, 2, (uint64_t[]){128, 64}, down, NULL, &e_));
        downs[il] = down;
    }
    OK(edit_write(e, source, &e_)); /* reads what was put */
    mem_free_aligned(downs[0]);
    mem_free_aligned(downs[1]);
    edit_close(&e);
    model_file_close(&f);
    mem_free_aligned(embd);
    mem_free_aligned(attn[0]);
    mem_free_aligned(attn[1]);
    prune_ok_same(&(mote_prune_opts){.split_experts = 4, .experts_used = 1, .n_tokens = 2048});
    const double found = difference(source, result);
    prune_ok_same(&(mote_prune_opts){.split_experts = 4, .experts_used = 1, .split_by = "random", .n_tokens = 2048});
    const double chance = difference(source, result);
    if (!(found < 0.1 && chance > 6 * found)) fail_msg("found: %g, by chance: %g", found, chance);
}

static void experts_learn_and_routers_can_stay(void **st) {
    (void)st;
    model *m = NULL;
    net *n = NULL;
    mote_error e;
    tiny(QUANT_F32);
    prune_ok_same(&(mote_prune_opts){.split_experts = 4, .experts_used = 3, .shared_experts = 1, .n_tokens = 512});
    OK(model_open(&m, result, NULL, threads, &e_));
    OK(net_open(&n, m, threads, &(net_opts){.freeze = "ffn_gate_inp"}, &e_));
    assert_false(net_find(n, "blk.0.ffn_gate_inp.weight")->trained);
    assert_true(net_find(n, "blk.1.ffn_down_exps.weight")->trained && net_find(n, "blk.1.ffn_up_shexp.weight")->trained);
    net_close(&n);
    static const char *const wrong[] = {"no_such_tensor", ".", "("};
    for (size_t i = 0; i < COUNT_OF(wrong); i++) {
        assert_int_equal(net_open(&n, m, threads, &(net_opts){.freeze = wrong[i]}, &e), MOTE_E_USAGE);
        assert_non_null(strstr(e.message, wrong[i]));
    }
    model_close(&m);
}

static void what_cannot_be_split_is_refused(void **st) {
    (void)st;
    const struct {
        mote_prune_opts o;
        mote_status code;
        const char *says;
    } cases[] = {
        {{.split_experts = 3}, MOTE_E_RANGE, "128 neurons in 3 experts"},
        {{.split_experts = 8}, MOTE_E_RANGE, "a multiple of 32"},
        {{.split_experts = 4, .experts_used = 5}, MOTE_E_RANGE, "5 of 4 experts"},
        {{.split_experts = 4, .experts_used = 2, .shared_experts = 2}, MOTE_E_RANGE, "at least one must be chosen"},
        {{.split_experts = 1, .experts_used = 1}, MOTE_E_RANGE, "2 to 1024"},
        {{.split_experts = 4, .split_by = "luck"}, MOTE_E_USAGE, "luck"},
        {{.experts_used = 4}, MOTE_E_USAGE, "--split-experts"},
        {{.split_experts = 4, .upcycle = 2}, MOTE_E_UNSUPPORTED, "has experts already"},
        {{.split_experts = 4, .dynamic = 0.3}, MOTE_E_UNSUPPORTED, "by gates"},
        {{.split_experts = 4, .text = "short", .n_text = 5}, MOTE_E_USAGE, "at least 64"},
    };
    tiny(QUANT_F32);
    (void)unlink(result);
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        mote_prune_report r = {.size = sizeof r};
        mote_error e = {0};
        const mote_status s = pruned(&cases[i].o, &r, &e);
        if (s != cases[i].code || !strstr(e.message, cases[i].says)) fail_msg("case %zu: %s: %s", i, mote_status_name(s), e.message);
        assert_int_equal(access(result, F_OK), -1);
    }
}

static void few_blocks_of_a_short_text_are_all(void **st) {
    (void)st;
    tiny(QUANT_F32);
    prune_ok_same(&(mote_prune_opts){.block_layers = "0-1", .block_top = 2});
    assert_true(difference(source, result) < 1e-12);
    model_file *f;
    OK(model_file_open(&f, result, 0, &e_));
    assert_int_equal(model_file_find(f, "llama.attention.kind")->count, 2);
    assert_non_null(model_file_find_tensor(f, "attention_kinds"));
    model_file_close(&f);
    prune_ok_same(&(mote_prune_opts){.n_block = 1, .block_top = 2, .n_tokens = 128});
    mote_prune_report r = {.size = sizeof r};
    assert_int_equal(pruned(&(mote_prune_opts){.block_layers = "1", .block_size = 100}, &r, NULL), MOTE_E_RANGE);
    assert_int_equal(pruned(&(mote_prune_opts){.block_layers = "1", .block_top = 65}, &r, NULL), MOTE_E_RANGE);
}

/* ---- refusals ---- */
static void what_cannot_be_is_refused(void **st) {
    (void)st;
    tiny(QUANT_F32);
    (void)unlink(result);
    file_map before, after;
    OK(file_open(&before, source, FILE_READ, &e_));
    const struct {
        mote_prune_opts o;
        mote_status code;
        const char *says;
    } cases[] = {
        {{.size = 0}, MOTE_E_USAGE, "nothing to take away"},
        {{.layers = "0-1"}, MOTE_E_RANGE, "one must stay"},
        {{.layers = "2"}, MOTE_E_RANGE, "layers 0 to 1"},
        {{.layers = "x"}, MOTE_E_USAGE, "'x'"},
        {{.layers = "1-0"}, MOTE_E_USAGE, "'1-0'"},
        {{.n_layers = 1, .depth_by = "luck"}, MOTE_E_USAGE, "luck"},
        {{.n_layers = 1, .text = "short", .n_text = 5}, MOTE_E_USAGE, "at least 64"},
        {{.n_ff = 256}, MOTE_E_RANGE, "there are 128"},
        {{.n_head = 3}, MOTE_E_RANGE, "there are 2"},
        {{.n_embd = 65}, MOTE_E_RANGE, "there are 64"},
        {{.n_ff = 64, .width_by = "luck"}, MOTE_E_USAGE, "luck"},
        {{.ratio = 1.5}, MOTE_E_RANGE, "1.5"},
        {{.ratio = 0.1, .axes = "ff,luck"}, MOTE_E_USAGE, "luck"},
        {{.n_merge_kv = 2}, MOTE_E_RANGE, "cannot become 2"},
        {{.n_merge_kv = 1, .merge_by = "luck"}, MOTE_E_USAGE, "luck"},
        {{.n_vocab = 100}, MOTE_E_RANGE, "too few"},
        {{.n_vocab = 5000}, MOTE_E_RANGE, "there are 320"},
        {{.n_vocab = 300, .vocab_by = "luck"}, MOTE_E_USAGE, "luck"},
        {{.layers = "0", .n_ff = 4096}, MOTE_E_RANGE, "there are 128"}, /* the first step had succeeded */
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        mote_prune_report r = {.size = sizeof r};
        mote_error e = {0};
        mote_status s = pruned(&cases[i].o, &r, &e);
        if (s != cases[i].code || !strstr(e.message, cases[i].says)) fail_msg("case %zu: %s: %s", i, mote_status_name(s), e.message);
        assert_int_equal(access(result, F_OK), -1);
    }
    OK(file_open(&after, source, FILE_READ, &e_));
    assert_int_equal(before.n, after.n);
    assert_memory_equal(before.p, after.p, before.n);
    file_close(&before);
    file_close(&after);
    DIR *d = opendir(dir);
    for (struct dirent *e; d && (e = readdir(d));) assert_null(strstr(e->d_name, ".tmp"));
    if (d) closedir(d);
}

static void weights_that_are_no_numbers_are_named(void **st) {
    (void)st;
    OK(tiny_model_write(source, &(tiny_opts){.type = QUANT_F32, .nan_weight = true}, &e_));
    mote_prune_report r = {.size = sizeof r};
    mote_error e;
    assert_int_equal(pruned(&(mote_prune_opts){.n_embd = 32, .width_by = "random"}, &r, &e), MOTE_E_FORMAT);
    assert_non_null(strstr(e.message, "output.weight"));
}

static int setup(void **st) {
    (void)st;
    if (!mkdtemp(dir)) return 1;
    (void)snprintf(source, sizeof source, "%s/source.gguf", dir);
    (void)snprintf(result, sizeof result, "%s/result.gguf", dir);
    static const char *const words[] = {"hello", "world", "the", "in", "or", "he", "wor", "ld", "a", "be"};
    rng r;
    rng_seed(&r, 1, 1);
    for (size_t n = 0; n + 8 < sizeof text;) n += (size_t)snprintf(text + n, sizeof text - n, "%s ", words[rng_below(&r, 10)]);
    for (size_t i = strlen(text); i + 1 < sizeof text; i++) text[i] = ' ';
    return pool_open(&threads, 2, NULL) != MOTE_OK;
}
static int teardown(void **st) {
    (void)st;
    char command[64];
    pool_close(&threads);
    (void)snprintf(command, sizeof command, "rm -rf %s", dir);
    return system(command);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(neurons_are_left_out_token_by_token), cmocka_unit_test(what_cannot_be_left_out_is_refused),
        cmocka_unit_test(named_layers_go),
        cmocka_unit_test(a_layer_without_effect_is_found),
        cmocka_unit_test(arrays_of_layers_lose_the_same_elements),
        cmocka_unit_test(what_nobody_reads_goes_first),
        cmocka_unit_test(all_sizes_shrink_together),
        cmocka_unit_test(the_number_of_threads_changes_nothing),
        cmocka_unit_test(budgets_are_met_or_refused),
        cmocka_unit_test(least_squares_make_up_for_what_can_be_made_up),
        cmocka_unit_test(heads_that_differ_by_a_turn_merge_without_loss),
        cmocka_unit_test(a_trimmed_vocabulary_takes_every_text),
        cmocka_unit_test(tokens_that_stay_keep_their_logits),
        cmocka_unit_test(layers_share_a_block_and_add_to_it),
        cmocka_unit_test(shared_files_that_lie_are_refused),
        cmocka_unit_test(windows_hide_what_lies_behind),
        cmocka_unit_test(maps_learn_what_the_softmax_gave),
        cmocka_unit_test(equal_experts_are_the_dense_model),
        cmocka_unit_test(experts_begin_in_part_anew),
        cmocka_unit_test(experts_that_say_little_go),
        cmocka_unit_test(neurons_become_experts),
        cmocka_unit_test(experts_that_are_hidden_are_found),
        cmocka_unit_test(experts_learn_and_routers_can_stay),
        cmocka_unit_test(what_cannot_be_split_is_refused),
        cmocka_unit_test(few_blocks_of_a_short_text_are_all),
        cmocka_unit_test(what_cannot_be_is_refused),
        cmocka_unit_test(weights_that_are_no_numbers_are_named),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
