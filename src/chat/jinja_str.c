/* jinja_str.c: strings that know where their bytes come from.
 *
 * A string's provenance is a flag for its first byte and the offsets where it flips. Whatever copies bytes
 * goes through jbuild, which keeps the flag beside them; slices and strips are views. */
#include "chat/jinja_int.h"

size_t jinja_str_chars(str s) {
    size_t n = 0;
    for (size_t i = 0; i < s.n; i++) n += ((unsigned char)s.p[i] & 0xC0) != 0x80;
    return n;
}

size_t jinja_str_offset(const jstr *s, size_t i) {
    if (s->n_chars == s->n || i == 0) return i;
    if (i >= s->n_chars) return s->n;
    size_t at = 0;
    while (i-- > 0) at += jutf8_len((unsigned char)s->p[at]);
    return at;
}

/* How many cuts lie at or before `at`: an odd number flips the provenance of the first byte. */
static uint32_t cuts_to(const jstr *s, size_t at) {
    uint32_t lo = 0, hi = s->n_cuts;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (s->cuts[mid] <= at) lo = mid + 1;
        else hi = mid;
    }
    return lo;
}

bool jinja_str_content_at(const jstr *s, size_t at) { return s->content != ((cuts_to(s, at) & 1) != 0); }

bool jinja_str_any_content(const jstr *s) { return s->n && (s->content || s->n_cuts); }

/* ---- building ---- */

void jinja_build_init(jbuild *b, jvm *vm) {
    *b = (jbuild){.vm = vm, .max = UINT32_MAX - 1};
}

static bool room(jbuild *b, void *pp, size_t *cap, size_t need, size_t size, size_t used) {
    if (need <= *cap) return true;
    size_t want = *cap < 16 ? 32 : *cap * 2;
    if (want < need) want = need;
    void *p, *old;
    memcpy(&old, pp, sizeof old);
    if (jinja_alloc(b->vm, want, size, &p) != MOTE_OK) {
        b->failed = true;
        return false;
    }
    if (used) memcpy(p, old, used * size);
    memcpy(pp, &p, sizeof p);
    *cap = want;
    return true;
}

void jinja_build_put(jbuild *b, const char *p, size_t n, bool content) {
    if (n == 0 || b->failed || b->over) return;
    if (n > b->max - b->n) {
        b->over = true;
        return;
    }
    if (!room(b, &b->p, &b->cap, b->n + n, 1, b->n)) return;
    if (b->n == 0) b->first = content;
    else if (content != b->last) {
        if (!room(b, &b->cuts, &b->cap_cuts, b->n_cuts + 1, sizeof *b->cuts, b->n_cuts)) return;
        b->cuts[b->n_cuts++] = (uint32_t)b->n;
    }
    b->last = content;
    memcpy(b->p + b->n, p, n);
    b->n += n;
    b->vm->steps -= (int64_t)(n / 64);
}

void jinja_build_lit(jbuild *b, const char *s) { jinja_build_put(b, s, strlen(s), false); }

void jinja_build_part(jbuild *b, const jstr *s, size_t from, size_t n) {
    size_t end = from + n;
    uint32_t k = cuts_to(s, from);
    bool content = s->content != ((k & 1) != 0);
    while (from < end) {
        size_t to = k < s->n_cuts && s->cuts[k] < end ? s->cuts[k] : end;
        jinja_build_put(b, s->p + from, to - from, content);
        from = to;
        content = !content;
        k++;
    }
}

void jinja_build_cp(jbuild *b, const uint32_t *cp, size_t n, bool content) {
    char tmp[4];
    for (size_t i = 0; i < n; i++) jinja_build_put(b, tmp, utf8_encode(cp[i], tmp), content);
}

void jinja_build_str(jbuild *b, const jstr *s) { jinja_build_part(b, s, 0, s->n); }

void jinja_build_repeat(jbuild *b, const jstr *s, int64_t times) {
    if (times <= 0 || s->n == 0) return;
    if ((uint64_t)times > (b->max - b->n) / s->n) {
        b->over = true;
        return;
    }
    if (!room(b, &b->p, &b->cap, b->n + s->n * (size_t)times, 1, b->n)) return;
    for (int64_t i = 0; i < times && !b->failed; i++) {
        jinja_build_str(b, s);
        if (--b->vm->steps < 0) break;
    }
}

void jinja_build_fill(jbuild *b, char c, int64_t times, bool content) {
    char block[64];
    memset(block, c, sizeof block);
    if (times > 0 && (uint64_t)times > b->max - b->n) b->over = true;
    if (b->over || times <= 0 || !room(b, &b->p, &b->cap, b->n + (size_t)times, 1, b->n)) return;
    for (; times > 0; times -= (int64_t)sizeof block)
        jinja_build_put(b, block, (size_t)MIN(times, (int64_t)sizeof block), content);
}

static mote_status new_str(jvm *vm, jstr s, jval *out) {
    jstr *r;
    TRY(jinja_alloc(vm, 1, sizeof *r, &r));
    *r = s;
    *out = jstring(r);
    return MOTE_OK;
}

mote_status jinja_build_done(jbuild *b, jval *out) {
    if (b->over) return jinja_raise(b->vm, MOTE_E_LIMIT, __FILE__, __LINE__, "a text grew beyond %zu bytes", b->max);
    if (b->failed) return MOTE_E_LIMIT; /* the allocation that failed has filled the error */
    TRY(jinja_spend(b->vm, 0));
    str s = {b->p ? b->p : "", b->n};
    return new_str(b->vm, (jstr){.p = s.p, .n = (uint32_t)s.n, .n_chars = (uint32_t)jinja_str_chars(s),
                                 .content = b->first, .cuts = b->cuts, .n_cuts = (uint32_t)b->n_cuts}, out);
}

mote_status jinja_str_new(jvm *vm, const char *p, size_t n, bool content, jval *out) {
    jbuild b;
    jinja_build_init(&b, vm);
    jinja_build_put(&b, p, n, content);
    return jinja_build_done(&b, out);
}

mote_status jinja_str_lit(jvm *vm, const char *s, jval *out) {
    str v = str_of(s);
    return new_str(vm, (jstr){.p = v.p, .n = (uint32_t)v.n, .n_chars = (uint32_t)jinja_str_chars(v)}, out);
}

mote_status jinja_str_sub(jvm *vm, const jstr *s, size_t from, size_t n, jval *out) {
    if (from == 0 && n == s->n) {
        *out = jstring(s);
        return MOTE_OK;
    }
    jstr r = {.p = s->p + from, .n = (uint32_t)n, .content = jinja_str_content_at(s, from), .markup = s->markup};
    r.n_chars = s->n_chars == s->n ? r.n : (uint32_t)jinja_str_chars((str){r.p, r.n});
    TRY(jinja_spend(vm, n / 64));
    uint32_t first = cuts_to(s, from), last = n ? cuts_to(s, from + n - 1) : first;
    if (last > first) {
        TRY(jinja_spend(vm, (last - first) / 16));
        uint32_t *cuts;
        TRY(jinja_alloc(vm, last - first, sizeof *cuts, &cuts));
        for (uint32_t k = first; k < last; k++) cuts[k - first] = s->cuts[k] - (uint32_t)from;
        r.cuts = cuts;
        r.n_cuts = last - first;
    }
    return new_str(vm, r, out);
}

mote_status jinja_as_markup(jvm *vm, jval v, jval *out) {
    if (v.s->markup) {
        *out = v;
        return MOTE_OK;
    }
    jstr s = *v.s;
    s.markup = true;
    return new_str(vm, s, out);
}

mote_status jinja_escape(jvm *vm, const jstr *s, jval *out) {
    if (s->markup) {
        *out = jstring(s);
        return MOTE_OK;
    }
    static const struct {
        char c;
        const char *to;
    } map[] = {{'&', "&amp;"}, {'<', "&lt;"}, {'>', "&gt;"}, {'\'', "&#39;"}, {'"', "&#34;"}};
    jbuild b;
    jinja_build_init(&b, vm);
    size_t from = 0;
    for (size_t i = 0; i < s->n; i++)
        for (size_t k = 0; k < COUNT_OF(map); k++)
            if (s->p[i] == map[k].c) {
                jinja_build_part(&b, s, from, i - from);
                jinja_build_put(&b, map[k].to, strlen(map[k].to), jinja_str_content_at(s, i));
                from = i + 1;
            }
    jinja_build_part(&b, s, from, s->n - from);
    jval v;
    TRY(jinja_build_done(&b, &v));
    return jinja_as_markup(vm, v, out);
}

#define GROW_FROM 256 /* bytes from which a concatenation leaves room behind itself */

/* The cuts of a followed by b. */
static mote_status join_cuts(jvm *vm, const jstr *a, const jstr *b, jstr *r) {
    bool last = (a->n_cuts & 1) ? !a->content : a->content;
    bool flip = last != b->content;
    r->n_cuts = a->n_cuts + b->n_cuts + flip;
    if (r->n_cuts == 0) return MOTE_OK;
    uint32_t *cuts;
    TRY(jinja_alloc(vm, r->n_cuts, sizeof *cuts, &cuts));
    if (a->n_cuts) memcpy(cuts, a->cuts, a->n_cuts * sizeof *cuts);
    if (flip) cuts[a->n_cuts] = a->n;
    for (uint32_t k = 0; k < b->n_cuts; k++) cuts[a->n_cuts + flip + k] = a->n + b->cuts[k];
    r->cuts = cuts;
    return jinja_spend(vm, r->n_cuts / 16);
}

/* a + b, neither empty. A loop that appends to a string would need quadratic memory if each result were a
 * copy, so a long result leaves as much room again, and the next append to it only copies b. */
static mote_status extend(jvm *vm, const jstr *a, const jstr *b, jval *out) {
    size_t n = (size_t)a->n + b->n;
    if (n >= UINT32_MAX) return jinja_raise(vm, MOTE_E_LIMIT, __FILE__, __LINE__, "a text grew too long");
    jstr r = {.p = a->p, .n = (uint32_t)n, .n_chars = a->n_chars + b->n_chars, .content = a->content, .grow = a->grow};
    TRY(join_cuts(vm, a, b, &r));
    if (!r.grow || r.grow->end != a->p + a->n || r.grow->left < b->n) {
        size_t room_bytes = n >= GROW_FROM ? n : 0;
        char *p;
        TRY(jinja_alloc(vm, n + room_bytes, 1, &p));
        memcpy(p, a->p, a->n);
        TRY(jinja_spend(vm, a->n / 64));
        r.p = p;
        r.grow = NULL;
        if (room_bytes) {
            TRY(jinja_alloc(vm, 1, sizeof *r.grow, &r.grow));
            *r.grow = (jgrow){p + a->n, room_bytes + b->n};
        } else memcpy(p + a->n, b->p, b->n);
    }
    if (r.grow) {
        memcpy(r.grow->end, b->p, b->n);
        r.grow->end += b->n;
        r.grow->left -= b->n;
    }
    TRY(jinja_spend(vm, b->n / 64));
    return new_str(vm, r, out);
}

mote_status jinja_concat(jvm *vm, const jstr *a, const jstr *b, jval *out) {
    bool markup = a->markup || b->markup;
    if (markup && !(a->markup && b->markup)) {
        jval other;
        TRY(jinja_escape(vm, a->markup ? b : a, &other));
        if (a->markup) b = other.s;
        else a = other.s;
    }
    if (b->n == 0 || a->n == 0) {
        *out = jstring(a->n ? a : b);
        return MOTE_OK;
    }
    jval joined;
    TRY(extend(vm, a, b, &joined));
    if (!markup) {
        *out = joined;
        return MOTE_OK;
    }
    return jinja_as_markup(vm, joined, out);
}

/* ---- stripping ---- */

static bool in_set(const jstr *set, const char *p, size_t len) {
    if (!set) {
        size_t n;
        return jinja_is_space(jinja_char_at(p, &n));
    }
    for (size_t i = 0; i < set->n;) {
        size_t n = jutf8_len((unsigned char)set->p[i]);
        if (n == len && memcmp(set->p + i, p, n) == 0) return true;
        i += n;
    }
    return false;
}

mote_status jinja_strip(jvm *vm, const jstr *s, const jstr *set, int sides, jval *out) {
    size_t from = 0, to = s->n, step = set ? set->n / 16 + 1 : 1;
    while ((sides & STRIP_LEFT) && from < to) {
        size_t len = jutf8_len((unsigned char)s->p[from]);
        if (!in_set(set, s->p + from, len)) break;
        TRY(jinja_spend(vm, step));
        from += len;
    }
    while ((sides & STRIP_RIGHT) && to > from) {
        size_t i = to - 1;
        while (((unsigned char)s->p[i] & 0xC0) == 0x80) i--;
        if (!in_set(set, s->p + i, to - i)) break;
        TRY(jinja_spend(vm, step));
        to = i;
    }
    return jinja_str_sub(vm, s, from, to - from, out);
}
