/* ngram.c: prompt lookup. What followed the last time that the latest tokens occurred is likely to follow again.
 * Source: Saxena 2023, Prompt Lookup Decoding; the index is that of LZ77 compressors: chains of places whose
 * keys have one hash, the latest first.
 *
 * A place p stands for "before ids[p]": its keys are the 1, 2, … tokens that end at p - 1. Chains go back at
 * most `window` places. What is found is compared with the tokens themselves, so hashes cannot deceive. */
#include "run/spec.h"

#define STEPS_MAX 64 /* of a chain, whatever is in it */
#define WINDOW_MAX ((size_t)1 << 16)

struct ngram {
    size_t window, n_slots; /* powers of two */
    size_t next;            /* the first place that is not in the index yet */
    int32_t *head;          /* [NGRAM_ORDERS, n_slots] the latest place of a chain, 0: none */
    int32_t *prev;          /* [NGRAM_ORDERS, window] the place before it in its chain */
};

mote_status ngram_open(ngram **out, size_t window, mote_error *err) {
    *out = NULL;
    ngram *g = MEM_NEW(ngram);
    if (!g) FAIL(err, MOTE_E_MEMORY, "out of memory for an n-gram index");
    g->window = 16;
    while (g->window < MIN(window, WINDOW_MAX)) g->window *= 2;
    g->n_slots = 2 * g->window;
    g->head = MEM_NEW_N(int32_t, NGRAM_ORDERS * g->n_slots);
    g->prev = MEM_NEW_N(int32_t, NGRAM_ORDERS * g->window);
    if (!g->head || !g->prev) {
        ngram_close(&g);
        FAIL(err, MOTE_E_MEMORY, "out of memory for an n-gram index of %zu tokens", window);
    }
    g->next = 1;
    *out = g;
    return MOTE_OK;
}

void ngram_close(ngram **g) {
    if (!*g) return;
    mem_free((*g)->head);
    mem_free((*g)->prev);
    mem_free(*g);
    *g = NULL;
}

size_t ngram_bytes(const ngram *g) {
    return sizeof *g + NGRAM_ORDERS * (g->n_slots + g->window) * sizeof(int32_t);
}

void ngram_clear(ngram *g) {
    if (g->next > 1) memset(g->head, 0, NGRAM_ORDERS * g->n_slots * sizeof *g->head);
    g->next = 1;
}

/* The chain of the `order` tokens that end before place p. Multiplicative hashing (Knuth, TAOCP 3, §6.4). */
static int32_t *chain(const ngram *g, const int32_t *ids, size_t p, size_t order) {
    uint64_t h = order;
    for (size_t i = p - order; i < p; i++) h = (h ^ (uint32_t)ids[i]) * 0x9e3779b97f4a7c15u;
    return g->head + (order - 1) * g->n_slots + ((h >> 32) & (g->n_slots - 1));
}

static int32_t *link_of(const ngram *g, size_t p, size_t order) {
    return g->prev + (order - 1) * g->window + (p & (g->window - 1));
}

void ngram_sync(ngram *g, const int32_t *ids, size_t n) {
    for (; g->next < n; g->next++)
        for (size_t order = 1; order <= MIN(g->next, (size_t)NGRAM_ORDERS); order++) {
            int32_t *head = chain(g, ids, g->next, order);
            *link_of(g, g->next, order) = *head;
            *head = (int32_t)g->next;
        }
}

/* How many tokens before a and before b are the same, b the later, up to NGRAM_MATCH_MAX. */
static size_t match_length(const int32_t *ids, size_t a, size_t b) {
    size_t n = 0;
    while (n < NGRAM_MATCH_MAX && n < a && ids[a - 1 - n] == ids[b - 1 - n]) n++;
    return n;
}

size_t ngram_find(const ngram *g, const int32_t *ids, size_t n, size_t *match) {
    *match = 0;
    for (size_t order = MIN(n, (size_t)NGRAM_ORDERS); order >= 1; order--) {
        size_t best = 0, p = (size_t)*chain(g, ids, n, order);
        for (int step = 0, tries = 0; p && step < STEPS_MAX && tries < NGRAM_TRIES; step++) {
            if (g->next - p > g->window) break; /* its link is another's by now */
            size_t len = match_length(ids, p, n);
            if (len > *match && len >= order) {
                *match = len;
                best = p;
            }
            tries += len >= order;
            size_t before = (size_t)*link_of(g, p, order);
            if (before >= p || *match == NGRAM_MATCH_MAX) break;
            p = before;
        }
        if (best) return best;
    }
    return 0;
}

/* ---- as a proposer ---- */

static mote_status begin(proposer *p, const int32_t *ids, size_t n, const mote_sampler *sampler,
                         mote_error *err) {
    (void)sampler;
    (void)err;
    ngram_clear(p->self);
    ngram_sync(p->self, ids, n);
    return MOTE_OK;
}

static mote_status propose(proposer *p, const spec_ask *a, proposal *out, mote_error *err) {
    (void)err;
    size_t match;
    out->n = 0;
    ngram_sync(p->self, a->ids, a->n);
    size_t from = ngram_find(p->self, a->ids, a->n, &match);
    if (from == 0) return MOTE_OK;
    for (; out->n < a->max; out->n++) {
        size_t i = from + out->n; /* past the end it goes on with the guesses: a loop */
        out->ids[out->n] = i < a->n ? a->ids[i] : out->ids[i - a->n];
        out->level[out->n] = (unsigned char)MIN(match + out->n, (size_t)SPEC_LEVELS - 1);
    }
    return MOTE_OK;
}

static void close_index(proposer *p) {
    ngram *g = p->self;
    ngram_close(&g);
    p->self = NULL;
}

static size_t memory(const proposer *p) { return ngram_bytes(p->self); }

mote_status ngram_proposer(proposer *p, const mote_session *s, mote_error *err) {
    *p = (proposer){.name = "ngram", .free = true, .begin = begin, .propose = propose, .close = close_index,
                    .memory = memory, .odds.memory = 32};
    for (size_t i = 0; i < SPEC_LEVELS; i++) p->odds.p[i] = (float)i / (float)(i + 3);
    ngram *g;
    TRY(ngram_open(&g, s->n_ctx, err));
    p->self = g;
    return MOTE_OK;
}
