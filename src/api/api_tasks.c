/* api_tasks.c: bodies of mote/tasks.h. */
#include "mote/tasks.h"

#include "api/api_int.h"
#include "run/eval_tasks.h"

void mote_task_opts_fill(mote_task_opts *o, size_t size) {
    const mote_task_opts d = {.size = sizeof d, .n_fewshot = MOTE_TASK_DEFAULT, .fewshot_seed = 1234};
    api_fill(o, size, &d, sizeof d);
}

const char *mote_task_name(size_t i, const char **about) {
    const eval_task *t = eval_task_at(i);
    if (!t) return NULL;
    if (about) *about = t->about;
    return t->name;
}

mote_status mote_task_run(mote_session *s, const mote_task_opts *o, mote_task_result *r, mote_error *err) {
    API_NEED(s, err);
    API_NEED(r, err);
    mote_task_opts own = mote_task_opts_default();
    mote_task_result made = {.size = sizeof made};
    TRY(api_merge(&own, sizeof own, o, err));
    atomic_store(&s->cancel, 0);
    mote_status st = eval_run(s, &own, &made, err);
    if (st == MOTE_OK) api_result(r, &made, sizeof made);
    return st;
}

mote_status mote_smoke(mote_session *s, size_t max_tokens, mote_smoke_result *r, mote_error *err) {
    API_NEED(s, err);
    API_NEED(r, err);
    mote_smoke_result made = {.size = sizeof made};
    atomic_store(&s->cancel, 0);
    mote_status st = eval_smoke(s, SIZE_MAX, max_tokens ? max_tokens : 160, &made, err);
    if (st == MOTE_OK) api_result(r, &made, sizeof made);
    return st;
}

mote_status mote_smoke_files(const char *path, const char *source, int n_threads, mote_smoke_check *c, mote_error *err) {
    API_NEED(path, err);
    API_NEED(c, err);
    mote_smoke_check made = {.size = sizeof made};
    TRY(eval_smoke_check(path, source, n_threads, &made, err));
    api_result(c, &made, sizeof made);
    return MOTE_OK;
}
