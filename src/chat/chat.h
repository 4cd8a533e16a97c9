/* chat.h: chat templates, messages, and what a model's text means.
 *
 *   jinja          the template language of Hugging Face's chat templates, as a parsed program
 *   chat_template  a model's template with its special tokens: messages in, prompt out
 *   chat_parser    a model's text in, as it streams; reasoning, content and tool calls out
 *
 * Provenance: every byte of a rendered prompt is either the template's (its literals, bos_token and the
 * like, known role names) or content (whatever came in through a variable). Only the template's bytes may
 * become control tokens. A control token counts only when it lies wholly inside one template span; apart
 * from that, spans are not borders: ordinary text is tokenized across them.
 *
 * The language is that of Jinja2 3.1's ImmutableSandboxedEnvironment with trim_blocks, lstrip_blocks, loop
 * controls and the extras of Hugging Face (tojson, raise_exception, strftime_now, generation), without
 * include, import and extends. Integers have 64 bits. */
#ifndef MOTE_CHAT_CHAT_H
#define MOTE_CHAT_CHAT_H

#include "base/base.h"

#include <time.h>

/* Limits of what is parsed and what a render may use. */
#define JINJA_SOURCE_MAX ((size_t)512 << 10)
#define JINJA_STEPS_DEFAULT 500000
#define JINJA_MEMORY_DEFAULT ((size_t)48 << 20)
#define JINJA_OUTPUT_DEFAULT ((size_t)16 << 20)

typedef struct chat_span {
    size_t offset, len;
    bool is_content;
} chat_span;

/* A rendered prompt: n bytes of UTF-8 (NUL-terminated, NUL not counted) covered by spans without gaps;
 * neighbours differ in is_content. Owned by the caller: chat_text_free. */
typedef struct chat_text {
    char *p;
    size_t n;
    chat_span *spans;
    size_t n_spans;
} chat_text;

void chat_text_free(chat_text *t);

typedef struct jinja jinja; /* immutable once parsed. Thread: any, also several at once */

/* Zero means the default. Budgets grow by what the variables themselves take, so that a long conversation
 * is not refused for its length. */
typedef struct jinja_opts {
    const struct tm *now; /* what strftime_now sees; NULL: the local time */
    json_t *trusted;      /* variables that count as template text: bos_token, eos_token, … ; may be NULL */
    int64_t steps;
    size_t memory_bytes, output_bytes;
} jinja_opts;

/* Parses a template. source need not outlive *out. Error: MOTE_E_FORMAT with the line, MOTE_E_LIMIT. */
mote_status jinja_parse(jinja **out, str source, mote_error *err);
void jinja_close(jinja **t);
/* Renders with `variables` (an object: messages, tools, add_generation_prompt, …; only read). opts may be
 * NULL. Error: MOTE_E_TEMPLATE (raised by the template or a wrong operation, with the template's line),
 * MOTE_E_LIMIT (budget), MOTE_E_MEMORY. *out is empty after an error. */
mote_status jinja_render(const jinja *t, json_t *variables, const jinja_opts *opts, chat_text *out,
                         mote_error *err);

/* A model's chat template. */
typedef struct chat_template chat_template;

enum chat_template_kind { CHAT_TEMPLATE_MODEL, CHAT_TEMPLATE_CHATML, CHAT_TEMPLATE_PLAIN };

typedef struct chat_template_source {
    str text;                 /* "tokenizer.chat_template"; {NULL, 0} when the model has none */
    str tool_use;             /* "tokenizer.chat_template.tool_use", used when tools are given; or {NULL, 0} */
    str bos_token, eos_token; /* texts of the special tokens, or {NULL, 0} */
    str pad_token, unk_token;
    bool has_chatml;          /* the vocabulary has <|im_start|> and <|im_end|> */
} chat_template_source;

/* Copies what it needs. Without a template, ChatML is taken when the vocabulary has its tokens, else plain
 * text ("User: …"); see chat_template_kind_of. */
mote_status chat_template_open(chat_template **out, const chat_template_source *src, mote_error *err);
void chat_template_close(chat_template **t);
enum chat_template_kind chat_template_kind_of(const chat_template *t);
/* One sentence for the user when the template is not the model's own, else NULL. Static storage. */
const char *chat_template_note(const chat_template *t);
/* Whether the template's source mentions a variable or word: "enable_thinking", "tools", "<think>". */
bool chat_template_mentions(const chat_template *t, const char *word);

typedef struct chat_request {
    json_t *messages; /* array of {role, content, …}; content: string, null, or an array of parts */
    json_t *tools;    /* array, or NULL */
    json_t *kwargs;   /* further variables from the request; only allow-listed names pass. NULL: none */
    bool add_generation_prompt;
    int enable_thinking; /* -1 not given, 0, 1 */
    const struct tm *now;
} chat_request;

/* Checks the messages' form (a role each, content of a known kind) and renders the prompt.
 * Error: MOTE_E_USAGE names the message that is wrong; else as jinja_render. */
mote_status chat_template_render(const chat_template *t, const chat_request *r, chat_text *out,
                                 mote_error *err);

/* ---- what the model answers ---- */

typedef enum chat_tool_syntax {
    CHAT_TOOLS_NONE,
    CHAT_TOOLS_TAGGED,   /* <tool_call>…</tool_call>: JSON (Hermes, Qwen), <function=…> (Qwen coder), <arg_key> (GLM) */
    CHAT_TOOLS_JSON,     /* the answer is {"name": …, "parameters": …}, maybe after <|python_tag|> (Llama 3) */
    CHAT_TOOLS_MISTRAL,  /* [TOOL_CALLS][{…}] or [TOOL_CALLS]name[ARGS]{…} */
    CHAT_TOOLS_FUNCTION, /* <function=name>{…}</function> (Functionary 3.1, Llama 3 custom tools) */
    CHAT_TOOLS_HARMONY   /* <|channel|>…<|message|>… (gpt-oss): reasoning, content and calls */
} chat_tool_syntax;

/* How a model marks its reasoning and its tool calls. think_open NULL: it does not reason in tags. Static storage. */
typedef struct chat_syntax {
    chat_tool_syntax tools;
    const char *think_open, *think_close;
} chat_syntax;

/* Read off the words that the template uses. */
chat_syntax chat_template_syntax(const chat_template *t);

typedef enum chat_event_kind { CHAT_CONTENT, CHAT_REASONING, CHAT_TOOL_CALL } chat_event_kind;

/* A piece of text, or one whole tool call. The views live until the handler returns. */
typedef struct chat_event {
    chat_event_kind kind;
    str text;            /* content, reasoning */
    unsigned index;      /* tool call: 0, 1, … */
    str id;              /* as the model gave it, or {NULL, 0} */
    str name, arguments; /* arguments: the text of a JSON object */
} chat_event;

typedef mote_status chat_event_fn(void *ctx, const chat_event *e, mote_error *err);

/* Takes the answer as it streams, in pieces of any size, and hands on what is certain: a tag that may be beginning is
 * held back until it is one or is not. Nothing is lost: a tool call that cannot be read comes out as content.
 * The text must show control tokens (TOK_SPECIAL) where the syntax is written with them (Llama 3, Mistral, Harmony).
 * Thread: one at a time. */
typedef struct chat_parser chat_parser;

/* prompt: the rendered prompt; when it ends in an open reasoning tag, the answer begins with reasoning. tools: whether
 * calls are looked for. s is copied. */
mote_status chat_parser_open(chat_parser **out, const chat_syntax *s, str prompt, bool tools, chat_event_fn *fn,
                             void *ctx, mote_error *err);
void chat_parser_close(chat_parser **p);
mote_status chat_parser_put(chat_parser *p, str text, mote_error *err);
/* The answer is complete: what was held back comes out. Afterwards the parser is spent. */
mote_status chat_parser_end(chat_parser *p, mote_error *err);
unsigned chat_parser_n_calls(const chat_parser *p);
/* Whether the text so far ends inside reasoning. */
bool chat_parser_in_reasoning(const chat_parser *p);

#endif
