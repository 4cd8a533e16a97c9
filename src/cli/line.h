/* line.h: lines from the terminal: editing, history, several lines as one message. */
#ifndef MOTE_CLI_LINE_H
#define MOTE_CLI_LINE_H

#include <stdbool.h>
#include <stddef.h>

typedef struct line_reader line_reader;

typedef enum line_result { LINE_TEXT, LINE_INTERRUPTED, LINE_END } line_result;

/* keep_history: remember what was typed in a file of the user's state folder, readable by them alone.
 * NULL when out of memory. */
line_reader *line_open(bool keep_history);
void line_close(line_reader **r);
/* A message: a line; lines that end in \ and the next; or all between """ and """. *text is NUL-terminated and valid
 * until the next call. Ctrl-C gives LINE_INTERRUPTED, Ctrl-D on an empty line LINE_END. */
line_result line_read(line_reader *r, const char *prompt, const char **text);
#endif
