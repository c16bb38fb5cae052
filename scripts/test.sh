#!/usr/bin/env bash
# Usage: scripts/test.sh [-k REGEX] [--all | --asan | --tsan | --clang | --valgrind | --drivers]
#
# Installs what is missing, builds, and runs the tests; run again, it does only what has changed.
#   -k REGEX     only the tests whose name matches, building only what they need
#   --clang      build with clang instead, and run the tests
#   --asan       with address and undefined-behaviour sanitizers, on the CPU device alone
#   --tsan       with the thread sanitizer, on the CPU device alone
#   --valgrind   a short training on the CPU device under Valgrind
#   --drivers    what drivers are told, in full: every kernel in every dtype in Oclgrind and under Vulkan's validation layer,
#                and all tests on Vulkan under that layer; half an hour or more (docs/checking.md)
#   --all        format check, clang build, fuzzers, sanitizers, Valgrind, then all tests; what CI does (CI=true)
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

pattern=
mode=
while [ $# -gt 0 ]; do
    case $1 in
        -k) [ $# -gt 1 ] || die "-k needs a regular expression"; pattern=$2; shift ;;
        --all | --asan | --tsan | --clang | --valgrind | --drivers) mode=${1#--} ;;
        -h | --help) usage; exit ;;
        *) die "unknown option $1; --help lists them" ;;
    esac
    shift
done
if [ -z "$mode" ]; then
    if [ "${CI:-}" = true ] && [ -z "$pattern" ]; then mode=all; else mode=release; fi
fi

# run_ctest FOLDER: tests that share a machine's cores with nobody are marked so where they are defined.
run_ctest() {
    ctest --test-dir "build/$1" --output-on-failure --no-tests=error -j "$jobs" ${pattern:+-R "$pattern"} "${@:2}"
}

# With -k, the programs of the tests that match; a test that is no program of its own needs everything.
build_for_tests() {
    local targets=() name
    if [ -n "$pattern" ]; then
        while read -r name; do
            if [ ! -e "tests/test_$name.c" ]; then targets=(); break; fi
            targets+=("test_$name")
        done < <(ctest --test-dir "build/$1" -N -R "$pattern" | sed -n 's/^ *Test *#[0-9]*: //p')
    fi
    build "$1" "${targets[@]}"
}

release() { configure release release && build_for_tests release && run_ctest release; }

# One instruction set shows clang's warnings; the others are the same text.
clang_options=(-DCMAKE_C_COMPILER=clang -DCMAKE_CXX_COMPILER=clang++ -DTESSERA_ALL_ISAS=OFF)
clang() { configure clang release "${clang_options[@]}" && build_for_tests clang && run_ctest clang; }
clang_build() { configure clang release "${clang_options[@]}" && build clang; }

# Each parser of strangers' files, for some seconds.
fuzzers() {
    if ! echo 'int LLVMFuzzerTestOneInput(const char *p, unsigned long n) { return p == 0 && n > 0; }' |
        command clang -x c -fsanitize=fuzzer,address,undefined - -o build/fuzzer-probe 2>/dev/null; then
        say "skipped: the fuzzers, since clang's runtime (libclang-rt) is not installed"
        return 0
    fi
    local targets=(tests/fuzz/fuzz_*.c)
    targets=("${targets[@]##*/}")
    targets=("${targets[@]%.c}")
    configure fuzz release "${clang_options[@]}" -DTESSERA_FUZZ=ON && build fuzz "${targets[@]}" &&
        ctest --test-dir build/fuzz --output-on-failure --no-tests=error -j "$jobs" -R '^fuzz_'
}

# In a process of its own, since it hides the drivers: theirs are not the leaks and races to be found.
sanitized() (
    hide_drivers
    configure "$1" "$1" && build_for_tests "$1" &&
        run_ctest "$1" -E '^kernel_compile$' # which runs other projects' compilers for minutes
)

# first_items NAME COUNT SIZE HEADER: the first COUNT items, of SIZE bytes, of an MNIST file with a header of HEADER bytes.
first_items() {
    local file=data/mnist/$1.gz count=$2 size=$3 header=$4
    printf '%b' "\\0000\\0000\\0010\\0$(printf %o $((header / 4 - 1)))\\0000\\0000\\0000\\0$(printf %o "$count")"
    { gzip -dc "$file" 2>/dev/null || true; } | head -c $((header + count * size)) | tail -c +9
}

# Valgrind would spend minutes on unpacking MNIST, so it gets 64 images of each half.
small_mnist() {
    local part
    mkdir -p "$1"
    for part in train t10k; do
        first_items $part-images-idx3-ubyte 64 784 16 >"$1/$part-images-idx3-ubyte"
        first_items $part-labels-idx1-ubyte 64 1 8 >"$1/$part-labels-idx1-ubyte"
    done
}

valgrind_training() (
    hide_drivers
    export OPENBLAS_NUM_THREADS=1
    small_mnist build/small-mnist
    configure release release && build release tessera_command || exit 1
    for model in mlp cnn; do
        valgrind --quiet --error-exitcode=9 --leak-check=full --show-leak-kinds=definite --errors-for-leak-kinds=definite \
            --suppressions=tests/valgrind.supp build/release/bin/tessera train mnist --data build/small-mnist \
            --device cpu --model $model --batch 8 --steps 3 </dev/null || exit 1
    done
)

# test_vulkan_device is left out since it uses the layer by itself, and does on purpose what ends the others.
drivers() (
    failed=0
    configure release release && build release || exit 1
    for watcher in simulated validated; do
        say "every kernel, $watcher"
        sh tests/every_kernel/$watcher.sh build/release/bin/test_every_kernel || [ $? -eq 77 ] || failed=1
    done
    say "all tests on Vulkan, validated"
    export TEST_DEVICES=vulkan:0 VK_LAYER_SETTINGS_PATH=$root/tests/every_kernel
    export VK_LOADER_LAYERS_ENABLE=VK_LAYER_KHRONOS_validation
    run_ctest release -E '^(vulkan_device|kernel_compile|every_kernel_.*|.*cuda.*|opencl_.*|fuzz_.*)$' || failed=1
    exit $failed
)

# The tests come last: what CI reads is their summary.
all() {
    local failed=0 phase
    for phase in "scripts/format.sh --check" clang_build fuzzers "sanitized asan" valgrind_training release; do
        say "$phase"
        $phase || { say "FAILED: $phase"; failed=1; }
    done
    return $failed
}

scripts/setup.sh --tests
use_caches
use_drivers

case $mode in
    asan | tsan) sanitized "$mode" ;;
    valgrind) valgrind_training ;;
    *) "$mode" ;;
esac
