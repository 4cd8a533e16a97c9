/* nmse.h: how far x is from y: Σ (x - y)² / Σ y². */
#ifndef MOTE_TESTS_NMSE_H
#define MOTE_TESTS_NMSE_H

#include <stddef.h>

static inline double nmse(const float *x, const float *y, size_t n) {
    double d = 0, all = 0;
    for (size_t i = 0; i < n; i++) {
        d += ((double)x[i] - (double)y[i]) * ((double)x[i] - (double)y[i]);
        all += (double)y[i] * (double)y[i];
    }
    return d / all;
}

#endif
