/* plain.c: formats that are numbers in memory: f32, f16, bf16, f64, integers. Unaligned input is fine. */
#include "quant/quant_int.h"

#include <string.h>

typedef union bits32 {
    uint32_t u;
    float f;
} bits32;

float quant_f16_to_f32(uint16_t h) {
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, exp = h >> 10 & 31, mant = h & 0x3FF;
    bits32 v;
    if (exp == 31) {
        v.u = sign | 0x7F800000 | mant << 13 | (mant ? 0x400000 : 0); /* a NaN comes out quiet */
    } else if (exp) {
        v.u = sign | (exp + 112) << 23 | mant << 13;
    } else {
        v.f = (float)mant * 0x1p-24f;
        v.u |= sign;
    }
    return v.f;
}

uint16_t quant_f32_to_f16(float f) {
    bits32 v = {.f = f};
    uint32_t sign = v.u >> 16 & 0x8000, a = v.u & 0x7FFFFFFF;
    if (a > 0x7F800000) return (uint16_t)(sign | 0x7E00 | (a >> 13 & 0x1FF));
    if (a >= 0x477FF000) return (uint16_t)(sign | 0x7C00); /* from 65520 on, infinity */
    if (a < 0x38800000) {
        /* Below 2^-14 halves are multiples of 2^-24; adding 0.5 makes that the last bit, rounded to even. */
        bits32 w = {.u = a};
        w.f += 0.5f;
        return (uint16_t)(sign | (w.u - 0x3F000000));
    }
    a += 0xFFF + (a >> 13 & 1);
    return (uint16_t)(sign | (a - 0x38000000) >> 13);
}

uint16_t quant_f32_to_bf16(float f) {
    bits32 v = {.f = f};
    if ((v.u & 0x7FFFFFFF) > 0x7F800000) return (uint16_t)(v.u >> 16 | 0x40);
    return (uint16_t)((v.u + 0x7FFF + (v.u >> 16 & 1)) >> 16);
}

static void decode_f32(float *y, const void *x, size_t n) {
    memcpy(y, x, n * sizeof *y);
}

static void encode_f32(void *dst, const float *x, size_t n, const float *importance) {
    (void)importance;
    memcpy(dst, x, n * sizeof *x);
}

static uint16_t load16(const void *x, size_t i) {
    uint16_t h;
    memcpy(&h, (const char *)x + 2 * i, 2);
    return h;
}

static void decode_f16(float *y, const void *x, size_t n) {
    for (size_t i = 0; i < n; i++) y[i] = quant_f16_to_f32(load16(x, i));
}

static void encode_f16(void *dst, const float *x, size_t n, const float *importance) {
    (void)importance;
    for (size_t i = 0; i < n; i++) {
        uint16_t h = quant_f32_to_f16(x[i]);
        memcpy((char *)dst + 2 * i, &h, 2);
    }
}

static void decode_bf16(float *y, const void *x, size_t n) {
    for (size_t i = 0; i < n; i++) y[i] = quant_bf16_to_f32(load16(x, i));
}

static void encode_bf16(void *dst, const float *x, size_t n, const float *importance) {
    (void)importance;
    for (size_t i = 0; i < n; i++) {
        uint16_t h = quant_f32_to_bf16(x[i]);
        memcpy((char *)dst + 2 * i, &h, 2);
    }
}

/* Beyond float's range the conversion is made explicit: it would be undefined. */
static void decode_f64(float *y, const void *x, size_t n) {
    for (size_t i = 0; i < n; i++) {
        double d;
        memcpy(&d, (const char *)x + 8 * i, 8);
        bits32 inf = {d < 0 ? 0xFF800000 : 0x7F800000};
        y[i] = d >= 0x1.ffffffp127 || d <= -0x1.ffffffp127 ? inf.f : (float)d;
    }
}

QUANT_FORMAT(F32, "f32", decode_f32, encode_f32);
QUANT_FORMAT(F16, "f16", decode_f16, encode_f16);
QUANT_FORMAT(BF16, "bf16", decode_bf16, encode_bf16);
QUANT_FORMAT(F64, "f64", decode_f64, NULL);
QUANT_FORMAT(I8, "i8", NULL, NULL);
QUANT_FORMAT(I16, "i16", NULL, NULL);
QUANT_FORMAT(I32, "i32", NULL, NULL);
QUANT_FORMAT(I64, "i64", NULL, NULL);
