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

#endif
