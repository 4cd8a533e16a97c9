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
static void pack_words(uint32_t *dst, size_t width, size_t next, const float *src, size_t line, size_t along, size_t n, size_t k, bool pairs) {
    const size_t step = pairs ? 2 : 1, whole = (n + width - 1) / width * width;
    for (size_t l = 0; l < k; l += step)
        for (size_t i = 0; i < whole; i++) {
            const float *p = src + i * line + l * along;
            uint32_t w = 0;
            if (i < n) w = pairs ? quant_f32_to_bf16(p[0]) : bits_of(p[0]);
            if (i < n && pairs && l + 1 < k) w |= (uint32_t)quant_f32_to_bf16(p[along]) << 16;
            dst[i / width * next + l / step * width + i % width] = w;
        }
}
#define PACK(name, line, along, pairs)                                                                                             \
    static void name(uint32_t *dst, size_t width, size_t next, const float *src, size_t ld, size_t n, size_t k) {                  \
        pack_words(dst, width, next, src, line, along, n, k, pairs);                                                               \
    }
PACK(pack, ld, 1, false)
PACK(pack_across, 1, ld, false)
PACK(pack_pairs, ld, 1, true)
PACK(pack_pairs_across, 1, ld, true)

const kern_gemm kern_gemm_ref = {ROWS, COLS, 1, tile_f32, pack, pack_across};
const kern_gemm kern_gemm_bf16_ref = {ROWS, COLS, 2, tile_bf16, pack_pairs, pack_pairs_across};
