/* exits.c: tokens that leave early. In a pass a row whose next token an exit is sure of has its answer there. Where no later row of
 * its sequence goes on, it waits: its stream before the next layer is kept by sequence, in the order of positions. When a later
 * token of the sequence goes on at that exit, those that wait there go with it, as rows of the same pass, which reads each
 * weight once for all of them. So all layers see all tokens in order, keys, values and recurrent states are those of the model
 * without exits, bit for bit, and what an exit says is the same in a batch and one by one.
 * Invariants: what waits in a sequence is its end; the exits it waits at do not ascend (a token that waits at an exit is behind all that
 * have come further); the rows of a sequence in a pass are neighbours, those that waited first.
 * Source: Schuster et al. 2022, Confident Adaptive Language Modeling, §3.2 (softmax response); Chen et al. 2023, EE-LLM, §4 (keys
 * and values of tokens that left are computed with a later token's, a limited number of them). */
#include "model/extra.h"
#include "model/state.h"

#include <assert.h>
#include <math.h>

enum { AT_ONCE = 8 }; /* rows whose logits are looked at together */
#define HOPELESS 0.9999f /* a gate that asks more than that of the likeliest token has said no: no logits are made */

/* What waits of a sequence. */
typedef struct waiting {
    size_t n;              /* the last tokens that passes have seen */
    size_t by[EXITS_WAIT]; /* the exit */
    float *x, *carry;      /* [EXITS_WAIT, n_embd | n_carry] */
} waiting;

typedef struct exiting {
    bool active, on, answered; /* in this pass: rows may leave or join; may leave; see exits_answered */
    bool moved;            /* rows have left or joined: by one thread, before a barrier */
    waiting *seqs;         /* [n_seq] */
    size_t n_waiting;      /* of all sequences */
    /* by row of the batch */
    bool *wanted;          /* [n_batch] */
    int32_t *place, *by;   /* [n_batch] where it lies in the stream; the exit that answered, -1: none */
    float *z;              /* [n_batch, n_embd] of those: what the output matrix multiplies */
    /* by place */
    int32_t *row, *order;  /* [rows] of the batch, -1: it has waited; while rows are put in a new order */
    float *x, *carry;      /* [rows, n_embd | n_carry] while rows are put in a new order */
    model_seg *segs;       /* [segments] */
    model_batch live;
    /* at an exit */
    int32_t *cand;         /* places of rows that may leave … */
    size_t n_cand;
    float *needs, *sure;   /* … the probability that their likeliest token must have, and has */
    bool hopeless;         /* none can have it */
    int32_t *likely;       /* those of cand that the few logits do not hold back */
    size_t n_likely;
    float *logits;         /* [AT_ONCE, n_vocab] */
    unsigned char *mem;
    size_t bytes;
    uint64_t n_tokens, n_layers, *count;
} exiting;

/* ---- opening ---- */

static void lay_out(const state *s, void *part, bump *b) {
    exiting *x = part;
    const model *m = s->m;
    const size_t n = s->opts.n_batch, d = m->hp.n_embd, n_seq = s->opts.n_seq;
    x->wanted = bump_bytes(b, n * sizeof(bool));
    int32_t **ints[] = {&x->place, &x->by, &x->cand, &x->likely};
    for (size_t i = 0; i < COUNT_OF(ints); i++) *ints[i] = bump_bytes(b, n * sizeof(int32_t));
    x->row = bump_bytes(b, s->rows * sizeof(int32_t));
    x->order = bump_bytes(b, s->rows * sizeof(int32_t));
    x->z = bump_f32(b, n * d);
    x->x = bump_f32(b, s->rows * d);
    x->carry = bump_f32(b, s->rows * m->hp.n_carry);
    x->segs = bump_bytes(b, MIN(n, n_seq) * sizeof(model_seg));
    x->needs = bump_f32(b, n);
    x->sure = bump_f32(b, n);
    x->logits = bump_f32(b, MIN((size_t)AT_ONCE, n) * (m->hp.n_vocab + d)); /* and gathered rows */
    x->count = bump_bytes(b, m->n_exits * sizeof *x->count);
    x->seqs = bump_bytes(b, n_seq * sizeof(waiting));
    float *streams = bump_f32(b, n_seq * EXITS_WAIT * (d + m->hp.n_carry));
    for (size_t i = 0; b->base && i < n_seq; i++) {
        x->seqs[i] = (waiting){.x = streams};
        x->seqs[i].carry = streams + EXITS_WAIT * d;
        streams += EXITS_WAIT * (d + m->hp.n_carry);
    }
}

mote_status exits_open(state *s, mote_error *err) {
    if (!s->opts.exits) return MOTE_OK;
    if (!(s->opts.exit_threshold >= 0)) FAIL(err, MOTE_E_RANGE, "the exit threshold is %g; expected a number from 0 on", (double)s->opts.exit_threshold);
    TRY(model_check_exits(s->m, err));
    exiting *x = s->exits = MEM_NEW(exiting);
    if (!x) FAIL(err, MOTE_E_MEMORY, "out of memory for early exits");
    TRY(extra_room(s, lay_out, x, "early exits", &x->mem, &x->bytes, err));
    memset(x->count, 0, s->m->n_exits * sizeof *x->count);
    return MOTE_OK;
}

void exits_close(state *s) {
    if (s->exits) mem_free_aligned(s->exits->mem);
    mem_free(s->exits);
}

size_t exits_bytes(const state *s) { return s->exits ? s->exits->bytes : 0; }

/* ---- what waits ---- */

size_t exits_waiting(const state *s, size_t seq) { return s->exits ? s->exits->seqs[seq].n : 0; }

void exits_cut(state *s, size_t seq, size_t n) {
    if (!s->exits) return;
    waiting *w = &s->exits->seqs[seq];
    const size_t from = n ? s->seqs[seq].len - w->n : 0, kept = n > from ? MIN(w->n, n - from) : 0;
    s->exits->n_waiting -= w->n - kept;
    w->n = kept;
}

void exits_copy(state *s, size_t dst, size_t src) {
    if (!s->exits) return;
    waiting *a = &s->exits->seqs[dst];
    const waiting *b = &s->exits->seqs[src];
    s->exits->n_waiting += b->n - a->n;
    a->n = b->n;
    memcpy(a->by, b->by, sizeof a->by);
    memcpy(a->x, b->x, b->n * s->m->hp.n_embd * sizeof *a->x);
    memcpy(a->carry, b->carry, b->n * s->m->hp.n_carry * sizeof *a->carry);
}

/* How many wait at exit e; *at: the first of them, or where it would stand. Behind it are those of this pass that left before. */
static size_t waiting_at(const waiting *w, size_t e, size_t *at) {
    size_t end = w->n;
    while (end > 0 && w->by[end - 1] < e) end--;
    *at = end;
    while (*at > 0 && w->by[*at - 1] == e) --*at;
    return end - *at;
}

/* ---- a pass ---- */

void exits_begin(state *s, const model_batch *b) {
    exiting *x = s->exits;
    size_t row = 0;
    if (!x) return;
    x->on = b->n_want > 0 && b->logits && s->opts.exit_threshold <= 1;
    x->answered = false;
    x->live = *b;
    x->active = x->on || x->n_waiting;
    if (!x->active) return;
    memcpy(x->segs, b->segs, b->n_segs * sizeof *x->segs);
    x->live.segs = x->segs;
    for (; row < b->n; row++) {
        x->row[row] = x->place[row] = (int32_t)row;
        x->by[row] = -1;
        x->wanted[row] = false;
    }
    for (size_t i = 0; i < b->n_want; i++) x->wanted[b->want[i]] = true;
}

void exits_end(state *s) {
    exiting *x = s->exits;
    if (!x) return;
    x->active = false;
    for (size_t r = 0; x->on && r < x->live.n_want; r++) {
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
    if (!x || !x->active) return NULL;
    *place = (size_t)x->place[row];
    return x->by[row] < 0 ? NULL : x->z + row * s->m->hp.n_embd;
}

bool exits_answered(const state *s) { return s->exits && s->exits->on && s->exits->answered; }

/* ---- who goes on ---- */

static bool has_answer(const exiting *x, size_t place) { return x->row[place] < 0 || x->by[x->row[place]] >= 0; }

/* `gone` of w from `at` on are taken out, and rows from place `from` on, that wait at exit e from now on, stand there. */
static void replace(state *s, waiting *w, size_t at, size_t gone, size_t e, size_t from, size_t n) {
    const size_t d = s->m->hp.n_embd, c = s->m->hp.n_carry, behind = w->n - at - gone;
    assert(w->n - gone + n <= EXITS_WAIT);
    memmove(w->by + at + n, w->by + at + gone, behind * sizeof *w->by);
    memmove(w->x + (at + n) * d, w->x + (at + gone) * d, behind * d * sizeof *w->x);
    memcpy(w->x + at * d, s->x + from * d, n * d * sizeof *w->x);
    if (c) memmove(w->carry + (at + n) * c, w->carry + (at + gone) * c, behind * c * sizeof *w->carry);
    if (c) memcpy(w->carry + at * c, s->carry + from * c, n * c * sizeof *w->carry);
    for (size_t i = 0; i < n; i++) w->by[at + i] = e;
    s->exits->n_waiting += n - gone;
    w->n += n - gone;
}

/* Segment g, whose rows lie from `from` on, at exit e: those that waited there, unless all its rows wait now, and its own
 * rows up to the last that has no answer yet go to place `to` on in the new order, and are g then; the others wait. */
static void sort_segment(state *s, size_t e, model_seg *g, size_t from, size_t to) {
    exiting *x = s->exits;
    waiting *w = &x->seqs[g->seq];
    const size_t d = s->m->hp.n_embd, c = s->m->hp.n_carry;
    size_t on = g->n, at, joining = waiting_at(w, e, &at);
    while (on > 0 && has_answer(x, from + on - 1)) on--;
    if (w->n - (on ? joining : 0) + g->n - on > EXITS_WAIT) on = g->n; /* too many */
    if (g->n && on == 0) at += joining, joining = 0; /* they wait on */
    memcpy(x->x + to * d, w->x + at * d, joining * d * sizeof *x->x);
    memcpy(x->x + (to + joining) * d, s->x + from * d, on * d * sizeof *x->x);
    if (c) memcpy(x->carry + to * c, w->carry + at * c, joining * c * sizeof *x->carry);
    if (c) memcpy(x->carry + (to + joining) * c, s->carry + from * c, on * c * sizeof *x->carry);
    for (size_t i = 0; i < joining; i++) x->order[to + i] = -1;
    memcpy(x->order + to + joining, x->row + from, on * sizeof *x->order);
    if (joining || on < g->n) replace(s, w, at, joining, e, from + on, g->n - on);
    x->moved |= joining || on < g->n;
    g->pos0 -= joining;
    g->n = joining + on;
}

/* Who goes on at exit e. One thread. */
static void sort_rows(state *s, size_t e) {
    exiting *x = s->exits;
    const size_t d = s->m->hp.n_embd, c = s->m->hp.n_carry;
    size_t from = 0, to = 0, n_segs = 0, place = 0;
    x->moved = false;
    for (size_t i = 0; i < x->live.n_segs; i++) {
        model_seg g = x->segs[i];
        sort_segment(s, e, &g, from, to);
        from += x->segs[i].n;
        to += g.n;
        if (g.n || x->segs[i].n == 0) x->segs[n_segs++] = g; /* without rows: model_settle */
    }
    if (!x->moved) return;
    memcpy(s->x, x->x, to * d * sizeof *s->x);
    if (c) memcpy(s->carry, x->carry, to * c * sizeof *s->carry);
    memcpy(x->row, x->order, to * sizeof *x->row);
    x->live.n = to;
    x->live.n_segs = n_segs;
    for (size_t i = 0; i < n_segs; i++)
        for (size_t t = 0; t < x->segs[i].n; t++, place++) {
            s->pos[place] = (int32_t)(x->segs[i].pos0 + t);
            if (x->row[place] >= 0) x->place[x->row[place]] = (int32_t)place;
        }
}

/* ---- asking ---- */

static void find_candidates(exiting *x) {
    x->n_cand = 0;
    for (size_t i = 0; i < x->live.n; i++)
        if (!has_answer(x, i) && x->wanted[x->row[i]]) x->cand[x->n_cand++] = (int32_t)i;
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
    if (f->m->n_few < f->m->hp.n_vocab) look(f, z, NULL, x->n_cand, f->m->n_few);
    if (f->t.ith == 0) {
        x->n_likely = 0;
        for (size_t i = 0; i < x->n_cand; i++)
            if (f->m->n_few == f->m->hp.n_vocab || x->sure[i] >= x->needs[i]) x->likely[x->n_likely++] = (int32_t)i;
    }
    team_barrier(&f->t);
    look(f, z, x->likely, x->n_likely, 0);
}

/* The only wanted row: its logits go where the caller wants them. */
static void ask_one(fwd *f, const float *z) {
    exiting *x = f->s->exits;
    const float enough = x->needs[0];
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

static void find_needs(fwd *f, size_t e, const float *z) {
    exiting *x = f->s->exits;
    const extra_head *exit = &f->m->exits[e];
    x->hopeless = true;
    for (size_t i = 0; i < x->n_cand; i++) {
        float needs = extra_needs(f->m, exit, z + i * f->m->hp.n_embd, f->s->opts.exit_threshold);
        x->needs[i] = exit->gate && needs > HOPELESS ? INFINITY : needs;
        x->hopeless &= x->needs[i] > 1;
    }
}

/* Which rows exit e is sure of. */
static void ask(fwd *f, size_t e) {
    state *s = f->s;
    exiting *x = s->exits;
    const size_t mark = bump_mark(&f->mem), d = f->m->hp.n_embd;
    if (f->t.ith == 0) find_candidates(x);
    team_barrier(&f->t);
    if (x->n_cand == 0) return;
    size_t n = x->n_cand;
    float *z = bump_f32(&f->mem, n * d);
    extra_rows(f, &f->m->exits[e], f->x, x->cand, x->n_cand, z);
    if (f->t.ith == 0) find_needs(f, e, z);
    team_barrier(&f->t);
    if (x->hopeless) n = 0;
    else if (f->b->n_want == 1) ask_one(f, z);
    else ask_several(f, z);
    for (size_t i = 0; f->t.ith == 0 && i < n; i++) {
        if (x->sure[i] < x->needs[i]) continue;
        const size_t row = (size_t)x->row[x->cand[i]];
        x->by[row] = (int32_t)e;
        memcpy(x->z + row * d, z + i * d, d * sizeof *z);
    }
    bump_reset(&f->mem, mark);
}

void exits_before_layer(fwd *f, size_t il) {
    exiting *x = f->s->exits;
    if (!x || !x->active) return;
    for (size_t e = 0; e < f->m->n_exits; e++) {
        if (f->m->exits[e].layer != il) continue;
        if (x->on && f->n) ask(f, e);
        if (f->t.ith == 0) sort_rows(f->s, e);
        team_barrier(&f->t);
        if (x->moved) {
            f->n = x->live.n;
            f->b = &x->live;
            fwd_rotations(f);
        }
        team_barrier(&f->t);
    }
}

/* ---- those that wait go through the rest ---- */

static void settle_pass(void *arg, int ith, int nth) {
    static const model_batch none = {0};
    state *s = arg;
    fwd f = fwd_of(s, &none, ith, nth);
    f.b = &s->exits->live; /* which the first thread may be filling already: what is in it counts behind exits_before_layer's barriers */
    if (s->prof) f.t.prof = prof_begin(s->prof, ith, PROF_DECODE);
    for (size_t il = 0; il < s->m->hp.n_layer; il++) {
        exits_before_layer(&f, il);
        if (f.n) fwd_layer(&f, &s->m->layers[il]);
    }
    if (f.t.prof) prof_end(f.t.prof);
}

void model_settle(state *s, size_t seq) {
    exiting *x = s->exits;
    if (exits_waiting(s, seq) == 0) return;
    x->segs[0] = (model_seg){seq, s->seqs[seq].len, 0};
    x->live = (model_batch){.segs = x->segs, .n_segs = 1};
    x->active = true;
    x->on = false;
    pool_run(s->pool, settle_pass, s);
    x->active = false;
}
