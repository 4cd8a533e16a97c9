/* jinja_text.c: operations on text that filters and methods share. Each keeps the provenance of every
 * character it copies or maps; what it adds (padding, separators) brings its own. */
#include "chat/jinja_int.h"

/* ---- lists that grow ---- */

mote_status jinja_vec_add(jvm *vm, jvec *l, jval v) {
    TRY(jinja_spend(vm, 1));
    if (l->n == l->cap) {
        jval *more;
        uint32_t cap = l->cap ? l->cap * 2 : 8;
        TRY(jinja_alloc(vm, cap, sizeof *more, &more));
        if (l->n) memcpy(more, l->v, l->n * sizeof *more);
        l->v = more;
        l->cap = cap;
    }
    l->v[l->n++] = v;
    return MOTE_OK;
}

mote_status jinja_vec_list(jvm *vm, const jvec *l, jval *out) {
    jlist *r;
    TRY(jinja_alloc(vm, 1, sizeof *r, &r));
    *r = (jlist){.v = l->v, .n = l->n};
    *out = (jval){.t = JT_LIST, .l = r};
    return MOTE_OK;
}

/* ---- case ---- */

static bool is_cased(uint32_t c) { return jinja_is_upper(c) || jinja_is_lower(c) || jinja_is_title(c); }

/* Σ at the end of a word becomes ς (Unicode's Final_Sigma, without its case-ignorable characters). */
static bool final_sigma(const jstr *s, size_t at, bool after_cased) {
    size_t len, next = at + 2;
    return after_cased && (next >= s->n || !is_cased(jinja_char_at(s->p + next, &len)));
}

static size_t map_char(const jstr *s, size_t at, uint32_t c, int mode, bool first, bool after_cased, uint32_t out[3]) {
    if (mode == CASE_UPPER) return jinja_to_upper(c, out);
    if (mode == CASE_SWAP) {
        if (jinja_is_lower(c)) return jinja_to_upper(c, out);
        if (!jinja_is_upper(c)) {
            out[0] = c;
            return 1;
        }
    }
    if ((mode == CASE_TITLE && !after_cased) || (mode == CASE_CAPITAL && first)) return jinja_to_title(c, out);
    if (c == 0x3A3 && final_sigma(s, at, after_cased)) {
        out[0] = 0x3C2;
        return 1;
    }
    return jinja_to_lower(c, out);
}

/* ASCII letters from i on, as far as the mapping does not depend on what stands around them, into out. */
static size_t ascii_run(const jstr *s, size_t i, size_t end, int mode, char out[64]) {
    size_t n = 0;
    if (mode != CASE_UPPER && mode != CASE_LOWER) return 0;
    for (; n < 64 && i < end && (unsigned char)s->p[i] < 128; i++, n++) {
        char c = s->p[i], first = mode == CASE_UPPER ? 'a' : 'A';
        out[n] = c >= first && c < first + 26 ? (char)(c ^ 32) : c;
    }
    return n;
}

mote_status jinja_change_case(jvm *vm, const jstr *s, int mode, jval *out) {
    jbuild b;
    bool after_cased = false, content = s->content;
    uint32_t k = 0;
    char run[64];
    jinja_build_init(&b, vm);
    TRY(jinja_spend(vm, s->n / 4));
    for (size_t i = 0, len; i < s->n; i += len) {
        if (k < s->n_cuts && s->cuts[k] == i) {
            content = !content;
            k++;
        }
        len = ascii_run(s, i, k < s->n_cuts ? s->cuts[k] : s->n, mode, run);
        if (len) {
            jinja_build_put(&b, run, len, content);
            after_cased = is_cased((unsigned char)run[len - 1]);
            continue;
        }
        uint32_t c = jinja_char_at(s->p + i, &len), mapped[3];
        jinja_build_cp(&b, mapped, map_char(s, i, c, mode, i == 0, after_cased, mapped), content);
        after_cased = is_cased(c);
    }
    TRY(jinja_build_done(&b, out));
    return s->markup ? jinja_as_markup(vm, *out, out) : MOTE_OK;
}

/* ---- replace, join ---- */

static mote_status replace_empty(jvm *vm, const jstr *s, const jstr *to, int64_t max, jval *out) {
    jbuild b;
    jinja_build_init(&b, vm);
    for (size_t i = 0; i < s->n;) {
        size_t len = jutf8_len((unsigned char)s->p[i]);
        if (max-- > 0) jinja_build_str(&b, to);
        jinja_build_part(&b, s, i, len);
        TRY(jinja_spend(vm, 1));
        i += len;
    }
    if (max > 0) jinja_build_str(&b, to);
    return jinja_build_done(&b, out);
}

mote_status jinja_replace(jvm *vm, const jstr *s, const jstr *from, const jstr *to, int64_t max, jval *out) {
    jbuild b;
    size_t at = 0, hit;
    if (max < 0) max = INT64_MAX;
    TRY(jinja_spend(vm, s->n / 64));
    if (from->n == 0) return replace_empty(vm, s, to, max, out);
    if (str_find(jview_of(s), jview_of(from), 0) == SIZE_MAX || max == 0) {
        *out = jstring(s);
        return MOTE_OK;
    }
    jinja_build_init(&b, vm);
    while (max-- > 0 && (hit = str_find(jview_of(s), jview_of(from), at)) != SIZE_MAX) {
        jinja_build_part(&b, s, at, hit - at);
        jinja_build_str(&b, to);
        at = hit + from->n;
        TRY(jinja_spend(vm, 1));
    }
    jinja_build_part(&b, s, at, s->n - at);
    return jinja_build_done(&b, out);
}

mote_status jinja_join(jvm *vm, const jstr *sep, const jval *v, uint32_t n, bool any_type, jval *out) {
    jbuild b;
    jinja_build_init(&b, vm);
    for (uint32_t i = 0; i < n; i++) {
        if (!any_type && v[i].t != JT_STR)
            RAISE(vm, "sequence item %u: expected str instance, %s found", i, jinja_type_name(v[i]));
        if (i) jinja_build_str(&b, sep);
        TRY(jinja_spend(vm, 1));
        TRY(jinja_print(vm, &b, v[i]));
    }
    return jinja_build_done(&b, out);
}

/* ---- splitting ---- */

static mote_status add_part(jvm *vm, jvec *l, const jstr *s, size_t from, size_t to) {
    jval v;
    TRY(jinja_str_sub(vm, s, from, to - from, &v));
    return jinja_vec_add(vm, l, v);
}

static size_t char_before(const jstr *s, size_t at) {
    do at--;
    while (((unsigned char)s->p[at] & 0xC0) == 0x80);
    return at;
}

static bool space_at(const jstr *s, size_t at, size_t *len) { return jinja_is_space(jinja_char_at(s->p + at, len)); }

static mote_status split_space(jvm *vm, const jstr *s, int64_t max, jvec *l) {
    size_t i = 0, len;
    for (;;) {
        while (i < s->n && space_at(s, i, &len)) i += len;
        if (i >= s->n) return MOTE_OK;
        size_t from = i;
        if (max-- <= 0) return add_part(vm, l, s, from, s->n);
        while (i < s->n && !space_at(s, i, &len)) i += len;
        TRY(add_part(vm, l, s, from, i));
    }
}

static mote_status rsplit_space(jvm *vm, const jstr *s, int64_t max, jvec *l) {
    size_t i = s->n, len;
    for (;;) {
        while (i > 0 && space_at(s, char_before(s, i), &len)) i = char_before(s, i);
        if (i == 0) return MOTE_OK;
        size_t to = i;
        if (max-- <= 0) return add_part(vm, l, s, 0, to);
        while (i > 0 && !space_at(s, char_before(s, i), &len)) i = char_before(s, i);
        TRY(add_part(vm, l, s, i, to));
    }
}

static mote_status split_sep(jvm *vm, const jstr *s, const jstr *sep, int64_t max, jvec *l) {
    size_t at = 0, hit;
    while (max-- > 0 && (hit = str_find(jview_of(s), jview_of(sep), at)) != SIZE_MAX) {
        TRY(add_part(vm, l, s, at, hit));
        at = hit + sep->n;
    }
    return add_part(vm, l, s, at, s->n);
}

/* Offset of the last sep that ends at or before `end`, or SIZE_MAX. */
static mote_status find_last(jvm *vm, const jstr *s, const jstr *sep, size_t end, size_t *hit) {
    *hit = SIZE_MAX;
    for (size_t i = end; i >= sep->n; i--) {
        if (i % 16 == 0) TRY(jinja_spend(vm, 1));
        if (s->p[i - 1] != sep->p[sep->n - 1] || s->p[i - sep->n] != sep->p[0]) continue;
        TRY(jinja_spend(vm, sep->n / 64 + 1));
        if (memcmp(s->p + i - sep->n, sep->p, sep->n) != 0) continue;
        *hit = i - sep->n;
        break;
    }
    return MOTE_OK;
}

static mote_status rsplit_sep(jvm *vm, const jstr *s, const jstr *sep, int64_t max, jvec *l) {
    size_t end = s->n, hit;
    while (max-- > 0) {
        TRY(find_last(vm, s, sep, end, &hit));
        if (hit == SIZE_MAX) break;
        TRY(add_part(vm, l, s, hit + sep->n, end));
        end = hit;
    }
    return add_part(vm, l, s, 0, end);
}

mote_status jinja_split(jvm *vm, const jstr *s, const jstr *sep, int64_t max, bool from_right, jval *out) {
    jvec l = {0};
    if (max < 0) max = INT64_MAX;
    if (sep && sep->n == 0) RAISE(vm, "empty separator");
    TRY(jinja_spend(vm, s->n / 64));
    if (sep) TRY(from_right ? rsplit_sep(vm, s, sep, max, &l) : split_sep(vm, s, sep, max, &l));
    else TRY(from_right ? rsplit_space(vm, s, max, &l) : split_space(vm, s, max, &l));
    for (uint32_t i = 0; from_right && i < l.n / 2; i++) {
        jval t = l.v[i];
        l.v[i] = l.v[l.n - 1 - i];
        l.v[l.n - 1 - i] = t;
    }
    return jinja_vec_list(vm, &l, out);
}

static bool line_end(uint32_t c) {
    return (c >= 10 && c <= 13) || (c >= 0x1C && c <= 0x1E) || c == 0x85 || c == 0x2028 || c == 0x2029;
}

mote_status jinja_split_lines(jvm *vm, const jstr *s, bool keep_ends, jval *out) {
    jvec l = {0};
    size_t from = 0;
    TRY(jinja_spend(vm, s->n / 64));
    for (size_t i = 0, len; i < s->n; i += len) {
        uint32_t c = jinja_char_at(s->p + i, &len);
        if (!line_end(c)) continue;
        if (c == '\r' && i + 1 < s->n && s->p[i + 1] == '\n') len = 2;
        TRY(add_part(vm, &l, s, from, keep_ends ? i + len : i));
        from = i + len;
    }
    if (from < s->n) TRY(add_part(vm, &l, s, from, s->n));
    return jinja_vec_list(vm, &l, out);
}

/* ---- padding ---- */

mote_status jinja_pad(jvm *vm, const jstr *s, int64_t width, const jstr *fill, int where, jval *out) {
    int64_t missing = width - s->n_chars, left = 0;
    if (fill->n_chars != 1) RAISE(vm, "The fill character must be exactly one character long");
    if (missing <= 0) {
        *out = jstring(s);
        return MOTE_OK;
    }
    if (where == (STRIP_LEFT | STRIP_RIGHT)) left = missing / 2 + (missing & width & 1);
    else if (where == STRIP_LEFT) left = missing;
    jbuild b;
    jinja_build_init(&b, vm);
    jinja_build_repeat(&b, fill, left);
    jinja_build_str(&b, s);
    jinja_build_repeat(&b, fill, missing - left);
    return jinja_build_done(&b, out);
}
