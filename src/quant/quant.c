/* quant.c: the table of formats, of the best instruction set there is. */
#include "quant/quant_int.h"

#include "base/cpu.h"

static const quant_rung *rung_of(uint32_t flags) {
#ifdef MOTE_SIMD_ISA
    if (flags & CPU_AVX512) return &quant_rung_avx512;
    if (flags & CPU_AVX2) return &quant_rung_avx2;
#endif
    (void)flags;
    return &quant_rung_generic;
}

const quant_format *quant_get_for(int type, uint32_t flags) {
    return type >= 0 && type < QUANT_TYPE_MAX ? rung_of(flags)->formats[type] : NULL;
}

const quant_format *quant_get(int type) {
    return quant_get_for(type, cpu_detect());
}

void quant_weigh(float *w, const float *x, size_t n, bool importance) {
    rung_of(cpu_detect())->weigh(w, x, n, importance);
}

void quant_miss(const float *x, const float *y, size_t n, double *err, double *sum) {
    rung_of(cpu_detect())->miss(x, y, n, err, sum);
}

static char lower(char c) {
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

const quant_format *quant_by_name(const char *name) {
    for (int t = 0; name && t < QUANT_TYPE_MAX; t++) {
        if (!quant_get(t)) continue;
        const char *a = quant_get(t)->name, *b = name;
        while (*a && lower(*a) == lower(*b)) a++, b++;
        if (!*a && !*b) return quant_get(t);
    }
    return NULL;
}

mote_status quant_row_bytes(const quant_format *f, uint64_t n, size_t *bytes, mote_error *err) {
    if (n % f->block) {
        FAIL(err, MOTE_E_FORMAT, "a row of %llu weights is no multiple of %s's block of %u",
             (unsigned long long)n, f->name, f->block);
    }
    uint64_t size;
    if (!ckd_mul_u64(&size, n / f->block, f->bytes) || size > SIZE_MAX) {
        FAIL(err, MOTE_E_LIMIT, "a row of %llu %s weights does not fit in memory", (unsigned long long)n,
             f->name);
    }
    *bytes = (size_t)size;
    return MOTE_OK;
}
