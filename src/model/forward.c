/* forward.c: one pass of a batch through a model. Every thread of the pool runs pass(); see tensor.h. */
#include "model/extra.h"
#include "model/rope.h"
#include "model/state.h"

#include <math.h>
#include <string.h>

/* ---- what blocks use ---- */
const kv_layer *fwd_kv(const fwd *f, const layer *l, size_t seq) { return &f->s->seqs[seq].kv[l->kv_index]; }

void *fwd_state(const fwd *f, const layer *l, int which, size_t seq) {
    return f->s->seqs[seq].rec + l->state_offset[which];
}

void fwd_rope(const fwd *f, const layer *l, size_t row, float *head) {
    const rope_conf *c = l->rope_conf;
    const float *table = f->rope_cs[c == &f->m->hp.rope_swa];
    rope_rotate(f->t.kern, f->m->hp.rope, c->n_rot, table + row * c->n_rot, head);
}

void fwd_input(fwd *f, const linear_in *in, float *dst, size_t cols) {
    if (in->norm.kind == NORM_NONE && in->act == ACT_NONE && !in->up) {
        size_t from, to;
        team_enter(&f->t, PROF_INPUT);
        fwd_share(f, f->n, &from, &to);
        for (size_t r = from; r < to; r++) memcpy(dst + r * cols, in->x + r * in->ld, cols * sizeof(float));
        team_barrier(&f->t);
        return;
    }
    op_norm(&f->t, &in->norm, dst, cols, in->x, in->ld, f->n, cols);
}

/* ---- a pass ---- */
static void embed(fwd *f, size_t first) {
    const model *m = f->m;
    const weight *w = m->slots[R_TOKEN_EMBD].mat, *pos = m->slots[R_POSITION_EMBD].mat;
    size_t n_embd = m->hp.n_embd, from, to;
    float *tmp = bump_f32(&f->mem, (size_t)f->t.nth * n_embd);
    float *row_pos = tmp + (size_t)f->t.ith * n_embd;
    team_enter(&f->t, PROF_EMBED);
    fwd_share(f, f->n - first, &from, &to);
    for (size_t r = first + from; r < first + to; r++) {
        float *x = f->x + r * n_embd;
        weight_row(w, (size_t)f->b->ids[r], x);
        if (m->hp.embd_scale != 1)
            for (size_t i = 0; i < n_embd; i++) x[i] *= m->hp.embd_scale;
        if (pos) {
            weight_row(pos, (size_t)f->pos[r], row_pos);
            for (size_t i = 0; i < n_embd; i++) x[i] += row_pos[i];
        }
        if (m->slots[R_TOKEN_TYPES].mat) { /* encoders: every token is of type 0 */
            weight_row(m->slots[R_TOKEN_TYPES].mat, 0, row_pos);
            for (size_t i = 0; i < n_embd; i++) x[i] += row_pos[i];
        }
        const slot *nm = &m->slots[R_TOKEN_EMBD_NORM];
        if (nm->info) {
            norm spec = {m->hp.norm, nm->vec, nm->bias, m->hp.eps};
            norm_row_local(&f->t, &spec, x, x, n_embd);
        }
    }
}

void fwd_rotations(fwd *f) {
    const hparams *h = &f->m->hp;
    const rope_conf *conf[2] = {&h->rope_all, &h->rope_swa};
    size_t from, to;
    if (h->rope == ROPE_NONE) return;
    bool long_context = f->s->opts.n_ctx > h->rope_all.n_ctx_orig;
    fwd_share(f, f->n, &from, &to);
    int n_tables = h->n_swa ? 2 : 1; /* without windows no layer reads the second */
    for (int i = 0; i < n_tables; i++)
        for (size_t r = from; r < to; r++) rope_table_row(conf[i], long_context, f->pos[r], f->s->rope_cs[i] + r * conf[i]->n_rot);
}

void fwd_embed(fwd *f, size_t first) {
    embed(f, first);
    fwd_rotations(f);
}

/* y[n, n_embd] = norm(y), then x += scale · y: a block whose output has a norm of its own. */
static void add_normed(fwd *f, const layer *l, role r, float *y) {
    size_t n_embd = f->m->hp.n_embd;
    norm nm = layer_norm_of(f->m, l, r);
    op_norm(&f->t, &nm, y, n_embd, y, n_embd, f->n, n_embd);
    op_add(&f->t, f->x, n_embd, y, n_embd, f->m->hp.residual_scale, f->n, n_embd);
}

static void run_mixers(fwd *f, const layer *l, const sink *out) {
    size_t n_embd = f->m->hp.n_embd;
    role r = has(l, R_ATTN_NORM_2) ? R_ATTN_NORM_2 : R_ATTN_NORM;
    linear_in in = {.x = f->x, .ld = n_embd, .norm = layer_norm_of(f->m, l, r)};
    sink o = *out;
    for (int w = 0; w < 2; w++) {
        if (!l->mixer[w]) continue;
        l->mixer[w]->forward(f, l, w, &in, &o);
        o.add = true;
    }
}

static void run_ffn(fwd *f, const layer *l, const float *x, const sink *out) {
    bool only_norm = f->m->hp.parallel || !l->mixer[0]; /* then the layer has one norm, and that is its name */
    role r = has(l, R_FFN_NORM) || !only_norm ? R_FFN_NORM : R_ATTN_NORM;
    linear_in in = {.x = x, .ld = f->m->hp.n_embd, .norm = layer_norm_of(f->m, l, r)};
    l->ffn->forward(f, l, PLACE_FFN, &in, out);
}

/* Pre-norm, post-norm and sandwich layers: which norms there are decides. */
void fwd_layer(fwd *f, const layer *l) {
    size_t n_embd = f->m->hp.n_embd, mark = bump_mark(&f->mem);
    float scale = f->m->hp.residual_scale;
    sink direct = {.y = f->x, .ld = n_embd, .scale = scale, .add = true};
    float *tmp = bump_f32(&f->mem, f->n * n_embd);
    sink aside = {.y = tmp, .ld = n_embd, .scale = 1};
    bool two_mixers = l->mixer[0] && l->mixer[1];
    f->router = NULL;
    if (l->ffn && l->ffn->before) l->ffn->before(f, l);
    if (f->m->hp.parallel && l->ffn) {
        run_mixers(f, l, &aside);
        aside.add = l->mixer[0] != NULL;
        run_ffn(f, l, f->x, &aside);
        op_add(&f->t, f->x, n_embd, tmp, n_embd, scale, f->n, n_embd);
        bump_reset(&f->mem, mark);
        return;
    }
    if (l->mixer[0]) {
        if (has(l, R_ATTN_POST_NORM)) {
            run_mixers(f, l, &aside);
            add_normed(f, l, R_ATTN_POST_NORM, tmp);
        } else if (two_mixers) { /* both read x: it may not change in between */
            run_mixers(f, l, &aside);
            op_add(&f->t, f->x, n_embd, tmp, n_embd, scale, f->n, n_embd);
        } else run_mixers(f, l, &direct);
        if (has(l, R_ATTN_OUT_NORM)) { /* encoders normalise the sum */
            norm nm = layer_norm_of(f->m, l, R_ATTN_OUT_NORM);
            op_norm(&f->t, &nm, f->x, n_embd, f->x, n_embd, f->n, n_embd);
        }
    }
    if (l->ffn) {
        if (has(l, R_FFN_POST_NORM)) {
            run_ffn(f, l, f->x, &aside);
            add_normed(f, l, R_FFN_POST_NORM, tmp);
        } else run_ffn(f, l, f->x, &direct);
        if (has(l, R_LAYER_OUT_NORM)) {
            norm nm = layer_norm_of(f->m, l, R_LAYER_OUT_NORM);
            op_norm(&f->t, &nm, f->x, n_embd, f->x, n_embd, f->n, n_embd);
        }
    }
    bump_reset(&f->mem, mark);
}

struct pass {
    state *s;
    const model_batch *b;
    prof_phase phase;
    size_t n_done, from;     /* the first rows have been drafted: they begin before layer `from` … */
    const float *done;       /* … with these streams */
};

fwd fwd_of(state *s, const model_batch *b, int ith, int nth) {
    fwd f = {.t = {.pool = s->pool, .kern = s->m->kern, .ith = ith, .nth = nth, .fast = !s->opts.exact, .scratch = s->scratch},
             .m = s->m, .s = s, .b = b, .n = b->n, .x = s->x, .pos = s->pos, .carry = s->carry, .mem = s->mem};
    f.rope_cs[0] = s->rope_cs[0];
    f.rope_cs[1] = s->rope_cs[1];
    return f;
}

/* Brings the rows behind the drafted ones to where those are. */
static void catch_up(fwd *f, const struct pass *p) {
    const model_seg seg = {p->b->segs[0].seq, p->b->segs[0].pos0 + p->n_done, f->n - p->n_done};
    const model_batch b = {.n = seg.n, .segs = &seg, .n_segs = 1};
    const hparams *h = &f->m->hp;
    fwd rest = *f;
    rest.b = &b;
    rest.n = seg.n;
    rest.x += p->n_done * h->n_embd;
    rest.pos += p->n_done;
    rest.rope_cs[0] += p->n_done * h->rope_all.n_rot;
    rest.rope_cs[1] += p->n_done * h->rope_swa.n_rot;
    for (size_t il = 0; rest.n && il < p->from; il++) fwd_layer(&rest, &f->m->layers[il]);
    f->t = rest.t;
}

static void pass(void *arg, int ith, int nth) {
    struct pass *p = arg;
    state *s = p->s;
    fwd f = fwd_of(s, p->b, ith, nth);
    if (s->prof) f.t.prof = prof_begin(s->prof, ith, p->phase);
    if (s->seen.fn) f.t.seen = &s->seen;
    fwd_embed(&f, p->n_done);
    if (ith == 0 && p->n_done) memcpy(f.x, p->done, p->n_done * s->m->hp.n_embd * sizeof *f.x);
    bump_reset(&f.mem, 0);
    team_barrier(&f.t);
    if (p->n_done) catch_up(&f, p);
    for (size_t il = p->from; il < s->m->hp.n_layer; il++) {
        exits_before_layer(&f, il);
        if (s->stream && ith == 0) s->stream(s->stream_ctx, il, f.x, f.n);
        if (f.n) fwd_layer(&f, &s->m->layers[il]);
    }
    if (s->stream && ith == 0) s->stream(s->stream_ctx, s->m->hp.n_layer, f.x, f.n);
    guess_keep(&f);
    fwd_head(&f);
    if (f.t.prof) prof_end(f.t.prof);
}

static mote_status check_batch(const state *s, const model_batch *b, mote_error *err) {
    size_t row = 0;
    if (b->n == 0 || b->n > s->opts.n_batch) FAIL(err, MOTE_E_RANGE, "a batch of %zu tokens; this session takes 1 to %zu", b->n, s->opts.n_batch);
    for (size_t i = 0; i < b->n; i++)
        if (b->ids[i] < 0 || (size_t)b->ids[i] >= s->m->hp.n_vocab)
            FAIL(err, MOTE_E_RANGE, "token id %d is outside the vocabulary of %zu", b->ids[i], s->m->hp.n_vocab);
    for (size_t i = 0; i < b->n_segs; i++) {
        const model_seg *g = &b->segs[i];
        if (g->seq >= s->opts.n_seq) FAIL(err, MOTE_E_RANGE, "sequence %zu of %zu", g->seq, s->opts.n_seq);
        if (g->n == 0 || g->n > b->n - row) FAIL(err, MOTE_E_RANGE, "segment %zu has %zu tokens", i, g->n);
        if (g->pos0 != s->seqs[g->seq].len) FAIL(err, MOTE_E_MISMATCH, "sequence %zu continues at position %zu, not %zu", g->seq, s->seqs[g->seq].len, g->pos0);
        if (g->pos0 + g->n > s->opts.n_ctx) FAIL(err, MOTE_E_CONTEXT, "the context of %zu positions is full", s->opts.n_ctx);
        for (size_t j = 0; j < i; j++)
            if (b->segs[j].seq == g->seq) FAIL(err, MOTE_E_RANGE, "sequence %zu occurs twice in a batch", g->seq);
        row += g->n;
    }
    if (row != b->n) FAIL(err, MOTE_E_RANGE, "the segments cover %zu of %zu tokens", row, b->n);
    const weight *pos = s->m->slots[R_POSITION_EMBD].mat;
    for (size_t i = 0; pos && i < b->n_segs; i++)
        if (b->segs[i].pos0 + b->segs[i].n > pos->rows) FAIL(err, MOTE_E_CONTEXT, "this model has positions for %zu tokens", pos->rows);
    if (b->query && (b->n_want != 1 || !b->logits || !b->found)) FAIL(err, MOTE_E_USAGE, "a query is for one wanted row with room for its logits");
    for (size_t i = 0; i < b->n_want; i++)
        if (b->want[i] < 0 || (size_t)b->want[i] >= b->n || (i && b->want[i] <= b->want[i - 1])) FAIL(err, MOTE_E_RANGE, "wanted row %d of %zu", b->want[i], b->n);
    return MOTE_OK;
}

/* Packing costs about as much as one pass without it. Float products take rows of either form. */
static void pack_when_it_pays(const state *s, const model_batch *b) {
    enum { MANY_TOKENS = 128 };
    struct model_use *u = s->m->use;
    if (s->opts.exact) return;
    if (u->answered || u->n_tokens >= MANY_TOKENS) weights_pack(s->m->packer, s->pool);
    u->answered |= b->n_want > 0;
    u->n_tokens += b->n;
}

/* Huge pages are faster to read and resident as a whole: they come when a good part of a block is used. */
static void widen_pages(state *s, size_t n_tokens) {
    enum { BATCH = 128 };
    size_t cached = n_tokens;
    if (!s->work_is_huge && n_tokens >= BATCH) {
        mem_make_huge(s->work, s->work_bytes);
        s->work_is_huge = true;
    }
    if (s->cache_is_huge) return;
    for (size_t i = 0; i < s->opts.n_seq; i++) cached += s->seqs[i].len;
    if (cached < s->opts.n_ctx * s->opts.n_seq / 4) return;
    mem_make_huge(s->cache, s->cache_bytes);
    s->cache_is_huge = true;
}

mote_status model_forward(state *s, const model_batch *b, mote_error *err) {
    TRY(check_batch(s, b, err));
    size_t row = 0;
    for (size_t i = 0; i < b->n_segs; i++)
        for (size_t t = 0; t < b->segs[i].n; t++) s->pos[row++] = (int32_t)(b->segs[i].pos0 + t);
    pack_when_it_pays(s, b);
    widen_pages(s, b->n);
    struct pass p = {.s = s, .b = b, .phase = b->n == b->n_segs ? PROF_DECODE : PROF_PREFILL};
    p.n_done = guess_take(s, b, &p.done, &p.from);
    exits_begin(s, b);
    const uint64_t start = s->prof ? clock_ns() : 0;
    head_begin(s, b);
    pool_run(s->pool, pass, &p);
    head_end(s, b);
    exits_end(s);
    if (s->prof) {
        s->prof->passes[p.phase]++;
        s->prof->tokens[p.phase] += b->n;
        s->prof->pass_ns[p.phase] += clock_ns() - start;
    }
    for (size_t i = 0; i < b->n_segs; i++) {
        sequence *q = &s->seqs[b->segs[i].seq];
        q->len += b->segs[i].n;
        q->high = MAX(q->high, q->len);
    }
    return MOTE_OK;
}
