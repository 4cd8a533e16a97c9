#include "spec_props.h"

#include "heads_file.h"
#include "run/spec.h"

#include <stdlib.h>
#include <unistd.h>

enum { CTX = 96, PROMPT = 40, TOKENS_MAX = 160 };

/* A generation and what it left behind. */
typedef struct trace {
    int32_t ids[TOKENS_MAX];
    size_t n;
    mote_gen_result r;
    int32_t left[CTX];
    size_t n_left;
    float *logits, *after; /* [n_vocab] of the end; and one token later */
} trace;

typedef struct bench {
    const spec_props_opts *o;
    spec_props_result *r;
    mote_engine *e;
    mote_model *m;
    size_t vocab;
    bool can_exit; /* the model keeps no state but keys and values */
    int32_t prompt[PROMPT];
    rng rng;
    trace plain, spec;
} bench;

typedef struct how {
    const char *name;
    bool greedy, shift;
    size_t n_predict, n_batch, n_max;
    mote_sample_opts sample;
} how;

static int keep_id(void *ctx, const mote_piece *p) {
    trace *t = ctx;
    if (p->id >= 0 && t->n < TOKENS_MAX) t->ids[t->n++] = p->id;
    return 0;
}

/* ---- a proposer that knows what is coming, and lies now and then ---- */

typedef struct parrot {
    const trace *knows;
    rng rng;
    size_t n_vocab;
    unsigned lies; /* of 16 */
} parrot;

static mote_status parrot_begin(proposer *p, const int32_t *ids, size_t n, const mote_sampler *s, mote_error *err) {
    (void)p, (void)ids, (void)n, (void)s, (void)err;
    return MOTE_OK;
}

static mote_status parrot_propose(proposer *p, const spec_ask *a, proposal *out, mote_error *err) {
    parrot *it = p->self;
    (void)err;
    size_t said = a->sp->n_tokens; /* drawn so far: the next is ids[said] */
    for (out->n = 0; out->n < a->max && said + out->n < it->knows->n; out->n++) {
        int32_t id = it->knows->ids[said + out->n];
        if (rng_below(&it->rng, 16) < it->lies) id = (int32_t)rng_below(&it->rng, (uint32_t)it->n_vocab);
        out->ids[out->n] = id;
        out->level[out->n] = 0;
    }
    return MOTE_OK;
}

static void parrot_close(proposer *p) { (void)p; }
static size_t parrot_memory(const proposer *p) { return (void)p, 0; }

/* ---- one generation ---- */

static mote_status open_session(const bench *b, const how *h, mote_session **s, mote_error *err) {
    mote_session_opts o = mote_session_opts_default();
    o.n_ctx = CTX;
    o.n_batch = h->n_batch;
    o.type_k = o.type_v = b->o->cache_type;
    o.exact = b->o->exact;
    o.checkpoint_every = 16;
    o.context_shift = h->shift;
    return mote_session_open(s, b->m, &o, err);
}

typedef enum guesser { NOBODY, NGRAM, DRAFT, BOTH_AUTO, PARROT, MEDUSA, EXIT, GUESSERS } guesser;
static const char *const guesser_names[] = {"plain", "n-grams", "a draft model", "auto", "a parrot", "Medusa heads", "an early exit"};

static mote_status open_guesser(const bench *b, const how *h, guesser who, parrot *it, mote_session *s,
                                mote_speculator **sp, mote_error *err) {
    mote_spec_opts o = mote_spec_opts_default();
    *sp = NULL;
    if (who == NOBODY) return MOTE_OK;
    o.ngram = who == NGRAM || who == BOTH_AUTO;
    o.draft = who == DRAFT || who == BOTH_AUTO ? b->m : NULL;
    o.medusa = who == MEDUSA || who == BOTH_AUTO;
    o.exit = who == EXIT || (who == BOTH_AUTO && b->can_exit);
    o.n_max = h->n_max;
    o.always = who != BOTH_AUTO;
    TRY(mote_speculator_open(sp, s, &o, err));
    if (who != PARROT) return MOTE_OK;
    (*sp)->by[(*sp)->n_by++] = (proposer){.name = "parrot", .self = it, .begin = parrot_begin, .odds.memory = 32,
                                          .propose = parrot_propose, .close = parrot_close, .memory = parrot_memory};
    return MOTE_OK;
}

static mote_status generate(bench *b, const how *h, guesser who, trace *t, mote_error *err) {
    mote_session *s = NULL;
    mote_sampler *smp = NULL;
    mote_speculator *sp = NULL;
    mote_status st;
    parrot it = {.knows = &b->plain, .rng = b->rng, .n_vocab = b->vocab, .lies = 3};
    mote_gen_opts o = mote_gen_opts_default();
    o.n_predict = h->n_predict;
    o.on_piece = keep_id;
    o.ctx = t;
    o.ignore_end = true;
    t->n = 0;
    t->r.size = sizeof t->r;
    TRYG(st, open_session(b, h, &s, err));
    if (!h->greedy) TRYG(st, mote_sampler_open(&smp, b->m, &h->sample, err));
    TRYG(st, open_guesser(b, h, who, &it, s, &sp, err));
    o.sampler = smp;
    o.speculator = sp;
    TRYG(st, mote_complete_ids(s, 0, b->prompt, PROMPT, &o, &t->r, err));
    t->n_left = mote_session_length(s, 0);
    memcpy(t->left, mote_session_tokens(s, 0), t->n_left * sizeof *t->left);
    mote_speculator_close(&sp); /* the session's logits are its own again */
    if (!mote_session_logits(s, 0)) FAILG(st, err, MOTE_E_MISMATCH, "no logits at the end");
    memcpy(t->logits, mote_session_logits(s, 0), b->vocab * sizeof *t->logits);
    if (t->n_left == CTX) goto out;
    TRYG(st, mote_session_append(s, 0, b->prompt, 1, err));
    memcpy(t->after, mote_session_logits(s, 0), b->vocab * sizeof *t->after);
out:
    mote_speculator_close(&sp);
    mote_sampler_close(&smp);
    mote_session_close(&s);
    return st;
}

static mote_status compare(bench *b, const how *h, guesser who, mote_error *err) {
    const trace *x = &b->plain, *y = &b->spec;
    const char *name = guesser_names[who];
    size_t i = 0;
    while (i < MIN(x->n, y->n) && x->ids[i] == y->ids[i]) i++;
    if (i < x->n || x->n != y->n)
        FAIL(err, MOTE_E_MISMATCH, "%s with %s: token %zu of %zu (%zu without) differs", h->name, name, i, y->n, x->n);
    if (x->r.finish != y->r.finish || x->r.n_generated != y->r.n_generated || x->r.n_shifted != y->r.n_shifted)
        FAIL(err, MOTE_E_MISMATCH, "%s with %s: it ended otherwise", h->name, name);
    if (x->n_left != y->n_left || memcmp(x->left, y->left, x->n_left * sizeof *x->left) != 0)
        FAIL(err, MOTE_E_MISMATCH, "%s with %s: the sequence holds %zu tokens, expected %zu", h->name, name,
             y->n_left, x->n_left);
    if (memcmp(x->logits, y->logits, b->vocab * sizeof *x->logits) != 0)
        FAIL(err, MOTE_E_MISMATCH, "%s with %s: other logits at the end", h->name, name);
    if (x->n_left < CTX && memcmp(x->after, y->after, b->vocab * sizeof *x->after) != 0)
        FAIL(err, MOTE_E_MISMATCH, "%s with %s: other logits a token later", h->name, name);
    b->r->n_tokens += y->n;
    b->r->n_guessed += y->r.n_drafted;
    b->r->n_accepted += y->r.n_accepted;
    if (who == MEDUSA || who == EXIT) b->r->n_by_heads += y->r.n_drafted;
    if (y->r.n_accepted > y->r.n_drafted) FAIL(err, MOTE_E_MISMATCH, "more guesses accepted than made");
    return MOTE_OK;
}

static mote_status check(bench *b, const how *h, mote_error *err) {
    TRY(generate(b, h, NOBODY, &b->plain, err));
    for (guesser who = NGRAM; who < GUESSERS; who++) {
        if (who == EXIT && !b->can_exit) continue;
        mote_status st = generate(b, h, who, &b->spec, err);
        if (st != MOTE_OK) return err_prefix(err, st, "%s with %s", h->name, guesser_names[who]);
        TRY(compare(b, h, who, err));
    }
    return MOTE_OK;
}

static mote_status check_all(bench *b, mote_error *err) {
    mote_sample_opts cold = mote_sample_opts_default();
    cold.seed = b->o->seed + 1;
    cold.temp = 0.3f;
    mote_sample_opts warm = cold, punish = cold, miro = cold;
    warm.temp = 1;
    warm.typical_p = 0.95f;
    punish.temp = 0.7f;
    punish.repeat_penalty = 1.3f;
    punish.dry_multiplier = 0.8f;
    punish.xtc_probability = 0.5f;
    miro.mirostat = 2;
    const how ways[] = {
        {.name = "greedy", .greedy = true, .n_predict = 50, .n_batch = 64, .n_max = 8},
        {.name = "penalties, DRY and XTC", .n_predict = 50, .n_batch = 64, .n_max = 16, .sample = punish},
        {.name = "temperature 1", .n_predict = 40, .n_batch = 64, .n_max = 3, .sample = warm},
        {.name = "to a full context", .greedy = true, .n_batch = 64, .n_max = 16},
        {.name = "shifting the context", .n_predict = 120, .n_batch = 64, .n_max = 8, .shift = true, .sample = cold},
        {.name = "a batch of 3", .greedy = true, .n_predict = 30, .n_batch = 3, .n_max = 16},
        {.name = "mirostat", .n_predict = 40, .n_batch = 64, .n_max = 8, .sample = miro},
    };
    for (size_t i = 0; i < (b->o->quick ? 3 : COUNT_OF(ways)); i++) TRY(check(b, &ways[i], err));
    return MOTE_OK;
}

/* Heads of no great wisdom: an exit behind the first layer, and three tokens ahead. */
static mote_status open_with_heads(bench *b, const char *path, mote_error *err) {
    char name[] = "/tmp/mote_heads_XXXXXX";
    heads_plan p = {.layer = {1, 1, 1, 1}, .offset = {0, 1, 2, 3}, .n = 4, .size = 0.01f, .n_likely = 16, .seed = b->o->seed};
    mote_model_opts mo = mote_model_opts_default();
    mote_model *bare = NULL;
    int fd = mkstemp(name);
    if (fd < 0) FAIL(err, MOTE_E_IO, "no file for heads");
    (void)close(fd);
    mote_status st = mote_model_open(&bare, b->e, path, NULL, err);
    if (st == MOTE_OK) {
        const int32_t n_layer = (int32_t)bare->info->n_layer;
        if (n_layer == 1) p = (heads_plan){.layer = {1, 1, 1}, .offset = {1, 2, 3}, .n = 3, .size = 0.01f};
        for (size_t i = 0; i < p.n; i++)
            if (p.offset[i]) p.layer[i] = n_layer;
        st = heads_file_write(name, path, &p, err);
    }
    mote_model_close(&bare);
    mo.heads = name;
    if (st == MOTE_OK) st = mote_model_open(&b->m, b->e, path, &mo, err);
    if (st == MOTE_OK) b->can_exit = mote_model_n_heads(b->m, MOTE_HEADS_DRAFTS) > 0;
    (void)unlink(name);
    return st;
}

mote_status spec_props(const char *path, const spec_props_opts *o, spec_props_result *r, mote_error *err) {
    bench *b = MEM_NEW(bench);
    mote_status st;
    if (!b) FAIL(err, MOTE_E_MEMORY, "out of memory");
    b->o = o;
    b->r = r;
    *r = (spec_props_result){0};
    rng_seed(&b->rng, o->seed, 9);
    mote_engine_opts eo = mote_engine_opts_default();
    eo.n_threads = 1;
    TRYG(st, mote_engine_open(&b->e, &eo, err));
    TRYG(st, open_with_heads(b, path, err));
    b->vocab = mote_model_n_vocab(b->m);
    float **rows[] = {&b->plain.logits, &b->plain.after, &b->spec.logits, &b->spec.after};
    for (size_t i = 0; i < COUNT_OF(rows); i++)
        if (!(*rows[i] = MEM_NEW_N(float, b->vocab))) FAILG(st, err, MOTE_E_MEMORY, "out of memory");
    for (size_t i = 0; i < PROMPT; i++) /* twelve tokens over and over, and some noise */
        b->prompt[i] = (int32_t)(i % 5 ? 10 + i % 12 * 7 : rng_below(&b->rng, (uint32_t)b->vocab));
    st = check_all(b, err);
    if (st == MOTE_OK && r->n_by_heads == 0) st = ERR(err, MOTE_E_MISMATCH, "the heads have guessed nothing");
out:
    mem_free(b->plain.logits);
    mem_free(b->plain.after);
    mem_free(b->spec.logits);
    mem_free(b->spec.after);
    mote_model_close(&b->m);
    mote_engine_close(&b->e);
    mem_free(b);
    return st;
}
