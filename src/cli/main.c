/* main.c: finds the command and runs it. Also installs the two signal handlers that only a program may. */
#include "cli.h"
#include "commands.h"
#include "mote/guard.h"

#include <locale.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

const cli_command cli_commands[] = {
#define COMMAND(name, group, arguments, summary, about)                                                       \
    {#name, group, arguments, summary, about, name##_options, name##_examples, cmd_##name},
#include "commands.def"
#undef COMMAND
};
const size_t cli_n_commands = sizeof cli_commands / sizeof cli_commands[0];

const cli_command *cli_find(const char *name) {
    for (size_t i = 0; i < cli_n_commands; i++)
        if (strcmp(cli_commands[i].name, name) == 0) return &cli_commands[i];
    return NULL;
}

/* A model file that shrinks under a mapping raises SIGBUS when its lost pages are read, often in several threads at
 * once: the first says what happened and leaves, the others wait for that. Any other SIGBUS takes its usual course. */
static void on_sigbus(int sig, siginfo_t *info, void *context) {
    (void)context;
    if (mote_guard_contains(info->si_addr)) {
        static atomic_flag told = ATOMIC_FLAG_INIT;
        while (atomic_flag_test_and_set(&told)) (void)pause();
        static const char text[] = "\nmote: the model file was truncated while in use\n";
        ssize_t written = write(STDERR_FILENO, text, sizeof text - 1);
        (void)written;
        _exit(CLI_IO);
    }
    (void)signal(sig, SIG_DFL);
    (void)raise(sig);
}

static void install_handlers(void) {
    struct sigaction bus = {.sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO};
    (void)sigemptyset(&bus.sa_mask);
    (void)sigaction(SIGBUS, &bus, NULL);
    (void)signal(SIGPIPE, SIG_IGN); /* a reader that leaves (| head) shows as a failed write: see cli_done */
}

static const char *command_name(const void *ctx, size_t i) { return ((const cli_command *)ctx)[i].name; }

int main(int argc, char **argv) {
    install_handlers();
    (void)setlocale(LC_CTYPE, ""); /* for editing UTF-8; numbers stay as in C */
    if (argc < 2 || strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
        cli_print_help(argc < 2 ? stderr : stdout, NULL);
        return argc < 2 ? CLI_USAGE : cli_done(CLI_OK);
    }
    const char *name = strcmp(argv[1], "--version") == 0 ? "version" : argv[1];
    const cli_command *c = cli_find(name);
    if (c) return c->main(c, argc - 2, argv + 2);
    const char *near = cli_closest(name, command_name, cli_commands, cli_n_commands);
    cli_say(near ? "there is no command '%s'; did you mean '%s'?" : "there is no command '%s'", name, near);
    (void)fputs("Try 'mote --help'.\n", stderr);
    return CLI_USAGE;
}
