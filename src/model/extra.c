/* extra.c: extra heads of an opened model: their weights, and what they make of the residual stream. See format/heads.h. */
#include "model/extra.h"

#include "format/heads.h"
#include "model/bind.h"

#include <math.h>

/* Guesses look at one in so many rows of the output matrix, and at so many at least, where the file names no tokens. */
enum { FEW_SHARE = 8, FEW_MIN = 256, SURE_OF = 16 };
#define TOKEN_EPS 1e-12f

static mote_status load_matrix(model *m, const tensor_info *t, slot *s, mote_error *err) {
    weight *w = ARENA_NEW(&m->mem, weight);
    if (!w) FAIL(err, MOTE_E_MEMORY, "out of memory for an extra head");
    w->name = arena_dup(&m->mem, t->name);
    if (!w->name) FAIL(err, MOTE_E_MEMORY, "out of memory for an extra head");
    w->role = "extra head";
    w->type = t->type;
    w->cols = (size_t)t->ne[0];
    w->rows = (size_t)t->ne[1];
    w->n_mat = 1;
    w->data = t->data;
    TRY(quant_row_bytes(quant_get((int)t->type), t->ne[0], &w->row_bytes, err));
    w->mat_bytes = w->row_bytes * w->rows;
    if (w->mat_bytes != t->size) FAIL(err, MOTE_E_FORMAT, "tensor '%s': %zu bytes, its shape needs %zu", w->name, t->size, w->mat_bytes);
    s->mat = w;
    m->weights[m->n_weights++] = w;
    return MOTE_OK;
}

static mote_status load_vector(model *m, const tensor_info *t, float **out, mote_error *err) {
    *out = ARENA_NEW_N(&m->mem, float, (size_t)t->ne[0]);
    if (!*out) FAIL(err, MOTE_E_MEMORY, "out of memory for an extra head");
    heads_floats(t, *out);
    return MOTE_OK;
}

static mote_status load_head(model *m, const heads_one *o, mote_error *err) {
    extra_head *e = o->offset ? &m->ahead[m->n_ahead] : &m->exits[m->n_exits];
    float *by;
    *e = (extra_head){.layer = o->layer, .offset = o->offset, .accuracy = o->accuracy};
    TRY(load_matrix(m, o->weight, &e->mat, err));
    if (o->token) TRY(load_matrix(m, o->token, &e->token, err));
    if (o->norm) {
        TRY(load_vector(m, o->norm, &by, err));
        e->norm = by;
    }
    if (o->bias) TRY(load_vector(m, o->bias, &e->mat.bias, err));
    if (o->gate) {
        TRY(load_vector(m, o->gate, &by, err));
        e->gate = by;
    }
    if (o->offset) m->n_ahead++;
    else m->n_exits++;
    return MOTE_OK;
}

/* The tokens that guesses are among: their rows of the output matrix, once more, side by side. */
static mote_status load_likely(model *m, const kv *tokens, mote_error *err) {
    const slot *head = m->slots[R_OUTPUT].info ? &m->slots[R_OUTPUT] : &m->slots[R_TOKEN_EMBD];
    const float *bias = m->slots[R_OUTPUT].bias ? m->slots[R_OUTPUT].bias : head->bias;
    const size_t n = (size_t)tokens->count, row = head->mat->row_bytes;
    weight *w = ARENA_NEW(&m->mem, weight);
    int32_t *ids = ARENA_NEW_N(&m->mem, int32_t, n);
    unsigned char *data = ARENA_NEW_N(&m->mem, unsigned char, n * row);
    float *biases = bias && !m->arch->output_unbiased ? ARENA_NEW_N(&m->mem, float, n) : NULL;
    if (!w || !ids || !data || (bias && !m->arch->output_unbiased && !biases)) FAIL(err, MOTE_E_MEMORY, "out of memory for %zu likely tokens", n);
    for (size_t i = 0; i < n; i++) {
        int64_t id = 0;
        (void)kv_at_int(tokens, i, &id);
        ids[i] = (int32_t)id;
        memcpy(data + i * row, head->mat->data + (size_t)id * row, row);
        if (biases) biases[i] = bias[id];
    }
    *w = (weight){.name = "likely tokens", .role = "extra head", .type = head->mat->type, .cols = head->mat->cols, .rows = n, .n_mat = 1, .data = data,
                  .row_bytes = row, .mat_bytes = n * row};
    m->likely_head = (slot){.mat = w, .scale = head->scale, .bias = biases};
    m->likely = ids;
    m->n_likely = n;
    m->weights[m->n_weights++] = w;
    return MOTE_OK;
}

mote_status bind_heads(model *m, mote_error *err) {
    const hparams *h = &m->hp;
    if (!m->opts.heads) return MOTE_OK;
    if (!h->causal) FAIL(err, MOTE_E_UNSUPPORTED, "%s: architecture '%s' tells no next token, so it has no extra heads", m->opts.heads, m->arch->name);
    const heads_base base = {str_of(m->arch->name), h->n_layer, h->n_embd, h->n_vocab};
    TRY(heads_open(&m->heads_file, m->opts.heads, &base, err));
    const size_t n = m->heads_file->n;
    weight **ws = ARENA_NEW_N(&m->mem, weight *, m->n_weights + 2 * n + 1);
    m->exits = ARENA_NEW_N(&m->mem, extra_head, n);
    m->ahead = ARENA_NEW_N(&m->mem, extra_head, n);
    if (!ws || !m->exits || !m->ahead) FAIL(err, MOTE_E_MEMORY, "out of memory for %zu extra heads", n);
    memcpy(ws, m->weights, m->n_weights * sizeof *ws);
    m->weights = ws;
    m->n_few = MIN(h->n_vocab, (MAX(h->n_vocab / FEW_SHARE, (size_t)FEW_MIN) + KERN_PANEL - 1) / KERN_PANEL * KERN_PANEL);
    m->n_likely = m->n_few;
    for (size_t i = 0; i < n; i++) TRY(load_head(m, &m->heads_file->one[i], err));
    return m->heads_file->tokens ? load_likely(m, m->heads_file->tokens, err) : MOTE_OK;
}

size_t model_n_exits(const model *m) { return m->n_exits; }
size_t model_n_ahead(const model *m) { return m->n_ahead; }
model_head model_get_exit(const model *m, size_t i) { return (model_head){m->exits[i].layer, m->exits[i].offset, m->exits[i].accuracy}; }

mote_status extra_room(const state *s, void (*lay_out)(const state *s, void *part, bump *b), void *part, const char *what, unsigned char **mem, size_t *bytes,
                       mote_error *err) {
    bump b = {0};
    lay_out(s, part, &b);
    *bytes = b.used;
    *mem = mem_alloc_aligned(b.used);
    if (!*mem) FAIL(err, MOTE_E_MEMORY, "out of memory: %s need %zu bytes", what, *bytes);
    b = (bump){.base = *mem, .cap = *bytes};
    lay_out(s, part, &b);
    return MOTE_OK;
}

mote_status model_check_exits(const model *m, mote_error *err) {
    if (m->n_exits == 0) FAIL(err, MOTE_E_USAGE, "there are no early exits: the model was opened without a heads file that has some");
    return MOTE_OK;
}

mote_status model_check_drafts(const model *m, mote_error *err) {
    TRY(model_check_exits(m, err));
    if (m->hp.n_carry) FAIL(err, MOTE_E_UNSUPPORTED, "drafts by an early exit: layers of architecture '%s' leave values for later ones", m->arch->name);
    for (size_t il = 0; il < m->hp.n_layer; il++)
        for (int w = 0; w < 2; w++) {
            const block_ops *b = m->layers[il].mixer[w];
            if (b && m->layers[il].state_bytes[w])
                FAIL(err, MOTE_E_UNSUPPORTED, "drafts by an early exit: layer %zu (%s) keeps a state that a draft that fails cannot take back", il, b->name);
        }
    return MOTE_OK;
}

/* ---- in a pass ---- */

void extra_rows(fwd *f, const extra_head *e, const float *x, const int32_t *at, size_t n, float *z) {
    const size_t d = f->m->hp.n_embd, mark = bump_mark(&f->mem);
    float *u = bump_f32(&f->mem, n * d);
    const norm nm = {f->m->hp.norm, e->norm, NULL, f->m->hp.eps};
    size_t from, to;
    team_enter(&f->t, PROF_HEAD);
    fwd_share(f, n, &from, &to);
    for (size_t i = from; i < to; i++) norm_row_local(&f->t, &nm, z + i * d, x + (at ? (size_t)at[i] : i) * d, d);
    team_barrier(&f->t);
    const linear_in in = {.x = z, .ld = d};
    const linear_out out = slot_out(&e->mat, u, d);
    op_linear(&f->t, &in, n, &out, 1);
    team_enter(&f->t, PROF_HEAD);
    fwd_share(f, n * d, &from, &to);
    for (size_t i = from; i < to; i++) z[i] += u[i];
    team_barrier(&f->t);
    bump_reset(&f->mem, mark);
}

void model_token_row(const model *m, int32_t id, float *dst) {
    weight_row(m->slots[R_TOKEN_EMBD].mat, (size_t)id, dst);
    m->kern->rms_norm(dst, dst, NULL, NULL, TOKEN_EPS, m->hp.n_embd);
}

void extra_ahead(fwd *f, const extra_head *e, const float *x, int32_t id, float *z) {
    const size_t d = f->m->hp.n_embd, mark = bump_mark(&f->mem);
    float *token = bump_f32(&f->mem, d), *parts = bump_f32(&f->mem, 2 * d);
    const norm nm = {f->m->hp.norm, e->norm, NULL, f->m->hp.eps};
    size_t from, to;
    team_enter(&f->t, PROF_HEAD);
    if (f->t.ith == 0 && e->norm) norm_row_local(&f->t, &nm, z, x, d);
    if (f->t.ith == 0 && !e->norm) memcpy(z, x, d * sizeof *z);
    if (f->t.ith == f->t.nth - 1) model_token_row(f->m, id, token);
    team_barrier(&f->t);
    const linear_in in[2] = {{.x = z, .ld = d}, {.x = token, .ld = d}};
    const linear_out out[2] = {slot_out(&e->mat, parts, d), slot_out(&e->token, parts + d, d)};
    for (size_t i = 0; i < 2; i++) op_linear(&f->t, &in[i], 1, &out[i], 1);
    team_enter(&f->t, PROF_HEAD);
    fwd_share(f, d, &from, &to);
    for (size_t i = from; i < to; i++) z[i] += parts[i] + parts[d + i];
    team_barrier(&f->t);
    bump_reset(&f->mem, mark);
}

float extra_needs(const model *m, const extra_head *e, const float *z, float threshold) {
    const size_t d = m->hp.n_embd;
    if (!e->gate || threshold <= 0 || threshold >= 1) return threshold;
    const float wants = logf(threshold / (1 - threshold)), has = m->kern->dot(e->gate, z, d) + e->gate[d];
    return 1 / (1 + expf((has - wants) / e->gate[d + 1]));
}

float extra_sure(const float *y, size_t n, size_t *best) {
    float top[SURE_OF], sum = 0;
    size_t n_top = 0;
    for (size_t i = 0; i < n; i++) {
        if (!(y[i] > (n_top < SURE_OF ? -INFINITY : top[SURE_OF - 1]))) continue;
        size_t j = n_top < SURE_OF ? n_top++ : SURE_OF - 1;
        for (; j > 0 && top[j - 1] < y[i]; j--) top[j] = top[j - 1];
        top[j] = y[i];
        if (j == 0 && best) *best = i;
    }
    for (size_t i = 0; i < n_top; i++) sum += expf(top[i] - top[0]);
    return sum > 0 ? 1 / sum : 0;
}
