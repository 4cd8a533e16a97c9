/* head_oracle.c: on real models, tokens drawn from the greatest logits alone are those drawn from all of them: greedy
 * and by many chains, and the logits that are asked for afterwards are the same bits. Rows of the report say how much
 * of the head was read and how much faster that is than all of it.
 *
 *   head_oracle [--report] [MODEL…] */
#include "model/state.h"
#include "mote/mote.h"
#include "oracle_models.h"
#include "oracle_util.h"
#include "report.h"
#include "run/run.h"

#include <math.h>

enum { N_MAX = 64 };

static const char *const text = "The history of bread is long. People first ground grain between stones and mixed it "
                                "with water. Later, bakers in Egypt let the dough stand, and";

typedef struct drawn {
    int32_t ids[N_MAX];
    size_t n, n_lean;
    const mote_session *s;
    double share; /* of the head's bytes, summed over lean draws */
} drawn;

static const weight *head_of(const mote_model *m) {
    return m->m->slots[m->m->slots[R_OUTPUT].info ? R_OUTPUT : R_TOKEN_EMBD].mat;
}

static int collect(void *ctx, const mote_piece *p) {
    drawn *d = ctx;
    if (p->id < 0) return 0;
    d->ids[d->n++] = p->id;
    if (d->s->found_of == 0) {
        d->n_lean++;
        d->share += (double)d->s->found->read_bytes / (double)head_of(d->s->model)->packed_bytes;
    }
    return 0;
}

typedef struct chain {
    const char *name;
    bool lean; /* the chain can do with the greatest */
    void (*set)(mote_sample_opts *o);
} chain;

static const mote_logit_bias biases[] = {{11, 5}, {12, -5}, {13, -INFINITY}, {198, -INFINITY}, {262, 3}, {13, 1}};

static void greedy(mote_sample_opts *o) { o->temp = 0; }
static void usual(mote_sample_opts *o) { (void)o; }
static void top_k_only(mote_sample_opts *o) { o->top_k = 7, o->top_p = 1, o->min_p = 0, o->temp = 1.3f; }
static void min_p_only(mote_sample_opts *o) { o->top_k = 0, o->top_p = 1, o->min_p = 0.05f; }
static void penalties(mote_sample_opts *o) { o->repeat_penalty = 1.3f, o->presence_penalty = 0.5f, o->frequency_penalty = 0.2f; }
static void rewards(mote_sample_opts *o) { o->repeat_penalty = 0.8f, o->presence_penalty = -1; }
static void greedy_penalties(mote_sample_opts *o) { greedy(o), penalties(o), o->penalty_last_n = -1; }
static void dry(mote_sample_opts *o) { greedy(o), o->dry_multiplier = 0.8f, o->dry_base = 1.75f, o->dry_allowed_length = 1, o->dry_last_n = -1; }
static void biased(mote_sample_opts *o) { o->bias = biases, o->n_bias = COUNT_OF(biases), o->ignore_end = true; }
static void min_p_biased(mote_sample_opts *o) { min_p_only(o), biased(o), penalties(o); }
static void min_keep(mote_sample_opts *o) { o->top_k = 2, o->min_keep = 5; }
static void xtc(mote_sample_opts *o) { o->xtc_probability = 0.5f, o->xtc_threshold = 0.1f, o->typical_p = 0.9f; o->order = "top_k;typ_p;xtc;temperature"; }
static void top_p_only(mote_sample_opts *o) { o->top_k = 0, o->min_p = 0, o->top_p = 0.9f; }
static void mirostat(mote_sample_opts *o) { o->mirostat = 2; }

static const chain chains[] = {
    {"greedy", true, greedy}, {"default chain", true, usual}, {"top-k", true, top_k_only}, {"min-p", true, min_p_only},
    {"penalties", true, penalties}, {"rewards", true, rewards}, {"greedy, penalties", true, greedy_penalties},
    {"greedy, DRY", true, dry}, {"biases", true, biased}, {"min-p, biases, penalties", true, min_p_biased},
    {"min-keep", true, min_keep}, {"XTC after top-k", true, xtc}, {"top-p alone", false, top_p_only}, {"mirostat", false, mirostat},
};

/* The clock shall not switch it off. */
static void always_screen(mote_session *s) {
    s->st->head.full_ns = 1e15;
    s->st->head.since_full = 0;
}

static mote_status by_generate(mote_session *s, const int32_t *ids, size_t n, mote_sampler *sampler, size_t n_gen, drawn *d,
                               mote_error *err) {
    mote_gen_opts g = mote_gen_opts_default();
    mote_gen_result r = {.size = sizeof r};
    *d = (drawn){.s = s};
    g.n_predict = n_gen;
    g.sampler = sampler;
    g.on_piece = collect;
    g.ctx = d;
    always_screen(s);
    run_clear(s, 0);
    return run_generate(s, 0, ids, n, &g, &r, err);
}

static mote_status by_logits(mote_session *s, const int32_t *ids, size_t n, mote_sampler *sampler, size_t n_gen, drawn *d,
                             mote_error *err) {
    *d = (drawn){.s = s};
    run_clear(s, 0);
    TRY(mote_session_prompt(s, 0, ids, n, NULL, err));
    mote_sampler_prompt(sampler, ids, n);
    while (d->n < n_gen) {
        int32_t id;
        TRY(mote_sampler_draw(sampler, mote_session_logits(s, 0), &id, err));
        if (tok_is_eog(s->model->vocab, id)) break;
        d->ids[d->n++] = id;
        if (d->n < n_gen) TRY(mote_session_append(s, 0, &id, 1, err));
    }
    return MOTE_OK;
}

static mote_status check_chain(mote_session *lean, mote_session *full, const chain *c, const int32_t *ids, size_t n, size_t n_gen,
                               drawn *got, bool *ok, mote_error *err) {
    mote_sample_opts o = mote_sample_opts_default();
    mote_sampler *a = NULL, *b = NULL;
    mote_status st;
    drawn want;
    o.seed = 7;
    c->set(&o);
    TRYG(st, mote_sampler_open(&a, lean->model, &o, err));
    TRYG(st, mote_sampler_open(&b, full->model, &o, err));
    TRYG(st, by_generate(lean, ids, n, a, n_gen, got, err));
    TRYG(st, by_logits(full, ids, n, b, n_gen, &want, err));
    *ok = got->n == want.n && memcmp(got->ids, want.ids, got->n * sizeof *got->ids) == 0;
    *ok = *ok && (c->lean ? got->n < 2 || got->n_lean > 0 : got->n_lean == 0);
    /* the same tokens fed, all logits are the same when asked for */
    const float *x = mote_session_logits(lean, 0), *y = mote_session_logits(full, 0);
    if (*ok && got->n == n_gen) *ok = x && y && memcmp(x, y, lean->n_vocab * sizeof *x) == 0;
out:
    mote_sampler_close(&a);
    mote_sampler_close(&b);
    return st;
}

static mote_status check_model(const char *name, size_t n_gen, bool report, int *bad, mote_error *err) {
    char path[4096], item[128], measured[128], speed[64];
    mote_engine *e = NULL;
    mote_model *m = NULL;
    mote_session *lean = NULL, *full = NULL;
    mote_session_opts so = mote_session_opts_default();
    int32_t ids[128];
    size_t n = 0;
    mote_status st;
    so.n_ctx = 256;
    TRYG(st, mote_engine_open(&e, NULL, err));
    TRYG(st, mote_model_open(&m, e, oracle_model(path, name), NULL, err));
    TRYG(st, mote_session_open(&lean, m, &so, err));
    TRYG(st, mote_session_open(&full, m, &so, err));
    TRYG(st, mote_tokenize(m, text, strlen(text), MOTE_TOK_BOS, ids, COUNT_OF(ids), &n, err));
    for (size_t i = 0; i < COUNT_OF(chains); i++) {
        drawn d;
        bool ok = false;
        TRYG(st, check_chain(lean, full, &chains[i], ids, n, n_gen, &d, &ok, err));
        if (!ok) printf("%s, %s: tokens or logits differ (%zu, %zu of them drawn from the greatest)\n", name, chains[i].name, d.n, d.n_lean);
        *bad += !ok;
        if (!report) continue;
        const head_policy *h = &lean->st->head;
        (void)snprintf(item, sizeof item, "%.20s, %s", name, chains[i].name);
        (void)snprintf(measured, sizeof measured, "%zu tokens equal, %zu lean, %.0f%% of the head read", d.n, d.n_lean,
                       d.n_lean ? 100 * d.share / (double)d.n_lean : 100.0);
        (void)snprintf(speed, sizeof speed, "%.2fx all logits", full->st->head.full_ns / h->screen_ns);
        report_row("head", item, measured, "all", ok ? "ok" : "FAIL", chains[i].lean ? speed : "-", oracle_rung(m));
    }
out:
    mote_session_close(&lean);
    mote_session_close(&full);
    mote_model_close(&m);
    mote_engine_close(&e);
    return st;
}

int main(int argc, char **argv) {
    static const struct {
        const char *name;
        size_t n_gen;
    } models[] = {{"smollm2-135m-instruct.q4_1.gguf", 40}, {"gemma3-270m.q4_k_m.gguf", 20}};
    int bad = 0;
    mote_error err;
    for (size_t i = 0; i < COUNT_OF(models); i++) {
        if (!oracle_wanted(models[i].name, argc, argv)) continue;
        if (check_model(models[i].name, models[i].n_gen, report_wanted(argc, argv), &bad, &err) == MOTE_OK) continue;
        printf("%s: %s\n", models[i].name, err.message);
        bad++;
    }
    return bad != 0;
}
