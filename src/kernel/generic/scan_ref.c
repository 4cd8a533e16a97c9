/* scan_ref.c: the recurrences, plainly. */
#include "kernel/generic/ref.h"

/* Sums run over even and odd rows apart, as the vector versions do. */
static void probe(const kern_scan *a, bool decayed, float *known) {
    float sum[2][KERN_SCAN_W] = {{0}};
    for (size_t i = 0; i < a->n; i++)
        for (size_t c = 0; c < a->w; c++) {
            float s = a->s[i * a->w + c];
            if (decayed) s *= a->decay[i * a->decay_step];
            sum[i % 2][c] += s * a->probe[i];
        }
    for (size_t c = 0; c < a->w; c++) known[c] = sum[0][c] + sum[1][c];
}

static void step(const kern_scan *a, bool each, const float *x, const float *known) {
    float sum[2][KERN_SCAN_W] = {{0}};
    for (size_t i = 0; i < a->n; i++)
        for (size_t c = 0; c < a->w; c++) {
            float *s = a->s + i * a->w + c;
            *s = *s * a->decay[each ? i * a->w + c : i * a->decay_step] + a->in[i] * x[c];
            if (known) *s += a->back[i] * known[c];
            sum[i % 2][c] += *s * a->out[i];
        }
    for (size_t c = 0; c < a->w; c++) a->y[c] = sum[0][c] + sum[1][c] + (a->add ? a->y[c] : 0);
}

void kern_scan_ref(const kern_scan *a) { step(a, false, a->x, NULL); }

void kern_scan_each_ref(const kern_scan *a) { step(a, true, a->x, NULL); }

void kern_scan_delta_ref(const kern_scan *a) {
    float missing[KERN_SCAN_W];
    probe(a, true, missing);
    for (size_t c = 0; c < a->w; c++) missing[c] = (a->x[c] - missing[c]) * a->beta;
    step(a, false, missing, NULL);
}

void kern_scan_back_ref(const kern_scan *a) {
    float known[KERN_SCAN_W];
    probe(a, false, known);
    step(a, false, a->x, known);
}
