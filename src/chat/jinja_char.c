/* jinja_char.c: Python's character classes and case mappings, on top of utf8proc's tables. */
#include "chat/jinja_int.h"

#include <utf8proc.h>

uint32_t jinja_char_at(const char *p, size_t *len) {
    const unsigned char *s = (const unsigned char *)p;
    *len = jutf8_len(s[0]);
    switch (*len) {
    case 1: return s[0];
    case 2: return (s[0] & 0x1Fu) << 6 | (s[1] & 0x3Fu);
    case 3: return (s[0] & 0x0Fu) << 12 | (s[1] & 0x3Fu) << 6 | (s[2] & 0x3Fu);
    default: return (s[0] & 0x07u) << 18 | (s[1] & 0x3Fu) << 12 | (s[2] & 0x3Fu) << 6 | (s[3] & 0x3Fu);
    }
}

static utf8proc_category_t category(uint32_t c) { return utf8proc_category((utf8proc_int32_t)c); }
static bool within(uint32_t c, uint32_t from, uint32_t to) { return c >= from && c <= to; }

bool jinja_is_space(uint32_t c) {
    if (c < 128) return within(c, 9, 13) || within(c, 0x1C, 0x20);
    return c == 0x85 || c == 0xA0 || c == 0x1680 || within(c, 0x2000, 0x200A) || c == 0x2028 || c == 0x2029 ||
           c == 0x202F || c == 0x205F || c == 0x3000;
}

bool jinja_is_alpha(uint32_t c) {
    if (c < 128) return within(c | 32, 'a', 'z');
    return within((uint32_t)category(c), UTF8PROC_CATEGORY_LU, UTF8PROC_CATEGORY_LO);
}

bool jinja_is_decimal(uint32_t c) {
    if (c < 128) return within(c, '0', '9');
    return category(c) == UTF8PROC_CATEGORY_ND;
}

bool jinja_is_digit(uint32_t c) {
    return jinja_is_decimal(c) || c == 0xB2 || c == 0xB3 || c == 0xB9 || c == 0x2070 || within(c, 0x2074, 0x2079) ||
           within(c, 0x2080, 0x2089) || within(c, 0x2460, 0x2468) || within(c, 0x2474, 0x247C) ||
           within(c, 0x2488, 0x2490) || within(c, 0x2776, 0x277E);
}

bool jinja_is_numeric(uint32_t c) {
    if (c < 128) return within(c, '0', '9');
    return within((uint32_t)category(c), UTF8PROC_CATEGORY_ND, UTF8PROC_CATEGORY_NO);
}

bool jinja_is_alnum(uint32_t c) { return jinja_is_alpha(c) || jinja_is_numeric(c); }
bool jinja_is_word(uint32_t c) { return c == '_' || jinja_is_alnum(c); }

bool jinja_is_upper(uint32_t c) {
    if (c < 128) return within(c, 'A', 'Z');
    return category(c) == UTF8PROC_CATEGORY_LU || within(c, 0x2160, 0x216F) || within(c, 0x24B6, 0x24CF);
}

bool jinja_is_lower(uint32_t c) {
    if (c < 128) return within(c, 'a', 'z');
    return category(c) == UTF8PROC_CATEGORY_LL || c == 0xAA || c == 0xBA || within(c, 0x2170, 0x217F) ||
           within(c, 0x24D0, 0x24E9) || within(c, 0x2B0, 0x2B8);
}

bool jinja_is_title(uint32_t c) { return c >= 128 && category(c) == UTF8PROC_CATEGORY_LT; }

bool jinja_is_printable(uint32_t c) {
    if (c < 128) return within(c, 32, 126);
    utf8proc_category_t k = category(c);
    return k != UTF8PROC_CATEGORY_CN && k < UTF8PROC_CATEGORY_ZS;
}

/* Characters whose case mapping has several code points (SpecialCasing.txt; the common ones). */
static const struct {
    uint32_t c, upper[3], title[3];
} special[] = {
    {0xDF, {'S', 'S', 0}, {'S', 's', 0}},
    {0x149, {0x2BC, 'N', 0}, {0x2BC, 'N', 0}},
    {0x1F0, {'J', 0x30C, 0}, {'J', 0x30C, 0}},
    {0xFB00, {'F', 'F', 0}, {'F', 'f', 0}},
    {0xFB01, {'F', 'I', 0}, {'F', 'i', 0}},
    {0xFB02, {'F', 'L', 0}, {'F', 'l', 0}},
    {0xFB03, {'F', 'F', 'I'}, {'F', 'f', 'i'}},
    {0xFB04, {'F', 'F', 'L'}, {'F', 'f', 'l'}},
    {0xFB05, {'S', 'T', 0}, {'S', 't', 0}},
    {0xFB06, {'S', 'T', 0}, {'S', 't', 0}},
};

static size_t copy_special(uint32_t c, bool title, uint32_t out[3]) {
    for (size_t i = 0; i < COUNT_OF(special); i++) {
        if (special[i].c != c) continue;
        memcpy(out, title ? special[i].title : special[i].upper, 3 * sizeof *out);
        return out[2] ? 3 : 2;
    }
    return 0;
}

size_t jinja_to_upper(uint32_t c, uint32_t out[3]) {
    out[0] = c;
    if (c < 128) {
        if (within(c, 'a', 'z')) out[0] = c - 32;
        return 1;
    }
    size_t n = copy_special(c, false, out);
    if (n) return n;
    out[0] = (uint32_t)utf8proc_toupper((utf8proc_int32_t)c);
    return 1;
}

size_t jinja_to_lower(uint32_t c, uint32_t out[3]) {
    out[0] = c;
    if (c < 128) {
        if (within(c, 'A', 'Z')) out[0] = c + 32;
        return 1;
    }
    if (c == 0x130) {
        out[0] = 'i';
        out[1] = 0x307;
        return 2;
    }
    out[0] = (uint32_t)utf8proc_tolower((utf8proc_int32_t)c);
    return 1;
}

size_t jinja_to_title(uint32_t c, uint32_t out[3]) {
    if (c < 128) return jinja_to_upper(c, out);
    size_t n = copy_special(c, true, out);
    if (n) return n;
    out[0] = (uint32_t)utf8proc_totitle((utf8proc_int32_t)c);
    return 1;
}
