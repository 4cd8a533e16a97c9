/* share.c: layers that share their tensors. A file of ours may hold a block's tensors once for several layers:
 *
 *   mote.share.layers   i32[block_count]: the layer whose tensors layer i uses where it has none of its own
 *   blk.I.NAME.share_a  [n_in, rank] and blk.I.NAME.share_b [rank, n_out]: what layer i adds to the tensor NAME it
 *                       uses: W + B A (a LoRA per layer, as in Bae et al. 2024, "Relaxed recursive transformers")
 *
 * Opening such a file gives every layer tensors again: shared ones are views of the same bytes, those with an addition are
 * computed, in f16 (f32 where the shared one is). From there on it is a model like any other: what is converted or
 * exported runs elsewhere. */
#include "format/format_int.h"

#define KEY "mote.share.layers"
enum { LAYERS_MAX = 4096, RANK_MAX = 4096, GROWTH_MAX = 64 }; /* computed tensors may take so many times the file's bytes */

/* "blk.12.attn_q.weight" -> 12 and ".attn_q.weight". */
static bool of_layer(str name, size_t *il, str *rest) {
    size_t dot = str_starts(name, STR("blk.")) ? str_find(name, STR("."), 4) : SIZE_MAX;
    uint64_t v;
    if (dot == SIZE_MAX || !str_to_u64(str_sub(name, 4, dot - 4), &v) || v > UINT32_MAX) return false;
    *il = (size_t)v;
    *rest = str_sub(name, dot, name.n - dot);
    return true;
}

static bool is_addition(str name) { return str_ends(name, STR(".share_a")) || str_ends(name, STR(".share_b")); }

static const tensor_info *find_named(const model_file *f, size_t il, str rest, const char *suffix) {
    char name[FORMAT_NAME_BYTES_MAX + 1];
    int n = snprintf(name, sizeof name, "blk.%zu%.*s%s", il, (int)MIN(rest.n, (size_t)FORMAT_NAME_BYTES_MAX), rest.p, suffix);
    return n > 0 && (size_t)n < sizeof name ? model_file_find_tensor(f, name) : NULL;
}

/* t->data becomes W + B A. */
static mote_status add_product(model_file *f, tensor_info *t, const tensor_info *a, const tensor_info *b, mote_error *err) {
    const quant_format *w = quant_get((int)t->type), *qa = quant_get((int)a->type), *qb = quant_get((int)b->type);
    size_t cols = (size_t)t->ne[0], rows = (size_t)t->ne[1], rank = (size_t)a->ne[1], bytes;
    bool fits = rank <= RANK_MAX && t->n_dims == 2 && a->n_dims == 2 && b->n_dims == 2 && a->ne[0] == t->ne[0] && b->ne[0] == a->ne[1] && b->ne[1] == t->ne[1];
    if (!fits || !w->decode || !qa->decode || !qb->decode)
        FAIL(err, MOTE_E_MISMATCH, "'%.*s' does not fit the tensor it is added to", STR_ARG(a->name));
    const quant_format *to = quant_get(t->type == QUANT_F32 ? QUANT_F32 : QUANT_F16);
    mote_status s = MOTE_OK;
    void *data;
    float *x = MEM_NEW_N(float, cols), *fa = mem_calloc(rank, cols * sizeof(float)), *fb = MEM_NEW_N(float, rank);
    if (!x || !fa || !fb) FAILG(s, err, MOTE_E_MEMORY, "out of memory for '%.*s'", STR_ARG(t->name));
    TRYG(s, quant_row_bytes(to, cols, &bytes, err));
    TRYG(s, model_file_own(f, rows * bytes, &data, err));
    size_t row_in = t->size / rows, row_b = b->size / rows;
    qa->decode(fa, a->data, rank * cols);
    for (size_t r = 0; r < rows; r++) {
        w->decode(x, t->data + r * row_in, cols);
        qb->decode(fb, b->data + r * row_b, rank);
        for (size_t k = 0; k < rank; k++)
            for (size_t i = 0; i < cols; i++) x[i] += fb[k] * fa[k * cols + i];
        to->encode((unsigned char *)data + r * bytes, x, cols, NULL);
    }
    t->type = to->type;
    t->data = data;
    t->size = rows * bytes;
out:
    mem_free(x);
    mem_free(fa);
    mem_free(fb);
    return s;
}

/* Puts layer il's version of the tensor src, named by `rest`, at the end of the list. */
static mote_status put_shared(model_file *f, tensor_info *list, size_t *n, const tensor_info *src, size_t il, str rest,
                              size_t *grown, mote_error *err) {
    char name[FORMAT_NAME_BYTES_MAX + 1];
    const tensor_info *a = find_named(f, il, rest, ".share_a"), *b = find_named(f, il, rest, ".share_b");
    tensor_info *t = &list[(*n)++];
    (void)snprintf(name, sizeof name, "blk.%zu%.*s", il, (int)MIN(rest.n, (size_t)200), rest.p);
    *t = *src;
    t->name = (str){arena_dup(&f->mem, str_of(name)), strlen(name)};
    t->origin = t->name;
    if (!t->name.p) FAIL(err, MOTE_E_MEMORY, "out of memory");
    if (!a != !b) FAIL(err, MOTE_E_FORMAT, "tensor '%s' has one half of what is added to it", name);
    if (!a) return MOTE_OK;
    TRY(add_product(f, t, a, b, err));
    *grown += t->size;
    if (*grown / GROWTH_MAX > f->bytes) FAIL(err, MOTE_E_LIMIT, "layers share too much: '%s' would be byte %zu of tensors", name, *grown);
    return MOTE_OK;
}

static mote_status check_map(const kv *k, mote_error *err) {
    int64_t from, further;
    if (k->type != KV_ARRAY || k->count == 0 || k->count > LAYERS_MAX) FAIL(err, MOTE_E_FORMAT, "'" KEY "' is not a list of layers");
    for (uint64_t i = 0; i < k->count; i++) {
        bool good = kv_at_int(k, i, &from) && from >= 0 && (uint64_t)from < k->count && kv_at_int(k, (uint64_t)from, &further) && further == from;
        if (!good) FAIL(err, MOTE_E_FORMAT, "'" KEY "': layer %llu uses no layer that has tensors of its own", (unsigned long long)i);
    }
    return MOTE_OK;
}

static void drop_key(model_file *f) {
    size_t n = 0;
    for (size_t i = 0; i < f->n_kv; i++)
        if (!str_is(f->kvs[i].key, KEY)) f->kvs[n++] = f->kvs[i];
    f->n_kv = n;
}

mote_status model_file_unshare(model_file *f, mote_error *err) {
    const kv *k = model_file_find(f, KEY);
    if (!k) return MOTE_OK;
    TRY(check_map(k, err));
    /* how many there will be */
    size_t n = 0, grown = 0, most = f->n_tensors, layers = (size_t)k->count, il;
    str rest;
    int64_t from;
    for (size_t i = 0; i < f->n_tensors; i++) {
        if (!of_layer(f->tensors[i].name, &il, &rest) || il >= layers) continue;
        for (uint64_t j = 0; j < layers; j++) most += kv_at_int(k, j, &from) && (size_t)from == il;
        if (most > FORMAT_TENSORS_MAX) FAIL(err, MOTE_E_LIMIT, "layers share too many tensors");
    }
    tensor_info *list = ARENA_NEW_N(&f->mem, tensor_info, most);
    if (!list) FAIL(err, MOTE_E_MEMORY, "out of memory for %zu tensors", most);
    for (size_t i = 0; i < f->n_tensors; i++) {
        const tensor_info *t = &f->tensors[i];
        if (is_addition(t->name)) continue;
        if (!of_layer(t->name, &il, &rest) || il >= layers) {
            list[n++] = *t;
            continue;
        }
        for (uint64_t j = 0; j < layers; j++) {
            (void)kv_at_int(k, j, &from);
            bool own = j == il, shares = (size_t)from == il && !find_named(f, (size_t)j, rest, "");
            if (own || shares) TRY(put_shared(f, list, &n, t, (size_t)j, rest, &grown, err));
        }
    }
    f->tensors = list;
    f->n_tensors = n;
    drop_key(f);
    return model_file_index(f, err);
}
