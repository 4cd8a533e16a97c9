/* encode.c: the public ways from text to ids and back. */
#include "token/token_int.h"

void tok_ids_free(tok_ids *ids) {
    mem_free(ids->p);
    *ids = (tok_ids){0};
}

mote_status tok_emit(tok_work *w, int32_t id) {
    tok_ids *o = w->out;
    if (o->n == o->cap) TRY(mem_grow(&o->p, &o->cap, o->n + 1, sizeof *o->p, SIZE_MAX / 8, w->err));
    o->p[o->n++] = id;
    return MOTE_OK;
}

mote_status tok_emit_unknown(tok_work *w) {
    int32_t id = w->v->role[TOK_ROLE_UNK];
    const tok_ids *o = w->out;
    if (id < 0 || (w->v->fuse_unk && o->n > w->word_from && o->p[o->n - 1] == id)) return MOTE_OK;
    return tok_emit(w, id);
}

static void work_free(tok_work *w) {
    mem_free_aligned(w->links);
    tok_queue_free(&w->queue);
    tok_cut_close(&w->cut);
    tok_cut_close(&w->cut2);
    buf_free(&w->text);
    buf_free(&w->norm);
    buf_free(&w->norm2);
    buf_free(&w->piece);
    mem_free_aligned(w->path);
}

static mote_status encode_raw(tok_work *w, str text, bool first) {
    if (w->v->from_json) return tok_json_encode(w, text, first);
    switch (w->v->kind) {
    case TOK_KIND_BPE: return tok_bpe_encode(w, text);
    case TOK_KIND_SPM: return tok_spm_encode(w, text);
    case TOK_KIND_UNIGRAM: return tok_unigram_encode(w, text);
    case TOK_KIND_WORDPIECE: return tok_wordpiece_encode(w, text);
    case TOK_KIND_TRIE: return tok_trie_encode(w, text);
    case TOK_KIND_PLAMO2: return tok_plamo2_encode(w, text);
    }
    return MOTE_OK;
}

static mote_status encode(const tok_vocab *v, str text, const tok_span *spans, size_t n_spans, int flags, tok_ids *out,
                          mote_error *err) {
    if (text.n > TOK_TEXT_BYTES_MAX)
        FAIL(err, MOTE_E_LIMIT, "a text of %zu bytes, at most %zu are encoded at once", text.n, TOK_TEXT_BYTES_MAX);
    tok_work w = {.v = v, .out = out, .err = err, .first = true, .parse_control = (flags & TOK_SPECIAL) != 0};
    buf_init(&w.text, 4 * TOK_TEXT_BYTES_MAX);
    buf_init(&w.norm, 4 * TOK_TEXT_BYTES_MAX);
    buf_init(&w.norm2, 4 * TOK_TEXT_BYTES_MAX);
    buf_init(&w.piece, 4 * TOK_TEXT_BYTES_MAX);
    size_t before = out->n;
    mote_status s = MOTE_OK;
    if (flags & TOK_BOS)
        for (int i = 0; i < v->n_before; i++) TRYG(s, tok_emit(&w, v->before[i]));
    TRYG(s, tok_partition(&w, &v->special, text, spans, n_spans, w.parse_control, encode_raw));
    if (flags & TOK_BOS)
        for (int i = 0; i < v->n_after; i++) TRYG(s, tok_emit(&w, v->after[i]));
out:
    if (s != MOTE_OK) out->n = before;
    work_free(&w);
    return s;
}

mote_status tok_encode(const tok_vocab *v, str text, int flags, tok_ids *out, mote_error *err) {
    return encode(v, text, NULL, 0, flags, out, err);
}

mote_status tok_encode_into(const tok_vocab *v, str text, int flags, int32_t *dst, size_t cap, size_t *n,
                            mote_error *err) {
    tok_ids ids = {0};
    mote_status s = tok_encode(v, text, flags, &ids, err);
    *n = ids.n;
    if (s == MOTE_OK && ids.n && cap) memcpy(dst, ids.p, MIN(ids.n, cap) * sizeof *dst);
    tok_ids_free(&ids);
    return s;
}

mote_status tok_encode_spans(const tok_vocab *v, const tok_span *spans, size_t n, int flags, tok_ids *out,
                             mote_error *err) {
    buf joined;
    buf_init(&joined, TOK_TEXT_BYTES_MAX);
    for (size_t i = 0; i < n; i++) buf_put_str(&joined, spans[i].text);
    mote_status s = buf_check(&joined, "a prompt", err);
    if (s == MOTE_OK) s = encode(v, buf_str(&joined), spans, n, flags | TOK_SPECIAL, out, err);
    buf_free(&joined);
    return s;
}

/* ---- back to text ---- */

str tok_piece(const tok_vocab *v, int32_t id, int flags) {
    if (id < 0 || (size_t)id >= v->n || (tok_is_control(v, id) && !(flags & TOK_SPECIAL))) return STR("");
    return str_sub(v->pieces, v->piece_from[id], v->piece_from[id + 1] - v->piece_from[id]);
}

/* The piece without the space that the tokenizer itself put before the text. */
static str first_piece(const tok_vocab *v, int32_t id, int flags) {
    str s = tok_piece(v, id, flags);
    bool prefixed = v->add_space_prefix || v->kind == TOK_KIND_WORDPIECE;
    if ((flags & TOK_TRIM) && prefixed && s.n && s.p[0] == ' ') s = str_sub(s, 1, s.n - 1);
    return s;
}

/* WordPiece puts a space before every word; punctuation does not want it. */
static void tidy(buf *b, size_t from) {
    size_t o = from;
    for (size_t i = from; i < b->n; i++) {
        char c = b->p[i];
        if (o > from && b->p[o - 1] == ' ' && (c == '.' || c == ',' || c == '!' || c == '?')) o--;
        b->p[o++] = c;
    }
    if (b->p) b->p[o] = 0;
    b->n = o;
}

mote_status tok_detokenize(const tok_vocab *v, const int32_t *ids, size_t n, int flags, buf *out, mote_error *err) {
    size_t from = out->n;
    bool first = true;
    for (size_t i = 0; i < n; i++) {
        str s = first ? first_piece(v, ids[i], flags) : tok_piece(v, ids[i], flags);
        if (!tok_is_control(v, ids[i])) first = false;
        buf_put_str(out, s);
    }
    if (v->kind == TOK_KIND_WORDPIECE && !out->failed) tidy(out, from);
    return buf_check(out, "a text", err);
}

void tok_stream_init(tok_stream *s, const tok_vocab *v, int flags) { *s = (tok_stream){.v = v, .flags = flags}; }

void tok_stream_put(tok_stream *s, int32_t id, buf *out) {
    str piece = s->begun ? tok_piece(s->v, id, s->flags) : first_piece(s->v, id, s->flags);
    if (!tok_is_control(s->v, id)) s->begun = true;
    if (piece.n == 0) return;
    char joined[8];
    while (s->n_held && piece.n) { /* complete the held character byte by byte */
        memcpy(joined, s->held, s->n_held);
        joined[s->n_held] = piece.p[0];
        size_t n = s->n_held + 1, whole = utf8_whole(joined, n);
        if (whole == 0) {
            s->held[s->n_held++] = piece.p[0];
            piece = str_sub(piece, 1, piece.n - 1);
            continue;
        }
        uint32_t cp;
        if (utf8_decode(joined, n, &cp) == n) {
            buf_put(out, joined, n);
            piece = str_sub(piece, 1, piece.n - 1);
        } else {
            buf_puts(out, "\xEF\xBF\xBD"); /* what was held never became a character */
        }
        s->n_held = 0;
    }
    for (size_t i = 0; i < piece.n;) {
        uint32_t cp;
        size_t len = utf8_decode(piece.p + i, piece.n - i, &cp);
        if (cp != UTF8_BAD) {
            buf_put(out, piece.p + i, len);
        } else if (utf8_whole(piece.p + i, piece.n - i) == 0) {
            s->n_held = (unsigned)(piece.n - i);
            memcpy(s->held, piece.p + i, s->n_held);
            return;
        } else {
            buf_puts(out, "\xEF\xBF\xBD");
        }
        i += len;
    }
}

void tok_stream_end(tok_stream *s, buf *out) {
    if (s->n_held) buf_puts(out, "\xEF\xBF\xBD");
    s->n_held = 0;
}
