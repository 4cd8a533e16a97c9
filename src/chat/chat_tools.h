/* chat_tools.h: the inside of a tool call, as text, to name and arguments. Used by chat_parser.c alone. */
#ifndef MOTE_CHAT_CHAT_TOOLS_H
#define MOTE_CHAT_CHAT_TOOLS_H

#include "chat/chat.h"

/* Called for each call that is found; id may be {NULL, 0}. */
typedef mote_status chat_call_fn(void *ctx, str id, str name, str arguments, mote_error *err);

/* Length of the JSON value at the beginning of s: 0 when it is not complete yet, SIZE_MAX when there is none. Not a
 * validation: brackets and strings are followed, nothing else. */
size_t chat_json_extent(str s);
/* Hands on the calls in body; *understood false (and nothing handed on) when it holds something else.
 * Bodies: TAGGED what stands between the tags, JSON one object, MISTRAL an array or name[ARGS]{…}, FUNCTION
 * name>{…}. */
mote_status chat_calls_read(chat_tool_syntax syntax, str body, bool *understood, chat_call_fn *fn, void *ctx, mote_error *err);
str chat_trim(str s);

#endif
