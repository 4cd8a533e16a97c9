/* chat_parser.c: a model's answer, as it streams, into reasoning, content and tool calls.
 *
 * Text that is not yet decided lies in `in`. Each step looks for the markers of its state, hands on what lies before
 * the first, and keeps back a tail that may be the beginning of one. White space at the end of a stretch of content
 * waits too, because it is dropped before a tool call. */
#include "chat/chat_tools.h"

#define CALL_BYTES_MAX ((size_t)1 << 20) /* a longer one is content */
#define NAME_BYTES_MAX 512

typedef enum state {
    S_START,   /* nothing but white space so far: reasoning or a bare JSON call may begin */
    S_THINK,
    S_CONTENT,
    S_CALL,    /* behind the marker of a tool call */
    S_HEADER,  /* Harmony: between messages */
    S_MESSAGE, /* Harmony: behind <|message|> */
    S_DONE
} state;

struct chat_parser {
    chat_syntax syntax;
    bool tools, trim_lead; /* trim_lead: white space is dropped until text comes */
    state state;
    chat_event_kind kind;  /* of the Harmony message */
    buf in, space, name;   /* undecided; white space that waits; recipient of the Harmony message */
    size_t at;             /* in: bytes that are done with */
    size_t scanned;        /* in, behind at: bytes in which no end was found, so that long calls are read once */
    size_t depth;          /* of brackets at `scanned`, while a JSON body is read */
    bool in_string;
    unsigned n_calls;
    chat_event_fn *fn;
    void *ctx;
};

/* ---- syntax ---- */

chat_syntax chat_template_syntax(const chat_template *t) {
    static const char *const tags[][2] = {
        {"<think>", "</think>"}, {"[THINK]", "[/THINK]"}, {"<seed:think>", "</seed:think>"},
        {"<reasoning>", "</reasoning>"}, {"<|START_THINKING|>", "<|END_THINKING|>"}, {"<|inner_prefix|>", "<|inner_suffix|>"},
    };
    chat_syntax s = {0};
    for (size_t i = 0; i < COUNT_OF(tags) && !s.think_open; i++)
        if (chat_template_mentions(t, tags[i][1])) {
            s.think_open = tags[i][0];
            s.think_close = tags[i][1];
        }
    if (chat_template_mentions(t, "<|channel|>")) s.tools = CHAT_TOOLS_HARMONY;
    else if (chat_template_mentions(t, "[TOOL_CALLS]")) s.tools = CHAT_TOOLS_MISTRAL;
    else if (chat_template_mentions(t, "<tool_call>")) s.tools = CHAT_TOOLS_TAGGED;
    else if (chat_template_mentions(t, "<function=")) s.tools = CHAT_TOOLS_FUNCTION;
    else if (chat_template_mentions(t, "tools") && chat_template_mentions(t, "parameters")) s.tools = CHAT_TOOLS_JSON;
    return s;
}

mote_status chat_parser_open(chat_parser **out, const chat_syntax *s, str prompt, bool tools, chat_event_fn *fn,
                             void *ctx, mote_error *err) {
    chat_parser *p = *out = MEM_NEW(chat_parser);
    if (!p) FAIL(err, MOTE_E_MEMORY, "out of memory opening a chat parser");
    p->syntax = *s;
    p->tools = tools;
    p->fn = fn;
    p->ctx = ctx;
    buf_init(&p->in, 4 * CALL_BYTES_MAX);
    buf_init(&p->space, CALL_BYTES_MAX);
    buf_init(&p->name, CALL_BYTES_MAX);
    if (s->tools == CHAT_TOOLS_HARMONY) p->state = S_HEADER;
    else if (s->think_open && str_ends(chat_trim(prompt), str_of(s->think_open))) {
        p->state = S_THINK;
        p->trim_lead = true;
    }
    return MOTE_OK;
}

void chat_parser_close(chat_parser **p) {
    if (!*p) return;
    buf_free(&(*p)->in);
    buf_free(&(*p)->space);
    buf_free(&(*p)->name);
    mem_free(*p);
    *p = NULL;
}

unsigned chat_parser_n_calls(const chat_parser *p) { return p->n_calls; }

bool chat_parser_in_reasoning(const chat_parser *p) {
    return p->state == S_THINK || (p->state == S_MESSAGE && p->kind == CHAT_REASONING);
}

/* ---- handing on ---- */

static mote_status send(chat_parser *p, chat_event_kind kind, str text, mote_error *err) {
    const chat_event e = {.kind = kind, .text = text};
    return text.n ? p->fn(p->ctx, &e, err) : MOTE_OK;
}

static mote_status flush_space(chat_parser *p, chat_event_kind kind, mote_error *err) {
    mote_status s = send(p, kind, buf_str(&p->space), err);
    buf_clear(&p->space);
    return s;
}

static bool is_space(char c) { return c == ' ' || c == '\n' || c == '\r' || c == '\t'; }

/* Text of the current stretch; white space at its end waits for what follows. */
static mote_status put_text(chat_parser *p, chat_event_kind kind, str s, mote_error *err) {
    while (p->trim_lead && s.n && is_space(s.p[0])) s = str_sub(s, 1, s.n - 1);
    if (s.n == 0) return MOTE_OK;
    p->trim_lead = false;
    size_t n = s.n;
    while (n > 0 && is_space(s.p[n - 1])) n--;
    if (n) {
        TRY(flush_space(p, kind, err));
        TRY(send(p, kind, str_sub(s, 0, n), err));
    }
    buf_put(&p->space, s.p + n, s.n - n);
    return buf_check(&p->space, "an answer's white space", err);
}

static str pending(const chat_parser *p) { return str_sub(buf_str(&p->in), p->at, p->in.n - p->at); }

static void eat(chat_parser *p, size_t n) {
    p->at += n;
    p->scanned = p->depth = 0;
    p->in_string = false;
}

static mote_status on_call(void *ctx, str id, str name, str arguments, mote_error *err) {
    chat_parser *p = ctx;
    const chat_event e = {.kind = CHAT_TOOL_CALL, .index = p->n_calls++, .id = id, .name = name, .arguments = arguments};
    return p->fn(p->ctx, &e, err);
}

/* The call in body; before and after stand around it in the text and are content too when it is none. */
static mote_status finish_call(chat_parser *p, str body, str before, str after, mote_error *err) {
    bool understood;
    TRY(chat_calls_read(p->syntax.tools, body, &understood, on_call, p, err));
    p->state = S_CONTENT;
    if (understood) {
        buf_clear(&p->space);
        p->trim_lead = true;
        if (p->syntax.tools == CHAT_TOOLS_JSON) p->state = S_START;
        return MOTE_OK;
    }
    TRY(flush_space(p, CHAT_CONTENT, err));
    TRY(send(p, CHAT_CONTENT, before, err));
    TRY(send(p, CHAT_CONTENT, body, err));
    return send(p, CHAT_CONTENT, after, err);
}

/* ---- markers ---- */

/* Offset of the first marker in s and which it is; without one SIZE_MAX, and *safe bytes are certainly no part of
 * one. */
static size_t find_marker(str s, const char *const *markers, size_t *which, size_t *safe) {
    size_t best = SIZE_MAX;
    *safe = s.n;
    for (size_t m = 0; markers[m]; m++) {
        str k = str_of(markers[m]);
        size_t at = str_find(s, k, 0);
        if (at < best) {
            best = at;
            *which = m;
        }
        for (size_t n = MIN(k.n - 1, s.n); n > 0; n--)
            if (str_ends(s, str_sub(k, 0, n))) {
                *safe = MIN(*safe, s.n - n);
                break;
            }
    }
    return best;
}

/* The same from where the last look ended. */
#define MARKER_BYTES_MAX 32
static size_t find_next(chat_parser *p, str s, const char *const *markers, size_t *which, size_t *safe) {
    size_t from = p->scanned > MARKER_BYTES_MAX ? p->scanned - MARKER_BYTES_MAX : 0;
    size_t at = find_marker(str_sub(s, from, s.n - from), markers, which, safe);
    *safe += from;
    p->scanned = s.n;
    return at == SIZE_MAX ? at : at + from;
}

static const char *call_marker(const chat_parser *p) {
    if (!p->tools) return NULL;
    switch (p->syntax.tools) {
    case CHAT_TOOLS_TAGGED: return "<tool_call>";
    case CHAT_TOOLS_MISTRAL: return "[TOOL_CALLS]";
    case CHAT_TOOLS_FUNCTION: return "<function=";
    case CHAT_TOOLS_JSON: return "<|python_tag|>";
    default: return NULL;
    }
}

/* ---- steps: each returns with *more false when it needs more text ---- */

static mote_status step_start(chat_parser *p, bool end, bool *more) {
    str s = pending(p), t = s;
    while (t.n && (is_space(t.p[0]) || (p->n_calls && t.p[0] == ';'))) t = str_sub(t, 1, t.n - 1);
    if (p->n_calls) { /* what separates Llama's calls is no content */
        eat(p, s.n - t.n);
        s = t;
    }
    str open = p->syntax.think_open ? str_of(p->syntax.think_open) : (str){NULL, 0};
    if (t.n < open.n && str_starts(open, t) && !end) {
        *more = false;
        return MOTE_OK;
    }
    p->state = S_CONTENT;
    if (open.n && str_starts(t, open)) {
        eat(p, s.n - t.n + open.n);
        p->state = S_THINK;
        p->trim_lead = true;
    } else if (p->tools && p->syntax.tools == CHAT_TOOLS_JSON) {
        if (t.n == 0 && !end) {
            p->state = S_START;
            *more = false;
        } else if (t.n && t.p[0] == '{') p->state = S_CALL;
    }
    return MOTE_OK;
}

static mote_status step_think(chat_parser *p, bool end, bool *more, mote_error *err) {
    const char *const markers[] = {p->syntax.think_close, NULL};
    size_t which, safe;
    str s = pending(p);
    size_t at = find_marker(s, markers, &which, &safe);
    bool closed = at != SIZE_MAX;
    if (!closed) at = end ? s.n : safe;
    TRY(put_text(p, CHAT_REASONING, str_sub(s, 0, at), err));
    eat(p, closed ? at + strlen(markers[0]) : at);
    *more = closed;
    if (closed) {
        buf_clear(&p->space);
        p->trim_lead = true;
        p->state = p->syntax.tools == CHAT_TOOLS_JSON ? S_START : S_CONTENT;
        if (p->state == S_START) p->syntax.think_open = NULL;
    }
    return MOTE_OK;
}

static mote_status step_content(chat_parser *p, bool end, bool *more, mote_error *err) {
    const char *const markers[] = {call_marker(p), NULL};
    size_t which, safe;
    str s = pending(p);
    size_t at = find_marker(s, markers, &which, &safe);
    bool call = at != SIZE_MAX;
    if (!call) at = end ? s.n : safe;
    TRY(put_text(p, CHAT_CONTENT, str_sub(s, 0, at), err));
    eat(p, call ? at + strlen(markers[0]) : at);
    *more = call;
    if (call) p->state = S_CALL;
    return MOTE_OK;
}

/* End of the JSON value that begins at i, 0 when it is not complete; goes on where the last look ended. */
static size_t json_end(chat_parser *p, str s, size_t i) {
    for (size_t k = MAX(p->scanned, i); k < s.n; k++) {
        char c = s.p[k];
        if (p->in_string) {
            if (c == '\\') {
                if (k + 1 == s.n) { /* the escaped character is still to come */
                    p->scanned = k;
                    return 0;
                }
                k++;
            } else if (c == '"') p->in_string = false;
        } else if (c == '"') p->in_string = true;
        else if (c == '{' || c == '[') p->depth++;
        else if ((c == '}' || c == ']') && --p->depth == 0) return k + 1;
    }
    p->scanned = s.n;
    return 0;
}

/* How far the body of the call at the start of s reaches, and what ends it; 0: not complete. */
static size_t body_end(chat_parser *p, str s, str *closer) {
    *closer = STR("");
    if (p->syntax.tools == CHAT_TOOLS_TAGGED || p->syntax.tools == CHAT_TOOLS_FUNCTION) {
        const char *const markers[] = {p->syntax.tools == CHAT_TOOLS_TAGGED ? "</tool_call>" : "</function>", NULL};
        size_t which, safe, at = find_next(p, s, markers, &which, &safe);
        if (at != SIZE_MAX) *closer = str_of(markers[0]);
        return at == SIZE_MAX ? 0 : at;
    }
    size_t i = 0;
    while (i < s.n && is_space(s.p[i])) i++;
    if (i == s.n) return 0;
    if (p->syntax.tools == CHAT_TOOLS_MISTRAL && s.p[i] != '[') {
        i = str_find(s, STR("{"), i);
        if (i == SIZE_MAX) return s.n > NAME_BYTES_MAX ? SIZE_MAX : 0;
    }
    if (s.p[i] != '{' && s.p[i] != '[') return SIZE_MAX; /* <|python_tag|> and code: no JSON call */
    return json_end(p, s, i);
}

static mote_status step_call(chat_parser *p, bool end, bool *more, mote_error *err) {
    str s = pending(p), closer;
    bool bare = p->syntax.tools == CHAT_TOOLS_JSON; /* then no marker was eaten, or one that may be dropped */
    str opener = bare ? STR("") : str_of(call_marker(p));
    size_t n = body_end(p, s, &closer);
    if (n == 0 && !closer.n && !end && s.n <= CALL_BYTES_MAX) {
        *more = false;
        return MOTE_OK;
    }
    bool whole = (n != 0 || closer.n) && n != SIZE_MAX;
    if (!whole) {
        n = s.n;
        closer = STR("");
    }
    TRY(finish_call(p, str_sub(s, 0, n), opener, closer, err));
    eat(p, n + closer.n);
    if (p->state == S_START) p->syntax.think_open = NULL;
    return MOTE_OK;
}

/* ---- Harmony ---- */

/* "<|start|>assistant<|channel|>commentary to=functions.f <|constrain|>json": channel and recipient. */
static void read_header(chat_parser *p, str h) {
    size_t channel = str_find(h, STR("<|channel|>"), 0), to = str_find(h, STR("to="), 0);
    str c = channel == SIZE_MAX ? STR("final") : chat_trim(str_sub(h, channel + 11, h.n - channel - 11));
    buf_clear(&p->name);
    p->kind = str_starts(c, STR("analysis")) ? CHAT_REASONING : CHAT_CONTENT;
    if (to == SIZE_MAX) return;
    size_t from = to + 3, n = 0;
    if (str_starts(str_sub(h, from, h.n - from), STR("functions."))) from += 10;
    while (from + n < h.n && !is_space(h.p[from + n]) && h.p[from + n] != '<') n++;
    buf_put(&p->name, h.p + from, n);
    if (p->tools && p->name.n) p->kind = CHAT_TOOL_CALL;
}

static mote_status step_header(chat_parser *p, bool end, bool *more) {
    static const char *const markers[] = {"<|message|>", NULL};
    size_t which, safe;
    str s = pending(p);
    bool tag = s.p[0] == '<' && (s.n == 1 || s.p[1] == '|');
    if (!tag && !is_space(s.p[0])) { /* text without a header: tokens hidden, or another format */
        p->state = S_MESSAGE;
        p->kind = CHAT_CONTENT;
        return MOTE_OK;
    }
    size_t at = find_next(p, s, markers, &which, &safe);
    if (at == SIZE_MAX) { /* an unfinished header at the end says nothing */
        *more = false;
        if (end) eat(p, s.n);
        return MOTE_OK;
    }
    read_header(p, str_sub(s, 0, at));
    eat(p, at + strlen(markers[0]));
    p->state = S_MESSAGE;
    return MOTE_OK;
}

static mote_status finish_message(chat_parser *p, str s, mote_error *err) {
    if (p->kind != CHAT_TOOL_CALL) return put_text(p, p->kind, s, err);
    return on_call(p, (str){NULL, 0}, buf_str(&p->name), chat_trim(s), err);
}

static mote_status step_message(chat_parser *p, bool end, bool *more, mote_error *err) {
    static const char *const markers[] = {"<|end|>", "<|return|>", "<|call|>", "<|start|>", NULL};
    size_t which = 0, safe;
    str s = pending(p);
    size_t at = find_next(p, s, markers, &which, &safe);
    bool over = at != SIZE_MAX;
    *more = over;
    if (!over && p->kind == CHAT_TOOL_CALL && !end) return MOTE_OK; /* a call is handed on whole */
    if (!over) at = end ? s.n : safe;
    TRY(finish_message(p, str_sub(s, 0, at), err));
    eat(p, over ? at + (which == 3 ? 0 : strlen(markers[which])) : at);
    if (over) {
        if (p->kind == CHAT_CONTENT) TRY(flush_space(p, CHAT_CONTENT, err));
        buf_clear(&p->space);
        p->state = S_HEADER;
    }
    return MOTE_OK;
}

static mote_status advance(chat_parser *p, bool end, mote_error *err) {
    for (bool more = true; more && p->at < p->in.n;) {
        switch (p->state) {
        case S_START: TRY(step_start(p, end, &more)); break;
        case S_THINK: TRY(step_think(p, end, &more, err)); break;
        case S_CONTENT: TRY(step_content(p, end, &more, err)); break;
        case S_CALL: TRY(step_call(p, end, &more, err)); break;
        case S_HEADER: TRY(step_header(p, end, &more)); break;
        case S_MESSAGE: TRY(step_message(p, end, &more, err)); break;
        case S_DONE: more = false; break;
        }
    }
    if (p->at) memmove(p->in.p, p->in.p + p->at, p->in.n - p->at);
    p->in.n -= p->at;
    p->at = 0;
    return MOTE_OK;
}

mote_status chat_parser_put(chat_parser *p, str text, mote_error *err) {
    buf_put_str(&p->in, text);
    TRY(buf_check(&p->in, "an answer that is being parsed", err));
    return advance(p, false, err);
}

mote_status chat_parser_end(chat_parser *p, mote_error *err) {
    TRY(advance(p, true, err));
    bool content = p->state == S_CONTENT || p->state == S_CALL || p->state == S_START || (p->state == S_MESSAGE && p->kind == CHAT_CONTENT);
    if (p->state == S_CALL && p->in.n == 0 && p->syntax.tools != CHAT_TOOLS_JSON) { /* a marker with nothing behind it */
        TRY(flush_space(p, CHAT_CONTENT, err));
        TRY(send(p, CHAT_CONTENT, str_of(call_marker(p)), err));
    }
    if (content && !p->trim_lead) TRY(flush_space(p, CHAT_CONTENT, err));
    p->state = S_DONE;
    return MOTE_OK;
}
