#!/bin/sh
# check_docs.sh MOTE ROOT GENERATED: docs/cli.md is what the program prints, the man page and the completions parse.
set -u
mote=$1 root=$2 generated=$3 bad=0
"$mote" help --markdown | diff -u "$root/docs/cli.md" - || {
    echo "docs/cli.md is not current: mote help --markdown > docs/cli.md"
    bad=1
}
said=$(LC_ALL=C.UTF-8 MANROFFSEQ='' man --warnings -E UTF-8 -l "$generated/mote.1" 2>&1 >/dev/null)
[ -z "$said" ] || { echo "man page: $said"; bad=1; }
for shell in bash zsh fish; do
    command -v $shell >/dev/null || { echo "$shell is not installed: its completion is not checked"; continue; }
    $shell -n "$generated/mote.$shell" || bad=1
done
# Every relative link of a document leads to a file.
for doc in $(cd "$root" && find . -name '*.md' ! -path './build/*'); do
    for link in $(grep -o ']([^)#:]*)' "$root/$doc" | sed 's/^](//; s/)$//'); do
        [ -e "$root/$(dirname "$doc")/$link" ] || { echo "$doc: dead link $link"; bad=1; }
    done
done
exit $bad
