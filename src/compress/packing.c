/* packing.c: tensors entropy-coded for the disk, and tensors in formats that others read. Both without loss: formats of mote's own have
 * one scale for at least 32 weights and whole steps of at most eight, which blocks of Q4_0 (2:4 in eight bits: Q8_0) hold exactly. */
#include "compress/packing.h"

#include "format/coded.h"
#include "format/edit.h"
#include "quant/layout.h"

#include <math.h>

typedef struct packing {
    model_file *f;
    model_edit *edit;
    unsigned char **bytes; /* of the changed tensors, until the file is written */
    size_t n_bytes;
    unsigned char *vocabulary;
    mote_pack_result *r;
} packing;

static uint64_t weights_of(const tensor_info *t) { return t->ne[0] * t->ne[1] * t->ne[2] * t->ne[3]; }

static void count(packing *p, const tensor_info *t, size_t bytes) {
    p->r->n_changed++;
    p->r->n_weights += weights_of(t);
    p->r->bytes_from += t->size;
    p->r->bytes_to += bytes;
}

static mote_status code_tensor(packing *p, const tensor_info *t, mote_error *err) {
    char name[512];
    size_t n;
    if (!coded_can(t->type)) return MOTE_OK;
    TRY(coded_write(t, &p->bytes[p->n_bytes], &n, err));
    const unsigned char *bytes = p->bytes[p->n_bytes++];
    if (n >= t->size) return MOTE_OK; /* too small to pay for its distributions */
    const uint64_t ne[1] = {n};
    (void)snprintf(name, sizeof name, "%.*s" CODED_SUFFIX, STR_ARG(t->name));
    TRY(edit_drop(p->edit, t->name, err));
    TRY(edit_put_bytes(p->edit, str_of(name), QUANT_I8, 1, ne, bytes, err));
    count(p, t, n);
    return MOTE_OK;
}

/* 32 weights that are whole multiples of d. */
static void put_q4_0(q4_0_block *b, const float *y, float d) {
    *b = (q4_0_block){.d = quant_f32_to_f16(d)};
    for (int j = 0; j < 32; j++) {
        int q = d != 0 ? (int)lrintf(y[j] / d) : 0;
        b->qs[j % 16] |= (uint8_t)((q + 8) << j / 16 * 4);
    }
}
static void put_q8_0(q8_0_block *b, const float *y, float d) {
    *b = (q8_0_block){.d = quant_f32_to_f16(d)};
    for (int j = 0; j < 32; j++) b->qs[j] = (int8_t)(d != 0 ? lrintf(y[j] / d) : 0);
}

/* The format of GGUF's that holds what t's does, or t's own. */
static quant_type standard(quant_type t) {
    switch ((int)t) {
    case QUANT_Q4_96:
    case QUANT_Q3_96:
    case QUANT_Q2_96:
    case QUANT_TQ1_192:
    case QUANT_Q4_0_24: return QUANT_Q4_0;
    case QUANT_Q8_0_24: return QUANT_Q8_0;
    default: return t;
    }
}

/* t's weights in a format of GGUF's that holds them exactly: its own, f32, or Q4_0 and Q8_0 as below. */
static void put_as(const tensor_info *t, quant_type to, unsigned char *dst) {
    const quant_format *f = quant_get((int)t->type), *g = quant_get((int)to);
    const size_t n = (size_t)weights_of(t);
    float y[192];
    if (to == t->type) {
        memcpy(dst, t->data, t->size);
        return;
    }
    if (to == QUANT_F32) {
        f->decode((float *)(void *)dst, t->data, n);
        return;
    }
    const unsigned char *block = t->data;
    for (size_t i = 0; i < n; i += f->block, block += f->bytes) {
        uint16_t half;
        memcpy(&half, block, 2);
        f->decode(y, block, f->block);
        for (size_t j = 0; j < f->block; j += 32, dst += g->bytes) {
            if (to == QUANT_Q4_0) put_q4_0((q4_0_block *)dst, y + j, quant_f16_to_f32(half));
            else put_q8_0((q8_0_block *)dst, y + j, quant_f16_to_f32(half));
        }
    }
}

static size_t bytes_as(const tensor_info *t, quant_type to) {
    const quant_format *g = quant_get((int)to);
    return (size_t)weights_of(t) / g->block * g->bytes;
}

static mote_status room(packing *p, const tensor_info *t, size_t bytes, unsigned char **dst, mote_error *err) {
    *dst = mem_calloc(bytes, 1);
    if (!*dst) FAIL(err, MOTE_E_MEMORY, "out of memory for tensor '%.*s'", STR_ARG(t->name));
    p->bytes[p->n_bytes++] = *dst;
    return MOTE_OK;
}

static bool is_part(const packing *p, const tensor_info *t) {
    const tensor_info *parts[MODEL_FILE_PARTS_MAX];
    for (size_t i = model_file_parts(p->f, parts); i-- > 0;)
        if (parts[i] == t) return true;
    return false;
}

static mote_status export_tensor(packing *p, const tensor_info *t, mote_error *err) {
    quant_type to = standard(t->type);
    unsigned char *dst;
    if (to == t->type || is_part(p, t)) return MOTE_OK;
    TRY(room(p, t, bytes_as(t, to), &dst, err));
    put_as(t, to, dst);
    count(p, t, bytes_as(t, to));
    return edit_put_bytes(p->edit, t->name, to, t->n_dims, t->ne, dst, err);
}

/* The format that holds what both do exactly: Q8_0 does what Q4_0 does. */
static quant_type common(quant_type a, quant_type b) {
    const bool eight = (a == QUANT_Q4_0 || a == QUANT_Q8_0) && (b == QUANT_Q4_0 || b == QUANT_Q8_0);
    return a == b ? a : eight ? QUANT_Q8_0 : QUANT_F32;
}

/* An embedding in parts becomes one tensor, of a format that holds them all. */
static mote_status export_parts(packing *p, mote_error *err) {
    const tensor_info *t[MODEL_FILE_PARTS_MAX];
    size_t n = model_file_parts(p->f, t), bytes = 0;
    unsigned char *dst;
    if (n < 2) return MOTE_OK;
    quant_type to = standard(t[0]->type);
    uint64_t ne[TENSOR_DIMS_MAX] = {t[0]->ne[0], 0, 1, 1};
    for (size_t i = 0; i < n; i++) to = common(to, standard(t[i]->type)), ne[1] += t[i]->ne[1];
    for (size_t i = 0; i < n; i++) bytes += bytes_as(t[i], to);
    TRY(room(p, t[0], bytes, &dst, err));
    for (size_t i = 0, at = 0; i < n; at += bytes_as(t[i], to), i++) {
        put_as(t[i], to, dst + at);
        count(p, t[i], bytes_as(t[i], to));
        if (i > 0) TRY(edit_drop(p->edit, t[i]->name, err));
    }
    return edit_put_bytes(p->edit, t[0]->name, to, 2, ne, dst, err);
}

static mote_status code_vocabulary(packing *p, mote_error *err) {
    size_t n;
    TRY(vocabulary_pack(p->f, &p->vocabulary, &n, err));
    if (!p->vocabulary) return MOTE_OK;
    const kv k = {.key = str_of(vocabulary_keys[0]), .type = KV_ARRAY, .elem = KV_U8, .count = n, .elems = p->vocabulary};
    for (size_t i = 1; vocabulary_keys[i]; i++) TRY(edit_drop_kv(p->edit, vocabulary_keys[i], err));
    return edit_set_kv(p->edit, &k, err);
}

static mote_status run(const char *in, const char *out, bool pack, mote_pack_result *r, mote_error *err) {
    mote_status s = MOTE_OK;
    packing p = {.r = r};
    model_file *written = NULL;
    TRYG(s, model_file_open(&p.f, in, MODEL_FILE_VOCAB | MODEL_FILE_STACKED, err));
    TRYG(s, edit_open(&p.edit, p.f, err));
    r->n_tensors = model_file_n_tensors(p.f);
    r->file_from = model_file_bytes(p.f);
    p.bytes = mem_calloc(r->n_tensors, sizeof *p.bytes);
    if (!p.bytes) FAILG(s, err, MOTE_E_MEMORY, "out of memory for %zu tensors", r->n_tensors);
    for (size_t i = 0; i < r->n_tensors; i++) TRYG(s, (pack ? code_tensor : export_tensor)(&p, model_file_tensor(p.f, i), err));
    if (pack && r->n_changed == 0)
        FAILG(s, err, MOTE_E_UNSUPPORTED, "%s: no tensor gets smaller: none large enough is in a format that is entropy-coded (q4_96, q3_96, q2_96, tq1_192)", in);
    if (!pack) TRYG(s, export_parts(&p, err));
    if (pack) TRYG(s, code_vocabulary(&p, err));
    TRYG(s, edit_write(p.edit, out, err));
    TRYG(s, model_file_open(&written, out, 0, err)); /* what cannot be read back is no result */
    r->file_to = model_file_bytes(written);
out:
    model_file_close(&written);
    edit_close(&p.edit);
    for (size_t i = 0; i < p.n_bytes; i++) mem_free(p.bytes[i]);
    mem_free(p.bytes);
    mem_free(p.vocabulary);
    model_file_close(&p.f);
    return s;
}

mote_status pack_run(const char *in, const char *out, mote_pack_result *r, mote_error *err) { return run(in, out, true, r, err); }
mote_status export_run(const char *in, const char *out, mote_pack_result *r, mote_error *err) { return run(in, out, false, r, err); }
