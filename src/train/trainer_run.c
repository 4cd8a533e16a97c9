/* trainer_run.c: opening, checkpoints, and the run to its end. */
#include "train/trainer_int.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

mote_status trainer_open(trainer **out, const trainer_opts *o, const train_param *params, size_t n, const train_source *source,
                         train_loss_fn *loss, void *loss_ctx, const train_hooks *hooks, mote_error *err) {
    *out = NULL;
    if (n == 0) FAIL(err, MOTE_E_USAGE, "nothing is to be trained");
    trainer *t = MEM_NEW(trainer);
    mote_status s = MOTE_OK;
    if (!t) FAIL(err, MOTE_E_MEMORY, "out of memory");
    t->o = *o;
    t->o.dir = NULL;
    t->o.identity = NULL;
    t->n = n;
    t->source = *source;
    t->loss = loss;
    t->loss_ctx = loss_ctx;
    if (hooks) t->hooks = *hooks;
    if (t->o.schedule.steps == 0) t->o.schedule.steps = t->o.steps;
    if (t->o.save_every == 0) t->o.save_every = MAX(t->o.steps / 10, 1);
    if (t->o.bad_max == 0) t->o.bad_max = 8;
    t->identity = o->identity ? json_deep_copy(o->identity) : json_object();
    t->extra = MEM_NEW_N(ckpt_section, TRAINER_EXTRA_MAX);
    if (!t->identity || !t->extra) FAILG(s, err, MOTE_E_MEMORY, "out of memory");
    TRYG(s, trainer_alloc(t, params, err));
    TRYG(s, tape_open(&t->tape, &(tape_opts){.pool = o->pool, .kern = o->kern, .prec = o->prec, .max_bytes = o->max_bytes}, err));
    TRYG(s, optim_open(&t->optim, &o->optim, params, n, o->pool, o->kern, err));
    if (o->dir && ranks_rank(o->ranks) == 0) TRYG(s, ckpt_dir_open(&t->dir, o->dir, o->keep ? o->keep : 2, o->log, err));
    *out = t;
    return MOTE_OK;
out:
    trainer_close(&t);
    return s;
}

void trainer_close(trainer **t) {
    if (!*t) return;
    tape_close(&(*t)->tape);
    optim_close(&(*t)->optim);
    ckpt_dir_close(&(*t)->dir);
    trainer_free(*t);
    mem_free(*t);
    *t = NULL;
}

uint64_t trainer_at(const trainer *t) { return t->at; }
tape *trainer_tape(trainer *t) { return t->tape; }

mote_status trainer_keep(trainer *t, const char *name, void *p, size_t n, mote_error *err) {
    if (t->n_extra == TRAINER_EXTRA_MAX) FAIL(err, MOTE_E_LIMIT, "more than %d additional sections in a checkpoint", TRAINER_EXTRA_MAX);
    ckpt_section *s = &t->extra[t->n_extra++];
    (void)snprintf(s->name, sizeof s->name, "x:%s", name);
    s->p = p;
    s->n = n;
    return MOTE_OK;
}

/* ---- checkpoints ---- */

static mote_status sections(trainer *t, ckpt_section **out, size_t *n, mote_error *err) {
    size_t states = optim_sections(t->optim, NULL, 0), cap = 2 * t->n + states + t->n_extra, at = 0;
    ckpt_section *s = MEM_NEW_N(ckpt_section, cap);
    *out = s;
    if (!s) FAIL(err, MOTE_E_MEMORY, "out of memory");
    for (size_t i = 0; i < t->n; i++) {
        const train_param *p = &t->params[i];
        size_t bytes = p->v->rows * p->v->cols * sizeof(float);
        (void)snprintf(s[at].name, sizeof s[at].name, TRAINER_VALUES, STR_ARG(p->name));
        s[at].p = p->v->x;
        s[at++].n = bytes;
        if (!t->averages[i]) continue;
        (void)snprintf(s[at].name, sizeof s[at].name, TRAINER_AVERAGES, STR_ARG(p->name));
        s[at].p = t->averages[i];
        s[at++].n = bytes;
    }
    at += optim_sections(t->optim, s + at, states);
    memcpy(s + at, t->extra, t->n_extra * sizeof *s);
    *n = at + t->n_extra;
    return MOTE_OK;
}

static uint64_t now(const trainer *t) { return t->o.now ? t->o.now() : clock_ns(); }
static double seconds_so_far(const trainer *t) { return t->seconds_before + (t->began_ns ? (double)(now(t) - t->began_ns) * 1e-9 : 0); }

json_t *trainer_meta(trainer *t) {
    json_t *cursor = t->source.cursor ? t->source.cursor(t->source.ctx) : json_null();
    if (!cursor) return NULL;
    json_t *meta = json_pack("{s:i, s:I, s:I, s:I, s:I, s:o, s:O}", "version", 1, "step", (json_int_t)t->at, "updates", (json_int_t)t->updates,
                             "tokens", (json_int_t)t->tokens, "skipped", (json_int_t)t->skipped, "cursor", cursor, "identity", t->identity);
    if (!meta || !(t->o.max_seconds > 0)) return meta;
    /* how long the run may still take is of the clock, not of the bits: only runs with such a bound keep it */
    if (json_object_set_new(meta, "seconds", json_real(seconds_so_far(t))) == 0 && json_object_set_new(meta, "steps", json_integer((json_int_t)t->o.steps)) == 0 &&
        json_object_set_new(meta, "decay", json_integer((json_int_t)t->o.schedule.decay)) == 0) return meta;
    json_decref(meta);
    return NULL;
}

mote_status trainer_save(trainer *t, mote_error *err) {
    if (!t->dir) return MOTE_OK;
    const train_param *bad = optim_bad_value(t->optim);
    if (bad) FAIL(err, MOTE_E_OUTPUT, "step %" PRIu64 ": '%.*s' has values that are not finite: no checkpoint is made of them", t->at, STR_ARG(bad->name));
    ckpt_section *s;
    size_t n;
    TRY(sections(t, &s, &n, err));
    json_t *meta = trainer_meta(t);
    mote_status st = meta ? ckpt_dir_save(t->dir, t->at, meta, s, n, err) : ERR(err, MOTE_E_MEMORY, "out of memory");
    json_decref(meta);
    mem_free(s);
    if (st == MOTE_OK) {
        t->saved_any = true;
        t->saved_at = t->at;
    }
    return st;
}

/* While the learning rate stands still, before the steps in which it falls, how many are to come, and at what rates, is open: nothing yet was done otherwise. */
static bool length_is_open(const trainer *t, const ckpt *c, const json_t *had) {
    const schedule *s = &t->o.schedule;
    const int64_t at = json_get_int(ckpt_meta(c), "step", -1);
    return s->kind == SCHEDULE_WSD && str_is(json_get_str(had, "schedule"), schedule_name(SCHEDULE_WSD)) && at >= 0 &&
           (uint64_t)at + s->decay <= s->steps && at + json_get_int(had, "decay_steps", 0) <= json_get_int(had, "steps", 0);
}

/* The stages that have begun at step 'at', of a list as an identity holds it. */
static size_t stages_begun(const json_t *list, int64_t at) {
    size_t n = 0;
    while (n < json_array_size(list) && json_integer_value(json_array_get(json_array_get(list, n), 0)) < at) n++;
    return n;
}

static bool same_stages(const json_t *a, const json_t *b, int64_t at) {
    const size_t n = stages_begun(a, at);
    bool same = n == stages_begun(b, at);
    for (size_t i = 0; i < n && same; i++) same = json_equal(json_array_get(a, i), json_array_get(b, i));
    return same;
}

/* What may differ of a run whose rest is open. */
static bool may_differ(const trainer *t, const ckpt *c, const json_t *had, const char *key) {
    return strcmp(key, "steps") == 0 || strcmp(key, "decay_steps") == 0 ||
           (strcmp(key, "lr_steps") == 0 && same_stages(json_object_get(t->identity, key), json_object_get(had, key), json_get_int(ckpt_meta(c), "step", 0)));
}

mote_status trainer_same_run(const trainer *t, const ckpt *c, mote_error *err) {
    const json_t *had = json_object_get(ckpt_meta(c), "identity"), *other;
    const char *key;
    union { /* jansson's iterators take no const */
        const json_t *in;
        json_t *out;
    } have = {had};
    json_t *value;
    const bool open = length_is_open(t, c, had);
    json_object_foreach(t->identity, key, value) {
        other = json_object_get(had, key);
        if (json_equal(value, other) || (open && may_differ(t, c, had, key))) continue;
        char *a = other ? json_dumps(other, JSON_ENCODE_ANY) : NULL, *b = json_dumps(value, JSON_ENCODE_ANY);
        mote_status s = ERR(err, MOTE_E_MISMATCH, "%s: it was made with %s %.100s, this run has %.100s; go on with the old value, or use another folder",
                            ckpt_path(c), key, a ? a : "(none)", b ? b : "?");
        free(a);
        free(b);
        return s;
    }
    json_object_foreach(have.out, key, value)
        if (!json_object_get(t->identity, key) && !(open && may_differ(t, c, had, key)))
            FAIL(err, MOTE_E_MISMATCH, "%s: it was made with %s, which this run does not have; use another folder", ckpt_path(c), key);
    return MOTE_OK;
}

/* What a checkpoint says but its sections. */
struct standing {
    uint64_t at, updates, tokens, skipped, steps, decay;
    double seconds;
    uint64_t cursor_bytes;
};

/* Rank 0 reads; *cursor: JSON text, or NULL. found: there was a checkpoint. */
static mote_status read_newest(trainer *t, struct standing *st, json_t **cursor, bool *found, mote_error *err) {
    ckpt *c;
    *found = false;
    if (!t->dir) return MOTE_OK;
    TRY(ckpt_dir_latest(t->dir, &c, err));
    if (!c) return MOTE_OK;
    ckpt_section *s = NULL;
    size_t n;
    mote_status r = trainer_same_run(t, c, err);
    if (r == MOTE_OK) r = sections(t, &s, &n, err);
    if (r == MOTE_OK) r = ckpt_read(c, s, n, err);
    if (r == MOTE_OK) {
        const json_t *m = ckpt_meta(c);
        *st = (struct standing){(uint64_t)json_get_int(m, "step", 0), (uint64_t)json_get_int(m, "updates", 0),
                                (uint64_t)json_get_int(m, "tokens", 0), (uint64_t)json_get_int(m, "skipped", 0), (uint64_t)json_get_int(m, "steps", 0),
                                (uint64_t)json_get_int(m, "decay", 0), json_get_num(m, "seconds", 0), 0};
        *cursor = json_incref(json_object_get(m, "cursor"));
        *found = true;
    }
    mem_free(s);
    ckpt_close(&c);
    return r;
}

/* What rank 0 read goes to all. */
static mote_status share(trainer *t, struct standing *st, json_t **cursor, bool *found, mote_error *err) {
    if (ranks_size(t->o.ranks) == 1) return MOTE_OK;
    char *text = *cursor ? json_dumps(*cursor, JSON_ENCODE_ANY | JSON_COMPACT) : NULL;
    st->cursor_bytes = text ? strlen(text) : 0;
    mote_status s = ranks_share(t->o.ranks, found, sizeof *found, err);
    if (s == MOTE_OK) s = ranks_share(t->o.ranks, st, sizeof *st, err);
    if (s == MOTE_OK && *found && !text && !(text = mem_calloc(st->cursor_bytes + 1, 1))) s = ERR(err, MOTE_E_MEMORY, "out of memory");
    if (s == MOTE_OK && *found && st->cursor_bytes) s = ranks_share(t->o.ranks, text, st->cursor_bytes, err);
    if (s == MOTE_OK && *found && !*cursor) s = json_parse(cursor, (str){text, st->cursor_bytes}, "a cursor", err);
    free(text);
    ckpt_section *list = NULL;
    size_t n = 0;
    if (s == MOTE_OK && *found) s = sections(t, &list, &n, err);
    for (size_t i = 0; i < n && s == MOTE_OK; i++) s = ranks_share(t->o.ranks, list[i].p, list[i].n, err);
    mem_free(list);
    return s;
}

static mote_status load(trainer *t, bool with_cursor, mote_error *err) {
    struct standing st = {0};
    json_t *cursor = NULL;
    bool found;
    mote_status s = read_newest(t, &st, &cursor, &found, err);
    int32_t failed = s != MOTE_OK;
    if (ranks_size(t->o.ranks) > 1) {
        mote_status told = ranks_share(t->o.ranks, &failed, sizeof failed, s == MOTE_OK ? err : NULL);
        if (s == MOTE_OK) s = told;
        if (s == MOTE_OK && failed) s = ERR(err, MOTE_E_CANCELLED, "the first process could not read the checkpoint; its message says why");
    }
    if (s == MOTE_OK) s = share(t, &st, &cursor, &found, err);
    if (s == MOTE_OK && found) {
        if (with_cursor && t->source.seek) s = t->source.seek(t->source.ctx, cursor, err);
        t->at = st.at;
        t->updates = st.updates;
        t->saved_any = true;
        t->saved_at = st.at;
        if (with_cursor) {
            t->tokens = st.tokens;
            t->skipped = st.skipped;
            t->seconds_before = st.seconds;
            if (t->o.max_seconds > 0 && st.steps >= st.at && st.steps < t->o.steps) {
                t->o.steps = t->o.schedule.steps = st.steps;
                t->o.schedule.decay = st.decay;
            }
        }
    }
    json_decref(cursor);
    return s;
}

mote_status trainer_resume(trainer *t, uint64_t *step, mote_error *err) {
    TRY(load(t, true, err));
    *step = t->at;
    return MOTE_OK;
}

mote_status trainer_go_back(trainer *t, mote_error *err) { return load(t, false, err); }

/* ---- the run ---- */

/* A disk that is full costs the checkpoint, not the run. */
static mote_status save_or_warn(trainer *t, mote_error *err) {
    mote_error why;
    mote_status s = trainer_save(t, &why);
    if (s == MOTE_OK) return MOTE_OK;
    if (s != MOTE_E_IO) {
        if (err) *err = why;
        return s;
    }
    log_line(t->o.log, LOG_WARN, "step %" PRIu64 ": no checkpoint: %s; training goes on", t->at, why.message);
    t->unsaved = true;
    return MOTE_OK;
}

static bool stop_wanted(trainer *t) {
    double stop = t->hooks.stop && t->hooks.stop(t->hooks.ctx);
    if (ranks_size(t->o.ranks) > 1 && ranks_sum_f64(t->o.ranks, &stop, 1, NULL) != MOTE_OK) return true;
    return stop > 0;
}

/* Fewer steps where the time would not be enough for all. The first process's clock counts. */
static mote_status keep_the_time(trainer *t, mote_error *err) {
    enum { STEPS_FIRST = 3 };
    uint64_t done = t->at - t->began_at, left = t->o.steps - t->at, steps = t->o.steps;
    if (!(t->o.max_seconds > 0) || done == 0 || left == 0) return MOTE_OK;
    double one = (double)(now(t) - t->began_ns) * 1e-9 / (double)done, room = t->o.max_seconds - seconds_so_far(t);
    if ((done >= STEPS_FIRST || room < 0) && one * (double)left > room * 1.02) steps = t->at + (room > one ? (uint64_t)(room / one) : 0);
    if (ranks_size(t->o.ranks) > 1) TRY(ranks_share(t->o.ranks, &steps, sizeof steps, err));
    if (steps >= t->o.steps) return MOTE_OK;
    if (!t->cut_told)
        log_line(t->o.log, LOG_WARN, "step %" PRIu64 " of %" PRIu64 ": at %.2f s a step the time of %g s is enough for %" PRIu64 " steps; the run is made so long", t->at, t->o.steps, one,
                 t->o.max_seconds, steps);
    t->cut_told = true;
    t->o.schedule.decay = (uint64_t)((double)t->o.schedule.decay * (double)steps / (double)t->o.steps);
    t->o.steps = t->o.schedule.steps = steps;
    return MOTE_OK;
}

mote_status trainer_run(trainer *t, mote_error *err) {
    bool stopped = false;
    t->began_ns = now(t);
    t->began_at = t->at;
    while (t->at < t->o.steps && !stopped) {
        train_progress p;
        TRY(trainer_step(t, &p, err));
        TRY(keep_the_time(t, err));
        p.steps = t->o.steps;
        bool last = t->at >= t->o.steps;
        if (t->hooks.eval && (last || (t->o.eval_every && t->at % t->o.eval_every == 0))) {
            tape_reset(t->tape);
            TRY(t->hooks.eval(t->hooks.ctx, t->tape, &p.eval_loss, err));
        }
        if (t->hooks.progress) TRY(t->hooks.progress(t->hooks.ctx, &p, err));
        stopped = stop_wanted(t) && !last;
        if (!stopped && !last && t->at % t->o.save_every != 0) continue;
        if (t->dir) TRY(save_or_warn(t, err));
        if (t->hooks.save) TRY(t->hooks.save(t->hooks.ctx, err));
    }
    if (t->unsaved)
        FAIL(err, MOTE_E_IO, "training went on to step %" PRIu64 ", but not every checkpoint could be written (a full disk?); the last one is of step %" PRIu64,
             t->at, t->saved_at);
    if (stopped) FAIL(err, MOTE_E_CANCELLED, "stopped at step %" PRIu64 " of %" PRIu64 "; the same command goes on from there", t->at, t->o.steps);
    return MOTE_OK;
}
