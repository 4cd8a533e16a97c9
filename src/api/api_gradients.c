/* api_gradients.c: body of mote/gradients.h. */
#include "mote/gradients.h"

#include "train/gradient_pass.h"

#include <string.h>

/* The tokens of a batch file. */
struct tokens {
    int32_t *ids; /* owned */
    gradients_in in;
};

static mote_status read_ids(const st_tensor *t, struct tokens *out, mote_error *err) {
    bool wide = str_is(t->dtype, "I64");
    if (!wide && !str_is(t->dtype, "I32")) FAIL(err, MOTE_E_FORMAT, "input_ids has type %.*s, expected I32 or I64", STR_ARG(t->dtype));
    if (t->n_dims != 1 && t->n_dims != 2) FAIL(err, MOTE_E_FORMAT, "input_ids has %d dimensions, expected [tokens] or [sequences, tokens]", t->n_dims);
    size_t n = t->size / (wide ? 8 : 4);
    out->ids = MEM_NEW_N(int32_t, n ? n : 1);
    if (!out->ids) FAIL(err, MOTE_E_MEMORY, "out of memory");
    for (size_t i = 0; i < n; i++) {
        int64_t v = 0;
        if (!wide) memcpy(&out->ids[i], t->data + 4 * i, 4);
        else {
            memcpy(&v, t->data + 8 * i, 8);
            out->ids[i] = v < 0 || v > INT32_MAX ? -1 : (int32_t)v;
        }
    }
    out->in = (gradients_in){.ids = out->ids, .n_seq = t->n_dims == 2 ? t->shape[0] : 1, .len = t->shape[t->n_dims - 1]};
    return MOTE_OK;
}

static mote_status read_batch(const char *path, struct tokens *out, mote_error *err) {
    file_map f = {0};
    st_file *st = NULL;
    mote_status s;
    TRY(file_open(&f, path, FILE_READ, err));
    TRYG(s, st_parse(&st, f.p, f.n, err));
    const st_tensor *t = st_find(st, "input_ids");
    if (!t) FAILG(s, err, MOTE_E_FORMAT, "%s has no tensor 'input_ids'", path);
    s = read_ids(t, out, err);
out:
    st_close(&st);
    file_close(&f);
    return s;
}

static mote_status write_logits(const char *path, const gradients_in *in, size_t vocab, const float *logits, double loss, mote_error *err) {
    float l = (float)loss;
    st_tensor t[2] = {
        {.name = STR("logits"), .dtype = STR("F32"), .n_dims = 3, .shape = {in->n_seq, in->len, vocab}, .data = (const unsigned char *)logits,
         .size = in->n_seq * in->len * vocab * sizeof *logits},
        {.name = STR("loss"), .dtype = STR("F32"), .n_dims = 1, .shape = {1}, .data = (const unsigned char *)&l, .size = sizeof l},
    };
    return st_write(path, t, COUNT_OF(t), NULL, err);
}

/* What is opened for a pass. */
struct work {
    pool *pool;
    model *m;
    net *n;
    const struct kern_table *kern;
    tape *t;
    float *logits;
};

static void close_work(struct work *w) {
    mem_free(w->logits);
    tape_close(&w->t);
    tensor_kernels_close(&w->kern);
    net_close(&w->n);
    model_close(&w->m);
    pool_close(&w->pool);
}

static mote_status open_work(struct work *w, const char *path, const mote_gradients_options *o, const gradients_in *in, mote_error *err) {
    size_t n;
    TRY(pool_open(&w->pool, o->n_threads, err));
    TRY(model_open(&w->m, path, NULL, w->pool, err));
    TRY(net_open(&w->n, w->m, w->pool, &(net_opts){.checkpoint = o->checkpoint}, err));
    w->kern = tensor_kernels_open(CPU_ALL);
    if (!w->kern) FAIL(err, MOTE_E_MEMORY, "out of memory");
    TRY(tape_open(&w->t, &(tape_opts){.pool = w->pool, .kern = w->kern, .prec = o->bf16 ? GEMM_BF16 : GEMM_F32}, err));
    if (!o->logits) return MOTE_OK;
    if (!ckd_mul_size(&n, in->n_seq, in->len) || !ckd_mul_size(&n, n, model_get_info(w->m)->n_vocab)) FAIL(err, MOTE_E_RANGE, "too many logits");
    w->logits = MEM_NEW_N(float, n ? n : 1);
    if (!w->logits) FAIL(err, MOTE_E_MEMORY, "out of memory for the logits");
    return MOTE_OK;
}

static size_t count_trained(net *n) {
    size_t count = 0;
    for (size_t i = 0; i < net_n_params(n); i++) count += net_param(n, i)->trained;
    return count;
}

mote_status mote_gradients(const char *path, const char *batch, const char *out, const mote_gradients_options *options,
                           mote_gradients_result *result, mote_error *err) {
    static const mote_gradients_options none = {0};
    const mote_gradients_options *o = options ? options : &none;
    struct tokens tokens = {0};
    struct work w = {0};
    double loss;
    mote_status s;
    if (!path || !batch || !out) FAIL(err, MOTE_E_USAGE, "a model, a batch and a place for the gradients are needed");
    TRYG(s, read_batch(batch, &tokens, err));
    TRYG(s, open_work(&w, path, o, &tokens.in, err));
    uint64_t start = clock_ns();
    TRYG(s, gradients_make(w.n, w.t, &tokens.in, &loss, w.logits, err));
    double seconds = (double)(clock_ns() - start) * 1e-9;
    if (w.logits) TRYG(s, write_logits(o->logits, &tokens.in, model_get_info(w.m)->n_vocab, w.logits, loss, err));
    TRYG(s, gradients_write(w.n, out, err));
    if (result)
        *result = (mote_gradients_result){.loss = loss, .n_sequences = tokens.in.n_seq, .n_tokens = tokens.in.n_seq * tokens.in.len,
                                          .n_tensors = count_trained(w.n), .peak_bytes = tape_peak_bytes(w.t), .seconds = seconds};
out:
    close_work(&w);
    mem_free(tokens.ids);
    return s;
}
