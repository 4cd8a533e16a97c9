/* answer.c: one answer of a model. */
#include "answer.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static mote_session *_Atomic running; /* what Ctrl-C cancels */
static volatile sig_atomic_t interrupted;
static int wake[2] = {-1, -1}; /* a byte per Ctrl-C, so that a poll sees it, whichever thread took the signal */

static void on_sigint(int sig) {
    int saved = errno;
    mote_session *s = atomic_load(&running);
    if (s && interrupted) _exit(128 + sig); /* asked twice */
    if (s) mote_session_cancel(s);
    interrupted = 1;
    ssize_t written = write(wake[1], "", 1);
    (void)written;
    errno = saved;
}

void answer_install_sigint(void) {
    struct sigaction act = {.sa_handler = on_sigint};
    if (pipe2(wake, O_CLOEXEC | O_NONBLOCK) != 0) return;
    (void)sigemptyset(&act.sa_mask);
    (void)sigaction(SIGINT, &act, NULL);
}

int answer_interrupt_fd(void) { return wake[0]; }

bool answer_interrupted(void) {
    char drop[64];
    bool was = interrupted != 0;
    interrupted = 0;
    while (wake[0] >= 0 && read(wake[0], drop, sizeof drop) > 0) {}
    return was;
}

static bool collect(answer *a, const char *text, size_t n) {
    if (a->n + n + 1 > a->cap) {
        size_t cap = 2 * (a->n + n) + 256;
        char *grown = realloc(a->text, cap);
        if (!grown) return false;
        a->text = grown;
        a->cap = cap;
    }
    memcpy(a->text + a->n, text, n);
    a->n += n;
    a->text[a->n] = 0;
    return true;
}

static void dim(answer *a, bool on) {
    if (a->in_thinking == on) return;
    a->in_thinking = on;
    if (a->terminal) (void)fputs(on ? "\033[2m" : "\033[0m\n", stdout);
    else if (!on) (void)putchar('\n');
}

static int on_piece(void *ctx, const mote_piece *p) {
    answer *a = ctx;
    cli_progress_end(&a->progress);
    if (p->n == 0) return interrupted;
    if (p->reasoning && !a->thinking_shown) return 0;
    if (!p->reasoning && !collect(a, p->text, p->n)) return 1;
    if (!a->stream) return 0;
    dim(a, p->reasoning);
    a->failed_write = fwrite(p->text, 1, p->n, stdout) != p->n || fflush(stdout) != 0;
    return a->failed_write || interrupted; /* a reader that has left: no use in going on */
}

static int on_prompt(void *ctx, size_t done, size_t total) {
    answer *a = ctx;
    if (total > 256) cli_progress_show(&a->progress, (double)done, (double)total, "tokens read");
    return interrupted; /* Ctrl-C after the line was read and before there was anything to cancel */
}

void answer_begin(answer *a, mote_session *s) {
    a->opts.on_piece = on_piece;
    a->opts.on_prompt = on_prompt;
    a->opts.ctx = a;
    a->result = (mote_gen_result){.size = sizeof a->result};
    a->terminal = isatty(STDOUT_FILENO) == 1;
    a->in_thinking = a->failed_write = false;
    a->n = 0;
    if (a->text) a->text[0] = 0;
    a->progress = cli_progress_start("prompt");
    atomic_store(&running, s);
}

void answer_end(answer *a) {
    atomic_store(&running, NULL);
    cli_progress_end(&a->progress);
    dim(a, false);
    (void)fflush(stdout);
}

static double per_second(size_t n, double ms) { return ms > 0 ? 1000 * (double)n / ms : 0; }

/* How guessing went, in this answer and in all. */
static void print_speculation(const mote_gen_result *r, const mote_speculator *sp) {
    mote_spec_stats s = {.size = sizeof s};
    mote_speculator_get_stats(sp, &s);
    cli_say("speculation: %zu guesses, %zu came true; in all n-grams %zu of %zu, draft %zu of %zu, exit %zu of %zu, Medusa %zu of %zu, %zu tokens in %zu passes, speed-up %.2f",
            r->n_drafted, r->n_accepted, s.n_ngram_accepted, s.n_ngram, s.n_draft_accepted, s.n_draft, s.n_exit_accepted, s.n_exit,
            s.n_medusa_accepted, s.n_medusa, s.n_tokens, s.n_passes,
            s.spent_ms > 0 ? 1 + s.saved_ms / s.spent_ms : 1);
}

void answer_print_stats(const answer *a, const mote_speculator *sp) {
    const mote_gen_result *r = &a->result;
    cli_say("prompt %zu tokens (%zu from the cache), %.2f s, %.1f tokens/s; answer %zu tokens, %.2f s, %.1f tokens/s", r->n_prompt,
            r->n_reused, r->prompt_ms / 1000, per_second(r->n_prompt - r->n_reused, r->prompt_ms), r->n_generated, r->generate_ms / 1000,
            per_second(r->n_generated, r->generate_ms));
    if (sp) print_speculation(r, sp);
}

void answer_print_finish(const answer *a) {
    const mote_gen_result *r = &a->result;
    if (r->finish == MOTE_FINISH_CONTEXT) cli_say("the context is full; -c N makes it larger");
    if (r->n_dropped_messages) cli_say("the context is full: the %zu oldest messages were left out", r->n_dropped_messages);
    if (r->n_shifted) cli_say("the context was full: its %zu oldest tokens were dropped", r->n_shifted);
}
