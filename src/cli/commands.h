/* commands.h: what each row of commands.def refers to. */
#ifndef MOTE_CLI_COMMANDS_H
#define MOTE_CLI_COMMANDS_H

#include "cli.h"

#define COMMAND(name, group, arguments, summary, about)                                                       \
    extern const cli_option name##_options[];                                                                 \
    extern const cli_example name##_examples[];                                                               \
    int cmd_##name(const cli_command *self, int argc, char **argv);
#include "commands.def"
#undef COMMAND

#endif
