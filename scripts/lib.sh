# shellcheck shell=bash
# Shared by the scripts beside it; sourced, never run. Leaves the caller at the root of the source tree.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
root=$PWD

say() { printf '== %s\n' "$*" >&2; }
die() { printf '%s: %s\n' "${0##*/}" "$*" >&2; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

# The comment at the top of the calling script is its help text.
usage() { sed -n '2,${ /^#/!q; /^# shellcheck/q; s/^# \{0,1\}//p; }' "$0"; }

jobs=$(nproc 2>/dev/null || echo 2)

# Every cache of a driver or of Tessera itself stays under build/, so that a second run is fast and HOME stays untouched.
use_caches() {
    local cache=$root/build/cache
    export TESSERA_CACHE_DIR=$cache/tessera POCL_CACHE_DIR=$cache/pocl
    export MESA_SHADER_CACHE_DIR=$cache/mesa CUDA_CACHE_PATH=$cache/cuda
    mkdir -p "$TESSERA_CACHE_DIR" "$POCL_CACHE_DIR" "$MESA_SHADER_CACHE_DIR" "$CUDA_CACHE_PATH"
}

# A newer lavapipe than the distribution's, where drivers.sh has one. What the caller has chosen already wins.
use_drivers() {
    local files
    export POCL_AFFINITY=1   # else Linux may leave PoCL's threads on one processor, at half the speed
    export NODEVICE_SELECT=1 # Mesa's device-select layer looks for a display; there is nothing to show here
    [ -z "${VK_DRIVER_FILES:-}${VK_ICD_FILENAMES:-}" ] || return 0
    files=$(scripts/drivers.sh)
    if [ -n "$files" ]; then export VK_DRIVER_FILES=$files; fi
}

# Programs started after this see no OpenCL and no Vulkan driver.
hide_drivers() {
    mkdir -p "$root/build/no-drivers"
    export OCL_ICD_VENDORS=$root/build/no-drivers VK_DRIVER_FILES=/dev/null VK_ICD_FILENAMES=/dev/null
}

# configure FOLDER PRESET [cmake option]...: into build/FOLDER, with Makefiles where ninja is absent.
configure() {
    local folder=$1 preset=$2 generator=()
    shift 2
    have ninja || generator=(-G "Unix Makefiles")
    mkdir -p build
    cmake --preset "$preset" -B "build/$folder" "${generator[@]}" "$@" >"build/$folder.log" 2>&1 ||
        { cat "build/$folder.log" >&2; return 1; }
}

# build FOLDER [target]...
build() {
    local folder=$1
    shift
    cmake --build "build/$folder" --parallel "$jobs" ${1:+--target "$@"}
}
