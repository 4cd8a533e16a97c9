/* state.h: inside of a state, for forward.c and state.c. */
#ifndef MOTE_MODEL_STATE_H
#define MOTE_MODEL_STATE_H

#include "model/arch.h"

typedef struct sequence {
    size_t len;          /* positions 0 … len-1 are cached */
    size_t high;         /* highest length since the last clear: windowed rings hold the last cap of these */
    kv_layer *kv;        /* [m->n_kv] */
    unsigned char *rec;  /* recurrent state, m->state_bytes */
} sequence;

/* logits.c: whether to look for the greatest logits alone, and where they may be. */
typedef struct head_policy {
    bool screen, timed;          /* in this pass */
    uint64_t begin_ns, end_ns;
    double full_ns, screen_ns;   /* running means; 0: not known */
    unsigned skip, wait, since_full; /* tokens */
    size_t n_recent;
    int32_t recent[HEAD_SEEDS], seeds[HEAD_SEEDS]; /* panels: the latest first; ascending */
} head_policy;

struct state {
    const model *m;
    pool *pool;
    state_opts opts;
    size_t rows;         /* of a pass: the batch, and tokens that waited (exits.c) */
    sequence *seqs;      /* [n_seq] */
    kv_layer *kv_all;
    unsigned char *cache; /* one aligned block: all keys, values and recurrent states */
    unsigned char *work;  /* one aligned block: everything a pass needs */
    size_t work_bytes, cache_bytes;
    bool work_is_huge, cache_is_huge; /* their pages */
    float *rope_cs[2];
    int32_t *pos;
    float *x, *carry;
    bump mem, scratch;    /* templates: copied into every thread's fwd */
    state_sizes sizes;
    head_policy head;
    prof *prof;           /* of every pass from now on, or NULL; the caller's */
    struct exiting *exits;   /* exits.c; NULL: off */
    struct guessing *guess;  /* guess.c; NULL: no extra heads */
    seen_by seen;         /* fn NULL: nobody; rows owned */
    state_stream_fn *stream; /* NULL: nobody */
    void *stream_ctx;
};

/* logits.c: before a pass, at its end by every thread, after it. */
void head_begin(state *s, const model_batch *b);
void fwd_head(fwd *f);
void head_end(state *s, const model_batch *b);

#endif
