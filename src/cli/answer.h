/* answer.h: one answer of a model: streamed, cancelled by Ctrl-C, with its statistics. */
#ifndef MOTE_CLI_ANSWER_H
#define MOTE_CLI_ANSWER_H

#include "common.h"

/* How an answer is shown. */
typedef struct answer {
    mote_gen_opts opts;     /* on_piece and ctx are set by answer_begin */
    mote_gen_result result; /* filled by the call */
    bool stream;            /* print text as it comes; else it is collected in text */
    bool thinking_shown;    /* print reasoning too, dimmed on a terminal */
    bool terminal;          /* stdout is one */
    bool in_thinking;       /* while it runs */
    bool failed_write;
    char *text; /* collected answer, without reasoning; NUL-terminated; caller frees */
    size_t n, cap;
    cli_progress progress;
} answer;

/* Before a call that generates: Ctrl-C now cancels s alone. */
void answer_begin(answer *a, mote_session *s);
/* After it: Ctrl-C is again what it was. Ends colours and a line, as needed. */
void answer_end(answer *a);
/* True when Ctrl-C was pressed since the last call; forgets it. */
bool answer_interrupted(void);
/* Becomes readable when Ctrl-C is pressed; answer_interrupted makes it quiet again. -1 when there is none. */
int answer_interrupt_fd(void);
/* Installs the handler of Ctrl-C for the whole program: it cancels the running answer, if there is one. */
void answer_install_sigint(void);
/* One line on stderr: tokens, seconds, tokens per second. */
void answer_print_stats(const answer *a, const mote_speculator *sp); /* sp may be NULL */
/* Why it ended, when that is not obvious. */
void answer_print_finish(const answer *a);
#endif
