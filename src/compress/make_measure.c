/* make_measure.c: perplexity of a model and its divergence from the source, kept under the content of what was measured. */
#include "compress/maker.h"

#include "train/calib_text.h"

#include <unistd.h>

#define BASE_BYTES_MAX ((size_t)400 << 20) /* of the source's log-probabilities on disk */

typedef struct eval_text {
    file_map map;
    str s;
} eval_text;

static mote_status open_text(maker *m, eval_text *t, mote_error *err) {
    *t = (eval_text){.s = calibration_text()};
    if (!m->eval_text[0]) return MOTE_OK;
    TRY(file_open(&t->map, m->eval_text, FILE_MAP, err));
    t->s = (str){(const char *)t->map.p, t->map.n};
    return MOTE_OK;
}

static mote_status measure(maker *m, const char *path, str text, size_t chunks, const char *save, const char *compare, mote_ppl_result *r, mote_error *err) {
    mote_model *opened = NULL;
    mote_session *session = NULL;
    mote_status st = MOTE_OK;
    if (!m->engine) {
        mote_engine_opts e = mote_engine_opts_default();
        e.n_threads = m->o->n_threads;
        TRY(engine_open(&m->engine, &e, err));
    }
    mote_model_opts mo = mote_model_opts_default();
    TRYG(st, run_model_open(&opened, m->engine, path, &mo, err));
    mote_session_opts so = mote_session_opts_default();
    so.n_ctx = m->eval_ctx;
    TRYG(st, run_session_open(&session, opened, &so, err));
    mote_ppl_opts o = mote_ppl_opts_default();
    o.n_ctx = m->eval_ctx;
    o.n_chunks = chunks;
    o.save_logits = save;
    o.compare_logits = compare;
    st = run_perplexity(session, text, &o, r, err);
out:
    run_session_release(session);
    run_model_release(opened);
    return st;
}

static size_t vocabulary(const char *path) {
    model_file *f;
    if (model_file_open(&f, path, 0, NULL) != MOTE_OK) return 0;
    const tensor_info *t = model_file_find_tensor(f, "token_embd.weight");
    size_t n = t ? (size_t)t->ne[1] : 0;
    model_file_close(&f);
    return n;
}

/* The key of a measurement: models, text, windows. */
static mote_status name_of(maker *m, const char *path, str text, char out[SHA256_HEX], mote_error *err) {
    char content[SHA256_HEX], source[SHA256_HEX], how[64];
    TRY(make_hash(m, path, content, err));
    TRY(make_hash(m, m->source, source, err));
    sha256 *h = sha256_new();
    if (!h) FAIL(err, MOTE_E_MEMORY, "out of memory for a hash");
    (void)snprintf(how, sizeof how, "%zu %zu", m->eval_chunks, m->eval_ctx);
    sha256_update(h, content, sizeof content);
    sha256_update(h, source, sizeof source);
    sha256_update(h, text.p, text.n);
    sha256_update(h, how, strlen(how));
    sha256_final(h, out);
    sha256_free(h);
    return MOTE_OK;
}

static mote_status both(maker *m, const char *path, str text, mote_make_stage *out, mote_error *err) {
    char base[MAKE_PATH_MAX + 96], key[SHA256_HEX];
    size_t vocab = vocabulary(m->source), row = m->eval_ctx / 2 * (vocab * 2 + 16), n = m->eval_chunks;
    if (row) n = MIN(n, MAX(BASE_BYTES_MAX / row, 1));
    TRY(name_of(m, m->source, text, key, err));
    (void)snprintf(base, sizeof base, "%s/base-%.16s.kld", m->work, key);
    mote_ppl_result r = {.size = sizeof r}, d = {.size = sizeof d};
    bool is_source = strcmp(path, m->source) == 0;
    if (is_source || n < m->eval_chunks || vocabulary(path) != vocab) TRY(measure(m, path, text, m->eval_chunks, NULL, NULL, &r, err));
    out->ppl = r.ppl;
    if (is_source || vocabulary(path) != vocab) return MOTE_OK; /* another vocabulary: its logits are about other things */
    if (access(base, R_OK) != 0) TRY(measure(m, m->source, text, n, base, NULL, &d, err));
    TRY(measure(m, path, text, n, NULL, base, &d, err));
    if (n == m->eval_chunks) out->ppl = d.ppl;
    out->kld = d.kld_mean;
    out->top = d.same_top;
    return MOTE_OK;
}

mote_status make_measure(maker *m, const char *path, mote_make_stage *out, mote_error *err) {
    eval_text t;
    char key[SHA256_HEX], file[MAKE_PATH_MAX];
    TRY(open_text(m, &t, err));
    mote_status st = name_of(m, path, t.s, key, err);
    const json_t *known = st == MOTE_OK ? json_object_get(m->plan, key) : NULL;
    if (known) {
        out->ppl = json_get_num(known, "ppl", 0);
        out->kld = json_get_num(known, "kld", 0);
        out->top = json_get_num(known, "top", 0);
    } else if (st == MOTE_OK) {
        st = both(m, path, t.s, out, err);
        if (st == MOTE_OK && json_object_set_new(m->plan, key, json_pack("{s:f, s:f, s:f}", "ppl", out->ppl, "kld", out->kld, "top", out->top)) != 0)
            st = ERR(err, MOTE_E_MEMORY, "out of memory");
        (void)snprintf(file, sizeof file, "%.*s/plan.json", MAKE_PATH_MAX - 16, m->work);
        if (st == MOTE_OK) st = make_save_json(file, m->plan, err);
    }
    file_close(&t.map);
    return st;
}
