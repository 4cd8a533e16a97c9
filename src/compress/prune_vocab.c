/* prune_vocab.c: a smaller vocabulary with a tokenizer that still takes every text.
 *
 * Merging tokenizers reach a token over others: those stay with it. A merge stays when both its sides and its result do, in
 * its old order; then a token that stays is made exactly as before, by the same merges: at each step the best of
 * the old merges is among those that are left. Text that has lost its tokens falls apart into smaller ones, at last bytes. */
#include "compress/pruning.h"

#include <math.h>
#include <stdlib.h>

enum { SYMBOLS_MAX = 512 };
/* What a text does not have it may have by chance. Merges are numbered by frequency in a much larger one, so counts are
 * smoothed with Zipf's law over the ids, which weighs so many times the text (SmolLM2 to 24000 tokens by 1.7 M tokens of prose, bits per
 * byte of chats, by which it was chosen: 0.628 with 12, 0.623 with 40, the first 24000: 0.627; of WikiText-2: 1.146, 1.149, 1.152). */
#define ZIPF_SHARE 40.0

typedef struct pair { /* of token ids; key 0: none (two zeros merge into nothing) */
    uint64_t key;
    uint32_t rank, made;
} pair;

typedef struct vocab {
    prune *p;
    const kv *tokens, *merges, *scores;
    size_t n, n_rows;      /* tokens; rows of the embedding */
    bool *keep;
    size_t n_kept;
    uint64_t *count;
    pair *pairs;
    size_t mask;
    int32_t *path;         /* tokens on the way to one */
    size_t n_path;
} vocab;

/* ---- merges ---- */
static pair *find_pair(const vocab *v, int32_t left, int32_t right) {
    uint64_t key = ((uint64_t)(uint32_t)left << 32 | (uint32_t)right) + 1;
    size_t at = (size_t)(key * 0x9E3779B97F4A7C15u >> 20) & v->mask;
    while (v->pairs[at].key && v->pairs[at].key != key) at = (at + 1) & v->mask;
    return &v->pairs[at];
}

/* The sides and the result of merge i as tokens; false when one of them is none. */
static bool merge_tokens(const vocab *v, uint64_t i, int32_t *left, int32_t *right, int32_t *made) {
    char joined[1024];
    str s = kv_at_str(v->merges, i);
    size_t space = s.n ? str_find(s, STR(" "), 1) : SIZE_MAX;
    if (space == SIZE_MAX || s.n > sizeof joined) return false;
    memcpy(joined, s.p, space);
    memcpy(joined + space, s.p + space + 1, s.n - space - 1);
    *left = tok_find(v->p->vocab, str_sub(s, 0, space));
    *right = tok_find(v->p->vocab, str_sub(s, space + 1, s.n - space - 1));
    *made = tok_find(v->p->vocab, (str){joined, s.n - 1});
    return *left >= 0 && *right >= 0 && *made >= 0;
}

static mote_status index_merges(vocab *v, mote_error *err) {
    size_t slots = 16;
    int32_t left, right, made;
    while (v->merges && slots < 2 * v->merges->count) slots *= 2;
    v->mask = slots - 1;
    TRY(prune_alloc(v->p, slots, sizeof *v->pairs, &v->pairs, err));
    for (uint64_t i = 0; v->merges && i < v->merges->count; i++) {
        if (!merge_tokens(v, i, &left, &right, &made)) continue;
        pair *at = find_pair(v, left, right);
        if (at->key) continue; /* the first counts */
        *at = (pair){((uint64_t)(uint32_t)left << 32 | (uint32_t)right) + 1, (uint32_t)i, (uint32_t)made};
    }
    return MOTE_OK;
}

/* What merging the symbols a and b makes, and how soon; TOK_NONE: nothing. */
static int32_t joined(const vocab *v, str text, const size_t *from, size_t a, const int32_t *sym, double *rank) {
    if (v->merges) {
        if (sym[a] < 0 || sym[a + 1] < 0) return TOK_NONE;
        const pair *m = find_pair(v, sym[a], sym[a + 1]);
        *rank = (double)m->rank;
        return m->key ? (int32_t)m->made : TOK_NONE;
    }
    int32_t id = tok_find(v->p->vocab, str_sub(text, from[a], from[a + 2] - from[a]));
    double score = 0;
    if (id < 0 || tok_is_control(v->p->vocab, id)) return TOK_NONE;
    (void)kv_at_num(v->scores, (uint64_t)id, &score);
    *rank = -score;
    return id;
}

/* The tokens over which merging comes to token id; none when it does not come there. */
static void find_path(vocab *v, int32_t id) {
    str text = tok_text(v->p->vocab, id);
    size_t from[SYMBOLS_MAX + 1], n = 0;
    int32_t sym[SYMBOLS_MAX];
    v->n_path = 0;
    for (size_t at = 0; at < text.n && n < SYMBOLS_MAX; n++) {
        size_t len = 1;
        while (at + len < text.n && ((unsigned char)text.p[at + len] & 0xC0) == 0x80) len++;
        from[n] = at;
        sym[n] = tok_find(v->p->vocab, str_sub(text, at, len));
        if (v->merges && sym[n] >= 0) v->path[v->n_path++] = sym[n];
        at += len;
    }
    if (n == SYMBOLS_MAX) n = v->n_path = 0;
    from[n] = text.n;
    while (n > 1) {
        size_t best = SIZE_MAX;
        double least = 0, rank;
        int32_t made = TOK_NONE;
        for (size_t i = 0; i + 1 < n; i++) {
            int32_t id_here = joined(v, text, from, i, sym, &rank);
            if (id_here >= 0 && (best == SIZE_MAX || rank < least)) best = i, least = rank, made = id_here;
        }
        if (best == SIZE_MAX) break;
        v->path[v->n_path++] = made;
        sym[best] = made;
        memmove(sym + best + 1, sym + best + 2, (n - best - 2) * sizeof *sym);
        memmove(from + best + 1, from + best + 2, (n - best - 1) * sizeof *from);
        n--;
    }
    if (n != 1 || sym[0] != id) v->n_path = 0;
}

/* ---- choosing ---- */
static void keep_one(vocab *v, int32_t id) {
    if (id < 0 || (size_t)id >= v->n || v->keep[id]) return;
    v->keep[id] = true;
    v->n_kept++;
}

/* Special tokens that nothing uses are named so. */
static bool is_spare(str text) {
    return str_find(text, STR("unused"), 0) != SIZE_MAX || str_find(text, STR("reserved"), 0) != SIZE_MAX;
}

static void keep_necessary(vocab *v) {
    const tok_vocab *t = v->p->vocab;
    for (size_t i = 0; i < v->n; i++) {
        tok_type type = tok_type_of(t, (int32_t)i);
        bool special = type == TOK_CONTROL || type == TOK_UNKNOWN || type == TOK_USER_DEFINED;
        if (type == TOK_BYTE || (special && !is_spare(tok_text(t, (int32_t)i))) || (tok_is_eog(t, (int32_t)i) && special)) keep_one(v, (int32_t)i);
        if (type == TOK_NORMAL && v->merges && tok_piece(t, (int32_t)i, 0).n == 1) keep_one(v, (int32_t)i); /* byte-level */
    }
    for (int r = 0; r < TOK_ROLES; r++) keep_one(v, tok_id(t, (tok_role)r));
}

/* With what it is made of, where there is room for all of it. */
static void keep_with_path(vocab *v, int32_t id, size_t most) {
    tok_kind kind = tok_vocab_kind(v->p->vocab);
    if (v->keep[id]) return;
    v->n_path = 0;
    if (kind == TOK_KIND_BPE || kind == TOK_KIND_SPM) find_path(v, id);
    size_t more = 1;
    for (size_t i = 0; i < v->n_path; i++) more += v->path[i] != id && !v->keep[v->path[i]];
    if (v->n_kept + more > most) return;
    for (size_t i = 0; i < v->n_path; i++) keep_one(v, v->path[i]);
    keep_one(v, id);
}

typedef struct ranked {
    double count;
    int32_t id;
} ranked;
static int more_frequent(const void *a, const void *b) {
    const ranked *x = a, *y = b;
    if (x->count != y->count) return x->count > y->count ? -1 : 1;
    return x->id < y->id ? -1 : x->id > y->id;
}

static mote_status choose(vocab *v, mote_error *err) {
    prune *p = v->p;
    const char *by = p->o->vocab_by ? p->o->vocab_by : "frequency";
    bool first = strcmp(by, "first") == 0;
    size_t want = p->o->n_vocab;
    if (!first && strcmp(by, "frequency") != 0) FAIL(err, MOTE_E_USAGE, "tokens can be chosen by frequency or first, not '%s'", by);
    ranked *list;
    TRY(prune_alloc(p, v->n, sizeof *list, &list, err));
    if (!first) {
        TRY(prune_tokens(p, SIZE_MAX / 32, err));
        for (size_t i = 0; i < p->ids.n; i++)
            if (p->ids.p[i] >= 0 && (size_t)p->ids.p[i] < v->n) v->count[p->ids.p[i]]++;
    }
    keep_necessary(v);
    if (v->n_kept > want)
        FAIL(err, MOTE_E_RANGE, "%zu tokens are too few: bytes and special tokens alone are %zu", want, v->n_kept);
    double prior = first ? 0 : ZIPF_SHARE * (double)p->ids.n / log((double)v->n + 1);
    for (size_t i = 0; i < v->n; i++) list[i] = (ranked){(double)v->count[i] + prior / (double)(i + 1), (int32_t)i};
    qsort(list, v->n, sizeof *list, more_frequent);
    for (size_t i = 0; i < v->n && v->n_kept < want; i++)
        if (tok_type_of(p->vocab, list[i].id) == TOK_NORMAL) keep_with_path(v, list[i].id, want);
    return prune_progress(p, "choosing tokens", 1, 1, err);
}

/* ---- writing ---- */
static mote_status pick_strings(vocab *v, const kv *k, const bool *keep, mote_error *err) {
    str *s = ARENA_NEW_N(&v->p->mem, str, (size_t)k->count + 1);
    kv new = *k;
    if (!s) FAIL(err, MOTE_E_MEMORY, "out of memory");
    new.count = 0;
    for (uint64_t i = 0; i < k->count; i++)
        if (keep[i]) s[new.count++] = kv_at_str(k, i);
    new.strings = s;
    return edit_set_kv(v->p->edit, &new, err);
}

static mote_status pick_numbers(vocab *v, const kv *k, mote_error *err) {
    size_t size = k->elem == KV_F32 || k->elem == KV_I32 || k->elem == KV_U32 ? 4 : k->elem == KV_F64 || k->elem == KV_I64 ? 8 : 1;
    unsigned char *to = arena_alloc(&v->p->mem, v->n_kept, size);
    kv new = *k;
    if (!to) FAIL(err, MOTE_E_MEMORY, "out of memory");
    if (k->count < v->n || k->elem == KV_STRING || k->elem == KV_U16 || k->elem == KV_I16)
        FAIL(err, MOTE_E_MISMATCH, "metadata '%.*s' does not fit the %zu tokens", STR_ARG(k->key), v->n);
    new.elems = to;
    new.count = 0;
    for (size_t i = 0; i < v->n; i++)
        if (v->keep[i]) memcpy(to + size * new.count++, k->elems + size * i, size);
    return edit_set_kv(v->p->edit, &new, err);
}

/* Ids in the metadata: of roles, and lists of them. */
static mote_status remap_ids(vocab *v, const int32_t *new_id, mote_error *err) {
    prune *p = v->p;
    for (size_t i = 0; i < model_file_n_kv(p->f); i++) {
        const kv *k = model_file_kv(p->f, i);
        char key[256];
        (void)snprintf(key, sizeof key, "%.*s", (int)MIN(k->key.n, (size_t)200), k->key.p);
        if (!str_starts(k->key, STR("tokenizer.ggml."))) continue;
        bool one = str_ends(k->key, STR("_token_id")), list = k->type == KV_ARRAY && str_ends(k->key, STR("_token_ids"));
        if (one && k->type != KV_ARRAY && k->type != KV_STRING) {
            bool there = k->i >= 0 && (uint64_t)k->i < v->n && new_id[k->i] >= 0;
            TRY(there ? edit_set_u32(p->edit, key, (uint32_t)new_id[k->i], err) : edit_drop_kv(p->edit, key, err));
        }
        if (!list) continue;
        int32_t *to = ARENA_NEW_N(&p->mem, int32_t, (size_t)k->count + 1);
        kv new = {.key = k->key, .type = KV_ARRAY, .elem = KV_I32};
        if (!to) FAIL(err, MOTE_E_MEMORY, "out of memory");
        for (uint64_t j = 0; j < k->count; j++) {
            int64_t id;
            if (kv_at_int(k, j, &id) && id >= 0 && (uint64_t)id < v->n && new_id[id] >= 0) to[new.count++] = new_id[id];
        }
        new.elems = (const unsigned char *)to;
        TRY(edit_set_kv(p->edit, &new, err));
    }
    return MOTE_OK;
}

static mote_status write_vocab(vocab *v, mote_error *err) {
    prune *p = v->p;
    int32_t *new_id, left, right, made;
    char key[160];
    prune_plan plan = {.n_vocab = v->n_kept};
    TRY(prune_alloc(p, v->n, sizeof *new_id, &new_id, err));
    TRY(prune_alloc(p, v->n_kept, sizeof *plan.vocab, &plan.vocab, err));
    for (size_t i = 0, at = 0; i < v->n; i++) {
        new_id[i] = v->keep[i] ? (int32_t)at : TOK_NONE;
        if (v->keep[i]) plan.vocab[at++] = (uint32_t)i;
    }
    TRY(pick_strings(v, v->tokens, v->keep, err));
    static const char *const numbers[] = {"tokenizer.ggml.scores", "tokenizer.ggml.token_type"};
    for (size_t i = 0; i < COUNT_OF(numbers); i++) {
        const kv *k = model_file_find(p->f, numbers[i]);
        if (k && k->type == KV_ARRAY) TRY(pick_numbers(v, k, err));
    }
    if (v->merges) {
        bool *keep;
        TRY(prune_alloc(p, (size_t)v->merges->count + 1, sizeof *keep, &keep, err));
        for (uint64_t i = 0; i < v->merges->count; i++)
            keep[i] = merge_tokens(v, i, &left, &right, &made) && v->keep[left] && v->keep[right] && v->keep[made];
        TRY(pick_strings(v, v->merges, keep, err));
    }
    TRY(remap_ids(v, new_id, err));
    if (hp_has(p->m, "vocab_size")) TRY(edit_set_u32(p->edit, prune_key(p, "vocab_size", key), (uint32_t)v->n_kept, err));
    TRY(edit_drop_kv(p->edit, "tokenizer.huggingface.json", err));
    return prune_slice(p, &plan, NULL, NULL, err);
}

mote_status prune_vocab(prune *p, mote_error *err) {
    vocab v = {.p = p, .n_rows = p->m->hp.n_vocab};
    v.tokens = model_file_find(p->f, "tokenizer.ggml.tokens");
    v.scores = model_file_find(p->f, "tokenizer.ggml.scores");
    if (!v.tokens || v.tokens->type != KV_ARRAY || v.tokens->elem != KV_STRING)
        FAIL(err, MOTE_E_UNSUPPORTED, "the model has no list of tokens in its metadata");
    TRY(tok_open(&p->vocab, p->f, NULL, err));
    tok_kind kind = tok_vocab_kind(p->vocab);
    if (kind != TOK_KIND_BPE && kind != TOK_KIND_SPM && kind != TOK_KIND_UNIGRAM)
        FAIL(err, MOTE_E_UNSUPPORTED, "vocabularies of kind %s cannot be trimmed; BPE, SPM and unigram can", tok_kind_name(kind));
    v.merges = kind == TOK_KIND_BPE ? model_file_find(p->f, "tokenizer.ggml.merges") : NULL;
    if (v.merges && (v.merges->type != KV_ARRAY || v.merges->elem != KV_STRING)) v.merges = NULL;
    if (kind == TOK_KIND_BPE && !v.merges) FAIL(err, MOTE_E_UNSUPPORTED, "the tokenizer has no merges");
    if (kind == TOK_KIND_SPM && !v.scores) FAIL(err, MOTE_E_UNSUPPORTED, "the tokenizer has no scores");
    v.n = (size_t)v.tokens->count;
    if (v.n > v.n_rows) FAIL(err, MOTE_E_MISMATCH, "%zu tokens, but embeddings of %zu", v.n, v.n_rows);
    if (p->o->n_vocab > v.n) FAIL(err, MOTE_E_RANGE, "%zu tokens cannot be left: there are %zu", p->o->n_vocab, v.n);
    TRY(prune_alloc(p, v.n, sizeof *v.keep, &v.keep, err));
    TRY(prune_alloc(p, v.n, sizeof *v.count, &v.count, err));
    TRY(prune_alloc(p, 2 * SYMBOLS_MAX, sizeof *v.path, &v.path, err));
    TRY(index_merges(&v, err));
    TRY(choose(&v, err));
    TRY(write_vocab(&v, err));
    uint64_t covered = 0, all = 0;
    for (size_t i = 0; i < v.n; i++) {
        all += v.count[i];
        covered += v.keep[i] ? v.count[i] : 0;
    }
    prune_say(p, "vocabulary: %zu of %zu tokens are left", v.n_kept, v.n);
    if (all) prune_say(p, "  they were %.2f %% of the text's tokens", 100 * (double)covered / (double)all);
    (void)json_object_set_new(p->json, "tokens_left", json_integer((json_int_t)v.n_kept));
    (void)json_object_set_new(p->json, "covered", json_real(all ? (double)covered / (double)all : -1));
    return MOTE_OK;
}
