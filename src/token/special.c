/* special.c: finding special tokens in text before the tokenizer proper sees it.
 *
 * Of overlapping candidates the longest wins, wherever it lies; then the lower id, then the leftmost. Candidates
 * that overlap, directly or through others, form a cluster, and clusters are settled one by one. A cluster of very
 * many candidates (a million newlines, where runs of 2 to 31 newlines are tokens) is settled token by token. */
#include "token/token_int.h"

#include <stdlib.h>

#define CANDIDATES_MAX ((size_t)1 << 16)

struct cand {
    size_t pos;
    uint32_t len;
    int32_t id;
};
struct range {
    size_t from, to;
};

typedef struct finder {
    const tok_vocab *v;
    const tok_trie *trie;
    str text;
    bool parse_control;
    struct range *untrusted;
    size_t n_untrusted;
    struct cand *cand; /* of the cluster; after settling, those taken, by position */
    size_t n, cap;
    size_t from, to;   /* the cluster */
    bool overflow;     /* cand holds each token once */
    uint64_t *present; /* bit per token, only in overflow */
    char *taken;       /* byte per byte of the cluster */
    size_t cap_taken;
    mote_error *err;
} finder;

/* Whether the character that begins, or else the one that ends, at this offset is part of a word. */
static bool word_at(const finder *f, size_t at, bool ends) {
    size_t from = at;
    uint32_t cp;
    if (ends)
        do from--;
        while (from > 0 && at - from < 4 && (f->text.p[from] & 0xC0) == 0x80);
    (void)utf8_decode(f->text.p + from, f->text.n - from, &cp);
    tok_class c = tok_uni_class(cp);
    return (c >= TOK_CLS_LU && c <= TOK_CLS_NO) || cp == '_';
}

/* Whether a byte of the range comes from an untrusted span. */
static bool tainted(const finder *f, size_t pos, size_t len) {
    size_t lo = 0, hi = f->n_untrusted;
    while (lo < hi) { /* the first range that ends behind pos */
        size_t mid = (lo + hi) / 2;
        if (f->untrusted[mid].to <= pos) lo = mid + 1;
        else hi = mid;
    }
    return lo < f->n_untrusted && f->untrusted[lo].from < pos + len;
}

static bool allowed(const finder *f, int32_t id, size_t pos, size_t len) {
    const tok_vocab *v = f->v;
    bool control = v->type[id] != TOK_USER_DEFINED;
    if (control && !f->parse_control) return false;
    if ((control || (v->flag[id] & TOK_FLAG_DELIMITER)) && f->n_untrusted && tainted(f, pos, len)) return false;
    if (v->flag[id] & TOK_FLAG_WORD) {
        if (pos > 0 && word_at(f, pos, true)) return false;
        if (pos + len < f->text.n && word_at(f, pos + len, false)) return false;
    }
    return true;
}

static mote_status start_overflow(finder *f) {
    size_t words = f->v->n / 64 + 1, kept = 0;
    f->present = mem_calloc(words, sizeof *f->present);
    if (!f->present) FAIL(f->err, MOTE_E_MEMORY, "out of memory while looking for special tokens");
    f->overflow = true;
    for (size_t i = 0; i < f->n; i++) {
        int32_t id = f->cand[i].id;
        if (f->present[id >> 6] >> (id & 63) & 1) continue;
        f->present[id >> 6] |= (uint64_t)1 << (id & 63);
        f->cand[kept++] = f->cand[i];
    }
    f->n = kept;
    return MOTE_OK;
}

static mote_status add(finder *f, size_t pos, size_t len, int32_t id) {
    if (f->overflow) {
        if (f->present[id >> 6] >> (id & 63) & 1) return MOTE_OK;
        f->present[id >> 6] |= (uint64_t)1 << (id & 63);
    }
    TRY(mem_grow(&f->cand, &f->cap, f->n + 1, sizeof *f->cand, SIZE_MAX / 64, f->err));
    f->cand[f->n++] = (struct cand){pos, (uint32_t)len, id};
    if (f->n > CANDIDATES_MAX && !f->overflow) return start_overflow(f);
    return MOTE_OK;
}

static int by_priority(const void *pa, const void *pb) {
    const struct cand *a = pa, *b = pb;
    if (a->len != b->len) return a->len > b->len ? -1 : 1;
    if (a->id != b->id) return a->id < b->id ? -1 : 1;
    return a->pos < b->pos ? -1 : a->pos > b->pos;
}

static int by_position(const void *pa, const void *pb) {
    const struct cand *a = pa, *b = pb;
    return a->pos < b->pos ? -1 : a->pos > b->pos;
}

/* Takes a candidate unless part of it is taken. */
static bool take(finder *f, size_t pos, size_t len) {
    char *t = f->taken + (pos - f->from);
    if (memchr(t, 1, len)) return false;
    memset(t, 1, len);
    return true;
}

/* Every occurrence of one token in what is still free. */
static mote_status take_all(finder *f, int32_t id, struct cand **out, size_t *n, size_t *cap) {
    str needle = f->v->text[id];
    size_t len = f->to - f->from;
    for (size_t at = 0; at < len;) {
        const char *open = memchr(f->taken + at, 0, len - at);
        if (!open) break;
        at = (size_t)(open - f->taken);
        const char *shut = memchr(open, 1, len - at);
        size_t end = shut ? (size_t)(shut - f->taken) : len;
        while (at < end) {
            size_t hit = str_find(str_sub(f->text, f->from, end), needle, at);
            if (hit == SIZE_MAX) break;
            at = hit + 1;
            if (!allowed(f, id, f->from + hit, needle.n)) continue;
            memset(f->taken + hit, 1, needle.n);
            TRY(mem_grow(out, cap, *n + 1, sizeof **out, SIZE_MAX / 64, f->err));
            (*out)[(*n)++] = (struct cand){f->from + hit, (uint32_t)needle.n, id};
            at = hit + needle.n;
        }
        at = end;
    }
    return MOTE_OK;
}

static mote_status settle_overflow(finder *f) {
    struct cand *out = NULL;
    size_t n = 0, cap = 0;
    for (size_t i = 0; i < f->n; i++) {
        mote_status s = take_all(f, f->cand[i].id, &out, &n, &cap);
        if (s == MOTE_OK) continue;
        mem_free(out);
        return s;
    }
    mem_free(f->cand);
    f->cand = out;
    f->n = n;
    f->cap = cap;
    mem_free(f->present);
    f->present = NULL;
    f->overflow = false;
    return MOTE_OK;
}

static mote_status settle(finder *f) {
    if (f->n <= 1) return MOTE_OK;
    size_t len = f->to - f->from;
    TRY(mem_grow(&f->taken, &f->cap_taken, len, 1, TOK_TEXT_BYTES_MAX, f->err));
    memset(f->taken, 0, len);
    qsort(f->cand, f->n, sizeof *f->cand, by_priority);
    if (f->overflow) {
        TRY(settle_overflow(f));
    } else {
        size_t kept = 0;
        for (size_t i = 0; i < f->n; i++)
            if (take(f, f->cand[i].pos, f->cand[i].len)) f->cand[kept++] = f->cand[i];
        f->n = kept;
    }
    if (f->n > 1) qsort(f->cand, f->n, sizeof *f->cand, by_position);
    return MOTE_OK;
}

/* tokenizer.json: the leftmost candidate, of those the longest. */
static mote_status next_leftmost(finder *f, size_t at) {
    f->n = 0;
    for (size_t i = at; i < f->text.n && f->n == 0; i++) {
        uint32_t node = 0;
        struct cand best = {.id = TOK_NONE};
        for (size_t k = i; k < f->text.n; k++) {
            node = tok_trie_step(f->trie, node, (unsigned char)f->text.p[k]);
            if (!node) break;
            int32_t id = tok_trie_value(f->trie, node);
            if (id >= 0 && allowed(f, id, i, k + 1 - i)) best = (struct cand){i, (uint32_t)(k + 1 - i), id};
        }
        if (best.id < 0) continue;
        TRY(add(f, best.pos, best.len, best.id));
        f->to = i + best.len;
    }
    return MOTE_OK;
}

/* The next cluster at or behind `at`; none: f->n is 0. */
static mote_status next_cluster(finder *f, size_t at) {
    if (f->v->from_json) return next_leftmost(f, at);
    const tok_trie *t = f->trie;
    f->n = 0;
    f->from = f->to = at;
    for (size_t i = at; i < f->text.n && (f->n == 0 || i < f->to); i++) {
        uint32_t node = 0;
        for (size_t k = i; k < f->text.n; k++) {
            node = tok_trie_step(t, node, (unsigned char)f->text.p[k]);
            if (!node) break;
            int32_t id = tok_trie_value(t, node);
            if (id < 0 || !allowed(f, id, i, k + 1 - i)) continue;
            if (f->n == 0) f->from = f->to = i;
            f->to = MAX(f->to, k + 1);
            TRY(add(f, i, k + 1 - i, id));
        }
    }
    return settle(f);
}

/* Length of the white space before, or at, an offset. GGUF's models mean ASCII's. */
static size_t space_before(const finder *f, size_t at, size_t limit) {
    size_t i = at;
    uint32_t cp;
    do at--;
    while (at > limit && (f->text.p[at] & 0xC0) == 0x80);
    (void)utf8_decode(f->text.p + at, i - at, &cp);
    return tok_uni_space(cp) && (f->v->from_json || cp < 0x80) ? i - at : 0;
}
static size_t space_at(const finder *f, size_t at) {
    uint32_t cp;
    size_t n = utf8_decode(f->text.p + at, f->text.n - at, &cp);
    return tok_uni_space(cp) && (f->v->from_json || cp < 0x80) ? n : 0;
}

static mote_status walk(finder *f, tok_work *w, mote_status (*raw)(tok_work *w, str text, bool first)) {
    const tok_vocab *v = f->v;
    size_t done = 0; /* up to here all is encoded */
    for (size_t at = 0;;) {
        TRY(next_cluster(f, at));
        if (f->n == 0) break;
        for (size_t i = 0; i < f->n; i++) {
            const struct cand *c = &f->cand[i];
            size_t end = c->pos;
            if (v->flag[c->id] & TOK_FLAG_LSTRIP)
                for (size_t n; end > done && (n = space_before(f, end, done)) > 0;) end -= n;
            if (end > done) TRY(raw(w, str_sub(f->text, done, end - done), w->first && done == 0));
            TRY(tok_emit(w, c->id));
            done = c->pos + c->len;
            size_t next = i + 1 < f->n ? f->cand[i + 1].pos : f->text.n;
            if (v->flag[c->id] & TOK_FLAG_RSTRIP)
                for (size_t n; done < next && (n = space_at(f, done)) > 0;) done += n;
        }
        at = MAX(f->to, done);
    }
    return done < f->text.n ? raw(w, str_sub(f->text, done, f->text.n - done), w->first && done == 0) : MOTE_OK;
}

mote_status tok_partition(tok_work *w, const tok_trie *specials, str text, const tok_span *spans, size_t n_spans, bool parse_control,
                          mote_status (*raw)(tok_work *w, str text, bool first)) {
    if (tok_trie_is_empty(specials)) return text.n ? raw(w, text, w->first) : MOTE_OK;
    finder f = {.v = w->v, .trie = specials, .text = text, .parse_control = parse_control, .err = w->err};
    mote_status s = MOTE_OK;
    if (n_spans) {
        f.untrusted = MEM_NEW_N(struct range, n_spans);
        if (!f.untrusted) FAILG(s, w->err, MOTE_E_MEMORY, "out of memory for %zu spans of a prompt", n_spans);
        for (size_t i = 0, at = 0; i < n_spans; at += spans[i++].text.n)
            if (!spans[i].trusted && spans[i].text.n)
                f.untrusted[f.n_untrusted++] = (struct range){at, at + spans[i].text.n};
    }
    s = walk(&f, w, raw);
out:
    mem_free(f.untrusted);
    mem_free(f.cand);
    mem_free(f.present);
    mem_free(f.taken);
    return s;
}
