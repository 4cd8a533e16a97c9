/* format_convert.c: model_file in, GGUF out, one tensor's rows at a time. */
#include "format/format_convert.h"
#include "format/format_int.h"

#define ROWS_BYTES ((size_t)4 << 20) /* float32 held at once */

/* The type a tensor gets. */
static quant_type target(const tensor_info *t, int wanted) {
    const quant_format *from = quant_get((int)t->type), *to = quant_get(wanted);
    bool is_matrix = t->n_dims >= 2 && t->ne[1] > 1 && (t->type == QUANT_F16 || t->type == QUANT_BF16 ||
                                                        (t->type == QUANT_F32 && str_ends(t->name, STR(".weight"))));
    static const char *const keep[] = {"norm.weight", "ffn_gate_inp", "ssm_conv1d", "shortconv.conv", "token_types",
                                       "position_embd", "time_mix_", "rope_f"};
    for (size_t i = 0; i < COUNT_OF(keep); i++)
        if (str_find(t->name, str_of(keep[i]), 0) != SIZE_MAX && t->type == QUANT_F32) is_matrix = false;
    if (!is_matrix || !to || !from->decode || !to->encode) return t->type;
    return t->ne[0] % to->block == 0 ? to->type : QUANT_F16;
}

static mote_status recode(gguf_writer *w, const tensor_info *t, quant_type type, mote_error *err) {
    const quant_format *from = quant_get((int)t->type), *to = quant_get((int)type);
    size_t row_in, row_out, n = (size_t)t->ne[0];
    TRY(quant_row_bytes(from, n, &row_in, err));
    TRY(quant_row_bytes(to, n, &row_out, err));
    size_t rows = t->size / row_in, at_once = MAX((size_t)1, ROWS_BYTES / (n * sizeof(float)));
    at_once = MIN(at_once, rows);
    mote_status s = MOTE_OK;
    float *x = MEM_NEW_N(float, n * at_once);
    unsigned char *y = mem_calloc(at_once, row_out);
    if (!x || !y) FAILG(s, err, MOTE_E_MEMORY, "out of memory for %zu rows of %zu", at_once, n);
    for (size_t r = 0; r < rows; r += at_once) {
        size_t now = MIN(at_once, rows - r);
        from->decode(x, t->data + r * row_in, now * n);
        to->encode(y, x, now * n, NULL);
        TRYG(s, gguf_write_data(w, y, now * row_out, err));
    }
out:
    mem_free(x);
    mem_free(y);
    return s;
}

/* llama.cpp's number for "mostly of this type". */
static uint32_t file_type(int type) {
    switch (type) {
    case QUANT_F32: return 0;
    case QUANT_F16: return 1;
    case QUANT_Q8_0: return 7;
    case QUANT_BF16: return 32;
    default: return 1024; /* guessed */
    }
}

/* The type most bytes will have, when every tensor keeps its own. */
static int common_type(const model_file *f) {
    size_t bytes[QUANT_TYPE_MAX] = {0};
    int best = QUANT_F32;
    for (size_t i = 0; i < model_file_n_tensors(f); i++) {
        const tensor_info *t = model_file_tensor(f, i);
        bytes[t->type] += t->size;
        if (bytes[t->type] > bytes[best]) best = (int)t->type;
    }
    return best;
}

static mote_status declare(gguf_writer *w, const model_file *f, int type, mote_error *err) {
    for (size_t i = 0; i < model_file_n_kv(f); i++) {
        const kv *k = model_file_kv(f, i);
        if (!str_starts(k->key, STR("split.")) && !str_is(k->key, "general.alignment")) TRY(gguf_put_kv(w, k, err));
    }
    TRY(gguf_put_u32(w, "general.file_type", file_type(type < 0 ? common_type(f) : type), err));
    TRY(gguf_put_u32(w, "general.quantization_version", 2, err));
    for (size_t i = 0; i < model_file_n_tensors(f); i++) {
        const tensor_info *t = model_file_tensor(f, i);
        TRY(gguf_put_tensor(w, t->name, target(t, type), t->n_dims, t->ne, err));
    }
    return gguf_writer_begin(w, err);
}

mote_status format_convert(const char *in, const char *out, const convert_opts *opts, mote_error *err) {
    model_file *f = NULL;
    gguf_writer *w = NULL;
    mote_status s;
    TRYG(s, model_file_open(&f, in, opts->flags | MODEL_FILE_VOCAB, err));
    TRYG(s, gguf_writer_open(&w, out, 0, err));
    TRYG(s, declare(w, f, opts->type, err));
    for (size_t i = 0; i < model_file_n_tensors(f); i++) {
        const tensor_info *t = model_file_tensor(f, i);
        quant_type type = target(t, opts->type);
        if (type == t->type) TRYG(s, gguf_write_data(w, t->data, t->size, err));
        else TRYG(s, recode(w, t, type, err));
        file_drop(t->data, t->size);
        if (opts->progress && !opts->progress(opts->ctx, i + 1, model_file_n_tensors(f), t->name.p))
            FAILG(s, err, MOTE_E_CANCELLED, "cancelled");
    }
    TRYG(s, gguf_writer_commit(w, err));
out:
    gguf_writer_close(&w);
    model_file_close(&f);
    return s;
}
