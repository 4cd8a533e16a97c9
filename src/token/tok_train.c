/* tok_train.c: counting words, then merging the most frequent pair again and again.
 *
 * A merge touches only the words that hold the pair: each pair has its count and a list of words. The counts change with
 * every merge, so the heap's entries grow stale: one that is taken out with another count than its pair's is put
 * back with the right one. */
#include "token/tok_train_int.h"

#define WORDS_MAX ((size_t)1 << 28)
#define WORD_BYTES_MAX ((size_t)4096) /* longer words are counted in pieces */
#define SYMBOLS_MAX ((size_t)1 << 31)
#define PAIRS_MAX ((size_t)1 << 30)
#define MEMORY_MAX ((size_t)1 << 36)
#define NONE UINT32_MAX

/* ---- words ---- */

static const char *const default_special[] = {"<|endoftext|>", "<|im_start|>", "<|im_end|>"};

static mote_status copy_special(tok_train *t, const tok_train_opts *o, mote_error *err) {
    const char *const *names = o->n_special ? o->special : default_special;
    size_t n = o->n_special ? o->n_special : COUNT_OF(default_special);
    const char **copy = ARENA_NEW_N(&t->mem, const char *, n);
    if (!copy) FAIL(err, MOTE_E_MEMORY, "out of memory for %zu special tokens", n);
    for (size_t i = 0; i < n; i++) {
        if (!names[i][0] || !utf8_valid(names[i], strlen(names[i]))) FAIL(err, MOTE_E_USAGE, "special token %zu is empty or not UTF-8", i + 1);
        for (size_t k = 0; k < i; k++)
            if (strcmp(names[i], names[k]) == 0) FAIL(err, MOTE_E_USAGE, "the special token '%.100s' is given twice", names[i]);
        copy[i] = arena_dup(&t->mem, str_of(names[i]));
        if (!copy[i]) FAIL(err, MOTE_E_MEMORY, "out of memory for %zu special tokens", n);
    }
    t->o.special = copy;
    t->o.n_special = n;
    return MOTE_OK;
}

mote_status tok_train_open(tok_train **out, const tok_train_opts *o, mote_error *err) {
    tok_train *t = *out = MEM_NEW(tok_train);
    if (!t) FAIL(err, MOTE_E_MEMORY, "out of memory for a vocabulary");
    mote_status st = MOTE_OK;
    arena_init(&t->mem, MEMORY_MAX);
    t->o = *o;
    if (!t->o.min_count) t->o.min_count = 2;
    t->o.pre = arena_dup(&t->mem, str_of(o->pre ? o->pre : "smollm"));
    if (!t->o.pre) FAILG(st, err, MOTE_E_MEMORY, "out of memory for a vocabulary");
    if (strcmp(t->o.pre, "smollm") != 0 && strcmp(t->o.pre, "gpt-2") != 0 && strcmp(t->o.pre, "qwen2") != 0)
        FAILG(st, err, MOTE_E_USAGE, "text is cut the way of 'smollm', 'gpt-2' or 'qwen2', not '%.60s'", t->o.pre);
    TRYG(st, copy_special(t, o, err));
    if (t->o.vocab_size < t->o.n_special + 256 || t->o.vocab_size > TOK_VOCAB_MAX)
        FAILG(st, err, MOTE_E_USAGE, "a vocabulary of %zu tokens; expected %zu (special tokens and bytes) to %zu", t->o.vocab_size,
              t->o.n_special + 256, TOK_VOCAB_MAX);
    TRYG(st, tok_pre_named(&t->pre, str_of(t->o.pre), err));
    TRYG(st, tok_cut_open(&t->cut, t->pre, err));
    return MOTE_OK;
out:
    tok_train_close(out);
    return st;
}

void tok_train_close(tok_train **out) {
    tok_train *t = *out;
    if (!t) return;
    tok_cut_close(&t->cut);
    tok_pre_free(&t->pre);
    mem_free(t->words);
    mem_free(t->word_slot);
    mem_free(t->token);
    mem_free(t->merges);
    arena_free(&t->mem);
    mem_free(t);
    *out = NULL;
}

static mote_status grow_words(tok_train *t, mote_error *err) {
    size_t n = t->word_slot ? ((size_t)t->word_mask + 1) * 2 : 4096;
    uint32_t *slot = MEM_NEW_N(uint32_t, n);
    if (!slot) FAIL(err, MOTE_E_MEMORY, "out of memory for %zu words", t->n_words);
    for (size_t i = 0; i < t->n_words; i++) {
        uint32_t at = (uint32_t)str_hash(t->words[i].text) & (uint32_t)(n - 1);
        while (slot[at]) at = (at + 1) & (uint32_t)(n - 1);
        slot[at] = (uint32_t)i + 1;
    }
    mem_free(t->word_slot);
    t->word_slot = slot;
    t->word_mask = (uint32_t)(n - 1);
    return MOTE_OK;
}

static mote_status count_word(tok_train *t, str word, mote_error *err) {
    if (t->n_words * 2 >= t->word_mask) TRY(grow_words(t, err));
    uint32_t at = (uint32_t)str_hash(word) & t->word_mask;
    for (; t->word_slot[at]; at = (at + 1) & t->word_mask) {
        struct train_word *w = &t->words[t->word_slot[at] - 1];
        if (!str_eq(w->text, word)) continue;
        w->count++;
        return MOTE_OK;
    }
    TRY(mem_grow(&t->words, &t->cap_words, t->n_words + 1, sizeof *t->words, WORDS_MAX, err));
    char *copy = arena_dup(&t->mem, word);
    if (!copy) FAIL(err, MOTE_E_MEMORY, "out of memory for %zu words", t->n_words);
    t->words[t->n_words++] = (struct train_word){.text = {copy, word.n}, .count = 1};
    t->word_slot[at] = (uint32_t)t->n_words;
    return MOTE_OK;
}

mote_status tok_train_feed(tok_train *t, str text, mote_error *err) {
    const tok_pieces *pieces;
    TRY(tok_cut_run(t->cut, text, &pieces, err));
    for (size_t i = 0, at = 0; i < pieces->n; at += pieces->len[i++])
        for (size_t k = 0; k < pieces->len[i]; k += WORD_BYTES_MAX)
            TRY(count_word(t, str_sub(text, at + k, MIN(pieces->len[i] - k, WORD_BYTES_MAX)), err));
    return MOTE_OK;
}

/* ---- pairs ---- */

typedef struct pair {
    uint64_t key; /* left << 32 | right, plus one so that 0 is an empty slot */
    int64_t count;
    uint32_t first;   /* of its list of words, NONE at the end */
    uint32_t touched; /* the last merge that made more of it */
} pair;
typedef struct place {
    uint32_t word, next;
} place;
typedef struct entry {
    int64_t count;
    uint64_t key;
} entry;

typedef struct merger {
    tok_train *t;
    int32_t *symbols;
    pair *pairs;
    size_t n_pairs, mask;
    place *places;
    size_t n_places, cap_places;
    uint32_t free_places;
    entry *heap;
    size_t n_heap, cap_heap;
    uint64_t *grown; /* keys of pairs that became more frequent in this merge */
    size_t n_grown, cap_grown;
    tok_map by_text;
    mote_error *err;
} merger;

static uint64_t key_of(int32_t left, int32_t right) { return ((uint64_t)(uint32_t)left << 32 | (uint32_t)right) + 1; }
static int32_t left_of(uint64_t key) { return (int32_t)((key - 1) >> 32); }
static int32_t right_of(uint64_t key) { return (int32_t)(uint32_t)(key - 1); }

static size_t slot_of(const merger *m, uint64_t key) {
    uint64_t h = key * 0x9E3779B97F4A7C15u;
    size_t at = (size_t)(h ^ h >> 29) & m->mask;
    while (m->pairs[at].key && m->pairs[at].key != key) at = (at + 1) & m->mask;
    return at;
}

static mote_status grow_pairs(merger *m) {
    pair *old = m->pairs;
    size_t n_old = m->pairs ? m->mask + 1 : 0, n = n_old ? n_old * 2 : 4096;
    if (n > PAIRS_MAX) FAIL(m->err, MOTE_E_LIMIT, "more than %zu different pairs", PAIRS_MAX / 2);
    m->pairs = MEM_NEW_N(pair, n);
    if (!m->pairs) {
        m->pairs = old;
        FAIL(m->err, MOTE_E_MEMORY, "out of memory for %zu pairs", n);
    }
    m->mask = n - 1;
    for (size_t i = 0; i < n_old; i++)
        if (old[i].key) m->pairs[slot_of(m, old[i].key)] = old[i];
    mem_free(old);
    return MOTE_OK;
}

static mote_status find_pair(merger *m, uint64_t key, pair **out) {
    if (m->n_pairs * 2 >= m->mask) TRY(grow_pairs(m));
    pair *p = &m->pairs[slot_of(m, key)];
    if (!p->key) {
        *p = (pair){.key = key, .first = NONE};
        m->n_pairs++;
    }
    *out = p;
    return MOTE_OK;
}

/* by more (or fewer) of the pair, in this word. */
static mote_status change(merger *m, int32_t left, int32_t right, int64_t by, uint32_t word, uint32_t round) {
    pair *p;
    TRY(find_pair(m, key_of(left, right), &p));
    p->count += by;
    if (by < 0) return MOTE_OK;
    if (p->touched != round) {
        p->touched = round;
        TRY(mem_grow(&m->grown, &m->cap_grown, m->n_grown + 1, sizeof *m->grown, PAIRS_MAX, m->err));
        m->grown[m->n_grown++] = p->key;
    }
    if (p->first != NONE && m->places[p->first].word == word) return MOTE_OK;
    uint32_t at = m->free_places;
    if (at != NONE) {
        m->free_places = m->places[at].next;
    } else {
        TRY(mem_grow(&m->places, &m->cap_places, m->n_places + 1, sizeof *m->places, UINT32_MAX - 1, m->err));
        at = (uint32_t)m->n_places++;
    }
    m->places[at] = (place){word, p->first};
    p->first = at;
    return MOTE_OK;
}

/* ---- the heap: the greatest count first, then the smaller ids ---- */

static bool before(entry a, entry b) { return a.count != b.count ? a.count > b.count : a.key < b.key; }

static mote_status push(merger *m, entry e) {
    TRY(mem_grow(&m->heap, &m->cap_heap, m->n_heap + 1, sizeof *m->heap, PAIRS_MAX, m->err));
    size_t i = m->n_heap++;
    for (; i && before(e, m->heap[(i - 1) / 2]); i = (i - 1) / 2) m->heap[i] = m->heap[(i - 1) / 2];
    m->heap[i] = e;
    return MOTE_OK;
}

static entry pop(merger *m) {
    entry top = m->heap[0], e = m->heap[--m->n_heap];
    size_t i = 0;
    for (size_t k; (k = 2 * i + 1) < m->n_heap; i = k) {
        if (k + 1 < m->n_heap && before(m->heap[k + 1], m->heap[k])) k++;
        if (!before(m->heap[k], e)) break;
        m->heap[i] = m->heap[k];
    }
    if (m->n_heap) m->heap[i] = e;
    return top;
}

static mote_status push_grown(merger *m) {
    for (size_t i = 0; i < m->n_grown; i++) {
        const pair *p = &m->pairs[slot_of(m, m->grown[i])];
        if (p->count > 0) TRY(push(m, (entry){p->count, p->key}));
    }
    m->n_grown = 0;
    return MOTE_OK;
}

/* ---- merging ---- */

/* Bytes in the order of their stand-ins, as Hugging Face numbers them. */
static void byte_order(uint8_t order[256]) {
    size_t n = 0;
    for (uint32_t cp = 0; n < 256; cp++) {
        int b = tok_char_byte(cp);
        if (b >= 0) order[n++] = (uint8_t)b;
    }
}

static mote_status first_tokens(merger *m, int32_t id_of_byte[256]) {
    tok_train *t = m->t;
    uint8_t order[256];
    t->token = MEM_NEW_N(str, t->o.vocab_size);
    t->merges = MEM_NEW_N(struct train_merge, t->o.vocab_size);
    char *bytes = arena_alloc(&t->mem, 256, 1);
    if (!t->token || !t->merges || !bytes) FAIL(m->err, MOTE_E_MEMORY, "out of memory for %zu tokens", t->o.vocab_size);
    TRY(tok_map_init(&m->by_text, t->o.vocab_size, m->err));
    for (size_t i = 0; i < t->o.n_special; i++) {
        t->token[t->n_tokens++] = str_of(t->o.special[i]);
        TRY(tok_map_put(&m->by_text, t->token, (int32_t)i, m->err));
    }
    byte_order(order);
    for (size_t i = 0; i < 256; i++) {
        bytes[i] = (char)order[i];
        id_of_byte[order[i]] = (int32_t)t->n_tokens;
        t->token[t->n_tokens] = (str){bytes + i, 1};
        TRY(tok_map_put(&m->by_text, t->token, (int32_t)t->n_tokens++, m->err));
    }
    return MOTE_OK;
}

static mote_status first_pairs(merger *m) {
    tok_train *t = m->t;
    int32_t id_of_byte[256];
    size_t total = 0;
    TRY(first_tokens(m, id_of_byte));
    for (size_t i = 0; i < t->n_words; i++) total += t->words[i].text.n;
    if (total > SYMBOLS_MAX) FAIL(m->err, MOTE_E_LIMIT, "different words of %zu letters together, the limit is %zu", total, SYMBOLS_MAX);
    m->symbols = MEM_NEW_N(int32_t, total ? total : 1);
    if (!m->symbols) FAIL(m->err, MOTE_E_MEMORY, "out of memory for %zu letters", total);
    size_t at = 0;
    for (size_t i = 0; i < t->n_words; i++) {
        struct train_word *w = &t->words[i];
        w->from = (uint32_t)at;
        w->n = (uint32_t)w->text.n;
        for (size_t k = 0; k < w->text.n; k++) m->symbols[at++] = id_of_byte[(unsigned char)w->text.p[k]];
        for (size_t k = 1; k < w->text.n; k++)
            TRY(change(m, m->symbols[at - k - 1], m->symbols[at - k], (int64_t)w->count, (uint32_t)i, 1));
    }
    return push_grown(m);
}

static mote_status merge_in_word(merger *m, uint32_t word, int32_t left, int32_t right, int32_t made, uint32_t round) {
    struct train_word *w = &m->t->words[word];
    int32_t *s = m->symbols + w->from;
    int64_t count = (int64_t)w->count;
    uint32_t out = 0;
    for (uint32_t i = 0; i < w->n;) {
        if (s[i] != left || i + 1 >= w->n || s[i + 1] != right) {
            s[out++] = s[i++];
            continue;
        }
        if (out) {
            TRY(change(m, s[out - 1], left, -count, word, round));
            TRY(change(m, s[out - 1], made, count, word, round));
        }
        i += 2;
        if (i < w->n) {
            TRY(change(m, right, s[i], -count, word, round));
            TRY(change(m, made, s[i], count, word, round));
        }
        s[out++] = made;
    }
    w->n = out;
    return MOTE_OK;
}

/* The id of left+right: a new token, unless there is one of that text already. TOK_NONE: it would read as a special token. */
static mote_status name_merge(merger *m, int32_t left, int32_t right, int32_t *made) {
    tok_train *t = m->t;
    str a = t->token[left], b = t->token[right];
    char *text = arena_alloc(&t->mem, a.n + b.n, 1);
    if (!text) FAIL(m->err, MOTE_E_MEMORY, "out of memory for %zu tokens", t->n_tokens);
    memcpy(text, a.p, a.n);
    memcpy(text + a.n, b.p, b.n);
    *made = tok_map_get(&m->by_text, t->token, text, a.n + b.n);
    if (*made >= 0) {
        if ((size_t)*made < t->o.n_special) *made = TOK_NONE;
        return MOTE_OK;
    }
    *made = (int32_t)t->n_tokens;
    t->token[t->n_tokens] = (str){text, a.n + b.n};
    return tok_map_put(&m->by_text, t->token, (int32_t)t->n_tokens++, m->err);
}

static mote_status merge_pair(merger *m, uint64_t key, uint32_t round) {
    tok_train *t = m->t;
    int32_t left = left_of(key), right = right_of(key), made = TOK_NONE;
    TRY(name_merge(m, left, right, &made));
    pair *p = &m->pairs[slot_of(m, key)];
    uint32_t at = p->first;
    p->first = NONE;
    if (made == TOK_NONE) return MOTE_OK;
    t->merges[t->n_merges++] = (struct train_merge){left, right, made};
    while (at != NONE) {
        place here = m->places[at];
        m->places[at].next = m->free_places;
        m->free_places = at;
        TRY(merge_in_word(m, here.word, left, right, made, round));
        at = here.next;
    }
    return push_grown(m);
}

static mote_status merge_all(merger *m) {
    tok_train *t = m->t;
    TRY(first_pairs(m));
    for (uint32_t round = 2; t->n_tokens < t->o.vocab_size && t->n_merges < t->o.vocab_size && m->n_heap; round++) {
        entry top = pop(m);
        int64_t count = m->pairs[slot_of(m, top.key)].count;
        if (count != top.count) {
            if (count > 0) TRY(push(m, (entry){count, top.key}));
            continue;
        }
        if ((uint64_t)count < t->o.min_count) break;
        TRY(merge_pair(m, top.key, round));
        if (t->o.progress && t->n_merges % 256 == 0 && !t->o.progress(t->o.progress_ctx, t->n_tokens, t->o.vocab_size))
            FAIL(m->err, MOTE_E_CANCELLED, "cancelled at %zu tokens", t->n_tokens);
    }
    return MOTE_OK;
}

mote_status tok_train_finish(tok_train *t, mote_error *err) {
    if (t->token) FAIL(err, MOTE_E_USAGE, "the vocabulary is finished already");
    if (!t->n_words) FAIL(err, MOTE_E_FORMAT, "no text to learn a vocabulary from");
    merger m = {.t = t, .free_places = NONE, .err = err};
    mote_status st = merge_all(&m);
    mem_free(m.symbols);
    mem_free(m.pairs);
    mem_free(m.places);
    mem_free(m.heap);
    mem_free(m.grown);
    tok_map_free(&m.by_text);
    return st;
}

size_t tok_train_count(const tok_train *t) { return t->n_tokens; }
size_t tok_train_n_merges(const tok_train *t) { return t->n_merges; }
size_t tok_train_n_words(const tok_train *t) { return t->n_words; }
str tok_train_token(const tok_train *t, size_t id) { return id < t->n_tokens ? t->token[id] : (str){NULL, 0}; }
void tok_train_merge(const tok_train *t, size_t i, int32_t *left, int32_t *right, int32_t *made) {
    *left = t->merges[i].left;
    *right = t->merges[i].right;
    *made = t->merges[i].made;
}
