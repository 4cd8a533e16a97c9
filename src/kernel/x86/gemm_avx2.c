/* gemm_avx2.c: f32 products of panels with AVX2 and FMA. */
#include "kernel/x86/v16_avx2.h"

#include "kernel/x86/init_x86.h"

/* 8 × 8 words: 2 × 2 words, pairs of words, then halves. */
static inline void transpose_8(__m256 out[8], const __m256 in[8]) {
    __m256 t[8], u[8];
    for (int i = 0; i < 4; i++) {
        t[2 * i] = _mm256_unpacklo_ps(in[2 * i], in[2 * i + 1]);
        t[2 * i + 1] = _mm256_unpackhi_ps(in[2 * i], in[2 * i + 1]);
    }
    for (int i = 0; i < 2; i++) {
        u[4 * i] = _mm256_shuffle_ps(t[4 * i], t[4 * i + 2], 0x44);
        u[4 * i + 1] = _mm256_shuffle_ps(t[4 * i], t[4 * i + 2], 0xee);
        u[4 * i + 2] = _mm256_shuffle_ps(t[4 * i + 1], t[4 * i + 3], 0x44);
        u[4 * i + 3] = _mm256_shuffle_ps(t[4 * i + 1], t[4 * i + 3], 0xee);
    }
    for (int i = 0; i < 4; i++) {
        out[i] = _mm256_permute2f128_ps(u[i], u[4 + i], 0x20);
        out[4 + i] = _mm256_permute2f128_ps(u[i], u[4 + i], 0x31);
    }
}
static inline void v_transpose(v16 v[16]) {
    __m256 in[8], out[2][2][8]; /* out[lanes' half][vectors' half] */
    for (int half = 0; half < 2; half++)
        for (int lanes = 0; lanes < 2; lanes++) {
            for (int i = 0; i < 8; i++) in[i] = lanes ? v[8 * half + i].b : v[8 * half + i].a;
            transpose_8(out[lanes][half], in);
        }
    for (int i = 0; i < 16; i++) v[i] = v_of(out[i / 8][0][i % 8], out[i / 8][1][i % 8]);
}

#define NAME(x) x##_avx2
#define GEMM_ROWS 6
#define GEMM_VECTORS 1
#include "kernel/gemm_tmpl.h"
