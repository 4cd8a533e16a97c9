/* merge.c: merging symbols, best pair first, in O(n log n).
 *
 * Symbols are numbered by the character they begin with, and linked; one past the last is a sentinel. The next pair merged is always the one of lowest rank, of
 * those the leftmost. Short runs look for it by walking; long ones keep a queue made for what long runs look
 * like (one character a million times): a list of positions per rank, in order, as long as pairs appear from
 * left to right, and a heap for those that do not. Every position is in at most one list. */
#include "token/token_int.h"

#define NIL UINT32_MAX
#define LATE (UINT32_MAX - 1) /* q_prev of a position that waits in the heap */
#define NO_RANK UINT32_MAX
#define WALK_SYMBOLS_MAX 24

struct tok_links {
    int32_t sym;   /* BPE: symbol; SPM: token or TOK_NONE */
    int32_t made;  /* what merging with the right neighbour makes */
    uint32_t rank; /* of that merge, NO_RANK when there is none */
    uint32_t at; /* offset in the text */
    uint32_t prev, next;
    uint32_t q_next, q_prev;
};

struct bucket {
    uint32_t rank, head, tail;
    bool queued;
};
struct tok_queue {
    struct bucket *bucket; /* one per rank seen */
    size_t n, cap;
    uint32_t *find; /* rank -> bucket index + 1; open addressing */
    size_t n_find;
    uint32_t *heap; /* buckets that may have positions, lowest rank first */
    size_t n_heap, cap_heap;
    uint64_t *late; /* rank << 32 | position */
    size_t n_late, cap_late;
};

void tok_queue_free(struct tok_queue **out) {
    struct tok_queue *q = *out;
    if (!q) return;
    mem_free(q->bucket);
    mem_free(q->find);
    mem_free(q->heap);
    mem_free(q->late);
    mem_free(q);
    *out = NULL;
}

/* Scores as ranks: the higher the score, the lower the rank. */
static uint32_t rank_of_score(float score) {
    uint32_t bits;
    if (!(score == score)) return NO_RANK - 1;
    score += 0.0f; /* −0 is 0 */
    memcpy(&bits, &score, sizeof bits);
    bits = bits >> 31 ? ~bits : bits | 0x80000000u; /* ascending */
    return MIN(~bits, NO_RANK - 1);
}

/* What the symbols at i and behind it would make. */
static void look_up(const tok_vocab *v, struct tok_links *l, str text, uint32_t i) {
    uint32_t j = l[i].next;
    l[i].rank = NO_RANK;
    if (l[j].at == text.n) return;
    if (v->kind == TOK_KIND_SPM) {
        size_t len = l[l[j].next].at - l[i].at;
        if (len > v->token_len_max) return;
        int32_t id = tok_plain(v, tok_map_get(&v->map, v->text, text.p + l[i].at, len));
        if (id < 0) return;
        l[i].made = id;
        l[i].rank = rank_of_score((float)v->score[id]);
    } else if (l[i].sym >= 0 && l[j].sym >= 0) {
        const struct tok_merge *m = tok_merges_get(&v->merges, l[i].sym, l[j].sym);
        if (!m || ((size_t)m->made < v->n && v->type[m->made] == TOK_CONTROL)) return;
        l[i].made = m->made;
        l[i].rank = m->rank;
    }
}

/* Makes one symbol of the pair at i. */
static void join(struct tok_links *l, uint32_t i) {
    uint32_t after = l[l[i].next].next;
    l[i].sym = l[i].made;
    l[i].next = after;
    l[after].prev = i;
}

static void merge_walking(const tok_vocab *v, struct tok_links *l, uint32_t n, str text) {
    for (uint32_t i = 0; i < n; i = l[i].next) look_up(v, l, text, i);
    for (;;) {
        uint32_t best = NIL, rank = NO_RANK;
        for (uint32_t i = 0; i < n; i = l[i].next) {
            if (l[i].rank >= rank) continue;
            best = i;
            rank = l[i].rank;
        }
        if (best == NIL) return;
        join(l, best);
        look_up(v, l, text, best);
        if (best > 0) look_up(v, l, text, l[best].prev);
    }
}

/* ---- the queue ---- */

static size_t find_slot(const struct tok_queue *q, uint32_t rank) {
    size_t at = (rank * (size_t)0x9E3779B97F4A7C15u >> 20) & (q->n_find - 1);
    while (q->find[at] && q->bucket[q->find[at] - 1].rank != rank) at = (at + 1) & (q->n_find - 1);
    return at;
}

static mote_status bucket_of(struct tok_queue *q, uint32_t rank, uint32_t *out, mote_error *err) {
    if (2 * (q->n + 1) > q->n_find) {
        size_t want = q->n_find ? q->n_find * 2 : 1024;
        uint32_t *find = mem_calloc(want, sizeof *find);
        if (!find) FAIL(err, MOTE_E_MEMORY, "out of memory while merging a long run of text");
        mem_free(q->find);
        q->find = find;
        q->n_find = want;
        for (size_t b = 0; b < q->n; b++) q->find[find_slot(q, q->bucket[b].rank)] = (uint32_t)b + 1;
    }
    size_t at = find_slot(q, rank);
    if (!q->find[at]) {
        TRY(mem_grow(&q->bucket, &q->cap, q->n + 1, sizeof *q->bucket, TOK_TEXT_BYTES_MAX, err));
        TRY(mem_grow(&q->heap, &q->cap_heap, q->n + 1, sizeof *q->heap, TOK_TEXT_BYTES_MAX, err));
        q->bucket[q->n] = (struct bucket){.rank = rank, .head = NIL, .tail = NIL};
        q->find[at] = (uint32_t)++q->n;
    }
    *out = q->find[at] - 1;
    return MOTE_OK;
}

static void bucket_up(struct tok_queue *q, uint32_t b) {
    size_t i = q->n_heap++;
    for (; i > 0 && q->bucket[q->heap[(i - 1) / 2]].rank > q->bucket[b].rank; i = (i - 1) / 2)
        q->heap[i] = q->heap[(i - 1) / 2];
    q->heap[i] = b;
    q->bucket[b].queued = true;
}

static void bucket_pop(struct tok_queue *q) {
    q->bucket[q->heap[0]].queued = false;
    uint32_t last = q->heap[--q->n_heap];
    size_t i = 0;
    for (size_t c; (c = 2 * i + 1) < q->n_heap; i = c) {
        if (c + 1 < q->n_heap && q->bucket[q->heap[c + 1]].rank < q->bucket[q->heap[c]].rank) c++;
        if (q->bucket[q->heap[c]].rank >= q->bucket[last].rank) break;
        q->heap[i] = q->heap[c];
    }
    q->heap[i] = last;
}

static mote_status late_push(struct tok_queue *q, uint64_t key, mote_error *err) {
    TRY(mem_grow(&q->late, &q->cap_late, q->n_late + 1, sizeof *q->late, SIZE_MAX / 16, err));
    size_t i = q->n_late++;
    for (; i > 0 && q->late[(i - 1) / 2] > key; i = (i - 1) / 2) q->late[i] = q->late[(i - 1) / 2];
    q->late[i] = key;
    return MOTE_OK;
}

static void late_pop(struct tok_queue *q) {
    uint64_t last = q->late[--q->n_late];
    size_t i = 0;
    for (size_t c; (c = 2 * i + 1) < q->n_late; i = c) {
        if (c + 1 < q->n_late && q->late[c + 1] < q->late[c]) c++;
        if (q->late[c] >= last) break;
        q->late[i] = q->late[c];
    }
    q->late[i] = last;
}

static mote_status enqueue(struct tok_queue *q, struct tok_links *l, uint32_t i, mote_error *err) {
    uint32_t b = 0;
    if (l[i].rank == NO_RANK) return MOTE_OK;
    TRY(bucket_of(q, l[i].rank, &b, err));
    struct bucket *k = &q->bucket[b];
    if (k->tail != NIL && k->tail > i) {
        l[i].q_prev = LATE;
        return late_push(q, (uint64_t)l[i].rank << 32 | i, err);
    }
    l[i].q_prev = k->tail;
    l[i].q_next = NIL;
    if (k->tail == NIL) k->head = i;
    else l[k->tail].q_next = i;
    k->tail = i;
    if (!k->queued) bucket_up(q, b);
    return MOTE_OK;
}

/* Takes i out of its list; a late one is only marked, the heap forgets it when it comes up. */
static void dequeue(struct tok_queue *q, struct tok_links *l, uint32_t i) {
    if (l[i].rank == NO_RANK) return;
    if (l[i].q_prev != LATE) {
        struct bucket *k = &q->bucket[q->find[find_slot(q, l[i].rank)] - 1];
        if (l[i].q_prev == NIL) k->head = l[i].q_next;
        else l[l[i].q_prev].q_next = l[i].q_next;
        if (l[i].q_next == NIL) k->tail = l[i].q_prev;
        else l[l[i].q_next].q_prev = l[i].q_prev;
    }
    l[i].rank = NO_RANK;
    l[i].q_prev = NIL;
}

/* The position of the best pair, NIL when there is none. */
static uint32_t best_pair(struct tok_queue *q, const struct tok_links *l) {
    while (q->n_heap && q->bucket[q->heap[0]].head == NIL) bucket_pop(q);
    while (q->n_late) {
        uint32_t at = (uint32_t)q->late[0], rank = (uint32_t)(q->late[0] >> 32);
        if (l[at].rank == rank && l[at].q_prev == LATE) break;
        late_pop(q);
    }
    uint64_t listed = UINT64_MAX;
    if (q->n_heap) listed = (uint64_t)q->bucket[q->heap[0]].rank << 32 | q->bucket[q->heap[0]].head;
    if (q->n_late && q->late[0] < listed) {
        uint32_t at = (uint32_t)q->late[0];
        late_pop(q);
        return at;
    }
    return q->n_heap ? (uint32_t)listed : NIL;
}

/* The queue is empty before and after. */
static mote_status merge_queued(tok_work *w, struct tok_links *l, uint32_t n, str text) {
    struct tok_queue *q = w->queue;
    if (!q) q = w->queue = MEM_NEW(struct tok_queue);
    if (!q) FAIL(w->err, MOTE_E_MEMORY, "out of memory while merging a long run of text");
    for (uint32_t i = 0; i < n; i++) {
        look_up(w->v, l, text, i);
        TRY(enqueue(q, l, i, w->err));
    }
    for (;;) {
        uint32_t i = best_pair(q, l);
        if (i == NIL) return MOTE_OK;
        dequeue(q, l, i);
        dequeue(q, l, l[i].next);
        join(l, i);
        if (i > 0) {
            uint32_t p = l[i].prev;
            dequeue(q, l, p);
            look_up(w->v, l, text, p);
            TRY(enqueue(q, l, p, w->err));
        }
        look_up(w->v, l, text, i);
        TRY(enqueue(q, l, i, w->err));
    }
}

/* ---- runs ---- */

/* The symbol a character starts as. */
static int32_t first_symbol(const tok_vocab *v, str text, uint32_t i, uint32_t len) {
    if (v->byte_level) return v->byte_sym[(unsigned char)text.p[i]];
    int32_t id = tok_map_get(&v->map, v->text, text.p + i, len);
    return v->kind == TOK_KIND_SPM ? tok_plain(v, id) : id;
}

static mote_status emit_symbol(tok_work *w, int32_t sym, str s) {
    const tok_vocab *v = w->v;
    int32_t id = tok_plain(v, sym);
    if (id >= 0) return tok_emit(w, id);
    bool any = false;
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];
        id = v->byte_sym[c];
        if (v->byte_level) { /* a symbol of merges that is no token: its printable characters are left */
            id = c > 0x20 && c < 0x7F ? tok_plain(v, id) : TOK_NONE;
        }
        if (id < 0) continue;
        any = true;
        TRY(tok_emit(w, id));
    }
    return any || v->byte_level ? MOTE_OK : tok_emit_unknown(w);
}

static mote_status links_room(tok_work *w, size_t n) {
    if (n <= w->cap_links) return MOTE_OK;
    mem_free_aligned(w->links);
    w->cap_links = 0;
    n = MAX(n, 1024);
    w->links = mem_alloc_aligned(n * sizeof *w->links);
    if (!w->links) FAIL(w->err, MOTE_E_MEMORY, "out of memory while merging %zu symbols of text", n);
    w->cap_links = n;
    return MOTE_OK;
}

static mote_status merge_one(tok_work *w, str text) {
    const tok_vocab *v = w->v;
    TRY(links_room(w, (v->byte_level ? text.n : utf8_count(text.p, text.n)) + 1));
    struct tok_links *l = w->links;
    uint32_t n = 0, at = 0;
    for (; at < text.n; n++) {
        uint32_t cp, len = 1;
        if (!v->byte_level) len = (uint32_t)utf8_decode(text.p + at, text.n - at, &cp);
        l[n] = (struct tok_links){.sym = first_symbol(v, text, at, len), .rank = NO_RANK, .at = at, .prev = n - 1,
                                  .next = n + 1, .q_prev = NIL};
        at += len;
    }
    l[n] = (struct tok_links){.sym = TOK_NONE, .rank = NO_RANK, .at = at, .next = n};
    if (n <= WALK_SYMBOLS_MAX) merge_walking(v, l, n, text);
    else TRY(merge_queued(w, l, n, text));
    for (uint32_t i = 0; i < n; i = l[i].next)
        TRY(emit_symbol(w, l[i].sym, str_sub(text, l[i].at, l[l[i].next].at - l[i].at)));
    return MOTE_OK;
}

mote_status tok_merge_run(tok_work *w, str text) {
    const tok_vocab *v = w->v;
    if (!v->joints) return text.n ? merge_one(w, text) : MOTE_OK;
    size_t from = 0;
    uint32_t before = 0, cp;
    for (size_t i = 0; i < text.n; before = cp) { /* no symbol reaches across a pair that is in none */
        size_t len = utf8_decode(text.p + i, text.n - i, &cp);
        if (i > from && !tok_joined(v, before, cp)) {
            TRY(merge_one(w, str_sub(text, from, i - from)));
            from = i;
        }
        i += len;
    }
    return from < text.n ? merge_one(w, str_sub(text, from, text.n - from)) : MOTE_OK;
}
