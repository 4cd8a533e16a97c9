#include "train/new_model.h"

#include "format/edit.h"

#include <math.h>
#include <stdio.h>

enum { HEAD_DIM = 64, NAME_BYTES = 64 };

static bool is_qwen3(const mote_model_shape *s) { return strcmp(s->arch, "qwen3") == 0; }
static size_t head_dim(const mote_model_shape *s) { return s->width / s->n_head; }

mote_status new_model_shape(mote_model_shape *s, size_t n_ctx, mote_error *err) {
    if (!s->arch) s->arch = "llama";
    if (strcmp(s->arch, "llama") != 0 && !is_qwen3(s)) FAIL(err, MOTE_E_USAGE, "a new model of family '%.40s': expected llama or qwen3", s->arch);
    if (s->depth < 1 || s->depth > 1000) FAIL(err, MOTE_E_USAGE, "a new model of %zu layers: give a depth from 1 to 1000, as --depth 6", s->depth);
    if (!s->width) s->width = s->n_head ? s->n_head * HEAD_DIM : s->depth * HEAD_DIM;
    if (!s->n_head) s->n_head = MAX(s->width / HEAD_DIM, 1);
    if (!s->n_head_kv) s->n_head_kv = s->n_head >= 4 && s->n_head % 2 == 0 ? s->n_head / 2 : s->n_head;
    if (!s->n_ff) s->n_ff = (s->width * 8 / 3 + 63) / 64 * 64;
    if (!s->n_ctx) s->n_ctx = n_ctx;
    if (!(s->rope_base > 0)) s->rope_base = 10000;
    if (!s->n_vocab) s->n_vocab = 4096;
    if (s->width > 1 << 20 || s->n_ff > 1 << 20 || s->n_ctx > 1 << 24) FAIL(err, MOTE_E_USAGE, "a new model of width %zu, feed-forward %zu, context %zu", s->width, s->n_ff, s->n_ctx);
    if (s->width % s->n_head || head_dim(s) % 2)
        FAIL(err, MOTE_E_USAGE, "width %zu does not divide into %zu heads of an even size", s->width, s->n_head);
    if (s->n_head % s->n_head_kv) FAIL(err, MOTE_E_USAGE, "%zu heads do not divide into %zu groups", s->n_head, s->n_head_kv);
    return MOTE_OK;
}

typedef struct tensor {
    char name[NAME_BYTES];
    uint64_t cols, rows; /* rows 0: a vector of ones */
    double deviation;
} tensor;

static void add(tensor *t, size_t *n, size_t layer, const char *name, uint64_t cols, uint64_t rows, double deviation) {
    t[*n] = (tensor){.cols = cols, .rows = rows, .deviation = deviation};
    if (layer == SIZE_MAX) (void)snprintf(t[*n].name, NAME_BYTES, "%s.weight", name);
    else (void)snprintf(t[*n].name, NAME_BYTES, "blk.%zu.%s.weight", layer, name);
    ++*n;
}

enum { PER_LAYER_MAX = 11 };

static size_t list(tensor *t, const mote_model_shape *s) {
    size_t n = 0, w = s->width, kv_dim = head_dim(s) * s->n_head_kv;
    double d = 1 / sqrt((double)w), into = d / sqrt(2 * (double)s->depth), down = 1 / sqrt((double)s->n_ff) / sqrt(2 * (double)s->depth);
    add(t, &n, SIZE_MAX, "token_embd", w, s->n_vocab, 0.02);
    for (size_t i = 0; i < s->depth; i++) {
        add(t, &n, i, "attn_norm", w, 0, 0);
        add(t, &n, i, "attn_q", w, w, d);
        add(t, &n, i, "attn_k", w, kv_dim, d);
        add(t, &n, i, "attn_v", w, kv_dim, d);
        if (is_qwen3(s)) {
            add(t, &n, i, "attn_q_norm", head_dim(s), 0, 0);
            add(t, &n, i, "attn_k_norm", head_dim(s), 0, 0);
        }
        add(t, &n, i, "attn_output", w, w, into);
        add(t, &n, i, "ffn_norm", w, 0, 0);
        add(t, &n, i, "ffn_gate", w, s->n_ff, d);
        add(t, &n, i, "ffn_up", w, s->n_ff, d);
        add(t, &n, i, "ffn_down", s->n_ff, w, down);
    }
    add(t, &n, SIZE_MAX, "output_norm", w, 0, 0);
    if (s->untied) add(t, &n, SIZE_MAX, "output", w, s->n_vocab, d);
    return n;
}

static size_t count_of(const tensor *t) { return (size_t)(t->cols * MAX(t->rows, 1)); }

double new_model_params(const mote_model_shape *s) {
    double w = (double)s->width, kv_dim = (double)(head_dim(s) * s->n_head_kv);
    return (double)s->n_vocab * w * (s->untied ? 2 : 1) + (double)s->depth * (2 * w * w + 2 * w * kv_dim + 3 * w * (double)s->n_ff);
}

/* Normal numbers by pairs: Box and Muller 1958. Each tensor has a stream of its own. */
static void fill(float *x, const tensor *t, uint64_t seed, uint64_t stream) {
    rng r;
    size_t n = count_of(t);
    rng_seed(&r, seed, stream);
    for (size_t i = 0; i < n; i += 2) {
        if (t->rows == 0) {
            x[i] = 1;
            if (i + 1 < n) x[i + 1] = 1;
            continue;
        }
        double len = sqrt(-2 * log(1 - rng_double(&r))), turn = 6.283185307179586 * rng_double(&r);
        x[i] = (float)(t->deviation * len * cos(turn));
        if (i + 1 < n) x[i + 1] = (float)(t->deviation * len * sin(turn));
    }
}

static mote_status put_key(model_edit *e, const char *arch, const char *name, uint64_t v, mote_error *err) {
    char key[96];
    (void)snprintf(key, sizeof key, "%s.%s", arch, name);
    return edit_set_u32(e, key, (uint32_t)v, err);
}

static mote_status put_keys(model_edit *e, const mote_model_shape *s, str mark, mote_error *err) {
    char key[96];
    TRY(edit_set_str(e, "general.architecture", str_of(s->arch), err));
    TRY(edit_set_str(e, "general.type", STR("model"), err));
    TRY(edit_set_str(e, "general.name", STR("mote"), err));
    TRY(edit_set_str(e, "mote.train.new", mark, err));
    TRY(put_key(e, s->arch, "block_count", s->depth, err));
    TRY(put_key(e, s->arch, "context_length", s->n_ctx, err));
    TRY(put_key(e, s->arch, "embedding_length", s->width, err));
    TRY(put_key(e, s->arch, "feed_forward_length", s->n_ff, err));
    TRY(put_key(e, s->arch, "attention.head_count", s->n_head, err));
    TRY(put_key(e, s->arch, "attention.head_count_kv", s->n_head_kv, err));
    TRY(put_key(e, s->arch, "attention.key_length", head_dim(s), err));
    TRY(put_key(e, s->arch, "attention.value_length", head_dim(s), err));
    TRY(put_key(e, s->arch, "rope.dimension_count", head_dim(s), err));
    TRY(put_key(e, s->arch, "vocab_size", s->n_vocab, err));
    (void)snprintf(key, sizeof key, "%s.rope.freq_base", s->arch);
    TRY(edit_set_f32(e, key, (float)s->rope_base, err));
    (void)snprintf(key, sizeof key, "%s.attention.layer_norm_rms_epsilon", s->arch);
    return edit_set_f32(e, key, 1e-5f, err);
}

/* Of the tokenizer's file the tokenizer alone stays. */
static mote_status drop_rest(model_edit *e, const model_file *tok, mote_error *err) {
    for (size_t i = 0; i < model_file_n_kv(tok); i++) {
        str key = model_file_kv(tok, i)->key;
        if (str_starts(key, STR("tokenizer."))) continue;
        char *name = mem_strndup(key.p, key.n);
        if (!name) FAIL(err, MOTE_E_MEMORY, "out of memory");
        mote_status s = edit_drop_kv(e, name, err);
        mem_free(name);
        TRY(s);
    }
    for (size_t i = 0; i < model_file_n_tensors(tok); i++) TRY(edit_drop(e, model_file_tensor(tok, i)->name, err));
    return MOTE_OK;
}

mote_status new_model_write(const char *path, mote_model_shape *shape, const model_file *tok, uint64_t seed, str mark, mote_error *err) {
    const kv *tokens = model_file_find(tok, "tokenizer.ggml.tokens");
    if (!tokens || tokens->type != KV_ARRAY || tokens->count == 0 || tokens->count > 1 << 24)
        FAIL(err, MOTE_E_FORMAT, "%s: no tokenizer in it (tokenizer.ggml.tokens)", model_file_path(tok));
    shape->n_vocab = (size_t)tokens->count;
    model_edit *e = NULL;
    float *values = NULL;
    mote_status s;
    size_t all = 0, n;
    tensor *t = MEM_NEW_N(tensor, PER_LAYER_MAX * shape->depth + 3);
    if (!t) FAIL(err, MOTE_E_MEMORY, "out of memory");
    n = list(t, shape);
    for (size_t i = 0; i < n; i++) all += count_of(&t[i]);
    values = mem_alloc_aligned(all * sizeof *values);
    if (!values) FAILG(s, err, MOTE_E_MEMORY, "out of memory for %zu weights", all);
    TRYG(s, edit_open(&e, tok, err));
    TRYG(s, drop_rest(e, tok, err));
    TRYG(s, put_keys(e, shape, mark, err));
    float *x = values;
    for (size_t i = 0; i < n; i++) {
        fill(x, &t[i], seed, i);
        TRYG(s, edit_put(e, str_of(t[i].name), QUANT_F32, t[i].rows ? 2 : 1, (uint64_t[]){t[i].cols, MAX(t[i].rows, 1), 1, 1}, x, NULL, err));
        x += count_of(&t[i]);
    }
    s = edit_write(e, path, err);
out:
    edit_close(&e);
    mem_free_aligned(values);
    mem_free(t);
    return s;
}
