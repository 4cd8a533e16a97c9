/* bench_kernels.c: the matrix kernels alone, on one thread: one JSON line for each rung × format × number of tokens.
 *
 *   bench_kernels [--rung NAME] [--type NAME]… [--k N]… [--tokens N]… [--rows N] [--ms N]
 *
 * gops is 2 · rows · k · tokens / time. What bounds many tokens is arithmetic: peak_gops is what this rung's int8 dot
 * product (for float weights: f32 or bf16 multiply-add) reaches from registers, measured here, and share is gops as a
 * part of it. What bounds one token is memory: there the weights are over 64 MB, gbps is their bytes by time, peak_gbps
 * a plain read of the same memory, and share refers to that. Times are medians. */
#include "base/clock.h"
#include "kern/random_weights.h"
#include "kernel/kernel.h"
#include "kernel/packed.h"

#include <stdio.h>
#include <stdlib.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

enum { LIST = 64, STREAM_BYTES = 96 << 20 };

typedef struct options {
    const char *rung, *types[LIST];
    size_t n_types, k[LIST], n_k, tokens[LIST], n_tokens, rows;
    double ms;
} options;

/* ---- limits ---- */
/* Runs `code` (24 independent steps of `ops` operations each) long enough; gives 10^9 operations a second. */
#define PEAK(ops, ...)                                                                                        \
    do {                                                                                                      \
        double best_ = 0;                                                                                     \
        for (int rep_ = 0; rep_ < 5; rep_++) {                                                                \
            uint64_t t_ = clock_ns();                                                                         \
            for (int i_ = 0; i_ < 200000; i_++) {                                                             \
                _Pragma("GCC unroll 24") for (int l = 0; l < 24; l++) { __VA_ARGS__; }                        \
            }                                                                                                 \
            double g_ = 200000.0 * 24 * (ops) / (double)(clock_ns() - t_);                                    \
            if (g_ > best_) best_ = g_;                                                                       \
        }                                                                                                     \
        return best_;                                                                                         \
    } while (0)

#if defined(__x86_64__)
#define TARGET(isa) __attribute__((target(isa)))
TARGET("avx512f,avx512vnni") static double peak_int8_512vnni(void) {
    __m512i acc[24], u = _mm512_set1_epi8(3), x = _mm512_set1_epi8(5);
    _Pragma("GCC unroll 24") for (int l = 0; l < 24; l++) acc[l] = _mm512_setzero_si512();
    PEAK(128, __asm__ volatile("vpdpbusd %2, %1, %0" : "+v"(acc[l]) : "v"(u), "v"(x)));
}
TARGET("avxvnni") static double peak_int8_256vnni(void) {
    __m256i acc[24], u = _mm256_set1_epi8(3), x = _mm256_set1_epi8(5);
    _Pragma("GCC unroll 24") for (int l = 0; l < 24; l++) acc[l] = _mm256_setzero_si256();
    PEAK(64, __asm__ volatile("%{vex%} vpdpbusd %2, %1, %0" : "+x"(acc[l % 12]) : "x"(u), "x"(x)));
}
TARGET("avx512f,avx512bw") static double peak_int8_512(void) {
    __m512i acc[24], u = _mm512_set1_epi8(3), x = _mm512_set1_epi8(5), one = _mm512_set1_epi16(1);
    _Pragma("GCC unroll 24") for (int l = 0; l < 24; l++) acc[l] = _mm512_setzero_si512();
    PEAK(128, __m512i p; __asm__ volatile("vpmaddubsw %3, %2, %1\n vpmaddwd %4, %1, %1\n vpaddd %1, %0, %0"
                                          : "+v"(acc[l]), "=&v"(p) : "v"(u), "v"(x), "v"(one)));
}
TARGET("avx2") static double peak_int8_256(void) {
    __m256i acc[24], u = _mm256_set1_epi8(3), x = _mm256_set1_epi8(5), one = _mm256_set1_epi16(1);
    _Pragma("GCC unroll 24") for (int l = 0; l < 24; l++) acc[l] = _mm256_setzero_si256();
    PEAK(64, __m256i p; __asm__ volatile("vpmaddubsw %3, %2, %1\n vpmaddwd %4, %1, %1\n vpaddd %1, %0, %0"
                                         : "+x"(acc[l % 10]), "=&x"(p) : "x"(u), "x"(x), "x"(one)));
}
TARGET("avx512f") static double peak_f32_512(void) {
    __m512 acc[24], u = _mm512_set1_ps(1), x = _mm512_set1_ps(0);
    _Pragma("GCC unroll 24") for (int l = 0; l < 24; l++) acc[l] = u;
    PEAK(32, __asm__ volatile("vfmadd231ps %2, %1, %0" : "+v"(acc[l]) : "v"(u), "v"(x)));
}
TARGET("avx2,fma") static double peak_f32_256(void) {
    __m256 acc[24], u = _mm256_set1_ps(1), x = _mm256_set1_ps(0);
    _Pragma("GCC unroll 24") for (int l = 0; l < 24; l++) acc[l] = u;
    PEAK(16, __asm__ volatile("vfmadd231ps %2, %1, %0" : "+x"(acc[l % 12]) : "x"(u), "x"(x)));
}
TARGET("avx512f,avx512bf16") static double peak_bf16(void) {
    __m512 acc[24], u = _mm512_set1_ps(1), x = _mm512_set1_ps(0);
    _Pragma("GCC unroll 24") for (int l = 0; l < 24; l++) acc[l] = u;
    PEAK(64, __asm__ volatile("vdpbf16ps %2, %1, %0" : "+v"(acc[l]) : "v"(u), "v"(x)));
}
static double peak_of(uint32_t flags, quant_type type) {
    if (type == QUANT_BF16 && flags & CPU_AVX512BF16) return peak_bf16();
    if (type == QUANT_BF16 || type == QUANT_F16 || type == QUANT_F32)
        return flags & CPU_AVX512 ? peak_f32_512() : flags & CPU_AVX2 ? peak_f32_256() : 0;
    if (flags & CPU_AVX512VNNI) return peak_int8_512vnni();
    if (flags & CPU_AVXVNNI) return peak_int8_256vnni();
    if (flags & CPU_AVX512) return peak_int8_512();
    return flags & CPU_AVX2 ? peak_int8_256() : 0;
}
#else
static double peak_of(uint32_t flags, quant_type type) { return (void)flags, (void)type, 0; }
#endif

/* GB/s of reading n bytes once, four streams side by side. */
typedef uint64_t pair_of_words __attribute__((vector_size(16)));
static double read_speed(const unsigned char *p, size_t n) {
    double best = 0;
    for (int rep = 0; rep < 5; rep++) {
        pair_of_words sum[4] = {{0}};
        const size_t part = n / 4 / 64 * 64;
        uint64_t began = clock_ns();
        for (size_t i = 0; i < part; i += 64)
            _Pragma("GCC unroll 4") for (size_t s = 0; s < 4; s++) {
                const pair_of_words *w = (const pair_of_words *)(const void *)(p + s * part + i);
                sum[s] += (w[0] + w[1]) + (w[2] + w[3]);
            }
        double gbps = (double)(4 * part) / (double)(clock_ns() - began);
        pair_of_words all = (sum[0] + sum[1]) + (sum[2] + sum[3]);
        volatile uint64_t sink = all[0] + all[1];
        (void)sink;
        if (gbps > best) best = gbps;
    }
    return best;
}

/* ---- one measurement ---- */
typedef struct matrix {
    size_t rows, k, bytes, panel_bytes;
    unsigned char *data; /* panels, or rows of floats */
    const kern_packing *pk;
} matrix;

static void *memory(size_t n) {
    void *p = aligned_alloc(64, (n + 63) / 64 * 64);
    if (!p) {
        fputs("bench_kernels: out of memory\n", stderr);
        exit(1);
    }
    return p;
}

/* Sixteen different rows, again and again: as many as asked. */
static matrix make_matrix(quant_type type, size_t rows, size_t k, rng *r) {
    const quant_format *f = quant_get((int)type);
    matrix m = {.rows = rows, .k = k, .pk = kern_packing_of(type)};
    size_t row_bytes = k / f->block * f->bytes, n_panels = (rows + KERN_PANEL - 1) / KERN_PANEL;
    unsigned char *sixteen = memory(KERN_PANEL * row_bytes);
    const unsigned char *list[KERN_PANEL];
    for (size_t i = 0; i < KERN_PANEL; i++) {
        random_row(type, sixteen + i * row_bytes, k, r);
        list[i] = sixteen + i * row_bytes;
    }
    m.panel_bytes = m.pk ? kern_panel_bytes(m.pk, k) : KERN_PANEL * row_bytes;
    m.bytes = n_panels * m.panel_bytes;
    m.data = memory(m.bytes);
    if (m.pk) kern_pack_panel(m.pk, m.data, list, k);
    else memcpy(m.data, sixteen, m.panel_bytes);
    for (size_t i = 1; i < n_panels; i++) memcpy(m.data + i * m.panel_bytes, m.data, m.panel_bytes);
    free(sixteen);
    return m;
}

/* tokens rows of activations in every form a product may ask for. */
typedef struct inputs {
    float *f, *y;
    unsigned char *acts;
    kern_acts_block *tiles;
    void *scratch;
    uint16_t *b;
} inputs;

static inputs make_inputs(const kern_table *t, size_t tokens, size_t k, size_t rows, rng *r) {
    size_t act = kern_acts_bytes(k), nb = kern_acts_blocks(k), n_tiles = (tokens + KERN_TILE - 1) / KERN_TILE;
    inputs in = {memory(tokens * k * sizeof(float)), memory(tokens * rows * sizeof(float)), memory(tokens * act),
                 memory(n_tiles * nb * sizeof(kern_acts_block)), memory(kern_mul_scratch(k)), memory(tokens * k * 2)};
    for (size_t i = 0; i < tokens * k; i++) in.f[i] = random_float(r);
    t->narrow[QUANT_BF16](in.b, in.f, tokens * k);
    for (size_t i = 0; i < tokens; i++) t->quantize(in.acts + i * act, in.f + i * k, k);
    for (size_t i = 0; i < tokens; i += KERN_TILE)
        t->interleave(in.tiles + i / KERN_TILE * nb, in.acts + i * act, act,
                      tokens - i < KERN_TILE ? tokens - i : KERN_TILE, k);
    return in;
}

static void multiply(const kern_table *t, quant_type type, const matrix *m, const inputs *in, size_t tokens, bool tiled) {
    kern_out out = {in->y, m->rows, NULL, 1, false};
    if (m->pk)
        t->mul[type](&(kern_mul){.pk = m->pk, .panels = m->data, .panel_bytes = m->panel_bytes, .n_rows = m->rows,
                                 .k = m->k, .x = in->acts, .x_bytes = kern_acts_bytes(m->k), .n_x = tokens,
                                 .tiles = tiled ? in->tiles : NULL, .out = out, .scratch = in->scratch});
    else
        (type == QUANT_BF16 && t->bmul ? t->bmul : t->fmul[type])(&(kern_fmul){
            m->data, m->panel_bytes / KERN_PANEL, m->rows, m->k, in->f, m->k, tokens, {0}, out, in->b});
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void measure(const options *o, const kern_table *t, quant_type type, size_t k, size_t tokens, bool tiled) {
    rng r;
    rng_seed(&r, 7, 7);
    const quant_format *f = quant_get((int)type);
    size_t row_bytes = k / f->block * f->bytes, rows = o->rows;
    bool stream = tokens <= 16;
    if (rows == 0) rows = stream ? STREAM_BYTES / row_bytes / KERN_PANEL * KERN_PANEL : 512;
    matrix m = make_matrix(type, rows, k, &r);
    inputs in = make_inputs(t, tokens, k, rows, &r);
    double times[1000], peak = peak_of(t->flags, type), read = stream ? read_speed(m.data, m.bytes) : 0;
    size_t n = 0;
    multiply(t, type, &m, &in, tokens, tiled);
    for (uint64_t began = clock_ns(); n < 3 || (n < 1000 && (double)(clock_ns() - began) < o->ms * 1e6); n++) {
        uint64_t at = clock_ns();
        multiply(t, type, &m, &in, tokens, tiled);
        times[n] = (double)(clock_ns() - at);
    }
    qsort(times, n, sizeof *times, by_value);
    double ns = times[n / 2], gops = 2.0 * (double)(rows * k * tokens) / ns, gbps = (double)m.bytes / ns;
    double at_peak = peak > 0 ? gops / peak : 0, at_read = read > 0 ? gbps / read : 0;
    printf("{\"bench\": \"kernels\", \"rung\": \"%s\", \"type\": \"%s\", \"k\": %zu, \"rows\": %zu, \"tokens\": %zu, "
           "\"input\": \"%s\", \"us\": %.1f, \"gops\": %.1f, \"peak_gops\": %.0f, \"gbps\": %.2f, \"peak_gbps\": %.1f, "
           "\"share\": %.3f}\n", t->rung, f->name, k, rows, tokens, tiled ? "tiles" : "rows", ns / 1e3, gops, peak,
           gbps, read, at_read > at_peak ? at_read : at_peak);
    fflush(stdout);
    void *all[] = {m.data, in.f, in.y, in.acts, in.tiles, in.scratch, in.b};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
}

static bool parse(int argc, char **argv, options *o) {
    for (int i = 1; i + 1 < argc; i += 2) {
        const char *name = argv[i], *value = argv[i + 1];
        size_t number = strtoull(value, NULL, 10);
        if (o->n_types == LIST || o->n_k == LIST || o->n_tokens == LIST) return false;
        if (strcmp(name, "--rung") == 0) o->rung = value;
        else if (strcmp(name, "--type") == 0) o->types[o->n_types++] = value;
        else if (strcmp(name, "--k") == 0) o->k[o->n_k++] = number;
        else if (strcmp(name, "--tokens") == 0) o->tokens[o->n_tokens++] = number;
        else if (strcmp(name, "--rows") == 0) o->rows = number;
        else if (strcmp(name, "--ms") == 0) o->ms = (double)number;
        else return false;
    }
    return argc % 2 == 1;
}

int main(int argc, char **argv) {
    static const char *const types[] = {"Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K",
                                        "IQ4_NL", "IQ4_XS", "MXFP4", "Q2_0", "BF16", "F16", "F32"};
    options o = {.rung = "all", .ms = 60};
    int ok;
    kern_table t;
    if (!parse(argc, argv, &o)) {
        fputs("usage: bench_kernels [--rung NAME] [--type NAME]... [--k N]... [--tokens N]... [--rows N] [--ms N]\n", stderr);
        return 2;
    }
    uint32_t mask = cpu_mask_by_name(o.rung, &ok);
    if (!ok) {
        fprintf(stderr, "bench_kernels: no rung '%s'\n", o.rung);
        return 2;
    }
    kern_table_init(&t, mask);
    if (o.n_types == 0)
        for (; o.n_types < sizeof types / sizeof *types; o.n_types++) o.types[o.n_types] = types[o.n_types];
    if (o.n_k == 0) o.k[o.n_k++] = 1536;
    if (o.n_tokens == 0) o.tokens[0] = 1, o.tokens[1] = 8, o.tokens[2] = 512, o.n_tokens = 3;
    for (size_t i = 0; i < o.n_types; i++) {
        const quant_format *f = quant_by_name(o.types[i]);
        if (!f || (!t.mul[f->type] && !t.fmul[f->type])) {
            fprintf(stderr, "bench_kernels: no kernel for '%s'\n", o.types[i]);
            return 2;
        }
        for (size_t j = 0; j < o.n_k; j++)
            for (size_t l = 0; l < o.n_tokens; l++) {
                if (o.k[j] % f->block) continue;
                bool packed = t.mul[f->type] != NULL;
                if (o.tokens[l] <= 16 || !packed) measure(&o, &t, f->type, o.k[j], o.tokens[l], false);
                if (packed && o.tokens[l] > 1) measure(&o, &t, f->type, o.k[j], o.tokens[l], true);
            }
    }
    return 0;
}
