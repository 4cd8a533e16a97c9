/* stack.c: an embedding in parts of rows, so that frequent tokens, which a tokenizer numbers first, can have finer numbers than rare ones.
 *
 *   token_embd.weight    [n_embd, n_0]  the rows of tokens 0 … n_0 - 1
 *   token_embd_2.weight  [n_embd, n_1]  those of the next n_1 tokens, in another format
 *   token_embd_3.weight, token_embd_4.weight  likewise; the last has the rest
 *
 * What runs a model multiplies the parts as they are (MODEL_FILE_STACKED); for all others the file has one matrix in f32. */
#include "format/format_int.h"

enum { PARTS = MODEL_FILE_PARTS_MAX, ROWS_MAX = 1 << 24 };

static const char *const names[PARTS] = {"token_embd.weight", "token_embd_2.weight", "token_embd_3.weight", "token_embd_4.weight"};

static mote_status check(const tensor_info *const *t, size_t n, uint64_t *rows, mote_error *err) {
    *rows = 0;
    for (size_t i = 0; i < n; i++) {
        if (!t[i]) FAIL(err, MOTE_E_FORMAT, "tensor '%s' is missing, and parts below it are there", names[i]);
        const quant_format *f = quant_get((int)t[i]->type);
        if (t[i]->n_dims != 2 || t[i]->ne[0] != t[0]->ne[0] || t[i]->ne[1] < 1 || t[i]->ne[1] > ROWS_MAX)
            FAIL(err, MOTE_E_MISMATCH, "tensor '%s' does not fit below the part before it", names[i]);
        if (!f || !f->decode) FAIL(err, MOTE_E_UNSUPPORTED, "tensor '%s': type %d cannot be read as numbers", names[i], (int)t[i]->type);
        *rows += t[i]->ne[1];
    }
    return MOTE_OK;
}

const char *model_file_part_name(size_t i) { return names[i]; }

size_t model_file_parts(const model_file *f, const tensor_info *out[PARTS]) {
    size_t n = 0;
    while (n < PARTS && (out[n] = model_file_find_tensor(f, names[n]))) n++;
    return n < 2 ? 0 : n;
}

mote_status model_file_fit_parts(const model_file *f, embedding_parts *p, mote_error *err) {
    const tensor_info *whole = model_file_find_tensor(f, names[0]);
    uint64_t row = 0;
    if (!whole || whole->n_dims != 2 || model_file_find_tensor(f, names[1])) FAIL(err, MOTE_E_UNSUPPORTED, "there is no embedding in one piece that could be divided");
    if (model_file_find_tensor(f, "output.weight")) FAIL(err, MOTE_E_UNSUPPORTED, "an embedding in parts with an output matrix beside it");
    for (size_t k = 0; k < p->n; k++) {
        const uint64_t left = whole->ne[1] - row;
        const quant_format *q = quant_get((int)p->type[k]);
        if (k + 1 == p->n) p->rows[k] = left;
        if (p->rows[k] < 1 || p->rows[k] > left)
            FAIL(err, MOTE_E_USAGE, "an embedding of %llu rows has no part of %llu below the first %llu", (unsigned long long)whole->ne[1],
                 (unsigned long long)p->rows[k], (unsigned long long)row);
        if (whole->ne[0] % q->block)
            FAIL(err, MOTE_E_UNSUPPORTED, "tensor '%s': rows of %llu weights are no multiple of %s's blocks of %u", names[k], (unsigned long long)whole->ne[0], q->name,
                 q->block);
        row += p->rows[k];
    }
    return MOTE_OK;
}

mote_status model_file_stack(model_file *f, const embedding_parts *p, mote_error *err) {
    const tensor_info *whole = model_file_find_tensor(f, names[0]);
    tensor_info *list = ARENA_NEW_N(&f->mem, tensor_info, f->n_tensors + p->n);
    if (!list) FAIL(err, MOTE_E_MEMORY, "out of memory for %zu tensors", f->n_tensors + p->n);
    size_t count = 0;
    for (size_t i = 0; i < f->n_tensors; i++) {
        if (&f->tensors[i] != whole) {
            list[count++] = f->tensors[i];
            continue;
        }
        const size_t row_bytes = whole->size / (size_t)whole->ne[1];
        uint64_t row = 0;
        for (size_t k = 0; k < p->n; row += p->rows[k++]) {
            tensor_info part = *whole;
            part.name = part.origin = str_of(names[k]);
            part.ne[1] = p->rows[k];
            part.data = whole->data ? whole->data + row * row_bytes : NULL;
            part.size = (size_t)part.ne[1] * row_bytes;
            part.coded = (str){0};
            list[count++] = part;
        }
    }
    f->tensors = list;
    f->n_tensors = count;
    return model_file_index(f, err);
}

mote_status model_file_unstack(model_file *f, mote_error *err) {
    const tensor_info *t[PARTS];
    size_t n = 0, bytes;
    uint64_t rows;
    void *data;
    for (size_t i = 0; i < PARTS; i++)
        if ((t[i] = model_file_find_tensor(f, names[i]))) n = i + 1;
    if (n < 2) return MOTE_OK;
    TRY(check(t, n, &rows, err));
    const size_t cols = (size_t)t[0]->ne[0];
    if (!ckd_mul_size(&bytes, cols * sizeof(float), (size_t)rows)) FAIL(err, MOTE_E_LIMIT, "%s is too large", names[0]);
    TRY(model_file_own(f, bytes, &data, err));
    float *x = data;
    for (size_t i = 0; i < n; i++) {
        quant_get((int)t[i]->type)->decode(x, t[i]->data, cols * (size_t)t[i]->ne[1]);
        x += cols * (size_t)t[i]->ne[1];
    }
    size_t kept = 0;
    for (size_t i = 0; i < f->n_tensors; i++) {
        tensor_info own = f->tensors[i];
        size_t part = 0;
        while (part < PARTS && !str_is(own.name, names[part])) part++;
        if (part > 0 && part < PARTS) continue;
        if (part == 0) {
            own.type = QUANT_F32;
            own.data = data;
            own.size = bytes;
            own.ne[1] = rows;
            own.coded = (str){0};
        }
        f->tensors[kept++] = own;
    }
    f->n_tensors = kept;
    return model_file_index(f, err);
}
