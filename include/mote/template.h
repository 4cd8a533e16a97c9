/* template.h: chat templates, as Hugging Face models carry them (Jinja2). Thread: any. */
#ifndef MOTE_TEMPLATE_H
#define MOTE_TEMPLATE_H

#include "mote/status.h"

#include <stdbool.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* One stretch of a rendered prompt. Content came in through the conversation; only the rest, the template's own
 * text, may become control tokens. */
typedef struct mote_template_span {
    size_t offset, len; /* bytes */
    bool is_content;
} mote_template_span;

/* NULL strings: the variable is not set by the options (the conversation may still set it). */
typedef struct mote_template_opts {
    size_t size; /* sizeof(mote_template_opts) */
    const char *bos_token, *eos_token, *pad_token, *unk_token;
    const char *now; /* "YYYY-MM-DD HH:MM:SS" for strftime_now; NULL: the local time */
    mote_template_span *spans; /* when not NULL: receives up to spans_cap spans; n_spans the number there are */
    size_t spans_cap, n_spans;
} mote_template_opts;
MOTE_API mote_template_opts mote_template_opts_default(void);

/* Renders a template with a conversation: the text of a JSON object with messages, tools, add_generation_prompt and
 * any other variables. Writes min(*needed + 1, cap) bytes to dst, NUL-terminated where there is room; *needed is the
 * length of the text without NUL. opts may be NULL.
 * Error: MOTE_E_FORMAT (the template or the JSON cannot be read), MOTE_E_TEMPLATE (raised while rendering, with the
 * template's line), MOTE_E_LIMIT (steps, depth, memory or output), MOTE_E_USAGE. */
MOTE_API mote_status mote_template_render(const char *source, size_t source_n, const char *conversation_json,
                                          size_t json_n, mote_template_opts *opts, char *dst, size_t cap,
                                          size_t *needed, mote_error *err);

#ifdef __cplusplus
}
#endif
#endif
