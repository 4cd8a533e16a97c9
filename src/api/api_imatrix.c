/* api_imatrix.c: bodies of mote/imatrix.h. */
#include "mote/imatrix.h"

#include "api/api_int.h"
#include "compress/importance.h"

void mote_imatrix_opts_fill(mote_imatrix_opts *o, size_t size) {
    const mote_imatrix_opts d = {.size = sizeof d, .n_ctx = IMATRIX_CHUNK_DEFAULT, .output_every = 10};
    api_fill(o, size, &d, sizeof d);
}

mote_status mote_imatrix(mote_session *s, const char *text, size_t n_bytes, const mote_imatrix_opts *o, mote_imatrix_result *result,
                         mote_error *err) {
    API_NEED(s, err);
    API_NEED(text, err);
    mote_imatrix_opts own = mote_imatrix_opts_default();
    TRY(api_merge(&own, sizeof own, o, err));
    API_NEED(own.out, err);
    mote_imatrix_result r = {.size = sizeof r};
    TRY(imatrix_collect(s, (str){text, n_bytes}, &own, &r, err));
    api_result(result, &r, sizeof r);
    return MOTE_OK;
}

mote_status mote_imatrix_merge(const mote_imatrix_opts *o, mote_imatrix_result *result, mote_error *err) {
    mote_imatrix_opts own = mote_imatrix_opts_default();
    TRY(api_merge(&own, sizeof own, o, err));
    API_NEED(own.out, err);
    if (own.n_in == 0) FAIL(err, MOTE_E_USAGE, "no importance matrices to add up");
    imatrix m = {0};
    mote_imatrix_result r = {.size = sizeof r};
    mote_status s = MOTE_OK;
    for (size_t i = 0; i < own.n_in && s == MOTE_OK; i++) s = imatrix_read(&m, own.in[i], own.n_ctx, err);
    if (s == MOTE_OK) s = imatrix_write(&m, own.out, own.legacy, err);
    r.n_entries = m.n;
    r.n_chunks = m.n_chunks;
    imatrix_free(&m);
    if (s == MOTE_OK) api_result(result, &r, sizeof r);
    return s;
}

mote_status mote_imatrix_statistics(const char *path, mote_imatrix_stats *out, mote_error *err) {
    imatrix m = {0};
    *out = (mote_imatrix_stats){0};
    API_NEED(path, err);
    mote_status s = imatrix_read(&m, path, 0, err);
    if (s == MOTE_OK) s = imatrix_statistics(&m, out, err);
    imatrix_free(&m);
    if (s != MOTE_OK) mote_imatrix_stats_free(out);
    return s;
}

void mote_imatrix_stats_free(mote_imatrix_stats *s) {
    if (s->owned) arena_free(s->owned);
    mem_free(s->owned);
    *s = (mote_imatrix_stats){0};
}
