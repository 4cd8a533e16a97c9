/* adapter.c: adapters in memory and in GGUF. See adapter.h. */
#include "format/adapter.h"

#include <math.h>
#include <stdio.h>

#define ADAPTER_PAIRS_MAX ((size_t)1 << 16)

mote_status adapter_new(adapter **out, const model_file *base, mote_error *err) {
    *out = NULL;
    str arch;
    TRY(kv_get_str(base, "general.architecture", &arch, STR(""), err));
    adapter *ad = MEM_NEW(adapter);
    if (!ad) FAIL(err, MOTE_E_MEMORY, "out of memory for an adapter");
    arena_init(&ad->mem, (size_t)1 << 28);
    ad->arch = (str){arena_dup(&ad->mem, arch), arch.n};
    if (!ad->arch.p) {
        adapter_close(&ad);
        FAIL(err, MOTE_E_MEMORY, "out of memory for an adapter");
    }
    *out = ad;
    return MOTE_OK;
}

void adapter_close(adapter **pad) {
    adapter *ad = pad ? *pad : NULL;
    if (!ad) return;
    *pad = NULL;
    for (size_t i = 0; i < ad->n_owned; i++) mem_free(ad->owned[i]);
    mem_free(ad->owned);
    mem_free(ad->pairs);
    arena_free(&ad->mem);
    mem_free(ad);
}

static mote_status own(adapter *ad, size_t n, size_t m, float **x, mote_error *err) {
    size_t all;
    TRY(mem_grow(&ad->owned, &ad->cap_owned, ad->n_owned + 1, sizeof *ad->owned, 3 * ADAPTER_PAIRS_MAX, err));
    if (!ckd_mul_size(&all, n, m)) FAIL(err, MOTE_E_LIMIT, "an adapter of %zu times %zu numbers is too large", n, m);
    *x = MEM_NEW_N(float, all);
    if (!*x) FAIL(err, MOTE_E_MEMORY, "out of memory for an adapter's %zu numbers", all);
    ad->owned[ad->n_owned++] = *x;
    return MOTE_OK;
}

mote_status adapter_add(adapter *ad, const tensor_info *t, size_t rank, bool dora, adapter_pair **out, mote_error *err) {
    if (t->n_dims != 2 || t->ne[2] != 1 || t->ne[3] != 1)
        FAIL(err, MOTE_E_UNSUPPORTED, "tensor '%.*s' is no matrix (%d dimensions): it cannot have an adapter", STR_ARG(t->name), t->n_dims);
    if (rank == 0 || rank > ADAPTER_RANK_MAX)
        FAIL(err, MOTE_E_RANGE, "the adapter of '%.*s' has rank %zu; expected 1 to %u", STR_ARG(t->name), rank, ADAPTER_RANK_MAX);
    if (adapter_find(ad, t->name)) FAIL(err, MOTE_E_FORMAT, "tensor '%.*s' has two adapters", STR_ARG(t->name));
    TRY(mem_grow(&ad->pairs, &ad->cap, ad->n + 1, sizeof *ad->pairs, ADAPTER_PAIRS_MAX, err));
    adapter_pair *p = &ad->pairs[ad->n];
    *p = (adapter_pair){.rows = (size_t)t->ne[1], .cols = (size_t)t->ne[0], .rank = rank, .scale = 1};
    p->name = (str){arena_dup(&ad->mem, t->name), t->name.n};
    if (!p->name.p) FAIL(err, MOTE_E_MEMORY, "out of memory");
    TRY(own(ad, rank, p->cols, &p->a, err));
    TRY(own(ad, p->rows, rank, &p->b, err));
    if (dora) TRY(own(ad, p->rows, 1, &p->m, err));
    ad->n++;
    *out = p;
    return MOTE_OK;
}

const adapter_pair *adapter_find(const adapter *ad, str name) {
    for (size_t i = 0; i < ad->n; i++)
        if (str_eq(ad->pairs[i].name, name)) return &ad->pairs[i];
    return NULL;
}

/* ---- GGUF ---- */

static mote_status check_kind(const model_file *f, const model_file *base, mote_error *err) {
    str type, kind, arch, wanted;
    TRY(kv_get_str(f, "general.type", &type, STR(""), err));
    TRY(kv_get_str(f, "adapter.type", &kind, STR(""), err));
    TRY(kv_get_str(f, "general.architecture", &arch, STR(""), err));
    TRY(kv_get_str(base, "general.architecture", &wanted, STR(""), err));
    if (!str_is(type, "adapter"))
        FAIL(err, MOTE_E_FORMAT, "not an adapter: general.type is '%.*s'", STR_ARG(type));
    if (!str_is(kind, "lora")) FAIL(err, MOTE_E_UNSUPPORTED, "adapter.type is '%.*s'; only 'lora' is read", STR_ARG(kind));
    if (!str_eq(arch, wanted))
        FAIL(err, MOTE_E_MISMATCH, "the adapter was made for architecture '%.*s', the model's is '%.*s'", STR_ARG(arch), STR_ARG(wanted));
    if (model_file_find(f, "adapter.alora.invocation_tokens"))
        FAIL(err, MOTE_E_UNSUPPORTED, "the adapter is switched on by tokens of the prompt (aLoRA), which is not supported");
    return MOTE_OK;
}

static mote_status read_floats(const tensor_info *t, float *x, size_t n, mote_error *err) {
    const quant_format *f = quant_get((int)t->type);
    if (!f || !f->decode) FAIL(err, MOTE_E_UNSUPPORTED, "tensor '%.*s': type %d cannot be read as numbers", STR_ARG(t->name), (int)t->type);
    f->decode(x, t->data, n);
    for (size_t i = 0; i < n; i++)
        if (!isfinite(x[i])) FAIL(err, MOTE_E_FORMAT, "tensor '%.*s' holds a number that is not finite, at %zu", STR_ARG(t->name), i);
    return MOTE_OK;
}

static const tensor_info *with_suffix(const model_file *f, str name, const char *suffix) {
    char s[300];
    int n = snprintf(s, sizeof s, "%.*s%s", (int)name.n, name.p, suffix);
    return n > 0 && (size_t)n < sizeof s ? model_file_find_tensor(f, s) : NULL;
}

static bool has_shape(const tensor_info *t, uint64_t ne0, uint64_t ne1) {
    return t->ne[0] == ne0 && t->ne[1] == ne1 && t->ne[2] == 1 && t->ne[3] == 1;
}

static mote_status read_pair(adapter *ad, const model_file *f, const model_file *base, str name, float alpha, mote_error *err) {
    char s[300];
    const tensor_info *a = with_suffix(f, name, ".lora_a"), *b = with_suffix(f, name, ".lora_b"), *m = with_suffix(f, name, ".lora_m");
    (void)snprintf(s, sizeof s, "%.*s", (int)name.n, name.p);
    const tensor_info *t = model_file_find_tensor(base, s);
    if (!t) FAIL(err, MOTE_E_MISMATCH, "the adapter changes '%s', which the model does not have: made for another model?", s);
    if (!a || !b) FAIL(err, MOTE_E_FORMAT, "the adapter of '%s' lacks %s", s, a ? "lora_b" : "lora_a");
    if (str_is(name, "token_embd.weight"))
        FAIL(err, MOTE_E_UNSUPPORTED, "the adapter changes the token embedding, which is not supported: merge it first");
    uint64_t rank = a->ne[1];
    adapter_pair *p;
    if (!has_shape(a, t->ne[0], rank) || !has_shape(b, rank, t->ne[1]))
        FAIL(err, MOTE_E_MISMATCH, "the adapter of '%s' has a [%llu, %llu] and b [%llu, %llu]; the tensor is [%llu, %llu], so they "
             "should be [%llu, rank] and [rank, %llu]: made for another model?", s, (unsigned long long)a->ne[0],
             (unsigned long long)a->ne[1], (unsigned long long)b->ne[0], (unsigned long long)b->ne[1], (unsigned long long)t->ne[0],
             (unsigned long long)t->ne[1], (unsigned long long)t->ne[0], (unsigned long long)t->ne[1]);
    if (m && !has_shape(m, t->ne[1], 1))
        FAIL(err, MOTE_E_MISMATCH, "the adapter of '%s' has %llu magnitudes for %llu rows", s, (unsigned long long)m->ne[0],
             (unsigned long long)t->ne[1]);
    TRY(adapter_add(ad, t, (size_t)rank, m != NULL, &p, err));
    p->scale = alpha > 0 ? alpha / (float)rank : 1;
    TRY(read_floats(a, p->a, p->rank * p->cols, err));
    TRY(read_floats(b, p->b, p->rows * p->rank, err));
    return m ? read_floats(m, p->m, p->rows, err) : MOTE_OK;
}

static mote_status read_gguf(adapter *ad, const char *path, const model_file *base, mote_error *err) {
    model_file *f;
    float alpha;
    TRY(model_file_open(&f, path, 0, err));
    mote_status s = check_kind(f, base, err);
    if (s == MOTE_OK) s = kv_get_f32(f, "adapter.lora.alpha", &alpha, 0, err);
    if (s == MOTE_OK && !(alpha >= 0 && isfinite(alpha)))
        s = ERR(err, MOTE_E_RANGE, "adapter.lora.alpha is %g; expected a number from 0 on", (double)alpha);
    for (size_t i = 0; s == MOTE_OK && i < model_file_n_tensors(f); i++) {
        str name = model_file_tensor(f, i)->name;
        if (str_ends(name, STR(".lora_a"))) s = read_pair(ad, f, base, str_sub(name, 0, name.n - 7), alpha, err);
        else if (!str_ends(name, STR(".lora_b")) && !str_ends(name, STR(".lora_m")))
            s = ERR(err, MOTE_E_UNSUPPORTED, "the adapter holds '%.*s', which is no part of a LoRA", STR_ARG(name));
        else if (!with_suffix(f, str_sub(name, 0, name.n - 7), ".lora_a"))
            s = ERR(err, MOTE_E_FORMAT, "'%.*s' has no lora_a beside it", STR_ARG(name));
    }
    model_file_close(&f);
    return s;
}

mote_status adapter_open(adapter **out, const char *path, const model_file *base, mote_error *err) {
    *out = NULL;
    adapter *ad;
    TRY(adapter_new(&ad, base, err));
    mote_status s = file_is_dir(path) ? adapter_read_peft(ad, path, base, err) : read_gguf(ad, path, base, err);
    if (s == MOTE_OK && ad->n == 0) s = ERR(err, MOTE_E_FORMAT, "the adapter holds no matrices");
    if (s != MOTE_OK) {
        adapter_close(&ad);
        return err_prefix(err, s, "%s", path);
    }
    *out = ad;
    return MOTE_OK;
}

static mote_status put_part(gguf_writer *w, const adapter_pair *p, const char *suffix, uint64_t ne0, uint64_t ne1, mote_error *err) {
    char name[300];
    (void)snprintf(name, sizeof name, "%.*s%s", (int)MIN(p->name.n, (size_t)256), p->name.p, suffix);
    return gguf_put_tensor(w, str_of(name), QUANT_F32, ne1 ? 2 : 1, (const uint64_t[]){ne0, ne1, 1, 1}, err);
}

static mote_status write_b(gguf_writer *w, const adapter_pair *p, float alpha, mote_error *err) {
    float by = p->scale * (float)p->rank / alpha;
    if (fabsf(by - 1) < 1e-6f) return gguf_write_data(w, p->b, p->rows * p->rank * sizeof(float), err);
    float *b = MEM_NEW_N(float, p->rows * p->rank);
    if (!b) FAIL(err, MOTE_E_MEMORY, "out of memory");
    for (size_t i = 0; i < p->rows * p->rank; i++) b[i] = p->b[i] * by;
    mote_status s = gguf_write_data(w, b, p->rows * p->rank * sizeof(float), err);
    mem_free(b);
    return s;
}

mote_status adapter_write_gguf(const adapter *ad, const char *path, mote_error *err) {
    gguf_writer *w;
    mote_status s = MOTE_OK;
    if (ad->n == 0) FAIL(err, MOTE_E_USAGE, "an adapter without matrices is not written");
    float alpha = ad->pairs[0].scale * (float)ad->pairs[0].rank;
    if (!(alpha > 0)) alpha = 1;
    TRY(gguf_writer_open(&w, path, 0, err));
    TRYG(s, gguf_put_str(w, "general.architecture", ad->arch, err));
    TRYG(s, gguf_put_str(w, "general.type", STR("adapter"), err));
    TRYG(s, gguf_put_str(w, "adapter.type", STR("lora"), err));
    TRYG(s, gguf_put_f32(w, "adapter.lora.alpha", alpha, err));
    for (size_t i = 0; i < ad->n; i++) {
        const adapter_pair *p = &ad->pairs[i];
        TRYG(s, put_part(w, p, ".lora_a", p->cols, p->rank, err));
        TRYG(s, put_part(w, p, ".lora_b", p->rank, p->rows, err));
        if (p->m) TRYG(s, put_part(w, p, ".lora_m", p->rows, 0, err));
    }
    TRYG(s, gguf_writer_begin(w, err));
    for (size_t i = 0; i < ad->n; i++) {
        const adapter_pair *p = &ad->pairs[i];
        TRYG(s, gguf_write_data(w, p->a, p->rank * p->cols * sizeof(float), err));
        TRYG(s, write_b(w, p, alpha, err));
        if (p->m) TRYG(s, gguf_write_data(w, p->m, p->rows * sizeof(float), err));
    }
    s = gguf_writer_commit(w, err);
out:
    gguf_writer_close(&w);
    return s;
}

/* ---- merging ---- */

mote_status adapter_merge(const adapter_pair *p, float by, float *w, mote_error *err) {
    float *row = MEM_NEW_N(float, p->cols), s = p->scale * by;
    if (!row) FAIL(err, MOTE_E_MEMORY, "out of memory");
    for (size_t r = 0; r < p->rows; r++) {
        memset(row, 0, p->cols * sizeof *row);
        for (size_t k = 0; k < p->rank; k++) {
            float b = s * p->b[r * p->rank + k];
            const float *a = p->a + k * p->cols;
            for (size_t c = 0; c < p->cols; c++) row[c] += b * a[c];
        }
        float *y = w + r * p->cols;
        for (size_t c = 0; c < p->cols; c++) y[c] += row[c];
        if (!p->m) continue;
        double norm = 0;
        for (size_t c = 0; c < p->cols; c++) norm += (double)y[c] * (double)y[c];
        float f = norm > 0 ? (float)((double)p->m[r] / sqrt(norm)) : 0;
        for (size_t c = 0; c < p->cols; c++) y[c] *= f;
    }
    mem_free(row);
    return MOTE_OK;
}
