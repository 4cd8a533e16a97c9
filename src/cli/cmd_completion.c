/* cmd_completion.c: completion scripts for bash, zsh and fish, written from the tables of the commands. */
#include "cli.h"
#include "commands.h"

#include <string.h>

const cli_option completion_options[] = {{0}};
const cli_example completion_examples[] = {
    {"mote completion bash > ~/.local/share/bash-completion/completions/mote", "for bash"},
    {"mote completion zsh > ~/.zfunc/_mote", "for zsh, when ~/.zfunc is in $fpath"},
    {"mote completion fish > ~/.config/fish/completions/mote.fish", "for fish"},
    {0},
};

static bool option_end(const cli_option *o) { return !o->name && !o->letter; }

static void bash_words(const cli_option *o) {
    for (; !option_end(o); o++) {
        if (o->name) (void)printf(" --%s", o->name);
        if (o->letter) (void)printf(" -%s", o->letter);
    }
}

/* In a choice's words the separator becomes a blank. */
static void choice_words(const char *words) {
    for (; *words; words++) (void)putchar(*words == '|' ? ' ' : *words);
}

static void bash(void) {
    (void)puts("# bash completion for mote\n_mote() {\n"
               "    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} words=\n"
               "    if [ \"$COMP_CWORD\" = 1 ]; then words=\"");
    for (size_t i = 0; i < cli_n_commands; i++) (void)printf("%s ", cli_commands[i].name);
    (void)puts("\"\n    else case ${COMP_WORDS[1]} in");
    for (size_t i = 0; i < cli_n_commands; i++) {
        const cli_command *c = &cli_commands[i];
        (void)printf("    %s)\n", c->name);
        bool any = false;
        for (const cli_option *o = c->options; !option_end(o); o++) {
            if (o->kind != CLI_CHOICE) continue;
            if (!any) (void)puts("        case $before in");
            any = true;
            (void)printf("        %s%s%s%s%s) words=\"", o->name ? "--" : "", o->name ? o->name : "",
                         o->name && o->letter ? "|" : "", o->letter ? "-" : "", o->letter ? o->letter : "");
            choice_words(o->arg);
            (void)puts("\" ;;");
        }
        if (any) (void)puts("        esac");
        (void)printf("        [ -z \"$words\" ] && words=\"");
        bash_words(c->options);
        (void)puts(" --help\" ;;");
    }
    (void)puts("    esac fi\n"
               "    COMPREPLY=($(compgen -W \"$words\" -- \"$word\"))\n"
               "    case $word in -*) ;; *) [ \"$COMP_CWORD\" = 1 ] || COMPREPLY+=($(compgen -f -- \"$word\")) ;; esac\n"
               "}\ncomplete -o filenames -F _mote mote");
}

/* Text inside single quotes and, for zsh, inside [...]. */
static void quoted(const char *s) {
    for (; *s; s++) {
        if (*s == '\'') (void)fputs("'\\''", stdout);
        else if (strchr("[]:", *s)) (void)printf("\\%c", *s);
        else (void)putchar(*s);
    }
}

static void zsh_option(const char *dashes, const char *name, const cli_option *o) {
    (void)printf("            '%s%s[", dashes, name);
    quoted(o->help);
    (void)putchar(']');
    if (o->kind == CLI_CHOICE) {
        (void)fputs(":value:(", stdout);
        choice_words(o->arg);
        (void)putchar(')');
    } else if (o->arg) (void)fputs(":value:_files", stdout);
    (void)puts("' \\");
}

static void zsh(void) {
    (void)puts("#compdef mote\n# zsh completion for mote\n_mote() {\n    local -a commands\n    commands=(");
    for (size_t i = 0; i < cli_n_commands; i++) {
        (void)printf("        '%s:", cli_commands[i].name);
        quoted(cli_commands[i].summary);
        (void)puts("'");
    }
    (void)puts("    )\n    if (( CURRENT == 2 )); then _describe command commands; return; fi\n"
               "    local command=$words[2]\n    shift words; (( CURRENT-- ))\n    case $command in");
    for (size_t i = 0; i < cli_n_commands; i++) {
        (void)printf("        %s) _arguments \\\n", cli_commands[i].name);
        for (const cli_option *o = cli_commands[i].options; !option_end(o); o++) {
            if (o->name) zsh_option("--", o->name, o);
            if (o->letter) zsh_option("-", o->letter, o);
        }
        (void)puts("            '--help[print this help]' '*:file:_files' ;;");
    }
    (void)puts("    esac\n}\n_mote \"$@\"");
}

static void fish(void) {
    (void)puts("# fish completion for mote\ncomplete -c mote -f");
    for (size_t i = 0; i < cli_n_commands; i++) {
        const cli_command *c = &cli_commands[i];
        (void)printf("complete -c mote -n __fish_use_subcommand -a %s -d '", c->name);
        quoted(c->summary);
        (void)puts("'");
        (void)printf("complete -c mote -n '__fish_seen_subcommand_from %s' -F\n", c->name);
        for (const cli_option *o = c->options; !option_end(o); o++) {
            (void)printf("complete -c mote -n '__fish_seen_subcommand_from %s'", c->name);
            if (o->name) (void)printf(" -l %s", o->name);
            if (o->letter) (void)printf(" -%c %s", o->letter[1] ? 'o' : 's', o->letter);
            if (o->kind == CLI_CHOICE) {
                (void)fputs(" -x -a '", stdout);
                choice_words(o->arg);
                (void)putchar('\'');
            } else if (o->arg) (void)fputs(" -r", stdout);
            (void)fputs(" -d '", stdout);
            for (const char *s = o->help; *s; s++) (void)(*s == '\'' ? fputs("\\'", stdout) : putchar(*s));
            (void)puts("'");
        }
    }
}

int cmd_completion(const cli_command *self, int argc, char **argv) {
    cli_args args;
    int code;
    char none;
    if (!cli_parse(self, &none, &args, 1, argc, argv, &code)) return code;
    if (args.n == 0) return cli_usage(self, "which shell? bash, zsh or fish");
    if (strcmp(args.v[0], "bash") == 0) bash();
    else if (strcmp(args.v[0], "zsh") == 0) zsh();
    else if (strcmp(args.v[0], "fish") == 0) fish();
    else return cli_usage(self, "there is no completion for '%s', only for bash, zsh and fish", args.v[0]);
    return cli_done(CLI_OK);
}
