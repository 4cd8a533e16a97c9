/* heads_net.c: heads beside a frozen net: their parameters, their loss, their file. See heads_run.h. */
#include "train/heads_run.h"

#include <math.h>
#include <stdio.h>

#define MEDUSA_FADES 0.8 /* a head's weight for each token that it looks further ahead (Cai et al. 2024, §2.3) */

mote_status head_set_exits(size_t *layers, size_t *n, const char *text, size_t n_layer, mote_error *err) {
    *n = 0;
    if (strcmp(text, "auto") == 0) {
        if (n_layer < 2) FAIL(err, MOTE_E_USAGE, "a model of %zu layers has no place for an early exit", n_layer);
        size_t late = MAX(9 * n_layer / 10, (size_t)1), early = MAX(5 * n_layer / 6, (size_t)1);
        if (early == late) early--;
        if (early) layers[(*n)++] = early;
        layers[(*n)++] = late;
        return MOTE_OK;
    }
    while (*text) {
        const char *end = text;
        size_t at = 0;
        for (; *end >= '0' && *end <= '9'; end++) at = MIN(10 * at + (size_t)(*end - '0'), (size_t)1 << 32);
        if (end == text || (*end && *end != ',') || (*end == ',' && !end[1])) FAIL(err, MOTE_E_USAGE, "exits '%.40s': expected numbers of layers, as 10,20, or auto", text);
        if (at < 1 || at >= n_layer)
            FAIL(err, MOTE_E_RANGE, "an exit behind layer %zu: the model has %zu layers, expected 1 to %zu%s", at, n_layer, n_layer - 1,
                 at == n_layer ? " (behind the last one stands the model's own head)" : "");
        for (size_t i = 0; i < *n; i++)
            if (layers[i] == at) FAIL(err, MOTE_E_USAGE, "two exits behind layer %zu", at);
        if (*n == HEADS_MAX) FAIL(err, MOTE_E_LIMIT, "more than %u heads", HEADS_MAX);
        size_t place = (*n)++;
        for (; place > 0 && layers[place - 1] > at; place--) layers[place] = layers[place - 1];
        layers[place] = at;
        text = *end ? end + 1 : end;
    }
    return MOTE_OK;
}

/* ---- parameters ---- */
static size_t padded(size_t n) { return (n + 15) / 16 * 16; }

static void take(var *v, float **room, size_t rows, size_t cols, const float *begins) {
    *v = (var){.rows = rows, .cols = cols, .x = *room, .wants = true};
    if (begins) memcpy(v->x, begins, cols * sizeof *begins);
    *room += padded(rows * cols);
}

static void begin_head(head_set *h, one_head *o, const param *final, float **room) {
    static const char *const suffixes[HEAD_VARS] = {"norm.weight", "weight", "token.weight", "bias"};
    size_t d = net_model(h->n)->hp.n_embd, k = (size_t)(o - h->heads);
    for (size_t i = 0; i < HEAD_VARS; i++) (void)snprintf(o->names[i], sizeof o->names[i], "head.%zu.%s", k, suffixes[i]);
    if (o->offset <= 1) take(&o->norm, room, 1, d, final ? final->v.x : NULL);
    for (size_t i = 0; o->norm.rows && !final && i < d; i++) o->norm.x[i] = 1;
    take(&o->w, room, d, d, NULL);
    if (o->offset) take(&o->v, room, d, d, NULL);
    take(&o->b, room, 1, d, NULL);
    o->gate = *room;
    *room += padded(d + 2);
}

mote_status head_set_open(head_set *h, net *base, const size_t *layers, size_t n_layers, size_t medusa, float text, mote_error *err) {
    const hparams *hp = &net_model(base)->hp;
    const param *final = net_find(base, "output_norm.weight");
    size_t d = hp->n_embd;
    *h = (head_set){.n = base, .n_heads = n_layers + medusa};
    if (h->n_heads == 0) FAIL(err, MOTE_E_USAGE, "no heads: exits, Medusa heads, or both");
    if (medusa > HEADS_AHEAD_MAX || h->n_heads > HEADS_MAX)
        FAIL(err, MOTE_E_LIMIT, "%zu exits and %zu Medusa heads: at most %u heads, %u of them Medusa's", n_layers, medusa, HEADS_MAX, HEADS_AHEAD_MAX);
    if (!hp->causal) FAIL(err, MOTE_E_UNSUPPORTED, "a model that sees the whole text at once says no next token: it has no use for heads");
    size_t room_bytes = h->n_heads * (2 * padded(d * d) + 2 * padded(d) + padded(d + 2)) * sizeof(float);
    h->values = mem_alloc_aligned(room_bytes);
    if (!h->values) FAIL(err, MOTE_E_MEMORY, "out of memory for %zu heads", h->n_heads);
    memset(h->values, 0, room_bytes);
    float *room = h->values;
    for (size_t k = 0; k < h->n_heads; k++) {
        one_head *o = &h->heads[k];
        o->layer = k < n_layers ? layers[k] : hp->n_layer;
        o->offset = k < n_layers ? 0 : k - n_layers + 1;
        o->text = k < n_layers ? 0 : text;
        begin_head(h, o, final, &room);
    }
    return MOTE_OK;
}

void head_set_close(head_set *h) {
    heads_engine_close(&h->engine);
    mem_free(h->likely);
    mem_free_aligned(h->values);
    h->likely = NULL;
    h->values = NULL;
}

size_t head_set_params(head_set *h, train_param *dst, size_t cap) {
    size_t n = 0;
    for (size_t k = 0; k < h->n_heads; k++) {
        one_head *o = &h->heads[k];
        var *v[HEAD_VARS] = {&o->norm, &o->w, &o->v, &o->b};
        for (size_t i = 0; i < HEAD_VARS; i++) {
            if (v[i]->rows == 0) continue;
            if (n < cap) dst[n] = (train_param){.name = str_of(o->names[i]), .v = v[i], .decay = v[i]->rows > 1, .muon = v[i]->rows > 1};
            n++;
        }
    }
    return n;
}

/* ---- the loss ---- */
mote_status head_set_engine(head_set *h, const char *path, const train_machine *mc, size_t n_ctx, size_t n_rows, mote_error *err) {
    size_t layers[HEADS_MAX];
    for (size_t k = 0; k < h->n_heads; k++) layers[k] = h->heads[k].layer;
    return heads_engine_open(&h->engine, path, mc->pool, mc->cpu_mask, n_ctx, n_ctx * n_rows, layers, h->n_heads, err);
}

/* What a Medusa head sees of the token that stands `ahead` rows further on, row by row; zeros where the sequence has ended. NULL: out of memory. */
static var *tokens_ahead(head_set *h, tape *t, const data_batch *b, size_t ahead) {
    const size_t d = h->engine->d;
    float *u = tape_mem(t, (b->seqs.n * d + 1) * sizeof *u);
    if (!u) return NULL;
    for (size_t q = 0; q < b->seqs.n_seq; q++)
        for (size_t i = b->seqs.start[q]; i < b->seqs.start[q + 1]; i++) {
            if (i + ahead < b->seqs.start[q + 1]) model_token_row(h->engine->m, b->ids[i + ahead], u + i * d);
            else memset(u + i * d, 0, d * sizeof *u);
        }
    return tape_const(t, b->seqs.n, d, u);
}

/* before: the z of the Medusa head before it, or NULL. */
static var *head_rows(head_set *h, tape *t, one_head *o, const data_batch *b, const float *stream, var *before) {
    const hparams *hp = &net_model(h->n)->hp;
    var *in = before;
    if (o->offset <= 1) {
        var *x = tape_const(t, b->seqs.n, hp->n_embd, stream);
        in = hp->norm == NORM_LAYER ? ad_layer_norm(t, x, &o->norm, NULL, hp->n_embd, hp->eps) : ad_rms_norm(t, x, &o->norm, NULL, hp->n_embd, hp->eps);
    }
    var *sum = ad_add_row(t, ad_linear(t, in, &o->w), &o->b);
    if (o->offset) sum = ad_add(t, sum, ad_linear(t, tokens_ahead(h, t, b, o->offset), &o->v));
    return ad_add(t, in, sum);
}

/* What the engine makes of a batch, in memory of the tape: streams by head, and the model's own rows. NULL in *own: out of memory. */
static mote_status read_batch(head_set *h, tape *t, const data_batch *b, float **streams, float **own, mote_error *err) {
    const size_t d = h->engine->d, size = b->seqs.n * d;
    const float *from[HEADS_MAX + 1];
    float *to[HEADS_MAX + 1];
    for (size_t k = 0; k <= h->n_heads; k++) {
        from[k] = k < h->n_heads ? h->engine->streams[h->heads[k].layer] : h->engine->hidden;
        to[k] = NULL;
        for (size_t i = 0; i < k && !to[k]; i++)
            if (from[i] == from[k]) to[k] = to[i]; /* Medusa heads look at the same */
        if (!to[k]) to[k] = tape_mem(t, (size + 1) * sizeof(float));
        if (!to[k]) return MOTE_OK;
        if (k < h->n_heads) streams[k] = to[k];
    }
    for (size_t first = 0, last; first < b->seqs.n_seq; first = last) {
        TRY(heads_engine_pass(h->engine, b, first, &last, err));
        const size_t at = b->seqs.start[first], n = b->seqs.start[last] - at;
        for (size_t k = 0; k <= h->n_heads; k++) memcpy(to[k] + at * d, from[k], n * d * sizeof(float));
    }
    *own = to[h->n_heads];
    return MOTE_OK;
}

mote_status head_set_loss(var **out, head_set *h, tape *t, const data_batch *b, double sum_weight, bool learn, mote_error *err) {
    heads_rows rows[HEADS_MAX];
    float *streams[HEADS_MAX], *own = NULL;
    ad_head head = net_head(h->n);
    *out = NULL;
    TRY(read_batch(h, t, b, streams, &own, err));
    if (!own) return tape_status(t, err);
    if (!learn) tape_pause(t);
    for (size_t k = 0; k < h->n_heads; k++) {
        one_head *o = &h->heads[k];
        float by = (float)pow(MEDUSA_FADES, (double)o->offset);
        rows[k] = (heads_rows){head_rows(h, t, o, b, streams[k], k ? rows[k - 1].z : NULL), o->offset, by, o->text, &h->seen[k]};
    }
    const ad_targets targets = {.target = b->target, .weights = b->weights, .sum_weight = sum_weight};
    *out = ad_heads(t, tape_const(t, b->seqs.n, h->engine->d, own), &head, rows, h->n_heads, &b->seqs, &targets, learn ? h->few : 0);
    if (!learn) tape_resume(t);
    return tape_status(t, err);
}

/* ---- the file ---- */
mote_status head_set_write(const head_set *h, const char *path, quant_type type, const heads_seen *held, mote_error *err) {
    const model *m = net_model(h->n);
    heads_base base = {.n_embd = m->hp.n_embd, .n_layer = m->hp.n_layer, .n_vocab = net_head(h->n).w->rows};
    heads_value v[HEADS_MAX];
    TRY(kv_get_str(model_get_file(m), "general.architecture", &base.arch, STR(""), err));
    for (size_t k = 0; k < h->n_heads; k++) {
        const one_head *o = &h->heads[k];
        v[k] = (heads_value){o->layer, o->offset, o->norm.x, o->w.x, o->v.x, o->b.x, o->gated ? o->gate : NULL, held ? (float)held[k].agree : -1};
    }
    return heads_write(path, &base, v, h->n_heads, h->likely, h->n_likely, type, err);
}
