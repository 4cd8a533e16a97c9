/* edit.c: the plan of a new file: the source's entries and tensors in their order, some replaced, dropped or renamed,
 * new ones at the end. Nothing is encoded before edit_write, which streams one tensor after another.
 *
 * Names are looked up in a hash table whose slots are never emptied: an entry counts only while its item still has
 * that name, so that dropping and renaming cost nothing. */
#include "format/edit.h"
#include "format/format_int.h"

#include <math.h>

#define TILE_BYTES ((size_t)1 << 20) /* float32 encoded at once */

typedef struct item {
    str name; /* empty: dropped. First, for the index */
    const tensor_info *src; /* copied from there when neither x nor bytes is given */
    const float *x, *importance;
    const unsigned char *bytes;
    quant_type type;
    int n_dims;
    uint64_t ne[TENSOR_DIMS_MAX];
    size_t size;
} item;

typedef struct change {
    kv k;
    bool dropped, used;
} change;

struct model_edit {
    const model_file *src;
    arena mem;
    item *items;
    size_t n_items, cap_items;
    name_index index;
    size_t n_slots; /* of the index, in use */
    change *changes;
    size_t n_changes, cap_changes;
};

static mote_status reindex(model_edit *e, mote_error *err) {
    if (!index_init(&e->index, &e->mem, 2 * e->n_items + 16)) FAIL(err, MOTE_E_MEMORY, "out of memory");
    e->n_slots = 0;
    for (size_t i = 0; i < e->n_items; i++) {
        if (!e->items[i].name.n) continue;
        index_result r = index_add(&e->index, e->items, sizeof *e->items, i);
        if (r == INDEX_CROWDED) FAIL(err, MOTE_E_LIMIT, "too many colliding names of tensors");
        e->n_slots++;
    }
    return MOTE_OK;
}

static item *find(const model_edit *e, str name) {
    size_t i = index_find(&e->index, e->items, sizeof *e->items, name);
    return i == SIZE_MAX ? NULL : &e->items[i];
}

/* Item i has got its name: it can be found from now on. */
static mote_status named(model_edit *e, size_t i, mote_error *err) {
    if (2 * (e->n_slots + 1) > e->index.mask) return reindex(e, err);
    if (index_add(&e->index, e->items, sizeof *e->items, i) == INDEX_CROWDED)
        FAIL(err, MOTE_E_LIMIT, "too many colliding names of tensors");
    e->n_slots++;
    return MOTE_OK;
}

mote_status edit_open(model_edit **out, const model_file *src, mote_error *err) {
    *out = NULL;
    model_edit *e = MEM_NEW(model_edit);
    if (!e) FAIL(err, MOTE_E_MEMORY, "out of memory");
    e->src = src;
    arena_init(&e->mem, FORMAT_ARENA_MAX);
    e->n_items = e->cap_items = model_file_n_tensors(src);
    e->items = MEM_NEW_N(item, e->n_items + 1);
    mote_status s = e->items ? MOTE_OK : ERR(err, MOTE_E_MEMORY, "out of memory for %zu tensors", e->n_items);
    for (size_t i = 0; s == MOTE_OK && i < e->n_items; i++) {
        const tensor_info *t = model_file_tensor(src, i);
        item *it = &e->items[i];
        *it = (item){.name = t->name, .src = t, .type = t->type, .n_dims = t->n_dims, .size = t->size};
        memcpy(it->ne, t->ne, sizeof it->ne);
    }
    if (s == MOTE_OK) s = reindex(e, err);
    if (s != MOTE_OK) edit_close(&e);
    *out = e;
    return s;
}

void edit_close(model_edit **pe) {
    model_edit *e = pe ? *pe : NULL;
    if (!e) return;
    *pe = NULL;
    mem_free(e->items);
    mem_free(e->changes);
    arena_free(&e->mem);
    mem_free(e);
}

static bool dup_str(model_edit *e, str *to, str from) {
    to->p = arena_dup(&e->mem, from);
    to->n = from.n;
    return to->p != NULL;
}

/* A copy whose texts and elements are the edit's. */
static mote_status dup_kv(model_edit *e, kv *to, const kv *k, mote_error *err) {
    *to = *k;
    bool good = dup_str(e, &to->key, k->key);
    if (k->type == KV_STRING) good = good && dup_str(e, &to->s, k->s);
    if (k->type == KV_ARRAY && k->elem == KV_STRING) {
        str *s = ARENA_NEW_N(&e->mem, str, (size_t)k->count + 1);
        for (uint64_t i = 0; s && good && i < k->count; i++) good = dup_str(e, &s[i], k->strings[i]);
        to->strings = s;
        good = good && s;
    } else if (k->type == KV_ARRAY) {
        size_t n = (size_t)k->count * kv_scalar_bytes(k->elem);
        unsigned char *p = arena_alloc(&e->mem, n + 1, 1);
        if (p && n) memcpy(p, k->elems, n);
        to->elems = p;
        good = good && p;
    }
    if (!good) FAIL(err, MOTE_E_MEMORY, "out of memory for metadata '%.*s'", STR_ARG(k->key));
    return MOTE_OK;
}

static change *find_change(const model_edit *e, str key) {
    for (size_t i = 0; i < e->n_changes; i++)
        if (str_eq(e->changes[i].k.key, key)) return &e->changes[i];
    return NULL;
}

static mote_status put_change(model_edit *e, const kv *k, bool dropped, mote_error *err) {
    change c = {.dropped = dropped};
    TRY(dup_kv(e, &c.k, k, err));
    change *at = find_change(e, k->key);
    if (!at) {
        TRY(mem_grow(&e->changes, &e->cap_changes, e->n_changes + 1, sizeof *e->changes, FORMAT_KV_MAX, err));
        at = &e->changes[e->n_changes++];
    }
    *at = c;
    return MOTE_OK;
}

mote_status edit_set_kv(model_edit *e, const kv *k, mote_error *err) { return put_change(e, k, false, err); }
mote_status edit_set_u32(model_edit *e, const char *key, uint32_t v, mote_error *err) {
    return put_change(e, &(kv){.key = str_of(key), .type = KV_U32, .i = v}, false, err);
}
mote_status edit_set_f32(model_edit *e, const char *key, float v, mote_error *err) {
    return put_change(e, &(kv){.key = str_of(key), .type = KV_F32, .f = (double)v}, false, err);
}
mote_status edit_set_bool(model_edit *e, const char *key, bool v, mote_error *err) {
    return put_change(e, &(kv){.key = str_of(key), .type = KV_BOOL, .i = v}, false, err);
}
mote_status edit_set_str(model_edit *e, const char *key, str v, mote_error *err) {
    return put_change(e, &(kv){.key = str_of(key), .type = KV_STRING, .s = v}, false, err);
}
mote_status edit_drop_kv(model_edit *e, const char *key, mote_error *err) {
    return put_change(e, &(kv){.key = str_of(key), .type = KV_U32}, true, err);
}

/* Replaces the tensor of that name, in its place, or adds one. */
static mote_status put(model_edit *e, str name, const item *what, const uint64_t *ne, mote_error *err) {
    item it = *what;
    const quant_format *q = quant_get((int)it.type);
    if (!q || it.n_dims < 1 || it.n_dims > TENSOR_DIMS_MAX)
        FAIL(err, MOTE_E_USAGE, "tensor '%.*s': bad type or dimensions", STR_ARG(name));
    if (!it.bytes && !q->encode)
        FAIL(err, MOTE_E_UNSUPPORTED, "tensor '%.*s' should become %s, which can be read but not written",
             STR_ARG(name), q->name);
    mote_status s = quant_row_bytes(q, ne[0], &it.size, err);
    if (s != MOTE_OK) return err_prefix(err, s, "tensor '%.*s'", STR_ARG(name));
    for (int i = 0; i < TENSOR_DIMS_MAX; i++) {
        it.ne[i] = i < it.n_dims ? ne[i] : 1;
        if (it.ne[i] == 0 || (i > 0 && !ckd_mul_size(&it.size, it.size, (size_t)it.ne[i])))
            FAIL(err, MOTE_E_USAGE, "tensor '%.*s': bad dimensions", STR_ARG(name));
    }
    item *old = find(e, name);
    if (old) {
        it.name = old->name;
        *old = it;
        return MOTE_OK;
    }
    if (!dup_str(e, &it.name, name)) FAIL(err, MOTE_E_MEMORY, "out of memory");
    TRY(mem_grow(&e->items, &e->cap_items, e->n_items + 1, sizeof *e->items, FORMAT_TENSORS_MAX, err));
    e->items[e->n_items] = it;
    return named(e, e->n_items++, err);
}

mote_status edit_put(model_edit *e, str name, quant_type type, int n_dims, const uint64_t *ne, const float *x,
                     const float *importance, mote_error *err) {
    return put(e, name, &(item){.type = type, .n_dims = n_dims, .x = x, .importance = importance}, ne, err);
}

mote_status edit_put_bytes(model_edit *e, str name, quant_type type, int n_dims, const uint64_t *ne, const void *bytes,
                           mote_error *err) {
    return put(e, name, &(item){.type = type, .n_dims = n_dims, .bytes = bytes}, ne, err);
}

mote_status edit_drop(model_edit *e, str name, mote_error *err) {
    item *it = find(e, name);
    if (!it) FAIL(err, MOTE_E_NOT_FOUND, "there is no tensor '%.*s' to drop", STR_ARG(name));
    it->name = (str){0};
    return MOTE_OK;
}

mote_status edit_rename(model_edit *e, str from, str to, mote_error *err) {
    item *it = find(e, from);
    if (!it) FAIL(err, MOTE_E_NOT_FOUND, "there is no tensor '%.*s' to rename", STR_ARG(from));
    if (str_eq(from, to)) return MOTE_OK;
    if (find(e, to))
        FAIL(err, MOTE_E_USAGE, "tensor '%.*s' cannot become '%.*s': there is one of that name", STR_ARG(from),
             STR_ARG(to));
    str name;
    if (to.n == 0) FAIL(err, MOTE_E_USAGE, "tensor '%.*s' cannot become nameless", STR_ARG(from));
    if (!dup_str(e, &name, to)) FAIL(err, MOTE_E_MEMORY, "out of memory");
    it->name = name;
    return named(e, (size_t)(it - e->items), err);
}

static mote_status declare_kvs(model_edit *e, gguf_writer *w, mote_error *err) {
    bool quantized = false;
    for (size_t i = 0; i < e->n_items; i++) quantized = quantized || quant_get((int)e->items[i].type)->block > 1;
    if (quantized && !model_file_find(e->src, "general.quantization_version"))
        TRY(gguf_put_u32(w, "general.quantization_version", 2, err));
    for (size_t i = 0; i < e->n_changes; i++) e->changes[i].used = false;
    for (size_t i = 0; i < model_file_n_kv(e->src); i++) {
        const kv *k = model_file_kv(e->src, i);
        change *c = find_change(e, k->key);
        if (c) c->used = true;
        if (str_starts(k->key, STR("split.")) || str_is(k->key, "general.alignment") || (c && c->dropped)) continue;
        TRY(gguf_put_kv(w, c ? &c->k : k, err));
    }
    for (size_t i = 0; i < e->n_changes; i++)
        if (!e->changes[i].used && !e->changes[i].dropped) TRY(gguf_put_kv(w, &e->changes[i].k, err));
    return MOTE_OK;
}

/* The first number that is none, before or after encoding, is named. */
static mote_status check_rows(const item *it, const float *x, const float *y, size_t at, size_t n, mote_error *err) {
    for (size_t i = 0; i < n; i++) {
        if (!isfinite(x[i]))
            FAIL(err, MOTE_E_RANGE, "tensor '%.*s': weight %zu is not a finite number", STR_ARG(it->name), at + i);
        if (!isfinite(y[i]))
            FAIL(err, MOTE_E_RANGE, "tensor '%.*s': weight %zu (%g) is beyond the range of %s; use BF16 or F32",
                 STR_ARG(it->name), at + i, (double)x[i], quant_get((int)it->type)->name);
    }
    return MOTE_OK;
}

static mote_status write_floats(gguf_writer *w, const item *it, mote_error *err) {
    const quant_format *q = quant_get((int)it->type);
    size_t n = (size_t)it->ne[0], row = n / q->block * q->bytes, rows = it->size / row;
    size_t per_matrix = (size_t)it->ne[1]; /* rows that share one importance */
    size_t at_once = MIN(rows, MAX((size_t)1, TILE_BYTES / (n * sizeof(float))));
    mote_status s = MOTE_OK;
    float *back = MEM_NEW_N(float, n * at_once);
    unsigned char *y = mem_calloc(at_once, row);
    if (!back || !y) FAILG(s, err, MOTE_E_MEMORY, "out of memory for %zu rows of %zu", at_once, n);
    for (size_t r = 0; r < rows; r += at_once) {
        size_t now = MIN(at_once, rows - r);
        const float *x = it->x + r * n;
        if (!it->importance) q->encode(y, x, now * n, NULL);
        for (size_t i = 0; it->importance && i < now; i++)
            q->encode(y + i * row, x + i * n, n, it->importance + (r + i) / per_matrix * n);
        q->decode(back, y, now * n);
        TRYG(s, check_rows(it, x, back, r * n, now * n, err));
        TRYG(s, gguf_write_data(w, y, now * row, err));
    }
out:
    mem_free(back);
    mem_free(y);
    return s;
}

mote_status edit_write(model_edit *e, const char *path, mote_error *err) {
    gguf_writer *w = NULL;
    mote_status s;
    uint32_t align = 0;
    TRY(kv_get_u32(e->src, "general.alignment", &align, FORMAT_ALIGN_DEFAULT, err));
    const change *c = find_change(e, STR("general.alignment"));
    if (c) align = c->dropped ? FORMAT_ALIGN_DEFAULT : (uint32_t)c->k.i;
    TRYG(s, gguf_writer_open(&w, path, align, err));
    TRYG(s, declare_kvs(e, w, err));
    for (size_t i = 0; i < e->n_items; i++) {
        const item *it = &e->items[i];
        if (it->name.n) TRYG(s, gguf_put_tensor(w, it->name, it->type, it->n_dims, it->ne, err));
    }
    TRYG(s, gguf_writer_begin(w, err));
    for (size_t i = 0; i < e->n_items; i++) {
        const item *it = &e->items[i];
        if (!it->name.n) continue;
        if (it->x) {
            TRYG(s, write_floats(w, it, err));
            continue;
        }
        TRYG(s, gguf_write_data(w, it->bytes ? it->bytes : it->src->data, it->size, err));
        if (!it->bytes) file_drop(it->src->data, it->size);
    }
    s = gguf_writer_commit(w, err);
out:
    gguf_writer_close(&w);
    return s;
}
