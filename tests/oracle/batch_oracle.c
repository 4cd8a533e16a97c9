/* batch_oracle.c: a real model answers several prompts together: the tokens are those of each alone, and it is faster.
 *
 *   batch_oracle [--report] */
#include "mote/mote.h"
#include "oracle_models.h"
#include "oracle_util.h"
#include "report.h"

enum { SEQS = 8, STEPS = 24, PROMPT_MAX = 24 };

static int32_t likeliest(const float *row, size_t n) {
    size_t best = 0;
    for (size_t i = 1; i < n; i++)
        if (row[i] > row[best]) best = i;
    return (int32_t)best;
}

/* Prompts of different lengths, of the kind that answers differ to. */
static size_t prompt_of(const mote_model *m, size_t q, int32_t ids[PROMPT_MAX], mote_error *err) {
    static const char *const texts[SEQS] = {"The capital of France is", "def add(a, b):\n    ", "Once upon a time", "Water boils at",
                                            "1, 2, 3, 4,", "Dear Sir or Madam, I am writing to you about", "The", "In winter the lake"};
    size_t n = 0;
    return mote_tokenize(m, texts[q], strlen(texts[q]), 0, ids, PROMPT_MAX, &n, err) == MOTE_OK && n <= PROMPT_MAX ? n : 0;
}

typedef struct outcome {
    size_t equal;
    uint64_t alone_ns, together_ns;
} outcome;

static mote_status alone(const mote_model *m, mote_session *s, int32_t out[SEQS][STEPS], outcome *r, mote_error *err) {
    int32_t ids[PROMPT_MAX];
    for (size_t q = 0; q < SEQS; q++) {
        size_t n = prompt_of(m, q, ids, err);
        if (n == 0) FAIL(err, MOTE_E_FORMAT, "prompt %zu has no ids", q);
        TRY(mote_session_append(s, q, ids, n, err));
        const uint64_t start = clock_ns();
        for (size_t i = 0; i < STEPS; i++) {
            out[q][i] = likeliest(mote_session_logits(s, q), mote_model_n_vocab(m));
            if (i + 1 < STEPS) TRY(mote_session_append(s, q, &out[q][i], 1, err));
        }
        r->alone_ns += clock_ns() - start;
        TRY(mote_session_clear(s, q, err));
    }
    return MOTE_OK;
}

static mote_status together(const mote_model *m, mote_session *s, int32_t expected[SEQS][STEPS], outcome *r, mote_error *err) {
    int32_t ids[PROMPT_MAX];
    mote_step steps[SEQS];
    for (size_t q = 0; q < SEQS; q++) {
        size_t n = prompt_of(m, q, ids, err);
        TRY(mote_session_append(s, q, ids, n, err));
        steps[q] = (mote_step){q, likeliest(mote_session_logits(s, q), mote_model_n_vocab(m))};
    }
    const uint64_t start = clock_ns();
    for (size_t i = 0; i < STEPS; i++) {
        for (size_t q = 0; q < SEQS; q++) r->equal += steps[q].id == expected[q][i];
        if (i + 1 == STEPS) break;
        TRY(mote_session_step(s, steps, SEQS, err));
        for (size_t q = 0; q < SEQS; q++) steps[q].id = likeliest(mote_session_logits(s, q), mote_model_n_vocab(m));
    }
    r->together_ns = clock_ns() - start;
    return MOTE_OK;
}

int main(int argc, char **argv) {
    mote_error err;
    mote_engine *e = NULL;
    mote_model *m = NULL;
    mote_session *s = NULL;
    char path[4096], measured[64], speed[64];
    static int32_t tokens[SEQS][STEPS];
    outcome r = {0};
    mote_engine_opts eo = mote_engine_opts_default();
    eo.n_threads = 2;
    mote_session_opts so = mote_session_opts_default();
    so.n_seq = SEQS;
    so.n_ctx = 64;
    so.checkpoint_every = 0;
    (void)oracle_path(path, "."); /* skips by name where there is no golden data */
    mote_status st = mote_engine_open(&e, &eo, &err);
    if (st == MOTE_OK) st = mote_model_open(&m, e, oracle_model(path, "smollm2-135m-instruct.q4_1.gguf"), NULL, &err);
    if (st == MOTE_OK) st = mote_session_open(&s, m, &so, &err);
    if (st == MOTE_OK) st = alone(m, s, tokens, &r, &err);
    if (st == MOTE_OK) st = together(m, s, tokens, &r, &err);
    mote_session_close(&s);
    mote_model_close(&m);
    mote_engine_close(&e);
    if (st != MOTE_OK) {
        printf("FAIL %s\n", err.message);
        return 1;
    }
    const bool ok = r.equal == SEQS * STEPS;
    (void)snprintf(measured, sizeof measured, "%zu/%d tokens equal", r.equal, SEQS * STEPS);
    (void)snprintf(speed, sizeof speed, "%.1fx one after the other", (double)r.alone_ns / (double)r.together_ns);
    if (report_wanted(argc, argv)) report_row("batch", "8 sequences decoded together", measured, "all", ok ? "ok" : "FAIL", speed, mote_cpu_isa());
    else printf("%s batch of %d: %s, %s\n", ok ? "ok  " : "FAIL", SEQS, measured, speed);
    return ok ? 0 : 1;
}
