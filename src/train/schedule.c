#include "train/schedule.h"

#include <math.h>
#include <string.h>

static const char *const names[] = {"constant", "cosine", "linear", "wsd"};

static double course_at(const schedule *s, uint64_t i) {
    if (i < s->warmup) return (double)(i + 1) / (double)s->warmup;
    if (s->kind == SCHEDULE_CONSTANT || s->steps <= s->warmup) return 1;
    uint64_t from = s->warmup;
    if (s->kind == SCHEDULE_WSD) from = s->decay < s->steps - from ? s->steps - s->decay : from;
    if (i < from) return 1;
    double x = (double)(i - from) / (double)(s->steps - from); /* 0 at the first falling step, near 1 at the last */
    if (x > 1) x = 1;
    double left = 1 - x;
    if (s->kind == SCHEDULE_COSINE) left = 0.5 * (1 + cos(3.14159265358979323846 * x));
    else if (s->kind == SCHEDULE_WSD && s->sqrt_decay) left = 1 - sqrt(x);
    return s->floor + (1 - s->floor) * left;
}

double schedule_at(const schedule *s, uint64_t i) {
    double factor = 1;
    for (size_t k = 0; k < s->n_stages && s->stages[k].from <= i; k++) factor = s->stages[k].factor;
    return factor * course_at(s, i);
}

const char *schedule_name(schedule_kind k) { return names[k]; }

bool schedule_find(const char *name, schedule_kind *out) {
    for (size_t k = 0; k < sizeof names / sizeof *names; k++)
        if (strcmp(names[k], name) == 0) {
            *out = (schedule_kind)k;
            return true;
        }
    return false;
}
