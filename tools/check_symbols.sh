#!/bin/sh
# check_symbols.sh LIBMOTE.so LIBMOTE.a: both show nothing but mote_*, and the library calls nothing that a library
# must not: it never ends the process, prints, or reads the environment.
set -eu
bad=0
report() {
    [ -z "$2" ] && return 0
    printf '%s:\n%s\n' "$1" "$2"
    bad=1
}
visible=$(nm -D --defined-only "$1" | awk '$2 != "w" { print $3 }' | grep -v '^mote_' || true)
report "$1 shows" "$visible"
visible=$(nm -g --defined-only "$2" | awk 'NF == 3 { print $3 }' | grep -v '^mote_' || true)
report "$2 shows" "$visible"
calls=$(nm -u "$2" | awk '{ print $NF }' | grep -xE '_?exit|quick_exit|abort|printf|vprintf|puts|putchar|perror|stdout|stderr|(secure_)?getenv|setenv|rand|srand|strtok|sprintf|vsprintf|strcpy|strcat|gets|system|popen|signal|sigaction|setlocale|fork' || true)
report "$2 calls" "$calls"
[ $bad = 0 ] && echo "only mote_* is visible: $(nm -D --defined-only "$1" | grep -c ' mote_') functions"
exit $bad
