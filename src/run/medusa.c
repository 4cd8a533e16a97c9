/* medusa.c: heads behind the last layer guess the tokens behind the one that was drawn (model_guess_ahead), each from what the one before it
 * has made and from the token before its own: a chain, which goes on as long as a further guess is expected to pay. A tree of second and third
 * choices would need attention masks of its own, and a row more for each leaf.
 * Sources: Cai et al. 2024, Medusa: Simple LLM Inference Acceleration Framework with Multiple Decoding Heads, §2.1; Ankner et al. 2024, Hydra:
 * Sequentially-Dependent Draft Heads for Medusa Decoding, §3. */
#include "run/spec.h"

#include <math.h>

#define PROMISE 0.1 /* to begin with */

enum { SURE_STEPS = 10, DEEP = SPEC_LEVELS / SURE_STEPS }; /* levels: how far ahead, and how sure */

static mote_status begin(proposer *p, const int32_t *ids, size_t n, const mote_sampler *sampler, mote_error *err) {
    (void)ids, (void)n, (void)sampler, (void)err;
    p->promise = fmax(p->promise, PROMISE); /* another text */
    return MOTE_OK;
}

static mote_status propose(proposer *p, const spec_ask *a, proposal *out, mote_error *err) {
    int32_t id = a->ids[a->n - 1];
    model_guessed g;
    (void)err;
    for (out->n = 0; out->n < MIN(a->max, p->n_most); id = g.id) {
        double begun = (double)clock_ns();
        if (!run_guess_ahead(a->sp->s, a->sp->last_row, out->n, id, &g)) break;
        double took = (double)clock_ns() - begun;
        p->token_ns += (took - p->token_ns) / (p->token_ns > 0 ? 8 : 1);
        const size_t sure = MIN((size_t)(g.sure * SURE_STEPS), (size_t)SURE_STEPS - 1);
        out->ids[out->n] = g.id;
        out->level[out->n] = (unsigned char)(MIN(out->n, (size_t)DEEP - 1) * SURE_STEPS + sure);
        out->n++;
        if (!spec_goes_on(a->sp, p, out, a->rows)) break;
    }
    return MOTE_OK;
}

static void close_medusa(proposer *p) { (void)p; }

static size_t memory(const proposer *p) {
    (void)p;
    return 0;
}

mote_status medusa_proposer(proposer *p, const mote_session *s, mote_error *err) {
    *p = (proposer){.name = "Medusa heads", .kind = SPEC_MEDUSA, .begin = begin, .propose = propose, .close = close_medusa, .memory = memory,
                    .odds.memory = 64, .average = 0.4, .by_promise = true, .n_most = model_n_ahead(s->model->m)};
    for (size_t i = 0; i < SPEC_LEVELS; i++) p->odds.p[i] = 0.05f + 0.85f * ((float)(i % SURE_STEPS) + 0.5f) / SURE_STEPS;
    if (p->n_most == 0) FAIL(err, MOTE_E_USAGE, "there are no Medusa heads: the model was opened without a heads file that has some");
    return MOTE_OK;
}
