/* runlog.h: what a run of training leaves to be read: a line of JSON per step, the loss curve as SVG, a page of Markdown. */
#ifndef MOTE_TRAIN_RUNLOG_H
#define MOTE_TRAIN_RUNLOG_H

#include "mote/train.h"
#include "base/base.h"

typedef struct runlog runlog;
/* DIR/log.jsonl; lines of steps after `at` (from which the run goes on) are dropped. */
mote_status runlog_open(runlog **out, const char *dir, uint64_t at, mote_error *err);
void runlog_close(runlog **r);
mote_status runlog_step(runlog *r, const mote_train_progress *p, mote_error *err);
/* Writes DIR/loss.svg and DIR/report.md. title: of the page; facts: an object of names and values, in its order. */
mote_status runlog_finish(runlog *r, const char *title, const json_t *facts, mote_error *err);
const char *runlog_curve(const runlog *r);
/* Of the logged steps: mean loss of the last tenth, last and least held-out loss (NaN: none). */
double runlog_loss(const runlog *r);
double runlog_eval(const runlog *r, double *least);

#endif
