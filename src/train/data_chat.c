/* data_chat.c: items into tokens: texts, conversations with the loss on the answers, pairs of answers.
 *
 * A conversation is rendered by the model's own template and tokenized as the engine does it, so that training sees
 * what running will see. Which tokens the assistant says is found by rendering twice more per answer: up to the place
 * where it begins to speak, and up to its end; what the whole has between the two is what it said. */
#include "train/data_int.h"

#include "run/conversation.h"

#define LOOSE_TOKENS 16 /* so much of a prompt may differ from what the finished conversation has in its place */

void data_tokens_free(data_tokens *t) {
    for (int i = 0; i < 2; i++) {
        tok_ids_free(&t->ids[i]);
        mem_free(t->weights[i]);
    }
    *t = (data_tokens){0};
}

/* ---- lines into messages ---- */

static bool put_message(json_t *list, const char *role, str text) {
    json_t *m = json_pack("{s:s, s:o*}", "role", role, "content", json_stringn(text.p ? text.p : "", text.n));
    return m && json_array_append_new(list, m) == 0;
}

static bool are_messages(const json_t *m) {
    if (!json_is_array(m) || json_array_size(m) == 0) return false;
    for (size_t i = 0; i < json_array_size(m); i++) {
        const json_t *one = json_array_get(m, i);
        if (!json_is_object(one) || !json_get_str(one, "role").p) return false;
    }
    return true;
}

static bool has_answer(const json_t *m) {
    for (size_t i = 0; i < json_array_size(m); i++)
        if (str_is(json_get_str(json_array_get(m, i), "role"), "assistant")) return true;
    return false;
}

/* A prompt (text or messages) and what follows it (the same) as one list. NULL: neither form, or out of memory. */
static json_t *join(const json_t *prompt, const json_t *answer) {
    json_t *list = json_array();
    bool ok = list != NULL;
    const json_t *parts[2] = {prompt, answer};
    for (int i = 0; ok && i < 2; i++) {
        if (!parts[i]) continue;
        if (json_is_string(parts[i])) {
            str text = {json_string_value(parts[i]), json_string_length(parts[i])};
            ok = put_message(list, i ? "assistant" : "user", text);
        } else ok = are_messages(parts[i]) && json_array_extend(list, (json_t *)(uintptr_t)parts[i]) == 0;
    }
    if (ok && has_answer(list)) return list;
    json_decref(list);
    return NULL;
}

static json_t *from_shares(const json_t *turns) { /* "conversations": [{"from": "human", "value": "…"}] */
    json_t *list = json_array();
    bool ok = list != NULL && json_is_array(turns);
    for (size_t i = 0; ok && i < json_array_size(turns); i++) {
        const json_t *one = json_array_get(turns, i);
        str from = json_get_str(one, "from"), value = json_get_str(one, "value");
        const char *role = str_is(from, "human") || str_is(from, "user")      ? "user"
                           : str_is(from, "gpt") || str_is(from, "assistant") ? "assistant"
                           : str_is(from, "system")                           ? "system"
                                                                              : NULL;
        ok = role && value.p && put_message(list, role, value);
    }
    if (ok && has_answer(list)) return list;
    json_decref(list);
    return NULL;
}

static json_t *from_instruction(const json_t *line) {
    str what = json_get_str(line, "instruction"), input = json_get_str(line, "input"), said = json_get_str(line, "output");
    if (!what.p || !said.p) return NULL;
    buf b;
    buf_init(&b, (size_t)1 << 30);
    buf_put_str(&b, what);
    if (input.n) buf_puts(&b, "\n\n"), buf_put_str(&b, input);
    json_t *list = json_array();
    bool ok = list && !b.failed && put_message(list, "user", buf_str(&b)) && put_message(list, "assistant", said);
    buf_free(&b);
    if (ok) return list;
    json_decref(list);
    return NULL;
}

json_t *data_messages(const json_t *line) {
    const json_t *m = json_object_get(line, "messages");
    if (m) return are_messages(m) && has_answer(m) ? json_incref((json_t *)(uintptr_t)m) : NULL;
    const json_t *completion = json_object_get(line, "completion");
    if (completion) return join(json_object_get(line, "prompt"), completion);
    if (json_object_get(line, "conversations")) return from_shares(json_object_get(line, "conversations"));
    return from_instruction(line);
}

bool data_pair(const json_t *line, json_t **chosen, json_t **rejected) {
    const json_t *prompt = json_object_get(line, "prompt"), *c = json_object_get(line, "chosen"), *r = json_object_get(line, "rejected");
    *chosen = *rejected = NULL;
    if (!c || !r) return false;
    /* a list that holds the whole conversation does not need the prompt again */
    bool whole = json_is_array(c) && json_array_size(c) > 1;
    *chosen = join(whole ? NULL : prompt, c);
    *rejected = join(whole ? NULL : prompt, r);
    if (*chosen && *rejected) return true;
    json_decref(*chosen);
    json_decref(*rejected);
    *chosen = *rejected = NULL;
    return false;
}

data_kind data_line_kind(const json_t *line) {
    if (!json_is_object(line)) return DATA_AUTO;
    if (json_object_get(line, "chosen") && json_object_get(line, "rejected")) return DATA_PAIRS;
    if (json_object_get(line, "messages") || json_object_get(line, "completion") || json_object_get(line, "conversations") ||
        (json_object_get(line, "instruction") && json_object_get(line, "output")))
        return DATA_CHAT;
    return json_object_get(line, "text") ? DATA_JSONL : DATA_AUTO;
}

/* ---- messages into tokens ---- */

static mote_status render(const tok_vocab *v, const chat_template *t, json_t *messages, size_t n, bool open, tok_ids *ids,
                          mote_error *err) {
    json_t *some = json_array();
    if (!some) FAIL(err, MOTE_E_MEMORY, "out of memory for %zu messages", n);
    mote_status st = MOTE_OK;
    chat_text text = {0};
    for (size_t i = 0; i < n; i++)
        if (json_array_append(some, json_array_get(messages, i)) != 0)
            FAILG(st, err, MOTE_E_MEMORY, "out of memory for %zu messages", n);
    const chat_request r = {.messages = some, .add_generation_prompt = open, .enable_thinking = -1};
    TRYG(st, chat_template_render(t, &r, &text, err));
    ids->n = 0;
    st = run_encode_chat(v, &text, ids, err);
out:
    chat_text_free(&text);
    json_decref(some);
    return st;
}

static size_t same_start(const tok_ids *a, const tok_ids *b) {
    size_t n = 0;
    while (n < a->n && n < b->n && a->p[n] == b->p[n]) n++;
    return n;
}

/* Marks what answer `at` of the conversation has in the whole. */
static mote_status mark(const tok_vocab *v, const chat_template *t, json_t *messages, size_t at, const tok_ids *all, float *w,
                        mote_error *err) {
    tok_ids before = {0}, after = {0};
    mote_status st = MOTE_OK;
    bool last = at + 1 == json_array_size(messages);
    TRYG(st, render(v, t, messages, at, true, &before, err));
    if (!last) TRYG(st, render(v, t, messages, at + 1, false, &after, err));
    size_t from = same_start(&before, all), to = last ? all->n : same_start(&after, all);
    float factor = (float)json_get_num(json_array_get(messages, at), "weight", 1);
    if (from + LOOSE_TOKENS < before.n) to = 0; /* the template shows this turn otherwise once it is past */
    for (size_t i = from; i < to; i++) {
        w[i] = factor;
        if (tok_is_eog(v, all->p[i])) break;
    }
out:
    tok_ids_free(&before);
    tok_ids_free(&after);
    return st;
}

mote_status data_chat_ids(const tok_vocab *v, const chat_template *t, json_t *messages, tok_ids *ids, float **weights,
                          mote_error *err) {
    TRY(render(v, t, messages, json_array_size(messages), false, ids, err));
    float *w = MEM_NEW_N(float, ids->n ? ids->n : 1);
    if (!w) FAIL(err, MOTE_E_MEMORY, "out of memory for %zu tokens", ids->n);
    mote_status st = MOTE_OK;
    for (size_t i = 0; i < json_array_size(messages); i++)
        if (str_is(json_get_str(json_array_get(messages, i), "role"), "assistant"))
            TRYG(st, mark(v, t, messages, i, ids, w, err));
    bool any = false;
    for (size_t i = 0; i < ids->n; i++) any |= w[i] > 0;
    if (!any) FAILG(st, err, MOTE_E_NOT_FOUND, "nobody answers in this conversation");
    if (weights) {
        *weights = w;
        w = NULL;
    }
out:
    mem_free(w);
    return st;
}

mote_status data_template(chat_template **out, const model_file *f, const tok_vocab *v, mote_error *err) {
    chat_template_source src;
    run_template_source(f, v, &src);
    return chat_template_open(out, &src, err);
}

/* ---- items ---- */

/* A line as JSON, and the conversations in it: one of a chat, two of a pair, none of a text. Lines of texts and of chats may stand
 * in one file. */
struct line {
    json_t *tree, *chosen, *rejected;
};

static void line_close(struct line *l) {
    json_decref(l->tree);
    json_decref(l->chosen);
    json_decref(l->rejected);
}

static mote_status line_open(struct line *l, const data *d, const data_ref *r, mote_error *err) {
    char place[256];
    const data_file *f = &d->files[r->file];
    str text = {(const char *)f->map.p + r->offset, r->n};
    *l = (struct line){0};
    mote_status st = json_parse(&l->tree, text, "the line", err);
    if (st != MOTE_OK) return err_prefix(err, st, "%s", data_place(place, f, r->offset));
    if (f->kind == DATA_PAIRS) (void)data_pair(l->tree, &l->chosen, &l->rejected);
    else l->chosen = data_messages(l->tree);
    if (l->chosen || json_get_str(l->tree, "text").p) return MOTE_OK;
    line_close(l);
    FAIL(err, MOTE_E_MEMORY, "%s: out of memory for a conversation", data_place(place, f, r->offset));
}

/* The part of the line's text that the item is. */
static str line_text(const data *d, const data_ref *r, const struct line *l) {
    str rest = json_get_str(l->tree, "text");
    size_t most = data_line_part(d, rest.n);
    str part = rest;
    for (size_t i = 0; most && i <= r->part; i++) part = data_cut(&rest, most);
    return part;
}

static mote_status put_id(tok_ids *ids, int32_t id, mote_error *err) {
    TRY(mem_grow(&ids->p, &ids->cap, ids->n + 1, sizeof *ids->p, SIZE_MAX / sizeof *ids->p, err));
    ids->p[ids->n++] = id;
    return MOTE_OK;
}

static mote_status tokenize_text(const data *d, const data_ref *r, str text, data_tokens *out, mote_error *err) {
    const tok_vocab *v = d->o.vocab;
    tok_ids *ids = &out->ids[0];
    int32_t bos = tok_id(v, TOK_ROLE_BOS);
    out->n = 1;
    out->continues = true;
    if (r->flags & ITEM_FIRST && tok_adds_bos(v) && bos != TOK_NONE) TRY(put_id(ids, bos, err));
    TRY(tok_encode(v, text, 0, ids, err));
    if (r->flags & ITEM_LAST && !d->o.no_end && d->o.end_id != TOK_NONE) TRY(put_id(ids, d->o.end_id, err));
    return MOTE_OK;
}

static mote_status tokenize_messages(const data *d, json_t *messages, int which, data_tokens *out, mote_error *err) {
    TRY(data_chat_ids(d->o.vocab, d->o.tmpl, messages, &out->ids[which], d->o.loss_on_all ? NULL : &out->weights[which], err));
    out->n = which + 1;
    return MOTE_OK;
}

mote_status data_tokenize(const data *d, size_t item, data_tokens *out, mote_error *err) {
    const data_ref *r = &d->items[item];
    const data_file *f = &d->files[r->file];
    char place[256];
    struct line l;
    data_tokens_free(out);
    if (f->kind == DATA_TEXT) return tokenize_text(d, r, (str){(const char *)f->map.p + r->offset, r->n}, out, err);
    TRY(line_open(&l, d, r, err));
    mote_status st;
    if (!l.chosen) {
        st = tokenize_text(d, r, line_text(d, r, &l), out, err);
    } else {
        st = tokenize_messages(d, l.chosen, 0, out, err);
        if (st == MOTE_OK && l.rejected) st = tokenize_messages(d, l.rejected, 1, out, err);
        if (st != MOTE_OK) st = err_prefix(err, st, "%s", data_place(place, f, r->offset));
    }
    line_close(&l);
    return st;
}

/* What is said, a line a message. */
static void put_contents(const json_t *messages, buf *out) {
    for (size_t i = 0; i < json_array_size(messages); i++) {
        buf_put_str(out, json_get_str(json_array_get(messages, i), "content"));
        buf_putc(out, '\n');
    }
}

mote_status data_item_text(data *d, size_t item, buf *out, mote_error *err) {
    if (item >= d->n_items) FAIL(err, MOTE_E_RANGE, "item %zu of %zu", item, d->n_items);
    const data_ref *r = &d->items[item];
    const data_file *f = &d->files[r->file];
    if (f->kind == DATA_TEXT) {
        buf_put(out, f->map.p + r->offset, r->n);
        return buf_check(out, "text", err);
    }
    struct line l;
    chat_text text = {0};
    TRY(line_open(&l, d, r, err));
    mote_status st = MOTE_OK;
    if (!l.chosen) {
        buf_put_str(out, line_text(d, r, &l));
    } else if (!d->o.tmpl) {
        put_contents(l.chosen, out);
    } else {
        const chat_request req = {.messages = l.chosen, .enable_thinking = -1};
        TRYG(st, chat_template_render(d->o.tmpl, &req, &text, err));
        buf_put(out, text.p, text.n);
    }
    st = buf_check(out, "text", err);
out:
    chat_text_free(&text);
    line_close(&l);
    return st;
}
