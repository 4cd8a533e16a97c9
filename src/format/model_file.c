/* model_file.c: opening, closing and looking things up, whatever the file was. */
#include "format/format_int.h"

#include <math.h>

/* With half the slots free, chains this long do not happen by chance. */
#define PROBES_MAX 1024

bool index_init(name_index *ix, arena *a, size_t n) {
    size_t slots = 16;
    while (slots < 2 * n) slots *= 2;
    ix->slots = ARENA_NEW_N(a, uint32_t, slots);
    ix->mask = slots - 1;
    return ix->slots != NULL;
}

static str name_at(const void *names, size_t stride, size_t e) {
    str s;
    memcpy(&s, (const char *)names + e * stride, sizeof s);
    return s;
}

size_t index_find(const name_index *ix, const void *names, size_t stride, str name) {
    if (!ix->slots) return SIZE_MAX;
    for (size_t at = str_hash(name) & ix->mask; ix->slots[at]; at = (at + 1) & ix->mask)
        if (str_eq(name_at(names, stride, ix->slots[at] - 1), name)) return ix->slots[at] - 1;
    return SIZE_MAX;
}

index_result index_add(name_index *ix, const void *names, size_t stride, size_t e) {
    str name = name_at(names, stride, e);
    size_t at = str_hash(name) & ix->mask;
    for (int probes = 0; ix->slots[at]; at = (at + 1) & ix->mask) {
        if (str_eq(name_at(names, stride, ix->slots[at] - 1), name)) return INDEX_DUPLICATE;
        if (++probes > PROBES_MAX) return INDEX_CROWDED;
    }
    ix->slots[at] = (uint32_t)e + 1;
    return INDEX_ADDED;
}

static mote_status index_all(name_index *ix, arena *a, const void *names, size_t stride, size_t n, const char *what,
                             mote_error *err) {
    if (!index_init(ix, a, n)) FAIL(err, MOTE_E_MEMORY, "out of memory for %zu names", n);
    for (size_t i = 0; i < n; i++) {
        index_result r = index_add(ix, names, stride, i);
        if (r == INDEX_DUPLICATE)
            FAIL(err, MOTE_E_FORMAT, "%s '%.*s' occurs twice", what, STR_ARG(name_at(names, stride, i)));
        if (r == INDEX_CROWDED) FAIL(err, MOTE_E_LIMIT, "too many colliding names: each %s", what);
    }
    return MOTE_OK;
}

/* The name is the first member of both, which is what the index relies on. */
_Static_assert(offsetof(kv, key) == 0 && offsetof(tensor_info, name) == 0, "indexed by first member");

mote_status model_file_index(model_file *f, mote_error *err) {
    TRY(index_all(&f->kv_index, &f->mem, f->kvs, sizeof *f->kvs, f->n_kv, "metadata key", err));
    return index_all(&f->tensor_index, &f->mem, f->tensors, sizeof *f->tensors, f->n_tensors, "tensor", err);
}

model_file *model_file_new(void) {
    model_file *f = MEM_NEW(model_file);
    if (f) arena_init(&f->mem, FORMAT_ARENA_MAX);
    return f;
}

mote_status model_file_own(model_file *f, size_t size, void **p, mote_error *err) {
    TRY(mem_grow(&f->owned, &f->cap_owned, f->n_owned + 1, sizeof *f->owned, FORMAT_TENSORS_MAX, err));
    *p = mem_alloc_aligned(size);
    if (!*p) FAIL(err, MOTE_E_MEMORY, "out of memory for %zu bytes of weights", size);
    f->owned[f->n_owned++].p = *p;
    return MOTE_OK;
}

mote_status gguf_open_one(model_file **out, const char *path, int flags, mote_error *err) {
    *out = NULL;
    file_map map;
    TRY(file_open(&map, path, flags & MODEL_FILE_NO_MMAP ? FILE_READ : FILE_MAP, err));
    model_file *f = NULL;
    mote_status s = gguf_parse(&f, map.p, map.n, err);
    if (s != MOTE_OK) {
        file_close(&map);
        return err_prefix(err, s, "%s", path);
    }
    f->maps = MEM_NEW(file_map);
    f->path = mem_strdup(path);
    if (f->maps) {
        f->maps[f->n_maps++] = map;
    } else file_close(&map);
    if (!f->maps || !f->path) {
        model_file_close(&f);
        FAIL(err, MOTE_E_MEMORY, "out of memory");
    }
    *out = f;
    return MOTE_OK;
}

mote_status model_file_open(model_file **out, const char *path, int flags, mote_error *err) {
    *out = NULL;
    if (file_is_dir(path)) return hf_open(out, path, flags, err);
    model_file *f;
    TRY(gguf_open_one(&f, path, flags, err));
    mote_status s = MOTE_OK;
    uint32_t count = 0;
    TRYG(s, kv_get_u32(f, "split.count", &count, 0, err));
    if (count > 1) {
        model_file *part = f;
        f = NULL;
        TRYG(s, gguf_join_parts(&f, part, path, flags, err));
    }
    if (f->n_tensors == 0 && !(flags & MODEL_FILE_NO_TENSORS_OK))
        FAILG(s, err, MOTE_E_FORMAT, "%s: holds no tensors, only a vocabulary or metadata", path);
    if (flags & MODEL_FILE_RAW) {
        *out = f;
        return MOTE_OK;
    }
    s = model_file_open_vocabulary(f, err);
    if (s == MOTE_OK) s = model_file_uncode(f, !(flags & MODEL_FILE_NO_DATA), err);
    if (s == MOTE_OK) s = model_file_unshare(f, err);
    if (s == MOTE_OK && !(flags & (MODEL_FILE_STACKED | MODEL_FILE_NO_DATA))) s = model_file_unstack(f, err);
    if (s != MOTE_OK) {
        s = err_prefix(err, s, "%s", path);
        goto out;
    }
    *out = f;
    return MOTE_OK;
out:
    model_file_close(&f);
    return s;
}

void model_file_close(model_file **pf) {
    model_file *f = pf ? *pf : NULL;
    if (!f) return;
    *pf = NULL;
    for (size_t i = 0; i < f->n_parts; i++) model_file_close(&f->parts[i]);
    mem_free(f->parts);
    for (size_t i = 0; i < f->n_st; i++) st_close(&f->st[i]);
    mem_free(f->st);
    for (size_t i = 0; i < f->n_owned; i++) mem_free_aligned(f->owned[i].p);
    mem_free(f->owned);
    for (size_t i = 0; i < f->n_maps; i++) file_close(&f->maps[i]);
    mem_free(f->maps);
    mem_free(f->path);
    arena_free(&f->mem);
    mem_free(f);
}

size_t model_file_n_kv(const model_file *f) { return f->n_kv; }
const kv *model_file_kv(const model_file *f, size_t i) { return i < f->n_kv ? &f->kvs[i] : NULL; }
const kv *model_file_find(const model_file *f, const char *key) {
    size_t i = index_find(&f->kv_index, f->kvs, sizeof *f->kvs, str_of(key));
    return i == SIZE_MAX ? NULL : &f->kvs[i];
}
size_t model_file_n_tensors(const model_file *f) { return f->n_tensors; }
const tensor_info *model_file_tensor(const model_file *f, size_t i) {
    return i < f->n_tensors ? &f->tensors[i] : NULL;
}
const tensor_info *model_file_find_tensor(const model_file *f, const char *name) {
    size_t i = index_find(&f->tensor_index, f->tensors, sizeof *f->tensors, str_of(name));
    return i == SIZE_MAX ? NULL : &f->tensors[i];
}
const char *model_file_path(const model_file *f) { return f->path ? f->path : ""; }
uint64_t model_file_bytes(const model_file *f) { return f->bytes; }
str model_file_tokenizer_json(const model_file *f) { return f->tokenizer_json; }
str model_file_tokenizer_config(const model_file *f) { return f->tokenizer_config; }

void model_file_rest(const model_file *f) {
    for (size_t i = 0; i < f->n_parts; i++) model_file_rest(f->parts[i]);
    for (size_t i = 0; i < f->n_maps; i++) file_drop(f->maps[i].p, f->maps[i].n);
}

static bool is_integer(kv_type t) {
    return t != KV_F32 && t != KV_F64 && t != KV_STRING && t != KV_ARRAY;
}

static const char *const type_names[] = {
    [KV_U8] = "uint8", [KV_I8] = "int8", [KV_U16] = "uint16", [KV_I16] = "int16", [KV_U32] = "uint32",
    [KV_I32] = "int32", [KV_F32] = "float32", [KV_BOOL] = "bool", [KV_STRING] = "string",
    [KV_ARRAY] = "array", [KV_U64] = "uint64", [KV_I64] = "int64", [KV_F64] = "float64",
};

static mote_status wrong_type(const kv *k, const char *wanted, mote_error *err) {
    FAIL(err, MOTE_E_FORMAT, "metadata '%.*s' has type %s, not %s", STR_ARG(k->key), type_names[k->type], wanted);
}

mote_status kv_get_u32(const model_file *f, const char *key, uint32_t *v, uint32_t otherwise, mote_error *err) {
    *v = otherwise;
    const kv *k = model_file_find(f, key);
    if (!k) return MOTE_OK;
    if (!is_integer(k->type)) return wrong_type(k, "an integer", err);
    if (k->i < 0 || k->i > UINT32_MAX)
        FAIL(err, MOTE_E_RANGE, "metadata '%s' is %lld, outside 0 to 4294967295", key, (long long)k->i);
    *v = (uint32_t)k->i;
    return MOTE_OK;
}

mote_status kv_get_f32(const model_file *f, const char *key, float *v, float otherwise, mote_error *err) {
    *v = otherwise;
    const kv *k = model_file_find(f, key);
    if (!k) return MOTE_OK;
    if (k->type == KV_STRING || k->type == KV_ARRAY) return wrong_type(k, "a number", err);
    float x = is_integer(k->type) ? (float)k->i : (float)k->f;
    if (isnan(x)) FAIL(err, MOTE_E_RANGE, "metadata '%s' is not a number", key); /* infinite may mean "no limit" */
    *v = x;
    return MOTE_OK;
}

mote_status kv_get_bool(const model_file *f, const char *key, bool *v, bool otherwise, mote_error *err) {
    *v = otherwise;
    const kv *k = model_file_find(f, key);
    if (!k) return MOTE_OK;
    if (!is_integer(k->type)) return wrong_type(k, "a bool", err);
    *v = k->i != 0;
    return MOTE_OK;
}

mote_status kv_get_str(const model_file *f, const char *key, str *v, str otherwise, mote_error *err) {
    *v = otherwise;
    const kv *k = model_file_find(f, key);
    if (!k) return MOTE_OK;
    if (k->type != KV_STRING) return wrong_type(k, "a string", err);
    *v = k->s;
    return MOTE_OK;
}

str kv_at_str(const kv *k, uint64_t i) {
    return k->type == KV_ARRAY && k->elem == KV_STRING && i < k->count ? k->strings[i] : (str){NULL, 0};
}

#define LOAD(type, to)                                                                             \
    do {                                                                                           \
        type x_;                                                                                   \
        memcpy(&x_, k->elems + (size_t)i * sizeof x_, sizeof x_);                                  \
        *v = (to)x_;                                                                               \
        return true;                                                                               \
    } while (0)

bool kv_at_int(const kv *k, uint64_t i, int64_t *v) {
    *v = 0;
    if (k->type != KV_ARRAY || i >= k->count) return false;
    switch (k->elem) {
    case KV_U8: LOAD(uint8_t, int64_t);
    case KV_I8: LOAD(int8_t, int64_t);
    case KV_U16: LOAD(uint16_t, int64_t);
    case KV_I16: LOAD(int16_t, int64_t);
    case KV_U32: LOAD(uint32_t, int64_t);
    case KV_I32: LOAD(int32_t, int64_t);
    case KV_U64: LOAD(uint64_t, int64_t);
    case KV_I64: LOAD(int64_t, int64_t);
    case KV_BOOL: *v = k->elems[i] != 0; return true;
    default: return false;
    }
}

bool kv_at_num(const kv *k, uint64_t i, double *v) {
    int64_t n;
    *v = 0;
    if (k->type != KV_ARRAY || i >= k->count) return false;
    if (k->elem == KV_F32) LOAD(float, double);
    if (k->elem == KV_F64) LOAD(double, double);
    if (!kv_at_int(k, i, &n)) return false;
    *v = (double)n;
    return true;
}
