#include "base/utf8.h"

#include <string.h>

/* Length announced by a lead byte; 0 when it cannot lead. */
static size_t lead_len(unsigned char c) {
    if (c < 0x80) return 1;
    if (c >= 0xC2 && c <= 0xDF) return 2;
    if (c >= 0xE0 && c <= 0xEF) return 3;
    if (c >= 0xF0 && c <= 0xF4) return 4;
    return 0;
}

/* Whether byte i (≥ 1) may follow the lead byte: the second byte's range excludes overlong forms,
 * surrogates and values above U+10FFFF (Unicode 15, table 3-7). */
static bool follows(unsigned char lead, size_t i, unsigned char c) {
    if (i == 1) {
        if (lead == 0xE0) return c >= 0xA0 && c <= 0xBF;
        if (lead == 0xED) return c >= 0x80 && c <= 0x9F;
        if (lead == 0xF0) return c >= 0x90 && c <= 0xBF;
        if (lead == 0xF4) return c >= 0x80 && c <= 0x8F;
    }
    return (c & 0xC0) == 0x80;
}

size_t utf8_decode(const char *p, size_t n, uint32_t *cp) {
    const unsigned char *s = (const unsigned char *)p;
    size_t len = lead_len(s[0]);
    *cp = UTF8_BAD;
    if (len == 0 || len > n) return 1;
    if (len == 1) {
        *cp = s[0];
        return 1;
    }
    uint32_t v = s[0] & (0xFFu >> (len + 1));
    for (size_t i = 1; i < len; i++) {
        if (!follows(s[0], i, s[i])) return 1;
        v = v << 6 | (s[i] & 0x3Fu);
    }
    *cp = v;
    return len;
}

size_t utf8_encode(uint32_t cp, char out[4]) {
    if (cp > 0x10FFFF || (cp >= 0xD800 && cp <= 0xDFFF)) cp = 0xFFFD;
    if (cp < 0x80) {
        out[0] = (char)cp;
        return 1;
    }
    size_t len = cp < 0x800 ? 2 : cp < 0x10000 ? 3 : 4;
    for (size_t i = len - 1; i > 0; i--, cp >>= 6) out[i] = (char)(0x80 | (cp & 0x3F));
    out[0] = (char)((0xF00u >> len & 0xFF) | cp);
    return len;
}

bool utf8_valid(const char *p, size_t n) {
    for (size_t i = 0; i < n;) {
        uint32_t cp;
        i += utf8_decode(p + i, n - i, &cp);
        if (cp == UTF8_BAD) return false;
    }
    return true;
}

size_t utf8_whole(const char *p, size_t n) {
    for (size_t back = 1; back <= 3 && back <= n; back++) {
        unsigned char lead = (unsigned char)p[n - back];
        if ((lead & 0xC0) == 0x80) continue;
        if (lead_len(lead) <= back) return n;
        for (size_t i = 1; i < back; i++)
            if (!follows(lead, i, (unsigned char)p[n - back + i])) return n;
        return n - back;
    }
    return n;
}

size_t utf8_count(const char *p, size_t n) {
    size_t count = 0;
    for (size_t i = 0; i < n; count++) {
        uint32_t cp;
        i += utf8_decode(p + i, n - i, &cp);
    }
    return count;
}
