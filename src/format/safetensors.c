/* safetensors.c: a JSON header and the tensors' bytes, read and written.
 *
 * The header is scanned in place by a scanner for just its shape (no tree, no recursion), so that its cost is
 * linear and small whatever it says. Then, as in the reference implementation: the spans, sorted, must cover
 * the data exactly, without hole or overlap, and each must be as long as shape and dtype say.
 * Source: the safetensors format description, huggingface.co/docs/safetensors. */
#include "format/format_int.h"

#include <stdlib.h>

#define HEADER_BYTES_MAX ((size_t)100 << 20)
#define ST_DIMS_MAX 8

struct st_file {
    arena mem;
    st_tensor *tensors;
    size_t n, cap;
    name_index index;
    json_t *metadata;
};

/* Bits per element. */
static const struct {
    char name[8];
    unsigned bits;
} dtypes[] = {
    {"F32", 32},  {"F16", 16},  {"BF16", 16}, {"F64", 64},     {"I64", 64},     {"I32", 32},    {"I16", 16},
    {"I8", 8},    {"U8", 8},    {"BOOL", 8},  {"U16", 16},     {"U32", 32},     {"U64", 64},    {"F8_E4M3", 8},
    {"F8_E5M2", 8}, {"F8_E8M0", 8}, {"F4", 4}, {"F6_E2M3", 6}, {"F6_E3M2", 6}, {"C64", 64},
};

static unsigned dtype_bits(str name) {
    for (size_t i = 0; i < COUNT_OF(dtypes); i++)
        if (str_is(name, dtypes[i].name)) return dtypes[i].bits;
    return 0;
}

/* While parsing, a tensor's data is its first offset and size its end offset minus that; both are checked and
 * turned into a pointer by place(). */
typedef struct scan {
    const char *p;
    size_t n, at;
    arena *mem;
} scan;

static void skip_space(scan *s) {
    while (s->at < s->n && (s->p[s->at] == ' ' || s->p[s->at] == '\n' || s->p[s->at] == '\t' || s->p[s->at] == '\r'))
        s->at++;
}

static bool next_is(scan *s, char c) {
    skip_space(s);
    if (s->at >= s->n || s->p[s->at] != c) return false;
    s->at++;
    return true;
}

static mote_status expect(scan *s, char c, mote_error *err) {
    if (!next_is(s, c)) FAIL(err, MOTE_E_FORMAT, "safetensors: '%c' expected at byte %zu of the header", c, s->at);
    return MOTE_OK;
}

/* A JSON string; a view unless it holds escapes. */
static mote_status scan_string(scan *s, str *out, mote_error *err) {
    TRY(expect(s, '"', err));
    size_t from = s->at;
    bool escapes = false;
    for (; s->at < s->n && s->p[s->at] != '"'; s->at++) {
        if ((unsigned char)s->p[s->at] < 0x20)
            FAIL(err, MOTE_E_FORMAT, "safetensors: control character in a string at byte %zu of the header", s->at);
        if (s->p[s->at] == '\\') {
            escapes = true;
            s->at++;
        }
    }
    if (s->at >= s->n) FAIL(err, MOTE_E_FORMAT, "safetensors: the header ends inside a string");
    *out = str_sub((str){s->p, s->n}, from, s->at - from);
    s->at++;
    if (!escapes) return MOTE_OK;
    json_t *v;
    TRY(json_parse(&v, (str){s->p + from - 1, s->at - from + 1}, "safetensors: a string in the header", err));
    char *copy = arena_dup(s->mem, (str){json_string_value(v), json_string_length(v)});
    *out = (str){copy, json_string_length(v)};
    json_decref(v);
    if (!copy) FAIL(err, MOTE_E_MEMORY, "out of memory");
    return MOTE_OK;
}

static mote_status scan_u64(scan *s, uint64_t *v, mote_error *err) {
    skip_space(s);
    size_t from = s->at;
    while (s->at < s->n && s->p[s->at] >= '0' && s->p[s->at] <= '9') s->at++;
    str digits = str_sub((str){s->p, s->n}, from, s->at - from);
    if ((digits.n > 1 && digits.p[0] == '0') || !str_to_u64(digits, v))
        FAIL(err, MOTE_E_FORMAT, "safetensors: a whole number of at most 64 bits expected at byte %zu of the header",
             from);
    return MOTE_OK;
}

/* [1, 2, 3] of at most max numbers. */
static mote_status scan_numbers(scan *s, uint64_t *v, int max, int *n, str name, mote_error *err) {
    *n = 0;
    TRY(expect(s, '[', err));
    if (next_is(s, ']')) return MOTE_OK;
    do {
        if (*n == max) FAIL(err, MOTE_E_FORMAT, "safetensors: '%.*s': more than %d numbers", STR_ARG(name), max);
        TRY(scan_u64(s, &v[(*n)++], err));
    } while (next_is(s, ','));
    return expect(s, ']', err);
}

typedef struct span {
    uint64_t from, to;
} span;

/* {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]} in any order, each once. */
static mote_status scan_entry(scan *s, st_tensor *t, span *where, mote_error *err) {
    enum { DTYPE = 1, SHAPE = 2, OFFSETS = 4 };
    unsigned seen = 0;
    TRY(expect(s, '{', err));
    if (!next_is(s, '}')) {
        do {
            str key;
            TRY(scan_string(s, &key, err));
            TRY(expect(s, ':', err));
            unsigned now = str_is(key, "dtype") ? DTYPE : str_is(key, "shape") ? SHAPE
                         : str_is(key, "data_offsets") ? OFFSETS : 0;
            if (!now || (seen & now))
                FAIL(err, MOTE_E_FORMAT, "safetensors: '%.*s': unexpected field '%.*s'", STR_ARG(t->name),
                     STR_ARG(key));
            seen |= now;
            uint64_t offsets[2];
            int n;
            if (now == DTYPE) TRY(scan_string(s, &t->dtype, err));
            else if (now == SHAPE) TRY(scan_numbers(s, t->shape, ST_DIMS_MAX, &t->n_dims, t->name, err));
            else {
                TRY(scan_numbers(s, offsets, 2, &n, t->name, err));
                if (n != 2) FAIL(err, MOTE_E_FORMAT, "safetensors: '%.*s': two offsets expected", STR_ARG(t->name));
                *where = (span){offsets[0], offsets[1]};
            }
        } while (next_is(s, ','));
        TRY(expect(s, '}', err));
    }
    if (seen != (DTYPE | SHAPE | OFFSETS))
        FAIL(err, MOTE_E_FORMAT, "safetensors: '%.*s' lacks dtype, shape or data_offsets", STR_ARG(t->name));
    return MOTE_OK;
}

static mote_status check_span(st_tensor *t, span where, mote_error *err) {
    unsigned bits = dtype_bits(t->dtype);
    if (!bits)
        FAIL(err, MOTE_E_UNSUPPORTED, "safetensors: '%.*s' has unknown dtype '%.*s'", STR_ARG(t->name),
             STR_ARG(t->dtype));
    uint64_t n = bits;
    for (int d = 0; d < t->n_dims; d++)
        if (!ckd_mul_u64(&n, n, t->shape[d]))
            FAIL(err, MOTE_E_FORMAT, "safetensors: the shape of '%.*s' is too large", STR_ARG(t->name));
    if (n % 8 != 0 || where.from > where.to || where.to - where.from != n / 8)
        FAIL(err, MOTE_E_FORMAT, "safetensors: '%.*s' spans bytes %llu to %llu, but its shape and dtype need %llu bits",
             STR_ARG(t->name), (unsigned long long)where.from, (unsigned long long)where.to, (unsigned long long)n);
    return MOTE_OK;
}

/* __metadata__: an object of strings. The scanner finds its end, jansson reads it. */
static mote_status scan_metadata(scan *s, json_t **out, mote_error *err) {
    if (*out) FAIL(err, MOTE_E_FORMAT, "safetensors: __metadata__ occurs twice");
    skip_space(s);
    size_t from = s->at;
    str ignored;
    TRY(expect(s, '{', err));
    if (!next_is(s, '}')) {
        do {
            TRY(scan_string(s, &ignored, err));
            TRY(expect(s, ':', err));
            skip_space(s);
            if (s->at >= s->n || s->p[s->at] != '"')
                FAIL(err, MOTE_E_FORMAT, "safetensors: __metadata__ holds something that is no string");
            TRY(scan_string(s, &ignored, err));
        } while (next_is(s, ','));
        TRY(expect(s, '}', err));
    }
    return json_parse(out, (str){s->p + from, s->at - from}, "safetensors: __metadata__", err);
}

static mote_status scan_header(st_file *f, scan *s, span **spans, size_t *cap_spans, mote_error *err) {
    TRY(expect(s, '{', err));
    if (!next_is(s, '}')) {
        do {
            str name;
            TRY(scan_string(s, &name, err));
            TRY(expect(s, ':', err));
            if (str_is(name, "__metadata__")) {
                TRY(scan_metadata(s, &f->metadata, err));
                continue;
            }
            if (name.n == 0 || memchr(name.p, 0, name.n))
                FAIL(err, MOTE_E_FORMAT, "safetensors: a tensor name is empty or holds NUL");
            TRY(mem_grow(&f->tensors, &f->cap, f->n + 1, sizeof *f->tensors, FORMAT_TENSORS_MAX, err));
            TRY(mem_grow(spans, cap_spans, f->n + 1, sizeof **spans, FORMAT_TENSORS_MAX, err));
            st_tensor *t = &f->tensors[f->n];
            *t = (st_tensor){.name = name};
            TRY(scan_entry(s, t, &(*spans)[f->n], err));
            TRY(check_span(t, (*spans)[f->n], err));
            f->n++;
        } while (next_is(s, ','));
        TRY(expect(s, '}', err));
    }
    skip_space(s);
    if (s->at != s->n) FAIL(err, MOTE_E_FORMAT, "safetensors: something follows the header's last brace");
    return MOTE_OK;
}

typedef struct placed {
    span where;
    size_t i;
} placed;

static int by_place(const void *a, const void *b) {
    const placed *x = a, *y = b;
    if (x->where.from != y->where.from) return x->where.from < y->where.from ? -1 : 1;
    if (x->where.to != y->where.to) return x->where.to < y->where.to ? -1 : 1;
    return x->i < y->i ? -1 : x->i > y->i;
}

/* Sorted by place, the spans must follow each other and end with the file; f's tensors get that order. */
static mote_status place(st_file *f, const span *spans, const unsigned char *data, size_t n, mote_error *err) {
    mote_status s = MOTE_OK;
    placed *order = MEM_NEW_N(placed, f->n);
    st_tensor *sorted = MEM_NEW_N(st_tensor, f->n);
    if (!order || !sorted) FAILG(s, err, MOTE_E_MEMORY, "out of memory for %zu tensors", f->n);
    for (size_t i = 0; i < f->n; i++) order[i] = (placed){spans[i], i};
    qsort(order, f->n, sizeof *order, by_place);
    uint64_t end = 0;
    for (size_t i = 0; i < f->n; i++) {
        st_tensor *t = &sorted[i];
        *t = f->tensors[order[i].i];
        if (order[i].where.from != end)
            FAILG(s, err, MOTE_E_FORMAT, "safetensors: '%.*s' begins at %llu, the tensor before it ends at %llu",
                  STR_ARG(t->name), (unsigned long long)order[i].where.from, (unsigned long long)end);
        end = order[i].where.to;
        if (end > n)
            FAILG(s, err, MOTE_E_FORMAT, "safetensors: '%.*s' ends at %llu, beyond the %zu bytes of data: incomplete?",
                  STR_ARG(t->name), (unsigned long long)end, n);
        t->data = data + order[i].where.from;
        t->size = (size_t)(end - order[i].where.from);
    }
    if (end != n)
        FAILG(s, err, MOTE_E_FORMAT, "safetensors: %llu bytes follow the last tensor", (unsigned long long)(n - end));
    st_tensor *old = f->tensors;
    f->tensors = sorted;
    sorted = old;
out:
    mem_free(order);
    mem_free(sorted);
    return s;
}

_Static_assert(offsetof(st_tensor, name) == 0, "indexed by first member");

static mote_status index_tensors(st_file *f, mote_error *err) {
    if (!index_init(&f->index, &f->mem, f->n)) FAIL(err, MOTE_E_MEMORY, "out of memory for %zu names", f->n);
    for (size_t i = 0; i < f->n; i++) {
        index_result r = index_add(&f->index, f->tensors, sizeof *f->tensors, i);
        if (r == INDEX_DUPLICATE)
            FAIL(err, MOTE_E_FORMAT, "safetensors: '%.*s' occurs twice", STR_ARG(f->tensors[i].name));
        if (r == INDEX_CROWDED) FAIL(err, MOTE_E_LIMIT, "safetensors: too many colliding names");
    }
    return MOTE_OK;
}

mote_status st_parse(st_file **out, const unsigned char *data, size_t n, mote_error *err) {
    *out = NULL;
    if (n < 8) FAIL(err, MOTE_E_FORMAT, "safetensors: the file has %zu bytes, fewer than its length field", n);
    uint64_t header = le_get(data, 8);
    if (header < 2 || header > HEADER_BYTES_MAX || header > n - 8)
        FAIL(err, MOTE_E_FORMAT, "safetensors: a header of %llu bytes cannot be in a file of %zu (limit %zu)",
             (unsigned long long)header, n, HEADER_BYTES_MAX);
    const char *text = (const char *)data + 8;
    if (text[0] != '{' || !utf8_valid(text, (size_t)header))
        FAIL(err, MOTE_E_FORMAT, "safetensors: the header is not a JSON object in UTF-8");
    mote_status s = MOTE_OK;
    span *spans = NULL;
    size_t cap_spans = 0;
    st_file *f = MEM_NEW(st_file);
    if (!f) FAIL(err, MOTE_E_MEMORY, "out of memory");
    arena_init(&f->mem, FORMAT_ARENA_MAX);
    scan sc = {text, (size_t)header, 0, &f->mem};
    TRYG(s, scan_header(f, &sc, &spans, &cap_spans, err));
    TRYG(s, place(f, spans, data + 8 + header, n - 8 - (size_t)header, err));
    TRYG(s, index_tensors(f, err));
    *out = f;
    f = NULL;
out:
    mem_free(spans);
    st_close(&f);
    return s;
}

void st_close(st_file **pf) {
    st_file *f = pf ? *pf : NULL;
    if (!f) return;
    *pf = NULL;
    mem_free(f->tensors);
    json_decref(f->metadata);
    arena_free(&f->mem);
    mem_free(f);
}

size_t st_n_tensors(const st_file *f) { return f->n; }
const st_tensor *st_tensor_at(const st_file *f, size_t i) { return i < f->n ? &f->tensors[i] : NULL; }
const st_tensor *st_find(const st_file *f, const char *name) {
    size_t i = index_find(&f->index, f->tensors, sizeof *f->tensors, str_of(name));
    return i == SIZE_MAX ? NULL : &f->tensors[i];
}
const json_t *st_metadata(const st_file *f) { return f->metadata; }

static void put_json_string(buf *b, str s) {
    buf_putc(b, '"');
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];
        if (c == '"' || c == '\\') buf_putc(b, '\\');
        if (c < 0x20) buf_printf(b, "\\u%04x", c);
        else buf_putc(b, (char)c);
    }
    buf_putc(b, '"');
}

static mote_status put_metadata(buf *b, const json_t *metadata, mote_error *err) {
    buf_puts(b, "\"__metadata__\":{");
    const char *sep = "", *key;
    const json_t *v;
    /* jansson iterates only over what is not const; nothing is changed */
    union {
        const json_t *in;
        json_t *out;
    } m = {metadata};
    for (void *it = json_object_iter(m.out); it; it = json_object_iter_next(m.out, it)) {
        key = json_object_iter_key(it);
        v = json_object_iter_value(it);
        if (!json_is_string(v)) FAIL(err, MOTE_E_USAGE, "safetensors metadata '%.100s' is not a string", key);
        buf_puts(b, sep);
        put_json_string(b, str_of(key));
        buf_putc(b, ':');
        put_json_string(b, (str){json_string_value(v), json_string_length(v)});
        sep = ",";
    }
    buf_putc(b, '}');
    return MOTE_OK;
}

static mote_status build_header(buf *b, const st_tensor *tensors, size_t n, const json_t *metadata, mote_error *err) {
    uint64_t at = 0;
    const char *sep = "";
    buf_putc(b, '{');
    if (metadata && json_object_size(metadata)) {
        TRY(put_metadata(b, metadata, err));
        sep = ",";
    }
    for (size_t i = 0; i < n; i++) {
        const st_tensor *t = &tensors[i];
        uint64_t end;
        if (t->n_dims < 0 || t->n_dims > ST_DIMS_MAX || !ckd_add_u64(&end, at, t->size))
            FAIL(err, MOTE_E_USAGE, "safetensors: '%.*s' cannot be written: bad shape", STR_ARG(t->name));
        st_tensor checked = *t;
        TRY(check_span(&checked, (span){at, end}, err));
        buf_puts(b, sep);
        put_json_string(b, t->name);
        buf_printf(b, ":{\"dtype\":\"%.*s\",\"shape\":[", STR_ARG(t->dtype));
        for (int d = 0; d < t->n_dims; d++) buf_printf(b, d ? ",%llu" : "%llu", (unsigned long long)t->shape[d]);
        buf_printf(b, "],\"data_offsets\":[%llu,%llu]}", (unsigned long long)at, (unsigned long long)end);
        at = end;
        sep = ",";
    }
    buf_putc(b, '}');
    while (b->n % 8 && !b->failed) buf_putc(b, ' ');
    return buf_check(b, "safetensors header", err);
}

mote_status st_write(const char *path, const st_tensor *tensors, size_t n, const json_t *metadata, mote_error *err) {
    buf header;
    file_writer w = {0};
    buf_init(&header, HEADER_BYTES_MAX);
    mote_status s;
    TRYG(s, build_header(&header, tensors, n, metadata, err));
    unsigned char len[8];
    le_put(len, header.n, sizeof len);
    TRYG(s, file_writer_open(&w, path, err));
    TRYG(s, file_write(&w, len, sizeof len, err));
    TRYG(s, file_write(&w, header.p, header.n, err));
    for (size_t i = 0; i < n; i++) TRYG(s, file_write(&w, tensors[i].data, tensors[i].size, err));
    TRYG(s, file_writer_commit(&w, err));
out:
    file_writer_abort(&w);
    buf_free(&header);
    return s;
}
