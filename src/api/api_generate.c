/* api_generate.c: bodies of mote/generate.h (but chat) and mote/eval.h. */
#include "mote/eval.h"
#include "mote/generate.h"

#include "api/api_int.h"
#include "run/run.h"
#include "tensor/machine.h"

/* ---- generation ---- */

void mote_gen_opts_fill(mote_gen_opts *o, size_t size) {
    const mote_gen_opts d = {.size = sizeof d};
    api_fill(o, size, &d, sizeof d);
}

const char *mote_finish_name(mote_finish f) {
    static const char *const names[] = {"end", "stop", "length", "context", "callback", "cancelled", "error"};
    return (size_t)f < COUNT_OF(names) ? names[f] : "unknown";
}

mote_status mote_complete_ids(mote_session *s, size_t seq, const int32_t *ids, size_t n,
                              const mote_gen_opts *o, mote_gen_result *result, mote_error *err) {
    API_NEED(s, err);
    mote_gen_opts own = mote_gen_opts_default();
    mote_gen_result r;
    TRY(api_merge(&own, sizeof own, o, err));
    atomic_store(&s->cancel, 0);
    mote_status st = run_generate(s, seq, ids, n, &own, &r, err);
    api_result(result, &r, sizeof r);
    return st;
}

mote_status mote_complete(mote_session *s, size_t seq, const char *text, size_t n_bytes,
                          const mote_gen_opts *o, mote_gen_result *result, mote_error *err) {
    API_NEED(s, err);
    tok_ids ids = {0};
    mote_status st = run_encode_prompt(s->model, (str){text, n_bytes}, TOK_SPECIAL, &ids, err);
    if (st == MOTE_OK) st = mote_complete_ids(s, seq, ids.p, ids.n, o, result, err);
    tok_ids_free(&ids);
    return st;
}

mote_status mote_infill_prompt(const mote_model *m, const char *prefix, size_t n_prefix, const char *suffix,
                               size_t n_suffix, int32_t *ids, size_t cap, size_t *n, mote_error *err) {
    API_NEED(m, err);
    API_NEED(n, err);
    tok_ids all = {0};
    mote_status st = run_infill_ids(m, (str){prefix, n_prefix}, (str){suffix, n_suffix}, &all, err);
    if (st == MOTE_OK) {
        if (ids && MIN(cap, all.n)) memcpy(ids, all.p, MIN(cap, all.n) * sizeof *ids);
        *n = all.n;
    }
    tok_ids_free(&all);
    return st;
}

mote_status mote_infill(mote_session *s, size_t seq, const char *prefix, size_t n_prefix, const char *suffix,
                        size_t n_suffix, const mote_gen_opts *o, mote_gen_result *result, mote_error *err) {
    API_NEED(s, err);
    tok_ids ids = {0};
    mote_status st = run_infill_ids(s->model, (str){prefix, n_prefix}, (str){suffix, n_suffix}, &ids, err);
    if (st == MOTE_OK) st = mote_complete_ids(s, seq, ids.p, ids.n, o, result, err);
    tok_ids_free(&ids);
    return st;
}

/* ---- embeddings ---- */

void mote_embed_opts_fill(mote_embed_opts *o, size_t size) {
    const mote_embed_opts d = {.size = sizeof d, .pooling = MOTE_POOL_MODEL, .normalize = true};
    api_fill(o, size, &d, sizeof d);
}

mote_status mote_embed_session_open(mote_session **out, mote_model *m, mote_error *err) {
    API_NEED(out, err);
    *out = NULL;
    API_NEED(m, err);
    mote_session_opts o = mote_session_opts_default();
    o.n_ctx = MIN(m->n_ctx_train ? m->n_ctx_train : 512, (size_t)2048);
    o.n_batch = o.n_ctx;
    o.n_seq = 16;
    o.type_k = o.type_v = "f32";
    o.checkpoint_every = 0;
    return run_session_open(out, m, &o, err);
}

mote_status mote_embed(mote_session *s, const char *const *texts, const size_t *n_bytes, size_t n_texts,
                       const mote_embed_opts *o, float *dst, size_t *n_tokens, mote_error *err) {
    API_NEED(s, err);
    mote_embed_opts own = mote_embed_opts_default();
    TRY(api_merge(&own, sizeof own, o, err));
    if (n_texts == 0) return MOTE_OK;
    API_NEED(texts, err);
    API_NEED(n_bytes, err);
    API_NEED(dst, err);
    atomic_store(&s->cancel, 0);
    return run_embed(s, texts, n_bytes, n_texts, &own, dst, n_tokens, err);
}

/* ---- evaluation ---- */

void mote_ppl_opts_fill(mote_ppl_opts *o, size_t size) {
    const mote_ppl_opts d = {.size = sizeof d, .n_ctx = 512};
    api_fill(o, size, &d, sizeof d);
}

mote_status mote_perplexity(mote_session *s, const char *text, size_t n_bytes, const mote_ppl_opts *o,
                            mote_ppl_result *result, mote_error *err) {
    API_NEED(s, err);
    mote_ppl_opts own = mote_ppl_opts_default();
    mote_ppl_result r = {.size = sizeof r};
    TRY(api_merge(&own, sizeof own, o, err));
    atomic_store(&s->cancel, 0);
    mote_status st = run_perplexity(s, (str){text, n_bytes}, &own, &r, err);
    api_result(result, &r, sizeof r);
    return st;
}

void mote_bench_opts_fill(mote_bench_opts *o, size_t size) {
    const mote_bench_opts d = {.size = sizeof d, .n_prompt = 512, .n_gen = 0, .n_parallel = 1, .n_reps = 5};
    api_fill(o, size, &d, sizeof d);
}

mote_status mote_bench(mote_session *s, const mote_bench_opts *o, mote_bench_sample *samples,
                       mote_error *err) {
    API_NEED(s, err);
    API_NEED(samples, err);
    mote_bench_opts own = mote_bench_opts_default();
    TRY(api_merge(&own, sizeof own, o, err));
    atomic_store(&s->cancel, 0);
    return run_bench(s, &own, samples, err);
}

mote_status mote_machine_measure(mote_engine *e, bool only_limits, mote_machine *out, mote_error *err) {
    API_NEED(e, err);
    API_NEED(out, err);
    mote_machine *m = MEM_NEW(mote_machine);
    if (!m) FAIL(err, MOTE_E_MEMORY, "out of memory");
    m->size = sizeof *m;
    mote_status st = run_machine(e, only_limits, m, err);
    if (st == MOTE_OK) api_result(out, m, sizeof *m);
    mem_free(m);
    return st;
}

mote_status mote_bench_limits(const mote_session *s, const mote_bench_opts *o, const mote_machine *m, mote_bench_limit *out,
                              mote_error *err) {
    API_NEED(s, err);
    API_NEED(m, err);
    mote_bench_opts own = mote_bench_opts_default();
    mote_bench_limit limit = {.size = sizeof limit};
    TRY(api_merge(&own, sizeof own, o, err));
    run_bench_limits(s, &own, m, &limit);
    api_result(out, &limit, sizeof limit);
    return MOTE_OK;
}

double mote_machine_read_limit(const mote_machine *m, double bytes) { return machine_read_limit(m, bytes); }
double mote_machine_peak_limit(const mote_machine *m, const char *unit) { return machine_peak_limit(m, unit); }

mote_status mote_profile_start(mote_session *s, mote_error *err) {
    API_NEED(s, err);
    return run_profile_start(s, err);
}

void mote_profile_stop(mote_session *s) { run_profile_stop(s); }

mote_status mote_profile_read(const mote_session *s, int phase, mote_profile_phase *out, mote_error *err) {
    API_NEED(s, err);
    API_NEED(out, err);
    return run_profile_read(s, phase, out, err);
}
