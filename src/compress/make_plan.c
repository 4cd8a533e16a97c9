/* make_plan.c: budgets into options: the target into one of `mote quantize`, which measures how sensitive each tensor is and chooses
 * formats (budget.c); its figures are kept beside the stages, so that another target costs little. The time into steps: a few are run,
 * and how long one takes says how many fit into what is left. */
#include "compress/maker.h"

#include <math.h>
#include <stdlib.h>
#include <unistd.h>

#define PROBE_STEPS 3
#define TIME_SHARE 0.9 /* of what is left: writing and measuring take time, too */

static mote_status save_plan(maker *m, mote_error *err) {
    char path[MAKE_PATH_MAX];
    (void)snprintf(path, sizeof path, "%.*s/plan.json", MAKE_PATH_MAX - 16, m->work);
    return m->o->dry_run ? MOTE_OK : make_save_json(path, m->plan, err);
}

mote_status make_plan_types(maker *m, make_args *a, mote_error *err) {
    char bytes[24];
    if (!m->target) FAIL(err, MOTE_E_FORMAT, "%s: type: auto needs a target", m->recipe_path);
    (void)snprintf(bytes, sizeof bytes, "%llu", (unsigned long long)m->target);
    TRY(make_put(m, a, "--target-size", err));
    TRY(make_put(m, a, bytes, err));
    TRY(make_put(m, a, "--sensitivity", err));
    return make_put(m, a, MAKE_SENSITIVITY, err);
}

mote_status make_sensitivity(maker *m, char out[MAKE_PATH_MAX], mote_error *err) {
    char hex[SHA256_HEX];
    TRY(make_hash(m, m->model, hex, err));
    (void)snprintf(out, MAKE_PATH_MAX, "%.*s/sensitivity-%.16s.json", MAKE_PATH_MAX - 64, m->work, hex);
    return MOTE_OK;
}

/* ---- time ---- */

/* Seconds of a step, of the last line of a training log. */
static mote_status step_seconds(const char *log, double *out, mote_error *err) {
    file_map f;
    json_t *line = NULL;
    TRY(file_open(&f, log, FILE_READ, err));
    str all = {(const char *)f.p, f.n}, last = {NULL, 0};
    double tokens = 0, rate = 0, step = 0;
    for (size_t at = 0; at < all.n;) {
        size_t end = MIN(str_find(all, STR("\n"), at), all.n);
        last = str_sub(all, at, end - at);
        at = end + 1;
        if (json_parse(&line, last, log, NULL) != MOTE_OK) continue;
        tokens = json_get_num(line, "tokens", tokens);
        step = json_get_num(line, "step", step);
        rate = MAX(rate, json_get_num(line, "tokens_per_s", 0));
        json_decref(line);
        line = NULL;
    }
    file_close(&f);
    if (!(rate > 0) || !(step > 0)) FAIL(err, MOTE_E_FORMAT, "%s: no speed in the log of the trial steps", log);
    *out = tokens / step / rate;
    return MOTE_OK;
}

static size_t trainings_left(const maker *m, size_t stage) {
    size_t n = 0;
    for (size_t i = stage; i < make_n_stages(m); i++) {
        const make_command *c;
        const json_t *options;
        if (make_stage_of(m, i, &c, &options, NULL) == MOTE_OK && c->flags & MAKE_TRAINS && !json_object_get(options, "steps")) n++;
    }
    return n ? n : 1;
}

static mote_status probe(maker *m, const make_args *a, const char *key, double *seconds, mote_error *err) {
    char dir[MAKE_PATH_MAX], out[MAKE_PATH_MAX + 32], log[MAKE_PATH_MAX + 64], steps[16];
    const char *argv[MAKE_ARGS_MAX + 4];
    (void)snprintf(dir, sizeof dir, "%.*s/trial-%.16s", MAKE_PATH_MAX - 64, m->work, key);
    (void)snprintf(out, sizeof out, "%s.gguf", dir);
    (void)snprintf(log, sizeof log, "%s.txt", dir);
    (void)snprintf(steps, sizeof steps, "%d", PROBE_STEPS);
    size_t n = 0;
    for (size_t i = 0; i < a->n && n + 5 < MAKE_ARGS_MAX; i++) argv[n++] = strcmp(a->v[i], "{out}") == 0 ? out : a->v[i];
    const char *const more[] = {"--steps", steps, "--dir", dir};
    for (size_t i = 0; i < COUNT_OF(more); i++) argv[n++] = more[i];
    argv[n] = NULL;
    int code = m->o->run(m->o->ctx, argv, n, log);
    (void)unlink(out);
    if (code) FAIL(err, code == 130 ? MOTE_E_CANCELLED : MOTE_E_FORMAT, "%d trial steps of '%s' ended with code %d; what it said: %s", PROBE_STEPS, a->v[0], code, log);
    (void)snprintf(log, sizeof log, "%s/log.jsonl", dir);
    return step_seconds(log, seconds, err);
}

mote_status make_plan_steps(maker *m, size_t stage, const make_args *a, const char *key, make_args *out, mote_error *err) {
    char name[128], text[24];
    (void)snprintf(name, sizeof name, "steps %s %.0f", key, m->time);
    int64_t steps = json_get_int(m->plan, name, 0);
    if (!steps) {
        double one;
        TRY(probe(m, a, key, &one, err));
        double left = m->time * TIME_SHARE - (double)(clock_ns() - m->began_ns) * 1e-9, share = left / (double)trainings_left(m, stage);
        steps = (int64_t)floor(share / one);
        if (steps < 1)
            FAIL(err, MOTE_E_LIMIT, "the time of %.0f s is not enough: %.0f s of it are left for stage %zu (%s), one step takes %.1f s", m->time, MAX(share, 0), stage + 1, a->v[0], one);
        if (json_object_set_new(m->plan, name, json_integer(steps)) != 0) FAIL(err, MOTE_E_MEMORY, "out of memory for a plan");
        TRY(save_plan(m, err));
    }
    *out = *a;
    (void)snprintf(text, sizeof text, "%lld", (long long)steps);
    TRY(make_put(m, out, "--steps", err));
    return make_put(m, out, text, err);
}
