/* attention.c: blocked attention with an online softmax (FlashAttention, Dao 2022, algorithm 1).
 *
 * A *unit* is a few consecutive queries of one segment with all the query heads of one KV head: its `rows`
 * share the keys and values they read. Keys are taken in tiles at fixed positions; every CHUNK positions the
 * running (max, sum, output) is closed and the chunks are merged in order. So what a query yields depends on
 * its own position only, and chunks of one unit can be computed by different threads when there are too few
 * units for all (decoding).
 *
 * With blocks, a tile that no query of the unit reads is not touched at all.
 *
 * Products are in f32, or, on the fast path of machines that have the instructions, in bf16 with f32 sums: then queries,
 * keys, values and weights are pair words (kernel.h). */
#include "tensor/tensor_int.h"

#include <math.h>

enum { CHUNK = 512, TILE_MAX = 64, ROWS_MAX = 96 };

/* The same for all threads of a call. */
typedef struct plan {
    const attn_opts *o;
    const attn_seg *segs;
    size_t n_segs, group; /* query heads of one KV head */
    size_t dim_k, dim_v, n_head_kv, tile, n_queries;
    bool pairs;      /* values in bf16 … */
    bool score_pairs; /* … and scores too */
} plan;

typedef struct unit {
    const attn_seg *seg;
    size_t head_kv, q0, n_q, rows; /* row = query · group + head within the group */
    size_t lo, hi;                 /* positions that any of its queries may see */
    size_t all_lo, all_hi;         /* … that all of them see */
} unit;

/* Running state of a unit's rows. */
typedef struct running {
    float *max, *sum, *out; /* [rows], [rows], [rows, dim_v] */
} running;

/* This thread's buffers. As f32 q: [rows, dim_k], k: [dim_k, tile], v: [tile, dim_v]; as pair words q: [rows, pairs of
 * dim_k], k: [tile / 16][pairs of dim_k][16], v: [tile / 2, dim_v]. */
typedef struct buffers {
    float *s;    /* scores [rows, tile] */
    float *q, *k, *v;
    uint32_t *qw, *kw, *vw, *pw; /* pw: weights [rows, tile / 2] */
    float *wide; /* a block of keys or values */
    uint32_t *chosen; /* [queries][1 + ATTN_TOP_MAX]: how many blocks, and which */
    running total, part;
} buffers;

static size_t tile_for(size_t dim_k) { return dim_k > 128 ? 32 : TILE_MAX; }
static size_t queries_for(size_t group) { return group >= ROWS_MAX ? 1 : ROWS_MAX / group; }
static size_t up16(size_t n) { return (n + 15) / 16 * 16; }
static running running_at(float *p, size_t rows) { return (running){p, p + up16(rows), p + 2 * up16(rows)}; }
static size_t running_stride(size_t rows, size_t dim_v) { return 2 * up16(rows) + up16(rows * dim_v); }

/* Cuts `mine` up; returns the floats needed. */
static size_t lay_out(buffers *b, float *mine, size_t rows, size_t queries, size_t dim_k, size_t dim_v, size_t tile) {
    size_t at = 0;
#define TAKE(n) (at += up16(n), mine ? mine + at - up16(n) : NULL)
    float *total = TAKE(running_stride(rows, dim_v)), *part = TAKE(running_stride(rows, dim_v));
    b->s = TAKE(rows * tile);
    b->q = TAKE(rows * (dim_k + 1));
    b->k = TAKE((dim_k + 1) * tile);
    b->v = TAKE(tile * dim_v);
    float *weights = TAKE(rows * tile / 2);
    b->wide = TAKE(KV_BLOCK * (MAX(dim_k, dim_v) + 1));
    float *chosen = TAKE(queries * (1 + ATTN_TOP_MAX));
#undef TAKE
    if (!mine) return at;
    b->qw = (uint32_t *)(void *)b->q;
    b->kw = (uint32_t *)(void *)b->k;
    b->vw = (uint32_t *)(void *)b->v;
    b->pw = (uint32_t *)(void *)weights;
    b->chosen = (uint32_t *)(void *)chosen;
    b->total = running_at(total, rows);
    b->part = running_at(part, rows);
    return at;
}

size_t attn_scratch_bytes(size_t n_rows, size_t n_head, size_t n_head_kv, size_t dim_k, size_t dim_v,
                          size_t kv_len_max, int nth) {
    buffers b;
    size_t group = n_head / n_head_kv, rows = queries_for(group) * group, chunks = kv_len_max / CHUNK + 2;
    size_t each = lay_out(&b, NULL, rows, queries_for(group), dim_k, dim_v, TILE_MAX);
    size_t units = MIN(n_rows * n_head_kv, 4 * (size_t)nth);
    size_t part_rows = MIN(rows, n_rows * group);
    return ((size_t)nth * each + units * chunks * running_stride(part_rows, dim_v)) * sizeof(float) + 1024;
}

/* The positions [*lo, *hi) that the query at pos may see. */
static void visible(const attn_opts *o, const attn_seg *s, size_t pos, size_t *lo, size_t *hi) {
    *lo = 0;
    *hi = o->causal ? pos + 1 : s->kv_len;
    if (o->window == 0) return;
    if (o->chunked) *lo = pos / o->window * o->window;
    else if (o->causal) *lo = pos + 1 > o->window ? pos + 1 - o->window : 0;
    else { /* half of the window to either side */
        size_t half = o->window / 2;
        *lo = pos > half ? pos - half : 0;
        *hi = MIN(*hi, pos + half + 1);
    }
}

static unit make_unit(const plan *p, const attn_seg *seg, size_t head_kv, size_t q0) {
    unit u = {.seg = seg, .head_kv = head_kv, .q0 = q0, .n_q = MIN(p->n_queries, seg->n_q - q0),
              .lo = SIZE_MAX, .all_hi = SIZE_MAX};
    u.rows = u.n_q * p->group;
    for (size_t i = 0; i < u.n_q; i++) {
        size_t lo, hi;
        visible(p->o, seg, seg->pos0 + q0 + i, &lo, &hi);
        u.lo = MIN(u.lo, lo);
        u.hi = MAX(u.hi, hi);
        u.all_lo = MAX(u.all_lo, lo);
        u.all_hi = MIN(u.all_hi, hi);
    }
    return u;
}

/* ---- blocks ---- */
size_t attn_choose(const struct kern_table *k, const attn_blocks *o, const float *q, size_t group, size_t dim_k, const float *means, size_t ld,
                   size_t pos, uint32_t *chosen) {
    float best[ATTN_TOP_MAX];
    size_t n = 0, own = pos / o->size, end = own + 1 > o->window ? own + 1 - o->window : 0;
    for (size_t i = 1; i < end; i++) {
        float score = 0;
        size_t at = n;
        for (size_t h = 0; h < group; h++) score += k->dot(q + h * dim_k, means + i * ld, dim_k);
        while (at > 0 && score > best[at - 1]) at--;
        if (at >= o->top) continue;
        if (n < o->top) n++;
        for (size_t j = n - 1; j > at; j--) {
            best[j] = best[j - 1];
            chosen[j] = chosen[j - 1];
        }
        best[at] = score;
        chosen[at] = (uint32_t)i;
    }
    return n;
}

bool attn_reads(const attn_blocks *o, size_t pos, size_t i, const uint32_t *chosen, size_t n) {
    if (i == 0 || i + o->window > pos / o->size) return true;
    for (size_t j = 0; j < n; j++)
        if (chosen[j] == i) return true;
    return false;
}

static void choose_blocks(const team *t, const plan *p, const unit *u, const buffers *b) {
    if (!p->o->blocks) return;
    for (size_t i = 0; i < u->n_q; i++) {
        const float *q = u->seg->q + (u->q0 + i) * u->seg->ld_q + u->head_kv * p->group * p->dim_k;
        uint32_t *to = b->chosen + i * (1 + ATTN_TOP_MAX);
        to[0] = (uint32_t)attn_choose(t->kern, p->o->blocks, q, p->group, p->dim_k, kv_mean(u->seg->kv, u->head_kv, 0), p->dim_k,
                                      u->seg->pos0 + u->q0 + i, to + 1);
    }
}

static bool query_reads(const plan *p, const unit *u, const buffers *b, size_t query, size_t position) {
    const uint32_t *c = b->chosen + query * (1 + ATTN_TOP_MAX);
    return attn_reads(p->o->blocks, u->seg->pos0 + u->q0 + query, position / p->o->blocks->size, c + 1, c[0]);
}

static bool any_reads(const plan *p, const unit *u, const buffers *b, size_t position) {
    for (size_t i = 0; i < u->n_q; i++)
        if (query_reads(p, u, b, i, position)) return true;
    return false;
}

/* The unit's queries times the scale, and the blocks they read. */
static void load_queries(const team *t, const plan *p, const unit *u, const buffers *b) {
    size_t pairs = (p->dim_k + 1) / 2;
    choose_blocks(t, p, u, b);
    for (size_t i = 0; i < u->n_q; i++) {
        const float *src = u->seg->q + (u->q0 + i) * u->seg->ld_q + u->head_kv * p->group * p->dim_k;
        if (!p->score_pairs) {
            t->kern->scale(b->q + i * p->group * p->dim_k, src, p->o->scale, p->group * p->dim_k);
            continue;
        }
        for (size_t h = 0; h < p->group; h++) {
            uint32_t *row = b->qw + (i * p->group + h) * pairs;
            row[pairs - 1] = 0; /* what an odd dimension is paired with */
            t->kern->bf16_of_f32(row, src + h * p->dim_k, p->o->scale, p->dim_k);
        }
    }
}

/* Scores s[row][0..n) of positions from p0: cap, bias, mask. */
static void shape_scores(const team *t, const plan *p, const unit *u, const buffers *b, size_t p0, size_t n) {
    const attn_opts *o = p->o;
    float *s = b->s;
    bool seen = p0 >= u->all_lo && p0 + n <= u->all_hi;
    if (seen && o->softcap <= 0 && !o->alibi && !o->blocks) return;
    for (size_t r = 0; r < u->rows; r++, s += p->tile) {
        size_t pos = u->seg->pos0 + u->q0 + r / p->group, lo, hi;
        visible(o, u->seg, pos, &lo, &hi);
        if (o->softcap > 0) {
            t->kern->scale(s, s, 1 / o->softcap, n);
            t->kern->act(ACT_TANH, s, s, NULL, n);
            t->kern->scale(s, s, o->softcap, n);
        }
        if (o->alibi) {
            float slope = o->alibi[u->head_kv * p->group + r % p->group];
            for (size_t j = 0; j < n; j++) s[j] += slope * ((float)(p0 + j) - (float)pos);
        }
        if (o->blocks && !query_reads(p, u, b, r / p->group, p0)) lo = hi;
        for (size_t j = 0; j < n && p0 + j < lo; j++) s[j] = -INFINITY;
        for (size_t j = hi > p0 ? hi - p0 : 0; j < n; j++) s[j] = -INFINITY;
    }
}

/* Turns scores into weights exp(s - max), moving the running max, sum and output along. */
static void soften(const team *t, const plan *p, size_t rows, size_t n, const buffers *b, const running *r) {
    for (size_t i = 0; i < rows; i++) {
        float *s = b->s + i * p->tile, *out = r->out + i * p->dim_v;
        float keep = p->pairs ? t->kern->soften_bf16(b->pw + i * p->tile / 2, s, n, &r->max[i], &r->sum[i])
                              : t->kern->soften(s, n, &r->max[i], &r->sum[i]);
        if (keep != 1.0f) t->kern->scale(out, out, keep, p->dim_v);
    }
}

/* Scores of n positions from `first`, the beginning of a block. */
static void score_f32(const team *t, const plan *p, const unit *u, const buffers *b, size_t first, size_t n) {
    const kv_layer *c = u->seg->kv;
    for (size_t j = 0; j < n; j += KV_BLOCK)
        kv_load_k(t->kern, c, u->head_kv, (first + j) / KV_BLOCK % (c->cap / KV_BLOCK), b->k + j, p->tile);
    t->kern->tile(&(kern_tile){b->s, b->q, b->k, p->tile, p->dim_k, p->tile, u->rows, n, p->dim_k, false});
}

/* out += weights · values of n positions from `first`. */
static void add_f32(const team *t, const plan *p, const unit *u, const buffers *b, size_t first, size_t n, float *out) {
    const kv_layer *c = u->seg->kv;
    for (size_t j = 0; j < n; j += KV_BLOCK)
        kv_load_v(t->kern, c, u->head_kv, (first + j) / KV_BLOCK % (c->cap / KV_BLOCK), b->v + j * p->dim_v);
    t->kern->tile(&(kern_tile){out, b->s, b->v, p->dim_v, p->tile, p->dim_v, u->rows, p->dim_v, n, true});
}

/* Few rows read a cache of pair words where it lies; for many it is made bf16 first. */
static bool reads_in_place(quant_type type, size_t rows) {
    return type == QUANT_BF16 || (type == QUANT_F16 && rows <= KERN_PAIRS_ROWS);
}

/* Scores of n positions from `first`. */
static void score_pairs(const team *t, const plan *p, const unit *u, const buffers *b, size_t first, size_t n) {
    const kv_layer *c = u->seg->kv;
    size_t pairs = (p->dim_k + 1) / 2, n_blocks = c->cap / KV_BLOCK, block = first / KV_BLOCK % n_blocks;
    kern_pairs k = {.c = b->s, .a = b->qw, .b = b->kw, .ldc = p->tile, .lda = pairs, .ldb = KV_BLOCK, .ldv = pairs * KV_BLOCK,
                    .m = u->rows, .n = n, .k = pairs};
    if (!reads_in_place(c->k_type, u->rows)) {
        for (size_t j = 0; j < n; j += KV_BLOCK)
            kv_pairs_k(t->kern, c, u->head_kv, (block + j / KV_BLOCK) % n_blocks, b->kw + j * pairs, b->wide);
        t->kern->pairs(&k);
        return;
    }
    k.f16 = c->k_type == QUANT_F16;
    k.ahead = p->tile * pairs;
    for (size_t j = 0; j < n; j += k.n, block = 0) { /* up to the end of the ring, then from its beginning */
        k.c = b->s + j;
        k.n = MIN(n - j, (n_blocks - block) * KV_BLOCK);
        k.b = kv_words_k(c, u->head_kv, block);
        t->kern->pairs(&k);
    }
}

/* out += weights · values of n positions from `first`. */
static void add_pairs(const team *t, const plan *p, const unit *u, const buffers *b, size_t first, size_t n, float *out) {
    const kv_layer *c = u->seg->kv;
    size_t n_blocks = c->cap / KV_BLOCK, block = first / KV_BLOCK % n_blocks;
    kern_pairs k = {.c = out, .a = b->pw, .b = b->vw, .ldc = p->dim_v, .lda = p->tile / 2, .ldb = p->dim_v, .ldv = 16,
                    .m = u->rows, .n = p->dim_v, .k = (n + 1) / 2, .add = true};
    if (!reads_in_place(c->v_type, u->rows)) {
        for (size_t j = 0; j < n; j += KV_BLOCK)
            kv_pairs_v(t->kern, c, u->head_kv, (block + j / KV_BLOCK) % n_blocks, MIN((size_t)KV_BLOCK, n - j),
                       b->vw + j / 2 * p->dim_v, b->wide);
        t->kern->pairs(&k);
        return;
    }
    k.f16 = c->v_type == QUANT_F16;
    k.ahead = p->tile / 2 * p->dim_v;
    size_t whole = n / 2;
    for (size_t j = 0; j < whole; j += k.k, block = 0) {
        k.a = b->pw + j;
        k.k = MIN(whole - j, (n_blocks - block) * KV_BLOCK / 2);
        k.b = kv_words_v(c, u->head_kv, block);
        t->kern->pairs(&k);
    }
    if (n % 2 == 0) return;
    /* the last one's neighbour may be no number at all */
    const uint32_t *last = kv_words_v(c, u->head_kv, (first + n - 1) / KV_BLOCK % n_blocks) + (n - 1) % KV_BLOCK / 2 * p->dim_v;
    for (size_t i = 0; i < p->dim_v; i++) b->vw[i] = last[i] & 0xffff;
    k.a = b->pw + whole;
    k.b = b->vw;
    k.k = 1;
    k.ahead = 0;
    t->kern->pairs(&k);
}

/* The positions [from, to) of one chunk; r starts empty. */
static void run_chunk(const team *t, const plan *p, const unit *u, const buffers *b, size_t from, size_t to, const running *r) {
    for (size_t i = 0; i < u->rows; i++) {
        r->max[i] = -INFINITY;
        r->sum[i] = 0;
    }
    memset(r->out, 0, u->rows * p->dim_v * sizeof(float));
    for (size_t p0 = from / p->tile * p->tile; p0 < to; p0 += p->tile) {
        if (p->o->blocks && !any_reads(p, u, b, p0)) continue;
        size_t first = MAX(p0, from / KV_BLOCK * KV_BLOCK), last = MIN(p0 + p->tile, to);
        size_t n = (last - first + KV_BLOCK - 1) / KV_BLOCK * KV_BLOCK;
        if (p->score_pairs) score_pairs(t, p, u, b, first, n);
        else score_f32(t, p, u, b, first, n);
        shape_scores(t, p, u, b, first, n);
        soften(t, p, u->rows, n, b, r);
        if (p->pairs) add_pairs(t, p, u, b, first, last - first, r->out);
        else add_f32(t, p, u, b, first, last - first, r->out);
    }
}

/* total becomes what it would be had it also seen part's positions. */
static void merge(const team *t, const plan *p, size_t rows, running *total, const running *part) {
    for (size_t i = 0; i < rows; i++) {
        float max = fmaxf(total->max[i], part->max[i]);
        if (part->max[i] == -INFINITY) continue;
        float a = expf(total->max[i] - max), b = expf(part->max[i] - max);
        t->kern->mix(total->out + i * p->dim_v, a, part->out + i * p->dim_v, b, p->dim_v);
        total->sum[i] = total->sum[i] * a + part->sum[i] * b;
        total->max[i] = max;
    }
}

/* Divides by the sums and writes the rows to the segment's output. */
static void finish(const team *t, const plan *p, const unit *u, const running *r) {
    for (size_t i = 0; i < u->rows; i++) {
        size_t head = u->head_kv * p->group + i % p->group;
        float *dst = u->seg->out + (u->q0 + i / p->group) * u->seg->ld_out + head * p->dim_v;
        float sum = r->sum[i], keep = 1;
        if (p->o->sinks) {
            float max = fmaxf(r->max[i], p->o->sinks[head]);
            keep = expf(r->max[i] - max);
            sum = sum * keep + expf(p->o->sinks[head] - max);
        }
        float scale = sum != 0.0f ? keep / sum : 0.0f; /* no key visible: zeros */
        t->kern->scale(dst, r->out + i * p->dim_v, scale, p->dim_v);
        if (!u->seg->lse) continue;
        float top = p->o->sinks ? fmaxf(r->max[i], p->o->sinks[head]) : r->max[i];
        u->seg->lse[(u->q0 + i / p->group) * p->o->n_head + head] = top + logf(sum);
    }
}

static size_t chunks_of(const unit *u) { return (u->hi + CHUNK - 1) / CHUNK - u->lo / CHUNK; }

static void chunk_range(const unit *u, size_t i, size_t *from, size_t *to) {
    size_t c = u->lo / CHUNK + i;
    *from = MAX(u->lo, c * CHUNK);
    *to = MIN(u->hi, (c + 1) * CHUNK);
}

/* Units are numbered segment by segment, tile of queries by tile, KV head by KV head. */
typedef struct cursor {
    size_t seg, head, q0;
} cursor;
static bool next_unit(const plan *p, cursor *at, unit *u) {
    while (at->seg < p->n_segs && p->segs[at->seg].n_q <= at->q0) *at = (cursor){.seg = at->seg + 1};
    if (at->seg == p->n_segs) return false;
    *u = make_unit(p, &p->segs[at->seg], at->head, at->q0);
    if (++at->head == p->n_head_kv) {
        at->head = 0;
        at->q0 += p->n_queries;
    }
    return true;
}

static void run_whole_units(const team *t, const plan *p, buffers *b) {
    unit u;
    size_t turn = 0;
    for (cursor at = {0}; next_unit(p, &at, &u); turn++) {
        /* 0 1 2 | 2 1 0 | …: later queries see more, so turns are taken back and forth */
        size_t n = (size_t)t->nth, place = turn % (2 * n);
        if ((place < n ? place : 2 * n - 1 - place) != (size_t)t->ith) continue;
        load_queries(t, p, &u, b);
        for (size_t i = 0; i < chunks_of(&u); i++) {
            size_t from, to;
            chunk_range(&u, i, &from, &to);
            run_chunk(t, p, &u, b, from, to, i == 0 ? &b->total : &b->part);
            if (i > 0) merge(t, p, u.rows, &b->total, &b->part);
        }
        finish(t, p, &u, &b->total);
    }
}

/* Every chunk of every unit is a piece of work of its own; parts: one running state for each, stride floats apart. */
static void run_chunks(team *t, const plan *p, buffers *b, float *parts, size_t stride) {
    unit u;
    size_t turn = 0, n = (size_t)t->nth;
    for (cursor at = {0}; next_unit(p, &at, &u);) {
        bool loaded = false;
        for (size_t i = 0; i < chunks_of(&u); i++, turn++) {
            if (turn % n != (size_t)t->ith) continue;
            if (!loaded) load_queries(t, p, &u, b);
            loaded = true;
            size_t from, to;
            chunk_range(&u, i, &from, &to);
            running part = running_at(parts + turn * stride, u.rows);
            run_chunk(t, p, &u, b, from, to, &part);
        }
    }
    team_barrier(t);
    team_enter(t, PROF_ATTENTION);
    size_t first = 0, number = 0;
    for (cursor at = {0}; next_unit(p, &at, &u); number++) {
        size_t chunks = chunks_of(&u);
        if (number % n == (size_t)t->ith) {
            running total = running_at(parts + first * stride, u.rows);
            for (size_t i = 1; i < chunks; i++) {
                running part = running_at(parts + (first + i) * stride, u.rows);
                merge(t, p, u.rows, &total, &part);
            }
            finish(t, p, &u, &total);
        }
        first += chunks;
    }
}

/* For the profile: the keys and values that queries see, and what is multiplied with them. */
static void count_work(const team *t, const attn_opts *o, const attn_seg *segs, size_t n_segs) {
    uint64_t bytes = 0, pairs = 0;
    for (size_t i = 0; i < n_segs; i++) {
        size_t first = SIZE_MAX, end = 0;
        for (size_t q = 0; q < segs[i].n_q; q++) {
            size_t lo, hi;
            visible(o, &segs[i], segs[i].pos0 + q, &lo, &hi);
            first = MIN(first, lo);
            end = MAX(end, hi);
            pairs += hi - lo;
        }
        const kv_layer *c = segs[i].kv;
        if (end > first) bytes += (kv_k_bytes(c) + kv_v_bytes(c)) / c->cap * (end - first);
    }
    const kv_layer *c = segs[0].kv;
    prof_count(t->prof, t->fast && t->kern->bf16 ? PROF_BF16 : PROF_F32, bytes, 2 * pairs * o->n_head * (c->dim_k + c->dim_v));
}

void op_attention(team *t, const attn_opts *o, const attn_seg *segs, size_t n_segs) {
    if (n_segs == 0) return;
    team_enter(t, PROF_ATTENTION);
    if (t->prof && t->ith == 0) count_work(t, o, segs, n_segs);
    size_t mark = bump_mark(&t->scratch);
    const kv_layer *c = segs[0].kv;
    plan p = {.o = o, .segs = segs, .n_segs = n_segs, .group = o->n_head / c->n_head_kv, .dim_k = c->dim_k,
              .dim_v = c->dim_v, .n_head_kv = c->n_head_kv, .tile = tile_for(c->dim_k), .pairs = t->fast && t->kern->bf16};
    p.score_pairs = p.pairs && !o->wide_scores;
    p.n_queries = queries_for(p.group);
    size_t units = 0, chunks = 0, queries = 0, rows = p.n_queries * p.group;
    unit u;
    for (cursor at = {0}; next_unit(&p, &at, &u); units++) {
        chunks += chunks_of(&u);
        queries = MAX(queries, u.n_q);
    }
    buffers b;
    size_t each = lay_out(&b, NULL, rows, p.n_queries, p.dim_k, p.dim_v, p.tile);
    (void)lay_out(&b, bump_f32(&t->scratch, (size_t)t->nth * each) + (size_t)t->ith * each, rows, p.n_queries, p.dim_k, p.dim_v, p.tile);
    if (t->nth == 1 || units >= 4 * (size_t)t->nth || chunks == units) run_whole_units(t, &p, &b);
    else {
        size_t part = running_stride(queries * p.group, p.dim_v);
        float *parts = bump_f32(&t->scratch, chunks * part);
        run_chunks(t, &p, &b, parts, part);
    }
    team_barrier(t);
    bump_reset(&t->scratch, mark);
}
