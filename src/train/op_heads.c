/* op_heads.c: the loss of several heads against the model's own, in chunks of rows.
 *
 * With z the logits of a row, q = softmax(z), p the model's distribution and y the text's token:
 *   KL = Σ p log p - Σ p z + log Σ exp z;   dKL/dz = q - p;   ce = log Σ exp z - z_y;   dce/dz = q - onehot(y)
 * through a cap: (1 - (z/cap)²). With `few`, both softmaxes run over a part of the vocabulary, chosen for each chunk: what matters (for each row the
 * likeliest by the model, and the targets), and of the rest every so-manieth, each of which stands for all those that it was drawn from: its
 * logits are raised by the logarithm of their number (Horvitz & Thompson 1952; Bengio & Senécal 2003). Gradients of the hidden rows are made on the way forward, kept, and scaled going back; logits
 * are forgotten chunk by chunk. */
#include "train/op_heads.h"

#include "tensor/tensor.h"

#include <assert.h>
#include <math.h>
#include <string.h>

enum { TOPS = 16, CHUNK_BYTES = 48 << 20, CHUNK_ROWS = 256, CHUNK_ROWS_LEAST = 8 };

/* The model's own view of a row: p in place of its logits, and … */
typedef struct own_row {
    float p_log_p;
    size_t best;
} own_row;

typedef struct row_loss {
    double divergence, ce;
    bool agree;
} row_loss;

typedef struct comparing {
    tape *t;
    const kern_table *kern;
    const var *own;
    const ad_head *head;
    const ad_targets *rows;
    size_t vocab, cols;
    size_t few;               /* tokens that are drawn; 0: all are looked at */
    uint32_t *at, *first_of;  /* [n_rows] the rows that count; the first row of each one's sequence */
    size_t n_rows;
    double sum_weight;
    /* the chunk: [from, from + count) of `at` */
    size_t from, count, chunk;
    float *h, *p, *z, *gh;    /* [chunk, cols | vocab | vocab | cols] */
    own_row *seen;            /* [chunk] */
    row_loss *losses;         /* [chunk] */
    float *work;              /* [threads, vocab] */
    /* the part of the vocabulary that the chunk looks at: all of it, or … */
    size_t n;
    const float *w, *b;       /* [n, cols], [n] or NULL */
    float *some_w, *some_b, *raised; /* [n_most, cols], [n_most], [n_most] */
    size_t n_most;
    uint32_t *ids, *place;    /* [n_most] which; [vocab] where a token is among them */
    bool *matters;            /* [vocab] */
    int32_t *tops;            /* [chunk, TOPS] */
    /* the head under way */
    const heads_rows *now;
    float *gz;                /* [n, cols] its gradient, or NULL */
} comparing;

typedef struct heads_note {
    var *out;
    size_t n;
    var **z;
    float **gz;
} heads_note;

static float weight_of(const comparing *c, size_t row) { return c->rows->weights ? c->rows->weights[row] : 1; }

/* z = cap(scale (h wᵀ + b)) */
static void finish_logits(const comparing *c, float *z) {
    if (c->b) c->kern->axpy(z, c->b, 1, c->n);
    if (c->head->scale != 1) c->kern->scale(z, z, c->head->scale, c->n);
    for (size_t i = 0; c->head->softcap > 0 && i < c->n; i++) z[i] = c->head->softcap * tanhf(z[i] / c->head->softcap);
}

static void own_part(void *ctx, size_t from, size_t to, int ith) {
    comparing *c = ctx;
    const kern_table *k = c->kern;
    size_t n = c->n;
    float *work = c->work + (size_t)ith * n;
    for (size_t i = from; i < to; i++) {
        float *p = c->p + i * n;
        size_t best = 0;
        finish_logits(c, p);
        if (c->few) k->axpy(p, c->raised, 1, n);
        float top = k->max(p, n);
        while (best + 1 < n && p[best] != top) best++; /* with NaN in it: the last, and the loss is NaN */
        memcpy(work, p, n * sizeof *p);
        float sum = k->exp_sum(p, top, n);
        k->scale(p, p, 1 / sum, n);
        c->seen[i] = (own_row){k->dot(p, work, n) - top - logf(sum), best};
    }
}

/* The row of the head's that is compared with row `row`; false: it lies before the sequence. */
static bool row_behind(const comparing *c, size_t i, size_t *row) {
    size_t at = c->at[c->from + i];
    if (at < c->first_of[c->from + i] + c->now->ahead) return false;
    *row = at - c->now->ahead;
    return true;
}

static void gather_part(void *ctx, size_t from, size_t to, int ith) {
    comparing *c = ctx;
    (void)ith;
    for (size_t i = from; i < to; i++) {
        const float *x = c->own->x + c->at[c->from + i] * c->cols;
        size_t row = 0;
        if (c->now) x = row_behind(c, i, &row) ? c->now->z->x + row * c->cols : NULL;
        if (x) memcpy(c->h + i * c->cols, x, c->cols * sizeof *x);
        else memset(c->h + i * c->cols, 0, c->cols * sizeof *x);
    }
}

static void head_part(void *ctx, size_t from, size_t to, int ith) {
    comparing *c = ctx;
    const kern_table *k = c->kern;
    size_t n = c->n, row;
    float cap = c->head->softcap, *work = c->work + (size_t)ith * n;
    for (size_t i = from; i < to; i++) {
        float *z = c->z + i * n, *p = c->p + i * n;
        if (!row_behind(c, i, &row)) {
            memset(z, 0, n * sizeof *z);
            continue;
        }
        size_t at = c->at[c->from + i], y = c->few ? c->place[c->rows->target[at]] : (size_t)c->rows->target[at];
        float g = (float)((double)(weight_of(c, at) * c->now->by) / c->sum_weight) * c->head->scale;
        finish_logits(c, z);
        if (cap > 0) memcpy(work, z, n * sizeof *z);
        if (c->few) k->axpy(z, c->raised, 1, n);
        float top = k->max(z, n), goal = z[y], mean = k->dot(p, z, n);
        bool agree = z[c->seen[i].best] >= top;
        float sum = k->exp_sum(z, top, n), log_z = top + logf(sum);
        c->losses[i] = (row_loss){(double)(c->seen[i].p_log_p - mean + log_z), (double)(log_z - goal), agree};
        if (!c->gz) continue;
        k->scale(z, z, g / sum, n);
        k->axpy(z, p, -g * (1 - c->now->text), n);
        z[y] -= g * c->now->text;
        for (size_t j = 0; cap > 0 && j < n; j++) z[j] *= 1 - (work[j] / cap) * (work[j] / cap);
    }
}

static void multiply(comparing *c, float *z) {
    tape_for(c->t, c->count, 8, gather_part, c);
    tape_gemm(c->t, &(gemm_args){.m = c->count, .n = c->n, .k = c->cols, .a = c->h, .lda = c->cols, .b = c->w, .ldb = c->cols, .tb = true,
                                 .c = z, .ldc = c->n});
}

/* ---- a part of the vocabulary ---- */
static void look_at_all(comparing *c) {
    c->n = c->vocab;
    c->w = c->head->w->x;
    c->b = c->head->b ? c->head->b->x : NULL;
}

static void tops_part(void *ctx, size_t from, size_t to, int ith) {
    const comparing *c = ctx;
    (void)ith;
    for (size_t i = from; i < to; i++) {
        const float *p = c->p + i * c->vocab;
        int32_t *top = c->tops + i * TOPS;
        size_t n = 0;
        for (size_t k = 0; k < c->vocab; k++) {
            if (n == TOPS && !(p[k] > p[top[TOPS - 1]])) continue;
            size_t j = n < TOPS ? n++ : TOPS - 1;
            for (; j > 0 && p[k] > p[top[j - 1]]; j--) top[j] = top[j - 1];
            top[j] = (int32_t)k;
        }
        for (; n < TOPS; n++) top[n] = 0;
    }
}

static void gather_matrix(void *ctx, size_t from, size_t to, int ith) {
    comparing *c = ctx;
    (void)ith;
    for (size_t i = from; i < to; i++) {
        memcpy(c->some_w + i * c->cols, c->head->w->x + c->ids[i] * c->cols, c->cols * sizeof *c->some_w);
        if (c->head->b) c->some_b[i] = c->head->b->x[c->ids[i]];
    }
}

/* Chooses, by the model's logits in p; the same rows choose the same. */
static void look_at_few(comparing *c) {
    const double apart = (double)c->vocab / (double)c->few;
    rng r;
    uint64_t seed = 0;
    memset(c->matters, 0, c->vocab * sizeof *c->matters);
    tape_for(c->t, c->count, 1, tops_part, c);
    for (size_t i = 0; i < c->count; i++) {
        const int32_t goal = c->rows->target[c->at[c->from + i]];
        seed = seed * 31 + (uint64_t)goal;
        c->matters[goal] = true;
        for (size_t k = 0; k < TOPS; k++) c->matters[c->tops[i * TOPS + k]] = true;
    }
    rng_seed(&r, seed, c->from);
    double next = apart * rng_double(&r);
    c->n = 0;
    for (size_t k = 0; k < c->vocab; k++) {
        const bool drawn = (double)k >= next;
        if (drawn) next += apart;
        if (!drawn && !c->matters[k]) continue;
        c->raised[c->n] = c->matters[k] ? 0 : logf((float)apart);
        c->place[k] = (uint32_t)c->n;
        c->ids[c->n++] = (uint32_t)k;
    }
    assert(c->n <= c->n_most);
    tape_for(c->t, c->n, 64, gather_matrix, c);
    for (size_t i = 0; i < c->count; i++) /* ascending: nothing is overwritten before it is read */
        for (size_t k = 0; k < c->n; k++) c->p[i * c->n + k] = c->p[i * c->vocab + c->ids[k]];
    c->w = c->some_w;
    c->b = c->head->b ? c->some_b : NULL;
}

static double add_up(comparing *c, heads_seen *sum) {
    double loss = 0;
    for (size_t i = 0; i < c->count; i++) {
        size_t row;
        if (!row_behind(c, i, &row)) continue;
        const row_loss *l = &c->losses[i];
        double w = (double)weight_of(c, c->at[c->from + i]);
        loss += w * ((1 - (double)c->now->text) * l->divergence + (double)c->now->text * l->ce);
        *sum = (heads_seen){sum->divergence + w * l->divergence, sum->ce + w * l->ce, sum->agree + w * l->agree, sum->weight + w};
    }
    return loss * (double)c->now->by / c->sum_weight;
}

static double run_chunk(comparing *c, const heads_rows *heads, size_t n_heads, float *const *gz, heads_seen *sums) {
    double loss = 0;
    c->now = NULL;
    look_at_all(c);
    multiply(c, c->p);
    if (c->few) look_at_few(c);
    tape_for(c->t, c->count, 1, own_part, c);
    for (size_t h = 0; h < n_heads; h++) {
        c->now = &heads[h];
        c->gz = gz[h];
        multiply(c, c->z);
        tape_for(c->t, c->count, 1, head_part, c);
        loss += add_up(c, &sums[h]);
        if (!c->gz) continue;
        tape_gemm(c->t, &(gemm_args){.m = c->count, .n = c->cols, .k = c->n, .a = c->z, .lda = c->n, .b = c->w, .ldb = c->cols,
                                     .c = c->gh, .ldc = c->cols});
        for (size_t i = 0, row; i < c->count; i++)
            if (row_behind(c, i, &row)) memcpy(c->gz + row * c->cols, c->gh + i * c->cols, c->cols * sizeof(float));
    }
    return loss;
}

static void heads_back(tape *t, void *ctx) {
    const heads_note *a = ctx;
    if (!a->out->g) return;
    for (size_t h = 0; h < a->n; h++) {
        float *g = a->gz[h] ? tape_grad_zeroed(t, a->z[h]) : NULL;
        if (g) tape_kern(t)->axpy(g, a->gz[h], a->out->g[0], a->z[h]->rows * a->z[h]->cols);
    }
}

/* Which rows count. False: out of memory. */
static bool choose_rows(comparing *c, const ad_seqs *s) {
    double weights = 0;
    c->at = tape_mem(c->t, (s->n + 1) * sizeof *c->at);
    c->first_of = tape_mem(c->t, (s->n + 1) * sizeof *c->first_of);
    if (!c->at || !c->first_of) return false;
    for (size_t q = 0; q < s->n_seq; q++)
        for (uint32_t i = s->start[q]; i < s->start[q + 1]; i++) {
            if (c->rows->target[i] < 0 || (size_t)c->rows->target[i] >= c->vocab || !(weight_of(c, i) > 0)) continue;
            weights += (double)weight_of(c, i);
            c->at[c->n_rows] = i;
            c->first_of[c->n_rows++] = s->start[q];
        }
    c->sum_weight = c->rows->sum_weight > 0 ? c->rows->sum_weight : weights > 0 ? weights : 1;
    return true;
}

static bool few_room(comparing *c) {
    tape *t = c->t;
    c->n_most = MIN(c->vocab, c->chunk * (TOPS + 1) + c->few + 1);
    c->some_w = tape_mem(t, c->n_most * c->cols * sizeof(float));
    c->some_b = tape_mem(t, c->n_most * sizeof(float));
    c->raised = tape_mem(t, c->n_most * sizeof(float));
    c->ids = tape_mem(t, c->n_most * sizeof *c->ids);
    c->place = tape_mem(t, c->vocab * sizeof *c->place);
    c->matters = tape_mem(t, c->vocab * sizeof *c->matters);
    c->tops = tape_mem(t, c->chunk * TOPS * sizeof *c->tops);
    return c->some_w && c->some_b && c->raised && c->ids && c->place && c->matters && c->tops;
}

static bool chunk_room(comparing *c) {
    tape *t = c->t;
    c->chunk = MIN(MAX(CHUNK_BYTES / (c->vocab * sizeof(float)), (size_t)CHUNK_ROWS_LEAST), (size_t)CHUNK_ROWS);
    c->chunk = MAX(MIN(c->chunk, c->n_rows), (size_t)1);
    c->h = tape_mem(t, c->chunk * c->cols * sizeof(float));
    c->gh = tape_mem(t, c->chunk * c->cols * sizeof(float));
    c->p = tape_mem(t, c->chunk * c->vocab * sizeof(float));
    c->z = tape_mem(t, c->chunk * c->vocab * sizeof(float));
    c->seen = tape_mem(t, c->chunk * sizeof *c->seen);
    c->losses = tape_mem(t, c->chunk * sizeof *c->losses);
    c->work = tape_mem(t, (size_t)tape_threads(t) * c->vocab * sizeof(float));
    if (c->few && !few_room(c)) return false;
    return c->h && c->gh && c->p && c->z && c->seen && c->losses && c->work;
}

/* Room for the heads' gradients, and the note that brings them back; NULL in *sums: out of memory. */
static heads_note *prepare(tape *t, var *out, const heads_rows *heads, size_t n, heads_note *note, heads_seen **sums) {
    *note = (heads_note){out, n, tape_mem(t, n * sizeof(var *)), tape_mem(t, n * sizeof(float *))};
    *sums = tape_mem(t, n * sizeof **sums);
    heads_note *kept = out && out->wants ? tape_note(t, heads_back, sizeof *kept) : NULL;
    if (!note->z || !note->gz) *sums = NULL;
    if (!*sums) return NULL;
    for (size_t h = 0; h < n; h++) {
        size_t size = heads[h].z->rows * heads[h].z->cols;
        (*sums)[h] = (heads_seen){0};
        note->z[h] = heads[h].z;
        note->gz[h] = NULL;
        if (!kept || !heads[h].z->wants) continue;
        if (!(note->gz[h] = tape_mem(t, size * sizeof(float)))) {
            *sums = NULL;
            return NULL;
        }
        memset(note->gz[h], 0, size * sizeof(float));
    }
    return kept;
}

var *ad_heads(tape *t, var *own, const ad_head *head, const heads_rows *heads, size_t n_heads, const ad_seqs *s, const ad_targets *rows,
              size_t few) {
    bool wants = false;
    heads_seen *sums;
    heads_note note;
    double loss = 0;
    if (!own || !head->w) return NULL;
    for (size_t h = 0; h < n_heads; h++) {
        if (!heads[h].z) return NULL;
        assert(heads[h].z->rows == own->rows && heads[h].z->cols == own->cols);
        wants |= heads[h].z->wants;
    }
    comparing c = {.t = t, .kern = tape_kern(t), .own = own, .head = head, .rows = rows, .vocab = head->w->rows, .cols = own->cols,
                   .few = few < head->w->rows ? few : 0};
    var *out = tape_var(t, 1, 1, wants);
    heads_note *kept = prepare(t, out, heads, n_heads, &note, &sums);
    if (!out || !sums || !choose_rows(&c, s)) return NULL;
    tape_spot spot = tape_mark(t);
    if (!chunk_room(&c)) return NULL;
    for (; c.from < c.n_rows; c.from += c.chunk) {
        c.count = MIN(c.chunk, c.n_rows - c.from);
        loss += run_chunk(&c, heads, n_heads, note.gz, sums);
    }
    tape_release(t, spot);
    for (size_t h = 0; h < n_heads; h++) {
        double by = sums[h].weight > 0 ? 1 / sums[h].weight : 0;
        if (heads[h].seen) *heads[h].seen = (heads_seen){sums[h].divergence * by, sums[h].ce * by, sums[h].agree * by, sums[h].weight};
    }
    *out->x = (float)loss;
    if (kept) *kept = note;
    return out;
}
