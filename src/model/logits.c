/* logits.c: the end of a pass: hidden rows and logits of the wanted tokens, all of them or the greatest (op_head). */
#include "model/extra.h"
#include "model/state.h"

#include <math.h>
#include <string.h>

/* ---- when it pays to look for the greatest alone ----
 * Both ways give the same bits, so the clock may decide: the greatest are looked for as long as that takes less time
 * than computing all did. When it takes more, everything is computed for a while, then it is tried again. All are
 * computed now and then to know what that takes. */
enum { TRY_AGAIN_FIRST = 32, TRY_AGAIN_MOST = 1024, COMPARE_EVERY = 256 };

static void average(double *mean, double sample) {
    *mean = *mean == 0 ? sample : *mean + (fmin(sample, 2 * *mean) - *mean) / 8;
}

static const slot *head_slot(const model *m) {
    return m->slots[R_OUTPUT].info ? &m->slots[R_OUTPUT] : &m->slots[R_TOKEN_EMBD];
}

static const float *head_bias(const model *m) {
    return m->arch->output_unbiased ? NULL : m->slots[R_OUTPUT].bias ? m->slots[R_OUTPUT].bias : head_slot(m)->bias;
}

static bool can_screen(const state *s, const head_query *q) {
    const model *m = s->m;
    const slot *os = head_slot(m);
    float scale = os->scale ? os->scale[0] : 1;
    if (s->opts.exact || !os->mat->split || os->mat->adapter || os->mat->below || head_bias(m) || !(scale > 0) || !(m->hp.logit_scale > 0)) return false;
    if (m->hp.final_softcap > 0 && q->gap < INFINITY) return false; /* behind a cap a gap has no width */
    return (q->k > 0 || q->gap < INFINITY) && q->k <= HEAD_K_MAX && q->n_forced <= HEAD_FORCED_MAX &&
           m->hp.n_vocab > 4 * (q->k + q->n_forced);
}

void head_begin(state *s, const model_batch *b) {
    head_policy *h = &s->head;
    h->screen = h->timed = false;
    if (b->found) b->found->ok = false;
    if (b->n_want != 1 || !b->logits || !head_slot(s->m)->mat->split) return;
    h->timed = true;
    if (!b->query || !can_screen(s, b->query)) return;
    if (h->skip > 0) {
        h->skip--;
        return;
    }
    if (h->full_ns == 0 || ++h->since_full >= COMPARE_EVERY) return;
    h->screen = true;
    /* the seeds in ascending order */
    for (size_t i = 0; i < h->n_recent; i++) {
        size_t j = i;
        for (; j > 0 && h->seeds[j - 1] > h->recent[i]; j--) h->seeds[j] = h->seeds[j - 1];
        h->seeds[j] = h->recent[i];
    }
}

/* A panel that held one of the greatest comes to the front of the recent ones. */
static void note_panel(head_policy *h, int32_t panel) {
    size_t i = 0;
    while (i < h->n_recent && h->recent[i] != panel) i++;
    if (i == h->n_recent && h->n_recent < HEAD_SEEDS) h->n_recent++;
    if (i == HEAD_SEEDS) i--;
    memmove(h->recent + 1, h->recent, i * sizeof *h->recent);
    h->recent[0] = panel;
}

void head_end(state *s, const model_batch *b) {
    head_policy *h = &s->head;
    if (!h->timed) return;
    double ns = (double)(h->end_ns - h->begin_ns);
    if (!h->screen) {
        average(&h->full_ns, ns);
        h->since_full = 0;
        return;
    }
    average(&h->screen_ns, ns);
    for (size_t i = b->found->ok ? b->found->n : 0; i-- > 0;) note_panel(h, b->found->ids[i] / KERN_PANEL);
    if (h->screen_ns < h->full_ns) {
        h->wait = 0;
        return;
    }
    h->wait = MIN(MAX(2 * h->wait, (unsigned)TRY_AGAIN_FIRST), (unsigned)TRY_AGAIN_MOST);
    h->skip = h->wait;
    h->screen_ns = 0; /* the next try counts for itself */
}

/* ---- the head ---- */

static float finish_logit(const hparams *h, float y) {
    float v = y * h->logit_scale, cap = h->final_softcap;
    return cap > 0 ? cap * tanhf(v / cap) : v;
}

/* rows [n, n_embd] to the first `few` (0: all) logits by `head`, [n, few]; when they are finished, without a barrier. */
static void logits_of(fwd *f, const slot *head, const float *bias, const float *rows, size_t n, size_t few, float *logits) {
    const model *m = f->m;
    size_t width = few ? few : weight_rows(head->mat), from, to;
    linear_in in = {.x = rows, .ld = m->hp.n_embd};
    linear_out out = slot_out(head, logits, width);
    out.bias = bias;
    out.rows = few;
    op_linear(&f->t, &in, n, &out, 1);
    if (m->hp.logit_scale == 1 && m->hp.final_softcap == 0) return;
    team_enter(&f->t, PROF_HEAD);
    fwd_share(f, n * width, &from, &to);
    for (size_t i = from; i < to; i++) logits[i] = finish_logit(&m->hp, logits[i]);
}

static void make_logits(fwd *f, const float *rows, size_t n, size_t few, float *logits) {
    logits_of(f, head_slot(f->m), head_bias(f->m), rows, n, few, logits);
}

void fwd_likely(fwd *f, const float *z, float *logits) {
    const model *m = f->m;
    if (m->likely) logits_of(f, &m->likely_head, m->likely_head.bias, z, 1, 0, logits);
    else make_logits(f, z, 1, m->n_likely, logits);
    team_barrier(&f->t);
}

void fwd_logits(fwd *f, const float *z, size_t n, size_t few, float *logits) {
    make_logits(f, z, n, few, logits);
    if (f->m->hp.logit_scale != 1 || f->m->hp.final_softcap != 0) team_barrier(&f->t);
}

/* The greatest of the logits of one row; false when all have to be computed. Barrier before they are finished. */
static bool greatest(fwd *f, const float *row, head_query q) {
    const model *m = f->m;
    const slot *os = head_slot(m);
    float ls = m->hp.logit_scale;
    head_found *found = f->b->found;
    if (q.gap < INFINITY) q.gap = q.gap / ls * 1.0001f + 1e-4f; /* wider than any rounding of y */
    head_in in = {.w = os->mat, .x = row, .scale = os->scale ? os->scale[0] : 1, .cap = m->hp.final_softcap / ls,
                  .seeds = f->s->head.seeds, .n_seeds = f->s->head.n_recent};
    op_head(&f->t, &in, &q, found);
    if (!found->ok) return false;
    if (f->t.ith == 0)
        for (size_t i = 0; i < found->n; i++) found->y[i] = finish_logit(&m->hp, found->y[i]);
    return true;
}

/* A query with a gap says nothing of the 16 greatest: then there are two. */
static bool greatest_and_sure(fwd *f, const float *z, float threshold, float *sure) {
    enum { SURE_OF = 16 };
    head_query q = *f->b->query;
    const bool alone = q.gap < INFINITY;
    if (alone) q = (head_query){.gap = INFINITY};
    q.k = MAX(q.k, (size_t)SURE_OF);
    if (!greatest(f, z, q)) return false;
    team_barrier(&f->t);
    *sure = extra_sure(f->b->found->y, f->b->found->n, NULL);
    team_barrier(&f->t);
    return !alone || *sure < threshold || greatest(f, z, *f->b->query);
}

float fwd_answer(fwd *f, const float *z, float threshold) {
    const model_batch *b = f->b;
    head_policy *h = &f->s->head;
    float sure;
    team_enter(&f->t, PROF_HEAD);
    if (f->t.ith == 0 && h->timed) h->begin_ns = clock_ns();
    if (!h->screen || !greatest_and_sure(f, z, threshold, &sure)) {
        fwd_logits(f, z, 1, 0, b->logits);
        sure = extra_sure(b->logits, f->m->hp.n_vocab, NULL);
    }
    if (f->t.ith == 0 && h->timed) h->end_ns = clock_ns();
    return sure;
}

void fwd_head(fwd *f) {
    const model *m = f->m;
    const model_batch *b = f->b;
    head_policy *h = &f->s->head;
    size_t n_embd = m->hp.n_embd;
    const slot *on = &m->slots[R_OUTPUT_NORM];
    norm nm = on->info || m->arch->norm_bare ? (norm){m->hp.norm, on->vec, on->bias, m->hp.eps} : (norm){0};
    float *rows = bump_f32(&f->mem, b->n_want * n_embd);
    size_t from, to;
    if (b->n_want == 0) return;
    team_enter(&f->t, PROF_HEAD);
    fwd_share(f, b->n_want, &from, &to);
    for (size_t i = from; i < to; i++) {
        size_t place;
        const float *z = exits_row(f->s, (size_t)b->want[i], &place), *x = z ? z : f->x + place * n_embd;
        if (!z && nm.kind != NORM_NONE) norm_row_local(&f->t, &nm, rows + i * n_embd, x, n_embd);
        else memcpy(rows + i * n_embd, x, n_embd * sizeof(float));
        if (b->hidden) memcpy(b->hidden + i * n_embd, rows + i * n_embd, n_embd * sizeof(float));
    }
    team_barrier(&f->t);
    if (!b->logits || exits_answered(f->s)) return;
    if (f->t.ith == 0 && h->timed) h->begin_ns = clock_ns();
    if (!h->screen || !greatest(f, rows, *b->query)) make_logits(f, rows, b->n_want, 0, b->logits);
    if (f->t.ith == 0 && h->timed) h->end_ns = clock_ns();
}

/* ---- logits of hidden rows that were kept ---- */

struct rows_pass {
    state *s;
    const float *rows;
    size_t n;
    float *logits;
};

static void rows_pass(void *arg, int ith, int nth) {
    struct rows_pass *p = arg;
    state *s = p->s;
    static const model_batch none = {0};
    fwd f = fwd_of(s, &none, ith, nth);
    make_logits(&f, p->rows, p->n, 0, p->logits);
}

void model_logits(state *s, const float *hidden, size_t n, float *logits) {
    pool_run(s->pool, rows_pass, &(struct rows_pass){s, hidden, n, logits});
}
