/* rwkv.c: the RWKV "world" vocabulary: at each place the longest token that fits. Token texts are written with
 * escapes (\n, \t, \r, \xHH, \\). */
#include "token/token_int.h"

static unsigned hex(char c) {
    if (c >= '0' && c <= '9') return (unsigned)(c - '0');
    return (unsigned)((c | 0x20) - 'a' + 10) & 15;
}

void tok_trie_unescape(str s, buf *out) {
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];
        if (c != '\\' || i + 1 >= s.n) {
            buf_putc(out, c);
            continue;
        }
        c = s.p[++i];
        if (c == 't') c = '\t';
        else if (c == 'n') c = '\n';
        else if (c == 'r') c = '\r';
        else if (c == 'x' && i + 2 < s.n) {
            c = (char)(hex(s.p[i + 1]) << 4 | hex(s.p[i + 2]));
            i += 2;
        }
        buf_putc(out, c);
    }
}

mote_status tok_trie_prepare(tok_vocab *v, mote_error *err) {
    TRY(tok_trie_init(&v->trie, err));
    for (size_t i = 0; i < v->n; i++) {
        str s = str_sub(v->pieces, v->piece_from[i], v->piece_from[i + 1] - v->piece_from[i]);
        if (v->type[i] != TOK_CONTROL && s.n) TRY(tok_trie_put(&v->trie, STR(""), s, (int32_t)i, err));
    }
    return MOTE_OK;
}

mote_status tok_trie_encode(tok_work *w, str text) {
    const tok_trie *t = &w->v->trie;
    for (size_t i = 0; i < text.n;) {
        uint32_t node = 0;
        int32_t best = TOK_NONE;
        size_t end = i + 1;
        for (size_t k = i; k < text.n; k++) {
            node = tok_trie_step(t, node, (unsigned char)text.p[k]);
            if (!node) break;
            if (tok_trie_value(t, node) < 0) continue;
            best = tok_trie_value(t, node);
            end = k + 1;
        }
        if (best < 0) TRY(tok_emit_unknown(w));
        else TRY(tok_emit(w, best));
        i = end;
    }
    return MOTE_OK;
}
