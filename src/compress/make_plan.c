/* make_plan.c: budgets into options: number formats under the bytes, steps under the time.
 *
 * Bytes: the richest type whose file fits, by dry runs of the quantizer; then, as room is left, tensors take the format that the next richer
 * type gives them, those first for which that lowers the weights' squared error most per byte. The errors are measured: both types are
 * tried on the model itself. Steps: a few are run, and how long one takes says how many fit into what is left. */
#include "compress/maker.h"

#include "compress/importance.h"
#include "compress/quantize.h"

#include <math.h>
#include <stdlib.h>
#include <unistd.h>

#define PROBE_STEPS 3
#define TIME_SHARE 0.9 /* of what is left: writing and measuring take time, too */

/* From rich to poor; types that this build cannot write are passed over. */
static const char *const ladder[] = {"Q8_0", "Q6_K", "Q5_K_M", "Q5_K_S", "Q4_K_M", "Q4_K_S", "IQ4_XS", "Q3_K_L", "Q3_K_M", "Q3_K_S", "IQ3_XXS", "Q2_K", "Q2_K_S",
                                     "IQ2_S", "IQ2_XS", "IQ2_XXS", "IQ1_M", "IQ1_S"};

static mote_status save_plan(maker *m, mote_error *err) {
    char path[MAKE_PATH_MAX];
    (void)snprintf(path, sizeof path, "%.*s/plan.json", MAKE_PATH_MAX - 16, m->work);
    return m->o->dry_run ? MOTE_OK : make_save_json(path, m->plan, err);
}

static mote_status try_type(maker *m, const char *type, const char *out, mote_quantize_report *r, mote_error *err) {
    const mote_quantize_options o = {.type = type, .dry_run = out == NULL, .allow_requantize = true, .n_threads = m->o->n_threads,
                                     .imatrix = m->imatrix[0] ? m->imatrix : NULL};
    if (!o.imatrix) return compress_quantize(m->model, out, &o, NULL, r, err);
    imatrix_source source;
    mote_status st = imatrix_source_open(&source, o.imatrix, NULL, 0, NULL, 0, err);
    if (st == MOTE_OK) st = compress_quantize(m->model, out, &o, &source.importance, r, err);
    imatrix_source_free(&source);
    return st;
}

/* What of a file is not tensors; the tokenizer mostly. */
static uint64_t other_bytes(const char *path) {
    model_file *f;
    uint64_t tensors = 0, all;
    if (model_file_open(&f, path, MODEL_FILE_VOCAB, NULL) != MOTE_OK) return 0;
    all = file_is_dir(path) ? 0 : model_file_bytes(f);
    for (size_t i = 0; i < model_file_n_tensors(f); i++) tensors += model_file_tensor(f, i)->size + 32;
    model_file_close(&f);
    return (all > tensors ? all - tensors : 0) + ((uint64_t)64 << 10);
}

typedef struct upgrade {
    size_t tensor;
    uint64_t bytes;
    double gain; /* squared error per byte */
} upgrade;

static int best_first(const void *a, const void *b) {
    const upgrade *x = a, *y = b;
    if (x->gain > y->gain || x->gain < y->gain) return x->gain > y->gain ? -1 : 1;
    return x->tensor < y->tensor ? -1 : x->tensor > y->tensor;
}

/* "^name$=format" for every tensor that takes the richer format. */
static mote_status upgrades(const mote_quantize_report *low, const mote_quantize_report *high, uint64_t room, json_t *list, mote_error *err) {
    upgrade *u = MEM_NEW_N(upgrade, low->n_tensors + 1);
    size_t n = 0;
    if (!u) FAIL(err, MOTE_E_MEMORY, "out of memory for a plan");
    for (size_t i = 0; i < low->n_tensors && low->n_tensors == high->n_tensors; i++) {
        const mote_quantized_tensor *a = &low->tensors[i], *b = &high->tensors[i];
        if (b->bytes_to <= a->bytes_to || strcmp(a->to, b->to) == 0) continue;
        double weights = 1;
        for (int k = 0; k < a->n_dims; k++) weights *= (double)a->ne[k];
        u[n++] = (upgrade){i, b->bytes_to - a->bytes_to, (a->nmse - b->nmse) * weights / (double)(b->bytes_to - a->bytes_to)};
    }
    qsort(u, n, sizeof *u, best_first);
    bool failed = false;
    for (size_t i = 0; i < n; i++) {
        if (u[i].bytes > room || u[i].gain <= 0) continue;
        room -= u[i].bytes;
        buf b;
        buf_init(&b, 1024);
        buf_putc(&b, '^');
        for (const char *p = low->tensors[u[i].tensor].name; *p; p++) {
            if (*p == '.') buf_putc(&b, '\\');
            buf_putc(&b, *p);
        }
        buf_printf(&b, "$=%s", high->tensors[u[i].tensor].to);
        failed |= b.failed || json_array_append_new(list, json_string(b.p)) != 0;
        buf_free(&b);
    }
    mem_free(u);
    if (failed) FAIL(err, MOTE_E_MEMORY, "out of memory for a plan");
    return MOTE_OK;
}

/* The richest type from ladder[*at] on that fits, and the one above it (NULL: none). */
static mote_status choose(maker *m, size_t *at, const char **low, const char **high, uint64_t *room, mote_error *err) {
    uint64_t other = other_bytes(m->model), least = 0;
    const char *smallest = NULL;
    *low = NULL;
    for (size_t i = *at; i < COUNT_OF(ladder); i++) {
        mote_quantize_report r = {0};
        mote_error why = {0};
        mote_status st = try_type(m, ladder[i], NULL, &r, &why);
        if (st == MOTE_E_MEMORY || st == MOTE_E_IO) {
            if (err) *err = why;
            return st;
        }
        if (st != MOTE_OK) continue; /* no encoder, or it needs an importance matrix */
        uint64_t bytes = r.bytes_to + other;
        compress_report_free(&r);
        if (!smallest || bytes < least) smallest = ladder[i], least = bytes;
        if (bytes <= m->target) {
            *low = ladder[i];
            *at = i;
            *room = m->target - bytes;
            return MOTE_OK;
        }
        *high = ladder[i];
    }
    if (!smallest)
        FAIL(err, MOTE_E_LIMIT, "the target of %.1f MB cannot be met by quantizing: no type that this model can be written in is as small%s; prune first, or trim the vocabulary",
             (double)m->target * 1e-6, m->imatrix[0] ? "" : " (the smallest ones need a stage 'imatrix' before)");
    FAIL(err, MOTE_E_LIMIT, "the target of %.1f MB cannot be met by quantizing: %s has %.1f MB, and is the smallest%s; prune first, or trim the vocabulary",
         (double)m->target * 1e-6, smallest, (double)least * 1e-6, m->imatrix[0] ? "" : " without an importance matrix (a stage 'imatrix' before)");
}

static mote_status plan_types(maker *m, json_t **out, mote_error *err) {
    const char *low = NULL, *high = NULL;
    uint64_t room = 0;
    char scratch[MAKE_PATH_MAX];
    mote_quantize_report a = {0}, b = {0};
    json_t *types = json_array();
    mote_status st = types ? MOTE_OK : ERR(err, MOTE_E_MEMORY, "out of memory for a plan");
    (void)snprintf(scratch, sizeof scratch, "%.*s/trial.gguf", MAKE_PATH_MAX - 16, m->work);
    for (size_t at = 0; st == MOTE_OK; at++) { /* a type that cannot be written after all is passed over */
        st = choose(m, &at, &low, &high, &room, err);
        if (st != MOTE_OK || m->o->dry_run) break;
        st = try_type(m, low, scratch, &a, err);
        if (st == MOTE_OK || st == MOTE_E_MEMORY || st == MOTE_E_IO) break;
        st = MOTE_OK;
    }
    if (st == MOTE_OK && high && !m->o->dry_run) {
        if (try_type(m, high, scratch, &b, NULL) == MOTE_OK) st = upgrades(&a, &b, room, types, err);
    }
    if (!m->o->dry_run) (void)unlink(scratch);
    compress_report_free(&a);
    compress_report_free(&b);
    if (st == MOTE_OK && !(*out = json_pack("{s:s, s:O}", "type", low, "tensors", types))) st = ERR(err, MOTE_E_MEMORY, "out of memory for a plan");
    json_decref(types);
    return st;
}

/* "name=format" by format: one alternation each, so that there are as few arguments as formats. */
static mote_status put_types(maker *m, make_args *a, const json_t *types, mote_error *err) {
    size_t n = json_array_size(types);
    bool *done = MEM_NEW_N(bool, n + 1);
    if (!done) FAIL(err, MOTE_E_MEMORY, "out of memory for a plan");
    mote_status st = MOTE_OK;
    for (size_t i = 0; i < n && st == MOTE_OK; i++) {
        const char *tail = done[i] ? NULL : strrchr(json_string_value(json_array_get(types, i)), '=');
        if (!tail) continue;
        buf b;
        buf_init(&b, (size_t)1 << 20);
        for (size_t k = i; k < n; k++) {
            const char *one = json_string_value(json_array_get(types, k)), *its = strrchr(one, '=');
            if (done[k] || strcmp(its, tail) != 0) continue;
            if (b.n) buf_putc(&b, '|');
            buf_put(&b, one, (size_t)(its - one));
            done[k] = true;
        }
        buf_puts(&b, tail);
        st = buf_check(&b, "plan", err);
        if (st == MOTE_OK) st = make_put(m, a, "--tensor-type", err);
        if (st == MOTE_OK) st = make_put(m, a, b.p, err);
        buf_free(&b);
    }
    mem_free(done);
    return st;
}

mote_status make_plan_types(maker *m, make_args *a, mote_error *err) {
    char content[SHA256_HEX], key[128];
    if (!m->target) FAIL(err, MOTE_E_FORMAT, "%s: type: auto needs a target", m->recipe_path);
    TRY(make_hash(m, m->model, content, err));
    (void)snprintf(key, sizeof key, "types %s %llu", content, (unsigned long long)m->target);
    json_t *plan = json_object_get(m->plan, key);
    if (!plan) {
        TRY(plan_types(m, &plan, err));
        if (json_object_set_new(m->plan, key, plan) != 0) FAIL(err, MOTE_E_MEMORY, "out of memory for a plan");
        TRY(save_plan(m, err));
    }
    const json_t *types = json_object_get(plan, "tensors");
    str type = json_get_str(plan, "type");
    TRY(make_put(m, a, type.p ? type.p : "", err));
    return put_types(m, a, types, err);
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
