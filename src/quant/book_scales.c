/* book_scales.c: which d suits a super-block whose sub-blocks' scales are small integers times it: read off their errors under a few
 * scales each, so that many values of d cost nothing. */
#include "quant/book.h"
#include "quant/fit.h"

#include <math.h>

#define STEP 8.0f /* coarse scales per factor of two */
#define MIDDLE ((float)(BOOK_COARSE - 1) / 2)

float book_step(int t) {
    static const float step[BOOK_COARSE] = {0.620928906f, 0.677127773f, 0.738413072f, 0.805245166f, 0.878126080f, 0.957603281f,
                                            1.04427378f,  1.13878863f,  1.24185781f,  1.35425555f,  1.47682615f,  1.61049033f};
    return step[t];
}

void book_centres(book_scales *k, const float *x, const float *w) {
    const int size = k->f->per_scale;
    for (int sub = 0; sub < k->n_subs; sub++, x += size, w += size) {
        float sum = 0, energy = 0;
        for (int i = 0; i < size; i++) {
            sum += w[i];
            energy += w[i] * x[i] * x[i];
        }
        k->energy[sub] = energy;
        k->centre[sub] = sum > 0 ? sqrtf(energy / sum) / k->f->typical : 0;
    }
}

/* The error of a scale at place t among the coarse ones, read between them; beyond them it grows as if nothing could follow. */
static float read_error(const book_scales *k, int sub, float t) {
    const float *err = k->err[sub], last = (float)(BOOK_COARSE - 1);
    float beyond = (t <= 0 ? t : 2 * (t - last)) / STEP;
    if (t <= 0) return err[0] + k->energy[sub] * beyond * beyond;
    if (t >= last) return err[BOOK_COARSE - 1] + k->energy[sub] * beyond * beyond;
    int i = (int)t;
    return err[i] + (t - (float)i) * (err[i + 1] - err[i]);
}

int book_nearest(const book_format *f, float d, float s) {
    float n = (s / d - f->add) / f->mul;
    return n <= 0 ? 0 : n >= (float)f->top ? f->top : (int)lrintf(n);
}

/* The place of a sub-block's best coarse scale, refined by a parabola. */
static float best_place(const book_scales *k, int sub) {
    const float *e = k->err[sub];
    int t = 0;
    for (int i = 1; i < BOOK_COARSE; i++) t = e[i] < e[t] ? i : t;
    if (t == 0 || t == BOOK_COARSE - 1) return (float)t;
    float bend = e[t - 1] - 2 * e[t] + e[t + 1];
    return (float)t + (bend > 0 ? 0.5f * (e[t - 1] - e[t + 1]) / bend : 0);
}

float book_choose_d(book_scales *k) {
    enum { TRIALS = 20, LOWER = 9 };
    float log_centre[BOOK_SUBS_MAX], far = 0, least = INFINITY, best = 0, places[16];
    for (int sub = 0; sub < k->n_subs; sub++) {
        bool some = k->centre[sub] > 0;
        k->ideal[sub] = some ? k->centre[sub] * exp2f((best_place(k, sub) - MIDDLE) / STEP) : 0;
        log_centre[sub] = some ? log2f(k->centre[sub]) : 0;
        far = MAX(far, k->ideal[sub]);
    }
    if (far <= 0) return 0;
    for (int n = 0; n <= k->f->top; n++) places[n] = STEP * log2f(book_factor(k->f, n)) + MIDDLE;
    for (int trial = 0; trial < TRIALS; trial++) {
        float d = far / book_factor(k->f, k->f->top) * exp2f((float)(trial - LOWER) / 16), err = 0, log_d = log2f(d);
        for (int sub = 0; sub < k->n_subs; sub++) {
            if (k->ideal[sub] <= 0) continue;
            float at = STEP * (log_d - log_centre[sub]), e = INFINITY;
            int n = book_nearest(k->f, d, k->ideal[sub]);
            for (int c = MAX(n - 1, 0); c <= MIN(n + 1, k->f->top); c++) e = MIN(e, read_error(k, sub, at + places[c]));
            err += e;
        }
        if (err < least) {
            least = err;
            best = d;
        }
    }
    return best;
}
