/* help.c: --help, the man page and docs/cli.md, all printed from the tables of the commands. */
#include "cli.h"
#include "mote/version.h"

#include <string.h>

static const char program_about[] =
    "mote runs compact language models: it loads in milliseconds, answers at the speed of memory and stays inside "
    "the memory it announced. MODEL is a GGUF file, a Hugging Face folder, or the name of a model in the cache "
    "folder or the catalogue (mote list).";

/* Prints text wrapped at 78 columns, each line after `indent` blanks; the first word stands at `column`. */
static void wrap(FILE *f, const char *text, size_t indent, size_t column) {
    const char *gap = "";
    for (const char *p = text + strspn(text, " "); *p;) {
        size_t n = strcspn(p, " ");
        if (*gap && column + 1 + n > 78) {
            (void)fprintf(f, "\n%*s", (int)indent, "");
            column = indent;
            gap = "";
        }
        (void)fprintf(f, "%s%.*s", gap, (int)n, p);
        column += n + (*gap != 0);
        gap = " ";
        p += n;
        p += strspn(p, " ");
    }
    (void)fputc('\n', f);
}

/* "-c, --ctx-size N" into out; in Markdown and roff the caller adds what is around it. */
static const char *spelling(const cli_option *o, char *out, size_t cap) {
    (void)snprintf(out, cap, "%s%s%s%s%s%s%s", o->letter ? "-" : "", o->letter ? o->letter : "",
                   o->letter && o->name ? ", " : "", o->name ? "--" : "", o->name ? o->name : "", o->arg ? " " : "",
                   o->arg ? o->arg : "");
    return out;
}

static bool option_end(const cli_option *o) { return !o->name && !o->letter; }

static void print_options(FILE *f, const cli_option *o) {
    char name[160];
    for (; o && !option_end(o); o++) {
        spelling(o, name, sizeof name);
        size_t n = strlen(name);
        (void)fprintf(f, "  %-26s", name);
        if (n > 25) (void)fprintf(f, "\n%28s", "");
        wrap(f, o->help, 28, 28);
    }
}

static void print_program_help(FILE *f) {
    (void)fprintf(f, "mote %s - compact language models\n\nUsage: mote COMMAND [ARGUMENTS] [OPTIONS]\n", MOTE_VERSION);
    const char *group = "";
    for (size_t i = 0; i < cli_n_commands; i++) {
        const cli_command *c = &cli_commands[i];
        if (strcmp(group, c->group) != 0) (void)fprintf(f, "\n%s\n", group = c->group);
        (void)fprintf(f, "  %-12s ", c->name);
        wrap(f, c->summary, 15, 15);
    }
    (void)fputc('\n', f);
    wrap(f, program_about, 0, 0);
    (void)fputs("\nmote COMMAND --help explains a command and shows examples.\n"
                "Exit codes: 0 done, 1 bad data, 2 usage, 3 a required quality was not met, 4 files, network, memory.\n",
                f);
}

void cli_print_help(FILE *f, const cli_command *c) {
    if (!c) {
        print_program_help(f);
        return;
    }
    (void)fprintf(f, "Usage: mote %s %s%s[OPTIONS]\n\n", c->name, c->arguments, *c->arguments ? " " : "");
    wrap(f, c->about ? c->about : c->summary, 0, 0);
    (void)fputs("\nOptions\n", f);
    print_options(f, c->options);
    print_options(f, cli_common_options);
    if (c->examples) {
        (void)fputs("\nExamples\n", f);
        for (const cli_example *e = c->examples; e->command; e++)
            (void)fprintf(f, "  %s\n      %s\n", e->command, e->what);
    }
}

/* roff: backslashes and hyphens are escaped, and no line may begin with a dot or quote by accident. */
static void roff(FILE *f, const char *s) {
    if (*s == '.' || *s == '\'') (void)fputs("\\&", f);
    for (; *s; s++) {
        if (*s == '-') (void)fputs("\\-", f);
        else if (*s == '\\') (void)fputs("\\e", f);
        else (void)fputc(*s, f);
    }
}

static void man_options(FILE *f, const cli_option *o) {
    char name[160];
    for (; o && !option_end(o); o++) {
        (void)fputs(".TP\n.B ", f);
        roff(f, spelling(o, name, sizeof name));
        (void)fputc('\n', f);
        roff(f, o->help);
        (void)fputc('\n', f);
    }
}

void cli_print_man(FILE *f) {
    (void)fprintf(f, ".TH MOTE 1 \"\" \"mote %s\" \"User Commands\"\n.SH NAME\nmote \\- compact language models\n", MOTE_VERSION);
    (void)fputs(".SH SYNOPSIS\n.B mote\n.I COMMAND\n[ARGUMENTS] [OPTIONS]\n.SH DESCRIPTION\n", f);
    roff(f, program_about);
    (void)fputs("\n.SH COMMANDS\n", f);
    for (size_t i = 0; i < cli_n_commands; i++) {
        const cli_command *c = &cli_commands[i];
        (void)fprintf(f, ".SS mote %s ", c->name);
        roff(f, c->arguments);
        (void)fputc('\n', f);
        roff(f, c->about ? c->about : c->summary);
        (void)fputc('\n', f);
        man_options(f, c->options);
        for (const cli_example *e = c->examples; e && e->command; e++) {
            (void)fputs(".PP\n", f);
            roff(f, e->what);
            (void)fputs(":\n.PP\n.RS\n.nf\n", f);
            roff(f, e->command);
            (void)fputs("\n.fi\n.RE\n", f);
        }
    }
    (void)fputs(".SH EXIT STATUS\n0 done, 1 bad data, 2 usage, 3 a required quality was not met, 4 files, network or memory.\n"
                ".SH ENVIRONMENT\n.TP\n.B XDG_CACHE_HOME\nWhere models are kept, in mote/models (default ~/.cache).\n"
                ".TP\n.B MOTE_MODELS\nAnother folder for models.\n"
                ".TP\n.B MOTE_CPU_MASK\nAs \\-\\-cpu\\-mask: the highest instruction set to use, for example avx2 or scalar.\n",
                f);
}

/* A table cell or line of Markdown: pipes would end the cell, angle brackets would be HTML. */
static void markdown(FILE *f, const char *s) {
    for (; *s; s++) {
        if (*s == '|' || *s == '<' || *s == '*' || *s == '_') (void)fputc('\\', f);
        (void)fputc(*s, f);
    }
}

static void code_cell(FILE *f, const char *s) {
    (void)fputc('`', f);
    for (; *s; s++) {
        if (*s == '|') (void)fputc('\\', f);
        (void)fputc(*s, f);
    }
    (void)fputc('`', f);
}

void cli_print_markdown(FILE *f) {
    char name[160];
    (void)fputs("# The program\n\nPrinted by `mote help --markdown` from the tables of the commands; a test keeps it current.\n", f);
    for (size_t i = 0; i < cli_n_commands; i++) {
        const cli_command *c = &cli_commands[i];
        (void)fprintf(f, "\n## mote %s %s\n\n", c->name, c->arguments);
        markdown(f, c->about ? c->about : c->summary);
        (void)fputc('\n', f);
        if (c->options && !option_end(c->options)) (void)fputs("\n| option | |\n|---|---|\n", f);
        for (const cli_option *o = c->options; o && !option_end(o); o++) {
            (void)fputs("| ", f);
            code_cell(f, spelling(o, name, sizeof name));
            (void)fputs(" | ", f);
            markdown(f, o->help);
            (void)fputs(" |\n", f);
        }
        if (c->examples) (void)fputc('\n', f);
        for (const cli_example *e = c->examples; e && e->command; e++) {
            (void)fputs("- ", f);
            markdown(f, e->what);
            (void)fprintf(f, ": `%s`\n", e->command);
        }
    }
}
