/* extra.h: extra heads inside src/model: early exits (exits.c), guesses for speculation (guess.c). */
#ifndef MOTE_MODEL_EXTRA_H
#define MOTE_MODEL_EXTRA_H

#include "model/arch.h"

struct exiting;
struct guessing;

/* ---- extra.c ---- */
/* z[n, n_embd]: what the output matrix multiplies for rows x[at[i]] (at NULL: x[i]) of the residual stream. Barrier. */
void extra_rows(fwd *f, const extra_head *e, const float *x, const int32_t *at, size_t n, float *z);
/* The probability of the likeliest among the 16 likeliest of y; *best (or NULL): its index. Equal for any y with the same 16
 * greatest. */
float extra_sure(const float *y, size_t n, size_t *best);
/* logits.c: the first `few` (0: all) logits of n rows of z, [n, few]. Barrier. */
void fwd_logits(fwd *f, const float *z, size_t n, size_t few, float *logits);
/* logits.c: with n_want 1: what the batch wants of the logits of z, and how sure they are. Barrier. */
float fwd_answer(fwd *f, const float *z, float threshold);

/* ---- exits.c: a pass whose tokens may leave ---- */
mote_status exits_open(state *s, mote_error *err);
void exits_close(state *s);
size_t exits_bytes(const state *s);
/* Before a pass, by one thread: whether tokens may leave in it. */
void exits_begin(state *s, const model_batch *b);
/* f: the rows that go on; left: those that have left. Both are changed. Before layer il runs. Barrier where something happens. */
void exits_before_layer(fwd *f, fwd *left, size_t il);
/* Keys and values of those that have left, in layer l. */
void exits_fill(fwd *f, fwd *left, const layer *l);
/* The row of z of batch row `row`, or NULL when it went through all layers: then *place is where it lies in the stream. */
const float *exits_row(const state *s, size_t row, size_t *place);
/* The wanted row has left, and the caller has its logits. */
bool exits_answered(const state *s);
void exits_end(state *s);

/* ---- guess.c ---- */
mote_status guess_open(state *s, mote_error *err);
void guess_close(state *s);
size_t guess_bytes(const state *s);
void guess_forget(state *s, size_t seq); /* its caches change otherwise than by a pass */
/* The first so many rows of the batch have been drafted: their streams before layer *from. Forgets the drafts. */
size_t guess_take(state *s, const model_batch *b, const float **streams, size_t *from);
/* Keeps the streams of the wanted rows. Thread: all. */
void guess_keep(fwd *f);

/* ---- forward.c ---- */
/* Embeds rows [first, n) and makes the tables of rotations of all. No barrier. */
void fwd_embed(fwd *f, size_t first);
void fwd_layer(fwd *f, const layer *l);
fwd fwd_of(state *s, const model_batch *b, int ith, int nth);

#endif
