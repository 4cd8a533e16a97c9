/* kern_gemm_test.c: packing into panels and products of panels on every rung against the scalar ones: all widths of edges,
 * buffers that end at a guard page. f32 must be the same bits on all rungs. */
#include "kern/check.h"
#include "kernel/generic/ref.h"

static double check_pack(const kern_gemm *ref, const kern_gemm *g, size_t width, bool across) {
    rng r;
    rng_seed(&r, check.seed, 2);
    double worst = 0;
    for (int i = 0; i < 120; i++) {
        const size_t n = 1 + rng_below(&r, (uint32_t)(3 * width)), k = 1 + rng_below(&r, 70), words = (k + g->step - 1) / g->step;
        const size_t ld = (across ? n : k) + rng_below(&r, 3), lines = across ? k : n, next = words * width + rng_below(&r, 3);
        const size_t all = (n + width - 1) / width * next - next + words * width;
        guarded src = guarded_floats((lines - 1) * ld + (across ? n : k), &r, 1);
        guarded a = guarded_new(all * 4), b = guarded_new(all * 4);
        (across ? ref->pack_across : ref->pack)((uint32_t *)(void *)a.p, width, next, floats(&src), ld, n, k);
        (across ? g->pack_across : g->pack)((uint32_t *)(void *)b.p, width, next, floats(&src), ld, n, k);
        if (memcmp(a.p, b.p, b.n) != 0) worst = 1;
        guarded_free(&src);
        guarded_free(&a);
        guarded_free(&b);
    }
    return worst;
}

/* One tile of g in as many of the reference's as it takes. */
static void tile_by_ref(const kern_gemm *ref, const kern_gemm *g, const kern_gemm_tile *t) {
    static uint32_t a[128 * KERN_GEMM_WIDTH], b[128 * KERN_GEMM_WIDTH];
    for (size_t i = 0; i < t->m; i += ref->rows)
        for (size_t j = 0; j < t->n; j += ref->cols) {
            for (size_t l = 0; l < t->k; l++) {
                for (size_t x = 0; x < ref->rows; x++) a[l * ref->rows + x] = i + x < g->rows ? t->a[l * g->rows + i + x] : 0;
                for (size_t x = 0; x < ref->cols; x++) b[l * ref->cols + x] = j + x < g->cols ? t->b[l * g->cols + j + x] : 0;
            }
            ref->tile(&(kern_gemm_tile){a, b, t->c + i * t->ldc + j, t->ldc, MIN(ref->rows, t->m - i), MIN(ref->cols, t->n - j), t->k, t->add, NULL});
        }
}

static double check_tile(const kern_gemm *ref, const kern_gemm *g) {
    rng r;
    rng_seed(&r, check.seed, 3);
    double worst = 0;
    for (int i = 0; i < 150; i++) {
        kern_gemm_tile t = {.m = 1 + rng_below(&r, (uint32_t)g->rows), .n = 1 + rng_below(&r, (uint32_t)g->cols), .k = 1 + rng_below(&r, 60), .add = i & 1};
        if (i % 4 == 0) t.m = g->rows, t.n = g->cols;
        t.ldc = t.n + rng_below(&r, 3);
        const size_t k = t.k * g->step, nc = (t.m - 1) * t.ldc + t.n;
        guarded src = guarded_floats((g->rows + g->cols) * k, &r, 1), x = guarded_floats(nc, &r, 1), y = guarded_new(nc * sizeof(float));
        uint32_t *a = aligned_alloc(64, (t.k * g->rows * 4 + 63) / 64 * 64), *b = aligned_alloc(64, (t.k * g->cols * 4 + 63) / 64 * 64);
        if (!a || !b) exit(2);
        g->pack(a, g->rows, t.k * g->rows, floats(&src), k, g->rows, k);
        g->pack(b, g->cols, t.k * g->cols, floats(&src) + g->rows * k, k, g->cols, k);
        memcpy(y.p, x.p, nc * sizeof(float));
        t.a = a, t.b = b, t.c = floats(&x);
        tile_by_ref(ref, g, &t);
        t.c = floats(&y);
        g->tile(&t);
        if (memcmp(x.p, y.p, nc * sizeof(float)) != 0) worst = fmax(worst, fmax(1e-30, error_of(t.c, floats(&x), nc)));
        free(a), free(b);
        guarded_free(&src);
        guarded_free(&x);
        guarded_free(&y);
    }
    return worst;
}

/* ns of one product of panels 256 words deep, per operation. */
static double rate_of(const kern_gemm *g) {
    enum { K = 256 };
    static uint32_t a[K * KERN_GEMM_WIDTH] __attribute__((aligned(64))), b[K * KERN_GEMM_WIDTH] __attribute__((aligned(64)));
    static float c[KERN_GEMM_WIDTH * KERN_GEMM_WIDTH];
    const kern_gemm_tile t = {a, b, c, g->cols, g->rows, g->cols, K, false, NULL};
    double ns;
    TIME_NS(ns, for (int i = 0; i < 50; i++) g->tile(&t));
    return 50.0 * 2 * K * (double)(g->step * g->rows * g->cols) / ns;
}

static void judge(const kern_gemm *ref, const kern_gemm *g, const char *what) {
    static const char *const parts[] = {"tile", "pack", "pack across"};
    for (size_t i = 0; i < COUNT_OF(parts); i++) {
        char name[48], speed[64] = "";
        double ratio = 0;
        (void)snprintf(name, sizeof name, "gemm %s %s", what, parts[i]);
        (void)snprintf(check.what, sizeof check.what, "%s, %s", name, check.rung);
        double worst = i == 0 ? check_tile(ref, g) : fmax(check_pack(ref, g, g->rows, i == 2), check_pack(ref, g, g->cols, i == 2));
        if (i == 0 && (check.bench || check.report)) {
            const double rate = rate_of(g);
            ratio = rate / rate_of(ref);
            (void)snprintf(speed, sizeof speed, "%.1f GFLOP/s, %.1fx scalar", rate, ratio);
        }
        verdict(name, worst, 0, ratio, speed);
    }
}

static void check_rung(const kern_table *ref, const kern_table *before, const kern_table *t) {
    if (t->gemm.tile != ref->gemm.tile && t->gemm.tile != before->gemm.tile) judge(&ref->gemm, &t->gemm, "f32");
    if (t->gemm_bf16.tile && t->gemm_bf16.tile != before->gemm_bf16.tile) judge(&kern_gemm_bf16_ref, &t->gemm_bf16, "bf16");
}

int main(int argc, char **argv) {
    check_begin(argc, argv);
    return each_rung(check_rung);
}
