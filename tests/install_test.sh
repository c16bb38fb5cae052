#!/usr/bin/env bash
# Usage: tests/install_test.sh BUILD_FOLDER
#
# Installs a build into a folder of its own, moves that folder, and uses it as a stranger's C and C++ programs would:
# through the CMake package and through pkg-config. Checks what the library exports and what it is linked to.
set -euo pipefail

build=$(cd "$1" && pwd)
consumer=$(cd "$(dirname "$0")/consumer" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0
if command -v ninja >/dev/null; then export CMAKE_GENERATOR=Ninja; fi # there may be no make

wrong() { echo "FAILED: $*"; failed=1; }

cmake --install "$build" --prefix "$work/first" >"$work/log" || { cat "$work/log"; exit 1; }
prefix=$work/moved
mv "$work/first" "$prefix"
library=$(find "$prefix" -name libtessera.so)
libdir=$(dirname "$library")
version=$(PKG_CONFIG_PATH=$libdir/pkgconfig pkg-config --modversion tessera)

echo "-- versioned shared library"
for name in libtessera.so "libtessera.so.$version"; do
    [ -e "$libdir/$name" ] || wrong "$name is not in $libdir"
done
soname=$(objdump -p "$library" | sed -n 's/^ *SONAME *//p')
[ -L "$libdir/$soname" ] || wrong "the soname $soname is no link in $libdir"

echo "-- exports: every function that the headers declare, and nothing else"
nm -D --defined-only "$library" | sed 's/.* //; s/@.*//' | sort >"$work/exported"
cat "$prefix"/include/tessera/*.h | tr '\n' ' ' | grep -oE 'TSR_API [^(;]*' | grep -oE 'tsr_[a-z0-9_]+ *$' | tr -d ' ' |
    sort -u >"$work/declared"
[ -s "$work/declared" ] || wrong "no declaration was found in the headers"
others=$(grep -v '^tsr_' "$work/exported" || true)
[ -z "$others" ] || wrong "exported without the prefix tsr_:" "$others"
missing=$(comm -23 "$work/declared" "$work/exported")
[ -z "$missing" ] || wrong "declared but not exported:" "$missing"
undeclared=$(grep '^tsr_' "$work/exported" | comm -13 "$work/declared" -)
[ -z "$undeclared" ] || wrong "exported but not declared:" "$undeclared"

echo "-- no driver is linked"
gpu_libraries='OpenCL|vulkan|cuda|nvrtc|cublas|nccl|openblas|libGL'
for file in "$library" "$prefix/bin/tessera"; do
    [ -e "$file" ] || { wrong "$file is not installed"; continue; }
    if ldd "$file" | grep -E "$gpu_libraries"; then wrong "${file##*/} needs a driver's library"; fi
done

echo "-- every header stands alone, in C11 and in C++17"
for header in "$prefix"/include/tessera/*.h; do
    name=tessera/${header##*/}
    for language in "c cc c11" "c++ c++ c++17"; do
        read -r kind compiler standard <<<"$language"
        echo "#include <$name>" | "$compiler" -x "$kind" -std="$standard" -Wall -Wextra -Wpedantic -Werror -fsyntax-only \
            -I "$prefix/include" - || wrong "$name does not compile alone as $standard"
    done
done

# uses PROGRAM: it runs and prints the version.
uses() {
    local printed
    printed=$(LD_LIBRARY_PATH=$libdir "$1") || { wrong "${1#"$work"/} does not run"; return; }
    [ "$printed" = "$version" ] || wrong "${1#"$work"/} printed $printed, not the version $version"
}

echo "-- CMake package"
if cmake -S "$consumer" -B "$work/cmake" -DCMAKE_PREFIX_PATH="$prefix" >"$work/log" 2>&1 &&
    cmake --build "$work/cmake" >"$work/log" 2>&1; then
    uses "$work/cmake/consumer_c"
    uses "$work/cmake/consumer_cpp"
else
    cat "$work/log"
    wrong "a project that uses find_package(tessera) does not build"
fi

echo "-- pkg-config"
mkdir "$work/pkg-config"
read -ra flags < <(PKG_CONFIG_PATH=$libdir/pkgconfig pkg-config --cflags --libs tessera)
if cc -std=c11 -Wall -Wextra -Wpedantic -Werror "$consumer/main.c" "${flags[@]}" -o "$work/pkg-config/consumer_c" &&
    c++ -std=c++17 -Wall -Wextra -Wpedantic -Werror "$consumer/main.cpp" "${flags[@]}" -o "$work/pkg-config/consumer_cpp"; then
    uses "$work/pkg-config/consumer_c"
    uses "$work/pkg-config/consumer_cpp"
else
    wrong "programs that use pkg-config do not build"
fi

echo "-- the installed command and its data"
[ -e "$prefix/share/tessera/data/mnist/train-images-idx3-ubyte.gz" ] || wrong "the MNIST files are not installed"
"$prefix/bin/tessera" devices >"$work/log" 2>&1 || { cat "$work/log"; wrong "tessera devices failed"; }

[ $failed -eq 0 ] && echo "all as it should be"
exit $failed
