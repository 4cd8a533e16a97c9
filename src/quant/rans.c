/* rans.c: frequencies, encoding, and decoding turn by turn (rans.h). */
#include "quant/rans.h"

#include "base/base.h"
#include "base/cpu.h"

#include <math.h>
#include <string.h>

enum { LOW = 1 << 16 };

/* ---- models ---- */

/* Rounds to nearest, then moves what is too much or too little to where it costs least: one unit at a time from or to the symbol whose
 * cost, count · log2(freq), changes least for it. At most RANS_SYMBOLS units. */
void rans_fit(rans_model *m, const uint64_t counts[RANS_SYMBOLS]) {
    double total = 0;
    int sum = 0;
    for (int i = 0; i < RANS_SYMBOLS; i++) total += (double)counts[i];
    for (int i = 0; i < RANS_SYMBOLS; i++) {
        double f = total > 0 ? (double)counts[i] / total * RANS_SCALE : 0;
        m->freq[i] = (uint16_t)(counts[i] ? fmax(1, floor(f + 0.5)) : 0);
        sum += m->freq[i];
    }
    for (; sum != RANS_SCALE; sum += sum < RANS_SCALE ? 1 : -1) {
        int best = -1;
        double least = 0;
        for (int i = 0; i < RANS_SYMBOLS; i++) {
            double f = m->freq[i], change = sum < RANS_SCALE ? f + 1 : f - 1;
            if (!counts[i] || change < 1) continue;
            double loss = (double)counts[i] * log2(f / change); /* negative: a gain */
            if (best < 0 || loss < least) best = i, least = loss;
        }
        if (best < 0) break; /* nothing occurs */
        m->freq[best] = (uint16_t)(m->freq[best] + (sum < RANS_SCALE ? 1 : -1));
    }
}

mote_status rans_open(rans_table *t, const rans_model *m, mote_error *err) {
    uint32_t at = 0, sum = 0;
    for (int s = 0; s < RANS_SYMBOLS; s++) sum += m->freq[s];
    if (sum != RANS_SCALE) FAIL(err, MOTE_E_FORMAT, "the frequencies of an entropy-coded stream do not add up to %d", RANS_SCALE);
    for (uint32_t s = 0; s < RANS_SYMBOLS; s++)
        for (uint32_t i = 0, f = m->freq[s]; i < f; i++) t->slot[at++] = (f - 1) << 20 | i << 8 | s;
    return MOTE_OK;
}

/* ---- encoding: from the last symbol to the first, words from the end to the beginning ---- */

size_t rans_bound(size_t n) { return 4 * RANS_LANES + 2 * n; }

size_t rans_encode(const rans_model *m, const uint8_t *symbols, size_t n, uint8_t *dst) {
    uint32_t start[RANS_SYMBOLS], state[RANS_LANES], at = 0;
    uint8_t *end = dst + rans_bound(n), *p = end;
    for (int s = 0; s < RANS_SYMBOLS; s++) {
        start[s] = at;
        at += m->freq[s];
    }
    for (int l = 0; l < RANS_LANES; l++) state[l] = LOW;
    for (size_t i = n; i-- > 0;) {
        uint32_t *x = &state[i % RANS_LANES], f = m->freq[symbols[i]];
        if (*x >= (uint64_t)f << (32 - RANS_BITS)) {
            *--p = (uint8_t)(*x >> 8);
            *--p = (uint8_t)*x;
            *x >>= 16;
        }
        *x = (*x / f << RANS_BITS) + *x % f + start[symbols[i]];
    }
    for (int l = RANS_LANES; l-- > 0;)
        for (int b = 4; b-- > 0;) *--p = (uint8_t)(state[l] >> 8 * b);
    return (size_t)(end - p);
}

/* ---- decoding ---- */

static uint8_t take(const rans_table *t, uint32_t *x) {
    uint32_t e = t->slot[*x & (RANS_SCALE - 1)];
    *x = ((e >> 20) + 1) * (*x >> RANS_BITS) + (e >> 8 & (RANS_SCALE - 1));
    return (uint8_t)e;
}

size_t rans_turns_generic(const rans_table *t, uint32_t state[RANS_LANES], const uint8_t **at, const uint8_t *end, uint8_t *symbols, size_t n) {
    const uint8_t *p = *at;
    size_t i = 0;
    for (; i < n && (size_t)(end - p) >= 2 * RANS_LANES; i += RANS_LANES)
        for (int l = 0; l < RANS_LANES; l++) {
            uint32_t x = state[l];
            symbols[i + (size_t)l] = take(t, &x);
            uint32_t word = (uint32_t)(p[0] | p[1] << 8), low = x < LOW;
            state[l] = low ? x << 16 | word : x;
            p += 2 * low;
        }
    *at = p;
    return i;
}

static rans_turns_fn *turns_here(void) {
#ifdef MOTE_SIMD_ISA
    uint32_t flags = cpu_detect();
    if (flags & CPU_AVX512) return rans_turns_avx512;
    if (flags & CPU_AVX2) return rans_turns_avx2;
#endif
    return rans_turns_generic;
}

mote_status rans_decode(const rans_table *t, const uint8_t *stream, size_t bytes, uint8_t *symbols, size_t n, mote_error *err) {
    uint32_t state[RANS_LANES];
    if (bytes < sizeof state || bytes % 2) FAIL(err, MOTE_E_FORMAT, "an entropy-coded stream of %zu bytes", bytes);
    memcpy(state, stream, sizeof state);
    const uint8_t *p = stream + sizeof state, *end = stream + bytes;
    size_t i = turns_here()(t, state, &p, end, symbols, n / RANS_LANES * RANS_LANES);
    for (; i < n; i++) {
        uint32_t *x = &state[i % RANS_LANES];
        symbols[i] = take(t, x);
        if (*x >= LOW) continue;
        if (p == end) FAIL(err, MOTE_E_FORMAT, "an entropy-coded stream ends at symbol %zu of %zu", i, n);
        *x = *x << 16 | (uint32_t)(p[0] | p[1] << 8);
        p += 2;
    }
    for (int l = 0; l < RANS_LANES; l++)
        if (state[l] != LOW || p != end) FAIL(err, MOTE_E_FORMAT, "an entropy-coded stream of %zu symbols is damaged", n);
    return MOTE_OK;
}
