/* run.h: engines, opened models and sessions, as the rest of mote sees them. include/mote says what each is
 * for; here are their insides and the functions behind the public ones (src/api only checks arguments).
 *
 * Invariants
 *   - seqs[i].ids[0 … n) are the tokens whose caches `st` holds for sequence i: n == state_seq_len(st, i).
 *   - A checkpoint of sequence q at position p was taken when the first p tokens of q were what they are now.
 *   - Everything is allocated when it opens. Feeding tokens and drawing allocates nothing.
 *   - model_forward runs under the engine's lock: sessions of one engine take turns. */
#ifndef MOTE_RUN_RUN_H
#define MOTE_RUN_RUN_H

#include "base/base.h"
#include "model/model.h"
#include "mote/engine.h"
#include "mote/eval.h"
#include "mote/generate.h"
#include "mote/session.h"
#include "run/sampler.h"
#include "tensor/tensor.h"
#include "run/tuner.h"
#include "token/token.h"

#include <pthread.h>
#include <stdatomic.h>

/* ---- engine.c ---- */
struct mote_engine {
    atomic_size_t refs;
    pool *pool;
    pthread_mutex_t lock;
    bool tune;         /* no number of threads was asked for: each model finds its own */
    uint32_t cpu_mask; /* for model_opts */
    log_sink log;
};
mote_status engine_open(mote_engine **out, const mote_engine_opts *o, mote_error *err);
void engine_release(mote_engine *e); /* NULL-safe; frees at the last one */

struct mote_model {
    atomic_size_t refs;
    mote_engine *engine;
    model *m;              /* NULL: opened without weights */
    model_file *own_file;  /* then the file, unless it is a tokenizer.json */
    const model_file *file;
    const model_info *info; /* NULL without weights */
    tok_vocab *vocab;       /* NULL: see vocab_error */
    mote_error vocab_error;
    char *path;
    char arch[64], name[128];
    size_t n_ctx_train, n_embd;
    run_tuner decoding, prefill; /* threads of passes; under the engine's lock */
    size_t n_embed_max; /* tokens of a text that is embedded; 0: n_ctx_train */
};
mote_status run_model_open(mote_model **out, mote_engine *e, const char *path, const mote_model_opts *o,
                           mote_error *err);
void run_model_release(mote_model *m); /* NULL-safe */
mote_model *run_model_retain(const mote_model *m);
/* The tokenizer, or the reason why there is none. */
mote_status run_vocab(const mote_model *m, const tok_vocab **v, mote_error *err);
/* Ids of a prompt to be continued: BOS in front when the model wants it and it is not there, nothing behind.
 * flags: TOK_SPECIAL. */
mote_status run_encode_prompt(const mote_model *m, str text, int flags, tok_ids *out, mote_error *err);
mote_status run_put_bos(const tok_vocab *v, tok_ids *ids, mote_error *err);

/* info.c: the JSON of mote_model_info. */
mote_status run_model_info(const mote_model *m, int flags, buf *out, mote_error *err);

/* ---- session.c ---- */
typedef struct run_seq {
    int32_t *ids; /* [n_ctx] */
    size_t n;
    size_t n_keep;       /* what a context shift keeps of the start */
    const float *logits; /* after the last token; NULL when they are not at hand: run_logits */
    const float *hidden; /* the row that they can be computed from, or NULL */
} run_seq;

/* Tokens to append to one sequence. After the call its logits are those after the last of them. */
typedef struct run_feed {
    size_t seq;
    const int32_t *ids;
    size_t n;
    size_t mark; /* take a checkpoint when the sequence has this length; 0: none beside the regular ones */
    float *all;       /* [n - all_from, n_vocab]: the logits after every token from all_from on; NULL: the
                         last alone */
    size_t all_from;
    bool all_kept;    /* `all` lives on: the sequence's logits are its last row, not a copy of it */
    bool no_logits;   /* not even the last's */
    const head_query *query; /* one feed without `all`: the next draw needs only these of the logits; or NULL */
} run_feed;
typedef struct run_checkpoint {
    size_t seq, pos; /* pos 0: free */
    uint64_t age;
} run_checkpoint;

struct mote_session {
    atomic_size_t refs;
    mote_model *model;
    state *st;
    mote_session_opts o;
    size_t n_ctx, n_seq, n_batch, n_vocab;
    run_seq *seqs;
    int32_t *id_mem;        /* [n_seq, n_ctx] */
    float *logits;          /* [n_seq, n_vocab] rows of the last call's results */
    float *hidden;          /* [n_seq, n_embd_out] */
    head_found *found;      /* answers the query of the last feed of sequence found_of (SIZE_MAX: of none) */
    size_t found_of;
    model_seg *segs;        /* [n_seq] */
    int32_t *want;          /* [n_batch] */
    int32_t *batch_ids;     /* [n_batch] */
    size_t *fed;            /* [n_seq] tokens done of each feed */
    run_feed *feeds;        /* [n_seq] of run_step_all */
    run_checkpoint *ck;     /* [n_ck] */
    unsigned char *ck_data; /* [n_ck, ck_bytes] */
    size_t n_ck, ck_bytes, ck_every;
    uint64_t ck_age;
    size_t n_shifted; /* tokens dropped by context shifts, ever */
    atomic_int cancel;
    struct prof *prof; /* NULL: not profiled */
    int (*on_progress)(void *ctx, size_t done, size_t total); /* of the current feed; non-zero cancels */
    void *progress_ctx;
};

mote_status run_session_open(mote_session **out, mote_model *m, const mote_session_opts *o, mote_error *err);
void run_session_release(mote_session *s); /* NULL-safe */
void run_session_info(const mote_session *s, mote_session_info *out);
void run_exit_stats(const mote_session *s, mote_exit_stats *out);
size_t run_session_describe(const mote_session *s, char *dst, size_t cap);

/* Appends to up to n_seq different sequences, packing them into passes of n_batch tokens. Errors as
 * mote_session_prompt; what was done until then stays in the sequences. */
mote_status run_feed_all(mote_session *s, const run_feed *feeds, size_t n, mote_error *err);
/* The logits after the sequence's last token, computed now if they were not needed until now; NULL: not at hand. */
const float *run_logits(const mote_session *s, size_t seq);
static inline void run_forget_logits(run_seq *q) { q->logits = q->hidden = NULL; }
mote_status run_prompt(mote_session *s, size_t seq, const int32_t *ids, size_t n, size_t *n_reused,
                       mote_error *err);
mote_status run_append(mote_session *s, size_t seq, const int32_t *ids, size_t n, mote_error *err);
mote_status run_step_all(mote_session *s, const mote_step *steps, size_t n, mote_error *err);
mote_status run_truncate(mote_session *s, size_t seq, size_t n, mote_error *err);
void run_clear(mote_session *s, size_t seq);
void run_copy(mote_session *s, size_t dst, size_t src);
mote_status run_check_seq(const mote_session *s, size_t seq, mote_error *err);
mote_status run_check_ids(const mote_session *s, const int32_t *ids, size_t n, mote_error *err);
/* The pass itself, under the engine's lock. */
mote_status run_forward(mote_session *s, const model_batch *b, mote_error *err);
/* Before caches are saved or shifted: model_settle, under the lock. */
void run_settle(const mote_session *s, size_t seq);
/* model_guess_ahead and model_draft under the engine's lock. */
bool run_guess_ahead(mote_session *s, size_t row, size_t k, int32_t id, model_guessed *out);
mote_status run_draft(mote_session *s, size_t seq, size_t exit, int32_t id, model_guessed *out, mote_error *err);
/* NaN or infinite logits in rows [n, n_vocab] are MOTE_E_OUTPUT. */
mote_status run_check_logits(const mote_session *s, const float *rows, size_t n, mote_error *err);

/* checkpoint.c */
mote_status ck_open(mote_session *s, mote_error *err);
void ck_take(mote_session *s, size_t seq);
/* Makes sequence seq at most n tokens long: cut where the caches allow it, else back to the nearest
 * checkpoint, else emptied. */
void ck_rewind(mote_session *s, size_t seq, size_t n);
/* src's checkpoints become dst's too, as far as slots are free. */
void ck_copy(mote_session *s, size_t dst, size_t src);
void ck_drop(mote_session *s, size_t seq, size_t beyond); /* forgets those at positions > beyond */
size_t ck_next(const mote_session *s, size_t pos);        /* the next regular position > pos, or SIZE_MAX */

/* session_file.c */
mote_status run_save(mote_session *s, size_t seq, const char *path, mote_error *err);
mote_status run_load(mote_session *s, size_t seq, const char *path, mote_error *err);

/* ---- generate.c ---- */
mote_status run_generate(mote_session *s, size_t seq, const int32_t *ids, size_t n, const mote_gen_opts *o,
                         mote_gen_result *r, mote_error *err);
mote_status run_infill_ids(const mote_model *m, str prefix, str suffix, tok_ids *out, mote_error *err);

/* ---- embed.c, perplexity.c, bench.c ---- */
mote_status run_embed(mote_session *s, const char *const *texts, const size_t *n_bytes, size_t n,
                      const mote_embed_opts *o, float *dst, size_t *n_tokens, mote_error *err);
mote_status run_perplexity(mote_session *s, str text, const mote_ppl_opts *o, mote_ppl_result *r,
                           mote_error *err);
mote_status run_bench(mote_session *s, const mote_bench_opts *o, mote_bench_sample *samples, mote_error *err);

/* limits.c */
void run_bench_limits(const mote_session *s, const mote_bench_opts *o, const mote_machine *m, mote_bench_limit *out);
mote_status run_machine(mote_engine *e, bool only_limits, mote_machine *out, mote_error *err);

/* profile.c */
mote_status run_profile_start(mote_session *s, mote_error *err);
void run_profile_stop(mote_session *s);
mote_status run_profile_read(const mote_session *s, int phase, mote_profile_phase *out, mote_error *err);

#endif
