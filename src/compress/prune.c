/* prune.c: the steps of pruning, one after the other: each reads a file and writes the next, the last one the result. */
#include "compress/pruning.h"
#include "train/calib_text.h"

#include <stdarg.h>
#include <unistd.h>

#define REPORT_BYTES_MAX ((size_t)4 << 20)
#define BLOCKS_MAX ((size_t)1 << 20)
enum { STEPS_MAX = 16 };

mote_status prune_alloc(prune *p, size_t n, size_t size, void *out, mote_error *err) {
    size_t bytes;
    TRY(mem_grow(&p->blocks, &p->cap_blocks, p->n_blocks + 1, sizeof *p->blocks, BLOCKS_MAX, err));
    void *b = ckd_mul_size(&bytes, n, size) ? mem_alloc_aligned(bytes ? bytes : 1) : NULL;
    if (!b) FAIL(err, MOTE_E_MEMORY, "out of memory for %zu × %zu bytes", n, size);
    p->blocks[p->n_blocks++] = b;
    memcpy(out, &b, sizeof b);
    return MOTE_OK;
}

mote_status prune_progress(prune *p, const char *step, size_t done, size_t total, mote_error *err) {
    if (p->o->progress && !p->o->progress(p->o->progress_ctx, step, done, total))
        FAIL(err, MOTE_E_CANCELLED, "cancelled while %s", step);
    return MOTE_OK;
}

const char *prune_key(const prune *p, const char *key, char out[160]) {
    (void)snprintf(out, 160, "%.100s.%.50s", p->m->arch->name, key);
    return out;
}

void prune_say(prune *p, const char *fmt, ...) {
    char line[1024];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    buf_printf(p->text, "%s\n", line);
}

mote_status prune_largest(const double *score, size_t n, size_t k, uint32_t *keep, mote_error *err) {
    bool *in = MEM_NEW_N(bool, n);
    if (!in) FAIL(err, MOTE_E_MEMORY, "out of memory");
    for (size_t j = 0; j < k; j++) {
        size_t best = SIZE_MAX;
        for (size_t i = 0; i < n; i++)
            if (!in[i] && (best == SIZE_MAX || score[i] > score[best])) best = i;
        if (best != SIZE_MAX) in[best] = true;
    }
    for (size_t i = 0, j = 0; i < n; i++)
        if (in[i]) keep[j++] = (uint32_t)i;
    mem_free(in);
    return MOTE_OK;
}

/* ---- one step ---- */
static void step_close(prune *p) {
    edit_close(&p->edit);
    state_close(&p->st);
    tok_ids_free(&p->ids);
    tok_close(&p->vocab);
    if (p->m) model_close(&p->m);
    for (size_t i = 0; i < p->n_blocks; i++) mem_free_aligned(p->blocks[i]);
    mem_free(p->blocks);
    arena_free(&p->mem);
}

static uint64_t count_params(const model_file *f, uint64_t *bytes) {
    uint64_t n = 0;
    *bytes = 0;
    for (size_t i = 0; i < model_file_n_tensors(f); i++) {
        const tensor_info *t = model_file_tensor(f, i);
        n += t->ne[0] * t->ne[1] * t->ne[2] * t->ne[3];
        *bytes += t->size;
    }
    return n;
}

typedef struct step {
    const char *name;
    mote_status (*run)(prune *p, mote_error *err);
} step;

typedef struct chain {
    mote_prune_opts *o;
    pool *pool;
    buf text;
    json_t *steps;
    mote_prune_report *r;
    bool begun;
} chain;

/* The result must open, and be what the metadata says: a step's own mistake is never left behind. */
static mote_status run_step(chain *c, const step *s, const char *in, const char *out, mote_error *err) {
    prune p = {.o = c->o, .in = in, .pool = c->pool, .text = &c->text, .json = json_object()};
    arena_init(&p.mem, (size_t)1 << 30);
    mote_status st;
    uint64_t bytes, params;
    if (!p.json) FAILG(st, err, MOTE_E_MEMORY, "out of memory");
    TRYG(st, model_open(&p.m, in, NULL, c->pool, err));
    p.f = model_get_file(p.m);
    params = count_params(p.f, &bytes);
    if (!c->begun) {
        c->r->params_from = params;
        c->r->bytes_from = bytes;
        if (c->o->ratio > 0 && !c->o->max_params) c->o->max_params = (uint64_t)((double)params * (1 - c->o->ratio));
    }
    c->begun = true;
    TRYG(st, edit_open(&p.edit, p.f, err));
    TRYG(st, s->run(&p, err));
    if (p.n_retyped) prune_say(&p, "  %zu tensors are in another number format: the old one has no rows of their length", p.n_retyped);
    TRYG(st, edit_write(p.edit, out, err));
    (void)json_object_set_new(p.json, "step", json_string(s->name));
    if (json_array_append(c->steps, p.json) != 0) FAILG(st, err, MOTE_E_MEMORY, "out of memory");
out:
    json_decref(p.json);
    step_close(&p);
    return st;
}

/* A trimmed tokenizer must give every text back: part of the calibration text is read with it. */
static mote_status check_tokenizer(chain *c, const model_file *f, mote_error *err) {
    tok_vocab *v = NULL;
    tok_ids ids = {0};
    buf back;
    mote_status s;
    str text = {c->o->text, MIN(c->o->n_text, (size_t)1 << 16)};
    buf_init(&back, (size_t)1 << 20);
    TRYG(s, tok_open(&v, f, NULL, err));
    while (text.n && ((unsigned char)text.p[text.n - 1] & 0x80)) text.n--; /* no half character */
    TRYG(s, tok_encode(v, text, 0, &ids, err));
    TRYG(s, tok_detokenize(v, ids.p, ids.n, TOK_TRIM, &back, err));
    bool lossy = tok_vocab_kind(v) == TOK_KIND_UNIGRAM; /* it normalizes */
    if (!lossy && !str_eq(buf_str(&back), text)) FAILG(s, err, MOTE_E_INTERNAL, "the trimmed tokenizer does not give the text back");
    buf_printf(&c->text, "  the text takes %.3f tokens a byte now\n", (double)ids.n / (double)MAX(text.n, (size_t)1));
out:
    buf_free(&back);
    tok_ids_free(&ids);
    tok_close(&v);
    return s;
}

static mote_status check_result(chain *c, const char *path, mote_error *err) {
    model *m = NULL;
    model_file *stored = NULL;
    file_map map;
    TRY(file_open(&map, path, FILE_MAP, err));
    mote_status s = gguf_parse(&stored, map.p, map.n, err); /* as it lies there: what is shared counts once */
    if (s == MOTE_OK) c->r->params_to = count_params(stored, &c->r->bytes_to);
    model_file_close(&stored);
    file_close(&map);
    TRY(s);
    TRY(model_open(&m, path, NULL, c->pool, err));
    s = c->o->n_vocab && c->o->n_text ? check_tokenizer(c, model_get_file(m), err) : MOTE_OK;
    model_close(&m);
    return s;
}

/* A Hugging Face folder becomes a file first: its tokenizer comes along only then. */
static mote_status convert(const char *in, const char *out, mote_error *err) {
    model_file *f = NULL;
    model_edit *e = NULL;
    mote_status s;
    TRYG(s, model_file_open(&f, in, MODEL_FILE_VOCAB, err));
    TRYG(s, edit_open(&e, f, err));
    s = edit_write(e, out, err);
out:
    edit_close(&e);
    model_file_close(&f);
    return s;
}

static size_t list_steps(const mote_prune_opts *o, step *out, size_t n) {
    const char *axes = !(o->max_params || o->ratio > 0) ? "" : o->axes ? o->axes : "ff";
    bool width = o->n_embd || o->n_ff || o->n_head || o->n_head_kv;
    if (o->layers || o->n_layers || strstr(axes, "layers")) out[n++] = (step){"depth", prune_depth};
    if (width || (*axes && strcmp(axes, "layers") != 0)) out[n++] = (step){"width", prune_width};
    if (o->n_merge_kv) out[n++] = (step){"merge_kv", prune_merge_kv};
    if (o->n_vocab) out[n++] = (step){"vocab", prune_vocab};
    if (o->window) out[n++] = (step){"window", prune_window_layers};
    if (o->n_linear || o->linear_layers) out[n++] = (step){"linear", prune_linear};
    if (o->n_block || o->block_layers) out[n++] = (step){"blocks", prune_blocks};
    if (o->split_experts) out[n++] = (step){"split", prune_split};
    if (o->upcycle) out[n++] = (step){"upcycle", prune_upcycle};
    if (o->n_drop_experts) out[n++] = (step){"experts", prune_experts};
    if (o->share) out[n++] = (step){"share", prune_share};
    if (o->dynamic != 0) out[n++] = (step){"dynamic", prune_dynamic};
    return n;
}

/* Steps before the last write files beside the result, which are removed. */
static mote_status run_all(chain *c, const char *in, const char *out, mote_error *err) {
    step steps[STEPS_MAX];
    size_t n = 0, cap = strlen(out) + 48;
    if (file_is_dir(in)) steps[n++] = (step){"convert", NULL};
    size_t folder = n;
    n = list_steps(c->o, steps, n);
    if (n == folder) FAIL(err, MOTE_E_USAGE, "nothing to take away: name layers, sizes, a budget, or a vocabulary");
    char *path[2] = {mem_calloc(cap, 1), mem_calloc(cap, 1)};
    mote_status s = path[0] && path[1] ? MOTE_OK : ERR(err, MOTE_E_MEMORY, "out of memory");
    for (size_t i = 0; s == MOTE_OK && i < n; i++) {
        (void)snprintf(path[i % 2], cap, "%s.%ld-%zu.tmp", out, (long)getpid(), i);
        const char *from = i ? path[(i + 1) % 2] : in;
        s = steps[i].run ? run_step(c, &steps[i], from, path[i % 2], err) : convert(from, path[i % 2], err);
        if (i) (void)unlink(path[(i + 1) % 2]);
        if (s != MOTE_OK || i + 1 < n) continue;
        s = check_result(c, path[i % 2], err);
        if (s == MOTE_OK && rename(path[i % 2], out) != 0) s = ERR(err, MOTE_E_IO, "%s: cannot rename", out);
        if (s != MOTE_OK) (void)unlink(path[i % 2]);
    }
    mem_free(path[0]);
    mem_free(path[1]);
    return s;
}

static mote_status finish(chain *c, mote_error *err) {
    TRY(buf_check(&c->text, "the report", err));
    json_t *all = json_pack("{s:I, s:I, s:I, s:I, s:f, s:O}", "params_from", (json_int_t)c->r->params_from, "params_to",
                            (json_int_t)c->r->params_to, "bytes_from", (json_int_t)c->r->bytes_from, "bytes_to",
                            (json_int_t)c->r->bytes_to, "seconds", c->r->seconds, "steps", c->steps);
    char *json = all ? json_dumps(all, JSON_COMPACT) : NULL;
    c->r->json = json ? mem_strdup(json) : NULL;
    c->r->text = mem_strndup(c->text.p ? c->text.p : "", c->text.n);
    if (json) free(json);
    json_decref(all);
    if (!c->r->json || !c->r->text) FAIL(err, MOTE_E_MEMORY, "out of memory for the report");
    return MOTE_OK;
}

mote_status compress_prune(const char *in, const char *out, const mote_prune_opts *o, mote_prune_report *report,
                           mote_error *err) {
    mote_prune_report own = {.size = sizeof own};
    mote_prune_opts mine = *o;
    chain c = {.o = &mine, .r = &own, .steps = json_array()};
    uint64_t began = clock_ns();
    mote_status s;
    if (!mine.text && !mine.n_vocab) { /* how often a language's words come needs more than the text that is built in */
        mine.text = calibration_text().p;
        mine.n_text = calibration_text().n;
    }
    buf_init(&c.text, REPORT_BYTES_MAX);
    if (!c.steps) FAILG(s, err, MOTE_E_MEMORY, "out of memory");
    if (!(o->ratio >= 0 && o->ratio < 1)) FAILG(s, err, MOTE_E_RANGE, "a ratio of %g cannot be taken away; 0 to 1 can", o->ratio);
    if (!o->split_experts && (o->experts_used || o->shared_experts || o->split_by))
        FAILG(s, err, MOTE_E_USAGE, "how many experts are used or shared goes with --split-experts");
    if (!o->upcycle && o->upcycle_drop != 0) FAILG(s, err, MOTE_E_USAGE, "neurons that begin at random go with --upcycle");
    if (o->dynamic != 0 && (o->share || o->upcycle || o->split_experts)) FAILG(s, err, MOTE_E_UNSUPPORTED, "layers that share tensors, or experts, cannot choose neurons by gates");
    if (!in || !*in || !out || !*out) FAILG(s, err, MOTE_E_USAGE, "pruning needs the path of a model and one for the result");
    TRYG(s, pool_open(&c.pool, o->n_threads, err));
    TRYG(s, run_all(&c, in, out, err));
    own.seconds = (double)(clock_ns() - began) * 1e-9;
    TRYG(s, finish(&c, err));
    *report = own;
    own = (mote_prune_report){0};
out:
    compress_prune_report_free(&own);
    pool_close(&c.pool);
    json_decref(c.steps);
    buf_free(&c.text);
    return s;
}

void compress_prune_report_free(mote_prune_report *r) {
    mem_free(r->text);
    mem_free(r->json);
    r->text = r->json = NULL;
}
