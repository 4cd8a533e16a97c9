/* plain.c: formats that are numbers in memory: f32, f16, bf16, f64, integers. Unaligned input is fine. */
#include "quant/quant_int.h"

#include <string.h>

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
    for (size_t i = 0; i < n; i++) y[i] = quant_half_value(load16(x, i));
}

static void encode_f16(void *dst, const float *x, size_t n, const float *importance) {
    (void)importance;
    for (size_t i = 0; i < n; i++) {
        uint16_t h = quant_to_half(x[i]);
        memcpy((char *)dst + 2 * i, &h, 2);
    }
}

static void decode_bf16(float *y, const void *x, size_t n) {
    for (size_t i = 0; i < n; i++) y[i] = quant_bf16_to_f32(load16(x, i));
}

static void encode_bf16(void *dst, const float *x, size_t n, const float *importance) {
    (void)importance;
    for (size_t i = 0; i < n; i++) {
        uint16_t h = quant_to_bf16(x[i]);
        memcpy((char *)dst + 2 * i, &h, 2);
    }
}

/* Beyond float's range the conversion is made explicit: it would be undefined. */
static void decode_f64(float *y, const void *x, size_t n) {
    for (size_t i = 0; i < n; i++) {
        double d;
        memcpy(&d, (const char *)x + 8 * i, 8);
        quant_bits inf = {d < 0 ? 0xFF800000 : 0x7F800000};
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
