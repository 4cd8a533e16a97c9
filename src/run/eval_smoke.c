/* eval_smoke.c: does a model that was made smaller still behave? A dozen questions, answered greedily: the answer must not be empty, must not
 * turn in a circle, and should end by itself. What breaks first at few bits is exactly that. */
#include "run/conversation.h"
#include "run/eval_tasks.h"

#include <string.h>

static const char *const questions[] = {
    "Why is the sky blue?",
    "Write a short poem about the sea.",
    "What is 12 plus 30?",
    "Explain in two sentences what a computer is.",
    "Name three animals that live in water.",
    "Translate \"good morning\" into another language you know.",
    "Summarize: The cat slept all day. At night it went out to hunt mice in the barn.",
    "Write a Python function that adds two numbers.",
    "Give me a recipe for pancakes.",
    "Is the following sentence happy or sad? I lost my keys and missed the train.",
    "Who are you?",
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

mote_status eval_smoke(mote_session *s, size_t max_tokens, mote_smoke_result *r, mote_error *err) {
    answer *a = MEM_NEW(answer);
    tok_ids ids = {0};
    mote_status st = MOTE_OK;
    if (!a) FAIL(err, MOTE_E_MEMORY, "out of memory");
    for (size_t i = 0; i < COUNT_OF(questions); i++) {
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
