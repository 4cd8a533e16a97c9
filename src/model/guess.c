/* guess.c: guesses of what comes next, by extra heads, for speculation: Medusa heads, one behind the other, from the streams of the last pass, and
 * drafts through the first layers to an exit. A draft writes keys and values behind the sequence's end, of layers that run in
 * it, and keeps the stream it left with, so that the pass that judges it begins there.
 * Sources: Cai et al. 2024 (Medusa); Ankner et al. 2024 (Hydra); Elhoushi et al. 2024 (LayerSkip, §4.3: cache reuse); Zhao et al. 2025 (FR-Spec). */
#include "model/extra.h"
#include "model/state.h"

typedef struct guessing {
    float *streams;      /* [MODEL_STREAM_ROWS, n_embd] after the last layer, of the last pass's first wanted rows */
    size_t n_streams;
    float *drafted;      /* [MODEL_GUESS_MAX, n_embd] before the exit's layer */
    int32_t ids[MODEL_GUESS_MAX];
    size_t seq, n_drafted, exit;
    float *logits, *z;   /* [n_likely], [2, n_embd]: of the Medusa head asked last and of that before it, by turns */
    size_t n_asked;      /* Medusa heads of the row under way */
    unsigned char *mem;
    size_t bytes;
} guessing;

static void lay_out(const state *s, void *part, bump *b) {
    guessing *g = part;
    const size_t d = s->m->hp.n_embd;
    g->streams = bump_f32(b, MODEL_STREAM_ROWS * d);
    g->drafted = bump_f32(b, MODEL_GUESS_MAX * d);
    g->z = bump_f32(b, 2 * d);
    g->logits = bump_f32(b, s->m->n_likely);
}

mote_status guess_open(state *s, mote_error *err) {
    if (s->m->n_exits + s->m->n_ahead == 0) return MOTE_OK;
    guessing *g = s->guess = MEM_NEW(guessing);
    if (!g) FAIL(err, MOTE_E_MEMORY, "out of memory for extra heads");
    return extra_room(s, lay_out, g, "extra heads", &g->mem, &g->bytes, err);
}

void guess_close(state *s) {
    if (s->guess) mem_free_aligned(s->guess->mem);
    mem_free(s->guess);
}

size_t guess_bytes(const state *s) { return s->guess ? s->guess->bytes : 0; }

void guess_forget(state *s, size_t seq) {
    if (s->guess && s->guess->seq == seq) s->guess->n_drafted = 0;
}

size_t guess_take(state *s, const model_batch *b, const float **streams, size_t *from) {
    guessing *g = s->guess;
    size_t n = 0;
    if (!g) return 0;
    g->n_streams = MIN(b->n_want, (size_t)MODEL_STREAM_ROWS);
    g->n_asked = 0;
    if (b->n_segs == 1 && b->segs[0].seq == g->seq)
        while (n < MIN(g->n_drafted, b->n) && g->ids[n] == b->ids[n]) n++;
    *streams = g->drafted;
    *from = n ? s->m->exits[g->exit].layer : 0;
    for (size_t i = 0; i < b->n_segs; i++)
        if (b->segs[i].seq == g->seq) g->n_drafted = 0;
    return n;
}

void guess_keep(fwd *f) {
    const guessing *g = f->s->guess;
    const size_t d = f->m->hp.n_embd;
    size_t from, to, place;
    if (!g || f->m->n_ahead == 0) return;
    fwd_share(f, g->n_streams, &from, &to);
    for (size_t i = from; i < to; i++) {
        bool left = exits_row(f->s, (size_t)f->b->want[i], &place) != NULL; /* it has none there: what the heads say of others is as good */
        if (!left) memcpy(g->streams + i * d, f->x + place * d, d * sizeof(float));
    }
}

/* ---- Medusa heads ---- */

struct ahead_pass {
    state *s;
    size_t row, k;
    int32_t id;
};

static void ahead_pass(void *arg, int ith, int nth) {
    const struct ahead_pass *p = arg;
    guessing *g = p->s->guess;
    const size_t d = p->s->m->hp.n_embd;
    static const model_batch none = {0};
    fwd f = fwd_of(p->s, &none, ith, nth);
    if (p->s->prof) f.t.prof = prof_begin(p->s->prof, ith, PROF_DECODE);
    float *z = g->z + p->k % 2 * d;
    extra_ahead(&f, &f.m->ahead[p->k], p->k ? g->z + (p->k - 1) % 2 * d : g->streams + p->row * d, p->id, z);
    fwd_likely(&f, z, g->logits);
    if (f.t.prof) prof_end(f.t.prof);
}

static model_guessed likeliest(const state *s) {
    const model *m = s->m;
    size_t best = 0;
    float sure = extra_sure(s->guess->logits, m->n_likely, &best);
    return (model_guessed){m->likely ? m->likely[best] : (int32_t)best, sure};
}

bool model_guess_ahead(state *s, size_t row, size_t k, int32_t id, model_guessed *out) {
    guessing *g = s->guess;
    if (!g || row >= g->n_streams || k >= s->m->n_ahead || k > g->n_asked || id < 0 || (size_t)id >= s->m->hp.n_vocab) return false;
    pool_run(s->pool, ahead_pass, &(struct ahead_pass){s, row, k, id});
    g->n_asked = k + 1;
    *out = likeliest(s);
    return true;
}

/* ---- drafts ---- */

struct draft_pass {
    state *s;
    const model_batch *b;
};

static void draft_pass(void *arg, int ith, int nth) {
    const struct draft_pass *p = arg;
    guessing *g = p->s->guess;
    const size_t d = p->s->m->hp.n_embd;
    fwd f = fwd_of(p->s, p->b, ith, nth);
    if (p->s->prof) f.t.prof = prof_begin(p->s->prof, ith, PROF_DECODE);
    const extra_head *e = &f.m->exits[g->exit];
    fwd_embed(&f, 0);
    bump_reset(&f.mem, 0);
    team_barrier(&f.t);
    for (size_t il = 0; il < e->layer; il++) fwd_layer(&f, &f.m->layers[il]);
    if (ith == 0) memcpy(g->drafted + g->n_drafted * d, f.x, d * sizeof(float));
    extra_rows(&f, e, f.x, NULL, 1, g->z);
    fwd_likely(&f, g->z, g->logits);
    if (f.t.prof) prof_end(f.t.prof);
}

mote_status model_draft(state *s, size_t seq, size_t i, int32_t id, model_guessed *out, mote_error *err) {
    guessing *g = s->guess;
    if (i >= s->m->n_exits) FAIL(err, MOTE_E_USAGE, "exit %zu of %zu", i, s->m->n_exits);
    if (s->exits && s->opts.exit_threshold <= 1) FAIL(err, MOTE_E_UNSUPPORTED, "tokens that leave early are not drafted too");
    if (id < 0 || (size_t)id >= s->m->hp.n_vocab) FAIL(err, MOTE_E_RANGE, "token id %d is outside the vocabulary of %zu", id, s->m->hp.n_vocab);
    if (g->seq != seq || g->exit != i) g->n_drafted = 0;
    g->seq = seq;
    g->exit = i;
    sequence *q = &s->seqs[seq];
    const model_seg seg = {seq, q->len + g->n_drafted, 1};
    if (g->n_drafted >= MIN((size_t)MODEL_GUESS_MAX, s->opts.n_batch) || seg.pos0 >= s->opts.n_ctx) FAIL(err, MOTE_E_RANGE, "no room for another draft behind %zu", g->n_drafted);
    const weight *learned = s->m->slots[R_POSITION_EMBD].mat;
    if (learned && seg.pos0 >= learned->rows) FAIL(err, MOTE_E_RANGE, "this model has positions for %zu tokens", learned->rows);
    s->pos[0] = (int32_t)seg.pos0;
    const model_batch b = {.ids = &id, .n = 1, .segs = &seg, .n_segs = 1};
    pool_run(s->pool, draft_pass, &(struct draft_pass){s, &b});
    g->ids[g->n_drafted++] = id;
    q->high = MAX(q->high, q->len + g->n_drafted);
    *out = likeliest(s);
    return MOTE_OK;
}
