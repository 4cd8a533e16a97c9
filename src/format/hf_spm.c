/* hf_spm.c: SentencePiece's tokenizer.model, a Protocol Buffers message, read field by field.
 *
 * Invariants: as in every reader here, lengths are compared with what is left; the only nesting is the three
 * levels that are asked for. Source: sentencepiece_model.proto (field numbers). */
#include "format/hf_vocab.h"

typedef struct wire {
    const unsigned char *p;
    size_t n, at;
} wire;

typedef struct field {
    uint64_t number, value; /* value: of a varint, or the bits of a fixed one */
    str bytes;              /* of a length-delimited one */
    int type;               /* 0 varint, 1 fixed 64, 2 bytes, 5 fixed 32 */
} field;

static bool varint(wire *w, uint64_t *v) {
    *v = 0;
    for (unsigned shift = 0; shift < 64 && w->at < w->n; shift += 7) {
        unsigned char b = w->p[w->at++];
        *v |= (uint64_t)(b & 0x7F) << shift;
        if (b < 0x80) return true;
    }
    return false;
}

/* The next field; false at the end. Damage is an error. */
static bool next(wire *w, field *f, mote_status *s, mote_error *err) {
    uint64_t key, n = 0;
    if (w->at == w->n) return false;
    size_t begin = w->at;
    *f = (field){0};
    bool good = varint(w, &key);
    f->number = key >> 3;
    f->type = (int)(key & 7);
    if (good && f->type == 0) good = varint(w, &f->value);
    else if (good && (f->type == 1 || f->type == 5)) {
        n = f->type == 1 ? 8 : 4;
        good = n <= w->n - w->at;
        for (size_t i = 0; good && i < n; i++) f->value |= (uint64_t)w->p[w->at + i] << (8 * i);
    } else if (good && f->type == 2) {
        good = varint(w, &n) && n <= w->n - w->at;
        if (good) f->bytes = (str){(const char *)w->p + w->at, (size_t)n};
    } else good = false;
    if (!good) {
        *s = ERR(err, MOTE_E_FORMAT, "tokenizer.model: damaged at byte %zu", begin);
        return false;
    }
    w->at += (size_t)n;
    return true;
}

static wire wire_of(str s) { return (wire){(const unsigned char *)s.p, s.n, 0}; }

typedef struct spm {
    bool unigram, prefix, squeeze;
    str charsmap;
} spm;

static mote_status read_piece(hf_vocab *v, size_t id, str message, mote_error *err) {
    wire w = wire_of(message);
    field f;
    mote_status s = MOTE_OK;
    str text = {NULL, 0};
    float score = 0;
    int32_t type = TYPE_NORMAL; /* the numbers are the same as GGUF's */
    while (next(&w, &f, &s, err)) {
        if (f.number == 1 && f.type == 2) text = f.bytes;
        else if (f.number == 2 && f.type == 5) {
            uint32_t bits = (uint32_t)f.value;
            memcpy(&score, &bits, sizeof score);
        } else if (f.number == 3 && f.type == 0 && f.value >= 1 && f.value <= TYPE_BYTE) type = (int32_t)f.value;
    }
    TRY(s);
    if (!utf8_valid(text.p ? text.p : "", text.n)) FAIL(err, MOTE_E_FORMAT, "tokenizer.model: piece %zu is not UTF-8", id);
    return hf_vocab_set(v, (int64_t)id, text.p ? text : STR(""), type, score, err);
}

static mote_status read_settings(str message, bool trainer, spm *m, mote_error *err) {
    wire w = wire_of(message);
    field f;
    mote_status s = MOTE_OK;
    while (next(&w, &f, &s, err)) {
        if (trainer && f.number == 3 && f.type == 0) m->unigram = f.value == 1;
        if (trainer) continue;
        if (f.number == 2 && f.type == 2) m->charsmap = f.bytes;
        if (f.number == 3 && f.type == 0) m->prefix = f.value != 0;
        if (f.number == 4 && f.type == 0) m->squeeze = f.value != 0;
    }
    return s;
}

/* Tokens that tokenizer_config.json adds or changes: {"32000": {"content": "<|user|>", "special": true}, …}. */
static mote_status read_added(hf_vocab *v, const json_t *added, mote_error *err) {
    union { /* jansson's iteration wants what is not const; nothing is changed */
        const json_t *in;
        json_t *out;
    } o = {json_is_object(added) ? added : NULL};
    const char *key;
    json_t *a;
    json_object_foreach(o.out, key, a) {
        int64_t id;
        str text = json_get_str(a, "content");
        if (!str_to_i64(str_of(key), &id) || id < 0 || (uint64_t)id >= v->n || !text.n) continue;
        if (v->types[id] == TYPE_UNKNOWN || v->types[id] == TYPE_BYTE) continue;
        bool special = json_get_bool(a, "special", false) || hf_looks_special(text);
        TRY(hf_vocab_set(v, id, text, special ? TYPE_CONTROL : TYPE_USER_DEFINED, -1000.0f, err));
    }
    return MOTE_OK;
}

static mote_status put_settings(hf *h, const spm *m, mote_error *err) {
    TRY(hf_put_str(h, "tokenizer.ggml.model", m->unigram ? STR("t5") : STR("llama"), err));
    TRY(hf_put_str(h, "tokenizer.ggml.pre", STR("default"), err));
    TRY(hf_put_bool(h, "tokenizer.ggml.add_space_prefix", m->prefix, err));
    if (!m->unigram) return MOTE_OK;
    TRY(hf_put_bool(h, "tokenizer.ggml.remove_extra_whitespaces", m->squeeze, err));
    if (!m->charsmap.n) return MOTE_OK;
    return hf_put_kv(h, "tokenizer.ggml.precompiled_charsmap",
                     (kv){.type = KV_ARRAY, .elem = KV_U8, .count = m->charsmap.n,
                          .elems = (const unsigned char *)m->charsmap.p}, err);
}

mote_status hf_put_spm(hf *h, str model, const json_t *config, mote_error *err) {
    hf_vocab v = {.mem = &h->f->mem};
    spm m = {.unigram = true, .prefix = true, .squeeze = true}; /* the proto's defaults */
    wire w = wire_of(model);
    field f;
    mote_status s = MOTE_OK;
    size_t n = 0, id = 0;
    while (next(&w, &f, &s, err)) n += f.number == 1 && f.type == 2;
    TRY(s);
    if (n == 0) FAIL(err, MOTE_E_FORMAT, "tokenizer.model holds no pieces: not a SentencePiece model");
    TRY(hf_vocab_init(&v, MAX(n, (size_t)h->n_vocab), err));
    w.at = 0;
    while (next(&w, &f, &s, err)) {
        if (f.type != 2) continue;
        if (f.number == 1) TRY(read_piece(&v, id++, f.bytes, err));
        else if (f.number == 2 || f.number == 3) TRY(read_settings(f.bytes, f.number == 2, &m, err));
    }
    TRY(s);
    TRY(read_added(&v, json_object_get(config, "added_tokens_decoder"), err));
    TRY(hf_vocab_finish(&v, err));
    TRY(put_settings(h, &m, err));
    return hf_vocab_put(h, &v, true, err);
}
