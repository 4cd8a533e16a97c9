/* gemm_ref.c: products of packed panels, the scalar versions. */
#include "kernel/generic/ref.h"

#include <math.h>
#include <string.h>

enum { ROWS = 4, COLS = 16 };

static uint32_t bits_of(float x) {
    uint32_t w;
    memcpy(&w, &x, sizeof w);
    return w;
}
static float float_of(uint32_t w) {
    float x;
    memcpy(&x, &w, sizeof x);
    return x;
}

static void tile_f32(const kern_gemm_tile *t) {
    for (size_t i = 0; i < t->m; i++)
        for (size_t j = 0; j < t->n; j++) {
            float s = t->add ? t->c[i * t->ldc + j] : 0.0f;
            for (size_t l = 0; l < t->k; l++) s = fmaf(float_of(t->a[l * ROWS + i]), float_of(t->b[l * COLS + j]), s);
            t->c[i * t->ldc + j] = s;
        }
}

static float half_of(uint32_t word, int high) { return float_of(high ? word & 0xffff0000u : word << 16); }
static void tile_bf16(const kern_gemm_tile *t) {
    for (size_t i = 0; i < t->m; i++)
        for (size_t j = 0; j < t->n; j++) {
            float s = t->add ? t->c[i * t->ldc + j] : 0.0f;
            for (size_t l = 0; l < t->k; l++) {
                const uint32_t a = t->a[l * ROWS + i], b = t->b[l * COLS + j];
                s += half_of(a, 1) * half_of(b, 1); /* a product of two bf16 is exact */
                s += half_of(a, 0) * half_of(b, 0);
            }
            t->c[i * t->ldc + j] = s;
        }
}

/* Element l of line i is src[i · line + l · along]. */
static void pack_f32(uint32_t *dst, size_t width, const float *src, size_t line, size_t along, size_t n, size_t k) {
    for (size_t l = 0; l < k; l++)
        for (size_t i = 0; i < width; i++) dst[l * width + i] = i < n ? bits_of(src[i * line + l * along]) : 0;
}
static void pack_bf16(uint32_t *dst, size_t width, const float *src, size_t line, size_t along, size_t n, size_t k) {
    for (size_t l = 0; l < k; l += 2)
        for (size_t i = 0; i < width; i++) {
            const float *p = src + i * line + l * along;
            const uint32_t low = i < n ? quant_f32_to_bf16(p[0]) : 0, high = i < n && l + 1 < k ? quant_f32_to_bf16(p[along]) : 0;
            dst[l / 2 * width + i] = low | high << 16;
        }
}
static void pack(uint32_t *dst, size_t width, const float *src, size_t ld, size_t n, size_t k) { pack_f32(dst, width, src, ld, 1, n, k); }
static void pack_across(uint32_t *dst, size_t width, const float *src, size_t ld, size_t n, size_t k) {
    pack_f32(dst, width, src, 1, ld, n, k);
}
static void pack_pairs(uint32_t *dst, size_t width, const float *src, size_t ld, size_t n, size_t k) {
    pack_bf16(dst, width, src, ld, 1, n, k);
}
static void pack_pairs_across(uint32_t *dst, size_t width, const float *src, size_t ld, size_t n, size_t k) {
    pack_bf16(dst, width, src, 1, ld, n, k);
}

const kern_gemm kern_gemm_ref = {ROWS, COLS, 1, tile_f32, pack, pack_across};
const kern_gemm kern_gemm_bf16_ref = {ROWS, COLS, 2, tile_bf16, pack_pairs, pack_pairs_across};
