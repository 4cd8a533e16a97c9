/* eval_smoke.c: does a model that was made smaller still behave? A dozen questions, answered greedily: the answer must not be empty, must not
 * turn in a circle, and should end by itself. What breaks first at few bits is exactly that. */
#include "run/conversation.h"
#include "run/eval_tasks.h"

#include <string.h>

static const char *const questions[] = {
    "What is 12 plus 30?",
    "Who are you?",
    "Why is the sky blue?",
    "Write a short poem about the sea.",
    "Explain in two sentences what a computer is.",
    "Name three animals that live in water.",
    "Translate \"good morning\" into another language you know.",
    "Summarize: The cat slept all day. At night it went out to hunt mice in the barn.",
    "Write a Python function that adds two numbers.",
    "Give me a recipe for pancakes.",
    "Is the following sentence happy or sad? I lost my keys and missed the train.",
    "List the days of the week.",
};

enum { TOKENS_MAX = 512, PERIOD_MAX = 24, LOOP_TOKENS = 36 };

typedef struct answer {
    int32_t ids[TOKENS_MAX];
    size_t n, n_bytes;
} answer;

static int put_piece(void *ctx, const mote_piece *p) {
    answer *a = ctx;
    if (p->id >= 0 && a->n < TOKENS_MAX) a->ids[a->n++] = p->id;
    for (size_t i = 0; i < p->n; i++) a->n_bytes += !py_is_space((unsigned char)p->text[i]);
    return 0;
}

bool eval_is_loop(const int32_t *ids, size_t n) {
    if (n < LOOP_TOKENS) return false;
    for (size_t period = 1; period <= PERIOD_MAX; period++) {
        size_t i = 0, want = MAX((size_t)LOOP_TOKENS, 3 * period) - period;
        while (i < want && i + period < n && ids[n - 1 - i] == ids[n - 1 - i - period]) i++;
        if (i == want) return true;
    }
    return false;
}

/* The question through the model's template; as it is where there is none. */
static mote_status prompt_of(mote_session *s, const char *question, tok_ids *ids, bool *chat, mote_error *err) {
    mote_chat *c = NULL;
    mote_chat_opts o = mote_chat_opts_default();
    size_t dropped;
    mote_error why;
    *chat = run_chat_open(&c, s, 0, &o, &why) == MOTE_OK;
    if (!*chat) return run_encode_prompt(s->model, str_of(question), TOK_SPECIAL, ids, err);
    mote_status st = run_chat_add(c, "user", str_of(question), err);
    if (st == MOTE_OK) st = run_chat_prompt(c, ids, NULL, &dropped, err);
    run_chat_close(c);
    return st;
}

mote_status eval_smoke(mote_session *s, size_t n_questions, size_t max_tokens, mote_smoke_result *r, mote_error *err) {
    answer *a = MEM_NEW(answer);
    tok_ids ids = {0};
    mote_status st = MOTE_OK;
    if (!a) FAIL(err, MOTE_E_MEMORY, "out of memory");
    for (size_t i = 0; i < MIN(n_questions, COUNT_OF(questions)); i++) {
        mote_gen_opts o = mote_gen_opts_default();
        mote_gen_result g = {.size = sizeof g};
        mote_error why = {0};
        *a = (answer){0};
        ids.n = 0;
        TRYG(st, prompt_of(s, questions[i], &ids, &r->chat, err));
        o.n_predict = MIN(max_tokens, (size_t)TOKENS_MAX);
        o.on_piece = put_piece;
        o.ctx = a;
        st = run_generate(s, 0, ids.p, ids.n, &o, &g, &why);
        r->n_answers++;
        r->n_broken += st == MOTE_E_OUTPUT;
        if (st != MOTE_OK && st != MOTE_E_OUTPUT) FAILG(st, err, st, "question %zu: %s", i + 1, why.message);
        r->n_tokens += a->n;
        r->n_empty += st == MOTE_OK && a->n_bytes == 0;
        r->n_loops += eval_is_loop(a->ids, a->n);
        r->n_ended += g.finish == MOTE_FINISH_END;
        st = MOTE_OK;
    }
out:
    tok_ids_free(&ids);
    mem_free(a);
    return st;
}

/* ---- after a compression ---- */

enum { QUICK_QUESTIONS = 3, QUICK_TOKENS = 48, QUICK_CTX = 512 };

static mote_status ask(mote_engine *e, const char *path, size_t n_questions, mote_smoke_result *r, mote_error *err) {
    mote_model_opts mo = mote_model_opts_default();
    mote_session_opts so = mote_session_opts_default();
    mote_model *m = NULL;
    mote_session *s = NULL;
    const tok_vocab *v;
    mote_status st = run_model_open(&m, e, path, &mo, err);
    if (st == MOTE_OK && m->info->n_vocab == 0) st = ERR(err, MOTE_E_UNSUPPORTED, "an encoder answers nothing");
    if (st == MOTE_OK) st = run_vocab(m, &v, err);
    so.n_ctx = QUICK_CTX;
    if (st == MOTE_OK) st = run_session_open(&s, m, &so, err);
    if (st == MOTE_OK) st = eval_smoke(s, n_questions, QUICK_TOKENS, r, err);
    run_session_release(s);
    run_model_release(m);
    return st;
}

static bool looks_broken(const mote_smoke_result *r) { return r->n_broken > 0 || r->n_empty == r->n_answers || 2 * r->n_loops > r->n_answers; }

mote_status eval_smoke_check(const char *path, const char *source, int n_threads, mote_smoke_check *c, mote_error *err) {
    mote_engine *e = NULL;
    mote_engine_opts eo = mote_engine_opts_default();
    mote_error why = {0};
    uint64_t began = clock_ns();
    eo.n_threads = n_threads;
    TRY(engine_open(&e, &eo, err));
    c->ran = ask(e, path, QUICK_QUESTIONS, &c->model, &why) == MOTE_OK;
    if (!c->ran) (void)snprintf(c->why, sizeof c->why, "%.*s", (int)sizeof c->why - 1, why.message);
    if (c->ran && looks_broken(&c->model) && source) {
        /* what the source did before is not the compression's fault: both are asked all questions, so that chance does not decide */
        c->model = (mote_smoke_result){.size = sizeof c->model};
        c->source_ran = ask(e, path, SIZE_MAX, &c->model, NULL) == MOTE_OK && ask(e, source, SIZE_MAX, &c->source, NULL) == MOTE_OK;
        const mote_smoke_result *a = &c->model, *b = &c->source;
        c->broken = looks_broken(a) && (!c->source_ran || (a->n_broken > 0 && b->n_broken == 0) || (a->n_empty == a->n_answers && b->n_empty < b->n_answers) ||
                                        (2 * a->n_loops > a->n_answers && 4 * b->n_loops <= b->n_answers));
    } else c->broken = c->ran && looks_broken(&c->model);
    engine_release(e);
    c->seconds = (double)(clock_ns() - began) * 1e-9;
    return MOTE_OK;
}
