/* model_file_api.c: bodies of mote/model_file.h, over a model_file. */
#include "mote/model_file.h"

#include "format/provenance.h"

struct mote_file {
    model_file *f;
};

static mote_text text_of(str s) { return (mote_text){s.p, s.n}; }

mote_status mote_file_open(mote_file **out, const char *path, mote_error *err) {
    *out = MEM_NEW(mote_file);
    if (!*out) FAIL(err, MOTE_E_MEMORY, "out of memory");
    mote_status s = model_file_open(&(*out)->f, path, MODEL_FILE_NO_TENSORS_OK | MODEL_FILE_NO_DATA, err);
    if (s != MOTE_OK) mote_file_close(out);
    return s;
}

void mote_file_close(mote_file **f) {
    if (!*f) return;
    model_file_close(&(*f)->f);
    mem_free(*f);
    *f = NULL;
}

uint64_t mote_file_bytes(const mote_file *f) { return model_file_bytes(f->f); }
size_t mote_file_n_meta(const mote_file *f) { return model_file_n_kv(f->f); }
size_t mote_file_n_tensors(const mote_file *f) { return model_file_n_tensors(f->f); }

static const char *const scalar_names[] = {"u8", "i8", "u16", "i16", "u32", "i32", "f32", "bool", "str", "arr", "u64", "i64", "f64"};
static const char *const array_names[] = {"arr[u8]",  "arr[i8]",   "arr[u16]", "arr[i16]", "arr[u32]", "arr[i32]", "arr[f32]",
                                          "arr[bool]", "arr[str]", "arr[arr]", "arr[u64]", "arr[i64]", "arr[f64]"};

static mote_kind kind_of(kv_type t) {
    switch (t) {
    case KV_F32:
    case KV_F64: return MOTE_KIND_FLOAT;
    case KV_BOOL: return MOTE_KIND_BOOL;
    case KV_STRING: return MOTE_KIND_TEXT;
    case KV_ARRAY: return MOTE_KIND_ARRAY;
    case KV_U64: return MOTE_KIND_UINT64;
    default: return MOTE_KIND_INT;
    }
}

mote_meta mote_file_meta(const mote_file *f, size_t i) {
    const kv *k = model_file_kv(f->f, i);
    return (mote_meta){.key = text_of(k->key), .kind = kind_of(k->type),
        .type = k->type == KV_ARRAY ? array_names[k->elem] : scalar_names[k->type],
        .i = k->i, .f = k->f, .text = text_of(k->s), .count = k->type == KV_ARRAY ? k->count : 0};
}

mote_status mote_file_meta_at(const mote_file *f, size_t i, uint64_t at, mote_meta *out) {
    if (i >= mote_file_n_meta(f)) return MOTE_E_NOT_FOUND;
    const kv *k = model_file_kv(f->f, i);
    if (k->type != KV_ARRAY || at >= k->count) return MOTE_E_NOT_FOUND;
    *out = (mote_meta){.kind = kind_of(k->elem), .type = scalar_names[k->elem]};
    switch (out->kind) {
    case MOTE_KIND_TEXT: out->text = text_of(kv_at_str(k, at)); break;
    case MOTE_KIND_FLOAT: (void)kv_at_num(k, at, &out->f); break;
    case MOTE_KIND_ARRAY: break; /* arrays of arrays are counted, not shown */
    default: (void)kv_at_int(k, at, &out->i); break;
    }
    return MOTE_OK;
}

size_t mote_file_find_meta(const mote_file *f, const char *key) {
    const kv *k = model_file_find(f->f, key);
    return k ? (size_t)(k - model_file_kv(f->f, 0)) : SIZE_MAX;
}

mote_tensor mote_file_tensor(const mote_file *f, size_t i) {
    const tensor_info *t = model_file_tensor(f->f, i);
    mote_tensor r = {.name = text_of(t->name), .origin = text_of(t->origin), .type = quant_get((int)t->type)->name,
        .n_dims = t->n_dims, .n_weights = 1, .size_bytes = t->size};
    for (size_t d = 0; d < TENSOR_DIMS_MAX; d++) {
        r.ne[d] = t->ne[d];
        r.n_weights *= t->ne[d];
    }
    return r;
}

mote_status mote_file_check_made(const char *path, bool *same, mote_error *err) { return provenance_check(path, same, err); }

_Static_assert(MOTE_SHA256_HEX == SHA256_HEX, "one size of digest");
mote_status mote_file_sha256(const char *path, char hex[MOTE_SHA256_HEX], mote_error *err) { return sha256_file(path, hex, err); }
