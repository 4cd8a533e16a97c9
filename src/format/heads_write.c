/* heads_write.c: a heads file on its way out. */
#include "format/heads_write.h"

#include <math.h>
#include <stdio.h>

typedef struct part {
    const float *x;
    size_t rows, cols;
    quant_type type;
    const char *suffix;
} part;
enum { PARTS = 5 };

/* The tensors of head k in the order of the file; x NULL: it has none such. */
static void parts_of(const heads_value *v, size_t d, quant_type type, part out[PARTS]) {
    out[0] = (part){v->norm, 1, d, QUANT_F32, "norm.weight"};
    out[1] = (part){v->w, d, d, type, "weight"};
    out[2] = (part){v->v, d, d, type, "token.weight"};
    out[3] = (part){v->b, 1, d, QUANT_F32, "bias"};
    out[4] = (part){v->gate, 1, d + 2, QUANT_F32, "gate"};
}

static void name_of(char name[64], size_t k, const char *suffix) { (void)snprintf(name, 64, "head.%zu.%s", k, suffix); }

static mote_status put_array(gguf_writer *w, const char *key, kv_type elem, const void *p, size_t n, mote_error *err) {
    return gguf_put_kv(w, &(kv){.key = str_of(key), .type = KV_ARRAY, .elem = elem, .count = n, .elems = p}, err);
}

static mote_status put_arrays(gguf_writer *w, const heads_value *v, size_t n, mote_error *err) {
    int32_t layer[HEADS_MAX], offset[HEADS_MAX];
    float accuracy[HEADS_MAX];
    for (size_t k = 0; k < n; k++) {
        layer[k] = (int32_t)v[k].layer;
        offset[k] = (int32_t)v[k].offset;
        accuracy[k] = v[k].accuracy;
    }
    TRY(put_array(w, HEADS_KEY_LAYER, KV_I32, layer, n, err));
    TRY(put_array(w, HEADS_KEY_OFFSET, KV_I32, offset, n, err));
    return put_array(w, HEADS_KEY_ACCURACY, KV_F32, accuracy, n, err);
}

static mote_status put_head(gguf_writer *w, const heads_base *base, const heads_value *v, size_t k, quant_type type, mote_error *err) {
    part parts[PARTS];
    char name[64];
    parts_of(v, base->n_embd, type, parts);
    for (size_t i = 0; i < PARTS; i++) {
        const part *p = &parts[i];
        if (!p->x) continue;
        name_of(name, k, p->suffix);
        for (size_t j = 0; j < p->rows * p->cols; j++)
            if (!isfinite(p->x[j])) FAIL(err, MOTE_E_OUTPUT, "%s: a number that is not finite, at %zu: it is not written", name, j);
        TRY(gguf_put_tensor(w, str_of(name), p->type, p->rows > 1 ? 2 : 1, (const uint64_t[]){p->cols, p->rows, 1, 1}, err));
    }
    return MOTE_OK;
}

static mote_status write_head(gguf_writer *w, const heads_base *base, const heads_value *v, quant_type type, unsigned char *row, mote_error *err) {
    part parts[PARTS];
    size_t bytes;
    parts_of(v, base->n_embd, type, parts);
    for (size_t i = 0; i < PARTS; i++) {
        const part *p = &parts[i];
        const quant_format *f = quant_get((int)p->type);
        if (!p->x) continue;
        TRY(quant_row_bytes(f, p->cols, &bytes, err));
        for (size_t r = 0; r < p->rows; r++) {
            f->encode(row, p->x + r * p->cols, p->cols, NULL);
            TRY(gguf_write_data(w, row, bytes, err));
        }
    }
    return MOTE_OK;
}

static mote_status check(const heads_base *base, const heads_value *v, size_t n, quant_type type, mote_error *err) {
    const quant_format *f = quant_get((int)type);
    if (n == 0 || n > HEADS_MAX) FAIL(err, MOTE_E_USAGE, "%zu heads: a file holds 1 to %u", n, HEADS_MAX);
    if (!f || !f->encode) FAIL(err, MOTE_E_USAGE, "type %d cannot be written", (int)type);
    if (base->n_embd % f->block != 0)
        FAIL(err, MOTE_E_USAGE, "%s has blocks of %u numbers, which do not divide the heads' width of %zu; take another type", f->name, f->block, base->n_embd);
    for (size_t k = 0; k < n; k++)
        if (v[k].layer < 1 || v[k].layer > base->n_layer || v[k].offset > HEADS_AHEAD_MAX || (v[k].layer == base->n_layer) != (v[k].offset > 0) ||
            (v[k].v != NULL) != (v[k].offset > 0) || (v[k].norm != NULL) != (v[k].offset <= 1))
            FAIL(err, MOTE_E_RANGE, "head %zu, behind layer %zu with offset %zu, of a model of %zu layers: no such head", k, v[k].layer, v[k].offset, base->n_layer);
    return MOTE_OK;
}

mote_status heads_write(const char *path, const heads_base *base, const heads_value *v, size_t n, const int32_t *tokens, size_t n_tokens, quant_type type,
                        mote_error *err) {
    gguf_writer *w = NULL;
    unsigned char *row = NULL;
    mote_status s = MOTE_OK;
    TRY(check(base, v, n, type, err));
    TRY(gguf_writer_open(&w, path, 0, err));
    if (!(row = mem_calloc(base->n_embd + 2, sizeof(double)))) FAILG(s, err, MOTE_E_MEMORY, "out of memory");
    TRYG(s, gguf_put_str(w, "general.architecture", base->arch, err));
    TRYG(s, gguf_put_str(w, "general.type", STR("heads"), err));
    TRYG(s, gguf_put_str(w, HEADS_KEY_FORM, v[n - 1].offset ? STR(HEADS_FORM_CHAIN) : STR(HEADS_FORM), err));
    TRYG(s, gguf_put_u32(w, HEADS_KEY_N_EMBD, (uint32_t)base->n_embd, err));
    TRYG(s, gguf_put_u32(w, HEADS_KEY_N_LAYER, (uint32_t)base->n_layer, err));
    TRYG(s, gguf_put_u32(w, HEADS_KEY_N_VOCAB, (uint32_t)base->n_vocab, err));
    TRYG(s, put_arrays(w, v, n, err));
    if (n_tokens) TRYG(s, put_array(w, HEADS_KEY_TOKENS, KV_I32, tokens, n_tokens, err));
    for (size_t k = 0; k < n; k++) TRYG(s, put_head(w, base, &v[k], k, type, err));
    TRYG(s, gguf_writer_begin(w, err));
    for (size_t k = 0; k < n; k++) TRYG(s, write_head(w, base, &v[k], type, row, err));
    s = gguf_writer_commit(w, err);
out:
    mem_free(row);
    gguf_writer_close(&w);
    return s;
}
