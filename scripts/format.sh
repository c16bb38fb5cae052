#!/usr/bin/env bash
# Usage: scripts/format.sh [--check]
#
# Formats the C files as .clang-format says. With --check nothing is changed: exit status 1 names the files that differ.
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

version=14 # the versions of clang-format differ in what they make of the same rules
formatter=
for candidate in clang-format-$version clang-format; do
    if have "$candidate" && [[ $("$candidate" --version) =~ version\ $version\. ]]; then
        formatter=$candidate
        break
    fi
done

case ${1:-} in
    --check) options=(--dry-run --Werror) ;;
    '') options=(-i) ;;
    -h | --help) usage; exit ;;
    *) die "unknown option $1; --help lists them" ;;
esac

if [ -z "$formatter" ]; then
    [ "${1:-}" = --check ] || die "clang-format $version is needed; install it by hand"
    say "skipped: the format is that of clang-format $version, which is not installed"
    exit 0
fi

mapfile -t files < <(git ls-files -- '*.c' '*.h')
[ ${#files[@]} -gt 0 ] || exit 0
"$formatter" --style=file "${options[@]}" -- "${files[@]}"
