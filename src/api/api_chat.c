/* api_chat.c: bodies of the chat part of mote/generate.h. */
#include "mote/generate.h"

#include "api/api_int.h"
#include "run/conversation.h"

void mote_chat_opts_fill(mote_chat_opts *o, size_t size) {
    const mote_chat_opts d = {.size = sizeof d, .thinking = -1};
    api_fill(o, size, &d, sizeof d);
}

mote_status mote_chat_open(mote_chat **out, mote_session *s, size_t seq, const mote_chat_opts *o,
                           mote_error *err) {
    API_NEED(out, err);
    *out = NULL;
    API_NEED(s, err);
    mote_chat_opts own = mote_chat_opts_default();
    TRY(api_merge(&own, sizeof own, o, err));
    return run_chat_open(out, s, seq, &own, err);
}

void mote_chat_close(mote_chat **c) {
    if (!c) return;
    run_chat_close(*c);
    *c = NULL;
}

const char *mote_chat_note(const mote_chat *c) { return chat_template_note(c->tmpl); }
size_t mote_chat_n_messages(const mote_chat *c) { return json_array_size(c->messages); }
void mote_chat_clear(mote_chat *c) { run_chat_clear(c); }

mote_status mote_chat_add(mote_chat *c, const char *role, const char *text, size_t n_bytes, mote_error *err) {
    API_NEED(c, err);
    API_NEED(role, err);
    return run_chat_add(c, role, (str){text, n_bytes}, err);
}

mote_status mote_chat_set_system(mote_chat *c, const char *text, mote_error *err) {
    API_NEED(c, err);
    return run_chat_set_system(c, text, err);
}

mote_status mote_chat_set_messages(mote_chat *c, const char *json, size_t n_bytes, mote_error *err) {
    API_NEED(c, err);
    return run_chat_set_messages(c, (str){json, n_bytes}, err);
}

mote_status mote_chat_messages(const mote_chat *c, char *dst, size_t cap, size_t *needed, mote_error *err) {
    API_NEED(c, err);
    size_t n = json_dumpb(c->messages, dst, cap ? cap - 1 : 0, JSON_COMPACT);
    if (n == 0) FAIL(err, MOTE_E_MEMORY, "out of memory for the messages as JSON");
    if (cap) dst[MIN(n, cap - 1)] = 0;
    if (needed) *needed = n;
    return MOTE_OK;
}

/* ---- answers: three ways to begin, one to end ---- */

static mote_status begin(mote_chat *c, const mote_gen_opts *o, mote_gen_opts *own, mote_gen_result *r,
                         mote_error *err) {
    *r = (mote_gen_result){.size = sizeof *r, .finish = MOTE_FINISH_ERROR};
    *own = mote_gen_opts_default();
    API_NEED(c, err);
    atomic_store(&c->s->cancel, 0);
    return api_merge(own, sizeof *own, o, err);
}

mote_status mote_chat_answer(mote_chat *c, const mote_gen_opts *o, mote_gen_result *result, mote_error *err) {
    mote_gen_opts own;
    mote_gen_result r;
    mote_status st = begin(c, o, &own, &r, err);
    if (st == MOTE_OK) st = run_chat_answer(c, &own, &r, err);
    api_result(result, &r, sizeof r);
    return st;
}

mote_status mote_chat_say(mote_chat *c, const char *text, size_t n_bytes, const mote_gen_opts *o,
                          mote_gen_result *result, mote_error *err) {
    mote_gen_opts own;
    mote_gen_result r;
    mote_status st = begin(c, o, &own, &r, err);
    if (st == MOTE_OK) st = run_chat_say(c, (str){text, n_bytes}, &own, &r, err);
    api_result(result, &r, sizeof r);
    return st;
}

mote_status mote_chat_regenerate(mote_chat *c, const mote_gen_opts *o, mote_gen_result *result,
                                 mote_error *err) {
    mote_gen_opts own;
    mote_gen_result r;
    mote_status st = begin(c, o, &own, &r, err);
    if (st == MOTE_OK) st = run_chat_regenerate(c, &own, &r, err);
    api_result(result, &r, sizeof r);
    return st;
}

mote_status mote_chat_prompt(mote_chat *c, char *dst, size_t cap, size_t *needed, int32_t *ids,
                             size_t ids_cap, size_t *n_ids, mote_error *err) {
    API_NEED(c, err);
    tok_ids all = {0};
    buf text;
    size_t dropped;
    buf_init(&text, (size_t)1 << 28);
    mote_status st = run_chat_prompt(c, &all, &text, &dropped, err);
    if (st == MOTE_OK) {
        size_t n = api_text(dst, cap, buf_str(&text));
        if (needed) *needed = n;
        if (ids && MIN(ids_cap, all.n)) memcpy(ids, all.p, MIN(ids_cap, all.n) * sizeof *ids);
        if (n_ids) *n_ids = all.n;
    }
    tok_ids_free(&all);
    buf_free(&text);
    return st;
}
