/* make_plan.c: budgets into options: the target into one of `mote quantize`, which measures how sensitive each tensor is and chooses
 * formats (budget.c); its figures are kept beside the stages, so that another target costs little. The time into steps: a few are run,
 * and how long one takes says how many fit into what is left. */
#include "compress/maker.h"

#include <math.h>
#include <stdlib.h>
#include <unistd.h>

#define PROBE_STEPS 3
#define TIME_SHARE 0.9 /* of the time: trying, loading and writing take some, too */

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

/* The stages that share the time: all that train, but those that say how long. */
static size_t trainings(const maker *m) {
    size_t n = 0;
    for (size_t i = 0; i < make_n_stages(m); i++) {
        const make_command *c;
        const json_t *options;
        n += make_stage_of(m, i, &c, &options, NULL) == MOTE_OK && c->flags & MAKE_TRAINS && !make_counts_steps(options);
    }
    return n ? n : 1;
}

/* most: seconds after which no further step is tried. */
static mote_status probe(maker *m, const make_args *a, const char *key, double most, double *seconds, mote_error *err) {
    char dir[MAKE_PATH_MAX], out[MAKE_PATH_MAX + 32], log[MAKE_PATH_MAX + 64], steps[16], at_most[32];
    const char *argv[MAKE_ARGS_MAX];
    (void)snprintf(dir, sizeof dir, "%.*s/trial-%.16s", MAKE_PATH_MAX - 64, m->work, key);
    (void)snprintf(out, sizeof out, "%s.gguf", dir);
    (void)snprintf(log, sizeof log, "%s.txt", dir);
    (void)snprintf(steps, sizeof steps, "%d", PROBE_STEPS);
    (void)snprintf(at_most, sizeof at_most, "%.6f", most);
    size_t n = 0;
    for (size_t i = 0; i < a->n && n + 10 < MAKE_ARGS_MAX; i++) argv[n++] = strcmp(a->v[i], "{out}") == 0 ? out : a->v[i];
    const char *const more[] = {"--steps", steps, "--dir", dir, "--eval-every", "1000000", "--max-seconds", at_most};
    for (size_t i = 0; i < COUNT_OF(more); i++) argv[n++] = more[i];
    argv[n] = NULL;
    int code = m->o->run(m->o->ctx, argv, n, log);
    (void)unlink(out);
    if (code) FAIL(err, code == 130 ? MOTE_E_CANCELLED : MOTE_E_FORMAT, "%d trial steps of '%s' ended with code %d; what it said: %s", PROBE_STEPS, a->v[0], code, log);
    (void)snprintf(log, sizeof log, "%s/log.jsonl", dir);
    return step_seconds(log, seconds, err);
}

mote_status make_plan_steps(maker *m, size_t stage, const make_args *a, const char *key, make_args *out, mote_error *err) {
    char name[128], steps[24], seconds[32];
    double share = m->time * TIME_SHARE / (double)trainings(m);
    (void)snprintf(name, sizeof name, "steps %s %.3f", key, share);
    int64_t n = json_get_int(m->plan, name, 0);
    if (!n) {
        double one;
        TRY(probe(m, a, key, share / 20, &one, err));
        n = (int64_t)floor(share / one);
        if (n < 1) FAIL(err, MOTE_E_LIMIT, "the time of %g s is not enough: %.3g s of it are for stage %zu (%s), one step takes %.2g s", m->time, share, stage + 1, a->v[0], one);
        if (json_object_set_new(m->plan, name, json_integer(n)) != 0) FAIL(err, MOTE_E_MEMORY, "out of memory for a plan");
        TRY(save_plan(m, err));
    }
    *out = *a;
    (void)snprintf(steps, sizeof steps, "%lld", (long long)n);
    (void)snprintf(seconds, sizeof seconds, "%.3f", share);
    const char *const more[] = {"--steps", steps, "--max-seconds", seconds};
    for (size_t i = 0; i < COUNT_OF(more); i++) TRY(make_put(m, out, more[i], err));
    return MOTE_OK;
}
