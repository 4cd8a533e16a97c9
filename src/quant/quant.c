/* quant.c: the table of formats. */
#include "quant/quant_int.h"

static const quant_format *const by_number[QUANT_TYPE_MAX] = {
#define FORMAT(NAME, number, block, bytes, family) [number] = &quant_format_##NAME,
#include "quant/formats.def"
#undef FORMAT
};

const quant_format *quant_get(int type) {
    return type >= 0 && type < QUANT_TYPE_MAX ? by_number[type] : NULL;
}

static char lower(char c) {
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

const quant_format *quant_by_name(const char *name) {
    for (int t = 0; name && t < QUANT_TYPE_MAX; t++) {
        if (!by_number[t]) continue;
        const char *a = by_number[t]->name, *b = name;
        while (*a && lower(*a) == lower(*b)) a++, b++;
        if (!*a && !*b) return by_number[t];
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
