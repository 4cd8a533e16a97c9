/* curate.c: documents in, documents out. Once over all of them to choose, once over the chosen to write: texts stay in
 * their files, what is kept in memory is a few numbers a document. */
#include "train/curate.h"

#include "run/run.h"
#include "train/data.h"

#include <math.h>
#include <stdlib.h>

#define PART_BYTES ((size_t)16 << 10) /* of plain text that has no borders of its own */
#define LOSS_TOKENS 512               /* of a document, at most */
#define LOSS_BATCH 64
#define LICENCES_MAX 4096

typedef struct kept {
    uint32_t item, words;
    double loss;
} kept;

typedef struct curator {
    const mote_data_options *o;
    mote_data_report *r;
    data *d;
    same_set *same;
    gram_set *grams;
    words words;
    buf text, clean;
    kept *kept;
    size_t n_kept, cap_kept;
    file_writer out, rejected;
    bool rejecting;
    mote_data_licence *licences;
    size_t n_licences, cap_licences;
    sha256 *hash;
    mote_engine *engine;
    mote_model *model;
    mote_session *session;
    float *rows;
    mote_error *err;
} curator;

static bool told(const curator *c, double share, const char *what) { return !c->o->progress || c->o->progress(c->o->progress_ctx, share, what); }

/* ---- lines ---- */

/* Redacts all strings of a tree, in place. */
static mote_status redact_tree(curator *c, json_t *v) {
    mote_status st = MOTE_OK;
    for (size_t i = 0; json_is_array(v) && i < json_array_size(v) && st == MOTE_OK; i++) st = redact_tree(c, json_array_get(v, i));
    for (void *it = json_is_object(v) ? json_object_iter(v) : NULL; it && st == MOTE_OK; it = json_object_iter_next(v, it))
        st = redact_tree(c, json_object_iter_value(it));
    if (!json_is_string(v)) return st;
    buf_clear(&c->clean);
    size_t n = curate_redact((str){json_string_value(v), json_string_length(v)}, &c->clean);
    TRY(buf_check(&c->clean, "a redacted text", c->err));
    c->r->n_redacted += n;
    if (n && json_string_setn(v, c->clean.p, c->clean.n) != 0) FAIL(c->err, MOTE_E_MEMORY, "out of memory");
    return MOTE_OK;
}

/* The document as an object that may be changed: the line, or a text with its source. */
static mote_status tree_of(curator *c, size_t item, json_t **out) {
    data_kind kind;
    const char *path;
    str bytes = data_item_bytes(c->d, item, &kind, &path);
    if (kind != DATA_TEXT) return json_parse(out, bytes, path, c->err);
    while (bytes.n && strchr(" \t\r\n", bytes.p[0])) bytes = str_sub(bytes, 1, bytes.n - 1);
    while (bytes.n && strchr(" \t\r\n", bytes.p[bytes.n - 1])) bytes.n--;
    *out = json_pack("{s:s%, s:s}", "text", bytes.p, bytes.n, "source", path);
    if (!*out) FAIL(c->err, MOTE_E_MEMORY, "out of memory for a document of %zu bytes", bytes.n);
    return MOTE_OK;
}

static mote_status write_tree(curator *c, file_writer *w, const json_t *v, bool hashed) {
    char *line = json_dumps(v, JSON_COMPACT);
    if (!line) FAIL(c->err, MOTE_E_MEMORY, "out of memory for a line");
    size_t n = strlen(line);
    line[n] = '\n'; /* in the place of the NUL */
    mote_status st = file_write(w, line, n + 1, c->err);
    if (hashed) sha256_update(c->hash, line, n + 1);
    free(line); /* jansson's */
    return st;
}

static mote_status reject(curator *c, size_t item, mote_data_reason why) {
    c->r->left_out[why]++;
    c->r->left_out_bytes[why] += c->text.n;
    if (!c->rejecting) return MOTE_OK;
    json_t *v = NULL;
    TRY(tree_of(c, item, &v));
    mote_status st = json_object_set_new(v, "reason", json_string(mote_data_reason_text((int)why))) == 0
                         ? write_tree(c, &c->rejected, v, false)
                         : ERR(c->err, MOTE_E_MEMORY, "out of memory");
    json_decref(v);
    return st;
}

/* ---- choosing ---- */

static mote_status judge(curator *c, size_t item, mote_data_reason *why) {
    buf_clear(&c->text);
    TRY(data_item_text(c->d, item, &c->text, c->err));
    TRY(words_of(&c->words, buf_str(&c->text), c->err));
    c->r->n_in++;
    c->r->bytes_in += c->text.n;
    *why = curate_judge(c->o, buf_str(&c->text), &c->words);
    if (*why == MOTE_DATA_REASONS && c->o->personal == MOTE_DATA_PRIVATE_DROP) {
        buf_clear(&c->clean);
        if (curate_redact(buf_str(&c->text), &c->clean)) *why = MOTE_DATA_PRIVATE;
    }
    if (*why == MOTE_DATA_REASONS && c->grams && gram_hits(c->grams, &c->words)) *why = MOTE_DATA_EVALUATION;
    return *why == MOTE_DATA_REASONS ? same_check(c->same, &c->words, why, c->err) : MOTE_OK;
}

static mote_status choose(curator *c) {
    size_t n = data_n_items(c->d);
    for (size_t i = 0; i < n; i++) {
        mote_data_reason why;
        if (i % 64 == 0 && !told(c, (double)i / (double)n, "reading")) FAIL(c->err, MOTE_E_CANCELLED, "cancelled at document %zu of %zu", i, n);
        TRY(judge(c, i, &why));
        if (why != MOTE_DATA_REASONS) {
            TRY(reject(c, i, why));
            continue;
        }
        TRY(mem_grow(&c->kept, &c->cap_kept, c->n_kept + 1, sizeof *c->kept, SIZE_MAX / 64, c->err));
        c->kept[c->n_kept++] = (kept){.item = (uint32_t)i, .words = (uint32_t)c->words.n};
    }
    return MOTE_OK;
}

/* ---- the model's opinion ---- */

static mote_status open_model(curator *c) {
    if (!c->o->model) return MOTE_OK;
    mote_engine_opts e = mote_engine_opts_default();
    e.n_threads = c->o->n_threads;
    TRY(engine_open(&c->engine, &e, c->err));
    mote_model_opts m = mote_model_opts_default();
    TRY(run_model_open(&c->model, c->engine, c->o->model, &m, c->err));
    if (c->o->order != MOTE_DATA_BY_LOSS && c->o->max_loss <= 0) return MOTE_OK;
    mote_session_opts s = mote_session_opts_default();
    s.n_ctx = LOSS_TOKENS;
    s.n_batch = LOSS_BATCH;
    TRY(run_session_open(&c->session, c->model, &s, c->err));
    size_t n;
    if (!ckd_mul_size(&n, c->session->n_vocab, LOSS_BATCH) || !(c->rows = mem_calloc(n, sizeof *c->rows)))
        FAIL(c->err, MOTE_E_MEMORY, "out of memory for logits");
    return MOTE_OK;
}

static double nats(const float *row, size_t n, int32_t id) {
    float max = row[0];
    for (size_t i = 1; i < n; i++) max = MAX(max, row[i]);
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += (double)expf(row[i] - max);
    return log(sum) - ((double)row[id] - (double)max);
}

/* Mean nats per token of the document's beginning. */
static mote_status loss_of(curator *c, size_t item, double *loss) {
    const tok_vocab *v;
    tok_ids ids = {0};
    mote_status st = MOTE_OK;
    double sum = 0;
    buf_clear(&c->text);
    TRY(run_vocab(c->model, &v, c->err));
    TRYG(st, data_item_text(c->d, item, &c->text, c->err));
    str text = {c->text.p, MIN(c->text.n, LOSS_TOKENS * 8)};
    text.n = utf8_whole(text.p, text.n);
    TRYG(st, run_encode_prompt(c->model, text, 0, &ids, c->err));
    size_t n = MIN(ids.n, LOSS_TOKENS), done = 0, scored = 0;
    run_clear(c->session, 0);
    while (done + 1 < n) {
        size_t part = MIN(n - 1 - done, LOSS_BATCH);
        const run_feed f = {.ids = ids.p + done, .n = part, .all = c->rows};
        TRYG(st, run_feed_all(c->session, &f, 1, c->err));
        for (size_t i = 0; i < part; i++) sum += nats(c->rows + i * c->session->n_vocab, c->session->n_vocab, ids.p[done + i + 1]);
        done += part;
        scored += part;
    }
    *loss = scored ? sum / (double)scored : 0;
out:
    tok_ids_free(&ids);
    return st;
}

static mote_status measure(curator *c) {
    if (!c->session) return MOTE_OK;
    size_t n = 0;
    double sum = 0;
    for (size_t i = 0; i < c->n_kept; i++) {
        kept k = c->kept[i];
        if (!told(c, (double)i / (double)c->n_kept, "measuring the loss")) FAIL(c->err, MOTE_E_CANCELLED, "cancelled");
        TRY(loss_of(c, k.item, &k.loss));
        if (c->o->max_loss > 0 && k.loss > c->o->max_loss) {
            TRY(reject(c, k.item, MOTE_DATA_LOSS));
            continue;
        }
        sum += k.loss;
        c->kept[n++] = k;
    }
    c->n_kept = n;
    c->r->loss = n ? sum / (double)n : 0;
    return MOTE_OK;
}

/* ---- order ---- */

static int by_words(const void *a, const void *b) {
    const kept *x = a, *y = b;
    if (x->words != y->words) return x->words < y->words ? -1 : 1;
    return x->item < y->item ? -1 : x->item > y->item;
}

static int by_loss(const void *a, const void *b) {
    const kept *x = a, *y = b;
    if (x->loss < y->loss || x->loss > y->loss) return x->loss < y->loss ? -1 : 1;
    return x->item < y->item ? -1 : x->item > y->item;
}

static void order(curator *c) {
    rng r;
    rng_seed(&r, c->o->seed, 11);
    if (c->o->order == MOTE_DATA_BY_LENGTH) qsort(c->kept, c->n_kept, sizeof *c->kept, by_words);
    if (c->o->order == MOTE_DATA_BY_LOSS) qsort(c->kept, c->n_kept, sizeof *c->kept, by_loss);
    for (size_t i = c->n_kept; c->o->order == MOTE_DATA_BY_CHANCE && i > 1; i--) {
        size_t j = rng_below(&r, (uint32_t)i);
        kept k = c->kept[i - 1];
        c->kept[i - 1] = c->kept[j];
        c->kept[j] = k;
    }
}

/* ---- writing ---- */

static mote_status note_licence(curator *c, const json_t *v, size_t bytes) {
    str name = json_get_str(v, "licence");
    if (!name.n) name = json_get_str(v, "license");
    if (!name.n) name = STR("not stated");
    name.n = utf8_whole(name.p, MIN(name.n, sizeof c->licences->name - 1));
    size_t i = 0;
    while (i < c->n_licences && !str_is(name, c->licences[i].name)) i++;
    if (i == c->n_licences) {
        if (i == LICENCES_MAX) return MOTE_OK;
        TRY(mem_grow(&c->licences, &c->cap_licences, i + 1, sizeof *c->licences, LICENCES_MAX, c->err));
        c->licences[i] = (mote_data_licence){0};
        memcpy(c->licences[i].name, name.p, name.n);
        c->n_licences++;
    }
    c->licences[i].documents++;
    c->licences[i].bytes += bytes;
    return MOTE_OK;
}

static int most_bytes(const void *a, const void *b) {
    const mote_data_licence *x = a, *y = b;
    if (x->bytes != y->bytes) return x->bytes > y->bytes ? -1 : 1;
    return strcmp(x->name, y->name);
}

static void sum_up_licences(curator *c) {
    mote_data_report *r = c->r;
    if (c->n_licences) qsort(c->licences, c->n_licences, sizeof *c->licences, most_bytes);
    for (size_t i = 0; i < c->n_licences; i++) {
        if (i < COUNT_OF(r->licences)) {
            r->licences[r->n_licences++] = c->licences[i];
            continue;
        }
        mote_data_licence *rest = &r->licences[COUNT_OF(r->licences) - 1];
        (void)snprintf(rest->name, sizeof rest->name, "%zu others", c->n_licences - COUNT_OF(r->licences) + 1);
        rest->documents += c->licences[i].documents;
        rest->bytes += c->licences[i].bytes;
    }
}

static mote_status write_one(curator *c, const kept *k) {
    json_t *v = NULL;
    mote_status st = MOTE_OK;
    TRYG(st, tree_of(c, k->item, &v));
    if (c->o->personal == MOTE_DATA_PRIVATE_REDACT) TRYG(st, redact_tree(c, v));
    buf_clear(&c->text);
    TRYG(st, data_item_text(c->d, k->item, &c->text, c->err));
    if (c->session) {
        if (json_object_set_new(v, "loss", json_real(round(k->loss * 1e4) / 1e4)) != 0) FAILG(st, c->err, MOTE_E_MEMORY, "out of memory");
    }
    TRYG(st, write_tree(c, &c->out, v, true));
    c->r->n_out++;
    c->r->bytes_out += c->text.n;
    c->r->words_out += k->words;
    TRYG(st, note_licence(c, v, c->text.n));
    if (c->model) {
        size_t n = 0;
        const tok_vocab *vocab;
        TRYG(st, run_vocab(c->model, &vocab, c->err));
        TRYG(st, tok_encode_into(vocab, buf_str(&c->text), 0, NULL, 0, &n, c->err));
        c->r->tokens_out += n;
    }
out:
    json_decref(v);
    return st;
}

static mote_status write_all(curator *c, const char *out) {
    TRY(file_writer_open(&c->out, out, c->err));
    for (size_t i = 0; i < c->n_kept; i++) {
        if (i % 64 == 0 && !told(c, (double)i / (double)c->n_kept, "writing")) FAIL(c->err, MOTE_E_CANCELLED, "cancelled");
        TRY(write_one(c, &c->kept[i]));
    }
    TRY(data_check(c->d, c->err));
    if (c->rejecting) TRY(file_writer_commit(&c->rejected, c->err));
    return file_writer_commit(&c->out, c->err);
}

static mote_status open_all(curator *c, const char *const *paths, size_t n_paths) {
    const mote_data_options *o = c->o;
    data_source *sources = MEM_NEW_N(data_source, n_paths ? n_paths : 1);
    c->hash = sha256_new();
    if (!sources || !c->hash) {
        mem_free(sources);
        FAIL(c->err, MOTE_E_MEMORY, "out of memory for %zu files", n_paths);
    }
    for (size_t i = 0; i < n_paths; i++) sources[i].path = paths[i];
    mote_status st = data_open(&c->d, &(data_opts){.sources = sources, .n_sources = n_paths, .part_bytes = PART_BYTES, .strict = o->strict}, c->err);
    mem_free(sources);
    TRY(st);
    data_stats s = data_get_stats(c->d, SIZE_MAX);
    c->r->left_out[MOTE_DATA_BROKEN] = s.too_long + s.not_utf8 + s.not_json + s.lacking;
    c->r->n_in = c->r->left_out[MOTE_DATA_BROKEN];
    memcpy(c->r->first_broken, s.first_bad, sizeof s.first_bad);
    TRY(same_open(&c->same, o, c->err));
    if (o->n_evaluation) TRY(gram_open(&c->grams, o->evaluation_words ? o->evaluation_words : 13, c->err));
    for (size_t i = 0; i < o->n_evaluation; i++) TRY(gram_add_file(c->grams, o->evaluation[i], c->err));
    if (o->rejected) {
        TRY(file_writer_open(&c->rejected, o->rejected, c->err));
        c->rejecting = true;
    }
    return open_model(c);
}

static void close_all(curator *c) {
    file_writer_abort(&c->out);
    file_writer_abort(&c->rejected);
    same_close(&c->same);
    gram_close(&c->grams);
    words_free(&c->words);
    buf_free(&c->text);
    buf_free(&c->clean);
    mem_free(c->kept);
    mem_free(c->licences);
    mem_free(c->rows);
    sha256_free(c->hash);
    run_session_release(c->session);
    run_model_release(c->model);
    engine_release(c->engine);
    data_close(&c->d);
}

mote_status curate_prepare(const char *const *paths, size_t n_paths, const char *out, const mote_data_options *o, mote_data_report *report,
                           mote_error *err) {
    mote_data_report r = {0};
    curator c = {.o = o, .r = &r, .err = err};
    uint64_t began = clock_ns();
    mote_status st = curate_check(o, err);
    if (st != MOTE_OK) return st;
    buf_init(&c.text, (size_t)1 << 30);
    buf_init(&c.clean, (size_t)1 << 30);
    TRYG(st, open_all(&c, paths, n_paths));
    TRYG(st, choose(&c));
    TRYG(st, measure(&c));
    if (!c.n_kept) FAILG(st, err, MOTE_E_FORMAT, "none of %zu documents passes; --rejected FILE says why", r.n_in);
    order(&c);
    TRYG(st, write_all(&c, out));
    sum_up_licences(&c);
    sha256_final(c.hash, r.sha256);
    r.seconds = (double)(clock_ns() - began) * 1e-9;
    if (report) *report = r;
out:
    close_all(&c);
    return st;
}
