/* output.c: messages, exit codes, files in and progress. */
#include "cli.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

void cli_say(const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    (void)fputs("mote: ", stderr);
    (void)vfprintf(stderr, fmt, ap);
    (void)fputc('\n', stderr);
    va_end(ap);
}

int cli_exit_code(mote_status s) {
    switch (s) {
    case MOTE_OK: return CLI_OK;
    case MOTE_E_USAGE: return CLI_USAGE;
    case MOTE_E_GATE: return CLI_GATE;
    case MOTE_E_IO:
    case MOTE_E_NOT_FOUND:
    case MOTE_E_NETWORK:
    case MOTE_E_MEMORY: return CLI_IO;
    default: return CLI_BAD_DATA;
    }
}

int cli_fail(const mote_error *err) {
    cli_say("%s", err->message);
    return cli_exit_code(err->code);
}

int cli_usage(const cli_command *c, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    if (c) (void)fprintf(stderr, "mote %s: ", c->name);
    else (void)fputs("mote: ", stderr);
    (void)vfprintf(stderr, fmt, ap);
    (void)fputc('\n', stderr);
    if (c) (void)fprintf(stderr, "Try 'mote %s --help'.\n", c->name);
    va_end(ap);
    return CLI_USAGE;
}

mote_status cli_error(mote_error *err, mote_status code, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    err->code = code;
    err->file = __FILE__;
    err->line = __LINE__;
    (void)vsnprintf(err->message, sizeof err->message, fmt, ap);
    va_end(ap);
    return code;
}

int cli_done(int exit_code) {
    if (fflush(stdout) == 0 && !ferror(stdout)) return exit_code;
    if (errno != EPIPE) cli_say("writing to standard output failed: %s", strerror(errno));
    return CLI_IO;
}

int cli_print_json(json_t *v) {
    if (!v || json_dumpf(v, stdout, JSON_COMPACT | JSON_PRESERVE_ORDER | JSON_ENCODE_ANY) != 0) {
        json_decref(v);
        cli_say("out of memory");
        return CLI_IO;
    }
    json_decref(v);
    (void)putchar('\n');
    return cli_done(CLI_OK);
}

/* Bytes of the valid UTF-8 character at p (n bytes left), 0 when there is none. */
static size_t utf8_length(const char *p, size_t n) {
    const unsigned char *b = (const unsigned char *)p;
    size_t len = b[0] < 0x80 ? 1 : b[0] >= 0xC2 && b[0] < 0xE0 ? 2 : (b[0] & 0xF0) == 0xE0 ? 3 : b[0] >= 0xF0 && b[0] < 0xF5 ? 4 : 0;
    if (len > n) return 0;
    for (size_t i = 1; i < len; i++)
        if ((b[i] & 0xC0) != 0x80) return 0;
    if (len == 3 && ((b[0] == 0xE0 && b[1] < 0xA0) || (b[0] == 0xED && b[1] > 0x9F))) return 0;
    if (len == 4 && ((b[0] == 0xF0 && b[1] < 0x90) || (b[0] == 0xF4 && b[1] > 0x8F))) return 0;
    return len;
}

json_t *cli_json_text(const char *text, size_t n) {
    json_t *v = json_stringn(n ? text : "", n);
    if (v) return v;
    char *p = malloc(3 * n + 1);
    size_t used = 0, len;
    for (size_t i = 0; p && i < n; i += len) {
        len = utf8_length(text + i, n - i);
        if (len) memcpy(p + used, text + i, len), used += len;
        else memcpy(p + used, "\xEF\xBF\xBD", 3), used += 3, len = 1;
    }
    v = p ? json_stringn(p, used) : NULL;
    free(p);
    return v;
}

const char *cli_size(char out[32], uint64_t bytes) {
    static const char *const units[] = {"B", "kB", "MB", "GB", "TB"};
    double v = (double)bytes;
    size_t u = 0;
    while (v >= 999.95 && u + 1 < sizeof units / sizeof units[0]) v /= 1000, u++;
    (void)snprintf(out, 32, u ? "%.1f %s" : "%.0f %s", v, units[u]);
    return out;
}

char *cli_read_file(const char *path, size_t max, size_t *n, mote_error *err) {
    bool is_stdin = strcmp(path, "-") == 0;
    FILE *f = is_stdin ? stdin : fopen(path, "rbe");
    size_t used = 0, cap = 1 << 16;
    char *p = NULL;
    if (!f) {
        cli_error(err, MOTE_E_IO, "%s: %s", path, strerror(errno));
        return NULL;
    }
    for (;;) {
        char *grown = realloc(p, cap + 1);
        if (!grown) {
            cli_error(err, MOTE_E_MEMORY, "out of memory");
            goto fail;
        }
        p = grown;
        used += fread(p + used, 1, cap - used, f);
        if (used < cap) break;
        if (used > max) break;
        cap *= 2;
    }
    if (ferror(f)) {
        cli_error(err, MOTE_E_IO, "%s: %s", path, strerror(errno));
        goto fail;
    }
    if (used > max) {
        cli_error(err, MOTE_E_LIMIT, "%s: larger than %zu bytes", path, max);
        goto fail;
    }
    if (!is_stdin) (void)fclose(f);
    p[used] = 0;
    *n = used;
    return p;
fail:
    free(p);
    if (!is_stdin) (void)fclose(f);
    return NULL;
}

int cli_each_line(const char *path, int (*each)(void *ctx, size_t number, char *text, size_t n), void *ctx) {
    bool is_stdin = strcmp(path, "-") == 0;
    FILE *f = is_stdin ? stdin : fopen(path, "rbe");
    if (!f) {
        cli_say("%s: %s", path, strerror(errno));
        return CLI_IO;
    }
    char *line = NULL;
    size_t cap = 0, number = 0;
    ssize_t n;
    int result = 0;
    while (!result && (n = getline(&line, &cap, f)) >= 0) {
        while (n > 0 && (line[n - 1] == '\n' || line[n - 1] == '\r')) line[--n] = 0;
        result = each(ctx, ++number, line, (size_t)n);
    }
    if (!result && ferror(f)) {
        cli_say("%s: %s", path, strerror(errno));
        result = CLI_IO;
    }
    free(line);
    if (!is_stdin) (void)fclose(f);
    return result;
}

static uint64_t now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000u + (uint64_t)t.tv_nsec / 1000000u;
}

cli_progress cli_progress_start(const char *what) {
    return (cli_progress){what, 0, now_ms(), isatty(STDERR_FILENO) == 1};
}

void cli_progress_show(cli_progress *p, double done, double total, const char *unit) {
    uint64_t now = now_ms();
    if (!p->on || (now - p->shown_ms < 100 && done < total)) return;
    p->shown_ms = now;
    double seconds = (double)(now - p->started_ms) / 1000;
    int eta = done > 0 && total > done ? (int)(seconds * (total - done) / done) : 0;
    if (total > 0)
        (void)fprintf(stderr, "\r\033[K%s  %.0f of %.0f %s  %3.0f %%  %d:%02d left", p->what, done, total, unit,
                      100 * done / total, eta / 60, eta % 60);
    else (void)fprintf(stderr, "\r\033[K%s  %.0f %s", p->what, done, unit);
    (void)fflush(stderr);
}

void cli_progress_end(cli_progress *p) {
    if (p->on && p->shown_ms) (void)fputs("\r\033[K", stderr);
    p->on = false;
}
