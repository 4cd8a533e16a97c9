/* cmd_help.c: help, version. */
#include "cli.h"
#include "commands.h"
#include "mote/version.h"

#include <string.h>

struct help_options {
    bool man, markdown, names;
};

const cli_option help_options[] = {
    OPT_FLAG(struct help_options, man, "man", NULL, "print the man page (roff)"),
    OPT_FLAG(struct help_options, markdown, "markdown", NULL, "print docs/cli.md"),
    OPT_FLAG(struct help_options, names, "names", NULL, "print the names of the commands, one a line"),
    {0},
};
const cli_example help_examples[] = {
    {"mote help run", "explain a command"},
    {"mote help --man | man -l -", "read the manual without installing it"},
    {0},
};

int cmd_help(const cli_command *self, int argc, char **argv) {
    struct help_options o = {0};
    cli_args args;
    int code;
    if (!cli_parse(self, &o, &args, 1, argc, argv, &code)) return code;
    const cli_command *c = NULL;
    if (args.n && !(c = cli_find(args.v[0]))) return cli_usage(self, "there is no command '%s'", args.v[0]);
    if (o.man) cli_print_man(stdout);
    else if (o.markdown) cli_print_markdown(stdout);
    else if (o.names)
        for (size_t i = 0; i < cli_n_commands; i++) (void)puts(cli_commands[i].name);
    else cli_print_help(stdout, c);
    return cli_done(CLI_OK);
}

struct version_options {
    bool json;
};

const cli_option version_options[] = {
    OPT_FLAG(struct version_options, json, "json", NULL, "print JSON"),
    {0},
};
const cli_example version_examples[] = {{"mote version --json", "for scripts"}, {0}};

int cmd_version(const cli_command *self, int argc, char **argv) {
    struct version_options o = {0};
    cli_args args;
    int code;
    if (!cli_parse(self, &o, &args, 0, argc, argv, &code)) return code;
    char cpu[128];
    if (o.json)
        return cli_print_json(json_pack("{s:s, s:s, s:s}", "version", mote_version(), "isa", mote_cpu_isa(), "cpu",
                                        mote_cpu_name(cpu, sizeof cpu)));
    (void)printf("mote %s\n%s on %s\n", mote_version(), mote_cpu_isa(), mote_cpu_name(cpu, sizeof cpu));
    return cli_done(CLI_OK);
}
