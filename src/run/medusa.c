/* medusa.c: heads on the last hidden row guess the tokens behind the next one (model_guess_ahead). All of a file's heads are
 * asked at once, as a chain: a tree of their second and third choices would need attention masks of its own, and a row more for
 * each leaf, which on a CPU costs about what a token does.
 * Source: Cai et al. 2024, Medusa: Simple LLM Inference Acceleration Framework with Multiple Decoding Heads, §2.1. */
#include "run/spec.h"

enum { SURE_STEPS = 5, DEEP = SPEC_LEVELS / SURE_STEPS }; /* levels: how far ahead, and how sure */

typedef struct medusa {
    double ns; /* of a proposal */
} medusa;

static mote_status begin(proposer *p, const int32_t *ids, size_t n, const mote_sampler *sampler, mote_error *err) {
    (void)p, (void)ids, (void)n, (void)sampler, (void)err;
    return MOTE_OK;
}

static double lag_ns(const proposer *p, size_t n) {
    (void)n;
    return ((const medusa *)p->self)->ns;
}

static mote_status propose(proposer *p, const spec_ask *a, proposal *out, mote_error *err) {
    medusa *self = p->self;
    model_guessed g[MOTE_SPEC_MAX];
    (void)err;
    double begun = (double)clock_ns();
    out->n = run_guess_ahead(a->sp->s, a->sp->last_row, g, MIN(a->max, (size_t)MOTE_SPEC_MAX));
    double took = (double)clock_ns() - begun;
    self->ns += (took - self->ns) / (self->ns > 0 ? 8 : 1);
    for (size_t i = 0; i < out->n; i++) {
        out->ids[i] = g[i].id;
        out->level[i] = (unsigned char)(MIN(i, (size_t)DEEP - 1) * SURE_STEPS + MIN((size_t)(g[i].sure * SURE_STEPS), (size_t)SURE_STEPS - 1));
    }
    return MOTE_OK;
}

static void close_medusa(proposer *p) {
    mem_free(p->self);
    p->self = NULL;
}

static size_t memory(const proposer *p) { return p->self ? sizeof(medusa) : 0; }

mote_status medusa_proposer(proposer *p, const mote_session *s, mote_error *err) {
    *p = (proposer){.name = "Medusa heads", .kind = SPEC_MEDUSA, .begin = begin, .propose = propose, .lag_ns = lag_ns, .close = close_medusa,
                    .memory = memory, .odds.memory = 32, .average = 0.4, .n_most = model_n_ahead(s->model->m)};
    for (size_t i = 0; i < SPEC_LEVELS; i++) p->odds.p[i] = (0.1f + 0.7f * (float)(i % SURE_STEPS) / SURE_STEPS) / (1 + 0.3f * (float)(i / SURE_STEPS));
    if (p->n_most == 0) FAIL(err, MOTE_E_USAGE, "there are no Medusa heads: the model was opened without a heads file that has some");
    p->self = MEM_NEW(medusa);
    if (!p->self) FAIL(err, MOTE_E_MEMORY, "out of memory for Medusa heads");
    return MOTE_OK;
}
