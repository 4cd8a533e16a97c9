/* eval_answer.c: GSM8K's answers: a number is extracted from the text and compared with the right one.
 * The two ways are lm-evaluation-harness's: strict, the number after the first "#### "; flexible, the last number. */
#include "run/eval_tasks.h"

#include <ctype.h>

static bool in(char c, const char *set) { return c && strchr(set, c) != NULL; }

/* The first "#### " with a run of digits, dots and commas behind it, perhaps with a sign. */
static str strict_number(str s) {
    for (size_t i = 0; i + 5 < s.n; i++) {
        if (memcmp(s.p + i, "#### ", 5) != 0) continue;
        size_t from = i + 5, to = from + (s.p[from] == '-');
        size_t digits = to;
        while (to < s.n && in(s.p[to], "0123456789.,")) to++;
        if (to > digits) return py_strip(str_sub(s, from, to - from));
    }
    return STR("[invalid]");
}

/* The last match of (-?[$0-9.,]{2,})|(-?[0-9]+), from left to right without overlap. */
static str flexible_number(str s) {
    str last = STR("[invalid]");
    for (size_t i = 0; i < s.n;) {
        size_t from = i, at = i + (s.p[i] == '-'), to = at;
        while (to < s.n && in(s.p[to], "$0123456789.,")) to++;
        if (to - at < 2) { /* the other branch: digits alone */
            to = at;
            while (to < s.n && s.p[to] >= '0' && s.p[to] <= '9') to++;
            if (to == at) {
                i++;
                continue;
            }
        }
        last = str_sub(s, from, to - from);
        i = to;
    }
    return py_strip(last);
}

/* What is compared: without what stands before the last "#### ", commas, dollars and a full stop at the end. Appended. */
static void normalize(str s, buf *out) {
    for (size_t i = s.n; i-- > 0;)
        if (s.n - i >= 5 && memcmp(s.p + i, "#### ", 5) == 0) {
            s = str_sub(s, i + 5, s.n - i - 5);
            break;
        }
    for (size_t i = 0; i < s.n; i++)
        if (!in(s.p[i], ",$")) buf_putc(out, (char)tolower((unsigned char)s.p[i]));
    if (out->n && out->p[out->n - 1] == '.') out->n--;
}

mote_status eval_judge_gsm8k(const eval_item *it, str answer, double *values, json_t *details, mote_error *err) {
    str found[2] = {strict_number(answer), flexible_number(answer)};
    buf want, got;
    buf_init(&want, (size_t)1 << 20);
    buf_init(&got, (size_t)1 << 20);
    normalize(it->answer, &want);
    for (int i = 0; i < 2; i++) {
        buf_clear(&got);
        normalize(found[i], &got);
        values[i] = str_eq(buf_str(&got), buf_str(&want));
    }
    mote_status s = buf_check(&want, "an answer", err);
    if (s == MOTE_OK) s = buf_check(&got, "an answer", err);
    (void)json_object_set_new(details, "extracted", json_pack("[s%, s%]", found[0].p, found[0].n, found[1].p, found[1].n));
    buf_free(&want);
    buf_free(&got);
    return s;
}
