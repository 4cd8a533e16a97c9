/* api_session.c: bodies of mote/session.h and mote/sampling.h. */
#include "mote/sampling.h"
#include "mote/session.h"

#include "api/api_int.h"
#include "run/run.h"
#include "run/spec.h"

/* ---- sessions ---- */

void mote_session_opts_fill(mote_session_opts *o, size_t size) {
    const mote_session_opts d = {.size = sizeof d,
                                 .n_seq = 1,
                                 .n_batch = 512,
                                 .type_k = "f16",
                                 .type_v = "f16",
                                 .checkpoint_every = 512,
                                 .checkpoint_bytes = (size_t)256 << 20,
                                 .n_keep = SIZE_MAX,
                                 .exit_threshold = 2};
    api_fill(o, size, &d, sizeof d);
}

mote_status mote_session_open(mote_session **out, mote_model *m, const mote_session_opts *o,
                              mote_error *err) {
    API_NEED(out, err);
    *out = NULL;
    API_NEED(m, err);
    mote_session_opts own = mote_session_opts_default();
    TRY(api_merge(&own, sizeof own, o, err));
    return run_session_open(out, m, &own, err);
}

void mote_session_close(mote_session **s) {
    if (!s) return;
    run_session_release(*s);
    *s = NULL;
}

void mote_session_get_info(const mote_session *s, mote_session_info *out) {
    mote_session_info i;
    run_session_info(s, &i);
    api_result(out, &i, sizeof i);
}

void mote_session_get_exits(const mote_session *s, mote_exit_stats *out) {
    mote_exit_stats x;
    run_exit_stats(s, &x);
    api_result(out, &x, sizeof x);
}

size_t mote_session_describe(const mote_session *s, char *dst, size_t cap) {
    char text[1024];
    size_t n = run_session_describe(s, text, sizeof text);
    return api_text(dst, cap, (str){text, n});
}

void mote_session_cancel(mote_session *s) { atomic_store(&s->cancel, 1); }

static mote_status begin(mote_session *s, size_t seq, mote_error *err) {
    API_NEED(s, err);
    atomic_store(&s->cancel, 0);
    return run_check_seq(s, seq, err);
}

mote_status mote_session_prompt(mote_session *s, size_t seq, const int32_t *ids, size_t n, size_t *n_reused,
                                mote_error *err) {
    TRY(begin(s, seq, err));
    return run_prompt(s, seq, ids, n, n_reused, err);
}

mote_status mote_session_append(mote_session *s, size_t seq, const int32_t *ids, size_t n, mote_error *err) {
    TRY(begin(s, seq, err));
    return run_append(s, seq, ids, n, err);
}

mote_status mote_session_append_logits(mote_session *s, size_t seq, const int32_t *ids, size_t n, float *dst,
                                       mote_error *err) {
    TRY(begin(s, seq, err));
    if (n == 0) return MOTE_OK;
    API_NEED(dst, err);
    run_feed f = {.seq = seq, .ids = ids, .n = n, .all = dst};
    return run_feed_all(s, &f, 1, err);
}

mote_status mote_session_step(mote_session *s, const mote_step *steps, size_t n, mote_error *err) {
    TRY(begin(s, 0, err));
    return run_step_all(s, steps, n, err);
}

const float *mote_session_logits(const mote_session *s, size_t seq) {
    return seq < s->n_seq ? run_logits(s, seq) : NULL;
}

size_t mote_session_length(const mote_session *s, size_t seq) { return seq < s->n_seq ? s->seqs[seq].n : 0; }
const int32_t *mote_session_tokens(const mote_session *s, size_t seq) {
    return seq < s->n_seq ? s->seqs[seq].ids : NULL;
}

mote_status mote_session_clear(mote_session *s, size_t seq, mote_error *err) {
    TRY(begin(s, seq, err));
    run_clear(s, seq);
    return MOTE_OK;
}

mote_status mote_session_truncate(mote_session *s, size_t seq, size_t n, mote_error *err) {
    TRY(begin(s, seq, err));
    return run_truncate(s, seq, n, err);
}

mote_status mote_session_copy(mote_session *s, size_t dst, size_t src, mote_error *err) {
    TRY(begin(s, dst, err));
    TRY(run_check_seq(s, src, err));
    run_copy(s, dst, src);
    return MOTE_OK;
}

mote_status mote_session_save(mote_session *s, size_t seq, const char *path, mote_error *err) {
    TRY(begin(s, seq, err));
    API_NEED(path, err);
    return run_save(s, seq, path, err);
}

mote_status mote_session_load(mote_session *s, size_t seq, const char *path, mote_error *err) {
    TRY(begin(s, seq, err));
    API_NEED(path, err);
    return run_load(s, seq, path, err);
}

/* ---- speculation ---- */

void mote_spec_opts_fill(mote_spec_opts *o, size_t size) {
    const mote_spec_opts d = {.size = sizeof d, .ngram = true, .n_max = 16};
    api_fill(o, size, &d, sizeof d);
}

mote_status mote_speculator_open(mote_speculator **out, mote_session *s, const mote_spec_opts *o,
                                 mote_error *err) {
    API_NEED(out, err);
    *out = NULL;
    API_NEED(s, err);
    mote_spec_opts own = mote_spec_opts_default();
    TRY(api_merge(&own, sizeof own, o, err));
    return spec_open(out, s, &own, err);
}

void mote_speculator_close(mote_speculator **sp) {
    if (!sp) return;
    spec_close(*sp);
    *sp = NULL;
}

void mote_speculator_get_stats(const mote_speculator *sp, mote_spec_stats *out) {
    mote_spec_stats now;
    spec_stats(sp, &now);
    api_result(out, &now, sizeof now);
}

/* ---- sampling ---- */

void mote_sample_opts_fill(mote_sample_opts *o, size_t size) {
    const mote_sample_opts d = {.size = sizeof d,
                                .seed = MOTE_SEED_RANDOM,
                                .temp = 0.8f,
                                .dynatemp_exponent = 1,
                                .top_k = 40,
                                .top_p = 0.95f,
                                .min_p = 0.05f,
                                .typical_p = 1,
                                .top_n_sigma = -1,
                                .xtc_threshold = 0.1f,
                                .penalty_last_n = 64,
                                .repeat_penalty = 1,
                                .dry_base = 1.75f,
                                .dry_allowed_length = 2,
                                .dry_last_n = -1,
                                .mirostat_tau = 5,
                                .mirostat_eta = 0.1f};
    api_fill(o, size, &d, sizeof d);
}

mote_status mote_model_sampling(const mote_model *m, mote_sample_opts *o, mote_error *err) {
    API_NEED(m, err);
    API_NEED(o, err);
    mote_sample_opts own = mote_sample_opts_default();
    TRY(api_merge(&own, sizeof own, o, err));
    TRY(sampler_advice(m->file, &own, err));
    api_result(o, &own, sizeof own);
    return MOTE_OK;
}

mote_status mote_sampler_open(mote_sampler **out, const mote_model *m, const mote_sample_opts *o,
                              mote_error *err) {
    API_NEED(out, err);
    *out = NULL;
    API_NEED(m, err);
    mote_sample_opts own = mote_sample_opts_default();
    TRY(api_merge(&own, sizeof own, o, err));
    TRY(sampler_open(out, mote_model_n_vocab(m), m->n_ctx_train, m->vocab, &own, err));
    (*out)->owner = run_model_retain(m);
    return MOTE_OK;
}

void mote_sampler_close(mote_sampler **s) {
    if (!s || !*s) return;
    mote_model *m = (*s)->owner;
    sampler_free(*s);
    run_model_release(m);
    *s = NULL;
}

void mote_sampler_reset(mote_sampler *s) { sampler_reset(s); }
void mote_sampler_prompt(mote_sampler *s, const int32_t *ids, size_t n) { sampler_prompt(s, ids, n); }
void mote_sampler_accept(mote_sampler *s, int32_t id) { sampler_accept(s, id); }
mote_status mote_sampler_draw(mote_sampler *s, const float *logits, int32_t *id, mote_error *err) {
    API_NEED(s, err);
    API_NEED(logits, err);
    API_NEED(id, err);
    return sampler_draw(s, logits, id, err);
}

size_t mote_sampler_logprobs(const mote_sampler *s, mote_logprob *chosen, const mote_logprob **top) {
    if (chosen) *chosen = s->chosen;
    if (top) *top = s->top;
    return s->n_top;
}

uint64_t mote_sampler_seed(const mote_sampler *s) { return s->seed; }
