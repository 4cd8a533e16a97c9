/* distil_int.h: what distil*.c share. */
#ifndef MOTE_TRAIN_DISTIL_INT_H
#define MOTE_TRAIN_DISTIL_INT_H

#include "tensor/tensor.h"
#include "train/distil.h"

/* Width of the teacher's final states (the student's, when there is no teacher). */
size_t distil_state_width(const distil *d);
/* The divergence of spans (distil_span.c), divided by sum_weight. ours, theirs: final rows. NULL: out of memory. At least one span. */
var *distil_span_loss(tape *t, var *ours, const ad_head *head, var *theirs, const ad_head *their_head, const data_batch *b, const distil_aligned *a,
                      double sum_weight);
/* Inputs of the matrices behind attention and in front of a feed-forward's end, as passes go by (distil_maps.c). */
enum { DISTIL_MAPS = 2 /* DISTIL_ATTN, DISTIL_FFN, from 0 on */ };
typedef struct distil_maps {
    net *n;
    size_t n_layer;
    const param **w; /* [DISTIL_MAPS, n_layer] or NULL where a layer has none */
    var **seen;      /* … of the last pass */
} distil_maps;
mote_status distil_maps_open(distil_maps *m, net *n, mote_error *err);
void distil_maps_close(distil_maps *m);
/* From watch to unwatch passes leave their maps behind. */
void distil_maps_watch(distil_maps *m);
void distil_maps_unwatch(distil_maps *m);
/* NULL: layer il has none. */
const param *distil_maps_weight(const distil_maps *m, size_t kind, size_t il);
var *distil_maps_seen(const distil_maps *m, size_t kind, size_t il);
/* A look at the first `most` tokens of a batch of one sequence: the mean divergence of the student from the teacher (its cross-entropy, without one),
 * and the mean final state, or NULL. */
mote_status distil_look(distil *d, tape *t, const data_batch *b, size_t most, double *loss, float *mean, uint64_t *tokens, mote_error *err);

#endif
