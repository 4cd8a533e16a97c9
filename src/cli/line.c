/* line.c: lines from the terminal, through libedit. */
#include "line.h"
#include "answer.h"
#include "models.h"

#include <errno.h>
#include <histedit.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <wchar.h>

#define HISTORY_MAX 1000
#define CTRL_D 4

struct line_reader {
    EditLine *el;
    History *history;
    char *path; /* of the history; NULL: it is not kept */
    const char *prompt;
    char *text; /* the message */
    size_t n, cap;
    bool interrupted;
};

/* libedit calls back with its own handle alone. */
static line_reader *self_of(EditLine *el) {
    void *p = NULL;
    (void)el_get(el, EL_CLIENTDATA, &p);
    return p;
}

static char *show_prompt(EditLine *el) { return (char *)(uintptr_t)self_of(el)->prompt; }

/* One character. Its own because Ctrl-C must end the line at once: libedit would go on reading. */
static int read_char(EditLine *el, wchar_t *out) {
    mbstate_t state = {0};
    for (;;) {
        struct pollfd in[] = {{.fd = STDIN_FILENO, .events = POLLIN}, {.fd = answer_interrupt_fd(), .events = POLLIN}};
        char c;
        if (poll(in, 2, -1) < 0 && errno == EINTR) continue;
        if (in[1].revents && answer_interrupted()) {
            self_of(el)->interrupted = true;
            return -1;
        }
        ssize_t n = read(STDIN_FILENO, &c, 1);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return (int)n;
        if (c == 0) c = CTRL_D; /* as which the terminal hands on a Ctrl-D typed just before it left line mode */
        size_t len = mbrtowc(out, &c, 1, &state);
        if (len == (size_t)-2) continue; /* the beginning of a character */
        if (len == (size_t)-1) *out = L'?';
        return 1;
    }
}

/* ~/.local/state/mote/history */
static char *history_path(void) {
    const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    bool own = state && *state == '/';
    if (!own && !(home && *home)) return NULL;
    char *dir = models_join(own ? state : home, own ? "mote" : ".local/state/mote");
    char *path = models_mkdirs(dir) ? models_join(dir, "history") : NULL;
    free(dir);
    return path;
}

line_reader *line_open(bool keep_history) {
    line_reader *r = calloc(1, sizeof *r);
    HistEvent e;
    if (!r) return NULL;
    r->el = el_init("mote", stdin, stdout, stderr);
    r->history = history_init();
    if (!r->el || !r->history) {
        line_close(&r);
        return NULL;
    }
    (void)history(r->history, &e, H_SETSIZE, HISTORY_MAX);
    (void)history(r->history, &e, H_SETUNIQUE, 1);
    (void)el_set(r->el, EL_CLIENTDATA, r);
    (void)el_set(r->el, EL_PROMPT, show_prompt);
    (void)el_set(r->el, EL_EDITOR, "emacs");
    (void)el_set(r->el, EL_SIGNAL, 0);
    (void)el_set(r->el, EL_GETCFN, read_char);
    (void)el_set(r->el, EL_HIST, history, r->history);
    (void)el_set(r->el, EL_BIND, "^R", "em-inc-search-prev", NULL);
    (void)el_source(r->el, NULL);
    r->path = keep_history ? history_path() : NULL;
    if (r->path) (void)history(r->history, &e, H_LOAD, r->path);
    return r;
}

void line_close(line_reader **reader) {
    line_reader *r = *reader;
    HistEvent e;
    if (!r) return;
    if (r->path && r->history) {
        mode_t before = umask(077);
        (void)history(r->history, &e, H_SAVE, r->path);
        (void)umask(before);
    }
    if (r->history) history_end(r->history);
    if (r->el) el_end(r->el);
    free(r->path);
    free(r->text);
    free(r);
    *reader = NULL;
}

static bool append(line_reader *r, const char *s, size_t n) {
    if (r->n + n + 1 > r->cap) {
        size_t cap = 2 * (r->n + n) + 128;
        char *grown = realloc(r->text, cap);
        if (!grown) return false;
        r->text = grown;
        r->cap = cap;
    }
    memcpy(r->text + r->n, s, n);
    r->n += n;
    r->text[r->n] = 0;
    return true;
}

/* One line without its newline; NULL at its end or when interrupted. */
static const char *get_line(line_reader *r, const char *prompt, size_t *n) {
    int count = 0;
    r->prompt = prompt;
    r->interrupted = false;
    const char *line = el_gets(r->el, &count);
    if (!line || count <= 0 || r->interrupted) return NULL;
    *n = (size_t)count;
    while (*n && (line[*n - 1] == '\n' || line[*n - 1] == '\r')) --*n;
    return line;
}

static line_result ended(line_reader *r) {
    if (r->interrupted) el_reset(r->el);
    (void)putchar('\n');
    return r->interrupted ? LINE_INTERRUPTED : LINE_END;
}

static line_result read_message(line_reader *r, const char *prompt) {
    static const char fence[] = "\"\"\"";
    size_t n;
    bool fenced = false, more = true;
    r->n = 0;
    if (!append(r, "", 0)) return LINE_END;
    for (bool first = true; more; first = false) {
        const char *line = get_line(r, first ? prompt : "... ", &n);
        if (!line) return ended(r);
        if (first && n >= 3 && memcmp(line, fence, 3) == 0) fenced = true, line += 3, n -= 3;
        bool closing = fenced && n >= 3 && memcmp(line + n - 3, fence, 3) == 0;
        if (closing) n -= 3;
        bool continued = !fenced && n && line[n - 1] == '\\';
        if (continued) n--;
        more = fenced ? !closing : continued;
        if (!append(r, line, n) || (more && !(first && fenced && n == 0) && !append(r, "\n", 1))) return LINE_END;
    }
    return LINE_TEXT;
}

line_result line_read(line_reader *r, const char *prompt, const char **text) {
    HistEvent e;
    line_result result = read_message(r, prompt);
    if (result == LINE_TEXT && r->n) (void)history(r->history, &e, H_ENTER, r->text);
    *text = r->text;
    return result;
}
