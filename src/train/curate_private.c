/* curate_private.c: e-mail addresses, IP addresses, telephone numbers and card numbers. Not names: that takes more than
 * patterns. Numbers are judged as a whole run of digits with the signs that people put between them. */
#include "train/curate.h"

static bool digit(char c) { return c >= '0' && c <= '9'; }
static bool letter(char c) { return (c | 32) >= 'a' && (c | 32) <= 'z'; }
static bool local(char c) { return letter(c) || digit(c) || (c && strchr("._%+-", c)); }

/* The length of an e-mail address around the @ at `at`, with *from its beginning; 0: it is none. */
static size_t mail_at(str s, size_t at, size_t least, size_t *from) {
    size_t b = at, e = at + 1, dot = 0;
    while (b > least && local(s.p[b - 1])) b--;
    while (e < s.n && (letter(s.p[e]) || digit(s.p[e]) || s.p[e] == '-' || (s.p[e] == '.' && e + 1 < s.n && letter(s.p[e + 1])))) {
        if (s.p[e] == '.') dot = e;
        e++;
    }
    *from = b;
    return b < at && dot > at + 1 && e - dot >= 3 ? e - b : 0;
}

/* Luhn's check of n digits. */
static bool luhn(const char *d, size_t n) {
    int sum = 0;
    for (size_t i = 0; i < n; i++) {
        int x = d[n - 1 - i] - '0';
        if (i % 2) x = x > 4 ? 2 * x - 9 : 2 * x;
        sum += x;
    }
    return sum % 10 == 0;
}

static bool is_ip(str s) {
    int parts = 0;
    for (size_t i = 0; i < s.n; parts++) {
        int v = 0;
        size_t n = 0;
        while (i < s.n && digit(s.p[i]) && n < 4) v = v * 10 + (s.p[i++] - '0'), n++;
        if (!n || n > 3 || v > 255) return false;
        if (i < s.n && s.p[i++] != '.') return false;
    }
    return parts == 4;
}

/* What the run of digits and signs at the beginning of s is; *n: its length. */
static const char *number(str s, size_t *n) {
    char d[24];
    size_t digits = 0, end = 0, signs = 0;
    bool plus = s.p[0] == '+', open = s.p[0] == '(';
    for (size_t i = plus || open; i < s.n && digits < sizeof d; i++) {
        if (digit(s.p[i])) {
            d[digits++] = s.p[i];
            end = i + 1;
        } else if (s.p[i] && strchr(" -.()/", s.p[i]) && i - end < 2) signs++;
        else break;
    }
    *n = end;
    str run = {s.p, end};
    if (is_ip(run)) return "<ip>";
    if (digits >= 13 && digits <= 19 && luhn(d, digits) && !plus) return "<card>";
    bool date = end > 5 && s.p[4] == '-' && memchr("12", s.p[0], 2); /* 2026-11-21 */
    bool grouped = signs >= 2 && (open || memchr(run.p, '-', run.n)) && !memchr(run.p, '/', run.n) && !date;
    bool phone = plus ? digits >= 8 && digits <= 15 : grouped && digits >= 10 && digits <= 13;
    return phone ? "<phone>" : NULL;
}

size_t curate_redact(str text, buf *out) {
    size_t from = 0, found = 0;
    for (size_t i = 0; i < text.n;) {
        size_t begin = i, n = 0;
        const char *what = NULL;
        char c = text.p[i], last = i ? text.p[i - 1] : ' ';
        if (c == '@') {
            n = mail_at(text, i, from, &begin);
            what = n ? "<e-mail>" : NULL;
        } else if ((digit(c) || c == '+' || c == '(') && !digit(last) && !letter(last) && last != '.') {
            what = number(str_sub(text, i, text.n - i), &n);
            if (!what) n = MAX(n, 1);
        }
        if (!what) {
            i += MAX(n, 1);
            continue;
        }
        buf_put(out, text.p + from, begin - from);
        buf_puts(out, what);
        from = i = begin + n;
        found++;
    }
    buf_put(out, text.p + from, text.n - from);
    return found;
}
