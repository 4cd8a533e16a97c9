/* schedule.h: the learning rate over the steps. */
#ifndef MOTE_TRAIN_SCHEDULE_H
#define MOTE_TRAIN_SCHEDULE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum schedule_kind {
    SCHEDULE_CONSTANT,
    SCHEDULE_COSINE, /* Loshchilov and Hutter 2017 */
    SCHEDULE_LINEAR, /* straight down from the warm-up's end */
    SCHEDULE_WSD,    /* warm-up, stable, decay: Hu et al. 2024 (MiniCPM) */
} schedule_kind;

/* From step 'from' on (0 is the first), the whole course times 'factor' (multi-step: DeepSeek LLM 2024, §2.3). */
typedef struct schedule_stage {
    uint64_t from;
    double factor;
} schedule_stage;

enum { SCHEDULE_STAGES = 8 };

typedef struct schedule {
    schedule_kind kind;
    uint64_t steps;   /* of the whole run */
    uint64_t warmup;  /* rises in a straight line: step i has (i + 1) / warmup */
    uint64_t decay;   /* WSD: the last so many steps fall */
    bool sqrt_decay;  /* WSD: as 1 - sqrt(x) in place of 1 - x (Hägele et al. 2024) */
    double floor;     /* what is left at the end, as a share of the peak */
    schedule_stage stages[SCHEDULE_STAGES]; /* rising steps; the last that has begun counts */
    size_t n_stages;
} schedule;

/* The factor of step i (0 is the first): in [0, 1], times its stage's. */
double schedule_at(const schedule *s, uint64_t i);
/* Names as users write them: constant, cosine, linear, wsd. */
const char *schedule_name(schedule_kind k);
bool schedule_find(const char *name, schedule_kind *out);

#endif
