#include "heads_file.h"

#include <stdio.h>

static mote_status put_list(gguf_writer *w, const char *key, const int32_t *v, size_t n, mote_error *err) {
    return gguf_put_kv(w, &(kv){.key = str_of(key), .type = KV_ARRAY, .elem = KV_I32, .count = n, .elems = (const unsigned char *)v}, err);
}

static mote_status put_keys(gguf_writer *w, const model_file *base, const heads_plan *p, size_t d, mote_error *err) {
    str arch;
    char key[100];
    uint32_t n_layer, skipped;
    const tensor_info *embd = model_file_find_tensor(base, "token_embd.weight");
    TRY(kv_get_str(base, "general.architecture", &arch, STR(""), err));
    (void)snprintf(key, sizeof key, "%.*s.block_count", STR_ARG(arch));
    TRY(kv_get_u32(base, key, &n_layer, 0, err));
    (void)snprintf(key, sizeof key, "%.*s.nextn_predict_layers", STR_ARG(arch));
    TRY(kv_get_u32(base, key, &skipped, 0, err));
    TRY(gguf_put_str(w, "general.type", STR("heads"), err));
    TRY(gguf_put_str(w, HEADS_KEY_FORM, p->offset[p->n - 1] ? STR(HEADS_FORM_CHAIN) : STR(HEADS_FORM), err));
    TRY(gguf_put_str(w, "general.architecture", arch, err));
    TRY(gguf_put_u32(w, HEADS_KEY_N_EMBD, (uint32_t)d, err));
    TRY(gguf_put_u32(w, HEADS_KEY_N_LAYER, n_layer - skipped, err));
    TRY(gguf_put_u32(w, HEADS_KEY_N_VOCAB, (uint32_t)embd->ne[1], err));
    int32_t likely[1024];
    for (size_t i = 0; i < MIN(p->n_likely, COUNT_OF(likely)); i++) likely[i] = 3 * (int32_t)i;
    if (p->n_likely) TRY(put_list(w, HEADS_KEY_TOKENS, likely, MIN(p->n_likely, COUNT_OF(likely)), err));
    TRY(put_list(w, HEADS_KEY_LAYER, p->layer, p->n, err));
    return put_list(w, HEADS_KEY_OFFSET, p->offset, p->n, err);
}

static const char *name_of(char *dst, size_t cap, size_t i, const char *suffix) {
    (void)snprintf(dst, cap, "head.%zu.%s", i, suffix);
    return dst;
}

static mote_status put_tensors(gguf_writer *w, const heads_plan *p, size_t d, mote_error *err) {
    char name[64];
    for (size_t i = 0; i < p->n; i++) {
        const uint64_t ne[4] = {d, d, 1, 1};
        if (p->offset[i] <= 1) TRY(gguf_put_tensor(w, str_of(name_of(name, sizeof name, i, "norm.weight")), QUANT_F32, 1, ne, err));
        TRY(gguf_put_tensor(w, str_of(name_of(name, sizeof name, i, "weight")), p->type, 2, ne, err));
        if (p->offset[i]) TRY(gguf_put_tensor(w, str_of(name_of(name, sizeof name, i, "token.weight")), p->type, 2, ne, err));
        if (p->bias) TRY(gguf_put_tensor(w, str_of(name_of(name, sizeof name, i, "bias")), QUANT_F32, 1, ne, err));
        if (p->gate && p->offset[i] == 0)
            TRY(gguf_put_tensor(w, str_of(name_of(name, sizeof name, i, "gate")), QUANT_F32, 1, (const uint64_t[]){d + 2, 1, 1, 1}, err));
    }
    return MOTE_OK;
}

static mote_status write_data(gguf_writer *w, const model_file *base, const heads_plan *p, size_t d, float *x, mote_error *err) {
    const quant_format *f = quant_get((int)p->type);
    const tensor_info *nm = model_file_find_tensor(base, "output_norm.weight");
    unsigned char *bytes = MEM_NEW_N(unsigned char, 4 * d * d);
    size_t row_bytes;
    rng r;
    mote_status s = MOTE_OK;
    if (!bytes) FAIL(err, MOTE_E_MEMORY, "out of memory");
    rng_seed(&r, p->seed, 77);
    TRYG(s, quant_row_bytes(f, d, &row_bytes, err));
    for (size_t i = 0; i < p->n; i++) {
        for (size_t k = 0; k < d; k++) x[k] = 1;
        if (nm) heads_floats(nm, x);
        if (p->offset[i] <= 1) TRYG(s, gguf_write_data(w, x, d * sizeof *x, err));
        for (size_t part = 0; part < (p->offset[i] ? 2 : 1); part++) {
            for (size_t k = 0; k < d * d; k++) x[k] = p->size * (float)(rng_double(&r) - 0.5);
            f->encode(bytes, x, d * d, NULL);
            TRYG(s, gguf_write_data(w, bytes, row_bytes * d, err));
        }
        for (size_t k = 0; k < d; k++) x[k] = p->size * (float)(rng_double(&r) - 0.5);
        if (p->bias) TRYG(s, gguf_write_data(w, x, d * sizeof *x, err));
        for (size_t k = 0; k < d; k++) x[k] = (float)(rng_double(&r) - 0.5);
        x[d] = 2.6f; /* the log odds of 1 in 16 the other way round */
        x[d + 1] = 1.25f;
        if (p->gate && p->offset[i] == 0) TRYG(s, gguf_write_data(w, x, (d + 2) * sizeof *x, err));
    }
out:
    mem_free(bytes);
    return s;
}

mote_status heads_file_write(const char *path, const char *base_path, const heads_plan *p, mote_error *err) {
    model_file *base;
    gguf_writer *w = NULL;
    float *x = NULL;
    mote_status s;
    TRY(model_file_open(&base, base_path, 0, err));
    size_t d = (size_t)model_file_find_tensor(base, "token_embd.weight")->ne[0];
    TRYG(s, gguf_writer_open(&w, path, 0, err));
    TRYG(s, put_keys(w, base, p, d, err));
    TRYG(s, put_tensors(w, p, d, err));
    TRYG(s, gguf_writer_begin(w, err));
    x = MEM_NEW_N(float, d * d + d);
    if (!x) FAILG(s, err, MOTE_E_MEMORY, "out of memory");
    TRYG(s, write_data(w, base, p, d, x, err));
    s = gguf_writer_commit(w, err);
out:
    mem_free(x);
    gguf_writer_close(&w);
    model_file_close(&base);
    return s;
}
