/* scan_ref.c: recurrences and convolutions, plainly. */
#include "kernel/generic/ref.h"

#include <math.h>

/* ---- token by token ---- */

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
            float decay = each ? expf(a->decay[i * a->w + c] * a->pace[c]) : a->decay[i * a->decay_step];
            *s = *s * decay + a->in[i] * x[c];
            if (known) *s += a->back[i] * known[c];
            sum[i % 2][c] += *s * a->out[i];
        }
    for (size_t c = 0; c < a->w; c++) a->y[c] = sum[0][c] + sum[1][c] + (a->add ? a->y[c] : 0);
}

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

/* ---- in chunks ---- */
void kern_recall_ref(const kern_recall *a) {
    for (size_t t = 0; t < a->m; t++)
        for (size_t j = 0; j < a->w; j++) {
            float s = a->pre[t] * a->read[t * a->ld_read + j];
            if (a->x) s = fmaf(a->by, a->x[t * a->ldx + j], s);
            for (size_t u = 0; a->past && u < a->first + t; u++)
                s = fmaf(a->coef[t * KERN_CHUNK + u], a->past[u * a->ld_past + j], s);
            a->y[t * a->ldy + j] = a->post ? s * a->post[t] : s;
        }
}

void kern_absorb_ref(const kern_absorb *a) {
    for (size_t i = 0; i < a->n; i++)
        for (size_t j = 0; j < a->w; j++) {
            float s = a->decay * a->s[i * a->ld + j];
            for (size_t u = 0; u < a->k; u++) s = fmaf(a->in[u][i], a->x[u * a->ldx + j], s);
            a->s[i * a->ld + j] = s;
        }
}

/* ---- convolution ---- */
void kern_conv_ref(const kern_conv *a) {
    for (size_t i = 0; i < a->n; i++) {
        float s = a->x[0][i] * a->w[i];
        for (size_t j = 1; j < a->k; j++) s = fmaf(a->x[j][i], a->w[j * a->ldw + i], s);
        a->y[i] = kern_act_ref(a->act, a->bias ? s + a->bias[i] : s);
    }
}
