/* api_engine.c: bodies of mote/engine.h and mote/tokens.h. */
#include "mote/engine.h"
#include "mote/tokens.h"

#include "api/api_int.h"
#include "run/run.h"

/* ---- engine ---- */

void mote_engine_opts_fill(mote_engine_opts *o, size_t size) {
    const mote_engine_opts d = {.size = sizeof d};
    api_fill(o, size, &d, sizeof d);
}

mote_status mote_engine_open(mote_engine **out, const mote_engine_opts *o, mote_error *err) {
    API_NEED(out, err);
    *out = NULL;
    mote_engine_opts own = mote_engine_opts_default();
    TRY(api_merge(&own, sizeof own, o, err));
    return engine_open(out, &own, err);
}

void mote_engine_close(mote_engine **e) {
    if (!e) return;
    engine_release(*e);
    *e = NULL;
}

int mote_engine_threads(const mote_engine *e) { return pool_size(e->pool); }

/* ---- model ---- */

void mote_model_opts_fill(mote_model_opts *o, size_t size) {
    const mote_model_opts d = {.size = sizeof d};
    api_fill(o, size, &d, sizeof d);
}

mote_status mote_model_open(mote_model **out, mote_engine *e, const char *path, const mote_model_opts *o,
                            mote_error *err) {
    API_NEED(out, err);
    *out = NULL;
    API_NEED(e, err);
    API_NEED(path, err);
    mote_model_opts own = mote_model_opts_default();
    TRY(api_merge(&own, sizeof own, o, err));
    return run_model_open(out, e, path, &own, err);
}

void mote_model_close(mote_model **m) {
    if (!m) return;
    run_model_release(*m);
    *m = NULL;
}

const char *mote_model_arch(const mote_model *m) { return m->arch; }
const char *mote_model_name(const mote_model *m) { return m->name; }
size_t mote_model_n_vocab(const mote_model *m) { return m->info && m->info->causal ? m->info->n_vocab : 0; }
size_t mote_model_n_ctx_train(const mote_model *m) { return m->n_ctx_train; }
size_t mote_model_n_embd(const mote_model *m) { return m->n_embd; }
size_t mote_model_n_heads(const mote_model *m, int which) {
    if (!m->m) return 0;
    if (which == MOTE_HEADS_AHEAD) return model_n_ahead(m->m);
    return which == MOTE_HEADS_EXITS || (which == MOTE_HEADS_DRAFTS && model_check_drafts(m->m, NULL) == MOTE_OK) ? model_n_exits(m->m) : 0;
}
bool mote_model_is_encoder(const mote_model *m) { return m->info && !m->info->causal; }
bool mote_model_has_tokenizer(const mote_model *m) { return m->vocab != NULL; }
bool mote_model_has_template(const mote_model *m) {
    const kv *k = m->file ? model_file_find(m->file, "tokenizer.chat_template") : NULL;
    return k && k->type == KV_STRING;
}

mote_status mote_model_info(const mote_model *m, int flags, char *dst, size_t cap, size_t *needed,
                            mote_error *err) {
    API_NEED(m, err);
    buf b;
    buf_init(&b, JSON_BYTES_MAX);
    mote_status st = run_model_info(m, flags, &b, err);
    if (st == MOTE_OK) {
        size_t n = api_text(dst, cap, buf_str(&b));
        if (needed) *needed = n;
    }
    buf_free(&b);
    return st;
}

/* ---- text and ids ---- */

/* The public flags are the tokenizer's. */
_Static_assert((int)MOTE_TOK_SPECIAL == (int)TOK_SPECIAL && (int)MOTE_TOK_BOS == (int)TOK_BOS &&
                   (int)MOTE_TOK_TRIM == (int)TOK_TRIM,
               "flags");

mote_status mote_tokenize(const mote_model *m, const char *text, size_t n_bytes, int flags, int32_t *ids,
                          size_t cap, size_t *n, mote_error *err) {
    API_NEED(m, err);
    API_NEED(n, err);
    const tok_vocab *v;
    TRY(run_vocab(m, &v, err));
    return tok_encode_into(v, (str){text, n_bytes}, flags, ids, cap, n, err);
}

mote_status mote_detokenize(const mote_model *m, const int32_t *ids, size_t n, int flags, char *dst,
                            size_t cap, size_t *needed, mote_error *err) {
    API_NEED(m, err);
    const tok_vocab *v;
    TRY(run_vocab(m, &v, err));
    for (size_t i = 0; i < n; i++)
        if (ids[i] < 0 || (size_t)ids[i] >= tok_count(v))
            FAIL(err, MOTE_E_RANGE, "token %zu has id %d, outside the vocabulary of %zu", i, (int)ids[i], (size_t)tok_count(v));
    buf b;
    buf_init(&b, JSON_BYTES_MAX);
    mote_status st = tok_detokenize(v, ids, n, flags, &b, err);
    if (st == MOTE_OK) st = buf_check(&b, "text", err);
    if (st == MOTE_OK) {
        size_t len = api_text(dst, cap, buf_str(&b));
        if (needed) *needed = len;
    }
    buf_free(&b);
    return st;
}

size_t mote_token_piece(const mote_model *m, int32_t id, int flags, char *dst, size_t cap) {
    if (!m->vocab || id < 0 || (size_t)id >= tok_count(m->vocab)) return api_text(dst, cap, (str){"", 0});
    return api_text(dst, cap, tok_piece(m->vocab, id, flags));
}

int32_t mote_token_by_role(const mote_model *m, const char *role) {
    static const char *const names[TOK_ROLES] = {"bos",     "eos",     "eot",     "eom",     "unk",
                                                 "sep",     "pad",     "mask",    "fim_pre", "fim_suf",
                                                 "fim_mid", "fim_pad", "fim_rep", "fim_sep"};
    if (!m->vocab || !role) return TOK_NONE;
    for (int i = 0; i < TOK_ROLES; i++)
        if (strcmp(role, names[i]) == 0) return tok_id(m->vocab, (tok_role)i);
    return TOK_NONE;
}

int32_t mote_token_by_text(const mote_model *m, const char *text, size_t n_bytes) {
    return m->vocab ? tok_find(m->vocab, (str){text, n_bytes}) : TOK_NONE;
}

static bool known(const mote_model *m, int32_t id) {
    return m->vocab && id >= 0 && (size_t)id < tok_count(m->vocab);
}
bool mote_token_is_end(const mote_model *m, int32_t id) { return known(m, id) && tok_is_eog(m->vocab, id); }
bool mote_token_is_control(const mote_model *m, int32_t id) {
    return known(m, id) && tok_is_control(m->vocab, id);
}
bool mote_tokenizer_adds_bos(const mote_model *m) { return m->vocab && tok_adds_bos(m->vocab); }

struct mote_detok {
    mote_model *model;
    tok_stream stream;
    int flags;
    buf text;
};

mote_status mote_detok_open(mote_detok **out, const mote_model *m, int flags, mote_error *err) {
    API_NEED(out, err);
    *out = NULL;
    API_NEED(m, err);
    const tok_vocab *v;
    TRY(run_vocab(m, &v, err));
    mote_detok *d = MEM_NEW(mote_detok);
    if (!d) FAIL(err, MOTE_E_MEMORY, "out of memory for a detokenizer");
    d->model = run_model_retain(m);
    d->flags = flags;
    buf_init(&d->text, (size_t)1 << 26);
    tok_stream_init(&d->stream, v, flags);
    *out = d;
    return MOTE_OK;
}

void mote_detok_close(mote_detok **d) {
    if (!d || !*d) return;
    buf_free(&(*d)->text);
    run_model_release((*d)->model);
    mem_free(*d);
    *d = NULL;
}

static mote_status give(mote_detok *d, const char **text, size_t *n, mote_error *err) {
    TRY(buf_check(&d->text, "text", err));
    *text = buf_str(&d->text).p;
    *n = d->text.n;
    return MOTE_OK;
}

mote_status mote_detok_put(mote_detok *d, int32_t id, const char **text, size_t *n, mote_error *err) {
    API_NEED(d, err);
    if (!known(d->model, id)) FAIL(err, MOTE_E_RANGE, "token %d is not in the vocabulary", (int)id);
    buf_clear(&d->text);
    tok_stream_put(&d->stream, id, &d->text);
    return give(d, text, n, err);
}

mote_status mote_detok_end(mote_detok *d, const char **text, size_t *n, mote_error *err) {
    API_NEED(d, err);
    buf_clear(&d->text);
    tok_stream_end(&d->stream, &d->text);
    tok_stream_init(&d->stream, d->model->vocab, d->flags);
    return give(d, text, n, err);
}
