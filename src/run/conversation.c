/* conversation.c: messages through the template to ids, and the answer back among the messages.
 *
 * The template's own bytes and what came in through variables are kept apart all the way to the tokenizer, so
 * nothing that a message says becomes a control token. */
#include "run/conversation.h"

#define MESSAGES_MAX 100000

static str special_text(const tok_vocab *v, tok_role role) {
    int32_t id = tok_id(v, role);
    return id == TOK_NONE ? (str){NULL, 0} : tok_text(v, id);
}

void run_template_source(const model_file *f, const tok_vocab *v, chat_template_source *src) {
    *src = (chat_template_source){0};
    const str none = {NULL, 0};
    if (f) {
        if (kv_get_str(f, "tokenizer.chat_template", &src->text, none, NULL) != MOTE_OK) src->text = none;
        if (kv_get_str(f, "tokenizer.chat_template.tool_use", &src->tool_use, none, NULL) != MOTE_OK)
            src->tool_use = none;
    }
    if (!v) return;
    src->bos_token = special_text(v, TOK_ROLE_BOS);
    src->eos_token = special_text(v, TOK_ROLE_EOS);
    src->pad_token = special_text(v, TOK_ROLE_PAD);
    src->unk_token = special_text(v, TOK_ROLE_UNK);
    src->has_chatml =
        tok_find(v, STR("<|im_start|>")) != TOK_NONE && tok_find(v, STR("<|im_end|>")) != TOK_NONE;
}

/* ---- opening ---- */

static mote_status open_template(mote_chat *c, const char *text, mote_error *err) {
    chat_template_source src;
    run_template_source(c->s->model->file, c->s->model->vocab, &src);
    if (text) {
        src.text = str_of(text);
        src.tool_use = (str){NULL, 0};
    }
    return chat_template_open(&c->tmpl, &src, err);
}

static mote_status parse_option(json_t **out, const char *text, bool array, const char *what,
                                mote_error *err) {
    if (!text) return MOTE_OK;
    TRY(json_parse(out, str_of(text), what, err));
    if (array ? json_is_array(*out) : json_is_object(*out)) return MOTE_OK;
    FAIL(err, MOTE_E_USAGE, "%s: expected a JSON %s", what, array ? "array" : "object");
}

mote_status run_chat_open(mote_chat **out, mote_session *s, size_t seq, const mote_chat_opts *o,
                          mote_error *err) {
    *out = NULL;
    mote_status st = MOTE_OK;
    const tok_vocab *v;
    TRY(run_check_seq(s, seq, err));
    TRY(run_vocab(s->model, &v, err));
    if (s->n_vocab == 0)
        FAIL(err, MOTE_E_UNSUPPORTED, "this model is an encoder: it makes embeddings, it cannot chat");
    if (o->thinking < -1 || o->thinking > 1)
        FAIL(err, MOTE_E_RANGE, "thinking is %d; expected -1, 0 or 1", o->thinking);
    mote_chat *c = MEM_NEW(mote_chat);
    if (!c) FAIL(err, MOTE_E_MEMORY, "out of memory for a chat");
    c->s = s;
    (void)atomic_fetch_add(&s->refs, 1);
    c->seq = seq;
    c->thinking = o->thinking;
    c->drop_oldest = o->drop_oldest;
    c->reserve = o->n_answer_reserve ? o->n_answer_reserve : s->n_ctx / 8;
    buf_init(&c->content, (size_t)1 << 28);
    buf_init(&c->reasoning, (size_t)1 << 28);
    buf_init(&c->part, (size_t)1 << 28);
    c->messages = json_array();
    if (!c->messages) FAILG(st, err, MOTE_E_MEMORY, "out of memory for a chat");
    TRYG(st, open_template(c, o->template_text, err));
    c->syntax = chat_template_syntax(c->tmpl);
    TRYG(st, parse_option(&c->tools, o->tools_json, true, "tools", err));
    TRYG(st, parse_option(&c->kwargs, o->kwargs_json, false, "template variables", err));
    TRYG(st, run_chat_set_system(c, o->system, err));
    *out = c;
    return MOTE_OK;
out:
    run_chat_close(c);
    return st;
}

void run_chat_close(mote_chat *c) {
    if (!c) return;
    chat_template_close(&c->tmpl);
    json_decref(c->messages);
    json_decref(c->tools);
    json_decref(c->kwargs);
    buf_free(&c->content);
    buf_free(&c->reasoning);
    buf_free(&c->part);
    run_session_release(c->s);
    mem_free(c);
}

/* ---- messages ---- */

static mote_status make_message(json_t **out, const char *role, str text, mote_error *err) {
    if (text.n && !utf8_valid(text.p, text.n))
        FAIL(err, MOTE_E_FORMAT, "the %s message is not valid UTF-8", role);
    *out = json_pack("{s:s, s:o}", "role", role, "content", json_stringn(text.p ? text.p : "", text.n));
    if (!*out) FAIL(err, MOTE_E_MEMORY, "out of memory for a message of %zu bytes", text.n);
    return MOTE_OK;
}

mote_status run_chat_add(mote_chat *c, const char *role, str text, mote_error *err) {
    static const char *const roles[] = {"system", "user", "assistant", "tool", "developer"};
    bool known = false;
    for (size_t i = 0; i < COUNT_OF(roles); i++) known |= strcmp(role, roles[i]) == 0;
    if (!known)
        FAIL(err, MOTE_E_USAGE, "unknown role '%.40s'; expected system, user, assistant or tool", role);
    if (json_array_size(c->messages) >= MESSAGES_MAX)
        FAIL(err, MOTE_E_LIMIT, "more than %d messages", MESSAGES_MAX);
    json_t *m;
    TRY(make_message(&m, role, text, err));
    if (json_array_append_new(c->messages, m) != 0) FAIL(err, MOTE_E_MEMORY, "out of memory for a message");
    return MOTE_OK;
}

static bool has_role(const json_t *messages, size_t i, const char *role) {
    return str_is(json_get_str(json_array_get(messages, i), "role"), role);
}

mote_status run_chat_set_system(mote_chat *c, const char *text, mote_error *err) {
    bool has = has_role(c->messages, 0, "system");
    if (!text) {
        if (has) (void)json_array_remove(c->messages, 0);
        return MOTE_OK;
    }
    json_t *m;
    TRY(make_message(&m, "system", str_of(text), err));
    if ((has ? json_array_set_new(c->messages, 0, m) : json_array_insert_new(c->messages, 0, m)) != 0)
        FAIL(err, MOTE_E_MEMORY, "out of memory for the system message");
    return MOTE_OK;
}

void run_chat_clear(mote_chat *c) {
    size_t keep = has_role(c->messages, 0, "system") ? 1 : 0;
    while (json_array_size(c->messages) > keep)
        (void)json_array_remove(c->messages, json_array_size(c->messages) - 1);
}

mote_status run_chat_set_messages(mote_chat *c, str json, mote_error *err) {
    json_t *m = NULL;
    TRY(json_parse(&m, json, "messages", err));
    mote_status st = MOTE_OK;
    if (!json_is_array(m) || json_array_size(m) > MESSAGES_MAX)
        FAILG(st, err, MOTE_E_FORMAT, "messages: expected an array of at most %d objects", MESSAGES_MAX);
    for (size_t i = 0; i < json_array_size(m); i++)
        if (!json_is_object(json_array_get(m, i)) || !json_get_str(json_array_get(m, i), "role").p)
            FAILG(st, err, MOTE_E_FORMAT, "messages[%zu]: expected an object with a role", i);
    json_decref(c->messages);
    c->messages = m;
    return MOTE_OK;
out:
    json_decref(m);
    return st;
}

/* ---- the prompt ---- */

mote_status run_encode_chat(const tok_vocab *v, const chat_text *t, tok_ids *ids, mote_error *err) {
    tok_span *spans = MEM_NEW_N(tok_span, t->n_spans);
    if (!spans) FAIL(err, MOTE_E_MEMORY, "out of memory for %zu parts of a prompt", t->n_spans);
    for (size_t i = 0; i < t->n_spans; i++)
        spans[i] = (tok_span){{t->p + t->spans[i].offset, t->spans[i].len}, !t->spans[i].is_content};
    mote_status st = tok_encode_spans(v, spans, t->n_spans, 0, ids, err);
    mem_free(spans);
    return st == MOTE_OK ? run_put_bos(v, ids, err) : st;
}

static mote_status render(mote_chat *c, json_t *messages, tok_ids *ids, buf *text, mote_error *err) {
    const chat_request r = {.messages = messages,
                            .tools = c->tools,
                            .kwargs = c->kwargs,
                            .add_generation_prompt = true,
                            .enable_thinking = c->thinking};
    chat_text t = {0};
    TRY(chat_template_render(c->tmpl, &r, &t, err));
    ids->n = 0;
    mote_status st = run_encode_chat(c->s->model->vocab, &t, ids, err);
    if (st == MOTE_OK && text) {
        buf_clear(text);
        buf_put(text, t.p, t.n);
        st = buf_check(text, "prompt", err);
    }
    chat_text_free(&t);
    return st;
}

/* Takes out the oldest turn: from the first message after the system's to before the next user's. False when
 * only one turn is left. */
static bool drop_turn(json_t *messages, size_t *dropped) {
    size_t first = has_role(messages, 0, "system") ? 1 : 0, n = json_array_size(messages), next = first + 1;
    while (next < n && !has_role(messages, next, "user")) next++;
    if (next >= n) return false;
    for (size_t i = first; i < next; i++) (void)json_array_remove(messages, first);
    *dropped += next - first;
    return true;
}

mote_status run_chat_prompt(mote_chat *c, tok_ids *ids, buf *text, size_t *dropped, mote_error *err) {
    size_t room = c->s->n_ctx > c->reserve ? c->s->n_ctx - c->reserve : c->s->n_ctx / 2;
    *dropped = 0;
    json_t *fits = json_copy(c->messages); /* shares the messages themselves */
    if (!fits) FAIL(err, MOTE_E_MEMORY, "out of memory for a copy of the messages");
    mote_status st;
    do st = render(c, fits, ids, text, err);
    while (st == MOTE_OK && ids->n > room && c->drop_oldest && drop_turn(fits, dropped));
    json_decref(fits);
    if (st == MOTE_OK && ids->n > c->s->n_ctx)
        FAIL(err, MOTE_E_CONTEXT,
             "the conversation has %zu tokens and the context %zu: start a new one or open a larger context "
             "(-c)",
             ids->n, c->s->n_ctx);
    return st;
}

/* ---- answers ---- */

/* One thing that the parser is sure of, to the caller's callback. The first of a token carries its id. */
static mote_status tell(mote_chat *c, mote_piece *p, mote_error *err) {
    bool first = c->news && !c->told;
    p->id = first ? c->news->id : -1;
    if (first) {
        p->logprob = c->news->logprob;
        p->top = c->news->top;
        p->n_top = c->news->n_top;
    }
    c->told = true;
    TRY(buf_check(&c->part, "part of an answer", err));
    if (c->gen->on_piece && !c->stop && c->gen->on_piece(c->gen->ctx, p)) c->stop = true;
    return MOTE_OK;
}

static void put_part(mote_chat *c, str s) {
    buf_put_str(&c->part, s);
    buf_putc(&c->part, 0);
}

static mote_status on_call(mote_chat *c, const chat_event *e, mote_error *err) {
    json_t *call =
        json_pack("{s:s%, s:s, s:{s:s%, s:s%}}", "id", e->id.p ? e->id.p : "", e->id.n, "type", "function",
                  "function", "name", e->name.p, e->name.n, "arguments", e->arguments.p, e->arguments.n);
    if (!c->calls) c->calls = json_array();
    if (json_array_append_new(c->calls, call) != 0) FAIL(err, MOTE_E_MEMORY, "out of memory for a tool call");
    buf_clear(&c->part);
    put_part(c, e->name);
    put_part(c, e->arguments);
    put_part(c, e->id);
    TRY(buf_check(&c->part, "tool call", err));
    const char *at = c->part.p;
    mote_piece p = {.text = "", .tool_name = at, .tool_arguments = at + e->name.n + 1,
                    .tool_id = at + e->name.n + 1 + e->arguments.n + 1};
    return tell(c, &p, err);
}

static mote_status on_event(void *ctx, const chat_event *e, mote_error *err) {
    mote_chat *c = ctx;
    if (e->kind == CHAT_TOOL_CALL) return on_call(c, e, err);
    buf *whole = e->kind == CHAT_REASONING ? &c->reasoning : &c->content;
    buf_put_str(whole, e->text);
    TRY(buf_check(whole, "answer", err));
    buf_clear(&c->part);
    buf_put_str(&c->part, e->text);
    mote_piece p = {.text = buf_str(&c->part).p, .n = e->text.n, .reasoning = e->kind == CHAT_REASONING};
    return tell(c, &p, err);
}

static int on_piece(void *ctx, const mote_piece *p) {
    mote_chat *c = ctx;
    c->news = p;
    c->told = false;
    c->failed = chat_parser_put(c->parser, (str){p->text, p->n}, c->err);
    if (c->failed == MOTE_OK && !c->told && p->id >= 0) { /* a token without news: callers count them */
        mote_piece none = {.text = ""};
        buf_clear(&c->part);
        c->failed = tell(c, &none, c->err);
    }
    c->news = NULL;
    return c->failed != MOTE_OK || c->stop;
}

static int on_prompt(void *ctx, size_t done, size_t total) {
    mote_chat *c = ctx;
    return c->gen->on_prompt ? c->gen->on_prompt(c->gen->ctx, done, total) : 0;
}

/* Whether the marks of reasoning and calls are control tokens, which the text must then show. */
static bool marks_are_control(const mote_chat *c) {
    switch (c->syntax.tools) {
    case CHAT_TOOLS_HARMONY: return true;
    case CHAT_TOOLS_JSON:
    case CHAT_TOOLS_MISTRAL: return c->tools != NULL;
    default: return false;
    }
}

static mote_status add_answer(mote_chat *c, mote_error *err) {
    json_t *m;
    TRY(make_message(&m, "assistant", buf_str(&c->content), err));
    bool ok = true;
    if (c->reasoning.n)
        ok = json_object_set_new(m, "reasoning_content", json_stringn(c->reasoning.p, c->reasoning.n)) == 0;
    if (c->calls) ok = ok && json_object_set(m, "tool_calls", c->calls) == 0;
    if (json_array_append_new(c->messages, m) != 0 || !ok)
        FAIL(err, MOTE_E_MEMORY, "out of memory for the answer");
    return MOTE_OK;
}

static mote_status begin_answer(mote_chat *c, const mote_gen_opts *o, tok_ids *ids, size_t *dropped,
                                mote_error *err) {
    buf text;
    c->gen = o;
    c->stop = false;
    c->failed = MOTE_OK;
    c->err = err;
    buf_clear(&c->content);
    buf_clear(&c->reasoning);
    buf_init(&text, (size_t)1 << 28);
    mote_status st = run_chat_prompt(c, ids, &text, dropped, err);
    if (st == MOTE_OK)
        st = chat_parser_open(&c->parser, &c->syntax, buf_str(&text), c->tools != NULL, on_event, c, err);
    buf_free(&text);
    return st;
}

/* In plain text nothing but the next speaker's name ends an answer. */
static void stop_at_next_speaker(const mote_chat *c, const mote_gen_opts *o,
                                 const char *stops[MOTE_STOPS_MAX], mote_gen_opts *own) {
    if (chat_template_kind_of(c->tmpl) != CHAT_TEMPLATE_PLAIN || o->n_stops >= MOTE_STOPS_MAX) return;
    if (o->n_stops) memcpy(stops, o->stops, o->n_stops * sizeof *stops);
    stops[o->n_stops] = "\nUser:";
    own->stops = stops;
    own->n_stops = o->n_stops + 1;
}

mote_status run_chat_answer(mote_chat *c, const mote_gen_opts *o, mote_gen_result *r, mote_error *err) {
    tok_ids ids = {0};
    mote_status st;
    size_t dropped;
    const char *stops[MOTE_STOPS_MAX];
    mote_gen_opts own = *o;
    stop_at_next_speaker(c, o, stops, &own);
    own.on_piece = on_piece;
    own.on_prompt = on_prompt;
    own.ctx = c;
    own.show_special = o->show_special || marks_are_control(c);
    *r = (mote_gen_result){.size = sizeof *r, .finish = MOTE_FINISH_ERROR};
    TRYG(st, begin_answer(c, o, &ids, &dropped, err));
    TRYG(st, run_generate(c->s, c->seq, ids.p, ids.n, &own, r, err));
    TRYG(st, c->failed);
    TRYG(st, chat_parser_end(c->parser, err));
    r->n_dropped_messages = dropped;
    r->n_tool_calls = json_array_size(c->calls);
    if (r->finish != MOTE_FINISH_CANCELLED || c->content.n || c->reasoning.n) st = add_answer(c, err);
out:
    chat_parser_close(&c->parser);
    json_decref(c->calls);
    c->calls = NULL;
    c->gen = NULL;
    tok_ids_free(&ids);
    return st;
}

mote_status run_chat_say(mote_chat *c, str text, const mote_gen_opts *o, mote_gen_result *r,
                         mote_error *err) {
    size_t n = json_array_size(c->messages);
    TRY(run_chat_add(c, "user", text, err));
    mote_status st = run_chat_answer(c, o, r, err);
    if (st != MOTE_OK)
        while (json_array_size(c->messages) > n) (void)json_array_remove(c->messages, n);
    return st;
}

mote_status run_chat_regenerate(mote_chat *c, const mote_gen_opts *o, mote_gen_result *r, mote_error *err) {
    size_t n = json_array_size(c->messages);
    if (n == 0 || !has_role(c->messages, n - 1, "assistant"))
        FAIL(err, MOTE_E_USAGE, "there is no answer to take back");
    json_t *old = json_incref(json_array_get(c->messages, n - 1));
    (void)json_array_remove(c->messages, n - 1);
    mote_status st = run_chat_answer(c, o, r, err);
    if (st != MOTE_OK) (void)json_array_append(c->messages, old);
    json_decref(old);
    return st;
}
