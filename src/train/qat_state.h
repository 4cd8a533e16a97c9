/* qat_state.h: quantization-aware training that goes on from the packed file and a small state, in slot after slot.
 *
 * A packed file says on which level every weight stands, not where in that level's cell it was. The state has the place in the cell with
 * `bits` bits a weight, drawn so that its mean is the true place (what moves by less than a step of it in a slot still moves), the second
 * moments condensed (optim_condensed), and where the run stands. Levels and scales are the packed file's own: state and file belong to each
 * other, and say so. First moments begin anew, as in the first dozen steps of any run.
 *
 * Beside the weights' places: of formats without a grid the distance to the packed weight, with one float for 768 of them; whole floats of what is
 * trained and is not in the packed file as float32. With QAT_SCALES there are no places: scales begin anew at the packed ones.
 *
 * Two files cannot be replaced at once: the state is written to PATH.next, then the packed file, then PATH.next becomes PATH. Whenever the run is
 * killed, one of both belongs to the packed file that is there. */
#ifndef MOTE_TRAIN_QAT_STATE_H
#define MOTE_TRAIN_QAT_STATE_H

#include "train/qat.h"
#include "train/trainer.h"

enum { QAT_STATE_BITS = 6 /* when 0 is asked for */, QAT_STATE_LEAST = 4, QAT_STATE_MOST = 8 };

typedef struct qat_state {
    const char *path;
    qat *q;
    trainer *t;
    const train_param *params; /* the trainer's */
    size_t n_params;
    int bits;                  /* QAT_STATE_LEAST … QAT_STATE_MOST */
    /* Whether the packed file holds the parameter as float32. */
    bool (*in_file)(void *ctx, const var *v);
    void *ctx;
} qat_state;

bool qat_state_there(const char *path); /* PATH or PATH.next */
/* Writes PATH.next. bytes: its size. */
mote_status qat_state_write(const qat_state *s, uint64_t *bytes, mote_error *err);
/* After the packed file is in its place. */
mote_status qat_state_commit(const qat_state *s, mote_error *err);
/* Sets the weights in the net of s->q, which was opened on the packed file, and goes to where the run stood.
 * E_MISMATCH: the state belongs to another packed file, or another run. */
mote_status qat_state_read(const qat_state *s, mote_error *err);

#endif
