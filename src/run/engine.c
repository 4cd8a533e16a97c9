/* engine.c: the thread pool, and models opened with their tokenizer. */
#include "run/run.h"

#include <stdio.h>

/* ---- engine ---- */

mote_status engine_open(mote_engine **out, const mote_engine_opts *o, mote_error *err) {
    *out = NULL;
    uint32_t mask = CPU_ALL;
    if (o->n_threads < 0 || o->n_threads > POOL_THREADS_MAX)
        FAIL(err, MOTE_E_RANGE, "%d threads; expected 0 (one per core) to %d", o->n_threads,
             POOL_THREADS_MAX);
    if (o->isa) {
        int ok = 1;
        mask = cpu_mask_by_name(o->isa, &ok);
        if (!ok) FAIL(err, MOTE_E_USAGE, "unknown ISA '%s'; expected scalar, avx2, avx512, …, all", o->isa);
        if (mask == 0) mask = CPU_SCALAR_ONLY;
    }
    mote_engine *e = MEM_NEW(mote_engine);
    if (!e) FAIL(err, MOTE_E_MEMORY, "out of memory for an engine");
    mote_status st = pool_open(&e->pool, o->n_threads, err);
    if (st != MOTE_OK) {
        mem_free(e);
        return st;
    }
    if (pthread_mutex_init(&e->lock, NULL) != 0) {
        pool_close(&e->pool);
        mem_free(e);
        FAIL(err, MOTE_E_MEMORY, "out of memory for a lock");
    }
    atomic_init(&e->refs, 1);
    e->cpu_mask = mask;
    e->tune = o->n_threads == 0;
    e->log = (log_sink){o->log, o->log_ctx};
    *out = e;
    return MOTE_OK;
}

void engine_release(mote_engine *e) {
    if (!e || atomic_fetch_sub(&e->refs, 1) != 1) return;
    pool_close(&e->pool);
    (void)pthread_mutex_destroy(&e->lock);
    mem_free(e);
}

/* ---- model ---- */

static void copy_text(char *dst, size_t cap, str s) {
    size_t n = MIN(s.n, cap - 1);
    n = utf8_whole(s.p ? s.p : "", n);
    if (n) memcpy(dst, s.p, n);
    dst[n] = 0;
}

/* Without weights the metadata answer, as far as they do. */
static mote_status read_metadata(mote_model *m, mote_error *err) {
    str arch, name;
    TRY(kv_get_str(m->file, "general.architecture", &arch, STR(""), err));
    TRY(kv_get_str(m->file, "general.name", &name, STR(""), err));
    copy_text(m->arch, sizeof m->arch, arch);
    copy_text(m->name, sizeof m->name, name);
    char key[128];
    uint32_t v;
    (void)snprintf(key, sizeof key, "%s.context_length", m->arch);
    if (kv_get_u32(m->file, key, &v, 0, NULL) == MOTE_OK) m->n_ctx_train = v;
    (void)snprintf(key, sizeof key, "%s.embedding_length", m->arch);
    if (kv_get_u32(m->file, key, &v, 0, NULL) == MOTE_OK) m->n_embd = v;
    return MOTE_OK;
}

/* A folder of the sentence-transformers library says how long a text its model was trained to embed, which is
 * often less than it could read. One that names its modules but not the length is of the first generation,
 * whose models were made for 256. */
#define EMBED_MAX_UNSAID 256
static mote_status read_embed_max(mote_model *m, mote_error *err) {
    static const char *const names[] = {"sentence_bert_config.json", "modules.json"};
    if (!file_is_dir(m->path)) return MOTE_OK;
    for (size_t i = 0; i < COUNT_OF(names) && m->n_embed_max == 0; i++) {
        file_map f = {0};
        mote_status st = file_open_at(&f, m->path, names[i], FILE_READ, err);
        if (st == MOTE_E_NOT_FOUND) continue;
        if (st != MOTE_OK) return st;
        json_t *j = NULL;
        if (i == 1) m->n_embed_max = EMBED_MAX_UNSAID;
        else if (json_parse(&j, (str){(const char *)f.p, f.n}, names[i], NULL) == MOTE_OK &&
                 json_is_object(j))
            m->n_embed_max = (size_t)MAX(json_get_int(j, "max_seq_length", 0), 0);
        json_decref(j);
        file_close(&f);
    }
    return MOTE_OK;
}

static mote_status open_tokenizer_json(mote_model *m, mote_error *err) {
    file_map json = {0}, config = {0};
    char *beside = NULL;
    mote_status st = MOTE_OK;
    TRYG(st, file_open(&json, m->path, FILE_READ, err));
    size_t dir = (size_t)(basename(m->path) - m->path);
    static const char name[] = "tokenizer_config.json";
    beside = mem_calloc(dir + sizeof name, 1);
    if (!beside) FAILG(st, err, MOTE_E_MEMORY, "out of memory");
    memcpy(beside, m->path, dir);
    memcpy(beside + dir, name, sizeof name);
    (void)file_open(&config, beside, FILE_READ, NULL);
    st = tok_open_json(&m->vocab, (str){(const char *)json.p, json.n},
                       (str){(const char *)config.p, config.n}, &m->engine->log, err);
out:
    mem_free(beside);
    file_close(&config);
    file_close(&json);
    return st;
}

/* A model without a tokenizer, or with one we cannot read, still computes logits: the reason is kept for
 * whoever asks for the tokenizer. */
static mote_status open_tokenizer(mote_model *m, mote_error *err) {
    mote_status st = tok_open(&m->vocab, m->file, &m->engine->log, &m->vocab_error);
    if (st == MOTE_OK) return MOTE_OK;
    if (st == MOTE_E_MEMORY || st == MOTE_E_IO) {
        if (err) *err = m->vocab_error;
        return st;
    }
    if (st != MOTE_E_NOT_FOUND) log_line(&m->engine->log, LOG_WARN, "%s", m->vocab_error.message);
    return MOTE_OK;
}

static mote_status open_weights(mote_model *m, const mote_model_opts *o, mote_error *err) {
    model_opts mo = {.no_mmap = o->no_mmap,
                     .mlock = o->mlock,
                     .cpu_mask = m->engine->cpu_mask,
                     .rope_freq_base = o->rope_freq_base,
                     .rope_freq_scale = o->rope_freq_scale,
                     .rope_scaling = o->rope_scaling,
                     .dynamic = o->dynamic,
                     .log = &m->engine->log,
                     .n_adapters = o->n_adapters,
                     .heads = o->heads, .stacked = true};
    model_adapter *adapters = MEM_NEW_N(model_adapter, o->n_adapters);
    if (!adapters) FAIL(err, MOTE_E_MEMORY, "out of memory");
    for (size_t i = 0; i < o->n_adapters; i++) adapters[i] = (model_adapter){o->adapters[i].path, o->adapters[i].scale};
    mo.adapters = adapters;
    (void)pthread_mutex_lock(&m->engine->lock);
    mote_status st = model_open(&m->m, m->path, &mo, m->engine->pool, err);
    (void)pthread_mutex_unlock(&m->engine->lock);
    mem_free(adapters);
    if (st != MOTE_OK) return st;
    m->info = model_get_info(m->m);
    m->file = model_get_file(m->m);
    return MOTE_OK;
}

static mote_status check_opts(const mote_model_opts *o, mote_error *err) {
    if (o->rope_scaling < 0 || o->rope_scaling > MOTE_ROPE_SCALING_YARN)
        FAIL(err, MOTE_E_RANGE, "rope_scaling is %d; expected one of MOTE_ROPE_SCALING_*", o->rope_scaling);
    if (!(o->rope_freq_base >= 0 && o->rope_freq_base <= 1e12f))
        FAIL(err, MOTE_E_RANGE, "rope_freq_base is %g; expected 0 (as the file says) to 1e12",
             (double)o->rope_freq_base);
    if (!(o->rope_freq_scale >= 0 && o->rope_freq_scale <= 1e6f))
        FAIL(err, MOTE_E_RANGE, "rope_freq_scale is %g; expected 0 (as the file says) to 1e6",
             (double)o->rope_freq_scale);
    if (!(o->dynamic >= -1 && o->dynamic <= 0.9f))
        FAIL(err, MOTE_E_RANGE, "dynamic is %g; expected 0 (as the file says) to 0.9, or -1 (none)", (double)o->dynamic);
    if (o->n_adapters && !o->adapters) FAIL(err, MOTE_E_USAGE, "n_adapters is %zu, but adapters is NULL", o->n_adapters);
    for (size_t i = 0; i < o->n_adapters; i++) {
        float s = o->adapters[i].scale;
        if (!o->adapters[i].path) FAIL(err, MOTE_E_USAGE, "adapter %zu has no path", i);
        if (!(s >= -1e6f && s <= 1e6f)) FAIL(err, MOTE_E_RANGE, "%s: the scale is %g; expected a number", o->adapters[i].path, (double)s);
    }
    return MOTE_OK;
}

mote_status run_model_open(mote_model **out, mote_engine *e, const char *path, const mote_model_opts *o,
                           mote_error *err) {
    *out = NULL;
    mote_status st = MOTE_OK;
    TRY(check_opts(o, err));
    mote_model *m = MEM_NEW(mote_model);
    if (!m) FAIL(err, MOTE_E_MEMORY, "out of memory for a model");
    atomic_init(&m->refs, 1);
    m->engine = e;
    (void)atomic_fetch_add(&e->refs, 1);
    m->path = mem_strdup(path);
    if (!m->path) FAILG(st, err, MOTE_E_MEMORY, "out of memory for a model");
    if (o->no_weights && str_ends(str_of(path), STR(".json"))) {
        TRYG(st, open_tokenizer_json(m, err));
    } else {
        if (o->no_weights) {
            int flags = MODEL_FILE_NO_TENSORS_OK | MODEL_FILE_NO_DATA | (o->no_mmap ? MODEL_FILE_NO_MMAP : 0);
            TRYG(st, model_file_open(&m->own_file, path, flags, err));
            m->file = m->own_file;
        } else {
            TRYG(st, open_weights(m, o, err));
        }
        TRYG(st, read_metadata(m, err));
        TRYG(st, open_tokenizer(m, err));
        model_file_rest(m->file); /* the vocabulary has been read from end to end, and will hardly be again */
    }
    TRYG(st, read_embed_max(m, err));
    if (m->info) {
        m->n_ctx_train = m->info->n_ctx_train;
        m->n_embd = m->info->n_embd_out;
    }
    *out = m;
    return MOTE_OK;
out:
    run_model_release(m);
    return st;
}

void run_model_release(mote_model *m) {
    if (!m || atomic_fetch_sub(&m->refs, 1) != 1) return;
    tok_close(&m->vocab);
    model_close(&m->m);
    model_file_close(&m->own_file);
    engine_release(m->engine);
    mem_free(m->path);
    mem_free(m);
}

mote_model *run_model_retain(const mote_model *m) {
    mote_model *shared = (mote_model *)(uintptr_t)m; /* immutable but for the count */
    (void)atomic_fetch_add(&shared->refs, 1);
    return shared;
}

/* ---- tokenizer ---- */

mote_status run_vocab(const mote_model *m, const tok_vocab **v, mote_error *err) {
    *v = m->vocab;
    if (m->vocab) return MOTE_OK;
    if (err) *err = m->vocab_error;
    return m->vocab_error.code;
}

mote_status run_put_bos(const tok_vocab *v, tok_ids *ids, mote_error *err) {
    int32_t bos = tok_id(v, TOK_ROLE_BOS);
    if (!tok_adds_bos(v) || bos == TOK_NONE || (ids->n && ids->p[0] == bos)) return MOTE_OK;
    TRY(mem_grow(&ids->p, &ids->cap, ids->n + 1, sizeof *ids->p, SIZE_MAX / sizeof *ids->p, err));
    memmove(ids->p + 1, ids->p, ids->n * sizeof *ids->p);
    ids->p[0] = bos;
    ids->n++;
    return MOTE_OK;
}

mote_status run_encode_prompt(const mote_model *m, str text, int flags, tok_ids *out, mote_error *err) {
    const tok_vocab *v;
    TRY(run_vocab(m, &v, err));
    TRY(tok_encode(v, text, flags & TOK_SPECIAL, out, err));
    return run_put_bos(v, out, err);
}
