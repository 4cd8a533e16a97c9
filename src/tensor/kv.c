/* kv.c: how keys and values lie in the cache.
 *
 * Both are kept head by head, and within a head in blocks of KV_BLOCK positions.
 * K, f16 and bf16: pair words [dim/2][16 positions] of dimensions 2i (low) and 2i + 1, so that a vector holds two
 *          dimensions of 16 keys, as 16-bit dot products take them. An odd last dimension is paired with 0.
 * K, f32: [dim][16 positions].
 * K, q8_0: per 32 dimensions i8[32][16], then f16[16] scales.
 * K, q4_0: per 32 dimensions u8[16][16] (dimension j in the low nibbles of row j, j + 16 in the high ones;
 *          offset 8), then f16[16] scales.
 * V, f16 and bf16: pair words [8][dim] of positions 2i (low) and 2i + 1.
 * V, others: a row per position, in the format's own form. */
#include "tensor/tensor_int.h"

#include <math.h>

enum { GROUP = 32 }; /* dimensions under one scale */

bool kv_is_paired(quant_type t) { return t == QUANT_F16 || t == QUANT_BF16; }
enum { WORD = 4 };

mote_status kv_check(quant_type k_type, quant_type v_type, size_t dim_k, size_t dim_v, mote_error *err) {
    quant_type types[2] = {k_type, v_type};
    size_t dims[2] = {dim_k, dim_v};
    for (int i = 0; i < 2; i++) {
        const quant_format *f = quant_get((int)types[i]);
        bool quantized = types[i] == QUANT_Q8_0 || types[i] == QUANT_Q4_0;
        if (!f || (types[i] != QUANT_F32 && !kv_is_paired(types[i]) && !quantized))
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
    if (kv_is_paired(c->k_type)) return (c->dim_k + 1) / 2 * KV_BLOCK * WORD;
    if (c->k_type == QUANT_F32) return c->dim_k * KV_BLOCK * sizeof(float);
    return c->dim_k / GROUP * group_bytes(c->k_type);
}
static size_t v_row_bytes(const kv_layer *c) {
    const quant_format *f = quant_get((int)c->v_type);
    return c->dim_v / f->block * f->bytes;
}
static size_t keys_bytes(const kv_layer *c) { return c->n_head_kv * (c->cap / KV_BLOCK) * k_block_bytes(c); }
size_t kv_k_bytes(const kv_layer *c) {
    return keys_bytes(c) + (c->block ? c->n_head_kv * (c->cap / c->block) * c->dim_k * sizeof(float) : 0);
}
size_t kv_v_bytes(const kv_layer *c) { return c->n_head_kv * c->cap * v_row_bytes(c); }

static unsigned char *k_block(const kv_layer *c, size_t head, size_t block) {
    return c->k + (head * (c->cap / KV_BLOCK) + block) * k_block_bytes(c);
}
/* V's row of a position, or the row of pair words it shares with its neighbour */
static unsigned char *v_row(const kv_layer *c, size_t head, size_t slot) {
    if (kv_is_paired(c->v_type)) slot &= ~(size_t)1;
    return c->v + (head * c->cap + slot) * v_row_bytes(c);
}
static unsigned char *v_block(const kv_layer *c, size_t head, size_t block) {
    return c->v + (head * c->cap + block * KV_BLOCK) * v_row_bytes(c);
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

/* n floats to every second half of a paired type, `step` halves apart */
static void put_halves(const team *t, quant_type type, uint16_t *dst, size_t step, const float *x, size_t n) {
    uint16_t half[64];
    for (size_t i = 0; i < n; i += COUNT_OF(half)) {
        size_t m = MIN(COUNT_OF(half), n - i);
        t->kern->narrow[type](half, x + i, m);
        for (size_t j = 0; j < m; j++) dst[(i + j) * step] = half[j];
    }
}

void kv_put_k(const team *t, const kv_layer *c, size_t head, size_t pos, const float *k) {
    size_t slot = pos % c->cap, at = slot % KV_BLOCK;
    unsigned char *block = k_block(c, head, slot / KV_BLOCK);
    if (c->k_type == QUANT_F32) {
        float *d = (float *)(void *)block + at;
        for (size_t i = 0; i < c->dim_k; i++) d[i * KV_BLOCK] = k[i];
    } else if (kv_is_paired(c->k_type)) {
        uint16_t half[64];
        uint32_t *d = (uint32_t *)(void *)block + at;
        for (size_t i = 0; i < c->dim_k; i += COUNT_OF(half)) {
            size_t n = MIN(COUNT_OF(half), c->dim_k - i);
            t->kern->narrow[c->k_type](half, k + i, n);
            if (n % 2) half[n++] = 0;
            for (size_t j = 0; j < n; j += 2) d[(i + j) / 2 * KV_BLOCK] = half[j] | (uint32_t)half[j + 1] << 16;
        }
    } else {
        for (size_t i = 0; i < c->dim_k; i += GROUP, block += group_bytes(c->k_type))
            put_group(c->k_type, block, at, k + i);
    }
}

void kv_put_v(const team *t, const kv_layer *c, size_t head, size_t pos, const float *v) {
    size_t slot = pos % c->cap;
    unsigned char *row = v_row(c, head, slot);
    if (c->v_type == QUANT_F32) {
        memcpy(row, v, c->dim_v * sizeof *v);
    } else if (kv_is_paired(c->v_type)) {
        put_halves(t, c->v_type, (uint16_t *)(void *)row + slot % 2, 2, v, c->dim_v);
    } else {
        size_t bytes = quant_get((int)c->v_type)->bytes;
        for (size_t i = 0; i < c->dim_v; i += GROUP) encode_block(c->v_type, row + i / GROUP * bytes, v + i);
    }
}

void kv_get_k(const kv_layer *c, size_t head, size_t pos, float *k) {
    size_t slot = pos % c->cap, at = slot % KV_BLOCK;
    const unsigned char *block = k_block(c, head, slot / KV_BLOCK);
    const quant_format *f = quant_get((int)c->k_type);
    if (c->k_type == QUANT_F32) {
        for (size_t i = 0; i < c->dim_k; i++) memcpy(k + i, block + (i * KV_BLOCK + at) * sizeof *k, sizeof *k);
    } else if (kv_is_paired(c->k_type)) {
        for (size_t i = 0; i < c->dim_k; i++)
            f->decode(k + i, block + (i / 2 * KV_BLOCK + at) * WORD + i % 2 * f->bytes, 1);
    } else {
        for (size_t i = 0; i < c->dim_k; i += GROUP, block += group_bytes(c->k_type))
            get_group(c->k_type, block, at, k + i);
    }
}

void kv_get_v(const kv_layer *c, size_t head, size_t pos, float *v) {
    const quant_format *f = quant_get((int)c->v_type);
    const unsigned char *row = v_row(c, head, pos % c->cap);
    if (!kv_is_paired(c->v_type)) {
        f->decode(v, row, c->dim_v);
        return;
    }
    for (size_t i = 0; i < c->dim_v; i++) f->decode(v + i, row + i * WORD + pos % 2 * f->bytes, 1);
}

/* ---- blocks for attention ---- */
void kv_load_k(const kern_table *kern, const kv_layer *c, size_t head, size_t block, float *dst, size_t ld) {
    const unsigned char *src = k_block(c, head, block);
    if (c->k_type == QUANT_F32) {
        for (size_t i = 0; i < c->dim_k; i++) memcpy(dst + i * ld, src + i * KV_BLOCK * sizeof(float), KV_BLOCK * sizeof(float));
        return;
    }
    if (kv_is_paired(c->k_type)) {
        for (size_t i = 0; i < c->dim_k; i += 2, src += KV_BLOCK * WORD)
            kern->unzip[c->k_type](dst + i * ld, dst + (i + 1) * ld, src, KV_BLOCK);
        return;
    }
    for (size_t i = 0; i < c->dim_k; i += GROUP, src += group_bytes(c->k_type)) kern->widen_columns[c->k_type](dst + i * ld, ld, src);
}

void kv_load_v(const kern_table *kern, const kv_layer *c, size_t head, size_t block, float *dst) {
    const unsigned char *src = v_block(c, head, block);
    if (!kv_is_paired(c->v_type)) {
        kern->widen[c->v_type](dst, src, KV_BLOCK * c->dim_v);
        return;
    }
    for (size_t i = 0; i < KV_BLOCK; i += 2, src += c->dim_v * WORD)
        kern->unzip[c->v_type](dst + i * c->dim_v, dst + (i + 1) * c->dim_v, src, c->dim_v);
}

const uint32_t *kv_words_k(const kv_layer *c, size_t head, size_t block) {
    return (const uint32_t *)(const void *)k_block(c, head, block);
}
const uint32_t *kv_words_v(const kv_layer *c, size_t head, size_t block) {
    return (const uint32_t *)(const void *)v_block(c, head, block);
}

void kv_pairs_k(const kern_table *kern, const kv_layer *c, size_t head, size_t block, uint32_t *dst, float *wide) {
    const unsigned char *src = k_block(c, head, block);
    size_t pairs = (c->dim_k + 1) / 2;
    if (c->k_type == QUANT_BF16) {
        memcpy(dst, src, pairs * KV_BLOCK * WORD);
    } else if (c->k_type == QUANT_F16) {
        kern->bf16_of_f16(dst, src, 2 * pairs * KV_BLOCK);
    } else {
        kv_load_k(kern, c, head, block, wide, KV_BLOCK);
        if (c->dim_k % 2) memset(wide + c->dim_k * KV_BLOCK, 0, KV_BLOCK * sizeof *wide);
        for (size_t i = 0; i < pairs; i++)
            kern->bf16_zip(dst + i * KV_BLOCK, wide + 2 * i * KV_BLOCK, wide + (2 * i + 1) * KV_BLOCK, KV_BLOCK);
    }
}

void kv_pairs_v(const kern_table *kern, const kv_layer *c, size_t head, size_t block, size_t n, uint32_t *dst, float *wide) {
    const unsigned char *src = v_block(c, head, block);
    size_t pairs = (n + 1) / 2;
    if (c->v_type == QUANT_BF16) {
        memcpy(dst, src, pairs * c->dim_v * WORD);
    } else if (c->v_type == QUANT_F16) {
        kern->bf16_of_f16(dst, src, 2 * pairs * c->dim_v);
    } else {
        kern->widen[c->v_type](wide, src, n * c->dim_v);
        if (n % 2) memset(wide + n * c->dim_v, 0, c->dim_v * sizeof *wide);
        for (size_t i = 0; i < pairs; i++)
            kern->bf16_zip(dst + i * c->dim_v, wide + 2 * i * c->dim_v, wide + (2 * i + 1) * c->dim_v, c->dim_v);
    }
    for (size_t i = 0; n % 2 && i < c->dim_v; i++) dst[(pairs - 1) * c->dim_v + i] &= 0xffff; /* may be no number at all */
}

/* ---- means of keys ---- */
float *kv_mean(const kv_layer *c, size_t head, size_t i) {
    return (float *)(void *)(c->k + keys_bytes(c)) + (head * (c->cap / c->block) + i) * c->dim_k;
}

/* Key by key: what a mean is does not depend on how its keys came. */
void kv_make_mean(const team *t, const kv_layer *c, size_t head, size_t i, float *key) {
    float *mean = kv_mean(c, head, i);
    memset(mean, 0, c->dim_k * sizeof *mean);
    for (size_t p = i * c->block; p < (i + 1) * c->block; p++) {
        kv_get_k(c, head, p, key);
        t->kern->axpy(mean, key, 1, c->dim_k);
    }
    t->kern->scale(mean, mean, 1 / (float)c->block, c->dim_k);
}
