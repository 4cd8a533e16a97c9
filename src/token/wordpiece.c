/* wordpiece.c: BERT's tokenizer: words are split at white space, punctuation and Chinese characters, then taken apart
 * from the left by the longest token. The trie holds tokens that begin a word behind ▁, the others bare: that is how
 * GGUF spells them, and tokenizer.json's "##" is turned around when it is loaded. A word that cannot be taken apart
 * whole is one unknown token. */
#include "token/json_int.h"

#include <utf8proc.h>

#define LEAD STR("\xE2\x96\x81")

mote_status tok_wordpiece_prepare(tok_vocab *v, mote_error *err) {
    TRY(tok_trie_init(&v->trie, err));
    for (size_t i = 0; i < v->n; i++) {
        str s = v->text[i];
        if (tok_plain(v, (int32_t)i) < 0) continue;
        if (!v->from_json) {
            TRY(tok_trie_put(&v->trie, STR(""), s, (int32_t)i, err));
        } else if (v->char_prefix.n && str_starts(s, v->char_prefix)) {
            TRY(tok_trie_put(&v->trie, STR(""), str_sub(s, v->char_prefix.n, s.n - v->char_prefix.n), (int32_t)i, err));
            TRY(tok_trie_put(&v->trie, LEAD, s, (int32_t)i, err));
        } else {
            TRY(tok_trie_put(&v->trie, LEAD, s, (int32_t)i, err));
        }
    }
    return MOTE_OK;
}

/* word stands behind ▁ in w->text. */
mote_status tok_wordpiece_word(tok_work *w, str word) {
    const tok_trie *t = &w->v->trie;
    size_t before = w->out->n;
    bool too_long = w->v->word_chars_max && utf8_count(word.p, word.n) > w->v->word_chars_max + 1;
    for (size_t i = 0; i < word.n && !too_long;) {
        uint32_t node = 0;
        int32_t best = TOK_NONE;
        size_t end = i;
        for (size_t k = i; k < word.n; k++) {
            node = tok_trie_step(t, node, (unsigned char)word.p[k]);
            if (!node) break;
            if (tok_trie_value(t, node) < 0) continue;
            best = tok_trie_value(t, node);
            end = k + 1;
        }
        if (best < 0) {
            w->out->n = before;
            break;
        }
        TRY(tok_emit(w, best));
        i = end;
    }
    return w->out->n > before ? MOTE_OK : tok_emit_unknown(w);
}

bool tok_bert_chinese(uint32_t cp) { /* the blocks BERT's own tokenizer names; one begins at an odd place */
    return (cp >= 0x4E00 && cp <= 0x9FFF) || (cp >= 0x3400 && cp <= 0x4DBF) || (cp >= 0x20000 && cp <= 0x2A6DF) ||
           (cp >= 0x2A700 && cp <= 0x2B73F) || (cp >= 0x2B740 && cp <= 0x2B81F) || (cp >= 0x2B920 && cp <= 0x2CEAF) ||
           (cp >= 0xF900 && cp <= 0xFAFF) || (cp >= 0x2F800 && cp <= 0x2FA1F);
}

/* The first character of cp's canonical decomposition. */
static uint32_t without_accents(uint32_t cp) {
    utf8proc_int32_t parts[32];
    int last = 0;
    utf8proc_ssize_t n = utf8proc_decompose_char((utf8proc_int32_t)cp, parts, 32, UTF8PROC_DECOMPOSE | UTF8PROC_STABLE, &last);
    return n > 0 ? (uint32_t)parts[0] : cp;
}

static mote_status end_word(tok_work *w) {
    mote_status s = MOTE_OK;
    if (w->text.n > 3) {
        TRY(buf_check(&w->text, "a word", w->err));
        s = tok_wordpiece_word(w, buf_str(&w->text));
    }
    buf_clear(&w->text);
    buf_put_str(&w->text, LEAD);
    return s;
}

mote_status tok_wordpiece_encode(tok_work *w, str text) {
    const tok_vocab *v = w->v;
    buf_clear(&w->text);
    buf_put_str(&w->text, LEAD);
    for (size_t i = 0; i < text.n;) {
        uint32_t cp;
        i += utf8_decode(text.p + i, text.n - i, &cp);
        if (cp == UTF8_BAD || cp == 0 || cp == 0xFFFD) continue;
        if (v->strip_accents) cp = without_accents(cp);
        tok_class c = tok_uni_class(cp);
        if (c == TOK_CLS_SPACE) {
            TRY(end_word(w));
            continue;
        }
        if (c == TOK_CLS_CONTROL || (v->strip_accents && c == TOK_CLS_M)) continue;
        bool alone = c == TOK_CLS_P || (c == TOK_CLS_S && cp < 0x7F) || tok_bert_chinese(cp);
        char utf8[4];
        size_t n = utf8_encode(v->lower ? tok_uni_lower(cp) : cp, utf8);
        if (alone) TRY(end_word(w));
        buf_put(&w->text, utf8, n);
        if (alone) TRY(end_word(w));
    }
    return end_word(w);
}
