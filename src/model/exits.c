/* exits.c: tokens that leave early. In a pass the rows that go on stay in the state's stream, closed up, as a batch of
 * their own; a row that leaves moves aside with its position and rotations, and in every layer behind only its keys and
 * values are computed, before the other rows attend. What a row does depends on it and the tokens before it alone, so it is
 * the same in a batch and one by one.
 * Source: Schuster et al. 2022, Confident Adaptive Language Modeling, §3.1 (state propagation), §3.2 (softmax response). */
#include "model/extra.h"
#include "model/state.h"

#include <math.h>

enum { AT_ONCE = 8 }; /* rows whose logits are looked at together */

typedef struct exiting {
    bool on, answered;    /* in this pass; see exits_answered */
    size_t n_live, n_left;
    /* by row of the batch */
    bool *wanted;         /* [n_batch] */
    int32_t *place, *by;  /* [n_batch] where it lies in the stream; the exit it took, -1: none */
    float *z;             /* [n_batch, n_embd] of those that left: what the output matrix multiplies */
    /* by place */
    int32_t *row, *seq;   /* [n_batch] */
    /* of those that left, in the order of leaving */
    float *x, *cs[2];     /* [n_batch, n_embd], [n_batch, n_rot] */
    int32_t *pos, *left_seq;
    model_seg *segs, *left_segs;
    model_batch live, left;
    /* at an exit */
    int32_t *cand;        /* places of rows that may leave … */
    size_t n_cand;
    float *sure;          /* … and how sure their heads are */
    int32_t *likely;      /* those of cand that the few logits do not hold back */
    size_t n_likely;
    float *logits;        /* [AT_ONCE, n_vocab] */
    unsigned char *mem;
    size_t bytes;
    uint64_t n_tokens, n_layers, *count;
} exiting;

/* ---- opening ---- */

static void lay_out(const state *s, exiting *x, bump *b) {
    const model *m = s->m;
    const size_t n = s->opts.n_batch, d = m->hp.n_embd;
    x->wanted = bump_bytes(b, n * sizeof(bool));
    int32_t **ints[] = {&x->place, &x->by, &x->row, &x->seq, &x->pos, &x->left_seq, &x->cand, &x->likely};
    for (size_t i = 0; i < COUNT_OF(ints); i++) *ints[i] = bump_bytes(b, n * sizeof(int32_t));
    x->z = bump_f32(b, n * d);
    x->x = bump_f32(b, n * d);
    x->cs[0] = bump_f32(b, n * m->hp.rope_all.n_rot);
    x->cs[1] = bump_f32(b, n * m->hp.rope_swa.n_rot);
    x->segs = bump_bytes(b, n * sizeof(model_seg));
    x->left_segs = bump_bytes(b, n * sizeof(model_seg));
    x->sure = bump_f32(b, n);
    x->logits = bump_f32(b, MIN((size_t)AT_ONCE, n) * (m->hp.n_vocab + d)); /* and gathered rows */
    x->count = bump_bytes(b, m->n_exits * sizeof *x->count);
}

mote_status exits_open(state *s, mote_error *err) {
    if (!s->opts.exits) return MOTE_OK;
    if (!(s->opts.exit_threshold >= 0)) FAIL(err, MOTE_E_RANGE, "the exit threshold is %g; expected a number from 0 on", (double)s->opts.exit_threshold);
    TRY(model_check_exits(s->m, err));
    exiting *x = s->exits = MEM_NEW(exiting);
    if (!x) FAIL(err, MOTE_E_MEMORY, "out of memory for early exits");
    bump b = {0};
    lay_out(s, x, &b);
    x->bytes = b.used;
    x->mem = mem_alloc_aligned(b.used);
    if (!x->mem) FAIL(err, MOTE_E_MEMORY, "out of memory: early exits in batches of %zu tokens need %zu bytes", s->opts.n_batch, b.used);
    b = (bump){.base = x->mem, .cap = x->bytes};
    lay_out(s, x, &b);
    memset(x->count, 0, s->m->n_exits * sizeof *x->count);
    return MOTE_OK;
}

void exits_close(state *s) {
    if (s->exits) mem_free_aligned(s->exits->mem);
    mem_free(s->exits);
}

size_t exits_bytes(const state *s) { return s->exits ? s->exits->bytes : 0; }

/* ---- who goes on ---- */

/* Runs of neighbouring positions of one sequence. */
static void make_segs(model_batch *b, model_seg *segs, size_t n, const int32_t *seq, const int32_t *pos) {
    b->segs = segs;
    b->n = n;
    b->n_segs = 0;
    for (size_t i = 0; i < n; i++) {
        model_seg *g = b->n_segs ? &segs[b->n_segs - 1] : NULL;
        if (g && g->seq == (size_t)seq[i] && g->pos0 + g->n == (size_t)pos[i]) g->n++;
        else segs[b->n_segs++] = (model_seg){(size_t)seq[i], (size_t)pos[i], 1};
    }
}

void exits_begin(state *s, const model_batch *b) {
    exiting *x = s->exits;
    size_t row = 0;
    if (!x) return;
    x->on = b->n_want > 0 && b->logits && s->opts.exit_threshold <= 1;
    x->answered = false;
    if (!x->on) return;
    x->n_live = b->n;
    x->n_left = 0;
    x->live = x->left = *b;
    for (size_t i = 0; i < b->n_segs; i++)
        for (size_t t = 0; t < b->segs[i].n; t++, row++) {
            x->seq[row] = (int32_t)b->segs[i].seq;
            x->row[row] = x->place[row] = (int32_t)row;
            x->by[row] = -1;
            x->wanted[row] = false;
        }
    for (size_t i = 0; i < b->n_want; i++) x->wanted[b->want[i]] = true;
}

void exits_end(state *s) {
    exiting *x = s->exits;
    if (!x || !x->on) return;
    for (size_t r = 0; r < x->live.n_want; r++) {
        int32_t by = x->by[x->live.want[r]];
        x->n_tokens++;
        x->n_layers += by < 0 ? s->m->hp.n_layer : s->m->exits[by].layer;
        if (by >= 0) x->count[by]++;
    }
    x->on = false;
}

model_exit_stats state_exit_stats(const state *s) {
    const exiting *x = s->exits;
    return x ? (model_exit_stats){x->n_tokens, x->n_layers, x->count} : (model_exit_stats){0};
}

const float *exits_row(const state *s, size_t row, size_t *place) {
    const exiting *x = s->exits;
    *place = row;
    if (!x || !x->on) return NULL;
    *place = (size_t)x->place[row];
    return x->by[row] < 0 ? NULL : x->z + row * s->m->hp.n_embd;
}

bool exits_answered(const state *s) { return s->exits && s->exits->on && s->exits->answered; }

/* ---- leaving ---- */

static void move_row(state *s, size_t from, float *x, int32_t *pos, float *const *cs, size_t to) {
    const size_t d = s->m->hp.n_embd, rot[2] = {s->m->hp.rope_all.n_rot, s->m->hp.n_swa ? s->m->hp.rope_swa.n_rot : 0};
    memcpy(x + to * d, s->x + from * d, d * sizeof *x);
    pos[to] = s->pos[from];
    for (int i = 0; i < 2; i++)
        if (rot[i]) memcpy(cs[i] + to * rot[i], s->rope_cs[i] + from * rot[i], rot[i] * sizeof **cs);
}

/* Those that are sure enough leave by exit e; the others close up. One thread. */
static void leave(state *s, size_t e, const float *z) {
    exiting *x = s->exits;
    const size_t d = s->m->hp.n_embd;
    size_t kept = 0, c = 0;
    for (size_t i = 0; i < x->n_live; i++) {
        const bool cand = c < x->n_cand && (size_t)x->cand[c] == i;
        const size_t row = (size_t)x->row[i];
        if (cand && x->sure[c] >= s->opts.exit_threshold) {
            x->by[row] = (int32_t)e;
            memcpy(x->z + row * d, z + c * d, d * sizeof *z);
            x->left_seq[x->n_left] = x->seq[i];
            move_row(s, i, x->x, x->pos, x->cs, x->n_left++);
        } else {
            if (kept != i) {
                move_row(s, i, s->x, s->pos, s->rope_cs, kept);
                x->row[kept] = (int32_t)row;
                x->seq[kept] = x->seq[i];
            }
            x->place[row] = (int32_t)kept++;
        }
        c += cand;
    }
    if (kept == x->n_live) return;
    x->n_live = kept;
    make_segs(&x->live, x->segs, x->n_live, x->seq, s->pos);
    make_segs(&x->left, x->left_segs, x->n_left, x->left_seq, x->pos);
}

static void find_candidates(exiting *x) {
    x->n_cand = 0;
    for (size_t i = 0; i < x->n_live; i++)
        if (x->wanted[x->row[i]]) x->cand[x->n_cand++] = (int32_t)i;
}

/* How sure the heads are of rows z[at[i]] (at NULL: z[i]) by their first `few` logits, into sure[the same]. */
static void look(fwd *f, const float *z, const int32_t *at, size_t n, size_t few) {
    exiting *x = f->s->exits;
    const size_t d = f->m->hp.n_embd, width = few ? few : f->m->hp.n_vocab;
    float *rows = x->logits + AT_ONCE * f->m->hp.n_vocab;
    if (f->s->opts.n_batch < AT_ONCE) rows = x->logits + f->s->opts.n_batch * f->m->hp.n_vocab;
    for (size_t i = 0; i < n; i += AT_ONCE) {
        const size_t now = MIN((size_t)AT_ONCE, n - i);
        size_t from, to;
        fwd_share(f, now, &from, &to);
        for (size_t r = from; at && r < to; r++) memcpy(rows + r * d, z + (size_t)at[i + r] * d, d * sizeof *z);
        if (at) team_barrier(&f->t);
        fwd_logits(f, at ? rows : z + i * d, now, few, x->logits);
        team_enter(&f->t, PROF_HEAD);
        for (size_t r = from; r < to; r++) x->sure[at ? (size_t)at[i + r] : i + r] = extra_sure(x->logits + r * width, width, NULL);
        team_barrier(&f->t);
    }
}

static void ask_several(fwd *f, const float *z) {
    exiting *x = f->s->exits;
    const float enough = f->s->opts.exit_threshold;
    if (f->m->n_few < f->m->hp.n_vocab) look(f, z, NULL, x->n_cand, f->m->n_few);
    if (f->t.ith == 0) {
        x->n_likely = 0;
        for (size_t i = 0; i < x->n_cand; i++)
            if (f->m->n_few == f->m->hp.n_vocab || x->sure[i] >= enough) x->likely[x->n_likely++] = (int32_t)i;
    }
    team_barrier(&f->t);
    look(f, z, x->likely, x->n_likely, 0);
}

/* The only wanted row: its logits go where the caller wants them. */
static void ask_one(fwd *f, const float *z) {
    exiting *x = f->s->exits;
    const float enough = f->s->opts.exit_threshold;
    const size_t few = f->m->n_few;
    float sure = enough;
    if (few < f->m->hp.n_vocab) {
        fwd_logits(f, z, 1, few, x->logits);
        sure = extra_sure(x->logits, few, NULL); /* by every thread for itself */
    }
    if (sure >= enough) sure = fwd_answer(f, z, enough);
    if (f->t.ith) return;
    x->sure[0] = sure;
    x->answered = sure >= enough;
}

static void ask(fwd *f, fwd *left, size_t e) {
    state *s = f->s;
    exiting *x = s->exits;
    const size_t mark = bump_mark(&f->mem);
    if (f->t.ith == 0) find_candidates(x);
    team_barrier(&f->t);
    if (x->n_cand == 0) return;
    float *z = bump_f32(&f->mem, x->n_cand * f->m->hp.n_embd);
    extra_rows(f, &f->m->exits[e], f->x, x->cand, x->n_cand, z);
    if (f->b->n_want == 1) ask_one(f, z);
    else ask_several(f, z);
    if (f->t.ith == 0) leave(s, e, z);
    team_barrier(&f->t);
    bump_reset(&f->mem, mark);
    if (x->n_left == 0) return;
    f->n = x->n_live;
    f->b = &x->live;
    left->n = x->n_left;
    left->b = &x->left;
    left->x = x->x;
    left->pos = x->pos;
    left->rope_cs[0] = x->cs[0];
    left->rope_cs[1] = x->cs[1];
}

void exits_before_layer(fwd *f, fwd *left, size_t il) {
    const exiting *x = f->s->exits;
    if (!x || !x->on) return;
    for (size_t e = 0; e < f->m->n_exits && f->n; e++)
        if (f->m->exits[e].layer == il) ask(f, left, e);
}

void exits_fill(fwd *f, fwd *left, const layer *l) {
    const role r = has(l, R_ATTN_NORM_2) ? R_ATTN_NORM_2 : R_ATTN_NORM;
    const linear_in in = {.x = left->x, .ld = f->m->hp.n_embd, .norm = layer_norm_of(f->m, l, r)};
    if (l->mixer[0]) l->mixer[0]->fill(left, l, &in);
    if (f->n || l->index + 1 == f->m->hp.n_layer) team_barrier(&f->t); /* the memory is about to be used by others */
}
