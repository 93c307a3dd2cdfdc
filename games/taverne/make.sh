#!/bin/sh
# make.sh <version> <dir>: builds the complete development tree of one version of Taverne.
#   <dir>/source/   the game, all of it         <dir>/SQL/   the scripts that lead from the version before
#   <dir>/changes/  the change fragments
# A version is its base (file `base`) + renamed.txt + deleted.txt + folders.txt + overlay/. v1.0 is whole.
set -eu
here=$(cd "$(dirname "$0")" && pwd)

die() { echo "make.sh: $*" >&2; exit 1; }

build() { # build <version> <source dir>
    from="$here/v$1"
    [ -d "$from" ] || die "there is no version $1; there are: $(cd "$here" && echo v*)"
    if [ -d "$from/source" ]; then
        cp -R "$from/source/." "$2/"
    else
        (build "$(cat "$from/base")" "$2")
        [ ! -f "$from/renamed.txt" ] || while IFS='	' read -r old new; do
            mkdir -p "$2/$(dirname "$new")"
            mv "$2/$old" "$2/$new"
        done <"$from/renamed.txt"
        [ ! -f "$from/deleted.txt" ] || while IFS= read -r gone; do
            [ -e "$2/$gone" ] || die "$from/deleted.txt names $gone, which is not there"
            rm -r "${2:?}/$gone"
        done <"$from/deleted.txt"
        cp -R "$from/overlay/." "$2/"
    fi
    # git keeps no empty folders
    [ ! -f "$from/folders.txt" ] || while IFS= read -r folder; do mkdir -p "$2/$folder"; done <"$from/folders.txt"
}

[ $# -eq 2 ] || die "usage: make.sh <version> <dir>, such as: make.sh 1.1 /tmp/taverne-1.1"
version=${1#v}
[ ! -e "$2" ] || [ -z "$(ls -A "$2")" ] || die "$2 is not empty"
mkdir -p "$2/source" "$2/SQL" "$2/changes"
out=$(cd "$2" && pwd)
build "$version" "$out/source"
cp -R "$here/v$version/SQL/." "$out/SQL/"
[ ! -d "$here/v$version/changes" ] || cp -R "$here/v$version/changes/." "$out/changes/"
