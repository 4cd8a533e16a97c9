/* options.c: the one option parser. Options may stand anywhere; "--" ends them; a value follows its option or
 * an equals sign (--name=value). Short names are whole words, as in llama.cpp (-ctk), so they are not bundled. */
#include "cli.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

const cli_option cli_common_options[] = {
    {"help", "h", NULL, CLI_FLAG, 0, 0, 0, "print this help"},
    {0},
};

/* Number of single-character edits between two words, at most `limit`. Words are short. */
static size_t edits(const char *a, const char *b, size_t limit) {
    size_t row[64], la = strlen(a), lb = strlen(b);
    if (la >= 63 || lb >= 63) return limit;
    for (size_t j = 0; j <= lb; j++) row[j] = j;
    for (size_t i = 1; i <= la; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= lb; j++) {
            size_t up = row[j], best = diagonal + (a[i - 1] != b[j - 1]);
            if (up + 1 < best) best = up + 1;
            if (row[j - 1] + 1 < best) best = row[j - 1] + 1;
            diagonal = up;
            row[j] = best;
        }
    }
    return row[lb] < limit ? row[lb] : limit;
}

const char *cli_closest(const char *word, const char *(*get)(const void *ctx, size_t i), const void *ctx, size_t n) {
    const char *best = NULL;
    size_t best_edits = strlen(word) / 3 + 2;
    for (size_t i = 0; i < n; i++) {
        const char *w = get(ctx, i);
        if (!w) continue;
        size_t e = edits(word, w, best_edits);
        if (e < best_edits) best = w, best_edits = e;
    }
    return best;
}

static const char *option_name(const void *ctx, size_t i) { return ((const cli_option *)ctx)[i].name; }

static bool option_end(const cli_option *o) { return !o->name && !o->letter; }

static size_t option_count(const cli_option *o) {
    size_t n = 0;
    while (o && !option_end(&o[n])) n++;
    return n;
}

/* The option called `name` (n bytes, dashes removed). llama.cpp accepts short names with two dashes nowhere and
 * long ones with one dash nowhere; we do the same, so that a typing mistake is not taken for something else. */
static const cli_option *find_option(const cli_option *o, const char *name, size_t n, bool is_long) {
    for (; o && !option_end(o); o++) {
        const char *candidate = is_long ? o->name : o->letter;
        if (candidate && strlen(candidate) == n && memcmp(candidate, name, n) == 0) return o;
    }
    return NULL;
}

static bool word_in(const char *words, const char *w) {
    size_t n = strlen(w);
    for (const char *p = words; n && *p;) {
        size_t len = strcspn(p, "|");
        if (len == n && memcmp(p, w, n) == 0) return true;
        p += len + (p[len] == '|');
    }
    return false;
}

/* Numbers as C writes them; k, M and G after an integer multiply by 1024 steps, as in "-c 8k". */
static bool parse_int(const char *s, int64_t *out) {
    char *end;
    errno = 0;
    long long v = strtoll(s, &end, 0);
    if (end == s || errno || isspace((unsigned char)*s)) return false;
    static const char units[] = "kMG";
    const char *unit = *end ? strchr(units, *end) : NULL;
    if (unit) {
        for (int i = 0; i <= (int)(unit - units); i++)
            if (__builtin_mul_overflow(v, 1024LL, &v)) return false;
        end++;
    }
    *out = v;
    return !*end;
}

static bool parse_num(const char *s, double *out) {
    char *end;
    errno = 0;
    *out = strtod(s, &end);
    return end != s && !*end && !errno && isfinite(*out) && !isspace((unsigned char)*s);
}

/* Stores one value; returns false after printing what was expected. */
static bool store(const cli_command *c, const cli_option *o, const char *shown, const char *value, void *fields) {
    void *field = (char *)fields + o->field;
    switch (o->kind) {
    case CLI_FLAG: *(bool *)field = true; return true;
    case CLI_NOFLAG: *(bool *)field = false; return true;
    case CLI_STR: *(const char **)field = value; return true;
    case CLI_CHOICE:
        if (!word_in(o->arg, value)) {
            cli_usage(c, "%s takes one of %s, not '%s'", shown, o->arg, value);
            return false;
        }
        *(const char **)field = value;
        return true;
    case CLI_LIST: {
        cli_list *l = field;
        if (l->n == CLI_LIST_MAX) {
            cli_usage(c, "%s is given more than %d times", shown, CLI_LIST_MAX);
            return false;
        }
        l->v[l->n++] = value;
        return true;
    }
    case CLI_INT: {
        int64_t v;
        if (!parse_int(value, &v) || (double)v < o->min || (double)v > o->max) {
            cli_usage(c, "%s takes an integer from %.0f to %.0f, not '%s'", shown, o->min, o->max, value);
            return false;
        }
        *(int64_t *)field = v;
        return true;
    }
    case CLI_NUM: {
        double v;
        if (!parse_num(value, &v) || v < o->min || v > o->max) {
            cli_usage(c, "%s takes a number from %g to %g, not '%s'", shown, o->min, o->max, value);
            return false;
        }
        *(double *)field = v;
        return true;
    }
    }
    return false;
}

static void unknown_option(const cli_command *c, const char *word) {
    const char *bare = word + strspn(word, "-");
    char name[64];
    (void)snprintf(name, sizeof name, "%.*s", (int)strcspn(bare, "="), bare);
    const char *near = cli_closest(name, option_name, c->options, option_count(c->options));
    if (near) cli_usage(c, "unknown option '%s'; did you mean --%s?", word, near);
    else cli_usage(c, "unknown option '%s'", word);
}

/* "-5" and "-" are arguments; "-x" is an option. */
static bool looks_like_option(const char *w) {
    double d;
    return w[0] == '-' && w[1] && !(parse_num(w, &d));
}

bool cli_set(const cli_option *table, const char *name, const char *value, void *fields) {
    const cli_option *o = find_option(table, name, strlen(name), true);
    if (!o) o = find_option(table, name, strlen(name), false);
    if (o && o->kind != CLI_FLAG) return store(NULL, o, o->name, value, fields);
    if (o && word_in("on|off", value)) {
        *(bool *)((char *)fields + o->field) = strcmp(value, "on") == 0;
        return true;
    }
    if (o) cli_say("%s takes on or off, not '%s'", name, value);
    else {
        const char *near = cli_closest(name, option_name, table, option_count(table));
        if (near) cli_say("there is no parameter '%s'; did you mean %s?", name, near);
        else cli_say("there is no parameter '%s'", name);
    }
    return false;
}

bool cli_parse(const cli_command *c, void *fields, cli_args *args, size_t max_args, int argc, char **argv,
               int *exit_code) {
    *exit_code = CLI_USAGE;
    args->n = 0;
    bool options_over = false;
    for (int i = 0; i < argc; i++) {
        const char *w = argv[i];
        if (options_over || !looks_like_option(w)) {
            if (args->n == max_args || args->n == CLI_LIST_MAX) {
                cli_usage(c, "'%s' is one argument too many", w);
                return false;
            }
            args->v[args->n++] = w;
            continue;
        }
        if (strcmp(w, "--") == 0) {
            options_over = true;
            continue;
        }
        bool is_long = w[1] == '-';
        const char *name = w + (is_long ? 2 : 1), *equals = is_long ? strchr(name, '=') : NULL;
        size_t n = equals ? (size_t)(equals - name) : strlen(name);
        if (find_option(cli_common_options, name, n, is_long)) {
            cli_print_help(stdout, c);
            *exit_code = cli_done(CLI_OK);
            return false;
        }
        const cli_option *o = find_option(c->options, name, n, is_long);
        if (!o) {
            unknown_option(c, w);
            return false;
        }
        const char *value = equals ? equals + 1 : NULL;
        char shown[80];
        (void)snprintf(shown, sizeof shown, "%.*s", (int)(n + (is_long ? 2 : 1)), w);
        bool is_flag = o->kind == CLI_FLAG || o->kind == CLI_NOFLAG;
        if (is_flag && value) {
            cli_usage(c, "%s takes no value", shown);
            return false;
        }
        if (!is_flag && !value) {
            if (i + 1 >= argc) {
                cli_usage(c, "%s needs a value: %s %s", shown, shown, o->arg);
                return false;
            }
            value = argv[++i];
        }
        if (!store(c, o, shown, value, fields)) return false;
    }
    *exit_code = CLI_OK;
    return true;
}
