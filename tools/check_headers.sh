#!/bin/sh
# check_headers.sh CC ROOT: each header compiles alone (parts of templates do not: they need an ISA's), and each public one also
# as C++.
set -u
cc=$1 root=$2 bad=0
cd "$root" || exit 1
warn="-Wall -Wextra -Werror -Wno-unused-function -Wno-unused-const-variable"
jobs=$(getconf _NPROCESSORS_ONLN)
alone() { # LANGUAGE FLAGS... reads header names
    xargs -P "$jobs" -I{} sh -c '"$@" -fsyntax-only -include "{}" /dev/null || { echo "{}: does not compile alone"; exit 1; }' sh "$@"
}
x86="-mavx2 -mfma -mf16c -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni -mavx512bf16"
find include src -name '*.h' ! -name '*_tmpl.h' ! -name v16_math.h ! -path 'src/kernel/x86/*' ! -path 'src/kernel/arm/*' ! -path 'src/cli/*' |
    alone "$cc" -x c -std=c17 -D_GNU_SOURCE $warn -Iinclude -Isrc || bad=1
find src/cli -name '*.h' | alone "$cc" -x c -std=c17 -D_GNU_SOURCE $warn -Iinclude || bad=1
find include -name '*.h' | alone "$cc" -x c -std=c99 -pedantic $warn -Iinclude || bad=1
case $(uname -m) in
    x86_64) [ ! -d src/kernel/x86 ] || find src/kernel/x86 -name '*.h' ! -name '*_tmpl.h' |
        alone "$cc" -x c -std=c17 -D_GNU_SOURCE $x86 $warn -Iinclude -Isrc || bad=1 ;;
esac
if [ -d src/kernel/arm ] && command -v aarch64-linux-gnu-gcc >/dev/null; then
    find src/kernel/arm -name '*.h' ! -name '*_tmpl.h' |
        alone aarch64-linux-gnu-gcc -x c -std=c17 -D_GNU_SOURCE -march=armv8.2-a+dotprod+i8mm $warn -Iinclude -Isrc || bad=1
fi
if command -v c++ >/dev/null; then
    find include -name '*.h' | alone c++ -x c++ -std=c++17 $warn -Iinclude || bad=1
fi
[ $bad = 0 ] && echo "every header compiles alone"
exit $bad
