/* kern_peak_test.c: the loops that measure a core's limits do as many products as they say, on every rung, and the
 * reads read everything. With --report, what they reach. */
#include "kern/check.h"
#include "kernel/peak.h"

enum { TIMES = 100 }; /* float sums stay exact */

static _Alignas(64) unsigned char io[KERN_PEAK_IO];

/* Every lane of every accumulator, against the definition. */
static double form_error(const kern_peak *p, size_t f) {
    size_t wrong = 0;
    const double expected = TIMES * kern_peak_step(p);
    kern_peak_fill(p, io);
    p->form[f].run(TIMES, io);
    for (size_t j = 0; j < KERN_PEAK_ACCS; j++)
        for (size_t l = 0; l < 16; l++) {
            float x;
            uint32_t n;
            const unsigned char *at = io + 128 + 64 * j + 4 * l;
            memcpy(&x, at, 4);
            memcpy(&n, at, 4);
            const bool used = j < p->form[f].n && l < p->lanes;
            const bool same = p->unit == KERN_INT8 ? n == (used ? (uint32_t)expected : 0) : (double)x == (used ? expected : 0);
            wrong += !same;
        }
    return (double)wrong;
}

static double giga_ops(const kern_peak *p, size_t f) {
    double ns;
    TIME_NS(ns, p->form[f].run(10000, io));
    return 10000.0 * p->form[f].n * p->ops / ns;
}

static void check_peaks(const kern_peaks *all) {
    for (size_t i = 0; i < all->n; i++)
        for (size_t f = 0; f < KERN_PEAK_FORMS; f++) {
            const kern_peak *p = all->peak[i];
            char name[80], speed[40] = "";
            (void)snprintf(name, sizeof name, "%s x%u", p->name, p->form[f].n);
            (void)snprintf(check.what, sizeof check.what, "%s", name);
            const double wrong = form_error(p, f);
            if (check.bench || check.report) (void)snprintf(speed, sizeof speed, "%.0f GOP/s", giga_ops(p, f));
            if (wrong > 0) check.failed = true;
            if (check.report)
                report_row("peak", name, wrong > 0 ? "wrong lanes" : "exact", "exact", wrong > 0 ? "FAIL" : "ok", speed, check.rung);
            else printf("%-4s %-34s %-12s %s\n", wrong > 0 ? "FAIL" : "ok", name, check.rung, speed);
        }
}

/* One changed byte, wherever it is, changes what was read; nothing beyond is touched. */
static void check_reads(const kern_peaks *all) {
    enum { BYTES = 8192 };
    uint64_t (*const reads[])(const void *, size_t) = {all->read, all->read4};
    guarded g = guarded_new(BYTES);
    for (size_t r = 0; r < 2; r++) {
        memset(g.p, 0, BYTES);
        size_t missed = 0;
        (void)snprintf(check.what, sizeof check.what, "read %zu", r);
        for (size_t i = 0; i < BYTES; i += 8) { /* the words that are folded together have one value each */
            memset(g.p + i, 1, 8);
            /* a register wider than 8 bytes is folded to its first word: look at those */
            missed += i % 64 == 0 && reads[r](g.p, BYTES) == 0;
            memset(g.p + i, 0, 8);
        }
        verdict(r ? "read, 4 streams" : "read, 1 stream", (double)missed, 0, 0, "");
    }
    guarded_free(&g);
}

int main(int argc, char **argv) {
    check_begin(argc, argv);
    for (size_t i = 0; i < sizeof rung_names / sizeof rung_names[0]; i++) {
        int ok;
        const uint32_t mask = cpu_mask_by_name(rung_names[i], &ok);
        if ((mask & cpu_detect()) != mask) continue;
        kern_peaks p;
        check.rung = rung_names[i];
        kern_peaks_init(&p, mask);
        check_reads(&p);
        if (mask == cpu_detect()) check_peaks(&p); /* the highest rung has all there are */
    }
    return check.failed;
}
