/* eval_int.h: what the files of eval share among themselves. */
#ifndef MOTE_RUN_EVAL_INT_H
#define MOTE_RUN_EVAL_INT_H

#define PCRE2_CODE_UNIT_WIDTH 8
#include "run/eval_tasks.h"

#include <pcre2.h>

/* Does an answer follow the instruction `id` with its arguments (an object or NULL)? An empty one follows none. */
bool eval_follows(const char *id, const json_t *args, str answer, bool *known);

/* eval_language.c */
size_t eval_sentences(str text);
size_t eval_capital_words(str text);
/* All letters that have a case are upper (lower) case, and there is one. */
bool eval_has_case(str text, bool upper);
/* Is the text in this language (ISO 639-1)? By its script, and among those that share one by their commonest words. */
bool eval_language_is(str text, const char *code);

#endif
