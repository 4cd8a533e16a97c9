/* bpe.c: byte-pair encoding: words, then merges by rank. Byte-level vocabularies spell bytes with GPT-2's stand-in
 * characters; others work on UTF-8 with ▁ for a space. */
#include "token/token_int.h"

/* The token that is spelled exactly as this word, TOK_NONE when there is none. */
static int32_t whole_word(const tok_vocab *v, str word) {
    char spelled[2 * 1024 + 4];
    if (!v->byte_level) return tok_plain(v, tok_map_get(&v->map, v->text, word.p, word.n));
    if (word.n > 1024) return TOK_NONE;
    size_t n = 0;
    for (size_t i = 0; i < word.n; i++) n += tok_byte_char((unsigned char)word.p[i], spelled + n);
    return tok_plain(v, tok_map_get(&v->map, v->text, spelled, n));
}

mote_status tok_bpe_word(tok_work *w, str word) {
    const tok_vocab *v = w->v;
    w->word_from = w->out->n;
    bool whole = v->ignore_merges;
    if (!whole && v->newline_words && word.p[0] == '\n') {
        whole = true;
        for (size_t i = 0; i < word.n; i++) whole &= word.p[i] == '\n';
    }
    if (whole) {
        int32_t id = whole_word(v, word);
        if (id >= 0) return tok_emit(w, id);
    }
    return tok_merge_run(w, word);
}

mote_status tok_escape_spaces(str text, bool prefix, buf *out, mote_error *err) {
    if (prefix) buf_puts(out, "\xE2\x96\x81");
    for (size_t i = 0; i < text.n;) {
        const char *hit = memchr(text.p + i, ' ', text.n - i);
        size_t end = hit ? (size_t)(hit - text.p) : text.n;
        buf_put(out, text.p + i, end - i);
        if (hit) buf_puts(out, "\xE2\x96\x81");
        i = end + (hit != NULL);
    }
    return buf_check(out, "a text", err);
}

mote_status tok_bpe_encode(tok_work *w, str text) {
    const tok_vocab *v = w->v;
    const tok_pieces *pieces;
    if (v->escape_space) {
        buf_clear(&w->text);
        TRY(tok_escape_spaces(text, false, &w->text, w->err));
        text = buf_str(&w->text);
    }
    if (!w->cut) TRY(tok_cut_open(&w->cut, v->pre, w->err));
    TRY(tok_cut_run(w->cut, text, &pieces, w->err));
    size_t at = 0;
    for (size_t i = 0; i < pieces->n; i++) {
        if (!pieces->dropped[i]) TRY(tok_bpe_word(w, str_sub(text, at, pieces->len[i])));
        at += pieces->len[i];
    }
    return MOTE_OK;
}

/* SentencePiece BPE: spaces become ▁, one more stands before the text, and everything is one word. */
mote_status tok_spm_encode(tok_work *w, str text) {
    const tok_vocab *v = w->v;
    buf_clear(&w->text);
    TRY(tok_escape_spaces(text, v->add_space_prefix, &w->text, w->err));
    return tok_merge_run(w, buf_str(&w->text));
}
