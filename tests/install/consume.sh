#!/bin/sh
# consume.sh WAY BUILD SOURCE CC: installs BUILD into a temporary folder, moves it (an installed tree may be moved),
# builds consumer.c against it in the given way, and runs it. The whole source is built for add_subdirectory, so plainly.
set -eu
way=$1 build=$2 source=$3 cc=$4
here=$(cd "$(dirname "$0")" && pwd)
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
cmake --install "$build" --prefix "$tmp/first" >"$tmp/log" 2>&1 || { cat "$tmp/log"; exit 1; }
mv "$tmp/first" "$tmp/prefix"
lib=$(dirname "$(find "$tmp/prefix" -name libmote.a)")
export PKG_CONFIG_PATH="$lib/pkgconfig"

cmake_project() { # LINES
    mkdir -p "$tmp/project"
    cp "$here/consumer.c" "$tmp/project"
    printf 'cmake_minimum_required(VERSION 3.25)\nproject(consumer LANGUAGES C)\n%s\n' "$1" >"$tmp/project/CMakeLists.txt"
    for target in shared:mote::mote static:mote::mote_static; do
        printf 'add_executable(%s consumer.c)\ntarget_link_libraries(%s PRIVATE %s)\n' \
            "with_${target%%:*}" "with_${target%%:*}" "${target#*:}" >>"$tmp/project/CMakeLists.txt"
    done
    { cmake -G Ninja -S "$tmp/project" -B "$tmp/project/build" -DCMAKE_C_COMPILER="$cc" -DCMAKE_PREFIX_PATH="$tmp/prefix" \
        -DCMAKE_BUILD_TYPE=Debug -DMOTE_SIMD=OFF &&
        cmake --build "$tmp/project/build" --target with_shared with_static; } >"$tmp/log" 2>&1 || { cat "$tmp/log"; exit 1; }
    "$tmp/project/build/with_shared"
    "$tmp/project/build/with_static"
}

case $way in
    pkgconfig-shared)
        $cc -std=c17 -Wall -Werror "$here/consumer.c" -o "$tmp/a" $(pkg-config --cflags --libs mote) -Wl,-rpath,"$lib"
        "$tmp/a"
        ;;
    pkgconfig-static)
        $cc -std=c17 -Wall -Werror "$here/consumer.c" -o "$tmp/a" $(pkg-config --cflags mote) "$lib/libmote.a" \
            $(pkg-config --static --libs-only-l mote | sed 's/-lmote//')
        "$tmp/a"
        ;;
    find_package) cmake_project 'find_package(mote 0.1 REQUIRED)' ;;
    add_subdirectory) cmake_project "add_subdirectory(\"$source\" mote)" ;;
    *) echo "unknown way $way"; exit 2 ;;
esac
