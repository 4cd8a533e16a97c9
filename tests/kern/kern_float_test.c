/* kern_float_test.c: norms, activation functions, softmax, conversions and float products of every rung against
 * the scalar ones: odd sizes, special values, buffers that end at a guard page. */
#include "kern/check.h"
#include "kernel/generic/ref.h"

static const size_t sizes[] = {1, 2, 7, 15, 16, 17, 31, 32, 33, 64, 100, 129};

/* Runs `body` for each size with x, y, w, b guarded rows of n random floats and a rng r; keeps the worst error. */
typedef struct rows {
    size_t n;
    guarded x, w, b, got, want;
    rng r;
} rows;
static rows make_rows(size_t n, float scale) {
    rows s = {.n = n};
    rng_seed(&s.r, check.seed, n);
    s.x = guarded_floats(n, &s.r, scale);
    s.w = guarded_floats(n, &s.r, 1);
    s.b = guarded_floats(n, &s.r, 1);
    s.got = guarded_floats(n, NULL, 0);
    s.want = guarded_floats(n, NULL, 0);
    return s;
}
static void drop_rows(rows *s) {
    guarded *all[] = {&s->x, &s->w, &s->b, &s->got, &s->want};
    for (size_t i = 0; i < COUNT_OF(all); i++) guarded_free(all[i]);
}
static double rows_error(const rows *s) { return error_of(floats(&s->got), floats(&s->want), s->n); }

static double check_norms(const kern_table *ref, const kern_table *t, bool layer) {
    double worst = 0;
    for (size_t i = 0; i < COUNT_OF(sizes); i++)
        for (int with = 0; with < 4; with++) {
            rows s = make_rows(sizes[i], 3);
            const float *w = with & 1 ? floats(&s.w) : NULL, *b = with & 2 ? floats(&s.b) : NULL;
            memcpy(s.got.p, s.x.p, s.n * sizeof(float)); /* in place */
            if (layer) {
                ref->layer_norm(floats(&s.want), floats(&s.x), w, b, 1e-5f, s.n);
                t->layer_norm(floats(&s.got), floats(&s.got), w, b, 1e-5f, s.n);
            } else {
                ref->rms_norm(floats(&s.want), floats(&s.x), w, b, 1e-5f, s.n);
                t->rms_norm(floats(&s.got), floats(&s.got), w, b, 1e-5f, s.n);
            }
            worst = fmax(worst, rows_error(&s));
            drop_rows(&s);
        }
    return worst;
}

/* The error beside the size of the input: where 1 + tanh or 1 + erf cancels the scalar value itself is 0. */
static double act_error(const rows *s) {
    double err = 0, sum = 0;
    for (size_t i = 0; i < s->n; i++) {
        double e = (double)floats(&s->got)[i] - (double)floats(&s->want)[i], x = (double)floats(&s->x)[i];
        err += e * e;
        sum += x * x + (double)floats(&s->want)[i] * (double)floats(&s->want)[i];
    }
    return err == 0 ? 0 : err / sum;
}

static double check_act(const kern_table *ref, const kern_table *t, act_fn f) {
    static const float special[] = {0, -0.0f, 1e-30f, -1e-30f, 20, -20, 88, -88, 1e4f, -1e4f, 1e-3f, 0.625f};
    double worst = 0;
    for (size_t i = 0; i < COUNT_OF(sizes); i++)
        for (int with_up = 0; with_up < 2; with_up++) {
            rows s = make_rows(sizes[i], 8);
            const float *up = with_up ? floats(&s.w) : NULL;
            ref->act(f, floats(&s.want), floats(&s.x), up, s.n);
            t->act(f, floats(&s.got), floats(&s.x), up, s.n);
            worst = fmax(worst, act_error(&s));
            drop_rows(&s);
        }
    for (size_t i = 0; i < COUNT_OF(special); i++) {
        float got, want;
        ref->act(f, &want, &special[i], NULL, 1);
        t->act(f, &got, &special[i], NULL, 1);
        double e = fabs((double)got - (double)want) / (1e-6 + fabs((double)want));
        if (!(e < 1e-2)) {
            printf("     act %d (%g) = %g, not %g\n", (int)f, (double)special[i], (double)got, (double)want);
            worst = 1;
        }
    }
    float nan = NAN, got = 0;
    t->act(f, &got, &nan, NULL, 1);
    if (!isnan(got) && f != ACT_RELU && f != ACT_RELU2 && f != ACT_SWIGLU_OAI) worst = 1;
    return worst;
}

static double check_quantize(const kern_table *ref, const kern_table *t) {
    static const float special[] = {0, NAN, INFINITY, -INFINITY, 1e-42f, 3e38f, -3e38f, 1e-20f};
    double worst = 0;
    for (size_t i = 0; i < COUNT_OF(sizes); i++)
        for (size_t k = 0; k <= COUNT_OF(special); k++) {
            rows s = make_rows(sizes[i], 2);
            if (k < COUNT_OF(special)) floats(&s.x)[s.n / 2] = special[k];
            if (k < COUNT_OF(special) && k != 1)
                for (size_t j = 0; j < s.n && k % 2 == 0; j++) floats(&s.x)[j] = special[k];
            guarded a = guarded_new(kern_acts_bytes(s.n)), b = guarded_new(kern_acts_bytes(s.n));
            ref->quantize(a.p, floats(&s.x), s.n);
            t->quantize(b.p, floats(&s.x), s.n);
            if (memcmp(a.p, b.p, a.n) != 0) worst = 1;
            guarded_free(&a);
            guarded_free(&b);
            drop_rows(&s);
        }
    return worst;
}

static double check_interleave(const kern_table *ref, const kern_table *t, size_t k) {
    rng r;
    rng_seed(&r, check.seed, 1);
    double worst = 0;
    size_t bytes = kern_acts_bytes(k), tile = kern_acts_blocks(k) * sizeof(kern_acts_block);
    for (size_t n = 1; n <= KERN_TILE; n++) {
        guarded x = guarded_floats(k, &r, 1), acts = guarded_new(n * bytes), a = guarded_new(tile), b = guarded_new(tile);
        for (size_t i = 0; i < n; i++) {
            floats(&x)[i] = 2;
            ref->quantize(acts.p + i * bytes, floats(&x), k);
        }
        memset(b.p, 0xaa, b.n);
        ref->interleave((kern_acts_block *)(void *)a.p, acts.p, bytes, n, k);
        t->interleave((kern_acts_block *)(void *)b.p, acts.p, bytes, n, k);
        if (memcmp(a.p, b.p, tile) != 0) worst = 1;
        guarded_free(&x);
        guarded_free(&acts);
        guarded_free(&a);
        guarded_free(&b);
    }
    return worst;
}

static double check_rows(const kern_table *ref, const kern_table *t, const char *name) {
    double worst = 0;
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        rows s = make_rows(sizes[i], 4);
        float got = 0, want = 0;
        memcpy(s.got.p, s.w.p, s.n * sizeof(float));
        memcpy(s.want.p, s.w.p, s.n * sizeof(float));
        if (strcmp(name, "axpy") == 0) {
            ref->axpy(floats(&s.want), floats(&s.x), 0.3f, s.n);
            t->axpy(floats(&s.got), floats(&s.x), 0.3f, s.n);
        } else if (strcmp(name, "dot") == 0) {
            want = ref->dot(floats(&s.x), floats(&s.x), s.n);
            got = t->dot(floats(&s.x), floats(&s.x), s.n);
        } else if (strcmp(name, "max") == 0) {
            floats(&s.x)[s.n / 3] = -INFINITY;
            floats(&s.x)[0] = NAN;
            want = ref->max(floats(&s.x), s.n);
            got = t->max(floats(&s.x), s.n);
            if (got != want) worst = 1;
        } else {
            floats(&s.got)[s.n / 2] = floats(&s.want)[s.n / 2] = -INFINITY;
            want = ref->exp_sum(floats(&s.want), 1.5f, s.n);
            got = t->exp_sum(floats(&s.got), 1.5f, s.n);
            if (floats(&s.got)[s.n / 2] != 0.0f) worst = 1;
        }
        worst = fmax(worst, fmax(rows_error(&s), error_of(&got, &want, 1)));
        drop_rows(&s);
    }
    return worst;
}

static double check_convert(const kern_table *ref, const kern_table *t, quant_type type) {
    enum { N = 65536 };
    uint16_t *all = malloc(N * 2), *a = malloc(N * 2), *b = malloc(N * 2);
    float *x = malloc(N * 4), *y = malloc(N * 4);
    if (!all || !a || !b || !x || !y) exit(2);
    for (size_t i = 0; i < N; i++) all[i] = (uint16_t)i;
    ref->widen[type](x, all, N);
    t->widen[type](y, all, N);
    double worst = 0;
    for (size_t i = 0; i < N; i++)
        if (!(isnan(x[i]) && isnan(y[i])) && memcmp(&x[i], &y[i], 4) != 0) worst = 1;
    rng r;
    rng_seed(&r, check.seed, 8);
    for (size_t i = 0; i < N; i++) { /* all exponents, ties too */
        uint32_t bits = rng_u32(&r);
        if (i % 3 == 0) bits &= 0xfffff000u;
        memcpy(&x[i], &bits, 4);
        if (isnan(x[i])) x[i] = 0;
    }
    ref->narrow[type](a, x, N - 5);
    t->narrow[type](b, x, N - 5);
    if (memcmp(a, b, (N - 5) * 2) != 0) worst = 1;
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        guarded g = guarded_new(sizes[i] * 2), f = guarded_floats(sizes[i], &r, 1);
        t->narrow[type](g.p, floats(&f), sizes[i]);
        t->widen[type](floats(&f), g.p, sizes[i]);
        guarded_free(&g);
        guarded_free(&f);
    }
    free(all);
    free(a);
    free(b);
    free(x);
    free(y);
    return worst;
}

static double check_tile(const kern_table *ref, const kern_table *t) {
    rng r;
    rng_seed(&r, check.seed, 3);
    double worst = 0;
    for (int i = 0; i < 60; i++) {
        kern_tile c = {.m = 1 + rng_below(&r, 14), .n = 1 + rng_below(&r, 100), .k = 1 + rng_below(&r, 40), .add = i & 1};
        c.ldc = c.n + rng_below(&r, 3), c.lda = c.k, c.ldb = c.n + rng_below(&r, 3);
        size_t nc = (c.m - 1) * c.ldc + c.n;
        guarded a = guarded_floats(c.m * c.lda, &r, 1), b = guarded_floats((c.k - 1) * c.ldb + c.n, &r, 1);
        guarded x = guarded_floats(nc, &r, 1), y = guarded_new(nc * sizeof(float));
        memcpy(y.p, x.p, nc * sizeof(float));
        c.a = floats(&a), c.b = floats(&b), c.c = floats(&x);
        ref->tile(&c);
        c.c = floats(&y);
        t->tile(&c);
        if (memcmp(x.p, y.p, nc * sizeof(float)) != 0) worst = fmax(worst, fmax(1e-30, error_of(c.c, floats(&x), nc)));
        guarded_free(&a);
        guarded_free(&b);
        guarded_free(&x);
        guarded_free(&y);
    }
    return worst;
}

static double check_fmul(const kern_table *ref, const kern_table *t, quant_type type) {
    rng r;
    rng_seed(&r, check.seed, 4);
    double worst = 0;
    for (int i = 0; i < 60; i++) {
        size_t k = 1 + rng_below(&r, 70), n_rows = 1 + rng_below(&r, 21), n_x = 1 + rng_below(&r, 15), ld = n_rows + 2;
        size_t size = type == QUANT_F32 ? 4 : 2, ny = (n_x - 1) * ld + n_rows;
        guarded w = guarded_new(n_rows * k * size), x = guarded_floats(n_x * k, &r, 1), bias = guarded_floats(n_rows, &r, 1);
        guarded a = guarded_floats(ny, &r, 1), b = guarded_new(ny * sizeof(float));
        random_row(type, w.p, n_rows * k, &r);
        memcpy(b.p, a.p, b.n);
        kern_fmul f = {.w = w.p, .row_bytes = k * size, .n_rows = n_rows, .k = k, .x = floats(&x), .ldx = k, .n_x = n_x,
                       .out = {floats(&a), ld, i % 3 ? floats(&bias) : NULL, 0.7f, i & 1}};
        ref->fmul[type](&f);
        f.out.y = floats(&b);
        t->fmul[type](&f);
        if (memcmp(a.p, b.p, b.n) != 0) worst = fmax(worst, fmax(1e-30, error_of(f.out.y, floats(&a), ny)));
        guarded_free(&w);
        guarded_free(&x);
        guarded_free(&bias);
        guarded_free(&a);
        guarded_free(&b);
    }
    return worst;
}

/* bmul; no scalar version is in the table, as f32 is as fast without the instructions. */
static double check_bmul(const kern_table *t) {
    rng r;
    rng_seed(&r, check.seed, 5);
    double worst = 0;
    for (int i = 0; i < 60; i++) {
        size_t k = 1 + rng_below(&r, 140), n_rows = 1 + rng_below(&r, 21), n_x = 1 + rng_below(&r, 15), ld = n_rows + 2;
        size_t ny = (n_x - 1) * ld + n_rows;
        guarded w = guarded_new(n_rows * k * 2), x = guarded_new(n_x * k * 2), bias = guarded_floats(n_rows, &r, 1);
        guarded a = guarded_floats(ny, &r, 1), b = guarded_new(ny * sizeof(float));
        random_row(QUANT_BF16, w.p, n_rows * k, &r);
        random_row(QUANT_BF16, x.p, n_x * k, &r);
        memcpy(b.p, a.p, b.n);
        kern_fmul f = {.w = w.p, .row_bytes = k * 2, .n_rows = n_rows, .k = k, .xb = (const uint16_t *)(const void *)x.p,
                       .ldx = k, .n_x = n_x, .out = {floats(&a), ld, i % 3 ? floats(&bias) : NULL, 0.7f, i & 1}};
        kern_bmul_ref(&f);
        f.out.y = floats(&b);
        t->bmul(&f);
        if (memcmp(a.p, b.p, b.n) != 0) worst = fmax(worst, fmax(1e-30, error_of(f.out.y, floats(&a), ny)));
        guarded_free(&w);
        guarded_free(&x);
        guarded_free(&bias);
        guarded_free(&a);
        guarded_free(&b);
    }
    return worst;
}

/* Speed on a row of 2048 (or a 256 × 1024 matrix, or a tile of 24 × 64 × 64). */
static double time_of(const kern_table *t, const char *name, int variant) {
    enum { N = 2048, ROWS = 256, K = 1024 };
    static float x[ROWS * K], y[64 * 64], w[N];
    static unsigned char acts[8 * 4096] __attribute__((aligned(64)));
    double ns;
    if (strcmp(name, "quantize") == 0) TIME_NS(ns, t->quantize(acts, x, N));
    else if (strcmp(name, "rms_norm") == 0) TIME_NS(ns, t->rms_norm(w, x, x, NULL, 1e-5f, N));
    else if (strcmp(name, "layer_norm") == 0) TIME_NS(ns, t->layer_norm(w, x, x, NULL, 1e-5f, N));
    else if (strcmp(name, "act") == 0) TIME_NS(ns, t->act((act_fn)variant, w, x, x, N));
    else if (strcmp(name, "exp_sum") == 0) TIME_NS(ns, t->exp_sum(w, 100, N));
    else if (strcmp(name, "tile") == 0)
        TIME_NS(ns, t->tile(&(kern_tile){y, x, x, 64, 64, 64, 24, 64, 64, false}));
    else if (strcmp(name, "fmul") == 0)
        TIME_NS(ns, t->fmul[variant](&(kern_fmul){(const unsigned char *)x, K * (variant == QUANT_F32 ? 4 : 2), ROWS, K, x, K,
                                                  1, {0}, {w, ROWS, NULL, 1, false}, NULL}));
    else return 0;
    return ns;
}

static void judge(const kern_table *ref, const kern_table *t, const char *name, const char *key, int variant,
                  double error, double bar) {
    char speed[64] = "";
    double ratio = 0;
    if (check.bench || check.report) {
        double ns = time_of(t, key, variant);
        if (ns > 0) {
            ratio = time_of(ref, key, variant) / ns;
            (void)snprintf(speed, sizeof speed, "%9.0f ns, %.1fx scalar", ns, ratio);
        }
    }
    verdict(name, error, bar, ratio, speed);
}

static void check_rung(const kern_table *ref, const kern_table *before, const kern_table *t) {
    static const char *const acts[ACT_COUNT] = {"none", "silu",    "gelu",     "gelu tanh", "relu",       "relu2",
                                                "sigmoid", "softplus", "tanh", "gelu quick", "swiglu oai"};
    static const char *const types[] = {"f32", "f16", "bf16"};
    static const quant_type numbers[] = {QUANT_F32, QUANT_F16, QUANT_BF16};
    char name[48];
#define NEW(entry) (t->entry != ref->entry && t->entry != before->entry)
#define CHECK(entry, bar, call)                                                                               \
    if (NEW(entry)) {                                                                                         \
        (void)snprintf(check.what, sizeof check.what, "%s, %s", #entry, check.rung);                          \
        judge(ref, t, #entry, #entry, 0, call, bar);                                                          \
    }
    CHECK(quantize, 0, check_quantize(ref, t))
    CHECK(interleave, 0, fmax(check_interleave(ref, t, 96), check_interleave(ref, t, 608)))
    CHECK(rms_norm, 1e-12, check_norms(ref, t, false))
    CHECK(layer_norm, 1e-12, check_norms(ref, t, true))
    CHECK(axpy, 0, check_rows(ref, t, "axpy"))
    CHECK(dot, 1e-12, check_rows(ref, t, "dot"))
    CHECK(max, 0, check_rows(ref, t, "max"))
    CHECK(exp_sum, 1e-12, check_rows(ref, t, "exp_sum"))
    CHECK(tile, 0, check_tile(ref, t))
    for (int f = 0; f < ACT_COUNT && NEW(act); f++) {
        (void)snprintf(name, sizeof name, "act %s", acts[f]);
        (void)snprintf(check.what, sizeof check.what, "%s, %s", name, check.rung);
        judge(ref, t, name, "act", f, check_act(ref, t, (act_fn)f), 1e-12);
    }
    if (t->bmul && t->bmul != before->bmul) {
        (void)snprintf(check.what, sizeof check.what, "bf16 by bf16 mul, %s", check.rung);
        judge(ref, t, "bf16 by bf16 mul", "", 0, check_bmul(t), 0);
    }
    for (size_t i = 0; i < COUNT_OF(types); i++) {
        (void)snprintf(name, sizeof name, "%s mul", types[i]);
        (void)snprintf(check.what, sizeof check.what, "%s, %s", name, check.rung);
        if (NEW(fmul[numbers[i]])) judge(ref, t, name, "fmul", (int)numbers[i], check_fmul(ref, t, numbers[i]), 0);
        (void)snprintf(name, sizeof name, "%s convert", types[i]);
        (void)snprintf(check.what, sizeof check.what, "%s, %s", name, check.rung);
        if (NEW(widen[numbers[i]])) judge(ref, t, name, "", 0, check_convert(ref, t, numbers[i]), 0);
    }
}

int main(int argc, char **argv) {
    check_begin(argc, argv);
    return each_rung(check_rung);
}
