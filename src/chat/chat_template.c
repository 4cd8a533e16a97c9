/* chat_template.c: a model's template with its special tokens; messages in, prompt out. */
#include "chat/chat.h"

#include <stdio.h>

struct chat_template {
    jinja *main, *tools; /* tools: for requests with tools, or NULL */
    char *source;        /* of main, for chat_template_mentions */
    json_t *tokens;      /* bos_token, … : template text */
    enum chat_template_kind kind;
};

/* What is taken when a model brings no template; our own words in the two commonest forms. */
static const char chatml[] =
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
static const char plain[] =
    "{% for m in messages %}{{ m.role|capitalize }}: {{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}Assistant:{% endif %}";

static mote_status put_token(json_t *o, const char *name, str value, mote_error *err) {
    if (!value.p) return MOTE_OK;
    if (!utf8_valid(value.p, value.n)) FAIL(err, MOTE_E_FORMAT, "the text of %s is not valid UTF-8", name);
    if (json_object_set_new(o, name, json_stringn(value.p, value.n)) != 0)
        FAIL(err, MOTE_E_MEMORY, "out of memory for the text of %s", name);
    return MOTE_OK;
}

static mote_status put_tokens(json_t *o, const chat_template_source *src, mote_error *err) {
    if (!o) FAIL(err, MOTE_E_MEMORY, "out of memory opening a chat template");
    TRY(put_token(o, "bos_token", src->bos_token, err));
    TRY(put_token(o, "eos_token", src->eos_token, err));
    TRY(put_token(o, "pad_token", src->pad_token, err));
    return put_token(o, "unk_token", src->unk_token, err);
}

mote_status chat_template_open(chat_template **out, const chat_template_source *src, mote_error *err) {
    mote_status s;
    *out = NULL;
    chat_template *t = MEM_NEW(chat_template);
    if (!t) FAIL(err, MOTE_E_MEMORY, "out of memory opening a chat template");
    str text = src->text;
    if (!text.p) {
        t->kind = src->has_chatml ? CHAT_TEMPLATE_CHATML : CHAT_TEMPLATE_PLAIN;
        text = t->kind == CHAT_TEMPLATE_CHATML ? STR(chatml) : STR(plain);
    }
    t->tokens = json_object();
    TRYG(s, put_tokens(t->tokens, src, err));
    t->source = mem_strndup(text.p, text.n);
    if (!t->source) FAILG(s, err, MOTE_E_MEMORY, "out of memory opening a chat template");
    TRYG(s, jinja_parse(&t->main, text, err));
    if (src->tool_use.p) TRYG(s, jinja_parse(&t->tools, src->tool_use, err));
    *out = t;
    return MOTE_OK;
out:
    chat_template_close(&t);
    return s;
}

void chat_template_close(chat_template **t) {
    if (!*t) return;
    jinja_close(&(*t)->main);
    jinja_close(&(*t)->tools);
    json_decref((*t)->tokens);
    mem_free((*t)->source);
    mem_free(*t);
    *t = NULL;
}

enum chat_template_kind chat_template_kind_of(const chat_template *t) { return t->kind; }

const char *chat_template_note(const chat_template *t) {
    switch (t->kind) {
    case CHAT_TEMPLATE_CHATML: return "the model brings no chat template; ChatML is used, because its vocabulary has <|im_start|>";
    case CHAT_TEMPLATE_PLAIN: return "the model brings no chat template; messages are written as \"User: …\"";
    default: return NULL;
    }
}

bool chat_template_mentions(const chat_template *t, const char *word) { return strstr(t->source, word) != NULL; }

/* ---- the request ---- */

static mote_status check_part(size_t i, size_t k, const json_t *part, mote_error *err) {
    if (!json_is_object(part) || !json_is_string(json_object_get(part, "type")))
        FAIL(err, MOTE_E_USAGE, "messages[%zu].content[%zu]: an object with a \"type\" is expected", i, k);
    return MOTE_OK;
}

static mote_status check_message(size_t i, const json_t *m, mote_error *err) {
    if (!json_is_object(m)) FAIL(err, MOTE_E_USAGE, "messages[%zu] is not an object", i);
    const json_t *role = json_object_get(m, "role"), *content = json_object_get(m, "content");
    if (!json_is_string(role) || json_string_length(role) == 0) FAIL(err, MOTE_E_USAGE, "messages[%zu] has no role", i);
    if (!content || json_is_null(content) || json_is_string(content)) return MOTE_OK;
    if (!json_is_array(content))
        FAIL(err, MOTE_E_USAGE, "messages[%zu].content: text, null or an array of parts is expected", i);
    for (size_t k = 0; k < json_array_size(content); k++) TRY(check_part(i, k, json_array_get(content, k), err));
    return MOTE_OK;
}

static mote_status check_request(const chat_request *r, mote_error *err) {
    if (!json_is_array(r->messages) || json_array_size(r->messages) == 0)
        FAIL(err, MOTE_E_USAGE, "messages: a non-empty array is expected");
    for (size_t i = 0; i < json_array_size(r->messages); i++) TRY(check_message(i, json_array_get(r->messages, i), err));
    if (r->tools && !json_is_null(r->tools) && !json_is_array(r->tools)) FAIL(err, MOTE_E_USAGE, "tools: an array is expected");
    if (r->kwargs && !json_is_null(r->kwargs) && !json_is_object(r->kwargs))
        FAIL(err, MOTE_E_USAGE, "chat_template_kwargs: an object is expected");
    return MOTE_OK;
}

/* Variables that a request may set. Anything else could override what the server decides (messages, tokens). */
static bool kwarg_allowed(const char *name) {
    static const char *const names[] = {
        "enable_thinking", "thinking", "thinking_budget", "reasoning_effort", "reasoning_strategy", "think",
        "preserve_thinking", "clear_thinking", "documents", "citations", "citation_options", "date_string", "tools_in_user_message",
        "builtin_tools", "custom_tools", "parallel_tool_calls", "tool_choice", "system_message", "model_identity",
        "json_response", "response_format", "add_vision_id", "xml_tools", "python_tools", "language", "length",
        "originality", "continue_final_message", "drop_thinking", "safety_mode", "developer_instructions",
    };
    for (size_t i = 0; i < COUNT_OF(names); i++)
        if (strcmp(name, names[i]) == 0) return true;
    return false;
}

static mote_status put_kwargs(json_t *vars, json_t *kwargs, mote_error *err) {
    const char *name;
    json_t *value;
    if (!json_is_object(kwargs)) return MOTE_OK;
    json_object_foreach(kwargs, name, value) {
        if (!kwarg_allowed(name))
            FAIL(err, MOTE_E_USAGE, "chat_template_kwargs: \"%.60s\" may not be set by a request", name);
        if (json_object_set(vars, name, value) != 0) FAIL(err, MOTE_E_MEMORY, "out of memory rendering a chat template");
    }
    return MOTE_OK;
}

/* As Hugging Face calls a template: tools and documents are there in any case, null when not given. */
static mote_status put_variables(json_t *vars, const chat_request *r, mote_error *err) {
    bool tools = r->tools && json_array_size(r->tools) > 0;
    int bad = !vars || json_object_set(vars, "messages", r->messages) != 0;
    bad = bad || json_object_set_new(vars, "documents", json_null()) != 0;
    bad = bad || (tools ? json_object_set(vars, "tools", r->tools) : json_object_set_new(vars, "tools", json_null())) != 0;
    bad = bad || json_object_set_new(vars, "add_generation_prompt", json_boolean(r->add_generation_prompt)) != 0;
    if (bad) FAIL(err, MOTE_E_MEMORY, "out of memory rendering a chat template");
    TRY(put_kwargs(vars, r->kwargs, err));
    if (r->enable_thinking >= 0 && json_object_set_new(vars, "enable_thinking", json_boolean(r->enable_thinking)) != 0)
        FAIL(err, MOTE_E_MEMORY, "out of memory rendering a chat template");
    return MOTE_OK;
}

mote_status chat_template_render(const chat_template *t, const chat_request *r, chat_text *out, mote_error *err) {
    jinja_opts opts = {.now = r->now, .trusted = t->tokens};
    bool tools = r->tools && json_array_size(r->tools) > 0;
    json_t *vars = NULL;
    mote_status s;
    *out = (chat_text){0};
    TRY(check_request(r, err));
    vars = json_object();
    TRYG(s, put_variables(vars, r, err));
    s = jinja_render(tools && t->tools ? t->tools : t->main, vars, &opts, out, err);
out:
    json_decref(vars);
    return s;
}
