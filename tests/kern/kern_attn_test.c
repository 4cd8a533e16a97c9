/* kern_attn_test.c: what attention is made of, on every rung, against the scalar versions: pair words and their
 * products, the softmax step, scaling and mixing; odd sizes, buffers that end at a guard page. */
#include "kern/check.h"

static const size_t sizes[] = {1, 2, 7, 15, 16, 17, 31, 32, 33, 64, 100, 129};

static bool same(const guarded *a, const guarded *b) { return memcmp(a->p, b->p, a->n) == 0; }

static double check_unzip(const kern_table *ref, const kern_table *t, quant_type type) {
    double worst = 0;
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        size_t n = sizes[i];
        rng r;
        rng_seed(&r, check.seed, i);
        guarded w = guarded_new(4 * n), f[4];
        for (size_t j = 0; j < COUNT_OF(f); j++) f[j] = guarded_floats(n, NULL, 0);
        random_row(type, w.p, 2 * n, &r);
        ref->unzip[type](floats(&f[0]), floats(&f[1]), w.p, n);
        t->unzip[type](floats(&f[2]), floats(&f[3]), w.p, n);
        if (!same(&f[0], &f[2]) || !same(&f[1], &f[3])) worst = 1;
        for (size_t j = 0; j < COUNT_OF(f); j++) guarded_free(&f[j]);
        guarded_free(&w);
    }
    return worst;
}

static double check_widen_quantized(const kern_table *ref, const kern_table *t, quant_type type) {
    enum { N = 96, LD = 20 };
    size_t bytes = type == QUANT_Q8_0 ? 34 : 18, group = (type == QUANT_Q8_0 ? 512 : 256) + 32;
    rng r;
    rng_seed(&r, check.seed, 5);
    double worst = 0;
    guarded x = guarded_new(N / 32 * bytes), a = guarded_floats(N, NULL, 0), b = guarded_floats(N, NULL, 0);
    random_row(type, x.p, N, &r);
    ref->widen[type](floats(&a), x.p, N);
    t->widen[type](floats(&b), x.p, N);
    if (!same(&a, &b)) worst = 1;
    guarded g = guarded_new(group), c = guarded_floats(31 * LD + 16, NULL, 0), d = guarded_floats(31 * LD + 16, NULL, 0);
    for (size_t i = 0; i < group - 32; i++) g.p[i] = (unsigned char)rng_below(&r, 256);
    random_row(QUANT_F16, g.p + group - 32, 16, &r);
    ref->widen_columns[type](floats(&c), LD, g.p);
    t->widen_columns[type](floats(&d), LD, g.p);
    if (!same(&c, &d)) worst = 1;
    guarded *all[] = {&x, &a, &b, &g, &c, &d};
    for (size_t i = 0; i < COUNT_OF(all); i++) guarded_free(all[i]);
    return worst;
}

static double check_scale_mix(const kern_table *ref, const kern_table *t, bool mix) {
    double worst = 0;
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        size_t n = sizes[i];
        rng r;
        rng_seed(&r, check.seed, i);
        guarded x = guarded_floats(n, &r, 2), a = guarded_floats(n, &r, 2), b = guarded_new(a.n);
        memcpy(b.p, a.p, a.n);
        if (mix) {
            ref->mix(floats(&a), 0.3f, floats(&x), 1.7f, n);
            t->mix(floats(&b), 0.3f, floats(&x), 1.7f, n);
        } else {
            ref->scale(floats(&a), floats(&x), 0.3f, n);
            ref->scale(floats(&a), floats(&a), 1.7f, n);
            t->scale(floats(&b), floats(&x), 0.3f, n);
            t->scale(floats(&b), floats(&b), 1.7f, n);
        }
        if (!same(&a, &b)) worst = 1;
        guarded_free(&x);
        guarded_free(&a);
        guarded_free(&b);
    }
    return worst;
}

static double check_rotate(const kern_table *ref, const kern_table *t) {
    double worst = 0;
    for (size_t i = 0; i < 2 * COUNT_OF(sizes); i++) {
        size_t n = sizes[i / 2];
        rng r;
        rng_seed(&r, check.seed, i);
        guarded v = guarded_floats(2 * n, &r, 2), w = guarded_new(v.n), cs = guarded_floats(2 * n, &r, 1);
        memcpy(w.p, v.p, v.n);
        ref->rotate(floats(&v), floats(&cs), n, i % 2);
        t->rotate(floats(&w), floats(&cs), n, i % 2);
        if (!same(&v, &w)) worst = 1;
        guarded_free(&v);
        guarded_free(&w);
        guarded_free(&cs);
    }
    return worst;
}

/* Three tiles of scores in a row: ordinary, with masked ones, all masked; and all masked first. */
static double check_soften(const kern_table *ref, const kern_table *t, bool bf16) {
    double worst = 0;
    for (size_t n = 16; n <= 64; n += 16)
        for (int turn = 0; turn < 4; turn++) {
            rng r;
            rng_seed(&r, check.seed, n + (size_t)turn);
            float max[2] = {-INFINITY, -INFINITY}, sum[2] = {0, 0}, keep[2];
            for (int step = 0; step < 3; step++) {
                guarded s[2] = {guarded_floats(n, &r, 6), guarded_new(4 * n)}, p[2] = {guarded_new(2 * n), guarded_new(2 * n)};
                for (size_t i = 0; i < n; i++)
                    if (step + turn == 3 || (step == 1 && i % 3 == 0)) floats(&s[0])[i] = -INFINITY;
                memcpy(s[1].p, s[0].p, s[0].n);
                const kern_table *tables[2] = {ref, t};
                float wide[2][64];
                for (int i = 0; i < 2; i++) {
                    keep[i] = bf16 ? tables[i]->soften_bf16(p[i].p, floats(&s[i]), n, &max[i], &sum[i])
                                   : tables[i]->soften(floats(&s[i]), n, &max[i], &sum[i]);
                    if (bf16) ref->widen[QUANT_BF16](wide[i], p[i].p, n);
                    else memcpy(wide[i], s[i].p, s[i].n);
                }
                if (max[0] != max[1]) worst = 1;
                worst = fmax(worst, fmax(error_of(wide[1], wide[0], n), error_of(&sum[1], &sum[0], 1)));
                worst = fmax(worst, error_of(&keep[1], &keep[0], 1));
                for (int i = 0; i < 2; i++) {
                    guarded_free(&s[i]);
                    guarded_free(&p[i]);
                }
            }
        }
    return worst;
}

static double check_to_bf16(const kern_table *ref, const kern_table *t) {
    double worst = 0;
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        size_t n = sizes[i];
        rng r;
        rng_seed(&r, check.seed, i);
        guarded x = guarded_floats(n, &r, 100), y = guarded_floats(n, &r, 1e-3f), h = guarded_new(2 * n);
        guarded a = guarded_new(4 * n), b = guarded_new(4 * n), c = guarded_new(2 * n), d = guarded_new(2 * n);
        random_row(QUANT_F16, h.p, n, &r);
        ref->bf16_zip(a.p, floats(&x), floats(&y), n);
        t->bf16_zip(b.p, floats(&x), floats(&y), n);
        if (!same(&a, &b)) worst = 1;
        ref->bf16_of_f32(c.p, floats(&x), 0.37f, n);
        t->bf16_of_f32(d.p, floats(&x), 0.37f, n);
        if (!same(&c, &d)) worst = 1;
        ref->bf16_of_f16(c.p, h.p, n);
        t->bf16_of_f16(d.p, h.p, n);
        if (!same(&c, &d)) worst = 1;
        guarded *all[] = {&x, &y, &h, &a, &b, &c, &d};
        for (size_t j = 0; j < COUNT_OF(all); j++) guarded_free(all[j]);
    }
    return worst;
}

static guarded random_pairs(quant_type type, size_t n_words, rng *r) {
    guarded g = guarded_new(4 * n_words);
    random_row(type, g.p, 2 * n_words, r);
    return g;
}

/* An element may not depend on the tile it is computed in: whole products against their rows one by one. */
static double check_pairs(const kern_table *ref, const kern_table *t) {
    rng r;
    rng_seed(&r, check.seed, 3);
    double worst = 0;
    for (int i = 0; i < 80; i++) {
        kern_pairs c = {.m = 1 + rng_below(&r, 14), .n = 1 + rng_below(&r, 140), .k = 1 + rng_below(&r, 40), .add = i & 1,
                       .f16 = i & 4, .ahead = i & 8 ? 512 : 0};
        bool blocks = i & 2; /* columns in blocks of 16 of their own, or side by side */
        size_t n16 = (c.n + 15) / 16;
        c.ldc = c.n + rng_below(&r, 3), c.lda = c.k + rng_below(&r, 2);
        c.ldb = blocks ? 16 : c.n, c.ldv = blocks ? 16 * c.k : 16;
        size_t nc = (c.m - 1) * c.ldc + c.n, nb = (c.k - 1) * c.ldb + (n16 - 1) * c.ldv + c.n - (n16 - 1) * 16;
        guarded a = random_pairs(QUANT_BF16, (c.m - 1) * c.lda + c.k, &r), b = random_pairs(c.f16 ? QUANT_F16 : QUANT_BF16, nb, &r);
        guarded x = guarded_floats(nc, &r, 1), y = guarded_new(x.n), z = guarded_new(x.n);
        memcpy(y.p, x.p, x.n);
        memcpy(z.p, x.p, x.n);
        c.a = (const uint32_t *)(const void *)a.p, c.b = (const uint32_t *)(const void *)b.p, c.c = floats(&x);
        ref->pairs(&c);
        c.c = floats(&y);
        t->pairs(&c);
        worst = fmax(worst, error_of(floats(&y), floats(&x), nc));
        for (size_t j = 0; j < c.m; j++) {
            kern_pairs one = c;
            one.m = 1, one.a += j * c.lda, one.c = floats(&z) + j * c.ldc;
            t->pairs(&one);
        }
        if (!same(&y, &z)) worst = 1;
        guarded *all[] = {&a, &b, &x, &y, &z};
        for (size_t j = 0; j < COUNT_OF(all); j++) guarded_free(all[j]);
    }
    return worst;
}

/* Speed on a tile of 48 queries × 64 positions × 64 dimensions, or 4,096 numbers. */
static double time_of(const kern_table *t, const char *name, quant_type type) {
    enum { N = 4096 };
    static float x[2 * N], y[2 * N];
    float max = 0, sum = 0;
    double ns = 0;
    if (strcmp(name, "pairs") == 0)
        TIME_NS(ns, t->pairs(&(kern_pairs){.c = y, .a = (const uint32_t *)(const void *)x, .b = (const uint32_t *)(const void *)x, .ldc = 64,
                                           .lda = 32, .ldb = 16, .ldv = 512, .m = 48, .n = 64, .k = 32}));
    else if (strcmp(name, "soften") == 0) TIME_NS(ns, t->soften(x, 64, &max, &sum));
    else if (strcmp(name, "soften_bf16") == 0) TIME_NS(ns, t->soften_bf16(y, x, 64, &max, &sum));
    else if (strcmp(name, "rotate") == 0) TIME_NS(ns, t->rotate(x, y, N / 2, false));
    else if (strcmp(name, "widen") == 0) TIME_NS(ns, t->widen_columns[type](y, 16, x));
    else if (strcmp(name, "unzip") == 0) TIME_NS(ns, t->unzip[type](y, y + N, x, N));
    else if (strcmp(name, "to bf16") == 0) TIME_NS(ns, t->bf16_of_f16(y, x, N));
    return ns;
}

static void judge(const kern_table *ref, const kern_table *t, const char *name, const char *key, quant_type type, double error,
                  double bar) {
    char speed[64] = "";
    double ratio = 0, ns = check.bench || check.report ? time_of(t, key, type) : 0;
    if (ns > 0) {
        ratio = time_of(ref, key, type) / ns;
        (void)snprintf(speed, sizeof speed, "%9.0f ns, %.1fx scalar", ns, ratio);
    }
    verdict(name, error, bar, ratio, speed);
}

static void check_rung(const kern_table *ref, const kern_table *before, const kern_table *t) {
#define CHECK(entry, name, key, type, bar, call)                                                              \
    if (t->entry != ref->entry && t->entry != before->entry) {                                                \
        (void)snprintf(check.what, sizeof check.what, "%s, %s", name, check.rung);                            \
        judge(ref, t, name, key, type, call, bar);                                                            \
    }
    CHECK(rotate, "rotate", "rotate", 0, 0, check_rotate(ref, t))
    CHECK(scale, "scale", "", 0, 0, check_scale_mix(ref, t, false))
    CHECK(mix, "mix", "", 0, 0, check_scale_mix(ref, t, true))
    CHECK(soften, "soften", "soften", 0, 1e-12, check_soften(ref, t, false))
    CHECK(unzip[QUANT_F16], "f16 unzip", "unzip", QUANT_F16, 0, check_unzip(ref, t, QUANT_F16))
    CHECK(unzip[QUANT_BF16], "bf16 unzip", "unzip", QUANT_BF16, 0, check_unzip(ref, t, QUANT_BF16))
    CHECK(widen[QUANT_Q8_0], "q8_0 widen", "widen", QUANT_Q8_0, 0, check_widen_quantized(ref, t, QUANT_Q8_0))
    CHECK(widen[QUANT_Q4_0], "q4_0 widen", "widen", QUANT_Q4_0, 0, check_widen_quantized(ref, t, QUANT_Q4_0))
    CHECK(bf16_of_f16, "to bf16", "to bf16", 0, 0, check_to_bf16(ref, t))
    CHECK(soften_bf16, "soften bf16", "soften_bf16", 0, 2e-5, check_soften(ref, t, true)) /* a rounding the other way */
    CHECK(pairs, "bf16 pairs", "pairs", 0, 1e-12, check_pairs(ref, t))
#undef CHECK
}

int main(int argc, char **argv) {
    check_begin(argc, argv);
    return each_rung(check_rung);
}
