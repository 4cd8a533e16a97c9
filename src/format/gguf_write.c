/* gguf_write.c: GGUF 3, streamed: keys and tensors are declared, then the bytes follow in the same order.
 * The file appears under its name only when all of it is on disk. */
#include "format/format_int.h"

typedef struct declared {
    char *name;
    size_t name_bytes;
    quant_type type;
    int n_dims;
    uint64_t ne[TENSOR_DIMS_MAX];
    size_t size;
} declared;

struct gguf_writer {
    file_writer file;
    uint32_t align;
    buf *keys; /* one serialised entry each, so that an equal key can be replaced */
    size_t *key_bytes;
    size_t n_keys, cap_keys, cap_key_bytes;
    declared *tensors;
    size_t n_tensors, cap_tensors;
    size_t now, done; /* tensor being written and how much of it is */
    bool begun;
};

#define HEADER_BYTES_MAX ((size_t)1 << 31)

static void put_le(buf *b, uint64_t v, size_t n) {
    unsigned char bytes[8];
    le_put(bytes, v, n);
    buf_put(b, bytes, n);
}

static void put_text(buf *b, str s) {
    put_le(b, s.n, 8);
    buf_put_str(b, s);
}

mote_status gguf_writer_open(gguf_writer **out, const char *path, uint32_t alignment, mote_error *err) {
    *out = NULL;
    if (alignment == 0) alignment = FORMAT_ALIGN_DEFAULT;
    if ((alignment & (alignment - 1)) != 0 || alignment > FORMAT_ALIGN_MAX)
        FAIL(err, MOTE_E_USAGE, "alignment %u is not a power of two up to %u", alignment, FORMAT_ALIGN_MAX);
    gguf_writer *w = MEM_NEW(gguf_writer);
    if (!w) FAIL(err, MOTE_E_MEMORY, "out of memory");
    w->align = alignment;
    mote_status s = file_writer_open(&w->file, path, err);
    if (s == MOTE_OK && alignment != FORMAT_ALIGN_DEFAULT) s = gguf_put_u32(w, "general.alignment", alignment, err);
    if (s != MOTE_OK) gguf_writer_close(&w);
    *out = w;
    return s;
}

void gguf_writer_close(gguf_writer **pw) {
    gguf_writer *w = pw ? *pw : NULL;
    if (!w) return;
    *pw = NULL;
    file_writer_abort(&w->file);
    for (size_t i = 0; i < w->n_keys; i++) buf_free(&w->keys[i]);
    for (size_t i = 0; i < w->n_tensors; i++) mem_free(w->tensors[i].name);
    mem_free(w->keys);
    mem_free(w->key_bytes);
    mem_free(w->tensors);
    mem_free(w);
}

size_t kv_scalar_bytes(kv_type t) {
    switch (t) {
    case KV_U8: case KV_I8: case KV_BOOL: return 1;
    case KV_U16: case KV_I16: return 2;
    case KV_U32: case KV_I32: case KV_F32: return 4;
    case KV_U64: case KV_I64: case KV_F64: return 8;
    default: return 0;
    }
}

static void put_scalar(buf *b, const kv *k) {
    uint64_t bits = (uint64_t)k->i;
    if (k->type == KV_F32) {
        float x = (float)k->f;
        uint32_t u;
        memcpy(&u, &x, sizeof u);
        bits = u;
    } else if (k->type == KV_F64) memcpy(&bits, &k->f, sizeof bits);
    put_le(b, bits, kv_scalar_bytes(k->type));
}

/* The entry's slot: that of an equal key, or a new one. */
static mote_status key_slot(gguf_writer *w, str key, buf **slot, mote_error *err) {
    if (w->begun) FAIL(err, MOTE_E_INTERNAL, "GGUF key '%.*s' comes after the header was written", STR_ARG(key));
    if (key.n == 0 || key.n > FORMAT_KEY_BYTES_MAX || memchr(key.p, 0, key.n) || !utf8_valid(key.p, key.n))
        FAIL(err, MOTE_E_USAGE, "'%.*s' cannot be a GGUF key", STR_ARG(key));
    for (size_t i = 0; i < w->n_keys; i++)
        if (w->key_bytes[i] == key.n && w->keys[i].p && memcmp(w->keys[i].p + 8, key.p, key.n) == 0) {
            buf_clear(&w->keys[i]);
            *slot = &w->keys[i];
            return MOTE_OK;
        }
    TRY(mem_grow(&w->keys, &w->cap_keys, w->n_keys + 1, sizeof *w->keys, FORMAT_KV_MAX, err));
    TRY(mem_grow(&w->key_bytes, &w->cap_key_bytes, w->n_keys + 1, sizeof *w->key_bytes, FORMAT_KV_MAX, err));
    *slot = &w->keys[w->n_keys];
    buf_init(*slot, HEADER_BYTES_MAX);
    w->key_bytes[w->n_keys++] = key.n;
    return MOTE_OK;
}

uint64_t gguf_header_bytes(const model_file *f) {
    uint64_t n = 24;
    for (size_t i = 0; i < model_file_n_kv(f); i++) {
        const kv *k = model_file_kv(f, i);
        n += 8 + k->key.n + 4;
        if (k->type == KV_STRING) n += 8 + k->s.n;
        else if (k->type != KV_ARRAY) n += kv_scalar_bytes(k->type);
        else if (k->elem != KV_STRING) n += 12 + k->count * kv_scalar_bytes(k->elem);
        else {
            n += 12;
            for (uint64_t e = 0; e < k->count; e++) n += 8 + k->strings[e].n;
        }
    }
    for (size_t i = 0; i < model_file_n_tensors(f); i++) {
        const tensor_info *t = model_file_tensor(f, i);
        n += 8 + t->name.n + 4 + 8 * (uint64_t)t->n_dims + 12;
    }
    return n;
}

mote_status gguf_put_kv(gguf_writer *w, const kv *k, mote_error *err) {
    buf *b = NULL;
    TRY(key_slot(w, k->key, &b, err));
    put_text(b, k->key);
    put_le(b, (uint64_t)k->type, 4);
    if (k->type == KV_STRING) put_text(b, k->s);
    else if (k->type == KV_ARRAY) {
        put_le(b, (uint64_t)k->elem, 4);
        put_le(b, k->count, 8);
        if (k->elem == KV_STRING)
            for (uint64_t i = 0; i < k->count; i++) put_text(b, k->strings[i]);
        else buf_put(b, k->elems, (size_t)k->count * kv_scalar_bytes(k->elem));
    } else put_scalar(b, k);
    return buf_check(b, "GGUF metadata", err);
}

mote_status gguf_put_u32(gguf_writer *w, const char *key, uint32_t v, mote_error *err) {
    return gguf_put_kv(w, &(kv){.key = str_of(key), .type = KV_U32, .i = v}, err);
}
mote_status gguf_put_f32(gguf_writer *w, const char *key, float v, mote_error *err) {
    return gguf_put_kv(w, &(kv){.key = str_of(key), .type = KV_F32, .f = (double)v}, err);
}
mote_status gguf_put_bool(gguf_writer *w, const char *key, bool v, mote_error *err) {
    return gguf_put_kv(w, &(kv){.key = str_of(key), .type = KV_BOOL, .i = v}, err);
}
mote_status gguf_put_str(gguf_writer *w, const char *key, str v, mote_error *err) {
    return gguf_put_kv(w, &(kv){.key = str_of(key), .type = KV_STRING, .s = v}, err);
}

mote_status gguf_put_tensor(gguf_writer *w, str name, quant_type type, int n_dims, const uint64_t *ne,
                            mote_error *err) {
    if (w->begun) FAIL(err, MOTE_E_INTERNAL, "tensor '%.*s' comes after the header was written", STR_ARG(name));
    if (name.n == 0 || name.n > FORMAT_NAME_BYTES_MAX || memchr(name.p, 0, name.n))
        FAIL(err, MOTE_E_USAGE, "'%.*s' cannot be a tensor name in GGUF", STR_ARG(name));
    const quant_format *q = quant_get((int)type);
    if (!q || n_dims < 1 || n_dims > TENSOR_DIMS_MAX)
        FAIL(err, MOTE_E_USAGE, "tensor '%.*s': bad type or dimensions", STR_ARG(name));
    declared d = {.type = type, .n_dims = n_dims, .name_bytes = name.n};
    TRY(quant_row_bytes(q, ne[0], &d.size, err));
    for (int i = 0; i < n_dims; i++) {
        d.ne[i] = ne[i];
        if (ne[i] == 0 || (i > 0 && !ckd_mul_size(&d.size, d.size, (size_t)ne[i])))
            FAIL(err, MOTE_E_USAGE, "tensor '%.*s': bad dimensions", STR_ARG(name));
    }
    TRY(mem_grow(&w->tensors, &w->cap_tensors, w->n_tensors + 1, sizeof *w->tensors, FORMAT_TENSORS_MAX, err));
    d.name = mem_strndup(name.p, name.n);
    if (!d.name) FAIL(err, MOTE_E_MEMORY, "out of memory");
    w->tensors[w->n_tensors++] = d;
    return MOTE_OK;
}

static mote_status pad(gguf_writer *w, mote_error *err) {
    static const char zeros[64] = {0};
    while (w->file.written % w->align) {
        size_t n = (size_t)(w->align - w->file.written % w->align);
        TRY(file_write(&w->file, zeros, MIN(n, sizeof zeros), err));
    }
    return MOTE_OK;
}

mote_status gguf_writer_begin(gguf_writer *w, mote_error *err) {
    buf b;
    buf_init(&b, HEADER_BYTES_MAX);
    buf_puts(&b, "GGUF");
    put_le(&b, 3, 4);
    put_le(&b, w->n_tensors, 8);
    put_le(&b, w->n_keys, 8);
    mote_status s = file_write(&w->file, b.p, b.n, err);
    for (size_t i = 0; s == MOTE_OK && i < w->n_keys; i++)
        s = file_write(&w->file, w->keys[i].p, w->keys[i].n, err);
    buf_clear(&b);
    uint64_t at = 0;
    for (size_t i = 0; i < w->n_tensors; i++) {
        const declared *d = &w->tensors[i];
        put_text(&b, (str){d->name, d->name_bytes});
        put_le(&b, (uint64_t)d->n_dims, 4);
        for (int k = 0; k < d->n_dims; k++) put_le(&b, d->ne[k], 8);
        put_le(&b, (uint64_t)d->type, 4);
        put_le(&b, at, 8);
        at = (at + d->size + w->align - 1) / w->align * w->align;
    }
    if (s == MOTE_OK) s = buf_check(&b, "GGUF header", err);
    if (s == MOTE_OK) s = file_write(&w->file, b.p, b.n, err);
    buf_free(&b);
    w->begun = true;
    return s == MOTE_OK ? pad(w, err) : s;
}

mote_status gguf_write_data(gguf_writer *w, const void *p, size_t n, mote_error *err) {
    const unsigned char *from = p;
    while (n) {
        if (!w->begun || w->now >= w->n_tensors)
            FAIL(err, MOTE_E_INTERNAL, "%zu bytes more than the declared tensors hold", n);
        size_t take = MIN(n, w->tensors[w->now].size - w->done);
        TRY(file_write(&w->file, from, take, err));
        from += take;
        n -= take;
        w->done += take;
        if (w->done < w->tensors[w->now].size) continue;
        w->now++;
        w->done = 0;
        TRY(pad(w, err));
    }
    return MOTE_OK;
}

mote_status gguf_writer_commit(gguf_writer *w, mote_error *err) {
    if (!w->begun || w->now != w->n_tensors)
        FAIL(err, MOTE_E_INTERNAL, "only %zu of %zu declared tensors were written", w->now, w->n_tensors);
    return file_writer_commit(&w->file, err);
}
