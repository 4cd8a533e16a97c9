/* op_attention.c: causal (or full) attention with grouped queries over packed sequences, a row of scores at a time.
 *   s_ij = cap(scale q_i · k_j) + alibi (j - i);  p = softmax(s) (with a sink's logit beside them);  y_i = Σ p_ij v_j
 * Going back, the probabilities are made again from the row's log-sum-exp:
 *   dv_j += p_ij dy_i;  dp_ij = dy_i · v_j;  ds_ij = p_ij (dp_ij - dy_i · y_i);  dq_i += scale ds_ij k_j;  dk_j += scale ds_ij q_i
 * A unit of work is a sequence and one head (forward) or one key head with its query heads (back), so that every sum is
 * made by one thread. Source: Vaswani et al. 2017, §3.2; Dao et al. 2022 (FlashAttention), algorithms 1 and 4. */
#include "train/ops.h"

#include <assert.h>
#include <math.h>
#include <string.h>

struct attending {
    const struct kern_table *kern;
    var *q, *k, *v, *y;
    ad_attn o;
    const ad_seqs *s;
    float *lse;      /* [n, n_head] log of the sum of exponentials */
    float *rows;     /* per thread: two rows of scores */
    size_t row_len;
    float *gq, *gk, *gv, *gsink;
};

/* Keys that query row i of the sequence that begins at `start` and ends before `end` sees: [lo, hi). */
static void seen(const struct attending *a, size_t i, size_t start, size_t end, size_t *lo, size_t *hi) {
    *lo = start;
    *hi = a->o.causal ? i + 1 : end;
    if (a->o.window && i + 1 - start > a->o.window) *lo = i + 1 - a->o.window;
}

/* s[0 … hi - lo) = the scores of query i, head h. */
static void scores(const struct attending *a, size_t i, size_t h, size_t lo, size_t hi, float *s) {
    const ad_attn *o = &a->o;
    size_t group = o->n_head / o->n_head_kv, ldk = a->k->cols;
    const float *q = a->q->x + i * a->q->cols + h * o->dim_k, *k = a->k->x + h / group * o->dim_k;
    for (size_t j = lo; j < hi; j++) s[j - lo] = o->scale * a->kern->dot(q, k + j * ldk, o->dim_k);
    for (size_t j = 0; o->softcap > 0 && j < hi - lo; j++) s[j] = o->softcap * tanhf(s[j] / o->softcap);
    for (size_t j = lo; o->alibi && j < hi; j++) s[j - lo] += o->alibi[h] * ((float)j - (float)i);
}

static void attend_row(const struct attending *a, size_t i, size_t h, size_t start, size_t end, float *s) {
    const ad_attn *o = &a->o;
    size_t lo, hi, group = o->n_head / o->n_head_kv;
    seen(a, i, start, end, &lo, &hi);
    scores(a, i, h, lo, hi, s);
    float top = a->kern->max(s, hi - lo), sink = o->sinks ? o->sinks->x[h] : -INFINITY;
    top = fmaxf(top, sink);
    float sum = a->kern->exp_sum(s, top, hi - lo) + expf(sink - top);
    float *y = a->y->x + i * a->y->cols + h * o->dim_v;
    const float *v = a->v->x + h / group * o->dim_v;
    memset(y, 0, o->dim_v * sizeof *y);
    for (size_t j = lo; j < hi; j++) a->kern->axpy(y, v + j * a->v->cols, s[j - lo] / sum, o->dim_v);
    a->lse[i * o->n_head + h] = top + logf(sum);
}

static void attend_part(void *ctx, size_t from, size_t to, int ith) {
    const struct attending *a = ctx;
    float *s = a->rows + 2 * (size_t)ith * a->row_len;
    for (size_t u = from; u < to; u++) {
        size_t seq = u / a->o.n_head, h = u % a->o.n_head, start = a->s->start[seq], end = a->s->start[seq + 1];
        for (size_t i = start; i < end; i++) attend_row(a, i, h, start, end, s);
    }
}

static void back_row(const struct attending *a, size_t i, size_t h, size_t start, size_t end, float *p, float *dp) {
    const ad_attn *o = &a->o;
    size_t lo, hi, group = o->n_head / o->n_head_kv, g = h / group, dk = o->dim_k, dv = o->dim_v;
    size_t ldk = a->k->cols, ldv = a->v->cols;
    const float *dy = a->y->g + i * a->y->cols + h * dv, *q = a->q->x + i * a->q->cols + h * dk;
    float lse = a->lse[i * o->n_head + h], own = a->kern->dot(dy, a->y->x + i * a->y->cols + h * dv, dv);
    seen(a, i, start, end, &lo, &hi);
    scores(a, i, h, lo, hi, p);
    for (size_t j = lo; j < hi; j++) {
        float s = p[j - lo], slope = 1;
        if (o->softcap > 0) {
            float c = (s - (o->alibi ? o->alibi[h] * ((float)j - (float)i) : 0)) / o->softcap;
            slope = 1 - c * c;
        }
        p[j - lo] = expf(s - lse);
        dp[j - lo] = p[j - lo] * (a->kern->dot(dy, a->v->x + j * ldv + g * dv, dv) - own) * o->scale * slope;
    }
    for (size_t j = lo; j < hi; j++) {
        if (a->gv) a->kern->axpy(a->gv + j * ldv + g * dv, dy, p[j - lo], dv);
        if (a->gq) a->kern->axpy(a->gq + i * a->q->cols + h * dk, a->k->x + j * ldk + g * dk, dp[j - lo], dk);
        if (a->gk) a->kern->axpy(a->gk + j * ldk + g * dk, q, dp[j - lo], dk);
    }
}

static void attend_back_part(void *ctx, size_t from, size_t to, int ith) {
    const struct attending *a = ctx;
    size_t group = a->o.n_head / a->o.n_head_kv;
    float *p = a->rows + 2 * (size_t)ith * a->row_len;
    for (size_t u = from; u < to; u++) {
        size_t seq = u / a->o.n_head_kv, g = u % a->o.n_head_kv, start = a->s->start[seq], end = a->s->start[seq + 1];
        for (size_t h = g * group; h < (g + 1) * group; h++)
            for (size_t i = start; i < end; i++) back_row(a, i, h, start, end, p, p + a->row_len);
    }
}

/* d sink_h = -Σ_i p_i,sink (dy_i · y_i) */
static void sinks_back(const struct attending *a) {
    const ad_attn *o = &a->o;
    for (size_t i = 0; i < a->s->n; i++)
        for (size_t h = 0; h < o->n_head; h++) {
            const float *y = a->y->x + i * a->y->cols + h * o->dim_v, *dy = a->y->g + i * a->y->cols + h * o->dim_v;
            a->gsink[h] -= expf(o->sinks->x[h] - a->lse[i * o->n_head + h]) * a->kern->dot(dy, y, o->dim_v);
        }
}

static void attend_back(tape *t, void *ctx) {
    struct attending *a = ctx;
    if (!a->y->g) return;
    a->gq = tape_grad_zeroed(t, a->q);
    a->gk = tape_grad_zeroed(t, a->k);
    a->gv = tape_grad_zeroed(t, a->v);
    a->gsink = tape_grad_zeroed(t, a->o.sinks);
    tape_for(t, a->s->n_seq * a->o.n_head_kv, 1, attend_back_part, a);
    if (a->gsink) sinks_back(a);
}

var *ad_attention(tape *t, var *q, var *k, var *v, const ad_attn *o, const ad_seqs *s) {
    if (!q || !k || !v) return NULL;
    assert(q->cols == o->n_head * o->dim_k && k->cols == o->n_head_kv * o->dim_k && v->cols == o->n_head_kv * o->dim_v);
    struct attending a = {.kern = tape_kern(t), .q = q, .k = k, .v = v, .o = *o, .s = s};
    for (size_t i = 0; i < s->n_seq; i++) a.row_len = MAX(a.row_len, (size_t)(s->start[i + 1] - s->start[i]));
    a.y = tape_var(t, q->rows, o->n_head * o->dim_v, q->wants || k->wants || v->wants || (o->sinks && o->sinks->wants));
    a.lse = tape_mem(t, q->rows * o->n_head * sizeof(float));
    a.rows = tape_mem(t, 2 * (size_t)tape_threads(t) * a.row_len * sizeof(float));
    if (!a.y || !a.lse || !a.rows) return NULL;
    tape_for(t, s->n_seq * o->n_head, 1, attend_part, &a);
    struct attending *kept = a.y->wants ? tape_note(t, attend_back, sizeof a) : NULL;
    if (kept) *kept = a;
    return a.y;
}
