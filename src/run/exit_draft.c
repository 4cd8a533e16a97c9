/* exit_draft.c: the model's first layers and an early exit guess; the pass that judges begins where they ended
 * (model_draft). Source: Elhoushi et al. 2024, LayerSkip: Enabling Early Exit Inference and Self-Speculative Decoding, §4.3. */
#include "run/spec.h"

enum { SURE_STEPS = SPEC_LEVELS - 1 };

typedef struct exit_draft {
    size_t exit;
} exit_draft;

static mote_status begin(proposer *p, const int32_t *ids, size_t n, const mote_sampler *sampler, mote_error *err) {
    (void)p, (void)ids, (void)n, (void)sampler, (void)err;
    return MOTE_OK;
}

static mote_status propose(proposer *p, const spec_ask *a, proposal *out, mote_error *err) {
    const exit_draft *self = p->self;
    const tok_vocab *v = a->sp->s->model->vocab;
    int32_t id = a->ids[a->n - 1];
    out->n = 0;
    if (a->rows > 1) return MOTE_OK; /* the caches lag behind */
    while (out->n < a->max) {
        model_guessed g;
        double begun = (double)clock_ns();
        TRY(run_draft(a->sp->s, a->sp->seq, self->exit, id, &g, err));
        double took = (double)clock_ns() - begun;
        p->token_ns += (took - p->token_ns) / (p->token_ns > 0 ? 8 : 1);
        if (v && tok_is_eog(v, g.id)) break;
        out->ids[out->n] = id = g.id;
        out->level[out->n++] = (unsigned char)MIN((unsigned)(g.sure * SURE_STEPS), (unsigned)SURE_STEPS);
        if (out->n < a->max && !spec_goes_on(a->sp, p, out, a->rows)) break;
    }
    return MOTE_OK;
}

static void close_exit(proposer *p) {
    mem_free(p->self);
    p->self = NULL;
}

static size_t memory(const proposer *p) { return p->self ? sizeof(exit_draft) : 0; }

/* The exit that promises most tokens per time with three guesses: 1 + a + a² + a³ tokens, for a pass and three drafts of so
 * many layers, of which the pass saves two. */
static size_t best_exit(const model *m, size_t n_layer) {
    size_t best = 0;
    double most = 0;
    for (size_t i = 0; i < model_n_exits(m); i++) {
        const model_head h = model_get_exit(m, i);
        const double a = h.accuracy >= 0 ? (double)h.accuracy : 0.5, c = (double)h.layer / (double)n_layer;
        const double speed = (1 + a + a * a + a * a * a) / (1.3 + 1.5 * c);
        if (speed > most) best = i, most = speed;
    }
    return best;
}

mote_status exit_proposer(proposer *p, const mote_session *s, mote_error *err) {
    *p = (proposer){.name = "early exit", .kind = SPEC_EXIT, .begin = begin, .propose = propose, .close = close_exit, .memory = memory,
                    .odds.memory = 32, .average = 0.6};
    for (size_t i = 0; i < SPEC_LEVELS; i++) p->odds.p[i] = 0.2f + 0.6f * (float)i / SURE_STEPS;
    TRY(model_check_drafts(s->model->m, err));
    if (s->o.exit_threshold <= 1)
        FAIL(err, MOTE_E_USAGE, "guesses by an early exit are for tokens that run through all layers: exit_threshold is %g", (double)s->o.exit_threshold);
    exit_draft *self = MEM_NEW(exit_draft);
    if (!self) FAIL(err, MOTE_E_MEMORY, "out of memory for early exits");
    self->exit = best_exit(s->model->m, s->model->info->n_layer);
    p->self = self;
    return MOTE_OK;
}
