/* map.c: hash tables of symbols and merges, and the byte trie.
 *
 * All three use open addressing with linear probing at a load of at most two thirds, and a seed that no file can
 * foresee: results never depend on it, only the time a hostile vocabulary takes. */
#include "token/token_int.h"

static uint64_t fresh_seed(const void *p) {
    uint64_t z = clock_ns() ^ (uint64_t)(uintptr_t)p;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static inline uint64_t mix(uint64_t a, uint64_t b) {
    __extension__ unsigned __int128 m = (unsigned __int128)a * b;
    return (uint64_t)m ^ (uint64_t)(m >> 64);
}

static inline uint64_t load_tail(const char *p, size_t n) { /* n < 8 bytes */
    uint64_t w = 0;
    for (size_t i = 0; i < n; i++) w |= (uint64_t)(unsigned char)p[i] << 8 * i;
    return w;
}

static inline uint32_t hash_text(const char *p, size_t n, uint64_t seed) {
    uint64_t h = seed ^ n * 0x9E3779B97F4A7C15u;
    while (n >= 8) {
        uint64_t w;
        memcpy(&w, p, 8);
        h = mix(h ^ w, 0xa0761d6478bd642fu);
        p += 8;
        n -= 8;
    }
    h = mix(h ^ load_tail(p, n), 0xe7037ed1a0b428dbu);
    return (uint32_t)(h ^ h >> 32);
}

static uint32_t table_size(size_t n) {
    uint32_t size = 16;
    while (size < n + n / 2) size *= 2;
    return size;
}

mote_status tok_map_init(tok_map *m, size_t n, mote_error *err) {
    uint32_t size = table_size(n);
    m->slot = mem_resize(NULL, size, sizeof *m->slot);
    if (!m->slot) FAIL(err, MOTE_E_MEMORY, "out of memory for a table of %zu tokens", n);
    memset(m->slot, 0xff, size * sizeof *m->slot);
    m->mask = size - 1;
    m->n = 0;
    m->seed = fresh_seed(m->slot);
    return MOTE_OK;
}

void tok_map_free(tok_map *m) {
    mem_free(m->slot);
    *m = (tok_map){0};
}

static mote_status map_double(tok_map *m, mote_error *err) {
    tok_map old = *m;
    TRY(tok_map_init(m, old.mask + (size_t)1, err));
    m->seed = old.seed;
    m->n = old.n;
    for (size_t i = 0; i <= old.mask; i++) {
        if (old.slot[i].id < 0) continue;
        uint32_t at = old.slot[i].hash & m->mask;
        while (m->slot[at].id >= 0) at = (at + 1) & m->mask;
        m->slot[at] = old.slot[i];
    }
    mem_free(old.slot);
    return MOTE_OK;
}

mote_status tok_map_put(tok_map *m, const str *texts, int32_t id, mote_error *err) {
    if (m->n + m->n / 2 > m->mask) {
        tok_map kept = *m;
        mote_status s = map_double(m, err);
        if (s != MOTE_OK) {
            *m = kept;
            return s;
        }
    }
    str s = texts[id];
    uint32_t h = hash_text(s.p, s.n, m->seed), at = h & m->mask;
    for (; m->slot[at].id >= 0; at = (at + 1) & m->mask) {
        if (m->slot[at].hash == h && str_eq(texts[m->slot[at].id], s)) {
            m->slot[at].id = id;
            return MOTE_OK;
        }
    }
    m->slot[at] = (struct tok_slot){h, id};
    m->n++;
    return MOTE_OK;
}

static int32_t find(const tok_map *m, const str *texts, uint32_t h, const char *p, size_t n) {
    for (uint32_t at = h & m->mask; m->slot[at].id >= 0; at = (at + 1) & m->mask) {
        const str *t = &texts[m->slot[at].id];
        if (m->slot[at].hash == h && t->n == n && (n == 0 || memcmp(t->p, p, n) == 0)) return m->slot[at].id;
    }
    return TOK_NONE;
}

int32_t tok_map_get(const tok_map *m, const str *texts, const char *p, size_t n) {
    return find(m, texts, hash_text(p, n, m->seed), p, n);
}

void tok_map_get_many(const tok_map *m, const str *texts, const str *keys, int32_t *ids, size_t n) {
    uint32_t h[TOK_MANY_MAX];
    for (size_t i = 0; i < n; i++) {
        h[i] = hash_text(keys[i].p, keys[i].n, m->seed);
        __builtin_prefetch(&m->slot[h[i] & m->mask]);
    }
    for (size_t i = 0; i < n; i++) {
        ids[i] = m->slot[h[i] & m->mask].id; /* most likely the one */
        if (ids[i] >= 0) __builtin_prefetch(&texts[ids[i]]);
    }
    for (size_t i = 0; i < n; i++)
        if (ids[i] >= 0) __builtin_prefetch(texts[ids[i]].p);
    for (size_t i = 0; i < n; i++) ids[i] = find(m, texts, h[i], keys[i].p, keys[i].n);
}

static inline uint32_t hash_pair(int32_t left, int32_t right, uint64_t seed) {
    uint64_t h = mix(((uint64_t)(uint32_t)left << 32 | (uint32_t)right) ^ seed, 0x9E3779B97F4A7C15u);
    return (uint32_t)(h ^ h >> 29);
}

mote_status tok_merges_init(tok_merges *m, size_t n, mote_error *err) {
    uint32_t size = table_size(n);
    m->slot = mem_resize(NULL, size, sizeof *m->slot);
    if (!m->slot) FAIL(err, MOTE_E_MEMORY, "out of memory for a table of %zu merges", n);
    memset(m->slot, 0xff, size * sizeof *m->slot);
    m->mask = size - 1;
    m->seed = fresh_seed(m->slot);
    return MOTE_OK;
}

void tok_merges_free(tok_merges *m) {
    mem_free(m->slot);
    *m = (tok_merges){0};
}

void tok_merges_expect(const tok_merges *m, int32_t left, int32_t right) {
    __builtin_prefetch(&m->slot[hash_pair(left, right, m->seed) & m->mask], 1);
}

void tok_merges_put(tok_merges *m, int32_t left, int32_t right, uint32_t rank, int32_t made) {
    uint32_t at = hash_pair(left, right, m->seed) & m->mask;
    for (; m->slot[at].left >= 0; at = (at + 1) & m->mask)
        if (m->slot[at].left == left && m->slot[at].right == right) return;
    m->slot[at] = (struct tok_merge){left, right, rank, made};
}

const struct tok_merge *tok_merges_get(const tok_merges *m, int32_t left, int32_t right) {
    if (!m->slot) return NULL;
    for (uint32_t at = hash_pair(left, right, m->seed) & m->mask; m->slot[at].left >= 0; at = (at + 1) & m->mask)
        if (m->slot[at].left == left && m->slot[at].right == right) return &m->slot[at];
    return NULL;
}

/* ---- the trie ---- */

static inline uint32_t hash_edge(uint32_t key, uint64_t seed) {
    uint64_t h = (key ^ seed) * 0x9E3779B97F4A7C15u;
    return (uint32_t)(h >> 32);
}

mote_status tok_trie_init(tok_trie *t, mote_error *err) {
    *t = (tok_trie){.mask = 1023, .cap_nodes = 256, .n_nodes = 1};
    t->edge = mem_resize(NULL, t->mask + (size_t)1, sizeof *t->edge);
    t->value = mem_resize(NULL, t->cap_nodes, sizeof *t->value);
    if (!t->edge || !t->value) {
        tok_trie_free(t);
        FAIL(err, MOTE_E_MEMORY, "out of memory for a trie of tokens");
    }
    memset(t->edge, 0xff, (t->mask + (size_t)1) * sizeof *t->edge);
    t->value[0] = TOK_NONE;
    t->seed = fresh_seed(t->edge);
    return MOTE_OK;
}

void tok_trie_free(tok_trie *t) {
    mem_free(t->edge);
    mem_free(t->value);
    *t = (tok_trie){0};
}

static mote_status edges_double(tok_trie *t, mote_error *err) {
    uint32_t mask = t->mask * 2 + 1;
    struct tok_edge *e = mem_resize(NULL, mask + (size_t)1, sizeof *e);
    if (!e) FAIL(err, MOTE_E_MEMORY, "out of memory for a trie of %u nodes", t->n_nodes);
    memset(e, 0xff, (mask + (size_t)1) * sizeof *e);
    for (size_t i = 0; i <= t->mask; i++) {
        if (t->edge[i].from_byte == UINT32_MAX) continue;
        uint32_t at = hash_edge(t->edge[i].from_byte, t->seed) & mask;
        while (e[at].from_byte != UINT32_MAX) at = (at + 1) & mask;
        e[at] = t->edge[i];
    }
    mem_free(t->edge);
    t->edge = e;
    t->mask = mask;
    return MOTE_OK;
}

uint32_t tok_trie_step(const tok_trie *t, uint32_t node, unsigned char c) {
    uint32_t key = node << 8 | c;
    for (uint32_t at = hash_edge(key, t->seed) & t->mask; t->edge[at].from_byte != UINT32_MAX; at = (at + 1) & t->mask)
        if (t->edge[at].from_byte == key) return t->edge[at].to;
    return 0;
}

static mote_status add_child(tok_trie *t, uint32_t node, unsigned char c, uint32_t *child, mote_error *err) {
    if (t->n_nodes >= TOK_TRIE_NODES_MAX)
        FAIL(err, MOTE_E_LIMIT, "the tokens need a trie of more than %u nodes", t->n_nodes);
    if (t->n_nodes == t->cap_nodes) {
        int32_t *v = mem_resize(t->value, (size_t)t->cap_nodes * 2, sizeof *v);
        if (!v) FAIL(err, MOTE_E_MEMORY, "out of memory for a trie of %u nodes", t->n_nodes);
        t->value = v;
        t->cap_nodes *= 2;
    }
    if (t->n_nodes > t->mask / 2) TRY(edges_double(t, err));
    *child = t->n_nodes++;
    t->value[*child] = TOK_NONE;
    uint32_t key = node << 8 | c, at = hash_edge(key, t->seed) & t->mask;
    while (t->edge[at].from_byte != UINT32_MAX) at = (at + 1) & t->mask;
    t->edge[at] = (struct tok_edge){key, *child};
    return MOTE_OK;
}

static mote_status walk(tok_trie *t, str s, uint32_t *node, mote_error *err) {
    for (size_t i = 0; i < s.n; i++) {
        uint32_t next = tok_trie_step(t, *node, (unsigned char)s.p[i]);
        if (next == 0) TRY(add_child(t, *node, (unsigned char)s.p[i], &next, err));
        *node = next;
    }
    return MOTE_OK;
}

mote_status tok_trie_put(tok_trie *t, str lead, str s, int32_t value, mote_error *err) {
    uint32_t node = 0;
    TRY(walk(t, lead, &node, err));
    TRY(walk(t, s, &node, err));
    if (node) t->value[node] = value;
    return MOTE_OK;
}
