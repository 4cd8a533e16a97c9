/* peak_ref.c: the loops of peak.h in plain C, for machines without any of our ISAs. */
#include "kernel/peak.h"

#include <string.h>

void kern_peak_fill(const kern_peak *p, void *io) {
    unsigned char *to = io;
    const float a = 1.5f, b = 1.25f;
    const uint16_t a16 = 0x3fc0, b16 = 0x3fa0; /* the same in bf16 */
    memset(to, 0, KERN_PEAK_IO);
    for (size_t i = 0; i < 64; i++) {
        if (p->unit == KERN_INT8) to[i] = 85, to[64 + i] = 51;
        else if (p->unit == KERN_BF16 && i % 2 == 0) memcpy(to + i, &a16, 2), memcpy(to + 64 + i, &b16, 2);
        else if (p->unit == KERN_F32 && i % 4 == 0) memcpy(to + i, &a, 4), memcpy(to + 64 + i, &b, 4);
    }
}

double kern_peak_step(const kern_peak *p) {
    return (double)p->ops / (2.0 * p->lanes) * (p->unit == KERN_INT8 ? 85.0 * 51.0 : 1.5 * 1.25);
}

/* Which operand a step takes changes with i, so that no product is the same twice as far as a compiler can see. */
static void int8_scalar(size_t times, void *io) {
    unsigned char *p = io;
    const uint8_t *a = p;
    const int8_t *b = (const int8_t *)(p + 64);
    uint32_t acc[16];
    memcpy(acc, p + 128, sizeof acc);
    for (size_t i = 0; i < times; i++)
        for (size_t j = 0; j < 16; j++) acc[j] += (uint32_t)(a[(i + j) % 64] * b[(i + 2 * j) % 64]);
    memcpy(p + 128, acc, sizeof acc);
}

static void f32_scalar(size_t times, void *io) {
    unsigned char *p = io;
    float a[16], b[16], acc[16];
    memcpy(a, p, sizeof a);
    memcpy(b, p + 64, sizeof b);
    memcpy(acc, p + 128, sizeof acc);
    for (size_t i = 0; i < times; i++)
        for (size_t j = 0; j < 16; j++) acc[j] += a[(i + j) % 16] * b[(i + 2 * j) % 16];
    memcpy(p + 128, acc, sizeof acc);
}

static const kern_peak int8_peak = {"scalar int8", KERN_INT8, 16, 32, {{int8_scalar, 1}, {int8_scalar, 1}, {int8_scalar, 1}}};
static const kern_peak f32_peak = {"scalar f32", KERN_F32, 16, 32, {{f32_scalar, 1}, {f32_scalar, 1}, {f32_scalar, 1}}};

static uint64_t read_scalar(const void *from, size_t n) {
    const unsigned char *p = from;
    uint64_t s[4] = {0}, v[4];
    for (size_t i = 0; i < n; i += sizeof v) {
        memcpy(v, p + i, sizeof v);
        for (int j = 0; j < 4; j++) s[j] ^= v[j];
    }
    return s[0] ^ s[1] ^ s[2] ^ s[3];
}

static uint64_t read_scalar4(const void *from, size_t n) {
    const unsigned char *p = from;
    uint64_t s[4] = {0}, v;
    for (size_t i = 0; i < n / 4; i += sizeof v)
        for (size_t j = 0; j < 4; j++) {
            memcpy(&v, p + j * (n / 4) + i, sizeof v);
            s[j] ^= v;
        }
    return s[0] ^ s[1] ^ s[2] ^ s[3];
}

void kern_peaks_init(kern_peaks *p, uint32_t mask) {
    *p = (kern_peaks){.read = read_scalar, .read4 = read_scalar4};
    kern_peaks_add(p, &int8_peak);
    kern_peaks_add(p, &f32_peak);
#ifdef MOTE_SIMD_ISA
    kern_peaks_isa(p, cpu_detect() & mask);
#else
    (void)mask;
#endif
}
