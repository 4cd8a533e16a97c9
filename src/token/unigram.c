/* unigram.c: the unigram language model (Kudo 2018): of all ways to write the text as tokens, the one with the highest
 * sum of scores, by Viterbi from left to right over a trie of the tokens. */
#include "token/token_int.h"

#include <float.h>

#define UNKNOWN_PENALTY 10.0

struct step { /* the best way to reach a position */
    double score;
    uint32_t from;
    int32_t id;
};

mote_status tok_unigram_prepare(tok_vocab *v, const kv *charsmap, mote_error *err) {
    if (charsmap) {
        if (charsmap->type != KV_ARRAY || (charsmap->elem != KV_U8 && charsmap->elem != KV_I8))
            FAIL(err, MOTE_E_FORMAT, "'tokenizer.ggml.precompiled_charsmap' is not an array of bytes");
        if (charsmap->count) TRY(tok_charsmap_open(&v->charsmap, charsmap->elems, (size_t)charsmap->count, err));
    }
    double lowest = DBL_MAX;
    TRY(tok_trie_init(&v->trie, err));
    TRY(tok_trie_init(&v->user_trie, err));
    for (size_t i = 0; i < v->n; i++) {
        int t = v->type[i];
        if (v->flag[i] & TOK_FLAG_ADDED) continue;
        if (t == TOK_NORMAL) lowest = MIN(lowest, v->score[i]);
        if (t == TOK_USER_DEFINED) TRY(tok_trie_put(&v->user_trie, STR(""), v->text[i], (int32_t)i, err));
        if (t == TOK_NORMAL || t == TOK_USER_DEFINED || t == TOK_UNUSED)
            TRY(tok_trie_put(&v->trie, STR(""), v->text[i], (int32_t)i, err));
    }
    v->unk_score = (lowest == DBL_MAX ? 0 : lowest) - UNKNOWN_PENALTY;
    if (!v->from_json) v->unk_score = (double)(float)v->unk_score; /* scores in GGUF are floats, this one too */
    return MOTE_OK;
}

/* ---- normalization ---- */

typedef struct normalizer {
    const tok_vocab *v;
    buf *out;
    bool in_word, prefixed;
} normalizer;

static void put_char(normalizer *z, char c) {
    const tok_vocab *v = z->v;
    if (c == ' ') {
        z->in_word = false;
        if (!v->merge_spaces) buf_puts(z->out, "\xE2\x96\x81");
        return;
    }
    if (!z->in_word) {
        z->in_word = true;
        if ((v->add_space_prefix && !z->prefixed) || v->merge_spaces) {
            buf_puts(z->out, "\xE2\x96\x81");
            z->prefixed = true;
        }
    }
    buf_putc(z->out, c);
}

/* Length of a user-defined token at p, which is taken as it stands; 0 when there is none. */
static size_t user_token(const tok_vocab *v, const char *p, size_t n) {
    uint32_t node = 0;
    size_t best = 0;
    for (size_t i = 0; i < n && (node = tok_trie_step(&v->user_trie, node, (unsigned char)p[i])) != 0; i++) best = i + 1;
    return best;
}

static mote_status normalize(const tok_vocab *v, str text, buf *out, mote_error *err) {
    normalizer z = {.v = v, .out = out};
    for (size_t i = 0; i < text.n;) {
        str put = {0};
        size_t used = tok_trie_is_empty(&v->user_trie) ? 0 : user_token(v, text.p + i, text.n - i);
        if (used) put = str_sub(text, i, used);
        else used = tok_charsmap_match(&v->charsmap, text.p + i, text.n - i, &put);
        if (!used) {
            uint32_t cp;
            used = utf8_decode(text.p + i, text.n - i, &cp);
            put = cp == UTF8_BAD ? STR("\xEF\xBF\xBD") : str_sub(text, i, used);
        }
        for (size_t k = 0; k < put.n; k++) put_char(&z, put.p[k]);
        i += used;
    }
    return buf_check(out, "a text", err);
}

/* ---- the best path ---- */

static void offer(struct step *s, double score, uint32_t from, int32_t id) {
    if (score > s->score) *s = (struct step){score, from, id};
}

static void find_path(const tok_vocab *v, str t, struct step *path) {
    for (size_t i = 0; i <= t.n; i++) path[i] = (struct step){-DBL_MAX, 0, TOK_NONE};
    path[0].score = 0;
    for (uint32_t i = 0; i < t.n;) {
        uint32_t cp, node = 0, len = (uint32_t)utf8_decode(t.p + i, t.n - i, &cp);
        bool single = false;
        for (uint32_t k = i; k < t.n; k++) {
            node = tok_trie_step(&v->trie, node, (unsigned char)t.p[k]);
            if (!node) break;
            int32_t id = tok_trie_value(&v->trie, node);
            if (id < 0) continue;
            if (k + 1 - i == len) single = true;
            double score = v->type[id] == TOK_USER_DEFINED ? 0 : v->score[id];
            offer(&path[k + 1], path[i].score + score, i, id);
        }
        if (!single) offer(&path[i + len], path[i].score + v->unk_score, i, TOK_NONE);
        i += len;
    }
}

/* What has no token: its bytes where the vocabulary has them all, else the unknown token, once for a run. */
static mote_status emit_missing(tok_work *w, str s) {
    const tok_vocab *v = w->v;
    bool all = v->byte_fallback;
    for (size_t i = 0; i < s.n && all; i++) all = v->byte_sym[(unsigned char)s.p[i]] >= 0;
    if (!all) return tok_emit_unknown(w);
    for (size_t i = 0; i < s.n; i++) TRY(tok_emit(w, v->byte_sym[(unsigned char)s.p[i]]));
    return MOTE_OK;
}

mote_status tok_unigram_words(tok_work *w, str t) {
    if (t.n == 0) return MOTE_OK;
    if (t.n + 1 > w->cap_path) {
        mem_free_aligned(w->path);
        w->cap_path = 0;
        w->path = mem_alloc_aligned((t.n + 1) * sizeof(struct step));
        if (!w->path) FAIL(w->err, MOTE_E_MEMORY, "out of memory for %zu bytes of text", t.n);
        w->cap_path = t.n + 1;
    }
    struct step *path = w->path;
    find_path(w->v, t, path);
    /* turn the links around, so that they lead from the front to the back */
    uint32_t next = (uint32_t)t.n, at = next;
    int32_t id = TOK_NONE;
    for (bool first = true; first || at > 0; first = false) {
        uint32_t from = path[at].from;
        int32_t was = path[at].id;
        if (!first) path[at] = (struct step){0, next, id};
        next = at;
        id = was;
        at = from;
    }
    path[0] = (struct step){0, next, id};
    for (uint32_t i = 0; i < t.n; i = path[i].from) {
        if (path[i].id >= 0) {
            TRY(tok_emit(w, path[i].id));
            continue;
        }
        uint32_t end = path[i].from;
        while (end < t.n && path[end].id < 0) end = path[end].from;
        TRY(emit_missing(w, str_sub(t, i, end - i)));
        path[i].from = end;
    }
    return MOTE_OK;
}

mote_status tok_unigram_encode(tok_work *w, str text) {
    buf_clear(&w->norm);
    TRY(normalize(w->v, text, &w->norm, w->err));
    return tok_unigram_words(w, buf_str(&w->norm));
}
