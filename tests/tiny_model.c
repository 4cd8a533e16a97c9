#include "tiny_model.h"

#include <math.h>
#include <stdio.h>

enum { EMBD = 64, HEADS = 2, KV_HEADS = 1, FF = 128, LAYERS = 2, WIDEST = 4 };

static unsigned times(const tiny_opts *o) { return o->times ? o->times : 1; }

static mote_status put_array(gguf_writer *w, const char *key, kv_type elem, const void *elems,
                             const str *strings, size_t n, mote_error *err) {
    const kv k = {
        .key = str_of(key), .type = KV_ARRAY, .elem = elem, .count = n, .elems = elems, .strings = strings};
    return gguf_put_kv(w, &k, err);
}

static const char *const pieces[] = {"▁",   "a",    "b",    "c",   "d",      "e",    "h",  "i",      "l",
                                     "n",   "o",    "r",    "s",   "t",      "u",    "w",  "he",     "ll",
                                     "▁w",  "▁he",  "ello", "or",  "▁hello", "▁wor", "ld", "▁world", "th",
                                     "▁th", "▁the", "in",   "▁in", "é",      "日",   "本"};

static size_t vocab_of(const tiny_opts *o) { return TINY_VOCAB + (size_t)o->n_more_unused; }

static uint32_t layers_of(const tiny_opts *o) { return o->n_layer ? o->n_layer : LAYERS; }

static mote_status put_tokenizer(gguf_writer *w, const tiny_opts *o, mote_error *err) {
    static const char *const special[] = {"<unk>",      "<s>",   "</s>",  "<|im_start|>",
                                          "<|im_end|>", "<PRE>", "<SUF>", "<MID>"};
    static char bytes[256][8], fill[TINY_VOCAB + TINY_MORE_MAX][32];
    str text[TINY_VOCAB + TINY_MORE_MAX];
    float score[TINY_VOCAB + TINY_MORE_MAX];
    int32_t type[TINY_VOCAB + TINY_MORE_MAX];
    size_t n = 0;
    for (size_t i = 0; i < COUNT_OF(special); i++, n++) {
        bool hidden = o->no_fim && i >= TINY_PRE; /* or the tokenizer would know them by name */
        text[n] = str_of(hidden ? &special[i][1] : special[i]);
        type[n] = i == 0 ? 2 : 3;
        score[n] = 0;
    }
    for (int i = 0; i < 256; i++, n++) {
        (void)snprintf(bytes[i], sizeof bytes[i], "<0x%02X>", i);
        text[n] = str_of(bytes[i]);
        type[n] = 6;
        score[n] = 0;
    }
    for (size_t i = 0; i < COUNT_OF(pieces); i++, n++) {
        text[n] = str_of(pieces[i]);
        type[n] = 1;
        score[n] = -(float)i;
    }
    for (; n < vocab_of(o); n++) {
        (void)snprintf(fill[n], sizeof fill[n], "[unused%zu]", n);
        text[n] = str_of(fill[n]);
        type[n] = 5;
        score[n] = -1000;
    }
    TRY(gguf_put_str(w, "tokenizer.ggml.model", STR("llama"), err));
    TRY(put_array(w, "tokenizer.ggml.tokens", KV_STRING, NULL, text, n, err));
    TRY(put_array(w, "tokenizer.ggml.scores", KV_F32, score, NULL, n, err));
    TRY(put_array(w, "tokenizer.ggml.token_type", KV_I32, type, NULL, n, err));
    TRY(gguf_put_u32(w, "tokenizer.ggml.bos_token_id", TINY_BOS, err));
    TRY(gguf_put_u32(w, "tokenizer.ggml.eos_token_id", TINY_EOS, err));
    TRY(gguf_put_u32(w, "tokenizer.ggml.eot_token_id", TINY_IM_END, err));
    TRY(gguf_put_u32(w, "tokenizer.ggml.unknown_token_id", 0, err));
    TRY(gguf_put_bool(w, "tokenizer.ggml.add_bos_token", true, err));
    if (!o->no_fim) {
        TRY(gguf_put_u32(w, "tokenizer.ggml.fim_pre_token_id", TINY_PRE, err));
        TRY(gguf_put_u32(w, "tokenizer.ggml.fim_suf_token_id", TINY_SUF, err));
        TRY(gguf_put_u32(w, "tokenizer.ggml.fim_mid_token_id", TINY_MID, err));
    }
    const char *t =
        o->template_text
            ? o->template_text
            : "{{ bos_token }}{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n"
              "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
    return gguf_put_str(w, "tokenizer.chat_template", str_of(t), err);
}

static mote_status put_metadata(gguf_writer *w, const tiny_opts *o, mote_error *err) {
    TRY(gguf_put_str(w, "general.architecture", STR("llama"), err));
    TRY(gguf_put_str(w, "general.name", STR("tiny"), err));
    TRY(gguf_put_u32(w, "llama.block_count", layers_of(o), err));
    TRY(gguf_put_u32(w, "llama.context_length", TINY_CTX, err));
    TRY(gguf_put_u32(w, "llama.embedding_length", times(o) * EMBD, err));
    TRY(gguf_put_u32(w, "llama.feed_forward_length", times(o) * FF, err));
    TRY(gguf_put_u32(w, "llama.attention.head_count", HEADS, err));
    TRY(gguf_put_u32(w, "llama.attention.head_count_kv", KV_HEADS, err));
    TRY(gguf_put_f32(w, "llama.attention.layer_norm_rms_epsilon", 1e-5f, err));
    TRY(gguf_put_f32(w, "llama.rope.freq_base", 10000, err));
    TRY(gguf_put_u32(w, "llama.vocab_size", (uint32_t)vocab_of(o), err));
    return o->no_tokenizer ? MOTE_OK : put_tokenizer(w, o, err);
}

typedef struct shape {
    char name[48];
    uint64_t cols, rows; /* rows 0: a vector */
} shape;

static size_t shapes(const tiny_opts *o, shape *s, uint64_t vocab, unsigned wider) {
    static const struct {
        const char *name;
        uint64_t cols, rows;
    } block[] = {{"attn_norm", EMBD, 0},
                 {"attn_q", EMBD, EMBD},
                 {"attn_k", EMBD, EMBD / HEADS * KV_HEADS},
                 {"attn_v", EMBD, EMBD / HEADS * KV_HEADS},
                 {"attn_output", EMBD, EMBD},
                 {"ffn_norm", EMBD, 0},
                 {"ffn_gate", EMBD, FF},
                 {"ffn_up", EMBD, FF},
                 {"ffn_down", FF, EMBD}};
    size_t n = 0;
    s[n++] = (shape){"token_embd.weight", EMBD, vocab};
    for (int l = 0; l < (int)layers_of(o); l++)
        for (size_t i = 0; i < COUNT_OF(block); i++, n++) {
            s[n].cols = block[i].cols;
            s[n].rows = block[i].rows;
            (void)snprintf(s[n].name, sizeof s[n].name, "blk.%d.%s.weight", l, block[i].name);
        }
    s[n++] = (shape){"output_norm.weight", EMBD, 0};
    s[n++] = (shape){"output.weight", EMBD, vocab};
    for (size_t i = 0; i < n; i++) {
        s[i].cols *= wider;
        if (s[i].rows != vocab) s[i].rows *= wider;
    }
    return n;
}

static mote_status write_row(gguf_writer *w, const shape *s, quant_type type, rng *r, bool nan,
                             mote_error *err) {
    float row[WIDEST * FF];
    unsigned char packed[WIDEST * FF * 4];
    size_t bytes;
    for (uint64_t i = 0; i < s->cols; i++) {
        double u = rng_double(r) + rng_double(r) + rng_double(r) - 1.5; /* nearly normal, deviation 0.5 */
        row[i] = s->rows ? (float)(u * 2 * 1.5 / sqrt((double)s->cols)) : (float)(1 + 0.1 * u);
    }
    if (nan) row[0] = NAN;
    const quant_format *f = quant_get(s->rows ? (int)type : QUANT_F32);
    TRY(quant_row_bytes(f, s->cols, &bytes, err));
    if (f->type == QUANT_F32) memcpy(packed, row, bytes);
    else f->encode(packed, row, s->cols, NULL);
    return gguf_write_data(w, packed, bytes, err);
}

mote_status tiny_model_write(const char *path, const tiny_opts *o, mote_error *err) {
    gguf_writer *w = NULL;
    shape s[64];
    size_t n = shapes(o, s, vocab_of(o), times(o));
    rng r;
    mote_status st = MOTE_OK;
    rng_seed(&r, o->seed, 11);
    TRYG(st, gguf_writer_open(&w, path, 32, err));
    TRYG(st, put_metadata(w, o, err));
    for (size_t i = 0; i < n; i++) {
        const uint64_t ne[2] = {s[i].cols, MAX(s[i].rows, 1)};
        TRYG(st, gguf_put_tensor(w, str_of(s[i].name), s[i].rows ? o->type : QUANT_F32, s[i].rows ? 2 : 1, ne,
                                 err));
    }
    TRYG(st, gguf_writer_begin(w, err));
    for (size_t i = 0; i < n; i++)
        for (uint64_t row = 0; row < MAX(s[i].rows, 1); row++)
            TRYG(st, write_row(w, &s[i], o->type, &r, o->nan_weight && i + 1 == n && row == 5, err));
    st = gguf_writer_commit(w, err);
out:
    gguf_writer_close(&w);
    return st;
}

bool tiny_text_write(const char *path) {
    static const char *const words[] = {"the", "end", "hello", "world", "in", "and", "of", "is"};
    FILE *f = fopen(path, "w");
    if (!f) return false;
    rng r;
    rng_seed(&r, 5, 5);
    for (int i = 0; i < 120; i++) {
        for (int w = 0; w < 12; w++) (void)fprintf(f, "%s%s", w ? " " : "", words[rng_below(&r, COUNT_OF(words))]);
        (void)fputs("\n<|endoftext|>\n", f);
    }
    return fclose(f) == 0;
}
