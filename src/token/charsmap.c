/* charsmap.c: SentencePiece's precompiled normalization: a double array trie that maps prefixes of the text to
 * replacements. Layout (sentencepiece, builder.cc): u32 size of the array in bytes; the array, XOR-compressed
 * (Kanda 2018): bits 10–30 base (shifted by 8 more when bit 9 is set), bit 8 leaf, bits 0–7 label, bit 31 value;
 * then NUL-terminated replacements. Everything is checked at each step: the array comes from a file. */
#include "token/token_int.h"

mote_status tok_charsmap_open(tok_charsmap *m, const unsigned char *p, size_t n, mote_error *err) {
    if (n < 4) FAIL(err, MOTE_E_FORMAT, "the precompiled normalization is cut off");
    size_t bytes = p[0] | (size_t)p[1] << 8 | (size_t)p[2] << 16 | (size_t)p[3] << 24;
    if (bytes % 4 != 0 || bytes > n - 4)
        FAIL(err, MOTE_E_FORMAT, "the precompiled normalization says %zu bytes of %zu", bytes, n - 4);
    *m = (tok_charsmap){
        .units = p + 4, .n_units = bytes / 4, .texts = (const char *)p + 4 + bytes, .n_texts = n - 4 - bytes};
    return MOTE_OK;
}

static bool unit(const tok_charsmap *m, size_t i, uint32_t *u) {
    if (i >= m->n_units) return false;
    const unsigned char *p = m->units + 4 * i;
    *u = p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
    return true;
}

static uint32_t base(uint32_t u) { return (u >> 10) << ((u & 0x200u) >> 6); }

size_t tok_charsmap_match(const tok_charsmap *m, const char *p, size_t n, str *replacement) {
    uint32_t u;
    size_t best = 0;
    uint32_t value = 0;
    if (!unit(m, 0, &u)) return 0;
    size_t at = base(u);
    for (size_t i = 0; i < n && p[i]; i++) {
        unsigned char c = (unsigned char)p[i];
        at ^= c;
        if (!unit(m, at, &u) || (u & 0x800000FFu) != c) break;
        bool leaf = u >> 8 & 1;
        at ^= base(u);
        if (leaf && unit(m, at, &u)) {
            best = i + 1;
            value = u & 0x7FFFFFFFu;
        }
    }
    if (best == 0 || value >= m->n_texts) return 0;
    const char *end = memchr(m->texts + value, 0, m->n_texts - value);
    if (!end) return 0;
    *replacement = (str){m->texts + value, (size_t)(end - (m->texts + value))};
    return best;
}
