/* cli.h: the frame of the program: commands, options, messages, exit codes. The library is reached through
 * include/mote alone.
 *
 * A command is one row in commands.def and one file cmd_NAME.c with a struct of its options, a table that says
 * how each option fills that struct, its examples, and the function that does the work. Help, the man page,
 * completions and docs/cli.md are printed from these tables (help.c, cmd_completion.c). */
#ifndef MOTE_CLI_CLI_H
#define MOTE_CLI_CLI_H

#include "mote/status.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* Exit codes, the same for every command. */
enum { CLI_OK = 0, CLI_BAD_DATA = 1, CLI_USAGE = 2, CLI_GATE = 3, CLI_IO = 4 };

/* What an option's value is, and the type of the field it fills. */
typedef enum cli_kind {
    CLI_FLAG,   /* bool: set to true */
    CLI_NOFLAG, /* bool: set to false (--no-mmap) */
    CLI_STR,    /* const char * */
    CLI_INT,    /* int64_t in [min, max] */
    CLI_NUM,    /* double in [min, max] */
    CLI_LIST,   /* cli_list: may be given many times */
    CLI_CHOICE, /* const char *: one of the words in `arg`, which are separated by | */
} cli_kind;

typedef struct cli_option {
    const char *name;   /* long name without --, or NULL: only the short one exists */
    const char *letter; /* short name without -; may have several letters (ctk), or NULL */
    const char *arg;    /* what stands for the value in help: "N", "FILE", "f16|q8_0"; NULL for flags */
    cli_kind kind;
    size_t field; /* offset in the command's struct */
    double min, max;
    const char *help;
} cli_option;

#define CLI_LIST_MAX 256
typedef struct cli_list {
    const char *v[CLI_LIST_MAX];
    size_t n;
} cli_list;

/* Rows of an option table. S: the struct, F: its field. */
#define OPT_FLAG(S, F, name, letter, help) {name, letter, NULL, CLI_FLAG, offsetof(S, F), 0, 0, help}
#define OPT_NOFLAG(S, F, name, letter, help) {name, letter, NULL, CLI_NOFLAG, offsetof(S, F), 0, 0, help}
#define OPT_STR(S, F, name, letter, arg, help) {name, letter, arg, CLI_STR, offsetof(S, F), 0, 0, help}
#define OPT_LIST(S, F, name, letter, arg, help) {name, letter, arg, CLI_LIST, offsetof(S, F), 0, 0, help}
#define OPT_CHOICE(S, F, name, letter, words, help) {name, letter, words, CLI_CHOICE, offsetof(S, F), 0, 0, help}
#define OPT_INT(S, F, name, letter, arg, min, max, help) {name, letter, arg, CLI_INT, offsetof(S, F), min, max, help}
#define OPT_NUM(S, F, name, letter, arg, min, max, help) {name, letter, arg, CLI_NUM, offsetof(S, F), min, max, help}

typedef struct cli_example {
    const char *command, *what;
} cli_example;

/* What is left of the command line after options. */
typedef struct cli_args {
    const char *v[CLI_LIST_MAX];
    size_t n;
} cli_args;

typedef struct cli_command {
    const char *name, *group, *arguments, *summary;
    const char *about; /* a paragraph for help, or NULL */
    const cli_option *options;
    const cli_example *examples;
    int (*main)(const struct cli_command *self, int argc, char **argv);
} cli_command;

extern const cli_command cli_commands[];
extern const size_t cli_n_commands;
extern const cli_option cli_common_options[]; /* --help: taken by every command; ends with an empty row */
const cli_command *cli_find(const char *name);

/* Parses argv into *fields, a struct with defaults already in it. Strict: an unknown option, a value out of
 * range or more than max_args arguments print a message that says what was expected. Returns true when the
 * command should run; else *exit_code is what main returns (--help: 0, mistakes: CLI_USAGE). */
bool cli_parse(const cli_command *c, void *fields, cli_args *args, size_t max_args, int argc, char **argv,
               int *exit_code);
/* Sets one field by its option's name, as "/set temp 0.5" does; false after a message. */
bool cli_set(const cli_option *table, const char *name, const char *value, void *fields);
/* The word that is closest to `word` among n, or NULL when none is similar. get(i) gives the i-th. */
const char *cli_closest(const char *word, const char *(*get)(const void *ctx, size_t i), const void *ctx, size_t n);

/* Messages on stderr, "mote: " in front. */
MOTE_PRINTF(1, 2) void cli_say(const char *fmt, ...);
/* Prints why a library call failed; returns the exit code for it. */
int cli_fail(const mote_error *err);
/* "mote COMMAND: message", and where help is (c NULL: neither); returns CLI_USAGE. */
MOTE_PRINTF(2, 3) int cli_usage(const cli_command *c, const char *fmt, ...);
int cli_exit_code(mote_status s);

/* stdout was written completely; else prints the reason and returns CLI_IO. Call it last: return cli_done(CLI_OK). */
int cli_done(int exit_code);
/* Prints v on stdout in one line and frees it. */
int cli_print_json(json_t *v);
/* A JSON string of bytes that may not be UTF-8: what is not becomes U+FFFD. NULL when out of memory. */
json_t *cli_json_text(const char *text, size_t n);
/* "258.1 MB" (powers of 1000). Returns out. */
const char *cli_size(char out[32], uint64_t bytes);

/* Whole file, or stdin for "-", NUL-terminated; caller frees. NULL: *err is filled. Refuses more than max bytes. */
char *cli_read_file(const char *path, size_t max, size_t *n, mote_error *err);
/* The same; of a file NAME.jsonl the lines' "text", or what is said in their "messages", a line each. */
char *cli_read_text(const char *path, size_t max, size_t *n, mote_error *err);
/* Calls each(ctx, line number, text, n) for every line of a file ("-" is stdin); stops at the first non-zero
 * result and returns it. On a read error prints a message and returns CLI_IO. */
int cli_each_line(const char *path, int (*each)(void *ctx, size_t number, char *text, size_t n), void *ctx);
/* Fills an error as the library would, for failures that the program finds itself. Returns code. */
MOTE_PRINTF(3, 4) mote_status cli_error(mote_error *err, mote_status code, const char *fmt, ...);

/* Progress of long work on stderr, only when it is a terminal (or `always` was asked for). */
typedef struct cli_progress {
    const char *what;
    uint64_t shown_ms, started_ms;
    bool on;
} cli_progress;
cli_progress cli_progress_start(const char *what);
void cli_progress_show(cli_progress *p, double done, double total, const char *unit);
void cli_progress_end(cli_progress *p);

/* Help of a command or (NULL) of the program, in plain text. */
void cli_print_help(FILE *f, const cli_command *c);
void cli_print_man(FILE *f);
void cli_print_markdown(FILE *f);
#endif
