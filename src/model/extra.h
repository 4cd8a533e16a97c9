/* extra.h: extra heads inside src/model: early exits (exits.c), guesses for speculation (guess.c). */
#ifndef MOTE_MODEL_EXTRA_H
#define MOTE_MODEL_EXTRA_H

#include "model/arch.h"

struct exiting;
struct guessing;

/* ---- extra.c ---- */
/* z[n, n_embd]: what the output matrix multiplies for rows x[at[i]] (at NULL: x[i]) of the residual stream. Barrier. */
void extra_rows(fwd *f, const extra_head *e, const float *x, const int32_t *at, size_t n, float *z);
/* z[n_embd]: what Medusa head e makes of x (the residual stream, or the z of the head before) and of token id. z may not be x. Barrier. */
void extra_ahead(fwd *f, const extra_head *e, const float *x, int32_t id, float *z);
/* The probability of the likeliest among the 16 likeliest of y; *best (or NULL): its index. Equal for any y with the same 16
 * greatest. */
float extra_sure(const float *y, size_t n, size_t *best);
/* The probability that the likeliest token of z must have among its 16 likeliest (extra_sure), for the exit to be as sure as `threshold`. */
float extra_needs(const model *m, const extra_head *e, const float *z, float threshold);
/* logits.c: the first `few` (0: all) logits of n rows of z, [n, few]. Barrier. */
void fwd_logits(fwd *f, const float *z, size_t n, size_t few, float *logits);
/* logits.c: the logits [n_likely] of the tokens that guesses are among, of z. Barrier. */
void fwd_likely(fwd *f, const float *z, float *logits);
/* logits.c: with n_want 1: what the batch wants of the logits of z, and how sure they are. Barrier. */
float fwd_answer(fwd *f, const float *z, float threshold);

/* Memory for what lay_out takes: called with a bump without memory, to measure, then with the memory itself (and b->base set).
 * what: whose, for the error. */
mote_status extra_room(const state *s, void (*lay_out)(const state *s, void *part, bump *b), void *part, const char *what, unsigned char **mem, size_t *bytes,
                       mote_error *err);

/* ---- exits.c: a pass whose tokens may leave ---- */
enum { EXITS_WAIT = 8 }; /* tokens of a sequence that wait for a later one, at most: one more, and all go on */
mote_status exits_open(state *s, mote_error *err);
void exits_close(state *s);
size_t exits_bytes(const state *s);
/* How many tokens at the end of a sequence wait in the middle of the layers. */
size_t exits_waiting(const state *s, size_t seq);
void exits_cut(state *s, size_t seq, size_t n); /* the sequence ends before position n */
void exits_copy(state *s, size_t dst, size_t src);
/* Before a pass, by one thread: whether tokens may leave or join in it. */
void exits_begin(state *s, const model_batch *b);
/* Before layer il runs: the rows that go on, and those that waited for them, become f's. Barrier where something happens. */
void exits_before_layer(fwd *f, size_t il);
/* The row of z of batch row `row` that an exit answered, or NULL: then *place is where it lies in the stream. */
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
void fwd_rotations(fwd *f); /* of all rows, by their positions. No barrier. */
void fwd_layer(fwd *f, const layer *l);
fwd fwd_of(state *s, const model_batch *b, int ith, int nth);

#endif
