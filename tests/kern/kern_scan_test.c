/* kern_scan_test.c: the recurrences of every rung against the scalar ones: odd numbers of rows, narrow tiles,
 * several tokens one after the other, buffers that end at a guard page. */
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
                       .in = floats(&i->in), .out = floats(&i->out), .x = floats(&i->x), .probe = floats(&i->probe), .back = floats(&i->back),
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
        for (size_t w = 1; w <= KERN_SCAN_W; w += w < 3 ? 1 : w == 3 ? 5 : 8)
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
        (void)snprintf(speed, sizeof speed, "%.0f ns for 128 x 16", fast);
        drop_inputs(&i);
    }
    verdict(name, error, 1e-12, fast > 0 ? slow / fast : 0, speed);
}

int main(int argc, char **argv) {
    kern_table ref, t;
    check_begin(argc, argv);
    kern_table_init(&ref, 0);
    for (size_t i = 0; i < COUNT_OF(rung_names); i++) {
        if (!rung_table(i, &t)) continue;
        report_scan("scan", ref.scan, t.scan, false);
        report_scan("scan_each", ref.scan_each, t.scan_each, true);
        report_scan("scan_delta", ref.scan_delta, t.scan_delta, false);
        report_scan("scan_back", ref.scan_back, t.scan_back, false);
    }
    return check.failed;
}
