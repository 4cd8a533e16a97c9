/* state.c: the caches of sequences. One block of memory for all keys, values and recurrent states, one for
 * everything a pass needs; both sized in state_open, and nothing is allocated after it. */
#include "model/extra.h"
#include "model/rope.h"
#include "model/state.h"

#include <assert.h>
#include <math.h>
#include <string.h>

static size_t round_up(size_t n, size_t to) { return (n + to - 1) / to * to; }

/* Tokens of a sequence that a pass may have to take besides the batch. */
static size_t waits(const state_opts *o) { return o->exits && o->exit_threshold <= 1 ? EXITS_WAIT : 0; }

/* Positions a layer's cache holds: all, or for a windowed layer the window and the batch that is being added. */
static size_t layer_cap(const model *m, const layer *l, const state_opts *o) {
    size_t all = round_up(o->n_ctx, KV_BLOCK);
    size_t window = layer_window(m, l);
    if (window == 0) return all;
    return MIN(all, round_up(window + o->n_batch + waits(o), KV_BLOCK) + KV_BLOCK);
}

static bool layer_is_ring(const state *s, const kv_layer *c) { return c->cap < round_up(s->opts.n_ctx, KV_BLOCK); }

/* Lays out one sequence's caches from `base` (NULL measures). Returns the bytes. */
static mote_status lay_out(state *s, sequence *q, unsigned char *base, size_t *kv_bytes, size_t *total, mote_error *err) {
    size_t at = 0;
    for (size_t il = 0; il < s->m->hp.n_layer; il++) {
        const layer *l = &s->m->layers[il];
        if (l->kv_index == SIZE_MAX) continue;
        kv_layer *c = &q->kv[l->kv_index];
        if (!base) {
            *c = (kv_layer){.k_type = s->opts.k_type, .v_type = s->opts.v_type, .n_head_kv = l->n_head_kv, .dim_k = l->dim_k,
                             .dim_v = l->dim_v, .cap = layer_cap(s->m, l, &s->opts), .block = l->kind == ATTN_BLOCKS ? s->m->hp.blocks.size : 0};
            TRY(kv_check(c->k_type, c->v_type, c->dim_k, c->dim_v, err));
        }
        size_t kb = round_up(kv_k_bytes(c), 64), vb = round_up(kv_v_bytes(c), 64);
        if (base) {
            c->k = base + at;
            c->v = base + at + kb;
        }
        if (!ckd_add_size(&at, at, kb) || !ckd_add_size(&at, at, vb)) FAIL(err, MOTE_E_RANGE, "the KV cache is too large");
    }
    *kv_bytes = at;
    if (base) q->rec = base + at;
    if (!ckd_add_size(total, at, round_up(s->m->state_bytes, 64))) FAIL(err, MOTE_E_RANGE, "the caches are too large");
    return MOTE_OK;
}

static void init_recurrent(const state *s, sequence *q) {
    const model *m = s->m;
    if (m->state_bytes) memset(q->rec, 0, m->state_bytes);
    for (size_t il = 0; il < m->hp.n_layer; il++) {
        const layer *l = &m->layers[il];
        for (int w = 0; w < 2; w++)
            if (l->mixer[w] && l->mixer[w]->state_init) l->mixer[w]->state_init(m, l, w, q->rec + l->state_offset[w]);
    }
}

static mote_status open_caches(state *s, mote_error *err) {
    size_t n_seq = s->opts.n_seq, per_seq = 0, kv_bytes = 0, all;
    s->seqs = MEM_NEW_N(sequence, n_seq);
    s->kv_all = MEM_NEW_N(kv_layer, n_seq * MAX(s->m->n_kv, 1));
    if (!s->seqs || !s->kv_all) FAIL(err, MOTE_E_MEMORY, "out of memory for %zu sequences", n_seq);
    for (size_t i = 0; i < n_seq; i++) {
        s->seqs[i].kv = s->kv_all + i * s->m->n_kv;
        TRY(lay_out(s, &s->seqs[i], NULL, &kv_bytes, &per_seq, err));
    }
    if (!ckd_mul_size(&all, per_seq, n_seq)) FAIL(err, MOTE_E_RANGE, "the caches of %zu sequences are too large", n_seq);
    s->cache_bytes = all;
    s->cache = mem_alloc_sparse(all);
    if (!s->cache) FAIL(err, MOTE_E_MEMORY, "out of memory: the caches of %zu sequences of %zu positions need %zu bytes", n_seq, s->opts.n_ctx, all);
    for (size_t i = 0; i < n_seq; i++) {
        TRY(lay_out(s, &s->seqs[i], s->cache + i * per_seq, &kv_bytes, &per_seq, err));
        init_recurrent(s, &s->seqs[i]);
    }
    s->sizes.kv_bytes = kv_bytes * n_seq;
    s->sizes.recurrent_bytes = s->m->state_bytes * n_seq;
    return MOTE_OK;
}

static size_t widest_head(const model *m) {
    size_t d = m->hp.rope_all.n_rot;
    for (size_t il = 0; il < m->hp.n_layer; il++) d = MAX(d, m->layers[il].dim_k + m->layers[il].dim_v);
    return d + 64;
}

/* The most that the blocks of any layer, the head included, take from fwd.mem for n rows. */
static size_t blocks_floats(const model *m, size_t n) {
    size_t most = 0;
    for (size_t il = 0; il < m->hp.n_layer; il++) {
        const layer *l = &m->layers[il];
        for (int w = 0; w < 2; w++)
            if (l->mixer[w]) most = MAX(most, l->mixer[w]->mem_floats(m, l, n));
        if (l->ffn) most = MAX(most, l->ffn->mem_floats(m, l, n));
    }
    return most + 4 * n * (m->hp.n_embd + 16) + 2 * widest_head(m); /* forward's own rows: block outputs before a post norm, the head's input */
}

static size_t widest(const model *m) {
    size_t k = m->hp.n_embd;
    for (size_t i = 0; i < m->n_weights; i++) k = MAX(k, m->weights[i]->cols);
    return k;
}

/* The most that one op takes from team.scratch. */
static size_t scratch_bytes(const model *m, size_t n_batch, size_t n_ctx, int n_threads) {
    size_t most = MAX(head_scratch_bytes(m->hp.n_embd, n_threads), tensor_scratch_bytes(MAX(n_batch, n_batch * m->hp.n_expert_used), widest(m), n_threads));
    size_t rank = 0;
    for (size_t i = 0; i < m->n_weights; i++) rank = MAX(rank, m->weights[i]->adapter ? m->weights[i]->adapter->rank : 0);
    most += adapter_scratch_bytes(n_batch, rank, n_threads);
    for (size_t il = 0; il < m->hp.n_layer; il++) {
        const layer *l = &m->layers[il];
        if (!l->n_head || !l->n_head_kv) continue;
        size_t attn = attn_scratch_bytes(n_batch, l->n_head, l->n_head_kv, l->dim_k, l->dim_v, n_ctx, n_threads);
        most = MAX(most, attn);
    }
    return most;
}

static mote_status open_work(state *s, mote_error *err) {
    const model *m = s->m;
    size_t n = s->rows;
    size_t rope[2] = {n * m->hp.rope_all.n_rot, n * m->hp.rope_swa.n_rot};
    size_t mem_floats = blocks_floats(m, n) + (size_t)pool_size(s->pool) * (m->hp.n_embd + 16);
    size_t scratch = scratch_bytes(m, n, s->opts.n_ctx, pool_size(s->pool));
    bump b = {0};
    for (int pass = 0; pass < 2; pass++) { /* measure, then lay out */
        s->x = bump_f32(&b, n * m->hp.n_embd);
        s->carry = bump_f32(&b, n * m->hp.n_carry);
        s->rope_cs[0] = bump_f32(&b, rope[0]);
        s->rope_cs[1] = bump_f32(&b, rope[1]);
        s->pos = bump_bytes(&b, n * sizeof(int32_t));
        s->mem = (bump){.base = bump_bytes(&b, mem_floats * sizeof(float) + 64 * 64), .cap = mem_floats * sizeof(float) + 64 * 64};
        s->scratch = (bump){.base = bump_bytes(&b, scratch), .cap = scratch};
        if (pass) break;
        s->work_bytes = b.used;
        s->work = mem_alloc_sparse(b.used);
        if (!s->work) FAIL(err, MOTE_E_MEMORY, "out of memory: a batch of %zu tokens needs %zu bytes", n, b.used);
        b = (bump){.base = s->work, .cap = s->work_bytes};
    }
    TRY(exits_open(s, err));
    TRY(guess_open(s, err));
    s->sizes.compute_bytes = s->work_bytes + exits_bytes(s) + guess_bytes(s);
    s->sizes.total_bytes = s->sizes.kv_bytes + s->sizes.recurrent_bytes + s->sizes.compute_bytes;
    return MOTE_OK;
}

mote_status state_open(state **out, const model *m, const state_opts *o, pool *p, mote_error *err) {
    *out = NULL;
    if (!o->n_ctx || !o->n_seq || !o->n_batch || o->n_ctx > 1u << 30 || o->n_seq > 1u << 16 || o->n_batch > 1u << 20)
        FAIL(err, MOTE_E_RANGE, "context %zu, sequences %zu, batch %zu: each must be at least 1 and not absurd", o->n_ctx, o->n_seq, o->n_batch);
    state *s = MEM_NEW(state);
    if (!s) FAIL(err, MOTE_E_MEMORY, "out of memory");
    s->m = m;
    s->pool = p;
    s->opts = *o;
    s->rows = o->n_batch + waits(o) * MIN(o->n_seq, o->n_batch);
    mote_status st = open_caches(s, err);
    if (st == MOTE_OK) st = open_work(s, err);
    if (st != MOTE_OK) {
        state_close(&s);
        return st;
    }
    *out = s;
    return MOTE_OK;
}

void state_close(state **sp) {
    state *s = *sp;
    if (!s) return;
    exits_close(s);
    guess_close(s);
    mem_free_aligned(s->cache);
    mem_free_aligned(s->work);
    mem_free_aligned(s->seen.rows);
    mem_free(s->kv_all);
    mem_free(s->seqs);
    mem_free(s);
    *sp = NULL;
}

void state_set_prof(state *s, prof *p) { s->prof = p; }

void state_set_stream(state *s, state_stream_fn *fn, void *ctx) {
    s->stream = fn;
    s->stream_ctx = ctx;
}

mote_status state_set_observer(state *s, void (*fn)(void *ctx, const linear_seen *seen), void *ctx, mote_error *err) {
    const size_t n = s->rows, cap = seen_floats(MAX(n, n * s->m->hp.n_expert_used), widest(s->m));
    s->seen.fn = NULL;
    if (!fn) return MOTE_OK;
    if (!s->seen.rows) s->seen.rows = mem_alloc_aligned(cap * sizeof(float));
    if (!s->seen.rows) FAIL(err, MOTE_E_MEMORY, "out of memory for the inputs of %zu tokens (%zu bytes)", n, cap * sizeof(float));
    s->seen.fn = fn;
    s->seen.ctx = ctx;
    s->seen.cap = cap;
    return MOTE_OK;
}

state_sizes state_get_sizes(const state *s) { return s->sizes; }
size_t state_seq_len(const state *s, size_t seq) { return s->seqs[seq].len; }

void state_seq_clear(state *s, size_t seq) {
    sequence *q = &s->seqs[seq];
    q->len = q->high = 0;
    guess_forget(s, seq);
    exits_cut(s, seq, 0);
    init_recurrent(s, q);
}

bool state_seq_truncate(state *s, size_t seq, size_t n) {
    sequence *q = &s->seqs[seq];
    if (n >= q->len) return n == q->len;
    guess_forget(s, seq);
    if (n == 0) {
        state_seq_clear(s, seq);
        return true;
    }
    if (s->m->state_bytes) return false;
    /* a ring still holds the window before n unless later positions have overwritten it */
    for (size_t i = 0; i < s->m->n_kv; i++)
        if (layer_is_ring(s, &q->kv[i]) && q->high > q->kv[i].cap && n < q->high - q->kv[i].cap + s->m->hp.n_swa) return false;
    exits_cut(s, seq, n);
    q->len = n;
    return true;
}

void state_seq_copy(state *s, size_t dst, size_t src) {
    if (dst == src) return;
    guess_forget(s, dst);
    exits_copy(s, dst, src);
    sequence *a = &s->seqs[dst], *b = &s->seqs[src];
    for (size_t i = 0; i < s->m->n_kv; i++) {
        memcpy(a->kv[i].k, b->kv[i].k, kv_k_bytes(&b->kv[i]));
        memcpy(a->kv[i].v, b->kv[i].v, kv_v_bytes(&b->kv[i]));
    }
    memcpy(a->rec, b->rec, s->m->state_bytes);
    a->len = b->len;
    a->high = b->high;
}

/* ---- checkpoints: recurrent state and rings ---- */
size_t state_checkpoint_bytes(const state *s) {
    size_t n = s->m->state_bytes;
    for (size_t i = 0; i < s->m->n_kv; i++) {
        const kv_layer *c = &s->seqs[0].kv[i];
        if (layer_is_ring(s, c)) n += kv_k_bytes(c) + kv_v_bytes(c);
    }
    return n;
}

/* Copies between a sequence's checkpointed parts and a flat buffer. */
static void checkpoint_copy(const state *s, const sequence *q, unsigned char *flat, bool save) {
    size_t at = 0;
    for (size_t i = 0; i <= s->m->n_kv; i++) {
        bool rec = i == s->m->n_kv;
        const kv_layer *c = rec ? NULL : &q->kv[i];
        if (c && !layer_is_ring(s, c)) continue;
        unsigned char *part[2] = {c ? c->k : q->rec, c ? c->v : NULL};
        size_t bytes[2] = {c ? kv_k_bytes(c) : s->m->state_bytes, c ? kv_v_bytes(c) : 0};
        for (int j = 0; j < 2; j++) {
            if (bytes[j]) memcpy(save ? flat + at : part[j], save ? part[j] : flat + at, bytes[j]);
            at += bytes[j];
        }
    }
}

void state_checkpoint_save(const state *s, size_t seq, void *dst) {
    assert(exits_waiting(s, seq) == 0);
    checkpoint_copy(s, &s->seqs[seq], dst, true);
}

void state_checkpoint_load(state *s, size_t seq, const void *src, size_t n) {
    union {
        const void *in;
        unsigned char *flat;
    } u = {src}; /* only read from */
    guess_forget(s, seq);
    exits_cut(s, seq, 0);
    checkpoint_copy(s, &s->seqs[seq], u.flat, false);
    s->seqs[seq].len = s->seqs[seq].high = n;
}

/* ---- whole sequences ---- */
size_t state_seq_bytes(const state *s, size_t seq) {
    size_t n = s->m->state_bytes;
    for (size_t i = 0; i < s->m->n_kv; i++) n += kv_k_bytes(&s->seqs[seq].kv[i]) + kv_v_bytes(&s->seqs[seq].kv[i]);
    return n;
}

void state_seq_save(const state *s, size_t seq, void *dst) {
    unsigned char *out = dst;
    const sequence *q = &s->seqs[seq];
    assert(exits_waiting(s, seq) == 0);
    for (size_t i = 0; i < s->m->n_kv; i++) {
        size_t kb = kv_k_bytes(&q->kv[i]), vb = kv_v_bytes(&q->kv[i]);
        memcpy(out, q->kv[i].k, kb);
        memcpy(out + kb, q->kv[i].v, vb);
        out += kb + vb;
    }
    memcpy(out, q->rec, s->m->state_bytes);
}

mote_status state_seq_load(state *s, size_t seq, const void *src, size_t n_bytes, size_t len, mote_error *err) {
    const unsigned char *in = src;
    sequence *q = &s->seqs[seq];
    if (n_bytes != state_seq_bytes(s, seq)) FAIL(err, MOTE_E_MISMATCH, "the saved state has %zu bytes, this session's has %zu: other cache types, context or model", n_bytes, state_seq_bytes(s, seq));
    if (len > s->opts.n_ctx) FAIL(err, MOTE_E_CONTEXT, "the saved state holds %zu positions, this context has %zu", len, s->opts.n_ctx);
    for (size_t i = 0; i < s->m->n_kv; i++) {
        size_t kb = kv_k_bytes(&q->kv[i]), vb = kv_v_bytes(&q->kv[i]);
        memcpy(q->kv[i].k, in, kb);
        memcpy(q->kv[i].v, in + kb, vb);
        in += kb + vb;
    }
    memcpy(q->rec, in, s->m->state_bytes);
    guess_forget(s, seq);
    exits_cut(s, seq, 0);
    q->len = q->high = len;
    return MOTE_OK;
}

/* ---- context shift ---- */
/* Moves layer il's keys and values of positions [from + n, len) down by n, turning the keys back. */
static void shift_layer(state *s, const layer *l, kv_layer *c, size_t from, size_t n, size_t len, float *cs, float *tmp) {
    const hparams *h = &s->m->hp;
    team t = {.kern = s->m->kern, .nth = 1};
    rope_conf turn = *l->rope_conf;
    turn.attn_factor = 1;
    rope_table_row(&turn, s->opts.n_ctx > h->rope_all.n_ctx_orig, -(double)n, cs);
    if (turn.ext_factor != 0) /* the table carries YaRN's magnitude: keys have it already */
        for (size_t i = 0; i < turn.n_rot / 2; i++) {
            float r = hypotf(cs[2 * i], cs[2 * i + 1]);
            cs[2 * i] /= r;
            cs[2 * i + 1] /= r;
        }
    for (size_t head = 0; head < c->n_head_kv; head++)
        for (size_t p = from + n; p < len; p++) {
            kv_get_k(c, head, p, tmp);
            if (l->rope) rope_rotate(t.kern, h->rope, turn.n_rot, cs, tmp);
            kv_put_k(&t, c, head, p - n, tmp);
            kv_get_v(c, head, p, tmp);
            kv_put_v(&t, c, head, p - n, tmp);
        }
}

mote_status state_seq_shift(state *s, size_t seq, size_t from, size_t n, mote_error *err) {
    sequence *q = &s->seqs[seq];
    assert(exits_waiting(s, seq) == 0);
    if (!s->m->info.can_shift) FAIL(err, MOTE_E_UNSUPPORTED, "the context of architecture '%s' cannot be shifted", s->m->arch->name);
    if (n == 0 || from + n > q->len) FAIL(err, MOTE_E_RANGE, "cannot drop positions %zu to %zu of %zu", from, from + n, q->len);
    for (size_t il = 0; il < s->m->hp.n_layer; il++) {
        const layer *l = &s->m->layers[il];
        if (l->kv_index == SIZE_MAX) continue;
        bump b = s->mem; /* idle between passes */
        float *cs = bump_f32(&b, l->rope_conf->n_rot), *tmp = bump_f32(&b, MAX(l->dim_k, l->dim_v));
        shift_layer(s, l, &q->kv[l->kv_index], from, n, q->len, cs, tmp);
    }
    guess_forget(s, seq);
    q->len -= n;
    q->high = q->len;
    return MOTE_OK;
}
