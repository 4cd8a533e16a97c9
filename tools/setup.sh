# setup.sh: sourced by ./run and ./test. Needs $root, the source folder.
#   setup_packages run|test   installs what is missing (apt-get as root or through sudo), or says what is missing
#   setup_build PRESET        configures once, then builds what changed; prints the log when it fails

say() { printf 'mote: %s\n' "$*" >&2; }

setup_packages() {
    wanted=$(awk -v all="$1" '$1 == "run" || (all == "test" && $1 == "test") { print $2 }' "$root/tools/packages.txt")
    if ! command -v dpkg-query >/dev/null 2>&1; then
        for tool in cc cmake ninja pkg-config python3; do
            command -v $tool >/dev/null 2>&1 || {
                say "'$tool' is missing. This is no Debian system: install what corresponds to"
                say "$(echo $wanted)"
                exit 4
            }
        done
        return 0
    fi
    missing=$(dpkg-query -W -f='${Package} ${db:Status-Status}\n' $wanted 2>/dev/null |
        awk -v wanted="$(echo $wanted)" '$2 == "installed" { have[$1] = 1 }
            END { n = split(wanted, w, " "); for (i = 1; i <= n; i++) if (!have[w[i]]) printf "%s ", w[i] }')
    [ -z "$missing" ] && return 0
    if [ "$(id -u)" = 0 ]; then as_root=; elif command -v sudo >/dev/null 2>&1; then as_root=sudo; else
        say "these packages are missing, and installing them needs root: $missing"
        exit 4
    fi
    say "installing $missing"
    { $as_root apt-get update -qq && DEBIAN_FRONTEND=noninteractive $as_root apt-get install -y -qq --no-install-recommends $missing; } >&2 || {
        say "installing failed; install these packages by hand: $missing"
        exit 4
    }
}

setup_build() {
    preset=$1 dir=$root/build/$1
    mkdir -p "$dir"
    if command -v ccache >/dev/null 2>&1; then
        CMAKE_C_COMPILER_LAUNCHER=${CMAKE_C_COMPILER_LAUNCHER:-ccache}
        export CMAKE_C_COMPILER_LAUNCHER
    fi
    if [ ! -f "$dir/build.ninja" ]; then
        say "configuring $preset"
        (cd "$root" && cmake --preset "$preset") >"$dir/build.log" 2>&1 || {
            cat "$dir/build.log" >&2
            rm -f "$dir/CMakeCache.txt"
            say "configuring $preset failed"
            exit 4
        }
    fi
    case $(ninja -C "$dir" -n 2>/dev/null) in
        *Building* | *Linking* | *Re-running*) say "building $preset" ;;
    esac
    ninja -C "$dir" >"$dir/build.log" 2>&1 || {
        grep -v '^\[[0-9]*/[0-9]*\]' "$dir/build.log" >&2
        say "building $preset failed; the whole log is in ${dir#"$root"/}/build.log"
        exit 4
    }
}
