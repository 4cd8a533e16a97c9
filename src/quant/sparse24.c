/* sparse24.c: matrices of which two of each four neighbours are 0, stored as such: the two that are not, and where they stood. Type
 * numbers are mote's own (docs/formats/quant.md). */
#include "quant/sparse24.h"

#include "quant/fit.h"

#include <string.h>

enum { KEPT = QUANT_24_KEPT };

/* The columns of the kept weights of a block: `at` has two bits for each. */
static void columns_of(const uint8_t at[4], uint8_t col[KEPT]) {
    for (int k = 0; k < KEPT; k++) col[k] = (uint8_t)(k / 2 * 4 + (at[k / 4] >> k % 4 * 2 & 3));
}

static void set_columns(uint8_t at[4], const uint8_t col[KEPT]) {
    memset(at, 0, 4);
    for (int k = 0; k < KEPT; k++) at[k / 4] |= (uint8_t)((col[k] & 3) << k % 4 * 2);
}

/* The two of each four that would cost most to lose, in ascending order. */
static void choose(const float *x, const float *w, uint8_t col[KEPT]) {
    for (int quad = 0; quad < 8; quad++) {
        int n = 0;
        for (int i = 0; i < 4; i++) {
            int above = 0, c = 4 * quad + i;
            float mine = w[c] * x[c] * x[c];
            for (int k = 0; k < 4; k++) {
                float other = w[4 * quad + k] * x[4 * quad + k] * x[4 * quad + k];
                above += other > mine || (other == mine && k < i);
            }
            if (above < 2 && n < 2) col[2 * quad + n++] = (uint8_t)c;
        }
    }
}

/* Writes a block: its scale, the columns it keeps, the levels less the lowest. */
typedef void pack_kept(void *block, uint16_t d, const uint8_t col[KEPT], const uint8_t q[KEPT]);

/* Up to 16 blocks: the columns they keep, and what is kept. */
typedef struct sparse_blocks {
    uint8_t col[FIT_GROUPS][KEPT];
    fit_blocks kept;
} sparse_blocks;

static void take_kept(sparse_blocks *t, const fit_range *range, const float *src, size_t n, const float *importance) {
    _Alignas(64) float all[32], cost[32];
    float x[FIT_GROUPS * KEPT], w[FIT_GROUPS * KEPT];
    size_t blocks = MIN(n / 32, (size_t)FIT_GROUPS);
    for (size_t g = 0; g < blocks; g++) {
        (void)fit_load_row(all, cost, src + 32 * g, importance ? importance + 32 * g : NULL, 32);
        choose(all, cost, t->col[g]);
        for (int i = 0; i < KEPT; i++) {
            x[g * KEPT + i] = src[32 * g + t->col[g][i]];
            w[g * KEPT + i] = cost[t->col[g][i]];
        }
    }
    fit_one_scale(&t->kept, x, blocks * KEPT, w, KEPT, range);
}

static void encode(void *dst, const float *src, size_t n, const float *importance, size_t bytes, const fit_range *range, pack_kept *pack) {
    unsigned char *b = dst;
    sparse_blocks t;
    for (size_t i = 0; i < n; i += FIT_GROUPS * 32) {
        take_kept(&t, range, src + i, n - i, importance ? importance + i : NULL);
        for (int g = 0; g < t.kept.groups; g++, b += bytes) pack(b, t.kept.d[g], t.col[g], t.kept.q + g * KEPT);
    }
}

static void decode_q4_0_24(float *y, const void *x, size_t n) {
    const q4_0_24_block *b = x;
    for (size_t i = 0; i < n / 32; i++, b++, y += 32) {
        uint8_t col[KEPT];
        float d = quant_half_value(b->d);
        columns_of(b->at, col);
        memset(y, 0, 32 * sizeof *y);
        for (int k = 0; k < KEPT; k++) y[col[k]] = (float)((b->qs[k % 8] >> k / 8 * 4 & 15) - 8) * d;
    }
}

static void pack_q4_0_24(void *block, uint16_t d, const uint8_t col[KEPT], const uint8_t q[KEPT]) {
    q4_0_24_block *b = block;
    b->d = d;
    set_columns(b->at, col);
    for (int k = 0; k < 8; k++) b->qs[k] = (uint8_t)(q[k] | q[k + 8] << 4);
}

static void encode_q4_0_24(void *dst, const float *src, size_t n, const float *importance) {
    static const fit_range range = {.lo = -8, .hi = 7, .tries = 12, .least = 0.7f, .most = 1.1f};
    encode(dst, src, n, importance, sizeof(q4_0_24_block), &range, pack_q4_0_24);
}

static void decode_q8_0_24(float *y, const void *x, size_t n) {
    const q8_0_24_block *b = x;
    for (size_t i = 0; i < n / 32; i++, b++, y += 32) {
        uint8_t col[KEPT];
        float d = quant_half_value(b->d);
        columns_of(b->at, col);
        memset(y, 0, 32 * sizeof *y);
        for (int k = 0; k < KEPT; k++) y[col[k]] = (float)b->qs[k] * d;
    }
}

static void pack_q8_0_24(void *block, uint16_t d, const uint8_t col[KEPT], const uint8_t q[KEPT]) {
    q8_0_24_block *b = block;
    b->d = d;
    set_columns(b->at, col);
    for (int k = 0; k < KEPT; k++) b->qs[k] = (int8_t)(q[k] - 127);
}

static void encode_q8_0_24(void *dst, const float *src, size_t n, const float *importance) {
    static const fit_range range = {.lo = -127, .hi = 127, .tries = 4, .least = 0.98f, .most = 1.0f};
    encode(dst, src, n, importance, sizeof(q8_0_24_block), &range, pack_q8_0_24);
}

QUANT_FORMAT(Q4_0_24, "q4_0_24", decode_q4_0_24, encode_q4_0_24);
QUANT_FORMAT(Q8_0_24, "q8_0_24", decode_q8_0_24, encode_q8_0_24);

#ifndef QUANT_ISA /* once */
/* ---- without loss, to and from the dense formats with the same scales ---- */

bool quant_24_dense(quant_type t, quant_type *dense) {
    *dense = t == QUANT_Q4_0_24 ? QUANT_Q4_0 : QUANT_Q8_0;
    return t == QUANT_Q4_0_24 || t == QUANT_Q8_0_24;
}

/* The level of column c of a dense block, 0 for zero. */
static int level(quant_type dense, const void *block, int c) {
    if (dense == QUANT_Q8_0) return ((const q8_0_block *)block)->qs[c];
    return (((const q4_0_block *)block)->qs[c % 16] >> c / 16 * 4 & 15) - 8;
}

bool quant_24_pack(quant_type t, void *dst, const void *src, size_t n) {
    quant_type dense;
    if (!quant_24_dense(t, &dense)) return false;
    const quant_format *from = quant_get((int)dense), *to = quant_get((int)t);
    for (size_t i = 0; i < n / 32; i++) {
        const uint8_t *b = (const uint8_t *)src + i * from->bytes;
        uint8_t *out = (uint8_t *)dst + i * to->bytes, col[KEPT];
        int lv[KEPT];
        for (int quad = 0; quad < 8; quad++) {
            int others = 0, kept = 0;
            for (int c = 4 * quad; c < 4 * quad + 4; c++) others += level(dense, b, c) != 0;
            if (others > 2) return false;
            for (int c = 4 * quad, spare = 2 - others; c < 4 * quad + 4; c++) { /* where fewer are left, zeros are kept too */
                int v = level(dense, b, c);
                if (v == 0 && spare-- <= 0) continue;
                col[2 * quad + kept] = (uint8_t)c;
                lv[2 * quad + kept++] = v;
            }
        }
        memcpy(out, b, 2); /* d */
        set_columns(out + 2, col);
        for (int k = 0; k < KEPT; k++) {
            if (dense == QUANT_Q8_0) out[6 + k] = (uint8_t)(int8_t)lv[k];
            else if (k < 8) out[6 + k] = (uint8_t)(lv[k] + 8);
            else out[6 + k - 8] |= (uint8_t)((lv[k] + 8) << 4);
        }
    }
    return true;
}

void quant_24_expand(quant_type t, void *dst, const void *src, size_t n) {
    for (size_t i = 0; i < n / 32; i++) {
        uint8_t col[KEPT];
        if (t == QUANT_Q8_0_24) {
            const q8_0_24_block *b = (const q8_0_24_block *)src + i;
            q8_0_block *out = (q8_0_block *)dst + i;
            *out = (q8_0_block){.d = b->d};
            columns_of(b->at, col);
            for (int k = 0; k < KEPT; k++) out->qs[col[k]] = b->qs[k];
        } else {
            const q4_0_24_block *b = (const q4_0_24_block *)src + i;
            q4_0_block *out = (q4_0_block *)dst + i;
            out->d = b->d;
            memset(out->qs, 0x88, sizeof out->qs);
            columns_of(b->at, col);
            for (int k = 0; k < KEPT; k++) {
                int c = col[k], q = b->qs[k % 8] >> k / 8 * 4 & 15, shift = c / 16 * 4;
                out->qs[c % 16] = (uint8_t)((out->qs[c % 16] & ~(15 << shift)) | q << shift);
            }
        }
    }
}
#endif
