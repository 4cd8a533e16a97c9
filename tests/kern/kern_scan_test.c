/* kern_scan_test.c: recurrences and convolutions of every rung against the scalar ones: odd numbers of rows, narrow
 * tiles, several tokens one after the other, buffers that end at a guard page. The parts of chunked recurrences must
 * be the same bits. */
#include "kern/check.h"

typedef void scan_fn(const kern_scan *a);

/* Everything one token needs; the state is the one thing that differs between the two sides. */
struct inputs {
    guarded s[2], y[2], decay, in, out, x, probe, back;
    size_t n, w;
};

static struct inputs make_inputs(size_t n, size_t w, bool each) {
    struct inputs i = {.n = n, .w = w};
    rng r;
    rng_seed(&r, check.seed, n * 31 + w);
    for (int side = 0; side < 2; side++) {
        i.s[side] = guarded_floats(n * w, NULL, 0.5f);
        i.y[side] = guarded_floats(w, NULL, 0.25f);
    }
    i.decay = guarded_floats(each ? n * w : n, &r, 1);
    for (size_t k = 0; k < (each ? n * w : n); k++) floats(&i.decay)[k] = fabsf(floats(&i.decay)[k]) / 4;
    guarded *rows[] = {&i.in, &i.out, &i.probe, &i.back};
    for (size_t k = 0; k < COUNT_OF(rows); k++) *rows[k] = guarded_floats(n, &r, 0.3f);
    i.x = guarded_floats(w, &r, 1);
    return i;
}

static void drop_inputs(struct inputs *i) {
    guarded *all[] = {&i->s[0], &i->s[1], &i->y[0], &i->y[1], &i->decay, &i->in, &i->out, &i->x, &i->probe, &i->back};
    for (size_t k = 0; k < COUNT_OF(all); k++) guarded_free(all[k]);
}

static kern_scan call_of(const struct inputs *i, int side, size_t decay_step, bool add) {
    return (kern_scan){.s = floats(&i->s[side]), .n = i->n, .w = i->w, .decay = floats(&i->decay), .decay_step = decay_step,
                       .in = floats(&i->in), .out = floats(&i->out), .x = floats(&i->x), .pace = floats(&i->x), .probe = floats(&i->probe), .back = floats(&i->back),
                       .beta = 0.7f, .y = floats(&i->y[side]), .add = add};
}

/* Squared differences and squares of all shapes together: one shape's sums may cancel to nearly nothing. */
static void add_up(const guarded side[2], size_t n, double total[2]) {
    const float *want = floats(&side[0]), *got = floats(&side[1]);
    for (size_t i = 0; i < n; i++) {
        total[0] += ((double)got[i] - (double)want[i]) * ((double)got[i] - (double)want[i]);
        total[1] += (double)want[i] * (double)want[i];
    }
}

/* Three tokens: the error of outputs and of the states at the end. */
static double check_scan(scan_fn *ref, scan_fn *fn, bool each) {
    static const size_t heights[] = {1, 2, 3, 16, 31, 64, 128};
    double y[2] = {0}, states[2] = {0};
    for (size_t h = 0; h < COUNT_OF(heights); h++)
        for (size_t w = 1; w <= KERN_SCAN_W; w += w < 3 ? 1 : w == 3 ? 5 : w < 24 ? 8 : 20)
            for (size_t step = 0; step < 2; step++) {
                struct inputs i = make_inputs(heights[h], w, each);
                for (int token = 0; token < 3; token++) {
                    kern_scan a = call_of(&i, 0, step, token > 0), b = call_of(&i, 1, step, token > 0);
                    ref(&a);
                    fn(&b);
                }
                add_up(i.y, w, y);
                add_up(i.s, i.n * w, states);
                drop_inputs(&i);
            }
    return fmax(y[0] / y[1], states[0] / states[1]);
}

static void report_scan(const char *name, scan_fn *ref, scan_fn *fn, bool each) {
    char speed[64] = "";
    double slow = 0, fast = 0;
    (void)snprintf(check.what, sizeof check.what, "%s", name);
    double error = check_scan(ref, fn, each);
    if (check.bench) {
        struct inputs i = make_inputs(128, KERN_SCAN_W, each);
        kern_scan a = call_of(&i, 0, 0, false);
        TIME_NS(slow, ref(&a));
        TIME_NS(fast, fn(&a));
        (void)snprintf(speed, sizeof speed, "%.0f ns for 128 x 64", fast);
        drop_inputs(&i);
    }
    verdict(name, error, 1e-12, fast > 0 ? slow / fast : 0, speed);
}

/* ---- chunks ---- */
/* 0 when the n floats of both sides are the same bits, else their error. */
static double bits(const guarded side[2], size_t n) {
    bool same = memcmp(side[0].p, side[1].p, n * sizeof(float)) == 0;
    return same ? 0 : fmax(error_of(floats(&side[1]), floats(&side[0]), n), 1e-30);
}

/* Rows that feed on each other (the delta rule) or on x; in one call, and row by row. */
static double check_recall(const kern_table *ref, const kern_table *t) {
    static const size_t widths[] = {1, 7, 16, 17, 32, 64, 80, 131};
    double worst = 0;
    rng r;
    rng_seed(&r, check.seed, 5);
    for (size_t i = 0; i < COUNT_OF(widths); i++)
        for (size_t first = 0; first < KERN_CHUNK; first += 5)
            for (int delta = 0; delta < 2; delta++) {
                size_t w = widths[i], m = KERN_CHUNK - first;
                guarded read = guarded_floats(m * w, &r, 1), x = guarded_floats(m * w, &r, 1), pre = guarded_floats(m, &r, 1), post = guarded_floats(m, &r, 1);
                guarded coef = guarded_floats(m * KERN_CHUNK, &r, 0.3f), past[3], y[3];
                for (int side = 0; side < 3; side++) {
                    past[side] = guarded_floats(KERN_CHUNK * w, NULL, 0.5f);
                    y[side] = guarded_floats(m * w, NULL, 0);
                    kern_recall a = {.y = delta ? floats(&past[side]) + first * w : floats(&y[side]), .ldy = w, .read = floats(&read), .ld_read = w,
                                     .x = delta ? floats(&x) : NULL, .ldx = w, .by = 0.7f, .past = floats(&past[side]), .ld_past = w,
                                     .pre = floats(&pre), .post = delta ? floats(&post) : NULL, .coef = floats(&coef), .first = first, .m = m, .w = w};
                    if (side < 2) (side ? t : ref)->recall(&a);
                    for (size_t row = 0; side == 2 && row < m; row++) {
                        kern_recall one = a;
                        one.y += row * w, one.read += row * w, one.pre += row, one.coef += row * KERN_CHUNK, one.first += row, one.m = 1;
                        if (delta) one.x += row * w, one.post += row;
                        t->recall(&one);
                    }
                }
                for (int side = 1; side < 3; side++) {
                    worst = fmax(worst, bits((guarded[2]){past[0], past[side]}, KERN_CHUNK * w));
                    worst = fmax(worst, bits((guarded[2]){y[0], y[side]}, m * w));
                }
                guarded *all[] = {&read, &x, &pre, &post, &coef, &past[0], &past[1], &past[2], &y[0], &y[1], &y[2]};
                for (size_t k = 0; k < COUNT_OF(all); k++) guarded_free(all[k]);
            }
    return worst;
}

static void report_recall(const kern_table *ref, const kern_table *t) {
    char speed[64] = "";
    double slow = 0, fast = 0;
    (void)snprintf(check.what, sizeof check.what, "recall");
    double error = check_recall(ref, t);
    if (check.bench) {
        guarded y = guarded_floats(KERN_CHUNK * 64, NULL, 0.5f), coef = guarded_floats(KERN_CHUNK * KERN_CHUNK, NULL, 0.1f);
        kern_recall a = {.y = floats(&y), .ldy = 64, .read = floats(&y), .ld_read = 64, .past = floats(&y), .ld_past = 64, .pre = floats(&coef),
                         .coef = floats(&coef), .m = KERN_CHUNK, .w = 64};
        TIME_NS(slow, ref->recall(&a));
        TIME_NS(fast, t->recall(&a));
        (void)snprintf(speed, sizeof speed, "%.0f ns for 16 x 64", fast);
        guarded_free(&y);
        guarded_free(&coef);
    }
    verdict("recall", error, 0, fast > 0 ? slow / fast : 0, speed);
}

/* n rows of w columns take in k rows. */
struct absorb_case {
    guarded s[2], in, x;
    const float *rows[KERN_CHUNK];
    kern_absorb a[2];
};

static void make_absorb(struct absorb_case *c, rng *r, size_t n, size_t w, size_t k) {
    c->in = guarded_floats(KERN_CHUNK * n, r, 1);
    c->x = guarded_floats(KERN_CHUNK * w, r, 1);
    for (size_t u = 0; u < KERN_CHUNK; u++) c->rows[u] = floats(&c->in) + u * n;
    for (int side = 0; side < 2; side++) {
        c->s[side] = guarded_floats(n * w, NULL, 0.25f);
        c->a[side] = (kern_absorb){.s = floats(&c->s[side]), .n = n, .w = w, .ld = w, .decay = 0.8f, .in = c->rows, .x = floats(&c->x), .ldx = w, .k = k};
    }
}

static void drop_absorb(struct absorb_case *c) {
    guarded *all[] = {&c->s[0], &c->s[1], &c->in, &c->x};
    for (size_t k = 0; k < COUNT_OF(all); k++) guarded_free(all[k]);
}

static void report_absorb(const kern_table *ref, const kern_table *t) {
    static const size_t sizes[][3] = {{1, 1, 1}, {3, 17, 16}, {6, 64, 16}, {13, 33, 7}, {64, 80, 16}, {128, 64, 16}, {31, 15, 2}};
    char speed[64] = "";
    double worst = 0, slow = 0, fast = 0;
    struct absorb_case c;
    rng r;
    rng_seed(&r, check.seed, 6);
    (void)snprintf(check.what, sizeof check.what, "absorb");
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        make_absorb(&c, &r, sizes[i][0], sizes[i][1], sizes[i][2]);
        ref->absorb(&c.a[0]);
        t->absorb(&c.a[1]);
        worst = fmax(worst, bits(c.s, sizes[i][0] * sizes[i][1]));
        drop_absorb(&c);
    }
    if (check.bench) {
        make_absorb(&c, &r, 128, 64, KERN_CHUNK);
        TIME_NS(slow, ref->absorb(&c.a[0]));
        TIME_NS(fast, t->absorb(&c.a[1]));
        (void)snprintf(speed, sizeof speed, "%.0f GFLOP/s", 2.0 * 128 * 64 * KERN_CHUNK / fast);
        drop_absorb(&c);
    }
    verdict("absorb", worst, 0, fast > 0 ? slow / fast : 0, speed);
}

/* ---- convolution ---- */
/* Without an activation the same bits; with one within what activations differ. */
static double check_conv(const kern_table *ref, const kern_table *t, act_fn act, double *ratio) {
    static const size_t widths[] = {1, 3, 4, 7}, lengths[] = {1, 15, 16, 33, 100};
    double worst = 0;
    rng r;
    rng_seed(&r, check.seed, 7);
    for (size_t i = 0; i < COUNT_OF(widths) * COUNT_OF(lengths); i++) {
        size_t k = widths[i / COUNT_OF(lengths)], n = lengths[i % COUNT_OF(lengths)];
        guarded x = guarded_floats(k * n, &r, 1), w = guarded_floats(k * n, &r, 1), bias = guarded_floats(n, &r, 1), y[2];
        const float *rows[7];
        for (size_t j = 0; j < k; j++) rows[j] = floats(&x) + j * n;
        for (int side = 0; side < 2; side++) {
            y[side] = guarded_floats(n, NULL, 0);
            kern_conv a = {.y = floats(&y[side]), .x = rows, .w = floats(&w), .ldw = n, .bias = n % 2 ? floats(&bias) : NULL, .k = k, .n = n, .act = act};
            (side ? t : ref)->conv(&a);
        }
        worst = fmax(worst, act == ACT_NONE ? bits(y, n) : error_of(floats(&y[1]), floats(&y[0]), n));
        guarded *all[] = {&x, &w, &bias, &y[0], &y[1]};
        for (size_t j = 0; j < COUNT_OF(all); j++) guarded_free(all[j]);
    }
    if (check.bench) {
        float x[4][256], w[4 * 256], y[256];
        const float *rows[4] = {x[0], x[1], x[2], x[3]};
        double slow, fast;
        for (size_t j = 0; j < 4 * 256; j++) x[j / 256][j % 256] = w[j] = (float)j / 1024;
        kern_conv a = {.y = y, .x = rows, .w = w, .ldw = 256, .k = 4, .n = 256, .act = act};
        TIME_NS(slow, ref->conv(&a));
        TIME_NS(fast, t->conv(&a));
        *ratio = slow / fast;
    }
    return worst;
}

static void report_conv(const kern_table *ref, const kern_table *t) {
    double ratio = 0, error;
    (void)snprintf(check.what, sizeof check.what, "conv");
    error = check_conv(ref, t, ACT_NONE, &ratio);
    verdict("conv", error, 0, ratio, "");
    error = check_conv(ref, t, ACT_SILU, &ratio);
    verdict("conv silu", error, 1e-11, ratio, "");
    error = check_conv(ref, t, ACT_TANH, &ratio);
    verdict("conv tanh", error, 1e-11, ratio, "");
}

int main(int argc, char **argv) {
    kern_table ref, t;
    check_begin(argc, argv);
    kern_table_init(&ref, 0);
    for (size_t i = 0; i < COUNT_OF(rung_names); i++) {
        if (!rung_table(i, &t)) continue;
        report_recall(&ref, &t);
        report_absorb(&ref, &t);
        report_conv(&ref, &t);
        report_scan("scan_each", ref.scan_each, t.scan_each, true);
        report_scan("scan_delta", ref.scan_delta, t.scan_delta, false);
        report_scan("scan_back", ref.scan_back, t.scan_back, false);
    }
    return check.failed;
}
