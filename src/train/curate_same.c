/* curate_same.c: what was said before: exact and near duplicates, and sequences of evaluation files.
 *
 * Near: 128 minima of hashes of a document's five-word sequences; two documents agree in as large a share of them as their sets
 * of sequences overlap (Broder 1997, "On the resemblance and containment of documents"). The minima are cut into bands, documents
 * that agree in a whole band are compared (Leskovec et al., "Mining of Massive Datasets", §3.4). */
#include "train/curate.h"

#define MINIMA 128
#define BANDS 32
#define ROWS (MINIMA / BANDS)
#define SHINGLE 5
#define FILE_MAX_BYTES ((size_t)1 << 32)
#define GRAM_LEAST 6 /* shorter evaluation strings prove nothing */

static uint64_t mix(uint64_t x) {
    x = (x ^ x >> 33) * 0xff51afd7ed558ccdu;
    x = (x ^ x >> 33) * 0xc4ceb9fe1a85ec53u;
    return x ^ x >> 33;
}

/* A set of 64-bit hashes, each with a number. */
typedef struct hashes {
    struct slot {
        uint64_t key; /* 0: empty */
        uint32_t value;
    } *slot;
    size_t n, mask;
} hashes;

static struct slot *hashes_find(const hashes *h, uint64_t key) {
    size_t at = mix(key) & h->mask;
    while (h->slot[at].key && h->slot[at].key != key) at = (at + 1) & h->mask;
    return &h->slot[at];
}

/* The slot of key, new ones with value UINT32_MAX. */
static mote_status hashes_put(hashes *h, uint64_t key, struct slot **out, mote_error *err) {
    if (h->n * 2 >= h->mask) {
        hashes old = *h;
        size_t n = old.slot ? (old.mask + 1) * 2 : 1024;
        h->slot = mem_calloc(n, sizeof *h->slot);
        if (!h->slot) {
            *h = old;
            FAIL(err, MOTE_E_MEMORY, "out of memory for %zu hashes", n);
        }
        h->mask = n - 1;
        for (size_t i = 0; old.slot && i <= old.mask; i++)
            if (old.slot[i].key) *hashes_find(h, old.slot[i].key) = old.slot[i];
        mem_free(old.slot);
    }
    *out = hashes_find(h, key);
    if (!(*out)->key) {
        **out = (struct slot){key, UINT32_MAX};
        h->n++;
    }
    return MOTE_OK;
}

/* ---- duplicates ---- */

struct same_set {
    bool exact_too;
    double near;
    hashes exact, bands;
    uint32_t *minima; /* [n, MINIMA] of the documents that stay */
    uint32_t *next;   /* [n, BANDS] the document before in this band's chain */
    size_t n, cap_minima, cap_next;
    uint64_t seed[MINIMA];
};

mote_status same_open(same_set **out, const mote_data_options *o, mote_error *err) {
    same_set *s = *out = MEM_NEW(same_set);
    if (!s) FAIL(err, MOTE_E_MEMORY, "out of memory");
    s->exact_too = !o->keep_duplicates;
    s->near = o->near > 0 ? o->near : 0.8;
    for (uint64_t i = 0; i < MINIMA; i++) s->seed[i] = mix(i + 1) | 1;
    return MOTE_OK;
}

void same_close(same_set **s) {
    if (!*s) return;
    mem_free((*s)->exact.slot);
    mem_free((*s)->bands.slot);
    mem_free((*s)->minima);
    mem_free((*s)->next);
    mem_free(*s);
    *s = NULL;
}

static void sign(const same_set *s, const words *w, uint32_t minima[MINIMA]) {
    size_t n = w->n >= SHINGLE ? w->n - SHINGLE + 1 : 1, k = MIN(w->n, SHINGLE);
    for (size_t m = 0; m < MINIMA; m++) minima[m] = UINT32_MAX;
    for (size_t i = 0; i < n; i++) {
        uint64_t h = words_gram(w, i, k);
        for (size_t m = 0; m < MINIMA; m++) {
            uint32_t x = (uint32_t)((h * s->seed[m]) >> 32); /* multiply-shift hashing */
            minima[m] = MIN(minima[m], x);
        }
    }
}

static double agreement(const uint32_t *a, const uint32_t *b) {
    size_t same = 0;
    for (size_t m = 0; m < MINIMA; m++) same += a[m] == b[m];
    return (double)same / MINIMA;
}

static mote_status near_check(same_set *s, const words *w, bool *hit, mote_error *err) {
    uint32_t minima[MINIMA];
    struct slot *slots[BANDS];
    sign(s, w, minima);
    *hit = false;
    uint64_t keys[BANDS];
    for (size_t b = 0; b < BANDS; b++) {
        uint64_t key = mix(b + 1);
        for (size_t r = 0; r < ROWS; r++) key = mix(key ^ minima[b * ROWS + r]);
        keys[b] = key | 1;
        TRY(hashes_put(&s->bands, keys[b], &slots[b], err));
        for (uint32_t other = slots[b]->value; other != UINT32_MAX && !*hit; other = s->next[other * BANDS + b])
            *hit = agreement(minima, s->minima + (size_t)other * MINIMA) >= s->near;
        if (*hit) return MOTE_OK;
    }
    TRY(mem_grow(&s->minima, &s->cap_minima, (s->n + 1) * MINIMA, sizeof *s->minima, SIZE_MAX / 8, err));
    TRY(mem_grow(&s->next, &s->cap_next, (s->n + 1) * BANDS, sizeof *s->next, SIZE_MAX / 8, err));
    memcpy(s->minima + s->n * MINIMA, minima, sizeof minima);
    for (size_t b = 0; b < BANDS; b++) {
        struct slot *slot = hashes_find(&s->bands, keys[b]); /* the table may have moved since */
        s->next[s->n * BANDS + b] = slot->value;
        slot->value = (uint32_t)s->n;
    }
    s->n++;
    return MOTE_OK;
}

mote_status same_check(same_set *s, const words *w, mote_data_reason *reason, mote_error *err) {
    *reason = MOTE_DATA_REASONS;
    if (!w->n) return MOTE_OK;
    struct slot *slot;
    if (s->exact_too) {
        TRY(hashes_put(&s->exact, words_gram(w, 0, w->n) | 1, &slot, err));
        if (slot->value != UINT32_MAX) {
            *reason = MOTE_DATA_DUPLICATE;
            return MOTE_OK;
        }
        slot->value = 0;
    }
    if (s->near >= 1) return MOTE_OK;
    bool hit;
    TRY(near_check(s, w, &hit, err));
    if (hit) *reason = MOTE_DATA_NEAR;
    return MOTE_OK;
}

/* ---- evaluation files ---- */

struct gram_set {
    size_t n_words;      /* of a full sequence */
    hashes grams;
    bool *lengths;       /* [n_words + 1] lengths that occur: shorter ones are whole evaluation strings */
    words words;
};

mote_status gram_open(gram_set **out, size_t n_words, mote_error *err) {
    gram_set *g = *out = MEM_NEW(gram_set);
    if (!g) FAIL(err, MOTE_E_MEMORY, "out of memory");
    g->n_words = MAX(n_words, GRAM_LEAST);
    g->lengths = MEM_NEW_N(bool, g->n_words + 1);
    if (g->lengths) return MOTE_OK;
    gram_close(out);
    FAIL(err, MOTE_E_MEMORY, "out of memory");
}

void gram_close(gram_set **g) {
    if (!*g) return;
    words_free(&(*g)->words);
    mem_free((*g)->grams.slot);
    mem_free((*g)->lengths);
    mem_free(*g);
    *g = NULL;
}

static mote_status add_text(gram_set *g, str text, mote_error *err) {
    TRY(words_of(&g->words, text, err));
    size_t n = g->words.n, len = MIN(n, g->n_words);
    struct slot *slot;
    if (len < GRAM_LEAST) return MOTE_OK;
    g->lengths[len] = true;
    for (size_t i = 0; i + len <= n; i++) TRY(hashes_put(&g->grams, words_gram(&g->words, i, len) | 1, &slot, err));
    return MOTE_OK;
}

/* Every string of a tree; JSON's depth is bounded by the parser. */
static mote_status add_tree(gram_set *g, const json_t *v, mote_error *err) {
    if (json_is_string(v)) return add_text(g, (str){json_string_value(v), json_string_length(v)}, err);
    for (size_t i = 0; json_is_array(v) && i < json_array_size(v); i++) TRY(add_tree(g, json_array_get(v, i), err));
    if (!json_is_object(v)) return MOTE_OK;
    for (void *it = json_object_iter((json_t *)(uintptr_t)v); it; it = json_object_iter_next((json_t *)(uintptr_t)v, it))
        TRY(add_tree(g, json_object_iter_value(it), err));
    return MOTE_OK;
}

mote_status gram_add_file(gram_set *g, const char *path, mote_error *err) {
    file_map m;
    TRY(file_open(&m, path, FILE_MAP, err));
    str all = {(const char *)m.p, m.n};
    json_t *tree = NULL;
    mote_status st = MOTE_OK;
    if (all.n > FILE_MAX_BYTES) FAILG(st, err, MOTE_E_LIMIT, "%s: an evaluation file of %zu bytes", path, all.n);
    if (all.n && (all.p[0] == '[' || all.p[0] == '{') && json_parse(&tree, all, path, NULL) == MOTE_OK) {
        st = add_tree(g, tree, err);
        goto out;
    }
    for (size_t i = 0; i < all.n;) {
        size_t end = MIN(str_find(all, STR("\n"), i), all.n);
        str line = str_sub(all, i, end - i);
        json_t *one = NULL;
        if (line.n && line.p[0] == '{' && json_parse(&one, line, path, NULL) == MOTE_OK) st = add_tree(g, one, err);
        else st = add_text(g, line, err);
        json_decref(one);
        if (st != MOTE_OK) goto out;
        i = end + 1;
    }
out:
    json_decref(tree);
    file_close(&m);
    return st;
}

bool gram_hits(const gram_set *g, const words *w) {
    if (!g->grams.n) return false;
    for (size_t len = GRAM_LEAST; len <= g->n_words; len++) {
        if (!g->lengths[len]) continue;
        for (size_t i = 0; i + len <= w->n; i++)
            if (hashes_find(&g->grams, words_gram(w, i, len) | 1)->key) return true;
    }
    return false;
}
