/* conversation.h: a chat on one sequence of a session; the insides of mote_chat (include/mote/generate.h). */
#ifndef MOTE_RUN_CONVERSATION_H
#define MOTE_RUN_CONVERSATION_H

#include "chat/chat.h"
#include "run/run.h"

struct mote_chat {
    mote_session *s; /* kept open */
    size_t seq;
    chat_template *tmpl;
    json_t *messages, *tools, *kwargs; /* tools, kwargs: may be NULL */
    int thinking;
    bool drop_oldest;
    size_t reserve; /* positions kept free for the answer */
    chat_syntax syntax;

    /* during an answer */
    const mote_gen_opts *gen;
    chat_parser *parser;
    buf content, reasoning;
    buf part;               /* what goes to the callback, with its NUL */
    json_t *calls;
    const mote_piece *news; /* what the model has just said; NULL at the end */
    bool told, stop;        /* the callback has heard of the token; it wants to stop */
    mote_status failed;     /* in a callback, where it cannot be returned */
    mote_error *err;
};

/* What chat_template_open wants to know of a model file and its vocabulary (either may be NULL); views into them. */
void run_template_source(const model_file *f, const tok_vocab *v, chat_template_source *src);
/* Appends the ids of a rendered conversation: BOS in front when the model wants it, control tokens of the template's bytes alone. */
mote_status run_encode_chat(const tok_vocab *v, const chat_text *t, tok_ids *ids, mote_error *err);

mote_status run_chat_open(mote_chat **out, mote_session *s, size_t seq, const mote_chat_opts *o,
                          mote_error *err);
void run_chat_close(mote_chat *c); /* NULL-safe */
mote_status run_chat_add(mote_chat *c, const char *role, str text, mote_error *err);
mote_status run_chat_answer(mote_chat *c, const mote_gen_opts *o, mote_gen_result *r, mote_error *err);
mote_status run_chat_say(mote_chat *c, str text, const mote_gen_opts *o, mote_gen_result *r, mote_error *err);
mote_status run_chat_regenerate(mote_chat *c, const mote_gen_opts *o, mote_gen_result *r, mote_error *err);
mote_status run_chat_set_system(mote_chat *c, const char *text, mote_error *err); /* NULL removes it */
void run_chat_clear(mote_chat *c);
mote_status run_chat_set_messages(mote_chat *c, str json, mote_error *err);
/* The prompt of the next answer. *dropped: oldest messages that were left out to make it fit. text may be
 * NULL. */
mote_status run_chat_prompt(mote_chat *c, tok_ids *ids, buf *text, size_t *dropped, mote_error *err);

#endif
