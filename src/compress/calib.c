/* calib.c: text to windows of tokens, and passes over one layer at a time. */
#include "compress/calib.h"

#include "token/token.h"
#include "train/calib_text.h"
#include "train/data.h"

#include <math.h>

enum { PASS_TOKENS = 1024, SEQS_MAX = 1 << 16, CTX_MAX = 1 << 15 };

void calib_close(calib **p) {
    calib *c = *p;
    if (!c) return;
    for (size_t i = 0; i < c->n_uses; i++) {
        if (c->uses[i].owner) hessian_close(&c->uses[i].h);
    }
    mem_free(c->uses);
    mem_free(c->ids);
    mem_free(c->start);
    mem_free(c->pos);
    mem_free(c->stream);
    mem_free_aligned(c->x);
    mem_free_aligned(c->x_float);
    gemm_close(&c->gemm);
    tape_close(&c->tape);
    net_close(&c->net);
    model_close(&c->m);
    pool_close(&c->pool);
    mem_free(c);
    *p = NULL;
}

static mote_status encode_file(const tok_vocab *v, const char *path, tok_ids *ids, mote_error *err) {
    file_map text;
    TRY(file_open(&text, path, FILE_MAP, err));
    mote_status s = tok_encode(v, (str){(const char *)text.p, text.n}, 0, ids, err);
    file_close(&text);
    return s == MOTE_OK ? s : err_prefix(err, s, "calibration text %s", path);
}

/* JSON lines as fine-tuning reads them: chats in the model's own template, one behind the other. */
static mote_status encode_items(calib *c, const tok_vocab *v, const char *path, tok_ids *ids, mote_error *err) {
    chat_template *t = NULL;
    data *d = NULL;
    data_source source = {.path = path};
    if (data_template(&t, model_get_file(c->m), v, NULL) != MOTE_OK) t = NULL; /* only chats need one, and the data say so */
    mote_status s = data_open(&d, &(data_opts){.sources = &source, .n_sources = 1, .vocab = v, .tmpl = t, .n_ctx = c->n_ctx, .order = DATA_AS_IS}, err);
    for (size_t i = 0; s == MOTE_OK && i < data_n_items(d); i++) {
        data_batch b;
        s = data_item(d, i, &b, err);
        if (s == MOTE_OK) s = mem_grow(&ids->p, &ids->cap, ids->n + b.seqs.n, sizeof *ids->p, (size_t)1 << 30, err);
        if (s != MOTE_OK) break;
        memcpy(ids->p + ids->n, b.ids, b.seqs.n * sizeof *b.ids);
        ids->n += b.seqs.n;
    }
    data_close(&d);
    chat_template_close(&t);
    return s == MOTE_OK ? s : err_prefix(err, s, "calibration text %s", path);
}

/* The tokens of one text, and how many windows it gives. */
typedef struct calib_part {
    tok_ids ids;
    size_t n_seq;
} calib_part;

/* Each text has the same share of the windows; those of a short one beside others overlap, until it is seen four times. */
static mote_status share_windows(calib *c, calib_part *parts, size_t n, size_t take, mote_error *err) {
    size_t wanted = c->n_seq, all = 0;
    for (size_t i = 0; i < n; i++) all += parts[i].ids.n;
    if (all < take) {
        FAIL(err, MOTE_E_USAGE, "the calibration text has %zu tokens, one window needs %zu; give more text, or a shorter --calibration-ctx", all, take);
    }
    c->n_seq = 0;
    for (size_t i = 0; i < n; i++) {
        size_t whole = parts[i].ids.n / take, most = n == 1 ? whole : MAX(4 * parts[i].ids.n / take, parts[i].ids.n > 0);
        parts[i].n_seq = MIN(wanted / n + (i < wanted % n), most);
        c->n_seq += parts[i].n_seq;
    }
    if (!c->n_seq) FAIL(err, MOTE_E_USAGE, "%zu windows for %zu texts: at least one for each is needed (--calibration-seqs)", wanted, n);
    return MOTE_OK;
}

/* Windows evenly spread over each text; each begins with the token that the model wants in front. A text that is shorter than one is
 * repeated in it. */
static mote_status cut_windows(calib *c, const tok_vocab *v, calib_part *parts, size_t n, mote_error *err) {
    size_t n_vocab = net_model(c->net)->hp.n_vocab, lead = tok_adds_bos(v) && tok_id(v, TOK_ROLE_BOS) >= 0 ? 1 : 0;
    size_t take = c->n_ctx - lead, seq = 0;
    TRY(share_windows(c, parts, n, take, err));
    c->n_tokens = c->n_seq * c->n_ctx;
    c->ids = MEM_NEW_N(int32_t, c->n_tokens);
    if (!c->ids) FAIL(err, MOTE_E_MEMORY, "out of memory for %zu tokens", c->n_tokens);
    for (size_t i = 0; i < n; i++) {
        const tok_ids *ids = &parts[i].ids;
        double step = parts[i].n_seq > 1 && ids->n > take ? (double)(ids->n - take) / (double)(parts[i].n_seq - 1) : 0;
        for (size_t s = 0; s < parts[i].n_seq; s++, seq++) {
            size_t from = (size_t)(step * (double)s);
            int32_t *to = c->ids + seq * c->n_ctx;
            if (lead) to[0] = tok_id(v, TOK_ROLE_BOS);
            for (size_t k = 0; k < take; k++) to[lead + k] = ids->p[(from + k) % ids->n];
        }
    }
    for (size_t i = 0; i < c->n_tokens; i++) {
        if (c->ids[i] < 0 || (size_t)c->ids[i] >= n_vocab) {
            FAIL(err, MOTE_E_MISMATCH, "the tokenizer gives token %d, the model's vocabulary has %zu", (int)c->ids[i], n_vocab);
        }
    }
    return MOTE_OK;
}

static mote_status read_text(calib *c, const calib_opts *o, mote_error *err) {
    tok_vocab *v = NULL;
    size_t n = MAX(o->n_files, (size_t)1);
    calib_part *parts = MEM_NEW_N(calib_part, n);
    mote_status s = parts ? tok_open(&v, model_get_file(c->m), NULL, err) : ERR(err, MOTE_E_MEMORY, "out of memory");
    if (s == MOTE_OK && o->n_files == 0) s = tok_encode(v, calibration_text(), 0, &parts->ids, err);
    for (size_t i = 0; s == MOTE_OK && i < o->n_files; i++) {
        bool items = str_ends(str_of(o->files[i]), STR(".jsonl"));
        s = items ? encode_items(c, v, o->files[i], &parts[i].ids, err) : encode_file(v, o->files[i], &parts[i].ids, err);
    }
    if (s == MOTE_OK) s = cut_windows(c, v, parts, n, err);
    for (size_t i = 0; parts && i < n; i++) tok_ids_free(&parts[i].ids);
    mem_free(parts);
    tok_close(&v);
    return s;
}

static mote_status open_parts(calib *c, const char *path, const calib_opts *o, mote_error *err) {
    if (o->n_threads < 0 || o->n_threads > POOL_THREADS_MAX) FAIL(err, MOTE_E_USAGE, "%d threads: 1 to %d are possible", o->n_threads, POOL_THREADS_MAX);
    TRY(pool_open(&c->pool, o->n_threads, err));
    TRY(model_open(&c->m, path, &(model_opts){0}, c->pool, err));
    if (!model_get_info(c->m)->causal) FAIL(err, MOTE_E_UNSUPPORTED, "calibration needs a model that predicts text, not an encoder");
    TRY(net_open(&c->net, c->m, c->pool, &(net_opts){.frozen = true}, err));
    c->kern = net_model(c->net)->kern;
    TRY(gemm_open(&c->gemm, c->pool, c->kern, err));
    TRY(tape_open(&c->tape, &(tape_opts){.pool = c->pool, .kern = c->kern, .prec = GEMM_F32}, err));
    c->n_layer = net_model(c->net)->hp.n_layer;
    c->n_embd = net_model(c->net)->hp.n_embd;
    c->n_seq = o->n_seq ? MIN(o->n_seq, (size_t)SEQS_MAX) : 32;
    c->n_ctx = o->n_ctx ? MIN(o->n_ctx, (size_t)CTX_MAX) : 512;
    if (c->n_ctx < 2) FAIL(err, MOTE_E_USAGE, "windows of at least 2 tokens are needed");
    TRY(read_text(c, o, err));
    c->per_pass = MIN(MAX((size_t)PASS_TOKENS / c->n_ctx, (size_t)1), c->n_seq);
    size_t rows = c->per_pass * c->n_ctx, bytes = 0;
    c->start = MEM_NEW_N(uint32_t, c->per_pass + 1);
    c->pos = MEM_NEW_N(int32_t, rows);
    c->stream = MEM_NEW_N(var *, c->n_layer + 1);
    if (ckd_mul_size(&bytes, c->n_tokens, c->n_embd * sizeof(float))) {
        c->x = mem_alloc_aligned(bytes);
        if (o->both) c->x_float = mem_alloc_aligned(bytes);
    }
    if (!c->start || !c->pos || !c->stream || !c->x || (o->both && !c->x_float)) {
        FAIL(err, MOTE_E_MEMORY, "out of memory for the activations of %zu tokens; use fewer", c->n_tokens);
    }
    for (size_t i = 0; i <= c->per_pass; i++) c->start[i] = (uint32_t)(i * c->n_ctx);
    for (size_t i = 0; i < rows; i++) c->pos[i] = (int32_t)(i % c->n_ctx);
    return MOTE_OK;
}

mote_status calib_open(calib **out, const char *path, const calib_opts *o, mote_error *err) {
    calib *c = *out = MEM_NEW(calib);
    if (!c) FAIL(err, MOTE_E_MEMORY, "out of memory");
    mote_status s = open_parts(c, path, o, err);
    if (s != MOTE_OK) calib_close(out);
    return s;
}

mote_status calib_pass(calib *c, const float *x, size_t seq, size_t n, var **out, mote_error *err) {
    size_t rows = n * c->n_ctx;
    c->seqs = (ad_seqs){.n = rows, .n_seq = n, .start = c->start, .pos = c->pos};
    c->inside = (net_inside){.from = c->at, .until = c->at + 1, .layers = c->stream};
    if (c->at) c->inside.x = tape_const(c->tape, rows, c->n_embd, x + seq * c->n_ctx * c->n_embd);
    (void)net_hidden(c->net, c->tape, c->ids + seq * c->n_ctx, &c->seqs, &c->inside);
    TRY(tape_status(c->tape, err));
    *out = c->stream[c->at + 1];
    if (!*out) FAIL(err, MOTE_E_MEMORY, "out of memory in layer %zu", c->at);
    return MOTE_OK;
}

mote_status calib_run(calib *c, const float *x, float *y, mote_error *err) {
    mote_status s = MOTE_OK;
    tape_pause(c->tape);
    for (size_t seq = 0; s == MOTE_OK && seq < c->n_seq; seq += c->per_pass) {
        size_t n = MIN(c->n_seq - seq, c->per_pass);
        var *out;
        tape_reset(c->tape);
        s = calib_pass(c, x, seq, n, &out, err);
        if (s == MOTE_OK && y) memcpy(y + seq * c->n_ctx * c->n_embd, out->x, n * c->n_ctx * c->n_embd * sizeof *y);
    }
    tape_reset(c->tape);
    tape_resume(c->tape);
    return s;
}

static mote_status add_use(calib *c, const param *w, size_t mat, const var *x, calib_use **out, mote_error *err) {
    char name[160];
    (void)snprintf(name, sizeof name, "%.*s", STR_ARG(w->info->name));
    TRY(mem_grow(&c->uses, &c->cap_uses, c->n_uses + 1, sizeof *c->uses, (size_t)1 << 20, err));
    calib_use *u = &c->uses[c->n_uses];
    *u = (calib_use){.w = net_find(c->net, name), .mat = mat};
    if (!u->w) FAIL(err, MOTE_E_MISMATCH, "the graph has no such tensor");
    if (x == c->last_x) {
        u->h = c->last_h;
    } else {
        TRY(hessian_open(&u->h, w->v.cols, true, err));
        u->owner = true;
    }
    c->n_uses++;
    *out = u;
    return MOTE_OK;
}

static void seen(void *ctx, tape *t, const param *w, size_t mat, var *x) {
    calib *c = ctx;
    (void)t;
    if (!c->watching || !x || c->seen_status != MOTE_OK || x->cols != w->v.cols) return;
    calib_use *u = NULL;
    for (size_t i = 0; i < c->n_uses && !u; i++) {
        if (c->uses[i].w == w && c->uses[i].mat == mat) u = &c->uses[i];
    }
    mote_status s = u ? MOTE_OK : add_use(c, w, mat, x, &u, &c->seen_err);
    if (s == MOTE_OK && u->owner) s = hessian_add(u->h, c->gemm, c->pool, x->x, x->rows, &c->seen_err);
    if (s != MOTE_OK) {
        c->seen_status = err_prefix(&c->seen_err, s, "what goes into tensor '%.*s'", STR_ARG(w->info->name));
        return;
    }
    c->last_x = x;
    c->last_h = u->h;
}

mote_status calib_watch(calib *c, mote_error *err) {
    for (size_t i = 0; i < c->n_uses; i++) {
        if (c->uses[i].owner) hessian_close(&c->uses[i].h);
    }
    c->n_uses = 0;
    c->watching = true;
    c->seen_status = MOTE_OK;
    net_set_seen(c->net, seen, c);
    mote_status s = MOTE_OK;
    tape_pause(c->tape);
    for (size_t seq = 0; s == MOTE_OK && seq < c->n_seq; seq += c->per_pass) {
        var *out;
        c->last_x = NULL;
        tape_reset(c->tape);
        s = calib_pass(c, c->x, seq, MIN(c->n_seq - seq, c->per_pass), &out, err);
        if (s == MOTE_OK && c->seen_status != MOTE_OK) {
            if (err) *err = c->seen_err;
            s = c->seen_status;
        }
    }
    tape_reset(c->tape);
    tape_resume(c->tape);
    c->watching = false;
    net_set_seen(c->net, NULL, NULL);
    for (size_t i = 0; i < c->n_uses; i++) {
        if (c->uses[i].owner) hessian_mean(c->uses[i].h);
    }
    return s;
}
