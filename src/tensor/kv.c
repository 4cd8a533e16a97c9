/* kv.c: how keys and values lie in the cache.
 *
 * Both are kept head by head, and within a head in blocks of KV_BLOCK positions.
 * K, float types: [dim][16 positions], so that a vector holds one dimension of 16 keys.
 * K, q8_0: per 32 dimensions i8[32][16], then f16[16] scales.
 * K, q4_0: per 32 dimensions u8[16][16] (dimension j in the low nibbles of row j, j + 16 in the high ones;
 *          offset 8), then f16[16] scales.
 * V: a row per position, in the format's own form. */
#include "tensor/tensor_int.h"

#include <math.h>

enum { GROUP = 32 }; /* dimensions under one scale */

static bool is_float(quant_type t) { return t == QUANT_F32 || t == QUANT_F16 || t == QUANT_BF16; }
static size_t float_size(quant_type t) { return t == QUANT_F32 ? 4 : 2; }

mote_status kv_check(quant_type k_type, quant_type v_type, size_t dim_k, size_t dim_v, mote_error *err) {
    quant_type types[2] = {k_type, v_type};
    size_t dims[2] = {dim_k, dim_v};
    for (int i = 0; i < 2; i++) {
        const quant_format *f = quant_get((int)types[i]);
        bool quantized = types[i] == QUANT_Q8_0 || types[i] == QUANT_Q4_0;
        if (!f || (!is_float(types[i]) && !quantized))
            FAIL(err, MOTE_E_UNSUPPORTED, "the KV cache cannot be of type %s: choose f32, f16, bf16, q8_0 or q4_0",
                 f ? f->name : "unknown");
        if (quantized && dims[i] % GROUP != 0)
            FAIL(err, MOTE_E_UNSUPPORTED,
                 "the KV cache cannot be of type %s: heads of %zu values are no multiple of 32; choose f16", f->name,
                 dims[i]);
    }
    return MOTE_OK;
}

static size_t group_bytes(quant_type t) { return (t == QUANT_Q8_0 ? GROUP : GROUP / 2) * KV_BLOCK + 2 * KV_BLOCK; }
static size_t k_block_bytes(const kv_layer *c) {
    if (is_float(c->k_type)) return c->dim_k * KV_BLOCK * float_size(c->k_type);
    return c->dim_k / GROUP * group_bytes(c->k_type);
}
static size_t v_row_bytes(const kv_layer *c) {
    const quant_format *f = quant_get((int)c->v_type);
    return c->dim_v / f->block * f->bytes;
}
size_t kv_k_bytes(const kv_layer *c) { return c->n_head_kv * (c->cap / KV_BLOCK) * k_block_bytes(c); }
size_t kv_v_bytes(const kv_layer *c) { return c->n_head_kv * c->cap * v_row_bytes(c); }

static unsigned char *k_block(const kv_layer *c, size_t head, size_t block) {
    return c->k + (head * (c->cap / KV_BLOCK) + block) * k_block_bytes(c);
}
static unsigned char *v_row(const kv_layer *c, size_t head, size_t slot) {
    return c->v + (head * c->cap + slot) * v_row_bytes(c);
}

/* One block of 32 values in the form of q8_0 or q4_0: to nearest, the largest value at the end of the range. */
static void encode_block(quant_type t, unsigned char *block, const float *x) {
    float max = 0; /* with its sign */
    for (size_t i = 0; i < GROUP; i++)
        if (fabsf(x[i]) > fabsf(max)) max = x[i];
    if (!(fabsf(max) <= 65504.0f)) max = 0;
    float d = t == QUANT_Q8_0 ? max / 127.0f : max / -8.0f, inverse = d != 0.0f ? 1.0f / d : 0.0f;
    uint16_t half = quant_f32_to_f16(d);
    memcpy(block, &half, 2);
    for (size_t i = 0; i < GROUP / 2; i++) {
        float low = x[i] * inverse, high = x[i + GROUP / 2] * inverse;
        if (t == QUANT_Q8_0) {
            block[2 + i] = (unsigned char)(int8_t)lrintf(low);
            block[2 + GROUP / 2 + i] = (unsigned char)(int8_t)lrintf(high);
        } else {
            int l = MIN((int)lrintf(low) + 8, 15), h = MIN((int)lrintf(high) + 8, 15);
            block[2 + i] = (unsigned char)(l | h << 4);
        }
    }
}

/* One such block, between its own form and column `at` of a group. */
static void put_group(quant_type t, unsigned char *dst, size_t at, const float *x) {
    unsigned char block[34];
    encode_block(t, block, x);
    size_t rows = t == QUANT_Q8_0 ? GROUP : GROUP / 2;
    for (size_t j = 0; j < rows; j++) dst[j * KV_BLOCK + at] = block[2 + j];
    memcpy(dst + rows * KV_BLOCK + 2 * at, block, 2);
}
static void get_group(quant_type t, const unsigned char *src, size_t at, float *x) {
    unsigned char block[34];
    size_t rows = t == QUANT_Q8_0 ? GROUP : GROUP / 2;
    for (size_t j = 0; j < rows; j++) block[2 + j] = src[j * KV_BLOCK + at];
    memcpy(block, src + rows * KV_BLOCK + 2 * at, 2);
    quant_get((int)t)->decode(x, block, GROUP);
}

void kv_put_k(const team *t, const kv_layer *c, size_t head, size_t pos, const float *k) {
    size_t slot = pos % c->cap, at = slot % KV_BLOCK;
    unsigned char *block = k_block(c, head, slot / KV_BLOCK);
    if (c->k_type == QUANT_F32) {
        float *d = (float *)(void *)block + at;
        for (size_t i = 0; i < c->dim_k; i++) d[i * KV_BLOCK] = k[i];
    } else if (is_float(c->k_type)) {
        uint16_t half[64], *d = (uint16_t *)(void *)block + at;
        for (size_t i = 0; i < c->dim_k; i += 64) {
            size_t n = MIN((size_t)64, c->dim_k - i);
            t->kern->narrow[c->k_type](half, k + i, n);
            for (size_t j = 0; j < n; j++) d[(i + j) * KV_BLOCK] = half[j];
        }
    } else {
        for (size_t i = 0; i < c->dim_k; i += GROUP, block += group_bytes(c->k_type))
            put_group(c->k_type, block, at, k + i);
    }
}

void kv_put_v(const team *t, const kv_layer *c, size_t head, size_t pos, const float *v) {
    unsigned char *row = v_row(c, head, pos % c->cap);
    if (is_float(c->v_type)) t->kern->narrow[c->v_type](row, v, c->dim_v);
    else {
        size_t bytes = quant_get((int)c->v_type)->bytes;
        for (size_t i = 0; i < c->dim_v; i += GROUP) encode_block(c->v_type, row + i / GROUP * bytes, v + i);
    }
}

void kv_get_k(const kv_layer *c, size_t head, size_t pos, float *k) {
    size_t slot = pos % c->cap, at = slot % KV_BLOCK;
    const unsigned char *block = k_block(c, head, slot / KV_BLOCK);
    const quant_format *f = quant_get((int)c->k_type);
    if (is_float(c->k_type)) {
        for (size_t i = 0; i < c->dim_k; i++) f->decode(k + i, block + (i * KV_BLOCK + at) * f->bytes, 1);
    } else {
        for (size_t i = 0; i < c->dim_k; i += GROUP, block += group_bytes(c->k_type))
            get_group(c->k_type, block, at, k + i);
    }
}

void kv_get_v(const kv_layer *c, size_t head, size_t pos, float *v) {
    quant_get((int)c->v_type)->decode(v, v_row(c, head, pos % c->cap), c->dim_v);
}

void kv_load_k(const kern_table *kern, const kv_layer *c, size_t head, size_t block, float *dst, size_t ld) {
    const unsigned char *src = k_block(c, head, block);
    if (is_float(c->k_type)) {
        size_t step = KV_BLOCK * float_size(c->k_type);
        for (size_t i = 0; i < c->dim_k; i++, src += step) kern->widen[c->k_type](dst + i * ld, src, KV_BLOCK);
        return;
    }
    size_t rows = c->k_type == QUANT_Q8_0 ? GROUP : GROUP / 2;
    for (size_t i = 0; i < c->dim_k; i += GROUP, src += group_bytes(c->k_type)) {
        float d[KV_BLOCK];
        kern->widen[QUANT_F16](d, src + rows * KV_BLOCK, KV_BLOCK);
        for (size_t j = 0; j < rows; j++) {
            const unsigned char *q = src + j * KV_BLOCK;
            float *low = dst + (i + j) * ld, *high = low + 16 * ld;
            if (c->k_type == QUANT_Q8_0) {
                for (size_t p = 0; p < KV_BLOCK; p++) low[p] = d[p] * (float)(int8_t)q[p];
            } else {
                for (size_t p = 0; p < KV_BLOCK; p++) {
                    low[p] = d[p] * (float)((q[p] & 15) - 8);
                    high[p] = d[p] * (float)((q[p] >> 4) - 8);
                }
            }
        }
    }
}

void kv_load_v(const kern_table *kern, const kv_layer *c, size_t head, size_t block, float *dst) {
    const unsigned char *src = v_row(c, head, block * KV_BLOCK);
    if (is_float(c->v_type)) kern->widen[c->v_type](dst, src, KV_BLOCK * c->dim_v);
    else quant_get((int)c->v_type)->decode(dst, src, KV_BLOCK * c->dim_v);
}
