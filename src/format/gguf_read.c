/* gguf_read.c: GGUF 2 and 3 from bytes.
 *
 * Invariants: the cursor never passes the end; a count is compared with the bytes that are left before memory
 * is asked for; every product and sum of numbers from the file is checked; nothing recurses (arrays of arrays
 * are refused). Strings, arrays and tensors stay views of the input.
 * Source: docs/formats/gguf.md. */
#include "format/format_int.h"

#include <limits.h>

typedef struct cursor {
    const unsigned char *p;
    size_t n, at;
} cursor;

static const uint8_t scalar_bytes[] = {
    [KV_U8] = 1, [KV_I8] = 1, [KV_U16] = 2, [KV_I16] = 2, [KV_U32] = 4, [KV_I32] = 4, [KV_F32] = 4,
    [KV_BOOL] = 1, [KV_STRING] = 0, [KV_ARRAY] = 0, [KV_U64] = 8, [KV_I64] = 8, [KV_F64] = 8,
};

static size_t left(const cursor *c) { return c->n - c->at; }

static mote_status need(const cursor *c, uint64_t n, const char *what, mote_error *err) {
    if (n > left(c))
        FAIL(err, MOTE_E_FORMAT, "GGUF: %s at byte %zu needs %llu bytes, the file has %zu more", what, c->at,
             (unsigned long long)n, left(c));
    return MOTE_OK;
}

static mote_status take_u32(cursor *c, uint32_t *v, const char *what, mote_error *err) {
    TRY(need(c, 4, what, err));
    *v = (uint32_t)le_get(c->p + c->at, 4);
    c->at += 4;
    return MOTE_OK;
}

static mote_status take_u64(cursor *c, uint64_t *v, const char *what, mote_error *err) {
    TRY(need(c, 8, what, err));
    *v = le_get(c->p + c->at, 8);
    c->at += 8;
    return MOTE_OK;
}

static mote_status take_str(cursor *c, str *s, const char *what, mote_error *err) {
    uint64_t n;
    TRY(take_u64(c, &n, what, err));
    TRY(need(c, n, what, err));
    *s = (str){(const char *)c->p + c->at, (size_t)n};
    c->at += (size_t)n;
    return MOTE_OK;
}

/* What people hand in by mistake gets a message that says what it is. */
static mote_status not_gguf(const unsigned char *p, size_t n, mote_error *err) {
    static const struct {
        const char *magic;
        size_t n;
        const char *is;
    } known[] = {
        {"version https://git-lfs", 23, "a Git LFS pointer: fetch the real file with 'git lfs pull'"},
        {"PK\3\4", 4, "a zip archive, perhaps a PyTorch checkpoint: convert it to safetensors first"},
        {"\x80\2", 2, "a Python pickle, which is never loaded: convert it to safetensors first"},
        {"tjgg", 4, "a GGML file older than GGUF: convert the original model again"},
        {"lmgg", 4, "a GGML file older than GGUF: convert the original model again"},
        {"fmgg", 4, "a GGML file older than GGUF: convert the original model again"},
        {"FUGG", 4, "a big-endian GGUF, which is not supported: convert it to little-endian"},
        {"<", 1, "a web page or XML, perhaps a failed download"},
    };
    for (size_t i = 0; i < COUNT_OF(known); i++)
        if (n >= known[i].n && memcmp(p, known[i].magic, known[i].n) == 0)
            FAIL(err, MOTE_E_FORMAT, "not a GGUF file but %s", known[i].is);
    if (n > 9 && p[8] == '{' && le_get(p, 8) < n)
        FAIL(err, MOTE_E_FORMAT, "not a GGUF file but safetensors: give the folder that holds it and config.json");
    FAIL(err, MOTE_E_FORMAT, "not a GGUF file: it has %zu bytes and does not begin with \"GGUF\"", n);
}

static mote_status read_header(cursor *c, uint64_t *n_tensors, uint64_t *n_kv, mote_error *err) {
    if (c->n < 4 || memcmp(c->p, "GGUF", 4) != 0) return not_gguf(c->p, c->n, err);
    c->at = 4;
    uint32_t version;
    TRY(take_u32(c, &version, "the version", err));
    if (version != 0 && (version & 0xFFFF) == 0)
        FAIL(err, MOTE_E_UNSUPPORTED, "GGUF: a big-endian file (version reads as %u): convert it to little-endian",
             version);
    if (version != 2 && version != 3)
        FAIL(err, MOTE_E_UNSUPPORTED, "GGUF: version %u is not supported, only 2 and 3 are", version);
    TRY(take_u64(c, n_tensors, "the tensor count", err));
    TRY(take_u64(c, n_kv, "the metadata count", err));
    /* a key takes at least 14 bytes (length, 1 letter, type, 1 byte), a tensor 33 */
    if (*n_kv > left(c) / 14 || *n_kv > FORMAT_KV_MAX)
        FAIL(err, MOTE_E_FORMAT, "GGUF: %llu metadata entries cannot be in a file of %zu bytes (limit %zu)",
             (unsigned long long)*n_kv, c->n, FORMAT_KV_MAX);
    if (*n_tensors > left(c) / 33 || *n_tensors > FORMAT_TENSORS_MAX)
        FAIL(err, MOTE_E_FORMAT, "GGUF: %llu tensors cannot be in a file of %zu bytes (limit %zu)",
             (unsigned long long)*n_tensors, c->n, FORMAT_TENSORS_MAX);
    return MOTE_OK;
}

static mote_status check_name(str s, size_t max, const char *what, mote_error *err) {
    if (s.n == 0) FAIL(err, MOTE_E_FORMAT, "GGUF: %s is empty", what);
    if (s.n > max) FAIL(err, MOTE_E_FORMAT, "GGUF: %s has %zu bytes, at most %zu are allowed", what, s.n, max);
    if (memchr(s.p, 0, s.n) || !utf8_valid(s.p, s.n))
        FAIL(err, MOTE_E_FORMAT, "GGUF: %s is not UTF-8 text without NUL", what);
    return MOTE_OK;
}

static void load_scalar(kv *k, const unsigned char *p) {
    uint64_t bits = le_get(p, scalar_bytes[k->type]);
    switch (k->type) {
    case KV_I8: k->i = (int8_t)bits; break;
    case KV_I16: k->i = (int16_t)bits; break;
    case KV_I32: k->i = (int32_t)bits; break;
    case KV_BOOL: k->i = bits != 0; break;
    case KV_F32: {
        uint32_t b = (uint32_t)bits;
        float v;
        memcpy(&v, &b, sizeof v);
        k->f = (double)v;
        break;
    }
    case KV_F64: memcpy(&k->f, &bits, sizeof k->f); break;
    default: k->i = (int64_t)bits; break;
    }
}

static mote_status read_array(cursor *c, arena *mem, kv *k, size_t *n_strings, mote_error *err) {
    uint32_t elem;
    TRY(take_u32(c, &elem, "an array's element type", err));
    TRY(take_u64(c, &k->count, "an array's length", err));
    if (elem == KV_ARRAY) FAIL(err, MOTE_E_UNSUPPORTED, "GGUF: key '%.*s' is an array of arrays", STR_ARG(k->key));
    if (elem > KV_F64) FAIL(err, MOTE_E_FORMAT, "GGUF: key '%.*s': unknown element type %u", STR_ARG(k->key), elem);
    k->elem = (kv_type)elem;
    if (elem != KV_STRING) {
        if (k->count > left(c) / scalar_bytes[elem])
            FAIL(err, MOTE_E_FORMAT, "GGUF: key '%.*s': %llu elements do not fit into the %zu bytes left",
                 STR_ARG(k->key), (unsigned long long)k->count, left(c));
        k->elems = c->p + c->at;
        c->at += (size_t)k->count * scalar_bytes[elem];
        return MOTE_OK;
    }
    if (k->count > left(c) / 8 || k->count > FORMAT_STRINGS_MAX - *n_strings)
        FAIL(err, MOTE_E_FORMAT, "GGUF: key '%.*s': %llu strings do not fit into the %zu bytes left (limit %zu)",
             STR_ARG(k->key), (unsigned long long)k->count, left(c), FORMAT_STRINGS_MAX);
    *n_strings += (size_t)k->count;
    str *s = ARENA_NEW_N(mem, str, (size_t)k->count);
    if (!s) FAIL(err, MOTE_E_MEMORY, "out of memory for %llu strings", (unsigned long long)k->count);
    for (size_t i = 0; i < k->count; i++) TRY(take_str(c, &s[i], "a string in an array", err));
    k->strings = s;
    return MOTE_OK;
}

static mote_status read_kv(cursor *c, arena *mem, kv *k, size_t *n_strings, mote_error *err) {
    uint32_t type;
    TRY(take_str(c, &k->key, "a metadata key", err));
    TRY(check_name(k->key, FORMAT_KEY_BYTES_MAX, "a metadata key", err));
    TRY(take_u32(c, &type, "a metadata type", err));
    if (type > KV_F64) FAIL(err, MOTE_E_FORMAT, "GGUF: key '%.*s': unknown type %u", STR_ARG(k->key), type);
    k->type = (kv_type)type;
    if (k->type == KV_STRING) return take_str(c, &k->s, "a metadata string", err);
    if (k->type == KV_ARRAY) return read_array(c, mem, k, n_strings, err);
    TRY(need(c, scalar_bytes[type], "a metadata value", err));
    load_scalar(k, c->p + c->at);
    c->at += scalar_bytes[type];
    return MOTE_OK;
}

/* t->size from type and dimensions. */
static mote_status measure(tensor_info *t, uint32_t type, mote_error *err) {
    const quant_format *q = type <= INT_MAX ? quant_get((int)type) : NULL;
    if (!q) FAIL(err, MOTE_E_UNSUPPORTED, "GGUF: tensor '%.*s' has unknown type %u", STR_ARG(t->name), type);
    t->type = q->type;
    mote_error why;
    mote_status s = quant_row_bytes(q, t->ne[0], &t->size, &why);
    if (s != MOTE_OK) FAIL(err, s, "GGUF: tensor '%.*s': %s", STR_ARG(t->name), why.message);
    uint64_t elements = t->ne[0];
    for (int d = 1; d < t->n_dims; d++) {
        if (!ckd_mul_u64(&elements, elements, t->ne[d]) || !ckd_mul_size(&t->size, t->size, (size_t)t->ne[d]))
            FAIL(err, MOTE_E_FORMAT, "GGUF: the dimensions of tensor '%.*s' are too large", STR_ARG(t->name));
    }
    if (elements > INT64_MAX || t->size > INT64_MAX)
        FAIL(err, MOTE_E_FORMAT, "GGUF: the dimensions of tensor '%.*s' are too large", STR_ARG(t->name));
    return MOTE_OK;
}

static mote_status read_tensor(cursor *c, tensor_info *t, uint64_t *offset, mote_error *err) {
    uint32_t n_dims, type;
    TRY(take_str(c, &t->name, "a tensor name", err));
    TRY(check_name(t->name, FORMAT_NAME_BYTES_MAX, "a tensor name", err));
    t->origin = t->name;
    TRY(take_u32(c, &n_dims, "a tensor's dimension count", err));
    if (n_dims < 1 || n_dims > TENSOR_DIMS_MAX)
        FAIL(err, MOTE_E_FORMAT, "GGUF: tensor '%.*s' has %u dimensions, allowed are 1 to %d", STR_ARG(t->name),
             n_dims, TENSOR_DIMS_MAX);
    t->n_dims = (int)n_dims;
    for (int d = 0; d < TENSOR_DIMS_MAX; d++) {
        t->ne[d] = 1;
        if (d >= t->n_dims) continue;
        TRY(take_u64(c, &t->ne[d], "a tensor's dimension", err));
        if (t->ne[d] == 0 || t->ne[d] > INT64_MAX)
            FAIL(err, MOTE_E_FORMAT, "GGUF: tensor '%.*s': dimension %d is %llu", STR_ARG(t->name), d,
                 (unsigned long long)t->ne[d]);
    }
    TRY(take_u32(c, &type, "a tensor's type", err));
    TRY(take_u64(c, offset, "a tensor's offset", err));
    return measure(t, type, err);
}

static mote_status read_alignment(const model_file *f, uint32_t *align, mote_error *err) {
    const kv *k = model_file_find(f, "general.alignment");
    *align = FORMAT_ALIGN_DEFAULT;
    if (!k) return MOTE_OK;
    bool is_int = k->type != KV_STRING && k->type != KV_ARRAY && k->type != KV_F32 && k->type != KV_F64 &&
                  k->type != KV_BOOL;
    if (!is_int || k->i < 1 || k->i > FORMAT_ALIGN_MAX || (k->i & (k->i - 1)) != 0)
        FAIL(err, MOTE_E_FORMAT, "GGUF: general.alignment must be a power of two, at most %u", FORMAT_ALIGN_MAX);
    *align = (uint32_t)k->i;
    return MOTE_OK;
}

/* Tensors lie in the order of their entries, aligned, without overlap, inside the file. offsets[i] counts
 * from the data section, which begins at the next multiple of align after the entries. */
static mote_status place_tensors(model_file *f, const cursor *c, const uint64_t *offsets, mote_error *err) {
    uint32_t align;
    TRY(read_alignment(f, &align, err));
    if (f->n_tensors == 0) return MOTE_OK;
    size_t base = 0, end = 0;
    bool fits = ckd_add_size(&base, c->at, align - 1);
    base &= ~(size_t)(align - 1);
    if (!fits || base > c->n) FAIL(err, MOTE_E_FORMAT, "GGUF: the file ends before its tensors begin");
    for (size_t i = 0; i < f->n_tensors; i++) {
        tensor_info *t = &f->tensors[i];
        uint64_t at = offsets[i];
        if (at % align != 0)
            FAIL(err, MOTE_E_FORMAT, "GGUF: tensor '%.*s' lies at offset %llu, no multiple of %u", STR_ARG(t->name),
                 (unsigned long long)at, align);
        if (at < end)
            FAIL(err, MOTE_E_FORMAT, "GGUF: tensor '%.*s' at offset %llu overlaps the one before, which ends at %zu",
                 STR_ARG(t->name), (unsigned long long)at, end);
        if (at > c->n - base || t->size > c->n - base - at)
            FAIL(err, MOTE_E_FORMAT, "GGUF: tensor '%.*s' (%zu bytes at offset %llu) ends beyond the file: incomplete?",
                 STR_ARG(t->name), t->size, (unsigned long long)at);
        t->data = c->p + base + at;
        end = (size_t)at + t->size;
    }
    return MOTE_OK;
}

/* Entries into f, which then is complete. */
static mote_status read_all(model_file *f, cursor *c, mote_error *err) {
    uint64_t n_tensors, n_kv;
    size_t n_strings = 0;
    TRY(read_header(c, &n_tensors, &n_kv, err));
    f->kvs = ARENA_NEW_N(&f->mem, kv, (size_t)n_kv);
    f->tensors = ARENA_NEW_N(&f->mem, tensor_info, (size_t)n_tensors);
    uint64_t *offsets = ARENA_NEW_N(&f->mem, uint64_t, (size_t)n_tensors);
    if (!f->kvs || !f->tensors || !offsets) FAIL(err, MOTE_E_MEMORY, "out of memory for the GGUF's entries");
    f->n_kv = (size_t)n_kv;
    f->n_tensors = (size_t)n_tensors;
    for (size_t i = 0; i < f->n_kv; i++) TRY(read_kv(c, &f->mem, &f->kvs[i], &n_strings, err));
    for (size_t i = 0; i < f->n_tensors; i++) TRY(read_tensor(c, &f->tensors[i], &offsets[i], err));
    TRY(model_file_index(f, err));
    return place_tensors(f, c, offsets, err);
}

mote_status gguf_parse(model_file **out, const unsigned char *data, size_t n, mote_error *err) {
    *out = NULL;
    model_file *f = model_file_new();
    if (!f) FAIL(err, MOTE_E_MEMORY, "out of memory");
    cursor c = {data, n, 0};
    f->bytes = n;
    mote_status s = read_all(f, &c, err);
    if (s != MOTE_OK) {
        model_file_close(&f);
        return s;
    }
    *out = f;
    return MOTE_OK;
}
